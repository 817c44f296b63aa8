/* quantize.h - floats to the block types that are written: the way down of what quant.h reads. The same bytes as the reference
 * quantisers of ggml (ggml-quants.c, quantize_row_*_ref). Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "compute/quant.h"

/* A type by its name as llama.cpp prints it, any case ("q4_0"), among those that are written: F32 F16 BF16 Q8_0 Q4_0 Q4_1. */
bool bm_quantize_type(const char *name, bm_qtype *out);
/* Quantise n values (a multiple of the block) to out (bm_qtype_row_bytes). */
void bm_quantize_row(bm_qtype type, const float *x, size_t n, void *out);
