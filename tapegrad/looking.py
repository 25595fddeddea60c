"""What notebooks show of tensors and tapes, and profiles: methods of theirs, whose work is in `tapegrad.viz`."""

from __future__ import annotations

from typing import Any

from tapegrad.tape import Tape
from tapegrad.tensor import Tensor

_MOST_ROWS = 2000  # of a graph that is drawn unasked


def profile(self: Tape) -> Any:
    """Take a profile of this tape's sweeps, in a `with` statement: their time by region and row, with your lines.

    Returns
    -------
    tapegrad.viz.Profile
        `print` shows it. Recording is slower while it is taken; sweeps pause for a look at the clock after each region,
        and are else as they are.

    >>> import tapegrad as tg
    >>> x = tg.rand(1000, requires_grad=True)
    >>> with tg.current_tape().profile() as profile:
    ...     tg.sum(tg.exp(-x * x)).backward()
    >>> profile.entries[0].way
    'forward and reverse'
    """
    from tapegrad.viz import Profile

    return Profile(self)


def _tensor_as_html(self: Tensor) -> str | None:
    """The elements, and the graph behind them where there is one; None, for plain text, where there is none."""
    if not self.requires_grad or self.is_leaf:
        return None
    import html  # slow to import, and asked for by notebooks only

    from tapegrad import viz
    from tapegrad.viz.drawing import counted, steps_behind

    with self._tape.lock:
        n = len(steps_behind(self._tape, [self._slot]))
    graph = f"a graph of {counted(n, 'row')}"
    text = f"<pre>{html.escape(repr(self))}</pre>"
    if n > _MOST_ROWS:
        return f"{text}<p>{graph}</p>"
    drawing = viz.dot(self)
    return f"{text}<details><summary>{graph}</summary>{drawing._repr_html_()}</details>"


def _tape_as_html(self: Tape) -> str:
    """The listing of its rows."""
    import html

    return f"<pre>{html.escape(str(self))}</pre>"


for _of, _name, _method in (
    (Tape, "profile", profile), (Tape, "_repr_html_", _tape_as_html), (Tensor, "_repr_html_", _tensor_as_html)
):  # fmt: skip
    setattr(_of, _name, _method)
