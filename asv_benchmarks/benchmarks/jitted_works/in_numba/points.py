"""Distances between points, and mixtures, in loops."""

import math

import numpy as np
from numba import njit


@njit
def mixture(logits, means, factors, x):
    """The log likelihood of a mixture of normal distributions, and the log density of a prior for their precisions.

    A row of `factors` has the logarithms of the diagonal of a precision's triangular factor, then what is below it, row
    by row.
    """
    n_components, d = means.shape
    terms, y = np.empty(n_components), np.empty(d)
    likelihood = 0.0
    for i in range(x.shape[0]):
        for k in range(n_components):
            square, diagonal, at = 0.0, 0.0, d
            for a in range(d):
                y[a] = x[i, a] - means[k, a]
                diagonal += factors[k, a]
            for a in range(d):
                s = math.exp(factors[k, a]) * y[a]
                for b in range(a):
                    s += factors[k, at + b] * y[b]
                at += a
                square += s * s
            terms[k] = logits[k] + diagonal - 0.5 * square
        likelihood += log_sum_exp(terms)
    prior = 0.0
    for k in range(n_components):
        for a in range(d):
            prior -= 0.5 * math.exp(2.0 * factors[k, a])
        for a in range(d, factors.shape[1]):
            prior -= 0.5 * factors[k, a] ** 2
    return likelihood - x.shape[0] * log_sum_exp(logits) + prior


@njit
def log_sum_exp(terms):
    """The logarithm of the sum of the exponentials."""
    largest = terms[0]
    for k in range(1, terms.size):
        largest = max(largest, terms[k])
    s = 0.0
    for k in range(terms.size):
        s += math.exp(terms[k] - largest)
    return largest + math.log(s)


@njit
def mixture_of_arrays(logits, means, factors, x):
    """The same in array expressions, a component at a time."""
    n_components, d = means.shape
    n = x.shape[0]
    terms = np.empty((n_components, n))
    largest, total = np.full(n, -np.inf), np.zeros(n)
    prior = 0.0
    for k in range(n_components):
        factor = np.diag(np.exp(factors[k, :d]))
        at = d
        for a in range(1, d):
            factor[a, :a] = factors[k, at : at + a]
            at += a
        y = (x - means[k]) @ factor.T
        terms[k] = logits[k] + np.sum(factors[k, :d]) - 0.5 * np.sum(y * y, axis=1)
        largest = np.maximum(largest, terms[k])
        prior -= 0.5 * np.sum(factor * factor)
    for k in range(n_components):
        total += np.exp(terms[k] - largest)
    return np.sum(largest + np.log(total)) - n * np.log(np.sum(np.exp(logits))) + prior


@njit
def k_means(centres, x):
    """The sum of squared distances from points to the nearest of some centres."""
    cost = 0.0
    for i in range(x.shape[0]):
        nearest = np.inf
        for k in range(centres.shape[0]):
            square = 0.0
            for a in range(x.shape[1]):
                d = x[i, a] - centres[k, a]
                square += d * d
            nearest = min(nearest, square)
        cost += nearest
    return cost


@njit
def n_body(x, m):
    """The potential energy of bodies at `x`."""
    energy = 0.0
    for i in range(x.shape[0]):
        for j in range(i + 1, x.shape[0]):
            square = 1e-9
            for k in range(3):
                d = x[i, k] - x[j, k]
                square += d * d
            energy -= m[i] * m[j] / math.sqrt(square)
    return energy
