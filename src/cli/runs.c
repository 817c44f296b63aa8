/* runs.c - what `baimo tune` and `baimo eval` do alike with their runs: list, find, stop, remove; see runs.h. */
#include "cli/runs.h"
#include "platform/jobs.h"

#include <stdio.h>
#include <string.h>

json_t *cli_run_json(const bm_run_row *r)
{
    json_t *settings = json_loads(r->settings, 0, NULL), *data = json_loads(r->data, 0, NULL);
    json_t *result = json_loads(r->result, 0, NULL);

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o*, s:o*, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:o*, s:s, s:s, s:I, s:I, s:I}",
                     "id", r->id, "kind", r->kind, "name", r->name, "state", r->state, "model", r->model, "model_sha256",
                     r->model_sha256, "adapter", r->adapter, "adapter_sha256", r->adapter_sha256, "data", data, "settings", settings, "seed", (json_int_t)r->seed, "version", r->version,
                     "machine", r->machine, "step", (json_int_t)r->step, "n_steps", (json_int_t)r->n_steps, "tokens",
                     (json_int_t)r->tokens, "attempts", (json_int_t)r->attempts, "result", result, "error", r->error, "hint",
                     r->hint, "created_ms", (json_int_t)r->created_ms, "started_ms", (json_int_t)r->started_ms, "finished_ms",
                     (json_int_t)r->finished_ms);
}

static void print_run(const bm_run_row *r)
{
    char when[24], steps[48];

    cli_time_text(when, r->created_ms);
    if (r->n_steps > 0)
        snprintf(steps, sizeof steps, "%lld/%lld", (long long)r->step, (long long)r->n_steps);
    else
        snprintf(steps, sizeof steps, "%lld", (long long)r->step);
    printf("%-24s %-16s %-10s %12s  ", r->id, when, r->state, steps);
    cli_print_safe(r->name);
    fputs("  (", stdout);
    cli_print_safe(r->adapter[0] != '\0' && strcmp(r->kind, "eval") == 0 ? r->adapter : r->model);
    puts(")");
}

int cli_runs_ls(const cli_command *self, int argc, char **argv, const char *kind, const bool *as_json, const char *none)
{
    bm_runs_filter filter = { .kind = kind };
    bm_run_row *rows;
    bm_store *store;
    bm_error err;
    size_t n_rows;
    int n, rc;

    if ((rc = cli_parse(self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self->name, "takes no arguments, found '%s'", argv[0]);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (bm_runs_list(store, &filter, &rows, &n_rows, &err) < 0) {
        rc = cli_fail(&err);
    } else if (*as_json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n_rows; i++)
            json_array_append_new(list, cli_run_json(&rows[i]));
        rc = cli_print_json(json_pack("{s:o}", "runs", list));
    } else {
        if (n_rows == 0)
            puts(none);
        else
            printf("%-24s %-16s %-10s %12s  %s\n", "ID", "CREATED", "STATE", "STEP", "NAME (MODEL)");
        for (size_t i = 0; i < n_rows; i++)
            print_run(&rows[i]);
    }
    bm_runs_free(rows, n_rows);
    bm_store_close(store);
    return rc;
}

int cli_run_stop(bm_store *store, bm_run_row *run, bool as_json)
{
    bm_run_row now;
    bm_error err;
    int rc;

    if (bm_job_stop(store, run->id, &err) < 0 || bm_runs_find(store, run->id, &now, &err) < 0)
        return cli_fail(&err);
    if (as_json)
        rc = cli_print_json(cli_run_json(&now));
    else
        rc = printf("%s is %s\n", now.id, now.state) < 0;
    bm_run_row_done(&now);
    return rc;
}

int cli_run_rm(bm_store *store, bm_run_row *run, bool as_json)
{
    bm_error err;

    if (bm_job_remove(store, run->id, &err) < 0) {
        if (err.code == BM_BUSY)
            bm_hint(&err, "baimo %s stop %s", run->kind, run->id);
        return cli_fail(&err);
    }
    if (as_json)
        return cli_print_json(json_pack("{s:s}", "removed", run->id));
    printf("removed %s with %s\n", run->id, strcmp(run->kind, "tune") == 0 ? "its checkpoints; its adapter stays on the shelf" : "its samples");
    return 0;
}

int cli_with_run(const cli_command *self, int argc, char **argv, const char *kind, const bool *as_json, int (*run_it)(bm_store *, bm_run_row *, bool))
{
    bm_run_row run;
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self->name, "expected one run, by id or name, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (bm_job_find(store, kind, argv[0], &run, &err) < 0) {
        rc = cli_fail(&err);
    } else {
        rc = run_it(store, &run, *as_json);
        bm_run_row_done(&run);
    }
    bm_store_close(store);
    return rc;
}
