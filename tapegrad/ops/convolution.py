"""Convolution, by BLAS: windows of the input are laid out as the columns of a matrix, which is multiplied.

One, two and three dimensions are three, the others of length 1. What is convolved is a form of three tensors, linear
in each,

    x [images, groups c, n1, n2, n3]    w [groups o, c, k1, k2, k3]    y [images, groups o, m1, m2, m3]

    sum of y[., i] w[., a] x[., i stride - padding + a dilation]    over all i and a that stay inside x

The derivatives of the form by y, w and x are a convolution, the sum for its weights, and a transposed convolution:
each an operation, whose adjoints are the other two. Parameters `p` of all three:

    (images, groups, c, o, n1, n2, n3, m1, m2, m3, k1, k2, k3, stride 1 to 3, padding, dilation, elements of columns)
"""

import numpy as np

from tapegrad.ops.declare import array_op, times_first
from tapegrad.ops.linalg import gemm_into

N, M, K, STRIDE, PADDING, DILATION, ROOM = 4, 7, 10, 13, 16, 19, 22


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


def _lay_out(p, x, columns):
    """columns[(channel, a), i] = x[channel, place of a in window i], 0 outside; of one image and group."""
    n1, n2, n3, m1, m2, m3, k1, k2, k3 = p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12]
    step, at, by_planes = p[15], 0, _keeps_rows(p)
    for channel in range(p[2]):
        for a in range(k1):
            for b in range(k2):
                for c in range(k3):
                    start = c * p[21] - p[18]
                    first, last = _inside(m3, n3, step, start)
                    for i in range(m1):
                        u = i * p[13] + a * p[19] - p[16]
                        if by_planes:
                            _lay_out_plane(p, x, columns, (channel * n1 + u) * n2, at, u, b * p[20] - p[17], start)
                            at += m2 * m3
                            continue
                        for j in range(m2):
                            v = j * p[14] + b * p[20] - p[17]
                            run = columns[at : at + m3]
                            at += m3
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
                            for l in range(last, m3):  # noqa: E741
                                run[l] = 0


def _lay_out_plane(p, x, columns, row, at, u, below, start):
    """Of the windows in a plane: all rows at once, and then the zeros at their ends."""
    n2, n3, m2, m3 = p[5], p[6], p[8], p[9]
    plane = columns[at : at + m2 * m3]
    first_row, last_row = _inside(m2, n2, 1, below)
    first, last = _inside(m3, n3, 1, start)
    if u < 0 or u >= p[4] or first == last or first_row == last_row:
        plane[:] = 0
        return
    plane[: first_row * m3] = 0
    plane[last_row * m3 :] = 0
    begin, end = first_row * m3 + first, (last_row - 1) * m3 + last
    source = (row + below) * n3 + start
    run, inside = plane[begin:end], x[source + begin : source + end]
    for l in range(len(run)):  # noqa: E741 - as above
        run[l] = inside[l]
    if first > 0 or last < m3:
        for j in range(first_row, last_row):
            for l in range(first):  # noqa: E741
                plane[j * m3 + l] = 0
            for l in range(last, m3):  # noqa: E741
                plane[j * m3 + l] = 0


def _add_up_plane(p, columns, x, row, at, u, below, start):
    """As `_lay_out_plane`: the ends of rows are made zeros, and all rows added at once."""
    n2, n3, m2, m3 = p[5], p[6], p[8], p[9]
    plane = columns[at : at + m2 * m3]
    first_row, last_row = _inside(m2, n2, 1, below)
    first, last = _inside(m3, n3, 1, start)
    if u < 0 or u >= p[4] or first == last or first_row == last_row:
        return
    if first > 0 or last < m3:
        for j in range(first_row, last_row):
            for l in range(first):  # noqa: E741
                plane[j * m3 + l] = 0
            for l in range(last, m3):  # noqa: E741
                plane[j * m3 + l] = 0
    begin, end = first_row * m3 + first, (last_row - 1) * m3 + last
    target = (row + below) * n3 + start
    run, inside = plane[begin:end], x[target + begin : target + end]
    for l in range(len(run)):  # noqa: E741
        inside[l] += run[l]


def _add_up(p, columns, x, is_own):
    """x[channel, place of a in window i] += columns[(channel, a), i]; columns that are its own may be written to."""
    n1, n2, n3, m1, m2, m3, k1, k2, k3 = p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12]
    step, at, by_planes = p[15], 0, _keeps_rows(p) and is_own
    for channel in range(p[2]):
        for a in range(k1):
            for b in range(k2):
                for c in range(k3):
                    start = c * p[21] - p[18]
                    first, last = _inside(m3, n3, step, start)
                    for i in range(m1):
                        u = i * p[13] + a * p[19] - p[16]
                        if by_planes:
                            _add_up_plane(p, columns, x, (channel * n1 + u) * n2, at, u, b * p[20] - p[17], start)
                            at += m2 * m3
                            continue
                        for j in range(m2):
                            v = j * p[14] + b * p[20] - p[17]
                            run = columns[at : at + m3]
                            at += m3
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


def _sizes(p):
    """Of one image and group: the elements of x, the rows of columns, and their length."""
    return p[2] * p[4] * p[5] * p[6], p[2] * p[10] * p[11] * p[12], p[7] * p[8] * p[9]


def _is_plain(p):
    """Whether windows are single elements, in order: x itself is the columns."""
    outside = p[16] + p[17] + p[18]
    return p[10] * p[11] * p[12] == 1 and p[13] * p[14] * p[15] == 1 and outside == 0


def _part_of(x, p, image, group):
    """The elements of one image and group."""
    size = len(x) // max(p[0] * p[1], 1)
    at = (image * p[1] + group) * size
    return x[at : at + size]


def _y_of(p, gemm, work, columns, x, w, y, beta):
    """y = beta y + w columns of x"""
    _, rows, length = _sizes(p)
    size, o = x.itemsize, p[3]
    for image in range(p[0]):
        for group in range(p[1]):
            laid_out = _part_of(x, p, image, group)
            if not _is_plain(p):
                _lay_out(p, laid_out, columns)
                laid_out = columns
            at_w, at_y = w.ctypes.data + size * group * o * rows, _part_of(y, p, image, group).ctypes.data
            gemm_into(
                gemm, work, size, o, length, rows, 1.0, at_w, rows, 1, laid_out.ctypes.data, length, 1, beta, at_y,
                length
            )  # fmt: skip


def _add_x_of(p, gemm, work, columns, y, w, x):
    """x += what windows of w' y add up to"""
    _, rows, length = _sizes(p)
    size, o = x.itemsize, p[3]
    for image in range(p[0]):
        for group in range(p[1]):
            target, plain = _part_of(x, p, image, group), _is_plain(p)
            at_w, at_y = w.ctypes.data + size * group * o * rows, _part_of(y, p, image, group).ctypes.data
            gemm_into(
                gemm, work, size, rows, length, o, 1.0, at_w, 1, rows, at_y, length, 1, 1.0 if plain else 0.0,
                (target if plain else columns).ctypes.data, length
            )  # fmt: skip
            if not plain:
                _add_up(p, columns, target, True)


def _add_w_of(p, gemm, work, columns, x, y, w):
    """w += y columns of x'"""
    _, rows, length = _sizes(p)
    size, o = x.itemsize, p[3]
    for image in range(p[0]):
        for group in range(p[1]):
            laid_out = _part_of(x, p, image, group)
            if not _is_plain(p):
                _lay_out(p, laid_out, columns)
                laid_out = columns
            at_w, at_y = w.ctypes.data + size * group * o * rows, _part_of(y, p, image, group).ctypes.data
            gemm_into(
                gemm, work, size, o, rows, length, 1.0, at_y, length, 1, laid_out.ctypes.data, 1, length, 1.0, at_w,
                rows
            )  # fmt: skip


@array_op(
    2,
    vjps=(
        lambda p, gemm, work, memory, x, w, y, y_bar, x_bar: _add_x_of(p, gemm, work, memory, y_bar, w, x_bar),
        lambda p, gemm, work, memory, x, w, y, y_bar, w_bar: _add_w_of(p, gemm, work, memory, x, y_bar, w_bar),
    ),
    partials=(
        lambda b, g, p, s: conv_transposed(g, b, p, s[0]),
        lambda a, g, p, s: conv_weight(a, g, p, s[1]),
    ),
    room=ROOM,
    grad_name="ConvolutionBackward0",
    linear=True,
)
def conv(p, gemm, work, memory, x, w, y):
    """The convolution of x with w: its cross-correlation, to be exact."""
    _y_of(p, gemm, work, memory, x, w, y, 0.0)


@array_op(
    2,
    vjps=(
        lambda p, gemm, work, memory, y, w, x, x_bar, y_bar: _y_of(p, gemm, work, memory, x_bar, w, y_bar, 1.0),
        lambda p, gemm, work, memory, y, w, x, x_bar, w_bar: _add_w_of(p, gemm, work, memory, x_bar, y, w_bar),
    ),
    partials=(
        lambda b, g, p, s: conv(g, b, p, s[0]),
        lambda a, g, p, s: conv_weight(g, a, p, s[1]),
    ),
    room=ROOM,
    grad_name="ConvolutionBackward0",
    linear=True,
)
def conv_transposed(p, gemm, work, memory, y, w, x):
    """The transposed convolution of y with w: the adjoint of `conv` by x."""
    x[:] = 0
    _add_x_of(p, gemm, work, memory, y, w, x)


@array_op(
    2,
    vjps=(
        lambda p, gemm, work, memory, x, y, w, w_bar, x_bar: _add_x_of(p, gemm, work, memory, y, w_bar, x_bar),
        lambda p, gemm, work, memory, x, y, w, w_bar, y_bar: _y_of(p, gemm, work, memory, x, w_bar, y_bar, 1.0),
    ),
    partials=(
        lambda b, g, p, s: conv_transposed(b, g, p, s[0]),
        lambda a, g, p, s: conv(a, g, p, s[1]),
    ),
    room=ROOM,
    grad_name="ConvolutionBackward0",
    linear=True,
)
def conv_weight(p, gemm, work, memory, x, y, w):
    """The adjoint of `conv` by w."""
    w[:] = 0
    _add_w_of(p, gemm, work, memory, x, y, w)


# --- windows alone: units are images ----------------------------------------------------------------------------------


def _unit(x, p, image):
    size = len(x) // p[0]
    return x[image * size : (image + 1) * size]


def _add_unfolded(p, lo, hi, x, y):
    for image in range(lo, hi):
        _add_up(p, _unit(x, p, image), _unit(y, p, image), False)


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
        _lay_out(p, _unit(x, p, image), _unit(y, p, image))


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
