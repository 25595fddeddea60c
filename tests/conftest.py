"""What pytest has collected lives to the end: garbage is looked for without it, as many tests ask for."""

import gc


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
