// A page that generates: noise and a label in, pixels arriving in time.

const GRID = { columns: 10, rows: 4 };

const model = readDocument(byId("document"));
const network = new Network(model.network);
const { shape, noise, classes, greys } = model;
const pixelSteps = network.windows.at(-1);
const pixelOffset = network.offsets.at(-1);

/** The seed, the label or -1 for all, and the grid's pictures, of which one is shown large. */
const shown = { seed: 0, label: -1, chosen: 0, pictures: [] };

/**
 * Return levels 0 ... 255 of the noise neurons: mulberry32, a generator of 32 bits (Tommy Ettinger, public
 * domain), whose numbers are dealt to one picture after the other; the highest 8 bits of each are a level.
 */
function noiseOf(seed, picture) {
  let state = (seed + Math.imul(picture * noise, 0x6d2b79f5)) | 0;
  return Uint8Array.from({ length: noise }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 24) & 255;
  });
}

/** Return what the network makes of noise levels and a label, which only a conditional generator takes. */
function generate(levels, label) {
  checkLength(levels, noise, "levels of noise");
  if (classes && !(label >= 0 && label < classes)) throw new RangeError(`expected a label below ${classes}`);
  const input = new Int32Array(noise + classes).fill(network.steps);
  levels.forEach((level, neuron) => (input[neuron] = network.codes[level]));
  // Of the label's neurons one fires, at the first step.
  if (classes) input[noise + label] = 0;
  return network.run(input);
}

/** Return the picture as far as its pixels have arrived at a step of the clock. */
function pictureAt(result, step) {
  const now = step - pixelOffset;
  return Uint8Array.from(result.times.at(-1), (time) => greys[time <= now ? time : pixelSteps]);
}

const pictureCount = GRID.columns * GRID.rows;
const labelOf = (picture) => (shown.label >= 0 ? shown.label : picture % Math.max(1, classes));

/** Make the pictures of the seed and the label. */
function renew() {
  const made = (_, picture) => generate(noiseOf(shown.seed, picture), labelOf(picture));
  shown.pictures = Array.from({ length: pictureCount }, made);
  [...byId("grid").children].forEach((option, picture) => {
    const name = classes ? `Picture ${picture + 1}, label ${labelOf(picture)}` : `Picture ${picture + 1}`;
    option.setAttribute("aria-label", name);
    option.title = name;
  });
}

function choose(picture) {
  shown.chosen = picture;
  [...byId("grid").children].forEach((option, index) => {
    option.setAttribute("aria-selected", index === picture);
    option.tabIndex = index === picture ? 0 : -1;
  });
}

function paintStep(step) {
  const result = shown.pictures[shown.chosen];
  panels.forEach((panel, population) => panel.paint(result.times[population], step));
  paintPicture(byId("picture"), pictureAt(result, step), shape);
  [...byId("grid").children].forEach((option, picture) => {
    paintPicture(option.firstChild, pictureAt(shown.pictures[picture], step), shape);
  });
  setText(byId("spikes"), grouped(result.spikesAt[step]));
  setText(byId("operations"), grouped(result.operationsAt[step]));
  const words = wordsAt(result, step);
  setText(byId("sentence"), words);
  byId("picture").setAttribute("aria-label", words);
}

function wordsAt(result, step) {
  const what = classes ? `Label ${labelOf(shown.chosen)}, seed ${shown.seed}` : `Seed ${shown.seed}`;
  const place = `picture ${shown.chosen + 1} of the grid`;
  if (step < pixelOffset) return `${what}, ${place}: no pixel yet.`;
  if (step < network.end) return `${what}, ${place}: pixels arrive, the strongest first.`;
  const pixels = result.times.at(-1).reduce((count, time) => count + (time < pixelSteps), 0);
  return `${what}, ${place}: ${grouped(pixels)} pixels fired, the others are silent.`;
}

/** Take a seed, refusing what is none. */
function seedTo(text) {
  const seed = Number(text);
  const good = /^\d+$/.test(text) && seed < 2 ** 32;
  byId("seed-message").hidden = good;
  byId("seed-message").textContent = good ? "" : "A seed is an integer from 0 to 4,294,967,295.";
  byId("seed").setAttribute("aria-invalid", !good);
  if (!good) return;
  shown.seed = seed;
  renew();
  paintStep(clock.step);
}

function another() {
  byId("seed").value = (shown.seed + 1) % 2 ** 32;
  seedTo(byId("seed").value);
  if (calm.matches) clock.jump(clock.goal);
  else {
    clock.set(0);
    clock.play();
  }
}

function labelTo(label) {
  byId("labels").querySelector(`input[value="${label}"]`).checked = true;
  shown.label = label;
  renew();
  paintStep(clock.step);
}

function chooseByKey(event) {
  const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const picture = shown.chosen + move;
  if (!move || picture < 0 || picture >= pictureCount) return;
  event.preventDefault();
  choose(picture);
  paintStep(clock.step);
  byId("grid").children[picture].focus();
}

const panels = network.sizes.map((_, population) => {
  if (population === network.layers.length) return new Panel(network, population, "Output: pixels", shape);
  const input = classes ? "Input: noise and label" : "Input: noise";
  return new Panel(network, population, population === 0 ? input : `Layer ${population}`, null);
});
byId("panels").append(...panels.map((panel) => panel.element));
const clock = new Clock(network, paintStep);

for (let picture = 0; picture < pictureCount; picture++) {
  const option = make("button", { type: "button" }, make("canvas"));
  option.setAttribute("role", "option");
  option.addEventListener("click", () => {
    choose(picture);
    paintStep(clock.step);
  });
  byId("grid").append(option);
}
byId("grid").addEventListener("keydown", chooseByKey);
byId("grid").style.setProperty("--columns", GRID.columns);
byId("picture").style.aspectRatio = `${shape[1]} / ${shape[0]}`;
byId("labels").hidden = byId("label-keys").hidden = classes === 0;
for (const label of classes ? [-1, ...Array(classes).keys()] : []) {
  const radio = make("input", { type: "radio", name: "label", value: label, checked: label < 0 });
  radio.addEventListener("change", () => labelTo(label));
  byId("labels").append(make("label", {}, radio, make("span", {}, label < 0 ? "all" : String(label))));
}
byId("seed").value = shown.seed;
byId("seed").addEventListener("input", () => seedTo(byId("seed").value));
byId("another").addEventListener("click", another);
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const typing = event.target.matches("input[type=number]");
  if (event.key === "Enter" && !event.target.matches("button")) another();
  else if (!typing && /^\d$/.test(event.key) && Number(event.key) < classes) labelTo(Number(event.key));
});

byId("network-words").textContent = networkWords(network);
clock.setGoal(clock.end, false);
clock.step = clock.end;
renew();
choose(0);
keepPainted(() => clock.set(clock.step));

window.firstspike = {
  noise: noiseOf,
  /** Generate from noise levels, and a label if the generator is conditional. */
  generate(levels, label) {
    const result = generate(levels, label);
    const { spikesAt, operationsAt } = result;
    return { pixels: pictureAt(result, network.end), spikes: spikesAt.at(-1), operations: operationsAt.at(-1) };
  },
};
