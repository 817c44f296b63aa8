/* source.c - includes. */
#include "eval/source.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct loader { bm_source *source; bm_error *err; } loader;

int bm_source_fail(bm_error *err, int code, const bm_yaml_pair *pair, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    bm_vfail(err, code, fmt, ap);
    va_end(ap);
    bm_wrap(err, "%s", pair->key);
    bm_wrap(err, "%s:%d", pair->file, pair->line);
    return code;
}

static void put(bm_yaml_node *map, const bm_yaml_pair *pair)
{
    for (size_t i = 0; i < map->n_pairs; i++)
        if (strcmp(map->pairs[i].key, pair->key) == 0) {
            map->pairs[i] = *pair;
            return;
        }
    map->pairs[map->n_pairs++] = *pair;
}

const bm_yaml_node *bm_source_merge(bm_arena *arena, const bm_yaml_node *base, const bm_yaml_node *over)
{
    bm_yaml_node *map = bm_arena_alloc(arena, sizeof *map);
    size_t cap = base->n_pairs + over->n_pairs;

    if (map == NULL)
        return NULL;
    *map = (bm_yaml_node){.kind = BM_YAML_MAP, .line = over->line, .file = over->file, .weight = base->weight + over->weight};
    if ((map->pairs = bm_arena_alloc(arena, (cap + 1) * sizeof *map->pairs)) == NULL)
        return NULL;
    for (size_t i = 0; i < base->n_pairs; i++)
        put(map, &base->pairs[i]);
    for (size_t i = 0; i < over->n_pairs; i++)
        put(map, &over->pairs[i]);
    return map;
}

static const bm_yaml_node *without(bm_arena *arena, const bm_yaml_node *map, const char *key)
{
    bm_yaml_node *copy = bm_arena_alloc(arena, sizeof *copy);

    if (copy == NULL)
        return NULL;
    *copy = *map;
    if ((copy->pairs = bm_arena_alloc(arena, (map->n_pairs + 1) * sizeof *copy->pairs)) == NULL)
        return NULL;
    copy->n_pairs = 0;
    for (size_t i = 0; i < map->n_pairs; i++)
        if (strcmp(map->pairs[i].key, key) != 0)
            copy->pairs[copy->n_pairs++] = map->pairs[i];
    return copy;
}

static int load(loader *l, const bm_yaml_node **out, const char *path, const bm_yaml_pair *from, int depth);

/* The folder of file with name behind it, in arena. */
static char *beside(bm_arena *arena, const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');
    size_t dir = name[0] == '/' || slash == NULL ? 0 : (size_t)(slash - file) + 1, len = strlen(name);
    char *path = bm_arena_alloc(arena, dir + len + 1);

    if (path != NULL) {
        memcpy(path, file, dir);
        memcpy(path + dir, name, len + 1);
    }
    return path;
}

static int include_one(loader *l, const bm_yaml_node **merged, const bm_yaml_pair *include, const bm_yaml_node *name, int depth)
{
    bm_arena *arena = &l->source->arena;
    const bm_yaml_node *child;
    char *path;
    int rc;

    if (name->kind != BM_YAML_STR || strlen(name->s) != name->len)
        return bm_source_fail(l->err, BM_INVALID, include, "a file's name or a list of them, not %s", bm_yaml_kind_name(name->kind));
    if ((path = beside(arena, include->file, name->s)) == NULL)
        return bm_fail(l->err, BM_NOMEM, "no memory for a task file");
    if ((rc = load(l, &child, path, include, depth + 1)) < 0)
        return rc;
    if ((child = without(arena, child, "task_list")) == NULL || (*merged = bm_source_merge(arena, *merged, child)) == NULL)
        return bm_fail(l->err, BM_NOMEM, "no memory for a task file");
    return 0;
}

static int merge_includes(loader *l, const bm_yaml_node **map, int depth)
{
    bm_arena *arena = &l->source->arena;
    const bm_yaml_pair *include = bm_yaml_get(*map, "include");
    const bm_yaml_node *own, *merged;
    bm_yaml_node *empty;
    int rc = 0;

    if (include == NULL)
        return 0;
    if ((empty = bm_arena_alloc(arena, sizeof *empty)) == NULL || (own = without(arena, *map, "include")) == NULL)
        return bm_fail(l->err, BM_NOMEM, "no memory for a task file");
    *empty = (bm_yaml_node){.kind = BM_YAML_MAP, .line = own->line, .file = own->file};
    merged = empty;
    if (include->value->kind != BM_YAML_LIST)
        rc = include_one(l, &merged, include, include->value, depth);
    for (size_t i = 0; include->value->kind == BM_YAML_LIST && i < include->value->n_items && rc == 0; i++)
        rc = include_one(l, &merged, include, include->value->items[i], depth);
    if (rc == 0 && (*map = bm_source_merge(arena, merged, own)) == NULL)
        rc = bm_fail(l->err, BM_NOMEM, "no memory for a task file");
    return rc;
}

static int load(loader *l, const bm_yaml_node **out, const char *path, const bm_yaml_pair *from, int depth)
{
    bm_source *s = l->source;
    char real[PATH_MAX];
    int rc;

    if (realpath(path, real) == NULL)
        return from != NULL ? bm_source_fail(l->err, BM_NOTFOUND, from, "no file %s", path) : bm_fail(l->err, BM_NOTFOUND, "%s: no such file", path);
    for (size_t i = 0; i < s->n_files; i++)
        if (strcmp(s->real[i], real) == 0)
            return from != NULL ? bm_source_fail(l->err, BM_INVALID, from, "%s is included twice", path)
                                : bm_fail(l->err, BM_INVALID, "%s: included twice", path);
    if (s->n_files == BM_SOURCE_MAX_FILES || depth > 16)
        return bm_fail(l->err, BM_LIMIT, "%s: too many files included", path);
    s->files[s->n_files] = bm_arena_strndup(&s->arena, path, strlen(path));
    s->real[s->n_files] = bm_arena_strndup(&s->arena, real, strlen(real));
    if (s->files[s->n_files] == NULL || s->real[s->n_files++] == NULL)
        return bm_fail(l->err, BM_NOMEM, "no memory for a task file");
    if ((rc = bm_yaml_read(&s->arena, out, path, l->err)) < 0)
        return rc;
    if ((*out)->kind != BM_YAML_MAP)
        return bm_fail(l->err, BM_INVALID, "%s:%d: a task file is a map of keys, not %s", path, (*out)->line, bm_yaml_kind_name((*out)->kind));
    return merge_includes(l, out, depth);
}

int bm_source_read(bm_source *out, const char *path, bm_error *err)
{
    bm_error local = {0};
    loader l = {out, err != NULL ? err : &local};

    memset(out, 0, sizeof *out);
    out->arena.limit_bytes = 256 << 20;
    int rc = load(&l, &out->map, path, NULL, 0);
    if (rc < 0)
        bm_source_done(out);
    return rc;
}

void bm_source_done(bm_source *source)
{
    bm_arena_done(&source->arena);
    memset(source, 0, sizeof *source);
}
