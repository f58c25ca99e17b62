// Strokes to the picture a digit model was trained on.
//
// As MNIST was made (http://yann.lecun.com/exdb/mnist/): the drawing is scaled to fit a box of 20 of the picture's 28
// pixels, aspect kept, and moved so that its centre of mass is the picture's centre. Strokes are drawn anew at that
// scale, so a small digit gets the same line width as a large one.

const BOX = 20 / 28;
const LINE = 2.6 / 28;
const OVERSAMPLE = 8;
const SMALLEST_BOX = 0.12;

/**
 * Returns the picture of `strokes` as `side * side` greys, 0 (ground) to 1 (ink), row by row, float32; all 0 without
 * strokes. A stroke is a list of points {x, y} in 0..1 of the drawing area.
 */
export function render(strokes, side) {
  const points = strokes.flat();
  if (!points.length) return new Float32Array(side * side);
  const size = side * OVERSAMPLE;
  const line = LINE * size;
  const [xs, ys] = [points.map((point) => point.x), points.map((point) => point.y)];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (BOX * size - line) / Math.max(right - left, bottom - top, SMALLEST_BOX);
  const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
  const once = paint(strokes, size, line, scale, size / 2 - middle.x * scale, size / 2 - middle.y * scale);
  const mass = centreOfMass(once, size);
  const twice = paint(
    strokes, size, line, scale,
    size - mass.x - middle.x * scale, size - mass.y - middle.y * scale,
  );
  return shrink(twice, side);
}

/** Adds a stroke's smooth line to a canvas path: curves through the middles between its points. */
export function trace(context, points) {
  const [first, ...rest] = points;
  context.moveTo(first.x, first.y);
  if (!rest.length) context.lineTo(first.x + 0.01, first.y);
  rest.forEach((point, i) => {
    const next = rest[i + 1];
    if (next) context.quadraticCurveTo(point.x, point.y, (point.x + next.x) / 2, (point.y + next.y) / 2);
    else context.lineTo(point.x, point.y);
  });
}

let sheet = null;

function paint(strokes, size, line, scale, dx, dy) {
  sheet ??= document.createElement("canvas");
  sheet.width = sheet.height = size;
  // Read back on every stroke: a canvas on the GPU would stall for it.
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, size, size);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: line, lineCap: "round", lineJoin: "round" });
  context.beginPath();
  for (const stroke of strokes) trace(context, stroke.map(({ x, y }) => ({ x: x * scale + dx, y: y * scale + dy })));
  context.stroke();
  return context.getImageData(0, 0, size, size).data;
}

function centreOfMass(pixels, size) {
  let [mass, x, y] = [0, 0, 0];
  for (let i = 0; i < size * size; i++) {
    const ink = pixels[i * 4];
    mass += ink;
    x += ink * ((i % size) + 0.5);
    y += ink * (Math.floor(i / size) + 0.5);
  }
  return { x: x / mass, y: y / mass };
}

/** Averages blocks of OVERSAMPLE × OVERSAMPLE pixels. */
function shrink(pixels, side) {
  const greys = new Float32Array(side * side);
  const size = side * OVERSAMPLE;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      greys[Math.floor(y / OVERSAMPLE) * side + Math.floor(x / OVERSAMPLE)] += pixels[(y * size + x) * 4];
    }
  }
  return greys.map((sum) => sum / (255 * OVERSAMPLE * OVERSAMPLE));
}
