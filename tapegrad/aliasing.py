"""Tensors that share elements: views, and what has a graph of its own.

Two relations tie them together, both kept in a view as `_origin` and `_recipe`:

    x --+-- x[1:]                 a view: its elements and its graph are those of its base
        +-- x.detach() -- [0]     detached: the elements of its base, a graph of its own, in which it is the root

A base knows, weakly, those of its views that are not outdated. A view is outdated once its base was written to
(`writing.py`): it holds no slot, and is made again from its base when someone looks.
"""

from __future__ import annotations

import functools
import struct
import weakref
from _thread import get_ident
from collections.abc import Iterator
from typing import Any, NamedTuple

from tapegrad import batched, engine, pages, recorder, recording
from tapegrad import tape as tapes
from tapegrad.batched import Batched
from tapegrad.debug import MEMORY
from tapegrad.kinds import Kind, contiguous_strides, flowing, kind_of, numbers
from tapegrad.ops import arithmetic, layout
from tapegrad.ops.declare import Op
from tapegrad.recording import (
    MISSED,
    last_rows,
    local,
    need_sum,
    pack_bits,
    quickly,
    record_layout,
)
from tapegrad.tape import in_grad_mode
from tapegrad.tensor import Tensor, describe, handle


class Recipe(NamedTuple):
    """How a view is made of its base. Strides and offsets are in bytes."""

    op: Op
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # over the base's memory
    offset: int
    adjoint: tuple[int, ...]  # over a contiguous base: where its adjoint is added, and where it is written
    start: int
    of: tuple[int, ...]  # the base's own strides
    detached: bool  # a root: it has a graph of its own
    recorded: bool  # made where operations are recorded

    @property
    def window(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """What of a contiguous base it shows: shape, strides, start."""
        return self.shape, self.adjoint, self.start


def view(
    op: Op, base: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, adjoint: tuple[int, ...],
    start: int, detached: bool = False,
) -> Tensor:  # fmt: skip
    """Record a view, and note that it shares the elements of its base.

    It has these strides and offset over the base's memory; over a contiguous base they are `adjoint` and `start`.
    """
    if base.__class__ is Batched:
        return batched.rules["view"](op, base, shape, strides, offset, adjoint, start, detached)
    base = local(base)
    recorded = base._tape.grad_enabled
    recipe = Recipe(op, shape, strides, offset, adjoint, start, base._kind.strides, detached, recorded)
    made = remade(recipe, base, recorded)
    # Where its base's base lies in order, it is a view of that: however deep views are nested, a write goes one step.
    # A base that is a root may have its elements in an order of its own.
    below = getattr(base, "_recipe", None)
    if (
        below is not None
        and (detached or not below.detached)
        and base._origin._kind.contiguous
        and base._kind.strides == below.adjoint
    ):
        recipe = recipe._replace(
            strides=made._kind.strides, offset=below.start + offset, adjoint=made._kind.strides,
            start=below.start + offset, of=base._origin._kind.strides, recorded=recorded and below.recorded,
        )  # fmt: skip
        base = base._origin
    made._origin, made._recipe = base, recipe
    _note(made)
    return made


class Again(NamedTuple):
    """How a view that was recorded once is recorded of another tensor of the base's kind."""

    kind: Kind
    word: int  # opcode and flags of the row
    bits: int  # its `b` and `c`
    recipe: Recipe
    untracked: Recipe  # where nothing is recorded for gradients
    below: Recipe | None  # how the tensor is made of the view's base, where it is a view of it


def again(made: Tensor, of: Tensor) -> Again | None:
    """How to record this view again quickly, the last row of the tape being its own; None where more is to be done."""
    recipe, origin = getattr(made, "_recipe", None), getattr(of, "_origin", None)
    if recipe is None or not recipe.recorded or made._kind.exported or (made._origin is not of and origin is None):
        return None
    below = None if made._origin is of else of._recipe
    if (below is not None and made._origin is not origin) or (rows := last_rows(made, [of])) is None:
        return None
    return Again(made._kind, rows[0].word, rows[0].bits, recipe, recipe._replace(recorded=False), below)


def view_again(way: Again | None, of: Tensor) -> Tensor | None:
    """The view that was recorded of another tensor of this one's kind; None where that is not all there is to do."""
    tape = of._tape
    if way is None or tape.thread != get_ident():
        return None
    base, origin = of, getattr(of, "_origin", None)
    if origin is None:
        if way.below is not None:
            return None
    elif (
        way.below is None
        or of._recipe != way.below
        or (kind := origin._kind).exported
        or not kind.contiguous
        or kind.strides != way.recipe.of
    ):
        return None
    else:
        base = origin
    try:
        made = quickly(tape, way.kind, pack_bits, way.word, way.bits, of._slot)
    except MISSED:
        return None
    made._origin, made._recipe = base, way.recipe if tape.grad_enabled else way.untracked
    views = base._views
    if views is None:
        views = base._views = _Views()
    views.note(made)
    return made


class WaysOfViews(dict[Any, Again]):
    """How views were recorded, as `recording.Ways` knows it of other rows; of a view, by how that is made, too."""

    def again(self, key: Any, of: Tensor) -> Tensor | None:
        """Such a view; None where none was recorded, or that is not all there is to do."""
        way = self.get((getattr(of, "_recipe", None), *key))
        return None if way is None or of.__class__ is Batched else view_again(way, of)

    def keep(self, key: Any, made: Tensor, of: Tensor) -> Tensor:
        """The view; and know how it was recorded."""
        if made is not of and not key[0].exported and (way := again(made, of)) is not None:
            if len(self) >= _MOST_WAYS:
                self.clear()
            self[getattr(of, "_recipe", None), *key] = way
        return made


_MOST_WAYS = 1 << 12  # views at ever other places of their bases are ever others


def learn_element(of: Kind) -> None:
    """Know how to record views of elements of tensors of a kind."""
    if of not in recorder.elements and of.contiguous and not (MEMORY or of.exported):
        if of.requires_grad:
            need_sum(of.dtype)
        recorder.learn_element(of, kind_of(of.dtype, (), None, of.requires_grad), layout.select.opcode)


def element(base: Tensor, position: int) -> Tensor | None:
    """The view of one element, at a position; None where that is not all there is to do."""
    tape, of = base._tape, base._kind
    known = recorder.elements.get(of)
    if known is None or tape.thread != get_ident() or getattr(base, "_origin", None) is not None:
        return None
    offset = position * of.itemsize
    try:
        made = quickly(tape, known[0], pack_bits, known[1], offset, base._slot)
    except MISSED:
        return None
    recorded = tape.grad_enabled
    made._origin = base
    made._recipe = Recipe(layout.select, (), (), offset, (), offset, of.strides, False, recorded)
    views = base._views
    if views is None:
        views = base._views = _Views()
    views.note(made)
    return made


def remade(recipe: Recipe, base: Tensor, recorded: bool) -> Tensor:
    """The row of a view."""
    op, shape, strides, offset, adjoint, start = recipe[:6]
    if base._kind.strides != recipe.of:  # a write has left the base's elements in order, as they were not before
        over = (adjoint, start) if base._kind.contiguous else _over(base._kind, shape, adjoint, start)
        if over is None:
            base, over = in_grad_mode(base._tape, True, base.clone), (adjoint, start)
        strides, offset = over
    of = base._kind
    requires_grad = 0 if recipe.detached else flowing(recorded, of.requires_grad)
    kind = kind_of(of.dtype, shape, strides, requires_grad)
    if requires_grad:
        need_sum(of.dtype)
    if of.contiguous and (kind.contiguous or kind.strides == strides):
        return record_layout(op, base, kind, offset)
    return record_layout(op, base, kind, 0, numbers((offset, start, *adjoint)))


def _over(kind: Kind, shape: tuple[int, ...], steps: tuple[int, ...], start: int) -> tuple[tuple[int, ...], int] | None:
    """Strides and offset over a base as it lies, of a view that has these steps over one in order.

    Each step is so many elements along each dimension of the base. Where such sums go beyond a dimension, as in rows
    that were flattened, there are no strides for it: None.
    """
    itemsize, strides = kind.itemsize, kind.strides

    def along(step: int) -> list[int]:
        """The coordinates of what is so many bytes from the first element."""
        left, found = step // itemsize, list[int]()
        for length in reversed(kind.shape):
            left, place = divmod(left, length)
            found.insert(0, place)
        return found if not left and step % itemsize == 0 else [*kind.shape]

    def offset(places: list[int]) -> int:
        return sum(place * stride for place, stride in zip(places, strides, strict=True))

    if 0 in kind.shape:
        return None
    first, moves = (
        along(start),
        [along(step) if n > 1 else [0] * kind.ndim for n, step in zip(shape, steps, strict=True)],
    )
    last = [
        place + sum((n - 1) * move[d] for n, move in zip(shape, moves, strict=True) if n)
        for d, place in enumerate(first)
    ]
    if any(place >= length for place, length in zip(last, kind.shape, strict=True)):
        return None
    return tuple(map(offset, moves)), offset(first)


class _Views:
    """The views of a base, weakly, by their identity: those that show its elements, and those that are outdated.

    Of these, the `passages` have views of their own: roots among them may be current.
    """

    __slots__ = ("current", "outdated", "passages")

    def __init__(self) -> None:
        self.current: dict[int, weakref.ref[Tensor]] = {}
        self.outdated: dict[int, weakref.ref[Tensor]] = {}
        self.passages: dict[int, weakref.ref[Tensor]] = {}

    def note(self, made: Tensor) -> None:
        """Know a view, as the last; now and then, forget those that are gone, whose identities are used again."""
        current, identity = self.current, id(made)
        current.pop(identity, None)
        if self.outdated:
            self.outdated.pop(identity, None)
            self.passages.pop(identity, None)
            self._forget(self.outdated)
        if len(current) > 8:
            self._forget(current)
        current[identity] = weakref.ref(made)

    @staticmethod
    def _forget(views: dict[int, weakref.ref[Tensor]]) -> None:
        n = len(views)
        if n > 8 and n & (n - 1) == 0:
            for known in [known for known, view in views.items() if view() is None]:
                del views[known]

    def __iter__(self) -> Iterator[weakref.ref[Tensor]]:
        """All of them, as weak references."""
        return iter((*self.current.values(), *self.outdated.values()))

    def is_only(self, *views: Tensor) -> bool:
        """Whether all of them are gone but these."""
        kept = {id(None), *map(id, views)}
        return all(id(known()) in kept for known in self)

    def living(self) -> list[Tensor]:
        """Those that show its elements; in the place of those that are outdated, the roots behind them."""
        found = [view for view in (known() for known in self.current.values()) if view is not None]
        for identity, known in [*self.passages.items()]:
            view = known()
            behind = [] if view is None else _views_of(view)
            if not behind:
                self.passages.pop(identity, None)  # what is made of it from now on finds it current again
            found += behind
        return found


def _noted(t: Tensor) -> _Views | None:
    """Its views: those that are known, and those that native code has made since (`recorder.py`); or there are none."""
    fresh, known = getattr(t, "_fresh", None), getattr(t, "_known", None)
    if fresh is not None:
        if known is None:
            known = t._known = _Views()
        for reference in fresh:
            made = reference()
            if made is not None:
                known.note(made)
        del t._fresh
    return known


def _set_noted(t: Tensor, views: _Views) -> None:
    t._known = views


def _forget_noted(t: Tensor) -> None:
    del t._known


Tensor._views = property(_noted, _set_noted, _forget_noted)


def _note(made: Tensor) -> None:
    """Let the base know its view; where NumPy can write to the base, it can write to the view."""
    base = made._origin
    views = base._views
    if views is None:
        views = base._views = _Views()
    views.note(made)
    if base._kind.exported:
        engine.evaluate(made._tape, made._slot)
        made._set_kind(exported=True)


def is_view(t: Tensor) -> bool:
    """Whether the graph of `t` is that of a base."""
    recipe = getattr(t, "_recipe", None)
    return recipe is not None and not recipe.detached


def top_of(t: Tensor) -> Tensor:
    """The tensor that has all elements, at the end of all bases."""
    while (base := getattr(t, "_origin", None)) is not None:
        t = base
    return t


def family(t: Tensor) -> Iterator[Tensor]:
    """All handles that share elements with `t`, a base before its views; but no views that are outdated."""
    waiting = [top_of(t)]
    while waiting:
        member = waiting.pop()
        yield member
        waiting.extend(_views_of(member))


def _views_of(t: Tensor) -> list[Tensor]:
    views = t._views
    return [] if views is None else views.living()


recording.made_of, recording.family_of = remade, family


# --- views that are outdated ------------------------------------------------------------------------------------------

# What an object has, whatever its class says of it.
_class, _slot, _kind = vars(object)["__class__"], vars(Tensor)["_slot"], vars(Tensor)["_kind"]


@functools.cache
def _outdated(cls: Any) -> Any:
    """The class of such views as are a Tensor, or of a subclass: made again as soon as slot or kind are asked for."""
    members = {
        "__slots__": (),
        "__class__": property(lambda _: cls),
        "_slot": property(lambda self: renewed(self)._slot),
        "_kind": property(lambda self: renewed(self)._kind),
        "__del__": bool,  # no slot whose life could end; called without arguments, in C, where no Ctrl-C is lost
    }
    return type(cls)(cls.__name__, (cls,), members)


_Outdated = _outdated(Tensor)
recorder.classes_of_views[:] = _Outdated, Recipe


def renewed(t: Tensor) -> Tensor:
    """An outdated view, made again from its base."""
    if t._tape.thread != get_ident():
        raise RuntimeError(
            "a view of another thread's tape can be used only once it is made again from what was written to its base: "
            f"look at it there first, for example with .item() or .numpy(){pages.THREADS}"
        )
    waiting = [t]
    while type(waiting[-1]._origin) is not waiting[-1]._origin.__class__:
        waiting.append(waiting[-1]._origin)
    for member in reversed(waiting):
        made = remade(member._recipe, member._origin, True)
        _kind.__set__(member, made._kind)
        _slot.__set__(member, made._slot)
        _class.__set__(made, _Outdated)  # the slot has gone over
        _class.__set__(member, member.__class__)
        _note(member)
    return t


def outdate(t: Tensor) -> None:
    """Let a view be made again before it is used; one that retains its gradient is made again at once."""
    tape, slot, kind, views = t._tape, t._slot, t._kind, t._origin._views
    views.outdated[id(t)] = reference = views.current.pop(id(t))
    if t._views is not None:
        views.passages[id(t)] = reference
    own: Any = t.__class__
    _class.__set__(t, _outdated(own))
    _slot.__set__(t, 0)
    handle(tape, slot, kind)  # which ends with it


def outdate_views(top: Tensor, current: set[int]) -> list[tuple[Tensor, Any]]:
    """Outdate the views of `top`, and those of roots that have their own new values (`current`, by id).

    Returns those that retain their gradients, with what holds them.
    """
    waiting, retaining, retained = [top], [], top._tape.retained
    while waiting:
        for member in _views_of(waiting.pop()):
            waiting.append(member)
            if id(member) not in current:
                if member._slot in retained:
                    retaining.append((member, retained[member._slot]))
                outdate(member)
    return retaining


# --- graphs that begin where elements are shared ----------------------------------------------------------------------

_of_row = struct.Struct("=h14xi").unpack_from  # opcode, a


def graph_slot(t: Tensor) -> int:
    """The slot at which the graph of `t` begins: behind rows that only gave it other numbers."""
    tape, slot = t._tape, t._slot
    if not t._kind.requires_grad or t._kind.is_leaf:
        return slot
    while True:
        row = tape.synced_row(slot)
        if row < 0:
            return slot
        opcode, a = _of_row(tape.rows, row * tapes.ROW_BYTES)
        if opcode != arithmetic._overwritten.opcode:
            return slot
        slot = a


def detached(t: Tensor) -> Tensor:
    """A tensor with the elements of `t`, and no graph."""
    kind = t._kind
    return view(
        layout.detach, t, kind.shape, kind.strides, 0, contiguous_strides(kind.shape, kind.itemsize), 0, detached=True
    )


def show(top: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], start: int) -> Tensor:
    """A tensor with no graph that shows some elements of another: strides and start in bytes, as if they lay in order.

    Raises
    ------
    ValueError
        Where some are outside.
    """
    itemsize = top._kind.itemsize
    if not top._kind.contiguous:
        top = detached(top).clone()
    last = start + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and not (0 <= start <= last < top._kind.numel * itemsize and min((0, *strides)) == 0):
        raise ValueError(f"{describe(top)} has no elements at {shape}, {strides}, {start}")
    if any(step % itemsize for step in (start, *strides)):
        raise ValueError(f"elements of {itemsize} bytes are not at {strides}, {start}")
    return view(layout.as_strided_view, top, shape, strides, start, strides, start, detached=True)
