import re

import pytest

from gateway.api.dashboard import PAGE
from gateway.api.pages import POLICY


def test_the_page_needs_no_key_and_loads_nothing_from_elsewhere(application):
    answer = application.client.get("/dashboard")
    assert answer.status_code == 200 and answer.mimetype == "text/html"
    assert answer.headers["Content-Security-Policy"] == POLICY and "unsafe" not in POLICY
    links = re.findall(r'(?:src|href)="([^"#]+)"', PAGE)
    assert links and all(link.startswith("/") or link == "data:," for link in links)
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", PAGE)  # the policy would refuse them


@pytest.mark.parametrize("name", ["main.js", "sections.js", "style.css"])
def test_its_script_and_style_are_served_beside_it(application, name):
    with application.client.get(f"/dashboard/static/{name}") as answer:
        assert answer.status_code == 200 and answer.mimetype in ("text/javascript", "text/css")
