"""Sorting, selecting, searching: kernels over `x[outer, n, inner]` that answer with places along the middle axis.

Elements are compared by keys: int64 in the order of the elements, equal for equal ones (0 and -0), the largest for nan.
All orders are stable, and so the same however the work is shared. An order is found digit by digit, from the last
(Hollerith's radix sort), in words that hold the first digits of a key and its place; the few that agree in these are
sorted again by the rest.

What elements have a derivative for is `pick`: those at places, by which its adjoint puts them back.
"""

import numpy as np

from tapegrad.memory import array_i4, array_i8
from tapegrad.ops.declare import INDEX, UNITS_OF_B, array_op, times_first
from tapegrad.ops.extremes import _share_rule_of_all, _share_vjp_of_all

_FEW = 32  # are sorted by insertion
_DIGITS = 2048  # of 11 bits; of 8 where there are fewer elements than so many
_NAN_64, _NAN_32 = 0x7FF0_0000_0000_0001, 0x7F80_0001  # one above the bits of infinity


# --- keys -------------------------------------------------------------------------------------------------------------


def _key_64(v, bits):
    return 0 if v == 0 else _NAN_64 if v != v else bits ^ ((bits >> 63) & 0x7FFF_FFFF_FFFF_FFFF)


def _key_32(v, bits):
    return 0 if v == 0 else _NAN_32 if v != v else bits ^ ((bits >> 63) & 0x7FFF_FFFF)


def _keys_of_floats(x, first, step, keys, flip):
    """The keys of so many elements; with `flip` = -1 in descending order.

    Bits of floats are in the order of sizes: those of negative numbers are flipped. A run is taken by a loop of its
    own, which the compiler turns into one over registers of elements.
    """
    n = len(keys)
    run = x[first : first + n if step == 1 else len(x)]
    if x.itemsize == 8:
        wide = array_i8(run.ctypes.data, len(run))
        if step == 1:
            for k in range(n):
                keys[k] = _key_64(run[k], wide[k]) ^ flip
        else:
            for k in range(n):
                keys[k] = _key_64(run[np.uint64(k * step)], wide[np.uint64(k * step)]) ^ flip
    else:
        narrow = array_i4(run.ctypes.data, len(run))
        if step == 1:
            for k in range(n):
                keys[k] = _key_32(run[k], np.int64(narrow[k])) ^ flip
        else:
            for k in range(n):
                keys[k] = _key_32(run[np.uint64(k * step)], np.int64(narrow[np.uint64(k * step)])) ^ flip


def _keys_of_integers(x, first, step, keys, flip):
    for k in range(len(keys)):
        keys[k] = np.int64(x[first + k * step]) ^ flip


def _bits(v):
    """How many bits a number has; all, where it is too large for int64 and so negative."""
    n = 0
    while v > 0:
        n += 1
        v >>= 1
    return 64 if v < 0 else n


# --- sorting ----------------------------------------------------------------------------------------------------------


def _insert(keys, places):
    for k in range(len(keys)):
        key, j = keys[k], k
        while j > 0 and keys[j - 1] > key:
            keys[j], places[j] = keys[j - 1], places[j - 1]
            j -= 1
        keys[j], places[j] = key, k


def _radix(words, other, n, low, bits, counts):
    """Sort words by some of their bits, digit by digit from the last; whether they end up in the other array."""
    width = 11 if n >= _DIGITS else 8
    mask, moved = (1 << width) - 1, False
    for shift in range(low, low + bits, width):
        source, target = (other, words) if moved else (words, other)
        for d in range(mask + 1):
            counts[d] = 0
        for k in range(n):
            counts[(source[k] >> shift) & mask] += 1
        if counts[(source[0] >> shift) & mask] == n:
            continue
        begin = 0
        for d in range(mask + 1):
            count = counts[d]
            counts[d] = begin
            begin += count
        for k in range(n):
            word = source[k]
            d = (word >> shift) & mask
            target[counts[d]] = word
            counts[d] += 1
        moved = not moved
    return moved


def _sort(keys, at, y, first, step):
    """The places of the keys in their order, into `y`. Behind `at` are 2 n + _DIGITS words.

    A word holds the first digits of a key, and its place. Where words agree in these, the rest of the digits decides.
    """
    n = len(keys)
    least, largest, ascend = keys[0], keys[0], True
    for k in range(1, n):
        ascend &= keys[k - 1] <= keys[k]
        least, largest = min(least, keys[k]), max(largest, keys[k])
    words, other, counts = array_i8(at, n), array_i8(at + 8 * n, n), array_i8(at + 16 * n, _DIGITS)
    if ascend or n <= _FEW:
        if not ascend:
            _insert(keys, words)
        for k in range(n):
            y[first + k * step] = k if ascend else words[k]
        return
    bits, place_bits = _bits(largest - least), _bits(n - 1)
    few = min(bits, 33 if n >= _DIGITS else 24)
    rest, mask = bits - few, (1 << place_bits) - 1
    for k in range(n):
        words[k] = ((keys[k] - least) >> rest & ((1 << few) - 1)) << place_bits | k
    if _radix(words, other, n, place_bits, few, counts):
        words, other = other, words
    begin = 0
    while rest > 0 and begin < n:
        end = begin + 1
        while end < n and words[end] >> place_bits == words[begin] >> place_bits:
            end += 1
        if end - begin > 1:
            run, aside = words[begin:end], other[begin:end]
            for k in range(end - begin):
                place = run[k] & mask
                run[k] = ((keys[place] - least) & ((1 << rest) - 1)) << place_bits | place
            _sort_words(run, aside, place_bits, rest, counts)
        begin = end
    for k in range(n):
        y[first + k * step] = words[k] & mask


def _sort_words(words, other, low, bits, counts):
    if len(words) > _FEW:
        if _radix(words, other, len(words), low, bits, counts):
            for k in range(len(words)):
                words[k] = other[k]
        return
    for k in range(len(words)):
        word, j = words[k], k
        while j > 0 and words[j - 1] > word:
            words[j] = words[j - 1]
            j -= 1
        words[j] = word


def _order(p, memory, lo, hi, x, y, make_keys):
    n, inner = p[1], p[2]
    for u in range(lo, hi if n > 0 else lo):
        first = u // inner * n * inner + u % inner
        keys = array_i8(memory.ctypes.data, n)
        make_keys(x, first, inner, keys, p[3])
        _sort(keys, memory.ctypes.data + 8 * n, y, first, inner)


def room_to_sort(n: int) -> int:
    """The words that `_order` works in."""
    return 3 * n + _DIGITS


@array_op(
    1,
    room=4,
    signature=lambda code: (code, INDEX),
    integer=lambda p, memory, lo, hi, x, y: _order(p, memory, lo, hi, x, y, _keys_of_integers),
    parts=times_first,
)
def _argsort(p, memory, lo, hi, x, y):
    """The places of the elements in their order."""
    # p: outer * inner, n, inner, flip, room
    _order(p, memory, lo, hi, x, y, _keys_of_floats)


# --- the first few in order -------------------------------------------------------------------------------------------


def _first_few(p, memory, lo, hi, x, y, make_keys):
    """Few are kept in order; of many, what may be among them is taken in while there is room, then all but m go."""
    n, inner, m, n_chunk = p[1], p[2], p[5], p[6]
    most = 2 * m + n_chunk
    for u in range(lo, hi if m > 0 else lo):
        o, i = u // inner, u % inner
        at = memory.ctypes.data
        keys, places, chunk = array_i8(at, most), array_i8(at + 8 * most, most), array_i8(at + 16 * most, n_chunk)
        taken, bound, bounded = 0, np.int64(0), False
        for begin in range(0, n, n_chunk):
            few = chunk[: min(n_chunk, n - begin)]
            make_keys(x, (o * n + begin) * inner + i, inner, few, p[3])
            if m <= _FEW:
                taken = _insert_smaller(few, begin, keys, places, taken, m)
                continue
            if taken + len(few) > most:
                taken = _fewer(keys, places, taken, m, at + 8 * (2 * most + n_chunk))
                bound, bounded = keys[m - 1], True
            for k in range(len(few)):
                if not bounded or few[k] < bound:
                    keys[taken], places[taken] = few[k], begin + k
                    taken += 1
        if m > _FEW:
            _fewer(keys, places, taken, m, at + 8 * (2 * most + n_chunk))
        for k in range(m):
            y[(o * m + k) * inner + i] = places[k]


def _insert_smaller(few, begin, keys, places, taken, m):
    """Insert into the first m keys, of which so many are there, those that are smaller; how many are there then."""
    for k in range(len(few)):
        key = few[k]
        if taken < m or key < keys[m - 1]:
            j = min(taken, m - 1)
            taken = min(taken + 1, m)
            while j > 0 and keys[j - 1] > key:
                keys[j], places[j] = keys[j - 1], places[j - 1]
                j -= 1
            keys[j], places[j] = key, begin + k
    return taken


def _fewer(keys, places, taken, m, at):
    """Sort, and leave the first m; behind `at` are four words for each that was taken, and _DIGITS more."""
    copied, order = array_i8(at, taken), array_i8(at + 8 * taken, taken)
    for k in range(taken):
        copied[k] = keys[k]
    _sort(copied, at + 16 * taken, order, 0, 1)
    for k in range(m):
        copied[k], order[k] = keys[order[k]], places[order[k]]
    for k in range(m):
        keys[k], places[k] = copied[k], order[k]
    return m


def room_for_few(m: int) -> tuple[int, int]:
    """The words that `_topk` works in, and how many elements it looks at at once."""
    n_chunk = min(64 + 4 * m, 1024)
    return 6 * (2 * m + n_chunk) + n_chunk + _DIGITS, n_chunk


@array_op(
    1,
    room=4,
    signature=lambda code: (code, INDEX),
    integer=lambda p, memory, lo, hi, x, y: _first_few(p, memory, lo, hi, x, y, _keys_of_integers),
    parts=times_first,
)
def _topk(p, memory, lo, hi, x, y):
    """The places of the first m elements in their order."""
    # p: outer * inner, n, inner, flip, room, m, at once
    _first_few(p, memory, lo, hi, x, y, _keys_of_floats)


# --- the one of a rank ------------------------------------------------------------------------------------------------

RANK, LOWER, UPPER, LOWER_OF_NUMBERS, UPPER_OF_NUMBERS = range(5)


def _select(keys, places, rank, counts):
    """The place of the key of this rank, of those at `places`: digit by digit, from the first."""
    left = len(keys)
    while left > _FEW:
        least, largest = keys[0], keys[0]
        for k in range(1, left):
            least, largest = min(least, keys[k]), max(largest, keys[k])
        if least == largest:
            return places[rank]
        shift = max(_bits(largest - least) - 11, 0)
        for d in range(_DIGITS):
            counts[d] = 0
        for k in range(left):
            counts[((keys[k] - least) >> shift) & (_DIGITS - 1)] += 1
        digit = 0
        while rank >= counts[digit]:
            rank -= counts[digit]
            digit += 1
        kept = 0
        for k in range(left):
            if ((keys[k] - least) >> shift) & (_DIGITS - 1) == digit:
                keys[kept], places[kept] = keys[k], places[k]
                kept += 1
        left = kept
    order = counts[:left]
    _insert(keys[:left], order)
    return places[order[rank]]


def _ranked(p, memory, lo, hi, x, y, make_keys):
    n, inner, rank, what = p[1], p[2], p[5], p[6]
    for u in range(lo, hi):
        at = memory.ctypes.data
        keys, places, counts = array_i8(at, n), array_i8(at + 8 * n, n), array_i8(at + 16 * n, _DIGITS)
        first, numbers = u // inner * n * inner + u % inner, n
        make_keys(x, first, inner, keys, p[3])
        for k in range(n):
            places[k] = k
        if what != RANK:
            a_nan = -1
            for k in range(n):
                v = x[first + k * inner]
                if v != v:
                    a_nan = k if a_nan < 0 else a_nan
                    numbers -= 1
            if a_nan >= 0 and (numbers == 0 or what in (LOWER, UPPER)):
                y[u] = a_nan
                continue
            rank = (numbers - 1) // 2 if what in (LOWER, LOWER_OF_NUMBERS) else numbers // 2
        y[u] = _select(keys, places, rank, counts)


@array_op(
    1,
    room=4,
    signature=lambda code: (code, INDEX),
    integer=lambda p, memory, lo, hi, x, y: _ranked(p, memory, lo, hi, x, y, _keys_of_integers),
    parts=times_first,
)
def _place_of_rank(p, memory, lo, hi, x, y):
    """The place of the element of a rank, or of a middle one: of all (nan where there is one), or of numbers."""
    # p: outer * inner, n, inner, flip, room, rank, which
    _ranked(p, memory, lo, hi, x, y, _keys_of_floats)


def room_to_rank(n: int) -> int:
    """The words that `_place_of_rank` works in."""
    return 2 * n + _DIGITS


# --- the most frequent ------------------------------------------------------------------------------------------------


@array_op(2, units=0, signature=lambda code: (code, INDEX, INDEX), parts=times_first)
def _place_of_mode(p, lo, hi, x, order, y):
    """The last place of the most frequent element: of the smallest of these."""
    # p: outer * inner, n, inner
    n, inner = p[1], p[2]
    for u in range(lo, hi):
        first, most, length = u // inner * n * inner + u % inner, 0, 0
        for k in range(n):
            place = order[first + k * inner]
            v = x[first + place * inner]
            length += 1
            if k == n - 1 or x[first + order[first + (k + 1) * inner] * inner] != v:
                if length > most:
                    most, y[u] = length, place
                length = 0


# --- searching --------------------------------------------------------------------------------------------------------


@array_op(2, units=UNITS_OF_B, signature=lambda code: (code, code, INDEX))
def _searchsorted(p, lo, hi, x, v, y):
    """How many elements of an ascending run are less than each value, or (right) not greater; all, for nan."""
    # p: the length of a run, the values for each run, right
    n, m, right = p[0], p[1], p[2]
    begin, end = lo // m * n, (lo // m + 1) * m
    for k in range(lo, hi):
        if k == end:
            begin, end = begin + n, end + m
        value, at, left = v[k], begin, n
        while left > 0:  # without a branch that depends on elements: what is read next is known early
            half = (left + 1) // 2
            before = x[at + half - 1] <= value if right else x[at + half - 1] < value
            at += half if before else 0
            left -= half
        y[k] = at - begin if value == value else n


# --- elements at places -----------------------------------------------------------------------------------------------


def _pick_vjp(p, lo, hi, x, at, y, y_bar, x_bar):
    """x_bar[o, at[o, k, i], i] += y_bar[o, k, i]; places that repeat, in runs, are summed before."""
    outer, n, inner, m = p[1], p[2], p[3], p[4]
    a_unit = outer * m * inner // max(p[0], 1)
    if a_unit == 1:
        e = lo
        while e < hi:
            stop, offset = _stretch(e, hi, n, inner, m)
            if inner == 1:
                run = x_bar[offset : offset + n]
                for i in range(e, stop):
                    run[np.uint64(at[i])] += y_bar[i]
            else:
                for i in range(stop - e):
                    x_bar[np.uint64(at[e + i] * inner + offset + i)] += y_bar[e + i]
            e = stop
        return
    for o in range(lo, hi):
        for i in range(inner):
            total, last, e = np.float64(0), np.int64(-1), o * m * inner + i
            for _ in range(m):
                if at[e] != last:
                    if last >= 0:
                        x_bar[(o * n + last) * inner + i] += total
                    total, last = np.float64(0), at[e]
                total += y_bar[e]
                e += inner
            if last >= 0:
                x_bar[(o * n + last) * inner + i] += total


_NODES = ("Sort", "Topk", "Kthvalue", "Median", "Nanmedian", "Mode", "Cummax", "Cummin")
SORT, TOPK, KTHVALUE, MEDIAN, NANMEDIAN, MODE, CUMMAX, CUMMIN = range(len(_NODES))


@array_op(
    2,
    vjps=(_pick_vjp, None),
    partials=(lambda b, g, p, s: _put_back(g, b, p).reshape(s[0]), None),
    units=0,
    signature=lambda code: (code, INDEX, code),
    nodes=tuple(name + ("Backward1" if "edian" in name else "Backward0") for name in _NODES),
    parts=lambda p, n: (n * p[0], n * p[1], *p[2:]),
    linear=True,
)
def pick(p, lo, hi, x, at, y):
    """y[o, k, i] = x[o, at[o, k, i], i]"""
    # p: units (all elements; or outer, where places repeat), outer, n, inner, m, whose node it is
    outer, n, inner, m = p[1], p[2], p[3], p[4]
    a_unit = outer * m * inner // max(p[0], 1)
    e, end = lo * a_unit, hi * a_unit
    while e < end:
        stop, offset = _stretch(e, end, n, inner, m)
        if inner == 1:
            run = x[offset : offset + n]
            for i in range(e, stop):
                y[i] = run[np.uint64(at[i])]
        else:
            for i in range(stop - e):
                y[e + i] = x[np.uint64(at[e + i] * inner + offset + i)]
        e = stop


def _stretch(e, end, n, inner, m):
    """Up to where element e + i is that of x[offset + at[e + i] * inner + i], without the last i if inner is 1."""
    o, within = e // (m * inner), e % inner
    return min(end, (o + 1) * m if inner == 1 else e + inner - within), o * n * inner + within


@array_op(
    2,
    vjps=(lambda p, x, at, y, y_bar, x_bar: _add_picked(p, y_bar, at, x_bar), None),
    partials=(lambda b, g, p: pick(g, b, p), None),
    signature=lambda code: (code, INDEX, code),
    parts=lambda p, n: (n * p[0], n * p[1], *p[2:]),
    linear=True,
)
def _put_back(p, x, at, y):
    """Zeros, with x[o, k, i] added at [o, at[o, k, i], i]: the adjoint of `pick`."""
    n, inner, m = p[2], p[3], p[4]
    y[:] = 0
    for o in range(p[1]):
        for e in range(o * m * inner, (o + 1) * m * inner):
            y[(o * n + at[e]) * inner + e % inner] += x[e]


def _add_picked(p, x, at, y):
    n, inner, m = p[2], p[3], p[4]
    for o in range(p[1]):
        for e in range(o * m * inner, (o + 1) * m * inner):
            y[e] += x[(o * n + at[e]) * inner + e % inner]


def _tied(name, grad_name):
    """The value of `v`, the derivative of those elements of `x` that are equal to it, which share it: PyTorch's."""

    def tied(p, x, v, y):
        for o in range(p[0]):
            y[o] = v[o]

    tied.__name__ = name
    return array_op(
        2,
        vjps=(lambda p, x, v, y, y_bar, x_bar: _share_vjp_of_all(p, x, y, y_bar, x_bar), None),
        partials=(lambda a, y, g, p: _share_rule_of_all(a, y, g, p), None),
        grad_name=grad_name,
        parts=times_first,
    )(tied)


median_of_all = _tied("_median", "MedianBackward0")
nanmedian_of_all = _tied("_nanmedian", "NanmedianBackward0")
