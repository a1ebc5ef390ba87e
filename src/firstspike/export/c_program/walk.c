/* The walk, event by event in the order of time. Every sum was shown at export to fit its type. */

/* A spike: where its neuron is. */
typedef struct {
    side_t y, x;
    channel_t channel;
} event;

/* Spikes in the order of time; those of step t end at upto[t]. */
typedef struct {
    event *events;
    count_t *upto;
    uint32_t steps;
} population;

static event events[EVENTS];
static count_t upto[STEPS];
/* Membranes of the layers that fire in one window, and the levels of causal ones. */
static int32_t membranes[MEMBRANES];
static int32_t levels[LEVELS];
/* Of the window layer that is read. */
static int32_t current[WIDEST];
static int32_t received[WIDEST];

static const int32_t NEVER = INT32_MAX;
static const int32_t FIRED = INT32_MIN;

static population population_of(uint32_t which)
{
    population found;
    found.events = events + populations[which].events;
    found.upto = upto + populations[which].upto;
    found.steps = populations[which].steps;
    return found;
}

static uint32_t first_of(const population *from, uint32_t step)
{
    return step > 0 ? from->upto[step - 1] : 0;
}

/* value times 2^shift, for negative values too. */
static int32_t doubled(int32_t value, uint32_t shift)
{
    return value < 0 ? -(int32_t)((uint32_t)-value << shift) : (int32_t)((uint32_t)value << shift);
}

#if WEIGHT_BITS > 4
static void add(int32_t *membrane, const weight_t *weights, int32_t first, uint32_t run)
{
    const weight_t *weight = weights + first;
    uint32_t i;
    for (i = 0; i < run; i++) {
        membrane[i] += weight[i];
    }
}
#else
/* Two weights share a byte, the first one in the lower half. */
static void add(int32_t *membrane, const weight_t *weights, int32_t first, uint32_t run)
{
    const weight_t *weight = weights + ((uint32_t)first >> 1);
    uint32_t i;
    for (i = 0; i + 1 < run; i += 2) {
        const uint32_t both = *weight++;
        membrane[i] += (int32_t)((both & 15u) ^ 8u) - 8;
        membrane[i + 1] += (int32_t)((both >> 4) ^ 8u) - 8;
    }
    if (i < run) {
        membrane[i] += (int32_t)((*weight & 15u) ^ 8u) - 8;
    }
}
#endif

/* Add the weights of one spike; return how many. */
static uint32_t spread(const connection *to, const event *spike, int32_t *membrane)
{
    const reach *row = to->rows + spike->y, *column = to->columns + spike->x;
    const start *of = to->channels + spike->channel;
    int32_t target = row->target + column->target + of->target;
    int32_t weight = row->weight + column->weight + of->weight;
    uint32_t operations = 0;
    uint32_t y, x;
    for (y = row->count; y > 0; y--) {
        int32_t target_here = target, weight_here = weight;
        for (x = column->count; x > 0; x--) {
            add(membrane + target_here, to->weights, weight_here, to->run);
            operations += to->run;
            target_here += to->target_x;
            weight_here += to->weight_x;
        }
        target += to->target_y;
        weight += to->weight_y;
    }
    return operations;
}

/* Add the weights of all spikes of one step; return how many. */
static uint32_t arrive(const connection *to, const population *from, uint32_t step, int32_t *membrane)
{
    uint32_t operations = 0;
    uint32_t i;
    for (i = first_of(from, step); i < from->upto[step]; i++) {
        operations += spread(to, from->events + i, membrane);
    }
    return operations;
}

static void encode(const uint8_t *sample)
{
    population to = population_of(0);
    count_t *ends = to.upto;
    uint32_t i, step, y, x, channel;
    count_t before = 0;
    for (step = 0; step < to.steps; step++) {
        ends[step] = 0;
    }
    for (i = 0; i < NETWORK_INPUTS; i++) {
        step = codes[sample[i]];
        if (step < to.steps) {
            ends[step]++;
        }
    }
    /* From how many there are to where each step's begin, which then moves to where they end. */
    for (step = 0; step < to.steps; step++) {
        const count_t here = ends[step];
        ends[step] = before;
        before = (count_t)(before + here);
    }
    for (channel = 0; channel < INPUT_CHANNELS; channel++) {
        for (y = 0; y < INPUT_HEIGHT; y++) {
            for (x = 0; x < INPUT_WIDTH; x++) {
                step = codes[*sample++];
                if (step < to.steps) {
                    event *made = to.events + ends[step]++;
                    made->y = (side_t)y;
                    made->x = (side_t)x;
                    made->channel = (channel_t)channel;
                }
            }
        }
    }
}

/* Start the membranes of a layer at what its inputs say: window neurons integrate their inputs first. */
static uint32_t begin(const layer *of)
{
    int32_t *membrane = membranes + of->membranes;
    uint32_t operations = 0;
    uint32_t i, k, step, channel;
    for (i = 0, channel = 0; i < of->neurons; i++) {
        const int32_t from = of->starts[of->placed ? i : channel];
        if (of->window) {
            membrane[i] = from;
        } else {
            membrane[i] = 0;
            levels[of->levels + i] = from;
        }
        channel = channel + 1 < of->channels ? channel + 1 : 0;
    }
    if (!of->window) {
        return 0;
    }
    for (k = 0; k < of->inputs; k++) {
        const connection *to = of->connections + k;
        const population from = population_of(to->source);
        for (i = 0; i < of->neurons; i++) {
            current[i] = received[i] = 0;
        }
        for (step = 0; step < from.steps; step++) {
            operations += arrive(to, &from, step, current);
            for (i = 0; i < of->neurons; i++) {
                received[i] += current[i];
            }
        }
        for (i = 0, channel = 0; i < of->neurons; i++) {
            membrane[i] += doubled(received[i], to->shifts[channel]);
            channel = channel + 1 < of->channels ? channel + 1 : 0;
        }
    }
    return operations;
}

/* Append the spikes of the neurons at or above their level, which never fire again. */
static uint32_t fire(const layer *of, population *to, uint32_t count)
{
    int32_t *membrane = membranes + of->membranes;
    int32_t *level = levels + of->levels;
    uint32_t i, y, x, channel;
    int ready = 0;
    if (of->window) {
        for (i = 0; i < of->neurons; i++) {
            ready |= membrane[i] >= 0;
        }
    } else if (of->fraction == 0) {
        for (i = 0; i < of->neurons; i++) {
            ready |= membrane[i] >= level[i];
        }
    } else {
        for (i = 0; i < of->neurons; i++) {
            ready |= doubled(membrane[i], of->fraction) >= level[i];
        }
    }
    if (!ready) {
        return count;
    }
    i = 0;
    for (y = 0; y < of->height; y++) {
        for (x = 0; x < of->width; x++) {
            for (channel = 0; channel < of->channels; channel++, i++) {
                if (of->window ? membrane[i] < 0 : doubled(membrane[i], of->fraction) < level[i]) {
                    continue;
                }
                to->events[count].y = (side_t)y;
                to->events[count].x = (side_t)x;
                to->events[count].channel = (channel_t)channel;
                count++;
                if (of->window) {
                    membrane[i] = FIRED;
                } else {
                    level[i] = NEVER;
                }
            }
        }
    }
    return count;
}

static void grow(const layer *of)
{
    int32_t *membrane = membranes + of->membranes;
    uint32_t i, channel;
    for (i = 0, channel = 0; i < of->neurons; i++) {
        membrane[i] += of->rates[channel];
        channel = channel + 1 < of->channels ? channel + 1 : 0;
    }
}

static void flow(const layer *of)
{
    int32_t *level = levels + of->levels;
    uint32_t i, channel;
    for (i = 0, channel = 0; i < of->neurons; i++) {
        if (level[i] != NEVER) {
            level[i] -= of->rates[channel];
        }
        channel = channel + 1 < of->channels ? channel + 1 : 0;
    }
}

/* One step of a layer's window; return the weights that were added. */
static uint32_t advance(const layer *of, population *to, uint32_t step)
{
    const uint32_t at = step + of->delay;
    uint32_t count = at < to->steps && at > 0 ? to->upto[at - 1] : 0;
    uint32_t operations = 0;
    uint32_t k;
    if (of->window) {
        if (step > 0) {
            grow(of);
        }
        to->upto[step] = (count_t)fire(of, to, count);
        return 0;
    }
    for (k = 0; k < of->inputs; k++) {
        const connection *from = of->connections + k;
        const population source = population_of(from->source);
        operations += arrive(from, &source, step, membranes + of->membranes);
    }
    if (of->flows) {
        flow(of);
    }
    if (at < to->steps) {
        to->upto[at] = (count_t)(operations > 0 || of->flows || step == 0 ? fire(of, to, count) : count);
    }
    return operations;
}

/* Walk to the first spike of the last layer, or through all steps. */
static network_result walk(int to_the_end)
{
    network_result result;
    uint32_t steps = populations[0].steps, spikes = 0, operations = 0;
    uint32_t phase, step = 0, i;
    population last = population_of(LAYERS);
    result.label = -1;
    for (phase = 0; phase < PHASES; phase++) {
        const uint32_t first = phases[phase], end = phases[phase + 1];
        /* The layers before this phase are finished. */
        spikes = 0;
        for (i = first; i < end; i++) {
            const layer *of = layers + order[i];
            population to = population_of(order[i] + 1u);
            steps = to.steps;
            for (step = 0; step < of->delay && step < steps; step++) {
                to.upto[step] = 0;
            }
            operations += begin(of);
        }
        for (step = 0; step < steps; step++) {
            for (i = first; i < end; i++) {
                population to = population_of(order[i] + 1u);
                operations += advance(layers + order[i], &to, step);
            }
            if (phase + 1 == PHASES && !to_the_end && last.upto[step] > 0) {
                break;
            }
        }
    }
    for (i = 0; i <= LAYERS; i++) {
        const population one = population_of(i);
        const uint32_t until = populations[i].phase + 1 == PHASES && step < steps ? step : one.steps - 1;
        spikes += one.upto[until];
    }
    if (step < steps && last.upto[step] == 1) {
        result.label = last.events[0].channel;
    }
    result.step = step + FIRST_STEP;
    result.spikes = spikes;
    result.operations = operations;
    return result;
}

#if NETWORK_GENERATES
network_result network_generate(const uint8_t *noise, uint8_t *pixels)
{
    network_result result;
    const population out = population_of(LAYERS);
    uint32_t step, i;
    encode(noise);
    result = walk(1);
    /* Where the pixels are, after the last spike. */
    for (i = 0; i < NETWORK_OUTPUTS; i++) {
        pixels[i] = intensities[out.steps];
    }
    for (step = 0; step < out.steps; step++) {
        for (i = first_of(&out, step); i < out.upto[step]; i++) {
            const event *spike = out.events + i;
            pixels[(spike->channel * OUTPUT_HEIGHT + spike->y) * OUTPUT_WIDTH + spike->x]
                = intensities[step];
        }
    }
    return result;
}
#else
network_result network_decide(const uint8_t *sample)
{
    encode(sample);
    return walk(0);
}
#endif

network_sizes network_needs(void)
{
    network_sizes sizes;
    sizes.flash = FLASH;
    sizes.ram = sizeof events + sizeof upto + sizeof membranes + sizeof levels + sizeof current
        + sizeof received;
    sizes.steps = LAST_STEP;
    sizes.operations = MOST_OPERATIONS;
    return sizes;
}
