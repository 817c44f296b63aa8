/* train_kit.h - what the tests of training share: a tiny model, rows made up from it, a sink that remembers, a directory. */
#pragma once
#include "model/model_kit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "train/trainer.h"

enum { KIT_ROWS = 24, KIT_ROW_TOKENS = 20, KIT_EVENTS = 256 };

typedef struct train_kit {
    kit k;
    bm_data data;
    bm_mix_set set;
    bm_data_row rows[KIT_ROWS];
    int32_t tokens[2 * KIT_ROWS][KIT_ROW_TOKENS];
    uint8_t targets[KIT_ROW_TOKENS];
    char dir[64];
} train_kit;

typedef struct heard {
    bm_train_event events[KIT_EVENTS];
    int n;
    int fail_at;                 /* the sink fails at this event, as one that cannot write does; 0: never */
} heard;

static inline int hear(void *arg, const bm_train_event *event, bm_error *err)
{
    heard *h = arg;

    if (h->n < KIT_EVENTS)
        h->events[h->n++] = *event;
    return h->fail_at > 0 && h->n == h->fail_at ? bm_fail(err, BM_IO, "the sink is full") : 0;
}

/* Rows that a tiny model can learn: each counts up from its own beginning. Of pairs the rejected answer counts down. */
static inline void train_kit_open(train_kit *t, bool f32, int n_threads, bool pairs, int n_valid)
{
    kit_open(&t->k, "llama", f32, n_threads, 64);
    int v = bm_model_get_info(t->k.model)->n_vocab;
    for (int i = 0; i < KIT_ROW_TOKENS; i++)
        t->targets[i] = i >= 6;
    for (int r = 0; r < KIT_ROWS; r++) {
        bm_data_row *row = &t->rows[r];
        int n = KIT_ROW_TOKENS - r % 5;
        for (int i = 0; i < KIT_ROW_TOKENS; i++) {
            t->tokens[2 * r][i] = (r * 7 + i) % v;
            t->tokens[2 * r + 1][i] = i < 6 ? (r * 7 + i) % v : (r * 7 + v - i) % v;
        }
        *row = (bm_data_row){ .line = (uint64_t)r + 1, .hash = (uint64_t)r * 77 + 5, .valid = r < n_valid, .tokens = t->tokens[2 * r],
                              .target = t->targets, .n_tokens = n };
        if (pairs)
            row->other = t->tokens[2 * r + 1], row->other_target = t->targets, row->n_other = n - 1;
    }
    t->data = (bm_data){ .shape = pairs ? BM_DATA_PREFERENCE : BM_DATA_TEXT, .rows = t->rows, .n_rows = KIT_ROWS };
    t->set = (bm_mix_set){ .data = &t->data, .weight = 1 };
    snprintf(t->dir, sizeof t->dir, "/tmp/baimo-train-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
}

static inline void train_kit_path(const train_kit *t, const char *name, char out[128]) { snprintf(out, 128, "%s/%s", t->dir, name); }

static inline void train_kit_clear(const train_kit *t)
{
    char path[128];

    train_kit_path(t, "checkpoint.bin", path);
    unlink(path);
    train_kit_path(t, "metrics.jsonl", path);
    unlink(path);
}

static inline void train_kit_close(train_kit *t)
{
    train_kit_clear(t);
    if (rmdir(t->dir) < 0)
        fail_msg("%s is not empty", t->dir);
    kit_close(&t->k);
}

static inline bm_train_options train_kit_options(void)
{
    return (bm_train_options){ .adapter = { .rank = 4, .alpha = 8 }, .lr = 1e-2, .epochs = 2, .batch_size = 4, .max_length = 64,
                               .save_every = 3, .seed = 5 };
}

static inline bm_trainer *train_kit_trainer(train_kit *t, const bm_train_options *o, bool kept)
{
    bm_trainer *trainer;
    bm_error err = { 0 };

    kit_check(bm_trainer_new(&trainer, t->k.model, t->k.team, &t->set, 1, o, kept ? t->dir : NULL, &err), &err);
    return trainer;
}

/* The adapter's floats, in order; the caller's to free. */
static inline float *train_kit_values(const bm_trainer *trainer, const bm_model *model, size_t *n)
{
    size_t n_matrices, at = 0;
    int64_t n_in, n_out;
    const bm_lora_matrix *m = bm_trainer_matrices(trainer, &n_matrices);
    float *out = NULL;

    for (size_t i = 0; i < n_matrices; i++) {
        bm_lora_shape(model, m[i].layer, m[i].site, &n_in, &n_out);
        size_t na = (size_t)(m[i].rank * n_in), nb = (size_t)(m[i].rank * n_out);
        out = realloc(out, (at + na + nb) * sizeof *out);
        memcpy(out + at, m[i].a, na * sizeof *out);
        memcpy(out + at + na, m[i].b, nb * sizeof *out);
        at += na + nb;
    }
    *n = at;
    return out;
}
