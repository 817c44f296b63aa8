/* cpu.c - instruction sets by CPUID and XGETBV; CPUs, quota and memory by /proc, /sys and cgroups v1 and v2.
 * Every file may be missing: then the next best answer holds, and in the end one thread. Nothing here is cached. */
#define _GNU_SOURCE
#include "compute/cpu.h"
#include "compute/cpu_probe.h"
#include "base/number.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { MAX_CPUS = 4096, PATH_BYTES = 4096, TEXT_BYTES = 65536 };

#if defined(__x86_64__)
static uint64_t read_xcr0(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool bit(uint32_t word, int i) { return (word >> i & 1) != 0; }

static void detect_isa(bm_cpu *cpu)
{
    uint32_t a, b, c, d, c1, leaves, brand[12];
    uint64_t xcr0;
    bool ymm, zmm, tiles, has512;

    if ((uint32_t)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
        for (uint32_t i = 0; i < 3; i++)
            __cpuid(0x80000002u + i, brand[4 * i], brand[4 * i + 1], brand[4 * i + 2], brand[4 * i + 3]);
        snprintf(cpu->model, sizeof cpu->model, "%.48s", (const char *)brand);
    }
    leaves = (uint32_t)__get_cpuid_max(0, NULL);
    __cpuid(1, a, b, c1, d);
    if (leaves < 7 || !bit(c1, 27))
        return;
    xcr0 = read_xcr0();
    ymm = (xcr0 & 0x06) == 0x06;
    zmm = (xcr0 & 0xE6) == 0xE6;
    tiles = (xcr0 & 0x60000) == 0x60000;
    __cpuid_count(7, 0, a, b, c, d);
    leaves = a;
    cpu->avx2_fma_f16c = ymm && bit(c1, 28) && bit(c1, 12) && bit(c1, 29) && bit(b, 5);
    has512 = zmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
    cpu->avx512 = has512 && cpu->avx2_fma_f16c;
    cpu->avx512vnni = cpu->avx512 && bit(c, 11);
    cpu->amx_bf16 = tiles && bit(d, 24) && bit(d, 22);
    cpu->amx_int8 = tiles && bit(d, 24) && bit(d, 25);
    if (leaves >= 1) {
        __cpuid_count(7, 1, a, b, c, d);
        cpu->avxvnni = cpu->avx2_fma_f16c && bit(a, 4);
        cpu->avx512bf16 = cpu->avx512vnni && bit(a, 5);
    }
}
#else
static void detect_isa(bm_cpu *cpu) { (void)cpu; }
#endif

/* The file root/path as a string in text[TEXT_BYTES]; false when it cannot be read. */
static bool read_text(const char *root, const char *path, char *text)
{
    char full[2 * PATH_BYTES];
    FILE *f;
    size_t n;

    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full || (f = fopen(full, "re")) == NULL)
        return false;
    n = fread(text, 1, TEXT_BYTES - 1, f);
    text[n] = '\0';
    fclose(f);
    return n != 0;
}

/* "0-3,8" into set[MAX_CPUS]; the number of members. */
static int parse_cpu_list(const char *s, bool *set)
{
    int n = 0;

    memset(set, 0, MAX_CPUS * sizeof *set);
    while (*s >= '0' && *s <= '9') {
        char *end;
        long from = strtol(s, &end, 10), to = from;
        if (*end == '-')
            to = strtol(end + 1, &end, 10);
        for (long i = from; i <= to && i < MAX_CPUS; i++)
            n += !set[i], set[i] = true;
        s = *end == ',' ? end + 1 : end;
    }
    return n;
}

static int allowed_cpus(const char *root, char *text, bool *set)
{
    static const char key[] = "\nCpus_allowed_list:\t";
    const char *line;
    int n = 0;

    if (read_text(root, "/proc/self/status", text) && (line = strstr(text, key)) != NULL)
        n = parse_cpu_list(line + sizeof key - 1, set);
    if (n == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        memset(set, 0, MAX_CPUS * sizeof *set);
        for (n = 0; n < online && n < MAX_CPUS; n++)
            set[n] = true;
    }
    return n > 0 ? n : 1;
}

/* Cores among the allowed CPUs: those without a smaller allowed sibling. */
static int count_cores(const char *root, char *text, const bool *allowed, int n_logical)
{
    bool siblings[MAX_CPUS];
    int n = 0;

    for (int i = 0; i < MAX_CPUS; i++) {
        char path[128];
        bool first = true;
        if (!allowed[i])
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i);
        if (read_text(root, path, text) && parse_cpu_list(text, siblings) > 0)
            for (int j = 0; j < i; j++)
                first = first && !(siblings[j] && allowed[j]);
        n += first;
    }
    return n > 0 ? n : n_logical;
}

/* What the walk over one hierarchy's ancestors collects: the tightest of each. */
typedef struct limits {
    double quota_cpus;           /* 0: none */
    uint64_t memory, memory_left;    /* UINT64_MAX: none */
} limits;

static bool read_u64(const char *root, const char *dir, const char *name, char *text, uint64_t *out)
{
    char path[PATH_BYTES + 64];
    int64_t v;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!read_text(root, path, text))
        return false;
    text[strcspn(text, " \n")] = '\0';
    if (!bm_parse_int(text, 0, INT64_MAX, &v))           /* "max", -1: no limit */
        return false;
    *out = (uint64_t)v;
    return true;
}

static void tighten_quota(limits *lim, double quota, double period)
{
    if (quota > 0 && period > 0 && (lim->quota_cpus == 0 || quota / period < lim->quota_cpus))
        lim->quota_cpus = quota / period;
}

/* The page cache that the kernel would drop first counts as free. */
static uint64_t inactive_file(const char *root, const char *dir, const char *key, char *text)
{
    char path[PATH_BYTES + 64];
    const char *p;

    snprintf(path, sizeof path, "%s/memory.stat", dir);
    if (!read_text(root, path, text) || (p = strstr(text, key)) == NULL)
        return 0;
    return strtoull(p + strlen(key), NULL, 10);
}

static void tighten_memory(limits *lim, uint64_t limit, uint64_t used, uint64_t cache)
{
    uint64_t busy = used > cache ? used - cache : 0, left = limit > busy ? limit - busy : 0;

    lim->memory = limit < lim->memory ? limit : lim->memory;
    lim->memory_left = left < lim->memory_left ? left : lim->memory_left;
}

static void read_group(const char *root, const char *dir, bool v2, char *text, limits *lim)
{
    char path[PATH_BYTES + 64];
    uint64_t limit, used = 0, quota, period;

    if (v2) {
        snprintf(path, sizeof path, "%s/cpu.max", dir);
        if (read_text(root, path, text)) {
            char *end;
            double q = strtod(text, &end);
            tighten_quota(lim, end == text ? 0 : q, strtod(end, NULL));
        }
        if (read_u64(root, dir, "memory.max", text, &limit)) {
            read_u64(root, dir, "memory.current", text, &used);
            tighten_memory(lim, limit, used, inactive_file(root, dir, "inactive_file ", text));
        }
        return;
    }
    if (read_u64(root, dir, "cpu.cfs_quota_us", text, &quota) && read_u64(root, dir, "cpu.cfs_period_us", text, &period))
        tighten_quota(lim, (double)quota, (double)period);
    if (read_u64(root, dir, "memory.limit_in_bytes", text, &limit)) {
        read_u64(root, dir, "memory.usage_in_bytes", text, &used);
        tighten_memory(lim, limit, used, inactive_file(root, dir, "total_inactive_file ", text));
    }
}

/* From the group's own directory up to the mount point: a limit of any ancestor holds. */
static void walk_up(const char *root, const char *mount, const char *group, bool v2, char *text, limits *lim)
{
    char dir[PATH_BYTES];
    size_t base = strlen(mount);
    char *slash;

    if (snprintf(dir, sizeof dir, "%s%s", mount, strcmp(group, "/") == 0 ? "" : group) >= (int)sizeof dir)
        return;
    for (;;) {
        read_group(root, dir, v2, text, lim);
        if (strlen(dir) <= base || (slash = strrchr(dir, '/')) == NULL || slash < dir + base)
            return;
        *slash = '\0';
    }
}

/* True when the comma-separated list has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0' || p[n] == ' ' || p[n] == '\n'))
            return true;
    return false;
}

/* The path of this process's group in the hierarchy of `controller` (v2: NULL) from the text of /proc/self/cgroup. */
static bool group_path(const char *cgroup, const char *controller, char *out)
{
    for (const char *line = cgroup; line != NULL && *line != '\0';) {
        const char *names = strchr(line, ':'), *path = names != NULL ? strchr(names + 1, ':') : NULL, *end = strchr(line, '\n');
        if (path != NULL && (end == NULL || path < end)) {
            char list[256];
            snprintf(list, sizeof list, "%.*s", (int)(path - names - 1), names + 1);
            if (controller == NULL ? list[0] == '\0' : has_word(list, controller)) {
                snprintf(out, PATH_BYTES, "%.*s", end != NULL ? (int)(end - path - 1) : (int)strlen(path + 1), path + 1);
                return true;
            }
        }
        line = end != NULL ? end + 1 : NULL;
    }
    return false;
}

/* One line of mountinfo: "id parent dev root mountpoint options ... - type source superoptions". */
static void read_mount(const char *root, char *line, const char *cgroup, char *text, limits *lim)
{
    static const char *const controllers[] = { "cpu", "memory" };
    char at[PATH_BYTES], of[PATH_BYTES], group[PATH_BYTES], type[32] = "", options[512] = "";
    const char *tail = strstr(line, " - ");
    size_t n;

    if (tail == NULL || sscanf(line, "%*s %*s %*s %4095s %4095s", of, at) != 2 ||
        sscanf(tail, " - %31s %*s %511s", type, options) < 1)
        return;
    for (int i = 0; i < 2; i++) {
        bool v2 = strcmp(type, "cgroup2") == 0;
        const char *rest = group;
        if (!v2 && (strcmp(type, "cgroup") != 0 || !has_word(options, controllers[i])))
            continue;
        if (!group_path(cgroup, v2 ? NULL : controllers[i], group))
            continue;
        n = strlen(of);
        if (strcmp(of, "/") != 0)                        /* a container sees its own group as the mount's root */
            rest = strncmp(group, of, n) == 0 ? group + n : "/";
        walk_up(root, at, *rest != '\0' ? rest : "/", v2, text, lim);
        if (v2)
            return;
    }
}

static void read_limits(const char *root, char *text, limits *lim)
{
    char *cgroup = malloc(TEXT_BYTES), *mounts = malloc(TEXT_BYTES), *save = NULL;

    if (cgroup != NULL && mounts != NULL && read_text(root, "/proc/self/cgroup", cgroup) &&
        read_text(root, "/proc/self/mountinfo", mounts))
        for (char *line = strtok_r(mounts, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
            read_mount(root, line, cgroup, text, lim);
    free(cgroup);
    free(mounts);
}

static uint64_t meminfo(const char *text, const char *key)
{
    const char *p = strstr(text, key);

    return p != NULL ? strtoull(p + strlen(key), NULL, 10) * 1024 : 0;
}

void bm_cpu_detect_at(bm_cpu *cpu, const char *root)
{
    limits lim = { 0, UINT64_MAX, UINT64_MAX };
    bool allowed[MAX_CPUS] = { false };
    char *text = malloc(TEXT_BYTES);

    memset(cpu, 0, sizeof *cpu);
    detect_isa(cpu);
    cpu->n_logical = cpu->n_physical = cpu->n_threads_default = 1;
    if (text == NULL)
        return;
    cpu->n_logical = allowed_cpus(root, text, allowed);
    cpu->n_physical = count_cores(root, text, allowed, cpu->n_logical);
    if (read_text(root, "/proc/meminfo", text)) {
        cpu->memory_bytes = meminfo(text, "MemTotal:");
        cpu->memory_available_bytes = meminfo(text, "MemAvailable:");
    }
    read_limits(root, text, &lim);
    free(text);
    cpu->quota_cpus = lim.quota_cpus;
    if (lim.memory < cpu->memory_bytes)
        cpu->memory_bytes = lim.memory;
    if (lim.memory_left < cpu->memory_available_bytes)
        cpu->memory_available_bytes = lim.memory_left;
    cpu->n_threads_default = cpu->n_physical;
    if (cpu->quota_cpus > 0 && floor(cpu->quota_cpus) < cpu->n_physical)
        cpu->n_threads_default = cpu->quota_cpus >= 1 ? (int)cpu->quota_cpus : 1;
}

void bm_cpu_detect(bm_cpu *cpu) { bm_cpu_detect_at(cpu, ""); }

static const char *const isa_names[BM_ISA_COUNT] = { "ref", "avx2", "avxvnni", "avx512", "avx512bf16" };

const char *bm_isa_name(bm_isa isa) { return (unsigned)isa < BM_ISA_COUNT ? isa_names[isa] : "?"; }

bool bm_isa_usable(const bm_cpu *cpu, bm_isa isa)
{
    switch (isa) {
    case BM_ISA_REF: return true;
    case BM_ISA_AVX2: return cpu->avx2_fma_f16c;
    case BM_ISA_AVXVNNI: return cpu->avxvnni;
    case BM_ISA_AVX512: return cpu->avx512vnni;
    case BM_ISA_AVX512BF16: return cpu->avx512bf16;
    default: return false;
    }
}

int bm_isa_choose(bm_isa *out, const bm_cpu *cpu, bm_error *err)
{
    const char *name = getenv("BAIMO_CPU");
    int best = BM_ISA_REF;

    *out = BM_ISA_REF;
    for (int i = 0; i < BM_ISA_COUNT; i++)
        if (bm_isa_usable(cpu, (bm_isa)i))
            best = i;
    if (name == NULL || *name == '\0') {
        *out = (bm_isa)best;
        return 0;
    }
    for (int i = 0; i < BM_ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) != 0)
            continue;
        if (!bm_isa_usable(cpu, (bm_isa)i)) {
            bm_fail(err, BM_UNSUPPORTED, "BAIMO_CPU=%s: this CPU does not have it", name);
            return bm_hint(err, "the best that it has is BAIMO_CPU=%s", isa_names[best]), BM_UNSUPPORTED;
        }
        *out = (bm_isa)i;
        return 0;
    }
    bm_fail(err, BM_INVALID, "BAIMO_CPU=%s: unknown", name);
    return bm_hint(err, "use one of ref, avx2, avxvnni, avx512, avx512bf16, or leave it unset"), BM_INVALID;
}
