// A form made from the input signature, with an example filled in.

import { explain, infer } from "./api.js";
import { el, setText } from "./dom.js";
import { shape } from "./numbers.js";
import { outputsPanel } from "./outputs.js";
import { receipt } from "./receipt.js";
import { exampleShape, exampleValues, flatten, hasJson, nest, outputsOf, randomValues, request, sizeOf } from "./tensors.js";

const EDITABLE = 2000;
const DYNAMIC_LENGTH = 8;

/** Returns the form; `onrequest` is told the JSON body that the form stands for, null where it is no JSON. */
export function tryValues(model, onrequest) {
  const fields = model.about.inputs.map((tensor) => field(tensor, () => changed()));
  const answer = outputsPanel("Nothing sent yet.");
  const slip = receipt();
  const trouble = el("p", { class: "trouble", role: "alert" });
  const read = () => {
    const tensors = fields.map((one) => one.read());
    return tensors.includes(null) ? null : tensors;
  };
  const changed = () => onrequest(jsonBody(read()));
  const send = async (event) => {
    event?.preventDefault();
    const tensors = read();
    if (tensors === null) return;
    const isLarge = tensors.some((tensor) => tensor.values.length > EDITABLE);
    const { body, headers } = request(tensors, binaryOutputs(model.about), isLarge);
    try {
      const answered = await infer(`${model.path}/infer`, body, headers);
      answer.show(outputsOf(answered.answer, answered.headers));
      slip.show(answered);
      setText(trouble, "");
    } catch (failure) {
      answer.clear();
      setText(trouble, explain(failure));
    }
  };
  const refill = (make) => () => {
    fields.forEach((one) => one.fill(make));
    changed();
    send();
  };
  const form = el("form", { onsubmit: send, onkeydown: (event) => event.key === "Enter" && event.ctrlKey && send(event) },
    fields.map((one) => one.node),
    el("div", { class: "tools" },
      el("button", { type: "submit", class: "primary", text: "Predict" }),
      el("button", { type: "button", text: "Random values", onclick: refill(randomValues) }),
      el("button", { type: "button", text: "Example", onclick: refill(exampleValues) })),
  );
  changed();
  return el("div", { class: "try try-values" },
    el("div", { class: "try-in" }, form),
    el("div", { class: "try-out" }, trouble, answer.node, slip.node),
  );
}

/** Returns one input's control: {node, read, fill}; `read` returns a tensor, null while what is typed fits none. */
function field(tensor, onchange) {
  const example = exampleShape(tensor, DYNAMIC_LENGTH);
  const size = sizeOf(example);
  const id = `value-${tensor.name.replaceAll(/\W/g, "-")}-${++fieldsMade}`;
  const problem = el("span", { class: "trouble", id: `${id}-problem`, role: "status" });
  const label = el("label", { for: id }, el("code", { text: tensor.name }), ` ${tensor.datatype}, ${shape(tensor.shape)}`);
  if (size > EDITABLE) return largeField(tensor, example, label, id);
  const control = el("textarea", {
    id, rows: Math.min(8, 1 + Math.ceil((size * 5) / 60)), spellcheck: "false", autocomplete: "off",
    "aria-describedby": problem.id, oninput: onchange,
  });
  const fill = (make) => {
    control.value = JSON.stringify(nest(make(tensor, size), example)).replaceAll(",", ", ");
  };
  const read = () => {
    try {
      const { shape: given, values } = flatten(JSON.parse(control.value), tensor);
      setText(problem, "");
      control.removeAttribute("aria-invalid");
      return { name: tensor.name, datatype: tensor.datatype, shape: given, values };
    } catch (error) {
      setText(problem, error instanceof SyntaxError ? "not JSON yet" : error.message);
      control.setAttribute("aria-invalid", "true");
      return null;
    }
  };
  fill(exampleValues);
  return { node: el("div", { class: "field" }, label, control, problem), read, fill };
}

let fieldsMade = 0;

/** An input with too many values to type: made up, and sent as binary. */
function largeField(tensor, example, label, id) {
  let values = exampleValues(tensor, sizeOf(example));
  const text = el("output", { id, class: "quiet", text: `${values.length.toLocaleString("en")} made-up values, sent as binary` });
  const fill = (make) => {
    values = make(tensor, values.length);
  };
  const read = () => ({ name: tensor.name, datatype: tensor.datatype, shape: example, values });
  return { node: el("div", { class: "field" }, label, text), read, fill };
}

/** Returns the request's body where it can be JSON and is worth reading, null else. */
function jsonBody(tensors) {
  if (tensors === null) return null;
  const fits = tensors.every((tensor) => hasJson(tensor.datatype) && tensor.values.length <= EDITABLE);
  return fits ? request(tensors, []).body : null;
}

/** Returns the `outputs` member that gets datatypes without a JSON form as binary, [] where none needs it. */
function binaryOutputs(about) {
  if (about.outputs.every((output) => hasJson(output.datatype))) return [];
  return about.outputs.map((output) => ({ name: output.name, parameters: { binary_data: !hasJson(output.datatype) } }));
}
