"""`tapegrad.masked`: what is masked out might as well not be there."""

import numpy as np
import pytest

import tapegrad as tg

RNG = np.random.default_rng(0)
X, MASK = RNG.uniform(0.5, 2, (6, 8)), RNG.random((6, 8)) < 0.5


@pytest.mark.parametrize("name", "sum prod amax amin mean logsumexp norm var std".split())
def test_reductions_are_those_of_what_is_left(name):
    x = tg.tensor(X, requires_grad=True)
    result = getattr(tg.masked, name)(x, dim=1, mask=tg.tensor(MASK))
    (g,) = tg.autograd.grad(result.sum(), [x])
    for i in range(len(X)):
        left = tg.tensor(X[i][MASK[i]], requires_grad=True)
        plain = tg.logsumexp(left, 0) if name == "logsumexp" else getattr(tg, name)(left)
        assert result[i].item() == pytest.approx(plain.item(), rel=1e-13)
        (wanted,) = tg.autograd.grad(plain, [left])
        np.testing.assert_allclose(g.numpy()[i][MASK[i]], wanted.numpy(), rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(g.numpy()[~MASK], 0)


def test_what_is_masked_out_may_be_anything():
    x = tg.tensor([[1.0, np.nan], [np.inf, 2.0]], requires_grad=True)
    mask = tg.tensor([[True, False], [False, True]])
    for name in "sum prod amax amin mean logsumexp norm var".split():
        result = getattr(tg.masked, name)(x, dim=1, mask=mask, **({"correction": 0} if name == "var" else {}))
        (g,) = tg.autograd.grad(result.sum(), [x])
        assert np.isfinite(result.detach().numpy()).all()
        assert np.isfinite(g.numpy()).all()


def test_dir_shows_what_is_public():
    assert set(dir(tg.masked)) == set(tg.masked.__all__)
