// The plan as a bar chart: every way of running the model, its latency on a logarithmic axis, the chosen one marked.

import { el } from "./dom.js";
import { count, factor, ms } from "./numbers.js";

const PREDICT = "model.predict";

/** Returns the chart of a plan report, with one button per batch size. */
export function planChart(plan) {
  const sizes = Object.keys(plan.candidates);
  const held = el("div", { class: "chart" });
  const buttons = sizes.map((size) => el("button", { type: "button", text: size, onclick: () => choose(size) }));
  const choose = (size) => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(sizes[i] === size)));
    held.replaceChildren(chart(plan, size, size === sizes[0]));
  };
  choose(sizes[0]);
  const picker = el("div", { class: "sizes", role: "group", "aria-label": "Batch size" },
    el("span", { class: "quiet", text: "Batch size" }), buttons);
  return el("div", {}, el("p", { class: "plan-says", text: sentence(plan) }), sizes.length > 1 ? picker : null, held, notes(plan));
}

function sentence(plan) {
  const [size, name] = Object.entries(plan.chosen)[0];
  const row = plan.candidates[size].find((candidate) => candidate.name === name);
  const faster = plan.factor_over_predict ? `, ${count(plan.factor_over_predict)} times as fast as ${PREDICT}` : "";
  const time = row?.p50_ms ? `${ms(row.p50_ms)} ms a prediction${faster}: ` : "";
  const measured = plan.candidates[size].filter((candidate) => candidate.p50_ms).length;
  return `${time}${name} was chosen out of ${plan.candidates[size].length} ways, ${measured} of them timed on this machine.`;
}

/** Returns one batch size's chart, a table whose second column is drawn. */
function chart(plan, size, withPredict) {
  const rows = plan.candidates[size].map((row) => ({ ...row, chosen: plan.chosen[size] === row.name }));
  if (withPredict && plan.predict_p50_ms) {
    const timedCount = rows.filter((row) => row.p50_ms).length;
    rows.splice(timedCount, 0, { name: PREDICT, p50_ms: plan.predict_p50_ms, p99_ms: null, max_abs_error: null, status: "for comparison" });
  }
  const timed = rows.flatMap((row) => [row.p50_ms, row.p99_ms]).filter((time) => time);
  const axis = logAxis(Math.min(...timed), Math.max(...timed));
  const titles = ["Way", "Latency, log scale", "p50 ms", "p99 ms", "Largest error"];
  return el("table", { class: "plan-table" },
    el("caption", { class: "hidden", text: `Ways of running batch size ${size}, in milliseconds` }),
    el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col", text: title })))),
    el("tbody", {}, rows.map((row) => planRow(row, axis))),
    el("tfoot", {}, el("tr", {}, el("td"), el("td", { class: "axis" }, axisNode(axis)), el("td", { colspan: 3 }))),
  );
}

function planRow(row, axis) {
  const known = row.status === "ok" || row.name === PREDICT;
  const kind = row.chosen ? "chosen" : row.name === PREDICT ? "baseline" : known ? "" : "refused";
  const tag = row.chosen ? el("span", { class: "tag", text: "chosen" }) : null;
  const drawn = row.p50_ms ? bar(row, axis) : el("span", { class: "quiet reason", text: row.status });
  return el("tr", { class: kind },
    el("th", { scope: "row" }, el("code", { text: row.name }), tag),
    el("td", { class: "drawn" }, drawn, row.p50_ms && !known ? el("span", { class: "quiet reason", text: row.status }) : null),
    el("td", { class: "number", text: row.p50_ms ? ms(row.p50_ms) : "–" }),
    el("td", { class: "number", text: row.p99_ms ? ms(row.p99_ms) : "–" }),
    el("td", { class: "number", text: row.max_abs_error === null ? "–" : errorText(row.max_abs_error) }),
  );
}

const errorText = (error) => (error === 0 ? "0" : error.toExponential(0));

/** Returns the bar of the median, with a whisker to the 99th percentile. */
function bar(row, axis) {
  const [middle, slow] = [el("span", { class: "p50" }), row.p99_ms ? el("span", { class: "p99" }) : null];
  middle.style.width = axis.at(row.p50_ms);
  if (slow) {
    slow.style.left = axis.at(row.p50_ms);
    slow.style.width = `calc(${axis.at(row.p99_ms)} - ${axis.at(row.p50_ms)})`;
  }
  const grid = axis.ticks.map((tick) => {
    const line = el("i", { class: "grid" });
    line.style.left = axis.at(tick);
    return line;
  });
  return el("div", { class: "plot", "aria-hidden": "true" }, grid, middle, slow);
}

/** Returns {ticks, at}: the decades from below `low` to `high`, and a time's place on the axis in percent. */
export function logAxis(low, high) {
  const first = Math.floor(Math.log10(low * 0.8));
  const last = Math.max(first + 1, Math.log10(high));
  const ticks = [];
  for (let decade = first; decade <= last; decade++) ticks.push(10 ** decade);
  return { ticks, at: (time) => `${((Math.log10(time) - first) / (last - first)) * 100}%` };
}

function axisNode(axis) {
  const labels = axis.ticks.map((tick) => {
    const label = el("span", { text: `${Number(tick.toPrecision(1))} ms` });
    label.style.left = axis.at(tick);
    return label;
  });
  return el("div", { class: "ticks", "aria-hidden": "true" }, labels);
}

function notes(plan) {
  const seconds = plan.from_cache ? "remembered from an earlier start" : `measured in ${count(plan.seconds)} s at start-up`;
  const traced = plan.traces_after_ready ? ` Traced ${plan.traces_after_ready} times since ready: a defect, please report it.` : "";
  const predict = plan.predict_p50_ms ? ` ${PREDICT} takes ${ms(plan.predict_p50_ms)} ms here (${factor(plan.factor_over_predict)}).` : "";
  return el("p", { class: "quiet", text: `Verified against model(x, training=False) and ${seconds}.${predict}${traced}${devices(plan)}` });
}

/** Says which device answers each batch size and what the other would take, where there were two to choose from. */
function devices(plan) {
  const said = Object.entries(plan.fastest_ms ?? {}).filter(([, times]) => times.cpu && times.gpu).map(([size, times]) =>
    ` Batch size ${size}: the ${plan.devices[size].toUpperCase()} answers (CPU ${ms(times.cpu)} ms, GPU ${ms(times.gpu)} ms).`);
  const advice = plan.advice ? ` ${plan.advice[0].toUpperCase()}${plan.advice.slice(1)}.` : "";
  return said.join("") + advice;
}
