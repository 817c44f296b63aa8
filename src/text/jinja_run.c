/* jinja_run.c - what a rendering may spend: memory, steps, depth; and how it fails. One run has one thread. */
#include <stdarg.h>

#include "text/jinja.h"

static bool fail_no_memory(bm_jrun *r, size_t need)
{
    if (r->arena.limit_bytes != 0 && (need > r->arena.limit_bytes || r->arena.total_bytes > r->arena.limit_bytes - need))
        return bm_jrun_fail_code(r, BM_LIMIT, "the template needs more than %zu MiB of memory", r->arena.limit_bytes >> 20);
    return bm_jrun_fail_code(r, BM_NOMEM, "no memory for the template's values");
}

void *bm_jrun_alloc(bm_jrun *r, size_t n, size_t size)
{
    size_t len;
    void *p = NULL;

    if (r->rc != 0)
        return NULL;
    if (!bm_mul_size(n, size, &len))
        len = SIZE_MAX;
    else
        p = bm_arena_alloc(&r->arena, len);
    if (p == NULL)
        fail_no_memory(r, len);
    return p;
}

bool bm_jrun_step(bm_jrun *r, size_t n)
{
    if (r->rc != 0)
        return false;
    if (n > r->max_steps - r->steps)
        return bm_jrun_fail_code(r, BM_LIMIT, "the template takes more than %zu steps", r->max_steps);
    r->steps += n;
    return true;
}

bool bm_jrun_enter(bm_jrun *r)
{
    if (++r->depth <= BM_J_MAX_DEPTH)
        return true;
    return bm_jrun_fail_code(r, BM_LIMIT, "the template nests deeper than %d levels", BM_J_MAX_DEPTH);
}

/* Keep the first failure: what comes after it is only its consequence. */
static bool vfail(bm_jrun *r, int code, const char *fmt, va_list ap)
{
    if (r->rc == 0)
        r->rc = bm_vfail(r->err, code, fmt, ap);
    return false;
}

bool bm_jrun_fail(bm_jrun *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfail(r, BM_INVALID, fmt, ap);
    va_end(ap);
    return false;
}

bool bm_jrun_fail_code(bm_jrun *r, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfail(r, code, fmt, ap);
    va_end(ap);
    return false;
}
