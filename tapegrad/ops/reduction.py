"""Reductions.

Sums of terms are block kernels and join a region. The others need a whole axis at once: they are array kernels over
`x[outer, n, inner]`, reducing or normalising the middle axis; parameters `p` are (outer, n, inner, ...). With an inner
length of 1, by far the most frequent, an axis is a run of memory, and gets loops that LLVM vectorises.

Whatever the dtype, sums are float64 until they are complete, but for parts so short that float32 loses nothing.
"""

import functools

import numpy as np

from tapegrad import domains, vectormath
from tapegrad.dtypes import BOOL
from tapegrad.memory import larger, plus, smaller
from tapegrad.op import PART, array_op, reduction
from tapegrad.ops.arithmetic import _times
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
    reference=np.sum,
    domain=(domains.reals,),
    variants={VARIANT: "SumBackward1"},
)
def sum_(x):
    """The sum."""
    return x


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    plain=lambda x: x,
    holds=lambda s, least: s - s == 0,
    finish=lambda s, n: s / n,
    partials=lambda n: 1.0 / n,
    reference=np.mean,
    domain=(domains.reals,),
    variants={VARIANT: "MeanBackward1"},
)
def mean(x):
    """The arithmetic mean."""
    return x


# Of numbers whose squares would overflow or underflow, multiples are squared and summed apart (Blue 1978).
_SMALL, _LARGE, _UP, _DOWN = 2.0**-511, 2.0**486, 2.0**537, 2.0**-538


def _root_of_sums(middle, small, large, n):
    if large > 0:
        return np.sqrt(large + middle * _DOWN * _DOWN) / _DOWN
    return np.sqrt(small) / _UP if middle == 0 else np.sqrt(middle + small * 2.0**-1074)


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    parts=3,
    plain=lambda x: x * x,
    holds=lambda s, least: least < s < np.inf,
    finish=_root_of_sums,
    partials=lambda x, y: where(y == 0.0, 0.0, x / y),
    reference=np.linalg.norm,
    domain=(domains.reals,),
    grad_name="LinalgVectorNormBackward0",
)
def norm(x):
    """The Euclidean norm; its derivative at 0 is 0."""
    size, up, down = abs(x), x * _UP, x * _DOWN
    small, large = size < _SMALL, size > _LARGE
    return (0.0 if small or large else x * x), (up * up if small else 0.0), (down * down if large else 0.0)


@reduction(merge=lambda p, q: p or q, start=0, reference=np.any)
def any_(x):
    """True where some element is."""
    return x


@reduction(merge=lambda p, q: p and q, start=1, reference=np.all)
def all_(x):
    """True where every element is."""
    return x


# --- whole axes ------------------------------------------------------------------------------------------------------


along_axes = functools.partial(array_op, 1, along=True)


def _peak(run):
    """The largest element of a run, nan where there is one; of none, 0."""
    peak = run[0] if len(run) > 0 else run.dtype.type(0)
    for k in range(1, len(run)):
        peak = larger(peak, run[k])
    return peak


def _total(run):
    """The sum of a run: of parts as short as in `kernels`, in float64."""
    total = np.float64(0)
    for first in range(0, len(run), PART):
        part, few = run.dtype.type(0), run[first : first + PART]
        for k in range(len(few)):
            part = plus(part, few[k])
        total += part
    return total


_LONG_PART = 4 * PART  # where a loop takes longer to begin


def _total_of_exp(run, shift):
    """The sum of exp(run - shift), in float64."""
    total = np.float64(0)
    if run.itemsize == 8:
        for k in range(len(run)):
            total = plus(total, vectormath.exp(run[k] - shift))
        return total
    for first in range(0, len(run), _LONG_PART):
        part, few = run.dtype.type(0), run[first : first + _LONG_PART]
        for k in range(len(few)):
            part = plus(part, vectormath.exp(few[k] - shift))
        total += part
    return total


def _total_of_products(run, other):
    """The sum of run * other, in float64, where zero times anything is zero."""
    total = np.float64(0)
    for first in range(0, len(run), PART):
        part, few, others = run.dtype.type(0), run[first : first + PART], other[first : first + PART]
        for k in range(len(few)):
            part = plus(part, _times(few[k], others[k]))
        total += part
    return total


def _run(x, p, o):
    """The elements of an axis that is a run of memory."""
    return x[o * p[1] : (o + 1) * p[1]]


def _axis(x, p, o, i):
    """The elements of any axis, so many apart."""
    return x[o * p[1] * p[2] + i : (o + 1) * p[1] * p[2] : p[2]]


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
    reference=np.prod,
    domain=(domains.reals,),
    variants={VARIANT: "ProdBackward1"},
)
def prod(p, x, y):
    """The product."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            product = x.dtype.type(1)
            for k in range(n):
                product *= x[(o * n + k) * inner + i]
            y[o * inner + i] = product


def _deviations(run):
    """Two numbers whose sum is the mean of a run, and the sum of squared deviations from it.

    In two passes: the second finds out by how much the first was off (Chan, Golub and LeVeque 1983).
    """
    n = len(run)
    mean = run.dtype.type(_total(run) / n)
    first, second, lost = np.float64(0), np.float64(0), np.float64(0)
    for start in range(0, n, _LONG_PART):
        part, few = np.float64(0), run[start : start + _LONG_PART]
        for k in range(len(few)):
            deviation = np.float64(few[k] - mean)
            first = plus(first, deviation)
            part = plus(part, deviation * deviation)
        before, second = second, second + part
        lost += part - (second - before)  # Dekker 1971
    if first - first != 0 or lost != lost:  # infinities are not corrected
        first = lost = np.float64(0)
    return mean, run.dtype.type(first / n), second + lost - first * (first / n)


def _degrees(p):
    """What the sum of squared deviations is divided by: n - correction."""
    return np.float64(max(p[1] - p[3], 0))


def _variance(run, p):
    _, _, squares = _deviations(run)
    return squares / _degrees(p)


def _add_deviations(run, bar, factor):
    """bar += factor (run - its mean)"""
    mean, rest, _ = _deviations(run)
    factor = run.dtype.type(factor)
    for k in range(len(run)):
        bar[k] += factor * (run[k] - mean - rest)


def _var_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            g = y_bar[o * inner + i]
            if g == 0:
                continue
            factor = g * 2 / _degrees(p)
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


@along_axes(vjps=(_var_vjp,), partials=(_var_rule,), reference=np.var, domain=(domains.reals,))
def var(p, x, y):
    """The variance: squared deviations over n - correction."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                y[o] = _variance(_run(x, p, o), p)
            else:
                y[o * inner + i] = _variance(_axis(x, p, o, i), p)


def _std_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            g, deviation = y_bar[o * inner + i], y[o * inner + i]
            if g == 0 or deviation == 0:
                continue
            factor = g / (_degrees(p) * deviation)
            if inner == 1:
                _add_deviations(_run(x, p, o), _run(x_bar, p, o), factor)
            else:
                _add_deviations(_axis(x, p, o, i), _axis(x_bar, p, o, i), factor)


def _std_rule(x, y, g, p):
    values, deviation = _along(x, p), _across(y, p)
    scale = where(deviation == 0.0, 0.0, _reciprocal_of_degrees(p) / deviation)
    return _times(_across(g, p), scale * (values - values.mean(1, keepdim=True))).reshape(x.shape)


@along_axes(vjps=(_std_vjp,), partials=(_std_rule,), reference=np.std, domain=(domains.reals,))
def std(p, x, y):
    """The standard deviation: the root of the variance. Its derivative where it is 0 is 0."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                y[o] = np.sqrt(_variance(_run(x, p, o), p))
            else:
                y[o * inner + i] = np.sqrt(_variance(_axis(x, p, o, i), p))


def _largest(p, x, y):
    inner = p[2]
    for o in range(p[0]):
        if inner == 1:
            y[o] = _peak(_run(x, p, o))
            continue
        for i in range(inner):
            y[o * inner + i] = _peak(_axis(x, p, o, i))


def _smallest(p, x, y):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run = _run(x, p, o)
            least = run[0]
            for k in range(1, n):
                least = smaller(least, run[k])
            y[o] = least
            continue
        for i in range(inner):
            least = x[o * n * inner + i]
            for k in range(1, n):
                least = smaller(least, x[(o * n + k) * inner + i])
            y[o * inner + i] = least


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
    n, best = p[1], y[0]
    ties = 0
    for k in range(n):
        ties += x[k] == best or (x[k] != x[k] and best != best)
    for k in range(n):
        if x[k] == best or (x[k] != x[k] and best != best):
            x_bar[k] += y_bar[0] / ties


def _share_rule(x, y, g, p):
    share = eq(_along(x, p), _across(y, p)).to(g.dtype)
    return _times(_across(g, p), share / share.sum(1, keepdim=True)).reshape(x.shape)


def _share_rule_of_all(x, y, g, p):
    share = (eq(x, y) | (isnan(x) & isnan(y))).to(g.dtype)
    return _times(g, share / share.sum())


def _extremum(name, kernel, vjp, rule, reference, grad_name, doc):
    def function(p, x, y):
        kernel(p, x, y)

    function.__name__, function.__doc__ = name, doc
    declare = along_axes(
        vjps=(vjp,), partials=(rule,), reference=reference, domain=(domains.reals,), grad_name=grad_name
    )
    op = declare(function)
    op.function = kernel
    return op


_LARGEST, _SMALLEST = "The largest element; nan where there is one.", "The smallest element; nan where there is one."
amax = _extremum("amax", _largest, _share_vjp, _share_rule, np.amax, "AmaxBackward0", _LARGEST)
amin = _extremum("amin", _smallest, _share_vjp, _share_rule, np.amin, "AminBackward0", _SMALLEST)
max_of_all = _extremum("max", _largest, _share_vjp_of_all, _share_rule_of_all, np.max, "MaxBackward1", _LARGEST)
min_of_all = _extremum("min", _smallest, _share_vjp_of_all, _share_rule_of_all, np.min, "MinBackward1", _SMALLEST)


@along_axes(signature=lambda code: (code, 2), reference=np.argmax)
def argmax(p, x, y):
    """The index of the first largest element, or of the first nan."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            best, at = x[o * n * inner + i], 0
            for k in range(1, n):
                v = x[(o * n + k) * inner + i]
                if v > best or (v != v and best == best):
                    best, at = v, k
            y[o * inner + i] = at


@along_axes(signature=lambda code: (code, 2), reference=np.argmin)
def argmin(p, x, y):
    """The index of the first smallest element, or of the first nan."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            best, at = x[o * n * inner + i], 0
            for k in range(1, n):
                v = x[(o * n + k) * inner + i]
                if v < best or (v != v and best == best):
                    best, at = v, k
            y[o * inner + i] = at


def _add_weights(run, result, g, bar):
    """bar += g exp(run - result)"""
    for k in range(len(run)):
        bar[k] += _times(g, vectormath.exp(run[k] - result))


def _logsumexp_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                _add_weights(_run(x, p, o), y[o], y_bar[o], _run(x_bar, p, o))
            else:
                _add_weights(_axis(x, p, o, i), y[o * inner + i], y_bar[o * inner + i], _axis(x_bar, p, o, i))


def _logsumexp_rule(x, y, g, p):
    return _times(_across(g, p), exp(_along(x, p) - _across(y, p))).reshape(x.shape)


def _logsumexp_of(run):
    largest = _peak(run)
    shift = largest if abs(largest) < np.inf else run.dtype.type(0)
    return vectormath.log(_total_of_exp(run, shift)) + shift


@along_axes(vjps=(_logsumexp_vjp,), partials=(_logsumexp_rule,), domain=(domains.reals,))
def logsumexp(p, x, y):
    """log(sum(exp(x))), without overflow: the largest element is taken out first."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                y[o] = _logsumexp_of(_run(x, p, o))
            else:
                y[o * inner + i] = _logsumexp_of(_axis(x, p, o, i))


def _softmax_back(run, g, bar):
    """bar += run (g - run . g)"""
    dot = run.dtype.type(_total_of_products(run, g))
    for k in range(len(run)):
        bar[k] += _times(run[k], g[k] - dot)


def _softmax_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                _softmax_back(_run(y, p, o), _run(y_bar, p, o), _run(x_bar, p, o))
            else:
                _softmax_back(_axis(y, p, o, i), _axis(y_bar, p, o, i), _axis(x_bar, p, o, i))


def _softmax_rule(y, g, p):
    along, weights = _along(g, p), _along(y, p)
    return _times(along - _times(along, weights).sum(1, keepdim=True), weights).reshape(y.shape)


def _softmax_into(run, result):
    largest = _peak(run)
    total = np.float64(0)
    for first in range(0, len(run), _LONG_PART):
        part, few, done = run.dtype.type(0), run[first : first + _LONG_PART], result[first : first + _LONG_PART]
        for k in range(len(few)):
            done[k] = vectormath.exp(few[k] - largest)
            part = plus(part, done[k])
        total += part
    divisor = run.dtype.type(total)
    for k in range(len(run)):
        result[k] /= divisor


@along_axes(vjps=(_softmax_vjp,), partials=(_softmax_rule,), saves=(8,), domain=(domains.reals,))
def softmax(p, x, y):
    """exp(x) / sum(exp(x)), without overflow."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                _softmax_into(_run(x, p, o), _run(y, p, o))
            else:
                _softmax_into(_axis(x, p, o, i), _axis(y, p, o, i))


def _log_softmax_back(run, g, bar):
    """bar += g - exp(run) sum(g)"""
    total = run.dtype.type(_total(g))
    for k in range(len(run)):
        bar[k] += g[k] - _times(total, vectormath.exp(run[k]))


def _log_softmax_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                _log_softmax_back(_run(y, p, o), _run(y_bar, p, o), _run(x_bar, p, o))
            else:
                _log_softmax_back(_axis(y, p, o, i), _axis(y_bar, p, o, i), _axis(x_bar, p, o, i))


def _log_softmax_rule(y, g, p):
    along = _along(g, p)
    return (along - _times(along.sum(1, keepdim=True), exp(_along(y, p)))).reshape(y.shape)


def _log_softmax_into(run, result):
    largest = _peak(run)
    log_total = run.dtype.type(vectormath.log(_total_of_exp(run, largest)))
    for k in range(len(run)):
        result[k] = run[k] - largest - log_total


@along_axes(vjps=(_log_softmax_vjp,), partials=(_log_softmax_rule,), saves=(8,), domain=(domains.reals,))
def log_softmax(p, x, y):
    """log(softmax(x)), without overflow."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            if inner == 1:
                _log_softmax_into(_run(x, p, o), _run(y, p, o))
            else:
                _log_softmax_into(_axis(x, p, o, i), _axis(y, p, o, i))
