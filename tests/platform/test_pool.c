/* The pool of a server: names to loaded models, loads that nobody waits for, and what a failed load leaves. */
#include "home_kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "platform/pool.h"

typedef struct bell { pthread_mutex_t lock; pthread_cond_t rang; int n; } bell;

static void ring(void *arg)
{
    bell *b = arg;

    pthread_mutex_lock(&b->lock);
    b->n++;
    pthread_cond_signal(&b->rang);
    pthread_mutex_unlock(&b->lock);
}

static void wait_for(bell *b, int n)
{
    pthread_mutex_lock(&b->lock);
    while (b->n < n)
        pthread_cond_wait(&b->rang, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

#define BELL { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }

typedef struct world { bm_store *store; bm_engine *engine; bm_pool *pool; char log[2048]; } world;

static void keep_line(void *arg, const char *line)
{
    world *w = arg;
    size_t n = strlen(w->log);

    snprintf(w->log + n, sizeof w->log - n, "%s\n", line);
}

static void open_world(world *w)
{
    bm_engine_options engine = { .n_threads = 1, .kv_budget_bytes = 64 << 20 };
    bm_pool_options options = { .n_ctx = 64, .n_parallel = 1, .log = keep_line, .log_arg = w };
    bm_error err = { 0 };

    *w = (world){ .store = kit_store() };
    if (bm_engine_new(&w->engine, &engine, &err) < 0 || bm_pool_new(&w->pool, w->engine, w->store, &options, &err) < 0)
        fail_msg("%s", err.msg);
}

static void close_world(world *w)
{
    bm_pool_free(w->pool);
    bm_engine_free(w->engine);
    bm_store_close(w->store);
}

static void put_on_shelf(world *w, const char *from, const char *name)
{
    char file[160];
    bm_shelf_model m;
    bm_error err = { 0 };

    snprintf(file, sizeof file, "%s.gguf", name);
    kit_copy(from, file);
    if (bm_shelf_add(w->store, kit_path(file), name, NULL, NULL, NULL, &m, &err) < 0)
        fail_msg("%s", err.msg);
}

static int mounted(world *w)
{
    bm_pool_entry *list;
    size_t n;
    int n_mounted = 0;

    assert_int_equal(bm_pool_list(w->pool, &list, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        n_mounted += list[i].parent[0] != '\0' && list[i].loaded;
    bm_free(list);
    return n_mounted;
}

/* Ask, wait for the bell when told to, ask again: a model whose pack is found damaged meanwhile is loaded once more. */
static int get(world *w, const char *name, bm_backend **out, char canonical[128], bm_error *err)
{
    bell b = BELL;
    int rc, rings = 0;

    while ((rc = bm_pool_get(w->pool, name, out, canonical, ring, &b, err)) == 1)
        wait_for(&b, ++rings);
    return rc;
}

static void shelf_model_loads_at_its_first_request(void **state)
{
    bm_backend *a, *b;
    char name[128];
    world w;
    bm_error err = { 0 };

    (void)state;
    open_world(&w);
    put_on_shelf(&w, TINY_MODEL, "tiny");
    assert_int_equal(get(&w, "TINY", &a, name, &err), 0);
    assert_string_equal(name, "tiny");
    assert_int_equal(a->ctx(a), 64);
    assert_non_null(strstr(w.log, "tiny: loaded in"));
    assert_int_equal(bm_pool_get(w.pool, "", &b, name, NULL, NULL, &err), 0);
    assert_ptr_equal(a, b);
    bm_pool_put(w.pool, a);
    bm_pool_put(w.pool, b);
    bm_pool_put(w.pool, NULL);
    close_world(&w);
}

static void unknown_names_and_paths_are_not_found(void **state)
{
    bm_backend *b;
    char name[128];
    world w;
    bm_error err = { 0 };

    (void)state;
    open_world(&w);
    assert_int_equal(bm_pool_get(w.pool, NULL, &b, name, NULL, NULL, &err), BM_NOTFOUND);
    put_on_shelf(&w, TINY_MODEL, "tiny");
    assert_int_equal(bm_pool_get(w.pool, "tyni", &b, name, NULL, NULL, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.hint, "tiny"));
    assert_int_equal(bm_pool_get(w.pool, kit_path("tiny.gguf"), &b, name, NULL, NULL, &err), BM_NOTFOUND);
    assert_int_equal(bm_pool_get(w.pool, TINY_MODEL, &b, name, NULL, NULL, &err), BM_NOTFOUND);
    assert_null(b);
    close_world(&w);
}

static void named_at_start_may_be_a_path_and_is_the_default(void **state)
{
    bm_pool_entry *list;
    bm_backend *b;
    char name[128];
    size_t n;
    world w;
    bm_error err = { 0 };

    (void)state;
    open_world(&w);
    put_on_shelf(&w, TINY_MODEL, "tiny");
    assert_true(bm_pool_progress(w.pool) == 1);
    assert_int_equal(bm_pool_state(w.pool, &err), 0);
    if (bm_pool_load(w.pool, TINY_OTHER, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(bm_pool_get(w.pool, NULL, &b, name, NULL, NULL, &err), 0);
    assert_string_equal(name, "qwen2");
    bm_pool_put(w.pool, b);
    assert_int_equal(bm_pool_list(w.pool, &list, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "tiny");
    assert_false(list[0].loaded);
    assert_string_equal(list[1].name, "qwen2");
    assert_true(list[1].loaded && list[1].ctx == 64 && list[1].model != NULL);
    bm_free(list);
    close_world(&w);
}

static void wanted_models_become_ready_and_tell(void **state)
{
    world w;
    bell b = BELL;
    bm_backend *backend;
    char name[128];
    bm_error err = { 0 };
    int rc;

    (void)state;
    open_world(&w);
    put_on_shelf(&w, TINY_MODEL, "tiny");
    assert_int_equal(bm_pool_want(w.pool, "tinny", &err), BM_NOTFOUND);
    assert_int_equal(bm_pool_want(w.pool, "tiny", &err), 0);
    if ((rc = bm_pool_get(w.pool, "tiny", &backend, name, ring, &b, &err)) == 1)
        wait_for(&b, 1);
    assert_int_equal(bm_pool_state(w.pool, &err), 0);
    assert_true(bm_pool_progress(w.pool) == 1);
    if (rc == 0)
        bm_pool_put(w.pool, backend);
    close_world(&w);
}

static void failed_load_is_told_and_the_rest_goes_on(void **state)
{
    bm_backend *b;
    char name[128];
    world w;
    bm_error err = { 0 };

    (void)state;
    open_world(&w);
    put_on_shelf(&w, TINY_MODEL, "gone");
    put_on_shelf(&w, TINY_OTHER, "here");
    assert_int_equal(unlink(kit_path("gone.gguf")), 0);
    assert_int_equal(get(&w, "gone", &b, name, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.msg, "gone.gguf"));
    assert_int_equal(bm_pool_get(w.pool, "gone", &b, name, NULL, NULL, &err), BM_NOTFOUND);
    assert_non_null(strstr(w.log, "gone: not loaded:"));
    assert_int_equal(bm_pool_load(w.pool, "gone", &err), BM_NOTFOUND);
    assert_int_equal(get(&w, "here", &b, name, &err), 0);
    bm_pool_put(w.pool, b);
    close_world(&w);
}

static void name_that_means_another_file_now_loads_that(void **state)
{
    bm_backend *old, *new;
    char name[128];
    world w;
    bm_error err = { 0 };

    (void)state;
    open_world(&w);
    put_on_shelf(&w, TINY_MODEL, "m");
    assert_int_equal(get(&w, "m", &old, name, &err), 0);
    assert_string_equal(old->info(old)->arch, "llama");
    assert_int_equal(bm_shelf_remove(w.store, "m", &err), 0);
    assert_int_equal(bm_pool_get(w.pool, "m", &new, name, NULL, NULL, &err), BM_NOTFOUND);
    put_on_shelf(&w, TINY_OTHER, "m");
    assert_int_equal(get(&w, "m", &new, name, &err), 0);
    assert_string_equal(new->info(new)->arch, "qwen2");
    assert_string_equal(old->info(old)->arch, "llama");          /* still whole for the request that holds it */
    bm_pool_put(w.pool, old);
    bm_pool_put(w.pool, new);
    close_world(&w);
}

static void waiter_can_leave_and_the_pool_can_close_over_waiters(void **state)
{
    bell left = BELL, stayed = BELL;
    bm_backend *b;
    char name[128];
    world w;
    bm_error err = { 0 };

    (void)state;
    open_world(&w);
    put_on_shelf(&w, TINY_MODEL, "tiny");
    assert_false(bm_pool_forget(w.pool, ring, &left));
    int rc = bm_pool_get(w.pool, "tiny", &b, name, ring, &left, &err);
    if (rc == 1 && !bm_pool_forget(w.pool, ring, &left))
        wait_for(&left, 1);
    if (bm_pool_get(w.pool, "tiny", &b, name, ring, &stayed, &err) == 0)
        bm_pool_put(w.pool, b);
    close_world(&w);
    assert_true(stayed.n <= 1 && left.n <= 1);
    bm_pool_free(NULL);
}

/* The last byte of the only pack in a directory changes. */
static void damage_the_pack(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned char byte;
    struct stat st;
    int fd = -1;

    assert_non_null(d);
    while (fd < 0 && (e = readdir(d)) != NULL)
        if (strstr(e->d_name, ".pack") != NULL)
            fd = openat(dirfd(d), e->d_name, O_RDWR);
    closedir(d);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size - 1), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size - 1), 1);
    close(fd);
}

static bm_finish finish_of(bm_backend *b)
{
    int32_t prompt = 1;
    bm_gen_request r = { .prompt = &prompt, .n_prompt = 1, .max_tokens = 2, .n_choices = 1, .sampling = bm_sampling_default(),
                         .top_logprobs = -1, .ignore_eos = true };
    bm_finish finish = BM_FINISH_CANCELED;
    bm_event ev = { .kind = BM_EVENT_TOKEN };
    bm_error err = { 0 };
    bm_gen *gen;

    assert_int_equal(b->generate(b, &gen, &r, &err), 0);
    do {
        bm_gen_wait(gen);
        while (bm_gen_next(gen, &ev) == 1 && ev.kind != BM_EVENT_END)
            finish = ev.kind == BM_EVENT_FINISH ? ev.finish : finish;
    } while (ev.kind != BM_EVENT_END);
    bm_gen_close(gen);
    return finish;
}

/* Written; then mapped, and its checksums compared; then damaged: told, its answers are errors, and it is loaded anew. */
static void a_damaged_pack_is_told_and_the_model_is_loaded_anew(void **state)
{
    bm_engine_options engine = { .n_threads = 1, .kv_budget_bytes = 64 << 20 };
    char dir[128], name[128];
    world w = { .store = kit_store() };
    bm_pool_options options = { .n_ctx = 64, .n_parallel = 1, .log = keep_line, .log_arg = &w, .pack_dir = dir };
    bm_backend *first;
    bm_error err = { 0 };

    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_path("packs"));
    put_on_shelf(&w, TINY_MODEL, "tiny");
    for (int pass = 0; pass < 3; pass++) {
        w.log[0] = '\0';
        if (pass == 2)
            damage_the_pack(dir);
        assert_int_equal(bm_engine_new(&w.engine, &engine, &err), 0);
        assert_int_equal(bm_pool_new(&w.pool, w.engine, w.store, &options, &err), 0);
        assert_int_equal(get(&w, "tiny", &first, name, &err), 0);
        bm_loaded_kept(bm_backend_loaded(first));
        if (pass == 2 && bm_loaded_mapped(bm_backend_loaded(first))) {
            assert_true(bm_loaded_damaged(bm_backend_loaded(first)));
            assert_int_equal(finish_of(first), BM_FINISH_ERROR);
            bm_pool_put(w.pool, first);
            assert_int_equal(get(&w, "tiny", &first, name, &err), 0);
        }
        if (pass == 2)
            assert_non_null(strstr(w.log, "tiny: its packed weights were damaged"));
        assert_int_equal(bm_loaded_mapped(bm_backend_loaded(first)), pass == 1);
        assert_false(bm_loaded_damaged(bm_backend_loaded(first)));
        assert_int_equal(finish_of(first), BM_FINISH_LENGTH);
        bm_loaded_kept(bm_backend_loaded(first));
        bm_pool_put(w.pool, first);
        bm_pool_free(w.pool);
        bm_engine_free(w.engine);
    }
    bm_store_close(w.store);
}

/* Three adapters where two fit: the one not used for longest goes, one in use does not. */
static void mounted_adapters_keep_within_their_memory(void **state)
{
    static const char *const names[] = { "a", "b", "c" };
    bm_engine_options engine = { .n_threads = 1, .kv_budget_bytes = 64 << 20 };
    bm_pool_options options = { .n_ctx = 64, .n_parallel = 1, .adapter_bytes = 1 << 30 };
    world w = { .store = kit_store() };
    bm_backend *b[3] = { 0 };
    bm_adapter_row row;
    char name[128];
    bm_error err = { 0 };

    (void)state;
    put_on_shelf(&w, "tests/oracle/models/llama.gguf", "base");
    for (int i = 0; i < 3; i++)
        if (bm_shelf_add_adapter(w.store, "tests/oracle/adapters/llama", "base", names[i], &row, &err) < 0)
            fail_msg("%s", err.msg);
    for (int pass = 0; pass < 3; pass++) {           /* room for all; for two and a half; for half a one */
        assert_int_equal(bm_engine_new(&w.engine, &engine, &err), 0);
        assert_int_equal(bm_pool_new(&w.pool, w.engine, w.store, &options, &err), 0);
        assert_int_equal(get(&w, "a", &b[0], name, &err), pass == 2 ? BM_NOMEM : 0);
        if (pass == 0) {
            options.adapter_bytes = bm_adapter_bytes(bm_backend_adapter(b[0])) * 5 / 2;
        } else if (pass == 1) {
            assert_int_equal(get(&w, "b", &b[1], name, &err), 0);
            assert_int_equal(get(&w, "c", &b[2], name, &err), BM_BUSY);
            assert_int_equal(mounted(&w), 2);
            bm_pool_put(w.pool, b[1]);
            assert_int_equal(get(&w, "c", &b[2], name, &err), 0);     /* a is older, and in use */
            assert_int_equal(mounted(&w), 2);
            bm_pool_put(w.pool, b[2]);
            assert_int_equal(finish_of(b[0]), BM_FINISH_LENGTH);
            assert_int_equal(get(&w, "b", &b[1], name, &err), 0);     /* and back again */
            assert_int_equal(finish_of(b[1]), BM_FINISH_LENGTH);
            bm_pool_put(w.pool, b[1]);
            options.adapter_bytes /= 5;
        }
        assert_int_equal(mounted(&w), pass == 0 ? 1 : pass == 1 ? 2 : 0);
        bm_pool_put(w.pool, b[0]);
        bm_pool_free(w.pool);
        bm_engine_free(w.engine);
    }
    bm_store_close(w.store);
}

#define T(f) cmocka_unit_test_setup_teardown(f, kit_make, kit_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(shelf_model_loads_at_its_first_request),
        T(mounted_adapters_keep_within_their_memory),
        T(unknown_names_and_paths_are_not_found),
        T(named_at_start_may_be_a_path_and_is_the_default),
        T(wanted_models_become_ready_and_tell),
        T(failed_load_is_told_and_the_rest_goes_on),
        T(name_that_means_another_file_now_loads_that),
        T(a_damaged_pack_is_told_and_the_model_is_loaded_anew),
        T(waiter_can_leave_and_the_pool_can_close_over_waiters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
