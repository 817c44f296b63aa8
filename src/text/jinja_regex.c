/* jinja_regex.c - |regex_replace(pattern, repl, count=0): the filter that lm-evaluation-harness adds, Python's re.sub. */
#include "text/jinja.h"
#include "text/regex.h"

static bool f_regex_replace(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *text, *pattern, *repl;
    bm_regex *regex = NULL;
    bm_error err = {0};
    bm_buf b = {.limit = 64 << 20};
    int64_t count = 0;
    bool ok = false;

    if (!bm_jarg_str(r, c->self, "string", &text) || !bm_jarg_str(r, c->a[0], "pattern", &pattern) || !bm_jarg_str(r, c->a[1], "repl", &repl))
        return false;
    if (c->a[2].type != BM_J_MISSING && !bm_jarg_int(r, c->a[2], "count", &count))
        return false;
    if (count < 0)                                       /* re.sub counts matches down to it: nothing is replaced */
        return bm_jval_str(out, text);
    if (!bm_jrun_step(r, text->len / 16 + 16))
        return false;
    if (bm_regex_compile(&regex, pattern->data, pattern->len, 0, &err) < 0 ||
        bm_regex_sub(&b, regex, repl->data, repl->len, text->data, text->len, (size_t)count, &err) < 0)
        bm_jrun_fail_code(r, err.code, "%s", err.msg);
    else
        ok = bm_jval_str(out, bm_jstr_copy(r, b.len > 0 ? b.data : "", b.len, bm_jstr_source(text)));
    bm_buf_done(&b);
    bm_regex_free(regex);
    return ok;
}

const bm_jdef bm_jfilter_regex = {"regex_replace", "pattern,repl,count=", f_regex_replace};
