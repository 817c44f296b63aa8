/* unroll.h - for kernel files: what their code is made of when the compiler must not decide. */
#pragma once

#define INLINE static inline __attribute__((always_inline))
/* Before a loop of constant length whose arrays must live in registers: at -O2 they would stay in memory (measured: 170 instead of
 * 450 GOPS). */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
