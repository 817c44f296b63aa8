/* jinja.h - what the files of the template interpreter share: values, strings that know their source, the run, the calls.
 * Private to src/text/jinja_*.c and template.c. Values live in an arena: the template's (constants, read-only after compile)
 * or the run's (everything else); nothing is freed one by one. A function that returns bool has filled the run's error when
 * it returns false. Python is the reference: where a comment says "Python", CPython 3.11 with jinja2 3.1.6 is meant. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/mem.h"
#include "text/template.h"

enum {
    BM_J_MAX_DEPTH = 1200,            /* nested evaluations, statements, containers: bounds the C stack */
    BM_J_MAX_PARSE_DEPTH = 400,
    BM_J_MAX_SOURCE = 1 << 20,        /* bytes of template; the largest published one has 17 thousand */
    BM_J_MAX_RANGE = 100000           /* as jinja2's sandbox */
};

typedef enum bm_jtype {
    BM_J_MISSING,                     /* all-zero: no value at all (an argument not given, a slot not set) */
    BM_J_UNDEF, BM_J_NONE, BM_J_BOOL, BM_J_INT, BM_J_FLOAT, BM_J_STR, BM_J_LIST, BM_J_TUPLE, BM_J_DICT, BM_J_RANGE,
    BM_J_VIEW,                        /* dict.keys(), .values(), .items() */
    BM_J_ITER,                        /* a generator's rest: always true, no length, consumed by reading */
    BM_J_NAMESPACE, BM_J_MACRO, BM_J_LOOP, BM_J_CYCLER, BM_J_JOINER, BM_J_FUNC, BM_J_METHOD
} bm_jtype;

typedef struct bm_jstr bm_jstr;
typedef struct bm_jlist bm_jlist;
typedef struct bm_jdict bm_jdict;
typedef struct bm_jrange bm_jrange;
typedef struct bm_jview bm_jview;
typedef struct bm_jgen bm_jgen;
typedef struct bm_jmacro bm_jmacro;
typedef struct bm_jloop bm_jloop;
typedef struct bm_jcycler bm_jcycler;
typedef struct bm_jundef bm_jundef;
typedef struct bm_jmethod bm_jmethod;
typedef struct bm_jdef bm_jdef;
typedef struct bm_jrun bm_jrun;
typedef struct bm_jnode bm_jnode;
typedef struct bm_jframe bm_jframe;
typedef struct bm_jenv bm_jenv;

typedef struct bm_jval {
    bm_jtype type;
    union {
        bool b;
        int64_t i;
        double f;
        bm_jstr *s;
        bm_jlist *list;               /* LIST, TUPLE */
        bm_jdict *dict;               /* DICT, NAMESPACE */
        bm_jrange *range;
        bm_jview *view;
        bm_jgen *gen;
        bm_jmacro *macro;
        bm_jloop *loop;
        bm_jcycler *cycler;           /* CYCLER, JOINER */
        bm_jundef *undef;
        const bm_jdef *func;
        bm_jmethod *method;
    };
} bm_jval;

/* Bytes up to `end` come from `src` (BM_SPAN_TEMPLATE, BM_SPAN_TOOLS, BM_SPAN_VARS or the number of a message). */
typedef struct bm_jpiece { size_t end; int src; } bm_jpiece;

/* A string is flat (data != NULL) or a rope of two; bm_jstr_flat makes it flat in place. */
struct bm_jstr {
    const char *data;
    size_t len;
    size_t n_chars;                   /* code points; SIZE_MAX: not counted yet */
    bm_jstr *left, *right;
    const bm_jpiece *pieces;          /* when flat and of more than one source */
    size_t n_pieces;
    int src;                          /* when n_pieces == 0 */
    bool markup;                      /* came out of |safe or |escape: + and join escape what is added */
};

struct bm_jlist { size_t n, cap; bm_jval *items; bool group; };      /* group: a pair made by groupby, with names */
typedef struct bm_jentry { bm_jval key, value; uint64_t hash; } bm_jentry;
struct bm_jdict { size_t n, cap; bm_jentry *entries; uint32_t *index; size_t n_index; };   /* in order of insertion */
struct bm_jrange { int64_t start, stop, step, n; };
enum { BM_J_KEYS, BM_J_VALUES, BM_J_ITEMS };
struct bm_jview { bm_jdict *dict; int kind; };
struct bm_jgen { bm_jlist *list; size_t pos; };
struct bm_jcycler { bm_jlist *items; bm_jval sep; size_t pos; };
struct bm_jundef { const char *hint; bm_jval obj; bm_jstr *name; bm_jval key; bool lenient; };    /* lenient: even in a plain template */
struct bm_jmacro { const bm_jnode *node; bm_jenv *env; };          /* env: where it was defined */

/* A builder of strings; the first failure sticks in the run, and finish gives NULL then. */
typedef struct bm_jsb {
    bm_jrun *run;
    char *data;
    size_t len, cap, limit;           /* limit 0: only the run's memory */
    bm_jpiece *pieces;
    size_t n_pieces, cap_pieces;
} bm_jsb;

/* Arguments of a call as written, and as bound to a definition's parameters. */
typedef struct bm_jargs { const bm_jval *pos; size_t n; const bm_jdict *kw; } bm_jargs;
enum { BM_J_MAX_PARAMS = 6 };
typedef struct bm_jcall {
    bm_jval self;
    bm_jval a[BM_J_MAX_PARAMS];       /* by the spec; MISSING when not given */
    const bm_jargs *args;
} bm_jcall;
typedef bool bm_jfn(bm_jrun *r, const bm_jcall *c, bm_jval *out);
/* spec: parameter names by commas, "=" after those that may be missing, "/" first when names may not be used; NULL: fn reads args. */
struct bm_jdef { const char *name, *spec; bm_jfn *fn; };
struct bm_jmethod { bm_jval self; const bm_jdef *def; };

typedef struct bm_jiter { bm_jval of; size_t pos; } bm_jiter;

struct bm_jrun {
    const bm_template *tmpl;
    bm_arena arena;
    bm_error *err;
    int rc;                           /* 0, or what the run failed with */
    uint32_t err_pos;                 /* byte in the source; UINT32_MAX: none yet */
    bool plain;                       /* the template's: StrictUndefined */
    bool bare;                        /* raise_exception's own words: no position in front */
    size_t steps, max_steps;
    int depth;
    bm_jsb out;
    size_t root_len;                  /* bytes of out outside every capture */
    int n_captures;
    bm_jval *context;                 /* by name id; MISSING: not looked up yet */
    bm_jdict *vars;                   /* what the caller passes, by name */
    bm_jenv *root;
    bm_span *generation;
    size_t n_generation, cap_generation;
    bm_jval block_text;               /* what the filters of a filter block begin with */
    int64_t now_s;
};

/* The slots of one entry into a frame. */
struct bm_jenv { bm_jenv *parent; const bm_jframe *frame; bm_jval *slots; };

/* jinja_run.c: memory, budgets, errors */
void *bm_jrun_alloc(bm_jrun *r, size_t n, size_t size);             /* zeroed; NULL: failed */
bool  bm_jrun_step(bm_jrun *r, size_t n);                           /* spend n steps */
bool  bm_jrun_enter(bm_jrun *r);                                    /* one level deeper; leave() undoes also after a failure */
static inline void bm_jrun_leave(bm_jrun *r) { r->depth--; }
bool  bm_jrun_fail(bm_jrun *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));         /* BM_INVALID; false */
bool  bm_jrun_fail_code(bm_jrun *r, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* jinja_string.c */
bm_jstr *bm_jstr_borrow(bm_jrun *r, const char *data, size_t len, int src);   /* data must outlive the run */
bm_jstr *bm_jstr_copy(bm_jrun *r, const char *data, size_t len, int src);
bm_jstr *bm_jstr_text(bm_jrun *r, const char *text);                          /* a C string constant, source template */
bm_jstr *bm_jstr_cat(bm_jrun *r, bm_jstr *a, bm_jstr *b);
bool     bm_jstr_flat(bm_jrun *r, bm_jstr *s);
bm_jstr *bm_jstr_slice(bm_jrun *r, bm_jstr *s, size_t begin, size_t end);     /* bytes of a flat string */
size_t   bm_jstr_chars(bm_jstr *s);                                           /* code points of a flat string */
size_t   bm_jstr_offset(bm_jstr *s, size_t n_chars);                          /* byte where code point n starts (len beyond) */
bm_jstr *bm_jstr_plain(bm_jrun *r, bm_jstr *s);                               /* without the markup flag; NULL stays NULL */
int      bm_jstr_source(const bm_jstr *s);                                    /* the first source that is not the template */
bool     bm_jstr_is(const bm_jstr *s, const char *text);
size_t   bm_jstr_find(const bm_jstr *s, size_t from, const bm_jstr *what);    /* byte offset or SIZE_MAX */
int      bm_j_decode(const char *s, size_t len, uint32_t *cp);                /* as bm_utf8_decode, an invalid byte is one U+FFFD */
bool     bm_j_is_space(uint32_t cp);                                          /* str.isspace of one character */
size_t   bm_j_rstrip(const char *s, size_t len);                              /* len without trailing whitespace */
size_t   bm_j_lstrip(const char *s, size_t len);                              /* leading bytes of whitespace */
void     bm_jsb_init(bm_jsb *b, bm_jrun *r);
void     bm_jsb_add(bm_jsb *b, const void *bytes, size_t len, int src);
void     bm_jsb_puts(bm_jsb *b, const char *text);                            /* source template */
void     bm_jsb_fill(bm_jsb *b, const char *unit, size_t len, size_t times, int src);
void     bm_jsb_str(bm_jsb *b, bm_jstr *s);
void     bm_jsb_slice(bm_jsb *b, bm_jstr *s, size_t begin, size_t end);
bm_jstr *bm_jsb_finish(bm_jsb *b);
bm_jstr *bm_jsb_cut(bm_jsb *b, size_t begin);                                 /* the bytes from begin on as a string; drops them from b */
bool     bm_jstr_escape(bm_jrun *r, bm_jstr *s, bm_jstr **out);               /* & < > " ' for HTML; a markup result */

/* jinja_value.c */
static inline bm_jval bm_jnone(void) { return (bm_jval){.type = BM_J_NONE}; }
static inline bm_jval bm_jbool(bool b) { return (bm_jval){.type = BM_J_BOOL, .b = b}; }
static inline bm_jval bm_jint(int64_t i) { return (bm_jval){.type = BM_J_INT, .i = i}; }
static inline bm_jval bm_jfloat(double f) { return (bm_jval){.type = BM_J_FLOAT, .f = f}; }
static inline bool bm_jis_num(bm_jval v) { return v.type == BM_J_BOOL || v.type == BM_J_INT || v.type == BM_J_FLOAT; }
static inline bool bm_jis_integral(bm_jval v) { return v.type == BM_J_BOOL || v.type == BM_J_INT; }
static inline int64_t bm_jintegral(bm_jval v) { return v.type == BM_J_BOOL ? v.b : v.i; }
static inline double bm_jreal(bm_jval v) { return v.type == BM_J_FLOAT ? v.f : (double)bm_jintegral(v); }
bool     bm_jval_str(bm_jval *out, bm_jstr *s);                     /* wraps; false when s is NULL */
const char *bm_jval_type(bm_jval v);                                /* Python's name of the type */
bool     bm_jval_true(bm_jval v);
bool     bm_jval_eq(bm_jrun *r, bm_jval a, bm_jval b, bool *out);
bool     bm_jval_cmp(bm_jrun *r, bm_jval a, bm_jval b, int *out);   /* -1 0 1 for an order; 2 unordered (NaN); TypeError otherwise */
bool     bm_jval_hash(bm_jrun *r, bm_jval v, uint64_t *out);        /* TypeError for what Python cannot hash */
bool     bm_jval_len(bm_jrun *r, bm_jval v, size_t *out);
bool     bm_jval_contains(bm_jrun *r, bm_jval item, bm_jval in, bool *out);
bm_jlist *bm_jlist_new(bm_jrun *r, size_t cap);
bool     bm_jlist_add(bm_jrun *r, bm_jlist *list, bm_jval v);
bool     bm_jval_list(bm_jrun *r, bm_jtype type, bm_jlist *list, bm_jval *out);
bool     bm_jval_pair(bm_jrun *r, bm_jval a, bm_jval b, bm_jval *out);       /* a tuple of two */
bool     bm_jval_gen(bm_jrun *r, bm_jlist *list, bm_jval *out);
bm_jdict *bm_jdict_new(bm_jrun *r);
bool     bm_jdict_set(bm_jrun *r, bm_jdict *d, bm_jval key, bm_jval value);
bool     bm_jdict_get(bm_jrun *r, const bm_jdict *d, bm_jval key, bm_jval *out);    /* MISSING when absent */
bm_jval  bm_jdict_name(const bm_jdict *d, const char *name, size_t len);     /* by a string key; MISSING when absent */
bool     bm_jiter_open(bm_jrun *r, bm_jval of, bm_jiter *it);       /* TypeError when not iterable */
bool     bm_jiter_next(bm_jrun *r, bm_jiter *it, bm_jval *out);     /* MISSING at the end; false only on failure */
bool     bm_jval_iterable(bm_jval v);
bool     bm_jval_collect(bm_jrun *r, bm_jval of, bm_jlist **out);   /* list(of); the result must not be changed */
bool     bm_jval_sort(bm_jrun *r, bm_jval *keys, bm_jval *items, size_t n, bool reverse);   /* stable, by keys */
bool     bm_jval_undef(bm_jrun *r, const char *hint, bm_jval *out);
bool     bm_jval_no_name(bm_jrun *r, bm_jstr *name, bm_jval *out);           /* 'x' is undefined */
bool     bm_jval_no_key(bm_jrun *r, bm_jval obj, bm_jval key, bm_jval *out); /* 'dict object' has no attribute 'x' */
bool     bm_jval_touch(bm_jrun *r, bm_jval undef);                  /* raise its UndefinedError; false */
static inline bool bm_jval_strict(const bm_jrun *r, bm_jval v) { return v.type == BM_J_UNDEF && r->plain && !v.undef->lenient; }
bool     bm_jval_test(bm_jrun *r, bm_jval v, bool *out);            /* bool(v): an undefined value of a plain template fails */

/* jinja_repr.c */
bool     bm_jval_write(bm_jsb *b, bm_jval v);                       /* str(v) */
bool     bm_jval_repr(bm_jsb *b, bm_jval v);
bm_jstr *bm_jval_to_str(bm_jrun *r, bm_jval v);                     /* str(v), flat; NULL: failed */
typedef struct bm_jjson { bool ensure_ascii, sort_keys; bm_jstr *indent, *item_sep, *key_sep; } bm_jjson;   /* indent NULL: one line */
bool     bm_jval_json(bm_jsb *b, bm_jval v, const bm_jjson *how, size_t level);

/* jinja_number.c */
bool bm_jop_binary(bm_jrun *r, int op, bm_jval a, bm_jval b, bm_jval *out);   /* op: + - * / %, 'f' is floor division, 'p' power */
bool bm_jop_unary(bm_jrun *r, int op, bm_jval a, bm_jval *out);
bool bm_jop_compare(bm_jrun *r, int op, bm_jval a, bm_jval b, bool *out);     /* a token: BM_T_EQ ... */
bool bm_jnum_parse_int(const bm_jstr *s, int base, int64_t *out, bool *too_large);   /* int(s, base) */
bool bm_jnum_parse_float(const bm_jstr *s, double *out);
bool bm_jnum_from_float(bm_jrun *r, double f, bm_jval *out);                  /* int(f) */
bool bm_jnum_round(bm_jrun *r, bm_jval v, int64_t digits, bm_jval *out);

/* jinja_format.c */
bool bm_jformat_percent(bm_jrun *r, bm_jstr *format, bm_jval args, bm_jval *out);
bool bm_jformat_braces(bm_jrun *r, bm_jstr *format, const bm_jargs *args, bm_jval *out);

/* jinja_case.c: characters. how: 'u' upper, 'l' lower, 't' title, 'c' capitalize, 's' swapcase, 'f' casefold */
bm_jstr *bm_jstr_case(bm_jrun *r, bm_jstr *s, char how);
bool bm_jstr_class(bm_jstr *s, const char *which);                  /* "isalpha" and the others of str */
bool bm_j_is_word(uint32_t cp);                                     /* \w */
bool bm_j_printable(uint32_t cp);

/* jinja_filter*.c, jinja_test.c, jinja_method*.c, jinja_call.c: tables and look-ups */
const bm_jdef *bm_jfilter_find(const char *name);
extern const bm_jdef bm_jfilter_regex;                               /* regex_replace: only plain templates have it */
const bm_jdef *bm_jtest_find(const char *name);
const bm_jdef *bm_jmethod_find(bm_jval self, const bm_jstr *name, bool *unsafe);
const bm_jdef *bm_jfunc_find(const char *name);
extern const bm_jdef bm_jfilters_text[], bm_jfilters_list[], bm_jfilters_wrap[], bm_jmethods_str[], bm_jmethods_list[], bm_jmethods_dict[];   /* end with a NULL name */
bool bm_jdef_call(bm_jrun *r, const bm_jdef *def, bm_jval self, const bm_jargs *args, bm_jval *out);
bool bm_jval_call(bm_jrun *r, bm_jval callee, const bm_jargs *args, bm_jval *out);
bool bm_jarg_int(bm_jrun *r, bm_jval v, const char *what, int64_t *out);      /* an int or a bool, else TypeError */
bool bm_jarg_str(bm_jrun *r, bm_jval v, const char *what, bm_jstr **out);     /* a str, flat, else TypeError */
static inline bool bm_jarg_given(bm_jval v) { return v.type != BM_J_MISSING && v.type != BM_J_NONE; }

/* jinja_method.c: what filters use too */
bm_jstr *bm_jstr_strip(bm_jrun *r, bm_jstr *s, bm_jstr *chars, bool left, bool right);      /* chars NULL: whitespace */
bm_jstr *bm_jstr_replace(bm_jrun *r, bm_jstr *s, bm_jstr *old, bm_jstr *new_text, int64_t count);   /* count < 0: all */
bm_jlist *bm_jstr_lines(bm_jrun *r, bm_jstr *s, bool keep_ends);    /* splitlines */
bm_jlist *bm_jstr_words(bm_jrun *r, bm_jstr *s);                    /* split() */
bm_jstr *bm_jstr_join(bm_jrun *r, bm_jstr *sep, bm_jval parts, bool convert);       /* convert: str() of each, else they must be str */
bm_jstr *bm_jstr_pad(bm_jrun *r, bm_jstr *s, int64_t width, const char *fill, size_t n_fill, char align);   /* '<' '>' '^' */

/* jinja_eval.c */
bool bm_jval_getattr(bm_jrun *r, bm_jval obj, bm_jstr *name, bm_jval *out);   /* obj.name */
bool bm_jval_getitem(bm_jrun *r, bm_jval obj, bm_jval key, bm_jval *out);     /* obj[key] */
bool bm_jeval(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out);
bm_jstr *bm_jstr_at(bm_jrun *r, bm_jstr *s, int64_t begin, int64_t end);      /* by code points, 0 <= begin <= end */

bool bm_jeval_call(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval caller, bm_jval *out);  /* caller: MISSING or the block's */
bool bm_jval_slice(bm_jrun *r, bm_jval of, const bm_jval part[3], bm_jval *out);  /* of[start:stop:step], MISSING or None: left out */

/* jinja_exec.c, jinja_loop.c */
typedef enum bm_jflow { BM_FLOW_NEXT, BM_FLOW_BREAK, BM_FLOW_CONTINUE, BM_FLOW_FAIL } bm_jflow;
bm_jenv *bm_jenv_new(bm_jrun *r, bm_jenv *parent, const bm_jframe *frame);
bool bm_jenv_enter(bm_jrun *r, bm_jenv *env);                       /* give the slots what they start with; parameters stay */
bool bm_jassign(bm_jrun *r, bm_jenv *env, const bm_jnode *target, bm_jval v);
bm_jflow bm_jexec_for(bm_jrun *r, bm_jenv *env, const bm_jnode *n);
size_t bm_jcapture_begin(bm_jrun *r);
bm_jstr *bm_jcapture_end(bm_jrun *r, size_t begin);                 /* what was printed since; NULL: failed */
bool bm_jexec_template(bm_jrun *r);
bool bm_jmacro_call(bm_jrun *r, const bm_jmacro *m, const bm_jargs *args, bm_jval *out);
bool bm_jloop_call(bm_jrun *r, bm_jloop *loop, const bm_jargs *args, bm_jval *out);         /* loop(...) of a recursive loop */
bool bm_jloop_repr(bm_jsb *b, bm_jloop *loop);
bool bm_jloop_attr(bm_jrun *r, bm_jloop *loop, const bm_jstr *name, bm_jval *out);          /* MISSING: no such attribute */
extern const bm_jdef bm_jmethods_loop[];

/* jinja_strftime.c */
bool bm_jstrftime(bm_jrun *r, bm_jstr *format, bm_jval *out);
