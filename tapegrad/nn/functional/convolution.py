"""Convolutions, and the windows that they are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tapegrad.arguments import node
from tapegrad.dtypes import FLOAT64
from tapegrad.functions.shaping import contiguous
from tapegrad.nn.functional.common import at, public
from tapegrad.nn.functional.geometry import batched, each, listed, product, three
from tapegrad.ops import convolution
from tapegrad.recording import cast, record_array
from tapegrad.tensor import Tensor


def _recording(op: Any) -> Any:
    def record(a: Tensor, b: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        return record_array(op, tuple(shape), a.dtype, contiguous(a), contiguous(b), params=p)

    return record


def _recording_one(op: Any) -> Any:
    def record(a: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        return record_array(op, tuple(shape), a.dtype, contiguous(a), params=p)

    return record


for _op in (convolution.conv, convolution.conv_transposed, convolution.conv_weight):
    _op.record = _recording(_op)
for _op in (convolution.unfold, convolution.fold):
    _op.record = _recording_one(_op)


def params(
    images: int, groups: int, channels: int, outputs: int, n: Sequence[int], m: Sequence[int], k: Sequence[int],
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
) -> tuple[int, ...]:  # fmt: skip
    """What the kernels take: see `ops/convolution.py`."""
    return (
        images, groups, channels, outputs, *three(n, 1), *three(m, 1), *three(k, 1), *three(stride, 1),
        *three(padding, 0), *three(dilation, 1),
        *convolution.tiling(images, groups, channels, outputs, three(m, 1), math.prod(k)),
    )  # fmt: skip


def _check(
    name: str, d: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, transposed: bool
) -> None:
    """Shapes and dtypes that fit to each other."""
    where = at(*(x for x in (input, weight, bias) if x is not None))
    if input.ndim not in (d + 1, d + 2):
        raise RuntimeError(
            f"Expected {d + 1}D (unbatched) or {d + 2}D (batched) input to {name}, but got input of size: "
            f"{list(input.shape)}: {where}"
        )
    if weight.ndim != d + 2:
        raise RuntimeError(f"{name}(): expected a weight of {d + 2} dimensions, but got {weight.ndim}: {where}")
    if groups <= 0:
        raise RuntimeError(f"non-positive groups is not supported: {groups}, {where}")
    if input.dtype is not weight.dtype:
        raise RuntimeError(
            f"expected scalar type {input.dtype.scalar_type} but found {weight.dtype.scalar_type}: {name}, {where}"
        )
    if bias is not None and bias.dtype is not input.dtype:
        raise RuntimeError(
            f"Input type ({input.dtype.name}) and bias type ({bias.dtype.name}) should be the same: {name}, {where}"
        )
    if 0 in weight.shape[2:]:
        raise RuntimeError(
            f"kernel size should be greater than zero, but got {list(weight.shape[2:])}: {name}, {where}"
        )
    outputs, of_group = weight.shape[:2]
    if outputs < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of size "
            f"{list(weight.shape)} instead: {where}"
        )
    if outputs % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of "
            f"size [{list(weight.shape)}] instead: {where}"
        )
    channels = input.shape[-d - 1]
    wanted = outputs if transposed else of_group * groups
    if channels != wanted:
        given = "transposed=1" if transposed else f"groups={groups}"
        raise RuntimeError(
            f"Given {given}, weight of size {list(weight.shape)}, expected input{list(input.shape)} to have {wanted} "
            f"channels, but got {channels} channels instead: {where}"
        )
    n_biases = of_group * groups if transposed else outputs
    if bias is not None and bias.shape != (n_biases,):
        raise RuntimeError(
            f"Given {'transposed=1, ' if transposed else ''}weight of size {list(weight.shape)}, expected bias to be "
            f"1-dimensional with {n_biases} elements, but got bias of size {list(bias.shape)} instead: {where}"
        )


def _check_steps(stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    if min(padding) < 0:
        raise RuntimeError(f"negative padding is not supported: {list(padding)}")
    if min(stride) <= 0:
        raise RuntimeError(f"non-positive stride is not supported: {list(stride)}")
    if min(dilation) <= 0:
        raise RuntimeError(f"dilation should be greater than zero, but got {list(dilation)}")


def _in_float64(make: Any, *operands: Tensor | None) -> Tensor:
    """Of integers, whose products float64 holds up to 2**53."""
    first = operands[0]
    assert first is not None
    result: Tensor = make(*(None if x is None else cast(x, FLOAT64) for x in operands))
    return cast(result, first.dtype)


def _with_bias(y: Tensor, bias: Tensor | None, d: int, is_batched: bool) -> Tensor:
    y = y if bias is None else y + bias.reshape(-1, *(1,) * d)
    return y if is_batched else y.squeeze(0)


def _convolved(
    d: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    name = f"conv{d}d"
    _check(name, d, input, weight, bias, groups, False)
    if not input.dtype.is_floating_point:
        return _in_float64(
            lambda x, w, b: _convolved(d, x, w, b, stride, padding, dilation, groups), input, weight, bias
        )
    steps, rates = each(name, "stride", stride, d), each(name, "dilation", dilation, d)
    x = batched(input, d)
    n, k = x.shape[2:], weight.shape[2:]
    spans = tuple(rate * (length - 1) for rate, length in zip(rates, k, strict=True))
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise RuntimeError(f"Invalid padding string: '{padding}': it is 'same' or 'valid'")
        if padding == "same" and max(steps) > 1:
            raise RuntimeError(f"padding='same' is not supported for strided convolutions: stride={list(steps)}")
        around = spans if padding == "same" else (0,) * d
        before = tuple(total // 2 for total in around)
    else:
        before = each(name, "padding", padding, d)
        around = tuple(2 * q for q in before)
    _check_steps(steps, before, rates)
    padded = tuple(length + more for length, more in zip(n, around, strict=True))
    if any(length <= span for length, span in zip(padded, spans, strict=True)):
        raise RuntimeError(
            f"Calculated padded input size per channel: {product(padded)}. Kernel size: "
            f"{product([span + 1 for span in spans])}. Kernel size can't be greater than actual input size: "
            f"{at(input, weight)}"
        )
    m = tuple((length - span - 1) // step + 1 for length, span, step in zip(padded, spans, steps, strict=True))
    outputs, channels = weight.shape[:2]
    p = params(x.shape[0], groups, channels, outputs // groups, n, m, k, steps, before, rates)
    y = convolution.conv(x, weight, p, (x.shape[0], outputs, *m))
    return _with_bias(y, bias, d, input.ndim == d + 2)


def _transposed(
    d: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    name = f"conv_transpose{d}d"
    _check(name, d, input, weight, bias, groups, True)
    if not input.dtype.is_floating_point:
        return _in_float64(
            lambda x, w, b: _transposed(d, x, w, b, stride, padding, output_padding, groups, dilation),
            input, weight, bias,
        )  # fmt: skip
    steps, before = each(name, "stride", stride, d), each(name, "padding", padding, d)
    more, rates = each(name, "output_padding", output_padding, d), each(name, "dilation", dilation, d)
    _check_steps(steps, before, rates)
    if min(more) < 0:
        raise RuntimeError(f"negative output_padding is not supported: {list(more)}")
    if any(extra >= max(step, rate) for extra, step, rate in zip(more, steps, rates, strict=True)):
        raise RuntimeError(
            f"output padding must be smaller than either stride or dilation, but got output_padding {list(more)}, "
            f"stride {list(steps)}, dilation {list(rates)}: {at(input, weight)}"
        )
    y = batched(input, d)
    m, k = y.shape[2:], weight.shape[2:]
    n = tuple(
        (length - 1) * step - 2 * q + rate * (size - 1) + extra + 1
        for length, step, q, rate, size, extra in zip(m, steps, before, rates, k, more, strict=True)
    )
    if min(n) <= 0:
        raise RuntimeError(
            f"Given input size per channel: {product(m)}. Calculated output size per channel: {product(n)}. Output "
            f"size is too small: {at(input, weight)}"
        )
    inputs, channels = weight.shape[:2]
    p = params(y.shape[0], groups, channels, inputs // groups, n, m, k, steps, before, rates)
    x = convolution.conv_transposed(y, weight, p, (y.shape[0], channels * groups, *n))
    return _with_bias(x, bias, d, input.ndim == d + 2)


@public
@node("ConvolutionBackward0")
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """The convolution over one dimension: `conv2d` of [N, C, L] with [out, C / groups, k].

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv1d(tg.tensor([[1.0, 2.0, 4.0]]), tg.tensor([[[-1.0, 1.0]]]))
    tensor([[1., 2.]])
    """
    return _convolved(1, input, weight, bias, stride, padding, dilation, groups)


@public
@node("ConvolutionBackward0")
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """The convolution (the cross-correlation, to be exact) of images with filters.

    Parameters
    ----------
    input
        [N, C, H, W], or [C, H, W].
    weight
        [out, C / groups, kernel height, kernel width].
    bias
        [out].
    stride
        How far apart windows are: an int, or one for each dimension.
    dilation
        How far apart the elements of a window are: likewise.
    padding
        Zeros before and behind; or "same", for a result of the same size, or "valid", for none.
    groups
        Into how many parts channels are divided, each with filters of its own.

    Raises
    ------
    RuntimeError
        Where shapes, dtypes or lengths don't fit.

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv2d(tg.ones(1, 3, 3), tg.ones(1, 1, 2, 2))
    tensor([[[4., 4.],
             [4., 4.]]])
    """
    return _convolved(2, input, weight, bias, stride, padding, dilation, groups)


@public
@node("ConvolutionBackward0")
def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """The convolution over three dimensions: `conv2d` of [N, C, D, H, W] with [out, C / groups, kd, kh, kw].

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv3d(tg.ones(1, 3, 3, 3), tg.ones(2, 1, 2, 2, 2)).shape
    tapegrad.Size([2, 2, 2, 2])
    """
    return _convolved(3, input, weight, bias, stride, padding, dilation, groups)


@public
@node("ConvolutionBackward0")
def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` over one dimension.

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv_transpose1d(tg.tensor([[1.0, 2.0]]), tg.tensor([[[1.0, -1.0]]]))
    tensor([[ 1.,  1., -2.]])
    """
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@public
@node("ConvolutionBackward0")
def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transposed convolution: the adjoint of `conv2d` by its input, with a `weight` of [C, out / groups, kh, kw].

    `output_padding` says how much longer the result is than the shortest that `conv2d` makes `input` of.

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv_transpose2d(tg.ones(1, 2, 2), tg.ones(1, 1, 2, 2))
    tensor([[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]])
    """
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@public
@node("ConvolutionBackward0")
def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` over three dimensions.

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv_transpose3d(tg.ones(1, 1, 1, 1, 2), tg.ones(1, 1, 1, 1, 2)).flatten()
    tensor([1., 2., 1.])
    """
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _windows(
    name: str, n: tuple[int, ...], k: tuple[int, ...], rates: tuple[int, ...], before: tuple[int, ...],
    steps: tuple[int, ...],
) -> tuple[int, ...]:  # fmt: skip
    """How many windows there are along each dimension; what is no geometry of windows is refused."""
    if min(k) <= 0:
        raise RuntimeError(f"kernel size should be greater than zero, but got {listed(k)}: {name}")
    if min(steps) <= 0:
        raise RuntimeError(f"stride should be greater than zero, but got {listed(steps)}: {name}")
    if min(rates) <= 0:
        raise RuntimeError(f"dilation should be greater than zero, but got {listed(rates)}: {name}")
    if min(before) < 0:
        raise RuntimeError(f"padding should be non-negative, but got {listed(before)}: {name}")
    return tuple(
        (length + 2 * q - rate * (size - 1) - 1) // step + 1
        for length, size, rate, q, step in zip(n, k, rates, before, steps, strict=True)
    )


@public
def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of images [N, C, H, W], as columns: [N, C kernel height kernel width, windows].

    >>> import tapegrad as tg
    >>> tg.nn.functional.unfold(tg.arange(4.0).reshape(1, 2, 2), (1, 2))
    tensor([[0., 2.],
            [1., 3.]])
    """
    k, rates, before, steps = (
        each("unfold", name, value, 2)
        for name, value in (
            ("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding), ("stride", stride)
        )
    )  # fmt: skip
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise RuntimeError(
            f"Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for "
            f"input, but got: {list(input.shape)}: unfold, {at(input)}"
        )
    x = batched(input, 2)
    images, channels, *n = x.shape
    m = _windows("unfold", tuple(n), k, rates, before, steps)
    if min(m) < 1:
        raise RuntimeError(
            f"Given input with spatial size {listed(n)}, kernel_size={listed(k)}, dilation={listed(rates)}, "
            f"padding={listed(before)}, calculated shape of the array of sliding blocks as {listed(m)}, but its "
            f"components must be at least one."
        )
    p = params(images, 1, channels, 1, tuple(n), m, k, steps, before, rates)
    y: Tensor = convolution.unfold(x, p, (images, channels * math.prod(k), math.prod(m)))
    return y if input.ndim == 4 else y.squeeze(0)


@public
def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Images whose windows are columns, [N, C kernel height kernel width, windows]: overlapping elements add up.

    The adjoint of `unfold`.

    >>> import tapegrad as tg
    >>> tg.nn.functional.fold(tg.ones(1, 4, 1), (2, 2), 2).shape
    tapegrad.Size([1, 1, 2, 2])
    """
    n, k, rates, before, steps = (
        each("fold", name, value, 2)
        for name, value in (
            ("output_size", output_size), ("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding),
            ("stride", stride),
        )
    )  # fmt: skip
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise RuntimeError(
            f"Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for "
            f"input, but got: {list(input.shape)}: fold, {at(input)}"
        )
    m = _windows("fold", n, k, rates, before, steps)
    y = input if input.ndim == 3 else input.unsqueeze(0)
    images, rows, columns = y.shape
    if rows % math.prod(k):
        raise RuntimeError(
            f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
            f"input.size(1)={rows} and kernel_size={listed(k)}."
        )
    if min(m) < 1 or columns != math.prod(m):
        raise RuntimeError(
            f"Given output_size={listed(n)}, kernel_size={listed(k)}, dilation={listed(rates)}, "
            f"padding={listed(before)}, stride={listed(steps)}, expected size of input's dimension 2 to match the "
            f"calculated number of sliding blocks {m[0]} * {m[1]} = {math.prod(m)}, but got input.size(2)={columns}."
        )
    channels = rows // math.prod(k)
    p = params(images, 1, channels, 1, n, m, k, steps, before, rates)
    x: Tensor = convolution.fold(y, p, (images, channels, *n))
    return x if input.ndim == 3 else x.squeeze(0)
