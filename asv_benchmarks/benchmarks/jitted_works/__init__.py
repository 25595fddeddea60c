"""Jitted functions whose derivatives are measured.

`table.py` has the works: what is computed, of which numbers, and how fast it should be. A work's function stands under
its name in `in_numba`, in the file of its family. `jitted_peers` has the same for JAX and PyTorch.
"""
