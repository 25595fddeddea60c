"""A deep equilibrium layer: the fixed point found without a graph, its gradient by the implicit function theorem."""

import numpy as np
import torch
import torch.autograd as autograd
import torch.nn as nn

random = np.random.default_rng(8)
torch.manual_seed(0)


class Cell(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, size, bias=False)
        self.norm = nn.LayerNorm(size)

    def forward(self, z, x):
        return self.norm(torch.tanh(self.linear(z)) + x)


def iterate(f, z, tolerance=1e-10, most=200):
    k = 0
    while k < most:
        previous, z, k = z, f(z), k + 1
        if (z - previous).norm() < tolerance:
            break
    return z, k


def anderson(f, x0, m=4, lam=1e-10, max_iter=60, tol=1e-9, beta=1.0):
    bsz, d = x0.shape
    X = torch.zeros(bsz, m, d, dtype=x0.dtype, device=x0.device)
    F = torch.zeros(bsz, m, d, dtype=x0.dtype, device=x0.device)
    X[:, 0], F[:, 0] = x0, f(x0)
    X[:, 1], F[:, 1] = F[:, 0], f(F[:, 0])
    H = torch.zeros(bsz, m + 1, m + 1, dtype=x0.dtype)
    H[:, 0, 1:] = H[:, 1:, 0] = 1
    y = torch.zeros(bsz, m + 1, 1, dtype=x0.dtype)
    y[:, 0] = 1
    for k in range(2, max_iter):
        n = min(k, m)
        G = F[:, :n] - X[:, :n]
        H[:, 1 : n + 1, 1 : n + 1] = torch.bmm(G, G.transpose(1, 2)) + lam * torch.eye(n, dtype=x0.dtype)[None]
        alpha = torch.linalg.solve(H[:, : n + 1, : n + 1], y[:, : n + 1])[:, 1 : n + 1, 0]
        X[:, k % m] = beta * (alpha[:, None] @ F[:, :n])[:, 0] + (1 - beta) * (alpha[:, None] @ X[:, :n])[:, 0]
        F[:, k % m] = f(X[:, k % m].clone())
        if (F[:, k % m] - X[:, k % m]).norm().item() < tol * (1e-5 + F[:, k % m].norm().item()):
            break
    return X[:, k % m].clone(), k


class DEQFixedPoint(nn.Module):
    def __init__(self, f, solver):
        super().__init__()
        self.f, self.solver = f, solver

    def forward(self, x):
        with torch.no_grad():
            z, self.steps = self.solver(lambda z: self.f(z, x), torch.zeros_like(x))
        z = self.f(z, x)
        z0 = z.clone().detach().requires_grad_()
        f0 = self.f(z0, x)

        def backward_hook(grad):
            g, _ = self.solver(lambda y: autograd.grad(f0, z0, y, retain_graph=True)[0] + grad, grad)
            return g

        z.register_hook(backward_hook)
        return z


cell = Cell(6).double()
cell.linear.weight.data = torch.from_numpy(random.normal(0.0, 0.1, (6, 6)))
x = torch.from_numpy(random.normal(size=(5, 6))).requires_grad_()
target = torch.from_numpy(random.normal(size=(5, 6)))
for solver in (iterate, anderson):
    layer = DEQFixedPoint(cell, solver)
    cell.zero_grad()
    x.grad = None
    out = layer(x)
    loss = (out - target).pow(2).mean()
    loss.backward()
    print(
        solver.__name__,
        f"{loss.item():.7f}",
        f"{x.grad.norm().item():.6f}",
        f"{cell.linear.weight.grad.norm().item():.6f}",
    )

# By unrolling: the derivative that the implicit one must equal
unrolled = torch.zeros_like(x)
for _ in range(60):
    unrolled = cell(unrolled, x)
(expected,) = torch.autograd.grad((unrolled - target).pow(2).mean(), x)
print(torch.allclose(expected, x.grad, atol=1e-8))

model = nn.Sequential(nn.Linear(3, 6), DEQFixedPoint(Cell(6), iterate), nn.Linear(6, 1)).double()
with torch.no_grad():
    for p in model.parameters():
        p.copy_(torch.from_numpy(random.normal(0.0, 0.3, tuple(p.shape))))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
inputs = torch.from_numpy(random.normal(size=(16, 3)))
for step in range(8):
    optimizer.zero_grad()
    loss = nn.functional.smooth_l1_loss(model(inputs), inputs.prod(dim=1, keepdim=True))
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.6f}")
