"""Orthogonal polynomials: PyTorch's, of degrees that are cut to an integer, and SciPy's, of any real degree.

PyTorch's are 0 where the degree is negative. SciPy's of a degree that is no whole number are its own (`foreign.py`); by
degrees and parameters their derivatives are not known.
"""

import numpy as np

from tapegrad.foreign import Foreign
from tapegrad.ops.arithmetic import trunc
from tapegrad.ops.declare import FLOATING, elementwise
from tapegrad.ops.logic import where
from tapegrad.ops.special import _unknown

_scipy_gegenbauer, _scipy_genlaguerre = Foreign("eval_gegenbauer", 3), Foreign("eval_genlaguerre", 3)
_scipy_legendre, _scipy_laguerre = Foreign("eval_legendre", 2), Foreign("eval_laguerre", 2)
_scipy_chebyt, _scipy_chebyu = Foreign("eval_chebyt", 2), Foreign("eval_chebyu", 2)
_scipy_jacobi, _scipy_sh_jacobi = Foreign("eval_jacobi", 4), Foreign("eval_sh_jacobi", 4)
_scipy_binom = Foreign("binom", 2)
_scipy_chebyc, _scipy_chebys = Foreign("eval_chebyc", 2), Foreign("eval_chebys", 2)


def _is_degree(n):
    return 0.0 <= n < 2.0**31 and n == np.floor(n)


def _gegenbauer_at(a, b, c):
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(1, n + 1):
        before, value = value, (2.0 * (k + a - 1.0) * c * value - (k + 2.0 * a - 2.0) * before) / k
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(None, None, lambda a, b, c: 2.0 * a * _gegenbauer(a + 1.0, b - 1.0, c)), result=FLOATING)
def _gegenbauer(a, b, c):
    """Gegenbauer's polynomials of degree b in c (18.9.1, 18.9.19): of a = 1/2 Legendre's, of 1 Chebyshev's U."""
    return _gegenbauer_at(a, b, c)


def _chebyshev_at(a, b):
    n = int(b) if b == b else 0
    before, value = a, 0.0 * a + 1.0
    for _ in range(n):
        before, value = value, 2.0 * a * value - before
    return value if n >= 0 else 0.0 * a


@elementwise(partials=(lambda a, b: b * _gegenbauer(1.0, b - 1.0, a), None), result=FLOATING)
def _chebyshev_t(a, b):
    """Chebyshev's polynomials of the first kind (18.9.21), elementwise."""
    return _chebyshev_at(a, b)


def _laguerre_at(a, b, c):
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(n):
        before, value = value, ((2 * k + 1 + a - c) * value - (k + a) * before) / (k + 1)
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(None, None, lambda a, b, c: -_laguerre(a + 1.0, b - 1.0, c)), result=FLOATING)
def _laguerre(a, b, c):
    """Laguerre's polynomials of degree b in c, with the parameter a (18.9.1, 18.9.23), elementwise."""
    return _laguerre_at(a, b, c)


def _hermite_at(a, b, c):
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(n):
        before, value = value, a * (c * value - k * before)
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(None, None, lambda a, b, c: a * b * _hermite(a, b - 1.0, c)), result=FLOATING)
def _hermite(a, b, c):
    """Hermite's polynomials of degree b in c (18.9.1, 18.9.25): of a = 2 the physicists', of 1 the others."""
    return _hermite_at(a, b, c)


def _jacobi_at(n, a, b, x):
    """Jacobi's polynomial of a whole degree (18.9.1, 18.9.2)."""
    before, value = 0.0 * x, 0.0 * x + 1.0
    for k in range(int(n)):
        t = 2.0 * k + a + b
        if k == 0:
            before, value = value, a + 1.0 + 0.5 * (a + b + 2.0) * (x - 1.0)
            continue
        scale = 2.0 * (k + 1.0) * (k + a + b + 1.0) * t
        factor = (t + 1.0) * (t * (t + 2.0) * x + (a - b) * (a + b))
        before, value = value, (factor * value - 2.0 * (k + a) * (k + b) * (t + 2.0) * before) / scale
    return value


# --- SciPy's ----------------------------------------------------------------------------------------------------------


@elementwise(
    partials=(
        _unknown,
        _unknown,
        lambda a, b, c: where(a == 0.0, 0.0, 2.0 * b * _eval_gegenbauer(a - 1.0, b + 1.0, c)),
    ),
    scipy="eval_gegenbauer",
    unknown=("n", "alpha"),
    result=FLOATING,
)
def _eval_gegenbauer(a, b, c):
    """Gegenbauer's polynomial of degree n with the parameter alpha, at x (18.9.19), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_gegenbauer(2, 0.5, tg.tensor([0.0, 0.5]))
    tensor([-0.5000, -0.1250])
    """
    return _gegenbauer_at(b, a, c) if _is_degree(a) else _scipy_gegenbauer(a, b, c)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, _eval_gegenbauer(a - 1.0, 1.5, b))),
    scipy="eval_legendre",
    unknown=("n",),
    result=FLOATING,
)
def _eval_legendre(a, b):
    """Legendre's polynomial of degree n at x (18.7.9), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_legendre(3, tg.tensor([0.6, 1.0]))
    tensor([-0.3600,  1.0000])
    """
    return _gegenbauer_at(0.5, a, b) if _is_degree(a) else _scipy_legendre(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, 2.0 * _eval_gegenbauer(a - 1.0, 1.5, 2.0 * b - 1.0))),
    scipy="eval_sh_legendre",
    unknown=("n",),
    result=FLOATING,
)
def _eval_sh_legendre(a, b):
    """Legendre's polynomial of degree n at 2 x - 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_sh_legendre(3, tg.tensor([0.6, 1.0]))
    tensor([-0.2800,  1.0000])
    """
    return _gegenbauer_at(0.5, a, 2.0 * b - 1.0) if _is_degree(a) else _scipy_legendre(a, 2.0 * b - 1.0)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, a * _eval_chebyu(a - 1.0, b))),
    scipy="eval_chebyt",
    unknown=("n",),
    result=FLOATING,
)
def _eval_chebyt(a, b):
    """Chebyshev's polynomial of the first kind of degree n at x (18.9.21), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_chebyt(3, tg.tensor([0.6, 1.0]))
    tensor([-0.9360,  1.0000])
    """
    return _chebyshev_at(b, a) if _is_degree(a) else _scipy_chebyt(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, 2.0 * _eval_gegenbauer(a - 1.0, 2.0, b))),
    scipy="eval_chebyu",
    unknown=("n",),
    result=FLOATING,
)
def _eval_chebyu(a, b):
    """Chebyshev's polynomial of the second kind of degree n at x (18.7.4), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_chebyu(3, tg.tensor([0.6, 1.0]))
    tensor([-0.6720,  4.0000])
    """
    return _gegenbauer_at(1.0, a, b) if _is_degree(a) else _scipy_chebyu(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, 2.0 * a * _eval_chebyu(a - 1.0, 2.0 * b - 1.0))),
    scipy="eval_sh_chebyt",
    unknown=("n",),
    result=FLOATING,
)
def _eval_sh_chebyt(a, b):
    """Chebyshev's polynomial of the first kind of degree n at 2 x - 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_sh_chebyt(3, tg.tensor([0.6, 1.0]))
    tensor([-0.5680,  1.0000])
    """
    return _chebyshev_at(2.0 * b - 1.0, a) if _is_degree(a) else _scipy_chebyt(a, 2.0 * b - 1.0)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, 4.0 * _eval_gegenbauer(a - 1.0, 2.0, 2.0 * b - 1.0))),
    scipy="eval_sh_chebyu",
    unknown=("n",),
    result=FLOATING,
)
def _eval_sh_chebyu(a, b):
    """Chebyshev's polynomial of the second kind of degree n at 2 x - 1, elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_sh_chebyu(3, tg.tensor([0.6, 1.0]))
    tensor([-0.7360,  4.0000])
    """
    return _gegenbauer_at(1.0, a, 2.0 * b - 1.0) if _is_degree(a) else _scipy_chebyu(a, 2.0 * b - 1.0)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, a * _eval_chebys(a - 1.0, b))),
    scipy="eval_chebyc",
    unknown=("n",),
    result=FLOATING,
)
def _eval_chebyc(a, b):
    """Twice Chebyshev's polynomial of the first kind of degree n at x / 2, elementwise (18.1.3).

    >>> import tapegrad as tg
    >>> tg.special.eval_chebyc(3, tg.tensor([0.6, 1.0]))
    tensor([-1.5840, -2.0000])
    """
    return 2.0 * _chebyshev_at(0.5 * b, a) if _is_degree(a) else _scipy_chebyc(a, b)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, _eval_gegenbauer(a - 1.0, 2.0, 0.5 * b))),
    scipy="eval_chebys",
    unknown=("n",),
    result=FLOATING,
)
def _eval_chebys(a, b):
    """Chebyshev's polynomial of the second kind of degree n at x / 2, elementwise (18.1.3).

    >>> import tapegrad as tg
    >>> tg.special.eval_chebys(3, tg.tensor([0.6, 1.0]))
    tensor([-0.9840, -1.0000])
    """
    return _gegenbauer_at(1.0, a, 0.5 * b) if _is_degree(a) else _scipy_chebys(a, b)


@elementwise(
    partials=(_unknown, _unknown, lambda a, b, c: where(a == 0.0, 0.0, -_eval_genlaguerre(a - 1.0, b + 1.0, c))),
    scipy="eval_genlaguerre",
    unknown=("n", "alpha"),
    result=FLOATING,
)
def _eval_genlaguerre(a, b, c):
    """Laguerre's polynomial of degree n with the parameter alpha, at x (18.9.23), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_genlaguerre(2, 0.5, tg.tensor([0.0, 0.5]))
    tensor([1.8750, 0.7500])
    """
    return _laguerre_at(b, a, c) if _is_degree(a) else _scipy_genlaguerre(a, b, c)


@elementwise(
    partials=(_unknown, lambda a, b: where(a == 0.0, 0.0, -_eval_genlaguerre(a - 1.0, 1.0, b))),
    scipy="eval_laguerre",
    unknown=("n",),
    result=FLOATING,
)
def _eval_laguerre(a, b):
    """Laguerre's polynomial of degree n at x (18.9.23), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_laguerre(3, tg.tensor([0.6, 1.0]))
    tensor([-0.2960, -0.6667])
    """
    return _laguerre_at(0.0, a, b) if _is_degree(a) else _scipy_laguerre(a, b)


@elementwise(
    partials=(None, lambda a, b: 2.0 * trunc(a) * _eval_hermite(a - 1.0, b)), scipy="eval_hermite", result=FLOATING
)
def _eval_hermite(a, b):
    """Hermite's polynomial, the physicists', of degree n, which is cut to an integer, at x (18.9.25), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_hermite(3, tg.tensor([0.6, 1.0]))
    tensor([-5.4720, -4.0000])
    """
    return _hermite_at(2.0, a, b)


@elementwise(
    partials=(None, lambda a, b: trunc(a) * _eval_hermitenorm(a - 1.0, b)), scipy="eval_hermitenorm", result=FLOATING
)
def _eval_hermitenorm(a, b):
    """Hermite's polynomial, the probabilists', of degree n, which is cut to an integer, at x (18.9.27), elementwise.

    >>> import tapegrad as tg
    >>> tg.special.eval_hermitenorm(3, tg.tensor([0.6, 1.0]))
    tensor([-1.5840, -2.0000])
    """
    return _hermite_at(1.0, a, b)


@elementwise(
    partials=(
        _unknown,
        _unknown,
        _unknown,
        lambda a, b, c, d: where(a == 0.0, 0.0, 0.5 * (a + b + c + 1.0) * _eval_jacobi(a - 1.0, b + 1.0, c + 1.0, d)),
    ),
    scipy="eval_jacobi",
    unknown=("n", "alpha", "beta"),
    result=FLOATING,
)
def _eval_jacobi(a, b, c, d):
    """Jacobi's polynomial of degree n with the parameters alpha and beta, at x (18.9.15), elementwise."""
    return _jacobi_at(a, b, c, d) if _is_degree(a) else _scipy_jacobi(a, b, c, d)


@elementwise(
    partials=(
        _unknown,
        _unknown,
        _unknown,
        lambda a, b, c, d: where(a == 0.0, 0.0, a * _eval_sh_jacobi(a - 1.0, b + 2.0, c + 1.0, d)),
    ),
    scipy="eval_sh_jacobi",
    unknown=("n", "p", "q"),
    result=FLOATING,
)
def _eval_sh_jacobi(a, b, c, d):
    """Jacobi's polynomial of degree n with p - q and q - 1, at 2 x - 1, over binom(2n + p - 1, n) (18.1.2)."""
    if not _is_degree(a):
        return _scipy_sh_jacobi(a, b, c, d)
    return _jacobi_at(a, b - c, c - 1.0, 2.0 * d - 1.0) / _scipy_binom(2.0 * a + b - 1.0, a)
