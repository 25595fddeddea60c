"""Diagonals, triangles and traces of matrices."""

from __future__ import annotations

from typing import Any

from tapegrad import aliasing, dtypes
from tapegrad.arguments import Surface
from tapegrad.creation import size_of
from tapegrad.functions.shaping import contiguous, dimension
from tapegrad.kinds import contiguous_strides
from tapegrad.ops import layout, triangles
from tapegrad.ops.indexing import embed
from tapegrad.recording import cast, record_array
from tapegrad.tape import VARIANT
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface()


@public
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dimensions, as the last dimension of a view; `offset` counts diagonals above the main one.

    >>> import tapegrad as tg
    >>> tg.arange(6).reshape(2, 3).diagonal(1)
    tensor([1, 5])
    """
    p, q = dimension(dim1, input.ndim), dimension(dim2, input.ndim)
    if p == q:
        raise RuntimeError(
            f"diagonal dimensions cannot be identical {dim1}, {dim2}: {describe(input)}, at {location()}"
        )
    return _diagonal(input, offset, p, q)


def _diagonal(a: Tensor, offset: int, p: int, q: int) -> Tensor:
    kind, rest = a._kind, [d for d in range(a.ndim) if d not in (p, q)]
    down, along = max(-offset, 0), max(offset, 0)
    length = max(min(kind.shape[p] - down, kind.shape[q] - along), 0)
    shape = (*(kind.shape[d] for d in rest), length)

    def along_it(strides: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        start = down * strides[p] + along * strides[q] if length else 0
        return (*(strides[d] for d in rest), strides[p] + strides[q]), start

    adjoint = along_it(contiguous_strides(kind.shape, kind.itemsize))
    return aliasing.view(layout.diagonal, a, shape, *along_it(kind.strides), *adjoint)


@public
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zeros, with the last dimension of `input` on the diagonal of two dimensions."""
    n = input._kind.shape[-1] + abs(offset) if input.ndim else 0
    p, q = dimension(dim1, input.ndim + 1), dimension(dim2, input.ndim + 1)
    if p == q:
        raise RuntimeError(
            f"diagonal dimensions cannot be identical {dim1}, {dim2}: {describe(input)}, at {location()}"
        )
    size_of("diag_embed", (n, n))
    sizes = iter(input._kind.shape[:-1])
    shape = tuple(n if d in (p, q) else next(sizes) for d in range(input.ndim + 1))
    strides = contiguous_strides(shape, 1)
    steps = (*(strides[d] for d in range(len(shape)) if d not in (p, q)), strides[p] + strides[q])
    start = max(-offset, 0) * strides[p] + max(offset, 0) * strides[q]
    window = (start, input.ndim, *input._kind.shape, *steps)
    return record_array(embed, shape, input.dtype, contiguous(input), params=window, flags=VARIANT)


@public
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A matrix with a vector on its diagonal; or the diagonal of a matrix, copied.

    >>> import tapegrad as tg
    >>> tg.diag(tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D: {describe(input)}, at {location()}")
    return _diagonal(input, diagonal, 0, 1).clone()


@public
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError(
            f"trace: expected a matrix, but got tensor with dim {input.ndim}: {describe(input)}, at {location()}"
        )
    if input.dtype is dtypes.BOOL:
        raise NotImplementedError(f"\"trace\" not implemented for 'Bool': {describe(input)}, at {location()}")
    m, n = input._kind.shape
    x = input if input.dtype.is_floating_point else cast(input, dtypes.INT64)
    return record_array(triangles.trace, (), x.dtype, contiguous(x), params=(min(m, n), n + 1))


def _triangle(op: Any, x: Tensor, diagonal: int) -> Tensor:
    if x.ndim < 2:
        raise RuntimeError(f"{op.name}: input tensor must have at least 2 dimensions: {describe(x)}, at {location()}")
    m, n = x._kind.shape[-2:]
    rows = x._kind.numel // n if n else 0
    return record_array(op, x._kind.shape, x.dtype, contiguous(x), params=(rows, m, n, diagonal))


@public
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of each matrix, zeros above; `diagonal` counts those above the main one that are kept.

    >>> import tapegrad as tg
    >>> tg.ones(2, 2).tril()
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _triangle(triangles.tril, input, diagonal)


@public
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of each matrix, zeros below; `diagonal` counts those above the main one that go."""
    return _triangle(triangles.triu, input, diagonal)


def _record_embed(x: Tensor, window: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return record_array(embed, tuple(shape), x.dtype, contiguous(x), params=window)


embed.record = _record_embed
