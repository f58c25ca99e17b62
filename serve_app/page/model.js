// One model in full: what it is, a way to try it, how it does, why it runs as it runs, and lines to copy.

import { el, panel, setText, tabbed } from "./dom.js";
import { liveFigures } from "./live.js";
import { shape } from "./numbers.js";
import { planChart } from "./plan.js";
import { isDrawable, pictureInput } from "./signature.js";
import { snippets } from "./snippets.js";
import { tryDraw } from "./try_draw.js";
import { tryPicture } from "./try_picture.js";
import { tryValues } from "./try_values.js";

/** Returns {node, live, setState}: a ready model's panels; `model` is {name, path, about, plan}. */
export function modelView(model) {
  const picture = pictureInput(model.about);
  const lines = snippets(model, picture);
  const live = liveFigures();
  const title = el("h2", { class: "model-title" }, el("code", { text: model.name }), el("span", { class: "quiet", text: ` version ${model.about.versions[0]}` }));
  const state = el("p", { class: "trouble", role: "status" });
  const body = el("div", { class: "model-body" },
    panel("Try it", tabbed("Ways to try it", tries(model, picture, lines.setBody))),
    panel("Right now", live.node),
    model.plan ? panel("Plan", planChart(model.plan)) : null,
    panel("Inputs and outputs", signatureTable(model.about)),
    panel("Call it", lines.node),
  );
  const setState = (row) => {
    const isReady = row?.state === "READY";
    setText(state, isReady ? "" : `${row ? row.state.toLowerCase() : "gone"}: ${row?.reason || "no reason given"}`);
    body.inert = !isReady;
    body.classList.toggle("down", !isReady);
  };
  return { node: el("article", { "aria-label": `Model ${model.name}` }, title, state, body), live, setState };
}

function tries(model, picture, setBody) {
  const ways = [];
  if (isDrawable(picture)) ways.push({ name: "Draw", content: () => tryDraw(model, picture) });
  if (picture) ways.push({ name: "Picture", content: () => tryPicture(model) });
  // The lines to copy send a picture where the model takes one.
  ways.push({ name: "Values", content: () => tryValues(model, picture ? () => {} : setBody) });
  return ways;
}

function signatureTable(about) {
  const rows = (kind, tensors) => tensors.map((tensor) =>
    el("tr", {}, el("td", { class: "quiet", text: kind }), el("th", { scope: "row" }, el("code", { text: tensor.name })),
      el("td", { text: tensor.datatype }), el("td", { text: shape(tensor.shape) })));
  return el("table", { class: "signature", "aria-label": "Inputs and outputs" },
    el("thead", {}, el("tr", {}, ["", "Name", "Type", "Shape"].map((title) => el("th", { scope: "col", text: title })))),
    el("tbody", {}, rows("input", about.inputs), rows("output", about.outputs)));
}

/** Returns what stands in place of a model that cannot answer. */
export function downView(row) {
  const isReady = row.state === "READY";
  const says = isReady ? "Ready, but it has not told yet what it is." : `${row.state.toLowerCase()}: ${row.reason || "no reason given"}`;
  return el("article", { class: "panel", "aria-label": `Model ${row.name}` },
    el("h2", { class: "model-title" }, el("code", { text: row.name })),
    el("p", { class: "trouble", role: "status", text: says }),
    el("p", { class: "quiet", text: "This page looks again every two seconds." }));
}
