"""Hamiltonian Monte Carlo on a banana: leapfrog steps by autograd, chains batched by vmap, noise of NumPy's."""

import numpy as np
import torch

random = np.random.default_rng(6)


def log_prob(q):
    x, y = q[0], q[1]
    return -0.5 * (x**2 / 2.0 + ((y - x**2) / 0.6) ** 2)


def leapfrog(q, p, steps, size):
    q, p = q.clone(), p.clone()
    p += 0.5 * size * gradient(q)
    for i in range(steps):
        q += size * p
        if i < steps - 1:
            p += size * gradient(q)
    p += 0.5 * size * gradient(q)
    return q, -p


def gradient(q):
    q = q.detach().requires_grad_(True)
    log_prob(q).backward()
    return q.grad


q = torch.tensor([0.5, 0.0], dtype=torch.float64)
samples, accepted = [], 0
for _ in range(60):
    p = torch.from_numpy(random.normal(size=2))
    proposal, end = leapfrog(q, p, 10, 0.15)
    start_energy = -log_prob(q) + 0.5 * p.pow(2).sum()
    end_energy = -log_prob(proposal) + 0.5 * (end**2).sum()
    if torch.rand(1).item() >= 0 and random.uniform() < torch.exp(start_energy - end_energy):
        q = proposal
        accepted += 1
    samples.append(q)
chain = torch.stack(samples)
print(accepted, [f"{v:.6f}" for v in chain.mean(0).tolist()], [f"{v:.6f}" for v in chain.std(0).tolist()])
print(torch.cov(chain.T).numpy().round(6).tolist())

# Forty chains at once
slope = torch.func.vmap(torch.func.grad(log_prob))
q = torch.from_numpy(random.normal(size=(40, 2)))
for _ in range(5):
    p = torch.from_numpy(random.normal(size=(40, 2)))
    start = -torch.func.vmap(log_prob)(q) + 0.5 * p.pow(2).sum(-1)
    new = q
    for _ in range(8):
        p = p + 0.05 * slope(new)
        new = new + 0.1 * p
        p = p + 0.05 * slope(new)
    end = -torch.func.vmap(log_prob)(new) + 0.5 * p.pow(2).sum(-1)
    accept = torch.from_numpy(random.uniform(size=40)) < torch.exp((start - end).clamp(max=0.0))
    q = torch.where(accept.unsqueeze(-1), new, q)
    print(int(accept.sum()), f"{q[:, 0].mean():.6f} {q[:, 1].median():.6f}")

# The density's curvature at the mode
print(torch.func.hessian(log_prob)(torch.zeros(2, dtype=torch.float64)).tolist())
