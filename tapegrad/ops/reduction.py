"""Reductions.

Sums of terms are block kernels and join a region. The others need a whole axis at once: they are array kernels over
`x[outer, n, inner]`, reducing or normalising the middle axis; parameters `p` are (outer, n, inner, ...). With an inner
length of 1, by far the most frequent, an axis is a run of memory, and gets loops that LLVM vectorises; else axes are
columns, of which so many are taken at once that the loops over these are vectorised.

Whatever the dtype, sums are float64 until they are complete, but for parts so short that float32 loses nothing.
"""

import numpy as np

from tapegrad import vectormath
from tapegrad.dtypes import BOOL
from tapegrad.memory import larger, plus, smaller
from tapegrad.ops import domains, indexing
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.declare import (
    CONVERTED,
    INDEX,
    PART,
    REFUSED,
    SUMMED,
    TILE,
    TRUTH,
    along_axes,
    along_one,
    array_op,
    over,
    over_given,
    over_in_dtype,
    over_one,
    over_one_in_dtype,
    reduction,
    times_first,
)
from tapegrad.ops.exponential import exp
from tapegrad.ops.logic import eq, isnan, where
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


# --- whole axes ------------------------------------------------------------------------------------------------------


def _extreme(run, better):
    """The largest or smallest element of a run, nan where there is one; of none, 0."""
    best = run[0] if len(run) > 0 else run.dtype.type(0)
    for k in range(len(run)):  # from the first: as many as registers hold, as a rule
        best = better(best, run[k])
    return best


# Sums of float32 are float64, but for parts so short that float32 loses nothing; of float64, a run is one part. Here a
# loop takes longer to begin than in `kernels`.
_LONG_PART = 2 * PART


def _part(run):
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, run[k])
    return total


def _total(run):
    """The sum of a run, in float64."""
    if run.itemsize == 8:
        return _part(run)
    total = np.float64(0)
    for first in range(0, len(run), _LONG_PART):
        total += _part(run[first : first + _LONG_PART])
    return total


def _part_of_exp(run, shift):
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, vectormath.exp(run[k] - shift))
    return total


def _total_of_exp(run, shift):
    """The sum of exp(run - shift), in float64."""
    if run.itemsize == 8:
        return _part_of_exp(run, shift)
    total = np.float64(0)
    for first in range(0, len(run), _LONG_PART):
        total += _part_of_exp(run[first : first + _LONG_PART], shift)
    return total


def _part_of_products(run, other):
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, _times(run[k], other[k]))
    return total


def _total_of_products(run, other):
    """The sum of run * other, in float64, where zero times anything is zero."""
    if run.itemsize == 8:
        return _part_of_products(run, other)
    total = np.float64(0)
    for first in range(0, len(run), _LONG_PART):
        total += _part_of_products(run[first : first + _LONG_PART], other[first : first + _LONG_PART])
    return total


def _run(x, p, o):
    """The elements of an axis that is a run of memory."""
    return x[o * p[1] : (o + 1) * p[1]]


def _axis(x, p, o, i):
    """The elements of any axis, so many apart."""
    return x[o * p[1] * p[2] + i : (o + 1) * p[1] * p[2] : p[2]]


# How many columns are taken at once: as many as two numbers for each have room in a tile, or less.
_COLUMNS = TILE // 16


def _row(x, p, o, k, first, m):
    """The elements of columns [first, first + m), the axes' k-th."""
    at = (o * p[1] + k) * p[2] + first
    return x[at : at + m]


def _peaks(x, p, o, first, peaks):
    """The largest elements of columns, into `peaks`."""
    for i in range(len(peaks)):
        peaks[i] = -np.inf
    for k in range(p[1]):
        row = _row(x, p, o, k, first, len(peaks))
        for i in range(len(row)):
            peaks[i] = larger(peaks[i], np.float64(row[i]))


def _totals_of_exp(x, p, o, first, shifts, totals):
    """The sums of exp(columns - shifts), into `totals`."""
    for i in range(len(totals)):
        totals[i] = 0
    for k in range(p[1]):
        row = _row(x, p, o, k, first, len(totals))
        for i in range(len(row)):
            totals[i] += vectormath.exp(row[i] - x.dtype.type(shifts[i]))


def _along(x, p):
    """A Tensor as [outer, n, inner]."""
    return x.reshape(p[0], p[1], p[2])


def _across(y, p):
    """A reduced Tensor as [outer, 1, inner]."""
    return y.reshape(p[0], 1, p[2])


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
    values = _along(x, p)
    if not (x == 0.0).any():
        return _times(_across(g, p), _across(y, p) / values).reshape(x.shape)
    # The product of the others, written out, so that it can be differentiated again where elements are 0.
    n = p[1]
    others = where(x.new_eye(n, dtype=BOOL).reshape(1, n, n, 1), 1.0, values.reshape(p[0], 1, n, p[2])).prod(2)
    return _times(_across(g, p), others).reshape(x.shape)


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
    mean, rest = run.dtype.type(_total(run) / len(run)), np.float64(0)
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
    for start in range(0, n, _LONG_PART):
        part, few = np.float64(0), run[start : start + _LONG_PART]
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
    mean, total, squares = run.dtype.type(_total(run) / n), np.float64(0), np.float64(0)
    for start in range(0, n, _LONG_PART):
        few, part, part_of_squares = run[start : start + _LONG_PART], run.dtype.type(0), run.dtype.type(0)
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
            squares = _squares_of_run(_run(x, p, o)) if inner == 1 else _squares(_axis(x, p, o, i))
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
                _add_deviations(_run(x, p, o), _run(x_bar, p, o), factor)
            else:
                _add_deviations(_axis(x, p, o, i), _axis(x_bar, p, o, i), factor)


def _reciprocal_of_degrees(p):
    return 1.0 / (p[1] - p[3]) if p[1] > p[3] else np.inf


def _var_rule(x, g, p):
    values = _along(x, p)
    deviation = values - values.mean(1, keepdim=True)
    return _times(_across(g, p), 2.0 * _reciprocal_of_degrees(p) * deviation).reshape(x.shape)


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
    values, deviation = _along(x, p), _across(y, p)
    scale = where(deviation == 0.0, 0.0, _reciprocal_of_degrees(p) / deviation)
    return _times(_across(g, p), scale * (values - values.mean(1, keepdim=True))).reshape(x.shape)


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


def _extremes(p, x, y, better):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            y[o] = _extreme(_run(x, p, o), better)
            continue
        best = y[o * inner : (o + 1) * inner]
        best[:] = _row(x, p, o, 0, 0, inner)
        for k in range(1, n):
            row = _row(x, p, o, k, 0, inner)
            for i in range(inner):
                best[i] = better(best[i], row[i])


def _largest(p, x, y):
    _extremes(p, x, y, larger)


def _smallest(p, x, y):
    _extremes(p, x, y, smaller)


def _share_vjp(p, x, y, y_bar, x_bar):
    """Elements that tie share the gradient."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            start, best = o * n * inner + i, y[o * inner + i]
            if y_bar[o * inner + i] == 0:
                continue
            ties = 0
            for k in range(n):
                ties += x[start + k * inner] == best
            for k in range(n):
                if x[start + k * inner] == best or ties == 0:
                    x_bar[start + k * inner] += y_bar[o * inner + i] * (1.0 / ties if ties else np.nan)


def _share_vjp_of_all(p, x, y, y_bar, x_bar):
    """Elements that tie share the gradient; where the result is nan, the nans do."""
    n = p[1]
    for o in range(p[0]):
        best, ties = y[o], 0
        for k in range(o * n, (o + 1) * n):
            ties += x[k] == best or (x[k] != x[k] and best != best)
        for k in range(o * n, (o + 1) * n):
            if x[k] == best or (x[k] != x[k] and best != best):
                x_bar[k] += y_bar[o] / ties


def _share_rule(x, y, g, p):
    share = eq(_along(x, p), _across(y, p)).to(g.dtype)
    return _times(_across(g, p), share / share.sum(1, keepdim=True)).reshape(x.shape)


def _share_rule_of_all(x, y, g, p):
    of_run, best = x.reshape(p[0], p[1]), y.reshape(p[0], 1)
    share = (eq(of_run, best) | (isnan(of_run) & isnan(best))).to(g.dtype)
    return _times(g.reshape(p[0], 1), share / share.sum(1, keepdim=True)).reshape(x.shape)


def _extremum(name, kernel, vjp, rule, reference, grad_name, doc, form=None):
    def function(p, x, y):
        kernel(p, x, y)

    function.__name__, function.__doc__ = name, doc
    op = along_axes(
        vjps=(vjp,),
        partials=(rule,),
        form=form,
        needs_elements=True,
        reference=reference,
        domain=(domains.reals,),
        grad_name=grad_name,
    )(function)
    op.function = kernel
    return op


_OF_SOME = """ element; nan where there is one. Ties share the gradient.

    >>> import tapegrad as tg
    >>> tg."""
_LARGEST = f"""The largest{_OF_SOME}amax(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([3., 4.])
    """
_SMALLEST = f"""The smallest{_OF_SOME}amin(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([1., 2.])
    """
amax = _extremum("amax", _largest, _share_vjp, _share_rule, np.amax, "AmaxBackward0", _LARGEST, over)
amin = _extremum("amin", _smallest, _share_vjp, _share_rule, np.amin, "AminBackward0", _SMALLEST, over)
max_of_all = _extremum("max", _largest, _share_vjp_of_all, _share_rule_of_all, np.max, "MaxBackward1", _LARGEST)
min_of_all = _extremum("min", _smallest, _share_vjp_of_all, _share_rule_of_all, np.min, "MinBackward1", _SMALLEST)


def _above(v, best):
    return v > best


def _below(v, best):
    return v < best


_FEW = 64  # elements among which one is looked for at once


def _place_in_run(run, better):
    """The first place of the largest or smallest element, or of the first nan."""
    best = _extreme(run, better)
    for first in range(0, len(run), _FEW):
        few, found = run[first : first + _FEW], 0
        for k in range(len(few)):
            found |= (few[k] == best) | (few[k] != few[k])
        if found:
            for k in range(len(few)):
                if few[k] == best or few[k] != few[k]:
                    return first + k
    return 0


def _places_in_columns(x, p, o, first, best, places, beats):
    best[:] = _row(x, p, o, 0, first, len(best))
    places[:] = 0
    for k in range(1, p[1]):
        row = _row(x, p, o, k, first, len(best))
        for i in range(len(row)):
            v = np.float64(row[i])
            is_it = beats(v, best[i]) | ((v != v) & (best[i] == best[i]))
            best[i], places[i] = v if is_it else best[i], k if is_it else places[i]


def _places(p, tile, x, y, better, beats):
    inner = p[2]
    for o in range(p[0]):
        if inner == 1:
            y[o] = _place_in_run(_run(x, p, o), better)
            continue
        for first in range(0, inner, _COLUMNS):
            m = min(_COLUMNS, inner - first)
            places = y[o * inner + first : o * inner + first + m]
            _places_in_columns(x, p, o, first, tile[:m], places, beats)


def _places_of_integers(p, x, y, beats):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            best, at = x[o * n * inner + i], 0
            for k in range(1, n):
                v = x[(o * n + k) * inner + i]
                if beats(v, best):
                    best, at = v, k
            y[o * inner + i] = at


@along_axes(
    integer=lambda p, tile, x, y: _places_of_integers(p, x, y, _above),
    signature=lambda code: (code, INDEX),
    form=over_one,
    needs_elements=True,
    refuses=("bool",),
    reference=np.argmax,
)
def argmax(p, tile, x, y):
    """The index of the first largest element, or of the first nan; in order, where it is of all.

    >>> import tapegrad as tg
    >>> tg.argmax(tg.tensor([1.0, 3.0, 2.0]))
    tensor(1)
    """
    _places(p, tile, x, y, larger, _above)


@along_axes(
    integer=lambda p, tile, x, y: _places_of_integers(p, x, y, _below),
    signature=lambda code: (code, INDEX),
    form=over_one,
    needs_elements=True,
    refuses=("bool",),
    reference=np.argmin,
)
def argmin(p, tile, x, y):
    """The index of the first smallest element, or of the first nan; in order, where it is of all.

    >>> import tapegrad as tg
    >>> tg.argmin(tg.tensor([1.0, 3.0, 2.0]))
    tensor(0)
    """
    _places(p, tile, x, y, smaller, _below)


def _logsumexp_vjp(p, x, y, y_bar, x_bar):
    """x_bar += y_bar exp(x - y)"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, bar, of_run, g = _run(x, p, o), _run(x_bar, p, o), y[o], y_bar[o]
            for k in range(n):
                bar[k] += _times(g, vectormath.exp(run[k] - of_run))
            continue
        of_rows, gs = y[o * inner : (o + 1) * inner], y_bar[o * inner : (o + 1) * inner]
        for k in range(n):
            row, bars = _row(x, p, o, k, 0, inner), _row(x_bar, p, o, k, 0, inner)
            for i in range(inner):
                bars[i] += _times(gs[i], vectormath.exp(row[i] - of_rows[i]))


def _logsumexp_rule(x, y, g, p):
    return _times(_across(g, p), exp(_along(x, p) - _across(y, p))).reshape(x.shape)


@along_axes(
    vjps=(_logsumexp_vjp,),
    partials=(_logsumexp_rule,),
    form=over_given,
    operand=CONVERTED,
    exact=lambda x, **facts: np.log(np.exp(x).sum(**facts)),
    domain=(domains.reals,),
)
def logsumexp(p, tile, x, y):
    """log(sum(exp(x))), without overflow: the largest element is taken out first.

    >>> import tapegrad as tg
    >>> tg.logsumexp(tg.tensor([1000.0, 1000.0]), dim=0)
    tensor(1000.6931)
    """
    inner = p[2]
    for o in range(p[0]):
        if inner == 1:
            run = _run(x, p, o)
            largest = _extreme(run, larger)
            shift = largest if abs(largest) < np.inf else x.dtype.type(0)
            y[o] = vectormath.log(_total_of_exp(run, shift)) + shift
            continue
        for first in range(0, inner, _COLUMNS):
            m = min(_COLUMNS, inner - first)
            shifts, totals = tile[:m], tile[_COLUMNS : _COLUMNS + m]
            _peaks(x, p, o, first, shifts)
            for i in range(m):
                shifts[i] = shifts[i] if abs(shifts[i]) < np.inf else 0.0
            _totals_of_exp(x, p, o, first, shifts, totals)
            for i in range(m):
                y[o * inner + first + i] = vectormath.log(totals[i]) + shifts[i]


def _softmax_vjp(p, tile, x, y, y_bar, x_bar):
    """x_bar += y (y_bar - y . y_bar)"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, g, bar = _run(y, p, o), _run(y_bar, p, o), _run(x_bar, p, o)
            dot = y.dtype.type(_total_of_products(run, g))
            for k in range(n):
                bar[k] += _times(run[k], g[k] - dot)
            continue
        for first in range(0, inner, _COLUMNS):
            m = min(_COLUMNS, inner - first)
            dots = tile[:m]
            for i in range(m):
                dots[i] = 0
            for k in range(n):
                row, g = _row(y, p, o, k, first, m), _row(y_bar, p, o, k, first, m)
                for i in range(m):
                    dots[i] += _times(row[i], g[i])
            for k in range(n):
                row, g, bar = _row(y, p, o, k, first, m), _row(y_bar, p, o, k, first, m), _row(x_bar, p, o, k, first, m)
                for i in range(m):
                    bar[i] += _times(row[i], g[i] - y.dtype.type(dots[i]))


def _softmax_rule(y, g, p):
    along, weights = _along(g, p), _along(y, p)
    return _times(along - _times(along, weights).sum(1, keepdim=True), weights).reshape(y.shape)


@along_axes(
    vjps=(_softmax_vjp,),
    partials=(_softmax_rule,),
    saves=(8,),
    form=along_one,
    same_shape=True,
    operand=REFUSED,
    exact=lambda x, axis: np.exp(x) / np.exp(x).sum(axis, keepdims=True),
    domain=(domains.reals,),
)
def softmax(p, tile, x, y):
    """exp(x) / sum(exp(x)), without overflow.

    >>> import tapegrad as tg
    >>> tg.softmax(tg.tensor([0.0, 1.0]), dim=0)
    tensor([0.2689, 0.7311])
    """
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            _softmax_of_run(_run(x, p, o), _run(y, p, o))
            continue
        for first in range(0, inner, _COLUMNS):
            m = min(_COLUMNS, inner - first)
            peaks, totals = tile[:m], tile[_COLUMNS : _COLUMNS + m]
            _peaks(x, p, o, first, peaks)
            for i in range(m):
                totals[i] = 0
            for k in range(n):
                row, result = _row(x, p, o, k, first, m), _row(y, p, o, k, first, m)
                for i in range(m):
                    result[i] = vectormath.exp(row[i] - x.dtype.type(peaks[i]))
                    totals[i] += result[i]
            for k in range(n):
                result = _row(y, p, o, k, first, m)
                for i in range(m):
                    result[i] /= x.dtype.type(totals[i])


def _softmax_of_run(run, result):
    largest, total = _extreme(run, larger), np.float64(0)
    for first in range(0, len(run), _LONG_PART):
        part, few, done = run.dtype.type(0), run[first : first + _LONG_PART], result[first : first + _LONG_PART]
        for k in range(len(few)):
            done[k] = vectormath.exp(few[k] - largest)
            part = plus(part, done[k])
        total += part
    divisor = run.dtype.type(total)
    for k in range(len(run)):
        result[k] /= divisor


def _log_softmax_vjp(p, tile, x, y, y_bar, x_bar):
    """x_bar += y_bar - exp(y) sum(y_bar)"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, g, bar = _run(y, p, o), _run(y_bar, p, o), _run(x_bar, p, o)
            total = y.dtype.type(_total(g))
            for k in range(n):
                bar[k] += g[k] - _times(total, vectormath.exp(run[k]))
            continue
        for first in range(0, inner, _COLUMNS):
            m = min(_COLUMNS, inner - first)
            totals = tile[:m]
            for i in range(m):
                totals[i] = 0
            for k in range(n):
                g = _row(y_bar, p, o, k, first, m)
                for i in range(m):
                    totals[i] += g[i]
            for k in range(n):
                row, g, bar = _row(y, p, o, k, first, m), _row(y_bar, p, o, k, first, m), _row(x_bar, p, o, k, first, m)
                for i in range(m):
                    bar[i] += g[i] - _times(y.dtype.type(totals[i]), vectormath.exp(row[i]))


def _log_softmax_rule(y, g, p):
    along = _along(g, p)
    return (along - _times(along.sum(1, keepdim=True), exp(_along(y, p)))).reshape(y.shape)


@along_axes(
    vjps=(_log_softmax_vjp,),
    partials=(_log_softmax_rule,),
    saves=(8,),
    form=along_one,
    same_shape=True,
    operand=REFUSED,
    exact=lambda x, axis: x - np.log(np.exp(x).sum(axis, keepdims=True)),
    domain=(domains.reals,),
)
def log_softmax(p, tile, x, y):
    """log(softmax(x)), without overflow.

    >>> import tapegrad as tg
    >>> tg.log_softmax(tg.tensor([0.0, 1.0]), dim=0)
    tensor([-1.3133, -0.3133])
    """
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, result = _run(x, p, o), _run(y, p, o)
            largest = _extreme(run, larger)
            log_total = x.dtype.type(vectormath.log(_total_of_exp(run, largest)))
            for k in range(n):
                result[k] = run[k] - largest - log_total
            continue
        for first in range(0, inner, _COLUMNS):
            m = min(_COLUMNS, inner - first)
            peaks, totals = tile[:m], tile[_COLUMNS : _COLUMNS + m]
            _peaks(x, p, o, first, peaks)
            _totals_of_exp(x, p, o, first, peaks, totals)
            for i in range(m):
                totals[i] = vectormath.log(totals[i])
            for k in range(n):
                row, result = _row(x, p, o, k, first, m), _row(y, p, o, k, first, m)
                for i in range(m):
                    result[i] = row[i] - x.dtype.type(peaks[i]) - x.dtype.type(totals[i])


# --- the cross entropy of logits and classes --------------------------------------------------------------------------


def _log_of_total(run, largest):
    return vectormath.log(_total_of_exp(run, largest))


def _cross_entropy_vjp(p, lo, hi, begun, x, at, y, y_bar, x_bar):
    """x_bar += y_bar (softmax(x), less one for the class, where that is expm1(-y))"""
    n = p[1]
    for o in range(lo, hi):
        run, bar, g, place = _run(x, p, o), _run(x_bar, p, o), y_bar[o], np.uint64(at[o] % n)
        before = bar[place] if begun == 1 else x.dtype.type(0)
        if g == 0:
            if begun == 0:
                bar[:] = 0
            continue
        shift, rest = run[place], y[o]
        if rest == np.inf:  # the class has no chance, which leaves nothing of the others in y
            shift = _extreme(run, larger)
            rest = x.dtype.type(_log_of_total(run, shift))
        if begun == 1:
            for k in range(n):
                bar[k] += g * vectormath.exp(run[k] - shift - rest)
        else:
            for k in range(n):
                bar[k] = g * vectormath.exp(run[k] - shift - rest)
        bar[place] = before + g * vectormath.expm1(-y[o])


def _cross_entropy_rule(a, b, g, p):
    weights = _times(softmax(a, (p[0], p[1], 1)).reshape(p[0], p[1]), g.reshape(p[0], 1))
    return (weights - indexing.scatter_add(g, b, shape=(p[0], p[1]))).reshape(a.shape)


@array_op(
    2,
    vjps=(_cross_entropy_vjp, None),
    partials=(_cross_entropy_rule, None),
    saves=(1 | 2 | 8, 0),
    signature=lambda code: (code, INDEX, code),
    parts=times_first,
    grad_name="NllLossBackward0",
)
def _cross_entropy(p, lo, hi, x, at, y):
    """log(sum(exp(x))) less x at one place of each run, its flat position; without overflow."""
    n = p[1]
    for o in range(lo, hi):
        run = _run(x, p, o)
        largest = _extreme(run, larger)
        y[o] = np.float64(largest) - np.float64(run[np.uint64(at[o] % n)]) + _log_of_total(run, largest)
