"""Transforms of functions of Tensors: the mathematics, nesting, and what is left behind. See also tests/parity/."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegrad as tg
from tapegrad.func import grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, value_and_grad, vjp

X = np.array([0.3, -0.7, 1.1])


def field(x, t):
    """Of arrays, complex ones too, and of tensors: NumPy's functions record."""
    return np.sin(x * t) * np.exp(x[0] * x[1:]).sum() + x**2


def energy(x, t):
    return (field(x, t) ** 2).sum()


def by_complex_step(f, x):
    """The Jacobian by x: no differences are taken, so that it is right to rounding."""
    columns = [np.asarray(f(x + 1e-30j * unit)).imag / 1e-30 for unit in np.eye(x.size)]
    return np.stack(columns, -1)


def test_first_derivatives_against_complex_step():
    x, t = tg.tensor(X), tg.tensor(0.8)
    expected = by_complex_step(lambda z: field(z, 0.8), X)
    by_t = by_complex_step(lambda z: field(X, z[0]), np.array([0.8]))[:, 0]
    for transform in (jacrev, jacfwd, jacobian):
        j, k = transform(field, argnums=(0, 1))(x, t)
        np.testing.assert_allclose(j.numpy(), expected, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(k.numpy(), by_t, rtol=1e-13)
    value, slope = value_and_grad(energy)(x, t)
    assert value.item() == pytest.approx(energy(X, 0.8), rel=1e-14)
    np.testing.assert_allclose(slope.numpy(), by_complex_step(lambda z: energy(z, 0.8), X), rtol=1e-13)


def test_second_derivatives_against_complex_step():
    x, t = tg.tensor(X), tg.tensor(0.8)

    # The Hessian row by row: the complex step of a gradient that is written by hand.
    def slope(z):
        s = np.exp(z[0] * z[1:]).sum()
        f, sine = field(z, 0.8), np.sin(z * 0.8)
        by_s = 2 * (f * sine).sum()
        head = (np.exp(z[0] * z[1:]) * z[1:]).sum()
        through_s = np.concatenate([[head], z[0] * np.exp(z[0] * z[1:])]) * by_s
        return 2 * f * (np.cos(z * 0.8) * 0.8 * s + 2 * z) + through_s

    expected = by_complex_step(slope, X)
    np.testing.assert_allclose(expected, expected.T, rtol=1e-12)
    for second in (hessian(energy), jacrev(jacrev(energy)), jacfwd(grad(energy)), jacobian(grad(energy))):
        np.testing.assert_allclose(second(x, t).numpy(), expected, rtol=1e-12)
    v = tg.tensor([1.0, -2.0, 0.5])
    value, product = hvp(lambda x: energy(x, t), (x,), (v,))
    assert value.item() == pytest.approx(energy(X, 0.8), rel=1e-14)
    np.testing.assert_allclose(product.numpy(), expected @ v.numpy(), rtol=1e-12)
    _, both = hvp(energy, (x, t), (v, None))
    np.testing.assert_allclose(both[0].numpy(), expected @ v.numpy(), rtol=1e-12)
    assert both[1] is None


def test_higher_orders_against_mpmath():
    f, order = (lambda s: tg.sin(s) * s**3), 5
    for n in range(1, order + 1):
        f = grad(f)
        expected = float(mpmath.diff(lambda s: mpmath.sin(s) * s**3, mpmath.mpf("0.7"), n))
        assert f(tg.tensor(0.7)).item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["x * y", "tg.sin(x) / (1 + y * y)", "tg.where(x > y, x * x, y)"]))
def test_the_inner_product_identity(seed, text):
    rng = np.random.default_rng(seed)
    x, y, x_dot, y_dot, bar = (tg.tensor(rng.normal(size=(2, 3))) for _ in range(5))

    def f(d):
        return {"z": eval(text, {"tg": tg, **d}), "sum": [d["x"].sum()]}

    _, tangent = jvp(f, ({"x": x, "y": y},), ({"x": x_dot, "y": y_dot},))
    _, pull = vjp(f, {"x": x, "y": y})
    (cotangent,) = pull({"z": bar, "sum": [tg.tensor(0.5)]})
    left = (bar * tangent["z"]).sum() + 0.5 * tangent["sum"][0]
    right = (cotangent["x"] * x_dot).sum() + (cotangent["y"] * y_dot).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-12, abs=1e-12)


def test_each_level_knows_its_own_inputs():
    # d/dx [x d/dy (x + y)] = 1: a level that took the outer x for its own would say 2.
    assert grad(lambda x: x * grad(lambda y: x + y)(x * 0 + 1))(tg.tensor(1.0)).item() == 1.0
    # d/dx (d/dy (x y^2) at y = x) = d/dx (2 x^2)
    assert grad(lambda x: grad(lambda y: x * y * y)(x))(tg.tensor(3.0)).item() == 12.0


def test_tensors_that_are_read_receive_their_gradients_outside():
    w = tg.tensor([2.0, 3.0, 5.0], requires_grad=True)
    x = tg.tensor(X)
    slope = grad(lambda x: (w * x**3).sum())(x)
    slope.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 3 * X**2)
    assert x.grad is None
    assert not grad(lambda x: (w + x**3).sum())(x).requires_grad  # w isn't in the gradient
    value, slope = value_and_grad(lambda x: (w * x**3).sum())(w)
    assert value.requires_grad
    assert slope.requires_grad
    with tg.no_grad():
        value, slope = value_and_grad(lambda x: (w * x**3).sum())(w)
    assert not value.requires_grad
    assert not slope.requires_grad


def test_nothing_is_left_behind():
    tape = tg.current_tape()
    x = tg.tensor(X)
    known = len(tape.leaves)
    for transform in (grad, hessian):
        transform(lambda x: (x**3).sum())(x)
    jvp(lambda x: x**3, (x,), (x,))
    with pytest.raises(ZeroDivisionError):
        grad(lambda x: x.sum() / (1 // 0))(x)
    assert len(tape.leaves) <= known
    assert tg.is_grad_enabled()
    assert not x.requires_grad
    assert x.grad is None


def test_a_vjp_can_be_pulled_later_and_often():
    output, pull = vjp(lambda x: x**3, tg.tensor(X))
    assert not output.requires_grad
    for k in range(3):
        np.testing.assert_allclose(pull(tg.full((3,), float(k)))[0].numpy(), 3 * k * X**2)
    assert vjp(lambda x, n: x**n, tg.tensor(X), 3)[1](tg.ones(3))[1] is None  # n isn't differentiated
    _, pull = vjp(lambda x: (x * 2, x.sum()), tg.tensor(X))
    np.testing.assert_allclose(pull(tg.ones(3), tg.tensor(1.0))[0].numpy(), 3.0)


def test_shapes_of_jacobians():
    a = tg.tensor(np.arange(6.0).reshape(2, 3))
    for transform in (jacrev, jacfwd):
        assert transform(lambda a: a.T @ a)(a).shape == (3, 3, 2, 3)
        assert transform(lambda a: a[:0])(a).shape == (0, 3, 2, 3)
        assert transform(lambda a: a.sum())(a).shape == (2, 3)
        assert transform(lambda a: a.sum() * tg.ones(2))(a[:, :0]).shape == (2, 2, 0)
        assert transform(lambda a: a * 2)(a.to(tg.float32)).dtype is tg.float32


def test_an_auxiliary_result_of_any_kind():
    slope, aux = grad(lambda x: (x.sum(), {"twice": x * 2, "name": "sum"}), has_aux=True)(tg.tensor(X))
    assert slope.tolist() == [1.0, 1.0, 1.0]
    assert aux["name"] == "sum"
    assert not aux["twice"].requires_grad
    np.testing.assert_array_equal(aux["twice"].numpy(), 2 * X)
    found, aux = jacrev(lambda x: (x * x, x), has_aux=True)(tg.tensor(X))
    np.testing.assert_array_equal(found.numpy(), np.diag(2 * X))
    np.testing.assert_array_equal(aux.numpy(), X)


def test_what_is_refused():
    x = tg.tensor(X)
    with pytest.raises(RuntimeError, match=r"hvp.*Expected primals and tangents to have the same python structure"):
        hvp(lambda x: x.sum(), (x,), ({"a": x},))
    with pytest.raises(RuntimeError, match=r"Tensor is of size \[3\] while the given .* is of size \[\]"):
        jvp(lambda x: x, (x,), (tg.tensor(1.0),))
    with pytest.raises(RuntimeError, match="at least one that is not None"):
        jvp(lambda x: x, (x,), (None,))
    with pytest.raises(RuntimeError, match="argnums must be non-empty"):
        grad(lambda x: x.sum(), argnums=())(x)
    with pytest.raises(
        ValueError, match=r"got <class 'str'> in argument 0: real numbers, .* name other arguments in argnums"
    ):
        grad(lambda p: p["x"].sum() * len(p["n"]))({"x": x, "n": "two"})
