/* job_try.c - a job without a record: dry runs. See jobs.h. */
#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "platform/job_child.h"
#include "platform/job_dir.h"
#include "platform/jobs.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { MOST_EVENT_BYTES = 4 << 20, POLL_MS = 20 };

/* Those of tries whose own process was killed: nobody looks after them. */
static void remove_old(bm_store *store)
{
    const time_t hour = 3600;
    bm_buf path = { 0 };
    struct dirent *e;
    struct stat st;
    bm_child child;

    bm_buf_printf(&path, "%s/jobs", bm_store_home(store));
    DIR *jobs = path.failed ? NULL : opendir(path.data);
    while (jobs != NULL && (e = readdir(jobs)) != NULL) {
        if (strncmp(e->d_name, "try-", 4) != 0)
            continue;
        bm_buf_clear(&path);
        bm_buf_printf(&path, "%s/jobs/%s", bm_store_home(store), e->d_name);
        if (!path.failed && stat(path.data, &st) == 0 && time(NULL) - st.st_mtime > hour && bm_child_find(&child, path.data, NULL) == 0)
            bm_job_remove_tree(path.data);
    }
    if (jobs != NULL)
        closedir(jobs);
    bm_buf_done(&path);
}

static int make_dir(bm_store *store, bm_buf *dir, bm_error *err)
{
    unsigned char random[8];
    char hex[17];
    int rc = bm_random_bytes(random, sizeof random, err);

    if (rc < 0)
        return rc;
    bm_hex(hex, random, sizeof random);
    bm_buf_printf(dir, "%s/jobs/try-%s", bm_store_home(store), hex);
    return dir->failed ? bm_fail(err, BM_NOMEM, "no memory for a path") : bm_make_dirs(dir->data, err);
}

/* The whole lines from *at on; *at moves behind them. */
static int tell_lines(const char *dir, size_t *at, int (*tell)(void *arg, const json_t *event), void *arg, bm_error *err)
{
    bm_buf path = { 0 };
    char *text = NULL, *end;
    size_t len;
    int rc;

    bm_buf_printf(&path, "%s/events.jsonl", dir);
    rc = path.failed ? bm_fail(err, BM_NOMEM, "no memory for a path") : bm_read_file(&text, &len, path.data, MOST_EVENT_BYTES, err);
    while (rc == 0 && *at < len && (end = memchr(text + *at, '\n', len - *at)) != NULL) {
        json_t *event = json_loadb(text + *at, (size_t)(end - text) - *at, 0, NULL);
        if (json_is_object(event) && tell(arg, event) != 0)
            rc = bm_fail(err, BM_CANCELED, "stopped");
        json_decref(event);
        *at = (size_t)(end - text) + 1;
    }
    bm_free(text);
    bm_buf_done(&path);
    return rc;
}

static int watch(bm_child *child, const char *dir, int (*tell)(void *arg, const json_t *event), void *arg, bm_error *err)
{
    bm_child_end end;
    size_t at = 0;
    int rc;

    for (;;) {
        bool ended = bm_child_poll(child, dir, &end) == 1;
        if ((rc = tell_lines(dir, &at, tell, arg, err)) < 0 || ended)
            break;
        nanosleep(&(struct timespec){ 0, POLL_MS * 1000000 }, NULL);
    }
    if (child->pid != 0) {
        bm_child_signal(child, SIGKILL);
        while (bm_child_poll(child, dir, &end) == 0)
            nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    }
    if (rc == 0 && end.signal != 0)
        rc = bm_fail(err, BM_IO, "its process was killed by signal %d (%s)", end.signal, strsignal(end.signal));
    return rc;
}

int bm_job_try(bm_store *store, const char *program, const char *job_json, size_t len_bytes,
               int (*tell)(void *arg, const json_t *event), void *arg, bm_error *err)
{
    bm_buf dir = { 0 }, path = { 0 };
    bm_child child = { 0 };
    int rc;

    remove_old(store);
    if ((rc = make_dir(store, &dir, err)) < 0)
        goto out;
    bm_buf_printf(&path, "%s/job.json", dir.data);
    rc = path.failed ? bm_fail(err, BM_NOMEM, "no memory for a path") : bm_write_file(path.data, job_json, len_bytes, 0600, err);
    if (rc == 0 && (rc = bm_child_spawn(&child, &(bm_child_options){ .program = program }, dir.data, err)) == 0)
        rc = watch(&child, dir.data, tell, arg, err);
    bm_job_remove_tree(dir.data);
out:
    bm_buf_done(&path);
    bm_buf_done(&dir);
    return rc;
}
