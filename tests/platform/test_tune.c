/* A tuning from its request to its run: settings by name, checks before anything waits, job.json as the trainer reads it, and the
 * adapter on the shelf. */
#include "home_kit.h"

#include <jansson.h>
#include <math.h>
#include <sys/stat.h>

#include "platform/jobs.h"
#include "platform/shelf.h"
#include "platform/tune.h"
#include "store/adapters.h"
#include "train/job.h"

static bm_store *store;

static int make(void **state)
{
    bm_shelf_model row;

    if (kit_make(state) != 0)
        return 1;
    store = kit_store();
    kit_write("rows.jsonl", "{\"text\": \"a\"}\n", 14);
    return bm_shelf_add(store, TINY_MODEL, "tiny", "file", NULL, NULL, &row, NULL);
}

static int drop(void **state)
{
    bm_store_close(store);
    return kit_remove(state);
}

static bm_tune_request a_request(const char *name)
{
    bm_tune_request r;

    bm_tune_defaults(&r);
    r.model = "tiny", r.name = name;
    r.data[0].path = kit_path("rows.jsonl"), r.n_data = 1;
    return r;
}

static int read_text(bm_tune_request *r, const char *text, bm_error *err)
{
    json_t *object = json_loads(text, 0, NULL);

    assert_non_null(object);
    bm_tune_defaults(r);
    int rc = bm_tune_read(r, object, "hyperparameters", err);
    if (rc == 0 && r->method != NULL)
        r->method = strcmp(r->method, "dpo") == 0 ? "dpo" : "other";         /* strings go with the object */
    json_decref(object);
    return rc;
}

static void settings_are_read_by_name_and_checked(void **state)
{
    static const struct { const char *text, *param, *part; } bad[] = {
        { "{\"rnk\": 4}", "hyperparameters.rnk", "no setting 'rnk'" },
        { "{\"rank\": 0}", "hyperparameters.rank", "from 1 to 512" },
        { "{\"rank\": 1.5}", "hyperparameters.rank", "whole number" },
        { "{\"rank\": \"4\"}", "hyperparameters.rank", "whole number" },
        { "{\"lr\": -1}", "hyperparameters.lr", "from 0 to 10" },
        { "{\"lr\": true}", "hyperparameters.lr", "a number" },
        { "{\"decay\": \"step\"}", "hyperparameters.decay", "cosine linear constant" },
        { "{\"decay\": \"cos\"}", "hyperparameters.decay", "one of" },
        { "{\"targets\": 5}", "hyperparameters.targets", "a string" },
        { "{\"pack\": 1}", "hyperparameters.pack", "true or false" },
    };
    bm_tune_request r;
    bm_error err;

    (void)state;
    assert_int_equal(read_text(&r, "{\"rank\": 4, \"lr\": 0.001, \"method\": \"dpo\", \"pack\": true, \"epochs\": null}", &err), 0);
    assert_int_equal(r.rank, 4);
    assert_true(r.lr == 0.001 && r.epochs == 1 && r.pack);
    assert_string_equal(r.method, "dpo");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_text(&r, bad[i].text, &err), BM_INVALID);
        assert_string_equal(err.param, bad[i].param);
        if (strstr(err.msg, bad[i].part) == NULL)
            fail_msg("%s: %s", bad[i].text, err.msg);
    }
}

static void the_trainer_reads_what_is_written(void **state)
{
    bm_tune_request r = a_request("one");
    bm_buf text = { 0 };
    bm_tune_job job;
    bm_error err;

    (void)state;
    r.method = "dpo", r.targets = "q_proj,down_proj", r.rank = 8, r.alpha = 12.5, r.lr = 3e-4, r.warmup = 7, r.epochs = 2.5, r.steps = 11;
    r.batch_size = 3, r.max_length = 77, r.valid_share = 0.25, r.seed = 99, r.threads = 2, r.memory_mib = 512, r.drop_bad = true;
    r.loss_after = "A:", r.shape = "text", r.valid_data = r.data[0].path, r.data[0].weight = 2.5, r.precision = "f32";
    if (bm_tune_text(store, &r, true, &text, &err) < 0)
        fail_msg("%s", err.msg);
    if (bm_tune_job_parse(&job, text.data, text.len, &err) < 0)
        fail_msg("%s: %s", err.msg, text.data);
    assert_string_equal(job.name, "one");
    assert_string_equal(job.model_name, "tiny");
    assert_int_equal(strlen(job.model_sha256), 64);
    assert_int_equal(job.n_sets, 2);
    assert_true(job.sets[0].weight == 2.5 && !job.sets[0].valid && job.sets[1].valid);
    assert_string_equal(job.sets[0].loss_after, "A:");
    assert_int_equal(job.sets[0].shape, BM_DATA_TEXT);
    assert_int_equal(job.train.method, BM_TRAIN_DPO);
    assert_true(job.train.lr == 3e-4 && job.train.warmup == 7 && job.train.epochs == 2.5 && job.train.steps == 11);
    assert_true(job.train.batch_size == 3 && job.train.max_length == 77 && job.train.seed == 99);
    assert_true(job.valid_share == 0.25 && job.n_threads == 2 && job.memory_mib == 512 && job.drop_bad && !job.split_long);
    assert_true(job.f32 && job.dry_run);
    bm_tune_job_done(&job);
    bm_buf_done(&text);
}

static void expect_refused(bm_tune_request *r, int code, const char *part)
{
    bm_run_row run;
    bm_error err = { .msg = "" };

    assert_int_equal(bm_tune_create(store, r, 0, &run, &err), code);
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' is not in: %s", part, err.msg);
}

static void what_cannot_work_is_refused_before_it_waits(void **state)
{
    bm_run_row run, *rows;
    size_t n;

    (void)state;
    bm_tune_request r = a_request("one");
    r.model = "nix";
    expect_refused(&r, BM_NOTFOUND, "nix");
    r = a_request("one");
    r.model = TINY_OTHER;
    expect_refused(&r, BM_INVALID, "not on the shelf");
    r = a_request("tiny");
    expect_refused(&r, BM_EXISTS, "'tiny'");
    r = a_request("../one");
    expect_refused(&r, BM_INVALID, "name");
    r = a_request("one");
    r.data[0].path = kit_path("missing.jsonl");
    expect_refused(&r, BM_NOTFOUND, "missing.jsonl");
    r = a_request("one");
    r.n_data = 0;
    expect_refused(&r, BM_INVALID, "no data");
    r = a_request("one");
    r.rank = 100000;
    expect_refused(&r, BM_INVALID, "rank");
    r = a_request("one");
    r.targets = "q_proj,nonsense";
    expect_refused(&r, BM_INVALID, "nonsense");
    assert_int_equal(bm_runs_list(store, &(bm_runs_filter){ 0 }, &rows, &n, NULL), 0);
    assert_int_equal(n, 0);

    r = a_request("one");
    assert_int_equal(bm_tune_create(store, &r, 0, &run, NULL), 0);
    assert_string_equal(run.state, "queued");
    bm_run_row_done(&run);
    expect_refused(&r, BM_EXISTS, "is making 'one' already");
}

/* A run that has ended, whose child left PEFT's two files. */
static bm_run_row a_finished_run(const char *base_sha256)
{
    bm_tune_request r = a_request("one");
    bm_run_row run;
    bm_buf dir = { 0 };
    char below[256], text[300];

    assert_int_equal(bm_tune_create(store, &r, 0, &run, NULL), 0);
    assert_int_equal(bm_job_dir(&dir, kit_home, run.id, NULL), 0);
    snprintf(below, sizeof below, "jobs/%s/adapter", run.id);
    mkdir(kit_path(below), 0700);
    snprintf(below, sizeof below, "jobs/%s/adapter/adapter_config.json", run.id);
    int n = snprintf(text, sizeof text, "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"target_modules\": [\"q_proj\"]}");
    kit_write(below, text, (size_t)n);
    snprintf(below, sizeof below, "jobs/%s/adapter/adapter_model.safetensors", run.id);
    n = snprintf(text + 8, sizeof text - 8, "{\"__metadata__\":{\"baimo.base_sha256\":\"%s\"}}", base_sha256);
    memset(text, 0, 8);
    text[0] = (char)n;
    kit_write(below, text, (size_t)n + 8);
    bm_free(run.data);
    run.data = bm_strdup("[{\"path\":\"/d\",\"sha256\":\"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd\"}]");
    bm_free(run.result);
    run.result = bm_strdup("{\"adapter\":\"there\",\"loss\":1}");
    bm_run_event e = { .step = 3, .level = "info", .type = "metrics", .data = (char *)(uintptr_t)"{\"loss\":1.25}" };
    assert_int_equal(bm_run_events_add(store, &run, &e, 1, NULL), 0);
    bm_buf_done(&dir);
    return run;
}

static void an_adapter_goes_on_the_shelf_with_its_lineage(void **state)
{
    bm_shelf_model model;
    bm_adapter_row row;
    bm_buf dir = { 0 };
    bm_error err;

    (void)state;
    assert_int_equal(bm_shelf_find(store, "tiny", &model, NULL), 0);
    bm_run_row run = a_finished_run(model.sha256);
    assert_int_equal(bm_job_dir(&dir, kit_home, run.id, NULL), 0);
    if (bm_tune_shelve(store, &run, dir.data, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bm_adapters_find(store, "one", &row, NULL), 1);
    assert_string_equal(row.base_sha256, model.sha256);
    assert_string_equal(row.run, run.id);
    assert_int_equal(row.data_sha256[0], 'd');
    assert_string_equal(row.curve, "[{\"step\":3,\"loss\":1.25}]");
    assert_non_null(strstr(row.settings, "\"rank\":16"));
    assert_non_null(strstr(run.result, row.path));
    assert_int_equal(access(row.path, F_OK), 0);
    bm_adapter_row_done(&row);
    assert_int_equal(bm_tune_shelve(store, &run, dir.data, &err), 0);        /* a second time, as after a crash */
    bm_run_row_done(&run);
    bm_buf_done(&dir);
}

static void an_adapter_of_another_base_is_refused(void **state)
{
    bm_run_row run = a_finished_run("0123456789012345678901234567890123456789012345678901234567890123");
    bm_adapter_row row;
    bm_buf dir = { 0 };
    bm_error err;

    (void)state;
    assert_int_equal(bm_job_dir(&dir, kit_home, run.id, NULL), 0);
    assert_int_equal(bm_tune_shelve(store, &run, dir.data, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "012345678901"));
    assert_int_equal(bm_adapters_find(store, "one", &row, NULL), 0);
    bm_run_row_done(&run);
    bm_buf_done(&dir);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(settings_are_read_by_name_and_checked),
        T(the_trainer_reads_what_is_written),
        T(what_cannot_work_is_refused_before_it_waits),
        T(an_adapter_goes_on_the_shelf_with_its_lineage),
        T(an_adapter_of_another_base_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
