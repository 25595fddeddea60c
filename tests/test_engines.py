"""The two engines against each other: what a name means in jitted code is the operation that Tensors have.

Both take their derivatives from the op table, but Tensors sweep kernels, and record for higher orders, while jitted
code has the partials emitted among Numba's own instructions. So here each name that jitted code knows (`names.py`), and
its operation, are called at the same points, edges and ties among them: values, gradients and second derivatives are
equal, of scalars and of arrays, in reverse and in forward mode.

All names are in one jitted function, for the time that it takes to compile one.
"""

import builtins
import functools
import itertools
import math
import operator
from typing import Any

import mpmath
import numpy as np
import pytest
from numba import njit
from thoroughness import further

import tapegrad as tg
from tapegrad.jitted import names, special
from tapegrad.ops.declare import Op

INF, NAN = math.inf, math.nan
NUMBERS = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.5, 3.0, 0.01, INF, -INF, NAN)
A, B = (np.array(column) for column in zip(*itertools.product(NUMBERS, repeat=2), strict=True))
KNOWN = [
    (names.OPERATIONS[op], name)
    for op, called in names.NAMES.items()
    for name in called
    if name in names.RULES and names.OPERATIONS[op].arity < 3
]
NOT_FINITE = ~(np.isfinite(A) & np.isfinite(B))
# Points at which they may differ, and why.
LEFT_OUT = {
    np.sinc: np.abs(A) >= 1,  # Numba's is the sine of a rounded product
    operator.mul: NOT_FINITE,  # plain products go unguarded in jitted code: inf * 0 is nan, in tangents too
    np.multiply: NOT_FINITE,
    math.acosh: A == 0.0,  # outside of its domain nan times 0 is added up in another order
    np.arccosh: A == 0.0,
}


def written(name: Any) -> str:
    """A function's name in Python."""
    for module in (builtins, math, operator, np):
        if getattr(module, name.__name__, None) is name:
            return name.__name__ if module is builtins else f"{module.__name__.replace('numpy', 'np')}.{name.__name__}"
    raise AssertionError(name)


def call(op: Op, name: Any) -> str:
    return f"{written(name)}({'a' if op.arity == 1 else 'a, b'})"


@functools.cache
def weighted() -> Any:
    """The sum of one call, of which the weight isn't 0, over the points; compiled once for all of them."""
    lines = "".join(f"  if w[{k}] != 0.0:\n   total += {call(op, name)}\n" for k, (op, name) in enumerate(KNOWN))
    text = f"def f(x, y, w):\n total = 0.0\n for i in range(x.size):\n  a, b = x[i], y[i]\n{lines} return total"
    scope: dict[str, Any] = {"np": np, "math": math, "operator": operator, "_operator": operator}
    exec(text, scope)
    return njit(error_model="numpy")(scope["f"])


@functools.cache
def values() -> Any:
    lines = "".join(f"  out[{k}, i] = {call(op, name)}\n" for k, (op, name) in enumerate(KNOWN))
    text = (
        f"def f(x, y):\n out = np.empty(({len(KNOWN)}, x.size))\n for i in range(x.size):\n  a, b = x[i], y[i]\n"
        f"{lines} return out"
    )
    scope: dict[str, Any] = {"np": np, "math": math, "operator": operator, "_operator": operator}
    exec(text, scope)
    return njit(error_model="numpy")(scope["f"])


@functools.cache
def forward() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, and derivatives by a and by b, of forward mode."""
    f, one, zero = values(), np.ones_like(A), np.zeros_like(A)
    y, by_a = tg.func.jvp(f, (A, B), (one, zero))
    _, by_b = tg.func.jvp(f, (A, B), (zero, one))
    return y, by_a, by_b


@functools.cache
def of_tensors(op: Op) -> tuple[np.ndarray, list[np.ndarray], list[list[np.ndarray]]]:
    """Value, gradient and second derivatives of an operation at the points."""
    leaves = [tg.tensor(x, requires_grad=True) for x in (A, B)[: op.arity]]
    y = op(*leaves)
    swept = tg.autograd.grad(y.sum(), leaves, retain_graph=True)
    recorded = tg.autograd.grad(y.sum(), leaves, create_graph=True)
    second = []
    for g, s in zip(recorded, swept, strict=True):
        np.testing.assert_allclose(g.tolist(), s.tolist(), rtol=1e-14)
        if g.requires_grad:
            found = tg.autograd.grad(g.sum(), leaves, retain_graph=True, allow_unused=True)
            second.append([np.zeros_like(A) if h is None else h.numpy() for h in found])
        else:
            second.append([np.zeros_like(A)] * op.arity)
    return y.detach().numpy(), [s.numpy() for s in swept], second


def same(given: np.ndarray, wanted: np.ndarray, op: Op, name: Any, what: str, rtol: float) -> None:
    with np.errstate(all="ignore"):
        near = (np.abs(given - wanted) <= rtol * np.abs(wanted)) | (np.abs(given - wanted) < 1e-2 * rtol)
    near |= (given == wanted) | (np.isnan(given) & np.isnan(wanted)) | LEFT_OUT.get(name, False)
    points = np.stack([A, B, given, wanted], 1)[~near].tolist()
    if points:
        pytest.fail(
            f"{what} of {call(op, name)} at\n" + "\n".join(f"{a, b}: {g}, of Tensors {w}" for a, b, g, w in points),
            pytrace=False,
        )


each = pytest.mark.parametrize("k", range(len(KNOWN)), ids=lambda k: written(KNOWN[k][1]))


@each
def test_values_and_forward_mode(k: int):
    op, name = KNOWN[k]
    y, by_a, by_b = forward()
    value, gradient, _ = of_tensors(op)
    same(y[k], value, op, name, "the value", 1e-14)
    for way, found, wanted in zip(("by a", "by b"), (by_a, by_b), gradient, strict=False):
        same(found[k], wanted, op, name, f"the tangent {way}", 1e-13)


@each
def test_gradients(k: int):
    op, name = KNOWN[k]
    found = tg.func.grad(weighted(), argnums=(0, 1))(A, B, np.eye(len(KNOWN))[k])
    for way, g, wanted in zip(("by a", "by b"), found, of_tensors(op)[1], strict=False):
        same(g, wanted, op, name, f"the derivative {way}", 1e-13)


@each
def test_second_derivatives(k: int):
    op, name = KNOWN[k]
    one, zero, w = np.ones_like(A), np.zeros_like(A), np.eye(len(KNOWN))[k]
    for j in range(op.arity):
        along = ((one, zero) if j == 0 else (zero, one)) + (None,)
        found = tg.func.hvp(weighted(), (A, B, w), along)[1]
        for i, way in enumerate(("aa", "ab", "ba", "bb")[j::2][: op.arity]):
            same(found[i], of_tensors(op)[2][i][j], op, name, f"the second derivative by {way}", 1e-11)


@njit
def special_functions(x, w):
    return (
        w[0] * special.digamma(x) + w[1] * special.expit(x) + w[2] * special.ndtr(x) + w[3] * special.logit(x)
        + w[4] * special.betaln(x, 2.5) + w[5] * math.lgamma(x) + w[6] * math.gamma(x)
    )  # fmt: skip


def test_special_functions():
    exact = (
        mpmath.digamma, lambda x: 1 / (1 + mpmath.exp(-x)), mpmath.ncdf, lambda x: mpmath.log(x / (1 - x)),
        lambda x: mpmath.log(mpmath.beta(x, 2.5)), mpmath.loggamma, mpmath.gamma,
    )  # fmt: skip
    for k, function in enumerate(exact):
        for x in (0.03, 0.3, 0.9):
            w = np.eye(len(exact))[k]
            for order, found in enumerate(
                (
                    special_functions(x, w),
                    tg.func.grad(special_functions)(x, w),
                    tg.func.hessian(special_functions)(x, w),
                )
            ):
                true = float(mpmath.diff(function, x, order)) if order else float(function(x))
                np.testing.assert_allclose(found, true, rtol=1e-12)


@njit
def over_arrays(x, y):
    z = np.maximum(x, y) * np.fmin(y, x) + np.hypot(x, y) * np.arctan2(y, x) - np.copysign(x, y)
    z += np.sqrt(np.maximum(x, 0.5)) + np.where(x > 0.0, np.log(np.where(x > 0.0, x, 1.0)), np.sinc(y))
    return (z * np.clip(x, -1.0, 2.0) + np.logaddexp(x, y) ** 2 + np.remainder(x, 0.75) + np.abs(y)).sum()


@pytest.mark.parametrize("n", [0, 36, *further(1, 2)])
def test_the_same_function_over_arrays_and_over_tensors(n: int):
    """None, one and several elements, kinks and ties among them; by all transforms."""
    grid = itertools.product((0.0, -0.0, 0.5, -1.0, 2.0, 2.5), repeat=2)
    x, y = np.array(list(grid))[::-1][:n].T.reshape(2, n)
    leaves = [tg.tensor(x, requires_grad=True), tg.tensor(y, requires_grad=True)]
    value = over_arrays.py_func(*leaves)
    first = tg.autograd.grad(value, leaves, create_graph=True)
    np.testing.assert_allclose(over_arrays(x, y), value.item(), rtol=1e-13)
    for transform in (tg.func.grad, tg.func.jacfwd):
        for found, wanted in zip(transform(over_arrays, argnums=(0, 1))(x, y), first, strict=True):
            np.testing.assert_allclose(found, wanted.tolist(), rtol=1e-12, atol=1e-14)
    second = tg.autograd.grad(first[0].sum(), leaves)
    for found, wanted in zip(tg.func.hvp(over_arrays, (x, y), (np.ones(n), None))[1], second, strict=False):
        if found is not None:
            np.testing.assert_allclose(found, wanted.tolist(), rtol=1e-11, atol=1e-12)
