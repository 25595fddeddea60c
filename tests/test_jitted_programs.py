"""Random programs of loops, branches, arrays, views, writes in place and errors: value, what is written, and what is
raised, as the plain call has them to the last bit; gradients by complex steps through the same memory.

A program is a table of instructions. What runs it is jitted, and so compiled once for all of them.
"""

import math
import types

import numpy as np
import pytest
from numba import njit

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


def with_names(**names):
    return types.FunctionType(run.__code__, {**globals(), **names})


run_jitted = njit(with_names(less=njit(less), larger=njit(larger), smaller=njit(smaller)))
run_complex = with_names(
    less=lambda a, b: np.real(a) < np.real(b),
    larger=lambda a, b: b if np.real(b) > np.real(a) else a,
    smaller=lambda a, b: b if np.real(b) < np.real(a) else a,
)


def program(generator):
    n = generator.integers(6, 20)
    code = generator.integers(0, 4, (n, 4))
    code[:, 0] = generator.permutation(np.arange(3 * POWER + 3) % (POWER + 1))[:n]
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
    except (ValueError, IndexError) as error:
        return type(error), error.args


@pytest.mark.parametrize("is_shared", [False, True])
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
