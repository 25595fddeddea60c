"""einsum and what else contracts: against NumPy, with the adjoints that linearity gives, in every form."""

import math
import string
import subprocess
import sys
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import tapegrad as tg
from tapegrad.functions import contractions

drawn = settings(max_examples=80, deadline=None, derandomize=True, database=None)


@st.composite
def equations(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """An equation, and shapes of operands: repeated letters, ellipses, lengths of 1 and 0 among them."""
    sizes = dict(zip("abcdeBC", draw(st.lists(st.integers(0, 3), min_size=7, max_size=7)), strict=True))
    beyond = draw(st.lists(st.integers(1, 3), max_size=2))  # what ellipses stand for
    terms, shapes, any_dots = [], [], False
    for _ in range(draw(st.integers(1, 4))):
        letters = draw(st.lists(st.sampled_from("abcdeBC"), max_size=3))
        dots = draw(st.booleans())
        any_dots |= dots
        shape = [1 if letters.count(x) == 1 and draw(st.integers(0, 5)) == 0 else sizes[x] for x in letters]
        at = draw(st.integers(0, len(letters)))
        middle = beyond[draw(st.integers(0, len(beyond))) :] if dots else []
        middle = [1 if draw(st.integers(0, 4)) == 0 else n for n in middle]
        terms.append("".join(letters[:at]) + ("..." if dots else "") + "".join(letters[at:]))
        shapes.append((*shape[:at], *middle, *shape[at:]))
    used = sorted({x for term in terms for x in term if x in string.ascii_letters})
    equation = ",".join(terms)
    if draw(st.booleans()):
        kept = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        at = draw(st.integers(0, len(kept)))
        equation += "->" + "".join(kept[:at]) + ("..." if any_dots else "") + "".join(kept[at:])
    return equation, shapes


def np_einsum(equation: str, arrays: list[np.ndarray]) -> np.ndarray:
    """NumPy's; lengths of 1 beside others are repeated first, which it does not do in every case."""
    named = equation.partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, a in zip(named, arrays, strict=True):
        for x, n in zip(labels(term, a.ndim), a.shape, strict=True):
            sizes[x] = n if sizes.get(x, 1) == 1 else sizes[x]
    full = [
        np.broadcast_to(a, tuple(sizes[x] for x in labels(term, a.ndim)))
        if len({*labels(term, a.ndim)}) == a.ndim
        else a
        for term, a in zip(named, arrays, strict=True)
    ]
    return np.einsum(equation, *full)


def labels(term: str, ndim: int) -> list[str]:
    head, dots, tail = term.partition("...")
    n = ndim - len(head) - len(tail)
    return [*head, *(str(k) for k in range(n - 1, -1, -1)), *tail] if dots else [*head]


@drawn
@given(equations(), st.integers(0, 99))
def test_einsum_is_numpys_and_its_gradients_are_its_adjoints(case: tuple[str, list[tuple[int, ...]]], seed: int):
    equation, shapes = case
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in shapes]
    operands = [tg.tensor(a, requires_grad=True) for a in arrays]
    y, expected = tg.einsum(equation, *operands), np_einsum(equation, arrays)
    assert tuple(y.shape) == expected.shape
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    weights = rng.normal(size=expected.shape)
    y.backward(tg.tensor(weights))
    for k, x in enumerate(operands):  # linear in each: <weights, f(v)> = <gradient, v>
        v = rng.normal(size=arrays[k].shape)
        along = (weights * np_einsum(equation, [*arrays[:k], v, *arrays[k + 1 :]])).sum()
        np.testing.assert_allclose((x.grad.numpy() * v).sum(), along, rtol=1e-10, atol=1e-10)


def test_the_order_is_the_cheapest():
    terms = tuple(map(frozenset, ("ab", "bc", "cd")))
    order = contractions._best_order(terms, frozenset("ad"), (("a", 100), ("b", 2), ("c", 100), ("d", 1)))
    assert order == (0, (1, 2))
    chain = contractions._best_chain((10, 100, 5, 50))
    assert chain[0, 2] == 1  # (a b) c: 7,500 multiplications, and 75,000 the other way


def test_many_operands_are_joined_in_a_greedy_order():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 3)) for _ in range(12)]
    letters = string.ascii_lowercase
    equation = ",".join(letters[i : i + 2] for i in range(12)) + "->am"
    y = tg.einsum(equation, *map(tg.tensor, arrays))
    np.testing.assert_allclose(y.tolist(), np.linalg.multi_dot(arrays), rtol=1e-12)


def test_operands_of_lists_and_sublists():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    x, y = tg.tensor(a), tg.tensor(b)
    for made in (
        tg.einsum("ij,jk", [x, y]),
        tg.einsum(x, [0, 1], y, [1, 2]),
        tg.einsum(x, [0, 1], y, [1, 2], [0, 2]),
        np.einsum("ij,jk->ik", x, b),
        np.einsum(x, [0, 1], b, [1, 2], [0, 2], optimize=True),
    ):
        assert isinstance(made, tg.Tensor)
        np.testing.assert_array_equal(made.tolist(), a @ b)


def test_einsum_gives_no_view_of_a_tensor_it_was_given():
    x = tg.ones(2, 2)
    y = tg.einsum("ij->ij", x)
    y += 1
    assert x.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32, tg.int64], ids=repr)
def test_multi_dot_of_vectors_and_matrices(dtype: Any):
    rng = np.random.default_rng(1)
    for shapes in (((3,), (3, 4)), ((2, 3), (3, 4), (4,)), ((3,), (3, 4), (4, 2), (2,)), ((2, 0), (0, 3))):
        arrays = [rng.integers(-3, 4, s).astype(dtype.numpy) for s in shapes]
        y = tg.linalg.multi_dot([tg.tensor(a) for a in arrays])
        assert y.dtype is dtype
        expected = arrays[0]
        for a in arrays[1:]:
            expected = expected @ a
        np.testing.assert_array_equal(np.array(y.tolist()).reshape(expected.shape), expected)


def test_a_first_inner_product_of_float32_finds_its_kernels():
    """In a process of its own: sums of parts are joined by kernels that nothing else has asked for yet."""
    program = "import tapegrad as tg; x = tg.ones(3, dtype=tg.float32); print(tg.dot(x, x).item())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "3.0\n"


def test_powers_of_matrices():
    a = np.array([[2.0, 1.0], [1.0, 3.0]])
    for n in (-3, -1, 0, 1, 2, 5):
        x = tg.tensor(np.stack([a, a.T @ a]), requires_grad=True)
        y = tg.linalg.matrix_power(x, n)
        np.testing.assert_allclose(y.tolist(), np.linalg.matrix_power(x.detach().numpy(), n), rtol=1e-12)
        h = 1e-30  # the derivative along a direction, by a complex step
        v = np.array([[0.3, -1.0], [2.0, 0.7]])
        y.sum().backward()
        slope = sum(np.linalg.matrix_power(m + 1j * h * v, n).imag.sum() / h for m in x.detach().numpy())
        np.testing.assert_allclose((x.grad.numpy() * v).sum(), slope, rtol=1e-12)


def test_products_that_are_added_ignore_what_has_the_factor_0():
    y = tg.addmm(tg.full((2, 2), math.nan), tg.eye(2), tg.eye(2), beta=0)
    assert y.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("name", ["kron", "cross", "tensordot", "vander"])
def test_against_numpy(name: str):
    rng = np.random.default_rng(2)
    cases: dict[str, Any] = {
        "kron": [((2, 3), (3, 1, 2)), ((3,), (2, 2)), ((), (3,))],
        "cross": [((4, 3), (4, 3)), ((3,), (3,))],
        "tensordot": [((2, 3, 4), (3, 4, 5)), ((2, 3), (2, 3))],
        "vander": [((4,),)],
    }
    for shapes in cases[name]:
        arrays = [rng.normal(size=s) for s in shapes]
        y = getattr(tg, name)(*map(tg.tensor, arrays))
        np.testing.assert_allclose(y.tolist(), getattr(np, name)(*arrays), rtol=1e-12)


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
def test_products_of_nothing(dtype: Any):
    """Whatever was summed before, and however much memory there is for sums: these once were what another had left."""
    for _ in range(2):
        assert tg.dot(tg.zeros(0, dtype=dtype), tg.zeros(0, dtype=dtype)).item() == 0.0
        a, b = tg.ones(0, 3, dtype=dtype, requires_grad=True), tg.ones(3, dtype=dtype, requires_grad=True)
        (a @ b).sum().backward()
        assert b.grad is not None
        assert b.grad.tolist() == [0.0, 0.0, 0.0]
        big = tg.full((5000,), 3.0, dtype=dtype)
        assert tg.dot(big, big).item() == 45000.0
