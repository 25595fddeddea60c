"""Eigenvalues, singular values, orthogonal factors, pseudoinverses, and what is made of them.

Where a matrix has values for which an algorithm fails, `LinAlgError` is raised at the line that records, as in
`factorizations.py`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tapegrad import creation
from tapegrad.arguments import EXACT, Dims, Number, Surface, checked
from tapegrad.dtypes import INT64, DType
from tapegrad.functions import elementwise, reductions
from tapegrad.functions.factorizations import _at, _matrices, _n_batch, inv, inv_ex, results, solve
from tapegrad.functions.shaping import cat, contiguous, dimension
from tapegrad.ops import matrix_exponential, orthogonal, spectral
from tapegrad.recording import cast, local, record_array, record_results
from tapegrad.tensor import Tensor, describe

functions = public = Surface(EXACT)
linalg = functools.partial(checked, prefix="linalg.", out=EXACT)

_EIGH, _SVD = results("linalg_eigh", "eigenvalues eigenvectors"), results("linalg_svd", "U S Vh")
_SVD_OF_OLD, _QR, _QR_OF_OLD = results("svd", "U S V"), results("linalg_qr", "Q R"), results("qr", "Q R")
_GEQRF, _LSTSQ = results("geqrf", "a tau"), results("linalg_lstsq", "solution residuals rank singular_values")


def _rectangles(name: str, a: Tensor, argument: str = "A") -> Tensor:
    """Matrices of floating-point numbers, contiguous; PyTorch's errors for all else."""
    if a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {argument} must have at least 2 dimensions. {_at(name, a)}")
    if not a.dtype.is_floating_point:
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype.scalar_type}. "
            f"{_at(name, a)}: convert it with .to(tapegrad.float64)"
        )
    return contiguous(local(a))


# --- eigenvalues ------------------------------------------------------------------------------------------------------


def _symmetric(name: str, A: Tensor, UPLO: str) -> tuple[Tensor, tuple[int, ...]]:
    """Square matrices, and the parameters of what finds their eigenvalues."""
    if A.ndim > 1 and A._kind.shape[-1] == A._kind.shape[-2] and not A.dtype.is_floating_point:
        raise NotImplementedError(f"\"linalg_eigh_cpu\" not implemented for '{A.dtype.scalar_type}': {_at(name, A)}")
    a = contiguous(_matrices(name, A))
    if not isinstance(UPLO, str):
        raise TypeError(f"{name}(): argument 'UPLO' must be str, not {type(UPLO).__name__}")
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}: {_at(name, A)}")
    n = a._kind.shape[-1]
    return a, (_n_batch(a), n, int(UPLO.upper() == "U"), spectral.eigh_room(n))


@linalg
def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """Eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices: A = V diag(L) V'.

    Only the lower triangle is read, or with UPLO="U" the upper one; the gradient is symmetric.

    A loss must not depend on what is arbitrary in eigenvectors: their signs, and where eigenvalues are equal, the basis
    of their space. Then its gradient is finite where eigenvalues are equal, too: of functions of eigenvalues that
    treat them alike, and of projections on spaces of several. Of V f(L) V', how vectors of one eigenvalue part goes by
    f', which the adjoints of L and V don't tell: there it is nan, as in PyTorch (`matrix_exp` and `matrix_power` have
    it). Where the loss does depend on the basis, the gradient is infinite, nan or arbitrary.

    >>> import tapegrad as tg
    >>> tg.linalg.eigh(tg.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    a, params = _symmetric("linalg.eigh", A, UPLO)
    *batch, n, _ = a._kind.shape
    shapes = [(*batch, n, n), (*batch, n)]
    vectors, values = record_results(spectral.eigh, spectral._of_eigh, shapes, a.dtype, a, params=params)
    return _EIGH(values, vectors)


@linalg
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, ascending; see `eigh`.

    >>> import tapegrad as tg
    >>> tg.linalg.eigvalsh(tg.tensor([[2.0, 1.0], [1.0, 2.0]]))
    tensor([1., 3.])
    """
    a, params = _symmetric("linalg.eigvalsh", A, UPLO)
    if a._kind.requires_grad and a._tape.grad_enabled:
        values: Tensor = eigh(a, UPLO).eigenvalues
        return values
    return record_array(spectral._eigvalsh, a._kind.shape[:-1], a.dtype, a, params=params)


def _complex(name: str) -> Any:
    def refuse(A: Tensor) -> Tensor:
        raise RuntimeError(
            f"{name}: eigenvalues of a general matrix are complex, and tapegrad's numbers are real: {_at(name, A)}. Of "
            f"symmetric matrices, linalg.eigh and linalg.eigvalsh give them"
        )

    refuse.__doc__ = "Refused: eigenvalues of a general matrix are complex. Of symmetric ones, `eigh` gives them."
    refuse.__name__ = name.removeprefix("linalg.")
    return linalg(refuse)


eig, eigvals = _complex("linalg.eig"), _complex("linalg.eigvals")


# --- singular values --------------------------------------------------------------------------------------------------


@linalg
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """Singular values, descending, and their vectors: A = U diag(S) Vh, [m, n] matrices.

    U is [m, m] and Vh [n, n]; without `full_matrices` they have min(m, n) columns and rows.

    What `eigh` says of losses and their gradients holds here too, with singular values for eigenvalues. Columns of U
    and rows of Vh beyond min(m, n) are a basis of what is left of space.

    Raises
    ------
    LinAlgError
        Where an element is nan or infinite.

    >>> import tapegrad as tg
    >>> U, S, Vh = tg.linalg.svd(tg.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), full_matrices=False)
    >>> S, U.shape
    (tensor([4., 3.]), tapegrad.Size([3, 2]))
    """
    if driver is not None:
        raise RuntimeError(
            "torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend."
        )
    return _SVD(*_decomposed(_rectangles("linalg.svd", A), full_matrices))


def _decomposed(a: Tensor, full: bool) -> list[Tensor]:
    *batch, m, n = a._kind.shape
    r = min(m, n)
    k, q = (m, n) if full else (r, r)
    params = (_n_batch(a), m, n, int(full), spectral.svd_room(m, n, full))
    shapes = [(*batch, m, k), (*batch, r), (*batch, q, n)]
    return record_results(spectral.svd, spectral._of_svd, shapes, a.dtype, a, params=params)


@linalg
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, descending; see `svd`.

    >>> import tapegrad as tg
    >>> tg.linalg.svdvals(tg.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor([4., 3.])
    """
    if driver is not None:
        svd(A, driver=driver)
    a = _rectangles("linalg.svd", A)
    if a._kind.requires_grad and a._tape.grad_enabled:
        return _decomposed(a, False)[1]
    *batch, m, n = a._kind.shape
    params = (_n_batch(a), m, n, 0, spectral.svd_room(m, n, False))
    return record_array(spectral._svdvals, (*batch, min(m, n)), a.dtype, a, params=params)


def _svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """Singular values, descending, and their vectors: input = U diag(S) V'; `tapegrad.linalg.svd` gives V'.

    Without `some`, U and V are square; without `compute_uv` they are zeros.
    """
    a = _rectangles("linalg.svd", input)
    if not compute_uv:
        *batch, m, n = a._kind.shape
        u, v = (creation.zeros(*batch, k, k, dtype=a.dtype) for k in (m, n))
        return _SVD_OF_OLD(u, svdvals(a), v)
    u, s, vh = _decomposed(a, not some)
    return _SVD_OF_OLD(u, s, vh.mT)


_svd.__name__ = "svd"
public(_svd)


# --- orthogonal factors -----------------------------------------------------------------------------------------------


@linalg
def qr(A: Tensor, mode: str = "reduced") -> Any:
    """Orthonormal columns and an upper triangle: A = Q R, [m, n] matrices.

    Q is [m, min(m, n)], or [m, m] with mode="complete"; with mode="r" it is empty, and not computed for the user.

    A gradient is there where the first min(m, n) columns of A are independent.

    >>> import tapegrad as tg
    >>> Q, R = tg.linalg.qr(tg.tensor([[0.0, 2.0], [1.0, 0.0]]))
    >>> Q @ R
    tensor([[0., 2.],
            [1., 0.]])
    """
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    q, r = _orthogonalised(_rectangles("linalg.qr", A), mode == "complete")
    return _QR(creation.zeros(0, dtype=r.dtype) if mode == "r" else q, r)


def _orthogonalised(a: Tensor, full: bool) -> list[Tensor]:
    *batch, m, n = a._kind.shape
    k = m if full else min(m, n)
    params = (_n_batch(a), m, n, int(full), orthogonal.qr_room(m, n, full))
    shapes = [(*batch, m, k), (*batch, k, n)]
    return record_results(orthogonal.qr, orthogonal._of_qr, shapes, a.dtype, a, params=params)


def _qr(input: Tensor, some: bool = True) -> Any:
    """Orthonormal columns and an upper triangle: `tapegrad.linalg.qr`; without `some`, of all columns."""
    return _QR_OF_OLD(*_orthogonalised(_rectangles("linalg.qr", input), not some))


_qr.__name__ = "qr"
public(_qr)


@public
def geqrf(input: Tensor) -> Any:
    """LAPACK's form of Q R: R above the diagonal, reflections below, and their factors tau; without derivatives.

    >>> import tapegrad as tg
    >>> x = tg.tensor([[3.0], [4.0]])
    >>> tg.linalg.householder_product(*tg.geqrf(x))
    tensor([[-0.6000],
            [-0.8000]])
    """
    a = _rectangles("geqrf", input, "input")
    if a._kind.requires_grad and a._tape.grad_enabled:
        raise NotImplementedError(
            f"the derivative for 'geqrf' is not implemented: {_at('geqrf', input)}; linalg.qr has one, or detach() it"
        )
    *batch, m, n = a._kind.shape
    params = (_n_batch(a), m, n, orthogonal.qr_room(m, n, False))
    shapes = [(*batch, m, n), (*batch, min(m, n))]
    return _GEQRF(*record_results(orthogonal.geqrf, orthogonal._of_qr, shapes, a.dtype, a, params=params))


def _reflected(vectors: Tensor, tau: Tensor, other: Tensor, backwards: bool) -> Tensor:
    """H_1 H_2 ... other, with H_i = 1 - tau_i v_i v_i', v_i below the diagonal of column i; or the other way round."""
    m, k = vectors._kind.shape[-2], tau._kind.shape[-1]
    columns = vectors[..., :k].tril(-1) + creation.eye(m, k, dtype=vectors.dtype)
    for i in range(k) if backwards else reversed(range(k)):
        v = columns[..., i : i + 1]
        other = other - tau[..., i : i + 1].unsqueeze(-1) * v * (v * other).sum(-2, True)
    return other if k else other + tau.sum(-1).reshape(*tau._kind.shape[:-1], 1, 1)  # zeros that tau leads to


@linalg
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of H_1 H_2 ..., reflections 1 - tau_i v_i v_i' whose v_i are below the diagonal of A [m, n].

    That is the Q that `tapegrad.geqrf` stands for.

    >>> import tapegrad as tg
    >>> Q = tg.linalg.householder_product(*tg.geqrf(tg.tensor([[3.0, 1.0], [4.0, 2.0]])))
    >>> (Q.T @ Q - tg.eye(2)).abs().max() < 1e-12
    tensor(True)
    """
    name = "torch.linalg.householder_product"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions. {_at(name, A, tau)}")
    *batch, m, n = A._kind.shape
    if m < n:
        raise RuntimeError(
            f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]. {_at(name, A, tau)}"
        )
    _check_tau(name, A, tau)
    one = creation.eye(m, n, dtype=A.dtype)
    return _reflected(A, tau, one.expand(*batch, m, n), False)


def _check_tau(name: str, a: Tensor, tau: Tensor) -> None:
    where = _at(name, a, tau)
    if a._kind.shape[-1] < tau._kind.shape[-1] if tau.ndim else False:
        raise RuntimeError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]. {where}")
    if a.ndim - tau.ndim != 1:
        raise RuntimeError(
            f"{name}: Expected tau to have one dimension less than input, but got tau.ndim equal to {tau.ndim} and "
            f"input.ndim is equal to {a.ndim}. {where}"
        )
    if a._kind.shape[:-2] != tau._kind.shape[:-1]:
        raise RuntimeError(
            f"{name}: Expected batch dimensions of tau to be equal to input.shape[:-2], but got "
            f"{list(tau._kind.shape[:-1])}. {where}"
        )
    if a.dtype is not tau.dtype:
        raise RuntimeError(f"{name}: tau dtype {tau.dtype} does not match input dtype {a.dtype}. {where}")


def _orgqr(input: Tensor, tau: Tensor) -> Tensor:
    """The Q of reflections: `tapegrad.linalg.householder_product`."""
    return householder_product(input, tau)


_orgqr.__name__ = "orgqr"
public(_orgqr)


@public
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q other, or other Q without `left`, or with Q' for Q: the square Q of reflections that `geqrf` gives.

    >>> import tapegrad as tg
    >>> a = tg.tensor([[3.0, 1.0], [4.0, 2.0]])
    >>> h, tau = tg.geqrf(a)
    >>> (tg.ormqr(h, tau, h.triu()) - a).abs().max() < 1e-12  # Q R
    tensor(True)
    """
    if input.ndim < 2 or other.ndim < 2:
        short = "input" if input.ndim < 2 else "other"
        raise RuntimeError(f"torch.ormqr: {short} must have at least 2 dimensions. {_at('ormqr', input, tau, other)}")
    _check_tau("torch.ormqr", input, tau)
    side = other._kind.shape[-2 if left else -1]
    if side < tau._kind.shape[-1]:
        raise RuntimeError(
            f"torch.ormqr: other.shape[{-2 if left else -1}] must be greater than or equal to tau.shape[-1]. "
            f"{_at('ormqr', input, tau, other)}"
        )
    if side != input._kind.shape[-2]:
        raise RuntimeError(
            f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]. "
            f"{_at('ormqr', input, tau, other)}"
        )
    if other._kind.shape[:-2] != input._kind.shape[:-2]:
        raise RuntimeError(
            f"torch.ormqr: Expected batch dimensions of other to be equal to input.shape[:-2], but got "
            f"{list(other._kind.shape[:-2])}. {_at('ormqr', input, tau, other)}"
        )
    if other.dtype is not input.dtype:
        raise RuntimeError(
            f"torch.ormqr: Expected input and other to have the same dtype, but input has dtype {input.dtype} and "
            f"other has dtype {other.dtype}"
        )
    if left:
        return _reflected(input, tau, other, transpose)
    return _reflected(input, tau, other.mT, not transpose).mT


# --- pseudoinverses and least squares ---------------------------------------------------------------------------------


def _tolerance(value: Any, a: Tensor, name: str) -> Tensor:
    """A number for each matrix of a batch, without derivatives."""
    batch = a._kind.shape[:-2]
    if not isinstance(value, Tensor):
        return creation.full((_n_batch(a),), float(value), dtype=a.dtype)
    if not value.dtype.is_floating_point and value.dtype.category != 1:
        raise RuntimeError(f"{name}: tolerances must be real numbers, but one is {describe(value)}")
    return contiguous(cast(local(value.detach()), a.dtype).expand(*batch)).reshape(_n_batch(a))


def _tolerances(name: str, a: Tensor, atol: Any, rtol: Any) -> tuple[Tensor, Tensor]:
    """The absolute and the relative one: by default max(m, n) eps is the relative one, unless the other is given."""
    absolute = _tolerance(0.0 if atol is None else atol, a, name)
    if rtol is not None:
        return absolute, _tolerance(rtol, a, name)
    usual = max(a._kind.shape[-2:]) * float(np.finfo(a.dtype.numpy).eps)
    if isinstance(atol, Tensor):
        return absolute, elementwise.where(absolute > 0, 0.0, usual).to(a.dtype)
    return absolute, _tolerance(0.0 if atol is not None and atol > 0 else usual, a, name)


def _pseudoinverse(a: Tensor, atol: Tensor, rtol: Tensor, hermitian: bool = False) -> Tensor:
    *batch, m, n = a._kind.shape
    params = (_n_batch(a), m, n, spectral.pinv_room(m, n), int(hermitian))
    return record_array(spectral.pinv, (*batch, n, m), a.dtype, a, cat([atol, rtol]), params=params)


@linalg
def pinv(
    A: Tensor, rcond: float | Tensor | None = None, hermitian: bool = False, *, atol: float | Tensor | None = None,
    rtol: float | Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The pseudoinverse: of Moore and Penrose.

    Singular values up to max(atol, rtol s_max) count as zero; by default rtol is max(m, n) eps, or 0 where `atol` is
    given. With `hermitian`, A is symmetric, and only its lower triangle is read. The gradient is that where the rank
    stays as it is.

    >>> import tapegrad as tg
    >>> tg.linalg.pinv(tg.tensor([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    if A.ndim < 2 or not A.dtype.is_floating_point:
        raise RuntimeError(
            f"linalg.pinv({A.dtype.scalar_type}{{{list(A._kind.shape)}}}): expected a tensor with 2 or more dimensions "
            f"of float, double, cfloat or cdouble types. {_at('linalg.pinv', A)}"
        )
    a = contiguous(_matrices("linalg.eigh", A) if hermitian else local(A))
    return _pseudoinverse(a, *_tolerances("linalg.pinv", a, atol, rcond if rtol is None else rtol), hermitian)


@public
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The pseudoinverse; singular values up to rcond times the largest count as zero: `tapegrad.linalg.pinv`.

    >>> import tapegrad as tg
    >>> tg.pinverse(tg.tensor([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    return pinv(input, rcond)


@linalg
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """The X with the least |A X - B|, and of these the least |X|: (solution, residuals, rank, singular_values).

    B holds vectors where it has one dimension, or the shape of A but for the last dimension; else matrices. Singular
    values up to rcond (by default max(m, n) eps) times the largest count as zero.

    What else is given depends on `driver`, as in PyTorch: residuals with "gels", "gelsd" and "gelss", where A is taller
    than wide and of full rank; the rank unless it is "gels"; singular values with "gelsd" and "gelss". All compute in
    the same way, by singular values.

    >>> import tapegrad as tg
    >>> tg.linalg.lstsq(tg.tensor([[1.0], [1.0]]), tg.tensor([[1.0], [3.0]])).solution
    tensor([[2.]])
    """
    name = "torch.linalg.lstsq"
    where = _at("linalg.lstsq", A, B)
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions. {where}")
    if B.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension. {where}")
    if A.dtype is not B.dtype:
        raise RuntimeError(
            f"{name}: Expected input and other to have the same dtype, but got {A.dtype}, {B.dtype}. {where}"
        )
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss). {where}")
    a = _rectangles("linalg.lstsq", A, "input")
    m, n = a._kind.shape[-2:]
    if a.ndim - B.ndim not in (0, 1) and B.ndim != 1:
        raise RuntimeError(
            f"{name}: input.dim() must be greater or equal to other.dim() and (input.dim() - other.dim()) <= 1. {where}"
        )
    vector = B.ndim == 1 or (a.ndim - 1 == B.ndim and B._kind.shape == a._kind.shape[:-1])
    b = local(B).unsqueeze(-1) if vector else local(B)
    if b._kind.shape[-2] != m:
        short = "input.size(-2) should match other.size(-1)" if vector else "input.size(-2) should match other.size(-2)"
        raise RuntimeError(f"{name}: {short}. {where}")
    absolute, relative = _tolerances("linalg.lstsq", a, None, rcond)
    inverse = _pseudoinverse(a, absolute, relative)
    solution = inverse @ b
    # What is left of b is of the size of rounding errors, and this takes their larger part out.
    solution = solution + inverse @ (b - a @ solution)
    values = svdvals(a.detach())
    rank = _count(values, absolute, relative)
    nothing = creation.zeros(0, dtype=a.dtype)
    residuals, fully = solution.reshape(-1)[:0], driver == "gels" or not bool((rank < n).any().item())
    if m > n and driver in ("gels", "gelsd", "gelss") and fully:
        residuals = ((a @ solution - b) ** 2).sum(-2)
    if driver == "gels":
        rank = creation.zeros(0, dtype=INT64)
    return _LSTSQ(
        solution.squeeze(-1) if vector else solution, residuals, rank,
        values if driver in ("gelsd", "gelss") else nothing
    )  # fmt: skip


def _count(values: Tensor, absolute: Tensor, relative: Tensor) -> Tensor:
    """How many singular values are larger than the tolerances."""
    batch = values._kind.shape[:-1]
    if not values._kind.shape[-1]:
        return creation.zeros(*batch, dtype=INT64)
    largest = values.amax(-1, True)
    bound = elementwise.functions["maximum"](absolute.reshape(*batch, 1), relative.reshape(*batch, 1) * largest)
    return (values > bound).sum(-1)


@linalg
def matrix_rank(
    A: Tensor, tol: float | Tensor | None = None, hermitian: bool = False, *, atol: float | Tensor | None = None,
    rtol: float | Tensor | None = None,
) -> Tensor:  # fmt: skip
    """How many singular values are larger than max(atol, rtol s_max); tolerances are those of `pinv`, or atol `tol`.

    >>> import tapegrad as tg
    >>> tg.linalg.matrix_rank(tg.ones(3, 3))
    tensor(1)
    """
    if A.ndim < 2:
        raise RuntimeError(
            f"torch.linalg.matrix_rank: The input tensor input must have at least 2 dimensions. "
            f"{_at('linalg.matrix_rank', A)}"
        )
    a = A.detach()
    values = eigvalsh(a).abs() if hermitian else svdvals(a)
    if tol is not None:
        atol, rtol = tol, 0.0
    return _count(values, *_tolerances("linalg.matrix_rank", a, atol, rtol))


@linalg
def cond(A: Tensor, p: Number | str | None = None) -> Tensor:
    """The condition number: the norm of A times that of its inverse; inf where A is singular.

    `p` is that of `matrix_norm`; by default 2, for which, and -2, A need not be square.

    >>> import tapegrad as tg
    >>> tg.linalg.cond(tg.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor(2.)
    """
    if A.ndim < 2:
        raise RuntimeError(f"linalg.cond: The input tensor must have at least 2 dimensions. {_at('linalg.cond', A)}")
    if p is None or p in (2, -2):
        if not A._kind.numel:
            return creation.zeros(*A._kind.shape[:-2], dtype=A.dtype)
        values = svdvals(A)
        most, least = values[..., 0], values[..., -1]
        return least / most if p == -2 else most / least
    if p not in ("fro", "nuc", 1, -1, math.inf, -math.inf):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}. {_at('linalg.cond', A)}")
    a = _matrices(f"linalg.cond(ord={p})", A)
    if not a._kind.numel:
        return creation.zeros(*a._kind.shape[:-2], dtype=a.dtype)
    inverse, info = inv_ex(a)
    product = matrix_norm(a, p) * matrix_norm(inverse, p)
    return elementwise.where(info != 0, math.inf, product) if bool((info != 0).any().item()) else product


@linalg
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of a tensor as a map: tensordot(tensorinv(A), A, ind) is the identity.

    >>> import tapegrad as tg
    >>> tg.linalg.tensorinv(tg.eye(4).reshape(2, 2, 2, 2)).shape
    tapegrad.Size([2, 2, 2, 2])
    """
    if ind <= 0:
        raise RuntimeError(
            f"Expected a strictly positive integer for 'ind', but got {ind}: {_at('linalg.tensorinv', A)}"
        )
    shape = A._kind.shape
    p, q = math.prod(shape[:ind]), math.prod(shape[ind:])
    if p != q:
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got {q} "
            f"!= {p}: {_at('linalg.tensorinv', A)}"
        )
    return inv(A.reshape(p, q)).reshape(*shape[ind:], *shape[:ind])


@linalg
def tensorsolve(A: Tensor, B: Tensor, dims: Dims | None = None) -> Tensor:
    """The X with tensordot(A, X, X.ndim) = B; `dims` of A are moved to its end before.

    >>> import tapegrad as tg
    >>> tg.linalg.tensorsolve(2 * tg.eye(4).reshape(2, 2, 2, 2), tg.ones(2, 2))
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    a = A
    if dims is not None:
        moved = [dimension(d, A.ndim) for d in ((dims,) if isinstance(dims, int) else dims)]
        a = a.permute(*(d for d in range(A.ndim) if d not in moved), *moved)
    shape = a._kind.shape[B.ndim :]
    n, rest = math.prod(shape), math.prod(a._kind.shape[: B.ndim])
    if n != rest:
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
            f"but got {n} != {rest}: {_at('linalg.tensorsolve', A, B)}"
        )
    return solve(a.reshape(n, n), B.reshape(-1)).reshape(*shape)


# --- norms ------------------------------------------------------------------------------------------------------------


@linalg
def vector_norm(
    x: Tensor, ord: Number = 2, dim: Dims | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:  # fmt: skip
    """The norm of order `ord`, a number or inf or -inf, of vectors: over all dimensions, or those given.

    >>> import tapegrad as tg
    >>> tg.linalg.vector_norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    return reductions.norm(x, ord, dim, keepdim, dtype)


@linalg
def matrix_norm(
    A: Tensor, ord: Number | str = "fro", dim: Dims = (-2, -1), keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:  # fmt: skip
    """The norm of matrices: "fro", the root of the sum of squares; 1 or inf, the largest sum of a column or row.

    -1 and -inf are the smallest. 2 is the largest singular value, -2 the smallest, and "nuc" the sum of them.

    >>> import tapegrad as tg
    >>> tg.linalg.matrix_norm(tg.tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc")
    tensor(7.)
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
        a = (A if dtype is None else cast(A, dtype)).movedim((rows, columns), (-2, -1))
        values = svdvals(a)
        of_each = values.sum(-1) if ord == "nuc" else _largest(values, -1) if ord == 2 else values.amin(-1)
        return _with_dimensions(of_each, rows, columns) if keepdim else of_each
    if ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(
            f"linalg.matrix_norm: Order {ord} not supported: it is 'fro', 'nuc', 1, -1, 2, -2, inf or -inf"
        )
    summed, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = reductions.norm(A, 1, summed, True, dtype)
    most = _largest(sums, left) if ord > 0 else reductions.amin(sums, left)
    return most.unsqueeze(left) if keepdim else most.squeeze(summed - (summed > left))


def _largest(sizes: Tensor, dim: int) -> Tensor:
    """The largest of what is not negative; of none, 0."""
    return reductions.amax(sizes, dim) if sizes._kind.shape[dim] else reductions.sum(sizes, dim)


def _with_dimensions(x: Tensor, *dims: int) -> Tensor:
    """With new dimensions of length 1 at these places."""
    for d in sorted(dims):
        x = x.unsqueeze(d)
    return x


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
    if dim is not None and not isinstance(dim, int) and len(dim) not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dim)}")
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None and A.ndim not in (1, 2):
        raise RuntimeError(
            f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D. "
            f"{_at('linalg.norm', A)}"
        )
    dims = tuple(range(A.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if len(dims) == 2 or isinstance(ord, str):
        return matrix_norm(A, ord, dims, keepdim, dtype=dtype)
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


def _norm(
    input: Tensor, p: Number | str | None = 2, dim: Dims | None = None, keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:  # fmt: skip
    """The p-norm over all dimensions, or those given: `p` is a number, inf, -inf, or "fro" (2); or "nuc", of matrices.

    >>> import tapegrad as tg
    >>> tg.norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if p == "nuc":
        return matrix_norm(input, "nuc", (0, 1) if dim is None else dim, keepdim, dtype=dtype)
    return reductions.norm(input, p, dim, keepdim, dtype)


_norm.__name__ = "norm"
public(_norm)


# --- functions of matrices, and of low rank ---------------------------------------------------------------------------


@public
def matrix_exp(A: Tensor) -> Tensor:
    """The exponential of square matrices, the sum of A^k / k!.

    >>> import tapegrad as tg
    >>> tg.linalg.matrix_exp(tg.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    a = contiguous(_matrices("linalg.matrix_exp", A))
    n = a._kind.shape[-1]
    params = (_n_batch(a), n, matrix_exponential.expm_room(n))
    return record_array(matrix_exponential.matrix_exp, a._kind.shape, a.dtype, a, params=params)


matrix_exponential.matrix_exp.record = matrix_exp


def _basis(a: Tensor, q: int, niter: int, centre: Any) -> Tensor:
    """Orthonormal columns that nearly span what `a`, less a constant, maps onto: Halko, Martinsson and Tropp (2009)."""
    n = a._kind.shape[-1]

    def onto(x: Tensor) -> Tensor:
        return a @ x if centre is None else a @ x - centre @ x

    def back(x: Tensor) -> Tensor:
        return a.mT @ x if centre is None else a.mT @ x - centre.mT @ x

    span: Tensor = qr(onto(creation.randn(n, q, dtype=a.dtype)))[0]
    for _ in range(niter):
        span = qr(onto(qr(back(span))[0]))[0]
    return span


@checked
def svd_lowrank(A: Tensor, q: int | None = None, niter: int = 2, M: Tensor | None = None) -> Any:
    """The q (6) largest singular values of A, or of A - M, and their vectors: (U, S, V), from random projections.

    `niter` times they are refined. `tapegrad.manual_seed` decides what is drawn.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> a = tg.outer(tg.tensor([3.0, 0.0, 4.0]), tg.tensor([1.0, 0.0]))
    >>> U, S, V = tg.svd_lowrank(a, q=1)
    >>> S.round(decimals=4)
    tensor([5.])
    """
    a = _rectangles("svd_lowrank", A)
    m, n = a._kind.shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    centre = None if M is None else M.expand(*a._kind.shape)
    turned = m < n
    a, centre = (None if t is None else t.mT if turned else t for t in (a, centre))
    span = _basis(a, q, niter, centre)
    u, s, vh = svd(span.mT @ a if centre is None else span.mT @ a - span.mT @ centre, False)
    u, v = span @ u, vh.mT
    return (v, s, u) if turned else (u, s, v)


@checked
def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """The principal components of the rows of A: `svd_lowrank` of A less the mean of its rows, q of them (6).

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> line = tg.outer(tg.arange(10.0), tg.tensor([3.0, 4.0, 0.0]))
    >>> U, S, V = tg.pca_lowrank(line, q=1)
    >>> V.abs().round(decimals=4)
    tensor([[0.6000],
            [0.8000],
            [0.0000]])
    """
    a = _rectangles("pca_lowrank", A)
    m, n = a._kind.shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(a - a.mean(-2, True) if center else a, q, niter)


functions |= {"svd_lowrank": svd_lowrank, "pca_lowrank": pca_lowrank}
__all__ = [
    "cond", "eig", "eigh", "eigvals", "eigvalsh", "householder_product", "lstsq", "matrix_exp", "matrix_norm",
    "matrix_rank", "norm", "pinv", "qr", "svd", "svdvals", "tensorinv", "tensorsolve", "vector_norm",
]  # fmt: skip
