/* scan.c - GGUFs that other programs have brought to this machine already, found where those keep them:
 * Ollama     models/manifests/REGISTRY/NAMESPACE/NAME/TAG, JSON (OCI image manifest, schema 2) whose layer of mediaType
 *            application/vnd.ollama.image.model has a digest "sha256:HEX", the file models/blobs/sha256-HEX
 * LM Studio  ~/.lmstudio/models and ~/.cache/lm-studio/models, PUBLISHER/REPOSITORY/FILE.gguf
 * HF cache   hub/models--OWNER--REPO/snapshots/REVISION/.../FILE.gguf, links into blobs/
 * llama.cpp  ~/.cache/llama.cpp/OWNER_REPO-GGUF_FILE.gguf
 * Directories are walked to a bounded depth, links to directories are not followed, and a file is reported once. */
#define _GNU_SOURCE     /* strcasestr */
#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "platform/home.h"
#include "platform/shelf.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { DEEPEST = 8, MOST_FILES = 1 << 20, MANIFEST_BYTES = 1 << 20 };

typedef struct scan {
    int (*found)(void *arg, const bm_scan_hit *hit);
    void *arg;
    const char *source, *base;   /* base: the directory that is being walked */
    char **seen;                 /* real paths reported */
    size_t n_seen, n_files;
    int rc;
    bm_error *err;
} scan;

typedef void visit_fn(scan *s, const char *path);

/* Whether a path was built: no memory ends the scan, one too long for the system is passed over. */
static bool built(scan *s, const bm_buf *path)
{
    if (path->failed)
        s->rc = bm_fail(s->err, BM_NOMEM, "no memory for the paths of the scan");
    return s->rc == 0 && path->len < PATH_MAX;
}

static bool remember(scan *s, const char *real)
{
    for (size_t i = 0; i < s->n_seen; i++)
        if (strcmp(s->seen[i], real) == 0)
            return false;
    char **more = bm_realloc(s->seen, (s->n_seen + 1) * sizeof *more);
    if (more == NULL || (s->seen = more, more[s->n_seen] = bm_strdup(real)) == NULL) {
        s->rc = bm_fail(s->err, BM_NOMEM, "no memory for what the scan found");
        return false;
    }
    s->n_seen++;
    return true;
}

static void report(scan *s, const char *path, const char *name)
{
    bm_scan_hit hit;
    char real[PATH_MAX];
    struct stat st;

    if (realpath(path, real) == NULL || stat(real, &st) < 0 || !S_ISREG(st.st_mode) || strlen(real) >= sizeof hit.path ||
        !remember(s, real))
        return;
    memcpy(hit.path, real, strlen(real) + 1);
    snprintf(hit.name, sizeof hit.name, "%s", name);
    snprintf(hit.source, sizeof hit.source, "%s", s->source);
    if (s->found(s->arg, &hit) != 0)
        s->rc = bm_fail(s->err, BM_CANCELED, "the scan was stopped");
}

/* Visit each file below dir, in an order that does not depend on the file system. */
static void walk(scan *s, const char *dir, int depth, visit_fn *visit)
{
    struct dirent **entries;
    int n = depth > DEEPEST ? 0 : scandir(dir, &entries, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        bm_buf path = { 0 };
        struct stat st;
        if (s->rc == 0 && name[0] != '.') {
            bm_buf_printf(&path, "%s/%s", dir, name);
            if (!built(s, &path) || lstat(path.data, &st) < 0)
                ;                                                /* gone */
            else if (S_ISDIR(st.st_mode))
                walk(s, path.data, depth + 1, visit);
            else if (++s->n_files > MOST_FILES)
                s->rc = bm_fail(s->err, BM_LIMIT, "%s: more than %d files: not a cache of models", s->base, MOST_FILES);
            else
                visit(s, path.data);
        }
        bm_buf_done(&path);
        free(entries[i]);
    }
    if (n > 0 || (n == 0 && depth <= DEEPEST))
        free(entries);
}

/* ---- plain GGUF files ---- */

/* Later parts of a split model and projectors of vision models are not models of their own. */
static bool is_model_file(const char *path)
{
    const char *base = strrchr(path, '/') + 1, *of;
    size_t n = strlen(base);

    if (n <= 5 || strcasecmp(base + n - 5, ".gguf") != 0 || strncasecmp(base, "mmproj", 6) == 0 ||
        strstr(base, "mmproj") != NULL)
        return false;
    of = strstr(base, "-of-");
    return of == NULL || of - base < 6 || strncmp(of - 6, "-00001", 6) == 0 || strspn(of - 5, "0123456789") != 5;
}

static void visit_gguf(scan *s, const char *path)
{
    char name[128];

    if (!is_model_file(path))
        return;
    bm_shelf_name(path, name);
    report(s, path, name);
}

/* llama.cpp puts the repository in front: "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf". */
static void visit_llama_cpp(scan *s, const char *path)
{
    char name[128];
    const char *base = strrchr(path, '/') + 1, *cut = strcasestr(base, "-GGUF_");

    if (!is_model_file(path))
        return;
    bm_shelf_name(cut != NULL && cut[6] != '\0' && cut[6] != '.' ? cut + 6 : base, name);
    report(s, path, name);
}

/* ---- Ollama ---- */

/* "registry.ollama.ai/library/qwen3/0.6b" is "qwen3:0.6b"; other namespaces and registries keep what tells them apart. */
static bool ollama_name(const char *below, char out[128])
{
    char parts[4][128];
    int n = 0;

    for (const char *p = below; *p != '\0'; n++) {
        size_t len = strcspn(p, "/");
        if (n == 4 || len == 0 || len >= sizeof parts[0])
            return false;
        memcpy(parts[n], p, len);
        parts[n][len] = '\0';
        p += len + (p[len] == '/');
    }
    if (n != 4)
        return false;
    bool own = strcmp(parts[0], "registry.ollama.ai") == 0, library = own && strcmp(parts[1], "library") == 0;
    int len = library ? snprintf(out, 128, "%s:%s", parts[2], parts[3])
              : own   ? snprintf(out, 128, "%s/%s:%s", parts[1], parts[2], parts[3])
                      : snprintf(out, 128, "%s/%s/%s:%s", parts[0], parts[1], parts[2], parts[3]);
    return len < 128 && bm_shelf_check_name(out, NULL) == 0;
}

/* The hex digits of the model layer's digest. An adapter on top would make it another model: not found then. */
static bool model_layer(const json_t *manifest, char hex[65])
{
    const json_t *layer;
    size_t i;
    bool found = false;

    json_array_foreach (json_object_get(manifest, "layers"), i, layer) {
        const char *type = json_string_value(json_object_get(layer, "mediaType"));
        const char *digest = json_string_value(json_object_get(layer, "digest"));
        if (type == NULL || digest == NULL)
            continue;
        if (strcmp(type, "application/vnd.ollama.image.adapter") == 0)
            return false;
        if (found || strcmp(type, "application/vnd.ollama.image.model") != 0)
            continue;
        if (strncmp(digest, "sha256:", 7) != 0 || strlen(digest) != 71 || strspn(digest + 7, "0123456789abcdef") != 64)
            return false;
        memcpy(hex, digest + 7, 65);
        found = true;
    }
    return found;
}

static void visit_manifest(scan *s, const char *path)
{
    char *text, hex[65], name[128];
    size_t len;
    int rc = 0;
    json_t *manifest;
    bm_buf blob = { 0 };
    struct stat st;

    if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || !ollama_name(path + strlen(s->base) + strlen("/manifests/"), name) ||
        (rc = bm_read_file(&text, &len, path, MANIFEST_BYTES, NULL)) < 0) {
        if (rc == BM_NOMEM)
            s->rc = bm_fail(s->err, BM_NOMEM, "%s: no memory to read it", path);
        return;
    }
    manifest = json_loadb(text, len, 0, NULL);
    if (model_layer(manifest, hex)) {
        bm_buf_printf(&blob, "%s/blobs/sha256-%s", s->base, hex);
        if (built(s, &blob))
            report(s, blob.data, name);
    }
    bm_buf_done(&blob);
    json_decref(manifest);
    bm_free(text);
}

/* ---- where to look ---- */

static void scan_dir(scan *s, const char *source, const char *base, const char *below, visit_fn *visit)
{
    bm_buf path = { 0 };
    struct stat st;

    if (s->rc != 0)
        return;
    bm_buf_printf(&path, "%s%s", base, below);
    if (built(s, &path) && stat(path.data, &st) == 0 && S_ISDIR(st.st_mode)) {
        s->source = source;
        s->base = visit == visit_manifest ? base : path.data;
        s->n_files = 0;
        if (visit == visit_manifest)
            bm_buf_puts(&path, "/manifests");
        if (built(s, &path))
            walk(s, path.data, 0, visit);
    }
    bm_buf_done(&path);
}

static void scan_below(scan *s, const char *home, const char *cache)
{
    bm_buf ollama = { 0 };

    bm_buf_printf(&ollama, "%s/.ollama/models", home);
    if (built(s, &ollama))
        scan_dir(s, "ollama", ollama.data, "", visit_manifest);
    bm_buf_done(&ollama);
    scan_dir(s, "lmstudio", home, "/.lmstudio/models", visit_gguf);
    scan_dir(s, "lmstudio", cache, "/lm-studio/models", visit_gguf);
    scan_dir(s, "hf", cache, "/huggingface/hub", visit_gguf);
    scan_dir(s, "llama.cpp", cache, "/llama.cpp", visit_llama_cpp);
}

static void scan_environment(scan *s)
{
    static const struct { const char *variable, *source, *below; visit_fn *visit; } places[] = {
        { "OLLAMA_MODELS", "ollama", "", visit_manifest },
        { "HF_HUB_CACHE", "hf", "", visit_gguf },
        { "HF_HOME", "hf", "/hub", visit_gguf },
        { "LLAMA_CACHE", "llama.cpp", "", visit_llama_cpp },
    };

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *dir = getenv(places[i].variable);
        if (dir != NULL && dir[0] == '/')
            scan_dir(s, places[i].source, dir, places[i].below, places[i].visit);
    }
    scan_dir(s, "ollama", "/usr/share/ollama/.ollama/models", "", visit_manifest);
}

int bm_shelf_scan(const char *root, int (*found)(void *arg, const bm_scan_hit *hit), void *arg, bm_error *err)
{
    scan s = { .found = found, .arg = arg, .err = err };
    bm_buf cache = { 0 };
    char *home = NULL;
    const char *xdg = root == NULL ? getenv("XDG_CACHE_HOME") : NULL;

    if (root == NULL && (s.rc = bm_user_home(&home, err)) < 0)
        return s.rc;
    if (xdg != NULL && xdg[0] == '/')
        bm_buf_puts(&cache, xdg);
    else
        bm_buf_printf(&cache, "%s/.cache", root != NULL ? root : home);
    if (built(&s, &cache))
        scan_below(&s, root != NULL ? root : home, cache.data);
    if (root == NULL)
        scan_environment(&s);
    for (size_t i = 0; i < s.n_seen; i++)
        bm_free(s.seen[i]);
    bm_free(s.seen);
    bm_buf_done(&cache);
    bm_free(home);
    return s.rc;
}
