/* source.h - the rows of a data file as JSON values with their lines, whatever kind of file it is.
 *
 * Kinds, recognised by looking (the name decides only for .csv, .tsv, .jsonl and .ndjson):
 *   JSONL  one value a line; a broken line does not harm the next. Blank lines are no rows.
 *   JSON   an array of rows, values one behind the other, or one object with lists of rows by name ("train", "test"; `part`
 *          says which). Its extents are found by counting brackets, so that a broken row does not harm the next either.
 *   CSV    RFC 4180, the first record names the columns: a row is an object of strings. TSV: with tabs.
 *   text   anything else: one row, the whole file as a string.
 * The whole file is read into memory once: what was hashed is what is read. One owner. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/hash.h"

typedef enum bm_source_kind { BM_SOURCE_JSONL, BM_SOURCE_JSON, BM_SOURCE_CSV, BM_SOURCE_TEXT } bm_source_kind;
enum { BM_SOURCE_MAX_ROW = 16 << 20, BM_SOURCE_MAX_COLUMNS = 1000 };     /* bytes of a row (not of text); columns of CSV */

typedef struct bm_source bm_source;

typedef struct bm_source_options {
    const char *part;            /* the list of rows to read of a JSON object that holds several; NULL: the only one */
    bool no_header;              /* CSV: the first record is a row, and columns are named by their number, from "1" */
} bm_source_options;

/* path "-" is stdin. A file of more than 4 GiB, one that is not UTF-8 text at its beginning, and a `part` that is not there are
 * refused; the hint names the parts that are. A column without a name (of row numbers, often) gets its number. */
int  bm_source_open(bm_source **out, const char *path, const bm_source_options *options, bm_error *err);
void bm_source_close(bm_source *source);                 /* NULL is fine */

/* 1: *row is the caller's to json_decref, *line where it begins; 0: no more. BM_INVALID: the row at *line is bad, err->msg says why,
 * and the next call goes on behind it. BM_NOMEM: it is over. */
int  bm_source_next(bm_source *source, json_t **row, uint64_t *line, bm_error *err);

bm_source_kind bm_source_kind_of(const bm_source *source);
const char *bm_source_kind_name(bm_source_kind kind);    /* "JSONL", "JSON", "CSV", "text" */
bm_sha256 bm_source_sha256(const bm_source *source);
