"""Where the time of sweeps goes: by region, as it is swept, and by row.

While a profile is taken, a sweep pauses after each step (see `core/sweeps.py`), and Python looks at the clock. That is
the region's time as it is. Rows of a region are swept together, block by block: of its time each is given the part that
its kernels take of all of them, run alone on a block in cache.
"""

from __future__ import annotations

import ctypes
import functools
import html
import time
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from tapegrad import kernels
from tapegrad.core import sweeps
from tapegrad.core.schedule import NO_REGIONS, OF_MEMORY
from tapegrad.dtypes import DTYPES
from tapegrad.kinds import address_of
from tapegrad.kinds import objects as kind_objects
from tapegrad.ops.declare import ELEMENTWISE, LAYOUT, OPS
from tapegrad.tape import TRACED, H, Tape

_LANES = 1024  # of a block on which kernels are timed


class Row(NamedTuple):
    """A row that was swept: its operation, what it gives, where it was recorded (if that is known)."""

    opcode: int
    code: int
    shape: tuple[int, ...]
    lanes: int
    where: str

    def __str__(self) -> str:
        name, kind = OPS[self.opcode].name.lstrip("_"), DTYPES[self.code].name
        return f"{name}, {kind}[{', '.join(map(str, self.shape))}]"


class Entry:
    """A region, or a row swept by itself, with what its steps took.

    `way` is "forward", "reverse" or "forward and reverse"; `rows` are as recorded, `seconds` in sum, `times` counts the
    steps; `shares` gives the seconds by row.
    """

    def __init__(self, way: str, rows: tuple[Row, ...]) -> None:
        self.way, self.rows, self.seconds, self.times = way, rows, 0.0, 0

    @property
    def shares(self) -> list[float]:
        """The seconds of each row: estimated, where there are several."""
        costs = [_cost(row, self.way) for row in self.rows]
        whole = sum(costs) or 1.0
        return [self.seconds * cost / whole for cost in costs]

    @property
    def what(self) -> str:
        """What it is, in words."""
        if not self.rows:
            return self.way
        if len(self.rows) == 1:
            return f"{self.rows[0]}, {self.way}"
        space = max((row.shape for row in self.rows), key=lambda shape: int(np.prod(shape)))
        return f"region of {len(self.rows)} rows over [{', '.join(map(str, space))}], {self.way}"


class Profile:
    """What sweeps of this thread's tape take, within a `with` statement: `tape.profile()` makes one.

    `print` shows it; `entries` lists regions by their time, `seconds` is the time of sweeps in sum, `planning` that of
    plans, `sweeps` how many there were.
    """

    def __init__(self, of: Tape) -> None:
        self.tape, self.sweeps, self.planning = of, 0, 0.0
        self._entries: dict[Any, Entry] = {}
        self._plan: list[tuple[Row, ...]] = []
        self._before: Any = None

    def __enter__(self) -> Profile:
        of = self.tape
        if of.profiler is not None:
            raise RuntimeError("a profile of this tape is being taken already")
        self._before = of.enabled
        of.enabled = TRACED  # rows are recorded in Python, which notes the user's lines
        of.grad_enabled = of.enabled if of.grad_enabled else False
        of.profiler, of.h[H.paced] = self, 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        of = self.tape
        of.profiler, of.h[H.paced] = None, 0
        of.enabled = self._before
        of.grad_enabled = of.enabled if of.grad_enabled else False

    def call(self, entry: Any, of: Tape) -> int:
        """Go on with a sweep, and note what that took."""
        h = of.h
        phase, step = h[H.phase], h[H.at_step]
        started = time.perf_counter()
        status: int = entry(of.header_address)
        seconds = time.perf_counter() - started
        if phase == sweeps.PLAN:
            self.sweeps += 1
            if h[H.n_regions] == NO_REGIONS:
                self._add("rows of one element, one by one", (), seconds)
                return status
            self.planning += seconds
            self._plan = self._planned(of)
            return status
        way, region = _step_of(step, h[H.n_regions], h[H.fused])
        if region == OF_MEMORY and way != "forward and reverse" and not self._plan[region]:
            return status
        self._add(way, self._plan[region] if region >= 0 else (), seconds)
        return status

    def _add(self, way: str, rows: tuple[Row, ...], seconds: float) -> None:
        found = self._entries.setdefault((way, rows), Entry(way, rows))
        found.seconds += seconds
        found.times += 1

    @staticmethod
    def _planned(of: Tape) -> list[tuple[Row, ...]]:
        n, views, rows = of.h[H.n_regions], of._row_views, of.row_array()
        begin = views["begin"][: n + 1].tolist()
        return [tuple(_row(of, rows[r]) for r in views["order"][begin[k] : begin[k + 1]].tolist()) for k in range(n)]

    @property
    def entries(self) -> list[Entry]:
        """Regions, and rows that were swept by themselves, by the time that they took."""
        return sorted(self._entries.values(), key=lambda entry: -entry.seconds)

    @property
    def seconds(self) -> float:
        """The time of all sweeps, plans included."""
        return self.planning + sum(entry.seconds for entry in self._entries.values())

    @property
    def _counted(self) -> str:
        return f"{self.sweeps} sweep{'s' if self.sweeps != 1 else ''}"

    def __str__(self) -> str:
        whole = self.seconds or 1.0
        lines = [f"{self._counted}, {_time(self.seconds)}, of which plans took {_time(self.planning)}"]
        for entry in self.entries:
            often = "once" if entry.times == 1 else f"{entry.times} times"
            where = entry.rows[0].where if len(entry.rows) == 1 else ""
            line = f"{_time(entry.seconds):>9} {entry.seconds / whole:>5.0%}  {entry.what}, {often}  {where}"
            lines.append(line.rstrip())
            if len(entry.rows) > 1:
                merged: dict[tuple[str, str], list[float]] = {}
                for row, share in zip(entry.rows, entry.shares, strict=True):
                    merged.setdefault((str(row), row.where), []).append(share)
                for (name, where), shares in sorted(merged.items(), key=lambda item: -sum(item[1])):
                    times = f" x {len(shares)}" if len(shares) > 1 else ""
                    lines.append(f"{_time(sum(shares)):>19}    {name}{times}  {where}".rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Profile of {self._counted}, {_time(self.seconds)}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _step_of(step: int, n: int, fused: int) -> tuple[str, int]:
    """Which way a step goes, through which region: as `step` in `core/sweeps.py` counts them."""
    turn = n if fused < 0 else fused
    if step < turn:
        return "forward", step
    if step == turn:
        return "entering seeds", -1
    if fused < 0:
        return "reverse", 2 * n - step
    step, after = step - turn - 1, n - 1 - fused
    if step < after:
        return "reverse", n - 1 - step
    if step == after:
        return "forward and reverse", fused
    step -= after + 1
    return ("forward", fused + 1 + step) if step < after else ("reverse", fused - 1 - (step - after))


def _row(of: Tape, row: Any) -> Row:
    kind = kind_objects[row["kind"]]
    lanes = kind.numel
    if row["a"] >= 0:  # what is reduced has more
        lanes = max(lanes, kind_objects[of.slots["kind"][row["a"]]].numel)
    return Row(int(row["opcode"]), kind.dtype.code, tuple(kind.shape), lanes, of.places.get(int(row["out"]), ""))


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.1f} us"
    return f"{1e3 * seconds:.2f} ms" if seconds < 1.0 else f"{seconds:.2f} s"


def _cost(row: Row, way: str) -> float:
    """About what a row takes in a region: its kernels' time a lane, times its lanes."""
    if OPS[row.opcode].family == LAYOUT:
        return 0.0
    forward, reverse = _lane_costs(row.opcode, row.code)
    return row.lanes * (forward * (way != "reverse") + reverse * (way != "forward") + forward * (way == "reverse"))


@functools.cache
def _lane_costs(opcode: int, code: int) -> tuple[float, float]:
    """Seconds a lane of an operation's kernels, forward and in reverse, on a block in cache."""
    op = OPS[opcode]
    if op.family != ELEMENTWISE:
        return 5e-10, 5e-10  # about what an addition takes
    cell = (opcode * len(DTYPES) + code) * kernels.CELLS
    forward, *reverse = kernels.table[cell : cell + 4].tolist()
    memory = np.full((6, _LANES), 0.5)
    addresses = [address_of(part) for part in memory]
    found = [0.0, 0.0]
    if forward:
        found[0] = _least(forward, [_LANES, 0, *addresses[:4]])
    for address in reverse:
        if address:
            found[1] += _least(address, [_LANES, 0, *addresses])
    return found[0] / _LANES, found[1] / _LANES


def _least(address: int, arguments: list[int]) -> float:
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))(address)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call(*arguments)
        times.append(time.perf_counter() - started)
    return min(times)
