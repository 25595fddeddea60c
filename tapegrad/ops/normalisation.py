"""Normalisation of runs of memory: one pass over them forward, one back for each operand.

A unit is a run of `channels` times `inner` elements, which has a mean and a variance. A weight and a bias belong to
each channel of each of the `groups` units that follow each other, the weights of all before the biases in `w`:

    y = (x - mean) / sqrt(variance + eps) weight + bias

Layer normalisation has one group, and a channel an element; group normalisation groups of channels, each an image's
plane; instance normalisation as many groups as channels. Parameters `p`:

    (units, channels, inner, groups, eps, name): eps a float64's bits, name the place in `nodes`
"""

import numpy as np

from tapegrad.memory import f8, plus
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.declare import array_op, times_first
from tapegrad.ops.reduction import _LEAST_SQUARES, _LONG_PART, _deviations_in_parts, _mean, _squares

_EPS = 4


def _unit(x, p, o):
    n = p[1] * p[2]
    return x[o * n : o * n + n]


def _channels(w, p, o):
    """The weights of a unit's channels, and the biases."""
    at, n = o % p[3] * p[1], p[1]
    half = len(w) // 2
    return w[at : at + n], w[half + at : half + at + n]


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


def _sums_of_run(run, g, mean, rest):
    """The sums of g, and of that times deviations, likewise."""
    total, product = run.dtype.type(0), run.dtype.type(0)
    for k in range(len(run)):
        total = plus(total, g[k])
        product = plus(product, g[k] * (run[k] - mean - rest))
    if product - product == 0:
        return total, product
    product = run.dtype.type(0)
    for k in range(len(run)):
        product = plus(product, _times(g[k], run[k] - mean - rest))
    return total, product


def _sums_of_plane(run, g, mean, rest):
    total, product = np.float64(0), np.float64(0)
    for i in range(0, len(run), _LONG_PART):
        of_part, with_part = _sums_of_run(run[i : i + _LONG_PART], g[i : i + _LONG_PART], mean, rest)
        total += of_part
        product += with_part
    return total, product


def _x_vjp(p, lo, hi, begun, x, w, y, y_bar, x_bar):
    """x_bar += scale (g - its mean - z times the mean of z g), with g = weight y_bar and z = scale deviations"""
    inner = p[2]
    for o in range(lo, hi):
        run, g, bar, weights = _unit(x, p, o), _unit(y_bar, p, o), _unit(x_bar, p, o), _channels(w, p, o)[0]
        mean, rest, scale = _statistics(p, run)
        n, total, product = len(run), np.float64(0), np.float64(0)
        if inner == 1:
            for i in range(0, n, _LONG_PART):
                j = i + _LONG_PART
                of_part, with_part = _sums_of_part(run[i:j], g[i:j], weights[i:j], mean, rest)
                total += of_part
                product += with_part
        else:
            for i in range(p[1]):
                plane, along = run[i * inner : (i + 1) * inner], g[i * inner : (i + 1) * inner]
                of_plane, with_plane = _sums_of_plane(plane, along, mean, rest)
                total += _times(np.float64(weights[i]), of_plane)
                product += _times(np.float64(weights[i]), with_plane)
        shift = run.dtype.type(total / n)
        factor = run.dtype.type(_times(product / n, np.float64(scale) * np.float64(scale)))
        if begun == 0 and inner == 1:
            for k in range(n):
                v = _times(g[k], weights[k]) - shift - _times(run[k] - mean - rest, factor)
                bar[k] = _times(scale, v)
        elif inner == 1:
            for k in range(n):
                v = _times(g[k], weights[k]) - shift - _times(run[k] - mean - rest, factor)
                bar[k] += _times(scale, v)
        else:
            for i in range(p[1]):
                plane, along = run[i * inner : (i + 1) * inner], g[i * inner : (i + 1) * inner]
                weight, part = weights[i], bar[i * inner : (i + 1) * inner]
                if begun == 0:
                    for k in range(inner):
                        v = _times(along[k], weight) - shift - _times(plane[k] - mean - rest, factor)
                        part[k] = _times(scale, v)
                else:
                    for k in range(inner):
                        v = _times(along[k], weight) - shift - _times(plane[k] - mean - rest, factor)
                        part[k] += _times(scale, v)


def _w_vjp(p, lo, hi, x, w, y, y_bar, w_bar):
    """w_bar += the sums of z y_bar, and of y_bar, over units and planes"""
    inner = p[2]
    for o in range(lo, hi):
        run, g = _unit(x, p, o), _unit(y_bar, p, o)
        of_weights, of_biases = _channels(w_bar, p, o)
        mean, rest, scale = _statistics(p, run)
        if inner == 1:
            for k in range(len(run)):
                of_weights[k] += _times(g[k], (run[k] - mean - rest) * scale)
                of_biases[k] += g[k]
            continue
        for i in range(p[1]):
            plane, along = run[i * inner : (i + 1) * inner], g[i * inner : (i + 1) * inner]
            total, product = _sums_of_plane(plane, along, mean, rest)
            of_weights[i] += _times(product, np.float64(scale))
            of_biases[i] += total


# --- the same rules over Tensors -------------------------------------------------------------------------------------


def _apart(x, p):
    """[repeats, groups, channels, inner]"""
    return x.reshape(p[0] // p[3], p[3], p[1], p[2])


def _standard(x, p):
    """What `x` is over its deviation, and one over that."""
    values = _apart(x, p)
    deviation = values - values.mean((2, 3), keepdim=True)
    eps = np.int64(p[_EPS]).view(np.float64).item()
    scale = ((deviation * deviation).mean((2, 3), keepdim=True) + eps).rsqrt()
    return deviation * scale, scale


def _x_rule(a, b, g, p):
    z, scale = _standard(a, p)
    of_z = _times(_apart(g, p), b[0].reshape(1, p[3], p[1], 1))
    centred = of_z - of_z.mean((2, 3), keepdim=True) - z * _times(of_z, z).mean((2, 3), keepdim=True)
    return _times(scale, centred).reshape(a.shape)


def _w_rule(a, g, p, s):
    along, bars = _apart(g, p), g.new_zeros(s[1])
    bars[0] = _times(along, _standard(a, p)[0]).sum((0, 3)).reshape(s[1][1])
    bars[1] = along.sum((0, 3)).reshape(s[1][1])
    return bars


@array_op(
    2,
    vjps=(_x_vjp, _w_vjp),
    partials=(_x_rule, _w_rule),
    summed=4,
    parts=times_first,
    for_all=(1,),
    nodes=("NativeLayerNormBackward0", "NativeGroupNormBackward0", "NativeBatchNormBackward0"),
)
def normalized(p, lo, hi, x, w, y):
    """Units of `x` less their mean, over their deviation; times weight, plus bias, of channels.

    Of float32, the mean is subtracted in two parts, and sums are float64.
    """
    inner = p[2]
    for o in range(lo, hi):
        run, result = _unit(x, p, o), _unit(y, p, o)
        weights, shifts = _channels(w, p, o)
        mean, rest, scale = _statistics(p, run)
        if inner == 1:
            for k in range(len(run)):
                result[k] = (run[k] - mean - rest) * scale * weights[k] + shifts[k]
            continue
        for i in range(p[1]):
            weight, shift = weights[i], shifts[i]
            plane, of_plane = run[i * inner : (i + 1) * inner], result[i * inner : (i + 1) * inner]
            for k in range(inner):
                of_plane[k] = (plane[k] - mean - rest) * scale * weight + shift
