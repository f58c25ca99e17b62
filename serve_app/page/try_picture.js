// Drop or pick a picture.

import { explain, infer } from "./api.js";
import { el, setText } from "./dom.js";
import { outputsPanel } from "./outputs.js";
import { receipt } from "./receipt.js";
import { scoreBars } from "./scores.js";
import { classCount } from "./signature.js";

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff"];

/** Returns the drop zone of a model that takes one picture. */
export function tryPicture(model) {
  const bars = classCount(model.about) ? scoreBars("No picture yet.") : outputsPanel("No picture yet.");
  const slip = receipt();
  const trouble = el("p", { class: "trouble", role: "alert" });
  const preview = el("img", { class: "preview", alt: "", hidden: true });
  const name = el("span", { class: "quiet" });
  const predict = async (file) => {
    if (!file) return;
    setText(name, file.name);
    if (!TYPES.includes(file.type)) {
      setText(trouble, `${file.name} is no PNG, JPEG, WebP, BMP, GIF or TIFF; the server reads only these.`);
      return;
    }
    URL.revokeObjectURL(preview.src);
    Object.assign(preview, { src: URL.createObjectURL(file), alt: file.name, hidden: false });
    try {
      const answered = await infer(`${model.path}/infer`, file, { "Content-Type": file.type });
      bars.show(answered.answer.top ?? answered.answer.outputs);
      slip.show(answered);
      setText(trouble, "");
    } catch (failure) {
      bars.clear();
      setText(trouble, explain(failure));
    }
  };
  return el("div", { class: "try try-picture" },
    el("div", { class: "try-in" }, dropZone(predict, preview, name)),
    el("div", { class: "try-out" }, trouble, bars.node, slip.node),
  );
}

function dropZone(predict, preview, name) {
  const input = el("input", {
    type: "file", accept: TYPES.join(","), class: "file",
    onchange: () => predict(input.files[0]).finally(() => { input.value = ""; }),
  });
  const zone = el("label", { class: "drop" },
    preview, el("strong", { text: "Drop a picture here" }), el("span", { text: "or choose a file" }), name, input);
  const over = (isOver) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", isOver);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (event) => {
    over(false)(event);
    predict(event.dataTransfer.files[0]);
  });
  return zone;
}
