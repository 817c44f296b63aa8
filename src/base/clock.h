/* clock.h - time. */
#pragma once
#include <stdint.h>

int64_t bm_now_ns(void);        /* monotonic */
int64_t bm_wall_ms(void);       /* since 1970, UTC */
