"""Storage: memory for values comes in blocks that are used again, and goes back."""

import ctypes
import gc
import itertools
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import engine, tape
from tapegrad.core import storage
from tapegrad.debug import MEMORY
from tapegrad.tape import BINS, H

MEGABYTE = 1 << 20
uses_again = pytest.mark.skipif(MEMORY, reason="memory with guards is not used again")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> tape.Tape:
    """A tape of its own, which keeps nothing yet."""
    made = tape.Tape()
    monkeypatch.setattr(tape._threads, "tape", made)
    return made


def tidy() -> None:
    gc.collect()
    engine.reclaim(tg.current_tape())


def address(t: Any) -> int:
    """Where a tensor's elements are, once they are computed."""
    return engine.evaluate(t._tape, t._slot)


def kept_blocks(of: tape.Tape) -> list[tuple[int, int]]:
    """The class and the address of each block that a tape keeps."""
    found = []
    for c in range(BINS):
        at = int(of.bins[c])
        while at:
            found.append((c, at))
            at = int(np.frombuffer(memory(at, 8), np.int64)[0])
    return found


def memory(at: int, nbytes: int) -> Any:
    return (ctypes.c_char * nbytes).from_address(at)


# --- classes of sizes -------------------------------------------------------------------------------------------------

ROUND = [eighths << (power - 3) for power in range(12, 44) for eighths in range(8, 16)]
SIZES = [*range(5000), *(n + d for n in ROUND for d in (-1, 0, 1))]


@pytest.mark.nojit
def test_a_class_holds_what_asks_for_it_and_little_more():
    for nbytes in SIZES:
        c = storage.size_class(nbytes)
        size = storage.class_size(c)
        assert size >= nbytes
        assert nbytes == 0 or size - nbytes < max(64, nbytes / 8 + 1)
        assert c == 1 or storage.class_size(c - 1) < max(nbytes, 1)


@pytest.mark.nojit
def test_classes_are_in_order_and_their_sizes_are_their_own():
    sizes = [storage.class_size(c) for c in range(1, BINS)]
    assert all(p < q for p, q in itertools.pairwise(sizes))
    assert all(size % 64 == 0 for size in sizes)
    assert [storage.size_class(size) for size in sizes] == list(range(1, BINS))


@pytest.mark.nojit
def test_there_is_a_class_for_all_that_can_be_addressed():
    assert storage.size_class(1 << 43) < BINS
    assert storage.size_class(0) == storage.size_class(1) == 1


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 8, 9, 127, 128, 129, 1000, 12_345, 600_000])
@pytest.mark.parametrize("dtype", [tg.float64, tg.float32, tg.int32, tg.bool], ids=lambda d: d.name)
def test_values_and_adjoints_begin_with_a_line_of_the_cache(n: int, dtype: Any):
    y = tg.zeros(n, dtype=dtype) != 1 if dtype is tg.bool else tg.zeros(n, dtype=dtype) + 1
    assert address(y) % 64 == 0
    assert y.sum().item() == n
    if dtype.is_floating_point:
        x = tg.ones(n, dtype=dtype, requires_grad=True)
        (x * 2).sum().backward()
        assert address(x.grad) % 64 == 0
        assert x.grad.sum().item() == 2 * n


@uses_again
@pytest.mark.parametrize("n", [1, 100, 5000, MEGABYTE])
def test_what_was_released_is_used_again(fresh: tape.Tape, n: int):
    x = tg.ones(n)
    y = x * 2
    at = address(y)
    del y
    tidy()
    size = storage.class_size(storage.size_class(8 * n))
    assert (storage.size_class(8 * n), at) in kept_blocks(fresh)
    kept = int(fresh.header[H.kept])
    assert kept >= size
    z = x * 3
    assert address(z) == at
    assert fresh.header[H.kept] == kept - size
    assert z[-1].item() == 3.0


@uses_again
def test_a_block_of_another_size_is_not_taken(fresh: tape.Tape):
    x = tg.ones(1000)
    y = x * 2
    at = address(y)
    del y
    tidy()
    z, w = tg.ones(700) * 2, tg.ones(1100) * 2
    assert at not in (address(z), address(w))
    assert address(tg.ones(1001) * 2) == at  # of the same class


def test_adjoints_in_used_memory_begin_at_zero():
    """A sum over columns is scattered into an adjoint, and gathered elements are added up: both begin with zeros."""
    x = tg.ones(1000)
    dirt = [x * float("nan") for _ in range(6)]
    for y in dirt:
        address(y)
    del dirt, y
    tidy()
    w = tg.ones(1000, requires_grad=True)
    (tg.ones(3, 1000) * w).sum().backward()
    assert w.grad.tolist() == [3.0] * 1000
    v = tg.ones(1000, requires_grad=True)
    v[[1, 1, 5]].sum().backward()
    assert (v.grad[1].item(), v.grad[5].item(), v.grad.sum().item()) == (2.0, 1.0, 3.0)


@uses_again
def test_blocks_that_are_kept_are_told_apart(fresh: tape.Tape):
    x = tg.ones(500)
    many = [x * k for k in range(50)]
    addresses = {address(y) for y in many}
    assert len(addresses) == 50
    del many
    tidy()
    found = kept_blocks(fresh)
    assert addresses <= {at for _, at in found}
    assert len({at for _, at in found}) == len(found)
    assert sum(storage.class_size(c) for c, _ in found) == fresh.header[H.kept]


@uses_again
def test_no_more_is_kept_than_the_most(fresh: tape.Tape):
    n = 3 * MEGABYTE
    for n_values in (2, 5, 9):
        values = [tg.zeros(n, dtype=tg.float32) + k for k in range(n_values)]
        values[-1][-1].item()
        for y in values:
            address(y)
        del values, y
        tidy()
        assert 0 < fresh.header[H.kept] <= storage.MOST_KEPT
        assert sum(storage.class_size(c) for c, _ in kept_blocks(fresh)) == fresh.header[H.kept]
    huge = tg.zeros(storage.MOST_KEPT // 8 + 1) + 1
    at = address(huge)
    del huge
    tidy()
    assert at not in [a for _, a in kept_blocks(fresh)]


# --- loops ------------------------------------------------------------------------------------------------------------


def step(w: Any) -> None:
    loss = ((w * 2 - 1) ** 2).sum()
    loss.backward()
    w.grad = None


def row_sums(w: Any) -> None:
    y = w.detach().reshape(1000, -1)
    (y / y.sum(-1, keepdim=True)).sum(0).tolist()


def to_numpy(w: Any) -> None:
    assert (w.detach() * 2).numpy()[-1] == 2.0


def growing(w: Any, sizes: Any = itertools.cycle(range(1, 40))) -> None:  # noqa: B008
    """A different size each time: each has a class of its own, and is kept."""
    (w.detach()[: 4_000 * next(sizes)] * 2).sum().item()


@pytest.mark.parametrize("body", [step, row_sums, to_numpy, growing], ids=lambda body: body.__name__)
def test_a_loop_over_large_values_takes_no_more_memory_with_time(body: Callable[[Any], None]):
    w = tg.ones(200_000, requires_grad=True)
    tracemalloc.start()
    try:
        for _ in range(80):
            body(w)
        tidy()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(80):
            body(w)
        tidy()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 8 * w.numel()
    assert peak < 60 * 8 * w.numel()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_a_loop_over_large_values_does_not_grow_the_process():
    def resident() -> int:
        return 4096 * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])

    w = tg.ones(MEGABYTE, requires_grad=True)
    for _ in range(10):
        step(w)
    before = resident()
    for _ in range(60):
        step(w)
    assert resident() - before < 40 * MEGABYTE  # to keep what a turn takes would be more than a gigabyte


# --- the end of a tape, and what outlives it --------------------------------------------------------------------------


def on_a_thread(work: Callable[[], Any]) -> list[Any]:
    """What a function returns on a thread, which has ended."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results


def test_a_tape_that_ends_frees_everything():
    tapes: list[Any] = []

    def work() -> None:
        x = tg.ones(300_000, requires_grad=True)
        y = [(x * k).exp() for k in range(5)]
        sum((v.sum() for v in y[1:]), y[0].sum()).backward()
        kept = [v.tolist()[0] for v in y]
        assert kept[0] == 1.0
        tapes.append(weakref.ref(tg.current_tape()))

    on_a_thread(work)  # what is compiled, is compiled
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        on_a_thread(work)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [t() for t in tapes] == [None, None]
    assert peak - before > 6 * 8 * 300_000
    assert after - before < 300_000


def test_a_tape_that_ends_frees_the_sums_of_chunks():
    def work() -> None:
        x, w = tg.ones(400, 1000, requires_grad=True), tg.ones(1000, requires_grad=True)
        (x * w).sin().sum().backward()
        assert tg.current_tape().header[H.partials]

    on_a_thread(work)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            on_a_thread(work)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_an_array_outlives_its_tensor_and_its_tape():
    def work() -> tuple[np.ndarray, np.ndarray, Any]:
        y = tg.arange(50_000, dtype=tg.float64) * 2
        return y.numpy(), y[10:20].numpy(), weakref.ref(tg.current_tape())

    ((whole, part, of),) = on_a_thread(work)
    gc.collect()
    assert of() is None
    noise = [np.full(50_000, float(k)) for k in range(5)]
    np.testing.assert_array_equal(whole, 2.0 * np.arange(50_000))
    part[:] = -1.0
    assert whole[10:20].tolist() == [-1.0] * 10
    assert noise[4][0] == 4.0


@uses_again
def test_exported_memory_comes_back_with_the_last_array_that_sees_it(fresh: tape.Tape):
    y = tg.ones(MEGABYTE) * 2
    array = y.numpy()
    view = array[5:]
    at = address(y)
    del y, array
    tidy()
    assert view[-1] == 2.0
    assert at not in [a for _, a in kept_blocks(fresh)]
    del view
    gc.collect()
    assert at in [a for _, a in kept_blocks(fresh)]


def test_exported_memory_is_not_used_again():
    arrays = []
    for k in range(20):
        arrays.append((tg.ones(2000) * k).numpy())
        tidy()
    assert [a[0] for a in arrays] == list(range(20))
    assert len({a.ctypes.data for a in arrays}) == 20


@pytest.mark.parametrize("bits", [42, 43, 44, 45, 50, 55, 60, 61])
def test_where_there_is_no_memory_it_is_said_and_nothing_is_lost(fresh: tape.Tape, bits: int):
    x = tg.ones(1, requires_grad=True)
    y = x.expand(1 << bits) * 2
    with pytest.raises(MemoryError, match="no memory"):
        y.detach()[:1].tolist()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0]
