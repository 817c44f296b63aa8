/* gate.c - requirements, read and judged; see gate.h. */
#include "platform/gate.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

typedef struct reader { const char *at; const char *text; bm_error *err; } reader;

static void blanks(reader *r)
{
    while (*r->at == ' ' || *r->at == '\t' || *r->at == '\r')
        r->at++;
}

static int expected(const reader *r, const char *what)
{
    bm_fail(r->err, BM_INVALID, "requirement '%.120s': expected %s at '%.40s'", r->text, what, r->at);
    return bm_hint(r->err, "for example: gsm8k.exact_match >= baseline - 0.01");
}

static bool is_name(char c) { return isalnum((unsigned char)c) || strchr("_-+:/", c) != NULL; }

static int name(reader *r, char *out, size_t size, bool dots, const char *what)
{
    size_t n = 0;

    blanks(r);
    while (*r->at != '\0' && (is_name(*r->at) || (dots && *r->at == '.')) && n + 1 < size)
        out[n++] = *r->at++;
    out[n] = '\0';
    return n > 0 && *out != '-' ? 0 : expected(r, what);
}

/* TASK.METRIC: the last dot parts them, since names of tasks may have some. */
static int subject(reader *r, bm_requirement *q)
{
    char whole[200], *dot;
    int rc = name(r, whole, sizeof whole, true, "TASK.METRIC");

    if (rc < 0)
        return rc;
    dot = strrchr(whole, '.');
    if (dot == NULL || dot == whole || dot[1] == '\0' || strlen(dot + 1) >= sizeof q->metric || (size_t)(dot - whole) >= sizeof q->task)
        return expected(r, "TASK.METRIC before this");
    *dot = '\0';
    memcpy(q->task, whole, (size_t)(dot - whole));       /* both fit, and are zero behind */
    memcpy(q->metric, dot + 1, strlen(dot + 1));
    blanks(r);
    if (*r->at != ',')
        return 0;
    r->at++;
    return name(r, q->filter, sizeof q->filter, true, "a filter's name");
}

static int operator(reader *r, bm_requirement *q)
{
    static const char *const ops[] = { ">=", "<=", "==", ">", "<" };

    blanks(r);
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strncmp(r->at, ops[i], strlen(ops[i])) == 0) {
            snprintf(q->op, sizeof q->op, "%s", ops[i]);
            r->at += strlen(ops[i]);
            return 0;
        }
    return expected(r, "one of >= > <= < ==");
}

static bool word(reader *r, const char *w)
{
    size_t n = strlen(w);

    blanks(r);
    if (strncmp(r->at, w, n) != 0 || isalnum((unsigned char)r->at[n]) || r->at[n] == '_')
        return false;
    r->at += n;
    return true;
}

static int term(reader *r, bm_requirement *q, double sign)
{
    char *end;
    double x;

    if (word(r, "baseline")) {
        q->of_baseline += sign;
        return 0;
    }
    blanks(r);
    x = strtod(r->at, &end);
    if (end == r->at || !isfinite(x) || isalpha((unsigned char)*r->at))
        return expected(r, "a number or `baseline`");
    r->at = end;
    blanks(r);
    if (*r->at != '*') {
        q->constant += sign * x;
        return 0;
    }
    r->at++;
    if (!word(r, "baseline"))
        return expected(r, "`baseline`");
    q->of_baseline += sign * x;
    return 0;
}

static int sum(reader *r, bm_requirement *q)
{
    int rc = term(r, q, 1);

    for (blanks(r); rc == 0 && (*r->at == '+' || *r->at == '-'); blanks(r))
        rc = term(r, q, *r->at++ == '+' ? 1 : -1);
    return rc;
}

static int setting(reader *r, int64_t *to)
{
    char *end;
    long long x;

    blanks(r);
    x = strtoll(r->at, &end, 10);
    if (end == r->at || x < 0)
        return expected(r, "a whole number");
    r->at = end;
    *to = x;
    return 0;
}

static int requirement(reader *r, bm_gate *gate)
{
    bm_requirement *q = &gate->all[gate->n];
    const char *begin = r->at;
    int rc;

    if (gate->n == BM_GATE_MOST)
        return bm_fail(r->err, BM_LIMIT, "more than %d requirements", BM_GATE_MOST);
    *q = (bm_requirement){ .have = NAN, .need = NAN, .baseline = NAN };
    if ((rc = subject(r, q)) < 0 || (rc = operator(r, q)) < 0 || (rc = sum(r, q)) < 0)
        return rc;
    snprintf(q->text, sizeof q->text, "%.*s", (int)(r->at - begin), begin);
    gate->needs_baseline = gate->needs_baseline || q->of_baseline != 0;
    gate->n++;
    return 0;
}

int bm_gate_parse(bm_gate *gate, const char *text, bm_error *err)
{
    reader r = { text, text, err };
    int rc = 0;

    while (rc == 0) {
        while (*r.at != '\0' && strchr(" \t\r\n;,", *r.at) != NULL)
            r.at++;
        if (*r.at == '\0')
            break;
        r.text = r.at;
        if (*r.at == '#')
            r.at += strcspn(r.at, "\n");
        else if (word(&r, "limit"))
            rc = setting(&r, &gate->limit);
        else if (word(&r, "apply_chat_template"))
            gate->apply_chat_template = true;
        else if (word(&r, "num_fewshot"))
            rc = setting(&r, &gate->num_fewshot);
        else
            rc = requirement(&r, gate);
        blanks(&r);
        if (rc == 0 && *r.at != '\0' && strchr("\n;,#", *r.at) == NULL)
            rc = expected(&r, "the end of the requirement");
    }
    return rc;
}

/* ---- judging ---- */

int bm_gate_score(const json_t *results, const bm_requirement *q, double *out, bm_error *err)
{
    json_t *entry = json_object_get(json_object_get(results, "results"), q->task), *value, *found = NULL;
    size_t len = strlen(q->metric), n = 0;
    const char *key;

    if (entry == NULL)
        return bm_fail(err, BM_NOTFOUND, "'%s': the run has no task %s", q->text, q->task);
    json_object_foreach(entry, key, value)
        if (strncmp(key, q->metric, len) == 0 && key[len] == ',' && (q->filter[0] == '\0' || strcmp(key + len + 1, q->filter) == 0)) {
            found = value;
            n++;
        }
    if (n > 1)
        return bm_fail(err, BM_INVALID, "'%s': %s has %s under %zu filters: name one, as in %s.%s,FILTER", q->text, q->task, q->metric, n, q->task,
                       q->metric);
    if (!json_is_number(found))
        return bm_fail(err, BM_NOTFOUND, "'%s': %s has no score %s", q->text, q->task, q->metric);
    *out = json_number_value(found);
    return 0;
}

static bool compare(double have, const char *op, double need)
{
    if (op[0] == '=')
        return have == need;
    if (op[0] == '>')
        return op[1] == '=' ? have >= need : have > need;
    return op[1] == '=' ? have <= need : have < need;
}

int bm_gate_judge(bm_gate *gate, const json_t *(*candidate)(void *, const char *), const json_t *(*baseline)(void *, const char *), void *arg,
                  bool *holds, bm_error *err)
{
    int rc;

    *holds = true;
    for (size_t i = 0; i < gate->n; i++) {
        bm_requirement *q = &gate->all[i];
        if ((rc = bm_gate_score(candidate(arg, q->task), q, &q->have, err)) < 0)
            return rc;
        if (q->of_baseline != 0 && (rc = bm_gate_score(baseline(arg, q->task), q, &q->baseline, err)) < 0)
            return rc;
        q->need = q->constant + (q->of_baseline != 0 ? q->of_baseline * q->baseline : 0);
        q->holds = compare(q->have, q->op, q->need);
        *holds = *holds && q->holds;
    }
    return 0;
}
