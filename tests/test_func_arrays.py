"""Transforms of plain functions of arrays and numbers: what goes in, what comes back, and SciPy's solvers.

Derivatives are compared with complex steps of the same function over NumPy's arrays, which are right to rounding.
"""

import warnings
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy import integrate, linalg, optimize, special

import tapegrad as tg
from tapegrad.func import grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, value_and_grad, vjp

Pair = namedtuple("Pair", ["a", "b"])
X = np.array([0.3, -0.7, 1.1])


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def field(x, t):
    return np.sin(x * t) * np.exp(x[0] * x[1:]).sum() + x**2


def by_complex_step(f, x):
    x = np.asarray(x, float)
    columns = [np.asarray(f(x + 1e-30j * unit.reshape(x.shape))).imag / 1e-30 for unit in np.eye(x.size)]
    return np.stack(columns, -1).reshape(np.shape(f(x)) + x.shape)


# --- what goes in, what comes back ------------------------------------------------------------------------------------


def test_arrays_go_in_and_arrays_come_back():
    value, slope = value_and_grad(rosenbrock)(X)
    assert type(value) is float
    assert value == pytest.approx(rosenbrock(X), rel=1e-14)
    assert type(slope) is np.ndarray
    assert slope.flags.writeable
    np.testing.assert_allclose(slope, by_complex_step(rosenbrock, X), rtol=1e-13)
    for transform in (jacrev, jacfwd, jacobian):
        by_x, by_t = transform(field, argnums=(0, 1))(X, 0.8)
        np.testing.assert_allclose(by_x, by_complex_step(lambda x: field(x, 0.8), X), rtol=1e-13)
        np.testing.assert_allclose(by_t, by_complex_step(lambda t: field(X, t), 0.8), rtol=1e-13)
        assert type(by_x) is type(by_t) is np.ndarray


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (2.0, float),
        (2, float),
        (np.float64(2.0), np.float64),
        (np.float32(2.0), np.float32),
        (np.int64(2), np.float64),
        (np.array(2.0), np.ndarray),
        (np.array(2), np.ndarray),
    ],
)
def test_a_gradient_has_the_form_of_what_it_belongs_to(x, kind):
    found = grad(lambda x: x**3)(x)
    assert type(found) is kind
    assert found == 12.0
    assert np.shape(found) == ()
    assert grad(grad(lambda x: x**3))(x) == 12.0


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", ">f8", ">f4"])
@pytest.mark.parametrize("layout", ["plain", "strided", "reversed", "transposed", "read-only", "empty"])
def test_arrays_of_all_dtypes_and_layouts(dtype, layout):
    x = np.arange(1, 13).reshape(3, 4).astype(dtype)
    x = {
        "plain": x, "strided": np.repeat(x, 2, 1)[:, ::2], "reversed": x[::-1], "transposed": x.T, "read-only": x,
        "empty": x[:0],
    }[layout]  # fmt: skip
    x.flags.writeable = layout != "read-only"
    before = x.copy()
    value, found = value_and_grad(lambda x: (x**3).sum())(x)
    assert type(found) is np.ndarray
    assert found.dtype == (x.dtype.newbyteorder("=") if x.dtype.kind == "f" else np.float64)
    np.testing.assert_array_equal(found, 3 * x.astype(found.dtype) ** 2)
    assert value == (x.astype(float) ** 3).sum()
    np.testing.assert_array_equal(x, before)


def test_trees_and_names_and_defaults():
    def model(p, x, *, scale=2.0, power=2):
        return ((p["w"] * x + p["rest"][0] * p["rest"][1].b) ** power).sum() * scale * p["rest"][1].a

    p = {"w": X, "rest": [0.5, Pair(3, np.array([1.0, 2.0, 3.0]))]}
    found = grad(model)(p, X, scale=0.5)
    u = X * X + 0.5 * p["rest"][1].b
    np.testing.assert_allclose(found["w"], 3 * u * X, rtol=1e-14)
    assert found["rest"][0] == pytest.approx(3 * (u * p["rest"][1].b).sum(), rel=1e-14)
    assert type(found["rest"][1]) is Pair
    assert found["rest"][1].a == pytest.approx((u**2).sum() * 0.5, rel=1e-14)

    def power(x, k=2.0):
        return x**k

    assert grad(power, argnums=1)(3.0) == pytest.approx(9 * np.log(3.0))
    assert grad(power, argnums=1)(3.0, k=1.0) == pytest.approx(3 * np.log(3.0))
    assert grad(power)(x=3.0) == pytest.approx(6.0)
    assert grad(lambda x: x[0] * x[1] ** 2)([2, 3]) == [9.0, 12.0]


def test_auxiliary_values_come_back_as_arrays():
    value, found = value_and_grad(lambda x: ((x**2).sum(), {"double": x * 2, "name": "n"}), has_aux=True)(X)
    assert type(value[0]) is float
    np.testing.assert_array_equal(value[1]["double"], X * 2)
    assert type(value[1]["double"]) is np.ndarray
    assert value[1]["name"] == "n"
    np.testing.assert_array_equal(found, 2 * X)
    jacobian_, aux = jacrev(lambda x: (x * x, x.sum()), has_aux=True)(X)
    np.testing.assert_array_equal(jacobian_, np.diag(2 * X))
    assert aux == X.sum()


def test_a_tensor_comes_back_where_a_tensor_went_in():
    data = tg.tensor([1.0, 2.0, 3.0])
    value, found = value_and_grad(lambda x, d: (x * d).sum())(X, data)
    assert type(value) is float
    np.testing.assert_array_equal(found, data.numpy())
    by_x, by_d = grad(lambda x, d: (x * d).sum(), argnums=(0, 1))(X, data)
    assert type(by_x) is np.ndarray
    assert isinstance(by_d, tg.Tensor)


def test_what_has_a_graph_outside_stays_a_tensor():
    w = tg.tensor(2.0, requires_grad=True)
    value, found = value_and_grad(lambda x: w * (x**2).sum())(X)
    assert isinstance(value, tg.Tensor)
    assert found.requires_grad
    found.sum().backward()
    assert w.grad.item() == pytest.approx(2 * X.sum())

    # In a transform, what an inner one gives depends on what the outer differentiates by.
    def outer(a):
        return (grad(lambda x: (a * x**2).sum())(np.ones(3)) * a).sum()

    assert grad(outer)(3.0) == pytest.approx(3 * 4 * 3.0)


# --- transforms -------------------------------------------------------------------------------------------------------


def test_all_transforms_nest():
    def f(x):
        return np.exp(x[0] * x[1]) * np.sin(x[2]) + rosenbrock(x)

    expected = hessian(f)(X)
    step = 1e-6  # the gradient's own difference: right to 1e-8
    differences = [(grad(f)(X + step * e) - grad(f)(X - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(expected, differences, rtol=1e-7)
    np.testing.assert_allclose(expected, expected.T, rtol=1e-12)
    pairs = [(outer, inner) for outer in (jacrev, jacfwd, jacobian) for inner in (grad, jacrev, jacfwd)]
    for outer, inner in pairs:
        np.testing.assert_allclose(outer(inner(f))(X), expected, rtol=1e-12, err_msg=f"{outer} {inner}")
    v = np.array([1.0, -2.0, 0.5])
    value, product = hvp(f, (X,), (v,))
    assert value == pytest.approx(f(X))
    np.testing.assert_allclose(product, expected @ v, rtol=1e-12)
    np.testing.assert_allclose(jvp(grad(f), (X,), (v,))[1], expected @ v, rtol=1e-12)
    np.testing.assert_allclose(vjp(grad(f), X)[1](v)[0], v @ expected, rtol=1e-12)
    np.testing.assert_allclose(grad(lambda x: (grad(f)(x) * v).sum())(X), expected @ v, rtol=1e-12)


def test_a_transform_of_a_transform_of_a_jitted_function():
    cube = njit(lambda x: x**3)
    assert grad(grad(cube))(2.0) == 12.0
    assert grad(cube)(2.0) == 12.0


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_products_are_adjoint(data):
    n = data.draw(st.integers(0, 5))
    numbers = st.floats(-2, 2, allow_subnormal=False)
    x, u, v = (np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)), float) for _ in range(3))

    def f(x):
        return {"a": np.sin(x) * x.sum(), "b": (x * x).sum()}

    output, tangent = jvp(f, (x,), (u,))
    again, pull = vjp(f, x)
    np.testing.assert_array_equal(output["a"], again["a"])
    (product,) = pull({"a": v, "b": 1.5})
    assert product @ u == pytest.approx((tangent["a"] * v).sum() + 1.5 * tangent["b"], rel=1e-10, abs=1e-10)


def test_integers_and_floats_differentiated_together():
    _, pull = vjp(lambda x, k, name: x * k, np.ones(3), 2, "name")
    by_x, by_k, by_name = pull(np.arange(3))
    np.testing.assert_array_equal(by_x, [0.0, 2.0, 4.0])
    assert by_k is None
    assert by_name is None


# --- nothing is lost without a word -----------------------------------------------------------------------------------


def test_a_result_that_was_not_recorded_warns():
    with pytest.warns(UserWarning, match=r"a number \(float\) that is not the result of recorded operations"):
        assert grad(lambda x: (x**2).sum().detach().item())(X).tolist() == [0.0, 0.0, 0.0]
    with pytest.warns(UserWarning, match="its derivatives are zero"):
        assert value_and_grad(lambda x: 1e10 if x[0] > 0 else (x**2).sum())(X)[0] == 1e10
    with pytest.warns(UserWarning, match=r"an array \(ndarray\)"):
        assert not jacobian(lambda x: np.ones(2))(X).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grad(lambda x: 1e10 if x[0] < 0 else (x**2).sum())(X)[2] == 2.2


def test_methods_that_mean_something_else_to_arrays_warn():
    with pytest.warns(UserWarning, match=r"std\(\) divides by n - 1, as PyTorch's, and that of arrays by n"):
        grad(lambda x: x.std())(X)
    with pytest.warns(UserWarning, match="repeats the whole"):
        jacobian(lambda x: x.repeat(2))(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value_and_grad(lambda x: np.std(x) + np.var(x))(X)[0] == pytest.approx(np.std(X) + np.var(X))
        assert value_and_grad(lambda x: x.var(correction=0))(X)[0] == pytest.approx(np.var(X))
        grad(lambda x: x.std())(tg.tensor(X))
        tg.tensor(X).std()


@pytest.mark.parametrize("bad", [True, "x", None, 1j, np.array([True]), np.array(["a"]), np.array([1j]), object()])
def test_what_is_no_number_is_refused(bad):
    for transform in (grad, jacobian, hessian):
        with pytest.raises(ValueError, match="Thing passed to transform API must be Tensor, got"):
            transform(lambda x: x)(bad)


def test_an_array_of_complex_numbers_is_refused_by_its_dtype():
    with pytest.raises(ValueError, match=r"<class 'numpy.ndarray'> of complex128 in argument 0: real numbers"):
        grad(lambda x: x.sum())(np.array([1j]))


@pytest.mark.parametrize(("numbers", "kind"), [([1.0, 2.0], "list"), ((1, 2.0), "tuple")])
def test_an_error_of_a_function_that_computes_with_a_list_says_so(numbers, kind):
    for transform in (grad, jacobian, hessian):
        with pytest.raises(TypeError, match="unsupported operand") as raised:
            transform(lambda x: (x**2).sum())(numbers)
        assert f"Argument 0 is a {kind} of numbers" in raised.value.__notes__[0]
    with pytest.raises(AttributeError) as raised:
        grad(lambda x: x.foo)(X)
    assert not hasattr(raised.value, "__notes__")


def test_scipys_functions_that_take_no_tensors_name_tapegrads():
    for function, named in (
        (special.logsumexp, "use tapegrad.special.logsumexp, NumPy's"),
        (linalg.inv, "use tapegrad.linalg.inv, NumPy's"),
        (linalg.expm, "use NumPy's functions"),
        (linalg.cholesky, "use tapegrad.linalg.cholesky, NumPy's"),
    ):
        with pytest.raises(RuntimeError, match=named):
            grad(lambda x, of=function: np.sum(of(x)))(np.eye(2))


@pytest.mark.parametrize("module", [tg, tg.autograd, tg.jitted, tg.nn, tg.optim, tg.utils])
def test_a_name_that_is_not_there_is_known_to_the_error(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'gardcheck'") as raised:
        _ = module.gardcheck
    assert (raised.value.name, raised.value.obj) == ("gardcheck", module)  # of which Python makes "Did you mean"


def test_a_jitted_function_that_is_given_a_tensor_says_what_to_do():
    double = njit(lambda x: 2.0 * x)
    with pytest.raises(TypeError, match=r"takes no Tensors, but was given float64\[3\].*tapegrad.jitted.operation"):
        grad(lambda x: double(x).sum())(X)
    np.testing.assert_array_equal(grad(lambda x: tg.jitted.operation(double)(x).sum())(X), [2.0, 2.0, 2.0])


def test_nothing_is_left_behind():
    tape = tg.current_tape()
    leaves = len(tape.leaves)
    for _ in range(100):
        value_and_grad(rosenbrock)(X)
        hessian(rosenbrock)(X)
    assert len(tape.leaves) <= leaves


# --- SciPy ------------------------------------------------------------------------------------------------------------

START = [1.3, 0.7, 0.8, 1.9, 1.2]


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP"])
def test_minimize_with_gradients(method):
    for found in (
        optimize.minimize(value_and_grad(rosenbrock), START, jac=True, method=method),
        optimize.minimize(rosenbrock, START, jac=grad(rosenbrock), method=method),
    ):
        np.testing.assert_allclose(found.x, np.ones(5), atol=2e-2)


@pytest.mark.parametrize("method", ["Newton-CG", "trust-ncg", "trust-krylov", "trust-exact", "dogleg"])
def test_minimize_with_hessians(method):
    by_x, second = grad(rosenbrock), hessian(rosenbrock)
    found = optimize.minimize(rosenbrock, np.full(5, 1.1), jac=by_x, hess=second, method=method, tol=1e-8)
    np.testing.assert_allclose(found.x, np.ones(5), atol=1e-3)
    if method in ("Newton-CG", "trust-ncg", "trust-krylov"):
        found = optimize.minimize(
            rosenbrock, START, jac=by_x, hessp=lambda x, p: hvp(rosenbrock, (x,), (p,))[1], method=method, tol=1e-8
        )
        np.testing.assert_allclose(found.x, np.ones(5), atol=1e-3)


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0")  # SLSQP's peer finds that the objective is linear
def test_constraints():
    def on_sphere(x):
        return (x**2).sum() - 1.0

    def height(x):
        return x.sum()

    for method in ("SLSQP", "trust-constr"):
        found = optimize.minimize(
            height, [1, 0, 0], jac=grad(height), method=method,
            constraints={"type": "eq", "fun": on_sphere, "jac": grad(on_sphere)},
        )  # fmt: skip
        np.testing.assert_allclose(found.x, np.full(3, -1 / np.sqrt(3)), atol=1e-4)


def test_least_squares_roots_and_fits():
    def residuals(x):
        return np.exp(-x) * x[0] - 0.1 * x

    def model(x, a, b):
        return a * np.exp(-b * x)

    np.testing.assert_allclose(optimize.least_squares(residuals, [1, 2, 3], jac=jacobian(residuals)).x, np.log(10.0))
    np.testing.assert_allclose(optimize.root(residuals, [1, 2, 3], jac=jacobian(residuals)).x, np.log(10.0))
    x = np.linspace(0, 1, 20)
    by_parameters = jacobian(model, argnums=(1, 2))
    found, _ = optimize.curve_fit(
        model, x, model(x, 2, 3), p0=[1, 1], jac=lambda x, a, b: np.stack(by_parameters(x, a, b), -1)
    )
    np.testing.assert_allclose(found, [2, 3], rtol=1e-7)
    cube = optimize.newton(lambda x: x**3 - 2, 1, fprime=grad(lambda x: x**3), fprime2=grad(grad(lambda x: x**3)))
    assert cube == pytest.approx(2 ** (1 / 3))


@pytest.mark.parametrize("method", ["Radau", "BDF"])
def test_stiff_equations(method):
    def van_der_pol(t, y):
        return np.stack([y[1], 30 * (1 - y[0] ** 2) * y[1] - y[0]])

    found = integrate.solve_ivp(
        van_der_pol, (0, 5), [2, 0], method=method, jac=jacobian(van_der_pol, argnums=1), rtol=1e-8, atol=1e-10
    )
    expected = integrate.solve_ivp(van_der_pol, (0, 5), [2, 0], method=method, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.y[:, -1], expected.y[:, -1], rtol=1e-5)


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_what_large_arrays_leave_is_dropped_at_once_and_what_is_held_stays():
    x, w, held = np.linspace(0.0, 1.0, 20_000), tg.tensor(3.0, requires_grad=True), []
    total, tape = tg.zeros(3), tg.current_tape()

    def plain(x):
        return (x * x).sum() + x[0]

    def holding(x):
        held.append(x[:3] * 2)
        total.add_(x[:3].detach())
        return (x * x).sum()

    def failing(x):
        raise ValueError("on purpose", (x * 2).sum() > 0)

    value_and_grad(plain)(x)
    rows, free = len(tape), len(tape.free)
    for _ in range(5):
        value, gradient = value_and_grad(plain)(x)
        assert value == pytest.approx((x * x).sum())
        np.testing.assert_allclose(gradient, 2 * x + (np.arange(20_000) == 0))
    assert (len(tape), len(tape.free)) == (rows, free)
    for k in range(3):
        np.testing.assert_allclose(value_and_grad(holding)(x)[1], 2 * x)
        with pytest.raises(ValueError, match="on purpose"):
            value_and_grad(failing)(x)
        value_and_grad(plain)(x + k)
        np.testing.assert_allclose(total.numpy(), (k + 1) * x[:3])
    for t in held:
        np.testing.assert_allclose(t.detach().numpy(), 2 * x[:3])
    gradient = grad(lambda x: (x * w).sum())(x)  # recorded: w is another's
    gradient.sum().backward()
    assert w.grad.item() == 20_000.0
    assert grad(lambda x: (x * 0.0).detach().sum() + x[0] * grad(lambda u: (u**2).sum())(x)[1])(x)[0] == 2 * x[1]


def test_cubes_are_products_with_all_their_derivatives():
    for cube in (lambda x: x**3, lambda x: x**3.0, lambda x: np.power(x, 3), lambda x: tg.pow(x, 3)):
        assert grad(cube)(-1.5) == 6.75
        assert grad(grad(cube))(-1.5) == -9.0
        assert grad(grad(grad(grad(cube))))(0.0) == 0.0


@pytest.mark.filterwarnings("ignore:the function returned:UserWarning")
def test_a_function_that_does_not_depend_on_its_argument_has_zero_derivatives_of_any_order():
    def broken(x):
        return x**3 if x > 0 else 2.0

    assert [grad(broken)(-1.0), grad(grad(broken))(-1.0), hessian(broken)(-1.0)] == [0.0, 0.0, 0.0]
    assert grad(grad(broken))(2.0) == 12.0
    np.testing.assert_array_equal(jacobian(jacobian(lambda x: np.ones(2)))(X), np.zeros((2, 3, 3)))
    with pytest.raises(RuntimeError, match="to return a Tensor"):  # where Tensors are given, as PyTorch does
        grad(lambda x: 2.0)(tg.tensor(1.0))


def test_numbers_that_are_chosen_among_values_are_numbers():
    def least(x):
        return np.min(np.array([[x, x], [x, 0.5], [0.5, 0.5]]), axis=0)

    assert jacobian(least)(0.25).tolist() == [1.0, 1.0]
    assert jacobian(least)(1.0).tolist() == [0.0, 0.0]


def test_code_that_asks_for_the_dtype_goes_the_same_way():
    def typed(x):
        x = x if x.dtype == np.float64 and x.dtype.kind == "f" else x * 0.0
        return (x * x).sum() if x.dtype != "float32" and x.dtype in (float, np.float32) else x.sum()

    np.testing.assert_array_equal(grad(typed)(X), 2.0 * X)
