// Small charts in SVG. Each stretches over its box; words stand beside it, where they are not stretched.

import { svg } from "./dom.js";

const HEIGHT = 100;

// Bars on top of each other: `parts` are [class, value of an item], from the bottom up.
export function bars(items, parts, label, tell) {
  const most = Math.max(1, ...items.map((item) => parts.reduce((sum, [, value]) => sum + value(item), 0)));
  const columns = items.map((item, index) => {
    let below = 0;
    const pieces = parts.map(([name, value]) => {
      const height = (value(item) / most) * HEIGHT;
      below += height;
      return height && svg("rect", { class: name, x: index + 0.1, width: 0.8, y: HEIGHT - below, height });
    });
    const hit = svg("rect", { class: "hit", x: index, width: 1, y: 0, height: HEIGHT });
    return svg("g", {}, svg("title", { text: tell(item) }), hit, pieces.filter(Boolean));
  });
  return frame(items.length, label, columns);
}

// A line through what is known; where nothing is, it has a gap.
export function line(values, label) {
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const y = HEIGHT - (value / most) * (HEIGHT - 4) - 2;
    path += `${pen}${index + 0.1} ${y.toFixed(1)}H${index + 0.9}`; // a minute alone is a dash, not a dot that nobody sees
    pen = "L";
  });
  return frame(values.length, label, [svg("path", { class: "line", d: path || "M0 0", "vector-effect": "non-scaling-stroke" })]);
}

function frame(width, label, children) {
  const box = `0 0 ${Math.max(1, width)} ${HEIGHT}`;
  return svg("svg", { viewBox: box, preserveAspectRatio: "none", role: "img", "aria-label": label }, children);
}
