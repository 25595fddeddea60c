"""Distances: norms of differences. A sweep takes differences and norms together, so that no difference is stored."""

from __future__ import annotations

import math

import numpy as np

from tapegrad import writing
from tapegrad.arguments import Number, Surface, checked, node
from tapegrad.functions import elementwise, reductions
from tapegrad.functions.shaping import dimension
from tapegrad.ops import distances as ops
from tapegrad.recording import broadcast_shapes, cast, promoted, record_array
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface()


@public
@node("DistBackward0")
def dist(input: Tensor, other: Tensor, p: Number = 2) -> Tensor:
    """The p-norm of input - other.

    >>> import tapegrad as tg
    >>> tg.dist(tg.tensor([3.0, 4.0]), tg.zeros(2))
    tensor(5.)
    """
    difference = input - other
    if not difference.dtype.is_floating_point:
        raise NotImplementedError(
            f"\"dist\" not implemented for '{difference.dtype.scalar_type}': {describe(input, other)}, at {location()}"
        )
    distance: Tensor = reductions.norm(difference, float(p))
    return distance


@public
@node("RenormBackward0")
def renorm(input: Tensor, p: Number, dim: int, maxnorm: Number) -> Tensor:
    """`input` with its slices along a dimension shortened to a p-norm of `maxnorm` where it is larger.

    >>> import tapegrad as tg
    >>> tg.renorm(tg.tensor([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    if p <= 0:
        raise RuntimeError(f"renorm: non-positive norm not supported: {p}")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    if input.ndim < 2:
        raise RuntimeError(
            f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions: {describe(input)}, at "
            f"{location()}"
        )
    d = dimension(dim, input.ndim)
    if not input.dtype.is_floating_point:
        raise RuntimeError(
            f"renorm: expected a floating point tensor, but got {input.dtype.scalar_type}: {describe(input)}, at "
            f"{location()}"
        )
    others = tuple(k for k in range(input.ndim) if k != d)
    lengths = reductions.norm(input, float(p), others, True)
    shortened: Tensor = input * elementwise.where(lengths > maxnorm, maxnorm / (lengths + 1e-7), 1.0)
    return shortened


@checked
def renorm_(self: Tensor, p: Number, dim: int, maxnorm: Number) -> Tensor:
    """`renorm`, in place."""
    writing.check_in_place(self, "renorm_")
    return writing.assign(self, renorm(self, p, dim, maxnorm))


Tensor.renorm_ = renorm_


def _check_rows(name: str, p: float, *given: tuple[str, Tensor]) -> None:
    for _, x in given:
        if not x.dtype.is_floating_point:
            label = f"{_} got: " if name == "cdist" else ""
            raise RuntimeError(f"{name} only supports floating-point dtypes, {label}{x.dtype.scalar_type}")
    if not p >= 0:
        raise RuntimeError(f"{name} only supports non-negative p values: {p}")


@checked
@node("CdistBackward0")
def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """The p-norms of the differences between all rows of matrices [.., n, k] and [.., m, k]: [.., n, m].

    Batch dimensions broadcast. `compute_mode` may be PyTorch's, and makes no difference: distances are never found
    from products, which lose digits.

    >>> import tapegrad as tg
    >>> tg.cdist(tg.tensor([[0.0], [1.0]]), tg.tensor([[3.0]]))
    tensor([[3.],
            [2.]])
    """
    modes = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist", None)
    if compute_mode not in modes:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    for name, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(
                f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D: {describe(x1, x2)}, at {location()}"
            )
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}: "
            f"{describe(x1, x2)}, at {location()}"
        )
    _check_rows("cdist", p, ("X1", x1), ("X2", x2))
    if x1.dtype is not x2.dtype:
        raise RuntimeError(
            f"expected scalar type {x1.dtype.scalar_type} but found {x2.dtype.scalar_type}: cdist({describe(x1, x2)}), "
            f"at {location()}"
        )
    distances: Tensor | None = _all_euclidean(x1, x2) if p == 2 else None
    if distances is None:
        distances = reductions.norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)
    return distances


def _all_euclidean(a: Tensor, b: Tensor) -> Tensor | None:
    """The distances between rows, by one operation; None where there are none, or batches that don't fit."""
    (*of_a, n, k), (*of_b, m, _) = a.shape, b.shape
    try:
        batch = np.broadcast_shapes(tuple(of_a), tuple(of_b))
    except ValueError:
        return None
    if not math.prod((*batch, n, m, k)):
        return None
    a, b = (t if t.shape[:-2] == batch else t.expand(*batch, *t.shape[-2:]) for t in (a, b))
    params = ops.parameters(math.prod(batch), n, m, k)
    return record_array(ops.euclidean, (*batch, n, m), a.dtype, a, b, params=params)


@checked
@node("PdistBackward0")
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norms of the differences between the rows of a matrix, each pair once: n (n - 1) / 2 numbers.

    >>> import tapegrad as tg
    >>> tg.pdist(tg.tensor([[0.0], [1.0], [3.0]]))
    tensor([1., 3., 2.])
    """
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D: {describe(input)}, at {location()}")
    _check_rows("pdist", p, ("", input))
    first, second = np.triu_indices(input.shape[0], 1)
    distances: Tensor = reductions.norm(input[first] - input[second], p, 1)
    return distances


@checked
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension.

    >>> import tapegrad as tg
    >>> tg.pairwise_distance(tg.zeros(2), tg.tensor([3.0, 4.0]))
    tensor(5.0000)
    """
    distance: Tensor = reductions.norm(x1 - x2 + eps, p, -1, keepdim)
    return distance


@checked
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along a dimension; norms count as `eps` at least.

    >>> import tapegrad as tg
    >>> tg.cosine_similarity(tg.tensor([1.0, 1.0]), tg.tensor([1.0, 0.0]), dim=0)
    tensor(0.7071)
    """
    if not eps >= 0:
        raise RuntimeError(f"eps must be non-negative, got: {eps}: cosine_similarity(), at {location()}")
    shape = broadcast_shapes("cosine_similarity", [x1, x2])
    dtype = promoted([x1, x2])
    if not dtype.is_floating_point:
        raise RuntimeError(
            f"expected common dtype to be floating point, yet common dtype is {dtype.scalar_type}: "
            f"{describe(x1, x2)}, at {location()}"
        )
    x1, x2 = cast(x1, dtype), cast(x2, dtype)
    d = dimension(dim, len(shape))
    units = []
    for x in (x1.expand(*shape), x2.expand(*shape)):
        length = reductions.norm(x, 2, d, True)
        # Where it counts as eps the slope is that of the norm still.
        units.append(x / elementwise.where(length < eps, length + (eps - length.detach()), length))
    cosine: Tensor = (units[0] * units[1]).sum(d)
    return cosine


functions |= {f.__name__: f for f in (cdist, pdist, pairwise_distance, cosine_similarity)}
