// The REST API as a page: /openapi.json's operations by group, with parameters, bodies, answers and a line to copy.

import { address, explain, getJson } from "./api.js";
import { el, panel } from "./dom.js";
import { schemaText, typeOf } from "./schema.js";

const at = (id) => document.getElementById(id);

async function show() {
  try {
    const api = await getJson("openapi.json");
    at("about").textContent = `REST API, version ${api.info.version}`;
    at("operations").replaceChildren(intro(api), ...api.tags.map((tag) => group(api, tag)));
  } catch (failure) {
    at("alarm").textContent = `The description did not load. ${explain(failure)}`;
  }
}

function intro(api) {
  return el("p", { class: "panel" }, prose(`${api.info.description} A body's shape stands with each operation.`));
}

function group(api, tag) {
  const found = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).filter(([, operation]) => operation.tags.includes(tag.name))
      .map(([method, operation]) => ({ path, method, operation })));
  return panel(tag.name, el("div", {}, el("p", { class: "quiet" }, prose(tag.description)),
    found.map((one) => operationNode(api, one))));
}

/** Returns one operation, its details built when it is first opened. */
function operationNode(api, { path, method, operation }) {
  const node = el("details", { class: "operation", id: operation.operationId },
    el("summary", {}, el("span", { class: "method", text: method.toUpperCase() }), el("code", { text: path }),
      el("span", { class: "quiet" }, prose(operation.summary))));
  node.addEventListener("toggle", () => {
    if (node.children.length === 1) node.append(...details(api, path, method, operation));
  });
  return node;
}

function details(api, path, method, operation) {
  const parameters = (operation.parameters ?? []).map((one) => resolved(api, one));
  return [
    parameters.length ? section("Parameters", parameterTable(parameters)) : null,
    operation.requestBody ? section("Body", bodies(api, operation.requestBody.content)) : null,
    section("Answers", answerTable(api, operation.responses)),
    section("curl", el("pre", { tabindex: 0 }, el("code", { text: curlLines(path, method, operation, parameters) }))),
  ].filter(Boolean);
}

/** Returns text whose `words` in backticks are code, as Markdown has it: all of Markdown that descriptions use. */
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", { text: part }) : part));

const section = (title, content) => el("div", {}, el("h4", { text: title }), content);

function parameterTable(parameters) {
  const rows = parameters.map((one) => el("tr", {},
    el("th", { scope: "row" }, el("code", { text: one.name })),
    el("td", { text: one.required ? one.in : `${one.in}, optional` }),
    el("td", {}, el("code", { text: typeOf(one.schema) })),
    el("td", { text: one.description })));
  return el("table", { class: "parameters" }, el("tbody", {}, rows));
}

function answerTable(api, responses) {
  const rows = Object.entries(responses).map(([status, given]) => {
    const answer = resolved(api, given);
    const headers = Object.keys(answer.headers ?? {}).join(", ");
    return el("tr", {}, el("th", { scope: "row", class: "number", text: status }),
      el("td", {}, el("span", { text: answer.description }), headers ? el("span", { class: "quiet", text: ` (${headers})` }) : null,
        status === "200" ? bodies(api, answer.content) : null));
  });
  return el("table", {}, el("tbody", {}, rows));
}

/** Returns each media type with the shape of what it carries; a picture has no shape to tell. */
function bodies(api, content) {
  return Object.entries(content ?? {}).map(([type, { schema }]) => el("div", {},
    el("p", { class: "quiet", text: type }),
    schema.format === "binary" ? null : el("pre", { tabindex: 0 }, el("code", { class: "schema", text: schemaText(schema, api.components.schemas) }))));
}

function resolved(api, value) {
  if (!value.$ref) return value;
  return value.$ref.split("/").slice(1).reduce((part, key) => part[key], api);
}

/** Returns lines to copy: the first deployed model's name fills the path, a file of the reader's is the body. */
function curlLines(path, method, operation, parameters) {
  const name = Object.keys(parameters.find((one) => one.name === "name")?.examples ?? {})[0] ?? "NAME";
  const filled = path.replace("{name}", encodeURIComponent(name)).replace("{version}", "1").replace("{file}", "style.css");
  const url = address(filled.slice(1) || "./");
  const types = Object.keys(operation.requestBody?.content ?? {});
  if (method === "get") return `curl ${url}`;
  if (!types.length) return `curl -X POST ${url}`;
  return types.map((type) => curlBody(type, url)).join("\n\n");
}

function curlBody(type, url) {
  if (type === "application/json") return `curl -d @body.json \\\n  ${url}`;
  if (type === "application/octet-stream") return `curl --data-binary @tensor.bin -H 'Inference-Header-Content-Length: 0' \\\n  -o answer.bin ${url}`;
  return `curl --data-binary @picture.${type.split("/")[1]} -H 'Content-Type: ${type}' \\\n  ${url}`;
}

show();
