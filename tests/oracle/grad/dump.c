/* dump.c - gradients of a real model for check_peft.py: dump MODEL.gguf f32|fast RANK ALPHA IDS VALUES GRADIENT. IDS holds int32
 * tokens of one segment, VALUES f32 A and B of each map, layer by layer; GRADIENT gets those of the mean loss, then each nll. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute/cpu.h"
#include "model/pass.h"

static bm_error err;

static void need(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "dump: %s\n", err.msg);
        exit(1);
    }
}

static void *read_all(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    void *p = NULL;

    if (!f || fseek(f, 0, SEEK_END) != 0 || !(p = malloc((size_t)ftell(f)))) {
        fprintf(stderr, "dump: %s cannot be read\n", path);
        exit(1);
    }
    *len = (size_t)ftell(f);
    rewind(f);
    if (fread(p, 1, *len, f) != *len)
        exit(1);
    fclose(f);
    return p;
}

int main(int argc, char **argv)
{
    bm_team *team;
    bm_gguf *gguf;
    bm_model *model;
    bm_trainable *adapter;
    bm_pass *pass;
    bm_cpu cpu;
    bm_model_options options = { .kv_type = BM_KV_INT16 };
    size_t len, n_values;
    int32_t start = 0;
    FILE *out;

    if (argc != 8) {
        fprintf(stderr, "usage: dump MODEL.gguf f32|fast RANK ALPHA IDS VALUES GRADIENT\n");
        return 2;
    }
    options.f32 = strcmp(argv[2], "f32") == 0;
    bm_cpu_detect(&cpu);
    need(bm_isa_choose(&options.isa, &cpu, &err));
    need(bm_team_new(&team, 2, &err));
    need(bm_gguf_open(&gguf, argv[1], &err));
    need(bm_model_open(&model, gguf, &options, team, &err));
    need(bm_trainable_new(&adapter, model, &(bm_trainable_options){ .rank = atoi(argv[3]), .alpha = (float)atof(argv[4]) }, &err));
    int32_t *ids = read_all(argv[5], &len);
    int n = (int)(len / 4);
    float *values = read_all(argv[6], &n_values), *coef = calloc((size_t)n, sizeof *coef);
    if (n_values != 4 * bm_trainable_n(adapter)) {
        fprintf(stderr, "dump: %zu values, expected %zu\n", n_values / 4, bm_trainable_n(adapter));
        return 1;
    }
    memcpy(bm_trainable_values(adapter), values, n_values);
    uint8_t *target = calloc((size_t)n, 1);
    double *nll = calloc((size_t)n, sizeof *nll);
    for (int t = 1; t < n; t++)
        target[t] = 1, coef[t] = 1.0f / (float)(n - 1);
    need(bm_pass_new(&pass, model, &(bm_pass_options){ .max_tokens = n, .n_threads = 2, .max_rank = atoi(argv[3]) }, &err));
    bm_train_row row = { .tokens = ids, .n_tokens = n, .starts = &start, .n_segments = 1, .target = target };
    need(bm_pass_forward(pass, team, adapter, &row, BM_PASS_KEEP | BM_PASS_FINE, nll, &err));
    need(bm_pass_backward(pass, team, adapter, coef, &err));
    if (!(out = fopen(argv[7], "wb")) || fwrite(bm_trainable_grads(adapter), 4, bm_trainable_n(adapter), out) != bm_trainable_n(adapter) ||
        fwrite(nll, 8, (size_t)n, out) != (size_t)n || fclose(out) != 0)
        return 1;
    bm_pass_free(pass);
    bm_trainable_free(adapter);
    bm_model_close(model);
    bm_gguf_close(gguf);
    bm_team_free(team);
    return 0;
}
