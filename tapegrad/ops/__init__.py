"""Declarations of operations, a file a family. Importing this package fills the op table, which is then complete.

Conventions
-----------
What derivatives are where there is none, or more than one, is decided here, for the compiled sweeps, for gradients that
are recorded, and for functions that Numba has jitted; so for all orders and for forward mode. It is as in PyTorch, but
for the first line, for hypot, whose nan at (0, 0) would not be norm's, and for sinc, whose slope is smooth at 0:

    0 times anything           0: in the products of the chain rule, adjoint times partial, a factor that is zero makes
                               the product zero, also where the other is infinite or nan. So what was not taken leaves
                               no nan: sqrt(relu(x)), where(x > 0, sqrt(x), 0), where(x == 0, 1, sin(x) / x),
                               log(maximum(x, 0)), 1 / x.masked_fill(x == 0, 0), x ** .5 * 0, what was not indexed.
                               Products of the values themselves are IEEE's; so are matrix products by BLAS.
    infinite partials          stay where they are reached: sqrt, x ** p (p < 1), log at 0; asin, acos at -1 and 1

    kinks       abs(x)         at 0: 0; the second derivative is 0 everywhere
                relu(x)        at 0: 0
                clamp(x, a, b) at a and b: 1 for x, 0 for the bound; where a > b all goes to b
                sign, floor, ceil, round, trunc, norm of order 0    0 everywhere, at steps too
                a % b          1 for a, -(a // b) for b, at steps too
                norm(x, p)     at 0: 0; of elements that are 0: 0
                std(x)         where all elements are equal: 0
                hypot(a, b)    at (0, 0): 0, 0
                copysign(a, b) at a = 0: 0; by b: 0
                fmod(a, b)     1 for a, -trunc(a / b) for b, at steps too
                atan2(a, b)    at (0, 0): 0, 0
                prod(x)        the product of the others, zeros or not
    ties        maximum, minimum, amax, amin, max(), min(), norm of order inf and -inf
                               equal elements share the adjoint equally, at every order
                max(dim), min(dim)                                  the one at the index that is returned
                sort, topk, kthvalue, mode, median(dim), cummax, cummin    those at the indices that are returned; equal
                               elements stay in their order, and of cummax and cummin the last is taken
                median(), nanmedian()                               equal elements share
                fmax, fmin     the first
                scatter_reduce amax, amin: equally, with what was there if that is included
                scatter, put, index_copy, item assignment            the last of those for one place
    powers      a ** b         by a: 0 where b == 0; by b: 0 where a == 0 and b >= 0, and nan where a < 0
    edges       logsumexp, softmax, log_softmax    rows of -inf alone: -inf, nan, nan; their gradients are nan if used
                var, std       where n <= correction: nan, and their gradients
                sums, norms of no element: 0; mean of none: nan
                cumprod        the products of the others, zeros or not
                logcumsumexp   as logsumexp of each beginning
                sort           nan is the largest: last, or first in descending order; 0 and -0 are equal
                nan            is a value like others: maximum, minimum, max, min and clamp hand it on; amax and amin
                               of it have gradients of nan, those of max() and min() go to the nans; beside it fmax and
                               fmin take the other, and Python's max(a, b) and min(a, b) in jitted code the first

    values      eigh, svd      of equal values: what turns their vectors into each other has the derivative 0, if an
                               adjoint has nothing of it but rounding; else the quotient by their difference stays
                pinv           the derivative among matrices of one rank
                det            that of a polynomial: first and second derivatives of singular matrices, too

    sums                       of float32 are float64 until they are complete, those of adjoints too
"""

from tapegrad.ops import (
    arithmetic,
    attention,
    bessel,
    carlson,
    convolution,
    cumulative,
    cylinder,
    distances,
    elliptic,
    exponential,
    extremes,
    factorization,
    faddeeva,
    gamma,
    host,
    hypergeometric,
    incomplete,
    indexing,
    integrals,
    layout,
    linalg,
    logic,
    matrix_exponential,
    normalisation,
    orthogonal,
    pivoted,
    polynomials,
    reduction,
    sampling,
    scan,
    softmax,
    sort,
    special,
    spectral,
    statistics,
    triangles,
    trigonometric,
    windows,
)

__all__ = [
    "arithmetic",
    "attention",
    "bessel",
    "carlson",
    "convolution",
    "cumulative",
    "cylinder",
    "distances",
    "elliptic",
    "exponential",
    "extremes",
    "factorization",
    "faddeeva",
    "gamma",
    "host",
    "hypergeometric",
    "incomplete",
    "indexing",
    "integrals",
    "layout",
    "linalg",
    "logic",
    "matrix_exponential",
    "normalisation",
    "orthogonal",
    "pivoted",
    "polynomials",
    "reduction",
    "sampling",
    "scan",
    "softmax",
    "sort",
    "special",
    "spectral",
    "statistics",
    "triangles",
    "trigonometric",
    "windows",
]
