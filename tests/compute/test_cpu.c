/* test_cpu.c - detection on made-up /proc and /sys trees: quotas of every ancestor, cpusets, siblings, memory limits. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "compute/cpu.h"
#include "compute/cpu_probe.h"
#include "compute/machine.h"
#include "compute/team.h"

static char root[64];

static void put(const char *path, const char *text)
{
    char full[512], *slash;

    snprintf(full, sizeof full, "%s%s", root, path);
    slash = strrchr(full, '/');
    *slash = '\0';
    assert_int_equal(bm_make_dirs(full, NULL), 0);
    *slash = '/';
    assert_int_equal(bm_write_file(full, text, strlen(text), 0600, NULL), 0);
}

static int new_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/baimo-cpu-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int drop_root(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void put_cpus(const char *allowed, int n, int threads_per_core)
{
    char text[256], path[128];

    snprintf(text, sizeof text, "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t%s\nMems_allowed_list:\t0\n", allowed);
    put("/proc/self/status", text);
    for (int i = 0; i < n; i++) {                /* siblings i and i + cores, as Linux numbers them */
        int cores = n / threads_per_core;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i);
        if (threads_per_core == 2)
            snprintf(text, sizeof text, "%d,%d\n", i % cores, i % cores + cores);
        else
            snprintf(text, sizeof text, "%d\n", i);
        put(path, text);
    }
    put("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n");
}

static void an_empty_tree_gives_one_thread_at_least(void **state)
{
    bm_cpu cpu;

    (void)state;
    bm_cpu_detect_at(&cpu, root);
    assert_true(cpu.n_logical >= 1 && cpu.n_physical >= 1 && cpu.n_threads_default >= 1);
    assert_true(cpu.quota_cpus == 0);
}

static void siblings_count_as_one_core(void **state)
{
    bm_cpu cpu;

    (void)state;
    put_cpus("0-7", 8, 2);
    bm_cpu_detect_at(&cpu, root);
    assert_int_equal(cpu.n_logical, 8);
    assert_int_equal(cpu.n_physical, 4);
    assert_int_equal(cpu.n_threads_default, 4);
    assert_true(cpu.memory_bytes == 16000000ull * 1024 && cpu.memory_available_bytes == 8000000ull * 1024);
}

static void cpuset_limits_the_cores(void **state)
{
    bm_cpu cpu;

    (void)state;
    put_cpus("1,4-6", 8, 2);                     /* cores 1, 0 (of 4), 1 (of 5), 2 */
    bm_cpu_detect_at(&cpu, root);
    assert_int_equal(cpu.n_logical, 4);
    assert_int_equal(cpu.n_physical, 3);
}

static void v2_quota_of_the_tightest_ancestor_holds(void **state)
{
    bm_cpu cpu;

    (void)state;
    put_cpus("0-7", 8, 1);
    put("/proc/self/cgroup", "0::/system.slice/app.service/inner\n");
    put("/proc/self/mountinfo", "24 1 0:22 / /sys rw - sysfs sysfs rw\n30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/system.slice/app.service/inner/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/system.slice/app.service/cpu.max", "250000 100000\n");
    put("/sys/fs/cgroup/system.slice/cpu.max", "600000 100000\n");
    put("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
    put("/sys/fs/cgroup/system.slice/memory.current", "573741824\n");
    put("/sys/fs/cgroup/system.slice/memory.stat", "anon 5\ninactive_file 100000000\n");
    bm_cpu_detect_at(&cpu, root);
    assert_true(cpu.quota_cpus == 2.5);
    assert_int_equal(cpu.n_threads_default, 2);
    assert_true(cpu.memory_bytes == 1073741824u);
    assert_true(cpu.memory_available_bytes == 600000000u);
}

static void quota_below_one_cpu_gives_one_thread(void **state)
{
    bm_cpu cpu;

    (void)state;
    put_cpus("0-3", 4, 1);
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    bm_cpu_detect_at(&cpu, root);
    assert_true(cpu.quota_cpus == 0.5);
    assert_int_equal(cpu.n_threads_default, 1);
}

static void v1_quota_in_a_container_is_found(void **state)
{
    bm_cpu cpu;

    (void)state;
    put_cpus("0-7", 8, 1);
    put("/proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/docker/abc\n");
    put("/proc/self/mountinfo", "31 30 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
                                "32 30 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100000000\n");
    bm_cpu_detect_at(&cpu, root);
    assert_true(cpu.quota_cpus == 3);
    assert_int_equal(cpu.n_threads_default, 3);
    assert_true(cpu.memory_bytes == 2000000000u && cpu.memory_available_bytes == 1600000000u);
}

static void v1_without_a_quota_is_no_limit(void **state)
{
    bm_cpu cpu;

    (void)state;
    put_cpus("0-1", 2, 1);
    put("/proc/self/cgroup", "4:cpu,cpuacct:/\n");
    put("/proc/self/mountinfo", "31 30 0:27 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    bm_cpu_detect_at(&cpu, root);
    assert_true(cpu.quota_cpus == 0);
    assert_int_equal(cpu.n_threads_default, 2);
}

static void odd_bytes_in_the_trees_harm_nothing(void **state)
{
    bm_cpu cpu;

    (void)state;
    put("/proc/self/status", "\nCpus_allowed_list:\t0-99999999999,7-,,x\n");
    put("/proc/self/cgroup", "::::\n0\n0:\n0::\nx:cpu\n\n4:cpu:");
    put("/proc/self/mountinfo", "1 2 3\n - cgroup2\na b c d e - cgroup2 x y\n1 2 3 / /sys/fs/cgroup rw - cgroup2 c rw\n");
    put("/sys/fs/cgroup/cpu.max", "abc -1\n");
    put("/proc/meminfo", "MemTotal:");
    bm_cpu_detect_at(&cpu, root);
    assert_true(cpu.n_threads_default >= 1 && cpu.quota_cpus == 0);
}

static void baimo_cpu_names_the_table(void **state)
{
    bm_cpu cpu = { .avx2_fma_f16c = true, .avxvnni = true };
    bm_error err;
    bm_isa isa;

    (void)state;
    unsetenv("BAIMO_CPU");
    assert_int_equal(bm_isa_choose(&isa, &cpu, &err), 0);
    assert_int_equal(isa, BM_ISA_AVXVNNI);
    setenv("BAIMO_CPU", "ref", 1);
    assert_int_equal(bm_isa_choose(&isa, &cpu, &err), 0);
    assert_int_equal(isa, BM_ISA_REF);
    setenv("BAIMO_CPU", "avx512", 1);
    assert_int_equal(bm_isa_choose(&isa, &cpu, &err), BM_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "avxvnni"));
    setenv("BAIMO_CPU", "sse9", 1);
    assert_int_equal(bm_isa_choose(&isa, &cpu, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "sse9"));
    unsetenv("BAIMO_CPU");
    for (int i = 0; i < BM_ISA_COUNT; i++)
        assert_string_not_equal(bm_isa_name((bm_isa)i), "?");
    assert_string_equal(bm_isa_name((bm_isa)99), "?");
}

static void machine_figures_are_positive(void **state)
{
    bm_machine m;
    bm_team *team;
    bm_cpu cpu;

    (void)state;
    bm_cpu_detect(&cpu);
    cpu.memory_available_bytes = 64 << 20;       /* a small buffer: the test is of sense, not of speed */
    assert_int_equal(bm_team_new(&team, 2, NULL), 0);
    assert_int_equal(bm_machine_measure(&m, &cpu, team, NULL), 0);
    assert_int_equal(m.n_threads, 2);
    assert_true(m.read_gb_s > 0 && m.int8_gops > 0 && m.bf16_gflops > 0 && m.fp32_gflops > 0);
    bm_team_free(team);
}

#define ON_A_TREE(test) cmocka_unit_test_setup_teardown(test, new_root, drop_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_TREE(an_empty_tree_gives_one_thread_at_least),
        ON_A_TREE(siblings_count_as_one_core),
        ON_A_TREE(cpuset_limits_the_cores),
        ON_A_TREE(v2_quota_of_the_tightest_ancestor_holds),
        ON_A_TREE(quota_below_one_cpu_gives_one_thread),
        ON_A_TREE(v1_quota_in_a_container_is_found),
        ON_A_TREE(v1_without_a_quota_is_no_limit),
        ON_A_TREE(odd_bytes_in_the_trees_harm_nothing),
        cmocka_unit_test(baimo_cpu_names_the_table),
        cmocka_unit_test(machine_figures_are_positive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
