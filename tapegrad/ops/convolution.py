"""Convolution, by BLAS: windows of the input are laid out as the columns of a matrix, which is multiplied.

One, two and three dimensions are three, the others of length 1. What is convolved is a form of three tensors, linear
in each,

    x [images, groups c, n1, n2, n3]    w [groups o, c, k1, k2, k3]    y [images, groups o, m1, m2, m3]

    sum of y[., i] w[., a] x[., i stride - padding + a dilation]    over all i and a that stay inside x

The derivatives of the form by y, w and x are a convolution, the sum for its weights, and a transposed convolution:
each an operation, whose adjoints are the other two. Columns are laid out by the tile: those of some channels, rows of
windows, and windows in these. Products are with so many columns of a tile that BLAS does not share them out; images are
shared out instead, or parts of them. Parameters `p` of all three:

    (images, groups, c, o, n1, n2, n3, m1, m2, m3, k1, k2, k3, stride 1 to 3, padding, dilation, elements of memory,
     channels and outputs of a product, rows and windows of a tile, columns of a product, parts of an image, units)
"""

import math
from collections.abc import Sequence

import numpy as np

from tapegrad.ops.declare import array_op, times_first
from tapegrad.ops.linalg import gemm_into, turn

ROOM, CHANNELS, OUTPUTS, ROWS, WIDTH, COLUMNS, PARTS, UNITS = range(22, 30)
WORK = 32  # elements of memory, for BLAS's arguments
_ALONE = 1 << 18  # multiplications of a product that BLAS does not share out: OpenBLAS's threshold
_DEPTH, _OUTPUTS, _COLUMNS = 64, 32, 1 << 15  # elements that a product sums; rows of its result; elements of a tile
_LANES = 16  # columns of a product are a multiple of these, as a rule
_FEW = 8  # units that are enough to share out


def tiling(images: int, groups: int, channels: int, outputs: int, m: Sequence[int], k: int) -> tuple[int, ...]:
    """The parameters from the elements of memory on, for windows of k elements."""
    blocks = 1 << max(round(math.log2(max(channels * k, 1) / _DEPTH)), 0)  # which are shared out alike
    at_once = max(-(-channels // blocks), 1)
    rows, width, of_outputs = math.prod(m[:2]), m[2], max(min(outputs, _OUTPUTS), 1)
    units = max(images * groups, 1)
    parts = -(-_FEW // units) if units < _FEW else 1
    windows = max(min(_COLUMNS // (at_once * k), -(-rows * width // parts)), 1)
    if windows < width:
        rows, width = 1, -(-width // -(-width // windows))
    else:
        rows = max(min(rows, windows // max(width, 1)), 1)
    width = max(width, 1)
    columns = min(max(_ALONE // (of_outputs * at_once * k) // _LANES * _LANES, 1), rows * width)
    room = WORK + at_once * k * (rows * width + outputs) + of_outputs * columns
    return room, at_once, of_outputs, rows, width, columns, parts, units * parts


def _inside(m, n, stride, start):
    """The first of m windows whose place `i stride + start` is inside n, and the one behind the last."""
    first = 0 if start >= 0 else (stride - 1 - start) // stride
    last = (n - start + stride - 1) // stride if start < n else 0
    first = min(first, m)
    return first, max(min(last, m), first)


def _keeps_rows(p):
    """Whether windows are next to each other and as many as there are elements in a row.

    Then what one element of all windows in a plane meets is a run of memory, but for the ends of rows.
    """
    return p[14] == 1 and p[15] == 1 and p[6] == p[9]


def _whole(p):
    """All channels, rows of windows, and windows in these."""
    return 0, p[2], 0, p[7] * p[8], 0, p[9]


def _lay_out(p, x, columns, tile):
    """columns[(channel, a), i] = x[channel, place of a in window i], 0 outside; of a tile of an image and group."""
    n1, n2, n3, m2, m3, k1, k2, k3 = p[4], p[5], p[6], p[8], p[9], p[10], p[11], p[12]
    first_channel, last_channel, first_row, last_row, begin, end = tile
    step, at, width = p[15], 0, end - begin
    by_planes = _keeps_rows(p) and width == m3
    for channel in range(first_channel, last_channel):
        for a in range(k1):
            for b in range(k2):
                for c in range(k3):
                    start = c * p[21] - p[18] + begin * step
                    first, last = _inside(width, n3, step, start)
                    row = first_row
                    while row < last_row:
                        u, v = row // m2 * p[13] + a * p[19] - p[16], row % m2 * p[14] + b * p[20] - p[17]
                        count = min(m2 - row % m2, last_row - row) if by_planes else 1
                        row += count
                        if by_planes:
                            _lay_out_plane(p, x, columns, (channel * n1 + u) * n2 + v, at, u, v, count, start)
                            at += count * m3
                            continue
                        run = columns[at : at + width]
                        at += width
                        if u < 0 or u >= n1 or v < 0 or v >= n2:
                            run[:] = 0
                            continue
                        source = ((channel * n1 + u) * n2 + v) * n3 + start
                        for l in range(first):  # noqa: E741 - after i and j
                            run[l] = 0
                        if step == 1:
                            inside, middle = run[first:last], x[source + first : source + last]
                            for l in range(len(inside)):  # noqa: E741
                                inside[l] = middle[l]
                        else:
                            for l in range(first, last):  # noqa: E741
                                run[l] = x[np.uint64(source + l * step)]
                        for l in range(last, width):  # noqa: E741
                            run[l] = 0


def _empty_ends(plane, width, first_row, last_row, first, last):
    """Zeros at the ends of rows of a plane, before the first window inside and from the last on."""
    if first > 0 or last < width:
        for j in range(first_row, last_row):
            for l in range(first):  # noqa: E741 - as above
                plane[j * width + l] = 0
            for l in range(last, width):  # noqa: E741
                plane[j * width + l] = 0


def _lay_out_plane(p, x, columns, row, at, u, v, count, start):
    """Of so many rows of windows in a plane: all rows at once, and then the zeros at their ends."""
    n3, m3 = p[6], p[9]
    plane = columns[at : at + count * m3]
    first_row, last_row = _inside(count, p[5], 1, v)
    first, last = _inside(m3, n3, 1, start)
    if u < 0 or u >= p[4] or first == last or first_row == last_row:
        plane[:] = 0
        return
    plane[: first_row * m3] = 0
    plane[last_row * m3 :] = 0
    begin, end = first_row * m3 + first, (last_row - 1) * m3 + last
    source = row * n3 + start
    run, inside = plane[begin:end], x[source + begin : source + end]
    for l in range(len(run)):  # noqa: E741 - as above
        run[l] = inside[l]
    _empty_ends(plane, m3, first_row, last_row, first, last)


def _add_up_plane(p, columns, x, row, at, u, v, count, start):
    """As `_lay_out_plane`: the ends of rows are made zeros, and all rows added at once."""
    n3, m3 = p[6], p[9]
    plane = columns[at : at + count * m3]
    first_row, last_row = _inside(count, p[5], 1, v)
    first, last = _inside(m3, n3, 1, start)
    if u < 0 or u >= p[4] or first == last or first_row == last_row:
        return
    _empty_ends(plane, m3, first_row, last_row, first, last)
    begin, end = first_row * m3 + first, (last_row - 1) * m3 + last
    target = row * n3 + start
    run, inside = plane[begin:end], x[target + begin : target + end]
    for l in range(len(run)):  # noqa: E741
        inside[l] += run[l]


def _add_up(p, columns, x, tile, is_own):
    """x[channel, place of a in window i] += columns[(channel, a), i]; columns that are its own may be written to."""
    n1, n2, n3, m2, m3, k1, k2, k3 = p[4], p[5], p[6], p[8], p[9], p[10], p[11], p[12]
    first_channel, last_channel, first_row, last_row, begin, end = tile
    step, at, width = p[15], 0, end - begin
    by_planes = _keeps_rows(p) and is_own and width == m3
    for channel in range(first_channel, last_channel):
        for a in range(k1):
            for b in range(k2):
                for c in range(k3):
                    start = c * p[21] - p[18] + begin * step
                    first, last = _inside(width, n3, step, start)
                    row = first_row
                    while row < last_row:
                        u, v = row // m2 * p[13] + a * p[19] - p[16], row % m2 * p[14] + b * p[20] - p[17]
                        count = min(m2 - row % m2, last_row - row) if by_planes else 1
                        row += count
                        if by_planes:
                            _add_up_plane(p, columns, x, (channel * n1 + u) * n2 + v, at, u, v, count, start)
                            at += count * m3
                            continue
                        run = columns[at : at + width]
                        at += width
                        if u < 0 or u >= n1 or v < 0 or v >= n2:
                            continue
                        target = ((channel * n1 + u) * n2 + v) * n3 + start
                        if step == 1:
                            inside, middle = run[first:last], x[target + first : target + last]
                            for l in range(len(inside)):  # noqa: E741
                                middle[l] += inside[l]
                        else:
                            for l in range(first, last):  # noqa: E741
                                x[np.uint64(target + l * step)] += run[l]


# --- products by the tile ---------------------------------------------------------------------------------------------


def _is_plain(p):
    """Whether windows are single elements, in order: x itself is the columns."""
    outside = p[16] + p[17] + p[18]
    return p[10] * p[11] * p[12] == 1 and p[13] * p[14] * p[15] == 1 and outside == 0


def _of_unit(p, unit):
    """The image with its group, and the part, first and behind the last of so many, that is this unit's."""
    return unit // p[PARTS], unit % p[PARTS], p[PARTS]


def _group_of(x, p, image):
    """The elements of one image and group."""
    size = len(x) // max(p[0] * p[1], 1)
    return x[image * size : (image + 1) * size]


def _units(p, lo, hi):
    """Those that there are: there is one, which does nothing, where there are no images."""
    return range(lo, min(hi, p[0] * p[1] * p[PARTS]))


def _n_blocks(p):
    return (p[2] + p[CHANNELS] - 1) // p[CHANNELS]


def _n_tiles(p):
    """How many tiles the windows of an image are."""
    return (p[7] * p[8] + p[ROWS] - 1) // p[ROWS] * ((p[9] + p[WIDTH] - 1) // p[WIDTH])


def _tile(p, block, t):
    """A block of channels, of a tile of windows; which are one after another in y."""
    a_row = (p[9] + p[WIDTH] - 1) // p[WIDTH]
    channel, row, begin = block * p[CHANNELS], t // a_row * p[ROWS], t % a_row * p[WIDTH]
    last_row = min(row + p[ROWS], p[7] * p[8])
    return channel, min(channel + p[CHANNELS], p[2]), row, last_row, begin, min(begin + p[WIDTH], p[9])


def _columns(p, x, memory, tile):
    """The address of the columns of a tile, and how far apart their rows are."""
    length = p[7] * p[8] * p[9]
    if _is_plain(p):
        return x.ctypes.data + x.itemsize * (tile[0] * length + tile[2] * p[9] + tile[4]), length
    columns = memory[WORK:]
    _lay_out(p, x, columns, tile)
    return columns.ctypes.data, (tile[3] - tile[2]) * (tile[5] - tile[4])


def _y_of(p, lo, hi, gemm, memory, x, w, y, beta):
    """y = beta y + w columns of x; a part has some of the windows."""
    size, a_window, length = x.itemsize, p[10] * p[11] * p[12], p[7] * p[8] * p[9]
    depth, work, n_tiles = p[2] * a_window, memory.ctypes.data, _n_tiles(p)
    for unit in _units(p, lo, hi):
        image, part, parts = _of_unit(p, unit)
        of_x, of_y = _group_of(x, p, image), _group_of(y, p, image)
        at_w = w.ctypes.data + size * (image % p[1]) * p[3] * depth
        for t in range(part * n_tiles // parts, (part + 1) * n_tiles // parts):
            for block in range(max(_n_blocks(p), 1)):
                tile = _tile(p, block, t)
                n, to = (tile[3] - tile[2]) * (tile[5] - tile[4]), tile[2] * p[9] + tile[4]
                at_columns, apart = _columns(p, of_x, memory, tile)
                for first in range(0, n, p[COLUMNS]):
                    for o in range(0, p[3], p[OUTPUTS]):
                        gemm_into(
                            gemm, work, size, min(p[OUTPUTS], p[3] - o), min(p[COLUMNS], n - first),
                            (tile[1] - tile[0]) * a_window, 1.0, at_w + size * (o * depth + tile[0] * a_window), depth,
                            1, at_columns + size * first, apart, 1, beta if block == 0 else 1.0,
                            of_y.ctypes.data + size * (o * length + to + first), length
                        )  # fmt: skip


def _add_x_of(p, lo, hi, gemm, memory, y, w, x, begins):
    """x += what windows of w' y add up to, or x = that; a part has some of the channels."""
    size, a_window, length = x.itemsize, p[10] * p[11] * p[12], p[7] * p[8] * p[9]
    depth, work, n_blocks, plane = p[2] * a_window, memory.ctypes.data, _n_blocks(p), p[4] * p[5] * p[6]
    for unit in _units(p, lo, hi):
        image, part, parts = _of_unit(p, unit)
        of_x, of_y, columns = _group_of(x, p, image), _group_of(y, p, image), memory[WORK:]
        at_w = w.ctypes.data + size * (image % p[1]) * p[3] * depth
        for block in range(part * n_blocks // parts, (part + 1) * n_blocks // parts):
            for t in range(_n_tiles(p)):
                tile = _tile(p, block, t)
                if begins and t == 0:
                    of_x[tile[0] * plane : tile[1] * plane] = 0
                n, of = (tile[3] - tile[2]) * (tile[5] - tile[4]), tile[2] * p[9] + tile[4]
                at_columns, apart = columns.ctypes.data, n
                if _is_plain(p):
                    at_columns, apart = of_x.ctypes.data + size * (tile[0] * length + of), length
                for first in range(0, n, p[COLUMNS]):
                    for o in range(0, p[3], p[OUTPUTS]):
                        gemm_into(
                            gemm, work, size, (tile[1] - tile[0]) * a_window, min(p[COLUMNS], n - first),
                            min(p[OUTPUTS], p[3] - o), 1.0, at_w + size * (o * depth + tile[0] * a_window), 1, depth,
                            of_y.ctypes.data + size * (o * length + of + first), length, 1,
                            0.0 if o == 0 and not _is_plain(p) else 1.0, at_columns + size * first, apart
                        )  # fmt: skip
                if not _is_plain(p):
                    _add_up(p, columns, of_x, tile, True)


def _add_w_of(p, lo, hi, gemm, memory, x, y, w, begins):
    """w += y columns of x', or w = that, by w' = columns y'; units are blocks of the channels of all groups."""
    size, a_window, length = x.itemsize, p[10] * p[11] * p[12], p[7] * p[8] * p[9]
    depth, work, n_blocks = p[2] * a_window, memory.ctypes.data, _n_blocks(p)
    at_sums = WORK + p[CHANNELS] * a_window * p[ROWS] * p[WIDTH]
    sums = memory[at_sums : at_sums + p[CHANNELS] * a_window * p[3]]
    turned = memory[at_sums + len(sums) :]
    for unit in range(lo * p[1] * n_blocks // p[UNITS], hi * p[1] * n_blocks // p[UNITS]):
        group, block = unit // n_blocks, unit % n_blocks
        sums[:] = 0
        for image in range(p[0]):
            of_x, of_y = _group_of(x, p, image * p[1] + group), _group_of(y, p, image * p[1] + group)
            for t in range(_n_tiles(p)):
                tile = _tile(p, block, t)
                n, of = (tile[3] - tile[2]) * (tile[5] - tile[4]), tile[2] * p[9] + tile[4]
                at_columns, apart = _columns(p, of_x, memory, tile)
                for first in range(0, n, p[COLUMNS]):
                    some = min(p[COLUMNS], n - first)
                    for o in range(0, p[3], p[OUTPUTS]):
                        few = min(p[OUTPUTS], p[3] - o)
                        turn(of_y[o * length + of + first :], few, some, length, turned)
                        gemm_into(
                            gemm, work, size, (tile[1] - tile[0]) * a_window, few, some, 1.0, at_columns + size * first,
                            apart, 1, turned.ctypes.data, few, 1, 1.0, sums.ctypes.data + size * o, p[3]
                        )  # fmt: skip
        first, last = block * p[CHANNELS] * a_window, min((block + 1) * p[CHANNELS], p[2]) * a_window
        for o in range(p[3]):
            at = (group * p[3] + o) * depth
            for i in range(first, last):
                total = sums[(i - first) * p[3] + o]
                w[at + i] = total if begins else w[at + i] + total


@array_op(
    2,
    vjps=(
        lambda p, lo, hi, gemm, memory, x, w, y, y_bar, x_bar: _add_x_of(
            p, lo, hi, gemm, memory, y_bar, w, x_bar, False
        ),
        lambda p, lo, hi, gemm, memory, x, w, y, y_bar, w_bar: _add_w_of(
            p, lo, hi, gemm, memory, x, y_bar, w_bar, False
        ),
    ),
    partials=(
        lambda b, g, p, s: conv_transposed(g, b, p, s[0]),
        lambda a, g, p, s: conv_weight(a, g, p, s[1]),
    ),
    room=ROOM,
    units=UNITS,
    grad_name="ConvolutionBackward0",
    linear=True,
)
def conv(p, lo, hi, gemm, memory, x, w, y):
    """The convolution of x with w: its cross-correlation, to be exact."""
    _y_of(p, lo, hi, gemm, memory, x, w, y, 0.0)


@array_op(
    2,
    vjps=(
        lambda p, lo, hi, gemm, memory, y, w, x, x_bar, y_bar: _y_of(p, lo, hi, gemm, memory, x_bar, w, y_bar, 1.0),
        lambda p, lo, hi, gemm, memory, y, w, x, x_bar, w_bar: _add_w_of(
            p, lo, hi, gemm, memory, x_bar, y, w_bar, False
        ),
    ),
    partials=(
        lambda b, g, p, s: conv(g, b, p, s[0]),
        lambda a, g, p, s: conv_weight(g, a, p, s[1]),
    ),
    room=ROOM,
    units=UNITS,
    grad_name="ConvolutionBackward0",
    linear=True,
)
def conv_transposed(p, lo, hi, gemm, memory, y, w, x):
    """The transposed convolution of y with w: the adjoint of `conv` by x."""
    _add_x_of(p, lo, hi, gemm, memory, y, w, x, True)


@array_op(
    2,
    vjps=(
        lambda p, lo, hi, gemm, memory, x, y, w, w_bar, x_bar: _add_x_of(
            p, lo, hi, gemm, memory, y, w_bar, x_bar, False
        ),
        lambda p, lo, hi, gemm, memory, x, y, w, w_bar, y_bar: _y_of(p, lo, hi, gemm, memory, x, w_bar, y_bar, 1.0),
    ),
    partials=(
        lambda b, g, p, s: conv_transposed(b, g, p, s[0]),
        lambda a, g, p, s: conv(a, g, p, s[1]),
    ),
    room=ROOM,
    units=UNITS,
    grad_name="ConvolutionBackward0",
    linear=True,
)
def conv_weight(p, lo, hi, gemm, memory, x, y, w):
    """The adjoint of `conv` by w."""
    _add_w_of(p, lo, hi, gemm, memory, x, y, w, True)


# --- windows alone: units are images ----------------------------------------------------------------------------------


def _unit(x, p, image):
    size = len(x) // p[0]
    return x[image * size : (image + 1) * size]


def _add_unfolded(p, lo, hi, x, y):
    for image in range(lo, hi):
        _add_up(p, _unit(x, p, image), _unit(y, p, image), _whole(p), False)


def _fold_vjp(p, lo, hi, x, y, y_bar, x_bar):
    """x_bar += the windows of y_bar"""
    n1, n2, n3, m1, m2, m3, k1, k2, k3 = p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12]
    for image in range(lo, hi):
        bar, source, at = _unit(x_bar, p, image), _unit(y_bar, p, image), 0
        for channel in range(p[2]):
            for a in range(k1):
                for b in range(k2):
                    for c in range(k3):
                        start = c * p[21] - p[18]
                        first, last = _inside(m3, n3, p[15], start)
                        for i in range(m1):
                            u = i * p[13] + a * p[19] - p[16]
                            for j in range(m2):
                                v = j * p[14] + b * p[20] - p[17]
                                if 0 <= u < n1 and 0 <= v < n2:
                                    of_row = ((channel * n1 + u) * n2 + v) * n3 + start
                                    for l in range(first, last):  # noqa: E741
                                        bar[at + l] += source[of_row + l * p[15]]
                                at += m3


@array_op(
    1,
    vjps=(lambda p, lo, hi, x, y, y_bar, x_bar: _add_unfolded(p, lo, hi, y_bar, x_bar),),
    partials=(lambda g, p, s: fold(g, p, s[0]),),
    grad_name="Im2ColBackward0",
    parts=times_first,
    linear=True,
)
def unfold(p, lo, hi, x, y):
    """The columns of x, [images, (channel, a), i]."""
    for image in range(lo, hi):
        _lay_out(p, _unit(x, p, image), _unit(y, p, image), _whole(p))


@array_op(
    1,
    vjps=(_fold_vjp,),
    partials=(lambda g, p, s: unfold(g, p, s[0]),),
    grad_name="Col2ImBackward0",
    parts=times_first,
    linear=True,
)
def fold(p, lo, hi, x, y):
    """What columns add up to: the adjoint of `unfold`."""
    for image in range(lo, hi):
        _unit(y, p, image)[:] = 0
    _add_unfolded(p, lo, hi, x, y)
