"""Show versions, processor, threads and cache, time the start-up, and say what is wrong and how it is mended."""

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from llvmlite import binding as llvm

import tapegrad
from tapegrad.kernels import cache, native

# Runs in a process of its own: a start-up can be timed only once in any process.
FIRST_GRADIENT = """
import time
start = time.perf_counter()
import tapegrad as tg
imported = time.perf_counter()
x = tg.ones(3, requires_grad=True)
(x * x).sum().backward()
print(imported - start, time.perf_counter() - start)
"""

# What the vectorised kernels profit from, out of the hundred names that LLVM knows.
VECTOR_FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "neon", "sve", "sve2")

# What sets the threads of the libraries that NumPy and SciPy may have for matrix products.
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS")


def main() -> int:
    """Print the report; the status is 1 when something is wrong."""
    show("python", f"{platform.python_version()} ({platform.platform()})")
    show("tapegrad", tapegrad.__version__)
    for package in ("numpy", "numba", "llvmlite", "scipy"):
        show(package, version(package))
    features = llvm.get_host_cpu_features()
    show("processor", llvm.get_host_cpu_name())
    show("vector units", " ".join(name for name in VECTOR_FEATURES if features.get(name)) or "none known")
    show("threads", f"{usable_processors()} usable of {os.cpu_count()}")
    show("cache", describe_cache())

    with tempfile.TemporaryDirectory(prefix="tapegrad-doctor-") as folder:
        for name in ("cold start", "cached start"):  # the first run fills the folder that the second one finds
            try:
                imported, gradient = time_first_gradient(folder)
            except subprocess.CalledProcessError as error:
                show(name, f"failed\n{error.stderr}")
                return 1
            show(name, f"{gradient:.2f} s to the first gradient, {imported:.2f} s of it for the import")

    found = list(faults())
    print("\n".join(["", *(f"! {fault}" for fault in found)]) if found else "\nNothing is wrong")
    return 1 if found else 0


def faults() -> Iterator[str]:
    """What is wrong here, a line each, with the repair."""
    yield from outdated(requirements())
    if not native.JIT:
        yield "NUMBA_DISABLE_JIT is set: kernels run as plain Python, some thousand times as slow; unset it"
    elif cache.folder() is None:
        yield f"compiled kernels are not kept: {cache.why_none()}; TAPEGRAD_CACHE_DIR names another folder"
    elif not cache.is_writable():
        yield f"{cache.folder()} can't be written to: fill it once by `python -m tapegrad warmup`, as its owner"
    yield from oversubscribed(usable_processors())


def requirements() -> list[str]:
    """What tapegrad asks for, such as `numba>=0.65`; nothing where it runs without being installed."""
    try:
        return [line for line in requires("tapegrad") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        return []


def outdated(asked: Iterable[str]) -> Iterator[str]:
    """Packages that are older than is asked for, or not there."""
    for line in asked:
        match = re.match(r"([\w-]+)\W*>=\s*([\d.]+)", line)
        if match is None:
            continue
        package, least = match.groups()
        try:
            there = version(package)
        except PackageNotFoundError:
            yield f"{package} is not installed: pip install '{package}>={least}'"
            continue
        if numbers(there) < numbers(least):
            yield f"{package} {there} is older than {least}: pip install --upgrade {package}"


def numbers(of: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare: (0, 65) of `0.65rc1`."""
    return tuple(int(part) for part in re.findall(r"\d+", of)[:2])


def oversubscribed(processors: int) -> Iterator[str]:
    """Where more threads are set than can run at a time."""
    if (threads := tapegrad.get_num_threads()) > processors:
        yield f"{threads} threads sweep, on {processors} processors: set TAPEGRAD_NUM_THREADS={processors} or less"
    for name in BLAS_VARIABLES:
        given = os.environ.get(name, "")
        if given.isdecimal() and int(given) > processors:
            yield f"{name} is {given}, on {processors} processors: set it to {processors} or less"
    if (share := processor_time()) is not None and share < processors / 2:
        least = max(1, round(share))
        names = " ".join(f"{name}={least}" for name in ("TAPEGRAD_NUM_THREADS", BLAS_VARIABLES[0]))
        yield f"this container may use the time of {share:g} processors, and has threads for {processors}: set {names}"


def processor_time(limits: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """The processors' time that the container may use, where it is limited: (microseconds used) / (in as many)."""
    try:
        quota, period = limits.read_text().split()
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if quota.isdecimal() else None


def show(name: str, value: str) -> None:
    """Print one line of the report."""
    print(f"{name:<14}{value}")


def usable_processors() -> int:
    """The processors this process may run on, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_cache() -> str:
    """Where compiled kernels are kept, and what is there."""
    folder = cache.folder()
    if folder is None:
        return f"none, so kernels are compiled anew in every process: {cache.why_none()}"
    only_read = "" if cache.is_writable() else ", read only: what it lacks is compiled anew in every process"
    return f"{folder} ({cache.entries()} kernels, {cache.nbytes() / 1e6:.1f} MB{only_read})"


def time_first_gradient(cache_folder: str) -> tuple[float, float]:
    """Seconds from a fresh interpreter's prompt to the end of `import tapegrad`, and to the first gradient."""
    child = subprocess.run(
        [sys.executable, "-c", FIRST_GRADIENT],
        env=os.environ | {"TAPEGRAD_CACHE_DIR": cache_folder},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, gradient = map(float, child.stdout.split())
    return imported, gradient
