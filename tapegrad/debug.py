"""Debug modes, as the environment variable TAPEGRAD_DEBUG has them when the process starts: a comma-separated list.

    memory   memory that kernels are given is filled, when it is had and when it is let go, and stands between guards
    small    every pool, tape, table and look-up begins at its least size, and reclaims at every chance

CONTRIBUTING says how they are used. They cost nothing when they are off.
"""

from __future__ import annotations

import os

NAMES = ("memory", "small")

_given = {name.strip() for name in os.environ.get("TAPEGRAD_DEBUG", "").split(",")} - {""}
_unknown = _given.difference(NAMES)
if _unknown:
    raise ValueError(f"TAPEGRAD_DEBUG: unknown are {', '.join(sorted(_unknown))}; known are {', '.join(NAMES)}")
MEMORY, SMALL = (name in _given for name in NAMES)
