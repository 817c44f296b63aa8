/* report.h - results (eval/tally.h) as a table for programs and as a page for people. Pure: any thread. */
#pragma once
#include <jansson.h>
#include "base/buf.h"
#include "base/error.h"

/* RFC 4180, with a header: task,version,filter,n_shot,metric,higher_is_better,value,stderr,samples. */
int bm_report_csv(bm_buf *out, const json_t *results, bm_error *err);
/* One HTML document without scripts or outside assets: what went in, a table, and a bar with its error for each score in [0, 1]. */
int bm_report_html(bm_buf *out, const json_t *results, const char *title, bm_error *err);
