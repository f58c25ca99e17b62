// Tensors of the Open Inference Protocol: what fits a signature, and JSON and binary bodies of them.

const ARRAYS = {
  FP32: Float32Array, FP64: Float64Array, INT8: Int8Array, INT16: Int16Array, INT32: Int32Array, INT64: BigInt64Array,
  UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array, UINT64: BigUint64Array, BOOL: Uint8Array,
};
const HALVES = { FP16: [toHalf, fromHalf], BF16: [toBrain, fromBrain] };

export const isFloat = (datatype) => datatype.startsWith("FP") || datatype.startsWith("BF");
export const hasJson = (datatype) => !(datatype in HALVES);

/** Returns the shape of one row's tensor, dynamic axes as `length`. */
export function exampleShape(tensor, length = 8) {
  return tensor.shape.map((axis, i) => (i === 0 ? 1 : axis < 0 ? length : axis));
}

export const sizeOf = (shape) => shape.reduce((product, axis) => product * axis, 1);

/** Returns plausible flat values for a tensor: ramps that differ from input to input, not all zero. */
export function exampleValues(tensor, size) {
  return Array.from({ length: size }, (_, i) => {
    if (tensor.datatype === "BYTES") return "text";
    if (tensor.datatype === "BOOL") return i % 2 === 0;
    return isFloat(tensor.datatype) ? Number((((i * 7 + 3) % 11) / 10).toFixed(1)) : (i * 7 + 3) % 10;
  });
}

/** Returns random flat values: floats in 0..1, whole numbers in 0..9. */
export function randomValues(tensor, size) {
  return Array.from({ length: size }, () => {
    if (tensor.datatype === "BYTES") return Math.random().toString(36).slice(2, 8);
    if (tensor.datatype === "BOOL") return Math.random() < 0.5;
    return isFloat(tensor.datatype) ? Number(Math.random().toFixed(3)) : Math.floor(Math.random() * 10);
  });
}

/** Returns flat `values` as nested lists of `shape`. */
export function nest(values, shape) {
  if (shape.length <= 1) return values;
  const step = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) => nest(values.slice(i * step, (i + 1) * step), shape.slice(1)));
}

/** Returns {shape, values} of nested lists; throws an Error that says what does not fit `tensor`. */
export function flatten(nested, tensor) {
  const shape = [];
  for (let at = nested; Array.isArray(at); at = at[0]) shape.push(at.length);
  const values = [nested].flat(Infinity);
  const wanted = `expected shape [${tensor.shape.map((axis) => (axis < 0 ? "any" : axis)).join(", ")}]`;
  if (shape.length !== tensor.shape.length || shape.includes(0)) throw new Error(`${wanted}, got [${shape.join(", ")}]`);
  const fits = tensor.shape.every((axis, i) => axis < 0 || axis === shape[i]);
  if (!fits || !isRegular(nested, shape)) throw new Error(`${wanted}, got [${shape.join(", ")}]${fits ? " with gaps" : ""}`);
  const type = tensor.datatype === "BYTES" ? "string" : tensor.datatype === "BOOL" ? "boolean" : "number";
  const odd = values.find((value) => typeof value !== type);
  if (odd !== undefined) throw new Error(`expected every value to be a ${type}, got ${JSON.stringify(odd)}`);
  return { shape, values };
}

function isRegular(nested, shape) {
  if (!shape.length) return !Array.isArray(nested);
  return Array.isArray(nested) && nested.length === shape[0] && nested.every((one) => isRegular(one, shape.slice(1)));
}

/** Returns {body, headers} of a request; `tensors` are {name, datatype, shape, values}; binary where JSON cannot. */
export function request(tensors, outputs, binary = false) {
  const parts = [];
  const inputs = tensors.map(({ name, datatype, shape, values }) => {
    if (!binary && hasJson(datatype)) return { name, shape, datatype, data: values };
    const bytes = encode(datatype, values);
    parts.push(bytes);
    return { name, shape, datatype, parameters: { binary_data_size: bytes.byteLength } };
  });
  const text = JSON.stringify({ inputs, ...(outputs.length ? { outputs } : {}) });
  if (!parts.length) return { body: text, headers: { "Content-Type": "application/json" } };
  const json = new TextEncoder().encode(text);
  const headers = {
    "Content-Type": "application/octet-stream",
    "Inference-Header-Content-Length": String(json.byteLength),
  };
  return { body: new Blob([json, ...parts]), headers };
}

/** Returns the outputs of an answer, binary or JSON, with flat `data` each. */
export function outputsOf(answer, headers) {
  if (!(answer instanceof ArrayBuffer)) return answer.outputs ?? [];
  const jsonBytes = Number(headers.get("inference-header-content-length"));
  const { outputs } = JSON.parse(new TextDecoder().decode(answer.slice(0, jsonBytes)));
  let at = jsonBytes;
  for (const output of outputs) {
    const bytes = output.parameters?.binary_data_size;
    if (bytes === undefined) continue;
    output.data = decode(output.datatype, answer.slice(at, at + bytes));
    at += bytes;
  }
  return outputs;
}

function encode(datatype, values) {
  if (datatype in HALVES) return Uint16Array.from(values, HALVES[datatype][0]);
  if (datatype === "BYTES") return encodeStrings(values);
  if (datatype.endsWith("INT64")) return ARRAYS[datatype].from(values, BigInt);
  return ARRAYS[datatype].from(values);
}

function decode(datatype, buffer) {
  if (datatype in HALVES) return Array.from(new Uint16Array(buffer), HALVES[datatype][1]);
  if (datatype === "BYTES") return decodeStrings(buffer);
  const values = Array.from(new ARRAYS[datatype](buffer));
  if (datatype === "BOOL") return values.map(Boolean);
  return datatype.endsWith("INT64") ? values.map(Number) : values;
}

/** Strings: four bytes of length, little-endian, before each. */
function encodeStrings(values) {
  const texts = values.map((value) => new TextEncoder().encode(value));
  const bytes = new Uint8Array(texts.reduce((sum, text) => sum + 4 + text.length, 0));
  let at = 0;
  for (const text of texts) {
    new DataView(bytes.buffer).setUint32(at, text.length, true);
    bytes.set(text, at + 4);
    at += 4 + text.length;
  }
  return bytes;
}

function decodeStrings(buffer) {
  const values = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const length = new DataView(buffer).getUint32(at, true);
    values.push(new TextDecoder().decode(new Uint8Array(buffer, at + 4, length)));
    at += 4 + length;
  }
  return values;
}

const scratch = new DataView(new ArrayBuffer(4));

function toBrain(value) {
  scratch.setFloat32(0, value);
  return scratch.getUint16(0);
}

function fromBrain(bits) {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** IEEE 754 binary16, rounded towards zero; what is too small becomes 0, what is too large infinity. */
function toHalf(value) {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (exponent >= 31) return sign | 0x7c00;
  return exponent <= 0 ? sign : sign | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 0x3ff];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
