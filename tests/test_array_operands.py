"""Arrays, numbers and what NumPy can see, where Tensors may stand: one function for values and for gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.functions.elementwise import OPERATIONS
from tapegrad.ops import indexing
from tapegrad.ops.declare import OPS, array_op
from tapegrad.recording import record_array

A = np.array([[0.5, 1.5], [2.0, 0.25]])
UNARY = [op.name for op in OPERATIONS if op.arity == 1 and op.is_public and "float64" not in op.refuses]
BINARY = [op.name for op in OPERATIONS if op.arity == 2 and op.is_public and "float64" not in op.refuses]


def energy(x):
    r = tg.sqrt(tg.sum(tg.square(x), dim=-1))
    return tg.sum(tg.where(r > 1.0, tg.log(r), tg.matmul(x, tg.ones(2))) * tg.exp(-r)) + tg.maximum(0.5, x[0, 0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_function_serves_for_values_and_for_gradients(dtype):
    x = A.astype(dtype)
    tg.set_default_dtype(tg.float64 if dtype is np.float64 else tg.float32)
    try:
        value = energy(x)
        again, gradient = tg.func.value_and_grad(energy)(x)
        t = tg.tensor(x, requires_grad=True)
        energy(t).backward()
    finally:
        tg.set_default_dtype(tg.float64)
    assert isinstance(value, tg.Tensor)
    assert value.dtype == tg.tensor(x).dtype
    assert value.item() == again
    np.testing.assert_array_equal(gradient, t.grad.numpy())


@pytest.mark.parametrize("name", UNARY)
def test_elementwise_functions_of_arrays_and_numbers(name: str):
    function = getattr(tg, name)
    expected = function(tg.tensor(A / 2))
    for given in (A / 2, np.asfortranarray(A / 2), (A / 2).astype(">f8")):
        got = function(given)
        assert isinstance(got, tg.Tensor)
        assert got.dtype is expected.dtype
        np.testing.assert_array_equal(got.numpy(), expected.numpy())
    for number in (0.25, np.float64(0.25), np.array(0.25)):
        assert function(number).dtype is expected.dtype
        np.testing.assert_array_equal(function(number).numpy(), function(tg.tensor(0.25)).numpy())
    assert function(np.float32(0.25)).dtype is function(tg.tensor(0.25, dtype=tg.float32)).dtype


@pytest.mark.parametrize("name", BINARY)
def test_two_operands_in_any_mixture(name: str):
    function, t = getattr(tg, name), tg.tensor(A)
    pairs = [(A, t), (t, A), (A, A), (t, 0.5), (0.5, t), (A, 0.5), (0.5, A), (0.5, 0.25), (np.float64(0.5), 0.25)]
    for a, b in pairs:
        got, expected = function(a, b), function(tg.tensor(a), tg.tensor(b))
        assert isinstance(got, tg.Tensor)
        assert got.dtype is expected.dtype
        np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_numbers_are_as_weak_beside_tensors_as_in_operators():
    x = tg.ones(2, dtype=tg.float32)
    assert tg.maximum(x, 2.5).dtype is tg.maximum(2.5, x).dtype is (x + 2.5).dtype is tg.float32
    assert tg.maximum(x, np.float64(2.5)).dtype is tg.float32
    assert tg.maximum(x, np.ones(2)).dtype is tg.float64
    assert tg.add(1, 2).dtype is tg.int64
    assert tg.add(1, 2.5).dtype is tg.float64
    assert tg.add(np.float32(1), np.float32(2)).dtype is tg.float32
    assert tg.exp(1).dtype is tg.float64
    assert tg.add(True, True).dtype is tg.bool
    assert tg.pow(2, 3).item() == 8


def test_arrays_are_taken_as_they_are_now():
    for n in (3, 100_000):
        a, w = np.ones(n), tg.ones(n, requires_grad=True)
        products = [tg.mul(w, a), tg.dot(a, w), tg.where(a > 0.5, w, a), tg.cat([a, w]), tg.matmul(w, a)]
        a[:] = 7.0
        for y in products:
            w.grad = None
            y.sum().backward()
            assert (w.grad == 1.0).all()


@pytest.mark.parametrize("given", [[1.0, 2.0], (1.0,), "a", None, 1j, np.array([1j]), np.array(["a"]), object(), {}])
def test_what_stands_for_no_tensor_is_refused(given):
    x = tg.ones(2)
    calls = [lambda: tg.exp(given), lambda: tg.sum(given), lambda: tg.maximum(x, given), lambda: tg.mul(given, x)]
    calls += [lambda: tg.matmul(x, given), lambda: tg.dot(given, x), lambda: x.dot(given), lambda: tg.softmax(given, 0)]
    for call in calls:
        with pytest.raises(TypeError, match=r"must be Tensor, not|can't convert|as element"):
            call()
    with pytest.raises(TypeError, match=r"not list: tapegrad.tensor\(\) makes one of it"):
        tg.exp([1.0])


def test_tensors_among_what_is_joined_may_be_arrays_and_numbers():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    tg.stack([x[0], 3.0, np.float64(4.0), np.array(5.0)]).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]
    assert tg.cat([np.ones(1), x]).tolist() == [1.0, 1.0, 2.0]


def test_rows_of_three_operands_have_no_parameters():
    """Their place in a row is that of the third operand."""

    def kernel(p, a, b, c, y):
        raise AssertionError

    def shared(p, lo, hi, a, b, c, y):
        raise AssertionError

    declared = len(OPS)
    for function, facts in ((kernel, {"call": lambda a, b, c: ((), (1,))}), (kernel, {"room": 0}), (shared, {})):
        with pytest.raises(TypeError, match="a row of three operands has no room for parameters"):
            array_op(3, **facts)(function)
    assert len(OPS) == declared, "what is refused is no operation"
    x, at = tg.ones(2), tg.zeros(2, dtype=tg.int64)
    with pytest.raises(TypeError, match="_largest_at: a row of three operands"):
        record_array(indexing._largest_at, (2,), tg.float64, x, x, at, params=(1,))
