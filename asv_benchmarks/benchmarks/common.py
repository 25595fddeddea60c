"""What several benchmarks need: processes of their own, peak memory, and a shorter profile."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent

# TAPEGRAD_BENCH=quick shortens what takes minutes, to show that it runs.
QUICK = os.environ.get("TAPEGRAD_BENCH") == "quick"
DTYPES = ("float64",) if QUICK else ("float64", "float32")


def in_child(name: str, *arguments: Any, timeout: float | None = None) -> Any:
    """What `name`, a function such as "benchmarks.bench_chain.peak_bytes_a_row", returns in a process of its own.

    There nothing else has used the memory, and no other library's threads are about. Arguments and result are JSON.
    A process that fails, or takes more than `timeout` seconds, raises subprocess's exceptions.
    """
    program = (
        "import json, pkgutil, sys\n"
        "function = pkgutil.resolve_name(sys.argv[1])\n"
        "print(json.dumps(function(*json.loads(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", program, name, json.dumps(arguments)]
    child = subprocess.run(command, cwd=FOLDER, stdout=subprocess.PIPE, text=True, check=True, timeout=timeout)
    return json.loads(child.stdout)


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    return _kernel_says("VmHWM")


def held_bytes() -> int:
    """The memory that this process holds now."""
    return _kernel_says("VmRSS")


def _kernel_says(what: str) -> int:
    """Linux only: elsewhere the benchmark fails. `getrusage` has a peak too, but it counts what the parent held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{what}:\s*(\d+) kB", status)[1])
