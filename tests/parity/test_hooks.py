"""Hooks of tensors and of nodes, and what a node tells of itself."""

import pytest

from .oracle import agree, programs, refuse_alike

PROGRAMS = programs("""
x = tg.ones(2, requires_grad=True); _h = x.register_hook(lambda g: g * 2); x.sum().backward()

x = tg.ones(2, requires_grad=True); _h = x.register_hook(lambda g: None); (x * 3).sum().backward()

x = tg.ones(2, requires_grad=True); _h = x.register_hook(lambda g: g * 2); _k = x.register_hook(lambda g: g + 1)
(x * 3).sum().backward(); _h.remove(); first = x.grad.clone(); x.grad = None; (x * 3).sum().backward()

x = tg.ones(2, requires_grad=True); y = x * 3; _h = y.register_hook(lambda g: g * 10); z = y.exp().sum() + y.sum()
z.backward()

x = tg.ones(2, requires_grad=True); y = x * 3; _seen = []; _h = y.register_hook(lambda g: _seen.append(g.tolist()))
(y.exp().sum() + y.sum()).backward(); seen = _seen

x = tg.tensor([1.0, 2.0], requires_grad=True); w = tg.tensor([[3.0, 4.0]], requires_grad=True)
_n = [(x * w[0]), x.exp(), x ** 3, x.square(), w @ w.T, x.softmax(0), w.log(), x ** 0.5, (x * 2.0).sin(), x.tanh()]
_known = {"self", "other", "result", "exponent", "mat2"}
saved = [sorted({k[7:] for k in dir(t.grad_fn) if k[:7] == "_saved_"} & _known) for t in _n]
s = _n[0].grad_fn._saved_self is x, _n[2].grad_fn._saved_exponent, _n[7].grad_fn._saved_exponent
r = _n[8].grad_fn._saved_self, _n[1].grad_fn._saved_result
g = tg.autograd.grad(_n[8].grad_fn._saved_self.sum(), x)

_seen = []; x, z = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
class _M(tg.nn.Module):
    def forward(self, a, b, c, d): _seen.append([b.requires_grad, c.requires_grad]); return a.sum() + b.sum() + d, b
_m = _M(); _h = _m.register_full_backward_hook(lambda m, x_bars, y_bars: _seen.append([x_bars, y_bars]))
_y = _m(x, tg.ones(2), z, 2.0); _y[0].backward(); seen = _seen + [_y[1].requires_grad]

x = tg.ones(2, requires_grad=True); y = x * 3; _h = y.register_hook(lambda g: g * 2); y.retain_grad()
(y ** 2).sum().backward(); grad = y.grad

x = tg.ones(2, requires_grad=True); y = x * 3; y.retain_grad(); _h = y.register_hook(lambda g: g * 2)
(y ** 2).sum().backward(); grad = y.grad

x = tg.ones(2, requires_grad=True); y = x * 3; _h = y.register_hook(lambda g: g * 2)
g, h = tg.autograd.grad((y ** 2).sum(), [x, y])

x = tg.ones(2, requires_grad=True); _h = x.register_hook(lambda g: g * 2); (g,) = tg.autograd.grad((x ** 2).sum(), x)

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * x; _h = y.register_hook(lambda g: g * x)
(g,) = tg.autograd.grad((y * y).sum(), x, create_graph=True); (h,) = tg.autograd.grad(g.sum(), x)

x = tg.ones(2, requires_grad=True); y = x * 3; _h = y.register_hook(lambda g: g * 2); (y ** 2).sum().backward()
_h.remove(); _h.remove(); x.grad = None; (x * 3).sum().backward()

x = tg.ones(2, requires_grad=True)
with x.register_hook(lambda g: g * 2): (x * 3).sum().backward()
first = x.grad.clone(); (x * 3).sum().backward()

x = tg.ones(2, requires_grad=True); y = x * 3
def _f():
    z = y * 2; z.register_hook(lambda g: g * 5); return z.sum()
_f().backward()

x = tg.ones(2, requires_grad=True); y = (x * 3).exp()
_h = y.grad_fn.register_hook(lambda gi, go: (gi[0] * 2,)); y.sum().backward()

x = tg.ones(2, requires_grad=True); y = (x * 3).exp(); _seen = []
_h = y.grad_fn.register_hook(lambda gi, go: _seen.append([len(gi), len(go), gi[0].tolist(), go[0].tolist()]))
y.sum().backward(); seen = _seen

x = tg.ones(2, requires_grad=True); y = (x * 3).exp(); _h = y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
y.sum().backward()

x = tg.ones(2, requires_grad=True); y = (x * 3).exp(); _h = y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
_k = y.register_hook(lambda g: g + 1); y.retain_grad(); y.sum().backward(); grad = y.grad

x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True); y = x * w; _seen = []
_h = y.grad_fn.register_hook(lambda gi, go: _seen.append(len(gi))); (y * 2).sum().backward(); seen = _seen

x = tg.ones(2, requires_grad=True); y = tg.cat([x, x * 2, tg.ones(1)]); _seen = []
_h = y.grad_fn.register_prehook(lambda go: _seen.append(go[0].tolist())); (y * 2).sum().backward(); seen = _seen

x = tg.ones(2, requires_grad=True); _seen = []
_h = x.register_post_accumulate_grad_hook(lambda p: _seen.append(p.grad.tolist())); (x * 2).sum().backward()
(x * 2).sum().backward(); seen = _seen

x = tg.ones(2, requires_grad=True)
def _step(p):
    with tg.no_grad(): p -= 0.1 * p.grad
    p.grad = None
_h = x.register_post_accumulate_grad_hook(_step); (x * x).sum().backward(); (x * x).sum().backward()

x = tg.ones(2, requires_grad=True); _seen = []; _acc = x.view_as(x).grad_fn.next_functions[0][0]
_h = _acc.register_hook(lambda *a: _seen.append(x.grad.tolist())); (x * 2).sum().backward(); seen = _seen

x = tg.ones(2, requires_grad=True); _acc = x.view_as(x).grad_fn.next_functions[0][0]
_h = _acc.register_prehook(lambda g: (g[0] * 3,)); (x * 2).sum().backward()

a, b, c = (tg.tensor(v, requires_grad=True) for v in (1.0, 2.0, 3.0)); _seen = []
_h = tg.autograd.graph.register_multi_grad_hook([a, b, c], lambda gs: _seen.append([g and g.item() for g in gs]))
(a * b).backward(); (a * b * c).backward(); seen = _seen

a, b = (tg.tensor(v, requires_grad=True) for v in (1.0, 2.0)); _seen = []; y = a * b; z = y * a
_h = tg.autograd.graph.register_multi_grad_hook([y, z], lambda gs: _seen.append([g and g.item() for g in gs]))
(z * 2).backward(); _h.remove(); seen = _seen

a, b = (tg.tensor(v, requires_grad=True) for v in (1.0, 2.0)); _seen = []; y = a * b; z = y * a
_h = tg.autograd.graph.register_multi_grad_hook([y, z], lambda g: _seen.append(g.item()), mode="any")
(z * 2).backward(); _h.remove(); seen = _seen

x = tg.ones(2, requires_grad=True); y = x * 3; y.register_hook(lambda g: g * 2); (y ** 2).sum().backward(inputs=[x])

x = tg.ones(2, requires_grad=True); y = x * 3; y.register_hook(lambda g: g * 2); (y ** 2).sum().backward(inputs=[y])
grad = y.grad

x = tg.ones(2, requires_grad=True); y = x * 3; _h = y.register_hook(lambda g: g * 2); z = (y ** 2).sum()
z.backward(retain_graph=True); z.backward()

x = tg.ones(3, requires_grad=True); y = x * 2; y.register_hook(lambda g: g * 2); y[0] = 5.0; y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 2; y.mul_(3); y.register_hook(lambda g: g * 2); y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); e = tg.autograd.graph.get_gradient_edge(x * x)
y = e.node.name(); n = e.output_nr

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * x; z = y.exp().sum()
(g,) = tg.autograd.grad(z, tg.autograd.graph.get_gradient_edge(y))

x = tg.tensor([1.0, 2.0], requires_grad=True); y = (x * x).sum(); _e = tg.autograd.graph.get_gradient_edge(y); del y
tg.autograd.backward(_e)

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * tg.tensor([3.0, 4.0])
(g,) = tg.autograd.grad(y, x, grad_outputs=tg.eye(2), is_grads_batched=True)

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x ** 3
(g,) = tg.autograd.grad(y, x, grad_outputs=tg.eye(2), is_grads_batched=True, create_graph=True)
(h,) = tg.autograd.grad(g.sum(), x)

x = tg.tensor([1.0, 2.0], requires_grad=True); w = tg.ones(2, requires_grad=True); y = x * 2
g, h = tg.autograd.grad(y.sum(), [x, w], materialize_grads=True)

x = tg.ones(2, requires_grad=True); _names = [type(f.grad_fn).__name__ for f in (x + 1, 2 - x, x / 2, x ** 2, x.exp())]
names = _names

x = tg.ones(2, requires_grad=True); _fs = (x + 1, 2 * x, 2 - x, x ** 2, x - 1)
counts = [len(f.grad_fn.next_functions) for f in _fs]

x = tg.ones(2, requires_grad=True); nones = [(2 * x).grad_fn.next_functions[i][0] is None for i in range(2)]

x = tg.ones(2, requires_grad=True); y = x * 2; y.grad_fn.metadata["k"] = 3; got = y.grad_fn.metadata["k"]

x = tg.ones(2, requires_grad=True); y = x * 2; _h = y.register_hook(lambda g: g * 2)
with tg.no_grad(): z = y * 3
y.sum().backward()

x = tg.ones(2, requires_grad=True)
with tg.autograd.graph.save_on_cpu(): y = (x * x).sum()
y.backward()
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_hooks(program):
    agree(program, text=False)


REFUSED = [
    ("tg.ones(2).register_hook(lambda g: g)", "cannot register a hook on a tensor that doesn't require gradient"),
    ("(tg.ones(2, requires_grad=True) * 2).register_post_accumulate_grad_hook(print)", "non-leaf tensors"),
    ("tg.ones(2).register_post_accumulate_grad_hook(print)", "a tensor that doesn't require gradient"),
    ("x = tg.ones(2, requires_grad=True); x.register_hook(lambda g: 3); x.sum().backward()", "but hook returned 'int'"),
    (
        "x = tg.ones(2, requires_grad=True); x.register_hook(lambda g: tg.ones(3)); x.sum().backward()",
        "hook '<lambda>' has changed the size of value",
    ),
    (
        "x = tg.ones(2, requires_grad=True); x.register_hook(lambda g: g.to(tg.float32)); x.sum().backward()",
        "hook '<lambda>' has changed the type of value",
    ),
    (
        "x = tg.ones(2, requires_grad=True).exp(); x.grad_fn.register_hook(lambda a, b: 3); x.sum().backward()",
        "expected tuple, but hook returned 'int'",
    ),
    (
        "x = tg.ones(2, requires_grad=True).exp(); x.grad_fn.register_hook(lambda a, b: (a[0],) * 2)\n"
        "x.sum().backward()",
        "hook '<lambda>' has returned an incorrect number of values (got 2, but expected 1)",
    ),
    ("tg.autograd.graph.get_gradient_edge(tg.ones(2))", "It is not possible to get the gradient edge"),
    (
        "x = tg.ones(2, requires_grad=True)\n"
        "tg.autograd.grad(x * 1, x, grad_outputs=tg.ones(3, 3), is_grads_batched=True)",
        "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch dimension",
    ),
    (
        "x = tg.ones(2, requires_grad=True); y = x.exp(); y.register_hook(lambda g: g); z = y.exp().sum()\n"
        "z.backward(); z.backward()",
        "Trying to backward through the graph a second time",
    ),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(program, phrase)


# What several rows compute that is one node of PyTorch's: printed, it has that name.
NAMED = programs("""
_F = tg.nn.functional; _x = tg.tensor(reals(3, 4), requires_grad=True); _w, _b = tg.tensor(reals(2, 4)), tg.zeros(2)
_c = tg.tensor([0, 3, 1]); _l = _F.linear(_x, _w, _b.double()); n = [_l.grad_fn.name(), type(_l.grad_fn).__name__]
f = [_F.mse_loss(_x, _x * 2), _F.cross_entropy(_x, _c), _F.nll_loss(_x, _c), _F.huber_loss(_x, _x * 2), _F.gelu(_x)]
g = [_F.binary_cross_entropy_with_logits(_x, _x.detach().sigmoid()), _F.smooth_l1_loss(_x, _x * 2), _F.elu(_x)]
h = [_F.silu(_x), _F.softplus(_x), _F.leaky_relu(_x), _F.embedding(_c, _x.T), tg.cdist(_x, _x * 2), _F.relu6(_x)]
i = [tg.addmm(_x[:, :2], _x, _w.T), _x.gather(1, _c[:, None]), _x.masked_fill(_x > 0, 0.0), _x.index_select(1, _c)]

_F = tg.nn.functional; _x = tg.tensor(reals(3, 4), requires_grad=True); y = _F.gelu(_x); y += 1; z = _F.gelu(_x).mul_(2)
u = _F.elu(_x * 1, inplace=True).mul_(2); v = _F.silu(_x); v[0] = 1; w = _F.silu(_x).detach(); a = _F.silu(_x).T
with tg.no_grad(): b = _F.silu(_x)
""")


@pytest.mark.parametrize("program", NAMED)
def test_nodes_of_compositions(program: str):
    agree(program)
