"""Host rows: Python between two sweeps."""

import numpy as np
import pytest
from scipy import special

import tapegrad as tg

erf = tg.autograd.host_function(special.erf, lambda y_bar, y, x: y_bar * 2 / np.sqrt(np.pi) * np.exp(-x * x))
fused = tg.autograd.host_function(
    lambda a, b, c: a * b + c, lambda y_bar, y, a, b, c: (y_bar * b, y_bar * a, y_bar)
)  # fmt: skip


def leaves(*rows):
    return [tg.tensor(row, requires_grad=True) for row in rows]


def test_a_scipy_routine_among_other_rows():
    (x,) = leaves([0.1, 0.5, 1.0])
    y = (erf(x * 2) * x).sum()
    y.backward()
    points = x.detach().numpy()
    slope = 4 / np.sqrt(np.pi) * np.exp(-4 * points**2)
    np.testing.assert_allclose(y.item(), (special.erf(2 * points) * points).sum(), rtol=1e-15)
    np.testing.assert_allclose(x.grad.numpy(), slope * points + special.erf(2 * points), rtol=1e-14)


def test_it_runs_once_at_the_line_that_records_it():
    calls = []
    (x,) = leaves([1.0, 2.0])
    y = tg.autograd.host_function(lambda v: calls.append(1) or v * 2)(x)
    assert calls
    assert y.tolist() == [2.0, 4.0]
    y.tolist()
    assert len(calls) == 1


def test_three_operands_and_one_passive():
    a, b = leaves([1.0, 2.0], [3.0, 4.0])
    c = tg.tensor([5.0, 6.0])
    fused(a.exp(), b, c).sin().sum().backward()
    inner = np.cos(np.exp([1.0, 2.0]) * [3.0, 4.0] + np.array([5.0, 6.0]))
    np.testing.assert_allclose(a.grad.numpy(), inner * [3.0, 4.0] * np.exp([1.0, 2.0]), rtol=1e-12)
    np.testing.assert_allclose(b.grad.numpy(), inner * np.exp([1.0, 2.0]), rtol=1e-12)
    assert c.grad is None


def test_recorded_once_but_not_twice():
    (x,) = leaves([0.3, 0.6])
    (swept,) = tg.autograd.grad(erf(x).sum(), x)
    (recorded,) = tg.autograd.grad(erf(x).sum(), x, create_graph=True)
    np.testing.assert_array_equal(swept.numpy(), recorded.detach().numpy())
    with pytest.raises(RuntimeError, match="vjp is not known"):
        recorded.sum().backward()


def test_an_error_inside_changes_nothing():
    def refuse(x):
        raise KeyError("user")

    (x,) = leaves([1.0, 2.0])
    for _ in range(2):
        with pytest.raises(KeyError, match="user"):
            tg.autograd.host_function(refuse)(x * 2)
    assert (x * 3).tolist() == [3.0, 6.0]


def test_an_error_in_the_reverse_sweep_leaves_gradients_alone():
    def refuse(y_bar, y, x):
        raise ZeroDivisionError

    (x,) = leaves([1.0, 2.0])
    (x * x).sum().backward()
    y = (tg.autograd.host_function(lambda v: v, refuse)(x) * x).sum()
    with pytest.raises(ZeroDivisionError):
        y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_wrong_shape_is_refused():
    (x,) = leaves([1.0, 2.0])
    with pytest.raises(ValueError, match=r"announced a result of shape \[2\], but gave \[\]"):
        tg.autograd.host_function(np.sum)(x)
    assert tg.autograd.host_function(np.sum, shape=lambda s: ())(x).item() == 3.0


def test_it_may_record_while_the_tape_is_swept_but_not_look():
    kept = []

    def records(x):
        t = tg.ones(2)
        for _ in range(10_000):
            t = t + 1
        kept.append(t)
        return x * 2

    (x,) = leaves([0.5, 1.0])
    (tg.autograd.host_function(records, lambda y_bar, y, v: y_bar * 2)(x.exp()) * x.cos()).sum().backward()
    points = np.array([0.5, 1.0])
    expected = 2 * np.exp(points) * (np.cos(points) - np.sin(points))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-13)
    assert kept[0].tolist() == [10_001.0, 10_001.0]
    with pytest.raises(RuntimeError, match="looked at a tensor of the tape being swept"):
        tg.autograd.host_function(lambda v: v + (tg.ones(2) + 1).numpy())(x).tolist()
