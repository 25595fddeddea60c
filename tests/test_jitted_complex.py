"""Complex numbers in differentiated functions: values of the plain call to the last bit, derivatives by mpmath and, by
complex arguments, in PyTorch's convention."""

import cmath
import math

import mpmath
import numpy as np
import pytest
from plain_functions import njit
from thoroughness import further

import tapegrad as tg

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
# What jitted code says, and what mpmath does where it isn't the same.
OF_ONE = {
    "z * z - 1j * z": None, "2.0 / z + z / (1 + z)": None, "z ** 2 + z ** 3": None, "z ** (0.5 - 1j)": None,
    "2.5 ** z": None, "-z + (+z) * True": None, "np.exp(z)": "exp(z)", "np.log(z)": "log(z)", "np.sqrt(z)": "sqrt(z)",
    "np.sin(z) * np.cos(z)": "sin(z) * cos(z)", "np.tan(z)": "tan(z)", "np.sinh(z) * np.cosh(z)": "sinh(z) * cosh(z)",
    "np.tanh(z)": "tanh(z)", "np.arcsin(z)": "asin(z)", "np.arccos(z)": "acos(z)", "np.arctan(z)": "atan(z)",
    "np.arcsinh(z)": "asinh(z)", "np.arccosh(z)": "acosh(z)", "np.arctanh(z)": "atanh(z)", "np.exp2(z)": "2 ** z",
    "np.expm1(z) + np.log1p(z)": "expm1(z) + log(1 + z)", "np.log2(z) + np.log10(z)": "log(z, 2) + log(z, 10)",
    "np.square(z) * np.reciprocal(z)": "z ** 2 / z", "np.power(z, 1.5)": "z ** 1.5",
    "cmath.exp(z) * z.real": "exp(z) * z.real",
    "cmath.sqrt(z) + cmath.log(z)": "sqrt(z) + log(z)", "cmath.asin(z) + cmath.atanh(z)": "asin(z) + atanh(z)",
    "cmath.log(z, 2.5) + cmath.log(3, z)": "log(z) / log(2.5) + log(3) / log(z)",
    "z.conjugate() * z.imag": "conj(z) * z.imag",
    "abs(z) * np.abs(z) + np.absolute(z) * 1j": "abs(z) ** 2 + abs(z) * 1j",
    "np.angle(z) * 1j + cmath.phase(z)": "arg(z) * (1 + 1j)", "complex(z.imag, z.real)": "mpc(z.imag, z.real)",
    "np.conj(z) / z": "conj(z) / z", "cmath.rect(z.real, z.imag)": "z.real * exp(1j * z.imag)",
    "np.complex128(z.real) * np.real(z) + np.imag(z)": "z.real ** 2 + z.imag",
}  # fmt: skip
Z = 0.6, 0.35


def with_text(text, **names):
    scope = {"np": np, "cmath": cmath, **names}
    exec(text, scope)
    return njit(scope["f"])


def of_mpmath(text):
    wanted = eval(f"lambda z: {OF_ONE[text] or text}", vars(mpmath))
    return lambda x, y: wanted(mpmath.mpc(x, y))


def test_functions():
    lines = [f" out[{k}] = {text}" for k, text in enumerate(OF_ONE)]
    begin = ["def f(x):", " z = complex(x[0], x[1])", f" out = np.empty({len(OF_ONE)}, np.complex128)"]
    f = with_text("\n".join([*begin, *lines, " return out"]))
    x = np.array(Z)
    values, (found, pull) = f(x), tg.func.vjp(f, x)
    weights = np.linspace(1.0, 2.0, 2 * len(OF_ONE))
    g = njit(lambda x: np.sum(f(x).real * weights[::2]) + np.sum(f(x).imag * weights[1::2]))
    second = np.zeros((2, 2))
    with mpmath.workdps(40):
        for k, text in enumerate(OF_ONE):
            assert values[k].tobytes() == found[k].tobytes(), text
            wanted = of_mpmath(text)
            slope = [complex(mpmath.diff(wanted, Z, order)) for order in ((1, 0), (0, 1))]
            by_parts = [pull(part * np.eye(len(OF_ONE))[k])[0] for part in (1, 1j)]
            np.testing.assert_allclose(by_parts, [np.real(slope), np.imag(slope)], rtol=1e-12, atol=1e-13, err_msg=text)
            curves = [[complex(mpmath.diff(wanted, Z, order)) for order in ((2, 0), (1, 1))],
                      [complex(mpmath.diff(wanted, Z, order)) for order in ((1, 1), (0, 2))]]  # fmt: skip
            second += np.real(curves) * weights[2 * k] + np.imag(curves) * weights[2 * k + 1]
    np.testing.assert_allclose(tg.func.hessian(g)(x), second, rtol=1e-10)


@njit
def fourier(z):
    """The discrete Fourier transform, by halves."""
    n = z.size
    if n == 1:
        return z.copy()
    even, odd = fourier(z[::2]), fourier(z[1::2])
    out = np.empty(n, np.complex128)
    for k in range(n // 2):
        turned = np.exp(-2j * np.pi * k / n) * odd[k]
        out[k] = even[k] + turned
        out[k + n // 2] = even[k] - turned
    return out


def test_fast_fourier_transform():
    generator = np.random.default_rng(0)
    z, seed = (generator.standard_normal(8) + 1j * generator.standard_normal(8) for _ in range(2))
    y, pull = tg.func.vjp(fourier, z)
    assert y.tobytes() == fourier(z).tobytes()
    np.testing.assert_allclose(y, np.fft.fft(z), rtol=1e-13)
    np.testing.assert_allclose(pull(seed)[0], 8 * np.fft.ifft(seed), rtol=1e-13)  # the adjoint matrix
    np.testing.assert_allclose(tg.func.jvp(fourier, (z,), (seed,))[1], np.fft.fft(seed), rtol=1e-13)


@njit
def contour(ham, points, right):
    """As in NPBench."""
    n = ham.shape[1]
    p0, p1 = np.zeros(right.shape, np.complex128), np.zeros(right.shape, dtype=np.complex128)
    for z in points:
        t = np.zeros((n, n), dtype=np.complex128)
        for k in range(ham.shape[0]):
            t += np.power(z, 1.0 - k) * ham[k]
        x = np.linalg.solve(t, right)
        if abs(z) < 1.0:
            x = -x
        p0 += x
        p1 += z * x
    return p0, p1


@njit
def of_contour(ham, points, right):
    a, b = contour(ham, points, right)
    return np.abs(a).sum() + np.vdot(a[0], b[0]).real


@njit
def of_arrays(x, y, z):
    """Creation, views, writes in place, lists, reductions."""
    a = np.zeros(4, np.complex128)
    a[:] = x
    a[1:3] += z[1:3]
    a.real[3] = y[2]
    a.imag[:2] *= x[:2]
    b = np.where(x > 1.0, z, a * z).reshape(2, 2).T
    b[0] *= y[3]
    total = 0j
    for u in [z[0], 1j, z[1] * x[0], x[3] + 0j]:
        total += u * u
    c = np.concatenate((np.full(3, z[0]), np.array([y[1], 2j, z[2]])))
    d = np.cumsum(c)[1:] - np.ones_like(c)[1:] + np.conj(c[:5])
    e = np.linalg.inv(np.eye(2) * (2.0 + 0j) + 0.3 * b)
    total += e[0, 1] * e[1, 1]
    return abs(total) + (b.sum(axis=0)[1] * d.mean()).real + np.prod(np.exp(0.3 * a)).imag + np.abs(b).sum()


@pytest.mark.parametrize("f", [of_arrays, *further(of_contour)])
def test_arguments(f):
    generator = np.random.default_rng(1)
    shapes = [(3, 3, 3), (4,), (3, 2)] if f is of_contour else [(4,)] * 3
    args = [generator.standard_normal(s) + 1j * generator.standard_normal(s) for s in shapes]
    if f is of_arrays:
        args[:2] = [np.abs(a) for a in args[:2]]
    value, gradients = tg.func.value_and_grad(f, argnums=(0, 1, 2))(*args)
    assert value == f(*args)
    for k, (a, gradient) in enumerate(zip(args, gradients, strict=True)):
        assert gradient.dtype == a.dtype
        along = generator.standard_normal(a.shape) + 1j * generator.standard_normal(a.shape) * np.iscomplexobj(a)
        along = along if np.iscomplexobj(a) else along.real

        def at(step, k=k, a=a, along=along):
            return f(*args[:k], a + step * along, *args[k + 1 :])

        h = 2e-4  # of sixth order
        slope = sum(w * (at(n * h) - at(-n * h)) for n, w in ((1, 45), (2, -9), (3, 1))) / (60 * h)
        np.testing.assert_allclose(np.sum(np.real(np.conj(gradient) * along)), slope, rtol=1e-9)


def test_edges():
    f = njit(lambda z, w: (abs(z) + (z**2).real + (z**3).imag + (w * z).real, z * w, z + w, z - w))
    (value, *_), pull = tg.func.vjp(f, 0j, 2 - 1j)
    assert value == 0.0
    assert pull((1.0, 0j, 0j, 0j)) == (2 + 1j, 0j)  # of abs at 0 none, as PyTorch's
    for transform in (tg.func.jacrev, tg.func.jacfwd):
        assert transform(njit(lambda x: x * 1j + x**2))(2.0) == 4 + 1j
    rows = tg.func.jacrev(njit(lambda x: (x * 1j, x[0])))(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(rows[0], 1j * np.eye(2))
    np.testing.assert_array_equal(rows[1], [1.0, 0.0])
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.5]
    numbers = [complex(a, b) for a in special for b in special]
    for z in numbers:
        for w in numbers[::5]:
            found = tg.func.vjp(f, z, w)[0]
            assert np.array(found).tobytes() == np.array(f(z, w)).tobytes(), (z, w)
    with pytest.raises(ZeroDivisionError, match="complex division by zero"):
        tg.func.grad(njit(lambda x: abs(1j / (x - 1.0 + 0j))))(1.0)
    guarded = with_text(
        "def f(x):\n try:\n  return abs(1j / complex(x - 1.0, 0.0))\n except Exception:\n  return abs(complex(x, x))"
    )
    assert math.isclose(tg.func.grad(guarded)(1.0), math.sqrt(2.0))


def test_what_is_written_to_is_written():
    f = with_text("def f(x, z):\n z[0] = x * z[1]\n return abs(z[0]) ** 2")
    z = np.array([0j, 3 - 4j])
    assert math.isclose(tg.func.grad(f)(2.0, z), 2 * 2.0 * 25.0)
    assert z[0] == 6 - 8j
    with pytest.raises(ValueError, match="share memory"):
        tg.func.grad(with_text("def f(z, w):\n w[0] = z[1] * 2\n return abs(z[0])"))(z, z)


def test_preaccumulated():
    @tg.jitted.preaccumulate
    @njit
    def step(z, x):
        for _ in range(3):
            z = 0.1 * z * z + x
        return z, z * x

    f = njit(lambda z, x: abs(step(z, x)[0] * step(z, x)[1]))
    g = njit(lambda z, x: abs((0.1 * (0.1 * (0.1 * z * z + x) ** 2 + x) ** 2 + x) ** 2 * x))
    np.testing.assert_allclose(
        tg.func.grad(f, argnums=(0, 1))(1 + 2j, 0.5), tg.func.grad(g, argnums=(0, 1))(1 + 2j, 0.5), rtol=1e-13
    )


def test_what_is_refused():
    z = np.array([1j, 2.0])
    with pytest.raises(RuntimeError, match="a function that returns a number, but this one returns a complex number"):
        tg.func.grad(njit(lambda z: z * z))(1j)
    for transform in (tg.func.jacrev, tg.func.jacfwd, tg.func.hessian):
        with pytest.raises(TypeError, match="by real numbers, but an argument is complex"):
            transform(njit(lambda z: abs(z)))(1j)
    with pytest.raises(TypeError, match="cotangent, of what is real is complex"):
        tg.func.vjp(njit(lambda z: abs(z)), 1j)[1](1j)
    for f in (lambda z: np.median(z).real, lambda z: np.max(z).real):
        with pytest.raises(tg.jitted.NotDifferentiableError, match="complex128 with derivatives"):
            tg.func.grad(njit(f))(z)
    with pytest.raises(TypeError, match="complex64"):
        tg.func.grad(njit(lambda z: abs(z[0])))(z.astype(np.complex64))


def test_determinants_and_variance():
    @njit
    def f(x):
        z = x[:9].reshape(3, 3) + 1j * x[9:].reshape(3, 3)
        sign, logarithm = np.linalg.slogdet(z)
        return np.linalg.det(z).real, sign.imag, logarithm, np.std(z) ** 2

    def parts(slope):  # by the imaginary part it is i times that by the real one
        return np.concatenate([slope.ravel(), 1j * slope.ravel()])

    x = np.random.default_rng(5).standard_normal(18)
    z = x[:9].reshape(3, 3) + 1j * x[9:].reshape(3, 3)
    values, pull = tg.func.vjp(f, x)
    assert values == f(x)
    of_log, sign, away = parts(np.linalg.inv(z).T), np.linalg.slogdet(z)[0], (z - z.mean()) / 4.5
    wanted = (
        (np.linalg.det(z) * of_log).real, (1j * of_log.imag * sign).imag, of_log.real,
        np.concatenate([away.real.ravel(), away.imag.ravel()]),
    )  # fmt: skip
    for unit, slope in zip(np.eye(4), wanted, strict=True):
        np.testing.assert_allclose(pull(tuple(unit))[0], slope, rtol=1e-12, atol=1e-12)
    z[2] = 0.0  # the determinant's slope is that by cofactors, of which the last row's aren't 0
    cofactors = np.zeros((3, 3), complex)
    cofactors[2] = np.cross(z[0], z[1])
    _, pull = tg.func.vjp(f, np.concatenate([z.real.ravel(), z.imag.ravel()]))
    np.testing.assert_allclose(pull((1.0, 0.0, 0.0, 0.0))[0], parts(cofactors).real, atol=1e-15)
