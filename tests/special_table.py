"""Special functions against mpmath, at many points over their whole range.

    python -m tests.special_table             writes SPECIAL.md beside this file, from 10,000 points a function
    python -m tests.special_table 500 zeta    prints the rows of some, from fewer points

The error is relative. Where a function changes by more than its arguments do, a rounding of these changes it by so much
more: the last column has errors over that condition number, sum of |x f'(x) / f(x)| and 1 at least.
`test_special.py` asserts at fewer points what the page says.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

import tapegrad as tg

S: Any = tg.special
WRITTEN = pathlib.Path(__file__).with_name("SPECIAL.md")
POINTS = 10_000
DIGITS = 40


class Points:
    """Random points of a seed of their own, for each function."""

    def __init__(self, n: int) -> None:
        self.n, self.rng = n, np.random.default_rng(7)

    def flat(self, low: float, high: float) -> np.ndarray:
        """Between two numbers."""
        return self.rng.uniform(low, high, self.n)

    def decades(self, low: float, high: float) -> np.ndarray:
        """Between two powers of ten, all decades alike."""
        return np.asarray(10 ** self.flat(low, high))

    def signed(self, x: np.ndarray) -> np.ndarray:
        """Of either sign."""
        return np.where(self.rng.random(self.n) < 0.5, x, -x)

    def mixed(self, *of: np.ndarray) -> np.ndarray:
        """Each from one of several."""
        return np.asarray(np.choose(self.rng.integers(0, len(of), self.n), of))

    def shapes(self) -> list[np.ndarray]:
        """A shape of a gamma distribution, and points around its mean and anywhere."""
        a = self.decades(-3, 4)
        near = a * (1 + 2 * self.rng.normal(size=self.n) / np.sqrt(a))
        return [a, np.abs(self.mixed(near, self.decades(-5, 4))) + 1e-300]

    def two_shapes(self) -> list[np.ndarray]:
        """Those of a beta distribution, and points around its mean and anywhere."""
        a, b = self.decades(-2, 3), self.decades(-2, 3)
        mean = a / (a + b)
        near = mean + 2 * self.rng.normal(size=self.n) * np.sqrt(mean * (1 - mean) / (a + b + 1))
        return [a, b, np.clip(self.mixed(near, self.decades(-8, 0)), 1e-10, 1 - 1e-10)]


# --- what mpmath has not, or not with all digits ----------------------------------------------------------------------


def normal_cdf(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def log_normal_cdf(x: Any) -> Any:
    return mp.log(normal_cdf(x)) if x < 0 else mp.log1p(-normal_cdf(-x))


def hurwitz(s: Any, q: Any, n: int = 30) -> Any:
    """Hurwitz's zeta by its Euler-Maclaurin sum (DLMF 25.11.5)."""
    x = q + n
    total = mp.fsum((q + k) ** -s for k in range(n)) + x ** (1 - s) / (s - 1) + x**-s / 2
    term = s * x ** (-s - 1)
    for j in range(1, n):
        total += mp.bernoulli(2 * j) / mp.factorial(2 * j) * term
        term *= (s + 2 * j - 1) * (s + 2 * j) / x**2
    return total


def inverse(name: str, function: Any, slope: Any) -> Callable[..., Any]:
    """Where a function is p, by Newton's steps from what tapegrad finds, in mpmath."""

    def exact(*given: Any) -> Any:
        *shapes, p = given
        x = mp.mpf(getattr(S, name)(*(tg.tensor(float(v)) for v in given)).item())
        for _ in range(3):
            if x == 0:
                break
            x -= (function(*shapes, x) - p) / slope(*shapes, x)
        return x

    return exact


def _upper(a: Any, x: Any) -> Any:
    return mp.gammainc(a, x, mp.inf, regularized=True)


def _lower(a: Any, x: Any) -> Any:
    return mp.gammainc(a, 0, x, regularized=True)


def _gamma_density(a: Any, x: Any) -> Any:
    return mp.exp((a - 1) * mp.log(x) - x - mp.loggamma(a))


def _ratio(a: Any, b: Any, x: Any) -> Any:
    return mp.betainc(a, b, 0, x, regularized=True)


def faddeeva(z: Any) -> Any:
    return mp.exp(-z * z) * mp.erfc(-1j * z)


# --- the table: tapegrad's function, mpmath's, and where --------------------------------------------------------------

Row = tuple[Callable[..., Any], Callable[..., Any], Callable[[Points], list[np.ndarray]]]
FUNCTIONS: dict[str, Row] = {
    "erf": (tg.erf, mp.erf, lambda p: [p.signed(p.decades(-20, 1))]),
    "erfc": (tg.erfc, mp.erfc, lambda p: [p.mixed(p.signed(p.decades(-10, 1)), p.flat(0, 26))]),
    "erfcx": (
        S.erfcx, lambda x: mp.exp(x * x) * mp.erfc(x), lambda p: [p.mixed(p.decades(-10, 2.5), p.flat(-20, 5))]
    ),
    "erfinv": (
        tg.erfinv, inverse("erfinv", mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)),
        lambda p: [p.signed(p.mixed(p.decades(-20, 0), 1 - p.decades(-16, 0)))],
    ),
    "ndtr": (S.ndtr, normal_cdf, lambda p: [p.flat(-37, 9)]),
    "log_ndtr": (S.log_ndtr, log_normal_cdf, lambda p: [p.mixed(p.flat(-40, 9), p.flat(-500, 36))]),
    "ndtri": (
        S.ndtri, inverse("ndtri", normal_cdf, lambda x: mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)),
        lambda p: [p.mixed(p.decades(-300, -1), p.flat(0, 1), 1 - p.decades(-16, -1))],
    ),
    "lgamma": (
        tg.lgamma, lambda x: mp.log(abs(mp.gamma(x))),
        lambda p: [p.mixed(p.decades(-10, 2.2), p.signed(p.flat(0, 60)), p.flat(0.5, 3))],
    ),
    "digamma": (
        tg.digamma, lambda x: mp.psi(0, x), lambda p: [p.mixed(p.decades(-5, 6), p.signed(p.flat(0, 60)))]
    ),
    "polygamma, n = 1": (
        lambda x: tg.polygamma(1, x), lambda x: mp.psi(1, x),
        lambda p: [p.mixed(p.decades(-5, 6), p.signed(p.flat(0, 60)))],
    ),
    "polygamma, n = 4": (
        lambda x: tg.polygamma(4, x), lambda x: mp.psi(4, x),
        lambda p: [p.mixed(p.decades(-5, 6), p.signed(p.flat(0, 60)))],
    ),
    "zeta": (S.zeta, hurwitz, lambda p: [p.mixed(p.flat(1.0001, 3), p.flat(1, 60)), p.decades(-2, 4)]),
    "multigammaln, p = 3": (
        lambda x: S.multigammaln(x, 3),
        lambda a: 3 * mp.log(mp.pi) / 2 + mp.fsum(mp.loggamma(a - mp.mpf(j) / 2) for j in range(3)),
        lambda p: [1.0001 + p.decades(-3, 4)],
    ),
    "gammainc": (S.gammainc, _lower, Points.shapes),
    "gammaincc": (S.gammaincc, _upper, Points.shapes),
    "betainc": (S.betainc, _ratio, Points.two_shapes),
    "gammaincinv": (
        S.gammaincinv, inverse("gammaincinv", _lower, _gamma_density),
        lambda p: [p.decades(-2, 3), p.mixed(p.flat(0, 1), p.decades(-10, 0))],
    ),
    "gammainccinv": (
        S.gammainccinv, inverse("gammainccinv", _upper, lambda a, x: -_gamma_density(a, x)),
        lambda p: [p.decades(-2, 3), p.mixed(p.flat(0, 1), p.decades(-10, 0))],
    ),
    "betaincinv": (
        S.betaincinv, inverse("betaincinv", _ratio, lambda a, b, x: x ** (a - 1) * (1 - x) ** (b - 1) / mp.beta(a, b)),
        lambda p: [p.decades(-1, 3), p.decades(-1, 3), p.mixed(p.flat(0, 1), p.decades(-8, 0))],
    ),
    "i0": (tg.i0, lambda x: mp.besseli(0, x), lambda p: [p.signed(p.decades(-3, 2.8))]),
    "i1": (S.i1, lambda x: mp.besseli(1, x), lambda p: [p.signed(p.decades(-3, 2.8))]),
    "i0e": (S.i0e, lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), lambda p: [p.signed(p.decades(-3, 4))]),
    "i1e": (S.i1e, lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), lambda p: [p.signed(p.decades(-3, 4))]),
    "modified_bessel_k0": (S.modified_bessel_k0, lambda x: mp.besselk(0, x), lambda p: [p.decades(-5, 2.8)]),
    "modified_bessel_k1": (S.modified_bessel_k1, lambda x: mp.besselk(1, x), lambda p: [p.decades(-5, 2.8)]),
    "bessel_j0": (
        S.bessel_j0, lambda x: mp.besselj(0, x), lambda p: [p.mixed(p.signed(p.decades(-3, 4)), p.flat(0, 30))]
    ),
    "bessel_j1": (
        S.bessel_j1, lambda x: mp.besselj(1, x), lambda p: [p.mixed(p.signed(p.decades(-3, 4)), p.flat(0, 30))]
    ),
    "bessel_y0": (S.bessel_y0, lambda x: mp.bessely(0, x), lambda p: [p.mixed(p.decades(-3, 4), p.flat(0, 30))]),
    "bessel_y1": (S.bessel_y1, lambda x: mp.bessely(1, x), lambda p: [p.mixed(p.decades(-3, 4), p.flat(0, 30))]),
    "spherical_bessel_j0": (
        S.spherical_bessel_j0, lambda x: mp.sin(x) / x, lambda p: [p.mixed(p.signed(p.decades(-5, 4)), p.flat(0, 30))]
    ),
    "airy_ai": (S.airy_ai, mp.airyai, lambda p: [p.mixed(p.flat(-60, 40), p.signed(p.decades(-4, 1.5)))]),
    "entr": (S.entr, lambda x: -x * mp.log(x), lambda p: [p.decades(-300, 300)]),
    "xlogy": (
        tg.xlogy, lambda x, y: x * mp.log(y), lambda p: [p.signed(p.decades(-10, 10)), p.decades(-300, 300)]
    ),
    "xlog1py": (
        S.xlog1py, lambda x, y: x * mp.log1p(y),
        lambda p: [p.signed(p.decades(-10, 10)), p.mixed(p.decades(-30, 300), -0.9999999 * p.decades(-20, 0))],
    ),
    "logit": (
        tg.logit, lambda x: mp.log(x / (1 - x)), lambda p: [p.mixed(p.decades(-300, 0), 1 - p.decades(-16, 0))]
    ),
    "expit": (
        tg.sigmoid, lambda x: 1 / (1 + mp.exp(-x)), lambda p: [p.mixed(p.flat(-700, 40), p.signed(p.decades(-10, 1)))]
    ),
    "sinc": (
        tg.sinc, lambda x: mp.sinpi(x) / (mp.pi * x), lambda p: [p.mixed(p.signed(p.decades(-10, 3)), p.flat(0, 20))]
    ),
    "ellipk": (S.ellipk, mp.ellipk, lambda p: [p.mixed(1 - p.decades(-15, 0), -p.decades(-10, 6))]),
    "ellipe": (S.ellipe, mp.ellipe, lambda p: [p.mixed(1 - p.decades(-15, 0), -p.decades(-10, 6))]),
    "ellipkm1": (S.ellipkm1, lambda m: mp.pi / 2 / mp.agm(1, mp.sqrt(m)), lambda p: [p.decades(-100, 0)]),
    "ellipkinc": (
        S.ellipkinc, mp.ellipf, lambda p: [p.flat(-7, 7), p.mixed(p.flat(-5, 0.999), p.decades(-12, -1))]
    ),
    "ellipeinc": (
        S.ellipeinc, mp.ellipe, lambda p: [p.flat(-7, 7), p.mixed(p.flat(-5, 0.999), p.decades(-12, -1))]
    ),
    "hyp1f1": (S.hyp1f1, mp.hyp1f1, lambda p: [p.flat(-30, 30), p.flat(0.1, 40), p.flat(-60, 60)]),
    "jv": (S.jv, mp.besselj, lambda p: [p.flat(-10, 30), p.decades(-2, 2)]),
    "yv": (S.yv, mp.bessely, lambda p: [p.flat(-10, 30), p.decades(-1, 2)]),
    "iv": (S.iv, mp.besseli, lambda p: [p.flat(-10, 30), p.decades(-2, 2)]),
    "kv": (S.kv, mp.besselk, lambda p: [p.flat(-10, 30), p.decades(-2, 2)]),
    "gamma": (S.gamma, mp.gamma, lambda p: [p.mixed(p.decades(-10, 2.2), p.flat(-60, 60))]),
    "rgamma": (S.rgamma, mp.rgamma, lambda p: [p.mixed(p.decades(-10, 2.2), p.flat(-60, 60))]),
    "beta": (S.beta, mp.beta, lambda p: [p.decades(-6, 2), p.decades(-6, 2)]),
    "betaln": (
        S.betaln, lambda a, b: mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b),
        lambda p: [p.decades(-6, 6), p.decades(-6, 6)],
    ),
    "poch": (S.poch, mp.rf, lambda p: [p.decades(-4, 2), p.decades(-4, 1.5)]),
    "exprel": (S.exprel, lambda x: mp.expm1(x) / x, lambda p: [p.signed(p.decades(-20, 2.8))]),
    "expi": (S.expi, mp.ei, lambda p: [p.mixed(p.signed(p.decades(-10, 2.7)), p.flat(0.3, 0.5))]),
    "exp1": (S.exp1, mp.e1, lambda p: [p.decades(-20, 2.7)]),
    "log_expit": (
        S.log_expit, lambda x: -mp.log1p(mp.exp(-x)),
        lambda p: [p.mixed(p.flat(-700, 600), p.signed(p.decades(-10, 1)))],
    ),
    "erfi": (S.erfi, mp.erfi, lambda p: [p.signed(p.decades(-20, 1.4))]),
    "dawsn": (
        S.dawsn, lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), lambda p: [p.signed(p.decades(-20, 1.5))]
    ),
    "wrightomega": (S.wrightomega, lambda x: mp.lambertw(mp.exp(x)), lambda p: [p.flat(-100, 100)]),
    "elliprf": (S.elliprf, mp.elliprf, lambda p: [p.decades(-6, 6), p.decades(-6, 6), p.decades(-6, 6)]),
    "elliprd": (S.elliprd, mp.elliprd, lambda p: [p.decades(-6, 6), p.decades(-6, 6), p.decades(-6, 6)]),
    "elliprg": (S.elliprg, mp.elliprg, lambda p: [p.decades(-6, 6), p.decades(-6, 6), p.decades(-6, 6)]),
    "agm": (S.agm, mp.agm, lambda p: [p.decades(-6, 6), p.decades(-6, 6)]),
    "zetac": (S.zetac, lambda x: mp.zeta(x) - 1, lambda p: [p.mixed(p.flat(-150, 0.99), 1 + p.decades(-3, 1.6))]),
    "voigt_profile": (
        S.voigt_profile,
        lambda x, s, g: mp.re(faddeeva((x + 1j * g) / (s * mp.sqrt(2)))) / (s * mp.sqrt(2 * mp.pi)),
        lambda p: [p.signed(p.decades(-3, 1)), p.decades(-0.5, 1), p.decades(-6, 1)],
    ),
    "spherical_jn": (
        S.spherical_jn, lambda n, x: mp.sqrt(mp.pi / 2 / x) * mp.besselj(n + mp.mpf(1) / 2, x),
        lambda p: [np.floor(p.flat(0, 30)), p.mixed(p.decades(-2, 3), p.flat(0, 30))],
    ),
    "spherical_yn": (
        S.spherical_yn, lambda n, x: mp.sqrt(mp.pi / 2 / x) * mp.bessely(n + mp.mpf(1) / 2, x),
        lambda p: [np.floor(p.flat(0, 30)), p.mixed(p.decades(-2, 3), p.flat(0, 30))],
    ),
    "spherical_in": (
        S.spherical_in, lambda n, x: mp.sqrt(mp.pi / 2 / x) * mp.besseli(n + mp.mpf(1) / 2, x),
        lambda p: [np.floor(p.flat(0, 30)), p.mixed(p.decades(-2, 2.8), p.flat(0, 30))],
    ),
    "spherical_kn": (
        S.spherical_kn, lambda n, x: mp.sqrt(mp.pi / 2 / x) * mp.besselk(n + mp.mpf(1) / 2, x),
        lambda p: [np.floor(p.flat(0, 30)), p.mixed(p.decades(-2, 2.8), p.flat(0, 30))],
    ),
    "sici, Si": (lambda x: S.sici(x)[0], mp.si, lambda p: [p.signed(p.decades(-10, 4))]),
    "sici, Ci": (lambda x: S.sici(x)[1], mp.ci, lambda p: [p.mixed(p.decades(-10, 4), p.flat(0, 20))]),
    "shichi, Shi": (lambda x: S.shichi(x)[0], mp.shi, lambda p: [p.signed(p.decades(-10, 2.8))]),
    "shichi, Chi": (lambda x: S.shichi(x)[1], mp.chi, lambda p: [p.mixed(p.decades(-10, 2.8), p.flat(0.4, 0.6))]),
    "fresnel, S": (lambda x: S.fresnel(x)[0], mp.fresnels, lambda p: [p.signed(p.decades(-5, 3))]),
    "fresnel, C": (lambda x: S.fresnel(x)[1], mp.fresnelc, lambda p: [p.signed(p.decades(-5, 3))]),
    "eval_jacobi": (
        S.eval_jacobi, mp.jacobi,
        lambda p: [np.floor(p.flat(0, 30)), p.flat(-0.9, 5), p.flat(-0.9, 5), p.flat(-1, 1)],
    ),
    "hyp2f1, parameters up to 5": (
        S.hyp2f1, mp.hyp2f1,
        lambda p: [p.flat(-5, 5), p.flat(-5, 5), p.flat(0.1, 5), p.mixed(p.flat(-20, -1), p.flat(-1, 0.98))],
    ),
}  # fmt: skip


def _condition(exact: Any, at: list[Any], value: Any) -> float:
    """By how much more than its arguments a function changes, relatively."""
    step, total = mp.mpf(2) ** -60, 1.0
    for k in range(len(at)):
        near = [v * (1 + step) if i == k else v for i, v in enumerate(at)]
        total = max(total, float(abs(exact(*near) / value - 1) / step))
    return total


def measured(name: str, n: int = POINTS) -> dict[str, Any]:
    """The largest errors of a function at n points: relative, and over the condition number; and those not finite."""
    function, exact, draw = FUNCTIONS[name]
    operands = draw(Points(n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = function(*map(tg.tensor, operands)).tolist()
    row = {"name": name, "points": 0, "error": 0.0, "over condition": 0.0, "not finite": 0}
    with mp.workdps(DIGITS):
        for value, at in zip(found, zip(*(x.tolist() for x in operands), strict=True), strict=True):
            given = [mp.mpf(v) for v in at]
            try:
                true = mp.re(exact(*given))
            except (ValueError, ZeroDivisionError, mp.NoConvergence):  # mpmath gives up
                continue
            if not 1e-300 < abs(true) < 1e300:
                continue
            row["points"] += 1
            if not math.isfinite(value):
                row["not finite"] += 1
                continue
            error = float(abs(value / true - 1))
            row["error"] = max(row["error"], error)
            if error > max(row["over condition"], 1e-15) and "inv" not in name and "ndtri" not in name:
                error /= _condition(exact, given, true)
            row["over condition"] = max(row["over condition"], error)
    return row


def report(rows: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# Special functions against mpmath",
        "",
        "`python -m tests.special_table` writes this page: the largest relative errors in float64, at random points",
        "over the whole range, and what is left of them when each is divided by the condition number there, by which",
        "a rounding of the arguments is multiplied.",
        "",
        "| function | points | relative error | over the condition number | not finite |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| `{r['name']}` | {r['points']:,} | {r['error']:.1e} | {r['over condition']:.1e} | {r['not finite']} |"
            for r in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Measure all on all processors, and write the page; or some."""
    n = int(arguments[0]) if arguments else POINTS
    names = arguments[1:] or list(FUNCTIONS)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(measured, names, [n] * len(names)))
    text = report(rows)
    if not arguments:
        WRITTEN.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
