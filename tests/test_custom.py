"""Rules of the user's in JAX's manner; checkpoints; anomaly detection."""

import re

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def test_a_reverse_rule_of_trees_is_differentiated_twice():
    @tg.custom_vjp
    def product(p, k):
        return {"y": p["a"] * p["b"] ** k}

    def fwd(p, k):
        return product.__wrapped__(p, k), (p, p["b"] ** k)

    def bwd(kept, y_bar):
        p, power = kept
        return {"a": y_bar["y"] * power, "b": y_bar["y"] * p["a"] * 3 * p["b"] ** 2}, None

    product.defvjp(fwd, bwd)
    a, b = tg.tensor(2.0, requires_grad=True), tg.tensor(0.5, requires_grad=True)
    y = product({"a": a, "b": b}, 3)["y"]
    g, h = tg.autograd.grad(y, [a, b], create_graph=True)
    assert (g.item(), h.item()) == (0.125, 1.5)
    np.testing.assert_allclose([t.item() for t in tg.autograd.grad(g + h, [a, b])], [0.75, 0.75 + 6.0])


def test_arguments_that_no_derivative_is_taken_by():
    calls = []

    @tg.custom_vjp
    def apply(f, x):
        return f(x)

    apply.nondiff_argnums = (0,)
    apply.defvjp(lambda f, x: (f(x), x), lambda f, x, g: (calls.append(f) or g * 7,))
    x = tg.tensor(1.0, requires_grad=True)
    apply(tg.exp, x).backward()
    assert x.grad.item() == 7.0
    assert calls == [tg.exp]


def test_a_forward_rule_is_transposed_and_differentiated():
    @tg.custom_jvp
    def f(x, y):
        return x * y.sin()

    f.defjvps(lambda t, _, x, y: t * y.sin(), lambda t, _, x, y: t * x * y.cos())
    x, y = (tg.tensor([v, 2 * v], requires_grad=True) for v in (0.5, 0.7))
    gx, gy = tg.autograd.grad(f(x, y).sum(), [x, y], create_graph=True)
    a, b = x.detach().numpy(), y.detach().numpy()
    np.testing.assert_allclose(gx.detach().numpy(), np.sin(b))
    np.testing.assert_allclose(gy.detach().numpy(), a * np.cos(b))
    hx, hy = tg.autograd.grad(gy.sum(), [x, y])
    np.testing.assert_allclose(hx.numpy(), np.cos(b))
    np.testing.assert_allclose(hy.numpy(), -a * np.sin(b))
    np.testing.assert_allclose(
        tg.func.jvp(f, (x.detach(), y.detach()), (tg.ones(2), tg.zeros(2)))[1].numpy(), np.sin(b)
    )


def test_rules_that_are_missing_or_of_another_form():
    @tg.custom_vjp
    def f(x):
        return x

    x = tg.ones(2, requires_grad=True)
    with pytest.raises(AttributeError, match="No VJP defined for custom_vjp function f"):
        f(x)
    f.defvjp(lambda x: (x * 1, None), lambda kept, g: (g, g))
    with pytest.raises(TypeError, match="one an argument"):
        f(x).sum().backward()
    assert x.grad is None
    assert f(tg.ones(2)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32])
def test_checkpoints_draw_the_same_random_numbers_again(dtype):
    def noisy(x):
        return (x * tg.randn(3, dtype=dtype)).exp()

    _ = tg.manual_seed(5)
    x = tg.tensor([0.1, 0.2, 0.3], dtype=dtype, requires_grad=True)
    y = checkpoint(noisy, x)
    y.sum().backward()
    after = tg.rand(1).item()
    _ = tg.manual_seed(5)
    noise = tg.randn(3, dtype=dtype)
    assert tg.rand(1).item() == after
    np.testing.assert_allclose(x.grad.numpy(), (noise * (x * noise).exp()).detach().numpy(), rtol=1e-6)


def test_checkpoints_keep_no_values_of_what_they_computed():
    x = tg.ones(1 << 16, requires_grad=True)
    tape = tg.current_tape()
    y = checkpoint_sequential([tg.sin, tg.exp, tg.tanh, tg.cos], 2, x)
    total = y.sum()
    assert np.isfinite(total.item())
    assert "tanh" in str(tape)  # after the checkpoint
    assert not re.search(r"\[65536\] += exp\(", str(tape))  # of this size: other tests may have left rows
    total.backward()
    z = x.detach().numpy()
    slope = -np.sin(np.tanh(np.exp(np.sin(z)))) / np.cosh(np.exp(np.sin(z))) ** 2 * np.exp(np.sin(z)) * np.cos(z)
    np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-12)


def test_what_gives_something_else_when_called_again():
    calls = []
    x = tg.ones(2, requires_grad=True)
    y = checkpoint(lambda x: (calls.append(1), x.repeat(len(calls)))[1], x)
    with pytest.raises(CheckpointError, match="different metadata"):
        y.sum().backward()


def test_anomalies_name_the_line_that_recorded_them():
    x = tg.tensor([1.0, -1.0], requires_grad=True)
    with tg.autograd.detect_anomaly():
        y = x * 2
        z = y.sqrt()
        with pytest.raises(
            RuntimeError, match=r"'SqrtBackward0' returned nan values in its 0th output.*test_custom.py"
        ):
            z.sum().backward()
        assert tg.is_anomaly_enabled()
    assert not tg.is_anomaly_enabled()
    assert tg.is_grad_enabled()
    assert x.grad is None
    x.sqrt().sum().backward()
    assert np.isnan(x.grad.numpy()).tolist() == [False, True]
