/* filter.h - from what a model answered to what is compared: the steps of a task's filter_list, as lm-eval carries them out.
 * A step gets a document's responses (one per repeat) and gives as many, or one; values are JSON: strings mostly. Pure: any thread. */
#pragma once
#include "eval/task.h"

/* Run a filter over responses (an array of strings; for log-likelihoods of any values) of doc. *out is a new reference: what the
 * last step gives. BM_INVALID names the filter and the step; BM_LIMIT: a regular expression took too long on this text. */
int  bm_filter_apply(json_t **out, const bm_filter *filter, const json_t *responses, const json_t *doc, bm_error *err);
/* Whether the steps can be carried out (known functions, arguments of the right kind, expressions that compile). */
int  bm_filter_check(const bm_filter *filter, bm_error *err);
