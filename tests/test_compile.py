"""`tg.compile`: a replay is the plain function, bit for bit, whatever is given, seen, or changed in between."""

import cProfile
import gc
import math
import os
import random as random_of_python
import threading
import time
import uuid
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegrad as tg
from tapegrad import trees

F = tg.func


def bits(tree):
    """All that tells results from others: structure, types, dtypes, shapes, and the bits of elements."""
    leaves, structure = trees.flatten(tree)

    def of(leaf):
        if isinstance(leaf, tg.Tensor):
            return type(leaf), leaf.dtype, tuple(leaf.shape), leaf.requires_grad, leaf.detach().numpy().tobytes()
        array = np.asarray(leaf)
        return type(leaf), array.dtype, array.shape, array.tobytes() if array.dtype != object else leaf

    return structure, [of(leaf) for leaf in leaves]


def agrees(function, compiled, *args, **kwargs):
    """Whether both give the same, or raise the same."""

    def outcome(of):
        try:
            return bits(of(*args, **kwargs))
        except Exception as error:
            return type(error), str(error).partition(", recorded at")[0]

    want, found = outcome(function), outcome(compiled)
    assert found == want


# --- random programs --------------------------------------------------------------------------------------------------

ONE = [tg.exp, tg.sin, tg.tanh, tg.sqrt, tg.abs, tg.neg, tg.square, tg.sigmoid, lambda x: x * 0.5, lambda x: 1.0 - x]
TWO = [tg.add, tg.mul, tg.sub, tg.maximum, lambda a, b: a / (b * b + 1.0), lambda a, b: tg.where(a > b, a, b * 2.0)]
INTO_ONE = [tg.sum, tg.mean, tg.max, lambda x: tg.logsumexp(x.reshape(-1), 0), lambda x: x.reshape(-1)[0]]


def program(seed, n_steps):
    """A function of two tensors of one shape and numbers, with branches on what it computes; it may raise."""
    choices = np.random.default_rng(seed).integers(0, 1 << 30, (n_steps, 4)).tolist()

    def function(x, y, t, n=1):
        known = [x, y]
        scalar = (x * y).sum()
        for what, one, other, kind in choices:
            a, b = known[one % len(known)], known[other % len(known)]
            kind %= 13
            if kind == 0:
                known.append(TWO[what % len(TWO)](a, b * t))
            elif kind == 1:
                scalar = scalar + INTO_ONE[what % len(INTO_ONE)](a)
            elif kind == 2:
                if INTO_ONE[what % len(INTO_ONE)](b) > 0.3:
                    known.append(a * 1.5 + b)
                else:
                    known.append(a - b * scalar)
            elif kind == 3:
                known.append(a * (2.0 if t > 0.25 else t) - t)
            elif kind == 4:
                changed = a + 0.0
                changed[..., :1] = scalar
                changed *= b
                known.append(changed)
            elif kind == 5:
                k = 0
                while k < 4 and bool((a.mean() * 0.5**k).abs() > 0.2):
                    k += 1
                known.append(a * float(k))
            elif kind == 6:
                known.append(tg.cumsum(a, 0) if what % 2 else tg.softmax(a, -1))
            elif kind == 7:
                known.append(TWO[what % len(TWO)](a, b))
            elif kind == 8:
                sign = math.copysign(1.0, a.reshape(-1)[-1].item())  # of zero, too
                known.append(b * sign + a * n)
            elif kind == 9:
                try:
                    a = a / (1 // int((a > b).all()))
                    known.append(
                        tg.linalg.cholesky(tg.stack([scalar, t + 0.0 * scalar, scalar * t, scalar]).reshape(2, 2))[0, 0]
                        * a
                    )
                except (ArithmeticError, RuntimeError):
                    known.append(a * (1.0 - t**n) if n < 3 else b)
            elif kind == 10 and scalar.isnan():
                raise ValueError(f"step {what}: not a number")
            elif kind == 11:
                known.append(sum((a * float(i) for i in range(n % 4)), b) / (n if n else 7))
            else:
                known.append(ONE[what % len(ONE)](a))
        return scalar + known[-1].sum() * (1.0 + t), known[-1]

    return function


def inputs(random, shape, dtype):
    """Tensors and a number; at times with what is not finite, or zero with either sign."""
    x, y = (random.normal(size=shape).astype(dtype) for _ in range(2))
    kind = random.integers(0, 8)
    if kind < 3:
        x.reshape(-1)[[random.integers(0, x.size), -1]] = (np.nan, np.inf, -0.0)[kind]
    t = float(random.normal() if random.integers(0, 4) else (0.0, -0.0, 1.0, 0.5)[random.integers(0, 4)])
    return x, y, t, int(random.integers(0, 4))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6), st.integers(1, 14), st.sampled_from([(3,), (2, 3), (4, 70)]), st.booleans(), st.booleans()
)
def test_replays_are_the_plain_function(seed, n_steps, shape, is_double, differentiates):
    function, random = program(seed, n_steps), np.random.default_rng(seed)
    if differentiates:
        scalar = function
        function = F.value_and_grad(lambda x, y, t, n: scalar(x, y, t, n)[0], (0, 1))
    compiled = tg.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(12):
            x, y, t, n = inputs(random, shape, np.float64 if is_double else np.float32)
            if not (differentiates and seed % 2):
                x, y = tg.tensor(x), tg.tensor(y)
            agrees(function, compiled, x, y, t, n)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_second_derivatives_are_replayed(seed, n_steps):
    of, random = program(seed, n_steps), np.random.default_rng(seed)
    function = F.hessian(lambda x, y, t, n: of(x, y, t, n)[0])
    compiled = tg.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(6):
            agrees(function, compiled, *inputs(random, (3,), np.float64))


# --- what a program may be of -----------------------------------------------------------------------------------------


def spd(random, n=4):
    a = random.normal(size=(n, n))
    return a @ a.T + n * np.eye(n)


def in_place(x):
    y = x * 2
    y += 1
    y[0] = 5.0
    return y.mul_(x)


def backwards(x):
    x = x.detach().clone().requires_grad_()
    (x**2).sum().backward()
    return x.grad * 2


def two(random, n):
    return tuple(tg.tensor(random.normal(size=n)) for _ in range(2))


def layers(p, x):
    return (tg.softmax(tg.tanh(x @ p["w"] + p["b"]), -1) ** 2).sum()


CASES = {
    "hessian": (F.hessian(lambda x: (x**3).sum() * x[0]), lambda r: (r.normal(size=3),)),
    "derivative of a number": (F.grad(lambda x: x**3 + tg.sin(x)), lambda r: (float(r.normal()),)),
    "trees": (
        F.value_and_grad(layers),
        lambda r: ({"w": r.normal(size=(4, 5)), "b": r.normal(size=5)}, r.normal(size=(7, 4))),
    ),
    "cholesky": (F.value_and_grad(lambda a: tg.linalg.cholesky(a).diagonal().log().sum()), lambda r: (spd(r),)),
    "solve": (tg.linalg.solve, lambda r: (tg.tensor(spd(r)), tg.tensor(r.normal(size=4)))),
    "jacrev": (F.jacrev(lambda x: tg.sin(x) * x[0]), lambda r: (r.normal(size=3),)),
    "jacfwd": (F.jacfwd(lambda x: tg.stack([x[0] * x[1], x[1].exp()])), lambda r: (r.normal(size=3),)),
    "hvp": (lambda x, v: F.hvp(lambda x: (x**3).sum(), (x,), (v,)), lambda r: two(r, 3)),
    "single precision": (
        F.value_and_grad(lambda x: (x.exp() * 2.5).mean()),
        lambda r: (r.normal(size=1000).astype(np.float32),),
    ),
    "chunks": (F.value_and_grad(lambda x: (x.exp() * 2.5 + x.sin()).sum()), lambda r: (r.normal(size=200_000),)),
    "scan": (F.value_and_grad(lambda x: (x.cumsum(0) ** 2).sum()), lambda r: (r.normal(size=10),)),
    "sort": (lambda x: tg.sort(x)[0] * 2, lambda r: (tg.tensor(r.normal(size=10)),)),
    "data": (
        F.value_and_grad(lambda w, x, y: ((x @ w - y) ** 2).mean()),
        lambda r: (r.normal(size=4), r.normal(size=(50, 4)), r.normal(size=50)),
    ),
    "NumPy before": (
        lambda x, y: tg.sum(np.sin(x) * 2 + y.mean(0)),
        lambda r: (r.normal(size=4), r.normal(size=(3, 4))),
    ),
    "slices": (F.value_and_grad(lambda x: (x[:, 0] * x.T[1]).sum()), lambda r: (r.normal(size=(3, 3)),)),
    "in place": (in_place, lambda r: (tg.tensor(r.normal(size=4)),)),
    "backward": (backwards, lambda r: (tg.tensor(r.normal(size=4)),)),
    "integers": (lambda x: x * 2 + 1, lambda r: (tg.tensor(r.integers(0, 9, 5)),)),
    "convolution": (
        F.value_and_grad(lambda w, x: tg.nn.functional.conv2d(x, w).relu().sum()),
        lambda r: (tg.tensor(r.normal(size=(2, 1, 3, 3))), tg.tensor(r.normal(size=(2, 1, 6, 6)))),
    ),
    "product": (
        F.value_and_grad(lambda w, x: tg.tanh(x @ w).sum()),
        lambda r: (r.normal(size=(150, 150)), r.normal(size=(200, 150))),
    ),
    "scalars": (
        F.value_and_grad(lambda p: p["a"] * p["b"] - tg.exp(p["c"] / p["a"])),
        lambda r: ({k: float(r.normal()) for k in "abc"},),
    ),
    "scalars of float32": (
        F.value_and_grad(lambda a, b: a * b * 2.5 - tg.exp(b / a), (0, 1)),
        lambda r: tuple(np.array(r.normal(), np.float32) for _ in range(2)),
    ),
    "a number": (
        lambda x, t: (x * (1 - t**2)).sum() - 2.0 * t,
        lambda r: (tg.tensor(r.normal(size=3)), float(r.normal())),
    ),
    "a number, differentiated beside": (
        F.hessian(lambda x, t: ((x * t) ** 3).sum()), lambda r: (r.normal(size=4), float(r.normal()))
    ),
    "integers that are differentiated": (F.grad(lambda x: (x**2).sum()), lambda r: (r.integers(0, 9, 4),)),
    "half precision": (F.grad(lambda x: (x**2).sum()), lambda r: (r.normal(size=4).astype(np.float16),)),
    "no dimensions": (F.value_and_grad(lambda x: x * x), lambda r: (np.array(r.normal()),)),
    "empty": (F.value_and_grad(lambda x: (x * x).sum()), lambda r: (np.zeros((0, 3)),)),
    "strides": (F.grad(lambda x: (x[0] * x).sum()), lambda r: (r.normal(size=(6, 4)).T[::2],)),
    "argument itself": (lambda x, y: (x, y * 1.0, [x]), lambda r: two(r, 2)),
    "constants": (lambda x: {"a": x * 2, "b": 3, "c": None, "d": tg.ones(2)}, lambda r: (tg.tensor(r.normal(size=2)),)),
    "random numbers": (lambda x: (tg.rand(3) * x + tg.randn(3)).sum(), lambda r: (tg.tensor(r.normal(size=3)),)),
    "dropout": (F.value_and_grad(lambda x: tg.nn.functional.dropout(x * 2, 0.5).sum()), lambda r: (r.normal(size=30),)),
    "samples": (lambda x: tg.distributions.Normal(0.0, 1.0).sample((5,)) * x, lambda r: (tg.tensor(r.normal(size=5)),)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_recording_serves_all_elements(name):
    function, make = CASES[name]
    compiled, random = tg.compile(function), np.random.default_rng(0)
    for i in range(6):
        args = make(random)
        tg.manual_seed(i)
        want, state = bits(function(*args)), repr(tg.get_rng_state())
        tg.manual_seed(i)
        assert bits(compiled(*args)) == want
        assert repr(tg.get_rng_state()) == state
    stats = compiled.stats()
    assert (stats["recordings"], stats["replays"], stats["plain"]) == (1, 5, 0)


def test_each_kind_of_arguments_has_its_program():
    function = F.value_and_grad(lambda x, n=2, scale=1.0: (x**n).sum() * scale)
    compiled, random = tg.compile(function), np.random.default_rng(0)
    for _ in range(3):
        for shape in (2, 5, (2, 2)):
            for dtype in (np.float64, np.float32, np.int64):
                x = (random.normal(size=shape) * 5).astype(dtype)
                agrees(function, compiled, x)
                agrees(function, compiled, x, 3)
                agrees(function, compiled, x, n=3, scale=2.5)
                agrees(function, compiled, tg.tensor(x, dtype=tg.float64))
    agrees(function, compiled, [1.0, 2.0])
    agrees(function, compiled, "none")
    agrees(function, compiled)


def test_grad_modes_have_programs_of_their_own():
    compiled = tg.compile(lambda x: ((x * 2).detach(), tg.is_grad_enabled()))
    x = tg.ones(2, requires_grad=True)
    for _ in range(2):
        assert compiled(x)[1] is True
        with tg.no_grad():
            assert compiled(x)[1] is False


# --- guards -----------------------------------------------------------------------------------------------------------


def test_a_branch_is_recorded_once_and_found_again():
    def function(x):
        return (x * x).sum() if x.sum() > 0 else x.abs().sum() * 3

    compiled, random = tg.compile(function), np.random.default_rng(0)
    for _ in range(30):
        agrees(function, compiled, tg.tensor(random.normal(size=3)))
    agrees(function, compiled, tg.tensor([np.nan, 1.0, 2.0]))
    stats = compiled.stats()
    assert stats["recordings"] == 2
    assert stats["misses"] > 5


def test_loops_of_different_length_share_their_beginning():
    def root(a):
        x = a * 0.5 + 1.0
        while (x * x - a).abs() > 1e-12 * a:
            x = 0.5 * (x + a / x)
        return x

    compiled, random = tg.compile(root), np.random.default_rng(0)
    for _ in range(60):
        agrees(root, compiled, tg.tensor(10.0 ** random.uniform(-2, 2)))
    assert compiled.stats()["recordings"] < 12


@pytest.mark.parametrize("look", [float, int, lambda t: t.item(), lambda t: t.tolist(), lambda t: t.numpy() * 1, bool])
def test_what_python_sees_is_guarded(look):
    def function(x):
        return x * 2 + look((x * 3).sum())

    compiled = tg.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in (1.0, 2.0, 1.0, 2.0, 0.0, -0.0, np.nan, 1.0):
            if look is int and value != value:
                continue
            agrees(function, compiled, tg.tensor([value]))


def test_numbers_that_are_compared_or_used_by_python():
    def function(x, t, k):
        y = x * t if t > 0 else x - t
        if t == 0.5:
            y = y + 7.0
        return y * 2**k, np.sqrt(abs(t)) + t, min(t, 0.25)

    compiled = tg.compile(function)
    for t in (0.1, 0.2, -1.0, 0.5, 0.0, -0.0, 0.1, -3.0, 0.5, float("nan"), 2.0, 1.0):
        for k in (1, 2):
            agrees(function, compiled, tg.tensor([1.0, 2.0]), t, k)


def test_a_number_that_equals_a_constant():
    def function(x, t):
        return (x * t + x * 3.0).sum() / 3.0 + x.mean() * t

    compiled, x = tg.compile(function), np.random.default_rng(0).normal(size=200)
    for t in (3.0, 2.5, 3.0, 200.0, 0.3333, 1 / 3.0, 2.5):
        agrees(function, compiled, tg.tensor(x), t)


def test_where_guards_keep_missing_the_plain_function_is_called():
    def function(x):
        return x * float(x[0])

    compiled = tg.compile(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for i in range(40):
            agrees(function, compiled, tg.tensor([float(i)]))
    (only,) = told
    assert "what Python code sees is other at each call, at " in str(only.message)
    assert "test_compile.py" in str(only.message)
    assert compiled.stats()["recordings"] < 20


def test_exceptions_are_those_of_the_plain_function():
    def function(a):
        return tg.linalg.cholesky(a).sum()

    def catching(a):
        try:
            return tg.linalg.cholesky(a).sum()
        except RuntimeError:
            return a.sum() * 0.0 - 1.0

    good, bad = np.diag([1.0, 2.0]), np.diag([1.0, -2.0])
    for of in (function, F.grad(function), catching):
        compiled = tg.compile(of)
        for a in (good, bad, good, bad, good):
            agrees(of, compiled, tg.tensor(a))
        compiled = tg.compile(of)
        for a in (bad, good, good, good, bad):
            agrees(of, compiled, tg.tensor(a))
        assert compiled.stats()["replays"] == 2


# --- what is read without being given ---------------------------------------------------------------------------------


def test_captured_tensors_are_read_at_each_call():
    w, array = tg.tensor([1.0, 2.0]), np.array([3.0, 4.0])
    shared = tg.from_numpy(np.array([5.0, 6.0]))

    def function(x):
        return (x * w).sum() + tg.sum(x * array) + (x * shared).sum()

    compiled, x = tg.compile(function), tg.tensor([0.5, 0.25])
    agrees(function, compiled, x)
    for _ in range(3):
        w += 1.0
        agrees(function, compiled, x)
        array *= 2.0
        agrees(function, compiled, x)
        shared.mul_(3.0)
        agrees(function, compiled, x)
        w[0] = -1.0
        agrees(function, compiled, x)
    assert compiled.stats()["recordings"] == 1
    w.data = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    agrees(function, compiled, x)


@pytest.mark.filterwarnings("ignore:.*shares memory with NumPy")
@pytest.mark.parametrize("made", [tg.tensor, tg.as_tensor, tg.asarray, lambda a: a * tg.ones(2)])
def test_arrays_become_tensors_at_each_call(made):
    captured = np.array([2.0, 3.0])

    def function(x):
        return made(x) * 2.0 + made(captured)

    compiled = tg.compile(function)
    for k in range(4):
        x = np.array([k, -1.5 * k])
        captured[0] = k
        np.testing.assert_array_equal(compiled(x).numpy(), function(x).numpy())


def test_views_that_are_captured():
    base = tg.arange(6.0)
    view, other = base[2:4], base[3:5]

    def function(x):
        return (x * view + other).sum() + base.sum()

    compiled = tg.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(4):
            base[3] = float(i)
            agrees(function, compiled, tg.tensor([1.0, 2.0]))


def test_pending_tensors_are_computed_before():
    compiled = tg.compile(lambda x: (x * 2).sum())
    for i in range(3):
        pending = (tg.ones(3) * float(i)).exp()
        assert compiled(pending).item() == pytest.approx(6 * np.exp(i), rel=1e-15)


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


def test_optimisers_take_their_steps():
    def model():
        w = tg.tensor([1.0, -2.0], requires_grad=True)
        return w, tg.optim.Adam([w], lr=0.1)

    def step(w, optimiser, x):
        optimiser.zero_grad()
        loss = ((w - x) ** 2).sum()
        loss.backward()
        optimiser.step()
        return loss.detach()

    (w, one), (v, other) = model(), model()
    compiled = tg.compile(lambda x: step(v, other, x))
    with pytest.warns(UserWarning, match="has an optimiser take a step"):
        compiled(tg.tensor([0.5, 0.0]))
    step(w, one, tg.tensor([0.5, 0.0]))
    for i in range(4):
        x = tg.tensor([0.5, float(i)])
        assert step(w, one, x).item() == compiled(x).item()
        assert w.tolist() == v.tolist()


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
    with pytest.warns(UserWarning, match="requires grad"):
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
    assert compiled.stats()["recordings"] <= 8


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
    for _ in range(100):
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


# --- what happens beside ----------------------------------------------------------------------------------------------


def test_what_a_function_does_beside_is_done_once():
    calls = []

    class OwnError(Exception):
        pass

    def raises(x, t):
        calls.append(1)
        raise OwnError(x.sum())

    def needs(x, t):
        calls.append(1)
        memoryview(x)
        return tg.tensor(x) * t

    def looks(x, t):
        calls.append(1)
        return float(x[0]) * tg.tensor(t)

    x = np.array([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # What takes no stand-in is called again, once.
        for n_calls, function in (3, raises), (4, needs), (3, looks):
            compiled, calls[:] = tg.compile(function), []
            for _ in range(3):
                if function is raises:
                    with pytest.raises(OwnError, match=r"tensor\(3\.\)|3\.0"):
                        compiled(x, 2.0)
                else:
                    compiled(x, 2.0)
            assert len(calls) == n_calls


def test_lists_and_dictionaries_that_are_changed_are_the_callers():
    def function(state, history, x):
        state["n"] = state["n"] + 1.0
        history.append(x)
        state["inner"]["x"] = x * 2.0
        return tg.tensor(state["n"]), state, history

    states = [({"n": 0.0, "inner": {}}, []) for _ in range(2)]
    compiled = tg.compile(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for i in range(4):
            x = np.array([float(i)])
            results = [of(*state, x) for of, state in zip((function, compiled), states, strict=True)]
            assert bits(results[0]) == bits(results[1])
            assert bits(states[0]) == bits(states[1])
            assert results[1][1] is states[1][0]
            assert states[1][1][-1] is x
    assert "changes a list or a dictionary that it is given" in str(told[0].message)


held, held_of_python = np.random.default_rng(0), random_of_python.Random(0)


def makes_one(x):
    return x * np.random.default_rng().random()


def makes_one_of_python(x):
    return x * random_of_python.Random().random()


def makes_one_with_a_seed(x):
    return x * np.random.default_rng(5).random()


def draws_from_a_global(x):
    return x * held.random()


def draws_from_a_global_of_python(x):
    return x * held_of_python.gauss(0.0, 1.0)


def tells_the_time(x):
    return x * time.perf_counter()


def asks_the_system(x):
    return x * int.from_bytes(os.urandom(4), "little")


def names_itself(x):
    return x * float(uuid.uuid4().int % (1 << 40))


@pytest.mark.parametrize(
    "function",
    [
        makes_one,
        makes_one_of_python,
        draws_from_a_global,
        draws_from_a_global_of_python,
        tells_the_time,
        asks_the_system,
        names_itself,
    ],
)
def test_chance_and_time_are_not_constants(function):
    compiled = tg.compile(function)
    with pytest.warns(UserWarning, match="is called as it is"):
        found = {compiled(tg.tensor(1.0)).item() for _ in range(6)}
    assert len(found) == 6


def test_generators_that_are_given_or_held():
    class Model:
        def __init__(self, seed):
            self.rng, self.of_tapegrad = np.random.default_rng(seed), tg.Generator().manual_seed(seed)

        def noisy(self, x):
            return x + self.rng.normal(size=3)

        def followed(self, x):
            return x + tg.randn(3, generator=self.of_tapegrad)

        def both(self, x):
            return self.followed(x) + self.of_tapegrad.numpy.normal()

    for name in "noisy", "followed", "both":
        plain, model = Model(3), Model(3)
        compiled = tg.compile(getattr(model, name))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(4):
                agrees(getattr(plain, name), compiled, tg.zeros(3))
        assert bool(told) == (name != "followed")
        assert plain.rng.bit_generator.state == model.rng.bit_generator.state
        assert plain.of_tapegrad.get_state() == model.of_tapegrad.get_state()
    given = [np.random.default_rng(1) for _ in range(2)]
    compiled = tg.compile(lambda x, rng: x * rng.normal())
    with pytest.warns(UserWarning, match="draws random numbers"):
        assert compiled(tg.tensor(1.0), given[0]).item() == given[1].normal()
    for _ in range(3):
        assert compiled(tg.tensor(1.0), given[0]).item() == given[1].normal()
    compiled = tg.compile(makes_one_with_a_seed)
    for _ in range(3):
        agrees(makes_one_with_a_seed, compiled, tg.tensor(2.0))
    assert compiled.stats()["recordings"] == 1


def test_profilers_see_replays_and_go_on():
    compiled = tg.compile(F.grad(lambda x: (x * x).sum()))
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(2):
        compiled(np.ones(2))
    assert compiled.stats()["plain"] == 2
    profile.disable()
    for _ in range(2):
        compiled(np.ones(2))
    profile.enable()
    compiled(np.ones(2))
    profile.disable()
    assert compiled.stats()["replays"] == 2
    assert any("backward" in str(entry.code) or "replay" in str(entry.code) for entry in profile.getstats())


def test_functions_of_graphs_that_nobody_holds_are_no_hindrance():
    @tg.custom_vjp
    def doubled(x):
        return 2.0 * x

    doubled.defvjp(lambda x: (2.0 * x, None), lambda kept, g: (2.0 * g,))
    doubled(tg.ones(3, requires_grad=True)).sum().backward()
    compiled = tg.compile(F.grad(lambda x: (x * x).sum()))
    for _ in range(2):
        assert compiled(np.ones(3)).tolist() == [2.0] * 3
    assert (compiled.stats()["recordings"], compiled.stats()["replays"]) == (1, 1)
