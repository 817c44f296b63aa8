/* shelf.c - `baimo shelf add | scan | ls | show | rm | alias`; verify and gc are in packs.c. */
#include "base/mem.h"
#include "cli/adapters.h"
#include "cli/cli.h"
#include "cli/packs.h"
#include "cli/progress.h"
#include "model/adapter_file.h"
#include "platform/shelf.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* "135M", "1.5B"; "-" for none. */
static void params_text(char out[24], int64_t n)
{
    static const char *const units[] = { "", "K", "M", "B", "T" };
    double x = (double)n;
    int u = 0;

    while (x >= 999.5 && u < 4)
        x /= 1000, u++;
    snprintf(out, 24, n <= 0 ? "-" : x < 9.95 && u > 0 ? "%.1f%s" : "%.0f%s", x, units[u]);
}

static json_t *model_json(const bm_shelf_model *m)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:s, s:I, s:b, s:I}", "name", m->name, "path", m->path, "sha256",
                     m->sha256, "size_bytes", (json_int_t)m->size_bytes, "arch", m->arch, "quantization", m->quantization,
                     "license", m->license, "n_params", (json_int_t)m->n_params, "n_ctx_train", (json_int_t)m->n_ctx_train,
                     "source", m->source, "created_ms", (json_int_t)m->created_ms, "missing", (int)m->missing, "pack_bytes",
                     (json_int_t)cli_pack_bytes(m->sha256));
}

static void print_field(const char *name, const char *value)
{
    printf("%-14s ", name);
    cli_print_safe(value[0] != '\0' ? value : "-");
    putchar('\n');
}

static void print_model(const bm_shelf_model *m)
{
    char size[24], params[24], made[24], context[24];
    uint64_t pack_bytes = cli_pack_bytes(m->sha256);

    cli_size_text(size, (uint64_t)m->size_bytes);
    params_text(params, m->n_params);
    cli_time_text(made, m->created_ms);
    snprintf(context, sizeof context, "%lld", (long long)m->n_ctx_train);
    print_field("name", m->name);
    print_field("file", m->path);
    if (m->missing)
        print_field("state", "MISSING: the file is gone or has another size");
    print_field("sha256", m->sha256);
    print_field("size", size);
    cli_size_text(size, pack_bytes);
    print_field("packed", pack_bytes > 0 ? size : "not on disk yet");
    print_field("architecture", m->arch);
    print_field("parameters", params);
    print_field("quantization", m->quantization);
    print_field("context", context);
    print_field("licence", m->license);
    print_field("source", m->source);
    print_field("added", made);
}

/* ---- add ---- */

/* Sources of later issues get a clear answer rather than "no such file". */
static int check_source(const char *source, bm_error *err)
{
    static const char *const remote[] = { "hf:", "ms:", "http://", "https://" };

    for (size_t i = 0; i < sizeof remote / sizeof remote[0]; i++)
        if (strncasecmp(source, remote[i], strlen(remote[i])) == 0) {
            bm_fail(err, BM_UNSUPPORTED, "%s: this version takes a GGUF file that is on this machine, not '%s'", source,
                    remote[i]);
            return bm_hint(err, "download the .gguf file, then: baimo shelf add FILE.gguf"), BM_UNSUPPORTED;
        }
    return 0;
}

static int shelf_add(int argc, char **argv)
{
    const char *name = NULL, *parent = NULL;
    bool as_json = false;
    const cli_option options[] = {
        { "name", NULL, CLI_STR, &name, 0, 0, "NAME", "what to call it (default: the file's name without .gguf)" },
        { "base", NULL, CLI_STR, &parent, 0, 0, "NAME", "of an adapter: its base on the shelf (default: the one that it names by hash)" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "shelf add", "FILE.gguf|ADAPTER [--name NAME] [--base NAME]",
                               "Put a model or an adapter on the shelf: the file is checked, hashed and recorded, and stays where it is.\n"
                               "An adapter is a directory in PEFT's layout or a GGUF of llama.cpp's; a running server serves it from then on.",
                               "baimo shelf add ~/models/qwen2.5-coder.gguf --name coder\nbaimo shelf add ./my-lora --base coder", options };
    cli_progress progress = { .quiet = false };
    bm_shelf_model model;
    bm_store *store;
    bm_error err;
    char what[300];
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one FILE, found %d arguments", n);
    if (check_source(argv[0], &err) < 0 || cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if ((rc = bm_adapter_file_look(argv[0], NULL, &err)) != 0 || parent != NULL) {
        rc = rc < 0 ? cli_fail(&err) : adapter_add(store, argv[0], parent, name, as_json);
        bm_store_close(store);
        return rc;
    }
    const char *base = strrchr(argv[0], '/');
    snprintf(what, sizeof what, "hashing %.280s", base != NULL ? base + 1 : argv[0]);
    progress.quiet = as_json;
    cli_progress_start(&progress, what);
    rc = bm_shelf_add(store, argv[0], name, "file", cli_progress_hash, &progress, &model, &err);
    cli_progress_done(&progress);
    bm_store_close(store);
    if (rc < 0)
        return cli_fail(&err);
    if (as_json)
        return cli_print_json(model_json(&model));
    print_model(&model);
    return 0;
}

/* ---- scan ---- */

typedef struct scan_state {
    bm_store *store;
    bool dry, as_json;
    json_t *added, *skipped;
    int n_added, n_known, n_bad;
} scan_state;

static void note(scan_state *s, const char *verb, const bm_scan_hit *hit, const char *name, const char *why)
{
    if (s->as_json)
        return;
    printf("%-8s ", verb);
    cli_print_safe(name);
    printf("  (%s) ", hit->source);
    cli_print_safe(why);
    putchar('\n');
    fflush(stdout);
}

/* Add under the found name, or with a number behind it when another file has that. */
static int add_hit(scan_state *s, const bm_scan_hit *hit, bm_shelf_model *model, bm_error *err)
{
    cli_progress progress = { .quiet = s->as_json };
    char what[160], name[140];
    int rc;

    snprintf(what, sizeof what, "hashing %s", hit->name);
    cli_progress_start(&progress, what);
    rc = bm_shelf_add(s->store, hit->path, hit->name, hit->source, cli_progress_hash, &progress, model, err);
    for (int i = 2; rc == BM_EXISTS && i < 10; i++) {
        snprintf(name, sizeof name, "%.120s-%d", hit->name, i);
        rc = bm_shelf_add(s->store, hit->path, name, hit->source, cli_progress_hash, &progress, model, err);
    }
    cli_progress_done(&progress);
    return rc;
}

static int on_hit(void *arg, const bm_scan_hit *hit)
{
    scan_state *s = arg;
    bm_shelf_model model;
    bm_error err;
    int rc;

    if (bm_shelf_find_path(s->store, hit->path, &model, &err) == 1) {
        s->n_known++;
        note(s, "known", hit, model.name, model.path);
        return 0;
    }
    if (s->dry) {
        s->n_added++;
        note(s, "found", hit, hit->name, hit->path);
        json_array_append_new(s->added,
                              json_pack("{s:s, s:s, s:s}", "name", hit->name, "path", hit->path, "source", hit->source));
        return 0;
    }
    if ((rc = add_hit(s, hit, &model, &err)) < 0) {
        s->n_bad++;
        note(s, "skipped", hit, hit->name, err.msg);
        json_array_append_new(s->skipped, json_pack("{s:s, s:s, s:s}", "name", hit->name, "path", hit->path, "error", err.msg));
        return 0;
    }
    s->n_added++;
    note(s, "added", hit, model.name, model.path);
    json_array_append_new(s->added, model_json(&model));
    return 0;
}

static int shelf_scan(int argc, char **argv)
{
    scan_state s = { .dry = false };
    const char *root = NULL;
    const cli_option options[] = {
        { "root", NULL, CLI_STR, &root, 0, 0, "DIR", "look below this directory as if it were your home" },
        { "dry-run", NULL, CLI_FLAG, &s.dry, 0, 0, NULL, "say what is there, add nothing" },
        { "json", NULL, CLI_FLAG, &s.as_json, 0, 0, NULL, "for programs: added, skipped, known" },
        { .name = NULL } };
    const cli_command self = {
        "shelf scan", "[--root DIR] [--dry-run]",
        "Find the GGUF files of Ollama, LM Studio, and the Hugging Face and llama.cpp caches, and add them in place.",
        "baimo shelf scan", options
    };
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'; another place: --root DIR", argv[0]);
    if (cli_open_store(&s.store, &err) < 0)
        return cli_fail(&err);
    s.added = json_array();
    s.skipped = json_array();
    if (bm_shelf_scan(root, on_hit, &s, &err) < 0)
        rc = cli_fail(&err);
    else if (s.as_json)
        rc = cli_print_json(json_pack("{s:O, s:O, s:i}", "added", s.added, "skipped", s.skipped, "known", s.n_known));
    else if (s.n_added + s.n_known + s.n_bad == 0)
        puts("no GGUF files of Ollama, LM Studio, Hugging Face or llama.cpp found; elsewhere: baimo shelf add FILE.gguf");
    else
        printf("%d %s, %d known already, %d skipped\n", s.n_added, s.dry ? "found" : "added", s.n_known, s.n_bad);
    json_decref(s.added);
    json_decref(s.skipped);
    bm_store_close(s.store);
    return rc;
}

/* ---- ls, show ---- */

static void print_list(const bm_shelf_model *rows, size_t n, const bm_adapter_row *adapters, size_t n_adapters, const bm_alias_row *aliases,
                       size_t n_aliases)
{
    char size[24], params[24];
    int width = 4;

    if (n == 0) {
        puts("the shelf is empty: baimo shelf add FILE.gguf, or baimo shelf scan");
        return;
    }
    for (size_t i = 0; i < n; i++)
        width = (int)strlen(rows[i].name) > width ? (int)strlen(rows[i].name) : width;
    printf("%-*s %9s %7s %-10s %-8s %-9s %s\n", width, "NAME", "SIZE", "PARAMS", "ARCH", "QUANT", "SOURCE", "SHA256");
    for (size_t i = 0; i < n; i++) {
        cli_size_text(size, (uint64_t)rows[i].size_bytes);
        params_text(params, rows[i].n_params);
        cli_print_safe(rows[i].name);
        printf("%*s %9s %7s %-10s %-8s %-9s %.12s%s\n", width - (int)strlen(rows[i].name), "", size, params, rows[i].arch,
               rows[i].quantization, rows[i].source, rows[i].sha256, rows[i].missing ? "  MISSING" : "");
    }
    adapters_print_list(adapters, n_adapters);
    for (size_t i = 0; i < n_aliases; i++)
        printf("%s -> %s\n", aliases[i].name, aliases[i].model);
}

static int list_json(const bm_shelf_model *rows, size_t n, const bm_adapter_row *adapters, size_t n_adapters, const bm_alias_row *aliases,
                     size_t n_aliases)
{
    json_t *models = json_array(), *children = json_array(), *names = json_object();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(models, model_json(&rows[i]));
    for (size_t i = 0; i < n_aliases; i++)
        json_object_set_new(names, aliases[i].name, json_string(aliases[i].model));
    for (size_t i = 0; i < n_adapters; i++)
        json_array_append_new(children, adapter_json(&adapters[i]));
    return cli_print_json(json_pack("{s:o, s:o, s:o}", "models", models, "adapters", children, "aliases", names));
}

static int shelf_ls(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "shelf ls", "[--json]", "List the models, adapters and aliases.", "baimo shelf ls", options };
    bm_shelf_model *rows = NULL;
    bm_alias_row *aliases = NULL;
    bm_adapter_row *adapters = NULL;
    size_t n_rows, n_aliases, n_adapters = 0;
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'; one model: baimo shelf show NAME", argv[0]);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (bm_shelf_list(store, &rows, &n_rows, &err) < 0 || bm_aliases_list(store, &aliases, &n_aliases, &err) < 0 ||
        bm_adapters_list(store, &adapters, &n_adapters, &err) < 0)
        rc = cli_fail(&err);
    else if (as_json)
        rc = list_json(rows, n_rows, adapters, n_adapters, aliases, n_aliases);
    else
        print_list(rows, n_rows, adapters, n_adapters, aliases, n_aliases);
    bm_free(rows);
    bm_free(aliases);
    bm_adapters_free(adapters, n_adapters);
    bm_store_close(store);
    return rc;
}

static int shelf_show(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "shelf show", "NAME",
                               "What is recorded of a model or an adapter. A model's metadata and tensors: baimo inspect FILE.",
                               "baimo shelf show smollm2", options };
    bm_adapter_row adapter;
    bm_shelf_model model;
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one NAME, found %d arguments", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if ((rc = bm_adapters_find(store, argv[0], &adapter, &err)) == 1) {
        rc = 0;
        if (as_json)
            rc = cli_print_json(adapter_json(&adapter));
        else
            adapter_print(&adapter);
        bm_adapter_row_done(&adapter);
    } else if (rc < 0 || bm_shelf_find(store, argv[0], &model, &err) < 0)
        rc = cli_fail(&err);
    else if (as_json)
        rc = cli_print_json(model_json(&model));
    else
        print_model(&model);
    bm_store_close(store);
    return rc;
}

/* ---- rm, alias ---- */

static int remove_all(bm_store *store, int n, char **names, json_t *removed)
{
    bm_adapter_row adapter;
    bm_shelf_model row;
    bm_error err;
    int rc;

    for (int i = 0; i < n; i++) {
        if ((rc = bm_adapters_find(store, names[i], &adapter, &err)) == 1) {
            bm_adapter_row_done(&adapter);
            if (bm_shelf_remove(store, names[i], &err) < 0)
                return cli_fail(&err);
        } else if (rc < 0 || bm_shelf_find(store, names[i], &row, &err) < 0 || bm_shelf_remove(store, names[i], &err) < 0 ||
            cli_packs_drop(store, row.sha256, &err) < 0)
            return cli_fail(&err);
        if (removed != NULL)
            json_array_append_new(removed, json_string(names[i]));
        else
            printf("%s is off the shelf; its file was not touched\n", names[i]);
    }
    return removed == NULL ? 0 : cli_print_json(json_pack("{s:O}", "removed", removed));
}

static int shelf_rm(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "shelf rm", "NAME...", "Take models off the shelf. The files stay where they are; packed weights are deleted.",
                               "baimo shelf rm coder", options };
    json_t *removed = NULL;
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n < 1)
        return cli_usage_error(self.name, "expected a NAME");
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (as_json)
        removed = json_array();
    rc = remove_all(store, n, argv, removed);
    json_decref(removed);
    bm_store_close(store);
    return rc;
}

static int shelf_alias(int argc, char **argv)
{
    bool as_json = false, away = false;
    const cli_option options[] = {
        { "remove", NULL, CLI_FLAG, &away, 0, 0, NULL, "take the alias away" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "shelf alias", "ALIAS NAME | --remove ALIAS",
                               "Let a second name stand for a model; it can be moved to another one later.\n"
                               "The alias 'default' is used when no model is named.",
                               "baimo shelf alias default smollm2", options };
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != (away ? 1 : 2))
        return cli_usage_error(self.name, "expected %s, found %d arguments", away ? "one ALIAS" : "ALIAS and NAME", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    rc = away ? bm_shelf_unalias(store, argv[0], &err) : bm_shelf_alias(store, argv[0], argv[1], &err);
    if (rc < 0)
        rc = cli_fail(&err);
    else if (as_json)
        rc = cli_print_json(json_pack("{s:s, s:s?}", "alias", argv[0], "model", away ? NULL : argv[1]));
    else if (away)
        printf("%s is gone\n", argv[0]);
    else
        printf("%s -> %s\n", argv[0], argv[1]);
    bm_store_close(store);
    return rc;
}

int cmd_shelf(int argc, char **argv)
{
    static const cli_sub subs[] = {
        { "add", shelf_add, "put a GGUF file on the shelf, where it is" },
        { "scan", shelf_scan, "find what Ollama, LM Studio and others have on this machine" },
        { "ls", shelf_ls, "the models" },
        { "show", shelf_show, "one model" },
        { "rm", shelf_rm, "take a model off the shelf; the file stays" },
        { "verify", cmd_shelf_verify, "compare a model's file and packed weights with their checksums" },
        { "gc", cmd_shelf_gc, "delete packed weights that no model needs" },
        { "alias", shelf_alias, "a second name for a model" },
        { NULL, NULL, NULL },
    };
    return cli_dispatch("shelf", subs, argc, argv);
}
