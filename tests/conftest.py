"""What pytest has collected lives to the end: garbage is looked for without it, as many tests ask for."""

import gc

collect_ignore = ["tutorials"]  # programs that import PyTorch: test_tutorials.py runs them


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
