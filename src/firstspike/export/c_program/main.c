/* Reads IDX files of bytes, as MNIST's, and prints a line for each sample. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

static int fail(const char *file, const char *what)
{
    fprintf(stderr, "network: %s: %s\n", file, what);
    return 2;
}

static int read_number(FILE *file, uint32_t *number)
{
    unsigned char bytes[4];
    if (fread(bytes, 1, 4, file) != 4) {
        return 0;
    }
    *number = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    return 1;
}

/* Read the head of an IDX file; return what is wrong with it, or nothing. */
static const char *read_head(FILE *file, uint32_t *samples)
{
    uint32_t magic, sides, side;
    unsigned long size = 1;
    if (!read_number(file, &magic) || magic >> 8 != 8 || (magic & 255) < 1) {
        return "is no IDX file of bytes";
    }
    if (!read_number(file, samples)) {
        return "ends in its head";
    }
    for (sides = (magic & 255) - 1; sides > 0; sides--) {
        if (!read_number(file, &side)) {
            return "ends in its head";
        }
        if (side == 0 || size > NETWORK_INPUTS / side) {
            return "holds samples of another size than the network's";
        }
        size *= side;
    }
    return size == NETWORK_INPUTS ? NULL : "holds samples of another size than the network's";
}

static void print_sizes(void)
{
    const network_sizes sizes = network_needs();
    fprintf(stderr, "flash %lu bytes of tables, RAM %lu bytes\n", (unsigned long)sizes.flash,
        (unsigned long)sizes.ram);
    fprintf(stderr, "at most %lu operations and %lu steps a sample\n", (unsigned long)sizes.operations,
        (unsigned long)sizes.steps);
}

static void print_means(uint32_t samples, double operations, double steps)
{
    if (samples > 0) {
        fprintf(stderr, "mean of %lu samples: %.1f operations, %.2f steps\n", (unsigned long)samples,
            operations / samples, steps / samples);
    }
}

#if NETWORK_GENERATES
static void write_number(FILE *file, uint32_t number)
{
    int shift;
    for (shift = 24; shift >= 0; shift -= 8) {
        fputc((int)(number >> shift & 255), file);
    }
}

static int parse(const char *text, uint32_t *number)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    *number = (uint32_t)value;
    return *text >= '0' && *text <= '9' && *end == '\0' && value <= 4294967295UL;
}

/* Marsaglia's xorshift with 32 bits. */
static uint32_t next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Draw the noise; of a conditional network the label is one more input for each class. */
static void draw(uint8_t *noise, uint32_t *state, uint32_t label)
{
    uint32_t i;
    for (i = 0; i < NETWORK_NOISE; i++) {
        noise[i] = (uint8_t)(next(state) >> 24);
    }
    for (; i < NETWORK_INPUTS; i++) {
        noise[i] = i - NETWORK_NOISE == label ? 255 : 0;
    }
}

#if NETWORK_INPUTS > NETWORK_NOISE
static int is_class(uint32_t label)
{
    return label < NETWORK_INPUTS - NETWORK_NOISE;
}

/* The class asked for, or all in turn. */
static uint32_t class_of(long label, uint32_t sample)
{
    return label >= 0 ? (uint32_t)label : sample % (NETWORK_INPUTS - NETWORK_NOISE);
}
#else
static int is_class(uint32_t label)
{
    (void)label;
    return 0;
}

static uint32_t class_of(long label, uint32_t sample)
{
    (void)label, (void)sample;
    return 0;
}
#endif

static int label_of(const uint8_t *noise)
{
    uint32_t i;
    for (i = NETWORK_NOISE; i < NETWORK_INPUTS; i++) {
        if (noise[i] == 255) {
            return (int)(i - NETWORK_NOISE);
        }
    }
    return -1;
}

static int usage(void)
{
    fprintf(stderr, "usage: network NOISE.idx2-ubyte PIXELS.idx3-ubyte\n"
                    "       network SEED COUNT PIXELS.idx3-ubyte [LABEL]\n");
    print_sizes();
    return 2;
}

int main(int count, char **arguments)
{
    static uint8_t noise[NETWORK_INPUTS], pixels[NETWORK_OUTPUTS];
    FILE *from = NULL, *to;
    const char *out;
    uint32_t samples = 0, i, state = 1;
    long label = -1;
    double operations = 0, steps = 0;
    if (count < 3 || count > 5) {
        return usage();
    }
    out = arguments[count == 3 ? 2 : 3];
    if (count == 3) {
        const char *wrong;
        if (strcmp(arguments[1], out) == 0) {
            return fail(out, "is the noise itself; name another file for the pixels");
        }
        from = fopen(arguments[1], "rb");
        if (from == NULL) {
            return fail(arguments[1], "cannot be opened");
        }
        wrong = read_head(from, &samples);
        if (wrong != NULL) {
            fclose(from);
            return fail(arguments[1], wrong);
        }
    } else {
        uint32_t seed, asked = 0;
        if (!parse(arguments[1], &seed)) {
            return fail(arguments[1], "is no seed, an integer below 2^32");
        }
        if (!parse(arguments[2], &samples)) {
            return fail(arguments[2], "is no count, an integer below 2^32");
        }
        if (count == 5 && (!parse(arguments[4], &asked) || !is_class(asked))) {
            return fail(arguments[4], "is no label of this network");
        }
        label = count == 5 ? (long)asked : -1;
        /* Spreads small seeds; 0 would stay 0. */
        state = (seed + 1u) * 2654435769u;
        state = state == 0 ? 1 : state;
    }
    to = fopen(out, "wb");
    if (to == NULL) {
        if (from != NULL) {
            fclose(from);
        }
        return fail(out, "cannot be written");
    }
    write_number(to, 0x803);
    write_number(to, samples);
    write_number(to, NETWORK_HEIGHT);
    write_number(to, NETWORK_WIDTH);
    for (i = 0; i < samples; i++) {
        network_result result;
        if (from == NULL) {
            draw(noise, &state, class_of(label, i));
        } else if (fread(noise, 1, NETWORK_INPUTS, from) != NETWORK_INPUTS) {
            fclose(from);
            fclose(to);
            remove(out);
            return fail(arguments[1], "ends before its last sample");
        }
        result = network_generate(noise, pixels);
        fwrite(pixels, 1, NETWORK_OUTPUTS, to);
        printf("%d %lu %lu %lu\n", label_of(noise), (unsigned long)result.step,
            (unsigned long)result.spikes, (unsigned long)result.operations);
        operations += result.operations;
        steps += result.step;
    }
    if (from != NULL) {
        fclose(from);
    }
    i = (uint32_t)ferror(to);
    if (fclose(to) != 0 || i != 0) {
        return fail(out, "cannot be written");
    }
    print_sizes();
    print_means(samples, operations, steps);
    return 0;
}
#else
int main(int count, char **arguments)
{
    static uint8_t sample[NETWORK_INPUTS];
    FILE *file;
    const char *wrong;
    uint32_t samples, i;
    double operations = 0, steps = 0;
    if (count != 2) {
        fprintf(stderr, "usage: network IMAGES.idx3-ubyte\n");
        print_sizes();
        return 2;
    }
    file = fopen(arguments[1], "rb");
    if (file == NULL) {
        return fail(arguments[1], "cannot be opened");
    }
    wrong = read_head(file, &samples);
    if (wrong != NULL) {
        fclose(file);
        return fail(arguments[1], wrong);
    }
    for (i = 0; i < samples; i++) {
        network_result result;
        if (fread(sample, 1, NETWORK_INPUTS, file) != NETWORK_INPUTS) {
            fclose(file);
            return fail(arguments[1], "ends before its last sample");
        }
        result = network_decide(sample);
        printf("%ld %lu %lu %lu\n", (long)result.label, (unsigned long)result.step,
            (unsigned long)result.spikes, (unsigned long)result.operations);
        operations += result.operations;
        steps += result.step;
    }
    fclose(file);
    print_sizes();
    print_means(samples, operations, steps);
    return 0;
}
#endif
