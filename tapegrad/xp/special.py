"""Special functions under SciPy's names, by which SciPy asks an array's namespace for them.

>>> from tapegrad import xp
>>> xp.special.gammainc(xp.asarray([2.0, 1.0]), 1.5)
tensor([0.4422, 0.7769])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegrad import numpy_protocol, special
from tapegrad.tensor import Tensor
from tapegrad.xp.operands import array, promoted


def _promoting(name: str, record: Callable[..., Any]) -> Callable[..., Tensor]:
    def function(*operands: Any) -> Tensor:
        return record(*promoted(*operands))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (record.__doc__ or "").strip().partition("\n")[0]
    return function


globals().update({name: _promoting(name, record) for name, record in numpy_protocol.OF_SCIPY.items()})
globals().update({name: _promoting(name, getattr(special, name)) for name in ("sinc", "zeta")})


def polygamma(n: Any, x: Any) -> Tensor:
    """The n-th derivative of the digamma function."""
    return special.polygamma(n, array(x))


def multigammaln(a: Any, d: Any) -> Tensor:
    """The logarithm of the gamma function of d dimensions."""
    return special.multigammaln(array(a), d)


__all__ = sorted({*numpy_protocol.OF_SCIPY, "multigammaln", "polygamma", "sinc", "zeta"})  # noqa: PLE0605


def __dir__() -> list[str]:
    return __all__
