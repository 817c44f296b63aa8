/* machine.c - bandwidth and peaks, measured with the thread team. Holds a buffer of at most a quarter of the free memory. */
#include "compute/machine.h"
#include "compute/machine_peaks.h"
#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

enum { RUNS = 5, SLICE = 1 << 20 };
#define MAX_BUFFER ((size_t)1 << 30)     /* above the last-level cache of most machines */

typedef unsigned long long vec __attribute__((vector_size(16), may_alias));

typedef struct peak_job {
    double (*loop)(long rounds);
    long rounds;
    double ops;                  /* of all workers of a run */
    const unsigned char *data;
    size_t len_bytes;
} peak_job;

static void run_peak(bm_worker *w, void *arg)
{
    peak_job *j = arg;
    double ops = j->loop(j->rounds);

    if (w->id == 0)
        j->ops = ops * w->n;
}

static void run_read(bm_worker *w, void *arg)
{
    const peak_job *j = arg;
    size_t begin, end;

    while (bm_worker_claim(w, j->len_bytes / SLICE, 1, &begin, &end)) {
        const vec *p = (const vec *)(const void *)(j->data + begin * SLICE);
        vec a = { 0 }, b = a, c = a, d = a;
        for (size_t i = 0; i < SLICE / sizeof *p; i += 4)
            a += p[i], b += p[i + 1], c += p[i + 2], d += p[i + 3];
        a += b + c + d;
        __asm__ volatile("" : : "m"(a));
    }
}

static double seconds_of(bm_team *team, void (*fn)(bm_worker *, void *), peak_job *j)
{
    int64_t begin = bm_now_ns();

    bm_team_run(team, fn, j);
    return (double)(bm_now_ns() - begin) * 1e-9;
}

/* Giga-operations a second of all threads: the best run, each counted with the workers that it had. */
static double peak(bm_team *team, double (*loop)(long rounds))
{
    peak_job j = { .loop = loop, .rounds = 2000000 };
    double best = 0;

    for (int i = 0; i < RUNS; i++) {
        double s = seconds_of(team, run_peak, &j);
        best = j.ops / s > best ? j.ops / s : best;
    }
    return best * 1e-9;
}

/* Twelve chains of scalar multiply and add: what a CPU without our tables has. */
static double scalar_loop(long rounds)
{
    volatile float half = 0.5f;
    float a = half, b = half, c[BM_PEAK_CHAINS] = { 0 };

    for (long n = 0; n < rounds; n++)
        for (int i = 0; i < BM_PEAK_CHAINS; i++)
            c[i] = c[i] * a + b;
    for (int i = 0; i < BM_PEAK_CHAINS; i++)
        half = c[i];
    return (double)rounds * BM_PEAK_CHAINS * 2;
}

int bm_machine_measure(bm_machine *out, const bm_cpu *cpu, bm_team *team, bm_error *err)
{
    double (*fp32)(long) = scalar_loop, (*int8)(long) = scalar_loop, (*bf16)(long) = NULL;
    size_t len = MAX_BUFFER;
    unsigned char *data;

    memset(out, 0, sizeof *out);
    out->n_threads = bm_team_size(team);
#if defined(__x86_64__)
    if (cpu->avx2_fma_f16c)
        fp32 = bm_peak_fp32_avx2, int8 = bm_peak_int8_avx2;
    if (cpu->avxvnni)
        int8 = bm_peak_int8_avxvnni;
    if (cpu->avx512vnni)
        fp32 = bm_peak_fp32_avx512, int8 = bm_peak_int8_avx512;
    if (cpu->avx512bf16)
        bf16 = bm_peak_bf16_avx512bf16;
#endif
    out->fp32_gflops = peak(team, fp32);
    out->int8_gops = peak(team, int8);
    out->bf16_gflops = bf16 != NULL ? peak(team, bf16) : out->fp32_gflops;
    while (len > cpu->memory_available_bytes / 4 && len > 16 * SLICE)
        len /= 2;
    if ((data = bm_alloc_aligned(len, 64)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a buffer of %zu bytes to read", len);
    memset(data, 1, len);
    peak_job j = { .data = data, .len_bytes = len };
    for (int i = 0; i < RUNS; i++) {
        double gb_s = (double)len / seconds_of(team, run_read, &j) * 1e-9;
        out->read_gb_s = gb_s > out->read_gb_s ? gb_s : out->read_gb_s;
    }
    bm_free(data);
    return 0;
}
