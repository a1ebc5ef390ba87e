/* {title}
   Written by firstspike {version}; C99, static memory, no floating-point numbers. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

/* Bytes of a sample, {inputs}. */
#define NETWORK_INPUTS {input_count}
#define NETWORK_OUTPUTS {output_count}
#define NETWORK_GENERATES {generates}
{generator}
typedef struct {
    int32_t label;       /* the output that spikes first; -1 for a tie or silence */
    uint32_t step;       /* of the first output spike, on the input's clock */
    uint32_t spikes;     /* of the input and all layers up to that step */
    uint32_t operations; /* weights added to membranes up to that step */
} network_result;

typedef struct {
    uint32_t flash;      /* bytes of the tables */
    uint32_t ram;        /* bytes of static memory */
    uint32_t steps;      /* at most */
    uint32_t operations; /* at most */
} network_sizes;

{function}

network_sizes network_needs(void);

#endif
