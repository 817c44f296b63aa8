/* trainer_new.c - making a trainer, and going on from a checkpoint. */
#include "train/trainer_own.h"
#include "base/buf.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N_VALIDATIONS = 8, TOKEN_STEP = 32, MAX_EPOCHS = 100000, MICRO_TOKENS = 512 };

/* ---- making ---- */

static int fill_options(bm_train_options *o, bm_error *err)
{
    o->lr = o->lr > 0 ? o->lr : 2e-4;
    o->warmup = o->warmup > 0 ? o->warmup : o->warmup < 0 ? 0 : 0.03;
    o->epochs = o->epochs > 0 ? o->epochs : 1;
    o->batch_size = o->batch_size > 0 ? o->batch_size : 4;
    o->max_length = o->max_length > 0 ? o->max_length : 1024;
    o->micro_tokens = o->micro_tokens > 0 ? o->micro_tokens : MICRO_TOKENS;
    o->clip = o->clip > 0 ? o->clip : o->clip < 0 ? 0 : 1;
    o->beta = o->beta > 0 ? o->beta : 0.1;
    o->adapter.rank = o->adapter.rank > 0 ? o->adapter.rank : 16;
    o->adapter.alpha = o->adapter.alpha > 0 ? o->adapter.alpha : 2 * (float)o->adapter.rank;
    o->adapter.seed = o->seed;
    if (o->epochs > MAX_EPOCHS)
        return bm_fail(err, BM_INVALID, "epochs is %g, expected at most %d", o->epochs, MAX_EPOCHS);
    return 0;
}

/* The method that the rows ask for, and the longest row or pair. */
static int look_at_rows(bm_trainer *t, const bm_mix_set *sets, int n_sets, int *longest, bm_error *err)
{
    bool pairs = false;

    *longest = 1;
    for (int s = 0; s < n_sets; s++)
        for (size_t i = 0; i < sets[s].data->n_rows; i++) {
            const bm_data_row *row = &sets[s].data->rows[i];
            int n = row->n_tokens + (row->other != NULL ? row->n_other : 0);
            pairs = pairs || row->other != NULL;
            *longest = n > *longest ? n : *longest;
        }
    if (t->o.method != BM_TRAIN_AUTO && (t->o.method == BM_TRAIN_DPO) != pairs)
        return bm_fail(err, BM_INVALID, "method is %s, the rows are %s", pairs ? "sft" : "dpo",
                       pairs ? "preferences (pairs of answers)" : "no preferences");
    t->o.method = pairs ? BM_TRAIN_DPO : BM_TRAIN_SFT;
    t->dpo = pairs;
    return 0;
}

/* Sequences of up to micro_tokens, yet no longer than a step of the longest rows. */
static int sequence_tokens(const bm_train_options *o, int longest)
{
    int64_t most = (int64_t)o->batch_size * longest, n = o->micro_tokens;

    if (o->pack)
        n = o->max_length;
    else if (n > most)
        n = most;
    n = n < longest ? longest : n;
    return (int)((n + TOKEN_STEP - 1) / TOKEN_STEP * TOKEN_STEP);
}

static int make_mixes(bm_trainer *t, const bm_mix_set *sets, int n_sets, bm_error *err)
{
    bm_mix_options mo = { .max_tokens = t->max_tokens, .batch_size = t->o.batch_size, .pack = t->o.pack, .seed = t->o.seed };
    int rc;

    if ((rc = bm_mix_new(&t->mix, sets, n_sets, &mo, err)) < 0)
        return rc;
    mo.valid = true;
    return bm_mix_new(&t->valid, sets, n_sets, &mo, err);
}

static int count_steps(bm_trainer *t, bm_error *err)
{
    double left = t->o.epochs;
    uint64_t n;
    int rc;

    if (t->o.steps > 0) {
        t->n_steps = t->o.steps;
    } else {
        for (uint64_t epoch = 0; left > 1e-9; epoch++, left -= 1) {
            if ((rc = bm_mix_steps(t->mix, epoch, &n, err)) < 0)
                return rc;
            t->n_steps += left >= 1 ? (int64_t)n : (int64_t)ceil(left * (double)n - 1e-9);
        }
    }
    t->n_warmup = t->o.warmup < 1 ? (int64_t)ceil(t->o.warmup * (double)t->n_steps) : (int64_t)t->o.warmup;
    if (t->o.valid_every <= 0)
        t->o.valid_every = t->n_steps > N_VALIDATIONS ? (t->n_steps + N_VALIDATIONS - 1) / N_VALIDATIONS : 1;
    return 0;
}

static int make_refs(bm_trainer *t, const bm_mix_set *sets, int n_sets, bm_error *err)
{
    if (!t->dpo)
        return 0;
    if ((t->refs_begin = bm_calloc((size_t)n_sets, sizeof *t->refs_begin)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the references");
    for (int s = 0; s < n_sets; s++) {
        t->refs_begin[s] = t->n_refs;
        t->n_refs += sets[s].data->n_rows;
    }
    if ((t->refs = bm_calloc(t->n_refs, sizeof *t->refs)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the references of %zu pairs", t->n_refs);
    for (size_t i = 0; i < t->n_refs; i++)
        t->refs[i].chosen = NAN;
    return 0;
}

int64_t bm_trainer_memory(const bm_trainer *t)
{
    size_t n = bm_trainable_n(t->adapter);

    /* values, gradients, their rounded copy, two moments, and the best values */
    return (int64_t)(t->pass_bytes + n * sizeof(float) * (t->best != NULL ? 6 : 5) + t->n_refs * sizeof *t->refs +
                     (size_t)t->max_tokens * (sizeof(double) + sizeof(float)));
}

/* Recomputing is for those who lack memory: it costs about a third more time. */
static int make_pass(bm_trainer *t, bm_error *err)
{
    bm_pass_options po = { .max_tokens = t->max_tokens, .n_threads = bm_team_size(t->team), .max_rank = t->o.adapter.rank,
                           .recompute = t->o.recompute == BM_RECOMPUTE_ON };
    int64_t budget = t->o.memory_bytes - (int64_t)bm_model_get_info(t->model)->packed_bytes;

    t->pass_bytes = bm_pass_bytes(t->model, &po);
    if (t->o.memory_bytes > 0 && t->o.recompute == BM_RECOMPUTE_AUTO && bm_trainer_memory(t) > budget) {
        po.recompute = true;
        t->pass_bytes = bm_pass_bytes(t->model, &po);
    }
    if (t->o.memory_bytes > 0 && bm_trainer_memory(t) > budget) {
        bm_fail(err, BM_NOMEM, "training needs %lld MiB and the weights %llu MiB, the budget is %lld MiB",
                (long long)(bm_trainer_memory(t) >> 20), (unsigned long long)(bm_model_get_info(t->model)->packed_bytes >> 20),
                (long long)(t->o.memory_bytes >> 20));
        return bm_hint(err, "lower max_length or micro_tokens (now %d), or the rank (now %d), or give it more memory",
                       t->max_tokens, t->o.adapter.rank);
    }
    return bm_pass_new(&t->pass, t->model, &po, err);
}

static int make_settings(bm_trainer *t, bm_error *err)
{
    const bm_train_options *o = &t->o;
    const bm_model_info *info = bm_model_get_info(t->model);
    bm_buf b = { 0 };

    bm_buf_printf(&b, "model=%s %llu parameters, %llu bytes packed\nmethod=%s\n", info->arch, (unsigned long long)info->n_params,
                  (unsigned long long)info->packed_bytes, t->dpo ? "dpo" : "sft");
    bm_buf_printf(&b, "targets=%#x\nrank=%d\nalpha=%g\nrslora=%d\n", o->adapter.sites, o->adapter.rank, (double)o->adapter.alpha,
                  o->adapter.rslora);
    bm_buf_printf(&b, "lr=%.17g\ndecay=%s\nwarmup=%lld\nsteps=%lld\n", o->lr, bm_decay_name(o->decay), (long long)t->n_warmup,
                  (long long)t->n_steps);
    bm_buf_printf(&b, "batch_size=%d\npack=%d\nmax_length=%d\ntokens=%d\n", o->batch_size, o->pack, o->max_length, t->max_tokens);
    bm_buf_printf(&b, "weight_decay=%.17g\nclip=%.17g\nbeta=%.17g\nvalid_every=%lld\npatience=%d\nseed=%llu\n", o->weight_decay,
                  o->clip, o->beta, (long long)o->valid_every, o->patience, (unsigned long long)o->seed);
    t->settings = bm_buf_take(&b);
    return t->settings == NULL ? bm_fail(err, BM_NOMEM, "no memory for the settings") : 0;
}

static int make_buffers(bm_trainer *t, bm_error *err)
{
    size_t n = bm_trainable_n(t->adapter);

    t->nll = bm_calloc((size_t)t->max_tokens, sizeof *t->nll);
    t->coef = bm_calloc((size_t)t->max_tokens, sizeof *t->coef);
    if (t->o.patience > 0)
        t->best = bm_calloc(n, sizeof *t->best);
    if (t->nll == NULL || t->coef == NULL || (t->o.patience > 0 && t->best == NULL))
        return bm_fail(err, BM_NOMEM, "no memory for training %zu parameters", n);
    return bm_adamw_init(&t->adamw, n, t->o.weight_decay, err);
}

static int make_paths(bm_trainer *t, const char *dir, bm_error *err)
{
    bm_buf a = { 0 }, b = { 0 };

    if (dir == NULL)
        return 0;
    bm_buf_printf(&a, "%s/checkpoint.bin", dir);
    bm_buf_printf(&b, "%s/metrics.jsonl", dir);
    t->checkpoint_path = bm_buf_take(&a);
    t->metrics_path = bm_buf_take(&b);
    if (t->checkpoint_path == NULL || t->metrics_path == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for paths");
    bm_checkpoint_sweep(t->checkpoint_path);
    bm_checkpoint_sweep(t->metrics_path);
    return 0;
}

/* ---- going on ---- */

/* Which line of the settings differs: "lr=0.0002" against "lr=0.001". */
static int compare_settings(const bm_trainer *t, const char *theirs, bm_error *err)
{
    const char *a = t->settings, *b = theirs;

    while (*a != '\0' || *b != '\0') {
        int na = (int)strcspn(a, "\n"), nb = (int)strcspn(b, "\n");
        if (na != nb || strncmp(a, b, (size_t)na) != 0) {
            bm_fail(err, BM_INVALID, "%s: the checkpoint was made with %.*s, this job has %.*s", t->checkpoint_path, nb, b, na, a);
            return bm_hint(err, "set it as it was, or start a new job");
        }
        a += na + (a[na] == '\n');
        b += nb + (b[nb] == '\n');
    }
    return 0;
}

static int take_checkpoint(bm_trainer *t, const bm_checkpoint *c, bm_error *err)
{
    size_t n = bm_trainable_n(t->adapter);
    int rc;

    if ((rc = compare_settings(t, c->settings, err)) < 0)
        return rc;
    if (c->n != n || c->n_refs != t->n_refs || (c->best != NULL) != (t->best != NULL))
        return bm_fail(err, BM_INVALID, "%s: a checkpoint of %zu parameters and %zu pairs, this job has %zu and %zu",
                       t->checkpoint_path, c->n, c->n_refs, n, t->n_refs);
    if ((rc = bm_mix_seek(t->mix, &c->place, err)) < 0)
        return bm_wrap(err, "%s", t->checkpoint_path);
    if ((t->history = bm_calloc(c->n_history + 1, sizeof *t->history)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the history of %zu events", c->n_history);
    t->cap_history = c->n_history + 1, t->n_history = c->n_history;
    memcpy(t->history, c->history, c->n_history * sizeof *t->history);
    memcpy(bm_trainable_values(t->adapter), c->values, n * sizeof(float));
    memcpy(t->adamw.m, c->m, n * sizeof(float));
    memcpy(t->adamw.v, c->v, n * sizeof(float));
    if (t->best != NULL)
        memcpy(t->best, c->best, n * sizeof(float));
    if (t->n_refs > 0)
        memcpy(t->refs, c->refs, t->n_refs * sizeof *t->refs);
    t->adamw.t = c->adam_t, t->step = t->saved_step = c->step, t->tokens = c->tokens;
    t->best_loss = c->best_loss, t->n_worse = c->n_worse, t->seconds = c->seconds;
    return 0;
}

static int go_on(bm_trainer *t, bm_error *err)
{
    bm_checkpoint c;
    int rc;

    if (t->checkpoint_path == NULL || (rc = bm_checkpoint_read(&c, t->checkpoint_path, err)) == 0)
        return 0;
    if (rc > 0)
        rc = take_checkpoint(t, &c, err);
    bm_checkpoint_done(&c);
    return rc;
}

/* ---- the whole ---- */

static int make(bm_trainer *t, const bm_mix_set *sets, int n_sets, const char *dir, bm_error *err)
{
    int longest, rc;

    if ((rc = fill_options(&t->o, err)) < 0 || (rc = look_at_rows(t, sets, n_sets, &longest, err)) < 0)
        return rc;
    t->max_tokens = sequence_tokens(&t->o, longest);
    if ((rc = make_mixes(t, sets, n_sets, err)) < 0 || (rc = count_steps(t, err)) < 0 ||
        (rc = make_refs(t, sets, n_sets, err)) < 0 || (rc = bm_trainable_new(&t->adapter, t->model, &t->o.adapter, err)) < 0 ||
        (rc = make_pass(t, err)) < 0 || (rc = make_buffers(t, err)) < 0 || (rc = make_settings(t, err)) < 0 ||
        (rc = make_paths(t, dir, err)) < 0)
        return rc;
    return go_on(t, err);
}

int bm_trainer_new(bm_trainer **out, const bm_model *model, bm_team *team, const bm_mix_set *sets, int n_sets,
                   const bm_train_options *options, const char *dir, bm_error *err)
{
    bm_trainer *t = bm_zalloc(sizeof *t);
    int rc;

    *out = NULL;
    if (t == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a trainer");
    t->model = model, t->team = team, t->o = *options;
    t->metrics_fd = -1, t->saved_step = -1, t->best_loss = INFINITY;
    if ((rc = make(t, sets, n_sets, dir, err)) < 0) {
        bm_trainer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void bm_trainer_free(bm_trainer *t)
{
    if (t == NULL)
        return;
    if (t->metrics_fd >= 0)
        close(t->metrics_fd);
    bm_pass_free(t->pass);
    bm_trainable_free(t->adapter);
    bm_adamw_done(&t->adamw);
    bm_mix_free(t->mix);
    bm_mix_free(t->valid);
    bm_free(t->nll);
    bm_free(t->coef);
    bm_free(t->refs);
    bm_free(t->refs_begin);
    bm_free(t->best);
    bm_free(t->history);
    bm_free(t->settings);
    bm_free(t->checkpoint_path);
    bm_free(t->metrics_path);
    bm_free(t);
}

int bm_trainer_start_from(bm_trainer *t, const bm_lora_matrix *matrices, size_t n, bm_error *err)
{
    size_t n_ours;
    const bm_lora_matrix *ours = bm_trainable_matrices(t->adapter, &n_ours);
    int64_t n_in, n_out;

    if (n != n_ours)
        return bm_fail(err, BM_INVALID, "the adapter to start from has %zu maps, this one %zu", n, n_ours);
    for (size_t i = 0; i < n; i++)
        if (matrices[i].layer != ours[i].layer || matrices[i].site != ours[i].site || matrices[i].rank != ours[i].rank)
            return bm_fail(err, BM_INVALID, "the adapter to start from has layer %d %s with rank %d, this one layer %d %s with rank %d",
                           matrices[i].layer, bm_lora_hf_name(matrices[i].site), matrices[i].rank, ours[i].layer,
                           bm_lora_hf_name(ours[i].site), ours[i].rank);
    if (t->step > 0)                                             /* what it became since is in the checkpoint */
        return 0;
    for (size_t i = 0; i < n; i++) {
        bm_lora_shape(t->model, ours[i].layer, ours[i].site, &n_in, &n_out);
        memcpy((float *)(uintptr_t)ours[i].a, matrices[i].a, (size_t)(ours[i].rank * n_in) * sizeof(float));
        memcpy((float *)(uintptr_t)ours[i].b, matrices[i].b, (size_t)(ours[i].rank * n_out) * sizeof(float));
    }
    return 0;
}

const bm_lora_matrix *bm_trainer_matrices(const bm_trainer *t, size_t *n) { return bm_trainable_matrices(t->adapter, n); }

const bm_train_options *bm_trainer_options(const bm_trainer *t) { return &t->o; }

const bm_train_event *bm_trainer_history(const bm_trainer *t, size_t *n)
{
    *n = t->n_history;
    return t->history;
}
