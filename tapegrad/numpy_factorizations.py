"""NumPy's factorisations and solvers, with NumPy's parameters and the results that it names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad import linalg
from tapegrad.numpy_functions import floating, of_one_dtype, of_values, vector_norm
from tapegrad.tensor import Tensor

_ONE = np.eye(1)
_results: Any = (np.linalg.eigh(_ONE), np.linalg.svd(_ONE), np.linalg.qr(_ONE))
_EIGH, _SVD, _QR = (type(made) for made in _results)


def eigh(a: Tensor, UPLO: Any = "L") -> Any:
    """Eigenvalues of symmetric matrices, ascending, and eigenvectors."""
    return _EIGH(*linalg.eigh(floating(a), UPLO))


def svd(a: Tensor, full_matrices: Any = True, compute_uv: Any = True, hermitian: Any = False) -> Any:
    """Singular values, descending, and their vectors; without `compute_uv` the values alone.

    Of a symmetric matrix (`hermitian`) they are the same.
    """
    a = floating(a)
    if hermitian:
        a = a.tril() + a.tril(-1).mT
    return _SVD(*linalg.svd(a, bool(full_matrices))) if compute_uv else linalg.svdvals(a)


def qr(a: Tensor, mode: Any = "reduced") -> Any:
    """Orthonormal columns and an upper triangle; with mode "r" that alone."""
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"Unrecognized mode '{mode}': of tensors it is 'reduced', 'complete' or 'r'")
    q, r = linalg.qr(floating(a), mode)
    return r if mode == "r" else _QR(q, r)


def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """The least-squares solution, the sums of squared residuals, the rank, and singular values."""
    a, b = of_one_dtype(floating(a), floating(b))
    if a.ndim != 2:
        raise np.linalg.LinAlgError(f"{a.ndim}-dimensional array given. Array must be two-dimensional")
    if a.shape[0] != b.shape[0]:
        raise np.linalg.LinAlgError("Incompatible dimensions")
    x, residuals, rank, _ = linalg.lstsq(a, b, None if rcond is None or rcond < 0 else rcond, driver="gelsd")
    if b.ndim == 1 and residuals.ndim == 0:
        residuals = residuals.reshape(1)
    return x, residuals, int(rank.item()), linalg.svdvals(a)


def pinv(a: Tensor, rcond: Any = None, hermitian: Any = False, rtol: Any = None) -> Any:
    """The pseudoinverse; singular values up to 1e-15 times the largest count as zero."""
    given = rcond if rcond is not None else rtol
    return linalg.pinv(floating(a), 1e-15 if given is None else given, bool(hermitian))


def cond(x: Tensor, p: Any = None) -> Any:
    """The condition number."""
    return linalg.cond(floating(x), p)


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """The x of tensordot(a, x) = b; `axes` of `a` are moved to its end before."""
    a, b = of_one_dtype(floating(a), floating(b))
    return linalg.tensorsolve(a, b, None if axes is None else tuple(axes))


def norm(x: Tensor, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """A norm of all elements; or of vectors along an axis, or matrices in two."""
    x = floating(x)
    if isinstance(axis, list):
        raise TypeError("'axis' must be None, an integer or a tuple of integers")
    if axis is not None and x.ndim == 0:
        raise np.exceptions.AxisError(0, 0)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if hasattr(axis, "__index__") else tuple(axis)
    if ord is None and (axis is None or len(axes) in (1, 2)):
        return linalg.vector_norm(x, 2, axes or None, bool(keepdims))
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ValueError(f"Invalid norm order '{ord}' for vectors")
        return vector_norm(x, axes, keepdims, ord)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    return _of_matrices(x, ord, axes, keepdims)


def _of_matrices(x: Tensor, ord: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    if ord not in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise ValueError("Invalid norm order for matrices.")
    return linalg.matrix_norm(x, ord, axes, bool(keepdims))


def matrix_norm(x: Any, keepdims: Any = False, ord: Any = "fro") -> Any:
    """A norm of matrices."""
    return _of_matrices(floating(x), ord, (-2, -1), keepdims)


def _complex(name: str) -> Any:
    def refuse(a: Tensor) -> Any:
        return getattr(linalg, name)(floating(a))

    return refuse


FUNCTIONS: dict[Any, Any] = {
    np.linalg.eigh: eigh,
    np.linalg.eigvalsh: lambda a, UPLO="L": linalg.eigvalsh(floating(a), UPLO),
    np.linalg.eig: _complex("eig"),
    np.linalg.eigvals: _complex("eigvals"),
    np.linalg.svd: svd,
    np.linalg.svdvals: lambda x: linalg.svdvals(floating(x)),
    np.linalg.qr: qr,
    np.linalg.lstsq: lstsq,
    np.linalg.pinv: pinv,
    np.linalg.cond: cond,
    np.linalg.tensorinv: lambda a, ind=2: linalg.tensorinv(floating(a), ind),
    np.linalg.tensorsolve: tensorsolve,
    np.linalg.norm: norm,
    np.linalg.matrix_norm: matrix_norm,
}
CALLED: dict[Any, Any] = {np.linalg.matrix_rank: of_values(np.linalg.matrix_rank)}
