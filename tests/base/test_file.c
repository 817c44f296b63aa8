/* test_file.c - mapping, capped reading, atomic writing, directories. */
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static char dir[] = "/tmp/baimo-test-XXXXXX";
static char path[128];

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/file", dir);
    return 0;
}

static int remove_directory(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static int entries(void)
{
    DIR *d = opendir(dir);
    int n = 0;

    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

static void written_bytes_are_read_back(void **state)
{
    bm_error err;
    bm_map map;
    char *text;
    size_t len;
    struct stat st;

    (void)state;
    assert_int_equal(bm_write_file(path, "a\0b", 3, 0600, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(bm_read_file(&text, &len, path, 100, &err), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "a\0b", 4);
    bm_free(text);
    assert_int_equal(bm_map_file(&map, path, &err), 0);
    assert_true(map.len_bytes == 3 && memcmp(map.data, "a\0b", 3) == 0 && map.inode == st.st_ino && map.mtime_ns > 0);
    bm_unmap_file(&map);
    bm_unmap_file(&map);
    assert_null(map.data);
}

static void an_empty_file_is_no_error(void **state)
{
    bm_map map;
    char *text;
    size_t len = 9;

    (void)state;
    assert_int_equal(bm_write_file(path, "", 0, 0600, NULL), 0);
    assert_int_equal(bm_read_file(&text, &len, path, 0, NULL), 0);
    assert_true(len == 0 && text[0] == '\0');
    bm_free(text);
    assert_int_equal(bm_map_file(&map, path, NULL), 0);
    assert_true(map.data == NULL && map.len_bytes == 0);
    bm_unmap_file(&map);
}

static void reading_stops_at_the_cap(void **state)
{
    char *bytes = bm_malloc(200000), *text;
    bm_error err;
    size_t len;

    (void)state;
    memset(bytes, 'x', 200000);
    assert_int_equal(bm_write_file(path, bytes, 200000, 0600, NULL), 0);
    bm_free(bytes);
    assert_int_equal(bm_read_file(&text, &len, path, 200000, &err), 0);
    assert_true(len == 200000 && strlen(text) == 200000);
    bm_free(text);
    assert_int_equal(bm_read_file(&text, &len, path, SIZE_MAX, &err), 0);
    bm_free(text);
    assert_int_equal(bm_read_file(&text, &len, path, 199999, &err), BM_TOOLARGE);
    assert_null(text);
    assert_non_null(strstr(err.msg, "199999"));
    assert_int_equal(bm_read_file(&text, &len, path, 0, &err), BM_TOOLARGE);
    for (long n = 1; n <= 2; n++) {
        bm_mem_fail_at(n);
        int rc = bm_read_file(&text, &len, path, 300000, &err);
        assert_true(rc == BM_NOMEM ? text == NULL : rc == 0);
        bm_free(text);
    }
    bm_mem_fail_at(0);
}

static void absent_files_directories_and_pipes_are_refused(void **state)
{
    char fifo[160], *text;
    bm_error err;
    bm_map map;
    size_t len;

    (void)state;
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    assert_int_equal(bm_map_file(&map, "/nonexistent", &err), BM_NOTFOUND);
    assert_non_null(strstr(err.msg, "/nonexistent"));
    assert_int_equal(bm_read_file(&text, &len, "/nonexistent", 10, &err), BM_NOTFOUND);
    assert_int_equal(bm_map_file(&map, dir, &err), BM_INVALID);
    assert_int_equal(bm_read_file(&text, &len, dir, 10, &err), BM_IO);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(bm_map_file(&map, fifo, &err), BM_INVALID);         /* and does not wait for a writer */
    unlink(fifo);
}

static void a_failed_write_leaves_the_old_bytes_and_nothing_else(void **state)
{
    bm_error err;
    char *text, big[8192] = { 0 }, inside[200];
    size_t len;
    struct rlimit old, low;

    (void)state;
    assert_int_equal(bm_write_file(path, "old", 3, 0600, NULL), 0);
    int before = entries();
    signal(SIGXFSZ, SIG_IGN);                            /* a file size limit stands for a full disk */
    getrlimit(RLIMIT_FSIZE, &old);
    low = (struct rlimit){ 4096, old.rlim_max };
    setrlimit(RLIMIT_FSIZE, &low);
    int rc = bm_write_file(path, big, sizeof big, 0600, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, BM_IO);
    assert_non_null(strstr(err.msg, path));
    for (long n = 1; n <= 3; n++) {
        bm_mem_fail_at(n);
        rc = bm_write_file(path, "old", 3, 0600, &err);
        assert_true(rc == 0 || rc == BM_NOMEM);
    }
    bm_mem_fail_at(0);
    assert_int_equal(bm_read_file(&text, &len, path, 100, NULL), 0);
    assert_string_equal(text, "old");
    bm_free(text);
    assert_int_equal(entries(), before);
    assert_int_equal(bm_write_file(dir, "x", 1, 0600, &err), BM_IO);     /* the name is a directory's */
    snprintf(inside, sizeof inside, "%s/none/file", dir);
    assert_int_equal(bm_write_file(inside, "x", 1, 0600, &err), BM_IO);
    assert_int_equal(entries(), before);
}

/* Two writers and a reader at once: the reader sees one version whole, whichever. */
static void readers_see_one_version_or_the_other(void **state)
{
    enum { LEN = 20000, ROUNDS = 60 };
    static char versions[2][LEN];
    pid_t writers[2];
    char *text;
    size_t len;

    (void)state;
    memset(versions[0], 'a', LEN);
    memset(versions[1], 'b', LEN);
    assert_int_equal(bm_write_file(path, versions[0], LEN, 0600, NULL), 0);
    for (int w = 0; w < 2; w++)
        if ((writers[w] = fork()) == 0) {
            int rc = 0;
            for (int i = 0; i < ROUNDS && rc == 0; i++)
                rc = bm_write_file(path, versions[w], LEN, 0600, NULL);
            _exit(rc != 0);
        }
    for (int i = 0; i < 4 * ROUNDS; i++) {
        assert_int_equal(bm_read_file(&text, &len, path, LEN, NULL), 0);
        assert_int_equal(len, LEN);
        assert_memory_equal(text, versions[text[0] - 'a'], LEN);
        bm_free(text);
    }
    for (int w = 0, status; w < 2; w++) {
        assert_int_equal(waitpid(writers[w], &status, 0), writers[w]);
        assert_int_equal(status, 0);
    }
}

static void directories_are_made_to_any_depth(void **state)
{
    char deep[200], below[260];
    bm_error err;
    struct stat st;

    (void)state;
    snprintf(deep, sizeof deep, "%s/a//b/c/", dir);
    assert_int_equal(bm_make_dirs(deep, &err), 0);
    assert_int_equal(bm_make_dirs(deep, &err), 0);
    assert_true(stat(deep, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
    assert_int_equal(bm_make_dirs("/", &err), 0);
    snprintf(deep, sizeof deep, "%s/a/plain", dir);
    assert_int_equal(bm_write_file(deep, "x", 1, 0600, NULL), 0);
    assert_int_equal(bm_make_dirs(deep, &err), BM_IO);
    snprintf(below, sizeof below, "%s/under", deep);
    assert_int_equal(bm_make_dirs(below, &err), BM_IO);
    assert_int_equal(bm_make_dirs("", &err), BM_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_bytes_are_read_back),
        cmocka_unit_test(an_empty_file_is_no_error),
        cmocka_unit_test(reading_stops_at_the_cap),
        cmocka_unit_test(absent_files_directories_and_pipes_are_refused),
        cmocka_unit_test(a_failed_write_leaves_the_old_bytes_and_nothing_else),
        cmocka_unit_test(readers_see_one_version_or_the_other),
        cmocka_unit_test(directories_are_made_to_any_depth),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
