"""Single precision in differentiated functions: values are the plain call's to the last bit, and of its dtype.

Gradients are those of the same program in double precision, as far as single precision goes.
"""

import math

import numpy as np
import pytest
from numba import float32
from plain_functions import njit
from thoroughness import further

import tapegrad as tg

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
ARRAYS = [
    "(x * 2 + 1) / 3 - x**2", "np.exp(x) * np.tanh(y * 1.5) * w", "np.where(x > 1, x, y) * np.where(x > 1, x, w)",
    "w.astype(np.float32) * x.astype(np.float64)", "np.full(4, x[0])",
    "np.array([x[0], x[1]]) * 1.1", "np.concatenate((x, y)) * x[0]",
    "x[::2] * y[::-2]", "np.maximum(x, y) + x * np.int32(3) + x * True", "np.maximum(x, y[0]) * np.cumsum(x)",
    "np.sort(y) * x", "np.linalg.matrix_power(np.linalg.inv(np.outer(x, y)[:2, :2] + x[3] * np.eye(2)), 2)[0]",
]  # fmt: skip
NUMBERS = [
    "x[0] * 2 + x[1] * 0.3", "x[0] ** 2 - x[1] ** -2 + x[2] ** 0.5", "math.sin(x[0]) * np.exp(x[1])", "max(x[0], x[1])",
    "np.float64(x[0]) * x[1]", "np.float32(w[0] * 0.1) * x[1]", "x.sum() + x.mean() * x.prod()", "x.max() - x.min()",
    "np.dot(x, y)", "x.reshape(2, 2).sum(axis=0)[1]", "math.floor(x[0] * 5) * x[1]", "x[0] if x[0] > x[1] else x[2]",
    "sum(x) + np.argmax(x) * x[0]", "float(x[0]) * x[1] // 0.3 * x[1]", "np.var(x) * np.std(y) + np.median(x)",
    "np.linalg.norm(x - y)", "(x.real * y).sum() + x[0].real * y[1]", "x.imag.sum() + np.imag(x)[1] + y[0].imag + x[3]",
    "x[0].conjugate() * y[2]",
]  # fmt: skip


def defined(lines, result):
    scope = {"np": np, "math": math}
    exec(
        "\n".join(["def f(x, y, w):", *(f" r{k} = {text}" for k, text in enumerate(lines)), f" return {result}"]), scope
    )
    return njit(scope["f"])


def given(seed):
    x, y, w = np.random.default_rng(seed).uniform(0.5, 1.5, (3, 4))
    return x.astype(np.float32), y.astype(np.float32), w


def by_differences(text, arguments, along):
    h = 1e-6
    sides = [in_real(text, *[a + s * h * d for a, d in zip(arguments, along, strict=True)]) for s in (1, -1)]
    return (sides[0] - sides[1]) / (2 * h)


def in_real(text, x, y, w):
    return float(
        np.sum(eval(text.replace("np.float32", "np.float64"), {"np": np, "math": math, "x": x, "y": y, "w": w}))
    )


@pytest.mark.parametrize("texts", [ARRAYS, *further(NUMBERS)], ids=["arrays", "numbers"])
def test_expressions(texts):
    f = defined(texts, "(" + ", ".join(f"r{k}" for k in range(len(texts))) + ")")
    arguments = given(0)
    wanted, (values, pull) = f(*arguments), tg.func.vjp(f, *arguments)
    generator = np.random.default_rng(1)
    along = generator.standard_normal((3, 4))
    for k, text in enumerate(texts):
        assert np.asarray(values[k]).dtype == np.asarray(wanted[k]).dtype, text
        assert np.asarray(values[k]).tobytes() == np.asarray(wanted[k]).tobytes(), text
        seeds = [np.zeros_like(v) for v in values]
        seeds[k] = np.ones_like(values[k])
        gradients = pull(tuple(seeds))
        assert [g.dtype for g in gradients] == [np.float32, np.float32, np.float64]
        found = sum(g.astype(float) @ d for g, d in zip(gradients, along, strict=True))
        wide = [a.astype(float) for a in arguments]
        assert math.isclose(found, by_differences(text, wide, along), rel_tol=3e-6, abs_tol=3e-6), text


@njit(locals={"total": float32})
def looped(x, a):
    """A program that mixes both precisions, writes in place, and has a declared local."""
    total = 0.0
    wide = 0.0
    y = np.empty(x.size, np.float32)
    for k in range(x.size):
        total = total + x[k] * a
        wide += x[k] * 0.1
        y[k] = wide * x[k]
    y[1:] += y[:-1] * np.float32(0.3)
    y *= x
    items = [x[0], np.float32(2.0), a * x[1]]
    for item in items:
        total = total + item * y[2]
    return total * wide + y.sum()


def test_comparisons_with_double_precision():
    """1/3 in single precision is above 1/3; where nothing is chosen by that, remainders have slopes 1 and -floor."""

    @njit
    def compared(x, a):
        if a < x[0] and x[0] > a and a != x[0] and not x[0] <= a:
            return a % x[1] + (x[1] // a) * x[0]
        return 0.0 * a

    x, a = np.array([1 / 3, 0.25], np.float32), 1 / 3
    value, (by_x, by_a) = tg.func.value_and_grad(compared, argnums=(0, 1))(x, a)
    assert value == compared(x, a) == a % 0.25
    assert (by_x.tolist(), by_a) == ([0.0, -1.0], 1.0)


def test_a_program():
    x, a = given(3)[0], 0.7
    value, (by_x, by_a) = tg.func.value_and_grad(looped, argnums=(0, 1))(x, a)
    assert value == looped(x, a)
    assert by_x.dtype == np.float32

    def wide(z):
        x, a = z[:4], z[4]
        total, steps = 0.0, np.cumsum(x * 0.1)
        y = steps * x
        y = np.array([y[0], *(y[1:] + y[:-1] * 0.3)]) * x
        total = (x * a).sum() + (x[0] + 2.0 + a * x[1]) * y[2]
        return total * steps[-1] + y.sum()

    z = np.array([*x.astype(float), a])
    slope = [wide(z + 1e-30j * unit).imag / 1e-30 for unit in np.eye(5)]
    np.testing.assert_allclose([*by_x, by_a], slope, rtol=1e-6)
    tangent = tg.func.jvp(looped, (x, a), (np.ones(4, np.float32), 2.0))[1]
    assert math.isclose(tangent, sum(slope[:4]) + 2 * slope[4], rel_tol=1e-6)


def test_what_is_written_and_shared():
    def f(x, z):
        z[0] = x[0] * x[1] * 0.1
        return z[0] * z[1]

    x, z = np.array([1.1, 1.3], np.float32), np.array([0.0, 3.0], np.float32)
    plain = z.copy()
    wanted = njit(f)(x, plain)
    value, gradient = tg.func.value_and_grad(njit(f))(x, z)
    assert (value, z.tobytes()) == (wanted, plain.tobytes())
    np.testing.assert_allclose(gradient, [0.3 * x[1], 0.3 * x[0]], rtol=1e-6)
    with pytest.raises(ValueError, match="share memory as float32"):
        tg.func.grad(njit(f))(x, x)
