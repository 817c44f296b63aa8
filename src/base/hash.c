/* hash.c - SHA-256, HMAC and random bytes through OpenSSL; a table hash of our own. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/polite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

int bm_sha256_bytes(bm_sha256 *out, const void *bytes, size_t len_bytes, bm_error *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

    for (size_t at = 0; at < len_bytes && good; at += PIECE) {
        good = EVP_DigestUpdate(ctx, (const unsigned char *)bytes + at, len_bytes - at < PIECE ? len_bytes - at : PIECE) == 1;
        bm_polite_rest();
    }
    good = good && EVP_DigestFinal_ex(ctx, out->bytes, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? 0 : bm_fail(err, BM_NOMEM, "sha256: OpenSSL failed");
}

static int hash_fd(EVP_MD_CTX *ctx, int fd, const char *path, uint64_t total,
                   int (*progress)(void *, uint64_t, uint64_t), void *arg, bm_error *err)
{
    uint64_t done = 0;
    int rc = 0;
    char *piece = bm_malloc(PIECE);

    if (piece == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory to hash it", path);
    for (;;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = bm_fail(err, BM_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n <= 0)
            break;
        done += (uint64_t)n;
        if (EVP_DigestUpdate(ctx, piece, (size_t)n) != 1) {
            rc = bm_fail(err, BM_NOMEM, "%s: sha256: OpenSSL failed", path);
            break;
        }
        bm_polite_rest();
        if (progress != NULL && progress(arg, done, total) != 0) {
            rc = bm_fail(err, BM_CANCELED, "%s: hashing was cancelled", path);
            break;
        }
    }
    bm_free(piece);
    return rc;
}

int bm_sha256_file(bm_sha256 *out, const char *path, int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                   bm_error *err)
{
    EVP_MD_CTX *ctx = NULL;
    struct stat st;
    int rc, fd;

    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return bm_fail(err, errno == ENOENT ? BM_NOTFOUND : BM_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0) {
        rc = bm_fail(err, BM_IO, "%s: cannot stat: %s", path, strerror(errno));
        goto out;
    }
    if ((ctx = EVP_MD_CTX_new()) == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        rc = bm_fail(err, BM_NOMEM, "%s: sha256: OpenSSL failed", path);
        goto out;
    }
    if ((rc = hash_fd(ctx, fd, path, (uint64_t)st.st_size, progress, arg, err)) < 0)
        goto out;
    if (EVP_DigestFinal_ex(ctx, out->bytes, NULL) != 1)
        rc = bm_fail(err, BM_NOMEM, "%s: sha256: OpenSSL failed", path);
out:
    EVP_MD_CTX_free(ctx);
    close(fd);
    return rc;
}

void bm_hex(char *out, const void *bytes, size_t len_bytes)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len_bytes; i++) {
        out[2 * i] = "0123456789abcdef"[p[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
    }
    out[2 * len_bytes] = '\0';
}

int bm_hmac_sha256(bm_sha256 *out, const void *key, size_t key_len, const void *bytes, size_t len_bytes, bm_error *err)
{
    unsigned len = sizeof out->bytes;

    if (key_len > INT_MAX)
        return bm_fail(err, BM_INVALID, "hmac: a key of %zu bytes", key_len);
    if (HMAC(EVP_sha256(), key, (int)key_len, bytes, len_bytes, out->bytes, &len) == NULL)
        return bm_fail(err, BM_NOMEM, "hmac: OpenSSL failed");
    return 0;
}

int bm_random_bytes(void *out, size_t len_bytes, bm_error *err)
{
    if (len_bytes > INT_MAX || RAND_bytes(out, (int)len_bytes) != 1)
        return bm_fail(err, BM_IO, "no random bytes from the system");
    return 0;
}

int bm_secret_equal(const void *a, const void *b, size_t len_bytes) { return CRYPTO_memcmp(a, b, len_bytes) == 0; }

/* Multiply-and-fold over 8 bytes at a time (the wyhash construction); good spread, no claim beyond that. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t p = (__uint128_t)a * b;

    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

uint64_t bm_hash64(const void *bytes, size_t len_bytes, uint64_t seed)
{
    const unsigned char *p = bytes;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u, w;
    size_t n = len_bytes;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = fold(h ^ w, 0xD6E8FEB86659FD93u);
    }
    w = 0;
    if (n != 0)
        memcpy(&w, p, n);
    return fold(h ^ w ^ (uint64_t)len_bytes << 56, 0xA0761D6478BD642Fu);
}
