"""Products of vectors, matrices, and batches of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad import batched, overrides
from tapegrad.arguments import EXACT, Surface
from tapegrad.batched import Batched
from tapegrad.conversion import as_operand, is_array, is_sparse, leaf_of
from tapegrad.functions.shaping import contiguous
from tapegrad.ops import indexing, linalg
from tapegrad.recording import of_two_in_one_step, record_array
from tapegrad.tensor import Tensor, describe, location

functions = public = Surface(EXACT)

# What is said of operands of two dtypes; {0} and {1} are their names.
_MATRICES = "expected m1 and m2 to have the same dtype, but got: {0} != {1}"
_MATRIX_AND_VECTOR = "mv: input tensors must have the same dtype, but got {0} and {1}"
_VECTORS = "dot: expected both vectors to have same dtype, but found {0} and {1}"


def check_dtypes(name: str, a: Any, b: Any, differing: str = _MATRICES) -> None:
    """Operands of a product are of one dtype, and not bools."""
    if a.dtype is not b.dtype:
        named = (x.dtype.c_type.removesuffix(" int") for x in (a, b))
        raise RuntimeError(
            f"{differing.format(*named)}. {name}({describe(a, b)}), recorded at {location()}: convert one with .to(...)"
        )
    if a.dtype.name == "bool":
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool': {name}({describe(a, b)}), at {location()}")


def _for_blas(t: Tensor) -> Tensor:
    """The tensor itself where BLAS can read its matrices, else a copy."""
    kind = t._kind
    if kind.contiguous or not kind.dtype.is_floating_point:
        return contiguous(t)
    rows, columns = kind.shape[-2:]
    down, along = (s // kind.itemsize for s in kind.strides[-2:])
    by_rows = along == 1 and down >= max(columns, 1)
    by_columns = down == 1 and along >= max(rows, 1)
    positive = all(s >= 0 for s in kind.strides)
    return t if positive and (by_rows or by_columns) else t.clone()


def _product(op: Any, a: Tensor, b: Tensor, shape: tuple[int, ...], batch: tuple[int, ...]) -> Tensor:
    """Record a product of [.., m, k] and [.., k, n]; `shape` is that of the result."""
    if a.__class__ is Batched or b.__class__ is Batched:
        return batched.rules["product"](a, b)
    a, b = _for_blas(a), _for_blas(b)
    size = a._kind.itemsize
    (m, k), n = a._kind.shape[-2:], b._kind.shape[-1]

    def batch_strides(t: Tensor, strides: tuple[int, ...]) -> tuple[int, ...]:
        missing = len(batch) - (t.ndim - 2)
        own = [0 if length == 1 else s for length, s in zip(t._kind.shape[:-2], strides, strict=False)]
        return (*(0,) * missing, *own)

    def natural(t: Tensor) -> tuple[int, ...]:
        shape = t._kind.shape
        return tuple(math.prod(shape[d + 1 :]) for d in range(t.ndim))

    strides = [tuple(s // size for s in t._kind.strides) for t in (a, b)]
    params = (
        len(batch), m, n, k, *strides[0][-2:], *strides[1][-2:], *batch,
        *batch_strides(a, strides[0]), *batch_strides(b, strides[1]), *batch_strides(a, natural(a)),
        *batch_strides(b, natural(b)),
    )  # fmt: skip
    return record_array(op, shape, a.dtype, a, b, params=params)


def _cannot(a: Tensor, b: Tensor, name: str) -> RuntimeError:
    return RuntimeError(f"{name}({describe(a, b)}), recorded at {location()}")


@public
@of_two_in_one_step
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices.

    Raises
    ------
    RuntimeError
        Where the inner lengths or the dtypes differ, or an operand is no matrix.

    >>> import tapegrad as tg
    >>> tg.mm(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.eye(2))
    tensor([[1., 2.],
            [3., 4.]])
    """
    check_dtypes("mm", input, mat2)
    if input.ndim != 2:
        raise RuntimeError(f"self must be a matrix: {_cannot(input, mat2, 'mm')}")
    if mat2.ndim != 2:
        raise RuntimeError(f"mat2 must be a matrix: {_cannot(input, mat2, 'mm')}")
    _check_inner(input, mat2, "mm")
    return _product(linalg.mm, input, mat2, (input._kind.shape[0], mat2._kind.shape[1]), ())


def _check_inner(a: Tensor, b: Tensor, name: str) -> None:
    """The inner lengths agree; a vector in front is a row, one behind a column."""
    (m, k), (q, n) = (1, *a._kind.shape)[-2:], b._kind.shape[-2:] if b.ndim > 1 else (*b._kind.shape, 1)
    if k != q:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({m}x{k} and {q}x{n}): {name}({describe(a, b)}), recorded at "
            f"{location()}"
        )


@public
@of_two_in_one_step
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector.

    >>> import tapegrad as tg
    >>> tg.mv(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.ones(2))
    tensor([3., 7.])
    """
    check_dtypes("mv", input, vec, _MATRIX_AND_VECTOR)
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got {input.ndim}, {vec.ndim}: {_cannot(input, vec, 'mv')}"
        )
    if input._kind.shape[1] != vec._kind.shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({input._kind.shape[0]}), mat ({input._kind.shape[0]}x{input._kind.shape[1]}), "
            f"vec ({vec._kind.shape[0]}): "
            f"{_cannot(input, vec, 'mv')}"
        )
    return _vector_product(linalg.mv, input, vec, input._kind.shape[:1])


def _vector_product(op: Any, a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Vectors enter as they are; the parameters read `a` as [m, k] and `b` as [k, 1]."""
    if a.__class__ is Batched or b.__class__ is Batched:
        return batched.rules["vector product"](a, b)
    a = _for_blas(a) if a.ndim == 2 else contiguous(a)
    b = contiguous(b)
    k = b._kind.shape[0]
    m = a._kind.shape[0] if a.ndim == 2 else 1
    row, column = (s // a._kind.itemsize for s in a._kind.strides) if a.ndim == 2 else (k, 1)
    return record_array(op, shape, a.dtype, a, b, params=(0, m, 1, k, row, column, 1, 1))


@public
@of_two_in_one_step
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors.

    >>> import tapegrad as tg
    >>> tg.dot(tg.ones(3), tg.arange(3).to(tg.float64))
    tensor(3.)
    """
    check_dtypes("dot", input, tensor, _VECTORS)
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(
            f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors: {_cannot(input, tensor, 'dot')}"
        )
    if input._kind.shape != tensor._kind.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{input._kind.shape[0]}] and src [{tensor._kind.shape[0]}] to "
            f"have the same number of elements, "
            f"but got {input._kind.shape[0]} and {tensor._kind.shape[0]} elements respectively: "
            f"{_cannot(input, tensor, 'dot')}"
        )
    return _vector_product(linalg.dot, input, tensor, ())


@public
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of the elements of two vectors.

    >>> import tapegrad as tg
    >>> tg.outer(tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    for name, vector in (("self", input), ("vec2", vec2)):
        if vector.ndim != 1:
            raise RuntimeError(
                f"outer: Expected 1-D argument {name}, but got {vector.ndim}-D: {_cannot(input, vec2, 'outer')}"
            )
    return input.unsqueeze(1) * vec2


@public
@of_two_in_one_step
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, [b, m, k] and [b, k, n].

    >>> import tapegrad as tg
    >>> tg.bmm(tg.ones(5, 2, 3), tg.ones(5, 3, 4)).shape
    tapegrad.Size([5, 2, 4])
    """
    check_dtypes("bmm", input, mat2)
    if input.ndim != 3 or mat2.ndim != 3:
        which = "batch1" if input.ndim != 3 else "batch2"
        raise RuntimeError(f"{which} must be a 3D tensor: {_cannot(input, mat2, 'bmm')}")
    (b, m, k), (c, q, n) = input._kind.shape, mat2._kind.shape
    if b != c or k != q:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{b}, {k}] but got: [{c}, {q}]: "
            f"{_cannot(input, mat2, 'bmm')}"
        )
    return _product(linalg.bmm, input, mat2, (b, m, n), (b,))


@public
@of_two_in_one_step
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The product of vectors, matrices, or batches of matrices, whose batch dimensions are broadcast.

    >>> import tapegrad as tg
    >>> tg.ones(2, 3) @ tg.ones(3)
    tensor([3., 3.])
    """
    check_dtypes("matmul", input, other)
    p, q = input.ndim, other.ndim
    if p == 0 or q == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {p}D and {q}D: "
            f"{_cannot(input, other, 'matmul')}"
        )
    if p == 1 and q == 1:
        return dot(input, other)
    if p == 2 and q == 1:
        return mv(input, other)
    if p == 2 and q == 2:
        return mm(input, other)
    if p == 1 or q == 1 or p == 2 or q == 2:
        _check_inner(input, other, "matmul")
    if p == 1:
        return matmul(input.unsqueeze(0), other).squeeze(-2)
    if q == 1:
        return matmul(input, other.unsqueeze(1)).squeeze(-1)
    head_a, head_b = input._kind.shape[:-2], other._kind.shape[:-2]
    if head_a == head_b:
        batch = head_a
    else:
        n = max(len(head_a), len(head_b))
        left, right = (1,) * (n - len(head_a)) + head_a, (1,) * (n - len(head_b)) + head_b
        for d, (u, v) in enumerate(zip(left, right, strict=True)):
            if u != v and 1 not in (u, v):
                raise RuntimeError(
                    f"The size of tensor a ({u}) must match the size of tensor b ({v}) at non-singleton dimension {d}: "
                    f"{_cannot(input, other, 'matmul')}"
                )
        batch = tuple(v if u == 1 else u for u, v in zip(left, right, strict=True))
    k, (inner, columns) = input._kind.shape[-1], other._kind.shape[-2:]
    if k != inner:
        b = math.prod(batch)
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{b}, {k}] but got: [{b}, {inner}]: "
            f"{_cannot(input, other, 'matmul')}"
        )
    return _product(linalg.bmm, input, other, (*batch, input._kind.shape[-2], columns), batch)


def _operator(self: Tensor, other: Any) -> Any:
    if is_sparse(other):
        return _sparse_product(other.T, self.mT).mT if self.ndim == 2 else _sparse_product(other.T, self)
    taken = _operand(other, self)
    return overrides.operated("matmul", self, other) if taken is None else matmul(self, taken)


def _reflected(self: Tensor, other: Any) -> Any:
    if is_sparse(other):
        return _sparse_product(other, self)
    taken = _operand(other, self)
    return overrides.operated("matmul", other, self) if taken is None else matmul(taken, self)


def _operand(value: Any, beside: Tensor) -> Any:
    return as_operand(value, beside.requires_grad) if isinstance(value, Tensor) or is_array(value) else None


def _sparse_product(a: Any, t: Tensor) -> Tensor:
    """The product of one of SciPy's sparse matrices with a vector or a matrix: its elements times rows, added up."""
    if len(a.shape) != 2 or t.ndim not in (1, 2) or a.shape[1] != t.shape[0]:
        raise RuntimeError(
            f"a sparse matrix of shape {list(a.shape)} can't be multiplied with {describe(t)}, at {location()}"
        )
    entries, (m, _), width = a.tocoo(), a.shape, math.prod(t.shape[1:])
    columns = np.arange(width)
    rows, picked = (
        leaf_of((np.asarray(at, np.int64)[:, None] * width + columns).ravel()) for at in (entries.row, entries.col)
    )
    elements = leaf_of(np.repeat(entries.data, width))
    terms = record_array(indexing.take, picked.shape, t.dtype, contiguous(t), picked) * elements
    return record_array(indexing.scatter_add, (m, *t.shape[1:]), terms.dtype, terms, rows)


Tensor.__matmul__ = _operator
Tensor.__rmatmul__ = _reflected


@public
def inner(input: Tensor, other: Tensor) -> Tensor:
    """All sums of products over the last dimension of both: of vectors their dot product.

    The result has the other dimensions of `input`, then those of `other`.

    >>> import tapegrad as tg
    >>> tg.inner(tg.ones(2, 3), tg.ones(4, 5, 3)).shape
    tapegrad.Size([2, 4, 5])
    """
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    check_dtypes("inner", input, other)
    (*head, n), (*tail, m) = input._kind.shape, other._kind.shape
    if n != m:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {[*head, n]} and "
            f"{[*tail, m]}: {_cannot(input, other, 'inner')}"
        )
    if not head and not tail:
        return dot(input, other)
    rows, columns = (t.reshape(-1, n) if n else t.reshape(math.prod(t._kind.shape[:-1]), 0) for t in (input, other))
    return mm(rows, columns.mT).reshape(*head, *tail)
