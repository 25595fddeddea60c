"""Signals, under the names of `torch.signal`."""

from tapegrad.signal import windows

__all__ = ["windows"]
