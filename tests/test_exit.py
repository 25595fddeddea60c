"""Nothing is printed when a process ends, whatever was imported first and whatever threads do."""

import subprocess
import sys

import pytest

_PROGRAM = """
import builtins, signal, sys, threading, time
{imports}
import numpy as np
import tapegrad as tg

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests were started in the background
x = tg.tensor(np.ones(100_000), requires_grad=True)
(x * x).sum().backward()
(x * tg.sin(x)).sum().backward()  # compiled before

def over_and_over(n):
    while True:
        y = tg.tensor(np.ones(n), requires_grad=True)
        (y * tg.sin(y)).sum().backward()

{program}
"""
_PROGRAMS = {
    "": "",
    "values that are held": "builtins.held = [x, x * 2, x.grad, tg.current_tape()]; held.append(held)",
    "daemons that sweep": (
        "for n in (3, 100_000): threading.Thread(target=over_and_over, args=(n,), daemon=True).start()\ntime.sleep(0.1)"
    ),
    "a thread that is still at work": (
        "threading.Thread(target=lambda: (time.sleep(0.2), (tg.ones(3) * 2).tolist(), print(x[0].item()))).start()"
    ),
    "Ctrl-C": (
        "try:\n"
        "    threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()\n"
        "    over_and_over(100_000)\n"
        "except KeyboardInterrupt:\n    pass"
    ),
}


@pytest.mark.parametrize(
    ("imports", "program"),
    [("import numba", program) for program in _PROGRAMS] + [("", "daemons that sweep"), ("import scipy.linalg", "")],
)
def test_nothing_is_printed(imports, program):
    program = _PROGRAMS[program]
    code = _PROGRAM.format(imports=imports, program=program)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("1.0\n" if "print" in program else "")
