/* metrics.h - progress as text: an event as JSON, a run as JSON lines, and its loss curve as SVG. Any thread. */
#pragma once
#include "base/json_out.h"
#include "train/trainer.h"

/* Keys and values of a STEP, VALID or CHECKPOINT event, as train/job.h names them, into an object that is open. */
void bm_train_event_json(bm_json *j, const bm_train_event *event);
/* The line of metrics.jsonl for it, '\n' at its end; nothing for what is neither STEP nor VALID. */
void bm_train_event_line(bm_buf *out, const bm_train_event *event);
/* A picture of the losses over the steps: training (thin, and smoothed) and validation (points). One step or more. */
void bm_train_curve_svg(bm_buf *out, const char *title, const bm_train_event *history, size_t n);
