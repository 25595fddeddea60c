"""How tensors are grouped for `_foreach_add` and its kin, under PyTorch's private name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapegrad.devices import CPU


def _group_tensors_by_device_and_dtype(
    tensorlistlist: Sequence[Sequence[Any]], with_indices: bool = False
) -> dict[Any, tuple[list[list[Any]], list[int]]]:
    """Lists of the same length, parted by the dtypes of what is in the first; and where each has been.

    >>> import tapegrad as tg
    >>> groups = _group_tensors_by_device_and_dtype([[tg.ones(1), tg.arange(2), tg.zeros(1)]], with_indices=True)
    >>> [indices for _, indices in groups.values()]
    [[0, 2], [1]]
    """
    groups: dict[Any, tuple[list[list[Any]], list[int]]] = {}
    for i, t in enumerate(tensorlistlist[0]):
        lists, indices = groups.setdefault((CPU, t.dtype), ([[] for _ in tensorlistlist], []))
        for one, given in zip(lists, tensorlistlist, strict=True):
            if given:
                one.append(given[i])
        if with_indices:
            indices.append(i)
    return groups
