/* metrics.c - values of metrics, per kind of output; see metrics.h and lm_eval/api/task.py (process_results) of version 0.4.13. */
#include "eval/metrics.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "eval/ifeval.h"
#include "eval/known.h"
#include "eval/words.h"
#include "text/regex.h"

static void put(json_t *out, const char *name, json_t *value) { json_object_set_new(out, name, value); }

/* ---- multiple choice ---- */

/* The first of the largest; lens NULL: undivided. */
static size_t best_of(const bm_answer *a, size_t n, const double *lens)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (a[i].logprob / (lens ? lens[i] : 1) > a[best].logprob / (lens ? lens[best] : 1))
            best = i;
    return best;
}

static bool is_gold(const bm_sample *s, size_t choice)
{
    json_t *gold;
    size_t i;

    if (!json_is_array(s->gold))
        return json_is_integer(s->gold) && json_integer_value(s->gold) == (json_int_t)choice;
    json_array_foreach(s->gold, i, gold)
        if (json_is_integer(gold) && json_integer_value(gold) == (json_int_t)choice)
            return true;
    return false;
}

/* softmax of the log-likelihoods. */
static void probabilities(const bm_answer *a, size_t n, double *p)
{
    double most = -INFINITY, sum = 0;

    for (size_t i = 0; i < n; i++)
        most = a[i].logprob > most ? a[i].logprob : most;
    for (size_t i = 0; i < n; i++)
        sum += p[i] = exp(a[i].logprob - most);
    for (size_t i = 0; i < n; i++)
        p[i] /= sum;
}

static double brier(const bm_sample *s, const double *p, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double d = p[i] - (is_gold(s, i) ? 1 : 0);
        sum += d * d;
    }
    return sum;
}

static size_t best_mutual(const bm_answer *a, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (a[i].logprob - a[n + i].logprob > a[best].logprob - a[n + best].logprob)
            best = i;
    return best;
}

typedef struct choice_view {
    const bm_sample *s;
    const bm_answer *a;
    size_t n;
    double *chars, *bytes, *p;   /* [n] */
    bool mutual;                 /* answers without context stand behind */
} choice_view;

static bool any_gold_greedy(const choice_view *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (is_gold(v->s, i) && v->a[i].greedy)
            return true;
    return false;
}

static json_t *likelihoods(const choice_view *v)
{
    json_t *lls = json_array();

    for (size_t i = 0; i < v->n; i++)
        json_array_append_new(lls, json_real(v->a[i].logprob));
    return json_pack("[O o]", v->s->gold, lls);
}

static json_t *choice_metric(const choice_view *v, const char *name)
{
    if (strcmp(name, "acc") == 0)
        return json_real(is_gold(v->s, best_of(v->a, v->n, NULL)));
    if (strcmp(name, "acc_norm") == 0)
        return json_real(is_gold(v->s, best_of(v->a, v->n, v->chars)));
    if (strcmp(name, "acc_bytes") == 0)
        return json_real(is_gold(v->s, best_of(v->a, v->n, v->bytes)));
    if (strcmp(name, "acc_mutual_info") == 0)
        return v->mutual ? json_real(is_gold(v->s, best_mutual(v->a, v->n))) : NULL;
    if (strcmp(name, "exact_match") == 0)
        return json_real(any_gold_greedy(v));
    if (strcmp(name, "f1") == 0 || strcmp(name, "mcc") == 0)
        return json_pack("[O I]", v->s->gold, (json_int_t)best_of(v->a, v->n, NULL));
    if (strcmp(name, "brier_score") == 0)
        return json_real(brier(v->s, v->p, v->n));
    if (strcmp(name, "likelihood") == 0)
        return likelihoods(v);
    return NULL;
}

static int choice_view_make(choice_view *v, const bm_sample *s, const bm_answer *answers, bm_error *err)
{
    *v = (choice_view){ .s = s, .a = answers, .n = s->n_choices, .mutual = s->n_requests == 2 * s->n_choices };
    if (v->n == 0 || s->n_requests < v->n)
        return bm_fail(err, BM_INVALID, "document %zu has %zu choices", s->doc_id, v->n);
    if ((v->chars = bm_calloc(3 * v->n, sizeof *v->chars)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the choices of a document");
    v->bytes = v->chars + v->n;
    v->p = v->bytes + v->n;
    for (size_t i = 0; i < v->n; i++) {
        const json_t *choice = json_array_get(s->choices, i);
        v->bytes[i] = (double)json_string_length(choice);
        v->chars[i] = json_is_string(choice) ? (double)bm_words_chars(json_string_value(choice), json_string_length(choice)) : 0;
    }
    probabilities(answers, v->n, v->p);
    return 0;
}

static int score_choices(json_t *out, const bm_task *task, const bm_sample *s, const bm_answer *answers, bm_error *err)
{
    choice_view v;
    int rc = choice_view_make(&v, s, answers, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < task->n_metrics; i++) {
        json_t *value = choice_metric(&v, task->metrics[i].name);
        if (value != NULL)
            put(out, task->metrics[i].name, value);
    }
    bm_free(v.chars);
    return 0;
}

/* ---- log-likelihood of a target, and of whole texts ---- */

static int score_target(json_t *out, const bm_task *task, const bm_answer *a)
{
    for (size_t i = 0; i < task->n_metrics; i++) {
        const char *name = task->metrics[i].name;
        if (strcmp(name, "perplexity") == 0)
            put(out, name, json_real(a->logprob));
        else if (strcmp(name, "acc") == 0)
            put(out, name, json_integer(a->greedy));
    }
    return 0;
}

static int score_rolling(json_t *out, const bm_task *task, const bm_sample *s, const bm_answer *a)
{
    for (size_t i = 0; i < task->n_metrics; i++) {
        const char *name = task->metrics[i].name;
        bool words = strcmp(name, "word_perplexity") == 0;
        if (words || strcmp(name, "byte_perplexity") == 0 || strcmp(name, "bits_per_byte") == 0)
            put(out, name, json_pack("[f I]", a->logprob, (json_int_t)(words ? s->n_words : s->n_bytes)));
    }
    return 0;
}

/* ---- generated text ---- */

/* A text as exact_match compares it: regexes_to_ignore, ignore_case, ignore_punctuation, ignore_numbers, in this order. */
static int normalize(const json_t *args, const json_t *text, bm_buf *out, bm_error *err)
{
    json_t *list = json_object_get(args, "regexes_to_ignore"), *one;
    bm_buf now = { 0 }, folded = { 0 };
    size_t i;
    int rc = 0;

    bm_buf_add(&now, json_string_value(text), json_string_length(text));
    json_array_foreach(list, i, one) {
        bm_buf next = { 0 };
        bm_regex *re;
        if (!json_is_string(one))
            rc = bm_fail(err, BM_INVALID, "exact_match: regexes_to_ignore must hold strings");
        else if ((rc = bm_regex_compile(&re, json_string_value(one), json_string_length(one), 0, err)) == 0) {
            rc = bm_regex_sub(&next, re, "", 0, now.data ? now.data : "", now.len, 0, err);
            bm_regex_free(re);
        }
        bm_buf_done(&now);
        now = next;
        if (rc < 0)
            goto out;
    }
    if (json_is_true(json_object_get(args, "ignore_case")))
        bm_words_case(&folded, now.data ? now.data : "", now.len, false);
    else
        bm_buf_add(&folded, now.data, now.len);
    bm_words_drop_ascii(out, folded.data ? folded.data : "", folded.len, json_is_true(json_object_get(args, "ignore_punctuation")),
                        json_is_true(json_object_get(args, "ignore_numbers")));
    if (now.failed || folded.failed || out->failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a comparison");
out:
    bm_buf_done(&now);
    bm_buf_done(&folded);
    return rc;
}

/* 1 equal, 0 not. */
static int matches(const json_t *args, const json_t *prediction, const json_t *reference, bm_error *err)
{
    bm_buf p = { 0 }, r = { 0 };
    int rc;

    if (!json_is_string(prediction) || !json_is_string(reference))
        return json_equal((json_t *)(uintptr_t)prediction, (json_t *)(uintptr_t)reference);
    if ((rc = normalize(args, prediction, &p, err)) == 0 && (rc = normalize(args, reference, &r, err)) == 0)
        rc = p.len == r.len && (p.len == 0 || memcmp(p.data, r.data, p.len) == 0);
    bm_buf_done(&p);
    bm_buf_done(&r);
    return rc;
}

/* The share of a list of predictions that equals the reference; of one: 0 or 1. */
static int share_of(const json_t *args, const json_t *prediction, const json_t *reference, double *out, bm_error *err)
{
    json_t *one;
    size_t i, hits = 0;
    int rc;

    if (!json_is_array(prediction)) {
        rc = matches(args, prediction, reference, err);
        *out = rc > 0;
        return rc < 0 ? rc : 0;
    }
    json_array_foreach(prediction, i, one) {
        if ((rc = matches(args, one, reference, err)) < 0)
            return rc;
        hits += (size_t)rc;
    }
    *out = json_array_size(prediction) > 0 ? (double)hits / (double)json_array_size(prediction) : 0;
    return 0;
}

static int exact_match(const bm_metric *m, const bm_sample *s, const json_t *filtered, double *out, bm_error *err)
{
    json_t *gold;
    size_t i;
    double score;
    int rc;

    if (!s->multiple_target || !json_is_array(s->gold))
        return share_of(m->args, filtered, s->gold, out, err);
    *out = 0;
    json_array_foreach(s->gold, i, gold) {
        if ((rc = share_of(m->args, filtered, gold, &score, err)) < 0)
            return rc;
        if (score > 0)
            *out = 1;
    }
    return 0;
}

static int score_generated(json_t *out, const bm_task *task, const bm_sample *s, const json_t *filtered, bm_error *err)
{
    double score;
    int rc;

    for (size_t i = 0; i < task->n_metrics; i++) {
        const bm_metric *m = &task->metrics[i];
        if (strcmp(m->name, "exact_match") == 0) {
            if ((rc = exact_match(m, s, filtered, &score, err)) < 0)
                return rc;
            put(out, m->name, json_real(score));
        }
    }
    return 0;
}

/* ---- rules in place of Python functions ---- */

static json_t *flags(const bool *followed, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(followed[i]));
    return list;
}

static int score_ifeval(json_t *out, const bm_sample *s, const json_t *filtered, bm_error *err)
{
    const json_t *response = json_is_array(filtered) ? json_array_get(filtered, 0) : filtered;
    bm_ifeval_result r;
    int rc = bm_ifeval_check(&r, s->doc, json_is_string(response) ? json_string_value(response) : "", json_string_length(response), err);

    if (rc < 0)
        return rc;
    put(out, "prompt_level_strict_acc", json_integer(r.all_strict));
    put(out, "inst_level_strict_acc", flags(r.strict, r.n));
    put(out, "prompt_level_loose_acc", json_integer(r.all_loose));
    put(out, "inst_level_loose_acc", flags(r.loose, r.n));
    bm_ifeval_result_done(&r);
    return 0;
}

static int score_crows(json_t *out, const bm_answer *a)
{
    put(out, "likelihood_diff", json_real(fabs(a[0].logprob - a[1].logprob)));
    put(out, "pct_stereotype", json_real(a[0].logprob > a[1].logprob));
    return 0;
}

/* The probability mass on true answers (Lin et al. 2022, MC2). */
static int score_mc2(json_t *out, const bm_sample *s, const bm_answer *answers, bm_error *err)
{
    const json_t *labels = json_object_get(json_object_get(s->doc, "mc2_targets"), "labels");
    choice_view v;
    double sum = 0;
    int rc;

    if (json_array_size(labels) != s->n_choices)
        return bm_fail(err, BM_INVALID, "document %zu has %zu mc2 labels for %zu choices", s->doc_id, json_array_size(labels), s->n_choices);
    if ((rc = choice_view_make(&v, s, answers, err)) < 0)
        return rc;
    for (size_t i = 0; i < v.n; i++)
        sum += json_integer_value(json_array_get(labels, i)) == 1 ? v.p[i] : 0;
    put(out, "acc", json_real(sum));
    bm_free(v.chars);
    return 0;
}

static int score_agieval(json_t *out, const bm_sample *s, const bm_answer *answers, bm_error *err)
{
    choice_view v;
    int rc = choice_view_make(&v, s, answers, err);

    if (rc < 0)
        return rc;
    put(out, "acc", json_real(is_gold(s, best_of(v.a, v.n, NULL))));
    put(out, "acc_norm", json_real(is_gold(s, best_of(v.a, v.n, v.chars))));
    bm_free(v.chars);
    return 0;
}

static int score_by_rule(json_t *out, bm_results_rule rule, const bm_task *task, const bm_sample *s, const bm_answer *answers,
                         const json_t *filtered, bm_error *err)
{
    switch (rule) {
    case BM_RESULTS_IFEVAL: return score_ifeval(out, s, filtered, err);
    case BM_RESULTS_ROLLING: return score_rolling(out, task, s, answers);
    case BM_RESULTS_CROWS_PAIRS: return score_crows(out, answers);
    case BM_RESULTS_TRUTHFULQA_MC2: return score_mc2(out, s, answers, err);
    case BM_RESULTS_AGIEVAL: return score_agieval(out, s, answers, err);
    case BM_RESULTS_NONE: break;
    }
    return bm_fail(err, BM_UNSUPPORTED, "task %s: its process_results has no equivalent here", task->name);
}

int bm_metrics_of(json_t **out, const bm_task *task, const bm_sample *sample, const bm_answer *answers, const json_t *filtered,
                  bm_error *err)
{
    json_t *values = json_object();
    int rc = 0;

    *out = NULL;
    if (values == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the score of a document");
    if (task->process_results.kind == BM_FIELD_KNOWN)
        rc = score_by_rule(values, task->process_results.known->results, task, sample, answers, filtered, err);
    else
        switch (task->output) {
        case BM_TASK_MULTIPLE_CHOICE: rc = score_choices(values, task, sample, answers, err); break;
        case BM_TASK_LOGLIKELIHOOD: rc = score_target(values, task, answers); break;
        case BM_TASK_ROLLING: rc = score_rolling(values, task, sample, answers); break;
        case BM_TASK_GENERATE: rc = score_generated(values, task, sample, filtered, err); break;
        }
    if (rc < 0) {
        json_decref(values);
        return rc;
    }
    *out = values;
    return 0;
}

/* ---- over all documents ---- */

/* Values of one document behind at[*n]; false: not of a shape that the score knows. */
static bool add_values(const json_t *value, bool flat, bm_value *at, size_t *n)
{
    json_t *one;
    size_t i;

    if (json_is_number(value) || json_is_boolean(value)) {
        at[(*n)++] = (bm_value){ json_is_boolean(value) ? json_is_true(value) : json_number_value(value), 0 };
        return true;
    }
    if (!json_is_array(value))
        return false;
    if (!flat) {
        at[(*n)++] = (bm_value){ json_number_value(json_array_get(value, 0)), json_number_value(json_array_get(value, 1)) };
        return json_array_size(value) == 2;
    }
    json_array_foreach(value, i, one)
        at[(*n)++] = (bm_value){ json_number_value(one), 0 };
    return true;
}

int bm_metrics_total(const bm_metric *metric, json_t *const *values, size_t n_values, int iterations, double *score, double *error,
                     size_t *n, bm_error *err)
{
    bool flat = metric->aggregation_known != NULL && metric->aggregation_known->aggregation == BM_AGG_FLAT_MEAN;
    int how = flat ? BM_SCORE_MEAN : bm_score_kind_find(metric->aggregation), rc = 0;
    size_t room = 0, documents = 0;
    bm_value *all;

    *score = *error = NAN;
    *n = 0;
    if (how < 0)
        return bm_fail(err, BM_INVALID, "metric %s: aggregation %s is not known here", metric->name, metric->aggregation);
    for (size_t i = 0; i < n_values; i++)
        room += json_is_array(values[i]) ? json_array_size(values[i]) : 1;
    if ((all = bm_calloc(room + 1, sizeof *all)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %zu values", room);
    for (size_t i = 0; i < n_values && rc == 0; i++) {
        if (values[i] == NULL)
            continue;
        documents++;
        if (!add_values(values[i], flat, all, n))
            rc = bm_fail(err, BM_INVALID, "metric %s: the value of document %zu has an unknown shape", metric->name, i);
    }
    if (rc == 0) {
        *score = bm_score((bm_score_kind)how, all, *n);
        if (!flat && bm_score_error((bm_score_kind)how, all, *n, iterations, error) < 0)
            rc = bm_fail(err, BM_NOMEM, "no memory for the bootstrap of %s", metric->name);
    }
    *n = documents;
    bm_free(all);
    return rc;
}
