"""Sweeps whose values keep to a limit: the same gradients bit for bit, and less memory."""

import random
import tracemalloc

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import tape
from tapegrad.autograd import host_function, memory_limit
from tapegrad.tape import H


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A tape of its own for each test."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())


def n_segments():
    """Into how many the last sweep was cut."""
    return tg.current_tape().h[H.n_segments]


def bits(tensors):
    return [None if t is None else t.detach().numpy().tobytes() for t in tensors]


halved = host_function(lambda a: a / 2, vjp=lambda g, y, a: g / 2)


def layers(seed, dtype):
    """Random layers over a matrix, with their parameters: products, views, sums, pieces, random numbers."""
    rng, of_numbers = random.Random(seed), np.random.default_rng(seed)

    def parameter(*shape):
        return tg.tensor(of_numbers.standard_normal(shape) / 4, dtype=dtype, requires_grad=True)

    parameters, steps = [parameter(12, 8)], list[int]()
    for _ in range(24):
        steps.append(rng.randrange(10))
        parameters.append(parameter(8, 8) if steps[-1] < 4 else parameter(8))
    tg.manual_seed(seed)

    def run():
        h, earlier, held = parameters[0], parameters[0], []
        for step, p in zip(steps, parameters[1:], strict=True):
            if step < 3:
                h = tg.tanh(h @ p)
            elif step == 3:
                h, earlier = (h @ p).reshape(8, 12).T + earlier, h
            elif step == 4:
                h = (h * p).softmax(1)
            elif step == 5:
                h = h - (h * p).sum(0) / 12
            elif step == 6:
                h = tg.cat([h[:, :3].exp() * p[0], h[:, 3:] * p[3:]], 1)
            elif step == 7:
                h = tg.nn.functional.dropout(h * p, 0.3)
            elif step == 8:
                h = halved(h) * p if dtype is tg.float64 else h * p
            else:
                h = h.cumsum(1) * p
                held.append(h)
        return (h * h).sum() + earlier.sum(), held

    return steps, parameters, run


@pytest.mark.roomy
@pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_the_same_bits(seed, dtype):
    steps, parameters, run = layers(seed, dtype)

    def gradients(limit, look):
        tg.manual_seed(seed)
        loss, held = run()
        with memory_limit(limit):
            value = loss.item() if look else None
            found = tg.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
            cut = n_segments()
            again = tg.autograd.grad(loss, parameters, allow_unused=True)
        assert bits(found) == bits(again)
        return value or loss.item(), bits(found), bits(held), cut

    *expected, uncut = gradients(None, False)
    assert uncut == 1
    for limit in (1, 4000, 1 << 40):
        for look in (False, True):
            *given, cut = gradients(limit, look)
            assert given == expected
            assert cut == 1 or limit < 1 << 40
            # What a function of the host's has read is in memory before the sweep.
            assert cut > 1 or limit > 1 or (8 in steps and dtype is tg.float64) or look


@pytest.mark.roomy
def test_the_peak_is_lower():
    n, size = 64, 150 * 64 * 8

    def peak(limit):
        tape._threads.tape = tape.Tape()  # the memory of another is not used again
        tape._threads.tape.memory_limit = limit
        weights, y = [(tg.eye(64) * 0.9).requires_grad_() for _ in range(n)], tg.ones(150, 64)
        for w in weights:
            y = tg.tanh(y @ w)
        loss = y.sum()
        tracemalloc.start()
        loss.backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, n_segments(), bits(w.grad for w in weights)

    whole, uncut, expected = peak(None)
    assert whole > n * size
    assert uncut == 1
    least, cut, found = peak(24 * size)
    assert found == expected
    assert cut > 1
    assert least < 24 * size + 2 * n * 64 * 64 * 8 + 4 * size  # the gradients of the weights, and adjoints


def test_what_is_held_stays_where_it_is():
    x = tg.ones(20, 20, requires_grad=True)
    y = [x]
    for _ in range(12):
        y.append((y[-1] @ x / 20).tanh())
    held = y[6]
    del y[1:-1]
    tg.autograd.grad(y[-1].sum(), x, retain_graph=True)
    (expected,) = tg.autograd.grad(held.sum(), x, retain_graph=True)
    address = int(tg.current_tape().slots["primal"][held._slot])
    with memory_limit(1):
        tg.autograd.grad(y[-1].sum(), x, retain_graph=True)
        assert int(tg.current_tape().slots["primal"][held._slot]) == address
        (found,) = tg.autograd.grad(held.sum(), x)
    assert bits([found]) == bits([expected])


def test_what_has_no_limit_is_as_without():
    def gradients(limit):
        x = tg.ones(6, 6, requires_grad=True)
        hooked = []
        with memory_limit(limit):
            y = x
            for k in range(8):
                y = (y @ x / 6).tanh()
                y = y.clone()
                y[k % 6, 0] = 0.5
                y[:, 2] *= 2.0
            (second,) = tg.autograd.grad(y.sum(), x, create_graph=True)
            z = (y @ x).tanh()
            z.register_hook(lambda g: hooked.append(g.clone()) or g * 2)
            (z.sum() + second.square().sum()).backward()
        return bits([x.grad, *hooked])

    assert gradients(1) == gradients(None)


def test_the_setting():
    of = tg.current_tape()
    assert of.memory_limit is None
    with memory_limit(1000), memory_limit(10):
        assert of.memory_limit == 10
        with memory_limit(None):
            assert of.memory_limit is None
    with pytest.raises(ZeroDivisionError), memory_limit(7):
        raise ZeroDivisionError
    assert of.memory_limit is None
    assert memory_limit(5)(lambda: of.memory_limit)() == 5
    of.memory_limit = 12
    for limit in (0, -1, 1 << 63):
        with pytest.raises(ValueError, match="positive number of bytes"):
            of.memory_limit = limit
    for limit in (1.5, "1 GB", True):
        with pytest.raises(TypeError, match="number of bytes, or None"):
            memory_limit(limit)
    assert of.memory_limit == 12
