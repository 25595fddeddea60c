"""autograd.Function: PyTorch's programs, their refusals, and orders above the first."""

import pytest

from .oracle import agree, programs, refuse_alike

CUBE = """
class _Cube(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * 3 * x ** 2
class _Exp(tg.autograd.Function):
    @staticmethod
    def forward(x):
        return x.exp()
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)
    @staticmethod
    def backward(ctx, g):
        y, = ctx.saved_tensors
        return g * y
class _Both(tg.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, k):
        y = a * b
        ctx.save_for_backward(a, b, y); ctx.k = k
        return y, y.sin() * k
    @staticmethod
    def backward(ctx, g, h):
        a, b, y = ctx.saved_tensors
        t = g + h * y.cos() * ctx.k
        return (t * b).sum_to_size(a.shape), (t * a).sum_to_size(b.shape), None
class _Double(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)
    @staticmethod
    def backward(ctx, g):
        return 2 * g
class _Sorted(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        i = (x > 0); y = x * 2
        ctx.mark_non_differentiable(i); ctx.set_materialize_grads(False)
        return y, i
    @staticmethod
    def backward(ctx, g, none):
        assert none is None
        return g * 2
class _Once(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    @tg.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * 2
class _Four(tg.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, c, d):
        ctx.save_for_backward(a, b, c, d); ctx.needs = ctx.needs_input_grad
        return a * b + c * d
    @staticmethod
    def backward(ctx, g):
        a, b, c, d = ctx.saved_tensors
        return g * b, g * a, g * d if ctx.needs_input_grad[2] else None, g * c
"""
PROGRAMS = programs("""
x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x); y.sum().backward()

x = tg.tensor([1.0, 2.0]); y = _Cube.apply(x)

x = tg.tensor([1.0, 2.0], requires_grad=True)
with tg.no_grad(): y = _Cube.apply(x)

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x * 3).exp(); (y / 100).sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(_Cube.apply(x)); (y / 100).sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Exp.apply(x); z = _Exp.apply(y); z.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x)
(_g,) = tg.autograd.grad(y.sum(), x, create_graph=True); (_h,) = tg.autograd.grad(_g.sum(), x, create_graph=True)
(_k,) = tg.autograd.grad(_h.sum(), x); g = _g.detach(); h = _h.detach(); k = _k.detach()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Exp.apply(x * 2)
(_g,) = tg.autograd.grad(y.sum(), x, create_graph=True); (_h,) = tg.autograd.grad(_g.sum(), x, create_graph=True)
(_k,) = tg.autograd.grad(_h.sum(), x); g = _g.detach(); h = _h.detach(); k = _k.detach()

a = tg.tensor([1.0, 2.0], requires_grad=True); b = tg.tensor([3.0, 0.5], requires_grad=True)
y, z = _Both.apply(a, b, 2); (y * z).sum().backward()

a = tg.tensor([1.0, 2.0], requires_grad=True); b = tg.tensor([3.0, 0.5], requires_grad=True)
y, z = _Both.apply(a, b, 2); z.sum().backward()

a = tg.tensor([1.0, 2.0], requires_grad=True); b = tg.tensor(3.0, requires_grad=True)
_y, _z = _Both.apply(a, b, 2); (_g,) = tg.autograd.grad((_y * _z).sum(), a, create_graph=True)
h = tg.autograd.grad((_g * _g).sum(), [a, b])

a = tg.tensor([1.0, 2.0], requires_grad=True); b = tg.tensor([3.0, 0.5])
y, z = _Both.apply(a, b, 2); (y * z).sum().backward(); _n = y.grad_fn.needs_input_grad; n = list(_n)

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * 1; z = _Double.apply(y); same = z is y; (y * y).sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * 1; _Double.apply(y); w = y + 1; (w * y).sum().backward()

x = tg.tensor([1.0, -2.0], requires_grad=True); y, i = _Sorted.apply(x); y.sum().backward()

x = tg.tensor([1.0, -2.0], requires_grad=True); y = _Once.apply(x); y.sum().backward()

a, b, c, d = (tg.tensor([float(v), 1.0], requires_grad=v != 3) for v in (1, 2, 3, 4))
y = _Four.apply(a, b, c, d); y.sum().backward(); kept = len(y.grad_fn.next_functions)

a = tg.tensor([2.0, 1.0], requires_grad=True); y = _Four.apply(a, a, a, a); y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x); k = y.grad_fn.saved_tensors[0].tolist()
name = type(y.grad_fn).__name__

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x); y.register_hook(lambda g: g * 2); y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x); _seen = []
_h = y.grad_fn.register_hook(lambda a, b: _seen.append([a[0].tolist(), b[0].tolist()])); y.sum().backward()
seen = _seen

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x); y.sum().backward(retain_graph=True)
y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = _Cube.apply(x); w = tg.ones(2, requires_grad=True)
g = tg.autograd.grad((y * w).sum(), w)

x = tg.tensor([1.0, 2.0], requires_grad=True); _seen = []
with tg.autograd.graph.saved_tensors_hooks(lambda t: (_seen.append(1), t.numpy().copy())[1], lambda a: tg.tensor(a)):
    y = _Cube.apply(x)
y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); y = x * 1; _z = _Cube.apply(y); y = y + 1; _z.sum().backward()

j = tg.func.jacrev(_Cube.apply)(tg.tensor([1.0, 2.0])) if False else 0
x = tg.tensor([1.0, 2.0], dtype=tg.float32, requires_grad=True); y = _Cube.apply(x); y.sum().backward()

class _F(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x, n, w=None): ctx.save_for_backward(x, w); ctx.n = n; return x * n if w is None else x * n * w
    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors; g = g * ctx.n
        return (g, None) if w is None else (g * w, None, g * x)
x, w = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor([3.0, 4.0], requires_grad=True)
(_F.apply(x, n=3) + _F.apply(x, n=2.0, w=w)).sum().backward()

class _F(tg.autograd.Function):
    @staticmethod
    def forward(x, n, k=2.0): return x * n * k
    @staticmethod
    def setup_context(ctx, inputs, output): _, ctx.n, ctx.k = inputs
    @staticmethod
    def backward(ctx, g): return g * ctx.n * ctx.k, None, None
x = tg.tensor([1.0, 2.0], requires_grad=True); (_F.apply(x, n=3) + _F.apply(x, k=5.0, n=2)).sum().backward()

x = tg.ones(2, requires_grad=True)
for _i in range(20): y = _Cube.apply(x * 0.5) + x; (y * 0.1).sum().backward()

class _X(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x.clone()
    @staticmethod
    def backward(ctx, g): return tg.tensor(2.0).expand(2, 2)
x = tg.ones(2, 2, requires_grad=True); _X.apply(x).sum().backward(); _X.apply(x).sum().backward()
steps = x.grad.stride()

class _N(tg.autograd.Function):
    @staticmethod
    def forward(ctx, a, b): return a * b, None, "bar", a
    @staticmethod
    def backward(ctx, *g): return g
r = _N.apply(2.0, 3)

class _S(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x); ctx.save_for_forward(x * 2)
        return x * x
    @staticmethod
    def backward(ctx, g): return 2 * ctx.saved_tensors[0] * g
    @staticmethod
    def jvp(ctx, t): return ctx.saved_tensors[0] * t
x = tg.tensor(3.0, requires_grad=True); _S.apply(x).backward(); _D = tg.autograd.forward_ad
with _D.dual_level(): r = _D.unpack_dual(_S.apply(_D.make_dual(x.detach(), tg.tensor(10.0)))).tangent

x = tg.ones(2, requires_grad=True); (x * 2).sum().backward(); del x.grad; r = x.grad is None
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_functions_of_the_users(program):
    agree(CUBE + program, text="_Cube" in program and "grad(" not in program and "register" not in program)


REFUSED = [
    ("x = tg.ones(2, requires_grad=True); _Double.apply(x)", "a leaf Variable that requires grad"),
    (
        "x = tg.ones(2, requires_grad=True); y = _Once.apply(x)\n"
        "g, = tg.autograd.grad(y.sum() * y.sum(), x, create_graph=True); g.sum().backward()",
        "trying to differentiate twice a function that was marked with @once_differentiable",
    ),
    (
        "x = tg.ones(2, requires_grad=True); y = _Cube.apply(x); y.sum().backward(); y.sum().backward()",
        "Trying to backward through the graph a second time",
    ),
    (
        "class _F(_Cube):\n    @staticmethod\n    def vjp(ctx, g): return g\n"
        "_F.apply(tg.ones(2, requires_grad=True)).sum().backward()",
        "Implementing both 'backward' and 'vjp' for a custom Function is not allowed",
    ),
    (
        "class _F(_Cube):\n    @staticmethod\n    def backward(ctx, g): return g, g\n"
        "_F.apply(tg.ones(2, requires_grad=True)).sum().backward()",
        "returned an incorrect number of gradients (expected 1, got 2)",
    ),
    (
        "class _F(_Cube):\n    @staticmethod\n    def backward(ctx, g): return tg.ones(3)\n"
        "_F.apply(tg.ones(2, requires_grad=True)).sum().backward()",
        "returned an invalid gradient at index 0 - got [3] but expected shape compatible with [2]",
    ),
    (
        "class _F(_Cube):\n    @staticmethod\n    def backward(ctx, g): return 3\n"
        "_F.apply(tg.ones(2, requires_grad=True)).sum().backward()",
        "expected Variable or None (got int)",
    ),
    (
        "class _F(_Both):\n    @staticmethod\n    def backward(ctx, g, h): return g, g, g\n"
        "_F.apply(tg.ones(2, requires_grad=True), tg.ones(2), 3)[0].sum().backward()",
        "returned a gradient different than None at position 3, but the corresponding forward input was not a Variable",
    ),
    (
        "class _F(tg.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return x * 2\n"
        "_F.apply(tg.ones(2, requires_grad=True)).sum().backward()",
        "You must implement either the backward or vjp method",
    ),
    (
        "class _F(_Cube):\n    @staticmethod\n    def forward(ctx, x): ctx.save_for_backward(3); return x * 2\n"
        "_F.apply(tg.ones(2, requires_grad=True))",
        "save_for_backward can only save variables",
    ),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(CUBE + program, phrase)
