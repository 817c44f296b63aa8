/* job_dir.c - runs as records and directories: made, found, asked to stop, queued again, removed. See jobs.h. */
#define _GNU_SOURCE
#include "platform/jobs.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "compute/cpu.h"
#include "platform/job_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "ftjob-" or "eval-" and hexadecimal digits: nothing else becomes a path. */
static bool is_id(const char *id)
{
    const char *rest = strncmp(id, "ftjob-", 6) == 0 ? id + 6 : strncmp(id, "eval-", 5) == 0 ? id + 5 : "";
    size_t len = strlen(rest);

    return len >= 8 && len <= 32 && strspn(rest, "0123456789abcdef") == len;
}

int bm_job_dir(bm_buf *out, const char *home, const char *id, bm_error *err)
{
    if (!is_id(id))
        return bm_fail(err, BM_INVALID, "'%.60s' is not the id of a run", id);
    bm_buf_printf(out, "%s/jobs/%s", home, id);
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a path") : 0;
}

void bm_job_remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    struct stat st;

    if (dir == NULL)
        return;
    while ((e = readdir(dir)) != NULL) {
        bm_buf child = { 0 };
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        bm_buf_printf(&child, "%s/%s", path, e->d_name);
        if (!child.failed && lstat(child.data, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                bm_job_remove_tree(child.data);
            else
                unlink(child.data);
        }
        bm_buf_done(&child);
    }
    closedir(dir);
    rmdir(path);
}

static int name_run(bm_run_row *row, bm_error *err)
{
    unsigned char random[8];
    char hex[17], host[65] = "";
    bm_cpu cpu;
    int rc = bm_random_bytes(random, sizeof random, err);

    if (rc < 0)
        return rc;
    bm_hex(hex, random, sizeof random);
    snprintf(row->id, sizeof row->id, "%s%s", strcmp(row->kind, "eval") == 0 ? "eval-" : "ftjob-", hex);
    gethostname(host, sizeof host - 1);
    bm_cpu_detect(&cpu);
    snprintf(row->machine, sizeof row->machine, "%s: %s, %d cores", host, cpu.model, cpu.n_physical);
    snprintf(row->version, sizeof row->version, "%s", BM_VERSION);
    row->created_ms = bm_wall_ms();
    return 0;
}

int bm_job_create(bm_store *store, bm_run_row *row, const char *job_json, size_t len_bytes, bm_error *err)
{
    bm_buf dir = { 0 }, path = { 0 };
    int rc;

    if ((rc = name_run(row, err)) < 0 || (rc = bm_job_dir(&dir, bm_store_home(store), row->id, err)) < 0 ||
        (rc = bm_make_dirs(dir.data, err)) < 0)
        goto out;
    bm_buf_printf(&path, "%s/job.json", dir.data);
    rc = path.failed ? bm_fail(err, BM_NOMEM, "no memory for a path")
                     : bm_write_file(path.data, job_json, len_bytes, 0600, err);
    if (rc == 0)
        rc = bm_runs_insert(store, row, err);
    if (rc < 0)
        bm_job_remove_tree(dir.data);
out:
    bm_buf_done(&path);
    bm_buf_done(&dir);
    return rc;
}

int bm_job_stop(bm_store *store, const char *id, bm_error *err)
{
    bm_run_row row;
    int rc = bm_runs_find(store, id, &row, err);

    if (rc < 0)
        return rc;
    /* One that waits has no process: it is stopped at once. */
    if ((rc = bm_runs_change(store, row.number, "queued", "stopped", err)) == 0)
        rc = bm_runs_change(store, row.number, "running", "stopping", err);
    bm_run_row_done(&row);
    return rc < 0 ? rc : 0;
}

int bm_job_resume(bm_store *store, const char *id, bm_error *err)
{
    bm_run_row row;
    int rc = bm_runs_find(store, id, &row, err);

    if (rc < 0)
        return rc;
    if ((rc = bm_runs_change(store, row.number, "stopped,failed", "queued", err)) == 0)
        rc = bm_fail(err, BM_EXISTS, "the run '%s' is %s: only a stopped or failed one can be resumed", row.id, row.state);
    bm_run_row_done(&row);
    return rc < 0 ? rc : 0;
}

int bm_job_remove(bm_store *store, const char *id, bm_error *err)
{
    bm_buf dir = { 0 };
    int rc;

    if ((rc = bm_job_dir(&dir, bm_store_home(store), id, err)) == 0 && (rc = bm_runs_delete(store, id, err)) == 0)
        bm_job_remove_tree(dir.data);
    bm_buf_done(&dir);
    return rc;
}

static int find_prefix(bm_run_row *rows, size_t n, const char *text, bm_run_row *out, bm_error *err)
{
    size_t len = strlen(text), hits = 0, at = 0;

    for (size_t i = 0; i < n && len >= 4; i++) {
        const char *bare = strchr(rows[i].id, '-') + 1;
        if (strncmp(rows[i].id, text, len) == 0 || strncmp(bare, text, len) == 0)
            hits++, at = i;
    }
    if (hits > 1)
        return bm_fail(err, BM_INVALID, "'%.40s' is the beginning of %zu runs: give more of it", text, hits);
    if (hits == 0) {
        bm_fail(err, BM_NOTFOUND, "there is no run '%.60s'", text);
        return bm_hint(err, "baimo tune ls, or baimo eval ls"), BM_NOTFOUND;
    }
    *out = rows[at];
    rows[at] = (bm_run_row){ 0 };
    return 0;
}

int bm_job_find(bm_store *store, const char *kind, const char *id_or_name, bm_run_row *out, bm_error *err)
{
    bm_runs_filter by_name = { .kind = kind, .name = id_or_name, .most = 1 }, all = { .kind = kind };
    bm_run_row *rows = NULL;
    size_t n = 0;
    int rc;

    *out = (bm_run_row){ 0 };
    if (is_id(id_or_name) && bm_runs_find(store, id_or_name, out, NULL) == 0) {
        if (kind == NULL || strcmp(out->kind, kind) == 0)
            return 0;
        bm_run_row_done(out);
    }
    if ((rc = bm_runs_list(store, &by_name, &rows, &n, err)) == 0 && n == 1) {
        *out = rows[0];
        bm_free(rows);
        return 0;
    }
    bm_runs_free(rows, n);
    if (rc == 0 && (rc = bm_runs_list(store, &all, &rows, &n, err)) == 0)
        rc = find_prefix(rows, n, id_or_name, out, err);
    if (rc < 0)
        *out = (bm_run_row){ 0 };
    bm_runs_free(rows, n);
    return rc;
}
