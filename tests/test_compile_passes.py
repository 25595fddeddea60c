"""Passes over a program's steps change no bit of what it computes, and leave out what they are to leave out."""

import math
import struct

import numpy as np
import pytest
from compiled_functions import bits, needs_programs
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegrad as tg
from tapegrad.core.notes import STEP
from tapegrad.core.replaying import END
from tapegrad.replay import machine, passes

F = tg.func
pytestmark = needs_programs
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, -math.nan, 1e-45, -3e38, 0.1]
OPERATIONS = [
    lambda a, b, c: a + b,
    lambda a, b, c: a - b,
    lambda a, b, c: a * b,
    lambda a, b, c: a / (b * b + 1.0),
    lambda a, b, c: a * 1.0,
    lambda a, b, c: a / 1.0,
    lambda a, b, c: a + -0.0,
    lambda a, b, c: -0.0 + a,
    lambda a, b, c: a - 0.0,
    lambda a, b, c: a + 0.0,
    lambda a, b, c: a * c,
    lambda a, b, c: tg.sin(a) * b,
    lambda a, b, c: tg.where(a > b, a, c),
    lambda a, b, c: tg.maximum(a, c * 2.0 - 1.0),
    lambda a, b, c: a.detach() * b,
]


def scalar_program(seed, n, dtype):
    """A function of three numbers: rows that are computed twice, are not needed, or are of constants; and branches."""
    choices = np.random.default_rng(seed).integers(0, 1 << 30, (n, 4)).tolist()

    def function(x, y, z):
        known = [x, y, z]
        held = []
        for what, one, other, third in choices:
            a, b, c = known[one % len(known)], known[other % len(known)], tg.tensor(1.0 + third % 3, dtype=dtype)
            if what % 19 == 18:
                known.append(b if a > b else c * a)
                held.append(a)
                continue
            operation = OPERATIONS[what % len(OPERATIONS)]
            made = operation(a, b, c) if third % 4 else operation(c, c * 0.5, a)
            known.append(made)
            if third % 5 == 0:
                known.append(operation(a, b, c))
        return sum(known[3:], x * 0.0)

    return function


def recorded(function, is_off, monkeypatch):
    monkeypatch.setattr(passes, "is_off", is_off)
    return tg.compile(function)


def n_steps(compiled):
    """The steps of each of its programs."""
    return [int(np.argmax(p.text[::STEP] == END)) for p, *_ in compiled._programs]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 25), st.booleans(), st.booleans())
def test_bits_are_the_same_with_and_without(seed, n, is_double, differentiates):
    dtype, random = tg.float64 if is_double else tg.float32, np.random.default_rng(seed)
    function = scalar_program(seed, n, dtype)
    if differentiates:
        function = F.value_and_grad(function, (0, 1, 2))
    with pytest.MonkeyPatch.context() as monkeypatch:
        without = recorded(function, True, monkeypatch)
        points = random.normal(size=(6, 3))
        points[3:] = random.choice(SPECIAL, (3, 3))
        given_ = [[tg.tensor(v, dtype=dtype) for v in point] for point in points.tolist()]
        expected = [bits(without(*point)) for point in given_ * 2]
        with_passes = recorded(function, False, monkeypatch)
        assert [bits(with_passes(*point)) for point in given_ * 2] == expected
        assert all(
            few <= many for few, many in zip(sorted(n_steps(with_passes)), sorted(n_steps(without)), strict=True)
        )
        for p, *_ in with_passes._programs:  # as machine code too
            p.memories.of_thread.speed_up(p)
        assert [bits(with_passes(*point)) for point in given_] == expected[: len(given_)]


def steps_of(function, *args):
    compiled = tg.compile(function)
    compiled(*args)
    (n,) = n_steps(compiled)
    return n


@pytest.mark.parametrize(
    ("function", "as_well"),
    [
        (lambda x: tg.sin(x) * tg.sin(x), lambda x: tg.sin(x) ** 2),
        (lambda x: (x * x) * 1.0, lambda x: x * x),
        (lambda x: (x * 3.0 + -0.0) / 1.0 - 0.0, lambda x: x * 3.0),
        (lambda x: x * (tg.tensor(2.0) * 3.0 + 1.0), lambda x: x * tg.tensor(7.0)),
    ],
)
def test_what_is_left_out(function, as_well):
    assert steps_of(function, tg.tensor(0.3)) == steps_of(as_well, tg.tensor(0.3))


@pytest.mark.parametrize("function", [lambda x: tg.sin(x) + 0.0, lambda x: x * 1.0, lambda x: tg.sin(x) * -1.0])
def test_what_is_not_left_out(function, monkeypatch):
    """Zero added makes 0 of -0; the product of a signalling nan, which only an argument can be, is a quiet one."""
    n = steps_of(function, tg.tensor(0.3))
    monkeypatch.setattr(passes, "is_off", True)
    assert n == steps_of(function, tg.tensor(0.3)) - 1  # the copy of the argument


def test_adjoints_are_added_in_their_order():
    """Products that are equal are computed once; the adjoints of both are added to, one after the other."""

    def function(x, y):
        a, b = x * y, x * y
        return a * 1e16 + (b - a) * 3.0 + b * 0.1

    x, y = 0.1, 0.7
    assert bits(tg.compile(F.grad(function, (0, 1)))(x, y)) == bits(F.grad(function, (0, 1))(x, y))


def test_signalling_nan():
    quiet, signalling = (struct.unpack("<d", struct.pack("<Q", n))[0] for n in (0x7FF8 << 48, 0x7FF0000000000001))
    for function in lambda x: x * 1.0, lambda x: x - 0.0, lambda x: tg.where(x > 0.0, x, x) * 1.0:
        compiled = tg.compile(function)
        for x in np.array([quiet, signalling]):
            assert [bits(compiled(tg.tensor(x))) for _ in range(2)] == [bits(function(tg.tensor(x)))] * 2


def test_rows_of_a_batch_and_what_is_computed_once():
    """What is computed of constants alone is the same for all rows."""
    rows = np.random.default_rng(0).normal(size=(70, 3))
    function = scalar_program(6, 20, tg.float64)
    compiled = tg.compile(F.value_and_grad(function, (0, 1, 2)))
    for point in rows.tolist():
        compiled(*point)
    values, gradients = compiled.map(*rows.T.copy())
    for k, point in enumerate(rows.tolist()):
        value, gradient = F.value_and_grad(function, (0, 1, 2))(*point)
        assert bits((values[k], [g[k] for g in gradients])) == bits(
            (np.float64(value), [np.float64(g) for g in gradient])
        )


def test_cells_are_used_again():
    """A chain of sums needs few cells, however long it is."""
    compiled = tg.compile(lambda x: sum((x * float(k) for k in range(500)), x))
    compiled(0.5)
    ((program, *_),) = compiled._programs
    cells = program.text[program.places[program.bases == 0]]
    assert machine.isa() is None or len(np.unique(cells)) < 20
