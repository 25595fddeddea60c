"""SciPy's minimisers over trees of parameters: minima that are known, derivatives, and what comes back."""

from collections import namedtuple

import numpy as np
import pytest
from numba import njit
from scipy import optimize

import tapegrad as tg
from tapegrad import trees

Pair = namedtuple("Pair", ["a", "b"])
T = np.linspace(0.0, 3.0, 30)
GRADIENT = ["CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP", None]
SECOND = ["Newton-CG", "trust-ncg", "trust-krylov", "trust-constr", "dogleg", "trust-exact"]


def bowl(p):
    """Least at a = (1, 2), b = 3, where the Hessian is positive."""
    return tg.sum(tg.cosh(p["a"] - np.array([1.0, 2.0]))) + (p["b"] - 3.0) ** 2 * (1.0 + 0.1 * p["b"] ** 2)


START = {"a": np.array([0.5, 1.0]), "b": 2.5}


@pytest.mark.parametrize("method", [*GRADIENT, *SECOND, "Nelder-Mead", "Powell", "COBYLA", "COBYQA"])
def test_every_method_finds_the_minimum_of_a_function_of_a_tree(method):
    found = tg.optimize.minimize(bowl, START, method=method)
    np.testing.assert_allclose(found.x["a"], [1.0, 2.0], atol=1e-3)
    assert found.x["b"] == pytest.approx(3.0, abs=1e-3)
    assert type(found.x["b"]) is float
    assert type(found) is optimize.OptimizeResult


@pytest.mark.parametrize("method", ["L-BFGS-B", "Newton-CG", "trust-exact"])
def test_a_tree_takes_the_same_steps_as_a_vector(method):
    def flat(x):
        return bowl({"a": x[:2], "b": x[2]})

    derivatives = {"jac": tg.func.value_and_grad(flat)}
    if method == "Newton-CG":
        derivatives["hessp"] = lambda x, p: tg.func.hvp(flat, (x,), (p,))[1]
    if method == "trust-exact":
        derivatives["hess"] = tg.func.hessian(flat)
    derivatives["jac"] = tg.func.grad(flat)
    plain = optimize.minimize(lambda x: flat(x).item(), [0.5, 1.0, 2.5], method=method, **derivatives)
    found = tg.optimize.minimize(bowl, START, method=method)
    np.testing.assert_allclose([*found.x["a"], found.x["b"]], plain.x, rtol=1e-12)
    assert found.nit == plain.nit


@pytest.mark.parametrize(
    "start",
    [
        np.array([1.3, 0.7]),
        [1.3, 0.7],
        (1, 2),
        Pair(np.float32(1.3), np.array([0.7], np.float32)),
        {"x": [tg.tensor([1.3]), (tg.tensor(0.7),)]},
        1.5,
    ],
)
def test_what_comes_back_has_the_form_of_what_went_in(start):
    def loss(p):
        return sum(tg.sum((leaf - 2.0) ** 2) for leaf in trees.leaves(p))

    found = tg.optimize.minimize(loss, start).x
    leaves, structure = trees.flatten(found)
    given, form = trees.flatten(start)
    assert structure == form
    for leaf, like in zip(leaves, given, strict=True):
        assert type(leaf) is (float if type(like) is int else type(like))
        assert getattr(leaf, "dtype", None) == getattr(like, "dtype", None)
        np.testing.assert_allclose(np.asarray(leaf), 2.0, atol=1e-3)


def test_bounds_are_trees_and_a_number_stands_for_all_below_it():
    upper = {"a": np.array([0.8, np.inf]), "b": 2.0}
    found = tg.optimize.minimize(bowl, START, upper=upper, lower=0.0)
    np.testing.assert_allclose(found.x["a"], [0.8, 2.0], atol=1e-4)
    assert found.x["b"] == pytest.approx(2.0)
    same = tg.optimize.minimize(bowl, START, bounds=[(0, 0.8), (0, None), (0, 2.0)])
    np.testing.assert_array_equal(found.x["a"], same.x["a"])
    for bad in ({"a": 1.0}, {"a": 1.0, "c": 2.0}, {"a": np.zeros(3), "b": 0.0}, [1.0, 2.0]):
        with pytest.raises(ValueError, match="upper"):
            tg.optimize.minimize(bowl, START, upper=bad)
    with pytest.raises(ValueError, match="not both"):
        tg.optimize.minimize(bowl, START, upper=1.0, bounds=[(0, 1)] * 3)
    with pytest.raises(ValueError, match="takes no bounds"):
        tg.optimize.minimize(bowl, START, method="BFGS", upper=1.0)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYLA"])
def test_constraints_take_trees(method):
    on = optimize.NonlinearConstraint(lambda p: tg.sum(p["a"]) + p["b"], -np.inf, 4.0)
    dictionary = {"type": "ineq", "fun": lambda p, most: most - tg.sum(p["a"]) - p["b"], "args": (4.0,)}
    for constraint in (on, dictionary)[: 1 if method == "trust-constr" else 2]:  # there SciPy warns of what is linear
        found = tg.optimize.minimize(bowl, START, method=method, constraints=constraint)
        assert found.x["a"].sum() + found.x["b"] == pytest.approx(4.0, abs=1e-3)
    assert found.fun == pytest.approx(tg.optimize.minimize(bowl, START, method=method, constraints=[on]).fun, rel=1e-3)


def test_callbacks_are_given_trees():
    seen = []
    tg.optimize.minimize(bowl, START, callback=lambda p: seen.append(p["b"]))
    assert len(seen) > 2

    def told(intermediate_result):
        seen.append((intermediate_result.x["a"].shape, intermediate_result.fun))

    found = tg.optimize.minimize(bowl, START, callback=told)
    assert seen[-1][0] == (2,)
    assert seen[-1][1] == pytest.approx(found.fun)
    tg.optimize.minimize(bowl, START, method="trust-constr", callback=lambda p, state: seen.append((p["b"], state.nit)))
    assert seen[-1][1] > 1


def test_jitted_functions_are_minimised():
    @njit
    def rosenbrock(x, scale):
        return scale * np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    for method in ("L-BFGS-B", "Newton-CG", "trust-exact"):
        found = tg.optimize.minimize(rosenbrock, np.array([1.3, 0.7, 0.8]), (2.0,), method)
        np.testing.assert_allclose(found.x, 1.0, atol=1e-4)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares_of_trees_of_residuals(method):
    def residuals(p, y):
        curve = p["scale"] * tg.exp(-p["rates"][0] * T) + p["rates"][1]
        return {"data": curve - y, "prior": p["rates"][1] * 0.0}

    y = 2.0 * np.exp(-0.7 * T) + 0.3
    found = tg.optimize.least_squares(
        residuals, {"scale": 1.0, "rates": np.array([1.0, 0.0])}, (y,), method=method, xtol=1e-12
    )
    assert found.x["scale"] == pytest.approx(2.0)
    np.testing.assert_allclose(found.x["rates"], [0.7, 0.3], rtol=1e-6)
    assert found.jac.shape == (31, 3)
    np.testing.assert_allclose(found.jac[:30, 0], np.exp(-0.7 * T), rtol=1e-6)
    np.testing.assert_allclose(found.jac[:30, 1], -2.0 * T * np.exp(-0.7 * T), rtol=1e-5, atol=1e-6)
    if method != "lm":
        held = tg.optimize.least_squares(
            residuals, {"scale": 2.6, "rates": np.array([1.0, 0.0])}, (y,), method=method,
            lower={"scale": 2.5, "rates": -np.inf},
        )  # fmt: skip
        assert held.x["scale"] == pytest.approx(2.5)
    with pytest.raises(TypeError, match="jac is not an argument"):
        tg.optimize.least_squares(residuals, found.x, (y,), jac="2-point")


@pytest.mark.parametrize("method", ["hybr", "lm", "krylov", "broyden1", "df-sane"])
def test_roots_of_trees(method):
    def system(p, c):
        return {"sum": p["x"] + p["y"] - c, "product": p["x"] * p["y"] - 2.0}

    found = tg.optimize.root(system, {"x": 0.8, "y": 2.3}, (3.0,), method)
    assert (found.x["x"], found.x["y"]) == pytest.approx((1.0, 2.0), abs=1e-4)


def test_a_column_of_a_table_is_an_array_of_parameters():
    start = pytest.importorskip("pandas").Series([1.0, 2.0], index=["a", "b"])
    found = tg.optimize.minimize(lambda x: ((x - 3.0) ** 2).sum(), start)
    np.testing.assert_allclose(found.x, [3.0, 3.0], rtol=1e-6)
    assert type(found.x) is np.ndarray


def test_curve_fit_refuses_a_model_of_scipys_form():
    x = np.linspace(0.0, 1.0, 5)
    with pytest.raises(TypeError, match=r"takes \(x, a, b\), .*f\(xdata, parameters\).* lambda x, p: f\(x, \*p\)"):
        tg.optimize.curve_fit(lambda x, a, b: a * np.exp(b * x), x, np.exp(x), [1.0, 1.0])


def test_curve_fit_agrees_with_scipys():
    y = 2.5 * np.exp(-1.3 * T) + np.random.default_rng(0).normal(0.0, 0.01, len(T))
    plain, covariance = optimize.curve_fit(lambda x, a, b: a * np.exp(-b * x), T, y, p0=[1.0, 1.0])
    found, ours = tg.optimize.curve_fit(lambda x, p: p["a"] * tg.exp(-p["b"] * x), T, y, {"a": 1.0, "b": 1.0})
    np.testing.assert_allclose([found["a"], found["b"]], plain, rtol=1e-6)
    np.testing.assert_allclose(ours, covariance, rtol=1e-4)
    more = tg.optimize.curve_fit(
        lambda x, p: p[0] * tg.exp(-p[1] * x), tg.tensor(T), tg.tensor(y), (1.0, 1.0), sigma=np.full(len(T), 0.01),
        absolute_sigma=True, upper=(2.0, np.inf), full_output=True,
    )  # fmt: skip
    assert more[0][0] == pytest.approx(2.0)
    assert len(more) == 5


def test_what_is_no_parameter_is_refused():
    with pytest.raises(ValueError, match="no numbers"):
        tg.optimize.minimize(bowl, {})
    for start in ({"a": "x"}, {"a": None}, True, {"a": np.array([1j])}, object()):
        with pytest.raises(TypeError, match="parameters must be"):
            tg.optimize.minimize(bowl, start)
    with pytest.raises((RuntimeError, ValueError), match="scalar"):
        tg.optimize.minimize(lambda p: p * 2.0, np.zeros(2))
    with pytest.raises(ValueError, match="returns a number"):
        tg.optimize.minimize(lambda p: p * 2.0, np.zeros(2), method="Nelder-Mead")


def test_progress_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    tg.optimize.minimize(bowl, START, progress=True)
    shown = capsys.readouterr().err
    assert "least value" in shown
    assert "evaluation" in shown
