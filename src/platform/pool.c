/* pool.c - see pool.h.
 * An entry is one file under one name. It is made at the first wish, stays while the pool lives, and is replaced when the shelf
 * comes to mean another file by the name. One thread takes queued entries in order. pool->lock guards the list and every
 * field of an entry but done and total. */
#include "platform/pool.h"
#include "base/clock.h"
#include "base/mem.h"
#include "compute/cpu.h"
#include "platform/mounts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_PARALLEL = 4, ADAPTER_SHARE = 8 };    /* the part of the available memory that mounted adapters may take */
static const int64_t retry_after_ns = 10LL * 1000000000;

typedef enum state { IDLE, QUEUED, LOADING, READY, FAILED } state;

typedef struct waiter {
    struct waiter *next;
    void (*ready)(void *arg);
    void *arg;
} waiter;

typedef struct entry {
    struct entry *next;
    bm_pool *pool;
    bm_shelf_model row;          /* name and path; sha256 when on the shelf */
    state state;
    bool at_start, stale;        /* stale: the name means another file now; freed when the last reference is back */
    int refs;
    bm_loaded *loaded;
    bm_backend *backend;
    bm_error error;              /* when FAILED */
    int64_t failed_ns;
    atomic_ullong done, total;   /* of the running load, in bytes */
    waiter *waiters;
} entry;

struct bm_pool {
    bm_engine *engine;
    bm_store *store;
    bm_pool_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, changed;        /* for the loader; for those who wait for a state */
    entry *entries;                      /* oldest first */
    bm_mount *mounts;                    /* most recently used first */
    atomic_bool stopping;
};

/* ---- loading ---- */

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
    entry *e = arg;

    atomic_store(&e->done, done);
    atomic_store(&e->total, total);
    return !atomic_load(&e->pool->stopping);
}

/* Into the caller's hands: the entry's own fields are set under the lock. */
static int load(bm_pool *pool, entry *e, bm_loaded **loaded, bm_backend **backend, bm_error *err)
{
    bm_load_options options = { .name = e->row.name, .n_ctx = pool->options.n_ctx, .n_parallel = pool->options.n_parallel,
                                .kv_type = pool->options.kv_type, .progress = on_progress, .progress_arg = e, .pack_dir = pool->options.pack_dir,
                                .notice = pool->options.log, .notice_arg = pool->options.log_arg };
    bm_known_file known;

    if (bm_shelf_known(&e->row, &known))
        options.known = &known;
    int rc = bm_engine_load(loaded, pool->engine, e->row.path, &options, err);

    if (rc < 0)
        return rc;
    if ((rc = bm_backend_local(backend, pool->engine, *loaded, err)) < 0) {
        bm_loaded_unref(*loaded);
        *loaded = NULL;
    }
    return rc;
}

static void log_load(bm_pool *pool, const char *name, const bm_loaded *loaded, const bm_error *err, int64_t took_ns)
{
    char line[900];

    if (pool->options.log == NULL)
        return;
    if (loaded == NULL)
        snprintf(line, sizeof line, "%s: not loaded: %s", name, err->msg);
    else
        snprintf(line, sizeof line, "%s: loaded in %.1f s; %s", name, (double)took_ns / 1e9, bm_loaded_arithmetic(loaded));
    pool->options.log(pool->options.log_arg, line);
}

/* Called with the lock; drops it while loading and while calling the waiters. */
static void run_load(bm_pool *pool, entry *e)
{
    bm_loaded *loaded = NULL;
    bm_backend *backend = NULL;
    bm_error err = { 0 };

    e->state = LOADING;
    atomic_store(&e->done, 0);
    pthread_mutex_unlock(&pool->lock);
    int64_t begin = bm_now_ns();
    int rc = load(pool, e, &loaded, &backend, &err);
    log_load(pool, e->row.name, loaded, &err, bm_now_ns() - begin);
    pthread_mutex_lock(&pool->lock);
    e->loaded = loaded;
    e->backend = backend;
    e->state = rc < 0 ? FAILED : READY;
    e->error = err;
    e->failed_ns = bm_now_ns();
    waiter *w = e->waiters;
    e->waiters = NULL;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (waiter *next; w != NULL; w = next) {
        next = w->next;
        if (!atomic_load(&pool->stopping))
            w->ready(w->arg);
        bm_free(w);
    }
    pthread_mutex_lock(&pool->lock);
}

static entry *next_queued(bm_pool *pool)
{
    for (entry *e = pool->entries; e != NULL; e = e->next)
        if (e->state == QUEUED)
            return e;
    return NULL;
}

static void *load_loop(void *arg)
{
    bm_pool *pool = arg;
    entry *e;

    pthread_mutex_lock(&pool->lock);
    while (!atomic_load(&pool->stopping)) {
        if ((e = next_queued(pool)) != NULL)
            run_load(pool, e);
        else
            pthread_cond_wait(&pool->wake, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* ---- entries ---- */

static void free_entry(entry *e)
{
    for (waiter *w = e->waiters, *next; w != NULL; w = next) {
        next = w->next;
        bm_free(w);
    }
    if (e->backend != NULL)
        e->backend->close(e->backend);
    bm_loaded_unref(e->loaded);
    bm_free(e);
}

/* Mounts of a model that is not the one of its name any more, or not theirs, go when nobody uses them. */
static void sweep_mounts(bm_pool *pool)
{
    for (bm_mount **at = &pool->mounts; *at != NULL;) {
        bm_mount *m = *at;
        bool live = false;
        for (const entry *e = pool->entries; e != NULL && !live; e = e->next)
            live = !e->stale && e->state == READY && e->loaded == m->loaded;
        m->stale |= !live;
        if (!m->stale || m->refs > 0) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        bm_mount_free(m);
    }
}

/* Stale entries without a user go away. */
static void sweep(bm_pool *pool)
{
    sweep_mounts(pool);
    for (entry **at = &pool->entries; *at != NULL;) {
        entry *e = *at;
        if (!e->stale || e->refs > 0 || e->waiters != NULL || e->state == QUEUED || e->state == LOADING) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        free_entry(e);
    }
}

static bool same_model(const bm_shelf_model *a, const bm_shelf_model *b)
{
    return strcmp(a->path, b->path) == 0 && strcmp(a->sha256, b->sha256) == 0;
}

static entry *find_entry(bm_pool *pool, const char *name)
{
    for (entry *e = pool->entries; e != NULL; e = e->next)
        if (!e->stale && strcmp(e->row.name, name) == 0)
            return e;
    return NULL;
}

/* The entry of this row, made when new. Under the lock. */
static int get_entry(bm_pool *pool, const bm_shelf_model *row, entry **out, bm_error *err)
{
    entry *e = find_entry(pool, row->name), **end = &pool->entries;
    bool at_start = false;

    if (e != NULL && (!same_model(&e->row, row) || (e->state == READY && bm_loaded_damaged(e->loaded)))) {
        at_start = e->at_start && same_model(&e->row, row);
        e->stale = true;
        e = NULL;
        sweep(pool);
    }
    if (e == NULL) {
        if ((e = bm_zalloc(sizeof *e)) == NULL)
            return bm_fail(err, BM_NOMEM, "%s: no memory to load it", row->name);
        e->pool = pool;
        e->row = *row;
        e->at_start = at_start;
        while (*end != NULL)
            end = &(*end)->next;
        *end = e;
    }
    *out = e;
    return 0;
}

static void enqueue(bm_pool *pool, entry *e)
{
    if (e->state == READY || e->state == QUEUED || e->state == LOADING)
        return;
    e->state = QUEUED;
    pthread_cond_signal(&pool->wake);
}

/* ---- the pool ---- */

int bm_pool_new(bm_pool **out, bm_engine *engine, bm_store *store, const bm_pool_options *options, bm_error *err)
{
    bm_pool *pool = bm_zalloc(sizeof *pool);

    *out = NULL;
    if (pool == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the pool of models");
    pool->engine = engine;
    pool->store = store;
    if (options != NULL)
        pool->options = *options;
    if (pool->options.n_parallel == 0)
        pool->options.n_parallel = DEFAULT_PARALLEL;
    if (pool->options.adapter_bytes == 0) {
        bm_cpu cpu;
        bm_cpu_detect(&cpu);
        pool->options.adapter_bytes = cpu.memory_available_bytes / ADAPTER_SHARE;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->changed, NULL);
    if (pthread_create(&pool->thread, NULL, load_loop, pool) != 0) {
        bm_free(pool);
        return bm_fail(err, BM_NOMEM, "cannot start the thread that loads models");
    }
    *out = pool;
    return 0;
}

void bm_pool_free(bm_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stopping, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    pthread_join(pool->thread, NULL);
    for (bm_mount *m = pool->mounts, *next; m != NULL; m = next) {
        next = m->next;
        bm_mount_free(m);
    }
    for (entry *e = pool->entries, *next; e != NULL; e = next) {
        next = e->next;
        free_entry(e);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    bm_free(pool);
}

/* What a name of a request means, without the lock. An entry that came by path is found by its name only. */
static int resolve_name(bm_pool *pool, const char *name, bm_shelf_target *target, bm_error *err)
{
    bool use_entry = false;

    memset(target, 0, sizeof *target);
    pthread_mutex_lock(&pool->lock);
    for (entry *e = pool->entries; e != NULL && !use_entry; e = e->next)
        if (!e->stale && (name == NULL ? e->at_start : e->row.id == 0 && strcmp(e->row.name, name) == 0)) {
            target->model = e->row;
            use_entry = true;
        }
    pthread_mutex_unlock(&pool->lock);
    if (use_entry)
        return 0;
    if (pool->store == NULL)
        return bm_fail(err, BM_NOTFOUND, "there is no model '%.128s'", name == NULL ? "" : name);
    int rc = bm_shelf_find_target(pool->store, name, target, err);
    return rc < 0 || name != NULL ? rc : bm_shelf_check_present(&target->model, err);
}

static uint64_t mount_bytes(const bm_mount *m) { return bm_adapter_bytes(bm_backend_adapter(m->backend)); }

/* Room for one more: those least recently used (the last of the list) that nobody uses go. Under the lock. */
static int make_room(bm_pool *pool, const bm_mount *wanted, bm_error *err)
{
    uint64_t budget = pool->options.adapter_bytes, need = mount_bytes(wanted), held = 0;

    if (need > budget) {
        bm_fail(err, BM_NOMEM, "adapter %s takes %.1f MiB; adapters may take %.1f MiB", wanted->row.name, (double)need / 0x1p20,
                (double)budget / 0x1p20);
        return bm_hint(err, "start the server with a larger --adapter-memory"), BM_NOMEM;
    }
    for (const bm_mount *m = pool->mounts; m != NULL; m = m->next)
        held += mount_bytes(m);
    while (held > budget - need) {
        bm_mount *oldest = NULL;
        for (bm_mount *m = pool->mounts; m != NULL; m = m->next)
            if (m->refs == 0)
                oldest = m;
        if (oldest == NULL)
            return bm_fail(err, BM_BUSY, "adapter %s: others that requests use now take all the memory for adapters (%.1f MiB)",
                           wanted->row.name, (double)budget / 0x1p20);
        held -= mount_bytes(oldest);
        oldest->stale = true;
        sweep_mounts(pool);
    }
    return 0;
}

static void to_front(bm_pool *pool, bm_mount *m)
{
    bm_mount **at = &pool->mounts;

    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    m->next = pool->mounts;
    pool->mounts = m;
}

/* A reference on the adapter, mounted on this model. With the lock, which is given up while it is read and packed. */
static int get_mount(bm_pool *pool, entry *e, const bm_adapter_row *row, bm_backend **out, bm_error *err)
{
    bm_mount *m = bm_mount_find(pool->mounts, row, e->loaded), *mine = NULL;
    int rc = 0;

    if (m == NULL) {
        bm_loaded *loaded = e->loaded;
        e->refs++;                                               /* it must not be swept meanwhile */
        pthread_mutex_unlock(&pool->lock);
        rc = bm_mount_new(&mine, pool->engine, loaded, row, err);
        pthread_mutex_lock(&pool->lock);
        e->refs--;
        m = bm_mount_find(pool->mounts, row, loaded);            /* another request may have been faster */
    }
    if (m == NULL && mine != NULL && (rc = make_room(pool, mine, err)) == 0) {
        for (bm_mount *old = pool->mounts; old != NULL; old = old->next)
            old->stale |= strcmp(old->row.name, row->name) == 0 && old->loaded == mine->loaded;
        mine->next = pool->mounts;
        pool->mounts = m = mine;
        mine = NULL;
    }
    if (m != NULL) {
        rc = 0;
        to_front(pool, m);
        m->refs++;
        *out = m->backend;
    }
    sweep(pool);
    bm_mount_free(mine);
    return rc;
}

static int join_waiters(entry *e, void (*ready)(void *arg), void *arg, bm_error *err)
{
    waiter *w;

    if (ready == NULL)
        return 1;
    if ((w = bm_malloc(sizeof *w)) == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory to wait for it", e->row.name);
    *w = (waiter){ e->waiters, ready, arg };
    e->waiters = w;
    return 1;
}

int bm_pool_get(bm_pool *pool, const char *name, bm_backend **out, char canonical[128], void (*ready)(void *arg), void *arg,
                bm_error *err)
{
    bm_shelf_target target;
    entry *e;
    int rc;

    *out = NULL;
    if ((rc = resolve_name(pool, name != NULL && name[0] == '\0' ? NULL : name, &target, err)) < 0)
        return rc;
    memcpy(canonical, target.adapter.id != 0 ? target.adapter.name : target.model.name, sizeof target.model.name);
    pthread_mutex_lock(&pool->lock);
    if ((rc = get_entry(pool, &target.model, &e, err)) < 0)
        goto out;
    if (e->state == READY && target.adapter.id != 0) {
        rc = get_mount(pool, e, &target.adapter, out, err);
    } else if (e->state == READY) {
        e->refs++;
        *out = e->backend;
    } else if (e->state == FAILED && bm_now_ns() - e->failed_ns < retry_after_ns) {
        rc = e->error.code;
        if (err != NULL)
            *err = e->error;
    } else if ((rc = join_waiters(e, ready, arg, err)) == 1) {
        enqueue(pool, e);
    }
out:
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

bool bm_pool_forget(bm_pool *pool, void (*ready)(void *arg), void *arg)
{
    bool found = false;

    pthread_mutex_lock(&pool->lock);
    for (entry *e = pool->entries; e != NULL && !found; e = e->next)
        for (waiter **at = &e->waiters; *at != NULL; at = &(*at)->next)
            if ((*at)->ready == ready && (*at)->arg == arg) {
                waiter *w = *at;
                *at = w->next;
                bm_free(w);
                found = true;
                break;
            }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

void bm_pool_put(bm_pool *pool, bm_backend *backend)
{
    if (backend == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    for (entry *e = pool->entries; e != NULL; e = e->next)
        if (e->backend == backend) {
            BM_CHECK(e->refs > 0);
            e->refs--;
            break;
        }
    for (bm_mount *m = pool->mounts; m != NULL; m = m->next)
        if (m->backend == backend) {
            BM_CHECK(m->refs > 0);
            m->refs--;
            break;
        }
    sweep(pool);
    pthread_mutex_unlock(&pool->lock);
}

/* Under the lock on success. */
static int want(bm_pool *pool, const char *model, entry **out, bm_error *err)
{
    bm_shelf_model row;
    int rc = bm_shelf_resolve(pool->store, model, &row, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&pool->lock);
    if ((rc = get_entry(pool, &row, out, err)) < 0) {
        pthread_mutex_unlock(&pool->lock);
        return rc;
    }
    (*out)->at_start = true;
    enqueue(pool, *out);
    return 0;
}

int bm_pool_want(bm_pool *pool, const char *model, bm_error *err)
{
    entry *e;
    int rc = want(pool, model, &e, err);

    if (rc == 0)
        pthread_mutex_unlock(&pool->lock);
    return rc;
}

int bm_pool_load(bm_pool *pool, const char *model, bm_error *err)
{
    entry *e;
    int rc = want(pool, model, &e, err);

    if (rc < 0)
        return rc;
    e->refs++;                                                   /* it must not be swept while we wait */
    while (e->state == QUEUED || e->state == LOADING)
        pthread_cond_wait(&pool->changed, &pool->lock);
    e->refs--;
    if (e->state == FAILED) {
        rc = e->error.code;
        if (err != NULL)
            *err = e->error;
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

/* ---- what there is ---- */

static double entry_progress(const entry *e)
{
    uint64_t done = atomic_load(&e->done), total = atomic_load(&e->total);

    return e->state == READY ? 1 : e->state == LOADING && total > 0 ? (double)done / (double)total : 0;
}

static void describe(bm_pool_entry *out, const entry *e)
{
    out->loaded = e->state == READY;
    out->loading = e->state == LOADING || e->state == QUEUED;
    out->progress = entry_progress(e);
    if (e->state == READY) {
        bm_loaded_get_stats(e->loaded, &out->stats);
        out->ctx = bm_loaded_ctx(e->loaded);
        out->model = e->loaded;
        out->size_bytes = (int64_t)bm_loaded_info(e->loaded)->packed_bytes;
    }
}

static void from_row(bm_pool_entry *out, const bm_shelf_model *row)
{
    *out = (bm_pool_entry){ .size_bytes = row->size_bytes, .created_s = row->created_ms / 1000 };
    memcpy(out->name, row->name, sizeof out->name);
}

/* Adapters of the shelf behind the models of the list; those that left it are not mounted any longer. Under the lock. */
static void list_adapters(bm_pool *pool, const bm_adapter_row *rows, size_t n_rows, bm_pool_entry *list, size_t *n)
{
    for (bm_mount *m = pool->mounts; m != NULL; m = m->next) {
        bool there = false;
        for (size_t i = 0; i < n_rows && !there; i++)
            there = bm_mount_find(m, &rows[i], m->loaded) == m;
        m->stale |= !there;
    }
    sweep(pool);
    for (size_t i = 0; i < n_rows; i++) {
        bm_pool_entry *e = &list[(*n)++];
        *e = (bm_pool_entry){ .size_bytes = rows[i].size_bytes, .created_s = rows[i].created_ms / 1000 };
        memcpy(e->name, rows[i].name, sizeof e->name);
        memcpy(e->parent, rows[i].base_name, sizeof e->parent);
        for (const bm_mount *m = pool->mounts; m != NULL; m = m->next)
            if (!m->stale && m->row.id == rows[i].id) {
                e->loaded = true;
                e->ctx = bm_loaded_ctx(m->loaded);
                e->size_bytes = (int64_t)bm_adapter_bytes(bm_backend_adapter(m->backend));
            }
    }
}

int bm_pool_list(bm_pool *pool, bm_pool_entry **out, size_t *n, bm_error *err)
{
    bm_shelf_model *rows = NULL;
    bm_adapter_row *adapters = NULL;
    size_t n_rows = 0, n_entries = 0, n_adapters = 0;
    int rc;

    *out = NULL, *n = 0;
    if (pool->store != NULL && ((rc = bm_shelf_list(pool->store, &rows, &n_rows, err)) < 0 ||
                                (rc = bm_adapters_list(pool->store, &adapters, &n_adapters, err)) < 0)) {
        bm_free(rows);
        return rc;
    }
    pthread_mutex_lock(&pool->lock);
    for (entry *e = pool->entries; e != NULL; e = e->next)
        n_entries++;
    bm_pool_entry *list = bm_calloc(n_rows + n_entries + n_adapters + 1, sizeof *list);
    rc = list == NULL ? bm_fail(err, BM_NOMEM, "no memory to list %zu models", n_rows + n_entries) : 0;
    for (size_t i = 0; i < n_rows && rc == 0; i++) {
        const entry *e = find_entry(pool, rows[i].name);
        from_row(&list[*n], &rows[i]);
        if (e != NULL && same_model(&e->row, &rows[i]))
            describe(&list[*n], e);
        if (!rows[i].missing || list[*n].loaded)
            ++*n;
    }
    for (const entry *e = pool->entries; e != NULL && rc == 0; e = e->next) {
        bool listed = e->stale;
        for (size_t i = 0; i < *n && !listed; i++)
            listed = strcmp(list[i].name, e->row.name) == 0;
        if (listed || (e->row.id != 0 && e->state != READY))
            continue;
        from_row(&list[*n], &e->row);
        describe(&list[(*n)++], e);
    }
    if (rc == 0)
        list_adapters(pool, adapters, n_adapters, list, n);
    pthread_mutex_unlock(&pool->lock);
    bm_adapters_free(adapters, n_adapters);
    bm_free(rows);
    *out = list;
    return rc;
}

double bm_pool_progress(bm_pool *pool)
{
    double sum = 0;
    int n = 0;

    pthread_mutex_lock(&pool->lock);
    for (const entry *e = pool->entries; e != NULL; e = e->next)
        if (e->at_start)
            sum += entry_progress(e), n++;
    pthread_mutex_unlock(&pool->lock);
    return n == 0 ? 1 : sum / n;
}

int bm_pool_state(bm_pool *pool, bm_error *err)
{
    int rc = 0;

    pthread_mutex_lock(&pool->lock);
    for (const entry *e = pool->entries; e != NULL && rc >= 0; e = e->next)
        if (e->at_start && e->state == FAILED) {
            rc = e->error.code;
            if (err != NULL)
                *err = e->error;
        } else if (e->at_start && e->state != READY) {
            rc = 1;
        }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}
