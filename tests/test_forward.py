"""Forward mode, by the rules of the reverse sweep: over the table of operations, in lanes, and what is kept of it.

The inner product ties the two modes together: <u, J v> = <J' u, v>; that of reverse mode is compared with mpmath and
the complex step in `test_ops.py` and `test_linalg.py`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import test_linalg
import test_ops
from test_ops import by_name, draw, leaves, over_floats

import tapegrad as tg
from tapegrad.autograd import tangents
from tapegrad.func import grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, linearize, vjp
from tapegrad.ops.declare import Elementwise
from tapegrad.tape import current_tape, in_grad_mode

CASES = {**test_ops.CASES, **{f"linalg-{name}": case for name, case in test_linalg.CASES.items()}}


def pushed(y: Any, inputs: Sequence[Any], along: Sequence[Any], lanes: int | None = None) -> np.ndarray:
    """The tangent of what was computed of inputs."""
    tape = current_tape()
    slots = [x._slot for x in inputs]
    steps = tangents.steps_between(tape, [y._slot], slots)
    given = dict(zip(slots, along, strict=True))
    (found,) = in_grad_mode(tape, False, tangents.push, tape, steps, given, [y._slot], lanes)
    head = () if lanes is None else (lanes,)
    assert found is None or found.dtype is y.dtype
    return np.zeros((*head, *y.shape)) if found is None else found.numpy()


def agree_with_reverse(y: Any, inputs: list[Any], dtype: Any) -> None:
    """Alone and in lanes, tangents have the inner products that gradients have."""
    rng = np.random.default_rng(7)
    seed = tg.tensor(rng.normal(size=y.shape), dtype=dtype)
    gradients = [g.numpy() for g in tg.autograd.grad(y, inputs, seed, retain_graph=True, materialize_grads=True)]
    lanes = [[tg.tensor(rng.normal(size=(2, *x.shape)), dtype=dtype) for x in inputs]]
    together = pushed(y, inputs, lanes[0], 2)
    rtol = 1e-10 if dtype is tg.float64 else 3e-4
    for i in range(2):
        along = [v[i] for v in lanes[0]]
        alone = pushed(y, inputs, along)
        np.testing.assert_allclose(together[i], alone, rtol=rtol, atol=rtol)
        terms = [g.astype(float) * v.numpy().astype(float) for g, v in zip(gradients, along, strict=True)]
        scale = sum(np.abs(t).sum() for t in terms) + 1
        inner = float((seed.numpy().astype(float) * alone).sum())
        assert math.isclose(inner, sum(t.sum() for t in terms), rel_tol=rtol, abs_tol=rtol * scale)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tangents_have_the_inner_products_of_gradients(case: Any):
    of = test_linalg if case in test_linalg.CASES.values() else test_ops
    inputs = [tg.tensor(a, requires_grad=True) for a in of.points(case, 1)]
    agree_with_reverse(case[0](*inputs), inputs, tg.float64)


@by_name([op for op in test_ops.DIFFERENTIABLE if isinstance(op, Elementwise)])
@over_floats
def test_elementwise_tangents_have_them_too(op: Elementwise, dtype: Any):
    operands = leaves(op, draw(op, 16, dtype, seed=1))
    agree_with_reverse(op(*operands), [x for x in operands if x.requires_grad], dtype)


# --- transforms -------------------------------------------------------------------------------------------------------

W = np.random.default_rng(3).normal(size=(4, 3))
X = np.array([0.3, -0.8, 0.5])
PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: (x.sin() * tg.exp(-x * x) + x[0]).cumsum(0),
    "products": lambda x: tg.tanh(tg.tensor(W) @ x) @ tg.tensor(W) @ tg.outer(x, x),
    "softmax": lambda x: (tg.tensor(W) * x).softmax(1) @ x,
    "norms": lambda x: tg.stack([x.norm(), x.var(), x.logsumexp(0), x.prod(), x.max(), x.std()]),
    "layouts": lambda x: tg.cat([x.view(3, 1).T.expand(2, 3).reshape(-1)[1:5], x.flip(0), x[[0, 2, 0]]]),
    "linear systems": lambda x: tg.linalg.solve(tg.outer(x, x) + 2 * tg.eye(3), x.exp()),
    "in place": lambda x: in_place(x),
    "float32": lambda x: (x.to(tg.float32) * 3).to(tg.float64) * x,
}


def in_place(x: Any) -> Any:
    y = tg.zeros(2, 3)
    y[0] = x
    y[1, 1:] += x[:2] * x[1:]
    y *= x
    return y


@pytest.mark.parametrize("name", PROGRAMS)
def test_jacobians_are_the_same_in_either_mode(name: str):
    f, x = PROGRAMS[name], tg.tensor(X)
    expected, tolerance = jacrev(f)(x).numpy(), 1e-6 if name == "float32" else 1e-13
    for mode in (jacfwd(f), jacfwd(f, chunk_size=2), jacobian(f, mode="forward"), jacobian(f, chunk_size=1)):
        np.testing.assert_allclose(mode(x).numpy(), expected, rtol=tolerance, atol=tolerance)
    v = np.array([1.0, -2.0, 0.5])
    output, push = linearize(f, x)
    np.testing.assert_array_equal(output.numpy(), f(x).numpy())
    for factor in (1.0, -3.0, 0.0):
        np.testing.assert_allclose(push(tg.tensor(factor * v)).numpy(), expected @ (factor * v), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_third_derivatives_are_the_same_whatever_the_order_of_modes(name: str):
    f = PROGRAMS[name]

    def loss(x: Any) -> Any:
        y = f(x)
        return (y * y).sum() * y.sin().sum()

    x, v = tg.tensor(X), tg.tensor([0.3, 1.0, -0.7])
    second = jacrev(jacrev(loss))(x).numpy()
    tolerance = 1e-4 if name == "float32" else 1e-10
    for mode in (hessian(loss), jacfwd(jacrev(loss)), jacrev(jacfwd(loss)), jacfwd(jacfwd(loss))):
        np.testing.assert_allclose(mode(x).numpy(), second, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(hvp(loss, (x,), (v,))[1].numpy(), second @ v.numpy(), rtol=tolerance, atol=tolerance)
    along = jvp(grad(loss), (x,), (v,))[1].numpy()
    np.testing.assert_allclose(along, second @ v.numpy(), rtol=tolerance, atol=tolerance)
    third = jvp(lambda x: jvp(grad(loss), (x,), (v,))[1], (x,), (v,))[1].numpy()
    again = grad(lambda x: grad(lambda x: (grad(loss)(x) * v).sum())(x) @ v)(x).numpy()
    np.testing.assert_allclose(third, again, rtol=tolerance, atol=tolerance)


def test_levels_do_not_mix():
    """The inner tangent is not taken for the outer one (perturbation confusion)."""
    assert jvp(lambda x: x * jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1] == 1.0
    assert (
        jvp(lambda x: x * jvp(lambda y: x * y, (x,), (tg.ones_like(x),))[1], (tg.tensor(3.0),), (tg.tensor(1.0),))[
            1
        ].item()
        == 6.0
    )


def test_gradients_flow_through_products():
    x, v = tg.tensor(X, requires_grad=True), tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    _, product = jvp(lambda x: x**3, (x,), (v,))
    product.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * X * v.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(v.grad.numpy(), 3 * X**2, rtol=1e-14)


def test_trees_and_tangents_that_are_none():
    f = lambda p, k: {"y": p["a"] * p["b"] * k, "k": p["b"] * 0 + k}  # noqa: E731
    p = {"a": np.array([1.0, 2.0]), "b": 3.0}
    output, product = jvp(f, (p, 2.0), ({"a": np.array([1.0, 0.0]), "b": 1.0}, None))
    np.testing.assert_array_equal(output["y"], [6.0, 12.0])
    np.testing.assert_array_equal(product["y"], [8.0, 4.0])
    output, push = linearize(f, p, 2.0)
    found = push({"a": np.array([1.0, 0.0]), "b": 1.0}, 1.0)
    np.testing.assert_array_equal(found["y"], [11.0, 10.0])
    assert found["k"] == 1.0
    np.testing.assert_array_equal(push(None, 1.0)["y"], [3.0, 6.0])
    for wrong in ((p,), (p, 1.0, 1.0), ({"a": p["a"]}, 1.0)):
        with pytest.raises(RuntimeError, match=r"Expected the tangents .* to have the same argspec as the primals"):
            push(*wrong)
    with pytest.raises(RuntimeError, match=r"tangent:0 with shape .* in flattened pytree doesn't match the shape"):
        push({"a": np.ones(3), "b": 1.0}, 1.0)


def test_zero_tangents_leave_no_nan():
    x = tg.tensor([0.0, 4.0])
    assert jvp(tg.sqrt, (x,), (tg.tensor([0.0, 1.0]),))[1].tolist() == [0.0, 0.25]
    assert jvp(lambda x: x.sqrt().sum(), (x,), (tg.tensor([0.0, 1.0]),))[1].item() == 0.25
    assert jvp(lambda x: x.norm(), (tg.zeros(2),), (tg.zeros(2),))[1].item() == 0.0


def test_chunks_are_refused_that_are_no_numbers_of_rows():
    for wrong, error in ((0, ValueError), (-1, ValueError), ("a", TypeError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="chunk_size"):
            jacrev(tg.sin, chunk_size=wrong)
        with pytest.raises(error, match="chunk_size"):
            jacfwd(tg.sin, chunk_size=wrong)


def test_a_host_function_has_no_forward_mode():
    cube = tg.autograd.host_function(lambda x: x**3, lambda y_bar, y, x: y_bar * 3 * x**2)
    with pytest.raises(RuntimeError, match="derivative of a host function's vjp is not known"):
        jvp(cube, (tg.tensor([1.0]),), (tg.tensor([1.0]),))
    _, pull = vjp(cube, tg.tensor([2.0]))
    assert pull(tg.tensor([1.0]))[0].tolist() == [12.0]


def test_a_host_function_with_a_jvp():
    def slope(dots, y, a, b):
        return sum((dot * other for dot, other in zip(dots, (b, a), strict=True) if dot is not None), start=0 * y)

    product = tg.autograd.host_function(np.multiply, lambda g, y, a, b: (g * b, g * a), jvp=slope)
    x, v = tg.tensor([1.0, 2.0, 3.0]), tg.tensor([0.5, -1.0, 2.0])
    _, found = jvp(lambda x: product(x.sin(), x) * 2, (x,), (v,))
    _, wanted = jvp(lambda x: x.sin() * x * 2, (x,), (v,))
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-6)
    _, found = jvp(lambda x: product(x, tg.ones(3)), (x,), (v,))
    assert found.tolist() == v.tolist()
    np.testing.assert_array_equal(jacfwd(lambda x: product(x, x))(x).numpy(), np.diag(2 * x.numpy()))
    with pytest.raises(RuntimeError, match="derivative of a host function's jvp is not known"):
        jacrev(lambda x: jvp(lambda x: product(x, x), (x,), (v,))[1])(x)


@pytest.mark.roomy
def test_a_product_keeps_no_intermediate():
    """Primals and tangents are swept together: what lies between is neither computed twice nor kept."""
    x, v = tg.ones(100_000), tg.ones(100_000)
    jvp(lambda x: x.sin().sum(), (x,), (v,))
    tape = current_tape()
    before = int((tape.slots["flags"][: tape.top] & 1).sum())
    output, product = jvp(lambda x: (x.sin() * x.exp()).cos().sum(), (x,), (v,))
    assert int((tape.slots["flags"][: tape.top] & 1).sum()) - before <= 4
    assert output.item() != product.item()


@pytest.mark.parametrize("has_jvp", [True, False])
def test_a_function_is_pushed_by_its_jvp_or_its_backward(has_jvp: bool):
    called = []

    class Scaled(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, k: float, w: Any) -> Any:
            ctx.k = k
            ctx.save_for_backward(x, w)
            return x * k * w, w + 1

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            x, w = ctx.saved_tensors
            return g * ctx.k * w, None, g * ctx.k * x + h

        if has_jvp:

            @staticmethod
            def jvp(ctx: Any, x_dot: Any, _: Any, w_dot: Any) -> Any:
                called.append(1)
                x, w = ctx.saved_tensors
                return ctx.k * (x_dot * w + x * w_dot), w_dot

    def f(x: Any, w: Any) -> Any:
        y, z = Scaled.apply(x, 3.0, w)
        return (y * y + z).sum()

    x, w, u, v = (tg.tensor(a) for a in ([1.0, 2.0], [0.5, -1.0], [1.0, 0.0], [2.0, 1.0]))
    plain = lambda x, w: ((x * 3.0 * w) ** 2 + w + 1).sum()  # noqa: E731
    for along in ((u, v), (u, tg.zeros(2)), (tg.zeros(2), v)):
        expected = jvp(plain, (x, w), along)[1].item()
        assert math.isclose(jvp(f, (x, w), along)[1].item(), expected, rel_tol=1e-14)
    np.testing.assert_allclose(
        jacfwd(f, argnums=(0, 1))(x, w)[1].numpy(), jacfwd(plain, argnums=(0, 1))(x, w)[1].numpy(), rtol=1e-14
    )
    assert bool(called) is has_jvp


def test_a_jvp_of_another_shape_or_number_is_refused():
    class Wrong(tg.autograd.Function):
        given: Any = None

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def jvp(ctx: Any, x_dot: Any) -> Any:
            return Wrong.given

    for given, message in ((tg.ones(3), "tangent of shape"), ((tg.ones(2), tg.ones(2)), "same number of Tensors")):
        Wrong.given = given
        with pytest.raises(RuntimeError, match=message):
            jvp(Wrong.apply, (tg.ones(2),), (tg.ones(2),))


_ARRAY_ROWS = {
    "softmax": lambda x: (tg.softmax(x.view(2, 6), 0) ** 2).sum(),
    "log_softmax": lambda x: tg.log_softmax(x, 0)[3],
    "logsumexp": lambda x: tg.logsumexp(x.view(3, 4), 1).prod(),
    "cumprod": lambda x: tg.cumprod(x, 0).sin().sum(),
    "logcumsumexp": lambda x: tg.logcumsumexp(x, 0).sin().sum(),
    "prod": lambda x: x.view(3, 4).prod(1).sin().sum(),
    "sort": lambda x: (tg.sort(x)[0] ** 3 * tg.arange(12.0)).sum(),
    "inv": lambda x: tg.linalg.inv(x[:9].view(3, 3)).sum(),
    "det": lambda x: tg.linalg.det(x[:9].view(3, 3)),
}


@pytest.mark.parametrize("name", _ARRAY_ROWS)
def test_lanes_go_through_array_rows_together(name: str):
    f, x = _ARRAY_ROWS[name], tg.tensor(np.random.default_rng(0).normal(size=12) + 2.0)
    hessian = tg.func.hessian(f)(x)
    rows = [tg.func.grad(lambda x, i=i: tg.func.grad(f)(x)[i])(x) for i in range(12)]  # two sweeps in reverse
    expected = tg.stack(rows).numpy()
    np.testing.assert_allclose(hessian.numpy(), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(tg.func.jacfwd(tg.func.jacfwd(f))(x).numpy(), expected, rtol=1e-9, atol=1e-11)
    both = tg.vmap(tg.func.hessian(f))(tg.stack([x, x + 0.1]))
    np.testing.assert_allclose(both[0].numpy(), expected, rtol=1e-9, atol=1e-11)


def test_second_order_through_running_products_of_a_batch():
    x = tg.tensor(np.random.default_rng(1).normal(size=(3, 4)) + 2.0)

    def slopes(v):
        return tg.func.grad(lambda u: tg.cumprod(u, 0).sin().sum())(v).square().sum()

    found = tg.func.grad(lambda x: tg.vmap(slopes)(x).sum())(x)
    expected = tg.stack([tg.func.grad(slopes)(v) for v in x])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)


def test_looking_at_an_argument_through_numpy_gives_its_gradient_no_graph():
    x = tg.tensor([1.0, 2.0])
    seen = []

    def f(v):
        seen.append(v.detach().numpy())
        return (v**2).sum()

    for transform in (tg.func.grad, tg.func.jacrev, tg.func.jacfwd):
        gradient = transform(f)(x)
        assert (gradient.tolist(), gradient.requires_grad) == ([2.0, 4.0], False)
    assert not tg.func.hessian(f)(x).requires_grad
    assert all(array.tolist() == [1.0, 2.0] for array in seen)
