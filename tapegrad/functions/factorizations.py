"""Solutions, inverses, determinants and Cholesky's factors of matrices: what `tapegrad.linalg` shows.

Values may be such that there is no answer. What can fail so is computed when it is recorded, so that `LinAlgError` is
raised at its line, where a `try` waits for it; everything is left as it was.
"""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

from tapegrad import creation
from tapegrad.arguments import EXACT, Surface, checked
from tapegrad.dtypes import INT32, DType
from tapegrad.engine import LinAlgError
from tapegrad.functions import elementwise
from tapegrad.functions.shaping import cat, contiguous
from tapegrad.kinds import kind_of
from tapegrad.ops import factorization, pivoted
from tapegrad.recording import cast, local, record_array, record_layout
from tapegrad.tape import VARIANT
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface(EXACT)
linalg = functools.partial(checked, prefix="linalg.", out=EXACT)


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor

    def __repr__(self) -> str:
        return f"tapegrad.return_types.linalg_slogdet(\nsign={self[0]!r},\nlogabsdet={self[1]!r})"


def results(name: str, fields: str) -> Any:
    """The type of what a function gives that has several results, as PyTorch shows it."""
    made: Any = namedtuple(name, fields)  # type: ignore[misc]
    made.__module__ = "tapegrad.return_types"

    def shown(self: Any) -> str:
        parts = ",\n".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
        return f"tapegrad.return_types.{name}(\n{parts})"

    made.__repr__ = shown
    return made


_CHOLESKY_EX, _INV_EX = results("linalg_cholesky_ex", "L info"), results("linalg_inv_ex", "inverse info")
_SOLVE_EX = results("linalg_solve_ex", "result info")
_LU, _LU_FACTOR = results("linalg_lu", "P L U"), results("linalg_lu_factor", "LU pivots")
_LU_FACTOR_EX, _LU_UNPACK = results("linalg_lu_factor_ex", "LU pivots info"), results("lu_unpack", "P L U")
_LDL, _LDL_EX = results("linalg_ldl_factor", "LD pivots"), results("linalg_ldl_factor_ex", "LD pivots info")
_TRIANGULAR_SOLVE = results("triangular_solve", "solution cloned_coefficient")


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
            f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype.scalar_type}. "
            f"{_at(name, a)}: convert it with .to(tapegrad.float64)"
        )
    return local(a)


def _right_side(name: str, a: Tensor, b: Tensor, left: bool) -> Tensor:
    """A right-hand side that fits to `a`."""
    if b.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor B must have at least 2 dimensions. {_at(name, a, b)}")
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {a.dtype.scalar_type} and B of "
            f"type {b.dtype.scalar_type} instead. {_at(name, a, b)}: convert one with .to(...)"
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

    >>> import tapegrad as tg
    >>> tg.linalg.inv(tg.tensor([[2.0, 1.0], [0.0, 4.0]]))
    tensor([[ 0.5000, -0.1250],
            [ 0.0000,  0.2500]])
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

    Its gradient is the matrix of cofactors, where A is singular too, and so is that of the gradient; derivatives of
    third order are there only where A is not singular.

    >>> import tapegrad as tg
    >>> tg.linalg.det(tg.tensor([[2.0, 0.0], [1.0, 2.0]]))
    tensor(4.)
    """
    return _of_factors(factorization.det, _factors(contiguous(_matrices("linalg.det", A))))


@public
def slogdet(A: Tensor) -> SlogdetResult:
    """The determinant as a pair (sign, logabsdet): the sign, 0 where A is singular, and the logarithm of the rest.

    >>> import tapegrad as tg
    >>> sign, logarithm = tg.linalg.slogdet(tg.tensor([[2.0, 1.0], [0.0, -4.0]]))
    >>> sign, logarithm.exp()
    (tensor(-1.), tensor(8.0000))
    """
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
    """The X of A X = B, given Cholesky's factor of A: `L`, lower triangular, or with `upper` upper triangular.

    >>> import tapegrad as tg
    >>> L = tg.tensor([[2.0, 0.0], [1.0, 2.0]])
    >>> tg.cholesky_solve(tg.tensor([[8.0], [8.0]]), L)  # (L @ L.T) x = b
    tensor([[1.5000],
            [1.0000]])
    """
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
            f"Expected b and A to have the same dtype, but found b of type {B.dtype.scalar_type} and A of type "
            f"{L.dtype.scalar_type} instead. {_at('cholesky_solve', B, L)}"
        )
    factor, b = _batched("cholesky_solve", _matrices("cholesky_solve", L), local(B))
    lower = factor.mT if upper else factor
    return _triangular(lower.mT, _triangular(lower, b, False, True, False), True, True, False, VARIANT)


# --- factors that may not exist, with what is known of that -----------------------------------------------------------


def _about(op: Any, a: Tensor, params: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """An int32 for each matrix, or more: read off their values."""
    return record_array(op, shape, INT32, a, params=params)


def _checked(info: Tensor, check_errors: bool, function: Callable[[], Any], prefix: str) -> None:
    """Raise what the function says of a matrix that has no answer, under another function's name."""
    if check_errors and (info != 0).any().item():
        try:
            function()
        except LinAlgError as error:
            raise LinAlgError(f"{prefix}:{str(error).partition(':')[2]}") from None


@linalg
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """Cholesky's factor, and for each matrix the order of the first minor that is not positive-definite, 0 for none.

    The factor of a matrix that has none is nan.

    >>> import tapegrad as tg
    >>> tg.linalg.cholesky_ex(-tg.eye(2)).info
    tensor(1, dtype=tapegrad.int32)
    """
    a = contiguous(_matrices("linalg.cholesky_ex", A))
    n, shape = a._kind.shape[-1], a._kind.shape[:-2]
    try:
        return _CHOLESKY_EX(cholesky(a, upper=upper), creation.zeros(*shape, dtype=INT32))
    except LinAlgError:
        room = 2 * n * n  # memory is counted in elements of the result, which are half as large as those of float64
        info = _about(factorization._indefinite_orders, a.detach(), (_n_batch(a), n, int(upper), room), shape)
        _checked(info, check_errors, lambda: cholesky(a.detach(), upper=upper), "linalg.cholesky_ex")
    bad = (info != 0).unsqueeze(-1).unsqueeze(-1)
    factor = cholesky(elementwise.where(bad, creation.eye(n, dtype=a.dtype), a), upper=upper)
    return _CHOLESKY_EX(elementwise.where(bad, math.nan, factor), info)


def _with_info(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices, the identity for those that are singular; which these are; and the numbers of their zero pivots."""
    a = contiguous(a)
    n, shape = a._kind.shape[-1], a._kind.shape[:-2]
    info = _about(factorization._zero_pivots, _factors(a.detach()), (_n_batch(a), n), shape)
    bad = (info != 0).unsqueeze(-1).unsqueeze(-1)
    return elementwise.where(bad, creation.eye(n, dtype=a.dtype), a) if bad.any().item() else a, bad, info


@linalg
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """The inverse, and for each matrix the number of the first pivot that is zero, 0 for none.

    The inverse of a singular matrix is nan.

    >>> import tapegrad as tg
    >>> tg.linalg.inv_ex(tg.tensor([[1.0, 2.0], [3.0, 4.0]])).inverse
    tensor([[-2.0000,  1.0000],
            [ 1.5000, -0.5000]])
    """
    a, bad, info = _with_info(_matrices("linalg.inv_ex", A))
    _checked(info, check_errors, lambda: inv(A.detach()), "linalg.inv_ex")
    inverse = inv(a)
    return _INV_EX(elementwise.where(bad, math.nan, inverse) if bad.any().item() else inverse, info)


@linalg
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """The solution of `solve`, and for each matrix the number of the first pivot that is zero, 0 for none.

    The solution with a singular matrix is nan.

    >>> import tapegrad as tg
    >>> tg.linalg.solve_ex(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.ones(2)).result
    tensor([-1.,  1.])
    """
    a, bad, info = _with_info(_matrices("linalg.solve_ex", A))
    _checked(info, check_errors, lambda: solve(A.detach(), B.detach(), left=left), "torch.linalg.solve_ex")
    result = solve(a, B, left=left)
    if bad.any().item():
        bad = bad.squeeze(-1) if result.ndim == a.ndim - 1 else bad
        result = elementwise.where(bad, math.nan, result)
    return _SOLVE_EX(result, info)


@public
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, given Cholesky's factor of A: `L`, lower triangular, or with `upper` upper triangular.

    >>> import tapegrad as tg
    >>> tg.cholesky_inverse(tg.tensor([[2.0]]))
    tensor([[0.2500]])
    """
    factor = _matrices("cholesky_inverse", L)
    one = creation.eye(factor._kind.shape[-1], dtype=factor.dtype)
    return cholesky_solve(one.expand(*factor._kind.shape), factor, upper)


def _cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """Cholesky's factor: `tapegrad.linalg.cholesky`."""
    try:
        return cholesky(input, upper=upper)
    except LinAlgError as error:
        raise LinAlgError(str(error).removeprefix("linalg.")) from None


_cholesky.__name__ = "cholesky"
public(_cholesky)


@public
def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:  # fmt: skip
    """The X of A X = b, or of A' X = b, for a triangular A, and a copy of A: as `tapegrad.linalg.solve_triangular`.

    >>> import tapegrad as tg
    >>> tg.triangular_solve(tg.tensor([[2.0], [4.0]]), tg.tensor([[1.0, 9.0], [0.0, 2.0]])).solution
    tensor([[-16.],
            [  2.]])
    """
    a = _matrices("triangular_solve", A)
    right = _right_side("triangular_solve", a, b, True)
    a, right = _batched("triangular_solve", a, right)
    if transpose:
        solution = _triangular(a.mT, right, not upper, True, unitriangular)
    else:
        solution = _triangular(a, right, upper, True, unitriangular)
    return _TRIANGULAR_SOLVE(solution, a.clone())


# --- LU ---------------------------------------------------------------------------------------------------------------


def _packed(name: str, A: Tensor, pivot: bool) -> tuple[Tensor, Tensor]:
    """The packed factors, and the interchanges of rows."""
    if A.ndim < 2:
        raise RuntimeError(
            f"{name}: Expected tensor with 2 or more dimensions. Got size: {list(A._kind.shape)} instead. "
            f"{_at(name, A)}"
        )
    if not A.dtype.is_floating_point:
        raise NotImplementedError(f"\"lu_cpu\" not implemented for '{A.dtype.scalar_type}': {_at(name, A)}")
    if not pivot:
        raise RuntimeError(f"linalg.lu_factor: LU without pivoting is not implemented on the CPU: {_at(name, A)}")
    a = contiguous(local(A))
    *batch, m, n = a._kind.shape
    r, n_batch = min(m, n), math.prod(batch)
    facts = (n_batch, m, n, m * n + 2 * r * r)
    size = n_batch * r
    row = record_array(pivoted.lu_exchanged, (n_batch * m * n + size,), a.dtype, a, params=facts)
    kind = kind_of(a.dtype, (*batch, m, n), requires_grad=row._kind.requires_grad)
    packed = record_layout(pivoted._of_lu, row, kind, 0)
    return packed, _about(pivoted.integers_of, row.detach(), (n_batch, n_batch * m * n, r, 0, r), (*batch, r))


def _zero_pivot_of(packed: Tensor) -> Tensor:
    """The number, from 1, of the first zero on the diagonal of each matrix; 0 for none."""
    diagonal = packed.detach().diagonal(0, -2, -1)
    r = diagonal._kind.shape[-1]
    if not r:
        return creation.zeros(*diagonal._kind.shape[:-1], dtype=INT32)
    numbers = elementwise.where(diagonal == 0, creation.arange(1, r + 1, dtype=INT32), r + 1)
    first = numbers.amin(-1)
    return elementwise.where(first > r, 0, first).to(INT32)


@linalg
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """The factors of A = P L U, packed, the interchanges of rows, and the number of the first pivot that is zero.

    >>> import tapegrad as tg
    >>> tg.linalg.lu_factor_ex(tg.tensor([[1.0, 2.0], [2.0, 4.0]])).info  # the second pivot is 0
    tensor(2, dtype=tapegrad.int32)
    """
    packed, pivots = _packed("torch.lu_factor", A, pivot)
    info = _zero_pivot_of(packed)
    if check_errors:
        _check_pivots("torch.linalg.lu_factor_ex", packed, info)
    return _LU_FACTOR_EX(packed, pivots, info)


def _check_pivots(name: str, packed: Tensor, info: Tensor) -> None:
    numbers = info.reshape(-1).tolist()
    for batch, k in enumerate(numbers):
        if k:
            which = f"(Batch element {batch}): " if packed.ndim > 2 else ""
            raise LinAlgError(
                f"{name}: {which}U[{k},{k}] is zero and using it on lu_solve would result in a division by zero. If "
                f"you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
                f"linalg.lu_factor_ex(A, pivot). {_at(name, packed)}"
            )


@linalg
def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """The factors of A = P L U, packed in one matrix, and the interchanges of rows, from 1, as LAPACK has them.

    Raises
    ------
    LinAlgError
        Where a pivot is zero; `lu_factor_ex` says which instead.

    >>> import tapegrad as tg
    >>> LU, pivots = tg.linalg.lu_factor(tg.tensor([[1.0, 2.0], [4.0, 4.0]]))
    >>> LU
    tensor([[4.0000, 4.0000],
            [0.2500, 1.0000]])
    >>> pivots
    tensor([2, 2], dtype=tapegrad.int32)
    """
    packed, pivots = _packed("torch.lu_factor", A, pivot)
    _check_pivots("torch.linalg.lu_factor", packed, _zero_pivot_of(packed))
    return _LU_FACTOR(packed, pivots)


def _permutation(pivots: Tensor, m: int, dtype: DType) -> Tensor:
    """The P of A = P L U."""
    *batch, r = pivots._kind.shape
    facts = (math.prod(batch), m, r)
    as_numbers = contiguous(cast(local(pivots), dtype))
    return record_array(pivoted.permutation_matrix, (*batch, m, m), dtype, as_numbers, params=facts)


@linalg
def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """The factors of A = P L U: a permutation, a lower triangle with ones on its diagonal, and an upper one.

    >>> import tapegrad as tg
    >>> P, L, U = tg.linalg.lu(tg.tensor([[1.0, 2.0], [4.0, 4.0]]))
    >>> P @ L @ U
    tensor([[1., 2.],
            [4., 4.]])
    """
    packed, pivots = _packed("torch.lu_factor", A, pivot)
    m = packed._kind.shape[-2]
    return _LU(_permutation(pivots, m, packed.dtype), *_triangles(packed))


def _triangles(packed: Tensor) -> tuple[Tensor, Tensor]:
    m, n = packed._kind.shape[-2:]
    r = min(m, n)
    lower = packed[..., :r].tril(-1) + creation.eye(m, r, dtype=packed.dtype)
    return lower, packed[..., :r, :].triu()


@public
def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """The P, L and U that `tapegrad.linalg.lu_factor` has packed; without `unpack_pivots` P is empty, and so on.

    >>> import tapegrad as tg
    >>> a = tg.tensor([[1.0, 2.0], [2.0, 2.0]])
    >>> P, L, U = tg.lu_unpack(*tg.linalg.lu_factor(a))
    >>> L, U
    (tensor([[1.0000, 0.0000],
            [0.5000, 1.0000]]), tensor([[2., 2.],
            [0., 1.]]))
    >>> bool((P @ L @ U == a).all())
    True
    """
    if unpack_pivots and LU_pivots.dtype is not INT32:
        raise RuntimeError(
            f"torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype. "
            f"{_at('lu_unpack', LU_data, LU_pivots)}: it is what lu_factor gives"
        )
    if LU_data.ndim < 2:
        raise RuntimeError(
            f"torch.lu_unpack: The input tensor LU_data must have at least 2 dimensions. {_at('lu_unpack', LU_data)}"
        )
    m = LU_data._kind.shape[-2]
    if unpack_pivots and LU_pivots._kind.shape != (*LU_data._kind.shape[:-2], min(LU_data._kind.shape[-2:])):
        raise RuntimeError(
            f"torch.lu_unpack: LU_pivots is expected to have a pivot for each row or column of LU_data, whichever are "
            f"fewer. {_at('lu_unpack', LU_data, LU_pivots)}: it is what lu_factor gives"
        )
    if unpack_pivots and bool(((LU_pivots < 1) | (LU_pivots > m)).any()):
        raise RuntimeError(
            f"pivots passed to lu_unpack must be between 1 and LU.size(-2) inclusive. "
            f"{_at('lu_unpack', LU_data, LU_pivots)}: did you pass the result of lu_factor?"
        )
    empty = creation.zeros(0, dtype=LU_data.dtype)
    p = _permutation(LU_pivots, LU_data._kind.shape[-2], LU_data.dtype) if unpack_pivots else empty
    return _LU_UNPACK(p, *(_triangles(LU_data) if unpack_data else (empty, empty)))


@linalg
def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """The X of A X = B, or X A = B without `left`, or with A' for A, from what `lu_factor` gives of A.

    >>> import tapegrad as tg
    >>> tg.linalg.lu_solve(*tg.linalg.lu_factor(tg.tensor([[1.0, 2.0], [3.0, 4.0]])), tg.tensor([[1.0], [1.0]]))
    tensor([[-1.],
            [ 1.]])
    """
    packed = _matrices("linalg.lu_solve", LU, "LU")
    b = _right_side("linalg.lu_solve", packed, B, left)
    if pivots.dtype is not INT32:
        raise RuntimeError(f"linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32. Got {pivots.dtype}")
    if pivots._kind.shape != packed._kind.shape[:-1]:
        raise RuntimeError(
            f"linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix: "
            f"{_at('linalg.lu_solve', LU, pivots)}"
        )
    if (pivots < 1).any():
        raise RuntimeError(
            f"Pivots given to lu_solve must all be greater or equal to 1. {_at('linalg.lu_solve', LU, pivots)}: did "
            "you pass the result of lu_factor?"
        )
    if (pivots > packed._kind.shape[-1]).any():
        raise RuntimeError(
            f"Pivots given to lu_solve must all be smaller or equal to LU.size(-2). "
            f"{_at('linalg.lu_solve', LU, pivots)}: did you pass the result of lu_factor?"
        )
    if not left:
        return lu_solve(LU, pivots, B.mT, adjoint=not adjoint).mT
    exchange = _permutation(pivots, packed._kind.shape[-1], packed.dtype)
    packed, b = _batched("linalg.lu_solve", packed, b)
    if adjoint:
        x = _triangular(packed.mT, b, False, True, False)
        return exchange @ _triangular(packed.mT, x, True, True, True)
    x = _triangular(packed, exchange.mT @ b, False, True, True)
    return _triangular(packed, x, True, True, False)


def _lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """The X of A X = b: `tapegrad.linalg.lu_solve`."""
    return lu_solve(LU_data, LU_pivots, b)


def _lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """The packed factors of A, the interchanges, and with `get_infos` what `lu_factor_ex` says too."""
    if get_infos:
        return tuple(lu_factor_ex(A, pivot=pivot))
    return tuple(lu_factor(A, pivot=pivot))


_lu_solve.__name__, _lu.__name__ = "lu_solve", "lu"
public(_lu_solve)
public(_lu)


# --- L D L' -----------------------------------------------------------------------------------------------------------


def _symmetric_factors(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The packed factors, the interchanges, and the number of the first block of D that is zero."""
    a = contiguous(_matrices("torch.linalg.ldl_factor_ex", A))
    if a._kind.requires_grad and a._tape.grad_enabled:
        raise NotImplementedError(
            f"the derivative for 'linalg_ldl_factor_ex' is not implemented: {_at('linalg.ldl_factor', A)}; detach() it"
        )
    *batch, n, _ = a._kind.shape
    n_batch = math.prod(batch)
    before = n_batch * n * n
    row = record_array(
        pivoted.ldl_factor, (before + n_batch * (n + 1),), a.dtype, a, params=(n_batch, n, pivoted.ldl_room(n))
    )
    packed = record_layout(pivoted._of_lu, row, kind_of(a.dtype, (*batch, n, n)), 0)
    pivots = _about(pivoted.integers_of, row, (n_batch, before, n + 1, 0, n), (*batch, n))
    return packed, pivots, _about(pivoted.integers_of, row, (n_batch, before, n + 1, n, 1), tuple(batch))


@linalg
def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """The factors of a symmetric A = L D L', packed, the interchanges, and the first block of D that is zero, or 0.

    >>> import tapegrad as tg
    >>> tg.linalg.ldl_factor_ex(tg.tensor([[2.0, 0.0], [0.0, 3.0]])).info
    tensor(0, dtype=tapegrad.int32)
    """
    packed, pivots, info = _symmetric_factors(A)
    if check_errors and (info != 0).any().item():
        raise LinAlgError(
            f"torch.linalg.ldl_factor_ex: D has a block that is zero ({info.tolist()}): "
            f"{_at('linalg.ldl_factor_ex', A)}"
        )
    return _LDL_EX(packed, pivots, info)


@linalg
def ldl_factor(A: Tensor, *, hermitian: bool = False) -> Any:
    """The factors of a symmetric A = L D L', packed, and the interchanges, as LAPACK has them; without derivatives.

    D has blocks of one or two. Only the lower triangle is read.

    >>> import tapegrad as tg
    >>> A = tg.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> tg.linalg.ldl_solve(*tg.linalg.ldl_factor(A), tg.tensor([[1.0], [2.0]]))
    tensor([[2.],
            [1.]])
    """
    return _LDL(*ldl_factor_ex(A, check_errors=True)[:2])


@linalg
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """The X of A X = B, from what `ldl_factor` gives of A.

    >>> import tapegrad as tg
    >>> LD, pivots = tg.linalg.ldl_factor(tg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    >>> tg.linalg.ldl_solve(LD, pivots, tg.tensor([[2.0], [2.0]]))
    tensor([[1.0000],
            [0.5000]])
    """
    packed = _matrices("torch.linalg.ldl_solve", LD, "LD")
    b = _right_side("torch.linalg.ldl_solve", packed, B, True)
    if pivots.dtype is not INT32 and pivots.dtype.name != "int64":
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype}")
    if pivots._kind.shape != packed._kind.shape[:-1]:
        raise RuntimeError(
            f"torch.linalg.ldl_solve: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with "
            f"shape {list(pivots._kind.shape)} instead: {_at('linalg.ldl_solve', LD, pivots)}"
        )
    if packed._kind.requires_grad and packed._tape.grad_enabled:
        raise NotImplementedError(
            f"the derivative for 'linalg_ldl_solve' by LD is not implemented: {_at('linalg.ldl_solve', LD)}"
        )
    order = cast(local(pivots), packed.dtype).unsqueeze(-1)
    both, b = _batched("torch.linalg.ldl_solve", cat([packed, order], -1), b)
    factors = cat([both[..., :-1].reshape(-1), both[..., -1].reshape(-1)])
    (n, m), n_batch = b._kind.shape[-2:], _n_batch(b)
    params = (n_batch, n, m, pivoted.ldl_solve_room(n_batch, n, m))
    return _record_ldl_solve(factors, b, params)


def _record_ldl_solve(factors: Tensor, b: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(pivoted.ldl_solve, b._kind.shape, b.dtype, factors, contiguous(b), params=p)


pivoted.ldl_solve.record = _record_ldl_solve


@public
def inverse(input: Tensor) -> Tensor:
    """The inverse: `tapegrad.linalg.inv`.

    >>> import tapegrad as tg
    >>> tg.inverse(tg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    return inv(input)


def _record_triangular(a: Tensor, b: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(factorization.solve_triangular, b._kind.shape, b.dtype, contiguous(a), contiguous(b), params=p)


def _record_solve(factors: Tensor, b: Tensor, p: tuple[int, ...]) -> Tensor:
    return record_array(factorization.solve, b._kind.shape, b.dtype, factors, contiguous(b), params=p)


def _record_inv(factors: Tensor) -> Tensor:
    *batch, _, n = factors._kind.shape
    params = (math.prod(batch), n, n * n)
    return record_array(factorization.inv, (*batch, n, n), factors.dtype, factors, params=params)


def _record_cofactor(factors: Tensor) -> Tensor:
    *batch, _, n = factors._kind.shape
    params = (math.prod(batch), n, factorization.cofactor_room(n))
    return record_array(factorization._cofactor, (*batch, n, n), factors.dtype, factors, params=params)


factorization.solve_triangular.record = _record_triangular
factorization.solve.record = _record_solve
factorization.inv.record = _record_inv
factorization._cofactor.record = _record_cofactor
pivoted.integers_of.record = lambda row, p: _about(pivoted.integers_of, row, p, (p[0], p[4]))
pivoted.permutation_matrix.record = lambda pivots, m: _permutation(pivots, m, pivots.dtype)
__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "det", "inv", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lu",
    "lu_factor", "lu_factor_ex", "lu_solve", "slogdet", "solve", "solve_ex", "solve_triangular",
]  # fmt: skip
