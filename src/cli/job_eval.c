/* job_eval.c - the process of an evaluation: eval/job.h says what it reads and reports. */
#include "cli/job.h"
#include "base/clock.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/packs.h"
#include "compute/cpu.h"
#include "compute/machine.h"
#include "engine/backend.h"
#include "eval/job.h"
#include "model/adapter_file.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { REPORT_MS = 300, IN_FLIGHT = 512 };

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int sig)
{
    (void)sig;
    stop_asked = 1;
}

typedef struct reporter {
    int64_t began_ns, told_ns;
    size_t done, first;          /* documents; recorded before this start */
    bool started;
} reporter;

static void say_start(const bm_eval_progress *p)
{
    bm_buf line = { 0 };
    bm_json j = { &line, false };

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", "start");
    bm_json_kint(&j, "step", (int64_t)p->done);
    bm_json_kint(&j, "n_steps", (int64_t)p->total);
    bm_json_close(&j, '}');
    cli_job_say(&line, NULL);
}

static void say_step(const reporter *r, const bm_eval_progress *p, int64_t now)
{
    double seconds = (double)(now - r->began_ns) / 1e9, rate = seconds > 0 ? (double)(p->done - r->first) / seconds : 0;
    bm_buf line = { 0 };
    bm_json j = { &line, false };

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", "step");
    bm_json_kint(&j, "step", (int64_t)p->done);
    bm_json_kint(&j, "n_steps", (int64_t)p->total);
    bm_json_kstr(&j, "task", p->task);
    bm_json_kint(&j, "failed", (int64_t)p->failed);
    bm_json_kint(&j, "tokens", p->n_tokens);
    bm_json_kint(&j, "cached_tokens", p->n_cached);
    bm_json_kdouble(&j, "tokens_per_s", seconds > 0 ? (double)p->n_tokens / seconds : 0);
    bm_json_kdouble(&j, "time_left_s", rate > 0 ? (double)(p->total - p->done) / rate : NAN);
    bm_json_close(&j, '}');
    cli_job_say(&line, NULL);
}

static bool progress(void *arg, const bm_eval_progress *p)
{
    reporter *r = arg;
    int64_t now = bm_now_ns();

    if (!r->started) {
        r->first = p->done;
        say_start(p);
        r->started = true;
    } else if (now - r->told_ns >= REPORT_MS * 1000000ll || p->done == p->total) {
        say_step(r, p, now);
        r->told_ns = now;
    }
    r->done = p->done;
    return !stop_asked;
}

static void say_done(const bm_eval_run_options *run, size_t documents, size_t failed, double seconds)
{
    bm_buf line = { 0 };
    bm_json j = { &line, false };
    bm_buf path = { 0 };

    bm_buf_printf(&path, "%s/results.json", run->dir);
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", "done");
    bm_json_key(&j, "result");
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "results", path.data);
    bm_json_kint(&j, "documents", (int64_t)documents);
    bm_json_kint(&j, "failed", (int64_t)failed);
    bm_json_kdouble(&j, "seconds", seconds);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
    bm_buf_done(&path);
    cli_job_say(&line, NULL);
}

static void say_stopped(size_t done)
{
    printf("{\"event\":\"stopped\",\"step\":%zu}\n", done);
    fflush(stdout);
}

/* ---- the model ---- */

typedef struct scene {
    bm_engine *engine;
    bm_loaded *loaded;
    bm_backend *backend;
    bm_adapter *adapter;
    char *pack_dir;
} scene;

static void scene_close(scene *s)
{
    if (s->backend != NULL)
        s->backend->close(s->backend);
    bm_adapter_free(s->adapter);
    bm_loaded_unref(s->loaded);
    bm_engine_free(s->engine);
    bm_free(s->pack_dir);
}

static int load_adapter(scene *s, const bm_eval_job *job, bm_error *err)
{
    bm_adapter_file file;
    int rc = bm_adapter_file_read(&file, bm_loaded_model(s->loaded), job->adapter_path, err);

    if (rc == 0)
        rc = bm_adapter_new(&s->adapter, bm_loaded_model(s->loaded), file.matrices, file.n, err);
    bm_adapter_file_done(&file);
    return rc;
}

static int scene_open(scene *s, const bm_eval_job *job, bm_error *err)
{
    bm_engine_options engine = { .n_threads = job->n_threads, .max_queued = 2 * IN_FLIGHT, .no_speculation = false };
    bm_load_options load = { .name = job->model_name ? job->model_name : "the model", .n_ctx = job->n_ctx, .n_parallel = 1,
                            .f32 = job->f32 };
    int rc;

    s->pack_dir = cli_pack_dir(false);
    load.pack_dir = s->pack_dir;
    if ((rc = bm_engine_new(&s->engine, &engine, err)) < 0 || (rc = bm_engine_load(&s->loaded, s->engine, job->model_path, &load, err)) < 0)
        return rc;
    if (job->adapter_path != NULL && (rc = load_adapter(s, job, err)) < 0)
        return rc;
    return s->adapter != NULL ? bm_backend_adapted(&s->backend, s->engine, s->loaded, s->adapter, err)
                              : bm_backend_local(&s->backend, s->engine, s->loaded, err);
}

static int run_job(const bm_eval_job *job, const char *dir, bm_error *err)
{
    bm_eval_run_options run = { .dir = dir, .model_name = job->model_name, .model_sha256 = job->model_sha256, .adapter_name = job->adapter_name,
                                .adapter_sha256 = job->adapter_sha256, .precision = job->f32 ? "f32" : "fast", .progress = progress };
    reporter r = { .began_ns = bm_now_ns() };
    scene s = { 0 };
    bm_cpu cpu;
    bm_eval *eval;
    size_t failed = 0, documents;
    int rc = bm_eval_open(&eval, &job->options, err);

    if (rc < 0)
        return rc;
    documents = bm_eval_documents(eval);
    bm_cpu_detect(&cpu);
    run.progress_arg = &r;
    if ((rc = scene_open(&s, job, err)) == 0) {
        bm_engine_stats stats;
        bm_engine_get_stats(s.engine, &stats);
        run.n_threads = stats.n_threads;
        run.machine = cpu.model;
        r.began_ns = bm_now_ns();
        rc = bm_eval_run(eval, s.backend, &run, NULL, &failed, err);
    }
    scene_close(&s);
    bm_eval_close(eval);
    if (rc == 0)
        say_done(&run, documents, failed, (double)(bm_now_ns() - r.began_ns) / 1e9);
    else if (rc == BM_CANCELED && stop_asked) {
        say_stopped(r.done);
        rc = 0;
    }
    return rc;
}

int cli_job_eval(const char *dir, const char *text, size_t len)
{
    struct sigaction action = { .sa_handler = ask_to_stop };
    bm_eval_job job;
    bm_error err = { 0 };
    int rc;

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if ((rc = bm_eval_job_parse(&job, text, len, &err)) == 0) {
        rc = run_job(&job, dir, &err);
        bm_eval_job_done(&job);
    }
    if (rc < 0)
        cli_job_say_error(&err);
    return rc < 0 ? 1 : 0;
}
