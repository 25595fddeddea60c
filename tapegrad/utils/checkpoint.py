"""Values that are not kept, but computed again when gradients are taken: `checkpoint`.

    forward     inputs --> function --> outputs             its rows are let go as soon as the outputs are computed
    reverse     inputs --> function --> outputs, again      and swept at once

What else is behind the outputs (parameters that the function reads) is found by a walk of its rows, and has gradients
as the inputs have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tapegrad import creation, trees
from tapegrad.autograd import grad, partial_adjoints, walk
from tapegrad.autograd.function import Function, held
from tapegrad.autograd.hooks import going
from tapegrad.batched import levels
from tapegrad.kinds import objects as kind_objects
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor, lend


class CheckpointError(RuntimeError):
    """The function gave something else when it was called again."""


class _Checkpoint(Function):
    """A call, whose tensors (the arguments, and what else the function reads) are its operands."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Any:
        n = len(call.places)
        ctx.call, ctx.others = (
            call,
            [held(t) for t in tensors[n:]],
        )  # which it reads itself, whatever hooks make of them
        ctx.save_for_backward(*tensors[:n])
        return call.take_values()

    @staticmethod
    def backward(ctx: Any, *y_bars: Tensor) -> Any:
        return None, *ctx.call.pull((*ctx.saved_tensors, *ctx.others), y_bars)


class _Call:
    """A function and its arguments, to be called once more."""

    def __init__(
        self, function: Callable[..., Any], args: Any, facts: dict[str, Any], preserve: bool, contexts: Any
    ) -> None:
        self.function, self.contexts = function, contexts
        leaves, self.structure = trees.flatten([list(args), facts])
        self.places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.tensors = [leaves[k] for k in self.places]
        self.leaves = [None if k in self.places else leaf for k, leaf in enumerate(leaves)]
        self.state = creation.get_rng_state() if preserve else None
        self.others: list[Tensor] = []
        self.values: tuple[Tensor, ...] = ()
        self.result: Any = None
        self.active: list[int] = []

    def apply(self, tensors: Sequence[Tensor], context: Any) -> Any:
        """Call the function of these in the place of its tensors."""
        args, facts = trees.filled(self.structure, self.leaves, self.places, tensors)
        with context:
            return self.function(*args, **facts)

    def run(self) -> None:
        """The first call: what it gives, and what it reads beside its arguments."""
        tape = current_tape()
        own = [_own(t) for t in self.tensors]
        mark = _mark()
        output = self.apply(own, self.contexts[0])
        leaves, structure = trees.flatten(output)
        self.active = [
            k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf._kind.dtype.is_floating_point
        ]
        first, found = tape.synced_row(mark._slot), list[int]()
        known = {t._slot for t in own}
        seeds = [leaves[k]._slot for k in self.active if leaves[k].requires_grad]
        found += [s for s in seeds if tape.slot_ints[8 * s + 1] < first]
        for row in walk.rows_behind(tape, seeds, first):
            found += [s for s in walk.operand_slots(row) if tape.slot_ints[8 * s + 1] < first]
        for slot in dict.fromkeys(found):
            kind = kind_objects[tape.slot_ints[8 * slot]]
            if kind.requires_grad and slot not in known:
                self.others.append(held(lend(tape, slot, kind)))
        self.values = tuple(leaves[k].detach() for k in self.active)
        self.result = structure, [None if k in self.active else leaf for k, leaf in enumerate(leaves)]

    def take_values(self) -> tuple[Tensor, ...]:
        """What the first call has given."""
        values, self.values, self.others, self.tensors = self.values, (), [], []
        return values

    def output(self, found: Sequence[Tensor]) -> Any:
        """What the caller is given."""
        structure, leaves = self.result
        return trees.filled(structure, leaves, self.active, found)

    def pull(self, tensors: Sequence[Tensor], y_bars: Sequence[Tensor]) -> Sequence[Any]:
        """Call the function again, and sweep it in reverse."""
        tape = current_tape()
        recording = tape.grad_enabled
        n = len(self.places)

        def again() -> Sequence[Any]:
            if recording:
                own = [t.view(t.shape) if t._kind.contiguous else t.clone() for t in tensors[:n]]
            else:
                own = [_own(t) for t in tensors[:n]]
            before, floor = creation.get_rng_state(), tape.synced_row(_mark()._slot)
            try:
                if self.state is not None:
                    creation.set_rng_state(self.state)
                output = self.apply(own, self.contexts[1])
            finally:
                if self.state is not None:
                    creation.set_rng_state(before)
            leaves = trees.leaves(output)
            if len(leaves) != len(self.result[1]):
                raise CheckpointError(
                    "checkpoint: A different number of tensors was given by the function when it was called again: "
                    f"{len(leaves)}, after {len(self.result[1])}"
                )
            pairs = []
            for k, g in zip(self.active, y_bars, strict=True):
                y = leaves[k]
                if y.shape != g.shape or y.dtype is not g.dtype:
                    raise CheckpointError(
                        "checkpoint: Recomputed values have different metadata than during the forward pass: "
                        f"{y.dtype.name}{list(y.shape)}, after {g.dtype.name}{list(g.shape)}"
                    )
                if y.requires_grad:
                    pairs.append((y, g))
            wanted = [*own, *tensors[n:]]
            active = [t for t in wanted if t.requires_grad]
            if not pairs or not active:
                return [None] * len(wanted)
            with _sparing({t._slot for t in tensors[n:]}):
                if all(t.is_leaf for t in active):
                    ys, gs = zip(*pairs, strict=True)
                    found = iter(grad(ys, active, gs, create_graph=recording, allow_unused=True))
                else:  # some may have been computed from others: those paths are for the sweep around this one
                    found = iter(partial_adjoints(tape, pairs, active, floor, recording))
            return [next(found) if t.requires_grad else None for t in wanted]

        return in_grad_mode(tape, True, again)


def _mark() -> Tensor:
    """What is computed by a row of its own: those of a function that is called now stand after it."""
    return creation.zeros(1, requires_grad=True).view(1)


@contextlib.contextmanager
def _sparing(slots: set[int]) -> Iterator[None]:
    """Leave the hooks of these to the sweep around, which adds what is found to their other gradients."""
    outer, going.spared = going.spared, going.spared | slots
    try:
        yield
    finally:
        going.spared = outer


def _own(t: Tensor) -> Tensor:
    """The elements without the graph, by which is differentiated where the tensor asks for that."""
    made = t.detach()
    return made.requires_grad_() if t.requires_grad else made


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] | None = None,
    preserve_rng_state: bool = True,
    determinism_check: str = "default",
    debug: bool = False,
    **kwargs: Any,
) -> Any:
    """What `function(*args, **kwargs)` gives, of which nothing else is kept: for gradients it is called again.

    Within `vmap` all is kept.

    Parameters
    ----------
    function : callable
        It must give the same when it is called again.
    use_reentrant, determinism_check, debug
        PyTorch's: they change nothing here.
    context_fn : callable, optional
        It gives two context managers, for the first call and for the others.
    preserve_rng_state : bool
        Whether random numbers are the same when it is called again.

    Raises
    ------
    CheckpointError
        When gradients are taken, where it then gives something else.

    >>> import tapegrad as tg
    >>> from tapegrad.utils.checkpoint import checkpoint
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda x: x.exp().sin(), x).sum().backward()
    >>> x.grad
    tensor([-2.4783,  3.3129])
    """
    del use_reentrant, determinism_check, debug
    contexts = context_fn() if context_fn is not None else (contextlib.nullcontext(), contextlib.nullcontext())
    if levels() or not current_tape().grad_enabled:
        with contexts[0]:
            return function(*args, **kwargs)
    call = _Call(function, args, kwargs, preserve_rng_state, contexts)
    call.run()
    tensors = [*call.tensors, *call.others]
    if not any(t.requires_grad for t in tensors):
        return call.output(call.take_values())
    return call.output(_Checkpoint.apply(call, *tensors))


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True
) -> Any:
    """Call functions one after the other, in so many segments, each as a `checkpoint` but the last.

    >>> import tapegrad as tg
    >>> from tapegrad.utils.checkpoint import checkpoint_sequential
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint_sequential([tg.exp, tg.sin, tg.cos], 2, x).sum().backward()
    >>> x.grad
    tensor([ 0.9897, -2.5824])
    """
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)

    def runs() -> Iterator[list[Any]]:
        size = len(steps) // segments
        for k in range(segments - 1):
            yield steps[k * size : (k + 1) * size]
        yield steps[(segments - 1) * size :]

    *first, last = runs()
    for part in first:
        input = checkpoint(_chain(part), input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return _chain(last)(input)


def _chain(steps: Sequence[Callable[..., Any]]) -> Callable[[Any], Any]:
    def chained(input: Any) -> Any:
        for step in steps:
            input = step(input)
        return input

    return chained


__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential"]
