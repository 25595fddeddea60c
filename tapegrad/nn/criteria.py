"""Losses with parameters of their own: a linear layer and its cross entropy, and softmax in clusters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn.containers import ModuleList, Sequential
from tapegrad.nn.functional.chunked import LinearCrossEntropyOptions
from tapegrad.nn.layers import Linear
from tapegrad.nn.module import Module
from tapegrad.tensor import Tensor

_cat: Any = shaping["cat"]


class LinearCrossEntropyLoss(Module):
    """The cross entropy of what a linear layer makes of the input: see `nn.functional.linear_cross_entropy`.

    >>> import tapegrad as tg
    >>> loss = tg.nn.LinearCrossEntropyLoss(4, 3)
    >>> loss(tg.ones(2, 4), tg.tensor([0, 2])).shape
    tapegrad.Size([])
    """

    def __init__(
        self, in_features: int, num_classes: int, *, out_features: tuple[int, ...] = (), bias: bool = False,
        device: Any = None, dtype: Any = None, reduction: str = "mean", weight: Tensor | None = None,
        ignore_index: int | None = None, label_smoothing: float = 0.0, options: Any = None,
    ) -> None:  # fmt: skip
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        super().__init__()
        self.register_buffer("weight", weight)
        self.num_classes, self.out_features, self.reduction = num_classes, tuple(out_features), reduction
        self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
        n = math.prod(self.out_features, start=num_classes)
        self.linear = Linear(in_features, n, bias, device, dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """See `Module`."""
        shape, bias = (self.num_classes, *self.out_features), self.linear.bias
        return F.linear_cross_entropy(
            input, self.linear.weight.reshape(*shape, -1), target,
            linear_bias=None if bias is None else bias.reshape(shape), weight=self.weight, reduction=self.reduction,
            ignore_index=self.ignore_index, label_smoothing=self.label_smoothing, options=self.options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """See `Module`."""
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, reduction={self.reduction}, "
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}, options={self.options}"
        )


class ASMoutput(NamedTuple):
    """Log-probabilities of the targets, and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Softmax over many classes, of which few are frequent.

    A head knows the frequent ones and clusters of the others, and each cluster is a softmax of its own: Grave et al.
    (2017), "Efficient softmax approximation for GPUs", section 4.

    Parameters
    ----------
    in_features : int
        Features of the input.
    n_classes : int
        How many classes there are, the most frequent first.
    cutoffs : sequence of int
        Where clusters begin, ascending.
    div_value : float
        By how much each cluster has fewer hidden features than the one before.
    head_bias : bool
        Whether the head has a bias.

    Raises
    ------
    ValueError
        Where cutoffs are not ascending, or out of bounds.
    RuntimeError
        Where a target is no class, or shapes don't agree.

    >>> import tapegrad as tg
    >>> loss = tg.nn.AdaptiveLogSoftmaxWithLoss(8, 10, [2, 5], div_value=2.0)
    >>> loss(tg.ones(3, 8), tg.tensor([0, 4, 9])).output.shape
    tapegrad.Size([3])
    """

    def __init__(
        self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0, head_bias: bool = False,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        is_whole = all(int(c) == c for c in cutoffs)
        if not is_whole or cutoffs != sorted({*cutoffs}) or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1:
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                f"value is between 1 and n_classes-1, not {cutoffs}"
            )
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        facts = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, head_bias, **facts)
        self.tail = ModuleList()
        for i, (start, stop) in enumerate(itertools.pairwise(self.cutoffs), 1):
            hidden = int(in_features // div_value**i)
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, bias=False, **facts), Linear(hidden, stop - start, bias=False, **facts)
                )
            )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw values anew."""
        self.head.reset_parameters()
        for cluster in self.tail:
            for layer in cluster:
                layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        """Log-probabilities of targets, [N] or []; and the mean of what is lost."""
        if target_.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if input_.ndim != target_.ndim + 1:
            raise RuntimeError(
                f"{target_.ndim}D target tensor expects {target_.ndim + 1}D input tensors, but found inputs with size "
                f"{input_.shape}"
            )
        if target_.ndim and input_.shape[0] != target_.shape[0]:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        input, target = (input_, target_) if target_.ndim else (input_.unsqueeze(0), target_.unsqueeze(0))
        if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < self.n_classes:
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{target.min().item()}, {target.max().item()}] were found. "
            )
        in_head = target
        output = creation.zeros_like(input[:, 0])
        for i, (start, stop) in enumerate(itertools.pairwise(self.cutoffs)):
            rows = ((target >= start) & (target < stop)).nonzero().squeeze(1)
            if rows.numel():
                log_probabilities = F.log_softmax(self.tail[i](input[rows]), dim=1)
                output = output.index_add(0, rows, log_probabilities.gather(1, (target[rows] - start)[:, None])[:, 0])
                in_head = in_head.index_fill(0, rows, self.shortlist_size + i)
        output = output + F.log_softmax(self.head(input), dim=1).gather(1, in_head[:, None])[:, 0]
        return ASMoutput(output if target_.ndim else output[0], (-output).mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probabilities of all classes, [N, n_classes]."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            parts.append(F.log_softmax(cluster(input), dim=1) + head[:, self.shortlist_size + i, None])
        whole: Tensor = _cat(parts, 1)
        return whole

    def predict(self, input: Tensor) -> Tensor:
        """The likeliest class of each sample, [N]."""
        return self.log_prob(input).argmax(dim=1)


__all__ = ["AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss", "LinearCrossEntropyOptions"]
