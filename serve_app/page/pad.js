// A surface to draw on with mouse, finger, pen or arrow keys.

import { el } from "./dom.js";
import { trace } from "./ink.js";

const SIZE_PX = 560;
const LINE_PX = 40;
const STEP = 0.04;
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/** Returns {node, strokes, clear, undo}; `onchange` is called after every change. */
export function pad(onchange) {
  const node = el("canvas", {
    class: "pad", width: SIZE_PX, height: SIZE_PX, tabindex: 0, role: "application",
    "aria-label": "Drawing area. Draw with a pointer; or move with the arrow keys, and press space to put the pen down or lift it. Escape clears.",
  });
  const context = node.getContext("2d");
  const state = { strokes: [], pen: { x: 0.5, y: 0.2 }, isDown: false, byKeys: false };

  const draw = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE_PX, SIZE_PX);
    Object.assign(context, { strokeStyle: "#fff", lineWidth: LINE_PX, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    for (const stroke of state.strokes) trace(context, stroke.map(({ x, y }) => ({ x: x * SIZE_PX, y: y * SIZE_PX })));
    context.stroke();
    if (state.byKeys) drawPen(context, state);
  };
  const changed = () => {
    draw();
    onchange(state.strokes);
  };
  const clear = () => {
    Object.assign(state, { strokes: [], isDown: false });
    changed();
  };
  const undo = () => {
    state.strokes.pop();
    changed();
  };
  listenToPointer(node, state, changed);
  listenToKeys(node, state, changed, draw, clear);
  draw();
  return { node, strokes: () => state.strokes, clear, undo };
}

function drawPen(context, { pen, isDown }) {
  context.save();
  Object.assign(context, { strokeStyle: "#fb923c", fillStyle: "#fb923c", lineWidth: 4 });
  context.beginPath();
  context.arc(pen.x * SIZE_PX, pen.y * SIZE_PX, LINE_PX / 2 + 4, 0, 2 * Math.PI);
  context.stroke();
  if (isDown) context.fill();
  context.restore();
}

function listenToPointer(node, state, changed) {
  const at = (event) => {
    const box = node.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  let drawing = null;
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || drawing !== null) return;
    node.setPointerCapture(event.pointerId);
    drawing = event.pointerId;
    Object.assign(state, { byKeys: false, isDown: false });
    state.strokes.push([at(event)]);
    changed();
  });
  node.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    // A screen shows fewer moves than the pointer makes: without these, fast curves have corners.
    const events = event.getCoalescedEvents?.() ?? [];
    state.strokes.at(-1)?.push(...(events.length ? events : [event]).map(at));
    changed();
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    node.addEventListener(end, (event) => {
      if (event.pointerId === drawing) drawing = null;
    });
  }
}

function listenToKeys(node, state, changed, draw, clear) {
  const inside = (position) => Math.max(0.04, Math.min(0.96, position));
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key];
    if (!move && ![" ", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") return clear();
    state.byKeys = true;
    if (event.key === " ") {
      state.isDown = !state.isDown;
      if (state.isDown) state.strokes.push([{ ...state.pen }]);
      return changed();
    }
    state.pen = { x: inside(state.pen.x + move[0]), y: inside(state.pen.y + move[1]) };
    if (!state.isDown) return draw();
    state.strokes.at(-1).push({ ...state.pen });
    changed();
  });
  node.addEventListener("blur", () => {
    Object.assign(state, { byKeys: false, isDown: false });
    draw();
  });
}
