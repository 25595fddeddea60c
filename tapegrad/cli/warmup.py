"""Compile the common kernels ahead of their first use, into the cache."""

import time

from tapegrad import kernels


def main() -> int:
    """Compile, telling each kernel as it is done, and say how many there were and how long they took."""
    start = time.perf_counter()
    count = kernels.warmup(progress=print)
    print(f"{count} kernels ready in {time.perf_counter() - start:.1f} s")
    return 0
