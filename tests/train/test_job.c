/* test_job.c - job.json: what is written is read again, and what is wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "model/lora.h"
#include "train/job.h"

static void expect_error(const char *text, const char *part)
{
    bm_tune_job job;
    bm_error err;

    assert_int_equal(bm_tune_job_parse(&job, text, strlen(text), &err), BM_INVALID);
    if (strstr(err.msg, part) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, part);
}

static void what_is_written_is_read_again(void **state)
{
    bm_tune_job job = { .name = "sql", .model_path = "/m.gguf", .n_sets = 2, .valid_share = 0.1, .f32 = true, .n_threads = 3,
                        .train = { .method = BM_TRAIN_DPO, .adapter = { .sites = 1u << BM_LORA_Q | 1u << BM_LORA_DOWN, .rank = 8,
                                   .alpha = 12.5f, .rslora = true }, .lr = 1e-3, .decay = BM_DECAY_LINEAR, .epochs = 2.5,
                                   .steps = 7, .clip = -1, .seed = 99, .recompute = BM_RECOMPUTE_ON } };
    bm_tune_job again;
    bm_buf text = { 0 };
    bm_error err;

    (void)state;
    job.sets[0] = (bm_tune_set){ .path = "a.jsonl", .loss_after = "A:", .weight = 2.5 };
    job.sets[1] = (bm_tune_set){ .path = "b.csv", .prompt_field = "q", .target_field = "a", .valid = true,
                                 .shape = BM_DATA_PROMPT, .render = BM_RENDER_CHAT };
    if (bm_tune_job_write(&text, &job, &err) < 0 || bm_tune_job_parse(&again, text.data, text.len, &err) < 0)
        fail_msg("%s", err.msg);
    assert_memory_equal(&again.train, &job.train, sizeof job.train);
    assert_int_equal(again.n_sets, 2);
    assert_string_equal(again.sets[0].loss_after, "A:");
    assert_null(again.sets[0].part);
    assert_true(again.sets[1].valid && again.sets[1].shape == BM_DATA_PROMPT && again.sets[1].render == BM_RENDER_CHAT);
    assert_true(again.f32 && again.n_threads == 3 && again.valid_share == 0.1);
    bm_tune_job_done(&again);
    bm_buf_done(&text);
}

static void nulls_and_missing_keys_are_defaults(void **state)
{
    const char *text = "{\"name\":\"x\",\"model\":{\"path\":\"m\"},\"data\":[{\"path\":\"d\",\"part\":null}],\"options\":"
                       "{\"targets\":\"all-linear\",\"lr\":null}}";
    bm_tune_job job;
    bm_error err;

    (void)state;
    assert_int_equal(bm_tune_job_parse(&job, text, strlen(text), &err), 0);
    assert_int_equal(job.train.adapter.sites, 0);
    assert_true(job.train.lr == 0);
    bm_tune_job_done(&job);
}

static void what_is_wrong_is_named(void **state)
{
#define JOB(options) "{\"name\":\"x\",\"model\":{\"path\":\"m\"},\"data\":[{\"path\":\"d\"}],\"options\":" options "}"
    bm_tune_job job;
    bm_error err;

    (void)state;
    expect_error("{", "line 1");
    expect_error("[]", "expected an object");
    expect_error("{\"kind\":\"eval\"}", "kind");
    expect_error("{\"name\":\"x\",\"model\":{\"path\":\"m\"}}", "data");
    expect_error("{\"name\":\"x\",\"model\":{\"path\":\"m\"},\"data\":[]}", "1 to 32");
    expect_error("{\"name\":\"x\",\"model\":{\"path\":\"m\"},\"data\":[{}]}", "data.path");
    expect_error(JOB("{\"rank\":-1}"), "options.rank");
    expect_error(JOB("{\"rank\":1.5}"), "whole");
    expect_error(JOB("{\"lr\":\"high\"}"), "options.lr");
    expect_error(JOB("{\"decay\":\"steep\"}"), "cosine, linear, constant");
    expect_error(JOB("{\"targets\":[\"lm_head\"]}"), "lm_head");
    expect_error(JOB("{\"dry_run\":1}"), "true or false");
    expect_error(JOB("{\"learning_rat\":1}"), "no such key");
    assert_int_equal(bm_tune_job_parse(&job, JOB("{\"batchsize\":1}"), strlen(JOB("{\"batchsize\":1}")), &err), BM_INVALID);
    assert_non_null(strstr(err.hint, "batch_size"));
}

static void zero_of_warmup_and_clip_means_none(void **state)
{
    bm_tune_job job;
    bm_error err;

    (void)state;
    assert_int_equal(bm_tune_job_parse(&job, JOB("{\"warmup\":0,\"clip\":0}"), strlen(JOB("{\"warmup\":0,\"clip\":0}")), &err), 0);
    assert_true(job.train.warmup < 0 && job.train.clip < 0);
    bm_tune_job_done(&job);
}

static void sites_are_read_by_name(void **state)
{
    unsigned sites;
    bm_error err;

    (void)state;
    assert_int_equal(bm_tune_sites("q_proj,self_attn.v_proj", &sites, &err), 0);
    assert_int_equal(sites, 1u << BM_LORA_Q | 1u << BM_LORA_V);
    assert_int_equal(bm_tune_sites("all-linear", &sites, &err), 0);
    assert_int_equal(sites, 0);
    assert_int_equal(bm_tune_sites("q_proj,", &sites, &err), BM_INVALID);
    assert_non_null(strstr(err.hint, "down_proj"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(nulls_and_missing_keys_are_defaults),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(zero_of_warmup_and_clip_means_none),
        cmocka_unit_test(sites_are_read_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
