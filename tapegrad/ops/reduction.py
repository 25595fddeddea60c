"""Reductions.

Sums of terms are block kernels and join a region. The others need a whole axis at once: they are array kernels over
`x[outer, n, inner]`, reducing or normalising the middle axis; parameters `p` are (outer, n, inner, ...). With an inner
length of 1, by far the most frequent, an axis is a run of memory, and gets loops that LLVM vectorises.
"""

import functools

import numpy as np

from tapegrad import domains, vectormath
from tapegrad.dtypes import BOOL
from tapegrad.memory import larger, plus, smaller
from tapegrad.op import array_op, reduction
from tapegrad.ops.exponential import exp
from tapegrad.ops.logic import eq, isnan, where
from tapegrad.tape import VARIANT

# --- terms merged in blocks ------------------------------------------------------------------------------------------


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
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
    finish=lambda s, n: s / n,
    partials=lambda n: 1.0 / n,
    reference=np.mean,
    domain=(domains.reals,),
    variants={VARIANT: "MeanBackward1"},
)
def mean(x):
    """The arithmetic mean."""
    return x


@reduction(
    merge=lambda p, q: plus(p, q),
    start=0,
    finish=lambda s, n: np.sqrt(s),
    partials=lambda x, y: where(y == 0.0, 0.0, x / y),
    reference=np.linalg.norm,
    domain=(domains.reals,),
    grad_name="LinalgVectorNormBackward0",
)
def norm(x):
    """The Euclidean norm; its derivative at 0 is 0."""
    return x * x


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
    """The sum of a run."""
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, run[k])
    return total


def _total_of_exp(run, shift):
    """The sum of exp(run - shift)."""
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, vectormath.exp(run[k] - shift))
    return total


def _total_of_products(run, other):
    """The sum of run * other."""
    total = run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, run[k] * other[k])
    return total


def _peak_of_axis(x, p, o, i):
    """The largest element of an axis, nan where there is one; of none, 0."""
    n, inner = p[1], p[2]
    peak = x[o * n * inner + i] if n > 0 else x.dtype.type(0)
    for k in range(1, n):
        peak = larger(peak, x[(o * n + k) * inner + i])
    return peak


def _run(x, p, o):
    """The elements of an axis that is a run of memory."""
    return x[o * p[1] : (o + 1) * p[1]]


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
        return (_across(g * y, p) / values).reshape(x.shape)
    # The product of the others, written out, so that it can be differentiated again where elements are 0.
    n = p[1]
    others = where(x.new_eye(n, dtype=BOOL).reshape(1, n, n, 1), 1.0, values.reshape(p[0], 1, n, p[2])).prod(2)
    return (_across(g, p) * others).reshape(x.shape)


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


def _deviations(p, x, o, i):
    """The mean of an axis, and the squared deviations from it, in two passes (Chan, Golub and LeVeque 1983)."""
    n, inner = p[1], p[2]
    if inner == 1:
        run = _run(x, p, o)
        mean = _total(run) / n
        squares = x.dtype.type(0)
        for k in range(n):
            squares = plus(squares, (run[k] - mean) * (run[k] - mean))
        return mean, squares
    start = o * n * inner + i
    mean = x.dtype.type(0)
    for k in range(n):
        mean += x[start + k * inner]
    mean /= n
    squares = x.dtype.type(0)
    for k in range(n):
        squares += (x[start + k * inner] - mean) * (x[start + k * inner] - mean)
    return mean, squares


def _add_deviations(p, x, x_bar, o, i, mean, factor):
    """x_bar += factor (x - mean), along an axis."""
    n, inner = p[1], p[2]
    if inner == 1:
        run, bar = _run(x, p, o), _run(x_bar, p, o)
        for k in range(n):
            bar[k] += factor * (run[k] - mean)
        return
    start = o * n * inner + i
    for k in range(n):
        x_bar[start + k * inner] += factor * (x[start + k * inner] - mean)


def _var_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            mean, _ = _deviations(p, x, o, i)
            _add_deviations(p, x, x_bar, o, i, mean, y_bar[o * inner + i] * 2 / max(p[1] - p[3], 0))


def _var_rule(x, g, p):
    values = _along(x, p)
    deviation = values - values.mean(1, keepdim=True)
    return (_across(g, p) * (2.0 / max(p[1] - p[3], 1e-300)) * deviation).reshape(x.shape)


@along_axes(vjps=(_var_vjp,), partials=(_var_rule,), reference=np.var, domain=(domains.reals,))
def var(p, x, y):
    """The variance: squared deviations over n - correction."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            _, squares = _deviations(p, x, o, i)
            y[o * inner + i] = squares / max(p[1] - p[3], 0)


def _std_vjp(p, x, y, y_bar, x_bar):
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            deviation = y[o * inner + i]
            if deviation != 0:
                mean, _ = _deviations(p, x, o, i)
                _add_deviations(p, x, x_bar, o, i, mean, y_bar[o * inner + i] / (max(p[1] - p[3], 0) * deviation))


def _std_rule(x, y, g, p):
    values = _along(x, p)
    deviation = values - values.mean(1, keepdim=True)
    scale = _across(where(y == 0.0, 0.0, g / y), p) / max(p[1] - p[3], 1e-300)
    return (scale * deviation).reshape(x.shape)


@along_axes(vjps=(_std_vjp,), partials=(_std_rule,), reference=np.std, domain=(domains.reals,))
def std(p, x, y):
    """The standard deviation: the root of the variance."""
    inner = p[2]
    for o in range(p[0]):
        for i in range(inner):
            _, squares = _deviations(p, x, o, i)
            y[o * inner + i] = np.sqrt(squares / max(p[1] - p[3], 0))


def _largest(p, x, y):
    inner = p[2]
    for o in range(p[0]):
        if inner == 1:
            y[o] = _peak(_run(x, p, o))
            continue
        for i in range(inner):
            y[o * inner + i] = _peak_of_axis(x, p, o, i)


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
    return (_across(g, p) * share / share.sum(1, keepdim=True)).reshape(x.shape)


def _share_rule_of_all(x, y, g, p):
    share = (eq(x, y) | (isnan(x) & isnan(y))).to(g.dtype)
    return g * share / share.sum()


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


def _logsumexp_vjp(p, x, y, y_bar, x_bar):
    n, inner = p[1], p[2]
    if inner == 1:
        for o in range(p[0]):
            run, bar, g, result = _run(x, p, o), _run(x_bar, p, o), y_bar[o], y[o]
            for k in range(n):
                bar[k] += g * vectormath.exp(run[k] - result)
        return
    for o in range(p[0]):
        for i in range(inner):
            for k in range(n):
                at = (o * n + k) * inner + i
                x_bar[at] += y_bar[o * inner + i] * vectormath.exp(x[at] - y[o * inner + i])


def _logsumexp_rule(x, y, g, p):
    return (_across(g, p) * exp(_along(x, p) - _across(y, p))).reshape(x.shape)


@along_axes(vjps=(_logsumexp_vjp,), partials=(_logsumexp_rule,), domain=(domains.reals,))
def logsumexp(p, x, y):
    """log(sum(exp(x))), without overflow: the largest element is taken out first."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        for i in range(inner):
            largest = _peak(_run(x, p, o)) if inner == 1 else _peak_of_axis(x, p, o, i)
            shift = largest if abs(largest) < np.inf else x.dtype.type(0)
            total = x.dtype.type(0)
            if inner == 1:
                total = _total_of_exp(_run(x, p, o), shift)
            else:
                for k in range(n):
                    total += vectormath.exp(x[(o * n + k) * inner + i] - shift)
            y[o * inner + i] = vectormath.log(total) + shift


def _softmax_vjp(p, x, y, y_bar, x_bar):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, g, bar = _run(y, p, o), _run(y_bar, p, o), _run(x_bar, p, o)
            dot = _total_of_products(run, g)
            for k in range(n):
                bar[k] += run[k] * (g[k] - dot)
            continue
        for i in range(inner):
            start = o * n * inner + i
            dot = y.dtype.type(0)
            for k in range(n):
                dot += y_bar[start + k * inner] * y[start + k * inner]
            for k in range(n):
                at = start + k * inner
                x_bar[at] += y[at] * (y_bar[at] - dot)


def _softmax_rule(y, g, p):
    weighted = _along(g * y, p)
    return (weighted - _along(y, p) * weighted.sum(1, keepdim=True)).reshape(y.shape)


@along_axes(vjps=(_softmax_vjp,), partials=(_softmax_rule,), saves=(8,), domain=(domains.reals,))
def softmax(p, x, y):
    """exp(x) / sum(exp(x)), without overflow."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, result = _run(x, p, o), _run(y, p, o)
            largest = _peak(run)
            for k in range(n):
                result[k] = vectormath.exp(run[k] - largest)
            total = _total(result)
            for k in range(n):
                result[k] /= total
            continue
        for i in range(inner):
            start = o * n * inner + i
            largest = _peak_of_axis(x, p, o, i)
            total = x.dtype.type(0)
            for k in range(n):
                e = vectormath.exp(x[start + k * inner] - largest)
                y[start + k * inner] = e
                total += e
            for k in range(n):
                y[start + k * inner] /= total


def _log_softmax_vjp(p, x, y, y_bar, x_bar):
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, g, bar = _run(y, p, o), _run(y_bar, p, o), _run(x_bar, p, o)
            total = _total(g)
            for k in range(n):
                bar[k] += g[k] - vectormath.exp(run[k]) * total
            continue
        for i in range(inner):
            start = o * n * inner + i
            total = y.dtype.type(0)
            for k in range(n):
                total += y_bar[start + k * inner]
            for k in range(n):
                at = start + k * inner
                x_bar[at] += y_bar[at] - vectormath.exp(y[at]) * total


def _log_softmax_rule(y, g, p):
    along = _along(g, p)
    return (along - exp(_along(y, p)) * along.sum(1, keepdim=True)).reshape(y.shape)


@along_axes(vjps=(_log_softmax_vjp,), partials=(_log_softmax_rule,), saves=(8,), domain=(domains.reals,))
def log_softmax(p, x, y):
    """log(softmax(x)), without overflow."""
    n, inner = p[1], p[2]
    for o in range(p[0]):
        if inner == 1:
            run, result = _run(x, p, o), _run(y, p, o)
            largest = _peak(run)
            log_total = vectormath.log(_total_of_exp(run, largest))
            for k in range(n):
                result[k] = run[k] - largest - log_total
            continue
        for i in range(inner):
            start = o * n * inner + i
            largest = _peak_of_axis(x, p, o, i)
            total = 0.0
            for k in range(n):
                total += vectormath.exp(x[start + k * inner] - largest)
            log_total = vectormath.log(total)
            for k in range(n):
                y[start + k * inner] = x[start + k * inner] - largest - log_total
