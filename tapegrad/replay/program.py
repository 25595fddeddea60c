"""Programs: what a watch has written, kept and run. They are read-only; each thread has its own memory for one."""

from __future__ import annotations

import ctypes
import functools
import itertools
import operator
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import aliasing, engine, trees
from tapegrad.autograd import hooks
from tapegrad.core import rows
from tapegrad.core.replaying import GUARD, MISSED, STEP
from tapegrad.dtypes import DType
from tapegrad.kinds import Kind, address_of, array_at
from tapegrad.replay.standins import Number, StandIn
from tapegrad.replay.watch import Result, Watch, are_alike, extent, is_float
from tapegrad.tape import TABLES, Tape, in_grad_mode, scratch_in
from tapegrad.tensor import Size, Tensor, copied, from_array

_tables: weakref.WeakKeyDictionary[Tape, np.ndarray] = weakref.WeakKeyDictionary()
_PLAIN = (type(None), bool, int, float, str, np.generic, Size, DType)


class Given(NamedTuple):
    """An output that is an argument, or a layout of one."""

    source: Any


class New(NamedTuple):
    """An output that is the new gradient of a tensor, by its number."""

    number: int


class Same(NamedTuple):
    """An output that is always the same."""

    value: Any


class Memory:
    """What a thread has of a program: the arena, and the text with addresses that are true."""

    __slots__ = (
        "arena", "at", "captured", "changed", "copied", "is_entered", "made", "new", "tables", "tables_at", "tape",
        "text", "text_at",
    )  # fmt: skip

    def __init__(self, program: Program, tape: Tape) -> None:
        self.tape = weakref.ref(tape)
        self.is_entered = False  # whether native code knows of it, or was found not to serve
        if tape not in _tables:
            _tables[tape] = np.zeros(TABLES, np.int64)
        self.tables = _tables[tape]
        self.tables_at = address_of(self.tables)
        self.arena = np.empty(program.size + 64, np.uint8)
        self.at = at = -(-address_of(self.arena) // 64) * 64
        self.text = program.text.copy()
        self.text_at = address_of(self.text)
        bases = np.array([at, self.text_at, self.tables_at, scratch_in(tape.scratch)], np.int64)
        self.text[program.places] += bases[program.bases]
        for offset, content in program.contents:
            ctypes.memmove(at + offset, content, len(content))
        self.copied = [(array_at(at + offset, kind, self.arena), source) for offset, kind, source in program.copied]
        self.captured = [(at + offset, nbytes, t, kind) for offset, nbytes, t, kind in program.captured]
        self.made = [_maker(self, of) for of in program.results]
        self.changed = [(t, _maker(self, of)) for t, of in program.changed]
        self.new = [_maker(self, of) for of in program.new]


class Miss(NamedTuple):
    """The guard that did not hold, and the bits that were found."""

    guard: int
    bits: bytes


PLAIN = object()  # the answer where the plain function has to be called


class Program:
    """See above."""

    def __init__(self, watch: Watch, given: Sequence[Any], output: Any) -> None:
        found, self.structure = trees.flatten(output)
        self.build = _builder(self.structure)
        places = {id(leaf): place for place, leaf in enumerate(given) if isinstance(leaf, Tensor)}
        # What is found at each call stands behind the arguments.
        self.finds = [_finder(of, places) for _, of in watch.located.values()]
        places |= {key: len(given) + k for k, key in enumerate(watch.located) if key not in places}
        self._changes(watch, places)
        self.results = _results(watch, found, given, places, self.number_of)
        watch.finish()
        self.text, self.places, self.bases = watch.text.written()
        self.size, self.contents = watch.size, watch.contents
        self.copied = [(region.offset, kind, source) for region, kind, source in watch.copied]
        self.captured: list[tuple[int, int, Any, Kind]] = [
            (region.offset, extent(kind), places.get(id(t), t), kind)
            for region, t, kind, _ in watch.captured.values()
            if region.offset >= 0
        ]
        self.swept = [places.get(id(t), t) for _, t, kind, _ in watch.captured.values() if kind.requires_grad]
        self.draws = watch.draws
        self.conditions = watch.conditions + [
            (_has_gradient(places.get(id(t), t)), gradient is not None)
            for t, gradient, is_read in watch.gradients.values()
            if is_read
        ]
        self.seen, self.numbers = watch.seen, watch.numbers
        self.guards = [STEP * k for k, step in enumerate(watch.text.steps) if step[0] == GUARD]  # where they stand
        self.is_shared_out = watch.is_shared_out
        self.path = [seen.bits for seen in watch.seen]
        self.memories = threading.local()
        self.is_simple = not (self.draws or self.has_effects) and all(isinstance(of, Result) for of in self.results)
        self.used = 0
        self.nodes: list[Any] = []

    def _changes(self, watch: Watch, places: dict[int, int]) -> None:
        """What becomes of tensors that were there before: their elements, and their gradients."""
        self.changed: list[tuple[Any, Any]] = []
        self.new: list[Any] = []  # tensors that are new: gradients, and what is kept,
        self.number_of: dict[int, int] = {}  # and their numbers
        self.given_gradients: list[tuple[Any, Any]] = []  # tensors, and None, a number in `new`, or a tensor
        for t in watch.changed.values():
            if (result := watch.result(t, t)) is not None:
                self.changed.append((places.get(id(t), t), result._replace(like=Tensor)))
        for t, before, is_read in watch.gradients.values():
            now = getattr(t, "_grad", None)
            if is_read and now is before:
                continue
            if now is None or id(now) in watch.changed or now._slot not in watch.own:
                self.given_gradients.append((places.get(id(t), t), places.get(id(now), now)))
            elif now._kind.requires_grad or getattr(now, "_origin", None) is not None:
                watch.fail("gives a tensor a gradient with a graph of its own")
            else:
                self.given_gradients.append((places.get(id(t), t), self._new(watch, now)))
        self.actions = watch.actions
        self.stored: list[tuple[Callable[[Any], None], Any]] = []
        for put, value in watch.stored.values():
            if not isinstance(value, Tensor):
                self.stored.append((put, value if type(value) is Number else Same(value)))
            elif id(value) not in watch.located:
                if (
                    value._slot not in watch.own
                    or value._kind.requires_grad
                    or getattr(value, "_origin", None) is not None
                ):
                    watch.fail("keeps a tensor that it has not computed")
                self.stored.append((put, self._new(watch, value)))

    def _new(self, watch: Watch, t: Tensor) -> New:
        """A tensor that is made at each call: its number among them."""
        if id(t) not in self.number_of and (result := watch.result(t, t)) is not None:
            self.number_of[id(t)] = len(self.new)
            self.new.append(result._replace(like=Tensor))
        return New(self.number_of.get(id(t), 0))

    @property
    def has_effects(self) -> bool:
        """Whether it changes tensors."""
        return bool(self.changed or self.given_gradients or self.stored or self.actions)

    def _has_hooks(self, leaves: Sequence[Any]) -> bool:
        """Whether gradients meet hooks on their way."""
        return any(getattr(leaves[t] if t.__class__ is int else t, "_hooks", None) for t in self.swept)

    def _may_change(self, tape: Tape, leaves: Sequence[Any]) -> bool:
        """Whether tensors are as much apart as they were, and this thread's."""
        read = [leaves[t] if t.__class__ is int else t for _, _, t, _ in self.captured]
        changed = [leaves[t] if t.__class__ is int else t for t, _ in self.changed]
        given = [leaves[t] if t.__class__ is int else t for t, _ in self.given_gradients]
        return (
            len({*map(id, read)}) == len(read) and len({*map(id, given)}) == len(given)
            and all(t._tape is tape for t in (*read, *given))
            and all(getattr(t, "_origin", None) is None for t in changed)
            and all(t._views is None or not t._views.living() for t in changed)
        )  # fmt: skip

    def _change(self, tape: Tape, memory: Memory, leaves: Sequence[Any]) -> list[Tensor]:
        """Change tensors, and what is kept, as the function does; the new gradients."""
        new = [make() for make in memory.new]
        numbers = [of.make(leaves, ()) if type(of) is Number else None for _, of in self.stored]
        values = [(leaves[t] if t.__class__ is int else t, make()) for t, make in memory.changed]
        for t, value in values:
            in_grad_mode(tape, False, aliasing.assign, t, value)
        for t, gradient in self.given_gradients:
            t = leaves[t] if t.__class__ is int else t
            is_new, is_found = gradient.__class__ is New, gradient.__class__ is int
            t._grad = new[gradient.number] if is_new else leaves[gradient] if is_found else gradient
        for (put, of), number in zip(self.stored, numbers, strict=True):
            put(new[of.number] if of.__class__ is New else of.value if of.__class__ is Same else number)
        for action in self.actions:
            action()
        return new

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, its memory for one thread included."""
        return 2 * self.text.nbytes + self.size

    def run(self, tape: Tape, leaves: Sequence[Any]) -> Any:
        """What the function returns; a Miss; or PLAIN."""
        if hooks.has_leaves and self._has_hooks(leaves):
            return PLAIN
        memory = getattr(self.memories, "of_thread", None)
        if memory is None or memory.tape() is not tape:
            memory = self.memories.of_thread = Memory(self, tape)
        if self.finds:
            leaves = [*leaves, *[find(leaves) for find in self.finds]]
        if not self.draws:
            return self._run(tape, memory, leaves, ())
        states = [again().bit_generator.state for again, *_ in self.draws]
        draws = [getattr(again(), name)(*given, **facts) for again, name, given, facts in self.draws]
        found = self._run(tape, memory, leaves, draws)
        if found is PLAIN or found.__class__ is Miss:  # what comes next draws the same
            for (again, *_), state in zip(reversed(self.draws), reversed(states), strict=True):
                again().bit_generator.state = state
        return found

    def _run(self, tape: Tape, memory: Memory, leaves: Sequence[Any], draws: Sequence[Any]) -> Any:
        for view, source in memory.copied:
            if type(source) is not np.ndarray:
                source = source.make(leaves, draws)
                if source.__class__ is int and not is_float(source):
                    return PLAIN
            view[...] = source
        for address, nbytes, t, kind in memory.captured:
            if t.__class__ is int:
                t = leaves[t]
            if not are_alike(t._kind, kind):
                return PLAIN
            if t._tape is tape:
                ctypes.memmove(address, engine.evaluate(tape, t._slot), nbytes)
            else:
                there = copied(t)[0]
                array_at(address, kind, memory.arena)[...] = there
        if self.has_effects and not self._may_change(tape, leaves):
            return PLAIN
        status = engine.replay(tape, memory.text_at, memory.tables_at)
        if status == rows.OK:
            if self.is_simple:
                return self.build([make() for make in memory.made])
            new = self._change(tape, memory, leaves)
            return self.build(
                [
                    make() if of.__class__ is Result else _other(of, leaves, draws, new)
                    for make, of in zip(memory.made, self.results, strict=True)
                ]
            )
        if status >= MISSED:
            seen = self.seen[status - MISSED]
            return Miss(status - MISSED, ctypes.string_at(memory.at + seen.offset, seen.nbytes))
        return PLAIN


def _has_gradient(t: Any) -> Any:
    """Whether a tensor, or an argument, has a gradient."""
    return lambda leaves, _: getattr(leaves[t] if t.__class__ is int else t, "_grad", None) is not None


def _finder(of: Any, places: dict[int, int]) -> Callable[[Any], Any]:
    """What finds a tensor: a function, or it is the gradient of another one."""
    if not isinstance(of, Tensor):
        return lambda _: of()
    t = places.get(id(of), of)
    return lambda leaves: getattr(leaves[t] if t.__class__ is int else t, "_grad", None)


def _builder(structure: Any) -> Callable[[Any], Any]:
    """What makes a tree of leaves."""
    if structure is None:
        return operator.itemgetter(0)
    if structure.kind is tuple and not any(structure.items):
        return tuple
    names: dict[str, Any] = {}
    places = itertools.count()

    def text(node: Any) -> str:
        if node is None:
            return f"leaves[{next(places)}]"
        items = "".join(f"{text(item)}, " for item in node.items)
        if node.kind is tuple:
            return f"({items})"
        if node.kind is list:
            return f"[{items}]"
        name = f"made_{len(names)}"
        names[name] = node.made
        return f"{name}([{items}])"

    return eval(f"lambda leaves: {text(structure)}", names)  # type: ignore[no-any-return] # noqa: S307


def _maker(memory: Memory, of: Any) -> Any:
    """What makes an output of elements in the arena; None of another."""
    if of.__class__ is not Result:
        return None
    like, kind = of.like, of.kind
    if of.offset < 0:
        view = np.empty(kind.shape, kind.dtype.numpy)
    else:
        view = array_at(memory.at + of.offset, kind, memory.arena)
    if like is float:
        return view.item
    if like is Tensor:
        return lambda: from_array(view.copy())
    if isinstance(like, np.dtype):
        return view.copy if like == view.dtype and kind.contiguous else functools.partial(view.astype, like)
    return lambda: like(view[()])


def _other(of: Any, leaves: Sequence[Any], draws: Sequence[Any], new: list[Tensor]) -> Any:
    """An output that is not computed for itself."""
    if of.__class__ is New:
        return new[of.number]
    if of.__class__ is Given:
        return leaves[of.source] if of.source.__class__ is int else of.source.make(leaves, draws)
    return of.value.copy() if of.value.__class__ is np.ndarray else of.value


def _results(
    watch: Watch, found: list[Any], given: Sequence[Any], places: dict[int, int], number_of: dict[int, int]
) -> list[Any]:
    """How each output is made."""
    results: list[Any] = []
    tops: dict[int, int] = {}
    others = {id(leaf): place for place, leaf in enumerate(given) if not isinstance(leaf, _PLAIN)}
    places = {**others, **places}
    for leaf in found:
        if type(leaf) in (StandIn, Number):
            results.append(Given(leaf))
        elif id(leaf) in places:
            results.append(Given(places[id(leaf)]))
        elif id(leaf) in number_of:
            results.append(New(number_of[id(leaf)]))
        elif id(leaf) in watch.changed:
            results.append(Same(leaf))
        elif isinstance(leaf, Tensor):
            results.append(_of_tensor(watch, leaf, tops))
        elif id(leaf) in watch.shown:
            made, result = watch.shown[id(leaf)]
            form = float if type(made) is float else made.dtype if isinstance(made, np.ndarray) else type(made)
            results.append(result._replace(like=form))
        elif watch.inside == 0 and not isinstance(leaf, (type(None), str, bool, DType, Size)):
            watch.fail(f"returns what is not known to be computed ({type(leaf).__name__})")
        elif type(leaf) in (int, float) and leaf in watch.kept_numbers:
            watch.fail("returns a number that an optimiser may have")
        elif isinstance(leaf, (*_PLAIN, np.ndarray)):
            results.append(Same(leaf.copy() if isinstance(leaf, np.ndarray) else leaf))
        else:
            watch.fail(f"returns an object ({type(leaf).__name__})")
    return results


def _of_tensor(watch: Watch, t: Tensor, tops: dict[int, int]) -> Any:
    if t._slot not in watch.own or t._tape is not watch.tape:
        return Same(t)
    if t._kind.requires_grad:
        watch.fail("returns a tensor that requires grad")
    top = t
    while (base := getattr(top, "_origin", None)) is not None:
        top = base
    if top._slot not in watch.own or tops.setdefault(id(top), id(t)) != id(t):
        watch.fail("returns tensors that share their elements")
    result = watch.result(t, t)
    return Same(None) if result is None else result._replace(like=Tensor)
