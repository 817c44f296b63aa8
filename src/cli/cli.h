/* cli.h - the commands: each takes its own argv (argv[0] is the command's name) and returns the exit code: 0 done, 1 failed, 2 used wrongly. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "store/store.h"

int cmd_bench(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_data(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_shelf(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_promote(int argc, char **argv);
int cmd_rollback(int argc, char **argv);
int cmd_tune(int argc, char **argv);
int cmd_usage(int argc, char **argv);

/* Print "baimo: message" and the hint on stderr, control characters made visible. Returns 1, or 2 when err->param names an
 * option ("--ctx"): the command line itself was wrong. */
int cli_fail(const bm_error *err);
/* "baimo COMMAND: message" and where help is; returns 2. */
int cli_usage_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

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
    const char *name, *synopsis; /* "chat", "[MODEL] [PROMPT]" */
    const char *about, *example; /* a sentence or a few lines; whole command lines, one a line */
    const cli_option *options;   /* ends with name NULL */
} cli_command;
/* Parse; positional arguments are moved to the front of argv (argv[0] on) and counted in *n_positional. Returns 0 to go on,
 * else the exit code + 1 (so 1: --help was printed, exit 0; 3: used wrongly, exit 2). "--" ends options. */
int cli_parse(const cli_command *command, int argc, char **argv, int *n_positional);
/* For commands whose options also come from `home`/baimo.conf ("name = value" lines) and then from BAIMO_NAME variables
 * (dashes become underscores; lists are comma-separated): call it before cli_parse, whose options win. home NULL: no file.
 * Returns as cli_parse does. Strings stay valid until the program ends. */
int cli_defaults(const cli_command *command, const char *home);

/* A command that is a group of commands: "shelf add". argv[1] picks the row; without one, or with --help, lists them. */
typedef struct cli_sub { const char *name; int (*run)(int argc, char **argv); const char *about; } cli_sub;
int cli_dispatch(const char *group, const cli_sub *subs, int argc, char **argv);

/* The store of the user's home; 0 or a negative code. */
int cli_open_store(bm_store **out, bm_error *err);
/* Print text with control characters made visible, so that a name out of a file cannot drive the terminal. */
void cli_print_safe(const char *text);
/* Print one JSON document as a line on stdout and drop the reference (NULL: out of memory); returns the exit code. */
int cli_print_json(json_t *json);
/* "94 MiB", "3.4 GiB". */
void cli_size_text(char out[24], uint64_t bytes);
/* "2025-01-31 14:05" in UTC; "-" for 0. */
void cli_time_text(char out[24], int64_t ms);
