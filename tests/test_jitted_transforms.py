"""Transforms of jitted functions: rules, modes, structures, errors, memory, threads, the disk."""

import math
import os
import subprocess
import sys
import threading

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import float64, njit
from numba.core.runtime import rtsys
from numba.core.runtime._nrt_python import memsys_disable_stats, memsys_enable_stats
from numba.experimental import jitclass
from thoroughness import thorough

import tapegrad as tg
from tapegrad.func import grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, linearize, value_and_grad, vjp

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")

# The function, as mpmath knows it, and points.
UNARY = {
    "math.sin(x)": mpmath.sin,
    "math.cos(x)": mpmath.cos,
    "math.tan(x)": mpmath.tan,
    "np.exp(x)": mpmath.exp,
    "np.expm1(x)": mpmath.expm1,
    "np.log(x)": mpmath.log,
    "np.log1p(x)": mpmath.log1p,
    "np.log2(x)": lambda x: mpmath.log(x, 2),
    "np.log10(x)": mpmath.log10,
    "np.sqrt(x)": mpmath.sqrt,
    "np.cbrt(x)": mpmath.cbrt,
    "np.square(x)": lambda x: x * x,
    "np.reciprocal(x)": lambda x: 1 / x,
    "np.exp2(x)": lambda x: 2**x,
    "np.sinh(x)": mpmath.sinh,
    "np.cosh(x)": mpmath.cosh,
    "np.tanh(x)": mpmath.tanh,
    "np.arcsin(x)": mpmath.asin,
    "np.arccos(x)": mpmath.acos,
    "np.arctan(x)": mpmath.atan,
    "np.arcsinh(x)": mpmath.asinh,
    "math.acosh(1.0 + x)": lambda x: mpmath.acosh(1 + x),
    "np.arctanh(x)": mpmath.atanh,
    "math.erf(x)": mpmath.erf,
    "math.erfc(x)": mpmath.erfc,
    "math.gamma(x)": mpmath.gamma,
    "math.lgamma(x)": mpmath.loggamma,
    "np.abs(-x)": lambda x: x,
    "np.degrees(x)": mpmath.degrees,
    "np.radians(x)": mpmath.radians,
    "np.sinc(x)": mpmath.sincpi,
    "np.hypot(x, 2.0)": lambda x: mpmath.hypot(x, 2),
    "math.atan2(x, 0.5)": lambda x: mpmath.atan2(x, 0.5),
    "math.atan2(2.0, x)": lambda x: mpmath.atan2(2, x),
    "np.logaddexp(x, 0.3)": lambda x: mpmath.log(mpmath.exp(x) + mpmath.exp(0.3)),
    "x**2.5": lambda x: x**2.5,
    "2.5**x": lambda x: 2.5**x,
    "x**-3": lambda x: x**-3,
    "x**k": lambda x: x**4,
    "x % 0.4": lambda x: mpmath.fmod(x, 0.4),
    "math.copysign(x, -1.0)": lambda x: -x,
    "max(x, 0.1) * min(x, 5.0)": lambda x: x * x,
}
EXPRESSIONS = "\n".join(f" out[{i}] = {text}" for i, text in enumerate(UNARY))
SCOPE = {"np": np, "math": math}
exec(f"def all_rules(x, k):\n out = np.empty({len(UNARY)})\n{EXPRESSIONS}\n return out", SCOPE)
all_rules = njit(SCOPE["all_rules"])


@pytest.mark.parametrize("point", [0.37, 0.83])
def test_rules_against_mpmath(point):
    expected = [float(mpmath.diff(function, point)) for function in UNARY.values()]
    np.testing.assert_allclose(jacrev(all_rules)(point, 4), expected, rtol=1e-12)
    np.testing.assert_allclose(jacfwd(all_rules)(point, 4), expected, rtol=1e-12)


@njit
def weighted(x, w, n):
    return w * np.sum(x**n) + x[0] * x[1]


@njit
def pair(x, t):
    return x[:2] * t, x.sum() * t * t


X, T = np.array([1.0, 2.0, 3.0]), 0.5


def test_gradients_by_several_arguments_have_their_form_in_every_call():
    @njit
    def product(x, y):
        return (x[0] * x[1] * y) ** 2

    x = np.array([1.0, 2.0])
    for argnums, wanted in (((0,), ([72.0, 36.0],)), ((1, 0), (24.0, [72.0, 36.0])), ((-1,), (24.0,))):
        f = value_and_grad(product, argnums)
        for _ in range(3):  # the first one compiles; what follows is prepared
            value, found = f(x, 3.0)
            assert value == 36.0
            assert type(found) is tuple
            for gradient, known in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(gradient, known)
    with pytest.raises(TypeError, match="argument 0 is"):
        value_and_grad(product, (0,))(np.array([1, 2]), 3.0)
    assert value_and_grad(product, (0, 1))(x.astype(np.float32), 3.0)[1][0].dtype == np.float32


def test_argnums_aux_and_keywords():
    assert grad(weighted)(X, 2.0, 2).tolist() == [6.0, 9.0, 12.0]
    by_both = grad(weighted, argnums=(1, 0))(X, w=2.0, n=2)
    assert by_both[0] == 14.0
    assert by_both[1].tolist() == [6.0, 9.0, 12.0]
    assert grad(weighted, argnums=-2)(X, 2.0, 2) == 14.0
    value, slope = value_and_grad(njit(lambda x: (x[0] ** 2, x * 2)), has_aux=True)(X)
    assert value[0] == 1.0
    assert value[1].tolist() == [2.0, 4.0, 6.0]
    assert slope.tolist() == [2.0, 0.0, 0.0]


def test_tuples_as_arguments():
    def f(parameters):
        w, (b, c) = parameters
        return (w**2).sum() * b + c

    w, (b, c) = grad(njit(f))((X, (2.0, 1.0)))
    assert w.tolist() == [4.0, 8.0, 12.0]
    assert (b, c) == (14.0, 1.0)


def test_modes_agree():
    for transform in (jacrev, jacfwd, jacobian):
        (ax, at), (bx, bt) = transform(pair, argnums=(0, 1))(X, T)
        np.testing.assert_allclose(ax, [[0.5, 0, 0], [0, 0.5, 0]])
        np.testing.assert_allclose(at, [1.0, 2.0])
        np.testing.assert_allclose(bx, [0.25, 0.25, 0.25])
        assert bt == pytest.approx(6.0)
    with pytest.raises(ValueError, match="mode is"):
        jacobian(pair, mode="sideways")


@njit
def mixed(x):
    """Arrays, a list, a dictionary, a tuple, numbers carried in a loop; a slope that is infinite where nothing goes."""
    n = len(x)
    items = [x[0] * x[1], math.sin(x[2])]
    items.append(max(x[3], x[4]) / (1.0 + x[5] * x[5]))
    kept = {0: x[6], 1: x[7] ** 3}
    pair, s = (x[n - 1], x[n - 2] * x[0]), 0.0
    y = np.empty(n)
    for i in range(n):
        s = 0.5 * s + math.exp(-x[i]) * x[n - 1 - i]
        y[i] = s + math.sqrt(max(x[i] - 2.0, 0.0))
    return y, items[0] * items[2] - items[1], kept[0] * kept[1] + pair[0] / pair[1]


def mixed_of_complex(x):
    n = len(x)
    kept, s, y = x[6] * x[7] ** 3, 0.0, []
    for i in range(n):
        s = 0.5 * s + np.exp(-x[i]) * x[n - 1 - i]
        y.append(s)
    larger = x[3] if x[3].real > x[4].real else x[4]
    return [*y, x[0] * x[1] * larger / (1.0 + x[5] * x[5]) - np.sin(x[2]), kept + x[n - 1] / (x[n - 2] * x[0])]


@pytest.mark.parametrize("width", [2, 16])
def test_tangents_side_by_side(width):
    x = np.random.default_rng(1).uniform(0.5, 1.5, 19)
    expected = np.empty((21, 19))
    for k in range(19):
        moved = x.astype(complex)
        moved[k] += 1e-30j
        expected[:, k] = np.array(mixed_of_complex(moved)).imag / 1e-30
    array, *numbers = jacobian(mixed, mode="forward", chunk_size=width)(x)
    np.testing.assert_allclose(np.vstack([array, *numbers]), expected, rtol=1e-13, atol=1e-14)


@njit
def either(a, b):
    if a[0] > 100.0:
        raise ValueError("too large")
    return a if a[0] > b[0] else b


@njit
def holding(x, y, names):
    """Arguments that are returned, given other names, given to others, and arrays that get an argument's name."""
    z, first = x, names[0]
    for _ in range(3):
        z = either(z, y)
    y = y * 2.0
    return either(y, z), z, first


def test_arguments_are_held_by_who_calls():
    x, y, names = np.array([1.0, 2.0]), np.array([0.5, 3.0]), (np.array([7.0]),)
    transform = jacrev(holding, has_aux=False)
    with pytest.raises(ValueError, match="too large"):
        transform(x + 100.0, y, names)
    found = transform(x, y, names)
    np.testing.assert_array_equal(found[0], np.eye(2))
    np.testing.assert_array_equal(found[1], np.eye(2))
    held = [sys.getrefcount(a) for a in (x, y, names[0])]
    memsys_enable_stats()
    used = rtsys.get_allocation_stats()
    for _ in range(5):
        found = transform(x, y, names)
    del found
    after = rtsys.get_allocation_stats()
    memsys_disable_stats()
    assert [sys.getrefcount(a) for a in (x, y, names[0])] == held
    assert after.mi_alloc - used.mi_alloc == after.mi_free - used.mi_free > 0


def test_the_inner_product_identity():
    rng = np.random.default_rng(0)
    x_dot, y_bar = (rng.normal(size=3), 0.7), (rng.normal(size=2), -1.3)
    output, pull = vjp(pair, X, T)
    again, y_dot = jvp(pair, (X, T), x_dot)
    x_bar = pull(*y_bar)
    assert np.array_equal(output[0], again[0])
    left = y_bar[0] @ y_dot[0] + y_bar[1] * y_dot[1]
    assert left == pytest.approx(x_bar[0] @ x_dot[0] + x_bar[1] * x_dot[1], rel=1e-14)
    assert all(np.array_equal(a, b) for a, b in zip(pull(*y_bar), x_bar, strict=True))  # any number of times
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        pull(np.ones(3), 1.0)


def test_second_derivatives():
    @njit
    def f(x, t):
        s = 0.0
        for i in range(x.size):
            s += math.sin(x[i] * t) * x[i - 1] ** 2
        return s * np.sqrt(t) + x[1] ** 3

    h = hessian(f, argnums=(0, 1))(X, T)
    full = np.block([[h[0][0], h[0][1].reshape(3, 1)], [h[1][0].reshape(1, 3), np.array([[h[1][1]]])]])
    np.testing.assert_allclose(full, full.T, rtol=1e-12)
    e = 1e-6
    for k in range(3):
        moved = [grad(f)(X + sign * e * np.eye(3)[k], T) for sign in (1, -1)]
        np.testing.assert_allclose(h[0][0][k], (moved[0] - moved[1]) / (2 * e), rtol=1e-7)
    value, product = hvp(f, (X, T), (np.array([1.0, -2.0, 0.5]), None))
    assert value == f(X, T)
    np.testing.assert_allclose(product[0], h[0][0] @ [1.0, -2.0, 0.5], rtol=1e-12)


OPERANDS = st.sampled_from(["x[0]", "x[1]", "x[2]", "a", "b", "0.7", "y[0]"])
STATEMENTS = st.one_of(
    st.builds("a = {} * {} + {}".format, OPERANDS, OPERANDS, OPERANDS),
    st.builds("b = math.sin({}) - {} / (2.0 + {} ** 2)".format, OPERANDS, OPERANDS, OPERANDS),
    st.builds("y[0] = math.tanh({} - {})".format, OPERANDS, OPERANDS),
    st.builds("if {} > {}:\n  a = {} * b\n else:\n  b += {}".format, OPERANDS, OPERANDS, OPERANDS, OPERANDS),
    st.builds("for k in range(3):\n  a += {} * x[k] - {}".format, OPERANDS, OPERANDS),
    st.builds("for k in range(2):\n  a, b = b * {}, a - x[k] * {}".format, OPERANDS, OPERANDS),
    st.builds("for k in range(3):\n  c = {} * x[k]\n  y[0] = c * c + {}\n  a -= c".format, OPERANDS, OPERANDS),
)


@thorough
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(STATEMENTS, min_size=6, max_size=12))
def test_random_programs(statements):
    body = "\n ".join(statements)
    scope = {"math": math, "np": np}
    exec(f"def f(x):\n a, b, c, y = x[0], 1.0, 0.0, np.zeros(1)\n {body}\n return a * b + y[0] + c", scope)
    x = np.array([0.3, -0.4, 0.6])
    f = njit(scope["f"])
    value, gradient = value_and_grad(f)(x)
    assert value == pytest.approx(scope["f"](x), rel=1e-12, nan_ok=True)
    along = np.array([1.0, 0.5, -2.0])
    _, tangent = jvp(f, (x,), (along,))
    assert gradient @ along == pytest.approx(tangent, rel=1e-9, abs=1e-12)
    moved = [scope["f"](x + sign * 1e-6 * along) for sign in (1, -1)]
    assert tangent == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4, abs=1e-6 * max(1.0, abs(value)))


# --- errors -----------------------------------------------------------------------------------------------------------

REFUSED = {
    "bytes": (lambda x: x.nbytes * x[0, 0], "nbytes"),
    "bits": (lambda x: x.view(np.int64)[0, 0] * x[0, 0], "view"),
    "complex": (lambda x: np.median(x[0] * 1j).real, "complex128 with derivatives"),
    "random": (lambda x: np.random.normal(x[0, 0], 1.0), "normal"),
}


@pytest.mark.parametrize(("function", "construct"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_differentiated_is_named(function, construct):
    with pytest.raises(tg.jitted.NotDifferentiableError, match=construct) as caught:
        grad(njit(function))(np.eye(2))
    assert "test_jitted_transforms.py" in str(caught.value)
    assert "Taped" not in str(caught.value)


def test_integers_are_not_given_derivatives():
    def f(x):
        c = np.zeros(3, dtype=np.int64)
        c[0] = x[0]
        return c[0] * x[1]

    with pytest.raises(tg.jitted.NotDifferentiableError, match="int64"):
        grad(njit(f))(X)


def test_arguments_that_can_not_be_differentiated():
    for argument in (3, [1.0, 2], np.arange(3), "text", X.astype(np.float16)):
        with pytest.raises(TypeError, match="argument 0"):
            grad(weighted)(argument, 1.0, 2)
    with pytest.raises(RuntimeError, match="returns an array"):
        grad(njit(lambda x: x * 2.0))(X)
    with pytest.raises(RuntimeError, match="Got argnum=7, but only 3"):
        grad(weighted, argnums=7)(X, 1.0, 2)
    with pytest.raises(TypeError, match="a function is differentiated"):
        grad(3.0)


# As text: pytest puts more into an assert of a test's own than Numba compiles.
exec("""
def refuses(x):
    total = 0.0
    for v in x:
        total += v * v
    if total > 100.0:
        raise ValueError("too much")
    assert total > 1.0, "too little"
    return total
""", SCOPE)  # fmt: skip
refuses = njit(SCOPE["refuses"])


def test_an_exception_leaves_the_tape_clean():
    from tapegrad.jitted import jacobian_tape as tape

    both = value_and_grad(refuses)
    both(X)
    for raised, x in ((ValueError, X * 100), (AssertionError, X * 0)):
        with pytest.raises(raised, match="too"):
            both(x)
        assert tape.header()[tape.ARGUMENTS] == 0
        assert tape.header()[tape.ROWS] <= 1
        assert both(X)[1].tolist() == [2.0, 4.0, 6.0]


# --- memory and threads -----------------------------------------------------------------------------------------------


@njit
def long(x, n):
    s, t = x[0], 1.0
    for i in range(n):
        s = s * x[1] + math.sin(x[2] + i)
        t = t * 0.5 + s
    return t


def test_the_tape_grows_is_kept_and_is_freed():
    tg.jitted.free()
    assert tg.jitted.nbytes() == 0
    x = np.array([1.0, 0.5, 0.3])
    small = grad(long)(x, 10)
    few = tg.jitted.nbytes()
    for _ in range(2):
        large = grad(long)(x, 20_000)
    many = tg.jitted.nbytes()
    assert 0 < few < many
    grad(long)(x, 20_000)
    assert tg.jitted.nbytes() == many
    np.testing.assert_allclose(grad(long)(x, 10), small)
    np.testing.assert_allclose(large, jacfwd(long)(x, 20_000), rtol=1e-10)
    tg.jitted.free()
    assert tg.jitted.nbytes() == 0


def test_eight_threads():
    both, wrong = value_and_grad(long), []
    xs = [np.array([1.0, 0.1 * k, 0.3]) for k in range(8)]
    expected = [both(x, 500) for x in xs]
    start = threading.Barrier(8)

    def work(k):
        start.wait()
        for _ in range(50):
            value, gradient = both(xs[k], 500)
            if value != expected[k][0] or not np.array_equal(gradient, expected[k][1]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- beside func ------------------------------------------------------------------------------------------------------


@njit
def fixed_point(a):
    x = 1.0
    for _ in range(60):
        x = 0.5 * (x + a / x)
    return x


@tg.custom_rule(fixed_point)
def fixed_point_rule(a, x):
    return 0.5 / x


def test_custom_rules():
    @njit
    def length(v, s):
        return s * np.sqrt((v * v).sum())

    @tg.custom_rule(length)
    def length_rule(v, s, y):
        return s * s * v / y, 10.0  # not the true one: it is what is taken

    assert grad(njit(lambda a: fixed_point(a) ** 3))(4.0) == 3.0
    assert hessian(njit(lambda a: fixed_point(a) ** 3))(4.0) == pytest.approx(0.375)
    v, s = grad(njit(lambda v, s: 2.0 * length(v, s)), argnums=(0, 1))(np.array([3.0, 4.0]), 2.0)
    assert v.tolist() == pytest.approx([2.4, 3.2])
    assert s == 20.0
    with pytest.raises(TypeError, match="takes its 1 arguments and the result"):
        tg.custom_rule(fixed_point)(lambda a: a)
    with pytest.raises(TypeError, match="jitted"):
        tg.custom_rule(math.sin)


@njit
def distance(m, s):
    return s * np.sqrt((m * m).sum())


@tg.custom_rule(distance)
def distance_rule(m, s, y):
    return s * s * m / y, y / s


@njit
def of_distance(m, s):
    return distance(m.T, s * s) ** 3 * m[0, 1]


@thorough
def test_rules_of_arrays_to_the_third_order():
    """|m|**3 s**6 m01, by m and s at once: the formula, recorded on the tape of Tensors."""

    def formula(m, s):
        return (m * m).sum() ** 1.5 * s**6 * m[0, 1]

    m, s, along = np.array([[3.0, 4.0], [1.0, -2.0]]), 1.5, (np.array([[0.5, -1.0], [2.0, 0.25]]), 0.75)
    (_, by_m), (_, wanted) = (
        hvp(lambda m, f=f: jvp(f, (m, s), along)[1], (m,), along[:1]) for f in (of_distance, formula)
    )
    np.testing.assert_allclose(by_m, wanted, rtol=1e-12)


def test_partials_of_a_rule_have_the_shape_of_the_argument():
    total = njit(lambda x: x.sum())
    tg.custom_rule(total)(lambda x, y: np.ones(2))
    with pytest.raises(ValueError, match="in its shape"):
        grad(njit(lambda x: total(x)))(np.ones(3))


def test_an_infinite_partial_leaves_the_value_alone():
    root = njit(lambda x: math.sqrt(x[0]))
    tg.custom_rule(root)(lambda x, y: np.array([np.inf, 0.0]))
    value, slope = value_and_grad(njit(lambda x: root(x)))(np.zeros(2))
    assert value == 0.0
    assert slope.tolist() == [np.inf, 0.0]


def test_gradients_inside_jitted_code():
    both = tg.jitted.value_and_grad(weighted, argnums=(0, 1))

    @njit
    def descend(x, n):
        for _ in range(n):
            value, (slope, _) = both(x, 1.0, 2)
            x = x - 0.1 * slope
        return x, value

    x, _ = descend(np.array([1.0, 2.0]), 200)
    np.testing.assert_allclose(x, 0.0, atol=1e-9)
    with pytest.raises(ValueError, match="argnums"):
        tg.jitted.value_and_grad(weighted, argnums=3)


@njit
def cubic(x):
    return (x**3).sum() * x[0]


@njit
def cubic_and_more(x):
    return cubic(x), x * 2


def weighed(x):
    value, slope = value_and_grad(cubic)(x)
    return value * slope[0]


def slope_along(along):
    return lambda x: jvp(cubic, (x,), (along(x),))[1]


NESTED = {
    "jacfwd grad": lambda x, d, h, g: (jacfwd(grad(cubic))(x), h),
    "jacrev grad": lambda x, d, h, g: (jacrev(grad(cubic))(x), h),
    "jacfwd jacfwd": lambda x, d, h, g: (jacfwd(jacfwd(cubic))(x), h),
    "jacfwd jacrev": lambda x, d, h, g: (jacfwd(jacrev(cubic))(x), h),
    "jacrev jacfwd": lambda x, d, h, g: (jacrev(jacfwd(cubic))(x), h),
    "jvp grad": lambda x, d, h, g: (jvp(grad(cubic), (x,), (d,))[1], h @ d),
    "grad jvp": lambda x, d, h, g: (grad(slope_along(lambda x: d))(x), h @ d),
    "jvp jvp": lambda x, d, h, g: (jvp(slope_along(lambda x: d), (x,), (d,))[1], d @ h @ d),
    "grad jvp by the tangent too": lambda x, d, h, g: (
        grad(slope_along(lambda x: x * x))(x), h @ (x * x) + 2 * x * g
    ),
    "grad jvp along x": lambda x, d, h, g: (grad(slope_along(lambda x: x))(x), h @ x + g),
    "aux": lambda x, d, h, g: (jacfwd(lambda x: grad(cubic_and_more, has_aux=True)(x)[0])(x), h),
    "grad value_and_grad": lambda x, d, h, g: (grad(weighed)(x), g * g[0] + cubic(x) * h[0]),
    "jvp operation": lambda x, d, h, g: (jvp(lambda x: tg.jitted.operation(cubic)(x) * 2, (x,), (d,))[1], 2 * g @ d),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_transforms_of_transforms(name):
    x, d = np.array([1.3, 0.4, 3.1, -0.7]), np.array([0.3, -1.0, 0.5, 2.0])
    total, e = np.sum(x**3), np.eye(4)[0]
    g = 3 * x**2 * x[0] + total * e
    h = np.diag(6 * x * x[0]) + 3 * np.outer(x**2, e) + 3 * np.outer(e, x**2)
    found, wanted = NESTED[name](x, d, h, g)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@tg.jitted.preaccumulate
def accumulated(a):
    return np.sqrt(a) * a


@njit
def step(s, i, p):
    return s[0] + 0.1 * math.sin(s[1]), s[1] + 0.1 * s[0] * p


OF_HIGH_ORDER = {  # each with the same for mpmath
    "branches": (lambda x: math.sin(x) * x**2 / (1 + x) if x > 0.5 else x, lambda x: mpmath.sin(x) * x**2 / (1 + x)),
    "a rule": (lambda x: fixed_point(x) ** 3 * x, lambda x: mpmath.sqrt(x) ** 3 * x),
    "preaccumulated": (lambda x: accumulated(x) * x, lambda x: mpmath.sqrt(x) * x**2),
    "complex": (
        lambda x: (np.exp(x * (1 + 2j)) / (1 + x * 1j)).real,
        lambda x: (mpmath.exp(x * (1 + 2j)) / (1 + x * 1j)).real,
    ),
    "checkpoints": (
        lambda x: tg.jitted.checkpoint_loop(step, (0.5, x), 2, x)[0],
        lambda x: 0.5 + (mpmath.sin(x) + mpmath.sin(x + x / 20)) / 10,
    ),
}  # fmt: skip


@thorough
@pytest.mark.parametrize("name", OF_HIGH_ORDER)
def test_derivatives_of_the_third_order_and_higher(name):
    jitted, exact = njit(OF_HIGH_ORDER[name][0]), OF_HIGH_ORDER[name][1]
    third = grad(grad(grad(jitted)))
    forward = jvp(lambda x: jvp(grad(jitted), (x,), (1.0,))[1], (0.7,), (1.0,))[1]
    with mpmath.workdps(40):
        wanted = [float(mpmath.diff(exact, mpmath.mpf(0.7), n)) for n in (3, 4)]
    assert math.isclose(third(0.7), wanted[0], rel_tol=1e-10)
    assert math.isclose(forward, wanted[0], rel_tol=1e-10)
    if name in ("branches", "a rule"):
        assert math.isclose(grad(third)(0.7), wanted[1], rel_tol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 7])
def test_factors_are_refined_to_the_order_that_is_asked_for(depth):
    from numba import types

    from tapegrad.jitted.active import Complex, Taped
    from tapegrad.jitted.decompositions import _steps_of

    for element in (Taped(2**depth - 1, depth), Complex(Taped(2**depth - 1, depth))):
        steps = _steps_of(types.Array(element, 2, "C"))(None)
        assert 2**steps - 1 >= depth + 1  # orders: a step takes k of them to 2 k + 1; a row adds one


@njit
def chained(x, w):
    y = x.copy()
    for i in range(1, x.size):
        y[i] += np.sin(y[i - 1]) * w[0] * x[i]
    return y * w[1], y.sum()


def recorded_chain(x, w):
    y = [x[0]]
    for i in range(1, len(x)):
        y.append(x[i] + tg.sin(y[-1]) * w[0] * x[i])
    return tg.stack(y) * w[1], tg.stack(y).sum()


W = np.array([1.1, 0.7])
OF_MATRICES = {
    "jacrev jacrev jacrev": lambda f, row: jacrev(jacrev(lambda x: jacrev(f)(x, W)[0])),
    "jacfwd jacfwd jacrev": lambda f, row: jacfwd(jacfwd(lambda x: jacrev(f)(x, W)[0])),
    "jacfwd hessian": lambda f, row: jacfwd(hessian(lambda x: row(x, W)[1])),
    "hessian jvp": lambda f, row: hessian(lambda x: jvp(f, (x, W), (x * x, W))[1][1]),
    "grad jacobians": lambda f, row: grad(
        lambda x: (jacrev(f, argnums=(0, 1))(x, W * x[0])[0][1] ** 2).sum() + jacfwd(f, argnums=1)(x, W)[0].sum()
    ),
    "grad linearize": lambda f, row: grad(lambda x: (linearize(f, x, W)[1](x * x, W)[0] ** 2).sum()),
    "hessian vjp": lambda f, row: hessian(lambda x: (vjp(f, x, W)[1]((x * x, x[0]))[1] ** 2).sum()),
}


@pytest.mark.parametrize("name", OF_MATRICES)
def test_all_transforms_of_all_transforms(name):
    x, made = np.array([0.3, 0.5, -0.2]), OF_MATRICES[name]
    found = made(chained, tg.jitted.operation(chained))(x)
    np.testing.assert_allclose(found, made(recorded_chain, recorded_chain)(x), rtol=1e-10, atol=1e-12)


def test_what_is_written_to_is_seen_as_it_was_at_first():
    @njit
    def f(x, buffer):
        buffer[0] = buffer[0] * x + 1.0
        return buffer[0] * x * x

    buffer = np.ones(1)
    assert grad(grad(f))(2.0, buffer) == 14.0
    assert buffer[0] == 3.0

    @njit
    def counted(x, n):
        n[0] += 1
        return x * n[0]

    n = np.array([1])
    value, push = linearize(counted, 3.0, n)
    assert (value, push(1.0, None), push(1.0, None), n[0]) == (6.0, 2.0, 2.0, 2)


@jitclass([("scale", float64), ("seen", float64[:])])
class Scale:
    def __init__(self, scale):
        self.scale, self.seen = scale, np.zeros(2)


def test_instances_that_are_changed_are_seen_as_they_were_at_first():
    @njit
    def f(x, scale):
        scale.scale = scale.scale * x + 1.0
        scale.seen[0] += scale.scale
        return scale.scale * x * x + scale.seen[0]

    scale = Scale(1.0)
    assert grad(grad(f))(2.0, scale) == 14.0
    assert (scale.scale, scale.seen[0]) == (3.0, 3.0)


def test_integers_among_results_take_no_cotangent():
    _, pull = vjp(njit(lambda x: (x * 2, 3, x * 5)), np.ones(2))
    assert pull((np.ones(2), 0, np.array([2.0, 3.0])))[0].tolist() == [12.0, 17.0]


def test_a_row_of_the_tensor_tape():
    filtered = tg.jitted.operation(njit(lambda x, w: x * w[0] + np.sum(w)))
    x, w = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor([3.0, 4.0], requires_grad=True)
    (filtered(x * 2, w) ** 2).sum().backward()
    y = 2 * np.array([1.0, 2.0]) * 3 + 7
    np.testing.assert_allclose(x.grad.numpy(), 2 * y * 6)
    np.testing.assert_allclose(w.grad.numpy(), [(2 * y * (np.array([2.0, 4.0]) + 1)).sum(), (2 * y).sum()])


# --- the disk ---------------------------------------------------------------------------------------------------------

MODULE = """
from numba import njit
@njit
def part(x):
    return {power}
"""
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from numba import njit
from parts import part
from tapegrad.func import grad
from tapegrad.jitted import disk
found = []
load = disk.DriverCache.load_overload
def watched(*args):
    found.append(load(*args))
    return found[-1]
disk.DriverCache.load_overload = watched
@njit
def f(x):
    return part(x[0]) * x[1]
print(grad(f)(np.array([2.0, 3.0])).tolist(), found[0] is not None)
"""


def test_a_fresh_process_with_the_cache(tmp_path):
    def run(power):
        (tmp_path / "parts.py").write_text(MODULE.format(power=power))
        environment = {**os.environ, "TAPEGRAD_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        child = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, text=True,
                               capture_output=True, check=False)  # fmt: skip
        assert child.returncode == 0, child.stderr
        return child.stdout.strip()

    assert run("x * x") == "[12.0, 4.0] False"
    assert run("x * x") == "[12.0, 4.0] True"
    assert run("x * x * x") == "[36.0, 8.0] False"  # a change in another file is noticed
    for entry in (tmp_path / "cache").glob("*/driver-*"):
        entry.write_bytes(entry.read_bytes()[:-100])
    assert run("x * x") == "[12.0, 4.0] False"  # a damaged entry is not used


def test_importing_tapegrad_does_not_import_numba():
    program = "import sys, tapegrad; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@njit
def written(x, y, n=1):
    """Writes to one argument, reads the other."""
    y[0] = 3.0 * x[0]
    return x[0] * y[0] ** n


def test_a_call_again_is_the_first_call():
    """The driver is there by then, and is called at once, where arguments are as simple as most often."""
    value_and_gradient = tg.func.value_and_grad(written)
    x = np.array([2.0, 5.0])
    for _ in range(3):
        value, gradient = value_and_gradient(x, np.zeros(2), 1)
        assert (value, gradient.tolist()) == (12.0, [12.0, 0.0])
        assert value_and_gradient(x, np.zeros(2))[0] == 12.0  # a default
        assert value_and_gradient(x, y=np.zeros(2), n=2)[1].tolist() == [54.0 * 2.0, 0.0]
        one = np.array([2.0, 5.0])
        assert value_and_gradient(one, one, 1)[1].tolist() == [36.0, 0.0]  # (3 x)^2, since memory is one
        with pytest.raises(TypeError, match="differentiated"):
            value_and_gradient(np.array([2, 5]), np.zeros(2), 1)
        with pytest.raises(TypeError):
            value_and_gradient(x, np.zeros(2), 1, 1)


def test_a_call_again_knows_what_names_mean_by_then():
    scope = {"njit": njit, "factor": 2.0}
    exec("def scaled(x):\n    return factor * x * x", scope)
    gradient = tg.func.grad(njit(scope["scaled"]))
    before = [gradient(3.0) for _ in range(3)]
    other = tg.func.grad(njit(scope["scaled"]))
    scope["factor"] = 5.0
    assert before == [12.0] * 3
    assert [other(3.0) for _ in range(3)] == [30.0] * 3


def test_auxiliary_values_and_errors_of_a_call_again():
    @njit
    def root(x):
        if x < 0.0:
            raise ValueError("negative")
        return x**0.5, x

    gradient = tg.func.grad(root, has_aux=True)
    for _ in range(3):
        assert gradient(4.0) == (0.25, 4.0)
        with pytest.raises(ValueError, match="negative"):
            gradient(-1.0)


@njit
def wave(x, p):
    total = 0.0
    for i in range(x.size):
        total += np.exp(p * x[i]) * x[i] * x[i - 1] ** 2
    return total


def test_gradients_inside_what_is_differentiated():
    """A step of descent, by its start, by a parameter of the function, and by its length."""
    slope = tg.jitted.value_and_grad(wave)

    def moved(slope):
        def f(x, p, rate):
            y = 2.0 * x
            value, down = slope(y, p)
            y = y - rate * down
            return np.sum(y * y) + value * p

        return f

    given = np.array([0.3, 0.5, -0.4]), 0.8, 0.5
    jitted = njit(moved(slope))
    value, found = tg.func.value_and_grad(jitted, argnums=(0, 1, 2))(*given)
    assert value == jitted(*given)

    def by_formula(y, p):
        last = np.roll(y, 1)
        terms = np.exp(p * y) * y * last**2
        rest = np.exp(p * np.roll(y, -1)) * np.roll(y, -1) * 2 * y
        return terms.sum(), np.exp(p * y) * (1 + p * y) * last**2 + rest

    h = 1e-30j
    for k, gradient in enumerate(found):
        for unit in np.eye(3) if k == 0 else [1.0]:
            other = [x + h * unit if j == k else x for j, x in enumerate(given)]
            wanted = moved(by_formula)(*other).imag / 1e-30
            assert np.sum(gradient * unit) == pytest.approx(wanted, rel=1e-13)
    along = np.array([1.0, 2.0, 3.0]), 1.0, -1.0
    tangent = tg.func.jvp(jitted, given, along)[1]
    assert tangent == pytest.approx(found[0] @ along[0] + found[1] - found[2], rel=1e-13)


@thorough
def test_gradients_inside_to_the_third_order():
    inner = tg.jitted.value_and_grad(njit(lambda x, p: x**5 * p))
    f = njit(lambda x, p: inner(x, p)[1] * x - inner(x, p)[0])  # 4 x**5 p
    assert f(2.0, 3.0) == 384.0
    (by_xx, by_xp), (_, by_pp) = hessian(f, argnums=(0, 1))(2.0, 3.0)
    assert [by_xx, by_xp, by_pp] == pytest.approx([80.0 * 8.0 * 3.0, 20.0 * 16.0, 0.0], rel=1e-14)
    assert grad(grad(grad(f)))(2.0, 3.0) == pytest.approx(240.0 * 4.0 * 3.0, rel=1e-14)


def test_what_a_gradient_inside_changes_is_changed_once():
    @njit
    def inner(x, n):
        n[0] += 1
        return n[0] * (1.0 + np.random.random()) * x**3

    both = tg.jitted.value_and_grad(inner)

    @njit
    def slope(x, n, seed):
        np.random.seed(seed)
        return both(x, n)[1]

    n = np.array([1])
    wanted = slope(2.0, n, 7)  # 3 c x**2, whose derivative is 6 c x
    assert n[0] == 2
    for transform in (grad(slope), lambda x, n, seed: jvp(slope, (x, n, seed), (1.0, None, None))[1]):
        n[0] = 1
        assert transform(2.0, n, 7) == pytest.approx(wanted, rel=1e-14)
        assert n[0] == 2
