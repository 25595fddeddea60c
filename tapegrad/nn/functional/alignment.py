"""Losses of sequences that are shorter than what is predicted: all alignments are summed over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad.functions.shaping import cat
from tapegrad.nn.functional.common import (
    at,
    check_reduction,
    elementwise,
    floating,
    public,
    reduced,
    reductions,
    taken,
    where,
)
from tapegrad.tensor import Tensor, from_array

exp, log = (elementwise[n] for n in ("exp", "log"))


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

    >>> import tapegrad as tg
    >>> even = tg.full((2, 1, 3), 1 / 3)  # of nine sequences, three say 1
    >>> tg.nn.functional.ctc_loss(even.log(), tg.tensor([[1]]), tg.tensor([2]), tg.tensor([1])).exp()
    tensor(3.)
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
    emitted = taken(
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


__all__ = ["ctc_loss"]
