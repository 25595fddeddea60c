"""Functions on tensors. Importing this package also gives `Tensor` its methods and operators."""

from tapegrad.functions import elementwise, indexing, inplace, products, reductions, shaping

__all__ = ["elementwise", "indexing", "inplace", "products", "reductions", "shaping"]
