/* mask.c - rendering and tokenising as the server does (engine/backend.c), and the loss mask from where the bytes came from. */
#include "train/mask.h"

#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

enum {
    FEW_BYTES = 8,               /* fewer that agree say nothing */
    MOST_UNKNOWN = 4096          /* bytes of unknown characters that are looked through */
};

/* What the clock of a template says: 2024-07-26, as Llama 3's does without one. A run that is repeated or resumed on another day must
 * see the same tokens. */
static const int64_t template_clock_s = 1721952000;

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a row"); }

/* ---- what is the same for all rows ---- */

static char *token_text(const bm_tokenizer *tok, int32_t id)
{
    bm_buf buf = { 0 };

    if (id >= 0)
        bm_tokenizer_piece(tok, id, true, false, &buf);
    return buf.len > 0 ? bm_buf_take(&buf) : (bm_buf_done(&buf), NULL);
}

static int render(const bm_masker *m, const json_t *messages, const json_t *tools, bool open, bm_rendered *out, bm_error *err)
{
    bm_render_options o = { .messages = messages, .tools = tools, .bos_token = m->bos, .eos_token = m->eos,
                            .add_generation_prompt = open, .now_s = template_clock_s };

    return bm_template_render(m->tmpl, &o, out, err);
}

/* The end of the last span of a message, or 0. */
static size_t last_end(const bm_rendered *r)
{
    for (size_t i = r->n_spans; i-- > 0;)
        if (r->spans[i].message >= 0)
            return r->spans[i].end;
    return 0;
}

/* What opens an answer, from a conversation of one word: what add_generation_prompt adds, or, where a template does not know it, all
 * that stands behind the word. A template that fails on it or hides the word leaves it unknown. */
static int find_opening(bm_masker *m, bm_error *err)
{
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "x");
    bm_rendered open = { 0 }, plain = { 0 };
    int rc = messages == NULL ? no_memory(err) : render(m, messages, NULL, true, &open, err);

    if (rc == 0 && (rc = render(m, messages, NULL, false, &plain, err)) == 0 && last_end(&open) > 0) {
        size_t from = last_end(&open);
        if (plain.len < open.len && memcmp(plain.text, open.text, plain.len) == 0)
            from = plain.len;
        m->opening_len = open.len - from;
        m->opening = bm_strndup(open.text + from, m->opening_len);
        rc = m->opening == NULL ? no_memory(err) : 0;
    }
    bm_rendered_done(&open);
    bm_rendered_done(&plain);
    json_decref(messages);
    return rc == BM_NOMEM ? rc : 0;
}

int bm_masker_init(bm_masker *m, const bm_tokenizer *tokenizer, const bm_template *tmpl, bm_error *err)
{
    *m = (bm_masker){ .tokenizer = tokenizer, .tmpl = tmpl };
    m->bos = token_text(tokenizer, bm_tokenizer_bos(tokenizer));
    m->eos = token_text(tokenizer, bm_tokenizer_eos(tokenizer));
    if (tmpl == NULL)
        return 0;
    m->knows_tools = bm_template_mentions(tmpl, "tools");
    return find_opening(m, err);
}

void bm_masker_done(bm_masker *m)
{
    bm_free(m->bos);
    bm_free(m->eos);
    bm_free(m->opening);
    memset(m, 0, sizeof *m);
}

void bm_masked_done(bm_masked *m)
{
    bm_tokens_done(&m->tokens);
    bm_free(m->target);
    bm_free(m->ends);
    memset(m, 0, sizeof *m);
}

/* ---- where each token ends ---- */

static int reserve(bm_masked *m, bm_error *err)
{
    size_t n = m->tokens.n + 1, cap = m->cap == 0 ? 1024 : m->cap;

    if (n <= m->cap)
        return 0;
    while (cap < n)
        cap *= 2;
    uint8_t *target = bm_realloc(m->target, cap);
    if (target != NULL)
        m->target = target;
    size_t *ends = bm_realloc(m->ends, cap * sizeof *ends);
    if (ends != NULL)
        m->ends = ends;
    if (target == NULL || ends == NULL)
        return no_memory(err);
    m->cap = cap;
    return 0;
}

static bool fits(const char *text, size_t len, size_t at, const char *piece, size_t n)
{
    return n <= len - at && memcmp(text + at, piece, n) == 0;
}

/* Tokens' bytes are the text's, one behind the other, but for a space that SentencePiece put in and blanks that a control token
 * swallows. SIZE_MAX: they are not here. */
static size_t align_one(const char *text, size_t len, size_t at, const char *piece, size_t n)
{
    size_t skip = at;

    if (fits(text, len, at, piece, n))
        return at + n;
    if (n > 0 && piece[0] == ' ' && fits(text, len, at, piece + 1, n - 1))
        return at + n - 1;
    while (skip < len && strchr(" \t\r\n", text[skip]) != NULL && text[skip] != '\0')
        if (fits(text, len, ++skip, piece, n))
            return skip + n;
    return SIZE_MAX;
}

/* An unknown token stands for a run of characters that the vocabulary does not have: up to where the next token begins, which is one of
 * a character that it has; or one character when that is not near. */
static size_t align_unknown(const bm_masker *m, const char *text, size_t len, size_t at, const int32_t *next, bm_buf *piece)
{
    size_t first = len, end = at;
    uint32_t cp;

    bm_buf_clear(piece);
    if (next == NULL)
        return len;
    bm_tokenizer_piece(m->tokenizer, *next, true, false, piece);
    while (end < len && end - at < MOST_UNKNOWN) {
        int step = bm_utf8_decode(text + end, len - end, &cp);
        end += (size_t)(step < 0 ? -step : step);
        first = first == len ? end : first;
        if (piece->len > 0 && fits(text, len, end, piece->data, piece->len))
            return end;
    }
    return first;
}

static int align(const bm_masker *m, const char *text, size_t len, bm_masked *out, bm_error *err)
{
    bm_buf piece = { 0 };
    const bm_tokens *tokens = &out->tokens;
    size_t at = 0, there;
    bool bos = tokens->n > 0 && tokens->ids[0] == bm_tokenizer_bos(m->tokenizer);

    for (size_t t = 0; t < tokens->n && !piece.failed; t++) {
        bm_buf_clear(&piece);
        bm_tokenizer_piece(m->tokenizer, tokens->ids[t], true, false, &piece);
        const char *bytes = piece.len > 0 ? piece.data : "";
        if (t > 0 || !bos || fits(text, len, 0, bytes, piece.len)) {     /* a BOS that the text does not bring has no bytes */
            there = align_one(text, len, at, bytes, piece.len);
            at = there != SIZE_MAX ? there
                                   : align_unknown(m, text, len, at, t + 1 < tokens->n ? &tokens->ids[t + 1] : NULL, &piece);
        }
        out->ends[t] = at;
    }
    int rc = piece.failed ? no_memory(err) : 0;
    bm_buf_done(&piece);
    return rc;
}

/* BOS where the vocabulary wants one and the text does not bring it, then the text; as the server. */
static int encode(const bm_masker *m, const char *text, size_t len, const bm_encode_options *options, bm_masked *out, bm_error *err)
{
    int32_t bos = bm_tokenizer_bos(m->tokenizer);
    int rc = 0;

    out->tokens.n = 0;
    if (bm_tokenizer_adds_bos(m->tokenizer) && bos >= 0 && !(m->bos != NULL && fits(text, len, 0, m->bos, strlen(m->bos))))
        rc = bm_tokens_add(&out->tokens, bos, err);
    if (rc == 0)
        rc = bm_tokenizer_encode(m->tokenizer, text, len, options, &out->tokens, err);
    if (rc < 0 || (rc = reserve(out, err)) < 0)
        return rc;
    memset(out->target, 0, out->tokens.n);
    return align(m, text, len, out, err);
}

/* ---- which tokens ---- */

/* Mark the tokens with a byte in [begin, end), starting the search at token *t, and leave *t behind them. */
static void mark(bm_masked *m, size_t begin, size_t end, size_t *t)
{
    size_t n = m->tokens.n;

    while (*t > 0 && m->ends[*t - 1] > begin)
        --*t;
    while (*t < n && m->ends[*t] <= begin)
        ++*t;
    for (size_t from; *t < n && (from = *t > 0 ? m->ends[*t - 1] : 0) < end; ++*t)
        m->target[*t] = m->ends[*t] > from;
}

/* Where the first token that ends a generation ends, of those that begin in [begin, limit): there the model would stop. Without one the
 * turn ends with its last byte. Control tokens are the template's: no content can end a turn. */
static size_t turn_end(const bm_masker *m, const bm_masked *out, size_t t, size_t begin, size_t last, size_t limit, bool *found)
{
    *found = false;
    while (t > 0 && out->ends[t - 1] > begin)
        t--;
    for (size_t from; t < out->tokens.n && (from = t > 0 ? out->ends[t - 1] : 0) < limit; t++)
        if (from >= begin && out->ends[t] > from && bm_tokenizer_is_eog(m->tokenizer, out->tokens.ids[t])) {
            *found = true;
            return out->ends[t];
        }
    return last;
}

static size_t common_prefix(const char *a, const char *b, size_t n)
{
    size_t i = 0;

    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* Where the text of the turn parts from the prompt that the server would make of what stands before it: behind the opening, or as much of
 * it as the template wrote (it may open a thought there that this turn does not have), somewhere in text[from, to). Where not even
 * half of it is to be found, the turn begins with its first byte, at `to`. */
static size_t turn_begin(const bm_masker *m, const bm_rendered *r, size_t from, size_t to)
{
    size_t best = 1, begin = to;

    for (size_t at = from; at < to && m->opening != NULL; at++) {
        size_t room = to - at < m->opening_len ? to - at : m->opening_len;
        size_t n = common_prefix(r->text + at, m->opening, room);
        if (n >= best && (n == m->opening_len || (n >= FEW_BYTES && 2 * n >= m->opening_len)))
            best = n, begin = at + n;
    }
    return begin;
}

/* Of each message: the first and last byte that the text has of it before another's follows, and what of others stands next before
 * and behind. (Some templates write the name of a called tool once more beside its answer.) */
typedef struct extent { size_t begin, end, before, behind; bool written, closed; } extent;

static void find_extents(const bm_rendered *r, extent *e, size_t n)
{
    size_t before = 0, last = n;

    for (size_t i = 0; i < r->n_spans; i++) {
        const bm_span *s = &r->spans[i];
        if (s->message < 0)
            continue;
        size_t number = (size_t)s->message < n ? (size_t)s->message : n;         /* e[n]: tools and variables */
        if (last != number && e[last].written && !e[last].closed) {
            e[last].behind = s->begin;
            e[last].closed = true;
        }
        if (!e[number].written)
            e[number] = (extent){ .begin = s->begin, .before = before, .behind = r->len, .written = true };
        if (!e[number].closed)
            e[number].end = s->end;
        before = s->end;
        last = number;
    }
}

static bool carries_loss(const json_t *message, size_t i, const bm_example_side *side)
{
    const json_t *weight = json_object_get(message, "weight");

    return i >= side->from && strcmp(json_string_value(json_object_get(message, "role")), "assistant") == 0 &&
           !(json_is_number(weight) && json_number_value(weight) == 0);
}

static int mark_turns(const bm_masker *m, const bm_example_side *side, const bm_rendered *r, bm_masked *out, bm_error *err)
{
    size_t n = json_array_size(side->messages), t = 0, i;
    extent *e = bm_calloc(n + 1, sizeof *e);
    json_t *message;
    int rc = 0;

    if (e == NULL)
        return no_memory(err);
    find_extents(r, e, n);
    json_array_foreach(side->messages, i, message) {
        const char *role = json_string_value(json_object_get(message, "role"));
        if (!e[i].written && strcmp(role, "system") != 0 &&
            (json_string_length(json_object_get(message, "content")) > 0 || json_object_get(message, "tool_calls") != NULL)) {
            rc = bm_fail(err, BM_INVALID, "message %zu (%s): the model's chat template writes nothing of it", i + 1, role);
            break;
        }
        if (!e[i].written || !carries_loss(message, i, side))
            continue;
        size_t begin = turn_begin(m, r, e[i].before, e[i].begin);
        mark(out, begin, turn_end(m, out, t, begin, e[i].end, e[i].behind, &out->ends_turn), &t);
    }
    bm_free(e);
    return rc;
}

/* {% generation %} blocks: the template's own word, but for turns that are not to be learnt. */
static void mark_blocks(const bm_masker *m, const bm_example_side *side, const bm_rendered *r, bm_masked *out)
{
    size_t t = 0, span = 0;

    for (size_t i = 0; i < r->n_generation; i++) {
        const bm_span *block = &r->generation[i];
        bool learn = true;
        while (span < r->n_spans && r->spans[span].end <= block->begin)
            span++;
        for (; span < r->n_spans && r->spans[span].begin < block->end; span++) {
            const json_t *message = json_array_get(side->messages, (size_t)r->spans[span].message);
            if (r->spans[span].message >= 0 && message != NULL)
                learn = carries_loss(message, (size_t)r->spans[span].message, side);
        }
        if (learn)
            mark(out, block->begin, block->end, &t);
    }
    for (t = out->tokens.n; t > 0 && out->target[t - 1] == 0;)
        t--;
    out->ends_turn = t > 0 && bm_tokenizer_is_eog(m->tokenizer, out->tokens.ids[t - 1]);
}

/* ---- the two kinds ---- */

static int mask_chat(const bm_masker *m, const bm_example_side *side, const json_t *tools, bm_masked *out, bm_error *err)
{
    bm_rendered r = { 0 };
    int rc;

    if (m->tmpl == NULL)
        return bm_fail(err, BM_INVALID, "a chat, and the model has no chat template");
    if (tools != NULL && !m->knows_tools)
        return bm_fail(err, BM_INVALID, "has tools, and the model's chat template does not write them");
    if ((rc = render(m, side->messages, tools, false, &r, err)) < 0) {
        bm_wrap(err, "the model's chat template");
        return rc == BM_NOMEM ? rc : BM_INVALID;
    }
    bm_encode_options options = { .spans = r.spans, .n_spans = r.n_spans };
    if ((rc = encode(m, r.text, r.len, &options, out, err)) == 0) {
        if (r.n_generation > 0)
            mark_blocks(m, side, &r, out);
        else
            rc = mark_turns(m, side, &r, out, err);
    }
    bm_rendered_done(&r);
    return rc;
}

static int mask_text(const bm_masker *m, const bm_example_side *side, bm_masked *out, bm_error *err)
{
    const bm_encode_options options = { .parse_special = true };
    const char *text = json_string_value(side->text);
    size_t len = json_string_length(side->text), t = 0;
    int32_t eos = bm_tokenizer_eos(m->tokenizer);
    int rc;

    if ((rc = encode(m, text, len, &options, out, err)) < 0)
        return rc;
    mark(out, side->loss_from, len, &t);
    size_t n = out->tokens.n;
    out->ends_turn = n > 0 && bm_tokenizer_is_eog(m->tokenizer, out->tokens.ids[n - 1]);
    if (out->ends_turn || eos < 0)
        return 0;
    if ((rc = bm_tokens_add(&out->tokens, eos, err)) < 0 || (rc = reserve(out, err)) < 0)
        return rc;
    out->ends[n] = len;
    out->target[n] = 1;
    out->ends_turn = true;
    return 0;
}

int bm_mask_side(const bm_masker *m, const bm_example_side *side, const json_t *tools, bm_masked *out, bm_error *err)
{
    int rc;

    out->n_targets = 0;
    out->ends_turn = false;
    if ((rc = side->messages != NULL ? mask_chat(m, side, tools, out, err) : mask_text(m, side, out, err)) < 0)
        return rc;
    if (out->tokens.n > 0)
        out->target[0] = 0;                                      /* nothing stands before it that could predict it */
    for (size_t t = 0; t < out->tokens.n; t++)
        out->n_targets += out->target[t];
    return out->n_targets > 0 ? 0 : bm_fail(err, BM_INVALID, "no token carries the loss");
}
