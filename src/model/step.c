/* step.c - the work memory of a step, laid out once; the checks of a batch. One function lays out, with or without memory,
 * so that bm_step_bytes and bm_step_new cannot disagree. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/adapter.h"

/* Partials of small steps get at most so many bytes; a small batch that needs more is run as a large one. */
enum { PARTIAL_BYTES = 16 << 20 };
enum { MAX_H = 3 * BM_LORA_MAX_RANK };       /* q, k and v */

void *bm_cursor_take(bm_cursor *c, int64_t n, size_t size)
{
    void *p = c->base ? c->base + c->at : NULL;

    c->at += ((size_t)n * size + 63) / 64 * 64;
    return p;
}

void bm_cursor_take_site(bm_cursor *c, bm_site *site, int64_t n_tokens, int64_t n_cols, struct bm_act_need need)
{
    bool placed = c->base != NULL;
    void *memory = need.q ? bm_cursor_take(c, (int64_t)bm_acts_bytes(n_tokens, n_cols), 1) : NULL;

    site->need = need;
    site->room = bm_cursor_take(c, n_tokens * n_cols, sizeof(float));
    site->f32 = need.f32 ? site->room : NULL;
    if (placed && need.q)
        bm_acts_place(&site->acts, memory, n_tokens, n_cols);
    site->acts.n_tokens = n_tokens;
    site->acts.n_cols = n_cols;
    site->acts.f32 = site->room;
    site->acts.f32_stride = n_cols;
}

static void take_scratch(bm_cursor *c, bm_scratch *own, const bm_model *m)
{
    const bm_hparams *h = &m->h;
    int64_t o = (int64_t)h->n_heads * h->head_v;

    own->row = bm_cursor_take(c, h->d_model > o ? h->d_model : o, sizeof(float));
    own->kv = bm_cursor_take(c, BM_TOKEN_BLOCK * bm_attention_kv_unit(h), sizeof(float));
    own->gate = bm_cursor_take(c, BM_TOKEN_BLOCK * BM_FFN_COLS, sizeof(float));
    own->up = bm_cursor_take(c, BM_TOKEN_BLOCK * BM_FFN_COLS, sizeof(float));
    own->pages = bm_cursor_take(c, h->n_ctx / BM_PAGE_TOKENS + 1, sizeof(void *));
    own->acc = bm_cursor_take(c, BM_ATTN_ROWS * (int64_t)h->head_v, sizeof(float));
    own->sum_acc = bm_cursor_take(c, BM_ATTN_ROWS * (int64_t)h->head_v, sizeof(float));
    own->x = bm_cursor_take(c, BM_SMALL_TOKENS * (int64_t)h->d_model, sizeof(float));
    bm_cursor_take_site(c, &own->in, BM_SMALL_TOKENS, h->d_model, m->need_in);
    bm_cursor_take_site(c, &own->attn, BM_SMALL_TOKENS, o, m->need_attn);
    own->h = bm_cursor_take(c, BM_SMALL_TOKENS * MAX_H, sizeof(float));
}

static void take_partials(bm_cursor *c, bm_step *s, const bm_hparams *h)
{
    int64_t rows = BM_SMALL_TOKENS * (int64_t)h->n_heads, spans = (h->n_ctx + BM_ATTN_SPAN - 1) / BM_ATTN_SPAN;
    int64_t fit = PARTIAL_BYTES / (rows * (h->head_v + 2) * (int64_t)sizeof(float));

    s->max_spans = (int)(spans < fit ? spans : fit > 1 ? fit : 1);
    s->part_m = bm_cursor_take(c, rows * s->max_spans, sizeof(float));
    s->part_l = bm_cursor_take(c, rows * s->max_spans, sizeof(float));
    s->part_acc = bm_cursor_take(c, rows * s->max_spans * h->head_v, sizeof(float));
}

static void lay_out(bm_cursor *c, bm_step *s, const bm_model *m, int n_threads)
{
    const bm_hparams *h = &m->h;
    int64_t t = s->max_tokens, o = (int64_t)h->n_heads * h->head_v;
    bm_scratch unplaced;

    s->scratch = bm_cursor_take(c, n_threads, sizeof *s->scratch);
    s->x = bm_cursor_take(c, t * h->d_model, sizeof(float));
    s->y = bm_cursor_take(c, t * h->d_model, sizeof(float));
    s->q = bm_cursor_take(c, t * h->n_heads * h->head_k, sizeof(float));
    s->attn_out = bm_cursor_take(c, t * o, sizeof(float));
    for (int i = 0; i < h->n_ropes; i++)
        s->cos_sin[i] = bm_cursor_take(c, t * h->ropes[i].n_rot, sizeof(float));
    s->position = bm_cursor_take(c, t, sizeof(int32_t));
    s->token = bm_cursor_take(c, t, sizeof(int32_t));
    s->run = bm_cursor_take(c, t, sizeof(int32_t));
    s->kept = bm_cursor_take(c, t, sizeof(int32_t));
    s->blocks = bm_cursor_take(c, t, sizeof *s->blocks);
    bm_cursor_take_site(c, &s->in, t, h->d_model, m->need_in);
    bm_cursor_take_site(c, &s->attn, t, o, m->need_attn);
    bm_cursor_take_site(c, &s->ffn, t, h->d_ff, m->need_ffn);
    bm_cursor_take_site(c, &s->head, BM_LOGIT_ROWS, h->d_model, m->need_head);
    s->spans = bm_cursor_take(c, t, sizeof *s->spans);
    s->h = bm_cursor_take(c, t * MAX_H, sizeof(float));
    take_partials(c, s, h);
    for (int i = 0; i < n_threads; i++)
        take_scratch(c, c->base ? &s->scratch[i] : &unplaced, m);
}

size_t bm_step_bytes(const bm_model *model, int max_tokens, int n_threads)
{
    bm_step s = { .max_tokens = max_tokens };
    bm_cursor c = { 0 };

    lay_out(&c, &s, model, n_threads);
    return sizeof s + c.at;
}

int bm_step_new(bm_step **out, const bm_model *model, int max_tokens, int n_threads, bm_error *err)
{
    bm_step *s;
    bm_cursor c = { 0 };
    size_t len_bytes;

    *out = NULL;
    if (max_tokens < 1 || max_tokens > (1 << 20) || n_threads < 1 || n_threads > 4096)
        return bm_fail(err, BM_INVALID, "a step of %d tokens on %d threads is not possible", max_tokens, n_threads);
    if (!model->w.head.data)
        return bm_fail(err, BM_INVALID, "the model was opened for its shapes: it has no weights");
    len_bytes = bm_step_bytes(model, max_tokens, n_threads) - sizeof *s;
    void *memory = NULL;
    if (!(s = bm_zalloc(sizeof *s)) || !(memory = bm_zalloc(len_bytes + 63))) {
        bm_free(s);
        return bm_fail(err, BM_NOMEM, "no memory for %zu bytes of work space (%d tokens, %d threads)", len_bytes, max_tokens,
                       n_threads);
    }
    c.base = (unsigned char *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);      /* zero, yet not touched: most steps are small */
    *s = (bm_step){ .model = model, .memory = memory, .len_bytes = len_bytes, .max_tokens = max_tokens,
                    .n_threads = n_threads };
    lay_out(&c, s, model, n_threads);
    *out = s;
    return 0;
}

void bm_step_free(bm_step *s)
{
    if (!s)
        return;
    bm_free(s->memory);
    bm_free(s);
}

const float *bm_step_hidden(const bm_step *s, int row)
{
    return row >= 0 && row < s->n_rows && s->kept[row] >= 0 ? s->x + (int64_t)s->kept[row] * s->model->h.d_model : NULL;
}

/* ---- a batch ---- */

static int check_pages(const bm_model *m, const bm_run *run, int index, bm_error *err)
{
    for (int g = 0; g < m->h.n_groups; g++) {
        int32_t window = m->h.group_window[g], last = run->start + run->n_tokens - 1;
        int32_t first = window > 0 && run->start >= window ? run->start - window + 1 : 0;

        for (int32_t page = first / BM_PAGE_TOKENS; page <= last / BM_PAGE_TOKENS; page++)
            if (!run->kv->pages[g] || !run->kv->pages[g][page])
                return bm_fail(err, BM_INVALID, "run %d: page %d of group %d is missing", index, page, g);
    }
    return 0;
}

static int check_run(const bm_model *m, const bm_run *run, int index, bm_error *err)
{
    if (run->n_unread < 0 || run->n_unread > run->n_tokens)
        return bm_fail(err, BM_INVALID, "run %d: %d of its %d tokens are unread", index, run->n_unread, run->n_tokens);
    if (run->n_tokens < 1 || run->start < 0 || run->start > m->h.n_ctx - run->n_tokens)
        return bm_fail(err, BM_INVALID, "run %d: %d tokens from position %d do not fit the model's context of %d", index,
                       run->n_tokens, run->start, m->h.n_ctx);
    for (int i = 0; i < run->n_tokens; i++)
        if (run->tokens[i] < 0 || run->tokens[i] >= m->h.n_vocab)
            return bm_fail(err, BM_INVALID, "run %d: token %d at position %d, expected 0 to %d", index, run->tokens[i],
                           run->start + i, m->h.n_vocab - 1);
    if (run->adapter && run->adapter->model != m)
        return bm_fail(err, BM_INVALID, "run %d: its adapter was made for another model", index);
    return check_pages(m, run, index, err);
}

/* Its tokens join the span before them when that has the same adapter. */
static void add_span(bm_step *s, const bm_run *run, int first, int n)
{
    bm_lora_span *last = s->n_spans > 0 ? &s->spans[s->n_spans - 1] : NULL;

    if (last && last->adapter == run->adapter && last->first + last->n == first)
        last->n += n;
    else
        s->spans[s->n_spans++] = (bm_lora_span){ run->adapter, first, n };
    if (run->adapter->n_h > s->h_stride)
        s->h_stride = run->adapter->n_h;
}

/* The f32 form of inputs exists in steps with adapters. */
static void need_floats(bm_step *s)
{
    bm_site *sites[] = { &s->in, &s->attn, &s->ffn };

    for (size_t i = 0; i < sizeof sites / sizeof *sites; i++)
        sites[i]->f32 = sites[i]->need.f32 || s->n_spans > 0 ? sites[i]->room : NULL;
    for (int i = 0; i < s->n_threads; i++) {
        s->scratch[i].in.f32 = s->in.f32 ? s->scratch[i].in.room : NULL;
        s->scratch[i].attn.f32 = s->attn.f32 ? s->scratch[i].attn.room : NULL;
    }
}

/* The tokens of a run from its from'th on. */
static void add_run(bm_step *s, const bm_run *run, int index, int from)
{
    int first = s->n_tokens, n = run->n_tokens - from, size = bm_attention_block(&s->model->h);

    if (run->adapter && n > 0)
        add_span(s, run, first, n);
    for (int i = from; i < run->n_tokens; i++, s->n_tokens++) {
        s->token[s->n_tokens] = run->tokens[i];
        s->position[s->n_tokens] = run->start + i;
        s->run[s->n_tokens] = index;
    }
    for (int i = 0; i < n; i += size)
        s->blocks[s->n_blocks++] = (bm_block){ .run = index, .first = first + i, .n = n - i < size ? n - i : size };
}

void bm_step_narrow(bm_step *s)
{
    int64_t d = s->model->h.d_model;
    int row = 0;

    s->n_tokens = s->n_blocks = s->n_spans = 0;
    for (int i = 0; i < s->n_runs; i++) {
        for (int t = 0; t < s->runs[i].n_tokens; t++, row++) {
            int to = s->n_tokens + t - s->runs[i].n_unread;
            s->kept[row] = t < s->runs[i].n_unread ? -1 : to;
            if (t >= s->runs[i].n_unread && to != row)
                memcpy(s->x + to * d, s->x + row * d, (size_t)d * sizeof *s->x);
        }
        add_run(s, &s->runs[i], i, s->runs[i].n_unread);
    }
}

/* Few tokens, and room for the partials of the longest. */
static bool is_small(const bm_step *s)
{
    if (s->n_tokens > BM_SMALL_TOKENS)
        return false;
    for (int t = 0; t < s->n_tokens; t++)
        if (s->position[t] / BM_ATTN_SPAN >= s->max_spans)
            return false;
    return true;
}

int bm_model_forward(const bm_model *model, bm_step *s, bm_team *team, const bm_run *runs, int n_runs, bm_error *err)
{
    int rc;
    int64_t n_tokens = 0;

    if (s->model != model || bm_team_size(team) > s->n_threads || n_runs < 1)
        return bm_fail(err, BM_INVALID, "the step was made for another model or a smaller team, or has no runs");
    for (int i = 0; i < n_runs; i++) {
        if ((rc = check_run(model, &runs[i], i, err)) < 0)
            return rc;
        if ((n_tokens += runs[i].n_tokens) > s->max_tokens)
            return bm_fail(err, BM_INVALID, "a batch of more than the step's %d tokens", s->max_tokens);
    }
    s->n_tokens = s->n_blocks = s->n_spans = 0;
    s->h_stride = 0;
    s->runs = runs, s->n_runs = n_runs;
    s->narrow = false;
    for (int i = 0; i < n_runs; i++) {
        for (int t = 0; t < runs[i].n_tokens; t++)
            s->kept[s->n_tokens + t] = t < runs[i].n_unread ? -1 : s->n_tokens + t;
        s->narrow = s->narrow || runs[i].n_unread > 0;
        add_run(s, &runs[i], i, 0);
    }
    s->n_rows = s->n_tokens;
    need_floats(s);
    s->small = is_small(s);
    s->narrow = s->narrow && !s->small;
    bm_walk_run(s, team);
    s->runs = NULL;
    return 0;
}

int bm_model_logits(const bm_model *model, bm_step *s, bm_team *team, const int32_t *rows, int n_rows, float *logits,
                    bm_error *err)
{
    if (s->model != model || n_rows < 0 || n_rows > BM_LOGIT_ROWS)
        return bm_fail(err, BM_INVALID, "%d rows of logits, expected at most %d", n_rows, BM_LOGIT_ROWS);
    for (int i = 0; i < n_rows; i++)
        if (bm_step_hidden(s, rows[i]) == NULL)
            return bm_fail(err, BM_INVALID, "row %d of the step's %d is not there, or was said to be unread", rows[i], s->n_rows);
    if (n_rows > 0)
        bm_walk_logits(s, team, rows, n_rows, logits);
    return 0;
}
