/* jinja_ast.h - tokens, syntax tree and frames of a compiled template. Private to the interpreter.
 * Everything lies in the template's arena and is read-only once compiled. */
#pragma once
#include "text/jinja.h"

typedef enum bm_jtok_type {
    BM_T_EOF, BM_T_DATA, BM_T_BLOCK_BEGIN, BM_T_BLOCK_END, BM_T_VAR_BEGIN, BM_T_VAR_END,
    BM_T_NAME, BM_T_STRING, BM_T_INT, BM_T_FLOAT,
    BM_T_ADD, BM_T_SUB, BM_T_MUL, BM_T_DIV, BM_T_FLOORDIV, BM_T_MOD, BM_T_POW, BM_T_TILDE, BM_T_PIPE, BM_T_DOT,
    BM_T_COMMA, BM_T_COLON, BM_T_SEMICOLON, BM_T_ASSIGN, BM_T_LPAREN, BM_T_RPAREN, BM_T_LBRACKET, BM_T_RBRACKET,
    BM_T_LBRACE, BM_T_RBRACE, BM_T_EQ, BM_T_NE, BM_T_LT, BM_T_LTEQ, BM_T_GT, BM_T_GTEQ,
    BM_T_IN, BM_T_NOTIN                    /* only as comparisons in the tree */
} bm_jtok_type;

typedef struct bm_jtok {
    bm_jtok_type type;
    uint32_t pos;                          /* byte in the source */
    uint32_t name;                         /* NAME: id */
    bm_jval value;                         /* DATA, STRING, INT, FLOAT */
} bm_jtok;

typedef enum bm_jkind {
    /* expressions */
    BM_N_CONST, BM_N_NAME, BM_N_NSREF, BM_N_TUPLE, BM_N_LIST, BM_N_DICT, BM_N_BINARY, BM_N_UNARY, BM_N_NOT, BM_N_AND, BM_N_OR,
    BM_N_CONCAT, BM_N_COMPARE, BM_N_OPERAND, BM_N_COND, BM_N_GETATTR, BM_N_GETITEM, BM_N_SLICE, BM_N_CALL, BM_N_FILTER,
    BM_N_TEST, BM_N_KEYWORD,
    /* statements */
    BM_N_DATA, BM_N_PRINT, BM_N_IF, BM_N_FOR, BM_N_SET, BM_N_SETBLOCK, BM_N_MACRO, BM_N_CALLBLOCK, BM_N_GENERATION,
    BM_N_FILTERBLOCK, BM_N_WITH, BM_N_SCOPE, BM_N_BLOCK, BM_N_BREAK, BM_N_CONTINUE, BM_N_REFUSE
} bm_jkind;

typedef struct bm_jnodes { bm_jnode **v; uint32_t n; } bm_jnodes;

/* One shape for all kinds; jinja_parser.c and jinja_expr.c say beside each constructor what stands where. */
struct bm_jnode {
    bm_jkind kind;
    uint8_t op;                            /* BINARY, UNARY: see bm_jop_*; OPERAND: a token type */
    bool store;                            /* NAME as a target or parameter */
    bool recursive;                        /* FOR */
    uint32_t pos;
    uint32_t name;                         /* id of a name, attribute, filter, test, keyword */
    uint32_t hops, slot;                   /* NAME, NSREF, MACRO: where the name lives */
    bm_jval value;                         /* CONST, DATA; REFUSE: what to say */
    bm_jnode *a, *b, *c;
    bm_jnodes kids, alt, more;
    const bm_jdef *def;                    /* FILTER, TEST; NULL: fails when it is reached */
    bm_jframe *frame, *alt_frame, *test_frame;
    struct { uint32_t caller, kwargs, varargs, loop; } special;      /* slots, or NO_SLOT */
};
#define BM_J_NO_SLOT UINT32_MAX

/* How a slot gets its value when its frame is entered (jinja2's idtracking): */
typedef enum bm_jload { BM_L_PARAM, BM_L_RESOLVE, BM_L_ALIAS, BM_L_UNDEFINED } bm_jload;
typedef struct bm_jslot { uint32_t name; bm_jload load; uint32_t hops, slot; } bm_jslot;
struct bm_jframe { bm_jframe *parent; bm_jslot *slots; uint32_t n, cap; bool isolated; };

typedef struct bm_jname { bm_jstr *text; bool loaded; } bm_jname;

struct bm_template {
    bm_arena arena;
    bool plain;                            /* evaluation tasks: see bm_template_compile_plain */
    char *source;                          /* valid UTF-8, newlines are \n */
    size_t len;
    bm_jname *names;
    uint32_t n_names, cap_names;
    uint32_t *name_index;
    size_t n_name_index;
    bm_jnodes body;
    bm_jframe *frame;
};

typedef struct bm_jcompile {
    bm_template *tmpl;
    bm_error *err;
    bm_jtok *toks;
    size_t n_toks, cap_toks, at;
    int depth;
    size_t work;                           /* steps of the scope analysis, bounded */
} bm_jcompile;

/* jinja_exec.c */
bm_jflow bm_jexec(bm_jrun *r, bm_jenv *env, bm_jnodes list);

/* jinja_compile.c: shared by lexer, parser and scope */
void *bm_jcompile_alloc(bm_jcompile *c, size_t n, size_t size);      /* NULL: failed */
bool  bm_jcompile_fail(bm_jcompile *c, uint32_t pos, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool  bm_jcompile_name(bm_jcompile *c, const char *s, size_t len, uint32_t *id);
bm_jstr *bm_jcompile_str(bm_jcompile *c, const char *data, size_t len, bool copy);
uint32_t bm_template_name(const bm_template *t, const char *s, size_t len);     /* id or UINT32_MAX */
void  bm_template_position(const bm_template *t, uint32_t pos, size_t *line, size_t *column);

bool bm_jlex(bm_jcompile *c);                                        /* fills c->toks */
bool bm_jparse(bm_jcompile *c);                                      /* fills tmpl->body */
bool bm_jscope(bm_jcompile *c);                                      /* fills frames, hops and slots */

/* jinja_parser.c and jinja_expr.c */
typedef struct bm_jvec { bm_jnode **v; uint32_t n, cap; } bm_jvec;
bm_jnode *bm_jnode_new(bm_jcompile *c, bm_jkind kind, uint32_t pos);
bool bm_jvec_add(bm_jcompile *c, bm_jvec *v, bm_jnode *n);           /* false also when n is NULL */
static inline bm_jnodes bm_jvec_done(const bm_jvec *v) { return (bm_jnodes){v->v, v->n}; }
static inline const bm_jtok *bm_jcur(const bm_jcompile *c) { return &c->toks[c->at]; }
bool bm_jcur_is(const bm_jcompile *c, const char *name);             /* the current token is this name */
bool bm_jskip(bm_jcompile *c, bm_jtok_type type);
bool bm_jskip_name(bm_jcompile *c, const char *name);
bool bm_jexpect(bm_jcompile *c, bm_jtok_type type);
void bm_jtok_describe(const bm_jcompile *c, const bm_jtok *t, char out[80]);
bm_jnode *bm_jparse_expr(bm_jcompile *c, bool with_cond);
bm_jnode *bm_jparse_primary(bm_jcompile *c, bool with_namespace);
typedef enum bm_jtuple_mode { BM_TUPLE_FULL, BM_TUPLE_NO_COND, BM_TUPLE_PAREN, BM_TUPLE_TARGET, BM_TUPLE_NS_TARGET } bm_jtuple_mode;
bm_jnode *bm_jparse_tuple(bm_jcompile *c, bm_jtuple_mode mode, const char *end_name);
bm_jnode *bm_jparse_filter(bm_jcompile *c, bm_jnode *node, bool start_inline);   /* node may be NULL */
