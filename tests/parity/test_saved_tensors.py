"""What nodes keep for their rules, and hooks of saved tensors: what they see, and what gradients make of it."""

import numpy as np
import pytest

import tapegrad

from .oracle import agree, programs, torch

GIVEN = """
F, _G = tg.nn.functional, tg.autograd.graph
class _Cubic(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x): ctx.save_for_backward(x); return x * x * x
    @staticmethod
    def backward(ctx, g): x, = ctx.saved_tensors; return g * 3 * x * x
def _error(function, length=60):
    try: function()
    except Exception as error: return type(error).__name__, str(error)[:length]
"""
PROGRAMS = programs("""
x, y = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor([3.0, 4.0], requires_grad=True); z = x * y
s = z.grad_fn._saved_self, z.grad_fn._saved_other; r = type(z.grad_fn._raw_saved_self).__name__; z.sum().backward()
e = _error(lambda: z.grad_fn._saved_self)
f = _error(lambda: z.grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t))

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x.square(); _raw = y.grad_fn._raw_saved_self
_raw.register_hooks(lambda t: 2 * t, lambda t: 3 * t); s = y.grad_fn._saved_self.detach(); y.sum().backward()
e = _error(lambda: x.square().grad_fn._raw_saved_self.register_hooks(1, 1), 50)

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x.square(); _raw = y.grad_fn._raw_saved_self
_raw.register_hooks(lambda t: t, lambda t: t); e = _error(lambda: _raw.register_hooks(lambda t: t, lambda t: t))

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * 1
with _G.saved_tensors_hooks(lambda t: t.mul_(2), lambda t: t): e = _error(lambda: y * x)

x = tg.tensor([1.0, 2.0], requires_grad=True)
with _G.saved_tensors_hooks(lambda t: 1, lambda t: 1): y = x * x
e = _error(lambda: y.sum().backward(), 80); f = _error(lambda: y.grad_fn._saved_self, 70)

x = tg.tensor([1.0, 2.0], requires_grad=True); _seen = []
with _G.saved_tensors_hooks(lambda t: (_seen.append("outer"), t)[1], lambda t: t):
    a = x.exp()
    with _G.saved_tensors_hooks(lambda t: (_seen.append("inner"), t * 0 + 1)[1], lambda t: t): b = a.sin()
    with _G.save_on_cpu(): c = b.square()
    d = c.tanh()
d.sum().backward(); seen = list(_seen)

x = tg.tensor([1.0, 2.0], requires_grad=True)
with _G.saved_tensors_hooks(lambda t: (t.device, t.cpu()), lambda p: p[1].to(p[0])): y = (x ** 3 * x.exp()).sum()
g, = tg.autograd.grad(y, x, create_graph=True); h, = tg.autograd.grad(g.sum(), x, create_graph=True)
k, = tg.autograd.grad(h.sum(), x)

x = tg.tensor([1.0, 2.0], requires_grad=True)
with _G.saved_tensors_hooks(lambda t: t.clone(), lambda t: 10 * t): y = (x * x).sum()
g, = tg.autograd.grad(y, x, create_graph=True); h, = tg.autograd.grad(g.sum(), x)

x = tg.tensor([1.0, 2.0], requires_grad=True); _seen = []
def _pack(t): _seen.append([t is x, t.requires_grad, t.is_leaf, tg.is_grad_enabled()]); return t
with _G.saved_tensors_hooks(_pack, lambda t: (_seen.append("unpacked"), t)[1]): y = (x * x).exp().sum()
y.backward(retain_graph=True); y.backward(); seen = list(_seen); e = _error(lambda: y.backward())

x = tg.tensor([1.0, 2.0], requires_grad=True)
def _fail(t): raise ValueError("no")
with _G.saved_tensors_hooks(_fail, lambda t: t): e = [_error(f) for f in (x.exp, lambda: x + 1, lambda: x * 2, x.sum)]
with _G.saved_tensors_hooks(lambda t: t, _fail): y = x.exp().sum()
f = _error(y.backward)

with _G.disable_saved_tensors_hooks("off here"):
    e = _error(lambda: _G.saved_tensors_hooks(lambda t: t, lambda t: t).__enter__())
    with _G.disable_saved_tensors_hooks("off twice"): f = _error(lambda: _G.save_on_cpu().__enter__())
    g = _error(lambda: _G.saved_tensors_hooks(lambda t: t, lambda t: t).__enter__())
with _G.saved_tensors_hooks(lambda t: t, lambda t: t): h = _error(_G.disable_saved_tensors_hooks("no").__enter__)

x = tg.tensor([1.0, 2.0], requires_grad=True); _seen = []
with _G.saved_tensors_hooks(lambda t: (_seen.append(tuple(t.shape)), t)[1], lambda t: t):
    with tg.no_grad():
        a = x * x
        with tg.enable_grad(): b = x.exp()
    c = x * x
d = x * x; seen = list(_seen); (b + c + d).sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x.clone(); _seen = []
with _G.saved_tensors_hooks(lambda t: (_seen.append(t.tolist()), t.clone())[1], lambda t: t):
    y.mul_(x); y.exp_(); y[0] = 3.0
y.sum().backward(); seen = list(_seen)

_net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 2)).double(); _seen = []
with tg.no_grad():
    for _p in _net.parameters(): _p.copy_(tg.arange(float(_p.numel())).reshape(_p.shape) / 10)
_pack = lambda t: t if isinstance(t, tg.nn.Parameter) else (_seen.append(tuple(t.shape)), t.tolist())[1]
_unpack = lambda kept: kept if isinstance(kept, tg.Tensor) else tg.tensor(kept, dtype=tg.float64)
with _G.saved_tensors_hooks(_pack, _unpack): y = _net(tg.ones(5, 3, dtype=tg.float64)).sum()
y.backward(); g = [p.grad for p in _net.parameters()]; seen = sorted(_seen)

import os as _os, shutil as _shutil, tempfile as _tempfile
_at, _n = _tempfile.mkdtemp(), []
def _pack(t):
    name = _os.path.join(_at, str(len(_n))); _n.append(1); tg.save(t, name); return name
x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
with _G.saved_tensors_hooks(_pack, lambda name: tg.load(name)): y = x.exp() * x
y.sum().backward(); n = len(_n); _shutil.rmtree(_at)

class _Cube(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x): y = x * x; ctx.save_for_backward(x, y); return y * x
    @staticmethod
    def backward(ctx, g): x, y = ctx.saved_tensors; return g * 3 * y + 0 * x
x = tg.tensor([1.0, 2.0], requires_grad=True); _seen = []
with _G.saved_tensors_hooks(lambda t: (_seen.append(t.tolist()), t.clone())[1], lambda t: 2 * t): y = _Cube.apply(x)
y.sum().backward(); seen = list(_seen)

x = tg.tensor([1.0, 2.0], requires_grad=True)
with _G.saved_tensors_hooks(lambda t: t.tolist(), lambda v: tg.tensor(v)): y = _Cubic.apply(x) * x.exp()
g, = tg.autograd.grad(y.sum(), x, create_graph=True); h, = tg.autograd.grad(g.sum(), x, create_graph=True)
k, = tg.autograd.grad(h.sum(), x)

_c = tg.utils.checkpoint; x, w = (tg.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0, 4.0]))
with _G.saved_tensors_hooks(lambda t: t.tolist(), lambda v: tg.tensor(v)):
    y = _c.checkpoint(lambda x: x.sin() * x * w, x, use_reentrant=False)
y.sum().backward()

x = tg.tensor([1.0], requires_grad=True); y = x.exp(); _n = y.grad_fn
same = y.grad_fn is _n, _n._saved_result.grad_fn is _n
a = (x + 1).grad_fn._saved_alpha, (x - x).grad_fn._saved_alpha
z = x / tg.tensor([4.0], requires_grad=True); s = z.grad_fn._saved_self, z.grad_fn._saved_other
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_hooks_of_saved_tensors(program):
    agree(GIVEN + program, text=False)


# What PyTorch's rules and ours read is the same: the hooks see as many tensors of the same shapes, in the same order.
ALIKE = """
x * y | x * 2 | x / y | x / 2 | x + y | x - y | x**2 | x**3 | x**0.5 | x**y | 2**x | x.exp() | x.log()
x.sin() | x.tan() | x.tanh() | x.sigmoid() | x.relu() | x.abs() | x.sqrt() | x.reciprocal() | x.sum() | x.mean()
x.prod() | x.max() | tg.maximum(x, y) | tg.where(x > 1, x, y) | x.clamp(min=0.5) | x.var() | x.norm()
x.logsumexp(0) | x.softmax(0)
x.log_softmax(0) | x.cumsum(0) | x.cumprod(0) | x @ y | m @ n | m.T @ n | tg.addmm(m, m, n) | F.linear(m, n, x)
F.mse_loss(x, y) | F.leaky_relu(x) | x.index_select(0, i) | x[i] | x[0] | tg.cat([x, y]) | m.T | x.sort()[0]
tg.linalg.inv(m) | tg.bmm(m[None], n[None]) | tg.outer(x, y) | tg.atan2(x, y) | tg.addcmul(x, y, z) | x.clone()
x.lerp(y, 0.5) | m.tril() | x.masked_fill(x > 1, 0) | F.dropout(x, 0.0) | F.embedding(i, m) | x.expand(3, 3) | m.trace()
"""


def seen(library, text):
    """The shapes that are packed, how many tensors are unpacked, and the gradients."""
    names = dict(zip("xyz", (library.tensor(v, dtype=library.float64) for v in POINTS), strict=True))
    names |= {name: library.tensor(np.random.default_rng(k).normal(size=(3, 3))) for k, name in enumerate("mn")}
    leaves = [names[name].requires_grad_() for name in "xymn"]
    names |= {"i": library.tensor([0, 2]), "tg": library, "F": library.nn.functional}
    packed, unpacked = [], []

    def pack(t):
        packed.append(tuple(t.shape))
        return t.detach().numpy().copy()

    def unpack(array):
        unpacked.append(1)
        return library.from_numpy(array)

    with library.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = eval(text, names)
    y.sum().backward()
    return packed, len(unpacked), [None if t.grad is None else t.grad.numpy() for t in leaves]


POINTS = [0.3, 1.2, 2.0], [1.5, 0.7, 0.9], [0.2, 0.5, 0.8]


def test_hooks_see_what_pytorch_saves():
    different = []
    for text in ALIKE.replace("\n", "|").split("|"):
        if not text.strip():
            continue
        expected, unpacked, theirs = seen(torch, text.strip())
        got, count, ours = seen(tapegrad, text.strip())
        for a, b in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(np.zeros(1) if b is None else b, np.zeros(1) if a is None else a, rtol=1e-9)
        if sorted(expected) != sorted(got) or unpacked != count:
            different.append((text, expected, got))
    assert not different
