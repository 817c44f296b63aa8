/* keys.c - see keys.h. */
#include "platform/keys.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/utf8.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

enum { SECRET_BYTES = 32, SECRET_CHARS = 46, PREFIX_CHARS = 9 };  /* "bm-" and 43 characters of base64url; "bm-" and six */

static const struct { unsigned bit; const char *name; } scope_names[] = {
    { BM_SCOPE_INFER, "infer" }, { BM_SCOPE_MODELS, "models" }, { BM_SCOPE_TUNE, "tune" },
    { BM_SCOPE_EVAL, "eval" },   { BM_SCOPE_ADMIN, "admin" },   { BM_SCOPE_AUDIT, "audit" },
};
enum { N_SCOPES = sizeof scope_names / sizeof scope_names[0] };

void bm_scopes_text(unsigned scopes, char out[64])
{
    size_t n = 0;

    out[0] = '\0';
    for (int i = 0; i < N_SCOPES; i++)
        if ((scopes & scope_names[i].bit) != 0)
            n += (size_t)snprintf(out + n, 64 - n, "%s%s", n > 0 ? "," : "", scope_names[i].name);
}

static int parse_scopes(unsigned *out, const char *text, bm_error *err)
{
    *out = 0;
    if (text == NULL)
        text = "infer";
    for (;;) {
        size_t n = strcspn(text, ",");
        unsigned bit = 0;
        for (int i = 0; i < N_SCOPES; i++)
            if (strlen(scope_names[i].name) == n && strncmp(scope_names[i].name, text, n) == 0)
                bit = scope_names[i].bit;
        if (bit == 0) {
            bm_fail(err, BM_INVALID, "scope '%.*s': expected one or more of infer,models,tune,eval,admin,audit",
                    (int)(n < 40 ? n : 40), text);
            return bm_param(err, "--scope"), BM_INVALID;
        }
        *out |= bit;
        if (text[n] == '\0')
            return 0;
        text += n + 1;
    }
}

static int check_name(const char *name, bm_error *err)
{
    size_t len = strlen(name);

    if (len == 0 || len >= sizeof ((bm_key *)0)->name || !bm_utf8_valid(name, len))
        return bm_fail(err, BM_INVALID, "a key's name has 1 to 63 bytes of UTF-8, found %zu", len);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7F)
            return bm_fail(err, BM_INVALID, "a key's name has no control characters, found 0x%02x", (unsigned char)name[i]);
    return 0;
}

static void base64url(char *out, const unsigned char *bytes, size_t n)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, have = 0;

    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | bytes[i];
        for (have += 8; have >= 6; have -= 6)
            *out++ = alphabet[bits >> (have - 6) & 63];
    }
    if (have > 0)
        *out++ = alphabet[bits << (6 - have) & 63];
    *out = '\0';
}

int bm_key_add(bm_store *store, const char *name, const char *scopes, char secret[80], bm_key *out, bm_error *err)
{
    unsigned char random[SECRET_BYTES];
    bm_sha256 hash;
    int rc;

    secret[0] = '\0';
    *out = (bm_key){ .created_ms = bm_wall_ms() };
    if ((rc = check_name(name, err)) < 0 || (rc = parse_scopes(&out->scopes, scopes, err)) < 0 ||
        (rc = bm_random_bytes(random, sizeof random, err)) < 0)
        return rc;
    memcpy(secret, "bm-", 3);
    base64url(secret + 3, random, sizeof random);
    OPENSSL_cleanse(random, sizeof random);
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->prefix, sizeof out->prefix, "%.*s", PREFIX_CHARS, secret);
    if ((rc = bm_sha256_bytes(&hash, secret, strlen(secret), err)) < 0 || (rc = bm_keys_insert(store, out, &hash, err)) < 0)
        OPENSSL_cleanse(secret, 80);
    return rc;
}

int bm_key_list(bm_store *store, bm_key **out, size_t *n, bm_error *err) { return bm_keys_list(store, out, n, err); }
int bm_key_any(bm_store *store, bool *any, bm_error *err) { return bm_keys_any(store, any, err); }

static int nearest_key(const bm_key *keys, size_t n, const char *want, bm_error *err)
{
    const char *names[64];
    size_t n_names = 0, best;

    for (size_t i = 0; i < n && n_names < 64; i++)
        if (keys[i].revoked_ms == 0)
            names[n_names++] = keys[i].name;
    bm_fail(err, BM_NOTFOUND, "there is no valid key '%.80s'", want);
    if (bm_nearest(want, names, n_names, &best, 1) == 1)
        return bm_hint(err, "did you mean %s? all of them: baimo key ls", names[best]), BM_NOTFOUND;
    return bm_hint(err, "baimo key ls"), BM_NOTFOUND;
}

int bm_key_revoke(bm_store *store, const char *name_or_prefix, bm_error *err)
{
    size_t n, hits = 0, len = strlen(name_or_prefix);
    int64_t id = 0;
    bm_key *keys;
    int rc;

    if ((rc = bm_keys_list(store, &keys, &n, err)) < 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (keys[i].revoked_ms == 0 && strcmp(keys[i].name, name_or_prefix) == 0)
            id = keys[i].id, hits = 1;
    for (size_t i = 0; i < n && id == 0 && len >= 6; i++)        /* a pasted secret begins with its prefix */
        if (keys[i].revoked_ms == 0 && strncmp(keys[i].prefix, name_or_prefix, len < PREFIX_CHARS ? len : PREFIX_CHARS) == 0)
            hits++;
    for (size_t i = 0; i < n && id == 0 && hits == 1; i++)
        if (keys[i].revoked_ms == 0 && strncmp(keys[i].prefix, name_or_prefix, len < PREFIX_CHARS ? len : PREFIX_CHARS) == 0)
            id = keys[i].id;
    if (hits > 1)
        rc = bm_fail(err, BM_INVALID, "'%.12s' is the beginning of %zu keys: give the name", name_or_prefix, hits);
    else
        rc = id == 0 ? nearest_key(keys, n, name_or_prefix, err) : bm_keys_revoke(store, id, bm_wall_ms(), err);
    bm_free(keys);
    return rc;
}

int bm_key_check(bm_store *store, const char *secret, unsigned scope, bm_key *out, bm_error *err)
{
    bm_sha256 hash;
    char have[64], need[64];
    int rc;

    *out = (bm_key){ 0 };
    if (secret == NULL || secret[0] == '\0') {
        bm_fail(err, BM_AUTH, "no API key: this server wants 'Authorization: Bearer bm-...'");
        return bm_hint(err, "make one on the server: baimo key add NAME"), BM_AUTH;
    }
    if (strlen(secret) == SECRET_CHARS && strncmp(secret, "bm-", 3) == 0) {
        if ((rc = bm_sha256_bytes(&hash, secret, SECRET_CHARS, err)) < 0 || (rc = bm_keys_find(store, &hash, out, err)) < 0)
            return rc;
    } else {
        rc = 0;
    }
    if (rc == 0) {
        bm_fail(err, BM_AUTH, "the API key is not valid: it is mistyped or was revoked");
        return bm_hint(err, "baimo key ls shows the valid ones by their first characters"), BM_AUTH;
    }
    if ((out->scopes & (scope | BM_SCOPE_ADMIN)) == 0 && scope != 0) {
        bm_scopes_text(out->scopes, have);
        bm_scopes_text(scope, need);
        bm_fail(err, BM_FORBIDDEN, "the API key '%s' has scope %s, this needs %s", out->name, have, need);
        return bm_hint(err, "baimo key add NAME --scope %s", need), BM_FORBIDDEN;
    }
    return 0;
}
