/* adapters.c - what `baimo shelf add | ls | show` say of adapters. */
#include "cli/adapters.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

json_t *adapter_json(const bm_adapter_row *r)
{
    json_t *settings = json_loads(r->settings != NULL ? r->settings : "{}", 0, NULL);
    json_t *curve = json_loads(r->curve != NULL ? r->curve : "[]", 0, NULL);

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:o, s:o}", "name", r->name, "kind", "adapter",
                     "parent", r->base_name, "base_sha256", r->base_sha256, "path", r->path, "sha256", r->sha256, "size_bytes",
                     (json_int_t)r->size_bytes, "source", r->source, "run", r->run, "data_sha256", r->data_sha256, "version", r->version,
                     "license", r->license, "created_ms", (json_int_t)r->created_ms, "settings", settings != NULL ? settings : json_object(),
                     "curve", curve != NULL ? curve : json_array());
}

static void field(const char *name, const char *value)
{
    printf("%-14s ", name);
    cli_print_safe(value[0] != '\0' ? value : "-");
    putchar('\n');
}

void adapter_print(const bm_adapter_row *r)
{
    char size[24], made[24];

    cli_size_text(size, (uint64_t)r->size_bytes);
    cli_time_text(made, r->created_ms);
    field("name", r->name);
    field("kind", "adapter");
    field("base", r->base_name);
    field("base sha256", r->base_sha256);
    field("path", r->path);
    field("sha256", r->sha256);
    field("size", size);
    field("source", r->source);
    field("run", r->run);
    field("data sha256", r->data_sha256);
    field("settings", r->settings != NULL ? r->settings : "");
    field("version", r->version);
    field("licence", r->license);
    field("added", made);
}

void adapters_print_list(const bm_adapter_row *rows, size_t n)
{
    char size[24];

    for (size_t i = 0; i < n; i++) {
        cli_size_text(size, (uint64_t)rows[i].size_bytes);
        cli_print_safe(rows[i].name);
        printf("  adapter of ");
        cli_print_safe(rows[i].base_name);
        printf("  %s  %s  %.12s\n", size, rows[i].source, rows[i].sha256);
    }
}

int adapter_add(bm_store *store, const char *path, const char *base, const char *name, bool as_json)
{
    bm_adapter_row added = { 0 }, row;
    bm_error err = { 0 };
    int rc = 0;

    if (bm_shelf_add_adapter(store, path, base, name, &added, &err) < 0 || bm_adapters_find(store, added.name, &row, &err) != 1)
        return cli_fail(&err);
    if (as_json)
        rc = cli_print_json(adapter_json(&row));
    else
        adapter_print(&row);
    bm_adapter_row_done(&row);
    return rc;
}
