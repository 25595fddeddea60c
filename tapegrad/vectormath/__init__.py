"""Elementary functions of whole registers: float64 and float32, within 2 units in the last place.

Each function reduces its argument to a small interval, where a minimax polynomial is evaluated, and undoes the
reduction. What would be a branch is computed both ways and selected; a few rare arguments that would cost all others
much have a branch (`lanes.rarely`) in functions that are called (`lanes.apart`). A function takes numbers of either
width and computes in that width; which is known where the code is written (see `lanes`), so a kernel holds the
instructions for its own dtype alone. Where the last digit would be lost, a number is carried as a sum of two (Dekker
1971).

Names are those of C. `vectormath.exp(x)` in a declaration is compiled into the kernel; called from Python, it computes
over NumPy scalars or arrays. Zeros keep their signs, nan stays nan, subnormal numbers are arguments and results like
others, and special cases are those of C99's Annex F.

The greatest error found, in units in the last place, over the whole range (`tests/test_vectormath.py` draws its points
the same way, in smaller numbers; without fused multiply-add up to 0.3 more):

    function   float64  float32     function   float64  float32     function   float64  float32
    exp           1.09     1.03     sqrt          0.50     0.50     sinh          1.21     1.20
    exp2          1.10     1.02     rsqrt         1.50     1.47     cosh          1.59     1.79
    expm1         1.26     1.24     cbrt          0.74     0.74     tanh          1.50     1.50
    log           0.83     0.99     sin           0.85     1.46     asinh         1.62     1.73
    log2          1.16     1.23     cos           0.87     1.50     acosh         1.81     1.94
    log10         1.24     1.17     tan           1.55     1.56     atanh         1.55     1.67
    log1p         1.41     1.56     asin          1.21     1.18     erf           0.92     1.49
    pow           1.27     1.64     acos          1.20     1.17     erfc          1.45     1.53
    sigmoid       1.54     1.61     atan          1.51     1.50     lgamma        3.72     0.50
    softplus      1.62     1.80     atan2         1.68     1.60     digamma       3.54     0.50

For negative arguments lgamma, digamma, trigamma and tetragamma have infinitely many zeros, where large terms cancel: at
x = -a their error in float64 is at most 4 epsilon times the greatest of |f(x)|, |f(a)| and 1 (tetragamma: 20).

sin, cos and tan reduce by pi/2 in three parts, which is enough up to 2^30 (float32: 2^17). The few numbers beyond are
rare, and done with Payne and Hanek's reduction.
"""

from __future__ import annotations

from types import ModuleType

from tapegrad.lanes import Machine, in_numba
from tapegrad.vectormath.circular import acos, asin, atan, atan2, cos, sin, tan
from tapegrad.vectormath.digits import exponent, mantissa, nextafter
from tapegrad.vectormath.exponential import (
    acosh,
    asinh,
    atanh,
    cosh,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    pow,
    sigmoid,
    sinh,
    softplus,
    tanh,
)
from tapegrad.vectormath.roots import cbrt, hypot, rsqrt, sqrt
from tapegrad.vectormath.special import digamma, erf, erfc, lgamma, ndtr, sinc, tetragamma, trigamma

FUNCTIONS = (
    exp,
    exp2,
    expm1,
    tanh,
    sigmoid,
    softplus,
    log,
    log2,
    log10,
    log1p,
    sqrt,
    rsqrt,
    sin,
    cos,
    tan,
    asin,
    acos,
    atan,
    atan2,
    sinc,
    sinh,
    cosh,
    asinh,
    acosh,
    atanh,
    hypot,
    cbrt,
    pow,
    erf,
    erfc,
    lgamma,
    digamma,
    trigamma,
    tetragamma,
    ndtr,
    mantissa,
    exponent,
    nextafter,
)


def compiled(triple: str, _cpu: str, features: str) -> ModuleType:
    """These functions for Numba's code on a machine; if Numba was told of another, for what that surely has."""
    from numba import config

    if config.CPU_NAME or config.CPU_FEATURES:
        features = config.CPU_FEATURES or ""
    arm, named = triple.startswith(("aarch64", "arm64")), features.split(",")
    register = 64 if "+avx512vl" in named else 32 if "+avx2" in named else 16
    convention = "aarch64_vector_pcs" if arm else "intel_ocl_bicc" if triple.startswith("x86_64") else "ccc"
    return in_numba(FUNCTIONS, Machine(arm or "+fma" in named, register, convention))


__all__ = [
    "FUNCTIONS",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "compiled",
    "cos",
    "cosh",
    "digamma",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "exponent",
    "hypot",
    "lgamma",
    "log",
    "log1p",
    "log2",
    "log10",
    "mantissa",
    "ndtr",
    "nextafter",
    "pow",
    "rsqrt",
    "sigmoid",
    "sin",
    "sinc",
    "sinh",
    "softplus",
    "sqrt",
    "tan",
    "tanh",
    "tetragamma",
    "trigamma",
]
