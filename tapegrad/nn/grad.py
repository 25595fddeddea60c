"""The gradients of convolutions as functions of their own, under the names of `torch.nn.grad`.

A convolution is linear in its input, and in its weights: the gradient by one depends on the other alone, so that any
value, zeros here, may stand for the one by which is differentiated.

>>> import tapegrad as tg
>>> tg.nn.grad.conv1d_input((1, 1, 3), tg.tensor([[[1.0, 2.0]]]), tg.ones(1, 1, 2))
tensor([[[1., 3., 2.]]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegrad import autograd, creation
from tapegrad.nn import functional
from tapegrad.tensor import Tensor


def _by(of: Tensor, convolved: Callable[[Tensor], Tensor], shape: Any, grad_output: Tensor) -> Tensor:
    """The gradient by a tensor of this shape and the dtype of the other, differentiable where grad mode is on."""
    is_recorded = autograd.is_grad_enabled()
    with autograd.enable_grad():
        x = creation.zeros(tuple(shape), dtype=of.dtype, requires_grad=True)
        (found,) = autograd.grad(convolved(x), x, grad_output, create_graph=is_recorded)
    return found


def _of(conv: Callable[..., Tensor]) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    name = conv.__name__

    def by_input(
        input_size: Any, weight: Tensor, grad_output: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:  # fmt: skip
        return _by(weight, lambda x: conv(x, weight, None, stride, padding, dilation, groups), input_size, grad_output)

    def by_weight(
        input: Tensor, weight_size: Any, grad_output: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:  # fmt: skip
        return _by(input, lambda w: conv(input, w, None, stride, padding, dilation, groups), weight_size, grad_output)

    for function, what in ((by_input, "input"), (by_weight, "weight")):
        function.__name__ = function.__qualname__ = f"{name}_{what}"
        function.__doc__ = f"The gradient of `nn.functional.{name}` by its {what}, given that of its result."
    return by_input, by_weight


conv1d_input, conv1d_weight = _of(functional.conv1d)
conv2d_input, conv2d_weight = _of(functional.conv2d)
conv3d_input, conv3d_weight = _of(functional.conv3d)

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]
