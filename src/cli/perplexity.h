/* perplexity.h - perplexity for other commands. */
#pragma once
#include <stdint.h>
#include "base/error.h"

/* Of the text in a file, in the default precision and windows of 512, at most n_chunks of them (0: all). model: a path or a name;
 * adapter: likewise, or NULL. */
int cli_perplexity(const char *model, const char *adapter, const char *text, int64_t n_chunks, double *out, bm_error *err);
