"""The account that runs the server: PostgreSQL refuses to run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """How to start a program as the server's account; plain users are themselves."""

    uid: int
    gid: int
    switch: bool

    @classmethod
    def current(cls) -> Account:
        """The account for this process: ours, or postgres/nobody where we are root.

        No account is created. Raises LookupError where neither exists.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), switch=False)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid, switch=True)
        raise LookupError(
            "PostgreSQL refuses to run as root, and this machine has neither a "
            "'postgres' nor a 'nobody' account. Run as another user, or set "
            "DATABASE_URL to a server that is already there."
        )

    def popen_options(self) -> Mapping[str, Any]:
        """Keyword arguments of subprocess.run() that switch to the account."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_execute(self, path: Path) -> bool:
        """Whether the account may run (or, for a directory, enter) ``path``."""
        if not self.switch:
            return os.access(path, os.X_OK)
        answer = subprocess.run(
            ["test", "-x", str(path)],
            cwd="/",
            check=False,
            **self.popen_options(),
        )
        return answer.returncode == 0

    def own(self, path: Path) -> None:
        """Hand ``path`` to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)
