"""Distances between points, and mixtures."""

from typing import Any

import torch

from jitted_peers import formulas


def mixture(logits: Any, means: Any, factors: Any, x: Any) -> Any:
    d = means.shape[1]
    row, column = torch.tril_indices(d, d, -1)
    factor = torch.diag_embed(factors[:, :d].exp())
    factor[:, row, column] = factors[:, d:]
    return formulas.mixture(torch, factor, logits, means, factors, x)


mixture_of_arrays = mixture


def k_means(centres: Any, x: Any) -> Any:
    return formulas.nearest(torch, centres, x)


def n_body(x: Any, m: Any) -> Any:
    i, j = torch.triu_indices(len(x), len(x), 1)
    d = x[i] - x[j]
    return -(m[i] * m[j] / ((d * d).sum(1) + 1e-9).sqrt()).sum()
