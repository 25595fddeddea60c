"""TAPEGRAD_DEBUG=memory: a kernel that goes beyond its memory is named, and memory that nobody wrote is nan."""

import os
import subprocess
import sys
import textwrap

import pytest

from tapegrad.kernels import native

# Operations that no one should write, each with the memory it harms in its parameter, and how they are recorded.
FAULTY = """
import numpy as np
import tapegrad as tg
from tapegrad.memory import f8, u1
from tapegrad.ops.declare import array_op
from tapegrad.recording import record_array

def harmful_vjp(p, gemm, work, memory, a, y, y_bar, a_bar):
    if p[0] == 5:
        a_bar[len(a_bar)] += y_bar[0]
    elif p[0] == 6:
        memory[len(memory)] = 0.0
    elif p[0] == 7:
        f8(work + 128, 1)[0] = 0.0
    elif p[0] == 8:
        a_bar[0] += memory[0]

@array_op(1, vjps=(harmful_vjp,), partials=(lambda g: g,), room=1)
def harmful(p, a, y):
    for i in range(len(y)):
        y[i] = a[i]
    if p[0] == 1:
        y[len(y)] = 1.0
    elif p[0] == 2:
        f8(y.ctypes.data - 8, 1)[0] = 1.0
    elif p[0] == 3:
        u1(y.ctypes.data + 8 * len(y), 1)[0] = 7
    elif p[0] == 4:
        f8(a.ctypes.data + 8 * len(a), 1)[0] = 1.0
    elif p[0] == 9:
        y[0] = a[len(a)]

x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
way, z = {way}, x * 2
y = record_array(harmful, (3,), tg.float64, z, params=(way, 5))
"""

needs_compiler = pytest.mark.skipif(
    not native.JIT or native.CHECKED, reason="kernels are compiled, and go beyond their memory"
)


def run(program: str, modes: str = "memory") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TAPEGRAD_DEBUG": modes}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )


@needs_compiler
@pytest.mark.parametrize(
    ("way", "told"),
    [
        (1, ("the value of harmful", "recorded at <string>:35 (24 bytes) was written to behind its end (from byte 0")),
        (2, ("the value of harmful", "was written to before its beginning (from byte -8 there)")),
        (3, ("the value of harmful", "was written to behind its end (from byte 0 there)")),
        (4, ("the value of mul, giving float64[3], recorded at <string>:34", "behind its end (from byte 0 there)")),
        (5, ("the adjoint of mul, giving float64[3]", "(24 bytes) was written to behind its end")),
        (6, ("memory to work in (40 bytes) was written to behind its end",)),
        (7, ("the work space of BLAS and LAPACK (64 bytes) was written to beyond its ends",)),
    ],
)
def test_a_kernel_that_goes_beyond_its_memory_is_named(way: int, told: tuple[str, ...]):
    done = run(FAULTY.replace("{way}", str(way)) + "y.sum().backward()")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tapegrad.engine.DamagedMemoryError: ")
    assert "harmful, giving float64[3], recorded at <string>:35, was being swept" in last
    for part in told:
        assert part in last


@needs_compiler
@pytest.mark.parametrize(("way", "what"), [(8, "x.grad"), (9, "y.detach()")])
def test_what_was_never_written_is_nan(way: int, what: str):
    done = run(FAULTY.replace("{way}", str(way)) + f"y.sum().backward()\nprint({what}.isnan().any().item())")
    assert done.stdout == "True\n", done.stderr


@needs_compiler
def test_registers_and_sums_of_chunks_are_guarded():
    program = """
        import tapegrad as tg
        from tapegrad.ops.declare import along_axes, array_op
        from tapegrad.recording import record_array

        @along_axes()
        def along(p, a, y):
            for i in range(len(a) + p[3]):
                y[i] = 2.0

        @array_op(1, units=0, summed=1)
        def summed(p, lo, hi, a, y):
            for i in range(lo, hi):
                y[0] += a[i]
            y[p[1]] = 0.0

        x = tg.ones(40, 10) * 2
        print((record_array(along, (40, 10), tg.float64, x, params=(40, 10, 1, 0)) + 1).sum().item())
        try:
            (record_array(along, (40, 10), tg.float64, x, params=(40, 10, 1, 1)) + 1).sum().item()
        except RuntimeError as error:
            print(error)
        x = tg.ones(100_000) * 2
        print(record_array(summed, (1,), tg.float64, x, params=(100_000, 0)).numel())
        record_array(summed, (1,), tg.float64, x, params=(100_000, 1)).item()
        """
    done = run(program)
    first, second, third = done.stdout.splitlines()
    assert (first, third) == ("1200.0", "1")
    assert "along, giving float64[40, 10], recorded at <string>:20, was being swept" in second
    assert "and a register of a block (" in second
    assert "the sum of one chunk (" in done.stderr


@needs_compiler
def test_writing_to_memory_that_was_let_go():
    done = run(
        """
        import ctypes
        import tapegrad as tg
        from tapegrad import engine
        x = tg.tensor([1.0, 2.0])
        y = x * 3
        at = engine.evaluate(y._tape, y._slot)
        del y
        engine.reclaim(tg.current_tape())
        assert ctypes.c_double.from_address(at).value != 3.0
        ctypes.c_double.from_address(at).value = 1.0
        (x * 2).tolist()
        """
    )
    assert "memory (16 bytes) was written to after it had been let go (from byte 0 there)" in done.stderr


@needs_compiler
def test_tapes_of_jitted_functions_are_guarded():
    done = run(
        """
        import ctypes, os, threading
        from numba import njit
        import tapegrad as tg
        from tapegrad.jitted import jacobian_tape as tape

        @njit
        def f(x):
            y = x
            for n in range(3_000):
                y = 0.5 * y * y + x
                if y > 1.0:
                    y -= 1.0
            return y

        def told():
            try:
                tg.func.grad(f)(0.3)
            except RuntimeError as error:
                return str(error)
            return "nothing"

        print(told())
        h = tape.header()
        print(ctypes.c_double.from_address(h[tape.PARTIAL]).value, ctypes.c_double.from_address(h[tape.ADJOINT]).value)
        for word, size in (tape.LENGTH, 1), (tape.INDEX, 4), (tape.PARTIAL, 8):
            for at in (-1, 0):
                end = size * h[tape.ROW_CAPACITY if word == tape.LENGTH else tape.ARGUMENT_CAPACITY]
                ctypes.c_uint8.from_address(h[word] + (at if at < 0 else end)).value = 1
                print(at, told())
        ctypes.c_uint8.from_address(h[tape.ADJOINT] - 64).value = 1
        tg.jitted.free()
        print(told(), told())
        values = []
        thread = threading.Thread(target=lambda: values.append(told()))
        thread.start()
        thread.join()
        print(*values)
        """
    )
    *lines, freed, other = done.stdout.splitlines()
    assert lines[:2] == ["nothing", "nan nan"], done.stderr
    for line in lines[2:]:
        at = line.split()[0]
        where = "before its beginning" if at == "-1" else "behind its end"
        assert line.startswith(f"{at} tapegrad: f (<string>:")
        assert " was being differentiated, and memory of its tape (" in line
        assert line.endswith(f" bytes) was written to {where} (from byte {at} there)")
    assert len(lines) == 8
    assert freed.endswith("was written to before its beginning (from byte -64 there) nothing")
    assert other == "nothing"


def test_modes_that_are_not_known_are_refused():
    done = run("import tapegrad", "memory, mermory")
    assert "TAPEGRAD_DEBUG: unknown are mermory; known are memory, small" in done.stderr
