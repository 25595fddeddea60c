"""Machine code of a program: its steps as stencils, one behind the other.

A program becomes rows: a form (what is done), operands, and a number. What has many lanes is as many rows of the widths
that the processor has; a region of few lanes becomes its instructions. What is no stencil is a call, of a kernel or of
the interpreter's own parts, by address. Then the stencils are copied behind one another and their places filled in, by
NumPy.

Where lanes do not depend on one another, rows of the same lanes follow one another, so that results stay in registers.
What is the same in all threads is in the code; each thread has an arena and a frame: constants, and the registers of
regions.
"""

from __future__ import annotations

import bisect
import ctypes
import functools
import itertools
import platform
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import engine
from tapegrad.core import observed
from tapegrad.core.notes import ARENA, SCRATCH, STEP, TABLES, TEXT
from tapegrad.core.replaying import CODE, END, GUARD, HEAD, MISSED, REGISTER
from tapegrad.core.tables import (
    FORWARD,
    GATHER,
    NARROW,
    PUT,
    REDUCE,
    REVERSE,
    SCATTER,
    SINGLE,
    SPREAD,
    VECTOR,
    WIDE,
    ZERO,
    Instruction,
    Program,
    Register,
)  # fmt: skip
from tapegrad.dtypes import FLOAT64
from tapegrad.kernels import SETTLE, TO_EACH, TO_ONE, native
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import address_of
from tapegrad.memory import words_of
from tapegrad.replay.machine import aarch64, avx512, memory, stencils, x86_64
from tapegrad.replay.machine.patches import EXIT, NUMBER, TAPE, Address, Offset
from tapegrad.replay.machine.stencils import A, B, C, G, K, Y

_P, _R, _I = (words_of(record) for record in (Program, Register, Instruction))
_CONSTANTS_AT, _WALKS_AT = Program.fields["constants"][0], Program.fields["walks"][0]
HOT = 200  # calls after which a program is worth making code of: that takes as long
_MOST_LANES = 16  # of a row that is written out; beyond, a call costs little beside
_MOST_OF_REGION = 512  # lanes of a region that is written as instructions
_MOST_BYTES = 1 << 30  # of an arena, and of machine code
_MOST_FORMS = 1000
_NONE = -1  # no operand
_COMPARED = 208  # lanes in which a stencil is compared with its kernel
_EDGES = [0.0, -0.0, 1.0, -1.0, 0.75, -2.5, 1e-300, 1e300, np.inf, -np.inf, np.nan, -np.nan]
_MOVES = {-observed.COPIED: stencils.COPIED, -observed.ADDED: stencils.ADDED}  # in the place of kernels
_MAPS = {1: A, 2: B, 4: C, 8: Y}


class NotLoweredError(Exception):
    """Machine code can't do it."""


class Form(NamedTuple):
    """What rows of a kind do."""

    kernel: Any = None  # lanes of a kernel
    mode: int = 0
    lanes: int = 1
    singles: int = 0  # operands that are one number for all lanes; of which it is known that they are not zero
    certain: int = 0
    stores: bool = True  # its result to memory, and not to a register alone
    word: tuple[Any, ...] = ()  # or copy, guard, call, and what these take


class Lowered(NamedTuple):
    """Machine code; constants, which lie before a frame; the bytes of a frame."""

    code: memory.Code
    constants: np.ndarray
    frame_bytes: int
    n_rows: int


@functools.cache
def isa() -> Any:
    """The instructions of this processor; None where there is no machine code."""
    if not native.JIT or native.CHECKED or not memory.is_possible():
        return None
    try:
        if platform.machine() in ("x86_64", "AMD64"):
            known: Any = x86_64
        elif platform.machine() == "aarch64":
            known = aarch64
        else:
            return None
        return known if known.is_possible() else None
    except (OSError, AttributeError):
        return None


@functools.cache
def lanes_isa() -> Any:
    """The instructions of this processor that have the most lanes; None likewise."""
    return avx512 if isa() is x86_64 and avx512.is_possible() else isa()


def lanes_code(rows: Sequence[tuple[Form, dict[int, int], bool]]) -> memory.Code:
    """Code that does rows of lanes: forms, operands by place, and whether the result is read behind all rows.

    It is called with the addresses of the lanes and of what is the same for all. Raises NotLoweredError.
    """
    operands = np.array([[of.get(place, _NONE) for place in range(6)] for _, of, _ in rows], np.int64)
    forms, form = _numbered([form for form, *_ in rows])
    is_read = _read_from_memory(forms, form, operands, [is_read for *_, is_read in rows])
    forms, form = _numbered([f._replace(stores=stores) for (f, *_), stores in zip(rows, is_read, strict=True)])
    try:
        return memory.Code(_written(lanes_isa(), forms, form, operands, np.zeros(len(rows), np.int64)))
    except (OSError, NotImplementedError) as error:
        raise NotLoweredError from error


def _numbered(of_rows: Sequence[Form]) -> tuple[list[Form], np.ndarray]:
    """The forms that there are, and the number of each row's."""
    numbers: dict[Form, int] = {}
    rows = [numbers.setdefault(form, len(numbers)) for form in of_rows]
    return [*numbers], np.array(rows, np.int64)


def _read_from_memory(
    forms: list[Form], form: np.ndarray, operands: np.ndarray, is_read_behind: Sequence[bool]
) -> list[bool]:
    """Whether a later row, or what comes behind all, reads the result of a row, and has it not in a register."""
    before, has_adjoint = _kept(forms, form, operands)
    held = (before | has_adjoint << G).tolist()
    read, found, numbers, places = dict[int, bool](), list[bool](), form.tolist(), operands.tolist()
    for i in range(len(numbers) - 1, -1, -1):
        of, at = forms[numbers[i]], places[i]
        result = at[K if of.kernel.is_partial else Y]
        found.append(read.get(result, is_read_behind[i]))
        read[result] = False
        reads = stencils.reads(of.kernel, of.mode) & ~held[i]
        for place in range(6):
            if reads >> place & 1:
                read[at[place]] = True
    return found[::-1]


def lower(program: Any) -> Lowered:
    """Machine code of a program. Raises NotLoweredError."""
    if isa() is None:
        raise NotLoweredError
    rows = _Rows(program)
    try:
        code = _written(isa(), *rows.lowered())
        constants = np.array([*rows.known][::-1], np.int64)
        return Lowered(memory.Code(code), constants, rows.registers_bytes, sum(len(form) for form, *_ in rows.blocks))
    except (OSError, NotImplementedError) as error:
        raise NotLoweredError from error


class _Rows:
    """The rows of a program."""

    def __init__(self, program: Any) -> None:
        self.program, self.text = program, program.text
        order = np.argsort(program.places, kind="stable")
        self.places, self.bases = program.places[order], program.bases[order]
        self.place_list: list[int] = self.places.tolist()
        self.forms: dict[Form, int] = {}
        self.known: dict[int, int] = {}  # constants, by their bits: where they are in the frame
        self.form: list[int] = []
        self.operands: list[list[int]] = []
        self.number: list[int] = []
        self.blocks: list[tuple[np.ndarray, ...]] = []
        self.registers_bytes = 0
        self.widths = {size: isa().widths(size) for size in (8, 4)}

    # --- operands -----------------------------------------------------------------------------------------------------

    def constant(self, bits: int) -> int:
        """The operand of a constant: they lie before the frame, the first last."""
        return self.known.setdefault(bits, -8 * (1 + len(self.known))) << 1 | 1

    def words(self, place: int, n: int) -> list[Any]:
        """Words of the text: numbers, or (base, offset)."""
        found: list[Any] = self.text[place : place + n].tolist()
        known = self.place_list
        i = bisect.bisect_left(known, place)
        while i < len(known) and known[i] < place + n:
            found[known[i] - place] = int(self.bases[i]), found[known[i] - place]
            i += 1
        return found

    def operand(self, word: Any) -> int:
        """The operand for an address."""
        if word == 0:
            return _NONE
        base, offset = word
        if base == ARENA:
            return int(offset) << 1
        if base == TEXT:
            return self.constant(int(self.text[offset // 8]))
        if base == SCRATCH and offset == 0:
            return _NONE
        raise NotLoweredError

    # --- rows ---------------------------------------------------------------------------------------------------------

    def emit(self, form: Form, operands: dict[int, int], number: int = 0) -> None:
        """Append a row."""
        self.form.append(self.forms.setdefault(form, len(self.forms)))
        self.operands.append([operands.get(place, _NONE) for place in range(6)])
        self.number.append(number)

    def call(self, function: int, *arguments: Any, is_checked: bool = False) -> None:
        """A call: arguments are numbers, operands (`_At`), TAPE, or offsets in the text (`_In`)."""
        operands: dict[int, int] = {}
        given: list[Any] = []
        for argument in arguments:
            if isinstance(argument, _At) and argument.operand == _NONE:
                given.append(0)
            elif isinstance(argument, (_At, _In)):
                kind = Address if isinstance(argument, _At) else Offset
                given.append(kind(len(operands)))
                operands[len(operands)] = argument.operand
            else:
                given.append(argument)
        self.emit(Form(word=("call", function, tuple(given), is_checked)), operands)

    def lanes(self, rows: Sequence[tuple[Any, int, int, dict[int, int]]], n: int) -> None:
        """Rows of a kernel each, its mode, the single numbers, and operands: all of `n` lanes, in this order."""
        if n == 1 or not _are_apart(rows, n):
            for row in rows:
                for done, width in self._pieces(row[0].itemsize, n):
                    self._piece(row, done, width)
            return
        sizes = {row[0].itemsize for row in rows}
        if len(sizes) > 1:
            for row in rows:
                self.lanes([row], n)
            return
        for done, width in self._pieces(sizes.pop(), n):
            for row in rows:
                self._piece(row, done, width)

    def _pieces(self, itemsize: int, n: int) -> Iterator[tuple[int, int]]:
        done = 0
        for width in self.widths[itemsize]:
            while n - done >= width:
                yield done, width
                done += width

    def _piece(self, row: tuple[Any, int, int, dict[int, int]], done: int, width: int) -> None:
        kernel, mode, singles, operands = row
        shift = done * kernel.itemsize << 1
        self.emit(
            Form(kernel, mode & FRESH, width, singles if width > 1 else 0),
            {place: at if singles >> place & 1 else at + shift for place, at in operands.items()},
        )

    def move(self, target: int, source: int, n: int, itemsize: int, is_single: bool = False) -> None:
        """Bring elements from memory to memory."""
        if itemsize == 1:
            for i in range(n):
                at = source if is_single else source + (i << 1)
                self.emit(Form(word=("copy", 1)), {K: target + (i << 1), A: at})
            return
        kernel = stencils.COPIED if itemsize == 8 else stencils.COPIED_SINGLE
        self.lanes([(kernel, 0, int(is_single and n > 1), {A: source, Y: target})], n)

    def add(self, target: int, source: int, n: int, itemsize: int) -> None:
        """Add elements to others."""
        kernel = stencils.ADDED if itemsize == 8 else stencils.ADDED_SINGLE
        self.lanes([(kernel, 0, 0, {G: source, K: target})], n)

    # --- steps --------------------------------------------------------------------------------------------------------

    def lowered(self) -> tuple[Any, ...]:
        """Forms, and for each row its form, operands and number, as arrays."""
        steps = self.text[: len(self.text) // STEP * STEP].reshape(-1, STEP)
        steps = steps[: int(np.argmax(steps[:, 0] == END))]
        what = steps[:, 0]
        is_scalar = np.isin(what, (observed.CALLED6, observed.CALLED8)) & (steps[:, 2] == 1)
        is_scalar |= (what == observed.COPIED) & (steps[:, 3] == 8)
        is_scalar |= (what == observed.ADDED) & (steps[:, 3] == FLOAT64.code)
        bounds = np.flatnonzero(np.diff(is_scalar, prepend=False, append=False)).tolist()
        at = 0
        for begin, end in [*zip(bounds[::2], bounds[1::2], strict=True), (len(steps), len(steps))]:
            for step in range(at, begin):
                kind, *words = self.words(step * STEP, STEP)
                write = _STEPS.get(kind, _Rows._other)
                write(self, step * STEP, *words)
            if begin < end:
                self._scalars(steps[begin:end], begin * STEP)
            at = end
            if len(self.forms) > _MOST_FORMS:
                raise NotLoweredError
        self._block()
        form, operands, number = (np.concatenate(parts) for parts in zip(*self.blocks, strict=True))
        return list(self.forms), form, operands, number

    def _block(self) -> None:
        """Put the rows so far behind those before."""
        operands = np.array(self.operands, np.int64).reshape(-1, 6)
        self.blocks.append((np.array(self.form, np.int64), operands, np.array(self.number, np.int64)))
        self.form, self.operands, self.number = [], [], []

    def _scalars(self, steps: np.ndarray, at: int) -> None:
        """Calls of kernels for one element each, copies and sums: all at once, since programs may have 10^5."""
        self._block()
        based = np.full(steps.size, -1, np.int8)
        begin, end = np.searchsorted(self.places, (at, at + steps.size))
        based[self.places[begin:end] - at] = self.bases[begin:end]
        base_of = based.reshape(steps.shape)
        words, kernel, mode = steps[:, 4:10].copy(), steps[:, 1].copy(), steps[:, 3].copy()
        bases = base_of[:, 4:10].copy()
        for what, (source, target) in (observed.COPIED, (A, Y)), (observed.ADDED, (G, K)):
            rows = np.flatnonzero(steps[:, 0] == what)
            words[rows], bases[rows], kernel[rows], mode[rows] = 0, -1, -what, 0
            for place, word in (source, 2), (target, 1):
                words[rows, place], bases[rows, place] = steps[rows, word], base_of[rows, word]
        is_partial = np.isin(steps[:, 0], (observed.CALLED8, observed.ADDED))
        operands = np.where(bases == ARENA, words << 1, _NONE)
        in_text = bases == TEXT
        bits, which = np.unique(self.text[words[in_text] // 8], return_inverse=True)
        operands[in_text] = np.array([self.constant(x) for x in bits.tolist()], np.int64)[which]
        operands[~is_partial, G:] = _NONE
        is_odd = (bases == TABLES) | ((bases == SCRATCH) & (words != 0))
        if is_odd.any() or ((bases < 0) & (words != 0) & (is_partial[:, None] | (np.arange(6) < G))).any():
            raise NotLoweredError
        addresses, kernel = np.unique(kernel, return_inverse=True)
        given = (operands != _NONE) @ (1 << np.arange(6))
        keys, which = np.unique(kernel << 16 | mode << 8 | given << 1 | is_partial, return_inverse=True)
        forms = np.zeros(len(keys), np.int64)
        for i, key in enumerate(keys.tolist()):
            address, mode, given = int(addresses[key >> 16]), key >> 8 & 255, key >> 1 & 63
            known = _MOVES.get(address) or stencil_of(address)
            if known is not None:
                form = Form(known, mode & FRESH)
                unread = ~(stencils.reads(known, mode) | 1 << (K if known.is_partial else Y))
                operands[np.ix_(which == i, [place for place in range(6) if unread >> place & 1])] = _NONE
            else:
                places = (A, B, C, Y, G, K)[: 6 if key & 1 else 4]
                arguments = [Address(place) if given >> place & 1 else 0 for place in places]
                form = Form(word=("call", address, (1, mode, *arguments), False))
            forms[i] = self.forms.setdefault(form, len(self.forms))
        self.blocks.append((forms[which], operands, np.zeros(len(steps), np.int64)))

    def _other(self, at: int, *_: Any) -> None:
        """A step that is left to the interpreter's part for it."""
        self.call(_part("run_other_step"), TAPE, _In(8 * at), is_checked=True)

    def _called6(self, _: int, kernel: int, n: int, mode: int, *given: Any) -> None:
        self.elements(kernel, n, mode, dict(zip((A, B, C, Y), map(self.operand, given[:4]), strict=True)))

    def _called8(self, _: int, kernel: int, n: int, mode: int, *given: Any) -> None:
        self.elements(kernel, n, mode, dict(zip((A, B, C, Y, G, K), map(self.operand, given[:6]), strict=True)))

    def elements(self, kernel: int, n: int, mode: int, operands: dict[int, int]) -> None:
        """A kernel over elements."""
        known = _written_out(kernel, n)
        if known is None:
            self.call(kernel, n, mode, *(_At(operands[place]) for place in (A, B, C, Y, G, K) if place in operands))
        else:
            self.lanes([self.row(known, mode, operands)], n)

    def row(self, known: Any, mode: int, operands: dict[int, int]) -> tuple[Any, int, int, dict[int, int]]:
        """A row for `lanes`."""
        reads = stencils.reads(known, mode) | 1 << (K if known.is_partial else Y)
        singles = sum(1 << place for bit, place in _MAPS.items() if mode & bit)
        return known, mode, singles & reads, {place: at for place, at in operands.items() if reads >> place & 1}

    def _filled(self, at: int, target: Any, n: int, bits: int, size: int, *_: Any) -> None:
        place = self.operand(target)
        nbytes = n * size
        if size < 8 and bits == 0 and nbytes % 8 == 0 and (place >> 1) % 8 == 0:
            n, size = nbytes // 8, 8
        if n <= 2 * _MOST_LANES:
            self.move(place, self.constant(bits), n, size, True)
        else:
            self._other(at)

    def _copied(self, at: int, target: Any, source: Any, nbytes: int, *_: Any) -> None:
        to, of, done = self.operand(target), self.operand(source), 0
        if nbytes > 16 * _MOST_LANES or source[0] == TEXT:
            self._other(at)
            return
        for size in (8, 4, 1):
            n = (nbytes - done) // size
            self.move(to + (done << 1), of + (done << 1), n, size)
            done += n * size

    def _ones(self, at: int, target: Any, n: int, code: int, *_: Any) -> None:
        if n > 1:
            self._other(at)
        elif code == 4:
            self.add(self.operand(target), self.constant(0x3FF0000000000000), 1, 8)
        else:
            self.add(self.operand(target), self.constant(0x3F800000), 1, 4)

    def _added(self, _: int, target: Any, source: Any, code: int, *__: Any) -> None:
        self.add(self.operand(target), self.operand(source), 1, 8 if code == 4 else 4)

    def _guard(self, _: int, place: Any, expected: Any, nbytes: int, number: int, *__: Any) -> None:
        at, done = self.operand(place), 0
        words = [int(word) for word in self.text[expected[1] // 8 : expected[1] // 8 + (nbytes + 7) // 8]]
        content = np.array(words, np.int64).tobytes()
        for size in (8, 4, 1):
            while nbytes - done >= size:
                bits = int.from_bytes(content[done : done + size], "little", signed=size == 8)
                operands = {A: at + (done << 1), B: self.constant(bits)}
                self.emit(Form(word=("guard", size)), operands, MISSED + number)
                done += size

    # --- regions ------------------------------------------------------------------------------------------------------

    def _bound(self, _: int, image: Any, *__: Any) -> None:
        before = len(self.form)
        try:
            region = _Region(self, image[1] // 8)
            region.lower()
        except _WholeError:
            del self.form[before:], self.operands[before:], self.number[before:]
            self.call(_part("run_region"), TAPE, _In(image[1]), is_checked=True)


class _At(NamedTuple):
    """An argument of a call: the address of an operand."""

    operand: int


class _In(NamedTuple):
    """An argument of a call: an address in the text."""

    operand: int


class _WholeError(Exception):
    """A region is called whole."""


class _Region:
    """A region: its instructions, one behind the other. See `core/blocks.py`."""

    def __init__(self, rows: _Rows, at: int) -> None:
        self.to, head = rows, rows.text[at : at + HEAD]
        self.inner, self.n_rows, self.block = (int(head[_P[name]]) for name in ("inner", "n_rows", "block"))
        n_registers, n_code, n_setup, n_constants, n_ahead, n_chunks = (
            int(head[_P[name]]) for name in ("n_registers", "n_code", "n_setup", "n_constants", "n_ahead", "n_chunks")
        )
        if n_chunks != 1 or n_ahead or self.n_rows * self.inner > _MOST_OF_REGION:
            raise _WholeError
        at += HEAD
        self.registers_at = at
        self.code_at = at + n_registers * REGISTER
        self.setup_at = self.code_at + n_code * CODE
        self.constants_at = self.setup_at + n_setup * CODE
        self.walks_at = self.constants_at + n_constants + n_ahead
        self.n_code, self.n_setup = n_code, n_setup
        self.facts: dict[int, list[Any]] = {}
        self.cells: dict[int, int] = {}  # of the frame, by places of scratch memory
        self.used = 0
        self.waiting: list[Any] = []  # rows of so many lanes
        self.n_waiting = 0

    def lower(self) -> None:
        """Write its rows."""
        setup = [self.to.words(self.setup_at + i * CODE, CODE) for i in range(self.n_setup)]
        code = [self.to.words(self.code_at + i * CODE, CODE) for i in range(self.n_code)]
        for words in setup:
            self._spread(words, 0, min(self.block, self.n_rows))
        for row in range(0, self.n_rows, self.block):
            for words in code:
                self._instruction(words, row, min(self.block, self.n_rows - row))
        self._write()
        for words in code:
            if words[_I["what"]] == SCATTER:
                self._settle(words)

    def _write(self) -> None:
        """Write rows that wait."""
        if self.waiting:
            self.to.lanes(self.waiting, self.n_waiting)
        self.waiting = []

    def _facts(self, r: int) -> list[Any]:
        if r not in self.facts:
            self.facts[r] = self.to.words(self.registers_at + r * REGISTER, REGISTER)
        return self.facts[r]

    def _register(self, r: int, row: int) -> int:
        """The operand of a register, for a block that begins at a row."""
        if r == 0:
            return _NONE
        facts = self._facts(r)
        moved = int(facts[_R["step"]]) * row
        if facts[_R["scratch"]]:
            base = facts[_R["base"]]
            if base not in self.cells:
                lanes = self.block * (self.inner if facts[_R["level"]] in (WIDE, VECTOR) else 1)
                self.cells[base] = self.used
                self.used += 8 * lanes
                self.to.registers_bytes = max(self.to.registers_bytes, self.used)
            return (self.cells[base] + moved) << 1 | 1
        base, offset = facts[_R["base"]]
        if base == TABLES:
            return self.to.constant(int(self.to.text[self.constants_at + (offset - _CONSTANTS_AT) // 8]))
        return self.to.operand((base, offset + moved))

    def _level(self, r: int) -> int:
        return int(self._facts(r)[_R["level"]])

    def _instruction(self, words: list[Any], row: int, n_rows: int) -> None:
        what, width, kernel, mode = (words[_I[name]] for name in ("what", "width", "kernel", "mode"))
        n = n_rows * self.inner if width == WIDE else n_rows if width == NARROW else 1
        if what in (FORWARD, REVERSE):
            names = "abcy" if what == FORWARD else "abcygk"
            operands = {i: self._register(words[_I[name]], row) for i, name in enumerate(names)}
            known = _written_out(kernel, n)
            if known is None:
                self._write()
                self.to.elements(kernel, n, mode, operands)
                return
            if n != self.n_waiting:
                self._write()
            self.n_waiting = n
            self.waiting.append(self.to.row(known, mode, operands))
            return
        self._write()
        to, first = self.to, row * self.inner if width == WIDE else row
        a, y = self._register(words[_I["a"]], row), self._register(words[_I["y"]], row)
        if what == SPREAD:
            self._spread(words, row, n_rows)
        elif what == GATHER:
            source = to.operand(words[_I["address"]])
            for done, offset, length in _runs(self._walk(words), first, n, mode):
                to.move(y + (done << 1), source + (offset << 1), length, mode)
        elif what == PUT:
            target = to.operand(words[_I["address"]])
            for done, offset, length in _runs(self._walk(words), first, n, mode):
                to.add(target + (offset << 1), a + (done << 1), length, mode)
        elif what == ZERO:
            to.move(y, to.constant(0), n, mode, True)
        elif what == SCATTER:
            self._scatter(words, a, first, n)
        elif what == REDUCE:
            to.call(kernel, n_rows, self.inner, _At(a), _At(y), words[_I["count"]])
        else:
            raise _WholeError

    def _walk(self, words: list[Any]) -> list[tuple[int, int]]:
        """The runs of a walk: lengths and strides."""
        at = self.walks_at + (words[_I["walk"]][1] - _WALKS_AT) // 8
        n = int(self.to.text[at])
        found = self.to.text[at + 1 : at + 1 + 2 * n].tolist()
        return list(zip(found[::2], found[1::2], strict=True))

    def _scatter(self, words: list[Any], source: int, first: int, n: int) -> None:
        """Merge lanes into states. See `scatter` of `core/walks.py`."""
        walk, kernel, count, size = self._walk(words), words[_I["kernel"]], words[_I["count"]], words[_I["mode"]]
        target, number = self.to.operand(words[_I["address"]]), min(words[_I["state"]], 8)
        (inner, stride), along = walk[0], walk[1][1] if len(walk) > 1 else 0
        within, run, done = first % inner, first // inner, 0
        while done < n:
            offset = within * stride + _outer(walk, run)
            length, m = min(inner - within, n - done), 1
            if length == inner and ((stride == 0 and along == number) or (stride == number and along == 0)):
                left = walk[1][0] - run % walk[1][0] if len(walk) > 1 else 1
                m = min((n - done) // inner, left)
            given = source + (done * size << 1)
            if stride in (0, number):
                step = TO_ONE if stride == 0 else TO_EACH
                self.to.call(kernel, length, m, _At(given), _At(target + (offset << 1)), count, step)
            else:
                for i in range(length):
                    to = target + (offset + i * stride << 1)
                    self.to.call(kernel, 1, 1, _At(given + (i * size << 1)), _At(to), count, TO_EACH)
            done, run, within = done + length * m, run + m, 0

    def _settle(self, words: list[Any]) -> None:
        kernel, count, finish, terms = (words[_I[name]] for name in ("kernel", "count", "finish", "terms"))
        states, target = self.to.operand(words[_I["address"]]), self.to.operand(words[_I["target"]])
        if finish:
            self.to.call(finish, count, _At(states), terms, _At(target))
        elif states != target:
            self.to.call(kernel, count, 1, _At(states), _At(target), count, SETTLE)

    def _spread(self, words: list[Any], row: int, n_rows: int) -> None:
        """Bring elements to all lanes. See `spread` of `core/blocks.py`."""
        size, a, to = words[_I["mode"]], words[_I["a"]], self.to
        lanes, level = self.inner if words[_I["width"]] == WIDE else 1, self._level(a)
        source, target = self._register(a, row), self._register(words[_I["y"]], row)
        if level == SINGLE:
            to.move(target, source, lanes * n_rows, size, True)
            return
        for i in range(n_rows):
            begin = target + (i * lanes * size << 1)
            if level == VECTOR:
                to.move(begin, source, lanes, size)
            else:
                to.move(begin, source + (i * size << 1), lanes, size, True)


def _outer(walk: Sequence[tuple[int, int]], run: int) -> int:
    offset = 0
    for length, stride in walk[1:]:
        offset += run % length * stride
        run //= length
    return offset


def _runs(walk: Sequence[tuple[int, int]], first: int, n: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Contiguous runs of elements that a walk meets: bytes done, the offset, elements."""
    (inner, stride), at, length = walk[0], 0, 0
    for i in range(n):
        offset = (first + i) % inner * stride + _outer(walk, (first + i) // inner)
        if length and at + length * size == offset:
            length += 1
            continue
        if length:
            yield (i - length) * size, at, length
        at, length = offset, 1
    if length:
        yield (n - length) * size, at, length


def _are_apart(rows: Sequence[tuple[Any, int, int, dict[int, int]]], n: int) -> bool:
    """Whether lanes do not depend on one another: what rows read and write is the same memory, or apart."""
    ranges = {
        (at & 1, at >> 1, kernel.itemsize * (1 if singles >> place & 1 else n))
        for kernel, _, singles, operands in rows
        for place, at in operands.items()
    }
    known = sorted(ranges)
    return all(p[0] != q[0] or p[1] + p[2] <= q[1] for p, q in itertools.pairwise(known))


def _written_out(kernel: int, n: int) -> Any:
    """What a kernel computes, where a row of `n` lanes is written out."""
    known = stencil_of(kernel) if n <= _MOST_LANES else None
    return None if known is not None and n > 1 and known.truths else known


@functools.lru_cache(4096)
def stencil_of(kernel: int) -> Any:
    """What the kernel at an address computes, if its stencils have its bits: else it is called.

    They are compared once, over zeros, infinities, nan and others: a compiler may have done what nobody thought of.
    Raises NotLoweredError.
    """
    known = stencils.kernel_at(kernel)
    try:
        return known if known is not None and _has_bits_of(known, kernel) else None
    except NotImplementedError:
        return None
    except OSError as error:
        raise NotLoweredError from error


def _has_bits_of(known: Any, kernel: int) -> bool:
    """Whether stencils, of a lane and of as many as there can be, have the bits of the kernel at an address."""
    n, random = _COMPARED, np.random.default_rng(0)
    with np.errstate(over="ignore"):
        floats = random.choice(_EDGES, (6, n)).astype(np.float64 if known.itemsize == 8 else np.float32)
    given = np.zeros((6, 8 * n), np.uint8)
    given[:, : known.itemsize * n] = floats.view(np.uint8).reshape(6, -1)
    for place in known.truths:
        given[place, :n] = random.integers(0, 2, n)
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (8 if known.is_partial else 6))(kernel)
    result = K if known.is_partial else Y
    steps = np.array([1 if place in known.truths else known.itemsize for place in range(6)])
    widths = (1,) if known.truths else (1, lanes_isa().widths(known.itemsize)[0])
    for width, mode in itertools.product(widths, (0, FRESH) if known.is_partial else (0,)):
        found, want = given.copy(), given.copy()
        reads = stencils.reads(known, mode) | 1 << result
        at = np.arange(0, n, width)[:, None] * steps + np.arange(6) * given.shape[1]
        operands = np.where(reads >> np.arange(6) & 1 == 1, at << 1, _NONE)
        zeros = np.zeros(n // width, np.int64)
        code = memory.Code(_written(lanes_isa(), [Form(known, mode, width)], zeros, operands, zeros))
        ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(code.address)(address_of(found), 0, 0, 0)
        addresses = (address_of(want) + np.arange(6) * given.shape[1]).tolist()
        function(n, mode, *(addresses if known.is_partial else addresses[:4]))
        if found.tobytes() != want.tobytes():
            return False
    return True


@functools.cache
def _part(name: str) -> int:
    """The address of a compiled part."""
    return engine.part_address(name)


_STEPS: dict[int, Any] = {
    observed.CALLED6: _Rows._called6, observed.CALLED8: _Rows._called8, observed.FILLED: _Rows._filled,
    observed.COPIED: _Rows._copied, observed.ONES: _Rows._ones, observed.ADDED: _Rows._added, GUARD: _Rows._guard,
    observed.BOUND: _Rows._bound,
}  # fmt: skip


# --- writing ----------------------------------------------------------------------------------------------------------


def _written(target: Any, forms: list[Form], form: np.ndarray, operands: np.ndarray, number: np.ndarray) -> bytes:
    """The bytes of all rows."""
    before, has_adjoint = _kept(forms, form, operands)
    keys, which = np.unique(form << 8 | before << 1 | has_adjoint, return_inverse=True)
    made = [_stencil(target, forms[key >> 8], key >> 1 & 127, bool(key & 1)) for key in keys.tolist()]
    lengths = np.array([len(stencil.code) for stencil in made], np.int64)
    ends = len(target.PROLOGUE) + np.cumsum(lengths[which]) if len(which) else np.array([len(target.PROLOGUE)])
    leaves_at = int(ends[-1]) + len(target.SUCCESS)
    if leaves_at > _MOST_BYTES or (len(operands) and int(operands.max()) >> 1 > _MOST_BYTES):
        raise NotLoweredError
    code = np.zeros(int(ends[-1]), np.uint8)
    code[: len(target.PROLOGUE)] = np.frombuffer(target.PROLOGUE, np.uint8)
    for i, stencil in enumerate(made):
        rows = np.flatnonzero(which == i)
        begin = ends[rows] - lengths[i]
        code[begin[:, None] + np.arange(lengths[i])] = np.frombuffer(bytes(stencil.code), np.uint8)
        for patch in stencil.patches:
            values = (
                number[rows] if patch.form == NUMBER
                else np.full(len(rows), leaves_at) if patch.form == EXIT
                else operands[rows, patch.operand]
            )  # fmt: skip
            target.patch(code, begin + patch.at, patch.form, values)
    return bytes(code.tobytes() + target.SUCCESS + target.EPILOGUE)


def _kept(forms: list[Form], form: np.ndarray, operands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which operands of a row are in register 0, as bits: a result from before; and whether its adjoint is in 1."""
    # Of each form: what it reads, where its result is, what kind of lanes it has (0: none), and what it leaves.
    facts = np.zeros((len(forms), 5), np.int64)
    for i, of in enumerate(forms):
        leaves_both = of.word[:1] == ("guard",)
        if of.kernel is not None:
            result = K if of.kernel.is_partial else Y
            kind = of.lanes << 4 | of.kernel.itemsize
            reads = stencils.reads(of.kernel, of.mode) & ~of.singles
            leaves_both = of.kernel.is_truth
            facts[i, :4] = reads, result, kind, of.kernel.is_partial
        facts[i, 4] = leaves_both
    n = len(form)
    if n == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    reads, result, kind, is_partial, leaves_both = facts[form].T
    made = np.take_along_axis(operands, result[:, None], 1)[:, 0]
    # The row that registers are from: that before, but for rows that leave them as they are.
    source = np.maximum.accumulate(np.where(leaves_both == 1, 0, np.arange(n)))
    source = np.concatenate([[0], source[:-1]])
    follows = (kind == kind[source]) & (kind != 0) & (leaves_both[source] == 0) & (np.arange(n) > 0)
    before = np.zeros(n, np.int64)
    for place in range(6):
        is_held = follows & (reads >> place & 1 == 1) & (operands[:, place] == made[source])
        before |= is_held.astype(np.int64) << place
    has_adjoint = follows & (is_partial == 1) & (is_partial[source] == 1) & (operands[:, G] == operands[source, G])
    has_adjoint &= (before >> G & 1) == 0
    return before, has_adjoint.astype(np.int64)


@functools.lru_cache(2048)
def _stencil(target: Any, form: Form, before: int, has_adjoint: bool) -> Any:
    """The stencil of a form."""
    if form.kernel is not None:
        return stencils.write(target, *form[:6], before, has_adjoint)
    to, (what, *given) = target.Stencil(), form.word
    if what == "copy":
        to.copy(K, A, *given)
    elif what == "guard":
        to.guard(A, B, *given)
    else:
        to.call(*given)
    return to


def frame_of(lowered: Lowered) -> tuple[np.ndarray, int]:
    """A frame for a thread, and its address."""
    n = len(lowered.constants)
    frame = np.zeros(n + lowered.frame_bytes // 8 + 8, np.int64)
    frame[:n] = lowered.constants
    return frame, address_of(frame) + 8 * n
