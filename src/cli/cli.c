/* cli.c - what all commands share: options by a table, help, errors, and a few ways to print. */
#include "cli/cli.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/number.h"
#include "base/utf8.h"
#include "platform/home.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_OPTIONS = 64, EXIT_USAGE = 3, EXIT_HELP = 1 };

/* ---- printing ---- */

static void write_safe(FILE *to, const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < len;) {
        uint32_t cp;
        int n = bm_utf8_decode(text + i, len - i, &cp);
        if (n < 0)
            fprintf(to, "\\x%02x", (unsigned char)text[i]), n = 1;
        else if (cp == '\n')
            fputs("\\n", to);
        else if (cp == '\t')
            fputc('\t', to);
        else if (cp < 0x20 || (cp >= 0x7F && cp < 0xA0))
            fprintf(to, "\\x%02x", (unsigned)cp);
        else
            fwrite(text + i, 1, (size_t)n, to);
        i += (size_t)n;
    }
}

void cli_print_safe(const char *text) { write_safe(stdout, text); }

int cli_fail(const bm_error *err)
{
    fflush(stdout);
    fputs("baimo: ", stderr);
    write_safe(stderr, err->msg);
    fputc('\n', stderr);
    if (err->hint[0] != '\0') {
        fputs("hint: ", stderr);
        write_safe(stderr, err->hint);
        fputc('\n', stderr);
    }
    return err->param[0] == '-' ? 2 : 1;
}

int cli_usage_error(const char *command, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "baimo %s: ", command);
    write_safe(stderr, text);
    fprintf(stderr, "\nhint: baimo %s --help\n", command);
    return 2;
}

int cli_print_json(json_t *json)
{
    int failed = json == NULL || json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15)) < 0;

    json_decref(json);
    if (failed) {
        fputs("baimo: cannot write the JSON: no memory, or text that is not UTF-8\n", stderr);
        return 1;
    }
    putchar('\n');
    return 0;
}

void cli_size_text(char out[24], uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
    double x = (double)bytes;
    int u = 0;

    while (x >= 1024 && u < 5)
        x /= 1024, u++;
    snprintf(out, 24, u == 0 || x >= 100 ? "%.0f %s" : "%.1f %s", x, units[u]);
}

void cli_time_text(char out[24], int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;

    if (ms == 0 || gmtime_r(&t, &tm) == NULL || strftime(out, 24, "%Y-%m-%d %H:%M", &tm) == 0)
        snprintf(out, 24, "-");
}

int cli_open_store(bm_store **out, bm_error *err)
{
    char *home = NULL;
    int rc;

    *out = NULL;
    if ((rc = bm_home_path(&home, err)) == 0)
        rc = bm_store_open(out, home, err);
    bm_free(home);
    return rc;
}

/* ---- help ---- */

static void print_indented(const char *lines)
{
    while (*lines != '\0') {
        size_t n = strcspn(lines, "\n");
        printf("%s%.*s\n", lines[0] == ' ' || n == 0 ? "" : "  ", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

static void print_option(const char *brief, const char *name, const char *arg, const char *help)
{
    char left[80];
    int n = snprintf(left, sizeof left, "  %s%s--%s%s%s", brief ? brief : "    ", brief ? ", " : "", name, arg ? " " : "",
                     arg ? arg : "");

    if (n > 29)
        printf("%s\n%30s", left, "");
    else
        printf("%-30s", left);
    for (const char *p = help ? help : ""; *p != '\0';) {        /* further lines of a help text stand under the first */
        size_t len = strcspn(p, "\n");
        printf("%.*s\n", (int)len, p);
        p += len + (p[len] == '\n');
        if (*p != '\0')
            printf("%30s", "");
    }
    if (help == NULL || *help == '\0')
        putchar('\n');
}

static void print_help(const cli_command *command)
{
    const char *synopsis = command->synopsis ? command->synopsis : "";
    bool whole = strncmp(synopsis, "baimo ", 6) == 0, help_is_free = true;

    printf("usage: %s%s%s%s\n\n", whole ? "" : "baimo ", whole ? "" : command->name, whole || !*synopsis ? "" : " ", synopsis);
    printf("%s\n\noptions:\n", command->about ? command->about : "");
    for (const cli_option *o = command->options; o != NULL && o->name != NULL; o++) {
        print_option(o->brief, o->name, o->kind == CLI_FLAG ? NULL : o->arg ? o->arg : "VALUE", o->help);
        if (o->brief != NULL && strcmp(o->brief, "-h") == 0)
            help_is_free = false;
    }
    print_option(help_is_free ? "-h" : NULL, "help", NULL, "this text");
    if (command->example != NULL) {
        printf("\n%s:\n", strchr(command->example, '\n') ? "examples" : "example");
        print_indented(command->example);
    }
}

/* ---- options ---- */

/* Store one value, range-checked. `as` is how the user wrote the option, for messages. */
static int set_value(const char *command, const cli_option *o, const char *as, const char *text)
{
    int64_t i;
    double d;
    cli_list *list;

    switch (o->kind) {
    case CLI_FLAG:
        if (text == NULL || strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || strcmp(text, "yes") == 0)
            *(bool *)o->value = true;
        else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0 || strcmp(text, "no") == 0)
            *(bool *)o->value = false;
        else
            return cli_usage_error(command, "%s is a switch: it takes true or false, found '%.100s'", as, text);
        return 0;
    case CLI_INT:
        if (!bm_parse_int(text, INT64_MIN, INT64_MAX, &i) || (double)i < o->min || (double)i > o->max)
            return cli_usage_error(command, "%s: expected a whole number from %.0f to %.0f, found '%.100s'", as, o->min, o->max,
                                   text);
        *(int64_t *)o->value = i;
        return 0;
    case CLI_FLOAT:
        if (!bm_parse_double(text, o->min, o->max, &d))
            return cli_usage_error(command, "%s: expected a number from %g to %g, found '%.100s'", as, o->min, o->max, text);
        *(double *)o->value = d;
        return 0;
    case CLI_STR:
        *(const char **)o->value = text;
        return 0;
    case CLI_LIST:
        list = o->value;
        if (list->n == (int)(sizeof list->items / sizeof list->items[0]))
            return cli_usage_error(command, "%s: given more than %d times", as, list->n);
        list->items[list->n++] = text;
        return 0;
    }
    return 0;
}

/* The row for an argument "--name", "--name=value", "-n" or "-n=value"; NULL: none. *value points behind '=' or is NULL. */
static const cli_option *match(const cli_command *command, const char *arg, const char **value)
{
    size_t len = strcspn(arg, "=");

    *value = arg[len] == '=' ? arg + len + 1 : NULL;
    for (const cli_option *o = command->options; o != NULL && o->name != NULL; o++) {
        if (arg[1] == '-' ? len > 2 && strlen(o->name) == len - 2 && strncmp(o->name, arg + 2, len - 2) == 0
                          : o->brief != NULL && strlen(o->brief) == len && strncmp(o->brief, arg, len) == 0)
            return o;
    }
    return NULL;
}

static int unknown_option(const cli_command *command, const char *arg)
{
    const char *names[MAX_OPTIONS];
    size_t n = 0, best, len = strcspn(arg, "=");
    char want[64];

    for (const cli_option *o = command->options; o != NULL && o->name != NULL && n < MAX_OPTIONS - 1; o++)
        names[n++] = o->name;
    names[n++] = "help";
    snprintf(want, sizeof want, "%.*s", (int)(len > 2 ? len - 2 : 0), arg + 2);
    if (arg[1] == '-' && bm_nearest(want, names, n, &best, 1) == 1)
        return cli_usage_error(command->name, "there is no option %.*s; did you mean --%s?", (int)len, arg, names[best]);
    return cli_usage_error(command->name, "there is no option %.*s", (int)len, arg);
}

static bool is_number(const char *s)
{
    double d;

    return bm_parse_double(s, -1e300, 1e300, &d);
}

/* Whether the argument after an option can be its value: not when it is an option itself. "-" and numbers can. */
static bool is_value(const cli_command *command, const char *arg)
{
    const char *value;

    if (arg == NULL)
        return false;
    if (arg[0] != '-' || arg[1] == '\0')
        return true;
    return strncmp(arg, "--", 2) != 0 && (is_number(arg) || match(command, arg, &value) == NULL);
}

static int parse_option(const cli_command *command, char **argv, int *i, bool seen[MAX_OPTIONS])
{
    const char *value, *arg = argv[*i];
    const cli_option *o = match(command, arg, &value);
    char as[64];
    size_t row;

    if (o == NULL)
        return unknown_option(command, arg);
    snprintf(as, sizeof as, "%.*s", (int)strcspn(arg, "="), arg);
    row = (size_t)(o - command->options);
    if (o->kind == CLI_LIST && row < MAX_OPTIONS && !seen[row])
        ((cli_list *)o->value)->n = 0;                           /* replaces what cli_defaults found */
    if (row < MAX_OPTIONS)
        seen[row] = true;
    if (o->kind != CLI_FLAG && value == NULL) {
        if (!is_value(command, argv[*i + 1]))
            return cli_usage_error(command->name, "%s needs a value: %s %s", as, as, o->arg ? o->arg : "VALUE");
        value = argv[++*i];
    }
    return set_value(command->name, o, as, value);
}

int cli_parse(const cli_command *command, int argc, char **argv, int *n_positional)
{
    bool seen[MAX_OPTIONS] = { false };
    const char *unused;
    int n = 0, rc;

    *n_positional = 0;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (strcmp(arg, "--") == 0) {
            while (++i < argc)
                argv[n++] = argv[i];
            break;
        }
        if (strcmp(arg, "--help") == 0 || (strcmp(arg, "-h") == 0 && match(command, arg, &unused) == NULL)) {
            print_help(command);
            return EXIT_HELP;
        }
        if (arg[0] != '-' || arg[1] == '\0' || (is_number(arg) && match(command, arg, &unused) == NULL))
            argv[n++] = arg;
        else if ((rc = parse_option(command, argv, &i, seen)) != 0)
            return rc + 1;
    }
    *n_positional = n;
    return 0;
}

/* ---- options from a file and the environment ---- */

static int set_list(const char *command, const cli_option *o, const char *as, char *text)
{
    char *save = NULL;
    int rc = 0;

    ((cli_list *)o->value)->n = 0;
    for (char *item = strtok_r(text, ",", &save); item != NULL && rc == 0; item = strtok_r(NULL, ",", &save)) {
        item += strspn(item, " \t");
        for (size_t n = strlen(item); n > 0 && (item[n - 1] == ' ' || item[n - 1] == '\t'); n--)
            item[n - 1] = '\0';
        if (*item != '\0')
            rc = set_value(command, o, as, item);
    }
    return rc;
}

static int set_default(const char *command, const cli_option *o, const char *as, char *text)
{
    return o->kind == CLI_LIST ? set_list(command, o, as, text) : set_value(command, o, as, text);
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    for (size_t n = strlen(s); n > 0 && strchr(" \t\r", s[n - 1]) != NULL; n--)
        s[n - 1] = '\0';
    return s;
}

static int conf_line(const cli_command *command, const char *path, int number, char *line)
{
    char *equals, as[600], option[80];
    const char *unused;

    line = trim(line);
    if (line[0] == '\0' || line[0] == '#')
        return 0;
    if ((equals = strchr(line, '=')) == NULL)
        return cli_usage_error(command->name, "%s:%d: expected 'name = value', found '%.100s'", path, number, line);
    *equals = '\0';
    snprintf(option, sizeof option, "--%.76s", trim(line));
    const cli_option *o = match(command, option, &unused);
    if (o == NULL) {
        fprintf(stderr, "baimo: %s:%d is wrong\n", path, number);
        return unknown_option(command, option);
    }
    snprintf(as, sizeof as, "%.500s:%d: %s", path, number, o->name);
    return set_default(command->name, o, as, trim(equals + 1));
}

static int conf_file(const cli_command *command, const char *home, bm_buf *kept)
{
    bm_error err;
    size_t len;
    char *text;
    int rc = 0, number = 0;

    bm_buf_printf(kept, "%s/baimo.conf", home);
    if (kept->failed)
        return 1;
    rc = bm_read_file(&text, &len, kept->data, 1 << 20, &err);
    if (rc == BM_NOTFOUND)
        return 0;
    if (rc < 0)
        return cli_fail(&err);
    for (char *line = text, *next; line != NULL && rc == 0; line = next) {
        if ((next = strchr(line, '\n')) != NULL)
            *next++ = '\0';
        rc = conf_line(command, kept->data, ++number, line);
    }
    bm_buf_done(kept);
    kept->data = text;                                           /* values point into it */
    return rc;
}

int cli_defaults(const cli_command *command, const char *home)
{
    static bm_buf kept;
    static char *variables[MAX_OPTIONS];
    int rc, row = 0;

    if (home != NULL && (rc = conf_file(command, home, &kept)) != 0)
        return rc + 1;
    for (const cli_option *o = command->options; o != NULL && o->name != NULL && row < MAX_OPTIONS; o++, row++) {
        char name[80];
        snprintf(name, sizeof name, "BAIMO_%s", o->name);
        for (char *p = name; *p != '\0'; p++)
            *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
        const char *text = getenv(name);
        if (text == NULL || *text == '\0')
            continue;
        bm_free(variables[row]);
        if ((variables[row] = bm_strdup(text)) == NULL)
            return 2;
        if ((rc = set_default(command->name, o, name, variables[row])) != 0)
            return rc + 1;
    }
    return 0;
}

/* ---- groups of commands ---- */

static void print_group(const char *group, const cli_sub *subs)
{
    printf("usage: baimo %s COMMAND [...]\n\ncommands:\n", group);
    for (; subs->name != NULL; subs++)
        printf("  %-10s %s\n", subs->name, subs->about);
    printf("\nexample:\n  baimo %s ls\n  baimo %s add --help\n", group, group);
}

int cli_dispatch(const char *group, const cli_sub *subs, int argc, char **argv)
{
    const char *names[16];
    size_t n = 0, best;

    if (argc < 2) {
        print_group(group, subs);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_group(group, subs);
        return 0;
    }
    for (const cli_sub *s = subs; s->name != NULL; s++) {
        if (strcmp(s->name, argv[1]) == 0)
            return s->run(argc - 1, argv + 1);
        if (n < sizeof names / sizeof names[0])
            names[n++] = s->name;
    }
    if (bm_nearest(argv[1], names, n, &best, 1) == 1)
        return cli_usage_error(group, "there is no command '%.60s'; did you mean '%s'?", argv[1], names[best]);
    return cli_usage_error(group, "there is no command '%.60s'", argv[1]);
}
