"""Large arguments and results of compiled functions, which are read and written where they lie."""

import io
import threading

import numpy as np
import pytest
from compiled_functions import bits, needs_programs

import tapegrad as tg
from tapegrad.replay import bound

F = tg.func
pytestmark = needs_programs
N = 3 * bound.LEAST_BYTES // 8


def drawn(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape or (2, N)).astype(dtype)


def works(x):
    return tg.sum(tg.exp(-(x[0] ** 2)) * x[1])


def is_bound(compiled):
    return [bool(program.bindable) for program, _, _ in compiled._programs]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_and_arguments_are_apart_from_call_to_call(dtype):
    function = F.value_and_grad(works)
    compiled, xs = tg.compile(function), [drawn(i, 2, 2 * N, dtype=dtype) for i in range(3)]
    wanted = [bits(function(x)) for x in xs]
    found = [compiled(x) for x in [*xs, *xs]]
    assert is_bound(compiled) == [True]
    assert compiled.stats()["replays"] == 5
    for x in xs:
        x[:] = 0.0
    assert [bits(answer) for answer in found] == [*wanted, *wanted]
    for _, slope in found:
        slope += 1.0
    assert bits(compiled(drawn(1, 2, 2 * N, dtype=dtype))) == wanted[1]
    assert [bool((slope == 0.0).all()) for _, slope in found] == [False] * 6


def test_what_a_function_is_given_is_left_as_it_is():
    compiled = tg.compile(F.grad(works))
    x = drawn(0)
    before = x.copy()
    for _ in range(3):
        compiled(x)
        assert x.tobytes() == before.tobytes()
    x.setflags(write=False)
    assert bits(compiled(x)) == bits(F.grad(works)(x))
    whole = drawn(3, 2, 2 * N)
    for view in whole[:, ::2], whole[:, 1 : N + 1], np.asfortranarray(whole)[:, :N], whole[:, :N].astype(">f8"):
        for _ in range(2):
            assert bits(compiled(view)) == bits(F.grad(works)(view))


def test_tensors_that_are_not_given_are_read_where_they_are():
    data, scale = tg.tensor(drawn(0, N, 2)), tg.tensor(drawn(1, N))

    def function(w):
        return ((data @ w - scale) ** 2).mean()

    compiled, w = tg.compile(F.value_and_grad(function)), np.array([0.5, -1.0])
    for change in (lambda: None, lambda: data.mul_(0.5), lambda: scale[:100].fill_(3.0), lambda: None):
        change()
        for _ in range(2):
            assert bits(compiled(w)) == bits(F.value_and_grad(function)(w))
    assert any(is_bound(compiled))


def test_steps_of_training_change_what_they_read():
    def made():
        w = tg.tensor(drawn(0, N), requires_grad=True)
        return w, tg.optim.SGD([w], lr=0.1, momentum=0.9)

    def step(w, optimiser, x):
        optimiser.zero_grad()
        loss = ((w * x).tanh() ** 2).sum()
        loss.backward()
        optimiser.step()
        return loss.detach()

    (w, one), (v, other) = made(), made()
    compiled = tg.compile(lambda x: step(v, other, x))
    for i in range(5):
        x = tg.tensor(drawn(i + 1, N))
        assert bits(compiled(x)) == bits(step(w, one, x))
        assert bits(v.detach().clone()) == bits(w.detach().clone())
    assert any(is_bound(compiled))


def test_outcomes_that_are_guarded_go_to_their_programs():
    def function(x):
        return tg.sum(x[0] * x[1]) if x[0, 0] > 0 else tg.sum(x[0] - x[1] ** 2)

    compiled, x, y = tg.compile(F.value_and_grad(function)), np.abs(drawn(0)), -np.abs(drawn(1))
    for given in (x, y, x, y, y, x):
        assert bits(compiled(given)) == bits(F.value_and_grad(function)(given))
    assert compiled.stats()["recordings"] == 2


def test_files_threads_and_jitted_code():
    compiled, x = tg.compile(F.value_and_grad(works)), drawn(0)
    compiled(x)
    file = io.BytesIO()
    compiled.save(file)
    loaded, found = tg.load(io.BytesIO(file.getvalue())), [None] * 2
    for _ in range(3):
        assert bits(loaded(x)) == bits(compiled(x))
    assert is_bound(loaded) == [True]

    def work(k):
        found[k] = [bits(compiled(drawn(k))) for _ in range(4)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[bits(F.value_and_grad(works)(drawn(k)))] * 4 for k in range(2)]
    slope = np.empty_like(x)
    assert (compiled.jitted(x)(x, slope), slope.tobytes()) == (compiled(x)[0], compiled(x)[1].tobytes())


def test_rows_have_what_is_large_in_common():
    compiled, rows, table = (
        tg.compile(lambda x, t: (x * t[::N].sum()).exp()),
        tg.tensor(drawn(2, 20, 3)),
        drawn(1, 3 * N),
    )
    for k in range(3):
        t = tg.tensor(table * (k + 1.0))
        compiled(rows[0], t)
        found = compiled.map(rows, t, in_axes=(0, None))
        assert bits(found) == bits(tg.stack([compiled.__wrapped__(row, t) for row in rows]))
    assert any(is_bound(compiled))
