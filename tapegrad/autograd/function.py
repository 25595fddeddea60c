"""Functions of the user's with derivatives of their own: `forward` and `backward` in Python, over Tensors.

    operands --three a row--> [FUNCTION, the node] --+-- _output 0 --> y0, whose elements are what forward gave
                                                     +-- _output 1 --> y1

`forward` runs where nothing is recorded; its results, not yet computed, become values of rows that have the node behind
them. So all is as lazy as other rows, until a reverse sweep comes: it goes through Python then (`recorded.py`), and
asks the node (`_Node.pull`) for the adjoints of its operands. A rule that is written with Tensors' operations can be
differentiated in its turn.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from tapegrad import creation, engine, pages, writing
from tapegrad import tape as tapes
from tapegrad.autograd.saved import packed
from tapegrad.batched import batch_of, rules
from tapegrad.dtypes import FLOAT64
from tapegrad.kinds import address_of, kind_of
from tapegrad.ops.host import FUNCTION, _output
from tapegrad.recording import activity, appended, appended_together, cast, local, need_sum
from tapegrad.tape import FIRST, LAST, PIECE, current_tape, in_grad_mode
from tapegrad.tensor import Tensor, lend, location

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward." + pages.SWEPT_TWICE
)


_shared: Any = weakref.WeakValueDictionary()  # handles, by tape and slot


def held(t: Tensor) -> Tensor:
    """A handle of what a tensor is now: writing to the tensor leaves it as it is."""
    t = local(t)
    key = t._tape.header_address, t._slot
    known: Tensor | None = _shared.get(key)
    if known is not None and known._kind is t._kind:
        return known
    made = _shared[key] = lend(t._tape, t._slot, t._kind)
    return made


class _Saved:
    """One saved tensor: a handle, and what hooks have made of it; of a result, which one it is."""

    def __init__(self, value: Tensor | None, place: int | None) -> None:
        self.place, self.packed = place, None if value is None else packed(value)
        self.value = None if value is None else held(value)

    def get(self, node: _Node | None) -> Tensor | None:
        """The tensor; a result has the graph again, where that is recorded."""
        value = self.value
        if value is not None and self.packed is not None:
            value = self.packed.get(value, True)
        if value is not None and self.place is not None and node is not None and current_tape().grad_enabled:
            return node.connected(value, self.place)
        return value


class FunctionCtx:
    """What `forward` and `backward` of a function tell each other: `ctx`. Other attributes are kept as they are."""

    needs_input_grad: tuple[bool, ...] = ()
    _node: Any = None  # weakly
    _saved: Sequence[_Saved] | None = ()
    _saved_for_forward: Sequence[_Saved] | None = ()

    def __init__(self) -> None:
        self._to_save: tuple[Any, ...] = ()
        self._to_save_for_forward: tuple[Any, ...] = ()
        self._passive: tuple[Tensor, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep operands and results for `backward`, which finds them in `saved_tensors`.

        Raises
        ------
        TypeError
            Where one is neither a Tensor nor None.
        """
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {tensors.index(t)} is of type "
                    f"{type(t).__name__}"
                )
        self._to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep operands and results for `jvp`, which finds them in `saved_tensors`."""
        self._to_save_for_forward = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, in that order."""
        if self._saved is None:
            raise RuntimeError(FREED)
        node = self._node() if self._node is not None else None
        return tuple(saved.get(node) for saved in self._saved)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which operands `forward` has written to; they must be results too."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say through which results no gradient flows."""
        self._passive = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` is given zeros for results that no gradient has reached, or None."""
        self._materialize = value


class _Node:
    """A function that was applied: what its rule needs, and where its operands are."""

    def __init__(self, function: type[Function], ctx: FunctionCtx, args: tuple[Any, ...]) -> None:
        self.function, self.ctx, self.name = function, ctx, f"{function.__name__}Backward"
        tensors = [local(a) for a in args if isinstance(a, Tensor)]
        self.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        self.n_args = len(args)
        self.operands = [t._slot for t in tensors]
        self.kinds = [t._kind for t in tensors]
        self.results: list[Any] = []  # kinds; None for what is no tensor
        self.tape = current_tape()
        self.bits = activity(self.tape, tensors)
        self.token = self._record(tensors)
        self.slot = self.token._slot

    def _record(self, tensors: list[Tensor]) -> Tensor:
        """The rows of the node, three operands each: as of a number that is there already."""
        tape = self.tape
        if tape.watch is not None:
            tape.watch.fail("applies a Function")
        given: list[Any] = [*tensors, *[-1] * (-len(tensors) % 3)]
        rows = [(given[i], given[i + 1], given[i + 2], PIECE) for i in range(0, len(given), 3)]
        rows[0] = (*rows[0][:3], rows[0][3] | FIRST)
        rows[-1] = (*rows[-1][:3], rows[-1][3] | LAST)
        token = appended_together(tape, FUNCTION, kind_of(FLOAT64, (), requires_grad=self.bits), rows)
        slot = token._slot
        with tape.lock:
            tape.synced_row(slot)
            tape.arrays[slot] = value = np.zeros(())
            tape.slots["primal"][slot] = address_of(value)
            tape.slots["flags"][slot] |= tapes.STORED
            tape.nodes[slot] = self
        return token

    @property
    def n_outputs(self) -> int:
        """How many results there are."""
        return len(self.results)

    def connected(self, value: Tensor, place: int) -> Tensor:
        """A result: its elements, with this node behind it."""
        tape = current_tape()
        value = local(value)
        token = lend(tape, self.slot, kind_of(FLOAT64, (), requires_grad=self.bits))
        dtype = value._kind.dtype
        engine.need(_output, dtype.code, False)
        need_sum(dtype)
        return appended(tape, _output, kind_of(dtype, value._kind.shape, requires_grad=self.bits), token, value, place)

    def release(self) -> None:
        """Let go of what was saved."""
        self.ctx._saved = self.ctx._saved_for_forward = None

    def pull(self, gradients: tuple[Any, ...]) -> list[Tensor | None]:
        """The adjoints of the operands, given those of the results, None for those that none has reached."""
        function, ctx = self.function, self.ctx
        given = list(gradients)
        for place, kind in enumerate(self.results):
            if given[place] is None and ctx._materialize and kind is not None:
                given[place] = creation.zeros(*kind.shape, dtype=kind.dtype)
        if function._has("backward") and function._has("vjp"):
            raise RuntimeError(
                "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should only "
                f"implement one of them: {function.__name__}"
            )
        if function._has("backward") or function._has("vjp"):
            rule = function.backward if function._has("backward") else function.vjp
            found = rule(ctx, *given)
        elif function._has("jvp"):
            found = self._transposed(given)
        else:
            raise NotImplementedError(
                "You must implement either the backward or vjp method for your custom autograd.Function to use it "
                f"with backward mode AD: {function.__name__} has neither"
            )
        found = list(found) if isinstance(found, (tuple, list)) else [found]
        while len(found) > self.n_args and found[-1] is None:
            del found[-1]
        if len(found) != self.n_args:
            raise RuntimeError(
                f"function {self.name} returned an incorrect number of gradients (expected {self.n_args}, got "
                f"{len(found)})"
            )
        for i, gradient in enumerate(found):
            if gradient is not None and i not in self.places:
                raise RuntimeError(
                    f"function {self.name} returned a gradient different than None at position {i + 1}, but the "
                    "corresponding forward input was not a Variable"
                )
        return [self._checked(found[place], at) for at, place in enumerate(self.places)]

    def _checked(self, gradient: Any, at: int) -> Tensor | None:
        kind = self.kinds[at]
        if gradient is None or not kind.requires_grad:
            return None
        if not isinstance(gradient, Tensor):
            raise RuntimeError(f"expected Variable or None (got {type(gradient).__name__}): {self.name} returned it")
        if gradient._kind.shape != kind.shape:
            shape, n = gradient._kind.shape, len(kind.shape)
            fits = len(shape) >= n and all(
                m in (1, k) for m, k in zip(kind.shape, shape[len(shape) - n :], strict=True)
            )
            if not fits:
                raise RuntimeError(
                    f"Function {self.name} returned an invalid gradient at index {self.places[at]} - got {list(shape)} "
                    f"but expected shape compatible with {list(kind.shape)}"
                )
            gradient = gradient.sum_to_size(kind.shape)
        return cast(local(gradient), kind.dtype)

    def push(self, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The tangents of the results by `jvp`, given those of the operands, None for zeros."""
        given: list[Any] = [None] * self.n_args
        for place, t, kind in zip(self.places, tangents, self.kinds, strict=True):
            is_filled = t is None and self.ctx._materialize and kind.dtype.is_floating_point
            given[place] = creation.zeros(*kind.shape, dtype=kind.dtype) if is_filled else t
        pushed = self._jvp(given)
        found = list(pushed) if isinstance(pushed, (tuple, list)) else [pushed]
        if len(found) != self.n_outputs:
            raise RuntimeError(
                f"Expected the output of custom Function's jvp to have the same number of Tensors as the forward: "
                f"{self.function.__name__}.jvp gave {len(found)}, and forward {self.n_outputs}"
            )
        for place, (t, kind) in enumerate(zip(found, self.results, strict=True)):
            if t is not None and kind is not None and t.shape != kind.shape:
                raise RuntimeError(
                    f"{self.function.__name__}.jvp gave a tangent of shape {list(t.shape)} for result {place}, which "
                    f"has shape {list(kind.shape)}"
                )
        return [None if kind is None else t for t, kind in zip(found, self.results, strict=True)]

    def _jvp(self, tangents: Sequence[Any]) -> Any:
        """What `jvp` gives, which finds in `saved_tensors` what was saved for it."""
        ctx = self.ctx
        for_backward, ctx._saved = ctx._saved, ctx._saved_for_forward
        try:
            return self.function.jvp(ctx, *tangents)
        finally:
            ctx._saved = for_backward

    def _transposed(self, given: list[Any]) -> list[Any]:
        """The adjoints of the operands by `jvp` alone, which is linear in the tangents: its gradient by them."""
        tape, answer = current_tape(), [None] * self.n_args

        def transposed() -> Any:
            tangents = [creation.zeros(*kind.shape, dtype=kind.dtype, requires_grad=True) for kind in self.kinds]
            at = dict(zip(self.places, tangents, strict=True))
            pushed = self._jvp([at.get(i) for i in range(self.n_args)])
            pushed = pushed if isinstance(pushed, tuple) else (pushed,)
            pairs = [
                (y, g) for y, g in zip(pushed, given, strict=True)
                if isinstance(y, Tensor) and g is not None and y._kind.requires_grad
            ]  # fmt: skip
            if not pairs:
                return [None] * len(tangents)
            from tapegrad.autograd import grad

            results, seeds = zip(*pairs, strict=True)
            return grad(results, tangents, seeds, create_graph=recording, allow_unused=True)

        recording = tape.grad_enabled
        for place, gradient in zip(self.places, in_grad_mode(tape, True, transposed), strict=True):
            answer[place] = gradient
        return answer


class Function:
    """A differentiable function with a rule of its own.

    A subclass has static methods: `forward(ctx, *args)` and `backward(ctx, *gradients)`; or `forward(*args)`,
    `setup_context(ctx, inputs, output)` and `backward`. `backward` gives an adjoint, or None, for each argument. It is
    applied by `apply`. Where there is no `backward`, a `jvp(ctx, *tangents)` is transposed.

    >>> import tapegrad as tg
    >>> class Cube(tg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, y_bar):
    ...         (x,) = ctx.saved_tensors
    ...         return y_bar * 3 * x**2
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> y = Cube.apply(x)
    >>> y
    tensor(8., grad_fn=<CubeBackward>)
    >>> (slope,) = tg.autograd.grad(y, x, create_graph=True)
    >>> tg.autograd.grad(slope, x)
    (tensor(12.),)
    """

    generate_vmap_rule: ClassVar[bool] = False

    @classmethod
    def _has(cls, name: str) -> bool:
        return getattr(cls, name) is not getattr(Function, name)

    @staticmethod
    def forward(*args: Any, **facts: Any) -> Any:
        """The value."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Keep what `backward` needs, where `forward` is given no `ctx`."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The adjoints of the arguments, given those of the results."""
        raise NotImplementedError("You must implement either the backward or vjp method")

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name of `backward`."""
        raise NotImplementedError("You must implement either the backward or vjp method")

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The tangents of the results, given those of the arguments."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        """The results for all samples, and where these are in them, given where they are in the arguments."""
        raise NotImplementedError("You must implement the vmap function for custom autograd.Function")

    @classmethod
    def apply(cls, *args: Any, **facts: Any) -> Any:
        """Apply the function. What is given by name comes behind the other arguments, for `backward` too.

        With a `setup_context` it has its place among the parameters of `forward`.
        """
        if facts and cls._has("setup_context"):
            bound = inspect.signature(cls.forward).bind(*args, **facts)
            bound.apply_defaults()
            args, facts = bound.args, bound.kwargs
        if facts and batch_of((*args, *facts.values())) is not None:
            raise TypeError(f"{cls.__name__}.apply() takes no keyword arguments under vmap without a setup_context")
        if (level := batch_of(args)) is not None:
            return rules["function"](level, cls, args)
        tape, ctx = current_tape(), FunctionCtx()
        args = tuple(local(a) if isinstance(a, Tensor) else a for a in (*args, *facts.values()))
        by_place, by_name = (
            args[: len(args) - len(facts)],
            dict(zip(facts, args[len(args) - len(facts) :], strict=True)),
        )
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        if cls._has("setup_context"):
            output = in_grad_mode(tape, False, lambda: cls.forward(*by_place, **by_name))
            in_grad_mode(tape, False, cls.setup_context, ctx, args, output)
        else:
            output = in_grad_mode(tape, False, lambda: cls.forward(ctx, *by_place, **by_name))
        results = output if isinstance(output, tuple) else (output,)
        if activity(tape, (a for a in args if isinstance(a, Tensor))):
            made = _recorded(cls, ctx, args, results)
        else:
            ctx._saved = [_Saved(t, None) for t in ctx._to_save]
            made = [
                t.detach() if isinstance(t, Tensor) and _is_among(t, args) and not _is_among(t, ctx._dirty) else t
                for t in results
            ]
        return tuple(made) if isinstance(output, tuple) else made[0]


def _is_among(value: Any, others: Sequence[Any]) -> bool:
    return any(value is other for other in others)


def _recorded(cls: type[Function], ctx: FunctionCtx, args: tuple[Any, ...], results: tuple[Any, ...]) -> list[Any]:
    """The results of a function, with its node behind them."""
    for t in ctx._dirty:
        if not _is_among(t, results):
            raise RuntimeError(
                "Some elements marked as dirty during the forward method were not returned as output. The inputs that "
                f"are modified inplace must all be outputs of the Function: {cls.__name__}, at {location()}"
            )
        writing.check_in_place(t, cls.__name__)
    node = _Node(cls, ctx, args)
    values = [in_grad_mode(node.tape, False, _plain, t) if isinstance(t, Tensor) else t for t in results]
    node.results = [t._kind if isinstance(t, Tensor) else None for t in values]

    def saved(t: Tensor | None) -> _Saved:
        place = next((i for i, r in enumerate(results) if r is t), None)
        if t is None or place is None or _is_among(t, args) or not _is_differentiable(t, ctx):
            return _Saved(t, None)
        return _Saved(values[place], place)

    ctx._saved = [saved(t) for t in ctx._to_save]
    # A function that saves for one of the two only has that in both.
    ctx._saved_for_forward = [saved(t) for t in ctx._to_save_for_forward] or ctx._saved
    ctx._saved = ctx._saved or ctx._saved_for_forward
    ctx._node = weakref.ref(node)
    ctx._to_save = ctx._to_save_for_forward = ()
    made: list[Any] = []
    for place, (given, value) in enumerate(zip(results, values, strict=True)):
        if not isinstance(given, Tensor) or not _is_differentiable(given, ctx):
            made.append(value if _is_among(given, args) else given)
        elif _is_among(given, ctx._dirty):
            made.append(writing.assign(given, node.connected(value, place)))
        else:
            made.append(node.connected(value, place))
    ctx._passive = ctx._dirty = ()
    del node.token
    return made


def _plain(t: Tensor) -> Tensor:
    """The elements of a result, without a graph."""
    return t.detach() if t._kind.requires_grad else t


def _is_differentiable(t: Tensor, ctx: FunctionCtx) -> bool:
    return t._kind.dtype.is_floating_point and not _is_among(t, ctx._passive)


class _Once(Function):
    """What a rule gave that can't be differentiated again."""

    @staticmethod
    def forward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004
        return tuple(g.clone() for g in gradients)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `backward` whose operations are not to be recorded: differentiating it is an error.

    >>> import tapegrad as tg
    >>> class Double(tg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...
    ...     @staticmethod
    ...     @tg.autograd.function.once_differentiable
    ...     def backward(ctx, y_bar):
    ...         return 2 * y_bar
    """

    @functools.wraps(rule)
    def once(ctx: Any, *gradients: Any) -> Any:
        tape = current_tape()
        found = in_grad_mode(tape, False, lambda: rule(ctx, *gradients))
        requires_grad = any(isinstance(g, Tensor) and g._kind.requires_grad for g in gradients)
        if not tape.grad_enabled or not requires_grad:
            return found
        parts = found if isinstance(found, tuple) else (found,)
        active = [i for i, part in enumerate(parts) if isinstance(part, Tensor)]
        # They hang on the gradients that were given, so that differentiating again comes here.
        marked = list(parts)
        for i in active:
            seed = next(g for g in gradients if isinstance(g, Tensor) and g._kind.requires_grad)
            marked[i] = _Once.apply(parts[i], seed)[0]
        return tuple(marked) if isinstance(found, tuple) else marked[0]

    return once


__all__ = ["Function", "FunctionCtx", "once_differentiable"]
