/* share.c - what a sequence takes over instead of computing it, and what it gives. It takes whole pages of the prefix cache,
 * then a copy of the part that fits of one more page, of the cache or of a neighbour that is still filling it; and it waits
 * while a neighbour that came earlier computes what it needs too. It gives each whole page as soon as it is computed, and the
 * one that it leaves unfinished when it ends.
 * Engine thread, with the cache lock held. */
#include <string.h>
#include "engine/engine_internal.h"

/* Tokens. Waiting for fewer costs more than computing them, as a step passes; a patient request only has the copy of a page to
 * weigh. A neighbour's page is copied at once, before the step, so it must hold some more than the cache's. */
enum { WAIT_MIN = 16, PATIENT_MIN = 4, NEIGHBOUR_MIN = 4 };

/* ---- pages of one sequence ---- */

void bm_seq_drop_pages(bm_seq *seq, int g, int32_t end)
{
    bm_loaded *model = seq->gen->loaded;

    for (; seq->page_begin[g] < end; seq->page_begin[g]++) {
        int32_t i = seq->page_begin[g];
        if (i < seq->n_path)
            bm_prefix_release_page(&model->prefix, seq->path[i], g);
        else
            bm_kv_drop(&model->pools[g], seq->pages[g][i]);
        seq->pages[g][i] = NULL;
    }
}

static void let_go_source(bm_seq *seq)
{
    bm_loaded *model = seq->gen->loaded;

    for (int g = 0; g < model->info.n_groups && seq->source >= 0; g++)
        bm_prefix_release_page(&model->prefix, seq->source, g);
    if (seq->source >= 0)
        bm_prefix_release(&model->prefix, seq->source);
    seq->source = -1;
}

void bm_seq_let_go(bm_seq *seq)
{
    bm_loaded *model = seq->gen->loaded;

    for (int g = 0; g < model->info.n_groups; g++) {
        bm_seq_drop_pages(seq, g, seq->page_end[g]);
        seq->page_begin[g] = seq->page_end[g] = 0;
    }
    let_go_source(seq);
    while (seq->n_path > 0)
        bm_prefix_release(&model->prefix, seq->path[--seq->n_path]);
    seq->pos = 0;
}

/* KV that is final: the last token's is not computed yet, and behind it may stand what a wrong draft left. */
static int32_t computed(const bm_seq *seq)
{
    return seq->n_generated > 0 && seq->pos >= seq->n_tokens ? seq->n_tokens - 1 : seq->pos;
}

void bm_seq_commit(bm_seq *seq)
{
    bm_loaded *model = seq->gen->loaded;
    int32_t n = computed(seq) / BM_PAGE_TOKENS;

    while (seq->n_path < n) {
        int32_t i = seq->n_path, parent = i > 0 ? seq->path[i - 1] : -1;
        int32_t node = bm_prefix_add(&model->prefix, parent, &seq->gen->space, seq->tokens + i * BM_PAGE_TOKENS);
        if (node < 0)
            return;                          /* all nodes are held; another time */
        seq->path[seq->n_path++] = node;
        for (int g = 0; g < model->info.n_groups; g++)
            if (i >= seq->page_begin[g])
                seq->pages[g][i] = bm_prefix_give_page(&model->prefix, node, g, seq->pages[g][i]);
    }
}

/* The page that it was filling stays for who begins with the same tokens; one that another choice holds too stays with that. Of
 * patient requests, which are many and short, what they have in common stays already where they copied it from: a page of each
 * would be fresh memory, and clearing that costs more than computing its few tokens. */
void bm_seq_keep_part(bm_seq *seq)
{
    bm_loaded *model = seq->gen->loaded;
    int n_groups = model->info.n_groups;
    int32_t n = computed(seq), i = n / BM_PAGE_TOKENS;
    void *pages[BM_MAX_KV_GROUPS];

    if (n % BM_PAGE_TOKENS == 0 || i != seq->n_path || seq->gen->space.lone != 0 || seq->source >= 0 ||
        (seq->gen->request.patient && seq->copied == i))
        return;
    for (int g = 0; g < n_groups; g++) {
        if (i < seq->page_begin[g] || bm_kv_shared(&model->pools[g], seq->pages[g][i]))
            return;
        pages[g] = seq->pages[g][i];
    }
    if (!bm_prefix_add_part(&model->prefix, i > 0 ? seq->path[i - 1] : -1, &seq->gen->space, seq->tokens + i * BM_PAGE_TOKENS,
                            n % BM_PAGE_TOKENS, pages))
        return;
    for (int g = 0; g < n_groups; g++) {
        while (seq->page_end[g] > i + 1)     /* taken ahead */
            bm_kv_drop(&model->pools[g], seq->pages[g][--seq->page_end[g]]);
        seq->page_end[g] = i;
    }
}

/* The prompt is computed: the other choices hold the same pages; who writes to the last one first copies it (take_pages). */
void bm_gen_fork(bm_gen *gen)
{
    bm_seq *first = &gen->seqs[0];
    bm_loaded *model = gen->loaded;

    gen->forked = true;
    if (gen->request.n_choices > 1)
        bm_seq_commit(first);
    for (int c = 1; c < gen->request.n_choices; c++) {
        bm_seq *seq = &gen->seqs[c];
        seq->pos = first->pos;
        seq->state = BM_SEQ_DECODE;
        seq->n_path = first->n_path;
        for (int32_t i = 0; i < first->n_path; i++)
            bm_prefix_hold(&model->prefix, seq->path[i] = first->path[i]);
        for (int g = 0; g < model->info.n_groups; g++) {
            seq->page_begin[g] = first->page_begin[g];
            seq->page_end[g] = first->page_end[g];
            for (int32_t p = seq->page_begin[g]; p < seq->page_end[g]; p++) {
                seq->pages[g][p] = first->pages[g][p];
                if (p < seq->n_path)
                    bm_prefix_hold_page(&model->prefix, seq->path[p], g);
                else
                    bm_kv_ref(&model->pools[g], seq->pages[g][p]);
            }
        }
    }
}

/* ---- taking over ---- */

typedef struct find {
    int32_t end;                 /* positions that can be taken over */
    int32_t part;                /* the node, or the neighbour, that holds those of the last partial page */
    const bm_seq *neighbour;
} find;

static int32_t common_tokens(const bm_seq *a, const bm_seq *b, int32_t from, int32_t end)
{
    while (from < end && a->tokens[from] == b->tokens[from])
        from++;
    return from;
}

static bool same_space(const bm_gen *a, const bm_gen *b)
{
    return a->loaded == b->loaded && memcmp(&a->space, &b->space, sizeof a->space) == 0;
}

/* The last token is always computed: its logits are wanted. So is what stands before a prompt token whose log-probability is. */
static int32_t most_taken(const bm_seq *seq)
{
    const bm_gen *gen = seq->gen;

    if (gen->request.prompt_logprobs && gen->n_prompt_events < (int32_t)gen->request.n_prompt)
        return gen->n_prompt_events - 1;
    return seq->n_tokens - 1;
}

/* A sequence on the same path with more of page n than *end says. */
static const bm_seq *best_neighbour(const bm_engine *e, const bm_seq *seq, int32_t n, int32_t *end)
{
    const bm_seq *best = NULL;
    int32_t begin = n * BM_PAGE_TOKENS, most = most_taken(seq) < begin + BM_PAGE_TOKENS ? most_taken(seq) : begin + BM_PAGE_TOKENS;

    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; same_space(e->active[i], seq->gen) && c < e->active[i]->request.n_choices; c++) {
            const bm_seq *s = &e->active[i]->seqs[c];
            bool whole = s != seq && s->source < 0 && s->page_end[0] > n && computed(s) > *end && s->n_path >= n &&
                         (n == 0 || s->path[n - 1] == seq->path[n - 1]);
            for (int g = 0; whole && g < seq->gen->loaded->info.n_groups; g++)
                whole = s->pages[g][n] != NULL;
            int32_t to = !whole ? 0 : common_tokens(seq, s, begin, computed(s) < most ? computed(s) : most);
            if (to > *end)
                best = s, *end = to;
        }
    return best;
}

/* Longest first; the candidate path is written into seq->path behind what is held. */
static find look(const bm_engine *e, bm_seq *seq, bool with_part)
{
    const bm_prefix *t = &seq->gen->loaded->prefix;
    int32_t n = seq->n_path, child, len = 0;
    int32_t node = n > 0 ? seq->path[n - 1] : bm_prefix_root(t, &seq->gen->space);
    find f = { 0, -1, NULL };

    for (; (n + 1) * BM_PAGE_TOKENS <= most_taken(seq); n++) {
        if ((child = bm_prefix_find(t, node, seq->tokens + n * BM_PAGE_TOKENS)) < 0)
            break;
        seq->path[n] = node = child;
    }
    f.end = n * BM_PAGE_TOKENS;
    if (with_part && f.end < most_taken(seq)) {
        f.part = bm_prefix_part(t, node, seq->tokens + f.end, most_taken(seq) - f.end, &len);
        f.end += len;
        int32_t end = f.end + (f.part >= 0 ? NEIGHBOUR_MIN : 0);
        if ((f.neighbour = best_neighbour(e, seq, n, &end)) != NULL)
            f.part = -1, f.end = end;
        if (bm_prefix_whole(t, seq->path, f.end, f.part))
            return f;
        f = (find){ n * BM_PAGE_TOKENS, -1, NULL };
    }
    while (f.end > seq->n_path * BM_PAGE_TOKENS && !bm_prefix_whole(t, seq->path, f.end, -1))
        f.end -= BM_PAGE_TOKENS;
    return f;
}

/* A private copy of the page that holds positions up to f->end; without room for it there is none. Of a node it is made when
 * the sequence computes on (bm_seqs_copy): until then the node is held. What stands behind them in the copy is of another
 * sequence: finite, and masked like the zeros of a fresh page until it is written. */
static void copy_part(bm_engine *e, bm_seq *seq, const find *f)
{
    bm_loaded *model = seq->gen->loaded;
    int n_groups = model->info.n_groups;
    int32_t n = f->end / BM_PAGE_TOKENS;

    if (f->part >= 0)
        bm_prefix_hold(&model->prefix, seq->source = f->part);
    for (int g = 0; g < n_groups && f->part >= 0; g++)
        bm_prefix_hold_page(&model->prefix, f->part, g);
    if (!bm_kv_make_room(e, model)) {
        let_go_source(seq);
        return;
    }
    for (int g = 0; g < n_groups; g++) {
        seq->pages[g][n] = bm_kv_take_raw(&model->pools[g]);
        if (f->neighbour != NULL)
            memcpy(seq->pages[g][n], f->neighbour->pages[g][n], model->pools[g].page_bytes);
        seq->page_end[g] = n + 1;
    }
    seq->pos = f->end;
    seq->copied = n;
}

typedef struct copy_job { bm_seq **seqs; int n; } copy_job;

static void copy_pages(bm_worker *w, void *arg)
{
    copy_job *job = arg;
    size_t begin, end;

    while (bm_worker_claim(w, (size_t)job->n, 1, &begin, &end))
        for (; begin < end; begin++) {
            bm_seq *seq = job->seqs[begin];
            bm_loaded *model = seq->gen->loaded;
            for (int g = 0; g < model->info.n_groups && seq->source >= 0; g++)
                memcpy(seq->pages[g][seq->copied], model->prefix.nodes[seq->source].slots[g].page, model->pools[g].page_bytes);
        }
}

void bm_seqs_copy(bm_engine *e, bm_seq **seqs, int n)
{
    copy_job job = { seqs, n };
    int n_copies = 0;

    for (int i = 0; i < n; i++)
        n_copies += seqs[i]->source >= 0;
    if (n_copies > 0)
        bm_team_run(e->team, copy_pages, &job);
    for (int i = 0; i < n; i++)
        let_go_source(seqs[i]);
}

static void take_over(bm_engine *e, bm_seq *seq, const find *f)
{
    bm_loaded *model = seq->gen->loaded;
    int32_t n = f->end / BM_PAGE_TOKENS;

    for (int32_t i = seq->n_path; i < n; i++)
        bm_prefix_hold(&model->prefix, seq->path[i]);
    seq->n_path = n;
    for (int g = 0; g < model->info.n_groups; g++) {
        int32_t window = model->info.groups[g].window;
        int32_t begin = window > 0 && f->end - window + 1 > 0 ? (f->end - window + 1) / BM_PAGE_TOKENS : 0;
        bm_seq_drop_pages(seq, g, begin < seq->page_end[g] ? begin : seq->page_end[g]);
        if (seq->page_begin[g] < begin)
            seq->page_begin[g] = seq->page_end[g] = begin;
        for (; seq->page_end[g] < n; seq->page_end[g]++)
            seq->pages[g][seq->page_end[g]] = bm_prefix_hold_page(&model->prefix, seq->path[seq->page_end[g]], g);
    }
    seq->pos = n * BM_PAGE_TOKENS;
    if (f->end > seq->pos)
        copy_part(e, seq, f);
}

/* An earlier sequence that is computing more of what seq needs than it could take over now; *common is how far that goes.
 * One that waits itself is no leader: when it goes on, seq looks again. */
static bm_seq *find_leader(bm_engine *e, bm_seq *seq, int32_t have, int32_t *common)
{
    bm_seq *leader = NULL;

    *common = have + (seq->gen->request.patient ? PATIENT_MIN : WAIT_MIN) - 1;
    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; c < e->active[i]->request.n_choices; c++) {
            bm_seq *s = &e->active[i]->seqs[c];
            if (s == seq)
                return leader;
            if (s->state != BM_SEQ_PREFILL || s->leader != NULL || !same_space(s->gen, seq->gen))
                continue;
            int32_t n = common_tokens(seq, s, 0, most_taken(seq) < s->n_tokens ? most_taken(seq) : s->n_tokens);
            if (n > *common && n > s->pos)
                leader = s, *common = n;
        }
    return leader;
}

static bool may_take(const bm_seq *seq)
{
    return seq->pos == seq->n_path * BM_PAGE_TOKENS && seq->page_end[0] == seq->n_path && seq->pos < most_taken(seq);
}

static void look_around(bm_engine *e, bm_seq *seq)
{
    bm_gen *gen = seq->gen;

    if (!seq->looked)
        seq->copied = -1;
    seq->looked = true;
    seq->leader = NULL;
    if (!may_take(seq))
        return;
    find f = look(e, seq, true);
    seq->leader = find_leader(e, seq, f.end, &seq->common);
    if (seq->leader != NULL)
        f = look(e, seq, false);
    if (f.end > seq->pos)
        take_over(e, seq, &f);
    if (seq->choice == 0 && !gen->preempted) {
        e->new_cached += (uint64_t)(seq->pos - gen->usage.cached_tokens);
        gen->usage.cached_tokens = seq->pos;
    }
}

void bm_seats_look_around(bm_engine *e)
{
    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; c < e->active[i]->request.n_choices; c++) {
            bm_seq *seq = &e->active[i]->seqs[c];
            if (seq->state != BM_SEQ_PREFILL)
                continue;
            if (!seq->looked || (seq->leader != NULL && (e->seats_changed || seq->leader->pos >= seq->common)))
                look_around(e, seq);
        }
    e->seats_changed = false;
}

/* It will not compute what they wait for: those who wait for it take what there is, and go on themselves. */
void bm_seats_hand_over(bm_engine *e, const bm_seq *seq)
{
    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; c < e->active[i]->request.n_choices; c++)
            if (e->active[i]->seqs[c].state == BM_SEQ_PREFILL && e->active[i]->seqs[c].leader == seq)
                look_around(e, &e->active[i]->seqs[c]);
}

int32_t bm_seq_busy_pages(bm_seq *seq)
{
    const bm_prefix *t = &seq->gen->loaded->prefix;
    int32_t n = may_take(seq) ? look(seq->gen->engine, seq, false).end / BM_PAGE_TOKENS : 0, busy = 0;

    while (busy < n && t->nodes[seq->path[busy]].users > 0)
        busy++;
    return busy;
}
