"""Locks that are whole after a fork.

A fork copies the memory of a process and one of its threads. What another thread was changing stays half changed in the
child, and a lock that it held is never given back there. So before a fork the locks made here are taken, Numba's and
LLVM's with them, at a moment when no other thread holds any of them; both sides give them back.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

_PATIENCE = 60.0  # seconds that a fork waits: some thread may compile, or wait for the one that forks
_locks: list[Any] = []
_of_objects: weakref.WeakSet[Any] = weakref.WeakSet()
_taken: list[Any] = []
others: list[Callable[[], Iterable[Any]]] = []  # find locks that are not there from the start
in_child: list[Callable[[], None]] = []  # called in a forked child, where there are no other threads


def lock() -> Any:
    """A lock that may be taken again by the thread that holds it: a finaliser may come in between anything."""
    made = threading.RLock()
    _locks.append(made)
    return made


def of_object() -> Any:
    """A lock of an object that comes and goes; it is whole whenever a thread begins with it: no fork waits for it."""
    made = threading.RLock()
    _of_objects.add(made)
    return made


importing = lock()  # what is imported when it is first asked for: Python's own locks of imports are not whole either


def _of_others() -> Iterable[Any]:
    for module, path in (
        ("numba.core.compiler_lock", ("global_compiler_lock", "_lock")),
        ("llvmlite.binding.ffi", ("lib", "_lock", "_lock")),
    ):
        found = sys.modules.get(module)
        for name in path:
            found = getattr(found, name, None)
        if found is not None:
            yield found
    for find in others:
        yield from find()


def _takes(found: Any) -> bool:
    if taken := found.acquire(blocking=False):
        _taken.append(found)
    return bool(taken)


def _take_all() -> None:
    """Take all locks or, where that can't be done in time, none.

    Only while it holds none does this thread wait for one: so no order of locks has to be kept.
    """
    end = time.monotonic() + _PATIENCE
    first, locks = importing, [*_locks, *_of_others()]
    while first.acquire(timeout=max(end - time.monotonic(), 0)):
        _taken.append(first)
        missed = next((each for each in locks if each is not first and not _takes(each)), None)
        if missed is None:
            return
        _release_all()
        first = missed


def _release_all() -> None:
    while _taken:
        _taken.pop().release()


def renew(found: Any) -> bool:
    """In a forked child: give back a lock for a thread that is not there; whether it had it."""
    if found.acquire(blocking=False):
        found.release()
        return False
    found._at_fork_reinit()
    return True


def _in_child() -> None:
    _release_all()
    for found in [*_locks, *_of_others(), *_of_objects]:
        renew(found)
    for function in in_child:
        function()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_all, after_in_parent=_release_all, after_in_child=_in_child)
