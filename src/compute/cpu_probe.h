/* cpu_probe.h - detection against another root than "/", so that tests can feed made-up /sys and /proc trees. */
#pragma once
#include "compute/cpu.h"

/* bm_cpu_detect reading root/proc/... and root/sys/... ; root "" is the machine itself. Instruction sets are always this CPU's. */
void bm_cpu_detect_at(bm_cpu *cpu, const char *root);
