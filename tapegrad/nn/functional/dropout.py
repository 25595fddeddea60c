"""Dropout: what is dropped is drawn when it is recorded, from the generator that `tapegrad.manual_seed` starts."""

from __future__ import annotations

import math
import warnings

from tapegrad import creation
from tapegrad.nn.functional.common import at, finished, public, where
from tapegrad.tensor import Tensor

_LOWEST = -1.7580993408473766  # where selu goes to: -scale alpha


def _check(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _dropped(name: str, x: Tensor, p: float, training: bool, inplace: bool, whole: bool, alpha: bool) -> Tensor:
    """Elements, or with `whole` channels, that are dropped: made 0, or what keeps mean and variance of selu's."""
    if not training or p == 0.0 or not x.numel():
        return x
    if whole and x.ndim < 2:
        raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input: {at(x)}")
    kept = creation.rand(*(x.shape[:2] + (1,) * (x.ndim - 2) if whole else x.shape), dtype="float32") >= p
    if not alpha:
        scale = 1 / (1 - p) if p < 1 else 0.0
        return finished(name, x, lambda t: where(kept, t * scale, 0.0), inplace)
    scale = 1 / math.sqrt((_LOWEST * _LOWEST * p + 1) * (1 - p)) if p < 1 else 0.0
    shift = -scale * p * _LOWEST
    return finished(name, x, lambda t: where(kept, t * scale + shift, scale * _LOWEST + shift), inplace)


@public
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements made 0 with probability p, the others divided by 1 - p; `input` itself where it is no training.

    Raises
    ------
    ValueError
        Where `p` is no probability.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.dropout(tg.ones(1000)).mean() < 1.1
    tensor(True)
    """
    _check(p)
    return _dropped("dropout_", input, p, training, inplace, False, False)


@public
def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [N, C, L] or [C, L].

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.dropout1d(tg.ones(1, 4, 2))[0]
    tensor([[2., 2.],
            [2., 2.],
            [2., 2.],
            [0., 0.]])
    """
    _check(p)
    if input.ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input: {at(input)}")
    return _of_channels("dropout1d_", input, p, training, inplace, 3)


@public
def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [N, C, H, W].

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.dropout2d(tg.ones(1, 5, 2, 2)).sum((2, 3))
    tensor([[8., 8., 8., 0., 0.]])
    """
    _check(p)
    if input.ndim not in (3, 4):
        warnings.warn(
            f"dropout2d: Received a {input.ndim}-D input to dropout2d, which is deprecated and will result in an error "
            "in a future release. To retain the behavior and silence this warning, please use dropout instead.",
            stacklevel=3,
        )
    if input.ndim == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired "
            "- input is interpreted as shape (N, C, L), where C is the channel dim.",
            stacklevel=3,
        )
    return _dropped("dropout2d_", input, p, training, inplace, True, False)


@public
def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of [N, C, D, H, W] or [C, D, H, W].

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.dropout3d(tg.ones(1, 5, 2, 2, 2)).sum((2, 3, 4))
    tensor([[16., 16., 16.,  0.,  0.]])
    """
    _check(p)
    if input.ndim not in (4, 5):
        warnings.warn(
            f"dropout3d: Received a {input.ndim}-D input to dropout3d, which is deprecated and will result in an error "
            "in a future release. To retain the behavior and silence this warning, please use dropout instead.",
            stacklevel=3,
        )
    return _of_channels("dropout3d_", input, p, training, inplace, 5)


def _of_channels(name: str, x: Tensor, p: float, training: bool, inplace: bool, ndim: int) -> Tensor:
    if x.ndim == ndim:
        return _dropped(name, x, p, training, inplace, True, False)
    dropped = _dropped(name, x.unsqueeze(0), p, training, inplace, True, False)  # a view: written to in place
    return x if inplace else dropped.squeeze(0)


@public
def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps the mean and the variance of what `selu` gives.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.alpha_dropout(tg.zeros(4), training=True)
    tensor([ 0.7792,  0.7792,  0.7792, -0.7792])
    """
    _check(p)
    return _dropped("alpha_dropout_", input, p, training, inplace, False, True)


@public
def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.feature_alpha_dropout(tg.zeros(1, 4, 2), training=True)[0]
    tensor([[ 0.7792,  0.7792],
            [ 0.7792,  0.7792],
            [ 0.7792,  0.7792],
            [-0.7792, -0.7792]])
    """
    _check(p)
    return _dropped("feature_alpha_dropout_", input, p, training, inplace, True, True)
