"""The Wengert tape: rows and slots, held in flat NumPy arrays.

A row (24 bytes) is one recorded operation. Fields `b` and `c` together are either two more operands or one immediate:

      0        2       4       8        12       16      20      24
      +--------+-------+-------+--------+--------+-------+-------+
      | opcode | flags |  out  |   b    |   c    |   a   | kind  |
      +--------+-------+-------+--------+--------+-------+-------+
                               | imm: float64    |
                               +-----------------+

`out`, `a`, `b`, `c` are slots (-1: none). A slot (32 bytes) is one value: where its elements are, and its adjoint.

      0       4       8                16                24      28      32
      +-------+-------+-----------------+-----------------+-------+-------+
      | kind  |  row  | primal: address | adjoint: address| base  | flags |
      +-------+-------+-----------------+-----------------+-------+-------+

A kind is what is known of a value before it is computed: see `kinds.py`.

Invariants
- Rows are in topological order: an operand's row comes before every row that reads it.
- A slot is written once. Its byte in `live` counts its handles (`Tensor`), whose finalisers count it down: there is at
  most one, and those that a recorded reverse sweep lends to rules.
- A slot that is STORED has its elements at `primal`; the storage is its own (OWNED), its base's (a view), or a NumPy
  array in `arrays` (a leaf that borrows). A slot that is not stored can be computed again from its row.
- Rows move when dead ones are reclaimed; slots never move, and are used again when nothing refers to them.
- What is held as a number of a slot or an address, and not by a handle, is held only where nothing is reclaimed: while
  `sweeping` is set, which it is until the adjoints of a sweep have owners.
- Ctrl-C comes only where Python lets it in: at the beginning of a function, after a call, at the end of a loop's body.
  So a change is made ready aside, and then done by stores with no call among them; whatever comes earlier leaves the
  tape as it was.

Compiled code (`core/`) reads these arrays at the addresses in `header`, whose records are declared below.
"""

from __future__ import annotations

import struct
import sys
import threading
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from tapegrad import locks
from tapegrad.debug import SMALL
from tapegrad.dtypes import DTYPES
from tapegrad.kinds import FORWARD, address_of, objects
from tapegrad.memory import Record, array, at, index_of, inside, over, word

ROW = np.dtype(
    [("opcode", "i2"), ("flags", "i2"), ("out", "i4"), ("b", "i4"), ("c", "i4"), ("a", "i4"), ("kind", "i4")]
)
SLOT = np.dtype([("kind", "i4"), ("row", "i4"), ("primal", "i8"), ("adjoint", "i8"), ("base", "i4"), ("flags", "i4")])
ROW_BYTES = ROW.itemsize
OPCODES = 1024  # operations that there may be

# Flags of a row.
IMM_A, IMM_B = 1, 2  # the operand is the immediate
# One of the rows that fill a slot together (a concatenation has a row a piece), and its ends.
PIECE, FIRST, LAST = 128, 4, 8
CONSUMED = 16  # swept in reverse, and what its rule had saved was let go
PARAMS = 32  # `c` is the index of the row's parameters in the pool of numbers
VARIANT = 64  # the node has the op's second name

# Of a tape's `grad_enabled`, beside True and False: rows are recorded in Python, which notes the lines that they come
# from. Where there are no tangents, FORWARD is UNTRACED.
# PACKED: in Python too, which gives what rules read to hooks of the user's (`autograd/saved.py`).
TRACED, UNTRACED, PACKED = 1, FORWARD, 2

# What a watch knows of a slot, if not that it is new: it was there before, and its tensor is yet to be met, or was.
UNMET, MET = 1, 2

# Flags of a slot.
STORED, OWNED, FREE = 1, 2, 4
LENT, PARTLY = 8, 16  # its adjoint is a part of its base's; of it, some bytes only were written: see `adjoints.py`

_FEW_NEW = 48  # rows that are entered in their slots sooner one by one than by NumPy
_out_and_kind, _pack_slot = struct.Struct("=4xi12xi").unpack_from, struct.Struct("=iiqqii").pack_into

_FIRST_ROWS, _FIRST_SLOTS, _BATCH = (1, 2, 1) if SMALL else (4096, 8192, 4096)
_LOW = 2 if SMALL else 64  # slots below this are for gradients, which outlive the rows of however long a graph
BINS = 288  # lists of free blocks: see `storage.py`
TABLES = 1 << 19  # int64 for the program of the region being swept
CONTEXT_BYTES = 512  # before a thread's registers: what an array operation is given there, and its parameters
SCRATCH_BYTES = 1 << 23  # of address space for the registers of a block: twice the most; few touch more than 64 kB


# --- what compiled code knows of a tape -------------------------------------------------------------------------------


class Row(Record, dtype=ROW):
    """A row."""

    immediate = over("b", np.float64)
    bits = over("b")  # of the immediate
    offset = over("b")  # of a view without parameters, in bytes


class Slot(Record, dtype=SLOT):
    """A slot."""


class Request(Record):
    """What a sweep is asked for."""

    lists = array(np.int32, "n_lists")  # slots: targets, pairs of a seed and its adjoint (-1: ones), inputs
    n_lists = word()  # the room that there is
    n_targets = word()
    n_seeds = word()
    n_inputs = word()
    prune = word()  # whether only what leads to the inputs is swept
    retain_graph = word()  # whether rules keep what they have saved
    paced = word()  # whether the sweep pauses when it is planned, and after each step: for a profile


class Plan(Record):
    """Which rows a sweep goes through, and in which regions: see `schedule.py`."""

    n_planned = word()
    planned = array(np.int32, "end")  # rows, newest first
    marks = array(np.uint8, "top")  # of slots
    n_regions = word()
    fused = word()  # the region that is swept forward and in reverse at once, or -1
    order = array(np.int32, "end")  # the planned rows region by region, oldest first
    begin = array(np.int32, "end", 2)  # where each region begins there, and the last ends
    spaces = array(np.int32, "end", 1)  # of regions; -1 for a row that is swept by itself
    inner = array(np.int32, "end", 1)  # the elements of a row of regions swept in whole rows, else 1
    region = array(np.int32, "top")  # of the row that makes a slot's value
    region_of_row = array(np.int32, "end")  # while regions are made: of each planned row, oldest first
    counted = word()  # the row from which on the reads that are still to come were counted, or -1: see `readers.py`
    readers = array(np.int32, "top")  # of each slot
    latest = array(np.int32, "n_latest")  # and the latest region over each space
    n_latest = word()
    values = array(np.float64, "top")  # of scalars, and their adjoints: see `scalars.py`
    bars = array(np.float64, "top")
    n_met = word()
    n_evaluated = word()
    n_staying = word()
    switched = word()


class Segments(Record):
    """How a sweep's values keep to a limit: see `core/segments.py`."""

    limit = word()  # bytes, or 0
    n_segments = word()
    cuts = array(np.int32, "end", 2)  # the region with which each begins, and the last ends
    until = array(np.int32, "top")  # of each slot, the last segment that reads it
    at_segment = word()  # that is being swept in reverse
    first_step = word()


class Progress(Record):
    """How far a sweep is, and what has stopped it."""

    phase = word()
    at_step = word()
    budget = word()  # lanes of an instruction before Python looks at signals
    bound = word()  # the region that the program is of, or -1
    at_chunk = word()
    crew = word()  # the address of the workers' words, 0 for one thread
    missing_workers = word()
    host_row = word()
    error_row = word()
    error_batch = word()
    error_index = word()
    reached = array(np.int32, "top")  # the slots whose adjoints were left for the caller
    n_reached = word()


class Binding(Record):
    """Where values and adjoints are while a region is bound; the stamp of a slot says whether that is of this time."""

    stamps = word()  # how many regions were bound
    binding = word()  # the region
    stamp = array(np.int32, "top")
    register = array(np.int32, "top")
    want = array(np.int32, "top")  # the stamp of values that the rules read
    taken = array(np.int32, "top")  # and of those to whose adjoints they add
    bar_stamp = array(np.int32, "top")
    bar_register = array(np.int32, "top")


class Storage(Record):
    """Memory for values and adjoints: see `storage.py`."""

    allocate = word()  # addresses of functions
    allocate_zeroed = word()
    release = word()
    advise = word()
    bins = array(np.int64, BINS)
    kept = word()  # bytes
    idle = word()  # of them, those that nobody has asked for in so many turns
    turns = word()
    allocated = word()  # bytes since the last reclaiming, and before
    allocated_before = word()
    partials = word()  # the address of states that chunks and pieces have apart
    partial_bytes = word()
    freed = array(np.int32, "top")  # the slots that the last reclaiming freed
    n_freed = word()


class Guarded(Record):
    """TAPEGRAD_DEBUG=memory, see `guards.py`: the blocks in use, the row being swept, and what has happened."""

    blocks = word()
    at_row = word()
    fault = word()
    fault_row = word()
    fault_slot = word()
    fault_offset = word()
    fault_nbytes = word()


class Recording(Record):
    """What recording needs to know."""

    thread = word()  # whose tape it is
    filled = word()  # bytes of rows recorded, and to be had
    row_bytes = word()
    free = array(np.int32, "n_slots")  # the stack of free slots, and its height
    n_free = word()
    n_slots = word()  # to be had
    before = array(np.uint8, "n_before")  # of slots, while a watch notes what is recorded: UNMET, MET, or 0 if new
    n_before = word()  # slots that there were when it began, or 0 where there is none


class Header(Record):
    """A tape: compiled code has it in a variable of that name."""

    fixed = True
    end = word()  # rows
    synced = word()  # those of them that are entered in their slots
    settled = word()  # those whose live values are known to be in memory
    top = word()  # slots
    n_kinds = word()
    n_pool = word()
    rows = array(Row, "end")
    slots = array(Slot, "top")
    live = array(np.uint8, "top")
    kinds = array("KindRecord", "n_kinds")
    pool = array(np.int64, "n_pool")
    ops = array("OpRecord", OPCODES)
    kernels = array("Kernels", OPCODES * len(DTYPES))
    sum_opcode = word()
    program = at("Program")  # of the region being swept
    scratch = word()  # the address of this thread's registers
    cache_bytes = word()  # that the registers of a block may take
    stream_bytes = word()  # of results beyond which they are written past the caches
    gemm64 = word()  # addresses of BLAS's products, and of the table of LAPACK's routines
    gemm32 = word()
    lapack = word()
    switch_values = word()  # addresses: see `kernels/switch.py`
    switch_adjoints = word()
    observer = word()  # the address of a function that is told what a sweep does, or 0: see `core/observed.py`
    notes = word()  # where what is done with scalars is noted for it, how much that is, and for how much there is room
    n_notes = word()
    room_for_notes = word()
    request = inside(Request)
    plan = inside(Plan)
    segments = inside(Segments)
    progress = inside(Progress)
    binding = inside(Binding)
    storage = inside(Storage)
    guarded = inside(Guarded)
    recording = inside(Recording)


H = index_of(Header)  # the records within it too

T = TypeVar("T")


def scratch_in(memory: np.ndarray) -> int:
    """Where a thread's registers begin in its scratch memory: at a line of the cache, behind its context."""
    return -(-address_of(memory) // 64) * 64 + CONTEXT_BYTES


# Filled by `ops/declare.py`: the name and the number of operands of each opcode, for the listing.
opcode_names: list[tuple[str, int]] = []


class FreeSlots:
    """Slots that nothing refers to: a stack in memory, its height in the tape's header. Their `live` byte is set."""

    __slots__ = ("array", "h", "memory")

    def __init__(self, h: memoryview) -> None:
        self.h = h
        self.array = np.zeros(0, np.int32)
        self.memory = self.array.data

    def __len__(self) -> int:
        return self.h[_N_FREE]  # type: ignore[no-any-return]

    def pop(self) -> int:
        """Take the last."""
        height = self.h[_N_FREE] - 1
        if height < 0:
            raise IndexError("there is no free slot")
        slot: int = self.memory[height]
        self.h[_N_FREE] = height
        return slot

    def extend(self, slots: Any) -> None:
        """Put these on the stack, the last on top."""
        start = self.h[_N_FREE]
        stop = start + len(slots)
        self.array[start:stop] = slots
        self.h[_N_FREE] = stop

    def resize(self, capacity: int) -> None:
        """Have room for `capacity` slots."""
        array = np.zeros(capacity, np.int32)
        address, memory, at, known = address_of(array), array.data, H.free, slice(0, len(self))
        array[known] = self.array[known]
        self.h[at], self.array, self.memory = address, array, memory


_FILLED, _ROW_BYTES, _N_FREE, _N_REACHED, _N_SLOTS, _SYNCED = (
    H.filled, H.row_bytes, H.n_free, H.n_reached, H.n_slots, H.synced
)  # fmt: skip
# Arrays beside the rows and beside the slots, where plans are written.
_ROW_VIEWS: dict[str, type[np.generic]] = dict.fromkeys(
    ("planned", "region_of_row", "order", "begin", "spaces", "inner", "cuts"), np.int32
)
_SLOT_VIEWS: dict[str, type[np.generic]] = {
    **dict.fromkeys(
        (
            "region",
            "readers",
            "until",
            "stamp",
            "want",
            "taken",
            "register",
            "bar_stamp",
            "bar_register",
            "freed",
            "reached",
        ),
        np.int32,
    ),
    "marks": np.uint8,
    "values": np.float64,
    "bars": np.float64,
}


def _places_of(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where the header has the addresses of arrays, and the addresses."""
    places = np.array([getattr(H, name) for name in arrays])
    return places, np.array([address_of(array) for array in arrays.values()], np.int64)


LOST = "lost"  # `sweeping` in a forked child, where the thread that did is not there
_tapes: weakref.WeakSet[Tape] = weakref.WeakSet()


def checked_limit(limit: int | None) -> int | None:
    """A number of bytes, or None; errors for all else."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise TypeError(f"memory_limit is a number of bytes, or None, not {type(limit).__name__}")
    if limit is not None and not 0 < limit < 1 << 63:
        raise ValueError(f"memory_limit is a positive number of bytes, or None, but got {limit}")
    return limit


class Tape:
    """One thread's recording: its rows, its slots, and the memory they refer to.

    `print(tape)` lists the rows; `tape.nbytes` is the size of its arrays, the values not included.

    >>> import tapegrad as tg
    >>> x = tg.ones(3, requires_grad=True)
    >>> y = (x * 2).sum()
    >>> tg.current_tape().nbytes > 0
    True
    """

    __slots__ = (
        "__weakref__", "_reached", "_row_views", "_slot_views", "arrays", "bins", "capacity", "checks_nan",
        "constants", "disabled", "duals", "enabled", "former", "free", "generation", "grad_enabled", "h",
        "header", "header_address", "hooks", "hosts", "imported", "latest", "leaves", "let_go", "lists", "live",
        "lock", "low", "nodes", "of_arrays", "packs", "patience", "places", "profiler", "retained", "rows", "scratch",
        "slot_capacity", "slot_ints", "slot_words", "slots", "spare", "survivors", "sweep_seconds", "sweeping",
        "swept", "tables", "thread", "top", "watch",
    )  # fmt: skip

    def __init__(self) -> None:
        self.thread = get_ident()  # 0 once it has ended: identities are used again
        self.lock = threading.RLock()  # held while slots and rows change that are there already
        self.grad_enabled: Any = True  # or TRACED, PACKED, False, UNTRACED, FORWARD
        self.enabled: Any = True  # what it is where gradients are recorded, and where they are not
        self.disabled: Any = False
        self.watch: Any = None  # what notes all that is recorded and looked at: see `replay/`
        self.packs: Any = None  # what packs what the rules of a new row read: see `autograd/saved.py`
        self.of_arrays = 0  # functions of arrays that are going on, where Tensors stand for these
        self.checks_nan = False
        self.duals: Any = None  # the level of forward mode, of `autograd/forward_ad.py`
        self.top = 0  # slots from here on were never used
        self.arrays: dict[int, Any] = {}  # the NumPy arrays that slots borrow
        self.leaves: dict[int, Any] = {}  # weak references to the handles of leaves that require grad
        self.former: dict[int, Any] = {}  # and, by the slots that they had before they were written to
        self.retained: dict[int, Any] = {}  # and to those that asked for retain_grad()
        self.hooks: dict[int, Any] = {}  # of what was computed
        self.hosts: dict[int, Any] = {}  # the (forward, vjp, jvp) of host rows
        self.nodes: dict[int, Any] = {}  # functions of the user's
        self.places: dict[int, str] = {}  # where rows were recorded whose operation may fail by its values
        self.let_go: Any = None  # releases the values that the tape owns: entered by engine.py
        self.imported: dict[int, Any] = {}  # of tensors of other tapes, by id: weak reference, tape, slot, kind, leaf
        self.constants: dict[Any, Any] = {}  # what makes 0-d tensors of numbers, by dtype
        self.survivors = 0  # rows that the last reclaiming kept
        self.swept = 0  # what the last large graph was made for that a reverse sweep has let go of
        self.generation = 0  # how often rows moved, or slots were put on the list of free ones
        self.spare, self.patience = 0, 1  # reclaimings in a row that found little in use; how many give up room
        self.sweep_seconds = 0.0
        self.sweeping: Any = None  # the frame that sweeps
        self.profiler: Any = None  # is told of each step of a sweep: see `viz/profiling.py`
        self.capacity = self.slot_capacity = 0
        self.header = np.zeros(Header.nbytes // 8, np.int64)
        self.header_address = address_of(self.header)
        self.h = self.header.data  # the quick way in from Python
        self.free = FreeSlots(self.h)
        self.header[H.thread] = self.thread
        self.lists = np.zeros(2 if SMALL else 1024, np.int32).data
        self.header[H.lists], self.header[H.n_lists] = address_of(np.asarray(self.lists)), len(self.lists)
        self.scratch = np.empty(SCRATCH_BYTES, np.uint8)
        self.header[H.scratch] = scratch_in(self.scratch)
        self.bins = np.zeros(BINS, np.int64)
        self.header[H.bins] = address_of(self.bins)
        self.tables = np.zeros(TABLES, np.int64)  # zero: what it knows is told from what it does not by a stamp
        self.header[H.program] = address_of(self.tables)
        self.latest = np.full(1 if SMALL else 256, -1, np.int32)
        self.header[H.latest], self.header[H.n_latest] = address_of(self.latest), len(self.latest)
        self.rows, self.live = bytearray(), bytearray()
        self.slots: np.ndarray = np.zeros(0, SLOT)
        self._row_views: dict[str, np.ndarray] = {}
        self._slot_views: dict[str, np.ndarray] = {}
        self.resize_rows(_FIRST_ROWS)
        self.resize_slots(_FIRST_SLOTS)
        self.slots["flags"][:_LOW], self.top = FREE, _LOW  # slot 0 is nobody's
        self.low = list(range(_LOW - 1, 0, -1))  # those that are free
        _tapes.add(self)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.let_go is not None and not is_finalizing():
            self.let_go(self)

    @property
    def end(self) -> int:
        """Where the next row goes, in bytes."""
        return self.h[_FILLED]  # type: ignore[no-any-return]

    @end.setter
    def end(self, end: int) -> None:
        self.h[_FILLED] = end

    def resize_rows(self, capacity: int) -> None:
        """Have room for `capacity` rows."""
        rows = bytearray(capacity * ROW.itemsize)
        views = self._continued(_ROW_VIEWS, capacity + 2, self._row_views)
        views["rows"] = recorded = np.frombuffer(rows, ROW)
        known, size, (places, addresses) = slice(0, len(self)), len(rows), _places_of(views)
        if known.stop:
            recorded[known] = self._row_views["rows"][known]
        self.header[places] = addresses
        self.rows, self._row_views, self.capacity = rows, views, capacity
        self.h[_ROW_BYTES] = size

    def resize_slots(self, capacity: int) -> None:
        """Have room for `capacity` slots."""
        live = bytearray(b"\1") * capacity
        views = self._continued(_SLOT_VIEWS, capacity, self._slot_views)
        views["slots"] = slots = np.zeros(capacity, SLOT)
        memory, reached, used = slots.view(np.uint8).data, views["reached"].data, slice(0, self.top)
        words, ints, (places, addresses) = memory.cast("q"), memory.cast("i"), _places_of(views)
        self.generation += 1
        self.free.resize(capacity)
        self._move_live(live)
        slots[used] = self.slots[used]
        self.header[places] = addresses
        self.slots, self.slot_words, self.slot_ints, self.slot_capacity = slots, words, ints, capacity
        self._slot_views, self._reached = views, reached
        self.h[_N_SLOTS] = capacity

    def forget_stamps(self) -> None:
        """Begin to count regions anew, before their number is too large for an int32."""
        for name in ("stamp", "want", "taken", "bar_stamp"):
            self._slot_views[name][:] = 0
        self.tables[:] = 0
        self.header[H.stamps] = 0

    def _move_live(self, live: bytearray) -> None:
        """Go over to another `live`.

        Finalisers write to the one whose address is in the header, on any thread, and whenever an object is made that
        the garbage collector tracks. So all objects are made first, and nothing can come between copy and address.
        """
        of, at, known, old = np.frombuffer(live, np.uint8), H.live, slice(0, min(len(live), len(self.live))), self.live
        address, before = address_of(of), np.frombuffer(old, np.uint8)[known]
        of[known] = before
        self.h[at] = address
        self.live = live

    @staticmethod
    def _continued(
        types: dict[str, type[np.generic]], capacity: int, old: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """New arrays in the place of old ones, with what is in them: they may be in use."""
        views = {name: np.zeros(capacity, dtype) for name, dtype in types.items()}
        for name, view in views.items():
            n = min(capacity, len(old.get(name, ())))
            view[:n] = old[name][:n] if n else 0
        return views

    @property
    def memory_limit(self) -> int | None:
        """Bytes of values that sweeps keep to; None for no limit. Can be set: see `autograd.memory_limit`."""
        return self.h[H.limit] or None

    @memory_limit.setter
    def memory_limit(self, limit: int | None) -> None:
        self.h[H.limit] = checked_limit(limit) or 0

    @property
    def freed(self) -> np.ndarray:
        """The slots that the last reclaiming freed."""
        return self._slot_views["freed"]

    @property
    def reached(self) -> list[int]:
        """The slots whose adjoints the last reverse sweep left."""
        return self._reached[: self.h[_N_REACHED]].tolist()

    def refill(self) -> bool:
        """Put slots that were never used on the free list; False where there are none left."""
        start, stop = self.top, min(self.top + _BATCH, self.slot_capacity)
        if start == stop:
            return False
        self.slots["flags"][start:stop] = FREE
        self.generation += 1
        self.free.extend(np.arange(stop - 1, start - 1, -1))
        self.top = stop
        return True

    def forget_top(self) -> None:
        """Count the free slots behind the last in use among those that were never used; the lowest come first."""
        known = self.free.array[: len(self.free)]
        in_use = np.ones(self.top, np.bool_)
        in_use[known] = False
        top = int(np.flatnonzero(in_use)[-1]) + 1  # slot 0 is never free
        kept = np.sort(known[known < top])[::-1]
        height = len(kept)
        self.free.array[:height] = kept
        self.h[_N_FREE], self.top = height, top

    def synced_row(self, slot: int) -> int:
        """The row that defines `slot`, or -1. New rows are entered in their slots by sweeps, or here."""
        if self.h[_SYNCED] * ROW_BYTES == self.h[_FILLED]:
            return self.slot_ints[8 * slot + 1]
        with self.lock:
            start, end = self.h[_SYNCED], len(self)
            if end - start < _FEW_NEW:
                for place in range(start, end):
                    out, kind = _out_and_kind(self.rows, ROW_BYTES * place)
                    _pack_slot(self.slot_words, SLOT.itemsize * out, kind, place, 0, 0, -1, 0)
                self.h[_SYNCED] = end
            else:
                rows = self.row_array()
                new = np.zeros(len(rows) - start, SLOT)
                new["kind"], new["row"], new["base"] = rows["kind"][start:], np.arange(start, len(rows)), -1
                self.slots[rows["out"][start:]] = new
                self.h[_SYNCED] = len(rows)
            return self.slot_ints[8 * slot + 1]

    def row_array(self) -> np.ndarray:
        """The recorded rows, a view of the tape's memory."""
        return self._row_views["rows"][: self.end // ROW.itemsize]

    @property
    def nbytes(self) -> int:
        """Bytes of the tape's own arrays in use: rows, slots and what schedules need, the values not included."""
        a_row = ROW.itemsize + 7 * 4
        a_slot = SLOT.itemsize + 11 * 4 + 2 * 8 + 2
        return self.end // ROW.itemsize * a_row + (self.top - len(self.free) - len(self.low)) * a_slot

    def __len__(self) -> int:
        return self.end // ROW.itemsize

    def __repr__(self) -> str:
        return f"<Tape of {len(self)} rows, {self.nbytes} bytes>"

    def __str__(self) -> str:
        with self.lock:
            return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows = self.row_array()
        yield f"tape: {len(rows)} rows, {self.nbytes} bytes"
        shown: list[int] = list(range(len(rows)))
        if len(shown) > 60:
            shown = [*shown[:30], -1, *shown[-30:]]
        numbers: dict[int, int] = {}  # of values, as they are met here: slots are used again
        for row in shown:
            yield self._line(rows[row], numbers) if row >= 0 else f"  ... {len(rows) - 60} rows"

    def _line(self, row: np.void, numbers: dict[int, int]) -> str:
        kind = objects[row["kind"]]
        (name, arity), flags = opcode_names[row["opcode"]], int(row["flags"])
        immediate = f"{struct.unpack_from('d', row.tobytes(), 8)[0]:g}"

        def value(slot: int) -> str:
            return f"%{numbers.setdefault(slot, len(numbers))}"

        if flags & IMM_A:
            operands = [immediate, value(row["a"])]
        elif flags & IMM_B:
            operands = [value(row["a"]), immediate]
        else:
            operands = [value(row[field]) for field in ("a", "b", "c")[:arity] if row[field] >= 0]
        notes = ("  requires grad" if kind.requires_grad else "") + ("  swept in reverse" if flags & CONSUMED else "")
        made = f"{value(row['out']):<6} {kind.dtype.name + str(list(kind.shape)):<18}"
        return f"  {made} = {name}({', '.join(operands)}){notes}"


class _Owner:
    """What a thread has of its tape. It goes with the thread, before the system gives its identity to another."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def __del__(self, thread: int = H.thread) -> None:
        self.tape.thread = self.tape.h[thread] = 0


class _Threads(threading.local):
    """The tape of each thread."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.owner = _Owner(self.tape)


_threads = _Threads()


def _after_fork() -> None:
    """What is not whole in a child: tapes that threads were sweeping or reclaiming that it doesn't have."""
    for tape in list(_tapes):
        if locks.renew(tape.lock):
            tape.sweeping, tape.let_go = LOST, None


locks.others.append(lambda: [_threads.tape.lock])  # another thread may be reading from it
locks.in_child.append(_after_fork)


def apart() -> Tape:
    """A tape that is no thread's: nothing is recorded there, and `is_only` doesn't count it."""
    tape = Tape()
    _tapes.discard(tape)
    return tape


def is_only(tape: Tape) -> bool:
    """Whether no thread has another tape."""
    return len(_tapes) == 1 and tape in _tapes


def current_tape() -> Tape:
    """The tape of the calling thread.

    >>> import tapegrad as tg
    >>> tg.current_tape()  # doctest: +ELLIPSIS
    <Tape of ... rows, ... bytes>
    """
    return _threads.tape


def in_grad_mode(tape: Tape, enabled: int, function: Callable[..., T], *args: Any) -> T:
    """Call a function that records with gradients, without, or (FORWARD) with tangents alone.

    (A context manager would not do: Ctrl-C may come when it is being left, and the mode would stay.)
    """
    previous = tape.grad_enabled
    try:
        tape.grad_enabled = tape.enabled if enabled else enabled if enabled is FORWARD else tape.disabled
        return function(*args)
    finally:
        tape.grad_enabled = previous
