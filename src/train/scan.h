/* scan.h - where the values of a JSON text begin and end, by brackets and quotes alone: what is between is for the parser.
 * And the records of CSV. Both walk a text that is in memory and count lines. Nothing here allocates but CSV's fields. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

typedef struct bm_scan {
    const char *text;
    size_t at, end;
    uint64_t line;               /* 1-based, of text[at] */
} bm_scan;

/* Move on to `to`, counting lines. */
void bm_scan_move(bm_scan *s, size_t to);
/* Past blanks and line ends; false: the end. */
bool bm_scan_blanks(bm_scan *s);
/* Past the value that begins at text[at], which is no blank. false: it does not end (at is the end then). */
bool bm_scan_value(bm_scan *s);

/* One record of RFC 4180 into `bytes`, its fields one behind the other; ends[i] is where field i ends. LF and CRLF end it; fields in
 * quotes may hold both, and "" is a quote. 1: *n fields; 0: the end. BM_INVALID: a quote that does not close (the rest of the text is
 * gone), something behind a closing quote (the rest of the line is gone), or more than max fields. */
int bm_scan_record(bm_scan *s, char separator, bm_buf *bytes, size_t *ends, size_t max, size_t *n, bm_error *err);
