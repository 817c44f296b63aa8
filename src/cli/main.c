/* main.c - the program: one table of commands. */
#include "cli/cli.h"
#include "base/nearest.h"
#include "cli/job.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *sub;             /* a short form: stands for "shelf add" and the like */
    const char *about;           /* NULL: not listed */
} command;

static const command commands[] = {
    { "serve",      cmd_serve,      NULL,   "the platform: API and chat page on http://127.0.0.1:8080" },
    { "chat",       cmd_chat,       NULL,   "one answer, or a conversation" },
    { "ps",         cmd_ps,         NULL,   "what a running server has loaded" },
    { "shelf",      cmd_shelf,      NULL,   "the models: add, scan, ls, show, rm, alias" },
    { "eval",       cmd_eval,       NULL,   "score models on tasks: run, tasks, ls, show, compare, gate, export" },
    { "promote",    cmd_promote,    NULL,   "point an alias at a model or adapter, if the gate holds" },
    { "rollback",   cmd_rollback,   NULL,   "point an alias back at what it stood for before" },
    { "tune",       cmd_tune,       NULL,   "train adapters: start, ls, show, follow, stop, resume, export" },
    { "key",        cmd_key,        NULL,   "API keys: add, ls, revoke" },
    { "data",       cmd_data,       NULL,   "training and evaluation data: check, add, ls, show, rm" },
    { "usage",      cmd_usage,      NULL,   "tokens by key, model or day" },
    { "inspect",    cmd_inspect,    NULL,   "metadata and tensors of a GGUF file" },
    { "tokenize",   cmd_tokenize,   NULL,   "text to token ids" },
    { "render",     cmd_render,     NULL,   "a chat as the model's template makes it" },
    { "perplexity", cmd_perplexity, NULL,   "how well a model predicts a text" },
    { "bench",      cmd_bench,      NULL,   "speed of a model, or of the machine" },
    { "doctor",     cmd_doctor,     NULL,   "is this machine fit, and what helps" },
    { "version",    cmd_version,    NULL,   "the version" },
    { "help",       cmd_help,       NULL,   "help for a command" },
    { "job",        cmd_job,        NULL,   NULL },
    { "run",        cmd_chat,       NULL,   NULL },
    { "pull",       cmd_shelf,      "add",  NULL },
    { "list",       cmd_shelf,      "ls",   NULL },
    { "ls",         cmd_shelf,      "ls",   NULL },
    { "show",       cmd_shelf,      "show", NULL },
    { "rm",         cmd_shelf,      "rm",   NULL },
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const command *find(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int run(const command *c, int argc, char **argv)
{
    char *longer[256];

    if (c->sub == NULL)
        return c->run(argc, argv);
    if (argc > 254)
        return cli_usage_error(c->name, "too many arguments");
    longer[0] = argv[0];
    longer[1] = (char *)(uintptr_t)c->sub;
    for (int i = 1; i <= argc; i++)                              /* the closing NULL too */
        longer[i + 1] = argv[i];
    return c->run(argc + 1, longer);
}

static void overview(void)
{
    puts("baimo - put a model on the shelf, and chat with it here, in a page and over the OpenAI API\n\n"
         "  baimo shelf add FILE.gguf       put a model on the shelf (or: baimo shelf scan)\n"
         "  baimo chat MODEL \"a question\"   ask it\n"
         "  baimo serve                     API and chat page on http://127.0.0.1:8080\n\ncommands:");
    for (int i = 0; i < N_COMMANDS; i++)
        if (commands[i].about != NULL)
            printf("  %-11s %s\n", commands[i].name, commands[i].about);
    puts("\nshort forms: run (chat), pull (shelf add), list (shelf ls), show (shelf show), rm (shelf rm)\n"
         "Each command explains itself: baimo COMMAND --help");
}

static int unknown(const char *name)
{
    const char *names[N_COMMANDS];
    size_t best;

    for (int i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i].name;
    fprintf(stderr, "baimo: there is no command '");
    for (const char *p = name; *p != '\0' && p < name + 60; p++)
        fputc((unsigned char)*p < 0x20 || *p == 0x7F ? '?' : *p, stderr);
    if (bm_nearest(name, names, N_COMMANDS, &best, 1) == 1)
        fprintf(stderr, "'; did you mean '%s'?\n", names[best]);
    else
        fprintf(stderr, "'\n");
    fprintf(stderr, "hint: baimo help\n");
    return 2;
}

static int cmd_help(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        overview();
        return 0;
    }
    const command *c = find(argv[1]);
    if (c == NULL)
        return unknown(argv[1]);
    if (c->run == cmd_help) {
        overview();
        return 0;
    }
    char *help[] = { argv[1], argc > 2 ? argv[2] : (char[]){ "--help" }, (char[]){ "--help" }, NULL };
    return run(c, argc > 2 ? 3 : 2, help);
}

static int cmd_version(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "version", "[--json]", "The version of the program.", "baimo version", options };
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error("version", "takes no arguments, found '%s'", argv[0]);
    if (as_json)
        return cli_print_json(json_pack("{s:s}", "version", BM_VERSION));
    printf("baimo %s\n", BM_VERSION);
    return 0;
}

/* Output that could not be written is a failure, whatever the command thought. */
static int finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno != EPIPE)
        fprintf(stderr, "baimo: cannot write the output: %s\n", strerror(errno));
    return code == 0 ? 1 : code;
}

int main(int argc, char **argv)
{
#ifdef M_MMAP_THRESHOLD
    /* Fixed, so that large blocks are always mappings of their own: untouched parts cost nothing, and freed ones go back. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
#endif
    if (argc < 2) {
        overview();
        return finish(0);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        overview();
        return finish(0);
    }
    if (strcmp(argv[1], "--version") == 0)
        return finish(cmd_version(1, argv));
    const command *c = find(argv[1]);
    return c == NULL ? unknown(argv[1]) : finish(run(c, argc - 1, argv + 1));
}
