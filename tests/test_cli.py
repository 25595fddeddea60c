"""The commands: what `doctor` finds, and what `bench` measures."""

import os
import subprocess
import sys

import pytest

import tapegrad
from tapegrad import __main__ as command_line
from tapegrad import kernels
from tapegrad.cli import bench, doctor
from tapegrad.dtypes import FLOAT64
from tapegrad.ops import host

FAULTS = "from tapegrad.cli import doctor; print(*doctor.faults(), sep='\\n')"


def faults(**environment: str) -> str:
    """What is found in a process with these variables."""
    run = [sys.executable, "-W", "ignore", "-c", FAULTS]
    return subprocess.run(run, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


def test_without_a_command_help_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tapegrad"])
    assert command_line.main() == 0
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in ("bench", "demo", "doctor", "warmup"))


def test_the_version_is_told_and_what_is_no_command_is_refused(monkeypatch, capsys):
    for argument, status, told in ("--version", 0, f"tapegrad {tapegrad.__version__}\n"), ("doctr", 2, "doctor"):
        monkeypatch.setattr(sys, "argv", ["tapegrad", argument])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        assert ended.value.code == status
        assert told in "".join(capsys.readouterr())


def test_too_many_threads_are_found():
    found = faults(TAPEGRAD_NUM_THREADS="1000", OPENBLAS_NUM_THREADS="900", MKL_NUM_THREADS="1")
    assert "1000 threads sweep" in found
    assert "OPENBLAS_NUM_THREADS is 900" in found
    assert "MKL_NUM_THREADS" not in found


@pytest.mark.skipif(os.name == "nt", reason="modes of files are POSIX's")
def test_a_cache_that_others_may_write_to_is_found(tmp_path):
    tmp_path.chmod(0o777)
    assert "compiled kernels are not kept" in faults(TAPEGRAD_CACHE_DIR=str(tmp_path / "cache"))


def test_a_missing_compiler_is_found():
    assert "NUMBA_DISABLE_JIT" in faults(NUMBA_DISABLE_JIT="1")


def test_old_packages_are_found():
    asked = ["numpy>=1.0", "numba>=99.1", "a-package-of-nobodys >=1.0", "scipy"]
    first, second = doctor.outdated(asked)
    assert first.startswith("numba ")
    assert "is older than 99.1: pip install --upgrade numba" in first
    assert second == "a-package-of-nobodys is not installed: pip install 'a-package-of-nobodys>=1.0'"
    assert doctor.numbers("2.10.1") > doctor.numbers("2.9")


def test_a_container_with_little_time_is_found(tmp_path):
    limits = tmp_path / "cpu.max"
    for text, share in {"150000 100000\n": 1.5, "max 100000\n": None, "": None}.items():
        limits.write_text(text)
        assert doctor.processor_time(limits) == share
    assert doctor.processor_time(tmp_path / "none") is None


@pytest.mark.parametrize("work", bench.WORKS)
@pytest.mark.parametrize("library", ["tapegrad", "tg.compile"])
def test_bench_measures_what_agrees(work, library):
    assert bench.measured(library, work, 0.0) > 0.0


def test_a_rule_that_only_python_is_asked_for_compiles():
    """`warmup` asks for the kernels of all rules."""
    assert kernels.require(host._output, FLOAT64.code, reverse=True) is None
