"""Joining, splitting, repeating, and turning round: of views and of `cat`, so that nothing but these moves elements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad import aliasing, overrides
from tapegrad.arguments import EXACT, Dims, Sizes, Surface, checked, node, sizes
from tapegrad.conversion import NUMBERS, as_operand, joiners
from tapegrad.dtypes import BY_NUMPY, FLOAT64, INT32, INT64
from tapegrad.functions import shaping
from tapegrad.functions.indexing import index_select
from tapegrad.functions.matrices import diag_embed
from tapegrad.functions.shaping import (
    _axis,
    _of_copy,
    _sequence,
    cat,
    expand,
    narrow,
    reshape,
    stack,
    takes_ints,
    transpose,
)
from tapegrad.ops import layout
from tapegrad.ops.layout import dimension, distinct
from tapegrad.recording import cast, promoted
from tapegrad.tensor import Size, Tensor, constant, describe, from_array, location

functions = public = Surface(EXACT)


def function(made: Any) -> Any:
    """Take in a function that is no method."""
    functions[made.__name__] = taken = checked(made, out=EXACT)
    return taken


def _of_tensors(leaves: Sequence[Any], shape: tuple[int, ...]) -> Tensor:
    """The tensor that the elements of tensors, arrays and numbers make up, one after the other, in NumPy's dtype."""
    parts = [x if isinstance(x, NUMBERS) else as_operand(x, True) for x in leaves]
    kinds = {np.asarray(x).dtype if isinstance(x, NUMBERS) else x.dtype.numpy for x in parts}
    dtype = BY_NUMPY.get(np.result_type(*kinds), FLOAT64)
    tensors = [constant(x, dtype) if isinstance(x, NUMBERS) else cast(x, dtype) for x in parts]
    joined: Tensor = cat([reshape(t, (-1,)) for t in tensors]) if any(t.ndim for t in tensors) else stack(tensors)
    return reshape(joined, shape)


joiners.append(_of_tensors)


def _list(name: str, tensors: tuple[Any, ...], where_empty: str = "") -> list[Tensor]:
    """Tensors that are given one by one, or as one sequence."""
    given: Any = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    if where_empty and not given:
        raise RuntimeError(where_empty)
    for i, t in enumerate(given):
        if not isinstance(t, Tensor) or overrides.answers(t):
            raise overrides.refused(
                f"{name}(): argument 'tensors' must be tuple of Tensors, but found element of type {type(t).__name__} "
                f"at pos {i}",
                t,
            )
    return list(given)


# --- with more dimensions ---------------------------------------------------------------------------------------------


def _at_least(n: int, t: Tensor) -> Tensor:
    shape = t._kind.shape
    if n == 3 and len(shape) == 2:
        return t.unsqueeze(2)
    if len(shape) >= n:
        return t
    return reshape(t, (1,) * (n - len(shape)) + shape if n < 3 or not shape else (1, *shape, 1))


def _at_least_functions(n: int) -> Any:
    def at_least(*tensors: Any) -> Tensor | tuple[Tensor, ...]:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            return _at_least(n, tensors[0])
        return tuple(_at_least(n, t) for t in _list(f"atleast_{n}d", tensors))

    at_least.__name__ = f"atleast_{n}d"
    where = {1: "", 2: ", new ones in front", 3: ", new ones on both sides of a vector, and behind a matrix"}[n]
    at_least.__doc__ = f"""At least {n} dimension{"s" if n > 1 else ""}{where}; of several tensors, a tuple.

    >>> import tapegrad as tg
    >>> tg.atleast_{n}d(tg.tensor(5.0)).shape
    tapegrad.Size({[1] * n})
    """
    return function(at_least)


atleast_1d, atleast_2d, atleast_3d = map(_at_least_functions, (1, 2, 3))


# --- joining ----------------------------------------------------------------------------------------------------------


@function
def vstack(tensors: Any) -> Tensor:
    """Joined along the first of at least two dimensions: vectors are rows.

    >>> import tapegrad as tg
    >>> tg.vstack([tg.zeros(2), tg.ones(2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    return cat(
        [_at_least(2, t) for t in _sequence("vstack", tensors, RuntimeError("vstack expects a non-empty TensorList"))]
    )


@function
def hstack(tensors: Any) -> Tensor:
    """Joined along the second dimension; vectors along their only one.

    >>> import tapegrad as tg
    >>> tg.hstack([tg.zeros(2), tg.ones(1)])
    tensor([0., 0., 1.])
    """
    pieces = [
        _at_least(1, t) for t in _sequence("hstack", tensors, RuntimeError("hstack expects a non-empty TensorList"))
    ]
    return cat(pieces, 0 if pieces[0].ndim == 1 else 1)


@function
def dstack(tensors: Any) -> Tensor:
    """Joined along the third of at least three dimensions.

    >>> import tapegrad as tg
    >>> tg.dstack((tg.ones(2), tg.zeros(2))).shape
    tapegrad.Size([1, 2, 2])
    """
    return cat(
        [_at_least(3, t) for t in _sequence("dstack", tensors, RuntimeError("dstack expects a non-empty TensorList"))],
        2,
    )


@function
def column_stack(tensors: Any) -> Tensor:
    """Vectors and matrices as columns of one matrix.

    >>> import tapegrad as tg
    >>> tg.column_stack([tg.zeros(2), tg.ones(2)])
    tensor([[0., 1.],
            [0., 1.]])
    """
    pieces = _sequence("column_stack", tensors, RuntimeError("column_stack expects a non-empty TensorList"))
    return hstack([reshape(t, (t._kind.numel, 1)) if t.ndim <= 1 else t for t in pieces])


@function
def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of one, zeros elsewhere; vectors are rows.

    >>> import tapegrad as tg
    >>> tg.block_diag(tg.ones(1, 2), tg.tensor([[3.0]]))
    tensor([[1., 1., 0.],
            [0., 0., 3.]])
    """
    pieces = _list("block_diag", tensors)
    for i, piece in enumerate(pieces):
        if piece.ndim > 2:
            raise RuntimeError(
                f"block_diag: Input tensors must have 2 or fewer dimensions. Input {i} has {piece.ndim} dimensions"
            )
    pieces = pieces or [from_array(np.zeros((1, 0)))]
    dtype = promoted(pieces)
    pieces = [_at_least(2, cast(t, dtype)) for t in pieces]
    n, before, rows = sum(t._kind.shape[1] for t in pieces), 0, []
    for t in pieces:
        height, width = t._kind.shape
        behind = n - before - width
        rows.append(cat([t.new_zeros(height, before), t, t.new_zeros(height, behind)], 1))
        before += width
    return cat(rows)


@function
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All of them, expanded to the shape that they are broadcast to.

    >>> import tapegrad as tg
    >>> tg.broadcast_tensors(tg.ones(2, 1), tg.ones(3))[0].shape
    tapegrad.Size([2, 3])
    """
    pieces = _list("broadcast_tensors", tensors)
    shape = broadcast_shapes(*(t._kind.shape for t in pieces))
    return tuple(expand(t, *shape) for t in pieces)


@function
def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes are broadcast to.

    >>> import tapegrad as tg
    >>> tg.broadcast_shapes((3, 1), (4,))
    tapegrad.Size([3, 4])
    """
    given = [sizes("broadcast_shapes", (shape if isinstance(shape, (tuple, list)) else (shape,),)) for shape in shapes]
    made: list[int] = []
    for shape in given:
        if any(n < 0 for n in shape):
            raise ValueError(f"Attempting to broadcast a dimension with negative length! {list(shape)}")
        made = [1] * (len(shape) - len(made)) + made
        for d in range(-1, -len(shape) - 1, -1):
            if shape[d] not in (1, made[d]) and made[d] != 1:
                raise RuntimeError(
                    "Shape mismatch: objects cannot be broadcast to a single shape: "
                    f"{', '.join(str(list(s)) for s in given)}"
                )
            made[d] = shape[d] if made[d] == 1 else made[d]
    return Size(made)


@function
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid: of each vector, its elements along its own dimension of all.

    Parameters
    ----------
    tensors
        Vectors, or single numbers.
    indexing
        "ij" (the default): the first is along the first dimension. "xy": along the second.

    >>> import tapegrad as tg
    >>> tg.meshgrid(tg.tensor([1, 2]), tg.tensor([3, 4]))[0]
    tensor([[1, 1],
            [2, 2]])
    """
    pieces = _list("meshgrid", tensors, "meshgrid expects a non-empty TensorList")
    for t in pieces:
        if t.ndim > 1:
            raise RuntimeError(f"meshgrid: Expected 0D or 1D tensor in the tensor list but got: {describe(t)}")
    if any(t.dtype is not pieces[0].dtype for t in pieces):
        raise RuntimeError(f"meshgrid expects all tensors to have the same dtype: {describe(*pieces)}")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swaps = indexing == "xy" and len(pieces) > 1
    if swaps:
        pieces[:2] = pieces[1::-1]
    shape = [t._kind.numel for t in pieces]
    made = [
        expand(reshape(t, tuple(n if k == i else 1 for k, n in enumerate(shape))), *shape) for i, t in enumerate(pieces)
    ]
    if swaps:
        made[:2] = made[1::-1]
    return tuple(made)


@function
def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples of elements of vectors, a row each, as of `itertools.product`.

    >>> import tapegrad as tg
    >>> tg.cartesian_prod(tg.tensor([1, 2]), tg.tensor([3, 4]))
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    pieces = _list("cartesian_prod", tensors)
    for t in pieces:
        if t.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(t._kind.shape)}")
    if len(pieces) == 1:
        return pieces[0]
    return stack([t.reshape(-1) for t in meshgrid(*pieces)], 1)


@function
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All combinations of `r` elements of a vector, a row each, as of `itertools.combinations`.

    >>> import tapegrad as tg
    >>> tg.combinations(tg.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._kind.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_empty(0)
    chosen = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array([*chosen(range(input._kind.numel), r)], np.int64).reshape(-1, r)
    return index_select(input, 0, from_array(places.reshape(-1))).reshape(len(places), r)


# --- repeating --------------------------------------------------------------------------------------------------------


@checked
def tile(input: Tensor, dims: Sizes) -> Tensor:
    """The tensor repeated so many times along each dimension, the last ones first; the method takes them one by one.

    >>> import tapegrad as tg
    >>> tg.tile(tg.tensor([1, 2]), (2,))
    tensor([1, 2, 1, 2])
    """
    return shaping.repeat(input, *(1,) * (input.ndim - len(dims)), *dims)


functions["tile"] = tile


@takes_ints(tile)
def _tile(self: Tensor, *given: Any, dims: Sizes | None = None) -> Tensor:
    return tile(self, sizes("tile", given, "dims", dims))


@public
def repeat_interleave(
    input: Tensor, repeats: int | Tensor | None = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element so many times, one after another, along a dimension, or of all in one.

    Parameters
    ----------
    input
        The elements; or the repeats alone: then the result is the index of each.
    repeats
        How often: a number, or a vector with one for each slice.
    dim
        The dimension. None: all elements, in one dimension.
    output_size
        The length that the dimension is to have then.

    >>> import tapegrad as tg
    >>> tg.repeat_interleave(tg.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    if repeats is None:
        if input.ndim != 1:
            raise RuntimeError(f"repeat_interleave only accept 1D vector as repeat: {describe(input)}, at {location()}")
        times = _times(input)
        return from_array(np.repeat(np.arange(len(times), dtype=input.dtype.numpy), times))
    x = reshape(input, (input._kind.numel,)) if dim is None else input
    at = dimension(0 if dim is None else dim, x.ndim)
    x = x if x.ndim else reshape(x, (1,))
    n, shape = x._kind.shape[at], x._kind.shape
    if isinstance(repeats, int) or repeats._kind.numel == 1:
        count = repeats if isinstance(repeats, int) else int(_times(repeats)[0])
        if count < 0:
            raise RuntimeError("Repeats must be non-negative")
        apart = expand(x.unsqueeze(at + 1), *shape[: at + 1], count, *shape[at + 1 :])
        made = _of_copy(layout.view, apart, (*shape[:at], n * count, *shape[at + 1 :]))
    else:
        times = _times(repeats)
        if len(times) != n:
            raise RuntimeError(
                f"repeats must have the same size as input along dim, but got repeats.size(0) = {len(times)} and "
                f"input.size({at}) = {n}"
            )
        made = index_select(x, at, from_array(np.repeat(np.arange(n), times)))
    if output_size is not None and output_size != made._kind.shape[at]:
        raise RuntimeError(
            f"allocated size does not match required size: output_size={output_size}, but the repeats sum up to "
            f"{made._kind.shape[at]}"
        )
    return made


def _times(repeats: Tensor) -> np.ndarray:
    if repeats.ndim > 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if repeats.dtype not in (INT64, INT32):
        raise NotImplementedError(
            f"\"repeat_interleave_cpu\" not implemented for '{repeats.dtype.scalar_type}': repeats has to be Long or "
            f"Int tensor: {describe(repeats)}, at {location()}"
        )
    times = repeats._array().reshape(-1)
    if (times < 0).any():
        raise RuntimeError("repeats can not be negative")
    return times


# --- turning round ----------------------------------------------------------------------------------------------------


def _turned(op: Any, t: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A copy, read backwards along some dimensions."""
    kind = t._kind

    def backwards(strides: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        turned = tuple(-s if d in dims else s for d, s in enumerate(strides))
        return turned, sum(strides[d] * (kind.shape[d] - 1) for d in dims) if kind.numel else 0

    strides, start = backwards(kind.strides)
    adjoint, first = backwards(shaping.contiguous_strides(kind.shape, kind.itemsize))
    return _of_copy(op, aliasing.view(layout.alias, t, kind.shape, strides, start, adjoint, first), kind.shape)


@checked
def flip(input: Tensor, dims: Dims) -> Tensor:
    """The elements in reverse order along some dimensions, as a copy; the method takes these one by one too.

    >>> import tapegrad as tg
    >>> tg.flip(tg.tensor([1, 2, 3]), [0])
    tensor([3, 2, 1])
    """
    return _turned(layout.flip, input, distinct(dims, input.ndim) if input.ndim else _none(dims))


def _none(dims: Dims) -> tuple[int, ...]:
    distinct(dims, 0)
    return ()


functions["flip"] = flip


@takes_ints(flip)
def _flip(self: Tensor, *given: Any, dims: Sizes | None = None) -> Tensor:
    return flip(self, sizes("flip", given, "dims", dims))


@public
def fliplr(input: Tensor) -> Tensor:
    """The second dimension in reverse order.

    >>> import tapegrad as tg
    >>> tg.fliplr(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[2., 1.],
            [4., 3.]])
    """
    if input.ndim < 2:
        raise RuntimeError(f"Input must be >= 2-d. fliplr: {describe(input)}, at {location()}")
    return flip(input, 1)


@public
def flipud(input: Tensor) -> Tensor:
    """The first dimension in reverse order.

    >>> import tapegrad as tg
    >>> tg.flipud(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    if input.ndim < 1:
        raise RuntimeError(f"Input must be >= 1-d. flipud: {describe(input)}, at {location()}")
    return flip(input, 0)


@public
@node("Rot90Backward0")
def rot90(input: Tensor, k: int = 1, dims: Sizes = (0, 1)) -> Tensor:
    """Turned by `k` right angles, from the first of two dimensions towards the second.

    >>> import tapegrad as tg
    >>> tg.rot90(tg.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    p, q = (dimension(d, input.ndim) for d in dims)
    if p == q:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, (p, q))
    turned = flip(input, q if k == 1 else p)
    return transpose(turned, p, q).contiguous()


@public
@node("RollBackward0")
def roll(input: Tensor, shifts: Dims, dims: Dims | None = None) -> Tensor:
    """The elements moved on along some dimensions, those at the end to the beginning; or all, in their order.

    >>> import tapegrad as tg
    >>> tg.roll(tg.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    steps = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    along = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if not steps:
        raise RuntimeError("`shifts` required")
    if not along and len(steps) == 1:
        return reshape(roll(reshape(input, (input._kind.numel,)), steps, (0,)), input._kind.shape)
    if len(steps) != len(along):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(steps)}, dims:{len(along)}")
    made = input
    for step, dim in zip(steps, along, strict=True):
        if not input.ndim:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: roll(), at {location()}")
        at = dimension(dim, input.ndim)
        n = input._kind.shape[at]
        if n and step % n:
            cut = n - step % n
            made = cat([narrow(made, at, cut, n - cut), narrow(made, at, 0, cut)], at)
    return made.clone() if made is input else made


def _adjoint(self: Tensor) -> Tensor:
    if self.ndim == 1:
        raise RuntimeError(
            f"tensor.adjoint() is only supported on matrices or batches of matrices. Got 1-D tensor: {describe(self)}, "
            f"at {location()}"
        )
    return transpose(self, -2, -1) if self.ndim else self


@public
def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions exchanged; a view."""
    return _adjoint(input)


def _transposed_matrix(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor: {describe(self)}, at "
            f"{location()}"
        )
    return transpose(self, -2, -1) if self.ndim else self


Tensor.H = property(_transposed_matrix, doc="A matrix transposed; a view.")
Tensor.mH = property(_adjoint, doc="The last two dimensions exchanged; a view.")


# --- splitting --------------------------------------------------------------------------------------------------------


@public
def tensor_split(input: Tensor, indices_or_sections: Dims | Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """In pieces along a dimension, which are views: so many, nearly of one length, or cut at these indices.

    >>> import tapegrad as tg
    >>> [len(piece) for piece in tg.tensor_split(tg.arange(7), 3)]
    [3, 2, 2]
    """
    if not input.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    at, given = dimension(dim, input.ndim), indices_or_sections
    if isinstance(given, Tensor):
        if given.ndim > 1:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional tensor, "
                f"but got a tensor with {given.ndim} dims"
            )
        if given.dtype is not INT64:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to have dtype of long")
        given = given.item() if not given.ndim else tuple(given.tolist())
    n = input._kind.shape[at]
    if isinstance(given, int):
        if given <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {given}")
        ends = [(n // given) * i + min(i, n % given) for i in range(given + 1)]
    else:
        ends = [0, *(slice(i, None).indices(n)[0] for i in given), n]
    return tuple(narrow(input, at, first, max(end - first, 0)) for first, end in itertools.pairwise(ends))


def _split_along(letter: str, at_least: int, at: int) -> Any:
    name = f"{letter}split"

    def split(input: Tensor, indices_or_sections: Dims) -> tuple[Tensor, ...]:
        if input.ndim < at_least:
            raise RuntimeError(
                f"{name} requires a tensor with at least {at_least} dimension, but got a tensor with {input.ndim} "
                f"dimensions!"
            )
        d = 0 if letter == "h" and input.ndim == 1 else at
        n = input._kind.shape[d]
        if isinstance(indices_or_sections, int) and (indices_or_sections <= 0 or n % indices_or_sections):
            raise RuntimeError(
                f"{name} attempted to split along dimension {d}, but the size of the dimension {n} is not divisible "
                f"by the split_size {indices_or_sections}!"
            )
        return tensor_split(input, indices_or_sections, d)

    split.__name__ = name
    which = {"h": "second dimension, vectors along their only one", "v": "first dimension", "d": "third dimension"}
    split.__doc__ = f"""In pieces of one length, or cut at indices, along the {which[letter]}; views.

    >>> import tapegrad as tg
    >>> x = tg.ones(4, 4, 4)
    >>> [t.shape[{at}] for t in tg.{name}(x, 2)], [t.shape[{at}] for t in tg.{name}(x, [1])]
    ([2, 2], [1, 3])
    """
    return public(split)


hsplit, vsplit, dsplit = _split_along("h", 1, 1), _split_along("v", 2, 0), _split_along("d", 3, 2)


@public
def split_with_sizes(input: Tensor, split_sizes: Sizes, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive pieces of these lengths along a dimension; views.

    >>> import tapegrad as tg
    >>> tg.split_with_sizes(tg.arange(5), [2, 3])
    (tensor([0, 1]), tensor([2, 3, 4]))
    """
    return shaping.split(input, split_sizes, dim)


# --- other shapes -----------------------------------------------------------------------------------------------------


@public
def unflatten(input: Tensor, dim: int, sizes: Dims) -> Tensor:
    """A dimension made several, whose lengths multiply up to its own; one may be -1.

    >>> import tapegrad as tg
    >>> tg.zeros(6, 2).unflatten(0, (2, -1)).shape
    tapegrad.Size([2, 3, 2])
    """
    at, lengths = _axis("unflatten", input, dim), (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if not lengths:
        raise RuntimeError("unflatten: sizes must be non-empty")
    shape = input._kind.shape
    n, known = shape[at], math.prod(m for m in lengths if m != -1)
    if lengths.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if known != n if -1 not in lengths else known <= 0 or n % known:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(lengths)} don't multiply up to the size of dim {at} ({n}) in the input "
            f"tensor: {describe(input)}, at {location()}"
        )
    return reshape(input, (*shape[:at], *(n // known if m == -1 else m for m in lengths), *shape[at + 1 :]))


def _storage(t: Tensor) -> tuple[Tensor, int]:
    """The tensor whose memory is that of `t`, with the same graph, and where in it `t` begins, in bytes."""
    offset = 0
    while aliasing.is_view(t):
        offset += t._recipe.offset
        t = t._origin
    return t, offset


def storage_offset(self: Tensor) -> int:
    """The place of the first element in the memory of the tensor that this is a view of."""
    return _storage(self)[1] // self._kind.itemsize


Tensor.storage_offset = storage_offset


@public
def as_strided(
    input: Tensor, size: Sizes, stride: Sizes, storage_offset: int | None = None
) -> Tensor:  # fmt: skip
    """A view of the memory behind a tensor, by any strides, in elements; what is shown twice gets both gradients.

    Raises
    ------
    RuntimeError
        Where it would go beyond the memory.

    >>> import tapegrad as tg
    >>> tg.as_strided(tg.arange(4), (2, 2), (1, 2), 0)
    tensor([[0, 2],
            [1, 3]])
    """
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(stride)} and {list(size)}")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if any(n < 0 for n in size):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(size)} and strides={list(stride)}")
    base, begin = _storage(input)
    width = base._kind.itemsize
    offset = begin // width if storage_offset is None else storage_offset
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else -1
    if last >= base._kind.numel:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize {width} "
            f"requiring a storage size of {(last + 1) * width} are out of bounds for storage of size "
            f"{base._kind.numel * width}"
        )
    if not base._kind.contiguous:
        raise RuntimeError(f"as_strided: the memory of {describe(base)} is not in order, at {location()}: clone() it")
    steps, start = tuple(s * width for s in stride), offset * width if last >= 0 else 0
    return aliasing.view(layout.as_strided_view, base, tuple(size), steps, start, steps, start)


@public
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """Zeros, with all elements on a diagonal.

    >>> import tapegrad as tg
    >>> tg.diagflat(tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    return diag_embed(reshape(input, (input._kind.numel,)), offset)


def moveaxis(input: Tensor, source: Dims, destination: Dims) -> Tensor:
    """`movedim`.

    >>> import tapegrad as tg
    >>> tg.moveaxis(tg.ones(2, 3, 4), 0, -1).shape
    tapegrad.Size([3, 4, 2])
    """
    return shaping.movedim(input, source, destination)


public(moveaxis)


@public
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two dimensions exchanged; a view: `transpose`.

    >>> import tapegrad as tg
    >>> tg.swapaxes(tg.ones(2, 3, 4), 0, 2).shape
    tapegrad.Size([4, 3, 2])
    """
    return transpose(input, axis0, axis1)


def ndimension(self: Tensor) -> int:
    """The number of dimensions."""
    return self.ndim


Tensor.ndimension = ndimension
for _name, _function in {
    "row_stack": vstack, "unsafe_split": shaping.split, "unsafe_chunk": shaping.chunk,
    "unsafe_split_with_sizes": split_with_sizes,
}.items():  # fmt: skip
    functions[_name] = _function
    if _name != "row_stack":
        setattr(Tensor, _name, getattr(Tensor, _name.removeprefix("unsafe_")))
