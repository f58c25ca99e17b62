// Lines to copy: the request that stands on the page, as curl, Python, and from a Ray task.

import { address } from "./api.js";
import { el, setText, tabbed } from "./dom.js";
import { exampleShape, exampleValues, hasJson, request, sizeOf } from "./tensors.js";

const PRINTED_BYTES = 2000;

/** Returns {node, setBody}: the lines of a model; `setBody` changes the JSON body that they carry. */
export function snippets(model, picture) {
  const url = address(`${model.path}/infer`);
  const kinds = [
    ["curl", () => (picture ? curlPicture(url) : curl(url, body))],
    ["Python", () => (picture ? pythonPicture(url) : python(url, body))],
    ["Ray task", () => rayTask(model)],
  ];
  let body = exampleBody(model.about);
  const blocks = kinds.map(([name, text]) => ({ name, code: el("code"), text }));
  const refresh = () => blocks.forEach((block) => setText(block.code, block.text()));
  const setBody = (next) => {
    body = next ?? body;
    refresh();
  };
  refresh();
  const tabs = tabbed("Language", blocks.map((block) => ({ name: block.name, content: () => codeBlock(block) })));
  return { node: tabs, setBody };
}

function codeBlock({ name, code }) {
  const said = el("span", { class: "quiet", role: "status" });
  const copy = el("button", {
    type: "button", class: "copy", text: "Copy", "aria-label": `Copy the ${name} lines`,
    onclick: async () => setText(said, (await copyText(code)) ? "Copied" : "Selected: press Ctrl+C"),
  });
  return el("div", { class: "code" }, el("pre", { tabindex: 0 }, code), el("p", { class: "copy-line" }, copy, said));
}

/** Copies an element's text; where the page may not (plain HTTP from another machine) selects it instead. */
async function copyText(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return false;
  }
}

/** Returns an example's JSON body, null where it would fill the screen or some input has no JSON form. */
function exampleBody(about) {
  const shapes = about.inputs.map((tensor) => exampleShape(tensor));
  if (shapes.some((shape) => sizeOf(shape) * 3 > PRINTED_BYTES) || !about.inputs.every((one) => hasJson(one.datatype))) return null;
  const tensors = about.inputs.map((tensor, i) => ({ ...tensor, shape: shapes[i], values: exampleValues(tensor, sizeOf(shapes[i])) }));
  return request(tensors, []).body;
}

function curl(url, body) {
  if (body === null || body.length > PRINTED_BYTES) return `# body.json holds the request; ${url.replace(/\/infer$/, "")} tells its inputs\ncurl -d @body.json \\\n  ${url}`;
  return `curl -d '${body.replaceAll("'", "'\\''")}' \\\n  ${url}`;
}

function curlPicture(url) {
  return `curl --data-binary @picture.png -H 'Content-Type: image/png' \\\n  ${url}`;
}

const pythonText = JSON.stringify;

function python(url, body) {
  const literal = body === null || body.length > PRINTED_BYTES ? 'open("body.json", "rb").read()' : `${pythonBytes(body)}`;
  return `import json, urllib.request

body = ${literal}
with urllib.request.urlopen(${pythonText(url)}, body) as answer:
    print(json.load(answer)["outputs"])`;
}

function pythonBytes(body) {
  return `json.dumps(json.loads(${pythonText(body)})).encode()`;
}

function pythonPicture(url) {
  return `import json, urllib.request

picture = open("picture.png", "rb").read()
request = urllib.request.Request(${pythonText(url)}, picture, {"Content-Type": "image/png"})
with urllib.request.urlopen(request) as answer:
    print(json.load(answer))`;
}

function rayTask({ name, about }) {
  const arrays = about.inputs.map((tensor) => `${pythonText(tensor.name)}: ${numpyArray(tensor)}`);
  const argument = arrays.length === 1 ? numpyArray(about.inputs[0]) : `{${arrays.join(", ")}}`;
  return `import numpy as np, ray
from serve_app.client import Model

@ray.remote
def predict():
    return Model(${pythonText(name)}).predict(${argument})

print(ray.get(predict.remote()))`;
}

const NUMPY = { FP16: "float16", FP32: "float32", FP64: "float64", BOOL: "bool" };

function numpyArray(tensor) {
  const shape = exampleShape(tensor).join(", ");
  if (tensor.datatype === "BYTES") return `np.full((${shape},), b"text", object)`;
  const dtype = NUMPY[tensor.datatype] ?? tensor.datatype.toLowerCase();
  return tensor.datatype === "BF16" ? `np.zeros((${shape},), "float32")` : `np.zeros((${shape},), np.${dtype})`;
}
