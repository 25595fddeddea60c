"""SciPy's functions that PyTorch lacks: values are SciPy's, first and second derivatives mpmath's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import tapegrad as tg

SPECIAL: Any = tg.special


def student(n: Any, t: Any) -> Any:
    tail = mp.betainc(n / 2, mp.mpf(1) / 2, 0, n / (n + t * t), regularized=True) / 2
    return tail if t < 0 else 1 - tail


def chi_squared(v: Any, x: Any) -> Any:
    return mp.gammainc(v / 2, 0, x / 2, regularized=True)


def gamma_cdf(a: Any, b: Any, x: Any) -> Any:
    return mp.gammainc(b, 0, a * x, regularized=True)


def poisson(k: Any, m: Any) -> Any:
    return mp.gammainc(mp.floor(k) + 1, m, mp.inf, regularized=True)


def fisher(m: Any, n: Any, x: Any) -> Any:
    return mp.betainc(m / 2, n / 2, 0, m * x / (m * x + n), regularized=True)


def binomial(k: Any, n: Any, p: Any) -> Any:
    return mp.betainc(n - k, k + 1, 0, 1 - p, regularized=True)


def negative_binomial(k: Any, n: Any, p: Any) -> Any:
    return mp.betainc(n, k + 1, 0, p, regularized=True)


def beta_ratio(a: Any, b: Any, x: Any) -> Any:
    return mp.betainc(a, b, 0, x, regularized=True)


def owens_t(h: Any, a: Any) -> Any:
    return mp.quad(lambda x: mp.exp(-h * h * (1 + x * x) / 2) / (1 + x * x), [0, a]) / (2 * mp.pi)


def scaled_i(v: Any, x: Any) -> Any:
    return mp.exp(-abs(x)) * mp.besseli(v, x)


def boxcox(x: Any, power: Any) -> Any:
    return mp.expm1(power * mp.log(x)) / power if power else mp.log(x)


def inverse_boxcox(y: Any, power: Any) -> Any:
    return mp.exp(mp.log1p(power * y) / power) if power else mp.exp(y)


def huber(delta: Any, r: Any) -> Any:
    return r * r / 2 if abs(r) <= delta else delta * (abs(r) - delta / 2)


def degrees(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(x * mp.pi / 180)


def inverse(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """By Newton's steps, from what SciPy finds."""

    def exact(*given: Any) -> Any:
        *shapes, p = given
        start = getattr(scipy.special, name)(*map(float, given))
        return mp.findroot(lambda x: function(*shapes, x) - p, mp.mpf(float(start)), tol=mp.mpf(10) ** -70)

    return exact


def real(x: Any) -> Any:
    return mp.re(x)


def voigt(x: Any, sigma: Any, gamma: Any) -> Any:
    z = (x + 1j * gamma) / (sigma * mp.sqrt(2))
    return mp.re(mp.exp(-z * z) * mp.erfc(-1j * z)) / (sigma * mp.sqrt(2 * mp.pi))


def spherical(bessel: Callable[..., Any]) -> Callable[..., Any]:
    """Of x of any sign: the branch of the square root goes out."""
    return lambda n, x: mp.re(mp.sqrt(mp.pi / 2) / mp.sqrt(mp.mpc(x)) * bessel(n + mp.mpf(1) / 2, mp.mpc(x)))


def shifted_jacobi(n: Any, p: Any, q: Any, x: Any) -> Any:
    return mp.jacobi(n, p - q, q - 1, 2 * x - 1) / mp.binomial(2 * n + p - 1, n)


# The function in mpmath; operands of some points, a column each; which operands are counts, orders or parameters.
Case = tuple[Callable[..., Any], list[list[float]], tuple[int, ...]]
ORDERS, ARGUMENTS = [-0.3, 0.0, 0.5, 2.7, 12.0], [0.4, 1.7, 6.0, 3.1, 2.2]
DEGREES, INSIDE = [0.0, 1.0, 3.0, 2.5, 8.0], [0.3, -0.7, 0.1, 0.6, -0.2]
A, B = [0.3, 2.0, 5.5, 40.0, 1e-3], [1.5, 1e-4, 0.7, 3.0, 6.0]
CASES: dict[str, Case] = {
    "jv": (mp.besselj, [ORDERS, ARGUMENTS], (0,)),
    "yv": (mp.bessely, [ORDERS, ARGUMENTS], (0,)),
    "iv": (mp.besseli, [ORDERS, ARGUMENTS], (0,)),
    "kv": (mp.besselk, [ORDERS, ARGUMENTS], (0,)),
    "jve": (mp.besselj, [ORDERS, ARGUMENTS], (0,)),
    "yve": (mp.bessely, [ORDERS, ARGUMENTS], (0,)),
    "ive": (scaled_i, [ORDERS, ARGUMENTS], (0,)),
    "kve": (lambda v, x: mp.exp(x) * mp.besselk(v, x), [ORDERS, ARGUMENTS], (0,)),
    "yn": (mp.bessely, [[0.0, 1.0, 5.0], [0.4, 2.0, 3.1]], (0,)),
    "kn": (mp.besselk, [[0.0, 1.0, 5.0], [0.4, 2.0, 3.1]], (0,)),
    "struve": (mp.struveh, [ORDERS, ARGUMENTS], (0,)),
    "modstruve": (mp.struvel, [ORDERS, ARGUMENTS], (0,)),
    "gamma": (mp.gamma, [[0.3, 4.5, -2.4, 60.0, 1e-3]], ()),
    "rgamma": (mp.rgamma, [[0.3, 4.5, -2.0, -5.0000001, 0.0, 1e-3, -7.4]], ()),
    "loggamma": (mp.loggamma, [[0.3, 4.5, 60.0, 1e-3]], ()),
    "beta": (mp.beta, [A, B], ()),
    "betaln": (lambda a, b: mp.log(mp.beta(a, b)), [A, B], ()),
    "binom": (mp.binomial, [[5.0, 7.3, 0.4, 60.0], [2.0, 3.1, 1e-5, 22.5]], ()),
    "poch": (mp.rf, [A, B], ()),
    "betaincc": (lambda a, b, x: 1 - beta_ratio(a, b, x), [[0.5], [1.5], [0.1]], ()),
    "betainccinv": (
        inverse("betainccinv", lambda a, b, x: 1 - beta_ratio(a, b, x)), [[2.0], [1.5], [0.3]], ()
    ),
    "log_expit": (lambda x: -mp.log1p(mp.exp(-x)), [[-800.0, -3.0, 0.0, 2.0, 40.0]], ()),
    "exprel": (lambda x: mp.expm1(x) / x if x else mp.mpf(1), [[-200.0, -20.0, -1e-9, 1e-3, 2.0, 25.0, 500.0]], ()),
    "exp10": (lambda x: mp.mpf(10) ** x, [[-5.0, 0.3, 100.0]], ()),
    "cosm1": (lambda x: mp.cos(x) - 1, [[1e-9, 0.5, -2.0]], ()),
    "powm1": (lambda x, y: x**y - 1, [[1.0001, 2.0, 0.3], [1e-3, 0.5, -2.0]], ()),
    "cbrt": (mp.cbrt, [[1e-3, 2.0, 1e9]], ()),
    "expi": (mp.ei, [[-3.0, 0.2, 5.0]], ()),
    "exp1": (mp.e1, [[1e-3, 0.2, 5.0]], ()),
    "expn": (mp.expint, [[0.0, 1.0, 2.0, 7.0], [0.4, 2.0, 1.0, 3.0]], (0,)),
    "spence": (lambda x: real(mp.polylog(2, 1 - x)), [[1e-8, 0.4, 0.99999, 1.0, 1.2, 30.0]], ()),
    "wrightomega": (lambda x: real(mp.lambertw(mp.exp(x))), [[-30.0, -1.0, 0.5, 20.0]], ()),
    "owens_t": (owens_t, [[0.3], [0.5]], ()),
    "erfi": (mp.erfi, [[-2.0, 0.1, 3.0]], ()),
    "dawsn": (lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), [[-20.0, -0.1, 0.9, 3.0, 11.0]], ()),
    "erfcinv": (lambda x: mp.erfinv(1 - x), [[1e-6, 0.3, 1.0, 1.9]], ()),
    "hyp0f1": (mp.hyp0f1, [[0.5, 2.2, 7.0], [0.3, -4.0, 9.0]], (0,)),
    "hyp1f1": (mp.hyp1f1, [[0.5, 2.2, 7.0], [1.5, 0.7, 3.0], [0.3, -4.0, 9.0]], (0, 1)),
    "hyperu": (mp.hyperu, [[0.5, 1.2, 2.0], [1.5, 0.7, 3.5], [0.3, 4.0, 9.0]], (0, 1)),
    "stdtr": (student, [[0.5, 3.0, 40.0, 2.0, 7.0], [-1.5, 0.2, 2.0, 1e-3, -30.0]], ()),
    "stdtrit": (inverse("stdtrit", student), [[1.5, 40.0], [0.1, 0.93]], ()),
    "chdtr": (chi_squared, [[0.3, 5.5], [0.2, 2.5]], ()),
    "chdtrc": (lambda v, x: 1 - chi_squared(v, x), [[0.3, 5.5], [0.2, 2.5]], ()),
    "chdtri": (inverse("chdtri", lambda v, x: 1 - chi_squared(v, x)), [[0.7, 9.0], [0.1, 0.93]], ()),
    "gdtr": (gamma_cdf, [[0.3, 2.0], [1.5, 0.4], [0.2, 1.1]], ()),
    "gdtrc": (lambda *at: 1 - gamma_cdf(*at), [[2.0], [0.4], [1.1]], ()),
    "gdtrix": (inverse("gdtrix", gamma_cdf), [[0.3], [1.5], [0.2]], ()),
    "pdtr": (poisson, [[0.0, 1.0, 7.0, 3.4], [0.3, 2.0, 5.0, 1.2]], (0,)),
    "pdtrc": (lambda k, m: 1 - poisson(k, m), [[0.0, 1.0, 7.0, 3.4], [0.3, 2.0, 5.0, 1.2]], (0,)),
    "fdtr": (fisher, [[1.0, 30.0], [3.0, 11.0], [0.2, 0.9]], ()),
    "fdtrc": (lambda *at: 1 - fisher(*at), [[4.0], [2.5], [1.7]], ()),
    "fdtri": (inverse("fdtri", fisher), [[4.0], [2.5], [0.3]], ()),
    "bdtr": (binomial, [[0.0, 2.0, 7.0], [3.0, 5.0, 30.0], [0.2, 0.7, 0.4]], (0, 1)),
    "bdtrc": (lambda *at: 1 - binomial(*at), [[0.0, 2.0, 7.0], [3.0, 5.0, 30.0], [0.2, 0.7, 0.4]], (0, 1)),
    "nbdtr": (negative_binomial, [[0.0, 2.0, 7.0], [3.0, 5.0, 30.0], [0.2, 0.7, 0.8]], (0, 1)),
    "nbdtrc": (lambda *at: 1 - negative_binomial(*at), [[0.0, 2.0, 7.0], [3.0, 5.0, 30.0], [0.2, 0.7, 0.8]], (0, 1)),
    "kl_div": (lambda x, y: x * mp.log(x / y) - x + y, [[0.3, 2.0], [0.5, 1e-3]], ()),
    "rel_entr": (lambda x, y: x * mp.log(x / y), [[0.3, 2.0], [0.5, 1e-3]], ()),
    "huber": (huber, [[1.0, 0.5, 2.0], [0.3, -1.7, 9.0]], ()),
    "pseudo_huber": (
        lambda d, r: d * d * (mp.sqrt(1 + (r / d) ** 2) - 1), [[1.0, 0.5, 100.0], [0.3, -1.7, 1e-3]], ()
    ),
    "boxcox": (boxcox, [[0.3, 2.0, 7.0, 1.5], [0.5, -1.0, 1e-7, 0.0]], ()),
    "boxcox1p": (lambda x, p: boxcox(1 + x, p), [[0.3, 2.0, 1e-5, 1.5], [0.5, -1.0, 1e-7, 0.0]], ()),
    "inv_boxcox": (inverse_boxcox, [[0.3, -2.0, 0.7, 1.5], [0.5, -1.0, 1e-7, 0.0]], ()),
    "inv_boxcox1p": (lambda y, p: inverse_boxcox(y, p) - 1, [[0.3, -2.0, 0.7, 1.5], [0.5, -1.0, 1e-7, 0.0]], ()),
    "sindg": (degrees(mp.sin), [[30.0, 200.0]], ()),
    "cosdg": (degrees(mp.cos), [[30.0, 200.0]], ()),
    "tandg": (degrees(mp.tan), [[30.0, 200.0]], ()),
    "cotdg": (degrees(mp.cot), [[30.0, 200.0]], ()),
    "radian": (lambda d, m, s: (d + m / 60 + s / 3600) * mp.pi / 180, [[3.0], [20.0], [11.0]], ()),
    "elliprf": (mp.elliprf, [[0.3, 2.0, 1.0], [1.0, 2.0, 50.0], [4.0, 2.0, 1e-3]], ()),
    "elliprg": (mp.elliprg, [[0.3, 2.0, 1.0], [1.0, 2.0, 50.0], [4.0, 2.0, 1e-3]], ()),
    "elliprd": (mp.elliprd, [[0.3, 2.0, 1.0], [1.0, 2.0, 50.0], [4.0, 2.0, 1e-3]], ()),
    "elliprc": (lambda x, y: real(mp.elliprc(x, y)), [[0.3, 2.0, 1.0], [1.0, 5.0, -2.0]], ()),
    "agm": (mp.agm, [[0.3, 2.0], [1.0, 2.1]], ()),
    "eval_gegenbauer": (mp.gegenbauer, [DEGREES, [0.5, 1.5, 0.7, 1.2, 3.0], INSIDE], (0, 1)),
    "eval_legendre": (mp.legendre, [DEGREES, INSIDE], (0,)),
    "eval_sh_legendre": (lambda n, x: mp.legendre(n, 2 * x - 1), [DEGREES, [0.3, 0.9, 0.1, 0.6, 0.5]], (0,)),
    "eval_chebyt": (mp.chebyt, [DEGREES, INSIDE], (0,)),
    "eval_chebyu": (mp.chebyu, [DEGREES, INSIDE], (0,)),
    "eval_sh_chebyt": (lambda n, x: mp.chebyt(n, 2 * x - 1), [DEGREES, [0.3, 0.9, 0.1, 0.6, 0.5]], (0,)),
    "eval_sh_chebyu": (lambda n, x: mp.chebyu(n, 2 * x - 1), [DEGREES, [0.3, 0.9, 0.1, 0.6, 0.5]], (0,)),
    "eval_chebyc": (lambda n, x: 2 * mp.chebyt(n, x / 2), [DEGREES, INSIDE], (0,)),
    "eval_chebys": (lambda n, x: mp.chebyu(n, x / 2), [DEGREES, INSIDE], (0,)),
    "eval_laguerre": (lambda n, x: mp.laguerre(n, 0, x), [DEGREES, ARGUMENTS], (0,)),
    "eval_genlaguerre": (mp.laguerre, [DEGREES, [0.5, 1.5, 0.7, 1.2, 3.0], ARGUMENTS], (0, 1)),
    "eval_hermite": (mp.hermite, [[0.0, 1.0, 3.0, 8.0], [0.3, -0.7, 1.1, 2.0]], (0,)),
    "eval_hermitenorm": (
        lambda n, x: mp.mpf(2) ** (-n / 2) * mp.hermite(n, x / mp.sqrt(2)),
        [[0.0, 1.0, 3.0, 8.0], [0.3, -0.7, 1.1, 2.0]], (0,),
    ),
    "eval_jacobi": (mp.jacobi, [DEGREES, [0.5, 1.5, -0.3, 1.2, 3.0], [0.2, -0.5, 0.8, 2.0, 0.0], INSIDE], (0, 1, 2)),
    "eval_sh_jacobi": (
        shifted_jacobi, [DEGREES, [1.5, 2.5, 0.7, 1.2, 3.0], [0.2, 0.5, 0.3, 2.0, 1.0], [0.3, 0.9, 0.1, 0.6, 0.5]],
        (0, 1, 2),
    ),
    "voigt_profile": (
        voigt, [[0.3, -1.2, 20.0, 0.0, 3e3, 6.0], [0.5, 1.0, 0.7, 2.0, 10.0, 0.8], [0.2, 1.5, 1e-3, 3.0, 1.0, 1e-9]], ()
    ),
    "spherical_jn": (spherical(mp.besselj), [[0.0, 0.0, 1.0, 2.0, 9.0, 3.0], [1e-5, 7.0, 0.4, 30.0, 2.0, -4.0]], (0,)),
    "spherical_yn": (spherical(mp.bessely), [[0.0, 0.0, 1.0, 2.0, 9.0, 3.0], [1e-5, 7.0, 0.4, 30.0, 2.0, -4.0]], (0,)),
    "spherical_in": (spherical(mp.besseli), [[0.0, 0.0, 1.0, 2.0, 9.0, 3.0], [1e-5, 7.0, 0.4, 30.0, 2.0, -4.0]], (0,)),
    "spherical_kn": (spherical(mp.besselk), [[0.0, 0.0, 1.0, 2.0, 9.0, 3.0], [1e-5, 7.0, 0.4, 30.0, 2.0, -4.0]], (0,)),
    "fresnel 0": (mp.fresnels, [[1e-4, -0.7, 3.3]], ()),
    "fresnel 1": (mp.fresnelc, [[1e-4, -0.7, 3.3]], ()),
    "sici 0": (mp.si, [[1e-6, -0.7, 40.0]], ()),
    "sici 1": (mp.ci, [[1e-6, 0.7, 40.0]], ()),
    "shichi 0": (mp.shi, [[1e-6, -0.7, 30.0]], ()),
    "shichi 1": (mp.chi, [[1e-6, 0.7, 30.0]], ()),
}  # fmt: skip


def named(owner: Any, name: str) -> Callable[..., Any]:
    """A function, or one result of it: "sici 1" is the second."""
    function, _, place = name.partition(" ")
    found = getattr(owner, function)
    return (lambda *given: found(*given)[int(place)]) if place else found


def columns(case: Case) -> list[np.ndarray]:
    return [np.array(column) for column in case[1]]


def derivatives(function: Callable[..., Any], points: list[np.ndarray], constant: tuple[int, ...]) -> dict[Any, Any]:
    """The value, and what its derivatives by each operand, and by two, are at all points."""
    operands = [tg.tensor(p, requires_grad=k not in constant) for k, p in enumerate(points)]
    free = [k for k in range(len(points)) if k not in constant]
    y = function(*operands)
    found = {(): y.detach().numpy()}
    first = tg.autograd.grad(y.sum(), [operands[k] for k in free], create_graph=True)
    for k, slope in zip(free, first, strict=True):
        found[k,] = slope.detach().numpy()
        given = [operands[j] for j in free]
        again: Any = [None] * len(free)
        if slope.requires_grad:
            again = tg.autograd.grad(slope.sum(), given, allow_unused=True, retain_graph=True)
        for j, curvature in zip(free, again, strict=True):
            found[k, j] = 0.0 * points[k] if curvature is None else curvature.numpy()
    return found


@pytest.mark.parametrize("name", CASES)
def test_values_are_scipys_and_derivatives_mpmaths(name: str):
    exact, _, constant = CASES[name]
    points = columns(CASES[name])
    found = derivatives(named(SPECIAL, name), points, constant)
    typed = [p.astype(int) if k in constant and (p == np.floor(p)).all() else p for k, p in enumerate(points)]
    np.testing.assert_allclose(found.pop(()), named(scipy.special, name)(*typed), rtol=2e-14)
    with mp.workdps(40):
        for by, values in found.items():
            orders = tuple(by.count(k) for k in range(len(points)))
            for at, value in zip(zip(*points, strict=True), values, strict=True):
                true = mp.diff(exact, tuple(map(mp.mpf, at)), orders)
                assert abs(value - true) <= 1e-12 * 30 ** len(by) * max(abs(true), 1e-15), (by, at, value, float(true))


def test_zeta_and_its_slope():
    """On both sides of the pole, at zeros and beside 0, where the reflection's factors have poles."""
    x = tg.tensor([-151.3, -6.0, -4.0, -2.7, -1.0, -1e-9, 0.0, 0.4, 0.999, 1.001, 2.0, 30.0, 1.0], requires_grad=True)
    y = SPECIAL.zetac(x)
    np.testing.assert_array_equal(y.detach().numpy(), scipy.special.zetac(x.detach().numpy()))
    *slopes, pole = tg.autograd.grad(y.sum(), x)[0].tolist()
    assert pole == -np.inf
    with mp.workdps(40):
        for at, slope in zip(x.tolist(), slopes, strict=False):
            true = mp.zeta(mp.mpf(at), derivative=1) if at else -mp.log(2 * mp.pi) / 2
            assert abs(slope - true) <= 1e-12 * abs(true), at


def test_edges_of_spherical_functions():
    n, x = tg.tensor([0, 1, 2, 3, -1]), tg.tensor([0.0, np.inf, -np.inf, np.nan, 1.0], dtype=tg.float64)
    for kind in ("jn", "yn", "in", "kn"):
        expected = getattr(scipy.special, f"spherical_{kind}")(n.numpy(), x.numpy())
        np.testing.assert_array_equal(getattr(SPECIAL, f"spherical_{kind}")(n, x).numpy(), expected)
    z = tg.tensor([0.4, 3.0], requires_grad=True)
    slope = SPECIAL.spherical_jn(2, z, derivative=True)
    np.testing.assert_allclose(slope.detach().numpy(), scipy.special.spherical_jn(2, z.detach().numpy(), True), 1e-14)
    assert slope.requires_grad


def test_voigts_profile_at_its_edges():
    """A Cauchy density where sigma is 0, a normal one where gamma is, and nothing of a width below 0."""
    x, sigma, gamma = (
        tg.tensor(v, requires_grad=True) for v in ([0.7, 0.7, 9.0, 1.0], [0.0, 1.3, 1.0, 1.0], [0.4, 0.0, 0.0, -0.1])
    )
    by_x, by_sigma, by_gamma = (
        g.tolist() for g in tg.autograd.grad(SPECIAL.voigt_profile(x, sigma, gamma).sum(), (x, sigma, gamma))
    )
    lorentz = mp.diff(lambda x, g: g / (mp.pi * (x * x + g * g)), (0.7, 0.4), (1, 0))
    assert by_x[0] == pytest.approx(float(lorentz), rel=1e-13)
    assert by_sigma[0] == 0.0
    assert by_gamma[0] == pytest.approx((0.7**2 - 0.4**2) / (np.pi * (0.7**2 + 0.4**2) ** 2), rel=1e-13)
    bell = [scipy.stats.norm.pdf(0.7, scale=1.3), scipy.stats.norm.pdf(9.0)]
    assert by_x[1:3] == pytest.approx([-0.7 / 1.3**2 * bell[0], -9.0 * bell[1]], rel=1e-13)
    assert by_sigma[1:3] == pytest.approx([bell[0] * (0.7**2 / 1.3**3 - 1 / 1.3), bell[1] * 80.0], rel=1e-12)
    assert np.isnan([by_x[3], by_gamma[3]]).all()


def test_curvatures_of_carlsons_integral_at_edges():
    """Where a factor of the integrand is t^-p with p of 1 at least, the integral is infinite; else it is finite."""
    found = derivatives(SPECIAL.elliprd, [np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([2.0, 0.0])], ())
    infinite = {by: np.isinf(values).tolist() for by, values in found.items()}
    assert infinite[()] == infinite[2,] == [False, True]
    assert infinite[0,] == infinite[0, 1] == infinite[1, 0] == infinite[0, 0] == [True, True]
    assert infinite[1,] == infinite[1, 1] == infinite[2, 2] == [False, True]
    assert not any(np.isnan(values).any() for values in found.values())


def test_slopes_where_their_terms_would_cancel():
    a, b = np.array([1e6, 3e-7, 40.0, 1e5]), np.array([1e-7, 2e5, 1e-8, 3e5])
    found = derivatives(SPECIAL.betaln, [a, b], ())
    with mp.workdps(60):
        for k, (p, q) in enumerate(zip(map(mp.mpf, a), map(mp.mpf, b), strict=True)):
            exact = {
                (): mp.loggamma(p) + mp.loggamma(q) - mp.loggamma(p + q),
                (0,): mp.psi(0, p) - mp.psi(0, p + q), (1,): mp.psi(0, q) - mp.psi(0, p + q),
                (0, 0): mp.psi(1, p) - mp.psi(1, p + q), (1, 1): mp.psi(1, q) - mp.psi(1, p + q),
                (0, 1): -mp.psi(1, p + q),
            }  # fmt: skip
            for by, true in exact.items():
                assert abs(found[by][k] - true) <= 1e-13 * abs(true), (by, p, q)


@pytest.mark.parametrize("name", ["kv", "beta", "stdtr", "dawsn", "elliprf", "eval_legendre", "hyperu"])
def test_forward_mode_and_float32(name: str):
    _, _, constant = CASES[name]
    points = columns(CASES[name])
    function, free = getattr(SPECIAL, name), [k for k in range(len(points)) if k not in constant]
    found = derivatives(function, points, constant)

    def of_free(*given: Any) -> Any:
        operands = list(map(tg.tensor, points))
        for k, operand in zip(free, given, strict=True):
            operands[k] = operand
        return function(*operands)

    primals = tuple(tg.tensor(points[k]) for k in free)
    value, tangent = tg.func.jvp(of_free, primals, tuple(tg.ones_like(p) for p in primals))
    np.testing.assert_array_equal(value.numpy(), found[()])
    np.testing.assert_allclose(tangent.numpy(), sum(found[k,] for k in free), rtol=1e-13)
    single = [p.astype(np.float32) for p in points]
    ours = derivatives(function, single, constant)
    wide = derivatives(function, [p.astype(np.float64) for p in single], constant)
    for by in [(), *((k,) for k in free)]:
        assert ours[by].dtype == np.float32
        np.testing.assert_allclose(ours[by], wide[by], rtol=2e-5, atol=1e-6 * np.abs(wide[by]).max())


def test_scipys_own_functions_record():
    x = tg.tensor([0.4, 1.7], requires_grad=True)
    for name, given in (
        ("kv", (1.5, x)),
        ("hyp2f1", (0.5, 1.0, 1.5, -x)),
        ("fdtr", (3.0, x, x)),
        ("jn", (2, x)),
        ("voigt_profile", (x, 0.5, x)),
        ("eval_jacobi", (2, 0.5, 1.5, x)),
        ("zetac", (x,)),
        ("round", (x,)),
    ):
        y = getattr(scipy.special, name)(*given)
        assert isinstance(y, tg.Tensor)
        plain = [v.detach().numpy() if isinstance(v, tg.Tensor) else v for v in given]
        np.testing.assert_array_equal(y.detach().numpy(), getattr(scipy.special, name)(*plain))
        assert tg.autograd.grad(y.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize(
    ("name", "place"), [("kv", 0), ("hyp1f1", 1), ("eval_gegenbauer", 0), ("hyp2f1", 2), ("eval_jacobi", 1)]
)
def test_what_has_no_known_derivative_is_refused(name: str, place: int):
    operands: list[Any] = [0.5] * getattr(scipy.special, name).nin
    operands[place] = tg.tensor(0.7, requires_grad=True)
    for function in (getattr(SPECIAL, name), getattr(scipy.special, name)):
        with pytest.raises(NotImplementedError, match=f"the derivative for '{name}: .*' is not implemented: give it"):
            function(*operands)
    operands[place] = operands[place].detach()
    assert not getattr(SPECIAL, name)(*operands).requires_grad
