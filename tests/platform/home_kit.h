/* home_kit.h - what the tests of the platform share: a directory of their own, files in it, a store. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "store/store.h"

#define TINY_MODEL "tests/oracle/models/llama.gguf"
#define TINY_OTHER "tests/oracle/models/qwen2.gguf"

static char kit_home[64];

static inline int kit_make(void **state)
{
    (void)state;
    strcpy(kit_home, "/tmp/bm-home-XXXXXX");
    return mkdtemp(kit_home) == NULL;
}

static inline int kit_remove(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", kit_home);
    return system(command);
}

static inline bm_store *kit_store(void)
{
    bm_store *store;
    bm_error err = { 0 };

    if (bm_store_open(&store, kit_home, &err) < 0)
        fail_msg("%s", err.msg);
    return store;
}

/* Path of a file below the directory, in a buffer that lives until the fourth next call. */
static inline const char *kit_path(const char *below)
{
    static char paths[4][512];
    static int next;
    char *p = paths[next++ % 4];

    snprintf(p, sizeof paths[0], "%s/%s", kit_home, below);
    return p;
}

static inline void kit_write(const char *below, const void *bytes, size_t len)
{
    char dir[512];
    bm_error err = { 0 };

    snprintf(dir, sizeof dir, "%s", kit_path(below));
    *strrchr(dir, '/') = '\0';
    if (bm_make_dirs(dir, &err) < 0 || bm_write_file(kit_path(below), bytes, len, 0600, &err) < 0)
        fail_msg("%s", err.msg);
}

static inline void kit_copy(const char *from, const char *below)
{
    char *bytes;
    size_t len;
    bm_error err = { 0 };

    if (bm_read_file(&bytes, &len, from, 1 << 20, &err) < 0)
        fail_msg("%s", err.msg);
    kit_write(below, bytes, len);
    bm_free(bytes);
}
