// The outputs of any model, for people: shape, the first values, and what they range over.

import { el } from "./dom.js";
import { shape, value } from "./numbers.js";

const SHOWN = 60;

/** Returns {node, show, clear}; `show` takes outputs with flat `data`. */
export function outputsPanel(hint) {
  const node = el("div", { class: "answer" });
  const clear = () => node.replaceChildren(el("p", { class: "verdict", role: "status", text: hint }));
  const show = (outputs) => node.replaceChildren(...outputs.map(outputNode));
  clear();
  return { node, show, clear };
}

function outputNode(output) {
  const values = output.data;
  const left = values.length - SHOWN;
  return el("section", { class: "output" },
    el("h4", {}, el("code", { text: output.name }), ` ${output.datatype}, ${shape(output.shape)}`),
    el("p", { class: "values", role: "status" }, values.slice(0, SHOWN).map((one) => el("span", { text: value(one) })),
      left > 0 ? el("span", { class: "quiet", text: `and ${left.toLocaleString("en")} more` }) : null),
    rangeNode(values),
  );
}

function rangeNode(values) {
  if (values.length < 2 || typeof values[0] !== "number") return null;
  const [low, high, sum] = values.reduce(
    ([least, most, total], one) => [Math.min(least, one), Math.max(most, one), total + one], [Infinity, -Infinity, 0],
  );
  return el("p", { class: "quiet", text: `from ${value(low)} to ${value(high)}, mean ${value(sum / values.length)}` });
}
