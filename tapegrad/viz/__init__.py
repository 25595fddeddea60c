"""Looking at a tape: the graph behind a tensor as a drawing, and where the time of sweeps goes.

>>> import tapegrad as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> drawing = tg.viz.dot((x * tg.exp(-x)).sum())
>>> print(drawing)  # doctest: +ELLIPSIS
digraph tape {
...
}

In a notebook a drawing shows itself, where Graphviz is installed; so does the graph of a tensor that is shown.
"""

from __future__ import annotations

from tapegrad.viz.drawing import Drawing, dot
from tapegrad.viz.profiling import Profile

__all__ = ["Drawing", "Profile", "dot"]
