/* process.h - what this process uses. */
#pragma once
#include <stdint.h>

/* The largest resident memory so far (VmHWM of proc(5): not inherited from the parent, as getrusage's is); 0: not known here. */
int64_t bm_process_peak_bytes(void);
