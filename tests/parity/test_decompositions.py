"""Factorisations beside PyTorch's: what is determined of them, names of nodes, gradients of two orders, refusals."""

import pytest

from .oracle import agree, programs, refuse_alike

GIVEN = """A = tg.tensor(units(3, 3) @ units(3, 3).T + np.diag([1.0, 2.0, 4.0]), requires_grad=True)
B = tg.tensor(reals(3, 2), requires_grad=True)
M = tg.tensor(reals(2, 3, 3) + 4 * np.eye(3), requires_grad=True)
"""
NAMED = programs("""
y = tg.linalg.eigh(A).eigenvalues

y = tg.linalg.eigvalsh(A, UPLO="U")

y = tg.linalg.svdvals(B.T)

y = tg.linalg.svd(M, full_matrices=False).S

y = tg.linalg.pinv(B)

y = tg.linalg.pinv(M, rtol=1e-3)

y = tg.linalg.lu_factor(A).LU

y = tg.linalg.lu_factor_ex(B)[0]

y = tg.linalg.matrix_exp(M / 4)

y = (A / 8).matrix_exp()

y = tg.linalg.cholesky_ex(A).L

y = tg.linalg.inv_ex(M).inverse
""")
OTHERS = programs("""
_l, _v = tg.linalg.eigh(A)
y = _v.abs() * _l

_u, _s, _vh = tg.linalg.svd(B)
y = _u[:, :2] @ tg.diag(_s.exp()) @ _vh

_u, _s, _v = tg.svd(M)
y = _u @ _v.mT

_q, _r = tg.linalg.qr(M)
y = _q.abs() @ _r.abs()

_q, _r = tg.qr(B.T)
y = _q.abs() @ _r.abs()

y = tg.linalg.qr(B, mode="reduced").R.abs()

P, y, U = tg.linalg.lu(M)

y = tg.linalg.lu_solve(*tg.linalg.lu_factor(A), B)

y = tg.lu_solve(B, *tg.lu(A))

y = tg.linalg.lu_solve(*tg.linalg.lu_factor(M), B.mT, left=False, adjoint=True)

y = tg.linalg.lstsq(B, A).solution

y = tg.linalg.lstsq(B, A[0], driver="gels").residuals

y = tg.linalg.solve_ex(M, B).result

y = tg.linalg.matrix_norm(M, "nuc")

y = tg.linalg.norm(B, 2)

y = tg.norm(B, "nuc")

y = tg.linalg.cond(M)

y = tg.linalg.cond(A, "nuc")

y = tg.cholesky(A)

y = tg.cholesky_inverse(tg.cholesky(A, upper=True), upper=True)

y = tg.triangular_solve(B, A, transpose=True).solution

y = tg.pinverse(B)

y = tg.linalg.householder_product(B, tg.tensor([0.5, 0.25]))

y = tg.ormqr(B, tg.tensor([0.5, 0.25]), A, False, True)

y = tg.linalg.tensorinv(A.reshape(3, 1, 3), ind=2)

y = tg.linalg.tensorsolve(A, B[:, 0])
""")
VALUES = """
rank = tg.linalg.matrix_rank(tg.ones(3, 3))
ranks = tg.linalg.matrix_rank(tg.stack([tg.eye(2), tg.ones(2, 2)]), hermitian=True)
info = tg.linalg.cholesky_ex(-tg.eye(3)).info
zero = tg.linalg.inv_ex(tg.ones(2, 2)).info
same = tg.linalg.solve_ex(tg.ones(2, 2), tg.ones(2)).info
pivots = tg.linalg.lu_factor(tg.tensor([[1.0, 2.0], [3.0, 4.0]])).pivots
LD, order = tg.linalg.ldl_factor(tg.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 1.0]]))
x = tg.linalg.ldl_solve(LD, order, tg.ones(3, 1))
empty = tg.linalg.svd(tg.zeros(0, 3))
none = tg.linalg.qr(tg.zeros(3, 0), mode="complete")
nothing = tg.linalg.cond(tg.zeros(0, 0))
least = tg.linalg.lstsq(tg.eye(3, 2), tg.ones(3, 1), driver="gelss")
"""
REFUSED = [
    ("tg.linalg.svd(tg.tensor([[nan, 1.0], [1.0, 1.0]]))",
     "linalg.svd: The algorithm failed to converge because the input matrix contained non-finite values."),
    ("tg.linalg.svdvals(tg.tensor([[[nan, 1.0]], [[1.0, 1.0]]]))", "linalg.svd: (Batch element 0): The algorithm fa"),
    ("tg.linalg.eigh(tg.ones(2))", "linalg.eigh: The input tensor A must have at least 2 dimensions."),
    ("tg.linalg.eigh(tg.ones(2, 3))", "linalg.eigh: A must be batches of square matrices, but they are 2 by 3 matr"),
    ("tg.linalg.eigh(tg.eye(2), UPLO='x')", "Expected UPLO argument to be 'L' or 'U', but got x"),
    ("tg.linalg.eigvalsh(tg.eye(2, dtype=tg.int64))", "\"linalg_eigh_cpu\" not implemented for 'Long'"),
    ("tg.linalg.svd(tg.ones(2))", "linalg.svd: The input tensor A must have at least 2 dimensions."),
    ("tg.linalg.svd(tg.eye(2, dtype=tg.int64))", "linalg.svd: Expected a floating point or complex tensor as input."),
    ("tg.linalg.svd(tg.eye(2), driver='gesvd')", "keyword argument `driver=` is only supported on CUDA inputs"),
    ("tg.linalg.qr(tg.eye(2), mode='x')",
     "qr received unrecognized mode 'x' but expected one of 'reduced' (default), 'r', or 'complete'"),
    ("tg.linalg.lstsq(tg.ones(2, 2), tg.ones(3, 1))", "input.size(-2) should match other.size(-2)"),
    ("tg.linalg.lstsq(tg.ones(2), tg.ones(3, 1))", "torch.linalg.lstsq: input must have at least 2 dimensions."[6:]),
    ("tg.linalg.lstsq(tg.eye(2), tg.ones(2, 1), driver='x')", "parameter `driver` should be one of (gels, gelsy, gel"),
    ("tg.linalg.lu(tg.eye(2), pivot=False)", "linalg.lu_factor: LU without pivoting is not implemented on the CPU"),
    ("tg.linalg.lu_factor(tg.ones(2, 2))", "U[2,2] is zero and using it on lu_solve would result in a division by"),
    ("tg.linalg.lu_factor(tg.ones(2))", "lu_factor: Expected tensor with 2 or more dimensions. Got size: [2] instead"),
    ("tg.lu_unpack(tg.eye(2), tg.ones(2))", "lu_unpack: LU_pivots is expected to be a contiguous tensor of "),
    ("tg.linalg.lu_solve(*tg.linalg.lu_factor(tg.eye(2)), tg.ones(2))",
     "linalg.lu_solve: The input tensor B must have at least 2 dimensions."),
    ("tg.linalg.cond(tg.ones(2, 3), 1)", "linalg.cond(ord=1): A must be batches of square matrices, but they are 2 b"),
    ("tg.linalg.cond(tg.eye(2), 'x')", "linalg.cond got an invalid norm type: x"),
    ("tg.linalg.cond(tg.ones(2))", "linalg.cond: The input tensor must have at least 2 dimensions."),
    ("tg.linalg.matrix_rank(tg.ones(2))", "linalg.matrix_rank: The input tensor input must have at least 2 dimension"),
    ("tg.linalg.matrix_exp(tg.ones(2))", "linalg.matrix_exp: The input tensor A must have at least 2 dimensions."),
    ("tg.linalg.inv_ex(tg.ones(2, 2), check_errors=True)",
     "linalg.inv_ex: The diagonal element 2 is zero, the inversion could not be completed because the input matrix is"),
    ("tg.linalg.cholesky_ex(-tg.eye(2), check_errors=True)",
     "linalg.cholesky_ex: The factorization could not be completed because the input is not positive-definite (the "),
    ("tg.cholesky(tg.ones(2, 2))", "cholesky: The factorization could not be completed because the input is not posi"),
    ("tg.linalg.tensorinv(tg.ones(2, 3))",
     "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got 1 != 6"),
    ("tg.linalg.tensorsolve(tg.ones(2, 3), tg.ones(2))",
     "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but "),
    ("tg.linalg.pinv(tg.ones(2))", "expected a tensor with 2 or more dimensions of float, double, cfloat or cdouble"),
    ("tg.linalg.householder_product(tg.ones(3, 2), tg.ones(3))",
     "householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]"),
]  # fmt: skip


@pytest.mark.parametrize("program", NAMED)
def test_values_nodes_and_gradients(program: str):
    agree(GIVEN + program + "\n(y * weights(y)).sum().backward()", tolerance=1e-10)


@pytest.mark.parametrize("program", OTHERS)
def test_values_and_gradients(program: str):
    agree(GIVEN + program + "\n(y * weights(y)).sum().backward()", text=False, tolerance=1e-10)


@pytest.mark.parametrize("program", NAMED + OTHERS)
def test_second_derivatives(program: str):
    wanted = [name for name in "ABM" if f"({name}" in program or f" {name}" in program or f"{name}." in program]
    second = (
        f"\n_w = [{', '.join(wanted)}]\n_g = tg.autograd.grad((y * y * weights(y)).sum(), _w, create_graph=True, "
        "allow_unused=True)\nsum((g * g * weights(g)).sum() for g in _g if g is not None).backward()"
    )
    agree(GIVEN + program + second, text=False, tolerance=1e-8)


def test_values():
    agree(VALUES, text=False, tolerance=1e-12)


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program: str, phrase: str):
    refuse_alike(program, phrase)
