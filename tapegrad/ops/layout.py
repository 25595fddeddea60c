"""Other strides on the same memory: no kernel, no data moved.

The names are PyTorch's nodes. One rule serves all: the adjoint of a view is added to its base through the view's
strides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad.ops.declare import Dims, Layout, Tensor, layout

Place = tuple[tuple[int, ...], int]  # strides, and where the first element is


def dimension(dim: int, ndim: int) -> int:
    """A dimension counted from the front; PyTorch's error where it is out of range."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


_dimension = dimension  # by this name, where an argument has the other


def distinct(dims: Dims, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the front, in order; PyTorch's error where one is named twice."""
    found = tuple(dimension(d, ndim) for d in ((dims,) if isinstance(dims, int) else dims))
    if len(set(found)) != len(found):
        repeated = next(d for d in found if found.count(d) > 1)
        raise RuntimeError(f"dim {repeated} appears multiple times in the list of dims: {list(found)}")
    return found


def in_order(shape: tuple[int, ...], order: Any) -> Any:
    """The shape of some dimensions in any order, and their strides."""
    return tuple(shape[d] for d in order), lambda strides: (tuple(strides[d] for d in order), 0)


@layout(aliases=("swapdims",), examples=(((0, 2), lambda x: x.swapaxes(0, 2), (2, 3, 4)),))
def transpose(input: Tensor, dim0: int, dim1: int) -> Any:
    """Two dimensions exchanged; a view.

    >>> import tapegrad as tg
    >>> tg.transpose(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 0, 1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    order = list(range(input.ndim))
    p, q = dimension(dim0, input.ndim), dimension(dim1, input.ndim)
    if order:
        order[p], order[q] = q, p
    return in_order(input.shape, order)


@layout(examples=(((), lambda x: x.T, (2, 3)), ((), lambda x: x, (3,))))
def t(input: Tensor) -> Any:
    """A matrix transposed; a view. Vectors are returned as they are.

    >>> import tapegrad as tg
    >>> tg.t(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 3.],
            [2., 4.]])
    """
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return in_order(input.shape, range(input.ndim)[::-1])


@layout(examples=(((1,), lambda x: x[:, None], (2, 3)), ((-1,), lambda x: x[:, None], (2,))))
def unsqueeze(input: Tensor, dim: int) -> Any:
    """With a dimension of length 1 at `dim`; a view.

    >>> import tapegrad as tg
    >>> tg.unsqueeze(tg.ones(3), 0).shape
    tapegrad.Size([1, 3])
    """
    shape, at = input.shape, dimension(dim, input.ndim + 1)

    def along(strides: tuple[int, ...]) -> Place:
        step = strides[at] * shape[at] if at < len(shape) else 1
        return (*strides[:at], step, *strides[at:]), 0

    return (*shape[:at], 1, *shape[at:]), along


@layout(
    examples=(
        ((), lambda x: x.diagonal(), (3, 4)),
        ((1,), lambda x: x.diagonal(1), (2, 4)),
        ((-1, 2, 0), lambda x: x.diagonal(-1, 2, 0), (3, 2, 4)),
    )
)
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonal of two dimensions, as the last dimension of a view; `offset` counts diagonals above the main one.

    >>> import tapegrad as tg
    >>> tg.arange(6).reshape(2, 3).diagonal(1)
    tensor([1, 5])
    """
    shape, p, q = input.shape, dimension(dim1, input.ndim), dimension(dim2, input.ndim)
    if p == q:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rest = [d for d in range(input.ndim) if d not in (p, q)]
    down, right = max(-offset, 0), max(offset, 0)
    length = max(min(shape[p] - down, shape[q] - right), 0)

    def along(strides: tuple[int, ...]) -> Place:
        start = down * strides[p] + right * strides[q] if length else 0
        return (*(strides[d] for d in rest), strides[p] + strides[q]), start

    return (*(shape[d] for d in rest), length), along


@layout(examples=(((0, 2, 1), lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, 0), (4, 3)),))
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Any:
    """Windows of `size` elements along a dimension, `step` apart, in a new last one; a view.

    >>> import tapegrad as tg
    >>> tg.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    at, n = _dimension(dimension, input.ndim), (input.shape or (1,))[_dimension(dimension, input.ndim)]
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {at} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    shape = [*input.shape[:at], (n - size) // step + 1, *input.shape[at + 1 :]] if input.ndim else []

    def along(strides: tuple[int, ...]) -> Place:
        own = strides[at] if strides else 1
        return (*(s * step if d == at else s for d, s in enumerate(strides)), own), 0

    return (*shape, size), along


# --- those whose functions are written by hand, in `functions/` -------------------------------------------------------


def named(name: str, grad_name: str = "") -> Layout:
    """Declare no more than the name of an operation, and that of its node."""

    def function() -> None: ...

    function.__name__ = name
    return layout(grad_name=grad_name)(function)


view = named("view")
expand = named("expand")
permute = named("permute")
squeeze = named("squeeze", "SqueezeBackward0")
squeeze_dim = named("squeeze", "SqueezeBackward1")
select = named("select")
slice_ = named("slice")
alias = named("alias")
detach = named("detach")
as_strided = named("as_strided", "AsStridedBackward0")
as_strided_view = named("as_strided", "AsStridedBackward0")  # of memory, as users ask for it
flip = named("flip")
