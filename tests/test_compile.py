"""`tg.compile`: a replay is the plain function, bit for bit, whatever is given, seen, or changed in between."""

import math
import warnings

import numpy as np
import pytest
from compiled_functions import agrees, bits, needs_programs
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegrad as tg

F = tg.func
pytestmark = needs_programs


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
