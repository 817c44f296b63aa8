/* progress.c - see progress.h. */
#include "cli/progress.h"
#include "base/clock.h"
#include "cli/cli.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR = 30 };
static const int64_t redraw_ns = 100000000;

void cli_progress_start(cli_progress *p, const char *what)
{
    *p = (cli_progress){ .what = what, .quiet = p->quiet, .terminal = isatty(STDERR_FILENO) != 0, .started_ns = bm_now_ns() };
}

static void draw(cli_progress *p, uint64_t done)
{
    int64_t now = bm_now_ns();
    char size[24], rate[24], bar[BAR + 1];
    double part = p->total == 0 ? 1 : (double)done / (double)p->total, seconds = (double)(now - p->started_ns) / 1e9;

    if (p->drawn && now - p->drawn_ns < redraw_ns && done < p->total)
        return;
    p->drawn = true;
    p->drawn_ns = now;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < part * BAR ? '#' : '.';
    bar[BAR] = '\0';
    cli_size_text(size, p->total);
    cli_size_text(rate, seconds > 0 ? (uint64_t)((double)done / seconds) : 0);
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%% of %s, %s/s", p->what, bar, part * 100, size, rate);
    fflush(stderr);
}

int cli_progress_hash(void *arg, uint64_t done, uint64_t total)
{
    cli_progress *p = arg;

    p->total = total;
    if (p->terminal && !p->quiet)
        draw(p, done);
    return 0;
}

bool cli_progress_load(void *arg, uint64_t done, uint64_t total) { return cli_progress_hash(arg, done, total) == 0; }

void cli_progress_done(cli_progress *p)
{
    char size[24];

    if (p->quiet)
        return;
    if (p->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    } else if (!p->terminal && p->total > 0) {
        cli_size_text(size, p->total);
        fprintf(stderr, "%s: %s in %.1f s\n", p->what, size, (double)(bm_now_ns() - p->started_ns) / 1e9);
    }
}
