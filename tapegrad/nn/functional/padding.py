"""Padding: a linear map along each dimension that is padded."""

from __future__ import annotations

import functools

import numpy as np

from tapegrad.arguments import Number, Sizes
from tapegrad.nn.functional.common import at, public, where
from tapegrad.nn.functional.mapping import Matrix, along, matrix_of_rows
from tapegrad.tensor import Tensor, from_array


@functools.lru_cache(256)
def _places(mode: str, n: int, before: int, behind: int) -> np.ndarray:
    """The places in n elements that those of the result come from; -1 for none."""
    i = np.arange(-before, n + behind)
    if mode == "constant":
        return np.where((i >= 0) & (i < n), i, -1)
    if mode == "replicate":
        return np.clip(i, 0, n - 1)
    if mode == "circular":
        return i % n
    period = max(2 * (n - 1), 1)
    i = np.abs(i) % period if n > 1 else i * 0
    return np.minimum(i, period - i) if n > 1 else i


@functools.lru_cache(256)
def _matrix(mode: str, n: int, before: int, behind: int) -> Matrix:
    places = _places(mode, n, before, behind)
    rows = [places[i : i + 1] if places[i] >= 0 else places[:0] for i in range(len(places))]
    return matrix_of_rows(rows, [np.ones(len(row)) for row in rows], n)


def _padded(x: Tensor, mode: str, pairs: list[tuple[int, int, int]], value: float) -> Tensor:
    """`pairs` are (dimension, before, behind)."""
    outside: Tensor | None = None
    for d, before, behind in pairs:
        n = x.shape[d]
        if before == behind == 0:
            continue
        if mode == "constant" and before <= 0 and behind <= 0:
            x = x[(slice(None),) * d + (slice(-before, n + behind),)].clone()
            continue
        places = _places(mode, n, before, behind)
        if x.dtype.is_floating_point:
            x = along(x, d, _matrix(mode, n, before, behind))
        elif n:
            x = x[(slice(None),) * d + (np.maximum(places, 0),)]
        else:
            x = x.new_zeros((*x.shape[:d], places.size, *x.shape[d + 1 :]))
        if mode == "constant" and (value != 0 or not x.dtype.is_floating_point):
            here = from_array((places < 0).reshape(-1, *(1,) * (x.ndim - 1 - d)))
            outside = here if outside is None else outside | here
    return x if outside is None else where(outside, value, x).to(x.dtype)


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
    padded = _padded(input, "constant", pairs[::-1], value)
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
    padded = _padded(input, mode, pairs, 0)
    return padded.clone() if padded is input else padded
