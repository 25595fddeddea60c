"""Scans: what is so far, at each place along an axis; kernels over `x[outer, n, inner]`.

The adjoints of all of them are linear recurrences, first order, that run back:

    r[k] = a[k] + w[k] r[k + 1]

of a sum with weights 1, of a product with the elements that follow, of logcumsumexp with exp(y[k] - y[k + 1]). Nothing
is divided by an element, and no weight of the last exceeds 1: products with zeros, and sums of exponentials that differ
by hundreds, have their derivatives exactly. The recurrence and its adjoint, which runs on, are operations too: so all
higher orders are.
"""

import numpy as np

from tapegrad import vectormath
from tapegrad.memory import larger
from tapegrad.ops import domains
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.axes import COLUMNS, above, along_axis, below, row_of, run_of
from tapegrad.ops.declare import INDEX, SUMMED, TILE, along_axes, along_one, array_op, times_first
from tapegrad.ops.exponential import exp
from tapegrad.ops.logic import eq, isinf, where


def _running(p, tile, x, y, start, join):
    """y[k] = join(y[k - 1], x[k]), in float64 until it is stored"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, result, total = run_of(x, p, o), run_of(y, p, o), np.float64(start)
            for k in range(n):
                total = join(total, run[k])
                result[k] = total
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            totals = tile[:m]
            for i in range(m):
                totals[i] = start
            for k in range(n):
                row, result = row_of(x, p, o, k, first, m), row_of(y, p, o, k, first, m)
                for i in range(m):
                    totals[i] = join(totals[i], row[i])
                    result[i] = totals[i]


def _running_in_integers(p, x, y, start, join):
    """y[k] = join(y[k - 1], x[k])"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, result, total = run_of(x, p, o), run_of(y, p, o), y.dtype.type(start)
            for k in range(n):
                total = join(total, run[k])
                result[k] = total
            continue
        for k in range(n):
            row, result = row_of(x, p, o, k, 0, inner), row_of(y, p, o, k, 0, inner)
            before = row_of(y, p, o, max(k - 1, 0), 0, inner)
            for i in range(inner):
                result[i] = join(before[i], row[i]) if k > 0 else row[i]


def _sum_of(total, v):
    return total + v


def _product_of(total, v):
    return total * v


# --- sums -------------------------------------------------------------------------------------------------------------


def _add_running(p, tile, x, y, back):
    """y[k] += x[0] + ... + x[k]; or from the end, y[k] += x[k] + ... + x[n - 1]."""
    n, inner = p[1], p[2]
    begin, step = (n - 1, -1) if back else (0, 1)
    for o in range(p[0]):
        if inner == 1:
            run, result, total = run_of(x, p, o), run_of(y, p, o), np.float64(0)
            for j in range(n):
                k = begin + j * step
                total += run[k]
                result[k] += total
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            totals = tile[:m]
            for i in range(m):
                totals[i] = 0
            for j in range(n):
                k = begin + j * step
                row, result = row_of(x, p, o, k, first, m), row_of(y, p, o, k, first, m)
                for i in range(m):
                    totals[i] += row[i]
                    result[i] += totals[i]


@along_axes(
    vjps=(lambda p, tile, x, y, y_bar, x_bar: _add_running(p, tile, y_bar, x_bar, False),),
    partials=(lambda g, p: cumsum(g, p),),
    same_shape=True,
    linear=True,
)
def _cumsum_from_end(p, tile, x, y):
    """The sums of each element and all behind it: the adjoint of `cumsum`, and it that of this one."""
    y[:] = 0
    _add_running(p, tile, x, y, True)


@along_axes(
    vjps=(lambda p, tile, x, y, y_bar, x_bar: _add_running(p, tile, y_bar, x_bar, True),),
    partials=(lambda g, p: _cumsum_from_end(g, p),),
    integer=lambda p, tile, x, y: _running_in_integers(p, x, y, 0, _sum_of),
    form=along_one,
    same_shape=True,
    operand=SUMMED,
    reference=np.cumsum,
    domain=(domains.reals,),
    linear=True,
)
def cumsum(p, tile, x, y):
    """The sums of each element and all before it.

    >>> import tapegrad as tg
    >>> tg.cumsum(tg.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 3., 6.])
    """
    _running(p, tile, x, y, 0, _sum_of)


# --- linear recurrences: p is (outer, n, inner); w has a row less than a: they lie between its rows -------------------


def _forward_recurrence(p, lo, hi, a, w, y):
    n, inner = p[1], p[2]
    for o in range(lo, hi):
        for i in range(inner):
            at, weight, last = o * n * inner + i, o * (n - 1) * inner + i, np.float64(0)
            for k in range(n):
                last = a[at] + (_times(np.float64(w[weight - inner]), last) if k > 0 else 0.0)
                y[at] = last
                at += inner
                weight += inner


def _backward_recurrence(p, lo, hi, a, w, y):
    n, inner = p[1], p[2]
    for o in range(lo, hi):
        for i in range(inner):
            at, weight, last = ((o + 1) * n - 1) * inner + i, ((o + 1) * (n - 1)) * inner + i, np.float64(0)
            for k in range(n):
                last = a[at] + (_times(np.float64(w[weight]), last) if k > 0 else 0.0)
                y[at] = last
                at -= inner
                weight -= inner


def _forward_vjp(p, lo, hi, a, w, y, y_bar, a_bar):
    n, inner = p[1], p[2]
    for o in range(lo, hi):
        for i in range(inner):
            at, weight, last = ((o + 1) * n - 1) * inner + i, ((o + 1) * (n - 1)) * inner + i, np.float64(0)
            for k in range(n):
                last = y_bar[at] + (_times(np.float64(w[weight]), last) if k > 0 else 0.0)
                a_bar[at] += last
                at -= inner
                weight -= inner


def _forward_weights_vjp(p, lo, hi, a, w, y, y_bar, w_bar):
    n, inner = p[1], p[2]
    for o in range(lo, hi):
        for i in range(inner):
            at, weight, last = ((o + 1) * n - 1) * inner + i, ((o + 1) * (n - 1)) * inner + i, np.float64(0)
            for k in range(n):
                last = y_bar[at] + (_times(np.float64(w[weight]), last) if k > 0 else 0.0)
                if k < n - 1:
                    w_bar[weight - inner] += _times(last, np.float64(y[at - inner]))
                at -= inner
                weight -= inner


def _backward_vjp(p, lo, hi, a, w, y, y_bar, a_bar):
    n, inner = p[1], p[2]
    for o in range(lo, hi):
        for i in range(inner):
            at, weight, last = o * n * inner + i, o * (n - 1) * inner + i, np.float64(0)
            for k in range(n):
                last = y_bar[at] + (_times(np.float64(w[weight - inner]), last) if k > 0 else 0.0)
                a_bar[at] += last
                at += inner
                weight += inner


def _backward_weights_vjp(p, lo, hi, a, w, y, y_bar, w_bar):
    n, inner = p[1], p[2]
    for o in range(lo, hi):
        for i in range(inner):
            at, weight, last = o * n * inner + i, o * (n - 1) * inner + i, np.float64(0)
            for k in range(n):
                last = y_bar[at] + (_times(np.float64(w[weight - inner]), last) if k > 0 else 0.0)
                if k < n - 1:
                    w_bar[weight] += _times(last, np.float64(y[at + inner]))
                at += inner
                weight += inner


def _products(y_bar, y, weights, p, of_y_bar, of_y):
    """The adjoint of the weights, whatever dimensions the samples of a batch have before them."""
    return _times(along_axis(y_bar, p)[:, of_y_bar], along_axis(y, p)[:, of_y]).reshape(weights.shape)


@array_op(
    2,
    vjps=(_forward_vjp, _forward_weights_vjp),
    partials=(
        lambda b, g, p: _recurrence_back(g, b, p),
        lambda b, y, g, p: _products(_recurrence_back(g, b, p), y, b, p, slice(1, None), slice(None, -1)),
    ),
    parts=times_first,
)
def _recurrence(p, lo, hi, a, w, y):
    """y[k] = a[k] + w[k - 1] y[k - 1]"""
    _forward_recurrence(p, lo, hi, a, w, y)


@array_op(
    2,
    vjps=(_backward_vjp, _backward_weights_vjp),
    partials=(
        lambda b, g, p: _recurrence(g, b, p),
        lambda b, y, g, p: _products(_recurrence(g, b, p), y, b, p, slice(None, -1), slice(1, None)),
    ),
    parts=times_first,
)
def _recurrence_back(p, lo, hi, a, w, y):
    """y[k] = a[k] + w[k] y[k + 1]"""
    _backward_recurrence(p, lo, hi, a, w, y)


# --- products ---------------------------------------------------------------------------------------------------------


def _cumprod_vjp(p, tile, x, y, y_bar, x_bar):
    """x_bar[k] += y[k - 1] r[k], with r[k] = y_bar[k] + x[k + 1] r[k + 1]"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, result, g, bar, last = run_of(x, p, o), run_of(y, p, o), run_of(y_bar, p, o), run_of(x_bar, p, o), 0.0
            for k in range(n - 1, -1, -1):
                last = g[k] + (_times(np.float64(run[k + 1]), last) if k + 1 < n else 0.0)
                bar[k] += _times(last, np.float64(result[k - 1])) if k > 0 else last
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            lasts = tile[:m]
            for i in range(m):
                lasts[i] = 0
            for k in range(n - 1, -1, -1):
                g, bar = row_of(y_bar, p, o, k, first, m), row_of(x_bar, p, o, k, first, m)
                following = row_of(x, p, o, min(k + 1, n - 1), first, m)
                before = row_of(y, p, o, max(k - 1, 0), first, m)
                for i in range(m):
                    lasts[i] = g[i] + _times(np.float64(following[i]), lasts[i])
                    bar[i] += _times(lasts[i], np.float64(before[i])) if k > 0 else lasts[i]


def _cumprod_rule(x, y, g, p):
    before = along_axis(x, p).new_ones(p[0], p[1], p[2])
    before[:, 1:] = along_axis(y, p)[:, :-1]
    return _times(_recurrence_back(along_axis(g, p), along_axis(x, p)[:, 1:], p), before).reshape(x.shape)


@along_axes(
    vjps=(_cumprod_vjp,),
    partials=(_cumprod_rule,),
    integer=lambda p, tile, x, y: _running_in_integers(p, x, y, 1, _product_of),
    form=along_one,
    same_shape=True,
    operand=SUMMED,
    reference=np.cumprod,
    domain=(domains.reals,),
)
def cumprod(p, tile, x, y):
    """The products of each element and all before it. Derivatives are exact where elements are 0.

    >>> import tapegrad as tg
    >>> tg.cumprod(tg.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 2., 6.])
    """
    _running(p, tile, x, y, 1, _product_of)


# --- sums of exponentials ---------------------------------------------------------------------------------------------


def _ratio(of, to):
    """exp(of - to); 1 where both are infinite alike."""
    return 1.0 if of == to else vectormath.exp(np.float64(of) - np.float64(to))


_HALF_TILE = TILE // 2


def _logcumsumexp_vjp(p, lo, hi, tile, x, y, y_bar, x_bar):
    """x_bar[k] += exp(x[k] - y[k]) r[k], with r[k] = y_bar[k] + exp(y[k] - y[k + 1]) r[k + 1]"""
    n, inner = p[1], p[2]
    for u in range(lo, hi):
        first, last = u // inner * n * inner + u % inner, np.float64(0)
        for end in range(n, 0, -_HALF_TILE):
            m = min(_HALF_TILE, end)
            at, weights, factors = first + (end - m) * inner, tile[:m], tile[m : 2 * m]
            for k in range(m):
                here = at + k * inner
                factors[k] = vectormath.exp(np.float64(x[here]) - np.float64(y[here]))
                weights[k] = _ratio(y[here], y[here + inner]) if k < m - 1 or end < n else 0.0
            for k in range(m - 1, -1, -1):
                last = y_bar[at + k * inner] + _times(last, weights[k])
                x_bar[at + k * inner] += _times(last, factors[k])


def _logcumsumexp_rule(x, y, g, p):
    values, sums, g = (t.reshape(p[0] // max(p[2], 1), p[1], p[2]) for t in (x, y, g))
    of, to = sums[:, :-1], sums[:, 1:]
    weights = exp(where(isinf(of) & eq(of, to), 0.0, of - to))
    return _times(_recurrence_back(g, weights, g.shape), exp(values - sums)).reshape(x.shape)


@array_op(1, vjps=(_logcumsumexp_vjp,), partials=(_logcumsumexp_rule,), parts=times_first)
def logcumsumexp(p, lo, hi, tile, x, y):
    """log(cumsum(exp(x))), without overflow: the largest element so far is taken out."""
    # p: outer * inner, n, inner
    n, inner = p[1], p[2]
    for u in range(lo, hi):
        first, largest, total = u // inner * n * inner + u % inner, -np.inf, 0.0
        for begin in range(0, n, TILE):
            m, at = min(TILE, n - begin), first + begin * inner
            few, most = tile[:m], largest
            for k in range(m):
                few[k] = x[at + k * inner]
                most = larger(most, few[k])
            if most - max(largest, few[0]) < _FAR:  # what is so far has no underflow by the scale of the end
                total *= vectormath.exp(largest - most)
                for k in range(m):
                    few[k] = vectormath.exp(few[k] - most)
                for k in range(m):
                    total += few[k]
                    few[k] = total
                for k in range(m):
                    few[k] = most + vectormath.log(few[k])
                largest = most
            else:
                largest, total = _one_by_one(few, largest, total)
            for k in range(m):
                y[at + k * inner] = few[k]


_FAR = 600.0


def _one_by_one(few, largest, total):
    """The same where elements are infinite or nan, or rise by hundreds: each by the largest before it."""
    for k in range(len(few)):
        v = few[k]
        if v < largest:
            total += vectormath.exp(v - largest)
        elif v > largest:
            total = total * vectormath.exp(largest - v) + 1.0
            largest = v
        elif v == largest:
            total += 1.0 if v > -np.inf else 0.0
        else:
            largest = np.nan
        few[k] = largest + vectormath.log(total)
    return largest, total


# --- places of the largest and the smallest so far --------------------------------------------------------------------


_AT_ONCE = 64


def _places_along(run, places, reaches, passes):
    """Those of an axis that is a run of memory: of many elements of which none is taken, at once."""
    best, place = run[0], 0
    for begin in range(0, len(run), _AT_ONCE):
        few, found = run[begin : begin + _AT_ONCE], places[begin : begin + _AT_ONCE]
        n_taken = 0
        for k in range(len(few)):
            n_taken += 1 if reaches(few[k], best) or few[k] != few[k] else 0
        if n_taken:
            for k in range(len(few)):
                v = few[k]
                if v != v or not (best != best or passes(best, v)):
                    best, place = v, begin + k
                found[k] = place
        else:
            for k in range(len(few)):
                found[k] = place


def _places_so_far(p, tile, x, y, reaches, passes):
    n, inner = p[1], p[2]
    for o in range(p[0] if n else 0):
        if inner == 1:
            _places_along(run_of(x, p, o), run_of(y, p, o), reaches, passes)
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            bests = tile[:m]
            for k in range(n):
                row, places = row_of(x, p, o, k, first, m), row_of(y, p, o, k, first, m)
                before = row_of(y, p, o, max(k - 1, 0), first, m)
                for i in range(m):
                    v = np.float64(row[i])
                    taken = k == 0 or reaches(v, bests[i]) or v != v
                    bests[i] = v if taken else bests[i]
                    places[i] = k if taken else before[i]


def _places_in_integers(p, x, y, reaches, passes):
    n, inner = p[1], p[2]
    for o in range(p[0] if n else 0):
        if inner == 1:
            _places_along(run_of(x, p, o), run_of(y, p, o), reaches, passes)
            continue
        for k in range(n):
            row, places, before = (
                row_of(x, p, o, k, 0, inner),
                row_of(y, p, o, k, 0, inner),
                row_of(y, p, o, max(k - 1, 0), 0, inner),
            )
            for i in range(inner):
                place = before[i] if k > 0 else 0
                places[i] = k if reaches(row[i], x[(o * n + place) * inner + i]) else place


def _at_least(v, best):
    return v >= best


def _at_most(v, best):
    return v <= best


@along_axes(
    signature=lambda code: (code, INDEX),
    integer=lambda p, tile, x, y: _places_in_integers(p, x, y, _at_least, above),
    same_shape=True,
)
def _place_of_largest(p, tile, x, y):
    """The place of the largest so far: the last of those that are equal, or of the nans."""
    _places_so_far(p, tile, x, y, _at_least, above)


@along_axes(
    signature=lambda code: (code, INDEX),
    integer=lambda p, tile, x, y: _places_in_integers(p, x, y, _at_most, below),
    same_shape=True,
)
def _place_of_smallest(p, tile, x, y):
    """The place of the smallest so far: the last of those that are equal, or of the nans."""
    _places_so_far(p, tile, x, y, _at_most, below)
