/* bench.h - the sequences that `baimo bench` runs a model on; bench.c owns them, bench_scaling.c looks into the team meanwhile. */
#pragma once
#include "cli/cli.h"
#include "engine/sampler.h"
#include "model/lora.h"
#include "platform/shelf.h"

enum { BENCH_STEP_TOKENS = 512, BENCH_MAX_REPEAT = 1000, BENCH_MAX_PARALLEL = 256 };

typedef struct bench_settings {
    int64_t prompt, gen, depth, parallel, threads, repeat, adapters;
    const char *kv_type;
    bool json, machine, scaling, no_pack;
} bench_settings;

typedef struct bench_lane {      /* one sequence */
    void **pages[BM_MAX_KV_GROUPS];
    bm_seq_kv kv;
    int32_t *tokens;             /* [depth + prompt + 1] */
    int32_t pos, next;
    const bm_adapter *adapter;   /* NULL: the base */
    uint64_t hash;               /* of the tokens that it was given or made, from the end of the prompt on */
} bench_lane;

typedef struct bench {
    const bench_settings *o;
    char name[128], sha256[65];
    bool is_known;
    bm_known_file known;
    bm_team *team;
    bm_model *model;
    bm_step *step;
    const bm_model_info *info;
    bm_isa isa;
    bm_cpu cpu;
    bench_lane *lanes;
    int n_pages, n_workers;      /* of a lane; threads that there is room for */
    float *logits;               /* [BM_LOGIT_ROWS][V] */
    bm_sampler *samplers;        /* one per thread */
    int32_t rows[BM_LOGIT_ROWS];
    bench_lane *row_lanes[BM_LOGIT_ROWS];
    int n_rows;
    uint64_t hash;               /* of all lanes and repeats: equal exactly when all tokens are */
    uint64_t step_bytes;         /* weights that a step reads at least once */
    double token_ops, head_ops;  /* multiplications and additions of one token's matrices, and of its logits */
    double prefill[BENCH_MAX_REPEAT], decode[BENCH_MAX_REPEAT];
    bm_adapter **adapters;       /* [o->adapters]; NULL: none were asked for */
    double base_prefill[BENCH_MAX_REPEAT], base_decode[BENCH_MAX_REPEAT];        /* beside them */
} bench;

/* All sequences up to position `until`; at the end the choice of their next token when `sample`. */
int bench_prefill(bench *b, int32_t until, bool sample, bm_error *err);
int bench_decode(bench *b, int64_t n_steps, bm_error *err);
/* Fresh tokens, other ones for each repeat; zeroed KV. */
void bench_reset(bench *b, uint64_t repeat);

/* `bench --adapters N`: make them; give them to the sequences, or take them away. */
int  bench_adapters_make(bench *b, bm_error *err);
void bench_adapters_mount(bench *b, bool mount);
void bench_adapters_free(bench *b);

/* `bench --scaling`: the sequences and threads to make room for, then the measuring itself. */
bench_settings bench_scaling_room(const bench_settings *o);
int bench_scaling_threads(int n_threads);
int bench_scaling(bench *b, bm_error *err);
