/* perplexity.c - `baimo perplexity MODEL FILE`: the protocol of llama-perplexity, so that figures can be put side by side.
 * The text is tokenised whole and cut into disjoint windows of --ctx tokens; the first token of each is replaced by BOS when
 * the vocabulary adds one; the second half of each window is scored. --kl runs the same windows through --precision f32 as
 * well and gives the mean Kullback-Leibler divergence from it and how often both think the same token most likely. */
#include "cli/perplexity.h"
#include "cli/cli.h"
#include "cli/packs.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/number.h"
#include "model/adapter_file.h"
#include "platform/shelf.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TEXT_BYTES = 1 << 30 };

typedef struct options {
    int64_t n_ctx, n_chunks, n_threads;
    const char *precision, *kv_type;
    const char *adapter;         /* path, or a name on the shelf; NULL: the model alone */
    char adapter_path[4096];
    bool json, kl, quiet;
    bool no_pack, is_known;
    bm_known_file known;         /* what the shelf says of the file */
} options;

/* A model with the KV of one sequence and the work memory of one step. */
typedef struct lane {
    bm_model *model;
    bm_step *step;
    bm_adapter *adapter;
    void **pages[BM_MAX_KV_GROUPS];
    bm_seq_kv kv;
    int n_pages;
    float *logits;               /* [BM_LOGIT_ROWS][V] */
} lane;

typedef struct score {
    double nll, nll2;            /* sums over scored tokens, and of squares */
    double kl;
    int64_t n_same, n;
} score;

typedef struct job {             /* one block of rows, reduced by the team */
    const float *fast, *exact;   /* [n_rows][V]; exact NULL without --kl */
    const int32_t *next;         /* the token that came */
    int n_rows, n_vocab;
    double nll[BM_LOGIT_ROWS], nll_exact[BM_LOGIT_ROWS], kl[BM_LOGIT_ROWS];
    bool same[BM_LOGIT_ROWS];
} job;

static void lane_close(lane *l)
{
    for (int g = 0; g < BM_MAX_KV_GROUPS; g++) {
        for (int i = 0; l->pages[g] != NULL && i < l->n_pages; i++)
            bm_free(l->pages[g][i]);
        bm_free(l->pages[g]);
    }
    bm_free(l->logits);
    bm_step_free(l->step);
    bm_adapter_free(l->adapter);
    bm_model_close(l->model);
    *l = (lane){ 0 };
}

static int open_adapter(lane *l, const char *path, bm_error *err)
{
    bm_adapter_file file;
    int rc = bm_adapter_file_read(&file, l->model, path, err);

    if (rc == 0)
        rc = bm_adapter_new(&l->adapter, l->model, file.matrices, file.n, err);
    bm_adapter_file_done(&file);
    return rc;
}

static int lane_open(lane *l, const bm_gguf *gguf, const bm_model_options *mo, const options *o, bm_team *team, bm_error *err)
{
    int rc, n_ctx = (int)o->n_ctx;

    if ((rc = cli_model_open(&l->model, gguf, mo, o->is_known ? &o->known : NULL, o->no_pack, team, err)) < 0 ||
        (rc = bm_step_new(&l->step, l->model, n_ctx, bm_team_size(team), err)) < 0 ||
        (o->adapter_path[0] != '\0' && (rc = open_adapter(l, o->adapter_path, err)) < 0))
        return rc;
    const bm_model_info *info = bm_model_get_info(l->model);
    l->n_pages = (n_ctx + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS;
    if ((l->logits = bm_alloc_aligned((size_t)BM_LOGIT_ROWS * (size_t)info->n_vocab * sizeof(float), 64)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for logits");
    for (int g = 0; g < info->n_groups; g++) {
        if ((l->pages[g] = bm_calloc((size_t)l->n_pages, sizeof(void *))) == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for the KV of %d tokens", n_ctx);
        for (int i = 0; i < l->n_pages; i++) {
            if ((l->pages[g][i] = bm_alloc_aligned(info->groups[g].page_bytes, 64)) == NULL)
                return bm_fail(err, BM_NOMEM, "no memory for the KV of %d tokens", n_ctx);
            memset(l->pages[g][i], 0, info->groups[g].page_bytes);
        }
        l->kv.pages[g] = l->pages[g];
    }
    return 0;
}

static double log_sum_exp(const float *logits, int n, int *top)
{
    double sum = 0;
    int best = 0;

    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    for (int i = 0; i < n; i++)
        sum += (double)expf(logits[i] - logits[best]);
    *top = best;
    return (double)logits[best] + log(sum);
}

static void reduce_row(job *j, int r)
{
    const float *fast = j->fast + (size_t)r * (size_t)j->n_vocab;
    int top, top_exact;
    double lse = log_sum_exp(fast, j->n_vocab, &top);

    j->nll[r] = lse - (double)fast[j->next[r]];
    if (j->exact == NULL)
        return;
    const float *exact = j->exact + (size_t)r * (size_t)j->n_vocab;
    double lse_exact = log_sum_exp(exact, j->n_vocab, &top_exact), kl = 0;
    for (int i = 0; i < j->n_vocab; i++) {
        double log_p = (double)exact[i] - lse_exact;
        if (log_p > -40)                                         /* e^-40 of the mass is below what a double sum shows */
            kl += exp(log_p) * (log_p - ((double)fast[i] - lse));
    }
    j->nll_exact[r] = lse_exact - (double)exact[j->next[r]];
    j->kl[r] = kl;
    j->same[r] = top == top_exact;
}

static void reduce_rows(bm_worker *w, void *arg)
{
    job *j = arg;
    size_t begin, end;

    while (bm_worker_claim(w, (size_t)j->n_rows, 1, &begin, &end))
        for (size_t r = begin; r < end; r++)
            reduce_row(j, (int)r);
}

static int lane_run(lane *l, bm_team *team, const int32_t *window, int n_ctx, bm_error *err)
{
    bm_run run = { .tokens = window, .n_tokens = n_ctx, .n_unread = n_ctx / 2, .kv = &l->kv, .adapter = l->adapter };

    return bm_model_forward(l->model, l->step, team, &run, 1, err);
}

static void add_rows(score *s, const job *j, const double *nll)
{
    for (int r = 0; r < j->n_rows; r++) {
        s->nll += nll[r];
        s->nll2 += nll[r] * nll[r];
        s->n++;
        if (j->exact != NULL) {
            s->kl += j->kl[r];
            s->n_same += j->same[r];
        }
    }
}

/* Score positions n_ctx/2 .. n_ctx-2 of one window: each predicts the token after it. */
static int score_window(lane *fast, lane *exact, bm_team *team, const int32_t *window, int n_ctx, score *s, score *s_exact,
                        bm_error *err)
{
    int32_t rows[BM_LOGIT_ROWS];
    job j = { .fast = fast->logits, .exact = exact ? exact->logits : NULL, .n_vocab = bm_model_get_info(fast->model)->n_vocab };
    int rc;

    if ((rc = lane_run(fast, team, window, n_ctx, err)) < 0 || (exact != NULL && (rc = lane_run(exact, team, window, n_ctx, err)) < 0))
        return rc;
    for (int at = n_ctx / 2; at < n_ctx - 1; at += j.n_rows) {
        j.n_rows = n_ctx - 1 - at < BM_LOGIT_ROWS ? n_ctx - 1 - at : BM_LOGIT_ROWS;
        for (int r = 0; r < j.n_rows; r++)
            rows[r] = at + r;
        j.next = window + at + 1;
        if ((rc = bm_model_logits(fast->model, fast->step, team, rows, j.n_rows, fast->logits, err)) < 0 ||
            (exact != NULL && (rc = bm_model_logits(exact->model, exact->step, team, rows, j.n_rows, exact->logits, err)) < 0))
            return rc;
        bm_team_run(team, reduce_rows, &j);
        add_rows(s, &j, j.nll);
        if (exact != NULL)
            add_rows(s_exact, &j, j.nll_exact);
    }
    return 0;
}

static double perplexity(const score *s) { return exp(s->nll / (double)s->n); }

/* Standard error of the perplexity by that of the mean negative log-likelihood, as llama-perplexity gives it. */
static double perplexity_error(const score *s)
{
    double mean = s->nll / (double)s->n, var = s->nll2 / (double)s->n - mean * mean;

    return var > 0 && s->n > 1 ? sqrt(var / (double)(s->n - 1)) * exp(mean) : 0;
}


static int report(const options *o, const score *s, const score *s_exact, int64_t n_chunks)
{
    if (o->json) {
        json_t *j = json_pack("{s:f, s:f, s:I, s:I, s:I, s:s, s:s}", "perplexity", perplexity(s), "stderr", perplexity_error(s),
                              "tokens", (json_int_t)s->n, "chunks", (json_int_t)n_chunks, "ctx", (json_int_t)o->n_ctx,
                              "precision", o->precision, "kv_type", strcmp(o->precision, "f32") == 0 ? "f32" : o->kv_type);
        if (j != NULL && o->kl) {
            json_object_set_new(j, "perplexity_f32", json_real(perplexity(s_exact)));
            json_object_set_new(j, "mean_kl", json_real(s->kl / (double)s->n));
            json_object_set_new(j, "same_top", json_real((double)s->n_same / (double)s->n));
        }
        return cli_print_json(j);
    }
    printf("perplexity %.4f +/- %.5f over %" PRId64 " tokens in %" PRId64 " windows of %" PRId64 "\n", perplexity(s),
           perplexity_error(s), s->n, n_chunks, o->n_ctx);
    if (o->kl)
        printf("f32 %.4f, mean KL divergence %.6f, same top token %.2f %%\n", perplexity(s_exact), s->kl / (double)s->n,
               100.0 * (double)s->n_same / (double)s->n);
    return 0;
}

/* Returns the number of windows. */
static int64_t score_text(const options *o, bm_gguf *gguf, bm_tokenizer *tok, bm_tokens *tokens, bm_team *team, bm_isa isa, score *sum,
                          score *sum_exact, bm_error *err)
{
    lane fast = { 0 }, exact = { 0 };
    score s = { 0 }, s_exact = { 0 };
    bm_model_options mo = { .f32 = strcmp(o->precision, "f32") == 0, .isa = isa };
    int n_ctx = (int)o->n_ctx, rc = bm_kv_type_find(&mo.kv_type, o->kv_type, err);
    int64_t n = (int64_t)tokens->n / n_ctx;

    if (rc < 0)
        return bm_param(err, "--kv-type");
    if (o->n_chunks > 0 && o->n_chunks < n)
        n = o->n_chunks;
    if ((rc = lane_open(&fast, gguf, &mo, o, team, err)) < 0)
        goto out;
    mo.f32 = true, mo.kv_type = BM_KV_F32;
    if (o->kl && (rc = lane_open(&exact, gguf, &mo, o, team, err)) < 0)
        goto out;
    for (int64_t c = 0; c < n; c++) {
        int32_t *window = tokens->ids + c * n_ctx;
        if (bm_tokenizer_adds_bos(tok))
            window[0] = bm_tokenizer_bos(tok);
        if ((rc = score_window(&fast, o->kl ? &exact : NULL, team, window, n_ctx, &s, &s_exact, err)) < 0)
            goto out;
        if (!o->json && !o->quiet)
            printf("[%" PRId64 "/%" PRId64 "] %.4f\n", c + 1, n, perplexity(&s)), fflush(stdout);
    }
    *sum = s, *sum_exact = s_exact;
out:
    lane_close(&fast);
    lane_close(&exact);
    return rc < 0 ? rc : n;
}

static int check_length(const bm_gguf *gguf, const bm_tokens *tokens, const options *o, const char *path, bm_error *err)
{
    bm_model_options mo = { .kv_type = BM_KV_INT16 };
    bm_model_info info;
    int rc;

    if ((rc = bm_model_plan(&info, gguf, &mo, err)) < 0)
        return rc;
    if (o->n_ctx > info.n_ctx_train) {
        bm_fail(err, BM_INVALID, "--ctx %" PRId64 " is more than the model's context of %d", o->n_ctx, info.n_ctx_train);
        return bm_param(err, "--ctx");
    }
    if ((int64_t)tokens->n < o->n_ctx)
        return bm_fail(err, BM_INVALID, "%s: %zu tokens; one window needs %" PRId64, path, tokens->n, o->n_ctx);
    return 0;
}

/* Where the adapter is: a path as it stands, or what the shelf says of a name. */
static int find_adapter(options *o, bm_store *store, bm_error *err)
{
    bm_adapter_row row;
    int rc;

    if (o->adapter == NULL)
        return 0;
    if ((rc = bm_adapter_file_look(o->adapter, NULL, err)) == 1) {
        snprintf(o->adapter_path, sizeof o->adapter_path, "%s", o->adapter);
        return 0;
    }
    if (rc < 0 || (rc = bm_adapters_find(store, o->adapter, &row, err)) < 0)
        return rc;
    if (rc == 0)
        return bm_fail(err, BM_NOTFOUND, "%s: neither an adapter's file nor its name on the shelf", o->adapter);
    snprintf(o->adapter_path, sizeof o->adapter_path, "%s", row.path);
    bm_adapter_row_done(&row);
    return 0;
}

static int64_t run(const char *model, const char *path, options *o, score *sum, score *sum_exact, bm_error *err)
{
    bm_store *store = NULL;
    bm_shelf_model *row = bm_zalloc(sizeof *row);
    int64_t n_windows = 0;
    bm_gguf *gguf = NULL;
    bm_tokenizer *tok = NULL;
    bm_team *team = NULL;
    bm_tokens tokens = { 0 };
    char *text = NULL;
    size_t len;
    bm_cpu cpu;
    bm_isa isa;
    int rc;

    if (row == NULL)
        return bm_fail(err, BM_NOMEM, "no memory");
    bm_cpu_detect(&cpu);
    if ((rc = bm_isa_choose(&isa, &cpu, err)) < 0 || (rc = cli_open_store(&store, err)) < 0 ||
        (rc = bm_shelf_resolve(store, model, row, err)) < 0 || (rc = find_adapter(o, store, err)) < 0 || (rc = bm_read_file(&text, &len, path, MAX_TEXT_BYTES, err)) < 0 ||
        (rc = bm_gguf_open(&gguf, row->path, err)) < 0 || (rc = bm_tokenizer_from_gguf(&tok, gguf, err)) < 0 ||
        (rc = bm_tokenizer_encode(tok, text, len, &(bm_encode_options){ .add_special = true }, &tokens, err)) < 0 ||
        (rc = check_length(gguf, &tokens, o, path, err)) < 0 ||
        (rc = bm_team_new(&team, o->n_threads > 0 ? (int)o->n_threads : cpu.n_threads_default, err)) < 0)
        goto out;
    o->is_known = bm_shelf_known(row, &o->known);
    n_windows = score_text(o, gguf, tok, &tokens, team, isa, sum, sum_exact, err);
out:
    bm_team_free(team);
    bm_tokens_done(&tokens);
    bm_tokenizer_free(tok);
    bm_gguf_close(gguf);
    bm_free(text);
    bm_store_close(store);
    bm_free(row);
    return rc < 0 ? rc : n_windows;
}

int cli_perplexity(const char *model, const char *adapter, const char *text, int64_t n_chunks, double *out, bm_error *err)
{
    options o = { .n_ctx = 512, .n_chunks = n_chunks, .precision = "fast", .kv_type = "int16", .adapter = adapter, .quiet = true, .no_pack = true };
    score s, s_exact;
    int64_t n = run(model, text, &o, &s, &s_exact, err);

    if (n < 0)
        return (int)n;
    *out = perplexity(&s);
    return 0;
}

int cmd_perplexity(int argc, char **argv)
{
    options o = { .n_ctx = 512, .precision = "fast", .kv_type = "int16" };
    const cli_option table[] = {
        { "ctx", "-c", CLI_INT, &o.n_ctx, 8, 1 << 20, "N", "tokens of a window (default 512)" },
        { "chunks", NULL, CLI_INT, &o.n_chunks, 0, 1e9, "N", "score only the first N windows (default 0: all)" },
        { "precision", NULL, CLI_STR, &o.precision, 0, 0, "fast|f32", "f32: weights dequantised, activations and KV in f32" },
        { "kv-type", NULL, CLI_STR, &o.kv_type, 0, 0, "TYPE", "of the KV cache, with --precision fast: int16 (default), int8 or f16" },
        { "kl", NULL, CLI_FLAG, &o.kl, 0, 0, NULL, "also run f32 and give the divergence from it" },
        { "adapter", NULL, CLI_STR, &o.adapter, 0, 0, "ADAPTER", "with this adapter: its directory, GGUF, or name on the shelf" },
        { "threads", "-t", CLI_INT, &o.n_threads, 0, 1024, "N", "threads (default 0: what the machine allows)" },
        { "no-pack", NULL, CLI_FLAG, &o.no_pack, 0, 0, NULL, CLI_NO_PACK_HELP },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "one JSON object" },
        { 0 },
    };
    const cli_command command = {
        "perplexity", "MODEL FILE", "How well MODEL predicts the text in FILE: lower is better. The protocol is llama-perplexity's.",
        "baimo perplexity smollm2 wiki.test.raw --chunks 40 --kl", table,
    };
    score s, s_exact;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&command, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 2)
        return cli_usage_error("perplexity", "needs MODEL and FILE, got %d arguments", n);
    if (strcmp(o.precision, "fast") != 0 && strcmp(o.precision, "f32") != 0)
        return cli_usage_error("perplexity", "--precision is fast or f32, not %s", o.precision);
    int64_t n_windows = run(argv[0], argv[1], &o, &s, &s_exact, &err);
    return n_windows < 0 ? cli_fail(&err) : report(&o, &s, &s_exact, n_windows);
}
