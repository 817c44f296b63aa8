/* eval_show.c - `baimo eval show | compare | export`: what came out, beside another run, and as a file. */
#include "cli/eval.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/runs.h"
#include "eval/compare.h"
#include "eval/report.h"
#include "eval/run.h"
#include "platform/jobs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SAMPLES = 1 << 30, SHOWN = 20 };

/* The samples file of a run's task. */
static int samples_path(bm_store *store, const bm_run_row *run, const char *task, bm_buf *out, bm_error *err)
{
    bm_buf dir = { 0 };
    int rc = bm_job_dir(&dir, bm_store_home(store), run->id, err);

    if (rc == 0)
        rc = bm_eval_samples_path(out, dir.data, task, err);
    bm_buf_done(&dir);
    return rc;
}

/* ---- show ---- */

typedef struct show_options { bool json, samples, failed; const char *task; } show_options;

/* Lines of samples as they are; only the failed ones when asked. */
static int print_samples(bm_store *store, const bm_run_row *run, const char *task, bool failed, bm_error *err)
{
    bm_buf path = { 0 };
    char *text = NULL;
    size_t len;
    int rc = samples_path(store, run, task, &path, err);

    if (rc == 0 && (rc = bm_read_file(&text, &len, path.data, MAX_SAMPLES, err)) == 0)
        for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            json_t *o = failed ? json_loads(line, JSON_ALLOW_NUL, NULL) : NULL;
            if (!failed || json_object_get(o, "error") != NULL)
                puts(line);
            json_decref(o);
        }
    bm_free(text);
    bm_buf_done(&path);
    return rc;
}

static void print_head(const bm_run_row *run, const json_t *results)
{
    const json_t *how = json_object_get(results, "run");
    char when[24];

    cli_time_text(when, run->created_ms);
    printf("%s  %s  ", run->id, when);
    cli_print_safe(run->adapter[0] != '\0' ? run->adapter : run->model);
    printf("  (model %.12s%s%.12s)\n", run->model_sha256, run->adapter_sha256[0] != '\0' ? ", adapter " : "", run->adapter_sha256);
    printf("%.1f s, %lld prompt tokens, %lld of them cached, %lld threads; failed documents: %lld\n\n",
           json_number_value(json_object_get(how, "seconds")), (long long)json_integer_value(json_object_get(how, "prompt_tokens")),
           (long long)json_integer_value(json_object_get(how, "cached_tokens")), (long long)json_integer_value(json_object_get(how, "threads")),
           (long long)json_integer_value(json_object_get(results, "failed")));
}

static int show(bm_store *store, const bm_run_row *run, const show_options *o)
{
    const json_t *tasks;
    json_t *results, *entry;
    bm_buf table = { 0 };
    const char *task;
    bm_error err;
    int rc = 0;

    if (bm_evals_results(store, run, &results, &err) < 0)
        return cli_fail(&err);
    tasks = json_object_get(results, "configs");
    if (o->samples || o->failed) {
        json_object_foreach((json_t *)(uintptr_t)tasks, task, entry)
            if (rc == 0 && (o->task == NULL || strcmp(o->task, task) == 0))
                rc = print_samples(store, run, task, o->failed, &err);
    } else if (o->json) {
        return cli_eval_print(results);
    } else if ((rc = bm_results_table(&table, results, &err)) == 0) {
        print_head(run, results);
        fputs(table.data ? table.data : "", stdout);
    }
    bm_buf_done(&table);
    json_decref(results);
    return rc < 0 ? cli_fail(&err) : 0;
}

int cmd_eval_show(int argc, char **argv)
{
    show_options o = { 0 };
    const cli_option options[] = {
        { "samples", NULL, CLI_FLAG, &o.samples, 0, 0, NULL, "every document with prompt, answer and score, a JSON object a line" },
        { "failed", NULL, CLI_FLAG, &o.failed, 0, 0, NULL, "the documents that failed, and why" },
        { "task", NULL, CLI_STR, &o.task, 0, 0, "NAME", "with --samples and --failed: only of this task" },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "lm-evaluation-harness's results JSON" }, { .name = NULL } };
    const cli_command self = { "eval show", "RUN [options]", "An evaluation, by id or name: its table, or its samples.",
                               "baimo eval show copa\nbaimo eval show copa --samples | head -1", options };
    bm_store *store;
    bm_run_row run;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one run, by id or name, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (cli_eval_find(store, argv[0], &run, &err) < 0) {
        rc = cli_fail(&err);
    } else {
        rc = show(store, &run, &o);
        bm_run_row_done(&run);
    }
    bm_store_close(store);
    return rc;
}

/* ---- compare ---- */

static json_t *paired_json(const char *task, const bm_compared *m, bool all)
{
    const bm_paired *p = &m->paired;
    json_t *changed = json_array();

    for (size_t i = 0; i < m->n_changed && (all || i < SHOWN); i++)
        json_array_append_new(changed, json_pack("{s:I, s:f, s:f}", "doc_id", (json_int_t)m->changed[i].doc_id, "a", m->changed[i].a, "b", m->changed[i].b));
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:o}", "task", task, "metric", m->metric, "filter", m->filter, "documents",
                          (json_int_t)p->n, "a", m->mean_a, "b", m->mean_b, "difference", p->mean, "a_better", (json_int_t)p->n_better, "b_better",
                          (json_int_t)p->n_worse, "changed", (json_int_t)m->n_changed, "samples", changed);
    if (isfinite(p->low)) {
        json_object_set_new(o, "low", json_real(p->low));
        json_object_set_new(o, "high", json_real(p->high));
        json_object_set_new(o, "p", json_real(p->p));
    }
    return o;
}

static void print_paired(const char *task, const bm_compared *m, bool all)
{
    const bm_paired *p = &m->paired;

    printf("%-28s %-18s %-16s %6zu %9.4f %9.4f %+9.4f  [%+.4f, %+.4f]  %.4f  %zu\n", task, m->metric, m->filter, p->n, m->mean_a, m->mean_b, p->mean, p->low,
           p->high, p->p, m->n_changed);
    for (size_t i = 0; i < m->n_changed && all; i++)
        printf("    document %ld: %g -> %g\n", m->changed[i].doc_id, m->changed[i].b, m->changed[i].a);
}

static int compare_task(bm_store *store, const bm_run_row *a, const bm_run_row *b, const char *task, json_t *list, bool samples, bm_error *err)
{
    bm_buf pa = { 0 }, pb = { 0 };
    bm_comparison c = { 0 };
    int rc;

    if ((rc = samples_path(store, a, task, &pa, err)) == 0 && (rc = samples_path(store, b, task, &pb, err)) == 0 &&
        (rc = bm_compare_samples(&c, pa.data, pb.data, err)) == 0) {
        for (size_t i = 0; i < c.n_metrics; i++) {
            if (list != NULL)
                json_array_append_new(list, paired_json(task, &c.metrics[i], samples));
            else
                print_paired(task, &c.metrics[i], samples);
        }
        if (c.n_unlike > 0)
            fprintf(stderr, "baimo: %s: %zu documents are not the same in both runs and are left out\n", task, c.n_unlike);
    }
    bm_comparison_done(&c);
    bm_buf_done(&pa);
    bm_buf_done(&pb);
    return rc;
}

static int compare(bm_store *store, const bm_run_row *a, const bm_run_row *b, bool as_json, bool samples)
{
    json_t *ra = NULL, *rb = NULL, *entry, *list = as_json ? json_array() : NULL;
    const char *task;
    size_t both = 0;
    bm_error err;
    int rc;

    if ((rc = bm_evals_results(store, a, &ra, &err)) == 0 && (rc = bm_evals_results(store, b, &rb, &err)) == 0) {
        if (!as_json)
            printf("%-28s %-18s %-16s %6s %9s %9s %9s  %-20s  %-6s  %s\n", "TASK", "METRIC", "FILTER", "N", "A", "B", "A - B", "95 %", "P", "CHANGED");
        json_object_foreach(json_object_get(ra, "configs"), task, entry)
            if (rc == 0 && json_object_get(json_object_get(rb, "configs"), task) != NULL) {
                both++;
                rc = compare_task(store, a, b, task, list, samples, &err);
            }
        if (rc == 0 && both == 0)
            rc = bm_fail(&err, BM_NOTFOUND, "the runs %s and %s have no task in common", a->id, b->id);
    }
    json_decref(ra);
    json_decref(rb);
    if (rc < 0) {
        json_decref(list);
        return cli_fail(&err);
    }
    return as_json ? cli_print_json(json_pack("{s:s, s:s, s:o}", "a", a->id, "b", b->id, "differences", list)) : 0;
}

int cmd_eval_compare(int argc, char **argv)
{
    bool json = false, samples = false;
    const cli_option options[] = {
        { "samples", NULL, CLI_FLAG, &samples, 0, 0, NULL, "every document whose value changed" },
        { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "eval compare", "A B [options]",
                               "Two evaluations on the documents that both have: the mean of the paired differences A - B, its interval of 95 %\n"
                               "and p-value (Student's t), and how many documents changed.",
                               "baimo eval compare tuned base", options };
    bm_run_row a = { 0 }, b = { 0 };
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 2)
        return cli_usage_error(self.name, "expected two runs, by id or name, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (cli_eval_find(store, argv[0], &a, &err) < 0 || cli_eval_find(store, argv[1], &b, &err) < 0)
        rc = cli_fail(&err);
    else
        rc = compare(store, &a, &b, json, samples);
    bm_run_row_done(&a);
    bm_run_row_done(&b);
    bm_store_close(store);
    return rc;
}

/* ---- export ---- */

static int export(bm_store *store, const bm_run_row *run, const char *format, const char *path)
{
    json_t *results;
    bm_buf out = { 0 };
    bm_json j = { &out, false };
    bm_error err;
    int rc;

    if (bm_evals_results(store, run, &results, &err) < 0)
        return cli_fail(&err);
    if (strcmp(format, "csv") == 0) {
        rc = bm_report_csv(&out, results, &err);
    } else if (strcmp(format, "html") == 0) {
        rc = bm_report_html(&out, results, run->name, &err);
    } else {
        bm_json_value(&j, results);
        bm_buf_putc(&out, '\n');
        rc = out.failed ? bm_fail(&err, BM_NOMEM, "no memory for a report") : 0;
    }
    if (rc == 0 && path != NULL)
        rc = bm_write_file(path, out.data, out.len, 0644, &err);
    else if (rc == 0)
        fwrite(out.data, 1, out.len, stdout);
    bm_buf_done(&out);
    json_decref(results);
    return rc < 0 ? cli_fail(&err) : 0;
}

int cmd_eval_export(int argc, char **argv)
{
    const char *format = "json", *path = NULL;
    const cli_option options[] = {
        { "format", NULL, CLI_STR, &format, 0, 0, "json|csv|html", "lm-evaluation-harness's results (default), a table, a page without outside assets" },
        { "out", "-o", CLI_STR, &path, 0, 0, "FILE", "instead of stdout" }, { .name = NULL } };
    const cli_command self = { "eval export", "RUN [options]", "The results of an evaluation as a file.", "baimo eval export nightly --format html -o nightly.html",
                               options };
    bm_run_row run;
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one run, by id or name, found %d", n);
    if (strcmp(format, "json") != 0 && strcmp(format, "csv") != 0 && strcmp(format, "html") != 0)
        return cli_usage_error(self.name, "--format is json, csv or html, not %s", format);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (cli_eval_find(store, argv[0], &run, &err) < 0) {
        rc = cli_fail(&err);
    } else {
        rc = export(store, &run, format, path);
        bm_run_row_done(&run);
    }
    bm_store_close(store);
    return rc;
}
