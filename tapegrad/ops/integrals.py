"""Exponentials and their integrals, of the error function's kin too; formulas are cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`).
"""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops.cylinder import _spherical_in, _spherical_jn
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import cosh, exp, log, pow_, sigmoid
from tapegrad.ops.logic import where
from tapegrad.ops.special import _TWO_OVER_ROOT_PI, erf
from tapegrad.ops.trigonometric import cos, sin

_scipy_log_expit, _scipy_exprel, _scipy_exp10 = Foreign("log_expit"), Foreign("exprel"), Foreign("exp10")
_scipy_expi, _scipy_exp1, _scipy_expn = Foreign("expi"), Foreign("exp1"), Foreign("expn", 2)
_scipy_cosm1, _scipy_powm1 = Foreign("cosm1"), Foreign("powm1", 2)
_scipy_erfi, _scipy_dawsn, _scipy_erfcinv = Foreign("erfi"), Foreign("dawsn"), Foreign("erfcinv")
_scipy_owens_t, _scipy_wrightomega, _scipy_spence = Foreign("owens_t", 2), Foreign("wrightomega"), Foreign("spence")

_sine_integral_of, _cosine_integral_of = (Foreign("sici", 1, k) for k in range(2))
_hyperbolic_sine_integral_of, _hyperbolic_cosine_integral_of = (Foreign("shichi", 1, k) for k in range(2))
_fresnel_s_of, _fresnel_c_of = (Foreign("fresnel", 1, k) for k in range(2))


# --- exponentials -----------------------------------------------------------------------------------------------------


@elementwise(partials=lambda x: sigmoid(-x), scipy="log_expit", result=FLOATING)
def _log_expit(x):
    """The logarithm of `expit`, exact also where that is near 1 or underflows, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.log_expit(tg.tensor([-2.0, 0.0]))
    tensor([-2.1269, -0.6931])
    """
    return _scipy_log_expit(x)


@elementwise(partials=lambda y: math.log(10.0) * y, scipy="exp10", result=FLOATING)
def _exp10(x):
    """10^`x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.exp10(tg.tensor([-1.0, 2.0]))
    tensor([  0.1000, 100.0000])
    """
    return _scipy_exp10(x)


@elementwise(partials=lambda x: -sin(x), scipy="cosm1", result=FLOATING)
def _cosm1(x):
    """cos(x) - 1, exact also where `x` is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.cosm1(tg.tensor([0.0, 0.5]))
    tensor([ 0.0000, -0.1224])
    """
    return _scipy_cosm1(x)


@elementwise(
    partials=(
        lambda a, b: where(b == 0.0, 0.0, b * pow_(a, b - 1.0)),
        lambda a, b: where((a == 0.0) & (b >= 0.0), 0.0, pow_(a, b) * log(a)),
    ),
    scipy="powm1",
    result=FLOATING,
)
def _powm1(a, b):
    """`a`^`b` - 1, exact also where that is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.powm1(2.0, tg.tensor([0.5, 3.0]))
    tensor([0.4142, 7.0000])
    """
    return _scipy_powm1(a, b)


@elementwise(
    partials=(None, lambda a, b: _exponential_moment(a + 1.0, b)),
    result=FLOATING,
)
def _exponential_moment(a, b):
    """The integral of t^a exp(b t) from 0 to 1, for an integer a >= 0: the derivatives of exprel.

    By series of terms of one sign (8.7.1), or by parts from (exp(b) - 1) / b on.
    """
    if b != b:
        return b
    n = int(a)
    if abs(b) < 30.0 + 2.0 * n:
        term, total, k = 1.0, 0.0, 0
        if b < 0.0:  # exp(b) sum of (-b)^k / ((n + 1) ... (n + 1 + k))
            term = vectormath.exp(b)
            while term > 1e-18 * total:
                term = term * (-b if k else 1.0) / (n + 1 + k)
                total += term
                k += 1
            return total
        while term > 1e-18 * total:  # sum of b^k / k! / (k + n + 1)
            total += term / (k + n + 1)
            k += 1
            term *= b / k
        return total
    if b - b != 0.0:
        return max(b, 0.0)
    scale = 1.0 if b < 0.0 else vectormath.exp(0.5 * b)  # twice, as its square may be beyond what is held
    whole = vectormath.exp(b) if b < 0.0 else 1.0
    total = (whole - 1.0) / b if b < 0.0 else (1.0 - vectormath.exp(-b)) / b
    for k in range(1, n + 1):
        total = (whole - k * total) / b
    return total * scale * scale


@elementwise(partials=lambda x: _exponential_moment(1.0, x), scipy="exprel", result=FLOATING)
def _exprel(x):
    """(exp(x) - 1) / x, exact also where `x` is small, elementwise; 1 at 0.

    >>> import tapegrad as tg
    >>> tg.special.exprel(tg.tensor([0.0, 1.0]))
    tensor([1.0000, 1.7183])
    """
    return _scipy_exprel(x)


# --- exponential integrals --------------------------------------------------------------------------------------------


@elementwise(partials=lambda x: exp(x) / x, scipy="expi", result=FLOATING)  # 6.2.5
def _expi(x):
    """The exponential integral Ei(x), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.expi(tg.tensor([0.5, 1.0]))
    tensor([0.4542, 1.8951])
    """
    return _scipy_expi(x)


@elementwise(partials=lambda x: where(x < 0.0, math.nan, -exp(-x) / x), scipy="exp1", result=FLOATING)  # 6.2.1
def _exp1(x):
    """The exponential integral E1(x), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.exp1(tg.tensor([0.5, 1.0]))
    tensor([0.5598, 0.2194])
    """
    return _scipy_exp1(x)


@elementwise(partials=(None, lambda a, b: -_generalised_integral(a - 1.0, b)), scipy="expn", result=FLOATING)  # 8.19.13
def _expn(a, b):
    """The exponential integral E_n(x) of the order n, which is cut to an integer, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.expn(2, tg.tensor([1.0, 2.0]))
    tensor([0.1485, 0.0375])
    """
    return _scipy_expn(np.trunc(a), b)


@elementwise(partials=(None, lambda a, b: -_generalised_integral(a - 1.0, b)), result=FLOATING)
def _generalised_integral(a, b):
    """E_n(x), also of negative orders: n! x^(-n - 1) exp(-x) (1 + x + ... + x^n / n!) is that of -n (8.4.8, 8.19.1)."""
    if not a < 0.0:
        return _scipy_expn(np.trunc(a), b)
    if not b > 0.0:
        return math.inf if b == 0.0 else math.nan
    value = vectormath.exp(-b) / b
    first = value
    for k in range(1, int(-a) + 1):
        value = first + k * value / b  # 8.19.12
    return value


# --- integrals of sines and cosines, which SciPy has in pairs ---------------------------------------------------------


@elementwise(partials=lambda x: _spherical_jn(0.0, x), result=FLOATING)  # 6.2.9
def _sine_integral(x):
    """The integral of sin(t) / t from 0 to `x`, elementwise."""
    return _sine_integral_of(x)


@elementwise(partials=lambda x: cos(x) / x, result=FLOATING)  # 6.2.11
def _cosine_integral(x):
    """Minus the integral of cos(t) / t from `x` on, elementwise."""
    return _cosine_integral_of(x)


@elementwise(partials=lambda x: _spherical_in(0.0, x), result=FLOATING)  # 6.2.15
def _hyperbolic_sine_integral(x):
    """The integral of sinh(t) / t from 0 to `x`, elementwise."""
    return _hyperbolic_sine_integral_of(x)


@elementwise(partials=lambda x: cosh(x) / x, result=FLOATING)  # 6.2.16
def _hyperbolic_cosine_integral(x):
    """Euler's constant and log(x), and the integral of (cosh(t) - 1) / t from 0 to `x`, elementwise."""
    return _hyperbolic_cosine_integral_of(x)


@elementwise(partials=lambda x: sin(0.5 * math.pi * x * x), result=FLOATING)  # 7.2.8
def _fresnel_s(x):
    """The integral of sin(pi t² / 2) from 0 to `x`, elementwise."""
    return _fresnel_s_of(x)


@elementwise(partials=lambda x: cos(0.5 * math.pi * x * x), result=FLOATING)  # 7.2.7
def _fresnel_c(x):
    """The integral of cos(pi t² / 2) from 0 to `x`, elementwise."""
    return _fresnel_c_of(x)


# --- the error function's kin -----------------------------------------------------------------------------------------


@elementwise(partials=lambda x: _TWO_OVER_ROOT_PI * exp(x * x), scipy="erfi", result=FLOATING)
def _erfi(x):
    """The imaginary error function, -i erf(i x), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.erfi(tg.tensor([0.5, 1.0]))
    tensor([0.6150, 1.6504])
    """
    return _scipy_erfi(x)


# (2k + 1)!!, k from 0: 7.12.1, differentiated
_DAWSON_SLOPE = tuple(float(math.prod(range(1, 2 * k + 2, 2))) for k in range(16))


@elementwise(partials=lambda x: _dawson_slope(x), scipy="dawsn", result=FLOATING)
def _dawsn(x):
    """Dawson's integral, exp(-x²) times the integral of exp(t²) from 0 to `x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.dawsn(tg.tensor([0.5, 1.0]))
    tensor([0.4244, 0.5381])
    """
    return _scipy_dawsn(x)


@elementwise(partials=lambda x, y: -2.0 * _dawsn(x) - 2.0 * x * y, result=FLOATING)
def _dawson_slope(x):
    """1 - 2 x dawsn(x), by its asymptotic series where these cancel."""
    if abs(x) < 9.0:
        return 1.0 - 2.0 * x * _scipy_dawsn(x)
    w, total = 0.5 / x / x, 0.0 * x
    for k in range(15, -1, -1):
        total = total * w + _DAWSON_SLOPE[k]
    return -w * total


@elementwise(partials=lambda y: -exp(y * y) / _TWO_OVER_ROOT_PI, scipy="erfcinv", result=FLOATING)
def _erfcinv(x):
    """The inverse of `erfc`, elementwise; inf at 0, -inf at 2, nan beyond.

    >>> import tapegrad as tg
    >>> tg.special.erfcinv(tg.tensor([0.5, 1.5]))
    tensor([ 0.4769, -0.4769])
    """
    return _scipy_erfcinv(x)


@elementwise(
    partials=(
        lambda a, b: -0.5 / math.sqrt(2.0 * math.pi) * exp(-0.5 * a * a) * erf(math.sqrt(0.5) * a * b),
        lambda a, b: 0.5 / math.pi * exp(-0.5 * a * a * (1.0 + b * b)) / (1.0 + b * b),
    ),
    scipy="owens_t",
    result=FLOATING,
)
def _owens_t(a, b):
    """Owen's T function of h and a, elementwise: Owen (1956), whose integral is differentiated.

    >>> import tapegrad as tg
    >>> tg.special.owens_t(1.0, tg.tensor([0.5, 1.0]))
    tensor([0.0431, 0.0667])
    """
    return _scipy_owens_t(a, b)


# --- others -----------------------------------------------------------------------------------------------------------


@elementwise(partials=lambda y: where(y == math.inf, 1.0, y / (1.0 + y)), scipy="wrightomega", result=FLOATING)
def _wrightomega(x):
    """Wright's omega function, the w with w + log(w) = `x`, elementwise: Corless and Jeffrey (2002).

    >>> import tapegrad as tg
    >>> tg.special.wrightomega(tg.tensor([0.0, 1.0]))
    tensor([0.5671, 1.0000])
    """
    return _scipy_wrightomega(x)


@elementwise(
    partials=lambda x: where(x < 0.5, log(x) / (1.0 - x), -_log1p_ratio(0.0, x - 1.0)), scipy="spence", result=FLOATING
)  # 25.12.2
def _spence(x):
    """Spence's function, the integral of log(t) / (1 - t) from 1 to `x`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.spence(tg.tensor([0.5, 2.0]))
    tensor([ 0.5822, -0.8225])
    """
    return _scipy_spence(x)


@elementwise(partials=(None, lambda a, b: _log1p_ratio(a + 1.0, b)), result=FLOATING)
def _log1p_ratio(a, b):
    """The derivative of log(1 + b) / b of the integer order a >= 0: by its series, or by parts from that on (4.6.1)."""
    n, factorial = int(a), 1.0
    for k in range(2, n + 1):
        factorial *= k
    if abs(b) < 0.3:
        term, total = factorial if 0.5 * n == np.floor(0.5 * n) else -factorial, 0.0 * b
        for m in range(80):
            total += term / (m + n + 1)
            term *= -b * (m + n + 1) / (m + 1)
        return total
    total, power = vectormath.log1p(b) / b, -1.0
    for k in range(1, n + 1):  # b g^(k) + k g^(k - 1) is the derivative of order k - 1 of 1 / (1 + b)
        power *= -max(k - 1.0, 1.0) / (1.0 + b)
        total = (power - k * total) / b
    return total
