/* source.h - a task file with its `include`s merged, as lm-eval's load_yaml does it: included files in order, local keys last and
 * strongest, a file at most once in a tree. Every value remembers the file and line that it came from. */
#pragma once
#include "eval/yaml.h"

enum { BM_SOURCE_MAX_FILES = 64 };

typedef struct bm_source {
    bm_arena arena;                      /* all nodes */
    const bm_yaml_node *map;             /* without its include keys */
    const char *files[BM_SOURCE_MAX_FILES];      /* as they were opened, the file itself first */
    const char *real[BM_SOURCE_MAX_FILES];       /* the same without links and dots: a file is read once */
    size_t n_files;
} bm_source;

int  bm_source_read(bm_source *out, const char *path, bm_error *err);
void bm_source_done(bm_source *source);
/* base's pairs with over's on top of them, in arena; NULL: no memory. */
const bm_yaml_node *bm_source_merge(bm_arena *arena, const bm_yaml_node *base, const bm_yaml_node *over);
/* "FILE:LINE: KEY: what" with the code; pair NULL: the map's own line and no key. Returns code. */
int  bm_source_fail(bm_error *err, int code, const bm_yaml_pair *pair, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
