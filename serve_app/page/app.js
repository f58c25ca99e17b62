// The page: asks the server what it serves, keeps the answer fresh, and shows one model in full.

import { explain, getJson } from "./api.js";
import { el, setText } from "./dom.js";
import { Meter } from "./live.js";
import { downView, modelView } from "./model.js";
import { modelTable } from "./table.js";

const OVERVIEW_MS = 2000;
const STATS_MS = 1000;
const STATS_OF = 8;

const at = (id) => document.getElementById(id);
const table = modelTable();
const details = new Map();
const meters = new Map();
const page = { models: [], shown: null, view: null, lostAt: null };

/** Returns the name in the address's #, or the first model that is ready. */
function chosenName() {
  const asked = decodeURIComponent(location.hash.slice(1));
  if (page.models.some((model) => model.name === asked)) return asked;
  return (page.models.find((model) => model.state === "READY") ?? page.models[0])?.name ?? null;
}

async function refresh() {
  try {
    const overview = await getJson("overview");
    page.models = overview.models;
    showServer(overview);
    await Promise.all(page.models.filter((model) => model.state === "READY").map(learn));
    found();
  } catch (failure) {
    lost(failure);
  }
  showModels();
}

/** Asks a ready model what it is; again after it was down, for it may have changed. */
async function learn(model) {
  const known = details.get(model.name);
  if (known && known.version === model.version && !known.stale) return;
  try {
    const about = await getJson(model.path);
    const plan = await getJson(`${model.path}/plan`).catch(() => null);
    details.set(model.name, { name: model.name, version: model.version, path: model.path, about, plan, stale: false });
    if (page.shown === model.name) page.shown = null;
  } catch {
    // Ready for Serve, not yet for the front door: the next round asks again.
  }
}

function showServer({ server, ready, models }) {
  const readyCount = models.filter((model) => model.state === "READY").length;
  at("server").className = `server ${ready ? "good" : "bad"}`;
  setText(at("server"), `${server.version} · ${readyCount} of ${models.length} models ready`);
}

function showModels() {
  const name = chosenName();
  if (!page.models.length) {
    if (!page.lostAt) at("models").replaceChildren(el("p", { class: "quiet", text: "No model is deployed." }));
    at("model").replaceChildren();
    page.shown = null;
    return;
  }
  if (!table.node.isConnected) at("models").replaceChildren(table.node);
  table.show(page.models, (one) => details.get(one), name);
  showModel(page.models.find((model) => model.name === name));
}

function showModel(row) {
  for (const model of page.models) {
    if (model.state !== "READY" && details.has(model.name)) details.get(model.name).stale = true;
  }
  const detail = details.get(row.name);
  if (detail) {
    if (page.shown !== row.name) {
      page.view = modelView(detail);
      at("model").replaceChildren(page.view.node);
      page.shown = row.name;
    }
    page.view.setState(page.lostAt ? { state: "UNREACHABLE", reason: "the server does not answer" } : row);
  } else {
    page.shown = page.view = null;
    at("model").replaceChildren(downView(row));
  }
  document.title = `${row.name} · keras-solo`;
}

function lost(failure) {
  page.lostAt ??= new Date();
  at("server").className = "server bad";
  setText(at("server"), failure.status === 401 ? "asks for a token" : "not reachable");
  const since = page.lostAt.toLocaleTimeString();
  setText(at("alarm"), `${explain(failure)} Last heard of before ${since}; trying again every ${OVERVIEW_MS / 1000} s.`);
}

function found() {
  page.lostAt = null;
  setText(at("alarm"), "");
}

/** Reads the counters of the models that are ready: all of a few, the shown one of many. */
async function readStatistics() {
  const ready = page.lostAt ? [] : page.models.filter((model) => model.state === "READY");
  const asked = ready.length <= STATS_OF ? ready : ready.filter((model) => model.name === page.shown);
  await Promise.all(asked.map(readModelStatistics));
  if (page.view && !asked.some((model) => model.name === page.shown)) page.view.live.lost("No figures: the model does not answer.");
}

async function readModelStatistics(model) {
  if (!meters.has(model.name)) meters.set(model.name, new Meter());
  try {
    const { model_stats: [stats] } = await getJson(`${model.path}/stats`);
    const rate = meters.get(model.name).take(stats, performance.now());
    table.live(model.name, rate);
    if (page.shown === model.name) page.view.live.show(rate);
  } catch (failure) {
    if (page.shown === model.name) page.view.live.lost(explain(failure));
  }
}

/** Runs `work` every `everyMs` while the page is visible, and at once when it becomes visible again. */
function whileVisible(work, everyMs) {
  let timer = null;
  const turn = async () => {
    clearTimeout(timer);
    timer = null;
    if (document.hidden) return;
    const started = performance.now();
    await work();
    if (timer === null) timer = setTimeout(turn, Math.max(200, everyMs - (performance.now() - started)));
  };
  document.addEventListener("visibilitychange", () => document.hidden || turn());
  turn();
}

window.addEventListener("hashchange", showModels);
whileVisible(refresh, OVERVIEW_MS);
whileVisible(readStatistics, STATS_MS);
