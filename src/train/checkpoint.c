/* checkpoint.c - see checkpoint.h. */
#include "train/checkpoint.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SETTINGS, VALUES, M, V, BEST, HISTORY, REFS, N_SECTIONS, MAX_SETTINGS = 1 << 16 };
static const char *const section_names[N_SECTIONS] = { "settings", "values", "first moments", "second moments", "best values",
                                                       "history", "reference log-probabilities" };
#define MAGIC UINT64_C(0x3130544b43504d42)           /* "BMPCKT01" on a little-endian machine */

typedef struct header {
    uint64_t magic, header_bytes, event_bytes;
    int64_t step, adam_t, tokens, n_worse;
    uint64_t fingerprint, epoch, epoch_step;
    double best_loss, seconds;
    uint64_t bytes[N_SECTIONS];
    bm_sha256 sums[N_SECTIONS], own;
} header;

typedef struct section { void *data; size_t len_bytes; } section;

static void list_sections(const bm_checkpoint *c, section s[N_SECTIONS])
{
    size_t floats = c->n * sizeof(float);

    s[SETTINGS] = (section){ c->settings, strlen(c->settings) };
    s[VALUES] = (section){ c->values, floats };
    s[M] = (section){ c->m, floats };
    s[V] = (section){ c->v, floats };
    s[BEST] = (section){ c->best, c->best != NULL ? floats : 0 };
    s[HISTORY] = (section){ c->history, c->n_history * sizeof *c->history };
    s[REFS] = (section){ c->refs, c->n_refs * sizeof *c->refs };
}

static int fill_header(header *h, const bm_checkpoint *c, const section s[N_SECTIONS], bm_error *err)
{
    int rc;

    memset(h, 0, sizeof *h);
    h->magic = MAGIC;
    h->header_bytes = sizeof *h;
    h->event_bytes = sizeof(bm_train_event);
    h->step = c->step, h->adam_t = c->adam_t, h->tokens = c->tokens, h->n_worse = c->n_worse;
    h->fingerprint = c->place.fingerprint, h->epoch = c->place.epoch, h->epoch_step = c->place.step;
    h->best_loss = c->best_loss, h->seconds = c->seconds;
    for (int i = 0; i < N_SECTIONS; i++) {
        h->bytes[i] = s[i].len_bytes;
        if ((rc = bm_sha256_bytes(&h->sums[i], s[i].len_bytes > 0 ? s[i].data : "", s[i].len_bytes, err)) < 0)
            return rc;
    }
    return bm_sha256_bytes(&h->own, h, offsetof(header, own), err);
}

int bm_checkpoint_write(const char *path, const bm_checkpoint *c, bm_error *err)
{
    bm_buf tmp = { 0 };
    section s[N_SECTIONS];
    header h;
    int rc, fd = -1;
    bool ok;

    list_sections(c, s);
    if ((rc = fill_header(&h, c, s, err)) < 0 || (rc = fd = bm_create_beside(&tmp, path, 0600, err)) < 0)
        goto out;
    ok = bm_write_all(fd, &h, sizeof h) == 0;
    for (int i = 0; i < N_SECTIONS && ok; i++)
        ok = bm_write_all(fd, s[i].data, s[i].len_bytes) == 0;
    if (!ok || fsync(fd) < 0 || rename(tmp.data, path) < 0) {
        rc = bm_fail(err, BM_IO, "%s: cannot write the checkpoint of step %lld: %s", path, (long long)c->step, strerror(errno));
        bm_hint(err, "the checkpoint before it is whole: make room and resume the job");
        unlink(tmp.data);
    } else {
        rc = 0;
        bm_sync_directory_of(path);
    }
    close(fd);
out:
    bm_buf_done(&tmp);
    return rc;
}

static int damaged(const char *path, const char *what, bm_error *err)
{
    bm_fail(err, BM_FORMAT, "%s: damaged checkpoint: %s", path, what);
    return bm_hint(err, "remove the file and the job begins anew");
}

static int check_header(const header *h, size_t len_bytes, const char *path, bm_error *err)
{
    bm_sha256 own;
    size_t sum = sizeof *h;
    int rc;

    if (h->magic != MAGIC || h->header_bytes != sizeof *h || h->event_bytes != sizeof(bm_train_event))
        return damaged(path, "it is of another version or kind of machine", err);
    if ((rc = bm_sha256_bytes(&own, h, offsetof(header, own), err)) < 0)
        return rc;
    if (memcmp(&own, &h->own, sizeof own) != 0)
        return damaged(path, "the header's checksum is wrong", err);
    for (int i = 0; i < N_SECTIONS; i++)
        if (!bm_add_size(sum, h->bytes[i], &sum))
            return damaged(path, "its sections are larger than memory", err);
    if (sum != len_bytes)
        return damaged(path, "it is shorter or longer than its header says", err);
    if (h->bytes[SETTINGS] > MAX_SETTINGS || h->bytes[VALUES] % sizeof(float) != 0 || h->bytes[M] != h->bytes[VALUES] ||
        h->bytes[V] != h->bytes[VALUES] || (h->bytes[BEST] != 0 && h->bytes[BEST] != h->bytes[VALUES]) ||
        h->bytes[HISTORY] % sizeof(bm_train_event) != 0 || h->bytes[REFS] % sizeof(bm_pair_nll) != 0)
        return damaged(path, "the sizes of its sections do not fit together", err);
    return 0;
}

static int read_sections(bm_checkpoint *out, const header *h, const unsigned char *at, const char *path, bm_error *err)
{
    void **const places[N_SECTIONS] = { (void **)&out->settings, (void **)&out->values, (void **)&out->m, (void **)&out->v,
                                        (void **)&out->best, (void **)&out->history, (void **)&out->refs };
    bm_sha256 sum;
    int rc;

    for (int i = 0; i < N_SECTIONS; at += h->bytes[i++]) {
        if ((rc = bm_sha256_bytes(&sum, at, h->bytes[i], err)) < 0)
            return rc;
        if (memcmp(&sum, &h->sums[i], sizeof sum) != 0) {
            char what[80];
            snprintf(what, sizeof what, "the checksum of its %s is wrong", section_names[i]);
            return damaged(path, what, err);
        }
        if (i == BEST && h->bytes[i] == 0)
            continue;
        if ((*places[i] = bm_malloc(h->bytes[i] + 1)) == NULL)
            return bm_fail(err, BM_NOMEM, "%s: no memory to read it", path);
        memcpy(*places[i], at, h->bytes[i]);
    }
    out->settings[h->bytes[SETTINGS]] = '\0';
    return 0;
}

int bm_checkpoint_read(bm_checkpoint *out, const char *path, bm_error *err)
{
    bm_map map;
    header h;
    int rc;

    *out = (bm_checkpoint){ 0 };
    if ((rc = bm_map_file(&map, path, err)) < 0)
        return rc == BM_NOTFOUND ? 0 : rc;
    if (map.len_bytes < sizeof h) {
        rc = damaged(path, "it is shorter than its header", err);
        goto out;
    }
    memcpy(&h, map.data, sizeof h);
    if ((rc = check_header(&h, map.len_bytes, path, err)) < 0 || (rc = read_sections(out, &h, map.data + sizeof h, path, err)) < 0)
        goto out;
    out->step = h.step, out->adam_t = h.adam_t, out->tokens = h.tokens, out->n_worse = h.n_worse;
    out->place = (bm_mix_state){ .fingerprint = h.fingerprint, .epoch = h.epoch, .step = h.epoch_step };
    out->best_loss = h.best_loss, out->seconds = h.seconds;
    out->n = h.bytes[VALUES] / sizeof(float);
    out->n_history = h.bytes[HISTORY] / sizeof *out->history;
    out->n_refs = h.bytes[REFS] / sizeof *out->refs;
    rc = 1;
out:
    bm_unmap_file(&map);
    if (rc < 0)
        bm_checkpoint_done(out);
    return rc;
}

void bm_checkpoint_done(bm_checkpoint *c)
{
    bm_free(c->settings);
    bm_free(c->values);
    bm_free(c->m);
    bm_free(c->v);
    bm_free(c->best);
    bm_free(c->history);
    bm_free(c->refs);
    *c = (bm_checkpoint){ 0 };
}

void bm_checkpoint_sweep(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? bm_strdup(".") : bm_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    bm_buf prefix = { 0 }, name = { 0 };
    struct dirent *entry;
    DIR *d = dir != NULL ? opendir(dir) : NULL;

    bm_buf_printf(&prefix, "%s.tmp.", slash == NULL ? path : slash + 1);
    while (d != NULL && !prefix.failed && (entry = readdir(d)) != NULL) {
        if (strncmp(entry->d_name, prefix.data, prefix.len) != 0)
            continue;
        bm_buf_clear(&name);
        bm_buf_printf(&name, "%s/%s", dir, entry->d_name);
        if (!name.failed)
            unlink(name.data);
    }
    if (d != NULL)
        closedir(d);
    bm_buf_done(&prefix);
    bm_buf_done(&name);
    bm_free(dir);
}
