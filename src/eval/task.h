/* task.h - evaluation tasks: lm-evaluation-harness task files, read as they are, with every field resolved.
 * A task here is a plain value: read once, never changed, safe to read from any thread. It owns all that it points to.
 * Field names, defaults and meanings are those of lm-eval 0.4.13 (TaskConfig, FewshotConfig, GroupConfig); where a comment says
 * "lm-eval", that version is meant. Nothing here reads data: eval/docs.h does, eval/prompt.h turns documents into requests.
 *
 * A Python function (`!function module.name`) is accepted only when this program has its own equivalent (eval/known.h), checked by
 * the hash of the Python file beside the task; otherwise the task is refused by file, line and key. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

typedef enum bm_task_output {
    BM_TASK_MULTIPLE_CHOICE,             /* one log-likelihood per choice */
    BM_TASK_LOGLIKELIHOOD,               /* one, of the target */
    BM_TASK_ROLLING,                     /* of the target from its first token on, no context (loglikelihood_rolling) */
    BM_TASK_GENERATE                     /* generate_until */
} bm_task_output;
const char *bm_task_output_name(bm_task_output output);      /* "multiple_choice", ... */

/* What a document is turned into text, target or choices by. */
typedef enum bm_field_kind {
    BM_FIELD_NONE,                       /* not given */
    BM_FIELD_TEXT,                       /* a feature's name when the data have it, else a Jinja template */
    BM_FIELD_VALUE,                      /* an integer, a list (or a dict, whose values count) as written */
    BM_FIELD_KNOWN                       /* a function of eval/known.h */
} bm_field_kind;
typedef struct bm_task_field {
    bm_field_kind kind;
    char *text;                          /* TEXT */
    size_t len_text;
    json_t *value;                       /* VALUE */
    const struct bm_known *known;        /* KNOWN: see eval/known.h; not owned */
    int line;                            /* where it stands, for errors */
    const char *file;                    /* owned by the task (sources) */
} bm_task_field;

/* filter_list: each filter is a pipeline over the responses of a document; without a filter_list there is one, "none",
 * with the single step take_first. */
typedef struct bm_filter_step {
    char *function;                      /* "regex", "take_first", ... one of bm_filter_known() */
    json_t *args;                        /* object: the step's other keys (regex_pattern, group_select, fallback, ...) */
} bm_filter_step;
typedef struct bm_filter {
    char *name;                          /* "none", "strict-match", ... */
    bm_filter_step *steps;
    size_t n_steps;
} bm_filter;

typedef struct bm_metric {
    char *name;                          /* "acc", "exact_match", ... */
    char *aggregation;                   /* "mean", "perplexity", ...; the metric's default is filled in */
    bool higher_is_better;               /* the metric's default is filled in */
    json_t *args;                        /* object: ignore_case, regexes_to_ignore, ... */
    const struct bm_known *aggregation_known;   /* a known aggregation function instead of a name, or NULL */
} bm_metric;

typedef struct bm_task {
    char *name, *alias;                  /* alias: what tables show; NULL: the name */
    char *version;                       /* metadata.version as text, "Yaml" when there is none */
    char **tags;
    size_t n_tags;
    char *file;                          /* the task's own YAML file */
    int line;                            /* of its `task:` key */

    char *dataset_path, *dataset_name;   /* NULL: none */
    json_t *dataset_kwargs;              /* object or NULL; data_files, field, column_names, delimiter, ...: see eval/docs.h */
    char *training_split, *validation_split, *test_split, *fewshot_split;      /* NULL: none */

    bm_task_output output;
    bm_task_field doc_to_text, doc_to_target, doc_to_choice;
    bm_task_field description, gen_prefix;                       /* TEXT or NONE */
    bm_task_field process_docs;                                  /* KNOWN or NONE */
    bm_task_field process_results;                               /* KNOWN or NONE: who scores it instead of the metrics' own rules */
    char *target_delimiter, *fewshot_delimiter;                  /* " " and "\n\n" */

    int num_fewshot;                     /* as written, or the override; 0 when there is none */
    bool num_fewshot_set;
    struct {                             /* fewshot_config: what differs for examples; the rest is inherited already */
        bool first_n;                    /* sampler: first_n, else default (Python's random.sample) */
        char *split;                     /* NULL: samples, else the rule training, validation, test */
        json_t *samples;                 /* array of documents, or NULL */
        bm_task_field doc_to_text, doc_to_target, doc_to_choice, gen_prefix, process_docs;
        char *target_delimiter, *fewshot_delimiter;
    } fewshot;

    bm_metric *metrics;
    size_t n_metrics;
    bm_filter *filters;                  /* at least one */
    size_t n_filters;
    json_t *generation_kwargs;           /* object for GENERATE (until always an array), else NULL */
    int repeats;                         /* >= 1 */
    json_t *metadata;                    /* object */
    json_t *config;                      /* the resolved configuration as lm-eval's results JSON shows it (known functions as
                                            their names): for records and hashes */
    char **sources;                      /* every YAML file that it was read from, itself first */
    size_t n_sources;
} bm_task;

/* A group: its members in order, and how their scores are put together. */
typedef struct bm_group_metric {
    char *metric;
    char **filters;                      /* NULL: every filter that a member has for the metric */
    size_t n_filters;
    bool weight_by_size;                 /* aggregation is the mean, weighted by documents or not */
} bm_group_metric;
typedef struct bm_group {
    char *name, *alias;                  /* alias NULL: the name */
    char *version;                       /* metadata.version or "N/A" */
    size_t *tasks, n_tasks;              /* direct members: indices into the list's tasks */
    size_t *groups, n_groups;            /* direct members: indices into the list's groups */
    struct bm_member { bool is_group; size_t index; } *members;  /* both, in the file's order */
    size_t n_members;
    bm_group_metric *metrics;
    size_t n_metrics;
    json_t *metadata;                    /* object or NULL */
    char *file;
    bool top;                            /* asked for by name, or by a tag */
} bm_group;

typedef struct bm_task_list {
    bm_task **tasks;                     /* every leaf once, in order of first mention */
    size_t n_tasks;
    bm_group *groups;
    size_t n_groups;
} bm_task_list;

/* ---- the folder index: which names exist, without loading any task in full ---- */

typedef enum bm_entry_kind { BM_ENTRY_TASK, BM_ENTRY_GROUP, BM_ENTRY_TAG } bm_entry_kind;
typedef struct bm_task_entry {
    bm_entry_kind kind;
    char *name;
    char *file;                          /* NULL for a tag */
    char **members;                      /* TAG: task names, sorted */
    size_t n_members;
    int shadow;                          /* how many folders before it had the name too */
} bm_task_entry;
typedef struct bm_task_index bm_task_index;

/* The folder of the tasks that ship with the program, into *out (bm_free'd by the caller): $BAIMO_TASKS, else share/baimo/tasks beside the
 * program's bin, else tasks beside the build folder. BM_NOTFOUND: none of them is there. */
int  bm_task_shipped_dir(char **out, bm_error *err);

/* Told for each YAML file of a folder that is refused. */
typedef void bm_task_report(void *arg, const char *file, const bm_error *err);

/* Read every *.yaml under each of dirs (later folders win over earlier ones; missing folders are skipped) and note the names.
 * Files that cannot be read are left out and told to report (may be NULL). */
int  bm_task_index_open(bm_task_index **out, const char *const *dirs, size_t n_dirs, bm_task_report *report, void *arg, bm_error *err);
void bm_task_index_close(bm_task_index *index);
size_t bm_task_index_count(const bm_task_index *index);
const bm_task_entry *bm_task_index_at(const bm_task_index *index, size_t i);      /* sorted by name */
const bm_task_entry *bm_task_index_find(const bm_task_index *index, const char *name);

typedef struct bm_task_options {
    int num_fewshot;                     /* with has_num_fewshot: instead of the task's, except where that is 0 (as lm-eval) */
    bool has_num_fewshot;
    const json_t *gen_kwargs;            /* merged over generation_kwargs, or NULL */
} bm_task_options;

/* Resolve names: tasks, groups, tags, file patterns ("mmlu_*") of the index, or paths of YAML files (index may be NULL then).
 * Errors say "FILE:LINE: KEY: what" (BM_INVALID, BM_UNSUPPORTED for a Python function); BM_NOTFOUND names the nearest names. */
int  bm_task_list_load(bm_task_list **out, const bm_task_index *index, const char *const *names, size_t n_names,
                       const bm_task_options *options, bm_error *err);
void bm_task_list_free(bm_task_list *list);

/* One task file (an `include`d base, a group or a tag is refused), the caller's to free. */
int  bm_task_load_file(bm_task **out, const char *path, const bm_task_options *options, bm_error *err);
void bm_task_free(bm_task *task);

/* The names that filter steps may have ("regex", ...), NULL-terminated; and whether a metric's name is one that is scored here. */
const char *const *bm_filter_known(void);
bool bm_metric_known(const char *name);
