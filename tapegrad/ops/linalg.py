"""Products: of matrices by BLAS; of a matrix and a vector, and of vectors, by loops that take memory once.

Parameters `p` of a product a[.., m, k] b[.., k, n] = y[.., m, n], strides in elements:

    (n_batch, m, n, k, a's row and column stride, b's row and column stride,
     *batch shape, *a's batch strides, *b's, *those of contiguous a_bar, *those of contiguous b_bar)

A stride of 0 in a batch dimension repeats a matrix; its adjoints then add up. `gemm` is the address of BLAS's routine,
`work` memory for its arguments.
"""

import numpy as np

from tapegrad.memory import call13, f4, f8, i4, plus, u1
from tapegrad.ops.declare import PART, TILE, array_op

# The routines of BLAS and LAPACK whose addresses kernels are given, each for float64 and float32.
ROUTINES = (
    "gemm", "trsm", "trmm", "trsv", "potrf", "getrf", "syevd", "gesdd", "geqrf", "orgqr", "sytrf", "sytrs"
)  # fmt: skip


def _batch_offset(p, batch, group):
    """The element at which matrix number `batch` of a group of strides begins."""
    ndim, offset = p[0], 0
    for d in range(ndim - 1, -1, -1):
        length = p[8 + d]
        offset += batch % length * p[8 + (1 + group) * ndim + d]
        batch //= length
    return offset


def _n_batches(p):
    count = 1
    for d in range(p[0]):
        count *= p[8 + d]
    return count


def gemm_into(gemm, work, itemsize, m, n, k, alpha, a, a_row, a_col, b, b_row, b_col, beta, c, c_row):
    """c[m, n] = alpha a b + beta c, the rows of c being contiguous; addresses and strides in elements.

    Row-major a b is column-major (b' a')'.
    """
    if m == 0 or n == 0:
        return
    integers = i4(work, 6)
    letters = u1(work + 24, 2)
    # A matrix whose rows are contiguous is a column-major transpose; 78 is N, 84 is T.
    by_rows_a = a_col == 1 and (a_row >= k or m == 1)
    by_rows_b = b_col == 1 and (b_row >= n or k == 1)
    letters[0] = 78 if by_rows_b else 84
    letters[1] = 78 if by_rows_a else 84
    integers[0], integers[1], integers[2] = n, m, k
    integers[3] = max(b_row if by_rows_b else b_col, n if by_rows_b else k, 1)
    integers[4] = max(a_row if by_rows_a else a_col, k if by_rows_a else m, 1)
    integers[5] = c_row
    if itemsize == 8:
        f8(work + 32, 1)[0] = alpha
        f8(work + 40, 1)[0] = beta
    else:
        f4(work + 32, 1)[0] = alpha
        f4(work + 40, 1)[0] = beta
    call13(
        gemm, work + 24, work + 25, work, work + 4, work + 8, work + 32, b, work + 12, a, work + 16, work + 40, c,
        work + 20
    )  # fmt: skip


def product_into(gemm, work, m, n, k, alpha, a, a_turned, b, b_turned, beta, c):
    """c[m, n] = alpha a b + beta c of contiguous arrays; where they are turned, of a' [k, m] and b' [n, k]."""
    a_row, a_col = (1, m) if a_turned else (k, 1)
    b_row, b_col = (1, k) if b_turned else (n, 1)
    gemm_into(
        gemm, work, c.itemsize, m, n, k, alpha, a.ctypes.data, a_row, a_col, b.ctypes.data, b_row, b_col, beta,
        c.ctypes.data, n
    )  # fmt: skip


_TURNED = 16  # rows that are turned at once


def turn(rows, n, width, apart, turned):
    """turned[w, i] = rows[i, w], of n rows so far apart: BLAS is slow where both factors are summed along rows."""
    for first in range(0, n, _TURNED):
        count = min(_TURNED, n - first)
        for w in range(width):
            column, source = turned[w * n + first : w * n + first + count], rows[first * apart + w :]
            for i in range(count):
                column[i] = source[np.uint64(i * apart)]


def _product(p, gemm, work, a, b, y):
    size = y.itemsize
    for batch in range(_n_batches(p)):
        at_a = a.ctypes.data + size * _batch_offset(p, batch, 0)
        at_b = b.ctypes.data + size * _batch_offset(p, batch, 1)
        at_y = y.ctypes.data + size * batch * p[1] * p[2]
        gemm_into(gemm, work, size, p[1], p[2], p[3], 1.0, at_a, p[4], p[5], at_b, p[6], p[7], 0.0, at_y, p[2])


def _integer_product(p, gemm, work, a, b, y):
    m, n, k = p[1], p[2], p[3]
    for batch in range(_n_batches(p)):
        at_a, at_b = _batch_offset(p, batch, 0), _batch_offset(p, batch, 1)
        for i in range(m):
            for j in range(n):
                total = np.int64(0)  # whose last bits are right, whatever the integers
                for l in range(k):  # noqa: E741 - the summed index of a matrix product
                    total += np.int64(a[at_a + i * p[4] + l * p[5]]) * np.int64(b[at_b + l * p[6] + j * p[7]])
                y[(batch * m + i) * n + j] = total


def _begin(p, begun, bar):
    """The factor of what is in an adjoint, which is zeroed first where several matrices may be added to one of it."""
    if begun == 0 and p[0] > 0:
        for i in range(len(bar)):
            bar[i] = 0
        return 1.0
    return 1.0 if begun else 0.0


def _a_vjp(p, gemm, work, begun, a, b, y, y_bar, a_bar):
    """a_bar += y_bar b'"""
    size, beta = y.itemsize, _begin(p, begun, a_bar)
    for batch in range(_n_batches(p)):
        at_b = b.ctypes.data + size * _batch_offset(p, batch, 1)
        at_y = y_bar.ctypes.data + size * batch * p[1] * p[2]
        at_a = a_bar.ctypes.data + size * _batch_offset(p, batch, 2)
        gemm_into(gemm, work, size, p[1], p[3], p[2], 1.0, at_y, p[2], 1, at_b, p[7], p[6], beta, at_a, p[3])


def _b_vjp(p, gemm, work, begun, a, b, y, y_bar, b_bar):
    """b_bar += a' y_bar"""
    size, beta = y.itemsize, _begin(p, begun, b_bar)
    for batch in range(_n_batches(p)):
        at_a = a.ctypes.data + size * _batch_offset(p, batch, 0)
        at_y = y_bar.ctypes.data + size * batch * p[1] * p[2]
        at_b = b_bar.ctypes.data + size * _batch_offset(p, batch, 3)
        gemm_into(gemm, work, size, p[3], p[2], p[1], 1.0, at_a, p[5], p[4], at_y, p[2], 1, beta, at_b, p[2])


def _declare_product(name, rules, tangents, grad_name):
    def product(p, gemm, work, a, b, y):
        _product(p, gemm, work, a, b, y)

    product.__name__ = name
    facts = {"partials": rules, "tangents": tangents, "integer": _integer_product, "strided": True}
    return array_op(2, vjps=(_a_vjp, _b_vjp), grad_name=grad_name, **facts)(product)


mm = _declare_product(
    "mm",
    (lambda b, g: g @ b.T, lambda a, g: a.T @ g),
    (lambda b, t: t @ b, lambda a, t: a @ t),
    "MmBackward0",
)


# --- a matrix and a vector: units are rows ----------------------------------------------------------------------------


def _part(a, b):
    total = a.dtype.type(0)
    for i in range(len(a)):
        total = plus(total, a[i] * b[i])
    return total


def _inner(a, b):
    """The inner product of two runs, in float64: of float32 in parts as short as in `kernels`."""
    if a.itemsize == 8 or len(a) <= PART:
        return np.float64(_part(a, b))
    total = np.float64(0)
    for first in range(0, len(a), PART):
        total += _part(a[first : first + PART], b[first : first + PART])
    return total


def _mv_a_vjp(p, lo, hi, a, b, y, y_bar, a_bar):
    """a_bar += y_bar b'"""
    k = p[3]
    for i in range(lo, hi):
        bar, g = a_bar[i * k : (i + 1) * k], y_bar[i]
        for j in range(k):
            bar[j] += g * b[j]


_LONG = 256  # where a loop over several rows is worth its beginning


def _mv_b_vjp(p, lo, hi, a, b, y, y_bar, b_bar):
    """b_bar += a' y_bar"""
    k, row, column = p[3], p[4], p[5]
    if column == 1:
        left = lo
        if a.itemsize == 4 and k >= _LONG:  # four rows at once, whose sum is short enough for float32
            for i in range(lo, hi - 3, 4):
                first, second = a[i * row : i * row + k], a[(i + 1) * row : (i + 1) * row + k]
                third, fourth = a[(i + 2) * row : (i + 2) * row + k], a[(i + 3) * row : (i + 3) * row + k]
                g, h, u, v = y_bar[i], y_bar[i + 1], y_bar[i + 2], y_bar[i + 3]
                for j in range(k):
                    b_bar[j] += (first[j] * g + second[j] * h) + (third[j] * u + fourth[j] * v)
            left = hi - (hi - lo) % 4
        for i in range(left, hi):
            run, g = a[i * row : i * row + k], np.float64(y_bar[i])
            for j in range(k):
                b_bar[j] += run[j] * g
        return
    g = y_bar[lo:hi]
    for j in range(k):
        b_bar[j] += _inner(a[j * column + lo : j * column + hi], g)


def _mv_of_integers(p, lo, hi, a, b, y):
    for i in range(lo, hi):
        total = np.int64(0)
        for j in range(p[3]):
            total += np.int64(a[i * p[4] + j * p[5]]) * np.int64(b[j])
        y[i] = total


@array_op(
    2,
    integer=_mv_of_integers,
    vjps=(_mv_a_vjp, _mv_b_vjp),
    partials=(lambda b, g: g.unsqueeze(1) * b, lambda a, g: a.T @ g),
    tangents=(lambda b, t: t @ b, lambda a, t: t @ a.T),
    units=1,
    summed=4,
    strided=True,
    grad_name="MvBackward0",
)
def mv(p, lo, hi, tile, a, b, y):
    """The product of a matrix, whose rows or columns are runs of memory, and a vector."""
    k, row, column = p[3], p[4], p[5]
    if column == 1:
        for i in range(lo, hi):
            run = a[i * row : i * row + k]
            if run.itemsize == 4 and k > PART:
                y[i] = _inner(run, b)
                continue
            total = y.dtype.type(0)  # written out: a call for each row costs a third of rows of 50
            for j in range(k):
                total = plus(total, run[j] * b[j])
            y[i] = total
        return
    for first in range(lo, hi, TILE):
        m = min(TILE, hi - first)
        for i in range(m):
            tile[i] = 0
        for j in range(k):
            run, factor = a[j * column + first : j * column + first + m], np.float64(b[j])
            for i in range(m):
                tile[i] += run[i] * factor
        for i in range(m):
            y[first + i] = tile[i]


# --- two vectors: units are elements ----------------------------------------------------------------------------------


def _dot_a_vjp(p, lo, hi, a, b, y, y_bar, a_bar):
    """a_bar += y_bar b"""
    bar, other, g = a_bar[lo:hi], b[lo:hi], y_bar[0]
    for i in range(hi - lo):
        bar[i] += g * other[i]


def _dot_b_vjp(p, lo, hi, a, b, y, y_bar, b_bar):
    """b_bar += y_bar a"""
    bar, other, g = b_bar[lo:hi], a[lo:hi], y_bar[0]
    for i in range(hi - lo):
        bar[i] += g * other[i]


def _dot_of_integers(p, lo, hi, a, b, y):
    total = np.int64(0)
    for i in range(lo, hi):
        total += np.int64(a[i]) * np.int64(b[i])
    y[0] += total


@array_op(
    2,
    integer=_dot_of_integers,
    vjps=(_dot_a_vjp, _dot_b_vjp),
    partials=(lambda b, g: g * b, lambda a, g: g * a),
    tangents=(lambda b, t: t @ b, lambda a, t: t @ a),
    units=3,
    summed=1,
    grad_name="DotBackward0",
)
def dot(p, lo, hi, a, b, y):
    """The inner product of two vectors; added to `y`."""
    y[0] += _inner(a[lo:hi], b[lo:hi])


# --- batches of matrices ----------------------------------------------------------------------------------------------


def _before(t, own, other):
    """A tangent of an operand, whose lanes, if it has some, come before all dimensions of batches."""
    missing = len(other) - len(own) if t.ndim > len(own) else 0
    return t.reshape(t.shape[0], *(1,) * missing, *t.shape[1:]) if missing > 0 else t


bmm = _declare_product(
    "bmm",
    (
        lambda b, g, s: (g @ b.transpose(-2, -1)).sum_to_size(s[0]),
        lambda a, g, s: (a.transpose(-2, -1) @ g).sum_to_size(s[1]),
    ),
    (lambda b, t, s: _before(t, s[0], s[1]) @ b, lambda a, t, s: a @ _before(t, s[1], s[0])),
    "BmmBackward0",
)
