/* hash.h - SHA-256 (OpenSSL) and a fast table hash. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

typedef struct bm_sha256 { unsigned char bytes[32]; } bm_sha256;

int  bm_sha256_bytes(bm_sha256 *out, const void *bytes, size_t len_bytes, bm_error *err);
/* Hash a file in pieces. progress (may be NULL) is told bytes done and in all; returning non-zero cancels with BM_CANCELED. */
int  bm_sha256_file(bm_sha256 *out, const char *path, int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                    bm_error *err);
void bm_hex(char *out, const void *bytes, size_t len_bytes);        /* 2*len characters and a NUL */
int  bm_hmac_sha256(bm_sha256 *out, const void *key, size_t key_len, const void *bytes, size_t len_bytes, bm_error *err);
int  bm_random_bytes(void *out, size_t len_bytes, bm_error *err);   /* from the system, for secrets */
/* Equal or not in time that does not depend on the bytes. */
int  bm_secret_equal(const void *a, const void *b, size_t len_bytes);
uint64_t bm_hash64(const void *bytes, size_t len_bytes, uint64_t seed); /* for tables, not for secrets */
