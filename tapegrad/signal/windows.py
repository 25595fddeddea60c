"""Windows, under the names of `torch.signal.windows`: symmetric, unless `sym` is False."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.arguments import Number, checked
from tapegrad.devices import check_device
from tapegrad.dtypes import DType
from tapegrad.functions.filling import of_cosines, of_kaiser, window
from tapegrad.tensor import Tensor


def _of_one_shape(name: str, shape: Callable[[np.ndarray], Any], said: str, shown: str) -> Callable[..., Tensor]:
    def made(
        M: int, *, sym: bool = True, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        check_device(device)
        return window(f"signal.windows.{name}", shape, M, not sym, dtype, requires_grad)

    made.__name__ = name
    made.__doc__ = f"""{said}

    >>> import tapegrad as tg
    >>> tg.signal.windows.{name}(7)[1:-1]
    {shown}
    """
    taken: Callable[..., Tensor] = checked(made)
    return taken


bartlett = _of_one_shape(
    "bartlett",
    lambda t: 1.0 - abs(t),
    "Bartlett's window: a triangle.",
    "tensor([0.3333, 0.6667, 1.0000, 0.6667, 0.3333])",
)
blackman = _of_one_shape(
    "blackman",
    of_cosines(0.42, 0.5, 0.08),
    "Blackman's window: `0.42 - 0.5 cos + 0.08 cos 2`, of angles from 0 to 2 pi.",
    "tensor([0.1300, 0.6300, 1.0000, 0.6300, 0.1300])",
)
hann = _of_one_shape(
    "hann",
    of_cosines(0.5, 0.5),
    "Hann's window: `0.5 - 0.5 cos`, of angles from 0 to 2 pi.",
    "tensor([0.2500, 0.7500, 1.0000, 0.7500, 0.2500])",
)
nuttall = _of_one_shape(
    "nuttall",
    of_cosines(0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "Nuttall's window (1981), of least side lobes: a sum of four cosines.",
    "tensor([0.0613, 0.5292, 1.0000, 0.5292, 0.0613])",
)


@checked
def cosine(
    M: int, *, sym: bool = True, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Half a period of the cosine, at the middles of M intervals.

    >>> import tapegrad as tg
    >>> tg.signal.windows.cosine(5)
    tensor([0.3090, 0.8090, 1.0000, 0.8090, 0.3090])
    """
    check_device(device)
    whole = M + (not sym)
    half = (whole - 1) / max(whole, 1)
    return window("signal.windows.cosine", lambda t: np.cos(np.pi / 2 * t * half), M, not sym, dtype, requires_grad)


@checked
def exponential(
    M: int, *, center: Number | None = None, tau: float = 1.0, sym: bool = True, dtype: DType | None = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-|k - center| / tau).

    >>> import tapegrad as tg
    >>> tg.signal.windows.exponential(5, tau=2.0)
    tensor([0.3679, 0.6065, 1.0000, 0.6065, 0.3679])
    """
    check_device(device)
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    whole = M + (not sym)
    middle = (whole - 1) / 2

    def shape(t: np.ndarray) -> np.ndarray:
        away: np.ndarray = np.exp(-abs((t + 1) * middle - (middle if center is None else center)) / tau)
        return away

    return window("signal.windows.exponential", shape, M, not sym, dtype, requires_grad)


@checked
def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-(k / std) ** 2 / 2), k from the middle.

    >>> import tapegrad as tg
    >>> tg.signal.windows.gaussian(5)
    tensor([0.1353, 0.6065, 1.0000, 0.6065, 0.1353])
    """
    check_device(device)
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    middle = (M + (not sym) - 1) / 2
    return window(
        "signal.windows.gaussian", lambda t: np.exp(-((t * middle / std) ** 2) / 2), M, not sym, dtype, requires_grad
    )


@checked
def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Kaiser's window, of Bessel's function I0.

    >>> import tapegrad as tg
    >>> tg.signal.windows.kaiser(5, beta=5.0)
    tensor([0.0367, 0.5529, 1.0000, 0.5529, 0.0367])
    """
    check_device(device)
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return window("signal.windows.kaiser", of_kaiser(beta), M, not sym, dtype, requires_grad)


@checked
def general_cosine(
    M: int, *, a: Sequence[float], sym: bool = True, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A sum of cosines with these weights.

    >>> import tapegrad as tg
    >>> tg.signal.windows.general_cosine(5, a=[0.5, 0.5])  # Hann's
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """
    check_device(device)
    if not isinstance(a, (tuple, list)):
        raise TypeError("Coefficients must be a list/tuple")
    if not a:
        raise ValueError("Coefficients cannot be empty")
    return window("signal.windows.general_cosine", of_cosines(*a), M, not sym, dtype, requires_grad)


@checked
def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: DType | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Hamming's window with any weights: alpha - (1 - alpha) cos.

    >>> import tapegrad as tg
    >>> tg.signal.windows.general_hamming(4, alpha=0.5, sym=False)  # a period of Hann's
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    check_device(device)
    shape = of_cosines(alpha, 1.0 - alpha)
    return window("signal.windows.general_hamming", shape, M, not sym, dtype, requires_grad)


hamming = _of_one_shape(
    "hamming",
    of_cosines(0.54, 0.46),
    "Hamming's window: `0.54 - 0.46 cos`, of angles from 0 to 2 pi.",
    "tensor([0.3100, 0.7700, 1.0000, 0.7700, 0.3100])",
)
__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann",
    "kaiser", "nuttall",
]  # fmt: skip
