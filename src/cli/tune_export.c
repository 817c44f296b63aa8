/* tune_export.c - `baimo tune export`: an adapter of the shelf in PEFT's or llama.cpp's layout, or merged into its base. */
#include "cli/cli.h"
#include "cli/perplexity.h"
#include "cli/tune.h"
#include "compute/quantize.h"
#include "model/adapter_file.h"
#include "model/merge.h"
#include "platform/shelf.h"
#include "store/adapters.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_WINDOWS = 20 };

typedef struct export_job {
    const char *name, *format, *quant, *out, *text;
    bool merge, json;
    bm_qtype type;
    bm_shelf_target target;
    bm_gguf *gguf;
    bm_model *model;             /* shapes only */
    bm_adapter_file file;
    char path[4200];
    bool measured;
    double before, after;        /* perplexity through the adapter and merged */
} export_job;

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

static int open_all(export_job *e, bm_error *err)
{
    bm_adapter_row row = { 0 };
    bm_store *store;
    int rc = cli_open_store(&store, err);

    if (rc < 0)
        return rc;
    if ((rc = find_adapter(store, e->name, &row, err)) == 0)
        rc = bm_shelf_find_target(store, row.name, &e->target, err);
    bm_adapter_row_done(&row);
    bm_store_close(store);
    if (rc < 0)
        return rc;
    if ((rc = bm_gguf_open(&e->gguf, e->target.model.path, err)) < 0 || (rc = bm_model_open_shapes(&e->model, e->gguf, err)) < 0 ||
        (rc = bm_adapter_file_read(&e->file, e->model, e->target.adapter.path, err)) < 0)
        return rc;
    snprintf(e->file.about.base_sha256, sizeof e->file.about.base_sha256, "%s", e->target.adapter.base_sha256);
    if (e->file.about.base_name[0] == '\0')
        snprintf(e->file.about.base_name, sizeof e->file.about.base_name, "%s", e->target.adapter.base_name);
    return 0;
}

/* --out, or the name in this directory; nothing is overwritten. */
static int choose_path(export_job *e, bm_error *err)
{
    char stem[128], quant[16];

    bm_shelf_name(e->target.adapter.name, stem);      /* what stands behind the last '/' */
    snprintf(quant, sizeof quant, "%s", e->quant);
    for (char *c = quant; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    if (e->out != NULL)
        snprintf(e->path, sizeof e->path, "%.4095s", e->out);
    else if (e->merge)
        snprintf(e->path, sizeof e->path, "%s-merged-%s.gguf", stem, quant);
    else
        snprintf(e->path, sizeof e->path, "%s%s", stem, strcmp(e->format, "gguf") == 0 ? ".gguf" : "");
    if (access(e->path, F_OK) != 0)
        return 0;
    bm_fail(err, BM_EXISTS, "%s: is there already", e->path);
    return bm_hint(err, "name another place: --out PATH"), BM_EXISTS;
}

static int merge(export_job *e, bm_error *err)
{
    bm_merge_options options = { .type = e->type };
    bm_team *team;
    bm_cpu cpu;
    int rc;

    bm_cpu_detect(&cpu);
    if ((rc = bm_team_new(&team, cpu.n_threads_default, err)) < 0)
        return rc;
    rc = bm_merge_write(e->path, e->gguf, e->model, e->file.matrices, e->file.n, &options, team, err);
    bm_team_free(team);
    if (rc < 0 || e->text == NULL)
        return rc;
    if ((rc = cli_perplexity(e->target.model.path, e->target.adapter.path, e->text, TEXT_WINDOWS, &e->before, err)) == 0)
        rc = cli_perplexity(e->path, NULL, e->text, TEXT_WINDOWS, &e->after, err);
    e->measured = rc == 0;
    return rc;
}

static int export(export_job *e, bm_error *err)
{
    if (e->merge)
        return merge(e, err);
    if (strcmp(e->format, "gguf") == 0)
        return bm_adapter_write_gguf(e->path, e->model, e->file.matrices, e->file.n, &e->file.about, err);
    return bm_adapter_write_peft(e->path, e->model, e->file.matrices, e->file.n, &e->file.about, err);
}

static int report(const export_job *e)
{
    const char *format = e->merge ? "merged" : e->format;

    if (e->json) {
        json_t *j = json_pack("{s:s, s:s, s:s, s:s}", "adapter", e->target.adapter.name, "base", e->target.model.name, "format", format,
                              "path", e->path);
        if (j != NULL && e->merge)
            json_object_set_new(j, "quantization", json_string(bm_qtype_name((uint32_t)e->type)));
        if (j != NULL && e->measured) {
            json_object_set_new(j, "perplexity_adapter", json_real(e->before));
            json_object_set_new(j, "perplexity_merged", json_real(e->after));
        }
        return cli_print_json(j);
    }
    printf("%s\n", e->path);
    if (e->measured)
        printf("perplexity %.4f through the adapter, %.4f merged: the merge costs %+.2f %%\n", e->before, e->after,
               100 * (e->after / e->before - 1));
    else if (e->merge)
        puts("what the merge cost in perplexity: measured with --text FILE");
    return 0;
}

int cmd_tune_export(int argc, char **argv)
{
    export_job e = { .format = "peft", .quant = "Q8_0" };
    const cli_option options[] = {
        { "format", NULL, CLI_STR, &e.format, 0, 0, "peft|gguf", "layout of the adapter (default peft)" },
        { "merge", NULL, CLI_FLAG, &e.merge, 0, 0, NULL, "write base and adapter as one GGUF instead" },
        { "quant", NULL, CLI_STR, &e.quant, 0, 0, "TYPE", "of the merged matrices: F32, F16, BF16, Q8_0, Q4_1 or Q4_0 (default Q8_0);\n"
          "what the adapter does not change stays as it is" },
        { "text", NULL, CLI_STR, &e.text, 0, 0, "FILE", "measure on this text what the merge cost in perplexity" },
        { "out", "-o", CLI_STR, &e.out, 0, 0, "PATH", "where to (default: the adapter's name, here)" },
        { "json", NULL, CLI_FLAG, &e.json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "tune export", "NAME [--format peft|gguf] [--merge --quant TYPE] [--out PATH]",
                               "An adapter as files that other programs read, or merged into its base. NAME is the adapter's, or a run's id.",
                               "baimo tune export me --format gguf\nbaimo tune export me --merge --quant q8_0 --text held-back.txt", options };
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one adapter, by name or by its run, found %d", n);
    if (strcmp(e.format, "peft") != 0 && strcmp(e.format, "gguf") != 0)
        return cli_usage_error(self.name, "--format: expected peft or gguf, found '%s'", e.format);
    if (!bm_quantize_type(e.quant, &e.type))
        return cli_usage_error(self.name, "--quant: expected F32, F16, BF16, Q8_0, Q4_1 or Q4_0, found '%s'", e.quant);
    e.name = argv[0];
    if ((rc = open_all(&e, &err)) == 0 && (rc = choose_path(&e, &err)) == 0)
        rc = export(&e, &err);
    bm_adapter_file_done(&e.file);
    bm_model_close(e.model);
    bm_gguf_close(e.gguf);
    return rc < 0 ? cli_fail(&err) : report(&e);
}
