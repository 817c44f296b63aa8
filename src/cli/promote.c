/* promote.c - `baimo eval gate`, `promote` and `rollback`: names move when the numbers say so, and back in one step. */
#include "cli/eval.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "platform/gate.h"
#include "platform/shelf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_GATE_BYTES = 1 << 20 };

/* ---- the scores of one side ---- */

typedef struct side {
    const char *name;
    struct { char task[128], run[40]; json_t *results; } found[BM_GATE_MOST];
    size_t n;
} side;

typedef struct sides { bm_store *store; side candidate, baseline; } sides;

static void side_done(side *s)
{
    for (size_t i = 0; i < s->n; i++)
        json_decref(s->found[i].results);
}

static const json_t *results_of(const side *s, const char *task)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->found[i].task, task) == 0)
            return s->found[i].results;
    return NULL;
}

static const json_t *of_candidate(void *arg, const char *task) { return results_of(&((sides *)arg)->candidate, task); }
static const json_t *of_baseline(void *arg, const char *task) { return results_of(&((sides *)arg)->baseline, task); }

static bm_eval_request request_of(const side *s, const bm_gate *gate, const cli_list *include)
{
    bm_eval_request r = { .model = s->name, .limit = gate->limit, .num_fewshot = gate->num_fewshot, .apply_chat_template = gate->apply_chat_template };

    for (int i = 0; i < include->n; i++)
        r.include[r.n_include++] = include->items[i];
    return r;
}

/* 1 when there is a run that says what an evaluation of the task would. */
static int look_up(bm_store *store, side *s, const bm_eval_request *like, const char *task, bm_error *err)
{
    bm_eval_request request = *like;
    bm_run_row run;
    int rc;

    request.tasks[0] = task;
    request.n_tasks = 1;
    if ((rc = bm_evals_latest(store, &request, &run, err)) != 1)
        return rc;
    snprintf(s->found[s->n].task, sizeof s->found[s->n].task, "%s", task);
    snprintf(s->found[s->n].run, sizeof s->found[s->n].run, "%s", run.id);
    if ((rc = bm_evals_results(store, &run, &s->found[s->n].results, err)) == 0)
        s->n++, rc = 1;
    bm_run_row_done(&run);
    return rc;
}

static bool asked(const bm_gate *gate, size_t i, bool only_baseline)
{
    if (only_baseline && gate->all[i].of_baseline == 0)
        return false;
    for (size_t k = 0; k < i; k++)
        if (strcmp(gate->all[k].task, gate->all[i].task) == 0 && (!only_baseline || gate->all[k].of_baseline != 0))
            return false;
    return true;
}

/* Scores of all tasks of the gate: of runs that are there, else of an evaluation that is run now. */
static int gather(bm_store *store, side *s, const bm_gate *gate, const cli_list *include, bool only_baseline)
{
    bm_eval_request request = request_of(s, gate, include);
    bm_run_row run;
    bm_error err;
    int rc;

    for (size_t i = 0; i < gate->n; i++) {
        if (!asked(gate, i, only_baseline))
            continue;
        if ((rc = look_up(store, s, &request, gate->all[i].task, &err)) < 0)
            return cli_fail(&err);
        if (rc == 0)
            request.tasks[request.n_tasks++] = gate->all[i].task;
    }
    if (request.n_tasks == 0)
        return 0;
    fprintf(stderr, "evaluating %s\n", s->name);
    if ((rc = cli_eval_do(store, &request, false, &run)) != 0)
        return rc;
    bm_run_row_done(&run);
    for (size_t i = 0; i < request.n_tasks; i++)
        if ((rc = look_up(store, s, &request, request.tasks[i], &err)) < 1)
            return rc < 0 ? cli_fail(&err) : 1;
    return 0;
}

/* ---- the verdict ---- */

static json_t *verdict_json(const bm_gate *gate, const sides *s, bool holds)
{
    json_t *list = json_array(), *runs = json_array();

    for (size_t i = 0; i < gate->n; i++) {
        const bm_requirement *q = &gate->all[i];
        json_t *o = json_pack("{s:s, s:f, s:f, s:b}", "requirement", q->text, "have", q->have, "need", q->need, "holds", (int)q->holds);
        if (!isnan(q->baseline))
            json_object_set_new(o, "baseline", json_real(q->baseline));
        json_array_append_new(list, o);
    }
    for (int k = 0; k < 2; k++) {
        const side *one = k == 0 ? &s->candidate : &s->baseline;
        for (size_t i = 0; i < one->n; i++)
            json_array_append_new(runs, json_string(one->found[i].run));
    }
    return json_pack("{s:b, s:s, s:s*, s:o, s:o}", "holds", (int)holds, "candidate", s->candidate.name, "baseline", s->baseline.name, "requirements", list,
                     "runs", runs);
}

static void print_verdict(const bm_gate *gate, const sides *s, bool holds)
{
    for (size_t i = 0; i < gate->n; i++) {
        const bm_requirement *q = &gate->all[i];
        printf("%s  have %.4f, need %s %.4f", q->holds ? "holds " : "FAILS ", q->have, q->op, q->need);
        if (!isnan(q->baseline))
            printf(" (baseline %.4f)", q->baseline);
        printf("   %s\n", q->text);
    }
    printf("%s: ", holds ? "the gate holds" : "the gate does not hold");
    cli_print_safe(s->candidate.name);
    if (s->baseline.name != NULL) {
        fputs(" beside ", stdout);
        cli_print_safe(s->baseline.name);
    }
    putchar('\n');
}

typedef struct gate_options {
    const char *candidate, *baseline, *file;
    cli_list require, include;
    bool json;
} gate_options;

static int read_gate(const gate_options *o, bm_gate *gate)
{
    bm_error err;
    char *text;
    size_t len;
    int rc = 0;

    gate->num_fewshot = -1;
    if (o->file != NULL) {
        if (bm_read_file(&text, &len, o->file, MAX_GATE_BYTES, &err) < 0)
            return cli_fail(&err);
        rc = bm_gate_parse(gate, text, &err);
        bm_free(text);
        if (rc < 0) {
            bm_wrap(&err, "%.200s", o->file);
            return cli_fail(&err);
        }
    }
    for (int i = 0; i < o->require.n; i++)
        if (bm_gate_parse(gate, o->require.items[i], &err) < 0)
            return cli_fail(&err);
    return 0;
}

/* 0 holds, 1 does not (or failed), 2 used wrongly; *verdict (a new reference) unless it failed. */
static int judge(bm_store *store, const gate_options *o, bm_gate *gate, json_t **verdict, bool quiet)
{
    sides *s = bm_zalloc(sizeof *s);
    bm_error err;
    bool holds = false;
    int rc;

    *verdict = NULL;
    if (s == NULL)
        return cli_usage_error("eval gate", "no memory");
    s->store = store;
    s->candidate.name = o->candidate;
    s->baseline.name = o->baseline;
    if (gate->needs_baseline && o->baseline == NULL) {
        bm_free(s);
        return cli_usage_error("eval gate", "a requirement speaks of the baseline: name it with --baseline");
    }
    rc = gather(store, &s->candidate, gate, &o->include, false);
    if (rc == 0 && gate->needs_baseline)
        rc = gather(store, &s->baseline, gate, &o->include, true);
    if (rc == 0 && bm_gate_judge(gate, of_candidate, of_baseline, s, &holds, &err) < 0)
        rc = cli_fail(&err);
    else if (rc == 0) {
        *verdict = verdict_json(gate, s, holds);
        if (!quiet)
            print_verdict(gate, s, holds);
        rc = holds ? 0 : 1;
    }
    side_done(&s->candidate);
    side_done(&s->baseline);
    bm_free(s);
    return rc;
}

int cmd_eval_gate(int argc, char **argv)
{
    gate_options o = { 0 };
    bm_gate *gate = bm_zalloc(sizeof *gate);
    const cli_option options[] = {
        { "candidate", NULL, CLI_STR, &o.candidate, 0, 0, "NAME", "a model, adapter or alias" },
        { "baseline", NULL, CLI_STR, &o.baseline, 0, 0, "NAME", "what it is measured against" },
        { "require", NULL, CLI_LIST, &o.require, 0, 0, "TEXT", "TASK.METRIC >= SUM, several with commas" },
        { "gate", NULL, CLI_STR, &o.file, 0, 0, "FILE", "requirements line by line; settings: \"limit N\", \"num_fewshot N\", \"apply_chat_template\"" },
        { "include-path", NULL, CLI_LIST, &o.include, 0, 0, "DIR", "a further folder of task files" },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "eval gate", "--candidate NAME [--baseline NAME] --require TEXT",
                               "Do a candidate's scores meet the requirements? Exit 0: all hold; 1: not. A run of the same model, task,\n"
                               "data and settings (by hash) is used when it is there; else the tasks are evaluated now.",
                               "baimo eval gate --candidate sql --baseline smollm2 --require 'copa.acc >= baseline - 0.01, arc_easy.acc >= 0.4'", options };
    json_t *verdict = NULL;
    bm_store *store;
    bm_error err;
    int n, rc;

    if (gate == NULL)
        return 1;
    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        rc--;
    else if (n != 0 || o.candidate == NULL || (o.require.n == 0 && o.file == NULL))
        rc = cli_usage_error(self.name, "--candidate and --require (or --gate) are needed");
    else if ((rc = read_gate(&o, gate)) == 0 && cli_open_store(&store, &err) < 0)
        rc = cli_fail(&err);
    else if (rc == 0) {
        rc = judge(store, &o, gate, &verdict, o.json);
        if (verdict != NULL && o.json)
            cli_print_json(json_incref(verdict));
        bm_store_close(store);
    }
    json_decref(verdict);
    bm_free(gate);
    return rc;
}

/* ---- promote ---- */

/* What an alias stands for now, or "". */
static int current_target(bm_store *store, const char *alias, char out[128], bm_error *err)
{
    bm_alias_row *rows;
    size_t n;
    int rc = bm_aliases_list(store, &rows, &n, err);

    out[0] = '\0';
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (strcmp(rows[i].name, alias) == 0)
            snprintf(out, 128, "%s", rows[i].model);
    bm_free(rows);
    return rc;
}

static int move(bm_store *store, const char *alias, const char *target, json_t *evidence, bool as_json)
{
    bm_buf text = { 0 };
    bm_json j = { &text, false };
    bm_error err;
    int rc;

    bm_json_value(&j, evidence);
    if (text.len > 2000) {                       /* the record has its bounds: the runs say the rest */
        json_object_del(evidence, "requirements");
        bm_buf_clear(&text);
        j = (bm_json){ &text, false };
        bm_json_value(&j, evidence);
    }
    rc = text.failed ? bm_fail(&err, BM_NOMEM, "no memory for the evidence") : bm_aliases_move(store, alias, target, text.data, &err);
    bm_buf_done(&text);
    if (rc < 0)
        return cli_fail(&err);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:s, s:O}", "alias", alias, "target", target, "evidence", evidence));
    printf("%s now stands for ", alias);
    cli_print_safe(target);
    putchar('\n');
    return 0;
}

static int promote(bm_store *store, const gate_options *o, const char *alias, bm_gate *gate)
{
    gate_options with = *o;
    bm_shelf_target target;
    json_t *verdict = NULL;
    char now[128];
    bm_error err;
    int rc;

    if (bm_shelf_check_name(alias, &err) < 0 || bm_shelf_find_target(store, o->candidate, &target, &err) < 0 ||
        current_target(store, alias, now, &err) < 0)
        return cli_fail(&err);
    const char *name = target.adapter.id != 0 ? target.adapter.name : target.model.name;
    if (with.baseline == NULL && now[0] != '\0')
        with.baseline = now;
    if (gate->n > 0 && (rc = judge(store, &with, gate, &verdict, o->json)) != 0) {
        if (verdict != NULL && o->json)
            cli_print_json(verdict);
        else
            json_decref(verdict);
        if (rc == 1)
            fprintf(stderr, "baimo: %s stays where it is%s%s\n", alias, now[0] != '\0' ? ": " : "", now);
        return rc;
    }
    if (verdict == NULL)
        verdict = json_pack("{s:s}", "gate", "none");
    rc = move(store, alias, name, verdict, o->json);
    json_decref(verdict);
    return rc;
}

int cmd_promote(int argc, char **argv)
{
    gate_options o = { 0 };
    bm_gate *gate = bm_zalloc(sizeof *gate);
    const char *alias = NULL;
    const cli_option options[] = {
        { "to", NULL, CLI_STR, &alias, 0, 0, "ALIAS", "the alias that shall stand for it" },
        { "gate", NULL, CLI_STR, &o.file, 0, 0, "FILE", "requirements that must hold first (baimo eval gate --help)" },
        { "require", NULL, CLI_LIST, &o.require, 0, 0, "TEXT", "the same on the command line" },
        { "baseline", NULL, CLI_STR, &o.baseline, 0, 0, "NAME", "of the gate (default: what the alias stands for now)" },
        { "include-path", NULL, CLI_LIST, &o.include, 0, 0, "DIR", "a further folder of task files" },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "promote", "NAME --to ALIAS [--gate FILE]",
                               "Point an alias at a model or adapter, if the gate holds. A running server follows; the move is recorded with its evidence.",
                               "baimo promote sql --to prod --require 'copa.acc >= baseline - 0.02'\nbaimo rollback prod", options };
    bm_store *store;
    bm_error err;
    int n, rc;

    if (gate == NULL)
        return 1;
    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        rc--;
    else if (n != 1 || alias == NULL)
        rc = cli_usage_error(self.name, "one name and --to are needed");
    else if ((o.candidate = argv[0], rc = read_gate(&o, gate)) == 0) {
        if (cli_open_store(&store, &err) < 0) {
            rc = cli_fail(&err);
        } else {
            rc = promote(store, &o, alias, gate);
            bm_store_close(store);
        }
    }
    bm_free(gate);
    return rc;
}

/* ---- rollback ---- */

/* The latest target before the present one that is not what a rollback left. */
static int rollback(bm_store *store, const char *alias, bool as_json)
{
    bm_alias_move *moves;
    char now[128];
    const char *target = NULL;
    json_t *evidence;
    bm_error err;
    size_t n;
    int rc;

    if (current_target(store, alias, now, &err) < 0 || bm_aliases_history(store, alias, &moves, &n, &err) < 0)
        return cli_fail(&err);
    for (size_t i = 1; i < n && target == NULL; i++)
        if (moves[i].target[0] != '\0' && strcmp(moves[i].target, now) != 0)
            target = moves[i].target;
    if (target == NULL) {
        bm_fail(&err, BM_NOTFOUND, "%s has stood for nothing else: there is nothing to go back to", alias);
        bm_free(moves);
        return cli_fail(&err);
    }
    evidence = json_pack("{s:s}", "rollback_from", now);
    rc = move(store, alias, target, evidence, as_json);
    json_decref(evidence);
    bm_free(moves);
    return rc;
}

static int history(bm_store *store, const char *alias, bool as_json)
{
    json_t *list = json_array();
    bm_alias_move *moves;
    bm_error err;
    size_t n;

    if (bm_aliases_history(store, alias, &moves, &n, &err) < 0) {
        json_decref(list);
        return cli_fail(&err);
    }
    for (size_t i = 0; i < n; i++) {
        char when[24];
        cli_time_text(when, moves[i].at_ms);
        json_t *evidence = json_loads(moves[i].evidence, 0, NULL);
        if (!as_json)
            printf("%s  %-24s %.12s  %s\n", when, moves[i].target[0] != '\0' ? moves[i].target : "(removed)", moves[i].sha256, moves[i].evidence);
        json_array_append_new(list, json_pack("{s:I, s:s, s:s, s:o*}", "at_ms", (json_int_t)moves[i].at_ms, "target", moves[i].target, "sha256",
                                              moves[i].sha256, "evidence", evidence));
    }
    bm_free(moves);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:o}", "alias", alias, "moves", list));
    json_decref(list);
    return 0;
}

int cmd_rollback(int argc, char **argv)
{
    bool json = false, show = false;
    const cli_option options[] = {
        { "history", NULL, CLI_FLAG, &show, 0, 0, NULL, "only show what it stood for, latest first, with the evidence" },
        { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "rollback", "ALIAS", "Point an alias back at what it stood for before. A running server follows at once.", "baimo rollback prod",
                               options };
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one alias, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    rc = show ? history(store, argv[0], json) : rollback(store, argv[0], json);
    bm_store_close(store);
    return rc;
}
