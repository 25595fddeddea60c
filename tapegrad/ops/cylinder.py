"""Bessel functions of any real order, spherical ones, and Struve's; formulas are cited by the numbers of the DLMF.

Values are SciPy's (`foreign.py`). Slopes are by the argument: of the orders beside; by the order none is known.
"""

import math

import numpy as np

from tapegrad import vectormath
from tapegrad.foreign import Foreign
from tapegrad.ops.arithmetic import maximum, trunc
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.logic import where
from tapegrad.ops.special import _unknown

_scipy_jv, _scipy_yv, _scipy_iv, _scipy_kv = (Foreign(name, 2) for name in ("jv", "yv", "iv", "kv"))
_scipy_jve, _scipy_yve, _scipy_ive, _scipy_kve = (Foreign(name, 2) for name in ("jve", "yve", "ive", "kve"))
_scipy_yn, _scipy_kn = Foreign("yn", 2), Foreign("kn", 2)
_scipy_struve, _scipy_modstruve = Foreign("struve", 2), Foreign("modstruve", 2)


@elementwise(
    partials=(_unknown, lambda a, b: 0.5 * (_jv(a - 1.0, b) - _jv(a + 1.0, b))),  # 10.6.1
    scipy="jv",
    unknown=("v",),
    result=FLOATING,
)
def _jv(a, b):
    """Bessel's function of the first kind, of the real order v, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.jv(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.6714, 0.5130])
    """
    return _scipy_jv(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: 0.5 * (_yv(a - 1.0, b) - _yv(a + 1.0, b))),  # 10.6.1
    scipy="yv",
    unknown=("v",),
    result=FLOATING,
)
def _yv(a, b):
    """Bessel's function of the second kind, of the real order v, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.yv(0.5, tg.tensor([1.0, 2.0]))
    tensor([-0.4311,  0.2348])
    """
    return _scipy_yv(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: 0.5 * (_iv(a - 1.0, b) + _iv(a + 1.0, b))),  # 10.29.1
    scipy="iv",
    unknown=("v",),
    result=FLOATING,
)
def _iv(a, b):
    """The modified Bessel function of the first kind, of the real order v; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.iv(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.9377, 2.0462])
    """
    return _scipy_iv(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: -0.5 * (_kv(a - 1.0, b) + _kv(a + 1.0, b))),  # 10.29.1
    scipy="kv",
    unknown=("v",),
    result=FLOATING,
)
def _kv(a, b):
    """The modified Bessel function of the second kind, of the real order v; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.kv(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.4611, 0.1199])
    """
    return _scipy_kv(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: 0.5 * (_jve(a - 1.0, b) - _jve(a + 1.0, b))),
    scipy="jve",
    unknown=("v",),
    result=FLOATING,
)
def _jve(a, b):
    """`jv`, whose scale exp(-|Im z|) is 1 of real numbers, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.jve(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.6714, 0.5130])
    """
    return _scipy_jve(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: 0.5 * (_yve(a - 1.0, b) - _yve(a + 1.0, b))),
    scipy="yve",
    unknown=("v",),
    result=FLOATING,
)
def _yve(a, b):
    """`yv`, whose scale exp(-|Im z|) is 1 of real numbers, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.yve(0.5, tg.tensor([1.0, 2.0]))
    tensor([-0.4311,  0.2348])
    """
    return _scipy_yve(a, b)


@elementwise(
    partials=(
        _unknown,
        lambda a, b, y: 0.5 * (_ive(a - 1.0, b) + _ive(a + 1.0, b)) - where(b < 0.0, -y, y),
    ),
    scipy="ive",
    unknown=("v",),
    result=FLOATING,
)
def _ive(a, b):
    """exp(-|z|) times `iv`, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.ive(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.3450, 0.2769])
    """
    return _scipy_ive(a, b)


@elementwise(
    partials=(_unknown, lambda a, b, y: y - 0.5 * (_kve(a - 1.0, b) + _kve(a + 1.0, b))),
    scipy="kve",
    unknown=("v",),
    result=FLOATING,
)
def _kve(a, b):
    """exp(z) times `kv`, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.kve(0.5, tg.tensor([1.0, 2.0]))
    tensor([1.2533, 0.8862])
    """
    return _scipy_kve(a, b)


@elementwise(
    partials=(None, lambda a, b: 0.5 * (_yn(trunc(a) - 1.0, b) - _yn(trunc(a) + 1.0, b))),
    scipy="yn",
    result=FLOATING,
)
def _yn(a, b):
    """Bessel's function of the second kind, of the order n, which is cut to an integer, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.yn(2, tg.tensor([1.0, 2.0]))
    tensor([-1.6507, -0.6174])
    """
    return _scipy_yn(np.trunc(a), b)


@elementwise(
    partials=(None, lambda a, b: -0.5 * (_kn(trunc(a) - 1.0, b) + _kn(trunc(a) + 1.0, b))),
    scipy="kn",
    result=FLOATING,
)
def _kn(a, b):
    """The modified Bessel function of the second kind, of the order n, which is cut to an integer, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.kn(2, tg.tensor([1.0, 2.0]))
    tensor([1.6248, 0.2538])
    """
    return _scipy_kn(np.trunc(a), b)


def _at_zero(a):
    """The slope of Struve's functions there, by the order (11.2.1)."""
    return where(a == 0.0, 2.0 / math.pi, where(a > 0.0, 0.0, math.nan))


@elementwise(
    partials=(_unknown, lambda a, b, y: where(b == 0.0, _at_zero(a), _struve(a - 1.0, b) - a * y / b)),  # 11.4.27
    scipy="struve",
    unknown=("v",),
    result=FLOATING,
)
def _struve(a, b):
    """Struve's function of the real order v, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.struve(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.3668, 0.7990])
    """
    return _scipy_struve(a, b)


@elementwise(
    partials=(_unknown, lambda a, b, y: where(b == 0.0, _at_zero(a), _modstruve(a - 1.0, b) - a * y / b)),  # 11.4.29
    scipy="modstruve",
    unknown=("v",),
    result=FLOATING,
)
def _modstruve(a, b):
    """The modified Struve function of the real order v, elementwise; differentiable by its argument.

    >>> import tapegrad as tg
    >>> tg.special.modstruve(0.5, tg.tensor([1.0, 2.0]))
    tensor([0.4333, 1.5584])
    """
    return _scipy_modstruve(a, b)


# --- spherical --------------------------------------------------------------------------------------------------------
# Orders are cut to an integer, and are not negative. Slopes are of both orders beside, so that no term is divided by x.


def _is_odd(n):
    return 0.5 * n != np.floor(0.5 * n)


def _half_order(function, n, x):
    """sqrt(pi / (2 x)) times a function of order n + 1/2 at x (10.47.3)."""
    return math.sqrt(0.5 * math.pi) / math.sqrt(x) * function(n + 0.5, x)


def _weighted(n, before, after):
    """The slope of a spherical function of order n, by those of the orders beside it (10.51.1, 10.51.4)."""
    return (trunc(n) * before + (trunc(n) + 1.0) * after) / (2.0 * trunc(n) + 1.0)


def _upward(n, x, value, after):
    """That of order n, from those of orders 0 and 1 (10.51.1)."""
    for k in range(1, int(n) + 1):
        value, after = after, (2 * k + 1) * after / x - value
    return value


@elementwise(
    partials=(
        None,
        lambda a, b: _weighted(a, _spherical_jn(maximum(a - 1.0, 0.0), b), -_spherical_jn(a + 1.0, b)),
    ),  # 10.51.1
    result=FLOATING,
)
def _spherical_jn(a, b):
    """The spherical Bessel function of the first kind, of the order n, elementwise (10.47.3)."""
    n, x = np.trunc(a), abs(b)
    if not n >= 0.0 or x != x:
        return math.nan
    if x == 0.0 or x == math.inf:
        return 1.0 if x == n else 0.0
    if n >= x:
        value = _half_order(_scipy_jv, n, x)
    else:
        first, c = vectormath.sin(x) / x, vectormath.cos(x)
        value = _upward(n, x, first, (first - c) / x)
    return -value if b < 0.0 and _is_odd(n) else value


@elementwise(
    partials=(
        None,
        lambda a, b: _weighted(a, _spherical_yn(maximum(a - 1.0, 0.0), b), -_spherical_yn(a + 1.0, b)),
    ),  # 10.51.1
    result=FLOATING,
)
def _spherical_yn(a, b):
    """The spherical Bessel function of the second kind, of the order n, elementwise (10.47.4)."""
    n, x = np.trunc(a), abs(b)
    if not n >= 0.0 or x != x:
        return math.nan
    if x == 0.0 or x == math.inf:
        return -math.inf if x == 0.0 else 0.0
    first = -vectormath.cos(x) / x
    value = _upward(n, x, first, (first - vectormath.sin(x)) / x)
    if value - value != 0.0:  # beyond what is held
        value = -math.inf
    return value if b > 0.0 or _is_odd(n) else -value


@elementwise(
    partials=(
        None,
        lambda a, b: _weighted(a, _spherical_in(maximum(a - 1.0, 0.0), b), _spherical_in(a + 1.0, b)),
    ),  # 10.51.4
    result=FLOATING,
)
def _spherical_in(a, b):
    """The modified spherical Bessel function of the first kind, of the order n, elementwise (10.47.7)."""
    n, x = np.trunc(a), abs(b)
    if not n >= 0.0 or x != x:
        return math.nan
    if x == 0.0:
        return 1.0 if n == 0.0 else 0.0
    value = x if x == math.inf else _half_order(_scipy_iv, n, x)
    return -value if b < 0.0 and _is_odd(n) else value


@elementwise(
    partials=(
        None,
        lambda a, b: -_weighted(a, _spherical_kn(maximum(a - 1.0, 0.0), b), _spherical_kn(a + 1.0, b)),
    ),  # 10.51.4
    result=FLOATING,
)
def _spherical_kn(a, b):
    """The modified spherical Bessel function of the second kind, of the order n, elementwise (10.47.9)."""
    n, x = np.trunc(a), abs(b)
    if not n >= 0.0 or x != x:
        return math.nan
    if x == 0.0 or x == math.inf:
        return math.inf if x == 0.0 else 0.0 if b > 0.0 else -math.inf
    value = _half_order(_scipy_kv, n, x)
    if b > 0.0:
        return value
    return -math.pi * _half_order(_scipy_iv, n, x) + (value if _is_odd(n) else -value)  # 10.47.11, 10.47.16
