/* home.h - where everything lives: BAIMO_HOME, else $XDG_DATA_HOME/baimo, else ~/.local/share/baimo. */
#pragma once
#include "base/error.h"

/* The path, the caller's to bm_free. */
int bm_home_path(char **out, bm_error *err);
