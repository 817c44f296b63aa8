/* load.c - a GGUF becomes a model of the engine: the memory is added up before anything is loaded, and refused with the
 * arithmetic when it does not fit; then the weights are packed by a team of this call's own, while other models are stepped. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "engine/engine_internal.h"
#include "engine/packs.h"

typedef struct real_model {      /* the runner's impl */
    bm_model *model;
    bm_step *step;
    bm_tokenizer *tokenizer;
    bm_template *tmpl;
    char *template_source;
    bm_keeper *keeper;           /* NULL: no pack on disk */
    bool finish_pack, mapped;    /* mapped: from the start on */
    atomic_bool damaged;         /* set by the keeper, looked at before and after each pass */
    char name[128];
    void (*notice)(void *arg, const char *line);
    void *notice_arg;
} real_model;

static int check_damage(const real_model *r, bm_error *err)
{
    if (!atomic_load(&r->damaged))
        return 0;
    bm_fail(err, BM_IO, "the packed weights of %s on disk were found damaged: this answer is not to be trusted", r->name);
    return bm_hint(err, "ask again: the model is loaded anew from its file");
}

static int real_forward(void *impl, bm_team *team, const bm_run *runs, int n_runs, bm_error *err)
{
    real_model *r = impl;

    int rc = check_damage(r, err);

    return rc < 0 ? rc : bm_model_forward(r->model, r->step, team, runs, n_runs, err);
}

static int real_logits(void *impl, bm_team *team, const int32_t *rows, int n_rows, float *logits, bm_error *err)
{
    real_model *r = impl;

    int rc = bm_model_logits(r->model, r->step, team, rows, n_rows, logits, err);

    return rc < 0 ? rc : check_damage(r, err);
}

/* The head may have more rows than the tokenizer has tokens (padding): those add nothing. */
static void real_piece(void *impl, int32_t id, bm_buf *out)
{
    const real_model *r = impl;

    if (id < bm_tokenizer_n_vocab(r->tokenizer))
        bm_tokenizer_piece(r->tokenizer, id, false, false, out);
}

static bool real_is_eog(void *impl, int32_t id)
{
    const real_model *r = impl;

    return id < bm_tokenizer_n_vocab(r->tokenizer) && bm_tokenizer_is_eog(r->tokenizer, id);
}

static void real_close(void *impl)
{
    real_model *r = impl;

    bm_keeper_stop(r->keeper, r->finish_pack);
    bm_step_free(r->step);
    bm_model_close(r->model);
    bm_tokenizer_free(r->tokenizer);
    bm_template_free(r->tmpl);
    bm_free(r->template_source);
    bm_free(r);
}

/* ---- figures for people ---- */

typedef struct figure { char s[32]; } figure;

static figure bytes_text(uint64_t n)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    double x = (double)n;
    int u = 0;
    figure f;

    for (; x >= 1024 && u < 4; u++)
        x /= 1024;
    snprintf(f.s, sizeof f.s, x < 10 && u > 0 && x != (double)(int)x ? "%.1f %s" : "%.0f %s", x, units[u]);
    return f;
}

static figure count_text(int32_t n)
{
    figure f;

    if (n >= 1000000)
        snprintf(f.s, sizeof f.s, "%d,%03d,%03d", n / 1000000, n / 1000 % 1000, n % 1000);
    else if (n >= 1000)
        snprintf(f.s, sizeof f.s, "%d,%03d", n / 1000, n % 1000);
    else
        snprintf(f.s, sizeof f.s, "%d", n);
    return f;
}

/* ---- the arithmetic ---- */

typedef struct memory_plan {
    const bm_engine *engine;
    const bm_model_info *info;
    int32_t n_ctx;
    int n_parallel;
    uint64_t available;          /* of the machine or the cgroup, now */
    uint64_t others;             /* KV that the models loaded already hold or have reserved */
    uint64_t fixed;              /* weights and work memory */
    uint64_t kv;                 /* n_parallel sequences of n_ctx */
    uint64_t kv_room;            /* what KV of this model may take */
} memory_plan;

/* Work memory of a step and of sampling: from the shapes, a little too much. */
static uint64_t work_bytes(const bm_engine *e, const bm_model_info *m)
{
    uint64_t t = (uint64_t)e->options.step_tokens, heads = (uint64_t)m->n_heads * (uint64_t)m->head_dim;
    uint64_t row = 6 * (uint64_t)m->d_model + 4 * heads + 2 * (uint64_t)m->d_ff;
    uint64_t sampling = ((uint64_t)e->logit_rows * 4 + 12 * SAMPLING_WORKERS) * (uint64_t)m->n_vocab;

    return t * row * 4 + sampling + ((uint64_t)e->options.n_threads << 20) + (24u << 20);
}

static uint64_t kv_bytes(const memory_plan *p, int32_t n_ctx)
{
    return (uint64_t)p->n_parallel * bm_kv_seq_bytes(p->info, n_ctx, p->engine->options.step_tokens);
}

/* The largest context whose KV fits, in whole pages; 0 when not even one page does. */
static int32_t largest_context(const memory_plan *p)
{
    int32_t low = 0, high = p->info->n_ctx_train / BM_PAGE_TOKENS;

    if (kv_bytes(p, p->info->n_ctx_train) <= p->kv_room)
        return p->info->n_ctx_train;
    while (low < high) {
        int32_t mid = low + (high - low + 1) / 2;
        if (kv_bytes(p, mid * BM_PAGE_TOKENS) <= p->kv_room)
            low = mid;
        else
            high = mid - 1;
    }
    return low * BM_PAGE_TOKENS;
}

static int refuse_memory(const memory_plan *p, const char *name, int32_t n_ctx, bm_error *err)
{
    int32_t fits = largest_context(p);
    uint64_t each = bm_kv_seq_bytes(p->info, n_ctx, p->engine->options.step_tokens);

    bm_fail(err, BM_NOMEM, "%s needs %s: %s of weights + %s of work memory + %d x %s of KV (context %s); %s are available%s%s%s",
            name, bytes_text(p->fixed + p->n_parallel * each).s, bytes_text(p->info->packed_bytes).s,
            bytes_text(p->fixed - p->info->packed_bytes).s, p->n_parallel, bytes_text(each).s, count_text(n_ctx).s,
            bytes_text(p->available).s, p->engine->auto_budget ? "" : ", the KV budget is ",
            p->engine->auto_budget ? "" : bytes_text(p->engine->options.kv_budget_bytes).s,
            p->others > 0 ? ", part of it reserved for requests that run" : "");
    if (fits >= BM_PAGE_TOKENS)
        return bm_hint(err, "--ctx %d fits%s", fits, p->n_parallel > 1 ? ", or a smaller --parallel" : "");
    return bm_hint(err, "close other programs, or take a smaller quantization of this model");
}

/* Decide the context. The automatic budget is half of what is available, and never so much that the weights do not fit. */
static int plan_memory(memory_plan *p, const bm_load_options *o, const char *name, bm_error *err)
{
    bm_cpu cpu;
    int32_t n_ctx = o->n_ctx;

    bm_cpu_detect(&cpu);
    p->n_parallel = o->n_parallel > 0 ? o->n_parallel : 1;
    p->available = cpu.memory_available_bytes;
    p->fixed = p->info->packed_bytes + work_bytes(p->engine, p->info);
    uint64_t spare = p->available > p->fixed ? p->available - p->fixed : 0;
    spare -= spare / 16;                                     /* the rest of the process, and the system, want some */
    p->kv_room = p->engine->options.kv_budget_bytes;
    if (!p->engine->auto_budget)
        p->kv_room = p->kv_room < spare ? p->kv_room : spare;
    else if (n_ctx > 0 || p->kv_room > spare)
        p->kv_room = spare;
    if (n_ctx > p->info->n_ctx_train) {
        bm_fail(err, BM_INVALID, "%s: a context of %s was asked for; the model's own is %s", name, count_text(n_ctx).s,
                count_text(p->info->n_ctx_train).s);
        return bm_hint(err, "use --ctx %d or less", p->info->n_ctx_train);
    }
    if (n_ctx <= 0)
        n_ctx = largest_context(p);
    if (n_ctx < BM_PAGE_TOKENS && n_ctx < p->info->n_ctx_train && o->n_ctx <= 0)
        return refuse_memory(p, name, p->info->n_ctx_train < 2048 ? p->info->n_ctx_train : 2048, err);
    p->n_ctx = n_ctx;
    p->kv = kv_bytes(p, n_ctx);
    return p->fixed > p->available || p->kv > p->kv_room ? refuse_memory(p, name, n_ctx, err) : 0;
}

/* A model that does not fit beside what the prefix cache keeps of others gets that memory. */
static int plan_with_way(memory_plan *p, bm_engine *e, const bm_load_options *o, const char *name, bm_error *err)
{
    int rc = plan_memory(p, o, name, err);

    if (rc != BM_NOMEM)
        return rc;
    bm_engine_give_back(e, 0);
    return plan_memory(p, o, name, err);
}

/* Make the automatic budget what the plan says: less when the weights take its place, more when the context was asked for. */
static int settle_budget(bm_engine *e, memory_plan *p, const char *name, bm_error *err)
{
    uint64_t total;

    if (!e->auto_budget)
        return 0;
    pthread_mutex_lock(&e->budget.lock);
    total = e->budget.total_bytes;
    uint64_t resident = e->budget.resident_bytes, most = resident + p->kv_room;
    p->others = e->budget.committed_bytes - e->budget.idle_bytes;
    pthread_mutex_unlock(&e->budget.lock);
    if (total > most)
        total = most;
    if (total < p->kv + p->others)
        total = p->kv + p->others;
    bm_engine_give_back(e, total);
    if (total > most || !bm_kv_budget_resize(&e->budget, total))
        return refuse_memory(p, name, p->n_ctx, err);
    return 0;
}

static void write_arithmetic(bm_loaded *m, const memory_plan *p)
{
    uint64_t each = bm_kv_seq_bytes(p->info, p->n_ctx, p->engine->options.step_tokens), token = 0;
    bool windowed = false;
    char how[80] = "";

    for (int g = 0; g < p->info->n_groups; g++) {
        token += p->info->groups[g].page_bytes / BM_PAGE_TOKENS;
        windowed |= p->info->groups[g].window > 0;
    }
    if (!windowed)
        snprintf(how, sizeof how, " (%s a token x %s)", bytes_text(token).s, count_text(p->n_ctx).s);
    uint64_t budget = m->engine->budget.total_bytes;
    snprintf(m->arithmetic, sizeof m->arithmetic, "context %s: %s of KV each%s, %llu fit in %s", count_text(p->n_ctx).s,
             bytes_text(each).s, how, (unsigned long long)(each > 0 ? budget / each : 0), bytes_text(budget).s);
}

/* ---- loading ---- */

static int load_template(real_model *r, const bm_gguf *gguf, bm_error *template_error, bm_error *err)
{
    bm_str source;

    if (!bm_gguf_get_str(gguf, "tokenizer.chat_template", &source))
        return 0;
    if ((r->template_source = bm_strndup(source.data, source.len)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the chat template");
    int rc = bm_template_compile(&r->tmpl, source.data, source.len, template_error);
    if (rc == BM_NOMEM) {
        *err = *template_error;
        return rc;
    }
    /* A template that cannot be used makes chats impossible, not the model. */
    return 0;
}

static int load_parts(real_model *r, bm_engine *e, const bm_gguf *gguf, const bm_model_options *options,
                      bm_error *template_error, bm_error *err)
{
    bm_team *team;
    int rc;

    if ((rc = bm_tokenizer_from_gguf(&r->tokenizer, gguf, err)) < 0 || (rc = load_template(r, gguf, template_error, err)) < 0)
        return bm_wrap(err, "%s", bm_gguf_path(gguf)), rc;
    if ((rc = bm_team_new(&team, e->options.n_threads, err)) < 0)
        return rc;
    rc = bm_model_open(&r->model, gguf, options, team, err);
    bm_team_free(team);
    if (rc < 0)
        return rc;
    return bm_step_new(&r->step, r->model, e->options.step_tokens, e->options.n_threads, err);
}

/* ---- packs ---- */

static void on_kept(void *arg, int rc, const bm_error *why)
{
    real_model *r = arg;
    char line[800];

    if (rc > 0)
        atomic_store(&r->damaged, true);
    if (r->notice == NULL)
        return;
    if (rc > 0)
        snprintf(line, sizeof line, "%s: its packed weights were damaged and are deleted (%s); they are made anew from the model's file",
                 r->name, why->msg);
    else
        snprintf(line, sizeof line, "%s: its packed weights are kept in memory only: %s", r->name, why->msg);
    r->notice(r->notice_arg, line);
}

static bool is_real(const bm_loaded *m) { return m->runner.forward == real_forward; }

bool bm_loaded_damaged(const bm_loaded *m)
{
    return is_real(m) && atomic_load(&((const real_model *)m->runner.impl)->damaged);
}

void bm_loaded_kept(bm_loaded *m)
{
    if (is_real(m))
        bm_keeper_wait(((real_model *)m->runner.impl)->keeper);
}

bool bm_loaded_mapped(const bm_loaded *m) { return is_real(m) && ((const real_model *)m->runner.impl)->mapped; }

static int load_gguf(bm_loaded **out, bm_engine *e, const bm_gguf *gguf, const bm_load_options *o, bm_error *err)
{
    bm_model_options options = { .f32 = o->f32, .kv_type = o->f32 ? BM_KV_F32 : o->kv_type ? o->kv_type : BM_KV_INT16, .isa = e->isa,
                                 .progress = o->progress, .progress_arg = o->progress_arg };
    const char *slash = strrchr(bm_gguf_path(gguf), '/');
    const char *name = o->name != NULL ? o->name : slash != NULL ? slash + 1 : bm_gguf_path(gguf);
    memory_plan plan = { .engine = e };
    bm_error template_error = { 0 };
    bm_model_info info;
    bm_pack_spot spot = { 0 };
    real_model *r;
    int rc;

    plan.info = &info;
    if ((rc = bm_model_plan(&info, gguf, &options, err)) < 0 || (rc = plan_with_way(&plan, e, o, name, err)) < 0 ||
        (rc = settle_budget(e, &plan, name, err)) < 0)
        return rc;
    if (o->pack_dir != NULL && !o->f32 && (rc = bm_pack_spot_init(&spot, o->pack_dir, gguf, o->known, err)) < 0)
        return rc;
    bm_pack_spot_options(&spot, &options);
    if ((r = bm_zalloc(sizeof *r)) == NULL) {
        bm_pack_spot_done(&spot);
        return bm_fail(err, BM_NOMEM, "%s: no memory for the model's header", name);
    }
    if ((rc = load_parts(r, e, gguf, &options, &template_error, err)) < 0) {
        bm_pack_spot_done(&spot);
        real_close(r);
        return rc;
    }
    bm_runner runner = { r, real_forward, real_logits, real_piece, real_is_eog, real_close,
                         bm_tokenizer_max_piece(r->tokenizer) };
    r->notice = o->notice, r->notice_arg = o->notice_arg;
    r->mapped = bm_model_mapped(r->model, NULL);
    snprintf(r->name, sizeof r->name, "%s", name);
    if ((rc = bm_engine_attach(out, e, name, bm_model_get_info(r->model), plan.n_ctx, &runner, err)) < 0) {
        bm_pack_spot_done(&spot);
        return rc;
    }
    if (spot.dir != NULL && (rc = bm_keeper_start(&r->keeper, &spot, r->model, on_kept, r, err)) < 0) {
        bm_loaded_unref(*out);
        *out = NULL;
        return rc;
    }
    r->finish_pack = o->finish_pack;
    (*out)->tokenizer = r->tokenizer;
    (*out)->model = r->model;
    (*out)->tmpl = r->tmpl;
    (*out)->template_source = r->template_source;
    (*out)->template_error = template_error;
    write_arithmetic(*out, &plan);
    return 0;
}

int bm_engine_load(bm_loaded **out, bm_engine *engine, const char *path, const bm_load_options *options, bm_error *err)
{
    static const bm_load_options none;
    bm_gguf *gguf;
    int rc;

    *out = NULL;
    if ((rc = bm_gguf_open(&gguf, path, err)) < 0)
        return rc;
    rc = load_gguf(out, engine, gguf, options != NULL ? options : &none, err);
    bm_gguf_close(gguf);
    return rc;
}
