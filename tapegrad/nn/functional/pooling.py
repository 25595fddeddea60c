"""Pooling: averages of windows are linear maps along each dimension, largest elements are gathered."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.arguments import EXACT, integer, node, taking_out
from tapegrad.dtypes import INT64
from tapegrad.functions import indexing as item_assignment
from tapegrad.functions.shaping import contiguous
from tapegrad.nn.functional.activations import relu
from tapegrad.nn.functional.common import at, floating, public
from tapegrad.nn.functional.geometry import each, three
from tapegrad.nn.functional.mapping import Matrix, along, matrix_of_rows
from tapegrad.ops import indexing, windows
from tapegrad.recording import record_array
from tapegrad.tensor import Tensor, from_array


def _spatial(name: str, input: Tensor, d: int) -> tuple[int, ...]:
    """The lengths of the d last dimensions, which have elements."""
    if input.ndim not in (d + 1, d + 2):
        if d == 1:
            raise RuntimeError(
                f"{name}: Expected 2D or 3D (batch mode) tensor with optional 0 dim batch size for input, but got:"
                f"{list(input.shape)}: {at(input)}"
            )
        raise RuntimeError(
            f"non-empty {d + 1}D or {d + 2}D (batch mode) tensor expected for input: {name}, {at(input)}"
        )
    if 0 in input.shape[-d - 1 :]:
        raise RuntimeError(
            f"non-empty {d + 1}D or {d + 2}D (batch mode) tensor expected for input: {name}: Expected tensor with "
            f"optional 0 dim batch size for input, but got: {list(input.shape)}"
        )
    return input.shape[-d:]


def _counts(
    name: str, n: tuple[int, ...], k: tuple[int, ...], steps: tuple[int, ...], before: tuple[int, ...],
    rates: tuple[int, ...], ceil_mode: bool, channels: int,
) -> tuple[int, ...]:  # fmt: skip
    """How many windows there are; the last, in ceil mode, begins inside or in the padding before."""
    d = len(n)
    if min(k) <= 0:
        raise RuntimeError(f"kernel size should be greater than zero, but got {list(k)}: {name}")
    if min(steps) <= 0:
        raise RuntimeError(f"stride should not be zero: {list(steps)}, {name}")
    if min(rates) <= 0:
        raise RuntimeError(f"dilation should be greater than zero, but got dilation {list(rates)}: {name}")
    if min(before) < 0:
        raise RuntimeError(f"pad must be non-negative, but got pad: {min(before)}: {name}")
    for q, size, rate in zip(before, k, rates, strict=True):
        if q > ((size - 1) * rate + 1) // 2:
            if d == 1 and name.startswith("max"):
                raise RuntimeError(
                    f"{name}() padding should be at most half of kernel size, but got padding={q} and "
                    f"kernel_size={size}"
                )
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={q}, kernel_size={size} and "
                f"dilation={rate}: {name}"
            )
    m = []
    for length, size, step, q, rate in zip(n, k, steps, before, rates, strict=True):
        room = length + 2 * q - rate * (size - 1) - 1
        count = (-(-room // step) if ceil_mode else room // step) + 1
        m.append(count - 1 if ceil_mode and (count - 1) * step >= length + q else count)
    if min(m) < 1:
        if d == 1 and name.startswith("max"):
            raise RuntimeError(f"{name}() Invalid computed output size: {m[0]}")
        given, made = (three(x, 1)[-max(d, 2) :] for x in (n, m))
        sizes = ["x".join(map(str, (channels, *x))) for x in (given, made)]
        raise RuntimeError(
            f"Given input size: ({sizes[0]}). Calculated output size: ({sizes[1]}). Output size is too small"
        )
    return tuple(m)


# --- averages ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(256)
def _averages(n: int, m: int, size: int, step: int, before: int, counted: str) -> Matrix:
    """Windows of `size`; `counted` is what a sum is divided by: "all", also what is padded, "inside", or "none"."""
    columns, weights = [], []
    for i in range(m):
        start = i * step - before
        stop = min(start + size, n + before)
        inside = np.arange(max(start, 0), min(stop, n))
        count = {"all": stop - start, "inside": max(len(inside), 1), "none": 1}[counted]
        columns.append(inside)
        weights.append(np.full(len(inside), 1 / count))
    return matrix_of_rows(columns, weights, n)


@functools.lru_cache(256)
def _adaptive(n: int, m: int) -> Matrix:
    columns = [np.arange(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
    return matrix_of_rows(columns, [np.full(len(c), 1 / len(c)) for c in columns], n)


def _averaged(
    d: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:  # fmt: skip
    name = f"avg_pool{d}d"
    k = each(name, "kernel_size", kernel_size, d)
    steps = k if stride is None or stride == () or stride == [] else each(name, "stride", stride, d)
    before = each(name, "padding", padding, d)
    if divisor_override == 0:
        raise RuntimeError(f"divisor must be not zero: {name}")
    if min(steps) <= 0:
        raise RuntimeError(f"stride should not be zero: {list(steps)}, {name}")
    n = _spatial(name, input, d)
    m = _counts(name, n, k, steps, before, (1,) * d, ceil_mode, input.shape[-d - 1])
    floating(f"{name}_out_frame", input)
    counted = "none" if divisor_override else "all" if count_include_pad else "inside"
    for i in range(d):
        input = along(input, input.ndim - d + i, _averages(n[i], m[i], k[i], steps[i], before[i], counted))
    return input * (1 / divisor_override) if divisor_override else input


@public
def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` over one dimension.

    >>> import tapegrad as tg
    >>> tg.nn.functional.avg_pool1d(tg.tensor([[1.0, 3.0, 5.0, 9.0]]), 2)
    tensor([[2., 7.]])
    """
    return _averaged(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@taking_out(EXACT)
@node("AvgPool2DBackward0")
def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The averages of windows of images, [N, C, H, W] or [C, H, W].

    Parameters
    ----------
    kernel_size, stride, padding
        Of windows: an int, or one for each dimension. The stride is the kernel size by default.
    ceil_mode
        Whether a window may be cut off at the end.
    count_include_pad
        Whether what is padded counts.
    divisor_override
        What sums are divided by, instead of by how many elements there are.

    >>> import tapegrad as tg
    >>> tg.nn.functional.avg_pool2d(tg.arange(4.0).reshape(1, 2, 2), 2)
    tensor([[[1.5000]]])
    """
    return _averaged(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@taking_out(EXACT)
@node("AvgPool3DBackward0")
def avg_pool3d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.avg_pool3d(tg.arange(8.0).reshape(1, 1, 2, 2, 2), 2)
    tensor([[[[[3.5000]]]]])
    """
    return _averaged(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _adaptive_sizes(name: str, input: Tensor, output_size: Any, d: int) -> tuple[int, ...]:
    if isinstance(output_size, (tuple, list)) and d > 1 and input.ndim <= len(output_size):
        raise ValueError(f"Input dimension should be at least {len(output_size) + 1}: {name}, {at(input)}")
    if input.ndim not in (d + 1, d + 2):
        if d == 1:
            raise RuntimeError(
                f"Expected 2 to 3 dimensions, but got {input.ndim}-dimensional tensor for argument #1 'self' (while "
                f"checking arguments for {name}): {at(input)}"
            )
        raise RuntimeError(f"{name}(): Expected {d + 1}D or {d + 2}D tensor, but got {list(input.shape)}: {at(input)}")
    for place in range(1 if input.ndim == d + 2 else 0, input.ndim):
        if input.shape[place] == 0:
            raise RuntimeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                f"{list(input.shape)} with dimension {place} being empty"
            )
    values = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * d
    if len(values) != d:
        raise RuntimeError(f"{name}: output_size must be {d}: {list(values)}, {at(input)}")
    n = input.shape[-d:]
    sizes = each(name, "output_size", [n[i] if v is None else v for i, v in enumerate(values)], d)
    if min(sizes) < 0:
        if "max" in name:
            raise RuntimeError(f"Trying to create tensor with negative dimension {min(sizes)}: {list(sizes)}")
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received "
            f"{{{', '.join(map(str, sizes))}}}"
        )
    return sizes


def _adaptively_averaged(d: int, input: Tensor, output_size: Any) -> Tensor:
    name = f"adaptive_avg_pool{d}d"
    sizes = _adaptive_sizes(name, input, output_size, d)
    floating(name, input)
    for i in range(d):
        at_dim = input.ndim - d + i
        input = along(input, at_dim, _adaptive(input.shape[at_dim], sizes[i]))
    return input


@public
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` over one dimension.

    >>> import tapegrad as tg
    >>> tg.nn.functional.adaptive_avg_pool1d(tg.tensor([[1.0, 2.0, 3.0, 4.0]]), 2)
    tensor([[1.5000, 3.5000]])
    """
    return _adaptively_averaged(1, input, output_size)


@public
@node("AdaptiveAvgPool2DBackward0")
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The averages of as many windows as the result is to have elements, of about one size.

    `output_size` is an int, or one for each dimension; None keeps a length.

    >>> import tapegrad as tg
    >>> tg.nn.functional.adaptive_avg_pool2d(tg.arange(4.0).reshape(1, 2, 2), 1)
    tensor([[[1.5000]]])
    """
    return _adaptively_averaged(2, input, output_size)


@public
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.adaptive_avg_pool3d(tg.arange(8.0).reshape(1, 1, 2, 2, 2), 1)
    tensor([[[[[3.5000]]]]])
    """
    return _adaptively_averaged(3, input, output_size)


def _lp_pooled(d: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    if abs(norm_type) == math.inf:
        sign = 1 if norm_type > 0 else -1
        largest: Tensor = _maxima(d, sign * input.abs(), kernel_size, stride, 0, 1, ceil_mode)[0]
        return sign * largest
    averages = _averaged(d, input**norm_type, kernel_size, stride, 0, ceil_mode, True, None)
    count = math.prod(each(f"lp_pool{d}d", "kernel_size", kernel_size, d))
    return ((averages.sign() * relu(averages.abs())) * count) ** (1 / norm_type)


@public
def lp_pool1d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """`lp_pool2d` over one dimension.

    >>> import tapegrad as tg
    >>> tg.nn.functional.lp_pool1d(tg.tensor([[3.0, 4.0]]), 2.0, 2)
    tensor([[5.]])
    """
    return _lp_pooled(1, input, norm_type, kernel_size, stride, ceil_mode)


@public
def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """The roots of sums of powers of windows, (sum of x ** p) ** (1 / p) with p = norm_type.

    >>> import tapegrad as tg
    >>> tg.nn.functional.lp_pool2d(tg.arange(8.0).reshape(1, 1, 2, 4), 1, 2)
    tensor([[[[10., 18.]]]])
    """
    return _lp_pooled(2, input, norm_type, kernel_size, stride, ceil_mode)


@public
def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """`lp_pool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.lp_pool3d(tg.arange(8.0).reshape(1, 1, 2, 2, 2), 1, 2)
    tensor([[[[[28.]]]]])
    """
    return _lp_pooled(3, input, norm_type, kernel_size, stride, ceil_mode)


# --- largest elements -------------------------------------------------------------------------------------------------


def _gathered(
    input: Tensor, d: int, m: tuple[int, ...], ranges: np.ndarray, rates: tuple[int, ...], own: bool = False
) -> tuple[Tensor, Tensor]:
    """The largest elements of windows, and where they are in their planes; `ranges` as the kernel takes them."""
    x = contiguous(input)
    shape, n = (*x.shape[:-d], *m), x.shape[-d:]
    planes = math.prod(x.shape[:-d])
    params = (planes, *three(n, 1), *three(m, 1), *three(rates, 1), int(own))
    places = record_array(
        windows.largest_in_windows, shape, INT64, x.detach(), from_array(np.ascontiguousarray(ranges)), params=params
    )
    values: Tensor = indexing.take(x, places.reshape(-1), shape=shape)
    return values, places % math.prod(n)


@functools.lru_cache(256)
def _ranges(
    n: tuple[int, ...], m: tuple[int, ...], k: tuple[int, ...], steps: tuple[int, ...], before: tuple[int, ...],
    rates: tuple[int, ...],
) -> np.ndarray:  # fmt: skip
    parts = [np.array([0, 1])] * (3 - len(n))
    for length, count, size, step, q, rate in zip(n, m, k, steps, before, rates, strict=True):
        starts = np.arange(count) * step - q
        stops = np.minimum(starts + (size - 1) * rate + 1, length)
        starts = starts + np.maximum(-(starts // rate), 0) * rate  # the first element inside
        if (starts >= stops).any():
            raise RuntimeError(
                f"max_pool: a window has no element: kernel_size={k}, dilation={rates}, padding={before}"
            )
        parts += [starts, stops]
    return np.concatenate(parts).astype(np.int64)


def _maxima(
    d: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    name = f"max_pool{d}d"
    n = _spatial(name, input, d)
    k, before = each(name, "kernel_size", kernel_size, d), each(name, "padding", padding, d)
    steps = k if stride is None or stride == () or stride == [] else each(name, "stride", stride, d)
    rates = each(name, "dilation", dilation, d)
    m = _counts(name, n, k, steps, before, rates, ceil_mode, input.shape[-d - 1])
    if input.dtype.name == "bool":
        raise NotImplementedError(f"\"{name}\" not implemented for '{input.dtype.scalar_type}': {at(input)}")
    return _gathered(input, d, m, _ranges(n, m, k, steps, before, rates), rates)


def _max_pool(d: int, said: str) -> Any:
    def max_pool(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        found = _maxima(d, input, kernel_size, stride, padding, dilation, ceil_mode)
        return found if return_indices else found[0]

    max_pool.__name__ = max_pool.__qualname__ = f"max_pool{d}d"
    max_pool.__doc__ = said
    return public(node(f"MaxPool{d}DWithIndicesBackward0")(max_pool) if d > 1 else max_pool)


max_pool1d = _max_pool(
    1,
    """`max_pool2d` over one dimension.

    >>> import tapegrad as tg
    >>> tg.nn.functional.max_pool1d(tg.tensor([[1.0, 3.0, 2.0, 5.0]]), 2, return_indices=True)
    (tensor([[3., 5.]]), tensor([[1, 3]]))
    """,
)
max_pool2d = _max_pool(
    2,
    """The largest elements of windows of images, [N, C, H, W] or [C, H, W]; of equal ones the first.

    Parameters
    ----------
    kernel_size, stride, padding, dilation
        Of windows: an int, or one for each dimension. The stride is the kernel size by default; what is padded is
        smaller than all.
    ceil_mode
        Whether a window may be cut off at the end.
    return_indices
        Whether the places of the elements, in their flattened images, are returned too.

    >>> import tapegrad as tg
    >>> tg.nn.functional.max_pool2d(tg.arange(4.0).reshape(1, 2, 2), 2, return_indices=True)
    (tensor([[[3.]]]), tensor([[[3]]]))
    """,
)
max_pool3d = _max_pool(
    3,
    """`max_pool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.max_pool3d(tg.arange(16.0).reshape(1, 1, 2, 2, 4), 2)
    tensor([[[[[13., 15.]]]]])
    """,
)


def _adaptive_max_pool(d: int, said: str) -> Any:
    def adaptive_max_pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        name = f"adaptive_max_pool{d}d"
        m = _adaptive_sizes(name, input, output_size, d)
        floating(name, input)
        parts = [np.array([0, 1])] * (3 - d)
        for n, count in zip(input.shape[-d:], m, strict=True):
            i = np.arange(count)
            parts += [i * n // max(count, 1), -(-(i + 1) * n // max(count, 1))]
        found = _gathered(input, d, m, np.concatenate(parts).astype(np.int64), (1,) * d)
        return found if return_indices else found[0]

    adaptive_max_pool.__name__ = adaptive_max_pool.__qualname__ = f"adaptive_max_pool{d}d"
    adaptive_max_pool.__doc__ = said
    return public(adaptive_max_pool)


adaptive_max_pool1d = _adaptive_max_pool(
    1,
    """`adaptive_max_pool2d` over one dimension.

    >>> import tapegrad as tg
    >>> tg.nn.functional.adaptive_max_pool1d(tg.tensor([[1.0, 3.0, 2.0, 5.0]]), 2)
    tensor([[3., 5.]])
    """,
)
adaptive_max_pool2d = _adaptive_max_pool(
    2,
    """The largest elements of as many windows as the result is to have elements; with `return_indices` their places.

    >>> import tapegrad as tg
    >>> tg.nn.functional.adaptive_max_pool2d(tg.arange(8.0).reshape(1, 2, 4), (2, 1))
    tensor([[[3.],
             [7.]]])
    """,
)
adaptive_max_pool3d = _adaptive_max_pool(
    3,
    """`adaptive_max_pool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.adaptive_max_pool3d(tg.arange(16.0).reshape(1, 1, 2, 2, 4), 1)
    tensor([[[[[15.]]]]])
    """,
)


def _fractional_max_pool(d: int, said: str) -> Any:
    name = f"fractional_max_pool{d}d"

    def fractional_max_pool(
        input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
        return_indices: bool = False, _random_samples: Tensor | None = None,
    ) -> Any:  # fmt: skip
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
        if input.ndim not in (d + 1, d + 2):
            raise RuntimeError(f"{name}: Expected {d + 1}D or {d + 2}D tensor, but got: {list(input.shape)}")
        n, k = input.shape[-d:], each(name, "kernel_size", kernel_size, d)
        if output_size is None:
            ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * d
            if len(ratios) != d:
                raise ValueError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
            if not all(isinstance(ratio, (int, float)) and 0 < ratio < 1 for ratio in ratios):
                raise ValueError(f"{name}: output_ratio must be between 0 and 1, but got {output_ratio}")
            output_size = [int(length * ratio) for length, ratio in zip(n, ratios, strict=True)]
        m = each(name, "output_size", output_size, d)
        for length, count, size, axis in zip(n, m, k, ("time", "height", "width")[-d:], strict=True):
            if size <= 0 or count <= 0:
                raise RuntimeError(f"{name}: kernel_size and output_size must be greater than zero: {k}, {m}")
            if count + size - (d == 2) > length:
                raise RuntimeError(f"{name}(): pool {axis} {size} too large relative to input {axis} {length}")
        floating(name, input)
        images, channels = math.prod(input.shape[: -d - 1]), input.shape[-d - 1]
        if _random_samples is None:
            drawn: Any = creation.rand(images, channels, d)._array()
        else:
            if input.ndim == d + 1:  # of samples for a batch PyTorch takes the first for an image that is in none
                _random_samples = _random_samples[:1]
            if _random_samples.dtype is not input.dtype:
                raise RuntimeError(
                    f"Expect _random_samples to have the same dtype as input: {name}, {at(input, _random_samples)}"
                )
            if _random_samples.shape != (images, channels, d):
                raise RuntimeError(
                    f"{name}: expected _random_samples of shape {[images, channels, d]}, got "
                    f"{list(_random_samples.shape)}"
                )
            drawn = _random_samples._array()
        drawn = np.array(drawn, np.float64).reshape(images * channels, d)
        parts = [np.tile(np.array([[0, 1]]), (len(drawn), 1))] * (3 - d)
        for i in range(d):
            # PyTorch's samples begin with the last axis, in two dimensions.
            u = drawn[:, (d - 1 - i) if d == 2 else i, None]
            step = (n[i] - k[i]) / (m[i] - 1) if m[i] > 1 else 0.0
            starts = ((np.arange(m[i]) + u) * step).astype(np.int64) - (u * step).astype(np.int64)
            starts[:, -1] = n[i] - k[i]
            parts += [starts, starts + k[i]]
        found = _gathered(input, d, m, np.concatenate(parts, 1).astype(np.int64).reshape(-1), (1,) * d, True)
        return found if return_indices else found[0]

    fractional_max_pool.__name__ = fractional_max_pool.__qualname__ = name
    fractional_max_pool.__doc__ = said
    return public(fractional_max_pool)


fractional_max_pool2d = _fractional_max_pool(
    2,
    """The largest elements of windows that begin at random places, drawn for each channel (Graham 2014).

    `output_size`, or `output_ratio` of the lengths, says how many there are.

    >>> import tapegrad as tg
    >>> tg.nn.functional.fractional_max_pool2d(tg.ones(1, 1, 7, 7), 2, output_size=(3, 3)).shape
    tapegrad.Size([1, 1, 3, 3])
    """,
)
fractional_max_pool3d = _fractional_max_pool(
    3,
    """`fractional_max_pool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.fractional_max_pool3d(tg.ones(1, 1, 6, 6, 6), 2, output_ratio=0.5).shape
    tapegrad.Size([1, 1, 3, 3, 3])
    """,
)


def _max_unpool(d: int, said: str) -> Any:
    name = f"max_unpool{d}d"

    def max_unpool(
        input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
    ) -> Tensor:
        k, before = each(name, "kernel_size", kernel_size, d), each(name, "padding", padding, d)
        steps = k if stride is None else each(name, "stride", stride, d)
        if indices.dtype is not INT64:
            raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype.scalar_type}")
        if input.ndim not in (d + 1, d + 2):
            raise RuntimeError(
                f"Input to {name} should be a {d + 1}d or {d + 2}d Tensor, but got a tensor with {input.ndim} "
                f"dimensions: {at(input)}"
            )
        if indices.shape != input.shape:
            raise RuntimeError(
                f"Expected shape of indices to be same as that of the input tensor ({list(input.shape)}) but got "
                f"indices tensor with shape: {list(indices.shape)}"
            )
        n = [
            (length - 1) * step + size - 2 * q
            for length, step, size, q in zip(input.shape[-d:], steps, k, before, strict=True)
        ]
        if output_size is not None:
            if not isinstance(output_size, (tuple, list)) or any(integer(n).__class__ is not int for n in output_size):
                raise TypeError(f"{name}(): argument 'output_size' must be a sequence of ints, not {output_size!r}")
            sizes = list(output_size)[-d:] if len(output_size) == d + 2 else list(output_size)
            if len(sizes) != d:
                raise ValueError(
                    f"output_size should be a sequence containing {d} or {d + 2} elements, but it has a length of "
                    f"'{len(sizes)}'"
                )
            for i in range(d):
                low, high = n[i] - steps[i], n[i] + steps[i]
                if not low < sizes[i] < high:
                    raise ValueError(f'invalid output_size "{sizes}" (dim {i} must be between {low} and {high})')
            n = sizes
        if min(n) < 0:
            raise ValueError(f"max_unpooling: output_size must contain non-negative spatial dimensions, but got {n}")
        size, planes = math.prod(n), math.prod(input.shape[:-d])
        places = indices._array().reshape(planes, -1)
        wrong = (places < 0) | (places >= size)
        if wrong.any():
            raise RuntimeError(
                f"Found an invalid max index: {places[wrong][0]} (output volumes are of size "
                f"{'x'.join(map(str, n))}): {name}"
            )
        flat = (places + np.arange(planes)[:, None] * size).reshape(-1)
        empty = input.new_zeros(planes * size)
        filled = item_assignment.put(empty, (flat,), input.reshape(-1)) if flat.size else empty
        return filled.reshape(*input.shape[:-d], *n)

    max_unpool.__name__ = max_unpool.__qualname__ = name
    max_unpool.__doc__ = said
    return public(max_unpool)


max_unpool1d = _max_unpool(
    1,
    """`max_unpool2d` over one dimension.

    >>> import tapegrad as tg
    >>> largest, places = tg.nn.functional.max_pool1d(tg.tensor([[1.0, 3.0, 2.0, 5.0]]), 2, return_indices=True)
    >>> tg.nn.functional.max_unpool1d(largest, places, 2)
    tensor([[0., 3., 0., 5.]])
    """,
)
max_unpool2d = _max_unpool(
    2,
    """Images of zeros with elements at the places that `max_pool2d` returned: in part its inverse.

    `output_size` says which of the sizes that give the same number of windows it is. Of several elements for one place
    the last is there, and has the gradient (PyTorch gives it to all of them).

    >>> import tapegrad as tg
    >>> largest, places = tg.nn.functional.max_pool2d(tg.arange(8.0).reshape(1, 2, 4), 2, return_indices=True)
    >>> tg.nn.functional.max_unpool2d(largest, places, 2)
    tensor([[[0., 0., 0., 0.],
             [0., 5., 0., 7.]]])
    """,
)
max_unpool3d = _max_unpool(
    3,
    """`max_unpool2d` over three dimensions.

    >>> import tapegrad as tg
    >>> largest, places = tg.nn.functional.max_pool3d(tg.arange(8.0).reshape(1, 1, 2, 2, 2), 2, return_indices=True)
    >>> tg.nn.functional.max_unpool3d(largest, places, 2).flatten()
    tensor([0., 0., 0., 0., 0., 0., 0., 7.])
    """,
)
