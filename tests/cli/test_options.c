/* Options: every way to write one, and what is said of a wrong one. */
#define _GNU_SOURCE     /* O_TMPFILE */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.c"             /* the command line is in no library */

typedef struct values { bool loud; int64_t n; double t; const char *s; cli_list list; } values;

static char said[8192];

/* Run the parser with its output caught in `said`. defaults: BAIMO_* and home's file first. */
static int parse(values *v, const char *line, char *argv[32], int *n, const char *home, bool defaults)
{
    const cli_option options[] = {
        { "loud", "-l", CLI_FLAG, &v->loud, 0, 0, NULL, "say more" },
        { "number", "-n", CLI_INT, &v->n, -10, 100, "N", "a number" },
        { "parallel", "-np", CLI_FLAG, &v->loud, 0, 0, NULL, "two letters" },
        { "temperature", "-t", CLI_FLOAT, &v->t, 0, 2, "T", "a float" },
        { "system", NULL, CLI_STR, &v->s, 0, 0, NULL, "a text" },
        { "model", "-m", CLI_LIST, &v->list, 0, 0, "M", "many" },
        { .name = NULL } };
    const cli_command self = { "try", "[X]", "A test.", "baimo try x", options };
    static char words[1024];
    int argc = 0, saved[2], fd, rc = 0;

    snprintf(words, sizeof words, "%s", line);
    for (char *p = strtok(words, " "); p != NULL; p = strtok(NULL, " "))
        argv[argc++] = p;
    argv[argc] = NULL;
    fflush(NULL);
    fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    saved[0] = dup(1), saved[1] = dup(2);
    dup2(fd, 1), dup2(fd, 2);
    if (defaults)
        rc = cli_defaults(&self, home);
    if (rc == 0)
        rc = cli_parse(&self, argc, argv, n);
    fflush(NULL);
    dup2(saved[0], 1), dup2(saved[1], 2);
    close(saved[0]), close(saved[1]);
    ssize_t len = pread(fd, said, sizeof said - 1, 0);
    said[len < 0 ? 0 : len] = '\0';
    close(fd);
    return rc;
}

static int run(values *v, const char *line, char *argv[32], int *n) { return parse(v, line, argv, n, NULL, false); }

static void options_come_in_every_form(void **state)
{
    values v = { .n = 0 };
    char *argv[32];
    int n;

    (void)state;
    assert_int_equal(run(&v, "try a --number=5 b -t 0.5 --loud -m x --model=y c", argv, &n), 0);
    assert_int_equal(n, 3);
    assert_string_equal(argv[0], "a");
    assert_string_equal(argv[2], "c");
    assert_int_equal(v.n, 5);
    assert_true(v.t == 0.5 && v.loud);
    assert_int_equal(v.list.n, 2);
    assert_string_equal(v.list.items[1], "y");
    v.loud = true;
    assert_int_equal(run(&v, "try --loud=false -n=7", argv, &n), 0);
    assert_false(v.loud);
    assert_int_equal(v.n, 7);
    assert_int_equal(run(&v, "try -np", argv, &n), 0);
    assert_true(v.loud);
}

static void negative_numbers_and_dashes_are_values(void **state)
{
    values v = { .n = 0 };
    char *argv[32];
    int n;

    (void)state;
    assert_int_equal(run(&v, "try --number -3 -5 - -- --loud -x", argv, &n), 0);
    assert_int_equal(v.n, -3);
    assert_int_equal(n, 4);
    assert_string_equal(argv[0], "-5");
    assert_string_equal(argv[1], "-");
    assert_string_equal(argv[2], "--loud");
    assert_string_equal(argv[3], "-x");
    assert_false(v.loud);
    assert_int_equal(run(&v, "try --system=--x", argv, &n), 0);
    assert_string_equal(v.s, "--x");
    assert_int_equal(run(&v, "try --system=", argv, &n), 0);
    assert_string_equal(v.s, "");
}

static void wrong_options_say_what_is_right(void **state)
{
    static const char *const lines[][2] = {
        { "try --nubmer 3", "did you mean --number?" }, { "try --zzzzzzz", "there is no option --zzzzzzz" }, { "try -z", "there is no option -z" },
        { "try --number", "--number needs a value: --number N" }, { "try --number --loud", "--number needs a value" },
        { "try --number -l", "--number needs a value" },
        { "try --number 101", "from -10 to 100, found '101'" }, { "try -n 1.5", "whole number" }, { "try -n x", "found 'x'" },
        { "try -n 99999999999999999999", "whole number" }, { "try -t nan", "expected a number" }, { "try -t 2.5", "from 0 to 2" },
        { "try --loud=maybe", "true or false" }, { "try --", "" }, { "try -n \x1b[2J", "\\x1b" },
    };
    values v = { .n = 0 };
    char *argv[32];
    int n;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        int rc = run(&v, lines[i][0], argv, &n);
        assert_int_equal(rc, lines[i][1][0] != '\0' ? 3 : 0);
        if (strstr(said, lines[i][1]) == NULL || strchr(said, '\x1b') != NULL)
            fail_msg("%s: %s", lines[i][0], said);
        if (rc != 0)
            assert_non_null(strstr(said, "hint: baimo try --help"));
    }
}

static void help_lists_every_option_and_the_example(void **state)
{
    values v = { .n = 0 };
    char *argv[32];
    int n;

    (void)state;
    assert_int_equal(run(&v, "try x --help", argv, &n), 1);
    assert_non_null(strstr(said, "usage: baimo try [X]"));
    assert_non_null(strstr(said, "-np, --parallel"));
    assert_non_null(strstr(said, "--system VALUE"));
    assert_non_null(strstr(said, "example:\n  baimo try x"));
    assert_int_equal(run(&v, "try -h", argv, &n), 1);
    assert_int_equal(run(&v, "try -- --help", argv, &n), 0);
}

static void file_then_environment_then_line_win(void **state)
{
    char dir[] = "/tmp/bm-conf-XXXXXX", path[64], *argv[32];
    static const char text[] = "# settings\n number = 1 \r\nsystem= from file\ntemperature=1.5\nmodel = a, b\nloud = yes";
    values v = { .n = 0 };
    bm_error err;
    int n;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/baimo.conf", dir);
    assert_int_equal(bm_write_file(path, text, strlen(text), 0600, &err), 0);
    setenv("BAIMO_TEMPERATURE", "0.25", 1);
    setenv("BAIMO_NUMBER", "2", 1);
    assert_int_equal(parse(&v, "try -n 3 -m c", argv, &n, dir, true), 0);
    assert_int_equal(v.n, 3);
    assert_true(v.t == 0.25 && v.loud);
    assert_string_equal(v.s, "from file");
    assert_int_equal(v.list.n, 1);
    assert_string_equal(v.list.items[0], "c");
    assert_int_equal(parse(&v, "try", argv, &n, dir, true), 0);
    assert_int_equal(v.n, 2);
    assert_int_equal(v.list.n, 2);
    assert_string_equal(v.list.items[1], "b");
    setenv("BAIMO_NUMBER", "many", 1);
    assert_int_equal(parse(&v, "try", argv, &n, dir, true), 3);
    assert_non_null(strstr(said, "BAIMO_NUMBER"));
    unsetenv("BAIMO_NUMBER");
    assert_int_equal(bm_write_file(path, "numbr = 1\n", 10, 0600, &err), 0);
    assert_int_equal(parse(&v, "try", argv, &n, dir, true), 3);
    assert_non_null(strstr(said, "did you mean --number"));
    assert_int_equal(bm_write_file(path, "nonsense\n", 9, 0600, &err), 0);
    assert_int_equal(parse(&v, "try", argv, &n, dir, true), 3);
    assert_non_null(strstr(said, "baimo.conf:1"));
    unlink(path);
    rmdir(dir);
    assert_int_equal(parse(&v, "try", argv, &n, dir, true), 0);
    unsetenv("BAIMO_TEMPERATURE");
}

static void sizes_are_readable(void **state)
{
    char text[24];

    (void)state;
    cli_size_text(text, 0);
    assert_string_equal(text, "0 B");
    cli_size_text(text, 98362432);
    assert_string_equal(text, "93.8 MiB");
    cli_size_text(text, UINT64_MAX);
    assert_string_equal(text, "16384 PiB");
    cli_time_text(text, 1700000000000);
    assert_string_equal(text, "2023-11-14 22:13");
    cli_time_text(text, 0);
    assert_string_equal(text, "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_come_in_every_form),
        cmocka_unit_test(negative_numbers_and_dashes_are_values),
        cmocka_unit_test(wrong_options_say_what_is_right),
        cmocka_unit_test(help_lists_every_option_and_the_example),
        cmocka_unit_test(file_then_environment_then_line_win),
        cmocka_unit_test(sizes_are_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
