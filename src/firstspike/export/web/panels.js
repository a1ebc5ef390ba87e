// Pictures of neurons: a cell each, lit from its spike on, in the colour of its time.

/** Maps of a layer that are shown. */
const MOST_MAPS = 64;
/** Width of a single neuron at most. */
const MOST_PIXELS = 16;
/** Shades between an early and a late spike. */
const SHADES = 64;

/** Colours of the scheme that the reader has, as the style sheet names them. */
const palette = {};
function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["early", "middle", "late", "cell", "ink"]) {
    palette[name] = style.getPropertyValue(`--${name}`).trim();
  }
  const [early, middle, late] = [palette.early, palette.middle, palette.late].map(channelsOf);
  palette.times = Array.from({ length: SHADES }, (_, i) => {
    const at = (2 * i) / (SHADES - 1);
    const [from, to, part] = at < 1 ? [early, middle, at] : [middle, late, at - 1];
    return `rgb(${from.map((value, k) => Math.round(value + (to[k] - value) * part)).join(" ")})`;
  });
}

/** Return red, green and blue of "#rrggbb". */
const channelsOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** Return the colour of a spike at a step of a window. */
const colourOf = (time, steps) => palette.times[Math.floor((time * SHADES) / steps)];

/** Fit a canvas's pixels to the size at which it is shown; return its context and scale, null if hidden. */
function fitted(canvas, columns, rows) {
  const ratio = window.devicePixelRatio || 1;
  const scale = Math.floor((canvas.clientWidth * ratio * 64) / columns) / 64;
  if (scale <= 0) return null;
  const width = Math.round(columns * scale);
  const height = Math.round(rows * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, scale };
}

/** Paint cells, `colour(column, row)` each or nothing, with gaps where they are large enough for them. */
function paintCells(canvas, columns, rows, colour, round = false) {
  const fit = fitted(canvas, columns, rows);
  if (!fit) return;
  const { context, scale } = fit;
  const gap = scale >= 5 ? Math.max(1, Math.round(scale * (round ? 0.18 : 0.08))) : 0;
  for (let row = 0; row < rows; row++) {
    const top = Math.round(row * scale);
    const height = Math.round((row + 1) * scale) - top - gap;
    for (let column = 0; column < columns; column++) {
      const fill = colour(column, row);
      if (!fill) continue;
      const left = Math.round(column * scale);
      const width = Math.round((column + 1) * scale) - left - gap;
      context.fillStyle = fill;
      if (gap) {
        context.beginPath();
        context.roundRect(left, top, width, height, round ? width / 2 : width / 6);
        context.fill();
      } else {
        context.fillRect(left, top, width, height);
      }
    }
  }
}

/** Paint a picture of intensities in ink. */
function paintPicture(canvas, pixels, [height, width]) {
  const [red, green, blue] = channelsOf(palette.ink);
  const image = new ImageData(width, height);
  for (let i = 0; i < pixels.length; i++) {
    image.data[4 * i] = red;
    image.data[4 * i + 1] = green;
    image.data[4 * i + 2] = blue;
    image.data[4 * i + 3] = pixels[i];
  }
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The spikes of a population: its neurons in a grid, or its maps side by side. */
class Panel {
  /**
   * @param network whose population it is.
   * @param population 0 the input, then the layers.
   * @param title of the panel.
   * @param shape height and width if neurons form a picture, else null.
   */
  constructor(network, population, title, shape) {
    this.size = network.sizes[population];
    this.offset = network.offsets[population];
    this.steps = network.windows[population];
    const [channels, height = 1, width = 1] = network.shapes[population];
    this.round = height * width === 1 && !shape;
    const maps = shape || this.round ? channels : Math.min(channels, MOST_MAPS);
    if (shape || this.round) {
      // Features, as a picture or as a grid.
      const columns = shape ? shape[1] : Math.ceil(Math.sqrt(channels));
      this.grid = { columns, rows: shape ? shape[0] : Math.ceil(channels / columns) };
      this.neuronAt = (column, row) => row * columns + column;
    } else {
      const across = Math.ceil(Math.sqrt(maps));
      const down = Math.ceil(maps / across);
      // One cell between maps.
      this.grid = { columns: across * (width + 1) - 1, rows: down * (height + 1) - 1 };
      this.neuronAt = (column, row) => {
        const map = Math.floor(row / (height + 1)) * across + Math.floor(column / (width + 1));
        const [x, y] = [column % (width + 1), row % (height + 1)];
        return x < width && y < height && map < maps ? (y * width + x) * channels + map : -1;
      };
    }
    this.canvas = make("canvas");
    // Few neurons need not be large.
    if (this.round) this.canvas.style.maxWidth = `${MOST_PIXELS * this.grid.columns}px`;
    this.canvas.setAttribute("role", "img");
    this.count = make("span", { className: "count" });
    const words = sizeWords(channels, height, width, shape) + (maps < channels ? `, ${maps} shown` : "");
    this.element = make(
      "section",
      { className: "card panel" },
      make("h2", {}, title),
      make("p", { className: "about" }, make("span", {}, words), this.count),
      this.canvas,
    );
    this.title = title;
  }

  /** Show the spikes up to a step of the clock; no times, no spikes. */
  paint(times, step) {
    const now = step - this.offset;
    let count = 0;
    if (times) for (const time of times) if (time < this.steps && time <= now) count += 1;
    const words = `${grouped(count)} fired`;
    this.count.textContent = words;
    this.canvas.setAttribute("aria-label", `${this.title}: ${words}`);
    this.element.classList.toggle("active", Boolean(times) && now >= 0 && now < this.steps);
    const { columns, rows } = this.grid;
    const colour = (column, row) => {
      const neuron = this.neuronAt(column, row);
      if (neuron < 0 || neuron >= this.size) return null;
      const time = times ? times[neuron] : this.steps;
      return time < this.steps && time <= now ? colourOf(time, this.steps) : palette.cell;
    };
    paintCells(this.canvas, columns, rows, colour, this.round);
  }
}

/** Return the size of a population in words. */
function sizeWords(channels, height = 1, width = 1, shape = null) {
  if (shape) return `${shape[0]} × ${shape[1]}`;
  if (height * width === 1) return `${grouped(channels)} neurons`;
  return `${grouped(channels)} maps of ${height} × ${width}`;
}

/** Call `paint` now, and whenever the scheme's colours or the window's size change. */
function keepPainted(paint) {
  const again = () => {
    readPalette();
    paint();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("resize", again);
  again();
}
