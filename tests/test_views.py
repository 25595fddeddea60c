"""Views are strided operands, and writes in place cost their elements: gradients beside those of copies."""

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegrad as tg
from tapegrad import engine, tape
from tapegrad.core import storage
from tapegrad.debug import MEMORY, SMALL
from tapegrad.tape import H


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> tape.Tape:
    """A tape of its own."""
    made = tape.Tape()
    monkeypatch.setattr(tape._threads, "tape", made)
    return made


def address(t: Any) -> int:
    """Where a tensor's elements are, once they are computed."""
    return engine.evaluate(t._tape, t._slot)


# --- adjoints of views ------------------------------------------------------------------------------------------------

# Of x, [r, n]: views of length n - 3, and the positions that they show.
VIEWS = [
    lambda x, i, k: x[i][k : k + x.shape[1] - 3],
    lambda x, i, k: x[i, k : x.shape[1] - 3 + k],
    lambda x, i, k: x.reshape(-1)[k + i * x.shape[1] : k + (i + 1) * x.shape[1] - 3],
    lambda x, i, k: x.T[k : k + x.shape[1] - 3, i],
    lambda x, i, k: x.reshape(-1)[k :: x.shape[0]][: x.shape[1] - 3],
    lambda x, i, k: x.T[k : k + x.shape[1] - 3][:, i],
    lambda x, i, k: x[i : i + 1, k : k + x.shape[1] - 3].squeeze(0),
    lambda x, i, k: x[:, k : k + x.shape[1] - 3].unbind(0)[i],
]
draws = st.lists(
    st.tuples(st.integers(0, len(VIEWS) - 1), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=7
)


def combined(parts: list[Any], rest: Any) -> Any:
    """A program over equal lengths, with sums between its steps."""
    y = parts[0]
    for i, part in enumerate(parts[1:]):
        y = (y * 0.5 + part.sin()) * part if i % 2 else y * part.exp() - part * rest
    return (y * parts[0]).sum() + (parts[-1] * 3).sum()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    draws, st.sampled_from(["leaf", "computed", "fortran", "twice"]), st.sampled_from([9, 700, 40_000]), st.booleans()
)
def test_views_have_the_gradients_of_gathered_copies(
    picked: list[tuple[int, int, int]], how: str, n: int, single: bool
):
    """Slices in all ways, that tile their base, meet each other or miss parts, in one region or in several."""
    dtype = np.float32 if single else np.float64
    x = np.random.default_rng(n).uniform(-0.5, 0.5, (3, n)).astype(dtype)
    places = np.arange(3 * n).reshape(3, n)

    def swept(gathers: bool) -> tuple[float, np.ndarray]:
        leaf = tg.tensor(x, requires_grad=True)
        if how == "fortran":
            leaf = tg.from_numpy(np.asfortranarray(x)).requires_grad_()
        base = leaf * 1.5 if how == "computed" else leaf
        if gathers:
            flat = base.reshape(-1)
            parts = [flat[np.asarray(VIEWS[v](tg.tensor(places), i, k).tolist())] for v, i, k in picked]
        else:
            parts = [VIEWS[v](base, i, k) for v, i, k in picked]
        loss = combined(parts, 0.25)
        if how == "twice":
            loss = loss + (base * base).sum() + base[0].exp().sum() * base[1, 2]
        loss.backward()
        return loss.item(), leaf.grad.numpy()

    (value, gradient), (expected, expected_gradient) = swept(False), swept(True)
    tolerance = 2e-3 if single else 1e-9
    assert abs(value - expected) <= tolerance * (1 + abs(expected))
    scale = 1 + np.abs(expected_gradient).max()
    assert np.abs(gradient - expected_gradient).max() <= tolerance * scale


def test_any_number_of_threads_adds_the_same_bits_to_a_base():
    x = np.random.default_rng(0).normal(size=(3, 300_000))

    def gradient(n_threads: int) -> bytes:
        tg.set_num_threads(n_threads)
        leaf = tg.tensor(x, requires_grad=True)
        y = tg.exp(-leaf[0] * leaf[0]) * tg.tanh(leaf[1] * leaf[0] + leaf[2])
        (y.sum() + (leaf[0][1:] * leaf[0][:-1]).sum() + (leaf.T[:, 1] * leaf.T[:, 0]).sum()).backward()
        return leaf.grad.numpy().tobytes()

    before = tg.get_num_threads()
    try:
        assert gradient(1) == gradient(8)
    finally:
        tg.set_num_threads(before)


def test_views_part_no_regions(fresh: tape.Tape):
    """Rows over one space are one region, with views of leaves and of a matrix's rows between them."""
    theta = tg.tensor(np.random.default_rng(0).normal(size=(3, 500)), requires_grad=True)
    y = theta[0].exp()
    y = y * theta[1]
    y = y + theta.T[:, 2].tanh()
    y.sum().backward()
    assert (int(fresh.header[H.n_regions]), int(fresh.header[H.fused])) == (2, 1)


def test_what_was_asked_for_of_a_view_is_its_own():
    x = tg.arange(6.0).requires_grad_()
    v, w = x[1:4], x[2:]
    v.retain_grad()
    (v * w[:3]).sum().backward()
    assert v.grad.tolist() == [2.0, 3.0, 4.0]
    assert x.grad.tolist() == [0.0, 2.0, 4.0, 6.0, 3.0, 0.0]
    y = tg.arange(6.0).requires_grad_()
    u = y[1:4]
    loss = (u * u).sum() + y.sum()
    of_view, of_leaf = tg.autograd.grad(loss, [u, y])
    assert of_view.tolist() == [2.0, 4.0, 6.0]
    assert of_leaf.tolist() == [1.0, 3.0, 5.0, 7.0, 1.0, 1.0]


def test_products_add_to_parts_of_a_vector():
    """The weights of a network in one vector, beside the weights apart."""
    rng = np.random.default_rng(0)
    theta, x = rng.normal(size=4 * 5 + 5 + 5 * 2), rng.normal(size=(7, 4))

    def loss(w: Any, b: Any, v: Any) -> Any:
        return ((tg.tensor(x) @ w + b).tanh() @ v).exp().sum()

    t = tg.tensor(theta, requires_grad=True)
    loss(t[:20].reshape(4, 5), t[20:25], t[25:].reshape(5, 2)).backward()
    apart = [
        tg.tensor(p, requires_grad=True) for p in (theta[:20].reshape(4, 5), theta[20:25], theta[25:].reshape(5, 2))
    ]
    loss(*apart).backward()
    assert np.allclose(t.grad.numpy(), np.concatenate([p.grad.numpy().ravel() for p in apart]), rtol=1e-13, atol=0)


def test_a_view_of_memory_in_another_order_is_multiplied_as_it_is():
    """NumPy shares the memory; the view lies in order, its base does not."""
    array = np.arange(9.0).reshape(3, 3)
    x = tg.from_numpy(array.T).requires_grad_()
    assert np.array_equal((x.mT @ tg.eye(3, dtype=tg.float64)).detach().numpy(), array)
    w = tg.eye(3, dtype=tg.float64).requires_grad_()
    (g,) = tg.autograd.grad((x @ w)[0].sum(), [w], create_graph=True)
    assert np.array_equal(g.detach().numpy(), np.outer(array.T[0], np.ones(3)))


def test_second_derivatives_reach_a_leaf_whose_memory_numpy_shares():
    array = np.arange(1.0, 10.0).reshape(3, 3)

    def derivatives(x: Any) -> tuple[np.ndarray, np.ndarray]:
        w = tg.eye(3, dtype=tg.float64).requires_grad_()
        first = tg.autograd.grad(((x @ w)[0] * (x[0] * x[-1])[0]).sum(), [x, w], create_graph=True)
        (second,) = tg.autograd.grad(sum((g * g).sum() for g in first), [x])
        return first[0].detach().numpy(), second.numpy()

    shared = derivatives(tg.from_numpy(array.copy().T).requires_grad_())
    own = derivatives(tg.tensor(array.T, requires_grad=True))
    for one, other in zip(shared, own, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


# --- writing in place -------------------------------------------------------------------------------------------------


@pytest.mark.roomy
@pytest.mark.skipif(MEMORY, reason="leaves are elsewhere")
def test_assigning_elements_moves_no_others():
    x = tg.zeros(100_000, dtype=tg.float64)
    x[0] = 1.0
    place = address(x)
    for i in range(1, 50):
        x[i] = x[i - 1] * 2 + 1 if i < 20 else 7.0
        x[i : i + 3] += 0.5
        if i % 10 == 0:
            assert x[i].item() > 0
    assert address(x) == place
    expected = np.zeros(100_000)
    expected[0] = 1
    for i in range(1, 50):
        expected[i] = expected[i - 1] * 2 + 1 if i < 20 else 7.0
        expected[i : i + 3] += 0.5
    assert np.array_equal(x.numpy(), expected)


def test_what_is_read_later_keeps_what_it_was():
    """Pending values, values that rules have saved, and views of them are of the elements before the write."""
    w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = tg.arange(1.0, 7.0) * 1
    pending, saved, seen = x * 2, x[1:4] * w, (x[2:5] + 1) * w
    for i, v in enumerate([10.0, 20.0, 30.0, 40.0]):
        x[i] = v
        if i == 1:
            assert x[1].item() == 20.0
    assert x.tolist() == [10.0, 20.0, 30.0, 40.0, 5.0, 6.0]
    assert pending.tolist() == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    (saved + seen).sum().backward()
    assert w.grad.tolist() == [2.0 + 4.0, 3.0 + 5.0, 4.0 + 6.0]


steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps, st.booleans(), st.booleans())
def test_programs_with_writes_are_programs_without(program: list[tuple[int, int, int]], active: bool, looks: bool):
    """The same steps on a list of single elements, where nothing is shared."""
    a = np.random.default_rng(len(program)).uniform(0.5, 1.5, 6)

    def in_place(leaf: Any) -> list[Any]:
        x, kept = leaf * 1, []
        for op, i, j in program:
            if op == 0:
                x[i] = x[j] * 0.5
            elif op == 1:
                x[i] = 0.75
            elif op == 2:
                x[i:] += x[j] * 0.1
            elif op == 3:
                kept.append(x * x)
            elif op == 4:
                kept.append(x[i:])
            elif op == 5:
                x[tg.tensor(sorted({i, j}))] = x[j].sin()
            elif op == 6:
                x *= 0.9
            elif op == 7:
                x[i] *= x[j]
            elif op == 8:
                kept.append(x[j].exp() * x[i])
            elif looks:
                x[i].item()
        return [x, *kept]

    def apart(leaf: list[Any]) -> list[list[Any]]:
        x, kept = [v * 1 for v in leaf], []
        views: list[tuple[int, int]] = []
        for op, i, j in program:
            if op == 0:
                x[i] = x[j] * 0.5
            elif op == 1:
                x[i] = leaf[0] * 0 + 0.75
            elif op == 2:
                by = x[j] * 0.1
                x[i:] = [v + by for v in x[i:]]
            elif op == 3:
                kept.append([v * v for v in x])
            elif op == 4:
                views.append((len(kept), i))
                kept.append([])
            elif op == 5:
                by = x[j].sin()
                x[i] = x[j] = by
            elif op == 6:
                x = [v * 0.9 for v in x]
            elif op == 7:
                x[i] = x[i] * x[j]
            elif op == 8:
                kept.append([x[j].exp() * x[i]])
        for at, i in views:
            kept[at] = x[i:]
        return [x, *kept]

    leaf = tg.tensor(a, requires_grad=active)
    found = in_place(leaf)
    parts = [tg.tensor(v, requires_grad=active) for v in a]
    expected = apart(parts)
    for one, several in zip(found, expected, strict=True):
        assert np.allclose(one.detach().numpy().ravel(), [v.item() for v in several], rtol=1e-14, atol=1e-300)
    if active:
        sum((one * (1 + k)).sum() for k, one in enumerate(found)).backward()
        sum(v * (1 + k) for k, several in enumerate(expected) for v in several).backward()
        assert np.allclose(
            leaf.grad.numpy(), [0 if p.grad is None else p.grad.item() for p in parts], rtol=1e-12, atol=1e-14
        )


@pytest.mark.skipif(SMALL or MEMORY, reason="tapes are swept at every chance, or operations recorded the slow way")
def test_updates_of_parameters_wait_to_be_swept_together(fresh: tape.Tape):
    shapes = [(), (), (7,), (7,)]
    parameters = [tg.tensor(np.full(shape, 2.0), requires_grad=True) for shape in shapes]

    def step() -> None:
        sum((p * p).sum() for p in parameters).backward()
        with tg.no_grad():
            for p in parameters:
                p -= 0.25 * p.grad
        for p in parameters:
            p.grad = None

    step()  # what there is to know is known then
    step()
    flags = fresh.slots["flags"]
    fresh.synced_row(0)
    assert not any(flags[p._slot] & tape.STORED for p in parameters)
    assert all(p.is_leaf and p.requires_grad for p in parameters)
    step()
    for p, shape in zip(parameters, shapes, strict=True):
        assert np.array_equal(p.detach().numpy(), np.full(shape, 0.25))


def test_an_array_of_another_shape_is_no_update():
    x = tg.zeros(3, dtype=tg.float64)
    x += np.ones(3)
    x += np.ones(1)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        x += np.ones((2, 3))
    assert x.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("shape", [(), (1,), (5,)])
def test_a_leaf_whose_update_waits_has_its_gradient(shape: tuple[int, ...]):
    """Of what read it before and since; and an update is no part of the graph."""
    p = tg.tensor(np.full(shape, 3.0), requires_grad=True)
    for _ in range(3):
        before = (p * p).sum()
        with tg.no_grad():
            p -= 1.0
        (before + (p * 10).sum()).backward()
    values = [3.0, 2.0, 1.0]
    assert np.array_equal(p.grad.numpy(), np.full(shape, sum(2 * v + 10 for v in values)))


KEEP_THEIR_RESULTS: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {  # their rules read what they gave
    "cholesky": lambda x: tg.linalg.cholesky(x @ x.mT),
    "exp": tg.exp,
    "inv": tg.linalg.inv,
    "matrix product, then solve": lambda x: tg.linalg.solve(x @ x, x),
    "qr": lambda x: tg.linalg.qr(x).Q,
    "softmax": lambda x: tg.softmax(x, 0),
    "solve": lambda x: tg.linalg.solve(x, x @ x),
    "svd": lambda x: tg.linalg.svd(x).U,
}


@pytest.mark.parametrize("name", KEEP_THEIR_RESULTS)
@pytest.mark.parametrize("looks", [False, True])
def test_a_write_leaves_what_the_rule_of_the_written_will_read(name: str, looks: bool):
    made = KEEP_THEIR_RESULTS[name]

    def written(x: tg.Tensor) -> tg.Tensor:
        y = made(x)
        if looks:
            y.tolist()
        y[-1] = 0.0
        y[:, 0] *= 2.0
        return (y * y).sum()

    def chosen(x: tg.Tensor) -> tg.Tensor:
        y = made(x) * tg.tensor([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=tg.float64)
        return (y * y).sum()

    x = np.random.default_rng(8).normal(size=(3, 3)) + 2.0 * np.eye(3)
    for order in (tg.func.jacrev, tg.func.hessian):
        np.testing.assert_allclose(order(written)(tg.tensor(x)).numpy(), order(chosen)(tg.tensor(x)).numpy(), rtol=1e-9)
    a = tg.tensor(x, requires_grad=True)
    written(a).backward()
    np.testing.assert_allclose(a.grad.numpy(), tg.func.grad(chosen)(tg.tensor(x)).numpy(), rtol=1e-9)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.roomy
@pytest.mark.skipif(MEMORY, reason="memory with guards is not used again")
def test_memory_that_nobody_asks_for_goes_back(fresh: tape.Tape):
    large = [tg.ones(1 << 20, dtype=tg.float64) * k for k in range(8)]
    for t in large:
        address(t)
    del t, large
    engine.reclaim(fresh)
    assert fresh.h[H.kept] >= 8 << 23
    for _ in range(2 * storage.TURNS + 1):
        address(tg.ones(1 << 17, dtype=tg.float64) * 2)
        engine.reclaim(fresh)
    assert fresh.h[H.kept] < 1 << 23


@pytest.mark.roomy
@pytest.mark.skipif(MEMORY, reason="memory with guards is not used again")
def test_memory_that_numpy_had_is_used_again(fresh: tape.Tape):
    """Of gradients as arrays, and of copies of arrays."""
    x = np.random.default_rng(0).normal(size=1 << 17)
    seen = set()
    for _ in range(6):
        leaf = tg.tensor(x, requires_grad=True)
        (leaf * leaf).sum().backward()
        gradient = leaf.grad.numpy()
        seen |= {address(leaf), gradient.__array_interface__["data"][0]}
        assert np.array_equal(gradient, 2 * x)
        del leaf, gradient
        engine.reclaim(fresh)
    assert len(seen) <= 4


def test_scalars_of_a_vector_are_swept_row_by_row(fresh: tape.Tape):
    from tapegrad.core import schedule

    values = np.random.default_rng(0).uniform(0.5, 1.5, 6)
    x = tg.tensor(values, requires_grad=True)
    parts = [x[i] for i in range(6)]
    y = sum(100 * (q - p**2) ** 2 + (1 - p) ** 2 for p, q in itertools.pairwise(parts))
    y.backward()
    assert int(fresh.header[H.n_regions]) == schedule.NO_REGIONS
    apart = [tg.tensor(v, requires_grad=True) for v in values]
    sum(100 * (q - p**2) ** 2 + (1 - p) ** 2 for p, q in itertools.pairwise(apart)).backward()
    assert np.allclose(x.grad.numpy(), [p.grad.item() for p in apart], rtol=1e-14, atol=0)


# --- versions, bases, copies ------------------------------------------------------------------------------------------


def test_versions_count_the_writes_to_shared_elements():
    x = tg.ones(4)
    view, detached = x[1:], x.detach()
    assert x._version == view._version == 0
    x.add_(1)
    view.mul_(2)
    view[0] = 5.0
    detached.fill_(1.0)
    x[1:3] += 1
    assert x._version == view._version == detached._version == view[1:]._version
    assert x._version >= 5
    before = x._version
    assert (x + 1)._version == x.clone()._version == 0
    assert x._version == before


def test_writes_count_each_in_one_way():
    ways = (
        lambda x: x.add_(1), lambda x: x.copy_(tg.ones(3)), lambda x: x.zero_(), lambda x: x.exp_(), lambda x: x.t_(),
        lambda x: x.__setitem__(0, 1.0), lambda x: x.__setitem__(slice(1, None), 1.0), lambda x: x[1:].add_(1),
        lambda x: x.index_fill_(0, tg.tensor([0]), 1.0), lambda x: x.masked_fill_(x > 0, 1.0), lambda x: x.__iadd__(1),
        lambda x: x.clamp_(min=2.0), lambda x: x.detach().add_(1), lambda x: x.uniform_(), lambda x: x.sub_(x),
    )  # fmt: skip
    for write in ways:
        for x in (tg.ones(3), tg.ones(3, requires_grad=True) * 1.0):
            write(x)
            assert x._version == 1, write


def test_a_base_is_what_a_view_is_of():
    x = tg.ones(3, 3, requires_grad=True)
    row = x.t()[0]
    assert row._base is x
    assert row[1:]._base is x
    assert (row._is_view(), x._is_view(), x.detach()._is_view(), (x + 1)._is_view()) == (True, False, False, False)
    assert x._base is None
    assert x.detach()._base is None


def test_deep_copies_share_what_is_shared():
    a = tg.arange(6.0).reshape(2, 3)
    column, transposed, same = a[:, 1], a.t(), a.detach()
    for family in ([a, column, transposed, same, a], [column, same, transposed, a, column]):
        copies = copy.deepcopy(family)
        assert [c.tolist() for c in copies] == [g.tolist() for g in family]
        assert copies[0] is copies[4]
        whole = copies[family.index(a)] if family[0] is a else copies[3]
        whole.add_(1)
        assert [c.tolist() for c in copies] == [(g + 1).tolist() for g in family]
        copies[0].zero_()
        assert (whole.sum() == copies[2 if family[0] is a else 1].sum()).item()
    assert a.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_deep_copies_of_leaves_are_leaves_with_gradients():
    x = tg.ones(3, requires_grad=True)
    (x * x).sum().backward()
    y, view = copy.deepcopy([x, x.detach()])
    assert (y.is_leaf, y.requires_grad, y.grad.tolist()) == (True, True, [2.0] * 3)
    view.add_(1)
    assert y.tolist() == [2.0] * 3
    (3 * y).sum().backward()
    assert (y.grad.tolist(), x.grad.tolist()) == ([5.0] * 3, [2.0] * 3)
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(x * 2)
    assert copy.deepcopy((x * 2).detach()).tolist() == [2.0] * 3


def test_files_keep_what_is_shared():
    a = tg.arange(6.0).reshape(2, 3).requires_grad_()
    file = io.BytesIO()
    tg.save({"part": a.detach()[:, 1], "whole": a, "again": a, "flat": a.detach().view(-1)}, file)
    file.seek(0)
    loaded = tg.load(file)
    assert loaded["whole"] is loaded["again"]
    assert loaded["whole"].requires_grad
    loaded["flat"].add_(1)
    assert loaded["whole"].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert loaded["part"].tolist() == [2.0, 5.0]
    file = io.BytesIO()
    tg.save([tg.nn.Linear(2, 2).state_dict(), a.detach().t()], file)
    file.seek(0)
    _, transposed = tg.load(file)
    assert transposed.tolist() == a.t().tolist()


STEPS = [
    (lambda x: x[..., ::2], 1), (lambda x: x[0], 2), (lambda x: x[1:], 1), (lambda x: x.T, 1), (lambda x: x[:, 1], 2),
    (lambda x: x[None], 1), (lambda x: x[..., 1:], 1), (lambda x: x[:, None], 1),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["F", "C", "gaps"])
def test_views_of_views_of_arrays_of_any_layout_see_writes(layout):
    """Of NumPy's memory, in Fortran's order or with gaps: written to through some view, all show it, NumPy too."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=[(4, 3), (3, 4, 4)][seed % 2])

        def made(values=values):
            if layout == "gaps":
                return np.repeat(values, 2, 0)[::2]
            return np.array(values, order=layout)

        tensors, arrays = [tg.from_numpy(made())], [made()]
        for _ in range(rng.integers(2, 6)):
            i, k = rng.integers(len(tensors)), rng.integers(len(STEPS) + 1)
            if k == len(STEPS):  # a view where memory allows, as rows of a transposed array in Fortran's order
                if not np.shares_memory(arrays[i].reshape(-1), arrays[0]) or not tensors[i].is_contiguous():
                    continue
                views = tensors[i].reshape(-1), arrays[i].reshape(-1)
            elif arrays[i].ndim < STEPS[k][1] or min(arrays[i].shape) < 2 or (k == 3 and arrays[i].ndim != 2):
                continue
            else:
                views = STEPS[k][0](tensors[i]), STEPS[k][0](arrays[i])
            if 0 in views[1].shape:
                continue
            tensors.append(views[0])
            arrays.append(views[1])
            j = rng.integers(len(tensors))
            if rng.random() < 0.6:
                with tg.no_grad():
                    tensors[j].mul_(2.0)
                arrays[j][...] *= 2.0
            elif rng.random() < 0.3:
                tensors[j].numpy()
        for j in rng.permutation(len(tensors)):
            found = tensors[j].numpy() if rng.random() < 0.5 else np.array(tensors[j].tolist())
            np.testing.assert_array_equal(found, arrays[j], err_msg=f"seed {seed}, view {j}")
        shared = [t.numpy() for t in tensors]
        shared[0][...] += 1.0
        arrays[0][...] += 1.0
        for t, found, expected in zip(tensors, shared, arrays, strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=f"seed {seed}")
            assert t.tolist() == expected.tolist()
