"""First values of parameters: functions that write to a tensor, unrecorded, and return it."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor, depth_of_user

__all__ = [
    "calculate_gain", "constant", "constant_", "dirac", "dirac_", "eye", "eye_", "kaiming_normal",
    "kaiming_normal_", "kaiming_uniform", "kaiming_uniform_", "normal", "normal_", "ones_", "orthogonal",
    "orthogonal_", "sparse", "sparse_", "trunc_normal_", "uniform", "uniform_", "xavier_normal", "xavier_normal_",
    "xavier_uniform", "xavier_uniform_", "zeros_",
]  # fmt: skip


def _written(t: Tensor, values: np.ndarray) -> Tensor:
    made = creation.tensor(np.ascontiguousarray(values, t.dtype.numpy), dtype=t.dtype)
    in_grad_mode(current_tape(), False, t.copy_, made)
    return t


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """How much a nonlinearity's input may be larger, for its output to vary as much as a linear function's.

    >>> import tapegrad as tg
    >>> round(tg.nn.init.calculate_gain("leaky_relu", 0.2), 4)
    1.3868
    """
    if nonlinearity in ("linear", "sigmoid", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
                        "conv_transpose3d"):  # fmt: skip
        return 1
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity in gains:
        return gains[nonlinearity]
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Random numbers between `a` and `b`.

    >>> import tapegrad as tg
    >>> w = tg.nn.init.uniform_(tg.empty(1000), -2.0, 3.0)
    >>> w.min() >= -2.0, w.max() < 3.0
    (tensor(True), tensor(True))
    """
    return _written(tensor, creation.random(generator).uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Random numbers of a normal distribution.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.init.normal_(tg.empty(10_000), mean=5.0, std=2.0).std().round(decimals=1)
    tensor(2.)
    """
    return _written(tensor, creation.random(generator).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Random numbers of a normal distribution, between `a` and `b`.

    >>> import tapegrad as tg
    >>> tg.nn.init.trunc_normal_(tg.empty(1000), std=1.0, a=-0.5, b=0.5).abs().max() <= 0.5
    tensor(True)
    """
    from scipy import special

    low, high = (special.ndtr((bound - mean) / std) for bound in (a, b))
    drawn = special.ndtri(creation.random(generator).uniform(low, high, tensor.shape)) * std + mean
    return _written(tensor, np.clip(drawn, a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same number everywhere.

    >>> import tapegrad as tg
    >>> tg.nn.init.constant_(tg.empty(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    return _written(tensor, np.full(tensor.shape, val))


def ones_(tensor: Tensor) -> Tensor:
    """Ones.

    >>> import tapegrad as tg
    >>> tg.nn.init.ones_(tg.empty(2))
    tensor([1., 1.])
    """
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros.

    >>> import tapegrad as tg
    >>> tg.nn.init.zeros_(tg.empty(2))
    tensor([0., 0.])
    """
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix.

    >>> import tapegrad as tg
    >>> tg.nn.init.eye_(tg.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _written(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution that passes channels on.

    >>> import tapegrad as tg
    >>> w = tg.nn.init.dirac_(tg.empty(2, 2, 3))
    >>> tg.nn.functional.conv1d(tg.tensor([[[1.0, 2.0], [3.0, 4.0]]]), w, padding=1)
    tensor([[[1., 2.],
             [3., 4.]]])
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    values, n = np.zeros(tensor.shape), tensor.shape[0] // groups
    middle = tuple(k // 2 for k in tensor.shape[2:])
    for g in range(groups):
        for d in range(min(n, tensor.shape[1])):
            values[(g * n + d, d, *middle)] = 1.0
    return _written(tensor, values)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many numbers one output is made of, and one input goes into."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    size = math.prod(tensor.shape[2:])
    return tensor.shape[1] * size, tensor.shape[0] * size


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode.lower()} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode.lower() == "fan_out"]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Glorot and Bengio's (2010): uniform, of variance `2 gain^2 / (fan_in + fan_out)`.

    >>> import tapegrad as tg
    >>> w = tg.nn.init.xavier_uniform_(tg.empty(4, 2))
    >>> bool(w.abs().max() <= 1.0)  # sqrt(6 / (fan_in + fan_out))
    True
    """
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Glorot and Bengio's (2010): normal, of variance `2 gain^2 / (fan_in + fan_out)`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> w = tg.nn.init.xavier_normal_(tg.empty(300, 100))
    >>> w.var().round(decimals=3)  # 2 / (fan_in + fan_out)
    tensor(0.0050)
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def _is_empty(tensor: Tensor) -> bool:
    """Whether there is nothing to be given values, which is told: no fan of it is known."""
    if tensor.numel():
        return False
    warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=depth_of_user())
    return True


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """He et al.'s (2015): uniform, of variance `gain^2 / fan`.

    >>> import tapegrad as tg
    >>> w = tg.nn.init.kaiming_uniform_(tg.empty(4, 6), nonlinearity="relu")
    >>> w.abs().max() <= 1.0  # sqrt(2) sqrt(3 / fan_in)
    tensor(True)
    """
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """He et al.'s (2015): normal, of variance `gain^2 / fan`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> w = tg.nn.init.kaiming_normal_(tg.empty(400, 50), nonlinearity="relu")
    >>> round(w.std().item(), 1)  # sqrt(2 / fan_in)
    0.2
    """
    if _is_empty(tensor):
        return tensor
    return normal_(
        tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode)), generator
    )


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """A random matrix with orthonormal rows or columns (Saxe et al. 2014).

    >>> import tapegrad as tg
    >>> w = tg.nn.init.orthogonal_(tg.empty(3, 3))
    >>> (w.T @ w - tg.eye(3)).abs().max() < 1e-12
    tensor(True)
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(creation.random(generator).normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return _written(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normal numbers, and so large a part of each column zero (Martens 2010).

    >>> import tapegrad as tg
    >>> w = tg.nn.init.sparse_(tg.empty(10, 3), sparsity=0.2)
    >>> (w == 0).sum(0)
    tensor([2, 2, 2])
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rng, n = creation.random(generator), math.ceil(sparsity * tensor.shape[0])
    values = rng.normal(0, std, tensor.shape)
    for column in range(tensor.shape[1]):
        values[rng.permutation(tensor.shape[0])[:n], column] = 0.0
    return _written(tensor, values)


def _older(new: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function by the name that it had before it said that it writes in place."""
    name = new.__name__.rstrip("_")

    @functools.wraps(new)
    def older(*args: Any, **facts: Any) -> Tensor:
        warnings.warn(f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`.", FutureWarning, stacklevel=2)
        return new(*args, **facts)

    older.__name__ = older.__qualname__ = name
    older.__doc__ = f"`{name}_`, by an older name."
    return older


uniform, normal, constant = _older(uniform_), _older(normal_), _older(constant_)
eye, dirac, orthogonal, sparse = _older(eye_), _older(dirac_), _older(orthogonal_), _older(sparse_)
xavier_uniform, xavier_normal = _older(xavier_uniform_), _older(xavier_normal_)
kaiming_uniform, kaiming_normal = _older(kaiming_uniform_), _older(kaiming_normal_)
