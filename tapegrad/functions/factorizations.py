"""Solutions, inverses, determinants and Cholesky's factors of matrices: what `tapegrad.linalg` shows.

Values may be such that there is no answer. What can fail so is computed when it is recorded, so that `LinAlgError` is
raised at its line, where a `try` waits for it; everything is left as it was.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from tapegrad.arguments import EXACT, Dims, Number, Surface, checked
from tapegrad.dtypes import DType
from tapegrad.engine import LinAlgError
from tapegrad.functions import elementwise, reductions
from tapegrad.functions.shaping import contiguous, dimension
from tapegrad.ops import factorization
from tapegrad.recording import local, record_array
from tapegrad.tape import VARIANT
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface(EXACT)
linalg = functools.partial(checked, prefix="linalg.")
_NAMES = {"float64": "Double", "float32": "Float", "int64": "Long", "int32": "Int", "bool": "Bool"}


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor

    def __repr__(self) -> str:
        return f"tapegrad.return_types.linalg_slogdet(\nsign={self[0]!r},\nlogabsdet={self[1]!r})"


def _at(name: str, *operands: Tensor) -> str:
    return f"{name}({describe(*operands)}), recorded at {location()}"


def _matrices(name: str, a: Tensor, argument: str = "A") -> Tensor:
    """Square matrices of floating-point numbers; PyTorch's errors for all else."""
    if a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {argument} must have at least 2 dimensions. {_at(name, a)}")
    m, n = a._kind.shape[-2:]
    if m != n:
        raise RuntimeError(
            f"{name}: {argument} must be batches of square matrices, but they are {m} by {n} matrices. {_at(name, a)}"
        )
    if not a.dtype.is_floating_point:
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {_NAMES[a.dtype.name]}. "
            f"{_at(name, a)}: convert it with .to(tapegrad.float64)"
        )
    return local(a)


def _right_side(name: str, a: Tensor, b: Tensor, left: bool) -> Tensor:
    """A right-hand side that fits to `a`."""
    if b.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor B must have at least 2 dimensions. {_at(name, a, b)}")
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {_NAMES[a.dtype.name]} and B of "
            f"type {_NAMES[b.dtype.name]} instead. {_at(name, a, b)}: convert one with .to(...)"
        )
    n, (p, q) = a._kind.shape[-1], b._kind.shape[-2:]
    if n != (p if left else q):
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation {'AX' if left else 'XA'} = B ({n}x{n} and "
            f"{p}x{q}). {_at(name, a, b)}"
        )
    return local(b)


def _batched(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the batch dimensions that they are broadcast to."""
    if a._kind.shape[:-2] == b._kind.shape[:-2]:
        return a, b
    heads = [t._kind.shape[:-2] for t in (a, b)]
    n = max(map(len, heads))
    left, right = ((1,) * (n - len(head)) + head for head in heads)
    for d, (u, v) in enumerate(zip(left, right, strict=True)):
        if u != v and 1 not in (u, v):
            raise RuntimeError(
                f"The size of tensor a ({u}) must match the size of tensor b ({v}) at non-singleton dimension {d}. "
                f"{_at(name, a, b)}"
            )
    batch = tuple(v if u == 1 else u for u, v in zip(left, right, strict=True))
    return a.expand(*batch, *a._kind.shape[-2:]), b.expand(*batch, *b._kind.shape[-2:])


def _n_batch(a: Tensor) -> int:
    return math.prod(a._kind.shape[:-2])


@linalg
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L of a positive-definite A = L L', or with `upper` the upper triangular U of A = U' U.

    Only that triangle of A is read; the gradient is that of a symmetric A, and symmetric.

    Raises
    ------
    LinAlgError
        Where A is not positive-definite.

    >>> import tapegrad as tg
    >>> tg.linalg.cholesky(tg.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    a = contiguous(_matrices("linalg.cholesky", A))
    n = a._kind.shape[-1]
    room = (2 if upper else 1) * n * n + factorization.BLOCK**2
    return record_array(factorization.cholesky, a._kind.shape, a.dtype, a, params=(_n_batch(a), n, int(upper), room))


@linalg
def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """The X of A X = B, or of X A = B without `left`, for a triangular A, of which only that triangle is read.

    With `unitriangular` the diagonal is not read either, but taken to be ones. A zero on the diagonal gives inf and
    nan, not an error.

    >>> import tapegrad as tg
    >>> L = tg.tensor([[2.0, 0.0], [1.0, 2.0]])
    >>> tg.linalg.solve_triangular(L, tg.tensor([[2.0], [5.0]]), upper=False)
    tensor([[1.],
            [2.]])
    """
    a = _matrices("linalg.solve_triangular", A)
    b = _right_side("linalg.solve_triangular", a, B, left)
    return _triangular(*_batched("linalg.solve_triangular", a, b), upper, left, unitriangular)


def _triangular(a: Tensor, b: Tensor, upper: bool, left: bool, unit: bool, flags: int = 0) -> Tensor:
    trans = False
    if not a._kind.contiguous:  # a transpose is read as it lies in memory
        turned = a.mT
        if turned._kind.contiguous:
            a, upper, trans = turned, not upper, True
    a, b = contiguous(a), contiguous(b)
    n, columns, n_batch = a._kind.shape[-1], b._kind.shape[-1 if left else -2], _n_batch(a)
    facts = (int(upper), int(left), int(unit), int(trans))
    params = (n_batch, n, columns, *facts, n_batch * n * columns + n * n)
    return record_array(factorization.solve_triangular, b._kind.shape, b.dtype, a, b, params=params, flags=flags)


def _factors(a: Tensor) -> Tensor:
    """The row with the factors of contiguous matrices, which stands for them."""
    n = a._kind.shape[-1]
    return record_array(factorization.lu_factor, (*a._kind.shape[:-2], n + 1, n), a.dtype, a, params=(_n_batch(a), n))


@linalg
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The X of A X = B, or of X A = B without `left`.

    B holds vectors where it has one dimension, or the shape of A but for the last dimension; else matrices.

    Raises
    ------
    LinAlgError
        Where A is singular.

    >>> import tapegrad as tg
    >>> tg.linalg.solve(tg.tensor([[2.0, 0.0], [1.0, 2.0]]), tg.tensor([2.0, 5.0]))
    tensor([1., 2.])
    """
    a = _matrices("linalg.solve", A)
    vector = B.ndim == 1 or (a.ndim - 1 == B.ndim and B._kind.shape == a._kind.shape[:-1])
    b = _right_side("linalg.solve", a, B.unsqueeze(-1) if vector else B, left)
    a, b = _batched("linalg.solve", a, b)
    if not left:
        return solve(a.mT, b.mT).mT
    a, b = contiguous(a), contiguous(b)
    (n, m), n_batch = b._kind.shape[-2:], _n_batch(a)
    x = _record_solve(_factors(a), b, (n_batch, n, m, 0, n_batch * n * m))
    return x.squeeze(-1) if vector else x


@linalg
def inv(A: Tensor) -> Tensor:
    """The inverse. Where it would be multiplied by something, `solve` is quicker and more accurate.

    Raises
    ------
    LinAlgError
        Where A is singular.
    """
    a = contiguous(_matrices("linalg.inv", A))
    return _record_inv(_factors(a))


def _of_factors(op: Any, factors: Tensor) -> Tensor:
    """A number for each matrix."""
    *batch, _, n = factors._kind.shape
    params = (math.prod(batch), n, n * n + (n + 1) * n)
    return record_array(op, tuple(batch), factors.dtype, factors, params=params)


@public
def det(A: Tensor) -> Tensor:
    """The determinant.

    Its gradient is the matrix of cofactors, where A is singular too; derivatives of it exist only where A is not.

    >>> import tapegrad as tg
    >>> tg.linalg.det(tg.tensor([[2.0, 0.0], [1.0, 2.0]]))
    tensor(4.)
    """
    return _of_factors(factorization.det, _factors(contiguous(_matrices("linalg.det", A))))


@public
def slogdet(A: Tensor) -> SlogdetResult:
    """The determinant as a pair (sign, logabsdet): the sign, 0 where A is singular, and the logarithm of the rest."""
    return _slogdet("linalg.slogdet", A)


def _slogdet(name: str, A: Any) -> SlogdetResult:
    factors = _factors(contiguous(_matrices(name, A)))
    sign = _of_factors(factorization.sign_of_det, factors)
    return SlogdetResult(sign, _of_factors(factorization.log_abs_det, factors))


@public
def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant; nan where that is negative.

    >>> import tapegrad as tg
    >>> tg.logdet(tg.eye(3))
    tensor(0.)
    """
    sign, logabsdet = _slogdet("logdet", input)
    return elementwise.where(sign < 0, math.nan, logabsdet)


@public
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """The X of A X = B, given Cholesky's factor of A: `L`, lower triangular, or with `upper` upper triangular."""
    if L.ndim < 2 or B.ndim < 2:
        short, which = (B, "b") if B.ndim < 2 else (L, "u")
        raise RuntimeError(
            f"{which} should have at least 2 dimensions, but has {short.ndim} dimensions instead. "
            f"{_at('cholesky_solve', B, L)}"
        )
    (m, n), (p, q) = L._kind.shape[-2:], B._kind.shape[-2:]
    if m != n:
        raise RuntimeError(
            f"A must be batches of square matrices, but they are {m} by {n} matrices. {_at('cholesky_solve', B, L)}"
        )
    if n != p:
        raise RuntimeError(
            f"Incompatible matrix sizes for cholesky_solve: each A matrix is {n} by {n} but each b matrix is {p} by "
            f"{q}. {_at('cholesky_solve', B, L)}"
        )
    if B.dtype is not L.dtype:
        raise RuntimeError(
            f"Expected b and A to have the same dtype, but found b of type {_NAMES[B.dtype.name]} and A of type "
            f"{_NAMES[L.dtype.name]} instead. {_at('cholesky_solve', B, L)}"
        )
    factor, b = _batched("cholesky_solve", _matrices("cholesky_solve", L), local(B))
    lower = factor.mT if upper else factor
    return _triangular(lower.mT, _triangular(lower, b, False, True, False), True, True, False, VARIANT)


@linalg
def vector_norm(
    x: Tensor, ord: Number = 2, dim: Dims | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:  # fmt: skip
    """The norm of order `ord`, a number or inf or -inf, of vectors: over all dimensions, or those given."""
    return reductions.norm(x, ord, dim, keepdim, dtype)


@linalg
def matrix_norm(
    A: Tensor, ord: Number | str = "fro", dim: Dims = (-2, -1), keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:  # fmt: skip
    """The norm of matrices: "fro", the root of the sum of squares; 1 or inf, the largest sum of a column or row.

    -1 and -inf are the smallest.

    Raises
    ------
    ValueError
        For the norms that need singular values: 2, -2 and "nuc".
    """
    if A.ndim < 2:
        raise RuntimeError(
            f"linalg.matrix_norm: The input tensor A must have at least 2 dimensions. {_at('linalg.matrix_norm', A)}"
        )
    if isinstance(dim, int) or len(dim) != 2:
        raise (TypeError if isinstance(dim, int) else RuntimeError)(
            f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}"
        )
    rows, columns = (dimension(d, A.ndim) for d in dim)
    if rows == columns:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got {tuple(dim)}")
    if ord == "fro":
        return reductions.norm(A, 2, dim, keepdim, dtype)
    if ord in (2, -2, "nuc"):
        raise ValueError(f"linalg.matrix_norm: Order {ord} not supported: it needs singular values")
    if ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported: it is 'fro', 1, -1, inf or -inf")
    summed, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = reductions.norm(A, 1, summed, True, dtype)
    largest = (reductions.amax if ord > 0 else reductions.amin)(sums, left, True)
    if keepdim:
        return largest
    return largest.squeeze(dim)


@linalg
def norm(
    A: Tensor, ord: Number | str | None = None, dim: Dims | None = None, keepdim: bool = False, *,
    dtype: DType | None = None,
) -> Tensor:  # fmt: skip
    """A vector norm; or a matrix norm, where two dimensions are given, or `ord` is and A is a matrix.

    >>> import tapegrad as tg
    >>> tg.linalg.norm(tg.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor(5.)
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None and A.ndim not in (1, 2):
        raise RuntimeError(
            f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D. "
            f"{_at('linalg.norm', A)}"
        )
    dims = tuple(range(A.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if dim is not None and len(dims) not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    if len(dims) == 2 or isinstance(ord, str):
        return matrix_norm(A, ord, dims, keepdim, dtype=dtype)
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


@public
def inverse(input: Tensor) -> Tensor:
    """The inverse: `tapegrad.linalg.inv`."""
    return inv(input)


def _record_triangular(a: Tensor, b: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(factorization.solve_triangular, b._kind.shape, b.dtype, contiguous(a), contiguous(b), params=p)


def _record_solve(factors: Tensor, b: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(factorization.solve, b._kind.shape, b.dtype, factors, contiguous(b), params=p)


def _record_inv(factors: Tensor) -> Tensor:
    *batch, _, n = factors._kind.shape
    params = (math.prod(batch), n, n * n)
    return record_array(factorization.inv, (*batch, n, n), factors.dtype, factors, params=params)


factorization.solve_triangular.record = _record_triangular
factorization.solve.record = _record_solve
factorization.inv.record = _record_inv
__all__ = [
    "LinAlgError", "cholesky", "det", "inv", "matrix_norm", "norm", "slogdet", "solve", "solve_triangular",
    "vector_norm",
]  # fmt: skip
