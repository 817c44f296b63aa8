/* reasoning.c - splits a reply into reasoning and content, byte by byte.
 * An opening tag counts only where nothing but white space stands before it, so that content may speak of tags; what follows
 * the closing tag is content to the end. Held back are at most a run of white space and the start of a tag. */
#include "text/reasoning.h"

#include <string.h>

enum { START, OPENED, REASONING, CLOSED, CONTENT };
enum { HELD_BLANKS = 12 };               /* with the longest tag they fill `held`; of a longer run before a tag, this much counts as around it */

static const char *const tags[][2] = {
    { "<think>", "</think>" }, { "[THINK]", "[/THINK]" }, { "<seed:think>", "</seed:think>" }, { "<thinking>", "</thinking>" },
    { "<reasoning>", "</reasoning>" }, { "<|START_THINKING|>", "<|END_THINKING|>" }
};

void bm_reasoning_init(bm_reasoning *r, const char *template_source, bool inside)
{
    memset(r, 0, sizeof *r);
    for (size_t i = 0; i < sizeof tags / sizeof *tags && r->open == NULL && template_source != NULL; i++)
        if (strstr(template_source, tags[i][0]) != NULL || strstr(template_source, tags[i][1]) != NULL)
            r->open = tags[i][0], r->close = tags[i][1];
    if (inside && r->open == NULL)
        r->open = tags[0][0], r->close = tags[0][1];
    r->state = r->open == NULL ? CONTENT : inside ? OPENED : START;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void drop(bm_reasoning *r, size_t n)
{
    r->n_held -= n;
    memmove(r->held, r->held + n, r->n_held);
}

/* How the held bytes look: 1 white space and then all of tag, 0 so far only the beginning of that, -1 something else. */
static int look(const bm_reasoning *r, const char *tag)
{
    size_t blanks = 0, rest, len = strlen(tag);

    while (blanks < r->n_held && is_blank(r->held[blanks]))
        blanks++;
    rest = r->n_held - blanks;
    if (rest > len || memcmp(r->held + blanks, tag, rest) != 0)
        return -1;
    return rest == len;
}

static bool too_many_blanks(const bm_reasoning *r)
{
    for (size_t i = 0; i <= HELD_BLANKS; i++)
        if (i >= r->n_held || !is_blank(r->held[i]))
            return false;
    return true;
}

/* Give away what is certain: bytes from the front, until the rest may still become white space and a tag. */
static void settle(bm_reasoning *r, const char *tag, bm_buf *to)
{
    int seen;

    while ((seen = look(r, tag)) < 0 || (seen == 0 && too_many_blanks(r))) {
        bm_buf_add(to, r->held, 1);
        drop(r, 1);
        if (r->state == START && seen < 0) {
            bm_buf_add(to, r->held, r->n_held);
            r->n_held = 0;
            r->state = CONTENT;
        }
    }
    if (seen == 1) {
        r->n_held = 0;
        r->state = r->state == START ? OPENED : CLOSED;
    }
}

void bm_reasoning_feed(bm_reasoning *r, const char *bytes, size_t len, bm_buf *reasoning, bm_buf *content)
{
    for (size_t i = 0; i < len; i++) {
        if (r->state == CONTENT) {
            bm_buf_add(content, bytes + i, len - i);
            return;
        }
        if ((r->state == OPENED || r->state == CLOSED) && is_blank(bytes[i]))
            continue;
        if (r->state == CLOSED) {
            r->state = CONTENT;
            bm_buf_add(content, bytes + i, len - i);
            return;
        }
        if (r->state == OPENED)
            r->state = REASONING;
        r->held[r->n_held++] = bytes[i];
        settle(r, r->state == START ? r->open : r->close, r->state == START ? content : reasoning);
    }
}

void bm_reasoning_finish(bm_reasoning *r, bm_buf *reasoning, bm_buf *content)
{
    bm_buf_add(r->state == REASONING ? reasoning : content, r->held, r->n_held);
    r->n_held = 0;
}
