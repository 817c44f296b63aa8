/* mounts.c - see mounts.h. */
#include "platform/mounts.h"

#include <string.h>

#include "base/mem.h"
#include "base/polite.h"
#include "model/adapter_file.h"
#include "platform/shelf.h"

/* The file's bytes are those that were recorded: what was checked, named and perhaps evaluated is what runs. */
static int check_file(const bm_adapter_row *row, bm_error *err)
{
    char hex[65];
    int64_t size;
    int rc = bm_shelf_hash_adapter(row->path, hex, &size, err);

    if (rc < 0 || strcmp(hex, row->sha256) == 0)
        return rc;
    bm_fail(err, BM_INVALID, "adapter %s: its file has sha256 %.16s..., recorded is %.16s...: it changed since it was added", row->name, hex,
            row->sha256);
    return bm_hint(err, "add it again: baimo shelf add %.100s --name %.60s", row->path, row->name), BM_INVALID;
}

static int read_and_pack(bm_mount **out, bm_engine *engine, bm_loaded *loaded, const bm_adapter_row *row, bm_error *err)
{
    bm_adapter_file file = { 0 };
    bm_adapter *adapter = NULL;
    bm_mount *m = bm_zalloc(sizeof *m);
    int rc;

    *out = NULL;
    if (m == NULL)
        return bm_fail(err, BM_NOMEM, "no memory to mount adapter %s", row->name);
    m->row = *row;
    m->row.settings = m->row.curve = NULL;
    m->loaded = loaded;
    if ((rc = check_file(row, err)) == 0 && (rc = bm_adapter_file_read(&file, bm_loaded_model(loaded), row->path, err)) == 0 &&
        (rc = bm_adapter_new(&adapter, bm_loaded_model(loaded), file.matrices, file.n, err)) == 0)
        rc = bm_backend_adapted(&m->backend, engine, loaded, adapter, err);
    bm_adapter_free(adapter);
    bm_adapter_file_done(&file);
    if (rc < 0) {
        bm_mount_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

static bool is_busy(void *engine)
{
    bm_engine_stats stats;

    bm_engine_get_stats(engine, &stats);
    return stats.active_seqs > 0;
}

/* In short bursts beside streams that run, so that they hardly feel it. */
int bm_mount_new(bm_mount **out, bm_engine *engine, bm_loaded *loaded, const bm_adapter_row *row, bm_error *err)
{
    bm_polite_begin(is_busy, engine);
    int rc = read_and_pack(out, engine, loaded, row, err);
    bm_polite_begin(NULL, NULL);
    return rc;
}

void bm_mount_free(bm_mount *m)
{
    if (m == NULL)
        return;
    if (m->backend != NULL)
        m->backend->close(m->backend);
    bm_free(m);
}

bm_mount *bm_mount_find(bm_mount *list, const bm_adapter_row *row, const bm_loaded *loaded)
{
    for (bm_mount *m = list; m != NULL; m = m->next)
        if (!m->stale && m->loaded == loaded && m->row.id == row->id && m->row.created_ms == row->created_ms &&
            strcmp(m->row.sha256, row->sha256) == 0 && strcmp(m->row.path, row->path) == 0)
            return m;
    return NULL;
}
