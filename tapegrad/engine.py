"""Runs the compiled sweeps on a tape: evaluate values, sweep in reverse, reclaim what is dead.

Everything Python has to do around a sweep is here: compile the kernels it needs, lend it memory for its lists, let
Ctrl-C in between two slices of work, and turn its status into an exception.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import sys
import time
import weakref
from _thread import get_ident
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from tapegrad import finalizers, interrupts, kernels, kinds, locks, ops, threads
from tapegrad import tape as tapes
from tapegrad.callers import unseen
from tapegrad.core import guards, in_lanes, notes, passes, replaying, rows, sweeps
from tapegrad.core import reclaim as reclaiming
from tapegrad.core.workers import WORTH_WAKING
from tapegrad.debug import MEMORY, SMALL
from tapegrad.dtypes import as_dtype
from tapegrad.kernels import cache, native, switch
from tapegrad.kernels.parts import is_core
from tapegrad.kinds import address_of, array_at
from tapegrad.memory import parts
from tapegrad.ops import declare
from tapegrad.tape import ROW, H, Tape

_BUDGET = 1 if SMALL else 100_000_000  # lanes of an instruction between two looks at signals: 10 to 100 ms of work
_SWEEP_ROWS = 64 if SMALL else 1 << 16  # rows that may pile up before they are swept unasked
_MOST_STAMPS = 64 if SMALL else 1 << 30  # regions swept, after which they are numbered anew
_SPARE_ROOM = 512 if SMALL else 1 << 18  # rows or slots beyond which room that is not used is given up
_RECLAIM_ROWS = 4096
_RECLAIM_BYTES = 1 << 20
_FEW_SLOTS = 256  # freed at once, up to which they are looked for one by one

# Words of the header that every sweep looks at.
_ALLOCATE, _LAPACK, _N_KINDS, _N_POOL, _CREW, _MISSING_WORKERS, _END, _TOP, _FILLED = (
    H.allocate, H.lapack, H.n_kinds, H.n_pool, H.crew, H.missing_workers, H.end, H.top, H.filled
)  # fmt: skip
_STAMPS, _N_TARGETS, _N_SEEDS, _N_INPUTS, _PRUNE, _RETAIN_GRAPH, _PHASE, _BUDGET_LEFT, _N_PLANNED = (
    H.stamps, H.n_targets, H.n_seeds, H.n_inputs, H.prune, H.retain_graph, H.phase, H.budget, H.n_planned
)  # fmt: skip
_ALLOCATED, _ALLOCATED_BEFORE, _N_FREE, _N_FREED = H.allocated, H.allocated_before, H.n_free, H.n_freed
_A_ROW, _SWITCH = ROW.itemsize, H.switch_values
_SWITCHED_ROWS = 100 * _A_ROW  # bytes of rows from which it is worth the time that linking the switch takes
_FEW_ROWS = -1 if SMALL else _RECLAIM_ROWS * _A_ROW  # bytes of rows that are never too many
_WORDS, _PRIMAL, _INTS, _FLAGS, _STORED = 4, 1, 8, 7, tapes.STORED  # of a slot

_entries: dict[str, Callable[..., int]] = {}
_parts: dict[str, int] = {}
_pending: dict[tuple[declare.Op, int, bool], None] = {}  # kernels that rows wait for, each once
_blas: list[np.ndarray] = []  # the addresses of BLAS's and LAPACK's routines, once a row that calls them was recorded
_ahead: list[tuple[Any, list[str]]] = []  # the process that compiles ahead, and what
_IS_AHEAD = "TAPEGRAD_COMPILES_AHEAD"  # set for that process
_lock = locks.lock()


class SweptTwiceError(RuntimeError):
    """Raised inside; the surface turns it into PyTorch's message."""


class DamagedMemoryError(RuntimeError):
    """Guards have found that a kernel went beyond its memory: with TAPEGRAD_DEBUG=memory only."""


class LinAlgError(RuntimeError, np.linalg.LinAlgError):
    """A matrix has values for which an operation is not defined: it is singular, or not positive-definite.

    NumPy's too, so that what catches it serves for arrays and for tensors.
    """


F = TypeVar("F", bound=Callable[..., Any])


def alone(function: F) -> F:
    """A function of a tape that other threads wait for."""

    @functools.wraps(function)
    def locked(tape: Tape, *args: Any) -> Any:
        with tape.lock:
            return function(tape, *args)

    return locked  # type: ignore[return-value]


def need(operation: declare.Op, code: int, reverse: bool) -> None:
    """Note that the next sweep needs the kernels of an operation for a dtype."""
    if not kernels.is_ready(operation, code, reverse):
        _pending[operation, code, reverse] = None


_functions: dict[str, Any] = {function.__name__: function for function in parts}
assert "run" in _functions
assert {reclaiming.reclaim, replaying.replay, in_lanes.run_batch, notes.read_notes, passes.compact} <= parts.keys()


def part_address(name: str) -> int:
    """The address of a compiled part of the sweeps."""
    address = _parts.get(name)
    if address is None:
        address = _parts[name] = native.link(*_made(name), returns=True)
    return address


native.linkers.update(
    {symbol: functools.partial(part_address, function.__name__) for function, symbol in parts.items()}
)


def compiled(name: str) -> Callable[..., int]:
    """A compiled part of the sweeps, to be called from Python."""
    entry = _entries.get(name)
    if entry is None:
        if name not in _parts:
            _compile_together(name)
        entry = _entries[name] = native.callable_at(part_address(name), _functions[name].__code__.co_argcount)
    return entry


def _made(name: str) -> tuple[str, int, Callable[[], Any], tuple[Any, ...]]:
    """What `native` links a part from."""
    function = _functions[name]
    return name, function.__code__.co_argcount, functools.partial(native.rebind, function), (function,)


def compile_parts(names: Iterable[str]) -> None:
    """Compile parts of the sweeps into the cache, up to one that is there."""
    for name in names:
        if not native.keep(*_made(name)):
            break


def warmup(progress: Callable[[list[Any]], Iterable[Any]] = lambda steps: steps) -> None:
    """Compile ahead what most programs need: the sweeps, and every operation in float64.

    `progress` is given a list of steps and iterates over it, once for the sweeps and once for the operations.
    """
    for name in progress(list(_functions)):
        part_address(name)
    kernels.warmup(progress)


def _reached(name: str) -> list[str]:
    """The parts that a part of the sweeps calls, itself or through others; it is among them."""
    found, waiting = {_functions[name]: True}, [_functions[name]]
    for function in waiting:
        for value in map(function.__globals__.get, function.__code__.co_names):
            if isinstance(value, FunctionType) and value not in found and is_core(value):
                found[value] = True
                waiting.append(value)
    return [name for name, function in _functions.items() if function in found]


def compile_ahead(name: str) -> None:
    """Where little of what a part calls is in the cache, have another process compile it, from the end of the list.

    Meanwhile this one compiles what it needs, and meets the other: Numba works under one lock, which threads would
    wait for. The other begins none of its own, though its import may look for parts (guarded memory is had by one).
    """
    python = Path(sys.executable or "").name.startswith("python")
    if _ahead or _IS_AHEAD in os.environ:
        return
    if not native.JIT or not python or not cache.is_writable() or (os.cpu_count() or 1) < 2:
        return
    missing = [
        name
        for name in _reached(name)
        if name not in _parts and not cache.holds(f"{native.symbol(name, _functions[name])}.o")
    ]
    if len(missing) < 4:
        return
    code = (
        "import sys; sys.path[:] = eval(sys.argv[1]); from tapegrad import engine; engine.compile_parts(sys.argv[2:])"
    )
    arguments = [sys.executable, "-c", code, repr(sys.path), *reversed(missing)]
    import subprocess  # seldom needed, and slow to import

    nothing, environment = subprocess.DEVNULL, {**os.environ, **cache.environment(), _IS_AHEAD: "1"}
    try:
        child = subprocess.Popen(arguments, stdin=nothing, stdout=nothing, stderr=nothing, env=environment)
    except OSError:  # no process to be had: compiled here, one after the other
        return
    _ahead.append((child, missing))
    atexit.register(_end, child)


def _end(child: Any) -> None:
    """End a process that compiles for this one, which ends."""
    child.kill()
    child.wait()


def _compile_together(name: str) -> None:
    """On a machine's first use, compile what a part calls in two processes, which meet."""
    compile_ahead(name)
    for child, missing in tuple(_ahead):
        try:
            _make_kernels()
            compile_parts(missing)
        finally:
            child.wait()
            atexit.unregister(_end)
            _ahead.clear()


def _prepare(tape: Tape) -> None:
    """Make the tape's header true: addresses that other threads may have moved, kernels that rows wait for."""
    h = tape.h
    if h[_PHASE] != rows.IDLE:
        _abandon(tape)
    if not h[_ALLOCATE]:
        _connect(tape)
    if _pending:
        _make_kernels()
    if _blas and not h[_LAPACK]:
        h[H.gemm64], h[H.gemm32] = _blas[0][:2].tolist()
        h[_LAPACK] = address_of(_blas[0])
    if not h[_SWITCH] and h[_FILLED] > _SWITCHED_ROWS:
        h[H.switch_adjoints], h[_SWITCH] = switch.addresses()[::-1]
    if h[_N_KINDS] != kinds.table.used or h[_N_POOL] != kinds.pool.used:
        _publish(tape)
    h[_CREW], h[_MISSING_WORKERS] = threads.state
    h[_END], h[_TOP] = h[_FILLED] // _A_ROW, tape.top


def ready(tape: Tape) -> None:
    """Make a tape's header true, for programs that are run without Python."""
    with tape.lock:
        _prepare(tape)
    compiled("replay")


@functools.cache
def _caches() -> dict[str, int]:
    """The bytes of the caches for data, by their level; what is usual where it can't be found out."""
    found = {"1": 32 << 10, "3": 16 << 20}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K") and size[:-1].isdecimal():
            found[level] = int(size[:-1]) << 10
    return found


def _connect(tape: Tape) -> None:
    """Enter in a new tape's header what does not change."""
    _compile_together("run")
    h = tape.h
    h[H.ops], h[H.kernels] = address_of(declare.table), kernels.table_address
    h[H.sum_opcode] = ops.reduction.sum_.opcode
    functions = native.functions_of_python()
    h[H.allocate_zeroed], h[H.release] = functions["allocate_zeroed"].address, functions["release"].address
    caches = _caches()
    # Of a core's first level, the registers of a block may take all but an eighth; results of more than half of the
    # last level are written past it.
    h[H.cache_bytes], h[H.stream_bytes] = caches["1"] // 8 * 7, caches["3"] // 2
    h[H.advise] = native.function_address("madvise") if sys.platform == "linux" else 0
    tape.let_go = _let_go
    h[_ALLOCATE] = functions["allocate"].address  # the last: it tells that all is there


def _let_go(tape: Tape) -> None:
    """Release the values of a tape that nobody holds any more: its thread has ended, its tensors are gone."""
    slots, give_back, header, partials = tape.slots[: tape.top], compiled("give_back"), tape.header_address, H.partials
    flags, addresses = slots["flags"], slots["primal"].tolist()
    for slot in np.flatnonzero(flags & tapes.OWNED).tolist():
        address = addresses[slot]
        flags[slot] &= ~tapes.OWNED  # right before: it may be interrupted, and be called again
        give_back(header, address)
    if address := tape.h[partials]:
        tape.h[partials] = 0
        give_back(header, address)
    compiled("free_kept")(tape.header_address)
    if MEMORY:
        check_memory(tape)


def _publish(tape: Tape) -> None:
    """Enter what has become known since: kinds, their spaces, and parameters.

    Other threads go on interning. What is counted is in the arrays already, whose older versions stay alive, and no
    kind that is counted has a space that is not: so counts are read before arrays, and kinds before spaces.
    """
    h, n_kinds, n_pool = tape.h, kinds.table.used, kinds.pool.used
    n_spaces = kinds.n_spaces()
    if len(tape.latest) < n_spaces:
        latest = np.full(2 * n_spaces, -1, np.int32)
        address, n, at, count_at = address_of(latest), len(latest), H.latest, H.n_latest
        tape.latest, h[at], h[count_at] = latest, address, n
    h[_N_KINDS], h[_N_POOL] = n_kinds, n_pool
    h[H.kinds], h[H.pool] = kinds.table.address, kinds.pool.address


def _make_kernels() -> None:
    with _lock:
        while _pending:
            for needed in list(_pending):
                if {"gemm", "lapack"} & {*declare.parameters(needed[0].function)}:
                    routines()
                kernels.require(*needed)
                _pending.pop(needed, None)


def routines() -> np.ndarray:
    """The addresses of BLAS's and LAPACK's routines, which SciPy publishes for Cython: see `ops.linalg.ROUTINES`."""
    if _blas:
        return _blas[0]
    from scipy.linalg import cython_blas, cython_lapack

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    capsules = cython_blas.__pyx_capi__ | cython_lapack.__pyx_capi__
    wanted = [capsules[precision + routine] for routine in ops.linalg.ROUTINES for precision in "ds"]
    _blas.append(np.array([pointer(capsule, name_of(capsule)) for capsule in wanted], np.int64))
    return _blas[0]


def run(
    tape: Tape,
    targets: Sequence[int],
    seeds: Sequence[tuple[int, int]] = (),
    inputs: Sequence[int] = (),
    prune: bool = False,
    retain: bool = True,
    take: Callable[[], None] | None = None,
) -> None:
    """Evaluate the target slots and, from seeds (slot, slot of its adjoint or -1 for ones), sweep in reverse.

    Adjoints of leaves and of `inputs` are left in their slots, listed in the tape's `reached`: `take` is called to give
    them owners, while the tape still counts as being swept, and to go on with that should Ctrl-C come. With `prune`
    only what leads to `inputs` is swept. Without `retain`, rows whose rules had kept values let them go.
    """
    if tape.sweeping:
        _check_free(tape)
    if tape.watch is None:
        _prepare(tape)
    else:
        unseen(_prepare, tape)
    h = tape.h
    if h[_STAMPS] > _MOST_STAMPS:
        tape.forget_stamps()
    if len(seeds) == 1 and not targets and not inputs:
        tape.lists[0], tape.lists[1] = seeds[0]
    else:
        given = [*targets, *(slot for pair in seeds for slot in pair), *inputs]
        if len(given) > len(tape.lists):
            lists = np.zeros(2 * len(given), np.int32)
            memory, address, at, room, n = lists.data, address_of(lists), H.lists, H.n_lists, len(lists)
            tape.lists, h[at], h[room] = memory, address, n
        for i, slot in enumerate(given):
            tape.lists[i] = slot
    h[_N_TARGETS], h[_N_SEEDS], h[_N_INPUTS] = len(targets), len(seeds), len(inputs)
    h[_PRUNE], h[_RETAIN_GRAPH], h[_PHASE] = prune, retain, sweeps.PLAN
    entry, profiler = _entries.get("run") or compiled("run"), tape.profiler
    if tape.watch is not None:  # it is called back while the sweep runs, and then can't be interrupted
        entry = functools.partial(unseen, _call_whole, tape.watch, entry)
    started = time.perf_counter()
    try:
        tape.sweeping = sys._getframe()
        while True:
            h[_BUDGET_LEFT] = _BUDGET
            status = entry(tape.header_address) if profiler is None else profiler.call(entry, tape)
            if status == rows.AT_HOST:
                if tape.watch is not None:
                    tape.watch.fail("calls a function of the host's")
                _run_host(tape, h[_PHASE] == sweeps.REVERSE_STEP)
            elif status == rows.MORE_WORKERS:
                threads.start(compiled("work"))
                h[_MISSING_WORKERS] = 0
            elif status != rows.MORE:
                break
        if take is not None:
            take()
            if not retain and h[_N_PLANNED] > _RECLAIM_ROWS:
                tape.swept = seeds[0][0]
    except BaseException as error:
        if take is not None and h[_PHASE] == rows.IDLE and isinstance(error, KeyboardInterrupt):
            take()  # the sweep is done, and can't be done again
        else:
            _abandon(tape)
        if tape.watch is not None:
            tape.watch.fail("is interrupted in a sweep", False)
        raise
    finally:
        tape.sweeping = None
        tape.sweep_seconds += time.perf_counter() - started
    if MEMORY and h[H.fault]:
        raise _damage(tape)
    if status == rows.OK:
        return
    if status == rows.SWEPT_TWICE:
        raise SweptTwiceError
    if status == rows.NO_MEMORY:
        raise MemoryError("tapegrad: there is no memory for a value or an adjoint of this sweep; nothing was changed")
    if status == rows.FAILED:
        if tape.watch is not None:
            tape.watch.fail("catches an error that depends on elements", False)
        raise _failure(tape)


def _call_whole(watch: Any, entry: Callable[..., int], *arguments: int) -> int:
    with interrupts.later():
        status = entry(*arguments)
        watch.reads_notes()
        return status


def settle(tape: Tape) -> None:
    """Compute what somebody holds, and make the header true."""
    evaluate_all(tape)
    _prepare(tape)


def replay(tape: Tape, text: int, tables: int) -> int:
    """Run a program: see `core/replaying.py`."""
    h = tape.h
    if tape.sweeping:
        _check_free(tape)
    if not h[_ALLOCATE] or _blas or h[_N_KINDS] != kinds.table.used or h[_N_POOL] != kinds.pool.used:
        _prepare(tape)
    h[_CREW], h[_MISSING_WORKERS] = threads.state
    entry = _entries.get("replay") or compiled("replay")
    with tape.lock:
        return entry(tape.header_address, text, tables)


def call(name: str, *numbers: int) -> int:
    """Call a compiled part that has to do with no tape: of `core/notes.py`, or `core/passes.py`."""
    return (_entries.get(name) or compiled(name))(*numbers)


def run_batch(tape: Tape, batch: int, cost: int) -> None:
    """Run a program in lanes: see `core/in_lanes.py`."""
    h = tape.h
    if tape.sweeping:
        _check_free(tape)
    if not h[_ALLOCATE] or _blas or h[_N_KINDS] != kinds.table.used:
        _prepare(tape)
    h[_CREW], h[_MISSING_WORKERS] = threads.state
    if h[_MISSING_WORKERS] and cost > WORTH_WAKING:
        threads.start(compiled("work"))
        h[_CREW], h[_MISSING_WORKERS] = threads.state
    entry = _entries.get("run_batch") or compiled("run_batch")
    with tape.lock:
        entry(tape.header_address, batch, cost)


def _abandon(tape: Tape) -> None:
    """End a sweep before its time: what it had begun is let go, and nothing has changed."""
    if tape.h[_PHASE] != rows.IDLE:
        tape.h[_PHASE] = sweeps.ABORT
        compiled("run")(tape.header_address)


def _check_free(tape: Tape) -> None:
    """Raise where the tape is being swept; if the sweep was left by Ctrl-C on its way out, end it."""
    if tape.sweeping is tapes.LOST:
        raise RuntimeError(
            "a tensor of another thread's tape was not evaluated when this process was forked, and that thread, which "
            "was sweeping its tape, is not in the child: look at it before the fork, for example with .item()"
        )
    frames = list(sys._current_frames().values())
    while frames:
        frame = frames.pop()
        if frame is tape.sweeping:
            raise RuntimeError(
                "a host function was called by a sweep, and looked at a tensor of the tape being swept: compute with "
                "its arrays instead"
            )
        if frame.f_back is not None:
            frames.append(frame.f_back)
    tape.sweeping = None


def _failure(tape: Tape) -> LinAlgError:
    """What the row says whose values the sweep could not compute."""
    h, row = tape.h, tape.row_array()[tape.h[H.error_row]]
    operation, kind = declare.OPS[row["opcode"]], kinds.objects[row["kind"]]
    of = kinds.objects[tape.slots["kind"][row["a"]]]
    batch = f"(Batch element {h[H.error_batch]}): " if of.ndim > 2 else ""
    texts = (operation.failure,) if isinstance(operation.failure, str) else operation.failure
    text = texts[-1 if h[H.error_index] < 0 else 0].format(batch=batch, index=h[H.error_index])
    where = tape.places[int(row["out"])]
    return LinAlgError(f"{text} {operation.name}, giving {kind.dtype.name}{list(kind.shape)}, recorded at {where}")


# What guards find: the memory, where it is no slot's, and what happened to it.
_FOUND = {
    guards.BEFORE: ("memory to work in", "was written to before its beginning"),
    guards.BEHIND: ("memory to work in", "was written to behind its end"),
    guards.LET_GO: ("memory", "was written to after it had been let go"),
    guards.TWICE: ("memory", "was let go twice"),
    guards.BEHIND_REGISTER: ("a register of a block", "was written to behind its end"),
    guards.BEHIND_SUM: ("the sum of one chunk", "was written to behind its end"),
    guards.BEHIND_WORK: ("the work space of BLAS and LAPACK", "was written to beyond its ends"),
    guards.TABLE_FULL: ("what describes a region, or its registers", "found no room"),
}


def _damage(tape: Tape) -> DamagedMemoryError:
    """What guards have found: see `guards.py`."""
    h, rows, slots = tape.h, tape.row_array(), tape.slots
    found, r, of, offset, nbytes = (
        h[H.fault], h[H.fault_row], h[H.fault_slot], h[H.fault_offset], h[H.fault_nbytes]
    )  # fmt: skip
    h[H.fault] = 0

    def told(slot: int, r: int) -> str:
        kind = kinds.objects[slots["kind"][slot]]
        if not (0 <= r < len(rows) and rows["out"][r] == slot):
            return f"a leaf, {kind.dtype.name}{list(kind.shape)}"
        name, where = declare.OPS[rows["opcode"][r]].name, tape.places.get(slot, "a line that is not known")
        return f"{name}, giving {kind.dtype.name}{list(kind.shape)}, recorded at {where}"

    memory, happened = _FOUND[found]
    if of >= 0:
        slot = of >> 1
        memory = f"the {('value', 'adjoint')[of & 1]} of {told(slot, int(slots['row'][slot]))}"
    swept = f"{told(int(rows['out'][r]), r)}, was being swept" if 0 <= r < len(rows) else "rows were being swept"
    return DamagedMemoryError(f"tapegrad: {swept}, and {memory} ({nbytes} bytes) {happened} (from byte {offset} there)")


def check_memory(tape: Tape) -> None:
    """Raise what guards have found."""
    if tape.h[H.fault]:
        raise _damage(tape)


def hand_out(tape: Tape, address: int) -> None:
    """Memory of the tape is someone else's from now on."""
    compiled("hand_out")(tape.header_address, address)


def guarded_copy(tape: Tape, array: np.ndarray) -> int:
    """The address of a copy of an array, in memory of the tape, which has guards."""
    if not tape.h[_ALLOCATE]:
        _connect(tape)
    address = compiled("obtain")(tape.header_address, array.nbytes, 0)
    if not address:
        raise MemoryError("tapegrad: there is no memory for a copy of an array")
    ctypes.memmove(address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
    return address


class Lent:
    """Memory of a tape that belongs to an array: it goes back with the last array that sees it.

    It is so once `address` is set, by the only store that then is left to be done.
    """

    __slots__ = ("address", "raw", "release", "tape", "tried")

    def __init__(self, tape: Tape, address: int) -> None:
        _shield()
        compiled("give_back")
        self.tape, self.address, self.release = weakref.ref(tape), 0, native.functions_of_python()["release"]
        self.raw = ctypes.c_int64.from_address(address - 64).value  # see `storage.py`
        self.tried: list[bool] = []  # whether the tape's lock could be had

    def __del__(self, is_finalizing: Any = sys.is_finalizing, ident: Any = get_ident) -> None:
        address = getattr(self, "address", 0)
        if not address or is_finalizing():  # by then modules may be empty; Ctrl-C may come early
            return
        tape, tried = self.tape(), self.tried
        # What is done is noted before Ctrl-C can come: see `finalizers.py`.
        if not (MEMORY or tape is None or tape.thread != ident() or tape.sweeping or tried):
            tried.extend(map(tape.lock.acquire, (False,)))
        if tape is None or tried != [True]:
            release, raw = self.release, self.raw
            self.address = 0
            release(raw)
            return
        try:
            give_back, header = _entries["give_back"], tape.header_address
            self.address = 0
            give_back(header, address)
        finally:
            unlock = tape.lock.release
            tried[0] = False
            unlock()


@functools.cache
def _shield() -> None:
    """Have what ends the lives of those who hold memory done whole."""
    finalizers.shield(Lent, Tape)


def copied(array: np.ndarray) -> np.ndarray:
    """A copy of an array, in order: a large one in memory that the tape uses again."""
    if array.nbytes < kinds.LARGE or MEMORY:
        return array.copy()
    tape = tapes.current_tape()
    if not tape.h[_ALLOCATE]:
        _connect(tape)
    address = compiled("obtain")(tape.header_address, array.nbytes, 0)
    if not address:
        raise MemoryError("tapegrad: there is no memory for a copy of an array")
    lent = Lent(tape, address)
    lent.address = address
    copy = array_at(address, kinds.kind_of(as_dtype(array.dtype), array.shape), lent)
    copy[...] = array
    return copy


def _run_host(tape: Tape, reverse: bool) -> None:
    """Compute the value or the adjoints of the host row at which the sweep has stopped."""
    row = tape.row_array()[tape.h[H.host_row]]
    out, slots = int(row["out"]), tape.slots
    operands = [int(row[field]) for field in "abc" if row[field] >= 0]
    forward, vjp, _ = tape.hosts[out]

    def array(slot: int, field: str = "primal") -> np.ndarray:
        kind = kinds.objects[slots["kind"][slot]]
        view = array_at(int(slots[field][slot]), kind.gradient if field == "adjoint" else kind, None)
        view.flags.writeable = False
        return view

    arrays, kind = [array(slot) for slot in operands], kinds.objects[row["kind"]]
    if not reverse:
        value = np.array(forward(*arrays), kind.dtype.numpy, order="C")
        if value.shape != kind.shape:
            raise ValueError(
                f"a host function announced a result of shape {list(kind.shape)}, but gave {list(value.shape)}"
            )
        tape.arrays[out] = value
        slots["primal"][out] = address_of(value)
        slots["flags"][out] |= tapes.STORED
        return
    parts = vjp(array(out, "adjoint"), array(out), *arrays)
    for slot, part in zip(operands, parts if isinstance(parts, (tuple, list)) else (parts,), strict=True):
        of = kinds.objects[slots["kind"][slot]]
        if part is None or not of.requires_grad:
            continue
        if not slots["adjoint"][slot]:
            slots["adjoint"][slot] = compiled("obtain")(tape.header_address, of.numel * of.itemsize, 1)
        bar = array_at(int(slots["adjoint"][slot]), of.gradient, None)
        bar += part


def evaluate(tape: Tape, slot: int) -> int:
    """Make sure that a slot's elements are in memory; returns their address. On other threads: see `evaluate_there`."""
    if not tape.slot_ints[_INTS * slot + _FLAGS] & _STORED:
        with tape.lock:
            run(tape, [slot])
        reclaim_if_due(tape)
    elif SMALL:
        _reclaim_often(tape)
    return tape.slot_words[_WORDS * slot + _PRIMAL]


def evaluate_there(tape: Tape, slot: int) -> int:
    """Evaluate on a tape whose lock is held. Its thread may be recording, so its rows must not move."""
    if not tape.slots["flags"][slot] & tapes.STORED:
        run(tape, [slot])
    return int(tape.slots["primal"][slot])


def wait_for(tape: Tape) -> None:
    """Raise where waiting for another thread's tape could last for ever: that thread may be waiting for this one."""
    own = tapes.current_tape()
    if own.sweeping and own.lock._is_owned() and own is not tape:  # type: ignore[attr-defined]
        if not tape.lock.acquire(blocking=False):
            raise RuntimeError(
                "a host function was called by a sweep, and looked at a tensor of another thread's tape, which is "
                "being swept: compute with its arrays instead"
            )
        tape.lock.release()


def reclaim_if_due(tape: Tape) -> None:
    """Reclaim where that costs little beside what was recorded and allocated since the last time."""
    h = tape.h
    if h[_FILLED] <= _FEW_ROWS and h[_ALLOCATED] <= _RECLAIM_BYTES:
        return
    rows, survivors = h[_FILLED] // _A_ROW, tape.survivors
    if (
        (rows - survivors > _RECLAIM_ROWS and rows > 2 * survivors)
        or (h[_ALLOCATED] > _RECLAIM_BYTES and h[_ALLOCATED] > 256 * rows)
        or (tape.swept and not tape.live[tape.swept])  # though its graph survived, it has died now
    ):
        reclaim(tape)
    elif SMALL:
        _reclaim_often(tape)


def reclaim_before(tape: Tape) -> None:
    """Before a reverse sweep, reclaim what an earlier one has left and nobody holds: its memory is used again."""
    h = tape.h
    allocated = h[_ALLOCATED] + h[_ALLOCATED_BEFORE]
    if SMALL or (allocated > _RECLAIM_BYTES and allocated > 256 * (h[_FILLED] // _A_ROW)):
        reclaim(tape)


def _reclaim_often(tape: Tape) -> None:
    """Reclaim, unless there is much to go through, and little of it new."""
    rows = tape.h[_FILLED] // _A_ROW
    if rows - tape.survivors >= rows >> 8 and tape.top < 1 << 14:
        reclaim(tape)


@alone
def reclaim(tape: Tape) -> None:
    """Drop rows, values and slots that nothing can reach any more; not while they are being swept."""
    if tape.sweeping:
        return
    tape.generation += 1
    _prepare(tape)
    _hand_out(tape)
    if not tape.live[tape.swept]:
        tape.swept = 0
    entry, allocated = _entries.get("reclaim") or compiled("reclaim"), tape.h[_ALLOCATED]
    while True:
        functions = len(tape.nodes)
        tape.survivors = entry(tape.header_address)
        _hand_out(tape)
        if len(tape.nodes) == functions:
            break  # else what they had saved may go too
    tape.h[_ALLOCATED_BEFORE], tape.h[_ALLOCATED] = allocated, 0
    if tape.capacity > _SPARE_ROOM or tape.slot_capacity > _SPARE_ROOM:
        _give_up_room(tape)
    if MEMORY:
        check_memory(tape)


def mark(tape: Tape) -> tuple[int, int, int, int]:
    """How far the tape is, for `take_back`."""
    h = tape.h
    return tape.generation, h[_FILLED], h[_N_FREE], h[_ALLOCATED]


@alone
def take_back(tape: Tape, since: tuple[int, int, int, int]) -> None:
    """Drop what was recorded since a mark, where nobody holds any of it: its rows, slots and memory are used again.

    It takes as long as there are such rows and slots. Where the tape was reclaimed between, or something is held, it is
    left to the next reclaiming.
    """
    generation, filled, height, allocated = since
    h = tape.h
    is_seen = tape.watch is not None or tape.duals is not None or tape.sweeping  # others know slots by their numbers
    if tape.generation != generation or is_seen or h[_PHASE] != rows.IDLE or h[_N_FREED] or not h[_ALLOCATE]:
        return
    entry = _entries.get("take_back") or compiled("take_back")
    if not entry(tape.header_address, filled // _A_ROW, height, 0):
        return
    taken: Any = None
    for table in _tables(tape):
        if taken is None:
            taken = {*tape.free.memory[h[_N_FREE] : height]}
        for slot in [slot for slot in table if slot in taken] if len(table) < len(taken) else taken:
            table.pop(slot, None)
    entry(tape.header_address, filled // _A_ROW, height, 1)
    h[_ALLOCATED] = allocated


def _tables(tape: Tape) -> list[dict[int, Any]]:
    """What is known of slots beside the tape's own arrays."""
    return [
        table
        for table in (
            tape.arrays, tape.leaves, tape.former, tape.retained, tape.hosts, tape.places, tape.hooks, tape.nodes
        )
        if table
    ]  # fmt: skip


def _hand_out(tape: Tape) -> None:
    """Forget what was known of the slots that a reclaiming has freed, and give them out again."""
    h = tape.h
    n_freed = h[_N_FREED]
    if not n_freed:
        return
    tables = _tables(tape)
    freed = tape.freed[:n_freed]
    numbers = freed.tolist() if n_freed < _FEW_SLOTS else None
    for owned in tables:
        if numbers is not None:
            for slot in numbers:
                owned.pop(slot, None)
            continue
        known = np.fromiter(owned, np.int64, len(owned))
        for slot in known[tape.slots["flags"][known] & tapes.FREE != 0].tolist():
            del owned[slot]
    n_low = bisect_left(numbers, tapes._LOW) if numbers is not None else int(np.searchsorted(freed, tapes._LOW))
    low, others, start = freed[:n_low].tolist(), freed[n_low:][::-1], h[_N_FREE]
    stop = start + len(others)
    tape.low[:0] = low
    tape.free.array[start:stop] = others  # the lowest are used first: those at the end can be given up
    h[_N_FREE], h[_N_FREED] = stop, 0


def _give_up_room(tape: Tape) -> None:
    """Give back the memory of rows and slots where little of much is in use, for longer each time before it is done."""
    if max(len(tape), tape.top - len(tape.free)) > _SPARE_ROOM // 16:
        tape.spare = 0
        return
    tape.spare += 1
    if tape.spare < tape.patience:
        return
    if tape.capacity > _SPARE_ROOM:
        tape.resize_rows(_SPARE_ROOM // 4)
    tape.forget_top()
    if tape.top < _SPARE_ROOM // 4 < tape.slot_capacity:
        tape.resize_slots(_SPARE_ROOM // 4)
    is_done = tape.slot_capacity <= _SPARE_ROOM  # else one of the last slots is still in use, and soon may not be
    tape.spare, tape.patience = 0, 8 * tape.patience if is_done else tape.patience + 1
    if address := native.function_address("malloc_trim"):
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t)(address)(
            0
        )  # values were small: the C library keeps such memory


@alone
def make_room(tape: Tape, n_rows: int = 1, n_slots: int = 1) -> None:
    """Room for some more rows and slots: reclaim, sweep what has piled up, or grow."""
    needed = n_rows * _A_ROW
    if not tape.sweeping:  # in a host function, and while adjoints are being taken, nothing may move
        if SMALL:
            _reclaim_often(tape)
        if tape.end + needed > len(tape.rows):
            reclaim(tape)
            if tape.end * 2 > len(tape.rows) and tape.capacity >= _SWEEP_ROWS:
                evaluate_all(tape)
                reclaim(tape)
            if tape.end * 2 > len(tape.rows):
                tape.resize_rows(_larger(tape.capacity))
        if len(tape.free) < n_slots and not tape.refill():
            reclaim(tape)
            if len(tape.free) * 2 < tape.slot_capacity:
                tape.resize_slots(_larger(tape.slot_capacity))
    while tape.end + needed > len(tape.rows):
        tape.resize_rows(_larger(tape.capacity))
    while len(tape.free) < n_slots:
        if not tape.refill():
            tape.resize_slots(_larger(tape.slot_capacity))


def _larger(capacity: int) -> int:
    """The next capacity. The least that there is falls short at every chance."""
    return capacity + 1 + capacity // 16 if SMALL else 2 * capacity


@alone
def evaluate_all(tape: Tape) -> None:
    """Evaluate every live value that is not in memory, so that the rows behind them can go.

    Of one that can't be computed it is said when someone looks at it, not here.
    """
    if tape.sweeping:
        tape.synced_row(0)  # enters all new rows
    else:
        _prepare(tape)
        if not compiled("has_pending")(tape.header_address):
            return
    slots = tape.slots[: tape.top]
    live = np.frombuffer(tape.live, np.uint8)[: tape.top].astype(bool)
    waiting = live & (slots["flags"] & (tapes.STORED | tapes.FREE) == 0)
    if not waiting.any():
        return
    targets = np.flatnonzero(waiting).tolist()
    try:
        run(tape, targets)
    except LinAlgError:
        for slot in targets:
            with contextlib.suppress(LinAlgError):
                run(tape, [slot])
