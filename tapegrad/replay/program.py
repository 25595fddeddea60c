"""Programs: what a watch has written, kept and run. They are read-only; each thread has its own memory for one."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import operator
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import engine, locks, trees, writing
from tapegrad.autograd import hooks
from tapegrad.core import rows
from tapegrad.core.notes import STEP
from tapegrad.core.replaying import GUARD, MACHINE, MISSED
from tapegrad.dtypes import DType
from tapegrad.kinds import Kind, address_of, array_at
from tapegrad.replay import passes
from tapegrad.replay.bound import Made, Place, bindable, fitting
from tapegrad.replay.machine import Lowered, NotLoweredError, frame_of, lower
from tapegrad.replay.standins import Number, StandIn, composed, is_shown
from tapegrad.replay.watch import Result, Watch, are_alike, extent, is_float
from tapegrad.tape import STORED, TABLES, H, Tape, in_grad_mode, is_only, scratch_in
from tapegrad.tensor import Size, Tensor, copied, owning

_tables: weakref.WeakKeyDictionary[Tape, np.ndarray] = weakref.WeakKeyDictionary()
_lock = locks.lock()  # of making machine code
_LARGE = 3e38
_PLAIN = (type(None), bool, int, float, str, np.generic, Size, DType)


class Given(NamedTuple):
    """An output that is an argument, or a layout of one."""

    source: Any


class New(NamedTuple):
    """A tensor that is made at each call, by its number; and the place of that which it replaces, or -1."""

    number: int
    place: int


class Same(NamedTuple):
    """An output that is always the same."""

    value: Any


class Memory:
    """What a thread has of a program: the arena, and the text with addresses that are true."""

    __slots__ = (
        "arena", "at", "begun", "calls", "captured", "changed", "composed", "copied", "elsewhere", "filled", "frame",
        "is_bound", "is_entered", "lowered", "made", "new", "run_at", "step", "tables", "tables_at", "tape", "text",
        "text_at",
    )  # fmt: skip

    def __init__(self, program: Program, tape: Tape) -> None:
        self.tape = weakref.ref(tape)
        self.filled = -1  # bytes of rows that the last reclaiming has left
        self.calls = 0  # that Python has made; -1 when machine code was asked for
        self.is_entered = False  # whether native code knows of it, or was found not to serve
        if tape not in _tables:
            _tables[tape] = np.zeros(TABLES + 1, np.int64)
        self.tables = _tables[tape]
        self.tables[TABLES] = 0  # no image is loaded: addresses are used again
        self.tables_at = address_of(self.tables)
        self.arena = np.empty(program.size + 64, np.uint8)
        self.at = at = -(-address_of(self.arena) // 64) * 64
        self.text = program.text.copy()
        self.text_at = self.run_at = address_of(self.text)
        bases = np.array([at, self.text_at, self.tables_at, scratch_in(tape.scratch)], np.int64)
        self.text[program.places] += bases[program.bases]
        for offset, content in program.contents:
            ctypes.memmove(at + offset, content, len(content))
        views = [(array_at(at + offset, kind, self.arena), source) for offset, kind, source in program.copied]
        composed = [(offset, kind) for offset, kind, source in program.copied if type(source) is not np.ndarray]
        self.elsewhere = fitting(program, self, composed)
        self.is_bound = bool(program.bindable)
        self.copied = [(view, source) for view, source in views if type(source) is np.ndarray]
        self.composed: list[Any] = [view for view, source in views if type(source) is not np.ndarray]
        captured = fitting(program, self, [(offset, kind) for offset, _, _, kind in program.captured])
        self.captured: list[Any] = [
            (place or at + offset, nbytes, t, kind)
            for place, (offset, nbytes, t, kind) in zip(captured, program.captured, strict=True)
        ]
        self.made = [_maker(self, program, of) for of in program.results]
        self.begun = [made for made in self.made if made.__class__ is Made]
        self.changed = [(t, _Elements(self, of)) for t, of in program.changed]
        self.new = [_Elements(self, of) for of in program.new]

    def speed_up(self, program: Program) -> None:
        """Have the program run as machine code from now on, where it can: there all is in the arena."""
        tape = self.tape()
        if not self.is_bound and (lowered := program.machine_code()) is not None and tape is not None:
            self.lowered = lowered
            self.frame, frame_at = frame_of(lowered)
            step = [MACHINE, lowered.code.address, self.at, frame_at, tape.header_address, self.text_at]
            self.step = np.array(step + [0] * (STEP - len(step)), np.int64)
            self.run_at = address_of(self.step)

    def bind(self, numbers: Sequence[Any], binds: bool) -> list[Any]:
        """Have arrays, and results, where they are, or are to be; the views of what is copied in, or None."""
        for made in self.begun:
            made.begin(binds)
        return [
            None if place is not None and place.gives(number if binds else None) else view
            for view, place, number in zip(self.composed, self.elsewhere, numbers, strict=False)
        ]


class _Elements:
    """Elements in the arena that become those of a tensor."""

    __slots__ = ("address", "fitting", "kind", "nbytes", "view")

    def __init__(self, memory: Memory, of: Result) -> None:
        self.kind, self.view, self.nbytes = of.kind, _view(memory, of), extent(of.kind)
        self.address = memory.at + max(of.offset, 0)
        self.fitting: Any = None  # the kind of a tensor that they can be put into

    def new(self) -> Tensor:
        """A new tensor that has them."""
        return owning(self.view.copy(), self.kind.dtype, False)

    def put(self, t: Tensor) -> bool:
        """Put them in the place of a tensor's, where it shares these with nobody; whether that was so.

        No row of the tape reads it, and no other thread.
        """
        views = getattr(t, "_known", None)
        is_alone = getattr(t, "_origin", None) is None and getattr(t, "_fresh", None) is None
        return is_alone and not (views and views.living()) and self.put_alone(t)

    def put_alone(self, t: Tensor) -> bool:
        """Likewise, where it is known to be no view, and to have none."""
        kind, tape = t._kind, t._tape
        if kind is not self.fitting:
            if (
                kind.dtype is not self.kind.dtype or kind.shape != self.kind.shape or kind.exported
                or not (kind.contiguous and self.kind.contiguous) or (kind.requires_grad and not kind.is_leaf)
            ):  # fmt: skip
                return False
            self.fitting = kind
        slot = t._slot
        if t.__class__ is not Tensor or not tape.slot_ints[_INTS * slot + _FLAGS] & STORED:
            return False
        ctypes.memmove(tape.slot_words[_WORDS * slot + _PRIMAL], self.address, self.nbytes)
        return True


def _holders(x: Any) -> int:
    """How many hold an object, which is not in a variable of who asks."""
    return sys.getrefcount(x) - _NO_HOLDERS


_NO_HOLDERS, _held = 0, [object()]
_NO_HOLDERS = _holders(_held[0]) - 1
_WORDS, _PRIMAL, _INTS, _FLAGS = 4, 1, 8, 7  # of a slot


class Miss(NamedTuple):
    """The guard that did not hold, and the bits that were found."""

    guard: int
    bits: bytes


PLAIN = object()  # the answer where the plain function has to be called


class Program:
    """See above."""

    def __init__(self, watch: Watch, given: Sequence[Any], output: Any) -> None:
        leaves, self.structure = trees.flatten(output)
        known: dict[int, int] = {}  # an output may be there more than once
        self.which = [
            known.setdefault(id(leaf) if _has_identity(leaf) else ~place, len(known))
            for place, leaf in enumerate(leaves)
        ]
        found = [leaves[self.which.index(k)] for k in range(len(known))]
        for leaf in found:  # these are looked at first where the function is plain: regions are the same
            if (
                isinstance(leaf, Tensor)
                and leaf._tape is watch.tape
                and (watch.is_own(leaf) or id(leaf) in watch.changed)
            ):
                engine.evaluate(watch.tape, leaf._slot)
        places = {id(leaf): place for place, leaf in enumerate(given) if isinstance(leaf, Tensor)}
        # What is found at each call stands behind the arguments.
        self.finds = [_finder(of, places) for _, of in watch.located.values()]
        places |= {key: len(given) + k for k, key in enumerate(watch.located) if key not in places}
        self._changes(watch, places)
        self.results = _results(watch, found, given, places, self.number_of)
        watch.finish()
        steps, arena = watch.text.written(), watch.arena()
        self.copied = [(region.offset, kind, source) for region, kind, source in watch.copied]
        self.captured: list[tuple[int, int, Any, Kind]] = [
            (region.offset, extent(kind), places.get(id(t), t), kind)
            for region, t, kind, _ in watch.captured.values()
            if region.offset >= 0
        ]
        kept = [of.offset for of in self._made()], [x[0] for x in self.copied], [x[0] for x in self.captured]
        arena = passes.shorten(watch.tape, steps, arena, [offset for offset in itertools.chain(*kept) if offset >= 0])
        self.size, self.contents, self.itemsizes = arena.size, arena.contents, arena.itemsizes
        self.placed = arena.ranges()
        self.text, (self.places, self.bases) = steps.words, steps.addresses()
        self.swept = [places.get(id(t), t) for _, t, kind, _ in watch.captured.values() if kind.requires_grad]
        self.draws = watch.draws
        self.conditions = watch.conditions.copy()
        of_gradients = [
            (places.get(id(t), t), gradient is not None) for t, gradient, is_read in watch.gradients.values() if is_read
        ]
        if of_gradients:
            self.conditions.append((_gradients(of_gradients), True))
        is_guard = self.text[: STEP * steps.n : STEP] == GUARD
        self.guards = (STEP * np.flatnonzero(is_guard)).tolist()  # where they stand
        self.seen, self.numbers = watch.seen, watch.numbers
        if self.guards:  # what they look at may be elsewhere
            offsets = self.text[np.array(self.guards) + 1].tolist()
            self.seen = [seen._replace(offset=at) for seen, at in zip(self.seen, offsets, strict=True)]
        self.is_shared_out = watch.is_shared_out
        self._settle()

    @classmethod
    def of(cls, **facts: Any) -> Program:
        """A program of which all is known; it changes no tensors."""
        program = cls.__new__(cls)
        program.changed, program.new, program.number_of, program.given_gradients = [], [], {}, []
        program.finds, program.stored, program.actions, program.draws = [], [], [], []
        vars(program).update(facts)
        program._settle()
        return program

    def _settle(self) -> None:
        """Enter what follows from what is known."""
        self.build = _builder(self.structure, self.which)
        self.outputs = [self.results[k] for k in self.which]  # as leaves of what is returned
        makes = [source.make for _, _, source in self.copied if type(source) is not np.ndarray]
        self.composed = composed(makes + [of.make for _, of in self.stored if type(of) is Number])
        self.path = [seen.bits for seen in self.seen]
        self.has_effects = bool(self.changed or self.given_gradients or self.stored or self.actions)
        read, given = [t for _, _, t, _ in self.captured], [t for t, _ in self.given_gradients]
        # Where these are no arguments, they are apart at each call.
        are_apart = all(len({*map(id, of)}) == len(of) and int not in map(type, of) for of in (read, given))
        self.touched = [*{id(t): t for t in (*read, *given)}.values()] if are_apart else None
        # What is returned where nothing of it is computed.
        is_same = all(of.__class__ is Same and of.value.__class__ is not np.ndarray for of in self.results)
        self.same = [of.value for of in self.results] if is_same else None
        self.memories = threading.local()
        self.lowered: Lowered | None = None
        self.is_lowered = False  # whether it was tried
        self.plans: dict[Any, Any] = {}  # how it is run in lanes, see `batches.py`
        self.is_simple = not (self.draws or self.has_effects) and all(isinstance(of, Result) for of in self.results)
        self.used = 0
        self.nodes: list[Any] = []

    def _made(self) -> list[Result]:
        """What is read after a run."""
        return [of for of in (*self.results, *(of for _, of in self.changed), *self.new) if isinstance(of, Result)]

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
            if now is None or id(now) in watch.changed or not watch.is_own(now):
                self.given_gradients.append((places.get(id(t), t), places.get(id(now), now)))
            elif now._kind.requires_grad or getattr(now, "_origin", None) is not None:
                watch.fail("gives a tensor a gradient with a graph of its own")
            else:
                self.given_gradients.append((places.get(id(t), t), self._new(watch, now, places.get(id(before), -1))))
        self.actions = watch.actions
        self.stored: list[tuple[Callable[[Any], None], Any]] = []  # what puts it there; a number, New, Same
        for key, (put, value) in watch.stored.items():
            if not isinstance(value, Tensor):
                self.stored.append((put, value if type(value) is Number else Same(value)))
            elif id(value) not in watch.located:
                is_own = watch.is_own(value) and getattr(value, "_origin", None) is None
                if not is_own or value._kind.requires_grad:
                    watch.fail("keeps a tensor that it has not computed")
                before = watch.kept.get(key)
                self.stored.append((put, self._new(watch, value, places.get(id(before), -1))))

    def _new(self, watch: Watch, t: Tensor, place: int) -> New:
        """A tensor that is made at each call: its number among them, and where that is which it replaces."""
        if id(t) not in self.number_of and (result := watch.result(t, t)) is not None:
            self.number_of[id(t)] = len(self.new)
            self.new.append(result._replace(like=Tensor))
        return New(self.number_of.get(id(t), 0), place)

    def _has_hooks(self, leaves: Sequence[Any]) -> bool:
        """Whether gradients meet hooks on their way."""
        return any(getattr(leaves[t] if t.__class__ is int else t, "_hooks", None) for t in self.swept)

    def _may_change(self, tape: Tape, leaves: Sequence[Any]) -> bool:
        """Whether tensors are as much apart as they were, and this thread's."""
        touched = self.touched
        if touched is None:
            read = [leaves[t] if t.__class__ is int else t for _, _, t, _ in self.captured]
            given = [leaves[t] if t.__class__ is int else t for t, _ in self.given_gradients]
            if len({*map(id, read)}) != len(read) or len({*map(id, given)}) != len(given):
                return False
            touched = [*read, *given]
        for t in touched:
            if t._tape is not tape:
                return False
        for t, _ in self.changed:
            t = leaves[t] if t.__class__ is int else t
            views = getattr(t, "_known", None) if getattr(t, "_fresh", None) is None else t._views
            if getattr(t, "_origin", None) is not None or (views is not None and views.living()):
                return False
        return True

    def _change(self, tape: Tape, memory: Memory, leaves: Sequence[Any], numbers: Sequence[Any]) -> dict[int, Tensor]:
        """Change tensors, and what is kept, as the function does; the tensors that are new, by their numbers.

        Where neither rows nor other threads read what was there before, and nobody holds it, its memory is written to.
        """
        if tape.h[H.filled] != memory.filled:
            engine.reclaim(tape)
            memory.filled = tape.h[H.filled]
        is_unread = not memory.filled and not tape.retained and is_only(tape)
        for t, elements in memory.changed:
            t = leaves[t] if t.__class__ is int else t
            if is_unread and elements.put_alone(t):  # see `_may_change`
                writing.count_write(t)
            else:
                in_grad_mode(tape, False, writing.assign, t, elements.new())
        made: dict[int, Tensor] = {}

        def new(k: int, before: Any, is_free: bool) -> Tensor:
            if k not in made:
                is_same = is_unread and is_free and isinstance(before, Tensor) and not before._kind.requires_grad
                made[k] = before if is_same and memory.new[k].put(before) else memory.new[k].new()
            return made[k]

        for t, gradient in self.given_gradients:
            t = leaves[t] if t.__class__ is int else t
            if gradient.__class__ is New:
                is_free = _holders(getattr(t, "_grad", None)) == 1 + (gradient.place >= 0)
                t._grad = new(gradient.number, getattr(t, "_grad", None), is_free)
            else:
                t._grad = leaves[gradient] if gradient.__class__ is int else gradient
        left = iter(numbers)
        for put, of in self.stored:
            if of.__class__ is New:
                is_free = of.place >= 0 and _holders(leaves[of.place]) == 2  # `leaves`, and who keeps it
                before = leaves[of.place] if of.place >= 0 else None
                now = new(of.number, before, is_free)
                if now is not before:
                    put(now)
            else:
                put(of.value if of.__class__ is Same else next(left))
        for action in self.actions:
            action()
        return made

    def machine_code(self) -> Lowered | None:
        """Its machine code, made once; None where there is none."""
        with _lock:
            if not self.is_lowered:
                self.is_lowered = True
                with contextlib.suppress(NotLoweredError):
                    self.lowered = lower(self)
        return self.lowered

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, its memory for one thread included."""
        return 2 * self.text.nbytes + self.size + (self.lowered.code.nbytes if self.lowered is not None else 0)

    @functools.cached_property
    def bindable(self) -> set[int]:
        """The offsets of what may be elsewhere than in the arena."""
        return bindable(self)

    def run(self, tape: Tape, leaves: Sequence[Any], binds: bool = True) -> Any:
        """What the function returns; a Miss; or PLAIN. Unless it `binds`, all that it is given is in the arena then."""
        if hooks.has_leaves and self._has_hooks(leaves):
            return PLAIN
        memory = getattr(self.memories, "of_thread", None)
        if memory is None or memory.tape() is not tape:
            memory = self.memories.of_thread = Memory(self, tape)
            if self.lowered is not None:
                memory.calls = -1
                memory.speed_up(self)
        if self.finds:
            leaves = [*leaves, *[find(leaves) for find in self.finds]]
        if not self.draws:
            return self._run(tape, memory, leaves, (), binds)
        states = [again().bit_generator.state for again, *_ in self.draws]
        draws = [getattr(again(), name)(*given, **facts) for again, name, given, facts in self.draws]
        found = self._run(tape, memory, leaves, draws, binds)
        if found is PLAIN or found.__class__ is Miss:  # what comes next draws the same
            for (again, *_), state in zip(reversed(self.draws), reversed(states), strict=True):
                again().bit_generator.state = state
        return found

    def _run(self, tape: Tape, memory: Memory, leaves: Sequence[Any], draws: Sequence[Any], binds: bool) -> Any:
        for view, source in memory.copied:
            view[...] = source
        numbers = self.composed(leaves, draws)
        views = memory.bind(numbers, binds) if memory.is_bound else memory.composed
        for view, number in zip(views, numbers, strict=False):
            if view is None:
                continue
            if number.__class__ is int and not is_float(number):
                return PLAIN
            if number.__class__ is float and view.itemsize == 4 and not -_LARGE < number < _LARGE:
                with np.errstate(over="ignore"):  # it is infinite in single precision
                    view[...] = number
            else:
                view[...] = number
        for address, nbytes, t, kind in memory.captured:
            if t.__class__ is int:
                t = leaves[t]
            if t._kind is not kind and not are_alike(t._kind, kind):
                return PLAIN
            if t._tape is tape:
                slot = t._slot
                is_stored = tape.slot_ints[_INTS * slot + _FLAGS] & STORED
                there = tape.slot_words[_WORDS * slot + _PRIMAL] if is_stored else engine.evaluate(tape, slot)
                if address.__class__ is int:
                    ctypes.memmove(address, there, nbytes)
                elif binds:
                    address.put(there)
                else:
                    ctypes.memmove(address.go_home(), there, nbytes)
            else:
                address = address if address.__class__ is int else address.go_home()
                array_at(address, kind, memory.arena)[...] = copied(t)[0]
        if self.has_effects and not self._may_change(tape, leaves):
            return PLAIN
        status = engine.replay(tape, memory.run_at, memory.tables_at)
        if status == rows.OK:
            if self.is_simple:
                return self.build([make() for make in memory.made])
            new = self._change(tape, memory, leaves, numbers[len(memory.composed) :])
            if self.same is not None:
                return self.build(self.same)
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


def _gradients(known: Sequence[tuple[Any, bool]]) -> Callable[..., bool]:
    """Whether those tensors, or arguments, have gradients that had some."""

    def are_there(leaves: Sequence[Any], _: Any) -> bool:
        for t, is_there in known:
            if (getattr(leaves[t] if t.__class__ is int else t, "_grad", None) is not None) is not is_there:
                return False
        return True

    return are_there


def _finder(of: Any, places: dict[int, int]) -> Callable[[Any], Any]:
    """What finds a tensor: a function, or it is the gradient of another one."""
    if not isinstance(of, Tensor):
        return lambda _: of()
    t = places.get(id(of), of)
    return lambda leaves: getattr(leaves[t] if t.__class__ is int else t, "_grad", None)


def _has_identity(leaf: Any) -> bool:
    """Whether it matters that an output is the same object as another."""
    return isinstance(leaf, (Tensor, np.ndarray)) or is_shown(leaf)


def _builder(structure: Any, which: Sequence[int]) -> Callable[[Any], Any]:
    """What makes a tree of results, of which each leaf is one."""
    if structure is None:
        return operator.itemgetter(0)
    if structure.kind is tuple and not any(structure.items) and len({*which}) == len(which):
        return tuple
    names: dict[str, Any] = {}
    places = iter(which)

    def text(node: Any) -> str:
        if node is None:
            return f"results[{next(places)}]"
        items = "".join(f"{text(item)}, " for item in node.items)
        if node.kind is tuple:
            return f"({items})"
        if node.kind is list:
            return f"[{items}]"
        name = f"made_{len(names)}"
        names[name] = node.made
        return f"{name}([{items}])"

    return eval(f"lambda results: {text(structure)}", names)  # type: ignore[no-any-return] # noqa: S307


def _view(memory: Memory, of: Result) -> np.ndarray:
    """Elements in the arena."""
    if of.offset < 0:
        return np.empty(of.kind.shape, of.kind.dtype.numpy)
    return array_at(memory.at + of.offset, of.kind, memory.arena)


def _maker(memory: Memory, program: Program, of: Any) -> Any:
    """What makes an output of elements in the arena; None of another."""
    if of.__class__ is not Result:
        return None
    like, kind, view = of.like, of.kind, _view(memory, of)
    if of.offset in program.bindable:
        return Made(Place(memory, program, of.offset, kind), view, like is Tensor)
    if like is float:
        return view.item
    if like is Tensor:
        return lambda: owning(view.copy(), kind.dtype, False)
    if isinstance(like, np.dtype):
        return view.copy if like == view.dtype and kind.contiguous else functools.partial(view.astype, like)
    return lambda: like(view[()])


def _other(of: Any, leaves: Sequence[Any], draws: Sequence[Any], new: dict[int, Tensor]) -> Any:
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
        elif is_shown(leaf):
            results.append(_of_shown(watch, leaf))
        elif id(leaf) in places:
            results.append(Given(places[id(leaf)]))
        elif id(leaf) in number_of:
            results.append(New(number_of[id(leaf)], -1))
        elif id(leaf) in watch.changed:
            results.append(Same(leaf))
        elif isinstance(leaf, Tensor):
            results.append(_of_tensor(watch, leaf, tops))
        elif id(leaf) in watch.shown:
            made, result = watch.shown[id(leaf)]
            form = float if type(made) is float else made.dtype if isinstance(made, np.ndarray) else type(made)
            results.append(result._replace(like=form))
        elif watch.inside == 0 and not isinstance(leaf, (type(None), str, bool, DType, Size)):
            results.append(_no(watch, f"returns what is not known to be computed ({type(leaf).__name__})"))
        elif type(leaf) in (int, float) and leaf in watch.kept_numbers:
            results.append(_no(watch, "returns a number that an optimiser may have"))
        elif isinstance(leaf, (*_PLAIN, np.ndarray)):
            results.append(Same(leaf.copy() if isinstance(leaf, np.ndarray) else leaf))
        else:
            results.append(_no(watch, f"returns an object ({type(leaf).__name__})"))
    return results


def _no(watch: Watch, what: str) -> Same:
    """What stands for an output of a function that has no program."""
    watch.fail(what)
    return Same(None)


def _of_shown(watch: Watch, leaf: Any) -> Any:
    made = leaf.value
    result = watch.result(leaf.t, made)
    if result is None:
        return Same(None)
    return result._replace(like=made.dtype if isinstance(made, np.ndarray) else type(made))


def _of_tensor(watch: Watch, t: Tensor, tops: dict[int, int]) -> Any:
    if not watch.is_own(t) or t._tape is not watch.tape:
        return Same(t)
    if t._kind.requires_grad:
        watch.fail("returns a tensor that requires grad")
    top = t
    while (base := getattr(top, "_origin", None)) is not None:
        top = base
    if not watch.is_own(top) or tops.setdefault(id(top), id(t)) != id(t):
        watch.fail("returns tensors that share their elements")
    result = watch.result(t, t)
    return Same(None) if result is None else result._replace(like=Tensor)
