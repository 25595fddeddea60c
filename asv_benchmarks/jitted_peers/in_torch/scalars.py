"""Scalars in loops."""

from typing import Any

import torch


def total(x: Any) -> Any:
    return x.sum()


def total_of_sines(x: Any) -> Any:
    return x.sin().sum()


def logistic_map(p: Any, n: int) -> Any:
    r, x = p.unbind()
    for _ in range(n):
        x = r * x * (1.0 - x)
    return x


def rosenbrock(x: Any) -> Any:
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def newton(c: Any, tolerance: float) -> Any:
    x = torch.ones_like(c)
    for _ in range(51):
        residual = x * x * x + c * x - 1.0
        is_active = residual.abs() >= tolerance
        if not is_active.any():
            break
        x = torch.where(is_active, x - residual / (3 * x**2 + c), x)
    return x[::2].sum() - 0.5 * x[1::2].sum()
