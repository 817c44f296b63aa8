/* optimizer.c - see optimizer.h. */
#include "train/optimizer.h"
#include "base/mem.h"

#include <math.h>

enum { CHUNK = 1 << 14, NORM_BLOCKS = 256, LANES = 8 };

int bm_adamw_init(bm_adamw *o, size_t n, double weight_decay, bm_error *err)
{
    *o = (bm_adamw){ .n = n, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = weight_decay };
    o->m = bm_calloc(n, sizeof *o->m);
    o->v = bm_calloc(n, sizeof *o->v);
    if (o->m == NULL || o->v == NULL) {
        bm_adamw_done(o);
        return bm_fail(err, BM_NOMEM, "no memory for the optimiser's moments of %zu parameters", n);
    }
    return 0;
}

void bm_adamw_done(bm_adamw *o)
{
    bm_free(o->m);
    bm_free(o->v);
    *o = (bm_adamw){ 0 };
}

typedef struct update {
    bm_adamw *o;
    float *values, *grads;
    float scale, keep, weight1, beta2, weight2, step, root2, eps;
} update;

/* Scalars are computed in f64 and rounded once, as torch's kernels get them. */
static void update_range(const update *u, size_t begin, size_t end)
{
    float *restrict m = u->o->m, *restrict v = u->o->v, *restrict x = u->values, *restrict grads = u->grads;

    for (size_t i = begin; i < end; i++) {
        float g = grads[i] * u->scale;
        m[i] = m[i] + u->weight1 * (g - m[i]);
        v[i] = v[i] * u->beta2 + u->weight2 * g * g;
        float denominator = sqrtf(v[i]) / u->root2 + u->eps;
        x[i] = x[i] * u->keep - u->step * (m[i] / denominator);
        grads[i] = 0;
    }
}

static void update_worker(bm_worker *w, void *arg)
{
    const update *u = arg;
    size_t begin, end;

    while (bm_worker_claim(w, u->o->n, CHUNK, &begin, &end))
        update_range(u, begin, end);
}

void bm_adamw_step(bm_adamw *o, bm_team *team, float *values, float *grads, float grad_scale, double lr)
{
    o->t++;
    double correction1 = 1 - pow(o->beta1, (double)o->t), correction2 = 1 - pow(o->beta2, (double)o->t);
    update u = { .o = o, .values = values, .grads = grads, .scale = grad_scale,
                 .keep = (float)(1 - lr * o->weight_decay), .weight1 = (float)(1 - o->beta1), .beta2 = (float)o->beta2,
                 .weight2 = (float)(1 - o->beta2), .step = (float)(lr / correction1), .root2 = (float)sqrt(correction2),
                 .eps = (float)o->eps };

    bm_team_run(team, update_worker, &u);
}

typedef struct norm_job {
    const float *grads;
    size_t n;
    double sums[NORM_BLOCKS];
} norm_job;

static double sum_squares(const float *x, size_t n)
{
    double lanes[LANES] = { 0 }, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += (double)x[i + (size_t)l] * (double)x[i + (size_t)l];
    for (; i < n; i++)
        lanes[0] += (double)x[i] * (double)x[i];
    for (int l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

static void norm_worker(bm_worker *w, void *arg)
{
    norm_job *j = arg;
    size_t begin, end, block = (j->n + NORM_BLOCKS - 1) / NORM_BLOCKS;

    while (bm_worker_claim(w, NORM_BLOCKS, 1, &begin, &end))
        for (size_t b = begin; b < end; b++) {
            size_t from = b * block < j->n ? b * block : j->n, to = from + block < j->n ? from + block : j->n;
            j->sums[b] = sum_squares(j->grads + from, to - from);
        }
}

double bm_grad_norm(bm_team *team, const float *grads, size_t n)
{
    norm_job j = { .grads = grads, .n = n };
    double sum = 0;

    bm_team_run(team, norm_worker, &j);
    for (int b = 0; b < NORM_BLOCKS; b++)
        sum += j.sums[b];
    return sqrt(sum);
}

float bm_clip_scale(double norm, double max_norm)
{
    double scale = max_norm / (norm + 1e-6);

    return max_norm > 0 && scale < 1 ? (float)scale : 1;
}

const char *bm_decay_name(bm_decay decay)
{
    static const char *const names[] = { "cosine", "linear", "constant" };

    return names[decay];
}

double bm_lr_at(bm_decay decay, double lr, int64_t step, int64_t n_warmup, int64_t n_steps)
{
    int64_t rest = n_steps - n_warmup > 1 ? n_steps - n_warmup : 1;
    double share;

    if (step < n_warmup)
        return lr * ((double)step / (double)n_warmup);
    switch (decay) {
    case BM_DECAY_COSINE:
        share = 0.5 * (1 + cos(acos(-1) * 2 * 0.5 * ((double)(step - n_warmup) / (double)rest)));
        break;
    case BM_DECAY_LINEAR:
        share = (double)(n_steps - step) / (double)rest;
        break;
    default:
        share = 1;
    }
    return lr * (share > 0 ? share : 0);
}
