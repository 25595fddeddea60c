"""Loops over matrices and vectors."""

from typing import Any

import torch


def floyd_warshall(paths: Any) -> Any:
    d = paths
    for k in range(len(d)):
        d = torch.minimum(d, d[:, k, None] + d[k])
    return d.sum()


def triangular_solution(lower: Any, b: Any) -> Any:
    return torch.linalg.solve_triangular(lower, b[:, None], upper=False).sum()


def syr2k(a: Any, b: Any, c: Any) -> Any:
    return (torch.tril(1.2 * c + 1.5 * (b @ a.T + a @ b.T)) + torch.triu(c, 1)).sum()


def durbin(r: Any) -> Any:
    y, alpha, beta = -r[:1], -r[0], 1.0
    for k in range(1, len(r)):
        beta = beta * (1.0 - alpha * alpha)
        alpha = -(r[k] + r[:k].flip(0) @ y) / beta
        y = torch.cat([y + alpha * y.flip(0), alpha[None]])
    return y.sum()


def log_determinant(a: Any) -> Any:
    total = 0.0
    while len(a):
        pivot = a[0, 0].sqrt()
        column = a[1:, 0] / pivot
        a = a[1:, 1:] - column.outer(column)
        total = total + 2 * pivot.log()
    return total


def gemm(a: Any, b: Any) -> Any:
    return ((a @ b) ** 2).sum()
