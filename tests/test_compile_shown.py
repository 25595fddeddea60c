"""Compiled functions that go on with the arrays and numbers that a transform inside has made."""

import math
import warnings

import numpy as np
import pytest
from compiled_functions import agrees, needs_programs
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegrad as tg
from tapegrad import trees

F = tg.func
pytestmark = needs_programs
VALUE = F.value_and_grad(lambda x: ((x**2 - 0.3) * x.exp()).sum())
OF_NUMBER = F.value_and_grad(lambda t: t * t - t.exp() * 0.1)


def program(seed, n_steps):
    """A function of an array and a number that computes with gradients as NumPy and Python do; it may raise."""
    choices = np.random.default_rng(seed).integers(0, 1 << 30, (n_steps, 4)).tolist()

    def function(x, t):
        value, gradient = VALUE(x)
        arrays, numbers = [x, gradient], [t, value]
        for what, one, other, kind in choices:
            a, b = arrays[one % len(arrays)], arrays[other % len(arrays)]
            s, r = numbers[one % len(numbers)], numbers[other % len(numbers)]
            kind %= 16
            if kind == 0:
                arrays.append((a + b, a - b, a * b, a / (b * b + 1.0))[what % 4])
            elif kind == 1:
                arrays.append((s * a, a - s, a * 0.5, 2 - a, -a, abs(a), a**2)[what % 7])
            elif kind == 2:
                numbers.append((s + r, s - r, s * r, -s, abs(s), s / r, 1.0 - s)[what % 7])
            elif kind == 3:
                v, g = VALUE(a * 0.25)
                numbers.append(v)
                arrays.append(g)
            elif kind == 4 and s < 0.3 * (what % 3):
                arrays.append(a + 1.0)
            elif kind == 5 and np.abs(a).max() > 0.5:
                arrays.append(a * 0.5)
            elif kind == 6:
                numbers.append(float(a[what % 3]) * 0.5 if what % 2 else a[0] * 2.0 + a[-1])
            elif kind == 7:
                v, g = OF_NUMBER(s * 0.125)
                numbers += [v, g]
            elif kind == 8:
                arrays.append(np.sqrt(a * a) if what % 2 else np.add(a, b) * np.multiply(0.5, a))
            elif kind == 9:
                numbers.append((tg.tensor(a) * s).sum().item())
            elif kind == 10 and (a > 0.1).any():
                arrays.append(np.concatenate([a[1:], a[:1]]) if what % 3 == 0 else a * a[:1])
            elif kind == 11 and s:
                numbers.append(math.tanh(s) if what % 3 == 0 else r * 0.5)
            elif kind == 12:
                c = a * 1.0
                if what % 4 == 0:
                    c[0] = 0.5
                    c *= 2.0
                arrays.append(c.reshape(-1).copy())
            elif kind == 13:
                numbers.append(sum(a) if what % 2 else a.sum())
            elif kind == 14 and a[1] >= b[1]:
                arrays.append(a.T - b)
            else:
                arrays.append(a * 0.75)
        return arrays[-1], numbers[-1], arrays[len(arrays) // 2] * numbers[-1], value

    return function


def with_one_nan(function):
    """The function, with nan for every nan: the sign of one that is made of two is nobody's."""

    def called(*args):
        leaves, structure = trees.flatten(function(*args))
        made = [
            np.where(np.isnan(x), x.dtype.type(np.nan), x) if isinstance(x, np.ndarray)
            else type(x)(np.nan) if math.isnan(x) else x
            for x in leaves
        ]  # fmt: skip
        return trees.unflatten(structure, made)

    return called


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 10), st.booleans())
def test_what_is_made_of_gradients_is_what_numpy_makes(seed, n_steps, is_double):
    function, random = program(seed, n_steps), np.random.default_rng(seed)
    compiled = tg.compile(function)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for i in range(8):
            x = random.normal(size=3).astype(np.float64 if is_double else np.float32)
            if i % 4 == 3:
                x[i % 3] = (np.nan, np.inf, -0.0)[seed % 3]
            agrees(with_one_nan(function), with_one_nan(compiled), x, float(random.normal()) if i % 5 else 0.0)


def test_an_iteration_is_one_program():
    def descend(x):
        for _ in range(50):
            value, gradient = VALUE(x)
            if np.abs(gradient).max() < 1e-3:
                break
            x = x - 0.05 * gradient
        return x, value * 2.0

    compiled = tg.compile(descend)
    for i in range(12):
        agrees(descend, compiled, np.linspace(0.2, 0.4, 3) + 0.001 * i)
    stats = compiled.stats()
    assert stats["recordings"] <= 4
    assert stats["replays"] >= 8


def test_division_by_zero_raises_in_replays_too():
    compiled = tg.compile(lambda t: 1.0 / F.grad(lambda s: s * s)(t))
    assert compiled(1.0) == 0.5 == compiled(1.0)
    with pytest.raises(ZeroDivisionError):
        compiled(0.0)
    assert compiled(2.0) == 0.25


def test_what_is_not_exact_is_guarded():
    compiled = tg.compile(lambda x: np.exp(F.grad(lambda y: (y**2).sum())(x)))
    for x in (np.array([0.5, 1.0]), np.array([0.5, 1.0]), np.array([0.25, 1.0])):
        agrees(compiled.__wrapped__, compiled, x)
    assert (compiled.stats()["recordings"], compiled.stats()["replays"]) == (2, 1)
