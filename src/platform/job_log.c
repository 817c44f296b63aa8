/* job_log.c - see job_log.h. */
#include "platform/job_log.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 256, PIECE_BYTES = BM_JOB_LINE_BYTES + 1 };

void bm_job_log_open(bm_job_log *log, const char *dir, const bm_run_row *row, int64_t most_bytes)
{
    bm_buf path = { 0 };

    *log = (bm_job_log){ .fd = -1, .most_bytes = most_bytes, .stored_at = row->events_at };
    bm_buf_printf(&path, "%s/events.jsonl", dir);
    if (!path.failed)
        log->fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bm_buf_done(&path);
}

static void drop_events(bm_job_log *log)
{
    bm_run_events_free(log->events, log->n_events);
    log->events = NULL;
    log->n_events = 0;
}

void bm_job_log_done(bm_job_log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    drop_events(log);
    bm_free(log->result);
    bm_free(log->error);
    bm_free(log->hint);
    *log = (bm_job_log){ .fd = -1 };
}

static int flush(bm_job_log *log, bm_store *store, const bm_run_row *row, bm_error *err)
{
    int rc = bm_run_events_add(store, row, log->events, log->n_events, err);

    drop_events(log);
    if (rc == 0)
        log->stored_at = row->events_at;
    return rc;
}

static int add(bm_job_log *log, const char *level, const char *type, int64_t step, const char *message, const char *data,
               size_t len, bm_error *err)
{
    if (log->events == NULL && (log->events = bm_calloc(BATCH, sizeof *log->events)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a job's events");
    bm_run_event *e = &log->events[log->n_events++];
    *e = (bm_run_event){ .at_ms = bm_wall_ms(), .step = step, .message = bm_strdup(message), .data = bm_strndup(data, len) };
    snprintf(e->level, sizeof e->level, "%s", level);
    snprintf(e->type, sizeof e->type, "%s", type);
    return e->message == NULL || e->data == NULL ? bm_fail(err, BM_NOMEM, "no memory for a job's events") : 0;
}

static const char *text_of(const json_t *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s == NULL ? fallback : s;
}

/* A number from outside: never negative, never larger than what doubles hold exactly. */
static void take_count(const json_t *object, const char *key, int64_t *out)
{
    const json_t *x = json_object_get(object, key);
    double d = json_number_value(x);

    if (json_is_number(x) && d >= 0 && d <= 9e15)
        *out = json_is_integer(x) ? json_integer_value(x) : (int64_t)d;
}

static int take_text(char **out, const char *text, bm_error *err)
{
    bm_free(*out);
    *out = bm_strdup(text);
    return *out == NULL ? bm_fail(err, BM_NOMEM, "no memory for a job's events") : 0;
}

static int take_json(char **out, const json_t *value, bm_error *err)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    int rc = text == NULL ? bm_fail(err, BM_NOMEM, "no memory for a job's events") : take_text(out, text, err);

    free(text);
    return rc;
}

/* The child begins, or begins again from a checkpoint: what it reported beyond that is void, and so is its last word. */
static int take_start(bm_job_log *log, bm_store *store, bm_run_row *row, const json_t *object, bm_error *err)
{
    const json_t *data = json_object_get(object, "data");
    int rc;

    log->said = BM_JOB_NOTHING;
    row->step = 0;
    take_count(object, "step", &row->step);
    if ((rc = flush(log, store, row, err)) < 0 || (rc = bm_run_events_cut(store, row->number, row->step, err)) < 0)
        return rc;
    if (json_is_array(data)) {
        if ((rc = take_json(&row->data, data, err)) == 0)
            rc = bm_runs_inputs(store, row->number, row->data, NULL, err);
    }
    return rc;
}

static int take_end(bm_job_log *log, const char *event, const json_t *object, bm_error *err)
{
    const json_t *result = json_object_get(object, "result");
    int rc = 0;

    if (strcmp(event, "done") == 0) {
        log->said = BM_JOB_DONE;
        rc = take_json(&log->result, result == NULL ? object : result, err);
    } else if (strcmp(event, "stopped") == 0) {
        log->said = BM_JOB_STOPPED;
    } else {
        log->said = BM_JOB_ERROR;
        if ((rc = take_text(&log->error, text_of(object, "message", "the job failed and did not say why"), err)) == 0)
            rc = take_text(&log->hint, text_of(object, "hint", ""), err);
    }
    return rc;
}

static const char *level_of(const char *event, const json_t *object)
{
    const char *level = text_of(object, "level", strcmp(event, "error") == 0 ? "error" : "info");

    return strcmp(level, "warn") == 0 || strcmp(level, "error") == 0 ? level : "info";
}

static int take_object(bm_job_log *log, bm_store *store, bm_run_row *row, const json_t *object, const char *line, size_t len,
                       bm_error *err)
{
    const char *event = text_of(object, "event", ""), *type = "message";
    int rc = 0;

    take_count(object, "step", &row->step);
    take_count(object, "n_steps", &row->n_steps);
    take_count(object, "tokens", &row->tokens);
    if (strcmp(event, "start") == 0)
        rc = take_start(log, store, row, object, err);
    else if (strcmp(event, "done") == 0 || strcmp(event, "error") == 0 || strcmp(event, "stopped") == 0)
        rc = take_end(log, event, object, err);
    else if (strcmp(event, "checkpoint") == 0)
        type = "checkpoint", log->checkpointed = true;
    else if (strcmp(event, "step") == 0 || strcmp(event, "valid") == 0)
        type = "metrics";
    if (rc < 0)
        return rc;
    return add(log, level_of(event, object), type, row->step, text_of(object, "message", event), line, len, err);
}

static int take_junk(bm_job_log *log, const bm_run_row *row, const char *what, bm_error *err)
{
    if (log->told_junk)
        return 0;
    log->told_junk = true;
    return add(log, "warn", "message", row->step, what, "", 0, err);
}

static int take_line(bm_job_log *log, bm_store *store, bm_run_row *row, const char *line, size_t len, bm_error *err)
{
    json_t *object;
    int rc;

    if (len == 0)
        return 0;
    object = json_loadb(line, len, 0, NULL);
    if (!json_is_object(object) || !json_is_string(json_object_get(object, "event")))
        rc = take_junk(log, row, "its process wrote a line that is no event: skipped, as further ones are", err);
    else
        rc = take_object(log, store, row, object, line, len, err);
    json_decref(object);
    return rc;
}

/* The lines of a piece that begins at row->events_at; what is left of the last one waits for its end. */
static int take_piece(bm_job_log *log, bm_store *store, bm_run_row *row, const char *piece, size_t len, bm_error *err)
{
    size_t at = 0;
    int rc = 0;

    while (at < len && rc == 0) {
        const char *end = memchr(piece + at, '\n', len - at);
        if (end == NULL && len - at < PIECE_BYTES && !log->skipping)
            break;
        if (end == NULL) {                           /* longer than a line may be: forget it until its end comes */
            log->skipping = true;
            row->events_at += (int64_t)(len - at);
            return take_junk(log, row, "its process wrote a line of more than 64 KiB: skipped", err);
        }
        size_t n = (size_t)(end - piece) - at;
        row->events_at += (int64_t)n + 1;
        if (!log->skipping)
            rc = take_line(log, store, row, piece + at, n, err);
        log->skipping = false;
        at += n + 1;
        if (rc == 0 && log->n_events >= BATCH - 2)
            rc = flush(log, store, row, err);
    }
    return rc;
}

int bm_job_log_read(bm_job_log *log, bm_store *store, bm_run_row *row, bm_error *err)
{
    struct stat st;
    int64_t before = row->events_at;
    char *piece;
    ssize_t n;
    int rc = 0;

    if (log->fd < 0 || fstat(log->fd, &st) < 0 || st.st_size <= row->events_at)
        return 0;
    if (st.st_size > log->most_bytes)
        return bm_fail(err, BM_LIMIT, "its process wrote %lld bytes of events, at most %lld are read", (long long)st.st_size,
                       (long long)log->most_bytes);
    if ((piece = bm_malloc(PIECE_BYTES)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a job's events");
    while (rc == 0) {
        int64_t at = row->events_at;
        if ((n = pread(log->fd, piece, PIECE_BYTES, at)) < 0)
            rc = bm_fail(err, BM_IO, "cannot read a job's events: %s", strerror(errno));
        else
            rc = take_piece(log, store, row, piece, (size_t)n, err);
        if (row->events_at == at)
            break;
    }
    bm_free(piece);
    if (rc == 0 && row->events_at > before)
        rc = flush(log, store, row, err);
    if (rc < 0) {                                    /* a full disk, say: read again from there */
        drop_events(log);
        row->events_at = log->stored_at;
    }
    return rc < 0 ? rc : row->events_at > before;
}

int bm_job_log_add(bm_store *store, bm_run_row *row, const char *level, const char *message, bm_error *err)
{
    bm_run_event event = { .at_ms = bm_wall_ms(), .step = row->step, .type = "message", .message = bm_strdup(message) };

    snprintf(event.level, sizeof event.level, "%s", level);
    int rc = event.message == NULL ? bm_fail(err, BM_NOMEM, "no memory for a job's events")
                                   : bm_run_events_add(store, row, &event, 1, err);
    bm_run_event_done(&event);
    return rc;
}
