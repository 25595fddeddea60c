"""Profiles with PyTorch's names (`torch.profiler`, `torch.autograd.profiler`), of the times of `Tape.profile`.

Operations are swept when their values are asked for: so a label of `record_function` has what was swept within it, and
the time of recording.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from tapegrad.ops.declare import OPS
from tapegrad.tape import current_tape


class ProfilerActivity(enum.Enum):
    """What is profiled: the CPU is."""

    CPU = 0
    CUDA = 1


class Average:
    """What an operation took in sum: `key` is its name, `count` how often it was swept, times are in microseconds."""

    def __init__(self, key: str, shapes: str) -> None:
        self.key, self.input_shapes, self.count, self.cpu_time_total = key, shapes, 0, 0.0

    @property
    def self_cpu_time_total(self) -> float:
        """As `cpu_time_total`: operations don't call each other."""
        return self.cpu_time_total

    @property
    def cpu_time(self) -> float:
        """On the average."""
        return self.cpu_time_total / self.count if self.count else 0.0

    def __repr__(self) -> str:
        return f"<{self.key}: {self.count} times, {self.cpu_time_total:.3f} us>"


_SORTED = ("cpu_time", "cpu_time_total", "self_cpu_time_total", "count")


class Averages(list[Average]):
    """Operations, and labels, with their times."""

    def __init__(self, rows: Iterable[Average], whole: float) -> None:
        super().__init__(rows)
        self.self_cpu_time_total = whole

    def table(self, sort_by: str | None = None, row_limit: int = 100, **options: Any) -> str:
        """A table of them, by one of "cpu_time", "cpu_time_total", "self_cpu_time_total", "count".

        `options` say how PyTorch's table is laid out.
        """
        del options
        if sort_by is not None and sort_by not in _SORTED:
            raise AttributeError(f"profiles can be sorted by {', '.join(_SORTED)}, not by {sort_by!r}")
        rows = self if sort_by is None else sorted(self, key=lambda row: -getattr(row, sort_by))
        rows = list(rows)[: row_limit if row_limit >= 0 else None]
        width = max([len(row.key) for row in rows], default=4) + 2
        heads = ("Name", "CPU total %", "CPU total", "CPU time avg", "# of Calls")
        lines = [f"{heads[0]:>{width}}" + "".join(f"{head:>15}" for head in heads[1:])]
        lines = ["-" * len(lines[0]), *lines, "-" * len(lines[0])]
        for row in rows:
            part = row.cpu_time_total / (self.self_cpu_time_total or 1.0)
            cells = (f"{part:.2%}", _time(row.cpu_time_total), _time(row.cpu_time), str(row.count))
            lines.append(f"{row.key:>{width}}" + "".join(f"{cell:>15}" for cell in cells))
        return "\n".join([*lines, lines[0], f"Self CPU time total: {_time(self.self_cpu_time_total)}"])

    def __str__(self) -> str:
        return self.table()


def _time(us: float) -> str:
    return f"{us:.3f}us" if us < 1e3 else f"{us / 1e3:.3f}ms" if us < 1e6 else f"{us / 1e6:.3f}s"


_COLLECTED = {
    "profile_memory", "use_cpu", "use_cuda", "use_device", "use_kineto", "with_flops", "with_modules", "with_stack",
}  # fmt: skip


class profile:  # noqa: N801 (a context manager, as in PyTorch)
    """Take a profile of what this thread sweeps, within a `with` statement.

    Parameters
    ----------
    enabled : bool
        With False nothing is taken.
    activities : iterable of ProfilerActivity, optional
        The CPU is profiled, whatever they are.
    record_shapes : bool
        Have `key_averages(group_by_input_shape=True)` tell shapes apart; they are those of results.
    options
        What PyTorch collects beside: memory, modules, stacks; there is none of it here. Lines of the user's program are
        in what `tape.profile()` gives.

    >>> import tapegrad as tg
    >>> x = tg.rand(1000, requires_grad=True)
    >>> with tg.autograd.profiler.profile() as taken:
    ...     tg.sum(tg.exp(x)).backward()
    >>> sorted(row.key for row in taken.key_averages() if row.key in ("exp", "sum"))
    ['exp', 'sum']
    """

    def __init__(
        self, enabled: bool = True, *, activities: Any = None, record_shapes: bool = False, **options: Any
    ) -> None:
        del activities
        if unknown := options.keys() - _COLLECTED:
            raise TypeError(f"profile() got an unexpected keyword argument {sorted(unknown)[0]!r}")
        self.enabled, self.record_shapes = enabled, record_shapes
        self._taken: Any = None
        self._labels: dict[str, Average] = {}

    def __enter__(self) -> profile:
        if self.enabled:
            _running.append(self)
            self._taken = current_tape().profile().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            _running.remove(self)
            self._taken.__exit__(kind, error, trace)

    def step(self) -> None:
        """Nothing: a profile is of all steps."""

    def key_averages(self, group_by_input_shape: bool = False, **options: Any) -> Averages:
        """Operations by their names, in the order of their first sweep; labels of `record_function`."""
        del options
        if self._taken is None:
            return Averages([], 0.0)
        found: dict[tuple[str, str], Average] = {}
        for entry in self._taken._entries.values():
            if not entry.rows:
                parts = [(entry.way, "", entry.seconds)]
            else:
                shapes = [str(list(row.shape)) for row in entry.rows]
                names = [OPS[row.opcode].name.lstrip("_") for row in entry.rows]
                parts = list(zip(names, shapes, entry.shares, strict=True))
            for name, shape, seconds in parts:
                key = name, shape if group_by_input_shape and self.record_shapes else ""
                row = found.setdefault(key, Average(*key))
                row.count += entry.times
                row.cpu_time_total += 1e6 * seconds
        return Averages([*found.values(), *self._labels.values()], 1e6 * self._taken.seconds)

    def table(self, sort_by: str | None = None, row_limit: int = 100, **options: Any) -> str:
        """See `Averages.table`."""
        return self.key_averages().table(sort_by, row_limit, **options)

    def total_average(self) -> Average:
        """All of it together."""
        whole = Average("Total", "")
        for row in self.key_averages():
            if row.key not in self._labels:
                whole.count += row.count
                whole.cpu_time_total += row.cpu_time_total
        return whole

    @property
    def self_cpu_time_total(self) -> float:
        """The time of all sweeps, in microseconds."""
        return self.key_averages().self_cpu_time_total

    def __str__(self) -> str:
        return self.table() if self._taken is not None else "<unfinished profile>"


_running: list[profile] = []


class record_function(contextlib.ContextDecorator):  # noqa: N801 (a context manager, as in PyTorch)
    """Have a profile show, by a label, what a `with` statement or a decorated function took.

    >>> import tapegrad as tg
    >>> with tg.profiler.profile() as taken, tg.profiler.record_function("squares"):
    ...     _ = (tg.ones(3) ** 2).sum().item()
    >>> [row.count for row in taken.key_averages() if row.key == "squares"]
    [1]
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        del args
        self.name = name
        self._started: list[float] = []

    def __enter__(self) -> record_function:
        self._started.append(time.perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._started.pop()
        for taken in _running:
            row = taken._labels.setdefault(self.name, Average(self.name, ""))
            row.count += 1
            row.cpu_time_total += 1e6 * seconds


__all__ = ["ProfilerActivity", "profile", "record_function"]
