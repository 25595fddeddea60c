"""Losses of probabilities and of distances: compositions of what is exact at extremes, `softplus` and the like."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from tapegrad.arguments import Number, node
from tapegrad.functions.distances import pairwise_distance
from tapegrad.nn.functional.common import (
    at,
    check_reduction,
    chosen,
    elementwise,
    floating,
    floored,
    legacy,
    public,
    reduced,
    warn_of_sizes,
    where,
)
from tapegrad.recording import broadcast_shapes, cast, promoted
from tapegrad.tensor import Tensor

exp, log, log1p, softplus, minimum = (elementwise[n] for n in ("exp", "log", "log1p", "softplus", "minimum"))


# --- of probabilities -------------------------------------------------------------------------------------------------


def _check_units(name: str, x: Tensor) -> None:
    if not bool(((x.detach() >= 0) & (x.detach() <= 1)).all()):
        raise RuntimeError(f"all elements of {name} should be between 0 and 1: {at(x)}")


@public
@node("BinaryCrossEntropyBackward0")
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """-(target log(input) + (1 - target) log(1 - input)), for probabilities; logarithms are at least -100.

    Raises
    ------
    ValueError
        Where the shapes differ.
    RuntimeError
        Where an element is not from 0 to 1.

    >>> import tapegrad as tg
    >>> tg.nn.functional.binary_cross_entropy(tg.tensor([0.5]), tg.tensor([1.0]))
    tensor(0.6931)
    """
    reduction = chosen(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. "
            f"Please ensure they have the same size. {at(input, target)}"
        )
    if weight is not None:
        broadcast_shapes("binary_cross_entropy", [target, weight])
    floating("binary_cross_entropy", input)
    _check_same("binary_cross_entropy", input, target)
    _check_units("input", input)
    _check_units("target", target)
    of_input, of_rest = log(input), log1p(-input)
    loss = -(target * of_input.clamp_min(-100) + (1 - target) * of_rest.clamp_min(-100))
    # Where a logarithm is cut off, the slope points away from the wrong end, as PyTorch's does.
    cut = (of_input < -100) | (of_rest < -100)
    loss = loss + where(cut, (input - input.detach()) * ((input - target).detach() * 1e12), 0.0)
    return reduced(loss if weight is None else loss * weight, reduction)


def _check_same(name: str, input: Tensor, target: Tensor) -> None:
    if target.dtype is not input.dtype:
        raise RuntimeError(
            f"Found dtype {target.dtype.scalar_type} but expected {input.dtype.scalar_type}: {name}, "
            f"{at(input, target)}"
        )


@public
@node("BinaryCrossEntropyWithLogitsBackward0")
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean", pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """`binary_cross_entropy` of sigmoid(input), exact where that is 0 or 1 to the last bit.

    `pos_weight` is a factor of what belongs to targets of 1; it broadcasts, as `weight` does.

    >>> import tapegrad as tg
    >>> tg.nn.functional.binary_cross_entropy_with_logits(tg.tensor([-1000.0]), tg.tensor([1.0]))
    tensor(1000.)
    """
    reduction = chosen(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape}): {at(input, target)}"
        )
    floating("log_sigmoid_cpu", input)
    positive = target if pos_weight is None else pos_weight * target
    loss = positive * softplus(-input) + (1 - target) * softplus(input)
    return reduced(loss if weight is None else loss * weight, reduction)


@public
def kl_div(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", log_target: bool = False,
) -> Tensor:  # fmt: skip
    """The Kullback-Leibler divergence: target (log(target) - input), `input` being log-probabilities.

    With `log_target` the target is logarithms too. `reduction` may be "batchmean" as well: the sum over input.shape[0].

    >>> import tapegrad as tg
    >>> p, q = tg.tensor([0.5, 0.5]), tg.tensor([0.25, 0.75])
    >>> tg.nn.functional.kl_div(q.log(), p, reduction="sum")
    tensor(0.1438)
    """
    if size_average is None and reduce is None and reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
            "only by the batch size, and aligns with the KL div math definition.",
            stacklevel=3,
        )
    reduction = legacy(size_average, reduce, reduction)
    check_reduction("sum" if reduction == "batchmean" else reduction)
    if not (input.dtype.is_floating_point and target.dtype.is_floating_point):
        raise RuntimeError(f"kl_div: Integral inputs not supported. {at(input, target)}")
    if log_target:
        loss = exp(target) * (target - input)
    else:
        loss = target * log(where(target == 0, 1.0, target)) - target * input
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()
    return reduced(loss, reduction)


@public
def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, size_average: bool | None = None,
    eps: float = 1e-8, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The negative log-likelihood of counts: exp(input) - target input; without `log_input` of the rate itself.

    With `full`, Stirling's approximation of log(target!) is added where the target is above 1.

    >>> import tapegrad as tg
    >>> tg.nn.functional.poisson_nll_loss(tg.tensor([0.0]), tg.tensor([2.0]))
    tensor(1.)
    """
    reduction = chosen(size_average, reduce, reduction)
    loss = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        above = where(target > 1, target, 1.0)
        stirling = above * log(above) - above + 0.5 * log(2 * math.pi * above)
        loss = loss + where(target > 1, stirling, 0.0)
    return reduced(loss, reduction)


@public
def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Number | Tensor, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """The negative log-likelihood of normal numbers with mean `input` and variance `var`, which is at least `eps`.

    Raises
    ------
    ValueError
        Where a variance is negative, or `var` has neither the shape of `input` nor a length of 1 at the end.

    >>> import tapegrad as tg
    >>> tg.nn.functional.gaussian_nll_loss(tg.tensor([0.0]), tg.tensor([2.0]), tg.tensor([1.0]))
    tensor(2.)
    """
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * input.detach().new_ones(input.shape)
    elif bool((var.detach() < 0).any()):
        raise ValueError(f"var has negative entry/entries: {at(var)}")
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif not (
            input.ndim == var.ndim and sum(v for x, v in zip(input.shape, var.shape, strict=True) if x != v) == 1
        ):
            raise ValueError(f"var is of incorrect size: {at(input, var)}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    limited = floored(var, eps)
    loss = 0.5 * (log(limited) + (input - target) ** 2 / limited)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# --- of distances -----------------------------------------------------------------------------------------------------


def _of_differences(
    name: str, input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, over_weights: bool,
    make: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    warn_of_sizes(name, input, target)
    shape = broadcast_shapes(name, [input, target])
    own = input.dtype
    if own is not target.dtype:  # one of no dimensions counts for the dtype too
        input, target = input.expand(*shape), target.expand(*shape)
        if name != "l1_loss":  # which has a difference's errors
            dtype = promoted([input, target])
            input, target = cast(input, dtype), cast(target, dtype)
    if weight is not None and weight.shape != input.shape:
        raise ValueError(f"Weights and input must have the same size: {at(input, target, weight)}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction: expected one of 'none', 'mean', 'sum'")
    if name != "l1_loss":
        floating(name.replace("_loss", "_cpu"), input)
    loss = make(input - target)
    if name == "huber_loss" and own.is_floating_point:
        loss = cast(loss, own)
    if weight is None:
        return reduced(loss, reduction)
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" and over_weights else reduced(loss, reduction)


@public
@node("MseLossBackward0")
def mse_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The squared differences; with `weight` their weighted mean.

    >>> import tapegrad as tg
    >>> tg.nn.functional.mse_loss(tg.tensor([1.0, 3.0]), tg.tensor([0.0, 0.0]))
    tensor(5.)
    """
    reduction = legacy(size_average, reduce, reduction)
    return _of_differences("mse_loss", input, target, weight, reduction, True, lambda d: d * d)


@public
def l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The absolute differences; with `weight` their weighted mean.

    >>> import tapegrad as tg
    >>> tg.nn.functional.l1_loss(tg.tensor([1.0, 4.0]), tg.zeros(2))
    tensor(2.5000)
    """
    reduction = legacy(size_average, reduce, reduction)
    return _of_differences("l1_loss", input, target, weight, reduction, True, lambda d: d.abs())


@public
@node("SmoothL1LossBackward0")
def smooth_l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", beta: float = 1.0,
) -> Tensor:  # fmt: skip
    """The absolute difference less beta / 2, but squared over 2 beta where it is below beta.

    >>> import tapegrad as tg
    >>> tg.nn.functional.smooth_l1_loss(tg.tensor([0.5, 3.0]), tg.zeros(2))
    tensor(1.3125)
    """
    reduction = legacy(size_average, reduce, reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta: {beta}")

    def make(d: Tensor) -> Tensor:
        size = d.abs()
        return where(size < beta, (0.5 / beta) * d * d, size - 0.5 * beta) if beta else size

    return _of_differences("smooth_l1_loss", input, target, None, reduction, False, make)


@public
@node("HuberLossBackward0")
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Half the squared difference, but delta (|difference| - delta / 2) beyond delta.

    >>> import tapegrad as tg
    >>> tg.nn.functional.huber_loss(tg.tensor([0.5, 3.0]), tg.zeros(2), reduction="none")
    tensor([0.1250, 2.5000])
    """
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta: {delta}")

    def make(d: Tensor) -> Tensor:
        size = d.abs()
        return where(size < delta, 0.5 * d * d, delta * (size - 0.5 * delta))

    return _of_differences("huber_loss", input, target, weight, reduction, False, make)


@public
@node("SoftMarginLossBackward0")
def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """log(1 + exp(-target input)) for targets of 1 and -1, without overflow.

    >>> import tapegrad as tg
    >>> tg.nn.functional.soft_margin_loss(tg.tensor([0.0, 2.0]), tg.tensor([1.0, 1.0]))
    tensor(0.4100)
    """
    reduction = chosen(size_average, reduce, reduction)
    loss = softplus(-input * target)
    return reduced(cast(loss, input.dtype) if input.dtype.is_floating_point else loss, reduction)


@public
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, margin - target (input1 - input2)): target 1 says that the first should be larger, -1 the second.

    >>> import tapegrad as tg
    >>> tg.nn.functional.margin_ranking_loss(tg.tensor([1.0]), tg.tensor([3.0]), tg.tensor([1.0]))
    tensor(2.)
    """
    reduction = chosen(size_average, reduce, reduction)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
            f"{input1.shape}, input2: {input2.shape}, target: {target.shape}"
        )
    return reduced((margin - target * (input1 - input2)).clamp_min(0), reduction)


@public
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """`input` where the target is 1, max(0, margin - input) where it is -1.

    >>> import tapegrad as tg
    >>> tg.nn.functional.hinge_embedding_loss(tg.tensor([0.5, 0.5]), tg.tensor([1.0, -1.0]))
    tensor(0.5000)
    """
    reduction = chosen(size_average, reduce, reduction)
    apart = where(target != 1, (margin - input).clamp_min(0), 0.0)
    return reduced(apart + where(target != -1, input, 0.0), reduction)


@public
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """1 - cos of vectors where the target is 1, max(0, cos - margin) where it is -1: [N, D] and [N], or [D] and [].

    >>> import tapegrad as tg
    >>> tg.nn.functional.cosine_embedding_loss(tg.tensor([[1.0, 0.0]]), tg.tensor([[0.0, 1.0]]), tg.tensor([1.0]))
    tensor(1.)
    """
    reduction = chosen(size_average, reduce, reduction)
    if target.ndim > 1:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: {at(input1, input2, target)}")
    wanted = target.ndim + 1
    if input1.ndim != wanted or input2.ndim != wanted:
        raise RuntimeError(
            f"{target.ndim}D target tensor expects {wanted}D input tensors, but found inputs with sizes "
            f"{list(input1.shape)} and {list(input2.shape)}."
        )
    dots = (input1 * input2).sum(-1)
    squares = ((input1 * input1).sum(-1) + 1e-12) * ((input2 * input2).sum(-1) + 1e-12)
    cosine = dots / squares.sqrt()
    near, apart = where(target == 1, 1 - cosine, 0.0), where(target == -1, (cosine - margin).clamp_min(0), 0.0)
    return reduced(near + apart, reduction)


@public
def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, margin + |anchor - positive| - |anchor - negative|), in the p-norm over the last dimension.

    With `swap` the negative's distance is that to the nearer of anchor and positive.

    >>> import tapegrad as tg
    >>> tg.nn.functional.triplet_margin_loss(tg.zeros(1, 2), tg.ones(1, 2), tg.tensor([[3.0, 4.0]]))
    tensor(0.)
    """
    reduction = chosen(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, distance: Callable[[Tensor, Tensor], Tensor], margin: float,
    swap: bool, reduction: str,
) -> Tensor:  # fmt: skip
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            f"The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    near, apart = distance(anchor, positive), distance(anchor, negative)
    if swap:
        apart = minimum(apart, distance(positive, negative))
    return reduced((margin + near - apart).clamp_min(0), reduction)


@public
def triplet_margin_with_distance_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, *, distance_function: Any = None, margin: float = 1.0,
    swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """`triplet_margin_loss` with any distance: a function of two tensors, `pairwise_distance` by default.

    >>> import tapegrad as tg
    >>> distance = lambda a, b: (a - b).abs().sum(-1)
    >>> a, near, far = tg.tensor([[0.0]]), tg.tensor([[1.0]]), tg.tensor([[1.5]])
    >>> tg.nn.functional.triplet_margin_with_distance_loss(a, near, far, distance_function=distance)
    tensor(0.5000)
    """
    check_reduction(reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if distance_function is not None and not callable(distance_function):
        raise TypeError(f"distance_function must be a function of two Tensors, not {type(distance_function).__name__}")
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "gaussian_nll_loss",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss",
    "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip
