"""What programs name in passing: devices, generators, files, limits of dtypes, random numbers, typed tensors."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tapegrad as tg


def test_devices():
    cpu = tg.device("cuda" if tg.cuda.is_available() else "cpu")
    assert (cpu.type, cpu.index, str(cpu), repr(cpu)) == ("cpu", None, "cpu", "device(type='cpu')")
    assert tg.ones(2).device == cpu == tg.ones(2, device=cpu).to(cpu).cpu().device
    assert pickle.loads(pickle.dumps(cpu)) == cpu
    assert repr(tg.device("cuda", 1)) == "device(type='cuda', index=1)"
    assert tg.cuda.device_count() == 0
    tg.set_default_device("cpu")
    tg.backends.cudnn.benchmark = True
    for refused in (lambda: tg.ones(2, device="cuda:0"), tg.ones(2).cuda, lambda: tg.set_default_device("mps")):
        with pytest.raises(RuntimeError, match="computes on the CPU"):
            refused()
    with pytest.raises(RuntimeError, match="Expected one of cpu, cuda"):
        tg.device("elsewhere")


def test_generators_repeat_what_they_give():
    draws = (
        lambda g: tg.rand(3, generator=g), lambda g: tg.randn(3, generator=g), lambda g: tg.randperm(5, generator=g),
        lambda g: tg.rand_like(tg.ones(3), generator=g), lambda g: tg.randn_like(tg.ones(3), generator=g),
        lambda g: tg.randint_like(tg.ones(9), 9, generator=g), lambda g: tg.ones(3).normal_(generator=g),
        lambda g: tg.ones(3).uniform_(-1, 1, generator=g), lambda g: tg.randn(3, generator=g, out=tg.ones(3)),
        lambda g: tg.randint(0, 9, (4,), generator=g), lambda g: tg.normal(0.0, 1.0, size=(3,), generator=g),
        lambda g: tg.multinomial(tg.ones(5), 3, generator=g), lambda g: tg.bernoulli(tg.full((9,), 0.5), generator=g),
    )  # fmt: skip
    for draw in draws:
        a, b = tg.Generator().manual_seed(4), tg.Generator().manual_seed(4)
        first, other = draw(a), draw(a)
        assert first.equal(draw(b))
        assert not first.equal(other) or first.numel() < 6
    assert tg.Generator().manual_seed(4).initial_seed() == 4
    state = tg.get_rng_state()
    x = tg.rand(3)
    tg.set_rng_state(state)
    assert tg.rand(3).equal(x)


def test_random_numbers_have_their_distributions():
    g, n = tg.Generator().manual_seed(0), 20_000
    assert tg.normal(2.0, 3.0, size=(n,), generator=g).std().item() == pytest.approx(3.0, rel=0.05)
    assert tg.normal(tg.full((n,), 2.0), 1.0, generator=g).mean().item() == pytest.approx(2.0, rel=0.05)
    assert tg.bernoulli(tg.full((n,), 0.3), generator=g).mean().item() == pytest.approx(0.3, rel=0.05)
    assert tg.poisson(tg.full((n,), 4.0), generator=g).var().item() == pytest.approx(4.0, rel=0.05)
    weights = tg.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 0.0]])
    drawn = tg.multinomial(weights, n, replacement=True, generator=g).numpy()
    np.testing.assert_allclose(np.bincount(drawn[0], minlength=3) / n, [0.25, 0.0, 0.75], atol=0.02)
    assert set(drawn[1]) == {1}
    firsts = [tg.multinomial(weights[0], 2, generator=g).tolist() for _ in range(2000)]
    assert {tuple(sorted(f)) for f in firsts} == {(0, 2)}
    np.testing.assert_allclose(np.mean([f[0] == 2 for f in firsts]), 0.75, atol=0.04)


@pytest.mark.parametrize(
    ("call", "phrase"),
    [
        (lambda: tg.multinomial(tg.ones(2), 3), "without replacement"),
        (lambda: tg.multinomial(tg.tensor([-1.0, 1.0]), 1), "element < 0"),
        (lambda: tg.multinomial(tg.zeros(2), 1), "sum of probabilities <= 0"),
        (lambda: tg.bernoulli(tg.tensor([2.0])), "expects p to be in"),
        (lambda: tg.normal(0.0, -1.0, size=(2,)), "std >= 0.0"),
    ],
)
def test_random_refusals(call, phrase):
    with pytest.raises(RuntimeError, match=phrase):
        call()


def test_what_is_saved_is_loaded(tmp_path):
    model = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.BatchNorm1d(3))
    optimizer = tg.optim.Adam(model.parameters())
    model(tg.ones(4, 2)).sum().backward()
    optimizer.step()
    shared = tg.arange(3)
    everything = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "loss": float("inf"),
        "names": ["a", ("b", None, True)], 7: np.arange(4, dtype=np.float32).reshape(2, 2), "dtype": tg.float32,
        "twice": [shared, shared], "leaf": tg.ones(2, requires_grad=True), "empty": tg.zeros(0, 3),
        "scalar": tg.tensor(2),
    }  # fmt: skip
    for file in (tmp_path / "all.tg", str(tmp_path / "other.tg")):
        tg.save(everything, file)
        found = tg.load(file, map_location="cpu")
        assert isinstance(found["model"], OrderedDict)
        assert list(found) == list(everything)
        assert found["twice"][0] is found["twice"][1]
        assert found["leaf"].requires_grad
        assert found["names"] == ["a", ("b", None, True)]
        assert (found["epoch"], found["loss"], found["dtype"]) == (3, float("inf"), tg.float32)
        assert found["empty"].shape == (0, 3)
        assert found["scalar"].dtype is tg.int64
        np.testing.assert_array_equal(found[7], everything[7])
        again = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.BatchNorm1d(3))
        again.load_state_dict(found["model"])
        model.eval(), again.eval()
        assert again(tg.ones(1, 2)).equal(model(tg.ones(1, 2)))
        tg.optim.Adam(again.parameters()).load_state_dict(found["optimizer"])


def test_files_are_data_and_others_are_refused(tmp_path):
    with pytest.raises(TypeError, match="state_dict"):
        tg.save(tg.nn.Linear(1, 1), io.BytesIO())
    assert not list(tmp_path.iterdir())
    for content in (b"", b"PK", pickle.dumps([1, 2])):
        with pytest.raises(RuntimeError, match=r"was not written by tapegrad.save"):
            tg.load(io.BytesIO(content))
    with pytest.raises(FileNotFoundError):
        tg.load(tmp_path / "nothing")


def test_limits_and_types():
    info = tg.finfo(tg.float32)
    assert (info.bits, info.eps, info.max) == (32, 2.0**-23, float(np.finfo(np.float32).max))
    assert tg.finfo().dtype == "float64"
    assert (tg.iinfo(tg.int32).min, tg.iinfo(tg.int64).bits) == (-(2**31), 64)
    with pytest.raises(TypeError, match="floating point"):
        tg.finfo(tg.int32)
    with pytest.raises(TypeError, match="integer"):
        tg.iinfo(tg.float32)
    x = tg.FloatTensor([1, 2])
    assert x.dtype is tg.float32
    assert isinstance(x, tg.FloatTensor)
    assert not isinstance(x, tg.LongTensor)
    assert tg.LongTensor(2, 3).shape == (2, 3)
    assert x.type() == "tapegrad.FloatTensor"
    assert x.type(tg.float64).dtype is x.type("torch.DoubleTensor").dtype is x.type(tg.DoubleTensor).dtype is tg.float64
    assert not x.is_cuda


def test_there_is_one_generator_of_all():
    assert tg.manual_seed(7).initial_seed() == tg.initial_seed() == tg.random.initial_seed() == 7
    a = tg.rand(3)
    tg.random.manual_seed(7)
    assert tg.rand(3, generator=tg.random.default_generator).equal(a)
    tg.manual_seed(7)
    with tg.random.fork_rng():
        tg.manual_seed(1)
        assert not tg.rand(3).equal(a)
        assert tg.initial_seed() == 1
    assert tg.initial_seed() == 7
    assert tg.rand(3).equal(a)
    assert tg.seed() == tg.initial_seed()


def test_a_variable_is_a_tensor():
    x = tg.ones(2)
    v = tg.autograd.Variable(x, requires_grad=True)
    assert (v.requires_grad, v.is_leaf, x.requires_grad) == (True, True, False)
    v.data.add_(1)
    assert x.tolist() == [2.0, 2.0]
    assert isinstance(x, tg.autograd.Variable)
    assert not isinstance(1.0, tg.autograd.Variable)
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got list"):
        tg.autograd.Variable([1.0])


def test_numpy_asks_for_no_detach_where_nothing_is_recorded():
    x = tg.ones(2, requires_grad=True)
    with tg.no_grad():
        array = x.numpy()
        array += 1
    assert x.tolist() == [2.0, 2.0]
    assert x.requires_grad
    with pytest.raises(RuntimeError, match="Can't call numpy"):
        x.numpy()


def test_the_default_dtype_by_the_class_of_its_tensors():
    before = tg.get_default_dtype()
    try:
        tg.set_default_tensor_type("torch.FloatTensor")
        assert tg.tensor(1.0).dtype is tg.float32
        tg.set_default_tensor_type(tg.DoubleTensor)
        assert tg.tensor(1.0).dtype is tg.float64
        for wrong in (3, "DoubleTensors", tg.LongTensor):
            with pytest.raises(TypeError):
                tg.set_default_tensor_type(wrong)
    finally:
        tg.set_default_dtype(before)


def test_choices_that_are_none_here():
    tg.use_deterministic_algorithms(True, warn_only=True)
    assert tg.are_deterministic_algorithms_enabled()
    tg.set_float32_matmul_precision("high")
    assert tg.get_float32_matmul_precision() == "highest"
    with pytest.raises(RuntimeError, match="is not one of"):
        tg.set_float32_matmul_precision("low")
    with tg.autograd.set_multithreading_enabled(False):
        assert tg.autograd.grad_mode.no_grad is tg.no_grad
    x = tg.ones(2)
    assert x[:, tg.newaxis].shape == (2, 1)
    assert (x.new(3).shape, x.long().new([1.0]).dtype, x.new(x.shape).shape) == ((3,), tg.int64, (2,))
    assert (tg.float32.is_signed, tg.bool.is_signed, tg.float64.is_complex) == (True, False, False)
    assert tg.finfo(tg.float32).resolution == 1e-6


def test_compile_takes_the_choices_of_compilers():
    f = tg.compile(tg.sin, mode="reduce-overhead", fullgraph=True, dynamic=False)
    assert f(tg.zeros(2)).tolist() == [0.0, 0.0]
    assert tg.compile(disable=True)(tg.sin) is tg.sin


def test_gradients_come_before_the_value():
    x = tg.tensor([1.0, 2.0])
    g, y = tg.func.grad_and_value(lambda x: (x**3).sum())(x)
    assert (g.tolist(), y.item()) == ([3.0, 12.0], 9.0)
    g, (y, aux) = tg.func.grad_and_value(lambda x: ((x**3).sum(), x + 1), has_aux=True)(x)
    assert (g.tolist(), y.item(), aux.tolist()) == ([3.0, 12.0], 9.0, [2.0, 3.0])
    gs, ys = tg.vmap(tg.func.grad_and_value(lambda v: v**2))(x)
    assert (gs.tolist(), ys.tolist()) == ([2.0, 4.0], [1.0, 4.0])
