"use strict";

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
