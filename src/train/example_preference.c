/* example_preference.c - rows with two answers: the prompt in whatever form, then the chosen and the rejected one behind it. */
#include <string.h>

#include "train/example.h"

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a row"); }

/* Two chats that begin alike: what they share is the prompt. */
static int chats_apart(bm_example *out, const json_t *chosen, const json_t *rejected, bm_error *err)
{
    bm_example_side *a = &out->side, *b = &out->other;
    size_t n = 0;
    int rc;

    if ((a->messages = json_array()) == NULL || (b->messages = json_array()) == NULL)
        return no_memory(err);
    if ((rc = bm_chat_add(a->messages, chosen, err)) < 0 || (rc = bm_chat_add(b->messages, rejected, err)) < 0 ||
        (rc = bm_chat_check_order(a->messages, true, err)) < 0 || (rc = bm_chat_check_order(b->messages, true, err)) < 0)
        return rc;
    while (n < json_array_size(a->messages) && json_equal(json_array_get(a->messages, n), json_array_get(b->messages, n)))
        n++;
    if (n == 0)
        return bm_fail(err, BM_INVALID, "'chosen' and 'rejected' do not begin with the same prompt");
    a->from = b->from = n;
    return 0;
}

static int add_answer(bm_example_side *side, const json_t *prompt, const json_t *answer, bm_error *err)
{
    int rc;

    if ((side->messages = json_copy((json_t *)(uintptr_t)prompt)) == NULL)
        return no_memory(err);
    side->from = json_array_size(prompt);
    rc = json_is_string(answer) ? bm_chat_add_text(side->messages, "assistant", answer, err)
       : json_is_object(answer) ? bm_chat_add_one(side->messages, answer, err) : bm_chat_add(side->messages, answer, err);
    return rc < 0 ? rc : bm_chat_check_order(side->messages, true, err);
}

/* Both answers behind the messages of the prompt in out->side.messages. */
static int both_answers(bm_example *out, const json_t *row, bm_error *err)
{
    json_t *prompt = out->side.messages;
    int rc;

    out->side.messages = NULL;
    if ((rc = bm_chat_check_order(prompt, false, err)) == 0 &&
        (rc = add_answer(&out->side, prompt, json_object_get(row, "chosen"), err)) == 0)
        rc = add_answer(&out->other, prompt, json_object_get(row, "rejected"), err);
    json_decref(prompt);
    return rc;
}

/* The prompt as a string, whatever field it is in. */
static int preference_prompt(json_t **out, const json_t *row, const bm_data_options *o, bool chat, bm_error *err)
{
    static const char *const names[] = { "prompt", "question", "query", "input" };
    const char *name = o->prompt_field != NULL ? o->prompt_field : bm_row_first(row, names, sizeof names / sizeof *names);

    if (o->prompt_field == NULL && bm_row_has(row, "instruction"))
        return bm_row_alpaca_prompt(out, row, row, chat, err);
    return name == NULL ? bm_fail(err, BM_INVALID, "has no prompt") : bm_row_text(out, row, name, err);
}

static int read_strings(bm_example *out, const json_t *row, const bm_data_options *o, bool chat, bm_error *err)
{
    const json_t *chosen = json_object_get(row, "chosen"), *rejected = json_object_get(row, "rejected");
    json_t *prompt = NULL;
    int rc;

    if ((rc = preference_prompt(&prompt, row, o, chat, err)) < 0)
        goto out;
    if (chat) {
        if ((out->side.messages = json_array()) == NULL)
            rc = no_memory(err);
        else if ((rc = bm_side_system(out->side.messages, row, err)) == 0 &&
                 (rc = bm_chat_add_text(out->side.messages, "user", prompt, err)) == 0)
            rc = both_answers(out, row, err);
    } else if (!json_is_string(chosen) || !json_is_string(rejected)) {
        rc = bm_fail(err, BM_INVALID, "'chosen' and 'rejected' are no strings");
    } else if ((rc = bm_side_pair(&out->side, prompt, chosen, false, "", err)) == 0) {
        rc = bm_side_pair(&out->other, prompt, rejected, false, "", err);
    }
out:
    json_decref(prompt);
    return rc;
}

int bm_example_preference(bm_example *out, const json_t *row, const bm_data_options *o, bool chat, bm_error *err)
{
    json_t *chosen = json_object_get(row, "chosen"), *rejected = json_object_get(row, "rejected");
    const json_t *prompt = json_object_get(row, o->prompt_field != NULL ? o->prompt_field : "prompt");
    int rc;

    if (chosen == NULL || rejected == NULL)
        return bm_fail(err, BM_INVALID, "has no '%s'", chosen == NULL ? "chosen" : "rejected");
    if (json_equal(chosen, rejected))
        return bm_fail(err, BM_INVALID, "'chosen' and 'rejected' are equal");
    if ((rc = bm_chat_tools(&out->tools, row, err)) < 0)
        return rc;
    if (json_is_array(bm_row_chat(row)))
        return (rc = bm_side_chat(&out->side, row, err)) < 0 ? rc : both_answers(out, row, err);
    if (bm_row_is_chat(prompt)) {
        if ((out->side.messages = json_array()) == NULL)
            return no_memory(err);
        return (rc = bm_chat_add(out->side.messages, prompt, err)) < 0 ? rc : both_answers(out, row, err);
    }
    if (bm_row_is_chat(chosen) && bm_row_is_chat(rejected) && prompt == NULL)
        return chats_apart(out, chosen, rejected, err);
    return read_strings(out, row, o, o->render == BM_RENDER_CHAT || (o->render == BM_RENDER_AUTO && chat), err);
}
