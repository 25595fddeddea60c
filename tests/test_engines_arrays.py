"""Array operations in jitted code and of tensors: the same values, and derivatives of both modes and orders.

At regular points, at kinks and ties, of singular matrices, of one element and of none.
"""

import inspect

import array_functions as these
import numpy as np
import pytest
from numba import njit

import tapegrad as tg
from tapegrad.jitted import array_rows, disk
from tapegrad.jitted.engine import engine_of

CASES = [("reductions", name, (np.array(x),)) for name, x in these.VECTORS.items()]
CASES += [("reductions_of_none", "none", (np.zeros(0),))]
CASES += [("along_axes", name, (x,)) for name, x in these.TABLES.items() if x.size]
CASES += [("products", name, args) for name, args in (these.REGULAR | these.SINGULAR).items()]
CASES += [("systems", name, args) for name, args in these.REGULAR.items()]
EXACT = {"rtol": 1e-11, "atol": 1e-12}


def weighed(function):
    """The sum of a function's results with weights, which are its first argument."""
    names = ", ".join("xyz"[: len(inspect.signature(function).parameters)])
    scope = {"np": np, "function": function}
    exec(f"def weighed(w, {names}):\n return (function({names}) * w).sum()", scope)
    return njit(scope["weighed"])


WEIGHED = {name: weighed(getattr(these, name)) for name in {case[0] for case in CASES}}


def over(cases):
    return pytest.mark.parametrize(
        ("name", "args"), [(c[0], c[2]) for c in cases], ids=[f"{c[0]}-{c[1]}" for c in cases]
    )


def joined(arrays):
    return np.concatenate([np.ravel(x) for x in arrays])


def directions(args):
    """Vectors that span all elements of the arguments, and none of them; with each, its parts.

    Forward mode goes along one after the other: code for several at once is compiled for each number of them, and is
    tried below, and in test_jitted.py.
    """
    n = sum(x.size for x in args)
    for direction in (*np.eye(n), np.zeros(n)):
        parts = np.split(direction, np.cumsum([x.size for x in args])[:-1])
        yield direction, tuple(part.reshape(x.shape) for part, x in zip(parts, args, strict=True))


@over(CASES)
def test_first_derivatives(name, args):
    jitted, of_tensors = getattr(these, name), getattr(these, f"{name}_of")
    argnums = tuple(range(len(args)))
    tensors = tuple(tg.tensor(x) for x in args)
    values = of_tensors(tg, *tensors).numpy()
    np.testing.assert_allclose(jitted.py_func(*args), values, **EXACT)
    wanted = [block.numpy() for block in tg.func.jacrev(lambda *xs: of_tensors(tg, *xs), argnums)(*tensors)]
    for found, expected in zip(tg.func.jacrev(jitted, argnums)(*args), wanted, strict=True):
        np.testing.assert_allclose(found, expected, **EXACT)
    jacobian = np.hstack([block.reshape(values.size, -1) for block in wanted])
    for direction, parts in directions(args):
        value, slope = tg.func.jvp(jitted, args, parts)
        np.testing.assert_allclose(value, values, **EXACT)
        np.testing.assert_allclose(slope, jacobian @ direction, **EXACT)


# Of a singular matrix's determinant tensors have none; see below.
@over([case for case in CASES if case[1] not in these.SINGULAR])
def test_second_derivatives(name, args):
    of_tensors = getattr(these, f"{name}_of")
    n, m = len(getattr(these, name).py_func(*args)), sum(x.size for x in args)
    tensors, argnums = tuple(tg.tensor(x) for x in args), tuple(range(len(args)))
    for k in range(n):
        rows = tg.func.hessian(lambda *xs, k=k: of_tensors(tg, *xs)[k], argnums)(*tensors)
        sizes = [x.size for x in args]
        hessian = np.block([
            [b.numpy().reshape(size, other) for b, other in zip(row, sizes, strict=True)]
            for row, size in zip(rows, sizes, strict=True)
        ]).reshape(m, m)  # fmt: skip
        for direction, parts in directions(args):
            product = tg.func.hvp(WEIGHED[name], (np.eye(n)[k], *args), (None, *parts))[1]
            np.testing.assert_allclose(joined(product[1:]), hessian @ direction, **EXACT)


@pytest.mark.parametrize(("name", "n"), [("products", None), ("systems", 21)])
def test_linear_algebra_by_another_derivation(name, n):
    """The first order by complex step, the second by differences of it, of the sixth order."""
    a, b, v = these.REGULAR["3 by 3"]
    jitted = getattr(these, name)
    weights = np.zeros(len(jitted.py_func(a, b, v)))
    weights[:n] = np.random.default_rng(3).normal(size=len(weights[:n]))  # what follows is not analytic

    def slopes(a):
        units = np.eye(9).reshape(9, 3, 3)
        return np.array([weights @ jitted.py_func(a + 1e-30j * u, b, v).imag / 1e-30 for u in units]).reshape(3, 3)

    jacobian = tg.func.jacrev(jitted, (0, 1, 2))(a, b, v)[0]
    np.testing.assert_allclose(np.tensordot(weights, jacobian, 1), slopes(a), rtol=1e-11)
    direction, e = np.random.default_rng(4).normal(size=(3, 3)), 1e-3
    ahead = [slopes(a + k * e * direction) - slopes(a - k * e * direction) for k in (1, 2, 3)]
    expected = (45 * ahead[0] - 9 * ahead[1] + ahead[2]) / (60 * e)
    product = tg.func.hvp(WEIGHED[name], (weights, a, b, v), (None, direction, None, None))[1]
    np.testing.assert_allclose(product[1], expected, rtol=1e-8, atol=1e-10)


def cofactors(a):
    n = len(a)

    def minor(i, j):
        return np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) if n > 1 else 1.0

    return np.array([[(-1.0) ** (i + j) * minor(i, j) for j in range(n)] for i in range(n)])


def test_determinants_of_singular_matrices():
    def beside(a):
        return a, np.eye(len(a)), np.zeros(len(a))

    rng = np.random.default_rng(0)
    row = rng.integers(-3, 4, size=(4, 4)).astype(float)
    for a in (np.array([[0.0]]), np.array([[1.0, 2.0], [2.0, 4.0]]), np.zeros((2, 2)), np.zeros((3, 3)),
              np.array([[1.0, 2, 3], [4, 5, 6], [5, 7, 9]]), np.diag([1.0, 2.0, 0.0]), np.diag([1.0, 0.0, 0.0]),
              np.vstack([row[:3], row[0] + row[1]]), row):  # fmt: skip
        of_det = tg.func.jacrev(these.products, (0, 1, 2))(*beside(a))[0][-2]
        np.testing.assert_allclose(of_det, cofactors(a), atol=1e-12)
        for element, cofactor in zip(np.eye(a.size).reshape(-1, *a.shape), cofactors(a).flat, strict=True):
            tangent = tg.func.jvp(these.products, beside(a), (element, None, None))[1]
            np.testing.assert_allclose(tangent[-2], cofactor, atol=1e-12)
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    wanted = np.zeros((2, 2, 2, 2))
    wanted[0, 0, 1, 1] = wanted[1, 1, 0, 0] = 1.0
    wanted[0, 1, 1, 0] = wanted[1, 0, 0, 1] = -1.0
    weights = np.zeros(len(these.products.py_func(*beside(a))))
    weights[-2] = 1.0
    hessian = tg.func.hessian(WEIGHED["products"], (1, 2, 3))(weights, *beside(a))
    np.testing.assert_allclose(hessian[0][0], wanted, atol=1e-14)


def test_a_cholesky_factor_is_that_of_a_symmetric_matrix():
    """Its lower triangle alone is read; the gradient is half in each."""

    def factor(transform, a, *along):
        others = np.zeros_like(a), np.zeros(len(a))
        if along:
            values, tangents = tg.func.jvp(these.systems, (a, *others), (*along, None, None))
            return values[-a.size :].reshape(a.shape), tangents[-a.size :].reshape(a.shape)
        return transform(these.systems, (0, 1, 2))(a, *others)[0][-a.size :].reshape(*a.shape, *a.shape)

    rng = np.random.default_rng(5)
    b, weights = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    a = b @ b.T + 3.0 * np.eye(3)
    upper = a + np.triu(np.ones((3, 3)), 1)  # is not read
    jacobian = factor(tg.func.jacrev, a)
    tensor = tg.tensor(a, requires_grad=True)
    (tg.linalg.cholesky(tensor) * tg.tensor(weights)).sum().backward()
    np.testing.assert_allclose(np.tensordot(weights, jacobian), tensor.grad.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(jacobian, jacobian.swapaxes(2, 3))
    np.testing.assert_allclose(factor(tg.func.jacfwd, a), jacobian, rtol=1e-12, atol=1e-14)
    given = [factor(tg.func.jvp, x, along) for x, along in ((a, weights), (upper, weights), (a, weights.T))]
    for value, tangent in given:
        np.testing.assert_array_equal(value, given[0][0])
        np.testing.assert_allclose(value, np.linalg.cholesky(a), rtol=1e-14)
        np.testing.assert_allclose(tangent, np.tensordot(jacobian, weights), rtol=1e-12, atol=1e-14)
    x, y, z = 2.0, 3.0, 1.0  # the sum is sqrt(x) + z / sqrt(x) + sqrt(y - z z / x)
    last = (y - z * z / x) ** -0.5 / 2
    exact = x**-0.5 / 2 - z * x**-1.5 / 2 + last * z * z / x**2, last, x**-0.5 - 2 * last * z / x
    for transform in (tg.func.jacrev, tg.func.jacfwd):
        slopes = factor(transform, np.array([[x, z], [z, y]])).sum((0, 1))
        np.testing.assert_allclose((slopes[0, 0], slopes[1, 1], slopes[0, 1] + slopes[1, 0]), exact, rtol=1e-14)


determinant = njit(lambda a: np.linalg.det(a) ** 2)


def test_an_operation_s_kernels_are_there_when_compiled_code_calls_them():
    a = np.array([[2.0, 1.0], [0.5, 3.0]])
    gradient = tg.func.grad(determinant)
    wanted = 2 * 5.5 * np.array([[3.0, -0.5], [-1.0, 2.0]])
    np.testing.assert_allclose(gradient(a), wanted)
    (driver,) = engine_of(determinant).drivers.values()
    (made,) = driver.overloads.values()
    assert disk.operations_in(made.library._get_module_for_linking()) == ["det"]
    array_rows._records["det"][array_rows.REVERSE] = 0  # as in code from Numba's own cache
    np.testing.assert_allclose(gradient(a), wanted)
    assert array_rows._records["det"][array_rows.REVERSE]
