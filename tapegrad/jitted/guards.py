"""Guards of the jitted engine's tapes: what TAPEGRAD_DEBUG=memory puts in the place of their allocator.

What a tape is given begins GUARD bytes into an array of the pattern (see `core/guards.py`), and ends as many before
its end. That they are still the pattern is seen when it grows, when it is let go, and after each call of a driver.

Tapes grow seldom: so all this is Python, which compiled code calls by address.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from tapegrad.core.guards import GUARD, PATTERN
from tapegrad.kernels import native
from tapegrad.kinds import address_of

_pattern = np.full(GUARD // 4, PATTERN).view(np.uint8)
_blocks: dict[int, tuple[np.ndarray, int]] = {}  # by address: the array, and how many bytes a tape has of it
_found: list[str] = []


def _reallocate(address: int, nbytes: int) -> int:
    """Memory with the elements of other memory (of none at 0), which is let go; 0 where there is none."""
    try:
        array = np.full(-(-nbytes // 8) + GUARD // 4, PATTERN)
    except MemoryError:
        return 0
    made = address_of(array) + GUARD
    if address:
        ctypes.memmove(made, address, min(_blocks[address][1], nbytes))
    _blocks[made] = array, nbytes
    _release(address)
    return made


def _release(address: int) -> None:
    """Let go of memory; of what was not had here, as Python's allocator does."""
    block = _blocks.pop(address, None)
    if block is None:
        native.functions_of_python()["release"](address)
        return
    _look_at(*block)
    block[0].fill(PATTERN)


def _look_at(array: np.ndarray, nbytes: int) -> None:
    """Note where the bytes around what a tape has are no longer the pattern."""
    bytes_ = array.view(np.uint8)
    behind = bytes_[GUARD + nbytes :]
    for where, given, expected, first in (
        ("before its beginning", bytes_[:GUARD], _pattern[:GUARD], -GUARD),
        ("behind its end", behind, _pattern[nbytes % 8 :][: len(behind)], 0),
    ):
        changed = np.flatnonzero(given != expected)
        if changed.size:
            _found.append(f"({nbytes} bytes) was written to {where} (from byte {first + int(changed[0])} there)")
            given[:] = expected


@functools.cache
def allocator() -> tuple[int, int]:
    """The addresses of the two functions."""
    word = ctypes.c_int64
    functions = ctypes.CFUNCTYPE(word, word, word)(_reallocate), ctypes.CFUNCTYPE(None, word)(_release)
    _kept.extend(functions)
    reallocate, release = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions)
    return reallocate, release


_kept: list[object] = []


def forget(address: int, used: int) -> None:
    """Fill what a tape has of some memory behind the bytes that are in use, by whole words."""
    if address:
        array, nbytes = _blocks[address]
        array[(GUARD + used + 7) // 8 : (GUARD + nbytes) // 8] = PATTERN


def damage() -> list[str]:
    """What has happened to tapes of all threads since the last time."""
    for block in list(_blocks.values()):
        _look_at(*block)
    found = _found[:]
    _found.clear()
    return found
