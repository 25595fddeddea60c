"""Compile the sweeps and the common kernels ahead of their first use, into the cache."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tapegrad import engine
from tapegrad.kernels import cache

Step = TypeVar("Step")


def main() -> int:
    """Compile, showing how far it is, and say what the cache holds then."""
    start = time.perf_counter()
    engine.warmup(progress)
    seconds = time.perf_counter() - start
    if cache.folder() is None:
        print(f"Compiled in {seconds:.1f} s, for nothing: there is no folder to keep kernels in")
        return 1
    print(f"{cache.entries()} kernels ready in {seconds:.1f} s, {cache.nbytes() / 1e6:.1f} MB in {cache.folder()}")
    return 0


def progress(steps: Sequence[Step]) -> Iterable[Step]:
    """The steps, behind a bar; plain lines where tqdm is not installed, or nobody watches."""
    try:
        from tqdm import tqdm
    except ImportError:
        return lines(steps)
    bar = tqdm(steps, unit="step", leave=False, disable=None)
    return lines(steps) if bar.disable else bar


def lines(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, with a line after every tenth and the last."""
    for count, step in enumerate(steps, 1):
        yield step
        if count % 10 == 0 or count == len(steps):
            print(f"{count} of {len(steps)}")
