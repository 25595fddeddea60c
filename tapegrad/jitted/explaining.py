"""What a jitted function's gradient records: rows by line of the user's code, and what never becomes a row."""

from __future__ import annotations

import functools
import html
import linecache
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from tapegrad import locks
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted import marking
from tapegrad.jitted.engine import Recording, engine_of
from tapegrad.jitted.errors import where_is_function
from tapegrad.jitted.forms import Form

_lock = locks.lock()  # the counts are those of one explanation


class Line(NamedTuple):
    """What a line of the user's has recorded, all its runs together.

    Attributes
    ----------
    file, number : str, int
        Where it is; "" and 0 for the function's arguments, which have a row a number.
    text : str
        The line.
    rows, nbytes : int
        Rows on the tape, and the memory that they take.
    operations : int
        Operations on numbers with derivatives that they were made of; 0 where nests of loops and NumPy's functions
        record rows of theirs.
    inside : int
        Rows that it recorded in functions marked by `preaccumulate`, which sweep them and keep a row a result.
    """

    file: str
    number: int
    text: str
    rows: int
    nbytes: int
    operations: int
    inside: int


class Explanation:
    """What `explain` has found; `print` shows it, and so does a notebook.

    >>> import tapegrad as tg
    >>> from numba import njit
    >>> tg.jitted.explain(njit(lambda x: x * x + 1.0))(3.0)
    <Explanation of <lambda>: 2 rows, 14 B>
    """

    def __init__(self, function: Callable[..., Any], lines: Sequence[Line]) -> None:
        self.name, self.where = function.__name__, where_is_function(function)
        self.lines = tuple(lines)

    @property
    def rows(self) -> int:
        """How many rows the tape has."""
        return sum(line.rows for line in self.lines)

    @property
    def nbytes(self) -> int:
        """The bytes of its rows; the reverse sweep takes 8 more for each."""
        return sum(line.nbytes for line in self.lines)

    def __str__(self) -> str:
        inside = any(line.inside for line in self.lines)
        operations = sum(line.operations for line in self.lines)
        heads = ["rows", "bytes", "operations", *["inside"] * inside]
        texts = [
            f"{self.name}: {self.rows:,} rows{f' of {operations:,} operations' * bool(operations)}, "
            f"{_size(self.nbytes)}, and {_size(8 * self.rows)} of adjoints",
            "".join(f"{head:>11}" for head in heads),
        ]
        for line in self.lines:
            numbers = [f"{line.rows:,}", _size(line.nbytes), f"{line.operations:,}" if line.operations else ""]
            numbers += [f"{line.inside:,}" if line.inside else ""] * inside
            where = f"{PurePath(line.file).name}:{line.number}: {line.text}" if line.file else line.text
            texts.append("".join(f"{number:>11}" for number in numbers) + "  " + where)
        return "\n".join(texts)

    def __repr__(self) -> str:
        return f"<Explanation of {self.name}: {self.rows:,} rows, {_size(self.nbytes)}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def explain(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Explanation]:
    """A function that tells what the gradient of a jitted function records: rows by line of the user's code.

    Parameters
    ----------
    function : jitted function, or a plain one that can be
        What is differentiated.
    argnums : int or sequence of int
        By which arguments it is differentiated.

    Returns
    -------
    function
        It takes the arguments of `function`, runs it once, and returns an `Explanation`: a list of `lines`, with the
        `rows` and bytes that each has put on the tape, and the `operations` that these were made of. Operations of one
        statement become one row when the function is compiled; what functions marked by `preaccumulate` record is
        swept at once, and counted as `inside`. A nest of loops that has one row is a line of no operations: that of its
        outermost loop. Its bytes are what its reverse loop needs.

    Raises
    ------
    NotDifferentiableError, TypeError, RuntimeError
        As the gradient does: for what can't be differentiated, arguments that aren't, and places that there are not.

    Notes
    -----
    The function is compiled once more for that, and is slower; its gradients are not affected.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> from numba import njit
    >>> @njit
    ... def energy(x):
    ...     s = 0.0
    ...     for i in range(1, x.size):
    ...         d = x[i] - x[i - 1]
    ...         s += d * d / (1.0 + d)
    ...     while s < 1e6:
    ...         s = np.sqrt(s) * s
    ...     return s
    >>> print(tg.jitted.explain(energy)(np.arange(100.0)))
    energy: 105 rows of 8 operations, 1.43 kB, and 840 B of adjoints
           rows      bytes operations
            100      100 B             the arguments
              1    1.27 kB             ...:4: for i in range(1, x.size):
              4       52 B          8  ...:8: s = np.sqrt(s) * s

    The loop over a range is one row, and keeps its array; the other loop has a row a turn.
    """

    @functools.wraps(function)
    def explained(*args: Any, **kwargs: Any) -> Explanation:
        engine = engine_of(function)
        given = engine.bind(args, kwargs)
        form = Form("record", len(given), engine.places(given, argnums), is_marked=True)
        with _lock:
            _record(lambda: Recording(engine, form, given))
            return Explanation(engine.function.py_func, _lines())

    return explained


def _record(run: Callable[[], Recording]) -> None:
    """Record while lines are counted."""
    tape.connect()
    header = tape.header()
    if header[tape.PLACE]:
        raise RuntimeError("a function is being explained")
    for counts in marking.counts.values():
        counts[:] = 0
    header[tape.PLACE], header[tape.SEEN_ROWS] = marking.address_of(marking.OF_ARGUMENTS), 1  # row 0 is nobody's
    try:
        recording = run()
    finally:
        for word in (tape.PLACE, tape.SEEN_ROWS, tape.SEEN_ARGUMENTS, tape.DEPTH):
            header[word] = 0
    words = recording.words
    last = next(counts for counts in marking.counts.values() if counts.ctypes.data == words[tape.PLACE])
    last[:2] += words[tape.ROWS] - words[tape.SEEN_ROWS], words[tape.ARGUMENTS] - words[tape.SEEN_ARGUMENTS]


def _lines() -> list[Line]:
    """The lines that have recorded; the first are the arguments."""
    lines = []
    for place, counts in sorted(marking.counts.items()):
        rows, arguments, inside_rows, _, operations = counts.tolist()
        if rows or arguments or inside_rows or operations:
            text = linecache.getline(place.file, place.line).strip() if place.file else "the arguments"
            lines.append(Line(*place, text, rows, rows + 12 * arguments, operations, inside_rows))
    return lines


def _size(n: int) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"
