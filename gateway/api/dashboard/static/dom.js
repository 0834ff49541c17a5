// Elements without markup in strings: whatever a provider or a client wrote lands in a text node.

const SVG = "http://www.w3.org/2000/svg";

// `text` becomes text, `on…` listeners, `hidden` and other booleans attributes without a value; null and false are left out.
function build(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function el(name, properties, ...children) {
  return build(document.createElement(name), properties, children);
}

export function svg(name, properties, ...children) {
  return build(document.createElementNS(SVG, name), properties, children);
}

// Replace what an element shows, unless it shows just that: what is selected or focused in it stays.
export function show(parent, ...children) {
  const fresh = parent.cloneNode(false);
  fresh.append(...children.flat().filter(Boolean));
  if (!fresh.isEqualNode(parent)) parent.replaceChildren(...fresh.childNodes);
}

export const byId = (id) => document.getElementById(id);
