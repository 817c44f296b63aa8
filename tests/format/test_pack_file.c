/* test_pack_file.c - pack files: what was written is mapped again, and nothing else is taken for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/pack_file.h"

enum { N = 3, SMALL = 5000, LARGE = (2 << 20) + 70000 };

static char dir[] = "/tmp/baimo-test-XXXXXX";
static char path[128];
static unsigned char data[LARGE];
static bm_pack_entry entries[N];
static bm_pack_plan plan;
static bm_sha256 key;

static void make_plan(size_t data_bytes)
{
    size_t third = data_bytes / N / 64 * 64;

    for (size_t i = 0; i < data_bytes; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    memset(entries, 0, sizeof entries);
    for (size_t i = 0; i < N; i++) {
        snprintf(entries[i].name, sizeof entries[i].name, "blk.%zu.weight", i);
        entries[i].type = (uint32_t)i;
        entries[i].n_rows = 16 + i, entries[i].n_cols = 32;
        entries[i].offset = i * third;
        entries[i].len_bytes = i + 1 < N ? third - 7 : data_bytes - i * third;
        entries[i].order = i << 32;
    }
    plan = (bm_pack_plan){ .entries = entries, .n_entries = N, .data_bytes = data_bytes };
    for (int i = 0; i < 32; i++)
        key.bytes[i] = (unsigned char)(i * 7);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/some.pack", dir);
    return 0;
}

static int remove_directory(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static int files(void)
{
    DIR *d = opendir(dir);
    int n = 0;

    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

static void write_it(void)
{
    bm_error err = { 0 };

    if (bm_pack_write(path, &plan, &key, data, NULL, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void opens_as(int rc)
{
    bm_error err = { 0 };
    bm_pack pack;

    assert_int_equal(bm_pack_open(&pack, path, &plan, &key, NULL, &err), rc);
    if (rc < 0) {
        assert_null(pack.data);
        assert_null(pack.base);
        assert_true(err.msg[0] != '\0');
    }
    bm_pack_close(&pack);
}

static void flip(off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void written_bytes_are_mapped_again(void **state)
{
    static const size_t sizes[] = { SMALL, LARGE };
    bm_error err = { 0 };
    bm_file_id id;
    bm_pack pack;

    (void)state;
    for (int i = 0; i < 2; i++) {
        make_plan(sizes[i]);
        write_it();
        assert_int_equal(bm_pack_open(&pack, path, &plan, &key, NULL, &err), 0);
        assert_memory_equal(pack.data, data, sizes[i]);
        assert_int_equal((uintptr_t)pack.data % (i == 0 ? 4096 : 2 << 20), 0);
        assert_int_equal(bm_pack_verify(path, &plan, &key, &id, NULL, NULL, &err), 0);
        assert_true(bm_file_id_equal(&id, &pack.id));
        bm_pack_close(&pack);
        bm_pack_close(&pack);
        assert_int_equal(files(), 1);
    }
}

static void a_file_takes_the_place_of_memory(void **state)
{
    unsigned char *memory = bm_pages_alloc(LARGE);
    bm_error err = { 0 };
    bm_pack pack;

    (void)state;
    make_plan(LARGE);
    memcpy(memory, data, LARGE);
    write_it();
    assert_int_equal(bm_pack_open(&pack, path, &plan, &key, memory, &err), 0);
    assert_ptr_equal(pack.data, memory);
    assert_memory_equal(memory, data, LARGE);
    bm_pack_close(&pack);
    bm_pages_free(memory, LARGE);
}

static void every_changed_byte_of_the_header_is_refused(void **state)
{
    (void)state;
    make_plan(SMALL);
    for (off_t at = 0; at < 128 + N * 128; at++) {
        write_it();
        flip(at);
        opens_as(BM_FORMAT);
    }
}

static void other_keys_and_plans_are_refused(void **state)
{
    (void)state;
    make_plan(SMALL);
    write_it();
    opens_as(0);
    key.bytes[31] ^= 1;
    opens_as(BM_FORMAT);
    make_plan(SMALL);
    entries[1].type++;
    opens_as(BM_FORMAT);
    make_plan(SMALL);
    entries[2].order = 5;
    opens_as(BM_FORMAT);
    make_plan(SMALL);
    entries[0].n_rows++;
    opens_as(BM_FORMAT);
    make_plan(SMALL);
    entries[1].offset = SIZE_MAX - 3;
    opens_as(BM_FORMAT);
    make_plan(SMALL);
    plan.data_bytes = SIZE_MAX - 100;
    opens_as(BM_LIMIT);
    make_plan(SMALL);
    plan.n_entries = SIZE_MAX / 64;
    opens_as(BM_LIMIT);
    make_plan(SMALL);
    plan.n_entries = 2;
    opens_as(BM_FORMAT);
    make_plan(SMALL);
    plan.layout = 1;
    opens_as(BM_FORMAT);
}

static void every_other_length_is_refused(void **state)
{
    struct stat st;

    (void)state;
    make_plan(SMALL);
    write_it();
    assert_int_equal(stat(path, &st), 0);
    for (off_t len = 0; len < st.st_size; len += 61) {
        assert_int_equal(truncate(path, len), 0);
        opens_as(BM_FORMAT);
    }
    write_it();
    assert_int_equal(truncate(path, st.st_size + 1), 0);
    opens_as(BM_FORMAT);
}

static void changed_data_is_found_by_its_checksum(void **state)
{
    bm_error err = { 0 };
    struct stat st;

    (void)state;
    make_plan(SMALL);
    for (size_t at = 0; at < SMALL; at += 97) {
        if (at >= entries[0].len_bytes && at < entries[1].offset)
            continue;                                    /* between two tensors */
        write_it();
        assert_int_equal(stat(path, &st), 0);
        flip(st.st_size - SMALL + (off_t)at);
        opens_as(0);
        assert_int_equal(bm_pack_verify(path, &plan, &key, NULL, NULL, NULL, &err), BM_FORMAT);
        assert_non_null(strstr(err.msg, "blk."));
    }
}

static void what_is_no_file_is_refused(void **state)
{
    char other[160];

    (void)state;
    make_plan(SMALL);
    unlink(path);
    opens_as(BM_NOTFOUND);
    assert_int_equal(mkdir(path, 0700), 0);
    opens_as(BM_FORMAT);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    opens_as(BM_FORMAT);
    unlink(path);
    write_it();
    snprintf(other, sizeof other, "%s.real", path);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    opens_as(BM_IO);                                     /* links are not followed */
    unlink(path);
    unlink(other);
}

static bool few_times(void *arg)
{
    return --*(int *)arg > 0;
}

static void canceling_leaves_nothing(void **state)
{
    bm_error err = { 0 };

    (void)state;
    make_plan(LARGE);
    unlink(path);
    for (int times = 1; times < 5; times++) {
        int left = times;
        assert_int_equal(bm_pack_write(path, &plan, &key, data, few_times, &left, &err), BM_CANCELED);
        assert_int_equal(files(), 0);
    }
    write_it();
    int left = 2;
    assert_int_equal(bm_pack_verify(path, &plan, &key, NULL, few_times, &left, &err), BM_CANCELED);
    unlink(path);
}

static void a_full_disk_leaves_nothing(void **state)
{
    struct rlimit old, small = { 1 << 20, 1 << 20 };
    bm_error err = { 0 };

    (void)state;
    make_plan(LARGE);
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = bm_pack_write(path, &plan, &key, data, NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, BM_IO);
    assert_int_equal(files(), 0);
    unlink(path);
    char missing[200];
    snprintf(missing, sizeof missing, "%s/missing/some.pack", dir);
    assert_int_equal(bm_pack_write(missing, &plan, &key, data, NULL, NULL, &err), BM_IO);
}

static void each_failing_allocation_is_an_error(void **state)
{
    bm_error err = { 0 };
    bm_pack pack;
    int rc = BM_NOMEM, n;

    (void)state;
    make_plan(SMALL);
    for (n = 1; rc < 0; n++) {
        unlink(path);
        bm_mem_fail_at(n);
        rc = bm_pack_write(path, &plan, &key, data, NULL, NULL, &err);
        bm_mem_fail_at(0);
        if (rc < 0) {
            assert_int_equal(rc, BM_NOMEM);
            assert_int_equal(files(), 0);
        }
        assert_true(n < 100);
    }
    write_it();
    for (n = 1, rc = BM_NOMEM; rc < 0; n++) {
        bm_mem_fail_at(n);
        rc = bm_pack_verify(path, &plan, &key, NULL, NULL, NULL, &err);
        bm_mem_fail_at(0);
        assert_true(rc == 0 || rc == BM_NOMEM);
    }
    for (n = 1, rc = BM_NOMEM; rc < 0; n++) {
        bm_mem_fail_at(n);
        rc = bm_pack_open(&pack, path, &plan, &key, NULL, &err);
        bm_mem_fail_at(0);
        assert_true(rc == 0 || rc == BM_NOMEM);
        bm_pack_close(&pack);
    }
}

/* Several processes write, and one after the other is killed at some point of it: what has the pack's name is whole. */
static void killed_and_racing_writers_leave_no_bad_pack(void **state)
{
    bm_error err = { 0 };

    (void)state;
    make_plan(LARGE);
    unlink(path);
    for (int round = 0; round < 24; round++) {
        pid_t a = fork(), b = 0;
        if (a > 0)
            b = fork();
        if (a == 0 || b == 0) {
            for (;;)
                if (bm_pack_write(path, &plan, &key, data, NULL, NULL, &err) < 0 || (b == 0 && a > 0))
                    _exit(0);
        }
        assert_int_equal(waitpid(b, NULL, 0), b);        /* b wrote one whole; a is somewhere in the middle */
        kill(a, SIGKILL);
        waitpid(a, NULL, 0);
        assert_int_equal(bm_pack_verify(path, &plan, &key, NULL, NULL, NULL, &err), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_bytes_are_mapped_again),
        cmocka_unit_test(a_file_takes_the_place_of_memory),
        cmocka_unit_test(every_changed_byte_of_the_header_is_refused),
        cmocka_unit_test(other_keys_and_plans_are_refused),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(changed_data_is_found_by_its_checksum),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(canceling_leaves_nothing),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(each_failing_allocation_is_an_error),
        cmocka_unit_test(killed_and_racing_writers_leave_no_bad_pack),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
