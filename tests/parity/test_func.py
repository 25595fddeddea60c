"""Transforms of functions of Tensors, beside `torch.func`."""

import pytest

from .oracle import agree, programs, refuse_alike

WRITTEN = """
def _cubes(x):
    return (x ** 3).sum()
def _wave(x, s):
    return (x * s).sin()
def _model(p, x):
    h = (x @ p["w"][0] + p["w"][1]).tanh()
    return (h @ p["v"]).sum() * p["scale"]
x = tg.tensor(reals(3)); s = tg.tensor(0.7); m = tg.tensor(reals(2, 3))
w = tg.tensor(positives(3), requires_grad=True)
p = {"w": [tg.tensor(reals(3, 4)), tg.tensor(units(4))], "v": tg.tensor(reals(4)), "scale": tg.tensor(1.5)}
"""

TRANSFORMS = programs("""
g = tg.func.grad(_cubes)(x)

g = tg.func.grad(_cubes)(x.to(tg.float32))

g = tg.func.grad(_cubes)(m.T)

g = tg.func.grad(lambda x, s: (x * s).sum(), argnums=(1, 0))(x, s)

g = tg.func.grad(lambda x, s: (x * s).sum(), argnums=-1)(x, s)

g = tg.func.grad(lambda x, s: (x * s).sum(), argnums=(0,))(x, s=s)

g = tg.func.grad(lambda x: (_cubes(x), {"doubled": x * 2, "rest": [x.sum()]}), has_aux=True)(x)

g = tg.func.grad(lambda x: tg.tensor(3.0))(x)

g = tg.func.grad(lambda x, n, name: (x ** n).sum())(x, 3, "cube")

g = tg.func.grad(_model)(p, m)

g = tg.func.grad(_model, argnums=(1, 0))(p, m)

g = tg.func.grad(lambda d: (d["a"][0] * d["b"][1][0]).sum())({"a": (x,), "b": [s, (s, s)]})

y, _pull = tg.func.vjp(lambda x: x * 2, x); a = _pull(x); b = _pull(y)

y, _pull = tg.func.vjp(lambda x, s: {"wave": _wave(x, s), "sum": [x.sum()]}, x, s)
a = _pull({"wave": x, "sum": [s]})

y, _pull = tg.func.vjp(lambda x, p: (x * p["k"], p["k"] * 2), x, {"k": s}); a = _pull((x, s))

y, _pull, aux = tg.func.vjp(lambda x: (x * 2, x + 1), x, has_aux=True); a = _pull(x)

y, t = tg.func.jvp(_wave, (x, s), (x * 2, s + 1))

y, t = tg.func.jvp(lambda x: (x * 2, x.sum()), (x,), (x,))

y, t, aux = tg.func.jvp(lambda x: (x * 2, x.sum()), (x,), (x,), has_aux=True)

y, t = tg.func.jvp(lambda d: {"o": d["a"] ** 2}, ({"a": x},), ({"a": x + 1},))

y, t = tg.func.jvp(lambda x: s + 0, (x,), (x,))

y, t = tg.func.jvp(lambda x: (x.exp(), s * 2), (x,), (x,))

j = tg.func.jacrev(_wave)(x, s)

j = tg.func.jacrev(_wave, argnums=(0, 1))(x, s); k = tg.func.jacfwd(_wave, argnums=(0, 1))(x, s)

j = tg.func.jacrev(lambda x: (x.sum(), {"a": x * x}))(x); k = tg.func.jacfwd(lambda x: (x.sum(), {"a": x * x}))(x)

j = tg.func.jacrev(lambda m: m.T @ m)(m); k = tg.func.jacfwd(lambda m: m.T @ m)(m)

j = tg.func.jacrev(lambda d: d["a"] * d["b"])({"a": x, "b": s})

j = tg.func.jacfwd(lambda d: {"o": d["a"] * d["b"], "p": d["b"] * 2})({"a": x, "b": s})

j = tg.func.jacrev(lambda x: s * 3)(x); k = tg.func.jacrev(lambda x: (x * 2, s), has_aux=True)(x)

j = tg.func.jacrev(_wave, argnums=(0,))(x, s)

h = tg.func.hessian(_cubes)(x)

h = tg.func.hessian(lambda x, s: (x * x * s).sum(), argnums=(0, 1))(x, s)

h = tg.func.hessian(lambda d: (d["a"] ** 2 * d["b"]).sum())({"a": x, "b": s})

h = tg.func.hessian(lambda x: x ** 3)(x)

h = tg.func.hessian(lambda x: x.sum())(x)

h = tg.func.hessian(lambda x: (x @ x).exp() / x.sum())(x)
""")

NESTED = programs("""
g = tg.func.grad(tg.func.grad(lambda s: s ** 4))(s)

g = tg.func.grad(tg.func.grad(tg.func.grad(lambda s: s.sin() * s ** 3)))(s)

j = tg.func.jacrev(tg.func.jacrev(_cubes))(x); k = tg.func.jacfwd(tg.func.jacrev(_cubes))(x)
l = tg.func.jacrev(tg.func.jacfwd(_cubes))(x); m = tg.func.jacfwd(tg.func.jacfwd(_cubes))(x)

j = tg.func.jacrev(tg.func.jacrev(tg.func.jacrev(lambda x: (x ** 3).sum() * x[0])))(x)

g = tg.func.grad(lambda x: tg.func.grad(lambda y: (x * y * y).sum())(x).sum())(x)

g = tg.func.grad(lambda x: (x * tg.func.grad(lambda y: (x * y).sin().sum())(x * 2)).sum())(x)

g = tg.func.grad(lambda x: (x * tg.func.grad(_cubes)(tg.ones(3))).sum())(x)

y, t = tg.func.jvp(tg.func.grad(_cubes), (x,), (x + 1,))

y, t = tg.func.jvp(lambda s: tg.func.jvp(lambda r: (r * s).sin(), (s,), (tg.ones_like(s),))[1], (s,), (s,))

y, _pull = tg.func.vjp(tg.func.grad(_cubes), x); g = _pull(x)

g = tg.func.grad(lambda x: tg.func.vjp(lambda y: y ** 3, x)[1](x)[0].sum())(x)

g = tg.func.grad(lambda c: (tg.func.vjp(lambda y: y ** 3, x)[1](c)[0] ** 2).sum())(x)

g = tg.func.grad(lambda t: (tg.func.jvp(lambda y: y ** 3, (x,), (t,))[1] ** 2).sum())(x)

g = tg.func.grad(lambda x: tg.func.hessian(_cubes)(x).sum())(x)

g = tg.func.grad(lambda p: tg.func.grad(_model)(p, m)["v"].sum())(p)

h = tg.func.hessian(lambda x: tg.func.grad(_cubes)(x) @ x)(x)
""")

# What is outside: tensors that require grad, modes, `backward` beside transforms.
OUTSIDE = programs("""
g = tg.func.grad(lambda x: (x * x * w).sum())(x); g.sum().backward()

g = tg.func.grad(lambda x: (x * x + w).sum())(x)

g = tg.func.grad(lambda x: (x * x).sum())(w); (g ** 2).sum().backward()

y = w * 2; g = tg.func.grad(_cubes)(y); (g ** 2).sum().backward()

g = tg.func.grad(lambda x: (x * 3).sum())(w)

c = w * 2; g = tg.func.grad(lambda x: (x * c).sum())(c); g.sum().backward()

g = tg.func.grad(lambda x, s: (x * s).sum())(x, w); g.sum().backward()

with tg.no_grad():
    g = tg.func.grad(lambda x: (x * x * w).sum())(w)

with tg.no_grad():
    g = tg.func.grad(tg.func.grad(lambda s: s ** 4))(s)

def _partly(x):
    with tg.no_grad():
        c = x * x
    return (x - c).sum()
g = tg.func.grad(_partly)(x)

def _inner(x):
    with tg.no_grad():
        c = tg.func.grad(_cubes)(x)
    return (x * c).sum()
g = tg.func.grad(_inner)(x)

g, aux = tg.func.grad(lambda x: (_cubes(x), x * w), has_aux=True)(x); aux.sum().backward()

g, aux = tg.func.grad(lambda x: (_cubes(x), x * x), has_aux=True)(x)

g, aux = tg.func.grad(lambda x: (_cubes(x), x * x), has_aux=True)(w); (g + aux).sum().backward()

y, _pull = tg.func.vjp(lambda x: x ** 3, x); g = _pull(w); g[0].sum().backward()

y, _pull = tg.func.vjp(lambda x: x ** 3, w); g = _pull(x); g[0].sum().backward()

y, t = tg.func.jvp(lambda x: x ** 3, (w,), (x,)); t.sum().backward()

y, t = tg.func.jvp(lambda x: x ** 3, (x,), (w,)); t.sum().backward()

y, t = tg.func.jvp(lambda x: x ** 3 * w, (x,), (x,)); (t + y).sum().backward()

j = tg.func.jacrev(lambda x: x ** 2 * w)(x); (j ** 2).sum().backward()

j = tg.func.jacfwd(lambda x: x ** 2 * w)(x); (j ** 2).sum().backward()

h = tg.func.hessian(lambda x: (x ** 3 * w).sum())(x); (h ** 2).sum().backward()

h = tg.func.hessian(_cubes)(w); (h ** 2).sum().backward()

g = tg.func.grad(lambda x: (x.detach() * x).sum())(x)

(w * x).sum().backward(); g = tg.func.grad(lambda x: (x * w).sum())(w)
""")


@pytest.mark.parametrize("program", TRANSFORMS + NESTED + OUTSIDE)
def test_transforms(program):
    agree(WRITTEN + program, text=False)


# The program, and how PyTorch's message goes, without names of internal functions.
REFUSED = [
    ("tg.func.grad(lambda x: x * 2)(x)", "Expected f(*args) to return a scalar Tensor, got tensor with 1 dims"),
    ("tg.func.grad(lambda x: 3.0)(x)", "Expected f(*args) to return a Tensor, got <class 'float'>"),
    ("tg.func.grad(lambda x: (x.sum(),))(x)", "Expected f(*args) to return a Tensor, got <class 'tuple'>"),
    ("tg.func.grad(lambda x: x.sum(), has_aux=True)(x)", "output of function f should be a tuple: (output, aux)"),
    ("tg.func.grad(lambda x: (x.sum(), 1, 2), has_aux=True)(x)", "output of function f should be a tuple"),
    ("tg.func.grad(lambda x: x.sum())(tg.tensor([1, 2]))", "only Tensors of floating point dtype can require grad"),
    ("tg.func.jacrev(lambda x: x)(tg.tensor([1, 2]))", "only Tensors of floating point dtype can require grad"),
    ("tg.func.grad(lambda x: x.sum(), argnums=5)(x)", "Got argnum=5, but only 1 positional inputs"),
    ("tg.func.grad(lambda x, y: (x * y).sum(), argnums=(0, 0))(x, x)", "argnums elements must be unique, got (0, 0)"),
    ("tg.func.grad(lambda x: x.sum(), argnums='x')(x)", "argnums must be int or Tuple[int, ...], got: <class 'str'>"),
    ("tg.func.grad(lambda x: x.add_(1).sum())(x)", "a leaf Variable that requires grad is being used in an in-place"),
    ("tg.func.vjp(lambda x: x * 2, x)[1]((x,))", "Expected pytree structure of cotangents to be the same as pytree "
     "structure of outputs to the function. cotangents: (*,), primal output: *"),
    ("tg.func.vjp(lambda x: {'a': x, 'b': [x]}, x)[1]({'a': x})", "cotangents: {'a': *}, primal output: {'a': *, 'b'"),
    ("tg.func.vjp(lambda x: x * 2, x)[1](s)", "Mismatch in shape: grad_output[0] has a shape of"),
    ("tg.func.vjp(lambda x: (x, 3), x)", "vjp(f, *primals): expected f(*primals) to return only tensors, got unsupp"),
    ("tg.func.jvp(lambda x: x, x, x)", "jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be "
     "valid to call f(*primals)."),
    ("tg.func.jvp(lambda x: x, (x,), (x, x))", "jvp(f, primals, tangents): Expected primals and tangents to have the "
     "same python structure. For example, if primals is a tuple of 3 tensors, tangents also must be."),
    ("tg.func.grad(lambda x: x)(x)", "grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got"),
    ("tg.func.grad(lambda x: 3.0)(x)", "grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got <class"),
    ("tg.func.jacrev(lambda x: 3.0)(x)", "vjp(f, *primals): expected f(*primals) to return only tensors, got unsupp"),
    ("tg.func.jacfwd(lambda x: 3.0)(x)", "jvp(f, primals, tangents): expected f(*primals) to return only tensors"),
    ("tg.func.jvp(lambda x: 3.0, (x,), (x,))", "jvp(f, primals, tangents): expected f(*primals) to return only"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(WRITTEN + program, phrase)


def test_batch_normalisations_without_running_statistics():
    agree(
        """
_m = tg.nn.Sequential(tg.nn.BatchNorm1d(2), tg.nn.Sequential(tg.nn.BatchNorm2d(3)))
_m = tg.func.replace_all_batch_norm_modules_(_m).double()
state = list(_m.state_dict()); y = _m.eval()[0](tg.tensor(reals(3, 2))); text = repr(_m)
_d = tg.utils.data; c = _d.default_convert({"a": np.ones(2), "b": [1, "x", np.int64(3)]}); w = _d.get_worker_info()
""",
        text=False,
    )
