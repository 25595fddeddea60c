"""Exponentials of a whole axis beside their sum, without overflow: the largest element is taken out first."""

import numpy as np

from tapegrad import vectormath
from tapegrad.memory import larger, plus
from tapegrad.ops import domains, indexing
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.axes import (
    COLUMNS,
    LONG_PART,
    across_axis,
    along_axis,
    extreme,
    peaks_of,
    row_of,
    run_of,
    total_of,
    total_of_exp,
    total_of_products,
    totals_of_exp,
)
from tapegrad.ops.declare import CONVERTED, INDEX, REFUSED, along_axes, along_one, array_op, over_given, times_first
from tapegrad.ops.exponential import exp


def _logsumexp_vjp(p, x, y, y_bar, x_bar):
    """x_bar += y_bar exp(x - y)"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, bar, of_run, g = run_of(x, p, o), run_of(x_bar, p, o), y[o], y_bar[o]
            for k in range(n):
                bar[k] += _times(g, vectormath.exp(run[k] - of_run))
            continue
        of_rows, gs = y[o * inner : (o + 1) * inner], y_bar[o * inner : (o + 1) * inner]
        for k in range(n):
            row, bars = row_of(x, p, o, k, 0, inner), row_of(x_bar, p, o, k, 0, inner)
            for i in range(inner):
                bars[i] += _times(gs[i], vectormath.exp(row[i] - of_rows[i]))


def _logsumexp_rule(x, y, g, p):
    return _times(across_axis(g, p), exp(along_axis(x, p) - across_axis(y, p))).reshape(x.shape)


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
            run = run_of(x, p, o)
            largest = extreme(run, larger)
            shift = largest if abs(largest) < np.inf else x.dtype.type(0)
            y[o] = vectormath.log(total_of_exp(run, shift)) + shift
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            shifts, totals = tile[:m], tile[COLUMNS : COLUMNS + m]
            peaks_of(x, p, o, first, shifts)
            for i in range(m):
                shifts[i] = shifts[i] if abs(shifts[i]) < np.inf else 0.0
            totals_of_exp(x, p, o, first, shifts, totals)
            for i in range(m):
                y[o * inner + first + i] = vectormath.log(totals[i]) + shifts[i]


def _softmax_vjp(p, tile, x, y, y_bar, x_bar):
    """x_bar += y (y_bar - y . y_bar)"""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, g, bar = run_of(y, p, o), run_of(y_bar, p, o), run_of(x_bar, p, o)
            dot = y.dtype.type(total_of_products(run, g))
            for k in range(n):
                bar[k] += _times(run[k], g[k] - dot)
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            dots = tile[:m]
            for i in range(m):
                dots[i] = 0
            for k in range(n):
                row, g = row_of(y, p, o, k, first, m), row_of(y_bar, p, o, k, first, m)
                for i in range(m):
                    dots[i] += _times(row[i], g[i])
            for k in range(n):
                row, g = row_of(y, p, o, k, first, m), row_of(y_bar, p, o, k, first, m)
                bar = row_of(x_bar, p, o, k, first, m)
                for i in range(m):
                    bar[i] += _times(row[i], g[i] - y.dtype.type(dots[i]))


def _softmax_rule(y, g, p):
    along, weights = along_axis(g, p), along_axis(y, p)
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
            _softmax_of_run(run_of(x, p, o), run_of(y, p, o))
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            peaks, totals = tile[:m], tile[COLUMNS : COLUMNS + m]
            peaks_of(x, p, o, first, peaks)
            for i in range(m):
                totals[i] = 0
            for k in range(n):
                row, result = row_of(x, p, o, k, first, m), row_of(y, p, o, k, first, m)
                for i in range(m):
                    result[i] = vectormath.exp(row[i] - x.dtype.type(peaks[i]))
                    totals[i] += result[i]
            for k in range(n):
                result = row_of(y, p, o, k, first, m)
                for i in range(m):
                    result[i] /= x.dtype.type(totals[i])


def _softmax_of_run(run, result):
    largest, total = extreme(run, larger), np.float64(0)
    for first in range(0, len(run), LONG_PART):
        part, few, done = run.dtype.type(0), run[first : first + LONG_PART], result[first : first + LONG_PART]
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
            run, g, bar = run_of(y, p, o), run_of(y_bar, p, o), run_of(x_bar, p, o)
            total = y.dtype.type(total_of(g))
            for k in range(n):
                bar[k] += g[k] - _times(total, vectormath.exp(run[k]))
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            totals = tile[:m]
            for i in range(m):
                totals[i] = 0
            for k in range(n):
                g = row_of(y_bar, p, o, k, first, m)
                for i in range(m):
                    totals[i] += g[i]
            for k in range(n):
                row, g = row_of(y, p, o, k, first, m), row_of(y_bar, p, o, k, first, m)
                bar = row_of(x_bar, p, o, k, first, m)
                for i in range(m):
                    bar[i] += g[i] - _times(y.dtype.type(totals[i]), vectormath.exp(row[i]))


def _log_softmax_rule(y, g, p):
    along = along_axis(g, p)
    return (along - _times(along.sum(1, keepdim=True), exp(along_axis(y, p)))).reshape(y.shape)


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
            run, result = run_of(x, p, o), run_of(y, p, o)
            largest = extreme(run, larger)
            log_total = x.dtype.type(vectormath.log(total_of_exp(run, largest)))
            for k in range(n):
                result[k] = run[k] - largest - log_total
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
            peaks, totals = tile[:m], tile[COLUMNS : COLUMNS + m]
            peaks_of(x, p, o, first, peaks)
            totals_of_exp(x, p, o, first, peaks, totals)
            for i in range(m):
                totals[i] = vectormath.log(totals[i])
            for k in range(n):
                row, result = row_of(x, p, o, k, first, m), row_of(y, p, o, k, first, m)
                for i in range(m):
                    result[i] = row[i] - x.dtype.type(peaks[i]) - x.dtype.type(totals[i])


# --- the cross entropy of logits and classes -------------------------------------------------------------------------


def _log_of_total(run, largest):
    return vectormath.log(total_of_exp(run, largest))


def _cross_entropy_vjp(p, lo, hi, begun, x, at, y, y_bar, x_bar):
    """x_bar += y_bar (softmax(x), less one for the class, where that is expm1(-y))"""
    n = p[1]
    for o in range(lo, hi):
        run, bar, g, place = run_of(x, p, o), run_of(x_bar, p, o), y_bar[o], np.uint64(at[o] % n)
        before = bar[place] if begun == 1 else x.dtype.type(0)
        if g == 0:
            if begun == 0:
                bar[:] = 0
            continue
        shift, rest = run[place], y[o]
        if rest == np.inf:  # the class has no chance, which leaves nothing of the others in y
            shift = extreme(run, larger)
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
        run = run_of(x, p, o)
        largest = extreme(run, larger)
        y[o] = np.float64(largest) - np.float64(run[np.uint64(at[o] % n)]) + _log_of_total(run, largest)
