/* tune_dry.c - `baimo tune start --dry-run`: steps, time and memory of a tuning, and the rows that are bad. */
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/tune.h"

#include <stdio.h>
#include <string.h>

typedef struct dry {
    bool failed;
    json_t *start, *estimate;
    bm_error err;
} dry;

static const char *text_of(const json_t *event, const char *key)
{
    const char *s = json_string_value(json_object_get(event, key));

    return s == NULL ? "" : s;
}

static int take_event(void *arg, const json_t *event)
{
    dry *d = arg;
    const char *what = text_of(event, "event");

    if (strcmp(what, "estimate") == 0) {
        d->estimate = json_deep_copy(event);
    } else if (strcmp(what, "start") == 0) {
        d->start = json_deep_copy(event);
    } else if (strcmp(what, "message") == 0) {
        fflush(stdout);
        for (const char *p = text_of(event, "message"); *p != '\0'; p++)
            fputc((unsigned char)*p < 0x20 || *p == 0x7F ? ' ' : *p, stderr);
        fputc('\n', stderr);
    } else if (strcmp(what, "error") == 0) {
        d->failed = true;
        bm_fail(&d->err, BM_IO, "%s", text_of(event, "message"));
        bm_hint(&d->err, "%s", text_of(event, "hint"));
    }
    return 0;
}

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static void print_estimate(const dry *d)
{
    const json_t *set;
    char memory[24], time[24];
    size_t i;

    json_array_foreach (json_object_get(d->start, "data"), i, set) {
        printf("%-8s ", i == 0 ? "data" : "");
        cli_print_safe(text_of(set, "path"));
        printf(": %.0f rows, %.0f held back, %.0f tokens, %.0f with loss, %.0f bad rows\n", number(set, "rows"),
               number(set, "valid_rows"), number(set, "tokens"), number(set, "target_tokens"), number(set, "bad"));
    }
    cli_size_text(memory, (uint64_t)number(d->estimate, "memory_bytes"));
    cli_duration_text(time, number(d->estimate, "seconds"));
    printf("%-8s %.0f, with %.0f tokens in all\n", "steps", number(d->estimate, "n_steps"), number(d->estimate, "tokens"));
    printf("%-8s %s, at %.0f tokens/s\n", "time", time, number(d->estimate, "tokens_per_s"));
    printf("%-8s %s at the peak\n", "memory", memory);
}

int cli_tune_dry(bm_store *store, const bm_tune_request *request, bool as_json)
{
    dry d = { .failed = false };
    bm_buf job = { 0 };
    bm_error err;
    int rc;

    if (bm_tune_text(store, request, true, &job, &err) < 0 ||
        bm_job_try(store, NULL, job.data, job.len, take_event, &d, &err) < 0)
        rc = cli_fail(&err);
    else if (d.failed)
        rc = cli_fail(&d.err);
    else if (d.estimate == NULL)
        rc = cli_fail((bm_fail(&err, BM_IO, "the job's process said nothing"), &err));
    else if (as_json)
        rc = cli_print_json(json_pack("{s:O, s:O*}", "estimate", d.estimate, "data", json_object_get(d.start, "data")));
    else
        print_estimate(&d), rc = 0;
    json_decref(d.start);
    json_decref(d.estimate);
    bm_buf_done(&job);
    return rc;
}
