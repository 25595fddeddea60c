"""Reading and writing at positions that tensors name: scatter and its kin.

Each becomes flat positions and the values for them, in order, and one of five things is done: `put` has the last of
several values at a position, `scatter_add` their sum, `product_at` their product, `_largest_at` and `_smallest_at` the
best. Means are sums divided by how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapegrad import arguments, dtypes, writing
from tapegrad.arguments import EXACT, Dims, Number, Sizes, Surface, checked, node
from tapegrad.batched import elements
from tapegrad.creation import full
from tapegrad.devices import check_placed
from tapegrad.dtypes import BOOL, INT32, INT64, DType
from tapegrad.functions import indexing as at_index
from tapegrad.functions.elementwise import where
from tapegrad.functions.shaping import cat, contiguous
from tapegrad.kinds import contiguous_strides, flowing
from tapegrad.ops import arithmetic, indexing, layout
from tapegrad.ops.layout import dimension
from tapegrad.recording import broadcast_shapes, cast, of_two_in_one_step, record_array, record_elementwise
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, describe, from_array, location

functions = public = Surface(EXACT)
_REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


# --- what is done at flat positions -----------------------------------------------------------------------------------


def _added(base: Tensor, value: Tensor, at: Tensor) -> Tensor:
    """`base`, with the sum of the values for each position added there."""
    added: Tensor = indexing.plus_at(base, value, at)
    return added


def _added_along(base: Tensor, value: Tensor, index: Tensor, p: tuple[int, ...]) -> Tensor:
    """`base`, with values added along an axis."""
    added: Tensor = base + indexing.add_along(value, at_index.positions(index.reshape(-1), (1,), 0), p, base.shape)
    return added


def _counts(at: Tensor, shape: tuple[int, ...], include: bool) -> np.ndarray:
    """How many values there are for each position, and one more where what was there counts."""
    found = np.bincount(at._array(), minlength=math.prod(shape)).reshape(shape)
    return np.asarray(found + 1) if include else found


def _reduced(base: Tensor, value: Tensor, at: Tensor, reduce: str, include: bool) -> Tensor:
    """`base`, reduced at each position with the values for it; without what was there, unless it is included."""
    if not at._kind.numel:
        return base.clone()
    if not include and reduce in ("sum", "mean", "prod"):
        base = at_index.put_at(base, full((at._kind.numel,), reduce == "prod", dtype=base.dtype), at)
    if reduce == "sum":
        return _added(base, value, at)
    if reduce == "prod":
        factors = cat([base.reshape(-1), value.reshape(-1)])
        return record_array(indexing.product_at, base._kind.shape, base.dtype, factors, at, params=(base._kind.numel,))
    if reduce == "mean":
        n = from_array(np.asarray(np.maximum(_counts(at, base._kind.shape, include), 1)))
        total = _added(base, value, at)
        return total / cast(n, base.dtype) if base.dtype.is_floating_point else cast(total // n, base.dtype)
    return _best(base, value, at, reduce, include)


def _flows(base: Tensor, value: Tensor) -> int:
    return flowing(current_tape().grad_enabled, base._kind.requires_grad | value._kind.requires_grad)


def _plain(t: Tensor) -> Tensor:
    return contiguous(t.detach())


def _best(base: Tensor, value: Tensor, at: Tensor, reduce: str, include: bool) -> Tensor:
    """The largest or the smallest at each position. Those that are equal share the gradient."""
    op = indexing._largest_at if reduce == "amax" else indexing._smallest_at
    floating, shape = base.dtype.is_floating_point, base._kind.shape
    start = base.detach()
    if not include:
        least, most = (-math.inf, math.inf) if floating else dtypes.limits(base.dtype)
        start = at_index.put_at(
            start, full((at._kind.numel,), least if reduce == "amax" else most, dtype=base.dtype), at
        )
    best = record_array(op, shape, base.dtype, _plain(start), _plain(value), at)
    if not floating or not _flows(base, value):
        return best
    of_value: Tensor = indexing.take(best, at, shape=value._kind.shape)
    is_base, is_value = (_same(a, b) for a, b in ((start, best), (value.detach(), of_value)))
    if not include:
        is_base = is_base & from_array(np.asarray(_counts(at, shape, False) == 0))
    ties = _added(cast(is_base, base.dtype), cast(is_value, base.dtype), at)
    total = _added(where(is_base, base, 0.0), where(is_value, value, 0.0), at)
    shared: Tensor = record_elementwise(arithmetic._overwritten, total / ties, best)
    return shared


def _same(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) | ((a != a) & (b != b))


# --- an index for each place ------------------------------------------------------------------------------------------


def _scattered(
    name: str, input: Tensor, dim: int, index: Tensor, src: Any
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]] | None:
    """The operand, the values and their positions, and the shape of the operand; None where there are no values."""
    at = dimension(dim, input.ndim)
    what = f"{name}({describe(input, index)}), at {location()}"
    if index.dtype not in (INT64, INT32):
        raise RuntimeError(f"scatter(): Expected dtype int32/int64 for index: {what}")
    if isinstance(src, Tensor) and src.dtype is not input.dtype:
        raise RuntimeError(f"scatter(): Expected self.dtype to be equal to src.dtype: {what}, src {src.dtype}")
    if not index._kind.numel:
        return None
    shape, own = input._kind.shape or (1,), index._kind.shape or (1,)
    if len(shape) != len(own):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as self tensor: {what}")
    of_src = (src._kind.shape or (1,)) if isinstance(src, Tensor) else own
    if len(of_src) != len(own):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as src tensor: {what}")
    if any((n > m and d != at) or n > k for d, (n, m, k) in enumerate(zip(own, shape, of_src, strict=True))):
        beside = f" and to be no larger size than src {list(of_src)}" if isinstance(src, Tensor) else ""
        raise RuntimeError(
            f"Expected index {list(own)} to be no larger than self {list(shape)} apart from dimension {at}{beside}: "
            f"{what}"
        )
    at_index.check_range(name, elements(index), shape[at], at, RuntimeError)
    places = at_index.positions(index.reshape(own), shape, at)
    if not isinstance(src, Tensor):
        value = full((index._kind.numel,), src, dtype=input.dtype)
    else:
        value = src.reshape(of_src)[tuple(slice(n) for n in own)].reshape(-1)
    return contiguous(input), value, places, input._kind.shape


@public
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Number | Tensor | None = None, *, value: Number | None = None,
    reduce: str | None = None,
) -> Tensor:  # fmt: skip
    """`input` with values of `src`, a number or a tensor, where `index` says along a dimension.

    For each place i, j, k of `index`, with `dim` 0, result[index[i, j, k], j, k] is src[i, j, k]: of several the last;
    or with `reduce` "add" or "multiply", that and what was there, joined.

    Raises
    ------
    RuntimeError, IndexError
        Where shapes or dtypes don't fit, or an index is out of range.

    >>> import tapegrad as tg
    >>> tg.scatter(tg.zeros(3), 0, tg.tensor([2, 0]), tg.tensor([5.0, 7.0]))
    tensor([7., 0., 5.])
    """
    if src is None:
        src = value
    elif value is not None:
        raise TypeError("scatter() received an invalid combination of arguments: both src and value")
    if src is None:
        raise TypeError("scatter() missing 1 required positional arguments: 'src'")
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(f"reduce argument must be either add or multiply, but got {reduce!r}: at {location()}")
    found = _scattered("scatter", input, dim, index, src)
    if found is None:
        return input.clone()
    base, values, at, _ = found
    if reduce is None:
        return at_index.put_at(base, values, at)
    return _reduced(base, values, at, "sum" if reduce == "add" else "prod", True)


@public
@node("ScatterAddBackward0")
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with all values of `src` added where `index` says along a dimension, in their order.

    >>> import tapegrad as tg
    >>> tg.scatter_add(tg.zeros(3), 0, tg.tensor([2, 0, 2]), tg.tensor([5.0, 7.0, 1.0]))
    tensor([7., 0., 6.])
    """
    found = _scattered("scatter_add", input, dim, index, src)
    if found is None:
        return input.clone()
    if (p := at_index.along(input, index, dimension(dim, input.ndim), False)) is not None:
        return _added_along(input, found[1], index, p)
    return _added(*found[:3])


@public
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input`, reduced with all values of `src` where `index` says along a dimension.

    Parameters
    ----------
    reduce
        "sum", "prod", "mean", "amax" or "amin". Of elements that tie for the largest or smallest, each has its share of
        the gradient.
    include_self
        Whether what was there takes part.

    >>> import tapegrad as tg
    >>> tg.scatter_reduce(tg.ones(2), 0, tg.tensor([0, 0, 1]), tg.tensor([5.0, 7.0, 0.0]), "amax")
    tensor([7., 1.])
    """
    if reduce not in _REDUCTIONS:
        raise RuntimeError(
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}: scatter_reduce, at "
            f"{location()}"
        )
    found = _scattered("scatter_reduce", input, dim, index, src)
    return input.clone() if found is None else _reduced(*found[:3], reduce, include_self)


# --- a vector of indices ----------------------------------------------------------------------------------------------


def _of_slices(
    name: str, input: Tensor, dim: int, index: Tensor, source: Tensor, of_elements: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The operand, the values and their positions, of slices that a vector of indices names: of runs, or elements."""
    at = dimension(dim, input.ndim)
    what = f"{describe(input, index, source)}, at {location()}"
    if index.ndim > 1:
        raise IndexError(
            f"{name}_(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
            f"{index.dtype.scalar_type} and size: {list(index._kind.shape)}: {what}"
        )
    if index.dtype not in (INT64, INT32):
        raise RuntimeError(
            f"{name}_(): Expected dtype int32/int64 for index but got: {index.dtype.scalar_type}: {what}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"{name}_(): self ({input.dtype.scalar_type}) and source ({source.dtype.scalar_type}) must have the same "
            f"scalar type: {what}"
        )
    n, length = index._kind.numel, source._kind.shape[at] if source.ndim > at else 1
    if n != length:
        error = IndexError if name == "index_copy" else RuntimeError
        raise error(
            f"{name}_(): Number of indices ({n}) should be equal to source.size(dim): ({length}), for dim: {at}: {what}"
        )
    shape, own = input._kind.shape, source._kind.shape
    if shape[:at] + shape[at + 1 :] != own[:at] + own[at + 1 :] or len(shape) != len(own):
        raise RuntimeError(
            f"source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = "
            f"{list(shape)} source.shape = {list(own)}: {name}, at {location()}"
        )
    shape, own = shape or (1,), own or (1,)
    error = IndexError if name == "index_copy" else RuntimeError
    at_index.check_range(f"{name}_", elements(index), shape[at], at, error)
    if of_elements:
        wide = index.reshape((1,) * at + (n,) + (1,) * (len(shape) - 1 - at)).expand(*own)
        return contiguous(input), contiguous(source).reshape(-1), at_index.positions(wide, shape, at)
    return contiguous(input), contiguous(source).reshape(-1), at_index.runs(index, shape, at)


@public
@node("IndexAddBackward0")
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Number = 1) -> Tensor:
    """`input` with slices of `alpha * source` added to those that a vector of indices names.

    >>> import tapegrad as tg
    >>> tg.index_add(tg.zeros(2, 2), 0, tg.tensor([1, 1]), tg.ones(2, 2))
    tensor([[0., 0.],
            [2., 2.]])
    """
    base, value, at = _of_slices("index_add", input, dim, index, source)
    value = value if alpha == 1 else cast(value * alpha, value.dtype)
    if (p := at_index.along(input, index, dimension(dim, input.ndim), True)) is not None:
        return _added_along(input, value, index, p)
    return _added(base, value, at)


@public
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`input` with slices of `source` in the place of those that a vector of indices names.

    >>> import tapegrad as tg
    >>> tg.index_copy(tg.zeros(3), 0, tg.tensor([2, 0]), tg.tensor([5.0, 7.0]))
    tensor([7., 0., 5.])
    """
    if index.dtype is not INT64:
        raise RuntimeError(f"index_copy_(): Expected a long tensor for index, but got {index.dtype.scalar_type}")
    if source.ndim + input.ndim == 1 and source._kind.numel == index._kind.numel == 1:  # a scalar is a vector of one
        source = source.reshape(input._kind.shape and (1,))
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "index_copy_(): self and source expected to have the same dtype, but got (self) "
            f"{input.dtype.scalar_type} and (source) {source.dtype.scalar_type}: at {location()}"
        )
    return at_index.put_at(*_of_slices("index_copy", input, dim, index, source))


@public
@node("IndexFillBackward0")
def index_fill(input: Tensor, dim: int, index: Tensor, value: Number | Tensor) -> Tensor:
    """`input` with one value in all slices that a vector of indices names; negative indices count from the end.

    >>> import tapegrad as tg
    >>> tg.index_fill(tg.zeros(3), 0, tg.tensor([0, -1]), 2)
    tensor([2., 0., 2.])
    """
    at = dimension(dim, input.ndim)
    if index.dtype is not INT64:
        raise IndexError(f"index_fill_(): Expected dtype int64 for index, but got {index.dtype}: at {location()}")
    if index.ndim > 1:
        raise IndexError(f"index_fill_(): Index has to be a vector/scalar, but got dim: {index.ndim}: at {location()}")
    if isinstance(value, Tensor) and value.ndim:
        raise RuntimeError(
            f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s): "
            f"at {location()}"
        )
    shape = input._kind.shape or (1,)
    index = _wrapped("index_fill", index.reshape(-1), shape[at], at)
    places = at_index.runs(index, shape, at)
    value = value if isinstance(value, Tensor) else full((), dtypes.in_range(value, input.dtype), dtype=input.dtype)
    wide = cast(value, input.dtype).expand(places._kind.numel * math.prod(shape[at + 1 :]))
    return at_index.put_at(contiguous(input), contiguous(wide), places)


def _wrapped(name: str, index: Tensor, n: int, dim: int) -> Tensor:
    """Indices that may count from the end, from the beginning."""
    array = elements(index)
    if array.size and array.min() < 0:
        index = where(index < 0, index + n, index)
    at_index.check_range(name, elements(index), n, dim, IndexError)
    return index


@public
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input` with slices of `source` reduced into those of a vector of indices: "prod", "mean", "amax", "amin".

    Without `include_self` what was there takes no part.

    >>> import tapegrad as tg
    >>> tg.index_reduce(tg.ones(3), 0, tg.tensor([0, 0, 2]), tg.tensor([2.0, 3.0, 4.0]), "prod")
    tensor([6., 1., 4.])
    """
    if reduce not in _REDUCTIONS[1:]:
        raise RuntimeError(
            f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}: at {location()}"
        )
    return _reduced(*_of_slices("index_reduce", input, dim, index, source, True), reduce, include_self)


# --- any positions ----------------------------------------------------------------------------------------------------


@public
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """`input` with `values` at an index of tensors, one for each of the first dimensions; or with these added.

    >>> import tapegrad as tg
    >>> tg.index_put(tg.zeros(3), (tg.tensor([1, 1]),), tg.tensor([2.0, 3.0]), accumulate=True)
    tensor([0., 5., 0.])
    """
    if not isinstance(indices, (tuple, list)):
        raise TypeError(
            f"index_put(): argument 'indices' (position 1) must be tuple of Tensors, not {type(indices).__name__}"
        )
    if values.dtype is not input.dtype:
        raise at_index.unlike(input, values)
    index = at_index.normalised(tuple(arguments.tensors("index_put", indices)))
    if not accumulate:
        return at_index.put(input, index, values)
    value, at = at_index.placed(input, index, values)
    return _added(contiguous(input), value, at)


@public
@node("TakeBackward0")
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by their numbers in a contiguous tensor; negative ones count from the end.

    >>> import tapegrad as tg
    >>> tg.take(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([0, -1]))
    tensor([1., 4.])
    """
    if index.dtype is not INT64:
        raise RuntimeError(
            f"take(): Expected a long tensor for index, but got {index.dtype.scalar_type}: at {location()}"
        )
    if not input._kind.numel and index._kind.numel:
        raise IndexError(f"take(): tried to take from an empty tensor: {describe(input, index)}, at {location()}")
    return _taken(input, _numbers(input, index))


@of_two_in_one_step
def _taken(input: Tensor, index: Tensor) -> Tensor:
    taken: Tensor = indexing.take(contiguous(input), at_index.steady_positions(index), shape=index._kind.shape)
    return taken


def _flat_positions(input: Tensor, index: Tensor) -> Tensor:
    return at_index.positions(_numbers(input, index).reshape(-1), (input._kind.numel,), 0)


def _numbers(input: Tensor, index: Tensor) -> Tensor:
    """The numbers of elements, counted from the beginning."""
    n = input._kind.numel
    array = elements(index)
    if array.size and (array.min() < -n or array.max() >= n):
        wrong = array[(array < -n) | (array >= n)].flat[0]
        raise IndexError(
            f"out of range: tried to access index {wrong} on a tensor of {n} elements: {describe(input, index)}, at "
            f"{location()}"
        )
    if array.size and array.min() < 0:
        index = where(index < 0, index + n, index)
    return index


@public
@node("PutBackward0")
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`input` with elements of `source` at their numbers in a contiguous tensor; or with these added.

    >>> import tapegrad as tg
    >>> tg.put(tg.zeros(2, 2), tg.tensor([1, -1]), tg.tensor([5.0, 7.0]))
    tensor([[0., 5.],
            [0., 7.]])
    """
    if index.dtype is not INT64:
        raise RuntimeError(
            f"put_(): Expected a long tensor for index, but got {index.dtype.scalar_type}: at {location()}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            "put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{input.dtype.scalar_type} and source.dtype = {source.dtype.scalar_type}: at {location()}"
        )
    if source._kind.numel != index._kind.numel:
        raise IndexError(
            "put_(): Expected source and index to have the same number of elements, but got source.numel() = "
            f"{source._kind.numel}, index.numel() = {index._kind.numel}: at {location()}"
        )
    at, value = _flat_positions(input, index), contiguous(source).reshape(-1)
    return _added(contiguous(input), value, at) if accumulate else at_index.put_at(contiguous(input), value, at)


@public
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Elements whose index along a dimension is given for each place: `gather`, broadcast; without `dim`, of all.

    >>> import tapegrad as tg
    >>> x = tg.tensor([[3.0, 1.0], [2.0, 4.0]])
    >>> tg.take_along_dim(x, x.argmax(1, keepdim=True), 1)
    tensor([[3.],
            [4.]])
    """
    name = "take_along_dim"
    if indices.dtype is not INT64 and (dim is not None or indices.dtype is not INT32):
        raise RuntimeError(
            f"{name}(): dtype of indices should be Long but got {indices.dtype.scalar_type}: at {location()}"
        )
    if dim is None:
        input, indices, dim = input.reshape(-1), indices.reshape(-1), 0
    if input.ndim != indices.ndim:
        raise RuntimeError(
            f"{name}(): input and indices should have the same number of dimensions, but got {input.ndim} dimensions "
            f"for input, and {indices.ndim} dimensions for indices: at {location()}"
        )
    at = dimension(dim, input.ndim)
    if not input.ndim:
        return at_index.gather(input, 0, indices)
    m, n = input._kind.shape[at], indices._kind.shape[at]
    shape = broadcast_shapes(name, [t.narrow(at, 0, 0) for t in (input, indices)])
    index = _wrapped(name, indices, m, at)
    return at_index.gather(
        input.expand(*shape[:at], m, *shape[at + 1 :]), at, index.expand(*shape[:at], n, *shape[at + 1 :])
    )


@public
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the first elements of `source`, in order, where a bool tensor is True.

    >>> import tapegrad as tg
    >>> tg.masked_scatter(tg.zeros(3), tg.tensor([True, False, True]), tg.tensor([5.0, 7.0, 9.0]))
    tensor([5., 0., 7.])
    """
    if mask.dtype is not BOOL:
        raise RuntimeError(
            f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype.scalar_type}: at "
            f"{location()}"
        )
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"masked_scatter: expected self and source to have same dtypes but got {input.dtype.scalar_type} and "
            f"{source.dtype.scalar_type}: at {location()}"
        )
    shape = broadcast_shapes("masked_scatter", [input, mask])
    base = contiguous(input.expand(*shape))
    places = np.flatnonzero(np.broadcast_to(mask._array(), shape))
    if len(places) > source._kind.numel:
        raise RuntimeError(
            f"Number of elements of source < number of ones in mask: {source._kind.numel} < {len(places)}: at "
            f"{location()}"
        )
    value = contiguous(source).reshape(-1)[: len(places)]
    return at_index.put_at(base.clone() if base is input and not len(places) else base, value, from_array(places))


# --- windows ----------------------------------------------------------------------------------------------------------


def _into_window(name: str, input: Tensor, src: Tensor, shape: tuple[int, ...], strides: Any, start: int) -> Tensor:
    """`input` with `src` in a window of a contiguous one: strides and start in elements."""
    if src._kind.shape != shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._kind.shape)}, slice size = "
            f"{list(shape)}: {name}({describe(input, src)}), at {location()}"
        )
    size = input._kind.itemsize
    src = cast(src, input.dtype)
    return writing.written(input, src, shape, tuple(size * s for s in strides), size * start)


@public
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """`input` with `src` in the place of one slice along a dimension.

    >>> import tapegrad as tg
    >>> tg.select_scatter(tg.zeros(2, 3), tg.ones(3), 0, 1)
    tensor([[0., 0., 0.],
            [1., 1., 1.]])
    """
    if not input.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    at = dimension(dim, input.ndim)
    shape = input._kind.shape
    n, strides = shape[at], contiguous_strides(shape, 1)
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {at}")
    rest = [d for d in range(input.ndim) if d != at]
    window = tuple(shape[d] for d in rest)
    return _into_window("select_scatter", input, src, window, [strides[d] for d in rest], index % n * strides[at])


@public
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """`input` with `src` in the place of `input[start:end:step]` along a dimension.

    >>> import tapegrad as tg
    >>> tg.slice_scatter(tg.zeros(4), tg.ones(2), 0, 1, 3)
    tensor([0., 1., 1., 0.])
    """
    if not input.ndim:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    if step <= 0:
        raise RuntimeError(f"slice step must be positive, but got {step}: slice_scatter, at {location()}")
    at = dimension(dim, input.ndim)
    shape, strides = input._kind.shape, [*contiguous_strides(input._kind.shape, 1)]
    within = range(shape[at])[start:end:step]
    first, strides[at] = within.start * strides[at] if within else 0, strides[at] * step
    window = (*shape[:at], len(within), *shape[at + 1 :])
    return _into_window("slice_scatter", input, src, window, strides, first)


@public
def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """`input` with `src` on the diagonals of two dimensions.

    >>> import tapegrad as tg
    >>> tg.diagonal_scatter(tg.zeros(2, 2), tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    try:
        shape, along = layout.diagonal.function(input, offset, dim1, dim2)
    except (IndexError, RuntimeError) as error:
        raise type(error)(f"{error}: diagonal_scatter({describe(input)}), at {location()}") from None
    strides, start = along(contiguous_strides(input._kind.shape, 1))
    return _into_window("diagonal_scatter", input, src, shape, strides, start)


@public
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Sizes, stride: Sizes, storage_offset: int | None = None
) -> Tensor:
    """`input`, contiguous, with `src` in a window of its elements, by strides; where it overlaps the last counts.

    >>> import tapegrad as tg
    >>> tg.as_strided_scatter(tg.zeros(5), tg.tensor([1.0, 2.0]), (2,), (3,))  # elements 0 and 3
    tensor([1., 0., 0., 2., 0.])
    """
    shape, start = tuple(size), storage_offset or 0
    if len(shape) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(size)}, {list(stride)}, at {location()}")
    if src._kind.shape != shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._kind.shape)}, slice size = "
            f"{list(shape)}: as_strided_scatter({describe(input, src)}), at {location()}"
        )
    if not input._kind.contiguous:
        raise RuntimeError(f"as_strided_scatter: input must be contiguous: {describe(input)}, at {location()}")
    if any(s < 0 for s in stride) or start < 0:
        raise RuntimeError(f"as_strided_scatter: negative strides and offsets are not supported: at {location()}")
    last = start + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= input._kind.numel:
        raise RuntimeError(
            f"setStorage: sizes {list(shape)}, strides {list(stride)}, storage offset {start} require a storage of "
            f"{last + 1} elements, out of bounds for storage of {input._kind.numel}: {describe(input)}, at {location()}"
        )
    places = np.full(shape, start)
    for d, (n, s) in enumerate(zip(shape, stride, strict=True)):
        places += (np.arange(n) * s).reshape((-1,) + (1,) * (len(shape) - 1 - d))
    value = contiguous(cast(src, input.dtype)).reshape(-1)
    return at_index.put_at(contiguous(input), value, from_array(places.reshape(-1)))


# --- indices ----------------------------------------------------------------------------------------------------------


def _triangle(name: str, found: Any, row: int, col: int, offset: int, dtype: Any) -> Tensor:
    for what, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{what} must be non-negative, got {n}: {name}, at {location()}")
    made = np.stack(found(row, offset, col))
    return from_array(np.ascontiguousarray(made, (INT64 if dtype is None else dtype).numpy))


@checked
def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Tensor:
    """The indices of a matrix's lower triangle, in two rows.

    >>> import tapegrad as tg
    >>> tg.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    check_placed(device, layout, pin_memory)
    return _triangle("tril_indices", np.tril_indices, row, col, offset, dtype)


@checked
def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Tensor:
    """The indices of a matrix's upper triangle, in two rows.

    >>> import tapegrad as tg
    >>> tg.triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    check_placed(device, layout, pin_memory)
    return _triangle("triu_indices", np.triu_indices, row, col, offset, dtype)


@checked
def unravel_index(indices: Tensor, shape: Dims) -> tuple[Tensor, ...]:
    """For numbers of elements in a contiguous tensor of a shape, their indices in each dimension.

    >>> import tapegrad as tg
    >>> tg.unravel_index(tg.tensor([5, 1]), (2, 3))
    (tensor([1, 0]), tensor([2, 1]))
    """
    if indices.dtype not in (INT64, INT32):
        raise TypeError(
            f"expected 'indices' to be integer dtype, but got {indices.dtype}: unravel_index, at {location()}"
        )
    lengths: Sequence[int] = (shape,) if isinstance(shape, int) else shape
    if any(n < 0 for n in lengths):
        raise ValueError(
            f"'shape' cannot have negative values, but got {tuple(lengths)}: unravel_index, at {location()}"
        )
    steps = contiguous_strides(tuple(lengths), 1)
    indices = cast(indices, INT64)
    return tuple((indices // step) % n for step, n in zip(steps, lengths, strict=True))


@public
def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not 0, a row each.

    >>> import tapegrad as tg
    >>> tg.argwhere(tg.tensor([0.0, 2.0, 3.0]))
    tensor([[1],
            [2]])
    """
    return at_index.nonzero(input)


@public
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """`size` rows of indices of elements that are not 0: the first, and rows of `fill_value` for those missing.

    >>> import tapegrad as tg
    >>> tg.nonzero_static(tg.tensor([0, 5, 7]), size=3)
    tensor([[ 1],
            [ 2],
            [-1]])
    """
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, but got {size}: at {location()}")
    found = at_index.nonzero(input)._array()
    rows = np.full((size, found.shape[1]), fill_value, np.int64)
    rows[: len(found)] = found[:size]
    return from_array(rows)


functions |= {"tril_indices": tril_indices, "triu_indices": triu_indices, "unravel_index": unravel_index}
