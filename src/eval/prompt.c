/* prompt.c - documents to requests, in order: lm-eval's ConfigurableTask.fewshot_context and construct_requests. */
#include "eval/prompt.h"

#include <string.h>

#include "base/mem.h"
#include "eval/known.h"
#include "eval/prompt_internal.h"
#include "text/regex.h"

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a prompt"); }

/* ---- opening ---- */

static int load_split(bm_docs **out, const bm_prompts *p, const char *split, const bm_task_field *process, bm_error *err)
{
    int rc = bm_docs_load(out, p->task, split, p->options.resolve, p->options.resolve_arg, err);

    if (rc == 0 && (rc = bm_field_process(*out, process, err)) < 0) {
        bm_docs_free(*out);
        *out = NULL;
    }
    return rc;
}

static int take_samples(bm_docs **out, const bm_task *task, bm_error *err)
{
    bm_docs *d = bm_zalloc(sizeof *d);

    if (d == NULL || (d->rows = json_incref(task->fewshot.samples)) == NULL) {
        bm_docs_free(d);
        return no_memory(err);
    }
    d->n = json_array_size(d->rows);
    *out = d;
    return d->n == 0 ? bm_fail(err, BM_INVALID, "%s: fewshot_config.samples: none", task->file) : 0;
}

/* The pool: fewshot split, samples, else the training, the validation or the test split. */
static int load_shots(bm_prompts *p, const char *eval_split, bm_error *err)
{
    const bm_task *t = p->task;
    const char *split = t->fewshot.split;
    const bm_task_field *process = &t->fewshot.process_docs;

    p->same_split = t->test_split == NULL ? t->fewshot.split == NULL : t->fewshot.split != NULL && strcmp(t->fewshot.split, t->test_split) == 0;
    if (t->num_fewshot == 0)
        return 0;
    if (split == NULL && t->fewshot.samples != NULL) {
        p->own_shots = true;
        return take_samples(&p->shots, t, err);
    }
    if (split == NULL) {
        process = &t->process_docs;
        split = t->training_split != NULL ? t->training_split : t->validation_split != NULL ? t->validation_split : t->test_split;
    }
    if (strcmp(split, eval_split) == 0 && process->kind == t->process_docs.kind && process->known == t->process_docs.known) {
        p->shots = p->docs;
        return 0;
    }
    p->own_shots = true;
    return load_split(&p->shots, p, split, process, err);
}

static int open_fields(bm_prompts *p, bm_error *err)
{
    const bm_task *t = p->task;
    const struct { bm_field *f; const bm_task_field *field; const char *key; } list[] = {
        {&p->text, &t->doc_to_text, "doc_to_text"}, {&p->target, &t->doc_to_target, "doc_to_target"},
        {&p->choice, &t->doc_to_choice, "doc_to_choice"}, {&p->description, &t->description, "description"},
        {&p->prefix, &t->gen_prefix, "gen_prefix"}, {&p->fs_text, &t->fewshot.doc_to_text, "fewshot_config.doc_to_text"},
        {&p->fs_target, &t->fewshot.doc_to_target, "fewshot_config.doc_to_target"},
        {&p->fs_choice, &t->fewshot.doc_to_choice, "fewshot_config.doc_to_choice"},
        {&p->fs_prefix, &t->fewshot.gen_prefix, "fewshot_config.gen_prefix"}};
    int rc = 0;

    for (size_t i = 0; i < sizeof list / sizeof list[0] && rc == 0; i++)
        rc = bm_field_open(list[i].f, list[i].field, list[i].key, p->docs, err);
    return rc;
}

/* The first document tells whether there are several inputs or targets, as in lm-eval; and shows a template that cannot work. */
static int test_first(bm_prompts *p, bm_error *err)
{
    const json_t *doc = json_array_get(p->docs->rows, 0);
    json_t *text = NULL, *target = NULL, *choices = NULL;
    int rc;

    if ((rc = bm_field_text(&text, &p->text, doc, p->has_choices, err)) == 0 &&
        (rc = bm_field_target(&target, &p->target, doc, p->has_choices, err)) == 0 && p->has_choices)
        rc = bm_field_choices(&choices, &p->choice, doc, err);
    if (rc == 0) {
        p->multiple_input = p->has_choices && json_is_integer(text);
        p->multiple_target = json_is_array(target) && json_array_size(target) > 0;
        if (p->task->output == BM_TASK_MULTIPLE_CHOICE && !p->has_choices)
            rc = bm_fail(err, BM_INVALID, "%s:%d: doc_to_choice: missing, and output_type is multiple_choice", p->task->file, p->task->line);
    }
    json_decref(text), json_decref(target), json_decref(choices);
    return rc < 0 ? bm_wrap(err, "the first document of %s", p->docs->path) : 0;
}

static int open_all(bm_prompts *p, bm_error *err)
{
    const bm_task *t = p->task;
    const char *split = t->test_split != NULL ? t->test_split : t->validation_split;
    int rc;

    if (split == NULL)
        return bm_fail(err, BM_INVALID, "%s:%d: test_split: neither a test nor a validation split is named", t->file, t->line);
    if (p->options.apply_chat_template && p->options.chat == NULL)
        return bm_fail(err, BM_INVALID, "a chat template is asked for, and the model has none");
    if ((rc = load_split(&p->docs, p, split, &t->process_docs, err)) < 0 || (rc = open_fields(p, err)) < 0 ||
        (rc = load_shots(p, split, err)) < 0 || (rc = bm_shots_check(p, err)) < 0)
        return rc;
    return test_first(p, err);
}

int bm_prompts_open(bm_prompts **out, const bm_task *task, const bm_prompt_options *options, bm_error *err)
{
    bm_prompts *p = bm_zalloc(sizeof *p);
    int rc;

    *out = NULL;
    if (p == NULL)
        return no_memory(err);
    p->task = task;
    p->options = *options;
    p->has_choices = task->doc_to_choice.kind != BM_FIELD_NONE;
    p->counts_page = task->process_results.kind == BM_FIELD_KNOWN && task->process_results.known->results == BM_RESULTS_ROLLING;
    for (size_t i = 0; i < task->n_metrics; i++)
        p->mutual_info |= strcmp(task->metrics[i].name, "acc_mutual_info") == 0;
    bm_pyrandom_seed(&p->random, options->fewshot_seed);
    if ((rc = open_all(p, err)) < 0)
        bm_prompts_close(p);
    else
        *out = p;
    return rc;
}

void bm_prompts_close(bm_prompts *p)
{
    if (p == NULL)
        return;
    bm_field *fields[] = {&p->text, &p->target, &p->choice, &p->description, &p->prefix, &p->fs_text, &p->fs_target, &p->fs_choice, &p->fs_prefix};

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        bm_field_done(fields[i]);
    if (p->own_shots)
        bm_docs_free(p->shots);
    bm_docs_free(p->docs);
    bm_free(p);
}

size_t bm_prompts_count(const bm_prompts *p) { return p->docs->n; }
const bm_docs *bm_prompts_docs(const bm_prompts *p) { return p->docs; }
const bm_docs *bm_prompts_shots(const bm_prompts *p) { return p->shots; }

/* ---- the context ---- */

static int add_system(bm_turns *t, bm_prompts *p, const json_t *doc, bm_error *err)
{
    const char *system = p->options.system_instruction != NULL ? p->options.system_instruction : "";
    json_t *description;
    bm_buf b = {0};
    int rc = bm_field_line(&description, &p->description, doc, true, err);

    if (rc < 0)
        return rc;
    bm_join_delimited(&b, system, json_string_value(description), p->task->fewshot_delimiter);
    if (b.failed)
        rc = no_memory(err);
    else if (b.len > 0)
        rc = bm_turns_add(t, "system", b.data, b.len, "", err);
    json_decref(description);
    bm_buf_done(&b);
    return rc;
}

/* With several inputs the text is the number of the right one. */
static int pick_input(json_t **question, json_t **choices, bm_error *err)
{
    json_int_t i = json_integer_value(*question), n = (json_int_t)json_array_size(*choices);

    if (!json_is_integer(*question) || i < -n || i >= n)
        return bm_fail(err, BM_INVALID, "an example's doc_to_text is not the number of one of its choices");
    json_decref(*question);
    *question = json_incref(json_array_get(*choices, (size_t)(i < 0 ? i + n : i)));
    json_decref(*choices);
    *choices = NULL;
    return 0;
}

static int add_shot(bm_turns *t, bm_prompts *p, const json_t *shot, bm_error *err)
{
    json_t *q = NULL, *c = NULL, *a = NULL, *prefix = NULL;
    int rc;

    if ((rc = bm_field_text(&q, &p->fs_text, shot, p->has_choices, err)) == 0 &&
        (p->fs_choice.field->kind == BM_FIELD_NONE || (rc = bm_field_choices(&c, &p->fs_choice, shot, err)) == 0) &&
        (rc = bm_field_target(&a, &p->fs_target, shot, p->has_choices, err)) == 0 &&
        (rc = bm_field_line(&prefix, &p->fs_prefix, shot, true, err)) == 0 &&
        (!p->multiple_input || (rc = pick_input(&q, &c, err)) == 0)) {
        bm_qa qa = {q, c, a, prefix, p->task->fewshot.target_delimiter, p->task->fewshot.fewshot_delimiter};
        rc = bm_turns_add_qa(t, &qa, err);
    }
    json_decref(q), json_decref(c), json_decref(a), json_decref(prefix);
    return rc;
}

static int add_shots(bm_turns *t, bm_prompts *p, const json_t *doc, bm_error *err)
{
    size_t n = (size_t)p->task->num_fewshot;
    const json_t **shots;
    int rc;

    if (n == 0)
        return 0;
    if ((shots = bm_calloc(n, sizeof *shots)) == NULL)
        return no_memory(err);
    rc = bm_shots_draw(p, doc, n, shots, err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = add_shot(t, p, shots[i], err);
    bm_free(shots);
    return rc;
}

/* ---- requests ---- */

static int set_continuation(bm_request_text *r, const char *delimiter, const json_t *text, bm_error *err)
{
    bm_buf b = {0};

    if (!json_is_string(text))
        return bm_fail(err, BM_INVALID, "doc_to_target does not give a string for this document");
    bm_buf_puts(&b, delimiter);
    bm_buf_add(&b, json_string_value(text), json_string_length(text));
    r->len_continuation = b.len;
    return (r->continuation = bm_buf_take(&b)) == NULL ? no_memory(err) : 0;
}

static int set_context(bm_request_text *r, const char *text, size_t len, bm_error *err)
{
    r->len_context = len;
    return (r->context = bm_strndup(text, len)) == NULL ? no_memory(err) : 0;
}

/* The last turn and the prompt: q the question, or one of several inputs. */
static int make_context(bm_prompts *p, bm_turns *head, const json_t *q, const json_t *prefix, const char *delimiter, char **out,
                        size_t *len, bm_error *err)
{
    bm_qa qa = {q, NULL, NULL, prefix, delimiter, ""};
    size_t n = head->n;
    int rc = bm_turns_add_qa(head, &qa, err);

    if (rc == 0)
        rc = bm_turns_render(out, len, head, &p->options, json_is_string(prefix) && json_string_length(prefix) > 0, err);
    bm_turns_cut(head, n);
    return rc;
}

/* A chat's answer begins right after the template's own text, unless a prefix stands between. */
static const char *choice_delimiter(const bm_prompts *p)
{
    const bm_task_field *prefix = &p->task->gen_prefix;

    if (!p->options.apply_chat_template)
        return p->task->target_delimiter;
    return prefix->kind == BM_FIELD_TEXT && prefix->len_text > 0 && !bm_ends_with_space(prefix->text) ? p->task->target_delimiter : "";
}

static int add_unconditional(bm_prompts *p, bm_sample *s, const char *delimiter, bm_error *err)
{
    int rc = 0;

    for (size_t i = 0; p->mutual_info && i < s->n_choices && rc == 0; i++) {
        bm_request_text *r = &s->requests[s->n_requests++];
        if ((rc = set_context(r, "", 0, err)) == 0)
            rc = set_continuation(r, delimiter, json_array_get(s->choices, i), err);
    }
    return rc;
}

static int make_choices(bm_prompts *p, bm_sample *s, bm_turns *head, const json_t *q, const json_t *prefix, bm_error *err)
{
    const char *delimiter = choice_delimiter(p);
    char *context = NULL;
    size_t len = 0;
    int rc = 0;

    if ((s->requests = bm_calloc(2 * s->n_choices, sizeof *s->requests)) == NULL)
        return no_memory(err);
    if (!p->multiple_input && (rc = make_context(p, head, q, prefix, p->task->target_delimiter, &context, &len, err)) < 0)
        return rc;
    for (size_t i = 0; i < s->n_choices && rc == 0; i++) {
        bm_request_text *r = &s->requests[s->n_requests++];
        const json_t *choice = json_array_get(s->choices, i);
        rc = p->multiple_input ? make_context(p, head, choice, prefix, "", &r->context, &r->len_context, err) : set_context(r, context, len, err);
        if (rc == 0)
            rc = set_continuation(r, delimiter, p->multiple_input ? s->target : choice, err);
    }
    bm_free(context);
    return rc < 0 ? rc : add_unconditional(p, s, delimiter, err);
}

static int make_requests(bm_prompts *p, bm_sample *s, bm_turns *head, const json_t *q, const json_t *prefix, bm_error *err)
{
    bm_request_text *r;
    int rc;

    if (p->task->output == BM_TASK_MULTIPLE_CHOICE)
        return make_choices(p, s, head, q, prefix, err);
    if ((s->requests = bm_zalloc(sizeof *s->requests)) == NULL)
        return no_memory(err);
    s->n_requests = 1;
    r = s->requests;
    if (p->task->output == BM_TASK_ROLLING)
        rc = set_context(r, "", 0, err);
    else
        rc = make_context(p, head, q, prefix, p->task->target_delimiter, &r->context, &r->len_context, err);
    return rc == 0 && p->task->output != BM_TASK_GENERATE ? set_continuation(r, "", s->target, err) : rc;
}

/* ---- what answers are compared with ---- */

static json_int_t gold_index(const json_t *gold, const json_t *choices)
{
    json_int_t n = (json_int_t)json_array_size(choices), i = json_is_integer(gold) ? json_integer_value(gold) : json_is_true(gold);

    if (json_is_integer(gold) || json_is_boolean(gold))
        return i < n ? i : -100;
    for (i = 0; json_is_string(gold) && i < n; i++)
        if (json_equal(json_array_get(choices, (size_t)i), (json_t *)(uintptr_t)gold))
            return i;
    return -100;
}

static int gold_of_choices(bm_sample *s, const json_t *gold, bm_error *err)
{
    if (!json_is_array(gold))
        return (s->gold = json_integer(gold_index(gold, s->choices))) == NULL ? no_memory(err) : 0;
    if ((s->gold = json_array()) == NULL)
        return no_memory(err);
    for (size_t i = 0; i < json_array_size(gold); i++)
        if (json_array_append_new(s->gold, json_integer(gold_index(json_array_get(gold, i), s->choices))) != 0)
            return no_memory(err);
    return 0;
}

static int gold_of_generation(bm_prompts *p, bm_sample *s, bm_error *err)
{
    const json_t *g = s->target;

    if (p->has_choices) {
        json_int_t n = (json_int_t)s->n_choices, i = json_is_integer(g) ? json_integer_value(g) : json_is_true(g);
        if ((!json_is_integer(g) && !json_is_boolean(g)) || i < -n || i >= n)
            return bm_fail(err, BM_INVALID, "doc_to_target does not give the number of one of the choices for this document");
        s->gold = json_incref(json_array_get(s->choices, (size_t)(i < 0 ? i + n : i)));
        return 0;
    }
    if (p->multiple_target && json_is_array(g)) {
        s->gold = json_incref(s->target);
        return 0;
    }
    if (json_is_string(g)) {
        s->gold = p->multiple_target ? json_pack("[O]", g) : json_incref(s->target);
        return s->gold == NULL ? no_memory(err) : 0;
    }
    return bm_value_str(&s->gold, g, err);
}

/* len(re.split(r"\s+", text)) and the bytes, of the text that was scored or of the page before it was cleaned. */
static int count_text(bm_prompts *p, bm_sample *s, bm_error *err)
{
    const json_t *text = p->counts_page ? json_object_get(s->doc, "page") : s->target;
    bm_regex_walk walk = {0};
    bm_regex *blank;
    size_t span[2];
    int rc;

    if (!json_is_string(text))
        return bm_fail(err, BM_INVALID, "the document has no text to count");
    if ((rc = bm_regex_compile(&blank, "\\s+", 3, 0, err)) < 0)
        return rc;
    s->n_bytes = json_string_length(text);
    s->n_words = 1;
    while ((rc = bm_regex_next(blank, json_string_value(text), s->n_bytes, &walk, span, 0, err)) > 0)
        s->n_words++;
    bm_regex_free(blank);
    return rc;
}

static int set_gold(bm_prompts *p, bm_sample *s, const json_t *q, bm_error *err)
{
    switch (p->task->output) {
    case BM_TASK_MULTIPLE_CHOICE:
        return gold_of_choices(s, p->multiple_input ? q : s->target, err);
    case BM_TASK_GENERATE:
        return p->task->process_results.kind == BM_FIELD_NONE ? gold_of_generation(p, s, err) : (s->gold = json_incref(s->target), 0);
    case BM_TASK_ROLLING:
        s->gold = json_incref(s->target);
        return count_text(p, s, err);
    default:
        s->gold = json_incref(s->target);
        return 0;
    }
}

/* ---- one document ---- */

static int build(bm_prompts *p, bm_sample *s, bm_turns *head, json_t **q, json_t **prefix, bm_error *err)
{
    int rc;

    if ((rc = add_system(head, p, s->doc, err)) < 0 || (rc = add_shots(head, p, s->doc, err)) < 0 ||
        (rc = bm_field_text(q, &p->text, s->doc, p->has_choices, err)) < 0 ||
        (rc = bm_field_target(&s->target, &p->target, s->doc, p->has_choices, err)) < 0 ||
        (rc = bm_field_line(prefix, &p->prefix, s->doc, false, err)) < 0 ||
        (p->has_choices && (rc = bm_field_choices(&s->choices, &p->choice, s->doc, err)) < 0))
        return rc;
    s->n_choices = json_array_size(s->choices);
    if ((rc = make_requests(p, s, head, *q, *prefix, err)) < 0)
        return rc;
    return set_gold(p, s, *q, err);
}

int bm_prompts_next(bm_prompts *p, bm_sample *s, bm_error *err)
{
    json_t *q = NULL, *prefix = NULL;
    bm_turns head = {0};
    int rc;

    memset(s, 0, sizeof *s);
    if (p->next >= p->docs->n)
        return 1;
    s->doc_id = p->next++;
    s->doc = json_array_get(p->docs->rows, s->doc_id);
    s->multiple_input = p->multiple_input, s->multiple_target = p->multiple_target;
    rc = build(p, s, &head, &q, &prefix, err);
    json_decref(q), json_decref(prefix);
    bm_turns_done(&head);
    if (rc < 0) {
        size_t id = s->doc_id;
        json_t *doc = s->doc;
        bm_sample_done(s);
        s->doc_id = id, s->doc = doc;
        return bm_wrap(err, "document %zu", id);
    }
    return 0;
}

void bm_sample_done(bm_sample *s)
{
    for (size_t i = 0; i < s->n_requests; i++) {
        bm_free(s->requests[i].context);
        bm_free(s->requests[i].continuation);
    }
    bm_free(s->requests);
    json_decref(s->choices);
    json_decref(s->target);
    json_decref(s->gold);
    memset(s, 0, sizeof *s);
}
