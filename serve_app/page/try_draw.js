// Draw a digit and watch its scores.

import { explain, infer } from "./api.js";
import { el, setText } from "./dom.js";
import { render } from "./ink.js";
import { pad } from "./pad.js";
import { receipt } from "./receipt.js";
import { scoreBars } from "./scores.js";
import { outputsPanel } from "./outputs.js";
import { classCount, classesOf, wantedClasses } from "./signature.js";
import { isFloat, outputsOf, request } from "./tensors.js";

/** Returns the drawing board of a model whose input is `picture` (see `isDrawable`). */
export function tryDraw(model, picture) {
  const bars = classCount(model.about) ? scoreBars("Draw a digit.") : outputsPanel("Draw something.");
  const slip = receipt();
  const trouble = el("p", { class: "trouble", role: "alert" });
  const seen = el("canvas", { class: "seen", width: picture.width, height: picture.height, role: "img",
    "aria-label": `What the model sees: ${picture.width} by ${picture.height} pixels` });
  const predict = latestOnly(async (strokes) => {
    const greys = render(strokes, picture.width);
    showGreys(seen, greys);
    if (!strokes.length) return bars.clear();
    try {
      const answered = await send(model, picture, greys);
      if (!board.strokes().length) return undefined;
      const outputs = outputsOf(answered.answer, answered.headers);
      bars.show(classCount(model.about) ? classesOf(outputs[0].data) : outputs);
      slip.show(answered);
      setText(trouble, "");
    } catch (failure) {
      setText(trouble, explain(failure));
    }
    return undefined;
  });
  const board = pad(predict);
  showGreys(seen, new Float32Array(picture.width * picture.height));
  const tools = el("div", { class: "tools" },
    el("button", { type: "button", text: "Clear", onclick: board.clear }),
    el("button", { type: "button", text: "Undo", onclick: board.undo }),
    el("figure", {}, seen, el("figcaption", { text: "what the model sees" })),
  );
  return el("div", { class: "try try-draw" },
    el("div", { class: "try-in" }, board.node, tools),
    el("div", { class: "try-out" }, trouble, bars.node, slip.node),
  );
}

function send(model, picture, greys) {
  const { tensor, layout, width, height } = picture;
  const values = isFloat(tensor.datatype) ? greys : Array.from(greys, (grey) => Math.round(grey * 255));
  const shape = layout === "NHWC" ? [1, height, width, 1] : [1, 1, height, width];
  const { body, headers } = request([{ name: tensor.name, datatype: tensor.datatype, shape, values }], wantedClasses(model.about), true);
  return infer(`${model.path}/infer`, body, headers);
}

function showGreys(canvas, greys) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  greys.forEach((grey, i) => image.data.set([grey * 255, grey * 255, grey * 255, 255], i * 4));
  context.putImageData(image, 0, 0);
}

/** Returns a function that runs `work` on its newest argument, one at a time, at most once a frame. */
function latestOnly(work) {
  let [running, waiting] = [false, null];
  const run = async () => {
    running = true;
    while (waiting !== null) {
      const [argument] = waiting;
      waiting = null;
      await work(argument);
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    running = false;
  };
  return (argument) => {
    waiting = [argument];
    if (!running) run();
  };
}
