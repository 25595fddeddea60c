"""Activations that are methods of Tensor too; the others are in `nn.functional`."""

from __future__ import annotations

from typing import Any

from tapegrad.arguments import Number, Surface, node
from tapegrad.functions import elementwise
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface()
_where: Any = elementwise.functions["where"]


def at(*operands: Any) -> str:
    """Operands in an error message, and the user's line."""
    return f"{describe(*operands)}, at {location()}"


def floating(name: str, *operands: Tensor | None) -> None:
    """Refuse integers and bools, as PyTorch does where it has no kernel for them."""
    for x in operands:
        if x is not None and not x.dtype.is_floating_point:
            raise NotImplementedError(
                f"\"{name}\" not implemented for '{x.dtype.scalar_type}': {at(x)}; convert it with "
                ".to(tapegrad.float64)"
            )


@public
@node("HardshrinkBackward0")
def hardshrink(input: Tensor, lambd: Number = 0.5) -> Tensor:
    """`input`, but 0 where it is in [-lambd, lambd].

    >>> import tapegrad as tg
    >>> tg.hardshrink(tg.tensor([-1.0, 0.3]))
    tensor([-1.,  0.])
    """
    floating("hardshrink_cpu", input)
    result: Tensor = _where((input >= -lambd) & (input <= lambd), 0.0, input)
    return result


@public
@node("PreluKernelBackward0")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """`input` where it is positive, else weight input: one weight, or one for each channel (dimension 1).

    Raises
    ------
    RuntimeError
        Where there are neither 1 nor as many weights as channels; where the dtypes differ.

    >>> import tapegrad as tg
    >>> tg.prelu(tg.tensor([-1.0, 1.0]), tg.tensor(0.25))
    tensor([-0.2500,  1.0000])
    """
    if input.dtype is not weight.dtype:
        raise RuntimeError(
            f"prelu: Type promoting not supported. Got {input.dtype} and {weight.dtype}: {at(input, weight)}"
        )
    if weight.ndim > 1:
        raise RuntimeError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}: {at(input, weight)}"
        )
    n = weight.numel()
    if n != 1:
        if not input.ndim:
            raise RuntimeError(f"Not allow zero-dim input tensor: {at(input, weight)}")
        channels = input.shape[1] if input.ndim > 1 else 1
        if n != channels:
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {n} and channel size "
                f"= {channels}: {at(input, weight)}"
            )
    floating("prelu", input)
    slopes = weight.reshape(()) if n == 1 else weight.reshape(-1, *(1,) * (input.ndim - 2))
    result: Tensor = _where(input > 0, input, slopes * input)
    return result
