// What can be done with a model, read off its metadata.

const SMALL_PX = 64;
const CHANNELS = [1, 3, 4];

/**
 * Returns {tensor, layout, height, width, channels} where a model takes one picture, null else; sizes are null where
 * the model takes any. The same rule as the server's: the last axis holds the channels if its size may be a number
 * of them, else the first.
 */
export function pictureInput(about) {
  const tensor = about.inputs[0];
  if (about.inputs.length !== 1 || tensor.shape.length !== 4 || ["BYTES", "BOOL"].includes(tensor.datatype)) return null;
  const [, a, b, c] = tensor.shape.map((axis) => (axis < 0 ? null : axis));
  if (c === null || CHANNELS.includes(c)) return { tensor, layout: "NHWC", height: a, width: b, channels: c ?? 3 };
  if (a === null || CHANNELS.includes(a)) return { tensor, layout: "NCHW", height: b, width: c, channels: a ?? 3 };
  return null;
}

/** Returns whether a picture is small, square and grey enough to be drawn by hand. */
export function isDrawable(picture) {
  return picture !== null && picture.channels === 1 && picture.height === picture.width && picture.height !== null
    && picture.height <= SMALL_PX;
}

/** Returns how many scores a classifier answers, 0 for any other model. */
export function classCount(about) {
  const [output] = about.outputs;
  const isScores = about.outputs.length === 1 && output.shape.length === 2 && output.datatype !== "BYTES";
  return isScores && output.shape[1] > 1 ? output.shape[1] : 0;
}

const ALL_UP_TO = 20;
const BEST = 5;

/** Returns the `outputs` member that asks a classifier for its labels, all of them where they are few. */
export function wantedClasses(about) {
  const classes = classCount(about);
  if (!classes) return [];
  const parameters = { classification: classes <= ALL_UP_TO ? classes : BEST };
  return [{ name: about.outputs[0].name, parameters }];
}

/** Returns [{index, label, score}] of one row's classification texts, `value:index[:label]`, in index order. */
export function classesOf(texts) {
  return texts
    .map((text) => {
      const [score, index, ...label] = text.split(":");
      return { index: Number(index), label: label.join(":") || index, score: Number(score) };
    })
    .sort((a, b) => a.index - b.index);
}
