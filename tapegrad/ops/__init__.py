"""Declarations of operations, a file a family. Importing this package fills the op table, which is then complete."""

from tapegrad.ops import (
    arithmetic,
    exponential,
    host,
    indexing,
    layout,
    linalg,
    logic,
    reduction,
    special,
    trigonometric,
)

__all__ = [
    "arithmetic",
    "exponential",
    "host",
    "indexing",
    "layout",
    "linalg",
    "logic",
    "reduction",
    "special",
    "trigonometric",
]
