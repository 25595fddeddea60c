"""Ten million steps of loops that drop what they record: memory must not grow."""

import tapegrad as tg

from .common import QUICK, in_child, peak_bytes

STEPS = 20_000 if QUICK else 10_000_000


def observed(steps: int) -> None:
    """Each step looks at what it has recorded."""
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for _ in range(steps):
        (x * 1.01 + 0.1).sum().item()


def unobserved(steps: int) -> None:
    """Each step builds on the one before, and no one looks until the end."""
    x = tg.tensor([1.0, 2.0, 3.0])
    for _ in range(steps):
        x = x * 0.99 + 0.1
    x.sum().item()


def differentiated(steps: int) -> None:
    """Each step computes a gradient."""
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for _ in range(steps):
        (x * 1.01 + 0.1).sum().backward()
        x.grad = None


LOOPS = {loop.__name__: loop for loop in (observed, unobserved, differentiated)}


def growth(loop: str) -> int:
    """Bytes that this process's peak grows by, once the tape is as long as it gets."""
    LOOPS[loop](min(STEPS, 100_000))
    before = peak_bytes()
    LOOPS[loop](STEPS)
    return peak_bytes() - before


class Memory:
    """Growth must be a few pages at most, whatever the number of steps."""

    params = tuple(LOOPS)
    param_names = ("loop",)
    timeout = 1800

    def setup(self, loop):
        LOOPS[loop](1000)

    def peakmem_steps(self, loop):
        LOOPS[loop](STEPS // 10)  # enough for the peak, which `growth` shows to be the same after all of them

    def track_growth(self, loop):
        return in_child("benchmarks.bench_memory.growth", loop)

    track_growth.unit = "bytes"
