"""Object code on disk: compiled once per machine, loaded without importing Numba.

Numba compiles a kernel to LLVM IR; llvmlite turns that into an object file, which is kept here and linked again in the
next process. This goes around three traps of Numba's own cache: closures that never hit, changes in a callee's file
that go unnoticed, and an index that is unpickled (a truncated one crashes the call, a planted one runs code). It is
also faster: 0.2 ms a kernel instead of 2.5, and no Numba to import.

The folder's name holds a digest of what makes kernels, of the versions of Numba, llvmlite and Python, of Numba's
settings, and of the CPU; an entry's name one of what it is made from (`digests.py`). So an entry is never stale, and
what an edit doesn't touch is not compiled again. An entry is

      32 bytes: SHA-256 of folder, name and rest | 4 bytes: length of the header | header: JSON | object code

and one that fails its checksum is compiled again. Where no folder can be had, kernels are compiled in each process.

What is kept here is run, so it must not be another user's to write. The folder is reached from the root on, each folder
opened in the one before and looked at once it is open: it must be root's or the user's, and nobody else may write to
it (but for folders such as /tmp, where nobody removes what is another's). It is held open, and entries are opened
through it; they too must be root's or the user's, and closed to others' writing. A folder that the user may only read,
such as one in a container's image, is read.

What one process is compiling, others that need it wait for, in turns of a lock on a byte of a file beside the entries.
Such locks end with their process. Where there are none, or a process takes too long, code is compiled more than once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from functools import cache as memoize
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import llvmlite.binding as llvm

from tapegrad.kernels import digests

if sys.platform != "win32":
    import fcntl

_VARIABLE = "TAPEGRAD_CACHE_DIR"
_HAS_DESCRIPTORS = os.open in os.supports_dir_fd  # not on Windows, where paths have to do
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_PASSED = _FOLDER | getattr(os, "O_PATH", os.O_RDONLY)  # a folder that may be passed through needn't be readable
_CLAIMS = ".claims"  # the file of which a byte is locked for each entry that is being compiled
_PATIENCE = 30.0  # seconds to wait for another process, which may have been stopped
_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

# Settings of Numba's that change no code; whatever else may be set belongs to the digest.
_HARMLESS = {
    f"NUMBA_{name}"
    for name in (
        "CACHE_DIR", "COLOR_SCHEME", "DISABLE_JIT", "DISABLE_PERFORMANCE_WARNINGS", "FULL_TRACEBACKS",
        "NUM_THREADS", "THREADING_LAYER", "THREADING_LAYER_PRIORITY",
    )
}  # fmt: skip


class Place(NamedTuple):
    """The folder of this version's entries, open."""

    path: Path
    descriptor: int | None = None  # None where there are only paths
    identity: tuple[int, int] = 0, 0  # device and inode
    claims: int | None = None  # the file of locks, never closed: that would give back those of all threads


class UnsafeError(Exception):
    """A folder that others may write to."""


def _chosen() -> Path | None:
    """The folder that the environment names, or the user's; absolute, since the process may go elsewhere."""
    try:
        named = os.environ.get(_VARIABLE)
        return (Path(named).expanduser() if named else _user_cache()).absolute()
    except (OSError, RuntimeError):  # there is no home, or no working directory
        return None


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "tapegrad"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tapegrad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapegrad"


_parent = _chosen()
_held: dict[str, Place] = {}  # the one folder that is open
_lacking: list[str] = []  # why there is none


def folder() -> Path | None:
    """The folder of this version's entries, or None where none can be had: see `why_none`.

    `TAPEGRAD_CACHE_DIR`, read when tapegrad is imported, names another place than the user's cache folder.
    """
    place = _place()
    return None if place is None else place.path


def why_none() -> str:
    """Why there is no folder, in words; nothing where there is one."""
    return "" if _place() is not None else _lacking[-1]


def environment() -> dict[str, str]:
    """What a child process must be told to have the same folder, wherever it is started."""
    return {} if _parent is None else {_VARIABLE: str(_parent)}


def is_writable() -> bool:
    """Whether entries can be added."""
    place = _place()
    if place is None:
        return False
    if place.descriptor is None:
        return os.access(place.path, os.W_OK)
    return os.access(".", os.W_OK, dir_fd=place.descriptor)


def _place() -> Place | None:
    place = _held.get("")
    if place is not None and _is_still_there(place):
        return place
    if place is not None:
        _held.pop("", None)  # not closed: its number may be another file's by now
    elif _lacking:
        return None
    try:
        opened = _open_place()
    except UnsafeError as error:
        _lacking.append(str(error))
        warnings.warn(f"tapegrad compiles anew in every process: {error}", RuntimeWarning, stacklevel=2)
        return None
    except (OSError, ValueError) as error:
        _lacking.append(str(error))
        return None
    kept = _held.setdefault("", opened)
    if kept is not opened and opened.descriptor is not None:  # another thread was quicker
        os.close(opened.descriptor)
    return kept


def _is_still_there(place: Place) -> bool:
    """Whether a descriptor is still that of a folder that exists and is closed to others."""
    if place.descriptor is None:
        return True
    try:
        status = os.fstat(place.descriptor)
    except OSError:
        return False
    is_same = (status.st_dev, status.st_ino) == place.identity  # all may have been closed, and the number used again
    return is_same and status.st_nlink > 0 and _is_closed(status)


def _open_place() -> Place:
    if _parent is None:
        raise OSError(f"there is no home to keep code in: set {_VARIABLE}")
    path = _parent / digest()
    if not _HAS_DESCRIPTORS:
        path.mkdir(parents=True, exist_ok=True)
        return Place(path)
    path = Path(os.path.realpath(path))  # links are followed here, once, and none below
    reached = Path(path.anchor)
    descriptor = os.open(reached, _PASSED)
    try:
        status = _check(descriptor, reached)
        for name in path.parts[1:]:
            reached /= name
            is_last = reached == path
            below = _enter(name, descriptor, os.O_RDONLY | _FOLDER if is_last else _PASSED)
            os.close(descriptor)
            descriptor = below
            status = _check(descriptor, reached, may_be_sticky=not is_last)
    except BaseException:
        os.close(descriptor)
        raise
    claims = None
    with contextlib.suppress(OSError):  # a folder that is only read
        claims = os.open(_CLAIMS, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=descriptor)
    return Place(path, descriptor, (status.st_dev, status.st_ino), claims)


def _enter(name: str, parent: int, flags: int) -> int:
    """Open a folder in a folder; where it isn't there it is made, for the user alone."""
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.mkdir(name, 0o700, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)


def _check(descriptor: int, path: Path, may_be_sticky: bool = True) -> os.stat_result:
    """The status of a folder. UnsafeError where others may write to it."""
    status = os.fstat(descriptor)
    if not _is_closed(status, may_be_sticky):
        repair = f"run chmod go-w {path}" if status.st_uid == os.geteuid() else f"name another one in {_VARIABLE}"
        raise UnsafeError(f"its cache would be in {_parent}, but others may write to {path}; {repair}")
    return status


def _is_closed(status: os.stat_result, may_be_sticky: bool = False) -> bool:
    """Whether only root and the user decide what is there. In a sticky folder, others add, and change only theirs."""
    is_ours = status.st_uid in (0, os.geteuid())
    return is_ours and (not status.st_mode & _OTHERS_WRITE or (may_be_sticky and bool(status.st_mode & stat.S_ISVTX)))


@memoize
def digest() -> str:
    """What all compiled code depends on, in 16 hexadecimal digits."""
    from importlib.metadata import version  # not needed to import tapegrad, and slow

    return digests.of(
        digests.compilers(), version("numba"), version("llvmlite"), sys.version, target(), _settings()
    )[:16]  # fmt: skip


@memoize
def target() -> tuple[str, str, str]:
    """Triple, CPU name and features of the machine that code is made for: this one, or that which Numba is told of."""
    cpu, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if cpu else llvm.get_host_cpu_features().flatten()
    return llvm.get_process_triple(), cpu or llvm.get_host_cpu_name(), features


def _settings() -> tuple[Any, ...]:
    """What Numba was told by the environment, and by the file that it reads in the working directory."""
    told = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k not in _HARMLESS)
    try:
        return *told, Path(".numba_config.yaml").read_bytes()
    except OSError:
        return tuple(told)


def holds(name: str) -> bool:
    """Whether there is an entry of this name."""
    try:
        with _opened(name):
            return True
    except OSError:
        return False


def read(name: str) -> tuple[dict[str, Any], bytes] | None:
    """An entry's header and object code; None where there is none, or it is damaged, or another's."""
    try:
        with _opened(name) as file:
            content = file.read()
        body = content[32:]
        if _checksum(name, body) != content[:32]:
            return None
        end = 4 + struct.unpack_from("<I", body)[0]
        header = json.loads(body[4:end])
    except (OSError, ValueError, struct.error):
        return None
    return (header, body[end:]) if isinstance(header, dict) else None


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """An entry's file. OSError where there is none, or where others could have written it."""
    place = _place()
    if place is None:
        raise FileNotFoundError(name)
    descriptor = _open(place, name, os.O_RDONLY | _FILE)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (_HAS_DESCRIPTORS and not _is_closed(status)):
            raise PermissionError(name)
        yield file


def _open(place: Place, name: str, flags: int) -> int:
    if place.descriptor is None:
        return os.open(place.path / name, flags, 0o600)
    return os.open(name, flags, 0o600, dir_fd=place.descriptor)


def _checksum(name: str, body: bytes) -> bytes:
    return hashlib.sha256(b"".join(digests.tagged(t, c) for t, c in (
        ("folder", digest().encode()), ("name", name.encode()), ("body", body),
    ))).digest()  # fmt: skip


def write(name: str, header: dict[str, Any], code: bytes) -> None:
    """Keep an entry: whole or not at all, whoever else is writing."""
    place = _place()
    if place is None:
        return
    encoded = json.dumps(header).encode()
    body = struct.pack("<I", len(encoded)) + encoded + code
    temporary, at = f".{os.urandom(8).hex()}", place.descriptor
    source, destination = (place.path / temporary, place.path / name) if at is None else (temporary, name)
    with contextlib.suppress(OSError):  # a full disk, or a folder that is only read: what is in memory is good
        descriptor = _open(place, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_checksum(name, body) + body)
            os.replace(source, destination, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(source, dir_fd=at)
            raise


@contextlib.contextmanager
def claimed(name: str) -> Iterator[None]:
    """Compile an entry in here, if there is none yet: where another process is at it, this begins when that is done."""
    place = _place()
    if place is None or place.claims is None:
        yield
        return
    byte, until = _byte_of(name), time.monotonic() + _PATIENCE
    while (is_mine := _locked(place.claims, byte)) is False and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield
    finally:
        if is_mine:
            with contextlib.suppress(OSError):
                fcntl.lockf(place.claims, fcntl.LOCK_UN, 1, byte)


def _byte_of(name: str) -> int:
    """Which byte of the file of claims is an entry's."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "little")


def _locked(descriptor: int, byte: int) -> bool | None:
    """Whether this process has the lock of a byte now; None where the file has no locks."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _sizes() -> list[int]:
    """The sizes of the kernels in the folder."""
    place = _place()
    if place is None:
        return []
    with os.scandir(place.path if place.descriptor is None else place.descriptor) as found:
        return [entry.stat().st_size for entry in found if entry.name.endswith(".o")]


def entries() -> int:
    """How many kernels the folder holds."""
    return len(_sizes())


def nbytes() -> int:
    """Their size in bytes."""
    return sum(_sizes())
