"""`tapegrad.masked` beside PyTorch's: values, gradients, second order, both dtypes, errors."""

import numpy as np
import pytest

from tests.parity.functional import agree, reals, refuse_alike

pytest.importorskip("torch.masked", reason="PyTorch is the oracle of these tests")

MASK = np.random.default_rng(3).random((3, 4, 5)) < 0.8
assert all(MASK.sum(d).min() > 1 for d in range(3))  # of one element there is no variance
X = reals(3, 4, 5)
OVER = "sum prod amax amin mean logsumexp norm var std".split()
ALONG = "softmax log_softmax softmin cumsum cumprod".split()


def masked(tg, name):
    return getattr(tg.masked, name)


@pytest.mark.parametrize("dim", [None, 1, (0, 2), -1, ()], ids=str)
@pytest.mark.parametrize("name", OVER)
def test_reductions(name, dim):
    facts = {"dim": dim}
    agree(lambda tg, F, x: masked(tg, name)(x, mask=tg.tensor(MASK), **facts), X)
    agree(lambda tg, F, x: masked(tg, name)(x, keepdim=True, mask=tg.tensor(MASK[0]), **facts), X, dtype="float32")
    agree(lambda tg, F, x: masked(tg, name)(x, **facts), X, second=False)


@pytest.mark.parametrize("name", ALONG)
def test_along_a_dimension(name):
    agree(lambda tg, F, x: masked(tg, name)(x, 1, mask=tg.tensor(MASK)), X)
    agree(lambda tg, F, x: masked(tg, name)(x, -1, mask=tg.tensor(MASK[0])), X, dtype="float32", second=False)
    agree(lambda tg, F, x: masked(tg, name)(x, 0), X)


OTHERS = {
    "argmax": lambda tg, F, x: masked(tg, "argmax")(x.detach(), 1, mask=tg.tensor(MASK)),
    "argmin": lambda tg, F, x: masked(tg, "argmin")(x.detach(), mask=tg.tensor(MASK)),
    "median": lambda tg, F, x: masked(tg, "median")(x, 1, mask=tg.tensor(MASK)),
    "norm inf": lambda tg, F, x: masked(tg, "norm")(x, float("inf"), 1, mask=tg.tensor(MASK)),
    "norm -inf": lambda tg, F, x: masked(tg, "norm")(x, -float("inf"), 1, mask=tg.tensor(MASK)),
    "norm 3": lambda tg, F, x: masked(tg, "norm")(x, 3.0, 1, mask=tg.tensor(MASK)),
    "normalize": lambda tg, F, x: masked(tg, "normalize")(x, 2.0, 1, mask=tg.tensor(MASK)),
    "logaddexp": lambda tg, F, x: masked(tg, "logaddexp")(
        x, 2 * x, input_mask=tg.tensor(MASK), other_mask=tg.tensor(~MASK)
    ),
    "var unbiased": lambda tg, F, x: masked(tg, "var")(x, 1, False, mask=tg.tensor(MASK)),
    "std correction": lambda tg, F, x: masked(tg, "std")(x, 2, correction=0.5, mask=tg.tensor(MASK)),
    "sum in float64": lambda tg, F, x: masked(tg, "sum")(x, 1, dtype=tg.float64, mask=tg.tensor(MASK)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others(name):
    agree(OTHERS[name], X, second=name != "logaddexp")  # of infinities PyTorch has no second derivative


def test_integers_and_what_is_masked_out_whole():
    n, m = np.arange(12).reshape(3, 4) - 5, np.array([[True] * 4, [False] * 4, [True, False, True, False]])
    for name in "sum prod amax amin var std argmax argmin".split():
        agree(lambda tg, F, x, name=name: masked(tg, name)(x, 1, mask=tg.tensor(m)), n)
    for name in ("mean", "logsumexp", "median", "softmax", "sum", "prod", "amax", "norm", "var"):
        agree(lambda tg, F, x, name=name: masked(tg, name)(x.detach(), 1, mask=tg.tensor(m)), reals(3, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda tg, F: masked(tg, "sum")(tg.ones(2, 3), (0, 0)),
        lambda tg, F: masked(tg, "sum")(tg.ones(2, 3), 2),
        lambda tg, F: masked(tg, "sum")(tg.ones(3), mask=tg.ones(2, 3) > 0),
        lambda tg, F: masked(tg, "mean")(tg.tensor([1, 2])),
        lambda tg, F: masked(tg, "var")(tg.ones(3), 0, True, correction=1),
    ],
)
def test_what_pytorch_refuses_is_refused(call):
    refuse_alike(call, leading=8)
