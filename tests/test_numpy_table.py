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
    with pytest.raises(RuntimeError, match=r"np\.divide\.accumulate is not recorded"):
        np.divide.accumulate(x)


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
