"""Show versions, processor, threads and cache, and time the start-up, cold and cached."""

import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version

from llvmlite import binding as llvm

import tapegrad
from tapegrad.kernels import cache

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


def main() -> int:
    """Print the report; the status is 1 when a first gradient could not be computed."""
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
    return 0


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
        return f"none, so kernels are compiled anew in every session: {cache.why_none()}"
    only_read = "" if cache.is_writable() else ", read only: what it lacks is compiled anew in every session"
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
