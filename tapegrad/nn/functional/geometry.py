"""Lengths of windows: what arguments of convolutions and pooling say of each spatial dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapegrad.arguments import integer
from tapegrad.tensor import Tensor


def each(name: str, argument: str, value: Any, n: int) -> tuple[int, ...]:
    """A number for each of n dimensions, given as one or as a sequence."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    taken = [integer(v) for v in values]
    for v, given in zip(taken, values, strict=True):
        if v.__class__ is not int:
            raise TypeError(f"{name}(): argument '{argument}' must be tuple of ints, not {type(given).__name__}")
    if len(taken) not in (1, n):
        raise RuntimeError(
            f"expected {argument} to be a single integer value or a list of {n} values to match the convolution "
            f"dimensions, but got {argument}={taken}: {name}"
        )
    return tuple(taken * n if len(taken) == 1 else taken)


def three(values: Sequence[int], filler: int) -> tuple[int, ...]:
    """Numbers of up to three dimensions as those of three."""
    return (filler,) * (3 - len(values)) + tuple(values)


def product(values: Sequence[int]) -> str:
    """Lengths in an error message."""
    return "(" + " x ".join(map(str, values)) + ")"


def listed(values: Sequence[int]) -> str:
    """Lengths as a tuple in an error message."""
    return "(" + ", ".join(map(str, values)) + ")"


def batched(x: Tensor, n: int) -> Tensor:
    """With a batch dimension before the channels and n others."""
    return x if x.ndim == n + 2 else x.unsqueeze(0)
