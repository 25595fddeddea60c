"""Losses, divergences and power transforms of statistics, and trigonometric functions of degrees.

Values are SciPy's (`foreign.py`).
"""

import math

from tapegrad.foreign import Foreign
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import exp, log, log1p, pow_, sqrt
from tapegrad.ops.integrals import _exponential_moment, _log1p_ratio
from tapegrad.ops.logic import where

_scipy_kl_div, _scipy_rel_entr = Foreign("kl_div", 2), Foreign("rel_entr", 2)
_scipy_huber, _scipy_pseudo_huber = Foreign("huber", 2), Foreign("pseudo_huber", 2)
_scipy_boxcox, _scipy_boxcox1p = Foreign("boxcox", 2), Foreign("boxcox1p", 2)
_scipy_inv_boxcox, _scipy_inv_boxcox1p = Foreign("inv_boxcox", 2), Foreign("inv_boxcox1p", 2)
_scipy_sindg, _scipy_cosdg, _scipy_tandg, _scipy_cotdg = (Foreign(n) for n in ("sindg", "cosdg", "tandg", "cotdg"))
_scipy_radian = Foreign("radian", 3)
_DEGREE = math.pi / 180.0


def _log_quotient(x, y):
    """log(x / y) where both are positive."""
    return where((x < 0.0) | (y < 0.0), math.nan, log(x / y))


@elementwise(
    partials=(lambda a, b: _log_quotient(a, b), lambda a, b: where((a < 0.0) | (b < 0.0), math.nan, (b - a) / b)),
    scipy="kl_div",
    result=FLOATING,
)
def _kl_div(a, b):
    """x log(x / y) - x + y, elementwise; inf where either is negative.

    >>> import tapegrad as tg
    >>> tg.special.kl_div(tg.tensor([0.5, 1.0]), 0.5)
    tensor([0.0000, 0.1931])
    """
    return _scipy_kl_div(a, b)


@elementwise(
    partials=(lambda a, b: _log_quotient(a, b) + 1.0, lambda a, b: where((a < 0.0) | (b < 0.0), math.nan, -a / b)),
    scipy="rel_entr",
    result=FLOATING,
)
def _rel_entr(a, b):
    """x log(x / y), elementwise; inf where either is negative.

    >>> import tapegrad as tg
    >>> tg.special.rel_entr(tg.tensor([0.5, 1.0]), 0.5)
    tensor([0.0000, 0.6931])
    """
    return _scipy_rel_entr(a, b)


@elementwise(
    partials=(
        lambda a, b: where(a < 0.0, math.nan, where(abs(b) <= a, 0.0, abs(b) - a)),
        lambda a, b: where(a < 0.0, math.nan, where(abs(b) <= a, b, where(b < 0.0, -a, a))),
    ),
    scipy="huber",
    result=FLOATING,
)
def _huber(a, b):
    """Huber's loss of r: r² / 2 up to |r| = delta, and delta (|r| - delta / 2) beyond, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.huber(1.0, tg.tensor([0.5, 3.0]))
    tensor([0.1250, 2.5000])
    """
    return _scipy_huber(a, b)


def _root(delta, r):
    return sqrt(1.0 + r / delta * (r / delta))


@elementwise(
    partials=(
        # of delta² (s - 1), s = sqrt(1 + u²): delta u^4 / (s (s + 1)²), u = r / delta, in which nothing cancels
        lambda a, b: where(
            a == 0.0,
            abs(b),
            a * (b / a / (_root(a, b) + 1.0)) * (b / a / (_root(a, b) + 1.0)) * (b / a * (b / a / _root(a, b))),
        ),
        lambda a, b: where(a == 0.0, 0.0, b / _root(a, b)),
    ),
    scipy="pseudo_huber",
    result=FLOATING,
)
def _pseudo_huber(a, b):
    """The smooth form of Huber's loss of r, delta² (sqrt(1 + (r / delta)²) - 1), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.pseudo_huber(1.0, tg.tensor([0.5, 3.0]))
    tensor([0.1180, 2.1623])
    """
    return _scipy_pseudo_huber(a, b)


@elementwise(
    partials=(
        lambda a, b: pow_(a, b - 1.0),
        lambda a, b: log(a) * log(a) * _exponential_moment(1.0, b * log(a)),
    ),
    scipy="boxcox",
    result=FLOATING,
)
def _boxcox(a, b):
    """Box and Cox' transform (x^lambda - 1) / lambda, and log(x) where lambda is 0, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.boxcox(tg.tensor([1.0, 4.0]), 0.5)
    tensor([0., 2.])
    """
    return _scipy_boxcox(a, b)


@elementwise(
    partials=(
        lambda a, b: exp((b - 1.0) * log1p(a)),
        lambda a, b: log1p(a) * log1p(a) * _exponential_moment(1.0, b * log1p(a)),
    ),
    scipy="boxcox1p",
    result=FLOATING,
)
def _boxcox1p(a, b):
    """Box and Cox' transform of 1 + x, exact also where x is small, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.boxcox1p(tg.tensor([0.0, 3.0]), 0.5)
    tensor([0., 2.])
    """
    return _scipy_boxcox1p(a, b)


@elementwise(
    partials=(
        lambda a, b, y: y / (1.0 + a * b),
        lambda a, b, y: y * a * a * _log1p_ratio(1.0, a * b),
    ),
    scipy="inv_boxcox",
    result=FLOATING,
)
def _inv_boxcox(a, b):
    """The x whose `boxcox` with lambda is y, (1 + lambda y)^(1 / lambda), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.inv_boxcox(tg.tensor([0.0, 2.0]), 0.5)
    tensor([1., 4.])
    """
    return _scipy_inv_boxcox(a, b)


@elementwise(
    partials=(
        lambda a, b, y: (1.0 + y) / (1.0 + a * b),
        lambda a, b, y: (1.0 + y) * a * a * _log1p_ratio(1.0, a * b),
    ),
    scipy="inv_boxcox1p",
    result=FLOATING,
)
def _inv_boxcox1p(a, b):
    """The x whose `boxcox1p` with lambda is y, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.inv_boxcox1p(tg.tensor([0.0, 2.0]), 0.5)
    tensor([0., 3.])
    """
    return _scipy_inv_boxcox1p(a, b)


@elementwise(partials=lambda x: _DEGREE * _cosdg(x), scipy="sindg", result=FLOATING)
def _sindg(x):
    """The sine of degrees, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.sindg(tg.tensor([30.0, 90.0]))
    tensor([0.5000, 1.0000])
    """
    return _scipy_sindg(x)


@elementwise(partials=lambda x: -_DEGREE * _sindg(x), scipy="cosdg", result=FLOATING)
def _cosdg(x):
    """The cosine of degrees, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.cosdg(tg.tensor([60.0, 180.0]))
    tensor([ 0.5000, -1.0000])
    """
    return _scipy_cosdg(x)


@elementwise(partials=lambda y: _DEGREE * (1.0 + y * y), scipy="tandg", result=FLOATING)
def _tandg(x):
    """The tangent of degrees, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.tandg(tg.tensor([45.0, 135.0]))
    tensor([ 1., -1.])
    """
    return _scipy_tandg(x)


@elementwise(partials=lambda y: -_DEGREE * (1.0 + y * y), scipy="cotdg", result=FLOATING)
def _cotdg(x):
    """The cotangent of degrees, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.cotdg(tg.tensor([45.0, 135.0]))
    tensor([ 1., -1.])
    """
    return _scipy_cotdg(x)


@elementwise(
    partials=(lambda: _DEGREE, lambda: _DEGREE / 60.0, lambda: _DEGREE / 3600.0), scipy="radian", result=FLOATING
)
def _radian(a, b, c):
    """Radians of degrees, minutes and seconds, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.radian(90.0, 30.0, tg.tensor([0.0, 36.0]))
    tensor([1.5795, 1.5797])
    """
    return _scipy_radian(a, b, c)
