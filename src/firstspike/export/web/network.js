// A network in integers, event by event: what firstspike.integer computes in Python.
//
// A neuron of a population is one number, place * channels + channel, as in firstspike/export/tables.py,
// where every table is described. All sums fit into 32 bits, which the export has made sure of.

const ARRAYS = { int8: Int8Array, uint8: Uint8Array, int32: Int32Array };

/** Return the document of an element, with its packed arrays as typed arrays. */
function readDocument(element) {
  return JSON.parse(element.textContent, (key, value) => {
    if (typeof value?.base64 !== "string") return value;
    const text = atob(value.base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new ARRAYS[value.type](bytes.buffer);
  });
}

class Network {
  constructor(tables) {
    Object.assign(this, tables);
    for (const population of [this, ...this.layers]) population.places = population.sides[0] * population.sides[1];
    this.sizes = [this.places * this.channels, ...this.layers.map((layer) => layer.places * layer.channels)];
    this.windows = [this.steps, ...this.layers.map((layer) => layer.steps)];
    /** Steps from the first input step to the end of the last window. */
    this.end = this.offsets.at(-1) + this.windows.at(-1);
  }

  /** Return the input's spike times for intensities, which are given channel by channel. */
  encode(pixels) {
    const times = new Int32Array(this.sizes[0]);
    checkLength(pixels, times.length, "intensities");
    for (let i = 0; i < times.length; i++) {
      const channel = Math.floor(i / this.places);
      times[(i % this.places) * this.channels + channel] = this.codes[pixels[i]];
    }
    return times;
  }

  /**
   * Walk through all windows.
   *
   * @param input spike time of each input neuron; the window's length is silent.
   * @param untilDecision end at the first output spike, as a device would.
   * @returns times: of each population, local to its window, whose length is silent; leaders: outputs that
   *   spike first; label: the only one, or -1; step: of the first output spike on the input's clock, or the
   *   end; spikesAt, operationsAt: how many up to each step; spikes, operations: how many up to `step`.
   */
  run(input, untilDecision = false) {
    const spikesAt = new Float64Array(this.end + 1);
    const operationsAt = new Float64Array(this.end + 1);
    // Which neurons of each population spike at each step of its window.
    const events = this.windows.map((steps) => Array.from({ length: steps }, () => []));
    const times = this.sizes.map((size, population) => new Int32Array(size).fill(this.windows[population]));

    const spike = (population, neuron, time) => {
      if (time >= this.windows[population]) return;
      times[population][neuron] = time;
      events[population][time].push(neuron);
      spikesAt[this.offsets[population] + time] += 1;
    };
    /** Add the weights of the spikes that a connection's source fires at a step. */
    const receive = (connection, time, sums) => {
      const { source } = connection;
      const arriving = events[source][time] ?? [];
      const population = source ? this.layers[source - 1] : this;
      for (const neuron of arriving) {
        operationsAt[this.offsets[source] + time] += spread(connection, neuron, population, sums);
      }
    };

    input.forEach((time, neuron) => spike(0, neuron, time));
    const output = this.layers.length;
    let step = this.end;
    let leaders = [];
    walk: for (const [number, phase] of this.phases.entries()) {
      if (phase.length === 0) continue;
      const members = phase.map((depth) => {
        const layer = this.layers[depth];
        const fire = (neuron, time) => spike(depth + 1, neuron, time);
        if (layer.window) return new WindowLayer(layer, this.windows, receive, fire);
        return new CausalLayer(layer, receive, fire);
      });
      const steps = number === 0 ? this.steps : this.windows[phase[0] + 1];
      for (let time = 0; time < steps; time++) {
        for (const member of members) member.advance(time);
        if (phase.includes(output - 1) && leaders.length === 0 && events[output][time].length > 0) {
          leaders = events[output][time];
          step = this.offsets[output] + time;
          if (untilDecision) break walk;
        }
      }
    }

    for (let i = 1; i <= this.end; i++) {
      spikesAt[i] += spikesAt[i - 1];
      operationsAt[i] += operationsAt[i - 1];
    }
    const label = leaders.length === 1 ? leaders[0] : -1;
    const [spikes, operations] = [spikesAt[step], operationsAt[step]];
    return { times, leaders, label, step, spikesAt, operationsAt, spikes, operations };
  }
}

/** Throw an error for what has not so many items. */
function checkLength(items, length, name) {
  if (items.length !== length) throw new RangeError(`expected ${length} ${name}, found ${items.length}`);
}

/** Add the weights of one spike to the sums of its targets; return how many additions that took. */
function spread(connection, neuron, source, sums) {
  const { weights, run } = connection;
  const place = Math.floor(neuron / source.channels);
  const row = 3 * Math.floor(place / source.sides[1]);
  const column = 3 * (place % source.sides[1]);
  const channel = 2 * (neuron % source.channels);
  const target = connection.rows[row] + connection.columns[column] + connection.channels[channel];
  const weight = connection.rows[row + 1] + connection.columns[column + 1] + connection.channels[channel + 1];
  const rows = connection.rows[row + 2];
  const columns = connection.columns[column + 2];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const to = target + y * connection.target_y + x * connection.target_x;
      const from = weight + y * connection.weight_y + x * connection.weight_x;
      for (let i = 0; i < run; i++) sums[to + i] += weights[from + i];
    }
  }
  return rows * columns * run;
}

/** Integrates while its inputs' windows last; in its own, a constant drive carries it to 0. */
class WindowLayer {
  constructor(layer, windows, receive, spike) {
    this.layer = layer;
    this.spike = spike;
    this.membrane = startOf(layer);
    this.fired = new Uint8Array(this.membrane.length);
    for (const connection of layer.connections) {
      // A spike adds its weight to a current, and the current flows at every step from then on.
      const current = new Int32Array(this.membrane.length);
      const sum = new Int32Array(this.membrane.length);
      for (let time = 0; time < windows[connection.source]; time++) {
        receive(connection, time, current);
        for (let i = 0; i < sum.length; i++) sum[i] += current[i];
      }
      for (let i = 0; i < sum.length; i++) this.membrane[i] += sum[i] << connection.shifts[i % layer.channels];
    }
  }

  advance(time) {
    const { rate, channels } = this.layer;
    for (let i = 0; i < this.membrane.length; i++) {
      if (this.fired[i]) continue;
      if (this.membrane[i] >= 0) {
        this.fired[i] = 1;
        this.spike(i, time);
      }
      this.membrane[i] += rate[i % channels];
    }
  }
}

/** Sums the weights of spikes as they come, and fires once at a level, which a constant current lowers. */
class CausalLayer {
  constructor(layer, receive, spike) {
    this.layer = layer;
    this.receive = receive;
    this.spike = spike;
    this.level = startOf(layer);
    this.membrane = new Int32Array(this.level.length);
    this.fired = new Uint8Array(this.level.length);
  }

  advance(time) {
    const { connections, rate, channels, fraction, delay } = this.layer;
    for (const connection of connections) this.receive(connection, time, this.membrane);
    for (let i = 0; i < this.level.length; i++) {
      if (this.fired[i]) continue;
      this.level[i] -= rate[i % channels];
      if (this.membrane[i] << fraction >= this.level[i]) {
        this.fired[i] = 1;
        this.spike(i, time + delay);
      }
    }
  }
}

/** Return what each neuron of a layer starts with; it is given by channel where places agree. */
function startOf({ start, places, channels }) {
  return Int32Array.from({ length: places * channels }, (_, i) => start[i % start.length]);
}
