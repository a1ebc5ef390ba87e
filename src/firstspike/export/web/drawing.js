// Strokes of a mouse or a finger, and the pictures that they become.

/** Least way between two points of a stroke, as a share of the canvas. */
const LEAST_WAY = 0.01;
/** A small drawing is enlarged this many times at most. */
const MOST_ENLARGED = 4;

class Paper {
  /**
   * @param canvas to draw on.
   * @param shape height and width of the picture.
   * @param pen see pictureOf.
   * @param onChange called with whether a stroke is still being drawn.
   */
  constructor(canvas, shape, pen, onChange) {
    Object.assign(this, { canvas, shape, pen, onChange });
    canvas.style.aspectRatio = `${shape[1]} / ${shape[0]}`;
    /** Strokes, each of points [x, y] in pixels of the picture. */
    this.strokes = [];
    this.drawing = false;
    const end = () => {
      if (!this.drawing) return;
      this.drawing = false;
      this.onChange(false);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.drawing = true;
      this.strokes.push([this.pointOf(event)]);
      this.onChange(true);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drawing || !event.isPrimary) return;
      const passed = event.getCoalescedEvents?.() ?? [];
      for (const each of passed.length ? passed : [event]) this.extend(this.pointOf(each));
      this.onChange(true);
    });
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }

  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const [height, width] = this.shape;
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [x * width, y * height];
  }

  extend([x, y]) {
    const stroke = this.strokes.at(-1);
    const [lastX, lastY] = stroke.at(-1);
    if (Math.hypot(x - lastX, y - lastY) >= LEAST_WAY * this.shape[1]) stroke.push([x, y]);
  }

  clear() {
    this.strokes = [];
    this.drawing = false;
  }

  /** Paint the strokes where they were drawn. */
  paint() {
    const fit = fitted(this.canvas, this.shape[1], this.shape[0]);
    if (!fit) return;
    const { context, scale } = fit;
    context.strokeStyle = palette.ink;
    context.lineWidth = this.pen.line * scale;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      // A little beside, so that a tap is a dot: a line of no length is not drawn.
      context.moveTo(stroke[0][0] * scale + 0.01, stroke[0][1] * scale);
      for (const [x, y] of stroke) context.lineTo(x * scale, y * scale);
      context.stroke();
    }
  }
}

/**
 * Return the picture of strokes as MNIST's were made, intensities row by row: the drawing fills a box, and
 * its centre of mass is moved to the centre.
 *
 * @param strokes each of points [x, y].
 * @param shape height and width of the picture.
 * @param pen line: a line's width; box: the drawing's larger side; centre: [y, x] of its mass; in pixels.
 */
function pictureOf(strokes, [height, width], { line, box, centre }) {
  const points = strokes.flat();
  if (points.length === 0) return new Uint8Array(height * width);
  const low = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const high = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
  const side = Math.max(high[0] - low[0], high[1] - low[1]);
  // A line is as wide everywhere, so that it reaches half its width beyond the points.
  // Lines thicker than the box leave a dot.
  const scale = Math.min(Math.max(box - line, 1) / side, MOST_ENLARGED);
  const placed = ([left, top]) =>
    strokes.map((stroke) => stroke.map(([x, y]) => [(x - low[0]) * scale + left, (y - low[1]) * scale + top]));
  // In the middle first, to find where the mass lies; then moved, as far as the drawing stays inside.
  const size = [width, height];
  const extent = [0, 1].map((axis) => (high[axis] - low[axis]) * scale);
  const middle = [0, 1].map((axis) => (size[axis] - extent[axis]) / 2);
  const mass = massOf(inked(placed(middle), height, width, line), width);
  const moved = [0, 1].map((axis) => {
    const edge = line / 2;
    const wanted = middle[axis] + centre[1 - axis] - mass[axis];
    const most = size[axis] - edge - extent[axis];
    return most < edge ? middle[axis] : Math.max(edge, Math.min(most, wanted));
  });
  return inked(placed(moved), height, width, line);
}

/** Return a picture of strokes: white within half a line's width, fading over a pixel at the edge. */
function inked(strokes, height, width, line) {
  const picture = new Uint8Array(height * width);
  const reach = line / 2 + 0.5;
  const ink = (x, y, distance) => {
    const grey = Math.round(255 * Math.max(0, Math.min(1, reach - distance)));
    const at = y * width + x;
    if (grey > picture[at]) picture[at] = grey;
  };
  for (const stroke of strokes) {
    for (let i = 0; i < stroke.length; i++) {
      const [x0, y0] = stroke[Math.max(0, i - 1)];
      const [x1, y1] = stroke[i];
      const [dx, dy] = [x1 - x0, y1 - y0];
      const length = dx * dx + dy * dy;
      const [left, right] = [Math.min(x0, x1) - reach, Math.max(x0, x1) + reach].map(Math.floor);
      const [top, bottom] = [Math.min(y0, y1) - reach, Math.max(y0, y1) + reach].map(Math.floor);
      for (let y = Math.max(0, top); y <= Math.min(height - 1, bottom); y++) {
        for (let x = Math.max(0, left); x <= Math.min(width - 1, right); x++) {
          const [px, py] = [x + 0.5 - x0, y + 0.5 - y0];
          const along = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
          ink(x, y, Math.hypot(px - along * dx, py - along * dy));
        }
      }
    }
  }
  return picture;
}

/** Return the centre of mass [x, y] of a picture, in pixels. */
function massOf(picture, width) {
  let [total, x, y] = [0, 0, 0];
  picture.forEach((grey, at) => {
    total += grey;
    x += grey * ((at % width) + 0.5);
    y += grey * (Math.floor(at / width) + 0.5);
  });
  return [x / total, y / total];
}
