"""Writing to tensors, alone or with all that share their elements.

A tape's slot is written once. So writing in place means that handles get other slots: the one that is written to, and
all that share its elements (`aliasing.py`).

Writing to a view is writing its new value into its base, and so on to the root of its graph, which has the new value
with its graph. All other roots that share the elements keep their graphs, and get the numbers alone. Views are outdated
then. What NumPy can see is written to in its memory, at the line that writes.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import weakref
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Sequence
from itertools import starmap
from typing import Any

import numpy as np

from tapegrad import batched, engine, kinds, pages, recording
from tapegrad import tape as tapes
from tapegrad.aliasing import (
    detached,
    family,
    graph_slot,
    is_view,
    learn_element,
    outdate,
    outdate_views,
    remade,
    renewed,
    top_of,
)  # fmt: skip
from tapegrad.batched import Batched, bottom, levels
from tapegrad.debug import MEMORY
from tapegrad.kinds import GRADIENTS, TANGENTS, Kind, contiguous_strides, kind_of
from tapegrad.ops import arithmetic, indexing
from tapegrad.recording import (
    MISSED,
    Imported,
    pack_bits,
    quickly,
    record_array,
    shared,
    take_over,
)
from tapegrad.tape import ROW, H, Tape, current_tape, in_grad_mode
from tapegrad.tensor import Tensor, describe, exchange, lend, location, owner_of, slot_in, stored

_A_ROW, _OUT, _ROW_KIND = ROW.itemsize, ROW.fields["out"][1], ROW.fields["kind"][1]  # type: ignore[index]
_FILLED, _SYNCED = H.filled, H.synced
_an_int, _pack_int = struct.Struct("=i").unpack_from, struct.Struct("=i").pack_into

# A root, what it is to hold, and whether it keeps its graph.
Change = tuple[Tensor, Tensor, bool]


def check_in_place(t: Tensor, name: str, of: str = "a leaf", tracked: bool = False, writes: bool = True) -> None:
    """PyTorch's errors for writing to leaves that require grad, and where one element would have to hold two values.

    `of` is "a view of a leaf" where `t` is written to through a view that is yet to be made; `tracked` says that what
    is written requires grad; where `writes` is false only the form changes, and elements may be shared.
    """
    t = bottom(t)
    take_over(t)
    if top_of(t).__class__ is Imported:
        raise shared(t)
    if writes:
        check_overlap(t, name)
    if not current_tape().grad_enabled:
        return
    root, recorded = t, True
    while is_view(root):
        recorded = recorded and root._recipe.recorded
        root, of = root._origin, "a view of a leaf"
    requires_grad = root._kind.requires_grad
    if (requires_grad or tracked) and not recorded:
        raise RuntimeError(
            "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that this "
            "use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view "
            "and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or "
            f"both outside (if you want the inplace to be tracked): {name} on {describe(t)}, at {location()}"
            f"{pages.IN_PLACE}"
        )
    if requires_grad and root._kind.is_leaf:
        raise RuntimeError(
            f"{of} Variable that requires grad is being used in an in-place operation. {name} on "
            f"{describe(t)}, at {location()}: write it out of place, or do it under tapegrad.no_grad(){pages.IN_PLACE}"
        )


# What writes to some elements by their places: of an element that has several, the others would be what it was.
_PARTIAL = {
    "masked_fill_", "masked_scatter_", "index_put_", "index_fill_", "index_copy_", "index_add_", "index_reduce_",
    "put_", "scatter_", "scatter_add_", "scatter_reduce_",
}  # fmt: skip


def repeats(kind: Kind) -> bool:
    """Whether an element may have several places, as windows have that overlap."""
    reach = 0
    for step, n in sorted(zip(map(abs, kind.strides), kind.shape, strict=True)):
        if n > 1:
            if step <= reach:
                return True
            reach += step * (n - 1)
    return False


def check_overlap(t: Tensor, name: str) -> None:
    """PyTorch's error where an element of memory would have to hold several values."""
    member = t
    while True:
        kind = member._kind
        is_partial = member is t and name in _PARTIAL and repeats(kind)
        if is_partial or any(step == 0 and n > 1 for step, n in zip(kind.strides, kind.shape, strict=True)):
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. "
                f"Please clone() the tensor before performing the operation: {name} on {describe(t)}, at {location()}"
            )
        if not is_view(member):
            return
        member = member._origin


def assign(t: Tensor, value: Tensor, stores: Sequence[tuple[Any, str, Any]] = ()) -> Tensor:
    """Make `value` what `t` holds, and let all that share its elements see it; set other attributes with that.

    `value` has the shape and dtype of `t`, and no other holder: its handle is used up.
    """
    if t.__class__ is Batched or value.__class__ is Batched:
        return batched.rules["assign"](t, value, stores)
    count_write(counter_of(t))
    tape = value._tape  # this thread's; that of `t` is another's as soon as its thread has taken it over
    if value._kind.requires_grad:
        check_in_place(t, "an in-place operation", tracked=True)
    root, value = _into_root(t, value)
    if not tape.grad_enabled:
        value = of_same_graph(root, value)
    changed = [(root, value, not tape.grad_enabled)]
    # Other roots, that have the elements from further down, keep their graphs.
    top = in_grad_mode(tape, False, _into_other_roots, root, value, changed)
    if top._kind.exported:
        with tape.lock:
            _write_memory(top, changed)
            exchange_all((), stores)
    else:
        _hold(top, changed, stores)
    return t


def count_write(counter: Tensor) -> None:
    """Note that elements were written to, with the one that counts it."""
    try:
        counter._writes += 1
    except AttributeError:
        counter._writes = 1


def counter_of(t: Tensor) -> Tensor:
    """Who counts writes through `t`: the one that has all elements, or some `data` of it, which counts its own."""
    while not hasattr(t, "_writes") and (base := getattr(t, "_origin", None)) is not None:
        t = base
    return t


def _version(self: Tensor) -> int:
    """How often the elements were written to, by whatever shares them, but for `data`."""
    return getattr(counter_of(bottom(self)), "_writes", 0)


def _base(self: Tensor) -> Tensor | None:
    """What this is a view of, or None."""
    if self.__class__ is Batched or not is_view(self):
        return None
    while is_view(self):
        self = self._origin
    return self


Tensor._version = property(_version, doc=_version.__doc__)
Tensor._base = property(_base, doc=_base.__doc__)
Tensor._is_view = is_view


def stands_alone(t: Tensor, *views: Tensor) -> bool:
    """Whether to give `t` another value is to give it another slot, and nothing else.

    It shares elements with nobody, but for these views. Where gradients are recorded it is no leaf; elsewhere it keeps
    its graph if it is one, or has none.
    """
    tape, kind = t._tape, t._kind
    # Most have no views: to see that is quicker than to look for them.
    is_known = getattr(t, "_known", None) is not None or getattr(t, "_fresh", None) is not None
    known = t._views if is_known else None
    if known is not None and known.is_only():
        del t._views  # native code asks no further where there is none
        known = None
    return (
        t.__class__ is Tensor
        and tape.thread == get_ident()
        and kind.contiguous
        and not kind.exported
        and (not kind.is_leaf if tape.grad_enabled else kind.is_leaf or not kind.requires_grad)
        and not tape.retained
        and getattr(t, "_origin", None) is None
        and (not views if known is None else known.living() == [*views])
    )


def shows_alone(t: Tensor) -> bool:
    """Whether `t` is a view of a tensor that, but for it, stands alone."""
    base = getattr(t, "_origin", None)
    if base is None or t.__class__ is not Tensor or t._recipe.detached:
        return False
    recorded = t._recipe.recorded or not t._tape.grad_enabled
    return recorded and 0 not in t._kind.strides and stands_alone(base, t)


def assign_shown(t: Tensor, value: Tensor) -> Tensor:
    """`assign`, where `t` shows the elements of another alone."""
    base, (shape, strides, start) = t._origin, t._recipe.window
    result = None if shape else written_again(base, value, start // base._kind.itemsize)
    if result is None:
        result = written(base, value, shape, strides, start)
    outdate(t)
    assign_alone(base, result)
    if not shape:
        renewed(t)
        if base._views.is_only(t):  # noted as native code notes views, it can go on from here
            del base._views
            base._fresh = [weakref.ref(t)]
    return t


def assign_alone(t: Tensor, value: Tensor, end: int = 0) -> Tensor:
    """`assign`, where `t` stands alone; the value, of its layout, was recorded last, or where the tape had `end`."""
    tape, slot, kind = t._tape, t._slot, t._kind
    if kind.is_leaf:
        h, rows, now = tape.h, tape.rows, value._slot
        filled = h[_FILLED]
        end = end or filled
        if not h[_SYNCED] * _A_ROW < end <= filled or _an_int(rows, end - _A_ROW + _OUT)[0] != now:
            return assign(t, value)
        # A leaf whose value is yet to be computed.
        _pack_int(rows, end - _A_ROW + _ROW_KIND, kind.index)
        value._kind = kind
        tape.former[slot] = tape.leaves[now] = tape.leaves[slot]
    count_write(t)
    exchange(t, value)
    return t


def _into_other_roots(root: Tensor, value: Tensor, changed: list[Change]) -> Tensor:
    """Add to `changed` what all other roots are to hold when `root` holds `value`; returns the top."""
    top, numbers_ = root, value
    while getattr(top, "_recipe", None) is not None:
        numbers_ = written(top._origin, numbers_, *top._recipe.window)
        top, numbers_ = _into_root(top._origin, numbers_)
        changed.append((top, of_same_graph(top, numbers_), True))
    news = {id(member): new for member, new, _ in changed}
    for member in family(top):
        if id(member) not in news and _is_other_root(member):
            news[id(member)] = new = of_same_graph(member, _new_of(member, news))
            changed.append((member, new, True))
    return top


def _new_of(t: Tensor, news: dict[int, Tensor]) -> Tensor:
    """What it is to hold: known, or that of its base seen through its recipe."""
    return news[id(t)] if id(t) in news else remade(t._recipe, _new_of(t._origin, news), False)


def _is_other_root(t: Tensor) -> bool:
    """Whether it shares elements, and has a graph of its own."""
    recipe = getattr(t, "_recipe", None)
    return recipe is not None and recipe.detached and t._kind.requires_grad != 0


def _into_root(t: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The root of the graph of `t`, and what it holds when `t` holds `value`."""
    while is_view(t):
        value = written(t._origin, value, *t._recipe.window)
        t = t._origin
    return t, value


def written(base: Tensor, value: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], start: int) -> Tensor:
    """A copy of `base` with `value` in a window: its shape, and strides and start in bytes over a contiguous base."""
    size = base._kind.itemsize
    steps = tuple(step // size for step in strides)
    # The rule for `base` walks the window in the order of its elements' places.
    order = sorted(range(len(shape)), key=lambda d: -steps[d])
    window = (start // size, len(shape), *shape, *steps, *(shape[d] for d in order), *(steps[d] for d in order))
    return record_written(base, value, window)


# The kind of the result, by those of what is written to and of one element: kernels are there, and nothing is to be
# checked but places.
_of_writes = recording.memos[indexing.write.opcode]
_WRITE, _HALF = indexing.write.opcode | tapes.PARAMS << 16, 0xFFFFFFFF


def written_again(base: Tensor, value: Tensor, start: int) -> Tensor | None:
    """A copy of `base` with one element written, so many from the first; None where that is not all there is to do.

    Of a base that stands alone.
    """
    tape, kind = base._tape, base._kind
    result = _of_writes.get((kind, value._kind))
    if result is None or value._tape is not tape or tape.watch is not None:
        return None
    try:
        return quickly(tape, result, pack_bits, _WRITE, value._slot & _HALF | kinds.place(start) << 32, base._slot)
    except MISSED:
        return None


def record_written(base: Tensor, value: Tensor, window: tuple[int, ...]) -> Tensor:
    """Record it, by the parameters of the row."""
    base, value = (t if t._kind.contiguous else t.clone() for t in (base, value))
    result = record_array(indexing.write, base._kind.shape, base.dtype, base, value, params=tuple(window))
    key = base._kind, value._kind
    is_element = not window[1] and value._kind.shape == ()
    shows_all = base._tape.grad_enabled is True or not any(kind.requires_grad for kind in key)
    if is_element and shows_all and key not in _of_writes and not (MEMORY or any(kind.exported for kind in key)):
        _of_writes[key] = result._kind
        learn_element(key[0])
        for learn in recording.learners:
            learn(indexing.write, key, result._kind)
    return result


indexing.write.record = record_written


def of_same_graph(t: Tensor, numbers_: Tensor) -> Tensor:
    """The numbers, with the graph of `t` where it has one."""
    if not t._kind.requires_grad & GRADIENTS or t._kind.is_leaf:
        return numbers_
    if (t._kind.requires_grad | numbers_._kind.requires_grad) & TANGENTS:
        raise RuntimeError(
            "in forward mode, writing to a tensor that has a graph where gradients are not recorded is not supported: "
            f"write to a clone() of it: {describe(t)}, at {location()}"
        )
    tape = numbers_._tape
    slot_in(tape, t)
    origin = lend(tape, graph_slot(t), t._kind)
    return in_grad_mode(tape, True, arithmetic._overwritten.record, origin, numbers_)


def _hold(top: Tensor, changed: list[Change], stores: Sequence[tuple[Any, str, Any]] = ()) -> None:
    """Let roots hold their new values, all in one moment; the old ones go with the values' handles."""
    tape = changed[0][1]._tape
    for t, _, _ in changed:
        slot_in(tape, t)  # no other thread has taken it
    pairs = [(t, _fitting(t, value), same_graph) for t, value, same_graph in changed]
    retaining = outdate_views(top, {id(t) for t, _, _ in pairs})
    for t, value, same_graph in pairs:
        pass_on(t, value, same_graph)
    exchange_all([(t, value) for t, value, _ in pairs], stores)
    for member, reference in retaining:
        tape.retained[slot_in(tape, member)] = reference


def _fitting(t: Tensor, value: Tensor) -> Tensor:
    """In order, where `t` is, or in its order of dimensions; a leaf where `t` is one."""
    tape, kind = value._tape, t._kind
    if kind.contiguous and not value._kind.contiguous:  # written through a transposed view
        value = in_grad_mode(tape, value._kind.requires_grad, value.clone)
    elif value._kind.strides != kind.strides and value._kind.shape == kind.shape:
        order = sorted(range(kind.ndim), key=lambda d: -kind.strides[d])
        steps = contiguous_strides(tuple(kind.shape[d] for d in order), kind.itemsize)
        if all(kind.strides[d] == step or kind.shape[d] == 1 for d, step in zip(order, steps, strict=True)):
            value = in_grad_mode(tape, value._kind.requires_grad, _in_order, value, order)
    if kind.requires_grad and kind.is_leaf and not value._kind.requires_grad:
        engine.evaluate(tape, value._slot)
        value._set_kind(requires_grad=True, leaf=True)
    return value


def _in_order(value: Tensor, order: list[int]) -> Tensor:
    """A copy whose memory is gone through in this order of dimensions, the last the fastest."""
    made: Tensor = value.permute(order).clone().permute([order.index(d) for d in range(len(order))])
    return made


def shares(t: Tensor) -> bool:
    """Whether others have its elements: views, what it is a view of, arrays."""
    return bool(t._kind.exported or getattr(t, "_origin", None) is not None or len([*family(t)]) > 1)


def reform(t: Tensor, value: Tensor, name: str) -> Tensor:
    """Let `t` hold a value of its own that has another shape. Others can't share its elements then: see `assign`."""
    if shares(t):
        raise RuntimeError(
            f"{name}: the shape of {describe(t)} can't change in place, since others share its elements (views, "
            f"arrays), at {location()}: use the function without the underscore"
        )
    value = _fitting(t, value)
    pass_on(t, value, not value._tape.grad_enabled)
    count_write(t)
    exchange_all([(t, value)])
    return t


def relay(t: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Let `t` be what a function makes of it, a view of itself, whatever shares its elements."""
    if function(t) is t:  # or it raises, before anything has changed
        return t
    take_over(t)
    count_write(counter_of(t))
    old, is_root = t._kind, getattr(t, "_origin", None) is None
    other = _leave(t)
    if is_root:  # all count with it from now on
        other._writes = t._writes
        del t._writes
    made = function(other)
    if old.is_leaf and not made._kind.requires_grad:
        engine.evaluate(t._tape, made._slot)
        made._set_kind(requires_grad=True, leaf=True)
    base = t._origin = made._origin
    t._recipe = made._recipe
    pass_on(t, made, True)
    exchange_all([(t, made)])
    base._views.note(t)
    return t


def pass_on(t: Tensor, value: Tensor, same_graph: bool) -> None:
    """What is known of the slot that a handle has holds of the one that it is about to get."""
    tape, now = value._tape, value._slot
    was = slot_in(tape, t)  # no other thread has taken it since
    if was in tape.leaves:  # rows that read the old value still have the leaf behind them
        tape.former[was] = tape.leaves[was]
    if was in tape.leaves or now in tape.leaves:
        tape.leaves[now] = weakref.ref(t)
    if not same_graph and was in tape.retained:  # an entry counts while its tensor has the slot
        tape.retained[now] = weakref.ref(t)


def exchange_all(pairs: Sequence[tuple[Tensor, Tensor]], stores: Sequence[tuple[Any, str, Any]] = ()) -> None:
    """Exchange what handles hold, and set other attributes: the old values go with the second handles.

    It is one call, so that neither Ctrl-C nor another thread comes in the midst.
    """
    if len(pairs) == 1 and not stores:
        exchange(*pairs[0])
        return
    for t, _ in pairs:
        if t._tape.watch is not None:
            t._tape.watch.changes(t)
            if len(pairs) > 1:
                t._tape.watch.fail("changes tensors that share their elements")
    both = [(u, v) for t, value in pairs for u, v in ((t, value), (value, t))]
    changes = [(u, name, getattr(v, name)) for u, v in both for name in ("_tape", "_slot", "_kind")]
    deque(starmap(setattr, (*changes, *stores)), maxlen=0)


def _write_memory(top: Tensor, changed: list[Change]) -> None:
    """NumPy sees the memory of these roots: what is written must be there, and they must be there.

    The slots that they had, which rows may read, get their elements moved to memory of their own.
    """
    tape, written_at = top._tape, changed[0][0]
    if tape.watch is not None:
        tape.watch.fail("writes to memory that NumPy shares")
    numbers_ = changed[0][1]._array().copy()
    for _, new, _ in changed:
        engine.evaluate(tape, new._slot)
    places = [int(tape.slots["primal"][member._slot]) for member, _, _ in changed]
    owner = owner_of(top)
    array = tape.arrays[owner]
    retaining = outdate_views(top, {id(member) for member, _, _ in changed})
    _move_away(tape, owner)
    kinds.array_at(places[0], written_at._kind, None)[...] = numbers_
    for (member, new, same_graph), place in zip(changed, places, strict=True):
        _put_at(member, new, place, member._kind, array, same_graph)
    for member, _, _ in changed:
        if member is not top:
            tape.slots["base"][member._slot] = top._slot
    for member, reference in retaining:
        tape.retained[member._slot] = reference


def put_into_memory(t: Tensor, value: Tensor, place: Tensor, array: Any, same_graph: bool) -> None:
    """Let `t` have the graph of `value`, and the elements of `place`, whose memory an array keeps."""
    slots = t._tape.slots
    _put_at(t, value, int(slots["primal"][place._slot]), place._kind, array, same_graph)
    if t._kind.requires_grad:
        slots["base"][t._slot] = owner_of(place)


def _put_at(t: Tensor, value: Tensor, place: int, layout: Kind, array: Any, same_graph: bool) -> None:
    made = placed(t, value, place, layout, array)
    pass_on(t, made, same_graph)
    exchange_all([(t, made)])


def placed(t: Tensor, value: Tensor, place: int, layout: Kind, array: Any) -> Tensor:
    """What `t` is to hold, with the graph of `value`, and elements at a place whose memory an array keeps."""
    tape = t._tape
    tracked, is_leaf = 0 if value._kind.is_leaf else value._kind.requires_grad, t._kind.is_leaf
    kind = kind_of(layout.dtype, layout.shape, layout.strides, tracked or is_leaf, is_leaf and not tracked, True)
    if tracked:
        is_own = value._kind.strides == kind.strides and value._slot != t._slot
        made = value if is_own else in_grad_mode(tape, True, value.clone)
        engine.evaluate(tape, made._slot)
        slot, flags = made._slot, tape.slots["flags"]
        if flags[slot] & tapes.OWNED:  # its memory goes with a handle of its own
            flags[slot] &= ~tapes.OWNED
            stored(tape, made._kind, int(tape.slots["primal"][slot]), None)
        tape.slots["kind"][slot], tape.slots["primal"][slot] = kind.index, place
        flags[slot], tape.slots["base"][slot] = tapes.STORED, -1
        tape.arrays[slot] = array
        made._kind = kind
    else:
        made = stored(tape, kind, place, array, is_leaf)
    return made


def _move_away(tape: Tape, owner: int) -> None:
    """Give a slot, and the views of it, memory of their own with the elements as they are."""
    kind = kinds.objects[tape.slots["kind"][owner]]
    primal = int(tape.slots["primal"][owner])
    reach = [(n - 1) * step for n, step in zip(kind.shape, kind.strides, strict=True) if n]
    first = primal + sum(step for step in reach if step < 0)
    moved = np.empty(sum(map(abs, reach)) + kind.itemsize, np.uint8)
    ctypes.memmove(kinds.address_of(moved), first, len(moved) if kind.numel else 0)
    slots = tape.slots[: tape.top]
    sharing = (slots["base"] == owner) & (slots["flags"] & (tapes.FREE | tapes.STORED) == tapes.STORED)
    sharing[owner] = True
    slots["primal"][sharing] += kinds.address_of(moved) - first
    tape.arrays[owner] = moved


def mark_exported(top: Tensor) -> None:
    """Let all that share elements be in the memory of `top`, which an array keeps: NumPy can write to it."""
    tape, owner = top._tape, owner_of(top)
    for member in family(top):
        engine.evaluate(tape, member._slot)
        if owner_of(member) == owner:
            if not member._kind.exported:
                member._set_kind(exported=True)
        elif _is_other_root(member):  # it was given its numbers apart from the others
            place = remade(member._recipe, member._origin, False)
            engine.evaluate(tape, place._slot)
            put_into_memory(member, member, place, tape.arrays[owner], True)
        else:
            outdate(member)


# --- which graph goes with the elements -------------------------------------------------------------------------------


def cut_off(t: Tensor) -> None:
    """Take the graph from `t`; rows that were recorded go on to have it behind them."""
    if t._kind.is_leaf:
        t._set_kind(requires_grad=False, leaf=False)
        return
    exchange_all([(t, detached(t))])


def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """Ask for gradients, or cease to; returns the tensor itself.

    Raises
    ------
    RuntimeError
        Where the dtype is not floating point, or the tensor is not a leaf and `requires_grad` is False.
    """
    if not isinstance(requires_grad, bool):
        raise TypeError(f"requires_grad_(): argument 'requires_grad' must be bool, not {type(requires_grad).__name__}")
    if levels() and sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] != "tapegrad":
        raise RuntimeError(
            "You are attempting to call Tensor.requires_grad_() (or perhaps using torch.autograd.functional.* APIs) "
            "inside of a function being transformed by a functorch transform. This is unsupported, please attempt to "
            "use the functorch transforms (e.g. grad, vjp, jacrev, jacfwd, hessian) or call requires_grad_() outside "
            f"of a function being transformed instead: under vmap, at {location()}"
        )
    kind = self._kind
    if requires_grad == self.requires_grad:
        return self
    if self.__class__ is Batched:
        requires_grad_(bottom(self), requires_grad)
        return self
    if kind.requires_grad & TANGENTS:
        raise RuntimeError(
            "requires_grad_() of a tensor that has a tangent: ask for gradients before make_dual, of the primal, at "
            f"{location()}"
        )
    if not requires_grad and not kind.is_leaf:
        raise RuntimeError(
            "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in "
            "a subgraph "
            "that doesn't require differentiation use var_no_grad = var.detach()."
        )
    if not kind.dtype.is_floating_point:
        raise RuntimeError(
            f"only Tensors of floating point and complex dtype can require gradients, but this one is "
            f"{kind.dtype}; "
            "convert it with .to(tapegrad.float64) first"
        )
    take_over(self)
    if requires_grad:
        engine.evaluate(self._tape, self._slot)  # what made it is no part of the graph
        if is_view(self):
            self._recipe = self._recipe._replace(detached=True)
    self._set_kind(requires_grad=requires_grad, leaf=requires_grad)
    if requires_grad:
        outdate_views(self, {id(root) for root in family(self) if _is_other_root(root)})  # they are views of a leaf
    return self


Tensor.requires_grad_ = requires_grad_


def data(self: Tensor) -> Tensor:
    """A tensor with the same elements and a graph of its own: writing to it writes to this one, unrecorded.

    Set to another tensor, this one shares the elements of that, and keeps its graph. Views of it keep what they show.
    """
    made: Tensor = self.detach()
    if made.__class__ is not Batched:
        made._writes = 0  # what is written to it is its own affair
    return made


def _set_data(self: Tensor, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
    if self.__class__ is Batched or value.__class__ is Batched:
        raise RuntimeError(f"mutating directly with `.data` under vmap transform is not allowed, at {location()}")
    if self._kind.requires_grad and not value._kind.dtype.is_floating_point:
        raise RuntimeError(
            "data set to a tensor that requires gradients must be floating point or complex dtype, but it is "
            f"{describe(value)}, at {location()}"
        )
    take_over(self)
    if _shown_by(value) == _shown_by(self) and not value._kind.requires_grad:
        return  # as after `x.data += y`: it has these elements already
    old, tape = self._kind, self._tape
    has_graph = old.requires_grad and not old.is_leaf
    if has_graph and (value._kind.shape, value._kind.dtype) != (old.shape, old.dtype):
        raise RuntimeError(
            f"data set to a computed tensor must have its shape and dtype: it is {describe(self)}, and the other "
            f"{describe(value)}, at {location()}"
        )
    like = detached(value)
    new = of_same_graph(self, like)
    _leave(self)
    base = self._origin = like._origin
    self._recipe = like._recipe
    if new._kind.requires_grad and base._kind.exported:
        put_into_memory(self, new, like, tape.arrays[owner_of(base)], True)
    else:
        new = _fitting(self, new) if new._kind.shape == old.shape else new
        if old.requires_grad and not new._kind.requires_grad:
            engine.evaluate(tape, new._slot)
            new._set_kind(requires_grad=True, leaf=True)
        pass_on(self, new, True)
        exchange_all([(self, new)])
    base._views.note(self)


def _shown_by(t: Tensor) -> tuple[int, Any]:
    """Which elements of which tensor it has."""
    recipe, kind = getattr(t, "_recipe", None), t._kind
    if recipe is None:
        return id(t), (kind.shape, contiguous_strides(kind.shape, kind.itemsize), 0)
    return id(t._origin), recipe.window


def _leave(t: Tensor) -> Tensor:
    """Take a tensor from those that it shares elements with: what is a view of it becomes one of another handle.

    That is returned.
    """
    base, recipe, views = (getattr(t, name, None) for name in ("_origin", "_recipe", "_views"))
    other = lend(t._tape, t._slot, t._kind)
    if base is not None:
        base._views.current.pop(id(t), None)
        del t._origin, t._recipe
    if views is not None:
        other._views = views
        for known in views:
            if (member := known()) is not None:
                member._origin = other
        del t._views
    if base is not None:
        other._origin, other._recipe = base, recipe
        base._views.note(other)
    return other


Tensor.data = property(data, _set_data, doc=data.__doc__)
