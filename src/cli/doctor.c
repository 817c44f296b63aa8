/* doctor.c - `baimo doctor`: is this machine fit to serve models, and what helps. Each check gives a verdict. */
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "compute/cpu.h"
#include "platform/home.h"
#include "platform/keys.h"
#include "platform/shelf.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

typedef enum verdict { OK, WARN, FAIL } verdict;
static const char *const verdict_names[] = { "ok", "warn", "FAIL" };
static const uint64_t gib = 1ull << 30;

typedef struct report {
    bool as_json;
    json_t *checks;
    int n[3];
} report;

/* help: what the reader can do about it; NULL when there is nothing to do. */
static void say(report *r, verdict v, const char *name, const char *help, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void say(report *r, verdict v, const char *name, const char *help, const char *fmt, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->n[v]++;
    if (r->as_json) {
        json_array_append_new(r->checks, json_pack("{s:s, s:s, s:s, s:s?}", "check", name, "verdict",
                                                   v == FAIL ? "fail" : verdict_names[v], "found", text, "help", help));
        return;
    }
    printf("%-4s  %-13s ", verdict_names[v], name);
    cli_print_safe(text);
    putchar('\n');
    if (help != NULL)
        printf("      %-13s -> %s\n", "", help);
}

/* A small file of the kernel's, its end trimmed; "" when it cannot be read. */
static void read_small(const char *path, char *out, size_t room)
{
    FILE *f = fopen(path, "re");

    out[0] = '\0';
    if (f == NULL)
        return;
    out[fread(out, 1, room - 1, f)] = '\0';
    fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

/* ---- the machine ---- */

static void check_cpu(report *r, const bm_cpu *cpu)
{
    bm_buf sets = { 0 };
    bm_error err;
    bm_isa isa;

    if (cpu->avx2_fma_f16c)
        bm_buf_puts(&sets, " avx2");
    if (cpu->avxvnni)
        bm_buf_puts(&sets, " avxvnni");
    if (cpu->avx512)
        bm_buf_puts(&sets, " avx512");
    if (cpu->avx512vnni)
        bm_buf_puts(&sets, " avx512vnni");
    if (cpu->avx512bf16)
        bm_buf_puts(&sets, " avx512bf16");
    if (cpu->amx_int8)
        bm_buf_puts(&sets, " amx-int8");
    if (cpu->amx_bf16)
        bm_buf_puts(&sets, " amx-bf16");
    say(r, OK, "cpu", NULL, "%s", cpu->model[0] != '\0' ? cpu->model : "unknown");
    if (bm_isa_choose(&isa, cpu, &err) < 0)
        say(r, FAIL, "instructions", "unset BAIMO_CPU", "%s", err.msg);
    else if (isa == BM_ISA_REF)
        say(r, WARN, "instructions",
            getenv("BAIMO_CPU") != NULL ? "unset BAIMO_CPU" : "a CPU or a virtual machine type with AVX2 is many times faster",
            "no AVX2 in use:%s; kernels: ref", sets.len > 0 ? sets.data : " none");
    else
        say(r, OK, "instructions", NULL, "%s; kernels: %s", sets.len > 0 ? sets.data + 1 : "none", bm_isa_name(isa));
    bm_buf_done(&sets);
}

static void check_threads(report *r, const bm_cpu *cpu)
{
    char quota[40] = "no quota", load[64];
    double busy;

    if (cpu->quota_cpus > 0)
        snprintf(quota, sizeof quota, "a quota of %.2f CPUs", cpu->quota_cpus);
    if (cpu->quota_cpus > 0 && cpu->quota_cpus < 1)
        say(r, WARN, "threads", "give the container or service at least one whole CPU", "%s, %d cores", quota, cpu->n_physical);
    else
        say(r, OK, "threads", NULL, "%d: %d cores, %d logical CPUs allowed, %s", cpu->n_threads_default, cpu->n_physical,
            cpu->n_logical, quota);
    read_small("/proc/loadavg", load, sizeof load);
    busy = atof(load);
    if (busy > 0.5 * cpu->n_logical + 0.5)
        say(r, WARN, "load", "models share the cores with whatever else runs: top", "%.1f on %d logical CPUs", busy,
            cpu->n_logical);
    else
        say(r, OK, "load", NULL, "%.1f on %d logical CPUs", busy, cpu->n_logical);
}

static void check_memory(report *r, const bm_cpu *cpu)
{
    char all[24], left[24];
    uint64_t available = cpu->memory_available_bytes;

    cli_size_text(all, cpu->memory_bytes);
    cli_size_text(left, available);
    if (available < gib / 2)
        say(r, FAIL, "memory", "stop other programs or raise the container's limit: the smallest models need 0.5 GiB",
            "%s free of %s", left, all);
    else if (available < 2 * gib)
        say(r, WARN, "memory", "enough for models below about a billion parameters", "%s free of %s", left, all);
    else
        say(r, OK, "memory", NULL, "%s free of %s", left, all);
}

static void check_kernel(report *r)
{
    char thp[100], overcommit[16], governor[40];
    struct utsname u;

    if (uname(&u) == 0)
        say(r, OK, "system", NULL, "%s %s on %s", u.sysname, u.release, u.machine);
    read_small("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof thp);
    if (strstr(thp, "[never]") != NULL)
        say(r, WARN, "huge pages", "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            "transparent huge pages are off");
    else if (thp[0] != '\0')
        say(r, OK, "huge pages", NULL, "transparent: %s", thp);
    read_small("/proc/sys/vm/overcommit_memory", overcommit, sizeof overcommit);
    if (strcmp(overcommit, "2") == 0)
        say(r, WARN, "overcommit", "as root: sysctl vm.overcommit_memory=0",
            "strict (2): a large model may be refused though memory is free");
    else if (overcommit[0] != '\0')
        say(r, OK, "overcommit", NULL, "%s", overcommit[0] == '0' ? "heuristic (0)" : "always (1)");
    read_small("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor, sizeof governor);
    if (strcmp(governor, "powersave") == 0)
        say(r, WARN, "frequency", "as root: cpupower frequency-set -g performance", "the governor is powersave");
    else if (governor[0] != '\0')
        say(r, OK, "frequency", NULL, "the governor is %s", governor);
}

static void limit_text(char out[32], rlim_t x, bool bytes)
{
    char size[24];

    if (x == RLIM_INFINITY) {
        snprintf(out, 32, "unlimited");
    } else if (bytes) {
        cli_size_text(size, x);
        snprintf(out, 32, "%s", size);
    } else {
        snprintf(out, 32, "%llu", (unsigned long long)x);
    }
}

static void check_limits(report *r)
{
    struct rlimit files = { 0, 0 }, space = { 0, 0 }, locked = { 0, 0 };
    char text[32], hard[32];

    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_AS, &space);
    getrlimit(RLIMIT_MEMLOCK, &locked);
    limit_text(text, files.rlim_cur, false);
    limit_text(hard, files.rlim_max, false);
    if (files.rlim_cur < 1024)
        say(r, files.rlim_cur < 64 ? FAIL : WARN, "open files", "ulimit -n 4096, or LimitNOFILE=65536 in the service's unit",
            "%s, at most %s: each client takes one", text, hard);
    else
        say(r, OK, "open files", NULL, "%s, at most %s", text, hard);
    limit_text(text, space.rlim_cur, true);
    if (space.rlim_cur != RLIM_INFINITY)
        say(r, space.rlim_cur < 2 * gib ? FAIL : WARN, "address space", "ulimit -v unlimited: model files are mapped", "%s",
            text);
    else
        say(r, OK, "address space", NULL, "%s", text);
    limit_text(text, locked.rlim_cur, true);
    say(r, OK, "locked memory", NULL, "%s (baimo locks none)", text);
}

/* ---- what is ours ---- */

static void check_home(report *r, const char *home)
{
    struct statvfs fs;
    struct stat st;
    char left[24];

    if (stat(home, &st) < 0 || access(home, R_OK | W_OK | X_OK) < 0) {
        say(r, FAIL, "home", "export BAIMO_HOME=/a/directory/of/yours", "%s: %s", home, strerror(errno));
        return;
    }
    if ((st.st_mode & 077) != 0)
        say(r, WARN, "home", "chmod 700 on it: others on this machine can look in", "%s has mode %03o", home,
            (unsigned)(st.st_mode & 0777));
    else
        say(r, OK, "home", NULL, "%s", home);
    if (statvfs(home, &fs) < 0) {
        say(r, WARN, "disk", NULL, "%s: %s", home, strerror(errno));
        return;
    }
    uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    cli_size_text(left, bytes);
    if (bytes < 64u << 20)
        say(r, FAIL, "disk", "free some: the ledger cannot be written on a full disk", "%s free below %s", left, home);
    else if (bytes < 2 * gib)
        say(r, WARN, "disk", "free some before it is full: the ledger is written here", "%s free below %s", left, home);
    else
        say(r, OK, "disk", NULL, "%s free below %s", left, home);
}

static void check_shelf(report *r, bm_store *store)
{
    bm_shelf_model *rows;
    size_t n, missing = 0;
    bm_buf help = { 0 };
    bm_error err;

    if (bm_shelf_list(store, &rows, &n, &err) < 0) {
        say(r, FAIL, "shelf", NULL, "%s", err.msg);
        return;
    }
    for (size_t i = 0; i < n; i++)
        missing += rows[i].missing;
    if (n == 0)
        say(r, WARN, "shelf", "baimo shelf add FILE.gguf, or baimo shelf scan", "no model");
    else if (missing == 0)
        say(r, OK, "shelf", NULL, "%zu %s, every file in its place", n, n == 1 ? "model" : "models");
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].missing)
            continue;
        bm_buf_clear(&help);
        bm_buf_printf(&help, "put the file back, or: baimo shelf rm %s", rows[i].name);
        say(r, WARN, "shelf", help.failed ? NULL : help.data, "%s: %s is gone or has another size", rows[i].name, rows[i].path);
    }
    bm_buf_done(&help);
    bm_free(rows);
}

static void check_keys(report *r, bm_store *store)
{
    bm_error err;
    bool any;

    if (bm_key_any(store, &any, &err) < 0)
        say(r, FAIL, "keys", NULL, "%s", err.msg);
    else
        say(r, OK, "keys", NULL, "%s",
            any ? "every request needs a key" : "none: requests need no key, and serve binds to this machine only");
}

static void check_store(report *r, const char *home)
{
    bm_store *store;
    bm_error err;
    int version;

    if (bm_store_open(&store, home, &err) < 0) {
        say(r, FAIL, "store", err.hint[0] != '\0' ? err.hint : NULL, "%s", err.msg);
        return;
    }
    if (bm_store_check(store, &version, &err) < 0)
        say(r, FAIL, "store", "stop the server, keep a copy of baimo.db, then: sqlite3 baimo.db .recover", "%s", err.msg);
    else
        say(r, OK, "store", NULL, "%s/baimo.db, schema %d, every page whole", home, version);
    check_home(r, home);
    check_shelf(r, store);
    check_keys(r, store);
    bm_store_close(store);
}

static int finish(report *r)
{
    int code = r->n[FAIL] > 0 ? 1 : 0;

    if (r->as_json) {
        int rc = cli_print_json(json_pack("{s:b, s:i, s:i, s:i, s:O}", "fit", code == 0, "ok", r->n[OK], "warn", r->n[WARN],
                                          "fail", r->n[FAIL], "checks", r->checks));
        code = rc != 0 ? rc : code;
    } else {
        printf("\n%d ok, %d warnings, %d failed\n", r->n[OK], r->n[WARN], r->n[FAIL]);
    }
    json_decref(r->checks);
    return code;
}

int cmd_doctor(int argc, char **argv)
{
    report r = { .as_json = false };
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &r.as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "doctor", "[--json]",
                               "Is this machine fit to serve models: CPU, instruction sets, memory, limits, the store.\n"
                               "Exit code 1 when something fails.",
                               "baimo doctor", options };
    bm_error err;
    char *home;
    bm_cpu cpu;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    r.checks = json_array();
    bm_cpu_detect(&cpu);
    check_cpu(&r, &cpu);
    check_threads(&r, &cpu);
    check_memory(&r, &cpu);
    check_kernel(&r);
    check_limits(&r);
    if (bm_home_path(&home, &err) < 0) {
        say(&r, FAIL, "home", err.hint, "%s", err.msg);
    } else {
        check_store(&r, home);
        bm_free(home);
    }
    return finish(&r);
}
