/* packs.c - packed weights on disk, as commands use them; `baimo shelf verify` and `baimo shelf gc`. */
#include "cli/packs.h"
#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "platform/home.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- for every command that loads ---- */

char *cli_pack_dir(bool no_pack)
{
    const char *env = getenv("BAIMO_NO_PACK");
    char *home = NULL;
    bm_buf dir = { 0 };

    if (no_pack || (env != NULL && *env != '\0' && strcmp(env, "0") != 0 && strcmp(env, "false") != 0 && strcmp(env, "no") != 0) ||
        bm_home_path(&home, NULL) < 0)
        return NULL;
    bm_buf_printf(&dir, "%s/packs", home);
    bm_free(home);
    return bm_buf_take(&dir);
}

int cli_model_open(bm_model **out, const bm_gguf *gguf, const bm_model_options *options, const bm_known_file *known, bool no_pack,
                   bm_team *team, bm_error *err)
{
    char *dir = options->f32 ? NULL : cli_pack_dir(no_pack);
    bm_model_options o = *options;
    bm_pack_spot spot = { 0 };
    bm_error why;
    int rc = 0;

    *out = NULL;
    for (int tries = 0; tries < 2; tries++) {
        if (dir != NULL && (rc = bm_pack_spot_init(&spot, dir, gguf, known, err)) < 0)
            break;
        bm_pack_spot_options(&spot, &o);
        if ((rc = bm_model_open(out, gguf, &o, team, err)) < 0 || dir == NULL)
            break;
        int kept = bm_pack_spot_keep(&spot, *out, NULL, NULL, &why);
        if (kept != 0)
            fprintf(stderr, "baimo: %s: %s\n", kept > 0 ? "packed weights were damaged, they are made anew" :
                    "packed weights are kept in memory only", why.msg);
        if (kept <= 0)
            break;
        bm_model_close(*out);
        *out = NULL;
        bm_pack_spot_done(&spot);
        rc = bm_fail(err, BM_IO, "%s", why.msg);
    }
    bm_pack_spot_done(&spot);
    bm_free(dir);
    return rc;
}

uint64_t cli_pack_bytes(const char *sha256_hex)
{
    char *dir = cli_pack_dir(false), *path = NULL;
    struct stat st = { 0 };
    bm_sha256 key;

    if (dir != NULL && bm_sha256_parse(&key, sha256_hex) && (path = bm_packs_path(dir, &key)) != NULL && stat(path, &st) < 0)
        st.st_size = 0;
    bm_free(path);
    bm_free(dir);
    return (uint64_t)st.st_size;
}

/* ---- what the shelf still needs ---- */

typedef struct needed { const bm_shelf_model *rows; size_t n; } needed;

static bool is_needed(void *arg, const char hex[65])
{
    const needed *s = arg;

    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->rows[i].sha256, hex) == 0)
            return true;
    return false;
}

typedef struct gone { const char *hex; const needed *still; } gone;

static bool not_gone(void *arg, const char hex[65])
{
    const gone *g = arg;

    return strcmp(hex, g->hex) != 0 || is_needed((void *)(uintptr_t)g->still, hex);
}

int cli_packs_drop(bm_store *store, const char *sha256_hex, bm_error *err)
{
    char *dir = cli_pack_dir(false);
    bm_shelf_model *rows = NULL;
    needed still = { 0 };
    int rc = bm_shelf_list(store, &rows, &still.n, err);

    still.rows = rows;
    if (rc == 0 && dir != NULL)
        rc = bm_packs_sweep(dir, not_gone, &(gone){ sha256_hex, &still }, NULL, NULL, err);
    bm_free(rows);
    bm_free(dir);
    return rc;
}

int cmd_shelf_gc(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "shelf gc", "[--json]",
                               "Delete packed weights that no model on the shelf needs, and what crashed programs left.\n"
                               "Packs of files that were named by path go too; the next start makes them anew.",
                               "baimo shelf gc", options };
    char *dir = cli_pack_dir(false), size[24];
    bm_shelf_model *rows = NULL;
    needed still = { 0 };
    bm_store *store;
    size_t removed = 0;
    uint64_t freed = 0;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0 || n != 0) {
        bm_free(dir);
        return rc != 0 ? rc - 1 : cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    }
    if ((rc = cli_open_store(&store, &err)) == 0 && (rc = bm_shelf_list(store, &rows, &still.n, &err)) == 0 && dir != NULL) {
        still.rows = rows;
        rc = bm_packs_sweep(dir, is_needed, &still, &removed, &freed, &err);
    }
    bm_free(rows);
    bm_free(dir);
    bm_store_close(store);
    if (rc < 0)
        return cli_fail(&err);
    if (as_json)
        return cli_print_json(json_pack("{s:I, s:I}", "removed", (json_int_t)removed, "freed_bytes", (json_int_t)freed));
    cli_size_text(size, freed);
    printf("%zu packs removed, %s freed\n", removed, size);
    return 0;
}

/* ---- verify ---- */

static int verify_file(const bm_shelf_model *row, bool quiet, bm_error *err)
{
    cli_progress progress = { .quiet = quiet };
    char hex[65], what[300];
    bm_sha256 sum;
    int rc;

    snprintf(what, sizeof what, "reading %.200s", row->name);
    cli_progress_start(&progress, what);
    rc = bm_sha256_file(&sum, row->path, cli_progress_hash, &progress, err);
    cli_progress_done(&progress);
    if (rc < 0)
        return rc;
    bm_hex(hex, sum.bytes, sizeof sum.bytes);
    if (strcmp(hex, row->sha256) == 0)
        return 0;
    bm_fail(err, BM_FORMAT, "%s: sha256 is %s, the shelf recorded %s", row->path, hex, row->sha256);
    return bm_hint(err, "the file was changed or is damaged: get it again, or baimo shelf rm %s and add it anew", row->name);
}

/* "ok", "none", or a negative code: it was damaged and is deleted now. */
static int verify_pack(const bm_shelf_model *row, const char **state, bm_error *err)
{
    char *dir = cli_pack_dir(false), *path = NULL;
    bm_gguf *gguf = NULL;
    bm_file_id id;
    bm_sha256 key;
    int rc = BM_NOTFOUND;

    *state = "none";
    if (dir != NULL && bm_sha256_parse(&key, row->sha256) && (path = bm_packs_path(dir, &key)) != NULL &&
        (rc = bm_gguf_open(&gguf, row->path, err)) == 0)
        rc = bm_pack_verify_for(gguf, path, &key, &id, NULL, NULL, err);
    if (rc == 0) {
        *state = "ok";
        bm_packs_remember(dir, "pack", &id, &key);
    } else if (rc == BM_FORMAT) {
        *state = "damaged";
        remove(path);
        bm_hint(err, "the pack was deleted; the next start makes it anew (a server that runs the model should be restarted)");
    }
    bm_gguf_close(gguf);
    bm_free(path);
    bm_free(dir);
    return rc == BM_NOTFOUND ? 0 : rc;
}

int cmd_shelf_verify(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "shelf verify", "NAME",
                               "Read a model's file and its packed weights whole, and compare their checksums with what was recorded.",
                               "baimo shelf verify smollm2", options };
    const char *pack = "not checked";
    bm_shelf_model *row;
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one NAME, found %d arguments", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if ((row = bm_zalloc(sizeof *row)) == NULL)
        rc = bm_fail(&err, BM_NOMEM, "no memory");
    else if ((rc = bm_shelf_find(store, argv[0], row, &err)) == 0 && (rc = verify_file(row, as_json, &err)) == 0)
        rc = verify_pack(row, &pack, &err);
    if (rc < 0) {
        rc = cli_fail(&err);
    } else if (as_json) {
        rc = cli_print_json(json_pack("{s:s, s:s, s:s, s:s}", "name", row->name, "file", "ok", "sha256", row->sha256, "pack", pack));
    } else {
        cli_print_safe(row->name);
        printf(": file ok, packed weights %s\n", strcmp(pack, "none") == 0 ? "not on disk" : pack);
    }
    bm_store_close(store);
    bm_free(row);
    return rc;
}
