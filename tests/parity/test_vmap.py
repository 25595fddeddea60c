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

_w = tg.tensor(reals(3, 5)); _i = tg.tensor([0, 2, 1, 1]); x = tg.tensor(reals(4, 3))
y = tg.func.vmap(lambda v, i: v[i])(x, _i); z = tg.func.vmap(lambda i: _w[:, i])(_i)
u = tg.func.vmap(lambda v, i: v[i])(x, _i - 3)

_i = tg.tensor([[0, 1]] * 4); x = tg.tensor(reals(4, 3, 2, 5))
y = tg.func.vmap(lambda m, i, j: m[i, :, j])(x, _i, _i); z = tg.func.vmap(lambda m, i: m[:, i, i])(x, _i)
u = tg.func.vmap(lambda m, i: m[1, None, ..., i])(x, _i)

_i = tg.tensor([[0, 1], [2, 2], [0, 0], [1, 2]]); x = tg.tensor(reals(4, 3))
y = tg.func.vmap(lambda v, i: v.gather(0, i))(x, _i)
z = tg.func.vmap(lambda v, i: tg.zeros_like(v).scatter_add(0, i, v[:2]))(x, _i)
u = tg.func.vmap(lambda v, i: v.index_select(0, i))(x, _i)

def _f(v, i):
    v = v.clone(); v[i] = v[0] + 7.0; return v
def _g(v):
    v = v.clone(); v[0] = 7.0; v[0] += v[1]; v[1:].mul_(3); return v
x = tg.tensor(reals(4, 3)); y = tg.func.vmap(_g)(x); z = tg.func.vmap(tg.func.grad(lambda v: (_g(v) ** 2).sum()))(x)

x, _w, _t = tg.tensor(reals(4, 3)), tg.tensor(reals(3, 5)), tg.tensor([0, 2, 1, 4])
_ce = tg.nn.functional.cross_entropy
y = tg.func.vmap(tg.func.grad(lambda w, x, t: _ce((x @ w)[None], t[None])), (None, 0, 0))(_w, x, _t)
z = tg.func.vmap(lambda x, t: _ce(x @ _w, t, label_smoothing=0.1))(x, _t)

x, _t = tg.tensor(reals(4, 6, 3)), tg.arange(24).reshape(4, 6) % 3
y = tg.func.vmap(lambda x, t: tg.nn.functional.cross_entropy(x, t, ignore_index=1))(x, _t)
z = tg.func.vmap(lambda x, t: tg.nn.functional.nll_loss(x, t, tg.tensor([1.0, 2.0, 3.0]).double()))(x, _t)
u = tg.func.vmap(lambda x, t: tg.nn.functional.nll_loss(x, t, reduction="none"))(x, _t)

_i = tg.tensor([[0, 1], [2, 2], [0, 0], [1, 2]]); _w = tg.tensor(reals(3, 5)); _m = tg.tensor(reals(4, 3, 2))
y = tg.func.vmap(lambda i: tg.nn.functional.embedding(i, _w, padding_idx=0))(_i)
z = tg.func.vmap(tg.nn.functional.embedding)(_i, _m)
u = tg.func.vmap(lambda i: tg.nn.functional.one_hot(i, 4))(_i)
c = tg.func.vmap(lambda i: i.bincount(minlength=3))(_i)

x, w = tg.tensor(reals(4, 3, 5, 5)), tg.tensor(reals(2, 3, 3, 3))
_loss = lambda w, x: tg.nn.functional.conv2d(x[None], w, padding=1).pow(2).sum()
y = tg.func.vmap(tg.func.grad(_loss), (None, 0))(w, x)
z = tg.func.vmap(lambda x: tg.nn.functional.max_pool2d(x, 2))(x)
u = tg.func.vmap(lambda w: tg.nn.functional.conv_transpose2d(x[:, :2], w, stride=2))(tg.tensor(reals(4, 2, 3, 2, 2)))

x = tg.tensor(reals(4, 2, 5, 3)); y = tg.func.vmap(tg.nn.functional.scaled_dot_product_attention)(x, x + 1, x * 2)
z = tg.func.vmap(lambda v: tg.nn.functional.layer_norm(v, (3,)))(x)
u = tg.func.vmap(lambda v: tg.nn.functional.batch_norm(v, None, None, training=True))(x)

x, y = tg.tensor(reals(4, 3)), tg.tensor(reals(4, 3))
z = tg.func.vmap(lambda a: tg.func.vmap(lambda b: a @ b)(y))(x)
u = tg.func.vmap(tg.func.vmap(lambda a, b: (a * b).sum(), (None, 0)), (0, None))(x, y)

x = tg.tensor(reals(4, 3)); y = tg.func.vmap(lambda v, m: (v * 2, m), (0, 1), (1, -1))(x, tg.tensor(reals(5, 4, 2)))
z = tg.func.vmap(lambda v: (v * 2, tg.ones(2)), out_dims=(0, None))(x); u = tg.func.vmap(lambda v: tg.ones(2))(x)

_a, _b = tg.arange(4), tg.tensor(reals(4)).float(); y = tg.func.vmap(lambda a, b: a * b)(_a, _b)
z = tg.func.vmap(lambda a, b: a * b)(_b.double(), tg.tensor(reals(4, 3)).float())
u = tg.func.vmap(lambda v: v * 2)(tg.zeros(0, 3))

x = tg.tensor(reals(4, 3, 3)); y = tg.func.vmap(lambda a: tg.linalg.solve(a + 9 * tg.eye(3), a[0]))(x)
z = tg.func.vmap(lambda a: tg.linalg.cholesky(a @ a.mT + tg.eye(3)))(x); u = tg.func.vmap(tg.linalg.slogdet)(x)

x = tg.tensor(reals(4, 3)); y = tg.func.vmap(lambda v: tg.topk(v, 2))(x); z = tg.func.vmap(lambda v: v.max(0))(x)
u = tg.func.vmap(lambda v: v.sort(descending=True))(x); w = tg.func.vmap(lambda v: v.argmin())(x)

x = tg.ones(3, requires_grad=True); _y = x ** 2; z = tg.func.vmap(lambda v: tg.autograd.grad(_y, x, v)[0])(tg.eye(3))

_i = tg.tensor(reals(4, 3)); z = tg.func.vmap(lambda v: sum(a for a in v) * len(v) + v.size(0) + v.dim())(_i)

x = tg.tensor(reals(5, 3)); y = tg.func.vmap(lambda v: (v.exp(), v.sum()), chunk_size=2)(x)
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_vmap(program):
    agree(program, text=False)


IN_FORM = programs("""
def _f(x):
    y = x * 1; z = y[1:]; y.unsqueeze_(0); y.add_(1); z.mul_(3); return y, z, x.unsqueeze(0).squeeze_(0) * 2
y = tg.func.vmap(_f)(tg.arange(6.0).reshape(2, 3)); z = tg.func.vmap(lambda x: x * 2, out_dims=(1,))(tg.ones(2, 3))

def _f(w, x, t): x = x.mm(w); y = x.squeeze_(0); return ((y - t) ** 2).sum()
_x, _t = tg.arange(12.0).reshape(4, 1, 3), tg.ones(4, 2)
y = tg.func.vmap(tg.func.grad(_f), (None, 0, 0))(tg.arange(6.0).reshape(3, 2), _x, _t)
""")


@pytest.mark.parametrize("program", IN_FORM)
def test_forms_that_change_in_place(program):
    agree(program, text=False)


@pytest.mark.parametrize("given", ["_a", "(_a,)"])
def test_functional_call_gives_back_what_the_module_assigned(given):
    agree(
        f"""
class _Counting(tg.nn.Module):
    def __init__(self): super().__init__(); self.register_buffer("n", tg.zeros(()))
    def forward(self, x): self.n = self.n + 1; return x + self.n
_m = _Counting(); _a = dict(n=tg.tensor(3.0)); y = tg.func.functional_call(_m, {given}, tg.ones(())); z = _m.n, _a["n"]
""",
        text=False,
    )


def test_functional_call_sets_attributes_that_are_no_parameters_while_it_runs():
    agree(
        """
class _Scaled(tg.nn.Module):
    def __init__(self): super().__init__(); self.w = tg.nn.Parameter(tg.ones(2)); self.plain = tg.ones(2)
    def forward(self, x): return x * self.w * self.plain * getattr(self, "more", 1.0)
_m = tg.nn.Sequential(_Scaled()); _given = {"0.plain": tg.ones(2) * 3, "0.more": tg.ones(2) * 5}
y = tg.func.functional_call(_m, _given, tg.ones(2)); z = _m(tg.ones(2)); has = hasattr(_m[0], "more")
""",
        text=False,
    )


_BACKWARD = "backward() called inside a functorch transform. This is not supported, please use functorch.grad or"
_DYNAMIC = "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over aten::"
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
    ("tg.func.vmap(lambda x: x if x > 0 else -x)(tg.ones(2))", "attempting to use a Tensor in some data-dependent"),
    ("tg.func.vmap(lambda x: x * x.item())(tg.ones(2))", "It looks like you're calling .item() on a Tensor"),
    (
        "tg.func.vmap(lambda x: x[x > 0])(tg.ones(2, 3))",
        "We do not support batching operators that can support dynamic",
    ),
    (
        "tg.func.vmap(lambda x: tg.zeros(3).copy_(x))(tg.ones(2, 3))",
        "vmap: inplace arithmetic(self, *extra_args) is not",
    ),
    (
        "t = tg.zeros(3); tg.func.vmap(lambda x: x + t.exponential_(), randomness='different')(tg.ones(2))",
        "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will appear like same",
    ),
    ("tg.func.vmap(lambda x: x, out_dims='one')(tg.ones(2))", "`out_dims` must be an int, None or a python collection"),
    ("tg.func.jacrev(lambda x: x, argnums=())(tg.ones(1))", "argnums must be non-empty"),
    (
        "tg.func.vjp(lambda x: None, tg.ones(1))",
        "Expected f to be a function that has non-empty output (got output = [",
    ),
    (
        "tg.func.jacfwd(lambda x: ())(tg.ones(1))",
        "Expected f to be a function that has non-empty output (got output = [",
    ),
    (
        "tg.func.jvp(lambda x: x, (tg.ones(1),), (tg.ones(1),), has_aux=True)",
        "jvp(f, primals, tangents): output of function f should be a tuple: (output, aux) if has_aux is True",
    ),
    ("tg.func.jvp(lambda: 1, (), ())", "jvp(f, primals, tangents): Expected primals to contain at least one Tensor."),
    ("tg.func.vmap(lambda x: x, out_dims=None)(tg.ones(2))", "can not return a BatchedTensor when out_dim is None"),
    ("tg.func.vmap(lambda x: x, chunk_size=0)(tg.ones(2))", "chunk_size should be None or greater than 0"),
    ("tg.func.vmap(lambda x: ((x * 2).sum().backward(), x)[1])(tg.ones(2, 3, requires_grad=True))", _BACKWARD),
    (
        "w = tg.ones(2, requires_grad=True); tg.func.vmap(lambda x: (w.sum().backward(), x)[1])(tg.ones(2, 3))",
        _BACKWARD,
    ),
    (
        "w = tg.ones(2, requires_grad=True); tg.func.vmap(tg.func.grad(lambda x: (w.sum().backward(), x.sum())[1]))"
        "(tg.ones(2, 3))",
        _BACKWARD,
    ),
    (
        "tg.func.vmap(lambda x: x.requires_grad_())(tg.ones(2))",
        "You are attempting to call Tensor.requires_grad_() (or",
    ),
    (
        "tg.func.vmap(lambda x: x * tg.ones(2).requires_grad_())(tg.ones(2))",
        "You are attempting to call Tensor.require",
    ),
    ("tg.func.vmap(lambda x: x.nonzero())(tg.ones(2, 3))", _DYNAMIC + "nonzero"),
    ("tg.func.vmap(lambda x: tg.where(x)[0])(tg.ones(2, 3))", _DYNAMIC + "where"),
    ("tg.func.vmap(lambda x: tg.unique_consecutive(x))(tg.ones(2, 3))", _DYNAMIC + "unique_consecutive"),
    ("tg.func.vmap(lambda x: tg.unique(x))(tg.ones(2, 3))", _DYNAMIC),
    ("tg.func.vmap(lambda x: x, out_dims=3)(tg.ones(2))", "Dimension out of range"),
    ("tg.func.vmap(lambda x: setattr(x, 'data', x * 2))(tg.ones(2))", "mutating directly with `.data` under vmap"),
    ("tg.func.functional_call(tg.nn.Linear(2, 1), 3, tg.ones(2))", "Expected parameter_and_buffer_dicts to be a dict"),
    (
        "tg.func.functional_call(tg.nn.Linear(2, 1), {'some': tg.ones(1)}, tg.ones(2), strict=True)",
        "Error(s) in reparametrizing for Linear:\n\tUnexpected key(s): 'some'.\n\tMissing key(s): 'bias', 'weight'.",
    ),
    ("tg.func.functional_call(tg.nn.Linear(2, 1), {'a.b': tg.ones(1)}, tg.ones(2))", "Linear has no attribute `a`"),
    (
        "tg.func.functional_call(tg.nn.Linear(2, 1), [{'bias': tg.ones(1)}] * 2, tg.ones(2))",
        "['bias'] appeared in multiple dictionaries; behavior of functional call is ambiguous",
    ),
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
