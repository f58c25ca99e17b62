// Where one request's milliseconds went: the Server-Timing header as a stacked bar.

import { el, setText } from "./dom.js";
import { median, ms } from "./numbers.js";

const STAGES = [
  ["decode", "read and decode the request"],
  ["queue", "wait for the device"],
  ["batch", "join and cut batches"],
  ["compute", "run the model"],
  ["encode", "write the answer"],
];
const KEPT = 200;

/** Returns {node, show}; `show` takes what `infer` returned. */
export function receipt() {
  const totals = [];
  const head = el("p", { class: "receipt-head", text: "Send something to see where its milliseconds go." });
  const bar = el("div", { class: "stack", "aria-hidden": "true" });
  const parts = STAGES.map(([name]) => bar.appendChild(el("span", { class: `stage-${name}` })));
  const cells = STAGES.map(([name, what]) => {
    const number = el("dd", { class: "number" });
    return { node: el("div", { title: what }, el("dt", {}, el("i", { class: `swatch stage-${name}` }), name), number), number };
  });
  const table = el("dl", { class: "stages", hidden: true }, cells.map((cell) => cell.node));
  const foot = el("p", { class: "quiet" });
  const show = ({ receipt: stages, roundTripMs }) => {
    table.hidden = bar.hidden = stages === null;
    if (stages === null) {
      setText(head, `${ms(roundTripMs)} ms seen from this browser; the server sends no Server-Timing (server_timing: false).`);
      return;
    }
    const byName = Object.fromEntries(stages.map((stage) => [stage.name, stage]));
    const total = byName.total?.durationMs ?? stages.reduce((sum, stage) => sum + stage.durationMs, 0);
    STAGES.forEach(([name], i) => {
      const duration = byName[name]?.durationMs ?? 0;
      // Flex factors that add up to less than 1 would leave a part of the bar empty.
      parts[i].style.flexGrow = String(duration * 1e6);
      setText(cells[i].number, `${ms(duration)} ms`);
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
