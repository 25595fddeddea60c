"""Distribution functions under their names in Cephes; formulas of densities and slopes are those of `incomplete.py`.

Values are SciPy's (`foreign.py`), whose own `bdtr` warns of every number of trials that is no int. Numbers of events
are counts: steps, whose slope is 0.
"""

import math

import numpy as np

from tapegrad.foreign import Foreign
from tapegrad.ops.arithmetic import floor, trunc
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.exponential import exp, log, log1p
from tapegrad.ops.gamma import _betaln
from tapegrad.ops.incomplete import _beta_density, _betainc_by_a, _betainc_by_b, _gamma_density, _gammainc_by_a
from tapegrad.ops.logic import where

_scipy_stdtr, _scipy_stdtrit = Foreign("stdtr", 2), Foreign("stdtrit", 2)
_scipy_chdtr, _scipy_chdtrc, _scipy_chdtri = Foreign("chdtr", 2), Foreign("chdtrc", 2), Foreign("chdtri", 2)
_scipy_fdtr, _scipy_fdtrc, _scipy_fdtri = Foreign("fdtr", 3), Foreign("fdtrc", 3), Foreign("fdtri", 3)
_scipy_gdtr, _scipy_gdtrc, _scipy_gdtrix = Foreign("gdtr", 3), Foreign("gdtrc", 3), Foreign("gdtrix", 3)
_scipy_pdtr, _scipy_pdtrc = Foreign("pdtr", 2), Foreign("pdtrc", 2)
_scipy_betainc, _scipy_betaincc = Foreign("betainc", 3), Foreign("betaincc", 3)
_scipy_nbdtr, _scipy_nbdtrc = Foreign("nbdtr", 3), Foreign("nbdtrc", 3)


# --- Student's t ------------------------------------------------------------------------------------------------------


def _student_density(n, t):
    return exp(-0.5 * log(n) - _betaln(0.5, 0.5 * n) - 0.5 * (n + 1.0) * log1p(t * t / n))


def _student_by_n(n, t):
    """The slope of 1 - I_x(n / 2, 1/2) / 2 where t > 0, of x = n / (n + t²), by that of x and of 1 - x (8.17.4)."""
    x, rest = n / (n + t * t), t * t / (n + t * t)
    by_shape = where(rest < x, -_betainc_by_b(0.5, 0.5 * n, rest), _betainc_by_a(0.5 * n, 0.5, x))
    return where(t == 0.0, 0.0, where(t < 0.0, 0.25, -0.25) * by_shape - 0.5 * t / n * _student_density(n, t))


@elementwise(
    partials=(lambda a, b: _student_by_n(a, b), lambda a, b: _student_density(a, b)),
    scipy="stdtr",
    result=FLOATING,
)
def _stdtr(a, b):
    """The distribution function of Student's t at t, of df degrees of freedom, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.stdtr(5.0, tg.tensor([0.0, 2.0]))
    tensor([0.5000, 0.9490])
    """
    return _scipy_stdtr(a, b)


@elementwise(
    partials=(
        lambda a, y: -_student_by_n(a, y) / _student_density(a, y),
        lambda a, y: 1.0 / _student_density(a, y),
    ),
    scipy="stdtrit",
    result=FLOATING,
)
def _stdtrit(a, b):
    """The t at which `stdtr` of df degrees of freedom is p, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.stdtrit(5.0, tg.tensor([0.5, 0.975]))
    tensor([0.0000, 2.5706])
    """
    return _scipy_stdtrit(a, b)


# --- chi squared, gamma, Poisson --------------------------------------------------------------------------------------


@elementwise(
    partials=(
        lambda a, b: 0.5 * _gammainc_by_a(0.5 * a, 0.5 * b),
        lambda a, b: 0.5 * _gamma_density(0.5 * a, 0.5 * b),
    ),
    scipy="chdtr",
    result=FLOATING,
)
def _chdtr(a, b):
    """The distribution function of chi squared at x, of v degrees of freedom, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.chdtr(2.0, tg.tensor([1.0, 6.0]))
    tensor([0.3935, 0.9502])
    """
    return _scipy_chdtr(a, b)


@elementwise(
    partials=(
        lambda a, b: -0.5 * _gammainc_by_a(0.5 * a, 0.5 * b),
        lambda a, b: -0.5 * _gamma_density(0.5 * a, 0.5 * b),
    ),
    scipy="chdtrc",
    result=FLOATING,
)
def _chdtrc(a, b):
    """1 - `chdtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.chdtrc(2.0, tg.tensor([1.0, 6.0]))
    tensor([0.6065, 0.0498])
    """
    return _scipy_chdtrc(a, b)


@elementwise(
    partials=(
        lambda a, y: -_gammainc_by_a(0.5 * a, 0.5 * y) / _gamma_density(0.5 * a, 0.5 * y),
        lambda a, y: -2.0 / _gamma_density(0.5 * a, 0.5 * y),
    ),
    scipy="chdtri",
    result=FLOATING,
)
def _chdtri(a, b):
    """The x at which `chdtrc` of v degrees of freedom is p, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.chdtri(2.0, tg.tensor([0.05, 0.5]))
    tensor([5.9915, 1.3863])
    """
    return _scipy_chdtri(a, b)


@elementwise(
    partials=(
        lambda a, b, c: c * _gamma_density(b, a * c),
        lambda a, b, c: _gammainc_by_a(b, a * c),
        lambda a, b, c: a * _gamma_density(b, a * c),
    ),
    scipy="gdtr",
    result=FLOATING,
)
def _gdtr(a, b, c):
    """The distribution function of the gamma distribution at x, of the rate a and the shape b, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.gdtr(1.0, 2.0, tg.tensor([1.0, 3.0]))
    tensor([0.2642, 0.8009])
    """
    return _scipy_gdtr(a, b, c)


@elementwise(
    partials=(
        lambda a, b, c: -c * _gamma_density(b, a * c),
        lambda a, b, c: -_gammainc_by_a(b, a * c),
        lambda a, b, c: -a * _gamma_density(b, a * c),
    ),
    scipy="gdtrc",
    result=FLOATING,
)
def _gdtrc(a, b, c):
    """1 - `gdtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.gdtrc(1.0, 2.0, tg.tensor([1.0, 3.0]))
    tensor([0.7358, 0.1991])
    """
    return _scipy_gdtrc(a, b, c)


@elementwise(
    partials=(
        lambda a, y: -y / a,
        lambda a, b, y: -_gammainc_by_a(b, a * y) / (a * _gamma_density(b, a * y)),
        lambda a, b, y: 1.0 / (a * _gamma_density(b, a * y)),
    ),
    scipy="gdtrix",
    result=FLOATING,
)
def _gdtrix(a, b, c):
    """The x at which `gdtr` of the rate a and the shape b is p, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.gdtrix(1.0, 2.0, tg.tensor([0.1, 0.5]))
    tensor([0.5318, 1.6783])
    """
    return _scipy_gdtrix(a, b, c)


@elementwise(partials=(None, lambda a, b: -_gamma_density(floor(a) + 1.0, b)), scipy="pdtr", result=FLOATING)
def _pdtr(a, b):
    """The probability of at most k events of a Poisson distribution with mean m, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.pdtr(2.0, tg.tensor([1.0, 3.0]))
    tensor([0.9197, 0.4232])
    """
    return _scipy_pdtr(a, b)


@elementwise(partials=(None, lambda a, b: _gamma_density(floor(a) + 1.0, b)), scipy="pdtrc", result=FLOATING)
def _pdtrc(a, b):
    """1 - `pdtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.pdtrc(2.0, tg.tensor([1.0, 3.0]))
    tensor([0.0803, 0.5768])
    """
    return _scipy_pdtrc(a, b)


# --- F ----------------------------------------------------------------------------------------------------------------


def _f_density(m, n, x):
    """Of I_z(m / 2, n / 2), z = m x / (m x + n), by the smaller of z and 1 - z."""
    whole = m * x + n
    z, rest = m * x / whole, n / whole
    density = where(z < rest, _beta_density(0.5 * m, 0.5 * n, z), _beta_density(0.5 * n, 0.5 * m, rest))
    return density * rest * m / whole


def _f_by_m(m, n, x):
    whole = m * x + n
    z, rest = m * x / whole, n / whole
    by_shape = where(z < rest, _betainc_by_a(0.5 * m, 0.5 * n, z), -_betainc_by_b(0.5 * n, 0.5 * m, rest))
    return 0.5 * by_shape + x / m * _f_density(m, n, x)


def _f_by_n(m, n, x):
    whole = m * x + n
    z, rest = m * x / whole, n / whole
    by_shape = where(z < rest, _betainc_by_b(0.5 * m, 0.5 * n, z), -_betainc_by_a(0.5 * n, 0.5 * m, rest))
    return 0.5 * by_shape - x / n * _f_density(m, n, x)


@elementwise(
    partials=(
        lambda a, b, c: _f_by_m(a, b, c),
        lambda a, b, c: _f_by_n(a, b, c),
        lambda a, b, c: _f_density(a, b, c),
    ),
    scipy="fdtr",
    result=FLOATING,
)
def _fdtr(a, b, c):
    """The distribution function of F at x, of dfn and dfd degrees of freedom, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.fdtr(2.0, 5.0, tg.tensor([1.0, 4.0]))
    tensor([0.5688, 0.9083])
    """
    return _scipy_fdtr(a, b, c)


@elementwise(
    partials=(
        lambda a, b, c: -_f_by_m(a, b, c),
        lambda a, b, c: -_f_by_n(a, b, c),
        lambda a, b, c: -_f_density(a, b, c),
    ),
    scipy="fdtrc",
    result=FLOATING,
)
def _fdtrc(a, b, c):
    """1 - `fdtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.fdtrc(2.0, 5.0, tg.tensor([1.0, 4.0]))
    tensor([0.4312, 0.0917])
    """
    return _scipy_fdtrc(a, b, c)


@elementwise(
    partials=(
        lambda a, b, y: -_f_by_m(a, b, y) / _f_density(a, b, y),
        lambda a, b, y: -_f_by_n(a, b, y) / _f_density(a, b, y),
        lambda a, b, y: 1.0 / _f_density(a, b, y),
    ),
    scipy="fdtri",
    result=FLOATING,
)
def _fdtri(a, b, c):
    """The x at which `fdtr` of dfn and dfd degrees of freedom is p, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.fdtri(2.0, 5.0, tg.tensor([0.5, 0.95]))
    tensor([0.7988, 5.7861])
    """
    return _scipy_fdtri(a, b, c)


# --- binomial ---------------------------------------------------------------------------------------------------------


def _of_binomial(k, n, p):
    """The slope of I_p(k + 1, n - k), that of more than k events."""
    k, n = floor(k), trunc(n)
    return where((n == k) | (k < 0.0), 0.0, _beta_density(k + 1.0, n - k, p))


def _at_most(k, n, p):
    """1 - I_p(k + 1, n - k) (8.17.5)."""
    if not (0.0 <= k <= n and 0.0 <= p <= 1.0):
        return math.nan
    return 1.0 if k == n else _scipy_betaincc(k + 1.0, n - k, p)


def _more_than(k, n, p):
    """I_p(k + 1, n - k)."""
    if not (k <= n and 0.0 <= p <= 1.0):
        return math.nan
    return 1.0 if k < 0.0 else 0.0 if k == n else _scipy_betainc(k + 1.0, n - k, p)


@elementwise(partials=(None, None, lambda a, b, c: -_of_binomial(a, b, c)), scipy="bdtr", result=FLOATING)
def _bdtr(a, b, c):
    """The probability of at most k events of n, each of probability p, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.bdtr(2.0, 5.0, tg.tensor([0.2, 0.5]))
    tensor([0.9421, 0.5000])
    """
    return _at_most(np.floor(a), np.trunc(b), c)


@elementwise(partials=(None, None, lambda a, b, c: _of_binomial(a, b, c)), scipy="bdtrc", result=FLOATING)
def _bdtrc(a, b, c):
    """1 - `bdtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.bdtrc(2.0, 5.0, tg.tensor([0.2, 0.5]))
    tensor([0.0579, 0.5000])
    """
    return _more_than(np.floor(a), np.trunc(b), c)


@elementwise(
    partials=(None, None, lambda a, b, c: _beta_density(trunc(b), trunc(a) + 1.0, c)), scipy="nbdtr", result=FLOATING
)
def _nbdtr(a, b, c):
    """The probability of at most k failures before n events of probability p, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.nbdtr(2.0, 5.0, tg.tensor([0.2, 0.5]))
    tensor([0.0047, 0.2266])
    """
    return _scipy_nbdtr(np.trunc(a), np.trunc(b), c)


@elementwise(
    partials=(None, None, lambda a, b, c: -_beta_density(trunc(b), trunc(a) + 1.0, c)), scipy="nbdtrc", result=FLOATING
)
def _nbdtrc(a, b, c):
    """1 - `nbdtr`, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.nbdtrc(2.0, 5.0, tg.tensor([0.2, 0.5]))
    tensor([0.9953, 0.7734])
    """
    return _scipy_nbdtrc(np.trunc(a), np.trunc(b), c)
