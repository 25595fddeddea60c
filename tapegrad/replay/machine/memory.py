"""Executable memory: written first, then made executable, never both."""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import sys
from typing import Any

_READ, _WRITE, _EXECUTE = 1, 2, 4
_FAILED = ctypes.c_void_p(-1).value


@functools.cache
def _functions() -> tuple[Any, Any, Any, Any]:
    """The system's `mmap`, `mprotect` and `munmap`, and what makes a processor forget old instructions."""
    library = ctypes.CDLL(None, use_errno=True)
    size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    of_map = ctypes.CFUNCTYPE(pointer, pointer, size, number, number, number, ctypes.c_long, use_errno=True)
    of_range = ctypes.CFUNCTYPE(number, pointer, size, number, use_errno=True)
    of_end = ctypes.CFUNCTYPE(number, pointer, size, use_errno=True)
    forget: Any = None
    if platform.machine() == "aarch64":  # there caches of instructions know nothing of stores
        forget = ctypes.CFUNCTYPE(None, pointer, pointer)(("__clear_cache", ctypes.CDLL("libgcc_s.so.1")))
    return of_map(("mmap", library)), of_range(("mprotect", library)), of_end(("munmap", library)), forget


class Code:
    """Machine code in memory of its own, which is given back with the last reference.

    Raises `OSError` where the system gives none that may be executed.
    """

    __slots__ = ("__weakref__", "_unmap", "address", "nbytes")

    def __init__(self, code: bytes) -> None:
        self.address = 0
        of_map, protect, self._unmap, forget = _functions()
        self.nbytes = -(-len(code) // mmap.PAGESIZE) * mmap.PAGESIZE
        address = of_map(None, self.nbytes, _READ | _WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if address in (None, _FAILED):
            raise OSError(ctypes.get_errno(), "no memory for machine code")
        self.address = address
        ctypes.memmove(address, code, len(code))
        if protect(address, self.nbytes, _READ | _EXECUTE):
            raise OSError(ctypes.get_errno(), "memory may not be made executable")
        if forget is not None:
            forget(address, address + self.nbytes)

    def __del__(self) -> None:
        if self.address:
            self._unmap(self.address, self.nbytes)


def is_possible() -> bool:
    """Whether this is a system whose memory and calls are as they are taken to be here."""
    return sys.platform == "linux" or (sys.platform == "darwin" and platform.machine() == "x86_64")
