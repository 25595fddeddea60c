"""A step of an optimiser: native code updates the parameters that are alike.

What is compared with is the same step recorded for each parameter by itself.
"""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import recorder, tape
from tapegrad.debug import SMALL

METHODS = {
    "SGD": {}, "SGD momentum": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}, "Adam": {},
    "Adam amsgrad": {"amsgrad": True, "weight_decay": 0.1}, "AdamW": {}, "Adagrad": {"lr_decay": 0.1}, "Adamax": {},
    "RMSprop": {"centered": True, "momentum": 0.5}, "Adadelta": {}, "NAdam": {}, "RAdam": {}, "ASGD": {"t0": 2},
    "Rprop": {},
}  # fmt: skip


@pytest.fixture
def counted(monkeypatch):
    """How many parameters native code has updated, at each call, on a tape that has room."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    recorder.install()
    told, native = [], recorder.update_all[0]
    recorder.update_all[0] = lambda *given: told.append(native(*given)) or told[-1]
    yield told
    recorder.update_all[0] = native


def parameters(dtype=tg.float64):
    """Leaves of several shapes, of which some have views or no gradient at first."""
    rng = np.random.default_rng(0)
    shapes = (3, 2), (2, 4), (5, 2), (1, 1), (0, 3), (2, 2)
    return [tg.tensor(rng.normal(size=shape), dtype=dtype, requires_grad=True) for shape in shapes]


def both(name, of=parameters, steps=5, changes=lambda params, optimiser, i: [], **options):
    """What parameters and states become, and what `changes` gave: in native code, and recorded for each by itself."""
    found = []
    for alone in (False, True):
        params = of()
        groups = [{"params": [p]} for p in params] if alone else params
        optimiser = getattr(tg.optim, name)(groups, lr=0.1, **options)
        optimiser.alike &= not alone
        rng, seen = np.random.default_rng(1), []
        for i in range(steps):
            for p in params:
                p.grad = tg.tensor(rng.normal(size=p.shape), dtype=p.dtype)
            seen += changes(params, optimiser, i)
            optimiser.step()
        states = [[optimiser.state[p][k] for k in sorted(optimiser.state[p])] for p in params]
        versions = [p._version for p in params]
        whole = [*params, *seen, *(x for state in states for x in state)]
        found.append((versions, [x.tolist() if hasattr(x, "tolist") else x for x in whole]))
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_does_with_all_what_it_does_with_each(method, dtype, counted):
    together, each = both(method.split()[0], lambda: parameters(getattr(tg, dtype)), **METHODS[method])
    assert together == each
    if recorder._replaced and not SMALL:  # where there is no room at the moment, Python goes on
        assert sum(counted) > 5 or method == "Rprop"


def test_what_others_hold_is_what_it_was(counted):
    def changes(params, optimiser, i):
        if i == 2:
            return [params[1] * 2.0, params[1].detach(), params[2].detach()[0], params[0].detach().numpy()]
        if i == 3:
            return [optimiser.state[params[1]]["exp_avg"], optimiser.state[params[2]]["exp_avg_sq"][0]]
        return []

    together, each = both("Adam", changes=changes)
    assert together == each
    assert not recorder._replaced or sum(counted) < 20


def test_those_that_differ_are_not_taken_for_alike(counted):
    def of():
        params = parameters()
        columns = tg.tensor(np.asfortranarray(np.arange(6.0).reshape(2, 3)), requires_grad=True)
        return [*params, columns, tg.ones(2), tg.ones(3, dtype=tg.float32, requires_grad=True), tg.tensor(2.0)]

    def changes(params, optimiser, i):
        if i == 1:
            params[1].grad = None
        elif i == 2:
            params[2].grad = tg.ones(1, 1).expand(5, 2)
            params[3].grad = params[3].grad * 3.0
        elif i == 3:
            optimiser.state[params[5]]["exp_avg"] = tg.zeros(2, 2)
        elif i == 4:
            optimiser.param_groups[-1]["lr"] = optimiser.param_groups[0]["lr"]
            del optimiser.state[params[2]]["exp_avg"], optimiser.state[params[3]]
        return []

    together, each = both("Adam", of, changes=changes, steps=7)
    assert together == each


@pytest.mark.parametrize("method", ["SGD", "Adam", "RMSprop"])
def test_options_may_change_from_step_to_step(method, counted):
    def changes(params, optimiser, i):
        del params
        for group in optimiser.param_groups:
            group["lr"] *= 0.5
            if i == 1:
                group["weight_decay"], group["maximize"] = 0.3, True
            elif i == 3 and method == "Adam":
                group["betas"], group["amsgrad"] = (0.5, 0.25), True
            elif i in (3, 6):
                group["momentum"] = 0.25 * i
            elif i == 4:
                group["lr"] = tg.tensor(0.25)
            elif i == 5 and method == "Adam":
                group["eps"] = 0
        return []

    together, each = both(method, changes=changes, steps=8)
    assert together == each
    assert not recorder._replaced or SMALL or sum(counted) > 15


def test_a_step_within_a_sweep():
    """Hooks of gradients take it, for each parameter as it comes."""
    found = []
    for within in (False, True):
        params = parameters()
        optimisers = [tg.optim.Adam([p], lr=0.1) for p in params]
        if within:
            for p, optimiser in zip(params, optimisers, strict=True):
                p.register_post_accumulate_grad_hook(lambda _, optimiser=optimiser: optimiser.step())
        for _ in range(4):
            sum((p**3).sum() for p in params).backward()
            for p, optimiser in zip(params, optimisers, strict=True):
                if not within:
                    optimiser.step()
                p.grad = None
        found.append([p.tolist() for p in params])
    assert found[0] == found[1]


def test_memory_does_not_grow_with_steps():
    params = [tg.ones(500, requires_grad=True) for _ in range(3)]
    optimiser = tg.optim.Adam(params)
    for p in params:
        p.grad = tg.ones(500)
    tops, h = [], params[0]._tape.h
    before = h[tape.H.kept]  # what other tests have left in the tape's hands
    for i in range(2000):
        optimiser.step()
        if i % 500 == 499:
            tops.append(params[0]._tape.top)
            assert h[tape.H.kept] < before + (1 << 22)
    assert tops[1] == tops[-1]


def test_a_large_one_among_small_ones():
    together, each = both("Adam", lambda: [*parameters()[:2], tg.ones(20000, requires_grad=True), *parameters()[2:]])
    assert together == each


def test_gradients_go_on_through_what_was_recorded_before():
    params = parameters()
    optimiser = tg.optim.Adam(params, lr=0.1)
    before = [p.tolist() for p in params]
    loss = sum((p**3).sum() for p in params)
    for _ in range(3):
        for p in params:
            p.grad = tg.ones_like(p)
        optimiser.step()
    optimiser.zero_grad()
    loss.backward()
    for p, was in zip(params, before, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), 3.0 * np.reshape(was, p.shape) ** 2, rtol=1e-15)


def test_a_method_of_others_is_called_for_each():
    class Scaled(tg.optim.SGD):
        def update(self, group, p, g, state):
            return super().update(group, p, g * p.numel(), state)

    params = [tg.zeros(n, requires_grad=True) for n in (1, 2, 3)]
    optimiser = Scaled(params, lr=1.0)
    for _ in range(2):
        for p in params:
            p.grad = tg.ones_like(p)
        optimiser.step()
    assert [p.tolist() for p in params] == [[-2.0], [-4.0] * 2, [-6.0] * 3]
