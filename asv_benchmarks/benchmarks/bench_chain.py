"""A chain of a million operations, forward and backward: no recursion, and little memory a row."""

import tapegrad as tg

from .common import in_child, peak_bytes

MILLION = 1_000_000


def chain(n_ops: int) -> None:
    """Half of the operations multiply, half add; then one reverse sweep."""
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x
    for _ in range(n_ops // 2):
        y = y * 0.999 + 0.001
    y.sum().backward()


def peak_bytes_a_row() -> float:
    """What the peak of this process grows by, for each of a million rows."""
    chain(1000)
    before = peak_bytes()
    chain(MILLION)
    return (peak_bytes() - before) / MILLION


class Chain:
    """Seconds read as microseconds an operation."""

    number = 1
    repeat = 3

    def setup(self):
        chain(1000)

    def time_million_ops(self):
        chain(MILLION)

    def track_bytes_a_row(self):
        return in_child("benchmarks.bench_chain.peak_bytes_a_row")

    track_bytes_a_row.unit = "bytes"
