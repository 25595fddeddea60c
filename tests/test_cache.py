"""The cache of object code, with real processes and real folders."""

import dis
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import tapegrad
from tapegrad import blocks, registers, sweeps
from tapegrad.kernels import cache, digests
from tapegrad.op import OPS

PROGRAM = """
import sys
import tapegrad as tg
x = tg.tensor([1.0, 2.0], requires_grad=True)
(x * x).sum().backward()
print(x.grad.tolist(), 'numba' in sys.modules)
"""
pytestmark = pytest.mark.skipif(
    cache.folder() is None, reason="bounds are checked, or there is no folder: nothing is kept"
)


def start(folder, program=PROGRAM, **environment):
    variables = {**os.environ, "TAPEGRAD_CACHE_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(child):
    out, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    return out.strip()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder that one process has filled."""
    folder = tmp_path_factory.mktemp("kernels")
    assert printed(start(folder)) == "[2.0, 4.0] True"
    return folder


@pytest.fixture
def copied(filled, tmp_path):
    """The same, to be spoiled."""
    shutil.copytree(filled, tmp_path / "kernels")
    return tmp_path / "kernels"


def entries(folder):
    return sorted(Path(folder).glob("*/*.o"))


def test_the_next_process_needs_no_compiler(filled):
    assert printed(start(filled)) == "[2.0, 4.0] False"


def test_the_folder_is_the_user_s_own(filled):
    (place,) = Path(filled).iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert place.name == cache.digest()


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:40], lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1])]
)
def test_a_damaged_entry_is_compiled_again(copied, damage):
    for name in ("run-*.o", "place-*.o"):
        (entry,) = Path(copied).glob(f"*/{name}")
        entry.write_bytes(damage(entry.read_bytes()))
    assert printed(start(copied)) == "[2.0, 4.0] True"
    assert printed(start(copied)) == "[2.0, 4.0] False"


def test_a_folder_open_to_others_is_not_used(copied):
    (place,) = Path(copied).iterdir()
    (name,) = (entry.name for entry in entries(copied) if entry.name.startswith("run-"))
    program = f"from tapegrad.kernels import cache; print(cache.folder(), cache.read({name!r}))"
    assert not printed(start(copied, program)).startswith("None")
    place.chmod(0o777)
    assert printed(start(copied, program)) == "None None"


def test_without_a_folder_kernels_are_compiled_in_each_process(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder can be made below a file")
    assert printed(start(nowhere)) == "[2.0, 4.0] True"


def test_two_processes_fill_a_folder_at_once(tmp_path):
    both = [start(tmp_path / "kernels") for _ in range(2)]
    assert [printed(child) for child in both] == ["[2.0, 4.0] True"] * 2
    assert printed(start(tmp_path / "kernels")) == "[2.0, 4.0] False"


def test_another_rule_has_another_entry(filled, tmp_path):
    """A rule that was changed is not answered with the kernel of the old one."""
    package = tmp_path / "tapegrad"
    shutil.copytree(Path(tapegrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = package / "ops" / "arithmetic.py"
    rule = "partials=(lambda b: b, lambda a: a)"
    text = source.read_text()
    assert rule in text
    source.write_text(text.replace(rule, "partials=(lambda b: 10.0 * b, lambda a: a)"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + PROGRAM
    assert printed(start(filled, program)) == "[11.0, 22.0] True"
    made = [e.name for e in entries(filled) if e.name.startswith("mul-elementwise-float64-reverse-a-")]
    assert len(made) == 2


def test_an_edit_compiles_what_it_touches_and_no_more(copied, tmp_path):
    """One rule's edit compiles one kernel; a comment, none; what a function calls is part of its digest."""
    package = tmp_path / "tapegrad"
    shutil.copytree(Path(tapegrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + PROGRAM
    before = {entry.name for entry in entries(copied)}
    for source in "engine.py", "functions/shaping.py", "sweeps.py", "ops/arithmetic.py":
        path = package / source
        path.write_text("# a comment\n" + path.read_text())
    assert printed(start(copied, program)) == "[2.0, 4.0] False"
    assert {entry.name for entry in entries(copied)} == before
    storage = package / "storage.py"
    text = storage.read_text()
    assert "MOST_KEPT = 1 << 27" in text
    storage.write_text(text.replace("MOST_KEPT = 1 << 27", "MOST_KEPT = 1 << 26"))
    assert printed(start(copied, program)) == "[2.0, 4.0] True"
    made = {entry.name.rsplit("-", 1)[0] for entry in entries(copied) if entry.name not in before}
    assert made == {"give_back"}


def test_the_globals_that_a_digest_follows_are_those_that_python_loads():
    functions = [f for module in (sweeps, blocks, registers) for f in vars(module).values() if hasattr(f, "__code__")]
    assert len(functions) > 100
    for function in functions:
        loaded = [i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"]
        assert digests._globals(function.__code__) == list(dict.fromkeys(loaded))


def test_every_operation_has_a_digest():
    for op in OPS:
        rules = [op.function, op.integer, op.merge, op.finish, *op.partials, *op.vjps]
        assert all(len(digests.of(rule)) == 20 for rule in rules)
    assert digests.of(1, 23) != digests.of(12, 3)
    assert digests.of((1,), 2) != digests.of((1, 2))
    assert digests.of(1) != digests.of(1.0) != digests.of("1.0")
