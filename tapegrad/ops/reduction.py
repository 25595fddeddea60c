"""Reductions.

Sums of terms are block kernels and join a region. The others need a whole axis at once (`axes`): they are array kernels
that reduce the middle axis of `x[outer, n, inner]`.
"""

import numpy as np

from tapegrad.dtypes import BOOL
from tapegrad.memory import plus
from tapegrad.ops import domains
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.axes import LONG_PART, across_axis, along_axis, axis_of, run_of, total_of
from tapegrad.ops.declare import (
    REFUSED,
    SUMMED,
    TRUTH,
    along_axes,
    over,
    over_in_dtype,
    over_one_in_dtype,
    reduction,
)
from tapegrad.ops.logic import isnan, where
from tapegrad.tape import VARIANT

# --- terms merged in blocks ------------------------------------------------------------------------------------------


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    plain=lambda x: x,
    holds=lambda s, least: s - s == 0,
    partials=lambda: 1.0,
    form=over_in_dtype,
    operand=SUMMED,
    reference=np.sum,
    domain=(domains.reals,),
    variants={VARIANT: "SumBackward1"},
)
def sum_(x):
    """The sum.

    >>> import tapegrad as tg
    >>> tg.sum(tg.ones(2, 3), dim=1)
    tensor([3., 3.])
    """
    return x


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    plain=lambda x: x,
    holds=lambda s, least: s - s == 0,
    finish=lambda s, n: s / n,
    partials=lambda n: 1.0 / n,
    form=over_in_dtype,
    operand=REFUSED,
    reference=np.mean,
    domain=(domains.reals,),
    variants={VARIANT: "MeanBackward1"},
)
def mean(x):
    """The arithmetic mean.

    >>> import tapegrad as tg
    >>> tg.mean(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([2., 3.])
    """
    return x


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    partials=lambda x: where(isnan(x), 0.0, 1.0),
    form=over_in_dtype,
    operand=SUMMED,
    reference=np.nansum,
    domain=(domains.reals,),
)
def nansum(x):
    """The sum of what is not nan.

    >>> import tapegrad as tg
    >>> tg.nansum(tg.tensor([1.0, tg.nan, 2.0]))
    tensor(3.)
    """
    return 0 if x != x else x


# Of numbers whose squares would overflow or underflow, multiples are squared and summed apart (Blue 1978).
_SMALL, _LARGE, _UP, _DOWN = 2.0**-511, 2.0**486, 2.0**537, 2.0**-538


def _squares_apart(x):
    size, up, down = abs(x), x * _UP, x * _DOWN
    small, large = size < _SMALL, size > _LARGE
    return (0.0 if small or large else x * x), (up * up if small else 0.0), (down * down if large else 0.0)


def _root_of_sums(middle, small, large, n):
    if large > 0:
        return np.sqrt(large + middle * _DOWN * _DOWN) / _DOWN
    if small > 0:
        return np.sqrt(small) / _UP if middle == 0 else np.sqrt(middle + small / _UP / _UP)
    return np.sqrt(middle)


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    parts=3,
    plain=lambda x: x * x,
    holds=lambda s, least: (least < s) & (s < np.inf),
    finish=_root_of_sums,
    partials=lambda x, y: where(y == 0.0, 0.0, x / y),
    reference=np.linalg.norm,
    exact=lambda x, **facts: np.sqrt((x * x).sum(**facts)),
    domain=(domains.reals,),
    grad_name="LinalgVectorNormBackward0",
)
def norm(x):
    """The Euclidean norm; its derivative at 0 is 0."""
    return _squares_apart(x)


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    parts=3,
    plain=lambda x: x * x,
    holds=lambda s, least: (least < s) & (s < np.inf),
    finish=lambda middle, small, large, n: _root_of_sums(middle, small, large, n) / np.sqrt(n),
    partials=lambda x, y, n: where(y == 0.0, 0.0, x / y / n),
    form=over_in_dtype,
    operand=REFUSED,
    exact=lambda x, **facts: np.sqrt((x * x).mean(**facts)),
    domain=(domains.reals,),
)
def rms(x):
    """The root of the mean square, which neither overflows nor underflows; its derivative at 0 is 0.

    >>> import tapegrad as tg
    >>> tg.rms(tg.tensor([3e200, 4e200]))
    tensor(3.5355e+200)
    """
    return _squares_apart(x)


@reduction(merge=lambda p, q: p or q, start=0, form=over, operand=TRUTH, reference=np.any)
def any_(x):
    """True where some element is.

    >>> import tapegrad as tg
    >>> tg.any(tg.tensor([False, True]))
    tensor(True)
    """
    return x


@reduction(merge=lambda p, q: p and q, start=1, form=over, operand=TRUTH, reference=np.all)
def all_(x):
    """True where every element is.

    >>> import tapegrad as tg
    >>> tg.all(tg.tensor([False, True]))
    tensor(False)
    """
    return x


# --- whole axes -------------------------------------------------------------------------------------------------------


def _prod_vjp(p, x, y, y_bar, x_bar):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            start = o * n * inner + i
            zeros = 0
            product = 1.0
            for k in range(n):
                v = x[start + k * inner]
                if v == 0.0:
                    zeros += 1
                else:
                    product *= v
            if zeros > 1:
                continue
            if y_bar[o * inner + i] == 0:
                continue
            g = y_bar[o * inner + i] * product
            for k in range(n):
                v = x[start + k * inner]
                if zeros == 0:
                    x_bar[start + k * inner] += g / v
                elif v == 0.0:
                    x_bar[start + k * inner] += g


def _prod_rule(x, y, g, p):
    values = along_axis(x, p)
    if not (x == 0.0).any():
        return _times(across_axis(g, p), across_axis(y, p) / values).reshape(x.shape)
    # The product of the others, written out, so that it can be differentiated again where elements are 0.
    n = p[1]
    others = where(x.new_eye(n, dtype=BOOL).reshape(1, n, n, 1), 1.0, values.reshape(p[0], 1, n, p[2])).prod(2)
    return _times(across_axis(g, p), others).reshape(x.shape)


@along_axes(
    vjps=(_prod_vjp,),
    partials=(_prod_rule,),
    form=over_one_in_dtype,
    operand=SUMMED,
    reference=np.prod,
    domain=(domains.reals,),
    variants={VARIANT: "ProdBackward1"},
)
def prod(p, x, y):
    """The product.

    >>> import tapegrad as tg
    >>> tg.prod(tg.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            product = x.dtype.type(1)
            for k in range(n):
                product *= x[(o * n + k) * inner + i]
            y[o * inner + i] = product


def _mean(run):
    """Two numbers whose sum is the mean of a run: the second pass finds by how much the first was off."""
    mean, rest = run.dtype.type(total_of(run) / len(run)), np.float64(0)
    for k in range(len(run)):
        rest = plus(rest, np.float64(run[k] - mean))
    return mean, run.dtype.type(rest / len(run) if rest - rest == 0 else 0)


def _squares(run):
    """The sum of squared deviations of any axis from its mean, in two passes (Chan, Golub and LeVeque 1983).

    A third finds by how much the mean was off where that shows.
    """
    n = len(run)
    mean, squares, lost = np.float64(0), np.float64(0), np.float64(0)
    for k in range(n):
        mean = plus(mean, np.float64(run[k]))
    mean /= n
    for start in range(0, n, LONG_PART):
        part, few = np.float64(0), run[start : start + LONG_PART]
        for k in range(len(few)):
            deviation = np.float64(few[k]) - mean
            part = plus(part, deviation * deviation)
        before, squares = squares, squares + part
        lost += part - (squares - before)  # Dekker 1971
    if lost != lost:  # infinities are not corrected
        return squares
    if mean * mean * n <= _LARGE_MEAN * squares:
        return squares + lost
    off = np.float64(0)
    for k in range(n):
        off = plus(off, np.float64(run[k]) - mean)
    return squares + lost - off * (off / n)


_LARGE_MEAN = 2.0**30  # times the variance: below, a mean that is off by 100 roundings changes it by less than one


_LEAST_SQUARES = 1e-24  # of float32: above, what underflows doesn't count


def _squares_of_run(run):
    """The squares of deviations along a run of memory: of float32 mostly in parts of its own, summed side by side."""
    if run.itemsize == 4:
        squares = _squares_in_parts(run)
        if _LEAST_SQUARES < squares < np.inf:
            return squares
    return _squares(run)


def _squares_in_parts(run):
    """With the sum of the deviations it matters little what they are from."""
    _, total, squares = _deviations_in_parts(run)
    return squares - total * (total / len(run))


def _deviations_in_parts(run):
    """The mean of a run of float32, rounded; the sum of deviations from it, and that of their squares."""
    n = len(run)
    mean, total, squares = run.dtype.type(total_of(run) / n), np.float64(0), np.float64(0)
    for start in range(0, n, LONG_PART):
        few, part, part_of_squares = run[start : start + LONG_PART], run.dtype.type(0), run.dtype.type(0)
        for k in range(len(few)):
            deviation = few[k] - mean
            part = plus(part, deviation)
            part_of_squares = plus(part_of_squares, deviation * deviation)
        total += part
        squares += part_of_squares
    return mean, total, squares


def _degrees(p):
    """What the sum of squared deviations is divided by: n - correction."""
    return np.float64(max(p[1] - p[3], 0))


def _add_deviations(run, bar, factor):
    """bar += factor (run - its mean)"""
    mean, rest = _mean(run)
    factor = run.dtype.type(factor)
    for k in range(len(run)):
        bar[k] += factor * (run[k] - mean - rest)


def _spread(p, x, y, is_root):
    """The variance, or its root."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            squares = _squares_of_run(run_of(x, p, o)) if inner == 1 else _squares(axis_of(x, p, o, i))
            variance = squares / _degrees(p)
            y[o * inner + i] = np.sqrt(variance) if is_root else variance


def _spread_vjp(p, x, y, y_bar, x_bar, is_root):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            at, factor = o * inner + i, y_bar[o * inner + i] / _degrees(p)
            if y_bar[at] == 0 or (is_root and y[at] == 0):
                continue
            factor = factor / y[at] if is_root else 2 * factor
            if inner == 1:
                _add_deviations(run_of(x, p, o), run_of(x_bar, p, o), factor)
            else:
                _add_deviations(axis_of(x, p, o, i), axis_of(x_bar, p, o, i), factor)


def _reciprocal_of_degrees(p):
    return 1.0 / (p[1] - p[3]) if p[1] > p[3] else np.inf


def _var_rule(x, g, p):
    values = along_axis(x, p)
    deviation = values - values.mean(1, keepdim=True)
    return _times(across_axis(g, p), 2.0 * _reciprocal_of_degrees(p) * deviation).reshape(x.shape)


def _exact_var(x, axis=None, keepdims=False):
    deviation = x - x.mean(axis, keepdims=True)
    return (deviation * deviation).sum(axis, keepdims=keepdims) / (x.size // x.mean(axis).size - 1)


@along_axes(
    vjps=(lambda p, x, y, y_bar, x_bar: _spread_vjp(p, x, y, y_bar, x_bar, False),),
    partials=(_var_rule,),
    reference=np.var,
    exact=_exact_var,
    domain=(domains.reals,),
)
def var(p, x, y):
    """The variance: squared deviations over n - correction."""
    _spread(p, x, y, False)


def _std_rule(x, y, g, p):
    values, deviation = along_axis(x, p), across_axis(y, p)
    scale = where(deviation == 0.0, 0.0, _reciprocal_of_degrees(p) / deviation)
    return _times(across_axis(g, p), scale * (values - values.mean(1, keepdim=True))).reshape(x.shape)


@along_axes(
    vjps=(lambda p, x, y, y_bar, x_bar: _spread_vjp(p, x, y, y_bar, x_bar, True),),
    partials=(_std_rule,),
    reference=np.std,
    exact=lambda x, **facts: np.sqrt(_exact_var(x, **facts)),
    domain=(domains.reals,),
)
def std(p, x, y):
    """The standard deviation: the root of the variance. Its derivative where it is 0 is 0."""
    _spread(p, x, y, True)
