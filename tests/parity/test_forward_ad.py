"""Dual tensors are PyTorch's; tangents of random programs have the inner products that gradients have."""

import random
from typing import Any

import numpy as np
import pytest

import tapegrad
from tapegrad.autograd import tangents
from tapegrad.tape import current_tape, in_grad_mode

from . import oracle, random_programs
from .oracle import agree, programs, refuse_alike

PROGRAMS = programs("""
_fw = tg.autograd.forward_ad; _x = tg.tensor([1.0, -2.0, 3.0]); _v = tg.tensor([1.0, 0.5, -1.0])
with _fw.dual_level():
    d = _fw.make_dual(_x, _v); seen = d.requires_grad, d.is_leaf, d.grad_fn, str(d); y = (d.sin() * d).sum()
    p, t = _fw.unpack_dual(y); flag = y.requires_grad; q, u = _fw.unpack_dual(d); none = _fw.unpack_dual(_x).tangent
    array = y.numpy().copy(); again = _fw.unpack_dual(y).tangent; plain = _fw.unpack_dual(p).tangent
    dropped = _fw.unpack_dual(d.detach()).tangent
after = _fw.unpack_dual(y).tangent; d = y = None

_fw = tg.autograd.forward_ad; _v = tg.tensor([1.0, 0.5, -1.0]); _p = tg.tensor([1.0, -2.0, 3.0], requires_grad=True)
with _fw.dual_level():
    _y = (_fw.make_dual(_p, _v).sin() * _p).sum(); (_g,) = tg.autograd.grad(_y, _p); g, h = _fw.unpack_dual(_g)

_fw = tg.autograd.forward_ad; x = tg.tensor([1.0, 2.0], requires_grad=True)
_v = tg.tensor([1.0, 0.5], requires_grad=True)
with _fw.dual_level():
    _y = (_fw.make_dual(x, _v) ** 3).sum(); _t = _fw.unpack_dual(_y).tangent
    g = [a.detach() for a in tg.autograd.grad(_t, [_v, x], retain_graph=True)]; _y.backward()

_fw = tg.autograd.forward_ad; _x = tg.tensor([[1.0, -2.0], [0.5, 3.0]]); _v = tg.tensor([[1.0, 0.5], [-1.0, 2.0]])
with _fw.dual_level(), tg.no_grad():
    _d = _fw.make_dual(_x, _v); mode = tg.is_grad_enabled()
    found = [_fw.unpack_dual(f(_d)).tangent for f in (
        lambda d: d.T @ d, lambda d: d.view(4)[1:], lambda d: tg.cat([d, _x]), lambda d: tg.stack([d, d]).sum(0),
        lambda d: d.cumsum(0), lambda d: d.softmax(1), lambda d: d.double().mean(), lambda d: d.clone().exp_(),
        lambda d: d[[0, 0, 1]], lambda d: d.to(tg.float32), lambda d: d.logsumexp(1), lambda d: tg.where(d > 0, d, 0.0),
        lambda d: d.unbind()[1], lambda d: tg.linalg.inv(d), lambda d: d * _x + 1, lambda d: 2 - d / _x)]

_fw = tg.autograd.forward_ad; _x = tg.tensor([1.0, -2.0]); _v = tg.tensor([1.0, 0.5])
with _fw.dual_level():
    _d = _fw.make_dual(_x, _v); z = tg.zeros(2, 2); z[0] = _d; z[1] += _d * 2; z.mul_(3)
    t = _fw.unpack_dual(z).tangent.clone()
    w = tg.ones(2); w.mul_(_d); u = _fw.unpack_dual(w).tangent
    with tg.no_grad(): z[1, 0] = _d[0] ** 2
    v = _fw.unpack_dual(z).tangent
z = w = None

_fw = tg.autograd.forward_ad; _x = tg.tensor([1.0, -2.0]); _v = tg.tensor([1.0, 0.5])
with tg.no_grad():
    with _fw.dual_level(): t = _fw.unpack_dual(_fw.make_dual(_x, _v) * 3).tangent; inside = tg.is_grad_enabled()
    still = tg.is_grad_enabled()
after = tg.is_grad_enabled(), (tg.ones(2, requires_grad=True) * 2).requires_grad

class _F(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x, y): ctx.result = x.exp(); return ctx.result, y * 2
    @staticmethod
    def jvp(ctx, a, b):
        c = a * ctx.result if a is not None else None
        return c, None if b is None else b * 2
_fw = tg.autograd.forward_ad; _x = tg.tensor([1.0, -2.0]); _v = tg.tensor([1.0, 0.5])
with _fw.dual_level():
    _a, _b = _F.apply(_fw.make_dual(_x, _v), _fw.make_dual(_x, _v * 2)); t = _fw.unpack_dual(_a * _b).tangent
    u = _fw.unpack_dual(_b).tangent; flags = _a.requires_grad, _b.requires_grad

_fw = tg.autograd.forward_ad; _l = tg.nn.Linear(3, 2); _p = dict(_l.named_parameters())
with tg.no_grad(): _l.weight.copy_(tg.arange(6.0).reshape(2, 3)); _l.bias.zero_()
with _fw.dual_level():
    for _n, _q in _p.items(): delattr(_l, _n); setattr(_l, _n, _fw.make_dual(_q, tg.ones_like(_q)))
    t = _fw.unpack_dual(_l(tg.tensor([1.0, 2.0, 3.0])).tanh()).tangent.detach()

_fw = tg.autograd.forward_ad; _x = tg.tensor([1.0, -2.0]); _v = tg.tensor([1.0, 0.5])
with _fw.dual_level():
    _d = _fw.make_dual(_x, _v); g = [t.detach() for t in _fw.unpack_dual(tg.func.grad(lambda x: (x ** 3).sum())(_d))]
    h = [t.detach() for t in _fw.unpack_dual(tg.func.grad(lambda w: (w * _d).sin().sum())(_x))]
    flag = tg.func.grad(lambda x: (x ** 3).sum())(_d).requires_grad

_fw = tg.autograd.forward_ad; level = _fw.enter_dual_level(); _d = _fw.make_dual(tg.ones(2), tg.ones(2), level=0)
for _i in range(4): _d = _d * 2; t = _fw.unpack_dual(_d, level=level).tangent
_fw.exit_dual_level(level=level); none = _fw.unpack_dual(_d).tangent

out, _f = tg.func.linearize(lambda x: x.sin() * x[0], tg.tensor([1.0, 2.0])); a = _f(tg.tensor([1.0, 0.0]))
b = _f(tg.tensor([0.5, -3.0]))

_w = tg.tensor([[1.0, 2.0], [3.0, -1.0]])
j = tg.func.jacfwd(lambda x: (_w @ x).tanh())(tg.tensor([0.3, 0.1]))
h = tg.func.hessian(lambda x: (_w @ x).tanh().prod())(tg.tensor([0.3, 0.1]))
k = tg.func.jacfwd(tg.func.jacfwd(lambda x: (_w @ x).tanh().prod()))(tg.tensor([0.3, 0.1]))
r = tg.func.jacrev(lambda x: (_w @ x).tanh(), chunk_size=1)(tg.tensor([0.3, 0.1]))
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_dual_tensors(program: str):
    agree(program, text="str(" in program)


REFUSED = [line.split(" -> ") for line in """
_f.make_dual(tg.ones(2), tg.ones(2)) -> no level exists, make sure to enter_dual_level() first
_f.exit_dual_level() -> Dual level must be a positive number
_f.exit_dual_level(level=3) -> was not the last one that was created
_f.enter_dual_level(); _f.enter_dual_level() -> Nested forward mode AD is not supported at the moment
_f.enter_dual_level(); _f.exit_dual_level(level=1) -> was not the last one that was created
_f.enter_dual_level(); _f.make_dual(tg.ones(3), tg.ones(2)) -> Tensor is of size [3] while the given forward gradient
_f.enter_dual_level(); _f.make_dual(tg.ones(2, dtype=tg.int64), tg.ones(2)) -> Expected primal to be floating point
_f.enter_dual_level(); _f.make_dual(tg.ones(2), tg.ones(2, dtype=tg.int64)) -> Expected tangent to be floating point
_f.enter_dual_level(); _f.make_dual(_f.make_dual(tg.ones(2), tg.ones(2)), tg.ones(2)) -> already has a forward gradient
_f.enter_dual_level(); _f.make_dual(tg.ones(2), _f.make_dual(tg.ones(2), tg.ones(2))) -> itself has a forward gradient
_f.enter_dual_level(); _f.make_dual(tg.ones(2), tg.ones(2), level=1) -> Invalid level given to _make_dual
_f.enter_dual_level(); _f.make_dual(tg.ones(2), tg.ones(2)).sum().backward() -> does not require grad and does not have
_f.enter_dual_level(); x = _f.make_dual(tg.ones(2), tg.ones(2)); tg.add(x, x, out=tg.ones(2)) -> an out= function
_f.enter_dual_level(); tg.add(tg.ones(2), 1, out=_f.make_dual(tg.ones(2), tg.ones(2))) -> an out= function
_f.enter_dual_level(); _f.unpack_dual(3.0) -> argument 'dual' (position 1) must be Tensor, not float
""".strip().splitlines()]  # fmt: skip


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program: str, phrase: str):
    try:
        refuse_alike(f"_f = tg.autograd.forward_ad; {program}", phrase)
    finally:
        for library in (oracle.torch, tapegrad):
            while library.autograd.forward_ad._current_level >= 0 if library is oracle.torch else _is_inside():
                library.autograd.forward_ad.exit_dual_level()


def _is_inside() -> bool:
    return current_tape().duals is not None


# --- random programs --------------------------------------------------------------------------------------------------


def agree_with_reverse(program: str, seed: int) -> None:
    """<u, J v> = <J' u, v> of what a program leaves; and of its gradient, forward over reverse, H v is symmetric."""
    names: dict[str, Any] = {**oracle.givens(tapegrad)}
    exec(program.partition("_loss =")[0], names)
    alive = {n: t for n, t in names.items() if n[0] in "lv" and n[1:].isdigit() and t.requires_grad}
    leaves = list({id(t): t for t in alive.values() if t.is_leaf}.values())
    outputs = [t for t in alive.values() if not t.is_leaf]
    if not leaves or not outputs:
        return
    rng, tape = np.random.default_rng(seed), current_tape()
    directions = [tapegrad.tensor(rng.normal(size=t.shape), dtype=t.dtype) for t in leaves]

    def check(ys: list[Any], us: list[Any]) -> None:
        # A leaf that was written to, or that NumPy shares, has had several slots.
        along = {slot: v for t, v in zip(leaves, directions, strict=True) for slot in tapegrad.autograd._slots_of(t)}
        steps = tangents.steps_between(tape, [y._slot for y in ys], along)
        pushed = in_grad_mode(tape, False, tangents.push, tape, steps, along, [y._slot for y in ys])
        products = [0.0 if t is None else (t * u).sum().item() for t, u in zip(pushed, us, strict=True)]
        pulled = tapegrad.autograd.grad(ys, leaves, us, retain_graph=True, allow_unused=True)
        expected = [(g * v).sum().item() for g, v in zip(pulled, directions, strict=True) if g is not None]
        scale, tolerance = sum(map(abs, products + expected)) + 1, 1e-6 if "float32" in program else 1e-9
        assert abs(sum(products) - sum(expected)) < tolerance * scale, (products, expected)

    us = [tapegrad.tensor(rng.normal(size=y.shape), dtype=y.dtype) for y in outputs]
    check(outputs, us)
    firsts = tapegrad.autograd.grad(outputs, leaves, us, create_graph=True, allow_unused=True)
    found = [g for g in firsts if g is not None and g.requires_grad]
    if found:
        check(found, [tapegrad.tensor(rng.normal(size=g.shape), dtype=g.dtype) for g in found])


@pytest.mark.filterwarnings("ignore")  # PyTorch tells of much that is well known
@pytest.mark.parametrize("first", range(2000, 2120, 20))
def test_tangents_of_random_programs(first: int):
    for seed in range(first, first + 20):
        program = random_programs.grown(seed, slices=random.Random(seed).random() < 0.3)
        try:
            agree_with_reverse(program, seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}\n{program}\n{error}") from error
