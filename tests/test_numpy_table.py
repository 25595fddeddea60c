"""Every function of NumPy's on tensors: what NUMPY.md says of it, with NumPy's own values and derivatives."""

import re

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import trees
from tests import numpy_table

SAID = dict(re.findall(r"^\| `np\.([\w.]+)` \| `.*` \| (\w+) \|", numpy_table.WRITTEN.read_text(), re.MULTILINE))
STEPS = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}  # central differences of the sixth order
H = 1e-3


def test_the_page_has_every_call():
    assert SAID.keys() == numpy_table.parsed().keys()


def leaves(result):
    return [leaf for leaf in trees.leaves(numpy_table._plain(result)) if leaf is not None]


def numbers(call, operands):
    """The real results of a call, in one vector."""
    found = [np.asarray(leaf) for leaf in leaves(numpy_table.evaluated(call, operands))]
    return np.concatenate([a.astype(float).ravel() for a in found if a.dtype.kind in "fiub"] or [np.zeros(0)])


def moved(by):
    return {name: array + by * DIRECTIONS[name] for name, array in numpy_table.OPERANDS.items()}


_RNG = np.random.default_rng(6)
DIRECTIONS = {name: _RNG.normal(size=array.shape) for name, array in numpy_table.OPERANDS.items()}
DIRECTIONS["m"] = DIRECTIONS["m"] + DIRECTIONS["m"].T


@pytest.mark.parametrize(("name", "call"), numpy_table.parsed().items(), ids=numpy_table.parsed())
def test_outcome(name, call):
    kind, result = numpy_table.outcome(call)
    assert kind == SAID[name]
    if kind == "refused":
        assert isinstance(result, (RuntimeError, TypeError, ValueError)), result
        return
    expected = leaves(numpy_table.evaluated(call, dict(numpy_table.OPERANDS)))
    got = leaves(result)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        array = ours.detach().numpy() if isinstance(ours, tg.Tensor) else ours
        if isinstance(theirs, (np.ndarray, float, int, np.generic)):
            np.testing.assert_allclose(array, theirs, rtol=1e-11, atol=1e-12)
            assert np.shape(array) == np.shape(theirs)


_STEPS = {"around", "astype"}  # steps, and single precision: no differences


@pytest.mark.parametrize("name", [name for name, kind in SAID.items() if kind == "records" and name not in _STEPS])
def test_derivative(name):
    call = numpy_table.parsed()[name]
    order = list(numpy_table.OPERANDS)

    def function(*tensors):
        found = leaves(numpy_table.evaluated(call, dict(zip(order, tensors, strict=True))))
        parts = [t if isinstance(t, tg.Tensor) else tg.tensor(t) for t in found]
        return tg.cat([t.double().reshape(-1) for t in parts])

    primals = tuple(tg.tensor(numpy_table.OPERANDS[n]) for n in order)
    directions = tuple(tg.tensor(DIRECTIONS[n]) for n in order)
    value, tangent = tg.func.jvp(function, primals, directions)
    seed = tg.tensor(np.random.default_rng(7).normal(size=tuple(value.shape)))
    adjoints = tg.func.vjp(function, *primals)[1](seed)
    along = sum(float((g * d).sum()) for g, d in zip(adjoints, directions, strict=True) if g is not None)
    np.testing.assert_allclose(along, float((seed * tangent).sum()), rtol=1e-9, atol=1e-10)
    slope = sum(w * (numbers(call, moved(k * H)) - numbers(call, moved(-k * H))) / H for k, w in STEPS.items())
    np.testing.assert_allclose(tangent.numpy(), slope, rtol=1e-7, atol=1e-7)


def test_methods_of_elementwise_functions():
    x, y = (tg.tensor(numpy_table.OPERANDS[name], requires_grad=True) for name in "xy")
    a, b = (numpy_table.OPERANDS[name] for name in "xy")
    for ufunc in (np.add, np.subtract, np.multiply, np.maximum, np.hypot):
        for operands, arrays in (((x, y), (a, b)), ((x, b), (a, b)), ((a, y), (a, b))):
            made = ufunc.outer(*operands)
            assert made.requires_grad
            np.testing.assert_allclose(made.detach().numpy(), ufunc.outer(*arrays), rtol=1e-15)
    c = tg.tensor(numpy_table.OPERANDS["c"], requires_grad=True)
    for ufunc in (np.add, np.multiply, np.maximum, np.minimum):
        for facts in ({}, {"axis": 1}, {"axis": None}, {"axis": (0, 2), "keepdims": True}):
            reduced = ufunc.reduce(c, **facts)
            assert reduced.requires_grad
            expected = ufunc.reduce(numpy_table.OPERANDS["c"], **facts)
            np.testing.assert_allclose(reduced.detach().numpy(), expected, rtol=1e-13)
    np.testing.assert_allclose(np.add.accumulate(c, 1).tolist(), np.add.accumulate(numpy_table.OPERANDS["c"], 1))


BINARY = [  # without power and arctan2, whose methods give other numbers in NumPy 2.4 than the loop that they stand for
    np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.fmax, np.hypot, np.logaddexp, np.logaddexp2
]  # fmt: skip


@pytest.mark.parametrize("ufunc", BINARY, ids=lambda ufunc: ufunc.__name__)
def test_methods_are_their_definition(ufunc):
    """Of every function of two operands: joined one after another, with gradients of that."""
    array = numpy_table.OPERANDS["c"]
    calls = [
        lambda a: ufunc.reduce(a), lambda a: ufunc.reduce(a, axis=-1, keepdims=True), lambda a: ufunc.reduce(a, 1),
        lambda a: ufunc.reduce(a, axis=1, initial=0.5), lambda a: ufunc.accumulate(a), lambda a: ufunc.accumulate(a, 2),
        lambda a: ufunc.reduceat(a, [0, 2, 1], axis=1), lambda a: ufunc.reduce(a, axis=None),
    ]  # fmt: skip
    for call in calls:
        c = tg.tensor(array, requires_grad=True)
        try:
            expected = call(array)
        except ValueError:  # several axes of one that has an order
            with pytest.raises(ValueError, match="not reorderable"):
                call(c)
            continue
        y = call(c)
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12)
        seed, direction = (np.random.default_rng(k).normal(size=n) for k, n in ((1, expected.shape), (2, array.shape)))
        (g,) = tg.autograd.grad(y, c, tg.tensor(seed))
        step = 1e-6
        slope = ((call(array + step * direction) - call(array - step * direction)) * seed).sum() / (2 * step)
        np.testing.assert_allclose((g.numpy() * direction).sum(), slope, rtol=1e-5, atol=1e-8)


def test_methods_at_edges():
    for ufunc in (np.hypot, np.subtract, np.logaddexp):
        with pytest.raises(TypeError, match=f"np.{ufunc.__name__}.reduce: the argument where"):
            ufunc.reduce(tg.ones(3), where=np.array([True, False, True]))
    with pytest.raises(ValueError, match="zero-size array to reduction operation subtract"):
        np.subtract.reduce(tg.ones(0))
    with pytest.raises(IndexError, match=r"out-of-bounds in subtract\.reduceat"):
        np.subtract.reduceat(tg.ones(3), [0, 3])
    assert np.hypot.reduce(tg.ones(0, 2)).tolist() == [0.0, 0.0]
    assert np.subtract.accumulate(tg.ones(0, 2)).shape == (0, 2)


def test_elements_that_do_not_take_part():
    x, y = (tg.tensor(numpy_table.OPERANDS[name], requires_grad=True) for name in "xy")
    a, b = (numpy_table.OPERANDS[name] for name in "xy")
    out, whole = y * 1, b.copy()
    assert np.log(x - 0.5, where=x > 0.5, out=out) is out
    np.log(a - 0.5, where=a > 0.5, out=whole)
    np.testing.assert_allclose(out.detach().numpy(), whole)
    of_x, of_y = tg.autograd.grad(out.sum(), (x, y))
    np.testing.assert_allclose(of_x.numpy(), np.where(a > 0.5, 1 / (a - 0.5), 0))
    np.testing.assert_array_equal(of_y.numpy(), a <= 0.5)
    with pytest.raises(TypeError, match="where"):  # without `out` the other elements would be anything
        np.log(x, where=x > 0.5)
    total, weights = np.average(x, weights=b, returned=True)
    assert (total.item(), weights.item()) == pytest.approx(np.average(a, weights=b, returned=True))
    with pytest.raises(ValueError, match="the result is complex"):
        np.emath.sqrt(x - 0.5)
    assert np.emath.sqrt(x).requires_grad


def test_orders_and_windows():
    c = tg.tensor(numpy_table.OPERANDS["c"], requires_grad=True)
    array = numpy_table.OPERANDS["c"]
    windows = np.lib.stride_tricks.sliding_window_view
    for call in (
        lambda a: np.reshape(a, (4, 6), order="F"), lambda a: np.reshape(a, (-1, 8), order="F"),
        lambda a: np.ravel(a, order="F"), lambda a: np.ravel(a, "K"), lambda a: windows(a, 2, axis=1),
        lambda a: windows(a, (2, 2), axis=(0, 2)), lambda a: windows(a, (1, 2, 3)),
    ):  # fmt: skip
        y = call(c)
        assert y.requires_grad
        np.testing.assert_array_equal(y.detach().numpy(), call(array))


@pytest.mark.parametrize(
    ("write", "operand"),
    [
        (lambda a, v: np.fill_diagonal(a, v[:2]), "m"),
        (lambda a, v: np.fill_diagonal(a, v[0]), "m"),
        (lambda a, v: np.put(a, [1, -1, 1], v), "x"),
        (lambda a, v: np.put(a, [7, -9], v, mode="wrap"), "x"),
        (lambda a, v: np.put(a, [7, -9, 2], v, mode="clip"), "m"),
        (lambda a, v: np.place(a, a > 0.5, v[:2]), "x"),
        (lambda a, v: np.putmask(a, a > 0.5, v[:4]), "x"),
        (lambda a, v: np.copyto(a, v[:3], where=a > 0), "m"),
        (lambda a, v: np.put_along_axis(a, np.array([[0, 2]]), v[:2], axis=1), "m"),
        (lambda a, v: np.put_along_axis(a, np.array([3, 0]), v[:2], axis=None), "m"),
    ],
)
def test_functions_that_write(write, operand):
    base, v = (tg.tensor(numpy_table.OPERANDS[name], requires_grad=True) for name in (operand, "y"))
    a = base + 0
    assert write(a, v) is None
    expected = numpy_table.OPERANDS[operand].copy()
    write(expected, numpy_table.OPERANDS["y"])
    np.testing.assert_allclose(a.detach().numpy(), expected)
    seed = np.random.default_rng(8).normal(size=expected.shape)
    base_bar, v_bar = tg.autograd.grad(a, [base, v], tg.tensor(seed))
    total = (seed * expected).sum()  # linear in both: what is written is scaled with its operand
    pairs = ((base_bar, numpy_table.OPERANDS[operand]), (v_bar, numpy_table.OPERANDS["y"]))
    np.testing.assert_allclose(sum((g.numpy() * x).sum() for g, x in pairs), total, rtol=1e-12)
    with pytest.raises(RuntimeError, match="derivative"):
        write(np.ones(expected.shape), v)
