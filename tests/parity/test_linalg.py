"""`torch.linalg` and its like: values, gradients of both orders, names of nodes, refusals."""

import pytest

from .oracle import agree, programs, refuse_alike

GIVEN = """A = tg.tensor(units(3, 3) @ units(3, 3).T + 2 * np.eye(3), requires_grad=True)
B = tg.tensor(reals(3, 2), requires_grad=True)
M = tg.tensor(reals(2, 1, 3, 3) + 4 * np.eye(3), requires_grad=True)
"""
PROGRAMS = programs("""
y = tg.linalg.cholesky(A)

y = tg.linalg.cholesky(A, upper=True)

y = tg.linalg.cholesky(M.mT @ M)

y = tg.linalg.solve_triangular(A, B, upper=False)

y = tg.linalg.solve_triangular(A, B, upper=True, unitriangular=True)

y = tg.linalg.solve_triangular(A, B.T, upper=False, left=False)

y = tg.linalg.solve_triangular(M, B, upper=True)

y = tg.linalg.solve(A, B)

y = tg.linalg.solve(M, B)

y = tg.linalg.inv(A)

y = tg.inverse(M)

y = tg.linalg.det(A)

y = M.det()

y = tg.linalg.slogdet(A)[1]

y = tg.slogdet(M).logabsdet

y = tg.logdet(A)

y = A.logdet()

y = tg.cholesky_solve(B, tg.linalg.cholesky(A))

y = tg.cholesky_solve(B, tg.linalg.cholesky(A, upper=True), upper=True)

y = A.diagonal()

y = M.diagonal(1, -2, -1)

y = tg.linalg.diagonal(M)

y = tg.diag(B[:, 0])

y = tg.diag_embed(B, 1)

y = A.trace()

y = M.tril()

y = B.triu(-1)

y = tg.linalg.norm(A)

y = tg.linalg.vector_norm(M, dim=-1)
""")
REFUSED = [
    ("tg.linalg.cholesky(-tg.eye(2)).numpy()",
     "linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the "
     "leading minor of order 1 is not positive-definite)."),
    ("tg.linalg.cholesky(tg.tensor([[1.0, 2.0], [2.0, 1.0]])).numpy()", "(the leading minor of order 2 is not"),
    ("tg.linalg.cholesky(tg.stack([tg.eye(2), -tg.eye(2)])).numpy()", "linalg.cholesky: (Batch element 1): The fact"),
    ("tg.linalg.inv(tg.ones(2, 2)).numpy()",
     "linalg.inv: The diagonal element 2 is zero, the inversion could not be completed because the input matrix is "
     "singular."),
    ("tg.linalg.inv(tg.ones(3, 2, 2)).numpy()", "linalg.inv: (Batch element 0): The diagonal element 2 is zero"),
    ("tg.linalg.solve(tg.ones(2, 2), tg.ones(2)).numpy()", "The solver failed because the input matrix is singular."),
    ("tg.linalg.cholesky(tg.ones(3))", "linalg.cholesky: The input tensor A must have at least 2 dimensions."),
    ("tg.linalg.det(tg.ones(2, 3))", "linalg.det: A must be batches of square matrices, but they are 2 by 3 matrices"),
    ("tg.logdet(tg.ones(2, 3))", "logdet: A must be batches of square matrices, but they are 2 by 3 matrices"),
    ("tg.linalg.inv(tg.eye(2).to(tg.int64))", "linalg.inv: Expected a floating point or complex tensor as input. Got "),
    ("tg.linalg.solve(tg.eye(2), tg.ones(3))",
     "linalg.solve: Incompatible shapes of A and B for the equation AX = B (2x2 and 3x1)"),
    ("tg.linalg.solve(tg.eye(2), tg.ones(2, dtype=tg.float32))",
     "linalg.solve: Expected A and B to have the same dtype, but found A of type Double and B of type Float instead"),
    ("tg.linalg.solve_triangular(tg.eye(2), tg.ones(2), upper=False)",
     "linalg.solve_triangular: The input tensor B must have at least 2 dimensions."),
    ("tg.linalg.solve_triangular(tg.eye(2), tg.ones(3, 3), upper=False, left=False)",
     "linalg.solve_triangular: Incompatible shapes of A and B for the equation XA = B (2x2 and 3x3)"),
    ("tg.linalg.solve_triangular(tg.ones(5, 2, 2), tg.ones(3, 2, 2), upper=False)", "must match the size of tensor b"),
    ("tg.linalg.solve_triangular(tg.eye(2), tg.ones(2, 2))", "missing 1 required"),
    ("tg.cholesky_solve(tg.ones(2, 1), tg.eye(3))",
     "Incompatible matrix sizes for cholesky_solve: each A matrix is 3 by 3 but each b matrix is 2 by 1"),
    ("tg.cholesky_solve(tg.ones(2), tg.eye(2))", "b should have at least 2 dimensions, but has 1 dimensions instead"),
    ("tg.ones(3).diagonal()", "Dimension out of range (expected to be in range of [-1, 0], but got 1)"),
    ("tg.ones(3, 3).diagonal(0, 0, 0)", "diagonal dimensions cannot be identical 0, 0"),
    ("tg.diag(tg.ones(2, 2, 2))", "diag(): Supports 1D or 2D tensors. Got 3D"),
    ("tg.trace(tg.ones(2, 2, 2))", "trace: expected a matrix, but got tensor with dim 3"),
    ("tg.chain_matmul()", "chain_matmul(): Expected one or more matrices"),
    ("tg.linalg.lu_solve(*(lambda l, p: (l, p - 3))(*tg.linalg.lu_factor(tg.eye(3))), tg.ones(3, 1))",
     "Pivots given to lu_solve must all be greater or equal to 1"),
    ("tg.linalg.lu_solve(*(lambda l, p: (l, p + 3))(*tg.linalg.lu_factor(tg.eye(3))), tg.ones(3, 1))",
     "Pivots given to lu_solve must all be smaller or equal to LU.size(-2)"),
    ("tg.tril(tg.ones(2))", "tril: input tensor must have at least 2 dimensions"),
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_and_gradients(program: str):
    agree(GIVEN + program + "\n(y * weights(y)).sum().backward()", tolerance=1e-11)


@pytest.mark.parametrize("program", PROGRAMS)
def test_second_derivatives(program: str):
    wanted = [name for name in "ABM" if name in program.partition("=")[2]]
    second = (
        f"\n_w = [{', '.join(wanted)}]\n_g = tg.autograd.grad((y * y * weights(y)).sum(), _w, create_graph=True)\n"
        "sum((g * g * weights(g)).sum() for g in _g).backward()"
    )
    agree(GIVEN + program + second, text=False, tolerance=1e-10)


def test_values_whose_nodes_differ():
    """A sign's gradient is zero here, None in PyTorch; and a norm of order 3 is recorded as several operations."""
    agree(GIVEN + "sign = tg.slogdet(M).sign\nnorm = tg.linalg.vector_norm(B, 3)", text=False)


AT_EDGES = programs("""
_inf = float("inf"); _m = tg.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[2.0, 1.0], [0.0, 4.0]]])
y = [tg.linalg.cond(_m, p) for p in (1, -1, _inf, -_inf, "fro", -2)]

_inf = float("inf"); _v = tg.tensor([[_inf, -_inf], [_inf, 1.0], [0.0, _inf], [0.0, 0.0]])
y = [tg.linalg.vector_norm(_v.to(d), p, dim=1) for p in (-0.5, -1, -3) for d in (tg.float32, tg.float64)]

y, z, w = tg.zeros(3, 3), tg.zeros(3, 2), tg.zeros(3)
tg.linalg.cross(A.detach(), tg.eye(3).to(A.dtype), out=y); tg.linalg.multi_dot([y, B.detach()], out=z)
tg.linalg.vecdot(y, y, out=w)
""")


@pytest.mark.parametrize("program", AT_EDGES)
def test_singular_infinite_and_out(program: str):
    agree(GIVEN + program, text=False)


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program: str, phrase: str):
    refuse_alike(program, phrase)
