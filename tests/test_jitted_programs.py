"""Random programs of loops, branches, arrays, views, writes in place, containers and errors: value, what is written,
and what is raised, as the plain call has them to the last bit; gradients by complex steps through the same memory.

A program is a table of instructions. What runs it is jitted, and so compiled once for all of them.
"""

import math
import types
from collections import namedtuple

import numpy as np
import pytest
from numba import njit
from thoroughness import further

import tapegrad as tg

N, STEPS = 6, 60  # elements of an array, instructions that a program may run
(ADD, SUB, MUL, DIV, SIN, LARGER, SMALLER, READ, WRITE, INCREASE, COPY, ADD_TO, SCALE, TOTAL, DOT, SET, REVERSE, TRIM,
 CUMULATE, SKIP, BACK, STOP, FAIL, BEYOND, POWER) = range(25)  # fmt: skip


def less(a, b):
    return a < b


def larger(a, b):
    return max(a, b)


def smaller(a, b):
    return min(a, b)


def run(code, x, y, z, a):
    """The instructions `(op, i, j, k)` over numbers `s` and arrays `v`, which are views of the arguments, or copies."""
    s, v = [a, 0.5, 1.5, -1.0], [x, y, z, z[::-1]]
    at = 0
    for _ in range(STEPS):
        if at >= len(code):
            break
        op, i, j, k = code[at]
        at += 1
        if op == ADD:
            s[i] = s[j] + s[k]
        elif op == SUB:
            s[i] = s[j] - s[k]
        elif op == MUL:
            s[i] = 0.5 * s[j] * s[k]
        elif op == DIV:
            s[i] = s[j] / (2.5 + s[k] * s[k])
        elif op == SIN:
            s[i] = np.sin(s[j])
        elif op == POWER:
            s[i] = np.sin(s[j]) ** k
        elif op == LARGER:
            s[i] = larger(s[j], s[k])
        elif op == SMALLER:
            s[i] = smaller(s[j], s[k])
        elif op == READ:
            s[i] = v[j][k % v[j].size]
        elif op == WRITE:
            v[i][k % v[i].size] = s[j]
        elif op == INCREASE:
            v[i][k % v[i].size] += np.sin(s[j])
        elif op == COPY:
            n = min(v[i].size, v[j].size)
            v[i][:n] = v[j][v[j].size - n :]
        elif op == ADD_TO:
            n = min(v[i].size, v[j].size)
            v[i][:n] += np.sin(v[j][:n]) * s[k]
        elif op == SCALE:
            v[i] *= np.sin(s[j])
        elif op == TOTAL:
            s[i] = np.sin(v[j]).sum()
        elif op == DOT:
            n = min(v[j].size, v[k].size)
            for m in range(n):
                s[i] += 0.1 * v[j][m] * v[k][m]
        elif op == SET:
            v[i] = v[j].copy()[::1]
        elif op == REVERSE:
            v[i] = v[j][::-1]
        elif op == TRIM:
            if v[j].size > 2:
                v[i] = v[j][k % 2 :: 1 + k % 2]
        elif op == CUMULATE:
            total = 0.0 * s[i]
            for m, item in enumerate(v[j]):
                total += np.sin(item)
                if less(total, 0.3):
                    continue
                v[j][m] = total * s[k]
        elif op == SKIP:
            if less(s[i], s[j]):
                at += k
        elif op == BACK:
            if less(s[i], s[j]):
                at = max(0, at - 1 - k)
        elif op == STOP:
            if less(3.0, s[i]):
                return s[j]
        elif op == FAIL:
            if less(s[i], -1.5):
                raise ValueError("less")
        elif op == BEYOND and less(2.0, s[i] * s[i]):
            raise IndexError(4)
    return s[0] + s[1] + s[2] * s[3] + v[0].sum() + np.sin(v[1]).sum() + v[2][0] * v[3][0]


Pair = namedtuple("Pair", "p q")
(PUSH, POP, PUT, TURN, HALVE, KEEP, FETCH, WEIGH, PACK, UNPACK, COUNT, REPEAT, CALL, RETURN, MISS, DRAIN,
 COMBINE) = range(17)  # fmt: skip


def powers(x, n):
    return x if n <= 0 else 0.5 * x * powers(x, n - 1) + 0.1


def run_containers(code, x, a):
    """The same over numbers, a list, a dictionary, a named tuple and an integer, which is returned too."""
    s, items, known, pair, n = [a, 0.5, 1.5, -1.0], [x[0], a], {0: a, 1: x[1]}, Pair(0.0, 1.0), 1
    for op, i, j, k in code:
        if op == PUSH:
            items.append(np.sin(s[i]))
        elif op == POP:
            if len(items) > 1:
                s[i] = items.pop()
        elif op == PUT:
            items[k % len(items)] = s[i] * x[k]
        elif op == TURN:
            items.reverse()
        elif op == HALVE:
            items = [0.5 * item for item in items if less(item, 0.7)] + [s[i]]
        elif op == KEEP:
            known[k] = s[i]
        elif op == FETCH:
            s[i] = known.get(k, s[j])
        elif op == WEIGH:
            for key, item in known.items():
                s[i] += 0.1 * key * np.sin(item)
        elif op == PACK:
            pair = Pair(pair.q, s[i])
        elif op == UNPACK:
            s[i], s[j] = pair
        elif op == COUNT:
            n = (3 * n + k) % 7
            s[i] *= n & 3
        elif op == REPEAT:
            m = 0
            while True:
                m += 1
                s[i] = 0.5 * s[i] + 0.1 * m
                if less(s[i], 0.2) or m > n:
                    break
                if m % 2 == 1:
                    continue
                s[j] = np.sin(s[j]) * s[i]
        elif op == CALL:
            s[i] = powers(np.sin(s[j]), k) + powers(0.5, 2)
        elif op == RETURN:
            if less(2.0, s[i]):
                return s[j] * pair.q, n
        elif op == MISS:
            if less(s[i], -1.5):
                s[j] = known[9]
        elif op == DRAIN:
            if less(s[i], -1.2):
                items.clear()
                s[j] = items.pop()
        else:
            s[i] = 0.5 * s[j] * s[k] + x[i]
    return s[0] + s[1] * s[2] + s[3] + sum(items) + known[0] * known[1] + pair.p * pair.q, n


def with_names(function, **names):
    return types.FunctionType(function.__code__, {**globals(), **names})


JITTED = {"less": njit(less), "larger": njit(larger), "smaller": njit(smaller)}
JITTED["powers"] = njit(types.FunctionType(powers.__code__, JITTED))  # which calls itself by its name
COMPLEX = {
    "less": lambda a, b: np.real(a) < np.real(b),
    "larger": lambda a, b: b if np.real(b) > np.real(a) else a,
    "smaller": lambda a, b: b if np.real(b) < np.real(a) else a,
}
run_jitted, run_complex = njit(with_names(run, **JITTED)), with_names(run, **COMPLEX)


def program(generator, n_kinds=POWER + 1):
    n = generator.integers(6, 20)
    code = generator.integers(0, 4, (n, 4))
    code[:, 0] = generator.permutation(np.arange(3 * n_kinds) % n_kinds)[:n]
    return code


def arguments(generator, is_shared):
    """A memory, and arrays that are parts of it; the first two overlap, or all are apart. All have strides."""
    first = int(generator.integers(1, N)) if is_shared else N
    return generator.uniform(-1.5, 1.5, 6 * N), (0, 2 * first, 4 * N), float(generator.uniform(-1.5, 1.5))


def parts(memory, places):
    return [memory[place : place + 2 * N : 2] for place in places]


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (ValueError, IndexError, KeyError) as error:
        return type(error), error.args


@pytest.mark.parametrize("is_shared", [True, *further(False)])
def test_programs(is_shared):
    generator = np.random.default_rng(is_shared)
    n_raised = 0
    for _ in range(1000):
        code, (memory, places, a) = program(generator), arguments(generator, is_shared)
        plain, ours, again = memory.copy(), memory.copy(), memory.astype(complex)
        wanted = outcome(run_jitted, code, *parts(plain, places), a)
        x, y, z = parts(ours, places)
        found = outcome(tg.func.value_and_grad(run_jitted, argnums=(1, 2, 4)), code, x, y, z, a)
        assert parts(ours, places)[2].tobytes() == parts(plain, places)[2].tobytes()  # what is written to `z`
        np.testing.assert_array_equal([x, y], parts(memory, places)[:2])
        if isinstance(wanted, tuple):
            assert found == wanted
            n_raised += 1
            continue
        value, (by_x, by_y, by_a) = found
        assert np.float64(value).tobytes() == np.float64(wanted).tobytes()
        along = generator.standard_normal(memory.size)
        along[4 * N :] = 0.0
        again += 1e-40j * along
        slope = np.imag(run_complex(code, *parts(again, places), complex(a, 2e-40))) / 1e-40
        seen = np.zeros(memory.size)  # where arrays share memory, each has the gradient by its elements there
        for place, gradient in zip(places, (by_x, by_y), strict=False):
            seen[place : place + 2 * N : 2] = gradient
        assert math.isclose(seen @ along + 2 * by_a, slope, rel_tol=1e-9, abs_tol=1e-9)
    assert 20 < n_raised < 500


def test_programs_of_containers():
    generator = np.random.default_rng(5)
    jitted = njit(with_names(run_containers, **JITTED))
    exact = with_names(run_containers, **COMPLEX)
    n_raised = 0
    for _ in range(500):
        code, x, a = (
            program(generator, COMBINE + 1),
            generator.uniform(-1.5, 1.5, 4),
            float(generator.uniform(-1.5, 1.5)),
        )
        wanted = outcome(jitted, code, x, a)
        found = outcome(tg.func.value_and_grad(jitted, argnums=(1, 2), has_aux=True), code, x, a)
        if isinstance(wanted[0], type):
            assert found == wanted
            n_raised += 1
            continue
        (value, n), (by_x, by_a) = found
        assert (np.float64(value).tobytes(), n) == (np.float64(wanted[0]).tobytes(), wanted[1])
        along = generator.standard_normal(4)
        slope = np.imag(exact(code, x + 1e-40j * along, complex(a, 2e-40))[0]) / 1e-40
        assert math.isclose(by_x @ along + 2 * by_a, slope, rel_tol=1e-9, abs_tol=1e-9)
    assert 10 < n_raised < 250
