"""Rules of the user's for functions of Tensors, in JAX's manner: `custom_vjp` and `custom_jvp`.

Arguments and results are Tensors, numbers, or trees of them; by numbers is not differentiated. Rules are functions of
Tensors too, so that they can be differentiated in their turn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tapegrad import creation, trees
from tapegrad.autograd import grad
from tapegrad.autograd.function import Function
from tapegrad.batched import batch_of, once_a_sample
from tapegrad.recording import activity
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor


class _Applied(Function):
    """A call of a function with a rule of its own: its tensors are operands, all else is kept."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Any:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        return call.values(tensors)

    @staticmethod
    def backward(ctx: Any, *y_bars: Tensor) -> Any:
        return None, *ctx.call.pull(ctx.saved_tensors, y_bars)


class _Call:
    """One call: how its arguments and its result are built of tensors."""

    def __init__(self, of: _Custom, args: tuple[Any, ...]) -> None:
        self.of = of
        self.fixed = tuple(args[i] for i in of.nondiff_argnums)
        self.free = [i for i in range(len(args)) if i not in of.nondiff_argnums]
        self.leaves, self.structure = trees.flatten([args[i] for i in self.free])
        self.places = [k for k, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.tensors = [self.leaves[k] for k in self.places]
        self.result: Any = None
        self.active: list[int] = []
        self.kept: Any = None

    def arguments(self, tensors: Sequence[Tensor]) -> list[Any]:
        """The arguments that may be differentiated by, of these tensors."""
        return list(trees.filled(self.structure, self.leaves, self.places, tensors))

    def all_arguments(self, free: Sequence[Any]) -> list[Any]:
        """These, with the others in their places."""
        full = dict(zip(self.of.nondiff_argnums, self.fixed, strict=True)) | dict(zip(self.free, free, strict=True))
        return [full[i] for i in sorted(full)]

    def values(self, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        output, self.kept = self.of._forward(self, tensors)
        leaves, structure = trees.flatten(output)
        self.active = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.result = structure, leaves
        self.leaves = [None if k in self.places else leaf for k, leaf in enumerate(self.leaves)]
        self.tensors = []
        return tuple(leaves[k] for k in self.active)

    def output(self, found: Sequence[Tensor]) -> Any:
        """What the caller is given."""
        structure, leaves = self.result
        self.result = structure, [None if k in self.active else leaf for k, leaf in enumerate(leaves)]
        return trees.filled(structure, leaves, self.active, found)

    def cotangents(self, y_bars: Sequence[Tensor]) -> Any:
        """The adjoints in the form of the result."""
        structure, leaves = self.result
        return trees.filled(structure, leaves, self.active, y_bars)

    def pull(self, tensors: Sequence[Tensor], y_bars: Sequence[Tensor]) -> Sequence[Any]:
        return self.of._pull(self, tensors, y_bars)


class _Custom:
    """A function with a rule of its own."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(fun):
            raise TypeError(f"{type(self).__name__} takes a function, but was given {type(fun).__name__}")
        self.fun = fun
        self.nondiff_argnums = tuple(nondiff_argnums)
        functools.update_wrapper(self, fun)

    def __call__(self, *args: Any, **facts: Any) -> Any:
        if facts:
            raise TypeError(f"{type(self).__name__}: give arguments by position, not by name: {', '.join(facts)}")
        if batch_of(args) is not None:
            return once_a_sample(self)(*args)
        call = _Call(self, args)
        if not activity(current_tape(), call.tensors):
            return self.fun(*args)
        self._check()
        found = _Applied.apply(call, *call.tensors)
        return call.output(found)

    def _check(self) -> None:
        raise NotImplementedError

    def _forward(self, call: _Call, tensors: Sequence[Tensor]) -> tuple[Any, Any]:
        raise NotImplementedError

    def _pull(self, call: _Call, tensors: Sequence[Tensor], y_bars: Sequence[Tensor]) -> Sequence[Any]:
        raise NotImplementedError


class custom_vjp(_Custom):  # noqa: N801
    """A function whose reverse rule is given: `defvjp(fwd, bwd)`.

    Parameters
    ----------
    fun : callable
        The function, of Tensors and trees of them.
    nondiff_argnums : sequence of int
        The places of arguments that no derivative is taken by; `bwd` is given them first.

    >>> import tapegrad as tg
    >>> @tg.custom_vjp
    ... def clipped(x):
    ...     return x.sin()
    >>> clipped.defvjp(lambda x: (x.sin(), x), lambda x, g: ((g * x.cos()).clamp(-0.5, 0.5),))
    >>> x = tg.tensor([0.0, 1.5], requires_grad=True)
    >>> clipped(x).sum().backward()
    >>> x.grad
    tensor([0.5000, 0.0707])
    """

    fwd: Any = None
    bwd: Any = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Give the rule.

        Parameters
        ----------
        fwd : callable
            `fwd(*args)` gives the result, and what `bwd` needs.
        bwd : callable
            `bwd(kept, y_bar)` gives a tuple: for each argument an adjoint, or None.
        """
        self.fwd, self.bwd = fwd, bwd

    def _check(self) -> None:
        if self.fwd is None:
            raise AttributeError(f"No VJP defined for custom_vjp function {self.__name__} using defvjp.")

    def _forward(self, call: _Call, tensors: Sequence[Tensor]) -> tuple[Any, Any]:
        """The value, and what the rule needs."""
        made = self.fwd(*call.all_arguments(call.arguments(tensors)))
        if not isinstance(made, tuple) or len(made) != 2:
            raise TypeError(
                f"the forward rule of custom_vjp must give a pair: the result, and what the reverse rule needs; but "
                f"gave {type(made).__name__}"
            )
        return made

    def _pull(self, call: _Call, tensors: Sequence[Tensor], y_bars: Sequence[Tensor]) -> Sequence[Any]:
        """The adjoints of the tensors; what was kept is computed again where it is to be differentiated itself."""
        kept = self._forward(call, tensors)[1] if current_tape().grad_enabled else call.kept
        found = self.bwd(*call.fixed, kept, call.cotangents(y_bars))
        if not isinstance(found, (tuple, list)) or len(found) != len(call.free):
            raise TypeError(
                f"Custom VJP bwd rule must produce a tuple of {len(call.free)} adjoints, one an argument, but gave "
                f"{found if not isinstance(found, (tuple, list)) else len(found)}"
            )
        adjoints: list[Any] = []
        for of, argument in zip(found, call.arguments(tensors), strict=True):
            n = len(trees.leaves(argument))
            leaves = trees.leaves(of) if of is not None else [None] * n
            if len(leaves) != n:
                raise TypeError("Custom VJP bwd rule must produce adjoints of the form of the arguments, or None")
            adjoints += leaves
        return [adjoints[k] for k in call.places]


class custom_jvp(_Custom):  # noqa: N801
    """A function whose forward rule is given: `defjvp(rule)`; reverse sweeps transpose it.

    Parameters
    ----------
    fun : callable
        The function, of Tensors and trees of them.
    nondiff_argnums : sequence of int
        The places of arguments that no derivative is taken by; rules are given them first.

    >>> import tapegrad as tg
    >>> @tg.custom_jvp
    ... def softplus(x):
    ...     return (1 + x.exp()).log()
    >>> @softplus.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (x_dot,) = primals, tangents
    ...     return softplus(x), x_dot * x.sigmoid()
    >>> x = tg.tensor(0.0, requires_grad=True)
    >>> (slope,) = tg.autograd.grad(softplus(x), x, create_graph=True)
    >>> slope.item(), tg.autograd.grad(slope, x)[0].item()
    (0.5, 0.25)
    """

    rule: Any = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Give the rule; as a decorator, too.

        Parameters
        ----------
        rule : callable
            `rule(primals, tangents)` gives the result and its tangent; both arguments are tuples.
        """
        self.rule = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Give a rule for each argument.

        Parameters
        ----------
        *rules : callable or None
            `rule(tangent, result, *primals)` gives that argument's part of the tangent; None for no part.

        >>> import tapegrad as tg
        >>> product = tg.custom_jvp(lambda x, y: x * y)
        >>> product.defjvps(lambda x_dot, z, x, y: x_dot * y, lambda y_dot, z, x, y: x * y_dot)
        >>> tg.autograd.grad(product(x := tg.tensor(2.0, requires_grad=True), tg.tensor(3.0)), x)
        (tensor(3.),)
        """

        def rule(*args: Any) -> tuple[Any, Any]:
            *_, primals, tangents = args
            result = self(*primals)
            parts = [r(t, result, *primals) for r, t in zip(rules, tangents, strict=True) if r is not None]
            return result, sum(parts[1:], parts[0]) if parts else creation.zeros_like(result)

        self.rule = rule

    def _check(self) -> None:
        if self.rule is None:
            raise AttributeError(f"No JVP defined for custom_jvp function {self.__name__} using defjvp.")

    def _forward(self, call: _Call, tensors: Sequence[Tensor]) -> tuple[Any, Any]:
        """The value; nothing else is needed."""
        return self.fun(*call.all_arguments(call.arguments(tensors))), None

    def _pull(self, call: _Call, tensors: Sequence[Tensor], y_bars: Sequence[Tensor]) -> Sequence[Any]:
        """The adjoints of the tensors: the rule is linear in tangents, and this is its gradient by them."""
        tape = current_tape()
        recording = tape.grad_enabled

        def transposed() -> Sequence[Any]:
            tangents = [creation.zeros_like(t.detach()).requires_grad_() for t in tensors]
            _, y_dots = self.rule(*call.fixed, tuple(call.arguments(tensors)), tuple(call.arguments(tangents)))
            leaves = trees.leaves(y_dots)
            pairs = [
                (leaves[k], g) for k, g in zip(call.active, y_bars, strict=True)
                if isinstance(leaves[k], Tensor) and leaves[k].requires_grad
            ]  # fmt: skip
            if not pairs:
                return [None] * len(tangents)
            results, seeds = zip(*pairs, strict=True)
            return grad(results, tangents, seeds, create_graph=recording, allow_unused=True)

        return in_grad_mode(tape, True, transposed)


__all__ = ["custom_jvp", "custom_vjp"]
