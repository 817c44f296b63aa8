/* test_optimizer.c - AdamW, clipping and schedules against torch and transformers (tests/oracle/train/gen_optimizer.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "oracle/train/optimizer_vectors.h"
#include "train/optimizer.h"

static bm_team *team_of(int n)
{
    bm_team *team;
    bm_error err;

    assert_int_equal(bm_team_new(&team, n, &err), 0);
    return team;
}

/* Two roundings of f32 more or less than torch's vectorised kernels, per step. */
static void steps_equal_those_of_torch_adamw(void **state)
{
    bm_team *team = team_of(2);
    bm_error err;
    bm_adamw o;
    float x[VECTOR_N], g[VECTOR_N];

    (void)state;
    assert_int_equal(bm_adamw_init(&o, VECTOR_N, vector_decay, &err), 0);
    memcpy(x, vector_start, sizeof x);
    for (int s = 0; s < VECTOR_STEPS; s++) {
        memcpy(g, vector_grads[s], sizeof g);
        double norm = bm_grad_norm(team, g, VECTOR_N);
        assert_true(fabs(norm - vector_norms[s]) <= 1e-6 * norm);
        bm_adamw_step(&o, team, x, g, bm_clip_scale(norm, vector_clip),
                      bm_lr_at(BM_DECAY_COSINE, vector_lr, s, VECTOR_WARMUP, VECTOR_STEPS));
        for (int i = 0; i < VECTOR_N; i++) {
            if (fabsf(x[i] - vector_after[s][i]) > 1e-6f * fmaxf(1, fabsf(x[i])))
                fail_msg("step %d value %d: %.9g, torch has %.9g", s, i, (double)x[i], (double)vector_after[s][i]);
            assert_true(g[i] == 0);
        }
    }
    assert_int_equal(o.t, VECTOR_STEPS);
    bm_adamw_done(&o);
    bm_team_free(team);
}

static void schedules_equal_those_of_transformers(void **state)
{
    static const struct { bm_decay decay; const double *want; } rows[] = {
        { BM_DECAY_COSINE, schedule_cosine }, { BM_DECAY_LINEAR, schedule_linear }, { BM_DECAY_CONSTANT, schedule_constant } };

    (void)state;
    for (size_t r = 0; r < 3; r++)
        for (int s = 0; s < SCHEDULE_STEPS; s++)
            if (fabs(bm_lr_at(rows[r].decay, 1, s, SCHEDULE_WARMUP, SCHEDULE_STEPS) - rows[r].want[s]) > 1e-15)
                fail_msg("%s, step %d", bm_decay_name(rows[r].decay), s);
}

static void small_gradients_are_not_scaled(void **state)
{
    (void)state;
    assert_true(bm_clip_scale(0.5, 1) == 1);
    assert_true(bm_clip_scale(100, 0) == 1);
    assert_true(bm_clip_scale(2, 1) < 0.5f + 1e-6f && bm_clip_scale(2, 1) > 0.4999f);
}

static void bits_do_not_depend_on_the_team(void **state)
{
    enum { N = 100003 };
    float *values[2], *grads = malloc(N * sizeof *grads);
    double norms[2];
    bm_error err;

    (void)state;
    for (int k = 0; k < 2; k++) {
        bm_team *team = team_of(k == 0 ? 1 : 3);
        bm_adamw o;
        values[k] = calloc(N, sizeof(float));
        assert_int_equal(bm_adamw_init(&o, N, 0.01, &err), 0);
        for (int s = 0; s < 3; s++) {
            for (int i = 0; i < N; i++)
                grads[i] = (float)((i * 7919 + s * 104729) % 1000 - 500) * 1e-3f;
            norms[k] = bm_grad_norm(team, grads, N);
            bm_adamw_step(&o, team, values[k], grads, bm_clip_scale(norms[k], 1), 1e-2);
        }
        bm_adamw_done(&o);
        bm_team_free(team);
    }
    assert_memory_equal(&norms[0], &norms[1], sizeof norms[0]);
    assert_memory_equal(values[0], values[1], N * sizeof(float));
    assert_true(values[0][1] != 0);
    free(values[0]);
    free(values[1]);
    free(grads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_those_of_torch_adamw),
        cmocka_unit_test(schedules_equal_those_of_transformers),
        cmocka_unit_test(small_gradients_are_not_scaled),
        cmocka_unit_test(bits_do_not_depend_on_the_team),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
