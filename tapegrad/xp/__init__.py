"""The Python array API standard, version 2024.12, on tensors.

The standard's names, with its arguments and its meaning of them, so that code written for any array library records on
tensors: SciPy with `SCIPY_ARRAY_API=1`, scikit-learn with `array_api_dispatch`. `Tensor.__array_namespace__` gives this
module. Of the standard's dtypes those are here of which there are tensors: not uint16, uint32 and uint64, nor complex
numbers, nor the extension `fft`, which needs them.

Operands of several dtypes are promoted as the standard says, 0-d tensors like others; tensors' operators do it
PyTorch's way. What the standard leaves open is as in `tapegrad`.

>>> import tapegrad as tg
>>> from tapegrad import xp
>>> x = tg.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
>>> xp.std(xp.permute_dims(x, (1, 0)), axis=0, correction=1)
tensor([0.7071, 1.4142], grad_fn=<StdBackward0>)
>>> x.__array_namespace__() is xp
True
"""

import math as _math

from tapegrad.xp import linalg, special
from tapegrad.xp.creation import (
    arange, asarray, empty, empty_like, eye, from_dlpack, full, full_like, linspace, meshgrid, ones, ones_like, tril,
    triu, zeros, zeros_like,
)  # fmt: skip
from tapegrad.xp.data_types import (
    __array_namespace_info__, astype, bool, can_cast, finfo, float32, float64, iinfo, int8, int16, int32, int64,
    isdtype, result_type, uint8,
)  # fmt: skip
from tapegrad.xp.elementwise import (
    abs, acos, acosh, add, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_invert, bitwise_left_shift,
    bitwise_or, bitwise_right_shift, bitwise_xor, ceil, clip, conj, copysign, cos, cosh, divide, equal, exp, expm1,
    floor, floor_divide, greater, greater_equal, hypot, imag, isfinite, isinf, isnan, less, less_equal, log, log1p,
    log2, log10, logaddexp, logical_and, logical_not, logical_or, logical_xor, maximum, minimum, multiply, negative,
    nextafter, not_equal, positive, pow, real, reciprocal, remainder, round, sign, signbit, sin, sinh, sqrt, square,
    subtract, tan, tanh, trunc,
)  # fmt: skip
from tapegrad.xp.linalg import matmul, matrix_transpose, tensordot, vecdot
from tapegrad.xp.manipulation import (
    broadcast_arrays, broadcast_to, concat, expand_dims, flip, moveaxis, permute_dims, repeat, reshape, roll, squeeze,
    stack, take, take_along_axis, tile, unstack,
)  # fmt: skip
from tapegrad.xp.searching import (
    argmax, argmin, argsort, count_nonzero, nonzero, searchsorted, sort, unique_all, unique_counts, unique_inverse,
    unique_values, where,
)  # fmt: skip
from tapegrad.xp.statistical import all, any, cumulative_prod, cumulative_sum, diff, max, mean, min, prod, std, sum, var

__array_api_version__ = "2024.12"

e, inf, nan, pi, newaxis = _math.e, _math.inf, _math.nan, _math.pi, None

_OPEN = {"creation", "data_types", "elementwise", "manipulation", "operands", "searching", "statistical"}
__all__ = [name for name in globals() if name[0] != "_" and name not in _OPEN]
__all__ += ["__array_api_version__", "__array_namespace_info__"]


def __dir__() -> list[str]:
    """What is public, and nothing else."""
    return __all__
