"""The source of random numbers of all functions that are given no other: seeds and states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tapegrad.creation import default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cpu") -> Iterator[None]:
    """Draw and seed inside; afterwards random numbers go on as if nothing had been drawn.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> with tg.random.fork_rng():
    ...     a = tg.rand(2)
    >>> bool((tg.rand(2) == a).all())
    True
    """
    del devices, device_type
    before, started = (get_rng_state(), default_generator.initial_seed()) if enabled else (None, 0)
    try:
        yield
    finally:
        if before is not None:
            default_generator._seed = started
            set_rng_state(before)


__all__ = [
    "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state",
]  # fmt: skip
