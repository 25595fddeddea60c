"""Tensors that share elements and have graphs of their own: what a write changes, and what it leaves as it was."""

from __future__ import annotations

import math
import sys
import tempfile
import warnings
from typing import Any

import numpy as np
import pytest

import tapegrad as tg

from .oracle import agree, programs, refuse_alike

GRAPHS = programs("""
x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True); w.data.add_(x * 2); (w * w).sum().backward()

x = tg.ones(2, requires_grad=True); u = tg.zeros(2); u.data.copy_(x); u.detach().add_(x)

x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True); d = w.data; d.add_(x * 2)
v = d[0]; v.mul_(x[1]); (d.sum() + w.sum()).backward()

x = tg.tensor([2.0, 3.0], requires_grad=True); y = x * 1; z = y.detach(); z.mul_(x); (z.sum() + x.sum()).backward()

x = tg.ones(3, requires_grad=True); y = x * 2; d = y[1:].detach(); d.mul_(x[1:]); (d * y[1:]).sum().backward()

x = tg.ones(2, 3, requires_grad=True); y = x * 2; d = y.T.detach(); e = d[1:]; d.mul_(x.T); y.add_(1)
(d * d).sum().backward()

x = tg.ones(3, requires_grad=True); a = x * 2; b = a * 3; a.detach_(); b.sum().backward()

x = tg.ones(3, requires_grad=True); a = x * 2; b = a * 3; a.detach_(); a.add_(1); (b * a).sum().backward()

x = tg.ones(3, requires_grad=True); b = x * 3; x.detach_(); b.sum().backward(); nothing = x.grad

x = tg.ones(3, requires_grad=True); b = x * 3; x.requires_grad_(False); x.requires_grad_(True); b.sum().backward()

a = tg.ones(2); b = a[:]; a.requires_grad = True
with tg.no_grad():
    a.add_(1)
b.sum().backward()

a = tg.ones(2); b = a[0]; b.requires_grad_(); a.add_(1); (b * b).backward()

x = tg.ones(3, requires_grad=True); y = x.repeat(1); y.data.add_(1); z = x.repeat(2, 1); z.data.add_(1)

x = tg.ones(2, requires_grad=True); y = x * 2; y.zero_(); y.sum().backward()

x = tg.ones(2, requires_grad=True); y = x * 2; y.fill_(3.0); y.sum().backward()

x = tg.ones(2, requires_grad=True); u = tg.ones(2, requires_grad=True); y = x * 2; y.copy_(u * 3); y.sum().backward()

x = tg.ones(2, requires_grad=True); y = x * 2; y[0] = 0; y.T[1] = x[0]; y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 2; v = y[1:]; w = v[1:]; w.mul_(x[0]); (v * v).sum().backward()

e = tg.zeros(3).expand(2, 3); e.fill_(2.0); e[0] = 3.0; e[0][1] = 4.0
""")

REPLACED = programs("""
a = tg.ones(2, requires_grad=True); v = a[0]; b = tg.zeros(3); a.data = b; b.add_(1); v.detach().add_(5)

a = tg.ones(2, requires_grad=True); b = tg.zeros(2); a.data = b
with tg.no_grad():
    a.add_(1)
c = a.data; c[0] = 7

x = tg.ones(2, requires_grad=True); a = x * 2; a.data = tg.zeros(2); (a * a).sum().backward()

x = tg.ones(2, requires_grad=True); a = x * 2; v = a[0]; a.data = tg.zeros(2); a.add_(1); (a * v).sum().backward()

w = tg.ones(3, requires_grad=True); l = (w * 3).sum(); w.data = tg.zeros(3); ((w * 5).sum() + l).backward()

w = tg.ones(3, requires_grad=True)
for _step in range(4):
    w.grad = None
    (w * w).sum().backward()
    w.data -= 0.1 * w.grad
    w.data = w.data * 1.5
    w.data = w.data[:]

a = tg.tensor(1); a.data = tg.tensor([3.5]); b = tg.tensor([1.0]); b.data = tg.tensor(True)

a = tg.ones(2, dtype=tg.float32, requires_grad=True); a.data = tg.zeros(3); (a * 2).sum().backward()
""")

ACCUMULATED = programs("""
x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True); x.sum().backward(create_graph=True); (x * x).sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 3; y.sum().backward(retain_graph=True); held = x.grad
y.sum().backward(create_graph=True); same = x.grad is held

x = tg.ones(3, requires_grad=True); (x ** 3).sum().backward(create_graph=True); held = x.grad
(x * x).sum().backward(); same = x.grad is held; (x.grad * 2).sum().backward(); held.grad

x = tg.ones(3, requires_grad=True); u = tg.ones(3, requires_grad=True); (x + u).sum().backward(create_graph=True)
x.grad.zero_()

x = tg.ones(3, requires_grad=True); g = tg.zeros(6); x.grad = g[::2]; (x * x).sum().backward(); g.mul_(2)

x = tg.ones(3, requires_grad=True); g = tg.zeros(3); v = g[1:]; x.grad = g; (x * x).sum().backward(); v.add_(1)

x = tg.ones(3, requires_grad=True); g = np.zeros(3); x.grad = tg.from_numpy(g); (x * x).sum().backward(); g[0] = 9

x = tg.ones(3, requires_grad=True); g = tg.zeros(3, requires_grad=True); x.grad = g; (x * x).sum().backward()

x = tg.ones(3, requires_grad=True); g = tg.zeros(3, requires_grad=True) * 1; x.grad = g; (x * x).sum().backward()
same = x.grad is g
""")

FORMER = programs("""
w = tg.ones(3, requires_grad=True); l = (w * 3).sum()
with tg.no_grad():
    w.add_(1)
g = tg.autograd.grad(l, [w], allow_unused=True)

w = tg.ones(3, requires_grad=True); l = (w * 3).sum()
with tg.no_grad():
    w.add_(1)
l.backward(inputs=[w])

w = tg.ones(3, requires_grad=True); l = (w * 3).sum()
for _k in range(3):
    with tg.no_grad():
        w.mul_(2)
    l = l + (w * 2).sum()
g = tg.autograd.grad(l, w, retain_graph=True); h = tg.autograd.grad(l, w, create_graph=True)
l.backward(inputs=w)

w = tg.ones(3, requires_grad=True) * 1; l = (w * 3).sum()
with tg.no_grad():
    w.add_(1)
g = tg.autograd.grad(l + (w * 5).sum(), [w])

x = tg.ones(3, requires_grad=True); w = x * 1; w.retain_grad(); l = (w * 3).sum()
with tg.no_grad():
    w.add_(1)
(l + (w * 5).sum()).backward(); kept = w.retains_grad

x = tg.ones(3, requires_grad=True); w = x * 1; w.retain_grad(); l = (w * 3).sum(); w.mul_(2)
(l + (w * 5).sum()).backward()
""")

WALKED = programs("""
x = tg.ones(2, requires_grad=True); u = tg.ones(2, requires_grad=True); l = (x * 3 + u * 2).sum()
g = tg.autograd.grad(l, x); h = tg.autograd.grad(l, u)

x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True); y = x * x; y.sum().backward()
l = (y * w).sum(); g = tg.autograd.grad(l, w)

x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True); y = x * x; y.sum().backward()
l = (y * w).sum(); l.backward(inputs=[w])

x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True); y = x * x; y.sum().backward()
l = (y * w).sum(); g, = tg.autograd.grad(l, w, create_graph=True); tracked = g.requires_grad

x = tg.ones(2, requires_grad=True); y = x * x; y.sum().backward(); names = y.grad_fn.next_functions[0][0].name()
""")

REFUSED = [
    (
        "a = tg.tensor(1.0, requires_grad=True); a.data = tg.tensor(3)",
        "data set to a tensor that requires gradients must",
    ),
    ("a = tg.ones(2); b = a[:]; a.requires_grad = True; b.add_(5)", "a view of a leaf Variable that requires grad"),
    (
        "a = tg.ones(2, requires_grad=True)\nwith tg.no_grad(): v = a[:]\nv.add_(1)",
        "A view was created in no_grad mode and is being modified inplace with grad mode enabled",
    ),
    (
        "a = tg.ones(2); x = tg.ones(2, requires_grad=True)\nwith tg.no_grad(): v = a[:]\nv.add_(x)",
        "A view was created in no_grad mode and is being modified inplace with grad mode enabled",
    ),
    ("(tg.ones(3, requires_grad=True) * 2)[0].detach_()", "Can't detach views in-place. Use detach() instead."),
    (
        "x = tg.ones(3, requires_grad=True); x.grad = tg.ones(1).expand(3); (x * x).sum().backward()",
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location",
    ),
    (
        "x = tg.ones(2, requires_grad=True); y = x * x; y.sum().backward(); w = tg.ones(2, requires_grad=True)\n"
        "tg.autograd.grad((y * w).sum(), [w, x])",
        "Trying to backward through the graph a second time",
    ),
    (
        "x = tg.ones(2, requires_grad=True); u = tg.ones(2, requires_grad=True); l = (x * u).sum()\n"
        "tg.autograd.grad(l, x); tg.autograd.grad(l, u)",
        "Trying to backward through the graph a second time",
    ),
    (
        "(tg.ones(2, requires_grad=True) * 2).sum().backward(inputs=[tg.ones(2)])",
        "can't retain_grad on Tensor that has",
    ),
    ("tg.tensor([tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0])])", "only one element tensors can be converted"),
    ("tg.tensor([tg.tensor([]), tg.tensor([])])", "only one element tensors can be converted"),
    ("tg.zeros(2).copy_(None)", "copy_(): argument"),
    ("tg.inner(tg.ones(2, 3), tg.ones(2, 4))", "the last dimension must match on both input tensors but got shapes"),
]

NESTED = programs("""
a = tg.tensor([tg.tensor([1.0]), tg.tensor([2.0])]); b = tg.tensor([tg.tensor([[1.0]]), 2.0])
c = tg.tensor([2, tg.tensor(1)])

a = tg.tensor([[2.0], tg.tensor([1.0])]); b = tg.tensor([[tg.tensor([1.0]), 2.0], [tg.tensor(3.0), 4.0]])

a = tg.tensor([tg.tensor(1.0, dtype=tg.float32), tg.tensor(2.0, dtype=tg.float32)])
b = tg.tensor([tg.tensor(1, dtype=tg.float32), 2.0]); c = tg.tensor([tg.tensor(1), tg.tensor(2.0)])

a = tg.tensor([np.float32(1), np.float32(2)]); b = tg.as_tensor([tg.tensor([1.0]), 2]); c = tg.tensor([[], []])

a = tg.inner(tg.tensor(reals(2, 3, 4)), tg.tensor(reals(5, 4))); b = tg.inner(tg.tensor(2.0), tg.tensor(reals(2, 2)))
""")

# Roots whose elements lie in another order than those that they share, and bases that don't lie in order.
ORDERED = programs("""
x = tg.tensor(reals(3, 4), requires_grad=True); w = tg.ones(2, 3, requires_grad=True); v = x.mT; d = v.detach()
d[::2] = v[::2] * 1
with tg.no_grad():
    x[tg.tensor([2, 1])] = -1.25
e = d.detach(); f = d[1:].detach(); (d * d).sum().backward()

x = tg.tensor(reals(3, 4), requires_grad=True); w = tg.ones(3, requires_grad=True); d = x.mT.detach(); d[0] = w
e = d.mT.detach(); e[0] = 2.0; f = e[1:]
with tg.no_grad():
    x[1:, 2] = 5.0
(d * d).sum().backward()

x = tg.from_numpy(reals(4, 3).T).requires_grad_(); v = x.mT; d = v.detach(); d[::2] = v[::2] * 1
with tg.no_grad():
    x[1] = -1.25
e = d.detach(); u = v + 0; (d * d).sum().backward()

x = tg.from_numpy(reals(3, 4).T.copy("F")).requires_grad_(); v = x.mT[1:]; d = v.detach(); d[0] = v[1] * 2
with tg.no_grad():
    x[1] = -1.25
with tg.no_grad():
    x[2] = 3.0
e = d.detach(); u = v + 0; (d * d).sum().backward()

x = tg.from_numpy(np.asfortranarray(reals(3, 4))); x -= 1.0; c = x.contiguous(); c[:1] = c[1:2]; x.add_(1.0)
s = tg.tensor(x.stride()); f = x.is_contiguous()

x = tg.from_numpy(np.asfortranarray(reals(3, 4))); x[0] = 1.0; x.mul_(2); s = tg.tensor(x.stride())
c = x.contiguous(); c.add_(1)

x = tg.from_numpy(np.asfortranarray(reals(2, 3, 1, 2))).requires_grad_()
with tg.no_grad():
    x[:, 0] -= 1.0
y = x.reshape(-1); y[0] += 1.0; y.sum().backward(); s = x.is_contiguous()
""")

SHARED = programs("""
a = tg.zeros(3); d = a.detach(); x = tg.ones(3, requires_grad=True); arr = d.numpy(); a.add_(x); arr[0] = 7

x = tg.ones(3, requires_grad=True); a = x * 1; arr = a.detach().numpy(); a.mul_(5); arr[0] = 9; (a * a).sum().backward()

x = tg.ones(3, requires_grad=True); a = x * 1; arr = a.detach().numpy()
for _k in range(3):
    a.mul_(2); arr[1] += 1
a[0] = 5; b = arr.copy(); a.sum().backward()

arr = np.arange(6.0).reshape(2, 3).T; t = tg.from_numpy(arr); x = tg.ones(3, 2, requires_grad=True); t.mul_(x)
v = t[1:]; v.add_(1); arr[2] = 4; (t * t).sum().backward()

arr = np.arange(12.0)[::2]; t = tg.from_numpy(arr); d = t.detach(); d.mul_(2); t[1:].add_(1)
e = d[2:]; e.zero_(); arr += 1

x = tg.ones(3, requires_grad=True); arr = x.detach().numpy(); y = x * 2
with tg.no_grad():
    x.add_(1)
arr[0] = 5; z = x * x; (y + z).sum().backward()

t = tg.zeros(3); r = t.detach().requires_grad_(); arr = t.numpy(); t.add_(1); arr[1] = 5; (r * r).sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 1; y.data = tg.zeros(3); arr = y.detach().numpy(); arr[0] = 3; y.mul_(2)
""")


@pytest.mark.parametrize("program", GRAPHS + REPLACED + ACCUMULATED + FORMER + WALKED + NESTED + ORDERED + SHARED)
def test_programs(program: str):
    agree(program, text=False)


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program: str, phrase: str):
    refuse_alike(program, phrase)


def test_a_refused_gradient_leaves_all_gradients_as_they_were():
    x, u = (tg.ones(3, requires_grad=True) for _ in range(2))
    u.grad, x.grad = tg.ones(3), tg.ones(1).expand(3)
    with pytest.raises(RuntimeError, match="more than one element"):
        (x * u).sum().backward()
    assert (x.grad.tolist(), u.grad.tolist()) == ([1.0] * 3, [1.0] * 3)


# --- numbers of tensors -----------------------------------------------------------------------------------------------

LOSING = [
    "float(x)",
    "complex(x)",
    "math.sin(x)",
    "math.floor(x)",
    "int(x)",  # of which PyTorch says nothing
    "tg.tensor([x, 2.0])",
    "float(x * 2)",
    "np.float64(x)",
]
KEEPING = ["x.item()", "x.tolist()", "bool(x)", "f'{x:.2f}'", "str(x)", "x > 1 and True", "min(x, 1.0)"]
UNTRACKED = ["float(x.detach())", "math.sin(tg.tensor(1.5))", "math.sin(x.item())"]


@pytest.mark.parametrize("expression", [*LOSING, *KEEPING, *UNTRACKED])
def test_a_number_that_loses_its_graph_warns_as_in_pytorch(expression: str):
    for requires_grad in (True, False):
        x = tg.tensor(1.5, requires_grad=requires_grad)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            eval(compile(expression, "<user>", "eval"), {"x": x, "tg": tg, "math": math, "np": np})
        texts = [str(w.message) for w in told]
        if expression in LOSING and requires_grad:
            assert texts
            assert texts[0].startswith("Converting a tensor with requires_grad=True to a scalar may lead to unexpected")
            assert told[0].filename == "<user>"
        else:
            assert texts == []


def test_where_nothing_is_recorded_nothing_is_lost():
    x = tg.tensor(1.5, requires_grad=True)
    with tg.no_grad():
        assert float(x) == 1.5


def test_inside_a_transform_it_warns_too():
    with pytest.warns(UserWarning, match="Converting a tensor with requires_grad=True"):
        tg.func.grad(lambda x: x * math.sin(x))(tg.tensor(1.0))


# --- memory of NumPy's ------------------------------------------------------------------------------------------------


class Exposing:
    """An object that shows an array of its own."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        self.array = array
        if name == "interface":
            self.__array_interface__ = array.__array_interface__

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


def memories() -> dict[str, Any]:
    """An object with three ones, and an array that writes to its memory."""
    made: dict[str, Any] = {}
    for name in ("array", "matrix", "recarray", "subclass", "memoryview", "array protocol", "interface", "strided"):
        base = np.ones((1, 3)) if name == "matrix" else np.ones(6)[::2] if name == "strided" else np.ones(3)
        views = {
            "matrix": lambda a: a.view(np.matrix), "recarray": lambda a: a.view(np.recarray),
            "memoryview": memoryview,
            "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
            "interface": lambda a: Exposing(a, "interface"),
            "array protocol": lambda a: Exposing(a, ""),
        }  # fmt: skip
        made[name] = views.get(name, lambda a: a)(base), base
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, "f8", "w+", shape=(3,))
        mapped[:] = 1.0
        made["memmap"] = mapped, mapped
    return made


@pytest.mark.parametrize("name", memories())
def test_memory_is_shared_and_never_read_later_than_recorded(name: str):
    given, base = memories()[name]
    t = tg.as_tensor(given)
    w = tg.ones(3, requires_grad=True)
    pending = [t * 2, t.reshape(-1).detach() + 1, (w * t).reshape(-1), t.sum(), tg.cat([t, t]), t.clone()]
    base[...] = 5.0
    expected = [[2.0] * 3, [2.0] * 3, [1.0] * 3, [3.0], [1.0] * 6, [1.0] * 3]
    assert [p.reshape(-1).tolist() for p in pending] == expected
    assert t.reshape(-1).tolist() == [5.0] * 3
    t += 1
    assert np.asarray(base).ravel().tolist() == [6.0] * 3
    copied = tg.tensor(given)
    base[...] = 7.0
    assert copied.reshape(-1).tolist() == [6.0] * 3


@pytest.mark.parametrize(
    "name",  # the products of np.matrix are of another sort, and refused
    [name for name, (given, _) in memories().items() if isinstance(given, np.ndarray) and name != "matrix"],
)
def test_an_array_beside_tensors_is_what_it_was(name: str):
    given, base = memories()[name]
    w = tg.ones(3, requires_grad=True)
    total = tg.tensor(0.0)
    for step in range(3):
        base[...] = step + 1.0
        total = total + (w * given).sum() + (given * w).sum()
    assert total.item() == 36.0
    total.backward()
    assert w.grad.tolist() == [12.0] * 3


def test_a_read_only_array_is_copied():
    base = np.ones(3)
    shown = base.view()
    shown.flags.writeable = False
    t = tg.from_numpy(shown)
    base[:] = 2.0
    assert t.tolist() == [1.0] * 3


# --- many views -------------------------------------------------------------------------------------------------------


def test_views_nested_deeper_than_the_stack():
    n = 3 * sys.getrecursionlimit()
    for x in (tg.ones(3), tg.from_numpy(np.ones((3, 2)).T)[0]):
        v, held = x, []
        for k in range(n):
            v = v[...] if k % 2 else v.view(3)
            held.append(v)
        v.add_(1)
        assert x.tolist() == held[0].tolist() == held[-1].tolist() == [2.0] * 3
        w = tg.ones(3, requires_grad=True)
        v.mul_(w * 3)
        (x * x).sum().backward()
        assert w.grad.tolist() == [2 * 6.0 * 6.0] * 3


def test_many_views_of_one_tensor():
    x = tg.zeros(1000)
    for k, v in enumerate(x):
        v += k
    assert x.tolist() == list(range(1000))
    rows = list(tg.zeros(500, 2))
    rows[3].add_(2)
    assert [r.tolist() for r in rows[2:5]] == [[0, 0], [2, 2], [0, 0]]


def test_an_outdated_view_is_a_tensor_like_any_other():
    x = tg.ones(2, 2, requires_grad=True) * 1
    v, u = x[0], x[1]
    x.mul_(3)
    assert v.__class__ is tg.Tensor
    assert isinstance(v, tg.Tensor)
    assert (v + u).tolist() == [6.0, 6.0]
    x.mul_(2)
    assert (2 - v).tolist() == [-4.0, -4.0]
    x.mul_(2)
    assert [v.dtype, v.shape, v.requires_grad, repr(v)] == [
        tg.float64,
        (2,),
        True,
        "tensor([12., 12.], grad_fn=<SelectBackward0>)",
    ]
    del v
    x.mul_(2)
    del u
    assert x.sum().item() == 96.0


BITS = programs("""
x = tg.tensor([[1.0, -2.0, 0.5, 3.0]] * 2); i = x.view(tg.int64); i[0, 1] = 1 << 62; x[1].mul_(2); y = x * 1; j = i * 1

x = tg.arange(12).reshape(3, 4); s = x.view(tg.int16); s[:, ::4] = 7; y = x + 0; x.add_(1); t = s + 0

x = tg.arange(24, dtype=tg.uint8).reshape(2, 12); y = x.view(tg.int32) + 0; z = x[:, 4:].view(dtype=tg.int32) + 0

x = tg.tensor([1.0, 2.0], requires_grad=True); y = (x * 2).view(tg.int64); g = y.requires_grad; h = y + 0

x = tg.ones(3, 4).T; y = x.view(tg.int64) + 0; b = tg.tensor([0, 1], dtype=tg.uint8).view(tg.bool)
""")
NO_BITS = programs("""
tg.ones(3, dtype=tg.float32).view(tg.float64)

tg.ones(2, 4).T.view(tg.int32)

tg.ones(()).view(tg.int32)

tg.ones(2, 6, dtype=tg.float32)[:, 1:3].view(tg.float64)

tg.ones(2, 3, dtype=tg.float32)[:, :2].view(tg.float64)
""")


@pytest.mark.parametrize("program", BITS)
def test_other_dtypes_over_the_same_bits(program: str):
    agree(program)


@pytest.mark.parametrize("program", NO_BITS)
def test_bits_that_make_no_whole_elements_are_refused_alike(program: str):
    refuse_alike(program, "to view")
