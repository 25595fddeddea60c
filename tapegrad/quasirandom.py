"""Points that fill a cube evenly: SciPy's Sobol sequences under PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import qmc

from tapegrad import creation, dtypes
from tapegrad.outputs import write
from tapegrad.tensor import Tensor


class SobolEngine:
    """Draws the points of a Sobol sequence in [0, 1)^dimension, the first of which is the origin.

    Parameters
    ----------
    dimension : int
        How many coordinates a point has: at most `MAXDIM`.
    scramble : bool
        Whether the sequence is scrambled at random, by Owen's matrices and a shift.
    seed : int, optional
        Of what is random; else it is drawn from the package's generator.

    >>> import tapegrad as tg
    >>> tg.quasirandom.SobolEngine(2).draw(4)
    tensor([[0.0000, 0.0000],
            [0.5000, 0.5000],
            [0.7500, 0.2500],
            [0.2500, 0.7500]])
    """

    MAXBIT = 30
    MAXDIM = qmc.Sobol.MAXDIM

    def __init__(self, dimension: int, scramble: bool = False, seed: int | None = None) -> None:
        if not 1 <= dimension <= self.MAXDIM:
            raise ValueError(f"Supported range of dimensionality for SobolEngine is [1, {self.MAXDIM}]")
        self.dimension, self.scramble, self.seed = dimension, scramble, seed
        if scramble and seed is None:
            seed = int(creation.randint(1 << 31, ()).item())
        generator = np.random.default_rng(seed)
        self._points = qmc.Sobol(dimension, scramble=scramble, bits=self.MAXBIT, seed=generator)

    @property
    def num_generated(self) -> int:
        """How many points were drawn, or passed over."""
        return int(self._points.num_generated)

    def draw(self, n: int = 1, out: Tensor | None = None, dtype: Any = None) -> Tensor:
        """The next `n` points, a row each."""
        if out is not None:
            return write("draw", out, "cast", (), lambda: self.draw(n, dtype=dtype))  # type: ignore[no-any-return]
        wanted = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        # The first point is drawn alone: SciPy warns where as many as are drawn with it are no power of two.
        first = [self._points.random(1)] if n and not self.num_generated else []
        rest = n - len(first)
        drawn = np.concatenate([*first, self._points.random(rest) if rest else np.empty((0, self.dimension))])
        return creation.tensor(drawn, dtype=wanted)

    def draw_base2(self, m: int, out: Tensor | None = None, dtype: Any = None) -> Tensor:
        """The next `2 ** m` points, so that those drawn are a power of two together, as the sequence asks.

        Raises
        ------
        ValueError
            Where they are not.
        """
        n, total = 2**m, self.num_generated + 2**m
        if total & (total - 1):
            raise ValueError(
                f"The balance properties of Sobol' points require n to be a power of 2. {self.num_generated} points "
                f"have been previously generated, then: n={self.num_generated}+2**{m}={total}. If you still want to do "
                "this, please use 'SobolEngine.draw()' instead."
            )
        return self.draw(n, out, dtype)

    def reset(self) -> SobolEngine:
        """Begin anew."""
        self._points.reset()
        return self

    def fast_forward(self, n: int) -> SobolEngine:
        """Pass over `n` points."""
        self._points.fast_forward(n)
        return self

    def __repr__(self) -> str:
        said = [f"dimension={self.dimension}"]
        if self.scramble:
            said.append("scramble=True")
        if self.seed is not None:
            said.append(f"seed={self.seed}")
        return f"SobolEngine({', '.join(said)})"


__all__ = ["SobolEngine"]
