"""In functions of arrays that are differentiated: numbers made unasked are errors, and those asked for warn."""

import array
import cmath
import math
import operator
import statistics
import warnings
from math import sin

import numpy as np
import pytest

import tapegrad as tg

X = np.array([0.3, 0.5, 0.7])


def into(write, *shape):
    """A function that writes what depends on x to an array of its own."""

    def f(x):
        out = np.zeros(shape or 3)
        write(out, x)
        return out.sum() + x[0]

    return f


KEPT = np.zeros((3, 3))  # was there before: no function makes it


def assigned(x):
    KEPT[0, 0] = x[0] ** 2
    return np.sum(KEPT) + x[0]


def added(x):
    KEPT[0, 0] += x[0]
    return KEPT.sum() + x[0]


def added_whole(x):
    kept = KEPT
    kept += x
    return KEPT.sum() + x[0]


def of_ints(x):
    out = np.zeros(3, dtype=int)
    out[0] = x[0]
    return out.sum() + x[0]


def of_a_record(x):
    out = np.zeros(3, [("a", float)])
    out["a"][0] = x[0]
    return out["a"].sum() + x[0]


LOST = {
    "array[i] = x[i]": assigned,
    "array[i] += x[i]": added,
    "array += x": added_whole,
    "ints[i] = x[i]": of_ints,
    "array['a'][i] = x[i]": of_a_record,
    "array[:] = x": into(lambda out, x: operator.setitem(out, slice(None), x)),
    "array[...] = x[0]": into(lambda out, x: operator.setitem(out, ..., x[0])),
    "array[:] = [x[0], x[1]]": into(lambda out, x: operator.setitem(out, slice(2), [x[0], x[1]])),
    "array.fill": into(lambda out, x: out.fill(x[0])),
    "array.put": into(lambda out, x: out.put([0], x[0])),
    "np.put": into(lambda out, x: np.put(out, [0], x[0])),
    "np.copyto": into(lambda out, x: np.copyto(out, x)),
    "np.fill_diagonal": lambda x: np.fill_diagonal(KEPT, x[0]) or x[0],
    "np.sin(out=)": lambda x: np.sin(x, out=KEPT[0]).sum() + x[0],
    "np.add.at": into(lambda out, x: np.add.at(out, [0], x[0])),
    "masked arrays": lambda x: operator.setitem(np.ma.zeros(3), 0, x[0]) or x[0],
    "np.array(dtype=complex)": lambda x: np.array([x[0], x[1]], dtype=complex).real.sum() + x[0],
    "np.array(x, complex)": lambda x: np.array(x, dtype=complex).real.sum() + x[0],
    "np.fromiter": lambda x: np.fromiter((x[i] for i in range(3)), float).sum() + x[0],
    "np.full": lambda x: np.full(3, x[0], complex).real.sum() + x[0],
    "np.float64": lambda x: np.float64(x[0]) * 2 + x[1],
    "np.arange": lambda x: np.arange(x[0], 2.0).sum() + x[1],
    "array.array": lambda x: sum(array.array("d", x)) + x[1],
    "math.sin": lambda x: math.sin(x[0]) + x[1],
    "sin": lambda x: sin(x[0]) + x[1],
    "math.atan2(*x)": lambda x: math.atan2(*x[:2]) + x[1],
    "math.fsum": lambda x: math.fsum(x) + x[1],
    "map(math.sin)": lambda x: sum(map(math.sin, x)) + x[1],
    "cmath.exp": lambda x: abs(cmath.exp(x[0])) + x[1],
    "complex": lambda x: complex(x[0]).real + x[1],
    "statistics.fmean": lambda x: statistics.fmean(x) + x[1],
    "tapegrad.tensor of a list": lambda x: tg.tensor([x[0], x[1]]).sum() + x[0],
    "tapegrad.tensor": lambda x: (tg.tensor(x) * x).sum(),
    "tapegrad.asarray": lambda x: (tg.asarray(x) * x).sum(),
    "tapegrad.linspace": lambda x: tg.linspace(x[0], 1.0, 3).sum() + x[0],
}


@pytest.mark.parametrize("name", LOST)
def test_what_becomes_a_number_unasked_is_an_error_at_its_line(name):
    with pytest.raises(RuntimeError, match=r"derivative") as caught:
        tg.func.grad(LOST[name])(X)
    assert any(entry.path.name == "test_lost_derivatives.py" for entry in caught.traceback[1:])
    np.testing.assert_array_equal(tg.func.grad(lambda x: x.sum())(X), 1.0)  # nothing is left behind
    assert not KEPT.any()


def test_errors_name_the_call_the_line_and_the_repair():
    with pytest.raises(
        RuntimeError, match=r"^math\.sin makes numbers of tensors: .*float64\[\].*test_lost_.*tapegrad's"
    ):
        tg.func.grad(LOST["math.sin"])(X)
    with pytest.raises(RuntimeError, match=r"^what is written to an array is a number: .*tapegrad\.zeros.*np\.stack"):
        tg.func.grad(assigned)(X)
    with pytest.raises(RuntimeError, match=r"^tg\.tensor makes numbers of tensors.*np\.stack joins"):
        tg.func.grad(LOST["tapegrad.tensor of a list"])(X)


def test_the_repairs_record():
    def of_zeros(x):
        out = tg.zeros(3)
        for i in range(3):
            out[i] = x[i] ** 2
        return np.sum(out) + x[0]

    for f in (of_zeros, lambda x: np.sum(np.stack([v**2 for v in x])) + x[0], lambda x: np.array([*x]) @ x + x[0]):
        np.testing.assert_allclose(tg.func.grad(f)(X), 2 * X + [1.0, 0.0, 0.0])
    np.testing.assert_allclose(tg.func.grad(lambda x: x[0] * math.sin(x[0].detach()))(X), [np.sin(0.3), 0.0, 0.0])


def printed(x):
    return x[0] * len("%.3f %.2f" % (x[0], x[1]))  # noqa: UP031


def looped(x):
    error = 1.0
    while float(error) > 1e-3:
        error = error * x[0]
    return error


ASKED = {
    "float": lambda x: x[0] if float(x[0]) > 0 else x[1],
    "float of a call's result": lambda x: x[0] * (float(abs(x[0] - x[1])) < 1.0),
    "float in f-strings": lambda x: x[0] * len(f"{float(x[0]):.2f} {x[1]}"),
    "int": lambda x: sum((x[0] for _ in range(int(x[1] * 10))), 0.0),
    "loops": looped,
    "%": printed,
    "math.isfinite": lambda x: x[0] if math.isfinite(x[0]) and not math.isclose(x[0], x[1], rel_tol=0.1) else x[1],
    "math.floor": lambda x: x[0] + math.floor(x[1]),
    "item": lambda x: x[0] * (x[0].item() > 0),
    "tolist": lambda x: x[0] * len(x.tolist()),
}


@pytest.mark.parametrize("name", ASKED)
def test_numbers_that_are_asked_for_warn(name):
    with pytest.warns(UserWarning, match=r"to a scalar|gives numbers") as caught:
        gradient = tg.func.grad(ASKED[name])(X)
    assert caught[0].filename == __file__
    h = np.array([1e-6, 0.0, 0.0])
    expected = (ASKED[name](X + h) - ASKED[name](X - h)) / 2e-6
    assert gradient[0] == pytest.approx(float(expected))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tg.func.grad(lambda x: (x * x).sum() * bool(x[0] > 0) * len(f"{x[0]:.2f}{x}{float(x[0].detach())}"))(X)


def test_other_names_of_float_count():
    class Made:
        number = float

    to_number, alias = float, math
    for f in (lambda x: x[0] * (to_number(x[1]) > 0), lambda x: x[0] if alias.isfinite(x[1]) else x[1]):
        with pytest.warns(UserWarning, match="to a scalar"):
            tg.func.grad(f)(X)

    def shadowed(x):
        float = math.exp
        return float(x[0]) + x[1]

    for f in (shadowed, lambda x: Made.number(x[0]) + x[1], lambda x: sorted(x, key=float)[0]):
        with pytest.raises(RuntimeError, match="makes numbers of tensors"):
            tg.func.grad(f)(X)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: tg.full((2,), t), lambda t: tg.full_like(tg.ones(2), t), lambda t: tg.arange(t, 2.0),
        lambda t: tg.add(tg.ones(2), tg.ones(2), alpha=t), lambda t: tg.ones(2).sub_(1.0, alpha=t),
        lambda t: tg.addcmul(tg.ones(2), tg.ones(2), tg.ones(2), value=t), lambda t: tg.ones(2).new_full((2,), t),
        lambda t: tg.nn.functional.leaky_relu(tg.ones(2), t),
        lambda t: tg.nn.functional.pad(tg.ones(2), (1, 1), value=t),
        lambda t: tg.cdist(tg.ones(2, 2), tg.ones(2, 2), p=t), lambda t: tg.eye(2).fill_diagonal_(t),
    ],
)  # fmt: skip
def test_tensors_that_require_grad_are_no_numbers(call):
    t = tg.tensor(1.5, requires_grad=True)
    with pytest.raises(TypeError, match=r"must be (Number|float), not Tensor, at .*derivative.*detach"):
        call(t)
    call(t.detach())
    call(tg.tensor(1.5))


def test_distances_of_points_record():
    y, t = tg.tensor([1.0, 4.0, 9.0, 16.0]), tg.tensor(0.5, requires_grad=True)
    (slopes,) = tg.gradient(y, spacing=t)
    slopes.sum().backward()
    assert t.grad.item() == pytest.approx(-slopes.sum().item() / 0.5)
