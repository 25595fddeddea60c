"""Sequences of different lengths in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.tensor import Tensor

_cat: Any = shaping["cat"]
_stack: Any = shaping["stack"]


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Stack sequences [length, ...], padded to the longest: [longest, batch, ...], or the batch first.

    >>> import tapegrad as tg
    >>> tg.nn.utils.rnn.pad_sequence([tg.ones(2), tg.ones(1)], batch_first=True)
    tensor([[1., 1.],
            [1., 0.]])
    """
    longest, padded = max(len(t) for t in sequences), []
    for t in sequences:
        rest = creation.full((longest - len(t), *t.shape[1:]), padding_value, dtype=t.dtype)
        padded.append(_cat([t, rest] if padding_side == "right" else [rest, t]))
    return _stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences again."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(rows, lengths.tolist(), strict=True)]


__all__ = ["pad_sequence", "unpad_sequence"]
