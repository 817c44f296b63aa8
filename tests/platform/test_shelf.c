/* The shelf: what gets on it, under which name, and which model a name means. */
#include "home_kit.h"

#include <sys/stat.h>

#include "platform/shelf.h"

static void add(bm_store *store, const char *path, const char *name, bm_shelf_model *out)
{
    bm_error err = { 0 };

    if (bm_shelf_add(store, path, name, NULL, NULL, NULL, out, &err) < 0)
        fail_msg("%s", err.msg);
}

static size_t count(bm_store *store)
{
    bm_shelf_model *rows;
    size_t n;
    bm_error err;

    assert_int_equal(bm_shelf_list(store, &rows, &n, &err), 0);
    bm_free(rows);
    return n;
}

static void added_model_is_described_and_found(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model m, found;
    bm_error err;

    (void)state;
    kit_copy(TINY_MODEL, "in/Tiny Llama (1).gguf");
    add(store, kit_path("in/Tiny Llama (1).gguf"), NULL, &m);
    assert_string_equal(m.name, "Tiny-Llama-1");
    assert_string_equal(m.arch, "llama");
    assert_int_equal(strlen(m.sha256), 64);
    assert_true(m.n_params > 100000 && m.n_ctx_train > 0 && m.size_bytes > 100000);
    assert_int_equal(bm_shelf_find(store, "tiny-llama-1", &found, &err), 0);
    assert_string_equal(found.sha256, m.sha256);
    assert_false(found.missing);
    assert_int_equal(unlink(kit_path("in/Tiny Llama (1).gguf")), 0);
    assert_int_equal(bm_shelf_find(store, "Tiny-Llama-1", &found, &err), 0);
    assert_true(found.missing);
    assert_int_equal(bm_shelf_resolve(store, "Tiny-Llama-1", &found, &err), BM_NOTFOUND);
    bm_store_close(store);
}

static void same_file_again_is_its_row_and_a_moved_one_is_followed(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model a, b;

    (void)state;
    kit_copy(TINY_MODEL, "a.gguf");
    add(store, kit_path("a.gguf"), NULL, &a);
    add(store, kit_path("a.gguf"), NULL, &b);
    assert_int_equal(a.id, b.id);
    assert_int_equal(rename(kit_path("a.gguf"), kit_path("b.gguf")), 0);
    add(store, kit_path("b.gguf"), NULL, &b);
    assert_int_equal(a.id, b.id);
    assert_string_equal(b.name, "a");
    assert_string_equal(b.path, kit_path("b.gguf"));
    assert_int_equal(count(store), 1);
    add(store, kit_path("b.gguf"), "second-name", &b);
    assert_int_not_equal(a.id, b.id);
    assert_int_equal(count(store), 2);
    bm_store_close(store);
}

static void name_of_another_file_is_refused_or_numbered(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model m;
    bm_error err;

    (void)state;
    kit_copy(TINY_MODEL, "x/m.gguf");
    kit_copy(TINY_OTHER, "y/m.gguf");
    add(store, kit_path("x/m.gguf"), "m", &m);
    assert_int_equal(bm_shelf_add(store, kit_path("y/m.gguf"), "m", NULL, NULL, NULL, &m, &err), BM_EXISTS);
    assert_non_null(strstr(err.hint, "--name"));
    add(store, kit_path("y/m.gguf"), NULL, &m);
    assert_string_equal(m.name, "m-2");
    bm_store_close(store);
}

static int cancel(void *arg, uint64_t done, uint64_t total)
{
    (void)arg, (void)done, (void)total;
    return 1;
}

static void nothing_is_recorded_of_a_file_that_fails(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model m;
    bm_error err;
    char *bytes;
    size_t len;

    (void)state;
    assert_int_equal(bm_read_file(&bytes, &len, TINY_MODEL, 1 << 20, &err), 0);
    kit_write("cut.gguf", bytes, len / 2);
    kit_write("empty.gguf", bytes, 0);
    kit_write("text.gguf", "hello, this is not a model", 26);
    kit_write("whole.gguf", bytes, len);
    bm_free(bytes);
    assert_true(bm_shelf_add(store, kit_path("cut.gguf"), NULL, NULL, NULL, NULL, &m, &err) < 0);
    assert_non_null(strstr(err.msg, "cut.gguf"));
    assert_true(bm_shelf_add(store, kit_path("empty.gguf"), NULL, NULL, NULL, NULL, &m, &err) < 0);
    assert_true(bm_shelf_add(store, kit_path("text.gguf"), NULL, NULL, NULL, NULL, &m, &err) < 0);
    assert_int_equal(bm_shelf_add(store, kit_path("none.gguf"), NULL, NULL, NULL, NULL, &m, &err), BM_NOTFOUND);
    assert_int_equal(bm_shelf_add(store, kit_home, NULL, NULL, NULL, NULL, &m, &err), BM_INVALID);
    assert_int_equal(bm_shelf_add(store, kit_path("whole.gguf"), NULL, NULL, cancel, NULL, &m, &err), BM_CANCELED);
    assert_int_equal(bm_shelf_add(store, kit_path("whole.gguf"), "../x", NULL, NULL, NULL, &m, &err), BM_INVALID);
    assert_int_equal(count(store), 0);
    bm_store_close(store);
}

static void names_are_letters_that_harm_nobody(void **state)
{
    static const char *const good[] = { "smollm2", "qwen3:0.6b", "hf.co/org/m:q4", "\xe9\x80\x9a\xe4\xb9\x89", "a_b@c-d.e" };
    static const char *const bad[] = { "", "-x", ".hidden", "/etc", "a/", "a//b", "a..b", "a b", "a+b", "a\nb", "\x1b[2J", "a\xff", "a\xe2\x80\xae" "b", "a\xc2\x85", "a\"b", "a\\b" };
    char longest[129];
    bm_error err;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(bm_shelf_check_name(good[i], &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(bm_shelf_check_name(bad[i], &err), BM_INVALID);
    memset(longest, 'a', 128), longest[128] = '\0';
    assert_int_equal(bm_shelf_check_name(longest, &err), BM_INVALID);
    longest[127] = '\0';
    assert_int_equal(bm_shelf_check_name(longest, &err), 0);
}

static void any_path_makes_a_valid_name(void **state)
{
    static const char *const paths[][2] = {
        { "/m/SmolLM2-135M-Instruct-Q4_K_M.gguf", "SmolLM2-135M-Instruct-Q4_K_M" }, { "a b.GGUF", "a-b" }, { ".gguf", "gguf" },
        { "/x/...", "model" }, { "/x/a..b.gguf", "a.-b" }, { "\xff\xfe.gguf", "model" }, { "/m/\xe9\x80\x9a\xe4\xb9\x89 7b.gguf", "\xe9\x80\x9a\xe4\xb9\x89-7b" },
    };
    char name[128], longer[600];
    bm_error err;

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        bm_shelf_name(paths[i][0], name);
        assert_string_equal(name, paths[i][1]);
        assert_int_equal(bm_shelf_check_name(name, &err), 0);
    }
    for (size_t i = 0; i + 3 < sizeof longer; i += 3)
        memcpy(longer + i, "\xe4\xb9\x89", 4);
    bm_shelf_name(longer, name);
    assert_int_equal(bm_shelf_check_name(name, &err), 0);
}

static void unknown_name_names_the_nearest(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model m;
    bm_error err;

    (void)state;
    assert_int_equal(bm_shelf_find(store, "smollm", &m, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.hint, "the shelf is empty"));
    kit_copy(TINY_MODEL, "smollm2.gguf");
    add(store, kit_path("smollm2.gguf"), NULL, &m);
    assert_int_equal(bm_shelf_find(store, "smolm2", &m, &err), BM_NOTFOUND);
    assert_string_equal(err.hint, "did you mean smollm2?");
    assert_int_equal(bm_shelf_find(store, "/etc/passwd", &m, &err), BM_NOTFOUND);
    bm_store_close(store);
}

static void model_of_the_command_line_is_default_name_or_path(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model m;
    bm_error err;

    (void)state;
    assert_int_equal(bm_shelf_resolve(store, NULL, &m, &err), BM_NOTFOUND);
    kit_copy(TINY_MODEL, "one.gguf");
    kit_copy(TINY_OTHER, "two.gguf");
    add(store, kit_path("one.gguf"), NULL, &m);
    assert_int_equal(bm_shelf_resolve(store, "", &m, &err), 0);
    assert_string_equal(m.name, "one");
    add(store, kit_path("two.gguf"), "two:latest", &m);
    assert_int_equal(bm_shelf_resolve(store, NULL, &m, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.hint, "alias default"));
    assert_int_equal(bm_shelf_alias(store, "default", "two", &err), 0);
    assert_int_equal(bm_shelf_resolve(store, NULL, &m, &err), 0);
    assert_string_equal(m.name, "two:latest");
    assert_int_equal(bm_shelf_resolve(store, kit_path("one.gguf"), &m, &err), 0);
    assert_true(m.id != 0);
    kit_copy(TINY_MODEL, "three.gguf");
    assert_int_equal(bm_shelf_resolve(store, kit_path("three.gguf"), &m, &err), 0);
    assert_int_equal(m.id, 0);
    assert_string_equal(m.name, "three");
    assert_int_equal(bm_shelf_resolve(NULL, kit_path("three.gguf"), &m, &err), 0);
    assert_int_equal(bm_shelf_resolve(NULL, kit_path("four.gguf"), &m, &err), BM_NOTFOUND);
    assert_int_equal(bm_shelf_resolve(store, kit_path("four.gguf"), &m, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.msg, "no such file"));
    assert_int_equal(bm_shelf_resolve(store, "/tmp", &m, &err), BM_INVALID);
    bm_store_close(store);
}

static void model_is_removed_by_its_name_only_and_the_file_stays(void **state)
{
    bm_store *store = kit_store();
    bm_shelf_model m;
    bm_error err;

    (void)state;
    kit_copy(TINY_MODEL, "one.gguf");
    add(store, kit_path("one.gguf"), NULL, &m);
    assert_int_equal(bm_shelf_alias(store, "on", "one", &err), 0);
    assert_int_equal(bm_shelf_alias(store, "one", "one", &err), BM_EXISTS);
    assert_int_equal(bm_shelf_alias(store, "a b", "one", &err), BM_INVALID);
    assert_int_equal(bm_shelf_remove(store, "on", &err), BM_INVALID);
    assert_int_equal(bm_shelf_remove(store, "one", &err), 0);
    assert_int_equal(access(kit_path("one.gguf"), R_OK), 0);
    assert_int_equal(bm_shelf_remove(store, "one", &err), BM_NOTFOUND);
    bm_store_close(store);
}

#define T(f) cmocka_unit_test_setup_teardown(f, kit_make, kit_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(added_model_is_described_and_found),
        T(same_file_again_is_its_row_and_a_moved_one_is_followed),
        T(name_of_another_file_is_refused_or_numbered),
        T(nothing_is_recorded_of_a_file_that_fails),
        cmocka_unit_test(names_are_letters_that_harm_nobody),
        cmocka_unit_test(any_path_makes_a_valid_name),
        T(unknown_name_names_the_nearest),
        T(model_of_the_command_line_is_default_name_or_path),
        T(model_is_removed_by_its_name_only_and_the_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
