"""NumPy's convolution, and its polynomials: vectors of coefficients, from the highest power."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import creation, linalg
from tapegrad.functions import products, shaping
from tapegrad.numpy_functions import as_tensor, flip, floating, of_one_dtype
from tapegrad.tensor import Tensor


def _all_sums(a: Tensor, v: Tensor) -> Tensor:
    """The sum of `a[n + k] v[n]`, for every k at which they overlap: `v` is the shorter."""
    m = v.numel()
    nothing = creation.zeros(m - 1, dtype=a.dtype)
    padded = shaping.cat([nothing, a, nothing])
    sums: Tensor = products.matmul(padded.unfold(0, m, 1), v)
    return sums


def correlate(a: Any, v: Any, mode: Any = "valid") -> Tensor:
    """The cross-correlation of two vectors: the sum of `a[n + k] v[n]` for every k."""
    a, v = (t.reshape(-1) for t in of_one_dtype(a, v))
    if not a.numel() or not v.numel():
        raise ValueError(f"{'first' if not a.numel() else 'second'} array argument cannot be empty")
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})")
    if a.numel() < v.numel():
        return flip(correlate(v, a, mode))
    n, m = a.numel(), v.numel()
    start, length = {"full": (0, n + m - 1), "same": (m - 1 - m // 2, n), "valid": (m - 1, n - m + 1)}[mode]
    return _all_sums(a, v).narrow(0, start, length)


def convolve(a: Any, v: Any, mode: Any = "full") -> Tensor:
    """The convolution of two vectors: the sum of `a[m] v[k - m]` for every k."""
    a, v = (as_tensor(t).reshape(-1) for t in (a, v))
    if a.numel() < v.numel():
        a, v = v, a
    if not v.numel():
        raise ValueError("v cannot be empty" if a.numel() else "a cannot be empty")
    return correlate(a, flip(v), mode)


def poly(seq_of_zeros: Any) -> Tensor:
    """The polynomial with these zeros, and 1 as its first coefficient."""
    zeros = floating(seq_of_zeros)
    if zeros.ndim != 1:
        raise ValueError("the zeros of a polynomial are a vector; of a matrix they are not recorded")
    made: Tensor = creation.ones(1, dtype=zeros.dtype)
    for zero in zeros.unbind(0):
        made = shaping.cat([made, creation.zeros(1, dtype=zeros.dtype)]) - zero * shaping.cat(
            [creation.zeros(1, dtype=zeros.dtype), made]
        )
    return made


def added(join: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    """The sum of two polynomials, or their difference."""

    def total(a1: Any, a2: Any) -> Tensor:
        a1, a2 = (t.reshape(-1) for t in of_one_dtype(a1, a2))
        n = max(a1.numel(), a2.numel())
        a1, a2 = (shaping.cat([creation.zeros(n - t.numel(), dtype=t.dtype), t]) for t in (a1, a2))
        result: Tensor = join(a1, a2)
        return result

    return total


def polymul(a1: Any, a2: Any) -> Tensor:
    """The product of two polynomials."""
    return convolve(a1, a2)


def polyder(p: Any, m: Any = 1) -> Tensor:
    """The derivative, m times."""
    if (m := operator.index(m)) < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    made = as_tensor(p)
    for _ in range(m):
        n = made.numel() - 1
        made = made[: max(n, 0)] * as_tensor(np.arange(n, 0, -1))
    return made


def polyint(p: Any, m: Any = 1, k: Any = None) -> Tensor:
    """The integral, m times, with constants of integration."""
    if (m := operator.index(m)) < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    constants = as_tensor(np.zeros(m) if k is None else k).reshape(-1)
    constants = constants.expand(m) if constants.numel() == 1 else constants
    if constants.numel() < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    made = floating(p)
    for step in range(m):
        n = made.numel()
        made = shaping.cat([made / as_tensor(np.arange(n, 0, -1.0)), constants[step : step + 1].to(made.dtype)])
    return made


def polydiv(u: Any, v: Any) -> tuple[Tensor, Tensor]:
    """The quotient and the remainder, by long division."""
    u, v = (floating(t).reshape(-1) for t in of_one_dtype(u, v))
    m, n = u.numel() - 1, v.numel() - 1
    scale, rest, quotient = 1.0 / v[0], u, []
    for k in range(m - n + 1):
        factor = scale * rest[k]
        quotient.append(factor)
        rest = shaping.cat([rest[:k], rest[k : k + n + 1] - factor * v, rest[k + n + 1 :]])
    made = shaping.stack(quotient) if quotient else creation.zeros(1, dtype=u.dtype)
    values = rest._array()
    first = 0
    while first < values.size - 1 and np.allclose(values[first], 0, rtol=1e-14):
        first += 1
    return made, rest[first:]


def polyfit(x: Any, y: Any, deg: Any, rcond: Any = None, full: Any = False, w: Any = None, cov: Any = False) -> Any:
    """The coefficients of the polynomial that is nearest to points, in the least squares."""
    if full or cov:
        raise TypeError("np.polyfit: of tensors there are coefficients only: full and cov are not understood")
    x, y = of_one_dtype(floating(x), floating(y))
    if (order := operator.index(deg) + 1) < 1:
        raise ValueError("expected deg >= 0")
    if x.ndim != 1 or not x.numel() or y.ndim not in (1, 2) or x.shape[0] != y.shape[0]:
        raise TypeError("expected vectors x and y of the same length, not empty, or a matrix y")
    powers = shaping.stack([x**k for k in range(order)][::-1], 1)
    if w is not None:
        w = as_tensor(w)
        powers, y = powers * w.unsqueeze(1), y * (w if y.ndim == 1 else w.unsqueeze(1))
    scale = (powers * powers).sum(0).sqrt()
    rcond = x.numel() * np.finfo(x.dtype.numpy).eps if rcond is None else rcond
    solved = linalg.lstsq(powers / scale, y if y.ndim == 2 else y.unsqueeze(1), rcond).solution
    coefficients = solved / scale.unsqueeze(1)
    return coefficients if y.ndim == 2 else coefficients.squeeze(1)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.poly: poly,
    np.polyder: polyder,
    np.polyint: polyint,
}
# Called as NumPy's are: either operand may be the tensor.
CALLED: dict[Any, Callable[..., Any]] = {
    np.convolve: convolve,
    np.correlate: correlate,
    np.polyadd: added(operator.add),
    np.polysub: added(operator.sub),
    np.polymul: polymul,
    np.polydiv: polydiv,
    np.polyfit: polyfit,
}
