"""Padding: zeros are what windows meet outside; other modes are a linear map along each dimension."""

from __future__ import annotations

import functools
import math

import numpy as np

from tapegrad.arguments import Number, Sizes
from tapegrad.nn.functional.common import at, public, where
from tapegrad.nn.functional.convolution import params
from tapegrad.nn.functional.mapping import Matrix, along, matrix_of_rows
from tapegrad.ops import convolution
from tapegrad.recording import in_one_step
from tapegrad.tensor import Tensor, from_array

Pair = tuple[int, int, int]  # a dimension, lengths before and behind


@functools.lru_cache(256)
def _places(mode: str, n: int, before: int, behind: int) -> np.ndarray:
    """The places in n elements that those of the result come from."""
    i = np.arange(-before, n + behind)
    if mode == "replicate":
        return np.clip(i, 0, n - 1)
    if mode == "circular":
        first = max(-before, 0)  # what is taken away is gone before it goes round
        return first + (i - first) % (n - first - max(-behind, 0))
    period = max(2 * (n - 1), 1)
    i = np.abs(i) % period if n > 1 else i * 0
    return np.minimum(i, period - i) if n > 1 else i


@functools.lru_cache(256)
def _matrix(mode: str, n: int, before: int, behind: int) -> Matrix:
    places = _places(mode, n, before, behind).reshape(-1, 1)
    return matrix_of_rows(list(places), [np.ones(1)] * len(places), n)


@in_one_step
def _zero_padded(x: Tensor, *all_pairs: Pair) -> Tensor:
    """Zeros before and behind, in up to three dimensions at once: columns of windows of one element."""
    pairs = [pair for pair in all_pairs if pair[1] or pair[2]]
    while pairs:
        now, pairs = pairs[-3:], pairs[:-3]
        ends = [*(d for d, _, _ in now[1:]), x.ndim]
        inner = [math.prod(x.shape[d + 1 : end]) for (d, _, _), end in zip(now, ends, strict=True)]
        n = [x.shape[d] * run for (d, _, _), run in zip(now, inner, strict=True)]
        m = [(x.shape[d] + before + behind) * run for (d, before, behind), run in zip(now, inner, strict=True)]
        first, one = [before * run for (_, before, _), run in zip(now, inner, strict=True)], (1,) * len(now)
        p = params(math.prod(x.shape[: now[0][0]]), 1, 1, 1, n, m, one, one, first, one)
        shape = list(x.shape)
        for d, before, behind in now:
            shape[d] += before + behind
        x = convolution.unfold(x, p, tuple(shape))
    return x


def _of_places(x: Tensor, mode: str, pairs: list[Pair]) -> Tensor:
    """Elements of `x` before and behind."""
    for d, before, behind in pairs:
        if before or behind:
            if x.dtype.is_floating_point:
                x = along(x, d, _matrix(mode, x.shape[d], before, behind))
            else:
                x = x[(slice(None),) * d + (_places(mode, x.shape[d], before, behind),)]
    return x


def _outside(x: Tensor, pairs: list[Pair]) -> Tensor | None:
    """Where padding is, to be broadcast; None where nothing is added."""
    outside: Tensor | None = None
    for d, before, behind in pairs:
        if before > 0 or behind > 0:
            i = np.arange(-before, x.shape[d] + behind)
            here = from_array(((i < 0) | (i >= x.shape[d])).reshape(-1, *(1,) * (x.ndim - 1 - d)))
            outside = here if outside is None else outside | here
    return outside


@public
def constant_pad_nd(input: Tensor, pad: Sizes, value: Number = 0) -> Tensor:
    """`input` with a number before and behind: `pad` holds two lengths for each dimension, from the last.

    Negative lengths take away.

    >>> import tapegrad as tg
    >>> tg.constant_pad_nd(tg.tensor([1.0, 2.0]), (1, 2))
    tensor([0., 1., 2., 0., 0.])
    """
    if len(pad) % 2:
        raise RuntimeError(f"Length of pad must be even but instead it equals {len(pad)}")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(
            f"Length of pad should be no more than twice the number of dimensions of the input. Pad length is "
            f"{len(pad)} while the input has {input.ndim} dimensions: {at(input)}"
        )
    pairs = [(input.ndim - 1 - i, pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)]
    for d, before, behind in pairs:
        n = input.shape[d]
        if n + before + behind < 0 or -min(before, 0) > n or -min(behind, 0) > n:
            raise RuntimeError(
                f"narrow(): length must be non-negative: the input size {n}, plus negative padding {before} and "
                f"{behind}, resulted in a negative output size, at dimension {d}: {at(input)}"
            )
    padded = _zero_padded(input, *pairs[::-1])
    outside = _outside(input, pairs) if value != 0 else None
    if outside is not None:
        padded = where(outside, value, padded).to(input.dtype)
    return padded.clone() if padded is input else padded


@public
def pad(input: Tensor, pad: Sizes, mode: str = "constant", value: Number | None = None) -> Tensor:
    """`input` with more before and behind.

    Parameters
    ----------
    pad
        Two lengths for each dimension that is padded, from the last on; negative ones take away.
    mode
        "constant", with `value` (0); or, for at most the last three dimensions, "reflect", without repeating what is
        at the edge, "replicate", what is at the edge, or "circular", from the other end.

    Raises
    ------
    RuntimeError, NotImplementedError
        Where lengths or modes don't fit.

    >>> import tapegrad as tg
    >>> tg.nn.functional.pad(tg.tensor([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect")
    tensor([[3., 2., 1., 2., 3., 2.]])
    """
    if len(pad) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2: {len(pad)}")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(pad)} and input of dimension {input.ndim}: {at(input)}"
        )
    if mode == "constant":
        padded: Tensor = constant_pad_nd(input, pad, 0 if value is None else value)
        return padded
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    k = len(pad) // 2
    if k not in (1, 2, 3) or input.ndim not in (k + 1, k + 2):
        raise NotImplementedError(
            f"Padding size {len(pad)} is not supported for {input.ndim}D input tensor: mode {mode!r}, {at(input)}"
        )
    pairs = [(input.ndim - 1 - i, pad[2 * i], pad[2 * i + 1]) for i in range(k)][::-1]
    for d, before, behind in pairs:
        n = input.shape[d]
        if n + before + behind <= 0 or (n == 0 and (before or behind)):
            raise RuntimeError(
                f"input (size {n} at dimension {d}) is too small for padding ({before}, {behind}): {at(input)}"
            )
        if mode == "reflect" and (before >= n or behind >= n):
            raise RuntimeError(
                f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding "
                f"({before}, {behind}) at dimension {d} of input {list(input.shape)}"
            )
        if mode == "circular" and (before > n or behind > n):
            raise RuntimeError(f"Padding value causes wrapping around more than once: {at(input)}")
        if mode == "circular" and n + before + behind < 0:
            raise RuntimeError(f"Negative padding value is resulting in an empty dimension: {at(input)}")
    padded = _of_places(input, mode, pairs)
    return padded.clone() if padded is input else padded
