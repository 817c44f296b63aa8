/* model.h - a model of one of the known architectures: its weights, packed, and its forward pass over paged KV.
 * Knows nothing of requests: it computes what a batch of runs asks for. The weights are read-only after open and shared;
 * a step needs a bm_step (work memory) that one caller uses at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/hash.h"
#include "compute/kernels.h"
#include "compute/team.h"
#include "format/gguf.h"

typedef struct bm_model bm_model;
typedef struct bm_adapter bm_adapter;            /* lora.h */

typedef struct bm_model_options {
    bool f32;                    /* --precision f32: weights dequantised, activations and KV in f32 */
    bm_kv_type kv_type;          /* ignored (F32) with f32; 0 is F32, so callers set BM_KV_INT16 */
    bm_isa isa;
    bool (*progress)(void *arg, uint64_t done, uint64_t total);     /* bytes packed; false cancels. NULL is fine */
    void *progress_arg;
    const char *pack_path;       /* map the weights from this pack file when it is that of the model; NULL, or none there: pack */
    const bm_sha256 *pack_key;   /* sha256 of the GGUF; needed with pack_path */
} bm_model_options;

/* A layer group shares one KV table: layers with the same window. */
typedef struct bm_kv_group {
    int n_layers;
    int32_t window;              /* 0: full attention; else a position sees itself and the window - 1 before it */
    size_t page_bytes;           /* of all its layers, for BM_PAGE_TOKENS positions */
} bm_kv_group;
enum { BM_MAX_KV_GROUPS = 4 };

typedef struct bm_model_info {
    char arch[32], name[128], size_label[16], license[64], quantization[16];    /* quantization: the commonest type by bytes, "Q4_K" */
    int n_layers, d_model, d_ff, n_heads, n_kv_heads, head_dim, n_vocab;
    int32_t n_ctx_train;         /* the model's own context */
    uint64_t n_params, file_bytes, packed_bytes;
    int n_groups;
    bm_kv_group groups[BM_MAX_KV_GROUPS];
    bool is_causal;              /* false: an encoder */
} bm_model_info;

/* Bind and pack the model in an open GGUF. The team packs. The GGUF may be closed afterwards.
 * Errors name the file and the key or tensor, what was found and what was expected. */
int  bm_model_open(bm_model **out, const bm_gguf *gguf, const bm_model_options *options, bm_team *team, bm_error *err);
/* The same without the weights: a model that can be asked for its info and its shapes, and that no step takes. */
int  bm_model_open_shapes(bm_model **out, const bm_gguf *gguf, bm_error *err);
void bm_model_close(bm_model *model);
const bm_model_info *bm_model_get_info(const bm_model *model);
/* The packed weights on disk. Is the model mapped from a pack, and from which file. */
bool bm_model_mapped(const bm_model *model, bm_file_id *id);
/* Write the pack of a model that packed its weights itself, and go on from the file; steps may be running. go_on (NULL is fine)
 * is asked now and then; false cancels. On failure the model goes on in its own memory and no partial file is left. Packs of f32
 * models are refused. One caller at a time, and not while the model is closed. */
int  bm_model_write_pack(bm_model *model, const char *path, const bm_sha256 *key, bool (*go_on)(void *arg), void *arg, bm_error *err);
/* Read the whole pack and compare its checksums; *id (may be NULL) is the file that was read. */
int  bm_model_verify_pack(const bm_model *model, const char *path, const bm_sha256 *key, bm_file_id *id, bool (*go_on)(void *arg),
                          void *arg, bm_error *err);
/* The same for a model that is not open: its plan is made from the GGUF's headers. */
int  bm_pack_verify_for(const bm_gguf *gguf, const char *path, const bm_sha256 *key, bm_file_id *id, bool (*go_on)(void *arg),
                        void *arg, bm_error *err);
/* The twin that says its bytes before anything is loaded: reads metadata and tensor headers only. */
int  bm_model_plan(bm_model_info *out, const bm_gguf *gguf, const bm_model_options *options, bm_error *err);
/* Names of the known architectures, NULL-terminated. */
const char *const *bm_model_archs(void);

/* One sequence's KV: pages[g][p / 64] is the page of position p in group g (page_bytes, 64-byte aligned, zeroed when fresh).
 * Pages wholly before a group's window may be NULL. */
typedef struct bm_seq_kv { void *const *pages[BM_MAX_KV_GROUPS]; } bm_seq_kv;

/* Consecutive positions of one sequence. All positions before start must be in the KV already. */
typedef struct bm_run {
    const int32_t *tokens;       /* [n_tokens], each in [0, n_vocab) (checked) */
    int n_tokens;
    int32_t start;               /* position of tokens[0] */
    int n_unread;                /* nobody reads the hidden rows of the first so many tokens: only their KV is computed to the end */
    const bm_seq_kv *kv;         /* pages for positions up to start + n_tokens - 1 exist */
    const bm_adapter *adapter;   /* made for this model; NULL: the base alone. Neighbours with one adapter are the fastest order */
} bm_run;

typedef struct bm_step bm_step;
size_t bm_step_bytes(const bm_model *model, int max_tokens, int n_threads);
int  bm_step_new(bm_step **out, const bm_model *model, int max_tokens, int n_threads, bm_error *err);
void bm_step_free(bm_step *step);

/* Run the runs' tokens through all layers (at most max_tokens in all): KV is written, final hidden rows stay in step, in the
 * order of the runs' tokens; those that the runs call unread cannot be asked for. Does not allocate. Errors only for arguments. */
int bm_model_forward(const bm_model *model, bm_step *step, bm_team *team, const bm_run *runs, int n_runs, bm_error *err);
/* logits[i][V] of the step's hidden rows rows[i], i < n_rows. Callers ask in blocks of at most BM_LOGIT_ROWS. */
enum { BM_LOGIT_ROWS = 64 };
int bm_model_logits(const bm_model *model, bm_step *step, bm_team *team, const int32_t *rows, int n_rows, float *logits,
                    bm_error *err);
/* The final hidden state (after the last norm) of a row: [d_model] floats inside step. NULL: no such row, or an unread one. */
const float *bm_step_hidden(const bm_step *step, int row);
