"""How long the kernels of a step take: as measured, or by the figures of data sheets."""
