"""Neural networks: `tapegrad.nn.functional`, the functions that they are made of."""

from tapegrad.nn import functional

__all__ = ["functional"]
