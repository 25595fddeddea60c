"""What is differentiated is the function that the user wrote: its values, its errors, its memory, its one run."""

import math

import numpy as np
import pytest
from array_functions import REGULAR, products, systems
from numba import float32, float64, int64, jit, njit, objmode, prange
from numba.extending import overload, register_jitable
from numba.typed import Dict, List

import tapegrad as tg
from tapegrad.jitted import NotDifferentiableError

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
RNG = np.random.default_rng(0)


def defined(text):
    """A jitted function of a text, whose names are NumPy's and math's."""
    names = {"np": np, "math": math}
    exec(text, names)
    return njit(names["f"])


def assert_same_bits(given, wanted):
    """Of tuples, or of arrays, element by element."""
    assert len(given) == len(wanted)
    for a, b in zip(given, wanted, strict=True):
        a, b = np.asarray(a, float), np.asarray(b, float)
        assert a.shape == b.shape
        assert np.where(np.isnan(a), np.nan, a).tobytes() == np.where(np.isnan(b), np.nan, b).tobytes()


def tangents(args):
    return tuple(np.ones_like(a) if isinstance(a, np.ndarray) else 1.0 for a in args)


# --- values: in all modes those of the plain call, to the last bit ----------------------------------------------------

POINTS = np.concatenate([
    np.linspace(-3.0, 3.0, 25), [0.0, -0.0, 1e-300, 1e300, -1e300, np.inf, -np.inf, np.nan, 0.5, 710.0],
    10.0 ** RNG.uniform(-200, 200, 10),
])  # fmt: skip
FIRST, SECOND = (grid.ravel() for grid in np.meshgrid(POINTS[::2], POINTS[1::3]))
UNARY = (
    "sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh exp exp2 expm1 log log2 log10 log1p sqrt "
    "cbrt square reciprocal fabs absolute negative positive sinc deg2rad rad2deg radians degrees floor ceil trunc rint "
    "sign"
).split()
OF_MATH = (
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp expm1 log log2 log10 log1p sqrt fabs erf erfc "
    "gamma lgamma radians degrees"
).split()
BINARY = (
    "add subtract multiply divide power float_power maximum minimum fmax fmin hypot arctan2 logaddexp logaddexp2 "
    "copysign fmod remainder floor_divide"
).split()
SCALARS = [f"np.{name}(a)" for name in UNARY] + [f"math.{name}(a)" for name in OF_MATH] + [
    *(f"np.{name}(a, b)" for name in BINARY), "math.pow(a, b)", "math.hypot(a, b)", "math.atan2(a, b)",
    "math.copysign(a, b)", "a**b", "a**2", "a**3", "a**0", "a**7", "a ** (i % 5)", "pow(a, 3)", "math.pow(a, 3)",
    "np.power(a, 3)", "np.power(a, i % 5)", "max(a, b)", "min(a, b)", "max(a, b, 0.1)", "abs(a)", "a + b", "a - b",
    "a * b", "-a", "a % 0.3", "a // 0.3", "a / 0.3",
]  # fmt: skip
ARRAYS = [
    "x**2", "x**3", "x**0.5", "x**7", "x**0", "x % 0.3", "x // 0.3", "1.0 / x", "-x",
    "np.power(x, 2)", "np.clip(x, -0.5, 0.5)", "np.clip(x, None, 0.5)", "np.clip(x, -0.5, None)",
    "np.where(x > 0, x, 2 * x)", "np.maximum(x, 0.1)", "np.interp(x, KNOTS, HEIGHTS)", "np.diff(x)",
]  # fmt: skip


@pytest.mark.parametrize("part", range(3))
def test_scalar_functions(part):
    names = SCALARS[part::3]
    lines = [f"  out[{k}, i] = {name}" for k, name in enumerate(names)]
    f = defined("\n".join([
        "def f(x, y):", f" out = np.empty(({len(names)}, x.size))", " for i in range(x.size):", "  a, b = x[i], y[i]",
        *lines, " return out",
    ]))  # fmt: skip
    wanted = f(FIRST, SECOND)
    for given in (tg.func.vjp(f, FIRST, SECOND)[0], tg.func.jvp(f, (FIRST, SECOND), tangents((FIRST, SECOND)))[0]):
        for name, a, b in zip(names, given, wanted, strict=True):
            assert np.where(np.isnan(a), np.nan, a).tobytes() == np.where(np.isnan(b), np.nan, b).tobytes(), name


def test_array_functions():
    text = ", ".join(ARRAYS).replace("KNOTS", "np.array([0.0, 0.3, 0.5, 1.0])")
    f = defined(f"def f(x):\n return {text.replace('HEIGHTS', 'np.array([1.0, 3.0, 2.0, 7.0])')}")
    wanted = f(POINTS)
    for given in (tg.func.vjp(f, POINTS)[0], tg.func.jvp(f, (POINTS,), (np.ones_like(POINTS),))[0]):
        assert_same_bits(given, wanted)


MATRIX = RNG.normal(size=(4, 4))
REDUCTIONS = defined(
    "def f(x):\n return np.sum(x), np.mean(x), np.prod(x), np.var(x), np.std(x), np.max(x), np.min(x), np.ptp(x), "
    "np.median(x), np.linalg.norm(x), np.cumsum(x), np.cumprod(x)"
)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (REDUCTIONS, (np.asfortranarray(MATRIX),)),
        (products, REGULAR["3 by 3"]),
        (systems, REGULAR["3 by 3"]),
    ],
    ids=["reductions", "products", "systems"],
)
def test_sums_and_linear_algebra(f, args):
    wanted = f(*args)
    assert_same_bits(tg.func.vjp(f, *args)[0], wanted)
    assert_same_bits(tg.func.jvp(f, args, tangents(args))[0], wanted)


def test_reductions_of_extreme_numbers():
    for x in (np.array([1e200, 3e-200, -4e200, 0.0, 5.0]), np.array([1e-200, 3e-200]), np.array([1.0, np.nan, 3.0]),
              np.array([-0.0]), np.full(3, 0.1), np.array([np.inf, 1.0])):  # fmt: skip
        assert_same_bits(tg.func.vjp(REDUCTIONS, x)[0], REDUCTIONS(x))


# --- errors, and the control flow that they steer ---------------------------------------------------------------------


@njit
def caught(x, n, way):
    try:
        if way == 0:
            y = 1.0 / x
        elif way == 1:
            y = x * (5 // n)
        elif way == 2:
            y = 2.0 % x
        elif way == 3:
            y = x ** (n - 1)
        else:
            y = 2.0 // x
    except Exception:
        y = 7.0 * x + 3.0
    return y * 2.0 + x


def test_a_division_by_zero_is_caught_where_it_was():
    for way in range(5):
        wanted = caught(0.0, 0, way), 15.0
        assert tg.func.value_and_grad(caught)(0.0, 0, way) == wanted
        assert tg.func.jvp(caught, (0.0, 0, way), (1.0, None, None)) == wanted


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def _raising(x, n, way):
    if way == 0:
        return 1.0 / (x - 1.0)
    if way == 1:
        return x * (5 % n)
    if way == 2:
        s = 0.0
        for k in range(3):  # a sum, which is taken back
            s += 1.0 / (x - k)
        return s
    return x % (x - 1.0)


raising, ignoring = njit(_raising), njit(error_model="numpy")(_raising)
checked = njit(boundscheck=True)(lambda x, n: x[n] * 2.0)


def test_errors_are_those_of_the_plain_call():
    for way in range(4):
        for transform in (tg.func.grad, tg.func.jacfwd):
            assert outcome(raising, 1.0, 0, way) is outcome(transform(raising), 1.0, 0, way) is ZeroDivisionError
    for way in (0, 2):
        value, slope = tg.func.value_and_grad(ignoring)(1.0, 1, way)
        assert value == ignoring(1.0, 1, way) == np.inf
        assert slope == -np.inf
    assert outcome(tg.func.grad(checked), np.ones(2), 2) is IndexError
    assert tg.func.grad(raising)(3.0, 1, 0) == -0.25  # the tape was given back


@njit
def misfits(a, v, way):
    """Joins what fits, and what would be stretched, or would not be."""
    if way < 4:
        other = a[:, : way % 2 + 1] if way < 2 else a[: way % 2 + 1]
        return np.concatenate((a, other))[-1, 0] if way < 2 else np.hstack((a, other))[0, -1]
    w = v[: way % 3 + 1]
    if way < 7:
        return np.stack((v, w))[1, 0]
    return np.vstack((v, w))[1, 0] if way < 10 else np.column_stack((v, w))[0, 1]


def test_arrays_that_do_not_fit_are_not_joined():
    a = np.arange(6.0).reshape(2, 3)
    outcomes = [outcome(misfits, a, a[0], way) for way in range(13)]
    assert [k for k, found in enumerate(outcomes) if found is not ValueError] == [3, 5, 8, 11]
    for way, wanted in enumerate(outcomes):
        found = outcome(tg.func.value_and_grad(misfits), a, a[0], way)
        assert found is wanted or found[0] == wanted, way


@njit(locals={"y": float64}, fastmath=True)
def with_locals(x):
    y = 0
    y += x * x
    return y


def test_types_of_locals():
    assert tg.func.value_and_grad(with_locals)(3.0) == (9.0, 6.0)
    assert tg.func.jvp(with_locals, (3.0,), (1.0,)) == (9.0, 6.0)


@njit
def of_empty(x, way):
    if way == 0:
        return np.max(x)
    if way == 1:
        return np.min(x)
    if way == 2:
        return np.ptp(x)
    if way == 3:
        return x[0] * 0.0 + np.argmax(x) if x.size else 1.0 * np.argmax(x)
    if way == 4:
        return np.std(x)
    if way == 5:
        return np.median(x)
    if way == 6:
        return np.mean(x)
    return np.sum(x) + np.prod(x)


def test_reductions_of_nothing():
    nothing = np.empty(0)
    for way in range(8):
        wanted = outcome(of_empty, nothing, way)
        assert (way < 5) == isinstance(wanted, type)
        for given in (outcome(tg.func.value_and_grad(of_empty), nothing, way),
                      outcome(tg.func.jvp, of_empty, (nothing, way), (nothing, None))):  # fmt: skip
            np.testing.assert_equal(given[0] if isinstance(given, tuple) else given, wanted)


@njit
def by_objmode(x):
    with objmode(y="float64"):
        y = float(x**2)
    return y + 0.0


def test_an_objmode_block_is_refused():
    with pytest.raises(tg.jitted.NotDifferentiableError, match="objmode"):
        tg.func.grad(by_objmode)(1.3)


@njit
def told_by_objmode(x, way):
    y = x * x
    with objmode(n="int64"):
        print(y, y[0])
        n = int(y.sum())
        if way:
            y[0] = 7.0
    return n * y.sum()


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
def test_an_objmode_block_that_gives_no_floats_is_given_numbers(capsys):
    x = np.array([1.0, 2.0])
    value, gradient = tg.func.value_and_grad(told_by_objmode)(x, False)
    assert (value, gradient.tolist(), capsys.readouterr().out) == (25.0, [10.0, 20.0], "[1. 4.] 1.0\n")
    with pytest.raises(ValueError, match="read-only"):  # what is written there can't be known
        tg.func.grad(told_by_objmode)(x, True)


# --- arguments that share memory --------------------------------------------------------------------------------------


@njit
def written(x, y):
    y[0] = 2.0 * x[1]
    return x[0] * x[1]


@njit
def scaled(x, part):
    for i in range(len(part)):
        part[i] *= 2.0
    return (x * x).sum()


@njit
def moved(x, y):
    y -= x * x
    return (x * y).sum()


@njit
def in_a_tuple(pair, other):
    other[:] = pair[0] * 3.0
    return (pair[1] * pair[1]).sum()


@njit
def unwritten(x, y):
    return (x * y * y).sum()


def start():
    return np.array([1.3, 0.4, 0.7, 2.0])


SHARING = {
    "twice": (written, lambda x: (x, x)),
    "a slice": (scaled, lambda x: (x, x[1:3])),
    "slices": (written, lambda x: (x[:3], x[1:])),
    "every second": (scaled, lambda x: (x, x[::2])),
    "backwards": (written, lambda x: (x, x[::-1])),
    "in place": (moved, lambda x: (x, x[:])),
    "a tuple": (in_a_tuple, lambda x: ((x, x), x)),
}


@pytest.mark.parametrize("name", SHARING)
def test_arguments_that_share_memory_are_one(name):
    f, made = SHARING[name]
    x = start()
    value, gradient = tg.func.value_and_grad(f)(*made(x))
    assert value == f(*made(start()))
    np.testing.assert_array_equal(x, start())  # what is differentiated keeps its values

    def of_memory(step):
        return f(*made(start() + step))

    h = 1e-6
    slopes = [(of_memory(h * e) - of_memory(-h * e)) / (2 * h) for e in np.eye(4)]
    memory = np.array(slopes)
    wanted = made(memory)[0]
    for a, b in zip(gradient if isinstance(gradient, tuple) else (gradient,),
                    wanted if isinstance(wanted, tuple) else (wanted,), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def test_every_transform_knows_shared_memory():
    x = start()[:3]
    wanted = np.array([0.0, 4.0 * x[1], 0.0])
    by_both = tg.func.grad(written, argnums=(0, 1))(x, x)
    for found in (*by_both, tg.func.vjp(written, x, x)[1](1.0)[0], tg.func.jacfwd(written)(x, x),
                  tg.func.jacrev(written)(x, x), tg.func.jacobian(written)(x, x)):  # fmt: skip
        np.testing.assert_allclose(found, wanted)
    value, along = tg.func.jvp(written, (x, x), (np.ones(3), None))
    np.testing.assert_allclose((value, along), (2.0 * x[1] ** 2, wanted.sum()))
    np.testing.assert_allclose(tg.func.hessian(written)(x, x), np.diag([0.0, 4.0, 0.0]))
    np.testing.assert_allclose(tg.func.hvp(written, (x, x), (np.ones(3), None))[1][0], [0.0, 4.0, 0.0])


def test_arguments_that_are_only_read_are_arguments_of_their_own():
    x = start()
    by_first, by_second = tg.func.grad(unwritten, argnums=(0, 1))(x, x)
    np.testing.assert_allclose(by_first, x * x)
    np.testing.assert_allclose(by_second, 2 * x * x)


@njit
def counted(s, x, y):
    x[0] = s
    return s * y[0] * y[1]


def test_shared_memory_that_is_not_differentiated_is_written_to():
    x, plain = start(), start()
    value, slope = tg.func.value_and_grad(counted)(2.0, x, x)
    assert value == counted(2.0, plain, plain)
    assert slope == 2 * 2.0 * 0.4
    np.testing.assert_array_equal(x, plain)


def test_tensors_that_share_memory():
    t = tg.tensor(start()[:3], requires_grad=True)
    y = tg.jitted.operation(written)(t, t)
    y.backward()
    np.testing.assert_allclose(y.item(), 2 * 0.4**2)
    np.testing.assert_allclose(t.grad.numpy(), [0.0, 4 * 0.4, 0.0])
    t = tg.tensor(start(), requires_grad=True)
    tg.jitted.operation(scaled)(t, t[1:3]).backward()
    np.testing.assert_allclose(t.grad.numpy(), start() * [2.0, 8.0, 8.0, 2.0])


@njit
def written_as_ints(x, n):
    n[0] = 0
    return x[0] * x[1]


def test_shared_memory_of_two_types_is_refused():
    x = start()
    with pytest.raises(ValueError, match="share memory as float64 and int64"):
        tg.func.grad(written_as_ints)(x, x.view(np.int64))


def test_jitted_code_is_refused_shared_memory_that_is_written_to():
    x, y = start(), start()
    both = tg.jitted.value_and_grad(written, argnums=(0, 1))
    called = njit(lambda x, y: both(x, y)[0])
    assert both(x, y)[0] == called(x, y) == written(start(), start())
    for shared in ((x, x), (x, x[1:]), (x[:2], x[1:])):
        for call in (both, called):
            with pytest.raises(ValueError, match="arguments of written share memory"):
                call(*shared)
    np.testing.assert_array_equal(tg.jitted.value_and_grad(unwritten)(x, x)[1], x * x)


# --- one run ----------------------------------------------------------------------------------------------------------


@njit
def with_effects(x, counter, factor, numbers):
    r = np.random.rand() + np.random.normal()
    counter[0] += 1
    factor[0] *= 2.0
    numbers.append(counter[0])
    s = 0.0
    for v in x:
        s += v * v * r * factor[0] * counter[0] * len(numbers)
    return s


@njit
def drawn(x):
    return np.random.rand() * x


@njit
def seed(n):
    np.random.seed(n)


@njit
def draw():
    return np.random.rand()


def effects():
    numbers = List()
    numbers.append(1)
    return np.array([1]), np.array([1.0]), numbers


def test_runs_of_forward_mode_are_one():
    x = np.linspace(0.5, 2.0, 11)
    plain = effects()
    seed(3)
    value = with_effects(x, *plain)
    following = draw()
    weight = value / (x * x).sum()
    for transform, wanted in (
        (tg.func.hessian, np.diag(np.full(11, 2 * weight))), (tg.func.jacfwd, 2 * weight * x),
        (tg.func.jacobian, 2 * weight * x),
    ):  # fmt: skip
        given = effects()
        seed(3)
        np.testing.assert_allclose(transform(with_effects)(x, *given), wanted)
        assert draw() == following
        assert [a.tolist() if isinstance(a, np.ndarray) else list(a) for a in given] == [[2], [2.0], [1, 2]]
    assert plain[0][0] == 2
    for transform in (tg.func.jacobian, tg.func.jacfwd, tg.func.jacrev):
        seed(3)
        first = drawn(np.ones(1))[0]
        seed(3)
        np.testing.assert_array_equal(transform(drawn)(np.ones(11)), first * np.eye(11))


def test_a_random_function_of_tensors_has_the_derivative_of_its_value():
    x = tg.ones(3, requires_grad=True)
    seed(5)
    value = tg.func.value_and_grad(summed_draws)(x)[0]
    value.backward()
    np.testing.assert_allclose(x.grad.numpy().sum(), value.item())


@njit
def summed_draws(x):
    return (np.random.rand() * x).sum()


@njit
def telling(x, k):
    print("x is", x[0], k)
    return (x * x).sum() * k


def test_prints_once_and_values(capfd):
    x = np.linspace(1.0, 2.0, 9)
    for transform in (tg.func.grad, tg.func.jacfwd, tg.func.jacobian, tg.func.hessian):
        transform(telling)(x, 2)
        assert capfd.readouterr().out == "x is 1.0 2\n"
    with pytest.raises(RuntimeError, match="telling, which prints"):
        tg.func.hessian(telling)(np.ones(40), 2)


# --- callees that were redefined --------------------------------------------------------------------------------------


def test_names_mean_what_they_do_to_the_plain_function():
    names = {"njit": njit, "scale": 2.0}
    exec("@njit\ndef inner(x):\n return x * x", names)
    exec("@njit\ndef outer(x):\n return inner(x) * scale", names)
    outer = names["outer"]
    assert outer(3.0) == 18.0  # compiled for floats, not for arrays
    names["scale"] = 5.0
    exec("@njit\ndef inner(x):\n return x * x * x", names)
    assert outer(3.0) == 18.0
    assert tg.func.value_and_grad(outer)(3.0) == (18.0, 12.0)
    assert tg.func.jvp(outer, (3.0,), (1.0,)) == (18.0, 12.0)
    of_array = tg.func.vjp(outer, np.array([3.0]))
    assert of_array[0] == outer(np.array([3.0])) == 135.0
    assert of_array[1](np.ones(1))[0] == 135.0
    exec("@njit\ndef inner(x):\n return 7.0 * x", names)
    assert tg.func.grad(njit(lambda x: outer(x) + 0.0))(3.0) == 12.0
    assert tg.func.value_and_grad(outer)(3.0) == (18.0, 12.0)


def test_a_callee_that_is_redefined_before_the_plain_function_is_compiled():
    names = {"njit": njit}
    exec("@njit\ndef inner(x):\n return x * x", names)
    exec("@njit\ndef outer(x):\n return inner(x)", names)
    assert tg.func.grad(names["outer"])(3.0) == 6.0
    exec("@njit\ndef inner(x):\n return 7.0 * x", names)
    assert tg.func.value_and_grad(names["outer"])(3.0) == (names["outer"](3.0), 7.0) == (21.0, 7.0)


# --- what a function declares: its signatures, the types of its locals, its options -----------------------------------


@njit("float64(float64, float64)")
def floats(x, n):
    return 2**n * x + n // 2


@njit(["float64(float64)", "float64(int64)"])
def either(x):
    return x / 2 + x // 2


@njit("float64[:](float64[:], float64)")
def multiplied(x, a):
    return x * a


@njit("float64(float64, int64)")
def repeated(x, n):
    return x if n <= 0 else x * repeated(x, n - 1)


@njit(locals={"y": float32})
def rounded(n):
    y = n * 0.1
    return y * 1.0


@njit(error_model="numpy")
def inverse(x):
    return 1.0 / x


@njit(error_model="python")
def strict_inverse(x):
    return 1.0 / x


@njit(error_model="python")
def calling(x, n):
    declared = floats(x, n) + floats(2, x) + floats(n, x) + either(x) + either(n) + rounded(n) * x + repeated(x, 2)
    return declared + (x * multiplied(np.full(3, x), n)).sum() + multiplied(np.ones(4)[::2], x)[1] + inverse(n - 3)


@njit(error_model="numpy")
def dividing(x):
    return strict_inverse(x)


def test_callees_have_their_own_signatures_and_options():
    x, n = 1.5, 3
    exact = 8 + 2 * np.log(2) * 2**x + n * np.log(2) * 2**x + 0.5 + float(np.float32(0.3)) + 3 * x**2 + 6 * n * x + 1
    wanted = calling(x, n)
    assert wanted == np.inf  # by division by zero under the callee's error model, not the caller's
    assert tg.func.value_and_grad(calling)(x, n) == (wanted, pytest.approx(exact, rel=1e-14))
    assert tg.func.jvp(calling, (x, n), (1.0, None)) == (wanted, pytest.approx(exact, rel=1e-14))
    assert tg.func.value_and_grad(calling)(x, 4)[0] == calling(x, 4)
    with pytest.raises(ZeroDivisionError):
        dividing(0.0)
    with pytest.raises(ZeroDivisionError):
        tg.func.grad(dividing)(0.0)


def test_functions_that_declare_signatures_are_differentiated():
    assert tg.func.value_and_grad(floats)(1.5, 3) == (floats(1.5, 3), 8.0)
    assert tg.func.hessian(repeated)(1.5, 2) == 6 * 1.5
    with pytest.raises(NotDifferentiableError, match=r"`multiplied\(float64, float64\)`(.|\n)*none of the signatures"):
        tg.func.grad(multiplied)(1.5, 2.0)


@njit("float64(int64)")
def truncating(x):
    return 3.0 * x


@njit("float32(float32)")
def narrow(x):
    return x * x


@njit("int64(float64)")
def truncated(x):
    return x * x


@njit(locals={"y": int64})
def of_ints(x):
    y = x * 2.0
    return y * 1.5


@pytest.mark.parametrize("callee", [truncating, narrow, truncated, of_ints])
def test_derivatives_that_a_declared_type_would_drop_are_refused(callee):
    for f in (callee, njit(lambda x: callee(x) * x)):
        with pytest.raises(NotDifferentiableError, match=r"test_jitted_faithful.py:\d+: (def|y =)"):
            tg.func.grad(f)(1.85)


def test_a_function_in_object_mode_is_refused():
    f = jit(forceobj=True)(lambda x: x * x)
    with pytest.raises(NotDifferentiableError, match="forceobj"):
        tg.func.grad(f)(1.5)


@njit
def defaults(x, p=2.0, q=3):
    return x**p * q


@njit
def optional(x, a=None):
    return x if a is None else x * a


@njit
def by_keyword(x):
    powers = defaults(x) + defaults(x, q=4) + defaults(p=x, x=2.0) + defaults(2.0, 3.0)
    return powers + optional(x) + optional(x, 3.0) + optional(x, a=x)


def test_callees_with_defaults_and_keywords():
    x = 1.5
    exact = 14 * x + 3 * 2**x * np.log(2) + 1 + 3 + 2 * x
    assert tg.func.value_and_grad(by_keyword)(x) == (by_keyword(x), pytest.approx(exact, rel=1e-14))


@register_jitable
def jitable(x):
    return x * x


def overloaded(x):
    raise NotImplementedError


@overload(overloaded)
def _overloaded(x):
    return lambda x: x * x


@pytest.mark.parametrize("name", ["jitable(x)", "overloaded(x)", "overloaded(2) * jitable(x)"])
def test_functions_of_other_kinds_are_what_their_code_is(name):
    f = njit(eval(f"lambda x: {name}"))
    assert tg.func.value_and_grad(f)(1.5) == (f(1.5), 3.0 * (4 if "2" in name else 1))


KNOBS = np.array([1.0, 2.0, 3.0])


def test_arrays_that_a_function_encloses_are_those_that_were_compiled():
    inner = KNOBS * 2
    f = njit(lambda x: (x * inner).sum() + KNOBS[1] * x[0])
    x = np.ones(3)
    wanted = f(x)
    for _ in range(2):
        value, gradient = tg.func.value_and_grad(f)(x)
        assert (value, gradient.tolist()) == (wanted, [4.0, 4.0, 6.0])
        assert f(x) == wanted
        KNOBS[1] = 50.0  # compiled code has a copy
    KNOBS[1] = 2.0


# --- Python's own functions, and lists and dictionaries of whatever is put into them ----------------------------------


@njit
def of_builtins(x):
    listed = [v * v for v in x]
    listed.sort(reverse=True)
    typed = List()
    for v in x:
        typed.append(v**2)
    known = Dict()
    known["a"] = x[0]
    quotient, remainder = divmod(x[2], x[1])
    table = np.array([[v * i for i in range(2)] for v in x])
    order = np.array([2.0, 1.0]).argsort(kind="mergesort")
    return (
        sum([v * v for v in x]) + sum(x) / len(x),
        sum((x[0], 2.0, x[1] * x[2], 3)) + sum((1, 2), x[0]) + sum([1.5], x[2]),
        sorted((x[0], x[1]))[1],
        2 * listed[0] + listed[2], 3 * typed[1] + typed[2] * known["a"], quotient * x[0] + remainder,
        divmod(5.0, x[1])[1] + divmod(x[2], 3)[1] + divmod(7, 2)[0], np.array([v * v for v in x]).sum(), table.sum(),
        x[order[0]] + 2 * x[x.argsort(kind="mergesort")[0]],
    )  # fmt: skip


def test_builtins():
    x, wanted = np.array([1.3, 0.4, 3.1]), of_builtins(np.array([1.3, 0.4, 3.1]))
    squares, ones = 2 * x, np.ones(3)
    exact = [
        squares + ones / 3, [2, 3.1, 0.4 + 1], [1, 0, 0], [0, 0.8, 2 * 6.2], [3.1**2, 2.4, 6.2 * 1.3],
        [7, -7, 1], [0, -12, 1], squares, ones, [0, 3, 0],
    ]  # fmt: skip
    given, pull = tg.func.vjp(of_builtins, x)
    assert_same_bits(given, wanted)
    np.testing.assert_allclose([pull(tuple(row))[0] for row in np.eye(len(exact))], exact, rtol=1e-13, atol=1e-15)


def test_what_sorts_and_sums_specially_keeps_its_values():
    f = defined("def f(x):\n a = sorted(x)\n return sum(x, -0.0), a[0], a[1], a[2], sum(x[:0], -0.0)")
    for x in (np.array([np.nan, 1.0, -2.0]), np.array([0.0, -0.0, 0.0]), np.array([-0.0, -0.0, -0.0])):
        assert_same_bits(tg.func.jvp(f, (x,), (np.ones(3),))[0], f(x))
    assert tg.func.jvp(f, (np.array([3.0, 1.0, 2.0]),), (np.array([1.0, 10.0, 100.0]),))[1] == (111, 10, 100, 1, 0)


def test_a_parallel_function_that_was_compiled_before():
    @njit(parallel=True)
    def squares(x):
        total = 0.0
        for i in prange(x.size):
            total += x[i] * x[i]
        return total

    x = np.array([1.0, 2.0])
    assert squares(x) == 5.0
    np.testing.assert_array_equal(tg.func.grad(squares)(x), 2 * x)
