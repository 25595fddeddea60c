"""`tapegrad.xp`, against the text of the array API standard (2024.12): names, signatures, meaning, dtypes, derivatives.

NumPy's main namespace follows the standard, and says what values and dtypes are right; derivatives are checked.
"""

import inspect
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import xp

# --- names and signatures --------------------------------------------------------------------------------------------

UNARY = """
    abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf
    isnan log log1p log2 log10 logical_not negative positive real reciprocal round sign signbit sin sinh square
    sqrt tan tanh trunc
""".split()
BINARY = """
    add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal
    floor_divide greater greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor
    maximum minimum multiply nextafter not_equal pow remainder subtract
""".split()
SIGNATURES = """
    arange(start, /, stop=None, step=1, *, dtype=None, device=None)
    asarray(obj, /, *, dtype=None, device=None, copy=None)
    empty(shape, *, dtype=None, device=None)
    empty_like(x, /, *, dtype=None, device=None)
    eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
    from_dlpack(x, /, *, device=None, copy=None)
    full(shape, fill_value, *, dtype=None, device=None)
    full_like(x, /, fill_value, *, dtype=None, device=None)
    linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
    meshgrid(*arrays, indexing='xy')
    ones(shape, *, dtype=None, device=None)
    ones_like(x, /, *, dtype=None, device=None)
    tril(x, /, *, k=0)
    triu(x, /, *, k=0)
    zeros(shape, *, dtype=None, device=None)
    zeros_like(x, /, *, dtype=None, device=None)
    astype(x, dtype, /, *, copy=True, device=None)
    can_cast(from_, to, /)
    finfo(type, /)
    iinfo(type, /)
    isdtype(dtype, kind)
    result_type(*arrays_and_dtypes)
    clip(x, /, min=None, max=None)
    take(x, indices, /, *, axis=None)
    take_along_axis(x, indices, /, *, axis=-1)
    matmul(x1, x2, /)
    matrix_transpose(x, /)
    tensordot(x1, x2, /, *, axes=2)
    vecdot(x1, x2, /, *, axis=-1)
    broadcast_arrays(*arrays)
    broadcast_to(x, /, shape)
    concat(arrays, /, *, axis=0)
    expand_dims(x, /, axis=0)
    flip(x, /, *, axis=None)
    moveaxis(x, source, destination, /)
    permute_dims(x, /, axes)
    repeat(x, repeats, /, *, axis=None)
    reshape(x, /, shape, *, copy=None)
    roll(x, /, shift, *, axis=None)
    squeeze(x, /, axis)
    stack(arrays, /, *, axis=0)
    tile(x, repetitions, /)
    unstack(x, /, *, axis=0)
    argmax(x, /, *, axis=None, keepdims=False)
    argmin(x, /, *, axis=None, keepdims=False)
    count_nonzero(x, /, *, axis=None, keepdims=False)
    nonzero(x, /)
    searchsorted(x1, x2, /, *, side='left', sorter=None)
    where(condition, x1, x2, /)
    unique_all(x, /)
    unique_counts(x, /)
    unique_inverse(x, /)
    unique_values(x, /)
    argsort(x, /, *, axis=-1, descending=False, stable=True)
    sort(x, /, *, axis=-1, descending=False, stable=True)
    cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
    cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
    max(x, /, *, axis=None, keepdims=False)
    mean(x, /, *, axis=None, keepdims=False)
    min(x, /, *, axis=None, keepdims=False)
    prod(x, /, *, axis=None, dtype=None, keepdims=False)
    std(x, /, *, axis=None, correction=0.0, keepdims=False)
    sum(x, /, *, axis=None, dtype=None, keepdims=False)
    var(x, /, *, axis=None, correction=0.0, keepdims=False)
    all(x, /, *, axis=None, keepdims=False)
    any(x, /, *, axis=None, keepdims=False)
    diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
    linalg.cholesky(x, /, *, upper=False)
    linalg.cross(x1, x2, /, *, axis=-1)
    linalg.det(x, /)
    linalg.diagonal(x, /, *, offset=0)
    linalg.eigh(x, /)
    linalg.eigvalsh(x, /)
    linalg.inv(x, /)
    linalg.matmul(x1, x2, /)
    linalg.matrix_norm(x, /, *, keepdims=False, ord='fro')
    linalg.matrix_power(x, n, /)
    linalg.matrix_rank(x, /, *, rtol=None)
    linalg.matrix_transpose(x, /)
    linalg.outer(x1, x2, /)
    linalg.pinv(x, /, *, rtol=None)
    linalg.qr(x, /, *, mode='reduced')
    linalg.slogdet(x, /)
    linalg.solve(x1, x2, /)
    linalg.svd(x, /, *, full_matrices=True)
    linalg.svdvals(x, /)
    linalg.tensordot(x1, x2, /, *, axes=2)
    linalg.trace(x, /, *, offset=0, dtype=None)
    linalg.vecdot(x1, x2, /, *, axis=-1)
    linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
""".split("\n")
SIGNED = [line.strip() for line in SIGNATURES if line.strip()]
SIGNED += [f"{name}(x, /)" for name in UNARY] + [f"{name}(x1, x2, /)" for name in BINARY]


def _of(namespace, name):
    for part in name.split("."):
        namespace = getattr(namespace, part)
    return namespace


@pytest.mark.parametrize("line", SIGNED, ids=[line.partition("(")[0] for line in SIGNED])
def test_signature(line):
    name = line.partition("(")[0]
    function = _of(xp, name)
    signature = inspect.signature(function)
    bare = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()],
        return_annotation=signature.empty,
    )
    assert str(bare) == line.removeprefix(name)
    assert function.__doc__, "each says what it gives"


def test_nothing_else_is_public():
    constants = {"e", "inf", "nan", "pi", "newaxis", "bool", "float32", "float64"}
    constants |= {"int8", "int16", "int32", "int64", "uint8"}
    others = {"linalg", "special", "__array_api_version__", "__array_namespace_info__"}
    names = {line.partition("(")[0] for line in SIGNED}
    assert set(dir(xp)) == constants | others | {name for name in names if "." not in name}
    assert {f"linalg.{name}" for name in dir(xp.linalg)} == {name for name in names if "." in name}


ATTRIBUTES = """
    __abs__ __add__ __and__ __array_namespace__ __bool__ __complex__ __dlpack__ __dlpack_device__ __eq__ __float__
    __floordiv__ __ge__ __getitem__ __gt__ __index__ __int__ __invert__ __le__ __lshift__ __lt__ __matmul__ __mod__
    __mul__ __ne__ __neg__ __or__ __pos__ __pow__ __rshift__ __setitem__ __sub__ __truediv__ __xor__ to_device
    __radd__ __rsub__ __rmul__ __rtruediv__ __rfloordiv__ __rmod__ __rpow__ __rmatmul__ __rand__ __ror__ __rxor__
    __rlshift__ __rrshift__ dtype device mT ndim shape size T
""".split()


def test_arrays_have_what_the_standard_asks_for():
    assert [name for name in ATTRIBUTES if not hasattr(tg.Tensor, name)] == []
    x = tg.ones(2, 3)
    assert (x.size, x.shape, x.ndim, x.T.shape, x.mT.shape) == (6, (2, 3), 2, (3, 2), (3, 2))
    assert x.__array_namespace__() is xp is x.__array_namespace__(api_version="2024.12")
    assert x.to_device(x.device) is x
    for symbol in ("+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>", "@"):
        is_float = symbol in "+-*/**@"
        scope = {"a": tg.ones(2, 2) if is_float else tg.tensor([[5, 6], [7, 8]]), "tg": tg}
        exec(f"a {symbol}= a", scope)
        assert isinstance(scope["a"], tg.Tensor)
    with pytest.raises(ValueError, match="1999"):
        x.__array_namespace__(api_version="1999.01")
    with pytest.raises(RuntimeError, match="CPU"):
        x.to_device("cuda")


# --- what NumPy says -------------------------------------------------------------------------------------------------

V, W = np.array([0.3, -1.2, 2.6, 0.7]), np.array([1.5, 0.45, -0.6, 2.2])
M = np.array([[0.2, 1.4, -0.5], [0.9, -0.3, 1.1], [2.0, 0.6, 0.8]])
C = np.arange(1.0, 25.0).reshape(2, 3, 4) ** 0.5
S = M @ M.T + np.eye(3)
K, L = np.array([5, -3, 2, 7]), np.array([2, 3, -4, 1])
B = np.array([True, False, True, False])
N = np.array([1.0, np.nan, 1.0, np.nan, -2.0])

APART = "acos acosh asin atanh log log1p log2 log10 sqrt bitwise_invert".split()
# Calls of functions by their names, of the arrays above.
CALLS = [
    *(f"{name}(V)" for name in UNARY if name not in APART),
    "acos(V / 3)", "acosh(abs(V) + 1.5)", "asin(V / 3)", "atanh(V / 3)", "log(W * W)", "log1p(W * W)", "log2(W * W)",
    "log10(W * W)", "sqrt(W * W)", "bitwise_invert(K)", "bitwise_invert(B)", "abs(K)", "sign(K)", "floor(K)",
    "round(K)",
    "trunc(K)", "ceil(K)", "negative(K)", "square(K)", "isnan(K)", "isfinite(K)", "logical_not(B)", "round(V * 10)",
    *(f"{name}(V, W)" for name in BINARY if name[:3] != "bit" and name != "pow"),
    *(f"{name}(K, L)" for name in ("add", "floor_divide", "remainder", "divide", "maximum", "less", "bitwise_and")),
    *(f"bitwise_{name}(K, abs(L))" for name in ("left_shift", "right_shift", "or", "xor")),
    *(f"{name}(V, 2.0)" for name in ("add", "subtract", "multiply", "divide", "atan2", "hypot", "maximum",
    "copysign")),
    *(f"{name}(2.0, V)" for name in ("add", "subtract", "multiply", "divide", "atan2", "logaddexp", "less", "equal")),
    "pow(W * W, V)", "pow(V, 2)", "pow(2.0, V)", "bitwise_xor(B, True)", "logical_or(B, ~B)",
    "clip(V, 0.0, 1.0)", "clip(V, max=W)", "clip(V, min=W)", "clip(V)", "clip(K, 0, None)", "clip(C, 2.0, C[0])",
    "arange(5)", "arange(1, 9, 2)", "arange(3, 0)", "arange(0.5, 2.0, 0.5)", "arange(5, 1, -2)", "arange(0, 5, -1)",
    "linspace(0.0, 1.0, 5)", "linspace(0, 3, 4)", "linspace(1.0, 2.0, 4, endpoint=False)", "linspace(1.0, 2.0, 1)",
    "eye(3)", "eye(2, 3, k=1)", "eye(3, 2, k=-1, dtype=T.int32)", "zeros(3)", "zeros((2, 0))",
    "ones((2,), dtype=T.int64)",
    "full((2,), 3)", "full(2, 1.5)", "full((), True)", "full_like(V, 3)", "ones_like(K)",
    "zeros_like(C, dtype=T.float32)",
    "meshgrid(V, W)", "meshgrid(V, W, indexing='ij')", "tril(M)", "triu(C, k=1)", "tril(M, k=-1)",
    "asarray(V)", "asarray([[1, 2], [3, 4]])", "asarray(2.5)", "asarray(True)", "asarray(K, dtype=T.float64)",
    "astype(V, T.int32)", "astype(K, T.float32)", "astype(B, T.float64)", "astype(V, T.bool)",
    "matmul(M, M)", "matmul(M, C[0, :3, :3])", "matmul(C[:, :, :3], M)", "matrix_transpose(C)",
    "tensordot(M, M)", "tensordot(C, C, axes=((0, 2), (0, 2)))", "tensordot(V, W, axes=0)", "vecdot(V, W)",
    "vecdot(C, C, axis=-2)", "vecdot(M, M[0])", "broadcast_arrays(V, C)", "broadcast_to(V, (3, 4))",
    "concat([V, W])", "concat((M, M), axis=1)", "concat([M, V], axis=None)", "concat([K, V])", "stack([V, W])",
    "stack((V, W), axis=-1)", "unstack(M)", "unstack(C, axis=1)", "expand_dims(V, axis=1)", "expand_dims(M, axis=-1)",
    "squeeze(C[:1], 0)", "squeeze(C[:1, :, :1], (0, 2))", "flip(C)", "flip(C, axis=1)", "flip(C, axis=(0, -1))",
    "moveaxis(C, 0, 2)", "moveaxis(C, (0, 1), (-1, 0))", "permute_dims(C, (2, 0, 1))", "repeat(V, 2)",
    "repeat(M, 2, axis=1)", "repeat(K, abs(L))", "repeat(M, A([1, 0, 2]), axis=0)", "reshape(C, (4, 6))",
    "reshape(C, (-1,))",
    "roll(V, 1)", "roll(C, 2)", "roll(C, (1, -1), axis=(0, 2))", "tile(V, (2,))", "tile(M, (2, 1, 2))",
    "tile(C, (2,))",
    "take(V, A([3, 0]))", "take(C, A([1, 0, 1]), axis=1)", "take(C, A([-1]), axis=-1)", "take(M, A([2]), axis=0)",
    "take_along_axis(M, A([[0], [2], [1]]), axis=1)", "take_along_axis(M, A([[0, -1, 1]]), axis=0)",
    "argmax(C)", "argmax(M, axis=1)", "argmin(M, axis=0, keepdims=True)", "argmin(M, keepdims=True)", "argmax(K)",
    "count_nonzero(B)", "count_nonzero(K - 2)", "count_nonzero(M, axis=(0, 1))",
    "count_nonzero(M, axis=1, keepdims=True)",
    "nonzero(B)", "nonzero(M > 0)", "searchsorted(A([-1.0, 0.5, 2.0]), V)",
    "searchsorted(A([1, 2, 2]), K, side='right')",
    "searchsorted(V, W, sorter=argsort(V))", "searchsorted(sort(N), N)", "searchsorted(sort(N), N, side='right')",
    "prod(A(1.5), axis=())", "where(B, V, W)", "where(B, V, 0.0)", "where(M > 0, M, M[0])",
    "where(B, 1.5, W)",
    "unique_all(K)", "unique_all(N)", "unique_counts(A([[3, 1], [1, 3]]))", "unique_inverse(A([[3, 1], [1, 3]]))",
    "unique_values(N)", "unique_values(V)", "unique_all(A([[2.0, 1.0], [2.0, 1.0]]))",
    "argsort(V)", "argsort(A([2, 1, 2, 1]))", "argsort(C, axis=0)", "sort(M)", "sort(M, axis=0)", "sort(K)",
    "sort(N)",
    *(f"{name}(C)" for name in ("sum", "prod", "max", "min", "mean", "std", "var", "all", "any")),
    *(f"{name}(C, axis=(0, 2), keepdims=True)" for name in ("sum", "prod", "max", "min", "mean", "std", "var",
    "all")),
    *(f"{name}(C, axis=1)" for name in ("sum", "prod", "max", "min", "mean", "std", "var", "any")),
    *(f"{name}(C, axis=())" for name in ("sum", "prod", "max", "min", "mean", "std", "var", "any")),
    *(f"{name}(A(1.5))" for name in ("sum", "prod", "max", "min", "mean", "std", "var", "all")),
    *(f"{name}(K)" for name in ("sum", "prod", "max", "min", "any")), "sum(B)", "sum(V, dtype=T.float32)",
    "sum(astype(K, T.int32))", "prod(astype(K, T.int32))", "std(V, correction=1)", "var(M, axis=0, correction=0.5)",
    "sum(N)", "max(N)", "prod(C[:0], axis=(0, 1))", "sum(C[:0])", "prod(C[:, :0], axis=1)",
    "cumulative_sum(V)", "cumulative_sum(C, axis=1)", "cumulative_prod(M, axis=-1)",
    "cumulative_sum(K, include_initial=True)",
    "cumulative_prod(M, axis=0, include_initial=True)", "cumulative_sum(astype(K, T.int32))",
    "diff(V)", "diff(C, axis=1)", "diff(V, n=2)", "diff(M, prepend=M[:, :1], append=M[:, :1])", "diff(V, n=0)",
    "linalg.cholesky(S)", "linalg.cholesky(S, upper=True)", "linalg.cross(M, M[::1, :] + 1.0)", "linalg.det(M)",
    "linalg.cross(M, M + 1.0, axis=0)", "linalg.cross(M[0], M)", "linalg.cross(stack([M, S])[:, :1], M[1:])",
    "linalg.diagonal(C)", "linalg.diagonal(C, offset=1)",
    "linalg.eigvalsh(S + matrix_transpose(S))",
    "linalg.inv(M)", "linalg.matmul(M, M)", "linalg.matrix_norm(C)",
    "linalg.matrix_norm(M, ord='nuc', keepdims=True)",
    *(f"linalg.matrix_norm(M, ord={ord})" for ord in (1, -1, 2, -2, "inf", "-inf")), "linalg.matrix_power(M, 3)",
    "linalg.matrix_power(M, -2)", "linalg.matrix_rank(M)", "linalg.matrix_rank(ones((2, 3, 3)))",
    "linalg.matrix_rank(S, rtol=0.5)", "linalg.matrix_transpose(M)", "linalg.outer(V, W)", "linalg.pinv(C[0])",
    "linalg.slogdet(M)", "linalg.solve(M, M[0])", "linalg.solve(M, C[0])", "linalg.solve(stack([M, S]), C[0])",
    "linalg.svdvals(C)", "linalg.tensordot(M, M, axes=1)", "linalg.trace(M)", "linalg.trace(C, offset=1)",
    "linalg.vecdot(V, W)", "linalg.vector_norm(C)", "linalg.vector_norm(C, axis=1, ord=3)",
    "linalg.vector_norm(C, axis=(0, 2), keepdims=True)", "linalg.vector_norm(V, ord=inf)",
    "linalg.vector_norm(V, ord=0)",
    "linalg.eigh(S + matrix_transpose(S)).eigenvalues", "linalg.qr(M).R", "linalg.svd(C[0], full_matrices=False).S",
    "linalg.svd(C[0]).S",
]  # fmt: skip
ARRAYS = {"V": V, "W": W, "M": M, "C": C, "S": S, "K": K, "L": L, "B": B, "N": N}


class _Scope(dict):
    """Names in a call: arrays of ours, else what the namespace has."""

    def __init__(self, namespace, array):
        super().__init__({name: array(value) for name, value in ARRAYS.items()})
        self.namespace = namespace
        self["T"], self["A"], self["__builtins__"] = namespace, lambda value: array(np.asarray(value)), {}

    def __missing__(self, name):
        if name == "inf":
            return np.inf
        return getattr(self.namespace, name)


def _leaves(value):
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, (tuple, list)) else [value]


@pytest.mark.parametrize("call", CALLS)
def test_as_numpy_says(call):
    with np.errstate(all="ignore"):
        wanted = _leaves(eval(call, {}, _Scope(np, np.asarray)))
    found = _leaves(eval(call, {}, _Scope(xp, tg.tensor)))
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert isinstance(ours, tg.Tensor)
        theirs = np.asarray(theirs)
        assert ours.dtype.numpy == theirs.dtype
        assert tuple(ours.shape) == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-14)


CONSTANT = (
    "argm", "args", "arange", "any", "all", "bitwise", "count", "equal", "eye", "full", "greater", "imag", "isf", "isi",
    "isn", "less", "linspace", "logical", "nonzero", "not_equal", "ones", "searchsorted", "signbit", "zeros",
    "linalg.matrix_rank",
)  # fmt: skip
DIFFERENTIABLE = [
    call
    for call in CALLS
    if not call.startswith(CONSTANT) and any(name in call for name in "VWMCS") and "T." not in call
]


@pytest.mark.parametrize("call", DIFFERENTIABLE)
def test_derivatives(call):
    used = [name for name in ("V", "W", "M", "C", "S") if name in call]

    def function(*values):
        scope = _Scope(xp, tg.tensor)
        scope.update(zip(used, values, strict=True))
        found = [t for t in _leaves(eval(call, {}, scope)) if t.dtype.is_floating_point]
        return sum((t * t).sum() for t in found)

    inputs = [tg.tensor(ARRAYS[name], requires_grad=True) for name in used]
    assert function(*inputs).requires_grad
    assert tg.autograd.gradcheck(function, inputs, eps=1e-6, atol=2e-5, rtol=1e-5)


def test_of_each_function_there_is_a_call():
    called = " ".join(CALLS)
    names = {line.partition("(")[0] for line in SIGNED}
    apart = {"empty", "empty_like", "from_dlpack", "can_cast", "finfo", "iinfo", "isdtype", "result_type"}
    assert {name for name in names if f"{name}(" not in called} == apart


# --- where the standard differs from PyTorch -------------------------------------------------------------------------


def test_arrays_without_dimensions_are_promoted_like_others():
    x, one = tg.ones(3, dtype=tg.float32), tg.tensor(1.0)
    assert (x + one).dtype is tg.float32, "PyTorch's rule"
    assert xp.add(x, one).dtype is xp.where(x > 0, x, one).dtype is tg.float64
    assert xp.result_type(x, one) is xp.float64
    assert xp.add(x, 1.0).dtype is xp.result_type(x, 1.0) is xp.float32
    assert xp.concat([x, tg.tensor([1.0])]).dtype is tg.float64
    assert xp.multiply(2, tg.tensor([1], dtype=tg.int32)).dtype is tg.int32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_that_remain_have_the_sign_of_the_divisor(dtype):
    x = np.array([0.0, -0.0, 2.0, -2.0, 3.5, -3.5, np.inf, np.nan], dtype)
    y = np.array([1.0, -1.0, 2.0, -2.0, np.inf, -np.inf, 0.0, -0.0, np.nan], dtype)
    pairs = [(x[:, None], y), *((x, v) for v in (2, -2, 1.5, -np.inf)), *((v, y) for v in (2, -2, 0.0, -0.0))]
    for a, b in pairs:
        with np.errstate(all="ignore"):
            wanted = np.remainder(a, b)
        found = xp.remainder(*(xp.asarray(v) if isinstance(v, np.ndarray) else v for v in (a, b))).numpy()
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found)[wanted == 0], np.signbit(wanted)[wanted == 0])
    t = tg.tensor([4.0, -4.0, 3.0], requires_grad=True)
    xp.remainder(t, 2.0).sum().backward()
    assert t.grad.tolist() == [1.0, 1.0, 1.0]


def test_special_functions_promote_integers_as_scipy_does():
    x = tg.tensor([1.5], dtype=tg.float32)
    for dtype, wanted in ((tg.int64, tg.float64), (tg.int32, tg.float64), (tg.int8, tg.float32)):
        assert xp.special.gammainc(tg.tensor([2], dtype=dtype), x).dtype is wanted
    many = 2**24 + 1
    assert xp.special.xlogy(tg.tensor([many]), tg.ones(1, dtype=tg.float32) * 2).item() == many * math.log(2.0)
    assert xp.special.gammainc(tg.tensor([2]), 1.5).dtype is tg.float64


def test_polygamma_of_several_orders():
    n, x = tg.tensor([[0], [1], [4], [-2]]), tg.tensor([0.7, 2.5, -1.25], requires_grad=True)
    found = xp.special.polygamma(n, x)
    for order, row in zip((0, 1, 4), found, strict=False):
        np.testing.assert_allclose(row.detach(), tg.special.polygamma(order, x).detach(), rtol=1e-15)
    assert found[3].isnan().all()
    assert xp.special.polygamma(-1, x).isnan().all()
    found[:3].sum().backward()
    wanted = sum(tg.special.polygamma(order, x.detach()) for order in (1, 2, 5))
    np.testing.assert_allclose(x.grad, wanted, rtol=1e-14)


def test_empty_integers_are_divided_by_zero():
    none = tg.zeros(0, dtype=tg.int64)
    for found in (none % 0, none // tg.tensor(0), tg.fmod(none, 0), xp.remainder(none, 0)):
        assert (found.shape, found.dtype) == ((0,), tg.int64)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        tg.ones(1, dtype=tg.int64) % 0


def test_descending_orders_are_stable():
    x = tg.tensor([1.0, 2.0, 1.0, 2.0])
    assert xp.argsort(x, descending=True).tolist() == [1, 3, 0, 2]
    assert xp.sort(x, descending=True).tolist() == [2.0, 2.0, 1.0, 1.0]


def test_dtypes():
    info = xp.__array_namespace_info__()
    assert {*info.dtypes()} == {"bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64"}
    assert info.dtypes(kind=("bool", "unsigned integer")) == {"bool": xp.bool, "uint8": xp.uint8}
    assert xp.result_type(xp.uint8, xp.int8) is xp.int16
    assert xp.can_cast(xp.uint8, xp.int16)
    assert not xp.can_cast(xp.uint8, xp.int8)
    assert info.dtypes(kind="complex floating") == {}
    assert info.default_dtypes() == {"real floating": xp.float64, "integral": xp.int64, "indexing": xp.int64}
    assert info.devices() == [info.default_device()] == ["cpu"]
    assert info.capabilities()["boolean indexing"]
    assert xp.isdtype(xp.bool, "bool")
    assert not xp.isdtype(xp.bool, "numeric")
    assert xp.isdtype(xp.int32, xp.int32)
    assert not xp.isdtype(xp.int32, ("unsigned integer", "real floating"))
    with pytest.raises(ValueError, match="quaternion"):
        xp.isdtype(xp.int32, ("integral", "quaternion"))
    assert not xp.can_cast(xp.float64, xp.float32)
    assert xp.can_cast(tg.ones(2, dtype=tg.int32), xp.int64)
    assert xp.finfo(tg.ones(2)).dtype is xp.float64
    assert (xp.finfo(xp.float32).eps, xp.iinfo(xp.int64).max) == (2.0**-23, 2**63 - 1)
    with pytest.raises(ValueError, match="at least one"):
        xp.result_type(1, 2.0)


def test_memory_is_shared_and_copied_as_asked():
    array = np.arange(3.0)
    shared, copied = xp.asarray(array), xp.asarray(array, copy=True)
    array[0] = 9.0
    assert shared.tolist() == [9.0, 1.0, 2.0]
    assert copied.tolist() == [0.0, 1.0, 2.0]
    assert xp.asarray(shared) is shared is xp.asarray(shared, copy=False)
    assert xp.asarray(shared, copy=True) is not shared
    for given, dtype in (([1.0], None), (2.0, None), (array, xp.float32), (shared, xp.int64)):
        with pytest.raises(ValueError, match="copy=False"):
            xp.asarray(given, dtype=dtype, copy=False)
    assert xp.astype(shared, xp.float64, copy=False) is shared
    assert xp.astype(shared, xp.float64) is not shared
    with pytest.raises(ValueError, match="copy=False"):
        xp.reshape(tg.ones(2, 3).T, (6,), copy=False)


def test_dlpack():
    x = tg.tensor([1.0, 2.0])
    view = np.from_dlpack(x)
    x[0] = 5.0
    assert view[0] == 5.0
    for back in (tg.from_dlpack(x), xp.from_dlpack(view), tg.from_dlpack(x.__dlpack__())):
        back[1] = 7.0
        assert x.tolist() == [5.0, 7.0]
        x[1] = 2.0
    copied = xp.from_dlpack(x, copy=True)
    copied[0] = 0.0
    assert x.tolist() == [5.0, 2.0]
    with pytest.raises(BufferError, match="require gradient"):
        tg.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="streams"):
        x.__dlpack__(stream=1)
    with pytest.raises(AttributeError, match="__dlpack__"):
        tg.from_dlpack([1.0])


def test_sequences_of_arrays_record():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = xp.asarray([[x[0], 2.0], [x[1] * x[0], 0]])
    (y * y).sum().backward()
    assert x.grad.tolist() == [2.0 + 2 * 1 * 2 * 2, 2 * 2.0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("sin([1.0])", TypeError, "asarray"),
        ("sin('a')", TypeError, "an array is expected, not str"),
        ("add(1, 2)", TypeError, "must be an array"),
        ("add(V, 'a')", TypeError, "an array is expected"),
        ("concat(V)", TypeError, "a sequence of arrays"),
        ("take(M, A([0]))", ValueError, "the axis must be given"),
        ("take(V, A([9]))", IndexError, "out of bounds"),
        ("squeeze(M, 0)", ValueError, "not 1"),
        ("nonzero(A(1.0))", ValueError, "no dimensions"),
        ("cumulative_sum(M)", ValueError, "axis"),
        ("sum(M, axis=2)", IndexError, "out of range"),
        ("prod(M, axis=(0, 5))", IndexError, "out of range"),
        ("linalg.qr(M, mode='r')", ValueError, "'reduced' or 'complete'"),
        ("linalg.matrix_rank(V)", ValueError, "no matrix"),
        ("matrix_transpose(A(1.5))", ValueError, "no matrix"),
        ("prod(A(1.5), axis=1)", IndexError, "out of range"),
        ("zeros(2, device='cuda')", RuntimeError, "CPU"),
        ("matmul(M, V)", RuntimeError, "size mismatch"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        eval(call, {}, _Scope(xp, tg.tensor))


# --- other libraries -------------------------------------------------------------------------------------------------


def _run(program, **environment):
    """In a process of its own: SciPy reads the variable when it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        env={**os.environ, "SCIPY_ARRAY_API": "1", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_scipy_dispatches():
    """Values are those for arrays, and derivatives are the quotients of differences."""
    _run("""
        import numpy as np, tapegrad as tg
        from scipy import integrate, optimize, special, stats
        from scipy.spatial.transform import Rotation

        x, y = np.linspace(0.2, 1.7, 9) ** 2, np.cos(np.arange(9.0)) + 1.5
        for function in (
            lambda a: stats.skew(a), lambda a: stats.kurtosis(a), lambda a: stats.zscore(a)[2],
            lambda a: stats.gmean(a), lambda a: stats.pearsonr(a, a**2 + y[0]).statistic,
            lambda a: stats.ttest_1samp(a, 0.3).pvalue,
            lambda a: integrate.trapezoid(a), lambda a: integrate.cumulative_simpson(a, dx=0.1)[-1],
            lambda a: optimize.rosen(a), lambda a: special.logsumexp(a), lambda a: special.betainc(a, 1.5, 0.3)[1],
            lambda a: special.gammaln(a)[0], lambda a: Rotation.from_rotvec(a[:3]).as_matrix()[0, 1],
        ):
            a = tg.tensor(x, requires_grad=True)
            value = function(a)
            assert isinstance(value, tg.Tensor) and value.requires_grad
            assert abs(value.item() - function(tg.tensor(x)).item()) < 1e-14
            value.backward()
            v, h = np.sin(np.arange(9.0)), 1e-6
            difference = (function(tg.tensor(x + h * v)) - function(tg.tensor(x - h * v))).item() / (2 * h)
            assert abs(difference - a.grad.numpy() @ v) < 1e-6 * (1 + abs(difference)), (difference, a.grad.numpy() @ v)
        assert abs(stats.skew(tg.tensor(x)).item() - stats.skew(x)) < 1e-14
    """)


def test_scikit_learn_dispatches():
    pytest.importorskip("sklearn")
    _run("""
        import numpy as np, sklearn, tapegrad as tg
        from sklearn.decomposition import PCA
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        sklearn.set_config(array_api_dispatch=True)
        random = np.random.default_rng(0)
        X, y = random.normal(size=(30, 4)), random.normal(size=30)
        for fit in (
            lambda X, y: StandardScaler().fit_transform(X), lambda X, y: PCA(2, svd_solver="full").fit_transform(X),
            lambda X, y: Ridge(solver="svd").fit(X, y).predict(X),
        ):
            ours = fit(tg.tensor(X, requires_grad=True), tg.tensor(y))
            assert isinstance(ours, tg.Tensor) and ours.requires_grad
            assert np.allclose(ours.detach().numpy(), fit(X, y))
    """)
