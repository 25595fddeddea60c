"""Normalisation: of runs of memory by an operation of its own, of channels by two.

A run has a mean and a variance, and each of its elements a weight and a bias, all weights before the biases in `w`:

    y = (x - mean) / sqrt(variance + eps) weight + bias

It takes one pass over memory forward, and one back for each operand. Its parameters are (runs, elements in a run, eps):
eps a float64's bits.

Channels are the middle axis of [outer, channels, inner]. Their moments are one operation, in one pass over memory as a
rule; what they are scaled by follows from these, or from running ones, and doing so is another.
"""

import numpy as np

from tapegrad.memory import f8, plus
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.axes import LONG_PART
from tapegrad.ops.declare import TILE, array_op, times_first
from tapegrad.ops.reduction import _LEAST_SQUARES, _deviations_in_parts, _mean, _squares

_EPS = 2


def _unit(x, p, o):
    return x[o * p[1] : (o + 1) * p[1]]


def _statistics(p, run):
    """The mean of a run, in two parts, and one over the root of its variance and eps."""
    n, eps = len(run), f8(p.ctypes.data + 8 * _EPS, 1)[0]
    if run.itemsize == 4:
        mean, total, squares = _deviations_in_parts(run)
        squares -= total * (total / n)
        if _LEAST_SQUARES < squares < np.inf:
            return mean, run.dtype.type(total / n), run.dtype.type(1 / np.sqrt(squares / n + eps))
    mean, rest = _mean(run)
    return mean, rest, run.dtype.type(1 / np.sqrt(_squares(run) / n + eps))


def _sums_of_part(run, g, w, mean, rest):
    """The sums of g w, and of that times deviations; zero times anything is zero."""
    total, product = run.dtype.type(0), run.dtype.type(0)
    for k in range(len(run)):
        v = g[k] * w[k]
        total = plus(total, v)
        product = plus(product, v * (run[k] - mean - rest))
    if product - product == 0:
        return total, product
    total, product = run.dtype.type(0), run.dtype.type(0)
    for k in range(len(run)):
        v = _times(g[k], w[k])
        total = plus(total, v)
        product = plus(product, _times(v, run[k] - mean - rest))
    return total, product


def _x_vjp(p, lo, hi, begun, x, w, y, y_bar, x_bar):
    """x_bar += scale (g - its mean - z times the mean of z g), with g = weight y_bar and z = scale deviations"""
    n = p[1]
    weights = w[:n]
    for o in range(lo, hi):
        run, g, bar = _unit(x, p, o), _unit(y_bar, p, o), _unit(x_bar, p, o)
        mean, rest, scale = _statistics(p, run)
        total, product = np.float64(0), np.float64(0)
        for i in range(0, n, LONG_PART):
            j = i + LONG_PART
            of_part, with_part = _sums_of_part(run[i:j], g[i:j], weights[i:j], mean, rest)
            total += of_part
            product += with_part
        shift = run.dtype.type(total / n)
        factor = run.dtype.type(_times(product / n, np.float64(scale) * np.float64(scale)))
        if begun == 0:
            for k in range(n):
                v = _times(g[k], weights[k]) - shift - _times(run[k] - mean - rest, factor)
                bar[k] = _times(scale, v)
        else:
            for k in range(n):
                v = _times(g[k], weights[k]) - shift - _times(run[k] - mean - rest, factor)
                bar[k] += _times(scale, v)


def _w_vjp(p, lo, hi, x, w, y, y_bar, w_bar):
    """w_bar += the sums of z y_bar, and of y_bar, over runs"""
    of_weights, of_biases = w_bar[: p[1]], w_bar[p[1] :]
    for o in range(lo, hi):
        run, g = _unit(x, p, o), _unit(y_bar, p, o)
        mean, rest, scale = _statistics(p, run)
        for k in range(len(run)):
            of_weights[k] += np.float64(_times(g[k], (run[k] - mean - rest) * scale))
        for k in range(len(run)):
            of_biases[k] += np.float64(g[k])


def _standard(x, p):
    """What rows are over their deviation, and one over that, of a Tensor."""
    rows = x.reshape(p[0], p[1])
    deviation = rows - rows.mean(1, keepdim=True)
    eps = np.int64(p[_EPS]).view(np.float64).item()
    scale = ((deviation * deviation).mean(1, keepdim=True) + eps).rsqrt()
    return deviation * scale, scale


def _x_rule(a, b, g, p):
    z, scale = _standard(a, p)
    of_z = _times(g.reshape(p[0], p[1]), b[0].reshape(p[1]))
    centred = of_z - of_z.mean(1, keepdim=True) - z * _times(of_z, z).mean(1, keepdim=True)
    return _times(scale, centred).reshape(a.shape)


def _w_rule(a, g, p, s):
    rows, bars = g.reshape(p[0], p[1]), g.new_zeros(s[1])
    bars[0] = _times(rows, _standard(a, p)[0]).sum(0).reshape(s[1][1])
    bars[1] = rows.sum(0).reshape(s[1][1])
    return bars


@array_op(
    2,
    vjps=(_x_vjp, _w_vjp),
    partials=(_x_rule, _w_rule),
    summed=4,
    parts=times_first,
    for_all=(1,),
    grad_name="NativeLayerNormBackward0",
)
def normalized(p, lo, hi, x, w, y):
    """Runs of `x` less their mean, over their deviation; times weight, plus bias.

    Of float32, the mean is subtracted in two parts, and sums are float64.
    """
    weights, shifts = w[: p[1]], w[p[1] :]
    for o in range(lo, hi):
        run, result = _unit(x, p, o), _unit(y, p, o)
        mean, rest, scale = _statistics(p, run)
        for k in range(len(run)):
            result[k] = (run[k] - mean - rest) * scale * weights[k] + shifts[k]


# --- channels ---------------------------------------------------------------------------------------------------------

# How many channels are a unit where they are columns, of an inner length of 1: as many as three numbers for each have
# room in a tile, or less.
COLUMNS = 256
assert 3 * COLUMNS <= TILE
_FEW = 16  # elements whose mean is near that of all
_LARGEST_SHIFT = 4.0  # squared, over the variance, that costs less than two bits of it


def _place(p, unit):
    """Of a unit: the batch, its first channel, and how many it has."""
    units = (p[2] + p[4] - 1) // p[4]
    first = unit % units * p[4]
    return unit // units, first, min(p[4], p[2] - first)


def _plane(x, p, batch, o, c):
    """The elements of a channel in one of the outer parts."""
    at = ((batch * p[1] + o) * p[2] + c) * p[3]
    return x[at : at + p[3]]


def _columns(x, p, batch, o, first, m):
    """One element of each channel."""
    at = (batch * p[1] + o) * p[2] + first
    return x[at : at + m]


def _deviations_of_part(run, shift):
    total, squares = run.dtype.type(0), run.dtype.type(0)
    for k in range(len(run)):
        deviation = run[k] - shift
        total = plus(total, deviation)
        squares = plus(squares, deviation * deviation)
    return total, squares


def _deviations(x, p, batch, c, shift):
    """The sums of a channel's deviations from a number near its mean, and of their squares."""
    total, squares = np.float64(0), np.float64(0)
    for o in range(p[1]):
        run = _plane(x, p, batch, o, c)
        for start in range(0, len(run), LONG_PART):
            of_part, squares_of_part = _deviations_of_part(run[start : start + LONG_PART], shift)
            total += of_part
            squares += squares_of_part
    return total, squares


def _are_exact(total, squares, n, itemsize):
    """Whether sums of deviations are from so near the mean that the variance follows, and did not underflow."""
    apart = squares - total * (total / n)
    is_near = total * (total / n) <= _LARGEST_SHIFT * apart
    return is_near and (itemsize == 8 or _LEAST_SQUARES < apart < np.inf)


def _moments(x, p, batch, c, shift, total, squares, s):
    """Enter the moments of a channel, from sums of deviations, or from those in float64 from the mean of these."""
    n = p[1] * p[3]
    if not _are_exact(total, squares, n, x.itemsize):
        shift, total, squares = shift + total / n, np.float64(0), np.float64(0)
        for o in range(p[1]):
            run = _plane(x, p, batch, o, c)
            for k in range(len(run)):
                deviation = np.float64(run[k]) - shift
                total = plus(total, deviation)
                squares = plus(squares, deviation * deviation)
    rest, at = total / n, batch * 3 * p[2] + c
    mean = s.dtype.type(shift + rest)
    apart = squares - total * rest
    s[at], s[at + p[2]], s[at + 2 * p[2]] = mean, shift - np.float64(mean) + rest, 0 if apart < 0 else apart / n


def _add_rows(above, below, shifts, totals, squares):
    for c in range(len(above)):
        shift = above.dtype.type(shifts[c])
        first, second = above[c] - shift, below[c] - shift
        totals[c] += np.float64(first + second)
        squares[c] += np.float64(first * first + second * second)


def _moments_vjp(p, lo, hi, x, s, s_bar, x_bar):
    """x_bar += mean_bar / n + variance_bar 2 (x - mean) / n"""
    one = x.dtype.type(1 / (p[1] * p[3]))
    two = one + one
    for unit in range(lo, hi):
        batch, first, m = _place(p, unit)
        of_mean = batch * 3 * p[2] + first
        of_rest, of_variance = of_mean + p[2], of_mean + 2 * p[2]
        means, rests = s[of_mean : of_mean + m], s[of_rest : of_rest + m]
        mean_bars, variance_bars = s_bar[of_mean : of_mean + m], s_bar[of_variance : of_variance + m]
        for o in range(p[1]):
            if p[3] == 1:
                run, bar = _columns(x, p, batch, o, first, m), _columns(x_bar, p, batch, o, first, m)
                for c in range(m):
                    bar[c] += mean_bars[c] * one + _times(variance_bars[c] * two, run[c] - means[c] - rests[c])
                continue
            run, bar = _plane(x, p, batch, o, first), _plane(x_bar, p, batch, o, first)
            mean, rest, share, factor = means[0], rests[0], mean_bars[0] * one, variance_bars[0] * two
            for k in range(len(run)):
                bar[k] += share + _times(factor, run[k] - mean - rest)


def _moments_rule(x, y, g, p):
    apart, n = x.reshape(-1, p[1], p[2], p[3]), p[1] * p[3]
    made, bars = (t.reshape(-1, 1, 3, p[2], 1) for t in (y, g))
    deviation = apart - (made[:, :, 0] + made[:, :, 1])
    return (bars[:, :, 0] / n + _times(bars[:, :, 2] * (2 / n), deviation)).reshape(x.shape)


@array_op(
    1, vjps=(_moments_vjp,), partials=(_moments_rule,), parts=times_first, grad_name="NativeBatchNormBackward0"
)  # fmt: skip
def moments(p, lo, hi, tile, x, s):
    """Of channels, [3, channels]: the means, what rounding took from these, and the variances.

    The second is a constant: derivatives by a mean are those by the first. Parameters: (units, outer, channels, inner,
    channels in a unit).
    """
    few = min(max(_FEW // p[3], 1), p[1])
    for unit in range(lo, hi):
        batch, first, m = _place(p, unit)
        shifts, totals, squares = tile[:m], tile[m : 2 * m], tile[2 * m : 3 * m]
        for c in range(m):
            shifts[c] = totals[c] = squares[c] = 0
        for o in range(few):
            if p[3] == 1:
                row = _columns(x, p, batch, o, first, m)
                for c in range(m):
                    shifts[c] += np.float64(row[c]) / few
            else:
                run = _plane(x, p, batch, o, first)[:_FEW]
                for k in range(len(run)):
                    shifts[0] += np.float64(run[k]) / (few * len(run))
        for c in range(m):
            shifts[c] = np.float64(x.dtype.type(shifts[c]))
        if p[3] > 1:
            totals[0], squares[0] = _deviations(x, p, batch, first, x.dtype.type(shifts[0]))
        else:
            for o in range(0, p[1] - 1, 2):
                above, below = _columns(x, p, batch, o, first, m), _columns(x, p, batch, o + 1, first, m)
                _add_rows(above, below, shifts, totals, squares)
            row = _columns(x, p, batch, p[1] - 1, first, m)
            for c in range(m if p[1] % 2 else 0):
                deviation = np.float64(row[c]) - shifts[c]
                totals[c] += deviation
                squares[c] += deviation * deviation
        for c in range(m):
            _moments(x, p, batch, first + c, shifts[c], totals[c], squares[c], s)


def _scaled_x_vjp(p, lo, hi, begun, x, m, y, y_bar, x_bar):
    """x_bar += factor y_bar"""
    inner, n = p[3], p[2]
    for o in range(lo, hi):
        at, start = o // p[1] * 3 * n + n, o * n * inner
        if inner == 1:
            g, bar, factors = y_bar[start : start + n], x_bar[start : start + n], m[at : at + n]
            for c in range(n):
                v = _times(g[c], factors[c])
                bar[c] = v + bar[c] if begun else v
            continue
        for c in range(n):
            i = start + c * inner
            g, bar, factor = y_bar[i : i + inner], x_bar[i : i + inner], m[at + c]
            for k in range(inner):
                v = _times(g[k], factor)
                bar[k] = v + bar[k] if begun else v


def _sums_of_run(run, g, centre):
    """The sums of g, and of that times deviations; zero times anything is zero."""
    total, product = run.dtype.type(0), run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, g[k])
        product = plus(product, g[k] * (run[k] - centre))
    if product - product == 0:
        return total, product
    product = run.dtype.type(0)
    for k in range(len(run)):
        product = plus(product, _times(g[k], run[k] - centre))
    return total, product


def _add_products(run, g, centres, of_factors):
    for c in range(len(run)):
        of_factors[c] += np.float64(_times(g[c], run[c] - centres[c]))


def _add_two(g, h, totals):
    for c in range(len(g)):
        totals[c] += np.float64(g[c] + h[c])


def _scaled_m_vjp(p, lo, hi, tile, x, m, y, y_bar, m_bar):
    """Those of the centres: - factor times the sums of y_bar; of the factors: of deviations y_bar; of the shifts."""
    inner, n = p[3], p[2]
    if inner == 1:
        for first in range(0, n, TILE):
            _add_columns(p, lo, hi, tile[: min(n - first, TILE)], first, x, m, y_bar, m_bar)
        return
    for o in range(lo, hi):
        at, start = o // p[1] * 3 * n, o * n * inner
        for c in range(n):
            i = start + c * inner
            run, g = x[i : i + inner], y_bar[i : i + inner]
            total, product = np.float64(0), np.float64(0)
            for k in range(0, inner, LONG_PART):
                of_part, with_part = _sums_of_run(run[k : k + LONG_PART], g[k : k + LONG_PART], m[at + c])
                total += of_part
                product += with_part
            m_bar[at + c] -= _times(total, np.float64(m[at + n + c]))
            m_bar[at + n + c] += product
            m_bar[at + 2 * n + c] += total


def _add_columns(p, lo, hi, totals, first, x, m, y_bar, m_bar):
    """Of channels that are columns, as long as rows share their numbers."""
    n, count, o = p[2], len(totals), lo
    while o < hi:
        at, last = o // p[1] * 3 * n + first, min((o // p[1] + 1) * p[1], hi)
        centres, of_factors = m[at : at + count], m_bar[at + n : at + n + count]
        totals[:] = 0
        for k in range(o, last):
            i = k * n + first
            _add_products(x[i : i + count], y_bar[i : i + count], centres, of_factors)
        for k in range(o, last - 1, 2):
            i, j = k * n + first, (k + 1) * n + first
            _add_two(y_bar[i : i + count], y_bar[j : j + count], totals)
        if (last - o) % 2:
            i = (last - 1) * n + first
            for c in range(count):
                totals[c] += np.float64(y_bar[i + c])
        o = last
        for c in range(count):
            m_bar[at + c] -= _times(totals[c], np.float64(m[at + n + c]))
            m_bar[at + 2 * n + c] += totals[c]


def _scaled_x_rule(b, g, p):
    factors = b.reshape(-1, 1, 3, p[2], 1)[:, :, 1]
    return _times(g.reshape(-1, p[1], p[2], p[3]), factors).reshape(g.shape)


def _scaled_m_rule(a, b, g, p, s):
    along, values = (t.reshape(-1, p[1], p[2], p[3]) for t in (g, a))
    given, bars = b.reshape(-1, 3, p[2]), g.new_zeros(p[0] // p[1], 3, p[2])
    total = along.sum((1, 3))
    bars[:, 0] = -_times(total, given[:, 1])
    bars[:, 1] = _times(along, values - given[:, None, 0, :, None]).sum((1, 3))
    bars[:, 2] = total
    return bars.reshape(s[1])


@array_op(
    2,
    vjps=(_scaled_x_vjp, _scaled_m_vjp),
    partials=(_scaled_x_rule, _scaled_m_rule),
    summed=4,
    parts=times_first,
    grad_name="NativeBatchNormBackward0",
)
def scaled(p, lo, hi, x, m, y):
    """(x - centre) factor + shift, each of channels: [3, channels].

    Parameters: (outer, outer parts that share these, channels, inner).
    """
    inner, n = p[3], p[2]
    for o in range(lo, hi):
        at, start = o // p[1] * 3 * n, o * n * inner
        centres, factors, shifts = m[at : at + n], m[at + n : at + 2 * n], m[at + 2 * n : at + 3 * n]
        if inner == 1:
            run, result = x[start : start + n], y[start : start + n]
            for c in range(n):
                result[c] = (run[c] - centres[c]) * factors[c] + shifts[c]
            continue
        for c in range(n):
            i = start + c * inner
            run, result, centre, factor, shift = x[i : i + inner], y[i : i + inner], centres[c], factors[c], shifts[c]
            for k in range(inner):
                result[k] = (run[k] - centre) * factor + shift
