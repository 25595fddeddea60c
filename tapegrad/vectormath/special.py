"""The error function, the gamma function and its derivatives, sinc."""

from __future__ import annotations

import functools
from typing import Any

from tapegrad.lanes import (
    copysign,
    fast_two_sum,
    floor,
    is_single,
    mad,
    minus_product,
    narrow,
    number,
    operation,
    polynomial,
    two_product,
    two_sum,
    where,
    widen,
)
from tapegrad.vectormath.exponential import EXP, log_of, raised, reduced, scaled
from tapegrad.vectormath.widths import INF, LN2, NAN, width

_STIRLING_CONSTANT = 0.4189385332046727  # log(2 pi)/2 - 1/2
_DIGAMMA_ZERO = (0.46163214496836236, -1.5522348162858677e-17)  # less 1
# Minimax polynomials, found by Remez's exchange in 240 bits (mpmath). For float64, for float32.
# erf(x) / x in x² on |x| <= 1
_ERF = (
    (1.1283791670955126, -0.3761263890318375, 0.11283791670954857, -0.026866170645072896, 0.005223977624780878,
     -0.0008548326978742553, 0.0001205533103690453, -1.4925593506852846e-05, 1.6460972814232996e-06,
     -1.6350025172289173e-07, 1.4657879378534978e-08, -1.1365663739016963e-09, 5.945257342561155e-11),
    (1.1283791, -0.37612626, 0.112836, -0.026854442, 0.005189531, -0.0008020803, 7.888991e-05),
)  # fmt: skip
# (1 + 2x) exp(x²) erfc(x) in (x - 3.75) / (x + 3.75) on 0.44 <= x <= 28 (10.5 for float32)
_ERFC = (
    (1.2375126308378275, -0.14024059858554694, 0.0035854154854663496, 0.08227673849014001, -0.10880393014188586,
     0.0923043211606314, -0.05869339858587267, 0.02836227741372439, -0.009746579610592457, 0.0017556259094346257,
     0.0002937140911971166, -0.0002901544378981984, 5.16469577612179e-05, 2.238563458443413e-05,
     -1.1437232230430928e-05, -9.769904624295906e-07, 1.7372479596955698e-06, -5.198291034846696e-08,
     -2.398812061881678e-07, 1.858618509403634e-08, 2.4421767716273844e-08, -1.6333749535338796e-09),
    (1.2375126, -0.14024056, 0.0035855311, 0.082275204, -0.10880778, 0.09232529, -0.05864367, 0.028264841,
     -0.010018508, 0.0018346624, 0.00082631805),
)  # fmt: skip
_ERFC_FIRST_LOW = (1.0546160249725448e-16, 4.2336851019388186e-08)  # the first coefficient goes on
# The following are for float64 alone, in which float32 is computed too.
# lgamma(1 + u) / (u (u - 1)) on 0 <= u <= 1
_LGAMMA = (
    0.5772156649015329, -0.24525136852257975, 0.1554342658638484, -0.11514654255701628, 0.0922390082244956,
    -0.07731816332550503, 0.06673165255284708, -0.0587771591863562, 0.052550339314214836, -0.047508184831961904,
    0.043251633091321434, -0.03936659732485069, 0.03530907418711952, -0.03044728555972098, 0.02438384704353362,
    -0.017412394202399196, 0.010615762697107711, -0.005276743833167001, 0.0020271897528113406,
    -0.000559699477917915, 9.823497328311833e-05, -8.198682173429658e-06,
)  # fmt: skip
# x (lgamma(x) - (x - 1/2) (log(x) - 1) - log(2 pi)/2 + 1/2) in x^-2 on x >= 8
_STIRLING = (
    0.08333333333333333, -0.0027777777777776786, 0.0007936507935156737, -0.0005952380249399889,
    0.0008417328024831043, -0.0019149917443041136, 0.006209337395897091, -0.020877748440830197,
)  # fmt: skip
# (sin(pi r)/pi - r) / r³ in r² on |r| <= 1/2
_SIN_PI = (
    -1.6449340668482264, 0.8117424252833536, -0.19075182412208275, 0.026147847817615248, -0.002346081034849379,
    0.00014842878741438685, -6.975841604994019e-06, 2.5301141342100153e-07, -7.09444206813835e-09,
)  # fmt: skip
# digamma(1 + u) / (u - u0) on 0 <= u <= 1, where 1 + u0 is its zero
_DIGAMMA = (
    1.2503801375034054, -0.8546933606017846, 0.7524682722893702, -0.7145407116902087, 0.6983635049993016,
    -0.6909820816406976, 0.6874887834493894, -0.6857956333777301, 0.6849256749827518, -0.6842455307678722,
    0.6827359414072952, -0.6777049882661537, 0.6628724721034781, -0.6273631639325478, 0.5589265297721155,
    -0.4529440414616525, 0.32161381808944234, -0.19247773357036038, 0.09312935952902025, -0.03465324065105385,
    0.009243160371769199, -0.0015657556719701861, 0.00012612573879778094,
)  # fmt: skip
# x² (log(x) - 1/(2x) - digamma(x)) in x^-2 on x >= 8
_DIGAMMA_STIRLING = (
    0.08333333333333333, -0.008333333333331734, 0.00396825396607013, -0.0041666655284743415, 0.0075754648374107714,
    -0.021051521513606643, 0.08004477750921683, -0.2998161796945236,
)  # fmt: skip
# x³ (trigamma(x) - 1/x - 1/(2x²)) in x^-2 on x >= 8
_TRIGAMMA_STIRLING = (
    0.16666666666666666, -0.033333333333305994, 0.023809523772189527, -0.033333313848045845, 0.07575255355700015,
    -0.25240314104159656, 1.1097535912212722, -4.582494285818072,
)  # fmt: skip
# x⁴ (-tetragamma(x) - 1/x² - 1/x³) in x^-2 on x >= 8
_TETRAGAMMA_STIRLING = (
    0.49999999999999994, -0.16666666666617572, 0.16666666599510135, -0.29999964882031255, 0.8332425932999153,
    -3.277594607547066, 16.46195360307835, -74.26378079575288,
)  # fmt: skip
# (1 - pi r cot(pi r)) / r² in r² on |r| <= 1/2
_COT_PI = (
    3.289868133696453, 2.1646464674222194, 2.0346861239856175, 2.008154710462026, 2.001989267242263,
    2.00048791971677, 2.0002231459618454, 1.998403847682521, 2.018482619503448, 1.8505259548481885,
    2.8617985003128936, -1.4880725432488366, 11.547082564881165, -14.300351673493108, 16.177063187892305,
)  # fmt: skip


# --- error function ---------------------------------------------------------------------------------------------------


def _erf_near_zero(x: Any) -> Any:
    """erf(x) for |x| <= 1; the first coefficient less 1 rounds less."""
    first, *others = _ERF[is_single(x)]
    z = x * x
    return mad(x, polynomial(z, (first - 1.0, *others)), x)


def _erfc_tail(x: Any) -> Any:
    """erfc(x) = exp(-x²) g / (1 + 2x) for x >= 0.44, with g from a polynomial (Shepherd and Laframboise 1981)."""
    w, single = width(x), is_single(x)
    limit = 10.5 if single else 28.0
    x = where(x > limit, limit, x)
    first, *others = _ERFC[single]
    t = (x - 3.75) / (x + 3.75)
    g, g_low = fast_two_sum(number(first, t), mad(t, polynomial(t, others), _ERFC_FIRST_LOW[single]))
    d, d_low = two_sum(x + x, number(1.0, t))
    inverse = 1.0 / d
    ratio = g * inverse
    ratio_low = inverse * (mad(-ratio, d_low, g_low) + minus_product(g, ratio, d))
    square, square_low = two_product(x, x)
    n, r = reduced(-square)
    r = r - square_low
    q = mad(r * r, polynomial(r, EXP[single]), r)
    return scaled(ratio + mad(ratio, q, ratio_low), n, w)


@operation
def erf(x: Any) -> Any:
    """A polynomial, or 1 - erfc(|x|) beyond 1."""
    a = abs(x)
    return where(a > 1.0, copysign(1.0 - _erfc_tail(a), x), _erf_near_zero(x))


@operation
def erfc(x: Any) -> Any:
    """1 - erf(x) around 0, and else erfc(|x|), or 2 less that."""
    a = abs(x)
    tail = _erfc_tail(a)
    return where(a < 0.45, 1.0 - _erf_near_zero(x), where(x < 0.0, 2.0 - tail, tail))


# --- gamma function ---------------------------------------------------------------------------------------------------


def _log_positive(x: Any) -> Any:
    """log(x) for 0 < x, subnormal or not, without the special cases."""
    small, (lifted, lift) = x < width(x).least, raised(x)
    return log_of(where(small, lifted, x)) - where(small, number(lift * LN2, x), 0.0)


def _in_float64(function: Any) -> Any:
    """A function of float64 for float32 too."""

    @functools.wraps(function)
    def of_either(x: Any) -> Any:
        return narrow(function(widen(x))) if is_single(x) else function(x)

    return of_either


def _steps_down(x: Any) -> tuple[Any, Any, Any]:
    """u = x - floor(x), the product of all of x - 1, x - 2 ... that are 1 or more, and its derivative; for x < 8."""
    p, dp = number(1.0, x), number(0.0, x)
    for j in range(1, 7):
        v = x - float(j)
        more = v >= 1.0
        dp = where(more, mad(dp, v, p), dp)
        p = where(more, p * v, p)
    return x - floor(x), p, dp


def _sine_of_pi(r: Any) -> Any:
    """sin(pi r) / pi for |r| <= 1/2."""
    z = r * r
    return mad(r * z, polynomial(z, _SIN_PI), r)


@operation
@_in_float64
def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x), of what is left of x beside the nearest integer."""
    n = floor(x + 0.5)
    half, r = n * 0.5, x - n
    z = r * r
    sine, low = fast_two_sum(r, r * z * polynomial(z, _SIN_PI))
    divisor = where(x == 0.0, 1.0, x)
    y = sine / divisor
    y = y + (minus_product(sine, y, divisor) + low) / divisor
    return where(x == 0.0, 1.0, where(floor(half) != half, -y, y))


def _cotangent_of_pi(r: Any) -> Any:
    """pi cot(pi r) for |r| <= 1/2."""
    z = r * r
    return (1.0 - z * polynomial(z, _COT_PI)) / r


@operation
@_in_float64
def lgamma(x: Any) -> Any:
    """log |gamma(x)|: Stirling's series for |x| >= 8, else steps down to a polynomial; reflected for x = -a."""
    a, negative = abs(x), x < 0.0
    great = a >= 8.0
    u, product, _ = _steps_down(a)
    below_one = a < 1.0
    log_of = _log_positive(where(great, a, where(below_one, a, product)))
    lowest = u * (u - 1.0) * polynomial(u, _LGAMMA)
    inverse = 1.0 / a
    far = mad(a - 0.5, log_of - 1.0, mad(inverse, polynomial(inverse * inverse, _STIRLING), _STIRLING_CONSTANT))
    y = where(great, far, lowest + where(below_one, -log_of, log_of))
    r = a - floor(a + 0.5)
    factor, factor_low = two_product(a, where(great, 1.0, product))
    factor, factor_low = where(below_one, 1.0, factor), where(below_one, 0.0, factor_low)
    size = abs(r)
    z = r * r
    sine, sine_low = fast_two_sum(size, size * z * polynomial(z, _SIN_PI))
    argument, low = two_product(factor, sine)
    low = low + mad(factor, sine_low, factor_low * sine)
    reflected = -(where(great, far, lowest) + (_log_positive(argument) + low / argument))
    y = where(negative, reflected, y)
    pole = (x <= 0.0) & (r == 0.0)
    return where(pole | (a == INF), INF, y)


@operation
@_in_float64
def digamma(x: Any) -> Any:
    """The derivative of lgamma, likewise; pi cot(pi a) + 1/a more for x = -a."""
    a, negative = abs(x), x < 0.0
    great = a >= 8.0
    u, product, derivative = _steps_down(a)
    near = ((u - _DIGAMMA_ZERO[0]) - _DIGAMMA_ZERO[1]) * polynomial(u, _DIGAMMA)
    below_one = a < 1.0
    ratio = where(below_one, -1.0, derivative) / where(below_one, a, product)
    inverse = 1.0 / a
    w = inverse * inverse
    far = mad(-w, polynomial(w, _DIGAMMA_STIRLING), mad(inverse, -0.5, log_of(a)))
    r = a - floor(a + 0.5)
    below = where(below_one, near, (near + ratio) + inverse)
    y = where(great, where(negative, far + inverse, far), where(negative, below, near + ratio))
    y = where(negative, y + _cotangent_of_pi(r), y)
    y = where(x == 0.0, copysign(INF, -x), where(negative & (r == 0.0), NAN, y))
    return where(x == INF, x, y)


def _steps_up(x: Any, power: int) -> tuple[Any, Any]:
    """x + n >= 8, and the sum of (x + k)^-power for k < n; for x >= 0."""
    total = number(0.0, x)
    for _ in range(8):
        inverse = 1.0 / x
        term = inverse * inverse
        more = x < 8.0
        total = where(more, total + (term if power == 2 else term * inverse), total)
        x = where(more, x + 1.0, x)
    return x, total


@operation
@_in_float64
def trigamma(x: Any) -> Any:
    """The derivative of digamma: steps up to its asymptotic series; (pi / sin(pi a))² for x = -a."""
    a = abs(x)
    top, total = _steps_up(a, 2)
    inverse = 1.0 / top
    w = inverse * inverse
    y = total + mad(w, mad(inverse, polynomial(w, _TRIGAMMA_STIRLING), 0.5), inverse)
    cosecant = 1.0 / _sine_of_pi(a - floor(a + 0.5))
    first = 1.0 / a
    y = where(x < 0.0, cosecant * cosecant - (y - first * first), y)
    y = where(a < 1e-100, first * first, y)  # all of it, where parts may be infinite
    return where(a == INF, where(x > 0.0, number(0.0, x), NAN), y)


@operation
@_in_float64
def tetragamma(x: Any) -> Any:
    """The derivative of trigamma, likewise."""
    a = abs(x)
    top, total = _steps_up(a, 3)
    inverse = 1.0 / top
    w = inverse * inverse
    y = -(mad(w * w, polynomial(w, _TETRAGAMMA_STIRLING), mad(w, inverse, w)) + 2.0 * total)
    r = a - floor(a + 0.5)
    cosecant = 1.0 / _sine_of_pi(r)
    first = 1.0 / a
    reflected = y + 2.0 * (first * first * first + _cotangent_of_pi(r) * cosecant * cosecant)
    y = where(x < 0.0, reflected, y)
    y = where(a < 1e-100, -2.0 * (first * first) / x, y)
    return where(a == INF, where(x > 0.0, number(-0.0, x), NAN), y)


_ROOT_HALF = (0.7071067811865476, -4.833646656726457e-17)


@operation
@_in_float64
def ndtr(x: Any) -> Any:
    """erfc(-x / sqrt(2)) / 2, where the argument's rounding error, times the derivative, is taken off."""
    t, error = two_product(x, -_ROOT_HALF[0])
    error = where(abs(x) < 40.0, mad(x, -_ROOT_HALF[1], error), 0.0)
    a = abs(t)
    tail = _erfc_tail(a)
    y = where(a < 0.45, 1.0 - _erf_near_zero(t), where(t < 0.0, 2.0 - tail, tail))
    n, r = reduced(where(a < 27.0, -(t * t), number(-729.0, t)))
    slope = scaled(mad(r * r, polynomial(r, EXP[0]), r) + 1.0, n, width(x))
    return 0.5 * mad(slope * error, -1.1283791670955126, y)
