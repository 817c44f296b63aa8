/* Prompts of every shipped task equal lm-eval's: vectors of tests/oracle/eval/check_prompts.py over the made-up rows beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "eval/prompt.h"

#define ROWS "tests/oracle/eval/rows/"

static int resolve(void *arg, const char *path, const char *name, const char *split, char **out, bm_error *err)
{
    FILE *f = fopen(ROWS "list.tsv", "r");
    char line[512], want[256], *tab;

    (void)arg;
    snprintf(want, sizeof want, "%s%s%s:%s", path, name != NULL ? "/" : "", name != NULL ? name : "", split);
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if ((tab = strchr(line, '\t')) == NULL || strcmp(tab + 1, want) != 0)
            continue;
        bm_buf b = {0};
        bm_buf_printf(&b, ROWS "%.*s", (int)(tab - line), line);
        *out = bm_buf_take(&b);
        fclose(f);
        return 0;
    }
    if (f != NULL)
        fclose(f);
    return bm_fail(err, BM_NOTFOUND, "%s", want);
}

/* The script's chat template. */
static int chat(void *arg, const json_t *messages, bool open, char **out, bm_error *err)
{
    bm_buf b = {0};

    (void)arg, (void)err;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        bm_buf_printf(&b, "<|%s|>%s", json_string_value(json_object_get(m, "role")), json_string_value(json_object_get(m, "content")));
        if (open || i + 1 < json_array_size(messages))
            bm_buf_puts(&b, "<|end|>");
    }
    if (open)
        bm_buf_puts(&b, "<|assistant|>");
    *out = bm_buf_take(&b);
    return 0;
}

static size_t build(bm_buf *all, const bm_task_index *index, const char *name, const char *shots, char mode, size_t docs)
{
    bm_task_options to = {.has_num_fewshot = *shots != '-', .num_fewshot = atoi(shots)};
    bm_prompt_options po = {.fewshot_seed = 1234, .apply_chat_template = mode != '0', .fewshot_as_multiturn = mode == '2', .chat = chat, .resolve = resolve};
    bm_task_list *list = NULL;
    bm_prompts *prompts = NULL;
    bm_error err = {0};
    bm_sample s;
    size_t n = 0;
    int rc = 0;

    if (bm_task_list_load(&list, index, &name, 1, &to, &err) < 0 || bm_prompts_open(&prompts, list->tasks[0], &po, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    while (n < docs && (rc = bm_prompts_next(prompts, &s, &err)) == 0) {
        for (size_t i = 0; i < s.n_requests; i++) {
            bm_buf_add(all, s.requests[i].context, s.requests[i].len_context);
            bm_buf_putc(all, '\0');
            if (s.requests[i].continuation != NULL)
                bm_buf_add(all, s.requests[i].continuation, s.requests[i].len_continuation);
            bm_buf_putc(all, '\1');
        }
        n++;
        bm_sample_done(&s);
    }
    if (rc < 0)
        fail_msg("%s: %s", name, err.msg);
    bm_prompts_close(prompts);
    bm_task_list_free(list);
    return n;
}

static void prompts_equal_lm_evals(void **state)
{
    static const char *const dirs[] = {"tasks"};
    FILE *f = fopen("tests/oracle/eval/prompts.txt", "r");
    char key[128], want[80], hex[65];
    bm_task_index *index;
    bm_error err = {0};
    size_t docs, n = 0;

    (void)state;
    assert_non_null(f);
    assert_int_equal(bm_task_index_open(&index, dirs, 1, NULL, NULL, &err), 0);
    while (fscanf(f, "%127s %zu %79s", key, &docs, want) == 3) {
        char *mode = strrchr(key, '/'), *shots;
        bm_buf all = {0};
        bm_sha256 sum;
        *mode++ = '\0';
        shots = strrchr(key, '/');
        *shots++ = '\0';
        assert_int_equal(build(&all, index, key, shots, *mode, docs), docs);
        assert_int_equal(bm_sha256_bytes(&sum, all.data, all.len, &err), 0);
        bm_hex(hex, sum.bytes, sizeof sum.bytes);
        if (strcmp(hex, want) != 0)
            fail_msg("%s, %s examples, chat %s: other prompts than lm-eval's", key, shots, mode);
        bm_buf_done(&all);
        n++;
    }
    fclose(f);
    bm_task_index_close(index);
    assert_true(n > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prompts_equal_lm_evals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
