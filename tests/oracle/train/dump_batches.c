/* dump_batches.c - the batches of a tuning job as JSON lines, for another trainer to train on: one line per step,
 *     {"step": 1, "rows": [{"tokens": [...], "target": [...], "rejected": false}, ...]}      a pair is two rows, chosen first
 * Reads the same job.json, by the same code, as the job itself; the steps are those of its options.
 * usage: dump_batches JOB.json      make build/tests/oracle/train/dump_batches */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/job.h"

static void die(const bm_error *err)
{
    fprintf(stderr, "dump_batches: %s\n", err->msg);
    exit(1);
}

static void put_segment(const bm_train_row *row, int s, bool rejected)
{
    int end = s + 1 < row->n_segments ? row->starts[s + 1] : row->n_tokens;

    printf("{\"rejected\":%s,\"tokens\":[", rejected ? "true" : "false");
    for (int t = row->starts[s]; t < end; t++)
        printf("%s%d", t > row->starts[s] ? "," : "", row->tokens[t]);
    printf("],\"target\":[");
    for (int t = row->starts[s]; t < end; t++)
        printf("%s%d", t > row->starts[s] ? "," : "", row->target[t]);
    printf("]}");
}

int main(int argc, char **argv)
{
    bm_error err = { 0 };
    bm_tune_job job;
    bm_gguf *gguf;
    bm_tokenizer *tokenizer;
    bm_template *tmpl = NULL;
    bm_data data[BM_TUNE_MAX_SETS];
    bm_mix_set sets[BM_TUNE_MAX_SETS];
    bm_str source;
    bm_mix *mix;
    bm_batch batch;
    char *text;
    size_t len;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: dump_batches JOB.json\n");
        return 2;
    }
    if (bm_read_file(&text, &len, argv[1], 1 << 20, &err) < 0 || bm_tune_job_parse(&job, text, len, &err) < 0 ||
        bm_gguf_open(&gguf, job.model_path, &err) < 0 || bm_tokenizer_from_gguf(&tokenizer, gguf, &err) < 0)
        die(&err);
    if (bm_gguf_get_str(gguf, "tokenizer.chat_template", &source) && bm_template_compile(&tmpl, source.data, source.len, &err) < 0)
        die(&err);
    for (int i = 0; i < job.n_sets; i++) {
        bm_data_options o = { .shape = job.sets[i].shape, .render = job.sets[i].render, .part = job.sets[i].part,
                              .prompt_field = job.sets[i].prompt_field, .target_field = job.sets[i].target_field,
                              .loss_after = job.sets[i].loss_after, .max_length = job.train.max_length,
                              .drop_bad = job.drop_bad, .valid_share = job.sets[i].valid ? 1 : job.valid_share };
        if (bm_data_read(&data[i], job.sets[i].path, &o, tokenizer, tmpl, &err) < 0)
            die(&err);
        sets[i] = (bm_mix_set){ .data = &data[i], .weight = job.sets[i].weight };
    }
    bm_mix_options mo = { .max_tokens = job.train.micro_tokens > 0 ? job.train.micro_tokens : 512, .batch_size = job.train.batch_size,
                          .seed = job.train.seed };
    if (bm_mix_new(&mix, sets, job.n_sets, &mo, &err) < 0)
        die(&err);
    for (int64_t step = 0; step < job.train.steps;) {
        if ((rc = bm_mix_next(mix, &batch, &err)) < 0)
            die(&err);
        if (rc == 0)
            continue;
        printf("{\"step\":%lld,\"rows\":[", (long long)++step);
        for (int i = 0; i < batch.n_rows; i++)
            for (int s = 0; s < batch.rows[i].n_segments; s++) {
                fputs(i + s > 0 ? "," : "", stdout);
                put_segment(&batch.rows[i], s, batch.segments[i][s].rejected);
            }
        printf("]}\n");
    }
    return 0;
}
