/* tune_export.c - `baimo tune export`: an adapter of the shelf as files that other programs read: PEFT's directory, llama.cpp's GGUF. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/tune.h"
#include "format/gguf.h"
#include "model/adapter_file.h"
#include "platform/shelf.h"
#include "store/adapters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The adapter that a name means: its own, or that of a run by id or the beginning of one. */
static int find_adapter(bm_store *store, const char *name, bm_adapter_row *row, bm_error *err)
{
    bm_run_row run;
    int rc = bm_adapters_find(store, name, row, err);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    if ((rc = bm_job_find(store, "tune", name, &run, err)) < 0)
        return bm_fail(err, BM_NOTFOUND, "there is no adapter and no tuning '%.100s'", name), bm_hint(err, "baimo shelf ls; baimo tune ls");
    if ((rc = bm_adapters_find(store, run.name, row, err)) == 0) {
        rc = bm_fail(err, BM_NOTFOUND, "the run %s is %s: there is no adapter of it", run.id, run.state);
        bm_hint(err, "baimo tune follow %s", run.id);
    }
    bm_run_row_done(&run);
    return rc < 0 ? rc : 0;
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static int write_as(const char *format, const char *out, const bm_model *shapes, const bm_adapter_file *file, bm_error *err)
{
    return strcmp(format, "gguf") == 0 ? bm_adapter_write_gguf(out, shapes, file->matrices, file->n, &file->about, err)
                                       : bm_adapter_write_peft(out, shapes, file->matrices, file->n, &file->about, err);
}

static int export_adapter(bm_store *store, const bm_adapter_row *row, const char *format, const char *out, bm_error *err)
{
    bm_adapter_file file = { 0 };
    bm_gguf *gguf = NULL;
    bm_model *shapes = NULL;
    bm_shelf_model base;
    int rc;

    if ((rc = bm_shelf_resolve(store, row->base_name, &base, err)) < 0)
        return rc;
    if (strcmp(base.sha256, row->base_sha256) != 0)
        return bm_fail(err, BM_INVALID, "'%s' belongs to a base of sha256 %.12s, and '%s' on the shelf is %.12s", row->name, row->base_sha256,
                       base.name, base.sha256);
    if ((rc = bm_gguf_open(&gguf, base.path, err)) == 0 && (rc = bm_model_open_shapes(&shapes, gguf, err)) == 0 &&
        (rc = bm_adapter_file_read(&file, shapes, row->path, err)) == 0)
        rc = write_as(format, out, shapes, &file, err);
    bm_adapter_file_done(&file);
    bm_model_close(shapes);
    bm_gguf_close(gguf);
    return rc;
}

static int run_export(const char *name, const char *format, const char *to, bool as_json)
{
    bm_adapter_row row = { 0 };
    bm_buf path = { 0 };
    bm_store *store;
    bm_error err;
    int rc;

    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if ((rc = find_adapter(store, name, &row, &err)) == 0) {
        const char *slash = strrchr(row.name, '/');
        bm_buf_printf(&path, "%s%s", to != NULL ? to : slash != NULL ? slash + 1 : row.name,
                      to == NULL && strcmp(format, "gguf") == 0 ? ".gguf" : "");
        if (path.failed)
            rc = bm_fail(&err, BM_NOMEM, "no memory for a path");
        else if (exists(path.data))
            rc = bm_fail(&err, BM_EXISTS, "%s is there already", path.data), bm_hint(&err, "--out another one");
        else
            rc = export_adapter(store, &row, format, path.data, &err);
    }
    if (rc < 0)
        rc = cli_fail(&err);
    else if (as_json)
        rc = cli_print_json(json_pack("{s:s, s:s, s:s, s:s}", "adapter", row.name, "base", row.base_name, "format", format, "path", path.data));
    else
        printf("%s\n", path.data);
    bm_buf_done(&path);
    bm_adapter_row_done(&row);
    bm_store_close(store);
    return rc;
}

int cmd_tune_export(int argc, char **argv)
{
    const char *format = "peft", *out = NULL;
    bool as_json = false;
    const cli_option options[] = {
        { "format", NULL, CLI_STR, &format, 0, 0, "peft|gguf", "a directory for PEFT (default), or a file for llama.cpp --lora" },
        { "out", "-o", CLI_STR, &out, 0, 0, "PATH", "where to (default: the adapter's name, here)" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "tune export", "NAME [--format peft|gguf] [--out PATH]",
                               "An adapter as files that other programs read. NAME is the adapter's, or a run's id.",
                               "baimo tune export me --format gguf --out me.gguf", options };
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one adapter, by name or by its run, found %d", n);
    if (strcmp(format, "peft") != 0 && strcmp(format, "gguf") != 0)
        return cli_usage_error(self.name, "--format: expected peft or gguf, found '%s'", format);
    return run_export(argv[0], format, out, as_json);
}
