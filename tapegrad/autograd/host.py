"""Python functions over NumPy arrays as differentiable operations: host rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tapegrad import dtypes
from tapegrad.batched import once_a_sample
from tapegrad.conversion import as_operand
from tapegrad.functions.shaping import cat, contiguous, ravel
from tapegrad.kinds import kind_of
from tapegrad.ops.host import HOSTS
from tapegrad.recording import activity, cast, local, need_sum, record
from tapegrad.tensor import Tensor


class EitherWay:
    """A vjp, or a jvp, that takes arrays, and Tensors too: then what it gives is recorded, and differentiated in turn.

    Of a host function of one operand.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *given: Any) -> Any:
        """What it is for arrays, or for Tensors."""
        return self.function(*given)


def host_function(
    forward: Callable[..., Any], vjp: Callable[..., Any] | None = None, *,
    shape: Callable[..., tuple[int, ...]] | None = None, jvp: Callable[..., Any] | None = None
) -> Callable[..., Tensor]:  # fmt: skip
    """Make an operation on tensors of a Python function over NumPy arrays, such as a SciPy routine.

    It is recorded like any operation, and runs at once, so that what it raises comes where it can be caught. Prefer
    tapegrad's own operations: they are swept without returning to Python.

    Parameters
    ----------
    forward : callable
        `forward(*arrays) -> array`, of one to three arrays, which it must not change.
    vjp : callable, optional
        `vjp(y_bar, y, *arrays)`: the product of the adjoint of the result with the Jacobian, an array or None for each
        operand (a lone array for one operand). Without it no gradient flows. Its own derivative is not known:
        differentiating twice is an error.
    shape : callable, optional
        `shape(*shapes)`: the shape of the result; by default the operands are broadcast.
    jvp : callable, optional
        `jvp(dots, y, *arrays)`: the product of the Jacobian with tangents, an array or None (which is zero) for each
        operand. Forward mode asks for it, and is an error without it, or where the tangent is differentiated in turn.

    Returns
    -------
    callable
        A function of tensors. It raises ValueError where `forward` gives another shape than announced.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> cube = tg.autograd.host_function(lambda x: x**3, lambda y_bar, y, x: y_bar * 3 * x**2)
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    """
    shape_of = shape or np.broadcast_shapes

    @once_a_sample
    def operation(*operands: Any) -> Tensor:
        if not 1 <= len(operands) <= 3:
            raise TypeError(f"a host function takes one to three tensors, but got {len(operands)}")
        tensors = [local(as_operand(operand, True)) for operand in operands]
        dtype = dtypes.result_type([(dtypes.DIMENSIONED, t.dtype) for t in tensors])
        tensors = [contiguous(cast(t, dtype)) for t in tensors]
        tape = tensors[0]._tape
        requires_grad = activity(tape, tensors) if vjp is not None else 0
        if requires_grad:
            need_sum(dtype)
        kind = kind_of(dtype, tuple(shape_of(*(t._kind.shape for t in tensors))), requires_grad=requires_grad)
        return record(HOSTS[len(tensors)], kind, *tensors, host=(forward, vjp, jvp))

    operation.__name__ = getattr(forward, "__name__", "host_function")
    operation.__doc__ = forward.__doc__
    return operation


def recorded_contribution(y_bar: Tensor, y: Tensor, operands: list[Tensor], k: int, vjp: Callable[..., Any]) -> Tensor:
    """What operand `k` of a host row receives, recorded: a host row too, which is linear in the adjoint."""
    if isinstance(vjp, EitherWay):
        return _of_tensors(vjp, y_bar, y, *operands)

    def forward(*arrays: np.ndarray) -> Any:
        parts = vjp(*arrays)
        part = parts[k] if isinstance(parts, (tuple, list)) else parts
        return np.zeros(operands[k]._kind.shape) if part is None else part

    def linear(dots: Sequence[Any], _: np.ndarray, __: np.ndarray, *arrays: np.ndarray) -> Any:
        if any(dot is not None for dot in dots[1:]):
            _refuse("vjp")
        return forward(dots[0], *arrays)

    arrays = [y_bar, y, *operands]
    shape = operands[k]._kind.shape
    if len(arrays) > 3:
        fixed = [t.detach()._array().copy() for t in arrays[1:]]
        return host_function(lambda g: forward(g, *fixed), lambda *_: _refuse("vjp"), shape=lambda *_: shape)(y_bar)
    return host_function(forward, lambda *_: _refuse("vjp"), shape=lambda *_: shape, jvp=linear)(*arrays)


def recorded_tangent(y: Tensor, operands: list[Tensor], along: Mapping[int, Tensor], jvp: Callable[..., Any]) -> Tensor:
    """The tangent of a host row's result, by those of its operands, recorded: a host row too."""
    if isinstance(jvp, EitherWay):
        return _of_tensors(jvp, [along[0]], y, *operands)
    fixed = [t.detach()._array().copy() for t in (y, *operands)]
    ends = np.cumsum([along[k]._kind.numel for k in along]).tolist()

    def forward(joined: np.ndarray, _: np.ndarray) -> Any:
        dots: list[np.ndarray | None] = [None] * len(operands)
        for k, part in zip(along, np.split(joined, ends[:-1]), strict=True):
            dots[k] = part.reshape(operands[k]._kind.shape)
        return jvp(dots, *fixed)

    made = host_function(forward, lambda *_: _refuse("jvp"), shape=lambda *_: y._kind.shape)
    return made(cat([ravel(t) for t in along.values()]), cat([ravel(t) for t in operands]))


def _refuse(name: str) -> Any:
    raise RuntimeError(
        f"the derivative of a host function's {name} is not known: write it with tapegrad's operations to "
        "differentiate it twice"
    )


@once_a_sample
def _of_tensors(function: EitherWay, *given: Any) -> Tensor:
    found = function(*given)
    return found if isinstance(found, Tensor) else as_operand(found, True)
