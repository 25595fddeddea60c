"""Gradients of jitted functions: a scalar Jacobian tape inside Numba."""
