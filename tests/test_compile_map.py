"""`map` of a compiled function: each row has what the plain function gives for it, bit for bit."""

import io
import warnings

import numpy as np
import pytest
from compiled_functions import needs_programs
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compile import program as array_program

import tapegrad as tg
from tapegrad import trees
from tapegrad.replay import lane_code, machine
from tapegrad.replay.machine import lowering

F = tg.func
pytestmark = needs_programs

ONE = [tg.exp, tg.sin, tg.tanh, tg.sqrt, tg.log, tg.abs, tg.erf, lambda x: 0.5 - x, lambda x: x**3, lambda x: 1.0 / x]
TWO = [tg.add, tg.mul, tg.sub, tg.div, tg.maximum, tg.pow, lambda a, b: tg.where(a > b, a * 2.0, b)]


def row_of(x, i):
    """The row that a function is given."""
    if isinstance(x, tg.Tensor):
        return x[i]
    return x.item(i) if x.ndim == 1 and x.dtype == np.float64 else x[i, ...]


def one_nan(x):
    """The elements, with nan for every nan: the sign of one that is made of two is nobody's."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x) if x.dtype.kind == "f" else x


def agrees(function, *xs, in_axes=0, compiled=None):
    """Whether rows have the bits of calls; the compiled function."""
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(xs)
    n = next(len(x) for x, axis in zip(xs, axes, strict=True) if axis == 0)
    compiled = compiled or tg.compile(function)
    found, structure = trees.flatten(compiled.map(*xs, in_axes=in_axes))
    calls = [
        trees.flatten(function(*(x if axis is None else row_of(x, i) for x, axis in zip(xs, axes, strict=True))))
        for i in range(n)
    ]
    assert {of for _, of in calls} == {structure}
    for k, leaf in enumerate(found):
        want = [leaves[k] for leaves, _ in calls]
        assert isinstance(leaf, tg.Tensor) == isinstance(want[0], tg.Tensor)
        want = np.stack([w.detach().numpy() if isinstance(w, tg.Tensor) else np.asarray(w) for w in want])
        found_here = leaf.detach().numpy() if isinstance(leaf, tg.Tensor) else leaf
        assert (found_here.dtype, found_here.shape) == (want.dtype, want.shape)
        assert one_nan(found_here).tobytes() == one_nan(want).tobytes()
    return compiled


def scalar_program(seed, n_steps, branches):
    """A function of three numbers, with branches on what it computes."""
    choices = np.random.default_rng(seed).integers(0, 1 << 30, (n_steps, 4)).tolist()

    def function(x, y, z):
        known = [x, y, z]
        for what, one, other, kind in choices:
            a, b = known[one % len(known)], known[other % len(known)]
            if branches and kind % 5 == 0:
                known.append(a * 1.5 + b if a > 0.3 * (what % 3) else b - a)
            elif branches and kind % 5 == 1 and a.isnan():
                known.append(b * 0.5)
            elif kind % 2:
                known.append(TWO[what % len(TWO)](a, b))
            else:
                known.append(ONE[what % len(ONE)](a))
        return known[-1] + known[-2]

    return function


def columns(random, n, dtype):
    """Numbers, of which some are not finite, or zero with either sign."""
    found = random.normal(size=(3, n)).astype(dtype)
    for value in (np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0):
        found[random.integers(0, 3), random.integers(0, n)] = value
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 25), st.booleans(), st.booleans(), st.sampled_from([1, 9, 40, 700]))
def test_programs_of_numbers(seed, n_steps, is_double, branches, n):
    random = np.random.default_rng(seed)
    function = F.value_and_grad(scalar_program(seed, n_steps, branches), (0, 1, 2))
    x, y, z = columns(random, n, np.float64 if is_double else np.float32)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        compiled = agrees(function, x, y, z)
        if seed % 3 == 0:
            agrees(function, *columns(random, n, x.dtype), compiled=compiled)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from([(3,), (2, 3), (2, 70)]), st.booleans(), st.booleans())
def test_programs_of_arrays(seed, n_steps, shape, is_double, differentiates):
    of, random = array_program(seed, n_steps), np.random.default_rng(seed)
    dtype, n = (np.float64 if is_double else np.float32), int(random.integers(1, 40))

    def plain(x, y, t):
        try:
            return of(x, y, t, 2)
        except ValueError:  # not a number
            return x.sum() * 2.0, x * y

    function = F.value_and_grad(lambda x, y, t: plain(x, y, t)[0], (0, 1)) if differentiates else plain
    x, y = (random.normal(size=(n, *shape)).astype(dtype) for _ in range(2))
    x[-1, ..., 0] = np.nan
    if not differentiates:
        x, y = tg.tensor(x), tg.tensor(y)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        agrees(function, x, y, np.where(np.arange(n) % 3 == 0, 0.25, 0.5), in_axes=0)


ARITHMETIC = [
    tg.add, tg.sub, tg.mul, tg.div, lambda a, b: (a - b) * 0.5, lambda a, _: tg.sqrt(a.abs()), lambda a, _: 0.9 - a * a,
    lambda a, b: tg.maximum(a, b) * 0.25,
]  # fmt: skip


def arithmetic(seed, n_steps, scale):
    """A function of three arrays: nothing but arithmetic, and a number that is the same for all rows."""
    choices = np.random.default_rng(seed).integers(0, 1 << 30, (n_steps, 3)).tolist()

    def function(x, y, z):
        known = [x, y, z * scale]
        for what, one, other in choices:
            known.append(
                ARITHMETIC[what % len(ARITHMETIC)](known[-1 - one % min(len(known), 9)], known[-1 - other % 3])
            )
        return (known[-1] + known[-2]).sum()

    return function


@pytest.mark.skipif(machine.isa() is None, reason="there is no machine code here")
@pytest.mark.parametrize("is_wide", [True, False])
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arithmetic_is_machine_code(dtype, shape, is_wide, monkeypatch):
    """Steps become code, of registers of either width; the last rows do not fill one."""
    if not is_wide:
        monkeypatch.setattr(lowering, "lanes_isa", machine.isa)
        monkeypatch.setattr(machine, "lanes_isa", machine.isa)
    for seed, n_steps in (0, 12), (1, 60), (2, 700):
        random, scale = np.random.default_rng(seed), tg.tensor(np.array(0.0 if seed == 0 else 1.5, dtype))
        function = F.value_and_grad(arithmetic(seed, n_steps, scale), (0, 1, 2))
        xs = columns(random, 53 * 3, dtype).reshape(3, 53, 3)[..., : 3 if shape else 1].reshape(3, 53, *shape)
        with np.errstate(all="ignore"):
            compiled = agrees(function, *map(np.ascontiguousarray, xs))
        ((of, *_),) = compiled._programs
        (plan,) = of.plans.values()
        in_code = sum(len(run.steps) for run in lane_code.runs(plan.lowered.steps, plan.lowered._hold))
        assert plan.lowered.codes
        assert 2 * in_code > len(plan.lowered.steps)


@pytest.mark.parametrize("fails", ["when stencils are compared", "when code is made"])
def test_without_machine_code(fails, monkeypatch):
    def none(*_):
        raise machine.NotLoweredError

    monkeypatch.setattr(machine, "stencil_of" if fails.startswith("when s") else "lanes_code", none)
    compiled = agrees(
        F.value_and_grad(arithmetic(3, 40, 2.0), (0, 1, 2)), *np.random.default_rng(0).normal(size=(3, 40))
    )
    ((of, *_),) = compiled._programs
    assert not any(plan.lowered.codes for plan in of.plans.values())


def rosenbrock(x):
    return tg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def in_lanes(compiled):
    """Whether its programs were all run in lanes."""
    return all(
        not isinstance(plan, Exception) for program, _, _ in compiled._programs for plan in program.plans.values()
    )


def saved_and_loaded(compiled):
    file = io.BytesIO()
    compiled.save(file)
    return tg.load(io.BytesIO(file.getvalue()))


WORKS = {
    "slices": (F.value_and_grad(rosenbrock), [(400, 10)]),
    "elements": (F.value_and_grad(lambda x: x[0] * x[1] + x[2].exp() if x[0] > 0 else x.mean()), [(400, 4)]),
    "a norm": (F.value_and_grad(lambda x: tg.linalg.vector_norm(x) * x.max()), [(100, 9)]),
    "second order": (F.hessian(rosenbrock), [(100, 3)]),
    "rows": (F.grad(lambda x: ((x / x.sum(-1, keepdim=True)) * x.amax(0)).sum()), [(60, 3, 4)]),
    "broadcasts": (F.value_and_grad(lambda x, y: (x[:, None] * y).tanh().sum(), (0, 1)), [(60, 3), (60, 4)]),
    "whole arrays": (F.value_and_grad(lambda x: tg.logsumexp(x @ x.T, 0).cumsum(0).sum()), [(60, 3, 4)]),
    "rows whole": (F.value_and_grad(lambda x: (tg.softmax(x, -1) * tg.sort(x, -1).values).sum()), [(60, 3, 5)]),
    "transposed": (F.grad(lambda x: (x.T * x.T.exp()).sum(0).prod()), [(60, 2, 3)]),
}


@pytest.mark.parametrize(
    ("work", "dtype"),
    [*((work, np.float64) for work in WORKS), *((work, np.float32) for work in ("slices", "elements", "second order"))],
)
def test_what_is_done_in_lanes(work, dtype):
    function, shapes = WORKS[work]
    xs = [np.random.default_rng(i).normal(size=shape).astype(dtype) for i, shape in enumerate(shapes)]
    compiled = agrees(function, *xs)
    assert in_lanes(compiled) or (work, dtype) == ("slices", np.float32)
    assert compiled.stats()["recordings"] <= 2 < compiled.stats()["replays"]
    again = agrees(function, *xs, compiled=saved_and_loaded(compiled))
    assert in_lanes(again) is in_lanes(compiled)
    assert 0 == again.stats()["recordings"] < again.stats()["replays"]


def test_a_row_that_fails_raises_as_a_call_does():
    def function(x):
        try:
            return tg.linalg.cholesky(x).sum()
        except RuntimeError:
            return x.sum() * 0.0 - 1.0

    x = np.eye(2) + np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2, 2))
    x = x + x.swapaxes(1, 2)
    x[31] *= -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agrees(function, tg.tensor(x))
    with pytest.raises(RuntimeError, match="cholesky"):
        tg.compile(tg.linalg.cholesky).map(tg.tensor(x))


def test_results_do_not_depend_on_threads():
    before, found = tg.get_num_threads(), []
    compiled = tg.compile(F.value_and_grad(rosenbrock))
    x = np.random.default_rng(0).normal(size=(20_000, 4))
    try:
        for n in 1, 2, 5:
            tg.set_num_threads(n)
            found.append(np.column_stack(compiled.map(x)))
    finally:
        tg.set_num_threads(before)
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_what_is_the_same_for_all_rows_is_read_at_each_call():
    weights, scale = tg.tensor([1.0, -2.0, 0.5]), np.array([2.0, 3.0, 4.0])

    def function(x, y, t):
        return (weights * x * tg.tensor(scale) + y * t).exp().sum(), weights, t

    x, y = tg.tensor(np.random.default_rng(0).normal(size=(30, 3))), tg.tensor([1.0, 2.0, 3.0])
    compiled = agrees(function, x, y, 0.5, in_axes=(0, None, None))
    weights.mul_(0.5)
    scale[:] = 1.0
    agrees(function, x, y, 0.5, in_axes=(0, None, None), compiled=compiled)
    agrees(function, x, y, -0.25, in_axes=(0, None, None), compiled=compiled)
    again = saved_and_loaded(compiled)  # with the elements of this moment
    for t in 0.5, 2.0:
        agrees(function, x, y, t, in_axes=(0, None, None), compiled=again)
    assert in_lanes(again)


def test_a_path_of_elements_of_an_array():
    def asian(price, strike, rate, volatility, z):
        x, total = tg.log(price), 0.0
        for i in range(len(z)):
            x = x + (rate - 0.5 * volatility * volatility) / 12 + volatility * (z[i] * 12**-0.5)
            total = total + tg.exp(x)
        return tg.maximum(total / len(z) - strike, 0.0) * tg.exp(-rate)

    z = np.random.default_rng(0).normal(size=(60, 12))
    given = 100.0, 98.0, 0.03, 0.2, z
    compiled = agrees(F.value_and_grad(asian, (0, 1, 2, 3)), *given, in_axes=(None, None, None, None, 0))
    assert compiled.stats()["recordings"] == 1
    assert in_lanes(compiled)


def test_numbers_of_python_are_guarded_by_row():
    def function(x, t):
        scale = t * 2.0 if t > 0.5 else 1.0 / (t - 0.25)
        return (x * scale + abs(t) ** 2).sum()

    random = np.random.default_rng(0)
    x, t = tg.tensor(random.normal(size=(200, 3))), random.uniform(-1.0, 1.0, 200)
    compiled = agrees(function, x, t)
    assert compiled.stats()["recordings"] < 8
    t[77] = 0.25
    with pytest.raises(ZeroDivisionError):
        compiled.map(x, t)


def test_trees_of_arguments_and_results():
    def function(p, *, q):
        return {"a": p["w"] * q[0], "b": [p["b"], p["w"].sum() + q[1]]}

    p = {"w": tg.tensor(np.arange(60.0).reshape(20, 3)), "b": tg.tensor(np.arange(20.0))}
    q = tg.tensor(np.linspace(0.0, 1.0, 20)), 3.0
    found = tg.compile(function).map(p, q=q)
    for i in range(20):
        want = function({"w": p["w"][i], "b": p["b"][i]}, q=(q[0][i], 3.0))
        assert found["a"][i].tolist() == want["a"].tolist()
        assert (found["b"][0][i].item(), found["b"][1][i].item()) == (want["b"][0].item(), want["b"][1].item())


def test_graphs_and_changes_go_row_by_row():
    x = tg.tensor(np.random.default_rng(0).normal(size=(12, 3)), requires_grad=True)
    found = tg.compile(lambda row: (row**2).sum()).map(x)
    found.sum().backward()
    assert x.grad.tolist() == (2.0 * x).tolist()
    total = tg.zeros(3)
    seen = tg.compile(lambda row: total.add_(row).sum()).map(x.detach())
    want = np.cumsum(x.detach().numpy(), 0)
    assert np.allclose(total.numpy(), want[-1])
    assert np.allclose(seen.numpy(), want.sum(1))


def test_it_says_what_is_wrong():
    f = tg.compile(lambda x, y: x * y)
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match="differ in length"):
        f.map(x, np.ones((4, 2)))
    with pytest.raises(ValueError, match="no argument has a leading axis"):
        f.map(1.0, 2.0)
    with pytest.raises(ValueError, match=r"its shape is \(\)"):
        f.map(x, np.array(1.0))
    with pytest.raises(ValueError, match="there are no rows"):
        f.map(np.ones((0, 2)), np.ones((0, 2)))
    for wrong in (1, (0,), "0"):
        with pytest.raises(ValueError, match="'in_axes' must be"):
            f.map(x, x, in_axes=wrong)
    with pytest.raises(RuntimeError, match="draws random numbers"):
        tg.compile(lambda x: x + tg.rand(2)).map(tg.ones(20, 2))
    with pytest.raises(ValueError, match="results of rows differ in structure"):
        tg.compile(lambda x: x if x[0] > 1 else (x,)).map(tg.tensor([[0.0], [2.0]]))
    with pytest.raises(ValueError, match="results of rows differ"):
        tg.compile(lambda x: x * 2 if x[0] > 1 else x[:1] * 2).map(tg.tensor([[0.0, 1.0], [2.0, 1.0]]))
    with pytest.raises(TypeError, match="can't be stacked"):
        tg.compile(lambda x: "text").map(tg.ones(3, 2))


OF_ELEMENTS = {
    "indices": lambda m, n: m[0] * (np.sqrt(0.5) * n[0] + n[1] ** 2 - n[2] / n[-1]) * -n[0],
    "ufuncs": lambda m, n: m[0] * np.exp(n[0]) * np.maximum(n[1], n[2]) + m[1] / n[1],
    "a branch": lambda m, n: m[0] * n[0] if n[0] > n[1] else m[1] * n[2] + (2.0 if n[0] else 3.0),
    "iteration": lambda m, n: sum((m[1] + i) * v * v for i, v in enumerate(n)),
    "their own": lambda m, n: n[0] * 2.0 + min(n[1], n[2]),
    "sums": lambda m, n: m[0] * n.sum() * n[1:].mean() + n.max() * m[1],
}


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_elements_of_arrays_are_inputs(name: str):
    """What an array of float64 is indexed for is looked up again at each call, in lanes too."""
    function = OF_ELEMENTS[name] if name == "their own" else F.value_and_grad(OF_ELEMENTS[name])
    random, compiled = np.random.default_rng(4), tg.compile(function)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("error", ".*is called as it is")
        for i in range(24):
            m, n = random.normal(size=2), random.normal(size=3)
            n[i % 3] = (n[0], 0.0, np.nan)[i % 4 % 3]
            assert_same(compiled(m, n), function(m, n))
    assert compiled.stats()["recordings"] <= 6
    agrees(function, m, random.normal(size=(40, 3)), in_axes=(None, 0), compiled=compiled)


def assert_same(found, wanted):
    for a, b in zip(trees.leaves(found), trees.leaves(wanted), strict=True):
        assert type(a) is type(b)
        assert one_nan(np.asarray(a)).tobytes() == one_nan(np.asarray(b)).tobytes()


def test_rows_that_branch_go_on_side_by_side():
    """Most rows leave the program that was recorded first, at one guard or another."""

    def lost_below(market, noise):
        price = market[0]
        for k in range(6):
            price = price * np.exp(market[1] * noise[k])
            if price < 0.8:
                return 0.0 * price
        return np.maximum(price - 1.0, 0.0)

    noise = np.random.default_rng(5).normal(size=(600, 6))
    compiled = agrees(F.value_and_grad(lost_below), np.array([1.0, 0.2]), noise, in_axes=(None, 0))
    assert compiled.stats()["programs"] <= 7
    assert compiled.stats()["misses"] < 2 * len(noise)  # or rows were called one by one
