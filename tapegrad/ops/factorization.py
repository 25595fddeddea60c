"""Factorizations of matrices by LAPACK, and what is computed from them: solutions, inverses, determinants.

All arrays are contiguous batches of matrices, and parameters `p` begin with (n_batch, n): so many, n by n. BLAS and
LAPACK take matrices by columns: to them a matrix in memory is its transpose, upper is lower, left is right.

Adjoints are those of Giles, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008), and of Murray, "Differentiation of the Cholesky decomposition" (2016).
"""

from tapegrad import vectormath
from tapegrad.kinds import contiguous_strides
from tapegrad.memory import call5, call6, call8, call11, f4, f8, i4, i8, u1
from tapegrad.ops.declare import array_op, times_first
from tapegrad.ops.indexing import embed
from tapegrad.ops.linalg import ROUTINES, gemm_into, product_into
from tapegrad.ops.spectral import SOME, gesdd, gesdd_room, identity, routine_of, vanishes
from tapegrad.tape import VARIANT

# Where the table has a routine for float64; that for float32 comes next.
TRSM, TRMM, TRSV, POTRF, GETRF = (2 * ROUTINES.index(name) for name in ("trsm", "trmm", "trsv", "potrf", "getrf"))
BLOCK = 48  # columns of a matrix that Cholesky's adjoint treats together: BLAS is fast from some 30 on


# --- triangular matrices ----------------------------------------------------------------------------------------------


def triangular_into(lapack, routine, work, itemsize, left, upper, trans, unit, m, n, a, a_row, b, b_row):
    """b[m, n] = op(a) b, or b op(a), or solves for it (TRMM or TRSM), in place.

    Addresses, and elements from row to row; op(a) is a' where `trans`, and `unit` means ones on its diagonal.
    """
    if m == 0 or n == 0:
        return
    integers, letters = i4(work, 6), u1(work + 24, 4)
    routines = lapack if itemsize == 8 else lapack + 8
    upper_letter, trans_letter = 76 if upper else 85, 84 if trans else 78  # L, U; T, N
    if left and n == 1 and routine == TRSM:
        letters[0], letters[1], letters[2] = upper_letter, 78 if trans else 84, 85 if unit else 78
        integers[0], integers[1], integers[2] = m, a_row, b_row
        call8(i8(routines + 8 * TRSV, 1)[0], work + 24, work + 25, work + 26, work, a, work + 4, b, work + 8)
        return
    letters[0], letters[1] = 82 if left else 76, upper_letter  # R, L
    letters[2], letters[3] = trans_letter, 85 if unit else 78
    integers[0], integers[1], integers[2], integers[3] = n, m, a_row, b_row
    if itemsize == 8:
        f8(work + 32, 1)[0] = 1.0
    else:
        f4(work + 32, 1)[0] = 1.0
    call11(
        i8(routines + 8 * routine, 1)[0], work + 24, work + 25, work + 26, work + 27, work, work + 4, work + 32, a,
        work + 8, b, work + 12
    )  # fmt: skip


def _solve_triangular(p, lapack, work, a, b, flip):
    """Solve op(a) x = b, or x op(a) = b, in the place of b; for op(a)' where `flip`."""
    n, columns, upper, left, unit, trans = p[1], p[2], p[3], p[4], p[5], p[6]
    size = a.itemsize
    m, k = (n, columns) if left else (columns, n)
    for batch in range(p[0]):
        at_a, at_b = a.ctypes.data + size * batch * n * n, b.ctypes.data + size * batch * n * columns
        triangular_into(lapack, TRSM, work, size, left, upper, trans ^ flip, unit, m, k, at_a, n, at_b, k)


def _triangular_a_vjp(p, gemm, lapack, work, memory, a, b, y, y_bar, a_bar):
    """a_bar -= the triangle of w y', where op(a)' w = y_bar"""
    n, columns, upper, left, unit, trans = p[1], p[2], p[3], p[4], p[5], p[6]
    size, w, product = a.itemsize, memory[: len(y)], memory[len(y) : len(y) + n * n]
    for i in range(len(y)):
        w[i] = y_bar[i]
    _solve_triangular(p, lapack, work, a, w, 1)
    # Of op(a) the adjoint is -w y', or -y' w on the other side; of its transpose, that transposed.
    row, column = (columns, 1) if left else (1, n)
    swapped = trans if left else 1 - trans
    for batch in range(p[0]):
        at, at_bar = batch * n * columns, batch * n * n
        first, second = (y, w) if swapped else (w, y)
        first, second = first[at : at + n * columns], second[at : at + n * columns]
        if columns > 1:
            gemm_into(
                gemm, work, size, n, n, columns, 1.0, first.ctypes.data, row, column, second.ctypes.data, column, row,
                0.0, product.ctypes.data, n
            )  # fmt: skip
        for i in range(n):
            start, stop = (i + unit, n) if upper else (0, i + 1 - unit)
            bar = a_bar[at_bar + i * n : at_bar + (i + 1) * n]
            if columns > 1:
                for j in range(start, stop):
                    bar[j] -= product[i * n + j]
            elif columns == 1:
                factor = first[i]
                for j in range(start, stop):
                    bar[j] -= factor * second[j]


def _triangular_b_vjp(p, lapack, work, memory, a, b, y, y_bar, b_bar):
    """b_bar += w, where op(a)' w = y_bar"""
    for i in range(len(y)):
        memory[i] = y_bar[i]
    _solve_triangular(p, lapack, work, a, memory, 1)
    for i in range(len(y)):
        b_bar[i] += memory[i]


def _transposed(p, at):
    return (*p[:at], 1 - p[at], *p[at + 1 :])


def _triangular_a_rule(a, y, g, p):
    upper, left, unit, trans = p[3:7]
    w = solve_triangular(a, g, _transposed(p, 6))
    product = w @ y.mT if left else y.mT @ w
    product = product.mT if trans else product
    return -(product.triu(unit) if upper else product.tril(-unit))


@array_op(
    2,
    vjps=(_triangular_a_vjp, _triangular_b_vjp),
    partials=(_triangular_a_rule, lambda a, g, p: solve_triangular(a, g, _transposed(p, 6))),
    room=7,
    grad_name="LinalgSolveTriangularBackward0",
    variants={VARIANT: "CholeskySolveBackward0"},
    parts=lambda p, n: (n * p[0], *p[1:7], n * p[0] * p[1] * p[2] + p[1] * p[1]),
)
def solve_triangular(p, lapack, work, a, b, y):
    """The solution of op(a) y = b, or y op(a) = b; only a triangle of `a` is read.

    `p`: (n_batch, n, the other length of b, upper, left, unit, trans, elements of memory).
    """
    for i in range(len(y)):
        y[i] = b[i]
    _solve_triangular(p, lapack, work, a, y, 0)


# --- Cholesky ---------------------------------------------------------------------------------------------------------


def _symmetric_part(lapack, work, itemsize, n, l, l_row, bar, bar_row, t):  # noqa: E741 - Cholesky's factor
    """t = l^-T (phi + phi') l^-1, phi being the lower triangle of l' bar with its diagonal halved; arrays of [n, n]."""
    t_at, l_at = t.ctypes.data, l.ctypes.data
    for i in range(n):
        for j in range(n):
            t[i * n + j] = bar[i * bar_row + j] if j <= i else 0
    triangular_into(lapack, TRMM, work, itemsize, 1, 0, 1, 0, n, n, l_at, l_row, t_at, n)
    for i in range(n):
        for j in range(i):
            t[j * n + i] = t[i * n + j]
    triangular_into(lapack, TRSM, work, itemsize, 1, 0, 1, 0, n, n, l_at, l_row, t_at, n)
    triangular_into(lapack, TRSM, work, itemsize, 0, 0, 0, 0, n, n, l_at, l_row, t_at, n)


def _cholesky_vjp(p, gemm, lapack, work, memory, a, y, y_bar, a_bar):
    """a_bar += (s + s') / 2, where s = l^-T phi(l' l_bar) l^-1, in blocks: Murray, section 4.1.

    Below, the rows of the factor from block j:k on, and the adjoint in the same places (`g`, in the end that of a):

        r d        [j:k, :j]  [j:k, j:k]
        b c        [k:,  :j]  [k:,  j:k]
    """
    n, upper, size = p[1], p[2], a.itemsize
    g, t, copy = memory[: n * n], memory[n * n : n * n + BLOCK * BLOCK], memory[n * n + BLOCK * BLOCK :]
    at_g, at_t = g.ctypes.data, t.ctypes.data
    for batch in range(p[0]):
        first = batch * n * n
        l = copy if upper else y[first : first + n * n]  # noqa: E741
        for i in range(n):
            if upper:
                for j in range(i + 1):
                    g[i * n + j], copy[i * n + j] = y_bar[first + j * n + i], y[first + j * n + i]
            else:
                for j in range(i + 1):
                    g[i * n + j] = y_bar[first + i * n + j]
        at_l, k = l.ctypes.data, n
        while k > 0:
            j = max(0, k - BLOCK)
            width, below = k - j, n - k
            r, d, b, c = size * j * n, size * (j * n + j), size * k * n, size * (k * n + j)
            if below:  # c_bar = c_bar d^-1, b_bar -= c_bar r, d_bar -= c_bar' c
                triangular_into(lapack, TRSM, work, size, 0, 0, 0, 0, below, width, at_l + d, n, at_g + c, n)
                gemm_into(
                    gemm, work, size, below, j, width, -1.0, at_g + c, n, 1, at_l + r, n, 1, 1.0, at_g + b, n
                )  # fmt: skip
                gemm_into(
                    gemm, work, size, width, width, below, -1.0, at_g + c, 1, n, at_l + c, n, 1, 1.0, at_g + d, n
                )  # fmt: skip
            _symmetric_part(lapack, work, size, width, l[j * n + j :], n, g[j * n + j :], n, t)
            # r_bar -= c_bar' b + t r
            gemm_into(gemm, work, size, width, j, below, -1.0, at_g + c, 1, n, at_l + b, n, 1, 1.0, at_g + r, n)
            gemm_into(gemm, work, size, width, j, width, -1.0, at_t, width, 1, at_l + r, n, 1, 1.0, at_g + r, n)
            for i in range(width):
                for q in range(i + 1):
                    g[(j + i) * n + j + q] = t[i * width + q]
            k = j
        half = a.dtype.type(0.5)
        for i in range(n):
            for j in range(i):
                share = half * g[i * n + j]
                a_bar[first + i * n + j] += share
                a_bar[first + j * n + i] += share
            a_bar[first + i * n + i] += half * g[i * n + i]


def _cholesky_rule(y, g, p):
    factor, bar = (y.mT, g.mT) if p[2] else (y, g)
    phi = (factor.mT @ bar.tril()).tril()
    halved = (phi + phi.tril(-1).mT) / 2
    n, columns = p[1], p[1]
    params = (p[0], n, columns, 0, 1, 0, 1, (p[0] + 1) * n * n)  # l' x = ..., then x l = ...
    outer = solve_triangular(factor.contiguous(), halved, params)
    return solve_triangular(factor.contiguous(), outer, (*params[:4], 0, 0, 0, params[7]))


def _potrf(lapack, work, n, upper, at, itemsize):
    """The factor in place of a triangle; the order, from 1, of the minor that is not positive-definite, or 0."""
    integers, letters = i4(work, 3), u1(work + 24, 1)
    letters[0], integers[0], integers[1], integers[2] = 76 if upper else 85, n, n, 0  # L, U
    if n:
        call5(routine_of(lapack, POTRF, itemsize), work + 24, work, at, work + 4, work + 8)
    return integers[2]


@array_op(
    1,
    vjps=(_cholesky_vjp,),
    partials=(_cholesky_rule,),
    room=3,
    failure="linalg.cholesky: {batch}The factorization could not be completed because the input is not "
    "positive-definite (the leading minor of order {index} is not positive-definite).",
    grad_name="LinalgCholeskyExBackward0",
    parts=times_first,
)
def cholesky(p, lapack, work, status, a, y):
    """The triangular factor of a positive-definite matrix, of which only that triangle is read.

    `p`: (n_batch, n, upper, elements of memory).
    """
    n, upper, size = p[1], p[2], a.itemsize
    for batch in range(p[0]):
        first = batch * n * n
        for i in range(n):
            for j in range(n):
                inside = j >= i if upper else j <= i
                y[first + i * n + j] = a[first + i * n + j] if inside else 0
        order = _potrf(lapack, work, n, upper, y.ctypes.data + size * first, size)
        if order:
            status[0], status[1] = 1 + batch, order
            return


# --- LU ---------------------------------------------------------------------------------------------------------------
#
# One row serves all others: [n + 1, n] for each matrix, the packed factors and then n int32, LAPACK's interchanges of
# rows. Since memory is a' to LAPACK, a = l u p', where l is the lower triangle, u the upper one with ones on its
# diagonal, and p the interchanges in their order.
#
# The row stands for `a`: what it receives as its adjoint is that of `a`, in the same place, and it hands that on. So
# rules are those of functions of `a`, and the factors are computed once for values and adjoints of every order.


def beside(x, y):
    """Two batches of matrices, the rows of one under the other's."""
    (n_batch, p, m), q = x.shape, y.shape[1]
    shape, steps = (n_batch, p + q, m), ((p + q) * m, m, 1)
    upper = embed(x.contiguous(), (0, 3, *x.shape, *steps), shape)
    return upper + embed(y.contiguous(), (p * m, 3, *y.shape, *steps), shape)


def _as_adjoint(x):
    """The adjoint of `a` as that of its factors: with a last row, of zeros."""
    *batch, n, m = x.shape
    shape = (*batch, n + 1, m)
    return embed(x, (0, x.ndim, *x.shape, *contiguous_strides(shape, 1)), shape)


def _lu_vjp(p, a, y, y_bar, a_bar):
    n = p[1]
    for batch in range(p[0]):
        for i in range(n * n):
            a_bar[batch * n * n + i] += y_bar[batch * (n + 1) * n + i]


def factorise(lapack, work, m, n, at, at_order, itemsize):
    """Factors in place of a matrix of m rows and n columns, as LAPACK takes it; addresses."""
    integers = i4(work, 3)
    integers[0], integers[1], integers[2] = m, n, 0
    if m and n:
        call6(routine_of(lapack, GETRF, itemsize), work, work + 4, at, work, at_order, work + 8)


@array_op(
    1, vjps=(_lu_vjp,), partials=(lambda g: g[..., :-1, :],), grad_name="LinalgLuFactorExBackward0", parts=times_first
)
def lu_factor(p, lapack, work, a, y):
    """The packed factors of a matrix, and its interchanges: see above. `p`: (n_batch, n)."""
    n, size = p[1], a.itemsize
    for batch in range(p[0]):
        at_a, at_y = batch * n * n, batch * (n + 1) * n
        for i in range(n * n):
            y[at_y + i] = a[at_a + i]
        address = y.ctypes.data + size * at_y
        factorise(lapack, work, n, n, address, address + size * n * n, size)


def interchange(order, n, m, b, backwards):
    """Exchange the rows of b[n, m] as LAPACK has exchanged those of a matrix, or the other way round."""
    for step in range(n):
        i = n - 1 - step if backwards else step
        other = order[i] - 1
        if other != i:
            for j in range(m):
                b[i * m + j], b[other * m + j] = b[other * m + j], b[i * m + j]


def lu_solve(lapack, work, n, m, trans, lu, batch, b):
    """Solve a x = b, or a' x = b, for matrix number `batch`, in the place of b[n, m]."""
    size = lu.itemsize
    at, at_b = lu.ctypes.data + size * batch * (n + 1) * n, b.ctypes.data
    order = i4(at + size * n * n, n)
    if trans:
        interchange(order, n, m, b, 0)
        triangular_into(lapack, TRSM, work, size, 1, 1, 1, 1, n, m, at, n, at_b, m)
        triangular_into(lapack, TRSM, work, size, 1, 0, 1, 0, n, m, at, n, at_b, m)
    else:
        triangular_into(lapack, TRSM, work, size, 1, 0, 0, 0, n, m, at, n, at_b, m)
        triangular_into(lapack, TRSM, work, size, 1, 1, 0, 1, n, m, at, n, at_b, m)
        interchange(order, n, m, b, 1)


def _zero_pivot(lu, n, batch):
    """The number, from 1, of the first zero on the diagonal of the factors; 0 where there is none."""
    first = batch * (n + 1) * n
    for i in range(n):
        if lu[first + i * n + i] == 0:
            return i + 1
    return 0


def _solve_into(p, lapack, work, lu, b, flip):
    n, m = p[1], p[2]
    for batch in range(p[0]):
        lu_solve(lapack, work, n, m, p[3] ^ flip, lu, batch, b[batch * n * m : (batch + 1) * n * m])


def _solve_a_vjp(p, gemm, lapack, work, memory, lu, b, y, y_bar, lu_bar):
    """a_bar -= w y', where a' w = y_bar"""
    n, m, size = p[1], p[2], lu.itemsize
    for i in range(len(y)):
        memory[i] = y_bar[i]
    _solve_into(p, lapack, work, lu, memory, 1)
    for batch in range(p[0]):
        at, at_bar = size * batch * n * m, lu_bar.ctypes.data + size * batch * (n + 1) * n
        first, second = memory.ctypes.data + at, y.ctypes.data + at
        if p[3]:
            first, second = second, first
        gemm_into(gemm, work, size, n, n, m, -1.0, first, m, 1, second, 1, m, 1.0, at_bar, n)


def _solve_b_vjp(p, lapack, work, memory, lu, b, y, y_bar, b_bar):
    """b_bar += w, where a' w = y_bar"""
    for i in range(len(y)):
        memory[i] = y_bar[i]
    _solve_into(p, lapack, work, lu, memory, 1)
    for i in range(len(y)):
        b_bar[i] += memory[i]


def _solve_a_rule(a, y, g, p):
    w = solve(a, g, _transposed(p, 3))
    return _as_adjoint(-(y @ w.mT) if p[3] else -(w @ y.mT))


@array_op(
    2,
    vjps=(_solve_a_vjp, _solve_b_vjp),
    partials=(_solve_a_rule, lambda a, g, p: solve(a, g, _transposed(p, 3))),
    room=4,
    failure="torch.linalg.solve: {batch}The solver failed because the input matrix is singular.",
    grad_name="LinalgSolveExBackward0",
    parts=lambda p, n: (n * p[0], *p[1:4], n * p[4]),
)
def solve(p, lapack, work, status, lu, b, y):
    """The solution of a y = b, or a' y = b, from the factors of `a`.

    `p`: (n_batch, n, columns of b, trans, elements of memory).
    """
    for batch in range(p[0]):
        pivot = _zero_pivot(lu, p[1], batch)
        if pivot:
            status[0], status[1] = 1 + batch, pivot
            return
    for i in range(len(y)):
        y[i] = b[i]
    _solve_into(p, lapack, work, lu, y, 0)


def _inv_vjp(p, gemm, work, memory, lu, y, y_bar, lu_bar):
    """a_bar -= y' y_bar y'"""
    n, size, t = p[1], lu.itemsize, memory.ctypes.data
    for batch in range(p[0]):
        at = size * batch * n * n
        at_y, at_bar = y.ctypes.data + at, y_bar.ctypes.data + at
        to = lu_bar.ctypes.data + size * batch * (n + 1) * n
        gemm_into(gemm, work, size, n, n, n, 1.0, at_y, 1, n, at_bar, n, 1, 0.0, t, n)
        gemm_into(gemm, work, size, n, n, n, -1.0, t, n, 1, at_y, 1, n, 1.0, to, n)


@array_op(
    1,
    vjps=(_inv_vjp,),
    partials=(lambda y, g: _as_adjoint(-(y.mT @ g @ y.mT)),),
    room=2,
    failure="linalg.inv: {batch}The diagonal element {index} is zero, the inversion could not be completed because "
    "the input matrix is singular.",
    grad_name="LinalgInvExBackward0",
    parts=times_first,
)
def inv(p, lapack, work, status, lu, y):
    """The inverse, from the factors. `p`: (n_batch, n, elements of memory)."""
    n = p[1]
    for batch in range(p[0]):
        pivot = _zero_pivot(lu, n, batch)
        if pivot:
            status[0], status[1] = 1 + batch, pivot
            return
        x = y[batch * n * n : (batch + 1) * n * n]
        identity(x, n)
        lu_solve(lapack, work, n, n, 0, lu, batch, x)


def _sign_of_interchanges(lu, n, batch):
    order = i4(lu.ctypes.data + lu.itemsize * (batch * (n + 1) + n) * n, n)
    sign = 1
    for i in range(n):
        if order[i] != i + 1:
            sign = -sign
    return sign


def _cofactors(lapack, work, n, memory, lu, batch):
    """Those of matrix number `batch`, transposed and divided by a number, at the beginning of `memory`; that number.

    They are det(a) a^-T, and finite where `a` is singular: there a zero pivot is replaced by one of the size of a
    rounding error, whose inverse its determinant takes out again.
    """
    x, copy = memory[: n * n], memory[n * n : n * n + (n + 1) * n]
    first = batch * (n + 1) * n
    most = lu.dtype.type(0)
    for i in range(n):
        most = max(most, abs(lu[first + i * n + i]))
    least = lu.dtype.type(1e-16 if lu.itemsize == 8 else 1e-7) * (most if most > 0 else lu.dtype.type(1))
    # Byte for byte: the last row holds integers.
    nbytes = lu.itemsize * (n + 1) * n
    source, target = u1(lu.ctypes.data + lu.itemsize * first, nbytes), u1(copy.ctypes.data, nbytes)
    for i in range(nbytes):
        target[i] = source[i]
    factor = lu.dtype.type(_sign_of_interchanges(lu, n, batch))
    for i in range(n):
        if copy[i * n + i] == 0:
            copy[i * n + i] = least
        factor *= copy[i * n + i]
    identity(x, n)
    lu_solve(lapack, work, n, n, 1, copy, 0, x)
    return factor


def _det_vjp(p, lapack, work, memory, lu, y, y_bar, lu_bar):
    """a_bar += y_bar times the cofactors"""
    n = p[1]
    for batch in range(p[0]):
        if y_bar[batch] == 0:
            continue
        factor = y_bar[batch] * _cofactors(lapack, work, n, memory, lu, batch)
        for i in range(n * n):
            lu_bar[batch * (n + 1) * n + i] += factor * memory[i]


@array_op(
    1,
    vjps=(_det_vjp,),
    partials=(lambda a, g: _as_adjoint(g.unsqueeze(-1).unsqueeze(-1) * _cofactor(a)),),
    room=2,
    grad_name="LinalgDetBackward0",
    parts=times_first,
)
def det(p, lu, y):
    """The determinant, from the factors. `p`: (n_batch, n, elements of memory)."""
    n = p[1]
    for batch in range(p[0]):
        product = y.dtype.type(_sign_of_interchanges(lu, n, batch))
        for i in range(n):
            product *= lu[batch * (n + 1) * n + i * n + i]
        y[batch] = product


def _product_of_factors(lapack, work, n, lu, batch, x):
    """x[n, n] = the matrix of which these are the factors."""
    first, size = batch * (n + 1) * n, lu.itemsize
    at = lu.ctypes.data + size * first
    order = i4(at + size * n * n, n)
    for i in range(n):
        for j in range(n):
            x[i * n + j] = lu[first + i * n + j] if j <= i else 0
    triangular_into(lapack, TRMM, work, size, 0, 1, 0, 1, n, n, at, n, x.ctypes.data, n)
    for step in range(n):
        j = n - 1 - step
        other = order[j] - 1
        if other != j:
            for i in range(n):
                x[i * n + j], x[i * n + other] = x[i * n + other], x[i * n + j]


def _orientation(lapack, work, n, x, memory):
    """The determinant of an orthogonal matrix: 1 or -1."""
    copy = memory[: (n + 1) * n]
    for i in range(n * n):
        copy[i] = x[i]
    factorise(lapack, work, n, n, copy.ctypes.data, copy.ctypes.data + copy.itemsize * n * n, copy.itemsize)
    sign = _sign_of_interchanges(copy, n, 0)
    for i in range(n):
        if copy[i * n + i] < 0:
            sign = -sign
    return sign


def cofactor_room(n: int) -> int:
    """How many elements its kernels work in."""
    return 7 * n * n + 11 * n + gesdd_room(n, n)


def _cofactor_vjp(p, gemm, lapack, work, memory, lu, y, y_bar, lu_bar):
    """a_bar += u e vh, from a = u diag(s) vh, and g = u' y_bar v det(u) det(v): for any matrix, singular or not.

    det(diag(s) + e) has of second order the terms (e_ii e_jj - e_ij e_ji) r_ij, where r_ij is the product of s without
    s_i and s_j; so e_ji is -g_ij r_ij, and e_jj the sum of g_ii r_ij over all other i.
    """
    n = p[1]
    a, u, vh = memory[: n * n], memory[n * n : 2 * n * n], memory[2 * n * n : 3 * n * n]
    g, e, s = memory[3 * n * n : 4 * n * n], memory[4 * n * n : 5 * n * n], memory[5 * n * n : 5 * n * n + n]
    left = memory[5 * n * n + n :]
    for batch in range(p[0]):
        bar = y_bar[batch * n * n : (batch + 1) * n * n]
        if n < 2 or vanishes(bar):
            continue
        _product_of_factors(lapack, work, n, lu, batch, a)
        gesdd(lapack, work, SOME, n, n, n, a, u, s, vh, left)
        sign = _orientation(lapack, work, n, u, left) * _orientation(lapack, work, n, vh, left)
        product_into(gemm, work, n, n, n, sign, u, 1, bar, 0, 0.0, e)
        product_into(gemm, work, n, n, n, 1.0, e, 0, vh, 1, 0.0, g)
        for j in range(n):
            e[j * n + j] = 0
        for i in range(n):
            for j in range(i):
                others = s.dtype.type(1)
                for k in range(n):
                    if k not in (i, j):
                        others *= s[k]
                e[j * n + i] = -g[i * n + j] * others
                e[i * n + j] = -g[j * n + i] * others
                e[j * n + j] += g[i * n + i] * others
                e[i * n + i] += g[j * n + j] * others
        product_into(gemm, work, n, n, n, 1.0, u, 0, e, 0, 0.0, g)
        first = batch * (n + 1) * n
        product_into(gemm, work, n, n, n, 1.0, g, 0, vh, 0, 1.0, lu_bar[first : first + n * n])


def _cofactor_rule(a, y, g):
    inverse = inv(a).mT
    return _as_adjoint((g * inverse).sum((-2, -1), keepdim=True) * y - y @ g.mT @ inverse)


@array_op(1, vjps=(_cofactor_vjp,), partials=(_cofactor_rule,), room=2, parts=times_first)
def _cofactor(p, lapack, work, memory, lu, y):
    """The matrix of cofactors, from the factors. `p`: (n_batch, n, elements of memory)."""
    n = p[1]
    for batch in range(p[0]):
        factor = _cofactors(lapack, work, n, memory, lu, batch)
        for i in range(n * n):
            y[batch * n * n + i] = factor * memory[i]


def _no_vjp(p, lu, y, y_bar, lu_bar):
    """A sign changes nowhere by a little."""


@array_op(
    1,
    vjps=(_no_vjp,),
    partials=(lambda g, s: g.new_zeros(s[0]),),
    grad_name="LinalgSlogdetBackward0",
    parts=times_first,
)
def sign_of_det(p, lu, y):
    """The sign of the determinant, from the factors: 1, -1 or 0. `p`: (n_batch, n, elements of memory)."""
    n = p[1]
    for batch in range(p[0]):
        sign = _sign_of_interchanges(lu, n, batch)
        for i in range(n):
            pivot = lu[batch * (n + 1) * n + i * n + i]
            sign = 0 if pivot == 0 else -sign if pivot < 0 else sign
        y[batch] = sign


def _log_abs_det_vjp(p, lapack, work, memory, lu, y, y_bar, lu_bar):
    """a_bar += y_bar a^-T"""
    n = p[1]
    for batch in range(p[0]):
        if y_bar[batch] == 0:
            continue
        identity(memory, n)
        lu_solve(lapack, work, n, n, 1, lu, batch, memory)
        for i in range(n * n):
            lu_bar[batch * (n + 1) * n + i] += y_bar[batch] * memory[i]


@array_op(
    1,
    vjps=(_log_abs_det_vjp,),
    partials=(lambda a, g: _as_adjoint(g.unsqueeze(-1).unsqueeze(-1) * inv(a).mT),),
    room=2,
    grad_name="LinalgSlogdetBackward0",
    parts=times_first,
)
def log_abs_det(p, lu, y):
    """log(abs(det(a))), from the factors. `p`: (n_batch, n, elements of memory)."""
    n = p[1]
    for batch in range(p[0]):
        total = y.dtype.type(0)
        for i in range(n):
            total += vectormath.log(abs(lu[batch * (n + 1) * n + i * n + i]))
        y[batch] = total


# --- what is known of factors -----------------------------------------------------------------------------------------

INT32 = 1  # a dtype code


@array_op(1, signature=lambda code: (code, INT32), parts=times_first)
def _zero_pivots(p, lu, y):
    """The number, from 1, of the first zero on the diagonal of the factors; 0 where there is none. `p`: (n_batch, n)"""
    for batch in range(p[0]):
        y[batch] = _zero_pivot(lu, p[1], batch)


@array_op(1, signature=lambda code: (code, INT32), room=3, parts=times_first)
def _indefinite_orders(p, lapack, work, memory, a, y):
    """The order, from 1, of the first leading minor that is not positive-definite; 0 where there is none.

    `p`: (n_batch, n, upper, elements of memory).
    """
    n, upper, size = p[1], p[2], a.itemsize
    for batch in range(p[0]):
        for i in range(n * n):
            memory[i] = a[batch * n * n + i]
        y[batch] = _potrf(lapack, work, n, upper, memory.ctypes.data, size)
