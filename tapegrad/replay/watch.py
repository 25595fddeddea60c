"""A watch: notes what a function records, sweeps and looks at, and writes a program of it.

Every sweep tells it of what it does in memory, step by step, with addresses (`core/observed.py`). An address belongs to
a range of memory that the watch knows: a block that a sweep was given, the elements of a leaf, of a tensor that was
there before. Each such range has a place in the arena of the program. So the program does in the arena what the sweeps
did in memory, in the same order, in the same blocks: its results are the same bits.

What Python code looks at is a guard: the program holds as long as it would see the same bits. What can't be done again
faithfully `fail`s: then there is no program, and the plain function is what is called.
"""

from __future__ import annotations

import bisect
import ctypes
import weakref
from _thread import get_ident
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tapegrad import engine
from tapegrad.callers import unseen
from tapegrad.core import observed
from tapegrad.core.notes import ARENA, NOWHERE, SCRATCH, STEP, TABLES, Notes
from tapegrad.core.observed import NOTE
from tapegrad.core.replaying import CODE, CONTEXT, END, GUARD, HEAD, PIECES, REGISTER
from tapegrad.core.storage import class_size, size_class
from tapegrad.core.tables import GATHER, PUT, SCATTER, STREAM, Instruction, Program, Register
from tapegrad.debug import SMALL
from tapegrad.dtypes import FLOAT64, DType, get_default_dtype
from tapegrad.kernels import Context
from tapegrad.kinds import Kind, address_of, array_at
from tapegrad.memory import index_of, words_of
from tapegrad.replay.shown import ShownNumber, shown
from tapegrad.replay.standins import Draws, Keeper, Number, StandIn, is_shown
from tapegrad.replay.text import Address, Text
from tapegrad.tape import MET, SCRATCH_BYTES, TRACED, UNMET, UNTRACED, H, Tape
from tapegrad.tensor import Tensor, from_array, location

_P, _R, _I, _C = (words_of(record) for record in (Program, Register, Instruction, Context))
_AT = {name: Program.fields[name][0] // 8 for name in ("registers", "code", "setup", "constants", "ahead", "walks")}
_CONTEXT_AT, _PIECES_AT = Program.fields["context"][0] // 8, Program.fields["pieces"][0] // 8
_ADDRESSES_OF_CONTEXT = [_C[name] for name in ("a", "b", "c", "y", "y_bar", "k_bar")]
_VALUES, _BARS, _ROWS, _ROW_BYTES, _SCRATCH = H.values, H.bars, H.rows, H.row_bytes, H.scratch
_OBSERVER = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 11)
_ALIGNMENT = 64
_ROOM = 2 if SMALL else 4096  # notes that are read at once
N = index_of(Notes)
_spare: weakref.WeakKeyDictionary[Tape, Any] = weakref.WeakKeyDictionary()  # notes and cells of the last watch
_NUMBERS = Number, ShownNumber
_OWN = {Tensor, Number, ShownNumber, float, int, bool}
# Operations that are the same bits with a number as an operand, and with a tensor of that number.
_OF_ANY_NUMBER = {
    "add", "sub", "mul", "div", "maximum", "minimum", "fmax", "fmin", "eq", "ne", "lt", "le", "gt", "ge", "pow",
    "remainder", "fmod", "floor_divide", "atan2", "hypot", "copysign", "xlogy", "logaddexp", "where", "_lerp", "clamp",
}  # fmt: skip


def is_float(number: Any) -> bool:
    """Whether a number is a float, or an int that is exactly one."""
    return number.__class__ is not int or -(1 << 53) <= number <= 1 << 53


def _new_notes() -> tuple[np.ndarray, np.ndarray]:
    """Memory for notes, and cells of no slots."""
    return np.empty((_ROOM, NOTE), np.int64), np.zeros((2, 0), np.int64)


class Arena(NamedTuple):
    """What is known of the arena of a program."""

    size: int
    cells: np.ndarray  # offsets of what steps of scalars alone touch, of eight bytes each
    placed: list[tuple[int, int]]  # the other ranges: offsets, bytes
    contents: list[tuple[int, bytes]]  # what is there from the beginning
    itemsizes: dict[int, int]  # bytes of an element of what is the same for all rows of a batch, by offset

    def ranges(self) -> np.ndarray:
        """All ranges: rows of their offsets, and bytes."""
        ranges = np.full((len(self.placed) + len(self.cells), 2), 8, np.int64)
        ranges[: len(self.placed)] = np.array(self.placed, np.int64).reshape(-1, 2)
        ranges[len(self.placed) :, 0] = self.cells
        return ranges


class UnfaithfulError(Exception):
    """What is recorded can't be done again by a program."""


class Region:
    """A range of memory, and its place in the arena, once it has one."""

    __slots__ = ("content", "itemsize", "nbytes", "offset", "source")

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.offset, self.itemsize = nbytes, -1, 0
        self.content: Any = None  # bytes that are there from the beginning
        self.source: Any = None  # or what they are copied from at each call


class Seen(NamedTuple):
    """A guard: the bits that Python code has seen."""

    line: str
    offset: int
    nbytes: int
    bits: bytes
    itemsize: int


class Result(NamedTuple):
    """What is made of elements in the arena: in the form of a `like`."""

    offset: int
    kind: Kind
    like: Any


class Watch:
    """See above. It is the `watch` of a tape while a function is recorded."""

    def __init__(self, tape: Tape, inside: int) -> None:
        self.tape, self.inside = tape, inside  # how many functions of the user's it is in
        self.before = np.zeros(0, np.uint8)  # of slots, whether they are new: see `follow`
        self.failure: str | None = None
        self.fails_always = True
        self.numbers: frozenset[int] = frozenset()  # the places of numbers that were looked at
        self.of_numbers: dict[Any, tuple[Tensor, Any]] = {}  # tensors that stand for numbers of the caller's
        self.draws: list[Any] = []
        self.conditions: list[tuple[Any, Any]] = []  # what numbers were compared with: how, and what came of it
        self.text, self.size = Text(), 0
        self.runs_of_cells: list[tuple[int, int]] = []  # where the arena has cells: from, to
        self.contents: list[tuple[int, bytes]] = []
        self.placed: list[tuple[int, int]] = []  # ranges of the arena that are no cells: offsets, bytes
        self.itemsizes: dict[int, int] = {}  # of the elements of leaves, by offset
        self.copied: list[tuple[Region, Kind, Any]] = []
        self.captured: dict[int, tuple[Region, Tensor, Kind, Any]] = {}  # by slot
        self.seen: list[Seen] = []
        self.shown: dict[int, tuple[Any, Result]] = {}
        self.is_showing = self.is_copying = False
        self.starts: list[int] = []  # of ranges, ascending
        self.ranges: dict[int, Region] = {}
        # What is done with scalars, see `core/observed.py`; where values and adjoints of slots are in the arena, or -1.
        spare: tuple[np.ndarray, np.ndarray] | None = _spare.pop(tape, None)
        self.notes, self.cells = spare or _new_notes()
        self.observer = _OBSERVER(self._told)
        self.address = ctypes.cast(self.observer, ctypes.c_void_p).value or 0
        self.is_over = self.has_changed = self.is_shared_out = self.is_acting = False
        if tape.checks_nan:
            self.failure = "is called where anomaly detection is at work"
        self.gradients: dict[int, tuple[Tensor, Any, bool]] = {}  # as they were, and whether they were looked at
        self.keepers: dict[int, tuple[Keeper, Any]] = {}  # that the function may ask, and their choices
        self.asked: dict[int, Keeper] = {}  # that it has asked
        # Tensors that are found at each call; and by what function, or as whose gradient.
        self.located: dict[int, tuple[Tensor, Any]] = {}
        self.stored: dict[Any, tuple[Callable[[Any], None], Any]] = {}  # by what is kept: what puts it there, the last
        self.kept: dict[Any, Tensor] = {}  # what was found
        self.kept_numbers: set[float] = set()
        self.actions: list[Callable[[], Any]] = []  # of Python's, which come after the program
        self.changed: dict[int, Tensor] = {}  # those that were there before, and have other elements now

    # --- on and off ---------------------------------------------------------------------------------------------------

    def follow(self, function: Callable[[], Any]) -> Any:
        """Call a function, and note what it does."""
        tape, h, at, n_before, is_recording = self.tape, self.tape.h, H.observer, H.n_before, self.tape.grad_enabled
        engine.settle(tape)
        enabled, disabled = tape.enabled, tape.disabled
        self.before = before = np.full(tape.top, UNMET, np.uint8)
        before[tape.free.array[: len(tape.free)]] = before[tape.low] = 0
        n_slots, h[H.before] = len(before), address_of(before)
        h[H.notes], h[H.room_for_notes], h[H.n_notes] = address_of(self.notes), _ROOM, 0
        try:
            tape.enabled, tape.disabled = TRACED, UNTRACED
            tape.grad_enabled = TRACED if is_recording else UNTRACED
            h[at], h[n_before], tape.watch = self.address, n_slots, self
            return function()
        finally:  # by stores, with no call among them: Ctrl-C does not come between
            h[at], h[n_before], tape.watch = 0, 0, None
            tape.enabled, tape.disabled, tape.grad_enabled = enabled, disabled, is_recording

    def fail(self, what: str, always: bool = True) -> None:
        """There will be no program; the first reason is kept, with the user's line, and whether it is one always."""
        if self.failure is None:
            self.failure, self.fails_always = f"{what}, at {location()}", always

    # --- ranges of memory ---------------------------------------------------------------------------------------------

    def _know(self, address: int, nbytes: int, keeps: bool = False) -> Region:
        """A range that is new; those that it overlaps are gone. With `keeps` one that is the same goes on."""
        known = self.ranges.get(address)
        if keeps and known is not None and known.nbytes == nbytes and known.content is None and known.source is None:
            return known
        starts = self.starts
        i = bisect.bisect_right(starts, address)
        if i and starts[i - 1] + self.ranges[starts[i - 1]].nbytes > address:
            i -= 1
        while i < len(starts) and starts[i] < address + nbytes:
            del self.ranges[starts.pop(i)]
        starts.insert(i, address)
        region = self.ranges[address] = Region(nbytes)
        return region

    def _know_nothing(self, address: int) -> None:
        """Where a value without elements is."""
        i = bisect.bisect_right(self.starts, address)
        if not i or address >= self.starts[i - 1] + self.ranges[self.starts[i - 1]].nbytes:
            self._know(address, 1)

    def _placed(self, region: Region) -> int:
        """The offset of a range in the arena."""
        if region.offset < 0:
            alignment = _ALIGNMENT if region.nbytes > 8 else 8
            region.offset = -(-self.size // alignment) * alignment
            self.placed.append((region.offset, region.nbytes))
            if region.itemsize:
                self.itemsizes[region.offset] = region.itemsize
            self.size = region.offset + -(-region.nbytes // alignment) * alignment
            if region.content is not None:
                self.contents.append((region.offset, region.content))
        return region.offset

    def _address(self, address: int) -> Any:
        """An address as what it is in a program."""
        if address == 0:
            return 0
        i = bisect.bisect_right(self.starts, address)
        if i:
            start = self.starts[i - 1]
            region = self.ranges[start]
            if address < start + max(region.nbytes, 1):
                return Address(ARENA, self._placed(region) + address - start)
        h, tape = self.tape.h, self.tape
        for cells, start in zip(self._cells(), (h[_VALUES], h[_BARS]), strict=True):
            slot = (address - start) // 8
            if 0 <= slot < tape.top:
                if cells[slot] < 0:
                    cells[slot] = self.size
                    self._more_cells(self.size + 8)
                return Address(ARENA, int(cells[slot]))
        if 0 <= address - h[H.program] < tape.tables.nbytes:
            return Address(TABLES, address - h[H.program])
        if 0 <= address - h[H.scratch] < SCRATCH_BYTES:
            return Address(SCRATCH, address - h[H.scratch])
        raise UnfaithfulError("reads memory of which nothing is known")

    def arena(self) -> Arena:
        """What there is in the arena of the program."""
        cells = [np.arange(begin, end, 8) for begin, end in self.runs_of_cells]
        return Arena(
            self.size, np.concatenate([*cells, []]).astype(np.int64), self.placed, self.contents, self.itemsizes
        )

    def _more_cells(self, size: int) -> None:
        """Behind what there was in the arena are cells, up to a new size."""
        if size > self.size:
            self.runs_of_cells.append((self.size, size))
            self.size = size

    def _cells(self) -> np.ndarray:
        """The cells of all slots that there are."""
        if self.cells.shape[1] < self.tape.top:
            cells = np.full((2, self.tape.top), -1, np.int64)
            cells[:, : self.cells.shape[1]] = self.cells
            self.cells = cells
        return self.cells

    # --- what sweeps do -----------------------------------------------------------------------------------------------

    def _told(self, what: int, *numbers: int) -> None:
        self.reads_notes()
        if self.failure is None and what != observed.FULL:
            self._writes(_WRITERS[what], *numbers)

    def reads_notes(self) -> None:
        """Read what was noted since the last time."""
        n, self.tape.h[H.n_notes] = self.tape.h[H.n_notes], 0
        if n and self.failure is None:
            self._writes(Watch._noted, n)

    def _noted(self, n: int) -> None:
        steps, bases = np.empty((n, STEP), np.int64), np.empty((n, STEP), np.uint8)
        held, h, (values, bars) = np.empty(n, np.int64), self.tape.h, self._cells()
        regions = self.ranges if len(self.ranges) <= n else {}  # to go through them may not take longer
        ranges = np.array([(at, r.nbytes, r.offset) for at, r in regions.items() if r.offset >= 0], np.int64).reshape(
            -1, 3
        )
        ranges = ranges[np.argsort(ranges[:, 0])]
        facts = {
            N.notes: address_of(self.notes), N.n_notes: n, N.steps: address_of(steps), N.bases: address_of(bases),
            N.held: address_of(held), N.begin: self.text.n_held, N.values: h[_VALUES], N.bars: h[_BARS],
            N.n_slots: self.tape.top, N.value_cells: address_of(values), N.bar_cells: address_of(bars),
            N.rows: h[_ROWS], N.row_bytes: h[_ROW_BYTES], N.scratch: h[_SCRATCH],
            N.ranges: address_of(ranges), N.n_ranges: len(ranges),
        }  # fmt: skip
        words = np.zeros(Notes.nbytes // 8, np.int64)
        words[[*facts]] = [*facts.values()]
        is_more = True
        while is_more:
            words[N.size], n_steps, n_held = self.size, words[N.n_steps], words[N.n_held]
            is_more = engine.call("read_notes", address_of(words)) == 1
            self._more_cells(int(words[N.size]))
            self.text.extend(
                steps[n_steps : words[N.n_steps]], bases[n_steps : words[N.n_steps]], held[n_held : words[N.n_held]]
            )
            if is_more:
                what, *numbers, _ = self.notes[words[N.n_read]].tolist()
                if what in (observed.CALLED6, observed.CALLED8):
                    raise UnfaithfulError("reads memory of which nothing is known")
                _WRITERS[what](self, *numbers)
                words[N.n_read] += 1

    def _writes(self, write: Callable[..., None], *numbers: int) -> None:
        try:
            if get_ident() == self.tape.thread:
                write(self, *numbers)
            else:
                self.fail("is looked into by another thread", False)
        except UnfaithfulError as error:
            self.fail(str(error))
        except BaseException as error:  # noqa: BLE001 - it can't be raised through compiled code
            self.fail(f"can't be followed ({error!r})")

    def _had(self, address: int, nbytes: int, zeroed: int, *_: int) -> None:
        size: int = class_size(size_class(nbytes))  # type: ignore[no-untyped-call]
        region = self._know(address, size, True)
        if zeroed:
            self._filled(address, (nbytes + 7) // 8, 0, 8)
        region.content = None

    def _filled(self, address: int, n: int, bits: int, itemsize: int, *_: int) -> None:
        if n > 0:
            self.text.step(observed.FILLED, self._address(address), n, bits, itemsize)

    def _copied(self, target: int, source: int, nbytes: int, *_: int) -> None:
        self.text.step(observed.COPIED, self._address(target), self._address(source), nbytes)

    def _ones(self, address: int, n: int, code: int, *_: int) -> None:
        self.text.step(observed.ONES, self._address(address), n, code)

    def _added(self, target: int, source: int, code: int, *_: int) -> None:
        self.text.step(observed.ADDED, self._address(target), self._address(source), code)

    def _walk(self, address: int) -> Address:
        n = ctypes.c_int64.from_address(address).value
        return self.text.hold(list((ctypes.c_int64 * (1 + 2 * n)).from_address(address)))

    def _given(self, walk: int, source: int, target: int, n: int, code: int, *_: int) -> None:
        if n:
            self.text.step(observed.GIVEN, self._walk(walk), self._address(source), self._address(target), n, code)

    def _put_back(self, walk: int, source: int, target: int, n: int, size: int, *_: int) -> None:
        if n:
            self.text.step(observed.PUT_BACK, self._walk(walk), self._address(source), self._address(target), n, size)

    def _merged(self, walk: int, source: int, target: int, *numbers: int) -> None:
        if numbers[0]:
            whole = self._walk(walk), self._address(source), self._address(target)
            self.text.step(observed.MERGED, *whole, *numbers[:5])

    def _settled(self, kernel: int, n: int, source: int, target: int, *_: int) -> None:
        self.text.step(observed.SETTLED, kernel, n, self._address(source), self._address(target))

    def _bound(self, *_: int) -> None:
        tables = self.tape.tables
        n_registers, n_code = int(tables[_P["n_registers"]]), int(tables[_P["n_code"]])
        counts = {
            "registers": n_registers * REGISTER, "code": n_code * CODE, "setup": tables[_P["n_setup"]] * CODE,
            "constants": tables[_P["n_constants"]], "ahead": tables[_P["n_ahead"]], "walks": tables[_P["walk_words"]],
        }  # fmt: skip
        image = np.concatenate([tables[:HEAD], *(tables[_AT[name] : _AT[name] + n] for name, n in counts.items())])
        registers = HEAD + REGISTER * np.arange(n_registers)
        code = HEAD + REGISTER * n_registers + CODE * np.arange(n_code)
        what = image[code + _I["what"]]
        is_walk, is_scatter = np.isin(what, (GATHER, SCATTER, PUT)), what == SCATTER
        has_states = is_scatter & (image[code + _I["state"]] != image[code + _I["mode"]])  # which are no results
        places = np.concatenate(
            [
                registers[image[registers + _R["scratch"]] == 0] + _R["base"],
                code[is_walk] + _I["walk"],
                code[is_scatter] + _I["target"],
                code[(is_walk & ~has_states) | (what == STREAM)] + _I["address"],
            ]
        )
        bases = np.full(len(image), NOWHERE, np.uint8)
        image[places], bases[places] = self._addresses(image[places])
        if has_states.any():
            self._states(image, bases, code[has_states].tolist())
        self.is_shared_out |= bool(tables[_P["n_chunks"]] > 1)
        self.text.step(observed.BOUND, self.text.hold_all(image, bases))

    def _addresses(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Addresses, or zeros, as what they are in a program: offsets, and what these are from."""
        offsets, bases = np.zeros(len(numbers), np.int64), np.full(len(numbers), NOWHERE, np.uint8)
        within = numbers - self.tape.h[H.program]
        is_in_tables = (within >= 0) & (within < self.tape.tables.nbytes)
        offsets[is_in_tables], bases[is_in_tables] = within[is_in_tables], TABLES
        others = ~is_in_tables & (numbers != 0)
        known, which = np.unique(numbers[others], return_inverse=True)
        found = np.array([self._address(number)[::-1] for number in known.tolist()], np.int64).reshape(-1, 2)
        offsets[others], bases[others] = found[which].T
        return offsets, bases

    def _states(self, image: np.ndarray, bases: np.ndarray, code: list[int]) -> None:
        """Have states in the arena that instructions merge lanes into, and have them begin there."""
        shared = self._placed(Region(int(self.tape.tables[_P["shared_bytes"]]))) - self.tape.h[H.partials]
        for at in code:
            address, state, n, start = (int(image[at + _I[name]]) for name in ("address", "state", "count", "start"))
            unit = min(state, 8)
            image[at + _I["address"]], bases[at + _I["address"]] = shared + address, ARENA
            states = Address(ARENA, shared + address)
            self.text.step(observed.FILLED, states, n * (state // unit), start, unit)

    def _context(self) -> Address:
        """The context of an array row, with parameters of its own."""
        tables = self.tape.tables
        words = tables[_CONTEXT_AT : _CONTEXT_AT + CONTEXT].tolist()
        for at in _ADDRESSES_OF_CONTEXT:
            words[at] = self._address(words[at])
        n = words[_C["n_params"]]
        if n:
            words[_C["params"]] = self.text.hold(list((ctypes.c_int64 * n).from_address(words[_C["params"]])))
        words[_C["work"]] = self._address(words[_C["work"]])
        return self.text.hold(words)

    def _alone(self, kernel: int, itemsize: int, *_: int) -> None:
        self.text.step(observed.ALONE, kernel, itemsize, 0, 0, 0, 0, 0, self._context())

    def _in_pieces(self, *numbers: int) -> None:
        self.is_shared_out, tables = True, self.tape.tables
        pieces = self.text.hold(tables[_PIECES_AT : _PIECES_AT + PIECES].tolist())
        self.text.step(observed.IN_PIECES, *numbers[:7], self._context(), pieces)

    # --- what is recorded ---------------------------------------------------------------------------------------------

    def makes(self, slot: int) -> None:
        """A slot is new."""
        if slot < len(self.before):
            self.before[slot] = 0

    def is_own(self, t: Tensor) -> bool:
        """Whether a tensor is new."""
        return t._slot >= len(self.before) or not self.before[t._slot]

    def _is_unmet(self, slot: int) -> bool:
        return slot < len(self.before) and self.before[slot] == UNMET

    def records(self, rows: Any) -> None:
        """Rows are about to be recorded: their operands may have been there before."""
        for *operands, _ in rows:
            for t in operands:
                if isinstance(t, Tensor):
                    self.meets(t)

    def elementwise(self, record: Callable[..., Any], op: Any, operands: tuple[Any, ...]) -> Any:
        """Record an operation: unseen by the profiler (see `chance.py`) where it calls none of the user's code."""
        if _OWN.issuperset([x.__class__ for x in operands]):
            return unseen(self._elementwise, record, op, operands)
        return self._elementwise(record, op, operands)

    def _elementwise(self, record: Callable[..., Any], op: Any, operands: tuple[Any, ...]) -> Any:
        """Record an operation; a number of the caller's becomes a tensor, whose element is copied at each call."""
        numbers = [x for x in operands if type(x) in _NUMBERS]
        if not numbers:
            return record(op, *operands)
        if len(operands) == 1 and type(numbers[0].value) is float and not numbers[0].watch.is_over:
            return record(op, self._of_number(numbers[0], get_default_dtype()))
        of_values = operands[1:] if op.name == "where" else operands
        dtypes = {x.dtype for x in of_values if isinstance(x, Tensor)}
        if (
            op.name in _OF_ANY_NUMBER and len(dtypes) == 1 and (dtype := dtypes.pop()).is_floating_point
            and all(is_float(x.value) and not x.watch.is_over for x in numbers)
            and (dtype is FLOAT64 or not any(isinstance(x.value, np.generic) for x in numbers))
        ):  # fmt: skip
            return record(op, *(self._of_number(x, dtype) if type(x) in _NUMBERS else x for x in operands))
        return record(op, *(x.asked() if type(x) in _NUMBERS else x for x in operands))

    def constant(self, make: Callable[..., Tensor], value: Any, dtype: DType) -> Tensor:
        """A 0-d tensor of a number."""
        if type(value) not in _NUMBERS:
            return make(value, dtype)
        if is_float(value.value) and dtype.is_floating_point and not value.watch.is_over:
            return self._of_number(value, dtype)
        return make(value.asked(), dtype)

    def _of_number(self, number: Any, dtype: DType) -> Tensor:
        """A tensor that stands for a number."""
        if type(number) is ShownNumber:
            return number.t if number.t.dtype is dtype else number.t.to(dtype)
        known = self.of_numbers.get((id(number), dtype))
        if known is None:
            with np.errstate(over="ignore"):
                t = from_array(np.array(number.value, dtype.numpy))
            self._comes_from(t, number)
            known = self.of_numbers[id(number), dtype] = t, number
        return known[0]

    def _comes_from(self, t: Tensor, source: Any) -> None:
        """The elements of a leaf are those of a stand-in, or of an array, at each call."""
        region = self.ranges.get(self.tape.slot_words[4 * t._slot + 1]) if t._kind.numel else None
        if region is not None and region.content is not None:
            region.content, region.source = None, source
            self._placed(region)
            self.copied.append((region, t._kind, source))

    def meets(self, t: Tensor) -> None:
        """A tensor is read: if it was there before, its elements are copied at each call."""
        if not self._is_unmet(t._slot) or self.failure is not None:
            return
        kind = t._kind
        if t._tape is not self.tape:
            self.fail("reads a tensor of another thread", False)
        elif kind.requires_grad and not kind.is_leaf:
            self.fail("goes on with a graph that was there before")
        elif kind.requires_grad and getattr(t, "_hooks", None):
            self.fail("reads a leaf that has hooks", False)
        else:
            self._capture(t)
            self.before[t._slot] = MET

    def _capture(self, t: Tensor) -> None:
        kind = t._kind
        address, nbytes = engine.evaluate(self.tape, t._slot), extent(kind)
        if not nbytes:
            self._know_nothing(address)
            self.captured[t._slot] = Region(0), t, kind, getattr(t, "_grad", None)
            return
        i = bisect.bisect_right(self.starts, address)
        inside = i and address + nbytes <= self.starts[i - 1] + self.ranges[self.starts[i - 1]].nbytes
        overlaps = i and address < self.starts[i - 1] + self.ranges[self.starts[i - 1]].nbytes
        overlaps = overlaps or (i < len(self.starts) and self.starts[i] < address + nbytes)
        if overlaps and not inside:
            self.fail("reads tensors that share some of their elements")
            return
        if inside:  # a view of what is known: it must be one at each call
            self.fail("reads tensors that share their elements") if address != self.starts[i - 1] else None
            region = self.ranges[self.starts[i - 1]]
            if region.nbytes != nbytes or region.source is None:
                self.fail("reads tensors that share their elements")
        else:
            region = self._know(address, nbytes)
            region.source, region.itemsize = t, kind.itemsize
        self._placed(region)
        self.captured[t._slot] = region, t, kind, getattr(t, "_grad", None)

    def holds(self, t: Tensor, address: int, array: Any) -> None:
        """A leaf is new, with the elements of an array."""
        self.makes(t._slot)
        nbytes = extent(t._kind)
        if not nbytes:
            self._know_nothing(address)
        elif array is not None:
            region = self._know(address, nbytes)
            region.content, region.itemsize = ctypes.string_at(address, nbytes), t._kind.itemsize

    def copies(self, make: Callable[..., Tensor], data: Any, *facts: Any) -> Tensor:
        """A leaf is made of data."""
        is_standin = type(data) in (StandIn, Number) and data.watch is self
        given = data.value if type(data) in (StandIn, Number) or is_shown(data) else data
        if is_shown(data) and data.watch is self:
            made: Tensor = make(given, *facts)
            self._goes_on(made, data)
            return made
        if self.is_copying or not (is_standin or (isinstance(given, np.ndarray) and make.__name__ != "_from_array")):
            return make(given, *facts)
        self.is_copying = True
        try:
            t: Tensor = make(given, *facts)
        finally:
            self.is_copying = False
        self._comes_from(t, data if is_standin else given)
        return t

    def _goes_on(self, t: Tensor, data: Any) -> None:
        """The elements of a leaf are those of a tensor that was computed before."""
        of, kind = data.t, t._kind
        if of.dtype is not kind.dtype:
            of = of.to(kind.dtype)
        self._copy(of.contiguous(), t)

    def _copy(self, of: Tensor, t: Tensor) -> None:
        """Copy the elements of a tensor to a leaf, which has the same; this is a step."""
        address, kind = engine.evaluate(self.tape, of._slot), t._kind
        if self.failure is not None or not kind.numel:
            return
        to = self.tape.slot_words[4 * t._slot + 1]
        region, nbytes = self.ranges.get(to), kind.numel * kind.itemsize
        if region is None or not kind.contiguous or ctypes.string_at(address, nbytes) != ctypes.string_at(to, nbytes):
            self.fail("goes on with what a transform has made otherwise than is known to be exact")
            return
        region.content = None
        try:
            source = self._address(address)
        except UnfaithfulError as error:
            self.fail(str(error))
            return
        self.text.step(observed.COPIED, Address(ARENA, self._placed(region)), source, nbytes)

    def steady(self, t: Tensor) -> Tensor:
        """A leaf with the elements that a tensor has now that NumPy can write to."""
        self.meets(t)
        if self.is_own(t) or t._kind.requires_grad:
            self.fail("shares memory with NumPy")
        made = from_array(array_at(self.tape.slot_words[4 * t._slot + 1], t._kind, None).copy())
        if self.failure is None and t._kind.numel:
            source, of = self._address(self.tape.slot_words[4 * t._slot + 1]), made._kind
            if not t._kind.contiguous:
                self.fail("shares memory with NumPy")
            region = self.ranges[self.tape.slot_words[4 * made._slot + 1]]
            region.content = None
            nbytes = of.numel * of.itemsize
            self.text.step(observed.COPIED, Address(ARENA, self._placed(region)), source, nbytes)
        return made

    def reads_grad(self, t: Tensor) -> None:
        """The gradient of a tensor is looked for: at each call there must be one, or none."""
        if self._was_there(t) and id(t) not in self.gradients:
            gradient = getattr(t, "_grad", None)
            self.gradients[id(t)] = t, gradient, True
            if gradient is not None:
                self.located.setdefault(id(gradient), (gradient, t))

    def writes_grad(self, t: Tensor) -> None:
        """A tensor is given another gradient: what it has before does not matter, unless it was looked for."""
        if self._was_there(t):
            self.has_changed = True
            self.gradients.setdefault(id(t), (t, getattr(t, "_grad", None), False))

    def changes(self, t: Tensor) -> None:
        """A tensor is given another value, or another kind."""
        if self._was_there(t):
            self.has_changed = True
            self.meets(t)
            self.changed[id(t)] = t

    def _was_there(self, t: Tensor) -> bool:
        return not self.is_own(t) or id(t) in self.changed

    # --- what is kept from call to call -------------------------------------------------------------------------------

    def asks(self, keeper: Keeper) -> bool:
        """Whether a program can ask a keeper: it was found before, and its choices are what they were."""
        before = self.keepers.get(id(keeper))
        if before is None or before[1] != keeper.choices(True):
            self.fail(f"asks {type(keeper).__name__} for what it has changed, or could not be found before")
        elif self.actions:
            self.fail(f"asks {type(keeper).__name__} after its schedule")
        elif self.failure is None and id(keeper) not in self.asked:
            self.asked[id(keeper)] = keeper
            self.conditions.append((lambda *_: keeper.choices(False), keeper.choices(False)))
        return self.failure is None

    def finds(self, key: Any, find: Callable[[], Any], value: Any) -> Any:
        """What stands for a number, or a tensor, that is found at each call, or that was stored before in this."""
        if key in self.stored:
            return self.stored[key][1]
        if isinstance(value, Tensor):
            self.located.setdefault(id(value), (value, find))
            self.kept[key] = value
        if type(value) not in (int, float):
            return value
        self.kept_numbers.add(value)
        return Number(self, value, lambda *_: find(), None)

    def stores(self, key: Any, put: Callable[[Any], None], value: Any) -> Any:
        """Something is kept for the next call; returns it, not what stands for it."""
        self.stored[key], self.has_changed = (put, value), True
        if type(value) is not Number:
            return value
        self.kept_numbers.add(value.value)
        return value.value

    def acts(self, action: Callable[[], Any]) -> None:
        """Python does what it does after each replay too."""
        self.has_changed = self.is_acting = True
        self.actions.append(action)
        try:
            action()
        finally:
            self.is_acting = False
        self.keepers = {key: (keeper, keeper.choices(True)) for key, (keeper, _) in self.keepers.items()}
        self.kept_numbers |= {number for keeper, _ in self.keepers.values() for number in keeper.rates()}

    def draws_from(self, again: Callable[[], Any]) -> Any:
        """What stands for the generator that a function answers with."""
        self.tape.watch = None
        try:
            return Draws(self, again(), again)
        finally:
            self.tape.watch = self

    # --- what is looked at --------------------------------------------------------------------------------------------

    def learns(self, t: Tensor) -> None:
        """Python code looks at elements: a program holds while they are the same bits."""
        if self.is_showing or self.failure is not None:
            return
        self.meets(t)
        kind = t._kind
        nbytes = extent(kind)
        if not nbytes or self.failure is not None:
            return
        if kind.exported:
            self.fail("shares memory with NumPy")
            return
        address = self.tape.slot_words[4 * t._slot + 1]
        region = self.ranges.get(address)
        if region is not None and region.content is not None and region.offset < 0:
            return  # a constant
        try:
            place = self._address(address)
        except UnfaithfulError as error:
            self.fail(str(error))
            return
        bits = ctypes.string_at(address, nbytes)
        padded = bits + bytes(-nbytes % 8)
        expected = self.text.hold(np.frombuffer(padded, np.int64).tolist())
        self.text.step(GUARD, place, expected, nbytes, len(self.seen))
        self.seen.append(Seen(location(), place.offset, nbytes, bits, kind.itemsize))

    def shows(self, t: Tensor, make: Callable[[], Any]) -> Any:
        """What a transform makes of a tensor for its caller: if that is the caller of the program, no guard."""
        outermost = not self.inside
        if outermost:
            self.meets(t)
        before, self.is_showing = self.is_showing, True
        try:
            if not outermost:
                engine.evaluate(self.tape, t._slot)
            made = make()
        finally:
            self.is_showing = before
        if not outermost:
            stand_in = shown(self, made, t) if self.failure is None else None
            if stand_in is None:
                self.learns(t)
            return made if stand_in is None else stand_in
        if (result := self.result(t, made)) is not None:
            self.shown[id(made)] = made, result
        return made

    def result(self, t: Tensor, like: Any) -> Result | None:
        """How to make of a tensor's elements what is like `like`."""
        engine.evaluate(self.tape, t._slot)
        if self.failure is not None:
            return None
        if not isinstance(like, (float, np.ndarray, np.generic, Tensor)):
            self.fail("returns numbers that are no floats")
            return None
        kind = t._kind
        if not kind.numel:
            return Result(-1, kind, like)
        try:
            return Result(self._address(self.tape.slot_words[4 * t._slot + 1]).offset, kind, like)
        except UnfaithfulError as error:
            self.fail(str(error))
            return None

    def read(self) -> list[Any]:
        """Tensors that were there before, and arrays that were not given, of which elements are copied at each call."""
        arrays = [source for *_, source in self.copied if type(source) is np.ndarray]
        return [*arrays, *(t for _, t, *_ in self.captured.values())]

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Whether all that was there before is as it was; and the last step."""
        for slot, (_, t, kind, gradient) in self.captured.items():
            is_known = t._slot == slot or id(t) in self.changed
            is_known = is_known and (getattr(t, "_grad", None) is gradient or id(t) in self.gradients)
            if t._kind.exported and not kind.exported:
                self.fail("shares memory with NumPy")
            if not (is_known and are_alike(t._kind, kind)):
                self.fail("changes a tensor that was there before")
        if any(keeper.choices(True) != choices for keeper, choices in self.keepers.values()):
            self.fail("changes the choices of an optimiser")
        self.text.step(END)

    def end(self) -> None:
        """It is over; what it has seen is let go."""
        self.is_over = True
        for table in (
            self.captured, self.of_numbers, self.shown, self.gradients, self.changed, self.located,
            self.stored, self.kept, self.ranges, self.starts, self.copied, self.keepers, self.asked,
        ):  # fmt: skip
            table.clear()
        self.text = Text()
        self.cells[self.cells >= 0] = -1
        _spare[self.tape] = self.notes, self.cells


def are_alike(kind: Kind, other: Kind) -> bool:
    """Whether a program for tensors of one kind is one for the other: without gradients, leaves are like all others."""
    return kind is other or (
        not (kind.requires_grad or other.requires_grad or kind.exported or other.exported)
        and (kind.dtype, kind.shape, kind.strides) == (other.dtype, other.shape, other.strides)
    )


def extent(kind: Kind) -> int:
    """The bytes between the first of a value's elements and the end of the last."""
    if not kind.numel:
        return 0
    return sum((n - 1) * step for n, step in zip(kind.shape, kind.strides, strict=True)) + kind.itemsize


_WRITERS: dict[int, Callable[..., None]] = {
    observed.HAD: Watch._had, observed.FILLED: Watch._filled, observed.COPIED: Watch._copied,
    observed.ONES: Watch._ones, observed.GIVEN: Watch._given, observed.PUT_BACK: Watch._put_back,
    observed.MERGED: Watch._merged, observed.BOUND: Watch._bound, observed.ALONE: Watch._alone,
    observed.IN_PIECES: Watch._in_pieces,
    observed.ADDED: Watch._added, observed.SETTLED: Watch._settled,
}  # fmt: skip
