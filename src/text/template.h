/* template.h - chat templates: a Jinja interpreter without I/O, with budgets, that remembers where its output came from.
 * The subset and its semantics are those of Python's jinja2 as transformers sets it up (ImmutableSandboxedEnvironment,
 * trim_blocks, lstrip_blocks, loopcontrols, tojson without HTML escapes, lenient undefined).
 * A compiled template is read-only: any thread may render it. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "text/tokenizer.h"      /* bm_span */

typedef struct bm_template bm_template;

/* Compile source[0..len). Errors: "line L, column C: what". */
int  bm_template_compile(bm_template **out, const char *source, size_t len, bm_error *err);
/* The same in the environment of lm-evaluation-harness: StrictUndefined, the last newline is kept, no trim_blocks and no
 * lstrip_blocks, a filter regex_replace(pattern, repl, count=0). Rendering passes nothing but options.vars. */
int  bm_template_compile_plain(bm_template **out, const char *source, size_t len, bm_error *err);
void bm_template_free(bm_template *tmpl);

typedef struct bm_render_options {
    const json_t *messages;          /* array of {"role", "content", ...}; strings and keys in it are message text, but a "role"
                                        of the known names ("user", ...) is template text: templates build markers from it */
    const json_t *tools;             /* array or NULL */
    const json_t *vars;              /* object of further names (chat_template_kwargs), or NULL */
    const char *bos_token, *eos_token;   /* NULL: undefined in the template */
    bool add_generation_prompt;
    int64_t now_s;                   /* for strftime_now, seconds since 1970 as local wall time; 0: the clock's */
    size_t max_steps;                /* 0: 10 million */
    size_t max_output_bytes;         /* 0: 64 MiB; memory in all is at most 256 MiB, nesting 1200 levels (512 KiB of stack) */
} bm_render_options;

typedef struct bm_rendered {
    char *text;                      /* NUL-terminated */
    size_t len;
    bm_span *spans;                  /* cover text; message >= 0 where the bytes came from messages[message] (tools: BM_SPAN_TOOLS) */
    size_t n_spans;
    bm_span *generation;             /* what stood inside {% generation %}; message is the number of the block */
    size_t n_generation;
} bm_rendered;
enum { BM_SPAN_TEMPLATE = -1, BM_SPAN_TOOLS = 1 << 30, BM_SPAN_VARS = (1 << 30) + 1 };   /* only TEMPLATE is trusted */

/* Errors: BM_INVALID for raise_exception (its own words) and run-time errors ("line L, column C: what"), BM_LIMIT for a budget. */
int  bm_template_render(const bm_template *tmpl, const bm_render_options *options, bm_rendered *out, bm_error *err);
void bm_rendered_done(bm_rendered *r);
/* Whether the source mentions a name as a variable ("enable_thinking", "tools"): what kwargs it understands. */
bool bm_template_mentions(const bm_template *tmpl, const char *name);
