// What a model does right now, from the counters at /stats, asked once a second while the page is visible.

import { el, setText, svg } from "./dom.js";
import { count, ms } from "./numbers.js";

const SECONDS = 60;
const FORGET_MS = 5000;

/**
 * Turns growing counters into rates. With several replicas each answer comes from one of them, so every replica has
 * its own last reading, and the rates of those heard of lately are added.
 */
export class Meter {
  constructor() {
    this.replicas = new Map();
  }

  /** Takes one `model_stats` entry at `nowMs` and returns {perSecond, rowsPerSecond, failsPerSecond, meanMs, rowsPerRun}. */
  take(stats, nowMs) {
    const key = stats.replica ?? "";
    const before = this.replicas.get(key);
    const reading = { ...countersOf(stats), atMs: nowMs, rate: null };
    const isRestart = before && reading.requests < before.requests;
    if (before && !isRestart && nowMs > before.atMs) reading.rate = rateBetween(before, reading);
    this.replicas.set(key, reading);
    const live = [...this.replicas.values()].filter((one) => one.rate && nowMs - one.atMs < FORGET_MS).map((one) => one.rate);
    return live.length ? joined(live) : null;
  }
}

function countersOf(stats) {
  const { success, fail } = stats.inference_stats;
  return { requests: success.count, ns: success.ns, fails: fail.count, rows: stats.inference_count, runs: stats.execution_count };
}

function rateBetween(before, after) {
  const seconds = (after.atMs - before.atMs) / 1000;
  const grown = (name) => after[name] - before[name];
  return {
    perSecond: grown("requests") / seconds, rowsPerSecond: grown("rows") / seconds, failsPerSecond: grown("fails") / seconds,
    runsPerSecond: grown("runs") / seconds, msPerSecond: grown("ns") / 1e6 / seconds,
  };
}

function joined(rates) {
  const sum = (name) => rates.reduce((total, rate) => total + rate[name], 0);
  const [perSecond, runs] = [sum("perSecond"), sum("runsPerSecond")];
  return {
    perSecond, rowsPerSecond: sum("rowsPerSecond"), failsPerSecond: sum("failsPerSecond"),
    meanMs: perSecond ? sum("msPerSecond") / perSecond : null,
    rowsPerRun: runs ? sum("rowsPerSecond") / runs : null,
  };
}

/** Returns {node, show, lost}: the panel of one model's rates over the last minute. */
export function liveFigures() {
  const throughput = figure("requests a second", "throughput", count);
  const latency = figure("ms in the server, mean", "latency", ms);
  const rows = figure("rows a run of the device");
  const fails = figure("errors a second");
  const note = el("p", { class: "quiet", role: "status" });
  const show = (rate) => {
    throughput.show(rate ? count(rate.perSecond) : "–", rate?.perSecond ?? 0);
    latency.show(rate?.meanMs ? ms(rate.meanMs) : "–", rate?.meanMs ?? null);
    rows.show(rate?.rowsPerRun ? count(rate.rowsPerRun) : "–");
    fails.show(rate ? count(rate.failsPerSecond) : "–");
    fails.node.classList.toggle("bad", Boolean(rate?.failsPerSecond));
    setText(note, rate && !rate.perSecond ? "Nobody asks it anything right now." : "");
  };
  const lost = (text) => {
    for (const one of [throughput, latency, rows, fails]) one.show("–", null);
    setText(note, text);
  };
  const node = el("div", {}, el("dl", { class: "figures" }, throughput.node, latency.node, rows.node, fails.node), note);
  return { node, show, lost };
}

/** Returns one number with its name, and the last minute's line where `plotted` is its CSS class, its top in words. */
function figure(name, plotted = null, format = null) {
  const number = el("dd", { text: "–" });
  const line = plotted ? sparkline(plotted, format) : null;
  const node = el("div", { class: "figure" }, el("dt", { text: name }), number, line?.node);
  return { node, show: (text, value = null) => { setText(number, text); line?.push(value); } };
}

function sparkline(kind, format) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  const top = el("span", { class: "top" });
  const drawing = svg("svg", { class: `spark ${kind}`, viewBox: `0 0 ${SECONDS} 20`, preserveAspectRatio: "none" }, area, line);
  const node = el("dd", { class: "spark-box", "aria-hidden": "true" }, drawing, top);
  const values = [];
  const push = (value) => {
    values.push(value);
    if (values.length > SECONDS + 1) values.shift();
    const highest = Math.max(...values.map((one) => one ?? 0));
    setText(top, highest ? `up to ${format(highest)} in the last minute` : "");
    const points = values
      .map((one, i) => (one === null ? null : [SECONDS - values.length + 1 + i, 19 - (one / (highest || 1)) * 17]))
      .filter((point) => point !== null);
    line.setAttribute("d", points.length ? `M${points.map((point) => point.join(" ")).join("L")}` : "");
    area.setAttribute("d", points.length ? `M${points[0][0]} 20L${points.map((point) => point.join(" ")).join("L")}L${points.at(-1)[0]} 20Z` : "");
  };
  return { node, push };
}
