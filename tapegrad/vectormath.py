"""Elementary functions of whole registers: float64 and float32, within 2 units in the last place.

Each function reduces its argument to a small interval, where a minimax polynomial is evaluated, and undoes the
reduction. What would be a branch is computed both ways and selected; a few rare arguments that would cost all others
much have a branch (`lanes.rarely`) in functions that are called (`lanes.apart`). A function takes numbers of either
width and computes in that width; which is known where the code is written (see `lanes`), so a kernel holds the
instructions for its own dtype alone. Where the last digit would be lost, a number is carried as a sum of two (Dekker
1971).

Names are those of C. `vectormath.exp(x)` in a declaration is compiled into the kernel; called from Python, it computes
over NumPy scalars or arrays. Zeros keep their signs, nan stays nan, subnormal numbers are arguments and results like
others, and special cases are those of C99's Annex F.

The greatest error found, in units in the last place, over the whole range (`tests/test_vectormath.py` draws its points
the same way, in smaller numbers; without fused multiply-add up to 0.3 more):

    function   float64  float32     function   float64  float32     function   float64  float32
    exp           1.09     1.03     sqrt          0.50     0.50     sinh          1.21     1.20
    exp2          1.10     1.02     rsqrt         1.50     1.47     cosh          1.59     1.79
    expm1         1.26     1.24     cbrt          0.74     0.74     tanh          1.50     1.50
    log           0.83     0.99     sin           0.85     1.46     asinh         1.62     1.73
    log2          1.16     1.23     cos           0.87     1.50     acosh         1.81     1.94
    log10         1.24     1.17     tan           1.55     1.56     atanh         1.55     1.67
    log1p         1.41     1.56     asin          1.21     1.18     erf           0.92     1.49
    pow           1.27     1.64     acos          1.20     1.17     erfc          1.45     1.53
    sigmoid       1.54     1.61     atan          1.51     1.50     lgamma        3.72     0.50
    softplus      1.62     1.80     atan2         1.68     1.60     digamma       3.54     0.50

For negative arguments lgamma, digamma, trigamma and tetragamma have infinitely many zeros, where large terms cancel: at
x = -a their error in float64 is at most 4 epsilon times the greatest of |f(x)|, |f(a)| and 1 (tetragamma: 20).

sin, cos and tan reduce by pi/2 in three parts, which is enough up to 2^30 (float32: 2^17). The few numbers beyond are
rare, and done with Payne and Hanek's reduction.
"""

from __future__ import annotations

import decimal
import functools
import math
from types import ModuleType
from typing import Any, NamedTuple

from tapegrad.lanes import (
    Machine,
    apart,
    bits,
    copysign,
    fast_two_sum,
    floor,
    from_bits,
    in_numba,
    is_floating,
    is_single,
    lookup,
    mad,
    minus_product,
    narrow,
    number,
    operation,
    outside,
    polynomial,
    rarely,
    square_root,
    two_product,
    two_sum,
    where,
    whole,
    widen,
)

_INF, _NAN = float("inf"), float("nan")


class Width(NamedTuple):
    """What differs between float64 and float32, besides polynomials."""

    bits: int
    shift: int  # bits of the fraction
    bias: int  # of the exponent
    magic: float  # added to a small number, it leaves the nearest integer in the lowest bits
    magic_bits: int
    sqrt_half: int  # the bits of sqrt(1/2)
    least: float  # the least normal number
    lift: int  # times two to this, subnormals are normal
    overflow: float  # exp of it is inf
    underflow: float  # exp of it is 0
    saturation: float  # beyond it, 1 - exp(-x) is 1
    ln2: tuple[float, float]  # in two parts, the first times an exponent is exact
    log10_2: tuple[float, float]


_F64 = Width(
    64, 52, 1023, 1.5 * 2.0**52, 0x4338000000000000, 0x3FE6A09E667F3BCD, 2.0**-1022, 54, 710.0, -746.0, 40.0,
    (0.693147180559663, 2.8235290563031577e-13), (0.30102999566383914, 1.42050232272661e-13),
)  # fmt: skip
_F32 = Width(
    32, 23, 127, 1.5 * 2.0**23, 0x4B400000, 0x3F3504F3, 2.0**-126, 25, 89.0, -104.5, 20.0,
    (0.693145751953125, 1.428606765330187e-06), (0.301025390625, 4.605039066518657e-06),
)  # fmt: skip
_STIRLING_CONSTANT = 0.4189385332046727  # log(2 pi)/2 - 1/2
_DIGAMMA_ZERO = (0.46163214496836236, -1.5522348162858677e-17)  # less 1
_LN2 = 0.6931471805599453
_30_LN2 = 20.79441541679836
_LOG2E, _LOG10E = 1.4426950408889634, 0.4342944819032518

# Minimax polynomials, found by Remez's exchange in 240 bits (mpmath). For float64, for float32.
# (exp(r) - 1 - r) / r² on |r| <= log(2)/2
_EXP = (
    (0.5000000000000001, 0.16666666666666674, 0.04166666666662412, 0.008333333333322207, 0.0013888888917217457,
     0.00019841269886591, 2.4801521290973345e-05, 2.7557242336680357e-06, 2.7620090518499427e-07,
     2.5110049895858716e-08),
    (0.5, 0.16666576, 0.041666374, 0.008363184, 0.0013941121),
)  # fmt: skip
# (2^r - 1) / r on |r| <= 1/2
_EXP2 = (
    (0.6931471805599453, 0.24022650695910097, 0.05550410866482166, 0.009618129107606854, 0.0013333558146395785,
     0.00015403530441795933, 1.5252733853407262e-05, 1.3215442550644925e-06, 1.0178051702220334e-07,
     7.072593488906041e-09, 4.4566764618976285e-10),
    (0.6931472, 0.2402265, 0.05550357, 0.00961803, 0.0013390891, 0.00015469891),
)  # fmt: skip
# For float64 (log((1+s)/(1-s)) - 2s) / s³ in s² <= (3 - sqrt(8))²; for float32 (log(1+f) - f) / f² on
# sqrt(1/2) <= 1 + f <= sqrt(2)
_LOG = (
    (0.666666666666667, 0.3999999999989829, 0.2857142862647463, 0.22222211059843547, 0.1818289420486734,
     0.15331563186642724, 0.1461829947635883),
    (-0.49999988, 0.33333325, -0.250016, 0.2000196, -0.16608717, 0.14182328, -0.13246422, 0.12900995, -0.076084934),
)  # fmt: skip
# log2(1+r) / r - 1 and log10(1+r) / r - 1/2 on |r| <= 1/32, for float32
_LOG2_NEAR_ONE = (0.44269505, -0.7213475, 0.48081678, -0.36087364, 0.37059787)
_LOG10_NEAR_ONE = (-0.065705515, -0.21714725, 0.14474475, -0.10859954, 0.1061036)
# (2r - r² - 2 log(1+r)) / r³ on |r| <= 1/32
_LOG_NEAR_ONE = (
    (-0.6666666666666666, 0.49999999999999467, -0.39999999999997754, 0.3333333334062398, -0.2857142858713445,
     0.24999973130658848, -0.22222182713155075, 0.20036668831911691, -0.18223196354402627),
    (-0.6666666, 0.5, -0.40030015, 0.3335179),
)  # fmt: skip
# (sinh(r) - r) / r³ and (cosh(r) - 1) / r² in r² on |r| <= log(2)/2
_SINH = (
    (0.16666666666666666, 0.008333333333333333, 0.00019841269841263285, 2.7557319247256763e-06, 2.5052071053795302e-08,
     1.6086642878619398e-10),
    (0.16666667, 0.0083333105, 0.00019891022),
)  # fmt: skip
_COSH = (
    (0.5, 0.04166666666666668, 0.0013888888888879051, 2.4801587336499618e-05, 2.7557263218022303e-07,
     2.091816022701275e-09),
    (0.5, 0.041666463, 0.0013933679),
)  # fmt: skip
# (sin(r) - r) / r³ and (cos(r) - 1 + r²/2) / r⁴ in r² on |r| <= pi/4 (a little more for float32)
_SIN = (
    (-0.16666666666666632, 0.008333333333322418, -0.00019841269829812047, 2.75573136934064e-06,
     -2.5050758349231674e-08, 1.5896809284384955e-10),
    (-0.16666654, 0.008332109, -0.00019507727),
)  # fmt: skip
_COS = (
    (0.0416666666666666, -0.0013888888888874127, 2.4801587289483407e-05, -2.7557314352677883e-07,
     2.087572332343707e-09, -1.1359650709308679e-11),
    (0.041666646, -0.0013887276, 2.44277e-05),
)  # fmt: skip
# (tan(r) - r) / r³ in r² on |r| <= pi/4 (a little more for float32)
_TAN = (
    (0.3333333333333279, 0.13333333333413597, 0.05396825392708493, 0.021869489600141893, 0.008863219277822845,
     0.003592288129920118, 0.001454763371634968, 0.0005950432174525237, 0.00022244042077811734,
     0.00013640537562603958, -2.6222122945048748e-05, 8.930561451699008e-05, -4.479918343216846e-05,
     2.0845024787548517e-05),
    (0.33333355, 0.13332435, 0.05408529, 0.021152627, 0.011168688, -0.00032941232, 0.004581688),
)  # fmt: skip
# (asin(r) - r) / r³ in r² on |r| <= 1/2
_ASIN = (
    (0.16666666666665383, 0.07500000000343048, 0.04464285682351539, 0.03038195932918686, 0.02237175358033324,
     0.017359770217387795, 0.01388460704701405, 0.01217322635729671, 0.006511063120236523, 0.01957339088498771,
     -0.016293360779988827, 0.031958542525331285),
    (0.16666754, 0.07495241, 0.04547725, 0.024146855, 0.04221981),
)  # fmt: skip
# (atan(r) - r) / r³ in r² on |r| <= 1
_ATAN = (
    (-0.33333333333331994, 0.19999999999774956, -0.14285714272361752, 0.11111110705713523, -0.09090901660497294,
     0.07692217344092424, -0.06665892350383071, 0.05877476000202267, -0.052398921069199245, 0.046759068984637026,
     -0.04097089266166022, 0.03414564048492515, -0.025931218148299014, 0.01708455239195473, -0.00926566010562524,
     0.0039005946831623486, -0.0011808233472121506, 0.0002268614969785417, -2.0663644304209193e-05),
    (-0.33333167, 0.19994137, -0.14214204, 0.10678908, -0.07580487, 0.043552253, -0.016580299, 0.0029743505),
)  # fmt: skip
# ((1 - h)^(-1/3) - 1) / h on |h| <= 0.1026
_RCBRT = (
    (0.33333334606082304, 0.22222224818230796, 0.1728297114255018, 0.1440197063847002, 0.1266933650619783,
     0.11295169650258516),
    (0.33332977, 0.2234873, 0.17441557),
)  # fmt: skip
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


def _width(x: Any) -> Width:
    return _F32 if is_single(x) else _F64


def _inverse(x: Any, low: Any) -> Any:
    """1 / (x + low), by one of Newton's steps."""
    y = 1.0 / x
    return mad(y, mad(-y, low, minus_product(1.0, y, x)), y)


# --- exponentials -----------------------------------------------------------------------------------------------------


def _clamped(x: Any, low: float, high: float) -> Any:
    """`x` limited to an interval; nan stays."""
    x = where(x > high, high, x)
    return where(x < low, low, x)


def _reduced(x: Any) -> tuple[Any, Any]:
    """n and r with x = n log(2) + r, |r| <= log(2)/2; n in the lowest bits of an integer."""
    w = _width(x)
    shifted = mad(x, _LOG2E, w.magic)
    n = shifted - w.magic
    return bits(shifted), mad(n, -w.ln2[1], mad(n, -w.ln2[0], x))


def _power(n: Any, w: Width, less: int = 0) -> Any:
    """2^(n - less) for n in the lowest bits, within the normal numbers."""
    return from_bits((n + (w.bias - less)) << w.shift)


def _scaled(y: Any, n: Any, w: Width) -> Any:
    """2^n y in two steps, neither of which overflows or underflows unless the result does."""
    half = n >> 1
    return y * _power(half, w) * _power(n - half, w)


@operation
def exp(x: Any) -> Any:
    """e^x = 2^n e^r."""
    w = _width(x)
    n, r = _reduced(_clamped(x, w.underflow, w.overflow))
    return _scaled(mad(r * r, polynomial(r, _EXP[is_single(x)]), r) + 1.0, n, w)


@operation
def exp2(x: Any) -> Any:
    """2^x = 2^n 2^r."""
    w = _width(x)
    x = _clamped(x, w.underflow * _LOG2E, w.overflow * _LOG2E)
    shifted = x + w.magic
    r = x - (shifted - w.magic)
    return _scaled(mad(r, polynomial(r, _EXP2[is_single(x)]), 1.0), bits(shifted), w)


def _expm1(x: Any, less: int = 0) -> tuple[Any, Any]:
    """(e^x - 1) / 2^less as a sum of two, the first much larger, where nothing overflows.

    With s = 2^n and r = t - n log(2)_low it is (s - 1 + s t) + s (r² P - n log(2)_low): t is exact, and rounds once.
    """
    w = _width(x)
    shifted = mad(x, _LOG2E, w.magic)
    n = shifted - w.magic
    s = _power(bits(shifted), w, less)
    t = mad(n, -w.ln2[0], x)
    low = n * -w.ln2[1]
    r = t + low
    return mad(s, t, s - 0.5**less), s * mad(r * r, polynomial(r, _EXP[is_single(x)]), low)


@operation
def expm1(x: Any) -> Any:
    """e^x - 1."""
    w = _width(x)
    high, low = _expm1(_clamped(x, -w.saturation, w.overflow), less=1)
    return where(abs(x) < 0.5**w.lift, x, (high + low) * 2.0)


@operation
def tanh(x: Any) -> Any:
    """t / (t + 2) with t = e^2|x| - 1; where that is small as t/2 - t/2 t/(t + 2), of which t/2 is nearly exact."""
    limit = _width(x).saturation
    a = abs(x) * 2.0
    high, low = _expm1(where(a > limit, limit, a))
    t = high + low
    y = t / (t + 2.0)
    return copysign(where(t < 1.0, 0.5 * (high + mad(-t, y, low)), y), x)


@operation
def sigmoid(x: Any) -> Any:
    """With e = e^-|x| and y = e / (1 + e): 1 - y, or for negative `x` e - e y."""
    e = exp(-abs(x))
    most = where(x < 0.0, e, 1.0)
    return mad(-most, e / (e + 1.0), most)


@operation
def softplus(x: Any) -> Any:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return where(x < 0.0, 0.0, x) + _log1p(exp(-abs(x)))


def _hyperbolic(a: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """p, q, t, l, S, C with 2 sinh(a) = p sinh(r) + q cosh(r), 2 cosh(a) = p cosh(r) + q sinh(r), halved twice.

    a = n log(2) + r >= 0, r = t + l, sinh(r) = t + S, cosh(r) = 1 + C; p = 2^n + 2^-n, q = 2^n - 2^-n.
    """
    w = _width(a)
    a = where(a > w.overflow + 0.6, w.overflow + 0.6, a)
    shifted = mad(a, _LOG2E, w.magic)
    n = shifted - w.magic
    grown = _power(bits(shifted), w, less=2)
    shrunk = where(a > w.saturation, 0.0, from_bits((w.bias - 2 + w.magic_bits - bits(shifted)) << w.shift))
    t = mad(n, -w.ln2[0], a)
    low = n * -w.ln2[1]
    r = t + low
    z = r * r
    single = is_single(a)
    s = mad(z * r, polynomial(z, _SINH[single]), low)
    return grown + shrunk, grown - shrunk, t, s, z * polynomial(z, _COSH[single]), w


@operation
def sinh(x: Any) -> Any:
    """q + p t first, which is most of it; for small `x` q is 0 and t is exact."""
    a = abs(x)
    p, q, t, s, c, w = _hyperbolic(a)
    y = 2.0 * (mad(p, t, q) + mad(p, s, q * c))
    return where(a < 0.5 ** (w.shift // 2 + 1), x, copysign(y, x))


@operation
def cosh(x: Any) -> Any:
    """p first, which is most of it."""
    p, q, t, s, c, _ = _hyperbolic(abs(x))
    return 2.0 * (p + mad(p, c, q * (t + s)))


# --- logarithms -------------------------------------------------------------------------------------------------------


def _parts(x: Any) -> tuple[Any, Any]:
    """e and f where x = 2^e (1 + f) and sqrt(1/2) <= 1 + f < sqrt(2), for normal x > 0."""
    w = _width(x)
    i = bits(x) - w.sqrt_half
    m = from_bits(bits(x) - (i & (-1 << w.shift)))
    return whole(i >> w.shift), m - 1.0


class _Logarithms(NamedTuple):
    """For 16 intervals of m, an inverse such that m times it is 1 + r, |r| <= 1/32, and the inverse's logarithm."""

    inverse: tuple[float, ...]
    high: tuple[
        float, ...
    ]  # minus the logarithm, in two parts; the first plus an exponent times that of `two` is exact
    low: tuple[float, ...]
    two: tuple[float, float]  # the logarithm of 2


_FIRST_INTERVAL = (0x3FE6800000000000, 0x3F340000)  # the bits of 45/64; from there each has a sixteenth of an exponent


@functools.cache
def _logarithms(single: bool, base: int | None = None) -> _Logarithms:
    middles = [23 / 32 + j / 32 for j in range(9)] + [1.0] + [17 / 16 + j / 16 for j in range(6)]
    inverses = [round(256 / m) / 256 for m in middles]
    unit = 2.0 ** (-16 if single else -42)

    def parts(argument: float) -> tuple[float, float]:
        log = decimal.Decimal(argument).ln() / (decimal.Decimal(base).ln() if base else 1)
        high = round(log / decimal.Decimal(unit)) * unit
        return high, float(log - decimal.Decimal(high))

    high, low = zip(*(parts(v) for v in inverses), strict=True)
    return _Logarithms(tuple(inverses), tuple(-v for v in high), tuple(-v for v in low), parts(2.0))


def _interval_and_rest(x: Any) -> tuple[Any, Any, Any]:
    """e, j and m where x = 2^e m with m in interval j, for normal x > 0."""
    shift = _width(x).shift
    i = bits(x) - _FIRST_INTERVAL[is_single(x)]
    return whole(i >> shift), (i >> (shift - 4)) & 15, from_bits(bits(x) - (i & (-1 << shift)))


def _log_by_table(x: Any, lifted: float, base: int, first: float, others: tuple[float, ...]) -> Any:
    """log(x) to a base, less `lifted` log(2), for float32: the table's, and r (first + others(r)) (after Tang 1990)."""
    table = _logarithms(True, base)
    e, j, m = _interval_and_rest(x)
    r = minus_product(-1.0, -lookup(table.inverse, j), m)
    e = e - lifted if lifted else e
    far = mad(e, table.two[0], lookup(table.high, j))
    far_low = mad(e, table.two[1], lookup(table.low, j)) if table.two[1] else lookup(table.low, j)
    return far + mad(r, first, mad(r, polynomial(r, others), far_low))


def _lifted(x: Any) -> tuple[Any, float]:
    """Subnormal `x` as a normal number, and how often it was doubled for that."""
    lift = float(_width(x).lift)
    return x * 2.0**lift, lift


def _is_not_normal(x: Any) -> Any:
    """Whether `x` is anything but positive, finite, and normal."""
    return outside(x, _width(x).least, _INF)


def _log_limits(x: Any, y: Any) -> Any:
    y = where(x > 0.0, y, _NAN)
    y = where(x == 0.0, -_INF, y)
    return where(x == _INF, _INF, y)


def _curvature(f: Any) -> Any:
    """log(1 + f) - f."""
    if is_single(f):
        return f * f * polynomial(f, _LOG[1])
    s = f / (f + 2.0)
    half = 0.5 * f * f
    z = s * s
    return mad(s, mad(z, polynomial(z, _LOG[0]), half), -half)


def _log_of_parts(e: Any, f: Any, f_low: Any = None) -> Any:
    """e log(2) + log(1 + f + f_low)."""
    ln2 = _width(f).ln2
    rest = _curvature(f) if f_low is None else _curvature(f) + f_low
    return mad(e, ln2[0], f + mad(e, ln2[1], rest))


def _log(x: Any, lifted: float = 0.0) -> Any:
    """e log(2) + log(1 + f), for normal x > 0; e is less by `lifted`."""
    e, f = _parts(x)
    return _log_of_parts(e - lifted if lifted else e, f)


def _log2(x: Any, lifted: float = 0.0) -> Any:
    """e + log2(1 + f); the factor log2(e) of the first term is 1 + 0.44..., so that it rounds little."""
    if is_single(x):
        return _log_by_table(x, lifted, 2, 1.0, _LOG2_NEAR_ONE)
    e, f = _parts(x)
    return (e - lifted if lifted else e) + (f + mad(f, _LOG2E - 1.0, _LOG2E * _curvature(f)))


def _log10(x: Any, lifted: float = 0.0) -> Any:
    """e log10(2) + log10(1 + f); the factor log10(e) of the first term is 1/2 - 0.065..."""
    if is_single(x):
        return _log_by_table(x, lifted, 10, 0.5, _LOG10_NEAR_ONE)
    e, f = _parts(x)
    e = e - lifted if lifted else e
    rest = mad(f, _LOG10E - 0.5, mad(e, _F64.log10_2[1], _LOG10E * _curvature(f)))
    return mad(e, _F64.log10_2[0], mad(f, 0.5, rest))


def _log_of_rest(x: Any) -> Any:
    return _log_limits(x, _log(*_lifted(x)))


def _log2_of_rest(x: Any) -> Any:
    return _log_limits(x, _log2(*_lifted(x)))


def _log10_of_rest(x: Any) -> Any:
    return _log_limits(x, _log10(*_lifted(x)))


@apart
def log(x: Any) -> Any:
    """The natural logarithm."""
    return rarely(_is_not_normal(x), _log_of_rest, _log(x), x)


@apart
def log2(x: Any) -> Any:
    """The logarithm to base 2."""
    return rarely(_is_not_normal(x), _log2_of_rest, _log2(x), x)


@apart
def log10(x: Any) -> Any:
    """The logarithm to base 10."""
    return rarely(_is_not_normal(x), _log10_of_rest, _log10(x), x)


def _log1p(x: Any, low: Any = None) -> Any:
    """log(1 + x + low) for x > -1, below 2^1022 or 2^126: 1 + f = 2^-e + 2^-e x, of which f rounds once."""
    w = _width(x)
    i = bits(x + 1.0) - w.sqrt_half
    scale = i & (-1 << w.shift)
    shrink = from_bits((w.bias << w.shift) - scale)
    f = from_bits(bits(x) - scale) + (shrink - 1.0)
    return _log_of_parts(whole(i >> w.shift), f, None if low is None else shrink * low)


def _log1p_of_rest(x: Any) -> Any:
    """Where x is -1 or less, or great; then it is log(x), or log(x / 2^30) + log(2^30) lest 2^e overflow."""
    y = _log1p(x * 2.0**-30) + _30_LN2
    y = where(x > -1.0, y, _NAN)
    y = where(x == -1.0, -_INF, y)
    return where(x == _INF, x, y)


@apart
def log1p(x: Any) -> Any:
    """log(1 + x)."""
    y = where(x == 0.0, x, _log1p(x))
    return rarely(outside(x + 1.0, 2.0**-60, 2.0**100), _log1p_of_rest, y, x)


@operation
def asinh(x: Any) -> Any:
    """log(a + sqrt(1 + a²)) with a = |x|: log1p(a + a² / (1 + sqrt(1 + a²))), or log(a) + log(2) where a is huge."""
    a = abs(x)
    huge = a > 2.0 ** (_width(x).shift + 40)
    square = a * a
    y = _log1p(where(huge, a * 2.0**-29, a + square / (square_root(square + 1.0) + 1.0)))
    y = where(huge, y + _30_LN2, y)
    return where((a > _width(x).least) & (a < _INF), copysign(y, x), x)


@operation
def acosh(x: Any) -> Any:
    """log(x + sqrt(x² - 1)) with t = x - 1: log1p(t + sqrt(2t + t²)), or log(x) + log(2) where that is huge."""
    huge = x > 2.0 ** (_width(x).shift + 40)
    t = x - 1.0
    u, low = fast_two_sum(square_root(mad(t, t, t + t)), t)
    y = _log1p(where(huge, x * 2.0**-29, u), where(huge, 0.0, low))
    y = where(huge, y + _30_LN2, y)
    return where(x < _INF, where(x < 1.0, _NAN, y), x)


@operation
def atanh(x: Any) -> Any:
    """log((1 + a) / (1 - a)) / 2 = log1p(2a / (1 - a)) / 2 with a = |x|."""
    a = abs(x)
    d = 1.0 - a
    inverse = 1.0 / d
    twice = a + a
    u = twice * inverse
    low = inverse * mad(u, a - (1.0 - d), minus_product(twice, u, d))
    y = 0.5 * _log1p(u, low)
    y = where(a < 1.0, y, where(a == 1.0, number(_INF, a), _NAN))
    return where(a < _width(x).least, x, copysign(y, x))


# --- powers -----------------------------------------------------------------------------------------------------------


def _log_pair(x: Any, lifted: Any = None) -> tuple[Any, Any]:
    """log(x), less `lifted` times log(2), as a sum with some 10 bits more, for normal x > 0 (after Tang 1990).

    With x = 2^e m, from the table log(m) = -log(inverse) + log(1 + r), the latter as r - r²/2 + r³ (...).
    """
    single = is_single(x)
    table = _logarithms(single)
    e, j, m = _interval_and_rest(x)
    e = e if lifted is None else e - lifted
    product, low = two_product(m, lookup(table.inverse, j))
    r = product - 1.0
    far = mad(e, table.two[0], lookup(table.high, j))
    far_low = mad(e, table.two[1], lookup(table.low, j))
    if single:
        square, least = r * r * -0.5, mad(-low, r, low)
    else:
        square, least = two_product(r * -0.5, r)
        least = least + mad(low, mad(square, -2.0, -r), low)
    near = r + square
    near_low = mad(square * r, polynomial(r, _LOG_NEAR_ONE[single]), ((r - near) + square) + least)
    high, rest = fast_two_sum(far, near)
    return high, rest + (near_low + far_low)


def _exp_of_pair(p: Any, low: Any) -> tuple[Any, Any]:
    """y and n with e^(p + low) = 2^n y; `low` may be a thousandth of `p`."""
    w = _width(p)
    shifted = mad(p + low, _LOG2E, w.magic)
    n = shifted - w.magic
    r = mad(n, -w.ln2[0], p) + mad(n, -w.ln2[1], low)
    return mad(r * r, polynomial(r, _EXP[is_single(p)]), r) + 1.0, bits(shifted)


def _pow_of_rest(a: Any, b: Any) -> Any:
    """|a|^b with a sign, for all numbers and the many special cases of C99."""
    w = _width(a)
    size = abs(a)
    small = size < w.least
    high, low = _log_pair(where(small, size * 2.0**w.lift, size), where(small, number(float(w.lift), a), 0.0))
    limited, end = _clamped(b, -(2.0**100), 2.0**100), w.overflow * 1.5
    p, p_low = two_product(limited, high)
    p_low = where(abs(p) < end, mad(limited, low, p_low), 0.0)
    y = _scaled(*_exp_of_pair(_clamped(p, -end, end), p_low), w)
    half = b * 0.5
    is_whole, odd = floor(b) == b, floor(half) != half
    limit = where((size == 0.0) ^ (b < 0.0), number(0.0, a), _INF)
    y = where((size == 0.0) | (size == _INF), limit, y)
    y = where(size == 1.0, size, y)
    y = where((bits(a) < 0) & is_whole & odd, -y, y)
    y = where((a < 0.0) & (a > -_INF) & ~is_whole, _NAN, y)
    y = where((a != a) | (b != b), a + b, y)
    return where((b == 0.0) | (a == 1.0), 1.0, y)


@apart
def _floating_pow(a: Any, b: Any) -> Any:
    """e^(b log|a|), with a sign where `a` is negative and `b` odd."""
    w = _width(a)
    size = abs(a)
    high, low = _log_pair(size)
    p, p_low = two_product(b, high)
    y, n = _exp_of_pair(p, mad(b, low, p_low))
    shifted = b + w.magic
    is_whole = (shifted - w.magic == b) & (abs(b) < 2.0 ** (w.shift - 1))
    sign = bits(a) & (bits(shifted) << (w.bits - 1))
    y = from_bits((bits(y) + (n << w.shift)) ^ sign)
    ordinary = (abs(p) < w.overflow - 3.0) & ((a > 0.0) | is_whole)
    return rarely(outside(size, w.least, _INF) | ~ordinary, _pow_of_rest, y, a, b)


@operation
def pow(a: Any, b: Any) -> Any:
    """a^b; of integers, `a ** b`."""
    return _floating_pow(a, b) if is_floating(a) else a**b


# --- roots ------------------------------------------------------------------------------------------------------------


@operation
def sqrt(x: Any) -> Any:
    """The machine's own."""
    return square_root(x)


@operation
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1.0 / square_root(x)


@operation
def hypot(a: Any, b: Any) -> Any:
    """sqrt(a² + b²): in float64 for float32, else with both scaled by a power of 2 where squares could be beyond."""
    if is_single(a):
        p, q = widen(a), widen(b)
        y = narrow(square_root(mad(p, p, q * q)))
    else:
        p, q = abs(a), abs(b)
        most = where(p > q, p, q)
        great, small = most > 2.0**510, most < 2.0**-480
        scale = where(great, 2.0**-600, where(small, 2.0**600, number(1.0, a)))
        back = where(great, 2.0**600, where(small, 2.0**-600, number(1.0, a)))
        p, q = p * scale, q * scale
        y = square_root(mad(p, p, q * q)) * back
    return where((abs(a) == _INF) | (abs(b) == _INF), _INF, y)


# The bits of a float count its logarithm, roughly: those of x^(-1/3), without the lowest, are c - bits(x) / 3. Here are
# the bits that are dropped, and c plus 4/3 of the width's `magic`, such that |1 - x y³| is least: 0.1022.
_RCBRT_START = ((32, 9007200684927352.0), (10, 18163838.0))
# For these the remainder of the root's cube is exact enough, and how many times 2^3 others are scaled.
_CBRT_LIMITS = ((2.0**-900, 2.0**900, 200), (2.0**-80, 2.0**80, 24))


def _root(a: Any) -> Any:
    """a^(1/3) = a y² with y = a^(-1/3), better by one of Newton's steps.

    y is a guess from the bits (as Blinn 1997 for the square root), y0, times (1 - h)^(-1/3) where h = 1 - a y0³.
    """
    dropped, start = _RCBRT_START[is_single(a)]
    shifted = from_bits((bits(a) >> dropped) + _width(a).magic_bits)
    y = from_bits(bits(mad(shifted, -1.0 / 3.0, start)) << dropped)
    h = mad(-(a * y * y), y, 1.0)
    y = mad(y * h, polynomial(h, _RCBRT[is_single(a)]), y)
    square = y * y
    root = a * square
    rest = minus_product(a, root * root, root)
    return mad(rest, square * (1.0 / 3.0), root)


def _cbrt_of_rest(x: Any) -> Any:
    thirds = _CBRT_LIMITS[is_single(x)][2]
    a = abs(x)
    small = a < 1.0
    y = _root(a * where(small, number(8.0**thirds, a), 8.0**-thirds)) * where(
        small, number(0.5**thirds, a), 2.0**thirds
    )
    return where((a > 0.0) & (a < _INF), copysign(y, x), x)


@apart
def cbrt(x: Any) -> Any:
    """The cube root of |x|, with the sign."""
    low, high, _ = _CBRT_LIMITS[is_single(x)]
    a = abs(x)
    return rarely(outside(a, low, high), _cbrt_of_rest, copysign(_root(a), x), x)


# --- circular functions -----------------------------------------------------------------------------------------------


_HALF_PI = ((1.5707963267948966, 6.123233995736766e-17), (1.5707963705062866, -4.371138828673793e-08))
# In three parts, each rounded down so that the next is positive: then n of them leave -0 of -0 for n = 0.
_HALF_PI_FROM_BELOW = (
    (1.5707963267948966, 6.123233995736765e-17, 1.082856673921914e-32),
    (1.570796251296997, 7.549789415861596e-08, 5.390302953474238e-15),
)
# Beyond these, multiples of pi/2 are not exact enough. What is left of an argument may be smaller than these: then the
# third part of the multiple counts, and the rounding error of the rest doesn't (and could not be told).
_HUGE, _CANCELLED = (2.0**30, 2.0**17), (2.0**-21, 2.0**-6)
# 1 / pi times 2^1280
_INVERSE_PI = int(
    "517cc1b727220a94fe13abe8fa9a6ee06db14acc9e21c820ff28b1d5ef5de2b0db92371d2126e9700324977504e8c90e"
    "7f0ef58e5894d39f74411afa975da24274ce38135a2fbf209cc8eb1cc1a99cfa4e422fc5defc941d8ffc4bffef02cc07"
    "f79788c5ad05368fb69b3f6793e584dba7a31fb34f2ff516ba93dd63f5f2f8bd9e839cfbc529497535fdafd88fc6ae84"
    "2b0198237e3db5d5f867de104d7a1b0e",
    16,
)


@functools.cache
def _two_over_pi() -> tuple[float, ...]:
    """2^(16 i - 52) 2/pi modulo 4, for i = 0 ... 63, each as a sum of four float64."""
    table = []
    for i in range(64):
        rest = (_INVERSE_PI << 16 * i + 1) % (1 << 1280 + 52 + 2)
        for _ in range(4):
            spare = max(rest.bit_length() - 53, 0)
            table.append(math.ldexp(rest >> spare, spare - 1280 - 52))
            rest &= (1 << spare) - 1
    return tuple(table)


def _reduced_huge(x: Any) -> tuple[Any, Any, Any]:
    """n modulo 4, and r in two parts, of x = n pi/2 + r, for |x| >= 2^16 (Payne and Hanek 1983).

    x = m 2^(16 i - 52) with an integer m < 2^69. The table has the bits of 2/pi that matter: those above are worth
    multiples of 4, and those below less than 2^-140.
    """
    i = ((((bits(x) >> 52) & 2047) - 1023) >> 4) & 63
    m = x * from_bits((1023 + 52 - (i << 4)) << 52)
    s0 = s1 = s2 = number(0.0, m)
    for k in range(4):
        for part in two_product(m, lookup(_two_over_pi(), (i << 2) + k)):
            s0, e = two_sum(s0, part - 4.0 * floor(part * 0.25 + 0.5))
            s1, e = two_sum(s1, e)
            s2 = s2 + e
    n = floor(s0 + 0.5)
    f, f_low = two_sum(s0 - n, s1)
    p, e = two_product(f, _HALF_PI[0][0])
    r, low = fast_two_sum(p, e + (f * _HALF_PI[0][1] + (f_low + s2) * _HALF_PI[0][0]))
    return bits(n + _F64.magic), r, low


def _half_pi(x: Any) -> tuple[float, float]:
    return _HALF_PI[is_single(x)]


def _reduced_quarter(x: Any, precise: bool) -> tuple[Any, Any, Any]:
    """n in the lowest bits of an integer, and r in two parts, of x = n pi/2 + r, where `x` is not huge."""
    magic, (first, second, third) = _width(x).magic, _HALF_PI_FROM_BELOW[is_single(x)]
    shifted = mad(x, 1.0 / first, magic)
    n = shifted - magic
    t = minus_product(x, n, first)
    if not precise:
        p, e = two_product(n, second)
        return bits(shifted), (t - p) - mad(n, third, e), 0.0
    r = minus_product(t, n, second)
    ordinary = abs(r) > _CANCELLED[is_single(x)]
    part = where(ordinary, number(second, r), third)
    return bits(shifted), r, minus_product(where(ordinary, t - r, -0.0), n, part)


def _sine(n: Any, r: Any, low: Any) -> Any:
    """sin(n pi/2 + r): sin(r) or cos(r), with a sign."""
    single = is_single(r)
    if single:
        z = r * r
        sine = mad(z * r, polynomial(z, _SIN[1]), r)
        cosine = mad(z, mad(z, polynomial(z, _COS[1]), -0.5), 1.0)
    else:
        z = r * r
        sine = r + mad(z * r, polynomial(z, _SIN[0]), low)
        most = mad(z, -0.5, 1.0)
        rest = mad(z, -0.5, 1.0 - most)
        cosine = most + (rest + mad(z * z, polynomial(z, _COS[0]), -r * low))
    return from_bits(bits(where((n & 1) == 0, sine, cosine)) ^ ((n & 2) << (30 if single else 62)))


def _tangent(n: Any, r: Any, low: Any) -> Any:
    """tan(n pi/2 + r) = tan(r) or -1 / tan(r)."""
    z = r * r
    y, y_low = fast_two_sum(r, mad(z * r, polynomial(z, _TAN[is_single(r)]), low))
    return where((n & 1) == 0, y, -_inverse(y, y_low))


def _circular(x: Any, function: Any, n_more: int, huge: Any) -> Any:
    """`function` of x + n_more pi/2, reduced."""
    n, r, low = _reduced_quarter(x, precise=function is _tangent or not is_single(x))
    return rarely(abs(x) > _HUGE[is_single(x)], huge, function(n + n_more if n_more else n, r, low), x)


def _of_huge(x: Any, function: Any, n_more: int) -> Any:
    """The same by Payne and Hanek's reduction, in float64 throughout."""
    n, r, low = _reduced_huge(widen(x) if is_single(x) else x)
    y = function(n + n_more, r, low)
    return narrow(y) if is_single(x) else y


def _sin_of_huge(x: Any) -> Any:
    return _of_huge(x, _sine, 0)


def _cos_of_huge(x: Any) -> Any:
    return _of_huge(x, _sine, 1)


def _tan_of_huge(x: Any) -> Any:
    return _of_huge(x, _tangent, 0)


@apart
def sin(x: Any) -> Any:
    """With x = n pi/2 + r, sin(r) or cos(r)."""
    return where(x == 0.0, x, _circular(x, _sine, 0, _sin_of_huge))


@apart
def cos(x: Any) -> Any:
    """sin(x + pi/2)."""
    return _circular(x, _sine, 1, _cos_of_huge)


@apart
def tan(x: Any) -> Any:
    """With x = n pi/2 + r, tan(r) or -1 / tan(r)."""
    return _circular(x, _tangent, 0, _tan_of_huge)


# --- their inverses ---------------------------------------------------------------------------------------------------


def _arc(x: Any) -> tuple[Any, Any, Any]:
    """Whether |x| > 1/2, and asin(x) as a sum; where |x| > 1/2 acos(|x|) = 2 asin(sqrt((1 - |x|) / 2))."""
    a = abs(x)
    big = a > 0.5
    z = where(big, mad(a, -0.5, 0.5), x * x)
    root = square_root(z)
    m = where(big, root + root, x)
    return big, m, m * z * polynomial(z, _ASIN[is_single(x)])


def _difference(a: float, b: Any, c: Any) -> Any:
    """a - b - c for a > b > c, rounded once or nearly so."""
    d = a - b
    return d + (((a - d) - b) - c)


@operation
def asin(x: Any) -> Any:
    """asin(x), or pi/2 - acos(|x|) with the sign of `x`."""
    high, low = _half_pi(x)
    big, m, rest = _arc(x)
    return copysign(where(big, _difference(high, m, rest - low), m + rest), x)


@operation
def acos(x: Any) -> Any:
    """pi/2 - asin(x), or acos(|x|), or pi less that."""
    high, low = _half_pi(x)
    big, m, rest = _arc(x)
    near_zero = high - (m + (rest - low))
    return where(big, where(x < 0.0, 2.0 * high - (m + (rest - 2.0 * low)), m + rest), near_zero)


def _atan_of_ratio(a: Any, b: Any) -> tuple[Any, Any]:
    """atan(a / b) where 0 <= a <= b, as a sum."""
    u = a / b
    z = u * u
    return u, u * z * polynomial(z, _ATAN[is_single(u)])


@operation
def atan(x: Any) -> Any:
    """atan(a) with a = |x|, or pi/2 - atan(1 / a)."""
    high, low = _half_pi(x)
    a = abs(x)
    big = a > 1.0
    u, rest = _atan_of_ratio(where(big, 1.0, a), where(big, a, 1.0))
    return copysign(where(big, _difference(high, u, rest - low), u + rest), x)


@operation
def atan2(a: Any, b: Any) -> Any:
    """atan of the smaller by the greater, plus or minus, from 0, pi/2 or pi."""
    high, low = _half_pi(a)
    steep, left = abs(a) > abs(b), bits(b) < 0
    small, great = where(steep, abs(b), abs(a)), where(steep, abs(a), abs(b))
    u, rest = _atan_of_ratio(where(small == _INF, 1.0, small), where((great == 0.0) | (small == _INF), 1.0, great))
    sign = where(steep ^ left, -1.0, number(1.0, u))
    start, more = (
        where(steep, high, where(left, 2.0 * high, number(0.0, u))),
        where(steep, low, where(left, 2.0 * low, number(0.0, u))),
    )
    y = copysign(mad(sign, u, start) + mad(sign, rest, more), a)
    return where((a != a) | (b != b), a + b, y)


# --- error function ---------------------------------------------------------------------------------------------------


def _erf_near_zero(x: Any) -> Any:
    """erf(x) for |x| <= 1; the first coefficient less 1 rounds less."""
    first, *others = _ERF[is_single(x)]
    z = x * x
    return mad(x, polynomial(z, (first - 1.0, *others)), x)


def _erfc_tail(x: Any) -> Any:
    """erfc(x) = exp(-x²) g / (1 + 2x) for x >= 0.44, with g from a polynomial (Shepherd and Laframboise 1981)."""
    w, single = _width(x), is_single(x)
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
    n, r = _reduced(-square)
    r = r - square_low
    q = mad(r * r, polynomial(r, _EXP[single]), r)
    return _scaled(ratio + mad(ratio, q, ratio_low), n, w)


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
    small, (lifted, lift) = x < _width(x).least, _lifted(x)
    return _log(where(small, lifted, x)) - where(small, number(lift * _LN2, x), 0.0)


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
    return where(pole | (a == _INF), _INF, y)


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
    far = mad(-w, polynomial(w, _DIGAMMA_STIRLING), mad(inverse, -0.5, _log(a)))
    r = a - floor(a + 0.5)
    below = where(below_one, near, (near + ratio) + inverse)
    y = where(great, where(negative, far + inverse, far), where(negative, below, near + ratio))
    y = where(negative, y + _cotangent_of_pi(r), y)
    y = where(x == 0.0, copysign(_INF, -x), where(negative & (r == 0.0), _NAN, y))
    return where(x == _INF, x, y)


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
    return where(a == _INF, where(x > 0.0, number(0.0, x), _NAN), y)


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
    return where(a == _INF, where(x > 0.0, number(-0.0, x), _NAN), y)


FUNCTIONS = (
    exp,
    exp2,
    expm1,
    tanh,
    sigmoid,
    softplus,
    log,
    log2,
    log10,
    log1p,
    sqrt,
    rsqrt,
    sin,
    cos,
    tan,
    asin,
    acos,
    atan,
    atan2,
    sinc,
    sinh,
    cosh,
    asinh,
    acosh,
    atanh,
    hypot,
    cbrt,
    pow,
    erf,
    erfc,
    lgamma,
    digamma,
    trigamma,
    tetragamma,
)


def compiled(triple: str, _cpu: str, features: str) -> ModuleType:
    """These functions for Numba's code on a machine; if Numba was told of another, for what that surely has."""
    from numba import config

    if config.CPU_NAME or config.CPU_FEATURES:
        features = config.CPU_FEATURES or ""
    arm, named = triple.startswith(("aarch64", "arm64")), features.split(",")
    register = 64 if "+avx512vl" in named else 32 if "+avx2" in named else 16
    convention = "aarch64_vector_pcs" if arm else "intel_ocl_bicc" if triple.startswith("x86_64") else "ccc"
    return in_numba(FUNCTIONS, Machine(arm or "+fma" in named, register, convention))
