/* ps.c - `baimo ps`: asks the running server of this home what it has loaded. */
#include "base/mem.h"
#include "cli/cli.h"
#include "platform/client.h"
#include "platform/home.h"

#include <stdio.h>
#include <stdlib.h>

static long long number(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_models(const json_t *models)
{
    const json_t *m;
    size_t i;
    char size[24], kv[24], cached[24];

    if (json_array_size(models) == 0) {
        puts("a server is running, and has no model loaded");
        return;
    }
    printf("%10s %10s %10s %8s %7s %7s  %s\n", "MEMORY", "KV", "CACHED", "CONTEXT", "ACTIVE", "QUEUED", "NAME");
    json_array_foreach (models, i, m) {
        const char *name = json_string_value(json_object_get(m, "name"));
        cli_size_text(size, (uint64_t)number(m, "size_bytes"));
        cli_size_text(kv, (uint64_t)number(m, "kv_used_bytes"));
        cli_size_text(cached, (uint64_t)number(m, "kv_cached_bytes"));
        printf("%10s %10s %10s %8lld %7lld %7lld  ", size, kv, cached, number(m, "context"), number(m, "active"), number(m, "queued"));
        cli_print_safe(name != NULL ? name : "?");
        putchar('\n');
    }
}

static int ask(const char *home, char **body, size_t *len, bm_error *err)
{
    char socket_path[108];
    int rc, status;

    if ((rc = bm_home_socket(socket_path, home, err)) < 0)
        return rc;
    if ((rc = bm_client_get(socket_path, "/v1/ps", getenv("BAIMO_API_KEY"), &status, body, len, err)) < 0)
        return rc == BM_NOTFOUND ? bm_hint(err, "start one: baimo serve") : rc;
    if (status != 200) {
        bm_free(*body);
        *body = NULL;
        return bm_fail(err, BM_IO, "%s: the server answered %d to GET /v1/ps", socket_path, status);
    }
    return 0;
}

int cmd_ps(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "the server's whole answer, for programs" },
                                   { .name = NULL } };
    const cli_command self = { "ps", "[--json]",
                               "What the running server of this home has loaded: memory, context, active and queued requests.",
                               "baimo ps", options };
    char *home = NULL, *body = NULL;
    size_t len;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    if (bm_home_path(&home, &err) < 0 || ask(home, &body, &len, &err) < 0) {
        bm_free(home);
        return cli_fail(&err);
    }
    json_t *answer = json_loadb(body, len, 0, NULL);
    if (answer == NULL) {
        bm_fail(&err, BM_IO, "the server's answer to GET /v1/ps is not JSON");
        rc = cli_fail(&err);
    } else if (as_json) {
        rc = cli_print_json(json_incref(answer));
    } else {
        print_models(json_object_get(answer, "models"));
    }
    json_decref(answer);
    bm_free(body);
    bm_free(home);
    return rc;
}
