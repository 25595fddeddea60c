"""Object code on disk: compiled once per machine, loaded without importing Numba.

Numba compiles a kernel to LLVM IR; llvmlite turns that into an object file, which is kept here and linked again in the
next process. This goes around three traps of Numba's own cache: closures that never hit, changes in a callee's file
that go unnoticed, and an index that is unpickled (a truncated one crashes the call, a planted one runs code). It is
also faster: 0.2 ms a kernel instead of 2.5, and no Numba to import.

The folder's name holds a digest of what makes kernels, of the versions of Numba, llvmlite and Python, and of the CPU;
an entry's name one of what it is made from (`digests.py`). So an entry is never stale, and what an edit doesn't touch
is not compiled again. The folder must belong to the user and be closed to others. An entry is

      32 bytes: SHA-256 of the rest | 4 bytes: length of the header | header: JSON | object code

and one that fails its checksum is compiled again. Where no folder can be had, kernels are compiled in each process.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import sys
import tempfile
from functools import cache as memoize
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from tapegrad.kernels import digests

_VARIABLE = "TAPEGRAD_CACHE_DIR"


@memoize
def folder() -> Path | None:
    """The folder of this version's kernels, or None where none can be had.

    `TAPEGRAD_CACHE_DIR` names another place than the user's cache folder. Code that checks its bounds is not kept: it
    needs Numba in the process to report what it finds.
    """
    if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0"):
        return None
    try:
        chosen = os.environ.get(_VARIABLE)
        path = (Path(chosen) if chosen else _user_cache()) / digest()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _is_private(path) and os.access(path, os.W_OK) else None
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "tapegrad"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tapegrad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapegrad"


def _is_private(path: Path) -> bool:
    """Object code is run: only the user may be able to put it there."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@memoize
def digest() -> str:
    """What all compiled code depends on, in 16 hexadecimal digits."""
    from importlib.metadata import version  # not needed to import tapegrad, and slow

    facts = (digests.compilers(), version("numba"), version("llvmlite"), sys.version, *target())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


@memoize
def target() -> tuple[str, str, str]:
    """Triple, CPU name and features of the machine that code is made for."""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def holds(name: str) -> bool:
    """Whether there is an entry of this name."""
    place = folder()
    return place is not None and (place / name).exists()


def read(name: str) -> tuple[dict[str, Any], bytes] | None:
    """An entry's header and object code; None where there is none, or it is damaged."""
    place = folder()
    if place is None:
        return None
    try:
        content = (place / name).read_bytes()
    except OSError:
        return None
    if len(content) < 36 or hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    end = 36 + struct.unpack_from("<I", content, 32)[0]
    return json.loads(content[36:end]), content[end:]


def write(name: str, header: dict[str, Any], code: bytes) -> None:
    """Keep an entry: whole or not at all, whoever else is writing."""
    place = folder()
    if place is None:
        return
    encoded = json.dumps(header).encode()
    body = struct.pack("<I", len(encoded)) + encoded + code
    try:
        descriptor, temporary = tempfile.mkstemp(dir=place)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(body).digest() + body)
            Path(temporary).replace(place / name)
        except OSError:
            Path(temporary).unlink()
    except OSError:  # a full disk, or a folder that went away: the kernel in memory is good all the same
        return


def entries() -> int:
    """How many kernels the folder holds."""
    place = folder()
    return sum(1 for _ in place.glob("*.o")) if place else 0


def nbytes() -> int:
    """Their size in bytes."""
    place = folder()
    return sum(entry.stat().st_size for entry in place.glob("*.o")) if place else 0
