/* yaml.h - YAML 1.1 files as trees that remember their lines, with the scalars that PyYAML's SafeLoader makes of them, and the one
 * tag of task files: `!function module.name`. Hostile input: caps on bytes, depth, nodes and on what aliases expand to; an alias
 * inside its own anchor is refused. Nodes live in the caller's arena; errors say "FILE:LINE: what". */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/mem.h"

enum { BM_YAML_MAX_BYTES = 4 << 20, BM_YAML_MAX_DEPTH = 48, BM_YAML_MAX_NODES = 200000 };

typedef enum bm_yaml_kind {
    BM_YAML_NULL, BM_YAML_BOOL, BM_YAML_INT, BM_YAML_REAL, BM_YAML_STR, BM_YAML_LIST, BM_YAML_MAP, BM_YAML_FUNCTION
} bm_yaml_kind;

typedef struct bm_yaml_node bm_yaml_node;
typedef struct bm_yaml_pair {
    const char *key;                     /* of a key that is no string: as json.dumps writes it */
    int line;
    const char *file;
    const bm_yaml_node *value;
} bm_yaml_pair;

struct bm_yaml_node {
    bm_yaml_kind kind;
    int line;                            /* 1-based */
    const char *file;                    /* as given to bm_yaml_read */
    size_t weight;                       /* nodes when every alias is written out */
    union {
        bool b;
        int64_t i;
        double f;
        struct { const char *s; size_t len; };               /* STR; FUNCTION: "module.name" */
        struct { const bm_yaml_node **items; size_t n_items; };
        struct { bm_yaml_pair *pairs; size_t n_pairs; };     /* keys once each, in order of first mention */
    };
};

/* Read the one document of a file. An empty file is a NULL node. */
int  bm_yaml_read(bm_arena *arena, const bm_yaml_node **out, const char *path, bm_error *err);
/* The same from memory; name is the file's name in errors. */
int  bm_yaml_parse(bm_arena *arena, const bm_yaml_node **out, const char *text, size_t len, const char *name, bm_error *err);

const bm_yaml_pair *bm_yaml_get(const bm_yaml_node *map, const char *key);       /* NULL: not there, or not a map */
/* The value as JSON, the caller's. A function inside, an infinity or NaN: BM_INVALID with its line. */
int  bm_yaml_to_json(json_t **out, const bm_yaml_node *node, bm_error *err);
/* The same with functions as strings, "!function module.name". */
int  bm_yaml_to_json_named(json_t **out, const bm_yaml_node *node, bm_error *err);
const char *bm_yaml_kind_name(bm_yaml_kind kind);            /* "a string", "a list", ... */
