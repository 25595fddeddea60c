"""In-place operations, on leaves, on results and through views; what shares memory and what does not."""

import pytest

import tapegrad

from .oracle import agree, agree_or_refuse_alike, differences, programs, refuse_alike, report, run, torch

IN_PLACE = [
    "x = tg.ones(3); x += 1; x -= 0.5; x *= 4; x /= 3; x **= 2; x //= 1; x %= 3",
    "x = tg.ones(3); y = x; y += 1; same = x is y",
    "x = tg.ones(3); y = x.add_(1); same = y is x; x.sub_(2).mul_(3).div_(4).pow_(2)",
    "x = tg.tensor([1.0, -2.0]); x.abs_().neg_().exp_(); x.zero_(); x.fill_(3); x.copy_(tg.tensor([4.0, 5.0]))",
    "x = tg.tensor([-1.0, 0.5, 2.0]); x.clamp_(0, 1); x.sqrt_().sigmoid_().relu_().tanh_()",
    "x = tg.ones(2, 3); x += tg.tensor([1.0, 2.0, 3.0]); x *= tg.tensor([[1.0], [2.0]])",
    "x = tg.ones(2, 3, dtype=tg.float32); x += tg.tensor([1.0, 2.0, 3.0]); x *= 2.5",
    "x = tg.tensor([1, 2]); x += 1; x *= tg.tensor([3, 4]); x += True; x //= 2; x **= 2",
    "x = tg.tensor([True, False]); x |= True; x &= tg.tensor([False, True]); x ^= True",
    "x = tg.tensor(1.0); x += 1; x *= x",
    "x = tg.ones(3); x += x; x -= x / 2; x *= x + 1",
    "x = tg.zeros(0); x += 1",
]

VIEWS = programs("""
x = tg.zeros(2, 3); x[0] += 1; x[:, 1] *= 5; x[1, 2] -= 3

x = tg.zeros(2, 3); v = x[0]; v += 1; w = x[:, 1]; w *= 5; v[2] = 9

x = tg.zeros(2, 3); v = x[0]; x += 1; x[0, 0] = 7

x = tg.zeros(2, 3); v = x.T; v += 1; v[0] = 5; w = x.transpose(0, 1)[1]; w -= 2

x = tg.zeros(2, 3); v = x.view(-1); v[1:3] = 4; w = x.view(3, 2); w[2] += 1

x = tg.zeros(2, 3); v = x.reshape(6); v[0] = 4; w = x.T.reshape(6); w[0] = 9

x = tg.zeros(2, 3); v = x.flatten(); v += 1; w = x.T.flatten(); w += 1

x = tg.zeros(1, 3); v = x.squeeze(); v += 1; w = x.unsqueeze(0); w *= 3; u = x.permute(1, 0); u -= 1

x = tg.zeros(3); v = x.expand(2, 3); x += 1; x[0] = 5

x = tg.zeros(6); v = x[::2]; w = v[1:]; w += 1; v *= 10; x[4] = 2

x = tg.zeros(2, 3); a, b = x; a += 1; b -= 1

x = tg.zeros(2, 2)
for _row in x:
    _row += 1

x = tg.arange(6.0).reshape(2, 3); v = x[0]; w = x[0]; v += 1; w += 1; u = x[0, 1:]; u.zero_()

x = tg.zeros(3); v = x[[0, 1]]; v += 1; w = x[x == 0]; w += 1

x = tg.zeros(3); v = x.clone(); v += 1; w = x * 1; w += 1; u = +x; u += 1

x = tg.zeros(3); v = x.to(tg.float64); v += 1

x = tg.zeros(2, 3); x.T[0] = 1; x.T[1:] += 2; x[0].view(3)[2] = 9

x = tg.zeros(3); v = x[None]; v += 1; w = x[...]; w += 1; u = x[:]; u += 1

x = tg.zeros(3); v = x[0]; v += 1; y = x * 2; v += 1; z = x * 2

x = tg.zeros(3); y = x + 1; x += 5; z = x + 1

x = tg.arange(4.0); x[1:] = x[:-1] * 2; x[:2] = x[2:]
""")

SHARING = [
    "x = tg.ones(3); d = x.detach(); d += 1; x *= 5",
    "x = tg.ones(3, requires_grad=True); d = x.detach(); d += 1; d[0] = 7",
    "x = tg.ones(3, requires_grad=True); x.data += 1; x.data[0] = 9; d = x.data",
    "x = tg.ones(3, requires_grad=True); x.data = tg.tensor([1.0, 2.0, 3.0]); y = (x * x).sum(); y.backward()",
    "x = tg.ones(3); a = x.numpy(); a[0] = 5",
    "x = tg.ones(3); a = x.numpy(); x += 1; x[0] = 9",
    "x = tg.ones(2, 3); a = x.T.numpy(); a[0] = 5; b = x[1].numpy(); b += 1",
    "x = tg.ones(3); y = copy.copy(x); y += 1",
    "x = tg.ones(3); y = tg.as_tensor(x); y += 1; z = tg.tensor(x.tolist()); z += 1",
    "a = np.ones(3); x = tg.from_numpy(a); y = x * 2; a[0] = 5; z = x * 2",
]

LEAVES = programs("""
x = tg.ones(3, requires_grad=True); y = x * 2; d = y.detach(); d += 1; (y * y).sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 2
with tg.no_grad():
    y[0] += 1
(y * y).sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 2
with tg.no_grad():
    x += 1
y.sum().backward()

x = tg.ones(3, requires_grad=True)
with tg.no_grad():
    x += 1
    x[0] = 5
y = (x * x).sum(); y.backward()

x = tg.ones(3, requires_grad=True)
y = (x * x).sum(); y.backward()
with tg.no_grad():
    x -= 0.1 * x.grad
x.grad.zero_()

x = tg.ones(3, requires_grad=True)
for _step in range(3):
    ((x - 3) ** 2).sum().backward()
    with tg.no_grad():
        x -= 0.25 * x.grad
    x.grad = None

x = tg.ones(3, requires_grad=True)
for _step in range(3):
    ((x - 3) ** 2).sum().backward()
    x.data -= 0.25 * x.grad
    x.grad.zero_()

x = tg.ones(3, requires_grad=True)
with tg.no_grad():
    v = x[0]
    v += 1
    del v
y = x.sum(); y.backward()

x = tg.ones(3); y = tg.ones(3, requires_grad=True); x += y; x.sum().backward()
tracked = x.requires_grad

x = tg.ones(3); x *= tg.tensor(2.0, requires_grad=True); leaf = x.is_leaf

x = tg.ones(3); x.requires_grad_(); y = x * 2; y += 1; y *= 3; y.sum().backward()
""")

GRADIENTS = programs("""
x = tg.ones(3, requires_grad=True); y = x * 2; y += 1; y *= 3; y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 2; v = y[1:]; v *= 3; z = v.sum(); y.sum().backward()

x = tg.ones(2, 3, requires_grad=True); y = x * 2; y[0] *= 3; y.T[1] += x[:, 1]; y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x.clone(); v = y[0]; v.mul_(3); w = v * 2
(w + y.sum()).backward()

x = tg.ones(3, requires_grad=True); y = tg.zeros(3); v = y[1:]; v += x[1:]; y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x + 0; v = y.view(3, 1); y *= 2; (v * v).sum().backward()

x = tg.ones(3, requires_grad=True); y = x * 1; y.zero_(); y += x; y.sum().backward()

x = tg.ones(3, requires_grad=True); s = tg.zeros(())
for _i in range(3):
    s += x[_i] * _i
s.backward()

x = tg.ones(3, requires_grad=True); y = x + 0; y[1:] += y[:-1].clone(); y.sum().backward()

x = tg.ones(4, requires_grad=True); y = x + 0; a, b = y[:2], y[2:]; a += b; b *= 2
y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x + 0; y.sub_(3).neg_(); y.sum().backward()

x = tg.ones(3, requires_grad=True); y = x + 0; d = y.detach(); y.sum().backward()
""")


@pytest.mark.parametrize("program", IN_PLACE + VIEWS)
def test_values(program: str):
    agree(program)


@pytest.mark.parametrize("program", SHARING)
def test_sharing(program: str):
    agree(program)


@pytest.mark.parametrize("program", LEAVES)
def test_leaves(program: str):
    agree(program, text=False)


@pytest.mark.parametrize("program", GRADIENTS)
def test_gradients(program: str):
    agree(program, text=False)


# PyTorch refuses these ("modified by an inplace operation"), because it saved a value that is gone. A tape of single
# assignments keeps what it needs, so the answer is that of the same program out of place.
REFUSED_BY_PYTORCH = [
    ("y = x.exp(); y += 1; z = y.sum()", "y = x.exp() + 1; z = y.sum()"),
    ("y = x * x; z = (y * y).sum(); y += 1", "y = x * x; z = (y * y).sum(); y = y + 1"),
    ("w = x + 1; z = (w * w).sum(); w *= 5", "w = x + 1; z = (w * w).sum(); w = w * 5"),
    ("y = x.sigmoid(); y[0] = 0; z = y.sum()", "y = tg.cat([tg.zeros(1), x.sigmoid()[1:]]); z = y.sum()"),
    (
        "y = x * 1; s = y.square(); y[1:] = 0; z = s.sum()",
        "y = tg.cat([x[:1], tg.zeros(2)]); s = x.square(); z = s.sum()",
    ),
    ("y = x + 0; v = y[0]; z = y.prod(); v += 5", "y = x + tg.tensor([5.0, 0.0, 0.0]); v = y[0]; z = x.prod()"),
]


@pytest.mark.parametrize(("in_place", "out_of_place"), REFUSED_BY_PYTORCH)
def test_a_saved_value_cannot_be_corrupted(in_place: str, out_of_place: str):
    leaf = "x = tg.tensor([0.5, 1.5, 2.0], requires_grad=True); "
    expected = run(torch, f"{leaf}{out_of_place}; z.backward()")
    got = run(tapegrad, f"{leaf}{in_place}; z.backward()")
    for outcome in (expected, got):
        if isinstance(outcome, Exception):
            raise outcome
    report(in_place, differences(expected, got, text=False, tolerance=None))


@pytest.mark.parametrize(
    "program",
    [
        "x = tg.tensor(reals(2, 3)); y = x.t_(); y is x",
        "x = tg.tensor(reals(2, 1, 3)); x.squeeze_(1)",
        "x = tg.tensor(reals(2, 3)); x.unsqueeze_(1); x.transpose_(0, 2)",
        "x = tg.tensor(reals(2, 3)); x.swapaxes_(0, 1); x.swapdims_(-1, 0)",
        "x = tg.tensor(reals(3, 3)); x.tril_(); x.triu_(-1)",
        "x = tg.tensor(reals(3, 3), requires_grad=True); y = x * 2; y.t_(); (y * weights(y)).sum().backward()",
        "x = tg.tensor(reals(3, 3), requires_grad=True); y = x * 2; y.tril_(1); (y * weights(y)).sum().backward()",
        "x = tg.tensor(reals(3, 2)); x.resize_(2, 2)",
        "x = tg.tensor(reals(3, 2)); x.resize_as_(tg.zeros(6)); x",
        "x = tg.tensor(reals(3, 2), requires_grad=True); x.t_()",
        "x = tg.ones(2, 3); v = x[0]; x.t_(); x[0] = 5; v, x",
        "x = tg.arange(6.0); v = x.view(2, 3); v.t_(); v[0] = 9; x[5] = -1; v.unsqueeze_(0); v.mul_(2); v.squeeze_()",
        "x = tg.ones(4).reshape(2, 2); a = x.numpy(); x.t_(); x.unsqueeze_(1); x[0] = 7; tg.ones(6)[:4].resize_(2, 2)",
        "a = tg.arange(6.0, requires_grad=True); b = (a * 2).view(2, 3); b.t_(); (b * weights(b)).sum().backward()",
        "a = tg.ones(6, requires_grad=True); b = a * 2; c = b.view(2, 3).t_(); c.mul_(weights(c)); b.sum().backward()",
        "x = tg.tensor(reals(3, 2), requires_grad=True); x.resize_(2)",
    ],
)
def test_shapes_in_place(program):
    agree_or_refuse_alike(program, text=False)


def test_a_size_that_others_see_stays():
    x = tapegrad.ones(2, 3)
    first = x[0]
    with pytest.raises(RuntimeError, match="others share its elements"):
        x.resize_(3, 3)
    assert (x.shape, first.shape) == ((2, 3), (3,))


@pytest.mark.parametrize("shape", ["(3, 3)", "(2, 4)", "(7, 2)", "(8, 2)", "(2, 2, 2)", "(3, 0)"])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape: str, wrap: bool):
    agree(f"""
w = tg.tensor(weights(tg.zeros{shape}).tolist(), dtype=tg.float64).reshape{shape}.requires_grad_()
x = w * 2
x.fill_diagonal_(3, wrap={wrap})
(x * weights(x)).sum().backward()
""", text=False)  # fmt: skip


@pytest.mark.parametrize("shape", ["(3,)", "(2, 3, 3)"])
def test_fill_diagonal_refuses(shape: str):
    agree_or_refuse_alike(f"tg.zeros{shape}.fill_diagonal_(1.0)")


@pytest.mark.parametrize("name", ["half", "bfloat16"])
def test_dtypes_that_are_not_there_are_refused_by_name(name: str):
    with pytest.raises(TypeError, match=rf"{name}\(\): tapegrad has no \w+, but bool, int32"):
        getattr(tapegrad.ones(2), name)()


def test_a_dtype_that_is_not_there_is_no_device():
    with pytest.raises(TypeError, match="dtype must be one of"):
        tapegrad.ones(2).to("float16")


# Elements that are written in loops: what was done before is done again in few steps, and all else by the general way.
ELEMENTS = programs("""
x = tg.zeros(3, 4, dtype=tg.float64)
for i in range(3):
    for j in range(4): x[i, j] = i - 0.5 * j; x[i, -1 - j] += 1.5; x[-3, 0] *= 2
n = x._version

w = tg.tensor(reals(3, 4), requires_grad=True); x = w * 1; _s = w.sum()
for k in range(6): x[k % 3, k % 4] += _s; x[0, k % 4] = _s * k; x[k % 3, 1] += x[2, k % 4]; x[1, 1] = 2.5; x[2, 0] -= 1
(x * weights(x)).sum().backward()

x, _w = tg.zeros(2, 2, dtype=tg.float64), tg.ones((), dtype=tg.float64, requires_grad=True)
with tg.no_grad():
    for k in range(3): x[0, 1] = _w; x[1, 1] += _w
a = x.requires_grad; x[0, 1] = _w * 3; b = x.requires_grad; x.sum().backward(); g = _w.grad
with tg.no_grad():
    _y = (x * _w).clone()
    for k in range(3): _y[0, 0] = _w; _y[0, 0] += 1
y = _y

x = tg.zeros(2, 3, dtype=tg.float64); x[0, 0] = 1.0; x[0, 0] += 1; _v = x[1]; _e = x[1, 2]; x[1, 2] = 5.0; x[1, 2] += 1
v, e = _v, _e; x[0, 1] = x[1, 2]; x[0, 2] = x[0, 1] * 2; _e += 1; x[1, 0] = _e; z = x[0, 1]; z += 3

x = tg.zeros(2, 3, dtype=tg.float64); _e = x[1, 1]; _e += 2; x[0, 0] = _e; x[1, 1] = _e; x[0, 1] = x[0, 0]
n = x._version

x = tg.zeros(3, dtype=tg.float64); x[(1,)] = 2.0; x[(1,)] += 2.0; y = tg.zeros((), dtype=tg.float64)
y[()] = 3.0; y[()] += 1
u = tg.zeros(2, 1, dtype=tg.float64); u[True, 1] = 1.0

x = tg.zeros(2, 2, dtype=tg.int64); y = tg.zeros(2, 2, dtype=tg.float32); b = tg.zeros(2, 2, dtype=tg.bool)
for k in range(3): x[0, 1] = 2.7; x[1, 1] += 3; y[0, 1] = 0.1; y[1, 0] += 0.1; y[1, 1] = float("nan"); b[0, 1] = 2.0
x[0, 0] = tg.tensor(2.7); y[0, 0] = tg.tensor(0.1, dtype=tg.float64); x[1, 0] = True; y[1, 0] = 3

x = tg.tensor(reals(3, 4)).T; y = tg.zeros(2, 1).expand(2, 2).clone(); _a = np.zeros((2, 2)); z = tg.from_numpy(_a)
for k in range(3): x[1, 2] = 0.5; x[k, 0] += 1; y[0, 1] = 1.0; z[0, 1] = 2.0; z[1, k % 2] += 1
_a[0, 0] = 7.0; m = _a.sum()

x = tg.zeros(2, 2, dtype=tg.float64); x[0, 1] = 1.0; x[0, 1] += 1; _y = x.clone(); _d = x.detach(); x[0, 1] += 1
x[0, 0] = 2.0; y, d = _y, _d

_w = tg.ones(2, 2, dtype=tg.float64, requires_grad=True); _l = []; x = _w * 2; x.register_hook(_l.append); x[0, 1] = 3.0
x[0, 1] += 1; x.sum().backward(); l = _l; g = _w.grad
""")  # fmt: skip


@pytest.mark.parametrize("program", ELEMENTS)
def test_elements_written_in_loops(program):
    agree(program, text=False)


@pytest.mark.parametrize(
    ("write", "phrase"),
    [
        ("x[2, 0] = 1.0", "index 2 is out of bounds for dimension 0 with size 2"),
        ("x[0, -4] += 1.0", "index -4 is out of bounds for dimension 1 with size 3"),
        ("x[0, 0, 0] = 1.0", "too many indices for tensor of dimension 2"),
        ("w[0, 1] = 1.0", "a view of a leaf Variable that requires grad is being used in an in-place operation."),
        ("w[0, 1] += 1.0", "a view of a leaf Variable that requires grad is being used in an in-place operation."),
        ("f[0, 1] = 1e300", "value cannot be converted to type float without overflow"),
        ("x[0, 1] = tg.ones(2)", "expand(torch.FloatTensor{[2]}, size=[]): the number of sizes provided (0) must be "),
    ],
)
def test_elements_refused(write, phrase):
    before = "x, f = tg.zeros(2, 3), tg.zeros(2, 3, dtype=tg.float32); w = tg.zeros(2, 3, requires_grad=True)\n"
    again = "for k in range(2): x[0, 1] = 1.0; x[1, 1] += 1; f[0, 0] = 1.0\n"
    if "expand" in phrase:
        agree_or_refuse_alike(before + again + write)
    else:
        refuse_alike(before + again + write, phrase)
