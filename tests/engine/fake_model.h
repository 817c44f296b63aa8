/* fake_model.h - a model for tests of the engine: deterministic, instant, and it really reads its KV. Its logits are a hash of
 * the tokens that it finds in the pages of every group, and each entry is chained to the one before, so a wrong, stale or lost
 * page changes the answer or is told. */
#pragma once
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/utf8.h"
#include "engine/engine_internal.h"

enum { FAKE_VOCAB = 97, FAKE_EOG = 0, FAKE_NAN = 96, FAKE_WINDOW = 70, FAKE_MAX_ROWS = 8192 };

typedef struct fake {
    int n_groups;
    uint64_t rows[FAKE_MAX_ROWS];
    int n_rows, n_forwards, n_heads, max_tokens_seen;    /* n_heads: calls for logits */
    long n_tokens;               /* computed */
    bool fail_forward;
    bool closed;
    bool repeats;                /* answers that repeat themselves, so that guesses are often right */
    uint64_t salt;
} fake;

static inline uint64_t fake_mix(uint64_t z)
{
    z = (z + 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
    return z ^ z >> 29;
}

/* What a position leaves in its page: the token, and a hash of it and all before it. Never 0. */
static inline int32_t fake_entry(int32_t before, int32_t token)
{
    return (int32_t)(fake_mix((uint64_t)(uint32_t)before ^ (uint64_t)token << 40) >> 32 & 0x7FFFFF80) | (token + 1);
}

/* Read what position p sees in group g, and check that it is of this very sequence. */
static inline int fake_read(const bm_run *run, int g, int32_t p, uint64_t *hash, bm_error *err)
{
    int32_t first = g == 1 && p - FAKE_WINDOW + 1 > 0 ? p - FAKE_WINDOW + 1 : 0, before = 0;

    for (int32_t q = first; q <= p; q++) {
        const int32_t *at = run->kv->pages[g][q / BM_PAGE_TOKENS];
        if (at == NULL || at[q % BM_PAGE_TOKENS] == 0)
            return bm_fail(err, BM_INTERNAL, "position %d does not see position %d", p, q);
        int32_t entry = at[q % BM_PAGE_TOKENS];
        if ((q > first || q == 0) && entry != fake_entry(before, (entry & 127) - 1))
            return bm_fail(err, BM_INTERNAL, "position %d sees position %d of another sequence", p, q);
        *hash = fake_mix(*hash ^ (uint64_t)(entry & 127));
        before = entry;
    }
    return 0;
}

static int fake_forward(void *impl, bm_team *team, const bm_run *runs, int n_runs, bm_error *err)
{
    fake *f = impl;
    int total = 0;

    (void)team;
    f->n_rows = 0;
    f->n_forwards++;
    if (f->fail_forward)
        return bm_fail(err, BM_INTERNAL, "the fake model was told to fail");
    for (int r = 0; r < n_runs; r++)
        for (int i = 0; i < runs[r].n_tokens; i++) {
            int32_t p = runs[r].start + i;
            uint64_t hash = f->salt;
            for (int g = 0; g < f->n_groups; g++) {
                int32_t *page = runs[r].kv->pages[g][p / BM_PAGE_TOKENS];
                const int32_t *last = p == 0 ? NULL : runs[r].kv->pages[g][(p - 1) / BM_PAGE_TOKENS];
                if (page == NULL || (p > 0 && (last == NULL || last[(p - 1) % BM_PAGE_TOKENS] == 0)))
                    return bm_fail(err, BM_INTERNAL, "position %d: no page, or none before it", p);
                page[p % BM_PAGE_TOKENS] = fake_entry(p == 0 ? 0 : last[(p - 1) % BM_PAGE_TOKENS], runs[r].tokens[i]);
                if (fake_read(&runs[r], g, p, &hash, err) < 0)
                    return err->code;
            }
            /* Seven of eight rows follow from two tokens alone; the eighth still proves the whole KV. */
            if (f->repeats && p > 0 && hash >> 61 != 0) {
                const int32_t *before = runs[r].kv->pages[0][(p - 1) / BM_PAGE_TOKENS];
                hash = fake_mix((uint64_t)(before[(p - 1) % BM_PAGE_TOKENS] & 127) % 5 * 1000 + (uint64_t)runs[r].tokens[i]);
            }
            /* A token FAKE_NAN in the prompt makes this and all later rows not a number. */
            f->rows[f->n_rows++] = runs[r].tokens[i] == FAKE_NAN ? UINT64_MAX : hash;
            total++;
        }
    f->n_tokens += total;
    if (total > f->max_tokens_seen)
        f->max_tokens_seen = total;
    return 0;
}

static int fake_logits(void *impl, bm_team *team, const int32_t *rows, int n_rows, float *logits, bm_error *err)
{
    fake *f = impl;

    (void)team;
    f->n_heads++;
    for (int i = 0; i < n_rows; i++) {
        if (rows[i] < 0 || rows[i] >= f->n_rows)
            return bm_fail(err, BM_INTERNAL, "row %d of %d", rows[i], f->n_rows);
        for (int v = 0; v < FAKE_VOCAB; v++)
            logits[i * FAKE_VOCAB + v] = f->rows[rows[i]] == UINT64_MAX ? NAN
                : (float)(fake_mix(f->rows[rows[i]] ^ (uint64_t)v * 0x10001) >> 40) * (10.0f / (1 << 24));
        logits[i * FAKE_VOCAB + FAKE_EOG] -= 3;      /* rarer than chance, so that answers have some length */
        logits[i * FAKE_VOCAB + FAKE_NAN] = -INFINITY;
    }
    return 0;
}

static void fake_piece(void *impl, int32_t id, bm_buf *out)
{
    static const char *const odd[] = { "", " the", "\xE4", "\xB8\xAD", "\xF0\x9F", "\x98\x80", "END", "E", "ND", "\n" };

    (void)impl;
    if (id < (int32_t)(sizeof odd / sizeof odd[0]))
        bm_buf_puts(out, odd[id]);
    else
        bm_buf_putc(out, (char)('!' + id - 10));
}

static bool fake_is_eog(void *impl, int32_t id) { (void)impl; return id == FAKE_EOG; }
static void fake_close(void *impl) { ((fake *)impl)->closed = true; }

/* One full group, and with n_groups 2 a windowed one; a page is 64 tokens of 4 bytes. */
static inline int fake_attach(bm_loaded **out, bm_engine *e, fake *f, const char *name, int n_groups, int32_t n_ctx, bm_error *err)
{
    bm_model_info info = { .n_vocab = FAKE_VOCAB, .n_ctx_train = 4096, .n_groups = n_groups, .is_causal = true, .packed_bytes = 1000 };

    memset(f, 0, sizeof *f);
    f->n_groups = n_groups;
    for (int g = 0; g < n_groups; g++)
        info.groups[g] = (bm_kv_group){ 1, g == 1 ? FAKE_WINDOW : 0, BM_PAGE_TOKENS * sizeof(int32_t) };
    bm_runner runner = { f, fake_forward, fake_logits, fake_piece, fake_is_eog, fake_close, 4 };
    return bm_engine_attach(out, e, name, &info, n_ctx, &runner, err);
}

/* Guesses for an engine's `guess`: any tokens, also ones that no answer has and that spoil all rows behind them. */
static inline int fake_guess(const bm_seq *seq, int32_t *tokens, int k)
{
    uint64_t state = fake_mix((uint64_t)seq->pos * 31 + (uint64_t)seq->token);
    int n = k > 0 ? (int)(state >> 33) % (k + 1) : 0;

    for (int i = 0; i < n; i++)
        tokens[i] = (int32_t)(fake_mix(state + (uint64_t)i) % FAKE_VOCAB);
    return n;
}

static inline bm_engine *fake_engine(int max_seqs, int step_tokens, uint64_t kv_bytes)
{
    bm_engine_options options = { .n_threads = 2, .max_seqs = max_seqs, .step_tokens = step_tokens, .kv_budget_bytes = kv_bytes };
    bm_error err;
    bm_engine *e;

    if (bm_engine_new_stepped(&e, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return e;
}

static inline bm_gen_request fake_request(bm_loaded *m, const int32_t *prompt, size_t n, int32_t max_tokens)
{
    bm_gen_request r = { .model = m, .prompt = prompt, .n_prompt = n, .max_tokens = max_tokens, .n_choices = 1,
                         .sampling = bm_sampling_default(), .top_logprobs = -1 };

    r.sampling.temperature = 0;
    return r;
}

/* What one choice gave. */
typedef struct answer {
    int32_t tokens[4096];
    int n;
    char text[16384];
    size_t len;
    bool finished;
    bm_finish finish;
    const char *stop;
} answer;

/* Read all events there are; true once END came. */
static inline bool drain(bm_gen *gen, answer *answers)
{
    bm_event ev;

    while (bm_gen_next(gen, &ev)) {
        if (ev.kind == BM_EVENT_END)
            return true;
        answer *a = &answers[ev.choice];
        assert_false(a->finished);
        assert_true(bm_utf8_valid(ev.text, ev.len));
        assert_true(a->len + ev.len < sizeof a->text);
        memcpy(a->text + a->len, ev.text, ev.len);
        a->len += ev.len;
        a->text[a->len] = '\0';
        if (ev.kind == BM_EVENT_TOKEN)
            a->tokens[a->n++] = ev.token;
        if (ev.kind == BM_EVENT_FINISH)
            a->finished = true, a->finish = ev.finish, a->stop = ev.stop;
    }
    return false;
}

/* All pages are free, or idle in the prefix cache, and after the cache gave its own back all are free. */
static inline void no_page_is_left(bm_engine *e)
{
    assert_int_equal(e->budget.committed_bytes, e->budget.idle_bytes);
    for (bm_kv_pool *p = e->budget.pools; p != NULL; p = p->next) {
        assert_int_equal(p->n_used, p->n_idle);
        assert_int_equal(p->n_reserved, 0);
    }
    while (bm_engine_evict(e))
        ;
    assert_int_equal(e->budget.committed_bytes, 0);
    assert_int_equal(e->budget.idle_bytes, 0);
    for (bm_kv_pool *p = e->budget.pools; p != NULL; p = p->next) {
        assert_int_equal(p->n_used, 0);
        assert_int_equal(p->n_clean + p->n_dirty + p->n_pages - p->n_fresh, p->n_pages);
    }
    for (bm_loaded *m = e->models; m != NULL; m = m->next)
        assert_int_equal(m->prefix.n_free, m->prefix.n_nodes);
}
