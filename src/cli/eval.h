/* eval.h - what the parts of `baimo eval`, `promote` and `rollback` share. */
#pragma once
#include "platform/evals.h"

/* Queue an evaluation, see it to its end (by this process, or by the home's running server), and give its row: 0, or an exit code. */
int cli_eval_do(bm_store *store, const bm_eval_request *request, bool silent, bm_run_row *out);
/* A run by id or name, or the latest that succeeded. BM_NOTFOUND. */
int cli_eval_find(bm_store *store, const char *what, bm_run_row *out, bm_error *err);

/* Results as JSON, every number with all its digits; drops the reference. The exit code. */
int cli_eval_print(json_t *results);

int cmd_eval_show(int argc, char **argv);
int cmd_eval_compare(int argc, char **argv);
int cmd_eval_export(int argc, char **argv);
int cmd_eval_gate(int argc, char **argv);
