"""The scalar functions of `vectormath` against mpmath, at points over the whole range, and the code they become.

Each runs two ways, which need not round alike: compiled, with fused multiply-add where the machine has it, and by
Python over NumPy arrays, without. mpmath is the judge of both, on a few hundred points; where NumPy's long double has
64 bits, a dense set is judged by that too. Errors are in units in the last place (of the true value's binade).
"""

import functools
import itertools
import re
from typing import Any

import mpmath
import numpy as np
import pytest

from tapegrad import vectormath
from tapegrad.kernels import cache, native
from tapegrad.lanes import Machine, in_numba

FUNCTIONS = {f.__name__: f for f in vectormath.FUNCTIONS}
OF_TWO = ("pow", "atan2", "hypot", "nextafter")
DIGITS = ("mantissa", "exponent", "nextafter")  # exact, and tested by themselves
BOUNDS = dict.fromkeys(("pow", "lgamma", "digamma", "trigamma"), 4.0) | {"tetragamma": 5.0}  # of all others: 2
# Around their negative zeros these are exact only beside the terms that cancel there: see `test_reflected`.
REFLECTED = ("lgamma", "digamma", "trigamma", "tetragamma")

EXACT: dict[str, Any] = {
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x, 2),
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "pow": mpmath.power,
    "sinc": mpmath.sincpi,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))) if x < 1e5 else mpmath.loggamma(x),
    "erfc": lambda x: mpmath.erfc(x) if abs(x) < 1000 else 1 - mpmath.sign(x),
    "ndtr": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2 if abs(x) < 1000 else (1 + mpmath.sign(x)) / 2,
    "trigamma": lambda x: mpmath.psi(1, x),
    "tetragamma": lambda x: mpmath.psi(2, x),
}
LONG = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "pow": "power"} | {
    "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"
}  # fmt: skip
# Where results are neither 0 nor inf, for float64; for float32 a seventh of the first six.
INTERVALS = {
    "exp": (-750, 715), "expm1": (-50, 715), "sigmoid": (-750, 50), "softplus": (-750, 800), "sinh": (-715, 715),
    "cosh": (-715, 715), "exp2": (-1080, 1030), "tanh": (-25, 25), "erf": (-7, 7), "erfc": (-7, 28),
    "ndtr": (-38, 10),
}  # fmt: skip

by_name = pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in DIGITS])
over_widths = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=("float64", "float32"))
needs_compiler = pytest.mark.skipif(not native.JIT, reason="there is no compiler")


@functools.cache
def compiled(name: str, fused: bool | None) -> Any:
    """A loop around a function, compiled; with fused multiply-add or without, or as the machine has it."""
    import numba

    module = vectormath.compiled(*cache.target()) if fused is None else in_numba([FUNCTIONS[name]], Machine(fused))
    f = getattr(module, name)

    def of_one(x, y):
        for i in range(y.size):
            y[i] = f(x[i])

    def of_two(a, b, y):
        for i in range(y.size):
            y[i] = f(a[i], b[i])

    return numba.njit(error_model="numpy")(of_two if name in OF_TWO else of_one)


def run(name: str, way: str, *operands: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if way == "plain":
            return FUNCTIONS[name](*operands)
    y = np.empty_like(operands[0])
    compiled(name, {"compiled": None, "unfused": False}[way])(*operands, y)
    return y


def points(name: str, n: int, dtype: Any) -> list[np.ndarray]:
    """Operands: over an interval, around 1, with exponents of all sizes, with any bits, and round ones."""
    rng = np.random.default_rng(len(name) * 1000 + n)
    whole = {np.float64: np.int64, np.float32: np.int32}[dtype]
    low, high = INTERVALS.get(name, (-50, 50))
    if dtype is np.float32 and low < -8:
        low, high = low / 7, high / 7

    def draw() -> np.ndarray:
        parts = [
            rng.uniform(low, high, n),
            rng.uniform(-3, 3, n),
            rng.uniform(0.5, 2, n),
            10.0 ** rng.uniform(-9, 3, n) * rng.choice((-1, 1), n),
            rng.integers(-40, 40, n // 2) / 8,
        ]
        any_bits = rng.integers(0, np.array(np.inf, dtype).view(whole), n, whole).view(dtype) * rng.choice((-1, 1), n)
        x = np.concatenate([*parts, any_bits]).astype(dtype)
        if name in ("log", "log2", "log10", "sqrt", "rsqrt", "pow", *REFLECTED):
            return np.abs(x)
        if name == "log1p":
            return np.where(x < -1, -1 / x, x).astype(dtype)
        if name in ("asin", "acos", "atanh"):
            return np.where(np.abs(x) > 1, 1 / x, x).astype(dtype)
        if name == "acosh":
            return np.maximum(1, np.abs(np.where(np.abs(x) < 1, 1 / x, x))).astype(dtype)
        return x

    with np.errstate(all="ignore"):
        operands = [draw() for _ in range(2 if name in OF_TWO else 1)]
        if name == "pow":
            scale = 750 if dtype is np.float64 else 100
            size = np.log(operands[0].astype(np.float64))
            operands[1] = (rng.uniform(-scale, scale, size.size) / np.where(size == 0, 1, size)).astype(dtype)
    kept = np.all([np.isfinite(x) & (x != 0) for x in operands], axis=0)
    return [x[kept] for x in operands]


def units(true: Any, dtype: Any) -> Any:
    """The unit in the last place of a number's binade."""
    info = np.finfo(dtype)
    exponent = max(int(mpmath.floor(mpmath.log(abs(true), 2))), info.minexp) if true else info.minexp
    return mpmath.mpf(2) ** (exponent - info.nmant)


def worst_by_mpmath(name: str, y: np.ndarray, operands: list[np.ndarray]) -> tuple[float, Any]:
    function, limit, worst = EXACT.get(name) or getattr(mpmath, name), float(np.finfo(y.dtype).max), (0.0, None)
    with mpmath.workprec(200):
        for value, *at in zip(y.tolist(), *(x.tolist() for x in operands), strict=True):
            true = function(*map(mpmath.mpf, at))
            if abs(true) > limit:  # rounds to inf, or to the greatest number
                assert abs(value) >= limit, at
                continue
            assert np.isfinite(value), at
            worst = max(worst, (float(abs(true - value) / units(true, y.dtype)), at))
    return worst


def check(name: str, way: str, dtype: Any) -> None:
    operands = points(name, 24 if name in REFLECTED else 40, dtype)
    error, at = worst_by_mpmath(name, run(name, way, *operands), operands)
    assert error <= BOUNDS.get(name, 2.0), at


@needs_compiler
@by_name
@over_widths
def test_compiled_functions_are_within_their_bounds(name: str, dtype: Any):
    check(name, "compiled", dtype)


@pytest.mark.nojit
@by_name
@over_widths
def test_plain_functions_are_within_their_bounds(name: str, dtype: Any):
    check(name, "plain", dtype)


@needs_compiler
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no longer than double")
@by_name
@over_widths
def test_dense_points(name: str, dtype: Any):
    def sigmoid(x: np.ndarray) -> np.ndarray:
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)

    pi = np.longdouble("3.14159265358979323846264338327950288")
    others = {
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "sigmoid": sigmoid,
        "sinc": lambda x: np.where(np.rint(x) % 2, -1, 1) * np.sin(pi * (x - np.rint(x))) / (pi * x),
        "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    }
    reference = others.get(name) or getattr(np, LONG.get(name, name), None)
    if reference is None:
        pytest.skip("NumPy has no such function")
    operands = points(name, 20_000, dtype)
    y = run(name, "compiled", *operands)
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        true = reference(*(x.astype(np.longdouble) for x in operands))
        exponent = np.maximum(np.frexp(true)[1] - 1, info.minexp)
        error = np.abs(y - true) / np.ldexp(np.longdouble(1), exponent - info.nmant)
    error[np.abs(true) > info.max] = np.where(np.abs(y[np.abs(true) > info.max]) >= info.max, 0, np.inf)
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS.get(name, 2.0), [float(x[worst]) for x in operands]


@pytest.mark.parametrize("way", [pytest.param("compiled", marks=needs_compiler), "plain"])
@pytest.mark.parametrize("name", REFLECTED)
def test_reflected(name: str, way: str):
    """For negative x = -a the error is bounded beside the greatest of |y|, |f(a)| and 1."""
    rng = np.random.default_rng(5)
    x = -np.concatenate([rng.uniform(0, 8, 60), rng.uniform(0, 60, 30), 10.0 ** rng.uniform(-6, 2, 30)])
    y, function = run(name, way, x), EXACT.get(name) or getattr(mpmath, name)
    bound = 20 if name == "tetragamma" else 4  # the cube of a cosecant may cancel too
    with mpmath.workprec(200):
        for at, value in zip(x.tolist(), y.tolist(), strict=True):
            true = function(mpmath.mpf(at))
            scale = max(abs(true), abs(function(mpmath.mpf(-at))), 1)
            assert abs(value - true) <= bound * float(np.finfo(float).eps) * scale, at


# --- edges ------------------------------------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")
EDGES = (
    0.0, -0.0, INF, -INF, NAN, 5e-324, -5e-324, 1e-310, 1e-45, 2.3e-308, 0.5, -0.5, 0.75, 1.0, -1.0, 1.5, 2.0, -2.0,
    3.0, -3.0, -2.5, 1e17, -1e17, 2.0**52 + 1, 1e300, -1e300, 88.8, 709.9, -745.2, -104.0, 1 + 2.0**-52, 1 - 2.0**-53,
)  # fmt: skip
# Where NumPy has no function: arguments, results.
SPECIAL = {
    "rsqrt": ((0.0, -0.0, INF, -1.0, NAN), (INF, -INF, 0.0, NAN, NAN)),
    "sigmoid": ((0.0, INF, -INF, NAN), (0.5, 1.0, 0.0, NAN)),
    "softplus": ((INF, -INF, NAN, 1e30), (INF, 0.0, NAN, 1e30)),
    "sinc": ((0.0, -0.0, 5e-324, 2.0, 1e30, INF, NAN), (1.0, 1.0, 1.0, 0.0, 0.0, NAN, NAN)),
    "erf": ((0.0, -0.0, INF, -INF, NAN, 1e-310), (0.0, -0.0, 1.0, -1.0, NAN, 1.1283791670955126e-310)),
    "erfc": ((0.0, INF, -INF, NAN, 30.0, -30.0), (1.0, 0.0, 2.0, NAN, 0.0, 2.0)),
    "ndtr": ((0.0, INF, -INF, NAN, 40.0, -40.0), (0.5, 1.0, 0.0, NAN, 1.0, 0.0)),
    "lgamma": ((0.0, -0.0, -1.0, -1e30, 1.0, 2.0, INF, -INF, NAN), (INF, INF, INF, INF, 0.0, 0.0, INF, INF, NAN)),
    "digamma": ((0.0, -0.0, -1.0, -7.0, INF, -INF, NAN), (-INF, INF, NAN, NAN, INF, NAN, NAN)),
    "trigamma": ((0.0, -1.0, INF, NAN), (INF, INF, 0.0, NAN)),
    "tetragamma": ((0.0, INF, NAN), (-INF, -0.0, NAN)),
}


@pytest.mark.nojit
@pytest.mark.parametrize("way", [pytest.param("compiled", marks=needs_compiler), "plain"])
@by_name
@over_widths
def test_edges(name: str, way: str, dtype: Any):
    if name in SPECIAL:
        at, expected = ([np.array(values, np.float64).astype(dtype)] for values in SPECIAL[name])
        expected = expected[0]
    else:
        arity = 2 if name in OF_TWO else 1
        with np.errstate(all="ignore"):
            at = [
                np.array(column).astype(dtype) for column in zip(*itertools.product(EDGES, repeat=arity), strict=True)
            ]
            reference = getattr(np, LONG.get(name, name))
            expected = reference(*(x.astype(np.longdouble) for x in at)).astype(dtype)
    y = run(name, way, *at)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.signbit(y[y == 0]), np.signbit(expected[y == 0]))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(y[~finite], expected[~finite])
    with np.errstate(all="ignore"):
        assert (np.abs(y - expected)[finite] <= (BOUNDS.get(name, 2.0) * np.spacing(np.abs(expected)))[finite]).all()


@pytest.mark.nojit
@pytest.mark.parametrize("way", [pytest.param("compiled", marks=needs_compiler), "plain"])
@over_widths
def test_digits_are_those_of_numpy(way: str, dtype: Any):
    with np.errstate(all="ignore"):
        x = np.concatenate([np.array(EDGES), *points("mantissa", 100, np.float64)]).astype(dtype)
        a, b = (column.astype(dtype) for column in np.array([*itertools.product(EDGES, repeat=2)]).T)
    mantissas, exponents = np.frexp(x)
    np.testing.assert_array_equal(run("mantissa", way, x), mantissas)
    known = np.isfinite(x) & (x != 0)
    np.testing.assert_array_equal(run("exponent", way, x[known]), exponents[known])
    np.testing.assert_array_equal(run("nextafter", way, a, b), np.nextafter(a, b))


# Of all float64, 6381956970095103 * 2^797 is closest to a multiple of pi/2 (Muller, Elementary Functions, ch. 11).
HUGE = (2.0**30, 2.0**30 + 1, 1e16, 1e22, 6381956970095103 * 2.0**797, 1.7976931348623157e308, -(2.0**1000), 12345678.9)


@pytest.mark.nojit
@pytest.mark.parametrize("way", [pytest.param("compiled", marks=needs_compiler), "plain"])
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@over_widths
def test_circular_functions_of_huge_arguments(name: str, way: str, dtype: Any):
    rng = np.random.default_rng(7)
    greatest = 307 if dtype is np.float64 else 38
    with np.errstate(over="ignore"):
        x = np.concatenate([HUGE, 10.0 ** rng.uniform(5, greatest, 100)]).astype(dtype)
    x = x[np.isfinite(x)]
    y = run(name, way, x)
    with mpmath.workprec(1400):
        for at, value in zip(x.tolist(), y.tolist(), strict=True):
            true = getattr(mpmath, name)(mpmath.mpf(at))
            assert abs(value - true) <= 2 * units(true, dtype), at


# --- the code ---------------------------------------------------------------------------------------------------------

PACKED = re.compile(r"\bv?(fn?m\w+|mul|add|div|sqrt)p[sd]\b|\b(fmla|fmul|fadd|fdiv|fsqrt)\b.*\.(2d|4s)")
LIBM = re.compile(
    r"[\s$](fma|exp|exp2|expm1|log|log2|log10|log1p|pow|cbrt|sin|cos|tan|a?sinh|a?cosh|a?tanh|asin|acos|atan|atan2|erf|"
    r"erfc|lgamma|tgamma|ldexp|frexp|rint|floor)f?\b"
)


@needs_compiler
@by_name
@over_widths
def test_loops_are_packed_and_call_nothing(name: str, dtype: Any):
    loop = compiled(name, None)
    run(name, "compiled", *[np.ones(1, dtype)] * (2 if name in OF_TWO else 1))
    signature = next(s for s in loop.signatures if str(s[0].dtype) == np.dtype(dtype).name)
    code = loop.inspect_asm(signature)
    assert PACKED.search(code)
    assert not LIBM.search(code)


@needs_compiler
@pytest.mark.parametrize("name", ["log", "tan", "cbrt"])
def test_loops_call_functions_of_a_register_from_any_module(name: str):
    """What is called, not inlined, has a name that other modules may have brought along already."""
    import numba

    f = getattr(vectormath.compiled(*cache.target()), name)

    @numba.njit
    def through_another(x):
        return f(x)

    @numba.njit(error_model="numpy")
    def loop(x, y):
        for i in range(y.size):
            y[i] = through_another(x[i]) if x[i] > 1.0 else f(x[i])

    x = np.linspace(0.5, 2.0, 100)
    y = np.empty_like(x)
    loop(x, y)
    np.testing.assert_array_equal(y, run(name, "compiled", x))
    code = next(iter(loop.inspect_asm().values()))
    body = re.search(r"^_ZN\w*loop\w*:$(.*?)func_end", code, re.MULTILINE | re.DOTALL)
    assert body
    assert re.search(rf"\b_?{name}_double(_unfused)?_\d+\b", body[1])


@needs_compiler
@by_name
@over_widths
def test_plain_python_and_compiled_code_agree_to_the_bit(name: str, dtype: Any):
    """Where neither fuses multiplication and addition."""
    operands = points(name, 500, dtype)
    np.testing.assert_array_equal(run(name, "unfused", *operands), run(name, "plain", *operands))


@pytest.mark.nojit
def test_python_numbers_are_taken_for_float64():
    assert isinstance(vectormath.exp(1), np.float64)
    assert isinstance(vectormath.exp(np.float32(1)), np.float32)
    assert vectormath.pow(np.int64(3), np.int64(35)) == 3**35
