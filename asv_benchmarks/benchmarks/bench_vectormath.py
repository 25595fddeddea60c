"""The scalar functions of `vectormath`, and NumPy's or SciPy's of the same meaning, on 100,000 elements."""

import math

import numba
import numpy as np
from scipy import special

from tapegrad import vectormath
from tapegrad.kernels import cache

from .common import DTYPES, QUICK

N = 100_000
OF_TWO = ("pow", "atan2")
INTERVALS = dict.fromkeys(("log", "log2", "log10", "sqrt", "rsqrt", "pow", "lgamma", "digamma"), (0.1, 4.0)) | {
    "log1p": (-0.9, 4.0), "acosh": (1.05, 4.0), "asin": (-0.95, 0.95), "acos": (-0.95, 0.95), "atanh": (-0.95, 0.95),
}  # fmt: skip
PEERS = {
    "pow": np.power, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sigmoid": special.expit, "erf": special.erf,
    "erfc": special.erfc, "lgamma": special.gammaln, "digamma": special.psi,
}  # fmt: skip
NAMES = [f.__name__ for f in vectormath.FUNCTIONS if f.__name__ in PEERS or hasattr(np, f.__name__)]
NAMES = NAMES[:4] if QUICK else NAMES


def operands(name: str, dtype: str) -> list[np.ndarray]:
    """One or two arrays of points, and one for the results."""
    rng = np.random.default_rng(0)
    low, high = INTERVALS.get(name, (-3.0, 3.0))
    drawn = [rng.uniform(low, high, N)] + [rng.uniform(-3.0, 3.0, N)] * (name in OF_TWO)
    return [points.astype(dtype) for points in (*drawn, np.full(N, math.nan))]


class Vectormath:
    """A loop that Numba compiles around a function."""

    params = (NAMES, DTYPES)
    param_names = ("function", "dtype")

    def setup(self, name, dtype):
        f = getattr(vectormath.compiled(*cache.target()), name)

        def of_one(x, y):
            for i in range(y.size):
                y[i] = f(x[i])

        def of_two(a, b, y):
            for i in range(y.size):
                y[i] = f(a[i], b[i])

        self.loop = numba.njit(error_model="numpy")(of_two if name in OF_TWO else of_one)
        self.arrays = operands(name, dtype)
        self.loop(*self.arrays)

    def time_loop(self, _name, _dtype):
        self.loop(*self.arrays)


class Peer:
    """NumPy's or SciPy's function."""

    params = (NAMES, DTYPES)
    param_names = ("function", "dtype")

    def setup(self, name, dtype):
        self.function = PEERS.get(name) or getattr(np, name)
        *self.arrays, self.out = operands(name, dtype)

    def time_ufunc(self, _name, _dtype):
        self.function(*self.arrays, out=self.out)
