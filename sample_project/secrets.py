"""Secrets that the sample makes once for a checkout and keeps in .sample/."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent.parent / ".sample"


def kept_secret(name: str, *, length: int = 48) -> str:
    """The checkout's secret called ``name``: random, readable by its owner alone.

    Processes that start together agree on one: the file appears whole or not at
    all, and whoever is second takes what the first has written.
    """
    path = DIRECTORY / name
    if not path.exists():
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=DIRECTORY)  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_urlsafe(length))
            os.link(partial, path)
        except FileExistsError:
            pass  # another process was first
        finally:
            Path(partial).unlink()
    return path.read_text()
