/* runs.c - see runs.h. */
#include "store/runs.h"
#include "base/clock.h"
#include "base/mem.h"
#include "store/db.h"

#include <string.h>

#define COLUMNS "number, id, kind, name, state, model, model_sha256, adapter, adapter_sha256, version, machine, seed, key_id, " \
                "created_ms, started_ms, finished_ms, step, n_steps, tokens, pid, pid_start, attempts, events_at, data, " \
                "settings, result, error, hint"

void bm_run_row_done(bm_run_row *row)
{
    char **strings[] = { &row->data, &row->settings, &row->result, &row->error, &row->hint };

    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        bm_free(*strings[i]);
        *strings[i] = NULL;
    }
}

void bm_runs_free(bm_run_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bm_run_row_done(&rows[i]);
    bm_free(rows);
}

static int read_row(bm_query *q, bm_run_row *row, bm_error *err)
{
    int64_t *numbers[] = { &row->seed, &row->key_id, &row->created_ms, &row->started_ms, &row->finished_ms, &row->step,
                           &row->n_steps, &row->tokens, &row->pid, &row->pid_start, &row->attempts, &row->events_at };
    char **strings[] = { &row->data, &row->settings, &row->result, &row->error, &row->hint };
    int rc = 0;

    *row = (bm_run_row){ .number = bm_query_int(q, 0) };
    bm_query_text(q, 1, row->id, sizeof row->id);
    bm_query_text(q, 2, row->kind, sizeof row->kind);
    bm_query_text(q, 3, row->name, sizeof row->name);
    bm_query_text(q, 4, row->state, sizeof row->state);
    bm_query_text(q, 5, row->model, sizeof row->model);
    bm_query_text(q, 6, row->model_sha256, sizeof row->model_sha256);
    bm_query_text(q, 7, row->adapter, sizeof row->adapter);
    bm_query_text(q, 8, row->adapter_sha256, sizeof row->adapter_sha256);
    bm_query_text(q, 9, row->version, sizeof row->version);
    bm_query_text(q, 10, row->machine, sizeof row->machine);
    for (int i = 0; i < 12; i++)
        *numbers[i] = bm_query_int(q, 11 + i);
    for (int i = 0; i < 5 && rc == 0; i++)
        rc = bm_query_dup(q, 23 + i, strings[i], err);
    if (rc < 0)
        bm_run_row_done(row);
    return rc;
}

int bm_runs_insert(bm_store *store, bm_run_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err,
                   "INSERT INTO run (id, kind, name, state, model, model_sha256, adapter, adapter_sha256, data, settings, seed, "
                   "version, machine, result, error, hint, key_id, created_ms) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, "
                   "coalesce(?, '[]'), coalesce(?, '{}'), ?, ?, ?, '', '', '', ?, ?)",
                   "sssssssssissii", row->id, row->kind, row->name, row->model, row->model_sha256, row->adapter,
                   row->adapter_sha256, row->data, row->settings, row->seed, row->version, row->machine, row->key_id,
                   row->created_ms);
    if (rc == 0)
        row->number = sqlite3_last_insert_rowid(db->handle);
    strcpy(row->state, "queued");
    return bm_db_end(db, rc, err);
}

static int no_such_run(const char *id, bm_error *err)
{
    bm_fail(err, BM_NOTFOUND, "there is no run '%.60s'", id);
    return bm_hint(err, "baimo tune ls, or baimo eval ls"), BM_NOTFOUND;
}

int bm_runs_find(bm_store *store, const char *id, bm_run_row *out, bm_error *err)
{
    bm_query query;
    int rc;

    *out = (bm_run_row){ 0 };
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM run WHERE id = ?", "s", id)) == 0) {
        if ((rc = bm_query_step(&query, err)) == 1)
            rc = read_row(&query, out, err);
        else if (rc == 0)
            rc = no_such_run(id, err);
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    return rc;
}

static int list_locked(bm_store *store, const bm_runs_filter *f, void **rows, size_t *n, bm_error *err)
{
    int64_t edge = f->oldest_first ? 0 : INT64_MAX, most = f->most == 0 ? -1 : (int64_t)f->most;
    bm_query query;
    int rc;

    if (f->after != NULL && f->after[0] != '\0') {
        if ((rc = bm_db_int(&store->reader, &edge, 0, err, "SELECT number FROM run WHERE id = ?", "s", f->after)) < 0)
            return rc;
        if (edge == 0)
            return no_such_run(f->after, err);
    }
#define WHERE "SELECT " COLUMNS " FROM run WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR state = ?2 OR (?2 = 'open' AND " \
              "state IN ('queued', 'running', 'stopping'))) AND (?3 IS NULL OR name = ?3) AND (?6 = 0 OR key_id = ?6) AND "
    rc = bm_query_open(&query, &store->reader, err,
                       f->oldest_first ? WHERE "number > ?4 ORDER BY number LIMIT ?5"
                                       : WHERE "number < ?4 ORDER BY number DESC LIMIT ?5",
                       "sssiii", f->kind, f->state, f->name, edge, most, f->key_id);
#undef WHERE
    if (rc < 0)
        return rc;
    while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(rows, *n, sizeof(bm_run_row), err)) == 0 &&
           (rc = read_row(&query, (bm_run_row *)*rows + *n, err)) == 0)
        ++*n;
    bm_query_close(&query);
    return rc;
}

int bm_runs_list(bm_store *store, const bm_runs_filter *filter, bm_run_row **out, size_t *n, bm_error *err)
{
    void *rows = NULL;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    int rc = list_locked(store, filter, &rows, n, err);
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_runs_free(rows, *n), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

/* ---- changes ---- */

int bm_runs_change(bm_store *store, int64_t number, const char *from, const char *to, bm_error *err)
{
    bm_db *db = &store->writer;
    int changed = 0, rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    /* The names of states hold no comma and none is part of another. */
    if ((rc = bm_db_run(db, err, "UPDATE run SET state = ? WHERE number = ? AND instr(?, state) > 0", "sis", to, number,
                        from)) == 0)
        changed = sqlite3_changes(db->handle) > 0;
    rc = bm_db_end(db, rc, err);
    return rc < 0 ? rc : changed;
}

int bm_runs_claim(bm_store *store, int64_t number, bm_error *err)
{
    bm_db *db = &store->writer;
    int64_t now = bm_wall_ms();
    int claimed = 0, rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    if ((rc = bm_db_run(db, err,
                        "UPDATE run SET state = 'running', attempts = attempts + 1, started_ms = CASE started_ms WHEN 0 THEN ? ELSE "
                        "started_ms END, finished_ms = 0, error = '', hint = '' WHERE number = ? AND state = 'queued'",
                        "ii", now, number)) == 0)
        claimed = sqlite3_changes(db->handle) > 0;
    rc = bm_db_end(db, rc, err);
    return rc < 0 ? rc : claimed;
}

int bm_runs_process(bm_store *store, int64_t number, int64_t pid, int64_t pid_start, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "UPDATE run SET pid = ?, pid_start = ? WHERE number = ?", "iii", pid, pid_start, number);
    return bm_db_end(db, rc, err);
}

int bm_runs_inputs(bm_store *store, int64_t number, const char *data, const char *adapter_sha256, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err,
                   "UPDATE run SET data = coalesce(?, data), adapter_sha256 = coalesce(?, adapter_sha256) WHERE number = ?",
                   "ssi", data, adapter_sha256, number);
    return bm_db_end(db, rc, err);
}

int bm_runs_ended(bm_store *store, int64_t number, const char *state, const char *result, const char *error, const char *hint,
                  bm_error *err)
{
    bm_db *db = &store->writer;
    int64_t finished = strcmp(state, "queued") == 0 ? 0 : bm_wall_ms();
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err,
                   "UPDATE run SET state = ?, result = coalesce(?, result), error = coalesce(?, ''), hint = coalesce(?, ''), "
                   "pid = 0, pid_start = 0, finished_ms = ? WHERE number = ?",
                   "ssssii", state, result, error, hint, finished, number);
    return bm_db_end(db, rc, err);
}

int bm_runs_delete(bm_store *store, const char *id, bm_error *err)
{
    bm_db *db = &store->writer;
    int64_t open, known;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    if ((rc = bm_db_int(db, &known, 0, err, "SELECT 1 FROM run WHERE id = ?", "s", id)) == 0 &&
        (rc = bm_db_int(db, &open, 0, err,
                        "SELECT 1 FROM run WHERE id = ? AND state IN ('queued', 'running', 'stopping')", "s", id)) == 0) {
        if (!known)
            rc = no_such_run(id, err);
        else if (open)
            rc = bm_fail(err, BM_BUSY, "the run '%s' has not ended", id);
        else
            rc = bm_db_run(db, err, "DELETE FROM run WHERE id = ?", "s", id);
    }
    return bm_db_end(db, rc, err);
}

/* ---- events ---- */

void bm_run_event_done(bm_run_event *event)
{
    bm_free(event->message);
    bm_free(event->data);
    event->message = event->data = NULL;
}

void bm_run_events_free(bm_run_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bm_run_event_done(&events[i]);
    bm_free(events);
}

int bm_run_events_add(bm_store *store, const bm_run_row *row, const bm_run_event *events, size_t n, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = bm_db_run(db, err,
                       "INSERT INTO run_event (run, at_ms, level, type, step, message, data) VALUES (?, ?, ?, ?, ?, "
                       "coalesce(?, ''), coalesce(?, ''))",
                       "iississ", row->number, events[i].at_ms, events[i].level, events[i].type, events[i].step,
                       events[i].message, events[i].data);
    if (rc == 0)
        rc = bm_db_run(db, err, "UPDATE run SET step = ?, n_steps = ?, tokens = ?, events_at = ? WHERE number = ?", "iiiii",
                       row->step, row->n_steps, row->tokens, row->events_at, row->number);
    return bm_db_end(db, rc, err);
}

int bm_run_events_cut(bm_store *store, int64_t run, int64_t step, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "DELETE FROM run_event WHERE run = ? AND step > ? AND type IN ('metrics', 'checkpoint')", "ii", run,
                   step);
    return bm_db_end(db, rc, err);
}

static int read_event(bm_query *q, bm_run_event *event, bm_error *err)
{
    int rc;

    *event = (bm_run_event){ .id = bm_query_int(q, 0), .at_ms = bm_query_int(q, 1), .step = bm_query_int(q, 4) };
    bm_query_text(q, 2, event->level, sizeof event->level);
    bm_query_text(q, 3, event->type, sizeof event->type);
    if ((rc = bm_query_dup(q, 5, &event->message, err)) < 0 || (rc = bm_query_dup(q, 6, &event->data, err)) < 0)
        bm_run_event_done(event);
    return rc;
}

int bm_run_events_list(bm_store *store, const bm_run_events_filter *f, bm_run_event **out, size_t *n, bm_error *err)
{
    int64_t edge = f->after != 0 ? f->after : f->oldest_first ? 0 : INT64_MAX, most = f->most == 0 ? -1 : (int64_t)f->most;
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
#define WHERE "SELECT id, at_ms, level, type, step, message, data FROM run_event WHERE run = ?1 AND (?2 IS NULL OR type = ?2) AND "
    if ((rc = bm_query_open(&query, &store->reader, err,
                            f->oldest_first ? WHERE "id > ?3 ORDER BY id LIMIT ?4" : WHERE "id < ?3 ORDER BY id DESC LIMIT ?4",
                            "isii", f->run, f->type, edge, most)) == 0) {
#undef WHERE
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0 &&
               (rc = read_event(&query, (bm_run_event *)rows + *n, err)) == 0)
            ++*n;
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_run_events_free(rows, *n), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}
