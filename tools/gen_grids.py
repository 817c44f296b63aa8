#!/usr/bin/env python3
"""Writes src/compute/quant_grids.c: the grids of the IQ types, from gguf-py (the ggml project's, MIT licence).

Made with gguf 0.19.0.  usage: gen_grids.py > src/compute/quant_grids.c
A grid's entry is the indices of its values in the type's table of magnitudes: eight of 2 bits, or four of 4 bits, the first lowest.
"""
import numpy as np
from gguf import quants

GRIDS = [("iq2xxs", quants.IQ2_XXS, 2), ("iq2xs", quants.IQ2_XS, 2), ("iq2s", quants.IQ2_S, 2), ("iq1", quants.IQ1_S, 2),
         ("iq3xxs", quants.IQ3_XXS, 4), ("iq3s", quants.IQ3_S, 4)]

HEAD = """/* quant_grids.c - the grids of the IQ types; made by tools/gen_grids.py from gguf-py (ggml project, MIT licence), do not edit.
 * An entry is the indices of its values in the type's table of magnitudes, the first lowest: eight of 2 bits (IQ1, IQ2; IQ1: value
 * + 1), or four of 4 bits (IQ3). */
#include "compute/quant_blocks.h"
"""


def main():
    print(HEAD, end="")
    for name, cls, bits in GRIDS:
        cls.init_grid()
        grid = cls.grid.reshape(cls.grid_shape)
        index = np.argmin(np.abs(grid[..., None] - np.array(cls.grid_map, dtype=np.float32)), axis=-1)
        assert (np.array(cls.grid_map, dtype=np.float32)[index] == grid).all()
        words = [sum(int(v) << bits * i for i, v in enumerate(row)) for row in index]
        print(f"\nconst uint16_t bm_grid_{name}[{len(words)}] = {{")
        for i in range(0, len(words), 16):
            print("    " + " ".join(f"0x{w:04X}," for w in words[i:i + 16]))
        print("};")


main()
