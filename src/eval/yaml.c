/* yaml.c - libyaml's events to a tree: aliases, merge keys, tags. What scalars mean is in yaml_scalar.c. */
#include "eval/yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "eval/yaml_scalar.h"

enum { MAX_ANCHORS = 2000 };

typedef struct anchor { const char *name; const bm_yaml_node *node; } anchor;

typedef struct reader {
    yaml_parser_t parser;
    bm_arena *arena;
    const char *file;
    anchor anchors[MAX_ANCHORS];
    size_t n_anchors, n_nodes;
    int depth;
    bm_error *err;
} reader;

static int fail(reader *r, int line, const char *what)
{
    return bm_fail(r->err, BM_INVALID, "%s:%d: %s", r->file, line, what);
}

static int next_event(reader *r, yaml_event_t *e)
{
    if (yaml_parser_parse(&r->parser, e) != 0)
        return 0;
    if (r->parser.error == YAML_MEMORY_ERROR)
        return bm_fail(r->err, BM_NOMEM, "%s: no memory to read it", r->file);
    return bm_fail(r->err, BM_INVALID, "%s:%zu: %s%s%s", r->file, r->parser.problem_mark.line + 1,
                   r->parser.context != NULL ? r->parser.context : "", r->parser.context != NULL ? ": " : "",
                   r->parser.problem != NULL ? r->parser.problem : "not YAML");
}

static void *alloc(reader *r, size_t n, size_t size)
{
    size_t len;
    void *p = bm_mul_size(n, size, &len) ? bm_arena_alloc(r->arena, len) : NULL;

    if (p == NULL)
        bm_fail(r->err, BM_NOMEM, "%s: no memory for its values", r->file);
    return p;
}

static bm_yaml_node *new_node(reader *r, bm_yaml_kind kind, const yaml_event_t *e)
{
    bm_yaml_node *n = NULL;

    if (++r->n_nodes > BM_YAML_MAX_NODES)
        fail(r, (int)e->start_mark.line + 1, "more than 200000 values in one file");
    else if ((n = alloc(r, 1, sizeof *n)) != NULL)
        *n = (bm_yaml_node){.kind = kind, .line = (int)e->start_mark.line + 1, .file = r->file, .weight = 1};
    return n;
}

/* Name the node. It stays without a value until it is complete, so that an alias inside it is seen. */
static int add_anchor(reader *r, const yaml_char_t *name, int line, size_t *slot)
{
    *slot = SIZE_MAX;
    if (name == NULL)
        return 0;
    if (r->n_anchors == MAX_ANCHORS)
        return fail(r, line, "more than 2000 anchors");
    *slot = r->n_anchors++;
    r->anchors[*slot].node = NULL;
    r->anchors[*slot].name = bm_arena_strndup(r->arena, (const char *)name, strlen((const char *)name));
    return r->anchors[*slot].name == NULL ? bm_fail(r->err, BM_NOMEM, "%s: no memory for its values", r->file) : 0;
}

static int read_alias(reader *r, const yaml_event_t *e, const bm_yaml_node **out)
{
    int line = (int)e->start_mark.line + 1;

    for (size_t i = r->n_anchors; i-- > 0;)
        if (strcmp(r->anchors[i].name, (const char *)e->data.alias.anchor) == 0) {
            *out = r->anchors[i].node;
            return *out != NULL ? 0 : fail(r, line, "an alias inside its own anchor");
        }
    return fail(r, line, "an alias of an anchor that is not there");
}

static int read_scalar(reader *r, const yaml_event_t *e, const bm_yaml_node **out)
{
    const char *tag = (const char *)e->data.scalar.tag, *why = NULL;
    bm_yaml_node *n = new_node(r, BM_YAML_STR, e);
    int line = (int)e->start_mark.line + 1;

    if (n == NULL)
        return r->err->code;
    if ((n->s = bm_arena_strndup(r->arena, (const char *)e->data.scalar.value, e->data.scalar.length)) == NULL)
        return bm_fail(r->err, BM_NOMEM, "%s: no memory for its values", r->file);
    n->len = e->data.scalar.length;
    if (tag != NULL && strcmp(tag, "!function") == 0)
        n->kind = BM_YAML_FUNCTION;
    else if (tag != NULL && strcmp(tag, "!") != 0)
        why = bm_yaml_scalar_tagged(n, tag);
    else if (tag == NULL && e->data.scalar.plain_implicit)
        why = bm_yaml_scalar_resolve(n);
    *out = n;
    return why != NULL ? fail(r, line, why) : 0;
}

static int add_weight(reader *r, bm_yaml_node *n, const bm_yaml_node *child)
{
    n->weight += child->weight;
    return n->weight > BM_YAML_MAX_NODES ? fail(r, n->line, "aliases expand to more than 200000 values") : 0;
}

static int read_node(reader *r, yaml_event_t *e, const bm_yaml_node **out);

static int read_list(reader *r, const yaml_event_t *start, const bm_yaml_node **out)
{
    bm_yaml_node *n = new_node(r, BM_YAML_LIST, start);
    size_t cap = 0;
    yaml_event_t e;
    int rc;

    for (*out = n; n != NULL;) {
        if ((rc = next_event(r, &e)) < 0)
            return rc;
        if (e.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&e);
            return 0;
        }
        if (n->n_items == cap) {
            const bm_yaml_node **grown = alloc(r, cap = cap == 0 ? 8 : cap * 2, sizeof *grown);
            if (grown == NULL) {
                yaml_event_delete(&e);
                return r->err->code;
            }
            if (n->n_items > 0)
                memcpy(grown, n->items, n->n_items * sizeof *grown);
            n->items = grown;
        }
        rc = read_node(r, &e, &n->items[n->n_items]);
        yaml_event_delete(&e);
        if (rc < 0 || (rc = add_weight(r, n, n->items[n->n_items++])) < 0)
            return rc;
    }
    return r->err->code;
}

/* ---- maps ---- */

static const bm_yaml_pair *find_pair(const bm_yaml_node *map, const char *key)
{
    for (size_t i = 0; i < map->n_pairs; i++)
        if (strcmp(map->pairs[i].key, key) == 0)
            return &map->pairs[i];
    return NULL;
}

/* As in Python's dict: a key keeps its first place and gets its last value. */
static int put_pair(reader *r, bm_yaml_node *map, size_t *cap, bm_yaml_pair pair)
{
    bm_yaml_pair *old = (bm_yaml_pair *)find_pair(map, pair.key);

    if (old != NULL) {
        *old = pair;
        return 0;
    }
    if (map->n_pairs == *cap) {
        bm_yaml_pair *grown = alloc(r, *cap = *cap == 0 ? 16 : *cap * 2, sizeof *grown);
        if (grown == NULL)
            return r->err->code;
        if (map->n_pairs > 0)
            memcpy(grown, map->pairs, map->n_pairs * sizeof *grown);
        map->pairs = grown;
    }
    map->pairs[map->n_pairs++] = pair;
    return 0;
}

static int key_text(reader *r, const bm_yaml_node *key, const char **out)
{
    char text[40];

    if (key->kind == BM_YAML_STR && strlen(key->s) != key->len)
        return fail(r, key->line, "a key with a NUL character");
    if (key->kind == BM_YAML_STR) {
        *out = key->s;
        return 0;
    }
    if (!bm_yaml_scalar_text(key, text))
        return fail(r, key->line, "a key must be a plain value");
    *out = bm_arena_strndup(r->arena, text, strlen(text));
    return *out == NULL ? bm_fail(r->err, BM_NOMEM, "%s: no memory for its values", r->file) : 0;
}

/* `<<`: the pairs of a map, or of several (earlier ones win), stand before the map's own. */
static int merge_pairs(reader *r, bm_yaml_node *into, size_t *cap, const bm_yaml_node *from)
{
    int rc = 0;

    if (from->kind == BM_YAML_LIST) {
        for (size_t i = from->n_items; i-- > 0 && rc == 0;)
            rc = from->items[i]->kind == BM_YAML_MAP ? merge_pairs(r, into, cap, from->items[i])
                                                     : fail(r, from->line, "a merge key takes maps only");
        return rc;
    }
    if (from->kind != BM_YAML_MAP)
        return fail(r, from->line, "a merge key takes a map, or a list of maps");
    for (size_t i = 0; i < from->n_pairs && rc == 0; i++)
        rc = put_pair(r, into, cap, from->pairs[i]);
    return rc;
}

static int read_pair(reader *r, yaml_event_t *key_event, bm_yaml_node *own, size_t *own_cap, bm_yaml_node *merged, size_t *merged_cap)
{
    const bm_yaml_node *key, *value;
    bm_yaml_pair pair = {.file = r->file};
    yaml_event_t e;
    bool is_merge = key_event->type == YAML_SCALAR_EVENT && key_event->data.scalar.plain_implicit &&
                    strcmp((const char *)key_event->data.scalar.value, "<<") == 0;
    int rc;

    if ((rc = read_node(r, key_event, &key)) < 0 || (rc = key_text(r, key, &pair.key)) < 0)
        return rc;
    pair.line = key->line;
    if ((rc = next_event(r, &e)) < 0)
        return rc;
    rc = read_node(r, &e, &value);
    yaml_event_delete(&e);
    if (rc < 0 || (rc = add_weight(r, own, value)) < 0)
        return rc;
    pair.value = value;
    return is_merge ? merge_pairs(r, merged, merged_cap, value) : put_pair(r, own, own_cap, pair);
}

static int read_map(reader *r, const yaml_event_t *start, const bm_yaml_node **out)
{
    bm_yaml_node *own = new_node(r, BM_YAML_MAP, start), *all = new_node(r, BM_YAML_MAP, start);
    size_t own_cap = 0, cap = 0;
    yaml_event_t e;
    int rc = own == NULL || all == NULL ? r->err->code : 0;

    while (rc == 0) {
        if ((rc = next_event(r, &e)) < 0)
            return rc;
        if (e.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&e);
            break;
        }
        rc = read_pair(r, &e, own, &own_cap, all, &cap);
        yaml_event_delete(&e);
    }
    if (rc < 0)
        return rc;
    all->weight = own->weight;
    for (size_t i = 0; i < own->n_pairs && rc == 0; i++)
        rc = put_pair(r, all, &cap, own->pairs[i]);
    *out = all;
    return rc;
}

static int read_collection(reader *r, yaml_event_t *e, const bm_yaml_node **out)
{
    bool is_list = e->type == YAML_SEQUENCE_START_EVENT;
    const yaml_char_t *tag = is_list ? e->data.sequence_start.tag : e->data.mapping_start.tag;
    const char *want = is_list ? YAML_SEQ_TAG : YAML_MAP_TAG;

    if (tag != NULL && strcmp((const char *)tag, want) != 0 && strcmp((const char *)tag, "!") != 0)
        return fail(r, (int)e->start_mark.line + 1, "a tag that task files do not have");
    if (r->depth >= BM_YAML_MAX_DEPTH)
        return fail(r, (int)e->start_mark.line + 1, "nested deeper than 48 levels");
    r->depth++;
    int rc = is_list ? read_list(r, e, out) : read_map(r, e, out);
    r->depth--;
    return rc;
}

static int read_node(reader *r, yaml_event_t *e, const bm_yaml_node **out)
{
    int line = (int)e->start_mark.line + 1, rc;
    const yaml_char_t *name = NULL;
    size_t slot;

    *out = NULL;
    if (e->type == YAML_ALIAS_EVENT)
        return read_alias(r, e, out);
    if (e->type == YAML_SCALAR_EVENT)
        name = e->data.scalar.anchor;
    else if (e->type == YAML_SEQUENCE_START_EVENT)
        name = e->data.sequence_start.anchor;
    else if (e->type == YAML_MAPPING_START_EVENT)
        name = e->data.mapping_start.anchor;
    else
        return fail(r, line, "not a value");
    if ((rc = add_anchor(r, name, line, &slot)) < 0)
        return rc;
    rc = e->type == YAML_SCALAR_EVENT ? read_scalar(r, e, out) : read_collection(r, e, out);
    if (rc == 0 && slot != SIZE_MAX)
        r->anchors[slot].node = *out;
    return rc;
}

/* The document's root, or NULL for an empty stream; then nothing more may follow. */
static int read_stream(reader *r, const bm_yaml_node **out)
{
    yaml_event_t e;
    int rc = 0;

    *out = NULL;
    for (bool done = false; rc == 0 && !done;) {
        if ((rc = next_event(r, &e)) < 0)
            return rc;
        if (e.type == YAML_STREAM_END_EVENT)
            done = true;
        else if (e.type == YAML_DOCUMENT_START_EVENT && *out != NULL)
            rc = fail(r, (int)e.start_mark.line + 1, "a second document: a task file has one");
        else if (e.type != YAML_STREAM_START_EVENT && e.type != YAML_DOCUMENT_START_EVENT && e.type != YAML_DOCUMENT_END_EVENT)
            rc = read_node(r, &e, out);
        yaml_event_delete(&e);
    }
    return rc;
}

int bm_yaml_parse(bm_arena *arena, const bm_yaml_node **out, const char *text, size_t len, const char *name, bm_error *err)
{
    bm_error local = {0};
    reader *r = bm_zalloc(sizeof *r);
    int rc;

    *out = NULL;
    if (r == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory to read it", name);
    r->arena = arena;
    r->err = err != NULL ? err : &local;
    r->file = bm_arena_strndup(arena, name, strlen(name));
    if (r->file == NULL || yaml_parser_initialize(&r->parser) == 0) {
        bm_free(r);
        return bm_fail(err, BM_NOMEM, "%s: no memory to read it", name);
    }
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, len);
    rc = read_stream(r, out);
    if (rc == 0 && *out == NULL) {
        bm_yaml_node *n = alloc(r, 1, sizeof *n);
        if (n == NULL)
            rc = r->err->code;
        else
            *n = (bm_yaml_node){.kind = BM_YAML_NULL, .line = 1, .file = r->file, .weight = 1}, *out = n;
    }
    yaml_parser_delete(&r->parser);
    bm_free(r);
    return rc;
}

int bm_yaml_read(bm_arena *arena, const bm_yaml_node **out, const char *path, bm_error *err)
{
    char *text = NULL;
    size_t len;
    int rc = bm_read_file(&text, &len, path, BM_YAML_MAX_BYTES, err);

    if (rc == 0)
        rc = bm_yaml_parse(arena, out, text, len, path, err);
    bm_free(text);
    return rc;
}

const bm_yaml_pair *bm_yaml_get(const bm_yaml_node *map, const char *key)
{
    return map == NULL || map->kind != BM_YAML_MAP ? NULL : find_pair(map, key);
}

/* ---- as JSON ---- */

static int to_json(json_t **out, const bm_yaml_node *node, bool named, bm_error *err);

static int collection_to_json(json_t *into, const bm_yaml_node *node, bool named, bm_error *err)
{
    size_t n = node->kind == BM_YAML_LIST ? node->n_items : node->n_pairs;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        json_t *v = NULL;
        if ((rc = to_json(&v, node->kind == BM_YAML_LIST ? node->items[i] : node->pairs[i].value, named, err)) < 0)
            break;
        int bad = node->kind == BM_YAML_LIST ? json_array_append_new(into, v) : json_object_set_new_nocheck(into, node->pairs[i].key, v);
        if (bad != 0)
            rc = bm_fail(err, BM_NOMEM, "%s: no memory for its values", node->file);
    }
    return rc;
}

static int to_json(json_t **out, const bm_yaml_node *node, bool named, bm_error *err)
{
    int rc = 0;

    *out = NULL;
    switch (node->kind) {
    case BM_YAML_FUNCTION:
        if (named) {
            *out = json_sprintf("!function %s", node->s);
            break;
        }
        return bm_fail(err, BM_UNSUPPORTED, "%s:%d: a Python function (%.80s) cannot stand here", node->file, node->line, node->s);
    case BM_YAML_NULL:
        *out = json_null();
        break;
    case BM_YAML_BOOL:
        *out = json_boolean(node->b);
        break;
    case BM_YAML_INT:
        *out = json_integer(node->i);
        break;
    case BM_YAML_REAL:
        if ((*out = json_real(node->f)) == NULL && (node->f != node->f || node->f - node->f != 0))
            return bm_fail(err, BM_INVALID, "%s:%d: an infinity or NaN has no use here", node->file, node->line);
        break;
    case BM_YAML_STR:
        *out = json_stringn(node->s, node->len);
        break;
    default:
        *out = node->kind == BM_YAML_LIST ? json_array() : json_object();
        if (*out != NULL)
            rc = collection_to_json(*out, node, named, err);
    }
    if (*out == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for its values", node->file);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

int bm_yaml_to_json(json_t **out, const bm_yaml_node *node, bm_error *err)
{
    return to_json(out, node, false, err);
}

int bm_yaml_to_json_named(json_t **out, const bm_yaml_node *node, bm_error *err)
{
    return to_json(out, node, true, err);
}

const char *bm_yaml_kind_name(bm_yaml_kind kind)
{
    static const char *const names[] = {"nothing", "true or false", "an integer", "a number", "a string", "a list", "a map", "a Python function"};

    return names[kind];
}
