"""Python functions over NumPy arrays as differentiable operations: host rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import dtypes
from tapegrad.batched import once_a_sample
from tapegrad.conversion import as_operand
from tapegrad.functions.shaping import contiguous
from tapegrad.kinds import kind_of
from tapegrad.ops.host import HOSTS
from tapegrad.recording import activity, cast, local, need_sum, record
from tapegrad.tensor import Tensor


def host_function(
    forward: Callable[..., Any], vjp: Callable[..., Any] | None = None, *,
    shape: Callable[..., tuple[int, ...]] | None = None
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
        return record(HOSTS[len(tensors)], kind, *tensors, host=(forward, vjp))

    operation.__name__ = getattr(forward, "__name__", "host_function")
    operation.__doc__ = forward.__doc__
    return operation


def recorded_contribution(y_bar: Tensor, y: Tensor, operands: list[Tensor], k: int, vjp: Callable[..., Any]) -> Tensor:
    """What operand `k` of a host row receives, recorded: a host row too, whose derivative is not known."""

    def forward(*arrays: np.ndarray) -> Any:
        parts = vjp(*arrays)
        part = parts[k] if isinstance(parts, (tuple, list)) else parts
        return np.zeros(operands[k]._kind.shape) if part is None else part

    def twice(*_: np.ndarray) -> Any:
        raise RuntimeError(
            "the derivative of a host function's vjp is not known: write it with tapegrad's operations to "
            "differentiate it twice"
        )

    arrays = [y_bar, y, *operands]
    if len(arrays) > 3:
        fixed = [t.detach()._array().copy() for t in arrays[1:]]
        return host_function(lambda g: forward(g, *fixed), twice, shape=lambda *_: operands[k]._kind.shape)(y_bar)
    return host_function(forward, twice, shape=lambda *_: operands[k]._kind.shape)(*arrays)
