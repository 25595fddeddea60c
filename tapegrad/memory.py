"""The names by which compiled code reaches memory. `native.py` supplies them when it links; here is what they mean.

An address is an int64. An array made of one is a view: nothing is copied, nothing owns it.
"""

from __future__ import annotations

from typing import Any


def _supplied_when_linked(*arguments: Any) -> Any:
    raise NotImplementedError("supplied by tapegrad.kernels.native")


# (address, n) -> array of n elements of float64, float32, int64, int32, uint8, bool
f8 = f4 = i8 = i4 = u1 = b1 = _supplied_when_linked
# (address, n) -> array of n records
rows_at = slots_at = kinds_at = ops_at = _supplied_when_linked
# (address of a function, its arguments)
call1 = call3 = call4 = call5 = call6 = call8 = call11 = call13 = _supplied_when_linked
# (address of a part of the sweeps, its arguments) -> int64
part1 = part2 = part3 = part4 = part5 = part7 = part8 = part10 = _supplied_when_linked
# (a, b) -> a + b, in an order that may be changed: a loop of such sums is done in many parts side by side
plus = _supplied_when_linked
# (a, b) -> the larger, the smaller; nan where either is
larger = smaller = _supplied_when_linked
# (address of an int64, value) -> what was there: added to, or exchanged, atomically; (address) -> what is there
fetch_add = exchange = load = _supplied_when_linked
# (address, address) -> copies a line of the cache, 64 bytes, past the caches to the first, which begins a line
stream_line = _supplied_when_linked
# (address) -> asks for a line of the cache that will soon be read
fetch_line = _supplied_when_linked
# Python's allocator: (its address, bytes) -> address, 0 where memory is short; (its address, n, bytes); (its address,
# memory)
allocate = allocate_zeroed = release = _supplied_when_linked
