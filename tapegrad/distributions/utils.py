"""What distributions of one's own are written with, as in `torch.distributions.utils`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad.creation import randn
from tapegrad.distributions import operations as tg
from tapegrad.distributions.distribution import lazy_property, operand, sum_rightmost
from tapegrad.tensor import Tensor


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors, arrays and numbers as tensors of one shape.

    >>> import tapegrad as tg
    >>> tg.distributions.utils.broadcast_all(tg.ones(2), 0.5)
    (tensor([1., 1.]), tensor([0.5000, 0.5000]))
    """
    made: tuple[Tensor, ...] = tuple(tg.broadcast_tensors(*(operand(value) for value in values)))
    return made


_sum_rightmost = sum_rightmost  # under the name that transforms of others import


def _standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Numbers of the normal distribution, for `rsample` of others."""
    return randn(*shape, dtype=dtype, device=device)


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities that are away from 0 and 1 by the dtype's eps."""
    eps = float(np.finfo(probs.dtype.numpy).eps)
    made: Tensor = probs.clamp(eps, 1 - eps)
    return made


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """The probabilities of logits: of events one by one, or of the alternatives along the last dimension."""
    return tg.sigmoid(logits) if is_binary else tg.softmax(logits, -1)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """The logits of probabilities, which are clamped, as PyTorch's are."""
    clamped = clamp_probs(probs)
    return tg.log(clamped) - tg.log1p(-clamped) if is_binary else tg.log(clamped)


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """The lower triangles of matrices whose elements are given row by row, in the last dimension."""
    k = vec.shape[-1]
    n = int((-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * k + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2)
    if len(np.tril_indices(n, diag)[0]) != k:
        raise ValueError(
            f"The size of last dimension is {k} which cannot be expressed as the lower triangular part of a square "
            "D x D matrix."
        )
    places = np.tril_indices(n, diag)
    flat = tg.zeros(*vec.shape[:-1], n, n, dtype=vec.dtype)
    flat[(..., *places)] = vec
    return flat


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The elements of lower triangles, row by row."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    made: Tensor = mat[(..., *np.tril_indices(n, diag))]
    return made


__all__ = [
    "broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits", "tril_matrix_to_vec",
    "vec_to_tril_matrix",
]  # fmt: skip
