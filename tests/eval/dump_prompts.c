/* dump_prompts.c - for tests/oracle/eval/: the requests of a task file's first documents, one line of JSON each.
 * usage: dump_prompts TASK.yaml LIMIT SEED NUM_FEWSHOT|- CHAT(0|1|2: none, one turn, several) [SYSTEM]
 * A chat is rendered as <|role|>text<|end|> for each message, and an open <|assistant|> at the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "eval/prompt.h"

static int chat(void *arg, const json_t *messages, bool add_generation_prompt, char **out, bm_error *err)
{
    bm_buf b = {0};

    (void)arg, (void)err;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        bm_buf_printf(&b, "<|%s|>%s", json_string_value(json_object_get(m, "role")), json_string_value(json_object_get(m, "content")));
        if (add_generation_prompt || i + 1 < json_array_size(messages))
            bm_buf_puts(&b, "<|end|>");
    }
    if (add_generation_prompt)
        bm_buf_puts(&b, "<|assistant|>");
    *out = bm_buf_take(&b);
    return 0;
}

static void print(const bm_sample *s, int rc, const bm_error *err)
{
    json_t *line = json_pack("{s:I}", "doc_id", (json_int_t)s->doc_id), *requests = json_array();

    if (rc < 0)
        json_object_set_new(line, "error", json_string(err->msg));
    for (size_t i = 0; i < s->n_requests; i++) {
        const bm_request_text *r = &s->requests[i];
        json_array_append_new(requests, json_pack("[o, o]", json_stringn(r->context, r->len_context),
                              r->continuation == NULL ? json_null() : json_stringn(r->continuation, r->len_continuation)));
    }
    json_object_set_new(line, "requests", requests);
    json_object_set(line, "target", s->target != NULL ? s->target : json_null());
    json_object_set(line, "gold", s->gold != NULL ? s->gold : json_null());
    char *text = json_dumps(line, JSON_COMPACT | JSON_ENCODE_ANY);
    puts(text);
    free(text);
    json_decref(line);
}

int main(int argc, char **argv)
{
    bm_task_options to = {.has_num_fewshot = argc > 4 && strcmp(argv[4], "-") != 0};
    bm_prompt_options po = {.chat = chat};
    bm_prompts *prompts = NULL;
    bm_error err = {0};
    bm_task *task = NULL;
    bm_sample s;

    if (argc < 6)
        return 2;
    to.num_fewshot = to.has_num_fewshot ? atoi(argv[4]) : 0;
    po.fewshot_seed = strtoull(argv[3], NULL, 10);
    po.apply_chat_template = argv[5][0] != '0', po.fewshot_as_multiturn = argv[5][0] == '2';
    po.system_instruction = argc > 6 ? argv[6] : NULL;
    if (bm_task_load_file(&task, argv[1], &to, &err) < 0 || bm_prompts_open(&prompts, task, &po, &err) < 0) {
        fprintf(stderr, "%s\n%s\n", err.msg, err.hint);
        bm_task_free(task);
        return 1;
    }
    for (int i = 0, rc; i < atoi(argv[2]) && (rc = bm_prompts_next(prompts, &s, &err)) != 1; i++) {
        print(&s, rc, &err);
        bm_sample_done(&s);
    }
    bm_prompts_close(prompts);
    bm_task_free(task);
    return 0;
}
