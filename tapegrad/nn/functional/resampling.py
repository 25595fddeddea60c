"""Resampling: linear maps along each dimension; samples at any places; and pixels that become channels."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np

from tapegrad.arguments import Sizes, integer, node
from tapegrad.dtypes import FLOAT32, UINT8
from tapegrad.functions.products import matmul
from tapegrad.functions.shaping import contiguous
from tapegrad.nn.functional.common import at, floating, public
from tapegrad.nn.functional.mapping import Matrix, along, matrix_of_rows
from tapegrad.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from tapegrad.ops import sampling
from tapegrad.ops.sampling import MODES, PADDINGS
from tapegrad.recording import cast, record_array
from tapegrad.tape import VARIANT
from tapegrad.tensor import Tensor, from_array

# --- interpolation ----------------------------------------------------------------------------------------------------


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel (Keys 1981) at distances below 2."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    result: np.ndarray = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return result


# Kernels for less detail than there is: half their width, and their values.
_SMOOTH: dict[str, tuple[float, Any]] = {
    "bilinear": (1.0, lambda x: np.maximum(1 - np.abs(x), 0.0)),
    "bicubic": (2.0, lambda x: _cubic(np.abs(x), -0.5)),
    "lanczos": (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)),
}


def _scale(n: int, m: int, align_corners: bool, factor: float | None) -> float:
    """How far apart results are, in elements."""
    if align_corners:
        return (n - 1) / (m - 1) if m > 1 else 0.0
    return n / m if factor is None or factor <= 0 else 1 / factor


@functools.lru_cache(256)
def _nearest(n: int, m: int, factor: float | None, exact: bool) -> Matrix:
    # In float32, as PyTorch's: at places between two elements it is rounding that decides.
    scale = np.float32(n) / np.float32(m) if factor is None or factor <= 0 else np.float32(1 / factor)
    i = np.arange(m, dtype=np.float32)
    places = np.minimum(((i + np.float32(0.5)) * scale if exact else i * scale).astype(np.int64), n - 1)
    return matrix_of_rows(list(places.reshape(-1, 1)), [np.ones(1)] * m, n)


@functools.lru_cache(256)
def _linear(n: int, m: int, align_corners: bool, factor: float | None) -> Matrix:
    scale, i = _scale(n, m, align_corners, factor), np.arange(m)
    place = i * scale if align_corners else np.maximum((i + 0.5) * scale - 0.5, 0)
    first = np.minimum(place.astype(np.int64), n - 1)
    share = np.minimum(place - first, 1.0)
    columns = np.stack([first, np.minimum(first + 1, n - 1)], 1)
    return matrix_of_rows(list(columns), list(np.stack([1 - share, share], 1)), n)


@functools.lru_cache(256)
def _bicubic(n: int, m: int, align_corners: bool, factor: float | None) -> Matrix:
    scale, i = _scale(n, m, align_corners, factor), np.arange(m)
    place = i * scale if align_corners else (i + 0.5) * scale - 0.5
    first = np.floor(place).astype(np.int64)
    share = place - first
    weights = np.stack([_cubic(d, -0.75) for d in (share + 1, share, 1 - share, 2 - share)], 1)
    columns = np.clip(first[:, None] + np.arange(-1, 3), 0, n - 1)
    return matrix_of_rows(list(columns), list(weights), n)


@functools.lru_cache(256)
def _smooth(mode: str, n: int, m: int, align_corners: bool, factor: float | None) -> Matrix:
    scale, (half, kernel) = _scale(n, m, align_corners, factor), _SMOOTH[mode]
    width = half * max(scale, 1.0)
    columns, weights = [], []
    for i in range(m):
        centre = scale * (i + 0.5)
        first = max(int(centre - width + 0.5), 0)
        places = np.arange(first, min(int(centre + width + 0.5), n))
        values = kernel((places - centre + 0.5) / max(scale, 1.0))
        columns.append(places)
        weights.append(values / values.sum())
    return matrix_of_rows(columns, weights, n)


_DIMENSIONS = {"linear": 3, "bilinear": 4, "trilinear": 5, "bicubic": 4, "lanczos": 4}
_OF_DETAIL = ("nearest", "nearest-exact", "area")
_AVERAGED = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)


def _factor(value: Any) -> float:
    if isinstance(value, Tensor) and not value.ndim:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"interpolate(): argument 'scale_factor' must be numbers, not {type(value).__name__}")
    if not 0 < value < 1e6:
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got scale_factor {value}: interpolate"
        )
    return float(value)


def _sizes(input: Tensor, size: Any, scale_factor: Any) -> tuple[list[int], list[float | None]]:
    """The lengths of the result, and the factors where they are given."""
    d = input.ndim - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    name, given = ("size", size) if size is not None else ("scale_factor", scale_factor)
    values = list(given) if isinstance(given, (tuple, list)) else [given] * d
    if len(values) != d:
        raise ValueError(
            f"Input and {'output' if size is not None else name} must have the same number of spatial dimensions, but "
            f"got input with spatial dimensions of {list(input.shape[2:])} and {name} of {given}. Please provide "
            f"input tensor in (N, C, d1, d2, ...,dK) format and {name} in (o1, o2, ...,oK) format."
        )
    if size is not None:
        lengths = [integer(v) for v in values]
        if any(v.__class__ is not int for v in lengths):
            raise TypeError(
                f"expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got "
                f"size with types {[type(v) for v in values]}"
            )
        return lengths, [None] * d
    factors = [_factor(v) for v in values]
    return [math.floor(n * f) for n, f in zip(input.shape[2:], factors, strict=True)], list(factors)


@public
def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """`input`, [N, C, ..] with one to three dimensions more, in another size.

    Parameters
    ----------
    size
        The lengths of the result: one for all dimensions, or one for each.
    scale_factor
        By how much the lengths grow, where they aren't given: likewise.
    mode
        "nearest", "nearest-exact", "area"; "linear", "bilinear" or "trilinear", for one, two or three dimensions;
        "bicubic" and "lanczos" for two.
    align_corners
        Whether the outermost elements keep their places, or else the outermost edges.
    recompute_scale_factor
        Whether factors are those of the lengths that they round to.
    antialias
        Whether detail that the result can't have is averaged out: for "bilinear", "bicubic" and "lanczos".

    Raises
    ------
    ValueError, NotImplementedError, RuntimeError
        Where arguments don't fit to each other, or to the dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.interpolate(tg.tensor([[[0.0, 1.0]]]), scale_factor=2, mode="linear")
    tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    if mode in _OF_DETAIL:
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | "
                f"trilinear, not {mode!r}"
            )
    elif align_corners is None:
        align_corners = False
    lengths, factors = _sizes(input, size, scale_factor)
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    if recompute_scale_factor or mode == "area":
        factors = [None] * len(lengths)
    if antialias and (mode not in _SMOOTH or input.ndim != 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input"
        )
    if input.ndim not in (3, 4, 5) or mode not in (*_OF_DETAIL, *_DIMENSIONS):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the modes: nearest | "
            f"linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact (got {mode})"
        )
    if _DIMENSIONS.get(mode, input.ndim) != input.ndim:
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {_DIMENSIONS[mode]}D input")
    if mode == "lanczos" and (align_corners or not antialias):
        wrong = "does not support align_corners=True" if align_corners else "requires antialias=True"
        raise ValueError(f"Lanczos mode {wrong}")
    n = input.shape[2:]
    if min(*n, *lengths) <= 0:
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input {list(n)} output {lengths}: {at(input)}"
        )
    if mode == "area":
        averaged: Tensor = _AVERAGED[input.ndim - 3](input, lengths)
        return averaged
    if input.dtype is UINT8 and mode in _OF_DETAIL:  # images, whose elements are copied
        return cast(interpolate(cast(input, FLOAT32), size, scale_factor, mode), UINT8)
    floating(f"upsample_{mode}", input)
    aligned = bool(align_corners)
    result = input
    for i, (own, length, factor) in enumerate(zip(n, lengths, factors, strict=True)):
        if antialias:
            matrix = _smooth(mode, own, length, aligned, factor)
        elif mode in _OF_DETAIL:
            matrix = _nearest(own, length, factor, mode == "nearest-exact")
        elif mode == "bicubic":
            matrix = _bicubic(own, length, aligned, factor)
        else:
            matrix = _linear(own, length, aligned, factor)
        result = along(result, 2 + i, matrix)
    return result


def _deprecated(name: str) -> None:
    warnings.warn(f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=4)


@public
def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """`interpolate`, by its old name."""
    _deprecated("upsample")
    result: Tensor = interpolate(input, size, scale_factor, mode, align_corners)
    return result


@public
def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with the nearest elements, by its old name."""
    _deprecated("upsample_nearest")
    result: Tensor = interpolate(input, size, scale_factor, mode="nearest")
    return result


@public
def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` bilinearly with aligned corners, by its old name."""
    _deprecated("upsample_bilinear")
    result: Tensor = interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)
    return result


# --- samples at places ------------------------------------------------------------------------------------------------


def _sampled(input: Tensor, grid: Tensor, mode: int, padding: int, align_corners: bool) -> Tensor:
    images, channels, *n = input.shape
    places, d = grid.shape[1:-1], len(n)
    room = sampling.room_to_sample(mode, d, input.dtype.itemsize, channels * math.prod(n))
    p = (images, channels, *(1,) * (3 - d), *n, math.prod(places), d, mode, padding, int(align_corners), room)
    operands, flags = (contiguous(input), contiguous(grid)), VARIANT if d == 3 else 0
    return record_array(
        sampling.sample, (images, channels, *places), input.dtype, *operands, params=p, flags=flags
    )  # fmt: skip


def _check_grid(input: Tensor, grid: Tensor, mode: str) -> None:
    where_ = at(input, grid)
    if input.dtype is not grid.dtype:
        raise RuntimeError(
            f"grid_sampler(): expected input and grid to have same dtype, but input has {input.dtype.scalar_type} and "
            f"grid has {grid.dtype.scalar_type}: {where_}"
        )
    if grid.ndim == 0 or input.shape[:1] != grid.shape[:1]:
        raise RuntimeError(
            f"grid_sampler(): expected grid and input to have same batch size, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}: {where_}"
        )
    if grid.shape[-1] != input.ndim - 2:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {input.ndim - 2} in last dimension, but got grid with sizes "
            f"{list(grid.shape)}: {where_}"
        )
    if input.ndim not in (4, 5) or grid.ndim != input.ndim:
        raise RuntimeError(
            f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with "
            f"sizes {list(input.shape)} and grid with sizes {list(grid.shape)}: {where_}"
        )
    if 0 in input.shape[2:]:
        raise RuntimeError(
            f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
            f"{list(input.shape)}: {where_}"
        )
    if mode == "bicubic" and input.ndim == 5:
        raise RuntimeError(f"grid_sampler(): bicubic interpolation only supports 4D input: {where_}")
    floating("grid_sampler", input)


def _align(align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please "
            "specify align_corners=True if the old behavior is desired.",
            stacklevel=4,
        )
    return bool(align_corners)


@public
def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """Samples of images [N, C, H, W] at the places of `grid`, [N, h, w, 2]: [N, C, h, w]. Or of volumes.

    Parameters
    ----------
    grid
        Places (x, y), or (x, y, z), from -1 to 1.
    mode
        "bilinear", "nearest", or, of images, "bicubic".
    padding_mode
        What there is outside: "zeros", "border", what is at the border, or "reflection".
    align_corners
        Whether -1 and 1 are the outermost elements, or else the outermost edges.

    >>> import tapegrad as tg
    >>> x, grid = tg.arange(4.0).reshape(1, 1, 2, 2), tg.zeros(1, 1, 1, 2)
    >>> tg.nn.functional.grid_sample(x, grid, align_corners=False)
    tensor([[[[1.5000]]]])
    """
    if mode not in MODES:
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in PADDINGS:
        raise ValueError(
            f"nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"'{padding_mode}'"
        )
    aligned = _align(align_corners)
    _check_grid(input, grid, mode)
    return _sampled(input, grid, MODES.index(mode), PADDINGS.index(padding_mode), aligned)


def _grid_sampler(d: int) -> Any:
    def grid_sampler(
        input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
    ) -> Tensor:
        if input.ndim != d + 2:
            raise RuntimeError(f"grid_sampler_{d}d(): expected {d + 2}D input, but got {at(input, grid)}")
        for name, given, known in (("interpolation", interpolation_mode, MODES), ("padding", padding_mode, PADDINGS)):
            if not 0 <= given < len(known):
                raise RuntimeError(
                    f"grid_sampler_{d}d(): {name}_mode must be from 0 to {len(known) - 1}, but got {given}"
                )
        _check_grid(input, grid, MODES[interpolation_mode])
        return _sampled(input, grid, interpolation_mode, padding_mode, align_corners)

    grid_sampler.__name__ = grid_sampler.__qualname__ = f"grid_sampler_{d}d"
    grid_sampler.__doc__ = "`nn.functional.grid_sample`, its modes given by number."
    return public(grid_sampler)


grid_sampler_2d, grid_sampler_3d = _grid_sampler(2), _grid_sampler(3)


@public
@node("AffineGridGeneratorBackward0")
def affine_grid(theta: Tensor, size: Sizes, align_corners: bool | None = None) -> Tensor:
    """The places that affine maps take those of an image to: for `grid_sample`.

    `theta` is [N, 2, 3] for a `size` of (N, C, H, W), and [N, 3, 4] for one of (N, C, D, H, W).

    >>> import tapegrad as tg
    >>> theta = tg.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # places half a side further along x
    >>> tg.nn.functional.affine_grid(theta, (1, 1, 1, 2), align_corners=True)
    tensor([[[[-0.5000,  0.0000],
              [ 1.5000,  0.0000]]]])
    """
    aligned = _align(align_corners)
    if not theta.dtype.is_floating_point:
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    if len(size) not in (4, 5):
        raise NotImplementedError(
            f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
            f"{size}."
        )
    d = len(size) - 2
    if theta.ndim != 3 or theta.shape[1:] != (d, d + 1):
        raise ValueError(
            f"Expected a batch of {d}D affine matrices of shape Nx{d}x{d + 1} for size {size}. Got {theta.shape}."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    axes = []
    for n in size[2:]:
        ends = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        axes.append(ends if aligned else ends * (n - 1) / n)
    mesh = np.meshgrid(*axes, indexing="ij")
    places = np.stack([*(m.reshape(-1) for m in reversed(mesh)), np.ones(mesh[0].size)], 1)
    base = from_array(places.astype(theta.dtype.numpy))
    result: Tensor = matmul(base, theta.mT).reshape(size[0], *size[2:], d)
    return result


# --- pixels and channels ----------------------------------------------------------------------------------------------


@public
@node("PixelShuffleBackward0")
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[.., C r r, H, W] as [.., C, H r, W r], with r = upscale_factor: channels become pixels.

    >>> import tapegrad as tg
    >>> tg.nn.functional.pixel_shuffle(tg.arange(4.0).reshape(4, 1, 1), 2)
    tensor([[[0., 1.],
             [2., 3.]]])
    """
    r = upscale_factor
    if input.ndim < 3:
        raise RuntimeError(
            f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *batch, channels, height, width = input.shape
    if channels % (r * r):
        raise RuntimeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but input.size(-3)={channels} is not divisible by {r * r}"
        )
    count, k = channels // (r * r), len(batch)
    apart = input.reshape(*batch, count, r, r, height, width)
    order = (*range(k), k, k + 3, k + 1, k + 4, k + 2)
    return apart.permute(*order).reshape(*batch, count, height * r, width * r)


@public
@node("PixelUnshuffleBackward0")
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[.., C, H r, W r] as [.., C r r, H, W]: the inverse of `pixel_shuffle`.

    >>> import tapegrad as tg
    >>> tg.nn.functional.pixel_unshuffle(tg.arange(4.0).reshape(1, 1, 2, 2), 2).shape
    tapegrad.Size([1, 4, 1, 1])
    """
    r = downscale_factor
    if input.ndim < 3:
        raise RuntimeError(
            f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *batch, channels, height, width = input.shape
    for name, place, length in (("height", -2, height), ("width", -1, width)):
        if length % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but input.size({place})={length} "
                f"is not divisible by {r}"
            )
    k = len(batch)
    apart = input.reshape(*batch, channels, height // r, r, width // r, r)
    order = (*range(k), k, k + 2, k + 4, k + 1, k + 3)
    return apart.permute(*order).reshape(*batch, channels * r * r, height // r, width // r)


@public
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """[N, groups C, ..] as [N, C groups, ..]: groups of channels dealt out like cards.

    >>> import tapegrad as tg
    >>> tg.nn.functional.channel_shuffle(tg.arange(4.0).reshape(1, 4, 1, 1), 2).flatten()
    tensor([0., 2., 1., 3.])
    """
    if input.ndim < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    n, channels, *rest = input.shape
    if channels % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {channels} channels and {groups} groups."
        )
    return input.reshape(n, groups, channels // groups, *rest).transpose(1, 2).reshape(input.shape)


native_channel_shuffle = channel_shuffle
