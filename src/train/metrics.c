/* metrics.c - see metrics.h. */
#include "train/metrics.h"

#include <math.h>

static void number(bm_json *j, const char *key, double x)
{
    if (!isnan(x))
        bm_json_kdouble(j, key, x);
}

static void count(bm_json *j, const char *key, double x) { bm_json_kdouble(j, key, round(x * 100) / 100); }

void bm_train_event_json(bm_json *j, const bm_train_event *e)
{
    bm_json_kint(j, "step", e->step);
    if (e->what == BM_TRAIN_VALID) {
        bm_json_kdouble(j, "valid_loss", e->loss);
        bm_json_kint(j, "valid_tokens", e->tokens);
        number(j, "valid_margin", e->margin);
        number(j, "valid_accuracy", e->accuracy);
        return;
    }
    bm_json_kint(j, "n_steps", e->n_steps);
    if (e->what != BM_TRAIN_STEP)
        return;
    bm_json_kdouble(j, "epoch", round(e->epoch * 1e4) / 1e4);
    bm_json_kdouble(j, "loss", e->loss);
    number(j, "margin", e->margin);
    number(j, "accuracy", e->accuracy);
    bm_json_kdouble(j, "lr", e->lr);
    bm_json_kdouble(j, "grad_norm", e->grad_norm);
    bm_json_kint(j, "tokens", e->tokens);
    count(j, "tokens_per_s", e->tokens_per_s);
    count(j, "time_left_s", e->time_left_s);
    bm_json_kint(j, "peak_memory_bytes", e->peak_memory_bytes);
}

void bm_train_event_line(bm_buf *out, const bm_train_event *e)
{
    bm_json j = { out, false };

    if (e->what != BM_TRAIN_STEP && e->what != BM_TRAIN_VALID)
        return;
    bm_json_open(&j, '{');
    bm_train_event_json(&j, e);
    bm_json_close(&j, '}');
    bm_buf_putc(out, '\n');
}

/* ---- the curve ---- */

enum { WIDTH = 720, HEIGHT = 360, LEFT = 56, RIGHT = 16, TOP = 36, BOTTOM = 40, N_TICKS = 5 };

typedef struct frame { double x_max, y_min, y_max; } frame;

static double x_of(const frame *f, int64_t step) { return LEFT + (double)step / f->x_max * (WIDTH - LEFT - RIGHT); }
static double y_of(const frame *f, double loss) { return TOP + (f->y_max - loss) / (f->y_max - f->y_min) * (HEIGHT - TOP - BOTTOM); }

static frame frame_of(const bm_train_event *history, size_t n)
{
    frame f = { .x_max = 1, .y_min = INFINITY, .y_max = -INFINITY };

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(history[i].loss) || (history[i].what != BM_TRAIN_STEP && history[i].what != BM_TRAIN_VALID))
            continue;
        f.x_max = fmax(f.x_max, (double)history[i].step);
        f.y_min = fmin(f.y_min, history[i].loss);
        f.y_max = fmax(f.y_max, history[i].loss);
    }
    if (!(f.y_min <= f.y_max))
        f.y_min = 0, f.y_max = 1;
    double room = fmax(0.05 * (f.y_max - f.y_min), 1e-3);
    f.y_min = f.y_min > 0 && f.y_min < room ? 0 : f.y_min - room;
    f.y_max += room;
    return f;
}

static void put_axes(bm_buf *out, const frame *f)
{
    for (int i = 0; i <= N_TICKS; i++) {
        double loss = f->y_min + (f->y_max - f->y_min) * i / N_TICKS, y = y_of(f, loss);
        int64_t step = (int64_t)llround(f->x_max * i / N_TICKS);
        bm_buf_printf(out, "<path d='M%d %.1fH%d' stroke='#ddd'/><text x='%d' y='%.1f' text-anchor='end'>%.3g</text>"
                      "<text x='%.1f' y='%d' text-anchor='middle'>%lld</text>\n", LEFT, y, WIDTH - RIGHT, LEFT - 6, y + 4, loss,
                      x_of(f, step), HEIGHT - BOTTOM + 18, (long long)step);
    }
    bm_buf_printf(out, "<text x='%d' y='%d' text-anchor='middle'>step</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
}

/* weight 1: as it is; less: an exponential mean, divided by what its start lacks. */
static void put_line(bm_buf *out, const frame *f, const bm_train_event *history, size_t n, double weight, const char *style)
{
    double mean = 0, mass = 0;
    char command = 'M';

    bm_buf_printf(out, "<path fill='none' %s d='", style);
    for (size_t i = 0; i < n; i++) {
        if (history[i].what != BM_TRAIN_STEP || !isfinite(history[i].loss))
            continue;
        mean += weight * (history[i].loss - mean);
        mass += weight * (1 - mass);
        bm_buf_printf(out, "%c%.1f %.1f", command, x_of(f, history[i].step), y_of(f, mean / mass));
        command = 'L';
    }
    bm_buf_puts(out, "'/>\n");
}

static void put_text(bm_buf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '<' || *s == '>' || *s == '&' || (unsigned char)*s < 0x20)
            bm_buf_printf(out, "&#%d;", (unsigned char)*s < 0x20 ? ' ' : *s);
        else
            bm_buf_putc(out, *s);
    }
}

void bm_train_curve_svg(bm_buf *out, const char *title, const bm_train_event *history, size_t n)
{
    frame f = frame_of(history, n);

    bm_buf_printf(out, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' font-family='sans-serif' font-size='12'>\n"
                  "<rect width='%d' height='%d' fill='white'/><text x='%d' y='20' font-size='14'>", WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT);
    put_text(out, title);
    bm_buf_puts(out, "</text>\n");
    put_axes(out, &f);
    put_line(out, &f, history, n, 1, "stroke='#9bbfe0'");
    put_line(out, &f, history, n, 0.1, "stroke='#1f5f9e' stroke-width='2'");
    for (size_t i = 0; i < n; i++)
        if (history[i].what == BM_TRAIN_VALID && isfinite(history[i].loss))
            bm_buf_printf(out, "<circle cx='%.1f' cy='%.1f' r='4' fill='#c8501e'/>\n", x_of(&f, history[i].step),
                          y_of(&f, history[i].loss));
    bm_buf_printf(out, "<text x='%d' y='20' text-anchor='end'><tspan fill='#1f5f9e'>training</tspan> "
                  "<tspan fill='#c8501e'>validation</tspan></text>\n</svg>\n", WIDTH - RIGHT);
}
