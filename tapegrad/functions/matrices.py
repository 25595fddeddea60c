"""Matrices with a diagonal."""

from __future__ import annotations

from tapegrad.arguments import EXACT, Surface
from tapegrad.creation import size_of
from tapegrad.functions.shaping import contiguous
from tapegrad.functions.shaping import functions as views
from tapegrad.kinds import contiguous_strides
from tapegrad.ops.indexing import embed
from tapegrad.ops.layout import dimension
from tapegrad.recording import record_array
from tapegrad.tape import VARIANT
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface(EXACT)


@public
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zeros, with the last dimension of `input` on the diagonal of two dimensions.

    >>> import tapegrad as tg
    >>> tg.diag_embed(tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
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
    return views["diagonal"](input, diagonal).clone()


def _record_embed(x: Tensor, window: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return record_array(embed, tuple(shape), x.dtype, contiguous(x), params=window)


embed.record = _record_embed
