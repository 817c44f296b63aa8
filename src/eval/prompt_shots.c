/* prompt_shots.c - which documents are the examples: lm-eval's ContextSampler and FirstNSampler. */
#include "base/mem.h"
#include "eval/prompt_internal.h"

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for examples"); }

static int too_few(const bm_prompts *p, size_t n, size_t have, bm_error *err)
{
    bm_fail(err, BM_INVALID, "%s: %zu examples are wanted for a document, and the pool has %zu", p->task->name, n, have);
    return bm_hint(err, "--num-fewshot N asks for fewer");
}

/* sample(pool, k) of the documents of `from`, as indices into the pool. */
static int draw(bm_prompts *p, const size_t *from, size_t n_from, size_t k, size_t *out, bm_error *err)
{
    if (k > n_from)
        return too_few(p, k, n_from, err);
    if (bm_pyrandom_sample(&p->random, n_from, k, out) < 0)
        return no_memory(err);
    for (size_t i = 0; from != NULL && i < k; i++)
        out[i] = from[out[i]];
    return 0;
}

static const json_t *pool_at(const bm_prompts *p, size_t i) { return json_array_get(p->shots->rows, i); }

static bool same(const json_t *a, const json_t *b) { return json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b) != 0; }

/* The pool without any copy of doc. */
static size_t others(const bm_prompts *p, const json_t *doc, size_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < p->shots->n; i++)
        if (!same(pool_at(p, i), doc))
            out[n++] = i;
    return n;
}

/* One more than wanted is drawn, so that the document itself can be left out; where copies of it leave too few, lm-eval draws again. */
static int draw_without(bm_prompts *p, const json_t *doc, size_t n, size_t *drawn, const json_t **out, bm_error *err)
{
    size_t kept = 0, *pool;
    int rc = draw(p, NULL, p->shots->n, n + 1, drawn, err);

    for (size_t i = 0; rc == 0 && i < n + 1 && kept < n; i++)
        if (!same(pool_at(p, drawn[i]), doc))
            out[kept++] = pool_at(p, drawn[i]);
    if (rc < 0 || kept == n)
        return rc;
    if ((pool = bm_calloc(p->shots->n + 1, sizeof *pool)) == NULL)
        return no_memory(err);
    rc = draw(p, pool, others(p, doc, pool), n, drawn, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        out[i] = pool_at(p, drawn[i]);
    bm_free(pool);
    return rc;
}

static int first_n(bm_prompts *p, const json_t *doc, size_t n, const json_t **out, bm_error *err)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->shots->n && kept < n; i++)
        if (!p->same_split || !same(pool_at(p, i), doc))
            out[kept++] = pool_at(p, i);
    return kept < n ? too_few(p, n, kept, err) : 0;
}

/* As many as are asked for, and the document itself beside them. */
int bm_shots_check(const bm_prompts *p, bm_error *err)
{
    size_t n = (size_t)p->task->num_fewshot, spare = p->same_split ? 1 : 0;

    return n > 0 && p->shots->n < n + spare ? too_few(p, n, p->shots->n - (p->shots->n > 0 ? spare : 0), err) : 0;
}

int bm_shots_draw(bm_prompts *p, const json_t *doc, size_t n, const json_t **out, bm_error *err)
{
    size_t *drawn;
    int rc;

    if (p->task->fewshot.first_n)
        return first_n(p, doc, n, out, err);
    if ((drawn = bm_calloc(n + 2, sizeof *drawn)) == NULL)
        return no_memory(err);
    if (p->same_split) {
        rc = draw_without(p, doc, n, drawn, out, err);
    } else {
        rc = draw(p, NULL, p->shots->n, n, drawn, err);
        for (size_t i = 0; rc == 0 && i < n; i++)
            out[i] = pool_at(p, drawn[i]);
    }
    bm_free(drawn);
    return rc;
}
