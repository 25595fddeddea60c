"""Sequences of different lengths in one tensor."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

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
    if not isinstance(sequences, (Sequence, Tensor)):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    if not len(sequences):
        raise RuntimeError("received an empty list of sequences: there is none to pad")
    longest, padded = max(len(t) for t in sequences), []
    for t in sequences:
        rest = creation.full((longest - len(t), *t.shape[1:]), padding_value, dtype=t.dtype)
        padded.append(_cat([t, rest] if padding_side == "right" else [rest, t]))
    return _stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences again.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import rnn
    >>> rnn.unpad_sequence(tg.tensor([[1.0, 3.0], [2.0, 0.0]]), tg.tensor([2, 1]))
    [tensor([1., 2.]), tensor([3.])]
    """
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(rows, lengths.tolist(), strict=True)]


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences of different lengths without padding, step after step, the longest sequence first in each.

        sequences a b c / d e / f      data a d f  b e  c      batch_sizes 3 2 1

    Parameters
    ----------
    data : Tensor
        [sum of lengths, ...].
    batch_sizes : Tensor of int64
        How many sequences have each step.
    sorted_indices : Tensor of int64, optional
        Which sequence of those given is first, second and so on here.
    unsorted_indices : Tensor of int64, optional
        Where each of those given is here.

    >>> import tapegrad as tg
    >>> tg.nn.utils.rnn.pack_sequence([tg.tensor([1, 2, 3]), tg.tensor([4, 5])]).data
    tensor([1, 4, 2, 5, 3])
    """

    __slots__ = ()

    def __new__(
        cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None
    ) -> PackedSequence:
        """See the class."""
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise AssertionError("PackedSequence takes data and batch_sizes")
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _converted(self, data: Tensor) -> PackedSequence:
        return type(self)(data, *self[1:])

    def to(self, *args: Any, **facts: Any) -> PackedSequence:
        """With data of another dtype."""
        return self._converted(self.data.to(*args, **facts))

    def double(self) -> PackedSequence:
        """With data in float64."""
        return self._converted(self.data.double())

    def float(self) -> PackedSequence:
        """With data in float32."""
        return self._converted(self.data.float())

    def long(self) -> PackedSequence:
        """With data in int64."""
        return self._converted(self.data.long())

    def int(self) -> PackedSequence:
        """With data in int32."""
        return self._converted(self.data.int())

    def cpu(self) -> PackedSequence:
        """Itself: it is there."""
        return self

    @property
    def is_cuda(self) -> bool:
        """False."""
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes one; None of None.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import rnn
    >>> rnn.invert_permutation(tg.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    return None if permutation is None else permutation.argsort()


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Leave the padding out of sequences in one tensor.

    Parameters
    ----------
    input : Tensor
        [time, batch, ...], or [batch, time, ...] with `batch_first`.
    lengths : Tensor or sequence of int
        The length of each sequence.
    batch_first : bool
        How `input` is laid out.
    enforce_sorted : bool
        The sequences must be sorted by length, the longest first; else they are sorted here.

    Raises
    ------
    RuntimeError
        Where lengths are not as many as sequences, not positive, or not sorted.

    >>> import tapegrad as tg
    >>> packed = tg.nn.utils.rnn.pack_padded_sequence(tg.tensor([[1, 2], [3, 0]]), [2, 1], batch_first=True)
    >>> packed.data, packed.batch_sizes
    (tensor([1, 3, 2]), tensor([2, 1]))
    """
    given = [int(n) for n in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]
    x = input.transpose(0, 1) if batch_first else input
    order = None
    if not enforce_sorted:
        order = creation.tensor(given).argsort(descending=True, stable=True)
        given = [given[i] for i in order.tolist()]
        x = x.index_select(1, order)
    if len(given) != x.shape[1]:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(given)} (batch_size={x.shape[1]})"
        )
    if not given or given[-1] <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    if any(a < b for a, b in itertools.pairwise(given)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement."
        )
    if given[0] > x.shape[0]:
        raise RuntimeError(f"Expected lengths of at most {x.shape[0]}, the padded length, but got {given[0]}")
    sizes = [sum(n > t for n in given) for t in range(given[0])]
    rows = [t * len(given) + b for t, size in enumerate(sizes) for b in range(size)]
    data = x.flatten(0, 1)[creation.tensor(rows)]
    return PackedSequence(data, creation.tensor(sizes), order)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """(sequences with padding behind them, their lengths), as they were before `pack_padded_sequence`.

    Parameters
    ----------
    sequence : PackedSequence
        What was packed.
    batch_first : bool
        Give [batch, time, ...], not [time, batch, ...].
    padding_value : float
        What stands behind shorter ones.
    total_length : int, optional
        Pad up to it, not to the longest.

    Raises
    ------
    ValueError
        Where `total_length` is less than the longest.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils.rnn import pack_sequence, pad_packed_sequence
    >>> pad_packed_sequence(pack_sequence([tg.tensor([1, 2]), tg.tensor([3])]), batch_first=True)
    (tensor([[1, 2],
            [3, 0]]), tensor([2, 1]))
    """
    sizes = sequence.batch_sizes.tolist()
    longest = len(sizes)
    if total_length is not None:
        if total_length < longest:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, but got "
                f"total_length={total_length} and max sequence length being {longest}"
            )
        longest = total_length
    firsts = [0, *itertools.accumulate(sizes)]
    data, n = sequence.data, sizes[0]
    behind = creation.full((1, *data.shape[1:]), padding_value, dtype=data.dtype)  # one row: all padding is of it
    rows = [
        [firsts[t] + b if t < len(sizes) and b < sizes[t] else firsts[-1] for b in range(n)] for t in range(longest)
    ]
    lengths = creation.tensor([sum(size > b for size in sizes) for b in range(n)])
    padded = _cat([data, behind])[creation.tensor(rows)]
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices]
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences [length, ...]: see `pack_padded_sequence`.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import rnn
    >>> packed = rnn.pack_sequence([tg.tensor([1.0, 2.0]), tg.tensor([3.0])])
    >>> packed.data, packed.batch_sizes
    (tensor([1., 3., 2.]), tensor([2, 1]))
    """
    lengths = [len(t) for t in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import rnn
    >>> packed = rnn.pack_sequence([tg.tensor([1.0, 2.0]), tg.tensor([3.0])])
    >>> rnn.unpack_sequence(packed)
    [tensor([1., 2.]), tensor([3.])]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
    "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip
