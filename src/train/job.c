/* job.c - job.json, read and written by one table of its keys. */
#include "train/job.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "model/lora.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef enum kind { INT, INT64, UINT64, FLOAT, DOUBLE, BOOL, NAME, STRING } kind;

typedef struct field {
    const char *key;
    kind kind;
    size_t offset;
    double min, max;
    const char *const *names;    /* NAME: an int-sized enum */
    bool zero_is_off;            /* 0 in the file is "none", which options have as a negative number (their 0 is the default) */
} field;

static const char *const method_names[] = { "auto", "sft", "dpo", NULL };
static const char *const decay_names[] = { "cosine", "linear", "constant", NULL };
static const char *const precision_names[] = { "fast", "f32", NULL };
static const char *const recompute_names[] = { "auto", "on", "off", NULL };
static const char *const render_names[] = { "auto", "chat", "text", NULL };

#define JOB(member) offsetof(bm_tune_job, member)
#define TRAIN(member) offsetof(bm_tune_job, train.member)
static const field option_fields[] = {
    { "method", NAME, TRAIN(method), 0, 0, method_names, false },
    { "rank", INT, TRAIN(adapter.rank), 0, BM_LORA_MAX_RANK, NULL, false },
    { "alpha", FLOAT, TRAIN(adapter.alpha), 0, 1e6, NULL, false },
    { "rslora", BOOL, TRAIN(adapter.rslora), 0, 0, NULL, false },
    { "lr", DOUBLE, TRAIN(lr), 0, 100, NULL, false },
    { "decay", NAME, TRAIN(decay), 0, 0, decay_names, false },
    { "warmup", DOUBLE, TRAIN(warmup), -1, 1e9, NULL, true },
    { "epochs", DOUBLE, TRAIN(epochs), 0, 1e5, NULL, false },
    { "steps", INT64, TRAIN(steps), 0, 1e9, NULL, false },
    { "batch_size", INT, TRAIN(batch_size), 0, 1 << 20, NULL, false },
    { "pack", BOOL, TRAIN(pack), 0, 0, NULL, false },
    { "max_length", INT, TRAIN(max_length), 0, 1 << 20, NULL, false },
    { "micro_tokens", INT, TRAIN(micro_tokens), 0, 1 << 20, NULL, false },
    { "weight_decay", DOUBLE, TRAIN(weight_decay), 0, 100, NULL, false },
    { "clip", DOUBLE, TRAIN(clip), -1, 1e9, NULL, true },
    { "beta", DOUBLE, TRAIN(beta), 0, 1e3, NULL, false },
    { "valid_share", DOUBLE, JOB(valid_share), 0, 0.9, NULL, false },
    { "valid_every", INT64, TRAIN(valid_every), 0, 1e9, NULL, false },
    { "patience", INT, TRAIN(patience), 0, 1e9, NULL, false },
    { "save_every", INT64, TRAIN(save_every), 0, 1e9, NULL, false },
    { "seed", UINT64, TRAIN(seed), 0, 9e15, NULL, false },
    { "threads", INT, JOB(n_threads), 0, 1024, NULL, false },
    { "precision", NAME, JOB(f32), 0, 0, precision_names, false },
    { "recompute", NAME, TRAIN(recompute), 0, 0, recompute_names, false },
    { "memory_mib", INT64, JOB(memory_mib), 0, 1e9, NULL, false },
    { "split_long", BOOL, JOB(split_long), 0, 0, NULL, false },
    { "drop_bad", BOOL, JOB(drop_bad), 0, 0, NULL, false },
    { "dry_run", BOOL, JOB(dry_run), 0, 0, NULL, false },
    { 0 },
};

#define SET(member) offsetof(bm_tune_set, member)
static const field set_fields[] = {
    { "path", STRING, SET(path), 0, 0, NULL, false },
    { "part", STRING, SET(part), 0, 0, NULL, false },
    { "prompt_field", STRING, SET(prompt_field), 0, 0, NULL, false },
    { "target_field", STRING, SET(target_field), 0, 0, NULL, false },
    { "loss_after", STRING, SET(loss_after), 0, 0, NULL, false },
    { "render", NAME, SET(render), 0, 0, render_names, false },
    { "weight", DOUBLE, SET(weight), 0, 1e3, NULL, false },
    { "no_header", BOOL, SET(no_header), 0, 0, NULL, false },
    { "valid", BOOL, SET(valid), 0, 0, NULL, false },
    { 0 },
};

/* ---- reading ---- */

static int wrong(const char *where, const char *key, const char *expected, bm_error *err)
{
    return bm_fail(err, BM_INVALID, "job: %s%s: expected %s", where, key, expected);
}

static int read_number(const field *f, void *at, const json_t *value, const char *where, bm_error *err)
{
    bool whole = f->kind == INT || f->kind == INT64 || f->kind == UINT64;
    double x = json_number_value(value);

    if (!(whole ? json_is_integer(value) : json_is_number(value)) || !(x >= f->min && x <= f->max))
        return bm_fail(err, BM_INVALID, "job: %s%s: expected a %snumber from %g to %g", where, f->key, whole ? "whole " : "", f->min,
                       f->max);
    switch (f->kind) {
    case INT:    *(int *)at = (int)json_integer_value(value); break;
    case INT64:  *(int64_t *)at = json_integer_value(value); break;
    case UINT64: *(uint64_t *)at = (uint64_t)json_integer_value(value); break;
    case FLOAT:  *(float *)at = (float)x; break;
    default:     *(double *)at = f->zero_is_off && x == 0 ? -1 : x;
    }
    return 0;
}

static int read_name(const field *f, void *at, const json_t *value, const char *where, bm_error *err)
{
    const char *s = json_string_value(value);
    char known[160] = "one of ";

    for (int i = 0; f->names[i] != NULL; i++) {
        size_t len = strlen(known);
        if (s != NULL && strcmp(s, f->names[i]) == 0) {
            if (f->names == precision_names)
                *(bool *)at = i == 1;
            else
                *(int *)at = i;
            return 0;
        }
        snprintf(known + len, sizeof known - len, "%s%s", i > 0 ? ", " : "", f->names[i]);
    }
    return wrong(where, f->key, known, err);
}

static int read_field(const field *f, void *at, const json_t *value, const char *where, bm_error *err)
{
    switch (f->kind) {
    case BOOL:
        if (!json_is_boolean(value))
            return wrong(where, f->key, "true or false", err);
        *(bool *)at = json_is_true(value);
        return 0;
    case STRING:
        if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
            return wrong(where, f->key, "a string", err);
        *(const char **)at = json_string_value(value);
        return 0;
    case NAME:
        return read_name(f, at, value, where, err);
    default:
        return read_number(f, at, value, where, err);
    }
}

static const field *find(const field *fields, const char *key)
{
    for (; fields->key != NULL; fields++)
        if (strcmp(fields->key, key) == 0)
            return fields;
    return NULL;
}

static int unknown_key(const field *fields, const char *where, const char *key, bm_error *err)
{
    const char *names[64];
    size_t n = 0, best;

    for (; fields->key != NULL && n < 64; fields++)
        names[n++] = fields->key;
    bm_fail(err, BM_INVALID, "job: %s%.60s: there is no such key", where, key);
    return bm_nearest(key, names, n, &best, 1) == 1 ? bm_hint(err, "did you mean %s?", names[best]) : BM_INVALID;
}

/* "targets" and "shape" are of other kinds: special() takes them, 1 when it did. */
static int read_object(const field *fields, void *base, const json_t *object, const char *where,
                       int (*special)(void *base, const char *key, const json_t *value, bm_error *err), bm_error *err)
{
    const char *key;
    json_t *value;
    int rc;

    if (!json_is_object(object))
        return wrong(where, "", "an object", err);
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const field *f = find(fields, key);
        if (json_is_null(value))
            continue;
        if (f != NULL)
            rc = read_field(f, (char *)base + f->offset, value, where, err);
        else if ((rc = special(base, key, value, err)) == 0)
            rc = unknown_key(fields, where, key, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The last word of PEFT's module name: "q_proj" of "self_attn.q_proj". */
static const char *site_name(int site)
{
    const char *name = bm_lora_hf_name((bm_lora_site)site), *dot = strrchr(name, '.');

    return dot != NULL ? dot + 1 : name;
}

static int add_site(const char *name, size_t len, unsigned *sites, bm_error *err)
{
    char known[200] = "";

    for (int s = 0; s < BM_LORA_SITES; s++) {
        const char *full = bm_lora_hf_name((bm_lora_site)s), *last = site_name(s);
        size_t at = strlen(known);
        if ((strlen(last) == len && strncmp(last, name, len) == 0) || (strlen(full) == len && strncmp(full, name, len) == 0)) {
            *sites |= 1u << s;
            return 0;
        }
        snprintf(known + at, sizeof known - at, " %s", last);
    }
    bm_fail(err, BM_INVALID, "there is no linear map '%.*s'", len < 60 ? (int)len : 60, name);
    return bm_hint(err, "all-linear, or some of%s", known);
}

int bm_tune_sites(const char *names, unsigned *sites, bm_error *err)
{
    int rc = 0;

    *sites = 0;
    if (strcmp(names, "all-linear") == 0)
        return 0;
    for (const char *at = names; rc == 0; at++) {
        size_t len = strcspn(at, ",");
        rc = add_site(at, len, sites, err);
        at += len;
        if (*at == '\0')
            break;
    }
    return rc;
}

static int read_targets(void *base, const char *key, const json_t *value, bm_error *err)
{
    bm_tune_job *job = base;
    json_t *name;
    size_t i;
    int rc;

    if (strcmp(key, "targets") != 0)
        return 0;
    if (json_is_string(value))
        return (rc = bm_tune_sites(json_string_value(value), &job->train.adapter.sites, err)) < 0 ? rc : 1;
    if (!json_is_array(value) || json_array_size(value) == 0)
        return wrong("options.", key, "\"all-linear\" or a list of module names", err);
    json_array_foreach(value, i, name) {
        const char *s = json_string_value(name);
        if (s == NULL)
            return wrong("options.", key, "\"all-linear\" or a list of module names", err);
        if ((rc = add_site(s, strlen(s), &job->train.adapter.sites, err)) < 0)
            return rc;
    }
    return 1;
}

static int read_shape(void *base, const char *key, const json_t *value, bm_error *err)
{
    bm_tune_set *set = base;
    const char *s = json_string_value(value);

    if (strcmp(key, "shape") != 0)
        return 0;
    return s != NULL && bm_data_shape_find(s, &set->shape) ? 1 : wrong("data.", key, "the name of a shape of rows, or auto", err);
}

static int read_sets(bm_tune_job *job, const json_t *data, bm_error *err)
{
    json_t *one;
    size_t i;
    int rc;

    if (!json_is_array(data) || json_array_size(data) < 1 || json_array_size(data) > BM_TUNE_MAX_SETS)
        return bm_fail(err, BM_INVALID, "job: data: expected a list of 1 to %d files", BM_TUNE_MAX_SETS);
    json_array_foreach(data, i, one) {
        bm_tune_set *set = &job->sets[job->n_sets++];
        if ((rc = read_object(set_fields, set, one, "data.", read_shape, err)) < 0)
            return rc;
        if (set->path == NULL)
            return wrong("data.", "path", "a string", err);
    }
    return 0;
}

static int no_special(void *base, const char *key, const json_t *value, bm_error *err)
{
    (void)base, (void)key, (void)value, (void)err;
    return 0;
}

#define TOP(member) offsetof(bm_tune_job, member)
static const field model_fields[] = {
    { "path", STRING, TOP(model_path), 0, 0, NULL, false },
    { "sha256", STRING, TOP(model_sha256), 0, 0, NULL, false },
    { "name", STRING, TOP(model_name), 0, 0, NULL, false },
    { 0 },
};
static const field top_fields[] = {
    { "name", STRING, TOP(name), 0, 0, NULL, false },
    { "adapter", STRING, TOP(adapter), 0, 0, NULL, false },
    { 0 },
};

static int read_top(void *base, const char *key, const json_t *value, bm_error *err)
{
    bm_tune_job *job = base;
    int rc = 0;

    if (strcmp(key, "kind") == 0) {
        if (!json_is_string(value) || strcmp(json_string_value(value), "tune") != 0)
            return wrong("", key, "\"tune\"", err);
    } else if (strcmp(key, "model") == 0) {
        rc = read_object(model_fields, job, value, "model.", no_special, err);
    } else if (strcmp(key, "data") == 0) {
        rc = read_sets(job, value, err);
    } else if (strcmp(key, "options") == 0) {
        rc = read_object(option_fields, job, value, "options.", read_targets, err);
    } else {
        return 0;
    }
    return rc < 0 ? rc : 1;
}

static int check(const bm_tune_job *job, bm_error *err)
{
    if (job->name == NULL || *job->name == '\0')
        return wrong("", "name", "the name of the adapter", err);
    if (job->model_path == NULL || *job->model_path == '\0')
        return wrong("model.", "path", "the path of a model file", err);
    if (job->n_sets < 1 || job->n_sets > BM_TUNE_MAX_SETS)
        return bm_fail(err, BM_INVALID, "job: data: expected a list of 1 to %d files", BM_TUNE_MAX_SETS);
    return 0;
}

int bm_tune_job_parse(bm_tune_job *out, const char *text, size_t len, bm_error *err)
{
    json_error_t where;
    int rc;

    *out = (bm_tune_job){ 0 };
    if ((out->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where)) == NULL)
        return bm_fail(err, BM_INVALID, "job: line %d: %s", where.line, where.text);
    if ((rc = read_object(top_fields, out, out->json, "", read_top, err)) == 0)
        rc = check(out, err);
    if (rc < 0)
        bm_tune_job_done(out);
    return rc;
}

void bm_tune_job_done(bm_tune_job *job)
{
    json_decref(job->json);
    *job = (bm_tune_job){ 0 };
}

/* ---- writing ---- */

static void write_double(bm_json *j, const field *f, double x)
{
    if (!f->zero_is_off || x > 0)
        bm_json_kdouble(j, f->key, x);
    else if (x < 0)
        bm_json_kint(j, f->key, 0);                              /* a default stays away */
}

static void write_fields(bm_json *j, const field *f, const void *base)
{
    for (; f->key != NULL; f++) {
        const void *at = (const char *)base + f->offset;
        switch (f->kind) {
        case INT:    bm_json_kint(j, f->key, *(const int *)at); break;
        case INT64:  bm_json_kint(j, f->key, *(const int64_t *)at); break;
        case UINT64: bm_json_kint(j, f->key, (int64_t)*(const uint64_t *)at); break;
        case FLOAT:  bm_json_key(j, f->key), bm_json_float(j, *(const float *)at); break;
        case DOUBLE: write_double(j, f, *(const double *)at); break;
        case BOOL:   bm_json_kbool(j, f->key, *(const bool *)at); break;
        case NAME:
            bm_json_kstr(j, f->key, f->names[f->names == precision_names ? (int)*(const bool *)at : *(const int *)at]);
            break;
        case STRING:
            if (*(const char *const *)at != NULL)
                bm_json_kstr(j, f->key, *(const char *const *)at);
        }
    }
}

static void write_targets(bm_json *j, unsigned sites)
{
    bm_json_key(j, "targets");
    if (sites == 0) {
        bm_json_str(j, "all-linear");
        return;
    }
    bm_json_open(j, '[');
    for (int s = 0; s < BM_LORA_SITES; s++)
        if (sites >> s & 1)
            bm_json_str(j, site_name(s));
    bm_json_close(j, ']');
}

void bm_tune_options_json(bm_json *j, const bm_tune_job *job)
{
    write_targets(j, job->train.adapter.sites);
    write_fields(j, option_fields, job);
}

int bm_tune_job_write(bm_buf *out, const bm_tune_job *job, bm_error *err)
{
    bm_json j = { out, false };
    bm_tune_job again;
    size_t begin = out->len;
    int rc;

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "kind", "tune");
    write_fields(&j, top_fields, job);
    bm_json_key(&j, "model");
    bm_json_open(&j, '{');
    write_fields(&j, model_fields, job);
    bm_json_close(&j, '}');
    bm_json_key(&j, "data");
    bm_json_open(&j, '[');
    for (int i = 0; i < job->n_sets && i < BM_TUNE_MAX_SETS; i++) {
        bm_json_open(&j, '{');
        write_fields(&j, set_fields, &job->sets[i]);
        bm_json_kstr(&j, "shape", bm_data_shape_name(job->sets[i].shape));
        bm_json_close(&j, '}');
    }
    bm_json_close(&j, ']');
    bm_json_key(&j, "options");
    bm_json_open(&j, '{');
    bm_tune_options_json(&j, job);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
    if (out->failed)
        return bm_fail(err, BM_NOMEM, "no memory for job.json");
    if ((rc = bm_tune_job_parse(&again, out->data + begin, out->len - begin, err)) == 0)
        bm_tune_job_done(&again);
    return rc;
}
