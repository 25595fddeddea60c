"""A program written anew for lanes: see `core/in_lanes.py`, which runs it.

Steps are the same, in the same order, on the same operands; a region becomes the instructions of its blocks. So each
lane has the bits that a replay has. What is the same for all rows (constants, and what the function reads of its own)
is one number where a kernel has a loop for that, or else is brought to all lanes once.

Places in the arena are given anew too: by life, since a block of lanes should stay in the cache. A program that does
what lanes can't is `NotLoweredError`: its rows are replayed one by one.
"""

from __future__ import annotations

import bisect
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import kernels
from tapegrad.core import observed
from tapegrad.core.blocks import PIECE_WORK
from tapegrad.core.in_lanes import MERGE, REDUCE, RESULT, SPREAD, WHOLE
from tapegrad.core.notes import ARENA, SCRATCH, STEP, TABLES, TEXT
from tapegrad.core.replaying import CODE, CONTEXT, END, GUARD, HEAD, REGISTER
from tapegrad.core.tables import (
    ALONG,
    BACK,
    FORWARD,
    GATHER,
    NARROW,
    PUT,
    REVERSE,
    SCATTER,
    SINGLE,
    VECTOR,
    WIDE,
    ZERO,
    Instruction,
    Pieces,
    Program,
    Register,
)  # fmt: skip
from tapegrad.core.tables import REDUCE as ROWS_REDUCED
from tapegrad.core.tables import SPREAD as OVER_LANES
from tapegrad.dtypes import DTYPES
from tapegrad.kernels import Context
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import address_of, numbers_at
from tapegrad.memory import words_of
from tapegrad.ops.declare import OPS, Array, Elementwise, Reduction, parameters
from tapegrad.replay import lane_code, machine
from tapegrad.replay.places import Behind, Lanes, Place, Times, Uniform
from tapegrad.replay.validation import Kernel, reaches

_P, _R, _I, _C = (words_of(record) for record in (Program, Register, Instruction, Context))
_PIECES = words_of(Pieces)
_CONSTANTS_AT, _WALKS_AT = Program.fields["constants"][0], Program.fields["walks"][0]
_MOST_STEPS = 20_000
_MOST_BYTES = 1 << 16  # of a lane: a program that has more is as quick row by row
_MOST_SCRATCH = 1 << 22
_CACHED_BYTES = 1 << 19  # of a block, in the second cache; and in the first, for code, which calls little
_CODED_BYTES = 40_000
_LEAST_LANES, _MOST_LANES = 16, 512
_BITS = 1, 2, 4, 8  # of a, b, c, y in modes, and in what rules read


class NotLoweredError(Exception):
    """Lanes can't do it."""


class _Kernel(NamedTuple):
    """What a kernel is for: an operation, which of its partials (-1: its value); bytes of elements of a, b, c and y."""

    op: Any
    k: int
    code: int  # of the dtype that it computes in
    sizes: tuple[int, ...]


@functools.lru_cache(4096)
def kernel_at(address: int) -> _Kernel:
    """What is known of the kernel at an address."""
    found = np.flatnonzero(kernels.table == address)
    if not len(found):
        raise NotLoweredError("calls what is no kernel")
    cell, which = divmod(int(found[0]), kernels.CELLS)
    op, code = OPS[cell // len(DTYPES)], cell % len(DTYPES)
    *operands, result = op.signature(code)
    codes = *(*operands, code, code, code)[:3], result
    return _Kernel(op, which - 1, code, tuple(DTYPES[c].itemsize for c in codes))


class Lowered:
    """A program in lanes."""

    def __init__(self, program: Any, inputs: Sequence[tuple[int, int, int]], outputs: Sequence[Any]) -> None:
        """`inputs` are the offset, elements, and bytes of one, of what each row has for its own; `outputs` likewise."""
        self.program, self.text = program, program.text
        self.bases = dict(zip(program.places.tolist(), program.bases.tolist(), strict=True))
        self.size: int = -(-program.size // 64) * 64
        placed = program.placed[np.argsort(program.placed[:, 0])]
        self.starts: list[int] = placed[:, 0].tolist()
        # Of the program; and behind its arena places of registers, and what is brought to lanes.
        self.ranges: list[Any] = placed.tolist()
        self.end = self.size
        self.own = {start for start, _, _ in inputs}
        self.uniform = self._uniform()
        self.constants: list[Any] = []  # words behind the program's own arena
        self.known: dict[tuple[int, ...], int] = {}
        self.spread: dict[tuple[int, int, int], Lanes] = {}
        self.registers: dict[tuple[int, int], int] = {}
        self.n_images = 0
        self.steps: list[list[Any]] = []
        self._lower()
        self._check(inputs, outputs)
        self._give_places(inputs, outputs)

    def _uniform(self) -> dict[int, int]:
        """The bytes of an element of what is the same for all rows, by offset."""
        program, found = self.program, dict(self.program.itemsizes)
        found |= {offset: kind.itemsize for offset, kind, _ in program.copied}
        found |= {offset: kind.itemsize for offset, _, _, kind in program.captured}
        return {offset: size for offset, size in found.items() if offset not in self.own}

    # --- reading the program ------------------------------------------------------------------------------------------

    def _words(self, at: int, n: int) -> list[Any]:
        """Words of the text, addresses as (what they are offsets from, offset)."""
        words: list[Any] = self.text[at : at + n].tolist()
        for i in range(n):
            if at + i in self.bases:
                words[i] = self.bases[at + i], words[i]
        return words

    def _range(self, at: int) -> int:
        """The number of the range in which an offset is."""
        i: int = bisect.bisect_right(self.starts, at) - 1
        if i < 0 or at >= self.starts[i] + max(self.ranges[i][1], 1):
            raise NotLoweredError("reads memory of which nothing is known")
        return i

    def _place(self, word: Any, size: int = 0) -> Place:
        """Where an operand is."""
        if word == 0:
            return None
        base, offset = word
        if base == ARENA:
            start = self.starts[self._range(offset)]
            return Uniform(offset, self.uniform[start]) if start in self.uniform else Lanes(offset)
        if base == TEXT and size:
            return Uniform(self._hold([int(self.text[offset // 8])]), size)
        if base == SCRATCH and offset == 0:
            return None
        raise NotLoweredError("reads what is no value")

    def _target(self, word: Any) -> Lanes:
        """Where a result goes."""
        place = self._place(word)
        if not isinstance(place, Lanes) or self.starts[self._range(place.at)] in self.own:
            raise NotLoweredError("changes what it is given")
        return place

    def _hold(self, words: Sequence[Any], is_shared: bool = True) -> int:
        """Where words are among what is the same for all lanes."""
        at: int = self.size + 8 * len(self.constants)
        key = tuple(words)
        if is_shared and self.known.setdefault(key, at) != at:
            return self.known[key]
        self.constants += words
        return at

    def _known(self, place: Uniform) -> int:
        """The word that is always at a place; 0 where that is not known."""
        word = self.constants[(place.at - self.size) // 8] if place.at >= self.size else 0
        return word if isinstance(word, int) else 0

    def _outlives(self, place: Lanes, step: int) -> bool:
        """Whether a step from one on, or the caller, reads a place."""
        return self.last[self._range(place.at)] >= step

    def _new(self, nbytes: int) -> int:
        """A range behind the arena."""
        at: int = self.end
        self.starts.append(at)
        self.ranges.append((at, nbytes))
        self.end += -(-nbytes // 8) * 8
        return at

    # --- writing steps ------------------------------------------------------------------------------------------------

    def _emit(self, what: int, *words: Any) -> None:
        self.steps.append([what, *words])
        if len(self.steps) > _MOST_STEPS:
            raise NotLoweredError("has too many steps")

    def _in_lanes(self, place: Any, n: int) -> Lanes:
        """Where `n` elements have lanes."""
        if isinstance(place, Lanes):
            return place
        key = place.at, n, place.size
        if key not in self.spread:
            self.spread[key] = Lanes(self._new(n * place.size))
        return self.spread[key]

    def _copies(self, pairs: Iterator[tuple[int, int]], target: Lanes, source: Any, size: int) -> None:
        """Copy elements: offsets from a target and a source, in bytes."""
        runs: list[list[int]] = []
        for to, of in pairs:
            if runs and to == runs[-1][0] + runs[-1][2] * size:
                if runs[-1][2] == 1:
                    runs[-1][3] = of - runs[-1][1]
                if of == runs[-1][1] + runs[-1][2] * runs[-1][3] and (
                    runs[-1][3] == size or isinstance(source, Uniform)
                ):
                    runs[-1][2] += 1
                    continue
            runs.append([to, of, 1, size])
        for to, of, n, step in runs:
            if isinstance(source, Uniform):
                self._emit(SPREAD, Lanes(target.at + to), Uniform(source.at + of, size), n, step, size)
            else:
                self._emit(observed.COPIED, Lanes(target.at + to), Lanes(source.at + of), Times(n * size))

    def _adds(self, pairs: Iterator[tuple[int, int]], target: Lanes, source: Any, size: int) -> None:
        """Add elements to others: offsets as of copies."""
        runs: list[list[int]] = []
        for to, of in pairs:
            if runs and (to, of) == (runs[-1][0] + runs[-1][2] * size, runs[-1][1] + runs[-1][2] * size):
                runs[-1][2] += 1
            else:
                runs.append([to, of, 1])
        for to, of, n in runs:
            place = _moved(source, of)
            self._emit(observed.ADDED, Lanes(target.at + to), self._in_lanes(place, n), Times(n), 4 if size == 8 else 3)

    def _called(
        self, kernel: int, n: int, mode: int, operands: Sequence[Any], outputs: Sequence[Any], reads: int
    ) -> None:
        """Call a kernel of elements: `operands` are a, b and c, and y of a partial; `reads` are bits of these."""
        is_partial = len(operands) == 4
        places = [place if reads & bit else None for place, bit in zip(operands, _BITS, strict=False)]
        single = [bool(mode & bit) and n > 1 for bit in _BITS[: len(places)]]
        n_read = sum(place is not None for place in places)
        # One number for all lanes and elements: a kernel has a loop for that.
        may_be_single = n_read == 1 and places[3] is None if is_partial else n_read == 2
        apart = any(s and isinstance(p, Lanes) for s, p in zip(single, places, strict=True))
        alone = next(
            (i for i, p in enumerate(places) if isinstance(p, Uniform) and (n == 1 or single[i]) and may_be_single), -1
        )
        if not apart:
            given = [
                p if p is None or i == alone else self._in_lanes_repeated(p, n) if single[i] else self._in_lanes(p, n)
                for i, p in enumerate(places)
            ]
            self._call(kernel, n, (_BITS[alone] if alone >= 0 else 0) | mode & FRESH, given, outputs)
            return
        sizes = kernel_at(kernel).sizes
        of_outputs = sizes[3:] if len(outputs) == 1 else (sizes[3], sizes[kernel_at(kernel).k])
        for e in range(n):
            moved = [
                p if s else _moved(p, e * size) for p, s, size in zip(places, single, sizes, strict=False)
            ]  # fmt: skip
            out = [_moved(o, e * size) for o, size in zip(outputs, of_outputs, strict=True)]
            self._called(kernel, 1, mode & FRESH, moved, out, reads)

    def _in_lanes_repeated(self, place: Any, n: int) -> Lanes:
        """One number that is the same for all lanes, as often as there are elements."""
        key = place.at, -n, place.size
        if key not in self.spread:
            self.spread[key] = Lanes(self._new(n * place.size))
        return self.spread[key]

    def _call(self, kernel: int, n: int, mode: int, given: Sequence[Any], outputs: Sequence[Any]) -> None:
        what = observed.CALLED6 if len(given) == 3 else observed.CALLED8
        self._emit(what, kernel, Times(n), mode, *(p or 0 for p in given), *(p or 0 for p in outputs))

    def _forward(self, kernel: int, n: int, mode: int, words: Sequence[Any], y: Any) -> None:
        known = kernel_at(kernel)
        if not isinstance(known.op, Elementwise) or known.k >= 0:
            raise NotLoweredError("calls a kernel of arrays")
        self._called(kernel, n, mode, words, [y], (1 << known.op.arity) - 1)

    def _reverse(self, kernel: int, n: int, mode: int, words: Sequence[Any], g: Any, k: Lanes) -> None:
        known = kernel_at(kernel)
        if not isinstance(known.op, (Elementwise, Reduction)) or known.k < 0:
            raise NotLoweredError("calls a kernel of arrays")
        reads = known.op.saves[known.k]
        rule = known.op.partials[known.k]
        if isinstance(known.op, Reduction) and rule is not None and "n" in parameters(rule):  # the number of terms
            reads |= 2
        self._called(kernel, n, mode, words, [self._in_lanes(g, n), k], reads)

    def _immediates(self, kernel: int, words: Sequence[Any]) -> list[Any]:
        return [self._place(word, size) for word, size in zip(words, kernel_at(kernel).sizes, strict=False)]

    # --- step by step -------------------------------------------------------------------------------------------------

    def _lower(self) -> None:
        at = 0
        while True:
            what, *words = self._words(at, STEP)
            if what == END:
                break
            write = _STEPS.get(what)
            if write is None:
                raise NotLoweredError("does what lanes can't")
            write(self, *words)
            at += STEP
        self._emit(END)

    def _called6(self, kernel: int, n: int, mode: int, a: Any, b: Any, c: Any, y: Any, *_: Any) -> None:
        self._forward(kernel, n, mode, self._immediates(kernel, (a, b, c)), self._target(y))

    def _called8(self, kernel: int, n: int, mode: int, a: Any, b: Any, c: Any, y: Any, g: Any, k: Any, *_: Any) -> None:
        given = self._immediates(kernel, (a, b, c, y))
        self._reverse(kernel, n, mode, given, self._place(g), self._target(k))

    def _filled(self, target: Any, n: int, bits: int, size: int, *_: Any) -> None:
        self._emit(observed.FILLED, self._target(target), Times(n), bits, size)

    def _copied(self, target: Any, source: Any, nbytes: int, *_: Any) -> None:
        of = self._place(source)
        if isinstance(of, Uniform):
            size = of.size if nbytes % of.size == 0 else nbytes
            self._copies(((e, e) for e in range(0, nbytes, size)), self._target(target), of, size)
        else:
            self._emit(observed.COPIED, self._target(target), of, Times(nbytes))

    def _ones(self, target: Any, n: int, code: int, *_: Any) -> None:
        self._emit(observed.ONES, self._target(target), Times(n), code)

    def _added(self, target: Any, source: Any, code: int, *_: Any) -> None:
        self._emit(observed.ADDED, self._target(target), self._in_lanes(self._place(source), 1), Times(1), code)

    def _guard(self, place: Any, expected: Any, nbytes: int, number: int, *_: Any) -> None:
        of, size = self._place(place), self.program.seen[number].itemsize
        if isinstance(of, Lanes):  # what is the same for all holds for all: it holds for one
            words = self.text[expected[1] // 8 : expected[1] // 8 + (nbytes + 7) // 8].tolist()
            self._emit(GUARD, of, Uniform(self._hold(words), 8), nbytes // size, size, number)

    def _walk(self, word: Any) -> list[int]:
        at = word[1] // 8
        return self.text[at : at + 1 + 2 * int(self.text[at])].tolist()  # type: ignore[no-any-return]

    def _given(self, walk: Any, source: Any, target: Any, n: int, code: int, *_: Any) -> None:
        size = 8 if code == 4 else 4
        pairs = ((e * size, of) for e, of in enumerate(_offsets(self._walk(walk), 0, n)))
        self._adds(pairs, self._target(target), self._place(source), size)

    def _put_back(self, walk: Any, source: Any, target: Any, n: int, size: int, *_: Any) -> None:
        pairs = ((to, e * size) for e, to in enumerate(_offsets(self._walk(walk), 0, n)))
        self._adds(pairs, self._target(target), self._place(source), size)

    def _merged(
        self, walk: Any, source: Any, target: Any, n: int, size: int, number: int, count: int, kernel: int, *_: Any
    ) -> None:
        del count
        self._merge(self._walk(walk), self._place(source), 0, n, size, self._target(target), number, 0, kernel)

    def _merge(
        self, walk: list[int], source: Any, first: int, n: int, size: int, states: Lanes, number: int, own: int,
        kernel: int, count: int = 0,
    ) -> None:  # fmt: skip
        if not own:
            count = 1 + max(_offsets(walk, first, n), default=0) // number
        held = Uniform(self._hold(walk), 8)
        self._emit(MERGE, held, self._in_lanes(source, n), first, n, size, states, count, number, own, kernel)

    # --- whole arrays -------------------------------------------------------------------------------------------------

    def _alone(self, kernel: int, itemsize: int, *words: Any) -> None:
        context = self._words(words[5][1] // 8, CONTEXT)
        self._whole(kernel, context, context[_C["n_memory"]] * itemsize)

    def _in_pieces(
        self, kernel: int, units: int, outer: int, of_adjoint: int, apart_count: int, apart_code: int, elements: int,
        at: Any, pieces: Any, *_: Any,
    ) -> None:  # fmt: skip
        del outer, of_adjoint
        if not units or elements >= 2 * PIECE_WORK or (apart_count and apart_code == 3):
            raise NotLoweredError("shares out work")
        context = self._words(at[1] // 8, CONTEXT)
        context[_C["lo"]], context[_C["hi"]] = 0, units
        self._whole(kernel, context, int(self.text[pieces[1] // 8 + _PIECES["room_bytes"]]))

    def _whole(
        self, kernel: int, context: list[Any], memory_bytes: int, places: dict[str, Place] | None = None
    ) -> None:
        """Call an array kernel for each lane."""
        known = kernel_at(kernel)
        if not isinstance(known.op, Array):
            raise NotLoweredError("calls what is no kernel of arrays")
        size_of = {
            **dict(zip("abcy", known.sizes, strict=True)),
            "y_bar": known.sizes[3],
            "k_bar": known.sizes[known.k],
        }
        result = "y" if known.k < 0 else "k_bar"
        operands: list[Any] = []
        for name, size in size_of.items():
            word, n = context[_C[name]], context[_C["n_y" if name == "y_bar" else f"n_{name}"]]
            context[_C[name]] = 0
            place = self._place(word) if places is None else places.get(name)
            if place is None or not n or (known.k < 0 and name.endswith("bar")):
                continue
            if name == result and (isinstance(place, Uniform) or self.starts[self._range(place.at)] in self.own):
                raise NotLoweredError("changes what it is given")
            operands += [_C[name], place, n, size, int(isinstance(place, Lanes)), int(name == result)]
            memory_bytes += n * size + 64
        if memory_bytes + 8 * context[_C["n_sums"]] > _MOST_SCRATCH:
            raise NotLoweredError("has too many elements")
        memory_bytes -= sum(n * size + 64 for n, size in zip(operands[2::6], operands[3::6], strict=True))
        n_params = context[_C["n_params"]]
        if n_params:
            at = context[_C["params"]]
            words = at if isinstance(at, list) else self.text[at[1] // 8 : at[1] // 8 + n_params].tolist()
            context[_C["params"]] = Behind(self._hold(words))
        context[_C["work"]] = context[_C["memory"]] = context[_C["sums"]] = context[_C["tile"]] = 0
        held = Uniform(self._hold(context, False), 8), Uniform(self._hold(operands, False), 8)
        self._emit(WHOLE, kernel, held[0], memory_bytes, held[1], len(operands) // 6)

    # --- regions ------------------------------------------------------------------------------------------------------

    def _bound(self, image: Any, *_: Any) -> None:
        _Region(self, image[1] // 8).lower()

    # --- places -------------------------------------------------------------------------------------------------------

    def _check(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Whether no step goes beyond the range of an operand: a program may be from a file, see `validation.py`."""
        for at, n, size in (*inputs, *outputs):
            self._holds(Lanes(at), n * size)
        if any(self.starts[self._range(at)] != at for at in self.own):
            raise NotLoweredError("is given what begins within something else")
        for at, n, size in self.spread:
            self._holds(Uniform(at, size), max(n, 1) * size)
        for step in self.steps:
            for place, nbytes in self._touched(*step):
                self._holds(place, nbytes)

    def _holds(self, place: Any, nbytes: int) -> None:
        """A range has so many bytes from a place on; what is the same for all is one."""
        begin, end = 0, self.size + 8 * len(self.constants)
        if not isinstance(place, Uniform):
            r = self._range(place.at)
            begin, end = self.starts[r], self.starts[r] + self._room(r)
        if not begin <= place.at <= end - nbytes:
            raise NotLoweredError("touches more than there is")

    def _touched(self, what: int, *of: Any) -> Iterator[tuple[Place, int]]:
        """What a step touches of each lane: places, and bytes."""
        if what in (observed.CALLED6, observed.CALLED8):
            (_, n, mode, *places), (op, k, code, _) = of, kernel_at(of[0])
            for i, size, is_one, _ in reaches(Kernel(op, code, k + 1), mode):
                if places[i] == 0 or is_one is not isinstance(places[i], Uniform):
                    raise NotLoweredError("calls a kernel otherwise than for lanes")
                yield places[i], size if is_one else n.n * size
        elif what in (observed.FILLED, observed.ONES):
            yield of[0], of[1].n * (of[3] if what == observed.FILLED else DTYPES[of[2]].itemsize)
        elif what in (observed.COPIED, observed.ADDED):
            nbytes = of[2].n * (1 if what == observed.COPIED else DTYPES[of[3]].itemsize)
            yield from ((place, nbytes) for place in of[:2])
        elif what == SPREAD:
            target, source, n, step, size = of
            yield target, n * size
            yield Uniform(source.at + min((n - 1) * step, 0), size), abs((n - 1) * step) + size
        elif what == GUARD:
            yield from ((place, of[2] * of[3]) for place in of[:2])
        elif what == MERGE:
            _, source, _, n, size, states, count, number, own, _ = of
            yield from ((source, n * size), (states, own or count * number))
        elif what == RESULT:
            _, _, n, own, states, _, target, size = of
            yield from ((states, own or n * size), (target, n * size))
        elif what == REDUCE:
            kernel, n_rows, n, source, size, target, size_made, _ = of
            least = DTYPES[kernel_at(kernel).code].itemsize
            yield from ((source, n_rows * n * max(size, least)), (target, n_rows * max(size_made, least)))
        elif what == WHOLE:
            operands = self._operands([what, *of])
            yield from zip(operands[1::6], map(operator.mul, operands[2::6], operands[3::6]), strict=True)

    def _give_places(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Say where in an arena ranges are, how many lanes a block has, and write the steps with that."""
        first, last = [-1] * len(self.ranges), [-1] * len(self.ranges)
        n = len(self.steps)
        for i, step in enumerate(self.steps):
            words = step if step[0] != WHOLE else self._operands(step)
            for word in words:
                if isinstance(word, Lanes):
                    r = self._range(word.at)
                    first[r], last[r] = i if first[r] < 0 else first[r], i
        for at, _, _ in inputs:
            first[self._range(at)], last[self._range(at)] = 0, max(last[self._range(at)], 0)
        for at, _, _ in outputs:
            r = self._range(at)
            first[r], last[r] = max(first[r], 0), n
        for place in self.spread.values():
            first[self._range(place.at)], last[self._range(place.at)] = 0, n
        begin: list[list[int]] = [[] for _ in range(n + 1)]
        end: list[list[int]] = [[] for _ in range(n + 2)]
        for r in range(len(self.ranges)):
            if first[r] >= 0:
                begin[first[r]].append(r)
                end[last[r] + 1].append(r)
        self.last = last
        free: dict[int, list[int]] = {}
        self.at: list[int] = [-1] * len(self.ranges)
        total = 0
        for i in range(n + 1):
            for r in end[i]:
                free.setdefault(self._room(r), []).append(self.at[r])
            for r in begin[i]:
                places = free.get(self._room(r))
                if places:
                    self.at[r] = places.pop()
                else:
                    self.at[r], total = total, total + self._room(r)
        if total > _MOST_BYTES:
            raise NotLoweredError("has too many elements")
        runs = lane_code.runs(self.steps, self._hold)
        n_coded = sum(len(run.steps) for run in runs)
        cached, unit = (_CODED_BYTES, max(run.width for run in runs)) if 4 * n_coded > 3 * n else (_CACHED_BYTES, 16)
        block = max(min(cached // max(total, 1), _MOST_LANES), _LEAST_LANES) // unit * unit
        self.block, self.behind = block, -(-total * block // 64) * 64
        self.arena_bytes = -(-(self.behind + self.size + 8 * len(self.constants)) // 64) * 64
        self.constant_bytes = np.array([self._word(word) for word in self.constants], np.int64).view(np.uint8)
        self.words = np.array(self._in_words(runs), np.int64)
        self.n_calls = n
        self.inputs = [(self.address(Lanes(at)), count, size) for at, count, size in inputs]
        self.outputs = [(self.address(Lanes(at)), count, size) for at, count, size in outputs]
        self.spreads = [
            (self.address(place), self.address(Uniform(at, size)), abs(n), size, n < 0)
            for (at, n, size), place in self.spread.items()
        ]

    def _in_words(self, runs: Sequence[lane_code.Run]) -> list[list[int]]:
        """The words of the steps, with code in the place of runs, which is kept as long as these."""
        try:
            self.codes = [run.code(self.address, self._known, self._outlives, self.block) for run in runs]
        except machine.NotLoweredError:
            self.codes, runs = [], []
        rows: list[list[int]] = []
        done = 0
        for run, code in zip(runs, self.codes, strict=True):
            rows += [*map(self._written, self.steps[done : run.begin]), self._written(run.step(code, self.block))]
            done = run.begin + len(run.steps)
        return [*rows, *map(self._written, self.steps[done:])]

    def _operands(self, step: list[Any]) -> list[Any]:
        at = (step[4].at - self.size) // 8
        return self.constants[at : at + 6 * step[5]]

    def fill(self, arena: np.ndarray, memory: Any) -> None:
        """Bring what is the same for all rows from the memory of a replay to an arena."""
        words = self.constant_bytes
        behind, start = self.behind, memory.at - address_of(memory.arena)
        arena[behind : behind + self.program.size] = memory.arena[start : start + self.program.size]
        arena[behind + self.size : behind + self.size + len(words)] = words
        for target, source, n, size, repeats in self.spreads:
            lanes = arena[target : target + n * size * self.block].reshape(n, self.block, size)
            lanes[:] = arena[source : source + (1 if repeats else n) * size].reshape(-1, 1, size)

    def _room(self, r: int) -> int:
        nbytes: int = self.ranges[r][1]
        return -(-nbytes // 8) * 8

    def address(self, place: Any) -> int:
        """Where in an arena elements begin."""
        if isinstance(place, Uniform):
            return self.behind + place.at
        r = self._range(place.at)
        return self.block * (self.at[r] + int(place.at) - self.starts[r])

    def _word(self, word: Any) -> int:
        if isinstance(word, Behind):
            return self.behind + word.at
        if isinstance(word, (Lanes, Uniform)):
            return self.address(word)
        return self.block * word.n if isinstance(word, Times) else word

    def _written(self, step: list[Any]) -> list[int]:
        return [*map(self._word, step), *[0] * (STEP - len(step))]


def _moved(place: Any, nbytes: int) -> Any:
    if place is None:
        return None
    return Lanes(place.at + nbytes) if isinstance(place, Lanes) else Uniform(place.at + nbytes, place.size)


def _offsets(walk: Sequence[int], start: int, n: int) -> Iterator[int]:
    """The offsets that a walk meets, from an element on."""
    runs = [(walk[1 + 2 * d], walk[2 + 2 * d]) for d in range(walk[0])]
    if n > _MOST_STEPS:
        raise NotLoweredError("has too many steps")
    for i in range(start, start + n):
        offset = 0
        for length, stride in runs:
            i, within = divmod(i, length)
            offset += within * stride
        yield offset


class _Region:
    """A region: the instructions of its blocks, one after another. See `core/blocks.py`."""

    def __init__(self, lowered: Lowered, at: int) -> None:
        self.to, words = lowered, lowered._words(at, HEAD)
        self.facts = {name: words[place] for name, place in _P.items() if place < HEAD}
        if self.facts["n_chunks"] > 1 or self.facts["n_ahead"]:
            raise NotLoweredError("has too many elements")
        at += HEAD
        self.registers: list[Any] = []
        for _ in range(self.facts["n_registers"]):
            self.registers.append(_fields(_R, lowered._words(at, REGISTER)))
            at += REGISTER
        self.code: list[Any] = []
        self.setup: list[Any] = []
        for table, n in (self.code, self.facts["n_code"]), (self.setup, self.facts["n_setup"]):
            for _ in range(n):
                table.append(_fields(_I, lowered._words(at, CODE)))
                at += CODE
        self.constants_at = at
        self.walks_at = at + self.facts["n_constants"] + self.facts["n_ahead"]
        self.inner, self.number = self.facts["inner"], lowered.n_images
        lowered.n_images += 1

    def lower(self) -> None:
        """Write its steps."""
        n_rows, block = self.facts["n_rows"], self.facts["block"]
        if not self.facts["n_chunks"]:
            return
        for code in self.setup:
            self._spread(code, 0, block)
        for row in range(0, n_rows, block):
            for code in self.code:
                self._instruction(code, row, min(block, n_rows - row))
        for code in self.code:
            if code["what"] == SCATTER:
                self._settle(code)

    def _register(self, r: int, row: int) -> Place:
        if r == 0:
            return None
        of = self.registers[r]
        moved = of["step"] * row
        if of["scratch"]:
            key: tuple[int, int] = (self.number, of["base"])
            if key not in self.to.registers:
                lanes = self.facts["block"] * (self.inner if of["level"] in (WIDE, VECTOR) else 1)
                self.to.registers[key] = self.to._new(8 * lanes)
            return Lanes(self.to.registers[key] + moved)
        base, offset = of["base"]
        if base == TABLES:
            word = int(self.to.text[self.constants_at + (offset - _CONSTANTS_AT) // 8])
            return Uniform(self.to._hold([word]), of["size"])
        place = self.to._place((base, offset + moved), of["size"])
        return place if isinstance(place, Lanes) or place is None else Uniform(place.at, of["size"])

    def _result(self, r: int, row: int) -> Lanes:
        place = self._register(r, row)
        if not isinstance(place, Lanes) or self.to.starts[self.to._range(place.at)] in self.to.own:
            raise NotLoweredError("changes what it is given")
        return place

    def _instruction(self, code: Any, row: int, n_rows: int) -> None:
        what, width, to = code["what"], code["width"], self.to
        n = n_rows * self.inner if width == WIDE else n_rows if width == NARROW else 1
        first = row * self.inner if width == WIDE else row
        if what == FORWARD:
            given = [self._register(code[name], row) for name in "abc"]
            to._forward(code["kernel"], n, code["mode"], given, self._result(code["y"], row))
        elif what == REVERSE:
            given = [self._register(code[name], row) for name in "abcy"]
            g, k = self._register(code["g"], row), self._result(code["k"], row)
            to._reverse(code["kernel"], n, code["mode"], given, g, k)
        elif what == OVER_LANES:
            self._spread(code, row, n_rows)
        elif what == GATHER:
            size, walk = code["mode"], self._walk(code)
            pairs = ((e * size, of) for e, of in enumerate(_offsets(walk, first, n)))
            to._copies(pairs, self._result(code["y"], row), to._place(code["address"]), size)
        elif what == PUT:
            size, walk = code["mode"], self._walk(code)
            pairs = ((of, e * size) for e, of in enumerate(_offsets(walk, first, n)))
            to._adds(pairs, to._target(code["address"]), self._register(code["a"], row), size)
        elif what == ZERO:
            to._emit(observed.FILLED, self._result(code["y"], row), Times(n), 0, code["mode"])
        elif what == SCATTER:
            own = 0 if code["state"] == code["mode"] else code["count"] * code["state"]
            to._merge(
                self._walk(code), self._register(code["a"], row), first, n, code["mode"], to._target(code["address"]),
                min(code["state"], 8), own, code["kernel"], code["count"],
            )  # fmt: skip
        elif what == ROWS_REDUCED:
            source = to._in_lanes(self._register(code["a"], row), n_rows * self.inner)
            target, size = self._result(code["y"], row), self.registers[code["y"]]["size"]
            to._emit(REDUCE, code["kernel"], n_rows, self.inner, source, code["mode"], target, size, code["count"])
        elif what in (ALONG, BACK):
            self._along(code, row, n_rows, n)
        else:
            raise NotLoweredError("writes past the caches")

    def _along(self, code: Any, row: int, n_rows: int, n: int) -> None:
        """An array kernel along the rows of a block. See `run_along` of `core/blocks.py`."""
        context: list[Any] = [0] * CONTEXT
        params = [*numbers_at(code["walk"])]
        params[0] = n_rows
        context[_C["params"]], context[_C["n_params"]] = params, len(params)
        context[_C["n_a"]], context[_C["n_y"]] = n_rows * self.inner, n
        places = {"a": self._register(code["a"], row), "y": self._register(code["y"], row)}
        if code["what"] == BACK:
            context[_C["n_k_bar"]] = n_rows * self.inner
            places |= {"y_bar": self._register(code["g"], row), "k_bar": self._result(code["k"], row)}
        self.to._whole(code["kernel"], context, 0, places)

    def _walk(self, code: Any) -> list[int]:
        at = self.walks_at + (code["walk"][1] - _WALKS_AT) // 8
        return self.to.text[at : at + 1 + 2 * int(self.to.text[at])].tolist()  # type: ignore[no-any-return]

    def _spread(self, code: Any, row: int, n_rows: int) -> None:
        size, level = code["mode"], self.registers[code["a"]]["level"]
        lanes = self.inner if code["width"] == WIDE else 1
        step, stride = (
            (0, 0) if level == SINGLE else (0, size) if level == VECTOR else (self.registers[code["a"]]["size"], 0)
        )
        pairs = (((i * lanes + j) * size, i * step + j * stride) for i in range(n_rows) for j in range(lanes))
        self.to._copies(pairs, self._result(code["y"], row), self._register(code["a"], row), size)

    def _settle(self, code: Any) -> None:
        to = self.to
        target, states = to._target(code["target"]), to._target(code["address"])
        own = 0 if code["state"] == code["mode"] else code["count"] * code["state"]
        if not own and not code["finish"]:
            return
        size = kernel_at(code["kernel"]).sizes[3]
        to._emit(
            RESULT, code["finish"] or code["kernel"], int(code["finish"] != 0), code["count"], own, states,
            code["terms"], target, size,
        )  # fmt: skip


def _fields(words: dict[str, int], of: list[Any]) -> dict[str, Any]:
    return {name: of[place] for name, place in words.items() if place < len(of)}


_STEPS: dict[int, Any] = {
    observed.CALLED6: Lowered._called6, observed.CALLED8: Lowered._called8, observed.FILLED: Lowered._filled,
    observed.COPIED: Lowered._copied, observed.ONES: Lowered._ones, observed.ADDED: Lowered._added,
    observed.GIVEN: Lowered._given, observed.PUT_BACK: Lowered._put_back, observed.MERGED: Lowered._merged,
    observed.BOUND: Lowered._bound, GUARD: Lowered._guard, observed.ALONE: Lowered._alone,
    observed.IN_PIECES: Lowered._in_pieces,
}  # fmt: skip
