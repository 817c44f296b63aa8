/* ledger.c - see ledger.h. The queue's lock is never held during a commit. */
#include "store/ledger.h"
#include "base/mem.h"
#include "store/db.h"

#include <string.h>
#include <time.h>

enum { MOST_WAITING = 1 << 20, RETRY_S = 1 };

typedef struct waiting {
    struct waiting *next;
    bm_ledger_row row;
} waiting;

struct bm_ledger_queue {
    bm_store *store;
    pthread_t thread;
    pthread_mutex_t lock;        /* guards all below */
    pthread_cond_t wake, changed;
    waiting *first, **last;
    uint64_t added, committed, failures;
    bm_error error;              /* of the last failure */
    int stopping, hurry;         /* hurry: a flush waits, so a failed commit is tried again at once */
};

static int insert(bm_db *db, const bm_ledger_row *r, bm_error *err)
{
    int rc = bm_db_run(db, err,
                       "INSERT INTO ledger (request_id, key_id, key_name, model, adapter, route, prompt_tokens, cached_tokens, "
                       "completion_tokens, outcome, reason, started_ms, queue_ms, first_token_ms, total_ms) "
                       "VALUES (?, ?, ?, ?, ?, ?, max(?, 0), max(?, 0), max(?, 0), ?, ?, ?, ?, ?, ?)",
                       "sissssiiissiiii", r->request_id, r->key_id, r->key_name, r->model, r->adapter, r->route, r->prompt_tokens,
                       r->cached_tokens, r->completion_tokens, r->outcome, r->reason, r->started_ms, r->queue_ms,
                       r->first_token_ms, r->total_ms);

    if (rc == 0 && r->key_id != 0)
        rc = bm_db_run(db, err, "UPDATE key SET last_used_ms = max(last_used_ms, ?) WHERE id = ?", "ii", r->started_ms,
                       r->key_id);
    return rc;
}

static int commit(bm_store *store, const waiting *list, bm_error *err)
{
    int rc = bm_db_begin(&store->writer, err);

    if (rc < 0)
        return rc;
    for (; list != NULL && rc == 0; list = list->next)
        rc = insert(&store->writer, &list->row, err);
    return bm_db_end(&store->writer, rc, err);
}

static void wait_a_second(bm_ledger_queue *q)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_S;
    while (!q->stopping && !q->hurry)
        if (pthread_cond_timedwait(&q->wake, &q->lock, &until) != 0)
            break;
    q->hurry = 0;
}

/* Called with the lock; drops it during the commit. The list stays ours until it is on disk. */
static int write_all(bm_ledger_queue *q)
{
    waiting *list = q->first;
    uint64_t n = 0;
    bm_error err;

    q->first = NULL;
    q->last = &q->first;
    pthread_mutex_unlock(&q->lock);
    int rc = commit(q->store, list, &err);
    for (waiting *w = list, *next; rc == 0 && w != NULL; w = next, n++) {
        next = w->next;
        bm_free(w);
    }
    pthread_mutex_lock(&q->lock);
    if (rc < 0) {
        waiting **end = &list;
        while (*end != NULL)
            end = &(*end)->next;
        *end = q->first;
        if (q->first == NULL)
            q->last = end;
        q->first = list;
        q->error = err;
        q->failures++;
    }
    q->committed += n;
    pthread_cond_broadcast(&q->changed);
    return rc;
}

static void *write_loop(void *arg)
{
    bm_ledger_queue *q = arg;

    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->first == NULL && !q->stopping)
            pthread_cond_wait(&q->wake, &q->lock);
        if (q->first == NULL)
            break;
        if (write_all(q) < 0) {
            if (q->stopping)
                break;
            wait_a_second(q);
        }
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static void free_queue(bm_ledger_queue *q)
{
    for (waiting *w = q->first, *next; w != NULL; w = next) {
        next = w->next;
        bm_free(w);
    }
    pthread_cond_destroy(&q->wake);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    bm_free(q);
}

static int start(bm_store *store, bm_error *err)
{
    pthread_condattr_t attr;
    bm_ledger_queue *q = bm_zalloc(sizeof *q);

    if (q == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the ledger's queue");
    q->store = store;
    q->last = &q->first;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->wake, &attr);
    pthread_cond_init(&q->changed, NULL);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&q->thread, NULL, write_loop, q) != 0) {
        free_queue(q);
        return bm_fail(err, BM_NOMEM, "cannot start the ledger's thread");
    }
    store->ledger = q;
    return 0;
}

static bm_ledger_queue *get_queue(bm_store *store, bool make, bm_error *err)
{
    pthread_mutex_lock(&store->ledger_lock);
    if (store->ledger == NULL && make)
        start(store, err);
    bm_ledger_queue *q = store->ledger;
    pthread_mutex_unlock(&store->ledger_lock);
    return q;
}

void bm_ledger_stop(bm_store *store)
{
    bm_ledger_queue *q = store->ledger;

    if (q == NULL)
        return;
    pthread_mutex_lock(&q->lock);
    q->stopping = 1;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->thread, NULL);
    free_queue(q);
    store->ledger = NULL;
}

int bm_ledger_add(bm_store *store, const bm_ledger_row *row, bm_error *err)
{
    bm_ledger_queue *q = get_queue(store, true, err);
    waiting *w;
    int rc = 0;

    if (q == NULL)
        return BM_NOMEM;
    if ((w = bm_malloc(sizeof *w)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a ledger row");
    w->next = NULL;
    w->row = *row;
    pthread_mutex_lock(&q->lock);
    if (q->added - q->committed >= MOST_WAITING) {
        rc = bm_fail(err, BM_NOMEM, "the ledger: %d rows wait for the disk: %.300s", MOST_WAITING, q->error.msg);
    } else {
        *q->last = w;
        q->last = &w->next;
        q->added++;
        w = NULL;
        pthread_cond_signal(&q->wake);
    }
    pthread_mutex_unlock(&q->lock);
    bm_free(w);
    return rc;
}

int bm_ledger_flush(bm_store *store, bm_error *err)
{
    bm_ledger_queue *q = get_queue(store, false, err);
    int rc = 0;

    if (q == NULL)
        return 0;
    pthread_mutex_lock(&q->lock);
    uint64_t target = q->added, failures = q->failures;
    q->hurry = q->committed < target;
    pthread_cond_signal(&q->wake);
    while (q->committed < target && q->failures == failures)
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->committed < target) {
        rc = q->error.code;
        if (err != NULL)
            *err = q->error;
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int bm_ledger_sum(bm_store *store, bm_usage_by by, int64_t since_ms, bm_usage_row **out, size_t *n, bm_error *err)
{
#define SUMS ", count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(outcome = 'canceled'), " \
             "sum(outcome IN ('error', 'rejected')) FROM ledger WHERE started_ms >= ? GROUP BY 1 ORDER BY 1"
    static const char *const sql[] = { "SELECT key_name" SUMS, "SELECT model" SUMS, "SELECT adapter" SUMS,
                                       "SELECT strftime('%Y-%m-%d', started_ms / 1000, 'unixepoch')" SUMS };
#undef SUMS
    bm_query query;
    bm_usage_row *rows = NULL;
    size_t cap = 0;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, sql[by], "i", since_ms)) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1) {
            if (*n == cap) {
                bm_usage_row *more = bm_realloc(rows, (cap = cap * 2 + 16) * sizeof *rows);
                if (more == NULL) {
                    rc = bm_fail(err, BM_NOMEM, "no memory for %zu rows of usage", cap);
                    break;
                }
                rows = more;
            }
            bm_usage_row *r = &rows[(*n)++];
            *r = (bm_usage_row){ .requests = bm_query_int(&query, 1), .prompt_tokens = bm_query_int(&query, 2),
                                 .cached_tokens = bm_query_int(&query, 3), .completion_tokens = bm_query_int(&query, 4),
                                 .canceled = bm_query_int(&query, 5), .errors = bm_query_int(&query, 6) };
            bm_query_text(&query, 0, r->group, sizeof r->group);
        }
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}
