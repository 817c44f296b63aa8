/* list.c - from the names that a user gives to tasks and groups: lm-eval's TaskManager and TaskFactory. A group's keys that are no
 * group's keys are overrides of all its tasks; a member that is a map overrides its own. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "eval/task_internal.h"

enum { MAX_GROUP_DEPTH = 12, MAX_TASKS = 20000 };

typedef struct builder {
    bm_task_list *list;
    const bm_task_index *index;
    const bm_task_options *options;
    bm_error *err;
    int depth;
} builder;

static void *grow(void *v, size_t n, size_t size)
{
    return (n & (n - 1)) == 0 ? bm_realloc(v, (n == 0 ? 1 : n * 2) * size) : v;
}

/* A task whose name is there already takes its place, as in lm-eval's dict. */
static int add_task(builder *b, bm_task *task, size_t *at)
{
    bm_task_list *l = b->list;

    for (*at = 0; *at < l->n_tasks; ++*at)
        if (strcmp(l->tasks[*at]->name, task->name) == 0) {
            bm_task_free(l->tasks[*at]);
            l->tasks[*at] = task;
            return 0;
        }
    bm_task **grown = l->n_tasks < MAX_TASKS ? grow(l->tasks, l->n_tasks, sizeof *grown) : NULL;
    if (grown == NULL) {
        bm_task_free(task);
        return l->n_tasks < MAX_TASKS ? bm_task_no_memory(b->err) : bm_fail(b->err, BM_LIMIT, "more than %d tasks", MAX_TASKS);
    }
    l->tasks = grown;
    l->tasks[l->n_tasks++] = task;
    return 0;
}

static int add_member(builder *b, size_t group, bool is_group, size_t index)
{
    bm_group *g = &b->list->groups[group];
    size_t n = is_group ? g->n_groups : g->n_tasks;
    size_t *list = grow(is_group ? g->groups : g->tasks, n, sizeof *list);
    struct bm_member *members = list == NULL ? NULL : grow(g->members, g->n_members, sizeof *members);

    if (list != NULL)
        *(is_group ? &g->groups : &g->tasks) = list;
    if (members == NULL)
        return bm_task_no_memory(b->err);
    g->members = members;
    for (size_t i = 0; i < g->n_members; i++)
        if (members[i].is_group == is_group && members[i].index == index)
            return 0;
    list[n] = index;
    *(is_group ? &g->n_groups : &g->n_tasks) = n + 1;
    members[g->n_members++] = (struct bm_member){is_group, index};
    return 0;
}

static int build_group(builder *b, const char *name, const bm_source *source, const bm_yaml_node *map, const bm_yaml_node *overrides, size_t *at);

/* ---- tasks ---- */

static int build_task_file(builder *b, const char *file, const bm_yaml_node *overrides, size_t *at)
{
    bm_task *task;
    bm_source source;
    const bm_yaml_node *map;
    int rc;

    if ((rc = bm_source_read(&source, file, b->err)) < 0)
        return rc;
    map = source.map;
    if (bm_yaml_get(map, "task") == NULL && bm_yaml_get(map, "class") == NULL)
        rc = bm_fail(b->err, BM_INVALID, "%s:%d: task: missing: neither a task nor a group", file, map->line);
    else if (overrides != NULL && (map = bm_source_merge(&source.arena, map, overrides)) == NULL)
        rc = bm_task_no_memory(b->err);
    else if ((rc = bm_task_from_map(&task, &source, map, b->options, b->err)) == 0)
        rc = add_task(b, task, at);
    bm_source_done(&source);
    return rc;
}

static const bm_yaml_node *without_keys(bm_arena *arena, const bm_yaml_node *map, const char *const *keys, size_t n_keys)
{
    bm_yaml_node *copy = bm_arena_alloc(arena, sizeof *copy);

    if (copy == NULL || map->kind != BM_YAML_MAP)
        return copy;
    *copy = *map;
    if ((copy->pairs = bm_arena_alloc(arena, (map->n_pairs + 1) * sizeof *copy->pairs)) == NULL)
        return NULL;
    copy->n_pairs = 0;
    for (size_t i = 0; i < map->n_pairs; i++) {
        size_t k = 0;
        while (k < n_keys && strcmp(keys[k], map->pairs[i].key) != 0)
            k++;
        if (k == n_keys)
            copy->pairs[copy->n_pairs++] = map->pairs[i];
    }
    return copy;
}

static const bm_yaml_node *over(bm_arena *arena, const bm_yaml_node *base, const bm_yaml_node *top)
{
    return base == NULL ? top : bm_source_merge(arena, base, top);
}

/* A member that no file defines: the overrides are the whole task, under the group's name. */
static int build_inline_task(builder *b, const char *group, const char *name, const bm_source *source, const bm_yaml_node *map, size_t *at)
{
    bm_arena *arena = (bm_arena *)(uintptr_t)&source->arena;
    bm_yaml_node *node = bm_arena_alloc(arena, sizeof *node), *one = bm_arena_alloc(arena, sizeof *one);
    bm_yaml_pair *pair = bm_arena_alloc(arena, sizeof *pair);
    bm_task *task;
    bm_buf full = {0};
    int rc;

    bm_buf_printf(&full, "%s::%s", group, name);
    if (node == NULL || one == NULL || pair == NULL || full.failed || (node->s = bm_arena_strndup(arena, full.data, full.len)) == NULL) {
        bm_buf_done(&full);
        return bm_task_no_memory(b->err);
    }
    node->kind = BM_YAML_STR, node->len = full.len, node->line = map->line, node->file = map->file;
    *pair = (bm_yaml_pair){"task", map->line, map->file, node};
    *one = (bm_yaml_node){.kind = BM_YAML_MAP, .line = map->line, .file = map->file, .pairs = pair, .n_pairs = 1};
    bm_buf_done(&full);
    if ((map = bm_source_merge(arena, map, one)) == NULL)
        return bm_task_no_memory(b->err);
    if ((rc = bm_task_from_map(&task, source, map, b->options, b->err)) < 0)
        return rc;
    return add_task(b, task, at);
}

/* ---- groups ---- */

static int read_aggregate(builder *b, bm_group_metric *m, const bm_yaml_node *v)
{
    const bm_yaml_pair *metric = bm_yaml_get(v, "metric"), *weight = bm_yaml_get(v, "weight_by_size");
    const bm_yaml_pair *filters = bm_yaml_get(v, "filter_list"), *aggregation = bm_yaml_get(v, "aggregation");
    size_t n;

    if (metric == NULL || metric->value->kind != BM_YAML_STR)
        return bm_fail(b->err, BM_INVALID, "%s:%d: aggregate_metric_list: each entry is a map with a `metric`", v->file, v->line);
    if (aggregation != NULL && (aggregation->value->kind != BM_YAML_STR || strcmp(aggregation->value->s, "mean") != 0))
        return bm_source_fail(b->err, BM_UNSUPPORTED, aggregation, "a group's scores are put together by the mean only");
    if (weight != NULL && weight->value->kind != BM_YAML_BOOL)
        return bm_source_fail(b->err, BM_INVALID, weight, "must be true or false");
    m->weight_by_size = weight == NULL || weight->value->b;
    if ((m->metric = bm_strdup(metric->value->s)) == NULL)
        return bm_task_no_memory(b->err);
    if (filters == NULL || filters->value->kind == BM_YAML_NULL)
        return 0;
    n = filters->value->kind == BM_YAML_LIST ? filters->value->n_items : 1;
    if ((m->filters = bm_calloc(n + 1, sizeof *m->filters)) == NULL)
        return bm_task_no_memory(b->err);
    for (size_t i = 0; i < n; i++) {
        const bm_yaml_node *f = filters->value->kind == BM_YAML_LIST ? filters->value->items[i] : filters->value;
        if (f->kind != BM_YAML_STR)
            return bm_source_fail(b->err, BM_INVALID, filters, "must be a filter's name or a list of them");
        if ((m->filters[m->n_filters++] = bm_strdup(f->s)) == NULL)
            return bm_task_no_memory(b->err);
    }
    return 0;
}

static int read_aggregates(builder *b, bm_group *g, const bm_yaml_pair *pair)
{
    const bm_yaml_node *list = pair != NULL ? pair->value : NULL;
    size_t n = list == NULL || list->kind == BM_YAML_NULL ? 0 : list->kind == BM_YAML_LIST ? list->n_items : 1;
    int rc = 0;

    if (n == 0)
        return 0;
    if ((g->metrics = bm_calloc(n, sizeof *g->metrics)) == NULL)
        return bm_task_no_memory(b->err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = read_aggregate(b, &g->metrics[g->n_metrics++], list->kind == BM_YAML_LIST ? list->items[i] : list);
    return rc;
}

static int new_group(builder *b, const char *name, const bm_yaml_node *map, size_t *at)
{
    const bm_yaml_pair *alias = bm_yaml_get(map, "group_alias"), *metadata = bm_yaml_get(map, "metadata");
    bm_group *grown = grow(b->list->groups, b->list->n_groups, sizeof *grown), *g;
    int rc;

    if (grown == NULL)
        return bm_task_no_memory(b->err);
    b->list->groups = grown;
    *at = b->list->n_groups++;
    g = &grown[*at];
    memset(g, 0, sizeof *g);
    if (alias != NULL && alias->value->kind != BM_YAML_NULL && alias->value->kind != BM_YAML_STR)
        return bm_source_fail(b->err, BM_INVALID, alias, "must be a string");
    g->name = bm_strdup(name), g->file = bm_strdup(map->file);
    if (alias != NULL && alias->value->kind == BM_YAML_STR)
        g->alias = bm_strdup(alias->value->s);
    if (g->name == NULL || g->file == NULL)
        return bm_task_no_memory(b->err);
    if (metadata != NULL && metadata->value->kind == BM_YAML_MAP && (rc = bm_yaml_to_json(&g->metadata, metadata->value, b->err)) < 0)
        return rc;
    if ((rc = bm_task_read_version(&g->version, map, "N/A", b->err)) < 0)
        return rc;
    return read_aggregates(b, g, bm_yaml_get(map, "aggregate_metric_list"));
}

static int build_entry(builder *b, const bm_task_entry *e, const bm_yaml_node *overrides, bool *is_group, size_t *at)
{
    bm_source source;
    int rc;

    *is_group = e->kind == BM_ENTRY_GROUP;
    if (e->kind == BM_ENTRY_TASK)
        return build_task_file(b, e->file, overrides, at);
    if ((rc = bm_source_read(&source, e->file, b->err)) < 0)
        return rc;
    rc = build_group(b, e->name, &source, source.map, overrides, at);
    bm_source_done(&source);
    return rc;
}

static int build_tag(builder *b, const bm_task_entry *tag, const bm_yaml_node *overrides, size_t group)
{
    int rc = 0;

    for (size_t i = 0; i < tag->n_members && rc == 0; i++) {
        const bm_task_entry *e = bm_task_index_find(b->index, tag->members[i]);
        size_t at;
        if (e == NULL || e->kind != BM_ENTRY_TASK)
            continue;
        if ((rc = build_task_file(b, e->file, overrides, &at)) == 0 && group != SIZE_MAX)
            rc = add_member(b, group, false, at);
    }
    return rc;
}

/* One member: a name, a map with `task`, or a map with `group`. */
static int build_member(builder *b, size_t group, const bm_source *source, const bm_yaml_node *item, const bm_yaml_node *overrides)
{
    static const char *const task_key[] = {"task"}, *const group_key[] = {"group"};
    bm_arena *arena = (bm_arena *)(uintptr_t)&source->arena;
    const bm_yaml_pair *sub = bm_yaml_get(item, "group"), *task = bm_yaml_get(item, "task");
    const bm_yaml_node *name = item->kind == BM_YAML_STR ? item : sub != NULL ? sub->value : task != NULL ? task->value : item;
    const bm_yaml_node *own = item->kind == BM_YAML_MAP ? without_keys(arena, item, sub != NULL ? group_key : task_key, 1) : NULL;
    const bm_task_entry *e = name->kind == BM_YAML_STR && b->index != NULL ? bm_task_index_find(b->index, name->s) : NULL;
    bool is_group = false;
    size_t at;
    int rc;

    if (name->kind != BM_YAML_STR)
        return bm_fail(b->err, BM_INVALID, "%s:%d: task: a member is a name, or a map with `task` or `group`", item->file, item->line);
    if (item->kind == BM_YAML_MAP && (own == NULL || (own = over(arena, overrides, own)) == NULL))
        return bm_task_no_memory(b->err);
    if (own == NULL)
        own = overrides;
    if (sub != NULL && e == NULL) {
        bm_buf full = {0};
        bm_buf_printf(&full, "%s::%s", b->list->groups[group].name, name->s);
        rc = full.failed ? bm_task_no_memory(b->err) : build_group(b, full.data, source, item, overrides, &at);
        bm_buf_done(&full);
        is_group = true;
    } else if (e == NULL && item->kind == BM_YAML_STR) {
        return bm_fail(b->err, BM_NOTFOUND, "%s:%d: task: there is no task or group '%.80s'", item->file, item->line, name->s);
    } else if (e == NULL) {
        rc = build_inline_task(b, b->list->groups[group].name, name->s, source, own, &at);
    } else if (e->kind == BM_ENTRY_TAG) {
        return build_tag(b, e, own, group);
    } else {
        rc = build_entry(b, e, own, &is_group, &at);
    }
    return rc < 0 ? rc : add_member(b, group, is_group, at);
}

static int build_group(builder *b, const char *name, const bm_source *source, const bm_yaml_node *map, const bm_yaml_node *overrides, size_t *at)
{
    static const char *const keys[] = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"};
    bm_arena *arena = (bm_arena *)(uintptr_t)&source->arena;
    const bm_yaml_pair *members = bm_yaml_get(map, "task");
    const bm_yaml_node *all = without_keys(arena, map, keys, sizeof keys / sizeof keys[0]);
    int rc;

    if (all == NULL || (overrides != NULL && (all = bm_source_merge(arena, all, overrides)) == NULL))
        return bm_task_no_memory(b->err);
    if (b->depth >= MAX_GROUP_DEPTH)
        return bm_fail(b->err, BM_LIMIT, "%s:%d: group: groups inside each other, deeper than %d", map->file, map->line, MAX_GROUP_DEPTH);
    if ((rc = new_group(b, name, map, at)) < 0)
        return rc;
    b->depth++;
    for (size_t i = 0; members != NULL && members->value->kind == BM_YAML_LIST && i < members->value->n_items && rc == 0; i++)
        rc = build_member(b, *at, source, members->value->items[i], all->n_pairs > 0 ? all : NULL);
    b->depth--;
    return rc;
}

/* ---- names ---- */

static int build_path(builder *b, const char *path)
{
    bm_source source;
    size_t at;
    int rc;

    if ((rc = bm_source_read(&source, path, b->err)) < 0)
        return rc;
    const bm_yaml_pair *group = bm_yaml_get(source.map, "group");
    if (group == NULL || bm_yaml_get(source.map, "class") != NULL) {
        bm_source_done(&source);
        return build_task_file(b, path, NULL, &at);
    }
    if (group->value->kind != BM_YAML_STR)
        rc = bm_source_fail(b->err, BM_INVALID, group, "must be a name");
    else if ((rc = build_group(b, group->value->s, &source, source.map, NULL, &at)) == 0)
        b->list->groups[at].top = true;
    bm_source_done(&source);
    return rc;
}

static int not_found(builder *b, const char *name)
{
    size_t n = b->index != NULL ? bm_task_index_count(b->index) : 0, near[3], n_near;
    const char **all = bm_calloc(n + 1, sizeof *all);
    bm_buf hint = {0};

    bm_fail(b->err, BM_NOTFOUND, "there is no task, group or tag '%.100s', and no such file", name);
    bm_hint(b->err, "baimo eval tasks lists them");
    for (size_t i = 0; all != NULL && i < n; i++)
        all[i] = bm_task_index_at(b->index, i)->name;
    n_near = all != NULL ? bm_nearest(name, all, n, near, 3) : 0;
    for (size_t i = 0; i < n_near; i++)
        bm_buf_printf(&hint, "%s%.60s", i > 0 ? ", " : "", all[near[i]]);
    if (n_near > 0 && !hint.failed)
        bm_hint(b->err, "did you mean %s?", hint.data);
    bm_buf_done(&hint);
    bm_free(all);
    return b->err->code;
}

static int build_known(builder *b, const bm_task_entry *e)
{
    bool is_group;
    size_t at;
    int rc;

    if (e->kind == BM_ENTRY_TAG)
        return build_tag(b, e, NULL, SIZE_MAX);
    if ((rc = build_entry(b, e, NULL, &is_group, &at)) == 0 && is_group)
        b->list->groups[at].top = true;
    return rc;
}

static int build_name(builder *b, const char *name)
{
    const bm_task_entry *e = b->index != NULL ? bm_task_index_find(b->index, name) : NULL;
    bool any = false;
    struct stat st;
    int rc = 0;

    if (e != NULL)
        return build_known(b, e);
    if (stat(name, &st) == 0 && S_ISREG(st.st_mode))
        return build_path(b, name);
    for (size_t i = 0; b->index != NULL && strpbrk(name, "*?[") != NULL && i < bm_task_index_count(b->index) && rc == 0; i++) {
        e = bm_task_index_at(b->index, i);
        if (fnmatch(name, e->name, 0) != 0)
            continue;
        any = true;
        rc = build_known(b, e);
    }
    return any || rc < 0 ? rc : not_found(b, name);
}

int bm_task_list_load(bm_task_list **out, const bm_task_index *index, const char *const *names, size_t n_names,
                      const bm_task_options *options, bm_error *err)
{
    bm_error local = {0};
    builder b = {.index = index, .options = options, .err = err != NULL ? err : &local};
    int rc = 0;

    *out = NULL;
    if ((b.list = bm_zalloc(sizeof *b.list)) == NULL)
        return bm_task_no_memory(err);
    for (size_t i = 0; i < n_names && rc == 0; i++)
        rc = build_name(&b, names[i]);
    if (rc == 0 && b.list->n_tasks == 0)
        rc = bm_fail(b.err, BM_INVALID, "no tasks: the names given hold none");
    if (rc < 0)
        bm_task_list_free(b.list);
    else
        *out = b.list;
    return rc;
}

static void free_group(bm_group *g)
{
    for (size_t i = 0; i < g->n_metrics; i++) {
        for (size_t k = 0; k < g->metrics[i].n_filters; k++)
            bm_free(g->metrics[i].filters[k]);
        bm_free(g->metrics[i].filters);
        bm_free(g->metrics[i].metric);
    }
    bm_free(g->metrics);
    bm_free(g->name), bm_free(g->alias), bm_free(g->version), bm_free(g->file);
    bm_free(g->tasks), bm_free(g->groups), bm_free(g->members);
    json_decref(g->metadata);
}

void bm_task_list_free(bm_task_list *list)
{
    if (list == NULL)
        return;
    for (size_t i = 0; i < list->n_tasks; i++)
        bm_task_free(list->tasks[i]);
    for (size_t i = 0; i < list->n_groups; i++)
        free_group(&list->groups[i]);
    bm_free(list->tasks);
    bm_free(list->groups);
    bm_free(list);
}
