"""Fourier transforms between real numbers: NumPy's values; they are linear, and so are their adjoints."""

from typing import Any

import numpy as np
import pytest

import tapegrad as tg

ONE: list[dict[str, Any]] = [{}, {"n": 7}, {"n": 4}, {"n": 11}, {"dim": 0}, {"dim": 1, "n": 1}]
SEVERAL: list[dict[str, Any]] = [{}, {"s": (3, 5)}, {"s": (4, -1), "dim": (2, 0)}, {"dim": (1, 2)}]
CASES = [(name, facts) for name in ("irfft", "hfft") for facts in ONE]
CASES += [(name, facts) for name in ("irfft2", "irfftn", "hfft2", "hfftn") for facts in SEVERAL]


def by_numpy(name: str, x: np.ndarray, norm: str, n: Any = None, dim: Any = None, s: Any = None) -> np.ndarray:
    """NumPy's; the transform of what is even is the inverse, which divides where that doesn't."""
    if name[0] == "h":
        norm = {"backward": "forward", "forward": "backward"}.get(norm, norm)
    if name in ("irfft", "hfft"):
        return np.fft.irfft(x, n, -1 if dim is None else dim, norm)
    dim = (-2, -1) if name[-1] == "2" and dim is None else dim
    dim = tuple(range(x.ndim - len(s), x.ndim)) if dim is None and s is not None else dim
    if s is not None:
        own = [2 * (x.shape[d] - 1) if d == dim[-1] else x.shape[d] for d in dim]
        s = [m if m > 0 else k for m, k in zip(s, own, strict=True)]
    return np.fft.irfftn(x, s, dim, norm)


@pytest.mark.parametrize(("name", "facts"), CASES)
def test_transforms_and_their_adjoints(name, facts):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    for norm in ("backward", "ortho", "forward"):
        t = tg.tensor(x, requires_grad=True)
        y = getattr(tg.fft, name)(t, norm=norm, **facts)
        expected = by_numpy(name, x, norm, **facts)
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
        seed = tg.tensor(np.random.default_rng(1).normal(size=expected.shape), requires_grad=True)
        (g,) = tg.autograd.grad(y, t, seed, create_graph=True)
        direction = np.random.default_rng(2).normal(size=x.shape)
        along = by_numpy(name, direction, norm, **facts)
        np.testing.assert_allclose((g.detach().numpy() * direction).sum(), (along * seed.detach().numpy()).sum())
        (back,) = tg.autograd.grad(g, seed, tg.tensor(direction))  # the adjoint's adjoint
        np.testing.assert_allclose(back.numpy(), along, rtol=1e-12, atol=1e-13)
    _, tangent = tg.func.jvp(
        lambda v: getattr(tg.fft, name)(v, norm="forward", **facts), (tg.tensor(x),), (tg.tensor(direction),)
    )
    np.testing.assert_allclose(tangent.numpy(), along, rtol=1e-12, atol=1e-13)


def test_shifts_and_frequencies():
    x = np.arange(12.0).reshape(3, 4)
    for dim in (None, 0, (0, 1), -1):
        for name in ("fftshift", "ifftshift"):
            np.testing.assert_array_equal(
                getattr(tg.fft, name)(tg.tensor(x), dim).numpy(), getattr(np.fft, name)(x, dim)
            )
    for n in (1, 4, 7):
        np.testing.assert_allclose(tg.fft.fftfreq(n, 0.5).numpy(), np.fft.fftfreq(n, 0.5))
        np.testing.assert_allclose(tg.fft.rfftfreq(n, 0.5).numpy(), np.fft.rfftfreq(n, 0.5))
    assert tg.fft.fftfreq(3, dtype=tg.float32, requires_grad=True).requires_grad


def test_dtypes_and_what_is_refused():
    assert tg.fft.irfft(tg.ones(3, dtype=tg.float32)).dtype is tg.float32
    assert tg.fft.hfft(tg.tensor([1, 2])).dtype is tg.float64
    x = tg.ones(2, 3, requires_grad=True)
    assert np.fft.irfft(x).requires_grad
    assert np.fft.hfft(x, axis=0).shape == (2, 3)
    for call, phrase in (
        (lambda: tg.fft.irfft(x, 0), "Invalid number of data points"),
        (lambda: tg.fft.irfft(x[:, :1]), "Invalid number of data points"),
        (lambda: tg.fft.irfft(x, norm="orto"), 'Invalid normalization mode: "orto"'),
        (lambda: tg.fft.irfftn(x, dim=(0, 0)), "FFT dims must be unique"),
        (lambda: tg.fft.irfftn(x, (3,), (0, 1)), "must have the same length"),
        (lambda: tg.fft.irfftn(x, (3, 3, 3)), "Got shape with 3 values"),
        (lambda: tg.fft.irfftn(x, dim=()), "at least one axis"),
    ):
        with pytest.raises(RuntimeError, match=phrase):
            call()
    with pytest.raises(IndexError, match="Dimension out of range"):
        tg.fft.irfft(x, dim=2)
    with pytest.raises(NotImplementedError, match="its result is complex, and tapegrad's numbers are real"):
        tg.fft.rfft(x)
