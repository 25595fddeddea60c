"""Tensors that share elements, and writing to them.

A tape's slot is written once. So writing in place means that the handle gets another slot; and so do all handles that
share its elements: a view keeps its base and the recipe by which it was made, the base knows its views (weakly).
Writing to a view is writing the view's new value into the base, then making every view again from that.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import Any

import numpy as np

from tapegrad import engine
from tapegrad import tape as tapes
from tapegrad.ops import arithmetic
from tapegrad.tape import in_grad_mode
from tapegrad.tensor import (
    Imported,
    Tensor,
    describe,
    exchange,
    local,
    location,
    record_elementwise,
    shared,
    slot_in,
    stored,
    take_over,
)

# What makes a view again from its base, and what writes a view's new value into its base.
View = Callable[[Tensor], Tensor]
Write = Callable[[Tensor, Tensor], Tensor]


def as_view(view: Tensor, base: Tensor, make: View, write: Write) -> Tensor:
    """Note that `view` shares the elements of `base`."""
    if base._tape is not view._tape:
        base = local(base)
    view._base, view._recipe = base, (make, write)
    try:
        views = base._views
    except AttributeError:
        views = base._views = []
    if len(views) > 8:
        views[:] = [v for v in views if v() is not None]
    views.append(weakref.ref(view))
    if base._kind.exported:
        engine.evaluate(view._tape, view._slot)
        view._set_kind(exported=True)
    return view


def root_of(t: Tensor) -> Tensor:
    """The tensor at the bottom of a chain of views."""
    while (base := getattr(t, "_base", None)) is not None:
        t = base
    return t


def family(t: Tensor) -> Iterator[Tensor]:
    """All living handles that share elements with `t`."""
    waiting = [root_of(t)]
    while waiting:
        member = waiting.pop()
        yield member
        waiting.extend(_views_of(member))


def _views_of(t: Tensor) -> list[Tensor]:
    return [v for v in (r() for r in getattr(t, "_views", ())) if v is not None]


def check_in_place(t: Tensor, name: str, of: str = "a leaf") -> None:
    """PyTorch's errors for writing to leaves that require grad, and where one element would have to hold two values.

    `of` is "a view of a leaf" where `t` is written to through a view that is yet to be made.
    """
    take_over(t)
    member, of_member = t, of
    while member is not None:
        if member.__class__ is Imported:
            raise shared(t)
        kind = member._kind
        if any(step == 0 and n > 1 for step, n in zip(kind.strides, kind.shape, strict=True)):
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. "
                f"Please clone() the tensor before performing the operation: {name} on {describe(t)}, at {location()}"
            )
        if kind.requires_grad and kind.is_leaf and t._kind.requires_grad and t._tape.grad_enabled:
            raise RuntimeError(
                f"{of_member} Variable that requires grad is being used in an in-place operation. {name} on "
                f"{describe(t)}, at {location()}: "
                "write it out of place, or do it under tapegrad.no_grad()"
            )
        member, of_member = getattr(member, "_base", None), "a view of a leaf"


def assign(t: Tensor, value: Tensor) -> Tensor:
    """Make `value` what `t` holds, and let all that share its elements see it.

    `value` has the shape and dtype of `t`, and no other holder: its handle is used up.
    """
    exchange_all(assignment(t, value))
    return t


def assignment(t: Tensor, value: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The handles whose values `assign` exchanges: all is done then, but what NumPy sees is written at once."""
    base = getattr(t, "_base", None)
    if base is None:
        kind, tape = t._kind, t._tape
        if kind.requires_grad and not kind.is_leaf and not tape.grad_enabled:
            value = in_grad_mode(tape, True, record_elementwise, arithmetic._overwritten, t, value)
        if kind.exported:
            with tape.lock:
                written = _write_through(t, value)
            value = value if value._kind.requires_grad else written
        elif kind.contiguous and not value._kind.contiguous:
            value = value.clone()  # written through a transposed view
        return _rebinding(t, value)
    # Written through a detached view, the base changes and its graph does not.
    unrecorded = base._kind.requires_grad and not t._kind.requires_grad and not value._kind.requires_grad
    enabled = t._tape.grad_enabled and not unrecorded
    return in_grad_mode(t._tape, enabled, lambda: assignment(base, t._recipe[1](base, value)))


def _rebinding(t: Tensor, value: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs of handles: `t` and its new value, and the views of `t` with what they show of that."""
    tape, kind = value._tape, t._kind
    slot_in(tape, t)
    if kind.requires_grad and kind.is_leaf and not value._kind.requires_grad:
        engine.evaluate(tape, value._slot)
        value._set_kind(requires_grad=True, leaf=True)
    pairs = [(t, value)]
    if hasattr(t, "_views"):
        pairs += in_grad_mode(tape, True, lambda: list(_remade(t, value)))
    for old, new in pairs:
        was, now = old._slot, new._slot
        if was in tape.leaves or now in tape.leaves:  # rows that read the old value still have the leaf behind them
            tape.leaves[now] = weakref.ref(old)
        if was in tape.retained:  # an entry counts from the moment at which its tensor has the slot
            tape.retained[now] = weakref.ref(old)
    return pairs


def _remade(base: Tensor, value: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each view of `base`, and those of them, with what it shows where `base` holds `value`."""
    for view in _views_of(base):
        shown = view._recipe[0](value)
        yield view, shown
        yield from _remade(view, shown)


def exchange_all(pairs: Sequence[tuple[Tensor, Tensor]], stores: Sequence[tuple[Any, str, Any]] = ()) -> None:
    """Exchange what handles hold, and set other attributes: the old values go with the second handles.

    It is one call, so that neither Ctrl-C nor another thread comes in the midst.
    """
    if len(pairs) == 1 and not stores:
        exchange(*pairs[0])
        return
    both = [(u, v) for t, value in pairs for u, v in ((t, value), (value, t))]
    changes = [(u, name, getattr(v, name)) for u, v in both for name in ("_tape", "_slot", "_kind")]
    deque(starmap(setattr, (*changes, *stores)), maxlen=0)


def _write_through(t: Tensor, value: Tensor) -> Tensor:
    """NumPy sees this tensor's memory: what is written must be there. Returns the handle of a slot that has it.

    The old slot, and the views of it, which rows may read, get their elements moved to memory of their own.
    """
    tape, old, kind = t._tape, t._slot, t._kind
    new, array = value._array().copy(), t._array()
    reach = [(n - 1) * step for n, step in zip(kind.shape, kind.strides, strict=True) if n]
    first = tapes.address_of(array) + sum(step for step in reach if step < 0)
    moved = np.empty(sum(map(abs, reach)) + kind.itemsize, np.uint8)
    ctypes.memmove(tapes.address_of(moved), first, len(moved) if kind.numel else 0)
    fresh = stored(tape, kind if kind.is_leaf else kind.passive, tapes.address_of(array), tape.arrays[old])
    slots = tape.slots[: tape.top]
    sharing = (slots["base"] == old) & (slots["flags"] & (tapes.FREE | tapes.STORED) == tapes.STORED)
    sharing[old] = True
    addresses, step = slots["primal"], tapes.address_of(moved) - first
    addresses[sharing] += step
    tape.arrays[old] = moved
    array[...] = new
    return fresh


def data(self: Tensor) -> Tensor:
    """A view that does not require grad: writing to it writes to the tensor, unrecorded."""
    return self.detach()


def _set_data(self: Tensor, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
    take_over(self)
    facts = {"requires_grad": self._kind.requires_grad, "leaf": self._kind.is_leaf}
    in_grad_mode(self._tape, False, lambda: exchange_all(_rebinding(self, value.detach().clone())))
    if facts["requires_grad"] and not self._kind.requires_grad:
        self._set_kind(**facts)


Tensor.data = property(data, _set_data, doc=data.__doc__)
