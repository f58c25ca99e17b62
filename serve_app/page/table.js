// All models in one table; on a phone every row is a card. Many models scroll in their own box, and can be looked up.

import { el, setText } from "./dom.js";
import { count, factor, ms, shape } from "./numbers.js";

const COLUMNS = ["Model", "State", "Device", "Precision", "Inputs", "Outputs", "One prediction", "vs model.predict", "Replicas", "Now"];

const MANY = 12;

/** Returns {node, show, live}: rows are the overview's; `details(name)` gives what is known of a ready model. */
export function modelTable() {
  const body = el("tbody");
  const rows = new Map();
  const table = el("table", { class: "models", "aria-labelledby": "models-title" },
    el("thead", {}, el("tr", {}, COLUMNS.map((title) => el("th", { scope: "col", text: title })))), body);
  const none = el("p", { class: "quiet", role: "status" });
  const wanted = el("input", { type: "search", class: "wanted", "aria-label": "Show models whose name contains",
    placeholder: "name contains …", oninput: () => narrow() });
  const box = el("div", { class: "scroller" }, table);
  const node = el("div", {}, wanted, box, none);
  let shown = null;
  const narrow = () => {
    const text = wanted.hidden ? "" : wanted.value.trim().toLowerCase();
    for (const [name, row] of rows) row.node.hidden = !name.toLowerCase().includes(text);
    const found = [...rows.values()].filter((row) => !row.node.hidden).length;
    setText(none, found || !rows.size ? "" : `No model's name contains “${wanted.value.trim()}”.`);
  };
  /** Scrolls the box, not the page, to a row that is out of sight. */
  const reveal = (row) => {
    const [place, frame] = [row.getBoundingClientRect(), box.getBoundingClientRect()];
    if (place.top < frame.top + place.height || place.bottom > frame.bottom) {
      box.scrollTop += place.top - frame.top - frame.height / 2;
    }
  };
  const show = (models, details, chosen) => {
    for (const [name, row] of rows) {
      if (!models.some((model) => model.name === name)) {
        row.node.remove();
        rows.delete(name);
      }
    }
    for (const model of models) {
      if (!rows.has(model.name)) {
        rows.set(model.name, tableRow(model.name));
        body.append(rows.get(model.name).node);
      }
      rows.get(model.name).show(model, details(model.name), model.name === chosen);
    }
    wanted.hidden = models.length <= MANY;
    box.classList.toggle("many", models.length > MANY);
    narrow();
    if (chosen !== shown) reveal(rows.get(chosen).node);
    shown = chosen;
  };
  const live = (name, rate) => rows.get(name)?.live(rate);
  return { node, show, live };
}

function tableRow(name) {
  const cells = Object.fromEntries(COLUMNS.map((title) => [title, el("td", { "data-title": title })]));
  const link = el("a", { href: `#${encodeURIComponent(name)}`, text: name });
  const head = el("th", { scope: "row" }, link);
  const state = cells.State.appendChild(el("span", { class: "state" }));
  const node = el("tr", {}, head, COLUMNS.slice(1).map((title) => cells[title]));
  const show = (model, detail, isChosen) => {
    setText(state, model.state.toLowerCase());
    state.className = `state ${model.state.toLowerCase()}`;
    state.title = model.reason;
    const { plan, about } = detail ?? {};
    setText(cells.Device, plan?.device ?? "–");
    setText(cells.Precision, plan?.precision ?? "–");
    setText(cells.Inputs, tensorsText(about?.inputs));
    setText(cells.Outputs, tensorsText(about?.outputs));
    setText(cells["One prediction"], plan ? fastest(plan) : "–");
    setText(cells["vs model.predict"], factor(plan?.factor_over_predict));
    setText(cells.Replicas, String(model.replicas));
    if (model.state !== "READY") setText(cells.Now, model.reason || "–");
    if (isChosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    node.classList.toggle("current", isChosen);
  };
  const live = (rate) => setText(cells.Now, rate ? nowText(rate) : "–");
  return { node, show, live };
}

const nowText = (rate) => `${count(rate.perSecond)} req/s${rate.meanMs ? `, ${ms(rate.meanMs)} ms` : ""}`;

function tensorsText(tensors) {
  return tensors?.map((tensor) => `${tensor.name} ${tensor.datatype} ${shape(tensor.shape.slice(1))}`).join("; ") ?? "–";
}

function fastest(plan) {
  const [size, name] = Object.entries(plan.chosen)[0];
  const row = plan.candidates[size]?.find((candidate) => candidate.name === name);
  return row?.p50_ms ? `${ms(row.p50_ms)} ms` : name;
}
