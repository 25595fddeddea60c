"""`map` of a compiled function: rows of arguments, in lanes where there is a program for them.

One row is called as always. The program that it ran, or that was recorded for it, is run for all others in lanes; those
in which a guard does not hold are gathered by what was seen, and left to the program that was recorded for that, or to
another call. So each row has what the plain function gives for it, and costs a call only where it is the first to see
what no other has.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tapegrad import engine, threads, trees
from tapegrad.core.in_lanes import Batch, Carried
from tapegrad.core.workers import WORTH_WAKING
from tapegrad.functions.shaping import stack
from tapegrad.kernels import native
from tapegrad.kinds import address_of
from tapegrad.memory import index_of
from tapegrad.replay.lowered import Lowered, NotLoweredError
from tapegrad.replay.program import PLAIN, Given, Miss, Same
from tapegrad.replay.standins import Again, Argument, Number, StandIn, reflected
from tapegrad.replay.watch import Result, extent
from tapegrad.tape import Tape, current_tape
from tapegrad.tensor import Tensor, copied, from_array

_B, _C = index_of(Batch), index_of(Carried)
_FEW = 8  # rows that are called one by one
_MOST_FOUND = 64  # bytes that guards look at
_A_CALL = 1 << 28  # lanes times steps between two looks at signals
_CHUNKS_A_THREAD = 4
# What gives the same for arrays as for their elements: arithmetic that is exact but for its rounding.
_ALIKE = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.pos, operator.abs, operator.lt,
    operator.le, operator.gt, operator.ge, operator.eq, operator.ne, bool, np.add, np.subtract, np.multiply, np.divide,
    np.negative, np.absolute, np.sqrt,
}  # fmt: skip


class _Apart(Exception):  # noqa: N818 - it is no error
    """It has to be computed row by row."""


class _OtherProgram(Exception):  # noqa: N818 - it is no error
    """A program is not for the row that goes ahead: it was taken for what one guard found."""


class Rows:
    """What a caller gives: leaves, of which some have a leading axis."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], in_axes: Any) -> None:
        axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
        if len(axes) != len(args) or any(axis not in (0, None) or axis is False for axis in axes):
            raise ValueError(
                f"map(): 'in_axes' must be 0 or None, or as many of these as there are positional arguments "
                f"({len(args)}), not {in_axes!r}"
            )
        self.leaves, self.structure = trees.flatten((args, kwargs))
        given = [axis for axis, arg in zip(axes, args, strict=True) for _ in trees.leaves(arg)]
        given += [0] * (len(self.leaves) - len(given))
        self.columns: dict[int, np.ndarray] = {}  # of leaves with a leading axis, by place
        self.has_graph = False
        sizes: dict[int, int] = {}
        for place, (axis, leaf) in enumerate(zip(given, self.leaves, strict=True)):
            if axis is None or not isinstance(leaf, (np.ndarray, Tensor)):
                continue
            if not leaf.ndim:
                raise ValueError(f"map(): argument {place} has no leading axis to go along: its shape is ()")
            sizes[place] = leaf.shape[0]
            if isinstance(leaf, Tensor):
                self.has_graph |= leaf.requires_grad
                self.columns[place] = np.ascontiguousarray(copied(leaf)[0])
            else:
                self.columns[place] = np.ascontiguousarray(leaf) if type(leaf) is np.ndarray else leaf
        if not sizes:
            raise ValueError("map(): no argument has a leading axis to go along")
        if len({*sizes.values()}) > 1:
            raise ValueError(f"map(): the leading axes of arguments differ in length: {sorted({*sizes.values()})}")
        self.n = next(iter(sizes.values()))
        if not self.n:
            raise ValueError("map(): there are no rows")
        self.is_array = all(type(column) is np.ndarray for column in self.columns.values())

    def leaf(self, place: int, row: int) -> Any:
        """What the function is given of a leaf."""
        column, leaf = self.columns.get(place), self.leaves[place]
        if column is None:
            return leaf
        if isinstance(leaf, Tensor):
            return leaf[row] if leaf.requires_grad else from_array(column[row, ...].copy())
        return column.item(row) if column.ndim == 1 and column.dtype == np.float64 else column[row, ...]

    def row(self, row: int) -> tuple[list[Any], Any, Any]:
        """The leaves of a row; its positional arguments, and those by name."""
        leaves = [self.leaf(place, row) for place in range(len(self.leaves))]
        args, kwargs = trees.unflatten(self.structure, leaves)
        return leaves, args, kwargs

    # --- what Python computes with them -------------------------------------------------------------------------------

    def varies(self, make: Any) -> bool:
        """Whether what makes a number, or an array, depends on the row."""
        if isinstance(make, Again):
            return any(self.varies(x.make) for x in make.given if type(x) in (StandIn, Number))
        return getattr(make, "place", -1) in self.columns

    def numbers(self, make: Any) -> Any:
        """The numbers that this makes of all rows; or one, for all."""
        if not isinstance(make, Again):
            if not hasattr(make, "place"):
                raise _Apart
            return self.columns.get(make.place, self.leaves[make.place])
        if make.function is operator.getitem and self.varies(make):
            array, index = make.given
            return self.numbers(array.make)[(slice(None), *_basic(index))]
        if make.facts or reflected.get(make.function, make.function) not in _ALIKE:
            raise _Apart
        n_dims = max(np.ndim(x.value if type(x) in (StandIn, Number) else x) for x in make.given)
        given = [self._aligned(x, n_dims) if type(x) in (StandIn, Number) else x for x in make.given]
        if any(x.__class__ is int and abs(x) > 1 << 53 for x in given):
            raise _Apart
        with np.errstate(all="ignore"):
            return given[0] != 0 if make.function is bool else make.function(*given)

    def _aligned(self, x: Any, n_dims: int) -> Any:
        """The numbers that stand for one in each row, or the arrays, as rows of arrays of so many dimensions."""
        made = self.numbers(x.make)
        if not self.varies(x.make):
            return made
        return made.reshape(self.n, *(1,) * (n_dims - np.ndim(x.value)), *made.shape[1:])

    def split(self, program: Any, leader: int, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows for which Python code would see the same of numbers as for another, which a program is for; others."""
        numbers = [place for place in program.numbers if place in self.columns]
        conditions = [(make, answer) for make, answer in program.conditions if self.varies(make)]
        if not (numbers or conditions):
            return here, here[:0]
        holds = np.ones(len(here), np.bool_)
        for place in numbers:
            bits = self.columns[place].view(np.int64)
            holds &= bits[here] == bits[leader]
        for make, answer in conditions:
            try:
                holds &= np.broadcast_to(self.numbers(make), (self.n,))[here] == answer
            except _Apart:
                holds &= np.array([_is_so(make, answer, self.row(row)[0]) for row in here.tolist()], np.bool_)
        return here[holds], here[~holds]


def _basic(index: Any) -> tuple[Any, ...]:
    """An index of ints and slices."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(part.__class__ in (int, slice) or part is Ellipsis or part is None for part in parts):
        raise _Apart
    return parts


def _is_so(make: Any, answer: Any, leaves: Sequence[Any]) -> bool:
    try:
        return bool(make(leaves, ()) == answer)
    except ArithmeticError:
        return False


class Results:
    """What the function gives for rows, stacked."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.structure: Any = ...
        self.leaves: list[Any] = []
        self.tensors: dict[int, dict[int, Tensor]] = {}  # with graphs: by leaf, by row

    def begin(self, structure: Any, n_leaves: int) -> None:
        """All rows have results of one structure."""
        if self.structure is ...:
            self.structure, self.leaves = structure, [None] * n_leaves
        elif self.structure != structure:
            raise ValueError(
                f"map(): results of rows differ in structure: {'*' if structure is None else structure} and "
                f"{'*' if self.structure is None else self.structure}"
            )

    def place_of(self, k: int, leaf: Any) -> np.ndarray:
        """The array for all rows of a leaf, of which one is given."""
        kind, array = (Tensor if isinstance(leaf, Tensor) else np.ndarray), _elements(leaf)
        known = self.leaves[k]
        if known is None:
            known = self.leaves[k] = kind, np.empty((self.n, *array.shape), array.dtype)
        if known[0] is not kind or known[1].shape[1:] != array.shape:
            shape = None if known[1] is None else known[1].shape[1:]
            raise ValueError(
                f"map(): results of rows differ: {known[0].__name__} of shape {shape}, and {kind.__name__} of shape "
                f"{array.shape}"
            )
        if known[1].dtype != array.dtype:
            known = self.leaves[k] = kind, known[1].astype(np.result_type(known[1], array))
        return known[1]  # type: ignore[no-any-return]

    def add(self, row: int, answer: Any) -> None:
        """What a row gives."""
        found, structure = trees.flatten(answer)
        self.begin(structure, len(found))
        for k, leaf in enumerate(found):
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                self.tensors.setdefault(k, {})[row] = leaf
                continue
            self.put(k, leaf, row)

    def put(self, k: int, leaf: Any, rows: Any) -> None:
        """What a row, or each of some rows, has for a leaf."""
        if leaf is None:
            if self.leaves[k] is not None and self.leaves[k][1] is not None:
                raise ValueError("map(): results of rows differ: some are None")
            self.leaves[k] = type(None), None
            return
        self.place_of(k, leaf)[rows] = _elements(leaf)

    def tree(self) -> Any:
        """All of it."""
        made: list[Any] = []
        for k, leaf in enumerate(self.leaves):
            if k in self.tensors:
                rest = self.tensors[k]
                if len(rest) < self.n:
                    raise ValueError("map(): results of rows differ: some require grad")
                made.append(stack([rest[row] for row in range(self.n)]))
            elif leaf is None or leaf[1] is None:
                made.append(None)
            else:
                made.append(from_array(leaf[1]) if leaf[0] is Tensor else leaf[1])
        return trees.unflatten(self.structure, made)


def _elements(leaf: Any) -> np.ndarray:
    array = copied(leaf)[0] if isinstance(leaf, Tensor) else np.asarray(leaf)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"map(): results of type {type(leaf).__name__} can't be stacked")
    return array


def map_rows(compiled: Any, rows: Rows, results: Results) -> None:
    """What a compiled function gives for each row; see above."""
    in_lanes = native.JIT and rows.is_array and not rows.has_graph
    call = compiled.__wrapped__ if rows.has_graph else compiled
    # Rows, a program that may be for them, and one that it is for.
    waiting: list[tuple[np.ndarray, Any, int]] = [(np.arange(rows.n), None, 0)]
    while waiting:
        here, program, leader = waiting.pop()
        answer: Any = None
        while len(here) and program is None:
            leader = int(here[0])
            leaves, args, kwargs = rows.row(leader)
            may_go_on = in_lanes and len(here) > _FEW
            if may_go_on and (found := compiled.replayed(leaves, args, kwargs)) is not None:
                program, answer = found
                results.add(leader, answer)
                compiled.count(1, 0)
            else:
                results.add(leader, call(*args, **kwargs))
                if may_go_on and (found := compiled.replayed(leaves, args, kwargs)) is not None:
                    program, answer = found
            here = here[1:]
        here, others = rows.split(program, leader, here) if len(here) else (here, here)
        if len(others):
            waiting.append((others, None, 0))
        if not len(here):
            continue
        try:
            missed = _run(compiled, program, rows, leader, answer, here, results)
        except NotLoweredError:
            missed = {(-1, b""): here}
        except _OtherProgram:
            waiting.append((here, None, 0))
            continue
        for (guard, bits), alike in missed.items():
            if guard < 0:  # a kernel can't compute its value: the call says why
                for row in alike.tolist():
                    _, args, kwargs = rows.row(row)
                    results.add(row, call(*args, **kwargs))
                continue
            node = program.nodes[guard].after.get(bits)
            following = None if node is None or len(alike) == len(here) else node.program
            waiting.append((alike, following, int(alike[0])))


class _Plan:
    """How a program is run in lanes, if some of the leaves that it is given have a leading axis."""

    __slots__ = ("apart", "arenas", "carried", "found_bytes", "inputs", "is_computed", "lowered", "within")

    def __init__(self, program: Any, rows: Rows) -> None:
        if program.has_effects or max((seen.nbytes for seen in program.seen), default=0) > _MOST_FOUND:
            raise NotLoweredError
        self.inputs = [
            (offset, kind, source.make) for offset, kind, source in program.copied
            if type(source) is not np.ndarray and rows.varies(source.make)
        ]  # fmt: skip
        for offset, _, t, kind in program.captured:
            if t.__class__ is int:
                if t >= len(rows.leaves):
                    raise NotLoweredError
                if t in rows.columns:
                    self.inputs.append((offset, kind, Argument(t)))
        places = [(offset, kind.numel, kind.itemsize) for offset, kind, _ in self.inputs]
        given = {offset for offset, _, _ in places}
        uniform = {
            offset
            for offset in (*program.itemsizes, *(x[0] for x in program.copied), *(x[0] for x in program.captured))
            if offset not in given
        }  # fmt: skip
        self.is_computed = [
            of.__class__ is Result and of.kind.numel > 0 and of.offset not in uniform for of in program.outputs
        ]
        computed = [of for of, is_one in zip(program.outputs, self.is_computed, strict=True) if is_one]
        if any(of.__class__ not in (Result, Given, Same) for of in program.outputs):
            raise NotLoweredError
        if not all(kind.contiguous for _, kind, _ in self.inputs):
            raise NotLoweredError
        self.lowered = Lowered(
            program, places, [(of.offset, extent(of.kind) // of.kind.itemsize, of.kind.itemsize) for of in computed]
        )
        self.carried = np.zeros((len(places) + len(computed), Carried.nbytes // 8), np.int64)
        for line, known in zip(self.carried, [*self.lowered.inputs, *self.lowered.outputs], strict=True):
            line[[_C.offset, _C.n, _C.size]] = known
        # Inputs that are elements of arguments as they lie, by these: which, and where in a row's they begin.
        self.within: dict[int, tuple[list[int], list[int]]] = {}
        self.apart: list[int] = []  # others
        for k, (_, kind, make) in enumerate(self.inputs):
            if (found := _within(rows, kind, make)) is None:
                self.apart.append(k)
                continue
            which, offsets = self.within.setdefault(found[0], ([], []))
            which.append(k)
            offsets.append(found[1])
        self.arenas: list[np.ndarray] = []  # that are not in use
        self.found_bytes = max((8 * -(-seen.nbytes // 8) for seen in program.seen), default=8)


def _within(rows: Rows, kind: Any, make: Any) -> tuple[int, int] | None:
    """The argument whose elements are brought in as they lie, and how many bytes into a row's these begin."""
    of = make
    while isinstance(of, Again):
        if of.function is not operator.getitem:
            return None
        of = of.given[0].make
    column = rows.columns[of.place]
    try:
        made = rows.numbers(make) if isinstance(make, Again) else column
    except _Apart:
        return None
    if made.dtype != kind.dtype.numpy or made.shape[1:] != kind.shape or not made[0, ...].flags.c_contiguous:
        return None
    return of.place, address_of(made) - address_of(column)


def _plan_of(program: Any, rows: Rows) -> _Plan:
    """The plan of a program, made once."""
    key = tuple(sorted(rows.columns))
    plan = program.plans.get(key)
    if plan is None:
        try:
            plan = _Plan(program, rows)
        except NotLoweredError as error:
            plan = error
        program.plans[key] = plan
    if isinstance(plan, NotLoweredError):
        raise plan
    return plan  # type: ignore[no-any-return]


def _run(
    compiled: Any, program: Any, rows: Rows, leader: int, answer: Any, here: np.ndarray, results: Results
) -> dict[tuple[int, bytes], np.ndarray]:
    """Run a program for rows: those in which a guard did not hold, by its number and the bits that were found.

    What is the same for all rows is in its memory once it has answered for one.
    """
    plan, tape = _plan_of(program, rows), current_tape()
    if answer is None:
        answer = program.run(tape, rows.row(leader)[0])
    if answer is PLAIN:
        raise NotLoweredError
    if answer.__class__ is Miss:
        raise _OtherProgram
    carried, held = _brought_in(plan, rows, here)
    leaves, structure = trees.flatten(answer)
    results.begin(structure, len(leaves))
    computed: list[tuple[int, np.ndarray]] = []
    for k, (of, is_computed, leaf) in enumerate(zip(program.outputs, plan.is_computed, leaves, strict=True)):
        if is_computed and plan.inputs:
            whole, kind = results.place_of(k, leaf), of.kind
            is_alike = whole.dtype == kind.dtype.numpy and kind.contiguous
            n = extent(kind) // kind.itemsize
            computed.append((k, whole if is_alike else np.empty((rows.n, n), kind.dtype.numpy)))
        elif of.__class__ is Given and rows.varies(_maker(of)):
            results.place_of(k, leaf)[here] = _column(rows, here, None, _maker(of))[here]
        else:
            results.put(k, leaf, here)
    if not plan.inputs:  # all rows are as this one
        compiled.count(len(here), 0)
        return {}
    missed, found = _sweep(tape, program, plan, rows.n, here, carried, [array for _, array in computed])
    del held  # until now
    for k, array in computed:
        whole = results.place_of(k, leaves[k])
        if whole is not array:
            kind = program.outputs[k].kind
            whole[here] = as_strided(array, (rows.n, *kind.shape), (array.strides[0], *kind.strides))[here]
    if missed is None:
        compiled.count(len(here), 0)
        return {}
    gone = here[missed[here] != 0]
    compiled.count(len(here) - len(gone), len(gone))
    outcomes: dict[tuple[int, bytes], list[int]] = {}
    for row, guard, bits in zip(gone.tolist(), missed[gone].tolist(), found[gone], strict=True):
        key = guard - 1, bits.tobytes()[: program.seen[guard - 1].nbytes] if guard > 0 else b""
        outcomes.setdefault(key, []).append(row)
    return {key: np.array(alike, np.int64) for key, alike in outcomes.items()}


def _maker(of: Given) -> Any:
    return Argument(of.source) if of.source.__class__ is int else of.source.make


def _brought_in(plan: _Plan, rows: Rows, here: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """What is carried, as far as it is known before the results; and arrays that have to live."""
    carried, held = plan.carried.copy(), []
    for place, (which, offsets) in plan.within.items():
        column = rows.columns[place]
        carried[which, _C.address] = address_of(column) + np.array(offsets)
        carried[which, _C.stride] = column.strides[0]
    for k in plan.apart:
        array = _column(rows, here, *plan.inputs[k][1:])
        held.append(array)
        carried[k, [_C.address, _C.stride]] = address_of(array), array.strides[0]
    return carried, held


def _column(rows: Rows, here: np.ndarray, kind: Any, make: Any) -> np.ndarray:
    """What is brought in: of each of the caller's rows, those of `here` at least, the elements for one place."""
    try:
        made = rows.numbers(make) if isinstance(make, Again) else rows.columns[make.place]
    except _Apart:
        known = [make(rows.row(row)[0], ()) for row in here.tolist()]
        made = np.empty((rows.n, *np.shape(known[0])), np.asarray(known[0]).dtype)
        made[here] = known
    if kind is None:
        return made
    if made.shape[1:] != kind.shape:
        raise NotLoweredError
    with np.errstate(over="ignore"):  # it is infinite in single precision
        return np.ascontiguousarray(made, kind.dtype.numpy)


def _sweep(
    tape: Tape, program: Any, plan: _Plan, n: int, here: np.ndarray, carried: np.ndarray, outputs: list[np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray]:
    """Run a program in lanes: of each row the number of the guard that did not hold, and 1; and what was found.

    None where all guards held.
    """
    lowered, n_inputs = plan.lowered, len(plan.inputs)
    missed, found = np.zeros(n, np.int64), np.zeros((n, plan.found_bytes), np.uint8)
    here = np.ascontiguousarray(here, np.int64)
    block, n_threads = lowered.block, threads.get_num_threads()
    cost = len(here) * lowered.n_calls
    n_chunks = min(_CHUNKS_A_THREAD * n_threads, -(-len(here) // block)) if n_threads > 1 and cost > WORTH_WAKING else 1
    a_call = max(_A_CALL // (lowered.n_calls * block * n_chunks), 1) * block * n_chunks
    arenas = plan.arenas.pop() if plan.arenas else np.empty(0, np.uint8)
    if len(arenas) < n_chunks * lowered.arena_bytes + 64:
        arenas = np.empty(n_chunks * lowered.arena_bytes + 64, np.uint8)
    at = -(-address_of(arenas) // 64) * 64
    own = arenas[at - address_of(arenas) :]
    for chunk in range(n_chunks):
        lowered.fill(own[chunk * lowered.arena_bytes :][: lowered.arena_bytes], program.memories.of_thread)
    for line, array in zip(carried[n_inputs:], outputs, strict=True):
        line[[_C.address, _C.stride]] = address_of(array), line[_C.n] * line[_C.size]
    batch = np.zeros(Batch.nbytes // 8, np.int64)
    batch[[_B.block, _B.arenas, _B.arena_bytes, _B.text]] = block, at, lowered.arena_bytes, address_of(lowered.words)
    batch[[_B.n_inputs, _B.n_outputs, _B.inputs]] = n_inputs, len(outputs), address_of(carried)
    batch[_B.outputs] = address_of(carried) + n_inputs * Carried.nbytes
    batch[[_B.missed, _B.found, _B.found_bytes]] = address_of(missed), address_of(found), plan.found_bytes
    for start in range(0, len(here), a_call):
        m = min(a_call, len(here) - start)
        batch[[_B.n_rows, _B.rows]] = m, address_of(here) + 8 * start
        batch[_B.a_chunk] = -(-m // (n_chunks * block)) * block
        engine.run_batch(tape, address_of(batch), m * lowered.n_calls)
    plan.arenas.append(arenas)
    return missed if batch[_B.has_missed] else None, found
