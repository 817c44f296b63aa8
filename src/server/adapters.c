/* adapters.c - /v1/adapters: adapters put on the shelf, mounted, listed and taken away while the server runs.
 * A path is read only for who may read files here anyway: over the server's socket, or with a key of scope admin. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "platform/pool.h"
#include "platform/shelf.h"
#include "server/ask.h"
#include "server/tuning.h"

static void write_adapter(bm_json *j, const bm_adapter_row *row, bool mounted, bool whole)
{
    bm_json_open(j, '{');
    bm_json_kstr(j, "id", row->name);
    bm_json_kstr(j, "object", "adapter");
    bm_json_kint(j, "created", row->created_ms / 1000);
    bm_json_kstr(j, "parent", row->base_name);
    bm_json_kstr(j, "base_sha256", row->base_sha256);
    bm_json_kstr(j, "sha256", row->sha256);
    bm_json_kstr(j, "data_sha256", row->data_sha256[0] != '\0' ? row->data_sha256 : NULL);
    bm_json_kint(j, "size_bytes", row->size_bytes);
    bm_json_kstr(j, "source", row->source);
    bm_json_kstr(j, "run", row->run[0] != '\0' ? row->run : NULL);
    bm_json_kstr(j, "version", row->version);
    bm_json_kbool(j, "mounted", mounted);
    bm_json_key(j, "settings");
    bm_json_raw(j, row->settings != NULL ? row->settings : "{}", row->settings != NULL ? strlen(row->settings) : 2);
    if (whole) {
        bm_json_key(j, "curve");
        bm_json_raw(j, row->curve != NULL ? row->curve : "[]", row->curve != NULL ? strlen(row->curve) : 2);
    }
    bm_json_close(j, '}');
}

/* Is this model or adapter in memory? */
static int is_loaded(bm_ask *ask, const char *name, bool *loaded)
{
    bm_pool_entry *list = NULL;
    size_t n = 0;
    int rc = bm_pool_list(ask->server->options.pool, &list, &n, &ask->err);

    *loaded = false;
    for (size_t i = 0; i < n && rc == 0; i++)
        *loaded |= list[i].loaded && strcmp(list[i].name, name) == 0;
    bm_free(list);
    return rc;
}

static int fill_list(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_pool_entry *list = NULL;
    bm_adapter_row *rows;
    size_t n, n_list = 0;
    int rc = bm_adapters_list(ask->server->options.store, &rows, &n, &ask->err);

    if (rc == 0 && (rc = bm_pool_list(ask->server->options.pool, &list, &n_list, &ask->err)) == 0) {
        bm_list_open(&j);
        for (size_t i = 0; i < n; i++) {
            bool mounted = false;
            for (size_t k = 0; k < n_list; k++)
                mounted |= list[k].parent[0] != '\0' && list[k].loaded && strcmp(list[k].name, rows[i].name) == 0;
            write_adapter(&j, &rows[i], mounted, false);
        }
        bm_list_close(&j, false);
    }
    bm_free(list);
    bm_adapters_free(rows, n);
    return rc;
}

/* The adapter that the path names. */
static int find(bm_ask *ask, bm_adapter_row *row)
{
    char name[512];
    int rc = bm_ask_rest(ask, strlen("/v1/adapters/"), name, sizeof name);

    if (rc == 0 && (rc = bm_adapters_find(ask->server->options.store, name, row, &ask->err)) == 0) {
        rc = bm_fail(&ask->err, BM_NOTFOUND, "there is no adapter '%.128s' on the shelf", name);
        bm_hint(&ask->err, "GET /v1/adapters names all");
    }
    return rc < 0 ? rc : 0;
}

static int fill_one(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_adapter_row row;
    bool mounted;
    int rc = find(ask, &row);

    if (rc < 0)
        return rc;
    if ((rc = is_loaded(ask, row.name, &mounted)) == 0)
        write_adapter(&j, &row, mounted, true);
    bm_adapter_row_done(&row);
    return rc;
}

/* Requests that run keep what they use; the list is asked so that the pool lets go of it. */
static int fill_delete(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_adapter_row row;
    bool mounted;
    int rc = find(ask, &row);

    if (rc < 0)
        return rc;
    if ((rc = bm_adapters_delete(ask->server->options.store, row.name, &ask->err)) == 0 && (rc = is_loaded(ask, row.name, &mounted)) == 0) {
        bm_json_open(&j, '{');
        bm_json_kstr(&j, "id", row.name);
        bm_json_kstr(&j, "object", "adapter");
        bm_json_kbool(&j, "deleted", true);
        bm_json_close(&j, '}');
    }
    bm_adapter_row_done(&row);
    return rc;
}

static int refuse(bm_ask *ask, const char *param, const char *what)
{
    bm_fail(&ask->err, BM_INVALID, "%s", what);
    return bm_param(&ask->err, param);
}

static int take_string(bm_ask *ask, const json_t *body, const char *key, const char **out)
{
    const json_t *value = json_object_get(body, key);

    *out = json_string_value(value);
    if (value == NULL || json_is_null(value) || *out != NULL)
        return 0;
    bm_fail(&ask->err, BM_INVALID, "'%s' must be a string", key);
    return bm_param(&ask->err, key);
}

/* A new adapter from a path, or the one of that name. */
static int put(bm_ask *ask, const json_t *body, bm_adapter_row *row)
{
    const char *name, *path, *base;
    int rc;

    if ((rc = take_string(ask, body, "name", &name)) < 0 || (rc = take_string(ask, body, "path", &path)) < 0 ||
        (rc = take_string(ask, body, "base", &base)) < 0)
        return rc;
    if (path != NULL && !ask->local && !(ask->key.scopes & BM_SCOPE_ADMIN)) {
        bm_fail(&ask->err, BM_FORBIDDEN, "a path is read only over the server's socket or with a key of scope admin");
        bm_param(&ask->err, "path");
        return bm_hint(&ask->err, "on the server's machine: baimo shelf add PATH --base NAME");
    }
    if (path != NULL && path[0] != '/')
        return refuse(ask, "path", "'path' must be absolute");
    if (path == NULL && name == NULL)
        return refuse(ask, "name", "'name' is missing: which adapter shall be mounted?");
    if (path != NULL && (rc = bm_shelf_add_adapter(ask->server->options.store, path, base, name, row, &ask->err)) < 0)
        return rc;
    char known[128];
    snprintf(known, sizeof known, "%s", path != NULL ? row->name : name);
    if ((rc = bm_adapters_find(ask->server->options.store, known, row, &ask->err)) == 0)
        rc = bm_fail(&ask->err, BM_NOTFOUND, "there is no adapter '%.128s' on the shelf", known);
    return rc < 0 ? rc : 0;
}

/* On a base that is loaded it is mounted at once, and errors are told now; else the first request does it. */
static int mount(bm_ask *ask, const bm_adapter_row *row, bool *mounted)
{
    bm_backend *backend = NULL;
    bm_shelf_target target;
    char canonical[128];
    bool loaded;
    int rc;

    *mounted = false;
    if ((rc = bm_shelf_find_target(ask->server->options.store, row->name, &target, &ask->err)) < 0 ||
        (rc = is_loaded(ask, target.model.name, &loaded)) < 0 || !loaded)
        return rc;
    rc = bm_pool_get(ask->server->options.pool, row->name, &backend, canonical, NULL, NULL, &ask->err);
    *mounted = rc == 0;
    bm_pool_put(ask->server->options.pool, backend);
    return rc < 0 ? rc : 0;
}

static int fill_put(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_adapter_row row = { 0 };
    bool mounted;
    json_t *body;
    int rc = bm_ask_json(ask, &body);

    if (rc == 0 && (rc = put(ask, body, &row)) == 0 && (rc = mount(ask, &row, &mounted)) == 0)
        write_adapter(&j, &row, mounted, false);
    bm_adapter_row_done(&row);
    json_decref(body);
    return rc;
}

void bm_route_adapter_put(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_put); }
void bm_route_adapters(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_list); }
void bm_route_adapter(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_one); }
void bm_route_adapter_delete(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_delete); }
