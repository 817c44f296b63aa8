/* engine.c - life and death of the engine, its thread and its models. */
#include <stdio.h>
#include <string.h>
#include "engine/engine_internal.h"

static void set_defaults(bm_engine_options *o, const bm_cpu *cpu)
{
    if (o->n_threads <= 0)
        o->n_threads = cpu->n_threads_default;
    if (o->max_seqs <= 0)
        o->max_seqs = 256;
    if (o->max_queued <= 0)
        o->max_queued = 64;
    if (o->step_tokens <= 0)
        o->step_tokens = 512;
    if (o->max_seqs > 4096)
        o->max_seqs = 4096;
    if (o->step_tokens < o->max_seqs + 32)       /* all may decode and a prompt still gets on */
        o->step_tokens = o->max_seqs + 32;
    if (o->kv_budget_bytes == 0)
        o->kv_budget_bytes = cpu->memory_available_bytes / 2;
}

static int make_tables(bm_engine *e, bm_error *err)
{
    size_t n = (size_t)e->options.max_seqs;

    e->logit_rows = e->options.max_seqs < 16 ? 16 : e->options.max_seqs;
    if (e->logit_rows > BM_LOGIT_ROWS)
        e->logit_rows = BM_LOGIT_ROWS;
    e->active = bm_calloc(n, sizeof *e->active);
    e->ranked = bm_calloc(n, sizeof *e->ranked);
    e->runs = bm_calloc(n, sizeof *e->runs);
    e->run_seqs = bm_calloc(n, sizeof *e->run_seqs);
    e->wants = bm_calloc((size_t)e->logit_rows, sizeof *e->wants);
    if (e->active == NULL || e->ranked == NULL || e->runs == NULL || e->run_seqs == NULL || e->wants == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for an engine of %d sequences", e->options.max_seqs);
    return 0;
}

void bm_engine_unref(bm_engine *e)
{
    if (e == NULL || atomic_fetch_sub(&e->refs, 1) != 1)
        return;
    bm_kv_budget_done(&e->budget);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->cache_lock);
    pthread_cond_destroy(&e->work);
    bm_free(e->active);
    bm_free(e->ranked);
    bm_free(e->runs);
    bm_free(e->run_seqs);
    bm_free(e->wants);
    bm_free(e->shares);
    bm_free(e);
}

int bm_engine_new_stepped(bm_engine **out, const bm_engine_options *options, bm_error *err)
{
    bm_engine *e;
    bm_cpu cpu;
    int rc;

    *out = NULL;
    if ((e = bm_zalloc(sizeof *e)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the engine");
    bm_cpu_detect(&cpu);
    if (options != NULL)
        e->options = *options;
    e->auto_budget = e->options.kv_budget_bytes == 0;
    set_defaults(&e->options, &cpu);
    atomic_init(&e->refs, 1);
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->cache_lock, NULL);
    pthread_cond_init(&e->work, NULL);
    e->queue_end = &e->queue;
    e->stats.n_threads = e->options.n_threads;
    if ((rc = bm_kv_budget_init(&e->budget, e->options.kv_budget_bytes, err)) < 0 ||
        (rc = bm_isa_choose(&e->isa, &cpu, err)) < 0 || (rc = make_tables(e, err)) < 0 ||
        (rc = bm_team_new(&e->team, e->options.n_threads, err)) < 0) {
        bm_engine_unref(e);
        return rc;
    }
    e->kernels = bm_kernels_get(e->isa);
    *out = e;
    return 0;
}

/* Everything that is queued or runs gets its FINISH and END. */
static void cancel_all(bm_engine *e)
{
    for (int i = 0; i < e->n_active; i++)
        atomic_store(&e->active[i]->canceled, true);
    pthread_mutex_lock(&e->lock);
    for (bm_gen *g = e->queue; g != NULL; g = g->next)
        atomic_store(&g->canceled, true);
    pthread_mutex_unlock(&e->lock);
    while (bm_engine_step(e))
        ;
}

static void *engine_main(void *arg)
{
    bm_engine *e = arg;
    bool stop;

    for (;;) {
        pthread_mutex_lock(&e->lock);
        while (!e->stop && e->queue == NULL && e->n_active == 0)
            pthread_cond_wait(&e->work, &e->lock);
        stop = e->stop;
        pthread_mutex_unlock(&e->lock);
        if (stop)
            return NULL;
        bm_engine_step(e);
    }
}

int bm_engine_new(bm_engine **out, const bm_engine_options *options, bm_error *err)
{
    int rc = bm_engine_new_stepped(out, options, err);

    if (rc < 0)
        return rc;
    (*out)->threaded = pthread_create(&(*out)->thread, NULL, engine_main, *out) == 0;
    if ((*out)->threaded)
        return 0;
    bm_engine_free(*out);
    *out = NULL;
    return bm_fail(err, BM_NOMEM, "cannot start the engine's thread");
}

void bm_engine_free(bm_engine *e)
{
    if (e == NULL)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
    if (e->threaded)
        pthread_join(e->thread, NULL);
    cancel_all(e);
    bm_team_free(e->team);
    e->team = NULL;
    bm_engine_unref(e);
}

void bm_engine_get_stats(bm_engine *e, bm_engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->weight_bytes = 0;
    for (const bm_loaded *m = e->models; m != NULL; m = m->next)
        out->weight_bytes += m->weight_bytes;
    pthread_mutex_unlock(&e->lock);
    pthread_mutex_lock(&e->budget.lock);
    out->kv_budget_bytes = e->budget.total_bytes;
    out->kv_cached_bytes = e->budget.idle_bytes;
    out->kv_used_bytes = e->budget.committed_bytes - e->budget.idle_bytes;
    pthread_mutex_unlock(&e->budget.lock);
}

/* ---- models ---- */

static void loaded_free(bm_loaded *m)
{
    bm_prefix_done(&m->prefix);
    for (int g = 0; g < m->info.n_groups; g++)
        bm_kv_pool_done(&m->pools[g]);
    for (int i = 0; i < m->n_samplers; i++)
        bm_sampler_done(&m->samplers[i]);
    bm_buf_done(&m->piece);
    bm_free(m->logits);
    if (m->runner.close != NULL)
        m->runner.close(m->runner.impl);
    bm_free(m);
}

static int make_buffers(bm_loaded *m, bm_error *err)
{
    bm_engine *e = m->engine;
    int rc;

    for (int g = 0; g < m->info.n_groups; g++)
        if ((rc = bm_kv_pool_init(&m->pools[g], &e->budget, m->info.groups[g].page_bytes, err)) < 0)
            return rc;
    if ((rc = bm_prefix_init(&m->prefix, m->pools, m->info.groups, m->info.n_groups, &e->clock, err)) < 0)
        return rc;
    m->logits = bm_alloc_aligned((size_t)e->logit_rows * (size_t)m->info.n_vocab * sizeof *m->logits, 64);
    if (m->logits == NULL || !bm_buf_reserve(&m->piece, m->runner.max_piece))
        return bm_fail(err, BM_NOMEM, "no memory for %d rows of logits", e->logit_rows);
    int n = e->options.n_threads < SAMPLING_WORKERS ? e->options.n_threads : SAMPLING_WORKERS;
    for (; m->n_samplers < n; m->n_samplers++)
        if ((rc = bm_sampler_init(&m->samplers[m->n_samplers], e->kernels, m->info.n_vocab, err)) < 0)
            return rc;
    return 0;
}

int bm_engine_attach(bm_loaded **out, bm_engine *e, const char *name, const bm_model_info *info, int32_t n_ctx,
                     const bm_runner *runner, bm_error *err)
{
    bm_loaded *m = bm_zalloc(sizeof *m);
    int rc;

    *out = NULL;
    if (m == NULL) {
        if (runner->close != NULL)
            runner->close(runner->impl);
        return bm_fail(err, BM_NOMEM, "%s: no memory for the model's header", name);
    }
    m->engine = e;
    m->runner = *runner;
    m->info = *info;
    m->n_ctx = n_ctx;
    m->weight_bytes = info->packed_bytes;
    snprintf(m->name, sizeof m->name, "%s", name);
    atomic_init(&m->refs, 1);
    if ((rc = make_buffers(m, err)) < 0) {
        loaded_free(m);
        return rc;
    }
    atomic_fetch_add(&e->refs, 1);
    pthread_mutex_lock(&e->lock);
    m->id = ++e->n_models;
    m->next = e->models;
    e->models = m;
    pthread_mutex_unlock(&e->lock);
    *out = m;
    return 0;
}

void bm_loaded_ref(bm_loaded *m) { atomic_fetch_add(&m->refs, 1); }

void bm_loaded_unref(bm_loaded *m)
{
    bm_engine *e;

    if (m == NULL || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    e = m->engine;
    pthread_mutex_lock(&e->lock);
    for (bm_loaded **at = &e->models; *at != NULL; at = &(*at)->next)
        if (*at == m) {
            *at = m->next;
            break;
        }
    pthread_mutex_unlock(&e->lock);
    loaded_free(m);
    bm_engine_unref(e);
}

const bm_model *bm_loaded_model(const bm_loaded *m) { return m->model; }
const bm_model_info *bm_loaded_info(const bm_loaded *m) { return &m->info; }
const bm_tokenizer *bm_loaded_tokenizer(const bm_loaded *m) { return m->tokenizer; }
const bm_template *bm_loaded_template(const bm_loaded *m) { return m->tmpl; }
const char *bm_loaded_template_source(const bm_loaded *m) { return m->template_source; }
const bm_error *bm_loaded_template_error(const bm_loaded *m) { return m->template_error.code < 0 ? &m->template_error : NULL; }
const char *bm_loaded_name(const bm_loaded *m) { return m->name; }
int32_t bm_loaded_ctx(const bm_loaded *m) { return m->n_ctx; }
const char *bm_loaded_arithmetic(const bm_loaded *m) { return m->arithmetic; }

void bm_loaded_get_stats(bm_loaded *m, bm_loaded_stats *out)
{
    *out = (bm_loaded_stats){ 0 };
    pthread_mutex_lock(&m->engine->lock);
    out->active = m->n_active;
    out->queued = m->n_queued;
    pthread_mutex_unlock(&m->engine->lock);
    pthread_mutex_lock(&m->engine->budget.lock);
    for (int g = 0; g < m->info.n_groups; g++) {
        const bm_kv_pool *p = &m->pools[g];
        out->kv_used_bytes += (uint64_t)(p->n_used + p->n_reserved - p->n_idle) * p->page_bytes;
        out->kv_cached_bytes += (uint64_t)p->n_idle * p->page_bytes;
    }
    pthread_mutex_unlock(&m->engine->budget.lock);
}
