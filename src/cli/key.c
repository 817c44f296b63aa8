/* key.c - `baimo key add | ls | revoke`. */
#include "base/mem.h"
#include "cli/cli.h"
#include "platform/keys.h"

#include <stdio.h>

static json_t *key_json(const bm_key *key)
{
    char scopes[64];

    bm_scopes_text(key->scopes, scopes);
    return json_pack("{s:I, s:s, s:s, s:s, s:I, s:I, s:I}", "id", (json_int_t)key->id, "name", key->name, "prefix", key->prefix,
                     "scope", scopes, "created_ms", (json_int_t)key->created_ms, "revoked_ms", (json_int_t)key->revoked_ms,
                     "last_used_ms", (json_int_t)key->last_used_ms);
}

static int print_new_key(const bm_key *key, const char *secret, bool as_json)
{
    char scopes[64];

    if (as_json) {
        json_t *json = key_json(key);
        if (json != NULL && json_object_set_new(json, "key", json_string(secret)) < 0)
            json_decref(json), json = NULL;
        return cli_print_json(json);
    }
    bm_scopes_text(key->scopes, scopes);
    printf("%s\n", secret);
    fflush(stdout);
    fprintf(stderr,
            "This key is shown once. Send it as 'Authorization: Bearer %s...'. Scope: %s. Take it back: baimo key revoke ",
            key->prefix, scopes);
    fprintf(stderr, "%s\n", key->name);
    return 0;
}

static int key_add(int argc, char **argv)
{
    const char *scopes = NULL;
    bool as_json = false;
    const cli_option options[] = {
        { "scope", NULL, CLI_STR, &scopes, 0, 0, "SCOPES",
          "what it may do, comma-separated: infer, models, tune, eval, admin, audit (default infer)" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL }
    };
    const cli_command self = { "key add", "NAME [--scope infer]",
                               "Make an API key. It is printed once, and only its hash is kept.\n"
                               "Once a key exists, every request to the server needs one.",
                               "baimo key add alice", options };
    char secret[80];
    bm_store *store;
    bm_error err;
    bm_key key;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one NAME, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    rc = bm_key_add(store, argv[0], scopes, secret, &key, &err) < 0 ? cli_fail(&err) : print_new_key(&key, secret, as_json);
    bm_store_close(store);
    return rc;
}

static void print_keys(const bm_key *keys, size_t n, bool all)
{
    char scopes[64], made[24], used[24];
    size_t shown = 0;

    for (size_t i = 0; i < n; i++) {
        if (keys[i].revoked_ms != 0 && !all)
            continue;
        if (shown++ == 0)
            printf("%-12s %-17s %-17s %-9s %-16s %s\n", "KEY", "CREATED", "LAST USED", "STATE", "SCOPE", "NAME");
        bm_scopes_text(keys[i].scopes, scopes);
        cli_time_text(made, keys[i].created_ms);
        cli_time_text(used, keys[i].last_used_ms);
        printf("%-12s %-17s %-17s %-9s %-16s ", keys[i].prefix, made, used, keys[i].revoked_ms != 0 ? "revoked" : "valid",
               scopes);
        cli_print_safe(keys[i].name);
        putchar('\n');
    }
    if (shown == 0)
        puts("no keys: requests from this machine need none. Make one: baimo key add NAME");
}

static int key_ls(int argc, char **argv)
{
    bool as_json = false, all = false;
    const cli_option options[] = {
        { "all", "-a", CLI_FLAG, &all, 0, 0, NULL, "revoked ones too" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "key ls", "[--all] [--json]",
                               "List the API keys by their first characters. The keys themselves are not kept.", "baimo key ls",
                               options };
    bm_store *store;
    bm_error err;
    bm_key *keys;
    size_t n_keys;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (bm_key_list(store, &keys, &n_keys, &err) < 0) {
        rc = cli_fail(&err);
    } else if (as_json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n_keys; i++)
            if (all || keys[i].revoked_ms == 0)
                json_array_append_new(list, key_json(&keys[i]));
        rc = cli_print_json(json_pack("{s:o}", "keys", list));
    } else {
        print_keys(keys, n_keys, all);
    }
    bm_free(keys);
    bm_store_close(store);
    return rc;
}

static int key_revoke(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "key revoke", "NAME|KEY",
                               "Take a key back, by its name or its first characters. A running server refuses it at once.",
                               "baimo key revoke alice", options };
    bm_store *store;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one NAME, found %d", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (bm_key_revoke(store, argv[0], &err) < 0) {
        rc = cli_fail(&err);
    } else if (as_json) {
        rc = cli_print_json(json_pack("{s:s}", "revoked", argv[0]));
    } else {
        printf("revoked ");
        cli_print_safe(argv[0]);
        putchar('\n');
    }
    bm_store_close(store);
    return rc;
}

int cmd_key(int argc, char **argv)
{
    static const cli_sub subs[] = {
        { "add", key_add, "make a key, shown once" },
        { "ls", key_ls, "the keys, by their first characters" },
        { "revoke", key_revoke, "take a key back" },
        { NULL, NULL, NULL },
    };
    return cli_dispatch("key", subs, argc, argv);
}
