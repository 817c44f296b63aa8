/* home.h - where everything lives: BAIMO_HOME, else $XDG_DATA_HOME/baimo, else ~/.local/share/baimo. */
#pragma once
#include "base/error.h"

/* The path, absolute and without a closing slash, the caller's to bm_free. Makes nothing. */
int bm_home_path(char **out, bm_error *err);
/* The user's own home directory ($HOME, else the password file's), the caller's to bm_free. */
int bm_user_home(char **out, bm_error *err);
/* home/baimo.sock, where a running server listens. BM_INVALID when it is too long for a Unix socket (107 bytes). */
int bm_home_socket(char out[108], const char *home, bm_error *err);
