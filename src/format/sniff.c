/* sniff.c - recognises, by their first bytes, the files that people take for GGUF models. */
#include "format/sniff.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CONVERT "convert the model's directory with llama.cpp's convert_hf_to_gguf.py, or get its GGUF"
#define AGAIN "download it again: the server sent this instead of the model"
#define UNPACK "unpack it first"
#define OLD "GGML files of 2023 are not read: get the model as GGUF"

static const struct { const char *bytes; size_t len; const char *found, *hint; } magics[] = {
#define M(bytes, found, hint) { bytes, sizeof bytes - 1, found, hint }
    M("version https://git-lfs", "a Git LFS pointer", "the model itself was not fetched: run git lfs pull in its directory"),
    M("PK\3\4", "a ZIP archive (PyTorch weights are one)", CONVERT),
    M("\x80\2", "a Python pickle (old PyTorch weights)", CONVERT),
    M("\x80\4", "a Python pickle", CONVERT),
    M("\x89HDF", "an HDF5 file (Keras weights)", CONVERT),
    M("FUGG", "the magic of GGUF with its bytes swapped", "the file was byte-swapped: copy or download it again"),
    M("lmgg", "a GGML file, older than GGUF", OLD),
    M("fmgg", "a GGMF file, older than GGUF", OLD),
    M("tjgg", "a GGJT file, older than GGUF", OLD),
    M("algg", "a GGLA adapter, older than GGUF", OLD),
    M("\x1F\x8B", "a gzip archive", UNPACK),
    M("\x28\xB5\x2F\xFD", "a Zstandard archive", UNPACK),
    M("\xFD" "7zXZ", "an XZ archive", UNPACK),
    M("7z\xBC\xAF", "a 7-Zip archive", UNPACK),
    M("Rar!", "a RAR archive", UNPACK),
    M("Entry not found", "the words \"Entry not found\"", AGAIN),
    M("Invalid username or password", "the words \"Invalid username or password\"", "the model needs a login at its hub: accept its licence there, then download it again"),
    M("<?xml", "an XML document", AGAIN),
#undef M
};

/* <html or <!doctype html, in any case, after blanks. */
static bool is_html(const char *s, size_t len)
{
    static const char *const starts[] = { "<!doctype", "<html", "<head" };

    while (len > 0 && strchr(" \t\r\n", *s) != NULL && *s != '\0')
        s++, len--;
    for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++) {
        size_t n = strlen(starts[k]), i = 0;
        while (i < n && i < len && (s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 32 : s[i]) == starts[k][i])
            i++;
        if (i == n)
            return true;
    }
    return false;
}

/* safetensors: u64 length of a JSON header, then the header, which starts with an object. */
static bool is_safetensors(const unsigned char *p, size_t len)
{
    uint64_t n = 0;

    if (len < 10)
        return false;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | p[i];
    return n >= 2 && n <= len - 8 && p[8] == '{';
}

static bool is_text(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len && i < 64; i++)
        if (p[i] == 0x7F || (p[i] < 0x20 && p[i] != '\n' && p[i] != '\r' && p[i] != '\t'))
            return false;
    return true;
}

static bool all_zero(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < len && i < 64; i++)
        if (p[i] != 0)
            return false;
    return true;
}

const char *bm_sniff(const void *bytes, size_t len_bytes, const char **hint)
{
    const unsigned char *p = bytes;

    *hint = NULL;
    if (len_bytes == 0) {
        *hint = "the download or copy did not finish";
        return "an empty file";
    }
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if (len_bytes >= magics[i].len && memcmp(p, magics[i].bytes, magics[i].len) == 0) {
            *hint = magics[i].hint;
            return magics[i].found;
        }
    if (is_safetensors(p, len_bytes)) {
        *hint = CONVERT;
        return "a safetensors file";
    }
    if (len_bytes > 262 && memcmp(p + 257, "ustar", 5) == 0) {
        *hint = UNPACK;
        return "a tar archive";
    }
    if (is_html(bytes, len_bytes)) {
        *hint = AGAIN;
        return "a web page";
    }
    if (all_zero(p, len_bytes)) {
        *hint = "the space was reserved but the download did not finish: download it again";
        return "zeros";
    }
    if (p[0] == '{' || p[0] == '[')
        return "JSON";
    return is_text(p, len_bytes) ? "text" : "unknown bytes";
}
