"""SciPy's solvers call functions written with tapegrad's, and their transforms, as they are typed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize

import tapegrad as tg

START = [1.3, 0.7]


def rosenbrock(x):
    return tg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def system(x):
    return tg.stack([x[0] + x[1] - 3.0, x[0] * x[1] - 2.0])


def residuals(x):
    return tg.exp(x) - 2.0


def total(x):
    return tg.sum(x) - 1.0


def decay(y):
    return -2.0 * tg.sin(y)


GRAD, HESS = tg.func.grad(rosenbrock), tg.func.hessian(rosenbrock)
HOLD = {"type": "ineq", "fun": total, "jac": tg.func.grad(total)}
POINTS = np.linspace(0.0, 2.0, 9)
FORMS = {
    "no jac": (lambda: optimize.minimize(rosenbrock, START).x, 1.0, 1e-4),
    "jac=True": (lambda: optimize.minimize(tg.func.value_and_grad(rosenbrock), START, jac=True).x, 1.0, 1e-5),
    "jac": (lambda: optimize.minimize(rosenbrock, START, jac=GRAD).x, 1.0, 1e-5),
    "bounds": (lambda: optimize.minimize(rosenbrock, START, jac=GRAD, bounds=[(0, 2)] * 2).x, 1.0, 1e-2),
    "hess": (lambda: optimize.minimize(rosenbrock, START, jac=GRAD, hess=HESS, method="trust-exact").x, 1.0, 1e-4),
    "constraints": (lambda: optimize.minimize(rosenbrock, START, jac=GRAD, constraints=HOLD).x, 1.0, 1e-3),
    "approx_fprime": (lambda: optimize.approx_fprime(np.ones(2), rosenbrock), 0.0, 1e-4),
    "check_grad": (lambda: optimize.check_grad(rosenbrock, GRAD, np.array([1.2, 0.3])), 0.0, 1e-4),
    "root": (lambda: optimize.root(system, [0.5, 3.0], jac=tg.func.jacrev(system)).x, [1.0, 2.0], 1e-8),
    "fsolve": (lambda: optimize.fsolve(system, [0.5, 3.0]), [1.0, 2.0], 1e-8),
    "least_squares": (lambda: optimize.least_squares(residuals, [0.1, 0.2]).x, np.log(2.0), 1e-8),
    "least_squares, jac": (
        lambda: optimize.least_squares(residuals, [0.1, 0.2], jac=tg.func.jacfwd(residuals)).x, np.log(2.0), 1e-8,
    ),
    "newton": (
        lambda: float(optimize.newton(residuals, 0.5, fprime=tg.func.grad(residuals))), np.log(2.0), 1e-12,
    ),
    "brentq": (lambda: optimize.brentq(residuals, 0.0, 1.0), np.log(2.0), 1e-10),
    "curve_fit": (
        lambda: optimize.curve_fit(
            lambda x, a, b: a * tg.exp(-b * x), POINTS, 2.5 * np.exp(-1.3 * POINTS), p0=[1, 1]
        )[0],
        [2.5, 1.3], 1e-6,
    ),
    "quad": (lambda: integrate.quad(lambda x: tg.exp(-x), 0.0, 1.0)[0], 1.0 - np.exp(-1.0), 1e-12),
    "solve_ivp": (
        lambda: integrate.solve_ivp(
            lambda _, y: decay(y), (0.0, 1.0), [1.0], method="Radau",
            jac=lambda _, y: tg.func.jacrev(decay)(y), rtol=1e-9,
        ).y[0, -1],
        2.0 * np.arctan(np.tan(0.5) * np.exp(-2.0)), 1e-6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_calls(name: str):
    call, expected, tolerance = FORMS[name]
    np.testing.assert_allclose(call(), expected, atol=tolerance)


def test_dtypes_stand_for_numpys():
    assert np.dtype(tg.float32) == np.float32
    assert np.issubdtype(tg.int64, np.integer)
    assert np.zeros(2, tg.bool).dtype == bool


def test_size_is_a_number_as_of_arrays_and_called_as_of_tensors():
    t = tg.ones(2, 3)
    assert (t.size, t.size(), t.size(1), t.size(dim=0)) == (6, (2, 3), 3, 2)
    assert np.zeros(t.size).shape == (6,)
    with pytest.raises(IndexError):
        t.size(2)
    mean = tg.func.grad(lambda x: x.sum() / x.size)
    assert mean(np.ones(4)).tolist() == [0.25] * 4
