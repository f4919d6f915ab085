"""Keeps data for a directory that the server's account cannot reach (root only)."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from sample_project.embedded.locks import UserLock

PARENT = Path("/var/tmp")
PREFIX = "orchestrator-pg-data-"
ASKED = "asked-for"  # names the directory that the data stand for


def digest(directory: Path) -> str:
    """A short name for ``directory``, the same in every process."""
    return hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:10]


def place(asked: Path) -> Path:
    """Where the data of ``asked`` are kept instead; made if it is not there yet."""
    sweep()
    path = PARENT / f"{PREFIX}{digest(asked)}"
    path.mkdir(mode=0o711, exist_ok=True)
    if path.is_symlink() or path.lstat().st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to somebody else: remove it.")
    (path / ASKED).write_text(str(asked))
    return path


def sweep() -> None:
    """Delete what was kept for temporary directories that are gone.

    Only below the system's temporary places: elsewhere a directory may be missing
    because its disk is not mounted at the moment.
    """
    for path in PARENT.glob(f"{PREFIX}*"):
        try:
            asked = Path((path / ASKED).read_text())
            if _is_temporary(asked) and not asked.exists() and _is_unused(path):
                shutil.rmtree(path, ignore_errors=True)
        except (OSError, ValueError, IndexError):
            continue  # being made, or swept by another process


def _is_temporary(path: Path) -> bool:
    places = (Path("/tmp"), PARENT, Path(tempfile.gettempdir()))
    return any(path.is_relative_to(place) for place in places)


def _is_unused(path: Path) -> bool:
    """Whether no process uses the server, and none is left running without users."""
    with closing(UserLock(path)) as lock:
        return lock.is_last() and not _has_server(path)


def _has_server(path: Path) -> bool:
    pid_file = path / "data" / "postmaster.pid"
    if not pid_file.exists():
        return False
    try:
        os.kill(int(pid_file.read_text().split()[0]), 0)
    except ProcessLookupError:
        return False
    return True
