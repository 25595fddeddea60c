"""Jitted functions whose derivatives are measured, and the same in JAX and PyTorch.

`table.py` has the works: what is computed, of which numbers, and how fast it should be. A work's function stands under
its name in `in_numba`, jitted, and in `in_jax` and `in_torch` as users of these write it, in the file of its family;
what the latter two share is in `formulas.py`. Each of the three has `derivative(work)`, which gives what is timed. No
process imports two of them.
"""
