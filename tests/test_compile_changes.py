"""`tg.compile`: training steps, what has no program, what other threads do, and what is kept."""

import gc
import threading
import warnings

import numpy as np
import pytest
from compiled_functions import agrees, bits, needs_programs

import tapegrad as tg
from tapegrad import trees
from tapegrad.kernels import cache
from tapegrad.replay import machine

F = tg.func
pytestmark = needs_programs
FILE = __file__.rpartition("/")[2]


# --- what can't be replayed -------------------------------------------------------------------------------------------


def trains(w, x):
    loss = ((w * x) ** 2).sum()
    loss.backward()
    with tg.no_grad():
        w -= 0.1 * w.grad
    w.grad = None
    return loss.detach()


def accumulates(w, x):
    (w * x).exp().sum().backward()


def sets_to_zero(w, x):
    w.grad = None
    loss = ((w - x) ** 4).mean() * x[1]
    loss.backward()
    with tg.no_grad():
        w -= 0.1 * w.grad
        if loss > 2.0:
            w.mul_(0.5)
    return bool(loss > 1.0), w.grad, w


def reads_what_it_has_written(w, x):
    with tg.no_grad():
        w[0] = x[1]
        w += w.sum() * x
        w.clamp_(-3.0, 3.0)
    return (w * w).sum().detach()


def swaps(w, x):
    (w * x).sum().backward()
    w.grad = w.grad * 2.0 + (w.detach() if x[1] > 0 else 0.0)


def sums_up(w, x):
    w.grad = x * 3.0
    (w * w).sum().backward()
    return w.grad


STEPS = [trains, accumulates, sets_to_zero, reads_what_it_has_written, swaps, sums_up]


def state_of(*tensors):
    """As `bits`, without letting NumPy share the memory."""
    return [
        t if not isinstance(t, tg.Tensor) else (bits(t.tolist()), t.dtype, t.is_leaf, t.requires_grad) for t in tensors
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_captured", [False, True])
@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
def test_training_steps_are_replayed(step, is_captured, dtype):
    plain, own = (tg.tensor([1.0, -2.0], dtype=dtype, requires_grad=True) for _ in range(2))
    compiled = tg.compile((lambda x: step(own, x)) if is_captured else step)
    if is_captured:
        of_x = compiled
        compiled = lambda w, x: of_x(x)  # noqa: E731
    else:
        of_x = compiled
    random = np.random.default_rng(0)
    for i in range(24):
        x = tg.tensor(random.normal(size=2), dtype=dtype)
        want, found = step(plain, x), compiled(own, x)
        assert state_of(*trees.leaves(want)) == state_of(*trees.leaves(found))
        assert state_of(plain, plain.grad) == state_of(own, own.grad)
        if step in (sets_to_zero, sums_up):
            assert any(t is own.grad for t in trees.leaves(found))
        held = own.grad
        if i == 8:  # another gradient, which others hold
            plain.grad, own.grad = (tg.tensor([3.0, 4.0], dtype=dtype) for _ in range(2))
        elif i == 12:
            plain.grad = own.grad = None
        elif i == 16:  # a view, and one that others differentiate
            views = [(t.detach()[1:], t[:1]) for t in (plain, own)]
        elif i > 16:
            assert state_of(*views[0]) == state_of(*views[1])
    assert of_x.stats()["replays"] > 5 or step is swaps  # reads what is another tensor at each call
    assert held is None or held.requires_grad is False


def test_parameters_that_are_one_tensor_or_share_their_elements():
    def step(a, b, x):
        with tg.no_grad():
            a += x
            b *= 2.0
        return (a * b).sum().detach()

    compiled = tg.compile(step)
    base = [tg.tensor([1.0, 2.0, 3.0, 4.0]) for _ in range(2)]
    x = tg.tensor([0.5, 0.25])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            one, other = ([tg.ones(2), tg.ones(2)] for _ in range(2))
            assert state_of(step(*one, x), *one) == state_of(compiled(*other, x), *other)
        for first, second in (((0, 2), (2, 4)), ((0, 2), (1, 3)), ((0, 2), (0, 2)), ((1, 3), (0, 2))):
            for of, t in zip((step, compiled), base, strict=True):
                of(t[slice(*first)], t[slice(*second)], x)
            assert base[0].tolist() == base[1].tolist()
        of_global = tg.compile(lambda a: step(a, base[1], x))
        other = tg.ones(2)
        base[0], base[1] = tg.ones(2), tg.ones(2)
        of_global(other), step(tg.ones(2), base[0], x)
        of_global(base[1]), step(base[0], base[0], x)
        assert base[0].tolist() == base[1].tolist()


def test_gradients_of_arguments_are_looked_at_at_each_call():
    def function(w):
        return w.detach() * (1.0 if w.grad is None else 2.0)

    compiled = tg.compile(function)
    for gradient in (None, 1.0, None, 3.0):
        w = tg.tensor([1.0], requires_grad=True)
        w.grad = None if gradient is None else tg.tensor([gradient])
        agrees(function, compiled, w)


def test_a_graph_that_goes_on_is_right_and_said_once():
    def function(w, x):
        return (w * x).exp().sum()

    compiled = tg.compile(function)
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for i in range(4):
            w.grad = None
            compiled(w, tg.tensor([0.5, float(i)])).backward()
            gradient, w.grad = w.grad, None
            function(w, tg.tensor([0.5, float(i)])).backward()
            assert gradient.tolist() == w.grad.tolist()
    (only,) = told
    assert "requires grad" in str(only.message)


def test_what_is_not_followed_is_called_as_it_is():
    held = np.array([1.0, 2.0])

    def draws_elsewhere(x):
        return x * np.random.rand()  # noqa: NPY002

    def hosts(x):
        return tg.autograd.host_function(lambda a: a * held[0])(x)

    def asks(x):
        return tg.tensor(float(np.asarray(x)[0])) * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = tg.compile(draws_elsewhere)
        assert len({compiled(tg.tensor(1.0)).item() for _ in range(5)}) == 5
        compiled = tg.compile(asks)
        for i in range(3):
            agrees(asks, compiled, np.array([float(i)]))
        compiled = tg.compile(hosts)
        for i in range(3):
            held[0] = i
            agrees(hosts, compiled, tg.tensor([1.0, 2.0]))


def test_a_whole_program_or_an_error():
    w, held = tg.tensor([1.0, 2.0], requires_grad=True), [0.0]

    def of_numpy(x):
        held.append(1.0)
        return tg.tensor(np.linalg.norm(x))

    def sees(x):
        return x * float(x[0])

    for function, why in (
        (lambda x: w * x, "requires grad"),
        (lambda x: x * np.random.rand(), "draws random numbers"),  # noqa: NPY002
        (lambda x: F.vjp(tg.sin, x), "returns an object"),
        (of_numpy, "does with an array what is not known"),
    ):
        compiled = tg.compile(function, fullgraph=True)
        x = np.ones(2) if function is of_numpy else tg.ones(2)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=f"has no program .fullgraph=True.: .*{why}.*{FILE}"):
                compiled(x)
    compiled = tg.compile(fullgraph=True)(sees)
    for i in range(16):
        assert compiled(tg.tensor([float(i)])).item() == float(i * i)
    with pytest.raises(RuntimeError, match=f"is other at each call, at .*{FILE}"):
        [compiled(tg.tensor([float(i)])) for i in range(16, 18)]
    compiled = tg.compile(lambda x: (x * x).sum() if x[0] > 0 else x.sum(), fullgraph=True)
    assert [compiled(tg.tensor([t, 1.0])).item() for t in (1.0, -1.0, 2.0, -3.0)] == [2.0, 0.0, 5.0, -2.0]


def test_transforms_inside_are_replayed():
    both = F.value_and_grad(lambda x: (x**3).sum())

    def function(x):
        value, gradient = both(x)
        return value * 2.0, x - gradient * 0.1

    compiled, random = tg.compile(function), np.random.default_rng(0)
    for _ in range(4):
        agrees(function, compiled, tg.tensor(random.normal(size=3)))
    assert compiled.stats()["replays"] == 3
    for _ in range(4):
        agrees(function, compiled, random.normal(size=3))
    assert compiled.stats()["replays"] == 6


def test_warnings_point_to_the_users_line():
    @tg.compile
    @tg.no_grad()
    def draws(x):
        return x * np.random.rand()  # noqa: NPY002

    with pytest.warns(UserWarning, match=FILE) as told:
        draws(tg.ones(2))
    assert told[0].filename == __file__


def test_numbers_are_inputs_of_most_operations():
    nn, x = tg.nn.functional, tg.tensor(np.random.default_rng(0).normal(size=7))
    cases = [
        lambda x, t: tg.where(x > 0, x, t) + tg.where(x > 0, t, x),
        lambda x, t: x.clamp(-abs(t), abs(t)) + x.clamp(min=t),
        lambda x, t: tg.lerp(x, x * 2.0, t) + x.masked_fill(x > 0, t),
        lambda x, t: x % t + x // t + t % (x.abs() + 1.0) + tg.fmod(x, t),
        lambda x, t: tg.atan2(x, t) + tg.copysign(x, t) + tg.xlogy(x.abs(), abs(t)),
        lambda x, t: nn.huber_loss(x, x * 0.5, delta=abs(t) + 0.1) + nn.leaky_relu(x, t).sum() + nn.elu(x, t).sum(),
    ]
    for function in cases:
        for of in (function, F.grad(lambda x, t, f=function: f(x, t).sum())):
            compiled = tg.compile(of)
            for t in (0.7, 1.0, -2.0, 3.0, 0.5, 0.0, 1.0, -0.0, float("inf"), 1 / 3):
                agrees(of, compiled, x, t)
            assert compiled.stats()["recordings"] <= 4
    power = F.value_and_grad(lambda x, t: (x.abs() ** t + abs(t) ** x).sum())
    compiled = tg.compile(power)
    for t in (0.7, 2.0, 1.3, 3.0, 0.5, -1.0, 2.0, 1.0, 0.0, 7.5):
        agrees(power, compiled, x, t)
    assert compiled.stats()["replays"] >= 4


def test_pullbacks_are_returned_by_the_plain_function():
    compiled = tg.compile(lambda x: F.vjp(tg.sin, x))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for value in (0.5, 1.5):
            assert compiled(tg.tensor(value))[1](tg.tensor(1.0))[0].item() == tg.cos(tg.tensor(value)).item()
    assert "returns an object" in str(told[0].message)


def test_compiled_functions_call_each_other():
    inner = tg.compile(F.grad(lambda x: (x**3).sum()))
    outer = tg.compile(lambda x: (inner(x) * 2).sum())
    for i in range(3):
        x = tg.tensor([1.0, float(i)])
        assert outer(x).item() == (3 * (x**2) * 2).sum().item()
    assert F.grad(outer)(tg.tensor([1.0, 2.0])).tolist() == [12.0, 24.0]


def test_methods_and_options():
    class Model:
        def __init__(self):
            self.w = tg.tensor(2.0)

        @tg.compile(capacity=3)
        def value(self, x):
            """Documented."""
            return x * self.w

    one, other = Model(), Model()
    other.w = tg.tensor(5.0)
    for i in range(3):
        assert one.value(tg.tensor(float(i))).item() == 2.0 * i
        assert other.value(tg.tensor(float(i))).item() == 5.0 * i
    assert Model.value.__doc__ == "Documented."
    with pytest.raises(TypeError, match="callable"):
        tg.compile(3)
    with pytest.raises(ValueError, match="capacity"):
        tg.compile(abs, capacity=0)


def test_batches_tangents_and_hooks_beside():
    def function(x):
        return (x * x).sum() if bool((x * 0.0 == 0.0).all()) else x.sum()

    def per_sample(x):
        return F.vmap(lambda row: (row.sin() * row).sum())(x)

    def tangent(x):
        return F.jvp(lambda x: (x**3).sum(), (x,), (tg.ones(3),))

    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for of in (per_sample, tangent):
            compiled = tg.compile(of)
            for _ in range(4):
                agrees(of, compiled, tg.tensor(random.normal(size=(2, 3) if of is per_sample else 3)))
        compiled = tg.compile(lambda x: (x * x).sum())
        for _ in range(3):
            rows = tg.tensor(random.normal(size=(2, 3)))
            assert F.vmap(compiled)(rows).tolist() == (rows * rows).sum(1).tolist()
            _, along = F.jvp(compiled, (rows[0],), (tg.ones(3),))
            assert along.item() == pytest.approx(2.0 * rows[0].sum().item(), rel=1e-14)
        seen, w = [], tg.ones(2, requires_grad=True)

        def step(x):
            (w * x).sum().backward()

        compiled = tg.compile(step)
        compiled(tg.ones(2))
        handle = w.register_hook(lambda g: seen.append(1))
        for i in range(3):
            compiled(tg.ones(2))
            assert len(seen) == i + 1
        handle.remove()
        compiled(tg.ones(2))
        assert len(seen) == 3
        assert w.grad.tolist() == [5.0, 5.0]


# --- threads, memory --------------------------------------------------------------------------------------------------


def test_eight_threads_call_one_function():
    function = F.value_and_grad(lambda x: (x**2).sum() if x[0] > 0 else x.exp().sum())
    compiled, failures = tg.compile(function), []

    def work(seed):
        random = np.random.default_rng(seed)
        try:
            for _ in range(40):
                agrees(function, compiled, random.normal(size=4))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert compiled.stats()["recordings"] <= 2 * 8  # of each branch one, by every thread that meets it at once


def test_captured_tensors_of_another_thread():
    w = tg.tensor([1.0, 2.0])
    compiled, found = tg.compile(lambda x: (x * w).sum()), []
    compiled(tg.ones(2))

    def work():
        found.extend(compiled(tg.ones(2) * i).item() for i in range(3))

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        w += 1.0
    assert found == [0.0, 3.0, 6.0, 0.0, 5.0, 10.0]


def test_memory_is_constant_over_replays_and_programs():
    compiled = tg.compile(F.value_and_grad(lambda x: (x * x).sum()))
    x = np.ones(3)
    for _ in range(machine.HOT + 10):
        compiled(x)
    tape = tg.current_tape()
    gc.collect()
    before, objects = tape.nbytes, len(gc.get_objects())
    for _ in range(3000):
        compiled(x)
    gc.collect()
    assert tape.nbytes == before
    assert len(gc.get_objects()) < objects + 50
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for n in range(300):
            compiled(np.ones((n % 150) + 1))
    assert "what it is given is other at each call" in str(told[0].message)
    stats = compiled.stats()
    assert stats["programs"] <= 64
    assert stats["bytes"] < 10_000_000
    assert stats["recordings"] < 64
    compiled(x)
    assert compiled.stats()["replays"] == stats["replays"] + 1  # what is known is replayed meanwhile


def test_arguments_that_are_kept_are_bounded():
    compiled = tg.compile(lambda x, of: x * 2.0, capacity=4)
    for i in range(300):
        name = f"{i // 3}"
        assert compiled(tg.tensor(1.0), name).item() == 2.0
    assert len(compiled._families) <= 16
    assert compiled.stats()["recordings"] == 100


def test_ints_that_are_not_always_the_same_are_inputs():
    def step(x, n, beta):
        return x * (1.0 - beta**n) + n * x if n % 2 else x * n - n / 3

    compiled, x = tg.compile(step), tg.tensor([0.5, -1.0])
    for n in [*range(1, 40), 2**53 + 1, 2**53, -3, 0, 10**30]:
        agrees(step, compiled, x, n, 0.9)
    assert compiled.stats()["replays"] > 20
    agrees(step, compiled, x, True, 0.9)


def test_numbers_are_told_from_constants_of_every_kind():
    random, pool = np.random.default_rng(0), (0.0, -0.0, 0.5, 2.0, 3.0, 1 / 3, 0.25, 1.0, -1.0, 1 / 12, 12.0, 4, 3, 2)

    for seed in range(40):
        constants = random.choice(pool[:12], 4).tolist()
        is_double = seed % 2

        def function(x, y, t, constants=constants):
            a = x * constants[0] + x.float() * t
            b = (y * constants[1]).mean() * constants[2] + (y * t).sum(0) / 3.0
            return (a.sum() * t + b * constants[3]).sum() + (x**2).mean() + tg.sqrt(y * y + t * t).mean(), a

        compiled = tg.compile(F.value_and_grad(lambda x, y, t, f=function: f(x, y, t)[0].double(), (0, 1)))
        plain = F.value_and_grad(lambda x, y, t, f=function: f(x, y, t)[0].double(), (0, 1))
        for t in random.choice(np.array(pool, object), 6).tolist():
            x = random.normal(size=(3, 4)).astype(np.float64 if is_double else np.float32)
            y = random.normal(size=(3, 4)).astype(np.float32 if is_double else np.float64)
            agrees(plain, compiled, x, y, t)


def test_kernels_may_be_compiled_while_a_function_is_recorded():
    """They are written to the cache under another name first, which is drawn."""

    def function(x):
        cache.write("of-a-test.o", {}, b"")
        return x * 2.0

    compiled = tg.compile(function)
    for _ in range(2):
        assert compiled(tg.ones(2)).tolist() == [2.0, 2.0]
    assert compiled.stats()["replays"] == 1
    if cache.folder() is not None:
        (cache.folder() / "of-a-test.o").unlink(missing_ok=True)


def test_elements_that_numpy_gives_are_inputs():
    def function(x, y, t):
        a = x[0] * 2.0 + y[1] * t
        b = 1.0 / a
        if a > 0.3:
            a = a + 1
        x_of = tg.tensor(x) * a + b
        return x_of, a * b, x * x[1], x[1:] * b - y[0], sum(x), (tg.tensor(y) * x.sum()).sum(), x * t

    compiled, random = tg.compile(function), np.random.default_rng(0)
    with np.errstate(all="ignore"):
        for i in range(16):
            x, y = random.normal(size=(2, 3))
            x[0] = (x[0], np.nan, -0.0, 0.0)[i % 4]
            agrees(function, compiled, x, y, 0.0 if i == 7 else float(random.normal()))
    assert compiled.stats()["recordings"] <= 3
