"""Extremes of a whole axis, and their places."""

import numpy as np

from tapegrad.memory import larger, smaller
from tapegrad.ops import domains
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.axes import COLUMNS, above, across_axis, along_axis, below, extreme, row_of, run_of
from tapegrad.ops.declare import INDEX, along_axes, over, over_one
from tapegrad.ops.logic import eq, isnan


def _extremes(p, x, y, better):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            y[o] = extreme(run_of(x, p, o), better)
            continue
        best = y[o * inner : (o + 1) * inner]
        best[:] = row_of(x, p, o, 0, 0, inner)
        for k in range(1, n):
            row = row_of(x, p, o, k, 0, inner)
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
    share = eq(along_axis(x, p), across_axis(y, p)).to(g.dtype)
    return _times(across_axis(g, p), share / share.sum(1, keepdim=True)).reshape(x.shape)


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


_FEW = 64  # elements among which one is looked for at once


def _place_in_run(run, better):
    """The first place of the largest or smallest element, or of the first nan."""
    best = extreme(run, better)
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
    best[:] = row_of(x, p, o, 0, first, len(best))
    places[:] = 0
    for k in range(1, p[1]):
        row = row_of(x, p, o, k, first, len(best))
        for i in range(len(row)):
            v = np.float64(row[i])
            is_it = beats(v, best[i]) | ((v != v) & (best[i] == best[i]))
            best[i], places[i] = v if is_it else best[i], k if is_it else places[i]


def _places(p, tile, x, y, better, beats):
    inner = p[2]
    for o in range(p[0]):
        if inner == 1:
            y[o] = _place_in_run(run_of(x, p, o), better)
            continue
        for first in range(0, inner, COLUMNS):
            m = min(COLUMNS, inner - first)
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
    integer=lambda p, tile, x, y: _places_of_integers(p, x, y, above),
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
    _places(p, tile, x, y, larger, above)


@along_axes(
    integer=lambda p, tile, x, y: _places_of_integers(p, x, y, below),
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
    _places(p, tile, x, y, smaller, below)
