"""What was recorded before is recorded in one step: the same rows, and the same numbers, whatever comes in between.

A scenario is run on a shape that nothing has seen, so in all its steps; then the function is called once more, as most
programs call it; then the scenario is run again.
"""

import itertools
import threading

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import aliasing, tape
from tapegrad.debug import MEMORY
from tapegrad.recording import Ways

ONE = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "transpose": lambda x: x.transpose(0, 1),
    "permute": lambda x: x.permute(1, 0),
    "movedim": lambda x: tg.movedim(x, 0, 1),
    "reshape": lambda x: x.reshape(2, -1),
    "view": lambda x: x.view(-1),
    "flatten": lambda x: x.flatten(),
    "ravel": lambda x: x.ravel(),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x.squeeze(),
    "expand": lambda x: x.expand(3, -1, -1),
    "broadcast_to": lambda x: x.broadcast_to((2, *x.shape)),
    "unflatten": lambda x: x.unflatten(1, (1, 2)),
    "sum": lambda x: x.sum(),
    "sum along": lambda x: x.sum(0, keepdim=True),
    "mean": lambda x: x.mean(1),
    "logsumexp": lambda x: x.logsumexp(1),
    "softmax": lambda x: x.softmax(-1),
    "cumsum": lambda x: x.cumsum(0),
    "amax": lambda x: x.amax(1),
    "max": lambda x: x.max(),
    "var": lambda x: x.var(0),
    "std": lambda x: x.std(),
    "square": lambda x: x.mT @ x,
    "matrix and vector": lambda x: x @ x[0],
    "vectors": lambda x: x[0] @ x[1],
    "batches": lambda x: x.reshape(-1, 1, 2) @ x.reshape(-1, 2, 1),
    "rows by a list": lambda x: x[[1, 0, 1]],
    "rows by an array": lambda x: x[np.array([[1], [0]])],
    "rows by a tensor": lambda x: x[tg.tensor([1, 0])],
    "columns by a list": lambda x: x[:, [1, 0, 1]],
    "elements by arrays": lambda x: x[np.arange(2), 1],
    "elements by tensors": lambda x: x[tg.tensor([[1], [0]]), tg.tensor([0, 1])],
    "index_select": lambda x: tg.index_select(x, 1, tg.tensor([1, 1])),
    "gather": lambda x: tg.gather(x, 1, (x > 0.0).long()),
    "take": lambda x: tg.take(x, tg.tensor([[3, -1]])),
    "tril": lambda x: x.tril(-1),
    "padded": lambda x: tg.nn.functional.pad(x, (1, 2)),
    "cross_entropy": lambda x: tg.nn.functional.cross_entropy(x, (x[:, 0] > 0.0).long(), reduction="none"),
    "another dimension": lambda x: x[:, None],
    "an ellipsis": lambda x: x[..., 0],
    "cat": lambda x: tg.cat([x, x], 1),
    "stack": lambda x: tg.stack((x, x)),
}
VIEWS = [
    "T", "mT", "transpose", "permute", "movedim", "reshape", "view", "flatten", "ravel", "unsqueeze", "squeeze",
    "expand", "broadcast_to", "unflatten",
]  # fmt: skip
lengths = itertools.count(101)


@pytest.fixture(params=ONE)
def function(request):
    return ONE[request.param]


def elements(n):
    return np.random.default_rng(n).standard_normal((2 * n, 2))


def compared(scenario, function):
    """What the scenario gives of a function that has seen nothing like it, and once it has."""
    a = elements(next(lengths))
    first = scenario(function, a)
    function(tg.tensor(a, requires_grad=True))
    function(tg.tensor(a))
    again = scenario(function, a)
    assert len(first) == len(again)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def facts(y):
    """What is known of a result, and its elements."""
    y = y.detach() if not y.requires_grad else y
    return [
        y.requires_grad,
        y.is_leaf,
        str(y.grad_fn).partition(" at ")[0],
        y.shape,
        y.stride(),
        y._is_view(),
        y.tolist(),
    ]


def plainly(f, a):
    x = tg.tensor(a, requires_grad=True)
    y = f(x)
    (y * y).sum().backward()
    return [*facts(y), x.grad.tolist()]


def without_gradients(f, a):
    x = tg.tensor(a, requires_grad=True)
    with tg.no_grad():
        y = f(x)
    z = f(x.detach())
    with tg.inference_mode():
        w = f(x)
    return [*facts(y), *facts(z), w.tolist()]


def of_a_view(f, a):
    x = tg.tensor(np.concatenate([a, a]), requires_grad=True)
    y = [f(x[: len(a)]), f(x[len(a) :] * 1.0), f(x[len(a) :])]
    sum(((k + 1.0) * t * t).sum() for k, t in enumerate(y)).backward()
    return [*itertools.chain.from_iterable(map(facts, y)), x.grad.tolist()]


def written_before(f, a):
    """The operand is a view whose base was written to."""
    x = tg.tensor(a, requires_grad=True)
    z = x * 1.0
    part = z[:]
    z.mul_(3.0)
    y = f(part)
    z.add_(1.0)
    w = f(part)
    (w * w).sum().backward()
    return [*facts(w), y.shape, x.grad.tolist()]


def written_after(f, a):
    x = tg.tensor(a, requires_grad=True)
    z = x * 1.0
    y = f(z)
    is_shared = y._is_view() and y.is_contiguous()
    if is_shared and y.stride()[0]:
        y.view(-1)[0] = 5.0
        z.add_(1.0)
    (y * y).sum().backward()
    return [*facts(y), z.tolist(), x.grad.tolist()]


def shared_with_numpy(f, a):
    """What NumPy writes is seen by views, and by nothing that was recorded before."""
    x = tg.from_numpy(a.copy())
    array = x.numpy()
    y = f(x)
    array[0, 0] = 7.0
    z = f(x)
    del array
    return [*facts(y), *facts(z)]


def on_another_thread(f, a):
    x, results = tg.tensor(a, requires_grad=True), []

    def work():
        y = f(x)
        (y * y).sum().backward()
        results.extend([*facts(y), x.grad.tolist()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return results


def over_samples(f, a):
    x = tg.tensor(np.stack([a, 2.0 * a]), requires_grad=True)
    y = tg.vmap(f)(x)
    jacobian = tg.func.jacrev(lambda t: (f(t) ** 2).sum())(x[0])
    return [y.tolist(), jacobian.tolist()]


def with_tangents(f, a):
    y, tangent = tg.func.jvp(lambda t: f(t) * 2.0, (tg.tensor(a),), (tg.tensor(a[::-1].copy()),))
    second = tg.func.hessian(lambda t: (f(t) ** 3).sum())(tg.tensor(a[:2]))
    return [y.tolist(), tangent.tolist(), second.tolist()]


def with_saved_tensors(f, a):
    packed = []

    def pack(t):
        packed.append(t.tolist())
        return t * 1.0

    x = tg.tensor(a, requires_grad=True)
    with tg.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = f(x)
    (y * y).sum().backward()
    return [*map(np.array, packed), x.grad.tolist()]


def compiled(f, a):
    step = tg.compile(lambda x: (f(x) ** 2).sum())
    return [step(tg.tensor(k * a)).tolist() for k in range(1, 5)]


SCENARIOS = [
    plainly, without_gradients, of_a_view, written_before, written_after, shared_with_numpy, on_another_thread,
    over_samples, with_tangents, with_saved_tensors, compiled,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_is_as_at_first(scenario, function):
    compared(scenario, function)


@pytest.mark.roomy  # else there is no room for the row, which is made in all steps
@pytest.mark.skipif(MEMORY, reason="all is recorded in all its steps, so that places are noted")
@pytest.mark.parametrize("name", ONE)
def test_it_is_one_row(name, monkeypatch):
    """The second time what is recorded is found, with the first one's kind and parameters."""
    a, found = elements(next(lengths)), []
    for known, way in (Ways, "again"), (aliasing, "view_again"):
        plain = getattr(known, way)

        def noted(*args, plain=plain):
            made = plain(*args)
            found.append(made is not None)
            return made

        monkeypatch.setattr(known, way, noted)
    rows = []
    for _ in range(2):
        monkeypatch.setattr(tape._threads, "tape", tape.Tape())
        x = tg.tensor(a, requires_grad=True)
        before, found[:] = tg.current_tape().end, []
        y = ONE[name](x)
        recorded = tg.current_tape().row_array()[before // tape.ROW_BYTES :]
        rows.append([recorded[field].tolist() for field in recorded.dtype.names])
        assert y.requires_grad
    assert rows[0] == rows[1]
    assert all(found)
    assert found or name in ("cat", "stack")


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_views_are_known_by_where_they_are(name):
    """Slices of one vector of parameters, each in a shape of its own."""
    n = 2 * next(lengths)
    theta = tg.tensor(np.arange(6.0 * n), requires_grad=True)
    for _ in range(2):
        for k in range(3):
            part = ONE[name](theta[2 * k * n : 2 * (k + 1) * n].reshape(n, 2))
            expected = ONE[name](tg.arange(2.0 * k * n, 2.0 * (k + 1) * n).reshape(n, 2))
            assert part.tolist() == expected.tolist()
            (g,) = tg.autograd.grad(part.sum(), theta)
            assert np.flatnonzero(g.numpy()).tolist() == [*range(2 * k * n, 2 * (k + 1) * n)]


@pytest.mark.parametrize("index", [slice(1, None), slice(None, None, 2), 1, (1,), (slice(1, 3),), None])
def test_slices_of_views_say_nothing_of_other_tensors(index):
    """What is known of a slice of a slice tells where it lies in their base."""
    n = next(lengths)
    part = tg.zeros(3 * n)[n : 2 * n]
    expected = part[index].tolist()
    base = tg.zeros(n)
    view = base[index]
    for k in range(1, 3):
        base.add_(1.0)
        assert view.tolist() == (np.array(expected) + k).tolist()
    view.mul_(2.0)
    assert base.sum().item() == 2.0 * n + 2.0 * np.size(expected)


def test_what_was_given_in_other_ways_is_another_row():
    x = tg.arange(12.0).reshape(3, 4)
    for _ in range(2):
        assert x.sum(1).shape == (3,)
        assert x.sum(keepdim=True).shape == (1, 1)
        assert x.sum(dim=0).shape == (4,)
        assert x.sum(0, True).shape == (1, 4)
        assert x.sum(dtype=tg.float32).dtype is tg.float32
        assert x.sum([0]).shape == (4,)
        assert x.transpose(0, 1).shape == (4, 3)
        assert x.squeeze([0]).shape == (3, 4)


def test_integers_follow_the_default_dtype():
    n = next(lengths)
    for _ in range(2):
        for dtype in (tg.float64, tg.float32):
            before = tg.get_default_dtype()
            tg.set_default_dtype(dtype)
            try:
                assert tg.arange(n).logsumexp(0).dtype is dtype
            finally:
                tg.set_default_dtype(before)
