"""Models whose Jacobians are asked for, and a recurrent net."""

from typing import Any

import torch

from jitted_peers import formulas


def reprojections(block: Any, at: Any) -> Any:
    return formulas.reprojection(torch, block, at)


def hand(theta: Any, base: Any, inverse: Any, weights: Any, rest: Any, points: Any, seen: Any) -> Any:
    return seen - formulas.skin(torch, theta, base, inverse, weights, rest)[points]


def hand_on_triangles(
    p: Any, base: Any, inverse: Any, weights: Any, rest: Any, triangles: Any, places: Any, seen: Any
) -> Any:
    return seen - formulas.on_triangles(torch, p, base, inverse, weights, rest, triangles, places)


def lstm(w: Any, x: Any, n_layers: int) -> Any:
    rows = w.unbind()
    hidden = cell = [torch.zeros_like(x[0])] * n_layers
    total = 0.0
    for t in range(len(x) - 1):
        hidden, cell, expected = formulas.lstm_step(torch, hidden, cell, rows, x[t], n_layers)
        total = total + (x[t + 1] * expected).sum()
    return total / len(x)
