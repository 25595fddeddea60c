"""Gathering, scattering, and joining.

Positions are flat, int64: the number of an element in a contiguous tensor, or where there are more values than
positions, that of a run of as many as fall to each (a row of a matrix). They are checked when they are recorded, so
that an index out of range is an error at the line that has it.
"""

import numpy as np

from tapegrad.dtypes import BOOL
from tapegrad.memory import larger, smaller, u1
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.declare import ROOM_OF_A, TILE, UNITS_OF_B, array_op, times_first
from tapegrad.ops.layout import as_strided
from tapegrad.ops.logic import where
from tapegrad.tape import VARIANT

_POSITIONS = 2  # dtype code: int64


def _run(values, at):
    """How many elements are at each position."""
    return len(values) // len(at) if len(at) > 0 else 1


def _gather(x, at, y, lo, hi):
    """y[i] = x[at[i]]"""
    n = _run(y, at)
    if n == 1:
        for i in range(lo, hi):
            y[i] = x[np.uint64(at[i])]  # unsigned: no negative index is looked for
        return
    for i in range(lo, hi):
        source, target = x[at[i] * n : at[i] * n + n], y[i * n : i * n + n]
        for j in range(n):
            target[j] = source[j]


def _add_gathered(x, at, y, lo, hi):
    """y[i] += x[at[i]]"""
    n = _run(y, at)
    if n == 1:
        for i in range(lo, hi):
            y[i] += x[np.uint64(at[i])]
        return
    for i in range(lo, hi):
        source, target = x[at[i] * n : at[i] * n + n], y[i * n : i * n + n]
        for j in range(n):
            target[j] += source[j]


def _add_runs(target, at, x, n):
    for i in range(len(at)):
        source, run = x[i * n : i * n + n], target[at[i] * n : at[i] * n + n]
        for j in range(n):
            run[j] += source[j]


def _add_at(target, sums, at, x):
    """target[at[i]] += x[i]"""
    n = _run(x, at)
    if len(sums) == 0:
        if n == 1:
            for i in range(len(at)):
                target[np.uint64(at[i])] += x[i]
        else:
            _add_runs(target, at, x, n)
        return
    if n == 1:
        for i in range(len(at)):
            sums[np.uint64(at[i])] += x[i]
    else:
        _add_runs(sums, at, x, n)
    if 4 * len(x) > len(sums):  # then looking at all, in order, takes less time
        for k in range(len(sums)):
            target[k] = target[k] + sums[k] if sums[k] != 0 else target[k]  # -0.0 stays
            sums[k] = 0
        return
    for i in range(len(at)):  # what was met once is done
        for k in range(at[i] * n, at[i] * n + n):
            if sums[k] != 0:
                target[k] += sums[k]
                sums[k] = 0


def _add_taken(p, sums, x, at, y, y_bar, x_bar):
    _add_at(x_bar, sums, at, y_bar)


def _add_taken_once(p, x, at, y, y_bar, x_bar):
    """Where no position is there twice, as a rule, so that sums need not be kept apart."""
    _add_at(x_bar, x_bar[:0], at, y_bar)


def _declare_take(name, grad_name, vjp):
    """Gathering, under the names of PyTorch's nodes that do it."""

    def take(p, lo, hi, x, at, y):
        _gather(x, at, y, lo, hi)

    take.__name__ = name
    return array_op(
        2,
        vjps=(vjp, None),
        partials=(lambda b, g, s: scatter_add(g, b, shape=s[0]), None),
        units=UNITS_OF_B,
        signature=lambda code: (code, _POSITIONS, code),
        linear=True,
        grad_name=grad_name,
        positions=(1, 0),
    )(take)


take = _declare_take("take", "IndexBackward0", _add_taken)
max_along = _declare_take("max", "MaxBackward0", _add_taken_once)
min_along = _declare_take("min", "MinBackward0", _add_taken_once)


def _scatter_add_vjp(p, lo, hi, x, at, y, y_bar, x_bar):
    _add_gathered(y_bar, at, x_bar, lo, hi)


@array_op(
    2,
    vjps=(_scatter_add_vjp, None),
    partials=(lambda b, g, s: take(g, b, shape=s[0]), None),
    units=UNITS_OF_B,
    signature=lambda code: (code, _POSITIONS, code),
    positions=(1, -1),
    linear=True,
)
def scatter_add(p, sums, x, at, y):
    """Zeros, with `x[i]` added at position `at[i]`."""
    y[:] = 0
    _add_at(y, sums, at, x)


def _plus_base_vjp(p, begun, x, v, at, y, y_bar, x_bar):
    if begun == 0:
        x_bar[:] = y_bar
    elif begun == 1:
        for i in range(len(x)):
            x_bar[i] += y_bar[i]


def _plus_value_vjp(p, x, v, at, y, y_bar, v_bar):
    _add_gathered(y_bar, at, v_bar, 0, len(at))


@array_op(
    3,
    vjps=(_plus_base_vjp, _plus_value_vjp, None),
    partials=(lambda g: g, lambda c, g, s: take(g, c, shape=s[1]), None),
    signature=lambda code: (code, code, _POSITIONS, code),
    grad_name="ScatterAddBackward0",
    positions=(2, 0),
    linear=True,
)
def plus_at(p, begun, sums, x, v, at, y):
    """A copy of `x`, with `v[i]` added at position `at[i]`."""
    if begun == 0:
        y[:] = x
    _add_at(y, sums, at, v)


# Along the middle axis of [outer, n, inner] positions need not be flat: they are [period, m, inner], or where elements
# beside each other go together [period, m], repeated for all of `outer`. Parameters: (outer, n, m, inner, period, 1
# where they go together). Sums of float32 are float64, and have room in a tile: see `fits_along`.


def fits_along(itemsize: int, n: int) -> bool:
    """Whether sums along an axis have room; there are none of bools."""
    return itemsize == 8 or (itemsize == 4 and n <= TILE)


def _part_of(x, p, o, n):
    """One of the outer parts, n elements long along the axis."""
    return x[o * n * p[3] : (o + 1) * n * p[3]]


def _places_of(at, p, o):
    """The positions for one of the outer parts."""
    size = p[2] if p[5] else p[2] * p[3]
    return at[o % p[4] * size : (o % p[4] + 1) * size]


def _take_part(p, x, at, y, adding):
    """y[j, c] (+)= x[at[j, c], c]"""
    m, inner = p[2], p[3]
    if inner == 1:
        for j in range(m):
            value = x[np.uint64(at[j])]
            y[j] = y[j] + value if adding else value
        return
    for j in range(m):
        result = y[j * inner : (j + 1) * inner]
        if p[5]:
            run = x[at[j] * inner : (at[j] + 1) * inner]
            for c in range(inner):
                result[c] = result[c] + run[c] if adding else run[c]
        else:
            places = at[j * inner : (j + 1) * inner]
            for c in range(inner):
                value = x[np.uint64(places[c] * inner + c)]
                result[c] = result[c] + value if adding else value


def _add_part(p, target, at, v, first, width):
    """target[at[j, c], c] += v[j, c], of so many columns from the first on, which are all that `target` has."""
    m, inner = p[2], p[3]
    if inner == 1:
        for j in range(m):
            target[np.uint64(at[j])] += v[j]
        return
    for j in range(m):
        run = v[j * inner + first : j * inner + first + width]
        if p[5]:
            row = target[at[j] * width : (at[j] + 1) * width]
            for c in range(width):
                row[c] += run[c]
        else:
            places = at[j * inner + first : j * inner + first + width]
            for c in range(width):
                target[np.uint64(places[c] * width + c)] += run[c]


def _add_along(p, o, tile, target, at, v):
    """Of one of the outer parts; what float32 adds up is a tile of columns."""
    n, inner = p[1], p[3]
    if not (target.itemsize == 4 and target.dtype.type(0.5) > 0):
        _add_part(p, target, at, v, 0, inner)
        return
    width = TILE // n
    for first in range(0, inner, width):
        count = min(width, inner - first)
        sums = tile[: n * count]
        sums[:] = 0
        _add_part(p, sums, at, v, first, count)
        rows = 1 if count == inner else n
        length = len(sums) // rows
        for k in range(rows):
            row, of_row = target[k * inner + first : k * inner + first + length], sums[k * length : (k + 1) * length]
            for c in range(length):
                row[c] += of_row[c]


def _take_along_vjp(p, lo, hi, tile, x, at, y, y_bar, x_bar):
    for o in range(lo, hi):
        _add_along(p, o, tile, _part_of(x_bar, p, o, p[1]), _places_of(at, p, o), _part_of(y_bar, p, o, p[2]))


@array_op(
    2,
    vjps=(_take_along_vjp, None),
    partials=(lambda b, g, p, s: add_along(g, b, p, s[0]), None),
    signature=lambda code: (code, _POSITIONS, code),
    parts=times_first,
    for_all=(1,),
    linear=True,
    grad_name="GatherBackward0",
)
def take_along(p, lo, hi, x, at, y):
    """y[o, j, c] = x[o, at[o, j, c], c]"""
    for o in range(lo, hi):
        _take_part(p, _part_of(x, p, o, p[1]), _places_of(at, p, o), _part_of(y, p, o, p[2]), 0)


def _add_along_vjp(p, lo, hi, v, at, y, y_bar, v_bar):
    for o in range(lo, hi):
        _take_part(p, _part_of(y_bar, p, o, p[1]), _places_of(at, p, o), _part_of(v_bar, p, o, p[2]), 1)


@array_op(
    2,
    vjps=(_add_along_vjp, None),
    partials=(lambda b, g, p, s: take_along(g, b, p, s[0]), None),
    signature=lambda code: (code, _POSITIONS, code),
    parts=times_first,
    for_all=(1,),
    linear=True,
    grad_name="ScatterAddBackward0",
)
def add_along(p, lo, hi, tile, v, at, y):
    """Zeros, with `v[o, j, c]` added at `at[o, j, c]` along the middle axis."""
    for o in range(lo, hi):
        part = _part_of(y, p, o, p[1])
        part[:] = 0
        _add_along(p, o, tile, part, _places_of(at, p, o), _part_of(v, p, o, p[2]))


# Of positions that are equal the last has its value put, and the gradient. Those that were met are marked by bytes.


def _each_once(at):
    """Whether positions ascend."""
    i = 1
    while i < len(at) and at[i] > at[i - 1]:
        i += 1
    return i >= len(at)


def _marks(memory, n, at):
    """A byte for each of the elements of which runs of n have positions: 0 at those that are to be met."""
    count = len(memory) // max(n, 1)
    marks = u1(memory.ctypes.data, count)
    if 16 * len(at) > count:
        for k in range(count):
            marks[k] = 0
    else:
        for i in range(len(at)):
            marks[at[i]] = 0
    return marks


def _is_last(marks, at, i):
    """Whether no position behind the i-th, all of which were asked about, is the same."""
    k = np.uint64(at[i])
    is_last = marks[k] == 0
    marks[k] = 1
    return is_last


def _put_base_vjp(p, memory, begun, x, v, at, y, y_bar, x_bar):
    n = _run(v, at)
    if begun != 1:
        if begun == 0:
            x_bar[:] = y_bar
        for i in range(len(at)):
            x_bar[at[i] * n : at[i] * n + n] = 0
        return
    count = len(x) // n if n else 0
    marks = u1(memory.ctypes.data, count)
    for k in range(count):
        marks[k] = 0
    for i in range(len(at)):
        marks[at[i]] = 1
    for i in range(count):
        if marks[i] == 0:
            for j in range(i * n, i * n + n):
                x_bar[j] += y_bar[j]


def _put_value_vjp(p, memory, x, v, at, y, y_bar, v_bar):
    if _each_once(at):
        _add_gathered(y_bar, at, v_bar, 0, len(at))
        return
    n = _run(v, at)
    marks = _marks(memory, n, at)
    if n == 1:
        for i in range(len(at) - 1, -1, -1):
            bar = y_bar[np.uint64(at[i])]
            v_bar[i] += bar if _is_last(marks, at, i) else 0
        return
    for i in range(len(at) - 1, -1, -1):
        if _is_last(marks, at, i):
            v_run, run = v_bar[i * n : i * n + n], y_bar[at[i] * n : at[i] * n + n]
            for j in range(n):
                v_run[j] += run[j]


def _take_put_vjp(p, memory, x, at, y, y_bar, x_bar):
    n = _run(y, at)
    marks = _marks(memory, n, at)
    for i in range(len(at) - 1, -1, -1):
        if _is_last(marks, at, i):
            x_run, run = x_bar[at[i] * n : at[i] * n + n], y_bar[i * n : i * n + n]
            for j in range(n):
                x_run[j] += run[j]


@array_op(
    2,
    vjps=(_take_put_vjp, None),
    partials=(lambda b, g, s: put(g.new_zeros(s[0]), g, b, shape=s[0]), None),
    signature=lambda code: (code, _POSITIONS, code),
    room=ROOM_OF_A,
    positions=(1, 0),
    linear=True,
)
def _take_put(p, memory, x, at, y):
    """y[i] = x[at[i]] where the i-th has its value put, else 0: the adjoint of `put`."""
    n = _run(y, at)
    marks = _marks(memory, n, at)
    for i in range(len(at) - 1, -1, -1):
        is_last = _is_last(marks, at, i)
        for j in range(n):
            y[i * n + j] = x[at[i] * n + j] if is_last else 0


@array_op(
    3,
    vjps=(_put_base_vjp, _put_value_vjp, None),
    partials=(
        lambda c, g, s: put(g, g.new_zeros(s[1]), c, shape=s[0]),
        lambda c, g, s: _take_put(g, c, shape=s[1]),
        None,
    ),
    signature=lambda code: (code, code, _POSITIONS, code),
    grad_name="IndexPutBackward0",
    room=ROOM_OF_A,
    positions=(2, 0),
    linear=True,
)
def put(p, begun, x, v, at, y):
    """A copy of `x` with `v[i]` at position `at[i]`: the functional form of item assignment."""
    if begun == 0:
        y[:] = x
    n = _run(v, at)
    if n == 1:
        for i in range(len(at)):
            y[np.uint64(at[i])] = v[i]
        return
    for i in range(len(at)):
        source, target = v[i * n : i * n + n], y[at[i] * n : at[i] * n + n]
        for j in range(n):
            target[j] = source[j]


@array_op(1, signature=lambda code: (_POSITIONS, _POSITIONS), parts=times_first)
def counts(p, at, y):
    """How often each of p[1] positions is there, in each of p[0] parts; others do not count."""
    n, m = np.uint64(p[1]), len(at) // max(p[0], 1)
    y[:] = 0
    for o in range(p[0]):
        of_part = y[o * p[1] : (o + 1) * p[1]]
        for i in range(o * m, (o + 1) * m):
            k = np.uint64(at[i])
            if k < n:
                of_part[k] += 1


# What else is reduced at positions has its rules in `functions/scattering.py`: they are compositions.


def _merge_at(x, v, at, y, merge):
    y[:] = x
    for i in range(len(at)):
        y[np.uint64(at[i])] = merge(y[np.uint64(at[i])], v[i])


@array_op(3, signature=lambda code: (code, code, _POSITIONS, code))
def _largest_at(p, x, v, at, y):
    """At each position the largest of `x` and all of `v` for it; nan where one is nan."""
    _merge_at(x, v, at, y, larger)


@array_op(3, signature=lambda code: (code, code, _POSITIONS, code))
def _smallest_at(p, x, v, at, y):
    """At each position the smallest, likewise."""
    _merge_at(x, v, at, y, smaller)


# --- products at positions --------------------------------------------------------------------------------------------


def _product_vjp(p, memory, x, at, y, y_bar, x_bar):
    """x_bar += y_bar times the product of the others: of those before, kept for each value, and of those behind."""
    n = p[0]
    values, bars = x[n:], x_bar[n:]
    products, before = memory[:n], memory[n:]
    products[:] = x[:n]
    for i in range(len(at)):
        k = np.uint64(at[i])
        before[i] = products[k]
        products[k] *= values[i]
    products[:] = 1
    for i in range(len(at) - 1, -1, -1):
        k = np.uint64(at[i])
        bars[i] += _times(y_bar[k], before[i] * products[k])
        products[k] *= values[i]
    for j in range(n):
        x_bar[j] += _times(y_bar[j], products[j])


def _product_rule(a, b, g, p):
    """The same by products of pairs, of pairs of these, and so on, for each position; and back from these."""
    places, base, value, levels, g = np.asarray(b.numpy()), a[: p[0]], a[p[0] :], [], g.reshape(-1)
    order = np.argsort(places, kind="stable")
    targets, counts = np.unique(places, return_counts=True)
    value = value[order]
    while counts.max(initial=0) > 1:
        number = np.arange(len(value)) - np.repeat(np.cumsum(counts) - counts, counts)
        halves = (counts + 1) // 2
        pair = np.repeat(np.cumsum(halves) - halves, counts) + number // 2
        other = number ^ 1
        is_paired = other < np.repeat(counts, counts)
        sibling = value[np.arange(len(value)) + np.where(is_paired, other - number, 0)]
        others = where(value.new_tensor(is_paired, dtype=BOOL), sibling, 1.0)
        levels.append((pair, others))
        value, counts = (value * others)[np.flatnonzero(number % 2 == 0)], halves
    of_others, bars = base[targets], a.new_zeros(a.shape)
    for pair, others in reversed(levels):
        of_others = of_others[pair] * others
    products = base.new_ones(base.shape)
    products[targets] = value
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    bars[: p[0]] = _times(g, products)
    bars[p[0] :] = _times(g[places], of_others[back])
    return bars


@array_op(
    2,
    vjps=(_product_vjp, None),
    partials=(_product_rule, None),
    signature=lambda code: (code, _POSITIONS, code),
    room=ROOM_OF_A,
    grad_name="ScatterReduceBackward0",
)
def product_at(p, x, at, y):
    """The first p[0] elements of `x`, each multiplied with all others that are for its position."""
    y[:] = x[: p[0]]
    values = x[p[0] :]
    for i in range(len(at)):
        y[np.uint64(at[i])] *= values[i]


def _place_vjp(p, lo, hi, x, y, y_bar, x_bar):
    chunk, pitch, offset = p[1], p[2], p[3]
    for o in range(lo, hi):
        run, part = x_bar[o * chunk : (o + 1) * chunk], y_bar[o * pitch + offset : o * pitch + offset + chunk]
        for i in range(chunk):
            run[i] += part[i]


def _declare_place(name, grad_name):
    """Fills a window of its result, a row a piece: `chunk` elements at `offset` in each of `outer` runs of `pitch`."""

    def place(p, lo, hi, x, y):
        chunk, pitch, offset = p[1], p[2], p[3]
        for o in range(lo, hi):
            part, run = y[o * pitch + offset : o * pitch + offset + chunk], x[o * chunk : (o + 1) * chunk]
            for i in range(chunk):
                part[i] = run[i]

    place.__name__ = name
    return array_op(
        1,
        vjps=(_place_vjp,),
        partials=(lambda g, p, s: g.reshape(p[0], p[2])[:, p[3] : p[3] + p[1]].reshape(s[0]),),
        grad_name=grad_name,
    )(place)


cat = _declare_place("cat", "CatBackward0")
stack = _declare_place("stack", "StackBackward0")


def _window_position(p, i):
    """The position in the base of element `i` of a view; `p`: (offset, ndim, *shape, *strides), strides in elements."""
    position, ndim = p[0], p[1]
    for d in range(ndim - 1, -1, -1):
        length = p[2 + d]
        position += i % length * p[2 + ndim + d]
        i //= length
    return position


def _embed_vjp(p, x, y, y_bar, x_bar):
    for i in range(len(x)):
        x_bar[i] += y_bar[_window_position(p, i)]


@array_op(
    1,
    vjps=(_embed_vjp,),
    partials=(lambda g, p: as_strided(g, p),),
    variants={VARIANT: "DiagEmbedBackward0"},
    linear=True,
)
def embed(p, sums, x, y):
    """Zeros, with `x` added through the strides of a view: the adjoint of every layout operation."""
    y[:] = 0
    if len(sums) == 0:
        for i in range(len(x)):
            y[_window_position(p, i)] += x[i]
        return
    for i in range(len(x)):
        sums[_window_position(p, i)] += x[i]
    for i in range(len(y)):
        y[i] = sums[i]


def _ascending_position(p, i):
    """Where the `i`th element in the order of positions is; behind them `p` has *shape, *strides in that order."""
    position, ndim = p[0], p[1]
    for d in range(ndim - 1, -1, -1):
        length = p[2 + 2 * ndim + d]
        position += i % length * p[2 + 3 * ndim + d]
        i //= length
    return position


def _write_base_vjp(p, begun, x, v, y, y_bar, x_bar):
    if begun != 1:
        if begun == 0:
            x_bar[:] = y_bar
        for i in range(len(v)):
            x_bar[_window_position(p, i)] = 0
        return
    k, n = 0, len(v)
    written = _ascending_position(p, 0) if n > 0 else -1
    for i in range(len(x)):
        if i == written:
            k += 1
            written = _ascending_position(p, k) if k < n else -1
        else:
            x_bar[i] += y_bar[i]


def _write_value_vjp(p, x, v, y, y_bar, v_bar):
    for i in range(len(v)):
        v_bar[i] += y_bar[_window_position(p, i)]


@array_op(
    2,
    vjps=(_write_base_vjp, _write_value_vjp),
    partials=(lambda g, p, s: write(g, g.new_zeros(s[1]), p), lambda g, p: as_strided(g, p)),
    grad_name="CopySlices",
    linear=True,
)
def write(p, begun, x, v, y):
    """A copy of `x` with `v` written through the strides of a view, whose elements are in different places."""
    if begun == 0:
        y[:] = x
    for i in range(len(v)):
        y[_window_position(p, i)] = v[i]
