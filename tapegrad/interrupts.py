"""Ctrl-C where it can't be met: it waits until it can.

LLVM calls Python back while it compiles: there a KeyboardInterrupt is printed and lost, or ends the process.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def later() -> Iterator[None]:
    """Within, Ctrl-C is noted; after, it is handled as it would have been. Python sends it to the main thread only."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []

    def note(*signal_and_frame: Any) -> None:
        came.append(signal_and_frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[-1])
