"""Other shapes on the same elements: layout rows, which move no data, and joining, which does."""

from __future__ import annotations

import functools
import math
from _thread import get_ident
from collections.abc import Callable
from typing import Any, overload

from tapegrad import aliasing, arguments, batched, creation, dtypes, engine, writing
from tapegrad.arguments import CAST, Dims, Sizes, Surface, checked, sizes, taking_out
from tapegrad.batched import Batched, bottom
from tapegrad.creation import size_of
from tapegrad.functions.making import explained, make
from tapegrad.kinds import contiguous_strides, flowing, kind_of, numbers, seen
from tapegrad.ops import indexing, layout
from tapegrad.ops.declare import OPS, Layout, Op
from tapegrad.ops.layout import dimension, distinct
from tapegrad.recording import (
    activity,
    appended_together,
    cast,
    imported,
    in_one_step,
    last_rows,
    local,
    need_sum,
    record_layout,
    settled,
    steady,
    take_over,
)
from tapegrad.tape import FIRST, LAST, PARAMS, PIECE, current_tape
from tapegrad.tensor import Size, Tensor, describe, location

functions = public = Surface()
_ALL: Any = object()


def restride(
    op: Op, a: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, steps: list[tuple[int, int]]
) -> Tensor:
    """A view: its shape, strides and offset in bytes over `a`'s memory.

    `steps` says the same over a contiguous `a`, for the adjoint: (dimension of `a`, step), -1 for none, a view
    dimension each; and its last item is the offset in elements.
    """
    return aliasing.view(op, a, shape, strides, offset, *over_contiguous(a, steps))


def over_contiguous(a: Tensor, steps: list[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """A view's strides and start in bytes over a contiguous `a`, of `steps` as in `restride`."""
    natural = contiguous_strides(a._kind.shape, a._kind.itemsize)
    return tuple(0 if d < 0 else natural[d] * step for d, step in steps[:-1]), steps[-1][1] * a._kind.itemsize


def _in_one_step(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return in_one_step(function, aliasing.WaysOfViews())


def _make(op: Layout) -> None:
    def function(*args: Any, **facts: Any) -> Tensor:
        a: Tensor = args[0] if args else facts["input"]
        kind, size = a._kind, a._kind.itemsize
        try:
            shape, along = op.function(*args, **facts)
        except (IndexError, RuntimeError) as error:
            raise explained(error, a) from None
        strides, start = along(tuple(s // size for s in kind.strides))
        adjoint, first = (strides, start) if kind.contiguous else along(contiguous_strides(kind.shape, 1))
        strides, adjoint = (tuple(size * s for s in steps) for steps in (strides, adjoint))
        return aliasing.view(op, a, shape, strides, size * start, adjoint, size * first)

    function.__qualname__ = op.name
    make(functions, op, op.function, _in_one_step(function))


def contiguous(input: Tensor) -> Tensor:
    """The tensor itself where its elements lie in order, else a copy where they do."""
    return input if input._kind.contiguous else input.clone()


def _permuted(op: Op, a: Tensor, order: tuple[int, ...]) -> Tensor:
    kind = a._kind
    shape, strides = tuple(kind.shape[d] for d in order), tuple(kind.strides[d] for d in order)
    return restride(op, a, shape, strides, 0, [*((d, 1) for d in order), (-1, 0)])


for _op in OPS:
    if isinstance(_op, Layout) and _op.function.__code__.co_argcount:
        _make(_op)
transpose = functions["transpose"]


@checked
@_in_one_step
def permute(input: Tensor, dims: Sizes) -> Tensor:
    """The dimensions in another order; a view. The method takes them one by one too.

    >>> import tapegrad as tg
    >>> tg.zeros(2, 3, 4).permute(2, 0, 1).shape
    tapegrad.Size([4, 2, 3])
    """
    order = dims
    if len(order) != input.ndim:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions "
            f"i.e. input.dim() = {input.ndim} is not equal to len(dims) = {len(order)}".replace("(sparse_coo)", "")
        )
    order = tuple(dimension(d, input.ndim) for d in order)
    if len(set(order)) != len(order):
        raise RuntimeError(f"permute(): duplicate dims are not allowed: {order}")
    return _permuted(layout.permute, input, order)


@public
@_in_one_step
def movedim(input: Tensor, source: Dims, destination: Dims) -> Tensor:
    """Dimensions moved to other places; a view.

    >>> import tapegrad as tg
    >>> tg.movedim(tg.ones(2, 3, 4), 0, 2).shape
    tapegrad.Size([3, 4, 2])
    """
    given = {"source": source, "destination": destination}
    places = {name: (dims,) if isinstance(dims, int) else dims for name, dims in given.items()}
    if isinstance(source, int) is not isinstance(destination, int):
        raise TypeError("movedim(): source and destination must both be int, or both be tuple of ints")
    sources, targets = ([dimension(d, input.ndim) for d in dims] for dims in places.values())
    if len(sources) != len(targets):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(sources)} dims) should contain the same "
            f"number of dims as destination ({list(targets)} dims)"
        )
    for name, dims in (("source", sources), ("destination", targets)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(places[name])})")
    if not input.ndim:  # its only dimension, 0 or -1, is none
        return permute(input, ())
    order = [d for d in range(input.ndim) if d not in sources]
    for target, moved in sorted(zip(targets, sources, strict=True)):
        order.insert(target, moved)
    return permute(input, order)


def _wanted_shape(input: Tensor, shape: Sizes) -> tuple[int, ...]:
    wanted = [*shape]
    numel = input._kind.numel
    if wanted.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        if rest == 0 and numel == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {wanted} because the unspecified dimension size "
                f"-1 can be any value and is ambiguous"
            )
        if rest == 0 or numel % rest:
            raise RuntimeError(
                f"shape '{wanted}' is invalid for input of size {numel}: {describe(input)}, at {location()}"
            )
        wanted[wanted.index(-1)] = numel // rest
    if any(n < 0 for n in wanted):
        raise RuntimeError(f"invalid shape dimension {min(wanted)}")
    if math.prod(wanted) != numel:
        raise RuntimeError(f"shape '{wanted}' is invalid for input of size {numel}: {describe(input)}, at {location()}")
    return tuple(wanted)


def _restrided(kind: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides with which `shape` can be a view of memory of this kind; None where it can't."""
    if kind.contiguous or kind.numel == 0:
        return contiguous_strides(shape, kind.itemsize)
    old = [(n, s) for n, s in zip(kind.shape, kind.strides, strict=True) if n != 1]
    strides: list[int] = []
    left: list[tuple[int, int]] = []
    for n, s in old:  # join neighbours that form one run
        if left and left[-1][1] == n * s:
            left[-1] = (left[-1][0] * n, s)
        else:
            left.append((n, s))
    runs = iter(left)
    room, step = 1, 0
    for n in shape:
        if n == 1:
            strides.append(0)
            continue
        if room == 1:
            room, step = next(runs)
        if room % n:
            return None
        room //= n
        strides.append(step * room)
    return tuple(strides)


def _viewed(op: Op, a: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    strides = _restrided(a._kind, shape)
    if strides is None:
        return None
    # Over a contiguous base a reshaped view is contiguous too.
    return aliasing.view(op, a, shape, strides, 0, contiguous_strides(shape, a._kind.itemsize), 0)


def _reshaped(op: Op, a: Tensor, shape: tuple[int, ...]) -> Tensor:
    view = _viewed(op, a, shape)
    return _of_copy(op, a, shape) if view is None else view


def _of_copy(op: Op, a: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A copy in another shape: a view of what nobody else holds is none."""
    view = _viewed(op, a.clone(), shape)
    assert view is not None
    if view.__class__ is Batched:
        return view
    del view._origin, view._recipe
    return view


@checked
@_in_one_step
def reshape(input: Tensor, shape: Sizes) -> Tensor:
    """Another shape for the same elements in order; a view where strides allow, else a copy. One length may be -1.

    The method takes lengths one by one too.

    >>> import tapegrad as tg
    >>> tg.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return _reshaped(layout.view, input, _wanted_shape(input, shape))


def _of_bits(a: Tensor, dtype: dtypes.DType) -> Tensor:
    """The memory of a tensor as elements of a dtype, with no graph: over an array, which all have in common."""
    kind = a._kind
    if dtype is kind.dtype:
        return view(a, kind.shape)
    own, size = kind.itemsize, dtype.numpy.itemsize
    purpose = f"to view {kind.dtype.scalar_type} as {dtype.scalar_type} (different element sizes)"
    if own != size:
        times = max(size // own, 1)
        strides = [stride // own for stride in kind.strides]
        if not kind.ndim:
            raise RuntimeError(f"self.dim() cannot be 0 {purpose}")
        if strides[-1] != 1:
            raise RuntimeError(f"self.stride(-1) must be 1 {purpose}, but got {strides[-1]}")
        lengths = [("size(-1)", kind.shape[-1]), ("storage_offset()", a.storage_offset())]
        for word, n in (*lengths, *((f"stride({d})", stride) for d, stride in enumerate(strides[:-1]))):
            if n % times:
                raise RuntimeError(f"self.{word} must be divisible by {times} {purpose}, but got {n}")
    return creation.from_numpy(a.detach().numpy().view(dtype.numpy))


@_in_one_step
def view(self: Tensor, *shape: Any, size: Sizes | None = None, dtype: Any = None) -> Tensor:
    """Another shape for the same elements in order, as a view; with a dtype, the same bits as elements of that.

    Raises
    ------
    RuntimeError
        Where the strides do not allow it: use `reshape`; or bits don't make whole elements.

    >>> import tapegrad as tg
    >>> tg.arange(4).view(2, 2)
    tensor([[0, 1],
            [2, 3]])
    >>> tg.tensor([1.0, -2.0]).view(tg.int64)
    tensor([ 4607182418800017408, -4611686018427387904])
    """
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], dtypes.DType)):
        return _of_bits(self, dtypes.as_dtype(shape[0] if dtype is None else dtype))
    made = _viewed(layout.view, self, _wanted_shape(self, sizes("view", shape, named=size)))
    if made is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). "
            "Use .reshape(...) instead."
        )
    return made


Tensor.view = view


@public
@_in_one_step
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` made one.

    >>> import tapegrad as tg
    >>> tg.zeros(2, 3, 4).flatten(1).shape
    tapegrad.Size([2, 12])
    """
    first, last = dimension(start_dim, input.ndim), dimension(end_dim, input.ndim)
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if input.ndim == 0:
        return reshape(input, (1,))
    if first == last:
        return input
    shape = input._kind.shape
    return reshape(input, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


@public
@_in_one_step
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension.

    >>> import tapegrad as tg
    >>> tg.ravel(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 2., 3., 4.])
    """
    return reshape(input, (input._kind.numel,))


def _squeezed(op: Op, a: Tensor, dims: tuple[int, ...]) -> Tensor:
    kind = a._kind
    left = [d for d in range(kind.ndim) if not (d in dims and kind.shape[d] == 1)]
    return restride(
        op, a, tuple(kind.shape[d] for d in left), tuple(kind.strides[d] for d in left), 0,
        [*((d, 1) for d in left), (-1, 0)]
    )  # fmt: skip


@public
@_in_one_step
def squeeze(input: Tensor, dim: Dims = _ALL) -> Tensor:
    """Without the dimensions of length 1 (or without those given, where they have it); a view.

    >>> import tapegrad as tg
    >>> tg.squeeze(tg.ones(1, 3, 1)).shape
    tapegrad.Size([3])
    """
    if dim is _ALL:
        return _squeezed(layout.squeeze, input, tuple(range(input.ndim)))
    return _squeezed(layout.squeeze_dim, input, distinct(dim, input.ndim))


@public
@_in_one_step
def expand(input: Tensor, *sizes: Any, size: Sizes | None = None) -> Tensor:
    """Dimensions of length 1 repeated, and new ones in front, without copying; -1 keeps a length.

    Raises
    ------
    RuntimeError
        Where a length is neither 1 nor the one asked for.

    >>> import tapegrad as tg
    >>> tg.tensor([[1.0], [2.0]]).expand(2, 3)
    tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    wanted = arguments.sizes("expand", sizes, named=size)
    kind = input._kind
    missing = len(wanted) - kind.ndim
    if missing < 0:
        raise RuntimeError(
            f"expand(tapegrad.{describe(input)}, size={list(wanted)}): the number of sizes provided ({len(wanted)}) "
            f"must be greater or equal "
            f"to the number of dimensions in the tensor ({kind.ndim})"
        )
    shape, strides, steps = [], [], []
    for d, n in enumerate(wanted):
        own = d - missing
        length = kind.shape[own] if own >= 0 else 1
        if n == -1:
            if own < 0:
                raise RuntimeError(
                    f"expand(): The expanded size of the tensor (-1) isn't allowed in a leading, non-existing "
                    f"dimension {d}"
                )
            n = length
        if n != length and (length != 1 or n < 0):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({length}) at non-singleton "
                f"dimension {d}.  "
                f"Target sizes: {list(wanted)}.  Tensor sizes: {list(kind.shape)}"
            )
        shape.append(int(n))
        repeated = own < 0 or n != length
        strides.append(0 if repeated else kind.strides[own])
        steps.append((-1, 0) if repeated else (own, 1))
    return restride(layout.expand, input, tuple(shape), tuple(strides), 0, [*steps, (-1, 0)])


@checked
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of `other`."""
    return expand(self, *other._kind.shape)


@checked
@_in_one_step
def broadcast_to(input: Tensor, size: Sizes) -> Tensor:
    """`expand` to a shape.

    >>> import tapegrad as tg
    >>> tg.broadcast_to(tg.tensor([1.0, 2.0]), (2, 2))
    tensor([[1., 2.],
            [1., 2.]])
    """
    return expand(input, size)


def repeat(self: Tensor, *sizes: Any, repeats: Sizes | None = None) -> Tensor:
    """The tensor repeated along each dimension, as a copy."""
    times = arguments.sizes("repeat", sizes, "repeats", repeats)
    if any(n < 0 for n in times):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(times)}: repeats {list(times)}")
    if len(times) < self.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(times) - self.ndim) + self._kind.shape
    apart = self.reshape(*(n for pair in ((1, n) for n in shape) for n in pair))
    spread = apart.expand(*(n for pair in zip(times, shape, strict=True) for n in pair))
    return _of_copy(layout.view, spread, tuple(t * n for t, n in zip(times, shape, strict=True)))


def sum_to_size(self: Tensor, *sizes: Any, size: Sizes | None = None) -> Tensor:
    """Summed over the dimensions that the size repeats: the adjoint of broadcasting."""
    shape = size_of("sum_to_size", sizes, size)
    kind = self._kind
    if kind.shape == shape:
        return self
    missing = kind.ndim - len(shape)
    if missing < 0 or any(n not in (1, own) for n, own in zip(shape, kind.shape[missing:], strict=True)):
        raise RuntimeError(f"size {list(shape)} is not expandable to size {list(kind.shape)}.")
    dims = [*range(missing), *(d for d in range(missing, kind.ndim) if shape[d - missing] == 1 and kind.shape[d] != 1)]
    summed = self.sum(dims, keepdim=True) if dims else self
    return summed.reshape(shape)


@public
def detach(input: Tensor) -> Tensor:
    """A tensor that shares the elements and does not require grad: gradients do not flow through it.

    Of a tensor of another thread, it has the elements as they are now.

    >>> import tapegrad as tg
    >>> tg.ones(2, requires_grad=True).detach().requires_grad
    False
    """
    if input._tape.thread != get_ident():
        input = imported(current_tape(), input, detached=True)
    return aliasing.detached(input)


def detach_(self: Tensor) -> Tensor:
    """Cut the tensor off from what made it, in place.

    Raises
    ------
    RuntimeError
        For a view.
    """
    if self.__class__ is Batched:
        bottom(self).detach_()
        return self
    take_over(self)
    if aliasing.is_view(self):
        raise RuntimeError(f"Can't detach views in-place. Use detach() instead. {describe(self)}, at {location()}")
    if self._kind.requires_grad:
        writing.cut_off(self)
    return self


@public
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along a dimension.

    >>> import tapegrad as tg
    >>> tg.unbind(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    (tensor([1., 2.]), tensor([3., 4.]))
    """
    at = _indexed("unbind", input, dim)
    index = (slice(None),) * at
    return tuple(input[(*index, i)] for i in range(input._kind.shape[at]))


def _indexed(name: str, a: Tensor, dim: int) -> int:
    """A dimension that is there."""
    at = dimension(dim, a.ndim)
    if not a.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: {name}(), at {location()}")
    return at


def _axis(name: str, a: Tensor, dim: int) -> int:
    """A dimension, of a tensor that has some."""
    if not a.ndim:
        raise RuntimeError(f"{name}: input tensor must have at least one dimension: {describe(a)}, at {location()}")
    return dimension(dim, a.ndim)


@public
def split(tensor: Tensor, split_size_or_sections: Dims, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive pieces along a dimension: of one length, or of those given.

    >>> import tapegrad as tg
    >>> tg.tensor([1.0, 2.0, 3.0]).split(2)
    (tensor([1., 2.]), tensor([3.]))
    """
    at, sizes = _axis("split", tensor, dim), split_size_or_sections
    n = tensor._kind.shape[at]
    if isinstance(sizes, int):
        if sizes < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={sizes}")
        if sizes == 0 and n:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        sizes = [min(sizes, n - i) for i in range(0, n, sizes or 1)] or [0]
    elif any(size < 0 for size in sizes):
        raise RuntimeError(
            f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={list(sizes)}"
        )
    elif sum(sizes) != n:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {at}), but "
            f"got split_sizes={list(sizes)}"
        )
    pieces, start = [], 0
    for size in sizes:
        pieces.append(narrow(tensor, at, start, size))
        start += size
    return tuple(pieces)


@public
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` consecutive pieces along a dimension, of equal length but for the last.

    >>> import tapegrad as tg
    >>> tg.chunk(tg.arange(5), 2)
    (tensor([0, 1, 2]), tensor([3, 4]))
    """
    n = input._kind.shape[_axis("chunk", input, dim)]
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    return split(input, -(-n // chunks) if n else [0] * chunks, dim)


@public
def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """`length` slices from `start` along a dimension; a view. A negative `start` counts from the end.

    It may be a tensor of one integer, without dimensions.

    Raises
    ------
    IndexError
        Where `start` is out of range.
    RuntimeError
        Where `length` is negative or too long.

    >>> import tapegrad as tg
    >>> tg.narrow(tg.arange(5), 0, 1, 3)
    tensor([1, 2, 3])
    """
    if isinstance(start, Tensor) and (start.ndim or start.dtype.category != 1):
        raise RuntimeError(f"start must be an 0-dim integral Tensor: narrow({describe(input, start)}), at {location()}")
    at, start = _axis("narrow", input, dim), arguments.integer(start)
    n = input._kind.shape[at]
    if length < 0:
        raise RuntimeError(f"narrow(): length must be non-negative, but got {length}")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start += n if start < 0 else 0
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return input[(slice(None),) * at + (slice(start, start + length),)]


def joined(
    op: Op, pieces: list[Tensor], shape: tuple[int, ...], windows: list[tuple[int, int, int]], outer: int
) -> Tensor:
    """A row a piece, all into one slot: (elements in a run, elements from run to run of the result, offset)."""
    dtype = dtypes.result_type([(dtypes.DIMENSIONED, p.dtype) for p in pieces])
    if any(p.__class__ is Batched for p in pieces):
        return batched.rules["joined"](op, [cast(p, dtype) for p in pieces], shape, windows, outer)
    pieces = [contiguous(steady(local(cast(piece, dtype)))) for piece in pieces]
    tape = current_tape()
    kind = kind_of(dtype, shape, requires_grad=activity(tape, pieces))
    engine.need(op, dtype.code, False)
    if kind.requires_grad:
        engine.need(op, dtype.code, True)
        need_sum(dtype)
    rows, last = [], len(pieces) - 1
    for i, (piece, window) in enumerate(zip(pieces, windows, strict=True)):
        flags = PARAMS | PIECE | (FIRST if i == 0 else 0) | (LAST if i == last else 0)
        rows.append((piece, -1, numbers((outer, *window)), flags))
    return settled(appended_together(tape, op, kind, rows), *pieces)


def _sequence(name: str, tensors: Any, where_empty: Exception) -> list[Tensor]:
    if not isinstance(tensors, (tuple, list)):
        raise TypeError(
            f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {type(tensors).__name__}"
        )
    if not tensors:
        raise where_empty
    return arguments.tensors(name, tensors)


def _many_in_one_step(op: Op) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Let tensors be joined again by rows that are known, as those of such tensors were: `recording.in_one_step`."""
    ways: dict[Any, tuple[Any, list[tuple[int, int]]]] = {}

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(function)
        def quick(tensors: Any, dim: int = 0) -> Tensor:
            are_many = tensors.__class__ is list or tensors.__class__ is tuple
            if not are_many or dim.__class__ is not int or not all(t.__class__ is Tensor for t in tensors):
                return function(tensors, dim)  # others are refused, batched, or asked
            key, tape = (dim, *[t._kind for t in tensors]), current_tape()
            way = ways.get(key)
            if way is not None and all(t._tape is tape for t in tensors):
                kind, rows = way
                pieces = [(t, -1, window, flags) for t, (window, flags) in zip(tensors, rows, strict=True)]
                return appended_together(tape, op, seen(tape.grad_enabled, kind), pieces)
            result = function(tensors, dim)
            if way is None and not any(kind.exported for kind in key[1:]):
                last = last_rows(result, tensors)
                if last is not None:
                    ways[key] = result._kind, [(row.c, row.word >> 16) for row in last]
            return result

        return quick

    return decorate


@taking_out(CAST)
@_many_in_one_step(indexing.cat)
def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors joined along a dimension.

    Raises
    ------
    RuntimeError
        Where the other dimensions differ.
    ValueError
        Where the list is empty.

    >>> import tapegrad as tg
    >>> tg.cat([tg.zeros(2), tg.ones(1)])
    tensor([0., 0., 1.])
    """
    pieces = _sequence("cat", tensors, ValueError("tapegrad.cat(): expected a non-empty list of Tensors"))
    full = [p for p in pieces if p._kind.shape != (0,)]  # a vector without elements fits to everything
    if not full:
        return joined(indexing.cat, pieces, (0,), [(0, 0, 0)] * len(pieces), 1)
    first = full[0]._kind
    if any(p._kind.ndim == 0 for p in full):
        raise RuntimeError(
            f"zero-dimensional tensor (at position {[p._kind.ndim for p in pieces].index(0)}) cannot be concatenated"
        )
    at = dimension(dim, first.ndim)
    for number, piece in enumerate(pieces):
        shape = piece._kind.shape
        if shape == (0,):
            continue
        if len(shape) != first.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {len(shape)}")
        for d in range(first.ndim):
            if d != at and shape[d] != first.shape[d]:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {at}. Expected size {first.shape[d]} but got "
                    f"size {shape[d]} "
                    f"for tensor number {number} in the list: cat({describe(*pieces)}), at {location()}"
                )
    lengths = [0 if p._kind.shape == (0,) else p._kind.shape[at] for p in pieces]
    inner, length = math.prod(first.shape[at + 1 :]), sum(lengths)
    windows, offset = [], 0
    for run in lengths:
        windows.append((run * inner, length * inner, offset))
        offset += run * inner
    shape = (*first.shape[:at], length, *first.shape[at + 1 :])
    return joined(indexing.cat, pieces, shape, windows, math.prod(first.shape[:at]))


@taking_out(CAST)
@_many_in_one_step(indexing.stack)
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension.

    >>> import tapegrad as tg
    >>> tg.stack([tg.zeros(2), tg.ones(2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    pieces = _sequence("stack", tensors, RuntimeError("stack expects a non-empty TensorList"))
    shape = pieces[0]._kind.shape
    for number, piece in enumerate(pieces):
        if piece._kind.shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                f"{list(piece._kind.shape)} at entry {number}"
            )
    at = dimension(dim, len(shape) + 1)
    inner, n = math.prod(shape[at:]), len(pieces)
    windows = [(inner, n * inner, i * inner) for i in range(n)]
    return joined(indexing.stack, pieces, (*shape[:at], n, *shape[at:]), windows, math.prod(shape[:at]))


def as_strided_rule(g: Tensor, p: tuple[int, ...]) -> Tensor:
    """A view of a contiguous tensor by (offset, ndim, *shape, *strides), in elements: the adjoint of `embed`."""
    g = contiguous(g)
    ndim, size = p[1], g._kind.itemsize
    shape, strides = p[2 : 2 + ndim], tuple(s * size for s in p[2 + ndim : 2 + 2 * ndim])
    requires_grad = flowing(g._tape.grad_enabled, g._kind.requires_grad)
    return record_layout(layout.as_strided, g, kind_of(g._kind.dtype, shape, strides, requires_grad), p[0] * size)


layout.as_strided.record = as_strided_rule

functions |= {"cat": cat, "concat": cat, "concatenate": cat, "stack": stack}
for _method in (expand_as, repeat, sum_to_size, detach_):
    setattr(Tensor, _method.__name__, _method)


def takes_ints(function: Callable[..., Tensor]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Make what it decorates the method of a function of a sequence of ints: the method takes them one by one too."""

    def made(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        method.__name__ = method.__qualname__ = name = function.__name__
        method.__doc__ = function.__doc__
        setattr(Tensor, name, method)
        return method

    return made


functions |= {"permute": permute, "reshape": reshape, "broadcast_to": broadcast_to}


@takes_ints(permute)
def _permute(self: Tensor, *given: Any, dims: Sizes | None = None) -> Tensor:
    return permute(self, sizes("permute", given, "dims", dims))


@takes_ints(reshape)
def _reshape(self: Tensor, *given: Any, shape: Sizes | None = None) -> Tensor:
    return reshape(self, sizes("reshape", given, "shape", shape))


@takes_ints(broadcast_to)
def _broadcast_to(self: Tensor, *given: Any, size: Sizes | None = None) -> Tensor:
    return broadcast_to(self, sizes("broadcast_to", given, named=size))


@_in_one_step
def _transposed(self: Tensor) -> Tensor:
    return _permuted(layout.permute, self, tuple(reversed(range(self.ndim))))


@_in_one_step
def _matrices_transposed(self: Tensor) -> Tensor:
    if self.ndim == 0:
        return self
    if self.ndim == 1:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor: "
            f"{describe(self)}, at {location()}"
        )
    return transpose(self, -2, -1)


Tensor.T = property(_transposed, doc="The dimensions in reverse order; a view.")
Tensor.mT = property(_matrices_transposed, doc="The last two dimensions exchanged; a view.")


@checked
def _view_as(self: Tensor, other: Tensor) -> Tensor:
    return view(self, other.shape)


@checked
def _reshape_as(self: Tensor, other: Tensor) -> Tensor:
    return reshape(self, other.shape)


Tensor.view_as, Tensor.reshape_as = _view_as, _reshape_as


@overload
def _size(self: Tensor, dim: None = None) -> Size: ...
@overload
def _size(self: Tensor, dim: int) -> int: ...
@checked
def _size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or the length of one dimension."""
    return self.shape if dim is None else self._kind.shape[_indexed("size", self, dim)]


class NumberOfElements(int):
    """`t.size`: the number of elements, as arrays have it; called, the shape or a length, as PyTorch's tensors have it.

    >>> import tapegrad as tg
    >>> t = tg.ones(2, 3)
    >>> t.size + 1, t.size(), t.size(0)
    (7, tapegrad.Size([2, 3]), 2)
    """

    _of: Tensor

    @overload
    def __call__(self, dim: None = None) -> Size: ...
    @overload
    def __call__(self, dim: int) -> int: ...
    def __call__(self, *args: Any, **facts: Any) -> Any:
        """The shape, or the length of one dimension."""
        return _size(self._of, *args, **facts)


def _number_of_elements(self: Tensor) -> NumberOfElements:
    number = NumberOfElements(self._kind.numel)
    number._of = self
    return number


@overload
def _stride(self: Tensor, dim: None = None) -> tuple[int, ...]: ...
@overload
def _stride(self: Tensor, dim: int) -> int: ...
@checked
def _stride(self: Tensor, dim: int | None = None) -> Any:
    strides = tuple(s // self._kind.itemsize for s in self._kind.strides)
    return strides if dim is None else strides[_indexed("stride", self, dim)]


Tensor.size = property(_number_of_elements, doc=NumberOfElements.__doc__)
Tensor.stride = _stride
