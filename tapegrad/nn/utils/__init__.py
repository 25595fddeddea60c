"""What is done with all parameters, or gradients, of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn.utils import rnn
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor

_cat: Any = shaping["cat"]
_stack: Any = shaping["stack"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements, as one vector.

    >>> import tapegrad as tg
    >>> tg.nn.utils.parameters_to_vector([tg.ones(2), tg.zeros(1, 1)])
    tensor([1., 1., 0.])
    """
    return _cat([t.reshape(-1) for t in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Set all elements from one vector."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected Tensor, but got: {type(vec).__name__}")
    at = 0
    for t in parameters:
        t.data = vec[at : at + t.numel()].reshape(t.shape).detach().clone()
        at += t.numel()


def _gradients(parameters: Any) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [t.grad for t in given if t.grad is not None]


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of all elements of some tensors together."""
    del foreach
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not given:
        return creation.tensor(0.0)
    total = _stack([t.detach().norm(norm_type) for t in given]).norm(norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """Scale all gradients so that their norm together is at most `max_norm`; returns the norm before.

    >>> import tapegrad as tg
    >>> x = tg.zeros(2, requires_grad=True)
    >>> x.grad = tg.tensor([3.0, 4.0])
    >>> tg.nn.utils.clip_grad_norm_([x], 1.0)
    tensor(5.)
    >>> x.grad
    tensor([0.6000, 0.8000])
    """
    found = _gradients(parameters)
    total = get_total_norm(found, float(norm_type), error_if_nonfinite, foreach)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for g in found:
        in_grad_mode(current_tape(), False, g.mul_, factor.to(g.dtype))
    return total


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Tensor, foreach: bool | None = None) -> None:
    """Scale all gradients by a norm that is known."""
    del foreach
    factor = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    for g in _gradients(parameters):
        in_grad_mode(current_tape(), False, g.mul_, factor.to(g.dtype))


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Clip all gradients to between `-clip_value` and `clip_value`."""
    del foreach
    for g in _gradients(parameters):
        in_grad_mode(current_tape(), False, g.clamp_, -float(clip_value), float(clip_value))


__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm", "parameters_to_vector", "rnn",
    "vector_to_parameters",
]  # fmt: skip
