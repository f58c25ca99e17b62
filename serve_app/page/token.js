// The token that a closed server asks for: typed once, kept for this tab alone, sent with every request of the page.

import { el, setText } from "./dom.js";

const KEY = "keras-solo-token";
let form = null;

/** Returns the headers that offer the token, none where there is none. */
export function authorization() {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Asks for a token, below the bar: a request was refused for want of one, or for a wrong one. */
export function askForToken() {
  const text = sessionStorage.getItem(KEY) ? "The server does not accept this token for all that is shown here." : "This server asks for a token.";
  form ??= makeForm();
  setText(form.said, text);
  if (!form.node.isConnected) document.querySelector("main").prepend(form.node);
}

function makeForm() {
  const field = el("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true });
  const said = el("p", { role: "status" });
  const node = el("form", { class: "panel token", onsubmit: (event) => take(event, field) },
    said, el("label", { for: "token", text: "Token" }), field, el("button", { class: "primary", text: "Use it" }),
    el("p", { class: "quiet", text: "Kept for this tab only, until it is closed." }));
  return { node, said };
}

function take(event, field) {
  event.preventDefault();
  sessionStorage.setItem(KEY, field.value.trim());
  // Everything on the page was asked without it: begin again.
  location.reload();
}
