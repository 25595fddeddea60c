"""PyTorch with tapegrad's default dtype."""

import pytest


@pytest.fixture(autouse=True)
def float64_by_default():
    """For these tests only: others may run PyTorch too."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
