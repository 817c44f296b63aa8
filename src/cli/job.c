/* job.c - `baimo job DIR`: reads job.json and hands over to its kind; what all kinds say alike. */
#include "cli/job.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_JOB_BYTES = 4 << 20 };

static const struct kind { const char *name; int (*run)(const char *dir, const char *text, size_t len); } kinds[] = {
    { "tune", cli_job_tune },
    { "eval", cli_job_eval },
};

int cli_job_say(bm_buf *line, bm_error *err)
{
    bool ok;

    bm_buf_putc(line, '\n');
    if (line->failed) {
        bm_buf_done(line);
        return bm_fail(err, BM_NOMEM, "no memory for an event");
    }
    ok = fwrite(line->data, 1, line->len, stdout) == line->len && fflush(stdout) == 0;
    bm_buf_done(line);
    return ok ? 0 : bm_fail(err, BM_IO, "cannot write an event: %s", strerror(errno));
}

void cli_job_say_error(const bm_error *why)
{
    bm_buf line = { 0 };
    bm_json j = { &line, false };

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", "error");
    bm_json_kstr(&j, "code", bm_error_slug(why->code));
    bm_json_kstr(&j, "message", why->msg);
    bm_json_kstr(&j, "hint", why->hint);
    bm_json_close(&j, '}');
    cli_job_say(&line, NULL);
}

void cli_job_say_message(const char *level, unsigned long long number, const char *fmt, ...)
{
    bm_buf line = { 0 };
    bm_json j = { &line, false };
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "event", "message");
    bm_json_kstr(&j, "level", level);
    if (number > 0)
        bm_json_kint(&j, "line", (int64_t)number);
    bm_json_kstr(&j, "message", text);
    bm_json_close(&j, '}');
    cli_job_say(&line, NULL);
}

static int run_kind(const char *dir, const char *text, size_t len, bm_error *err)
{
    json_error_t where;
    json_t *job = json_loadb(text, len, 0, &where);
    const char *kind = json_string_value(json_object_get(job, "kind"));
    int (*run)(const char *, const char *, size_t) = NULL;
    int rc;

    for (size_t i = 0; kind != NULL && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i].name) == 0)
            run = kinds[i].run;
    if (job == NULL)
        rc = bm_fail(err, BM_INVALID, "%s/job.json: line %d: %s", dir, where.line, where.text);
    else if (run == NULL)
        rc = bm_fail(err, BM_INVALID, "%s/job.json: there is no job of kind '%.40s'", dir, kind != NULL ? kind : "");
    else
        rc = run(dir, text, len);
    json_decref(job);
    return rc;
}

int cmd_job(int argc, char **argv)
{
    const cli_option options[] = { { .name = NULL } };
    const cli_command self = { "job", "DIR", "The process of a job whose job.json is in DIR; commands and servers start it.",
                               "baimo job ~/.local/share/baimo/jobs/ftjob-1", options };
    bm_buf path = { 0 };
    char *text = NULL;
    size_t len;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one DIR, found %d arguments", n);
    bm_buf_printf(&path, "%s/job.json", argv[0]);
    if (path.failed)
        rc = bm_fail(&err, BM_NOMEM, "no memory");
    else if ((rc = bm_read_file(&text, &len, path.data, MAX_JOB_BYTES, &err)) == 0)
        rc = run_kind(argv[0], text, len, &err);
    if (rc < 0)
        cli_job_say_error(&err);
    bm_buf_done(&path);
    bm_free(text);
    return rc < 0 ? 1 : rc;
}
