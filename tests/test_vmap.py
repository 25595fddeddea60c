"""`func.vmap`: what a function gives for a batch is what it gives for each sample.

The table of operations drives it: all elementwise ones, and the cases of the other families that `test_ops.py` and
`test_linalg.py` have, with samples in all operands and in some, for values and for gradients taken inside and outside.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_linalg
import test_ops
from test_layouts import COMPUTED
from test_ops import by_name

import tapegrad as tg
from tapegrad import batched, batching
from tapegrad.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap
from tapegrad.ops.declare import OPS, Array, Axes, Op

N = 3  # samples


def one_by_one(function: Callable[..., Any], operands: list[Any], dims: tuple[Any, ...]) -> Any:
    """What it gives for each sample, stacked."""
    rows = [
        function(*(x if d is None else x.select(d, k) for x, d in zip(operands, dims, strict=True))) for k in range(N)
    ]
    return tg.stack(rows)


def close(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    a, b = found.detach().numpy(), expected.detach().numpy()
    finite = np.abs(b[np.isfinite(b)]) if b.dtype.kind == "f" else np.zeros(0)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, finite.max(initial=0.0)))


def check(
    function: Callable[..., Any], arrays: list[np.ndarray], rng: np.random.Generator, order: int = 1,
    of_the_first: bool = False,
) -> None:  # fmt: skip
    """Samples in all operands, in one alone, and in another dimension than the first; or `of_the_first` in all."""
    n = len(arrays)
    choices = [(0,) * n, *(tuple(0 if i == k else None for i in range(n)) for k in range(n if n > 1 else 0))]
    choices.append(tuple(-1 for _ in range(n)))
    for dims in choices[: 1 if of_the_first else None]:
        operands = []
        for x, d in zip(arrays, dims, strict=True):
            samples = [x * f if x.dtype.kind == "f" else x for f in (1.0, 0.97, 1.01)]
            operands.append(tg.tensor(x if d is None else np.stack(samples, d)))
        close(vmap(function, dims)(*operands), one_by_one(function, operands, dims))
        places = tuple(k for k, x in enumerate(arrays) if x.dtype.kind == "f")
        if not order or not places:
            continue
        weights = rng.uniform(0.5, 1.5, np.shape(function(*map(tg.tensor, arrays)).numpy()))

        def loss(*xs: Any, weights: np.ndarray = weights) -> Any:
            return (function(*xs) * tg.tensor(weights)).sum()

        def gradients(*xs: Any, loss: Any = loss, places: tuple[int, ...] = places) -> Any:
            return tg.cat([g.reshape(-1) for g in grad(loss, places)(*xs)])

        expected = one_by_one(gradients, operands, dims)
        close(vmap(gradients, dims)(*operands), expected, 1e-8)
        batched_at = tuple(k for k in places if dims[k] is not None)
        if batched_at:  # and outside: the gradient of the sum is that of each
            outside = grad(lambda *xs, dims=dims, loss=loss: vmap(loss, dims)(*xs).sum(), batched_at)(*operands)
            inside = vmap(grad(loss, batched_at), dims)(*operands)
            for a, b, k in zip(outside, inside, batched_at, strict=True):
                close(a, b.movedim(0, dims[k]), 1e-8)


@by_name(COMPUTED)
def test_elementwise_operations(op: Op):
    rng = np.random.default_rng(op.opcode)
    shapes = [((2, 3),), ((2, 3), (3,)), ((2, 3), (3,), ())][op.arity - 1]
    arrays: list[np.ndarray] = []
    for k, shape in enumerate(shapes):
        n = int(np.prod(shape))
        x = op.domain[k].draw(n, rng) if op.domain else rng.uniform(-3, 3, n)
        of_integers = "float64" in op.refuses
        arrays.append(
            (x > 1 if op.dtype_operand > 0 and k == 0 else x.astype(int) if of_integers else x).reshape(shape)
        )
    if op.dtype_operand:
        check(lambda c, *xs: op(c, *xs), arrays, rng, 0)
    else:
        check(op, arrays, rng, int(any(op.partials) and not test_ops.is_cast(op)))


OF_FAMILIES = [name for name in test_ops.CASES if "as_strided" not in name]


@pytest.mark.parametrize("name", OF_FAMILIES)
def test_cases_of_all_families(name: str):
    case = test_ops.CASES[name]
    seed = int.from_bytes(name.encode(), "little") % 1000
    check(case[0], test_ops.points(case, seed), np.random.default_rng(seed), of_the_first=name.startswith("put"))


@pytest.mark.parametrize("name", test_linalg.CASES)
def test_cases_of_matrices(name: str):
    case = test_linalg.CASES[name]
    seed = int.from_bytes(name.encode(), "little") % 1000
    check(case[0], test_linalg.points(case, seed), np.random.default_rng(seed))


def test_operations_without_a_rule_are_few():
    """A new array operation says what its parts are; those that are swept sample by sample are named here."""
    none = {
        op.name
        for op in OPS
        if isinstance(op, Array) and not isinstance(op, Axes) and op.parts is None and op.positions is None
        and op not in batching._OWN
    }  # fmt: skip
    products = {"mm", "mv", "dot", "bmm"}
    joined = {"cat", "stack"}  # by the rule of what is joined
    assert none - products - joined <= {
        "counts", "trace", "largest_at", "smallest_at", "product_at", "_largest_at", "_smallest_at", "_product_at",
        "largest_in_windows", "_searchsorted", "lu_exchanged", "integers_of", "permutation_matrix", "ldl_factor",
        "ldl_solve", "pinv", "lu_solve", "_lu_solve", "_of_lu",
    }  # fmt: skip


# --- one sweep for all samples ----------------------------------------------------------------------------------------


def rows_of(function: Callable[[], Any]) -> int:
    """How many rows it records."""
    tape = tg.current_tape()
    before = len(tape.row_array())
    kept = function()
    rows = len(tape.row_array()) - before
    del kept
    return rows


@pytest.mark.roomy
@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 2 + x.exp()).tanh() / x.sum(),
        lambda x: x.softmax(0) @ x,
        lambda x: grad(lambda v: (v.sin() ** 2).sum())(x),
        lambda x: tg.nn.functional.layer_norm(x, (4,)),
    ],
)
def test_rows_do_not_grow_with_the_batch(function: Callable[..., Any]):
    few, many = (rows_of(lambda n=n: vmap(function)(tg.ones(n, 4, dtype=tg.float64))) for n in (2, 50))
    assert many == few


# --- functions of the user's ------------------------------------------------------------------------------------------


class Cube(tg.autograd.Function):
    """Without a rule: applied to each sample."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x**3 * w

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        return 3 * x * x * w * g, x**3 * g


class CubeOfBatches(Cube):
    """With one."""

    asked: list[Any] = []  # noqa: RUF012

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Any, w: Any) -> Any:
        CubeOfBatches.asked.append((info.batch_size, info.randomness, in_dims))
        return CubeOfBatches.apply(x, w).movedim(0, -1), -1


cube_of_arrays = tg.autograd.host_function(lambda x, w: x**3 * w, lambda g, _, x, w: (g * 3 * x * x * w, g * x**3))


@tg.custom_vjp
def cube(x: Any, w: Any) -> Any:
    return x**3 * w


cube.defvjp(lambda x, w: (x**3 * w, (x, w)), lambda kept, g: (3 * kept[0] ** 2 * kept[1] * g, kept[0] ** 3 * g))


_APPLIED = {"rules": Cube.apply, "vmap": CubeOfBatches.apply, "host": cube_of_arrays, "custom": cube}


@pytest.mark.parametrize("apply", _APPLIED.values(), ids=_APPLIED)
@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
def test_functions_of_the_users(apply: Any, dims: Any):
    x, w = tg.tensor(X if dims[0] == 0 else X[0]), tg.tensor(W if dims[1] == 0 else W[0])
    for make in (lambda f: f, lambda f: grad(lambda *xs: (f(*xs) ** 2).sum(), dims.index(0))):
        expected = one_by_one(make(lambda x, w: x**3 * w), [x, w], dims)
        close(vmap(make(apply), dims)(x, w), expected)
    if apply == CubeOfBatches.apply:  # whose rule is for operands of the same dimensions
        return
    nested = vmap(lambda x: vmap(lambda w: apply(x, w))(tg.tensor(W)))(tg.tensor(X))
    close(nested, tg.tensor(X[:, None] ** 3 * W))


def test_a_function_is_told_of_its_batch():
    CubeOfBatches.asked.clear()
    vmap(CubeOfBatches.apply, (1, None), randomness="same")(tg.tensor(X), tg.tensor(W[:, 0]))
    assert CubeOfBatches.asked == [(4, "same", (0, None))]


# --- nesting ----------------------------------------------------------------------------------------------------------


def f(x: Any, w: Any) -> Any:
    return ((x * w).sin().sum() * x.prod()).exp()


X, W = np.random.default_rng(0).normal(size=(2, N, 4))


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize(
    "make",
    [
        grad, jacrev, jacfwd, hessian, lambda f: grad(lambda x, w: grad(f)(x, w).sum()),
        lambda f: lambda x, w: jvp(lambda v: f(v, w), (x,), (w,))[1],
        lambda f: lambda x, w: vjp(lambda v: v * f(v, w), x)[1](w)[0],
        lambda f: lambda x, w: jacrev(lambda v: grad(f)(v, w))(x),
        lambda f: lambda x, w: vmap(lambda a: f(x * a, w))(x),
        lambda f: lambda x, w: vmap(grad(lambda a: f(x * a, w)))(x),
        lambda f: lambda x, w: grad(lambda v: vmap(lambda a: f(v, w * a))(w).sum())(x),
    ],
)  # fmt: skip
def test_transforms_inside(make: Any, dims: Any):
    x = tg.tensor(X if dims[0] == 0 else X[0])
    w = tg.tensor(W if dims[1] == 0 else W[0])
    close(vmap(make(f), dims)(x, w), one_by_one(make(f), [x, w], dims), 1e-9)


def test_hessian_outside():
    x, w = tg.tensor(X), tg.tensor(W)
    found = hessian(lambda x: vmap(f)(x, w).sum())(x)
    for i, j in itertools.product(range(N), repeat=2):
        expected = hessian(f)(x[i], w[i]) if i == j else tg.zeros(4, 4, dtype=tg.float64)
        close(found[i, :, j], expected)


def test_cotangents_of_each_sample():
    x = tg.tensor(X[0])
    _, pull = vjp(lambda v: v.sin() * v.sum(), x)
    (rows,) = vmap(pull)(tg.eye(4, dtype=tg.float64))
    close(rows, jacrev(lambda v: v.sin() * v.sum())(x))


def test_gradients_by_what_is_shared():
    w = tg.tensor(W[0], requires_grad=True)
    per_sample = vmap(lambda x: tg.autograd.grad((x * w).sum() ** 2, w)[0])(tg.tensor(X))
    close(per_sample, tg.stack([grad(lambda v, x=x: (x * v).sum() ** 2)(w.detach()) for x in tg.tensor(X)]))


def test_gradients_reach_out():
    x, w = tg.tensor(X, requires_grad=True), tg.tensor(W[0], requires_grad=True)
    vmap(f, (0, None))(x, w).sum().backward()
    of_x, of_w = x.grad, w.grad
    x.grad = w.grad = None
    sum(f(row, w) for row in x).backward()
    close(of_x, x.grad)
    close(of_w, w.grad)


# --- in place ---------------------------------------------------------------------------------------------------------


def written(x: Any) -> Any:
    y = x.clone()
    y[0] = y[1] * 2
    y += 1
    y[1:].mul_(x[0])
    y.view(2, 2).T[0].exp_()
    return y


def test_writing_in_place():
    close(vmap(written)(tg.tensor(X)), one_by_one(written, [tg.tensor(X)], (0,)))
    total = lambda x: (written(x) ** 2).sum()  # noqa: E731
    close(vmap(grad(total))(tg.tensor(X)), one_by_one(grad(total), [tg.tensor(X)], (0,)))


def test_writing_to_an_argument_writes_to_the_batch():
    x = tg.tensor(X)
    vmap(lambda v: v.mul_(2))(x)
    close(x, tg.tensor(2 * X))


def test_what_samples_share_cannot_be_written_to():
    shared = tg.zeros(4, dtype=tg.float64)
    for write in (lambda v: shared.add_(v), lambda v: shared.copy_(v), lambda v: shared.__setitem__(0, v[0])):
        with pytest.raises(RuntimeError, match="vmap: inplace arithmetic"):
            vmap(write)(tg.tensor(X))
    close(shared, tg.zeros(4, dtype=tg.float64))


# --- refusals, chance, arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "phrase"),
    [
        (lambda v: v if v.sum() > 0 else -v, "data-dependent control flow"),
        (lambda v: v * v.sum().item(), r"calling \.item\(\)"),
        (lambda v: v * float(v.sum()), r"calling \.item\(\)"),
        (lambda v: v[v > 0], "dynamic shape"),
        (lambda v: tg.tensor(v.tolist()), r"calling \.tolist\(\)"),
        (lambda v: tg.tensor(v.numpy()), r"calling \.numpy\(\)"),
    ],
)
def test_what_one_sample_alone_has(ask: Any, phrase: str):
    with pytest.raises(RuntimeError, match=phrase):
        vmap(ask)(tg.tensor(X))
    assert not batched.levels()
    close(vmap(lambda v: v * 2)(tg.tensor(X)), tg.tensor(2 * X))


def test_arrays_whose_values_steer_are_taken_one_by_one():
    found = vmap(lambda v: v if v.sum() > 0 else -v)(X)
    np.testing.assert_array_equal(found, np.stack([v if v.sum() > 0 else -v for v in X]))


@pytest.mark.parametrize(
    "draw",
    [
        lambda v: tg.rand(4), tg.rand_like, lambda v: tg.randn(4) + v, lambda v: tg.randint(0, 1000, (4,)) + v,
        lambda v: tg.nn.functional.dropout(v + 1), lambda v: tg.normal(v, 1.0), lambda v: tg.bernoulli(v + 0.5),
        lambda v: tg.distributions.Normal(0.0, 1.0).sample((4,)) + v, lambda v: v.clone().normal_(),
    ],
)  # fmt: skip
def test_chance(draw: Any):
    x = tg.zeros(50, 4, dtype=tg.float64)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        vmap(draw)(x)
    same = vmap(draw, randomness="same")(x)
    assert (same == same[0]).all()
    different = vmap(draw, randomness="different")(x)
    assert not (different == different[0]).all()


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7])
def test_chunks(chunk_size: int):
    x = tg.tensor(np.random.default_rng(0).normal(size=(7, 4)))
    whole = vmap(lambda v: (v.exp(), {"s": v.sum()}), out_dims=(1, {"s": 0}))(x)
    parts = vmap(lambda v: (v.exp(), {"s": v.sum()}), out_dims=(1, {"s": 0}), chunk_size=chunk_size)(x)
    close(parts[0], whole[0])
    close(parts[1]["s"], whole[1]["s"])


def test_modules():
    models = [tg.nn.Sequential(tg.nn.Linear(4, 3), tg.nn.Tanh(), tg.nn.Linear(3, 2)).double() for _ in range(N)]
    parameters, buffers = stack_module_state(models)
    x = tg.tensor(X)
    found = vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,)), (0, 0, None))(parameters, buffers, x)
    close(found, tg.stack([m(x) for m in models]))


def test_a_batched_result_is_cut_off_in_place():
    x = tg.ones(3, 2, requires_grad=True)
    y = vmap(lambda row: (row * 2).detach_())(x)
    assert not y.requires_grad
    assert y.tolist() == [[2.0, 2.0]] * 3
