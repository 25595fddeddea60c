"""Discrete Fourier transforms between real numbers, under the names of `torch.fft`.

There are no complex numbers here, so of the transforms those are served whose results are real: `irfft` and `hfft`, of
spectra that are real themselves (of what is even), and the shifts and frequencies. They are linear, and differentiable
any number of times.

>>> import tapegrad as tg
>>> tg.fft.irfft(tg.tensor([4.0, 0.0, 0.0]))
tensor([1., 1., 1., 1.])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad import dtypes
from tapegrad.arguments import Dims, checked
from tapegrad.autograd.function import Function
from tapegrad.devices import check_device
from tapegrad.dtypes import DType
from tapegrad.functions.joining import roll
from tapegrad.functions.shaping import cat
from tapegrad.ops.layout import dimension
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, from_array, location

_COMPLEX = "fft fft2 fftn ifft ifft2 ifftn rfft rfft2 rfftn ihfft ihfft2 ihfftn".split()


class _Transform(Function):
    """The sums of a real half spectrum, y[k] = sum of w[j] x[j] cos(2 pi j k / n), or their adjoint."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], lengths: tuple[int, ...], back: bool) -> Tensor:
        ctx.facts = dims, lengths, back
        given, n, last = x.detach().numpy(), lengths[-1], dims[-1]
        if not back:
            made = np.fft.irfftn(given, lengths, dims, norm="forward")
        else:
            # What is neither of frequency 0 nor the highest stands for two frequencies.
            weights = np.full(n // 2 + 1, 2.0)
            weights[0] = weights[n // 2 if n % 2 == 0 else 0] = 1.0
            at = [1] * given.ndim
            at[last] = -1
            made = np.fft.rfftn(given, lengths, dims).real * weights.reshape(at)
        return from_array(np.ascontiguousarray(made, given.dtype))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        dims, lengths, back = ctx.facts
        return _Transform.apply(g, dims, lengths, not back), None, None, None

    @staticmethod
    def jvp(ctx: Any, t: Tensor, *_: Any) -> Any:
        return _Transform.apply(t, *ctx.facts)


def _fitted(x: Tensor, dim: int, n: int) -> Tensor:
    """The first n along a dimension, or with zeros behind."""
    own = x.shape[dim]
    if n <= own:
        return x.narrow(dim, 0, n)
    zeros = x.new_zeros(tuple(n - own if d == dim else m for d, m in enumerate(x.shape)))
    joined: Tensor = cat((x, zeros), dim)
    return joined


def _factor(norm: str | None, count: int, with_count: str) -> float:
    if norm not in (None, "backward", "forward", "ortho"):
        raise RuntimeError(f'Invalid normalization mode: "{norm}", at {location()}')
    if norm == "ortho":
        return 1 / math.sqrt(count)
    return 1 / count if (norm or "backward") == with_count else 1.0


def _real(
    input: Tensor, s: Sequence[int] | None, dim: Sequence[int] | None, norm: str | None, with_count: str
) -> Tensor:
    """The transform over some dimensions, the last of them a half spectrum."""
    x, ndim = input if input.dtype.is_floating_point else cast(input, dtypes.get_default_dtype()), input.ndim
    if dim is None:
        dim = range(ndim) if s is None else range(ndim - len(s), ndim)
        if s is not None and len(s) > ndim:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {ndim} dimensions.")
    dims = tuple(dimension(d, ndim) for d in dim)
    if len({*dims}) < len(dims):
        raise RuntimeError("FFT dims must be unique")
    if s is not None and len(s) != len(dims):
        raise RuntimeError("When given, dim and shape arguments must have the same length")
    if not dims:
        raise RuntimeError("irfftn must transform at least one axis")
    lengths = [x.shape[d] for d in dims]
    lengths[-1] = 2 * (lengths[-1] - 1)
    if s is not None:
        lengths = [own if n == -1 else n for n, own in zip(s, lengths, strict=True)]
    if any(n < 1 for n in lengths):
        raise RuntimeError(f"Invalid number of data points ({min(lengths)}) specified")
    for d, n in zip(dims, (*lengths[:-1], lengths[-1] // 2 + 1), strict=True):
        x = _fitted(x, d, n)
    factor = _factor(norm, math.prod(lengths), with_count)
    made: Tensor = _Transform.apply(x, dims, tuple(lengths), False)
    return made * factor


def _one(n: int | None) -> Sequence[int] | None:
    return None if n is None else (n,)


@checked
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of the transform of real numbers, of a real half spectrum.

    Parameters
    ----------
    n
        The length of the result; twice that of `input` less one is the default.
    norm
        "backward" divides by n, "ortho" by its root, "forward" by nothing.

    Raises
    ------
    RuntimeError
        Where `n` is below 1, or `norm` another.

    >>> import tapegrad as tg
    >>> tg.fft.irfft(tg.tensor([1.0, 0.5]), 3)
    tensor([0.6667, 0.1667, 0.1667])
    """
    return _real(input, _one(n), (dim,), norm, "backward")


@checked
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The transform of what is even: `irfft` that divides by n where `norm` is "forward".

    >>> import tapegrad as tg
    >>> tg.fft.hfft(tg.tensor([1.0, 2.0, 3.0]))
    tensor([ 8., -2.,  0., -2.])
    """
    return _real(input, _one(n), (dim,), norm, "forward")


@checked
def irfft2(input: Tensor, s: Dims | None = None, dim: Dims = (-2, -1), norm: str | None = None) -> Tensor:
    """`irfftn` over two dimensions, the last ones if not others are given.

    >>> import tapegrad as tg
    >>> tg.fft.irfft2(tg.ones(2, 2))
    tensor([[1., 0.],
            [0., 0.]])
    """
    return _real(input, _several(s), _several(dim), norm, "backward")


@checked
def hfft2(input: Tensor, s: Dims | None = None, dim: Dims = (-2, -1), norm: str | None = None) -> Tensor:
    """`hfftn` over two dimensions, the last ones if not others are given.

    >>> import tapegrad as tg
    >>> tg.fft.hfft2(tg.ones(2, 2), s=(2, 2))
    tensor([[4., 0.],
            [0., 0.]])
    """
    return _real(input, _several(s), _several(dim), norm, "forward")


@checked
def irfftn(input: Tensor, s: Dims | None = None, dim: Dims | None = None, norm: str | None = None) -> Tensor:
    """`irfft` over several dimensions, all if none are given; `s` are the lengths of the result.

    >>> import tapegrad as tg
    >>> tg.fft.irfftn(tg.ones(2, 2), s=(2, 2))
    tensor([[1., 0.],
            [0., 0.]])
    """
    return _real(input, _several(s), _several(dim), norm, "backward")


@checked
def hfftn(input: Tensor, s: Dims | None = None, dim: Dims | None = None, norm: str | None = None) -> Tensor:
    """`hfft` over several dimensions, all if none are given; `s` are the lengths of the result.

    >>> import tapegrad as tg
    >>> tg.fft.hfftn(tg.ones(2, 2), s=(2, 2))
    tensor([[4., 0.],
            [0., 0.]])
    """
    return _real(input, _several(s), _several(dim), norm, "forward")


def _several(dims: Any) -> Any:
    return (dims,) if isinstance(dims, int) else dims


@checked
def fftshift(input: Tensor, dim: Dims | None = None) -> Tensor:
    """Moved on by half of each length: the frequency 0 comes to the middle.

    >>> import tapegrad as tg
    >>> tg.fft.fftshift(tg.fft.fftfreq(4))
    tensor([-0.5000, -0.2500,  0.0000,  0.2500])
    """
    dims = tuple(range(input.ndim) if dim is None else _several(dim))
    return roll(input, tuple(input.shape[d] // 2 for d in dims), dims) if dims else input.clone()


@checked
def ifftshift(input: Tensor, dim: Dims | None = None) -> Tensor:
    """The inverse of `fftshift`.

    >>> import tapegrad as tg
    >>> tg.fft.ifftshift(tg.arange(5))
    tensor([2, 3, 4, 0, 1])
    """
    dims = tuple(range(input.ndim) if dim is None else _several(dim))
    return roll(input, tuple(-(input.shape[d] // 2) for d in dims), dims) if dims else input.clone()


@checked
def fftfreq(
    n: int, d: float = 1.0, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """The frequencies of n samples that are `d` apart.

    >>> import tapegrad as tg
    >>> tg.fft.fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    return _frequencies(np.fft.fftfreq(n, d), dtype, device, requires_grad)


@checked
def rfftfreq(
    n: int, d: float = 1.0, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Those of a half spectrum, which are not negative.

    >>> import tapegrad as tg
    >>> tg.fft.rfftfreq(4)
    tensor([0.0000, 0.2500, 0.5000])
    """
    return _frequencies(np.fft.rfftfreq(n, d), dtype, device, requires_grad)


def _frequencies(values: np.ndarray, dtype: DType | None, device: Any, requires_grad: bool) -> Tensor:
    check_device(device)
    made: Tensor = cast(from_array(values), dtype or dtypes.get_default_dtype())
    return made.detach().requires_grad_(requires_grad)


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **facts: Any) -> Any:
        """Raise NotImplementedError: the result would be complex."""
        raise NotImplementedError(
            f"fft.{name}(): its result is complex, and tapegrad's numbers are real: at {location()}. In functions that "
            "Numba has jitted, tg.func differentiates complex numbers too"
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


for _name in _COMPLEX:
    globals()[_name] = _refusing(_name)

__all__ = [
    "fftfreq", "fftshift", "hfft", "hfft2", "hfftn", "ifftshift", "irfft", "irfft2", "irfftn", "rfftfreq"
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
