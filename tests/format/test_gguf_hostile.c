/* test_gguf_hostile.c - files that lie: cut short, corrupted, huge counts, overflowing sizes, other formats, and memory that
 * runs out. Each must be refused with one line that names the file and the field, and leave nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "format/gguf_writer.h"

static const uint64_t ONE[] = { 1 }, BLOCK[] = { 32 };

/* Open must fail with `code` and a message that holds the path and each of the two texts (NULL: any). Frees the bytes. */
static void refused(bm_buf *w, int code, const char *text, const char *text2)
{
    char path[64];
    bm_gguf *gguf = (bm_gguf *)(uintptr_t)1;
    bm_error err = { 0 };

    assert_int_equal(w_save(w, path), 0);
    bm_buf_done(w);
    int rc = bm_gguf_open(&gguf, path, &err);
    unlink(path);
    if (rc == 0)
        fail_msg("opened; expected '%s'", text);
    if (rc != code || err.code != code || strncmp(err.msg, path, strlen(path)) != 0 || strchr(err.msg, '\n') != NULL ||
        (text != NULL && strstr(err.msg, text) == NULL) || (text2 != NULL && strstr(err.msg, text2) == NULL))
        fail_msg("%d %s; expected %d '%s' '%s'", rc, err.msg, code, text ? text : "", text2 ? text2 : "");
    assert_true(bm_utf8_valid(err.msg, strlen(err.msg)));
    assert_null(gguf);
    assert_int_equal(bm_gguf_open(&gguf, path, NULL), BM_NOTFOUND);      /* a NULL err is fine */
}

/* A file of one of everything, 32-aligned, with its data. */
static void write_sound(bm_buf *w)
{
    static const uint64_t dims[] = { 32, 2 };

    w_header(w, 3, 2, 5);
    w_kv_str(w, "general.architecture", "llama");
    w_kv_u32(w, "general.alignment", 32);
    w_kv_array(w, "tokens", BM_GGUF_STRING, 3);
    w_str(w, "a");
    w_str(w, "");
    w_str(w, "bcd");
    w_kv_array(w, "scores", BM_GGUF_F32, 2);
    w_zeros(w, 8);
    w_kv_raw(w, "flag", BM_GGUF_BOOL, "\1", 1);
    w_tensor(w, "blk.0.weight", 2, dims, BM_Q8_0, 0);
    w_tensor(w, "norm", 1, BLOCK, BM_F32, 96);
    w_pad(w, 32);
    w_zeros(w, 96 + 128);
}

/* Read all that an opened file offers. */
static void touch(const bm_gguf *g)
{
    char text[128];
    float out[256];
    bm_str s;
    volatile unsigned char sum = 0;

    for (size_t i = 0; i < bm_gguf_n_kvs(g); i++) {
        const bm_gguf_kv *kv = bm_gguf_kv_at(g, i);
        assert_ptr_equal(bm_gguf_find(g, kv->key), kv);
        bm_gguf_describe(kv, text, sizeof text);
        for (uint64_t k = 0; bm_gguf_elem_str(kv, k, &s); k++)
            for (size_t b = 0; b < s.len; b++)
                sum = (unsigned char)(sum + (unsigned char)s.data[b]);
    }
    for (size_t i = 0; i < bm_gguf_n_tensors(g); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(g, i);
        const bm_qtraits *traits = bm_qtype_traits((uint32_t)t->type);
        assert_ptr_equal(bm_gguf_find_tensor(g, t->name), t);
        traits->dequantize(t->data, out, (size_t)traits->block_len);
        sum = (unsigned char)(sum + t->data[t->len_bytes - 1]);
    }
}

static void a_file_cut_at_any_byte_is_refused(void **state)
{
    bm_buf w = { 0 };
    char path[64];
    bm_gguf *g;
    bm_error err;

    (void)state;
    write_sound(&w);
    assert_int_equal(w_save(&w, path), 0);
    assert_int_equal(bm_gguf_open(&g, path, &err), 0);
    touch(g);
    bm_gguf_close(g);
    for (size_t len = w.len; len-- > 0;) {
        assert_int_equal(truncate(path, (off_t)len), 0);
        int rc = bm_gguf_open(&g, path, &err);
        if (rc != BM_FORMAT)
            fail_msg("cut to %zu of %zu bytes: %d %s", len, w.len, rc, rc ? err.msg : "");
        assert_null(g);
        assert_true(strncmp(err.msg, path, strlen(path)) == 0);
    }
    unlink(path);
    bm_buf_done(&w);
}

static void any_corrupted_byte_is_refused_or_harmless(void **state)
{
    static const unsigned char values[] = { 0x00, 0x01, 0x08, 0x09, 0x0D, 0x7F, 0x80, 0xFF };
    bm_buf w = { 0 };
    char path[64];
    bm_gguf *g;
    bm_error err;

    (void)state;
    write_sound(&w);
    assert_int_equal(w_save(&w, path), 0);
    int fd = open(path, O_WRONLY);
    for (size_t at = 0; at < w.len - 224; at++) {
        for (size_t k = 0; k < sizeof values; k++) {
            assert_int_equal(pwrite(fd, &values[k], 1, (off_t)at), 1);
            if (bm_gguf_open(&g, path, &err) == 0)
                touch(g);
            else
                assert_true(g == NULL && err.code < 0 && strncmp(err.msg, path, strlen(path)) == 0);
            bm_gguf_close(g);
        }
        assert_int_equal(pwrite(fd, w.data + at, 1, (off_t)at), 1);
    }
    close(fd);
    unlink(path);
    bm_buf_done(&w);
}

static void every_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    bm_buf w = { 0 };
    char path[64];
    bm_gguf *g;
    bm_error err;
    int rc = BM_NOMEM;

    (void)state;
    write_sound(&w);
    assert_int_equal(w_save(&w, path), 0);
    bm_buf_done(&w);
    for (long n = 1; rc != 0; n++) {
        bm_mem_fail_at(n);
        rc = bm_gguf_open(&g, path, &err);
        bm_mem_fail_at(0);
        assert_true(n < 100 && (rc == 0 || (rc == BM_NOMEM && g == NULL && strstr(err.msg, "no memory") != NULL)));
    }
    touch(g);
    bm_gguf_close(g);
    unlink(path);
}

static void counts_beyond_the_file_or_the_caps_are_refused(void **state)
{
    static const uint64_t counts[] = { UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 32, 65537, 1000 };

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        bm_buf w = { 0 };
        w_header(&w, 3, 0, counts[i]);
        w_zeros(&w, 100);
        refused(&w, BM_FORMAT, "header", "metadata keys");
        w_header(&w, 3, counts[i], 0);
        w_zeros(&w, 100);
        refused(&w, BM_FORMAT, "header", "tensors");
        w_header(&w, 3, 0, 1);
        w_kv_array(&w, "tokens", BM_GGUF_STRING, counts[i]);
        w_zeros(&w, 100);
        refused(&w, BM_FORMAT, "key tokens", NULL);
        w_header(&w, 3, 0, 1);
        w_kv_array(&w, "numbers", BM_GGUF_F64, counts[i]);
        w_zeros(&w, 100);
        refused(&w, BM_FORMAT, "key numbers", NULL);
    }
}

static void string_lengths_beyond_the_file_or_the_cap_are_refused(void **state)
{
    static const uint64_t lengths[] = { UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, (uint64_t)1 << 32, (64 << 20) + 1, 0x7FFFFFFF, 9 };

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bm_buf w = { 0 };
        w_header(&w, 3, 0, 1);
        w_key(&w, "name", BM_GGUF_STRING);
        w_u64(&w, lengths[i]);
        w_zeros(&w, 8);
        refused(&w, BM_FORMAT, "key name", "expected");
        w_header(&w, 3, 0, 1);
        w_kv_array(&w, "tokens", BM_GGUF_STRING, 2);
        w_str(&w, "x");
        w_u64(&w, lengths[i]);
        w_zeros(&w, 8);
        refused(&w, BM_FORMAT, "key tokens", "expected");
        w_header(&w, 3, 0, 1);
        w_u64(&w, lengths[i]);
        w_bytes(&w, "", 0);
        refused(&w, BM_FORMAT, "metadata key", NULL);
    }
}

static void names_must_be_short_clean_utf8(void **state)
{
    static const struct { const char *name; size_t len; } bad[] = { { "", 0 }, { "a\0b", 3 }, { "\xFF", 1 }, { "\xC3", 1 }, { "\xED\xA0\x80", 3 } };
    bm_buf w = { 0 };
    char long_name[66];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        w_header(&w, 3, 0, 1);
        w_bytes(&w, bad[i].name, bad[i].len);
        w_u32(&w, BM_GGUF_U32);
        w_zeros(&w, 64);
        refused(&w, BM_FORMAT, "metadata key", "expected");
        w_header(&w, 3, 1, 0);
        w_bytes(&w, bad[i].name, bad[i].len);
        w_zeros(&w, 64);
        refused(&w, BM_FORMAT, "tensor's name", "expected");
    }
    memset(long_name, 'n', 65);
    long_name[65] = '\0';
    w_header(&w, 3, 1, 0);
    w_tensor(&w, long_name, 1, ONE, BM_F32, 0);
    refused(&w, BM_FORMAT, "tensor's name", "expected 1 to 64");
}

static void names_in_messages_cannot_drive_a_terminal(void **state)
{
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 3, 0, 1);
    w_key(&w, "\x1B]0;owned\x07\n\xC2\x9B" "2J", 99);
    w_zeros(&w, 8);
    refused(&w, BM_FORMAT, "key ?]0;owned???2J: found value type 99", NULL);
}

static void duplicate_names_are_refused(void **state)
{
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 3, 0, 2);
    w_kv_u32(&w, "twin", 1);
    w_kv_str(&w, "twin", "other");
    refused(&w, BM_FORMAT, "key twin", "twice");
    w_header(&w, 3, 2, 0);
    w_tensor(&w, "twin", 1, ONE, BM_F32, 0);
    w_tensor(&w, "twin", 1, ONE, BM_F32, 32);
    w_zeros(&w, 200);
    refused(&w, BM_FORMAT, "tensor twin", "twice");
}

static void unknown_and_nested_value_types_are_refused(void **state)
{
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 3, 0, 1);
    w_key(&w, "k", 13);
    w_zeros(&w, 64);
    refused(&w, BM_FORMAT, "key k", "value type 13");
    w_header(&w, 3, 0, 1);
    w_kv_array(&w, "k", UINT32_MAX, 1);
    w_zeros(&w, 64);
    refused(&w, BM_FORMAT, "key k", "value type 4294967295");
    w_header(&w, 3, 0, 1);
    w_kv_array(&w, "k", BM_GGUF_ARRAY, 1);
    w_zeros(&w, 64);
    refused(&w, BM_UNSUPPORTED, "key k", "array of arrays");
    w_header(&w, 3, 0, 1);
    w_kv_raw(&w, "k", BM_GGUF_BOOL, "\2", 1);
    w_zeros(&w, 64);
    refused(&w, BM_FORMAT, "key k", "expected 0 or 1");
}

static void alignment_must_be_a_sane_power_of_two(void **state)
{
    static const uint32_t bad[] = { 0, 1, 4, 24, 33, (1u << 20) + 8, 1u << 21, 1u << 31, UINT32_MAX };
    bm_buf w = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        w_header(&w, 3, 0, 1);
        w_kv_u32(&w, "general.alignment", bad[i]);
        refused(&w, BM_FORMAT, "general.alignment", "power of two");
    }
    w_header(&w, 3, 0, 1);
    w_kv_str(&w, "general.alignment", "32");
    refused(&w, BM_FORMAT, "general.alignment", "value type 8");
}

static void split_models_are_refused_by_count(void **state)
{
    static const uint16_t part = 2, parts = 5;
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 3, 0, 2);
    w_kv_raw(&w, "split.no", BM_GGUF_U16, &part, 2);
    w_kv_raw(&w, "split.count", BM_GGUF_U16, &parts, 2);
    refused(&w, BM_UNSUPPORTED, "split.count", "part 3 of a model in 5 files");
}

/* One tensor and some data. */
static void refuse_tensor(uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset, int code, const char *text)
{
    bm_buf w = { 0 };

    w_header(&w, 3, 1, 0);
    w_tensor(&w, "tok\x01", n_dims, dims, type, offset);
    w_pad(&w, 32);
    w_zeros(&w, 256);
    refused(&w, code, "tensor tok?", text);
}

static void dimensions_and_their_product_are_checked(void **state)
{
    static const uint64_t zero[] = { 32, 0 }, odd[] = { 33 }, wrap[] = { (uint64_t)1 << 32, (uint64_t)1 << 32 },
        wrap_to_small[] = { (uint64_t)1 << 62, 4, 1, 8 }, max[] = { UINT64_MAX - 31, 1 }, all[] = { 1u << 31, 1u << 31, 1u << 31, 1u << 31 },
        row_wraps[] = { (uint64_t)1 << 62 }, signed_wrap[] = { (uint64_t)1 << 63 };

    (void)state;
    refuse_tensor(0, zero, BM_F32, 0, BM_FORMAT, "found 0 dimensions");
    refuse_tensor(5, all, BM_F32, 0, BM_FORMAT, "found 5 dimensions");
    refuse_tensor(UINT32_MAX, all, BM_F32, 0, BM_FORMAT, "found 4294967295 dimensions");
    refuse_tensor(2, zero, BM_F32, 0, BM_FORMAT, "found 0 as dimension 1");
    refuse_tensor(1, odd, BM_Q8_0, 0, BM_FORMAT, "multiple of 32");
    refuse_tensor(2, wrap, BM_F32, 0, BM_FORMAT, "product");
    refuse_tensor(2, wrap, BM_Q8_0, 0, BM_FORMAT, "product");
    refuse_tensor(4, wrap_to_small, BM_F16, 0, BM_FORMAT, "product");
    refuse_tensor(2, max, BM_Q8_0, 0, BM_FORMAT, "product");
    refuse_tensor(4, all, BM_Q4_0, 0, BM_FORMAT, "product");
    refuse_tensor(1, row_wraps, BM_F32, 0, BM_FORMAT, "product");
    refuse_tensor(1, signed_wrap, BM_Q4_0, 0, BM_FORMAT, "product");
}

static void types_not_carried_out_are_named(void **state)
{
    (void)state;
    refuse_tensor(1, BLOCK, 15, 0, BM_UNSUPPORTED, "type 15 (Q8_K)");
    refuse_tensor(1, BLOCK, 26, 0, BM_UNSUPPORTED, "type 26 (I32)");
    refuse_tensor(1, BLOCK, 4, 0, BM_UNSUPPORTED, "type 4 (Q4_2)");
    refuse_tensor(1, BLOCK, 43, 0, BM_UNSUPPORTED, "type 43 (?)");
    refuse_tensor(1, BLOCK, UINT32_MAX, 0, BM_UNSUPPORTED, "type 4294967295 (?)");
}

/* One tensor in 256 bytes of data, opened for a listing: its bytes, or minus the code of the refusal. */
static int64_t listed(uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    bm_buf w = { 0 };
    char path[64];
    bm_gguf *g;
    bm_error err;
    int64_t out;

    w_header(&w, 3, 1, 0);
    w_tensor(&w, "t", n_dims, dims, type, offset);
    w_pad(&w, 32);
    w_zeros(&w, 256);
    assert_int_equal(w_save(&w, path), 0);
    bm_buf_done(&w);
    if ((out = bm_gguf_open_listing(&g, path, &err)) == 0) {
        out = (int64_t)bm_gguf_tensor_at(g, 0)->len_bytes;
        assert_int_equal((uint32_t)bm_gguf_tensor_at(g, 0)->type, type);
    }
    bm_gguf_close(g);
    unlink(path);
    return out;
}

static void a_listing_holds_types_not_carried_out_and_checks_what_it_can(void **state)
{
    static const uint64_t rows[] = { 32, 2 }, larger[] = { 32, 3 }, wrap[] = { (uint64_t)1 << 32, (uint64_t)1 << 32 },
        row_wraps[] = { (uint64_t)1 << 62 };

    (void)state;
    assert_int_equal(listed(2, rows, 26, 0), 256);                             /* I32 */
    assert_int_equal(listed(1, BLOCK, 28, 0), 256);                            /* F64 */
    assert_int_equal(listed(2, rows, BM_Q8_0, 0), 68);
    assert_int_equal(listed(2, larger, UINT32_MAX, 0), 0);
    assert_int_equal(listed(1, BLOCK, 15, 256), 0);
    assert_int_equal(listed(2, larger, 26, 0), BM_FORMAT);
    assert_int_equal(listed(1, row_wraps, 27, 0), BM_FORMAT);
    assert_int_equal(listed(2, wrap, 4096, 0), BM_FORMAT);
    assert_int_equal(listed(1, BLOCK, 4096, 256 + 32), BM_FORMAT);
    assert_int_equal(listed(1, BLOCK, 4096, 8), BM_FORMAT);
    assert_int_equal(listed(1, BLOCK, 4096, UINT64_MAX - 31), BM_FORMAT);
}

static void tensor_data_must_lie_in_the_file(void **state)
{
    static const uint64_t larger[] = { 32, 3 }, vast[] = { 32, (uint64_t)1 << 40 };

    (void)state;
    refuse_tensor(2, larger, BM_F32, 0, BM_FORMAT, "expected 384");          /* larger than the file: read out of bounds elsewhere */
    refuse_tensor(2, vast, BM_Q4_0, 0, BM_FORMAT, "tensor data");
    refuse_tensor(1, BLOCK, BM_F32, 160, BM_FORMAT, "at offset 160");
    refuse_tensor(1, BLOCK, BM_F32, 256 + 32, BM_FORMAT, "tensor data");
    refuse_tensor(1, BLOCK, BM_F32, 8, BM_FORMAT, "multiple of the alignment");
    refuse_tensor(1, BLOCK, BM_F32, UINT64_MAX - 31, BM_FORMAT, "tensor data");      /* offset + length and padding wrap around */
    refuse_tensor(1, BLOCK, BM_F32, UINT64_MAX - 127, BM_FORMAT, "tensor data");
    refuse_tensor(1, BLOCK, BM_F32, (uint64_t)1 << 63, BM_FORMAT, "tensor data");
    refuse_tensor(1, BLOCK, BM_F32, UINT64_MAX, BM_FORMAT, "multiple of the alignment");
}

static void overlapping_tensors_are_refused(void **state)
{
    static const struct { uint64_t first, second; } bad[] = { { 0, 0 }, { 0, 96 }, { 96, 0 }, { 32, 128 } };
    bm_buf w = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        w_header(&w, 3, 2, 0);
        w_tensor(&w, "one", 1, BLOCK, BM_F32, bad[i].first);
        w_tensor(&w, "two", 1, BLOCK, BM_F32, bad[i].second);
        w_pad(&w, 32);
        w_zeros(&w, 512);
        refused(&w, BM_FORMAT, "inside that of tensor", NULL);
    }
}

static void data_start_past_the_end_is_refused(void **state)
{
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 3, 1, 1);
    w_kv_u32(&w, "general.alignment", 1 << 20);
    w_tensor(&w, "t", 1, ONE, BM_F32, 0);
    w_zeros(&w, 64);
    refused(&w, BM_FORMAT, "tensor t: found 0 bytes", NULL);
}

/* Holes in the file cost the writer nothing, and must not cost us more than the cap. */
static void a_sparse_file_cannot_take_more_memory_than_the_cap(void **state)
{
    enum { N = 4 << 20 };
    bm_buf w = { 0 };
    char path[64];
    bm_gguf *g;
    bm_error err;

    (void)state;
    w_header(&w, 3, 0, 2);
    w_kv_array(&w, "first", BM_GGUF_STRING, N);
    assert_int_equal(w_save(&w, path), 0);
    size_t second = w.len + (size_t)N * 8;
    bm_buf_clear(&w);
    w_kv_array(&w, "second", BM_GGUF_STRING, N);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, w.data, w.len, (off_t)second), (ssize_t)w.len);
    assert_int_equal(ftruncate(fd, (off_t)(second + w.len + (size_t)N * 8)), 0);
    close(fd);
    bm_buf_done(&w);
    assert_int_equal(bm_gguf_open(&g, path, &err), BM_LIMIT);
    assert_non_null(strstr(err.msg, "expected at most 33554432"));
    unlink(path);
}

static void other_versions_and_byte_orders_are_named(void **state)
{
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 1, 0, 0);
    refused(&w, BM_UNSUPPORTED, "GGUF version 1", "expected 2 or 3");
    w_header(&w, 4, 0, 0);
    refused(&w, BM_UNSUPPORTED, "GGUF version 4", "expected 2 or 3");
    w_header(&w, 0, 0, 0);
    refused(&w, BM_UNSUPPORTED, "GGUF version 0", "expected 2 or 3");
    w_header(&w, 0x03000000, 0, 0);
    refused(&w, BM_UNSUPPORTED, "big-endian", "little-endian");
}

static void other_formats_are_recognised(void **state)
{
#define ROW(bytes, text) { bytes, sizeof bytes - 1, text }
    static const struct { const char *bytes; size_t len; const char *text; } rows[] = {
        ROW("", "an empty file"), ROW("GGU", "text"), ROW("PK\3\4....", "ZIP archive"), ROW("\x80\2}q\1", "pickle"),
        ROW("\x10\0\0\0\0\0\0\0{\"a\":1}         ", "safetensors"), ROW("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ROW("\n <!DOCTYPE html><html>", "a web page"), ROW("<HTML>", "a web page"), ROW("tjgg\1\0\0\0", "GGJT"), ROW("FUGG\0\0\0\3", "swapped"),
        ROW("{\"error\":\"x\"}", "JSON"), ROW("\0\0\0\0\0\0\0\0", "zeros"), ROW("\x7F" "ELF", "unknown bytes"), ROW("Entry not found", "Entry not found"),
        ROW("\x1F\x8B\x08", "gzip"),
    };
#undef ROW
    bm_buf w = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bm_buf_add(&w, rows[i].bytes, rows[i].len);
        refused(&w, BM_FORMAT, rows[i].text, "expected a GGUF file");
    }
}

static void absent_files_and_directories_are_refused(void **state)
{
    bm_gguf *g;
    bm_error err;

    (void)state;
    assert_int_equal(bm_gguf_open(&g, "/nonexistent/model.gguf", &err), BM_NOTFOUND);
    assert_non_null(strstr(err.msg, "/nonexistent/model.gguf"));
    assert_int_equal(bm_gguf_open(&g, "/tmp", &err), BM_INVALID);
    assert_null(g);
    bm_gguf_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_cut_at_any_byte_is_refused),
        cmocka_unit_test(any_corrupted_byte_is_refused_or_harmless),
        cmocka_unit_test(every_failed_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test(counts_beyond_the_file_or_the_caps_are_refused),
        cmocka_unit_test(string_lengths_beyond_the_file_or_the_cap_are_refused),
        cmocka_unit_test(names_must_be_short_clean_utf8),
        cmocka_unit_test(names_in_messages_cannot_drive_a_terminal),
        cmocka_unit_test(duplicate_names_are_refused),
        cmocka_unit_test(unknown_and_nested_value_types_are_refused),
        cmocka_unit_test(alignment_must_be_a_sane_power_of_two),
        cmocka_unit_test(split_models_are_refused_by_count),
        cmocka_unit_test(dimensions_and_their_product_are_checked),
        cmocka_unit_test(types_not_carried_out_are_named),
        cmocka_unit_test(a_listing_holds_types_not_carried_out_and_checks_what_it_can),
        cmocka_unit_test(tensor_data_must_lie_in_the_file),
        cmocka_unit_test(overlapping_tensors_are_refused),
        cmocka_unit_test(data_start_past_the_end_is_refused),
        cmocka_unit_test(a_sparse_file_cannot_take_more_memory_than_the_cap),
        cmocka_unit_test(other_versions_and_byte_orders_are_named),
        cmocka_unit_test(other_formats_are_recognised),
        cmocka_unit_test(absent_files_and_directories_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
