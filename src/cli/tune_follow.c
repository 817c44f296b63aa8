/* tune_follow.c - a run's progress as it goes: `tune follow`, `tune start` without a server, and what else runs in the foreground. */
#include "cli/tune.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "platform/client.h"
#include "platform/home.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 100, BAR = 24 };

typedef struct follower {
    bm_store *store;
    bm_jobs *jobs;
    bm_run_row run;              /* as it was last */
    const cli_follow *options;
    int64_t after;               /* the last event that was printed */
    bool terminal, drawn, told_stop;
    int tenth;                   /* of an evaluation, that was told */
    double loss, valid_loss, tokens_per_s, left_s;
    int64_t first_step, first_ms;        /* of what was seen, to guess the time that is left */
} follower;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted++;
}

bool cli_server_runs(const char *home)
{
    char socket_path[108], *body = NULL;
    int status = 0;
    size_t len;
    bool runs = bm_home_socket(socket_path, home, NULL) == 0 &&
                bm_client_get(socket_path, "/health", NULL, &status, &body, &len, NULL) == 0;

    bm_free(body);
    return runs;
}

static int job_finished(void *arg, bm_run_row *run, const char *dir, bm_error *err)
{
    return strcmp(run->kind, "tune") == 0 ? bm_tune_shelve(arg, run, dir, err) : 0;
}

int cli_jobs_open(bm_jobs **out, bm_store *store, const char *only, bm_error *err)
{
    bm_jobs_options options = { .only = only, .eager = true, .finished = job_finished, .arg = store };

    return bm_jobs_new(out, store, &options, err);
}

void cli_duration_text(char out[24], double seconds)
{
    long s = (long)(seconds + 0.5);

    if (!(seconds >= 0) || seconds > 1e9)
        snprintf(out, 24, "?");
    else if (seconds < 10)
        snprintf(out, 24, "%.1f s", seconds);
    else if (s < 60)
        snprintf(out, 24, "%ld s", s);
    else if (s < 3600)
        snprintf(out, 24, "%ldm%02lds", s / 60, s % 60);
    else
        snprintf(out, 24, "%ldh%02ldm", s / 3600, s / 60 % 60);
}

/* ---- one event ---- */

static double number_of(const json_t *object, const char *key, double fallback)
{
    const json_t *x = json_object_get(object, key);

    return json_is_number(x) ? json_number_value(x) : fallback;
}

static void clear_bar(follower *f)
{
    if (f->drawn)
        fputs("\r\033[K", stderr);
    f->drawn = false;
}

/* "12/100" or "12". */
static void step_text(const follower *f, char out[48])
{
    if (f->run.n_steps > 0)
        snprintf(out, 48, "%lld/%lld", (long long)f->run.step, (long long)f->run.n_steps);
    else
        snprintf(out, 48, "%lld", (long long)f->run.step);
}

static void draw_bar(follower *f)
{
    char bar[BAR + 1], left[24], steps[48];
    double part = f->run.n_steps > 0 ? (double)f->run.step / (double)f->run.n_steps : 0;

    for (int i = 0; i < BAR; i++)
        bar[i] = i < part * BAR ? '#' : '.';
    bar[BAR] = '\0';
    cli_duration_text(left, f->left_s);
    step_text(f, steps);
    fprintf(stderr, "\r\033[K[%s] %s", bar, steps);
    if (!isnan(f->loss))
        fprintf(stderr, "  loss %.4f", f->loss);
    if (!isnan(f->valid_loss))
        fprintf(stderr, " (held back %.4f)", f->valid_loss);
    fprintf(stderr, "  %.0f tokens/s  %s left", f->tokens_per_s, left);
    fflush(stderr);
    f->drawn = true;
}

/* An evaluation counts documents: a line on stderr for each tenth, so that stdout is its table alone. */
static void print_tenth(follower *f)
{
    int tenth = f->run.n_steps > 0 ? (int)(10 * f->run.step / f->run.n_steps) : 0;
    char left[24];

    if (tenth == f->tenth)
        return;
    f->tenth = tenth;
    cli_duration_text(left, f->left_s);
    fprintf(stderr, "%lld of %lld documents, %s left\n", (long long)f->run.step, (long long)f->run.n_steps, left);
}

static void print_step(follower *f, const json_t *object)
{
    if (strcmp(f->run.kind, "eval") == 0) {
        print_tenth(f);
        return;
    }
    char left[24], steps[48];
    double loss = number_of(object, "loss", NAN), valid = number_of(object, "valid_loss", NAN);

    cli_duration_text(left, f->left_s);
    step_text(f, steps);
    printf("step %s", steps);
    if (!isnan(loss))
        printf("  loss %.4f  %.0f tokens/s  %s left", loss, f->tokens_per_s, left);
    if (!isnan(valid))
        printf("  held back %.4f", valid);
    putchar('\n');
    fflush(stdout);
}

static void take_metrics(follower *f, const bm_run_event *event)
{
    json_t *object = json_loads(event->data, 0, NULL);

    f->run.step = event->step;
    f->run.n_steps = (int64_t)number_of(object, "n_steps", (double)f->run.n_steps);
    f->loss = number_of(object, "loss", f->loss);
    f->valid_loss = number_of(object, "valid_loss", f->valid_loss);
    f->tokens_per_s = number_of(object, "tokens_per_s", f->tokens_per_s);
    if (f->first_ms == 0 || event->step <= f->first_step)
        f->first_ms = event->at_ms, f->first_step = event->step;
    else if (f->run.n_steps > 0)
        f->left_s = (double)(event->at_ms - f->first_ms) / 1000 / (double)(event->step - f->first_step) *
                    (double)(f->run.n_steps - event->step);
    f->left_s = number_of(object, "time_left_s", f->left_s);
    if (f->options->json && json_object_get(object, "loss") != NULL)     /* a line per step; validations stand in `tune show --json` */
        puts(event->data), fflush(stdout);
    if (!f->options->json && !f->terminal && !f->options->silent)
        print_step(f, object);
    json_decref(object);
}

static void take_message(follower *f, const bm_run_event *event)
{
    FILE *to = f->options->json || strcmp(event->level, "info") != 0 ? stderr : stdout;

    /* Short names are the process's own marks: start, done, stopped. */
    if (event->message[0] == '\0' || strchr(event->message, ' ') == NULL)
        return;
    clear_bar(f);
    fflush(stdout);
    fprintf(to, "%s", strcmp(event->level, "info") == 0 ? "" : "baimo: ");
    for (const char *p = event->message; *p != '\0'; p++)
        fputc((unsigned char)*p < 0x20 || *p == 0x7F ? ' ' : *p, to);
    fputc('\n', to);
    fflush(to);
}

static int take_events(follower *f, bm_error *err)
{
    bm_run_events_filter filter = { .run = f->run.number, .after = f->after, .most = 1000, .oldest_first = true };
    bm_run_event *events;
    size_t n;
    int rc = bm_run_events_list(f->store, &filter, &events, &n, err);

    for (size_t i = 0; i < n; i++) {
        f->after = events[i].id;
        if (strcmp(events[i].type, "metrics") == 0)
            take_metrics(f, &events[i]);
        else if (strcmp(events[i].type, "message") == 0)
            take_message(f, &events[i]);
    }
    if (n > 0 && f->terminal && !f->options->json && !f->options->silent && f->run.step > 0)
        draw_bar(f);
    bm_run_events_free(events, n);
    return rc < 0 ? rc : n == 1000;
}

/* ---- the whole ---- */

static bool has_ended(const char *state)
{
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "stopped") == 0;
}

static int read_run(follower *f, bm_error *err)
{
    bm_run_row now;
    int rc = bm_runs_find(f->store, f->run.id, &now, err);

    if (rc == 0) {
        now.step = now.step > f->run.step ? now.step : f->run.step;
        bm_run_row_done(&f->run);
        f->run = now;
    }
    return rc;
}

static int tell_end(const follower *f)
{
    const bm_run_row *run = &f->run;
    bm_error err;
    char took[24];

    cli_duration_text(took, (double)(run->finished_ms - run->started_ms) / 1000);
    if (strcmp(run->state, "failed") == 0) {
        bm_fail(&err, BM_IO, "the run %s ('%s') failed: %s", run->id, run->name, run->error);
        if (run->hint[0] != '\0')
            bm_hint(&err, "%s", run->hint);
        return cli_fail(&err);
    }
    if (strcmp(run->state, "stopped") == 0) {
        fprintf(stderr, "stopped at step %lld; go on: baimo %s resume %s\n", (long long)run->step, run->kind, run->id);
        return 1;
    }
    fprintf(stderr, "done in %s: ", took);
    fprintf(stderr, "%s\n", run->name);
    return 0;
}

/* Another Ctrl-C leaves at once: the process of the run is stopped or killed by then, or goes on to its checkpoint by itself. */
static bool heed_interrupt(follower *f)
{
    if (interrupted == 0)
        return true;
    if (f->jobs == NULL || interrupted > 1)
        return false;
    if (!f->told_stop) {
        clear_bar(f);
        fputs("stopping at a checkpoint ...\n", stderr);
        bm_job_stop(f->store, f->run.id, NULL);
        bm_jobs_wake(f->jobs);
    }
    f->told_stop = true;
    return true;
}

static int follow(follower *f, bm_error *err)
{
    int rc;

    for (;;) {
        if ((rc = read_run(f, err)) < 0)
            return rc;
        while ((rc = take_events(f, err)) == 1)
            ;
        if (rc < 0 || has_ended(f->run.state))
            return rc;
        if (!heed_interrupt(f))
            return 1;
        nanosleep(&(struct timespec){ 0, POLL_MS * 1000000 }, NULL);
    }
}

/* The id of the last event, for a follower that is only interested in what comes. */
static int64_t last_event(bm_store *store, int64_t run)
{
    bm_run_events_filter filter = { .run = run, .most = 1 };
    bm_run_event *events;
    size_t n;
    int64_t id = 0;

    if (bm_run_events_list(store, &filter, &events, &n, NULL) == 0 && n == 1)
        id = events[0].id;
    bm_run_events_free(events, n);
    return id;
}

int cli_follow_run(bm_store *store, bm_jobs *jobs, const bm_run_row *run, const cli_follow *options)
{
    follower f = { .store = store, .jobs = jobs, .options = options, .terminal = isatty(STDERR_FILENO) && isatty(STDOUT_FILENO),
                   .loss = NAN, .valid_loss = NAN, .left_s = NAN };
    struct sigaction on = { .sa_handler = on_interrupt }, old_int, old_term;
    bm_error err;
    int rc;

    if (bm_runs_find(store, run->id, &f.run, &err) < 0)
        return cli_fail(&err);
    f.after = options->from_start ? 0 : last_event(store, run->number);
    interrupted = 0;
    sigaction(SIGINT, &on, &old_int);
    sigaction(SIGTERM, &on, &old_term);
    rc = follow(&f, &err);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    clear_bar(&f);
    if (rc < 0)
        rc = cli_fail(&err);
    else if (rc == 1)
        fprintf(stderr, "the run %s goes on; see it: baimo %s follow %s\n", f.run.id, f.run.kind, f.run.id);
    else
        rc = tell_end(&f);
    bm_run_row_done(&f.run);
    return rc;
}
