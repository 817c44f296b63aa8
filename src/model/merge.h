/* merge.h - an adapter merged into its base: W + scale * B A, written as a GGUF that any program loads. */
#pragma once
#include "compute/team.h"
#include "format/gguf.h"
#include "model/lora.h"

typedef struct bm_merge_options {
    bm_qtype type;               /* of the matrices that the adapter changes (quantize.h: bm_quantize_type); all else is copied as it is */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);      /* tensors; false cancels. NULL is fine */
    void *progress_arg;
} bm_merge_options;

/* Write the merged model to path, atomically. gguf is the base's file and model is made of it (bm_model_open_shapes is enough).
 * A matrix whose rows are no multiple of the type's block is written as F16. */
int bm_merge_write(const char *path, const bm_gguf *gguf, const bm_model *model, const bm_lora_matrix *matrices, size_t n,
                   const bm_merge_options *options, bm_team *team, bm_error *err);
