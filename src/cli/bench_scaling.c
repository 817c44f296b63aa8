/* bench_scaling.c - `baimo bench --scaling`: what keeps a step from scaling with the threads, so far as few CPUs can show it.
 * Three kinds of steps on 1 to N threads and on 16, which need no 16 CPUs: barriers are counted, work is measured in CPU time of
 * the threads, and the balance on 16 is that of the measured chunks handed in order to 16 workers (compute/team_profile.c).
 * Bandwidth, caches and the cost of a barrier among many sockets are not in it: "speed-up" is a bound from above. */
#include "cli/bench.h"
#include "base/clock.h"

#include <stdio.h>

enum { MANY = 16, PROMPT = 512, STEPS = 24, SEQUENCES = 16 };

typedef struct scaling_case {
    const char *name, *label;
    int prompt, gen, parallel;   /* prompt 0: decoding is what is looked at */
} scaling_case;

static const scaling_case cases[] = {
    { "prefill512", "prefill of 512", PROMPT, 0, 1 },
    { "parallel16", "16 sequences", 0, STEPS / 2, SEQUENCES },
    { "decode1", "one sequence", 0, STEPS, 1 },
};

bench_settings bench_scaling_room(const bench_settings *o)
{
    bench_settings room = *o;

    room.prompt = PROMPT, room.gen = STEPS, room.depth = 0, room.parallel = SEQUENCES, room.repeat = 1;
    return room;
}

int bench_scaling_threads(int n_threads) { return n_threads > MANY ? n_threads : MANY; }

typedef struct scaling_row {
    const scaling_case *what;
    int n_threads;
    double step_s, serial_s, own_s, wait_s, barriers, runs, speedup;     /* of a step */
} scaling_row;

static int run_case(bench *b, const scaling_case *what, bm_error *err)
{
    return what->gen > 0 ? bench_decode(b, what->gen, err) : bench_prefill(b, what->prompt, true, err);
}

static int measure(bench *b, const scaling_case *what, scaling_row *row, bm_error *err)
{
    bench_settings o = *b->o;
    const bench_settings *room = b->o;
    bm_team_profile p;
    int rc;

    o.prompt = what->prompt, o.gen = what->gen, o.parallel = what->parallel;
    b->o = &o;
    bench_reset(b, 1);
    if ((rc = run_case(b, what, err)) == 0 && (rc = bm_team_profile_start(b->team, err)) == 0) {
        bench_reset(b, 2);
        int64_t begin = bm_now_ns();
        rc = run_case(b, what, err);
        double all = (double)(bm_now_ns() - begin) * 1e-9, outside;
        bm_team_profile_take(b->team, &p);
        outside = all > p.run_s ? all - p.run_s : 0;
        double n = what->gen > 0 ? what->gen : (what->prompt + BENCH_STEP_TOKENS - 1) / BENCH_STEP_TOKENS;
        *row = (scaling_row){ what, bm_team_size(b->team), all / n, (outside + p.lone_s) / n, p.own_s / n, p.wait_s / n, (double)p.barriers / n,
                              (double)p.runs / n, (outside + p.own_s + p.claimed_s) / (outside + p.ideal_s) };
    }
    b->o = room;
    return rc;
}

static int print(const bench *b, const scaling_row *r)
{
    double layers = b->info->n_layers, waiting = r->wait_s / (r->step_s * r->n_threads), serial = r->serial_s / r->step_s;

    if (b->o->json)
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "model", b->name, "case",
                                        r->what->name, "label", r->what->label, "threads", r->n_threads, "layers", b->info->n_layers,
                                        "step_ms", r->step_s * 1e3, "serial_share", serial, "repeated_ms", r->own_s * 1e3, "wait_share", waiting, "barriers_per_step",
                                        r->barriers, "barriers_per_layer", r->barriers / layers, "runs_per_step", r->runs,
                                        "speedup", r->speedup));
    printf("%-14s %7d %9.3f %8.2f%% %9.3f %8.1f%% %9.0f %9.1f %8.2f\n", r->what->label, r->n_threads, r->step_s * 1e3, serial * 100,
           r->own_s * 1e3, waiting * 100, r->barriers, r->barriers / layers, r->speedup);
    return 0;
}

static int with_threads(bench *b, int n, bm_error *err)
{
    scaling_row row;
    int rc;

    bm_team_free(b->team);
    b->team = NULL;
    rc = bm_team_new(&b->team, n, err);
    for (size_t c = 0; c < sizeof cases / sizeof *cases && rc == 0; c++)
        if ((rc = measure(b, &cases[c], &row, err)) == 0)
            rc = print(b, &row);
    return rc;
}

int bench_scaling(bench *b, bm_error *err)
{
    int n_threads = bm_team_size(b->team), rc = 0;

    if (!b->o->json) {
        cli_print_safe(b->name);
        printf(", %s, %s, %d CPUs\n%-14s %7s %9s %9s %9s %9s %9s %9s %8s\n", bm_isa_name(b->isa), b->cpu.model, b->cpu.n_logical, "step",
               "threads", "ms", "serial", "each, ms", "waiting", "barriers", "per layer", "speed-up");
    }
    for (int n = 1; n < n_threads && rc == 0; n *= 2)
        rc = with_threads(b, n, err);
    if (rc == 0)
        rc = with_threads(b, n_threads, err);
    return rc == 0 && n_threads < MANY ? with_threads(b, MANY, err) : rc;
}
