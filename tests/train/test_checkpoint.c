/* test_checkpoint.c - a checkpoint comes back as it was; a damaged one, or half a one, never does. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "train/checkpoint.h"

enum { N = 100, N_HISTORY = 3, N_REFS = 4 };

static char dir[64], path[128];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/baimo-checkpoint-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/checkpoint.bin", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_one(int64_t step, int expect)
{
    float values[N], m[N], v[N], best[N];
    bm_train_event history[N_HISTORY] = { { .step = 1, .loss = 2.5 }, { .step = 2 }, { .step = 3, .loss = 1.5 } };
    bm_pair_nll refs[N_REFS] = { { NAN, 0 }, { 1, 2 } };
    bm_checkpoint c = { .step = step, .adam_t = 7, .tokens = 99, .place = { 11, 1, 4 }, .best_loss = 1.25, .n_worse = 2, .seconds = 3.5,
                        .settings = "lr=1\n", .n = N, .values = values, .m = m, .v = v, .best = best, .history = history,
                        .n_history = N_HISTORY, .refs = refs, .n_refs = N_REFS };
    bm_error err;

    for (int i = 0; i < N; i++)
        values[i] = (float)i, m[i] = (float)i * 2, v[i] = (float)i * 3, best[i] = (float)-i;
    assert_int_equal(bm_checkpoint_write(path, &c, &err), expect);
    if (expect < 0)
        assert_non_null(strstr(err.hint, "whole"));
}

static void it_comes_back_as_it_was(void **state)
{
    bm_checkpoint c;
    bm_error err;

    (void)state;
    assert_int_equal(bm_checkpoint_read(&c, path, &err), 0);
    write_one(42, 0);
    assert_int_equal(bm_checkpoint_read(&c, path, &err), 1);
    assert_true(c.step == 42 && c.adam_t == 7 && c.tokens == 99 && c.place.fingerprint == 11 && c.place.epoch == 1 && c.place.step == 4);
    assert_true(c.best_loss == 1.25 && c.n_worse == 2 && c.seconds == 3.5 && c.n == N && c.n_history == N_HISTORY && c.n_refs == N_REFS);
    assert_string_equal(c.settings, "lr=1\n");
    assert_true(c.values[9] == 9 && c.m[9] == 18 && c.v[9] == 27 && c.best[9] == -9 && c.history[2].loss == 1.5);
    assert_true(isnan(c.refs[0].chosen) && c.refs[1].rejected == 2);
    bm_checkpoint_done(&c);
}

static void every_damaged_byte_and_every_cut_is_seen(void **state)
{
    struct stat st;
    bm_checkpoint c;
    bm_error err;

    (void)state;
    write_one(1, 0);
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at += at < 600 ? 1 : 37) {
        unsigned char byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        int rc = bm_checkpoint_read(&c, path, &err);
        if (rc != BM_FORMAT)
            fail_msg("byte %ld: %d", (long)at, rc);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    for (off_t len = st.st_size - 1; len >= 0; len -= len > 700 ? 41 : 100) {
        assert_int_equal(truncate(path, len), 0);
        assert_int_equal(bm_checkpoint_read(&c, path, &err), BM_FORMAT);
    }
}

/* A limit on the size of files stands for the disk that is full. */
static void a_full_disk_leaves_the_checkpoint_before(void **state)
{
    struct rlimit old, small;
    bm_checkpoint c;
    bm_error err;

    (void)state;
    write_one(1, 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){ 1000, old.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_one(2, BM_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(bm_checkpoint_read(&c, path, &err), 1);
    assert_int_equal(c.step, 1);
    bm_checkpoint_done(&c);
}

static void what_killed_writers_left_is_swept_and_nothing_else(void **state)
{
    char stray[160], other[160];

    (void)state;
    snprintf(stray, sizeof stray, "%s.tmp.123.0", path);
    snprintf(other, sizeof other, "%s/metrics.jsonl", dir);
    close(open(stray, O_CREAT | O_WRONLY, 0600));
    close(open(other, O_CREAT | O_WRONLY, 0600));
    write_one(1, 0);
    bm_checkpoint_sweep(path);
    assert_int_equal(access(stray, F_OK), -1);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(access(path, F_OK), 0);
    unlink(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_comes_back_as_it_was, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(every_damaged_byte_and_every_cut_is_seen, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_checkpoint_before, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_killed_writers_left_is_swept_and_nothing_else, make_dir, remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
