/* ledger.h - append-only: one row for each request, cancelled ones too, with the engine's own counts. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "store/store.h"

typedef struct bm_ledger_row {
    char request_id[40];
    int64_t key_id;              /* 0: none */
    char key_name[64], model[128], route[32];
    int64_t prompt_tokens, cached_tokens, completion_tokens;
    char outcome[16];            /* "ok" "canceled" "error" "rejected" */
    char reason[32];             /* finish reason or error code */
    int64_t started_ms, queue_ms, first_token_ms, total_ms;
} bm_ledger_row;

/* Queue a row for the writer thread (group commit); returns at once, BM_NOMEM only. flush waits until all are on disk. */
int  bm_ledger_add(bm_store *store, const bm_ledger_row *row, bm_error *err);
int  bm_ledger_flush(bm_store *store, bm_error *err);

typedef struct bm_usage_row { char group[128]; int64_t requests, prompt_tokens, cached_tokens, completion_tokens, canceled, errors; } bm_usage_row;
/* by: "key", "model" or "day" (UTC). since_ms 0: all. */
int bm_usage(bm_store *store, const char *by, int64_t since_ms, bm_usage_row **out, size_t *n, bm_error *err);
