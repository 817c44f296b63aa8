/* docs.h - documents of a task: rows of local files, with the types that HF datasets would give them.
 * JSON lines, JSON (an array, or an object with `field`), CSV/TSV (pandas' inference of columns) and text. A document is a JSON object
 * whose keys stand in the file's order; columns that some rows lack are null there; a column (or a nested field) with both
 * integers and reals has reals. Read-only once loaded: safe from any thread. */
#pragma once
#include <jansson.h>
#include "eval/task.h"

/* Which local file holds a split of a data set? Fill *path (bm_strdup'ed, the reader frees it) or return BM_NOTFOUND with the
 * command that registers it as hint. name may be NULL. */
typedef int bm_data_resolve(void *arg, const char *dataset_path, const char *dataset_name, const char *split, char **path,
                            bm_error *err);

typedef struct bm_docs {
    json_t *rows;                        /* array of objects */
    size_t n;
    char *path;                          /* the (first) file that they came from; NULL: samples in the task file */
    char **features;                     /* the column names, in order */
    size_t n_features;
} bm_docs;

/* The rows of one split. dataset_kwargs.data_files ({split: path or list}) wins over resolve (relative paths: to the task's
 * file); a dataset_path of json, csv or text needs it. Errors name the file and the line of the row.
 * A broken row is an error (BM_INVALID "FILE:LINE: what"), never skipped. */
int  bm_docs_load(bm_docs **out, const bm_task *task, const char *split, bm_data_resolve *resolve, void *arg, bm_error *err);
void bm_docs_free(bm_docs *docs);

/* Read a file by its ending (.jsonl .json .csv .tsv .txt .raw), with the reader's options of dataset_kwargs (may be NULL). */
int  bm_docs_read(bm_docs **out, const char *path, const json_t *dataset_kwargs, bm_error *err);

/* Whether the row has the column. */
bool bm_docs_has_feature(const bm_docs *docs, const char *name);
