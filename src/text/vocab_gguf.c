/* vocab_gguf.c - a vocabulary out of a GGUF's metadata: the keys tokenizer.ggml.*. Nothing in the file is believed: lengths of
 * arrays, types and ids are checked here or in vocab.c, and an error names the key, what was found and what was expected. */
#include "text/vocab.h"

#include <string.h>

#include "base/mem.h"

typedef struct loader {
    const bm_gguf *gguf;
    bm_vocab_spec spec;
    bm_str *tokens, *merges;
    float *scores;
    int32_t *types;
} loader;

/* The array at key, or NULL in *out when it is absent and not needed. */
static int get_array(const bm_gguf *gguf, const char *key, bool needed, const bm_gguf_kv **out, bm_error *err)
{
    const bm_gguf_kv *kv = bm_gguf_find(gguf, key);

    *out = kv;
    if (kv == NULL && needed)
        return bm_fail(err, BM_FORMAT, "%s: found none, expected an array", key);
    if (kv != NULL && kv->type != BM_GGUF_ARRAY)
        return bm_fail(err, BM_FORMAT, "%s: found a single value, expected an array", key);
    return 0;
}

static int get_strings(const bm_gguf *gguf, const char *key, bool needed, bm_str **out, size_t *n, bm_error *err)
{
    const bm_gguf_kv *kv;
    int rc = get_array(gguf, key, needed, &kv, err);

    if (rc < 0 || kv == NULL)
        return rc;
    if (kv->elem_type != BM_GGUF_STRING)
        return bm_fail(err, BM_FORMAT, "%s: found an array of another type, expected strings", key);
    if ((*out = bm_calloc(kv->n, sizeof **out)) == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for %llu strings", key, (unsigned long long)kv->n);
    for (uint64_t i = 0; i < kv->n; i++)
        if (!bm_gguf_elem_str(kv, i, &(*out)[i]))
            return bm_fail(err, BM_FORMAT, "%s[%llu]: found no string, expected one", key, (unsigned long long)i);
    *n = kv->n;
    return 0;
}

static int long_enough(const char *key, const bm_gguf_kv *kv, size_t n_tokens, bm_error *err)
{
    if (kv->n < n_tokens)
        return bm_fail(err, BM_FORMAT, "%s: found %llu values, expected %zu, one for each token", key, (unsigned long long)kv->n,
                       n_tokens);
    return 0;
}

static int get_scores(loader *l, bm_error *err)
{
    static const char key[] = "tokenizer.ggml.scores";
    const bm_gguf_kv *kv;
    int rc = get_array(l->gguf, key, false, &kv, err);

    if (rc < 0 || kv == NULL || (rc = long_enough(key, kv, l->spec.n_tokens, err)) < 0)
        return rc;
    if ((l->scores = bm_calloc(l->spec.n_tokens, sizeof *l->scores)) == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for %zu values", key, l->spec.n_tokens);
    for (size_t i = 0; i < l->spec.n_tokens; i++) {
        double score;
        if (!bm_gguf_elem_f64(kv, i, &score))
            return bm_fail(err, BM_FORMAT, "%s: found an array of another type, expected numbers", key);
        l->scores[i] = (float)score;
    }
    l->spec.scores = l->scores;
    return 0;
}

static int get_types(loader *l, bm_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const bm_gguf_kv *kv;
    int rc = get_array(l->gguf, key, false, &kv, err);

    if (rc < 0 || kv == NULL || (rc = long_enough(key, kv, l->spec.n_tokens, err)) < 0)
        return rc;
    if ((l->types = bm_calloc(l->spec.n_tokens, sizeof *l->types)) == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for %zu values", key, l->spec.n_tokens);
    for (size_t i = 0; i < l->spec.n_tokens; i++) {
        int64_t type;
        if (!bm_gguf_elem_i64(kv, i, &type))
            return bm_fail(err, BM_FORMAT, "%s: found an array of another type, expected integers", key);
        l->types[i] = type >= 0 && type <= 6 ? (int32_t)type : 0;
    }
    l->spec.types = l->types;
    return 0;
}

static int get_id(const bm_gguf *gguf, const char *key, int64_t *out, bm_error *err)
{
    if (bm_gguf_find(gguf, key) != NULL && !bm_gguf_get_i64(gguf, key, out))
        return bm_fail(err, BM_FORMAT, "%s: found another type, expected an integer", key);
    if (*out < -1 && bm_gguf_find(gguf, key) != NULL)
        return bm_fail(err, BM_FORMAT, "%s: found %lld, expected the number of a token", key, (long long)*out);
    return 0;
}

static int get_ids(loader *l, bm_error *err)
{
    struct bm_vocab_ids *ids = &l->spec.ids;
    const struct { const char *key; int64_t *out; } keys[] = {
        { "tokenizer.ggml.bos_token_id", &ids->bos }, { "tokenizer.ggml.eos_token_id", &ids->eos },
        { "tokenizer.ggml.eot_token_id", &ids->eot }, { "tokenizer.ggml.eom_token_id", &ids->eom },
        { "tokenizer.ggml.unknown_token_id", &ids->unk }, { "tokenizer.ggml.fim_pad_token_id", &ids->fim_pad },
        { "tokenizer.ggml.fim_rep_token_id", &ids->fim_rep }, { "tokenizer.ggml.fim_sep_token_id", &ids->fim_sep },
    };
    int rc = 0;

    for (size_t i = 0; i < sizeof keys / sizeof *keys && rc == 0; i++)
        rc = get_id(l->gguf, keys[i].key, keys[i].out, err);
    return rc;
}

static int get_flag(const bm_gguf *gguf, const char *key, int *out, bm_error *err)
{
    bool value;

    if (bm_gguf_get_bool(gguf, key, &value))
        *out = value;
    else if (bm_gguf_find(gguf, key) != NULL)
        return bm_fail(err, BM_FORMAT, "%s: found another type, expected a bool", key);
    return 0;
}

static int load(loader *l, bm_error *err)
{
    const bm_gguf *gguf = l->gguf;
    bm_vocab_spec *spec = &l->spec;
    int rc;

    if (!bm_gguf_get_str(gguf, "tokenizer.ggml.model", &spec->model))
        return bm_fail(err, BM_FORMAT, "tokenizer.ggml.model: found none, expected gpt2 or llama: the file holds no vocabulary");
    bm_gguf_get_str(gguf, "tokenizer.ggml.pre", &spec->pre);
    bm_gguf_get_str(gguf, "general.name", &spec->name);
    if ((rc = get_strings(gguf, "tokenizer.ggml.tokens", true, &l->tokens, &spec->n_tokens, err)) < 0
        || (rc = get_strings(gguf, "tokenizer.ggml.merges", false, &l->merges, &spec->n_merges, err)) < 0
        || (rc = get_scores(l, err)) < 0 || (rc = get_types(l, err)) < 0 || (rc = get_ids(l, err)) < 0
        || (rc = get_flag(gguf, "tokenizer.ggml.add_bos_token", &spec->add_bos, err)) < 0
        || (rc = get_flag(gguf, "tokenizer.ggml.add_eos_token", &spec->add_eos, err)) < 0
        || (rc = get_flag(gguf, "tokenizer.ggml.add_space_prefix", &spec->add_space_prefix, err)) < 0)
        return rc;
    spec->tokens = l->tokens;
    spec->merges = l->merges;
    return 0;
}

int bm_tokenizer_from_gguf(bm_tokenizer **out, const bm_gguf *gguf, bm_error *err)
{
    loader l = { .gguf = gguf, .spec = { .ids = BM_VOCAB_NO_IDS, .add_bos = -1, .add_eos = -1, .add_space_prefix = -1 } };
    int rc = load(&l, err);

    *out = NULL;
    if (rc == 0)
        rc = bm_tokenizer_from_spec(out, &l.spec, err);
    bm_free(l.tokens);
    bm_free(l.merges);
    bm_free(l.scores);
    bm_free(l.types);
    return rc;
}
