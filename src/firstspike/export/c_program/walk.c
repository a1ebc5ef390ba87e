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
/* Of the layers that fire in one window: membranes of window neurons, sums and levels of causal ones. */
static int32_t membranes[MEMBRANES];
static sum_t sums[SUMS];
static sum_t levels[SUMS];
/* Of the window layer that is read. */
static sum_t current[WIDEST];
static int32_t received[WIDEST];

enum { BLOCK = 64 };
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
static void add(sum_t *restrict sum, const weight_t *restrict weights, int32_t first, uint32_t run)
{
    const weight_t *weight = weights + first;
    uint32_t i;
    for (i = 0; i < run; i++) {
        sum[i] = (sum_t)(sum[i] + weight[i]);
    }
}
#else
/* Two weights share a byte, the first one in the lower half. */
static void add(sum_t *restrict sum, const weight_t *restrict weights, int32_t first, uint32_t run)
{
    const weight_t *weight = weights + ((uint32_t)first >> 1);
    uint32_t i;
    for (i = 0; i + 1 < run; i += 2) {
        const uint32_t both = *weight++;
        sum[i] = (sum_t)(sum[i] + (int32_t)((both & 15u) ^ 8u) - 8);
        sum[i + 1] = (sum_t)(sum[i + 1] + (int32_t)((both >> 4) ^ 8u) - 8);
    }
    if (i < run) {
        sum[i] = (sum_t)(sum[i] + (int32_t)((*weight & 15u) ^ 8u) - 8);
    }
}
#endif

/* Add the weights of one spike; return how many. */
static uint32_t spread(const connection *to, const event *spike, sum_t *sum)
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
            add(sum + target_here, to->weights, weight_here, to->run);
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
static uint32_t arrive(const connection *to, const population *from, uint32_t step, sum_t *sum)
{
    uint32_t operations = 0;
    uint32_t i;
    for (i = first_of(from, step); i < from->upto[step]; i++) {
        operations += spread(to, from->events + i, sum);
    }
    return operations;
}

/* How many of the next inputs to look at together, eight if there are as many. */
static uint32_t together(const uint8_t *sample, const uint8_t *end)
{
    return end - sample < 8 ? (uint32_t)(end - sample) : 8;
}

/* Whether they are all black, which is silent in most codes. */
static int all_black(const uint8_t *sample, uint32_t count)
{
    static const uint8_t black[8] = {0};
    return BLACK_IS_SILENT && count == 8 && memcmp(sample, black, 8) == 0;
}

/* The place of the input `by` further on: they are given channel by channel, row by row. */
static void forward(event *at, uint32_t by)
{
    uint32_t x = at->x + by;
    if (INPUT_WIDTH * INPUT_HEIGHT == 1) {
        at->channel = (channel_t)(at->channel + by);
        return;
    }
    while (x >= INPUT_WIDTH) {
        x -= INPUT_WIDTH;
        if (++at->y == INPUT_HEIGHT) {
            at->y = 0;
            at->channel++;
        }
    }
    at->x = (side_t)x;
}

static void encode(const uint8_t *sample)
{
    population to = population_of(0);
    count_t *ends = to.upto;
    const uint8_t *const end = sample + NETWORK_INPUTS, *at;
    event here = {0, 0, 0};
    count_t before = 0;
    uint32_t step, i, count;
    /* The silent ones come last, at a step of their own, so that nothing depends on how bright an input is. */
    for (step = 0; step <= to.steps; step++) {
        ends[step] = 0;
    }
    for (at = sample; at < end; at += count) {
        count = together(at, end);
        for (i = all_black(at, count) ? count : 0; i < count; i++) {
            ends[codes[at[i]]]++;
        }
    }
    /* From how many there are to where each step's begin, which then moves to where they end. */
    for (step = 0; step <= to.steps; step++) {
        const count_t found = ends[step];
        ends[step] = before;
        before = (count_t)(before + found);
    }
    for (at = sample; at < end; at += count) {
        count = together(at, end);
        if (all_black(at, count)) {
            forward(&here, count);
            continue;
        }
        for (i = 0; i < count; i++) {
            to.events[ends[codes[at[i]]]++] = here;
            forward(&here, 1);
        }
    }
}

/* Start the membranes of a layer at what its inputs say: window neurons integrate their inputs first. */
static uint32_t begin(const layer *of)
{
    int32_t *membrane = membranes + of->membranes;
    const int32_t *from = of->starts;
    uint32_t operations = 0;
    uint32_t i, k, step, channel;
    if (!of->window) {
        sum_t *sum = sums + of->sums, *level = levels + of->sums;
        memset(sum, 0, of->neurons * sizeof *sum);
        for (i = 0; i < of->neurons; i += of->channels) {
            for (channel = 0; channel < of->channels; channel++) {
                level[i + channel] = (sum_t)from[channel];
            }
            from += of->placed ? of->channels : 0;
        }
        return 0;
    }
    for (i = 0; i < of->neurons; i += of->channels) {
        memcpy(membrane + i, from, of->channels * sizeof *from);
        from += of->placed ? of->channels : 0;
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

/* A function that appends the spikes of the neurons that are ready, which never fire again.
   Most often none of a block is, which is seen fast. */
#define FIRE(name, any_t, is_ready, done)                                       \
    static uint32_t name(const layer *of, population *to, uint32_t count)       \
    {                                                                           \
        int32_t *const membrane = membranes + of->membranes;                    \
        sum_t *const sum = sums + of->sums, *const level = levels + of->sums;   \
        uint32_t i = 0, k, end, channel = 0;                                    \
        event here = {0, 0, 0};                                                 \
        (void)membrane, (void)sum, (void)level;                                 \
        while (i < of->neurons) {                                               \
            any_t any = 0;                                                      \
            end = of->neurons - i < BLOCK ? of->neurons : i + BLOCK;            \
            for (k = i; k < end; k++) {                                         \
                any = (any_t)(any | (is_ready));                                \
            }                                                                   \
            for (k = any ? i : end; k < end; k++) {                             \
                if (!(is_ready)) {                                              \
                    continue;                                                   \
                }                                                               \
                channel += k - i;                                               \
                i = k;                                                          \
                while (channel >= of->channels) {                               \
                    channel -= of->channels;                                    \
                    if (++here.x == of->width) {                                \
                        here.x = 0;                                             \
                        here.y++;                                               \
                    }                                                           \
                }                                                               \
                here.channel = (channel_t)channel;                              \
                to->events[count++] = here;                                     \
                done;                                                           \
            }                                                                   \
            channel += end - i;                                                 \
            i = end;                                                            \
        }                                                                       \
        return count;                                                           \
    }

FIRE(fire_window, int32_t, membrane[k] >= 0, membrane[k] = FIRED)
FIRE(fire_causal, sum_t, sum[k] >= level[k], level[k] = NEVER)
FIRE(fire_flowing, int32_t, doubled(sum[k], of->fraction) >= level[k], level[k] = NEVER)

static uint32_t fire(const layer *of, population *to, uint32_t count)
{
    return of->window     ? fire_window(of, to, count)
        : of->fraction > 0 ? fire_flowing(of, to, count)
                           : fire_causal(of, to, count);
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
    sum_t *level = levels + of->sums;
    uint32_t i, channel;
    for (i = 0, channel = 0; i < of->neurons; i++) {
        if (level[i] != NEVER) {
            level[i] = (sum_t)(level[i] - of->rates[channel]);
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
        operations += arrive(from, &source, step, sums + of->sums);
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
    sizes.ram = sizeof events + sizeof upto + sizeof membranes + sizeof sums + sizeof levels
        + sizeof current + sizeof received;
    sizes.steps = LAST_STEP;
    sizes.operations = MOST_OPERATIONS;
    return sizes;
}
