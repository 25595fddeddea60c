"""Normalisation: of runs of memory, and of channels by their moments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad.arguments import Dims, Sizes, node
from tapegrad.autograd.modes import no_grad
from tapegrad.creation import full
from tapegrad.dtypes import FLOAT64
from tapegrad.functions.reductions import norm
from tapegrad.functions.shaping import contiguous, stack
from tapegrad.nn.functional.common import at, elementwise, floating, public, reductions
from tapegrad.nn.functional.mapping import along, matrix_of_rows
from tapegrad.ops.normalisation import COLUMNS, moments, normalized, scaled
from tapegrad.recording import cast, record_array
from tapegrad.tensor import Tensor

mean: Any = reductions["mean"]
rsqrt = elementwise["rsqrt"]


def _check_dtypes(name: str, x: Tensor, *given: Tensor | None) -> None:
    others = [t for t in given if t is not None and t.dtype is not x.dtype]
    if others:
        what = "all inputs must share same datatype." if x.dtype is FLOAT64 else "expect parameter to have scalar type"
        what += "" if x.dtype is FLOAT64 else f" of {x.dtype.scalar_type}:"
        raise RuntimeError(f"mixed dtype (CPU): {what} {name}, {at(x, *others)}")


def _moments(x: Tensor, outer: int, channels: int, inner: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of [outer, channels, inner]: the means, what rounding took from them, and the variances, of channels."""
    if not x.numel():
        zero = full((channels,), 0.0, dtype=x.dtype)
        return zero, zero, zero
    in_unit = min(COLUMNS, channels) if inner == 1 else 1
    sizes = -(-channels // in_unit), outer, channels, inner, in_unit
    made = record_array(moments, (3, channels), x.dtype, contiguous(x), params=sizes)
    return made[0], made[1], made[2]


def _scaled(
    x: Tensor, sizes: tuple[int, int, int], centre: Tensor, rest: Tensor | None, factor: Tensor, bias: Tensor | None
) -> Tensor:
    """(x - centre - rest) factor + bias, each of channels of [outer, channels, inner]."""
    shift = full(factor.shape, 0.0, dtype=x.dtype) if rest is None else -(rest * factor)
    shift = shift if bias is None else shift + bias
    if not x.numel():
        return (x.reshape(sizes) * factor[:, None] + shift[:, None]).reshape(x.shape)
    of_channels = stack([centre, factor, shift])
    return record_array(scaled, x.shape, x.dtype, contiguous(x), of_channels, params=(sizes[0], *sizes))


def _over_deviation(variance: Tensor, eps: float, weight: Tensor | None) -> Tensor:
    return rsqrt(variance + eps) if weight is None else weight * rsqrt(variance + eps)


def _check_channels(n: int, **given: Tensor | None) -> None:
    for name, x in given.items():
        if x is not None and x.numel() != n:
            raise RuntimeError(f"{name} should contain {n} elements not {x.numel()}")


def _updated(running: Tensor | None, now: Tensor, momentum: float) -> None:
    """A running mean, in place."""
    if running is not None:
        with no_grad():
            running.copy_((1 - momentum) * running + momentum * now.detach().reshape(running.shape))


@public
@node("NativeBatchNormBackward0")
def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel (dimension 1) of [N, C, ..] less its mean, over its deviation; times weight, plus bias.

    In training, mean and variance are those of `input`, and the running ones are updated in place; else the running
    ones are taken.

    Raises
    ------
    ValueError
        Where a channel has one element, in training; where `eps` is not positive.
    RuntimeError
        Where what belongs to channels has another length; where running ones are missing.

    >>> import tapegrad as tg
    >>> tg.nn.functional.batch_norm(tg.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    if input.ndim < 2:
        if not input.numel():
            return input.clone()
        raise RuntimeError(f"batch_norm: Expected at least 2 dimensions for the input: {at(input)}")
    if training:
        _check_several(input.shape)
        if eps <= 0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    elif eps < 0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    n = input.shape[1]
    for name, x in (("running_mean", running_mean), ("running_var", running_var)):
        if x is None and not training:
            raise RuntimeError(f"{name} must be defined in evaluation mode: {at(input)}")
    _check_channels(n, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    floating("batch_norm", input)
    _check_dtypes("batch_norm", input, running_mean, running_var, weight, bias)
    sizes = input.shape[0], n, math.prod(input.shape[2:])
    weight, bias = (None if t is None else t.reshape(n) for t in (weight, bias))
    if not training:
        assert running_mean is not None
        assert running_var is not None
        factor = _over_deviation(running_var.reshape(n), eps, weight)
        return _scaled(input, sizes, running_mean.reshape(n), None, factor, bias)
    centre, rest, variance = _moments(input, *sizes)
    if input.numel():
        count = input.numel() // n
        _updated(running_mean, centre, momentum)
        _updated(running_var, variance * (count / (count - 1)), momentum)
    return _scaled(input, sizes, centre, rest, _over_deviation(variance, eps, weight), bias)


def _check_several(shape: tuple[int, ...]) -> None:
    if shape[0] * math.prod(shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {shape}")


@public
@node("NativeBatchNormBackward0")
def instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """`batch_norm` of each element of the batch by itself.

    >>> import tapegrad as tg
    >>> tg.nn.functional.instance_norm(tg.tensor([[[1.0, 3.0]]]))
    tensor([[[-1.0000,  1.0000]]])
    """
    if input.ndim < 3 and not use_input_stats:  # what has no places has one value a channel, refused below
        raise RuntimeError(f"instance_norm: Expected at least 3 dimensions for the input: {at(input)}")
    if use_input_stats and math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    if not use_input_stats and (running_mean is None or running_var is None):
        raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
    if (running_mean is None) is not (running_var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None: instance_norm")
    n = input.shape[1]
    _check_channels(n, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    floating("instance_norm", input)
    if not use_input_stats:
        result: Tensor = batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
        return result
    _check_dtypes("instance_norm", input, running_mean, running_var, weight, bias)
    images, plane = input.shape[0], math.prod(input.shape[2:])
    sizes = 1, images * n, plane
    centre, rest, variance = _moments(input, *sizes)
    if input.numel():
        _updated(running_mean, mean(centre.reshape(images, n), 0), momentum)
        _updated(running_var, mean(variance.reshape(images, n), 0) * (plane / (plane - 1)), momentum)
    weight, bias = (None if t is None else t.reshape(n).repeat(images) for t in (weight, bias))
    return _scaled(input, sizes, centre, rest, _over_deviation(variance, eps, weight), bias)


def _check_shape(name: str, x: Tensor, shape: Sizes, **given: Tensor | None) -> tuple[int, ...]:
    """The dimensions that are normalised, the last ones."""
    if not shape:
        raise RuntimeError(
            f"Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
            f"normalized_shape = {list(shape)}: {name}, {at(x)}"
        )
    for what, t in given.items():
        if t is not None and t.shape != tuple(shape):
            raise RuntimeError(
                f"Expected {what} to be of same shape as normalized_shape, but got {what} of shape {list(t.shape)} and "
                f"normalized_shape = {list(shape)}: {name}, {at(x)}"
            )
    if x.shape[-len(shape) :] != tuple(shape):
        wanted = ", ".join(["*", *map(str, shape)])
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [{wanted}], but got input of "
            f"size{list(x.shape)}: {name}, {at(x)}"
        )
    return tuple(range(x.ndim - len(shape), x.ndim))


@public
def layer_norm(
    input: Tensor, normalized_shape: Sizes, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """The last dimensions, of a given shape, less their mean, over their deviation; times weight, plus bias.

    Raises
    ------
    RuntimeError
        Where `input` doesn't end in this shape, or weight or bias have another.

    >>> import tapegrad as tg
    >>> tg.nn.functional.layer_norm(tg.tensor([1.0, 3.0]), (2,))
    tensor([-1.0000,  1.0000])
    """
    dims = _check_shape("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    floating("LayerNormKernelImpl", input)
    _check_dtypes("layer_norm", input, weight, bias)
    n, bits = math.prod(normalized_shape), np.float64(eps).view(np.int64).item()
    given = [
        full((n,), value, dtype=input.dtype) if t is None else t.reshape(n) for t, value in ((weight, 1.0), (bias, 0.0))
    ]
    sizes = math.prod(input.shape[: dims[0]]), n, bits
    return record_array(normalized, input.shape, input.dtype, contiguous(input), stack(given), params=sizes)


@public
def rms_norm(input: Tensor, normalized_shape: Sizes, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """The last dimensions, of a given shape, over the root of their mean square; times weight.

    `eps` is that of the dtype where it is None.

    >>> import tapegrad as tg
    >>> tg.nn.functional.rms_norm(tg.tensor([1.0, 7.0]), (2,))
    tensor([0.2000, 1.4000])
    """
    dims = _check_shape("rms_norm", input, normalized_shape, weight=weight)
    floating("rms_norm", input)
    least = float(np.finfo(input.dtype.numpy).eps) if eps is None else eps
    normal: Tensor = input * rsqrt(mean(input * input, dims, True) + least)
    return normal if weight is None else normal * cast(weight, input.dtype)


@public
@node("NativeGroupNormBackward0")
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Groups of channels of [N, C, ..] less their mean, over their deviation; times weight, plus bias, of channels.

    Raises
    ------
    RuntimeError
        Where the channels can't be divided so.

    >>> import tapegrad as tg
    >>> tg.nn.functional.group_norm(tg.tensor([[1.0, 3.0]]), 1)
    tensor([[-1.0000,  1.0000]])
    """
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}: {at(input)}")
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    n, channels = input.shape[:2]
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}: {at(input)}"
        )
    if n * (channels // num_groups) * math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None and x.shape != (channels,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but got {name} of "
                f"shape {list(x.shape)} and input of shape {list(input.shape)}: {at(input)}"
            )
    floating("GroupNormKernelImpl", input)
    _check_dtypes("group_norm", input, weight, bias)
    in_group, plane = channels // num_groups, math.prod(input.shape[2:])
    moments_of_groups = _moments(input, 1, n * num_groups, in_group * plane)
    centre, rest, variance = (t.repeat_interleave(in_group) for t in moments_of_groups)
    weight, bias = (None if t is None else t.repeat(n) for t in (weight, bias))
    return _scaled(input, (1, n * channels, plane), centre, rest, _over_deviation(variance, eps, weight), bias)


@public
def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Input over (k + alpha times the mean square of the `size` channels around) ** beta.

    >>> import tapegrad as tg
    >>> tg.nn.functional.local_response_norm(tg.ones(1, 3, 1), 2, alpha=2.0, beta=1.0).flatten()
    tensor([0.5000, 0.3333, 0.3333])
    """
    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions): {at(input)}")
    if size <= 0:
        raise RuntimeError(
            f"kernel size should be greater than zero, but got size {size}: local_response_norm, {at(input)}"
        )
    if not input.numel():
        return input
    n = input.shape[1]
    around = [np.arange(max(i - size // 2, 0), min(i + (size - 1) // 2 + 1, n)) for i in range(n)]
    squares = along(input * input, 1, matrix_of_rows(around, [np.full(len(r), 1 / size) for r in around], n))
    result: Tensor = input / (squares * alpha + k) ** beta
    return result


@public
def normalize(input: Tensor, p: float = 2.0, dim: Dims = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """Vectors along a dimension, or over several, over their p-norm, which counts as `eps` at least.

    >>> import tapegrad as tg
    >>> tg.nn.functional.normalize(tg.tensor([3.0, 4.0]), dim=0)
    tensor([0.6000, 0.8000])
    """
    result = input / norm(input, p, dim, True).clamp_min(eps)
    if out is None:
        return result
    if out.requires_grad or input.requires_grad:
        raise RuntimeError(
            "div(): functions with out=... arguments don't support automatic differentiation, but one of the arguments "
            f"requires grad: {at(input, out)}"
        )
    return out.copy_(result)
