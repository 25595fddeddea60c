"""What a fresh process finds on the disk: also functions that call themselves or each other, and checkpointed loops."""

import os
import subprocess
import sys

PROGRAM = """
import numpy as np
from numba import njit
import tapegrad as tg
from tapegrad.jitted import disk

found = []
load = disk.DriverCache.load_overload

def watched(*args):
    found.append(load(*args))
    return found[-1]

disk.DriverCache.load_overload = watched

@njit
def power(x, n):
    return x if n == 0 else x * power(x, n - 1)

@njit
def even(x, n):
    return x * x if n == 0 else odd(x, n - 1) + x

@njit
def odd(x, n):
    return 2.0 * x if n == 0 else even(x, n - 1) * x

@njit
def step(x, i, rate):
    return x + rate * x

@njit
def f(x):
    return power(x[0], 4) * even(x[1], 3)

@njit
def g(x):
    return tg.jitted.checkpoint_loop(step, odd(x[0], 2), 4, x[1])

for function in (f, g):
    print(tg.func.grad(function)(np.array([2.0, 3.0])).tolist(), found[-1] is not None)
"""


def test_recursion_and_checkpoints_in_a_fresh_process(tmp_path):
    """By hand: odd(x, 2) = x even(x, 1) = x (2 x + x)."""
    environment = {**os.environ, "TAPEGRAD_CACHE_DIR": str(tmp_path)}
    x, y = 2.0, 3.0
    of_y, slope = 3 * y**2 + y, 6 * y + 1  # even(y, 3) = odd(y, 2) + y
    by_f = [5 * x**4 * of_y, x**5 * slope]
    by_g = [6 * x * (1 + y) ** 4, 3 * x**2 * 4 * (1 + y) ** 3]
    for is_known in (False, True):
        child = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, text=True, capture_output=True,
                               check=False)  # fmt: skip
        assert child.returncode == 0, child.stderr
        assert child.stdout.splitlines() == [f"{by_f} {is_known}", f"{by_g} {is_known}"]
