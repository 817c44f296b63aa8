/* home.c - see home.h. */
#include "platform/home.h"
#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int bm_user_home(char **out, bm_error *err)
{
    const char *home = getenv("HOME");
    struct passwd pw, *found = NULL;
    char buf[4096];

    *out = NULL;
    if (home == NULL || home[0] != '/')
        home = getpwuid_r(getuid(), &pw, buf, sizeof buf, &found) == 0 && found != NULL ? pw.pw_dir : NULL;
    if (home == NULL || home[0] != '/') {
        bm_fail(err, BM_IO, "no home directory: HOME is not set and user %ld is not in the password file", (long)getuid());
        return bm_hint(err, "export BAIMO_HOME=/some/directory"), BM_IO;
    }
    if ((*out = bm_strdup(home)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the home directory's name");
    return 0;
}

static int from_environment(bm_buf *path, bm_error *err)
{
    const char *home = getenv("BAIMO_HOME"), *data = getenv("XDG_DATA_HOME");
    char cwd[4096], *user;
    int rc;

    if (home != NULL && home[0] == '/') {
        bm_buf_puts(path, home);
    } else if (home != NULL && home[0] != '\0') {
        if (getcwd(cwd, sizeof cwd) == NULL)
            return bm_fail(err, BM_IO, "BAIMO_HOME %s: no current directory: %s", home, strerror(errno));
        bm_buf_printf(path, "%s/%s", cwd, home);
    } else if (data != NULL && data[0] == '/') {
        bm_buf_printf(path, "%s/baimo", data);
    } else {
        if ((rc = bm_user_home(&user, err)) < 0)
            return rc;
        bm_buf_printf(path, "%s/.local/share/baimo", user);
        bm_free(user);
    }
    return 0;
}

int bm_home_path(char **out, bm_error *err)
{
    bm_buf path = { .limit = 3800 };     /* room for names below it within PATH_MAX */
    int rc;

    *out = NULL;
    if ((rc = from_environment(&path, err)) == 0) {
        while (!path.failed && path.len > 1 && path.data[path.len - 1] == '/')
            path.data[--path.len] = '\0';
        if ((*out = bm_buf_take(&path)) == NULL)
            rc = bm_fail(err, BM_INVALID, "BAIMO_HOME: longer than 3,800 bytes, or no memory");
    }
    bm_buf_done(&path);
    return rc;
}

int bm_home_socket(char out[108], const char *home, bm_error *err)
{
    if (snprintf(out, 108, "%s/baimo.sock", home) < 108)
        return 0;
    out[0] = '\0';
    return bm_fail(err, BM_INVALID, "%s/baimo.sock: longer than the 107 bytes of a Unix socket's name", home);
}
