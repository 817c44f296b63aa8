/* polite.h - long work of one thread in short bursts with rests, beside threads that meet at barriers all the time. A low priority does
 * not do: the kernel gives even the lowest whole slices of 3 ms and more, each of which all who meet have to wait for, and under
 * SCHED_IDLE nothing for seconds. Work may take ten times as long for it; loops that such a thread runs say where it can rest. */
#pragma once
#include <stdbool.h>

/* From here on this thread rests while busy(arg); NULL: no longer. */
void bm_polite_begin(bool (*busy)(void *arg), void *arg);
/* Between pieces of work of well below a millisecond. Costs nothing on a thread that is not polite. */
void bm_polite_rest(void);
