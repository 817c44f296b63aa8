/* cli.h - the commands: each takes its own argv (argv[0] is the command's name) and returns the exit code: 0 done, 1 failed, 2 used wrongly. */
#pragma once
#include <stdbool.h>
#include "base/error.h"

int cmd_bench(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_shelf(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_usage(int argc, char **argv);

/* Print "baimo: message" and the hint on stderr; returns 1, or 2 for BM_INVALID of the command line itself. */
int cli_fail(const bm_error *err);
int cli_usage_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* returns 2 */

/* One table per command describes its options; parsing, --help and the short forms come from it. */
typedef enum cli_kind { CLI_FLAG, CLI_INT, CLI_FLOAT, CLI_STR, CLI_LIST } cli_kind;
typedef struct cli_option {
    const char *name;            /* "max-tokens" for --max-tokens; --max-tokens=N and --max-tokens N both work */
    const char *brief;           /* "-n": one dash and one or two letters, or NULL */
    cli_kind kind;
    void *value;                 /* bool*, int64_t*, double*, const char**, cli_list* */
    double min, max;             /* for numbers */
    const char *arg, *help;      /* "N", "what it does (default 512)" */
} cli_option;
typedef struct cli_list { const char *items[64]; int n; } cli_list;
typedef struct cli_command {
    const char *name, *synopsis, *about, *example;
    const cli_option *options;   /* ends with name NULL */
} cli_command;
/* Parse; positional arguments are moved to the front of argv and counted in *n_positional. Returns 0 to go on, else the exit
 * code + 1 (so 1: --help was printed, exit 0; 3: used wrongly, exit 2). "--" ends options. */
int cli_parse(const cli_command *command, int argc, char **argv, int *n_positional);
