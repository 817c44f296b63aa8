/* eval.c - `baimo eval run | tasks | ls | follow | stop | resume | rm`. Runs live in the store of the home; who works on them is its
 * running server, or else this command in the foreground. */
#include "cli/eval.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/runs.h"
#include "cli/tune.h"
#include "eval/tally.h"
#include "platform/jobs.h"
#include "store/datasets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- run ---- */

int cli_eval_find(bm_store *store, const char *what, bm_run_row *out, bm_error *err)
{
    return bm_job_find(store, "eval", what, out, err);
}

static int see_through(bm_store *store, bm_run_row *run, bool silent)
{
    cli_follow options = { .from_start = true, .silent = silent };
    bm_jobs *jobs = NULL;
    bm_error err;
    int rc;

    if (cli_server_runs(bm_store_home(store)))
        return cli_follow_run(store, NULL, run, &options);
    if (cli_jobs_open(&jobs, store, run->id, &err) < 0)
        return cli_fail(&err);
    rc = cli_follow_run(store, jobs, run, &options);
    bm_jobs_free(jobs);
    return rc;
}

int cli_eval_do(bm_store *store, const bm_eval_request *request, bool silent, bm_run_row *out)
{
    bm_run_row run;
    bm_error err;
    int rc;

    *out = (bm_run_row){ 0 };
    if (bm_evals_create(store, request, 0, &run, &err) < 0)
        return cli_fail(&err);
    rc = see_through(store, &run, silent);
    if (rc == 0 && bm_runs_find(store, run.id, out, &err) < 0)
        rc = cli_fail(&err);
    bm_run_row_done(&run);
    return rc;
}

int cli_eval_print(json_t *results)
{
    bm_buf text = { 0 };
    bm_json j = { &text, false };
    bool ok;

    bm_json_value(&j, results);
    bm_buf_putc(&text, '\n');
    ok = !text.failed && fwrite(text.data, 1, text.len, stdout) == text.len;
    bm_buf_done(&text);
    json_decref(results);
    return ok ? 0 : 1;
}

/* The results, as a table or as they are; 1 when documents failed. */
static int print_results(bm_store *store, const bm_run_row *run, bool as_json)
{
    bm_buf table = { 0 };
    json_t *results;
    bm_error err;
    int rc;

    if (bm_evals_results(store, run, &results, &err) < 0)
        return cli_fail(&err);
    json_int_t failed = json_integer_value(json_object_get(results, "failed"));
    if (as_json) {
        rc = cli_eval_print(results);
    } else if (bm_results_table(&table, results, &err) < 0) {
        json_decref(results);
        rc = cli_fail(&err);
    } else {
        fputs(table.data ? table.data : "", stdout);
        json_decref(results);
        rc = 0;
    }
    bm_buf_done(&table);
    if (failed > 0)
        fprintf(stderr, "baimo: %lld documents failed; the others are scored\nhint: baimo eval show %s --failed\n", (long long)failed, run->id);
    return rc != 0 ? rc : failed > 0;
}

typedef struct run_options {
    bm_eval_request request;
    cli_list tasks, include;
    const char *gen_kwargs, *precision;
    bool json, detach;
    char *names;                 /* the tasks, comma by comma */
} run_options;

/* --tasks A,B --tasks C. A comma inside a path cannot be written. */
static int take_names(run_options *o)
{
    size_t len = 1;

    for (int i = 0; i < o->tasks.n; i++)
        len += strlen(o->tasks.items[i]) + 1;
    if ((o->names = bm_zalloc(len)) == NULL)
        return cli_usage_error("eval run", "no memory");
    for (int i = 0; i < o->tasks.n; i++)
        strcat(strcat(o->names, i > 0 ? "," : ""), o->tasks.items[i]);
    for (char *p = o->names, *next; p != NULL; p = next) {
        if ((next = strchr(p, ',')) != NULL)
            *next++ = '\0';
        if (*p == '\0')
            continue;
        if (o->request.n_tasks == BM_EVAL_MOST_TASKS)
            return cli_usage_error("eval run", "more than %d tasks; a group counts as one", BM_EVAL_MOST_TASKS);
        o->request.tasks[o->request.n_tasks++] = p;
    }
    for (int i = 0; i < o->include.n; i++)
        o->request.include[o->request.n_include++] = o->include.items[i];
    return o->request.n_tasks > 0 ? 0 : cli_usage_error("eval run", "--tasks names none");
}

static int do_run(run_options *o)
{
    json_t *kwargs = NULL;
    bm_store *store;
    bm_run_row run;
    bm_error err;
    int rc;

    if (o->gen_kwargs != NULL && ((kwargs = json_loads(o->gen_kwargs, 0, NULL)) == NULL || !json_is_object(kwargs))) {
        json_decref(kwargs);
        return cli_usage_error("eval run", "--gen-kwargs must be a JSON object");
    }
    o->request.gen_kwargs = kwargs;
    if (cli_open_store(&store, &err) < 0) {
        json_decref(kwargs);
        return cli_fail(&err);
    }
    if (o->detach && cli_server_runs(bm_store_home(store))) {
        if (bm_evals_create(store, &o->request, 0, &run, &err) < 0) {
            rc = cli_fail(&err);
        } else {
            rc = o->json ? cli_print_json(cli_run_json(&run)) : printf("%s is queued\n  baimo eval follow %s\n", run.id, run.id) < 0;
            bm_run_row_done(&run);
        }
    } else if ((rc = cli_eval_do(store, &o->request, o->json, &run)) == 0) {
        rc = print_results(store, &run, o->json);
        bm_run_row_done(&run);
    }
    json_decref(kwargs);
    bm_store_close(store);
    return rc;
}

static int eval_run(int argc, char **argv)
{
    run_options o = { .request.num_fewshot = -1, .precision = "fast" };
    bm_eval_request *r = &o.request;
    const cli_option options[] = {
        { "model", "-m", CLI_STR, &r->model, 0, 0, "NAME", "a model, adapter or alias of the shelf" },
        { "tasks", NULL, CLI_LIST, &o.tasks, 0, 0, "LIST", "tasks, groups, tags or YAML files, comma-separated (baimo eval tasks)" },
        { "include-path", NULL, CLI_LIST, &o.include, 0, 0, "DIR", "a further folder of task files, lm-evaluation-harness's own for example" },
        { "name", NULL, CLI_STR, &r->name, 0, 0, "NAME", "of the run (default: the tasks)" },
        { "limit", NULL, CLI_INT, &r->limit, 0, 1e12, "N", "the first N documents of each task (default: all)" },
        { "num-fewshot", NULL, CLI_INT, &r->num_fewshot, 0, 1000, "K", "examples in each prompt (default: as the task says)" },
        { "apply-chat-template", NULL, CLI_FLAG, &r->apply_chat_template, 0, 0, NULL, "prompts as chats, by the model's template" },
        { "fewshot-as-multiturn", NULL, CLI_FLAG, &r->fewshot_as_multiturn, 0, 0, NULL, "examples as turns of the chat" },
        { "system-instruction", NULL, CLI_STR, &r->system_instruction, 0, 0, "TEXT", "in front of every prompt" },
        { "gen-kwargs", NULL, CLI_STR, &o.gen_kwargs, 0, 0, "JSON", "over the tasks' generation_kwargs" },
        { "seed", NULL, CLI_INT, &r->seed, 0, 9e15, "N", "of sampled generations (default 0)" },
        { "fewshot-seed", NULL, CLI_INT, &r->fewshot_seed, 0, 9e15, "N", "of the examples (default 1234, lm-eval's)" },
        { "bootstrap", NULL, CLI_INT, &r->bootstrap, -1, 1e7, "N", "resamples for errors that have no formula (default 100000; -1: none)" },
        { "ctx", "-c", CLI_INT, &r->context, 0, 1 << 24, "N", "context (default: the model's own, at most 8192)" },
        { "precision", NULL, CLI_STR, &o.precision, 0, 0, "fast|f32", "f32: everything in 32 bits, to see what rounding costs (default fast: what is served)" },
        { "threads", "-t", CLI_INT, &r->threads, 0, 1024, "N", "threads (default: the cores this process may use)" },
        { "memory", NULL, CLI_INT, &r->memory_mib, 0, 1e9, "MIB", "most memory that the job may take" },
        { "detach", NULL, CLI_FLAG, &o.detach, 0, 0, NULL, "leave it to the running server" },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "lm-evaluation-harness's results JSON on stdout" },
        { .name = NULL } };
    const cli_command self = { "eval run", "--model NAME --tasks LIST [options]",
                               "Score a model, adapter or alias on tasks: what is served, by the engine that serves it. Every sample is recorded;\n"
                               "a stopped run goes on where it was (baimo eval resume).",
                               "baimo eval run --model smollm2 --tasks copa\nbaimo eval run --model smollm2 --tasks arc_easy,my_bank.yaml --limit 200 --json",
                               options };
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    if (o.tasks.n == 0)
        return cli_usage_error(self.name, "--tasks is needed: baimo eval tasks lists them");
    if (strcmp(o.precision, "fast") != 0 && strcmp(o.precision, "f32") != 0)
        return cli_usage_error(self.name, "--precision is fast or f32, not %s", o.precision);
    r->f32 = strcmp(o.precision, "f32") == 0;
    if ((rc = take_names(&o)) == 0)
        rc = do_run(&o);
    bm_free(o.names);
    return rc;
}

/* ---- tasks ---- */

static const char *data_state(bm_store *store, const bm_task *task)
{
    bm_dataset_row *rows;
    const char *state = "missing";
    size_t n;

    if (json_object_get(task->dataset_kwargs, "data_files") != NULL)
        return "here";
    if (store == NULL || bm_datasets_list(store, &rows, &n, NULL) < 0)
        return "?";
    for (size_t i = 0; i < n; i++) {
        char hub[512];
        snprintf(hub, sizeof hub, "%s%s%s", task->dataset_path ? task->dataset_path : "", task->dataset_name ? "/" : "",
                 task->dataset_name ? task->dataset_name : "");
        if (strcmp(rows[i].hub, hub) == 0)
            state = "here";
    }
    bm_free(rows);
    return state;
}

static json_t *task_json(bm_store *store, const bm_task_index *index, const bm_task_entry *e)
{
    static const char *const kinds[] = { "task", "group", "tag" };
    const char *name[] = { e->name };
    bm_task_options none = { 0 };
    bm_task_list *list;
    json_t *o = json_pack("{s:s, s:s}", "name", e->name, "kind", kinds[e->kind]);

    if (e->file != NULL)
        json_object_set_new(o, "file", json_string(e->file));
    if (e->kind == BM_ENTRY_TASK && bm_task_list_load(&list, index, name, 1, &none, NULL) == 0) {
        const bm_task *t = list->tasks[0];
        json_object_set_new(o, "output", json_string(bm_task_output_name(t->output)));
        json_object_set_new(o, "data", json_string(data_state(store, t)));
        json_object_set_new(o, "num_fewshot", json_integer(t->num_fewshot));
        if (t->dataset_path != NULL)
            json_object_set_new(o, "dataset", json_sprintf("%s%s%s", t->dataset_path, t->dataset_name ? "/" : "", t->dataset_name ? t->dataset_name : ""));
        bm_task_list_free(list);
    } else if (e->kind == BM_ENTRY_TASK) {
        json_object_set_new(o, "data", json_string("refused"));
    }
    return o;
}

static void print_refused(void *arg, const char *file, const bm_error *err)
{
    (void)arg, (void)file;
    fputs("baimo: ", stderr);
    fprintf(stderr, "%s\n", err->msg);
}

static void print_task(const json_t *o)
{
    const char *dataset = json_string_value(json_object_get(o, "dataset")), *data = json_string_value(json_object_get(o, "data"));
    const char *output = json_string_value(json_object_get(o, "output"));

    printf("%-32s %-6s %-22s %-8s ", json_string_value(json_object_get(o, "name")), json_string_value(json_object_get(o, "kind")),
           output ? output : "", data ? data : "");
    cli_print_safe(dataset ? dataset : "");
    putchar('\n');
}

static int list_tasks(const char *const *folders, size_t n, const char *only, bool as_json)
{
    bm_task_index *index;
    bm_store *store = NULL;
    json_t *all = json_array(), *o;
    bm_error err;
    size_t i;
    int rc;

    if (bm_task_index_open(&index, folders, n, print_refused, NULL, &err) < 0) {
        json_decref(all);
        return cli_fail(&err);
    }
    if (cli_open_store(&store, &err) < 0)
        store = NULL;
    for (i = 0; i < bm_task_index_count(index); i++) {
        const bm_task_entry *e = bm_task_index_at(index, i);
        if (only == NULL || strstr(e->name, only) != NULL)
            json_array_append_new(all, task_json(store, index, e));
    }
    if (as_json) {
        rc = cli_print_json(json_pack("{s:o}", "tasks", all));
    } else {
        printf("%-32s %-6s %-22s %-8s %s\n", "NAME", "KIND", "OUTPUT", "DATA", "DATASET");
        json_array_foreach(all, i, o)
            print_task(o);
        puts("\nDATA missing: register a file with  baimo data add FILE --as DATASET:SPLIT");
        json_decref(all);
        rc = 0;
    }
    bm_store_close(store);
    bm_task_index_close(index);
    return rc;
}

static int eval_tasks(int argc, char **argv)
{
    cli_list include = { .n = 0 };
    bool as_json = false;
    const cli_option options[] = {
        { "include-path", NULL, CLI_LIST, &include, 0, 0, "DIR", "a further folder of task files" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "eval tasks", "[TEXT] [--include-path DIR]", "The tasks that can be run, and whether their data are here. TEXT: only names with it.",
                               "baimo eval tasks\nbaimo eval tasks mmlu", options };
    const char *folders[65];
    char *shipped = NULL;
    size_t n_folders = 0;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n > 1)
        return cli_usage_error(self.name, "expected one text at most, found %d", n);
    if (bm_task_shipped_dir(&shipped, NULL) == 0)
        folders[n_folders++] = shipped;
    for (int i = 0; i < include.n; i++)
        folders[n_folders++] = include.items[i];
    rc = list_tasks(folders, n_folders, n == 1 ? argv[0] : NULL, as_json);
    bm_free(shipped);
    return rc;
}

/* ---- ls, and commands about one run ---- */

static int eval_ls(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "eval ls", "[--json]", "The evaluations of this home, the latest first.", "baimo eval ls", options };

    return cli_runs_ls(&self, argc, argv, "eval", &as_json, "no evaluations yet: baimo eval run --help");
}

static int do_follow(bm_store *store, bm_run_row *run, bool as_json)
{
    int rc = see_through(store, run, as_json);

    return rc != 0 ? rc : print_results(store, run, as_json);
}

static int do_resume(bm_store *store, bm_run_row *run, bool as_json)
{
    bm_error err;

    if (bm_job_resume(store, run->id, &err) < 0)
        return cli_fail(&err);
    strcpy(run->state, "queued");
    return do_follow(store, run, as_json);
}

typedef struct about_one { const char *name, *synopsis, *about, *example; int (*run_it)(bm_store *, bm_run_row *, bool); } about_one;

static int about_run(const about_one *a, int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { a->name, a->synopsis, a->about, a->example, options };

    return cli_with_run(&self, argc, argv, "eval", &json, a->run_it);
}

static int eval_follow(int argc, char **argv)
{
    static const about_one a = { "eval follow", "RUN [--json]", "See an evaluation until it has ended.", "baimo eval follow nightly", do_follow };

    return about_run(&a, argc, argv);
}

static int eval_resume(int argc, char **argv)
{
    static const about_one a = { "eval resume", "RUN [--json]", "Go on with a stopped or failed evaluation behind its last document.",
                                 "baimo eval resume nightly", do_resume };

    return about_run(&a, argc, argv);
}

static int eval_stop(int argc, char **argv)
{
    static const about_one a = { "eval stop", "RUN", "Stop an evaluation; what was scored is kept.", "baimo eval stop nightly", cli_run_stop };

    return about_run(&a, argc, argv);
}

static int eval_rm(int argc, char **argv)
{
    static const about_one a = { "eval rm", "RUN", "Take an ended evaluation out of the records, with its samples.", "baimo eval rm nightly",
                                 cli_run_rm };

    return about_run(&a, argc, argv);
}

int cmd_eval(int argc, char **argv)
{
    static const cli_sub subs[] = {
        { "run", eval_run, "score a model, adapter or alias on tasks" },
        { "tasks", eval_tasks, "what can be run, and whether its data are here" },
        { "ls", eval_ls, "evaluations of this home" },
        { "show", cmd_eval_show, "an evaluation: its table, its samples" },
        { "compare", cmd_eval_compare, "two evaluations: paired differences and what changed" },
        { "gate", cmd_eval_gate, "do a candidate's scores meet the requirements" },
        { "export", cmd_eval_export, "results as JSON, CSV or an HTML page" },
        { "follow", eval_follow, "see one until it has ended" },
        { "stop", eval_stop, "stop one; what was scored is kept" },
        { "resume", eval_resume, "go on with one" },
        { "rm", eval_rm, "take an ended one out of the records" },
        { NULL, NULL, NULL },
    };

    return cli_dispatch("eval", subs, argc, argv);
}
