"""Regions: whatever the engine sweeps together, fuses, shares, spreads or leaves out, the results are NumPy's.

Programs are drawn, and swept in four ways: forward and in reverse at once, where nobody looked before; apart, where
someone did; with a pause after every slice of work; and with rules recorded as rows, each of which is swept alone
again. The rest are programs with names: at the limits of a region, and those whose instructions are counted.
"""

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings

import tapegrad as tg
from tapegrad import engine, tape
from tapegrad.core.schedule import MAX_INNER, MAX_ROWS, MAX_WIDE
from tapegrad.core.tables import Program
from tapegrad.memory import words_of
from tapegrad.tape import H

drawn = settings(max_examples=150, deadline=None, derandomize=True, database=None)

PROGRAM = words_of(Program)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> tape.Tape:
    """A tape of its own."""
    made = tape.Tape()
    monkeypatch.setattr(tape._threads, "tape", made)
    return made


def counter(name: str) -> int:
    """A number that describes the region swept last."""
    return int(tg.current_tape().tables[PROGRAM[name]])


def n_instructions() -> int:
    """How many instructions the region swept last has."""
    return counter("n_code")


def close(found: Any, expected: Any, single: bool = False, message: str = "") -> None:
    """Agreement to rounding, beside the largest element."""
    expected = np.asarray(expected)
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    tolerance = 3e-4 if single else 1e-10
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale, err_msg=message)


# --- programs, drawn --------------------------------------------------------------------------------------------------

SHAPES = [
    (), (0,), (3, 0), (0, 4), (1,), (1, 1), (2,), (7,), (64,), (65,), (191,), (192,), (200,), (4096,), (4097,),
    (2, 1, 2), (5, 7), (7, 1), (40, 2), (300, 7), (3, 191), (3, 192), (1, 200), (4, 200), (2, 4096), (2, 4097),
    (4, 1, 7), (2, 3, 4, 5), (2, 3, 64), (3, 1, 192), (2, 200, 3), (9, 24, 8), (70, 70),
]  # fmt: skip
LAYOUTS = ("own", "own", "transposed", "stepped", "negative", "expanded", "single")


def leaf(array: np.ndarray, layout: str, active: bool) -> tuple[Any, Any]:
    """A leaf and how a program sees it: through other strides, or in float32."""
    if layout == "single":
        x = tg.tensor(array, dtype=tg.float32, requires_grad=active)
        return x, x
    if layout == "negative" and array.ndim:
        turned = tuple(slice(None, None, -1) for _ in array.shape)
        x = tg.from_numpy(array[turned].copy()[turned])
        x.requires_grad_(active)
        return x, x
    if layout == "transposed":
        x = tg.tensor(array.T.copy(), requires_grad=active)
        return x, x.permute(*reversed(range(array.ndim))) if array.ndim else x
    if layout == "stepped" and array.ndim:
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]))
        wide[..., ::2] = array
        x = tg.tensor(wide, requires_grad=active)
        return x, x[..., ::2]
    x = tg.tensor(array, requires_grad=active)
    return x, x


UNARY: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sin": (tg.sin, np.sin),
    "tanh": (tg.tanh, np.tanh),
    "bell": (lambda x: tg.exp(-x * x), lambda x: np.exp(-x * x)),
    "log1p": (lambda x: tg.log1p(x * x), lambda x: np.log1p(x * x)),
    "sqrt": (lambda x: (x * x + 1).sqrt(), lambda x: np.sqrt(x * x + 1)),
    "sigmoid": (tg.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "affine": (lambda x: 1.5 - 0.5 * x, lambda x: 1.5 - 0.5 * x),
    "over": (lambda x: 1.0 / (2.0 + x * x), lambda x: 1 / (2 + x * x)),
    "where": (lambda x: tg.where(x > 0.3, x * 0.5, -x), lambda x: np.where(x > 0.3, x * 0.5, -x)),
    "mask": (lambda x: (x > 0.1).to(x.dtype) * x, lambda x: (x > 0.1) * x),
    "clamp": (lambda x: tg.clamp(x, -0.7, 0.6), lambda x: np.clip(x, -0.7, 0.6)),
    "twice": (lambda x: x.sin() * x.sin() + x.sin(), lambda x: np.sin(x) ** 2 + np.sin(x)),
    "double": (lambda x: x.to(tg.float64), lambda x: x),
    "power": (lambda x: (x * x + 0.5) ** 1.5 * 0.2, lambda x: (x * x + 0.5) ** 1.5 * 0.2),
    "view": (lambda x: x.unsqueeze(0).squeeze(0), lambda x: x),
}
BINARY: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "div": (lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)),
    "maximum": (tg.maximum, np.maximum),
    "atan2": (lambda a, b: tg.atan2(a, b * b + 1), lambda a, b: np.arctan2(a, b * b + 1)),
    "choose": (lambda a, b: tg.where(a > b, a * 0.5, b), lambda a, b: np.where(a > b, a * 0.5, b)),
    "between": (lambda a, b: tg.clamp(a * 2, b, b + 1), lambda a, b: np.clip(a * 2, b, b + 1)),
}


def np_logsumexp(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    return np.log(np.exp(x).sum(axis, keepdims=keepdims))


REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sum": (lambda x, d, k: x.sum(d, keepdim=k) * 0.1, lambda x, d, k: x.sum(d, keepdims=k) * 0.1),
    "mean": (lambda x, d, k: x.mean(d, keepdim=k), lambda x, d, k: x.mean(d, keepdims=k)),
    "norm": (lambda x, d, k: x.norm(dim=d, keepdim=k), lambda x, d, k: np.sqrt((x * x).sum(d, keepdims=k))),
    "amax": (lambda x, d, k: x.amax(d, keepdim=k), lambda x, d, k: x.max(d, keepdims=k)),
    "amin": (lambda x, d, k: x.amin(d, keepdim=k), lambda x, d, k: x.min(d, keepdims=k)),
    "var": (lambda x, d, k: x.var(d, correction=0, keepdim=k), lambda x, d, k: x.var(d, keepdims=k)),
    "std": (lambda x, d, k: (x * 1.0).std(d, correction=0, keepdim=k), lambda x, d, k: x.std(d, keepdims=k)),
    "logsumexp": (lambda x, d, k: tg.logsumexp(x, d, keepdim=k), lambda x, d, k: np_logsumexp(x, d, k)),
}
ALONG: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "prod": (
        lambda x, d, k: (1 + 0.01 * x.sin()).prod(d, keepdim=k),
        lambda x, d, k: (1 + 0.01 * np.sin(x)).prod(d, keepdims=k),
    ),
    "softmax": (
        lambda x, d, k: x.softmax(d),
        lambda x, d, k: np.exp(x) / np.exp(x).sum(d, keepdims=True),
    ),
    "log_softmax": (
        lambda x, d, k: x.log_softmax(d) * 0.1,
        lambda x, d, k: (x - np_logsumexp(x, d, True)) * 0.1,
    ),
    "by hand": (
        lambda x, d, k: (x - x.amax(d, keepdim=True)).exp() / (x - x.amax(d, keepdim=True)).exp().sum(d, keepdim=True),
        lambda x, d, k: np.exp(x) / np.exp(x).sum(d, keepdims=True),
    ),
    "normalised": (
        lambda x, d, k: (x - x.mean(d, keepdim=True)) / (x.var(d, correction=0, keepdim=True) + 0.1).sqrt(),
        lambda x, d, k: (x - x.mean(d, keepdims=True)) / np.sqrt(x.var(d, keepdims=True) + 0.1),
    ),
    "share": (
        lambda x, d, k: (x * x + 1) / (x * x + 1).sum(d, keepdim=True),
        lambda x, d, k: (x * x + 1) / (x * x + 1).sum(d, keepdims=True),
    ),
}
Step = tuple[str, Callable[[list[Any]], Any], Callable[[list[Any]], Any]]


def step(data: st.DataObject, values: list[np.ndarray]) -> Step:
    """One more operation on what a program has so far, which can all be broadcast together."""
    kind = data.draw(st.sampled_from(["unary", "binary", "binary", "reduction", "along"]))
    i = data.draw(st.integers(0, len(values) - 1))
    if kind in ("reduction", "along") and values[i].ndim and values[i].size:
        ndim = values[i].ndim
        keep = data.draw(st.booleans())
        table = REDUCTIONS if kind == "reduction" else ALONG
        name = data.draw(st.sampled_from(sorted(table)))
        dims: Any = data.draw(st.integers(0, ndim - 1))
        if kind == "reduction":
            dims = tuple(sorted(data.draw(st.sets(st.integers(0, ndim - 1), min_size=1))))
        of_tensors, of_arrays = table[name]
        # What lost its dimensions gets them back by a view, so that it fits the rest of the program.
        shape = tuple(of_arrays(values[i], dims, True).shape)
        return (
            f"{name} of {i} over {dims}, {keep}",
            lambda v: of_tensors(v[i], dims, keep).reshape(*shape),
            lambda v: of_arrays(v[i], dims, keep).reshape(shape),
        )
    if kind == "binary":
        j = data.draw(st.integers(0, len(values) - 1))
        name = data.draw(st.sampled_from(sorted(BINARY)))
        of_tensors, of_arrays = BINARY[name]
        return f"{name} of {i}, {j}", lambda v: of_tensors(v[i], v[j]), lambda v: of_arrays(v[i], v[j])
    name = data.draw(st.sampled_from(sorted(UNARY)))
    of_tensors, of_arrays = UNARY[name]
    return f"{name} of {i}", lambda v: of_tensors(v[i]), lambda v: of_arrays(v[i])


@st.composite
def leaves_of_programs(draw: Any) -> list[tuple[tuple[int, ...], str, bool]]:
    """Shapes that can be broadcast together, with layouts, and which of them are active: the first always is."""
    full = draw(st.sampled_from(SHAPES))
    made = []
    for k in range(draw(st.integers(1, 4))):
        shape = full
        if k and draw(st.booleans()):
            shape = tuple(1 if draw(st.booleans()) else n for n in full)[draw(st.integers(0, len(full))) :]
        made.append((shape, draw(st.sampled_from(LAYOUTS)), k == 0 or draw(st.booleans())))
    return made


def gradients(inputs: list[Any]) -> list[np.ndarray]:
    return [np.zeros(x.shape) if x.grad is None else x.grad.numpy().copy() for x in inputs if x.requires_grad]


@drawn
@given(st.data())
def test_a_program_swept_in_four_ways(data: st.DataObject):
    described = data.draw(leaves_of_programs())
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    arrays = [np.float32(rng.uniform(-1.2, 1.2, shape)).astype(np.float64) for shape, _, _ in described]
    single = any(layout == "single" for _, layout, _ in described)
    values, steps = list(arrays), []
    for _ in range(data.draw(st.integers(1, 10))):
        steps.append(step(data, values))
        values.append(np.asarray(steps[-1][2](values)))
    looked_at = data.draw(st.sets(st.integers(0, len(steps) - 1), max_size=2))
    retained = data.draw(st.integers(0, len(steps) - 1))
    seed = np.float32(rng.normal(size=values[-1].shape)).astype(np.float64)
    names = str([described, [name for name, _, _ in steps]])

    def recorded() -> tuple[list[Any], list[Any], Any, Any]:
        pairs = [leaf(a, layout, active) for a, (_, layout, active) in zip(arrays, described, strict=True)]
        found = [seen for _, seen in pairs]
        for _, of_tensors, _ in steps:
            found.append(of_tensors(found))
        return [x for x, _ in pairs], found[len(pairs) :], found[-1], tg.tensor(seed, dtype=found[-1].dtype)

    # Nobody has looked: values and adjoints at once.
    inputs, _, y, weights = recorded()
    if not y.requires_grad:
        close(y.numpy(), values[-1], single, names)
        return
    y.backward(weights)
    fused = gradients(inputs)
    close(y.detach().numpy(), values[-1], single, names)

    # Someone has looked, here and there; and swept in reverse before.
    inputs, found, y, weights = recorded()
    for k in looked_at:
        close(found[k].detach().numpy(), values[len(arrays) + k], single, names)
    y.tolist()
    if found[retained].requires_grad and not found[retained].is_leaf:
        found[retained].retain_grad()
    y.backward(weights, retain_graph=True)
    for one, other in zip(gradients(inputs), fused, strict=True):
        close(one, other, single, names)
    first = found[retained].grad.numpy().copy() if found[retained].grad is not None else None
    y.backward(weights)
    for one, other in zip(gradients(inputs), fused, strict=True):
        close(one, 2 * other, single, names)

    # With rules as rows; the adjoint of a value in the middle too.
    inputs, found, y, weights = recorded()
    active = [x for x in inputs if x.requires_grad]
    middle = [found[retained]] if found[retained].requires_grad else []
    rows = tg.autograd.grad(y, [*active, *middle], weights, create_graph=True, materialize_grads=True)
    for one, other in zip(rows, fused, strict=False):
        close(one.detach().numpy(), other, single, names)
    if middle:
        swept = tg.autograd.grad(y, middle, weights, materialize_grads=True)[0].numpy()
        close(swept, rows[-1].detach().numpy(), single, names)
        if first is not None:
            close(first, swept, single, names)

    # With a pause wherever there can be one.
    inputs, _, y, weights = recorded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_BUDGET", 0)
        y.backward(weights)
    for one, other in zip(gradients(inputs), fused, strict=True):
        close(one, other, single, names)


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64], ids=str)
@pytest.mark.parametrize("n", [65, 1001, 100_003])
@pytest.mark.parametrize("offset", [0, 3])
def test_results_written_past_the_caches_are_the_same(dtype: Any, n: int, offset: int, monkeypatch: pytest.MonkeyPatch):
    """Where arrays begin at any element, and end at any."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    rng = np.random.default_rng(n)
    whole = [tg.tensor(rng.uniform(-1, 1, n + offset), dtype=dtype, requires_grad=True) for _ in range(3)]
    seed = tg.tensor(rng.uniform(-1, 1, n), dtype=dtype)
    single = tg.tensor(0.3, dtype=dtype, requires_grad=True)

    def swept() -> list[np.ndarray]:
        for x in (*whole, single):
            x.grad = None
        x, w, b = (t[offset:] for t in whole)
        hidden = (w * x + b).tanh()
        y = (-(x * x) * single).exp() * hidden
        total = y.mean() + (hidden * seed).sum()  # a gradient that is spread, and one that is read
        (y * seed).sum().add(total).backward()
        return [y.detach().numpy().copy(), *(t.grad.numpy().copy() for t in (*whole, single))]

    usual = swept()
    header = tape.current_tape().h
    assert header[H.stream_bytes] > 1 << 20
    header[H.stream_bytes] = 0
    found = swept()
    for one, other in zip(found[:-1], usual[:-1], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found[-1], usual[-1], 1e-5 if dtype is tg.float32 else 1e-13)  # in other blocks


# --- named programs, against derivatives by complex step -------------------------------------------------------------


def softmax_by_hand(x: Any, w: Any) -> Any:
    e = np.exp(x * w)
    return ((e / e.sum(-1, keepdims=True)) * x).sum()


def layer_norm(x: Any, w: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return (centred / ((centred * centred).mean(-1, keepdims=True) + 1e-5) ** 0.5 * w).sum()


def shares(x: Any, w: Any) -> Any:
    y = x * x + w
    return ((y / y.sum(-1, keepdims=True)) * (w / w.sum())).sum()


def rows_and_columns(x: Any, w: Any) -> Any:
    y = np.sin(x * w)
    return ((y - y.mean(0, keepdims=True)) * (y - y.mean(1, keepdims=True)) * y.sum()).sum()


def cross_entropy(x: Any, w: Any) -> Any:
    return (np.log(np.exp(x * w).sum(-1)) - (x * w * w).sum(-1)).mean()


def scaled_rows(x: Any, w: Any) -> Any:
    y = x / (x * x).sum(-1, keepdims=True) ** 0.5
    return np.exp((y * w) * (y * w).sum(-1, keepdims=True)).sum()


PROGRAMS = (softmax_by_hand, layer_norm, shares, rows_and_columns, cross_entropy, scaled_rows)
NAMED = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)


@NAMED
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 2), (600, 2), (5, 7), (5, 191), (5, 192), (5, 200), (3, 4096), (3, 4097)]
)
@pytest.mark.parametrize("looks", [False, True], ids=["unseen", "seen"])
def test_derivatives_by_complex_step(program: Callable[..., Any], shape: tuple[int, ...], looks: bool):
    rng = np.random.default_rng(0)
    x, w = rng.uniform(0.2, 1.0, shape), rng.uniform(0.2, 1.0, shape[-1])
    inputs = [tg.tensor(v, requires_grad=True) for v in (x, w)]
    y = program(*inputs)
    if looks:
        y.tolist()
    y.backward()
    assert y.item() == pytest.approx(program(x, w), rel=1e-12)
    for _ in range(3):
        p, q = rng.normal(size=shape), rng.normal(size=shape[-1])
        slope = program(x + 1e-30j * p, w + 1e-30j * q).imag / 1e-30
        terms = [inputs[0].grad.numpy() * p, inputs[1].grad.numpy() * q]
        scale = sum(np.abs(t).sum() for t in terms) + 1e-3
        assert abs(sum(t.sum() for t in terms) - slope) < 1e-12 * scale


def test_softmax_and_its_derivative_in_forty_digits():
    rng = np.random.default_rng(1)
    array, weights = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    x = tg.tensor(array, requires_grad=True)
    e = (x - x.amax(-1, keepdim=True)).exp()
    y = e / e.sum(-1, keepdim=True)
    (y * tg.tensor(weights)).sum().backward()
    with mpmath.workdps(40):
        for r in range(3):
            exact = [mpmath.exp(v) for v in array[r]]
            shares = [v / mpmath.fsum(exact) for v in exact]
            along = mpmath.fsum(s * w for s, w in zip(shares, weights[r], strict=True))
            slopes = [float(s * (w - along)) for s, w in zip(shares, weights[r], strict=True)]
            np.testing.assert_allclose(y[r].tolist(), [float(s) for s in shares], rtol=2e-15)
            np.testing.assert_allclose(x.grad[r].tolist(), slopes, rtol=1e-13, atol=1e-16)


def test_a_single_precision_row_keeps_its_precision():
    array = np.random.default_rng(2).normal(size=(6, 300)).astype(np.float32)
    x = tg.tensor(array, requires_grad=True)
    y = x / x.norm(dim=-1, keepdim=True)
    (y.to(tg.float64) * y.exp()).sum().backward()
    assert x.grad.dtype is tg.float32
    wide = tg.tensor(array.astype(np.float64), requires_grad=True)
    z = wide / wide.norm(dim=-1, keepdim=True)
    (z * z.exp()).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), wide.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.nojit
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)])
def test_rows_of_nothing(shape: tuple[int, ...]):
    """Nothing is read where there is nothing: with checked bounds, or without the compiler, it would be an error."""
    for d in range(len(shape)):
        x = tg.zeros(*shape, requires_grad=True)
        y = x.logsumexp(d)
        assert y.tolist() == np.full(y.shape, -np.inf if shape[d] == 0 else 0.0).tolist()
        (x.softmax(d) * x.log_softmax(d)).sum().backward()
        assert x.grad.shape == shape


# --- at the limits ----------------------------------------------------------------------------------------------------


def normalised_chain(x: Any, length: int) -> Any:
    """Elementwise rows, and every tenth a sum along rows that is read again."""
    for k in range(length):
        x = x / x.sum(-1, keepdims=True) * x.shape[-1] if k % 10 == 9 else x * 1.01 + 0.01 if k % 2 else x * x
    return x


@pytest.mark.parametrize("shape", [(2100,), (40, 7), (4, 191), (4, 192), (3, 390), (3, 400)])
@pytest.mark.parametrize("length", [MAX_ROWS - 2, MAX_ROWS, MAX_ROWS + 1, 2 * MAX_ROWS + 3])
def test_long_programs_with_sums_in_between(shape: tuple[int, ...], length: int):
    rng = np.random.default_rng(length)
    array, along = rng.uniform(0.9, 1.1, shape), rng.normal(size=shape)
    x = tg.tensor(array, requires_grad=True)
    y = normalised_chain(x, length)
    y.sin().sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), normalised_chain(array, length), rtol=1e-9)
    slope = np.sin(normalised_chain(array + 1e-30j * along, length)).sum().imag / 1e-30
    assert (x.grad.numpy() * along).sum() == pytest.approx(slope, rel=1e-8, abs=1e-8 * np.abs(x.grad.numpy()).sum())


@pytest.mark.parametrize("inner", [MAX_INNER - 1, MAX_INNER, MAX_INNER + 1])
@pytest.mark.parametrize("n_outer", [1, 3])
def test_rows_as_long_as_whole_rows_can_be(inner: int, n_outer: int):
    array = np.random.default_rng(inner).normal(size=(n_outer, inner))
    x = tg.tensor(array, requires_grad=True)
    y = x.log_softmax(-1) * x.softmax(-1) + x - x.mean(-1, keepdim=True)
    (y * y).sum().backward()
    p = np.exp(array) / np.exp(array).sum(-1, keepdims=True)
    value = np.log(p) * p + array - array.mean(-1, keepdims=True)
    np.testing.assert_allclose(y.detach().numpy(), value, rtol=1e-11, atol=1e-13)
    g = 2 * value
    of_product = g * (np.log(p) + 1) * p
    slope = of_product - p * of_product.sum(-1, keepdims=True) + g - g.mean(-1, keepdims=True)
    np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_rows", [MAX_WIDE // MAX_INNER - 1, MAX_WIDE // MAX_INNER, MAX_WIDE // MAX_INNER + 1])
def test_a_wide_region_fits_in_scratch_memory(fresh: tape.Tape, n_rows: int):
    """Long rows, as many as a region takes, whose operands all have to be gathered and are active."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 64, 64))
    lower = rng.normal(size=(n_rows - 1, 3, 1, 64))
    upper = lower + rng.uniform(0.5, 1.5, size=lower.shape)
    x = tg.tensor(start.transpose(0, 2, 1).copy(), requires_grad=True)
    bounds = [[tg.tensor(v, requires_grad=True) for v in pair] for pair in zip(lower, upper, strict=True)]
    y, value = x.transpose(1, 2), start
    for (low, high), p, q in zip(bounds, lower, upper, strict=True):
        y, value = tg.clamp(y, low, high), np.clip(value, p, q)
    y.norm(dim=(1, 2)).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), value)
    unit = value / np.sqrt((value * value).sum((1, 2), keepdims=True))
    total = x.grad.numpy().sum() + sum(low.grad.numpy().sum() + high.grad.numpy().sum() for low, high in bounds)
    assert total == pytest.approx(unit.sum(), rel=1e-10)  # each element's adjoint goes to exactly one operand
    a_row = counter("n_wide_places") * counter("inner") + counter("n_narrow_places")
    assert counter("block") * a_row * 8 < tape.SCRATCH_BYTES - 4096


@pytest.mark.parametrize("n_terms", [60, 250, 300])
def test_many_sums_along_the_same_rows(n_terms: int):
    array = np.random.default_rng(3).normal(size=(30, 20))
    x = tg.tensor(array, requires_grad=True)
    total = x * 0.0
    for k in range(n_terms):
        total = total + (x * float(k)).mean(-1, keepdim=True) * x
    total.sum().backward()
    factor = sum(range(n_terms))
    means = array.mean(-1, keepdims=True)
    np.testing.assert_allclose(total.detach().numpy(), factor * means * array, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(2 * factor * means, (30, 20)), rtol=1e-9, atol=1e-7)


# --- pauses -----------------------------------------------------------------------------------------------------------


@NAMED
@pytest.mark.parametrize("budget", [0, 1000, 100_000])
def test_a_sweep_that_pauses_goes_on_where_it_was(
    program: Callable[..., Any], budget: int, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(0)
    x, w = rng.uniform(0.2, 1.0, (400, 300)), rng.uniform(0.2, 1.0, 300)

    def swept() -> list[Any]:
        inputs = [tg.tensor(v, requires_grad=True) for v in (x, w)]
        y = program(*inputs)
        y.backward()
        return [y.tolist(), *(t.grad.tolist() for t in inputs)]

    expected = swept()
    monkeypatch.setattr(engine, "_BUDGET", budget)
    assert swept() == expected


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_gradient_is_there_after_a_pause_in_the_first_region(n_threads: int, monkeypatch: pytest.MonkeyPatch):
    before = tg.get_num_threads()
    tg.set_num_threads(n_threads)
    monkeypatch.setattr(engine, "_BUDGET", 50_000)
    try:
        x = tg.full((40_000,), 0.5, requires_grad=True)
        y = x
        for _ in range(30):
            y = y * 1.01 + 0.001
        y.sum().backward()
    finally:
        tg.set_num_threads(before)
    np.testing.assert_allclose(x.grad.numpy(), 1.01**30, rtol=1e-12)


# --- each thing once, and nothing in vain ----------------------------------------------------------------------------


def instructions(function: Callable[[Any], Any], n: int = 1000, gradient: bool = False) -> int:
    """How many instructions it takes to compute a value, or a gradient."""
    x = tg.linspace(0.1, 1.0, n, requires_grad=gradient)
    y = function(x)
    if gradient:
        y.sum().backward()
    else:
        y.tolist()
    return n_instructions()


def sine_once(x: Any) -> Any:
    s = x.sin()
    return s * s + s


def exponential_once(x: Any) -> Any:
    e = (x * 2.0).exp()
    return e + e


def sum_once(x: Any) -> Any:
    s = x + x
    return s.sin() * s


def condition_once(x: Any) -> Any:
    c = x > 0.5
    return tg.where(c, x, x * 3.0) + c


@pytest.mark.parametrize(
    ("repeated", "once"),
    [
        (lambda x: x.sin() * x.sin() + x.sin(), sine_once),
        (lambda x: (x * 2.0).exp() + (x * 2.0).exp(), exponential_once),
        (lambda x: (x + x).sin() * (x + x), sum_once),
        (
            lambda x: tg.where(x > 0.5, x, x * 3.0) + (x > 0.5),
            condition_once,
        ),
    ],
    ids=["sin", "immediate", "sum", "condition"],
)
def test_a_common_subexpression_is_computed_once(fresh: tape.Tape, repeated: Any, once: Any):
    assert instructions(repeated) == instructions(once)
    x = tg.linspace(0.1, 1.0, 1000)
    assert repeated(x).tolist() == once(x).tolist()


def test_what_looks_alike_but_differs_is_computed_apart(fresh: tape.Tape):
    """Other immediates, other orders, other dtypes."""
    array = np.linspace(0.1, 1.0, 1000)
    x, y = tg.tensor(array, requires_grad=True), tg.tensor(array[::-1].copy(), requires_grad=True)
    out = x * 2.0 + x * 3.0 + (x - y) * (y - x) + (x * 2.0).to(tg.float32).to(tg.float64)
    expected = array * 5 - (array - array[::-1]) ** 2 + (array * 2).astype(np.float32)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-14, atol=1e-15)
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 7 - 2 * (array - array[::-1]), rtol=1e-6)
    np.testing.assert_allclose(y.grad.numpy(), 2 * (array - array[::-1]), rtol=1e-12, atol=1e-15)


def test_a_common_subexpression_that_someone_holds_is_stored(fresh: tape.Tape):
    x = tg.linspace(0.1, 1.0, 1000, requires_grad=True)
    p, q = x.sin() * 2.0, x.sin() * 2.0
    r = p + x.sin() * 2.0
    r.sum().backward()
    assert p.tolist() == q.tolist()
    np.testing.assert_allclose(x.grad.numpy(), 4 * np.cos(x.detach().numpy()), rtol=1e-14)


def test_nothing_is_known_of_an_earlier_region(fresh: tape.Tape):
    """Neither after the slots have grown, nor from what a tape before has left in memory."""
    array = np.random.default_rng(0).uniform(0.5, 1.0, 1000)
    x = tg.tensor(array)
    assert (x.sin() * x.cos()).exp().tolist() == pytest.approx(np.exp(np.sin(array) * np.cos(array)))
    capacity = fresh.slot_capacity
    hold = [tg.zeros(1) for _ in range(capacity)]
    assert fresh.slot_capacity > capacity
    x = tg.tensor(array)
    y = x.log() + (x.sin() * x.cos()).exp()
    np.testing.assert_allclose(y.numpy(), np.log(array) + np.exp(np.sin(array) * np.cos(array)), rtol=1e-14)
    assert len(hold) == capacity
    assert not tape.Tape().tables.any()


def test_regions_are_counted_beyond_an_int32(fresh: tape.Tape):
    array = np.linspace(0.1, 1.0, 100)
    x = tg.tensor(array, requires_grad=True)
    (x * 2).sum().backward()
    fresh.header[H.stamps] = 2**31 - 3
    for _ in range(6):
        x.grad = None
        (x.sin() * x).exp().sum().backward()
        slope = np.exp(array * np.sin(array)) * (np.sin(array) + array * np.cos(array))
        np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-13)


def test_dead_rows_never_run(fresh: tape.Tape):
    def with_dead_rows(x: Any) -> Any:
        x.exp().sin()
        y = x * 2.0
        (y + x.cos()).sum()
        return y.tanh()

    assert instructions(with_dead_rows) == instructions(lambda x: (x * 2.0).tanh())
    assert instructions(with_dead_rows, gradient=True) == instructions(lambda x: (x * 2.0).tanh(), gradient=True)
    calls: list[int] = []
    noted = tg.autograd.host_function(lambda v: v * 2, lambda y_bar, y, v: calls.append(1) or y_bar * 2)
    x = tg.ones(3, requires_grad=True)
    noted(x) + 1
    (x * 3).sum().backward()
    assert not calls


def test_only_what_leads_to_the_inputs_is_swept_in_reverse(fresh: tape.Tape):
    def swept(active: bool) -> int:
        a = tg.linspace(0.1, 1.0, 1000, requires_grad=True)
        b = tg.linspace(0.2, 2.0, 1000, requires_grad=active)
        y = (a * 2.0 + b.exp().sin().exp()).sum()
        (g,) = tg.autograd.grad(y, [a])
        assert g.tolist() == [2.0] * 1000
        return n_instructions()

    assert swept(active=True) == swept(active=False)


def test_a_sum_and_its_gradient_read_each_operand_once(fresh: tape.Tape):
    """The whole program is one region, swept forward and in reverse at once."""
    x = tg.linspace(0.1, 1.0, 5000, requires_grad=True)
    y = (x.sin() * x).sum()
    y.backward()
    assert (int(fresh.header[H.n_regions]), int(fresh.header[H.fused])) == (2, 1)
    assert counter("sweeps") == 3


@pytest.mark.parametrize("inner", [7, 200])
def test_softmax_by_hand_is_one_region(fresh: tape.Tape, inner: int):
    x = tg.tensor(np.random.default_rng(0).normal(size=(50, inner)), requires_grad=True)
    e = (x - x.amax(-1, keepdim=True)).exp()
    (e / e.sum(-1, keepdim=True) * x).sum().backward()
    assert int(fresh.header[H.n_regions]) == 2


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (3,), (1, 1), (3, 3)])
def test_an_operand_broadcast_over_spaces_of_other_dimensions(shape: tuple[int, ...], keepdim: bool):
    """Rows of [3, 3] and of [3, 3, 3] or [3, 3, 1] match it from the right: one region, another element for each."""
    rng = np.random.default_rng(3)
    a, w = rng.normal(size=(3, 3, 3)), rng.normal(size=shape)

    def of_rows(w: Any) -> Any:
        return np.log(np.exp(a).sum(-1)) * w

    def of_all(w: Any) -> Any:
        return (np.log(np.exp(a).sum(-1, keepdims=True)) if keepdim else 2 * a) + w

    x, leaf = tg.tensor(a), tg.tensor(w, requires_grad=True)
    first = x.logsumexp(-1) * leaf
    second = (x.logsumexp(-1, keepdim=True) if keepdim else x * 2) + leaf
    (first.sin().sum() + second.exp().sum()).backward()
    np.testing.assert_allclose(first.detach().numpy(), of_rows(w), rtol=1e-12)
    np.testing.assert_allclose(second.detach().numpy(), of_all(w), rtol=1e-12)
    step = 1e-30  # a complex one
    for place in np.ndindex(shape):
        moved = w.astype(complex)
        moved[place] += 1j * step
        slope = (np.sin(of_rows(moved)).sum() + np.exp(of_all(moved)).sum()).imag / step
        np.testing.assert_allclose(leaf.grad[place].item(), slope, rtol=1e-12)


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "logsumexp", "norm", "var"])
def test_a_reduction_over_dimensions_apart_is_broadcast_along_its_own(name: str):
    """Of a cube: shapes don't tell which dimensions were moved."""
    start = np.random.default_rng(5).uniform(0.5, 2.0, (3, 3, 3, 3))
    further = {"ord": 2} if name == "norm" else {}
    reduced = tg.linalg.vector_norm if name == "norm" else getattr(tg, name)
    for dims in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in (1, 2, 3)):
        found = []
        for looks in (False, True):
            x = tg.tensor(start, requires_grad=True)
            y = x * 1.5
            r = reduced(y, *further.values(), dim=dims, keepdim=True)
            if looks:
                r.numpy(force=True)
            z = (y * r).sin()
            found.append((z.numpy(force=True), tg.autograd.grad(z.sum(), x)[0].numpy()))
        for pending, seen in zip(*found, strict=True):
            close(pending, seen, message=f"{name} over {dims}")
        if name in ("sum", "mean", "amax", "amin"):
            scaled = start * 1.5
            close(found[0][0], np.sin(scaled * getattr(np, name)(scaled, dims, keepdims=True)))


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32, tg.int64, tg.bool])
@pytest.mark.parametrize("inner", [1, 2, 3, 8, 9, 17])
def test_rows_that_are_short_are_met_as_long_ones_are(inner: int, dtype: tg.dtype) -> None:
    """Points of few coordinates: operands by row, by column and by place, transposed, summed over each dimension."""
    rng = np.random.default_rng(inner)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(0, 3, shape).astype(dtype.numpy)

    p, q, weights, columns = draw(23, 1, inner), draw(1, 31, inner), draw(23, 31, 1), draw(inner, 31).T
    tensors = [tg.tensor(a, requires_grad=dtype.is_floating_point) for a in (p, q, weights, columns)]
    a, b, w, c = tensors
    terms, expected = a * b * w + c * a, p * q * weights + columns * p
    for dim in (-1, 0, 1, (0, 2), (1, 2), None):
        found = terms.sum(dim).detach().numpy()
        np.testing.assert_array_equal(found, expected.sum(dim, dtype=found.dtype))
    np.testing.assert_array_equal(terms.detach().numpy(), expected)
    if not dtype.is_floating_point:
        return
    seed = draw(23, 31)
    terms.sum(-1).backward(tg.tensor(seed))
    y_bar = seed[:, :, None]
    for t, partial in zip(tensors, (q * weights + columns, p * weights, p * q, p), strict=True):
        over = tuple(d for d in range(3 - t.ndim, 3) if ([1] * (3 - t.ndim) + list(t.shape))[d] == 1)
        terms_of = np.broadcast_to(y_bar * partial, (23, 31, inner))
        found = terms_of.sum((*range(3 - t.ndim), *over), keepdims=True).reshape(t.shape)
        np.testing.assert_array_equal(t.grad.numpy(), found)
