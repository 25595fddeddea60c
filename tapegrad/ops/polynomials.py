"""Orthogonal polynomials of degree b, which is cut to an integer; they are 0 where it is negative."""

from tapegrad.ops.declare import FLOATING, elementwise


@elementwise(partials=(None, None, lambda a, b, c: 2.0 * a * _gegenbauer(a + 1.0, b - 1.0, c)), result=FLOATING)
def _gegenbauer(a, b, c):
    """Gegenbauer's polynomials of degree b in c (18.9.1, 18.9.19): of a = 1/2 Legendre's, of 1 Chebyshev's U."""
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(1, n + 1):
        before, value = value, (2.0 * (k + a - 1.0) * c * value - (k + 2.0 * a - 2.0) * before) / k
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(lambda a, b: b * _gegenbauer(1.0, b - 1.0, a), None), result=FLOATING)
def _chebyshev_t(a, b):
    """Chebyshev's polynomials of the first kind (18.9.21), elementwise."""
    n = int(b) if b == b else 0
    before, value = a, 0.0 * a + 1.0
    for _ in range(n):
        before, value = value, 2.0 * a * value - before
    return value if n >= 0 else 0.0 * a


@elementwise(partials=(None, None, lambda a, b, c: -_laguerre(a + 1.0, b - 1.0, c)), result=FLOATING)
def _laguerre(a, b, c):
    """Laguerre's polynomials of degree b in c, with the parameter a (18.9.1, 18.9.23), elementwise."""
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(n):
        before, value = value, ((2 * k + 1 + a - c) * value - (k + a) * before) / (k + 1)
    return value if n >= 0 else 0.0 * c


@elementwise(partials=(None, None, lambda a, b, c: a * b * _hermite(a, b - 1.0, c)), result=FLOATING)
def _hermite(a, b, c):
    """Hermite's polynomials of degree b in c (18.9.1, 18.9.25): of a = 2 the physicists', of 1 the others."""
    n = int(b) if b == b else 0
    before, value = 0.0 * c, 0.0 * c + 1.0
    for k in range(n):
        before, value = value, a * (c * value - k * before)
    return value if n >= 0 else 0.0 * c
