"""A physics-informed network for Burgers' equation: second derivatives in the loss, Adam, then LBFGS."""

import math

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
random = np.random.default_rng(7)
viscosity = 0.1


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential()
        self.net.add_module("in", nn.Linear(2, 12))
        self.net.add_module("act", nn.Tanh())
        self.net.add_module("hidden", nn.Linear(12, 12))
        self.net.add_module("act2", nn.Tanh())
        self.net.add_module("out", nn.Linear(12, 1))

    def forward(self, x, t):
        return self.net(torch.cat([x, t], dim=1))


model = Network()
for p in model.parameters():
    p.data = torch.from_numpy(random.normal(0.0, 1.0 / math.sqrt(p.shape[-1]), p.shape))

x = torch.from_numpy(random.uniform(-1.0, 1.0, (40, 1))).requires_grad_(True)
t = torch.from_numpy(random.uniform(0.0, 1.0, (40, 1))).requires_grad_(True)
x0 = torch.linspace(-1.0, 1.0, 21).reshape(-1, 1)
u0 = -torch.sin(math.pi * x0)


def residual():
    u = model(x, t)
    ones = torch.ones_like(u)
    u_x, u_t = torch.autograd.grad(u, (x, t), ones, create_graph=True)
    u_xx = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)[0]
    return u_t + u * u_x - viscosity * u_xx


def loss_function():
    edge = model(torch.ones_like(t), t).square().mean() + model(-torch.ones_like(t), t).square().mean()
    return residual().pow(2).mean() + torch.mean((model(x0, torch.zeros_like(x0)) - u0) ** 2) + edge


optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(30):
    optimizer.zero_grad()
    loss = loss_function()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"Adam {step}: {loss.item():.6f}")

lbfgs = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=8, history_size=10, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    loss = loss_function()
    loss.backward()
    return loss


for step in range(2):
    print(f"LBFGS {step}: {lbfgs.step(closure).item():.5f}")
print(f"{loss_function().item():.5f}", f"{torch.max(torch.abs(residual())).item():.4f}")
