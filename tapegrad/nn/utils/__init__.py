"""What is done with all parameters, or gradients, of a model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

from tapegrad import creation, namesakes
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import Parameter
from tapegrad.nn.utils import parametrizations, parametrize, prune, rnn
from tapegrad.nn.utils.norms import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
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
    """Set all elements from one vector.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> layer = tg.nn.Linear(2, 1)
    >>> utils.vector_to_parameters(tg.arange(3.0), layer.parameters())
    >>> layer.weight.detach(), layer.bias.detach()
    (tensor([[0., 1.]]), tensor([2.]))
    """
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
    """The norm of all elements of some tensors together.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> utils.get_total_norm([tg.tensor([3.0]), tg.tensor([0.0, 4.0])])
    tensor(5.)
    """
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
    """Scale all gradients by a norm that is known.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> w = tg.nn.Parameter(tg.zeros(2))
    >>> w.grad = tg.tensor([3.0, 4.0])
    >>> utils.clip_grads_with_norm_([w], 1.0, tg.tensor(5.0))
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    del foreach
    factor = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    for g in _gradients(parameters):
        in_grad_mode(current_tape(), False, g.mul_, factor.to(g.dtype))


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Clip all gradients to between `-clip_value` and `clip_value`.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> w = tg.nn.Parameter(tg.zeros(2))
    >>> w.grad = tg.tensor([0.5, -7.0])
    >>> utils.clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([ 0.5000, -1.0000])
    """
    del foreach
    for g in _gradients(parameters):
        in_grad_mode(current_tape(), False, g.clamp_, -float(clip_value), float(clip_value))


def skip_init(module_cls: Callable[..., Module], *args: Any, **kwargs: Any) -> Module:
    """Make a module whose first values don't matter; they are drawn all the same.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> utils.skip_init(tg.nn.Linear, 2, 3)
    Linear(in_features=2, out_features=3, bias=True)
    """
    return module_cls(*args, **kwargs)


def fuse_conv_bn_weights(
    conv_w: Tensor, conv_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor | None,
    bn_b: Tensor | None, transpose: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The weight and bias of a convolution that gives what one and a batch normalisation behind it give together.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> mean, variance = tg.ones(1), tg.full((1,), 4.0)
    >>> weight, bias = utils.fuse_conv_bn_weights(tg.ones(1, 1, 2), None, mean, variance, 0.0, None, None)
    >>> weight.detach(), bias.detach()  # halved, and less half of the mean
    (tensor([[[0.5000, 0.5000]]]), tensor([-0.5000]))
    """
    scale = (bn_rv + bn_eps).rsqrt()
    scale = scale if bn_w is None else scale * bn_w
    shape = [1] * conv_w.ndim
    shape[1 if transpose else 0] = -1
    bias = (-bn_rm if conv_b is None else conv_b - bn_rm) * scale
    bias = bias if bn_b is None else bias + bn_b
    weight = (conv_w * scale.reshape(shape)).to(conv_w.dtype)
    return Parameter(weight, conv_w.requires_grad), Parameter(bias, conv_w.requires_grad)


def fuse_linear_bn_weights(
    linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor, bn_b: Tensor
) -> tuple[Tensor, Tensor]:
    """The weight and bias of a linear layer that gives what one and a batch normalisation behind it give together.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> mean, variance = tg.zeros(2), tg.full((2,), 4.0)
    >>> weight, _ = utils.fuse_linear_bn_weights(tg.eye(2), None, mean, variance, 0.0, tg.ones(2), tg.zeros(2))
    >>> weight.detach()
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _fused(layer: Any, bn: Any, transpose: bool) -> Any:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("Fusion needs the running mean and variance of the batch normalisation")
    fused = copy.deepcopy(layer)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A convolution that gives what one and a batch normalisation behind it give together, in `eval` mode.

    >>> import tapegrad as tg
    >>> conv, norm = tg.nn.Conv1d(2, 3, 2).eval(), tg.nn.BatchNorm1d(3).eval()
    >>> x = tg.ones(1, 2, 4)
    >>> tg.allclose(tg.nn.utils.fuse_conv_bn_eval(conv, norm)(x), norm(conv(x)), atol=1e-6)
    True
    """
    return _fused(conv, bn, transpose)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A linear layer that gives what one and a batch normalisation behind it give together, in `eval` mode.

    >>> import tapegrad as tg
    >>> from tapegrad.nn import utils
    >>> layer, norm, x = tg.nn.Linear(2, 3).eval(), tg.nn.BatchNorm1d(3).eval(), tg.ones(1, 2)
    >>> fused = utils.fuse_linear_bn_eval(layer, norm)
    >>> tg.allclose(fused(x), norm(layer(x)))
    True
    """
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1")
    return _fused(linear, bn, False)


__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "fuse_conv_bn_eval", "fuse_conv_bn_weights",
    "fuse_linear_bn_eval", "fuse_linear_bn_weights", "get_total_norm", "parameters_to_vector", "parametrizations",
    "parametrize", "prune", "remove_spectral_norm", "remove_weight_norm", "rnn", "skip_init", "spectral_norm",
    "vector_to_parameters", "weight_norm",
]  # fmt: skip

namesakes.add_namesakes(__name__, "clip_grad convert_parameters fusion", __name__)  # a module each, in PyTorch
namesakes.add_namesakes(__name__, "stateless", "tapegrad.func")
