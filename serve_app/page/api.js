// Talking to the server. Addresses are relative to the page, so that it also works behind a path of a proxy.

import { askForToken, authorization } from "./token.js";

/** What a request came to when it came to nothing good; `status` is 0 where nobody answered. */
export class Failure extends Error {
  constructor(message, status = 0, retryAfterS = null) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Returns the absolute address of `path`, for lines to copy. */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** Returns the JSON at `path`; raises Failure. */
export async function getJson(path, timeoutMs = 5000) {
  const answer = await ask(path, { cache: "no-store" }, timeoutMs);
  return readJson(answer);
}

/**
 * Sends an inference request and returns {answer, headers, receipt, roundTripMs}; raises Failure.
 * `receipt` is the Server-Timing header, taken apart; null where the server sends none.
 */
export async function infer(path, body, headers, timeoutMs = 60000) {
  const started = performance.now();
  const response = await ask(path, { method: "POST", body, headers }, timeoutMs);
  const content = response.headers.get("content-type") === "application/octet-stream"
    ? await response.arrayBuffer()
    : await readJson(response);
  return {
    answer: content,
    headers: response.headers,
    receipt: receiptOf(response.headers.get("server-timing")),
    roundTripMs: performance.now() - started,
  };
}

async function ask(path, options, timeoutMs) {
  let response;
  try {
    const headers = { ...options.headers, ...authorization() };
    response = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Failure(late ? `No answer within ${timeoutMs / 1000} s.` : "The server does not answer.");
  }
  if (response.status === 401) askForToken();
  if (!response.ok) throw await failureOf(response);
  return response;
}

async function failureOf(response) {
  let text = "";
  try {
    text = await response.text();
    text = JSON.parse(text).error ?? text;
  } catch {
    // Not ours: HAProxy's and Serve's own errors are plain text or HTML.
    text = text.replaceAll(/<[^>]*>/g, " ").trim().slice(0, 300);
  }
  const retryAfter = Number(response.headers.get("retry-after"));
  return new Failure(text || response.statusText, response.status, retryAfter || null);
}

async function readJson(response) {
  try {
    return parse(await response.text());
  } catch {
    // A server that stops may cut its answer short.
    throw new Failure("The answer is not whole.");
  }
}

/** Parses JSON with NaN and Infinity in it, which models answer and JSON.parse refuses; they become strings. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return JSON.parse(text.replaceAll(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (m) => (m[0] === '"' ? m : `"${m}"`)));
  }
}

/** Returns [{name, durationMs, note}] of a Server-Timing header, null for none. */
export function receiptOf(header) {
  if (!header) return null;
  return header.split(",").map((entry) => {
    const [name, ...parts] = entry.trim().split(";");
    const about = Object.fromEntries(parts.map((part) => part.trim().split("=")));
    return { name, durationMs: Number(about.dur ?? 0), note: about.desc?.replaceAll('"', "") ?? "" };
  });
}

/** Says what a Failure means to somebody who looks at the page. */
export function explain(failure) {
  if (failure.status === 0) return failure.message;
  const again = failure.retryAfterS ? ` Try again in ${failure.retryAfterS} s.` : "";
  const known = {
    503: "The model cannot answer now (503): ",
    408: "Too late (408): ",
    404: "Not found (404): ",
    413: "Too large (413): ",
    400: "The server refused this input (400): ",
    401: "A token is needed (401): ",
  };
  return `${known[failure.status] ?? `The server answered ${failure.status}: `}${failure.message}${again}`;
}
