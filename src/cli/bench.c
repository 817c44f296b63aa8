/* bench.c - `baimo bench MODEL`: speed of prefill and decode, one JSON object a line; `bench --machine`: the limits themselves.
 * What is timed is what serving does with warm weights: forward, the logits of the rows that are sampled, and the choice of the
 * token. Prompts are random tokens, other ones for each sequence and repeat; decoding goes on with what the model says, end of
 * text or not. With --depth the KV already holds N tokens before anything is timed. No cache, no speculation. */
#include "cli/bench.h"
#include "cli/packs.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "compute/machine.h"
#include "platform/shelf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* ---- steps ---- */

static void choose_tokens(bm_worker *w, void *arg)
{
    static const bm_sampling greedy = { .top_p = 1, .repetition_penalty = 1 };
    bench *b = arg;
    size_t begin, end;

    while (bm_worker_claim(w, (size_t)b->n_rows, 1, &begin, &end))
        for (; begin < end; begin++) {
            int32_t token = bm_sample(&b->samplers[w->id], b->logits + begin * (size_t)b->info->n_vocab, &greedy, NULL, 0);
            b->row_lanes[begin]->next = token < 0 ? 0 : token;
        }
}

static int choose(bench *b, bm_error *err)
{
    int rc = bm_model_logits(b->model, b->step, b->team, b->rows, b->n_rows, b->logits, err);

    if (rc == 0)
        bm_team_run(b->team, choose_tokens, b);
    b->n_rows = 0;
    return rc;
}

static int want_row(bench *b, int32_t row, bench_lane *l, bm_error *err)
{
    b->rows[b->n_rows] = row;
    b->row_lanes[b->n_rows++] = l;
    return b->n_rows == BM_LOGIT_ROWS ? choose(b, err) : 0;
}

/* All lanes up to position `until`, in steps of at most BENCH_STEP_TOKENS; at the end their next token when `sample`. */
int bench_prefill(bench *b, int32_t until, bool sample, bm_error *err)
{
    bm_run runs[BENCH_MAX_PARALLEL];
    int n_runs = 0, n_tokens = 0, rc = 0;

    for (int i = 0; i < b->o->parallel && rc == 0; i++)
        while (rc == 0 && b->lanes[i].pos < until) {
            bench_lane *l = &b->lanes[i];
            int n = until - l->pos < BENCH_STEP_TOKENS - n_tokens ? until - l->pos : BENCH_STEP_TOKENS - n_tokens;
            runs[n_runs++] = (bm_run){ .tokens = l->tokens + l->pos, .n_tokens = n, .start = l->pos, .kv = &l->kv, .adapter = l->adapter,
                                       .n_unread = sample && l->pos + n == until ? n - 1 : n };
            l->pos += n, n_tokens += n;
            bool last = i == b->o->parallel - 1 && l->pos == until;
            if (n_tokens < BENCH_STEP_TOKENS && !last)
                break;
            rc = bm_model_forward(b->model, b->step, b->team, runs, n_runs, err);
            for (int r = 0, row = 0; r < n_runs && rc == 0 && sample; row += runs[r].n_tokens, r++)
                if (runs[r].start + runs[r].n_tokens == until)
                    rc = want_row(b, row + runs[r].n_tokens - 1, &b->lanes[i - (n_runs - 1 - r)], err);
            if (rc == 0 && b->n_rows > 0)
                rc = choose(b, err);
            n_runs = n_tokens = 0;
        }
    return rc;
}

int bench_decode(bench *b, int64_t n_steps, bm_error *err)
{
    bm_run runs[BENCH_MAX_PARALLEL];
    int rc = 0;

    for (int64_t s = 0; s < n_steps && rc == 0; s++) {
        for (int i = 0; i < b->o->parallel; i++) {
            bench_lane *l = &b->lanes[i];
            l->hash = bm_hash64(&l->next, sizeof l->next, l->hash);
            runs[i] = (bm_run){ .tokens = &l->next, .n_tokens = 1, .start = l->pos++, .kv = &l->kv, .adapter = l->adapter };
        }
        rc = bm_model_forward(b->model, b->step, b->team, runs, (int)b->o->parallel, err);
        for (int i = 0; i < b->o->parallel && rc == 0; i++)
            rc = want_row(b, i, &b->lanes[i], err);
        if (rc == 0 && b->n_rows > 0)
            rc = choose(b, err);
    }
    return rc;
}

/* Fresh tokens, zeroed KV. */
void bench_reset(bench *b, uint64_t repeat)
{
    for (int i = 0; i < b->o->parallel; i++) {
        bench_lane *l = &b->lanes[i];
        uint64_t state = repeat * BENCH_MAX_PARALLEL + (uint64_t)i + 1;
        for (int64_t t = 0; t <= b->o->depth + b->o->prompt; t++)
            l->tokens[t] = (int32_t)(random_bits(&state) % (uint64_t)b->info->n_vocab);
        l->pos = 0;
        l->hash = 0;
        l->next = l->tokens[b->o->depth + b->o->prompt];
        for (int g = 0; g < b->info->n_groups; g++)
            for (int p = 0; p < b->n_pages; p++)
                memset(l->pages[g][p], 0, b->info->groups[g].page_bytes);
    }
}

static int run_once(bench *b, int repeat, double *prefill, double *decode, bm_error *err)
{
    const bench_settings *o = b->o;
    int rc;

    bench_reset(b, (uint64_t)repeat);
    if ((rc = bench_prefill(b, (int32_t)o->depth, false, err)) < 0)
        return rc;
    int64_t begin = bm_now_ns();
    if ((rc = bench_prefill(b, (int32_t)(o->depth + o->prompt), true, err)) < 0)
        return rc;
    int64_t middle = bm_now_ns();
    if ((rc = bench_decode(b, o->gen, err)) < 0)
        return rc;
    for (int i = 0; i < o->parallel; i++)
        b->hash = bm_hash64(&b->lanes[i].next, sizeof b->lanes[i].next, b->hash ^ b->lanes[i].hash);
    prefill[repeat] = (double)(o->prompt * o->parallel) * 1e9 / (double)(middle - begin);
    decode[repeat] = (double)(o->gen * o->parallel) * 1e9 / (double)(bm_now_ns() - middle);
    return 0;
}

/* With adapters: the base alone, then they. */
static int run_pair(bench *b, int repeat, bm_error *err)
{
    int rc = 0;

    if (b->adapters != NULL) {
        bench_adapters_mount(b, false);
        rc = run_once(b, repeat, b->base_prefill, b->base_decode, err);
        bench_adapters_mount(b, true);
    }
    return rc < 0 ? rc : run_once(b, repeat, b->prefill, b->decode, err);
}

/* Threads and caches awake, the work memory of a step touched, as a server's is after its first prompt; not counted. */
static int warm_up(bench *b, bm_error *err)
{
    int64_t n_tokens = b->o->prompt + b->o->depth;
    int32_t n = (int32_t)(n_tokens < BENCH_STEP_TOKENS ? n_tokens : BENCH_STEP_TOKENS);
    int rc;

    bench_reset(b, 999);
    rc = bench_prefill(b, n, false, err);
    return rc < 0 ? rc : bench_decode(b, b->o->gen < 4 ? b->o->gen : 4, err);
}

/* ---- setting up ---- */

static void bench_done(bench *b)
{
    for (int i = 0; b->lanes != NULL && i < b->o->parallel; i++) {
        for (int g = 0; g < BM_MAX_KV_GROUPS; g++) {
            for (int p = 0; b->lanes[i].pages[g] != NULL && p < b->n_pages; p++)
                bm_free(b->lanes[i].pages[g][p]);
            bm_free(b->lanes[i].pages[g]);
        }
        bm_free(b->lanes[i].tokens);
    }
    for (int i = 0; b->samplers != NULL && i < b->n_workers; i++)
        bm_sampler_done(&b->samplers[i]);
    bm_free(b->samplers);
    bm_free(b->lanes);
    bm_free(b->logits);
    bench_adapters_free(b);
    bm_step_free(b->step);
    bm_model_close(b->model);
    bm_team_free(b->team);
}

static int make_lane(bench *b, bench_lane *l, bm_error *err)
{
    if ((l->tokens = bm_calloc((size_t)(b->o->depth + b->o->prompt + 1), sizeof *l->tokens)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the tokens");
    for (int g = 0; g < b->info->n_groups; g++) {
        if ((l->pages[g] = bm_calloc((size_t)b->n_pages, sizeof(void *))) == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for the page tables");
        for (int p = 0; p < b->n_pages; p++)
            if ((l->pages[g][p] = bm_alloc_aligned(b->info->groups[g].page_bytes, 64)) == NULL)
                return bm_fail(err, BM_NOMEM, "no memory for the KV of %" PRId64 " sequences", b->o->parallel);
        l->kv.pages[g] = l->pages[g];
    }
    return 0;
}

static int check_fit(const bench *b, const bm_model_info *info, bm_error *err)
{
    int64_t need = b->o->depth + b->o->prompt + b->o->gen;
    uint64_t kv = 0, pages = (uint64_t)(need + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS;
    char weights[24], text[24], available[24];

    if (need > info->n_ctx_train)
        return bm_fail(err, BM_CONTEXT, "%s: depth + prompt + gen is %" PRId64 " tokens; the model's context is %d", b->name, need,
                       info->n_ctx_train);
    for (int g = 0; g < info->n_groups; g++)
        kv += pages * info->groups[g].page_bytes * (uint64_t)b->o->parallel;
    if (info->packed_bytes + kv < b->cpu.memory_available_bytes)
        return 0;
    cli_size_text(weights, info->packed_bytes);
    cli_size_text(text, kv);
    cli_size_text(available, b->cpu.memory_available_bytes);
    return bm_fail(err, BM_NOMEM, "%s needs %s of weights + %s of KV; %s are available", b->name, weights, text, available);
}

/* What bounds it from below: bytes for decoding, operations for prefill. Of an embedding that is no head a row is read. */
static void note_limits(bench *b, const bm_gguf *gguf, const bm_model_info *plan)
{
    const bm_gguf_tensor *embd = bm_gguf_find_tensor(gguf, "token_embd.weight");
    bool tied = bm_gguf_find_tensor(gguf, "output.weight") == NULL;
    uint64_t n = (uint64_t)plan->n_vocab * (uint64_t)plan->d_model * (tied ? 1 : 2);

    b->step_bytes = plan->packed_bytes - (tied || embd == NULL || embd->len_bytes > plan->packed_bytes ? 0 : embd->len_bytes);
    b->head_ops = 2 * (double)plan->n_vocab * plan->d_model;
    b->token_ops = 2 * (double)(plan->n_params > n ? plan->n_params - n : 0);
}

static uint64_t kv_token_bytes(const bm_model_info *info)
{
    uint64_t bytes = 0;

    for (int g = 0; g < info->n_groups; g++)
        bytes += info->groups[g].page_bytes / BM_PAGE_TOKENS;
    return bytes;
}

static int open_model(bench *b, const char *path, bm_error *err)
{
    bm_model_options options = { .isa = b->isa };
    int n_threads = b->o->threads > 0 ? (int)b->o->threads : b->cpu.n_threads_default;
    bm_model_info plan = { 0 };
    bm_gguf *gguf;
    int rc;

    if (bm_kv_type_find(&options.kv_type, b->o->kv_type, err) < 0)
        return bm_param(err, "--kv-type");
    if ((rc = bm_gguf_open(&gguf, path, err)) < 0)
        return rc;
    if ((rc = bm_model_plan(&plan, gguf, &options, err)) == 0 && (rc = check_fit(b, &plan, err)) == 0 &&
        (rc = bm_team_new(&b->team, n_threads, err)) == 0)
        rc = cli_model_open(&b->model, gguf, &options, b->is_known ? &b->known : NULL, b->o->no_pack, b->team, err);
    b->n_workers = b->o->scaling ? bench_scaling_threads(n_threads) : n_threads;
    note_limits(b, gguf, &plan);
    bm_gguf_close(gguf);
    if (rc < 0 || (rc = bm_step_new(&b->step, b->model, BENCH_STEP_TOKENS, b->n_workers, err)) < 0)
        return rc;
    b->info = bm_model_get_info(b->model);
    b->n_pages = (int)((b->o->depth + b->o->prompt + b->o->gen + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS) + 1;
    b->lanes = bm_calloc((size_t)b->o->parallel, sizeof *b->lanes);
    b->samplers = bm_calloc((size_t)b->n_workers, sizeof *b->samplers);
    b->logits = bm_alloc_aligned((size_t)BM_LOGIT_ROWS * (size_t)b->info->n_vocab * sizeof(float), 64);
    if (b->lanes == NULL || b->samplers == NULL || b->logits == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %" PRId64 " sequences", b->o->parallel);
    for (int i = 0; i < b->n_workers; i++)
        if ((rc = bm_sampler_init(&b->samplers[i], bm_kernels_get(b->isa), b->info->n_vocab, err)) < 0)
            return rc;
    for (int i = 0; i < b->o->parallel; i++)
        if ((rc = make_lane(b, &b->lanes[i], err)) < 0)
            return rc;
    return b->o->adapters > 0 ? bench_adapters_make(b, err) : 0;
}

/* ---- results ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

typedef struct spread { double median, min, max; } spread;

static spread spread_of(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return (spread){ n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2, values[0], values[n - 1] };
}

static double rounded(double x) { return (double)(int64_t)(x * 100 + 0.5) / 100; }

static void add_spread(json_t *json, const char *what, spread s)
{
    char key[48];

    snprintf(key, sizeof key, "%s_tok_s", what);
    json_object_set_new(json, key, json_real(rounded(s.median)));
    snprintf(key, sizeof key, "%s_tok_s_min", what);
    json_object_set_new(json, key, json_real(rounded(s.min)));
    snprintf(key, sizeof key, "%s_tok_s_max", what);
    json_object_set_new(json, key, json_real(rounded(s.max)));
}

static void add_base(json_t *json, bench *b, spread pre, spread dec)
{
    int n = (int)b->o->repeat;
    spread base_pre = spread_of(b->base_prefill, n), base_dec = spread_of(b->base_decode, n);

    json_object_set_new(json, "adapters", json_integer((json_int_t)b->o->adapters));
    json_object_set_new(json, "adapter_bytes", json_integer((json_int_t)bm_adapter_bytes(b->adapters[0])));
    if (b->o->prompt > 0) {
        add_spread(json, "base_prefill", base_pre);
        json_object_set_new(json, "prefill_of_base", json_real(rounded(pre.median / base_pre.median)));
    }
    if (b->o->gen > 0) {
        add_spread(json, "base_decode", base_dec);
        json_object_set_new(json, "decode_of_base", json_real(rounded(dec.median / base_dec.median)));
    }
}

static json_t *result_json(bench *b, spread pre, spread dec)
{
    const bench_settings *o = b->o;
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "model", b->name, "sha256",
                             b->sha256, "arch", b->info->arch, "quantization", b->info->quantization, "params",
                             (json_int_t)b->info->n_params, "version", BM_VERSION, "cpu", b->cpu.model, "isa",
                             bm_isa_name(b->isa), "threads", bm_team_size(b->team), "prompt", (json_int_t)o->prompt, "gen",
                             (json_int_t)o->gen, "depth", (json_int_t)o->depth, "parallel", (json_int_t)o->parallel, "repeat",
                             (json_int_t)o->repeat);
    json_object_set_new(json, "kv_type", json_string(o->kv_type));

    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, b->hash);
    json_object_set_new(json, "tokens_hash", json_string(hash));
    json_object_set_new(json, "step_bytes", json_integer((json_int_t)b->step_bytes));
    json_object_set_new(json, "kv_token_bytes", json_integer((json_int_t)kv_token_bytes(b->info)));
    json_object_set_new(json, "token_ops", json_real(b->token_ops));
    json_object_set_new(json, "head_ops", json_real(b->head_ops));
    if (o->prompt > 0)
        add_spread(json, "prefill", pre);
    if (o->gen > 0)
        add_spread(json, "decode", dec);
    if (b->adapters != NULL)
        add_base(json, b, pre, dec);
    return json;
}

static void print_row(const char *what, int64_t n, const bench_settings *o, spread s)
{
    printf("%-8s %6" PRId64 " %9" PRId64 " %9" PRId64 " %12.1f %14.1f - %.1f\n", what, n, o->depth, o->parallel, s.median, s.min, s.max);
}

static int report(bench *b)
{
    int n = (int)b->o->repeat;
    spread pre = spread_of(b->prefill, n), dec = spread_of(b->decode, n);

    if (b->o->json)
        return cli_print_json(result_json(b, pre, dec));
    cli_print_safe(b->name);
    printf(" (%s), %d threads, %s, %s\n", b->info->quantization, bm_team_size(b->team), bm_isa_name(b->isa), b->cpu.model);
    printf("%-8s %6s %9s %9s %12s %20s\n", "", "tokens", "depth", "parallel", "tok/s", "lowest - highest");
    if (b->o->prompt > 0)
        print_row("prefill", b->o->prompt, b->o, pre);
    if (b->o->gen > 0)
        print_row("decode", b->o->gen, b->o, dec);
    if (b->adapters != NULL && b->o->prompt > 0)
        print_row("  base", b->o->prompt, b->o, spread_of(b->base_prefill, n));
    if (b->adapters != NULL && b->o->gen > 0)
        print_row("  base", b->o->gen, b->o, spread_of(b->base_decode, n));
    return 0;
}

static int resolve(bench *b, const char *model, char path[4096], bm_error *err)
{
    bm_shelf_model *row = bm_zalloc(sizeof *row);
    bm_store *store = NULL;
    int rc;

    if (row == NULL)
        return bm_fail(err, BM_NOMEM, "no memory");
    if ((rc = cli_open_store(&store, err)) == 0 && (rc = bm_shelf_resolve(store, model, row, err)) == 0) {
        snprintf(path, 4096, "%s", row->path);
        snprintf(b->name, sizeof b->name, "%s", row->name);
        snprintf(b->sha256, sizeof b->sha256, "%s", row->sha256);
        b->is_known = bm_shelf_known(row, &b->known);
    }
    bm_store_close(store);
    bm_free(row);
    return rc;
}

static int bench_model(const char *model, const bench_settings *o, bm_error *err)
{
    bench *b = bm_zalloc(sizeof *b);
    char path[4096];
    int rc;

    if (b == NULL)
        return bm_fail(err, BM_NOMEM, "no memory");
    b->o = o;
    bm_cpu_detect(&b->cpu);
    if ((rc = bm_isa_choose(&b->isa, &b->cpu, err)) == 0 && (rc = resolve(b, model, path, err)) == 0 &&
        (rc = open_model(b, path, err)) == 0)
        rc = warm_up(b, err);
    if (rc == 0 && o->scaling)
        rc = bench_scaling(b, err);
    for (int i = 0; i < o->repeat && rc == 0 && !o->scaling; i++)
        rc = run_pair(b, i, err);
    if (rc == 0 && !o->scaling)
        rc = report(b);
    bench_done(b);
    bm_free(b);
    return rc;
}

/* ---- the machine ---- */

static int bench_machine(const bench_settings *o, bm_error *err)
{
    bm_machine m;
    bm_team *team;
    bm_cpu cpu;
    bm_isa isa;
    int rc;

    bm_cpu_detect(&cpu);
    if ((rc = bm_isa_choose(&isa, &cpu, err)) < 0 ||
        (rc = bm_team_new(&team, o->threads > 0 ? (int)o->threads : cpu.n_threads_default, err)) < 0)
        return rc;
    rc = bm_machine_measure(&m, &cpu, team, err);
    bm_team_free(team);
    if (rc < 0)
        return rc;
    if (o->json)
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f}", "version", BM_VERSION, "cpu", cpu.model, "isa",
                                        bm_isa_name(isa), "threads", m.n_threads, "read_gb_s", rounded(m.read_gb_s), "int8_gops",
                                        rounded(m.int8_gops), "bf16_gflops", rounded(m.bf16_gflops), "fp32_gflops",
                                        rounded(m.fp32_gflops)));
    printf("%s, %d threads\n", cpu.model, m.n_threads);
    printf("read bandwidth %8.1f GB/s\n", m.read_gb_s);
    printf("int8           %8.0f GOPS\n", m.int8_gops);
    printf("bf16           %8.0f GFLOPS\n", m.bf16_gflops);
    printf("fp32           %8.0f GFLOPS\n", m.fp32_gflops);
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    bench_settings o = { .prompt = 512, .gen = 128, .parallel = 1, .repeat = 5, .kv_type = "int16" };
    const cli_option table[] = {
        { "prompt", "-p", CLI_INT, &o.prompt, 0, 1 << 20, "N", "tokens of each prompt (default 512; 0: decode only)" },
        { "gen", "-n", CLI_INT, &o.gen, 0, 1 << 20, "N", "tokens to generate per sequence (default 128)" },
        { "depth", "-d", CLI_INT, &o.depth, 0, 1 << 20, "N", "tokens already in the KV before anything is timed (default 0)" },
        { "parallel", "-np", CLI_INT, &o.parallel, 1, BENCH_MAX_PARALLEL, "N", "sequences at once (default 1)" },
        { "kv-type", NULL, CLI_STR, &o.kv_type, 0, 0, "TYPE", "of the KV cache: int16 (default), int8 or f16" },
        { "threads", "-t", CLI_INT, &o.threads, 0, 1024, "N", "threads (default 0: what the machine allows)" },
        { "repeat", "-r", CLI_INT, &o.repeat, 1, BENCH_MAX_REPEAT, "R", "runs; the median and the spread are given (default 5)" },
        { "machine", NULL, CLI_FLAG, &o.machine, 0, 0, NULL, "the machine instead of a model: bandwidth, int8, bf16 and fp32 peaks" },
        { "scaling", NULL, CLI_FLAG, &o.scaling, 0, 0, NULL, "instead of speeds: barriers, serial share and balance of a step, by number of\n"
          "threads" },
        { "adapters", NULL, CLI_INT, &o.adapters, 0, BENCH_MAX_PARALLEL, "N", "the sequences take N adapters of rank 16 on all linear maps in turn, and the\n"
          "base alone is measured beside them" },
        { "no-pack", NULL, CLI_FLAG, &o.no_pack, 0, 0, NULL, CLI_NO_PACK_HELP },
        { "json", NULL, CLI_FLAG, &o.json, 0, 0, NULL, "one JSON object a line" },
        { 0 },
    };
    const cli_command command = {
        "bench", "[MODEL]", "Speed of prefill and decode in tokens per second, of all sequences together.",
        "baimo bench smollm2 -p 512 -n 128 -np 4 --json\nbaimo bench smollm2 -p 0 -np 16 --adapters 8\nbaimo bench smollm2 --scaling\nbaimo bench --machine", table,
    };
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&command, argc, argv, &n)) != 0)
        return rc - 1;
    if (o.machine && o.scaling)
        return cli_usage_error("bench", "--machine and --scaling are two measurements: give one");
    if (n > 1 || (o.machine && n > 0))
        return cli_usage_error("bench", o.machine ? "--machine takes no MODEL" : "takes one MODEL, got %d arguments", n);
    if (o.adapters > 0 && o.scaling)
        return cli_usage_error("bench", "--adapters and --scaling are two measurements: give one");
    if (o.scaling)
        o = bench_scaling_room(&o);
    if (o.prompt + o.gen == 0)
        return cli_usage_error("bench", "--prompt and --gen are both 0: nothing to measure");
    rc = o.machine ? bench_machine(&o, &err) : bench_model(n == 1 ? argv[0] : NULL, &o, &err);
    return rc < 0 ? cli_fail(&err) : rc;
}
