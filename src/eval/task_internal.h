/* task_internal.h - what the files that make tasks share. Private to src/eval/task*.c, index.c and list.c. */
#pragma once
#include "eval/source.h"
#include "eval/task.h"

/* A task from a merged map. name: instead of its `task`, or NULL. The source's files are noted as the task's. */
int  bm_task_from_map(bm_task **out, const bm_source *source, const bm_yaml_node *map, const bm_task_options *options, bm_error *err);

/* task_parts.c: fields, metrics, filters and the configuration as JSON */
typedef struct bm_task_reader {
    bm_task *task;
    const bm_yaml_node *map;
    bm_error *err;
} bm_task_reader;
int  bm_task_read_field(bm_task_reader *r, bm_task_field *out, const bm_yaml_pair *pair, const char *where);
int  bm_task_read_metrics(bm_task_reader *r);
int  bm_task_read_filters(bm_task_reader *r);
int  bm_task_make_config(bm_task_reader *r);
int  bm_task_copy_field(bm_task_field *out, const bm_task_field *from, bm_error *err);
void bm_task_field_done(bm_task_field *field);
int  bm_task_no_memory(bm_error *err);
/* A string (or null: NULL) into *out; anything else is refused by file, line and key. */
int  bm_task_read_string(bm_task_reader *r, char **out, const bm_yaml_pair *pair);
/* metadata.version as Python's str() gives it; fallback when there is none. */
int  bm_task_read_version(char **out, const bm_yaml_node *map, const char *fallback, bm_error *err);

/* task_names.c: what metrics there are */
typedef struct bm_metric_kind { const char *name, *aggregation; bool higher_is_better; } bm_metric_kind;
const bm_metric_kind *bm_metric_kind_find(const char *name);
bool bm_aggregation_known(const char *name);
bool bm_filter_name_known(const char *name);
