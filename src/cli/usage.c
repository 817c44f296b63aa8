/* usage.c - `baimo usage`: what the ledger adds up to. */
#define _GNU_SOURCE     /* timegm, strptime */
#include "base/clock.h"
#include "base/mem.h"
#include "base/number.h"
#include "cli/cli.h"
#include "platform/ledger.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* "2025-01-31" (UTC), "24h" or "7d" back from now; false when it is neither. */
static bool parse_since(const char *text, int64_t *out_ms)
{
    size_t n = strlen(text);
    struct tm tm = { 0 };
    char number[24];
    int64_t x;

    if (n > 1 && n < sizeof number && (text[n - 1] == 'h' || text[n - 1] == 'd')) {
        snprintf(number, sizeof number, "%.*s", (int)n - 1, text);
        if (!bm_parse_int(number, 1, 1000000, &x))
            return false;
        *out_ms = bm_wall_ms() - x * (text[n - 1] == 'h' ? 3600000 : 86400000);
        return true;
    }
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    if (end == NULL || *end != '\0')
        return false;
    *out_ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

static json_t *row_json(const bm_usage_row *r, const char *by)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", by, r->group, "requests", (json_int_t)r->requests, "prompt_tokens",
                     (json_int_t)r->prompt_tokens, "cached_tokens", (json_int_t)r->cached_tokens, "completion_tokens",
                     (json_int_t)r->completion_tokens, "canceled", (json_int_t)r->canceled, "errors", (json_int_t)r->errors);
}

static void print_row(const bm_usage_row *r, const char *name)
{
    printf("%10lld %12lld %12lld %12lld %9lld %7lld  ", (long long)r->requests, (long long)r->prompt_tokens,
           (long long)r->cached_tokens, (long long)r->completion_tokens, (long long)r->canceled, (long long)r->errors);
    cli_print_safe(name);
    putchar('\n');
}

static int print_usage(const bm_usage_row *rows, size_t n, const char *by, bool as_json)
{
    bm_usage_row sum = { .requests = 0 };

    if (as_json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, row_json(&rows[i], by));
        return cli_print_json(json_pack("{s:s, s:o}", "by", by, "usage", list));
    }
    if (n == 0) {
        puts("no requests yet");
        return 0;
    }
    printf("%10s %12s %12s %12s %9s %7s  %s\n", "REQUESTS", "PROMPT", "CACHED", "COMPLETION", "CANCELED", "ERRORS",
           strcmp(by, "key") == 0 ? "KEY" : strcmp(by, "model") == 0 ? "MODEL" : strcmp(by, "adapter") == 0 ? "ADAPTER" : "DAY");
    for (size_t i = 0; i < n; i++) {
        print_row(&rows[i], rows[i].group[0] != '\0' ? rows[i].group : strcmp(by, "key") == 0 ? "(no key)" : "(none)");
        sum.requests += rows[i].requests, sum.prompt_tokens += rows[i].prompt_tokens,
            sum.cached_tokens += rows[i].cached_tokens;
        sum.completion_tokens += rows[i].completion_tokens, sum.canceled += rows[i].canceled, sum.errors += rows[i].errors;
    }
    if (n > 1)
        print_row(&sum, "all");
    return 0;
}

int cmd_usage(int argc, char **argv)
{
    const char *by = "model", *since = NULL;
    bool as_json = false;
    const cli_option options[] = {
        { "by", NULL, CLI_STR, &by, 0, 0, "key|model|adapter|day", "one line for each of these (default model)" },
        { "since", NULL, CLI_STR, &since, 0, 0, "WHEN", "only requests since then: 2025-01-31 (UTC), 24h or 7d" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL } };
    const cli_command self = { "usage", "[--by key|model|adapter|day] [--since WHEN]",
                               "Requests and tokens, as the engine counted them.", "baimo usage --by day --since 7d", options };
    int64_t since_ms = 0;
    bm_usage_row *rows;
    bm_store *store;
    bm_error err;
    size_t n_rows;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    if (since != NULL && !parse_since(since, &since_ms))
        return cli_usage_error(self.name, "--since: expected a day such as 2025-01-31, or 24h or 7d, found '%.60s'", since);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if (bm_usage(store, by, since_ms, &rows, &n_rows, &err) < 0)
        rc = cli_fail(&err);
    else
        rc = print_usage(rows, n_rows, by, as_json);
    bm_free(rows);
    bm_store_close(store);
    return rc;
}
