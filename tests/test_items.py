"""Elements read and written one at a time: in native code, as in Python, and nothing lost or kept."""

import gc
import sys

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import engine, kinds, recorder, tape
from tapegrad.debug import MEMORY
from tapegrad.kernels import native

has_native = native.JIT and not native.CHECKED and not MEMORY


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A tape of its own for each test."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    yield
    recorder.install()


def asked_of_python(monkeypatch, name):
    """A list that grows by each call that native code leaves to Python."""
    asked, function = [], recorder._replaced[name]
    monkeypatch.setitem(recorder._replaced, name, lambda *args: (asked.append(args[1:]), function(*args))[1])
    return asked


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32, tg.int64, tg.int32], ids=str)
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 2)], ids=str)
def test_as_numpy(way, dtype, shape):
    rng = np.random.default_rng(0)
    x, a = tg.zeros(shape, dtype=dtype), np.zeros(shape, dtype.numpy)
    seen = []
    for k in range(60):
        at = tuple(int(rng.integers(-n, n)) for n in shape)
        if k % 3 == 0:
            x[at], a[at] = k, k
        elif k % 3 == 1:
            x[at] += 2
            a[at] += 2
        elif dtype.is_floating_point:
            x[at], a[at] = 0.1 * k, 0.1 * k
        seen.append((x[at].item(), a[at].item()))
    assert x.tolist() == a.tolist()
    assert all(one == other for one, other in seen)


def test_what_was_read_before_stays(way):
    x = tg.arange(4.0)
    for k in range(4):
        before, view = x * 1.0, x[k].clone()
        x[k] = 10.0 + k
        x[k] += 0.5
        assert before.tolist() == [10.5, 11.5, 12.5, 13.5][:k] + [0.0, 1.0, 2.0, 3.0][k:]
        assert view.item() == k


def test_views_that_are_alive_see_what_is_written(way):
    x = tg.zeros(3, 2)
    element, row, alias = x[1, 0], x[1], x.detach()
    for k in range(3):
        x[1, 0] = float(k)
        x[1, 0] += 0.25
        assert (element.item(), row.tolist(), alias[1, 0].item()) == (k + 0.25, [k + 0.25, 0.0], k + 0.25)
    element += 1.0
    element *= 2.0
    assert x[1, 0].item() == row[0].item() == 6.5


def test_memory_shared_with_numpy(way):
    a = np.zeros((2, 2))
    x = tg.from_numpy(a)
    for k in range(4):
        x[k % 2, 1] = float(k)
        x[k % 2, 1] += 0.5
        a[1, 0] = k
        assert x[1, 0].item() == k
    assert a.tolist() == [[0.0, 2.5], [3.0, 3.5]]


def test_gradients_of_a_recurrence(way):
    # y[k+2] = a y[k+1] + b y[k]: the derivatives of the last, beside polynomials in a and b cut off behind squares.
    a, b = tg.tensor(0.7, requires_grad=True), tg.tensor(0.2, requires_grad=True)
    y = tg.zeros(10)
    y[0] = y[1] = 1.0
    for k in range(8):
        y[k + 2] = y[k + 1] * a
        y[k + 2] += y[k] * b
    (by_a, by_b) = tg.autograd.grad(y[9], [a, b], create_graph=True)
    (second,) = tg.autograd.grad(by_a, [a])

    def last(a, b):
        p, q = np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])
        for _ in range(8):
            p, q = q, np.convolve(a, q)[:3] + np.convolve(b, p)[:3]
        return q

    in_a, in_b = last([0.7, 1.0], [0.2]), last([0.7], [0.2, 1.0])
    assert abs(y[9].item() - in_a[0]) < 1e-14
    assert abs(by_a.item() - in_a[1]) < 1e-13
    assert abs(by_b.item() - in_b[1]) < 1e-13
    assert abs(second.item() - 2 * in_a[2]) < 1e-12


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        ("x[3, 0] = 1.0", IndexError, "out of bounds for dimension 0 with size 2"),
        ("x[0, 0, 0] = 1.0", IndexError, "too many indices"),
        ("x[0, 0] = 'text'", TypeError, "can't assign a str"),
        ("x[0, 0] = tg.ones(2)", RuntimeError, "expand"),
        ("x[1.5, 0] = 1.0", IndexError, "only integers"),
        ("x[0, 0] += 'text'", TypeError, "unsupported operand"),
        ("x[0, 0] += tg.ones(2)", RuntimeError, "doesn't match the broadcast shape"),
        ("del x[0, 0]", TypeError, "does not support deleting items"),
        ("n[0] += 0.5", RuntimeError, "can't be cast"),
        ("n[0] = 1 << 70", OverflowError, "too big"),
        ("f[0] = 1e300", RuntimeError, "without overflow"),
        ("p[0] = 1.0", RuntimeError, "a view of a leaf Variable that requires grad"),
        ("p[0] += 1.0", RuntimeError, "a view of a leaf Variable that requires grad"),
    ],
)
def test_bad_writes_lose_nothing(way, write, error, words):
    names = {
        "tg": tg, "x": tg.zeros(2, 2), "n": tg.zeros(2, dtype=tg.int64), "f": tg.zeros(2, dtype=tg.float32),
        "p": tg.zeros(2, requires_grad=True),
    }  # fmt: skip
    for name in ("x[0, 1]", "n[1]", "f[1]"):
        exec(f"{name} = 3\n{name} += 1", names)  # what is to be known is known
    if write.startswith("del") and way == "python":
        error, words = (TypeError, AttributeError), "delet|delitem"
    with pytest.raises(error, match=words):
        exec(write, names)
    assert [names[name].tolist() for name in "xnfp"] == [[[0.0, 4.0], [0.0, 0.0]], [0, 4], [0.0, 4.0], [0.0, 0.0]]


@pytest.mark.skipif(not has_native, reason="there is no native code")
@pytest.mark.roomy
def test_nothing_is_left_to_python_in_a_loop(monkeypatch):
    recorder.install()
    x, y = tg.zeros(40, 40), tg.zeros(50)
    p = tg.tensor(2.0, requires_grad=True)
    z = tg.zeros(6)

    def loop():
        for k in range(40):
            x[k, 3] = 1.5
            x[k, -1] += 2
            y[k + 2] = 0.5 * y[k + 1] + y[k]
            z[k % 6] += p
            z[k % 6] = p

    loop()
    asked = [asked_of_python(monkeypatch, name) for name in ("__setitem__", "__getitem__", "__iadd__")]
    loop()
    assert asked == [[], [], []]
    window = x[:2]  # a view: what it shows is Python's affair, until it is gone
    x[0, 0] = 1.0
    assert len(asked[0]) == 1
    assert window[0, 0].item() == 1.0
    del window
    x[0, 0] = 2.0
    x[0, 0] = 3.0
    assert len(asked[0]) == 2


@pytest.mark.skipif(not has_native, reason="there is no native code")
@pytest.mark.roomy
def test_nothing_is_kept(way):
    x, of = tg.zeros(8, 8), tg.current_tape()
    objects = [True, False, None, (), x._kind, x._kind.strides, of]

    def state():
        gc.collect()
        engine.evaluate(of, x._slot)
        engine.reclaim(of)
        return of.top - len(of.free), len(of.arrays) < 8, *map(sys.getrefcount, objects)

    def loop():
        for k in range(1000):
            x[k % 8, 1] = float(k)
            x[k % 8, 2] += x[k % 8, 1]
            x[k % 8, 2] = 1

    loop()
    before = state()
    for _ in range(3):
        loop()
    after = state()
    assert before[:2] == after[:2]
    assert all(abs(one - other) < 100 for one, other in zip(before[2:], after[2:], strict=True))


def test_places_are_parameters():
    for position in (0, 1, 1023, 1024, 5000, (1 << 22) - 1, 1 << 22, 1 << 40):
        index = kinds.place(position)
        assert kinds.numbers_at(index) == (position, 0)
        assert kinds.place(position) == index
