"""The cache of object code, with real processes and real folders."""

import atexit
import dis
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import tapegrad
from tapegrad import engine
from tapegrad.core import blocks, registers, sweeps
from tapegrad.kernels import cache, digests, native
from tapegrad.kernels.parts import _CORE
from tapegrad.memory import parts
from tapegrad.ops.declare import OPS, Array, Reduction

PROGRAM = """
import sys
import tapegrad as tg
x = tg.tensor([1.0, 2.0], requires_grad=True)
(x * x).sum().backward()
print(x.grad.tolist(), 'numba' in sys.modules)
"""
NAMES = f"""
import os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
{PROGRAM}
print(*{{os.path.basename(name) for name in opened if name.endswith(".o")}})
"""
KERNELS = """
import sys
import numpy as np
from tapegrad.kernels import native

def kernel(name, number):
    build = lambda: native.define(f"def {name}(x, n): f8(x, n)[0] += {number}", name, {})
    return native.callable_at(native.link(name, 2, build, (name, number)), 2)

x = np.zeros(1)
for name, number in ("one", 1.0), ("ten", 10.0):
    kernel(name, number)(x.ctypes.data, 1)
print(x[0], "numba" in sys.modules)
"""  # two that are quickly compiled
COUNTED = f"""
from tapegrad.kernels import native
made, compiled = [], native._compile
native._compile = lambda *given: made.append(given) or compiled(*given)
{KERNELS}
print(len(made))
"""
CLAIMING = """
import sys
from tapegrad.kernels import cache
with cache.claimed("claimed.o"):
    print("claimed", flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(cache.folder() is None, reason="there is no folder: nothing is kept")
compiles = pytest.mark.skipif(
    native.CHECKED, reason="Numba, which reports what is out of bounds, is imported whether it compiles or not"
)


def start(folder, program=PROGRAM, stdin=None, **environment):
    variables = {**os.environ, "TAPEGRAD_CACHE_DIR": str(folder), **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", program], env=variables, stdin=stdin, stdout=pipe, stderr=pipe, text=True
    )


def printed(child):
    out, errors = child.communicate(timeout=900)
    assert child.returncode == 0, errors
    return out.strip()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with what the program needs, from the one that all tests share: to fill one takes a while."""
    shared, folder = cache.folder(), tmp_path_factory.mktemp("kernels")
    place = folder / shared.name
    place.mkdir(0o700)
    for name in printed(start(shared.parent, NAMES)).splitlines()[-1].split():
        shutil.copy(shared / name, place)
    return folder


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A folder with two kernels."""
    folder = tmp_path_factory.mktemp("two")
    assert printed(start(folder, KERNELS)) == "11.0 True"
    return folder


@pytest.fixture
def copied(kernels, tmp_path):
    """The same, to be spoiled."""
    shutil.copytree(kernels, tmp_path / "kernels")
    return tmp_path / "kernels"


def entries(folder):
    return sorted(Path(folder).glob("*/*.o"))


@compiles
def test_the_next_process_needs_no_compiler(filled):
    assert printed(start(filled)) == "[2.0, 4.0] False"


@compiles
def test_the_folder_is_the_user_s_own(kernels):
    (place,) = Path(kernels).iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert place.name == cache.digest()


@compiles
@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:40], lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1])]
)
def test_a_damaged_entry_is_compiled_again(copied, damage):
    for entry in entries(copied):
        entry.write_bytes(damage(entry.read_bytes()))
    assert printed(start(copied, KERNELS)) == "11.0 True"
    assert printed(start(copied, KERNELS)) == "11.0 False"


@compiles
def test_a_folder_open_to_others_is_not_used(copied):
    (place,) = Path(copied).iterdir()
    (name,) = (entry.name for entry in entries(copied) if entry.name.startswith("one-"))
    program = f"from tapegrad.kernels import cache; print(cache.folder(), cache.read({name!r}))"
    assert not printed(start(copied, program)).startswith("None")
    place.chmod(0o777)
    assert printed(start(copied, program)) == "None None"


# --- whose folder it is -----------------------------------------------------------------------------------------------
# These write and read an entry of no code: there is nothing to compile.

TELL = """
import os, sys, warnings
warnings.simplefilter("always")
from tapegrad.kernels import cache
print(cache.folder(), cache.is_writable(), (cache.read("a.o") or [None])[0], cache.why_none())
"""


def keep(folder, **environment):
    """Write an entry, and return where it is."""
    program = "from tapegrad.kernels import cache; cache.write('a.o', {'n': 1}, b'code'); print(cache.folder())"
    return Path(printed(start(folder, program, **environment)))


def told(folder, program=TELL, **environment):
    """Folder, whether it is written to, what is read."""
    return printed(start(folder, program, **environment)).split(maxsplit=3)


def is_refused(folder, program=TELL):
    """Whether another process uses nothing of a folder, and says why."""
    child = start(folder, program)
    out, errors = child.communicate(timeout=900)
    assert child.returncode == 0, errors
    return out.startswith("None False None") and "others may write to" in out and "RuntimeWarning" in errors


def test_an_entry_is_read_by_the_next_process(tmp_path):
    place = keep(tmp_path / "cache")
    assert told(tmp_path / "cache")[:2] == [str(place), "True"]
    assert "{'n': 1}" in printed(start(tmp_path / "cache", TELL))


@pytest.mark.parametrize("damage", ["another name", "a link", "a pipe", "others may write", "another folder"])
def test_an_entry_is_what_it_seems_or_not_read(tmp_path, damage):
    entry = keep(tmp_path / "cache") / "a.o"
    if damage == "others may write":
        entry.chmod(0o622)
    else:
        entry.rename(entry.with_name("b.o"))
    if damage == "another name":
        shutil.copy(entry.with_name("b.o"), entry)
        written = told(tmp_path / "cache", TELL.replace("a.o", "b.o"))
        assert written[2] == "None"
        return
    if damage == "a link":
        entry.symlink_to(entry.with_name("b.o"))
    elif damage == "a pipe":
        os.mkfifo(entry, 0o600)
    elif damage == "another folder":
        other = keep(tmp_path / "cache", NUMBA_OPT="1") / "a.o"
        assert other.parent != entry.parent
        shutil.copy(other, entry)
    assert told(tmp_path / "cache")[1:3] == ["True", "None"]


@pytest.mark.parametrize("at", ["a parent", "the parent of all", "the folder itself"])
def test_a_folder_below_one_that_others_may_write_to_is_not_used(tmp_path, at):
    top = tmp_path / "top"
    place = keep(top / "cache")
    opened = {"a parent": top / "cache", "the parent of all": top, "the folder itself": place}[at]
    for mode in 0o720, 0o702:
        opened.chmod(mode)
        assert is_refused(top / "cache")
    opened.chmod(0o1777)  # sticky: nobody removes what is another's
    assert is_refused(top / "cache") if at == "the folder itself" else "{'n': 1}" in printed(start(top / "cache", TELL))


def test_folders_are_made_for_the_user_alone(tmp_path):
    program = "import os; os.umask(0)\n" + TELL
    place = Path(told(tmp_path / "a" / "b", program)[0])
    made = (tmp_path / "a", tmp_path / "a" / "b", place)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o700] * 3


def test_a_link_is_followed_to_where_it_is_checked(tmp_path):
    place = keep(tmp_path / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    assert told(tmp_path / "link")[0] == str(place)
    (tmp_path / "cache").chmod(0o777)
    assert is_refused(tmp_path / "link")


@pytest.mark.parametrize("named", ["cache", "./cache", "~/cache"])
def test_a_folder_is_where_it_was_when_the_program_began(tmp_path, named):
    (tmp_path / "elsewhere").mkdir()
    program = (
        f"""
import os
os.chdir({str(tmp_path)!r})
import tapegrad
os.chdir("elsewhere")
"""
        + TELL
    )
    assert told(named, program, HOME=str(tmp_path))[0].startswith(str(tmp_path / "cache"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_was_opened_is_what_is_used(tmp_path):
    """Another folder in its place changes nothing; one that is opened to others, or removed, is let go."""
    program = """
import os, pathlib, shutil
from tapegrad.kernels import cache
place = cache.folder()
cache.write("a.o", {"n": 1}, b"code")
place.rename(place.with_name("kept"))
place.mkdir(0o777)
print(cache.read("a.o"), end=" ")
place.rmdir()
shutil.rmtree(place.with_name("kept"))
print(cache.read("a.o"), place.exists(), end=" ")
cache.write("a.o", {"n": 2}, b"code")
print(cache.read("a.o"), end=" ")
place.chmod(0o777)
print(cache.read("a.o"))
"""
    assert printed(start(tmp_path, program)) == "({'n': 1}, b'code') None True ({'n': 2}, b'code') None"


def test_code_that_checks_bounds_is_kept_and_reports_from_the_disk(tmp_path):
    """The second process links what the first has compiled, and needs Numba's helpers to say what happened."""
    program = """
import numpy as np
from tapegrad.kernels import cache, native
name, x = "fifth", np.zeros(8)
known = cache.folder() is not None and cache.entries() > 0
build = lambda: native.define("def fifth(x, n): f8(x, n)[4] = 1.0", name, {})
fifth = native.callable_at(native.link(name, 2, build, (name,)), 2)
fifth(x.ctypes.data, LENGTH)
print(known, x[4])
"""
    for n, known in (4, False), (4, True), (5, True):
        child = start(tmp_path, program.replace("LENGTH", str(n)), NUMBA_BOUNDSCHECK="1")
        out, errors = child.communicate(timeout=900)
        assert out.split() == [str(known), "1.0" if n == 5 else "0.0"], errors
        assert ("IndexError: index is out of bounds" in errors) is (n == 4)
    assert printed(start(tmp_path, program.replace("LENGTH", "4"), NUMBA_BOUNDSCHECK="")).split() == ["False", "1.0"]


def test_settings_of_numba_s_have_folders_of_their_own(tmp_path):
    program = "from tapegrad.kernels import cache; print(cache.digest(), *cache.target()[1:])"
    plain = printed(start(tmp_path, program))
    assert printed(start(tmp_path, program, NUMBA_NUM_THREADS="1")) == plain
    found = [plain.split()[0]]
    for name, value in ("NUMBA_OPT", "0"), ("NUMBA_CPU_NAME", "generic"), ("NUMBA_ENABLE_AVX", "0"):
        found.append(printed(start(tmp_path, program, **{name: value})).split()[0])
    assert len(set(found)) == 4
    generic = printed(start(tmp_path, program, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+sse2")).split()
    assert generic[1:] == ["generic", "+sse2"]


IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
AS_ANOTHER = """
import os, sys
from tapegrad.kernels import cache
cache.digest()
os.setgid(65534)
os.setuid(65534)
print(cache.folder() is not None, cache.is_writable(), cache.read("a.o"))
cache.write("b.o", {}, b"")
print(cache.read("b.o"))
"""


@pytest.fixture
def shared():
    """A folder in which root has kept an entry, in a place that others reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield keep(Path(folder) / "cache")


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_a_folder_of_root_s_is_read_by_others(shared):
    """As in a container's image: made by root, used by another user."""
    assert printed(start(shared.parent, AS_ANOTHER)).splitlines() == ["False False None", "None"]
    shared.parent.chmod(0o755)
    shared.chmod(0o755)
    (shared / "a.o").chmod(0o644)
    assert printed(start(shared.parent, AS_ANOTHER)).splitlines() == ["True False ({'n': 1}, b'code')", "None"]
    (shared / "a.o").chmod(0o664)
    assert printed(start(shared.parent, AS_ANOTHER)).splitlines()[0] == "True False None"


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder away")
def test_what_is_another_user_s_is_not_used(shared):
    os.chown(shared / "a.o", 65534, 65534)
    assert told(shared.parent)[1:3] == ["True", "None"]
    os.chown(shared, 65534, 65534)
    assert is_refused(shared.parent)
    os.chown(shared, 0, 0)
    os.chown(shared.parent, 65534, 65534)
    assert is_refused(shared.parent)


@compiles
def test_a_kernel_that_was_planted_is_compiled_again(copied):
    """Whole entries with right checksums that lack a header, or hold another function."""
    program = """
import sys
from tapegrad.kernels import cache
one, ten = sorted(f.name for f in cache.folder().glob("*.o"))
planted = {"no header": ({}, cache.read(one)[1]), "another": cache.read(ten)}
cache.write(one, *planted[sys.argv[1]])
"""
    for what in "no header", "another":
        printed(start(copied, program.replace("sys.argv[1]", repr(what))))
        assert printed(start(copied, KERNELS)) == "11.0 True"


@compiles
def test_without_a_folder_kernels_are_compiled_in_each_process(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder can be made below a file")
    assert printed(start(nowhere, KERNELS)) == "11.0 True"


@compiles
def test_two_processes_fill_a_folder_at_once(tmp_path):
    both = [printed(child).split() for child in [start(tmp_path / "kernels", COUNTED) for _ in range(2)]]
    assert [value for value, _, _ in both] == ["11.0"] * 2
    if sys.platform != "win32":
        assert sum(int(n_made) for _, _, n_made in both) == 2  # neither compiled what the other did
    assert printed(start(tmp_path / "kernels", KERNELS)) == "11.0 False"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of the system's")
def test_a_process_that_compiles_for_too_long_is_not_waited_for_and_one_that_has_ended_has_no_claim(monkeypatch):
    def is_free():
        return cache._locked(cache._place().claims, cache._byte_of("claimed.o"))

    child = start(cache.folder().parent, CLAIMING, stdin=subprocess.PIPE)
    assert child.stdout.readline() == "claimed\n"
    monkeypatch.setattr(cache, "_PATIENCE", 0.0)
    for _ in range(2):
        with cache.claimed("claimed.o"):
            assert not is_free()
    child.kill()
    child.communicate()
    assert is_free()
    with cache.claimed("claimed.o"):
        pass  # which gives it back


@compiles
def test_a_process_that_compiles_ahead_begins_no_other(monkeypatch):
    """Its import has memory with guards, where these are asked for, and so looks for parts that are not there yet."""
    begun = []

    class Child:
        def __init__(self, _arguments, env, **_):
            begun.append(env)

        kill = wait = lambda self: None

    monkeypatch.setattr(engine, "_ahead", [])
    monkeypatch.setattr(engine, "_parts", {})
    monkeypatch.setattr(cache, "holds", lambda name: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(subprocess, "Popen", Child)
    engine.compile_ahead("run")
    (environment,) = begun
    engine._ahead.clear()
    monkeypatch.setattr(os, "environ", environment)
    engine.compile_ahead("run")
    assert len(begun) == 1
    atexit.unregister(engine._end)


@compiles
def test_what_is_compiled_ahead_is_all_that_a_gradient_calls():
    x = tapegrad.ones(3, requires_grad=True)
    (x * x).sum().backward()
    ahead = engine._reached("run")
    needed = set()
    for name in ahead:
        header, _ = cache.read(f"{native.symbol(name, engine._functions[name])}.o")
        needed |= {symbol for symbol in header["needs"] if symbol in native.linkers}
    assert needed == {parts[engine._functions[name]] for name in ahead if name != "run"}


def test_modules_of_the_core_are_where_they_are_said_to_be():
    assert all(importlib.util.find_spec(name.rstrip(".")) for name in _CORE)


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


@compiles
def test_an_edit_compiles_what_it_touches_and_no_more(filled, tmp_path):
    """One rule's edit compiles one kernel; a comment, none; what a function calls is part of its digest."""
    package = tmp_path / "tapegrad"
    shutil.copytree(Path(tapegrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + PROGRAM
    before = {entry.name for entry in entries(filled)}
    for source in "engine.py", "functions/shaping.py", "core/sweeps.py", "ops/arithmetic.py":
        path = package / source
        path.write_text("# a comment\n" + path.read_text())
    assert printed(start(filled, program)) == "[2.0, 4.0] False"
    assert {entry.name for entry in entries(filled)} == before
    storage = package / "core" / "storage.py"
    text = storage.read_text()
    assert "MOST_KEPT = 1 << 29" in text
    storage.write_text(text.replace("MOST_KEPT = 1 << 29", "MOST_KEPT = 1 << 28"))
    assert printed(start(filled, program)) == "[2.0, 4.0] True"
    made = {entry.name.rsplit("-", 1)[0] for entry in entries(filled) if entry.name not in before}
    assert made == {"give_back"}


def test_the_globals_that_a_digest_follows_are_those_that_python_loads():
    functions = [f for module in (sweeps, blocks, registers) for f in vars(module).values() if hasattr(f, "__code__")]
    assert len(functions) > 100
    for function in functions:
        loaded = [i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"]
        assert digests._globals(function.__code__) == list(dict.fromkeys(loaded))


def test_every_operation_has_a_digest():
    for op in OPS:
        partials = () if isinstance(op, Array) else op.partials  # of arrays, they are for Tensors only
        merged = (op.merge, op.finish) if isinstance(op, Reduction) else ()
        compiled = [op.function, op.integer, *merged, *partials, *op.vjps]
        assert all(len(digests.of(rule)) == 20 for rule in compiled)
    assert digests.of(1, 23) != digests.of(12, 3)
    assert digests.of((1,), 2) != digests.of((1, 2))
    assert digests.of(1) != digests.of(1.0) != digests.of("1.0")
