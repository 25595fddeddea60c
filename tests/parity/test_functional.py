"""autograd.functional, gradcheck, grad modes, anomaly detection and checkpoints, beside PyTorch's."""

import pytest

from .oracle import agree, programs, refuse_alike

FUNCTIONAL = programs("""
r = _F.jacobian(lambda x: x.exp() * x.sum(), tg.tensor([1.0, 2.0]))

r = _F.jacobian(lambda x, y: (x * y, y.sum()), (tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0])))

r = _F.jacobian(lambda x: (x ** 2,), tg.ones(2, 2))

r = _F.jacobian(lambda x: tg.ones(2), tg.tensor([1.0, 2.0]))

r = _F.jacobian(lambda x: x ** 2, tg.tensor([1.0, 2.0]), vectorize=True, strategy="forward-mode")

x = tg.tensor([1.0, 2.0], requires_grad=True); r = _F.jacobian(lambda x: x ** 3, x, create_graph=True)
r.sum().backward()

r = _F.hessian(lambda x: (x ** 3).sum() + x.prod(), tg.tensor([1.0, 2.0]))

r = _F.hessian(lambda x, y: (x * y.exp()).sum(), (tg.tensor([1.0, 2.0]), tg.tensor([0.5, 1.0])))

x = tg.tensor([1.0, 2.0], requires_grad=True); r = _F.hessian(lambda x: (x ** 3).sum(), x, create_graph=True)
r.sum().backward()

r = _F.vjp(lambda x: x.exp(), tg.tensor([1.0, 2.0]), tg.tensor([1.0, 10.0]))

r = _F.vjp(lambda x: x.sum(), tg.tensor([1.0, 2.0]))

r = _F.vjp(lambda x, y: (x * y, x + y), (tg.ones(2), tg.ones(2) * 2), (tg.ones(2), tg.ones(2) * 3))

r = _F.jvp(lambda x: x.exp(), tg.tensor([1.0, 2.0]), tg.tensor([1.0, 10.0]))

r = _F.jvp(lambda x, y: (x * y, x + y), (tg.ones(2), tg.ones(2) * 2), (tg.ones(2), tg.ones(2) * 3))

r = _F.hvp(lambda x: (x ** 3).sum() * x.sum(), tg.tensor([1.0, 2.0]), tg.tensor([1.0, 10.0]))

r = _F.vhp(lambda x, y: (x ** 2 * y).sum(), (tg.ones(2), tg.ones(2) * 2), (tg.ones(2), tg.ones(2) * 3))

ok = tg.autograd.gradcheck(lambda x: x.exp() * x, tg.tensor([1.0, 2.0], requires_grad=True))

ok = tg.autograd.gradcheck(lambda x, y: (x * y, y), (tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)))

ok = tg.autograd.gradcheck(lambda x, k: x * k, (tg.ones(2, requires_grad=True), 3.0), check_forward_ad=True)

ok = tg.autograd.gradgradcheck(lambda x: x.sin() * x, tg.tensor([1.0, 2.0], requires_grad=True))

_x = tg.tensor([1.0, 2.0], requires_grad=True) * 2
ok = tg.autograd.gradgradcheck(lambda x: x.sin() * x, _x.detach().requires_grad_(), check_fwd_over_rev=True)
of_computed = tg.autograd.gradcheck(lambda x: x.sin() * x, (_x,)) and tg.autograd.gradgradcheck(lambda x: x.exp(), _x)

class _W(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return g * 3
ok = tg.autograd.gradcheck(_W.apply, tg.ones(2, requires_grad=True), raise_exception=False)

class _J(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return g * 2
    @staticmethod
    def jvp(ctx, t): return t * 3
x = tg.ones(2, requires_grad=True); ok = tg.autograd.gradcheck(_J.apply, x)
found = not tg.autograd.gradcheck(_J.apply, x, check_forward_ad=True, raise_exception=False)

x = tg.tensor([1.0, 2.0], requires_grad=True); _s = lambda x: x.sin() * x.sum()
ok = tg.autograd.gradcheck(_s, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
value = x.detach()

x = tg.tensor([1.0, 2.0], requires_grad=True); ok = tg.autograd.gradcheck(lambda y: (x * x, x.detach()), x)

ok = tg.autograd.gradcheck(lambda x: tg.sign(x.detach()), tg.ones(2, requires_grad=True))

x = tg.ones(2, requires_grad=True)
with tg.inference_mode(): y = (x * 2).requires_grad; on = tg.is_inference_mode_enabled()
off = tg.is_inference_mode_enabled()

x = tg.ones(2, requires_grad=True)
@tg.inference_mode()
def _f(x): return x * 2
y = _f(x).requires_grad

x = tg.ones(2, requires_grad=True)
with tg.no_grad(), tg.inference_mode(False): y = x * 2

x = tg.tensor([0.0, 1.0], requires_grad=True)
with tg.autograd.detect_anomaly(): (x * 2).exp().sum().backward()

x = tg.tensor([0.0, 1.0], requires_grad=True)
with tg.autograd.set_detect_anomaly(True): on = tg.is_anomaly_enabled(); (x * 2).exp().sum().backward()
off = tg.is_anomaly_enabled()

v = tg.autograd.Variable is not None
""")

CHECKPOINT = programs("""
x = tg.tensor([1.0, 2.0], requires_grad=True)
y = _checkpoint(lambda x: (x.exp() * x).sin(), x, use_reentrant=False); y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); w = tg.tensor([3.0, 4.0], requires_grad=True)
y = _checkpoint(lambda x: (w * x).sin() * w, x, use_reentrant=False); (y * y).sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); w = x.exp()
y = _checkpoint(lambda z: (w * z).sin() * w, x * 2, use_reentrant=False); (y * w).sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True)
y = _checkpoint(lambda x: _checkpoint(lambda z: z.exp(), x * 2, use_reentrant=False).sin(), x, use_reentrant=False)
y.sum().backward()

w = tg.tensor([1.0, 2.0], requires_grad=True); x = tg.tensor([3.0, 4.0], requires_grad=True); _h = w * x; _k = _h.sin()
_y = _checkpoint(lambda v: (v * w).cos() * _k + _h, _h, use_reentrant=False).sum() + _k.sum()
_g, _f = tg.autograd.grad(_y, [x, w], create_graph=True); g, f = _g.detach(), _f.detach()
r = tg.autograd.grad((_g * _f).sum(), [x, w])

w = tg.tensor([1.0, 2.0], requires_grad=True); _seen = []; w.register_hook(lambda g: _seen.append(g.clone()))
_h = w * 3; _h.register_hook(lambda g: _seen.append(g.clone()) or 2 * g)
(_checkpoint(lambda v: w * v + _h, w.exp(), use_reentrant=False) * _h).sum().backward(); first, second = _seen

x = tg.tensor([1.0, 2.0], requires_grad=True); w = tg.tensor([3.0, 4.0], requires_grad=True)
_y = _checkpoint(lambda x: (w * x).sin() * w, x, use_reentrant=False)
_g, _h = tg.autograd.grad((_y * _y).sum(), [x, w], create_graph=True); r = tg.autograd.grad((_g * _h).sum(), [x, w])

x = tg.tensor([1.0, 2.0], requires_grad=True)
y, z = _checkpoint(lambda x, k: (x * k, x ** k), x, 3, use_reentrant=False); (y * z).sum().backward()

x = tg.tensor([1.0, 2.0])
y = _checkpoint(lambda x: x.exp(), x, use_reentrant=False)

w = tg.tensor([1.0, 2.0], requires_grad=True); y = _checkpoint(lambda: w * 2, use_reentrant=False); y.sum().backward()

w = tg.tensor([1.0, 2.0], requires_grad=True); y = _checkpoint(lambda x: w * 1, tg.ones(2), use_reentrant=False)
y.sum().backward()

x = tg.tensor([1.0, 2.0], requires_grad=True); _calls = []
y = _checkpoint(lambda x: (_calls.append(1), x.exp())[1], x, use_reentrant=False); before = len(_calls)
y.sum().backward(); after = len(_calls)

x = tg.tensor([1.0, 2.0], requires_grad=True)
with tg.no_grad(): y = _checkpoint(lambda x: x.exp(), x, use_reentrant=False)
""")


@pytest.mark.parametrize("program", FUNCTIONAL)
def test_functional(program):
    agree("_F = tg.autograd.functional\n" + program, text=False)


@pytest.mark.parametrize("program", CHECKPOINT)
def test_checkpoint(program):
    agree(
        "_checkpoint = __import__(tg.__name__ + '.utils.checkpoint', fromlist='x').checkpoint\n" + program, text=False
    )


REFUSED = [
    ("tg.autograd.functional.jacobian(lambda x: 3, tg.ones(2))", "must be either a Tensor or a tuple of Tensors"),
    ("tg.autograd.functional.jacobian(lambda x: x, 3)", "must be either a Tensor or a tuple of Tensors"),
    ("tg.autograd.functional.hessian(lambda x: x, tg.ones(2))", "should contain a single element"),
    ("tg.autograd.functional.jacobian(lambda x: x, (tg.ones(2), 3))", "The inputs given to jacobian must be either a"),
    (
        "tg.autograd.functional.hvp(lambda x: (x**3).sum(), tg.ones(2), 'v')",
        "The v given to hvp must be either a Tensor",
    ),
    (
        "tg.autograd.functional.hessian(lambda x: (3 * x).sum(), tg.ones(2), strict=True)",
        "While computing the hessian, found that the jacobian of the user-provided function with respect to input 0",
    ),
    (
        "tg.autograd.functional.jvp(lambda x: x.clone(), tg.ones(2, requires_grad=True), tg.ones(2), True, True)",
        "The jacobian of the user-provided function is independent of input 0.",
    ),
    ("tg.autograd.functional.vjp(lambda x: x, tg.ones(2))", "The vector v can only be None if the user-provided"),
    ("tg.autograd.functional.vjp(lambda x: x, tg.ones(2), tg.ones(3))", "v has invalid size: should be"),
    ("tg.autograd.functional.jacobian(lambda x: tg.ones(2), tg.ones(2), strict=True)", "does not require gradients"),
    (
        "tg.autograd.functional.jacobian(lambda x, y: x, (tg.ones(2), tg.ones(2)), strict=True)",
        "Output 0 of the user-provided function is independent of input 1. This is not allowed in strict mode",
    ),
    (
        "tg.autograd.gradcheck(lambda x: x, tg.ones(2))",
        "gradcheck expects at least one input tensor to require gradient",
    ),
    (
        "x = tg.ones(2, requires_grad=True)\ntg.autograd.gradcheck(lambda x: x, x, check_backward_ad=False)",
        "Expected at least one of check_forward_ad or check_backward_ad to be True",
    ),
    (
        "x = tg.ones(1, requires_grad=True)\ntg.autograd.gradcheck(lambda x: tg.cat([x, x]) if x >= 1 else x, x)",
        "Expected `func` to return outputs with the same shape when inputs are perturbed",
    ),
    (
        "x = tg.ones(1, requires_grad=True)\ntg.autograd.gradcheck(lambda x: x.detach() * 2, x)",
        "Numerical gradient for function expected to be zero",
    ),
    (
        "x = tg.ones(1).expand(2).requires_grad_()\ntg.autograd.gradcheck(lambda x: x * 2, x)",
        "The 0th input has a dimension with stride 0. gradcheck only supports inputs that are non-overlapping",
    ),
    (
        "x = tg.tensor(-1.0, requires_grad=True)\nwith tg.autograd.detect_anomaly(): x.sqrt().backward()",
        "Function 'SqrtBackward0' returned nan values in its 0th output.",
    ),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(program, phrase)
