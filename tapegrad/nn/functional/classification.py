"""Losses of classes: the targets are their numbers, or a probability for each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad.arguments import node
from tapegrad.batched import Batched, elements
from tapegrad.dtypes import INT64, UINT8
from tapegrad.functions.shaping import cat, contiguous
from tapegrad.nn.functional.chunked import LinearCrossEntropyOptions, losses_in_chunks, losses_of_rows
from tapegrad.nn.functional.common import (
    at,
    chosen,
    elementwise,
    floating,
    legacy,
    public,
    reduced,
    reductions,
    taken,
    where,
)
from tapegrad.nn.functional.linear import linear
from tapegrad.recording import cast
from tapegrad.tensor import Tensor, from_array

log, softplus = (elementwise[n] for n in ("log", "softplus"))


def _classes(
    input: Tensor, target: Tensor, weight: Tensor | None, shape: tuple[int, ...] | None = None
) -> Tensor:  # fmt: skip
    """The targets, integers that fit to [C], [N, C] or [N, C, d1, ...], in int64: to `input`, or what has a `shape`."""
    shape = tuple(input.shape) if shape is None else shape
    if not shape:
        raise ValueError(f"Expected 1 or more dimensions (got {input.ndim}): {at(input, target)}")
    n_classes = shape[0] if len(shape) == 1 else shape[1]
    if len(shape) == 1:
        if target.ndim > 1:
            raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: {at(input, target)}")
        if target.ndim == 1 and target.shape[0] != 1:
            raise RuntimeError(
                f"size mismatch (got input: {list(shape)}, target: {list(target.shape)}): {at(input, target)}"
            )
    else:
        if not target.ndim or shape[0] != target.shape[0]:
            given = target.shape[0] if target.ndim else "none"
            raise ValueError(
                f"Expected input batch_size ({shape[0]}) to match target batch_size ({given}): {at(input, target)}"
            )
        wanted = (shape[0], *shape[2:])
        if target.shape != wanted:
            if len(shape) == 2:
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
    factors = None if weight is None else taken(weight, classes)
    loss = -taken(log_p, positions)
    if factors is not None:
        loss = loss * factors
    if smoothing:
        of_all = log_p.reshape(outer, n, inner)
        of_all = -(of_all if weight is None else of_all * weight.reshape(-1, 1)).sum(1)
        if reduction != "none" and not every:
            of_all = taken(of_all, np.flatnonzero(kept))
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


def _of_rows(
    losses: Callable[[np.ndarray], Tensor], logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int,
    reduction: str, n: int,
) -> Tensor:  # fmt: skip
    """The cross entropy of `n` classes with rows of logits, or what they come from: `losses` has one for each class."""
    classes = target._array().reshape(-1)
    kept = classes != ignore_index
    _check_in_range(classes[kept], n, logits, target)
    every = bool(kept.all())
    classes = np.where(kept, classes, 0)  # a copy: the elements are the target's
    loss = losses(classes)
    factors = None if weight is None else taken(weight, classes).reshape(target.shape)
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
            made = _of_rows(
                lambda classes: losses_of_rows(contiguous(input), classes, target.shape),
                input, target, weight, ignore_index, reduction, input.shape[-1],
            )  # fmt: skip
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

    `linear_weight` is [C, in] or [C, d1, ..., in]. With `options`, `nn.LinearCrossEntropyOptions`, the batch is gone
    through in chunks, and no more than a chunk's logits are in memory at a time: of classes given by their numbers,
    without smoothing.

    >>> import tapegrad as tg
    >>> x, weight, classes = tg.ones(2, 3), tg.eye(4, 3), tg.tensor([0, 3])
    >>> tg.nn.functional.linear_cross_entropy(x, weight, classes)
    tensor(1.7143)
    >>> tg.nn.functional.cross_entropy(x @ weight.T, classes)
    tensor(1.7143)
    """
    if options is not None and not isinstance(options, LinearCrossEntropyOptions):
        raise TypeError(f"options must be a LinearCrossEntropyOptions, not {type(options).__name__}")
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
    ignored = -100 if ignore_index is None else ignore_index
    if options is not None:
        is_batched = any(t.__class__ is Batched for t in (input, linear_weight, target, linear_bias, weight))
        if len(shape) == 1 and not label_smoothing and target.dtype is INT64 and not is_batched:
            return _chunked(input, linear_weight, target, linear_bias, weight, reduction, ignored, options)
        warnings.warn(
            "linear_cross_entropy: ``options`` ignored; chunks are of classes given by int64 numbers, without "
            f"label_smoothing (given: {label_smoothing}), outside of vmap, with a weight [C, in]: "
            f"{at(linear_weight, target)}",
            stacklevel=3,
        )
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = linear(input, linear_weight.reshape(-1, linear_weight.shape[-1]), bias)
    logits = logits.reshape(*input.shape[:-1], *shape)
    result: Tensor = cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
    )
    return result


def _chunked(
    input: Tensor, linear_weight: Tensor, target: Tensor, bias: Tensor | None, weight: Tensor | None, reduction: str,
    ignore_index: int, options: LinearCrossEntropyOptions,
) -> Tensor:  # fmt: skip
    n, features = linear_weight.shape
    target = _classes(input, target, weight, (*input.shape[:-1], n))
    rows = input.reshape(-1, features)
    samples = options.samples(len(rows), features, n)

    def losses(classes: np.ndarray) -> Tensor:
        parts = losses_in_chunks(rows, linear_weight, bias, classes, samples)
        return cat(parts).reshape(target.shape)

    return _of_rows(losses, input, target, weight, ignore_index, reduction, n)


def _rows_and_targets(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, np.ndarray]:
    """`input` as [N, C], and what targets there are."""
    valid = (input.ndim == 2 and input.shape[1] != 0) or (input.ndim < 2 and input.numel() != 0)
    if not valid:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}: "
            f"{at(input, target)}"
        )
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

    >>> import tapegrad as tg
    >>> tg.nn.functional.multi_margin_loss(tg.tensor([[0.5, 0.2]]), tg.tensor([0]))
    tensor(0.3500)
    """
    reduction = chosen(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError(f"only p == 1 and p == 2 supported, not {p}")
    if weight is not None and weight.ndim != 1:
        raise ValueError(f"weight must be one-dimensional: {at(input, target, weight)}")
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
    slack = (margin - taken(rows, np.arange(len(classes))[:, None] * n + classes) + rows).relu()
    slack = slack * slack if p == 2 else slack
    slack = where(from_array(np.arange(n) == classes), 0.0, slack)
    if weight is not None:
        slack = slack * taken(weight, classes)
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

    >>> import tapegrad as tg
    >>> tg.nn.functional.multilabel_margin_loss(tg.tensor([[0.1, 0.2, 0.4, 0.8]]), tg.tensor([[3, 0, -1, 1]]))
    tensor(0.8500)
    """
    reduction = chosen(size_average, reduce, reduction)
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
    of_targets = taken(rows, np.arange(len(classes))[:, None] * n + places)
    slack = (1 - of_targets.unsqueeze(2) + rows.unsqueeze(1)).relu()
    loss = where(from_array(np.ascontiguousarray(counts)), slack, 0.0).sum((1, 2)) / n
    return reduced(loss if input.ndim == 2 else loss.reshape(()), reduction)


@public
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The mean over the last dimension of the cross entropies of logits and targets from 0 to 1.

    >>> import tapegrad as tg
    >>> tg.nn.functional.multilabel_soft_margin_loss(tg.tensor([[1.0, -1.0]]), tg.tensor([[1.0, 0.0]]))
    tensor(0.3133)
    """
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


__all__ = [
    "cross_entropy", "linear_cross_entropy", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "nll_loss",
]  # fmt: skip
