// A page that decides: draw or pick a picture, and walk to the first output spike.

/** Milliseconds after a stroke until the clock runs, so that the next stroke may begin. */
const PAUSE_BEFORE_PLAYING = 600;

const model = readDocument(byId("document"));
const network = new Network(model.network);
const { shape, images, labels, pen } = model;
const pixelCount = shape[0] * shape[1];
const imageCount = images.length / pixelCount;
const imageOf = (index) => images.slice(index * pixelCount, (index + 1) * pixelCount);

/** What is shown: intensities, the image that they are of or -1, and what the network makes of them. */
const shown = { pixels: new Uint8Array(pixelCount), image: -1, result: null };

/** The outputs, a row each, with a dot at its spike. */
class OutputPanel {
  constructor() {
    const last = network.layers.length;
    this.offset = network.offsets[last];
    this.steps = network.windows[last];
    this.list = make("ol");
    this.rows = Array.from({ length: network.sizes[last] }, (_, output) => {
      const track = make("span", { className: "track" }, make("i"));
      const time = make("span", { className: "time" });
      const row = make("li", {}, make("b", {}, String(output)), track, time);
      this.list.append(row);
      return { row, dot: track.firstChild, time };
    });
    const about = [sizeWords(this.rows.length), make("span", {}, spanWords(this.offset, this.steps))];
    this.element = make(
      "section",
      { className: "card panel outputs" },
      make("h2", {}, "Output"),
      make("p", { className: "about" }, ...about),
      this.list,
    );
  }

  paint(result, step) {
    const now = step - this.offset;
    const share = (time) => `${(100 * Math.min(Math.max(time, 0), this.steps)) / this.steps}%`;
    this.list.style.setProperty("--now", share(result ? now : 0));
    this.element.classList.toggle("active", Boolean(result) && now >= 0 && now < this.steps);
    const times = result?.times.at(-1);
    this.rows.forEach(({ row, dot, time }, output) => {
      const fired = Boolean(times) && times[output] < this.steps && times[output] <= now;
      dot.hidden = !fired;
      time.textContent = fired ? this.offset + times[output] : "";
      const leads = fired && result.leaders.includes(output);
      row.classList.toggle("first", leads);
      row.classList.toggle("late", fired && !leads);
      if (fired) {
        dot.style.left = share(times[output]);
        dot.style.background = leads ? "" : colourOf(times[output], this.steps);
      }
    });
  }
}

/** Return the decision as a sign and in words, at a step of the clock. */
function verdictAt(step) {
  const { result, image } = shown;
  if (!result) return ["", `The canvas is empty. Draw on it${imageCount ? ", or pick a test image" : ""}.`];
  if (step < result.step) return ["⋯", "No output has fired yet."];
  if (result.leaders.length === 0) {
    return ["–", `Silence: no output fires in ${network.end} steps, so there is no decision.`];
  }
  if (result.label < 0) {
    const tied = result.leaders.join(" and ");
    return ["?", `A tie: outputs ${tied} fire together at step ${result.step}, so there is no decision.`];
  }
  const decision = `${result.label} at step ${result.step}, by the first output spike`;
  if (image < 0 || !labels) return [String(result.label), `${decision}.`];
  const verdict = labels[image] === result.label ? "right" : `wrong, the label is ${labels[image]}`;
  return [String(result.label), `${decision}: ${verdict}.`];
}

const hidden = Array.from({ length: network.layers.length - 1 }, (_, depth) => {
  const name = network.kinds[depth].includes("Pool") ? `Layer ${depth + 1}, pooling` : `Layer ${depth + 1}`;
  return new Panel(network, depth + 1, name, null);
});
const panels = [new Panel(network, 0, "Input", shape), ...hidden];
const output = new OutputPanel();
byId("panels").append(...panels.map((panel) => panel.element), output.element);

/** The timer that lets the clock run after a stroke. */
let replay = null;
const clock = new Clock(network, paintStep);
const paper = new Paper(byId("paper"), shape, pen, (drawing) => {
  show(pictureOf(paper.strokes, shape, pen), -1);
  paintPaper();
  clearTimeout(replay);
  if (drawing) clock.jump(clock.goal);
  else if (!calm.matches) replay = setTimeout(playFromStart, PAUSE_BEFORE_PLAYING);
});

function paintStep(step) {
  const { result } = shown;
  panels.forEach((panel, population) => panel.paint(result?.times[population], step));
  output.paint(result, step);
  // With the decision the network is done.
  const counted = result ? Math.min(step, result.step) : 0;
  setText(byId("spikes"), grouped(result ? result.spikesAt[counted] : 0));
  setText(byId("operations"), grouped(result ? result.operationsAt[counted] : 0));
  const [sign, words] = verdictAt(step);
  setText(byId("digit"), sign);
  setText(byId("sentence"), words);
}

function paintPaper() {
  const drawn = shown.image < 0;
  if (drawn) paper.paint();
  else paintPicture(byId("paper"), shown.pixels, shape);
  byId("hint").hidden = !drawn || paper.strokes.length > 0;
}

/** Take a picture; an empty one is not given to the network. */
function show(pixels, image) {
  shown.pixels = pixels;
  shown.image = image;
  shown.result = pixels.some((grey) => grey > 0) ? network.run(network.encode(pixels)) : null;
  clock.setGoal(shown.result?.step ?? 0, Boolean(shown.result?.leaders.length));
  for (const [index, element] of [...byId("samples").children].entries()) {
    element.setAttribute("aria-selected", index === image);
    element.tabIndex = index === Math.max(0, image) ? 0 : -1;
  }
}

function pick(index, playing = !calm.matches) {
  clearTimeout(replay);
  paper.clear();
  show(imageOf(index), index);
  paintPaper();
  byId("samples").children[index].scrollIntoView({ block: "nearest", inline: "nearest" });
  if (playing) playFromStart();
  else clock.jump(clock.goal);
}

function playFromStart() {
  clock.set(0);
  clock.play();
}

function clear() {
  clearTimeout(replay);
  paper.clear();
  show(new Uint8Array(pixelCount), -1);
  paintPaper();
  clock.jump(0);
}

/** Pick the next image of a class. */
function pickClass(label) {
  for (let i = 1; i <= imageCount; i++) {
    const index = (shown.image + i + imageCount) % imageCount;
    if (labels?.[index] === label) return pick(index);
  }
}

function pickByKey(event) {
  const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!move) return;
  event.preventDefault();
  const index = Math.max(0, Math.min(imageCount - 1, shown.image + move));
  pick(index);
  byId("samples").children[index].focus();
}

for (let index = 0; index < imageCount; index++) {
  const canvas = make("canvas");
  const name = labels ? `Test image ${index + 1}, a ${labels[index]}` : `Test image ${index + 1}`;
  const option = make("button", { type: "button", title: name }, canvas);
  option.setAttribute("role", "option");
  option.setAttribute("aria-label", name);
  option.addEventListener("click", () => pick(index));
  byId("samples").append(option);
}
byId("samples").addEventListener("keydown", pickByKey);
byId("picker").hidden = imageCount === 0;
byId("class-keys").hidden = !labels;
byId("clear").addEventListener("click", clear);
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Delete" || event.key === "Backspace") clear();
  else if (/^\d$/.test(event.key)) pickClass(Number(event.key));
});

byId("network-words").textContent = networkWords(network);
keepPainted(() => {
  [...byId("samples").children].forEach((option, index) => {
    paintPicture(option.firstChild, imageOf(index), shape);
  });
  paintPaper();
  paintStep(clock.step);
});
if (imageCount) pick(0, false);
else clear();

window.firstspike = {
  /** Decide on intensities, channel by channel, and end at the first output spike. */
  decide(pixels) {
    const { label, step, spikes, operations } = network.run(network.encode(pixels), true);
    return { label, step, spikes, operations };
  },
  /** The intensities that are shown now. */
  pixels: () => shown.pixels,
};
