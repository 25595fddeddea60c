"""The works of `benchmarks/jitted_works` as users of JAX and PyTorch write them.

What both run alike is in `formulas.py`. Each has `derivative(work)`, as `benchmarks/jitted_works/in_numba` has, which
gives what is timed. No process imports two of the three.
"""
