// Elements by plain functions. Names of files and classes may hold anything: they only ever become text.

/** Return an element: `make("button", {class: "small", onclick}, "Text", child)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Return a user's text as an element of its own direction, so that right-to-left names change nothing around them. */
export const said = (text) => make("bdi", {}, text);

export const byId = (id) => document.getElementById(id);

/** Tell screen readers, and show in the status line, what has happened. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Let the user keep a file. */
export function download(name, text, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const counted = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : /[sx]$/.test(word) ? "es" : "s"}`;
