"""The way in from NumPy and the way out: what is shared, what waits, and what it costs in rows."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import kinds
from tapegrad.debug import MEMORY
from tapegrad.tape import STORED

DTYPES = [tg.float64, tg.float32, tg.int64, tg.int32, tg.bool]
LARGE = kinds.LARGE // 8


def waits(t: Any) -> bool:
    return not t._tape.slots["flags"][t._slot] & STORED


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 0), (1, 2, 3)])
def test_elements_are_read_as_they_are(dtype: Any, shape: tuple[int, ...]):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype.numpy)
    t = tg.tensor(array)
    for look in (lambda: t.tolist(), lambda: t.detach().numpy().tolist(), lambda: (t + t - t).tolist() if shape else 0):
        assert dtype is tg.bool or look() in (array.tolist(), 0)
    assert t.numpy().dtype == array.dtype
    assert t.numpy().shape == shape
    if array.size == 1:
        assert t.item() == array.item()
        assert type(t.item()) is type(array.item())


@pytest.mark.parametrize("make", [lambda: tg.from_numpy(np.ones(3)), lambda: shown(tg.ones(3))])
def test_what_is_done_to_little_shared_memory_waits(make: Any):
    x = make()
    results = [x * 2, tg.exp(x), x.sum(), tg.cat([x, x]), 1.0 - x, tg.where(x > 0, x, 0.0), x.to(tg.float32)]
    assert all(waits(y) for y in results)
    x.numpy()[0] = 5.0
    assert (x * 2).tolist() == [10.0, 2.0, 2.0]
    assert results[0].tolist() == [2.0, 2.0, 2.0]
    assert results[2].item() == 3.0


def shown(t: Any) -> Any:
    t.numpy()
    return t


def test_an_export_computes_nothing_else():
    x, y = tg.ones(3, requires_grad=True), tg.ones(3)
    pending = (x * y).sum()
    y.numpy()[:] = 2.0
    x.detach().numpy()[:] = 3.0
    assert waits(pending)
    assert pending.item() == 3.0
    (x * y).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    assert x.tolist() == [3.0, 3.0, 3.0]
    pending.backward()
    assert x.grad.tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("n", [3, LARGE])
def test_large_memory_is_shared_without_a_copy(n: int):
    array = np.zeros(n)
    t = tg.from_numpy(array)
    assert np.shares_memory(t.numpy(), array)
    assert np.shares_memory(t.detach().numpy(), t.numpy())
    assert np.shares_memory(t[1:].numpy(), t.numpy())
    out = t.numpy()
    with tg.no_grad():
        t += 1
    assert out[0] == array[0] == 1.0


def test_what_is_read_again_is_one_leaf_until_it_changes():
    array = np.array([1.0, 2.0])
    t = tg.from_numpy(array).requires_grad_()
    before = tg.current_tape().top - len(tg.current_tape().free)
    y = sum((t * k for k in range(50)), tg.zeros(2))
    assert tg.current_tape().top - len(tg.current_tape().free) - before < 110  # two rows a term, and a leaf
    array[0] = 7.0
    y = (y + t * t).sum()
    y.backward()
    assert t.grad.tolist() == [1225.0 + 14.0, 1225.0 + 4.0]
    assert tg.autograd.grad((t * t).sum(), t)[0].tolist() == [14.0, 4.0]
    array[1] = np.nan
    assert np.isnan((t * 1.0).tolist()[1])


def test_arrays_live_on_without_their_tensors():
    arrays = [(tg.ones(4) * k).numpy() for k in range(100)]
    details = [(tg.ones(4) * k).detach().numpy() for k in range(100)]
    gc.collect()
    for _ in range(3):
        (tg.ones(1000) * 3).sum().item()
    assert all((a == k).all() and (b == k).all() for k, (a, b) in enumerate(zip(arrays, details, strict=True)))


def test_values_and_gradients_of_arrays_meet_leaves_of_others():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    h = w * w
    others = [tg.ones(1, requires_grad=True) for _ in range(100)]

    def plain(x):
        return (x**3).sum()

    def behind(x):
        return (x**3 * h).sum()

    x = np.array([1.0, 2.0])
    value, gradient = tg.func.value_and_grad(plain)(x)
    assert (value, gradient.tolist()) == (9.0, [3.0, 12.0])
    assert type(value) is float
    value, gradient = tg.func.value_and_grad(behind)(x)
    assert isinstance(value, tg.Tensor)
    assert isinstance(gradient, tg.Tensor)
    (value + gradient.sum()).backward()
    # value = sum x^3 w^2, gradient = 3 x^2 w^2
    np.testing.assert_allclose(w.grad.numpy(), 2 * np.array([1.0, 2.0]) * (x**3 + 3 * x**2))
    assert all(other.grad is None for other in others)
    value, gradient = tg.func.value_and_grad(plain)(x)
    assert gradient.tolist() == [3.0, 12.0]


def test_a_function_that_reads_a_graph_that_was_swept_still_has_its_gradient():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    h = (w * w).sum()
    h.backward()
    del w
    value, gradient = tg.func.value_and_grad(lambda x: (x * h.detach()).sum())(np.array([1.0, 2.0]))
    assert (value, gradient.tolist()) == (15.0, [5.0, 5.0])


def test_slices_are_the_same_whoever_took_them_before():
    a = np.arange(12.0).reshape(3, 4)
    indices = [0, -1, slice(1, None), slice(None, None, 2), (1, 2), (slice(None), 1), (0, slice(1, 3)), (..., 0)]
    for _ in range(3):
        for requires_grad in (False, True):
            for index in indices:
                t = tg.tensor(a, requires_grad=requires_grad)
                y = t[index]
                assert y.tolist() == a[index].tolist()
                assert y.requires_grad is requires_grad
                with tg.no_grad():
                    z = t[index]
                    assert not z.requires_grad
                    t += 1.0
                assert z.tolist() == y.tolist() == (a[index] + 1.0).tolist()
                if requires_grad:
                    t[index].sum().backward()
                    expected = np.zeros_like(a)
                    expected[index] = 1.0
                    assert t.grad.tolist() == expected.tolist()
    t = tg.tensor(a)
    with pytest.raises(TypeError, match="slice indices must be integers"):
        t[1.0:]
    with pytest.raises(IndexError, match="out of bounds"):
        t[3]
    assert t[True].shape == (1, 3, 4)


@pytest.mark.skipif(MEMORY, reason="what is shared with NumPy stays so, since it has no guards")
def test_memory_that_nobody_shares_any_more_is_again_like_any_other():
    w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    view = w[1:]
    held = [w.detach().numpy(), w.detach().numpy()[1:]]
    assert w._kind.exported
    (w * view.sum()).sum().backward()
    assert w._kind.exported
    held[1][0] = 7.0
    assert view.tolist() == [7.0, 3.0]
    held.pop(0)
    (w * 2).sum().backward()
    assert w._kind.exported  # a part of it is still there
    held.pop()
    (w * 2).sum().backward()
    assert not w._kind.exported
    assert w.is_leaf
    w.grad = None
    (w * view.sum()).sum().backward()
    assert w.grad.tolist() == [10.0, 21.0, 21.0]
    with tg.no_grad():
        w += 1.0
    assert view.tolist() == [8.0, 4.0]
    array = np.zeros(4)
    shared = tg.from_numpy(array[1:])  # whose memory is another array's
    assert (shared + 1).tolist() == [1.0, 1.0, 1.0]
    array[2] = 5.0
    assert (shared + 1).tolist() == [1.0, 6.0, 1.0]
    shared, kept = tg.from_numpy(np.ones(3)), memoryview(w.detach().numpy())
    assert (shared * 2).tolist() == [2.0, 2.0, 2.0]
    assert not shared._kind.exported
    assert (w * 1).tolist() == kept.tolist()
    assert w._kind.exported


def test_views_of_a_leaf_that_numpy_shares_wait_too():
    array = np.array([1.0, 2.0, 3.0])
    x = tg.from_numpy(array).requires_grad_()
    terms = [x[1:] * x[:-1], (x[1:] ** 2).sum(), x[0] * 2.0]
    assert all(waits(t) for t in terms)
    array[1] = 5.0
    total = terms[0].sum() + terms[1] + terms[2] + (x[1:] * 3.0).sum()
    assert total.item() == 8.0 + 13.0 + 2.0 + 24.0
    total.backward()
    assert x.grad.tolist() == [2.0 + 2.0, 1.0 + 3.0 + 4.0 + 3.0, 2.0 + 6.0 + 3.0]


def test_sums_after_numpy_has_let_go_wait_with_the_elements_of_then():
    """What is learnt of a tensor whose memory came back is not used for one whose memory is still shared."""
    for reduce in (tg.sum, tg.mean, tg.amax, tg.logsumexp):
        facts = {"dim": 0} if reduce is tg.logsumexp else {}
        alone = tg.tensor([1.0, 2.0, 4.0])
        alone.numpy()  # and nobody holds it
        expected = reduce(alone, **facts).item()
        array = np.array([1.0, 2.0, 4.0])
        later = reduce(tg.from_numpy(array), **facts)
        array[:] = 9.0
        assert later.item() == expected
