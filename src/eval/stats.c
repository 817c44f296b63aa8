/* stats.c - aggregation of values, standard errors, paired comparison; see stats.h. */
#include "eval/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/pyrandom.h"

static const struct { const char *name; bool bootstrap; } kinds[BM_SCORE_KINDS] = {
    [BM_SCORE_MEAN] = { "mean", false },
    [BM_SCORE_NANMEAN] = { "nanmean", true },
    [BM_SCORE_MEDIAN] = { "median", true },
    [BM_SCORE_PERPLEXITY] = { "perplexity", true },
    [BM_SCORE_WEIGHTED_PERPLEXITY] = { "weighted_perplexity", false },
    [BM_SCORE_BITS_PER_BYTE] = { "bits_per_byte", false },
    [BM_SCORE_BRIER] = { "brier_score", false },
    [BM_SCORE_F1] = { "f1", true },
    [BM_SCORE_MCC] = { "matthews_corrcoef", true },
    [BM_SCORE_BYPASS] = { "bypass", false },
};

int bm_score_kind_find(const char *name)
{
    for (int i = 0; i < BM_SCORE_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return i;
    return -1;
}

const char *bm_score_kind_name(bm_score_kind how) { return kinds[how].name; }

/* ---- scores ---- */

static double sum_a(const bm_value *v, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += v[i].a;
    return sum;
}

static double sum_b(const bm_value *v, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += v[i].b;
    return sum;
}

static double nan_mean(const bm_value *v, size_t n)
{
    double sum = 0;
    size_t counted = 0;

    for (size_t i = 0; i < n; i++)
        if (!isnan(v[i].a)) {
            sum += v[i].a;
            counted++;
        }
    return counted > 0 ? sum / (double)counted : NAN;
}

static int compare_doubles(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;

    return (a > b) - (a < b);
}

static double median(const bm_value *v, size_t n)
{
    double *sorted = bm_malloc(n * sizeof *sorted), middle;

    if (sorted == NULL)
        return NAN;
    for (size_t i = 0; i < n; i++)
        sorted[i] = v[i].a;
    qsort(sorted, n, sizeof *sorted, compare_doubles);
    middle = sorted[n / 2];
    bm_free(sorted);
    return middle;
}

/* Of class 1, as scikit-learn's f1_score; 0 where nothing is of it. */
static double f1(const bm_value *v, size_t n)
{
    size_t hits = 0, gold = 0, predicted = 0;

    for (size_t i = 0; i < n; i++) {
        hits += v[i].a == 1 && v[i].b == 1;
        gold += v[i].a == 1;
        predicted += v[i].b == 1;
    }
    return gold + predicted > 0 ? 2.0 * (double)hits / (double)(gold + predicted) : 0;
}

/* Matthews' coefficient for any number of classes: (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2)(s^2 - sum t_k^2)) (Gorodkin 2004).
 * A class is counted where it occurs first, in either column. */
static double mcc(const bm_value *v, size_t n)
{
    double hits = 0, cross = 0, gold2 = 0, predicted2 = 0, s = (double)n;

    for (size_t i = 0; i < 2 * n; i++) {
        double class = i < n ? v[i].a : v[i - n].b, gold = 0, predicted = 0;
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = (j < n ? v[j].a : v[j - n].b) == class;
        for (size_t j = 0; j < n && !seen; j++) {
            gold += v[j].a == class;
            predicted += v[j].b == class;
            hits += v[j].a == class && v[j].b == class;
        }
        cross += gold * predicted, gold2 += gold * gold, predicted2 += predicted * predicted;
    }
    double under = (s * s - predicted2) * (s * s - gold2);
    return under > 0 ? (hits * s - cross) / sqrt(under) : 0;
}

double bm_score(bm_score_kind how, const bm_value *v, size_t n)
{
    if (n == 0)
        return NAN;
    switch (how) {
    case BM_SCORE_MEAN: case BM_SCORE_BRIER: return sum_a(v, n) / (double)n;
    case BM_SCORE_NANMEAN: return nan_mean(v, n);
    case BM_SCORE_MEDIAN: return median(v, n);
    case BM_SCORE_PERPLEXITY: return exp(-sum_a(v, n) / (double)n);
    case BM_SCORE_WEIGHTED_PERPLEXITY: return exp(-sum_a(v, n) / sum_b(v, n));
    case BM_SCORE_BITS_PER_BYTE: return -sum_a(v, n) / sum_b(v, n) / log(2);
    case BM_SCORE_F1: return f1(v, n);
    case BM_SCORE_MCC: return mcc(v, n);
    case BM_SCORE_BYPASS: return 999;
    case BM_SCORE_KINDS: break;
    }
    return NAN;
}

/* ---- standard errors ---- */

/* sqrt(sum (x - mean)^2 / (n - 1)) */
static double sample_deviation(const double *x, size_t n)
{
    double mean = 0, sum = 0;

    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

static int bootstrap(bm_score_kind how, const bm_value *v, size_t n, int iterations, double *out)
{
    int chunk = iterations < 1000 ? iterations : 1000, n_chunks = iterations / chunk;
    bm_value *drawn = bm_calloc(n, sizeof *drawn);
    double *scores = bm_calloc((size_t)iterations, sizeof *scores);
    bm_pyrandom rng;
    size_t at = 0;
    int rc = -1;

    if (drawn == NULL || scores == NULL)
        goto out;
    for (int i = 0; i < n_chunks; i++) {
        bm_pyrandom_seed(&rng, (uint64_t)i);
        for (int j = 0; j < chunk; j++) {
            for (size_t k = 0; k < n; k++)
                drawn[k] = v[(size_t)floor(bm_pyrandom_unit(&rng) * (double)n)];
            scores[at++] = bm_score(how, drawn, n);
        }
    }
    *out = at > 1 ? sample_deviation(scores, at) : NAN;
    rc = 0;
out:
    bm_free(drawn);
    bm_free(scores);
    return rc;
}

int bm_score_error(bm_score_kind how, const bm_value *v, size_t n, int iterations, double *out)
{
    *out = NAN;
    if (n < 2 || iterations <= 0)
        return 0;
    if (kinds[how].bootstrap)
        return bootstrap(how, v, n, iterations, out);
    if (how != BM_SCORE_MEAN)
        return 0;
    double mean = sum_a(v, n) / (double)n, sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (v[i].a - mean) * (v[i].a - mean);
    *out = sqrt(sum / (double)(n - 1)) / sqrt((double)n);
    return 0;
}

/* ---- groups ---- */

double bm_group_mean(const double *scores, const size_t *sizes, size_t n, bool weight_by_size)
{
    double sum = 0, weights = 0;

    for (size_t i = 0; i < n; i++) {
        double weight = weight_by_size ? (double)sizes[i] : 1;
        sum += scores[i] * weight;
        weights += weight;
    }
    return sum / weights;
}

/* Weighted: from the pooled variance of the documents; alike: of a mean of independent means. */
double bm_group_stderr(const double *stderrs, const size_t *sizes, size_t n, bool weight_by_size)
{
    double sum = 0, total = 0;

    for (size_t i = 0; i < n; i++) {
        double size = (double)sizes[i], square = stderrs[i] * stderrs[i];
        sum += weight_by_size ? (size - 1) * square * size : square;
        total += size;
    }
    return weight_by_size ? sqrt(sum / (total - (double)n) / total) : sqrt(sum) / (double)n;
}

/* ---- paired comparison ---- */

/* The continued fraction of the incomplete beta function (Numerical Recipes 6.4, by Lentz's method). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1, d = 1 - (a + b) * x / (a + 1), h;

    d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
    h = d;
    for (int m = 1; m <= 10000; m++) {
        double step = 1;
        for (int odd = 0; odd < 2; odd++) {
            double term = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                              : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
            c = fabs(c) < 1e-300 ? 1e-300 : c;
            step = d * c;
            h *= step;
        }
        if (fabs(step - 1) < 1e-15)
            break;
    }
    return h;
}

/* The regularised incomplete beta function I_x(a, b). */
static double beta_share(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double bm_student_p(double t, double df)
{
    return beta_share(df / 2, 0.5, df / (df + t * t));
}

double bm_student_t(double p, double df)
{
    double low = 0, high = 1;

    while (bm_student_p(high, df) > p && high < 1e12)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-13 * high; i++) {
        double middle = (low + high) / 2;
        if (bm_student_p(middle, df) > p)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

bm_paired bm_paired_compare(const double *a, const double *b, size_t n)
{
    bm_paired r = { .n = n, .mean = NAN, .std_error = NAN, .low = NAN, .high = NAN, .p = NAN };
    double sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        r.n_better += a[i] > b[i];
        r.n_worse += a[i] < b[i];
        sum += a[i] - b[i];
    }
    if (n > 0)
        r.mean = sum / (double)n;
    if (n < 2)
        return r;
    for (size_t i = 0; i < n; i++)
        squares += (a[i] - b[i] - r.mean) * (a[i] - b[i] - r.mean);
    r.std_error = sqrt(squares / (double)(n - 1) / (double)n);
    double reach = bm_student_t(0.05, (double)(n - 1)) * r.std_error;
    r.low = r.mean - reach;
    r.high = r.mean + reach;
    r.p = r.std_error > 0 ? bm_student_p(r.mean / r.std_error, (double)(n - 1)) : r.mean == 0 ? 1 : 0;
    return r;
}
