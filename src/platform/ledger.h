/* ledger.h - append-only: one row for each request, cancelled ones too, with the engine's own counts (store/ledger.h: rows,
 * bm_ledger_add, bm_ledger_flush), and what they add up to. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "store/ledger.h"
#include "store/store.h"

/* by: "key", "model", "adapter" or "day" (UTC); else BM_INVALID. since_ms 0: all. Rows still queued are not in it. *out is the caller's to
 * bm_free (NULL when there are none). */
int bm_usage(bm_store *store, const char *by, int64_t since_ms, bm_usage_row **out, size_t *n, bm_error *err);
