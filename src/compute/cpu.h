/* cpu.h - what this machine can do and how much of it this process may use. Read once; any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

typedef enum bm_isa { BM_ISA_REF, BM_ISA_AVX2, BM_ISA_AVXVNNI, BM_ISA_AVX512, BM_ISA_AVX512BF16, BM_ISA_COUNT } bm_isa;

typedef struct bm_cpu {
    char model[96];              /* "AMD EPYC ..." */
    bool avx2_fma_f16c, avxvnni, avx512, avx512vnni, avx512bf16, amx_int8, amx_bf16;    /* usable: CPUID and the OS's XCR0 */
    int n_logical;               /* allowed by the affinity mask (cpuset) */
    int n_physical;              /* cores among those */
    double quota_cpus;           /* cgroup v2 cpu.max or v1 cfs quota over all ancestors; 0: none */
    int n_threads_default;       /* min(physical, floor(quota)) and at least 1 */
    uint64_t memory_bytes;       /* of the machine, or the cgroup's limit when lower */
    uint64_t memory_available_bytes;
} bm_cpu;

void bm_cpu_detect(bm_cpu *cpu);                                   /* re-reads; cheap */
const char *bm_isa_name(bm_isa isa);                               /* "ref" "avx2" "avxvnni" "avx512" "avx512bf16" */
bool bm_isa_usable(const bm_cpu *cpu, bm_isa isa);
/* The best usable one, or what BAIMO_CPU names: an error when that is unknown or not usable here. */
int  bm_isa_choose(bm_isa *out, const bm_cpu *cpu, bm_error *err);
