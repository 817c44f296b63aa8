/* Runs, their events, adapters, uploads and what aliases stand for: what their tables promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/adapters.h"
#include "store/models.h"
#include "store/runs.h"
#include "store/uploads.h"

static char home[64];
static bm_store *store;

static int make_home(void **state)
{
    bm_error err;

    (void)state;
    strcpy(home, "/tmp/bm-runs-XXXXXX");
    return mkdtemp(home) == NULL || bm_store_open(&store, home, &err) < 0;
}

static int remove_home(void **state)
{
    char command[128];

    (void)state;
    bm_store_close(store);
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

static bm_run_row a_run(const char *id, int64_t key)
{
    bm_run_row row = { .kind = "tune", .name = "n", .model = "m", .key_id = key };

    snprintf(row.id, sizeof row.id, "%s", id);
    assert_int_equal(bm_runs_insert(store, &row, NULL), 0);
    return row;
}

static void expect_state(const bm_run_row *run, const char *state)
{
    bm_run_row now;

    assert_int_equal(bm_runs_find(store, run->id, &now, NULL), 0);
    assert_string_equal(now.state, state);
    bm_run_row_done(&now);
}

static void states_change_only_from_where_they_may(void **state)
{
    bm_run_row run = a_run("ftjob-1", 0);
    bm_error err;

    (void)state;
    expect_state(&run, "queued");
    assert_int_equal(bm_runs_change(store, run.number, "running", "stopping", NULL), 0);
    assert_int_equal(bm_runs_claim(store, run.number, NULL), 1);
    assert_int_equal(bm_runs_claim(store, run.number, NULL), 0);         /* by one only */
    assert_int_equal(bm_runs_change(store, run.number, "queued,running", "stopping", NULL), 1);
    assert_int_equal(bm_runs_process(store, run.number, 78, 6, NULL), 0);
    expect_state(&run, "stopping");              /* a request to stop is not lost by a start */
    assert_int_equal(bm_runs_delete(store, run.id, &err), BM_BUSY);
    assert_int_equal(bm_runs_ended(store, run.number, "stopped", NULL, NULL, NULL, NULL), 0);
    expect_state(&run, "stopped");
    assert_int_equal(bm_runs_insert(store, &run, &err), BM_EXISTS);
    assert_int_equal(bm_runs_delete(store, run.id, &err), 0);
    assert_int_equal(bm_runs_delete(store, run.id, &err), BM_NOTFOUND);
}

static size_t listed(const bm_runs_filter *filter, char ids[256])
{
    bm_run_row *rows;
    size_t n;

    ids[0] = '\0';
    assert_int_equal(bm_runs_list(store, filter, &rows, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        strcat(strcat(ids, rows[i].id + 6), " ");
    bm_runs_free(rows, n);
    return n;
}

static void lists_are_filtered_and_paged(void **state)
{
    bm_run_row first = a_run("ftjob-a", 1);
    char ids[256];
    bm_run_row *rows;
    size_t n;

    (void)state;
    a_run("ftjob-b", 2);
    a_run("ftjob-c", 1);
    assert_int_equal(bm_runs_ended(store, first.number, "failed", NULL, "why", "how", NULL), 0);
    listed(&(bm_runs_filter){ .kind = "tune" }, ids);
    assert_string_equal(ids, "c b a ");
    listed(&(bm_runs_filter){ .oldest_first = true, .most = 2 }, ids);
    assert_string_equal(ids, "a b ");
    listed(&(bm_runs_filter){ .after = "ftjob-c", .most = 1 }, ids);
    assert_string_equal(ids, "b ");
    listed(&(bm_runs_filter){ .state = "open", .oldest_first = true }, ids);
    assert_string_equal(ids, "b c ");
    listed(&(bm_runs_filter){ .key_id = 1 }, ids);
    assert_string_equal(ids, "c a ");
    assert_int_equal(listed(&(bm_runs_filter){ .kind = "eval" }, ids), 0);
    assert_int_equal(bm_runs_list(store, &(bm_runs_filter){ .after = "ftjob-x" }, &rows, &n, NULL), BM_NOTFOUND);
    assert_null(rows);
}

static void add_events(bm_run_row *run, int64_t from, int64_t to)
{
    for (int64_t step = from; step <= to; step++) {
        bm_run_event e = { .step = step, .level = "info", .type = "metrics", .message = (char *)(uintptr_t)"step" };
        run->step = step;
        run->events_at += 10;
        assert_int_equal(bm_run_events_add(store, run, &e, 1, NULL), 0);
    }
}

static void events_are_paged_and_what_came_after_a_checkpoint_is_cut(void **state)
{
    bm_run_row run = a_run("ftjob-1", 0), now;
    bm_run_event *events;
    size_t n;

    (void)state;
    add_events(&run, 1, 6);
    assert_int_equal(bm_runs_find(store, run.id, &now, NULL), 0);
    assert_int_equal(now.step, 6);
    assert_int_equal(now.events_at, 60);
    bm_run_row_done(&now);
    assert_int_equal(bm_run_events_cut(store, run.number, 4, NULL), 0);
    assert_int_equal(bm_run_events_list(store, &(bm_run_events_filter){ .run = run.number, .most = 2 }, &events, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_int_equal(events[0].step, 4);
    int64_t after = events[1].id;
    bm_run_events_free(events, n);
    assert_int_equal(bm_run_events_list(store, &(bm_run_events_filter){ .run = run.number, .after = after }, &events, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_int_equal(events[0].step, 2);
    bm_run_events_free(events, n);
    assert_int_equal(bm_run_events_list(store, &(bm_run_events_filter){ .run = run.number, .after = after, .oldest_first = true }, &events,
                                        &n, NULL), 0);
    assert_int_equal(n, 1);
    bm_run_events_free(events, n);
    assert_int_equal(bm_run_events_list(store, &(bm_run_events_filter){ .run = run.number, .type = "message" }, &events, &n, NULL), 0);
    assert_int_equal(n, 0);
}

static bm_adapter_row an_adapter(const char *name)
{
    bm_adapter_row row = { .path = "/a", .base_name = "m", .source = "tune" };

    snprintf(row.name, sizeof row.name, "%s", name);
    memset(row.sha256, 'a', 64);
    memset(row.base_sha256, 'b', 64);
    return row;
}

static void models_adapters_and_aliases_share_their_names(void **state)
{
    bm_model_row model = { .name = "m", .path = "/m", .source = "file" };
    bm_adapter_row adapter = an_adapter("m"), found;
    bm_alias_row *aliases;
    bm_alias_move *moves;
    bm_error err;
    size_t n;

    (void)state;
    memset(model.sha256, 'b', 64);
    assert_int_equal(bm_models_insert(store, &model, NULL), 0);
    assert_int_equal(bm_adapters_insert(store, &adapter, &err), BM_EXISTS);
    adapter = an_adapter("tuned");
    assert_int_equal(bm_adapters_insert(store, &adapter, &err), 0);
    strcpy(model.name, "tuned");
    assert_int_equal(bm_models_insert(store, &model, &err), BM_EXISTS);
    assert_int_equal(bm_aliases_set(store, "tuned", "m", &err), BM_EXISTS);

    assert_int_equal(bm_aliases_set(store, "prod", "m", &err), 0);
    assert_int_equal(bm_aliases_move(store, "prod", "tuned", "{\"run\":\"eval-1\"}", &err), 0);
    assert_int_equal(bm_aliases_list(store, &aliases, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_string_equal(aliases[0].model, "tuned");
    assert_int_equal(aliases[0].adapter_id, adapter.id);
    assert_int_equal(aliases[0].model_id, 0);
    bm_free(aliases);
    adapter = an_adapter("prod");
    assert_int_equal(bm_adapters_insert(store, &adapter, &err), BM_EXISTS);

    assert_int_equal(bm_adapters_find(store, "tuned", &found, &err), 1);
    assert_string_equal(found.settings, "{}");
    bm_adapter_row_done(&found);
    assert_int_equal(bm_adapters_delete(store, "tuned", &err), 0);
    assert_int_equal(bm_adapters_delete(store, "tuned", &err), BM_NOTFOUND);
    assert_int_equal(bm_aliases_history(store, "prod", &moves, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_string_equal(moves[0].target, "");                    /* went with its adapter */
    assert_string_equal(moves[1].evidence, "{\"run\":\"eval-1\"}");
    assert_string_equal(moves[2].target, "m");
    bm_free(moves);
    assert_int_equal(bm_aliases_list(store, &aliases, &n, &err), 0);
    assert_int_equal(n, 0);
}

static void an_adapter_of_new_content_keeps_its_aliases(void **state)
{
    bm_adapter_row adapter = an_adapter("tuned"), *rows;
    bm_alias_row *aliases;
    size_t n;

    (void)state;
    assert_int_equal(bm_adapters_replace(store, &adapter, NULL), BM_NOTFOUND);
    assert_int_equal(bm_adapters_insert(store, &adapter, NULL), 0);
    assert_int_equal(bm_aliases_set(store, "prod", "tuned", NULL), 0);
    memset(adapter.sha256, 'c', 64);
    adapter.settings = (char *)(uintptr_t)"{\"rank\":4}";
    assert_int_equal(bm_adapters_replace(store, &adapter, NULL), 0);
    assert_int_equal(bm_adapters_list(store, &rows, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].sha256[0], 'c');
    assert_string_equal(rows[0].settings, "{\"rank\":4}");
    bm_adapters_free(rows, n);
    assert_int_equal(bm_aliases_list(store, &aliases, &n, NULL), 0);
    assert_int_equal(n, 1);
    bm_free(aliases);
}

static void uploads_are_filtered_and_paged(void **state)
{
    bm_upload_row *rows, row;
    bm_error err;
    size_t n;

    (void)state;
    for (int i = 0; i < 4; i++) {
        bm_upload_row up = { .filename = "f", .size_bytes = i, .key_id = i % 2 + 1 };
        snprintf(up.id, sizeof up.id, "file-%d", i);
        snprintf(up.purpose, sizeof up.purpose, "%s", i == 3 ? "evals" : "fine-tune");
        memset(up.sha256, 'a', 64);
        assert_int_equal(bm_uploads_insert(store, &up, NULL), 0);
    }
    assert_int_equal(bm_uploads_list(store, &(bm_uploads_filter){ .purpose = "fine-tune", .key_id = 1 }, &rows, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_string_equal(rows[0].id, "file-2");
    bm_free(rows);
    assert_int_equal(bm_uploads_list(store, &(bm_uploads_filter){ .after = "file-2", .most = 1 }, &rows, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].id, "file-1");
    bm_free(rows);
    assert_int_equal(bm_uploads_list(store, &(bm_uploads_filter){ .after = "file-9" }, &rows, &n, &err), BM_NOTFOUND);
    assert_int_equal(bm_uploads_delete(store, "file-2", &err), 0);
    assert_int_equal(bm_uploads_find(store, "file-2", &row, &err), BM_NOTFOUND);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(states_change_only_from_where_they_may),
        T(lists_are_filtered_and_paged),
        T(events_are_paged_and_what_came_after_a_checkpoint_is_cut),
        T(models_adapters_and_aliases_share_their_names),
        T(an_adapter_of_new_content_keeps_its_aliases),
        T(uploads_are_filtered_and_paged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
