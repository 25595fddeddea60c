"""Functions on tensors. Importing this package also gives `Tensor` its methods and operators."""

from tapegrad.functions import elementwise, factorizations, indexing, inplace, matrices, products, reductions, shaping

__all__ = ["elementwise", "factorizations", "indexing", "inplace", "matrices", "products", "reductions", "shaping"]
