"""Sample points of the operands of elementwise operations, for tests and benchmarks.

A domain is an interval to draw from, and the edge points inside or at its ends. Derivatives are compared only at drawn
points, which keep away from kinks; values are compared at the edges too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_INF, _NAN = float("inf"), float("nan")
_TINY = 5e-324


@dataclass(frozen=True)
class Domain:
    """An interval with its edge points; `kinks` are points where no derivative exists."""

    low: float
    high: float
    edges: tuple[float, ...] = (0.0, -0.0, _INF, -_INF, _NAN, _TINY, -_TINY)
    kinks: tuple[float, ...] = ()

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` points, at least 0.05 away from each kink."""
        points = rng.uniform(self.low, self.high, n)
        for kink in self.kinks:
            near = np.abs(points - kink) < 0.05
            points[near] += np.where(points[near] >= kink, 0.05, -0.05)
        return points


reals = Domain(-3.0, 3.0)
kinked = Domain(-3.0, 3.0, kinks=(0.0,))
steps = Domain(-3.0, 3.0, kinks=tuple(range(-3, 4)) + tuple(i + 0.5 for i in range(-4, 4)))
nonzero = Domain(0.3, 3.0)
positive = Domain(0.1, 4.0)
above_zero = Domain(0.1, 4.0, edges=(_INF, _NAN, _TINY))
above_minus_one = Domain(-0.9, 4.0, edges=(0.0, -0.0, -1.0, _INF, _NAN, _TINY))
above_one = Domain(1.1, 4.0, edges=(1.0, 0.0, _INF, _NAN))
unit = Domain(-0.95, 0.95, edges=(0.0, -0.0, 1.0, -1.0, _NAN, _TINY))
branch = Domain(-1.4, 1.4)
moderate = Domain(-3.0, 3.0, edges=(0.0, 1.0, -1.0, _NAN))
moderate_above_zero = Domain(0.3, 6.0, edges=(1.0, _NAN))
