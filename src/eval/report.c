/* report.c - see report.h. */
#include "eval/report.h"

#include <stdio.h>
#include <string.h>

#include "base/json_out.h"
#include "base/number.h"

typedef struct score {
    const char *task, *version, *filter;
    char metric[128];
    json_int_t n_shot, n;
    const json_t *higher, *value, *error;
} score;

typedef struct writer { bm_buf *out; const json_t *results; void (*row)(bm_buf *out, const score *s); } writer;

static void put_number(bm_buf *out, const json_t *v)
{
    bm_json j = { out, false };

    if (json_is_number(v))
        bm_json_value(&j, v);
}

/* Each score of each task and group, in the order of the results. */
static void each_score(const writer *w)
{
    json_t *entry, *value;
    const char *task, *key;

    json_object_foreach(json_object_get(w->results, "results"), task, entry)
        json_object_foreach(entry, key, value) {
            const char *comma = strchr(key, ',');
            char error_key[320];
            score s = { .task = task, .filter = comma ? comma + 1 : "", .value = value };
            if (comma == NULL || strstr(key, "_stderr,") != NULL)
                continue;
            snprintf(s.metric, sizeof s.metric, "%.*s", (int)(comma - key), key);
            snprintf(error_key, sizeof error_key, "%s_stderr%s", s.metric, comma);
            s.error = json_object_get(entry, error_key);
            s.version = json_string_value(json_object_get(json_object_get(w->results, "versions"), task));
            s.n_shot = json_integer_value(json_object_get(json_object_get(w->results, "n-shot"), task));
            s.higher = json_object_get(json_object_get(json_object_get(w->results, "higher_is_better"), task), s.metric);
            s.n = json_integer_value(json_object_get(entry, "sample_len"));
            w->row(w->out, &s);
        }
}

/* ---- CSV ---- */

static void csv_text(bm_buf *out, const char *s)
{
    if (s == NULL || strpbrk(s, ",\"\r\n") == NULL) {
        bm_buf_puts(out, s ? s : "");
        return;
    }
    bm_buf_putc(out, '"');
    for (; *s != '\0'; s++) {
        if (*s == '"')
            bm_buf_putc(out, '"');
        bm_buf_putc(out, *s);
    }
    bm_buf_putc(out, '"');
}

static void csv_row(bm_buf *out, const score *s)
{
    csv_text(out, s->task);
    bm_buf_putc(out, ',');
    csv_text(out, s->version);
    bm_buf_putc(out, ',');
    csv_text(out, s->filter);
    bm_buf_printf(out, ",%lld,", (long long)s->n_shot);
    csv_text(out, s->metric);
    bm_buf_printf(out, ",%s,", json_is_boolean(s->higher) ? json_is_true(s->higher) ? "true" : "false" : "");
    put_number(out, s->value);
    bm_buf_putc(out, ',');
    put_number(out, s->error);
    bm_buf_printf(out, ",%lld\r\n", (long long)s->n);
}

int bm_report_csv(bm_buf *out, const json_t *results, bm_error *err)
{
    writer w = { out, results, csv_row };

    bm_buf_puts(out, "task,version,filter,n_shot,metric,higher_is_better,value,stderr,samples\r\n");
    each_score(&w);
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a report") : 0;
}

/* ---- HTML ---- */

static void html_text(bm_buf *out, const char *s)
{
    for (; s != NULL && *s != '\0'; s++)
        switch (*s) {
        case '&': bm_buf_puts(out, "&amp;"); break;
        case '<': bm_buf_puts(out, "&lt;"); break;
        case '>': bm_buf_puts(out, "&gt;"); break;
        case '"': bm_buf_puts(out, "&quot;"); break;
        default: bm_buf_putc(out, *s);
        }
}

/* A bar of 200 units with the range of one standard error. */
static void html_bar(bm_buf *out, const score *s)
{
    double x = json_number_value(s->value), e = json_is_number(s->error) ? json_number_value(s->error) : 0;

    if (!json_is_number(s->value) || x < 0 || x > 1)
        return;
    double low = x - e < 0 ? 0 : x - e, high = x + e > 1 ? 1 : x + e;
    bm_buf_printf(out, "<svg width=\"200\" height=\"14\" role=\"img\" aria-label=\"%.4f\"><rect width=\"200\" height=\"14\" fill=\"#eee\"/>"
                  "<rect width=\"%.1f\" height=\"14\" fill=\"#4a7\"/><path d=\"M%.1f 7H%.1f\" stroke=\"#123\" stroke-width=\"2\"/></svg>", x, 200 * x,
                  200 * low, 200 * high);
}

static void html_row(bm_buf *out, const score *s)
{
    bm_buf_puts(out, "<tr><td>");
    html_text(out, s->task);
    bm_buf_puts(out, "</td><td>");
    html_text(out, s->version);
    bm_buf_puts(out, "</td><td>");
    html_text(out, s->filter);
    bm_buf_printf(out, "</td><td class=\"n\">%lld</td><td>", (long long)s->n_shot);
    html_text(out, s->metric);
    bm_buf_printf(out, " %s</td><td class=\"n\">", json_is_true(s->higher) ? "↑" : json_is_false(s->higher) ? "↓" : "");
    if (json_is_number(s->value))
        bm_buf_printf(out, "%.4f", json_number_value(s->value));
    bm_buf_puts(out, "</td><td class=\"n\">");
    if (json_is_number(s->error))
        bm_buf_printf(out, "± %.4f", json_number_value(s->error));
    bm_buf_printf(out, "</td><td class=\"n\">%lld</td><td>", (long long)s->n);
    html_bar(out, s);
    bm_buf_puts(out, "</td></tr>\n");
}

static void html_inputs(bm_buf *out, const json_t *results)
{
    static const char *const keys[] = { "model", "model_sha256", "adapter", "adapter_sha256", "template_sha256", "version" };
    const json_t *inputs = json_object_get(results, "inputs");

    bm_buf_puts(out, "<table>\n");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = json_string_value(json_object_get(inputs, keys[i]));
        if (value == NULL || *value == '\0')
            continue;
        bm_buf_printf(out, "<tr><td>%s</td><td><code>", keys[i]);
        html_text(out, value);
        bm_buf_puts(out, "</code></td></tr>\n");
    }
    bm_buf_printf(out, "<tr><td>failed documents</td><td>%lld</td></tr>\n</table>\n",
                  (long long)json_integer_value(json_object_get(results, "failed")));
}

int bm_report_html(bm_buf *out, const json_t *results, const char *title, bm_error *err)
{
    writer w = { out, results, html_row };

    bm_buf_puts(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    html_text(out, title);
    bm_buf_puts(out, "</title><style>body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}"
                "table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:left}"
                ".n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.85em}</style></head><body>\n<h1>");
    html_text(out, title);
    bm_buf_puts(out, "</h1>\n");
    html_inputs(out, results);
    bm_buf_puts(out, "<table>\n<tr><th>Task</th><th>Version</th><th>Filter</th><th>n-shot</th><th>Metric</th><th>Value</th><th>Stderr</th>"
                "<th>Documents</th><th></th></tr>\n");
    each_score(&w);
    bm_buf_puts(out, "</table>\n</body></html>\n");
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a report") : 0;
}
