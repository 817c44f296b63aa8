/* reasoning.h - splits a model's reply into reasoning and content while it streams.
 * Total: never fails, never loses a byte; the concatenation of what it gives does not depend on how the input was cut. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

typedef struct bm_reasoning {
    const char *open, *close;    /* "<think>", "</think>"; NULL open: everything is content */
    int state;
    char held[32];               /* bytes that may be the start of a tag */
    size_t n_held;
} bm_reasoning;

/* tags are found by looking at the template's source; `inside`: the prompt already ended with the opening tag. */
void bm_reasoning_init(bm_reasoning *r, const char *template_source, bool inside);
/* Feed bytes; appends to *reasoning and *content what is now certain. Whitespace around the tags belongs to neither. */
void bm_reasoning_feed(bm_reasoning *r, const char *bytes, size_t len, bm_buf *reasoning, bm_buf *content);
void bm_reasoning_finish(bm_reasoning *r, bm_buf *reasoning, bm_buf *content);
