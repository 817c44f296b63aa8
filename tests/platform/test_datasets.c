/* test_datasets.c - files of rows by name: what is recorded, who answers for a split, and what a file that changed means. */
#include "home_kit.h"

#include "platform/datasets.h"

#define T(name) cmocka_unit_test_setup_teardown(name, kit_make, kit_remove)

static const char rows[] = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\n";

static bm_dataset add(bm_store *store, const char *below, const bm_dataset_options *o)
{
    bm_dataset row;
    uint64_t n_bad;
    bm_error err = { 0 };

    if (bm_dataset_add(store, kit_path(below), o, &row, &n_bad, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(n_bad, 1);
    return row;
}

static void file_is_recorded_as_it_is(void **state)
{
    bm_store *store = kit_store();
    const bm_dataset_options o = { .license = "MIT", .source = "here", .n_tokens = 9 };
    bm_dataset found;
    bm_error err = { 0 };

    (void)state;
    kit_write("train.jsonl", rows, strlen(rows));
    bm_dataset row = add(store, "train.jsonl", &o);
    assert_string_equal(row.name, "train");
    assert_string_equal(row.shape, "text");
    assert_int_equal(row.n_rows, 2);
    assert_int_equal(row.n_tokens, 9);
    assert_int_equal(row.size_bytes, strlen(rows));
    assert_int_equal(bm_dataset_find(store, "train", &found, &err), 0);
    assert_string_equal(found.sha256, row.sha256);
    assert_string_equal(found.license, "MIT");
    assert_string_equal(found.source, "here");
    assert_false(found.missing);
    assert_int_equal(bm_dataset_find(store, "trian", &found, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.hint, "train"));
    bm_store_close(store);
}

static void same_file_again_is_its_row_and_another_is_refused(void **state)
{
    bm_store *store = kit_store();
    const bm_dataset_options o = { .name = "x" };
    bm_dataset row;
    uint64_t n_bad;
    bm_error err = { 0 };

    (void)state;
    kit_write("a.jsonl", rows, strlen(rows));
    kit_write("b.jsonl", rows, strlen(rows));
    bm_dataset first = add(store, "a.jsonl", &o), again = add(store, "a.jsonl", &o);
    assert_int_equal(first.id, again.id);
    assert_int_equal(bm_dataset_add(store, kit_path("b.jsonl"), &o, &row, &n_bad, &err), BM_EXISTS);
    bm_store_close(store);
}

static void split_is_found_by_set_and_configuration(void **state)
{
    bm_store *store = kit_store();
    const bm_dataset_options test = { .as = "owner/set/hard:test" }, plain = { .as = "copa:validation" };
    bm_dataset row;
    bm_error err = { 0 };

    (void)state;
    kit_write("a.jsonl", rows, strlen(rows));
    kit_write("b.jsonl", rows, strlen(rows));
    add(store, "a.jsonl", &test);
    add(store, "b.jsonl", &plain);
    assert_int_equal(bm_dataset_find_split(store, "owner/set", "hard", "test", &row, &err), 1);
    assert_string_equal(row.name, "owner/set/hard:test");
    assert_int_equal(bm_dataset_find_split(store, "owner/set", "hard", "train", &row, &err), 0);
    assert_int_equal(bm_dataset_find_split(store, "owner/set", NULL, "test", &row, &err), 0);
    assert_int_equal(bm_dataset_find_split(store, "copa", NULL, "validation", &row, &err), 1);
    assert_int_equal(bm_dataset_find_split(store, "copa", "", "validation", &row, &err), 1);
    bm_store_close(store);
}

static void data_of_the_command_line_is_a_name_or_a_path(void **state)
{
    bm_store *store = kit_store();
    const bm_dataset_options o = { .name = "x" };
    bm_dataset row;
    bm_error err = { 0 };

    (void)state;
    kit_write("a.jsonl", rows, strlen(rows));
    add(store, "a.jsonl", &o);
    assert_int_equal(bm_dataset_resolve(store, "x", &row, &err), 0);
    assert_true(row.id > 0);
    assert_int_equal(bm_dataset_resolve(store, kit_path("a.jsonl"), &row, &err), 0);
    assert_int_equal(row.id, 0);
    assert_int_equal(bm_dataset_resolve(store, kit_path("none"), &row, &err), BM_NOTFOUND);
    assert_int_equal(bm_dataset_resolve(store, kit_home, &row, &err), BM_INVALID);
    kit_write("a.jsonl", rows, strlen(rows) - 2);                /* another size: no longer what was recorded */
    assert_int_equal(bm_dataset_resolve(store, "x", &row, &err), BM_NOTFOUND);
    assert_int_equal(bm_dataset_remove(store, "x", &err), 0);
    assert_int_equal(bm_dataset_remove(store, "x", &err), BM_NOTFOUND);
    assert_int_equal(access(kit_path("a.jsonl"), F_OK), 0);
    bm_store_close(store);
}

static void every_failed_allocation_is_reported(void **state)
{
    bm_store *store = kit_store();
    const bm_dataset_options o = { .name = "x", .as = "a/b:c" };
    bool done = false;

    (void)state;
    kit_write("a.jsonl", rows, strlen(rows));
    for (long n = 1; !done; n++) {
        bm_dataset row;
        uint64_t n_bad;
        bm_error err = { 0 };
        assert_true(n < 1000);
        bm_mem_fail_at(n);
        int rc = bm_dataset_add(store, kit_path("a.jsonl"), &o, &row, &n_bad, &err);
        bm_mem_fail_at(0);
        done = rc == 0;
        assert_true(done || rc == BM_NOMEM);
    }
    bm_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(file_is_recorded_as_it_is),
        T(same_file_again_is_its_row_and_another_is_refused),
        T(split_is_found_by_set_and_configuration),
        T(data_of_the_command_line_is_a_name_or_a_path),
        T(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
