"""Declarations of operations, a file a family. Importing this package fills the op table, which is then complete."""

from tapegrad.ops import (
    arithmetic,
    exponential,
    factorization,
    host,
    indexing,
    layout,
    linalg,
    logic,
    reduction,
    special,
    triangles,
    trigonometric,
)

__all__ = [
    "arithmetic",
    "exponential",
    "factorization",
    "host",
    "indexing",
    "layout",
    "linalg",
    "logic",
    "reduction",
    "special",
    "triangles",
    "trigonometric",
]
