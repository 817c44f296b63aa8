/* tune_shelf.c - the end of a tuning: its adapter goes on the shelf with its whole lineage. */
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "model/adapter_file.h"
#include "platform/tune.h"
#include "store/adapters.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_POINTS = 2000 };

/* Every point, or every Nth of a long run with all that were validated. */
static int write_curve(bm_store *store, int64_t run, bm_buf *out, bm_error *err)
{
    bm_json j = { out, false };
    bm_tune_point *p;
    size_t n;
    int rc = bm_tune_curve(store, run, &p, &n, err);

    if (rc < 0)
        return rc;
    size_t stride = n / MOST_POINTS + 1;
    bm_json_open(&j, '[');
    for (size_t i = 0; i < n; i++) {
        if (i % stride != 0 && i + 1 != n && isnan(p[i].valid_loss))
            continue;
        bm_json_open(&j, '{');
        bm_json_kint(&j, "step", p[i].step);
        if (!isnan(p[i].loss))
            bm_json_kdouble(&j, "loss", p[i].loss);
        if (!isnan(p[i].valid_loss))
            bm_json_kdouble(&j, "valid_loss", p[i].valid_loss);
        bm_json_close(&j, '}');
    }
    bm_json_close(&j, ']');
    bm_free(p);
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a curve") : 0;
}

/* Of one set its own; of several that of their hashes in order. */
static int data_hash(const bm_run_row *run, char out[65], bm_error *err)
{
    json_t *list = json_loads(run->data, 0, NULL), *set;
    bm_buf all = { 0 };
    bm_sha256 hash;
    size_t i, n = 0;
    int rc = 0;

    out[0] = '\0';
    json_array_foreach (list, i, set) {
        const char *sha = json_string_value(json_object_get(set, "sha256"));
        if (sha != NULL && strlen(sha) == 64)
            bm_buf_puts(&all, sha), n++;
    }
    if (all.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a hash");
    else if (n == 1)
        memcpy(out, all.data, 65);
    else if (n > 1 && (rc = bm_sha256_bytes(&hash, all.data, all.len, err)) == 0)
        bm_hex(out, hash.bytes, sizeof hash.bytes);
    bm_buf_done(&all);
    json_decref(list);
    return rc;
}

/* From the run's directory into home/adapters, which a `tune rm` leaves alone. */
static int move_adapter(const char *home, const bm_run_row *run, const char *dir, char path[4096], bm_error *err)
{
    bm_buf from = { 0 }, to = { 0 }, parent = { 0 };
    int rc;

    bm_buf_printf(&from, "%s/adapter", dir);
    bm_buf_printf(&to, "%s/adapters/%s", home, run->id);
    bm_buf_printf(&parent, "%s/adapters", home);
    if (from.failed || to.failed || parent.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a path");
    else if ((rc = bm_make_dirs(parent.data, err)) == 0 && rename(from.data, to.data) < 0 && access(to.data, F_OK) < 0)
        rc = bm_fail(err, BM_IO, "%s: cannot be moved to the shelf: %s", from.data, strerror(errno));
    if (rc == 0) {
        bm_sync_directory_of(to.data);
        snprintf(path, 4096, "%s", to.data);
    }
    bm_buf_done(&parent);
    bm_buf_done(&to);
    bm_buf_done(&from);
    return rc;
}

static int hash_adapter(bm_adapter_row *row, bm_error *err)
{
    bm_buf path = { 0 };
    bm_sha256 hash;
    struct stat st;
    int rc;

    bm_buf_printf(&path, "%s/adapter_model.safetensors", row->path);
    if (path.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a path");
    else if ((rc = bm_sha256_file(&hash, path.data, NULL, NULL, err)) == 0) {
        bm_hex(row->sha256, hash.bytes, sizeof hash.bytes);
        row->size_bytes = stat(path.data, &st) == 0 ? (int64_t)st.st_size : 0;
    }
    bm_buf_done(&path);
    return rc;
}

static int check_base(const bm_adapter_row *row, const bm_run_row *run, bm_error *err)
{
    bm_adapter_about about;
    int rc = bm_adapter_file_look(row->path, &about, err);

    if (rc < 0)
        return rc;
    if (rc == 0)
        return bm_fail(err, BM_FORMAT, "%s: the job left no adapter there", row->path);
    if (about.base_sha256[0] != '\0' && strcmp(about.base_sha256, run->model_sha256) != 0)
        return bm_fail(err, BM_INVALID, "%s: an adapter of the base %.12s, and the run's is %.12s", row->path, about.base_sha256,
                       run->model_sha256);
    return 0;
}

/* The path in the result is that of the shelf now. */
static void correct_result(bm_run_row *run, const char *path)
{
    json_t *result = json_loads(run->result, 0, NULL);
    char *text = NULL, *copy;

    if (json_object_set_new(result, "adapter", json_string(path)) == 0)
        text = json_dumps(result, JSON_COMPACT);
    if (text != NULL && (copy = bm_strdup(text)) != NULL) {
        bm_free(run->result);
        run->result = copy;
    }
    free(text);
    json_decref(result);
}

int bm_tune_shelve(bm_store *store, bm_run_row *run, const char *dir, bm_error *err)
{
    bm_adapter_row row = { .source = "tune", .created_ms = bm_wall_ms(), .settings = run->settings }, known;
    bm_buf curve = { 0 };
    int rc = bm_adapters_find(store, run->name, &known, err);

    if (rc < 0)
        return rc;
    bool done = rc == 1 && strcmp(known.run, run->id) == 0;      /* the server died between this and the run's state */
    bm_adapter_row_done(&known);
    if (done)
        return 0;
    snprintf(row.name, sizeof row.name, "%s", run->name);
    snprintf(row.base_name, sizeof row.base_name, "%s", run->model);
    snprintf(row.base_sha256, sizeof row.base_sha256, "%s", run->model_sha256);
    snprintf(row.run, sizeof row.run, "%s", run->id);
    snprintf(row.version, sizeof row.version, "%s", run->version);
    if ((rc = move_adapter(bm_store_home(store), run, dir, row.path, err)) == 0 && (rc = check_base(&row, run, err)) == 0 &&
        (rc = hash_adapter(&row, err)) == 0 && (rc = data_hash(run, row.data_sha256, err)) == 0 &&
        (rc = write_curve(store, run->number, &curve, err)) == 0) {
        row.curve = curve.data;
        rc = bm_adapters_insert(store, &row, err);
        correct_result(run, row.path);
    }
    bm_buf_done(&curve);
    return rc;
}
