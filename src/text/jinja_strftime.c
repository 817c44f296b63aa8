/* jinja_strftime.c - strftime_now(format): datetime.now().strftime(format) of Python, the only clock a template may read. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "text/jinja.h"

enum { MAX_TEXT = 4096 };

static void local_time(const bm_jrun *r, struct tm *tm, int *microseconds)
{
    int64_t ms = bm_wall_ms();
    time_t t = r->now_s != 0 ? (time_t)r->now_s : (time_t)(ms / 1000);

    *microseconds = r->now_s != 0 ? 0 : (int)(ms % 1000) * 1000;
    if (r->now_s != 0)
        gmtime_r(&t, tm);                                /* given as local wall time already */
    else
        localtime_r(&t, tm);
}

bool bm_jstrftime(bm_jrun *r, bm_jstr *format, bm_jval *out)
{
    char one[16], text[256];
    int microseconds, src = bm_jstr_source(format);
    struct tm tm;
    bm_jsb b;

    local_time(r, &tm, &microseconds);
    bm_jsb_init(&b, r);
    for (size_t i = 0, n; i < format->len; i += n) {
        const char *p = format->data + i;
        n = 1;
        if (*p != '%') {
            bm_jsb_slice(&b, format, i, i + 1);
            continue;
        }
        while (i + n < format->len && strchr("-_0^#EO", p[n]) != NULL && p[n] != '\0' && n < 8)
            n++;                                         /* glibc's flags */
        if (i + n < format->len)
            n++;
        char what = p[n - 1];
        if (n == 1 || (unsigned char)what >= 0x80 || what == '\0') {
            bm_jsb_slice(&b, format, i, i + (n = 1));
        } else if (what == 'f') {
            bm_jsb_add(&b, text, (size_t)snprintf(text, sizeof text, "%06d", microseconds), src);
        } else if (what != 'z' && what != 'Z') {         /* a time without a zone: both print nothing */
            memcpy(one, p, n);
            one[n] = '\0';
            bm_jsb_add(&b, text, strftime(text, sizeof text, one, &tm), src);
        }
        if (b.len > MAX_TEXT)
            return bm_jrun_fail_code(r, BM_LIMIT, "strftime_now() makes more than %d bytes", MAX_TEXT);
    }
    return bm_jval_str(out, bm_jsb_finish(&b));
}
