"""What a fresh process finds on the disk, and what it must not take for its own: with real processes and folders."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from changes import CHANGES, UNKNOWN

from tapegrad.kernels import cache

pytestmark = pytest.mark.skipif(cache.folder() is None, reason="there is no folder: nothing is kept")

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


@pytest.fixture
def folder(tmp_path):
    """A folder with the kernels of the one that all tests share, and no driver: to compile these is what is tested."""
    shared = cache.folder()
    place = tmp_path / shared.name
    place.mkdir(0o700)
    for kernel in shared.glob("*.o"):
        shutil.copy(kernel, place)
    return tmp_path


def test_recursion_and_checkpoints_in_a_fresh_process(folder):
    """By hand: odd(x, 2) = x even(x, 1) = x (2 x + x)."""
    environment = {**os.environ, "TAPEGRAD_CACHE_DIR": str(folder)}
    x, y = 2.0, 3.0
    of_y, slope = 3 * y**2 + y, 6 * y + 1  # even(y, 3) = odd(y, 2) + y
    by_f = [5 * x**4 * of_y, x**5 * slope]
    by_g = [6 * x * (1 + y) ** 4, 3 * x**2 * 4 * (1 + y) ** 3]
    for is_known in (False, True):
        child = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, text=True, capture_output=True,
                               check=False)  # fmt: skip
        assert child.returncode == 0, child.stderr
        assert child.stdout.splitlines() == [f"{by_f} {is_known}", f"{by_g} {is_known}"]


def printed(folder, *command, **environment):
    variables = {**os.environ, "TAPEGRAD_CACHE_DIR": str(folder), **environment}
    child = subprocess.run([sys.executable, *command], env=variables, text=True, capture_output=True, check=False)
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


def told(folder, v, *what):
    """What `changes.py` tells of each program."""
    return json.loads(printed(folder, str(Path(__file__).parent / "changes.py"), str(v), *what))


def test_whatever_a_function_depends_on_is_in_its_digest(folder):
    """One thing changes at a time; the same program has the same name in every process."""
    first, again, other = (told(folder, v, "names") for v in (1, 1, 2))
    assert list(first) == list(CHANGES)
    assert [change for change in CHANGES if first[change] is None or first[change] != again[change]] == []
    assert [change for change in CHANGES if other[change] in (None, first[change])] == []
    names = [*first.values(), *other.values()]
    assert len(set(names)) == len(names)


def test_what_is_not_known_is_not_kept(folder):
    assert told(folder, 1, "names", *UNKNOWN) == dict.fromkeys(UNKNOWN)


CALLED = "constants that run together", "an enum compared", "a module's attribute", "an overload"


def test_a_changed_function_is_not_given_the_numbers_of_the_old_one(folder):
    slopes = []
    for v, is_known in ((1, False), (2, False), (1, True)):
        found = told(folder, v, "call", *CALLED).values()
        assert [(value, was_known) for value, _, _, was_known in found] == [(p, is_known) for _, _, p, _ in found]
        slopes.append([slope for _, slope, _, _ in found])
    assert slopes[0] == slopes[2]
    assert not any(a == b for a, b in zip(slopes[0], slopes[1], strict=True))


STEPS = """
import sys
import types
import numpy as np
from numba import njit
import tapegrad as tg
C, A, mod = 1.0, np.ones(2), types.ModuleType("mod")
mod.C = 1.0

def made(what):
    names = {**globals()}
    exec(f"def g(x):\\n for _ in range(1):\\n  x = x * {what}\\n return x", names)
    g = njit(names["g"])
    return names, g, njit(lambda x: x * g(3.0))

programs = [made(what) for what in ("C", "A[1]", "mod.C")]
for names, g, _ in programs:
    if sys.argv[1] == "compiled first":
        g(3.0)
    names["C"] = 2.0
A[1] = mod.C = 2.0
print(*(tg.func.value_and_grad(f)(1.0) for _, _, f in programs))
"""


def test_code_that_was_compiled_with_another_global_is_not_kept(folder):
    """Numba reads a global when it compiles: the entry would have the one, its name the other."""
    assert printed(folder, "-c", STEPS, "compiled first") == "(3.0, 3.0) (3.0, 3.0) (3.0, 3.0)"
    assert list(folder.glob("*/*.jit")) == []
    assert printed(folder, "-c", STEPS, "compiled later") == "(6.0, 6.0) (6.0, 6.0) (6.0, 6.0)"
    assert len(list(folder.glob("*/*.jit"))) == 3


RESULTS = """
import sys
import numpy as np
from numba import njit
import tapegrad as tg

unpickled = set()
sys.addaudithook(lambda event, args: unpickled.add(args) if event == "pickle.find_class" else None)

@njit
def f(x, y):
    return x[0] * x[1], x * y, 3

x = np.array([2.0, 3.0])
slopes = tg.func.grad(njit(lambda x, y: f(x, y)[0]), argnums=(0, 1))(x, 4.0)
values, tangents = tg.func.jvp(f, (x, 4.0), (np.ones(2), 0.0))
print(slopes[0].tolist(), slopes[1], values[1].tolist(), values[2], tangents[0], tangents[1].tolist())
print(sorted(unpickled))
"""


def test_nothing_is_unpickled(folder):
    """But for the class of arrays, by which Numba's machine code makes one: it does so wherever it was compiled."""
    by_hand = "[3.0, 2.0] 0.0 [8.0, 12.0] 3 5.0 [4.0, 4.0]"
    printed(folder, "-c", RESULTS)
    assert printed(folder, "-c", RESULTS).splitlines() == [by_hand, "[('numpy', 'ndarray')]"]


READY = """
import sys
import numpy as np
from numba import njit
import tapegrad as tg

C = 2.0

@njit
def f(x, y):
    return C * x[0] * x[1] + y * x[0]

gradient = tg.func.value_and_grad(f, (0, 1))
x = np.array([2.0, 3.0])

def show():
    value, (by_x, by_y) = gradient(x, 4.0)
    print(value, by_x.tolist(), by_y)

show()
print("tapegrad.jitted.engine" in sys.modules)
C = 5.0
show()
"""


def test_what_is_on_disk_is_called_without_what_compiles(folder):
    """And another meaning of a name is seen."""
    by_hand = ["20.0 [10.0, 4.0] 2.0", "38.0 [19.0, 10.0] 2.0"]
    for is_compiled in (True, False):
        assert printed(folder, "-c", READY).splitlines() == [by_hand[0], str(is_compiled), by_hand[1]]


CALLER = """
import numpy as np
from numba import njit
import tapegrad as tg

@njit
def f(x):
    return x[0] * x[1] ** 2

slope = tg.jitted.value_and_grad(f)

@njit(cache=True)
def slopes(points):
    found = np.empty_like(points)
    for k in range(len(points)):
        _, found[k] = slope(points[k])
    return found

print(slopes(np.array([[2.0, 3.0], [1.0, 2.0]])).tolist(), sum(slopes.stats.cache_hits.values()))
"""


def test_jitted_code_of_numbas_cache_calls_gradients(folder):
    """The tape's parts are there though nothing that names them is compiled, or taken from tapegrad's cache."""
    program = folder / "caller.py"
    program.write_text(CALLER)
    for hits in (0, 1):
        assert printed(folder, program, NUMBA_CACHE_DIR=str(folder / "numba")) == f"[[9.0, 12.0], [4.0, 4.0]] {hits}"


def test_a_damaged_driver_is_compiled_again(folder):
    """Also one under another's name."""
    one, other = "a constant", "a global"
    expected = told(folder, 1, "call", one, other)
    names = told(folder, 1, "names", one, other)
    entries = {change: next(folder.glob(f"*/{name}")) for change, name in names.items()}
    whole = entries[one].read_bytes()
    for content in whole[: len(whole) // 2], entries[other].read_bytes():
        entries[one].write_bytes(content)
        assert told(folder, 1, "call", one) == {one: expected[one]}
    assert told(folder, 1, "call", one) == {one: [*expected[one][:3], True]}


def test_without_the_compiler_the_error_says_so():
    program = """
import tapegrad as tg
from numba import njit

@njit
def f(x):
    return x * x

attempts = {tg.jitted.value_and_grad: f, tg.jitted.operation: f}
for attempt, argument in attempts.items():
    try:
        attempt(argument)
    except (RuntimeError, TypeError) as error:
        print(type(error).__name__, "NUMBA_DISABLE_JIT" in str(error))
print(tg.func.grad(f)(tg.tensor(3.0)))
print(tg.jitted.preaccumulate(f)(3.0), tg.custom_rule(f)(f) is f)
"""
    lines = printed(cache.folder().parent, "-c", program, NUMBA_DISABLE_JIT="1").splitlines()
    assert lines == ["RuntimeError True"] * 2 + ["tensor(6.)", "9.0 True"]
