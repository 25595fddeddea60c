"""Steps in time."""

from types import SimpleNamespace
from typing import Any

import torch

from jitted_peers import formulas

NAMES = SimpleNamespace(sqrt=torch.sqrt, maximum=lambda x, least: x.clamp(min=least))


def runge_kutta(p: Any, n: int, h: float) -> Any:
    p = p.unbind()
    x, y = p[4], p[5]
    for _ in range(n):
        x, y = formulas.runge_kutta_step(x, y, p, h)
    return x + y


def heston(p: Any, z: Any, strike: float, maturity: float) -> Any:
    p = p.unbind()
    log_s, v = p[0].log().expand(len(z)), p[1].expand(len(z))
    for j in range(z.shape[1]):
        log_s, v = formulas.heston_step(NAMES, log_s, v, z[:, j, 0], z[:, j, 1], p, maturity / z.shape[1])
    return torch.exp(-p[6] * maturity) * (log_s.exp() - strike).clamp(min=0.0).mean()


def ode(x: Any, steps: int) -> Any:
    y = torch.zeros_like(x)
    for _ in range(steps):
        y = formulas.chain_step(torch, y, x, 1.0 / steps)
    return y[0] + y[1]


def gravitation(x: Any, v: Any, m: Any, n: int, h: float) -> Any:
    a = formulas.accelerations(x, m)
    for _ in range(n):
        x, v, a = formulas.leapfrog(x, v, a, m, h)
    return 0.5 * (m[:, None] * v**2).sum()
