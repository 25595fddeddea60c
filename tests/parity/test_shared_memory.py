"""Memory shared with NumPy: random programs in which both sides write, and what is recorded between the writes.

Gradients are of functions that are linear in what is shared: a gradient that depends on it has the elements that were
there when the operation was recorded, where PyTorch reads what was written since.
"""

import random

import pytest

from .oracle import agree

BEGINNINGS = (
    "x = tg.tensor({values})\na = x.numpy()",
    "a = np.array({values})\nx = tg.from_numpy(a)",
    "a = np.array({values})\nx = tg.from_numpy(a[::-1].copy()[:]).clone()\na = x.numpy()",
    "x = tg.tensor({values}, requires_grad=True)\na = x.detach().numpy()",
    "a = np.array({values})\nx = tg.from_numpy(a).requires_grad_()",
    "x = (tg.tensor({values}) * 2).detach()\na = x.numpy()",
    "w = tg.tensor({values}, requires_grad=True)\nx = w * 2\na = x.detach().numpy()",
    "w = tg.tensor({values})\nx = w[1:]\na = x.numpy()",
    "w = tg.tensor({values})\nx = w.view(-1)\na = w.numpy()",
)
STATEMENTS = (
    "a[{i}] = {v}",
    "a += {v}",
    "ys.append(x * {v})",
    "ys.append(x[{i}] + x.sum())",
    "ys.append(tg.cat([x, x * {v}]))",
    "v = x[1:]\nys.append(v - {v})",
    "ys.append(v.detach().exp())",
    "v.detach().numpy()[{i}] = {v}",
    "d = x.detach()\nys.append(d + x)",
    "d.numpy()[{i}] = {v}",
    "ys.append(d.mean())",
    "with tg.no_grad():\n    x += {v}",
    "with tg.no_grad():\n    x[{i}] = {v}",
    "with tg.no_grad():\n    x.mul_({v})",
    "ys.append(tg.tensor(a) + x)",
    "b = x.detach().clone().numpy()\nb[{i}] = {v}\nys.append(tg.from_numpy(b) * x)",
    "a = x.detach().numpy()",
    "ys.append(x.detach().tolist())",
    "ys.append(x.detach().argmax())",
    "ys.append(tg.dot(d, x.detach()))",
)


def program(seed: int) -> str:
    rng = random.Random(seed)
    n = rng.choice([4, 5, 5, 6, 9000])
    values = [rng.randrange(-8, 9) / 4 for _ in range(6)]
    text = repr(values[:n]) if n < 7 else f"np.resize({values}, {n})"
    lines = ["ys = []", rng.choice(BEGINNINGS).format(values=text), "v, d = x[1:], x.detach()"]
    lines += [
        rng.choice(STATEMENTS).format(i=rng.randrange(2), v=rng.randrange(-8, 9) / 4)
        for _ in range(rng.randrange(4, 12))
    ]
    lines.append("a = a.copy()")
    lines.append("total = sum((y.sum() for y in ys if isinstance(y, tg.Tensor) and y.requires_grad), tg.zeros(()))")
    lines.append("if total.requires_grad:\n    total.backward()")
    return "\n".join(lines)


@pytest.mark.parametrize("start", range(0, 300, 25))
def test_both_sides_see_what_is_written(start: int):
    for seed in range(start, start + 25):
        agree(program(seed), text=False, tolerance=1e-12)


@pytest.mark.parametrize("n", [3, 9000])
def test_gradients_reach_a_leaf_that_numpy_shares(n: int):
    agree(f"""
x = tg.tensor(np.ones({n}), requires_grad=True)
y = (x * 3).sum()
a = x.detach().numpy()
z = (x * 4).sum() + x[0] * 5
a[0] = 7.0
y.backward(retain_graph=True)
(y + z).backward()
g = tg.autograd.grad((x * 2).sum() + (x * 3).sum(), x)
leaf = x.is_leaf
""")


def test_writes_to_data_are_its_own_affair():
    agree("""
x = tg.ones(3); y = x.data; y.add_(1); y[0].mul_(2); v = x._version, y._version; x.mul_(2); w = x._version, y._version
x.detach().add_(1); x.data[1] = 7.0; u = x._version
""")
