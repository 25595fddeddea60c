"""Differences, integrals, moments, and histograms: compositions of what is there."""

from __future__ import annotations

import math
from builtins import range as range_
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import creation
from tapegrad.arguments import EXACT, Dims, Number, Surface, checked, integer
from tapegrad.batched import Batched, NeedsSamplesError, elements
from tapegrad.dtypes import BOOL, FLOAT32, FLOAT64, INT64, DType, get_default_dtype
from tapegrad.functions import elementwise, reductions
from tapegrad.functions.making import return_type
from tapegrad.functions.shaping import cat, contiguous, narrow, reshape
from tapegrad.functions.sorting import searchsorted
from tapegrad.ops import indexing
from tapegrad.ops.layout import dimension, distinct
from tapegrad.recording import cast, record_array
from tapegrad.tensor import Tensor, describe, location

if TYPE_CHECKING:
    from tapegrad.methods import Aminmax, Histogram  # a stub

functions = public = Surface(EXACT)
_reduce = reductions.functions
_where = elementwise.where


def function(made: Any) -> Any:
    """Take in a function that is no method."""
    functions[made.__name__] = taken = checked(made, out=EXACT)
    return taken


# --- differences and integrals ----------------------------------------------------------------------------------------


@public
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The differences of neighbours along a dimension, `n` times; of bools, whether they differ.

    Parameters
    ----------
    input
        At least a vector.
    n
        How often.
    dim
        The dimension.
    prepend, append
        What is joined on both sides before.

    >>> import tapegrad as tg
    >>> tg.diff(tg.tensor([1, 4, 9]))
    tensor([3, 5])
    """
    if not input.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    at = dimension(dim, input.ndim)
    ends = [t for t in (prepend, append) if t is not None]
    for t in ends:
        if t.ndim != input.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input")
        for d, (own, length) in enumerate(zip(t._kind.shape, input._kind.shape, strict=True)):
            if d != at and own != length:
                raise RuntimeError(
                    f"diff expects the shape of tensor to prepend or append to match that of input except along the "
                    f"differencing dimension; input.size({d}) = {length}, but got tensor.size({d}) = {own}"
                )
    made = input
    if ends and n:
        made = cat([t for t in (prepend, input, append) if t is not None], at)
    for _ in range(min(n, made._kind.shape[at])):
        length = max(made._kind.shape[at] - 1, 0)
        after, before = narrow(made, at, min(1, made._kind.shape[at]), length), narrow(made, at, 0, length)
        made = after ^ before if made.dtype is BOOL else after - before
    return made.clone() if made is input else made


def _steps(name: str, y: Tensor, x: Tensor | None, at: int) -> Tensor | None:
    """The distances of points, in the shape of those of `y`."""
    if x is None:
        return None
    if x.ndim == 1:
        if x._kind.shape[0] != y._kind.shape[at]:
            raise RuntimeError(
                f"{name}: There must be one `x` value for each sample point: {x._kind.shape[0]} of "
                f"{y._kind.shape[at]}: {describe(y, x)}, at {location()}"
            )
        return reshape(diff(x), tuple(-1 if d == at else 1 for d in range(y.ndim)))
    x = reshape(x, (1,) * (y.ndim - x.ndim) + x._kind.shape)
    return diff(x, 1, at)


def _trapezoids(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The areas between neighbours."""
    if x is not None and dx is not None:
        raise TypeError(f"{name}() received an invalid combination of arguments: x and dx")
    if x is not None and (x.dtype is BOOL or y.dtype is BOOL):
        raise RuntimeError(f"{name}: received a bool input for `x` or `y`, but bool is not supported")
    if y.dtype is BOOL:
        raise RuntimeError(f"{name}: received a bool input for `y`, but bool is not supported")
    if not y.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: {name}(), at {location()}")
    at = dimension(dim, y.ndim)
    # Sums and differences of small integers would wrap.
    y = y if y.dtype.is_floating_point else cast(y, get_default_dtype())
    x = x if x is None or x.dtype.is_floating_point else cast(x, y.dtype)
    n = max(y._kind.shape[at] - 1, 0)
    sums = narrow(y, at, min(1, y._kind.shape[at]), n) + narrow(y, at, 0, n)
    steps = _steps(name, y, x, at)
    if steps is not None:
        return sums * steps / 2.0, at
    return sums * ((1.0 if dx is None else dx) / 2.0), at


@function
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Number | None = None, dim: int = -1) -> Tensor:
    """The integral along a dimension by the trapezoidal rule: of points `x`, or `dx` (1) apart.

    >>> import tapegrad as tg
    >>> tg.trapezoid(tg.tensor([1.0, 2.0, 4.0]))
    tensor(4.5000)
    """
    areas, at = _trapezoids("trapezoid", y, x, dx, dim)
    return areas.sum(at)


functions["trapz"] = trapezoid


@function
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Number | None = None, dim: int = -1) -> Tensor:
    """The integrals up to each point but the first, by the trapezoidal rule.

    >>> import tapegrad as tg
    >>> tg.cumulative_trapezoid(tg.tensor([0.0, 1.0, 2.0]))
    tensor([0.5000, 2.0000])
    """
    areas, at = _trapezoids("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(at)


def slope(y: Tensor, at: int, spacing: Any, edge_order: int) -> Tensor:
    """Central differences along a dimension, one-sided at its ends; `spacing` is a distance, or a vector of points."""
    n = y._kind.shape[at]

    def part(first: int, length: int) -> Tensor:
        return narrow(y, at, first, length)

    if isinstance(spacing, Tensor) and spacing.ndim:
        steps = reshape(diff(spacing), tuple(-1 if d == at else 1 for d in range(y.ndim)))
        before, after = narrow(steps, at, 0, n - 2), narrow(steps, at, 1, n - 2)
        left, right = part(1, n - 2) - part(0, n - 2), part(2, n - 2) - part(1, n - 2)
        inside = (left / before * after + right / after * before) / (before + after)
        first, last = narrow(steps, at, 0, 1), narrow(steps, at, n - 2, 1)
    else:
        inside = (part(2, n - 2) - part(0, n - 2)) / (2.0 * spacing)
        steps, first, last = None, spacing, spacing
    if edge_order == 1:
        begin, end = (part(1, 1) - part(0, 1)) / first, (part(n - 1, 1) - part(n - 2, 1)) / last
    elif steps is not None:
        h, k = first, narrow(steps, at, 1, 1)
        begin = _one_sided(part(0, 1), part(1, 1), part(2, 1), h, k)
        h, k = last, narrow(steps, at, n - 3, 1)
        end = -_one_sided(part(n - 1, 1), part(n - 2, 1), part(n - 3, 1), h, k)
    else:
        begin = (2.0 * part(1, 1) - 1.5 * part(0, 1) - 0.5 * part(2, 1)) / spacing
        end = (1.5 * part(n - 1, 1) - 2.0 * part(n - 2, 1) + 0.5 * part(n - 3, 1)) / spacing
    return cat([begin, inside, end], at)


def _one_sided(a: Tensor, b: Tensor, c: Tensor, h: Tensor, k: Tensor) -> Tensor:
    """The slope at a of the parabola through a, b, c, which are h and k apart."""
    return a * (-(2.0 * h + k) / (h * (h + k))) + b * ((h + k) / (h * k)) - c * (h / (k * (h + k)))


@function
def gradient(
    input: Tensor, *, spacing: Any = 1, dim: Dims | None = None, edge_order: int = 1
) -> tuple[Tensor, ...]:  # fmt: skip
    """The slopes along each dimension, or those given, by central differences.

    Parameters
    ----------
    input
        The values on a grid; integers become floating point.
    spacing
        The distance of points, or one for each dimension; or for each dimension a vector of points.
    dim
        The dimensions. None: all.
    edge_order
        The order of the one-sided differences at both ends: 1 or 2.

    >>> import tapegrad as tg
    >>> tg.gradient(tg.tensor([1.0, 4.0, 9.0, 16.0]))
    (tensor([3., 4., 6., 7.]),)
    """
    if input.dtype is BOOL:
        raise RuntimeError(
            f"Subtraction, the `-` operator, with two bool tensors is not supported: gradient({describe(input)}), at "
            f"{location()}"
        )
    dims = tuple(range(input.ndim)) if dim is None else distinct(dim, input.ndim)
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient only supports edge_order=1 and edge_order=2, not {edge_order}")
    spacing = 1 if spacing is None else spacing
    given = list(spacing) if isinstance(spacing, (tuple, list)) else [spacing] * len(dims)
    if len(given) != len(dims):
        raise RuntimeError(
            f"gradient expected spacing to be unspecified, a scalar or a list of length equal to 'self.dim() - 1' or "
            f"the number of dims: {len(dims)}, but got a list of length {len(given)}"
        )
    for at, space in zip(dims, given, strict=True):
        n = (input._kind.shape or (0,))[at]
        if n < edge_order + 1:
            raise RuntimeError("gradient expected each dimension size to be at least edge_order+1")
        if isinstance(space, Tensor) and space.ndim and space._kind.shape != (n,):
            raise RuntimeError(
                f"gradient expected each element of spacing to have one dimension, of length {n}: {describe(space)}"
            )
    x = input if input.dtype.is_floating_point else cast(input, get_default_dtype())
    for space in given:
        if not isinstance(space, (Tensor, int, float, np.number)):
            raise TypeError(
                f"gradient(): argument 'spacing' must be numbers or Tensors, but has {type(space).__name__}"
            )
    return tuple(slope(x, at, space, edge_order) for at, space in zip(dims, given, strict=True))


# --- moments ----------------------------------------------------------------------------------------------------------


@public
def nanmean(
    input: Tensor, dim: Dims | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:  # fmt: skip
    """The arithmetic mean of what is not nan.

    >>> import tapegrad as tg
    >>> tg.nanmean(tg.tensor([1.0, tg.nan, 3.0]))
    tensor(2.)
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError(
            f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype.scalar_type}: "
            f"{describe(input)}, at {location()}"
        )
    total = _reduce["nansum"](input, dim, keepdim, dtype=dtype)
    return total / (input == input).sum(dim, keepdim)


def _with_mean(name: str) -> Any:
    def spread_mean(
        input: Tensor, dim: Dims | bool | None = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: Number | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        spread = _reduce[name](input, dim, unbiased, keepdim, correction=correction)
        return spread, _reduce["mean"](input, None if isinstance(dim, bool) else dim, keepdim)

    spread_mean.__name__ = f"{name}_mean"
    spread_mean.__doc__ = f"""`{name}` and the mean.

    >>> import tapegrad as tg
    >>> tg.{name}_mean(tg.tensor([1.0, 3.0]))
    (tensor({"2." if name == "var" else "1.4142"}), tensor(2.))
    """
    return function(spread_mean)


std_mean, var_mean = map(_with_mean, ("std", "var"))
_Aminmax = return_type("aminmax", "min", "max")


@public
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Aminmax:
    """`amin` and `amax`, over all dimensions or one.

    >>> import tapegrad as tg
    >>> tg.aminmax(tg.tensor([3, 1, 2])).min
    tensor(1)
    """
    return _Aminmax(_reduce["amin"](input, dim, keepdim), _reduce["amax"](input, dim, keepdim))


@public
def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariances of variables, a row each, over their observations, the columns.

    Parameters
    ----------
    input
        A matrix, or one variable.
    correction
        What is taken off the number of observations.
    fweights
        How often each observation counts, int64.
    aweights
        How much.

    >>> import tapegrad as tg
    >>> tg.cov(tg.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if input.ndim > 2:
        raise RuntimeError(
            f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions"
        )
    if input.dtype is BOOL:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = reshape(input, (1, input._kind.numel)) if input.ndim < 2 else input
    x = x if x.dtype.is_floating_point else cast(x, get_default_dtype())
    n = x._kind.shape[1]
    weights = None
    for name, given, wanted in (("fweights", fweights, False), ("aweights", aweights, True)):
        if given is None:
            continue
        if given.ndim > 1:
            raise RuntimeError(
                f"cov(): expected {name} to have one or fewer dimensions but got {name} with {given.ndim} dimensions"
            )
        if given.dtype.is_floating_point is not wanted:
            raise RuntimeError(
                f"cov(): expected {name} to have {'floating point' if wanted else 'integral'} dtype but got {name} "
                f"with {given.dtype.scalar_type} dtype"
            )
        if given._kind.numel != n:
            raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input")
        if (given._array() < 0).any():
            raise RuntimeError(f"cov(): {name} cannot be negative")
        weights = given if weights is None else weights * given
    if weights is None:
        centred, norm = x - _reduce["mean"](x, 1, True), x.new_full((), n - correction)
        weighted = centred
    else:
        weights = reshape(weights, (n,))  # in their own dtype, as in PyTorch
        weights = weights if weights.dtype.is_floating_point else cast(weights, x.dtype)
        total = weights.sum()
        centred = x - (x * weights).sum(1, keepdim=True) / total
        spent = (weights * reshape(aweights, (n,))).sum() / total if aweights is not None and correction else 1.0
        norm = total - correction * spent
        weighted = centred * weights
    made = centred @ weighted.T / norm.clamp(min=0.0)
    return made.squeeze()


@public
def corrcoef(input: Tensor) -> Tensor:
    """The correlation coefficients of variables, a row each, over their observations, the columns.

    >>> import tapegrad as tg
    >>> tg.corrcoef(tg.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if input.ndim > 2:
        raise RuntimeError(
            f"corrcoef(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions"
        )
    c = cov(input)
    if not c.ndim:
        return c / c
    deviations = c.diagonal().sqrt()
    return (c / deviations.unsqueeze(1) / deviations).clamp(-1.0, 1.0)


# --- counting ---------------------------------------------------------------------------------------------------------


def counted(places: Tensor, n: int, weights: Tensor | None, dtype: DType) -> Tensor:
    """How many of the places are 0, 1, ... n - 1, or the sums of their weights; others do not count."""
    at = contiguous(cast(places, INT64)).reshape(-1)
    if weights is None:
        return cast(record_array(indexing.counts, (n,), INT64, at, params=(1, n)), dtype)
    at = _where((at >= 0) & (at < n), at, n)
    summed = indexing.scatter_add(cast(weights, dtype).reshape(-1), at, shape=(n + 1,))
    return cast(narrow(summed, 0, 0, n), dtype)


@public
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number occurs in a vector of non-negative integers; or the sums of their weights.

    >>> import tapegrad as tg
    >>> tg.bincount(tg.tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if input.dtype.category != 1:
        raise NotImplementedError(
            f"\"bincount_cpu\" not implemented for '{input.dtype.scalar_type}': bincount only supports 1-d "
            f"non-negative integral inputs: {describe(input)}, at {location()}"
        )
    places = elements(cast(input, INT64))
    largest = int(places.view(np.uint64).max()) if places.size else -1  # unsigned, negative numbers are large ones
    if input.ndim != 1 or largest >= 1 << 63:
        raise RuntimeError(
            f"bincount only supports 1-d non-negative integral inputs: {describe(input)}, at {location()}"
        )
    if weights is not None and weights._kind.shape != input._kind.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    n = max(largest + 1, minlength)
    if isinstance(input, Batched) and n > minlength:
        raise NeedsSamplesError(
            "vmap: bincount() makes a shape that depends on values: give a minlength above them, "
            f"{describe(input)}, at {location()}",
            input.level,
        )
    if weights is None:
        return counted(input, n, None, INT64)
    weights = cast(weights, FLOAT32 if weights.dtype is FLOAT32 else FLOAT64)
    summed: Tensor = indexing.scatter_add(weights, cast(input, INT64), shape=(n,))
    return summed


def _range(name: str, x: Tensor, ends: Any, apart: float) -> tuple[float, float]:
    """The ends of all bins, a little apart in any case: None says those of the elements."""
    low, high = (float(t) for t in (aminmax(x) if ends is None else ends))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"torch.{name}: range of [{low:g}, {high:g}] is not finite")
    if low > high:
        raise RuntimeError(f"torch.{name}: max must be larger than min, but got {low:g} and {high:g}")
    return (low - apart, high + apart) if low == high else (low, high)


def _check_floating(name: str, x: Tensor) -> None:
    if not x.dtype.is_floating_point:
        raise NotImplementedError(
            f"\"{name}_cpu\" not implemented for '{x.dtype.scalar_type}': {describe(x)}, at {location()}"
        )


@public
def histc(input: Tensor, bins: int = 100, min: Number = 0, max: Number = 0) -> Tensor:
    """How many elements are in each of `bins` intervals of one length, from `min` to `max`, or of all elements.

    >>> import tapegrad as tg
    >>> tg.histc(tg.tensor([1.0, 2.0, 1.0]), 4, 0, 3)
    tensor([0., 2., 1., 0.])
    """
    _check_floating("histogram", input)
    if bins <= 0:
        raise RuntimeError(f"torch.histc(): bins must be > 0, but got {bins}")
    x = input.detach()
    low, high = _range("histc", x, None if min == max and x._kind.numel else (min, max), 1.0)
    at = ((x - low) / (high - low) * bins).floor().clamp(max=bins - 1)
    return counted(_where((x >= low) & (x <= high), at, -1.0), bins, None, x.dtype)


_Histogram = return_type("histogram", "hist", "bin_edges")
_Histogramdd = return_type("histogramdd", "hist", "bin_edges")


def _edges(name: str, x: Tensor, bins: Any, ends: Any) -> Tensor:
    """Those of the bins of one variable."""
    if isinstance(bins, Tensor):
        if bins.ndim != 1:
            raise RuntimeError(f"torch.{name}: bins tensor should have one dimension, but got {bins.ndim} dimensions")
        if bins.dtype is not x.dtype:
            raise RuntimeError(
                f"torch.{name}: input tensor and bins tensors should have the same dtype: {describe(x, bins)}"
            )
        if not bins._kind.numel:
            raise RuntimeError(f"torch.{name}: bins tensor should have at least 1 element, but got 0 elements")
        return bins.detach()
    if integer(bins).__class__ is not int:
        raise TypeError(f"{name}(): argument 'bins' must be ints or Tensors, not {type(bins).__name__}")
    if bins <= 0:
        raise RuntimeError(f"torch.{name}(): bins must be > 0, but got {bins}")
    low, high = _range(name, x, ends, 0.5) if ends is not None or x._kind.numel else (0.0, 1.0)
    return creation.linspace(low, high, bins + 1, dtype=x.dtype)


def places_in(edges: Tensor, x: Tensor) -> Tensor:
    """In which bin each element is: -1 before the first, and as many as there are behind the last, whose end counts."""
    n = edges._kind.shape[0] - 1
    at = searchsorted(edges, x.contiguous(), right=True) - 1
    return _where(x == narrow(edges, 0, n, 1), n - 1, _where(x == x, at, -1))


def _places_among(edges: Tensor, x: Tensor) -> Tensor:
    """The same for bins of one length: a quotient says where, and the edges beside it whether it was rounded."""
    n = edges._kind.shape[0] - 1
    low, high = edges[0].item(), edges[n].item()
    is_inside = (x >= low) & (x <= high)
    at = cast(_where(is_inside, (x - low) * (n / (high - low)), 0).floor(), INT64).clamp(0, n - 1)
    begin, end = (indexing.take(edges, at + k, shape=x._kind.shape) for k in (0, 1))
    at = at - cast(x < begin, INT64) + cast((x >= end) & (at < n - 1), INT64)
    return _where(is_inside, at, -1)


def _density(hist: Tensor, edges: list[Tensor]) -> Tensor:
    made = hist / hist.sum()
    for d, edge in enumerate(edges):
        made = made / reshape(diff(edge), tuple(-1 if k == d else 1 for k in range(hist.ndim)))
    return made


@public
def histogram(
    input: Tensor, bins: int | Tensor = 100, *, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Histogram:
    """How many elements are in each bin, or the sums of their weights, and the edges of the bins.

    Parameters
    ----------
    input
        The elements.
    bins
        How many bins, of one length; or their edges, which ascend.
    range
        From where to where they are. None: from the least to the largest element.
    weight
        How much each element counts. It may require grad.
    density
        Whether the result is divided by its integral.

    >>> import tapegrad as tg
    >>> tg.histogram(tg.tensor([1.0, 2.0, 1.0]), 3, range=(0.0, 3.0)).hist
    tensor([0., 2., 1.])
    """
    _check_floating("histogram", input)
    if weight is not None and weight._kind.shape != input._kind.shape:
        raise RuntimeError(
            "torch.histogram: if weight tensor is provided it should have the same shape as the input tensor: "
            f"{describe(input, weight)}"
        )
    if weight is not None and weight.dtype is not input.dtype:
        raise RuntimeError(
            "torch.histogram: if weight tensor is provided, input tensor and weight tensor should have the same dtype: "
            f"{describe(input, weight)}"
        )
    x = input.detach().reshape(-1)
    edges = _edges("histogram", x, bins, range)
    at = places_in(edges, x) if isinstance(bins, Tensor) else _places_among(edges, x)
    hist = counted(at, edges._kind.shape[0] - 1, weight, x.dtype)
    return _Histogram(_density(hist, [edges]) if density else hist, edges)


@function
def histogramdd(
    input: Tensor, bins: Any, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Histogram:
    """`histogram` of points, whose coordinates are along the last dimension; `bins` for each, and the ends of all.

    >>> import tapegrad as tg
    >>> points = tg.tensor([[0.0, 0.0], [1.0, 1.0], [0.9, 0.8]])
    >>> tg.histogramdd(points, bins=[2, 2], range=[0.0, 1.0, 0.0, 1.0]).hist
    tensor([[1., 0.],
            [0., 2.]])
    """
    _check_floating("histogramdd", input)
    if input.ndim < 2:
        raise RuntimeError("histogramdd: input tensor should have at least 2 dimensions")
    d = input._kind.shape[-1]
    x = input.detach().reshape(-1, d)
    each = list(bins) if isinstance(bins, (tuple, list)) else [bins] * d
    if len(each) != d:
        raise RuntimeError(
            f"histogramdd(): The size of bins must be equal to the innermost dimension of the input: {len(each)} of {d}"
        )
    columns = [x[:, k] for k in range_(d)]
    ends = [None if range is None else tuple(range[2 * k : 2 * k + 2]) for k in range_(d)]
    edges = [_edges("histogramdd", c, b, e) for c, b, e in zip(columns, each, ends, strict=True)]
    lengths = [edge._kind.shape[0] - 1 for edge in edges]
    at: Any = 0
    outside: Any = False
    for column, edge, n in zip(columns, edges, lengths, strict=True):
        place = places_in(edge, column)
        outside = ((place < 0) | (place >= n)) | outside
        at = at * n + place
    hist = counted(_where(outside, -1, at), math.prod(lengths), weight, x.dtype).reshape(lengths)
    return _Histogramdd(_density(hist, edges) if density else hist, tuple(edges))
