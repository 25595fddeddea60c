"""Losses: compositions of what is exact at extremes, `log_softmax` and `softplus`, and of gathered targets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad.arguments import Number, node
from tapegrad.batched import Batched, elements
from tapegrad.dtypes import INT64, UINT8
from tapegrad.functions.distances import pairwise_distance
from tapegrad.functions.shaping import cat, contiguous
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
    reductions,
    warn_of_sizes,
    where,
)
from tapegrad.nn.functional.linear import linear
from tapegrad.ops import indexing
from tapegrad.ops.reduction import _cross_entropy
from tapegrad.recording import broadcast_shapes, cast, promoted, record_array
from tapegrad.tensor import Tensor, from_array

exp, log, log1p, softplus, minimum = (elementwise[n] for n in ("exp", "log", "log1p", "softplus", "minimum"))


def _taken(x: Tensor, positions: np.ndarray) -> Tensor:
    """The elements at flat positions, in their shape."""
    where_ = from_array(np.ascontiguousarray(positions, np.int64).reshape(-1))
    taken: Tensor = indexing.take(contiguous(x), where_, shape=positions.shape)
    return taken


# --- of classes -------------------------------------------------------------------------------------------------------


def _classes(input: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """The targets, integers that fit to [C], [N, C] or [N, C, d1, ...], in int64."""
    if not input.ndim:
        raise ValueError(f"Expected 1 or more dimensions (got {input.ndim}): {at(input, target)}")
    n_classes = input.shape[0] if input.ndim == 1 else input.shape[1]
    if input.ndim == 1:
        if target.ndim > 1:
            raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: {at(input, target)}")
        if target.ndim == 1 and target.shape[0] != 1:
            raise RuntimeError(
                f"size mismatch (got input: {list(input.shape)}, target: {list(target.shape)}): {at(input, target)}"
            )
    else:
        if not target.ndim or input.shape[0] != target.shape[0]:
            given = target.shape[0] if target.ndim else "none"
            raise ValueError(
                f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({given}): "
                f"{at(input, target)}"
            )
        wanted = (input.shape[0], *input.shape[2:])
        if target.shape != wanted:
            if input.ndim == 2:
                raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: {at(input, target)}")
            raise RuntimeError(f"Expected target size {list(wanted)}, got {list(target.shape)}: {at(input, target)}")
    if target.dtype not in (INT64, UINT8):
        raise RuntimeError(
            f"expected target dtype to be Long or Byte, but got {target.dtype.scalar_type}: the targets are class "
            f"indices: {at(input, target)}"
        )
    if weight is not None and (weight.ndim != 1 or weight.numel() != n_classes):
        raise RuntimeError(
            f"weight tensor should be defined either for all {n_classes} classes or no classes but got weight tensor "
            f"of shape: {list(weight.shape)}: {at(input, target)}"
        )
    return cast(target, INT64)


def _check_in_range(classes: np.ndarray, n_classes: int, *operands: Tensor) -> None:
    wrong = (classes < 0) | (classes >= n_classes)
    if wrong.any():
        raise IndexError(f"Target {classes[wrong].flat[0]} is out of bounds: {at(*operands)}")


def _nll(
    log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float = 0.0
) -> Tensor:
    """The negative logarithms of the targets' probabilities; with smoothing, of all classes in part."""
    if target.__class__ is Batched:
        return _nll_of_samples(log_p, target, weight, ignore_index, reduction, smoothing)
    shape = log_p.shape
    outer, n, inner = (1, shape[0], 1) if log_p.ndim == 1 else (shape[0], shape[1], math.prod(shape[2:]))
    classes = target._array().reshape(outer, inner)
    kept = classes != ignore_index
    _check_in_range(classes[kept], n, log_p, target)
    every = bool(kept.all())
    positions = np.arange(outer)[:, None] * (n * inner) + np.arange(inner) + np.where(kept, classes, 0) * inner
    classes = np.where(kept, classes, 0)
    if reduction != "none" and not every:
        positions, classes = positions[kept], classes[kept]
    factors = None if weight is None else _taken(weight, classes)
    loss = -_taken(log_p, positions)
    if factors is not None:
        loss = loss * factors
    if smoothing:
        of_all = log_p.reshape(outer, n, inner)
        of_all = -(of_all if weight is None else of_all * weight.reshape(-1, 1)).sum(1)
        if reduction != "none" and not every:
            of_all = _taken(of_all, np.flatnonzero(kept))
        loss = loss * (1 - smoothing) + of_all * (smoothing / n)
    if reduction == "none":
        loss = loss if every else where(from_array(np.ascontiguousarray(kept)), loss, 0.0)
        return loss.reshape(target.shape)
    if reduction == "mean" and factors is not None:
        return loss.sum() / factors.sum()
    return reduced(loss, reduction)


def _nll_of_samples(
    log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """`_nll` where samples have targets of their own: what doesn't count is masked, since samples differ in it."""
    dim, kept = min(log_p.ndim, 2) - 1, target != ignore_index
    n = log_p.shape[dim]
    numbers, counts = elements(target), elements(kept)
    _check_in_range(numbers[counts], n, log_p, target)
    classes = where(kept, target, 0)
    loss = -log_p.gather(dim, classes.unsqueeze(dim)).squeeze(dim)
    factors = None if weight is None else weight[classes]
    if factors is not None:
        loss = loss * factors
    if smoothing:
        of_all = log_p if weight is None else log_p * weight.reshape(-1, *(1,) * (log_p.ndim - dim - 1))
        loss = loss * (1 - smoothing) - of_all.sum(dim) * (smoothing / n)
    loss = where(kept, loss, 0.0)
    if reduction != "mean":
        return loss if reduction == "none" else loss.sum()
    return loss.sum() / (kept.to(loss.dtype) if factors is None else where(kept, factors, 0.0)).sum()


def _of_rows(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    """The cross entropy of classes with rows of logits, which are gone through once each way."""
    n, classes = logits.shape[-1], target._array().reshape(-1)
    kept = classes != ignore_index
    _check_in_range(classes[kept], n, logits, target)
    every, rows = bool(kept.all()), len(classes)
    classes = np.where(kept, classes, 0)  # a copy: the elements are the target's
    at = from_array(np.arange(rows) * n + classes)
    loss = record_array(_cross_entropy, target.shape, logits.dtype, contiguous(logits), at, params=(rows, n))
    factors = None if weight is None else _taken(weight, classes).reshape(target.shape)
    if factors is not None:
        loss = loss * factors
    if every and factors is None:
        return reduced(loss, reduction)
    counted = from_array(kept.reshape(target.shape))
    loss = loss if every else where(counted, loss, 0.0)
    if reduction != "mean":
        return reduced(loss, reduction)
    total = counted.to(loss.dtype) if factors is None else factors if every else where(counted, factors, 0.0)
    return loss.sum() / total.sum()


@public
@node("NllLossBackward0")
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The negative log-likelihood of classes: minus the target's element of `input`, which holds log-probabilities.

    Parameters
    ----------
    input
        [C], [N, C] or [N, C, d1, ...].
    target
        Class indices, int64, without the dimension C.
    weight
        A factor for each class; the mean is over their sum.
    ignore_index
        Targets that count for nothing.

    Raises
    ------
    ValueError, RuntimeError, IndexError
        Where shapes or dtypes don't fit; where an index is out of range.

    >>> import tapegrad as tg
    >>> tg.nn.functional.nll_loss(tg.tensor([[-1.0, -2.0]]), tg.tensor([1]))
    tensor(2.)
    """
    reduction = chosen(size_average, reduce, reduction)
    target = _classes(input, target, weight)
    floating("nll_loss_out_frame", input)
    return _nll(input, target, weight, ignore_index, reduction)


@public
def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """The cross entropy of logits and targets: `nll_loss` of `log_softmax`, without overflow.

    Parameters
    ----------
    input
        Logits, [C], [N, C] or [N, C, d1, ...].
    target
        Class indices, as in `nll_loss`; or probabilities, in the shape of `input`.
    weight
        A factor for each class.
    label_smoothing
        How much of a target is spread over all classes, 0 to 1.

    Raises
    ------
    ValueError, RuntimeError, IndexError
        Where shapes or dtypes don't fit; where an index is out of range.

    >>> import tapegrad as tg
    >>> tg.nn.functional.cross_entropy(tg.tensor([[0.0, 1000.0]]), tg.tensor([1]))
    tensor(0.)
    """
    reduction = chosen(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = 0 if input.ndim == 1 else 1
    if input.shape != target.shape or not input.ndim:
        target = _classes(input, target, weight)
        if (
            input.ndim <= 2
            and input.dtype.is_floating_point
            and not label_smoothing
            and target.__class__ is not Batched
        ):
            made = _of_rows(input, target, weight, ignore_index, reduction)
        else:
            log_p = reductions["log_softmax"](input, dim)
            made = _nll(log_p, target, weight, ignore_index, reduction, label_smoothing)
        if not label_smoothing and made.__class__ is Tensor:
            made._called = "NllLossBackward0" if input.ndim <= 2 else "NllLoss2DBackward0"
        return made
    if not target.dtype.is_floating_point:
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got {target.dtype.scalar_type}: "
            f"{at(input, target)}"
        )
    if ignore_index >= 0:
        raise RuntimeError(f"ignore_index is not supported for floating point target: {at(input, target)}")
    n = input.shape[dim]
    if weight is not None and (weight.ndim != 1 or weight.numel() != n):
        raise RuntimeError(
            f"cross_entropy: weight tensor should be defined either for all {n} classes or no classes but got weight "
            f"tensor of shape: {list(weight.shape)}: {at(input, target)}"
        )
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / n
    if weight is not None:
        target = target * weight.reshape(-1, *(1,) * (input.ndim - 1 - dim))
    loss = -(reductions["log_softmax"](input, dim) * target).sum(dim)
    return reduced(loss, reduction)


@public
def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
    weight: Tensor | None = None, reduction: str = "mean", ignore_index: int | None = None,
    label_smoothing: float = 0.0, options: Any = None,
) -> Tensor:  # fmt: skip
    """`cross_entropy` of the logits `linear(input, linear_weight, linear_bias)`.

    `linear_weight` is [C, in] or [C, d1, ..., in].
    """
    if options is not None:
        raise NotImplementedError("linear_cross_entropy(): options are not supported: logits are computed whole")
    if input.ndim not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {input.ndim}: {at(input, linear_weight)}")
    if linear_weight.ndim < 2:
        raise RuntimeError(
            f"linear_weight must have 2 dimensions at least, got {linear_weight.ndim}: {at(linear_weight)}"
        )
    if input.shape[-1] != linear_weight.shape[-1]:
        raise RuntimeError(
            f"expected equal input and linear_weight last dimensions (in_features), got {input.shape[-1]} and "
            f"{linear_weight.shape[-1]}, respectively: {at(input, linear_weight)}"
        )
    shape = linear_weight.shape[:-1]
    if input.ndim == 1 and len(shape) > 1:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, "
            f"(N, {linear_weight.shape[-1]}), got unbatched: {at(input, linear_weight)}"
        )
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = linear(input, linear_weight.reshape(-1, linear_weight.shape[-1]), bias)
    logits = logits.reshape(*input.shape[:-1], *shape)
    ignored = -100 if ignore_index is None else ignore_index
    result: Tensor = cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
    )
    return result


def _rows_and_targets(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, np.ndarray]:
    """`input` as [N, C], and what targets there are."""
    if target.dtype is not INT64:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.scalar_type}: {name}, {at(target)}")
    rows = input.reshape(1, -1) if input.ndim < 2 else input
    return rows, target._array()


@public
@node("MultiMarginLossBackward0")
def multi_margin_loss(
    input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
    size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The hinge loss of many classes: the mean of max(0, margin - input[target] + input[i]) ** p, i not the target.

    `input` is [N, C] or [C], `target` are class indices, `p` is 1 or 2.
    """
    reduction = chosen(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError(f"only p == 1 and p == 2 supported, not {p}")
    if weight is not None and weight.ndim != 1:
        raise ValueError(f"weight must be one-dimensional: {at(input, target, weight)}")
    valid = (input.ndim == 2 and input.shape[1] != 0) or (input.ndim < 2 and input.numel() != 0)
    if not valid:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}: "
            f"{at(input, target)}"
        )
    rows, classes = _rows_and_targets("multi_margin_loss", input, target)
    if target.ndim > 1 or target.numel() != rows.shape[0]:
        raise RuntimeError(
            f"inconsistent target size: target tensor should be 1-D with size equal to the batch size. Expected target "
            f"size {[rows.shape[0]]}, but got {list(target.shape)}: {at(input, target)}"
        )
    n = rows.shape[1]
    if weight is not None and weight.numel() != n:
        raise RuntimeError(f"inconsistent weight size, expected {[n]} but got {list(weight.shape)}")
    floating("multi_margin_loss_cpu", input)
    classes = classes.reshape(-1, 1)
    if ((classes < 0) | (classes >= n)).any():
        raise RuntimeError(f"target out of range: {at(input, target)}")
    slack = (margin - _taken(rows, np.arange(len(classes))[:, None] * n + classes) + rows).relu()
    slack = slack * slack if p == 2 else slack
    slack = where(from_array(np.arange(n) == classes), 0.0, slack)
    if weight is not None:
        slack = slack * _taken(weight, classes)
    loss = slack.sum(1) / n
    return reduced(loss if input.ndim == 2 else loss.reshape(target.shape), reduction)


@public
@node("MultilabelMarginLossBackward0")
def multilabel_margin_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The hinge loss of several classes at once: those that stand in `target` before the first -1.

    `input` and `target` are [N, C] or [C]: max(0, 1 - input[t] + input[i]) over C, for all targets t and others i.
    """
    reduction = chosen(size_average, reduce, reduction)
    valid = (input.ndim == 2 and input.shape[1] != 0) or (input.ndim < 2 and input.numel() != 0)
    if not valid:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}: "
            f"{at(input, target)}"
        )
    rows, classes = _rows_and_targets("multilabel_margin_loss", input, target)
    if target.shape != input.shape and not (input.ndim < 2 and target.ndim < 2 and target.numel() == input.numel()):
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    floating("multilabel_margin_loss_forward_out_frame", input)
    classes = classes.reshape(rows.shape)
    n = rows.shape[1]
    meant = np.cumprod(classes >= 0, axis=1).astype(bool)
    if ((classes < -1) | (classes >= n)).any():
        raise RuntimeError(f"target out of range: {at(input, target)}")
    places = np.where(meant, classes, 0)
    is_target = np.zeros(classes.shape, bool)
    np.put_along_axis(is_target, places, True, 1)
    is_target &= (meant[:, :, None] & (places[:, :, None] == np.arange(n))).any(1)
    counts = meant[:, :, None] & ~is_target[:, None, :]
    of_targets = _taken(rows, np.arange(len(classes))[:, None] * n + places)
    slack = (1 - of_targets.unsqueeze(2) + rows.unsqueeze(1)).relu()
    loss = where(from_array(np.ascontiguousarray(counts)), slack, 0.0).sum((1, 2)) / n
    return reduced(loss if input.ndim == 2 else loss.reshape(()), reduction)


@public
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The mean over the last dimension of the cross entropies of logits and targets from 0 to 1."""
    reduction = legacy(size_average, reduce, reduction)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    if not input.ndim:
        raise IndexError(f"Dimension out of range: input has no dimensions, multilabel_soft_margin_loss, {at(input)}")
    floating("log_sigmoid_cpu", input)
    loss = target * softplus(-input) + (1 - target) * softplus(input)
    if weight is not None:
        loss = loss * weight
    return reduced(loss.sum(-1) / input.shape[-1], reduction)


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
    ValueError, RuntimeError
        Where the shapes differ; where an element is not from 0 to 1.

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
    """The absolute differences; with `weight` their weighted mean."""
    reduction = legacy(size_average, reduce, reduction)
    return _of_differences("l1_loss", input, target, weight, reduction, True, lambda d: d.abs())


@public
@node("SmoothL1LossBackward0")
def smooth_l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", beta: float = 1.0,
) -> Tensor:  # fmt: skip
    """The absolute difference less beta / 2, but squared over 2 beta where it is below beta."""
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
    """Half the squared difference, but delta (|difference| - delta / 2) beyond delta."""
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
    """log(1 + exp(-target input)) for targets of 1 and -1, without overflow."""
    reduction = chosen(size_average, reduce, reduction)
    loss = softplus(-input * target)
    return reduced(cast(loss, input.dtype) if input.dtype.is_floating_point else loss, reduction)


@public
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, margin - target (input1 - input2)): target 1 says that the first should be larger, -1 the second."""
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
    """`input` where the target is 1, max(0, margin - input) where it is -1."""
    reduction = chosen(size_average, reduce, reduction)
    apart = where(target != 1, (margin - input).clamp_min(0), 0.0)
    return reduced(apart + where(target != -1, input, 0.0), reduction)


@public
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """1 - cos of vectors where the target is 1, max(0, cos - margin) where it is -1: [N, D] and [N], or [D] and []."""
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
    """`triplet_margin_loss` with any distance: a function of two tensors, `pairwise_distance` by default."""
    check_reduction(reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if distance_function is not None and not callable(distance_function):
        raise TypeError(f"distance_function must be a function of two Tensors, not {type(distance_function).__name__}")
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


# --- of sequences -----------------------------------------------------------------------------------------------------


def _lengths(name: str, given: Any, n: int) -> np.ndarray:
    lengths = np.asarray(given._array() if isinstance(given, Tensor) else given).reshape(-1)
    if not np.issubdtype(lengths.dtype, np.integer):
        raise RuntimeError(f"{name} must be integral")
    if lengths.size != n:
        raise RuntimeError(f"{name} must be of size batch_size: {lengths.size} given for a batch of {n}")
    return lengths.astype(np.int64)


@public
def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Connectionist temporal classification: minus the log-probability of all alignments of the targets.

    Parameters
    ----------
    log_probs
        Log-probabilities of the classes, [T, N, C] or [T, C].
    targets
        Classes, [N, S], or of all sequences one after the other.
    input_lengths, target_lengths
        The lengths of the N sequences, ints or tensors of them.
    blank
        The class that stands for none.
    zero_infinity
        Whether losses of targets that are too long are 0, not infinite.

    Notes
    -----
    The recursion is that of Graves et al. (2006), in logarithms. "mean" divides each loss by its target's length first.
    The gradient is that by the log-probabilities as they are; PyTorch's has a term more, which `log_softmax` cancels.
    """
    check_reduction(reduction)
    floating("ctc_loss_cpu", log_probs)
    if log_probs.ndim not in (2, 3):
        raise RuntimeError(f"Expected log_probs of 2 or 3 dimensions, but got {log_probs.ndim}: {at(log_probs)}")
    single = log_probs.ndim == 2
    steps = log_probs.unsqueeze(1) if single else log_probs
    n_steps, n, n_classes = steps.shape
    if not 0 <= blank < n_classes:
        raise RuntimeError(f"blank must be in label range: {blank} of {n_classes} classes")
    if targets.dtype.category != 1:
        raise RuntimeError(f"targets must be integral: {at(targets)}")
    of_input, of_target = (
        _lengths(s, v, n) for s, v in (("input_lengths", input_lengths), ("target_lengths", target_lengths))
    )
    if (of_input > n_steps).any() or (of_input < 0).any():
        raise RuntimeError(f"Expected input_lengths to have value at most {n_steps}, but got value {of_input.max()}")
    if (of_target < 0).any():
        raise RuntimeError(f"Expected target_lengths to be non-negative, but got value {of_target.min()}")
    longest = int(of_target.max(initial=0))
    labels = np.full((n, longest), blank, np.int64)
    given = targets._array()
    if given.ndim == 1 and not (single and given.size == longest):
        if of_target.sum() > given.size:
            raise RuntimeError(f"Expected targets to hold {of_target.sum()} classes, but got {given.size}")
        starts = np.concatenate([[0], np.cumsum(of_target)])
        rows = [given[starts[i] : starts[i + 1]] for i in range(n)]
    else:
        rows = list(given.reshape(n, -1))
        if len(rows[0] if rows else rows) < longest:
            raise RuntimeError(
                f"Expected tensor to have size at least {longest} at dimension 1, but got size {len(rows[0])}"
            )
    for i in range(n):
        labels[i, : of_target[i]] = rows[i][: of_target[i]]
    if ((labels < 0) | (labels >= n_classes)).any():
        raise RuntimeError(f"targets must be classes from 0 to {n_classes - 1}: {at(targets)}")
    states = np.full((n, 2 * longest + 1), blank, np.int64)  # a blank before and behind each label
    states[:, 1::2] = labels
    emitted = _taken(
        steps,
        (np.arange(n_steps)[:, None, None] * n + np.arange(n)[None, :, None]) * n_classes + states[None],
    )
    loss = _ctc_recursion(emitted, states, blank, of_input, of_target)
    if zero_infinity:
        loss = where(loss == math.inf, 0.0, loss)
    loss = loss.reshape(()) if single else loss
    if reduction == "mean":
        lengths = from_array(np.maximum(of_target, 1).astype(log_probs.dtype.numpy)).reshape(loss.shape)
        return reductions["mean"](loss / lengths)
    return reduced(loss, reduction)


def _ctc_recursion(
    emitted: Tensor, states: np.ndarray, blank: int, of_input: np.ndarray, of_target: np.ndarray
) -> Tensor:
    """Minus the logarithm of the sum over all paths; `emitted` is [T, N, states]."""
    n_steps, n, n_states = emitted.shape
    in_front = emitted.new_full((n, 2), -math.inf)
    skips = np.zeros(states.shape, bool)  # from a label to the next, if that is another
    skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    may_skip = from_array(skips)
    begins = from_array(np.broadcast_to(np.arange(n_states) < 2, states.shape).copy())
    ends = from_array(
        (np.arange(n_states) == 2 * of_target[:, None]) | (np.arange(n_states) == 2 * of_target[:, None] - 1)
    )
    alpha = last = where(begins, emitted[0], -math.inf)
    for t in range(1, n_steps):
        before = cat([in_front, alpha], 1)
        ways = [alpha, before[:, 1 : 1 + n_states], where(may_skip, before[:, :n_states], -math.inf)]
        alpha = _log_sum(ways) + emitted[t]
        running = of_input > t
        last = alpha if running.all() else where(from_array(running[:, None].copy()), alpha, last)
    total = reductions["logsumexp"](where(ends, last, -math.inf), 1)
    if (of_input == 0).any():
        empty = np.where(of_target == 0, 0.0, -math.inf).astype(emitted.dtype.numpy)
        total = where(from_array(of_input == 0), from_array(empty), total)
    return -total


def _log_sum(terms: list[Tensor]) -> Tensor:
    """log(sum of exp), elementwise; -inf, with a gradient of 0, where all are."""
    first, *others = terms
    most = first.detach()
    for term in others:
        most = elementwise["maximum"](most, term.detach())
    shift = where(most == -math.inf, 0.0, most)
    total = exp(first - shift)
    for term in others:
        total = total + exp(term - shift)
    return log(total) + shift


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy", "ctc_loss",
    "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "linear_cross_entropy",
    "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip
