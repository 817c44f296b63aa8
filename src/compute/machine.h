/* machine.h - what this machine could do at best: the limits that every other figure is put beside. Takes about two seconds. */
#pragma once
#include "base/error.h"
#include "compute/cpu.h"
#include "compute/team.h"

typedef struct bm_machine {
    int n_threads;
    double read_gb_s;            /* memory, read once in order by all threads */
    double int8_gops;            /* products of 8 bits, multiply and add counted: the widest that the tables use */
    double bf16_gflops;          /* of bf16 pairs; as fp32 where the CPU has no such instruction */
    double fp32_gflops;
} bm_machine;

/* Measure with every thread of the team; the best of several runs. Only for want of memory it fails. */
int bm_machine_measure(bm_machine *out, const bm_cpu *cpu, bm_team *team, bm_error *err);
