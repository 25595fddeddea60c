"""The standard's linear algebra: its extension `linalg`, and what of it stands in the main namespace."""

from __future__ import annotations

from typing import Any, NamedTuple

from tapegrad import linalg, numpy_functions, numpy_selection
from tapegrad.functions import products
from tapegrad.functions.factorizations import SlogdetResult
from tapegrad.tensor import Tensor, describe, location
from tapegrad.xp.operands import array, dtype_or_none, named, promoted


def matmul(x1: Any, x2: Any, /) -> Tensor:
    """The products of matrices.

    >>> from tapegrad import xp
    >>> xp.matmul(xp.asarray([[1, 2], [3, 4]]), xp.asarray([1, 1]))
    tensor([3, 7])
    """
    return products.matmul(*promoted(array(x1), array(x2)))


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged.

    >>> from tapegrad import xp
    >>> xp.matrix_transpose(xp.asarray([[1, 2], [3, 4]]))
    tensor([[1, 3],
            [2, 4]])
    """
    x = array(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: {describe(x)} is no matrix, at {location()}")
    return x.mT


def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Tensor:
    """The product of arrays, summed over so many axes, or over pairs of axes.

    >>> from tapegrad import xp
    >>> xp.tensordot(xp.asarray([[1, 2], [3, 4]]), xp.asarray([1, 1]), axes=1)
    tensor([3, 7])
    """
    return numpy_functions.tensordot(array(x1), array(x2), axes)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The products of vectors along an axis, counted from the end.

    >>> from tapegrad import xp
    >>> xp.vecdot(xp.asarray([[1, 2], [3, 4]]), xp.asarray([1, 1]))
    tensor([3, 7])
    """
    return numpy_selection.vecdot(array(x1), array(x2), axis)


def outer(x1: Any, x2: Any, /) -> Tensor:
    """The products of each element of a vector with each of another.

    >>> from tapegrad import xp
    >>> xp.linalg.outer(xp.asarray([1, 2]), xp.asarray([3, 4]))
    tensor([[3, 4],
            [6, 8]])
    """
    return products.outer(*promoted(array(x1), array(x2)))


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The cross products of vectors of length 3 along an axis; the others broadcast.

    >>> from tapegrad import xp
    >>> xp.linalg.cross(xp.asarray([1, 0, 0]), xp.asarray([[0, 1, 0], [0, 0, 1]]))
    tensor([[ 0,  0,  1],
            [ 0, -1,  0]])
    """
    pair = promoted(array(x1), array(x2))
    n = max(x.ndim for x in pair)
    x1, x2 = (x.reshape((1,) * (n - x.ndim) + tuple(x.shape)) for x in pair)  # to PyTorch dimensions are as many
    return linalg.cross(x1, x2, dim=axis)


def cholesky(x: Any, /, *, upper: Any = False) -> Tensor:
    """Cholesky's factors, the lower or the upper ones.

    >>> from tapegrad import xp
    >>> xp.linalg.cholesky(xp.asarray([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    return linalg.cholesky(array(x), upper=bool(upper))


def det(x: Any, /) -> Tensor:
    """Determinants.

    >>> from tapegrad import xp
    >>> xp.linalg.det(xp.asarray([[2.0, 1.0], [4.0, 4.0]]))
    tensor(4.)
    """
    return linalg.det(array(x))


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices.

    >>> from tapegrad import xp
    >>> xp.linalg.diagonal(xp.asarray([[1, 2], [3, 4]]), offset=1)
    tensor([2])
    """
    return linalg.diagonal(array(x), offset=offset)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums over diagonals.

    >>> from tapegrad import xp
    >>> xp.linalg.trace(xp.asarray([[1, 2], [3, 4]]))
    tensor(5)
    """
    return named["sum"](diagonal(x, offset=offset), -1, dtype=dtype_or_none(dtype))


class EighResult(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """Orthonormal columns, and an upper triangle."""

    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    """Left singular vectors, singular values, descending, and right ones as rows."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues and eigenvectors of symmetric matrices.

    >>> from tapegrad import xp
    >>> xp.round(xp.linalg.eigh(xp.asarray([[2.0, 1.0], [1.0, 2.0]])).eigenvalues)
    tensor([1., 3.])
    """
    return EighResult(*linalg.eigh(array(x)))


def eigvalsh(x: Any, /) -> Tensor:
    """Eigenvalues of symmetric matrices, ascending.

    >>> from tapegrad import xp
    >>> xp.round(xp.linalg.eigvalsh(xp.asarray([[2.0, 1.0], [1.0, 2.0]])))
    tensor([1., 3.])
    """
    return linalg.eigvalsh(array(x))


def inv(x: Any, /) -> Tensor:
    """Inverses.

    >>> from tapegrad import xp
    >>> xp.linalg.inv(xp.asarray([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    return linalg.inv(array(x))


def matrix_norm(x: Any, /, *, keepdims: Any = False, ord: Any = "fro") -> Tensor:
    """Norms of matrices.

    >>> from tapegrad import xp
    >>> x = xp.asarray([[3.0, 0.0], [0.0, 4.0]])
    >>> xp.linalg.matrix_norm(x), xp.linalg.matrix_norm(x, ord=2)
    (tensor(5.), tensor(4.))
    """
    return linalg.matrix_norm(array(x), "fro" if ord is None else ord, (-2, -1), bool(keepdims))


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Tensor:
    """Norms of vectors over axes, or of all elements as one.

    >>> from tapegrad import xp
    >>> xp.linalg.vector_norm(xp.asarray([3.0, 4.0])), xp.linalg.vector_norm(xp.asarray([3.0, 4.0]), ord=1)
    (tensor(5.), tensor(7.))
    """
    x = array(x)
    if axis == ():  # each element by itself
        x, axis, keepdims = x.unsqueeze(-1), -1, False
    return numpy_functions.vector_norm(x, axis, keepdims, ord)


def matrix_power(x: Any, n: int, /) -> Tensor:
    """Powers of square matrices, of their inverses where n is negative.

    >>> from tapegrad import xp
    >>> xp.linalg.matrix_power(xp.asarray([[1.0, 1.0], [0.0, 1.0]]), -3)
    tensor([[ 1., -3.],
            [ 0.,  1.]])
    """
    return linalg.matrix_power(array(x), n)


def _relative(x: Tensor, rtol: Any) -> Any:
    """What counts as zero beside the largest singular value: the machine's precision times the longer side."""
    if rtol is None:
        return max(x.shape[-2:], default=0) * 2.0 ** (-52 if x.dtype.itemsize == 8 else -23)
    return rtol if isinstance(rtol, (int, float)) else array(rtol)


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """How many singular values count as more than zero.

    >>> from tapegrad import xp
    >>> xp.linalg.matrix_rank(xp.asarray([[1.0, 2.0], [2.0, 4.0]]))
    tensor(1)
    """
    x = array(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_rank: {describe(x)} is no matrix, at {location()}")
    return linalg.matrix_rank(x, rtol=_relative(x, rtol))


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """Pseudoinverses.

    >>> from tapegrad import xp
    >>> xp.linalg.pinv(xp.asarray([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    x = array(x)
    return linalg.pinv(x, rtol=_relative(x, rtol))


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """Matrices as products of orthonormal columns and upper triangles.

    >>> from tapegrad import xp
    >>> x = xp.asarray([[3.0, 1.0], [4.0, 2.0]])
    >>> q, r = xp.linalg.qr(x)
    >>> xp.all(xp.abs(xp.matmul(q, r) - x) < 1e-12)
    tensor(True)
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr: the mode {mode!r} is unknown, at {location()}: it is 'reduced' or 'complete'")
    return QRResult(*linalg.qr(array(x), mode))


def slogdet(x: Any, /) -> SlogdetResult:
    """Signs, and logarithms of magnitudes, of determinants.

    >>> from tapegrad import xp
    >>> xp.linalg.slogdet(xp.asarray([[0.0, 1.0], [1.0, 0.0]]))
    tapegrad.return_types.linalg_slogdet(
    sign=tensor(-1.),
    logabsdet=tensor(0.))
    """
    return linalg.slogdet(array(x))


def solve(x1: Any, x2: Any, /) -> Tensor:
    """The solutions of systems of linear equations; `x2` is a vector where it has one axis.

    >>> from tapegrad import xp
    >>> xp.linalg.solve(xp.asarray([[2.0, 0.0], [0.0, 4.0]]), xp.asarray([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    x1, x2 = promoted(array(x1), array(x2))
    # To PyTorch as many axes as `x1` has but one may be vectors, too.
    return linalg.solve(x1, x2.unsqueeze(0) if 1 < x2.ndim == x1.ndim - 1 else x2)


def svd(x: Any, /, *, full_matrices: Any = True) -> SVDResult:
    """Singular values and vectors.

    >>> from tapegrad import xp
    >>> xp.linalg.svd(xp.asarray([[3.0, 0.0], [0.0, 4.0]])).S
    tensor([4., 3.])
    """
    return SVDResult(*linalg.svd(array(x), bool(full_matrices)))


def svdvals(x: Any, /) -> Tensor:
    """Singular values, descending.

    >>> from tapegrad import xp
    >>> xp.linalg.svdvals(xp.asarray([[3.0, 0.0], [0.0, 4.0]]))
    tensor([4., 3.])
    """
    return linalg.svdvals(array(x))


__all__ = [
    "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm", "matrix_power",
    "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot",
    "trace", "vecdot", "vector_norm",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
