"""Operands of every layout: what is computed from a view is what is computed from a contiguous copy of it.

The table of operations drives it, as in `test_ops.py`, whose cases and those of `test_linalg.py` are met here again
with operands that are laid out at random: expanded, sliced, stepped, transposed, selected, diagonals, of negative
stride, misaligned, empty, without dimensions. Values, gradients and second derivatives are compared with those of
copies; a gradient comes back through the layout, which NumPy does too, with positions. With TAPEGRAD_DEBUG=memory this
finds kernels that go beyond their memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import test_linalg
import test_ops
from test_ops import by_name, is_cast
from thoroughness import further

import tapegrad as tg
from tapegrad.ops import host
from tapegrad.ops.declare import ELEMENTWISE, OPS, Op

over_floats = pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)


# --- layouts ----------------------------------------------------------------------------------------------------------


@dataclass
class Laid:
    """An array of a shape as a view: `view` takes a base, of a Tensor or of NumPy's, to it."""

    base: np.ndarray
    view: Callable[[Any], Any]


def permuted(x: Any, order: tuple[int, ...]) -> Any:
    return x.permute(*order) if isinstance(x, tg.Tensor) else x.transpose(order)


def expanded(x: Any, shape: tuple[int, ...]) -> Any:
    return x.expand(*shape) if isinstance(x, tg.Tensor) else np.broadcast_to(x, shape)


def diagonal_of(x: Any) -> Any:
    return x.diagonal(0, -2, -1)


def plain(array: np.ndarray, rng: np.random.Generator) -> Laid:
    return Laid(array, lambda x: x)


def transposed(array: np.ndarray, rng: np.random.Generator) -> Laid:
    order = tuple(rng.permutation(array.ndim).tolist())
    inverse = tuple(np.argsort(order).tolist())
    return Laid(np.array(array.transpose(order), order="C"), lambda x: permuted(x, inverse))


def sliced(array: np.ndarray, rng: np.random.Generator) -> Laid:
    """Part of a larger array, in some dimensions every second element."""
    cuts, shape = [], []
    for n in array.shape:
        start, step, behind = (int(k) for k in rng.integers([0, 1, 0], [3, 3, 3]))
        cuts.append(slice(start, start + step * n, step))
        shape.append(start + step * n + behind)
    base = rng.normal(size=shape).astype(array.dtype)
    base[tuple(cuts)] = array
    return Laid(base, lambda x: x[tuple(cuts)])


def selected(array: np.ndarray, rng: np.random.Generator) -> Laid:
    at, axis = int(rng.integers(3)), int(rng.integers(array.ndim + 1))
    index = (slice(None),) * axis + (at,)
    base = rng.normal(size=(*array.shape[:axis], 3, *array.shape[axis:])).astype(array.dtype)
    base[index] = array
    return Laid(base, lambda x: x[index])


def on_the_diagonal(array: np.ndarray, rng: np.random.Generator) -> Laid:
    if array.ndim == 0 or array.size > 1000:
        return plain(array, rng)
    base = rng.normal(size=(*array.shape, array.shape[-1])).astype(array.dtype)
    for i in range(array.shape[-1]):
        base[..., i, i] = array[..., i]
    return Laid(base, diagonal_of)


def reversed_by_numpy(array: np.ndarray, rng: np.random.Generator) -> Laid:
    """Memory with negative strides."""
    back = tuple(slice(None, None, -1 if rng.random() < 0.7 else 1) for _ in array.shape)
    return Laid(np.array(array[back], order="C")[back], lambda x: x)


def ordered_by_columns(array: np.ndarray, rng: np.random.Generator) -> Laid:
    return Laid(np.array(array, order="F"), lambda x: x)


def misaligned(array: np.ndarray, rng: np.random.Generator) -> Laid:
    """An array inside a larger one, at no line of the cache."""
    n = int(rng.integers(1, 8))
    base = rng.normal(size=array.size + n + 3).astype(array.dtype)
    base[n : n + array.size] = array.reshape(-1)
    return Laid(base, lambda x: x[n : n + array.size].reshape(array.shape))


def repeated(array: np.ndarray, rng: np.random.Generator, rigid: int) -> Laid:
    """One element, row or matrix for all, in some dimensions; the last `rigid` are left as they are."""
    chosen = [d for d in range(array.ndim - rigid) if rng.random() < 0.6]
    if not chosen or 0 in array.shape:
        return plain(array, rng)
    base = np.array(array[tuple(slice(0, 1) if d in chosen else slice(None) for d in range(array.ndim))], order="C")
    if chosen[0] == 0 and rng.random() < 0.5:
        base = base[0]  # a new dimension in front
    return Laid(base, lambda x: expanded(x, array.shape))


LAYOUTS = (
    plain, transposed, sliced, selected, on_the_diagonal, reversed_by_numpy, ordered_by_columns, misaligned
)  # fmt: skip


def laid(array: np.ndarray, rng: np.random.Generator, rigid: int = 0) -> Laid:
    """An array (or another, of the same shape) in a layout, and sometimes one of that."""
    chosen = LAYOUTS[int(rng.integers(len(LAYOUTS)))]
    outer = repeated(array, rng, rigid) if rng.random() < 0.25 else chosen(array, rng)
    if outer.base.flags.c_contiguous and rng.random() < 0.4:
        inner = LAYOUTS[int(rng.integers(len(LAYOUTS)))](outer.base, rng)
        return Laid(inner.base, lambda x: outer.view(inner.view(x)))
    return outer


# --- what is compared -------------------------------------------------------------------------------------------------


def back_through(layout: Laid, gradient: Any) -> np.ndarray:
    """A view's gradient as its base's."""
    result = np.zeros(layout.base.shape)
    if gradient is not None:
        positions = layout.view(np.arange(layout.base.size).reshape(layout.base.shape))
        with np.errstate(invalid="ignore"):  # of infinite ones
            np.add.at(result.reshape(-1), positions.reshape(-1), gradient.detach().numpy().reshape(-1))
    return result


def tensor_of(array: np.ndarray) -> Any:
    """A tensor over an array that is not contiguous; else a copy."""
    return tg.tensor(array) if array.flags.c_contiguous else tg.as_tensor(array)


def assert_close(found: Any, expected: Any, dtype: Any) -> None:
    tolerance = 1e-9 if dtype is tg.float64 else 2e-3
    expected = np.asarray(expected)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, finite.max() if finite.size else 1.0)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def outcome(function: Callable[..., Any], *operands: Any) -> Any:
    """What a function gives, or the text of what it raises."""
    try:
        result = function(*operands)
        return result if result is NotImplemented else result.clone()
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        return type(error)


def check(
    function: Callable[..., Any],
    layouts: list[Laid],
    rng: np.random.Generator,
    dtype: Any,
    order: int = 2,
    active: tuple[bool, ...] = (),
) -> None:
    """Compare values and derivatives up to an order; `active` says which operands have them, by default all."""
    active = tuple(on and order > 0 for on in active or (True,) * len(layouts))
    bases = [tensor_of(layout.base).requires_grad_(on) for layout, on in zip(layouts, active, strict=True)]
    views = [layout.view(base) for layout, base in zip(layouts, bases, strict=True)]
    copies = [v.detach().clone().requires_grad_(on) for v, on in zip(views, active, strict=True)]
    y, expected = outcome(function, *views), outcome(function, *copies)
    if isinstance(y, type) and y is RuntimeError and not isinstance(expected, type):
        with pytest.raises(RuntimeError, match=r"Use \.reshape"):  # of view(), which some layouts don't allow
            function(*views)
        return
    if isinstance(expected, type) or expected is NotImplemented:
        assert y is expected
        return
    assert (y.shape, y.dtype, y.requires_grad) == (expected.shape, expected.dtype, expected.requires_grad)
    np.testing.assert_equal(np.isnan(y.detach().tolist()), np.isnan(expected.detach().tolist()))
    assert_close(y.detach().tolist(), expected.detach().tolist(), dtype)
    if order == 0 or not y.requires_grad:
        return
    of_bases = [b for b in bases if b.requires_grad]
    of_copies = [c for c in copies if c.requires_grad]
    laid_out = [layout for layout, b in zip(layouts, bases, strict=True) if b.requires_grad]
    seed = tg.tensor(rng.normal(size=y.shape), dtype=y.dtype)

    def same(found: Any, of: Any) -> None:
        for layout, mine, other in zip(laid_out, found, of, strict=True):
            assert mine is None or mine.shape == layout.base.shape
            assert_close(0 if mine is None else mine.detach().numpy(), back_through(layout, other), dtype)

    swept = tg.autograd.grad(y, of_bases, seed, retain_graph=True, allow_unused=True)
    same(swept, tg.autograd.grad(expected, of_copies, seed, retain_graph=True, allow_unused=True))
    if order < 2:
        return
    first = tg.autograd.grad(y, of_bases, seed, create_graph=True, allow_unused=True)
    of_first = tg.autograd.grad(expected, of_copies, seed, create_graph=True, allow_unused=True)
    same(first, of_first)
    along = [rng.normal(size=layout.base.shape) for layout in laid_out]
    found = second(first, of_bases, along, dtype)
    same(found, second(of_first, of_copies, [of.view(v) for of, v in zip(laid_out, along, strict=True)], dtype))


def second(first: Any, inputs: list[Any], along: list[np.ndarray], dtype: Any) -> Any:
    """The derivatives of gradients along a direction."""
    parts = [(g * tg.tensor(v, dtype=dtype)).sum() for g, v in zip(first, along, strict=True) if g is not None]
    total = sum(parts, tg.zeros((), dtype=dtype))
    if not total.requires_grad:
        return [None] * len(inputs)
    return tg.autograd.grad(total, inputs, allow_unused=True)


# --- operations of the table ------------------------------------------------------------------------------------------

SHAPES = ((), (1,), (7,), (3, 4), (4, 1, 5), (2, 3, 2, 2), (0,), (3, 0, 2), (1, 1))
COMPUTED = [op for op in OPS if op.family == ELEMENTWISE and op is not host._output]  # which only Functions record


def shapes_of_operands(arity: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Of operands that are broadcast to one of SHAPES: one has it, others may lack dimensions, or have ones."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    shapes = [shape]
    for _ in range(arity - 1):
        own = tuple(1 if n and rng.random() < 0.3 else n for n in shape)
        shapes.append(own[int(rng.integers(len(own) + 1)) :] if rng.random() < 0.4 else own)
    return [shapes[i] for i in rng.permutation(arity)]


def check_elementwise(op: Op, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng([seed, op.opcode, dtype.code])
    layouts = []
    for k, shape in enumerate(shapes_of_operands(op.arity, rng)):
        n, condition = math.prod(shape), op.dtype_operand > 0 and k == 0
        if dtype.is_floating_point:
            array = op.domain[k].draw(n, rng) if op.domain else rng.uniform(-3, 3, n)
        else:
            array = rng.integers(0, 2 if dtype is tg.bool else 5, n)
        array = (array > 1 if condition else array).astype(bool if condition else dtype.numpy).reshape(shape)
        layouts.append(laid(array, rng))
    order = 2 if dtype.is_floating_point and not is_cast(op) else 1 if dtype.is_floating_point else 0
    active = tuple(bool(dtype.is_floating_point and rule is not None) for rule in op.partials)
    check(op, layouts, rng, dtype, order if any(active) else 0, active)


@by_name(COMPUTED)
@pytest.mark.parametrize("dtype", [tg.float64, tg.int64, *further(tg.float32, tg.int32, tg.bool)], ids=repr)
def test_elementwise_operations(op: Op, dtype: Any):
    for seed in range(2):
        check_elementwise(op, dtype, seed)


INTEGRAL: dict[str, Callable[..., Any]] = {
    "sum": lambda x: x.sum(-1),
    "prod": lambda x: x.prod(0),
    "max": lambda x: x.max(),
    "amin": lambda x: x.amin((0, -1)),
    "argmax": lambda x: x.argmax(0),
    "argmin": lambda x: x.argmin(),
    "any": lambda x: x.any(1),
    "all": lambda x: x.all(0),
    "take": lambda x: x[[1, 0, 1]],
    "put": lambda x: test_ops.assigned(x, (slice(None), 1), 1),
    "scatter": lambda x: tg.cat([x, x[1:]]),
    "stack": lambda x: tg.stack([x, x], 1),
    "tril": lambda x: x.tril(),
    "mm": lambda x: x @ x.mT,
    "mv": lambda x: x @ x[0],
    "bmm": lambda x: x.expand(2, *x.shape) @ x.mT,
    "count_nonzero": lambda x: x.count_nonzero(),
    "nonzero": lambda x: x.nonzero(),
}


@pytest.mark.parametrize("name", INTEGRAL)
@pytest.mark.parametrize("dtype", [tg.int64, tg.int32, tg.bool], ids=repr)
def test_operations_on_integers(name: str, dtype: Any):
    for seed in range(4):
        rng = np.random.default_rng([seed, dtype.code])
        check(INTEGRAL[name], [laid(rng.integers(0, 3, (3, 4)).astype(dtype.numpy), rng)], rng, dtype, 0)


def check_case(function: Callable[..., Any], arrays: list[np.ndarray], rigid: int, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng([seed, len(arrays)])
    layouts = [laid(a.astype(dtype.numpy), rng, min(rigid, a.ndim)) for a in arrays]
    check(function, layouts, rng, dtype)


# What it shows of memory is that of the layout.
OF_ALL_FAMILIES = [name for name in test_ops.CASES if "as_strided" not in name]


@pytest.mark.parametrize("name", OF_ALL_FAMILIES)
@over_floats
def test_cases_of_all_families(name: str, dtype: Any):
    case = test_ops.CASES[name]
    seed = int.from_bytes(name.encode(), "little") % 1000
    check_case(case[0], test_ops.points(case, seed), 0, dtype, seed)


@pytest.mark.parametrize("name", test_linalg.CASES)
def test_cases_of_matrices(name: str):
    case = test_linalg.CASES[name]
    seed = int.from_bytes(name.encode(), "little") % 1000
    for k in range(2):
        check_case(case[0], test_linalg.points(case, seed + k), 2, tg.float64, seed + k)


LARGE: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "elementwise": (lambda a, b: (a * b).sin() + a, ((300, 200), (200,))),
    "rows": (lambda a, b: (a - a.mean(1, keepdim=True)) * b, ((300, 200), (300, 1))),
    "sum": (lambda a: (a * a).sum(0), ((300, 200),)),
    "logsumexp": (lambda a: a.logsumexp(0), ((300, 200),)),
    "softmax": (lambda a: a.softmax(-1), ((30, 20, 100),)),
    "prod": (lambda a: a.prod(-1), ((30, 200, 10),)),
    "std": (lambda a: a.std((0, 2)), ((30, 20, 100),)),
    "amax": (lambda a: a.amax(1), ((30, 20, 100),)),
    "mm": (lambda a, b: a @ b, ((150, 200), (200, 30))),
    "mv": (lambda a, b: a @ b, ((300, 200), (200,))),
    "dot": (lambda a, b: a @ b, ((50_000,), (50_000,))),
    "bmm": (lambda a, b: a @ b, ((60, 20, 30), (60, 30, 10))),
    "bmm-broadcast": (lambda a, b: a @ b, ((6, 1, 20, 30), (10, 30, 10))),
    "take": (lambda a: a[[5, 3, 3] * 100], ((50, 200),)),
    "tril": (lambda a: a.tril(3), ((300, 200),)),
    "cat": (lambda a, b: tg.cat([a, b], 1), ((300, 200), (300, 50))),
    "solve": (lambda a, b: tg.linalg.solve(a @ a.mT / 90 + tg.eye(90), b), ((90, 90), (90, 60))),
    "cholesky": (lambda a: tg.linalg.cholesky(a @ a.mT / 110 + tg.eye(110)), ((110, 110),)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_operands(name: str):
    function, shapes = LARGE[name]
    for seed in range(2):
        rng = np.random.default_rng([seed, *name.encode()])
        check(function, [laid(rng.normal(size=shape), rng) for shape in shapes], rng, tg.float64, 1)


# --- products: their adjoints are contiguous, whatever the strides of the operands ------------------------------------


def junk() -> None:
    """Leave adjoints of many sizes behind, full of large numbers, for the next to be made of."""
    for n in (1, 2, 4, 9, 12, 40, 600, 2048):
        x = tg.full((n,), 1e6, requires_grad=True)
        ((x * x).sum() * 1e6).backward()


VIEWS = {
    "expanded": ((1, 2, 3), lambda t: t.expand(4, 2, 3)),
    "sliced": ((4, 5, 7), lambda t: t[:, :2, :3]),
    "every second": ((8, 4, 6), lambda t: t[::2, ::2, ::2]),
    "transposed": ((3, 2, 4), lambda t: t.permute(2, 1, 0)),
    "one expanded matrix": ((2, 3), lambda t: t.expand(4, 2, 3)),
}


@pytest.mark.parametrize("layout", VIEWS)
@pytest.mark.parametrize("side", [0, 1], ids=("left", "right"))
@over_floats
def test_adjoints_of_batched_products_of_views(layout: str, side: int, dtype: Any):
    shape, view = VIEWS[layout]
    rng = np.random.default_rng(7)
    x = tg.tensor(rng.normal(size=shape), dtype=dtype, requires_grad=True)
    other = tg.tensor(rng.normal(size=(4, 3, 5) if side == 0 else (4, 6, 2)), dtype=dtype)
    weights = tg.tensor(rng.normal(size=(4, 2, 5) if side == 0 else (4, 6, 3)), dtype=dtype)

    def gradient(of: Any) -> np.ndarray:
        x.grad = None
        junk()
        product = of(view(x)) @ other if side == 0 else other @ of(view(x))
        (product * weights).sum().backward()
        return x.grad.numpy().copy()

    np.testing.assert_allclose(
        gradient(lambda t: t), gradient(lambda t: t.clone()), rtol=0, atol=1e4 * np.finfo(dtype.numpy).eps
    )


@over_floats
def test_hessian_vector_product_of_a_broadcast_product(dtype: Any):
    rng = np.random.default_rng(7)
    K, W = tg.tensor(rng.normal(size=(3, 2, 2)), dtype=dtype), tg.tensor(rng.normal(size=(2, 2)), dtype=dtype)
    v = tg.tensor(rng.normal(size=(2, 2)), dtype=dtype)

    def f(W: Any) -> Any:
        return (tg.tanh(K @ W) ** 2).sum()

    expected = tg.func.hessian(f)(W).reshape(4, 4) @ v.reshape(4)
    for _ in range(3):
        junk()
        _, product = tg.func.jvp(tg.func.grad(f), (W,), (v,))
        np.testing.assert_allclose(
            product.reshape(4).numpy(), expected.numpy(), rtol=0, atol=100 * np.finfo(dtype.numpy).eps
        )


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32])
@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)])
def test_reading_backwards_and_its_adjoint(dtype: Any, dims: Any):
    rng = np.random.default_rng(0)
    array, weights = rng.normal(size=(5, 37)), rng.normal(size=(5, 37))
    x, w = tg.tensor(array, dtype=dtype, requires_grad=True), tg.tensor(weights, dtype=dtype)
    y = x.flip(dims)
    np.testing.assert_array_equal(y.detach().numpy(), np.flip(x.detach().numpy(), dims))
    (slope,) = tg.autograd.grad((y * w).sum() + (x * w).sum(), x)
    np.testing.assert_array_equal(slope.numpy(), np.flip(w.numpy(), dims) + w.numpy())
