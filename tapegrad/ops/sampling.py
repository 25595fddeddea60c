"""Samples of images at any places.

    x [images, channels, n1, n2, n3]    grid [images, places, d]    y [images, channels, places]

Of d = 2 dimensions n1 is 1. The last of the numbers of a place is that of the first axis; inside they are -1 to 1.
Along an axis a sample is made of one element, of two or of four, each with a weight: see `MODES`; in d dimensions, of
all combinations of these, whose weights are products. What is outside is 0, unless places are brought inside before:
see `PADDINGS`. Parameters `p`:

    (images, channels, n1, n2, n3, places, d, mode, padding, 1 where -1 and 1 are elements and not edges, room)

Images are shared out. Kernels take places by the tile, whose positions and weights are found once for all channels.
What becomes of a number along an axis is written once, for numbers in kernels and for Tensors in rules.
"""

import itertools
from typing import Any

import numpy as np

from tapegrad.memory import array_i8, f8
from tapegrad.ops.arithmetic import _times, floor, round_
from tapegrad.ops.declare import TILE, array_op, times_first
from tapegrad.ops.logic import where
from tapegrad.tape import VARIANT

MODES, PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
BILINEAR, NEAREST, BICUBIC = range(3)
BORDER, REFLECTION = 1, 2
_MODE, _ROOM = 7, 10
_A = -0.75  # the parameter of the cubic convolution kernel (Keys 1981)


# --- along an axis: numbers or Tensors --------------------------------------------------------------------------------


def _clipped(place, n):
    """A place in [0, n - 1], and its slope: 0 beyond, and at the ends."""
    last = n - 1.0
    return (
        where(place > 0, where(place < last, place, last), 0.0),
        where(place > 0, where(place < last, 1.0, 0.0), 0.0),
    )


def _reflected(place, n, aligned):
    """A place reflected at the outermost elements, or at the outermost edges, and its slope."""
    low, span = (0.0, n - 1.0) if aligned else (-0.5, n * 1.0)
    if span == 0:
        return place * 0.0, 0.0
    distance = abs(place - low)
    turns = floor(distance / span)
    extra = distance - turns * span
    odd, sign = turns * 0.5 != floor(turns * 0.5), where(place < low, -1.0, 1.0)
    return where(odd, span - extra, extra) + low, where(odd, -sign, sign)


def _inside(place, n, padding, aligned):
    """What a place is replaced by, and the slope of that."""
    if padding == REFLECTION:
        reflected, slope = _reflected(place, n, aligned)
        clipped, of_clipped = _clipped(reflected, n)
        return clipped, slope * of_clipped
    if padding == BORDER:
        return _clipped(place, n)
    return place * 1.0, 1.0


def _near(x):
    return ((_A + 2) * x - (_A + 3)) * x * x + 1


def _near_slope(x):
    return (3 * (_A + 2) * x - 2 * (_A + 3)) * x


def _far(x):
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A


def _far_slope(x):
    return (3 * _A * x - 10 * _A) * x + 8 * _A


def _elements(place, n, mode, padding, aligned):
    """Of a place on an axis, the positions of its elements, as floats, their weights, and the slopes of these."""
    if mode == BICUBIC:
        low = floor(place)
        share = place - low
        return (
            (
                _inside(low - 1, n, padding, aligned)[0],
                _inside(low, n, padding, aligned)[0],
                _inside(low + 1, n, padding, aligned)[0],
                _inside(low + 2, n, padding, aligned)[0],
            ),
            (_far(share + 1), _near(share), _near(1 - share), _far(2 - share)),
            (_far_slope(share + 1), _near_slope(share), -_near_slope(1 - share), -_far_slope(2 - share)),
        )
    inside, slope = _inside(place, n, padding, aligned)
    if mode == NEAREST:
        return (round_(inside), 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
    low = floor(inside)
    share = inside - low
    return (low, low + 1, 0.0, 0.0), (1 - share, share, 0.0, 0.0), (-slope, slope, 0.0, 0.0)


def taps(mode: int) -> int:
    """Of how many elements along an axis a sample is made."""
    return 1 if mode == NEAREST else 4 if mode == BICUBIC else 2


# --- places by the tile -----------------------------------------------------------------------------------------------


def at_once(mode: int, n_taps: int) -> int:
    """How many places have room in a tile: for positions, three rows of each axis and element, and four more."""
    return TILE // (n_taps + 9 * taps(mode) + 4)


def room_to_sample(mode: int, d: int, itemsize: int, elements: int) -> int:
    """How many elements kernels work in: d weights for each position, and for float32 the sums of an image."""
    n_taps = taps(mode) ** d
    return (d * n_taps * at_once(mode, n_taps) + 1) // 2 * 2 + (2 * elements if itemsize == 4 else 0)


def _wide(p):
    """How many elements a sample is made of, and how long rows in a tile are."""
    n_taps = taps(p[_MODE]) ** p[6]
    return n_taps, at_once(p[_MODE], n_taps)


def _enter_axis(p, axis, grid, rows, wide):
    """Enter the positions, weights and slopes of places along an axis, rows of each for each element.

    Numbers are rounded in their dtype, which decides between elements.
    """
    n, d, number, mode, padding, aligned = p[2 + axis], p[6], grid.dtype.type, p[_MODE], p[8], p[9] == 1
    one, length, half, scale = number(1), number(n), number(0.5), number((n - 1) / 2)
    for l in range(len(grid) // d):  # noqa: E741 - a place
        x = grid[np.uint64(l * d + 2 - axis)] + one
        place = x * scale if aligned else (x * length - one) * half
        positions, weights, slopes = _elements(np.float64(place), n, mode, padding, aligned)
        rows[l], rows[wide + l], rows[2 * wide + l] = positions[0], weights[0], slopes[0]
        if mode != NEAREST:
            rows[3 * wide + l], rows[4 * wide + l], rows[5 * wide + l] = positions[1], weights[1], slopes[1]
        if mode == BICUBIC:
            rows[6 * wide + l], rows[7 * wide + l], rows[8 * wide + l] = positions[2], weights[2], slopes[2]
            rows[9 * wide + l], rows[10 * wide + l], rows[11 * wide + l] = positions[3], weights[3], slopes[3]


def _lay_out(p, tile, grid, first, count, weights, with_slopes):
    """Enter what `count` places from `first` on are made of: flat positions, -1 outside, and weights.

    They are [elements, places]. With slopes, weights are for each number of a place, the slope of its axis in place of
    the weight of that.
    """
    d, n1, n2, n3, of_axis = p[6], p[2], p[3], p[4], taps(p[_MODE])
    n_taps, wide = _wide(p)
    an_axis, of_first = 3 * of_axis * wide, of_axis if d == 3 else 1
    positions, rows = array_i8(tile.ctypes.data, n_taps * wide), tile[n_taps * wide :]
    part = grid[first * d : (first + count) * d]
    for axis in range(3 - d, 3):
        _enter_axis(p, axis, part, rows[axis * an_axis : (axis + 1) * an_axis], wide)
    for l in range(count if d == 2 else 0):  # noqa: E741
        rows[l], rows[wide + l], rows[2 * wide + l] = 0.0, 1.0, 0.0
    at = 0
    for i in range(of_first):
        for j in range(of_axis):
            for k in range(of_axis):
                row = positions[at : at + count]
                first_axis = rows[3 * i * wide : 3 * (i + 1) * wide]
                second = rows[an_axis + 3 * j * wide : an_axis + 3 * (j + 1) * wide]
                third = rows[2 * an_axis + 3 * k * wide : 2 * an_axis + 3 * (k + 1) * wide]
                for l in range(count):  # noqa: E741
                    u, v, w = first_axis[l], second[l], third[l]
                    inside = (u >= 0) & (u <= n1 - 1) & (v >= 0) & (v <= n2 - 1) & (w >= 0) & (w <= n3 - 1)
                    row[l] = np.int64((u * n2 + v) * n3 + w if inside else -1.0)
                _multiply(weights[at : at + count], first_axis, second, third, wide, 1, 1, 2 if with_slopes else 1)
                if with_slopes:
                    of_second = weights[n_taps * wide + at : n_taps * wide + at + count]
                    _multiply(of_second, first_axis, second, third, wide, 1, 2, 1)
                    if d == 3:
                        of_first_axis = weights[2 * n_taps * wide + at : 2 * n_taps * wide + at + count]
                        _multiply(of_first_axis, first_axis, second, third, wide, 2, 1, 1)
                at += wide


def _multiply(weights, first_axis, second, third, wide, i, j, k):
    """The product of a row of each axis: its weights, 1, or its slopes, 2."""
    of_first, of_second, of_third = first_axis[i * wide :], second[j * wide :], third[k * wide :]
    for l in range(len(weights)):  # noqa: E741
        weights[l] = of_first[l] * of_second[l] * of_third[l]


def _element(x, position):
    value = x[np.uint64(max(position, 0))]
    return value if position >= 0 else x.dtype.type(0)


def _plane(x, p, image, channel, n):
    """Of an image and a channel, n elements or places."""
    at = (image * p[1] + channel) * n
    return x[at : at + n]


def _add_samples(p, image, memory, tile, grid, y_bar, target):
    """target[channel, position] += weight y_bar[channel, place], for all channels of an image."""
    n, m = p[2] * p[3] * p[4], p[5]
    n_taps, wide = _wide(p)
    positions = array_i8(tile.ctypes.data, n_taps * wide)
    for first in range(0, m, wide):
        count = min(wide, m - first)
        _lay_out(p, tile, grid, image * m + first, count, memory, False)
        for channel in range(p[1]):
            bars = _plane(y_bar, p, image, channel, m)[first : first + count]
            for t in range(0, n_taps * wide, wide):
                for l in range(count):  # noqa: E741
                    if positions[t + l] >= 0:
                        target[np.uint64(channel * n + positions[t + l])] += _times(bars[l], memory[t + l])


def _x_vjp(p, lo, hi, memory, tile, x, grid, y, y_bar, x_bar):
    elements = p[1] * p[2] * p[3] * p[4]
    for image in range(lo, hi):
        bar = x_bar[image * elements : (image + 1) * elements]
        if x_bar.itemsize == 8:
            _add_samples(p, image, memory, tile, grid, y_bar, bar)
        else:
            sums = f8(memory.ctypes.data + 4 * p[_ROOM] - 8 * elements, elements)
            for i in range(elements):
                sums[i] = 0
            _add_samples(p, image, memory, tile, grid, y_bar, sums)
            for i in range(elements):
                bar[i] += sums[i]


def _grid_vjp(p, lo, hi, memory, tile, x, grid, y, y_bar, grid_bar):
    """grid_bar += the sum over channels and elements of y_bar, the element, and the slope of its weight"""
    n, m, d = p[2] * p[3] * p[4], p[5], p[6]
    n_taps, wide = _wide(p)
    positions = array_i8(tile.ctypes.data, n_taps * wide)
    behind = tile[(n_taps + 9 * taps(p[_MODE])) * wide :]
    products, sums = behind[:wide], behind[wide:]
    for image in range(lo, hi if p[_MODE] != NEAREST else lo):
        for first in range(0, m, wide):
            count = min(wide, m - first)
            _lay_out(p, tile, grid, image * m + first, count, memory, True)
            sums[:] = 0
            for channel in range(p[1]):
                source = _plane(x, p, image, channel, n)
                bars = _plane(y_bar, p, image, channel, m)[first : first + count]
                for t in range(n_taps):
                    for l in range(count):  # noqa: E741
                        products[l] = _times(bars[l], _element(source, positions[t * wide + l]))
                    for k in range(d):
                        slopes = memory[(k * n_taps + t) * wide : (k * n_taps + t) * wide + count]
                        of_number = sums[k * wide : k * wide + count]
                        for l in range(count):  # noqa: E741
                            of_number[l] += _times(products[l], slopes[l])
            for k in range(d):
                scale = (p[4 - k] - p[9]) / 2
                for l in range(count):  # noqa: E741
                    grid_bar[(image * m + first + l) * d + k] += sums[k * wide + l] * scale


# --- rules: by Tensors ------------------------------------------------------------------------------------------------


def _combinations(p, grid):
    """Of all combinations of elements: flat positions, whether these are inside, and along each axis weight and slope.

    A grid is [images, 1, places, d], and so are positions and weights but for the last.
    """
    d, axes = p[6], []
    for k in range(d):
        x, n = grid[..., k], p[4 - k]
        place = (x + 1) * ((n - 1) / 2) if p[9] else ((x + 1) * n - 1) * 0.5
        scale = (n - p[9]) / 2
        of_axis = zip(*_elements(place, n, p[_MODE], p[8], p[9] == 1), strict=True)
        axes.append([(at, weight, slope * scale, n) for at, weight, slope in of_axis][: taps(p[_MODE])])
    for combination in itertools.product(*reversed(axes)):
        position, inside = 0, True
        for at, _, _, n in combination:
            inside = (at >= 0) & (at <= n - 1) & inside
            position = position * n + where(inside, at, 0.0).long()
        yield position, inside, [(weight, slope) for _, weight, slope, _ in reversed(combination)]


def _on_channels(p, t):
    """[images, 1, places] as [images, channels, places]."""
    return t.expand(p[0], p[1], p[5])


def _x_rule(b, g, p, s):
    bars, x_bar = g.reshape(p[0], p[1], p[5]), g.new_zeros(p[0], p[1], p[2] * p[3] * p[4])
    for position, inside, along in _combinations(p, b.reshape(p[0], 1, p[5], p[6])):
        weight = 1.0
        for of_axis, _ in along:
            weight = weight * of_axis
        part = where(_on_channels(p, inside), _times(bars, weight), 0.0).to(g.dtype)
        x_bar = x_bar.scatter_add(2, _on_channels(p, position), part)
    return x_bar.reshape(s[0])


def _grid_rule(a, b, g, p, s):
    if p[_MODE] == NEAREST:
        return g.new_zeros(s[1])
    bars, x = g.reshape(p[0], p[1], p[5]), a.reshape(p[0], p[1], p[2] * p[3] * p[4])
    sums: list[Any] = [0.0] * p[6]
    for position, inside, along in _combinations(p, b.reshape(p[0], 1, p[5], p[6])):
        values = where(_on_channels(p, inside), x.gather(2, _on_channels(p, position)), 0.0)
        products = _times(bars, values).sum(1, keepdim=True)
        for k in range(p[6]):
            slope = 1.0
            for axis, (weight, of_axis) in enumerate(along):
                slope = slope * (of_axis if axis == k else weight)
            sums[k] = sums[k] + _times(products, slope)
    numbers = g.new_zeros(p[0], p[5], p[6])
    for k in range(p[6]):
        numbers[..., k] = sums[k].reshape(p[0], p[5])
    return numbers.reshape(s[1])


@array_op(
    2,
    vjps=(_x_vjp, _grid_vjp),
    partials=(_x_rule, _grid_rule),
    room=_ROOM,
    parts=times_first,
    grad_name="GridSampler2DBackward0",
    variants={VARIANT: "GridSampler3DBackward0"},
)
def sample(p, lo, hi, memory, tile, x, grid, y):
    """The samples of images at places."""
    n, m = p[2] * p[3] * p[4], p[5]
    n_taps, wide = _wide(p)
    positions = array_i8(tile.ctypes.data, n_taps * wide)
    for image in range(lo, hi):
        for first in range(0, m, wide):
            count = min(wide, m - first)
            _lay_out(p, tile, grid, image * m + first, count, memory, False)
            for channel in range(p[1]):
                source = _plane(x, p, image, channel, n)
                run = _plane(y, p, image, channel, m)[first : first + count]
                if n_taps == 1:
                    for l in range(count):  # noqa: E741
                        run[l] = memory[l] * _element(source, positions[l])
                for t in range(0, n_taps - 1, 4):
                    _add_four(run, source, positions[t * wide :], memory[t * wide :], wide, t == 0)


def _add_four(run, x, positions, weights, wide, begins):
    """run (+)= the weighted sum of four elements: there are four, eight or sixteen, but for the nearest one."""
    for l in range(len(run)):  # noqa: E741
        total = weights[l] * _element(x, positions[l])
        total += weights[wide + l] * _element(x, positions[wide + l])
        total += weights[2 * wide + l] * _element(x, positions[2 * wide + l])
        total += weights[3 * wide + l] * _element(x, positions[3 * wide + l])
        run[l] = total if begins else run[l] + total
