// Elements without a framework. Text is always set as text, never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Returns an element; `on…` attributes are listeners, `text` its text, null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets an element's text where it changes: a screen reader announces every write to a live region. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Returns a panel with a heading; `extra` stands beside the heading. */
export function panel(title, body, extra = null) {
  const id = `panel-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const head = el("div", { class: "panel-head" }, el("h3", { id, text: title }), extra);
  return el("section", { class: `panel ${id}`, "aria-labelledby": id }, head, body);
}

/**
 * Returns a tab list over `tabs`, an array of {name, content}. `content()` is called when its tab is first shown.
 * Keys as in the ARIA practices: arrows, Home and End move and choose.
 */
export function tabbed(label, tabs) {
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": label });
  const shown = el("div", { class: "tab-panels" });
  const prefix = `tab-${++tabSets}`;
  const buttons = tabs.map((tab, i) =>
    el("button", {
      type: "button", role: "tab", id: `${prefix}-${i}`, "aria-controls": `${prefix}-${i}-panel`,
      text: tab.name, onclick: () => choose(i),
    }),
  );
  const panels = tabs.map((_, i) =>
    el("div", { role: "tabpanel", id: `${prefix}-${i}-panel`, "aria-labelledby": `${prefix}-${i}`, hidden: true }),
  );
  const choose = (chosen) => {
    if (!panels[chosen].hasChildNodes()) panels[chosen].append(tabs[chosen].content());
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === chosen));
      button.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    });
    tabs[chosen].onshow?.();
  };
  list.addEventListener("keydown", (event) => {
    const now = buttons.indexOf(document.activeElement);
    const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (now < 0 || next === undefined) return;
    event.preventDefault();
    const wrapped = (next + buttons.length) % buttons.length;
    choose(wrapped);
    buttons[wrapped].focus();
  });
  list.append(...buttons);
  shown.append(...panels);
  choose(0);
  return el("div", {}, tabs.length > 1 ? list : null, shown);
}

let tabSets = 0;
