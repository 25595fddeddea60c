"""Softmax over very many classes, of which the rare ones are in clusters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn.containers import ModuleList, Sequential
from tapegrad.nn.layers import Linear
from tapegrad.nn.module import Module
from tapegrad.tensor import Tensor, describe, location

_cat: Any = shaping["cat"]


class ASMoutput(NamedTuple):
    """The log-probability of each target, and their mean, negative."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax of frequent classes and of clusters of rare ones (Grave et al. 2017).

    Parameters
    ----------
    in_features, n_classes : int
        How many features a sample has, and how many classes there are, the most frequent first.
    cutoffs : sequence of int
        The first class of each cluster.
    div_value : float
        Each cluster's features are so many times fewer than the one's before.
    head_bias : bool
        Whether the head, which knows the frequent classes and the clusters, has a bias.

    >>> import tapegrad as tg
    >>> layer = tg.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10])
    >>> output, loss = layer(tg.ones(3, 8), tg.tensor([1, 7, 19]))
    >>> output.shape, layer.log_prob(tg.ones(3, 8)).shape
    (tapegrad.Size([3]), tapegrad.Size([3, 20]))
    """

    def __init__(
        self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0, head_bias: bool = False,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if cutoffs != sorted({int(c) for c in cutoffs}) or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1:
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                "value is between 1 and n_classes-1"
            )
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for i, (first, end) in enumerate(itertools.pairwise(self.cutoffs)):
            n = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, n, False, device, dtype), Linear(n, end - first, False, device, dtype)
                )
            )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw values anew."""
        self.head.reset_parameters()
        for narrowed, spread in self.tail:
            narrowed.reset_parameters()
            spread.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> ASMoutput:
        """(log-probabilities of the targets, the loss) of [batch, features] and [batch], or one of these."""
        if target.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.ndim == 1 and len(input) != len(target):
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if input.ndim != target.ndim + 1:
            raise RuntimeError(
                f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with size "
                f"{input.shape}: {describe(input, target)}, at {location()}"
            )
        is_batch = target.ndim == 1
        x, classes = (input, target) if is_batch else (input[None], target[None])
        wanted = np.array(classes.tolist(), np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.n_classes:
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range [{wanted.min()}, "
                f"{wanted.max()}] were found. "
            )
        cluster = np.searchsorted(self.cutoffs, wanted, "right")  # 0 are the frequent ones
        in_head = np.where(cluster == 0, wanted, self.shortlist_size + cluster - 1)
        output = F.log_softmax(self.head(x), dim=1).gather(1, creation.tensor(in_head)[:, None]).squeeze(1)
        for i, tail in enumerate(self.tail):
            if rows := np.flatnonzero(cluster == i + 1).tolist():
                places = creation.tensor(wanted[rows] - self.cutoffs[i])[:, None]
                found = F.log_softmax(tail(x[rows]), dim=1).gather(1, places).squeeze(1)
                output = output.index_add(0, creation.tensor(rows), found)
        return ASMoutput(output if is_batch else output[0], -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes, [batch, classes]."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, tail in enumerate(self.tail):
            of_cluster = head[:, self.shortlist_size + i]
            parts.append(F.log_softmax(tail(input), dim=1) + of_cluster[:, None])
        return _cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The class of the largest probability, for each sample."""
        return self.log_prob(input).argmax(1)


__all__ = ["AdaptiveLogSoftmaxWithLoss"]
