/* errors.h - the one shape of errors on HTTP: the OpenAI one plus `hint` and `request_id`. */
#pragma once
#include "base/buf.h"
#include "base/error.h"

/* {"error":{"message","type","code","param","hint","request_id"}}; param and hint are null when empty. */
void bm_error_json(bm_buf *out, const bm_error *err, const char *request_id);
/* For statuses that have no code of their own (405, 408, 411, 415, 431, 501, 505). */
void bm_status_json(bm_buf *out, int status, const char *message, const char *hint, const char *request_id);
const char *bm_status_phrase(int status);
