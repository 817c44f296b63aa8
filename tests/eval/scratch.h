/* scratch.h - a folder of files that a test writes, gone at its end. */
#pragma once
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_dir[64];

static inline void scratch_open(void)
{
    snprintf(scratch_dir, sizeof scratch_dir, "/tmp/baimo-eval-XXXXXX");
    if (mkdtemp(scratch_dir) == NULL)
        fail_msg("no scratch folder");
}

/* The path of a name in it, good until the fourth call after. */
static inline const char *scratch_path(const char *name)
{
    static char paths[4][400];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", scratch_dir, name);
    return path;
}

static inline const char *scratch_write_bytes(const char *name, const void *bytes, size_t len)
{
    const char *path = scratch_path(name);
    FILE *f = fopen(path, "wb");

    if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0)
        fail_msg("cannot write %s", path);
    return path;
}

static inline const char *scratch_write(const char *name, const char *text) { return scratch_write_bytes(name, text, strlen(text)); }

static inline void scratch_close(void)
{
    DIR *d = opendir(scratch_dir);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.')
            unlink(scratch_path(e->d_name));
    if (d != NULL)
        closedir(d);
    rmdir(scratch_dir);
}
