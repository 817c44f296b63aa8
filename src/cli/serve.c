/* serve.c - `baimo serve`: options, the order in which things start and stop, and what is printed when all is ready. */
#define _GNU_SOURCE             /* program_invocation_name: lines to paste name the program as it was called */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/packs.h"
#include "platform/home.h"
#include "platform/keys.h"
#include "platform/ledger.h"
#include "platform/jobs.h"
#include "platform/pool.h"
#include "platform/tune.h"
#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct speed { double prefill, decode; } speed;      /* tokens a second; 0: not measured */

typedef struct serve {
    /* options */
    cli_list models, allow_hosts;
    const char *host, *kv_type;
    int64_t port, ctx, parallel, threads, adapter_mib, max_seqs, max_queue, drain_seconds;
    bool no_speculation, no_pack, no_prefix_cache, no_jobs, no_job_pause;
    /* owned */
    char *home, *pack_dir;
    char socket_path[108];
    bm_store *store;
    bm_engine *engine;
    bm_pool *pool;
    bm_jobs *jobs;
    bm_server *server;
    /* the starter: watches the load, measures, prints */
    pthread_t starter;
    bool has_starter;
    pthread_mutex_t lock;                /* guards stopping */
    pthread_cond_t wake;
    bool stopping;
    atomic_bool failed;
    bm_error load_error;
    char measured[128];                  /* the model that was */
    speed speed;
    int64_t begin_ns;
} serve;

static void log_line(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "baimo: %s\n", line);
}

/* ---- what is printed when ready ---- */

/* 128 prompt tokens and 16 generated ones, at random, through the engine as any request goes; at most two seconds. */
static bool measure(bm_backend *backend, speed *out)
{
    int32_t prompt[128], n_vocab = bm_tokenizer_n_vocab(backend->tokenizer(backend));
    uint32_t x = 2463534242u;
    size_t n = backend->ctx(backend) < 256 ? 32 : 128;
    bm_gen *gen = NULL;
    bm_event event;

    for (size_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        prompt[i] = (int32_t)(x % (uint32_t)n_vocab);
    }
    bm_gen_request request = { .prompt = prompt, .n_prompt = n, .max_tokens = 16, .n_choices = 1,
                               .sampling = bm_sampling_default(), .ignore_eos = true, .no_speculation = true, .uncounted = true, .no_cache = true,
                               .top_logprobs = -1,
                               .deadline_ns = bm_now_ns() + 2000000000 };
    if (backend->generate(backend, &gen, &request, NULL) < 0)
        return false;
    do {
        bm_gen_wait(gen);
        while (bm_gen_next(gen, &event) == 1 && event.kind != BM_EVENT_END)
            ;
    } while (event.kind != BM_EVENT_END);
    bm_gen_usage u = bm_gen_get_usage(gen);
    bm_gen_close(gen);
    *out = (speed){ 0 };
    if (u.prefill_ns > 0 && u.completion_tokens > 0)
        out->prefill = (double)n * 1e9 / (double)u.prefill_ns;
    if (u.decode_ns > 0 && u.completion_tokens > 1)
        out->decode = (double)(u.completion_tokens - 1) * 1e9 / (double)u.decode_ns;
    return out->prefill > 0;
}

/* At the first start only: a model that is mapped from its pack keeps its pages untouched until someone asks. */
static void measure_named(serve *s)
{
    char name[sizeof s->measured] = "";
    bm_backend *backend = NULL;

    if (s->models.n == 0 || bm_pool_get(s->pool, NULL, &backend, name, NULL, NULL, NULL) != 0)
        return;
    if (!bm_loaded_mapped(bm_backend_loaded(backend))) {
        memcpy(s->measured, name, sizeof name);
        if (!measure(backend, &s->speed))
            s->speed = (speed){ 0 };
    }
    bm_pool_put(s->pool, backend);
}

static void print_speed(const serve *s)
{
    if (s->measured[0] == '\0')
        return;
    printf("  %-9s %s ", "speed", s->measured);
    if (s->speed.prefill <= 0)
        puts("is slower than 128 tokens in 2 s here");
    else if (s->speed.decode > 0)
        printf("reads %.0f tokens/s, writes %.0f tokens/s here\n", s->speed.prefill, s->speed.decode);
    else
        printf("reads %.0f tokens/s here\n", s->speed.prefill);
}

static void print_models(serve *s, char *example, size_t size)
{
    bm_pool_entry *list = NULL;
    size_t n = 0, waiting = 0;
    bool example_loaded = false;
    bm_error err;

    if (bm_pool_list(s->pool, &list, &n, &err) < 0) {
        log_line(NULL, err.msg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (list[i].model != NULL)
            printf("  %-9s %s: %s\n", "model", list[i].name, bm_loaded_arithmetic(list[i].model));
        if (*example == '\0' || (list[i].loaded && !example_loaded)) {
            snprintf(example, size, "%s", list[i].name);
            example_loaded = list[i].loaded;
        }
        waiting += !list[i].loaded;
    }
    if (waiting > 0) {
        printf("  %-9s", "on shelf");
        for (size_t i = 0, shown = 0; i < n && shown < 8; i++)
            if (!list[i].loaded)
                printf("%s %s", shown++ > 0 ? "," : "", list[i].name);
        printf("%s (loaded at the first request)\n", waiting > 8 ? ", ..." : "");
    }
    if (n == 0)
        printf("  %-9s none yet; add one: %s shelf add FILE.gguf\n", "models", program_invocation_name);
    bm_free(list);
}

static void print_ready(serve *s, int64_t ready_ns)
{
    const char *host = s->host, *shown = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 ? "127.0.0.1" : host;
    bool v6 = strchr(shown, ':') != NULL && *shown != '[', keys = false;
    char url[192], example[128] = "";

    snprintf(url, sizeof url, "http://%s%s%s:%d", v6 ? "[" : "", shown, v6 ? "]" : "", bm_server_port(s->server));
    bm_key_any(s->store, &keys, NULL);
    printf("baimo %s is ready after %.2f s\n", BM_VERSION, (double)(ready_ns - s->begin_ns) / 1e9);
    printf("  %-9s %s/\n", "page", url);
    print_models(s, example, sizeof example);
    print_speed(s);
    printf("\ntry it:\n  curl %s/v1/chat/completions -H 'Content-Type: application/json'%s -d '{\"model\": \"%s\", "
           "\"temperature\": 0, \"messages\": [{\"role\": \"system\", \"content\": \"You are a helpful assistant.\"}, "
           "{\"role\": \"user\", \"content\": \"What is the capital of France?\"}]}'\n",
           url, keys ? " -H \"Authorization: Bearer $OPENAI_API_KEY\"" : "", *example != '\0' ? example : "NAME");
    printf("for programs that speak the OpenAI API:\n  export OPENAI_BASE_URL=%s/v1\n  export OPENAI_API_KEY=%s\n", url,
           keys ? "YOUR-KEY" : "none");
    printf("next:\n  %s shelf add FILE.gguf        your own model\n"
           "  %s key add NAME               a key, before others may reach this server\n",
           program_invocation_name, program_invocation_name);
    fflush(stdout);
}

/* ---- the starter ---- */

/* Wait for the models that were named: 0 all there, negative one failed, 1 the server is stopping. */
static int wait_for_models(serve *s, bm_error *err)
{
    struct timespec until;
    int rc;

    pthread_mutex_lock(&s->lock);
    while ((rc = bm_pool_state(s->pool, err)) == 1 && !s->stopping) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 2000000;                      /* what is mapped is there at once */
        if (until.tv_nsec >= 1000000000)
            until.tv_nsec -= 1000000000, until.tv_sec++;
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    if (s->stopping)
        rc = 1;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static void *run_starter(void *arg)
{
    serve *s = arg;
    int64_t ready_ns;
    int rc = wait_for_models(s, &s->load_error);

    if (rc < 0) {
        atomic_store(&s->failed, true);
        bm_server_stop(s->server);
    } else if (rc == 0) {
        bm_server_set_ready(s->server);
        ready_ns = bm_now_ns();
        measure_named(s);
        print_ready(s, ready_ns);
    }
    return NULL;
}

static int start_starter(serve *s, bm_error *err)
{
    sigset_t all, old;

    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    sigfillset(&all);                                /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&s->starter, NULL, run_starter, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    s->has_starter = rc == 0;
    return rc == 0 ? 0 : bm_fail(err, BM_NOMEM, "cannot start a thread");
}

static void stop_starter(serve *s)
{
    if (!s->has_starter)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->starter, NULL);
}

/* ---- start and stop ---- */

static int open_server(serve *s, bm_error *err)
{
    bm_server_options options = {
        .host = s->host, .port = (int)s->port, .allow_hosts = s->allow_hosts.items, .n_allow_hosts = (size_t)s->allow_hosts.n,
        .drain_seconds = (int)s->drain_seconds, .store = s->store, .pool = s->pool, .engine = s->engine, .jobs = s->jobs,
        .log = log_line,
    };
    bm_error why;

    if (bm_home_socket(s->socket_path, s->home, &why) == 0)
        options.socket_path = s->socket_path;
    else
        log_line(NULL, why.msg);
    return bm_server_new(&s->server, &options, err);
}

/* ---- jobs beside the requests ---- */

static int job_finished(void *arg, bm_run_row *run, const char *dir, bm_error *err)
{
    return strcmp(run->kind, "tune") == 0 ? bm_tune_shelve(((serve *)arg)->store, run, dir, err) : 0;
}

static bool requests_run(void *arg)
{
    bm_engine_stats stats;

    bm_engine_get_stats(((serve *)arg)->engine, &stats);
    return stats.active_seqs > 0;
}

static int open_jobs(serve *s, bm_error *err)
{
    bm_jobs_options options = { .finished = job_finished, .busy = s->no_job_pause ? NULL : requests_run, .log = log_line, .arg = s };

    return s->no_jobs ? 0 : bm_jobs_new(&s->jobs, s->store, &options, err);
}

static int start(serve *s, bm_error *err)
{
    bm_engine_options engine = { .n_threads = (int)s->threads, .max_queued = (int)s->max_queue,
                                 .max_seqs = (int)s->max_seqs,
                                 .no_speculation = s->no_speculation, .no_prefix_cache = s->no_prefix_cache };
    bm_pool_options pool = { .n_ctx = (int32_t)s->ctx, .n_parallel = (int)s->parallel, .log = log_line,
                             .adapter_bytes = (uint64_t)s->adapter_mib << 20,
                             .pack_dir = s->pack_dir = s->no_pack ? NULL : cli_pack_dir(false) };
    sigset_t all, old;
    int rc;

    if (s->kv_type != NULL && bm_kv_type_find(&pool.kv_type, s->kv_type, err) < 0)
        return bm_param(err, "--kv-type");
    if ((rc = bm_store_open(&s->store, s->home, err)) < 0)
        return rc;
    sigfillset(&all);                                /* threads made from here on leave signals to the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if ((rc = bm_engine_new(&s->engine, &engine, err)) == 0)
        rc = bm_pool_new(&s->pool, s->engine, s->store, &pool, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    for (int i = 0; i < s->models.n && rc == 0; i++)         /* they load while the server is made */
        rc = bm_pool_want(s->pool, s->models.items[i], err);
    if (rc < 0 || (rc = open_jobs(s, err)) < 0 || (rc = open_server(s, err)) < 0)
        return rc;
    return start_starter(s, err);
}

static void stop(serve *s)
{
    stop_starter(s);
    bm_jobs_free(s->jobs);
    bm_pool_free(s->pool);
    bm_server_free(s->server);
    bm_engine_free(s->engine);
    if (s->store != NULL)
        bm_ledger_flush(s->store, NULL);
    bm_store_close(s->store);
    bm_free(s->pack_dir);
    bm_free(s->home);
}

static int run(serve *s)
{
    bm_error err;
    int rc;

    s->begin_ns = bm_now_ns();
    rc = start(s, &err);
    if (rc == 0)
        rc = bm_server_run(s->server, &err);
    stop_starter(s);
    s->has_starter = false;
    if (rc == 0 && atomic_load(&s->failed)) {
        rc = -1;
        err = s->load_error;
    }
    stop(s);
    return rc < 0 ? cli_fail(&err) : 0;
}

int cmd_serve(int argc, char **argv)
{
    serve s = { .host = "127.0.0.1", .port = 8080, .parallel = 4, .drain_seconds = 30 };
    const cli_option options[] = {
        { "model", "-m", CLI_LIST, &s.models, 0, 0, "NAME", "load this model now; may be given several times (default: each\n"
          "at its first request)" },
        { "host", NULL, CLI_STR, &s.host, 0, 0, "ADDR", "address to listen on (default 127.0.0.1); any other needs a key" },
        { "port", NULL, CLI_INT, &s.port, 0, 65535, "N", "port to listen on (default 8080; 0: any free one)" },
        { "ctx", "-c", CLI_INT, &s.ctx, 0, 16777216, "N", "tokens of context (default: the largest that fits, at most the\n"
          "model's own)" },
        { "parallel", "-np", CLI_INT, &s.parallel, 1, 1024, "N", "sequences with full context that shall fit (default 4)" },
        { "kv-type", NULL, CLI_STR, &s.kv_type, 0, 0, "TYPE", "of the KV cache: int16 (default), f16, or int8: half the memory,\nthree quarters where keys have biases" },
        { "threads", "-t", CLI_INT, &s.threads, 0, 1024, "N", "threads (default: the cores this process may use)" },
        { "adapter-memory", NULL, CLI_INT, &s.adapter_mib, 0, 1 << 24, "MIB",
          "of mounted adapters; those not used for longest make room\n(default: an eighth of what is available)" },
        { "max-seqs", NULL, CLI_INT, &s.max_seqs, 0, 4096, "N", "answers computed side by side, while memory lasts (default\n256)" },
        { "max-queue", NULL, CLI_INT, &s.max_queue, 0, 65536, "N", "requests that may wait per model (default 64); more get\n"
          "429" },
        { "no-speculation", NULL, CLI_FLAG, &s.no_speculation, 0, 0, NULL,
          "one token at a time; without, repetitions are guessed\nahead (answers are the same)" },
        { "no-prefix-cache", NULL, CLI_FLAG, &s.no_prefix_cache, 0, 0, NULL,
          "compute every prompt anew; without, beginnings that were\ncomputed before are kept while memory lasts" },
        { "drain-seconds", NULL, CLI_INT, &s.drain_seconds, 1, 86400, "N",
          "how long a stop waits for running requests (default 30)" },
        { "no-pack", NULL, CLI_FLAG, &s.no_pack, 0, 0, NULL,
          CLI_NO_PACK_HELP },
        { "no-jobs", NULL, CLI_FLAG, &s.no_jobs, 0, 0, NULL, "leave tunings and evaluations to others" },
        { "no-job-pause", NULL, CLI_FLAG, &s.no_job_pause, 0, 0, NULL,
          "let jobs run on at idle priority while requests are\ncomputed; without, they make way" },
        { "allow-host", NULL, CLI_LIST, &s.allow_hosts, 0, 0, "NAME",
          "a further name that Host and Origin may carry, as behind\na proxy" },
        { .name = NULL },
    };
    const cli_command self = {
        "serve", "[--model NAME]...",
        "Serve the models of the shelf: an OpenAI-compatible API and a chat page.\n"
        "Each option is also read from BAIMO_PORT and so on, and from `port = 8080` lines in baimo.conf of the home directory.",
        "baimo serve --model smollm2\nbaimo serve --model ./model.gguf --ctx 8192 --port 9000", options,
    };
    bm_error err;
    int n, rc;

    if (bm_home_path(&s.home, &err) < 0)
        return cli_fail(&err);
    if ((rc = cli_defaults(&self, s.home)) != 0 || (rc = cli_parse(&self, argc, argv, &n)) != 0) {
        bm_free(s.home);
        return rc - 1;
    }
    if (n != 0) {
        bm_free(s.home);
        return cli_usage_error(self.name, "takes no arguments, found '%s'; models are named by --model", argv[0]);
    }
    return run(&s);
}
