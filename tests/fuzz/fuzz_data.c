/* fuzz_data.c - a file of rows as the input. The first byte chooses the kind of file and the options, the rest is the file. Rows that come
 * out are checked for what the trainer relies on. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "train/data_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bm_tokenizer *tok;
static bm_template *templates[2];

static void check_side(const int32_t *tokens, const uint8_t *target, int32_t n, int max)
{
    int n_targets = 0;

    if (n < 2 || (max > 0 && n > max) || target[0] != 0)
        abort();
    for (int32_t t = 0; t < n; t++) {
        if (tokens[t] < 0 || tokens[t] >= bm_tokenizer_n_vocab(tok) || target[t] > 1)
            abort();
        n_targets += target[t];
    }
    if (n_targets == 0)
        abort();
}

static void check(const bm_data *d, int max)
{
    for (size_t i = 0; i < d->n_rows; i++) {
        check_side(d->rows[i].tokens, d->rows[i].target, d->rows[i].n_tokens, max);
        if (d->rows[i].other != NULL)
            check_side(d->rows[i].other, d->rows[i].other_target, d->rows[i].n_other, max);
    }
    for (size_t i = 0; i < d->n_bad && i < BM_DATA_MAX_BAD; i++)
        if (d->bad[i].line == 0 || d->bad[i].reason[0] == '\0')
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const endings[] = { ".jsonl", ".json", ".csv", ".txt" };
    bm_error err;
    bm_data d;

    if (tok == NULL) {
        tok = data_tokenizer();
        templates[0] = data_template(data_chatml);
        templates[1] = data_template(data_tools);
    }
    if (size < 1)
        return 0;
    bm_data_options o = { .drop_bad = true, .max_length = data[0] & 4 ? 16 : 0, .split_long = (data[0] & 8) != 0,
                          .loss_after = data[0] & 128 ? "A:" : NULL, .valid_share = 0.5 };
    const bm_template *tmpl = data[0] & 16 ? NULL : templates[data[0] >> 5 & 1];
    const char *path = data_file(endings[data[0] & 3], (const char *)data + 1, size - 1);
    if (bm_data_read(&d, path, &o, tok, tmpl, &err) == 0)
        check(&d, o.max_length);
    bm_data_done(&d);
    return 0;
}
