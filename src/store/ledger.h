/* ledger.h - table ledger, append-only by triggers: one row for each request, cancelled ones too, with the engine's own
 * counts. Rows are queued and a writer thread commits all that wait in one transaction. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

typedef struct bm_ledger_row {
    char request_id[40];
    int64_t key_id;              /* 0: none */
    char key_name[64], model[128], route[32];
    char adapter[128];           /* of the model; "": the model alone */
    int64_t prompt_tokens, cached_tokens, completion_tokens;
    char outcome[16];            /* "ok" "canceled" "error" "rejected" */
    char reason[32];             /* finish reason or error code */
    int64_t started_ms, queue_ms, first_token_ms, total_ms;
} bm_ledger_row;

/* Queue a row for the writer thread; returns at once, BM_NOMEM only. When a commit fails (disk full), the rows stay queued
 * and are tried again every second. */
int  bm_ledger_add(bm_store *store, const bm_ledger_row *row, bm_error *err);
/* Wait until all rows queued before are on disk, or an attempt at it failed. */
int  bm_ledger_flush(bm_store *store, bm_error *err);

typedef struct bm_usage_row {
    char group[128];
    int64_t requests, prompt_tokens, cached_tokens, completion_tokens, canceled, errors;
} bm_usage_row;
typedef enum bm_usage_by { BM_USAGE_KEY, BM_USAGE_MODEL, BM_USAGE_ADAPTER, BM_USAGE_DAY } bm_usage_by;
/* Sums of rows that started at since_ms or later; *out is the caller's to bm_free (NULL when there are none). */
int bm_ledger_sum(bm_store *store, bm_usage_by by, int64_t since_ms, bm_usage_row **out, size_t *n, bm_error *err);
