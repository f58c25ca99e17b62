// A classifier's scores as bars that change in place.

import { el, setText } from "./dom.js";
import { percent, value } from "./numbers.js";

/** Returns {node, show, clear}; `show` takes [{label, score}] in the order to draw. */
export function scoreBars(hint) {
  const says = el("p", { class: "verdict", role: "status", text: hint });
  const list = el("ol", { class: "scores", "aria-label": "Scores" });
  let rows = [];
  const show = (scores) => {
    if (rows.length !== scores.length) {
      rows = scores.map(() => row());
      list.replaceChildren(...rows.map((one) => one.node));
    }
    const numbers = scores.map((one) => one.score);
    const shares = numbers.every((score) => score >= 0 && score <= 1);
    const [low, high] = shares ? [0, 1] : [Math.min(...numbers, 0), Math.max(...numbers)];
    const best = numbers.indexOf(Math.max(...numbers));
    scores.forEach(({ label, score }, i) => {
      rows[i].set(label, shares ? percent(score) : value(score), (score - low) / (high - low || 1), i === best);
    });
    setText(says, `${scores[best].label} — ${shares ? percent(numbers[best]) : value(numbers[best])}`);
    says.classList.add("known");
  };
  const clear = () => {
    setText(says, hint);
    says.classList.remove("known");
    rows.forEach((one) => one.set(one.label(), "", 0, false));
  };
  return { node: el("div", { class: "answer" }, says, list), show, clear };
}

function row() {
  const [label, bar, text] = [el("span", { class: "label" }), el("span", { class: "fill" }), el("span", { class: "number" })];
  const node = el("li", {}, label, el("span", { class: "track", "aria-hidden": "true" }, bar), text);
  const set = (name, shown, share, isBest) => {
    setText(label, name);
    setText(text, shown);
    bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    node.classList.toggle("best", isBest);
  };
  return { node, set, label: () => label.textContent };
}
