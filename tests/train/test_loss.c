/* test_loss.c - DPO against torch's autograd (tests/oracle/train/gen_dpo.py), and sums over segments. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "oracle/train/dpo_vectors.h"
#include "train/loss.h"

static void dpo_equals_that_of_torch(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dpo_vectors / sizeof *dpo_vectors; i++) {
        bm_dpo d = bm_dpo_of(dpo_vectors[i].beta, (bm_pair_nll){ dpo_vectors[i].policy[0], dpo_vectors[i].policy[1] },
                             (bm_pair_nll){ dpo_vectors[i].reference[0], dpo_vectors[i].reference[1] });
        if (!(fabs(d.loss - dpo_vectors[i].loss) <= 1e-12 * fmax(1, d.loss)) || !(fabs(d.margin - dpo_vectors[i].margin) <= 1e-9) ||
            !(fabs(d.slope - dpo_vectors[i].slope) <= 1e-12))
            fail_msg("case %zu: loss %.17g margin %.17g slope %.17g", i, d.loss, d.margin, d.slope);
    }
}

static void a_segment_sums_its_own_targets(void **state)
{
    static const int32_t starts[] = { 0, 3 };
    static const uint8_t target[] = { 0, 1, 1, 0, 0, 1 };
    static const double nll[] = { 9, 1, 2, 9, 9, 4 };
    bm_train_row row = { .n_tokens = 6, .starts = starts, .n_segments = 2, .target = target };
    float coef[6] = { 0 };

    (void)state;
    assert_true(bm_segment_nll(&row, 0, nll) == 3 && bm_segment_nll(&row, 1, nll) == 4);
    bm_segment_coef(&row, 1, 0.5f, coef);
    assert_true(coef[2] == 0 && coef[3] == 0.5f && coef[5] == 0.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(dpo_equals_that_of_torch), cmocka_unit_test(a_segment_sums_its_own_targets) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
