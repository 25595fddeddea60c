"""`njit` for plain functions that are run for their values alone: in half the time, where they call much of NumPy.

What Numba compiles of NumPy's for a plain function is optimised in full and gets machine code, a function at a time,
before it becomes part of its caller. Here it is left to the caller, as in what `tapegrad.jitted` compiles. The rounding
is the same; tests/test_jitted.py and others have functions that Numba compiles in its own way.
"""

import functools

import numba

from tapegrad.jitted.inner import OuterPipeline

njit = functools.partial(numba.njit, pipeline_class=OuterPipeline)
