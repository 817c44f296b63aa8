/* job_tune.c - the process of a fine-tuning: train/job.h says what it reads, reports and leaves behind. */
#include "cli/job.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/packs.h"
#include "compute/cpu.h"
#include "model/adapter_file.h"
#include "train/job.h"
#include "train/metrics.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

static atomic_bool stop_asked;

static void ask_to_stop(int sig)
{
    (void)sig;
    atomic_store(&stop_asked, true);
}

typedef struct scene {
    const char *dir;
    bm_tune_job job;
    bm_gguf *gguf;
    bm_tokenizer *tokenizer;
    bm_template *tmpl;
    bm_data data[BM_TUNE_MAX_SETS];
    bm_mix_set sets[BM_TUNE_MAX_SETS];
    bm_team *team;
    bm_model *model;
    bm_adapter_file start;       /* what it begins with */
    bm_trainer *trainer;
    char model_sha256[65];
} scene;

static void close_scene(scene *s)
{
    bm_trainer_free(s->trainer);
    bm_adapter_file_done(&s->start);
    bm_model_close(s->model);
    bm_team_free(s->team);
    for (int i = 0; i < s->job.n_sets; i++)
        bm_data_done(&s->data[i]);
    bm_template_free(s->tmpl);
    bm_tokenizer_free(s->tokenizer);
    bm_gguf_close(s->gguf);
    bm_tune_job_done(&s->job);
}

/* ---- what goes in ---- */

static int open_text(scene *s, bm_error *err)
{
    bm_error why;
    bm_str source;
    int rc;

    if ((rc = bm_gguf_open(&s->gguf, s->job.model_path, err)) < 0 || (rc = bm_tokenizer_from_gguf(&s->tokenizer, s->gguf, err)) < 0)
        return rc;
    if (bm_gguf_get_str(s->gguf, "tokenizer.chat_template", &source) && bm_template_compile(&s->tmpl, source.data, source.len, &why) < 0)
        cli_job_say_message("warn", 0, "the model's chat template cannot be used: %s", why.msg);
    return 0;
}

static void list_bad(const scene *s, int i)
{
    const bm_data *d = &s->data[i];
    const char *path = s->job.sets[i].path, *slash = strrchr(path, '/');

    for (size_t b = 0; b < d->n_bad && b < BM_DATA_MAX_BAD; b++)
        cli_job_say_message(s->job.drop_bad ? "warn" : "error", d->bad[b].line, "%s:%llu: %s", slash != NULL ? slash + 1 : path,
                            (unsigned long long)d->bad[b].line, d->bad[b].reason);
    if (d->n_bad > 0)
        cli_job_say_message(s->job.drop_bad ? "warn" : "error", 0, "%s: %zu bad rows beside %zu good ones%s",
                            slash != NULL ? slash + 1 : path, d->n_bad, d->n_rows, s->job.drop_bad ? "; dropped" : "");
    if (d->n_without_end > 0)
        cli_job_say_message("warn", 0, "%s: in %zu rows no token ends the last turn: the model will not learn to stop",
                            slash != NULL ? slash + 1 : path, (size_t)d->n_without_end);
}

static int read_data(scene *s, bm_error *err)
{
    int rc;

    for (int i = 0; i < s->job.n_sets; i++) {
        const bm_tune_set *set = &s->job.sets[i];
        bm_data_options o = { .shape = set->shape, .render = set->render, .part = set->part, .prompt_field = set->prompt_field,
                              .target_field = set->target_field, .loss_after = set->loss_after, .no_header = set->no_header,
                              .max_length = s->job.train.max_length > 0 ? s->job.train.max_length : 1024,
                              .split_long = s->job.split_long, .drop_bad = s->job.drop_bad,
                              .valid_share = set->valid ? 1 : s->job.valid_share };
        rc = bm_data_read(&s->data[i], set->path, &o, s->tokenizer, s->tmpl, err);
        list_bad(s, i);
        if (rc < 0)
            return rc;
        s->sets[i] = (bm_mix_set){ .data = &s->data[i], .weight = set->weight };
    }
    return 0;
}

static int open_model(scene *s, bm_error *err)
{
    bm_model_options o = { .f32 = s->job.f32, .kv_type = s->job.f32 ? BM_KV_F32 : BM_KV_INT16 };
    bm_sha256 sum;
    bm_cpu cpu;
    int rc;

    bm_cpu_detect(&cpu);
    if ((rc = bm_isa_choose(&o.isa, &cpu, err)) < 0 ||
        (rc = bm_team_new(&s->team, s->job.n_threads > 0 ? s->job.n_threads : cpu.n_threads_default, err)) < 0 ||
        (rc = cli_model_open(&s->model, s->gguf, &o, NULL, false, s->team, err)) < 0)
        return rc;
    if (s->job.model_sha256 != NULL && strlen(s->job.model_sha256) == 64) {
        snprintf(s->model_sha256, sizeof s->model_sha256, "%s", s->job.model_sha256);
    } else {
        if ((rc = bm_sha256_file(&sum, s->job.model_path, NULL, NULL, err)) < 0)
            return rc;
        bm_hex(s->model_sha256, sum.bytes, sizeof sum.bytes);
    }
    bm_gguf_close(s->gguf);
    s->gguf = NULL;
    return 0;
}

/* The adapter to go on with says sites, rank and scale. */
static int open_start(scene *s, bm_error *err)
{
    bm_trainable_options *o = &s->job.train.adapter;
    int rc;

    if (s->job.adapter == NULL)
        return 0;
    if ((rc = bm_adapter_file_read(&s->start, s->model, s->job.adapter, err)) < 0)
        return rc;
    if (s->start.about.base_sha256[0] != '\0' && strcmp(s->start.about.base_sha256, s->model_sha256) != 0)
        return bm_fail(err, BM_INVALID, "%s: it belongs to a base with sha256 %.12s..., %s has %.12s...", s->job.adapter,
                       s->start.about.base_sha256, s->job.model_path, s->model_sha256);
    o->sites = 0;
    for (size_t i = 0; i < s->start.n; i++)
        o->sites |= 1u << s->start.matrices[i].site;
    o->rank = s->start.about.rank, o->alpha = s->start.about.alpha, o->rslora = s->start.about.rslora;
    return 0;
}

static int open_scene(scene *s, const char *text, size_t len, bm_error *err)
{
    int rc;

    if ((rc = bm_tune_job_parse(&s->job, text, len, err)) < 0)
        return rc;
    if (s->job.dry_run)
        prctl(PR_SET_PDEATHSIG, SIGKILL);            /* who asked for the estimate is gone, then nobody will read it */
    if ((rc = open_text(s, err)) < 0 || (rc = read_data(s, err)) < 0 ||
        (rc = open_model(s, err)) < 0 || (rc = open_start(s, err)) < 0)
        return rc;
    s->job.train.memory_bytes = s->job.memory_mib << 20;
    if ((rc = bm_trainer_new(&s->trainer, s->model, s->team, s->sets, s->job.n_sets, &s->job.train,
                             s->job.dry_run ? NULL : s->dir, err)) < 0)
        return rc;
    s->job.train = *bm_trainer_options(s->trainer);              /* what is reported and recorded is what was used */
    return s->start.n > 0 ? bm_trainer_start_from(s->trainer, s->start.matrices, s->start.n, err) : 0;
}

/* ---- what is reported ---- */

static void put_set(bm_json *j, const char *path, const bm_data *d)
{
    char hex[65];
    size_t n_valid = 0;

    for (size_t i = 0; i < d->n_rows; i++)
        n_valid += d->rows[i].valid;
    bm_hex(hex, d->sha256.bytes, sizeof d->sha256.bytes);
    bm_json_open(j, '{');
    bm_json_kstr(j, "path", path);
    bm_json_kstr(j, "sha256", hex);
    bm_json_kstr(j, "shape", bm_data_shape_name(d->shape));
    bm_json_kint(j, "rows", (int64_t)d->n_rows);
    bm_json_kint(j, "valid_rows", (int64_t)n_valid);
    bm_json_kint(j, "tokens", (int64_t)d->n_tokens);
    bm_json_kint(j, "target_tokens", (int64_t)d->n_target_tokens);
    bm_json_kint(j, "bad", (int64_t)d->n_bad);
    bm_json_close(j, '}');
}

static void put_start(bm_json *j, const scene *s)
{
    size_t n;
    int64_t n_params = 0, n_in, n_out;
    const bm_lora_matrix *m = bm_trainer_matrices(s->trainer, &n);

    for (size_t i = 0; i < n; i++) {
        bm_lora_shape(s->model, m[i].layer, m[i].site, &n_in, &n_out);
        n_params += m[i].rank * (n_in + n_out);
    }
    bm_json_key(j, "data");
    bm_json_open(j, '[');
    for (int i = 0; i < s->job.n_sets; i++)
        put_set(j, s->job.sets[i].path, &s->data[i]);
    bm_json_close(j, ']');
    bm_json_kint(j, "parameters", n_params);
    bm_json_kint(j, "memory_bytes", bm_trainer_memory(s->trainer) + (int64_t)bm_model_get_info(s->model)->packed_bytes);
    bm_json_kstr(j, "method", s->job.train.method == BM_TRAIN_DPO ? "dpo" : "sft");
}

static int write_curve(const scene *s, bm_error *err)
{
    bm_buf svg = { 0 }, path = { 0 };
    size_t n;
    const bm_train_event *history = bm_trainer_history(s->trainer, &n);
    int rc;

    bm_train_curve_svg(&svg, s->job.name, history, n);
    bm_buf_printf(&path, "%s/curve.svg", s->dir);
    rc = svg.failed || path.failed ? bm_fail(err, BM_NOMEM, "no memory for the loss curve")
                                   : bm_write_file(path.data, svg.data, svg.len, 0600, err);
    bm_buf_done(&svg);
    bm_buf_done(&path);
    return rc;
}

static int tell(void *arg, const bm_train_event *event, bm_error *err)
{
    static const char *const names[] = { "start", "step", "valid", "checkpoint" };
    const scene *s = arg;
    bm_buf line = { 0 };
    bm_json j = { &line, false };
    int rc;

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", names[event->what]);
    bm_train_event_json(&j, event);
    if (event->what == BM_TRAIN_START)
        put_start(&j, s);
    if (event->what == BM_TRAIN_CHECKPOINT)
        bm_json_kstr(&j, "path", "checkpoint.bin");
    bm_json_close(&j, '}');
    rc = cli_job_say(&line, err);
    return rc == 0 && event->what == BM_TRAIN_CHECKPOINT ? write_curve(s, err) : rc;
}

static int say_estimate(scene *s, bm_error *err)
{
    bm_train_estimate e;
    bm_buf line = { 0 };
    bm_json j = { &line, false };
    int rc = bm_trainer_estimate(s->trainer, &e, err);

    for (int last = 0; last < 2 && rc == 0; last++) {            /* as an event of its own, and as the result */
        bm_json_open(&j, '{');
        bm_json_kstr(&j, "event", last ? "done" : "estimate");
        if (last)
            bm_json_key(&j, "result"), bm_json_open(&j, '{');
        bm_json_kint(&j, "n_steps", e.n_steps);
        bm_json_kint(&j, "tokens", e.tokens);
        bm_json_kdouble(&j, "tokens_per_s", round(e.tokens_per_s * 10) / 10);
        bm_json_kdouble(&j, "seconds", round(e.seconds * 10) / 10);
        bm_json_kint(&j, "memory_bytes", e.memory_bytes);
        bm_json_close(&j, '}');
        if (last)
            bm_json_close(&j, '}');
        rc = cli_job_say(&line, err);
        j = (bm_json){ &line, false };
    }
    return rc;
}

static int say_end(const scene *s, const bm_train_result *r, bm_error *err)
{
    bm_buf line = { 0 };
    bm_json j = { &line, false };

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", r->stopped ? "stopped" : "done");
    bm_json_kint(&j, "step", r->steps);
    if (!r->stopped) {
        bm_json_key(&j, "result");
        bm_json_open(&j, '{');
        bm_buf path = { 0 };
        bm_buf_printf(&path, "%s/adapter", s->dir);
        bm_json_kstr(&j, "adapter", path.data);
        bm_buf_done(&path);
        bm_json_kint(&j, "steps", r->steps);
        bm_json_kdouble(&j, "loss", r->loss);
        bm_json_kdouble(&j, "valid_loss", r->valid_loss);
        bm_json_kint(&j, "tokens", r->tokens);
        bm_json_kdouble(&j, "tokens_per_s", round(r->tokens_per_s * 100) / 100);
        bm_json_kdouble(&j, "seconds", round(r->seconds * 1000) / 1000);
        bm_json_kint(&j, "peak_memory_bytes", r->peak_memory_bytes);
        bm_json_kbool(&j, "early", r->early);
        bm_json_close(&j, '}');
    }
    bm_json_close(&j, '}');
    return cli_job_say(&line, err);
}

/* ---- what comes out ---- */

/* One hash of all the data: that of the only file, else that of the files' hashes in order. */
static int data_hash(const scene *s, char hex[65], bm_error *err)
{
    bm_sha256 sums[BM_TUNE_MAX_SETS], one = s->data[0].sha256;
    int rc = 0;

    for (int i = 0; i < s->job.n_sets; i++)
        sums[i] = s->data[i].sha256;
    if (s->job.n_sets > 1)
        rc = bm_sha256_bytes(&one, sums, (size_t)s->job.n_sets * sizeof *sums, err);
    bm_hex(hex, one.bytes, sizeof one.bytes);
    return rc;
}

static int write_adapter(const scene *s, const bm_train_result *r, bm_error *err)
{
    bm_adapter_about about = { .rslora = s->job.train.adapter.rslora };
    bm_buf path = { 0 }, settings = { 0 };
    bm_json j = { &settings, false };
    size_t n;
    const bm_lora_matrix *m = bm_trainer_matrices(s->trainer, &n);
    int rc;

    snprintf(about.base_name, sizeof about.base_name, "%s", s->job.model_name != NULL ? s->job.model_name : "");
    snprintf(about.base_sha256, sizeof about.base_sha256, "%s", s->model_sha256);
    snprintf(about.version, sizeof about.version, "%s", BM_VERSION);
    if ((rc = data_hash(s, about.data_sha256, err)) < 0)
        return rc;
    bm_json_open(&j, '{');
    bm_json_kint(&j, "trained_steps", r->steps);
    bm_json_kint(&j, "trained_tokens", r->tokens);
    bm_json_kdouble(&j, "loss", r->loss);
    bm_json_kdouble(&j, "valid_loss", r->valid_loss);
    bm_tune_options_json(&j, &s->job);
    bm_json_close(&j, '}');
    if (!settings.failed && settings.len < sizeof about.settings)
        memcpy(about.settings, settings.data, settings.len + 1);
    bm_buf_printf(&path, "%s/adapter", s->dir);
    rc = path.failed ? bm_fail(err, BM_NOMEM, "no memory") : bm_adapter_write_peft(path.data, s->model, m, n, &about, err);
    bm_buf_done(&path);
    bm_buf_done(&settings);
    return rc;
}

static int train(scene *s, bm_error *err)
{
    bm_train_sink sink = { tell, s };
    bm_train_result result;
    int rc;

    if (s->job.dry_run)
        return say_estimate(s, err);
    if ((rc = bm_trainer_run(s->trainer, &sink, &stop_asked, &result, err)) < 0 || (rc = write_curve(s, err)) < 0)
        return rc;
    if (!result.stopped && (rc = write_adapter(s, &result, err)) < 0)
        return rc;
    return say_end(s, &result, err);
}

int cli_job_tune(const char *dir, const char *text, size_t len)
{
    struct sigaction on_stop = { .sa_handler = ask_to_stop };
    scene *s = bm_zalloc(sizeof *s);
    bm_error err;
    int rc;

    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGINT, &on_stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (s == NULL) {
        rc = bm_fail(&err, BM_NOMEM, "no memory");
    } else {
        s->dir = dir;
        if ((rc = open_scene(s, text, len, &err)) == 0)
            rc = train(s, &err);
        close_scene(s);
    }
    bm_free(s);
    if (rc < 0)
        cli_job_say_error(&err);
    return rc < 0 ? 1 : 0;
}
