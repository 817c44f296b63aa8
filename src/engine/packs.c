/* packs.c - see packs.h. */
#define _GNU_SOURCE             /* gettid */
#include "engine/packs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "compute/pack.h"

enum { KNOWN_BYTES = 1 << 18, KNOWN_LINES = 512, HEX = 64, NICE = 5, GRACE_S = 5 };

/* ---- names ---- */

bool bm_sha256_parse(bm_sha256 *out, const char *hex)
{
    if (strlen(hex) != HEX || strspn(hex, "0123456789abcdef") != HEX)
        return false;
    for (int i = 0; i < 32; i++) {
        char hi = hex[2 * i], lo = hex[2 * i + 1];
        out->bytes[i] = (unsigned char)((hi <= '9' ? hi - '0' : hi - 'a' + 10) << 4 | (lo <= '9' ? lo - '0' : lo - 'a' + 10));
    }
    return true;
}

char *bm_packs_path(const char *dir, const bm_sha256 *key)
{
    char hex[HEX + 1];
    bm_buf path = { 0 };

    bm_hex(hex, key->bytes, sizeof key->bytes);
    bm_buf_printf(&path, "%s/%s-v%d.pack", dir, hex, BM_PACK_VERSION);
    return bm_buf_take(&path);
}

static char *name_in(const char *dir, const char *name)
{
    bm_buf path = { 0 };

    bm_buf_printf(&path, "%s/%s", dir, name);
    return bm_buf_take(&path);
}

/* ---- what is known ---- */

/* "kind D I S M " of a line. */
static int known_prefix(char out[160], const char *kind, const bm_file_id *id)
{
    return snprintf(out, 160, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " ", kind, id->device, id->inode, id->size_bytes,
                    id->mtime_ns);
}

static char *read_known(const char *path)
{
    char *text = NULL;

    return bm_read_file(&text, NULL, path, KNOWN_BYTES, NULL) < 0 ? NULL : text;
}

bool bm_packs_recall(const char *dir, const char *kind, const bm_file_id *id, bm_sha256 *out)
{
    char prefix[160], hex[HEX + 1], *path = name_in(dir, "known"), *text = path != NULL ? read_known(path) : NULL;
    size_t len = (size_t)known_prefix(prefix, kind, id);
    bool found = false;

    for (const char *line = text; line != NULL && *line != '\0' && !found;) {
        const char *end = strchr(line, '\n');
        if (end == NULL)
            break;
        if (strncmp(line, prefix, len) == 0 && (size_t)(end - line) == len + HEX) {
            memcpy(hex, line + len, HEX);
            hex[HEX] = '\0';
            found = bm_sha256_parse(out, hex);
        }
        line = end + 1;
    }
    bm_free(text);
    bm_free(path);
    return found;
}

/* The new line first, then the old ones but for the same file's, up to a number. */
void bm_packs_remember(const char *dir, const char *kind, const bm_file_id *id, const bm_sha256 *sha256)
{
    char prefix[160], same[160], hex[HEX + 1], *path = name_in(dir, "known"), *text = path != NULL ? read_known(path) : NULL;
    bm_buf out = { .limit = KNOWN_BYTES - 1 };
    int n_lines = 1, n_same;

    bm_hex(hex, sha256->bytes, sizeof sha256->bytes);
    known_prefix(prefix, kind, id);
    n_same = snprintf(same, sizeof same, "%s %" PRIu64 " %" PRIu64 " ", kind, id->device, id->inode);
    bm_buf_printf(&out, "%s%s\n", prefix, hex);
    for (const char *line = text, *end; line != NULL && (end = strchr(line, '\n')) != NULL && n_lines < KNOWN_LINES; line = end + 1)
        if (strncmp(line, same, (size_t)n_same) != 0) {
            bm_buf_add(&out, line, (size_t)(end + 1 - line));
            n_lines++;
        }
    if (path != NULL && !out.failed)
        bm_write_file(path, out.data, out.len, 0600, NULL);     /* not written: it is found out again next time */
    bm_buf_done(&out);
    bm_free(text);
    bm_free(path);
}

/* ---- the lock, and what may go ---- */

static bool always(void *arg) { (void)arg; return true; }

/* Waits for the lock while go_on; the descriptor, or a negative code. */
static int take_lock(const char *dir, bool (*go_on)(void *arg), void *arg, bm_error *err)
{
    static const struct timespec a_while = { .tv_nsec = 20000000 };
    char *path = name_in(dir, "lock");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        bm_fail(err, path == NULL ? BM_NOMEM : BM_IO, "%s/lock: cannot open: %s", dir, path == NULL ? "no memory" : strerror(errno));
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EINTR || (errno == EWOULDBLOCK && go_on(arg))) {
            nanosleep(&a_while, NULL);
            continue;
        }
        bm_fail(err, errno == EWOULDBLOCK ? BM_CANCELED : BM_IO, "%s/lock: cannot lock: %s", dir, strerror(errno));
        close(fd);
        fd = -1;
    }
    bm_free(path);
    return fd >= 0 ? fd : err->code;
}

/* What a name in the directory is: 'p' a pack of this version, 'o' of another one, 't' a temporary file, 0 neither. */
static char kind_of(const char *name, char hex[HEX + 1])
{
    char ours[24];
    bm_sha256 unused;
    const char *rest = name + HEX;

    if (strlen(name) < HEX)
        return strncmp(name, "known.tmp.", 10) == 0 ? 't' : 0;
    memcpy(hex, name, HEX);
    hex[HEX] = '\0';
    if (!bm_sha256_parse(&unused, hex) || strncmp(rest, "-v", 2) != 0)
        return 0;
    snprintf(ours, sizeof ours, "-v%d.pack", BM_PACK_VERSION);
    if (strcmp(rest, ours) == 0)
        return 'p';
    rest += 2 + strspn(rest + 2, "0123456789");
    return strcmp(rest, ".pack") == 0 ? 'o' : strncmp(rest, ".pack.tmp.", 10) == 0 ? 't' : 0;
}

/* With the lock. keep NULL: packs stay; then others' versions go only for the sha256 `of`. */
static void sweep(const char *dir, bool (*keep)(void *arg, const char hex[65]), void *arg, const char *of, size_t *n, uint64_t *freed)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    char hex[HEX + 1];
    struct stat st;

    while (d != NULL && (entry = readdir(d)) != NULL) {
        char kind = kind_of(entry->d_name, hex);
        bool go = kind == 't' || (kind == 'o' && (of == NULL || strcmp(hex, of) == 0)) || (kind == 'p' && keep != NULL && !keep(arg, hex));
        if (!go || fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(dirfd(d), entry->d_name, 0) < 0)
            continue;
        if (n != NULL && kind != 't')
            ++*n;
        if (freed != NULL)
            *freed += (uint64_t)st.st_blocks * 512;
    }
    if (d != NULL)
        closedir(d);
}

int bm_packs_sweep(const char *dir, bool (*keep)(void *arg, const char hex[65]), void *arg, size_t *n, uint64_t *freed, bm_error *err)
{
    struct stat st;
    int lock;

    if (stat(dir, &st) < 0)
        return 0;
    if ((lock = take_lock(dir, always, NULL, err)) < 0)
        return lock;
    sweep(dir, keep, arg, NULL, n, freed);
    close(lock);
    return 0;
}

/* ---- one model's pack ---- */

static int set_key(bm_pack_spot *s, const bm_sha256 *key, bm_error *err)
{
    s->key = *key;
    s->path = bm_packs_path(s->dir, key);
    s->known = s->path != NULL;
    return s->known ? 0 : bm_fail(err, BM_NOMEM, "%s: no memory for the name of its pack", s->gguf_path);
}

int bm_pack_spot_init(bm_pack_spot *s, const char *dir, const bm_gguf *gguf, const bm_known_file *hint, bm_error *err)
{
    bm_sha256 key;

    *s = (bm_pack_spot){ .dir = bm_strdup(dir), .gguf_path = bm_strdup(bm_gguf_path(gguf)), .file = bm_gguf_file_id(gguf) };
    if (s->dir == NULL || s->gguf_path == NULL) {
        bm_pack_spot_done(s);
        return bm_fail(err, BM_NOMEM, "%s: no memory for the name of its pack", bm_gguf_path(gguf));
    }
    if (hint != NULL && bm_file_id_equal(&hint->id, &s->file))
        return set_key(s, &hint->sha256, err);
    return bm_packs_recall(dir, "file", &s->file, &key) ? set_key(s, &key, err) : 0;
}

void bm_pack_spot_done(bm_pack_spot *s)
{
    bm_free(s->dir);
    bm_free(s->gguf_path);
    bm_free(s->path);
    *s = (bm_pack_spot){ 0 };
}

void bm_pack_spot_options(const bm_pack_spot *s, bm_model_options *options)
{
    options->pack_path = s->known ? s->path : NULL;
    options->pack_key = s->known ? &s->key : NULL;
}

typedef struct asker { bool (*go_on)(void *arg); void *arg; } asker;

static int hash_progress(void *arg, uint64_t done, uint64_t total)
{
    const asker *a = arg;

    (void)done, (void)total;
    return !a->go_on(a->arg);
}

/* The sha256 of the very file that was packed: one that has changed since must not get its weights under its name. */
static int find_key(bm_pack_spot *s, const asker *a, bm_error *err)
{
    bm_sha256 key;
    struct stat st;
    bm_file_id now;
    int rc;

    if (s->known)
        return 0;
    if ((rc = bm_sha256_file(&key, s->gguf_path, hash_progress, (void *)(uintptr_t)a, err)) < 0)
        return rc;
    if (stat(s->gguf_path, &st) < 0 || (now = bm_file_id_of(&st), !bm_file_id_equal(&now, &s->file)))
        return bm_fail(err, BM_IO, "%s: changed since it was loaded", s->gguf_path);
    bm_packs_remember(s->dir, "file", &s->file, &key);
    return set_key(s, &key, err);
}

static int write_pack(bm_pack_spot *s, bm_model *model, const asker *a, bm_error *err)
{
    char hex[HEX + 1];
    int rc, lock;

    if ((rc = bm_make_dirs(s->dir, err)) < 0 || (rc = find_key(s, a, err)) < 0 || (rc = lock = take_lock(s->dir, a->go_on, a->arg, err)) < 0)
        return rc;
    bm_hex(hex, s->key.bytes, sizeof s->key.bytes);
    sweep(s->dir, NULL, NULL, hex, NULL, NULL);
    rc = bm_model_write_pack(model, s->path, &s->key, a->go_on, a->arg, err);
    close(lock);
    return rc;
}

/* What cannot be read, and a file that took the place of the mapped one, count as damage: nothing says that the mapped bytes are right. */
static int check_pack(bm_pack_spot *s, const bm_model *model, const bm_file_id *mapped, const asker *a, bm_error *err)
{
    bm_sha256 seen;
    bm_file_id id = { 0 };
    int rc;

    if (bm_packs_recall(s->dir, "pack", mapped, &seen) && memcmp(&seen, &s->key, sizeof seen) == 0)
        return 0;
    rc = bm_model_verify_pack(model, s->path, &s->key, &id, a->go_on, a->arg, err);
    if (rc == BM_CANCELED || rc == BM_NOMEM)
        return rc;
    if (rc == 0 && bm_file_id_equal(&id, mapped)) {
        bm_packs_remember(s->dir, "pack", mapped, &s->key);
        return 0;
    }
    if (rc < 0)
        unlink(s->path);
    else
        bm_fail(err, BM_IO, "%s: another file took its place", s->path);
    return 1;
}

int bm_pack_spot_keep(bm_pack_spot *s, bm_model *model, bool (*go_on)(void *arg), void *arg, bm_error *err)
{
    asker a = { go_on != NULL ? go_on : always, go_on != NULL ? arg : NULL };
    bm_error own;
    bm_file_id mapped;
    int rc;

    if (err == NULL)
        err = &own;
    rc = bm_model_mapped(model, &mapped) ? check_pack(s, model, &mapped, &a, err) : write_pack(s, model, &a, err);
    return rc == BM_CANCELED ? 0 : rc;
}

/* ---- the keeper ---- */

struct bm_keeper {
    bm_pack_spot spot;
    bm_model *model;
    void (*told)(void *arg, int rc, const bm_error *why);
    void *arg;
    atomic_bool stop;
    pthread_t thread;
    pthread_mutex_t lock;        /* guards is_done */
    pthread_cond_t done;
    bool is_done;
    bool writes;                 /* else it checks */
};

static bool keeper_goes_on(void *arg)
{
    const bm_keeper *k = arg;

    return !atomic_load(&k->stop);
}

static void *keep(void *arg)
{
    bm_keeper *k = arg;
    bm_error err = { 0 };

    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);    /* of this thread: requests come first, yet it gets on beside other load */
    int rc = bm_pack_spot_keep(&k->spot, k->model, keeper_goes_on, k, &err);
    if (rc != 0 && k->told != NULL)
        k->told(k->arg, rc, &err);
    pthread_mutex_lock(&k->lock);
    k->is_done = true;
    pthread_cond_broadcast(&k->done);
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

int bm_keeper_start(bm_keeper **out, bm_pack_spot *s, bm_model *model, void (*told)(void *arg, int rc, const bm_error *why), void *arg,
                    bm_error *err)
{
    bm_keeper *k = bm_zalloc(sizeof *k);
    sigset_t all, old;
    int failed = 1;

    *out = NULL;
    if (k != NULL) {
        *k = (bm_keeper){ .spot = *s, .model = model, .told = told, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER,
                          .done = PTHREAD_COND_INITIALIZER, .writes = !bm_model_mapped(model, NULL) };
        sigfillset(&all);        /* SIGXFSZ too: a file that grows past a limit is an error of write, not the program's end */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        failed = pthread_create(&k->thread, NULL, keep, k);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    if (failed) {
        bm_pack_spot_done(s);
        bm_free(k);
        return bm_fail(err, BM_NOMEM, "cannot start the thread that keeps packs");
    }
    *s = (bm_pack_spot){ 0 };
    *out = k;
    return 0;
}

/* Until it is done, or for so many seconds. */
static void wait_done(bm_keeper *k, int seconds)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&k->lock);
    while (!k->is_done && rc == 0)
        rc = pthread_cond_timedwait(&k->done, &k->lock, &until);
    pthread_mutex_unlock(&k->lock);
}

void bm_keeper_wait(bm_keeper *k)
{
    if (k != NULL)
        wait_done(k, INT_MAX / 2);
}

void bm_keeper_stop(bm_keeper *k, bool finish)
{
    if (k == NULL)
        return;
    if (!finish && k->writes)
        wait_done(k, GRACE_S);
    if (!finish)
        atomic_store(&k->stop, true);
    pthread_join(k->thread, NULL);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->done);
    bm_pack_spot_done(&k->spot);
    bm_free(k);
}
