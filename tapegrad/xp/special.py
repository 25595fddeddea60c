"""Special functions under SciPy's names, by which SciPy asks an array's namespace for them.

Integers among floats count as SciPy has them: those that float32 does not hold make the result float64.

>>> from tapegrad import xp
>>> xp.special.gammainc(xp.asarray([2.0, 1.0]), 1.5)
tensor([0.4422, 0.7769])
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import numpy_protocol, special
from tapegrad.dtypes import DType, as_dtype
from tapegrad.functions import elementwise
from tapegrad.ops import special as operations
from tapegrad.tensor import Tensor
from tapegrad.xp.operands import array, named, promoted


def _joined(found: set[DType]) -> DType:
    """The dtype to which NumPy promotes arrays of several."""
    return as_dtype(np.result_type(*(dtype.numpy for dtype in found)))


_taken = functools.partial(promoted, join=_joined)


def _promoting(name: str, record: Callable[..., Any]) -> Callable[..., Tensor]:
    def function(*operands: Any) -> Tensor:
        return record(*_taken(*operands))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (record.__doc__ or "").strip().partition("\n")[0]
    return function


globals().update({name: _promoting(name, record) for name, record in numpy_protocol.OF_SCIPY.items()})
globals().update({name: _promoting(name, getattr(special, name)) for name in ("sinc", "zeta")})


def polygamma(n: Any, x: Any) -> Tensor:
    """The n-th derivative of the digamma function; nan where `n`, a number or an array, is no order."""
    if isinstance(n, int) and n >= 0:
        return special.polygamma(n, array(x))
    n, x = _taken(n, x)
    where, is_order = named["where"], (n > 0) & (n == named["floor"](n))
    higher = elementwise.made[operations._polygamma](where(is_order, n, 1.0), x)
    return where(n == 0, special.digamma(x), where(is_order, higher, math.nan))


def multigammaln(a: Any, d: Any) -> Tensor:
    """The logarithm of the gamma function of d dimensions."""
    return special.multigammaln(array(a), d)


__all__ = sorted({*numpy_protocol.OF_SCIPY, "multigammaln", "polygamma", "sinc", "zeta"})  # noqa: PLE0605


def __dir__() -> list[str]:
    return __all__
