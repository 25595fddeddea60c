"""The scalar Jacobian tape: what a differentiated jitted function records, and its reverse sweep.

A row is a statement of the user's program: one scalar result, and the partial derivative by each active scalar that the
whole statement reads. The number of the row is the number of its adjoint.

      row k      | length | u1          how many arguments; LONG where that does not fit; 0 for an independent
      argument c | index  | i4          the row whose adjoint receives
                 | partial| f8 x width  d(result)/d(argument), and its `width - 1` tangents where they are carried

A row of n arguments is therefore 1 + 12 n bytes. Arguments follow each other; a row's own are found by walking back
from the end, which is the order of the reverse sweep. A LONG row ends in an argument more, whose index holds the number
of the others. A BLOCK row is a whole matrix operation, or a nest of loops: see `block_rows.py`, `nest_rows.py`. Row 0
is nobody's: its adjoint receives what passive arguments would, and nobody reads it.

Rows of an array expression, whose arguments are in arithmetic progressions, are a LINE: indices are stored once for all
of them, and partials that don't change not at all. `lines.py` finds them.

      n rows    | length 0 ... 0 LINE  | the results
      n times q | -, partial           | of each row the partials that change: q of them
      k times   | index, step          | an operand: the first row's argument, and how far it moves from row to row
                | place, partial       | which of the q partials it has; -1 where it doesn't change, and is this
                | k, q                 |
                | n, -                 |

Invariants: an argument's index is below its row's number; there is room for as many rows as for arguments; whoever
takes rows (`drivers.py`) gives them back, also where the user's function raises.

Every thread has a tape of its own for each use, found by `pthread_getspecific` from compiled code. The words of its
header are named below. Memory grows by half again when it is full, much of it by an eighth, is kept from call to call,
and is freed on request or when the thread ends; that of the adjoints may become a gradient's (`lifting.py`).
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numpy import int64

from tapegrad import locks, threads
from tapegrad.core.storage import ask_for_large_pages
from tapegrad.core.workers import share_among
from tapegrad.debug import MEMORY
from tapegrad.jitted import guards
from tapegrad.kernels import native
from tapegrad.memory import allocate_zeroed, f8, i4, i8, larger, part, part2, part3, parts, release, smaller, u1

LONG, BLOCK, LINE = 255, 254, 253
MAX_LENGTH = 250
MIN_LINE, MAX_LINE = 8, 1024  # rows
MAX_ROWS = 2**31 - 64  # an index is an i4
_MUCH = 1 << 20  # rows or arguments


# What a block's function returns to a sweep, in place of where its arguments begin, when it has to be given up.
NO_MEMORY, NOT_THE_SAME = -1, -2

# The words of a header.
ROWS, ARGUMENTS, ROW_CAPACITY, ARGUMENT_CAPACITY, LENGTH, INDEX, PARTIAL, ADJOINT, ADJOINT_CAPACITY, WIDTH = range(10)
REALLOC, FREE, ADVISE = range(10, 13)
PLACE, SEEN_ROWS, SEEN_ARGUMENTS, DEPTH = range(13, 17)  # of `marking.py`
LIMIT, LEFT_ALONE = range(17, 19)  # of `limits.py`
WORDS = 19
MAX_UNMIXED, TAPES = 16, 25  # numbers of tangents that have a tape of their own, one each; tapes of a thread
SPARE = 8 * WORDS * (TAPES - 1)  # where the last one is, which is for what is recorded while a tape is swept


def place_of(n_tangents: int) -> int:
    """Where a thread's tape of rows with so many tangents begins.

    Widths have tapes of their own, since one may be recorded while another waits: of a gradient that is taken inside.
    Beyond some, numbers are those of mixed tangents, 2**d - 1.
    """
    k = n_tangents if n_tangents <= MAX_UNMIXED else MAX_UNMIXED - 4 + n_tangents.bit_length()
    return 8 * WORDS * min(k, TAPES - 2)


PLACES = range(0, 8 * WORDS * TAPES, 8 * WORDS)

# What the compiled code of every thread shares, at the symbol `tapegrad_shared`.
KEY, SHARED_REALLOC, SHARED_FREE, CALLOC, SET_SPECIFIC, SHARED_ADVISE = range(6)


@part
def open_tapes(shared):
    """A thread's first use: its headers, empty."""
    s = i8(shared, 8)
    header = allocate_zeroed(s[CALLOC], TAPES * WORDS, 8)
    if header != 0:
        for k in range(TAPES):
            h = i8(header + 8 * WORDS * k, WORDS)
            h[REALLOC], h[FREE], h[ADVISE] = s[SHARED_REALLOC], s[SHARED_FREE], s[SHARED_ADVISE]
        part2(s[SET_SPECIFIC], s[KEY], header)
    return header


@part
def reserve(header, rows, arguments, width):
    """Room for so many rows and arguments more; 0 where memory is short, or rows cannot be numbered."""
    h = i8(header, WORDS)
    if h[WIDTH] != width:
        if h[ROWS] > 1:
            return 0
        dispose(header)
        h[WIDTH] = width
    need = h[ARGUMENTS] + arguments
    capacity = h[ARGUMENT_CAPACITY]
    if need > capacity:
        capacity = larger(larger(need, _grown(capacity)), 4096)
        if _resize(h, INDEX, 4 * capacity) == 0 or _resize(h, PARTIAL, 8 * width * capacity) == 0:
            return 0
        h[ARGUMENT_CAPACITY] = capacity
    need = larger(h[ROWS], 1) + rows + h[ARGUMENT_CAPACITY] - h[ARGUMENTS]
    if need > h[ROW_CAPACITY]:
        if need > MAX_ROWS:
            need = larger(h[ROWS], 1) + rows + arguments
            if need > MAX_ROWS:
                return 0
        if _resize(h, LENGTH, need) == 0:
            return 0
        h[ROW_CAPACITY] = need
    if h[ROWS] == 0:
        u1(h[LENGTH], 1)[0] = 0
        h[ROWS] = 1
    return 1


def _grown(capacity):
    """What a capacity grows to that is too small; large memory is moved by the system, without a copy."""
    return capacity + (capacity // 2 if capacity < _MUCH else capacity // 8)


def _resize(h, word, nbytes):
    """Have room for so many bytes at a word's address; 0 where memory is short.

    Sweeps stream through what may be large: with pages of 2 MB that takes up to half the time.
    """
    address = part2(h[REALLOC], h[word], nbytes)
    if address == 0:
        return 0
    h[word] = address
    ask_for_large_pages(h[ADVISE], address, nbytes)
    return 1


@part
def take_rows(header, n, width):
    """Rows for `n` independents: the number of the first; -1 where memory is short."""
    if reserve(header, n, 0, width) == 0:
        return -1
    h = i8(header, WORDS)
    first = h[ROWS]
    length = u1(h[LENGTH], first + n)
    for k in range(first, first + n):
        length[k] = 0
    h[ROWS] = first + n
    return first


@part
def dispose(header):
    """Free a tape's memory; it can be used again."""
    h = i8(header, WORDS)
    for word in (LENGTH, INDEX, PARTIAL, ADJOINT):
        release(h[FREE], h[word])
        h[word] = 0
    for word in (ROWS, ARGUMENTS, ROW_CAPACITY, ARGUMENT_CAPACITY, ADJOINT_CAPACITY):
        h[word] = 0
    return 0


@part
def destroy(header):
    """The end of a thread: its tapes, and the headers."""
    free = i8(header, WORDS)[FREE]
    for k in range(TAPES):
        dispose(header + 8 * WORDS * k)
    release(free, header)
    return 0


@part
def zero_adjoints(header, first):
    """Adjoints of rows `first` and later (and of row 0) become 0; returns their address, 0 where memory is short."""
    h = i8(header, WORDS)
    n, width = h[ROWS], h[WIDTH]
    capacity = h[ADJOINT_CAPACITY]
    if n > capacity:
        capacity = larger(n, _grown(capacity))  # there is room for many rows that nobody needs, perhaps
        if _resize(h, ADJOINT, 8 * width * capacity) == 0:
            return 0
        h[ADJOINT_CAPACITY] = capacity
    bars = f8(h[ADJOINT], n * width)
    for k in range(width):
        bars[k] = 0.0
    for k in range(first * width, n * width):
        bars[k] = 0.0
    return h[ADJOINT]


@part
def sweep(header, first):
    """The reverse sweep down to row `first`: `bar[index] += partial * y_bar` for each argument of each row.

    A row whose adjoint is 0 gives nothing, even where a partial is infinite: the result doesn't depend on it.
    Returns where its arguments begin; below 0 where a block has given up.
    """
    h = i8(header, WORDS)
    rows, c = h[ROWS], h[ARGUMENTS]
    length, bar = u1(h[LENGTH], rows), f8(h[ADJOINT], rows)
    index, partial, word = i4(h[INDEX], c), f8(h[PARTIAL], c), i8(h[PARTIAL], c)
    k = rows
    while k > first:
        k -= 1
        n = int64(length[k])
        y_bar = bar[k]
        if n <= 3:
            c -= n
            if y_bar != 0.0 and n != 0:
                bar[index[c]] += partial[c] * y_bar
                if n >= 2:
                    bar[index[c + 1]] += partial[c + 1] * y_bar
                    if n == 3:
                        bar[index[c + 2]] += partial[c + 2] * y_bar
        elif n == BLOCK:
            c = part3(word[c - 1], header, k, c - 1)
            if c < 0:
                return c
            length, bar = u1(h[LENGTH], rows), f8(h[ADJOINT], rows)  # it may have recorded: memory may have moved
            index, partial, word = i4(h[INDEX], c), f8(h[PARTIAL], c), i8(h[PARTIAL], c)
        elif n == LINE:
            k -= int64(index[c - 1]) - 1
            c = _sweep_line(header, k, c)
        else:
            if n == LONG:
                c -= 1
                n = int64(index[c])
            c -= n
            if y_bar != 0.0:
                for a in range(c, c + n):
                    bar[index[a]] += partial[a] * y_bar
    return c


def _sweep_line(header, first, c):
    """Sweep a line, operand by operand: no argument is one of its own rows. Returns where its arguments begin."""
    h = i8(header, WORDS)
    adjoint, at_partials = h[ADJOINT], h[PARTIAL]
    index, partial, word = i4(h[INDEX], c), f8(at_partials, c), i8(at_partials, c)
    n, n_operands, q = int64(index[c - 1]), int64(index[c - 2]), word[c - 2]
    at = c - 2 - 2 * n_operands
    begin = at - q * n
    y_bar = f8(adjoint + 8 * first, n)
    for _ in range(n_operands):
        r, step, place, p = int64(index[at]), word[at], int64(index[at + 1]), partial[at + 1]
        at += 2
        bar = f8(adjoint + 8 * r, n)
        if place < 0:
            if step == 1:
                for j in range(n):
                    bar[j] += p * y_bar[j] if y_bar[j] != 0.0 else 0.0
            elif step != 0:
                for j in range(n):
                    if y_bar[j] != 0.0:
                        f8(adjoint + 8 * (r + j * step), 1)[0] += p * y_bar[j]
            elif r != 0:
                total = 0.0
                for j in range(n):
                    total += y_bar[j]
                bar[0] += p * total if total != 0.0 else 0.0
            continue
        partials = f8(at_partials + 8 * (begin + place), n * q - place)
        if step == 1 and q == 1:
            for j in range(n):
                bar[j] += partials[j] * y_bar[j] if y_bar[j] != 0.0 else 0.0
        elif step == 1:
            for j in range(n):
                bar[j] += partials[j * q] * y_bar[j] if y_bar[j] != 0.0 else 0.0
        elif step != 0:
            for j in range(n):
                if y_bar[j] != 0.0:
                    f8(adjoint + 8 * (r + j * step), 1)[0] += partials[j * q] * y_bar[j]
        elif r != 0:
            total = 0.0
            for j in range(n):
                total += partials[j * q] * y_bar[j] if y_bar[j] != 0.0 else 0.0
            bar[0] += total
    return begin


@part
def begin_line(header, operands, n_operands, q):
    """How many rows a line may have from here on: `operands` are the next row's arguments, and their steps.

    No argument may be one of the line's own rows, or none that there is. Room is reserved; 0 where there is none.
    """
    h, word = i8(header, WORDS), i8(operands, 2 * n_operands)
    rows, n = h[ROWS], int64(MAX_LINE)
    for i in range(n_operands):
        r, step = word[2 * i], word[2 * i + 1]
        if r < 0 or r >= rows:
            return 0
        if step > 0:
            n = smaller(n, (rows - 1 - r) // step + 1)
        elif step < 0:
            n = smaller(n, r // -step + 1)
    if n < MIN_LINE or reserve(header, n, n * q + 2 * n_operands + 2, 1) == 0:
        return 0
    return n


@part
def end_line(header, operands, n_operands, q, n):
    """Append a line of `n` rows, whose partials are there.

    `operands` has four words for each: what would be the next row's argument, the step, the place, the partial.
    """
    h, word = i8(header, WORDS), i8(operands, 4 * n_operands)
    at = h[ARGUMENTS] + q * n
    end = at + 2 * n_operands + 2
    index, words = i4(h[INDEX], end), i8(h[PARTIAL], end)
    for i in range(n_operands):
        index[at], words[at] = word[4 * i] - n * word[4 * i + 1], word[4 * i + 1]
        index[at + 1], words[at + 1] = word[4 * i + 2], word[4 * i + 3]
        at += 2
    index[at], words[at] = n_operands, q
    index[at + 1], words[at + 1] = n, 0
    first = h[ROWS]
    length = u1(h[LENGTH] + first, n)
    for k in range(n):
        length[k] = 0
    length[n - 1] = LINE
    h[ROWS], h[ARGUMENTS] = first + n, end
    return 0


@part
def sweep_with_tangents(header, first):
    """Sweep in reverse with tangents: the derivative of each adjoint in `width - 1` directions goes with it.

    An adjoint, or a derivative of it, that is exactly 0 gives nothing.
    """
    h = i8(header, WORDS)
    rows, c, width = h[ROWS], h[ARGUMENTS], h[WIDTH]
    length, bar = u1(h[LENGTH], rows), f8(h[ADJOINT], rows * width)
    index, partial, word = i4(h[INDEX], c), f8(h[PARTIAL], c * width), i8(h[PARTIAL], c * width)
    for k in range(rows - 1, first - 1, -1):
        n = int64(length[k])
        if n == BLOCK:
            c = part3(word[(c - 1) * width], header, k, c - 1)
            if c < 0:
                return c
            length, bar = u1(h[LENGTH], rows), f8(h[ADJOINT], rows * width)
            index, partial, word = i4(h[INDEX], c), f8(h[PARTIAL], c * width), i8(h[PARTIAL], c * width)
            continue
        if n == LONG:
            c -= 1
            n = int64(index[c])
        c -= n
        y_bar = bar[k * width]
        for a in range(c, c + n):
            at = int64(index[a]) * width
            p = partial[a * width]
            if y_bar != 0.0:
                bar[at] += p * y_bar
            for d in range(1, width):
                y_bar_dot, p_dot = bar[k * width + d], partial[a * width + d]
                term = p * y_bar_dot + p_dot * y_bar
                if term != term:  # 0 times infinity, perhaps
                    term = p * y_bar_dot if y_bar_dot != 0.0 else 0.0
                    term += p_dot * y_bar if y_bar != 0.0 and p_dot != 0.0 else 0.0
                bar[at + d] += term
    return c


@part
def sweep_mixed(header, first):
    """Sweep in reverse with mixed tangents, along all sets of directions (`active.py`).

    The derivative of a product along the directions in S is the sum, over the parts T of S, of the derivative of one
    factor along T and of the other along the rest. An adjoint, or a derivative of it, that is exactly 0 gives nothing.
    """
    h = i8(header, WORDS)
    rows, c, width = h[ROWS], h[ARGUMENTS], h[WIDTH]
    length, bar = u1(h[LENGTH], rows), f8(h[ADJOINT], rows * width)
    index, partial, word = i4(h[INDEX], c), f8(h[PARTIAL], c * width), i8(h[PARTIAL], c * width)
    for k in range(rows - 1, first - 1, -1):
        n = int64(length[k])
        if n == BLOCK:
            c = part3(word[(c - 1) * width], header, k, c - 1)
            if c < 0:
                return c
            length, bar = u1(h[LENGTH], rows), f8(h[ADJOINT], rows * width)
            index, partial, word = i4(h[INDEX], c), f8(h[PARTIAL], c * width), i8(h[PARTIAL], c * width)
            continue
        if n == LONG:
            c -= 1
            n = int64(index[c])
        c -= n
        for a in range(c, c + n):
            at = int64(index[a]) * width
            for s in range(width):
                total = 0.0
                for t in range(s + 1):
                    if t & s == t:
                        y_bar, p = bar[k * width + t], partial[a * width + (s ^ t)]
                        if y_bar != 0.0 and (p != 0.0 or s == t):
                            total += p * y_bar
                bar[at + s] += total
    return c


# --- Python's side ----------------------------------------------------------------------------------------------------

_PARTS = [open_tapes, reserve, take_rows, dispose, destroy, zero_adjoints, begin_line, end_line, sweep,
          sweep_with_tangents, sweep_mixed, share_among]  # fmt: skip
_SHARED = (ctypes.c_int64 * 8)()
_lock = locks.lock()
_get_specific: list[Any] = []
_connected: set[str] = set()


def connect(names: Iterable[str] | None = None) -> None:
    """Make the tape known to the linker of compiled code: what all threads share, and parts by name, or all of them."""
    _share()
    for name in (parts[function] for function in _PARTS) if names is None else names:
        if name not in _connected:
            llvm.add_symbol(name, native.linkers[name]())
            _connected.add(name)


def named_in(module: Any) -> list[str]:
    """The parts that compiled code calls by name."""
    return [f.name for f in module.functions if f.is_declaration and f.name in native.linkers]


def _share() -> None:
    with _lock:
        if _get_specific:
            return
        python = native.functions_of_python()
        usual = _address(ctypes.pythonapi.PyMem_RawRealloc), python["release"].address
        _SHARED[SHARED_REALLOC], _SHARED[SHARED_FREE] = guards.allocator() if MEMORY else usual
        _SHARED[CALLOC] = python["allocate_zeroed"].address
        _SHARED[SHARED_ADVISE] = native.function_address("madvise") if sys.platform == "linux" else 0
        llvm.add_symbol("tapegrad_shared", ctypes.addressof(_SHARED))
        llvm.add_symbol("tapegrad_crew", ctypes.addressof(threads.told))
        _make_key()


@functools.cache
def _address_of(function: Any) -> int:
    """The address of a part."""
    n_arguments = function.__code__.co_argcount
    build = functools.partial(native.rebind, function)
    return native.link(parts[function], n_arguments, build, (function,), returns=True)


def know(*functions: Any) -> None:
    """Have the linker know parts that others make."""
    _PARTS.extend(functions)
    native.linkers.update({parts[function]: functools.partial(_address_of, function) for function in functions})


native.linkers.update({parts[function]: functools.partial(_address_of, function) for function in _PARTS})


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _make_key() -> None:
    """The key of what each thread finds its own tape by; its destructor runs at the thread's end, without Python."""
    if sys.platform == "win32":
        library = ctypes.WinDLL("kernel32")
        _SHARED[KEY] = library.FlsAlloc(ctypes.c_void_p(_address_of(destroy)))
        get, put = library.FlsGetValue, library.FlsSetValue
    else:
        library = ctypes.CDLL(None)
        key = ctypes.c_uint64(0)
        if library.pthread_key_create(ctypes.byref(key), ctypes.c_void_p(_address_of(destroy))):
            raise RuntimeError("no more thread-specific keys are to be had")
        _SHARED[KEY] = key.value
        get, put = library.pthread_getspecific, library.pthread_setspecific
    llvm.add_symbol("tapegrad_get_specific", _address(get))
    _SHARED[SET_SPECIFIC] = _address(put)
    _get_specific.append(ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint64)(_address(get)))


def header(at: int = 0) -> Any:
    """The header of this thread's tape, as an array of ctypes."""
    if not _get_specific:
        _share()
    base = _get_specific[0](_SHARED[KEY]) or native.callable_at(_address_of(open_tapes), 1)(ctypes.addressof(_SHARED))
    return (ctypes.c_int64 * WORDS).from_address(base + at)


def begin(h: Any) -> None:
    """An empty tape in a header whose words were put aside."""
    for word in range(REALLOC):
        h[word] = 0


def nbytes_of(h: Any) -> int:
    """The bytes of memory that a tape holds."""
    rows, width = int(h[ROW_CAPACITY]), int(h[WIDTH])
    return rows + (4 + 8 * width) * int(h[ARGUMENT_CAPACITY]) + 8 * width * int(h[ADJOINT_CAPACITY])


def dispose_words(words: np.ndarray) -> None:
    """Free the tape whose header is an array's memory."""
    native.callable_at(_address_of(dispose), 1)(words.ctypes.data)


def nbytes() -> int:
    """The bytes of memory that this thread's tapes hold.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> tg.func.grad(njit(lambda x: x * x))(3.0)
    6.0
    >>> tg.jitted.nbytes() > 0
    True
    >>> tg.jitted.free()
    >>> tg.jitted.nbytes()
    0
    """
    return sum(nbytes_of(header(at)) for at in PLACES) if _get_specific else 0


def damage() -> list[str]:
    """What guards have found since the last call of a driver; what rows that were given back have held is forgotten."""
    for at in PLACES:
        h = header(at)
        if h[ROWS] <= 1:  # nobody is recording
            for word, used in ((LENGTH, h[ROWS]), (INDEX, 0), (PARTIAL, 0), (ADJOINT, 0)):
                guards.forget(h[word], used)
    return guards.damage()


def free() -> None:
    """Give the memory of this thread's tapes back. The next gradient takes new memory, by need.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> _ = tg.func.grad(njit(lambda x: x * x))(3.0)
    >>> tg.jitted.free()
    >>> tg.jitted.nbytes()
    0
    """
    for at in PLACES if _get_specific else ():
        if header(at)[ROWS] <= 1:  # nobody is recording
            native.callable_at(_address_of(dispose), 1)(ctypes.addressof(header(at)))
