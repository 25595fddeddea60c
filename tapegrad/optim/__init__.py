"""Optimisers."""

__all__: list[str] = []
