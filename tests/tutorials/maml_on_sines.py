"""Model-agnostic meta-learning on sines: gradients through the inner step, tasks batched by vmap, functional_call."""

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

random = np.random.default_rng(5)
net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1)).to(torch.float64)
params = {
    name: torch.from_numpy(random.normal(0.0, 0.4, tuple(p.shape))).requires_grad_()
    for name, p in net.named_parameters()
}
alpha = 0.05


def mse_loss(params, x, y):
    return nn.functional.mse_loss(functional_call(net, params, (x,)), y)


def task_loss(params, x1, y1, x2, y2):
    grads = grad(mse_loss)(params, x1, y1)
    adapted = {name: params[name] - alpha * grads[name] for name in params}
    return mse_loss(adapted, x2, y2)


def tasks(count):
    amplitude, phase = random.uniform(0.5, 2.0, (count, 1, 1)), random.uniform(0.0, np.pi, (count, 1, 1))
    for _ in range(2):
        x = random.uniform(-5.0, 5.0, (count, 8, 1))
        yield from (torch.from_numpy(x), torch.from_numpy(amplitude * np.sin(x + phase)))


optimizer = torch.optim.Adam(params.values(), lr=1e-2)
for step in range(12):
    x1, y1, x2, y2 = tasks(4)
    losses = vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(params, x1, y1, x2, y2)
    looped = torch.stack([task_loss(params, *task) for task in zip(x1, y1, x2, y2, strict=True)])
    optimizer.zero_grad()
    losses.mean().backward()
    if step % 3 == 0:
        print(step, f"{losses.mean().item():.6f}", torch.allclose(losses, looped))
    optimizer.step()

# The same inner step by autograd.grad with create_graph, for one task
x1, y1, x2, y2 = (t[0] for t in tasks(1))
fast = list(params.values())
for _ in range(3):
    loss = mse_loss(dict(zip(params, fast, strict=True)), x1, y1)
    grads = torch.autograd.grad(loss, fast, create_graph=True)
    fast = [w - alpha * g for w, g in zip(fast, grads, strict=True)]
mse_loss(dict(zip(params, fast, strict=True)), x2, y2).backward()
print({name: f"{p.grad.norm().item():.6f}" for name, p in params.items()})
