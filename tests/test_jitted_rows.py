"""Jitted functions that are given Tensors, beside the same functions run on the Tensor tape."""

import math

import numpy as np
import pytest
from numba import njit

import tapegrad as tg
from tapegrad import trees
from tapegrad.func import grad, hessian, hvp, jacrev, jvp, value_and_grad, vjp


@njit
def curve(p, x):
    """Written in what both Numba and tensors have."""
    total = 0.0
    for k in range(3):
        total = total + x[k] * x[k] * p["a"][k]
    return total * p["t"], x * p["t"]


@njit
def energy(p, x):
    return curve(p, x)[0]


# The same for the Tensor tape: `curve` within is the plain function.
def plain_energy(p, x):
    return curve.py_func(p, x)[0]


def points(requires_grad=False):
    def leaf(x):
        return tg.tensor(x, requires_grad=requires_grad)

    return {"a": leaf([0.5, -1.0, 2.0]), "t": leaf(0.7)}, leaf([1.0, 0.3, -0.6])


def agree(found, expected):
    (leaves, structure), (others, other) = trees.flatten(found), trees.flatten(expected)
    assert structure == other
    for a, b in zip(leaves, others, strict=True):
        assert isinstance(a, tg.Tensor)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_all_transforms():
    p, x = points()
    along = (p, None)
    agree(jacrev(curve)(p, x=x), jacrev(curve.py_func)(p, x))
    agree(jvp(curve, (p, x), along), jvp(curve.py_func, (p, x), along))
    agree(hessian(energy)(p, x), hessian(plain_energy)(p, x))
    assert hvp(energy, (p, x), along)[1][1] is None
    agree(hvp(energy, (p, x), along)[1][0], hvp(plain_energy, (p, x), along)[1][0])
    bars = (tg.tensor(2.0), x)
    agree(vjp(curve, p, x)[1](bars), vjp(curve.py_func, p, x)[1](bars))
    agree(grad(curve, has_aux=True)(p, x), grad(curve.py_func, has_aux=True)(p, x))


def test_gradients_are_rows_that_can_be_differentiated():
    p, x = points()
    for f in (energy, plain_energy):
        assert not grad(f)(p, x)["a"].requires_grad

    def nested(f):
        """By the gradient by one argument, the gradient by the other."""
        return grad(lambda x: (grad(f)(p, x)["a"] ** 2).sum())(x)

    agree(nested(energy), nested(plain_energy))
    agree(jacrev(grad(energy), argnums=(0, 1))(p, x), jacrev(grad(plain_energy), argnums=(0, 1))(p, x))
    found = []
    for f in (energy, plain_energy):
        p, x = points(requires_grad=True)
        value, (by_p, by_x) = value_and_grad(f, argnums=(0, 1))(p, x)
        (value * by_p["t"] + (by_x * by_p["a"]).sum()).backward()
        found.append([p["a"].grad, p["t"].grad, x.grad])
    agree(*found)
    with tg.no_grad():
        assert not grad(energy)(p, x)["a"].requires_grad


def test_calls_are_rows_too():
    found = []
    for f in (tg.jitted.operation(curve), curve.py_func):
        p, x = points(requires_grad=True)
        total, scaled = f(p, (x * 2).sin())
        (total * scaled).sum().backward()
        found.append([total, scaled, p["a"].grad, p["t"].grad, x.grad])
    agree(*found)
    p, x = points()
    total, scaled = tg.jitted.operation(curve)(p, x)
    agree([total, scaled], list(curve.py_func(p, x)))
    assert not scaled.requires_grad


def test_numbers_and_others_among_the_arguments():
    @njit
    def power(x, n, s):
        return s * math.sin(x) ** n

    x = tg.tensor(0.7, requires_grad=True)
    tg.jitted.operation(power)(x, 3, s=2.0).backward()
    assert x.grad.item() == pytest.approx(6.0 * math.sin(0.7) ** 2 * math.cos(0.7), rel=1e-14)
    slope = grad(power, argnums=2)(x, 3, 2.0)
    assert slope.item() == pytest.approx(math.sin(0.7) ** 3, rel=1e-14)
    assert slope.requires_grad


def test_gradients_flow_through_jacobians_as_through_those_of_tensors():
    found = []
    for function in curve, curve.py_func:
        p, x = points(requires_grad=True)
        j = jacrev(function)(p, x)
        (j[0]["a"].sum() + (j[1]["t"] ** 2).sum()).backward()
        found.append((p["t"].grad, x.grad))
    agree(*found)


def test_what_has_no_derivative_says_so():
    p, x = points(requires_grad=True)
    with pytest.raises(TypeError, match=r"argument 0 has a tensor of tapegrad.float32: convert it with \.to"):
        grad(energy)({"a": x.to(tg.float32), "t": p["t"]}, x)
    with pytest.raises(RuntimeError, match="returns a tuple"):
        grad(curve)(p, x)
