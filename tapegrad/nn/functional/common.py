"""What the functions share: floors of dtypes, forms in place, how a loss is reduced."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import writing
from tapegrad.arguments import checked
from tapegrad.functions import activations as _activations
from tapegrad.functions.elementwise import functions as _elementwise
from tapegrad.functions.reductions import functions as _reductions
from tapegrad.functions.shaping import contiguous
from tapegrad.ops import indexing
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, from_array

public = checked
at, floating = _activations.at, _activations.floating
elementwise, reductions = _elementwise, _reductions
where: Callable[..., Any] = elementwise["where"]


def taken(x: Tensor, positions: np.ndarray) -> Tensor:
    """The elements at flat positions, in their shape."""
    where_ = from_array(np.ascontiguousarray(positions, np.int64).reshape(-1))
    found: Tensor = indexing.take(contiguous(x), where_, shape=positions.shape)
    return found


def same_dtype(name: str, *operands: Tensor | None) -> None:
    """Refuse operands of several dtypes."""
    given = [x for x in operands if x is not None]
    for x in given[1:]:
        if x.dtype is not given[0].dtype:
            raise RuntimeError(
                f"{name}: expected scalar type {given[0].dtype.scalar_type} but found {x.dtype.scalar_type}: "
                f"{at(*given)}"
            )


def finished(name: str, x: Tensor, make: Callable[[Tensor], Tensor], inplace: bool = False) -> Tensor:
    """A new tensor, or `x` with its elements replaced."""
    if not inplace:
        return make(x)
    writing.check_in_place(x, name)
    return writing.assign(x, cast(make(x), x.dtype))


def floored(x: Tensor, least: float) -> Tensor:
    """max(x, least), with the slope of `x` everywhere."""
    result: Tensor = where(x < least, x + (least - x.detach()), x)
    return result


def legacy(size_average: Any, reduce: Any, reduction: str, depth: int = 4) -> str:
    """How a loss is reduced, where arguments of old may say it; they warn at the user's line, so many calls away."""
    if size_average is None and reduce is None:
        return reduction
    reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
        stacklevel=depth,
    )
    return reduction


def check_reduction(reduction: str) -> None:
    """Refuse what is no way to reduce a loss."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction: it is 'none', 'mean' or 'sum'")


def chosen(size_average: Any, reduce: Any, reduction: str) -> str:
    """As `legacy`, and checked."""
    reduction = legacy(size_average, reduce, reduction, 5)
    check_reduction(reduction)
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean of a loss, its sum, or all of it."""
    if reduction == "mean":
        mean: Tensor = reductions["mean"](loss)
        return mean
    return loss.sum() if reduction == "sum" else loss


def warn_of_sizes(name: str, input: Tensor, target: Tensor) -> None:
    """Warn where a loss broadcasts, which is mostly a mistake."""
    if input._kind.shape != target._kind.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}): {name} "
            "broadcasts them, which will likely lead to incorrect results. Please ensure they have the same size.",
            stacklevel=4,
        )
