"""Special functions against mpmath: over their whole range, with derivatives by every argument, twice."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import tapegrad as tg
from tapegrad.ops import bessel
from tests import special_table

SPECIAL: Any = tg.special


def gradients(f: Callable[..., Any], *points: np.ndarray) -> list[np.ndarray]:
    operands = [tg.tensor(p, requires_grad=True) for p in points]
    return [g.numpy() for g in tg.autograd.grad(f(*operands).sum(), operands)]


def close(values: Any, true: list[Any], rtol: float, what: str = "") -> None:
    for k, (value, exact) in enumerate(zip(values, true, strict=True)):
        if abs(exact) > 1e-290:
            assert abs(value - exact) <= rtol * abs(exact), (what, k, value, mpmath.nstr(exact, 17))


# --- incomplete gamma and beta ----------------------------------------------------------------------------------------


def shapes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shapes of fourteen decades, with points around the mean and anywhere."""
    rng = np.random.default_rng(seed)
    a = 10 ** rng.uniform(-8, 6, n)
    near = np.abs(a * (1 + 2 * rng.normal(size=n) / np.sqrt(a)))
    return a, np.where(rng.random(n) < 0.5, near, 10 ** rng.uniform(-12, 4, n)) + 1e-300


def by_shape(f: Callable[[Any], Any], at: float, order: int = 1) -> Any:
    return mpmath.diff(f, mpmath.mpf(at), order, h=mpmath.mpf(10) ** -20)


def exact_gamma(a: float, x: float, order: int = 1) -> Any:
    """The derivative of P by `a`, by that of P or Q, of which the smaller has all digits."""
    with mpmath.workdps(60):
        if x < a:
            return by_shape(lambda s: mpmath.gammainc(s, 0, x, regularized=True), a, order)
        return -by_shape(lambda s: mpmath.gammainc(s, x, mpmath.inf, regularized=True), a, order)


def test_derivatives_of_the_incomplete_gamma_function_by_its_shape():
    a, x = shapes(300, 0)
    true = [exact_gamma(*at) for at in zip(a.tolist(), x.tolist(), strict=True)]
    for f, sign in ((SPECIAL.gammainc, 1), (SPECIAL.gammaincc, -1)):
        by_a, by_x = gradients(f, a, x)
        close(by_a, [sign * t for t in true], 1e-11, "by a")
        with mpmath.workdps(40):
            of_density = [
                sign * mpmath.exp((p - 1) * mpmath.log(q) - q - mpmath.loggamma(p))
                for p, q in zip(map(mpmath.mpf, a.tolist()), map(mpmath.mpf, x.tolist()), strict=True)
            ]
        close(by_x, of_density, 1e-11, "by x")


def test_second_derivatives_of_the_incomplete_gamma_function():
    a = np.array([0.3, 2.0, 7.5, 40.0, 3.0, 1e-300, 1e-12, 1e-12, 1e-8, 1e-3, 1e-3])
    x = np.array([0.2, 5.0, 7.0, 20.0, 0.5, 0.5, 1e-6, 2.0, 30.0, 0.01, 3.0])
    p, q = tg.tensor(a, requires_grad=True), tg.tensor(x, requires_grad=True)
    g, h = tg.autograd.grad(SPECIAL.gammainc(p, q).sum(), (p, q), create_graph=True)
    aa, ax = tg.autograd.grad(g.sum(), (p, q), retain_graph=True)
    xa, xx = tg.autograd.grad(h.sum(), (p, q))
    of_small = [mpmath.mpf(at) if at > 1e-200 else mpmath.mpf(1e-40) for at in a.tolist()]  # where it no longer changes
    close(aa.tolist(), [exact_gamma(*at, order=2) for at in zip(of_small, x, strict=True)], 1e-10)
    np.testing.assert_allclose(ax.numpy(), xa.numpy(), rtol=1e-12)
    density = np.exp((a - 1) * np.log(x) - x - scipy.special.gammaln(a))
    np.testing.assert_allclose(xx.numpy(), density * ((a - 1) / x - 1), rtol=1e-12)


def exact_beta(a: float, b: float, x: float, k: int) -> Any:
    """The derivative of I by shape `k`, of I or its complement."""
    with mpmath.workdps(60):
        at, x = [mpmath.mpf(a), mpmath.mpf(b)], mpmath.mpf(x)

        def along(s: Any) -> Any:
            p, q = (s, at[1]) if k == 0 else (at[0], s)
            if x < at[0] / (at[0] + at[1]):
                return mpmath.betainc(p, q, 0, x, regularized=True)
            return -mpmath.betainc(q, p, 0, 1 - x, regularized=True)

        return by_shape(along, (a, b)[k])


def test_derivatives_of_the_incomplete_beta_function_by_its_shapes():
    rng = np.random.default_rng(1)
    n = 150
    a, b = 10 ** rng.uniform(-5, 4, n), 10 ** rng.uniform(-5, 4, n)
    mean = a / (a + b)
    near = mean + 2 * rng.normal(size=n) * np.sqrt(mean * (1 - mean) / (a + b + 1))
    x = np.clip(np.where(rng.random(n) < 0.6, near, 10 ** rng.uniform(-12, 0, n)), 1e-13, 1 - 1e-13)
    found = gradients(SPECIAL.betainc, a, b, x)
    for k in range(2):
        true, kept = [], []
        for i, at in enumerate(zip(a.tolist(), b.tolist(), x.tolist(), strict=True)):
            try:
                true.append(exact_beta(*at, k))
            except ValueError:  # mpmath gives up on some
                continue
            kept.append(i)
        assert len(kept) > 0.9 * n
        close(found[k][kept], true, 1e-11, f"by shape {k}")


def test_second_derivatives_of_the_incomplete_beta_function():
    a, b, x = 2.5, 0.7, 0.6
    operands = [tg.tensor(v, requires_grad=True) for v in (a, b, x)]
    first = tg.autograd.grad(SPECIAL.betainc(*operands), operands, create_graph=True)
    found = [[h.item() for h in tg.autograd.grad(g, operands, retain_graph=True)] for g in first]
    np.testing.assert_allclose(found, np.transpose(found), rtol=1e-10)
    with mpmath.workdps(40):
        for (i, j), orders in {(0, 0): (2, 0, 0), (0, 1): (1, 1, 0), (1, 1): (0, 2, 0), (2, 2): (0, 0, 2)}.items():
            true = mpmath.diff(lambda p, q, c: mpmath.betainc(p, q, 0, c, regularized=True), (a, b, x), orders)
            close([found[i][j]], [true], 1e-9)


def test_second_derivatives_of_incomplete_functions_at_the_ends():
    """Where a power of the density is 0 or a logarithm infinite: limits of the formulas."""
    a, x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True), tg.zeros(3, requires_grad=True)
    for f, sign in ((SPECIAL.gammainc, 1.0), (SPECIAL.gammaincc, -1.0)):
        first = tg.autograd.grad(f(a, x).sum(), (a, x), create_graph=True)
        aa, ax, xa, xx = (h for g in first for h in tg.autograd.grad(g.sum(), (a, x), retain_graph=True))
        assert aa.tolist() == [0.0] * 3
        assert ax.tolist() == xa.tolist() == [-sign * math.inf, 0.0, 0.0]
        assert xx.tolist() == [-sign, sign, 0.0]
    b = 2.5  # c^(a - 1) (1 - c)^(b - 1) / B(a, b) at c = 0 begins with b (1 - (b - 1) c), b (b + 1) c
    for end, sign in ((0.0, 1.0), (1.0, -1.0)):
        c, shapes = tg.full((3,), end, requires_grad=True), (a, tg.full((3,), b))
        density = tg.autograd.grad(SPECIAL.betainc(*shapes[:: int(sign)], c).sum(), (a, c), create_graph=True)[1]
        by_a, by_c = tg.autograd.grad(density.sum(), (a, c))
        assert by_a.tolist() == [-math.inf, 0.0, 0.0]
        np.testing.assert_allclose(by_c.numpy(), [-sign * b * (b - 1), sign * b * (b + 1), 0.0], rtol=1e-14)


def test_polygamma_of_the_smallest_numbers():
    x = tg.tensor([-5e-324, -1e-200, 1e-200, -1e-50, -1e-90], requires_grad=True)
    (digamma,) = tg.autograd.grad(tg.lgamma(x).sum(), x, create_graph=True)
    (trigamma,) = tg.autograd.grad(digamma.sum(), x, create_graph=True)
    (tetragamma,) = tg.autograd.grad(trigamma.sum(), x)
    assert trigamma.tolist() == pytest.approx([math.inf] * 3 + [1e100, 1e180], rel=1e-15)
    assert tetragamma.tolist() == pytest.approx([math.inf, math.inf, -math.inf, 2e150, 2e270], rel=1e-15)


@pytest.mark.parametrize("name", ["gammaincinv", "gammainccinv", "betaincinv"])
def test_inverses_have_the_derivatives_of_what_they_invert(name: str):
    rng = np.random.default_rng(2)
    shapes_of = [rng.uniform(0.3, 6, 12) for _ in range(2 if name == "betaincinv" else 1)]
    p = rng.uniform(0.05, 0.95, 12)
    forward = getattr(SPECIAL, name.removesuffix("inv"))
    x = getattr(SPECIAL, name)(*map(tg.tensor, (*shapes_of, p)))
    np.testing.assert_allclose(forward(*map(tg.tensor, shapes_of), x).numpy(), p, rtol=1e-12)
    found = gradients(getattr(SPECIAL, name), *shapes_of, p)
    *by_shapes, by_x = gradients(forward, *shapes_of, x.numpy())
    np.testing.assert_allclose(found[-1], 1 / by_x, rtol=1e-9)
    for f, g in zip(found[:-1], by_shapes, strict=True):
        np.testing.assert_allclose(f, -g / by_x, rtol=1e-9)


def test_edges_of_incomplete_functions():
    a, x = tg.tensor([1.0, 0.5, 2.0, 3.0], requires_grad=True), tg.tensor([0.0, 0.0, 0.0, math.inf], requires_grad=True)
    y = SPECIAL.gammainc(a, x)
    assert y.tolist() == [0.0, 0.0, 0.0, 1.0]
    y.sum().backward()
    assert a.grad.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert x.grad.tolist() == [1.0, math.inf, 0.0, 0.0]
    assert math.isnan(gradients(SPECIAL.gammainc, np.array([-1.0]), np.array([1.0]))[0][0])


# --- zeta, polygamma --------------------------------------------------------------------------------------------------


def zeta_by_s(s: mpmath.mpf, q: mpmath.mpf, n: int = 40) -> mpmath.mpf:
    """The derivative of Hurwitz's zeta by s: each term of its Euler-Maclaurin sum (DLMF 25.11.5), differentiated."""
    x, log = q + n, mpmath.log(q + n)
    total = -mpmath.fsum(mpmath.log(q + k) * (q + k) ** -s for k in range(n))
    total -= x ** (1 - s) / (s - 1) * (log + 1 / (s - 1)) + log * x**-s / 2
    rising, slope = s, mpmath.mpf(1)  # s (s + 1) ... (s + 2 j - 2), and its derivative
    for j in range(1, n):
        weight = mpmath.bernoulli(2 * j) / mpmath.factorial(2 * j) * x ** (1 - s - 2 * j)
        total += weight * (slope - log * rising)
        for m in (2 * j - 1, 2 * j):
            rising, slope = rising * (s + m), slope * (s + m) + rising
    return total


def test_zeta_and_its_derivatives():
    rng = np.random.default_rng(3)
    s, q = np.concatenate([rng.uniform(1.01, 3, 40), rng.uniform(3, 60, 40)]), 10 ** rng.uniform(-2, 4, 80)
    at = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(s.tolist(), q.tolist(), strict=True)]
    with mpmath.workdps(250):  # at fewer it loses digits
        true = [mpmath.zeta(a, b) for a, b in at]
        by_q = [-a * mpmath.zeta(a + 1, b) for a, b in at]
        some = [mpmath.diff(lambda v, b=b: mpmath.zeta(v, b), a, h=mpmath.mpf(10) ** -40) for a, b in at[::20]]
    with mpmath.workdps(40):
        by_s = [zeta_by_s(a, b) for a, b in at]
        assert all(abs(x - y) < 1e-35 * abs(y) for x, y in zip(by_s[::20], some, strict=True))
    close(SPECIAL.zeta(tg.tensor(s), tg.tensor(q)).tolist(), true, 1e-13)
    found = gradients(SPECIAL.zeta, s, q)
    close(found[0], by_s, 1e-11, "by s")
    close(found[1], by_q, 1e-13, "by q")
    values = SPECIAL.zeta(tg.tensor([1.0, 0.5, 2.0, 2.0, 2.5, 3.0]), tg.tensor([2.0, 2.0, 0.0, -3.0, -0.5, math.inf]))
    np.testing.assert_array_equal(values.tolist(), [math.inf, math.nan, math.inf, math.inf, math.nan, 0.0])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 20, 150])
def test_polygamma(n: int):
    rng = np.random.default_rng(n)
    x = np.concatenate([10 ** rng.uniform(-1, 3, 20), -rng.uniform(0, 12, 10)])
    y = tg.tensor(x, requires_grad=True)
    value = tg.polygamma(n, y)
    (g,) = tg.autograd.grad(value.sum(), y)
    with mpmath.workdps(50):
        for k, orders in ((0, n), (1, n + 1)):
            true = [mpmath.psi(orders, mpmath.mpf(v)) for v in x.tolist()]
            for at, found, exact in zip(x, (value if k == 0 else g).tolist(), true, strict=True):
                if 1e-290 < abs(exact) < 1e300:
                    # Below 0 large terms may cancel: beside the greatest of them it is exact.
                    scale = (
                        abs(exact)
                        if at > 0 or orders < 2
                        else abs(mpmath.psi(orders, abs(mpmath.mpf(at)))) + abs(exact)
                    )
                    bound = 1e-12 if at > 0 else 1e-10 * max(1.0, float(1 / abs(at - round(at))))
                    assert abs(found - exact) <= bound * max(scale, 1 if orders < 2 else 0), (at, found, exact)


# --- polynomials ------------------------------------------------------------------------------------------------------

POLYNOMIALS: dict[str, Callable[..., Any]] = {
    "chebyshev_polynomial_t": scipy.special.eval_chebyt,
    "chebyshev_polynomial_u": scipy.special.eval_chebyu,
    "chebyshev_polynomial_v": lambda n, x: (
        scipy.special.eval_chebyu(n, x) - (scipy.special.eval_chebyu(n - 1, x) if n else 0)
    ),
    "chebyshev_polynomial_w": lambda n, x: (
        scipy.special.eval_chebyu(n, x) + (scipy.special.eval_chebyu(n - 1, x) if n else 0)
    ),
    "shifted_chebyshev_polynomial_t": scipy.special.eval_sh_chebyt,
    "shifted_chebyshev_polynomial_u": scipy.special.eval_sh_chebyu,
    "hermite_polynomial_h": scipy.special.eval_hermite,
    "hermite_polynomial_he": scipy.special.eval_hermitenorm,
    "laguerre_polynomial_l": scipy.special.eval_laguerre,
    "legendre_polynomial_p": scipy.special.eval_legendre,
}


@pytest.mark.parametrize("name", POLYNOMIALS)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 9])
def test_polynomials_and_their_derivatives(name: str, n: int):
    x = np.array([-1.0, -0.7, 0.0, 0.3, 1.0, 1.6])
    values = POLYNOMIALS[name](n, x)
    y = tg.tensor(x, requires_grad=True)
    found = getattr(SPECIAL, name)(y, n)
    np.testing.assert_allclose(found.detach().numpy(), values, rtol=1e-12, atol=1e-12)
    (first,) = tg.autograd.grad(found.sum(), y, create_graph=True)
    polynomial = np.polynomial.Polynomial.fit(nodes := np.linspace(-1.2, 1.8, n + 1), POLYNOMIALS[name](n, nodes), n)
    np.testing.assert_allclose(first.detach().numpy(), polynomial.deriv()(x), rtol=1e-8, atol=1e-8)
    if first.requires_grad and n > 1:
        (second,) = tg.autograd.grad(first.sum(), y)
        np.testing.assert_allclose(second.numpy(), polynomial.deriv(2)(x), rtol=1e-6, atol=1e-6)
    degrees = getattr(SPECIAL, name)(tg.tensor(0.3), tg.tensor([n, -1]))
    np.testing.assert_allclose(degrees[0].item(), POLYNOMIALS[name](n, 0.3), rtol=1e-12, atol=1e-12)


# --- far from 0 -------------------------------------------------------------------------------------------------------


def test_erfcx_and_log_ndtr_far_out():
    x = np.array([-5.0, 0.0, 3.0, 8.9, 9.1, 30.0, 1e4, 1e150])
    with mpmath.workdps(60):
        slope = []
        for v in map(mpmath.mpf, x.tolist()):
            series = -1 / (mpmath.sqrt(mpmath.pi) * v * v) if v > 1e7 else None
            scaled = mpmath.exp(v * v) * mpmath.erfc(v) if series is None else 0
            slope.append(2 * v * scaled - 2 / mpmath.sqrt(mpmath.pi) if series is None else series)
    close(gradients(SPECIAL.erfcx, x)[0], slope, 1e-11)
    x = np.array([-1e6, -1000.0, -40.0, -5.0, 0.0, 5.0, 30.0])
    with mpmath.workdps(60):
        true = [
            mpmath.sqrt(2 / mpmath.pi) / (mpmath.exp(v * v / 2) * mpmath.erfc(-v / mpmath.sqrt(2)))
            if abs(v) < 1e4
            else -v
            for v in map(mpmath.mpf, x.tolist())
        ]
    close(gradients(SPECIAL.log_ndtr, x)[0], true, 1e-11)
    assert SPECIAL.log_ndtr(tg.tensor([-1e6])).item() == pytest.approx(-5e11, rel=1e-6)


BESSEL: dict[str, Callable[[Any], Any]] = {
    "bessel_j1": lambda x: mpmath.besselj(1, x),
    "i1": lambda x: mpmath.besseli(1, x),
    "i0e": lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)),
    "i1e": lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)),
}


@pytest.mark.parametrize("name", BESSEL)
def test_derivatives_of_bessel_functions_near_zero_and_far_out(name: str):
    f, exact = getattr(SPECIAL, name), BESSEL[name]
    far = [24.9, 25.1, -300.0, *([1e5, -1e7] if name.endswith("e") else [])]
    x = tg.tensor([1e-10, -1e-7, 1e-4, 0.3, -1.9, 2.1, -6.5, *far], requires_grad=True)
    found = f(x)
    for order in range(1, 4):
        (found,) = tg.autograd.grad(found.sum(), x, create_graph=True)
        with mpmath.workdps(100):
            true = [
                mpmath.diff(exact, at, order, h=abs(at) * mpmath.mpf(10) ** -20) for at in map(mpmath.mpf, x.tolist())
            ]
        close(found.tolist(), true, 10.0 ** (order - 13), f"{name}, order {order}")


def test_scaled_bessel_functions_have_pytorchs_derivatives_at_their_kink():
    for f, slopes in ((SPECIAL.i0e, (0.0, 0.5)), (SPECIAL.i1e, (0.5, 0.0))):
        x = tg.zeros(3, requires_grad=True)
        (first,) = tg.autograd.grad(f(x).sum(), x, create_graph=True)
        (second,) = tg.autograd.grad(first.sum(), x)
        assert (first.tolist(), second.tolist()) == ([slopes[0]] * 3, [slopes[1]] * 3)


def test_airy_beyond_its_zeros():
    x = np.array([-20.0, -7.3, -1e-10, 0.0, 1e-12, 4.0, 25.0])
    close(SPECIAL.airy_ai(tg.tensor(x)).tolist(), [mpmath.airyai(v) for v in x.tolist()], 1e-12)
    close(gradients(SPECIAL.airy_ai, x)[0], [mpmath.airyai(v, derivative=1) for v in x.tolist()], 1e-12)


def test_scipys_functions_of_shapes_record():
    a, b, x = (tg.tensor([v], requires_grad=True) for v in (2.0, 3.0, 0.4))
    for y, given in (
        (scipy.special.gammainc(a, x), (a, x)),
        (scipy.special.betainc(a, b, x), (a, b, x)),
        (scipy.special.gammaincinv(a, x), (a, x)),
    ):
        assert isinstance(y, tg.Tensor)
        assert all(g is not None for g in tg.autograd.grad(y.sum(), given))


def test_what_is_foreign_is_kept_on_disk_and_found_again():
    """The symbols of SciPy's functions are known to the linker when a kernel comes from the cache."""
    import subprocess
    import sys

    program = "import tapegrad as tg; print(tg.special.bessel_j0(tg.tensor([2.0])).item())"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert float(done.stdout) == scipy.special.j0(2.0)
    assert bessel._scipy_j0(2.0) == scipy.special.j0(2.0)


# --- elliptic integrals, Kummer's function ---------------------------------------------------------------------------


def of_gauss(m: float, n: int, a: float, b: float) -> Any:
    """The n-th derivative of pi/2 2F1(a, b; 1; m): of K with a = 1/2, of E with a = -1/2; b = 1/2."""
    p, q = mpmath.mpf(a), mpmath.mpf(b)
    factor = mpmath.pi / 2 * mpmath.rf(p, n) * mpmath.rf(q, n) / mpmath.factorial(n)
    return factor * mpmath.hyp2f1(p + n, q + n, 1 + n, mpmath.mpf(m))


@pytest.mark.parametrize(("name", "a"), [("ellipk", 0.5), ("ellipe", -0.5)])
def test_complete_elliptic_integrals_and_their_slopes(name: str, a: float):
    rng = np.random.default_rng(4)
    m = np.concatenate([1 - 10 ** rng.uniform(-15, 0, 60), -(10 ** rng.uniform(-10, 6, 60)), [0.0, 0.5]])
    x = tg.tensor(m, requires_grad=True)
    y = getattr(SPECIAL, name)(x)
    (slope,) = tg.autograd.grad(y.sum(), x, create_graph=True)
    (curvature,) = tg.autograd.grad(slope.sum(), x)
    with mpmath.workdps(40):
        for order, values in enumerate((y, slope, curvature)):
            exact = [of_gauss(at, order, a, 0.5) for at in m.tolist()]
            close(values.tolist(), exact, (1e-15, 2e-15, 1e-11)[order], f"{name}, order {order}")


@pytest.mark.parametrize(("name", "exact"), [("ellipkinc", mpmath.ellipf), ("ellipeinc", mpmath.ellipe)])
def test_incomplete_elliptic_integrals_and_their_slopes(name: str, exact: Any):
    rng = np.random.default_rng(5)
    phi = rng.uniform(-7, 7, 60)
    m = np.where(rng.random(60) < 0.5, rng.uniform(-5, 0.999, 60), 10 ** rng.uniform(-12, -1, 60))
    f = getattr(SPECIAL, name)
    by_phi, by_m = gradients(f, phi, m)
    with mpmath.workdps(40):
        step = mpmath.mpf(10) ** -15
        points = [(mpmath.mpf(p), mpmath.mpf(q)) for p, q in zip(phi.tolist(), m.tolist(), strict=True)]
        close(by_phi, [mpmath.diff(lambda s, q=q: exact(s, q), p, h=step) for p, q in points], 4e-15, "by phi")
        close(by_m, [mpmath.diff(lambda s, p=p: exact(p, s), q, h=step) for p, q in points], 1e-14, "by m")
    p, q = tg.tensor(phi, requires_grad=True), tg.tensor(m, requires_grad=True)
    g, h = tg.autograd.grad(f(p, q).sum(), (p, q), create_graph=True)
    (mixed,) = tg.autograd.grad(g.sum(), q, retain_graph=True)
    other, curvature = tg.autograd.grad(h.sum(), (p, q), create_graph=True)
    np.testing.assert_allclose(mixed.numpy(), other.detach().numpy(), rtol=1e-12)
    with mpmath.workdps(50):
        twice = [mpmath.diff(lambda s, p=p: exact(p, s), q, 2, h=mpmath.mpf(10) ** -15) for p, q in points]
    close(curvature.tolist(), twice, 1e-13, "twice by m")
    by_phi_again, unknown = tg.autograd.grad(curvature.sum(), (p, q))
    s, (k, power) = np.sin(phi), (0.75, -2.5) if name == "ellipkinc" else (-0.25, -1.5)
    np.testing.assert_allclose(by_phi_again.numpy(), k * s**4 * (1 - m * s**2) ** power, rtol=1e-11)
    assert unknown.isnan().all(), "there is no formula for it here"


def test_kummers_function_and_its_slope():
    rng = np.random.default_rng(6)
    a, b, z = rng.uniform(-4, 6, 100), rng.uniform(0.1, 8, 100), rng.uniform(-30, 30, 100)
    x = tg.tensor(z, requires_grad=True)
    y = SPECIAL.hyp1f1(a, b, x)
    (slope,) = tg.autograd.grad(y.sum(), x)
    with mpmath.workdps(40):
        triples = [tuple(map(mpmath.mpf, at)) for at in zip(a.tolist(), b.tolist(), z.tolist(), strict=True)]
        close(y.tolist(), [mpmath.hyp1f1(*at) for at in triples], 1e-12, "value")
        close(slope.tolist(), [p / q * mpmath.hyp1f1(p + 1, q + 1, s) for p, q, s in triples], 1e-12, "slope")
    assert scipy.special.hyp1f1(1.0, 1.0, tg.tensor(1.0, requires_grad=True)).requires_grad


def test_scipys_elliptic_integrals_record():
    m = tg.tensor([0.0, 0.5], requires_grad=True)
    for name in ("ellipk", "ellipe", "ellipkm1"):
        assert getattr(scipy.special, name)(m)[1].item() == pytest.approx(getattr(scipy.special, name)(0.5))
    assert tg.xp.special.ellipk(m).requires_grad


def test_gauss_function_and_its_derivatives():
    rng = np.random.default_rng(11)
    a, b, c = rng.uniform(0.1, 4.0, (3, 40))
    x = np.concatenate([rng.uniform(-20.0, -1.0, 20), rng.uniform(-1.0, 0.95, 20)])
    t = tg.tensor(x, requires_grad=True)
    y = tg.special.hyp2f1(a, b, c, t)
    (slope,) = tg.autograd.grad(y.sum(), t, create_graph=True)
    (second,) = tg.autograd.grad(slope.sum(), t)
    exact = [
        [mpmath.rf(p, k) * mpmath.rf(q, k) / mpmath.rf(r, k) * mpmath.hyp2f1(p + k, q + k, r + k, z) for k in range(3)]
        for p, q, r, z in zip(a, b, c, x, strict=True)
    ]
    for k, found in enumerate((y, slope, second)):
        close(found.detach().numpy(), [values[k] for values in exact], 1e-11, f"derivative {k}")
    tangents = tg.func.jvp(lambda t: tg.special.hyp2f1(a, b, c, t), (t.detach(),), (tg.ones(40),))[1]
    close(tangents.numpy(), [values[1] for values in exact], 1e-11)
    assert tg.special.hyp2f1(1, 1, 2, tg.tensor(0.5, dtype=tg.float32)).dtype is tg.float32
    assert tg.special.hyp2f1(1.0, 1.0, tg.tensor([[2.0], [3.0]]), t).shape == (2, 40)
    with pytest.raises(NotImplementedError, match="the derivative for 'hyp2f1: b' is not implemented"):
        tg.special.hyp2f1(1.0, t, 2.0, 0.5)


@pytest.mark.parametrize("name", special_table.FUNCTIONS)
def test_values_are_within_roundings_of_their_arguments(name: str):
    row = special_table.measured(name, 16)
    assert row["points"] > 8
    assert row["over condition"] < 2e-13
    assert row["not finite"] == 0
