/* tune_show.c - `baimo tune show`: what a run was asked for and what came out, with its loss curve as text or SVG. */
#include "cli/tune.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/runs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WIDTH = 120, MOST_HEIGHT = 40 };

/* ---- the curve ---- */

typedef struct range { double low, high; int64_t first, last; } range;

static bool find_range(const bm_tune_point *p, size_t n, range *r)
{
    *r = (range){ .low = INFINITY, .high = -INFINITY };
    for (size_t i = 0; i < n; i++) {
        double both[2] = { p[i].loss, p[i].valid_loss };
        for (int k = 0; k < 2; k++)
            if (!isnan(both[k]))
                r->low = fmin(r->low, both[k]), r->high = fmax(r->high, both[k]);
    }
    if (n == 0 || r->low > r->high)
        return false;
    r->first = p[0].step, r->last = p[n - 1].step;
    if (r->high - r->low < 1e-9)
        r->high = r->low + 1e-9;
    return true;
}

static int column_of(const range *r, int64_t step, int width)
{
    return r->last == r->first ? 0 : (int)((double)(step - r->first) / (double)(r->last - r->first) * (width - 1) + 0.5);
}

static int row_of(const range *r, double loss, int height)
{
    return (int)((r->high - loss) / (r->high - r->low) * (height - 1) + 0.5);
}

/* Each column shows the mean of the losses that fall into it; o: held-back rows. */
void cli_curve_text(bm_buf *out, const bm_tune_point *points, size_t n, int width, int height)
{
    char cells[MOST_HEIGHT][MOST_WIDTH];
    double sum[MOST_WIDTH] = { 0 };
    int count[MOST_WIDTH] = { 0 };
    range r;

    width = width > MOST_WIDTH ? MOST_WIDTH : width;
    height = height > MOST_HEIGHT ? MOST_HEIGHT : height;
    if (!find_range(points, n, &r))
        return;
    memset(cells, ' ', sizeof cells);
    for (size_t i = 0; i < n; i++) {
        int x = column_of(&r, points[i].step, width);
        if (x >= 0 && x < width && !isnan(points[i].loss))
            sum[x] += points[i].loss, count[x]++;
    }
    for (int x = 0; x < width; x++)
        if (count[x] > 0)
            cells[row_of(&r, sum[x] / count[x], height)][x] = '*';
    for (size_t i = 0; i < n; i++) {
        int x = column_of(&r, points[i].step, width);
        if (x >= 0 && x < width && !isnan(points[i].valid_loss))
            cells[row_of(&r, points[i].valid_loss, height)][x] = 'o';
    }
    for (int y = 0; y < height; y++) {
        int len = width;
        while (len > 0 && cells[y][len - 1] == ' ')
            len--;
        bm_buf_printf(out, "%9.4f |%.*s\n", r.high - (r.high - r.low) * y / (height - 1), len, cells[y]);
    }
    bm_buf_printf(out, "%9s +", "");
    for (int x = 0; x < width; x++)
        bm_buf_putc(out, '-');
    bm_buf_printf(out, "\n%9s  step %lld to %lld   * loss%s\n", "", (long long)r.first, (long long)r.last,
                  "   o held-back rows");
}

static void svg_line(bm_buf *out, const bm_tune_point *p, size_t n, const range *r, bool valid, const char *color)
{
    double steps = r->last == r->first ? 1 : (double)(r->last - r->first);

    bm_buf_printf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", color);
    for (size_t i = 0; i < n; i++) {
        double y = valid ? p[i].valid_loss : p[i].loss;
        if (!isnan(y))
            bm_buf_printf(out, "%.1f,%.1f ", 60 + (double)(p[i].step - r->first) / steps * 560,
                          30 + (r->high - y) / (r->high - r->low) * 280);
    }
    bm_buf_puts(out, "\"/>\n");
}

static void xml_text(bm_buf *out, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '<' || *text == '&' || *text == '>' || (unsigned char)*text < 0x20)
            bm_buf_printf(out, "&#%d;", (unsigned char)*text < 0x20 ? ' ' : *text);
        else
            bm_buf_putc(out, *text);
}

void cli_curve_svg(bm_buf *out, const bm_tune_point *points, size_t n, const char *title)
{
    range r = { 0, 1, 0, 1 };
    bool any = find_range(points, n, &r);

    bm_buf_puts(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"360\" font-family=\"sans-serif\" font-size=\"12\">\n"
                     "<rect width=\"640\" height=\"360\" fill=\"white\"/>\n<text x=\"60\" y=\"20\">");
    xml_text(out, title);
    bm_buf_puts(out, "</text>\n<rect x=\"60\" y=\"30\" width=\"560\" height=\"280\" fill=\"none\" stroke=\"#999\"/>\n");
    for (int i = 0; i <= 4; i++) {
        bm_buf_printf(out, "<text x=\"54\" y=\"%d\" text-anchor=\"end\">%.3f</text>\n", 34 + 70 * i, r.high - (r.high - r.low) * i / 4);
        bm_buf_printf(out, "<text x=\"%d\" y=\"328\" text-anchor=\"middle\">%.0f</text>\n", 60 + 140 * i,
                      (double)r.first + (double)(r.last - r.first) * i / 4);
    }
    if (any) {
        svg_line(out, points, n, &r, false, "#1f77b4");
        svg_line(out, points, n, &r, true, "#d62728");
    }
    bm_buf_puts(out, "<text x=\"60\" y=\"350\" fill=\"#1f77b4\">loss</text>\n"
                     "<text x=\"100\" y=\"350\" fill=\"#d62728\">held-back rows</text>\n</svg>\n");
}

/* ---- show ---- */

static void print_pair(const char *name, const char *value)
{
    printf("%-12s ", name);
    cli_print_safe(value);
    putchar('\n');
}

/* The fields of a JSON object as "name value, name value", strings without quotes; null ones are left out. */
static void print_object(const char *name, const char *text)
{
    json_t *object = json_loads(text, 0, NULL);
    const char *key;
    json_t *value;
    int n = 0;

    if (json_is_object(object) && json_object_size(object) > 0) {
        printf("%-12s ", name);
        json_object_foreach (object, key, value) {
            char *dump = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
            if (json_is_null(value) || (dump != NULL && strlen(dump) > 200)) {
                free(dump);
                continue;
            }
            printf("%s%s ", n++ > 0 ? ", " : "", key);
            cli_print_safe(dump == NULL ? json_string_value(value) : dump);
            free(dump);
        }
        putchar('\n');
    }
    json_decref(object);
}

static void print_data(const char *text)
{
    json_t *list = json_loads(text, 0, NULL), *set;
    size_t i;

    json_array_foreach (list, i, set) {
        const char *path = json_string_value(json_object_get(set, "path")), *hash = json_string_value(json_object_get(set, "sha256"));
        printf("%-12s ", i == 0 ? "data" : "");
        cli_print_safe(path == NULL ? "?" : path);
        if (hash != NULL)
            printf("  sha256 %.12s", hash);
        putchar('\n');
    }
    json_decref(list);
}

static void print_run(const bm_run_row *r, const bm_tune_point *points, size_t n)
{
    char when[24], took[24];
    bm_buf curve = { 0 };

    print_pair("run", r->id);
    print_pair("name", r->name);
    print_pair("state", r->state);
    if (r->error[0] != '\0')
        print_pair("error", r->error);
    if (r->hint[0] != '\0')
        print_pair("hint", r->hint);
    printf("%-12s ", "model");
    cli_print_safe(r->model);
    printf("  sha256 %.12s\n", r->model_sha256);
    print_data(r->data);
    print_object("settings", r->settings);
    cli_time_text(when, r->created_ms);
    print_pair("created", when);
    if (r->finished_ms > 0) {
        cli_duration_text(took, (double)(r->finished_ms - r->started_ms) / 1000);
        print_pair("took", took);
    }
    printf("%-12s %lld of %lld, %lld tokens, started %lld time%s\n", "step", (long long)r->step, (long long)r->n_steps,
           (long long)r->tokens, (long long)r->attempts, r->attempts == 1 ? "" : "s");
    print_object("result", r->result);
    print_pair("made by", r->version);
    print_pair("on", r->machine);
    cli_curve_text(&curve, points, n, 64, 14);
    if (curve.len > 0)
        printf("\n%s", curve.data);
    bm_buf_done(&curve);
}

/* Losses with the shortest digits that read back as they are: what compares curves compares them exactly. */
static void write_curve(bm_json *j, const bm_tune_point *p, size_t n)
{
    bm_json_key(j, "curve");
    bm_json_open(j, '[');
    for (size_t i = 0; i < n; i++) {
        bm_json_open(j, '{');
        bm_json_kint(j, "step", p[i].step);
        if (!isnan(p[i].loss))
            bm_json_kdouble(j, "loss", p[i].loss);
        if (!isnan(p[i].valid_loss))
            bm_json_kdouble(j, "valid_loss", p[i].valid_loss);
        bm_json_close(j, '}');
    }
    bm_json_close(j, ']');
}

static int print_json(const bm_run_row *run, const bm_tune_point *points, size_t n)
{
    json_t *object = cli_run_json(run);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));
    bm_buf out = { 0 };
    bm_json j = { &out, true };
    bm_error err;
    int rc;

    if (text != NULL) {
        bm_buf_add(&out, text, strlen(text) - 1);                /* without the closing brace */
        write_curve(&j, points, n);
        bm_buf_putc(&out, '}');
    }
    rc = text == NULL || out.failed ? cli_fail((bm_fail(&err, BM_NOMEM, "no memory for the JSON"), &err)) : puts(out.data) < 0;
    bm_buf_done(&out);
    free(text);
    json_decref(object);
    return rc;
}

static int write_svg(const char *path, const bm_run_row *run, const bm_tune_point *points, size_t n, bm_error *err)
{
    bm_buf svg = { 0 }, title = { 0 };
    int rc;

    bm_buf_printf(&title, "%s (%s)", run->name, run->model);
    cli_curve_svg(&svg, points, n, title.failed ? run->id : title.data);
    rc = svg.failed ? bm_fail(err, BM_NOMEM, "no memory for a plot") : bm_write_file(path, svg.data, svg.len, 0644, err);
    bm_buf_done(&title);
    bm_buf_done(&svg);
    return rc;
}

static int show(bm_store *store, const char *name, const char *svg, bool as_json)
{
    bm_tune_point *points = NULL;
    bm_run_row run;
    bm_error err;
    size_t n = 0;
    int rc = 0;

    if (bm_job_find(store, "tune", name, &run, &err) < 0)
        return cli_fail(&err);
    if (bm_tune_curve(store, run.number, &points, &n, &err) < 0 || (svg != NULL && write_svg(svg, &run, points, n, &err) < 0)) {
        rc = cli_fail(&err);
    } else if (as_json) {
        rc = print_json(&run, points, n);
    } else {
        print_run(&run, points, n);
    }
    bm_free(points);
    bm_run_row_done(&run);
    return rc;
}

int cmd_tune_show(int argc, char **argv)
{
    const char *svg = NULL;
    bool as_json = false;
    const cli_option options[] = {
        { "svg", NULL, CLI_STR, &svg, 0, 0, "FILE", "write the loss curve there" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "tune show", "RUN [--svg FILE]",
                               "What a tuning was asked for and what came out, with its loss curve. RUN is an id, a name, or the\n"
                               "first characters of an id.",
                               "baimo tune show me --svg curve.svg", options };
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one run, by id or name, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    rc = show(store, argv[0], svg, as_json);
    bm_store_close(store);
    return rc;
}
