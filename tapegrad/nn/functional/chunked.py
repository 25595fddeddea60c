"""The cross entropy of a linear layer in chunks of the batch: the logits of one chunk are there at a time.

A chunk's losses are a `Function` that keeps the chunk and the layer's weight, and computes the logits once more where
derivatives are asked for: memory is that of one chunk, for a second product of matrices.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from tapegrad import engine
from tapegrad.autograd.function import Function
from tapegrad.dtypes import INT64, DType
from tapegrad.nn.functional.common import reductions
from tapegrad.nn.functional.linear import linear
from tapegrad.ops.softmax import _cross_entropy
from tapegrad.recording import of_two_in_one_step, record_array
from tapegrad.tensor import Tensor, from_array, owning

_POLICIES = ("auto", "accurate", "balanced", "compact")


@dataclasses.dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How `nn.functional.linear_cross_entropy` goes through the batch in chunks.

    Parameters
    ----------
    allow_retain_graph
        Taken for PyTorch's sake: here backward may always come again.
    batch_chunk_size
        Samples in a chunk; all where it is None, and so is the method.
    chunking_method
        "aspect_ratio": chunks whose logits have about as many elements as the input; "aspect_ratio:N" divides them by
        N. "auto", the default, is "aspect_ratio:2" where no size is given.
    acc_policy, acc_dtype
        Taken for PyTorch's sake, where they say how half-precision numbers are summed: here sums are of the input's
        dtype.

    Raises
    ------
    ValueError
        Where one of them is none of these.

    >>> import tapegrad as tg
    >>> options = tg.nn.LinearCrossEntropyOptions(batch_chunk_size=2)
    >>> x, w = tg.ones(5, 3), tg.zeros(4, 3)
    >>> tg.nn.functional.linear_cross_entropy(x, w, tg.tensor([0, 1, 2, 3, 0]), options=options)
    tensor(1.3863)
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: DType | None = None

    def __post_init__(self) -> None:
        size: Any = self.batch_chunk_size
        method = self.chunking_method
        if self.acc_policy not in _POLICIES:
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}: it is one of {_POLICIES}")
        if method is not None and method != "auto" and not _divisor(method):
            raise ValueError(f"invalid chunking_method: {method!r}: it is 'auto', 'aspect_ratio' or 'aspect_ratio:2'")
        if size is not None and (not isinstance(size, int) or size <= 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {size!r}")
        if self.acc_dtype is not None and not getattr(self.acc_dtype, "is_floating_point", False):
            raise ValueError(f"acc_dtype must be None or a floating-point dtype, got {self.acc_dtype!r}")

    def samples(self, batch: int, in_features: int, classes: int) -> int:
        """How many samples a chunk has, of so many."""
        method, size = self.chunking_method, self.batch_chunk_size
        if method == "auto":
            method = "aspect_ratio:2" if size is None else None
        if method is None:
            return max(1, min(size or batch, batch))
        wanted = -(-batch // -(-classes // max(in_features, 1)))
        by_method = min((1 << (wanted - 1).bit_length()) // _divisor(method), batch) if wanted > 0 else 0
        if size not in (None, by_method):
            raise ValueError(
                f"batch_chunk_size (={size}) and chunking_method ('{method}') give different chunk sizes ({size} vs "
                f"{by_method}); pass only one."
            )
        return max(1, by_method)


def _divisor(method: str) -> int:
    """What "aspect_ratio:N" divides chunks by; 0 where the method is none."""
    name, colon, n = method.partition(":")
    if name != "aspect_ratio" or (colon and not n.isdigit()):
        return 0
    return int(n) if colon else 1


def losses_of_rows(logits: Tensor, classes: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """For each row of logits minus the log-probability of its class, in a shape."""
    return _losses_at(logits, owning(np.arange(classes.size) * logits.shape[-1] + classes, INT64, False), shape)


@of_two_in_one_step
def _losses_at(logits: Tensor, at: Tensor, shape: tuple[int, ...]) -> Tensor:
    return record_array(_cross_entropy, shape, logits.dtype, logits, at, params=(at.numel(), logits.shape[-1]))


def _now(t: Tensor) -> Tensor:
    """The tensor, computed: so that what it was made of can go before the next chunk comes."""
    engine.evaluate(t._tape, t._slot)
    return t


class _LossesOfChunk(Function):
    """The losses of some samples, whose logits are forgotten."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, classes: np.ndarray) -> Tensor:
        ctx.save_for_backward(input, weight, bias)
        ctx.classes = classes
        return _now(losses_of_rows(linear(input, weight, bias), classes, classes.shape))

    @staticmethod
    def backward(ctx: Any, losses_bar: Tensor) -> Any:
        input, weight, bias = ctx.saved_tensors
        logits_bar = reductions["softmax"](linear(input, weight, bias), 1)
        one = from_array(np.full((len(ctx.classes), 1), -1.0, logits_bar.dtype.numpy))
        logits_bar = logits_bar.scatter_add(1, from_array(ctx.classes.reshape(-1, 1)), one) * losses_bar.unsqueeze(1)
        by_bias = None if bias is None else _now(logits_bar.sum(0))
        return _now(logits_bar @ weight), _now(logits_bar.mT @ input), by_bias, None


def losses_in_chunks(
    input: Tensor, weight: Tensor, bias: Tensor | None, classes: np.ndarray, samples: int
) -> list[Tensor]:  # fmt: skip
    """The losses of samples [N, in], chunk by chunk."""
    ends = [*range(samples, len(classes), samples), len(classes)]
    found: list[Tensor] = [
        _LossesOfChunk.apply(input[lo:hi], weight, bias, classes[lo:hi]) for lo, hi in itertools.pairwise([0, *ends])
    ]
    return found
