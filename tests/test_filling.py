"""New tensors: windows and spacings beside NumPy and SciPy, memory of others, and what random numbers are drawn of."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats

import tapegrad as tg

over_floats = pytest.mark.parametrize("dtype", [tg.float64, tg.float32], ids=repr)

WINDOWS: dict[str, Any] = {
    "bartlett": {}, "blackman": {}, "cosine": {}, "hamming": {}, "hann": {}, "nuttall": {}, "exponential": {"tau": 2.5},
    "gaussian": {"std": 1.7}, "kaiser": {"beta": 9.0}, "general_cosine": {"a": [0.5, 0.3, 0.2]},
    "general_hamming": {"alpha": 0.6},
}  # fmt: skip


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_scipys(name: str, sym: bool):
    for n in (0, 1, 2, 7, 8):
        made = getattr(tg.signal.windows, name)(n, sym=sym, **WINDOWS[name])
        np.testing.assert_allclose(
            made.numpy(), getattr(scipy.signal.windows, name)(n, sym=sym, **WINDOWS[name]), rtol=1e-12, atol=1e-15
        )
    assert getattr(tg.signal.windows, name)(5, dtype=tg.float32, **WINDOWS[name]).dtype is tg.float32


def test_windows_by_their_old_names():
    for n in (0, 1, 6):
        for periodic in (True, False):
            for name in ("hann", "hamming", "blackman", "bartlett"):
                made = getattr(tg, f"{name}_window")(n, periodic)
                theirs = getattr(scipy.signal.windows, name)(n, sym=not periodic)
                np.testing.assert_allclose(made.numpy(), theirs, rtol=1e-12, atol=1e-15)
            made = tg.kaiser_window(n, periodic, 5.0)
            np.testing.assert_allclose(made.numpy(), scipy.signal.windows.kaiser(n, 5.0, sym=not periodic), rtol=1e-12)


def test_memory_is_shared_where_it_can_be():
    a = np.arange(3.0)
    t = tg.asarray(a)
    a[0] = 9.0
    assert t.tolist() == [9.0, 1.0, 2.0]
    assert tg.asarray(a, copy=True).tolist() == [9.0, 1.0, 2.0]
    assert tg.asarray(t) is t
    assert tg.asarray(t, copy=True) is not t
    assert tg.asarray([1, 2], dtype=tg.float32).dtype is tg.float32
    x = tg.tensor([1.0], requires_grad=True)
    assert not tg.asarray(x * 2).requires_grad
    assert tg.asarray([1.0], requires_grad=True).is_leaf
    with pytest.raises(ValueError, match="can't alias"):
        tg.asarray([1.0], copy=False)
    buffer = bytearray(np.arange(4, dtype=np.float32).tobytes())
    seen = tg.frombuffer(buffer, dtype=tg.float32, count=2, offset=4)
    buffer[4:8] = np.float32(7).tobytes()
    assert seen.tolist() == [7.0, 2.0]
    for facts, phrase in (
        ({"count": 0}, "must not be 0"), ({"offset": 16}, "must be non-negative"),
        ({"offset": 3}, "must be a multiple"), ({"count": 9}, "must not be greater"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=phrase):
            tg.frombuffer(buffer, dtype=tg.float32, **facts)


def test_spacings_and_strides():
    np.testing.assert_allclose(tg.logspace(-1, 2, 7, 2.0).numpy(), np.logspace(-1, 2, 7, base=2.0), rtol=1e-15)
    assert tg.logspace(0, 1, 2, dtype=tg.int64).tolist() == [1, 10]
    assert tg.linspace(tg.tensor(0.0), tg.tensor(1.0), 3).tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(RuntimeError, match="0-dimensional"):
        tg.linspace(tg.zeros(1), 1, 3)
    with pytest.warns(UserWarning, match="use arange"):
        assert tg.range(1, 4).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert tg.scalar_tensor(3).dtype is tg.float64
    assert tg.empty_strided((2, 3), (1, 2)).stride() == (1, 2)
    assert tg.empty_permuted((2, 3, 4), (2, 0, 1)).stride() == (3, 1, 6)
    assert tg.zeros(1, dtype=tg.int32).new_empty_strided((2,), (3,)).dtype is tg.int32


def is_drawn_of(sample: np.ndarray, cdf: Any) -> bool:
    """Whether Kolmogorov and Smirnov can't tell, of a seed that is fixed."""
    return scipy.stats.kstest(sample, cdf).pvalue > 1e-3


@over_floats
def test_continuous_distributions(dtype: Any):
    tg.manual_seed(1)
    x = tg.empty(4000, dtype=dtype)
    assert is_drawn_of(x.exponential_(2.0).numpy().copy(), scipy.stats.expon(scale=0.5).cdf)
    assert is_drawn_of(x.cauchy_(1.0, 3.0).numpy().copy(), scipy.stats.cauchy(1.0, 3.0).cdf)
    assert is_drawn_of(x.log_normal_(0.5, 0.7).numpy().copy(), scipy.stats.lognorm(0.7, scale=math.exp(0.5)).cdf)
    assert is_drawn_of(tg.normal(2.0, 3.0, (4000,), dtype=dtype).numpy(), scipy.stats.norm(2.0, 3.0).cdf)
    means, deviations = tg.full((4000,), 1.0, dtype=dtype), tg.full((4000,), 2.0, dtype=dtype)
    assert is_drawn_of(tg.normal(means, deviations).numpy(), scipy.stats.norm(1.0, 2.0).cdf)
    assert is_drawn_of(tg.normal(means).numpy(), scipy.stats.norm(1.0, 1.0).cdf)
    assert is_drawn_of(tg.normal(-1.0, deviations).numpy(), scipy.stats.norm(-1.0, 2.0).cdf)


def fits(counts: np.ndarray, chances: np.ndarray) -> bool:
    """Whether counts are of these chances, by chi-squared."""
    return scipy.stats.chisquare(counts, counts.sum() * chances / chances.sum()).pvalue > 1e-3


def test_counts():
    tg.manual_seed(2)
    n = 4000
    for p in (0.2, tg.full((n,), 0.2)):
        ones = int(tg.zeros(n, dtype=tg.int64).bernoulli_(p).sum())
        assert fits(np.array([ones, n - ones]), np.array([0.2, 0.8]))
    ones = int(tg.bernoulli(tg.full((n,), 0.7)).sum())
    assert fits(np.array([ones, n - ones]), np.array([0.7, 0.3]))
    trials = np.minimum(tg.zeros(n, dtype=tg.int64).geometric_(0.4).numpy(), 6)
    assert fits(np.bincount(trials)[1:], np.array([*(0.4 * 0.6**k for k in range(5)), 0.6**5]))
    events = np.minimum(tg.poisson(tg.full((n,), 1.5)).numpy().astype(int), 5)
    pmf = scipy.stats.poisson(1.5).pmf(np.arange(5))
    assert fits(np.bincount(events), np.append(pmf, 1 - pmf.sum()))
    assert fits(np.bincount(tg.zeros(n, dtype=tg.int64).random_(2, 6).numpy())[2:], np.ones(4))
    assert fits(np.bincount(tg.randint_like(tg.zeros(n, dtype=tg.int64), 3).numpy()), np.ones(3))
    assert tg.zeros(n, dtype=tg.float32).random_().max() <= 1 << 24


def test_indices_by_weights():
    tg.manual_seed(3)
    weights = tg.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 5.0, 0.0, 5.0]])
    drawn = tg.multinomial(weights, 4000, replacement=True).numpy()
    assert fits(np.bincount(drawn[0], minlength=4)[[0, 2, 3]], np.array([1.0, 3.0, 2.0]))
    assert set(drawn[1].tolist()) == {1, 3}
    once = np.array([tg.multinomial(weights[0], 2).tolist() for _ in range(2000)])
    assert (once[:, 0] != once[:, 1]).all()
    assert fits(np.bincount(once[:, 0], minlength=4)[[0, 2, 3]], np.array([1.0, 3.0, 2.0]))


def test_derivatives_by_what_was_drawn_of_are_zero():
    p = tg.tensor([0.3, 0.6], requires_grad=True)
    for drawn in (tg.bernoulli(p), tg.poisson(p), tg.normal(p, 1.0), tg.normal(0.0, p)):
        (g,) = tg.autograd.grad(drawn.sum(), p)
        assert g.tolist() == [0.0, 0.0]
    x = tg.ones(2, requires_grad=True)
    y = x * 3
    y.exponential_()
    (y * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


X = tg.zeros(3)
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: tg.bernoulli(tg.tensor([1.5])), RuntimeError, "expects p to be in"),
    (lambda: tg.bernoulli(tg.tensor([1])), NotImplementedError, "not implemented for 'Long'"),
    (lambda: X.bernoulli_(-0.1), RuntimeError, "expects p to be in"),
    (lambda: X.exponential_(0.0), RuntimeError, "lambda > 0.0"),
    (lambda: X.to(tg.int64).exponential_(), NotImplementedError, "not implemented"),
    (lambda: X.cauchy_(0.0, 0.0), RuntimeError, "sigma > 0.0"),
    (lambda: X.geometric_(1.0), RuntimeError, "p to be in"),
    (lambda: X.log_normal_(0.0, -1.0), RuntimeError, "std > 0.0"),
    (lambda: X.random_(3, 3), RuntimeError, "'from' to be less than 'to'"),
    (lambda: tg.poisson(X - 1), RuntimeError, "invalid Poisson rate"),
    (lambda: tg.normal(X, -1.0), RuntimeError, "std >= 0.0"),
    (lambda: tg.normal(0.0, 1.0), TypeError, "takes a size"),
    (lambda: tg.multinomial(X, 1), RuntimeError, "invalid multinomial distribution"),
    (lambda: tg.multinomial(X - 1, 1), RuntimeError, "element < 0"),
    (lambda: tg.multinomial(X + 1, 4), RuntimeError, "without replacement"),
    (lambda: tg.multinomial(X + 1, 0), RuntimeError, "n_sample <= 0"),
    (lambda: tg.multinomial(tg.ones(1, 1, 1), 1), RuntimeError, "1 or 2 dim"),
    (lambda: tg.hann_window(-1), RuntimeError, "non-negative"),
    (lambda: tg.hann_window(3, dtype=tg.int64), RuntimeError, "floating point"),
    (lambda: tg.signal.windows.gaussian(3, std=0.0), ValueError, "must be positive"),
    (lambda: tg.ones(3, requires_grad=True).exponential_(), RuntimeError, "leaf"),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED)
def test_bad_arguments_are_refused(call: Any, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        call()
