"""Programs in which one thing changes that a jitted function depends on: `V` is 1 or 2, and `f` differs with it.

Run as `changes.py V call name ...` it prints the gradient, the plain call, and whether the disk had it; with `names`
instead of `call` the names of entries alone.
"""

import json
import sys

HEAD = """
import collections, enum, math, sys, types as pytypes
import numpy as np
from numba import njit, vectorize, guvectorize, types
from numba.extending import overload, overload_method, overload_attribute, register_jitable, intrinsic
"""

CHANGES = {
    "a constant": "@njit\ndef f(x): return x * {V}.0",
    "constants that run together": """
@njit
def f(x): return x * {a} + x * x * {b}""",
    "a global": "C = {V}.0\n@njit\ndef f(x): return x * C",
    "a global in a callee": "C = {V}.0\n@njit\ndef g(x): return x * C\n@njit\ndef f(x): return g(x) + x",
    "a global's type": "C = {t}\n@njit\ndef f(x): return x * (1 / (2 + C) * 8 // 3)",
    "a sign of zero": "C = {z}\n@njit\ndef f(x): return x * math.copysign(1.0, C)",
    "a closure": "def make(c):\n @njit\n def f(x): return x * c\n return f\nf = make({V}.0)",
    "a default": "@njit\ndef g(x, c={V}.0): return x * c\n@njit\ndef f(x): return g(x)",
    "an array": "A = np.array([1.0, {V}.0])\n@njit\ndef f(x): return x * A[1]",
    "an array's layout": """
A = np.asarray([[1.0, 2.0], [3.0, 4.0]], order="{o}")
@njit
def f(x): return x * (1.0 if A.flags.c_contiguous else 2.0)""",
    "a record": "R = np.array([(1.0, {V}.0)], [('a', 'f8'), ('b', 'f8')])\n@njit\ndef f(x): return x * R[0]['{n}']",
    "a tuple": "T = (1.0, {V}.0)\n@njit\ndef f(x): return x * T[1]",
    "a tuple of functions": """
@njit
def g(x): return x * {V}.0
T = (g, g)
@njit
def h(n):
    for i in range(n): y = T[i](3.0)
    return y
@njit
def f(x): return x * h(2)""",
    "a named tuple": "P = collections.namedtuple('P', 'a b')({V}.0, 3.0)\n@njit\ndef f(x): return x * P.a",
    "a named tuple's fields": "P = collections.namedtuple('P', '{n} {m}')\n@njit\ndef f(x): return x * P(1.0, 2.0).a",
    "an enum": "class E(enum.IntEnum):\n A = {V}\n B = 7\n@njit\ndef f(x): return x * E.A.value",
    "an enum's member": """
class E(enum.IntEnum):
    A = {V}
    B = 7
M = E.A
@njit
def f(x): return x * (3.0 if M == 1 else 4.0)""",
    "an enum compared": "class E(enum.IntEnum):\n A = {V}\n@njit\ndef f(x): return x * x if E.A == 1 else x * 5.0",
    "a module's attribute": "mod = pytypes.ModuleType('mod')\nmod.C = {V}.0\n@njit\ndef f(x): return x * mod.C",
    "a nested module's attribute": """
mod = pytypes.ModuleType('mod')
mod.sub = pytypes.ModuleType('mod.sub')
mod.sub.C = {V}.0
@njit
def f(x): return x * mod.sub.C""",
    "a module's function": """
mod = pytypes.ModuleType('mod')
@njit
def g(x): return x * {V}.0
mod.g = g
@njit
def f(x): return mod.g(x)""",
    "a module in a closure": """
def make():
    mod = pytypes.ModuleType('mod')
    mod.C = {V}.0
    @njit
    def f(x): return x * mod.C
    return f
f = make()""",
    "an inner function": "@njit\ndef f(x):\n def g(y): return y * {V}.0\n return g(x)",
    "an overload": """
def g(x): raise NotImplementedError
@overload(g)
def of_g(x): return lambda x: x * {V}.0
@njit
def f(x): return g(3.0) * x""",
    "an overload's helper": """
C = {V}.0
def g(x): raise NotImplementedError
@overload(g)
def of_g(x):
    c = C
    return lambda x: x * c
@njit
def f(x): return g(3.0) * x""",
    "a jitable function": "@register_jitable\ndef g(x): return x * {V}.0\n@njit\ndef f(x): return g(3.0) * x",
    "an intrinsic": """
@intrinsic
def g(context, x):
    def code(context, builder, sig, args): return builder.fmul(args[0], args[0].type({V}.0))
    return types.float64(types.float64), code
@njit
def f(x): return g(3.0) * x""",
    "a vectorised function": """
@vectorize
def g(x): return x * {V}.0
@njit
def h(n):
    for i in range(n): y = g(np.ones(2))[0]
    return y
@njit
def f(x): return x * h(2)""",
    "a vectorised function of declared types": """
@vectorize(['float64(float64)'])
def g(x): return x * {V}.0
@njit
def h(n):
    for i in range(n): y = g(np.ones(2))[0]
    return y
@njit
def f(x): return x * h(2)""",
    "a function vectorised over arrays": """
@guvectorize(['void(float64[:], float64[:])'], '(n)->(n)')
def g(x, y):
    for i in range(x.size): y[i] = x[i] * {V}.0
@njit
def h(n):
    y = np.empty(2)
    for i in range(n): g(np.ones(2), y)
    return y[0]
@njit
def f(x): return x * h(2)""",
    "declared types": """
@njit('float64({k})')
def g(n):
    for i in range(2): n = n + 1
    return n * 1.0
@njit
def f(x): return g(3.7) * x""",
    "types of locals": """
@njit(locals={{'c': types.{k}}})
def g(n):
    for i in range(2): c = n * 1.5
    return c * 1.0
@njit
def f(x): return g(3.7) * x""",
    "an error model": """
@njit(error_model='{e}')
def g(n): return 1.0 / n
@njit
def f(x): return x * g(2.0)""",
    "fast mathematics": "@njit(fastmath={flag})\ndef f(x): return x * (1e30 + 1.0 - 1e30)",
    "checked bounds": "@njit(boundscheck={flag})\ndef g(a): return a[1]\n@njit\ndef f(x): return x * g(np.ones(2))",
    "inlining": "@njit(inline='{i}')\ndef g(a): return a * 3.0\n@njit\ndef f(x): return x * g(2.0)",
    "a redefined callee": """
@njit
def g(x): return x * 1.0
if {V} == 2:
    @njit
    def g(x): return x * 2.0
@njit
def f(x): return g(x)""",
    "a name that comes to be": "{d}\n@njit\ndef f(x): return x * abs(-1.0)",
    "a derivative of the user's": """
import tapegrad as tg
@njit
def g(x): return x * 1.0
@tg.custom_rule(g)
def rule(x, y): return {V}.0
@njit
def f(x): return g(x) * x""",
    # From here on every function depends on what was registered.
    "an overload of NumPy's": """
@overload(np.heaviside)
def of_heaviside(x, y): return lambda x, y: x * {V}.0
@njit
def f(x): return np.heaviside(3.0, 0.5) * x""",
    "an overloaded method": """
@overload_method(types.Array, 'tripled')
def tripled(a): return lambda a: a.size * {V}.0
@njit
def h(n):
    for i in range(n): y = np.ones(3).tripled()
    return y
@njit
def f(x): return x * h(2)""",
    "an overloaded attribute": """
@overload_attribute(types.Array, 'twice')
def twice(a): return lambda a: a.size * {V}.0
@njit
def h(n):
    for i in range(n): y = np.ones(3).twice
    return y
@njit
def f(x): return x * h(2)""",
}  # fmt: skip

# Programs of which it isn't known what they depend on: nothing of them is kept.
UNKNOWN = {
    "a C function": """
import ctypes
g = ctypes.CDLL(None).abs
g.argtypes, g.restype = [ctypes.c_int], ctypes.c_int
@njit
def f(x): return x * g(-2)""",
    "Python in jitted code": """
from numba import objmode
C = 2.0
@njit
def f(x):
    with objmode(y="float64"): y = C
    return x * y""",
    "a jitted class": """
from numba.experimental import jitclass
@jitclass([("a", types.float64)])
class A:
    def __init__(self): self.a = 2.0
@njit
def f(x): return x * A().a""",
    "an overload that reads the surroundings": """
import os
def g(x): raise NotImplementedError
@overload(g)
def of_g(x):
    c = len(os.environ)
    return lambda x: x * c
@njit
def f(x): return x * g(2.0)""",
    "an overload that reads a class": """
class A: C = 2.0
def g(x): raise NotImplementedError
@overload(g)
def of_g(x):
    c = A.C
    return lambda x: x * c
@njit
def f(x): return x * g(2.0)""",
    "a module that is passed on": """
mod = pytypes.ModuleType('mod')
mod.C = 2.0
@njit
def g(m): return m.C
@njit
def f(x): return x * g(mod)""",
    "an exception of a script": """
class Refused(Exception): pass
@njit
def f(x):
    if x > 1e9: raise Refused("too large")
    return x * 2.0""",
    "a compiled C function": """
from numba import cfunc
@cfunc("float64(float64)")
def g(x): return x * 2.0
@njit
def f(x): return x * g(2.0)""",
    # From here on nothing is kept: what emits code itself may be asked by any function.
    "code that is emitted": """
from numba.extending import type_callable, lower_builtin
def g(x): raise NotImplementedError
@type_callable(g)
def type_g(context): return lambda x: types.float64
@lower_builtin(g, types.Float)
def lower_g(context, builder, sig, args): return builder.fmul(args[0], args[0].type(2.0))
@njit
def f(x): return x * g(2.0)""",
}  # fmt: skip

VALUES = [
    {
        "V": v, "a": ("1.0", "1.02")[i], "b": ("21.0", "1.0")[i], "o": "CF"[i], "n": "ab"[i], "m": "ba"[i],
        "t": ("2", "2.0")[i], "z": ("0.0", "-0.0")[i], "k": ("int64", "float64")[i], "e": ("python", "numpy")[i],
        "flag": bool(i), "i": ("never", "always")[i], "d": ("", "abs = njit(lambda x: 7.0)")[i],
    }
    for i, v in enumerate((1, 2))
]  # fmt: skip


def function(change, v):
    """The function `f` of a program."""
    scope = {"__name__": "__main__"}
    program = UNKNOWN[change] if change in UNKNOWN else CHANGES[change].format(**VALUES[v - 1])
    exec(compile(HEAD + program, "<program>", "exec"), scope)
    return scope["f"]


def main():
    """See above."""
    from numba.core import types

    import tapegrad as tg
    from tapegrad.jitted import disk
    from tapegrad.jitted.forms import Driver, Form

    found = []
    load = disk.DriverCache.load_overload

    def watched(*args):
        found.append(load(*args))
        return found[-1]

    disk.DriverCache.load_overload = watched
    told = {}
    for change in sys.argv[3:] or CHANGES:
        f = function(change, int(sys.argv[1]))
        if sys.argv[2] == "call":
            told[change] = *tg.func.value_and_grad(f)(3.0), f(3.0), found[-1] is not None
        else:
            name = Driver(f, Form("value_and_grad", 1, (0,)))._cache._name((types.float64,))
            told[change] = name and name[0]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
