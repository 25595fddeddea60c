"""The tape itself: nothing is computed before someone looks, and nothing kept that no one can reach."""

import gc
import itertools
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import engine, kinds, tape
from tapegrad.core.schedule import MAX_ROWS
from tapegrad.debug import MEMORY

BLOCK = 2048  # lanes of a block, where a region is short


def is_stored(t: Any) -> bool:
    """Whether the elements are in memory."""
    t._tape.synced_row(t._slot)
    return bool(t._tape.slots["flags"][t._slot] & tape.STORED)


def n_stored() -> int:
    """How many values are in memory, on this thread's tape."""
    of = tg.current_tape()
    of.synced_row(0)
    flags = of.slots["flags"][: of.top]
    return int(np.count_nonzero((flags & tape.FREE == 0) & (flags & tape.STORED != 0)))


def tidy() -> None:
    """Drop what nothing refers to."""
    gc.collect()
    engine.reclaim(tg.current_tape())


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape of its own for each test: other tests' remains would count here."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())


# --- laziness ---------------------------------------------------------------------------------------------------------

LOOKS: dict[str, Callable[[Any], Any]] = {
    "item": lambda t: t.sum().item(),
    "tolist": lambda t: t.tolist(),
    "repr": repr,
    "bool": lambda t: bool(t[0]),
    "float": lambda t: float(t[0].detach()),
    "format": lambda t: f"{t[0].detach():.1f}",
    "backward": lambda t: t.sum().backward(),
}


@pytest.mark.nojit
def test_nothing_is_computed_before_someone_looks():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2).exp()
    z = y[0] + y.sum()
    w = x @ x
    shape, dtype, leaf, name = y.shape, y.dtype, y.is_leaf, y.grad_fn.name()
    assert (tuple(shape), dtype, leaf, name) == ((2,), tg.float64, False, "ExpBackward0")
    assert not any(map(is_stored, (y, z, w)))


@pytest.mark.nojit
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_computes_what_is_needed_and_no_more(look: Callable[[Any], Any]):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    other = y.exp()
    look(y)
    assert is_stored(y)
    assert not is_stored(other)
    assert y.tolist() == [3.0, 6.0]


@pytest.mark.nojit
def test_what_is_pending_is_computed_before_numpy_may_write():
    x = tg.tensor([1.0, 2.0])
    y, z = x * 3, x[1:] * 5
    x.numpy()[:] = 7.0
    assert (y.tolist(), z.tolist(), x.tolist()) == ([3.0, 6.0], [10.0], [7.0, 7.0])


@pytest.mark.nojit
def test_a_value_that_is_never_looked_at_is_never_computed():
    x = tg.ones(3)
    for _ in range(100):
        x.exp()
    tidy()
    assert len(tg.current_tape()) == 0
    assert n_stored() == 1


# --- liveness ---------------------------------------------------------------------------------------------------------


@pytest.mark.nojit
def test_only_what_is_live_is_stored():
    x = tg.linspace(0, 1, 5, requires_grad=True)
    kept = x.sin()
    before = n_stored()
    y = (kept * 2 + 1).exp().tanh() * x
    y.tolist()
    assert n_stored() == before + 2  # kept and y; the five in between stayed in registers
    assert is_stored(kept)


@pytest.mark.nojit
def test_a_gradient_needs_nothing_stored_in_a_region():
    x = tg.linspace(0.1, 1, 5, requires_grad=True)
    before = n_stored()
    y = (x.sin() * x.exp()).log().sum()
    y.backward()
    np.testing.assert_allclose(x.grad.tolist(), 1 / np.tan(np.linspace(0.1, 1, 5)) + 1, rtol=1e-14)
    assert n_stored() == before + 2  # y and the gradient


@pytest.mark.nojit
@pytest.mark.roomy
def test_what_dies_makes_room():
    of = tg.current_tape()
    x = tg.ones(3)
    y = [x * k for k in range(500)]
    assert [t.tolist() for t in y[::100]] == [[k * 1.0] * 3 for k in range(0, 500, 100)]
    assert n_stored() == 6
    del y
    tidy()
    assert n_stored() == 1
    assert len(of) == 0
    free = len(of.free)
    z = [x * k for k in range(500)]
    assert len(of.free) == free - 500  # the same slots again
    assert z[499].tolist() == [499.0] * 3


@pytest.mark.nojit
def test_independent_graphs_are_freed_independently():
    x, y = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
    p, q = x, y
    for _ in range(50):
        p, q = p * 1.5, q * 1.5
    tidy()
    assert len(tg.current_tape()) == 100
    del p
    tidy()
    assert len(tg.current_tape()) == 50
    q.sum().backward()
    np.testing.assert_allclose(y.grad.tolist(), [1.5**50] * 2)
    del q
    tidy()
    assert len(tg.current_tape()) == 0


@pytest.mark.nojit
def test_a_graph_outlives_the_leaf_it_came_from():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    del x
    tidy()
    z = y * 3
    del y
    tidy()
    assert z.tolist() == [3.0, 12.0]


@pytest.mark.nojit
def test_what_a_rule_has_kept_is_let_go_after_backward():
    x = tg.ones(1000, requires_grad=True)
    y = x
    for _ in range(10):
        y = (y @ tg.eye(1000)[0]) * x  # each product keeps its operands
    loss = y.sum()
    loss.backward()
    tidy()
    assert n_stored() <= 4  # x, its gradient, y and the loss
    assert loss.grad_fn.name() == "SumBackward0"


@pytest.mark.nojit
def test_a_view_keeps_its_base():
    base = tg.arange(6) * 2
    view = base.reshape(2, 3)[1]
    assert view.tolist() == [6, 8, 10]
    del base
    tidy()
    assert view.tolist() == [6, 8, 10]
    twice = view + view
    del view
    tidy()
    assert twice.tolist() == [12, 16, 20]


@pytest.mark.nojit
def test_a_view_that_died_is_not_freed_with_its_base():
    """Rows of dead views stay for the reverse sweep; the memory they saw does not."""
    x = tg.tensor([0.5, 1.0], requires_grad=True)
    y = x[None].permute(1, 0).expand(2, 3) * 2
    y.tolist()
    tidy()
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    tidy()
    assert (x * 1).tolist() == [0.5, 1.0]


@pytest.mark.nojit
def test_arrays_given_to_numpy_outlive_the_tape():
    y = tg.ones(4) * 3
    array, view = y.numpy(), y[1:].numpy()
    del y
    tidy()
    noise = [tg.zeros(4) + k for k in range(50)]
    assert noise[-1].tolist() == [49.0] * 4
    assert array.tolist() == [3.0] * 4
    view[:] = 7.0
    assert array.tolist() == [3.0, 7.0, 7.0, 7.0]


# --- reclaiming -------------------------------------------------------------------------------------------------------


def trained(w: Any) -> None:
    loss = ((w * 2 - 1) ** 2).sum()
    loss.backward()
    with tg.no_grad():
        w -= 0.01 * w.grad
    w.grad = None


def observed(w: Any) -> None:
    (w.detach() * 1.5).sum().item()


def unobserved(w: Any) -> None:
    w.detach().exp() * 2


def differentiated_twice(w: Any) -> None:
    (g,) = tg.autograd.grad((w**3).sum(), w, create_graph=True)
    g.sum().backward()
    w.grad = None


def written_in_place(w: Any) -> None:
    state = w.detach().clone()
    state[0] = 1.0
    state += 2.0
    state.tolist()


def seen_by_numpy(w: Any) -> None:
    array = (w.detach() + 1).numpy()
    tg.from_numpy(array).mul_(2).sum().item()


LOOPS = (trained, observed, unobserved, differentiated_twice, written_in_place, seen_by_numpy)


@pytest.mark.parametrize("body", LOOPS, ids=lambda body: body.__name__)
def test_a_long_loop_runs_in_constant_memory(body: Callable[[Any], None]):
    of, w = tg.current_tape(), tg.ones(3, requires_grad=True)
    sizes = []
    for _ in range(6):
        for _ in range(2500):
            body(w)
        sizes.append((of.capacity, of.slot_capacity, of.top, kinds.table.used, kinds.pool.used))
    assert len(set(sizes[2:])) == 1
    assert of.nbytes < 4_000_000
    tidy()
    assert len(of) <= 2
    in_use = of.top - len(of.free)
    for _ in range(100):
        body(w)
    tidy()
    assert of.top - len(of.free) == in_use  # not even a slot is lost


@pytest.mark.skipif(MEMORY, reason="memory with guards is kept for a while when it is let go")
@pytest.mark.parametrize("body", LOOPS, ids=lambda body: body.__name__)
def test_a_long_loop_leaks_no_bytes(body: Callable[[Any], None]):
    w = tg.ones(3, requires_grad=True)
    traced = []
    tracemalloc.start()
    try:
        for _ in range(5):
            for _ in range(400):
                body(w)
            tidy()
            traced.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # A leak shows in every round; a list that happens to grow, in one. The smallest tensor takes more than 16 bytes.
    assert min(after - before for before, after in itertools.pairwise(traced)) < 16 * 400


def test_an_unobserved_chain_is_swept_and_dropped_by_itself():
    of, y = tg.current_tape(), tg.zeros(3)
    lengths = []
    for _ in range(150_000):
        y = y * 0.999 + 0.001
        lengths.append(len(of))
    assert max(lengths) <= 1 << 17
    assert of.top <= 1 << 18
    np.testing.assert_allclose(y.tolist(), 1 - 0.999**150_000, rtol=1e-9)


def test_a_running_sum_of_gradients_stays_small():
    x, total = tg.ones(2, requires_grad=True), tg.zeros(())
    of = tg.current_tape()
    for k in range(20_000):
        total = total + (x * k).sum().detach()
    assert total.item() == sum(2.0 * k for k in range(20_000))
    tidy()
    assert len(of) <= 1


def test_large_values_do_not_wait_for_many_rows():
    """What a value occupies counts too: a hundred large ones are not kept until there are thousands of rows."""
    x = tg.ones(1 << 20)
    tracemalloc.start()
    try:
        for k in range(100):
            y = x * k
            y.sum().item()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert y[-1].item() == 99.0
    assert peak < 5 * x.numel() * 8


# --- length -----------------------------------------------------------------------------------------------------------


def test_a_chain_of_200_000_operations_forward_and_backward():
    n = 100_000
    x = tg.tensor([0.5, 1.0, 2.0], requires_grad=True)
    y = x
    for _ in range(n):
        y = y * 0.99999 + 1e-5
    y.sum().backward()
    np.testing.assert_allclose(y.tolist(), 1 + (np.array([0.5, 1.0, 2.0]) - 1) * 0.99999**n, rtol=1e-9)
    np.testing.assert_allclose(x.grad.tolist(), 0.99999**n, rtol=1e-9)


def test_a_long_chain_on_one_number_and_its_recorded_gradient():
    x = tg.tensor(0.3, requires_grad=True)
    y = x
    for _ in range(5_000):
        y = y.sin() * 1.0001
    (recorded,) = tg.autograd.grad(y, x, create_graph=True)
    (swept,) = tg.autograd.grad(y, x, retain_graph=True)
    recorded.backward()
    h = 1e-6

    def slope(at: float) -> float:
        value, derivative = at, 1.0
        for _ in range(5_000):
            value, derivative = np.sin(value) * 1.0001, derivative * np.cos(value) * 1.0001
        return derivative

    assert recorded.item() == pytest.approx(slope(0.3), rel=1e-9)
    assert swept.item() == pytest.approx(slope(0.3), rel=1e-9)
    assert x.grad.item() == pytest.approx((slope(0.3 + h) - slope(0.3 - h)) / (2 * h), rel=1e-5)


def test_a_long_chain_of_views():
    x = tg.arange(4, dtype=tg.float64, requires_grad=True)
    v = x
    for _ in range(20_000):
        v = v.view(2, 2).T.T.reshape(4)
    (v * v).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 4.0, 6.0]


SIZES = (0, 1, 7, 8, 9, 255, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [1, MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS])
def test_regions_of_any_length_and_width(size: int, length: int):
    array = np.random.default_rng(size).uniform(0.5, 1.0, size)
    x = tg.tensor(array, requires_grad=True)
    y, value, slope = x, array, np.ones(size)
    for k in range(length):
        if k % 2:
            y, value, slope = y * 1.001, value * 1.001, slope * 1.001
        else:
            y, value, slope = y.sin(), np.sin(value), slope * np.cos(value)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), value, rtol=1e-11)
    np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_broadcasting_and_reducing_over_block_bounds(size: int):
    rng = np.random.default_rng(size)
    a, b, c = rng.normal(size=(3, size)), rng.normal(size=(3, 1)), rng.normal(size=size)
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (a, b, c))
    out = ((x * y + z).sum(0) * z).sum() + (x * z).sum(1).sum()
    np.testing.assert_allclose(out.item(), ((a * b + c).sum(0) * c).sum() + (a * c).sum(), rtol=1e-10)
    out.backward()
    np.testing.assert_allclose(x.grad.numpy(), b * c + c, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(y.grad.numpy(), (a * c).sum(1, keepdims=True), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(z.grad.numpy(), (a * b).sum(0) + 6 * c + a.sum(0), rtol=1e-10, atol=1e-12)


def test_a_region_with_as_many_operands_as_there_can_be():
    """Each row has three operands of its own, broadcast, all of them active."""
    rng = np.random.default_rng(0)
    condition = tg.tensor([True, False, True])
    arrays = rng.normal(size=(2 * MAX_ROWS + 8, 2, 3, 1))
    inputs = [tg.tensor(a, requires_grad=True) for a in arrays]
    total = tg.zeros(2, 3, 3)
    for p, q in zip(inputs[::2], inputs[1::2], strict=True):
        total = tg.where(condition, tg.clamp(p, q, q + 1), total * q)
    total.sum().backward()
    value = np.zeros((2, 3, 3))
    for p, q in zip(arrays[::2], arrays[1::2], strict=True):
        value = np.where([True, False, True], np.clip(p, q, q + 1), value * q)
    np.testing.assert_allclose(total.detach().numpy(), value, rtol=1e-13)
    p, q = arrays[-2], arrays[-1]
    np.testing.assert_allclose(inputs[-2].grad.numpy(), np.where((p >= q) & (p <= q + 1), 2.0, 0.0))


def test_many_reductions_of_one_value():
    x = tg.tensor(np.random.default_rng(0).normal(size=(4, 5)), requires_grad=True)
    parts = [(x * k).sum(k % 2) for k in range(600)] + [x.mean() * k for k in range(300)]
    sum((p.sum() for p in parts), tg.zeros(())).backward()
    np.testing.assert_allclose(x.grad.numpy(), sum(range(600)) + sum(range(300)) / 20, rtol=1e-12)


def test_many_dimensions():
    rng = np.random.default_rng(0)
    array, tangent = rng.normal(size=(2, 2, 1) * 5), rng.normal(size=(2, 2, 1) * 5)

    def model(x: np.ndarray) -> np.ndarray:
        return ((x + np.moveaxis(x, 0, 2)) * x).sum(tuple(range(0, 15, 2))).sum()

    x = tg.tensor(array, requires_grad=True)
    y = ((x + x.movedim(0, 2)) * x).sum(tuple(range(0, 15, 2))).sum()
    y.backward()
    assert y.item() == pytest.approx(model(array), rel=1e-10)
    assert (x.grad.numpy() * tangent).sum() == pytest.approx(model(array + 1e-30j * tangent).imag / 1e-30, rel=1e-10)


# --- growth -----------------------------------------------------------------------------------------------------------


def test_rows_and_slots_grow_in_the_midst_of_a_graph():
    of = tg.current_tape()
    x = tg.tensor([1.0, -1.0], requires_grad=True)
    rows, slots = of.capacity, of.slot_capacity
    kept = [x * float(k) for k in range(max(rows, slots) + 1000)]  # all alive, none computed
    assert of.capacity > rows
    assert of.slot_capacity > slots
    half = len(kept) // 2
    assert kept[half].tolist() == [half, -half]
    total = tg.stack([kept[0], kept[half], kept[-1]]).sum(0)
    total.sum().backward()
    assert x.grad.tolist() == [half + len(kept) - 1.0] * 2


def test_slots_grow_in_the_midst_of_a_recorded_reverse_sweep():
    of = tg.current_tape()
    x = tg.tensor(1.5, requires_grad=True)
    y = x
    for _ in range(300):
        y = y * x
    hold = [tg.zeros(1) for _ in range(max(of.slot_capacity - of.top + len(of.free) - 40, 1))]
    slots = of.slot_capacity
    (g,) = tg.autograd.grad(y, x, create_graph=True)
    (h,) = tg.autograd.grad(g, x)
    assert g.item() == pytest.approx(301 * 1.5**300)
    assert h.item() == pytest.approx(301 * 300 * 1.5**299)
    assert y.item() == pytest.approx(1.5**301)
    assert of.slot_capacity > slots
    assert hold[-1].tolist() == [0.0]


@pytest.mark.parametrize("left", range(4))
def test_gradients_are_taken_while_rows_are_full_and_slots_run_out(left: int):
    """Room is made in the midst of it: adjoints that nobody has taken yet must outlive that."""
    of = tg.current_tape()
    leaves = [tg.tensor(float(i % 7), requires_grad=True) for i in range(5000)]
    total = leaves[0] * 1.0
    for w in leaves[1:]:
        total = total + w
    while of.capacity < 1 << 16 or len(of) < of.capacity - 2 - left:
        total = total * 1.0
    pending = leaves[0] * 3.0  # nobody has looked at it
    total = total * 2.0
    hold = [tg.zeros(1) for _ in range(len(of.free) - left)] if left else []
    total.backward(retain_graph=True)
    assert [w.grad.item() for w in leaves] == [2.0] * 5000
    assert pending.item() == 0.0
    assert total.item() == 2.0 * sum(i % 7 for i in range(5000))
    assert len(hold) == 0 or hold[-1].item() == 0.0


def test_pieces_are_joined_wherever_rows_run_out():
    """The rows that fill a slot together are recorded at once."""
    of = tg.current_tape()
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    for left in range(8):
        y = x
        while len(of) < of.capacity - left:
            y = y * 1.0
        joined = tg.cat([y, x, y, x, y])
        assert joined.tolist() == [1.0, 2.0] * 5
        (g,) = tg.autograd.grad(joined.sum(), x)
        assert g.tolist() == [5.0, 5.0]
        del y, joined


def test_a_long_chain_gives_its_room_back():
    of = tg.current_tape()
    x = tg.tensor(1.0, requires_grad=True)
    room = engine._SPARE_ROOM
    for _ in range(2):
        with tg.no_grad():
            kept = [x * 2.0 for _ in range(2 * room)]
        y = x
        for _ in range(2 * room):
            y = y + 1.0
        assert min(of.capacity, of.slot_capacity) > room
        y.backward()
        del y, kept
        for _ in range(10):  # the second time it takes longer
            tidy()
        assert max(of.capacity, of.slot_capacity) < room
        assert x.grad.item() == 1.0
        x.grad = None
    assert (x * 3.0).item() == 3.0


@pytest.mark.roomy
def test_small_steps_after_a_long_chain_give_its_room_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    of = tg.current_tape()
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(engine._SPARE_ROOM + 1):
        y = y * 1.0
    y.backward()
    y = x
    for _ in range(15_000):
        x.grad = None
        (x * 3.0).sum().backward()
    assert max(of.capacity, of.slot_capacity) < engine._SPARE_ROOM
    assert x.grad.item() == 3.0


@pytest.mark.parametrize("left", range(14))
def test_a_recorded_reverse_sweep_may_end_with_the_last_free_slot(left: int):
    """Wherever the free list runs out, the tensors that the user holds stay alive."""
    of = tg.current_tape()
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp() * x
    hold = [tg.zeros(1) for _ in range(len(of.free) - left)]
    (g,) = tg.autograd.grad(y.sum(), x, create_graph=True)
    del hold
    tidy()
    noise = [tg.ones(2) * k for k in range(30)]
    assert [t.tolist()[0] for t in noise] == list(range(30))
    array = np.array([1.0, 2.0])
    np.testing.assert_allclose(x.tolist(), array)
    np.testing.assert_allclose(y.tolist(), np.exp(array) * array)
    np.testing.assert_allclose(g.tolist(), np.exp(array) * (array + 1))
    g.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), np.exp(array) * (array + 2))


def test_a_row_costs_little_memory():
    of = tg.current_tape()
    assert tape.ROW.itemsize <= 24
    y = tg.ones(3, requires_grad=True)
    before = of.nbytes
    for _ in range(20_000):
        y = y * 1.01
    tidy()
    assert (of.nbytes - before) / 20_000 < 150
    y.sum().backward()


# --- graphs that are swept more than once -----------------------------------------------------------------------------


@pytest.mark.nojit
def test_a_retained_graph_is_swept_again_and_again():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp().prod()
    for k in range(1, 4):
        y.backward(retain_graph=True)
        np.testing.assert_allclose(x.grad.tolist(), [k * np.exp(3)] * 2)
        tidy()
    y.backward()
    np.testing.assert_allclose(x.grad.tolist(), [4 * np.exp(3)] * 2)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()
    np.testing.assert_allclose(x.grad.tolist(), [4 * np.exp(3)] * 2)
    assert y.item() == pytest.approx(np.exp(3))


@pytest.mark.nojit
def test_a_part_that_was_let_go_is_refused_and_the_rest_is_not():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    shared = x.exp()
    p, q = shared.sum(), (x * x).sum()
    p.backward()
    q.backward()
    np.testing.assert_allclose(x.grad.tolist(), np.exp([1, 2]) + np.array([2.0, 4.0]))
    with pytest.raises(RuntimeError, match="second time"):
        (shared * 2).sum().backward()
    assert shared.tolist() == pytest.approx(np.exp([1.0, 2.0]).tolist())


@pytest.mark.nojit
def test_rules_that_keep_nothing_can_be_swept_again():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]


@pytest.mark.nojit
def test_several_outputs_share_what_is_behind_them():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    shared = x * x
    tg.autograd.backward([shared.sum(), (shared * 3).sum()])
    assert x.grad.tolist() == [8.0, 16.0]


def test_values_are_the_same_whether_or_not_someone_looked_before():
    """What is stored is read again, what is not is computed again: bit for bit the same."""
    results = []
    for looks in range(4):
        x = tg.tensor(np.random.default_rng(0).normal(size=5000), requires_grad=True)
        y = x.sin()
        if looks & 1:
            y.tolist()
        z = (y * x).tanh()
        if looks & 2:
            z.tolist()
            tidy()
        (z * y).sum().backward()
        results.append((z.tolist(), x.grad.tolist()))
    assert all(r == results[0] for r in results)


# --- reading it -------------------------------------------------------------------------------------------------------


@pytest.mark.nojit
def test_the_listing_can_be_read():
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = (2 - x * 1.5).T
    z = (y @ x).sum(0)
    listing = str(tg.current_tape()).splitlines()
    assert re.fullmatch(r"tape: 5 rows, \d+ bytes", listing[0])
    lines = [re.sub(r"%\d+", "%", re.sub(r" +", " ", line)).strip() for line in listing[1:]]
    assert lines == [
        "% float64[2, 2] = mul(%, 1.5) requires grad",
        "% float64[2, 2] = sub(2, %) requires grad",
        "% float64[2, 2] = permute(%) requires grad",
        "% float64[2, 2] = mm(%, %) requires grad",
        "% float64[2] = sum(%) requires grad",
    ]
    z.sum().backward()
    assert any("swept in reverse" in line for line in str(tg.current_tape()).splitlines())
    assert repr(tg.current_tape()).startswith("<Tape of 6 rows, ")


@pytest.mark.nojit
@pytest.mark.roomy
def test_a_long_listing_is_shortened():
    y = tg.ones(1)
    for _ in range(1000):
        y = y + 1
    lines = str(tg.current_tape()).splitlines()
    assert len(lines) == 62
    assert lines[31].strip() == "... 940 rows"
    assert y.item() == 1001


@pytest.mark.nojit
def test_names_in_the_listing_lead_from_row_to_row():
    x = tg.ones(1)
    y = x + 1
    z = y * x
    first, second = (re.sub(r" +", " ", line).strip() for line in str(tg.current_tape()).splitlines()[1:])
    assert first == "%1 float64[1] = add(%0, 1)"
    assert second == "%2 float64[1] = mul(%1, %0)"
    assert z.item() == 2


@pytest.mark.parametrize("form", [(), (3,)], ids=["scalar", "vector"])
def test_a_gradient_by_something_unused_leaves_nothing_behind(form):
    x, unused = (tg.full(form, 1.5, dtype=tg.float64, requires_grad=True) for _ in range(2))
    y = x * x
    assert tg.autograd.grad(y, unused, tg.ones_like(y), retain_graph=True, allow_unused=True) == (None,)
    y.backward(tg.full_like(y, 0.5))
    assert x.grad.sum().item() == 1.5 * max(1, x.numel())
