"""Shapes changed, arrays joined, elements picked along an axis."""

from __future__ import annotations

import operator
from typing import Any

from tapegrad import numpy_functions
from tapegrad.functions import joining, shaping
from tapegrad.tensor import Tensor, describe, location
from tapegrad.xp.operands import array, arrays_of, named


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Arrays repeated, without copies, to the shape to which they broadcast.

    >>> from tapegrad import xp
    >>> xp.broadcast_arrays(xp.asarray([1, 2]), xp.asarray([[3], [4]]))[1]
    tensor([[3, 3],
            [4, 4]])
    """
    return list(joining.broadcast_tensors(*map(array, arrays)))


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """An array repeated, without a copy, to a shape.

    >>> from tapegrad import xp
    >>> xp.broadcast_to(xp.asarray([1, 2]), (2, 2))
    tensor([[1, 2],
            [1, 2]])
    """
    return shaping.broadcast_to(array(x), tuple(shape))


def concat(arrays: Any, /, *, axis: Any = 0) -> Tensor:
    """Arrays joined along an axis that they have; flattened before where it is None.

    >>> from tapegrad import xp
    >>> xp.concat([xp.asarray([1, 2]), xp.asarray([3.5])])
    tensor([1.0000, 2.0000, 3.5000])
    """
    parts = arrays_of(arrays)
    return shaping.cat([t.reshape(-1) for t in parts]) if axis is None else shaping.cat(parts, axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis.

    >>> from tapegrad import xp
    >>> xp.stack([xp.asarray([1, 2]), xp.asarray([3, 4])], axis=1)
    tensor([[1, 3],
            [2, 4]])
    """
    return shaping.stack(arrays_of(arrays), axis)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, without it.

    >>> from tapegrad import xp
    >>> xp.unstack(xp.asarray([[1, 2], [3, 4]]), axis=1)
    (tensor([1, 3]), tensor([2, 4]))
    """
    return shaping.functions["unbind"](array(x), axis)


def expand_dims(x: Any, /, axis: int = 0) -> Tensor:
    """With a new axis of length 1 there.

    >>> from tapegrad import xp
    >>> xp.expand_dims(xp.ones((3,)), axis=1).shape
    tapegrad.Size([3, 1])
    """
    return named["unsqueeze"](array(x), axis)


def squeeze(x: Any, /, axis: Any) -> Tensor:
    """Without axes of length 1.

    Raises
    ------
    ValueError
        Where one of them has another length.

    >>> from tapegrad import xp
    >>> xp.squeeze(xp.ones((3, 1)), axis=1).shape
    tapegrad.Size([3])
    """
    x = array(x)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for d in axes:
        if -x.ndim <= d < x.ndim and x.shape[d] != 1:
            raise ValueError(f"squeeze: axis {d} of {describe(x)} has a length that is not 1, at {location()}")
    return named["squeeze"](x, axis)


def flip(x: Any, /, *, axis: Any = None) -> Tensor:
    """The elements in reverse order, along all axes or those given.

    >>> from tapegrad import xp
    >>> xp.flip(xp.asarray([[1, 2], [3, 4]])), xp.flip(xp.asarray([1, 2, 3]), axis=0)
    (tensor([[4, 3],
            [2, 1]]), tensor([3, 2, 1]))
    """
    x = array(x)
    return joining.flip(x, tuple(range(x.ndim)) if axis is None else axis)


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Some axes moved to other places.

    >>> from tapegrad import xp
    >>> xp.moveaxis(xp.ones((2, 3, 4)), 0, -1).shape
    tapegrad.Size([3, 4, 2])
    """
    return named["movedim"](array(x), source, destination)


def permute_dims(x: Any, /, axes: Any) -> Tensor:
    """The axes in another order.

    >>> from tapegrad import xp
    >>> xp.permute_dims(xp.ones((2, 3, 4)), (2, 0, 1)).shape
    tapegrad.Size([4, 2, 3])
    """
    return named["permute"](array(x), tuple(axes))


def repeat(x: Any, repeats: Any, /, *, axis: Any = None) -> Tensor:
    """Each element so many times, along an axis or of all.

    >>> from tapegrad import xp
    >>> xp.repeat(xp.asarray([7, 8]), xp.asarray([1, 2]))
    tensor([7, 8, 8])
    """
    return named["repeat_interleave"](array(x), repeats if isinstance(repeats, int) else array(repeats), axis)


def reshape(x: Any, /, shape: Any, *, copy: Any = None) -> Tensor:
    """The elements, in their order, in another shape.

    Raises
    ------
    ValueError
        Where they must be copied, and must not be (`copy=False`).

    >>> from tapegrad import xp
    >>> xp.reshape(xp.arange(4), (2, -1))
    tensor([[0, 1],
            [2, 3]])
    """
    x = array(x)
    if copy:
        return shaping.reshape(x.clone(), tuple(shape))
    if copy is None:
        return shaping.reshape(x, tuple(shape))
    try:
        return x.view(tuple(shape))
    except RuntimeError as error:
        raise ValueError(f"reshape: {error}; copy=False forbids to copy, at {location()}") from None


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """The elements moved on, those at the end to the beginning.

    >>> from tapegrad import xp
    >>> xp.roll(xp.arange(5), 2)
    tensor([3, 4, 0, 1, 2])
    """
    return numpy_functions.roll(array(x), shift, axis)


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """The whole, side by side, so many times along each axis.

    >>> from tapegrad import xp
    >>> xp.tile(xp.asarray([1, 2]), (2, 2))
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    return joining.tile(array(x), tuple(repetitions))


def _axis_of(name: str, x: Tensor, axis: Any) -> int:
    """An axis, which only a vector may leave out."""
    if axis is None and x.ndim != 1:
        raise ValueError(f"{name}: the axis must be given, since {describe(x)} is no vector, at {location()}")
    return -1 if axis is None else operator.index(axis)


def take(x: Any, indices: Any, /, *, axis: Any = None) -> Tensor:
    """The elements at places along an axis, which may be left out for a vector.

    >>> from tapegrad import xp
    >>> xp.take(xp.asarray([[1, 2], [3, 4]]), xp.asarray([1, 1, 0]), axis=1)
    tensor([[2, 2, 1],
            [4, 4, 3]])
    """
    x = array(x)
    axis = _axis_of("take", x, axis)
    x = x.movedim(axis, 0)[array(indices)]
    return x if axis == 0 else x.movedim(0, axis)


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """The elements at places along an axis, for each place of the others, to which both broadcast.

    >>> from tapegrad import xp
    >>> x = xp.asarray([[3, 1], [2, 4]])
    >>> xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1)
    tensor([[1, 3],
            [2, 4]])
    """
    x, indices = array(x), array(indices)
    n = x.shape[axis]
    return named["take_along_dim"](x, named["where"](indices < 0, indices + n, indices), axis)
