"""Reductions, running sums, differences."""

from __future__ import annotations

from typing import Any

from tapegrad import numpy_selection
from tapegrad.dtypes import BOOL
from tapegrad.functions import statistics
from tapegrad.numpy_functions import floating
from tapegrad.ops.layout import distinct
from tapegrad.recording import cast
from tapegrad.tensor import Tensor
from tapegrad.xp.operands import array, dtype_or_none, named, over


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """The sums over axes, or of all; of integers in int64 where no dtype is given.

    >>> from tapegrad import xp
    >>> xp.sum(xp.asarray([[1, 2], [3, 4]]), axis=0)
    tensor([4, 6])
    """
    return over(named["sum"], x, axis, keepdims, dtype=dtype_or_none(dtype))


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """The products over axes, or of all; of integers in int64 where no dtype is given.

    >>> from tapegrad import xp
    >>> xp.prod(xp.asarray([[1, 2], [3, 4]]), axis=0)
    tensor([3, 8])
    """
    x = array(x)
    axes = sorted(distinct((*range(x.ndim),) if axis is None else axis, x.ndim))
    axes = axes[: x.ndim]  # one may be named where there is none
    rest = [d for d in range(x.ndim) if d not in axes]
    rows = named["permute"](x, (*rest, *axes)).reshape((*(x.shape[d] for d in rest), -1 if 0 not in x.shape else 0))
    made = named["prod"](rows, -1, dtype=dtype_or_none(dtype))
    return made.reshape([1 if d in axes else n for d, n in enumerate(x.shape)]) if keepdims else made


def max(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """The largest elements over axes, or of all; nan where there is one.

    >>> from tapegrad import xp
    >>> xp.max(xp.asarray([[1, 2], [3, 4]]), axis=1, keepdims=True)
    tensor([[2],
            [4]])
    """
    return over(named["amax"], x, axis, keepdims)


def min(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """The least elements over axes, or of all; nan where there is one.

    >>> from tapegrad import xp
    >>> xp.min(xp.asarray([[1, 2], [3, 4]]), axis=1, keepdims=True)
    tensor([[1],
            [3]])
    """
    return over(named["amin"], x, axis, keepdims)


def mean(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """The means over axes, or of all; of integers in the default dtype.

    >>> from tapegrad import xp
    >>> xp.mean(xp.asarray([[1, 2], [3, 4]]), axis=0)
    tensor([2., 3.])
    """
    return over(named["mean"], floating(array(x)), axis, keepdims)


def var(x: Any, /, *, axis: Any = None, correction: Any = 0.0, keepdims: Any = False) -> Tensor:
    """The variances over axes, or of all: sums of squares over n - correction.

    >>> from tapegrad import xp
    >>> xp.var(xp.asarray([1.0, 3.0])), xp.var(xp.asarray([1.0, 3.0]), correction=1)
    (tensor(1.), tensor(2.))
    """
    return over(named["var"], floating(array(x)), axis, keepdims, correction=correction)


def std(x: Any, /, *, axis: Any = None, correction: Any = 0.0, keepdims: Any = False) -> Tensor:
    """The standard deviations over axes, or of all: roots of sums of squares over n - correction.

    >>> from tapegrad import xp
    >>> xp.std(xp.asarray([1.0, 3.0]), correction=1)
    tensor(1.4142)
    """
    return over(named["std"], floating(array(x)), axis, keepdims, correction=correction)


def all(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """Whether all elements are true (not zero), over axes or in all.

    >>> from tapegrad import xp
    >>> xp.all(xp.asarray([[1, 0], [2, 3]]), axis=1)
    tensor([False,  True])
    """
    return over(named["all"], cast(array(x), BOOL), axis, keepdims)


def any(x: Any, /, *, axis: Any = None, keepdims: Any = False) -> Tensor:
    """Whether one element is true (not zero), over axes or in all.

    >>> from tapegrad import xp
    >>> xp.any(xp.asarray([[1, 0], [0, 0]]), axis=1)
    tensor([ True, False])
    """
    return over(named["any"], cast(array(x), BOOL), axis, keepdims)


_sums, _products = (numpy_selection._summed_on(name) for name in ("cumsum", "cumprod"))


def cumulative_sum(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Tensor:
    """The running sums along an axis, which may be left out for a vector; `include_initial` puts a 0 before them.

    >>> from tapegrad import xp
    >>> xp.cumulative_sum(xp.asarray([1, 2, 3]), include_initial=True)
    tensor([0, 1, 3, 6])
    """
    return _sums(array(x), axis=axis, dtype=dtype, include_initial=include_initial)


def cumulative_prod(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: Any = False) -> Tensor:
    """The running products along an axis, which may be left out for a vector; `include_initial` puts a 1 before.

    >>> from tapegrad import xp
    >>> xp.cumulative_prod(xp.asarray([1, 2, 3]), include_initial=True)
    tensor([1, 1, 2, 6])
    """
    return _products(array(x), axis=axis, dtype=dtype, include_initial=include_initial)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """The n-th differences along an axis, of what is joined before and behind, too.

    >>> from tapegrad import xp
    >>> xp.diff(xp.asarray([1, 4, 9])), xp.diff(xp.asarray([1, 4, 9]), n=2)
    (tensor([3, 5]), tensor([2]))
    """
    prepend, append = (None if v is None else array(v) for v in (prepend, append))
    return statistics.diff(array(x), n, axis, prepend, append)
