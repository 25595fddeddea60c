"""Sobol sequences: PyTorch's points."""

import pytest

import tapegrad as tg

torch = pytest.importorskip("torch")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dimension", [1, 3, 40])
def test_plain_sequences_are_pytorchs(dimension: int):
    drawn = []
    for package in torch, tg:
        engine = package.quasirandom.SobolEngine(dimension)
        parts = [engine.draw(3, dtype=package.float64), engine.draw(1), engine.fast_forward(5).draw(2)]
        parts += [engine.reset().draw_base2(3), engine.fast_forward(2).draw(dtype=package.float32)]
        drawn.append([part.tolist() for part in parts])
        assert engine.num_generated == 11
        assert repr(engine) == f"SobolEngine(dimension={dimension})"
        with pytest.raises(ValueError, match="power of 2"):
            engine.draw_base2(2)
        with pytest.raises(ValueError, match="Supported range"):
            package.quasirandom.SobolEngine(0)
    assert drawn[0] == drawn[1]


@pytest.mark.filterwarnings("error")
def test_scrambled_sequences_repeat_by_their_seeds():
    first, again, other = (tg.quasirandom.SobolEngine(4, scramble=True, seed=seed).draw(64) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert (first >= 0).all()
    assert (first < 1).all()
    # In every quarter of every coordinate lies a quarter of the points.
    assert all(((first * 4).floor() == quarter).sum(0).tolist() == [16] * 4 for quarter in range(4))
    tg.manual_seed(0)
    drawn = tg.quasirandom.SobolEngine(2, scramble=True).draw(4)
    tg.manual_seed(0)
    assert tg.quasirandom.SobolEngine(2, scramble=True).draw(4).tolist() == drawn.tolist()
