"""Ctrl-C wherever Python lets it in: the tape stays whole, and the next program gives right numbers.

An interpreter looks for signals at the beginning of a function, after a call of something that is not a Python
function, and at the end of a loop's body. Each program here is run once to see which of these points it passes inside
tapegrad, then again and again, and KeyboardInterrupt is raised at each: where it is first passed, and at some of them
where last.
"""

import contextlib
import dis
import gc
import itertools
import signal
import sys
from bisect import bisect
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
from thoroughness import further

import tapegrad as tg
from tapegrad import engine, interrupts, kinds, recorder, tape
from tapegrad.debug import MEMORY
from tapegrad.dtypes import DTYPES
from tapegrad.kernels import native

PACKAGE = str(Path(tg.__file__).parent)
PARTS = 4  # in which the points of a program are tried: each every fourth
pytestmark = [
    pytest.mark.skipif(MEMORY, reason="thousands of sweeps, each of which looks at all guards"),
    pytest.mark.skipif(
        sys.version_info[:2] != (3, 11), reason="these are CPython 3.11's points: later ones trace less"
    ),
]


# --- delivery points --------------------------------------------------------------------------------------------------


@cache
def instructions(code: CodeType) -> dict[int, str]:
    return {i.offset: i.opname for i in dis.get_instructions(code)}


@cache
def protected(code: CodeType) -> list[tuple[int, int, int]]:
    """The exception table: ranges, and where each is handled."""
    return [(e.start, e.end, e.target) for e in dis._parse_exception_table(code)]  # type: ignore[attr-defined]


def handler(code: CodeType, offset: int) -> int:
    table = protected(code)
    at = bisect(table, (offset, sys.maxsize, 0)) - 1
    return table[at][2] if at >= 0 and offset < table[at][1] else -1


def waits(frame: FrameType | None) -> bool:
    """Whether Ctrl-C waits there: what compiled code calls back or leaves, and what lets it wait."""
    while frame is not None:
        if frame.f_code.co_name in ("_told", "reads_notes") or frame.f_code.co_filename == interrupts.__file__:
            return True
        frame = frame.f_back
    return False


class Points:
    """The delivery points that are passed inside tapegrad; at number `last` KeyboardInterrupt is raised."""

    def __init__(self, last: int = -1, beyond: tuple[str, ...] = ("__del__",)) -> None:
        self.last, self.beyond = last, beyond
        self.passed: list[tuple[CodeType, int]] = []
        self.before: dict[FrameType, int] = {}  # of each frame, the instruction that came before
        self.called: set[FrameType] = set()  # frames whose last call was of a Python function

    def __enter__(self) -> "Points":
        gc.disable()  # a collection calls what others registered, hypothesis too: Ctrl-C is lost in there
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.settrace(None)
        gc.enable()
        self.before.clear()
        self.called.clear()

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            code = frame.f_code
            if frame.f_back is not None and code.co_name != "__init__":
                self.called.add(frame.f_back)
            if not code.co_filename.startswith(PACKAGE) or code.co_name in self.beyond or waits(frame):
                return None
            frame.f_trace_opcodes = True
            return self.trace
        if event == "opcode":
            before, now = self.before.get(frame, -1), frame.f_lasti
            self.before[frame] = now
            if self.delivers(frame, before, now):
                self.passed.append((frame.f_code, now))
                if len(self.passed) == self.last + 1:
                    sys.settrace(None)
                    raise KeyboardInterrupt(f"in {frame.f_code.co_qualname}, line {frame.f_lineno}")
        return self.trace

    def delivers(self, frame: FrameType, before: int, now: int) -> bool:
        code = frame.f_code
        name = instructions(code).get(before, "")
        was_python, called = frame in self.called, name in ("CALL", "CALL_FUNCTION_EX", "CALL_KW")
        if called:
            self.called.discard(frame)
        if name == "RESUME" or (called and not was_python) or "JUMP_BACKWARD" in name:
            return handler(code, before) == handler(code, now)
        return False


# --- what is to hold at any time --------------------------------------------------------------------------------------


def check_whole(of: tape.Tape) -> None:
    """The tape's invariants."""
    free = of.free.array[: len(of.free)].tolist() + of.low
    assert len(set(free)) == len(free)
    assert all(0 < slot < of.top for slot in free)
    assert (of.slots["flags"][free] & tape.FREE != 0).all()
    assert all(of.live[slot] == 1 for slot in free)
    assert of.end <= len(of.rows) == of.capacity * tape.ROW.itemsize == of.h[tape.H.row_bytes]
    assert of.top <= of.slot_capacity == of.h[tape.H.n_slots] == len(of.slots) <= len(of.live)
    assert len(of.free.array) >= of.slot_capacity
    for name, array in (of._row_views | of._slot_views).items():
        assert of.h[getattr(tape.H, name)] == kinds.address_of(array)
        assert len(array) >= (of.capacity if name in of._row_views else of.slot_capacity)
    for name, memory in ("live", of.live), ("free", of.free.memory), ("lists", of.lists), ("latest", of.latest):
        assert of.h[getattr(tape.H, name)] == kinds.address_of(np.asarray(memory))
    assert of.h[tape.H.n_latest] == len(of.latest)
    assert len(kinds.objects) <= kinds.table.used
    for kind in kinds.objects[-8:]:
        known = kinds.table.array[kind.index]
        assert kinds.objects[kind.index] is kind
        assert (DTYPES[known["dtype"]], known["numel"], known["ndim"]) == (kind.dtype, kind.numel, kind.ndim)
        assert kinds.pool.array[known["dims"] : known["dims"] + kind.ndim].tolist() == list(kind.shape)
    if (made := recorder._linked()) is not None:
        assert made.context[recorder.C.entries] == kinds.address_of(np.asarray(made.look_up._words))


def check_right(of: tape.Tape, n: int) -> None:
    """A program that uses all of it gives right numbers."""
    assert of is tg.current_tape()
    assert of.grad_enabled
    a = np.linspace(-1.0, 1.0, n)
    x, shift = tg.tensor(a, requires_grad=True), tg.tensor(0.5, requires_grad=True)
    y = tg.cat([x.exp() * shift, x[: n // 2] * 2.0, x.reshape(1, n)[0]])
    z = y.detach().clone()
    z[0] = 7.0
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), 0.5 * np.exp(2 * a) + 8.0 * a * (np.arange(n) < n // 2) + 2 * a)
    np.testing.assert_allclose(shift.grad.item(), (np.exp(2 * a)).sum())
    np.testing.assert_allclose(z.tolist(), [7.0, *np.concatenate([np.exp(a) / 2, 2 * a[: n // 2], a])[1:]])
    check_whole(of)


# --- programs ---------------------------------------------------------------------------------------------------------


class Program:
    """What is done before, what is interrupted, and what holds after it, whether it was done or not.

    `n` is another number each time, so that kinds are new.
    """

    every = 1  # of how many points one is tried

    def __init__(self, n: int) -> None:
        self.n = n
        self.a = np.linspace(0.5, 1.5, n)
        self.x = tg.tensor(self.a, requires_grad=True)
        self.y = self.x * 3.0  # nobody has looked at it

    def act(self) -> None:
        raise NotImplementedError

    def check(self) -> None:
        np.testing.assert_allclose(self.y.tolist(), 3.0 * self.a)
        (g,) = tg.autograd.grad((self.y * self.y).sum(), self.x)
        np.testing.assert_allclose(g.tolist(), 18.0 * self.a)


class Recording(Program):
    def act(self) -> None:
        x = self.x
        self.z = tg.cat([x * 2.0, (x - self.y).reshape(self.n, 1)[:, 0], tg.where(x > 1.0, x, 0.25)]).sum(0)

    def check(self) -> None:
        if hasattr(self, "z"):
            a = self.a
            assert self.z.item() == pytest.approx((2 * a - 2 * a + np.where(a > 1.0, a, 0.25)).sum())
        super().check()


class Growing(Program):
    def act(self) -> None:
        self.held = []
        for k in range(20):
            self.held.append(self.x * float(k))
            self.held.append(tg.zeros(2))

    def check(self) -> None:
        for i, t in enumerate(self.held):
            np.testing.assert_allclose(t.tolist(), [0.0, 0.0] if i % 2 else self.a * (i // 2))
        super().check()


class Exporting(Program):
    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.t = self.x.detach() * 2.0
        self.view = self.t[1:]
        self.expected = 2.0 * self.a

    def act(self) -> None:
        self.array = self.t.numpy()
        self.array[0] = self.expected[0] = 5.0

    def check(self) -> None:
        np.testing.assert_allclose(self.t.tolist(), self.expected)
        np.testing.assert_allclose(self.view.tolist(), self.expected[1:])
        array = self.t.numpy()
        array[-1] = -1.0
        assert self.view[-1].item() == -1.0
        del self.t, self.view
        engine.reclaim(tg.current_tape())
        noise = [tg.ones(self.n) * 2.0 for _ in range(20)]
        assert all((t == 2.0).all().item() for t in noise)
        np.testing.assert_allclose(array, [*self.expected[:-1], -1.0])
        super().check()


class ExportingDetached(Program):
    """Few elements move, and the tensor that shares them goes with them."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.shown = [self.x, self.x * 2.0, tg.ones(n)]
        self.arrays: list[Any] = [None] * 3

    def act(self) -> None:
        for k, t in enumerate(self.shown):
            self.arrays[k] = t.detach().numpy()
            self.arrays[k][0] = 5.0

    def check(self) -> None:
        for t, array in zip(self.shown, self.arrays, strict=True):
            if array is not None:
                np.testing.assert_array_equal(t.tolist(), array)
            t.detach().numpy()[1] = 7.0
            assert t[1].item() == 7.0
            assert array is None or array[1] == 7.0
            assert t.requires_grad is (t is not self.shown[2])
        super().check()


class Sweeping(Program):
    def act(self) -> None:
        self.z = (self.y.tanh().sum() + self.y.exp().sum(0, keepdim=True)).tolist()

    def check(self) -> None:
        if hasattr(self, "z"):
            assert self.z == pytest.approx([np.tanh(3 * self.a).sum() + np.exp(3 * self.a).sum()])
        super().check()


class Adopting(Program):
    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.leaves = [tg.tensor(float(k), requires_grad=True) for k in range(12)]
        self.loss = tg.stack([w * w for w in self.leaves]).sum() + self.y.sum()

    def act(self) -> None:
        self.loss.backward()

    def check(self) -> None:
        given = [w.grad for w in self.leaves]
        if any(g is None for g in given):  # all of it, or nothing: then it can be done again
            assert given == [None] * 12
            self.loss.backward()
        assert [w.grad.item() for w in self.leaves] == [2.0 * k for k in range(12)]
        np.testing.assert_allclose(self.x.grad.tolist(), [3.0] * self.n)


class Accumulating(Adopting):
    def act(self) -> None:
        self.again.backward()

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.loss.backward()
        self.held = [w.grad for w in self.leaves]
        self.again = tg.stack([w * 3.0 for w in self.leaves]).sum()

    def check(self) -> None:
        found = [w.grad.item() for w in self.leaves]
        if found == [2.0 * k for k in range(12)]:
            self.again.backward()
            found = [w.grad.item() for w in self.leaves]
        assert found == [2.0 * k + 3.0 for k in range(12)]
        assert all(w.grad is g for w, g in zip(self.leaves, self.held, strict=True))


class Writing(Program):
    """In place, to a tensor with views of views."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.z = self.x * 1.0
        self.rows = self.z.reshape(1, n)
        self.first = self.rows[0, :2]

    def act(self) -> None:
        self.rows.mul_(10.0)

    def check(self) -> None:
        factor = round(self.z[0].item() / self.a[0])
        assert factor in (1, 10)
        np.testing.assert_allclose(self.z.tolist(), factor * self.a)
        np.testing.assert_allclose(self.rows.tolist(), [factor * self.a])
        np.testing.assert_allclose(self.first.tolist(), factor * self.a[:2])
        (g,) = tg.autograd.grad(self.first.sum() + self.z.sum(), self.x)
        np.testing.assert_allclose(g.tolist(), [2.0 * factor] * 2 + [1.0 * factor] * (self.n - 2))


class Differentiating(Program):
    def act(self) -> None:
        (self.g,) = tg.autograd.grad((self.y**3).sum(), self.x, create_graph=True)

    def check(self) -> None:
        if hasattr(self, "g"):
            (h,) = tg.autograd.grad(self.g.sum(), self.x, retain_graph=True)
            np.testing.assert_allclose(h.tolist(), 162.0 * self.a)
        super().check()


class Printing(Program):
    def act(self) -> None:
        self.text = repr(self.y) + str(tg.current_tape())


class Reclaiming(Program):
    def __init__(self, n: int) -> None:
        super().__init__(n)
        gone = [self.x * k for k in range(20)] + [tg.zeros(3, requires_grad=True) for _ in range(5)]
        gone[3].tolist()
        gone[4].detach().numpy()

    def act(self) -> None:
        engine.reclaim(tg.current_tape())


class Stepping(Program):
    """A compiled step of training: the first is recorded, of which only some of its many points are tried."""

    n_before, every = 0, 12

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.w = w = tg.tensor(self.a, requires_grad=True)
        optimiser = tg.optim.SGD([w], lr=0.5)

        def step(x: Any) -> Any:
            optimiser.zero_grad()
            loss = (w * x).sum()
            loss.backward()
            optimiser.step()
            return loss.detach()

        self.step, self.given = tg.compile(step), tg.ones(n)
        for _ in range(self.n_before):
            self.step(self.given)

    def act(self) -> None:
        self.step(self.given)

    def check(self) -> None:
        assert sys.getprofile() is None
        n_steps = round((self.a[0] - self.w[0].item()) / 0.5)
        assert n_steps in (self.n_before, self.n_before + 1)
        for k in range(n_steps, n_steps + 3):
            assert self.step(self.given).item() == pytest.approx(self.a.sum() - 0.5 * k * self.n, abs=1e-6)
            np.testing.assert_allclose(self.w.tolist(), self.a - 0.5 * (k + 1))
        assert self.step.stats()["replays"] >= 2
        super().check()


class Replaying(Stepping):
    n_before, every = 2, 4


PROGRAMS: list[type[Program]] = [
    Recording, Growing, Exporting, ExportingDetached, Sweeping, Adopting, Accumulating, Writing, Differentiating,
    Printing, Reclaiming, Stepping, Replaying,
]  # fmt: skip


@pytest.mark.parametrize("part", [0, *further(*range(1, PARTS))])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_at_every_point(kind: type[Program], part: int, monkeypatch: pytest.MonkeyPatch):
    for name, least in ("_FIRST_ROWS", 8), ("_FIRST_SLOTS", 16), ("_BATCH", 4), ("_LOW", 4):
        monkeypatch.setattr(tape, name, least)
    lengths = itertools.count(300 * (PROGRAMS.index(kind) * PARTS + part) + 3)  # which no other program has
    program = kind(next(lengths))
    program.act()
    program.check()
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    program = kind(next(lengths))
    with Points() as points:
        program.act()
    first = {point: k for k, point in reversed([*enumerate(points.passed)])}
    last = {point: k for k, point in enumerate(points.passed)}
    assert len(first) > 8
    for k in sorted({*first.values(), *list(last.values())[::5]})[part * kind.every :: PARTS * kind.every]:
        monkeypatch.setattr(tape._threads, "tape", tape.Tape())
        n = next(lengths)
        program, of = kind(n), tg.current_tape()
        try:
            with Points(k):
                program.act()
            where = "nowhere"
        except KeyboardInterrupt as interrupt:
            where = str(interrupt)
        try:
            program.check()
            check_right(of, n)
        except BaseException as error:
            error.add_note(f"interrupted at point {k}, {where}")
            raise


@pytest.mark.skipif(not native.JIT, reason="there is no compiler")
def test_at_every_point_of_a_finaliser(monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C reaches the program, and memory goes back: an array's to the tape, a tape's to the system."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        of = tg.current_tape()
        x = tg.ones(100_000)

        def let_go_of_an_array() -> None:
            array = engine.copied(ones)
            with points:
                del array

        def let_go_of_a_tape() -> None:
            made = tape.Tape()
            engine._connect(made)
            with points:
                del made

        ones, kept = x.numpy(), []
        for let_go, least in (let_go_of_an_array, 6), (let_go_of_a_tape, 3):
            points: Any = contextlib.nullcontext()
            let_go()  # the first time of all goes through more
            points = Points(beyond=())
            let_go()
            n = len(points.passed)
            assert n >= least
            for k in range(n):
                points = Points(k, beyond=())
                with pytest.raises(KeyboardInterrupt):
                    let_go()
                assert not of.lock._is_owned()  # type: ignore[attr-defined]
                kept.append(of.h[tape.H.kept])
        assert len(set(kept)) == 1  # what went back was taken again, each time
    finally:
        signal.signal(signal.SIGINT, before)
