/* ledger.c - see ledger.h. */
#include "platform/ledger.h"

#include <string.h>

int bm_usage(bm_store *store, const char *by, int64_t since_ms, bm_usage_row **out, size_t *n, bm_error *err)
{
    *out = NULL, *n = 0;
    if (strcmp(by, "key") == 0)
        return bm_ledger_sum(store, BM_USAGE_KEY, since_ms, out, n, err);
    if (strcmp(by, "model") == 0)
        return bm_ledger_sum(store, BM_USAGE_MODEL, since_ms, out, n, err);
    if (strcmp(by, "adapter") == 0)
        return bm_ledger_sum(store, BM_USAGE_ADAPTER, since_ms, out, n, err);
    if (strcmp(by, "day") == 0)
        return bm_ledger_sum(store, BM_USAGE_DAY, since_ms, out, n, err);
    bm_fail(err, BM_INVALID, "--by: expected key, model, adapter or day, found '%.60s'", by);
    return bm_param(err, "--by"), BM_INVALID;
}
