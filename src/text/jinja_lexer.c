/* jinja_lexer.c - template source to tokens, with jinja2's whitespace control: "-" strips, "+" keeps, and trim_blocks and
 * lstrip_blocks on, as transformers sets them (off in plain templates). The source has lost its last newline (but for plain ones)
 * and its \r before this. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_ast.h"

enum { MAX_OPEN = 400 };

typedef struct lexer {
    bm_jcompile *c;
    const char *s;
    size_t n, pos;
    char open[MAX_OPEN];                   /* what closes the brackets now open */
    size_t n_open;
} lexer;

static bool add(lexer *x, bm_jtok_type type, size_t pos, bm_jtok **out)
{
    bm_jcompile *c = x->c;

    if (c->n_toks == c->cap_toks) {
        size_t cap = c->cap_toks == 0 ? 256 : c->cap_toks * 2;
        bm_jtok *grown = bm_jcompile_alloc(c, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (c->n_toks > 0)
            memcpy(grown, c->toks, c->n_toks * sizeof *grown);
        c->toks = grown, c->cap_toks = cap;
    }
    bm_jtok *t = &c->toks[c->n_toks++];
    t->type = type;
    t->pos = (uint32_t)pos;
    if (out != NULL)
        *out = t;
    return true;
}

static bool at(const lexer *x, size_t pos, const char *text)
{
    size_t len = strlen(text);

    return x->n - pos >= len && memcmp(x->s + pos, text, len) == 0;
}

static size_t skip_space(const lexer *x, size_t pos) { return pos + bm_j_lstrip(x->s + pos, x->n - pos); }

static bool add_data(lexer *x, size_t begin, size_t end)
{
    bm_jtok *t;

    if (begin >= end)
        return true;
    if (!add(x, BM_T_DATA, begin, &t))
        return false;
    return bm_jval_str(&t->value, bm_jcompile_str(x->c, x->s + begin, end - begin, false));
}

/* Where the text before a tag ends, by the tag's sign. Without one, blanks between the line's start and the tag go. */
static size_t strip_before(const lexer *x, size_t begin, size_t end, char sign, bool is_variable)
{
    size_t line = end;

    if (sign == '-')
        return begin + bm_j_rstrip(x->s + begin, end - begin);
    if (sign == '+' || is_variable || x->c->tmpl->plain)
        return end;
    while (line > begin && x->s[line - 1] != '\n')
        line--;
    bool at_line_start = line > begin || begin == 0 || x->s[begin - 1] == '\n';
    if (at_line_start && bm_j_lstrip(x->s + line, end - line) == end - line)
        return line;
    return end;
}

/* After "%}" or "#}" of a tag without a sign one newline goes; after "-%}" all blanks. */
static size_t after_end(const lexer *x, size_t pos, char sign)
{
    if (sign == '-')
        return skip_space(x, pos);
    return sign != '+' && !x->c->tmpl->plain && pos < x->n && x->s[pos] == '\n' ? pos + 1 : pos;
}

static bool lex_comment(lexer *x, size_t begin)
{
    size_t pos = x->pos;

    while (pos < x->n && !at(x, pos, "#}"))
        pos++;
    if (pos >= x->n && x->pos < x->n)                    /* one that opens as the last thing in the text is let pass, as in jinja2 */
        return bm_jcompile_fail(x->c, (uint32_t)begin, "Missing end of comment tag");
    if (pos >= x->n)
        return true;
    char before = pos > x->pos ? x->s[pos - 1] : '\0';
    x->pos = after_end(x, pos + 2, before == '-' || before == '+' ? before : '\0');
    return true;
}

/* "{% raw %}" at pos? Gives where its content begins. */
static bool match_raw(const lexer *x, size_t pos, size_t *content)
{
    size_t p = pos + 2;

    if (p < x->n && (x->s[p] == '-' || x->s[p] == '+'))
        p++;
    p = skip_space(x, p);
    if (!at(x, p, "raw"))
        return false;
    p = skip_space(x, p + 3);
    if (at(x, p, "-%}")) {
        *content = skip_space(x, p + 3);
        return true;
    }
    *content = p + 2;
    return at(x, p, "%}");
}

static bool lex_raw(lexer *x, size_t begin)
{
    for (size_t pos = x->pos; pos + 1 < x->n; pos++) {
        if (!at(x, pos, "{%"))
            continue;
        size_t p = pos + 2;
        char sign = p < x->n && (x->s[p] == '-' || x->s[p] == '+') ? x->s[p] : '\0';
        p = skip_space(x, p + (sign != '\0'));
        if (!at(x, p, "endraw"))
            continue;
        p = skip_space(x, p + 6);
        char end_sign = p < x->n && (x->s[p] == '-' || x->s[p] == '+') ? x->s[p] : '\0';
        p += end_sign != '\0';
        if (!at(x, p, "%}"))
            continue;
        if (!add_data(x, x->pos, strip_before(x, x->pos, pos, sign, false)))
            return false;
        x->pos = after_end(x, p + 2, end_sign);
        return true;
    }
    return x->pos >= x->n || bm_jcompile_fail(x->c, (uint32_t)begin, "Missing end of raw directive");
}

/* digits with single underscores between them; the position after them */
static size_t digits(const lexer *x, size_t p)
{
    while (p < x->n && x->s[p] >= '0' && x->s[p] <= '9') {
        p++;
        if (p + 1 < x->n && x->s[p] == '_' && x->s[p + 1] >= '0' && x->s[p + 1] <= '9')
            p++;
    }
    return p;
}

static size_t copy_digits(const lexer *x, size_t begin, size_t end, char *out, size_t room)
{
    size_t n = 0;

    for (size_t i = begin; i < end && n + 1 < room; i++)
        if (x->s[i] != '_')
            out[n++] = x->s[i];
    out[n] = '\0';
    return n;
}

static bool lex_float(lexer *x, bool *found)
{
    size_t p = digits(x, x->pos), q;
    char text[400];
    bool is_float = false;
    bm_jtok *t;

    *found = false;
    if (x->pos > 0 && x->s[x->pos - 1] == '.')
        return true;
    if (p < x->n && x->s[p] == '.' && (q = digits(x, p + 1)) > p + 1)
        p = q, is_float = true;
    if (p < x->n && (x->s[p] == 'e' || x->s[p] == 'E')) {
        q = p + 1 + (p + 1 < x->n && (x->s[p + 1] == '+' || x->s[p + 1] == '-'));
        if (digits(x, q) > q)
            p = digits(x, q), is_float = true;
    }
    if (!is_float)
        return true;
    if (p - x->pos >= sizeof text)
        return bm_jcompile_fail(x->c, (uint32_t)x->pos, "a number of more than %zu digits", sizeof text);
    copy_digits(x, x->pos, p, text, sizeof text);
    if (!add(x, BM_T_FLOAT, x->pos, &t))
        return false;
    t->value = bm_jfloat(strtod(text, NULL));
    x->pos = p;
    *found = true;
    return true;
}

static bool digit_of(char ch, int base, int *value)
{
    int d = ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : 99;

    *value = d;
    return d < base;
}

static bool lex_int(lexer *x)
{
    size_t p = x->pos, begin = x->pos;
    int base = 10, d;
    int64_t v = 0;
    bm_jtok *t;

    if (x->s[p] == '0' && p + 2 < x->n) {
        char ch = (char)(x->s[p + 1] | 0x20);
        int b = ch == 'x' ? 16 : ch == 'o' ? 8 : ch == 'b' ? 2 : 10;
        size_t first = p + 2 + (x->s[p + 2] == '_');
        if (b != 10 && first < x->n && digit_of(x->s[first], b, &d))
            base = b, p += 2;
    }
    bool zeros = base == 10 && x->s[p] == '0';           /* "0", "00": a zero takes no other digit after it */
    for (; p < x->n; p++) {
        if (x->s[p] == '_' && p + 1 < x->n && digit_of(x->s[p + 1], zeros ? 1 : base, &d))
            continue;
        if (!digit_of(x->s[p], zeros ? 1 : base, &d))
            break;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
            return bm_jcompile_fail(x->c, (uint32_t)begin, "the number does not fit into 64 bits");
    }
    if (!add(x, BM_T_INT, begin, &t))
        return false;
    t->value = bm_jint(v);
    x->pos = p;
    return true;
}

static bool is_name_char(uint32_t cp)
{
    return cp == '_' || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || (cp >= '0' && cp <= '9') ||
           (cp >= 0x80 && bm_j_is_word(cp));
}

static bool lex_name(lexer *x, bool *found)
{
    size_t p = x->pos;
    uint32_t cp;
    bm_jtok *t;

    while (p < x->n) {
        int len = bm_j_decode(x->s + p, x->n - p, &cp);
        if (!is_name_char(cp))
            break;
        p += (size_t)len;
    }
    *found = p > x->pos;
    if (!*found)
        return true;
    if (!add(x, BM_T_NAME, x->pos, &t) || !bm_jcompile_name(x->c, x->s + x->pos, p - x->pos, &t->name))
        return false;
    x->pos = p;
    return true;
}

static int hex_value(const char *s, size_t n, uint32_t *out)
{
    int d;

    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (!digit_of(s[i], 16, &d))
            return 0;
        *out = *out << 4 | (uint32_t)d;
    }
    return 1;
}

/* One escape of Python's unicode-escape at s[i] (after the backslash); gives the bytes used, 0 for a bad one. */
static size_t unescape(const char *s, size_t n, char *out, size_t *n_out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *known = s[0] != '\0' ? strchr(from, s[0]) : NULL;
    size_t width = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    uint32_t cp;

    *n_out = 0;
    if (s[0] == '\n')
        return 1;
    if (known != NULL) {
        out[(*n_out)++] = to[known - from];
        return 1;
    }
    if (s[0] >= '0' && s[0] <= '7') {
        size_t i = 0;
        for (cp = 0; i < 3 && i < n && s[i] >= '0' && s[i] <= '7'; i++)
            cp = cp * 8 + (uint32_t)(s[i] - '0');
        *n_out = (size_t)bm_utf8_encode(cp, out);
        return i;
    }
    if (width > 0) {
        if (n < width + 1 || !hex_value(s + 1, width, &cp) || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
            return 0;
        *n_out = (size_t)bm_utf8_encode(cp, out);
        return width + 1;
    }
    if (s[0] == 'N' && n > 1 && s[1] == '{')
        return 0;
    out[(*n_out)++] = '\\';                              /* an unknown escape stays as it is */
    if ((unsigned char)s[0] < 0x80) {
        out[(*n_out)++] = s[0];
        return 1;
    }
    return SIZE_MAX;                                     /* the character follows as a numeric escape without its backslash */
}

static bool lex_string(lexer *x)
{
    static const char hex[] = "0123456789abcdef";
    char quote = x->s[x->pos];
    size_t end = x->pos + 1, n = 0;
    bm_jtok *t;

    while (end < x->n && x->s[end] != quote)
        end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        return bm_jcompile_fail(x->c, (uint32_t)x->pos, "unexpected char %s: the string does not end", quote == '"' ? "'\"'" : "\"'\"");
    char *buf = bm_jcompile_alloc(x->c, end - x->pos, 8);        /* an escaped character may become "\\U0001f600" */
    if (buf == NULL)
        return false;
    for (size_t i = x->pos + 1; i < end;) {
        size_t put;
        if (x->s[i] != '\\') {
            buf[n++] = x->s[i++];
            continue;
        }
        size_t used = unescape(x->s + i + 1, end - i - 1, buf + n, &put);
        n += put;
        if (used == 0)
            return bm_jcompile_fail(x->c, (uint32_t)i, "a bad escape in the string");
        if (used != SIZE_MAX) {
            i += 1 + used;
            continue;
        }
        uint32_t cp;
        i += 1 + (size_t)bm_j_decode(x->s + i + 1, end - i - 1, &cp);
        int width = cp < 0x100 ? 2 : cp < 0x10000 ? 4 : 8;
        buf[n++] = width == 2 ? 'x' : width == 4 ? 'u' : 'U';
        while (width-- > 0)
            buf[n++] = hex[cp >> (4 * width) & 15];
    }
    if (!add(x, BM_T_STRING, x->pos, &t) || !bm_jval_str(&t->value, bm_jcompile_str(x->c, buf, n, false)))
        return false;
    x->pos = end + 1;
    return true;
}

static const struct { char text[3]; bm_jtok_type type; } OPERATORS[] = {
    {"//", BM_T_FLOORDIV}, {"**", BM_T_POW}, {"==", BM_T_EQ}, {"!=", BM_T_NE}, {">=", BM_T_GTEQ}, {"<=", BM_T_LTEQ},
    {"+", BM_T_ADD}, {"-", BM_T_SUB}, {"/", BM_T_DIV}, {"*", BM_T_MUL}, {"%", BM_T_MOD}, {"~", BM_T_TILDE},
    {"[", BM_T_LBRACKET}, {"]", BM_T_RBRACKET}, {"(", BM_T_LPAREN}, {")", BM_T_RPAREN}, {"{", BM_T_LBRACE},
    {"}", BM_T_RBRACE}, {">", BM_T_GT}, {"<", BM_T_LT}, {"=", BM_T_ASSIGN}, {".", BM_T_DOT}, {":", BM_T_COLON},
    {"|", BM_T_PIPE}, {",", BM_T_COMMA}, {";", BM_T_SEMICOLON},
};

static bool balance(lexer *x, bm_jtok_type type)
{
    char close = type == BM_T_LBRACKET ? ']' : type == BM_T_LPAREN ? ')' : type == BM_T_LBRACE ? '}' : '\0';
    char closes = type == BM_T_RBRACKET ? ']' : type == BM_T_RPAREN ? ')' : type == BM_T_RBRACE ? '}' : '\0';

    if (close != '\0') {
        if (x->n_open == MAX_OPEN)
            return bm_jcompile_fail(x->c, (uint32_t)x->pos, "more than %d brackets are open", MAX_OPEN);
        x->open[x->n_open++] = close;
    }
    if (closes == '\0')
        return true;
    if (x->n_open == 0)
        return bm_jcompile_fail(x->c, (uint32_t)x->pos, "unexpected '%c'", closes);
    if (x->open[--x->n_open] != closes)
        return bm_jcompile_fail(x->c, (uint32_t)x->pos, "unexpected '%c', expected '%c'", closes, x->open[x->n_open]);
    return true;
}

static bool lex_operator(lexer *x)
{
    for (size_t i = 0; i < sizeof OPERATORS / sizeof OPERATORS[0]; i++)
        if (at(x, x->pos, OPERATORS[i].text)) {
            if (!balance(x, OPERATORS[i].type) || !add(x, OPERATORS[i].type, x->pos, NULL))
                return false;
            x->pos += strlen(OPERATORS[i].text);
            return true;
        }
    uint32_t cp;
    int len = bm_j_decode(x->s + x->pos, x->n - x->pos, &cp);
    return bm_jcompile_fail(x->c, (uint32_t)x->pos, "unexpected char '%.*s'", len, x->s + x->pos);
}

/* The end of the tag at pos? Only while no bracket is open. */
static bool lex_tag_end(lexer *x, bool is_variable, bool *found)
{
    const char *end = is_variable ? "}}" : "%}";
    char sign = x->s[x->pos];

    *found = false;
    if (x->n_open > 0)
        return true;
    if (!(sign == '-' || (sign == '+' && !is_variable)) || !at(x, x->pos + 1, end))
        sign = '\0';
    if (sign == '\0' && !at(x, x->pos, end))
        return true;
    if (!add(x, is_variable ? BM_T_VAR_END : BM_T_BLOCK_END, x->pos, NULL))
        return false;
    x->pos += sign == '\0' ? 2 : 3;
    if (!is_variable || sign == '-')
        x->pos = after_end(x, x->pos, sign);
    *found = true;
    return true;
}

static bool lex_tag(lexer *x, bool is_variable)
{
    bool found = false;

    x->n_open = 0;
    while ((x->pos = skip_space(x, x->pos)) < x->n) {
        char ch = x->s[x->pos];
        if (!lex_tag_end(x, is_variable, &found))
            return false;
        if (found)
            return true;
        if (ch >= '0' && ch <= '9') {
            if (!lex_float(x, &found) || (!found && !lex_int(x)))
                return false;
            continue;
        }
        if (!lex_name(x, &found))
            return false;
        if (found)
            continue;
        if (!(ch == '\'' || ch == '"' ? lex_string(x) : lex_operator(x)))
            return false;
    }
    return true;                                         /* the parser says what is missing */
}

/* Text up to the next tag, and that tag. */
static bool lex_next(lexer *x)
{
    size_t begin = x->pos, tag = x->pos, content = 0;

    while (tag + 1 < x->n && !(x->s[tag] == '{' && strchr("%{#", x->s[tag + 1]) != NULL && x->s[tag + 1] != '\0'))
        tag++;
    if (tag + 1 >= x->n) {
        x->pos = x->n;
        return add_data(x, begin, x->n);
    }
    char what = x->s[tag + 1];
    char sign = tag + 2 < x->n && (x->s[tag + 2] == '-' || x->s[tag + 2] == '+') ? x->s[tag + 2] : '\0';
    if (!add_data(x, begin, strip_before(x, begin, tag, sign, what == '{')))
        return false;
    x->pos = tag + 2 + (sign != '\0');
    if (what == '#')
        return lex_comment(x, tag);
    if (what == '%' && match_raw(x, tag, &content)) {
        x->pos = content;
        return lex_raw(x, tag);
    }
    return add(x, what == '{' ? BM_T_VAR_BEGIN : BM_T_BLOCK_BEGIN, tag, NULL) && lex_tag(x, what == '{');
}

bool bm_jlex(bm_jcompile *c)
{
    lexer x = {.c = c, .s = c->tmpl->source, .n = c->tmpl->len};

    while (x.pos < x.n)
        if (!lex_next(&x))
            return false;
    return add(&x, BM_T_EOF, x.n, NULL);
}
