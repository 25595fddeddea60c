"""What the standard's functions take: arrays, numbers among them, axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegrad import functions
from tapegrad.conversion import as_operand, is_array, repair
from tapegrad.dtypes import DType, as_dtype, join
from tapegrad.recording import cast
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, location

# PyTorch's functions, by their names.
named: dict[str, Any] = {}
for _name in functions.__all__:
    named |= getattr(functions, _name).functions


def array(x: Any) -> Tensor:
    """A tensor; an array of NumPy's stands for one with what it has now.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(x, Tensor):
        return x
    if not is_array(x):
        raise TypeError(
            f"an array is expected, not {type(x).__name__}{repair(x)}, at {location()}: tapegrad.xp.asarray() makes one"
        )
    return as_operand(x, current_tape().grad_enabled)


def promoted(*operands: Any, join: Callable[[set[DType]], DType] = join) -> list[Any]:
    """Arrays in the dtype to which the standard promotes them, whatever their dimensions; numbers stay numbers.

    `join` says which dtype that is, where there are several.

    Raises
    ------
    TypeError
        Where there are numbers only.
    """
    taken = [x if isinstance(x, (bool, int, float)) else array(x) for x in operands]
    found = {x.dtype for x in taken if isinstance(x, Tensor)}
    if not found:
        raise TypeError(f"one of the operands must be an array, but they are {operands}, at {location()}")
    if len(found) == 1:
        return taken
    dtype = join(found)
    return [cast(x, dtype) if isinstance(x, Tensor) else x for x in taken]


def arrays_of(operands: Any) -> list[Any]:
    """A sequence of arrays, promoted.

    Raises
    ------
    TypeError
        Where it is none.
    """
    if not isinstance(operands, (list, tuple)):
        raise TypeError(f"a sequence of arrays is expected, not {type(operands).__name__}, at {location()}")
    return promoted(*map(array, operands)) if operands else []


def dtype_or_none(dtype: Any) -> DType | None:
    """A dtype, where one is given."""
    return None if dtype is None else as_dtype(dtype)


def over(function: Callable[..., Any], x: Any, axis: Any, keepdims: Any, **facts: Any) -> Tensor:
    """A reduction of PyTorch's over axes: all where they are None, and over none of them where they are ()."""
    x = array(x)
    axes = tuple(range(x.ndim)) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else axis
    if axes == ():
        return function(x.unsqueeze(-1), dim=-1, keepdim=False, **facts)
    return function(x, dim=axes, keepdim=bool(keepdims), **facts)
