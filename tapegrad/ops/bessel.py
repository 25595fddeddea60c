"""Bessel functions, modified and spherical ones, and Airy's; formulas are cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`).
"""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops import domains
from tapegrad.ops.arithmetic import sign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import exp
from tapegrad.ops.logic import where

_scipy_j0, _scipy_j1, _scipy_y0, _scipy_y1 = (Foreign(name) for name in ("j0", "j1", "y0", "y1"))
_scipy_i0, _scipy_i1, _scipy_i0e, _scipy_i1e = (Foreign(name) for name in ("i0", "i1", "i0e", "i1e"))
_scipy_k0, _scipy_k1, _scipy_k0e, _scipy_k1e = (Foreign(name) for name in ("k0", "k1", "k0e", "k1e"))
_scipy_jv, _scipy_kv, _scipy_iv = Foreign("jv", 2), Foreign("kv", 2), Foreign("iv", 2)
_FAR = 25.0  # from where exp(-|x|) I(x) and its derivatives are their asymptotic series


def _series(n, w):
    """The sum of w^k / (k! (n + k)!) over all k, by 2^n: what J_n and I_n are over x^n, with w = -x² / 4, x² / 4."""
    term = 1.0
    for j in range(1, int(n) + 1):
        term *= 0.5 / j
    total, k = term, 0.0
    while abs(term) > 1e-17 * abs(total):
        k += 1.0
        term *= w / (k * (n + k))
        total += term
    return total


def _reduced_j(n, x):
    """J of order n = 1, 2, ... over x^n, at 0 too (10.2.2)."""
    if abs(x) < 2.0:
        return _series(n, -0.25 * x * x)
    return (_scipy_j1(x) if n == 1.0 else _scipy_jv(n, x)) / x**n


def _reduced_i(n, x):
    """I of order n = 1, 2, ... over x^n, at 0 too (10.25.2)."""
    if abs(x) < 2.0:
        return _series(n, 0.25 * x * x)
    return (_scipy_i1(x) if n == 1.0 else _scipy_iv(n, x)) / x**n


def _far_out(n, order, c):
    """The derivative of that order of exp(-|c|) I(c), where I has the order n = 0 or 1 (10.40.1)."""
    x, is_even = abs(c), 0.5 * (n + order) == np.floor(0.5 * (n + order))
    # Terms are coefficient * x^(-k - 1/2), whose derivatives have the factors (k + 1/2) (k + 3/2) ...
    term = (1.0 if c > 0.0 or is_even else -1.0) / np.sqrt(2.0 * math.pi * x)
    for j in range(int(order)):
        term *= -(j + 0.5) / x
    total, k = term, 0.0
    while abs(term) > 1e-17 * abs(total) and k < x:
        k += 1.0
        term *= ((2.0 * k - 1.0) * (2.0 * k - 1.0) - 4.0 * n) / (8.0 * k * x) * (k + order - 0.5) / (k - 0.5)
        total += term
    return total


@elementwise(partials=(None, lambda a, b: -b * _j_by_power(a + 1.0, b)), result=FLOATING)  # 10.6.6
def _j_by_power(a, b):
    """J of order a = 1, 2, ... over b^a, elementwise."""
    return _reduced_j(a, b)


@elementwise(partials=(None, lambda a, b: b * _i_by_power(a + 1.0, b)), result=FLOATING)  # 10.29.4
def _i_by_power(a, b):
    """I of order a = 1, 2, ... over b^a, elementwise."""
    return _reduced_i(a, b)


@elementwise(partials=(None, None, lambda a, b, c: _far(a, b + 1.0, c)), result=FLOATING)
def _far(a, b, c):
    """`_far_out`, elementwise; nan where it doesn't hold."""
    return _far_out(a, b, c) if abs(c) >= _FAR else math.nan * c


# What follows is given the function's value too, so that it needn't be computed again; derivatives by `a` are whole.


@elementwise(partials=(lambda a: a * _j_by_power(2.0, a) - _bessel_j1(a), None), result=FLOATING)
def _j1_slope(a, b):
    """The derivative of J1, which is `b`, elementwise (10.6.2)."""
    return _scipy_j0(a) - (0.5 if a == 0.0 else b / a)


@elementwise(partials=(lambda a: _modified_bessel_i1(a) - a * _i_by_power(2.0, a), None), result=FLOATING)
def _i1_slope(a, b):
    """The derivative of I1, which is `b`, elementwise (10.29.2)."""
    return _scipy_i0(a) - (0.5 if a == 0.0 else b / a)


@elementwise(
    partials=(
        lambda a, b: where(abs(a) < _FAR, _i1e_slope(a, _i1e(a)) - sign(a) * _i0e_slope(a, b), _far(0.0, 2.0, a)),
        None,
    ),
    result=FLOATING,
)
def _i0e_slope(a, b):
    """The derivative of exp(-|a|) I0, which is `b`, elementwise."""
    return _far_out(0.0, 1.0, a) if abs(a) >= _FAR else _scipy_i1e(a) - np.sign(a) * b


@elementwise(
    partials=(
        lambda a, b: where(
            abs(a) < _FAR,
            _i0e_slope(a, _i0e(a))
            - exp(-abs(a)) * (a * _i_by_power(2.0, a) - sign(a) * _i_by_power(1.0, a))
            - sign(a) * _i1e_slope(a, b),
            _far(1.0, 2.0, a),
        ),
        None,
    ),
    result=FLOATING,
)
def _i1e_slope(a, b):
    """The derivative of exp(-|a|) I1, which is `b`, elementwise."""
    if abs(a) >= _FAR:
        return _far_out(1.0, 1.0, a)
    return _scipy_i0e(a) - (0.5 if a == 0.0 else b / a) - np.sign(a) * b


@elementwise(
    partials=lambda x: -_bessel_j1(x),  # 10.6.3
    exact=lambda mp, x: mp.besselj(0, x),
    scipy="j0",
    domain=(domains.Domain(-2.0, 2.0, edges=(0.0, 1.0, -1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_j0(x):
    """Bessel's function of the first kind, of order 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.bessel_j0(tg.tensor([0.5, 1.0]))
    tensor([0.9385, 0.7652])
    """
    return _scipy_j0(x)


@elementwise(
    partials=lambda x, y: _j1_slope(x, y),
    exact=lambda mp, x: mp.besselj(1, x),
    scipy="j1",
    domain=(domains.moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_j1(x):
    """Bessel's function of the first kind, of order 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.bessel_j1(tg.tensor([0.5, 1.0]))
    tensor([0.2423, 0.4401])
    """
    return _scipy_j1(x)


@elementwise(
    partials=lambda x: -_bessel_y1(x),  # 10.6.3
    exact=lambda mp, x: mp.bessely(0, x),
    scipy="y0",
    domain=(domains.Domain(1.2, 3.2, edges=(1.5, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_y0(x):
    """Bessel's function of the second kind, of order 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.bessel_y0(tg.tensor([0.5, 1.0]))
    tensor([-0.4445,  0.0883])
    """
    return _scipy_y0(x)


@elementwise(
    partials=lambda x, y: _bessel_y0(x) - y / x,  # 10.6.2
    exact=lambda mp, x: mp.bessely(1, x),
    scipy="y1",
    domain=(domains.Domain(0.3, 1.8, edges=(1.0, math.nan)),),
    result=FLOATING,
    ulps=16.0,
)
def _bessel_y1(x):
    """Bessel's function of the second kind, of order 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.bessel_y1(tg.tensor([0.5, 1.0]))
    tensor([-1.4715, -0.7812])
    """
    return _scipy_y1(x)


@elementwise(
    partials=lambda x: _modified_bessel_i1(x),  # 10.29.3
    exact=lambda mp, x: mp.besseli(0, x),
    scipy="i0",
    domain=(domains.moderate,),
    result=FLOATING,
    ulps=16.0,
)
def i0(x):
    """The modified Bessel function of the first kind, of order 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.i0(tg.tensor([0.5, 1.0]))
    tensor([1.0635, 1.2661])
    """
    return _scipy_i0(x)


@elementwise(
    partials=lambda x, y: _i1_slope(x, y),
    exact=lambda mp, x: mp.besseli(1, x),
    scipy="i1",
    domain=(domains.moderate,),
    result=FLOATING,
    ulps=16.0,
)
def _modified_bessel_i1(x):
    """The modified Bessel function of the first kind, of order 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.i1(tg.tensor([0.5, 1.0]))
    tensor([0.2579, 0.5652])
    """
    return _scipy_i1(x)


@elementwise(
    partials=lambda x, y: _i0e_slope(x, y),
    exact=lambda mp, x: mp.exp(-abs(x)) * mp.besseli(0, x),
    scipy="i0e",
    domain=(domains.Domain(-3.0, 3.0, edges=(1.0, -1.0, math.nan), kinks=(0.0,)),),
    result=FLOATING,
    ulps=16.0,
)
def _i0e(x):
    """exp(-|x|) times the modified Bessel function of order 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.i0e(tg.tensor([0.5, 1.0]))
    tensor([0.6450, 0.4658])
    """
    return _scipy_i0e(x)


@elementwise(
    partials=lambda x, y: _i1e_slope(x, y),
    exact=lambda mp, x: mp.exp(-abs(x)) * mp.besseli(1, x),
    scipy="i1e",
    domain=(domains.Domain(-3.0, 3.0, edges=(0.0, 1.0, -1.0, math.nan), kinks=(0.0,)),),
    result=FLOATING,
    ulps=16.0,
)
def _i1e(x):
    """exp(-|x|) times the modified Bessel function of order 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.i1e(tg.tensor([0.5, 1.0]))
    tensor([0.1564, 0.2079])
    """
    return _scipy_i1e(x)


@elementwise(
    partials=lambda x: -_modified_bessel_k1(x),  # 10.29.3
    exact=lambda mp, x: mp.besselk(0, x),
    scipy="k0",
    domain=(domains.moderate_above_zero,),
    result=FLOATING,
    ulps=16.0,
)
def _modified_bessel_k0(x):
    """The modified Bessel function of the second kind, of order 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.modified_bessel_k0(tg.tensor([0.5, 1.0]))
    tensor([0.9244, 0.4210])
    """
    return _scipy_k0(x)


@elementwise(
    partials=lambda x, y: -_modified_bessel_k0(x) - y / x,  # 10.29.2
    exact=lambda mp, x: mp.besselk(1, x),
    scipy="k1",
    domain=(domains.moderate_above_zero,),
    result=FLOATING,
    ulps=16.0,
)
def _modified_bessel_k1(x):
    """The modified Bessel function of the second kind, of order 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.modified_bessel_k1(tg.tensor([0.5, 1.0]))
    tensor([1.6564, 0.6019])
    """
    return _scipy_k1(x)


@elementwise(
    partials=lambda x, y: y - _scaled_modified_bessel_k1(x),
    exact=lambda mp, x: mp.exp(x) * mp.besselk(0, x),
    scipy="k0e",
    domain=(domains.moderate_above_zero,),
    result=FLOATING,
    ulps=16.0,
)
def _scaled_modified_bessel_k0(x):
    """exp(x) times the modified Bessel function of the second kind, of order 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.scaled_modified_bessel_k0(tg.tensor([0.5, 1.0]))
    tensor([1.5241, 1.1445])
    """
    return _scipy_k0e(x)


@elementwise(
    partials=lambda x, y: y - _scaled_modified_bessel_k0(x) - y / x,
    exact=lambda mp, x: mp.exp(x) * mp.besselk(1, x),
    scipy="k1e",
    domain=(domains.moderate_above_zero,),
    result=FLOATING,
    ulps=16.0,
)
def _scaled_modified_bessel_k1(x):
    """exp(x) times the modified Bessel function of the second kind, of order 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.scaled_modified_bessel_k1(tg.tensor([0.5, 1.0]))
    tensor([2.7310, 1.6362])
    """
    return _scipy_k1e(x)


@elementwise(
    partials=lambda x: _spherical_slope(x),
    exact=lambda mp, x: mp.sin(x) / x if x else mp.mpf(1),
    domain=(domains.moderate,),
    result=FLOATING,
)
def _spherical_bessel_j0(x):
    """sin(x) / x, and 1 at 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.spherical_bessel_j0(tg.tensor([0.5, 1.0]))
    tensor([0.9589, 0.8415])
    """
    return 0.0 * x + 1.0 if x == 0.0 else 0.0 if x - x != 0 and x == x else vectormath.sin(x) / x


# (sin(x) / x)' / x in x²
_SPHERICAL_SLOPE = tuple((-1.0) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(12, 0, -1))


@elementwise(
    partials=lambda x, y: where(x == 0.0, -1.0 / 3.0, -_spherical_bessel_j0(x) - 2.0 * y / x),  # 10.47.1
    result=FLOATING,
)
def _spherical_slope(x):
    """The derivative of sin(x) / x, by its series where its terms cancel."""
    if abs(x) < 1.5:
        total = 0.0 * x
        for factor in _SPHERICAL_SLOPE:
            total = total * (x * x) + factor
        return x * total
    return (vectormath.cos(x) - vectormath.sin(x) / x) / x


_AIRY_0, _AIRY_SLOPE_0 = 0.3550280538878172, -0.2588194037928068  # 9.2.3, 9.2.4


@elementwise(
    partials=lambda x: _airy_slope(x),
    exact=lambda mp, x: mp.airyai(x),
    domain=(domains.Domain(-1.5, 3.0, edges=(0.0, 1.0, math.nan)),),
    result=FLOATING,
    ulps=512.0,
)
def _airy_ai(x):
    """Airy's function, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.airy_ai(tg.tensor([0.5, 1.0]))
    tensor([0.2317, 0.1353])
    """
    if abs(x) < 1e-9:
        return _AIRY_0 + x * _AIRY_SLOPE_0
    zeta = 2.0 / 3.0 * abs(x) * np.sqrt(abs(x))
    if x > 0:  # 9.6.2
        return np.sqrt(x / 3.0) / math.pi * _scipy_kv(1.0 / 3.0, zeta)
    return np.sqrt(-x) / 3.0 * (_scipy_jv(1.0 / 3.0, zeta) + _scipy_jv(-1.0 / 3.0, zeta))  # 9.6.6


@elementwise(partials=lambda x: x * _airy_ai(x), result=FLOATING)  # 9.2.1
def _airy_slope(x):
    """The derivative of Airy's function."""
    if abs(x) < 1e-9:
        return _AIRY_SLOPE_0 + 0.0 * x
    zeta = 2.0 / 3.0 * abs(x) * np.sqrt(abs(x))
    if x > 0:  # 9.6.3
        return -x / (math.pi * np.sqrt(3.0)) * _scipy_kv(2.0 / 3.0, zeta)
    return -x / 3.0 * (_scipy_jv(2.0 / 3.0, zeta) - _scipy_jv(-2.0 / 3.0, zeta))  # 9.6.7
