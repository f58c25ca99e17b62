// Where one request's milliseconds went: the Server-Timing header as a stacked bar.

import { el, setText } from "./dom.js";
import { median, ms } from "./numbers.js";

const WHAT = {
  decode: "read and decode the request",
  before: "the function before the model",
  queue: "wait for the device",
  batch: "join and cut batches",
  compute: "run the model",
  after: "the function after the model",
  encode: "write the answer",
};
const STEP = "step-";
const KEPT = 200;

/** Returns the parts of a receipt in the order of time; a pipeline's steps stand where a model computes. */
function inOrder(stages) {
  const steps = stages.filter(({ name }) => name.startsWith(STEP)).map(({ name }) => name);
  const known = new Set(stages.map(({ name }) => name));
  return Object.keys(WHAT).flatMap((name) => (name === "compute" && steps.length ? steps : known.has(name) ? [name] : []));
}

/** Returns {part, cell, number} for one part: a piece of the bar, and its line below. */
function made(name) {
  const isStep = name.startsWith(STEP);
  const style = `stage-${isStep ? "step" : name}`;
  const number = el("dd", { class: "number" });
  const label = isStep ? name.slice(STEP.length) : name;
  const title = isStep ? `the step ${label}` : WHAT[name];
  return { part: el("span", { class: style }), cell: el("div", { title }, el("dt", {}, el("i", { class: `swatch ${style}` }), label), number), number };
}

/** Returns {node, show}; `show` takes what `infer` returned. */
export function receipt() {
  const totals = [];
  const head = el("p", { class: "receipt-head", text: "Send something to see where its milliseconds go." });
  const bar = el("div", { class: "stack", "aria-hidden": "true" });
  const table = el("dl", { class: "stages", hidden: true });
  let shown = [], parts = [];
  const foot = el("p", { class: "quiet" });
  const show = ({ receipt: stages, roundTripMs }) => {
    table.hidden = bar.hidden = stages === null;
    if (stages === null) {
      setText(head, `${ms(roundTripMs)} ms seen from this browser; the server sends no Server-Timing (server_timing: false).`);
      return;
    }
    const byName = Object.fromEntries(stages.map((stage) => [stage.name, stage]));
    const total = byName.total?.durationMs ?? stages.reduce((sum, stage) => sum + stage.durationMs, 0);
    const names = inOrder(stages);
    if (names.join() !== shown.join()) {
      [shown, parts] = [names, names.map(made)];
      bar.replaceChildren(...parts.map(({ part }) => part));
      table.replaceChildren(...parts.map(({ cell }) => cell));
    }
    names.forEach((name, i) => {
      const duration = byName[name].durationMs;
      // Flex factors that add up to less than 1 would leave a part of the bar empty.
      parts[i].part.style.flexGrow = String(duration * 1e6);
      setText(parts[i].number, `${ms(duration)} ms`);
    });
    setText(head, `${ms(total)} ms in the server`);
    totals.push(total);
    if (totals.length > KEPT) totals.shift();
    const many = totals.length > 1 ? ` Median of the last ${totals.length} here: ${ms(median(totals))} ms.` : "";
    const shared = byName.batch?.note && byName.batch.note !== "rows 1" ? ` Shared a batch: ${byName.batch.note}.` : "";
    setText(foot, `${ms(roundTripMs)} ms seen from this browser, its own work and the network included.${many}${shared}`);
  };
  bar.hidden = true;
  return { node: el("div", { class: "receipt" }, head, bar, table, foot), show };
}
