/* adapter_peft.c - PEFT's layout of an adapter, in and out; see adapter_file.h. Fields are those of peft's LoraConfig. */
#include "model/adapter_files.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/polite.h"
#include "format/safetensors.h"

enum { MAX_CONFIG = 1 << 20, MAX_KEY = 160, MAX_PATTERNS = BM_LORA_SITES * 1024 };

float bm_adapter_alpha(const bm_lora_matrix *m, bool rslora)
{
    return (float)(m->scale * (rslora ? sqrt((double)m->rank) : (double)m->rank));
}

/* ---- the config ---- */

static bool is_set(const json_t *x)
{
    return x != NULL && !json_is_null(x) && !json_is_false(x) && !(json_is_array(x) && json_array_size(x) == 0) &&
           !(json_is_object(x) && json_object_size(x) == 0) && !(json_is_string(x) && json_string_length(x) == 0);
}

/* What changes more than y += scale * B (A x). */
static int refuse_extras(const json_t *c, bm_error *err)
{
    static const struct { const char *key, *what; } extras[] = {
        { "use_dora", "DoRA" }, { "use_qalora", "QALoRA" }, { "lora_bias", "biases of B" }, { "fan_in_fan_out", "transposed weights" },
        { "modules_to_save", "whole modules trained beside it" }, { "layer_replication", "replicated layers" },
        { "trainable_token_indices", "trained embeddings" }, { "target_parameters", "parameters that are no linear maps" },
        { "alora_invocation_tokens", "activated LoRA" }, { "megatron_config", "Megatron layers" }, { "arrow_config", "Arrow routing" },
        { "kasa_config", "KaSA" }, { "monteclora_config", "MonteCLoRA" },
    };
    static const char *const inits[] = { "gaussian", "eva", "orthogonal" };      /* they leave the base as it is */
    const char *bias = json_string_value(json_object_get(c, "bias")), *type = json_string_value(json_object_get(c, "peft_type"));
    const char *init = json_string_value(json_object_get(c, "init_lora_weights"));
    bool known = init == NULL;

    if (type != NULL && strcmp(type, "LORA") != 0)
        return bm_fail(err, BM_UNSUPPORTED, "peft_type is %.40s; only LORA is carried out", type);
    if (bias != NULL && strcmp(bias, "none") != 0)
        return bm_fail(err, BM_UNSUPPORTED, "bias is %.40s: trained biases are not carried out, only bias none", bias);
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++)
        if (is_set(json_object_get(c, extras[i].key)))
            return bm_fail(err, BM_UNSUPPORTED, "%s is set: %s are not carried out", extras[i].key, extras[i].what);
    for (size_t i = 0; i < sizeof inits / sizeof *inits && !known; i++)
        known = strcmp(init, inits[i]) == 0;
    if (!known) {
        bm_fail(err, BM_UNSUPPORTED, "init_lora_weights is %.40s, which also changed the base that it was trained on", init);
        return bm_hint(err, "save it with path_initial_model_for_weight_conversion, which makes a plain LoRA of it");
    }
    return 0;
}

static int read_config(json_t **out, const char *dir, bm_error *err)
{
    bm_buf path = { 0 };
    json_error_t why;
    char *text = NULL;
    size_t len;
    int rc;

    *out = NULL;
    bm_buf_printf(&path, "%s/adapter_config.json", dir);
    if (path.failed)
        return bm_fail(err, BM_NOMEM, "%s: no memory for its name", dir);
    if ((rc = bm_read_file(&text, &len, path.data, MAX_CONFIG, err)) == 0) {
        *out = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(*out))
            rc = bm_fail(err, BM_FORMAT, "%s: no JSON object: %s", path.data, *out != NULL ? "another value" : why.text);
        else if ((rc = refuse_extras(*out, err)) < 0)
            bm_wrap(err, "%s", path.data);
    }
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    bm_free(text);
    bm_buf_done(&path);
    return rc;
}

/* Does a key of alpha_pattern name this module? PEFT matches (.*\.)?KEY$ as a regular expression; ours are plain text, with an
 * optional ^ that ties it to the beginning. -1: the key is more than that. */
static int key_matches(const char *key, const char *module)
{
    bool tied = key[0] == '^';
    size_t n, m = strlen(module);

    key += tied;
    n = strlen(key);
    if (strpbrk(key, "\\*+?[](){}|^$") != NULL)
        return -1;
    if (n > m || strcmp(module + m - n, key) != 0)
        return 0;
    return n == m || (!tied && module[m - n - 1] == '.');
}

static int find_alpha(const json_t *c, int layer, bm_lora_site site, double *alpha, bm_error *err)
{
    json_t *patterns = json_object_get(c, "alpha_pattern"), *value = json_object_get(c, "lora_alpha"), *x;
    char module[MAX_KEY];
    const char *key;

    if (json_object_size(patterns) > MAX_PATTERNS)
        return bm_fail(err, BM_LIMIT, "alpha_pattern has %zu names, at most %d are read", json_object_size(patterns), MAX_PATTERNS);
    snprintf(module, sizeof module, "model.layers.%d.%s", layer, bm_lora_hf_name(site));
    json_object_foreach(patterns, key, x) {
        int matches = key_matches(key, module);
        if (matches < 0)
            return bm_fail(err, BM_UNSUPPORTED, "alpha_pattern %.80s is a regular expression; only plain names are carried out", key);
        if (matches > 0) {
            value = x;
            break;
        }
    }
    *alpha = json_number_value(value);
    if (!json_is_number(value) || !isfinite(*alpha) || fabs(*alpha) > 1e6)
        return bm_fail(err, BM_FORMAT, "adapter_config.json gives no lora_alpha for %s, or none between -1e6 and 1e6", module);
    return 0;
}

/* ---- reading ---- */

/* "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight". */
static int parse_name(const char *name, int *layer, bm_lora_site *site, bool *is_b, bm_error *err)
{
    const char *at = name;
    long n = 0;

    if (strncmp(at, "base_model.model.", 17) == 0)
        at += 17;
    if (strncmp(at, "model.", 6) == 0)
        at += 6;
    if (strncmp(at, "layers.", 7) == 0 && at[7] >= '0' && at[7] <= '9') {
        for (at += 7; *at >= '0' && *at <= '9' && n < 100000; at++)
            n = 10 * n + (*at - '0');
        for (int s = 0; s < BM_LORA_SITES && *at == '.'; s++) {
            const char *module = bm_lora_hf_name((bm_lora_site)s), *rest = at + 1 + strlen(module);
            if (strncmp(at + 1, module, strlen(module)) != 0)
                continue;
            *is_b = strcmp(rest, ".lora_B.weight") == 0;
            *site = (bm_lora_site)s, *layer = (int)n;
            if (*is_b || strcmp(rest, ".lora_A.weight") == 0)
                return 0;
        }
    }
    return bm_fail(err, BM_UNSUPPORTED, "tensor %.120s is no lora_A or lora_B of a layer's linear maps, and nothing else is carried out", name);
}

static int list_tensors(bm_adapter_list *list, const bm_safetensors *f, bm_error *err)
{
    for (size_t i = 0; i < bm_safetensors_n(f); i++) {
        const bm_safetensor *t = bm_safetensors_at(f, i);
        bm_lora_site site = BM_LORA_Q;
        int layer = 0, rc;
        bool is_b = false;
        if ((rc = parse_name(t->name, &layer, &site, &is_b, err)) < 0)
            return rc;
        if (t->type == BM_QTYPE_END)
            return bm_fail(err, BM_UNSUPPORTED, "tensor %.120s has dtype %.20s, expected F32, F16 or BF16", t->name, t->dtype);
        if (t->n_dims != 2)
            return bm_fail(err, BM_FORMAT, "tensor %.120s has %d axes, expected 2", t->name, t->n_dims);
        if ((rc = bm_adapter_list_add(list, layer, site, is_b, t->dims[0], t->dims[1], t, err)) < 0)
            return rc;
    }
    return 0;
}

static void read_about(bm_adapter_about *about, const json_t *config, const bm_safetensors *f)
{
    static const struct { const char *key; size_t at, room; } fields[] = {
#define FIELD(name) { "baimo." #name, offsetof(bm_adapter_about, name), sizeof ((bm_adapter_about *)0)->name }
        FIELD(base_sha256), FIELD(data_sha256), FIELD(version), FIELD(settings)
#undef FIELD
    };

    bm_adapter_about_copy(about->base_name, sizeof about->base_name,
                          json_string_value(json_object_get(config, "base_model_name_or_path")), SIZE_MAX);
    about->rslora = json_is_true(json_object_get(config, "use_rslora"));
    about->rank = (int)json_integer_value(json_object_get(config, "r"));
    about->alpha = (float)json_number_value(json_object_get(config, "lora_alpha"));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        bm_adapter_about_copy((char *)about + fields[i].at, fields[i].room, bm_safetensors_meta(f, fields[i].key), SIZE_MAX);
}

static int fill(bm_adapter_file *out, const bm_adapter_list *list, const json_t *config, bm_error *err)
{
    int rc;

    if ((rc = bm_adapter_list_finish(list, out, err)) < 0)
        return rc;
    for (size_t i = 0; i < out->n; i++) {
        bm_lora_matrix *m = &out->matrices[i];
        const bm_adapter_pair *pair = &list->pairs[m->layer * BM_LORA_SITES + (int)m->site];
        double alpha = 0;
        if ((rc = find_alpha(config, m->layer, m->site, &alpha, err)) < 0)
            return rc;
        m->scale = (float)(alpha / (out->about.rslora ? sqrt((double)m->rank) : (double)m->rank));
        bm_safetensor_floats(pair->a, (float *)(uintptr_t)m->a);
        bm_safetensor_floats(pair->b, (float *)(uintptr_t)m->b);
        bm_polite_rest();
    }
    return 0;
}

static int open_tensors(bm_safetensors **out, const char *dir, bm_error *err)
{
    bm_buf path = { 0 };
    struct stat st;
    int rc;

    *out = NULL;
    bm_buf_printf(&path, "%s/adapter_model.safetensors", dir);
    if (path.failed)
        return bm_fail(err, BM_NOMEM, "%s: no memory for its name", dir);
    rc = bm_safetensors_open(out, path.data, err);
    bm_buf_clear(&path);
    bm_buf_printf(&path, "%s/adapter_model.bin", dir);
    if (rc < 0 && !path.failed && stat(path.data, &st) == 0)
        bm_hint(err, "adapter_model.bin is a pickle, which can run code: save it again with safe_serialization=True");
    bm_buf_done(&path);
    return rc;
}

int bm_peft_look(const char *dir, bm_adapter_about *about, bm_error *err)
{
    bm_safetensors *f = NULL;
    json_t *config;
    int rc;

    if ((rc = read_config(&config, dir, err)) == 0 && (rc = open_tensors(&f, dir, err)) == 0) {
        read_about(about, config, f);
        rc = 1;
    }
    bm_safetensors_close(f);
    json_decref(config);
    return rc;
}

int bm_peft_read(bm_adapter_file *out, const bm_model *model, const char *dir, bm_error *err)
{
    bm_adapter_list list = { 0 };
    bm_safetensors *f = NULL;
    json_t *config;
    int rc;

    if ((rc = read_config(&config, dir, err)) < 0 || (rc = open_tensors(&f, dir, err)) < 0)
        goto out;
    read_about(&out->about, config, f);
    if ((rc = bm_adapter_list_init(&list, model, err)) < 0 || (rc = list_tensors(&list, f, err)) < 0 ||
        (rc = fill(out, &list, config, err)) < 0)
        bm_wrap(err, "%s", dir);
out:
    bm_adapter_list_done(&list);
    bm_safetensors_close(f);
    json_decref(config);
    return rc;
}

/* ---- writing ---- */

static void put_number(bm_json *j, const char *key, float x)
{
    if (x == floorf(x) && fabsf(x) < 1e9f) {
        bm_json_kint(j, key, (int64_t)x);
    } else {
        bm_json_key(j, key);
        bm_json_float(j, x);
    }
}

/* The names of modules: short ones when a site is adapted in every layer, else each in full. */
static void put_targets(bm_json *j, const bm_lora_matrix *matrices, size_t n, int n_layers)
{
    int count[BM_LORA_SITES] = { 0 };
    char module[MAX_KEY];

    for (size_t i = 0; i < n; i++)
        count[matrices[i].site]++;
    bm_json_key(j, "target_modules");
    bm_json_open(j, '[');
    for (int s = 0; s < BM_LORA_SITES; s++)
        if (count[s] == n_layers)
            bm_json_str(j, strrchr(bm_lora_hf_name((bm_lora_site)s), '.') + 1);
    for (size_t i = 0; i < n; i++)
        if (count[matrices[i].site] != n_layers) {
            snprintf(module, sizeof module, "model.layers.%d.%s", matrices[i].layer, bm_lora_hf_name(matrices[i].site));
            bm_json_str(j, module);
        }
    bm_json_close(j, ']');
}

/* Where a matrix differs from the common rank or alpha. */
static void put_pattern(bm_json *j, const char *key, const bm_adapter_about *about, const bm_lora_matrix *matrices, size_t n, bool alphas)
{
    char module[MAX_KEY];

    bm_json_key(j, key);
    bm_json_open(j, '{');
    for (size_t i = 0; i < n; i++) {
        float x = alphas ? bm_adapter_alpha(&matrices[i], about->rslora) : (float)matrices[i].rank;
        snprintf(module, sizeof module, "model.layers.%d.%s", matrices[i].layer, bm_lora_hf_name(matrices[i].site));
        if (x != (alphas ? about->alpha : (float)about->rank))
            put_number(j, module, x);
    }
    bm_json_close(j, '}');
}

static int write_config(const char *dir, const bm_adapter_about *about, const bm_lora_matrix *matrices, size_t n, int n_layers, bm_error *err)
{
    bm_buf text = { 0 }, path = { 0 };
    bm_json j = { &text, false };
    int rc;

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "peft_type", "LORA");
    bm_json_kstr(&j, "task_type", "CAUSAL_LM");
    bm_json_kstr(&j, "base_model_name_or_path", about->base_name);
    bm_json_kint(&j, "r", about->rank);
    put_number(&j, "lora_alpha", about->alpha);
    bm_json_kdouble(&j, "lora_dropout", 0);
    bm_json_kbool(&j, "use_rslora", about->rslora);
    bm_json_kstr(&j, "bias", "none");
    bm_json_kbool(&j, "inference_mode", true);
    put_targets(&j, matrices, n, n_layers);
    put_pattern(&j, "rank_pattern", about, matrices, n, false);
    put_pattern(&j, "alpha_pattern", about, matrices, n, true);
    bm_json_close(&j, '}');
    bm_buf_putc(&text, '\n');
    bm_buf_printf(&path, "%s/adapter_config.json", dir);
    rc = text.failed || path.failed ? bm_fail(err, BM_NOMEM, "%s: no memory to write it", dir)
                                    : bm_write_file(path.data, text.data, text.len, 0644, err);
    bm_buf_done(&text);
    bm_buf_done(&path);
    return rc;
}

static int write_tensors(const char *dir, const bm_model *model, const bm_adapter_about *about, const bm_lora_matrix *matrices, size_t n,
                         bm_error *err)
{
    bm_safetensor_meta meta[] = { { "format", "pt" }, { "baimo.base_sha256", about->base_sha256 }, { "baimo.data_sha256", about->data_sha256 },
                                  { "baimo.version", about->version }, { "baimo.settings", about->settings } };
    bm_safetensor_out *tensors = bm_calloc(2 * n, sizeof *tensors);
    char (*names)[MAX_KEY] = bm_calloc(2 * n, sizeof *names);
    bm_buf path = { 0 };
    int64_t n_in, n_out;
    int rc;

    bm_buf_printf(&path, "%s/adapter_model.safetensors", dir);
    if (tensors == NULL || names == NULL || path.failed) {
        rc = bm_fail(err, BM_NOMEM, "%s: no memory to write it", dir);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const bm_lora_matrix *m = &matrices[i];
        bm_lora_shape(model, m->layer, m->site, &n_in, &n_out);
        for (int b = 0; b < 2; b++)
            snprintf(names[2 * i + (size_t)b], MAX_KEY, "base_model.model.model.layers.%d.%s.lora_%c.weight", m->layer,
                     bm_lora_hf_name(m->site), "AB"[b]);
        tensors[2 * i] = (bm_safetensor_out){ names[2 * i], 2, { (uint64_t)m->rank, (uint64_t)n_in }, m->a };
        tensors[2 * i + 1] = (bm_safetensor_out){ names[2 * i + 1], 2, { (uint64_t)n_out, (uint64_t)m->rank }, m->b };
    }
    rc = bm_safetensors_write(path.data, tensors, 2 * n, meta, sizeof meta / sizeof *meta, err);
out:
    bm_free(tensors);
    bm_free(names);
    bm_buf_done(&path);
    return rc;
}

int bm_adapter_write_peft(const char *dir, const bm_model *model, const bm_lora_matrix *matrices, size_t n, const bm_adapter_about *about,
                          bm_error *err)
{
    static const bm_adapter_about nothing;
    bm_adapter_about mine = about != NULL ? *about : nothing;
    int rc;

    if (n == 0)
        return bm_fail(err, BM_INVALID, "%s: an adapter without matrices", dir);
    bm_adapter_about_ranks(&mine, matrices, n);
    if (mkdir(dir, 0777) < 0 && errno != EEXIST)
        return bm_fail(err, BM_IO, "%s: cannot make the directory: %s", dir, strerror(errno));
    if ((rc = write_config(dir, &mine, matrices, n, bm_model_get_info(model)->n_layers, err)) < 0)
        return rc;
    return write_tensors(dir, model, &mine, matrices, n, err);
}
