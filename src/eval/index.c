/* index.c - which task, group and tag names the YAML files of some folders define. Within a folder the first file of a name wins, in
 * the order of paths; a later folder wins over an earlier one. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "eval/task_internal.h"

enum { MAX_FILES = 200000, MAX_FOLDER_DEPTH = 24 };

typedef struct names { char **v; size_t n, cap; } names;

struct bm_task_index {
    bm_task_entry *entries;
    size_t n, cap;
    size_t sorted;                       /* entries before it are in order */
};

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for the names of tasks"); }

static int names_add(names *list, const char *text, bm_error *err)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        char **grown = bm_realloc(list->v, cap * sizeof *grown);
        if (grown == NULL)
            return no_memory(err);
        list->v = grown, list->cap = cap;
    }
    if ((list->v[list->n] = bm_strdup(text)) == NULL)
        return no_memory(err);
    list->n++;
    return 0;
}

static void names_done(names *list)
{
    for (size_t i = 0; i < list->n; i++)
        bm_free(list->v[i]);
    bm_free(list->v);
    *list = (names){0};
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int by_name(const void *a, const void *b) { return strcmp(((const bm_task_entry *)a)->name, ((const bm_task_entry *)b)->name); }

/* ---- the shipped folder ---- */

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int bm_task_shipped_dir(char **out, bm_error *err)
{
    static const char *const places[] = {"../share/baimo/tasks", "../tasks", "../../tasks"};
    const char *given = getenv("BAIMO_TASKS");
    char program[4096];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    bm_buf path = {0};

    *out = NULL;
    if (given != NULL && *given != '\0')
        return is_folder(given) && (*out = bm_strdup(given)) != NULL ? 0 : bm_fail(err, BM_NOTFOUND, "BAIMO_TASKS: no folder %s", given);
    while (len > 0 && program[len - 1] != '/')
        len--;
    for (size_t i = 0; len > 0 && i < sizeof places / sizeof places[0]; i++) {
        bm_buf_clear(&path);
        bm_buf_printf(&path, "%.*s%s", (int)len, program, places[i]);
        if (!path.failed && is_folder(path.data)) {
            *out = bm_buf_take(&path);
            return *out == NULL ? no_memory(err) : 0;
        }
    }
    bm_buf_done(&path);
    bm_fail(err, BM_NOTFOUND, "the folder of the tasks that ship with the program is not there");
    return bm_hint(err, "BAIMO_TASKS=DIR names it");
}

/* ---- files ---- */

static bool is_yaml(const char *name)
{
    size_t len = strlen(name);

    return len > 5 && strcmp(name + len - 5, ".yaml") == 0;
}

/* A folder that cannot be read is an empty one. */
static int walk(names *files, const char *dir, int depth, bm_error *err)
{
    DIR *d = depth > MAX_FOLDER_DEPTH ? NULL : opendir(dir);
    struct dirent *e;
    int rc = 0;

    while (d != NULL && rc == 0 && (e = readdir(d)) != NULL) {
        struct stat st;
        bm_buf path = {0};
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "__pycache__") == 0 ||
            strcmp(e->d_name, ".ipynb_checkpoints") == 0)
            continue;
        bm_buf_printf(&path, "%s/%s", dir, e->d_name);
        if (path.failed)
            rc = no_memory(err);
        else if (files->n >= MAX_FILES)
            rc = bm_fail(err, BM_LIMIT, "%s: more than %d task files", dir, MAX_FILES);
        else if (stat(path.data, &st) == 0 && S_ISDIR(st.st_mode))
            rc = walk(files, path.data, depth + 1, err);
        else if (is_yaml(e->d_name))
            rc = names_add(files, path.data, err);
        bm_buf_done(&path);
    }
    if (d != NULL)
        closedir(d);
    return rc;
}

/* ---- entries ---- */

static void entry_done(bm_task_entry *e)
{
    bm_free(e->name);
    bm_free(e->file);
    for (size_t i = 0; i < e->n_members; i++)
        bm_free(e->members[i]);
    bm_free(e->members);
}

static bm_task_entry *find(const bm_task_index *index, const char *name)
{
    bm_task_entry key = {.name = (char *)(uintptr_t)name};
    bm_task_entry *e = index->sorted > 0 ? bsearch(&key, index->entries, index->sorted, sizeof key, by_name) : NULL;

    for (size_t i = index->sorted; e == NULL && i < index->n; i++)
        if (strcmp(index->entries[i].name, name) == 0)
            e = &index->entries[i];
    return e;
}

static int add_entry(bm_task_index *index, bm_entry_kind kind, const char *name, const char *file, bm_task_entry **out, bm_error *err)
{
    bm_task_entry e = {.kind = kind};

    if (index->n == index->cap) {
        size_t cap = index->cap == 0 ? 64 : index->cap * 2;
        bm_task_entry *grown = bm_realloc(index->entries, cap * sizeof *grown);
        if (grown == NULL)
            return no_memory(err);
        index->entries = grown, index->cap = cap;
    }
    e.name = bm_strdup(name);
    e.file = file != NULL ? bm_strdup(file) : NULL;
    if (e.name == NULL || (file != NULL && e.file == NULL)) {
        entry_done(&e);
        return no_memory(err);
    }
    index->entries[index->n] = e;
    *out = &index->entries[index->n++];
    if (index->n - index->sorted > 256) {                /* the tail is searched by walking: keep it short */
        qsort(index->entries, index->n, sizeof *index->entries, by_name);
        index->sorted = index->n;
        *out = find(index, name);
    }
    return 0;
}

static int add_member(bm_task_entry *tag, const char *task, bm_error *err)
{
    names list = {tag->members, tag->n_members, tag->n_members};
    int rc = names_add(&list, task, err);

    tag->members = list.v, tag->n_members = list.n;
    return rc;
}

static int add_tag(bm_task_index *index, const bm_yaml_node *tag, const char *task, bm_error *err)
{
    bm_task_entry *e;
    int rc;

    if (tag->kind != BM_YAML_STR)
        return 0;
    if ((e = find(index, tag->s)) == NULL && (rc = add_entry(index, BM_ENTRY_TAG, tag->s, NULL, &e, err)) < 0)
        return rc;
    return e->kind == BM_ENTRY_TAG ? add_member(e, task, err) : 0;
}

/* What a file defines. A negative code is the file's own fault and is told, not returned. */
static int note_map(bm_task_index *index, const char *file, const bm_yaml_node *map, bm_error *err)
{
    const bm_yaml_pair *group = bm_yaml_get(map, "group"), *task = bm_yaml_get(map, "task"), *tag = bm_yaml_get(map, "tag");
    const bm_yaml_pair *class = bm_yaml_get(map, "class"), *name = class == NULL && group != NULL ? group : task;
    bm_task_entry *e;
    int rc;

    if (class != NULL)
        return bm_source_fail(err, BM_UNSUPPORTED, class, "a task written as a Python class is not run");
    if (name == NULL)
        return bm_fail(err, BM_INVALID, "%s:%d: task: missing: neither a task nor a group", file, map->line);
    if (name->value->kind != BM_YAML_STR || name->value->len == 0)
        return bm_source_fail(err, BM_INVALID, name, "must be a name, not %s", bm_yaml_kind_name(name->value->kind));
    if ((e = find(index, name->value->s)) != NULL && e->kind != BM_ENTRY_TAG)
        return bm_source_fail(err, BM_EXISTS, name, "'%.80s' is defined by %s already", name->value->s, e->file);
    if (e != NULL)
        return bm_source_fail(err, BM_EXISTS, name, "'%.80s' is a tag already", name->value->s);
    if ((rc = add_entry(index, name == group ? BM_ENTRY_GROUP : BM_ENTRY_TASK, name->value->s, file, &e, err)) < 0 || name == group || tag == NULL)
        return rc;
    if (tag->value->kind != BM_YAML_LIST)
        return add_tag(index, tag->value, name->value->s, err);
    for (size_t i = 0; i < tag->value->n_items && rc == 0; i++)
        rc = add_tag(index, tag->value->items[i], name->value->s, err);
    return rc;
}

static int read_folder(bm_task_index *index, const char *dir, bm_task_report *report, void *arg, bm_error *err)
{
    names files = {0};
    int rc = walk(&files, dir, 0, err);

    if (rc == 0)
        qsort(files.v, files.n, sizeof *files.v, by_text);
    for (size_t i = 0; i < files.n && rc == 0; i++) {
        bm_source source;
        bm_error local = {0};
        int bad = bm_source_read(&source, files.v[i], &local);
        if (bad == 0) {
            bad = note_map(index, files.v[i], source.map, &local);
            bm_source_done(&source);
        }
        if (bad == BM_NOMEM)
            rc = no_memory(err);
        else if (bad < 0 && report != NULL)
            report(arg, files.v[i], &local);
    }
    names_done(&files);
    return rc;
}

/* Put the names of one folder over those that were there. */
static int overlay(bm_task_index *index, bm_task_index *folder, bm_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < folder->n && rc == 0; i++) {
        bm_task_entry *from = &folder->entries[i], *to = find(index, from->name);
        int shadow = to != NULL ? to->shadow + 1 : 0;
        if (to == NULL && (rc = add_entry(index, from->kind, from->name, NULL, &to, err)) < 0)
            break;
        entry_done(to);
        *to = *from;
        to->shadow = shadow;
        memset(from, 0, sizeof *from);
    }
    qsort(index->entries, index->n, sizeof *index->entries, by_name);
    index->sorted = index->n;
    return rc;
}

int bm_task_index_open(bm_task_index **out, const char *const *dirs, size_t n_dirs, bm_task_report *report, void *arg, bm_error *err)
{
    bm_task_index *index = bm_zalloc(sizeof *index);
    int rc = index == NULL ? no_memory(err) : 0;

    *out = NULL;
    for (size_t i = 0; i < n_dirs && rc == 0; i++) {
        bm_task_index *folder = bm_zalloc(sizeof *folder);
        if (folder == NULL)
            rc = no_memory(err);
        else if ((rc = read_folder(folder, dirs[i], report, arg, err)) == 0)
            rc = overlay(index, folder, err);
        bm_task_index_close(folder);
    }
    for (size_t i = 0; rc == 0 && i < index->n; i++)
        if (index->entries[i].n_members > 0)
            qsort(index->entries[i].members, index->entries[i].n_members, sizeof(char *), by_text);
    if (rc < 0)
        bm_task_index_close(index);
    else
        *out = index;
    return rc;
}

void bm_task_index_close(bm_task_index *index)
{
    if (index == NULL)
        return;
    for (size_t i = 0; i < index->n; i++)
        entry_done(&index->entries[i]);
    bm_free(index->entries);
    bm_free(index);
}

size_t bm_task_index_count(const bm_task_index *index)
{
    return index->n;
}

const bm_task_entry *bm_task_index_at(const bm_task_index *index, size_t i)
{
    return &index->entries[i];
}

const bm_task_entry *bm_task_index_find(const bm_task_index *index, const char *name)
{
    return find(index, name);
}
