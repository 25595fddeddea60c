"""Hooks: functions of the user's that see gradients on their way, and may give others in their place.

    y_bar complete --> hooks of the tensor --> prehooks of its node --> rule --> hooks of its node

Those of a leaf are kept by its handle, and those of what was computed by the tape, by slot: they are called when the
handle is gone too. A sweep that comes through a slot with hooks goes through Python (`recorded.py`), the others don't.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from tapegrad import batched
from tapegrad.aliasing import graph_slot
from tapegrad.batched import Batched
from tapegrad.tape import Tape, current_tape
from tapegrad.tensor import Tensor, describe, location

Hook = Callable[..., Any]

_numbers = itertools.count()


class RemovableHandle:
    """What takes hooks away again; as a context manager, at its end.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with x.register_hook(lambda g: 2 * g):
    ...     x.sum().backward()
    >>> x.grad
    tensor([2., 2.])
    """

    def __init__(self, hooks: OrderedDict[int, Hook] | None = None) -> None:
        self.id = next(_numbers)
        self._hooks = hooks

    def remove(self) -> None:
        """Take the hook away; not there any more, nothing happens."""
        if self._hooks is not None:
            self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


class _Handles(RemovableHandle):
    """Of several hooks."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        super().__init__()
        self.handles = tuple(handles)

    def remove(self) -> None:
        """Take them away."""
        for handle in self.handles:
            handle.remove()


class Hooks:
    """The hooks of a tensor, and of its node; and what hooks have made of what the node keeps."""

    __slots__ = ("accumulated", "after", "before", "metadata", "packed", "tensor")

    def __init__(self) -> None:
        self.tensor: OrderedDict[int, Hook] = OrderedDict()  # hook(gradient)
        self.before: OrderedDict[int, Hook] = OrderedDict()  # hook(gradients of results)
        self.after: OrderedDict[int, Hook] = OrderedDict()  # hook(gradients of operands, of results)
        self.accumulated: OrderedDict[int, Hook] = OrderedDict()  # hook(leaf)
        self.packed: dict[int, Any] = {}  # what its rules read, by places: see `saved.py`
        self.metadata: dict[Any, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.tensor or self.before or self.after or self.accumulated or self.packed)

    def of_tensor(self, gradient: Tensor) -> Tensor:
        """The gradient, as the tensor's hooks leave it."""
        for hook in list(self.tensor.values()):
            given = hook(gradient)
            if given is not None:
                gradient = _checked(given, gradient, hook)
        return gradient

    def of_results(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        """The gradients of a node's results, as its prehooks leave them."""
        for hook in list(self.before.values()):
            gradients = _checked_tuple(hook(gradients), gradients, hook)
        return gradients

    def of_operands(self, gradients: tuple[Any, ...], of_results: tuple[Any, ...]) -> tuple[Any, ...]:
        """The gradients of a node's operands, as its hooks leave them."""
        for hook in list(self.after.values()):
            gradients = _checked_tuple(hook(gradients, of_results), gradients, hook)
        return gradients


def _name(hook: Hook) -> str:
    return getattr(hook, "__name__", repr(hook))


def _checked(given: Any, before: Any, hook: Hook) -> Any:
    """What a hook has given in the place of a gradient, with PyTorch's errors."""
    if given is None:
        return before
    if not isinstance(given, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(given).__name__}': it is '{_name(hook)}'")
    if before is None:
        raise RuntimeError(f"can't replace a None gradient with a non-None value: hook '{_name(hook)}' does")
    if given.dtype is not before.dtype:
        raise RuntimeError(f"hook '{_name(hook)}' has changed the type of value (was {before.dtype} got {given.dtype})")
    if given.shape != before.shape:
        raise RuntimeError(
            f"hook '{_name(hook)}' has changed the size of value: it was {describe(before)}, and is {describe(given)}"
        )
    return given


def _checked_tuple(given: Any, before: tuple[Any, ...], hook: Hook) -> tuple[Any, ...]:
    if given is None:
        return before
    if isinstance(given, list):
        given = tuple(given)
    if not isinstance(given, tuple):
        raise TypeError(f"expected tuple, but hook returned '{type(given).__name__}': it is '{_name(hook)}'")
    if len(given) != len(before):
        raise RuntimeError(
            f"hook '{_name(hook)}' has returned an incorrect number of values (got {len(given)}, but expected "
            f"{len(before)})"
        )
    return tuple(_checked(g, b, hook) for g, b in zip(given, before, strict=True))


# --- where they are kept ----------------------------------------------------------------------------------------------


has_leaves = False  # whether a leaf has had some: most programs ask no more


def of_slot(tape: Tape, slot: int) -> Hooks:
    """The hooks of what was computed."""
    with tape.lock:
        found = tape.hooks.get(slot)
        if found is None:
            found = tape.hooks[slot] = Hooks()
        return found


def of_leaf(t: Tensor) -> Hooks:
    """The hooks of a leaf."""
    global has_leaves  # noqa: PLW0603 - of the process, whose threads share leaves
    found = getattr(t, "_hooks", None)
    if found is None:
        has_leaves = True
        found = t._hooks = Hooks()
    return found


def of_tensor(t: Tensor) -> Hooks:
    """The hooks of a tensor, and of its node."""
    return of_leaf(t) if t._kind.is_leaf else of_slot(t._tape, graph_slot(t))


def watched(tape: Tape) -> set[int]:
    """The slots that have hooks, or are functions of the user's: sweeps come to them through Python."""
    with tape.lock:
        return {slot for slot, hooks in tape.hooks.items() if hooks} | tape.nodes.keys()


def add(hooks: OrderedDict[int, Hook], hook: Hook) -> RemovableHandle:
    """Add a hook; what removes it."""
    if not callable(hook):
        raise TypeError(f"a hook must be callable, not {type(hook).__name__}")
    if (watch := current_tape().watch) is not None:
        watch.fail("adds a hook")
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


# --- the sweep that is going on ---------------------------------------------------------------------------------------


class _Going(threading.local):
    """What is going on in this thread."""

    reached: set[int] | None = None  # the slots whose gradients the sweep is about to give; a set for each sweep
    spared: frozenset[int] = frozenset()  # slots whose hooks are for the sweep around this one
    within: Any = None  # the transform whose function is being called, the innermost
    sweeping: Any = None  # the transform that sweeps


going = _Going()


def added(hooks: OrderedDict[int, Any], hook: Any, prepend: bool) -> RemovableHandle:
    """Take a hook in, after the others or before them."""
    handle = add(hooks, hook)
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def _of_transform(hook: Hook) -> Hook:
    """A hook that sweeps of the transform call in which it was registered, and no others.

    Those of outer calls go through the same rows, but for the gradients of what the inner one found.
    """
    transform = going.within
    if transform is None:
        return hook

    @functools.wraps(hook, updated=())
    def of_transform(gradient: Tensor) -> Any:
        swept_by_user = going.sweeping is None and going.within is transform
        return hook(gradient) if swept_by_user or going.sweeping is transform else None

    return of_transform


def _of_samples(t: Tensor, hook: Hook) -> Hook:
    """A hook of the gradient for one sample, as one for all of them."""
    if t.__class__ is not Batched:
        return hook

    @functools.wraps(hook, updated=())
    def of_samples(gradient: Tensor) -> Any:
        with batched.again_in(t) as running:
            given = hook(batched.wrap_as(t, gradient))
            return batched.bottom(batched.of_each_sample(given, running)) if isinstance(given, Tensor) else given

    return of_samples


# --- methods of Tensor ------------------------------------------------------------------------------------------------


def register_hook(self: Tensor, hook: Callable[..., Any]) -> RemovableHandle:
    """Have `hook(gradient)` called with the gradient of this tensor, whenever one is computed.

    Parameters
    ----------
    hook : callable
        It is given the gradient, of the tensor's shape and dtype, and gives None, or the gradient to go on with. It
        must not change what it is given.

    Returns
    -------
    RemovableHandle
        Its `remove()` takes the hook away.

    Raises
    ------
    RuntimeError
        Where the tensor does not require grad; in `backward`, where a hook changes shape or dtype.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * 3
    >>> handle = y.register_hook(lambda g: g.clamp(max=0.5))
    >>> y.sum().backward()
    >>> x.grad
    tensor([1.5000, 1.5000])
    """
    if not self.requires_grad:
        raise RuntimeError(f"cannot register a hook on a tensor that doesn't require gradient: {describe(self)}")
    if not callable(hook):
        raise TypeError(f"a hook must be callable, not {type(hook).__name__}")
    return add(of_tensor(batched.bottom(self)).tensor, _of_samples(self, _of_transform(hook)))


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[..., Any]) -> RemovableHandle:
    """Have `hook(tensor)` called after a gradient was accumulated in the `grad` of this leaf.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> handle = x.register_post_accumulate_grad_hook(lambda x: print(x.grad))
    >>> (x * x).sum().backward()
    tensor([2., 4.])
    """
    if not self.requires_grad:
        raise RuntimeError(f"cannot register a hook on a tensor that doesn't require gradient: {describe(self)}")
    if not self._kind.is_leaf:
        raise RuntimeError(
            f"post accumulate grad hooks cannot be registered on non-leaf tensors: {describe(self)}, at {location()}"
        )
    return add(of_leaf(self).accumulated, hook)


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Hook, *, mode: str = "all") -> RemovableHandle:
    """Have a function called with the gradients of several tensors, once a sweep.

    Parameters
    ----------
    tensors : sequence of Tensor
        All must require grad.
    fn : callable
        With "all", `fn(gradients)` is called as soon as the gradients of all that are on the sweep's way are there,
        with None for the others. With "any", `fn(gradient)` is called with the first.
    mode : str
        "all" or "any".

    Returns
    -------
    RemovableHandle
        Its `remove()` takes the hooks away.

    >>> import tapegrad as tg
    >>> x, y = (tg.tensor(v, requires_grad=True) for v in (1.0, 2.0))
    >>> handle = tg.autograd.graph.register_multi_grad_hook([x, y], print)
    >>> (x * y).backward()
    [tensor(2.), tensor(1.)]
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    tensors = list(tensors)
    for t in tensors:
        if not t.requires_grad:
            raise RuntimeError(f"cannot register a hook on a tensor that doesn't require gradient: {describe(t)}")
    slots = [{t._slot} if t._kind.is_leaf else {graph_slot(t)} for t in tensors]
    lock = threading.Lock()
    gathered: list[Any] = [None, 0, 0, []]  # of the sweep that is going on: its slots, how many are to come and came

    def seen(place: int, gradient: Tensor) -> None:
        reached = going.reached
        with lock:
            if gathered[0] is not reached:
                expected = sum(1 for of in slots if reached is None or not of.isdisjoint(reached))
                gathered[:] = [reached, expected, 0, [None] * len(tensors)]
            gathered[2] += 1
            gathered[3][place] = gradient
            is_last, is_first, found = gathered[1] == gathered[2], gathered[2] == 1, gathered[3]
        if mode == "any" and is_first:
            fn(gradient)
        elif mode == "all" and is_last:
            fn(found)

    handles = [add(of_tensor(t).tensor, functools.partial(seen, place)) for place, t in enumerate(tensors)]
    return _Handles(handles)


Tensor.register_hook = register_hook
Tensor.register_post_accumulate_grad_hook = register_post_accumulate_grad_hook
