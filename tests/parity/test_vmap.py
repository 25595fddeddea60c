"""func.vmap, functional_call and stack_module_state beside PyTorch's."""

import numpy as np
import pytest

import tapegrad

from .oracle import agree, programs, refuse_alike, torch

PROGRAMS = programs("""
x = tg.tensor(reals(3, 4)); y = tg.func.vmap(lambda v: (v * v).sum())(x)

x = tg.tensor(reals(3, 4)); y = tg.func.vmap(lambda v, w: v @ w, in_dims=(0, None))(x, tg.tensor(reals(4)))

x = tg.tensor(reals(3, 4)); y = tg.func.vmap(lambda v: v.exp(), in_dims=1, out_dims=1)(x)

x = tg.tensor(reals(3, 4)); y = tg.func.vmap(lambda v: (v.sum(), {"a": v * 2}), out_dims=(0, {"a": 1}))(x)

x = tg.tensor(reals(3, 4)); _p = {"a": x, "b": x[0]}
y = tg.func.vmap(lambda p: p["a"] * p["b"], in_dims=({"a": 0, "b": None},))(_p)

x = tg.tensor(reals(2, 3, 4)); y = tg.func.vmap(tg.func.vmap(lambda v: v / v.norm()))(x)

x = tg.tensor(reals(3, 4)); y = tg.func.vmap(tg.func.grad(lambda v: (v ** 3).sum()))(x)

x = tg.tensor(reals(3, 2)); y = tg.func.vmap(tg.func.hessian(lambda v: (v ** 3).prod()))(x)

x = tg.tensor(reals(3, 2)); y = tg.func.jacrev(tg.func.vmap(lambda v: v.cumsum(0) * v))(x)

x = tg.tensor(reals(3, 4), requires_grad=True); y = tg.func.vmap(lambda v: v.sin().sum())(x)
(y * tg.arange(3.)).sum().backward()

x = tg.tensor(reals(3, 4)); y = tg.func.vmap(lambda v, *, w: v * w)(x, w=tg.tensor(reals(4)))

x = tg.tensor(reals(3, 4)); y = tg.func.grad(lambda x: tg.func.vmap(lambda v: v.prod())(x).sum())(x)

x = tg.tensor(reals(3, 4)); y = tg.func.vmap(lambda v: v[1:3])(x); z = tg.vmap(lambda v: v.max())(x)

x = tg.tensor(reals(5, 3)); y = tg.func.vmap(tg.func.jvp, in_dims=(None, (0,), (0,)))(tg.sin, (x,), (x,))
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_vmap(program):
    agree(program, text=False)


REFUSED = [
    ("tg.func.vmap(lambda: 3)()", "got no inputs"),
    (
        "tg.func.vmap(lambda x, y: x)(tg.ones(2), tg.ones(3))",
        "Expected all tensors to have the same size in the mapped",
    ),
    ("tg.func.vmap(lambda x: x)(3)", "We cannot vmap over non-Tensor arguments"),
    ("tg.func.vmap(lambda x: x, in_dims=2)(tg.ones(2))", "but that input is a Tensor of dimensionality 1"),
    ("tg.func.vmap(lambda x: x, in_dims=(0, 0))(tg.ones(2))", "in_dims is not compatible with the structure"),
    ("tg.func.vmap(lambda x: x * tg.rand(1))(tg.ones(2))", "called random operation while in randomness error mode"),
    ("tg.func.vmap(lambda x: x, randomness='some')(tg.ones(2))", "Only allowed values for randomness are"),
    ("tg.func.vmap(lambda x: 'a')(tg.ones(2))", "must only return Tensors, got type"),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(program, phrase)


def test_chance():
    tg = tapegrad
    x = tg.zeros(4, 2)
    same = tg.func.vmap(lambda v: v + tg.rand(2), randomness="same")(x)
    different = tg.func.vmap(lambda v: v + tg.rand(2), randomness="different")(x)
    assert (same == same[0]).all()
    assert len(set(different[:, 0].tolist())) == 4


def test_arrays_come_back_as_arrays():
    x = np.random.default_rng(0).normal(size=(3, 4))
    y = tapegrad.func.vmap(lambda v: v.sum() * v)(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, x.sum(1, keepdims=True) * x)


def test_per_sample_gradients_and_ensembles():
    rng = np.random.default_rng(1)
    xs, ys = rng.normal(size=(6, 3)), rng.integers(0, 2, 6)
    weights = [rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(2, 4)), rng.normal(size=2)]
    results = []
    for lib in (torch, tapegrad):

        def net(lib=lib, scale=1.0):
            m = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.Tanh(), lib.nn.Linear(4, 2)).to(lib.float64)
            for p, w in zip(m.parameters(), weights, strict=True):
                p.data.copy_(lib.tensor(w * scale))
            return m

        model = net()
        given = {name: p.detach() for name, p in model.named_parameters()}

        def loss(params, x, y, lib=lib, model=model):
            out = lib.func.functional_call(model, params, (x.unsqueeze(0),))
            return lib.nn.functional.cross_entropy(out, y.unsqueeze(0))

        per_sample = lib.func.vmap(lib.func.grad(loss), in_dims=(None, 0, 0))(given, lib.tensor(xs), lib.tensor(ys))
        params, buffers = lib.func.stack_module_state([net(scale=s) for s in (1.0, 0.5, 2.0)])
        many = lib.func.vmap(
            lambda p, b, x, lib=lib, model=model: lib.func.functional_call(model, (p, b), (x,)), in_dims=(0, 0, None)
        )(params, buffers, lib.tensor(xs))
        results.append([t.detach().numpy() for t in (*per_sample.values(), many)])
        assert model[0].weight is next(iter(model.parameters()))
        assert model[0].weight.requires_grad
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10)
