"""PyTorch as the oracle: the same program text run with both libraries (see `oracle.py`)."""
