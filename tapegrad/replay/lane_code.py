"""Machine code of steps in lanes: runs of them that follow one another, see `core/in_lanes.py`.

A step is a row of a stencil for each of its elements (`machine/`). Code does all rows of a run for as many lanes as a
register of the processor has, then for the next as many: results stay in registers for the row that follows, and
nothing is asked between steps. That may be, since lanes depend on no others: all elements of a run have as many bytes,
and begin at multiples of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tapegrad.core import observed
from tapegrad.core.in_lanes import CODED, SPREAD
from tapegrad.kernels.loops import FRESH
from tapegrad.replay import machine
from tapegrad.replay.machine import stencils
from tapegrad.replay.machine.stencils import A, G, K, Y
from tapegrad.replay.places import Lanes, Place, Uniform

_LEAST_STEPS, _MOST_STEPS = 4, 1000  # of a run: code of fewer saves nothing, that of more leaves the caches
_MOST_ELEMENTS = 16  # of a step: beyond, a call costs little beside
_ONE = {8: struct.unpack("=q", struct.pack("=d", 1.0))[0], 4: struct.unpack("=i", struct.pack("=f", 1.0))[0]}
_REST = {8: (1 << 63) - 1, 4: (1 << 31) - 1}  # the bits of a number but for its sign


class Step(NamedTuple):
    """A row of a stencil for each of `n` elements: operands by their places in a row."""

    kernel: stencils.Kernel
    mode: int
    n: int
    operands: dict[int, Any]
    stride: int = 0  # bytes from element to element of what is the same for all lanes


class Run(NamedTuple):
    """Steps that become one, the first of which has this number; bytes of their elements."""

    begin: int
    itemsize: int
    steps: list[Step]

    @property
    def width(self) -> int:
        """The lanes of a register."""
        return machine.lanes_isa().widths(self.itemsize)[0]  # type: ignore[no-any-return]

    def code(
        self, address: Callable[[Place], int], word: Callable[[Uniform], int], outlives: Callable[[Lanes, int], bool],
        block: int,
    ) -> machine.Code:  # fmt: skip
        """Its code: `address` says where in an arena places are, and `word` what is known to be there.

        `outlives` says of a place whether a step reads it from one on. Raises `machine.NotLoweredError`.
        """
        rows = []
        for kernel, mode, n, operands, stride in self.steps:
            single = {place for place, of in operands.items() if isinstance(of, Uniform)}
            singles = sum(1 << place for place in single)
            certain = sum(1 << place for place in single if word(operands[place]) & _REST[self.itemsize])
            at = {place: address(of) for place, of in operands.items()}
            is_read = outlives(operands[K if kernel.is_partial else Y], self.begin + len(self.steps))
            for e in range(n):
                moved = {
                    place: begin + e * stride << 1 | 1 if place in single else begin + e * block * self.itemsize << 1
                    for place, begin in at.items()
                }
                rows.append((machine.Form(kernel, mode, self.width, singles, certain), moved, is_read))
        return machine.lanes_code(rows)

    def step(self, code: machine.Code, block: int) -> list[int]:
        """The words of the step that runs its code."""
        return [CODED, code.address, block // self.width, self.width * self.itemsize]


def runs(steps: Sequence[Any], hold: Callable[[list[int]], int]) -> list[Run]:
    """The runs among the steps of a program: `hold` says where words are among what is the same for all lanes."""
    try:
        return [] if machine.lanes_isa() is None else [*_runs(steps, hold)]
    except machine.NotLoweredError:
        return []


def _runs(steps: Sequence[Any], hold: Callable[[list[int]], int]) -> Iterator[Run]:
    begin, found, sizes = 0, [], set()  # type: tuple[int, list[dict[int, Step]], set[int]]
    for i, step in enumerate([*steps, None]):
        of = {size: row for size in (4, 8) if step is not None and (row := _step(step, size, hold)) is not None}
        if not sizes & of.keys() or len(found) == _MOST_STEPS:
            if len(found) >= _LEAST_STEPS:
                yield Run(begin, max(sizes), [known[max(sizes)] for known in found])
            begin, found, sizes = i, [], {*of}
        if of:
            sizes &= of.keys()
            found.append(of)


def _step(step: Sequence[Any], size: int, hold: Callable[[list[int]], int]) -> Step | None:
    """A step over elements of so many bytes; None if it is none, or there is no stencil for it."""
    make = _STEPS.get(step[0])
    made = None if make is None else make(*step[1:], size=size, hold=hold)
    if made is None or made.kernel.itemsize != size or not 0 < made.n <= _MOST_ELEMENTS:
        return None
    is_whole = all(of.at % size == 0 for of in made.operands.values() if isinstance(of, Lanes))
    return made if is_whole else None


def _called(kernel: int, n: Any, mode: int, *places: Place, **_: Any) -> Step | None:
    known = machine.stencil_of(kernel)
    if known is None or known.truths or known.is_truth:
        return None
    reads = stencils.reads(known, mode) | 1 << (K if known.is_partial else Y)
    return Step(known, mode & FRESH, n.n, {i: place for i, place in enumerate(places) if reads >> i & 1})


def _moved(target: Place, source: Place, nbytes: int, size: int, stride: int = 0) -> Step | None:
    kernel = stencils.COPIED if size == 8 else stencils.COPIED_SINGLE
    return None if nbytes % size else Step(kernel, 0, nbytes // size, {A: source, Y: target}, stride)


def _added(target: Place, source: Place, n: Any, code: int, **_: Any) -> Step:
    return Step(stencils.ADDED if code == 4 else stencils.ADDED_SINGLE, 0, n.n, {G: source, K: target})


def _ones(target: Place, n: Any, code: int, size: int, hold: Any) -> Step:
    return _added(target, Uniform(hold([_ONE[size]]), size), n, code)


def _copied(target: Place, source: Place, nbytes: Any, size: int, **_: Any) -> Step | None:
    return _moved(target, source, nbytes.n, size)


def _filled(target: Place, n: Any, bits: int, of: int, size: int, hold: Any) -> Step | None:
    return None if bits and of != size else _moved(target, Uniform(hold([bits]), size), n.n * of, size)


def _spread(target: Place, source: Place, n: int, stride: int, of: int, size: int, **_: Any) -> Step | None:
    return None if of != size else _moved(target, source, n * size, size, stride)


_STEPS: dict[int, Callable[..., Step | None]] = {
    observed.CALLED6: _called, observed.CALLED8: _called, observed.ADDED: _added, observed.ONES: _ones,
    observed.COPIED: _copied, observed.FILLED: _filled, SPREAD: _spread,
}  # fmt: skip
