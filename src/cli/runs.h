/* runs.h - what `baimo tune` and `baimo eval` do alike with their runs. kind is "tune" or "eval". */
#pragma once
#include "cli/cli.h"
#include "store/runs.h"

json_t *cli_run_json(const bm_run_row *run);
/* The whole of `KIND ls`. as_json points to what the command's --json sets; none: what is said when there is none. */
int cli_runs_ls(const cli_command *self, int argc, char **argv, const char *kind, const bool *as_json, const char *none);
/* A command about one run, by id or name. */
int cli_with_run(const cli_command *self, int argc, char **argv, const char *kind, const bool *as_json,
                 int (*run_it)(bm_store *store, bm_run_row *run, bool as_json));
int cli_run_stop(bm_store *store, bm_run_row *run, bool as_json);
int cli_run_rm(bm_store *store, bm_run_row *run, bool as_json);
