"""Trees, and as what jitted functions take and return them."""

import os
import subprocess
import sys
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from numba import njit

import tapegrad as tg
from tapegrad import trees

Line = namedtuple("Line", ["slope", "start"])
X, W = np.array([1.0, -2.0, 0.5]), np.array([[2.0, 0.5, 1.0], [-1.0, 3.0, 0.25]])

TREES = [
    1.0,
    None,
    (),
    [],
    {},
    (1.0, (2.0,), [3.0, []]),
    {"w": [1.0, 2.0], "b": (3.0,), 7: {"x": 4.0}},
    [Line(1.0, [2.0]), OrderedDict(a=3.0)],
]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_what_is_taken_apart_is_put_together(tree):
    leaves, structure = trees.flatten(tree)
    again = trees.unflatten(structure, leaves)
    assert again == tree
    assert type(again) is type(tree)
    assert trees.flatten(again) == (leaves, structure)
    assert hash(structure) == hash(trees.flatten(again)[1])
    assert trees.matched(structure, tree) == leaves


def test_structures_that_differ():
    structure = trees.flatten({"w": [1.0, 2.0], "b": (3.0,)})[1]
    assert str(structure) == "{'w': [*, *], 'b': (*,)}"
    assert trees.matched(structure, {"b": (3.0,), "w": [1.0, 2.0]}) == [1.0, 2.0, 3.0]  # keys are looked up
    for other in ({"w": [1.0, 2.0]}, {"w": [1.0, 2.0], "c": (3.0,)}, {"w": [1.0], "b": (3.0,)},
                  {"w": (1.0, 2.0), "b": (3.0,)}, {"w": [1.0, 2.0], "b": 3.0}, 1.0, [1.0]):  # fmt: skip
        assert trees.matched(structure, other) is None
    assert trees.matched(None, [1.0]) is None
    assert str(trees.flatten(Line(1.0, ()))[1]) == "Line(*, ())"


# --- jitted functions -------------------------------------------------------------------------------------------------


def network(p, x):
    """Of a dictionary of different types, a list and a named tuple; of arrays or of tensors."""
    y = p["w"] * x * p["layers"][0] + p["layers"][1]
    return (y**3).sum() * p["line"].slope + p["line"].start[0] ** 2


def parameters():
    return {"w": W, "layers": [np.array([0.5, 2.0, -1.5]), np.array([1.0, -1.0, 0.25])], "line": Line(1.5, (0.3,))}


def test_gradients_of_nested_containers_in_both_engines():
    p = parameters()
    value, found = tg.func.value_and_grad(njit(network))(p, X)
    leaves, structure = trees.flatten(p)
    tensors = trees.unflatten(structure, [tg.tensor(leaf) for leaf in leaves])
    other_value, other = tg.func.value_and_grad(network)(tensors, tg.tensor(X))
    assert value == pytest.approx(other_value.item(), rel=1e-14)
    assert trees.flatten(found)[1] == trees.flatten(other)[1] == structure
    for a, b, step in zip(trees.leaves(found), trees.leaves(other), range(len(leaves)), strict=True):
        assert type(a) is type(leaves[step])
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-13)
        # By complex step: along ones in this leaf, which must be the gradient's sum.
        moved = [leaf + 1e-30j * (k == step) for k, leaf in enumerate(leaves)]
        slope = network(trees.unflatten(structure, moved), X).imag / 1e-30
        assert np.sum(a) == pytest.approx(slope, rel=1e-13)


def total(p):
    """Of one type: it is gone through as any dictionary of Numba's."""
    s = 0.0
    for key in p:
        s += (p[key] ** 3).sum()
    return s


def test_dictionaries_and_lists_of_one_type_are_gone_through():
    found = tg.func.grad(njit(total))({"a": X, "b": X + 1.0})
    np.testing.assert_allclose(found["a"], 3 * X**2)
    np.testing.assert_allclose(found["b"], 3 * (X + 1.0) ** 2)
    second = tg.func.hessian(njit(lambda ts: ts[0] ** 2 * ts[1]))([2.0, 3.0])
    assert second == [[6.0, 4.0], [4.0, 0.0]]


def test_results_in_named_tuples():
    def line(p):
        return Line(p["a"] * p["t"], p["t"] ** 2)

    p = {"a": X, "t": 2.0}
    for transform in (tg.func.jacrev, tg.func.jacfwd):
        found = transform(njit(line))(p)
        assert type(found) is Line
        np.testing.assert_array_equal(found.slope["a"], 2 * np.eye(3))
        np.testing.assert_array_equal(found.slope["t"], X)
        assert found.start["t"] == 4.0
        assert not found.start["a"].any()
    output, pull = tg.func.vjp(njit(line), p)
    (pulled,) = pull(Line(X, 0.5))
    assert output.start == 4.0
    np.testing.assert_array_equal(pulled["a"], 2 * X)
    assert pulled["t"] == X @ X + 0.5 * 4.0
    _, pushed = tg.func.jvp(njit(line), (p,), ({"t": 1.0, "a": X},))
    np.testing.assert_array_equal(pushed.slope, 3 * X)
    with pytest.raises(RuntimeError, match=r"cotangents: \(\*, \*\), primal output: Line\(\*, \*\)"):
        pull((X, 0.5))


def test_containers_that_are_passed_on():
    def scaled(x, options):
        return (x ** options["power"]).sum() * options["scale"][0]

    found = tg.func.grad(njit(scaled))(X, {"power": 3, "scale": np.array([2.0, 0.0])})
    np.testing.assert_allclose(found, 6 * X**2)


def test_what_numba_does_not_take_is_refused_with_an_alternative():
    alternative = r"test_trees.py:\d+: (?s:.*)by constant keys only.*named tuple"
    with pytest.raises(tg.jitted.NotDifferentiableError, match=alternative):
        tg.func.grad(njit(total))({"a": X, "b": W})
    with pytest.raises(TypeError, match=r"argument 0 is a list of 300 items, too many.*make it an array"):
        tg.func.grad(njit(total))([1.0] * 300)
    with pytest.raises(TypeError, match="keys are strings or ints"):
        tg.func.grad(njit(total))({(1, 2): X})
    with pytest.raises(TypeError, match="argument 0 is a dict with the int 3: write it as a float"):
        tg.func.grad(njit(total))({"a": X, "n": 3})
    for returned in (lambda x: {"a": x, "b": x[0]}, lambda x: {"a": x, "b": x}, lambda x: [x[0], x[1]]):
        with pytest.raises(RuntimeError, match=r"returns a (list|dictionary): let it return a named tuple"):
            tg.func.jacrev(njit(returned))(X)
    assert tg.func.grad(tg.func.grad(njit(lambda x: x**3)))(2.0) == 12.0


PROGRAM = """
from collections import namedtuple
from numba import njit
import tapegrad as tg
Line = namedtuple("Line", ["slope", "start"])
output, tangent = tg.func.jvp(njit(lambda p: Line(p["t"] ** 2, 1.0)), ({"t": 3.0},), ({"t": 1.0},))
print(type(output) is type(tangent) is Line, tangent.slope)
"""


def test_a_named_tuple_of_a_script_is_not_taken_from_the_disk(tmp_path):
    environment = {**os.environ, "TAPEGRAD_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        child = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, text=True, capture_output=True,
                               check=False)  # fmt: skip
        assert child.stdout.strip() == "True 6.0", child.stderr
