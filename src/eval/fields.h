/* fields.h - doc_to_text, doc_to_target, doc_to_choice and their kin, compiled, and what they make of a document: lm-eval's rules of
 * feature names, templates, digits and Python literals. Private to src/eval/prompt*.c. One owner; read-only once opened. */
#pragma once
#include "eval/docs.h"
#include "eval/task.h"
#include "text/template.h"

typedef struct bm_field {
    const bm_task_field *field;
    const char *key;                     /* "doc_to_text", for errors */
    bm_template *tmpl;                   /* TEXT and KNOWN */
    bool feature;                        /* TEXT: names a column of the data */
} bm_field;

/* data: whose features count (NULL: none). */
int  bm_field_open(bm_field *f, const bm_task_field *field, const char *key, const bm_docs *data, bm_error *err);
void bm_field_done(bm_field *f);

/* Each gives a new reference. Errors name file, line and key of the field. */
int  bm_field_text(json_t **out, const bm_field *f, const json_t *doc, bool has_choices, bm_error *err);    /* an integer or a string */
int  bm_field_target(json_t **out, const bm_field *f, const json_t *doc, bool has_choices, bm_error *err);  /* anything */
int  bm_field_choices(json_t **out, const bm_field *f, const json_t *doc, bm_error *err);                   /* an array of strings */
/* description and gen_prefix: a string, "" when there is none. in_doc: the document's own keys count, not the features. */
int  bm_field_line(json_t **out, const bm_field *f, const json_t *doc, bool in_doc, bm_error *err);
/* Carry process_docs out on docs: documents changed, or some of them left out. */
int  bm_field_process(bm_docs *docs, const bm_task_field *field, bm_error *err);
/* Python's str() of a value. */
int  bm_value_str(json_t **out, const json_t *value, bm_error *err);
