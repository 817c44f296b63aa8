/* chat.c - `baimo chat [MODEL] [PROMPT]`: one answer, or a conversation on a terminal. Uses the public C API (baimo.h).
 * The answer goes to stdout as it comes, everything else to stderr. What a model writes cannot drive the terminal: control
 * characters are dropped there. Ctrl-C stops the answer, not the conversation. */
#include "cli/cli.h"
#include "cli/packs.h"
#include "baimo.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "platform/shelf.h"

#include <errno.h>
#include <histedit.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_STDIN_BYTES = 64 << 20, EXIT_INTERRUPTED = 130 };

typedef struct chat {
    const char *system;
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k, max_tokens, seed, n_ctx, n_threads;
    const char *kv_type;
    bool stats, raw, no_think, json, exact, no_speculation, no_pack;
    cli_list stop;
    /* running */
    baimo *model;
    char name[128];
    json_t *messages;            /* array of {"role", "content"} */
    char *new_system;            /* set by /system; owns system */
    bool tty, dim;               /* stdout is a terminal; the last piece was reasoning */
    bm_buf content, reasoning;
    bool ends_line;              /* the last byte printed was a newline */
} chat;

static volatile sig_atomic_t interrupted;
static void on_interrupt(int sig) { (void)sig; interrupted = 1; }

static void catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = on_interrupt };        /* no SA_RESTART: reading a line ends too */

    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int fail_with(const baimo_error *e)
{
    bm_error err = { .code = e->code };

    snprintf(err.msg, sizeof err.msg, "%s", e->message);
    snprintf(err.hint, sizeof err.hint, "%s", e->hint);
    return cli_fail(&err);
}

/* ---- output ---- */

/* Text for a terminal: without C0 and C1 controls but newline and tab. text is whole UTF-8 characters. */
static void print_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 0xC2 && i + 1 < len && (unsigned char)text[i + 1] < 0xA0)
            i++;
        else if ((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t')
            putchar(c);
    }
}

static void set_dim(chat *c, bool dim)
{
    if (c->dim == dim)
        return;
    c->dim = dim;
    if (!dim)
        fputs("\n\n", stdout);
    if (getenv("NO_COLOR") == NULL)
        fputs(dim ? "\033[2m" : "\033[0m", stdout);
}

static int on_piece(void *arg, const baimo_piece *piece)
{
    chat *c = arg;

    bm_buf_add(piece->is_reasoning ? &c->reasoning : &c->content, piece->text, piece->len);
    if (c->json)
        return interrupted;
    if (c->tty) {
        set_dim(c, piece->is_reasoning != 0);
        print_plain(piece->text, piece->len);
    } else if (!piece->is_reasoning) {
        fwrite(piece->text, 1, piece->len, stdout);
    }
    c->ends_line = piece->text[piece->len - 1] == '\n';
    return interrupted || fflush(stdout) != 0;
}

static double rate(int64_t n, double seconds) { return seconds > 0 ? (double)n / seconds : 0; }

static void print_stats(const baimo_result *r)
{
    if (r->draft_tokens > 0)
        fprintf(stderr, "guessed ahead %" PRId64 " tokens, %" PRId64 " right\n", r->draft_tokens, r->draft_accepted);
    fprintf(stderr, "prompt %" PRId64 " tokens, %.1f tok/s; answer %" PRId64 " tokens, %.1f tok/s; first token after %.3f s%s\n",
            r->prompt_tokens, rate(r->prompt_tokens, r->prefill_s), r->completion_tokens,
            rate(r->completion_tokens > 0 ? r->completion_tokens - 1 : 0, r->decode_s), r->first_token_s,
            r->finish == BAIMO_FINISH_LENGTH ? "; cut by length" : r->finish == BAIMO_FINISH_CANCELED ? "; stopped" : "");
}

static int print_json(const chat *c, const baimo_result *r)
{
    static const char *const finish[] = { "stop", "length", "canceled" };

    return cli_print_json(json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I}", "model", c->name, "content",
                                    c->content.len > 0 ? c->content.data : "", "reasoning",
                                    c->reasoning.len > 0 ? c->reasoning.data : "", "finish", finish[r->finish], "prompt_tokens",
                                    (json_int_t)r->prompt_tokens, "completion_tokens", (json_int_t)r->completion_tokens,
                                    "draft_tokens", (json_int_t)r->draft_tokens, "draft_accepted", (json_int_t)r->draft_accepted,
                                    "prefill_s", r->prefill_s, "decode_s", r->decode_s, "first_token_s", r->first_token_s, "seed",
                                    (json_int_t)c->seed));
}

/* ---- one answer ---- */

static void fill_settings(const chat *c, baimo_settings *s)
{
    baimo_settings_init(s);
    s->temperature = c->temperature, s->top_k = (int)c->top_k, s->top_p = c->top_p, s->min_p = c->min_p;
    s->repetition_penalty = c->repetition_penalty;
    s->max_tokens = (int)c->max_tokens;
    s->seed = (uint64_t)c->seed;
    s->stop = c->stop.n > 0 ? c->stop.items : NULL;
    s->n_stop = (size_t)c->stop.n;
    s->thinking = c->no_think ? -1 : 0;
}

static int ask_model(chat *c, const char *prompt, baimo_result *result, baimo_error *err)
{
    size_t n = json_array_size(c->messages);
    baimo_message *messages = bm_calloc(n + 1, sizeof *messages);
    baimo_settings settings;
    int rc;

    fill_settings(c, &settings);
    if (messages == NULL)
        return err->code = BAIMO_NOMEM, snprintf(err->message, sizeof err->message, "no memory for the messages"), BAIMO_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(c->messages, i);
        messages[i].role = json_string_value(json_object_get(one, "role"));
        messages[i].content = json_string_value(json_object_get(one, "content"));
    }
    if (c->raw)
        rc = baimo_complete(c->model, prompt, strlen(prompt), &settings, on_piece, c, result, err);
    else
        rc = baimo_chat(c->model, messages, n, &settings, on_piece, c, result, err);
    bm_free(messages);
    return rc;
}

static int add_message(chat *c, const char *role, const char *content)
{
    json_t *one = json_pack("{s:s, s:s}", "role", role, "content", content);

    if (one != NULL && json_array_append_new(c->messages, one) == 0)
        return 0;
    fprintf(stderr, "baimo: the text is not UTF-8\n");
    return -1;
}

/* Ask, print, and remember the answer; a question that failed is forgotten. Returns the exit code. */
static int turn(chat *c, const char *prompt)
{
    baimo_result result = { 0 };
    baimo_error err = { 0 };
    int rc;

    if (!c->raw && add_message(c, "user", prompt) < 0)
        return 1;
    bm_buf_clear(&c->content);
    bm_buf_clear(&c->reasoning);
    interrupted = 0;
    c->ends_line = true;
    rc = ask_model(c, prompt, &result, &err);
    if (c->dim && getenv("NO_COLOR") == NULL)
        fputs("\033[0m", stdout);
    c->dim = false;
    if (!c->ends_line && !c->json)
        putchar('\n');
    fflush(stdout);
    if (rc < 0) {
        if (!c->raw)
            json_array_remove(c->messages, json_array_size(c->messages) - 1);
        return fail_with(&err);
    }
    if (!c->raw && add_message(c, "assistant", c->content.len > 0 ? c->content.data : "") < 0)
        return 1;
    if (c->stats)
        print_stats(&result);
    if (c->json)
        return print_json(c, &result);
    return ferror(stdout) ? 1 : 0;
}

/* ---- the conversation ---- */

static void help(void)
{
    fputs("/system TEXT   set the system prompt (and start anew); without TEXT: show it\n"
          "/save FILE     write the conversation as JSON, as `baimo render --messages` reads it\n"
          "/clear         forget the conversation\n"
          "/stats         timings after each answer, on or off\n"
          "/help          this\n"
          "/exit          leave (Ctrl-D too); Ctrl-C stops an answer\n"
          "A line that ends with \\ goes on in the next one.\n", stderr);
}

static int start_anew(chat *c)
{
    json_array_clear(c->messages);
    return c->system != NULL && c->system[0] != '\0' ? add_message(c, "system", c->system) : 0;
}

static void save(chat *c, const char *path)
{
    char *text = json_dumps(c->messages, JSON_INDENT(2));
    bm_error err;

    if (path[0] == '\0')
        fprintf(stderr, "/save needs a file name\n");
    else if (text == NULL || bm_write_file(path, text, strlen(text), 0600, &err) < 0)
        fprintf(stderr, "baimo: %s\n", text == NULL ? "no memory to save" : err.msg);
    else
        fprintf(stderr, "saved %zu messages to %s\n", json_array_size(c->messages), path);
    free(text);
}

static void set_system(chat *c, const char *text)
{
    if (text[0] == '\0') {
        fprintf(stderr, "%s\n", c->system != NULL ? c->system : "(no system prompt)");
        return;
    }
    char *copy = bm_strdup(text);
    if (copy == NULL)
        return;
    bm_free(c->new_system);
    c->system = c->new_system = copy;
    start_anew(c);
}

/* A line that begins with '/'. False: leave. */
static bool command(chat *c, char *line)
{
    char *arg = line + strcspn(line, " \t");

    if (*arg != '\0')
        *arg++ = '\0';
    arg += strspn(arg, " \t");
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/bye") == 0 || strcmp(line, "/quit") == 0)
        return false;
    if (strcmp(line, "/help") == 0 || strcmp(line, "/?") == 0)
        help();
    else if (strcmp(line, "/system") == 0)
        set_system(c, arg);
    else if (strcmp(line, "/save") == 0)
        save(c, arg);
    else if (strcmp(line, "/clear") == 0)
        start_anew(c);
    else if (strcmp(line, "/stats") == 0)
        fprintf(stderr, "timings %s\n", (c->stats = !c->stats) ? "on" : "off");
    else
        fprintf(stderr, "no command %s; /help lists them\n", line);
    return true;
}

static const char *prompt_text(EditLine *el) { (void)el; return "> "; }
static const char *more_text(EditLine *el) { (void)el; return ". "; }

/* One entry, with its continuation lines, without the closing newline. 1; 0 at the end of input; -1 after Ctrl-C. */
static int read_entry(EditLine *el, bm_buf *out)
{
    int n;

    bm_buf_clear(out);
    for (;;) {
        interrupted = 0;
        el_set(el, EL_PROMPT, out->len > 0 ? more_text : prompt_text);
        const char *line = el_gets(el, &n);
        if (line == NULL || n <= 0)
            return interrupted ? -1 : 0;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        bool more = n > 0 && line[n - 1] == '\\';
        bm_buf_add(out, line, (size_t)(more ? n - 1 : n));
        if (!more)
            return 1;
        bm_buf_putc(out, '\n');
    }
}

static int converse(chat *c)
{
    EditLine *el = el_init("baimo", stdin, stderr, stderr);
    History *lines = history_init();
    bm_buf line = { 0 };
    HistEvent ev;
    int got;

    if (el == NULL || lines == NULL)
        return fprintf(stderr, "baimo: the terminal cannot be used\n"), 1;
    history(lines, &ev, H_SETSIZE, 200);
    el_set(el, EL_HIST, history, lines);
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_SIGNAL, 0);
    el_source(el, NULL);
    while ((got = read_entry(el, &line)) != 0) {
        if (got < 0) {
            fputs("\n(Ctrl-D or /exit leaves)\n", stderr);
            el_reset(el);
            continue;
        }
        if (line.len == 0 || line.failed || strspn(line.data, " \t\n") == line.len)
            continue;
        history(lines, &ev, H_ENTER, line.data);
        if (line.data[0] == '/') {
            if (!command(c, line.data))
                break;
            continue;
        }
        turn(c, line.data);
        putchar('\n');
    }
    bm_buf_done(&line);
    history_end(lines);
    el_end(el);
    return 0;
}

/* ---- starting ---- */

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    const chat *c = arg;

    if (isatty(STDERR_FILENO) && total > 0)
        fprintf(stderr, "\rloading %s %3d %%", c->name, (int)(done * 100 / total));
    return interrupted;
}

static void on_notice(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "baimo: %s\n", line);
}

static int open_model(chat *c, const bm_shelf_model *row, const char *adapter)
{
    char *packs = cli_pack_dir(c->no_pack);
    baimo_options options = { .packs = packs, .notice = on_notice, .threads = (int)c->n_threads, .context = (int)c->n_ctx, .exact = c->exact, .adapter = adapter,
                              .name = row->name, .no_speculation = c->no_speculation, .kv_type = c->kv_type,
                              .progress = on_progress, .progress_arg = c };
    baimo_error err;
    baimo_info info;

    snprintf(c->name, sizeof c->name, "%s", row->name);
    int rc = baimo_open(&c->model, row->path, &options, &err);
    bm_free(packs);
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (rc < 0)
        return fail_with(&err);
    baimo_get_info(c->model, &info);
    if (c->stats)
        fprintf(stderr, "%s: %s, %d threads\n", c->name, info.memory_plan, info.threads);
    return 0;
}

/* Whether one argument alone is a prompt for the default model: it is, when it is no model and looks like a sentence. */
static bool is_prompt(const char *arg) { return strpbrk(arg, " \n?!") != NULL; }

/* MODEL and PROMPT out of the arguments. */
static int pick_model(int n, char **argv, bm_shelf_model *row, char adapter[4096], const char **prompt, bm_error *err)
{
    bm_shelf_target target;
    bm_store *store = NULL;
    bm_error no_store = { 0 };
    int rc;

    *prompt = n > 1 ? argv[1] : NULL;
    cli_open_store(&store, &no_store);       /* a path needs none */
    if (store != NULL && bm_shelf_find_target(store, n > 0 ? argv[0] : NULL, &target, NULL) == 0 && target.adapter.id != 0) {
        *row = target.model;
        snprintf(adapter, 4096, "%s", target.adapter.path);
        rc = bm_shelf_check_present(row, err);
        bm_store_close(store);
        return rc;
    }
    rc = bm_shelf_resolve(store, n > 0 ? argv[0] : NULL, row, err);
    if (rc < 0 && n == 1 && is_prompt(argv[0])) {
        *prompt = argv[0];
        rc = bm_shelf_resolve(store, NULL, row, err);
    }
    if (rc < 0 && store == NULL)
        *err = no_store;
    bm_store_close(store);
    return rc;
}

/* Whether stdin has something to say beside a PROMPT: a file, or a pipe whose writer starts or ends within half a second. A
 * program that runs us with a pipe of its own and never writes to it must not hang us. */
static bool stdin_speaks(void)
{
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

    return poll(&p, 1, 500) > 0 && (p.revents & (POLLIN | POLLHUP));
}

/* PROMPT, what comes through a pipe, or both. NULL with *rc 0: neither, it is a conversation. */
static char *whole_prompt(const char *prompt, int *rc)
{
    char *input = NULL, *text;
    size_t len = 0;
    bm_error err;
    bm_buf buf = { 0 };

    *rc = 0;
    if (isatty(STDIN_FILENO) || (prompt != NULL && !stdin_speaks()))
        return prompt != NULL ? bm_strdup(prompt) : NULL;
    if (bm_read_file(&input, &len, "-", MAX_STDIN_BYTES, &err) < 0) {
        *rc = cli_fail(&err);
        return NULL;
    }
    if (prompt != NULL)
        bm_buf_puts(&buf, prompt);
    if (prompt != NULL && len > 0)
        bm_buf_puts(&buf, "\n\n");
    bm_buf_add(&buf, input, strlen(input));
    bm_free(input);
    text = buf.len > 0 ? bm_buf_take(&buf) : (bm_buf_done(&buf), NULL);
    if (text == NULL)
        *rc = cli_usage_error("chat", "no prompt: neither an argument nor anything on stdin");
    return text;
}

static int run(chat *c, const bm_shelf_model *row, const char *adapter, const char *prompt)
{
    int rc;
    char *text = whole_prompt(prompt, &rc);

    if (rc != 0)
        return rc;
    if (text == NULL && (c->raw || c->json))
        return cli_usage_error("chat", "%s needs a PROMPT", c->raw ? "--raw" : "--json");
    if ((rc = open_model(c, row, adapter)) != 0 || start_anew(c) < 0) {
        bm_free(text);
        return rc != 0 ? rc : 1;
    }
    if (text != NULL) {
        rc = turn(c, text);
        if (interrupted && rc == 0)
            rc = EXIT_INTERRUPTED;
    } else {
        fprintf(stderr, "%s; /help lists the commands\n", c->name);
        rc = converse(c);
    }
    bm_free(text);
    return rc;
}

static void random_seed(chat *c)
{
    uint32_t bits = 1;

    bm_random_bytes(&bits, sizeof bits, NULL);
    c->seed = bits;
}

int cmd_chat(int argc, char **argv)
{
    chat c = { .temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repetition_penalty = 1, .max_tokens = 2048, .seed = -1 };
    const cli_option table[] = {
        { "system", "-s", CLI_STR, &c.system, 0, 0, "TEXT", "the system prompt" },
        { "temperature", NULL, CLI_FLOAT, &c.temperature, 0, 100, "T", "0: always the most likely token (default 0.8)" },
        { "max-tokens", "-n", CLI_INT, &c.max_tokens, -1, 1 << 30, "N", "end the answer after N tokens (default 2048; -1: when the context is full)" },
        { "seed", NULL, CLI_INT, &c.seed, -1, 9e15, "N", "equal seeds give equal answers (default -1: another each time)" },
        { "top-k", NULL, CLI_INT, &c.top_k, 0, 1 << 30, "K", "only the K most likely tokens (default 40; 0: off)" },
        { "top-p", NULL, CLI_FLOAT, &c.top_p, 1e-6, 1, "P", "only the most likely tokens up to mass P (default 0.95; 1: off)" },
        { "min-p", NULL, CLI_FLOAT, &c.min_p, 0, 1, "P", "only tokens P times as likely as the best (default 0.05; 0: off)" },
        { "repetition-penalty", NULL, CLI_FLOAT, &c.repetition_penalty, 0.01, 100, "X", "above 1: less repetition (default 1)" },
        { "stop", NULL, CLI_LIST, &c.stop, 0, 0, "TEXT", "end the answer before this text; may be given several times" },
        { "ctx", "-c", CLI_INT, &c.n_ctx, 0, 1 << 30, "N", "context in tokens (default 0: the largest that fits)" },
        { "threads", "-t", CLI_INT, &c.n_threads, 0, 1024, "N", "threads (default 0: what the machine allows)" },
        { "stats", NULL, CLI_FLAG, &c.stats, 0, 0, NULL, "timings on stderr" },
        { "no-think", NULL, CLI_FLAG, &c.no_think, 0, 0, NULL, "no reasoning before the answer, where the model has a switch" },
        { "raw", NULL, CLI_FLAG, &c.raw, 0, 0, NULL, "continue PROMPT as plain text, without the chat template" },
        { "no-pack", NULL, CLI_FLAG, &c.no_pack, 0, 0, NULL, CLI_NO_PACK_HELP },
        { "kv-type", NULL, CLI_STR, &c.kv_type, 0, 0, "TYPE", "of the KV cache: int16 (default), int8 or f16" },
        { "f32", NULL, CLI_FLAG, &c.exact, 0, 0, NULL, "everything in 32-bit floats (slow; for comparisons)" },
        { "no-speculation", NULL, CLI_FLAG, &c.no_speculation, 0, 0, NULL,
          "one token at a time; without, repetitions are guessed\nahead (the answer is the same)" },
        { "json", NULL, CLI_FLAG, &c.json, 0, 0, NULL, "the answer and its figures as one JSON object" },
        { 0 },
    };
    const cli_command cli = {
        "chat", "[MODEL] [PROMPT]",
        "One answer, or without PROMPT a conversation. What comes through a pipe is added to PROMPT.\n"
        "Without MODEL: the alias `default`, else the only one on the shelf.",
        "baimo chat smollm2 \"What is the capital of France?\"\ngit diff | baimo chat smollm2 \"Write a commit message for this:\"", table,
    };
    const char *prompt;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&cli, argc, argv, &n)) != 0)
        return rc - 1;
    if (n > 2)
        return cli_usage_error("chat", "takes MODEL and PROMPT, got %d arguments (quote the prompt)", n);
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    catch_interrupts();
    if (c.seed < 0)
        random_seed(&c);
    c.tty = isatty(STDOUT_FILENO);
    char adapter[4096] = "";
    bm_shelf_model *row = bm_zalloc(sizeof *row);
    if (row == NULL || (c.messages = json_array()) == NULL)
        return bm_fail(&err, BM_NOMEM, "no memory"), bm_free(row), cli_fail(&err);
    if (pick_model(n, argv, row, adapter, &prompt, &err) < 0)
        rc = cli_fail(&err);
    else
        rc = run(&c, row, adapter[0] != '\0' ? adapter : NULL, prompt);
    baimo_close(c.model);
    json_decref(c.messages);
    bm_buf_done(&c.content);
    bm_buf_done(&c.reasoning);
    bm_free(c.new_system);
    bm_free(row);
    return rc;
}
