// The clock that a page walks along: slider, buttons, keys, and the windows drawn under them.

/** Milliseconds that the whole clock takes to play, and bounds of a step. */
const PLAYING_TIME = 5000;
const STEP_TIME = { shortest: 20, longest: 160 };

const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Return a number with a comma for every thousand. */
const grouped = (number) => number.toLocaleString("en");

/** Return a new element with properties and children. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function setText(element, text) {
  // Screen readers announce what is set, even if it stays the same.
  if (element.textContent !== text) element.textContent = text;
}

class Clock {
  /**
   * @param network whose windows make the clock.
   * @param onStep called with the step whenever it changes.
   */
  constructor(network, onStep) {
    this.end = network.end;
    this.onStep = onStep;
    this.step = 0;
    /** Where playing stops and the last button leads: the decision, or the end. */
    this.goal = network.end;
    this.timer = null;
    this.slider = byId("slider");
    this.slider.max = this.end;
    this.slider.addEventListener("input", () => {
      this.pause();
      this.set(Number(this.slider.value));
    });
    const actions = {
      first: () => this.jump(0),
      back: () => this.jump(this.step - 1),
      play: () => (this.timer === null ? this.play() : this.pause()),
      forward: () => this.jump(this.step + 1),
      goal: () => this.jump(this.goal),
    };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    this.keys = {
      " ": actions.play,
      ArrowLeft: actions.back,
      ArrowRight: actions.forward,
      Home: actions.first,
      End: actions.goal,
    };
    document.addEventListener("keydown", (event) => this.press(event));
    // What a mouse or a finger has pressed gives the keyboard back to the clock.
    document.addEventListener("click", (event) => {
      if (event.detail > 0 && event.target.closest("button, input[type=radio]")) document.activeElement.blur();
    });
    this.drawWindows(network);
  }

  set(step) {
    this.step = Math.max(0, Math.min(this.end, step));
    this.slider.value = this.step;
    byId("step").textContent = grouped(this.step);
    this.onStep(this.step);
  }

  jump(step) {
    this.pause();
    this.set(step);
  }

  /** Play on to the goal, or from the first step if it is reached already. */
  play() {
    this.pause();
    if (this.step >= this.goal) this.set(0);
    const pace = PLAYING_TIME / this.end;
    const wait = Math.max(STEP_TIME.shortest, Math.min(STEP_TIME.longest, pace));
    // Several steps at once where one of them would be too short to be seen.
    const stride = Math.max(1, Math.round(STEP_TIME.shortest / pace));
    this.timer = setInterval(() => {
      this.set(Math.min(this.goal, this.step + stride));
      if (this.step >= this.goal) this.pause();
    }, wait);
    this.tell("Pause", true);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.tell("Play", false);
  }

  tell(name, playing) {
    byId("play").setAttribute("aria-label", name);
    byId("play").classList.toggle("playing", playing);
  }

  /** Set where playing stops; `mark`: show it under the slider. */
  setGoal(step, mark) {
    this.goal = step;
    this.mark.hidden = !mark;
    this.mark.style.left = `${(100 * step) / this.end}%`;
  }

  press(event) {
    const key = this.keys[event.key];
    if (!key || event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const { target } = event;
    // What the element itself does with the key comes first.
    if (target.matches("input[type=number], input[type=radio]")) return;
    if (event.key === " " && target.matches("button")) return;
    event.preventDefault();
    key();
  }

  /** Draw the windows, each with the populations that fire in it. */
  drawWindows(network) {
    const windows = new Map();
    network.offsets.forEach((offset, population) => {
      const window = windows.get(offset) ?? { steps: 0, populations: [] };
      window.steps = Math.max(window.steps, network.windows[population]);
      window.populations.push(population);
      windows.set(offset, window);
    });
    const percent = (steps) => `${(100 * steps) / this.end}%`;
    for (const [offset, { steps, populations }] of windows) {
      const [kind, which] = populationWords(populations, network.layers.length);
      const segment = make("div", { className: "window" }, make("span", { className: "kind" }, kind), which);
      segment.title = `${kind}${which}: ${spanWords(offset, steps)}`;
      segment.style.left = percent(offset);
      segment.style.width = percent(steps);
      byId("windows").append(segment);
    }
    this.mark = make("div", { className: "mark", hidden: true });
    byId("windows").append(this.mark);
  }
}

/** Return what populations are, and which, as "layers " and "1 – 2". */
function populationWords(populations, last) {
  const nameOf = (population) => ({ 0: "input", [last]: "output" })[population] ?? String(population);
  const [from, to] = [populations[0], populations.at(-1)];
  if (from === to) return [from === 0 || from === last ? "" : "layer ", nameOf(from)];
  return [from === 0 ? "" : "layers ", `${nameOf(from)} – ${nameOf(to)}`];
}

/** Return the steps of a window in words. */
const spanWords = (offset, steps) => `steps ${offset} … ${offset + steps - 1}`;

/** Return what a network is, in a line. */
function networkWords(network) {
  const sizes = network.shapes.map((shape) => shape.join(" × ")).join(" → ");
  const neurons = network.neurons.join(" and ").toLowerCase();
  return `${sizes} ${neurons} neurons that spike at most once, weights of ${network.bits} bits`;
}
