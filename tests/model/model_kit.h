/* model_kit.h - what the tests of the model layer share: opening the tiny models of tests/oracle/models, sequences with
 * pages of their own, and running ids through them in any cut. */
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "model/model.h"

#define KIT_DIR "tests/oracle/models/"

typedef struct kit {
    bm_team *team;
    bm_gguf *gguf;
    bm_model *model;
    bm_step *step;
} kit;

typedef struct kit_seq { void **pages[BM_MAX_KV_GROUPS]; bm_seq_kv kv; int n_pages, n_groups; } kit_seq;

static inline void kit_check(int rc, const bm_error *err)
{
    if (rc < 0)
        fail_msg("%s", err->msg);
}

static inline bm_isa kit_isa(void)
{
    bm_cpu cpu;
    bm_isa isa;
    bm_error err;

    bm_cpu_detect(&cpu);
    kit_check(bm_isa_choose(&isa, &cpu, &err), &err);
    return isa;
}

static bm_kv_type kit_kv_type = BM_KV_INT16;       /* of models that are not f32 */

static inline void kit_open_path(kit *k, const char *path, bool f32, bm_isa isa, int n_threads, int max_tokens)
{
    bm_error err = { 0 };
    bm_model_options options = { .f32 = f32, .kv_type = kit_kv_type, .isa = isa };

    kit_check(bm_team_new(&k->team, n_threads, &err), &err);
    kit_check(bm_gguf_open(&k->gguf, path, &err), &err);
    kit_check(bm_model_open(&k->model, k->gguf, &options, k->team, &err), &err);
    kit_check(bm_step_new(&k->step, k->model, max_tokens, n_threads, &err), &err);
}

static inline void kit_open_isa(kit *k, const char *name, bool f32, bm_isa isa, int n_threads, int max_tokens)
{
    char path[256];

    snprintf(path, sizeof path, KIT_DIR "%s.gguf", name);
    kit_open_path(k, path, f32, isa, n_threads, max_tokens);
}

static inline void kit_open(kit *k, const char *name, bool f32, int n_threads, int max_tokens)
{
    kit_open_isa(k, name, f32, kit_isa(), n_threads, max_tokens);
}

static inline void kit_close(kit *k)
{
    bm_step_free(k->step);
    bm_model_close(k->model);
    bm_gguf_close(k->gguf);
    bm_team_free(k->team);
    *k = (kit){ 0 };
}

/* order < 0: pages are allocated from the last to the first. Fresh pages hold what a page from a pool may: here zeros. */
static inline void kit_seq_new(kit_seq *s, const bm_model *model, int n_tokens, int order)
{
    const bm_model_info *info = bm_model_get_info(model);

    *s = (kit_seq){ .n_pages = (n_tokens + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS, .n_groups = info->n_groups };
    for (int g = 0; g < info->n_groups; g++) {
        s->pages[g] = calloc((size_t)s->n_pages, sizeof(void *));
        for (int i = 0; i < s->n_pages; i++) {
            int page = order < 0 ? s->n_pages - 1 - i : i;
            s->pages[g][page] = bm_alloc_aligned(info->groups[g].page_bytes, 64);
            assert_non_null(s->pages[g][page]);
            memset(s->pages[g][page], 0, info->groups[g].page_bytes);
        }
        s->kv.pages[g] = s->pages[g];
    }
}

static inline void kit_seq_free(kit_seq *s)
{
    for (int g = 0; g < s->n_groups; g++) {
        for (int i = 0; i < s->n_pages; i++)
            bm_free(s->pages[g][i]);
        free(s->pages[g]);
    }
    *s = (kit_seq){ 0 };
}

/* One run, and the logits of its last n_rows tokens into out[n_rows][V]. */
static inline void kit_run(kit *k, const kit_seq *s, const int32_t *ids, int start, int n, int n_rows, float *out)
{
    bm_error err = { 0 };
    bm_run run = { .tokens = ids + start, .n_tokens = n, .start = start, .kv = &s->kv };
    int v = bm_model_get_info(k->model)->n_vocab;

    kit_check(bm_model_forward(k->model, k->step, k->team, &run, 1, &err), &err);
    for (int at = 0; at < n_rows; at += BM_LOGIT_ROWS) {
        int32_t rows[BM_LOGIT_ROWS];
        int len = n_rows - at < BM_LOGIT_ROWS ? n_rows - at : BM_LOGIT_ROWS;
        for (int i = 0; i < len; i++)
            rows[i] = n - n_rows + at + i;
        kit_check(bm_model_logits(k->model, k->step, k->team, rows, len, out + (int64_t)at * v, &err), &err);
    }
}

/* All of ids in chunks of `chunk` tokens, with the logits of every token in out[n][V]. */
static inline void kit_run_chunks(kit *k, const int32_t *ids, int n, int chunk, int order, float *out)
{
    kit_seq s;
    int v = bm_model_get_info(k->model)->n_vocab;

    kit_seq_new(&s, k->model, n, order);
    for (int at = 0; at < n; at += chunk) {
        int len = n - at < chunk ? n - at : chunk;
        kit_run(k, &s, ids, at, len, len, out + (int64_t)at * v);
    }
    kit_seq_free(&s);
}
