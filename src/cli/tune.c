/* tune.c - `baimo tune start | ls | follow | stop | resume | rm`. Runs live in the store of the home; who works on them is its
 * running server, or else this command in the foreground. */
#include "cli/tune.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/number.h"
#include "cli/cli.h"
#include "cli/runs.h"
#include "platform/shelf.h"

#include <stdio.h>
#include <string.h>

/* ---- start ---- */

typedef struct start_options {
    bm_tune_request request;
    cli_list data;
    bool follow, json, dry_run;
} start_options;

/* FILE or FILE@WEIGHT. */
static int take_data(start_options *o)
{
    static char paths[BM_TUNE_MOST_DATA][4096];

    if (o->data.n > BM_TUNE_MOST_DATA)
        return cli_usage_error("tune start", "--data: given more than %d times", BM_TUNE_MOST_DATA);
    for (int i = 0; i < o->data.n; i++) {
        const char *at = strrchr(o->data.items[i], '@');
        bm_tune_data *set = &o->request.data[i];
        if (at != NULL && bm_parse_double(at + 1, 1e-6, 1e6, &set->weight))
            snprintf(paths[i], sizeof paths[i], "%.*s", (int)(at - o->data.items[i]), o->data.items[i]);
        else
            snprintf(paths[i], sizeof paths[i], "%s", o->data.items[i]);
        set->path = paths[i];
    }
    o->request.n_data = o->data.n;
    return 0;
}

/* In the foreground, or as the server's. */
static int carry_on(bm_store *store, bm_run_row *run, bool follow, bool as_json)
{
    cli_follow options = { .json = as_json, .from_start = true };
    bm_jobs *jobs = NULL;
    bm_error err;
    int rc;

    if (cli_server_runs(bm_store_home(store))) {
        if (follow)
            return cli_follow_run(store, NULL, run, &options);
        if (as_json)
            return cli_print_json(cli_run_json(run));
        printf("%s is queued; the running server works on it\n  baimo tune follow %s\n", run->id, run->id);
        return 0;
    }
    if (cli_jobs_open(&jobs, store, run->id, &err) < 0)
        return cli_fail(&err);
    if (!as_json)
        fprintf(stderr, "%s: no server runs in this home, so this command does the work (Ctrl-C stops at a checkpoint)\n", run->id);
    rc = cli_follow_run(store, jobs, run, &options);
    bm_jobs_free(jobs);
    return rc;
}

static int do_start(start_options *o)
{
    bm_run_row run;
    bm_store *store;
    bm_error err;
    int rc;

    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (o->dry_run) {
        rc = cli_tune_dry(store, &o->request, o->json);
    } else if (bm_tune_create(store, &o->request, 0, &run, &err) < 0) {
        rc = cli_fail(&err);
    } else {
        rc = carry_on(store, &run, o->follow, o->json);
        bm_run_row_done(&run);
    }
    bm_store_close(store);
    return rc;
}

static int tune_start(int argc, char **argv)
{
    start_options o = { 0 };
    bm_tune_request *r = &o.request;

    bm_tune_defaults(r);
    const cli_option options[] = {
        { "model", "-m", CLI_STR, &r->model, 0, 0, "NAME", "the model of the shelf to tune" },
        { "data", NULL, CLI_LIST, &o.data, 0, 0, "FILE[@W]",
          "rows to train on, a file or a set of `baimo data ls`; several\nare mixed by weight W (default 1)" },
        { "name", NULL, CLI_STR, &r->name, 0, 0, "NAME", "the adapter's name on the shelf" },
        { "method", NULL, CLI_STR, &r->method, 0, 0, "sft|dpo", "answers, or preferences (default: by looking at the rows)" },
        { "targets", NULL, CLI_STR, &r->targets, 0, 0, "LIST", "all-linear (default), or names such as q_proj,v_proj" },
        { "rank", "-r", CLI_INT, &r->rank, 1, 512, "N", "rank of the adapter (default 16)" },
        { "alpha", NULL, CLI_FLOAT, &r->alpha, 1e-6, 1e6, "X", "its scale is alpha / rank (default 32)" },
        { "rslora", NULL, CLI_FLAG, &r->rslora, 0, 0, NULL, "its scale is alpha / sqrt(rank)" },
        { "lr", NULL, CLI_FLOAT, &r->lr, 0, 10, "X", "learning rate (default 2e-4)" },
        { "decay", NULL, CLI_STR, &r->decay, 0, 0, "NAME", "of the learning rate: cosine (default), linear or constant" },
        { "warmup", NULL, CLI_FLOAT, &r->warmup, 0, 1e9, "X", "share of the steps that warm up (default 0.03); from 1 on: steps" },
        { "weight-decay", NULL, CLI_FLOAT, &r->weight_decay, 0, 10, "X", "of AdamW (default 0)" },
        { "clip", NULL, CLI_FLOAT, &r->clip, 0, 1e9, "X", "largest norm of a step's gradient (default 1; 0: none)" },
        { "beta", NULL, CLI_FLOAT, &r->beta, 1e-6, 100, "X", "of DPO (default 0.1)" },
        { "epochs", "-e", CLI_FLOAT, &r->epochs, 0, 10000, "X", "passes over the data (default 1)" },
        { "steps", NULL, CLI_INT, &r->steps, 0, 1e9, "N", "exactly so many steps, whatever the epochs" },
        { "batch-size", "-b", CLI_INT, &r->batch_size, 1, 4096, "N", "rows of a step (default 4)" },
        { "pack", NULL, CLI_FLAG, &r->pack, 0, 0, NULL, "a step is --batch-size full sequences instead of rows" },
        { "max-length", NULL, CLI_INT, &r->max_length, 2, 1 << 20, "N", "tokens of a row (default 1024)" },
        { "prompt-field", NULL, CLI_STR, &r->prompt_field, 0, 0, "KEY", "where a row's question stands (default: by looking)" },
        { "target-field", NULL, CLI_STR, &r->target_field, 0, 0, "KEY", "where a row's answer stands" },
        { "loss-after", NULL, CLI_STR, &r->loss_after, 0, 0, "TEXT", "plain text: what stands after it carries the loss ('A:')" },
        { "shape", NULL, CLI_STR, &r->shape, 0, 0, "NAME", "of the rows (default: by looking; baimo data check FILE)" },
        { "render", NULL, CLI_STR, &r->render, 0, 0, "chat|text", "pairs of strings as a chat, or as text (default: by looking)" },
        { "part", NULL, CLI_STR, &r->part, 0, 0, "KEY", "which list of rows of a JSON object that holds several" },
        { "no-header", NULL, CLI_FLAG, &r->no_header, 0, 0, NULL, "CSV: the first line is a row; columns are named 1, 2, ..." },
        { "drop-bad", NULL, CLI_FLAG, &r->drop_bad, 0, 0, NULL, "go on without the rows that are bad" },
        { "split-long", NULL, CLI_FLAG, &r->split_long, 0, 0, NULL, "cut rows over --max-length into several; else they are bad" },
        { "valid-share", NULL, CLI_FLOAT, &r->valid_share, 0, 0.9, "X", "share of the rows to hold back for validation" },
        { "valid-data", NULL, CLI_STR, &r->valid_data, 0, 0, "FILE", "rows for validation" },
        { "valid-every", NULL, CLI_INT, &r->valid_every, 0, 1e9, "N", "steps between validations (default: an eighth of the run)" },
        { "patience", NULL, CLI_INT, &r->patience, 0, 1e6, "N", "stop after so many validations without a gain (0: never)" },
        { "save-every", NULL, CLI_INT, &r->save_every, 0, 1e9, "N", "steps between checkpoints (default: each minute)" },
        { "precision", NULL, CLI_STR, &r->precision, 0, 0, "fast|f32", "f32 is slow, for reference (default fast)" },
        { "threads", "-t", CLI_INT, &r->threads, 0, 1024, "N", "threads (default: the cores this process may use)" },
        { "memory", NULL, CLI_INT, &r->memory_mib, 0, 1e9, "MIB", "most memory that the job may take" },
        { "seed", NULL, CLI_INT, &r->seed, 0, 9e15, "N", "of the first weights and the order of rows (default 0)" },
        { "dry-run", NULL, CLI_FLAG, &o.dry_run, 0, 0, NULL, "say steps, time and memory, and do nothing" },
        { "follow", "-f", CLI_FLAG, &o.follow, 0, 0, NULL, "stay until it has ended" },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "for programs; with --follow: metrics, a line per step" },
        { .name = NULL },
    };
    const cli_command self = {
        "tune start", "--model NAME --data FILE --name NAME [options]",
        "Tune a model of the shelf: trains a LoRA adapter on the very file that is served, and puts it on the shelf.\n"
        "The running server of this home does the work beside its requests; without one, this command does.",
        "baimo tune start --model smollm2 --data identity.jsonl --name me --epochs 3\n"
        "baimo tune start --model smollm2 --data a.jsonl --data b.jsonl@0.5 --name mix --follow --json", options,
    };
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    if (r->model == NULL || o.data.n == 0 || (r->name == NULL && !o.dry_run))
        return cli_usage_error(self.name, "--model, --data and --name are needed");
    if (r->name == NULL)
        r->name = "dry-run";
    if ((rc = take_data(&o)) != 0)
        return rc;
    return do_start(&o);
}

/* ---- ls ---- */

static int tune_ls(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "tune ls", "[--json]", "The tunings of this home, the latest first.", "baimo tune ls", options };

    return cli_runs_ls(&self, argc, argv, "tune", &as_json, "no tunings yet: baimo tune start --help");
}

/* ---- commands about one run ---- */

static int do_follow(bm_store *store, bm_run_row *run, bool as_json)
{
    cli_follow options = { .json = as_json, .from_start = true };
    bool open = strcmp(run->state, "queued") == 0 || strcmp(run->state, "running") == 0 || strcmp(run->state, "stopping") == 0;

    if (!open || cli_server_runs(bm_store_home(store)))
        return cli_follow_run(store, NULL, run, &options);
    return carry_on(store, run, true, as_json);      /* nobody else would: adopt it */
}

static int do_resume(bm_store *store, bm_run_row *run, bool as_json)
{
    bm_error err;

    if (bm_job_resume(store, run->id, &err) < 0)
        return cli_fail(&err);
    strcpy(run->state, "queued");
    return carry_on(store, run, false, as_json);
}

static int tune_follow(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "metrics as JSON, a line per step" }, { .name = NULL } };
    const cli_command self = { "tune follow", "RUN [--json]",
                               "See a tuning until it has ended. Without a running server, this command goes on with it.",
                               "baimo tune follow me", options };

    return cli_with_run(&self, argc, argv, "tune", &json, do_follow);
}

static int tune_stop(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "tune stop", "RUN", "Stop a tuning at a checkpoint.", "baimo tune stop me", options };

    return cli_with_run(&self, argc, argv, "tune", &json, cli_run_stop);
}

static int tune_resume(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "tune resume", "RUN", "Go on with a stopped or failed tuning from its last checkpoint.",
                               "baimo tune resume me", options };

    return cli_with_run(&self, argc, argv, "tune", &json, do_resume);
}

static int tune_rm(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "tune rm", "RUN", "Take an ended tuning out of the records, with its checkpoints.",
                               "baimo tune rm me", options };

    return cli_with_run(&self, argc, argv, "tune", &json, cli_run_rm);
}

int cmd_tune(int argc, char **argv)
{
    static const cli_sub subs[] = {
        { "start", tune_start, "train an adapter" },
        { "ls", tune_ls, "the tunings, the latest first" },
        { "show", cmd_tune_show, "one tuning: settings, result, loss curve" },
        { "follow", tune_follow, "see one until it has ended" },
        { "stop", tune_stop, "stop one at a checkpoint" },
        { "resume", tune_resume, "go on from the last checkpoint" },
        { "export", cmd_tune_export, "its adapter for PEFT or llama.cpp" },
        { "rm", tune_rm, "take one out of the records" },
        { NULL, NULL, NULL },
    };
    return cli_dispatch("tune", subs, argc, argv);
}
