/* example.c - the shapes of rows: which one a row has, and what it says. See rows.h for the list. */
#define _GNU_SOURCE      /* memmem */
#include "train/example.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a row"); }

static const char *const shape_names[] = { "auto", "messages", "alpaca", "sharegpt", "prompt", "text", "preference", "tree" };

const char *bm_data_shape_name(bm_data_shape shape) { return shape_names[shape]; }

bool bm_data_shape_find(const char *name, bm_data_shape *out)
{
    for (size_t i = 0; i < sizeof shape_names / sizeof shape_names[0]; i++)
        if (strcmp(name, shape_names[i]) == 0) {
            *out = (bm_data_shape)i;
            return true;
        }
    return false;
}

static void side_done(bm_example_side *s)
{
    json_decref(s->messages);
    json_decref(s->text);
}

void bm_example_done(bm_example *e)
{
    side_done(&e->side);
    side_done(&e->other);
    json_decref(e->tools);
    memset(e, 0, sizeof *e);
}

/* ---- which shape ---- */

/* Fields that go together, the likelier pair first. "prompt" with the first two is text as it stands. */
static const char *const pairs[][2] = {
    { "prompt", "completion" }, { "prompt", "response" }, { "question", "answer" }, { "query", "response" }, { "query", "answer" },
    { "question", "response" }, { "input", "output" }, { "input", "target" }, { "prompt", "answer" }, { "text", "label" },
    { "text", "category" }, { "text", "intent" }, { "text", "target" }, { "sentence", "label" }, { "source", "target" }
};
enum { N_PAIRS = sizeof pairs / sizeof pairs[0] };
static const char *const texts[] = { "text", "content", "paragraphs" };
static const char *const answers[] = { "output", "response", "completion", "answer", "target" };

bool bm_row_has(const json_t *row, const char *key)
{
    const json_t *v = json_object_get(row, key);

    return v != NULL && !json_is_null(v);
}

const char *bm_row_first(const json_t *row, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bm_row_has(row, names[i]))
            return names[i];
    return NULL;
}

/* The names of the two fields of a pair; false: the row has none. */
static bool pick_pair(const json_t *row, const bm_data_options *o, const char **prompt, const char **target)
{
    for (int i = 0; i < N_PAIRS; i++) {
        *prompt = o->prompt_field != NULL ? o->prompt_field : pairs[i][0];
        *target = o->target_field != NULL ? o->target_field : pairs[i][1];
        if (bm_row_has(row, *prompt) && bm_row_has(row, *target) && strcmp(*prompt, *target) != 0)
            return true;
    }
    if (o->prompt_field != NULL && o->target_field == NULL && bm_row_has(row, *prompt = o->prompt_field))
        return (*target = bm_row_first(row, answers, sizeof answers / sizeof *answers)) != NULL;
    return false;
}

const json_t *bm_row_chat(const json_t *row)
{
    const json_t *list = json_object_get(row, "messages");

    return json_is_array(list) ? list : json_object_get(row, "conversations");
}

bm_data_shape bm_example_shape(const json_t *row, const bm_data_options *o)
{
    const char *a, *b;

    if (o->shape != BM_DATA_AUTO)
        return o->shape;
    if (json_is_string(row))
        return BM_DATA_TEXT;
    if (json_is_array(row))
        return json_array_size(row) == 2 && json_is_string(json_array_get(row, 0)) ? BM_DATA_PROMPT : BM_DATA_AUTO;
    if (bm_row_has(row, "chosen") && bm_row_has(row, "rejected"))
        return BM_DATA_PREFERENCE;
    if (o->prompt_field != NULL)
        return pick_pair(row, o, &a, &b) ? BM_DATA_PROMPT : BM_DATA_AUTO;
    if (o->target_field != NULL)
        return bm_row_has(row, o->target_field) ? BM_DATA_TEXT : BM_DATA_AUTO;
    if (json_is_array(bm_row_chat(row)))
        return json_object_get(json_array_get(bm_row_chat(row), 0), "from") != NULL ? BM_DATA_SHAREGPT : BM_DATA_MESSAGES;
    if (json_is_object(json_object_get(row, "prompt")) && bm_row_has(json_object_get(row, "prompt"), "replies"))
        return BM_DATA_TREE;
    if (bm_row_has(row, "instruction") &&
        (bm_row_has(row, "instances") || bm_row_first(row, answers, sizeof answers / sizeof *answers) != NULL))
        return BM_DATA_ALPACA;
    if (pick_pair(row, o, &a, &b))
        return BM_DATA_PROMPT;
    return bm_row_first(row, texts, sizeof texts / sizeof *texts) != NULL ? BM_DATA_TEXT : BM_DATA_AUTO;
}

/* ---- values as text ---- */

static int join_lines(json_t **out, const json_t *list, const char *name, bm_error *err)
{
    bm_buf text = { 0 };
    json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, v) {
        if (!json_is_string(v)) {
            bm_buf_done(&text);
            return bm_fail(err, BM_INVALID, "'%.60s' is an array that holds more than strings", name);
        }
        if (i > 0)
            bm_buf_putc(&text, '\n');
        bm_buf_add(&text, json_string_value(v), json_string_length(v));
    }
    if (!text.failed)
        *out = json_stringn(text.len > 0 ? text.data : "", text.len);
    bm_buf_done(&text);
    return *out == NULL ? no_memory(err) : 0;
}

/* A field as a string: lists of strings are lines, numbers their digits (labels). */
static int text_of(json_t **out, const json_t *v, const char *name, bm_error *err)
{
    char *digits;

    *out = NULL;
    if (json_is_string(v)) {
        *out = json_incref((json_t *)(uintptr_t)v);
        return 0;
    }
    if (json_is_array(v))
        return join_lines(out, v, name, err);
    if (v == NULL || json_is_null(v))
        return bm_fail(err, BM_INVALID, "has no '%.60s'", name);
    if (json_is_object(v))
        return bm_fail(err, BM_INVALID, "'%.60s' is an object, expected a string", name);
    if ((digits = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))) == NULL || (*out = json_string(digits)) == NULL) {
        free(digits);                                            /* jansson's */
        return no_memory(err);
    }
    free(digits);
    return 0;
}

int bm_row_text(json_t **out, const json_t *row, const char *name, bm_error *err)
{
    if (!json_is_object(row))
        return bm_fail(err, BM_INVALID, "expected an object with '%.60s'", name);
    return text_of(out, json_object_get(row, name), name, err);
}

static json_t *joined(const json_t *a, const char *between, const json_t *b)
{
    bm_buf text = { 0 };
    json_t *out = NULL;

    bm_buf_add(&text, json_string_value(a), json_string_length(a));
    bm_buf_puts(&text, between);
    bm_buf_add(&text, json_string_value(b), json_string_length(b));
    if (!text.failed)
        out = json_stringn(text.len > 0 ? text.data : "", text.len);
    bm_buf_done(&text);
    return out;
}

/* ---- pairs and text ---- */

static bool is_blank(const json_t *text)
{
    const char *s = json_string_value(text);

    return strspn(s, " \t\r\n") == json_string_length(text);
}

static int text_side(bm_example_side *side, const json_t *prompt, const char *between, const json_t *target, bm_error *err)
{
    if ((side->text = joined(prompt, between, target)) == NULL)
        return no_memory(err);
    side->loss_from = json_string_length(prompt) + strlen(between);
    return 0;
}

/* One turn, or text; both strings are there. */
int bm_side_pair(bm_example_side *side, const json_t *prompt, const json_t *target, bool chat, const char *between, bm_error *err)
{
    int rc;

    if (is_blank(target))
        return bm_fail(err, BM_INVALID, "empty: nothing to learn in its target");
    if (!chat)
        return text_side(side, prompt, between, target, err);
    if (side->messages == NULL && (side->messages = json_array()) == NULL)
        return no_memory(err);
    if ((rc = bm_chat_add_text(side->messages, "user", prompt, err)) == 0)
        rc = bm_chat_add_text(side->messages, "assistant", target, err);
    return rc;
}

/* TRL's conversational form: both fields are lists of messages. */
static int chat_pair(bm_example_side *side, const json_t *prompt, const json_t *target, bm_error *err)
{
    int rc;

    if ((side->messages = json_array()) == NULL)
        return no_memory(err);
    if ((rc = bm_chat_add(side->messages, prompt, err)) < 0 || (rc = bm_chat_check_order(side->messages, false, err)) < 0)
        return rc;
    side->from = json_array_size(side->messages);
    if ((rc = json_is_object(target) ? bm_chat_add_one(side->messages, target, err) : bm_chat_add(side->messages, target, err)) < 0)
        return rc;
    return bm_chat_check_order(side->messages, true, err);
}

bool bm_row_is_chat(const json_t *v) { return json_is_array(v) && json_is_object(json_array_get(v, 0)); }

static bool as_chat(const bm_data_options *o, bool chat, const char *prompt, const char *target)
{
    bool plain = strcmp(prompt, "prompt") == 0 && (strcmp(target, "completion") == 0 || strcmp(target, "response") == 0);

    return o->render == BM_RENDER_CHAT || (o->render == BM_RENDER_AUTO && chat && !plain);
}

static int read_pair(bm_example *out, const json_t *row, const bm_data_options *o, bool chat, bm_error *err)
{
    const char *a = "prompt", *b = "completion";
    const json_t *va, *vb;
    json_t *prompt = NULL, *target = NULL;
    int rc;

    if (json_is_array(row)) {
        va = json_array_get(row, 0), vb = json_array_get(row, 1);
        a = "the first", b = "the second";
    } else if (!pick_pair(row, o, &a, &b)) {
        if (o->prompt_field != NULL && !bm_row_has(row, o->prompt_field))
            return bm_fail(err, BM_INVALID, "has no '%.60s'", o->prompt_field);
        if (o->target_field != NULL && !bm_row_has(row, o->target_field))
            return bm_fail(err, BM_INVALID, "has no '%.60s'", o->target_field);
        return bm_fail(err, BM_INVALID, "has no pair of fields such as prompt and completion");
    } else {
        va = json_object_get(row, a), vb = json_object_get(row, b);
    }
    if (bm_row_is_chat(va))
        return chat_pair(&out->side, va, vb, err);
    if ((rc = text_of(&prompt, va, a, err)) == 0 && (rc = text_of(&target, vb, b, err)) == 0) {
        bool in_chat = as_chat(o, chat, a, b);
        bool plain = strcmp(a, "prompt") == 0 && (strcmp(b, "completion") == 0 || strcmp(b, "response") == 0);
        rc = bm_side_pair(&out->side, prompt, target, in_chat, plain ? "" : "\n", err);
    }
    json_decref(prompt);
    json_decref(target);
    return rc;
}

/* Behind the last `after` in the text; 0 and *found false when there is none. */
static size_t behind_last(const json_t *text, const char *after, bool *found)
{
    const char *s = json_string_value(text), *at = NULL, *p = s;
    size_t len = json_string_length(text);

    while ((p = memmem(p, len - (size_t)(p - s), after, strlen(after))) != NULL)
        at = p, p += strlen(after);
    *found = at != NULL;
    return at == NULL ? 0 : (size_t)(at - s) + strlen(after);
}

static int read_text(bm_example *out, const json_t *row, const bm_data_options *o, bm_error *err)
{
    const char *name = o->target_field;
    bool found = true;
    int rc;

    if (json_is_string(row)) {
        out->side.text = json_incref((json_t *)(uintptr_t)row);
    } else {
        if (name == NULL && (name = bm_row_first(row, texts, sizeof texts / sizeof *texts)) == NULL)
            name = "text";
        if ((rc = bm_row_text(&out->side.text, row, name, err)) < 0)
            return rc;
    }
    if (is_blank(out->side.text))
        return bm_fail(err, BM_INVALID, "empty: no text");
    if (o->loss_after != NULL && o->loss_after[0] != '\0')
        out->side.loss_from = behind_last(out->side.text, o->loss_after, &found);
    if (!found)
        return bm_fail(err, BM_INVALID, "no token carries the loss: '%.60s' is not in its text", o->loss_after);
    return 0;
}

/* ---- Alpaca ---- */

static int add_history(json_t *messages, const json_t *history, bm_error *err)
{
    json_t *turn;
    size_t i;
    int rc;

    if (history == NULL || json_is_null(history))
        return 0;
    json_array_foreach((json_t *)(uintptr_t)history, i, turn) {
        if (!json_is_string(json_array_get(turn, 0)) || !json_is_string(json_array_get(turn, 1)))
            return bm_fail(err, BM_INVALID, "history: turn %zu is not a pair of strings", i + 1);
        if ((rc = bm_chat_add_text(messages, "user", json_array_get(turn, 0), err)) < 0 ||
            (rc = bm_chat_add_text(messages, "assistant", json_array_get(turn, 1), err)) < 0)
            return rc;
    }
    return 0;
}

int bm_side_system(json_t *messages, const json_t *row, bm_error *err)
{
    const json_t *system = json_object_get(row, "system");

    if (system == NULL || json_is_null(system) || (json_is_string(system) && json_string_length(system) == 0))
        return 0;
    return json_is_string(system) ? bm_chat_add_text(messages, "system", system, err)
                                  : bm_fail(err, BM_INVALID, "'system' is no string");
}

/* Stanford's format, for models without a template: up to and with "### Response:\n". */
static json_t *alpaca_text(const json_t *instruction, const json_t *input)
{
    bm_buf b = { 0 };
    json_t *out = NULL;
    bool with = json_string_length(input) > 0;

    bm_buf_puts(&b, with ? "Below is an instruction that describes a task, paired with an input that provides further context. "
                           "Write a response that appropriately completes the request.\n\n### Instruction:\n"
                         : "Below is an instruction that describes a task. "
                           "Write a response that appropriately completes the request.\n\n### Instruction:\n");
    bm_buf_add(&b, json_string_value(instruction), json_string_length(instruction));
    if (with) {
        bm_buf_puts(&b, "\n\n### Input:\n");
        bm_buf_add(&b, json_string_value(input), json_string_length(input));
    }
    bm_buf_puts(&b, "\n\n### Response:\n");
    if (!b.failed)
        out = json_stringn(b.data, b.len);
    bm_buf_done(&b);
    return out;
}

/* The user's words of an Alpaca row: instruction, line feed, input; as text in Stanford's format. */
int bm_row_alpaca_prompt(json_t **out, const json_t *row, const json_t *inner, bool chat, bm_error *err)
{
    json_t *instruction = NULL, *input = NULL;
    const char *name = bm_row_has(inner, "input") ? "input" : "context";
    int rc = 0;

    *out = NULL;
    if ((rc = bm_row_text(&instruction, row, "instruction", err)) < 0)
        return rc;
    if (is_blank(instruction))
        rc = bm_fail(err, BM_INVALID, "empty: no instruction");
    else if (bm_row_has(inner, name))
        rc = bm_row_text(&input, inner, name, err);
    else if ((input = json_string("")) == NULL)
        rc = no_memory(err);
    if (rc == 0) {
        *out = !chat ? alpaca_text(instruction, input)
                     : json_string_length(input) > 0 ? joined(instruction, "\n", input) : json_incref(instruction);
        rc = *out == NULL ? no_memory(err) : 0;
    }
    json_decref(instruction);
    json_decref(input);
    return rc;
}

static int read_alpaca(bm_example *out, const json_t *row, size_t index, const bm_data_options *o, bool chat, bm_error *err)
{
    const json_t *instances = json_object_get(row, "instances"), *inner = row;
    json_t *prompt = NULL, *target = NULL;
    const char *answer;
    int rc;

    chat = o->render == BM_RENDER_CHAT || (o->render == BM_RENDER_AUTO && chat);
    if (json_is_array(instances)) {
        if (json_array_size(instances) == 0)
            return bm_fail(err, BM_INVALID, "empty: no instances");
        inner = json_array_get(instances, index);
    }
    if ((answer = bm_row_first(inner, answers, sizeof answers / sizeof *answers)) == NULL)
        return bm_fail(err, BM_INVALID, "has no 'output'");
    if (chat) {
        if ((out->side.messages = json_array()) == NULL)
            return no_memory(err);
        if ((rc = bm_side_system(out->side.messages, row, err)) < 0 ||
            (rc = add_history(out->side.messages, json_object_get(row, "history"), err)) < 0)
            return rc;
    }
    if ((rc = bm_row_alpaca_prompt(&prompt, row, inner, chat, err)) == 0 && (rc = bm_row_text(&target, inner, answer, err)) == 0)
        rc = bm_side_pair(&out->side, prompt, target, chat, "", err);
    json_decref(prompt);
    json_decref(target);
    return rc;
}

size_t bm_example_count(const json_t *row, bm_data_shape shape)
{
    size_t n = shape == BM_DATA_ALPACA ? json_array_size(json_object_get(row, "instances")) : 1;

    return n > 1 ? n : 1;
}

/* ---- chats ---- */

int bm_side_chat(bm_example_side *side, const json_t *row, bm_error *err)
{
    const json_t *list = bm_row_chat(row);
    int rc;

    if ((side->messages = json_array()) == NULL)
        return no_memory(err);
    if (list == NULL)
        return bm_fail(err, BM_INVALID, "has no 'messages' or 'conversations'");
    if ((rc = bm_side_system(side->messages, row, err)) < 0)
        return rc;
    return bm_chat_add(side->messages, list, err);
}

static int read_chat(bm_example *out, const json_t *row, bm_error *err)
{
    int rc;

    if ((rc = bm_side_chat(&out->side, row, err)) < 0 || (rc = bm_chat_check_order(out->side.messages, true, err)) < 0)
        return rc;
    return bm_chat_tools(&out->tools, row, err);
}

/* ---- OpenAssistant's trees ---- */

static double rank_of(const json_t *node)
{
    const json_t *rank = json_object_get(node, "rank");

    return json_is_number(rank) ? json_number_value(rank) : 1e9;
}

static const json_t *best_reply(const json_t *node)
{
    const json_t *best = NULL;
    json_t *reply;
    size_t i;

    json_array_foreach(json_object_get(node, "replies"), i, reply)
        if (!json_is_true(json_object_get(reply, "deleted")) && (best == NULL || rank_of(reply) < rank_of(best)))
            best = reply;
    return best;
}

static int read_tree(bm_example *out, const json_t *row, bm_error *err)
{
    const json_t *node = json_object_get(row, "prompt");
    size_t n;
    int rc;

    if (!json_is_object(node))
        return bm_fail(err, BM_INVALID, "has no tree in 'prompt'");
    if ((out->side.messages = json_array()) == NULL)
        return no_memory(err);
    for (; node != NULL; node = best_reply(node))
        if ((rc = bm_chat_add_one(out->side.messages, node, err)) < 0)
            return rc;
    n = json_array_size(out->side.messages);
    if (n > 1 && strcmp(json_string_value(json_object_get(json_array_get(out->side.messages, n - 1), "role")), "user") == 0)
        json_array_remove(out->side.messages, n - 1);            /* a question that nobody answered */
    return bm_chat_check_order(out->side.messages, true, err);
}

/* ---- */

int bm_example_read(bm_example *out, const json_t *row, size_t index, bm_data_shape shape, const bm_data_options *options, bool chat,
                    bm_error *err)
{
    memset(out, 0, sizeof *out);
    if (!json_is_object(row) && !(json_is_string(row) && shape == BM_DATA_TEXT) && !(json_is_array(row) && shape == BM_DATA_PROMPT))
        return bm_fail(err, BM_INVALID, "the row is no object");
    switch (shape) {
    case BM_DATA_MESSAGES:
    case BM_DATA_SHAREGPT:
        return read_chat(out, row, err);
    case BM_DATA_ALPACA:
        return read_alpaca(out, row, index, options, chat, err);
    case BM_DATA_PROMPT:
        return read_pair(out, row, options, chat, err);
    case BM_DATA_TEXT:
        return read_text(out, row, options, err);
    case BM_DATA_PREFERENCE:
        return bm_example_preference(out, row, options, chat, err);
    case BM_DATA_TREE:
        return read_tree(out, row, err);
    default:
        return bm_fail(err, BM_INVALID, "none of the known shapes");
    }
}
