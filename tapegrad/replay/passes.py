"""Passes over the steps of a program, before it is kept: see `core/passes.py`.

What is left out, computed once, or read elsewhere changes no bit of a result. That is so of values alone: adjoints are
sums, and to leave out a term, or to add equal ones at once, would round otherwise. So all of them are added as they
were, in their order; but what is passed on as it is (the adjoint of a sum, to one that begins with it) is read where it
was.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from tapegrad import engine
from tapegrad.core.notes import ARENA, STEP, TEXT
from tapegrad.core.observed import CALLED6, COPIED
from tapegrad.core.passes import EITHER, FOLDED, LEFT, NO_LAW, PASSED, Law, Passes, Y
from tapegrad.core.replaying import END
from tapegrad.dtypes import DTYPES
from tapegrad.kernels import native
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import address_of
from tapegrad.memory import index_of
from tapegrad.ops.declare import Elementwise
from tapegrad.replay.lowered import kernel_at
from tapegrad.replay.text import Steps
from tapegrad.replay.watch import Arena
from tapegrad.tape import H, Tape

is_off = False  # for tests, which compare
_P = index_of(Passes)
_LAW = Law.nbytes // 8
_MOST_KERNELS = 512
# Of operations by their names: which operand is their result, where the other is this number. If nan, it is a quiet one
# that they give; so it is that only for what is none other.
_LAWS = {"mul": (EITHER, 1.0), "div": (LEFT, 1.0), "add": (EITHER, -0.0), "sub": (LEFT, 0.0)}
_EDGES = [0.0, -0.0, 1.0, -1.0, 0.1, -2.5, 1e-45, -1e-40, 1e-310, 3e38, -1e300, np.nan, -np.nan, -np.inf, np.inf]


def shorten(tape: Tape, steps: Steps, arena: Arena, kept: Iterable[int]) -> None:
    """Make steps fewer; what is computed once is among the contents of the arena then.

    `kept` are offsets of what is given at each call, and of results.
    """
    laws = None if is_off else _laws(steps)
    if laws is None:
        return
    n_places, n = arena.size // 8 + 1, steps.n
    arrays: dict[str, np.ndarray] = {
        **{name: np.zeros(n_places, np.uint8) for name in ("free", "constant", "quiet", "live")},
        **{name: np.full(n_places, -1, np.int32) for name in ("last", "source", "until", "cell")},
        "n_writes": np.zeros(n_places, np.int32), "fates": np.zeros(n, np.uint8), "held": steps.held,
        "known": np.zeros(1 << (2 * n).bit_length(), np.int32), "laws": laws, "steps": steps.words,
        "bases": steps.bases,
    }  # fmt: skip
    facts = np.zeros(Passes.nbytes // 8, np.int64)
    for name, array in arrays.items():
        facts[getattr(_P, name)] = address_of(array)
    facts[[_P.n_steps, _P.n_held, _P.n_places]] = n, len(steps.held), n_places
    facts[[_P.mask, _P.n_known]] = len(laws) - 1, len(arrays["known"])
    at, free, last = address_of(facts), arrays["free"], arrays["last"]
    ranges = np.array(arena.placed, np.int64).reshape(-1, 2)
    free[arena.cells >> 3] = free[ranges[:, 0] >> 3] = 1
    free[[offset >> 3 for offset in (*kept, *(offset for offset, _ in arena.contents))]] = 0
    engine.call("count_writes", at)
    _spread(steps, arrays, ranges)
    for offset, content in arena.contents:
        places = slice(offset >> 3, (offset + len(content) + 7) >> 3)
        arrays["constant"][places] = last[places] < 0
    if engine.call("pass_forward", at):
        _fold(tape, steps, arrays, arena)
    engine.call("pass_backward", at)
    spare = np.flatnonzero(free).astype(np.int32)[::-1].copy()
    facts[_P.spare], facts[_P.n_spare] = address_of(spare), len(spare)
    steps.keep(engine.call("compact", at))


def _spread(steps: Steps, arrays: dict[str, np.ndarray], ranges: np.ndarray) -> None:
    """Of a range of which one place may be written to by what is not followed, all may be; and one is free if alone."""
    last, free, live = (arrays[name] for name in ("last", "free", "live"))
    held = steps.held[steps.held_bases == ARENA] >> 3
    last[held], free[held] = steps.n, 0
    large = np.flatnonzero(ranges[:, 1] > 8)
    begin, end = ranges[large, 0] >> 3, (ranges[large].sum(1) + 7) >> 3
    if len(large):
        is_unknown = np.maximum.reduceat(last, np.stack([begin, end], 1).ravel())[::2] == steps.n
        has_more = np.maximum.reduceat(live, np.stack([begin + 1, end], 1).ravel())[::2] > 0
        free[begin[is_unknown | has_more]] = 0
        for k in np.flatnonzero(is_unknown).tolist():
            last[begin[k] : end[k]] = steps.n
    live[:] = 0


def _fold(tape: Tape, steps: Steps, arrays: dict[str, np.ndarray], arena: Arena) -> None:
    """Run what is computed of constants alone: its results are contents from now on."""
    which = np.flatnonzero(arrays["fates"] == FOLDED)
    words, bases = (array[: STEP * steps.n].reshape(-1, STEP)[which] for array in (steps.words, steps.bases))
    text, memory = np.zeros((len(which) + 1, STEP), np.int64), np.zeros(arena.size // 8 + 1, np.int64)
    text[:-1], text[-1, 0] = words, END
    for base, of in (ARENA, memory), (TEXT, steps.held):
        text[:-1][bases == base] += address_of(of)
    for offset, content in arena.contents:
        ctypes.memmove(address_of(memory) + offset, content, len(content))
    engine.replay(tape, address_of(text), tape.h[H.program])
    for step in words.tolist():
        target, itemsize = step[1], step[4]
        if step[0] == CALLED6:
            target, itemsize = step[Y], kernel_at(step[1]).sizes[3]
        elif step[0] == COPIED:
            itemsize = step[3]
        arena.contents.append((target, memory[target >> 3 : (target >> 3) + 1].tobytes()))
        arena.itemsizes[target] = itemsize
        arrays["free"][target >> 3] = 0


# --- what is known of kernels -----------------------------------------------------------------------------------------


def _laws(steps: Steps) -> np.ndarray | None:
    """Laws of all kernels that steps call, as a table of open addressing; None where there are too many."""
    kernels = np.zeros(2 * _MOST_KERNELS, np.int64)
    words = address_of(steps.words), steps.n, address_of(kernels), len(kernels) - 1
    if engine.call("collect_kernels", *words) < 0:
        return None
    table = np.zeros((len(kernels), _LAW), np.int64)
    for i in np.flatnonzero(kernels).tolist():
        table[i] = _law(int(kernels[i]))
    return table


@functools.lru_cache(4096)
def _law(kernel: int) -> tuple[int, ...]:
    """What is known of a kernel: the words of a `Law`."""
    op, k, code, _ = kernel_at(kernel)
    if not isinstance(op, Elementwise):
        return kernel, 15, NO_LAW, 0, 0, 0
    reads = (1 << op.arity) - 1 if k < 0 else int(op.saves[k])
    law, number = _LAWS.get(op.name, (NO_LAW, 0.0)) if k < 0 else (NO_LAW if reads else PASSED, 0.0)
    dtype = DTYPES[code]
    if law == NO_LAW or not dtype.is_floating_point or not native.JIT or not _holds(kernel, law, number, dtype.numpy):
        return kernel, reads, NO_LAW, 0, 0, 0
    bits = np.zeros(1, np.int64)
    bits.view(dtype.numpy)[0] = number
    return kernel, reads, law, int(bits[0]), -1 if dtype.itemsize == 8 else 0xFFFFFFFF, int(k < 0)


def _holds(kernel: int, law: int, number: float, dtype: Any) -> bool:
    """Whether a kernel is as its law says for zeros, infinities, nan and others: a compiler may have done otherwise."""
    with np.errstate(over="ignore"):
        given = np.array(_EDGES).astype(dtype)
    if law == PASSED:  # a signalling nan too
        of_bits = given.view(f"i{given.itemsize}")
        of_bits[-2] = of_bits[-1] + 1
    made, numbers, size = np.zeros_like(given), np.full_like(given, number), given.itemsize
    a, y, b = (address_of(array) for array in (given, made, numbers))
    ways = [(0, 0, 0, 0, a, y)] if law == PASSED else [(a, b, 0, y)] + [(b, a, 0, y)] * (law == EITHER)
    for way in ways:
        call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (2 + len(way)))(kernel)
        made[:] = 5.0
        for i in range(len(given)):
            call(1, FRESH if law == PASSED else 0, *(at + i * size if at else 0 for at in way))
        if made.tobytes() != given.tobytes():
            return False
    return True
