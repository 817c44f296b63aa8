/* errors.c - errors as JSON. */
#include "server/errors.h"

#include <stdio.h>

#include "base/json_out.h"

static void write_error(bm_buf *out, const char *message, const char *type, const char *code, const char *param,
                        const char *hint, const char *request_id)
{
    bm_json j = { out, false };

    bm_json_open(&j, '{');
    bm_json_key(&j, "error");
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "message", message);
    bm_json_kstr(&j, "type", type);
    bm_json_kstr(&j, "code", code);
    bm_json_kstr(&j, "param", param != NULL && *param != '\0' ? param : NULL);
    bm_json_kstr(&j, "hint", hint != NULL && *hint != '\0' ? hint : NULL);
    bm_json_kstr(&j, "request_id", request_id);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
}

void bm_error_json(bm_buf *out, const bm_error *err, const char *request_id)
{
    write_error(out, err->msg, bm_error_type(err->code), bm_error_slug(err->code), err->param, err->hint, request_id);
}

static const struct status_row { int status; const char *phrase, *code; } statuses[] = {
    { 200, "OK", "ok" },                                      { 204, "No Content", "ok" },
    { 400, "Bad Request", "bad_request" },                    { 401, "Unauthorized", "invalid_api_key" },
    { 403, "Forbidden", "forbidden" },                        { 404, "Not Found", "not_found" },
    { 405, "Method Not Allowed", "method_not_allowed" },      { 408, "Request Timeout", "request_timeout" },
    { 409, "Conflict", "exists" },                            { 411, "Length Required", "length_required" },
    { 413, "Content Too Large", "too_large" },                { 414, "URI Too Long", "uri_too_long" },
    { 415, "Unsupported Media Type", "unsupported_media_type" },
    { 417, "Expectation Failed", "expectation_failed" },      { 421, "Misdirected Request", "unknown_host" },
    { 429, "Too Many Requests", "rate_limit" },               { 431, "Request Header Fields Too Large", "headers_too_large" },
    { 499, "Client Closed Request", "canceled" },             { 500, "Internal Server Error", "internal" },
    { 501, "Not Implemented", "not_implemented" },            { 503, "Service Unavailable", "unavailable" },
    { 505, "HTTP Version Not Supported", "http_version" },
};

static const struct status_row *find_status(int status)
{
    static const struct status_row unknown = { 0, "Unknown", "error" };

    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (statuses[i].status == status)
            return &statuses[i];
    return &unknown;
}

const char *bm_status_phrase(int status) { return find_status(status)->phrase; }

void bm_status_json(bm_buf *out, int status, const char *message, const char *hint, const char *request_id)
{
    const char *type = status >= 500 ? "server_error" : status == 403 ? "permission_error" : "invalid_request_error";

    write_error(out, message, type, find_status(status)->code, NULL, hint, request_id);
}
