"""How a process of a worker is started, and what it does before anything else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import django
from django.conf import settings as django_settings
from django.db import connections

_PR_SET_PDEATHSIG = 1


def spawn(
    module: str, arguments: Sequence[str], descriptors: Sequence[int], **options: Any
) -> subprocess.Popen[bytes]:
    """Start `python -m module` with this process's path, settings and descriptors.

    A new interpreter, never a fork: nothing that is open here is shared there.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "DJANGO_SETTINGS_MODULE": django_settings.SETTINGS_MODULE,
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        env=environment,
        **options,
    )


def die_with(parent: int) -> None:
    """Have the kernel end this process when `parent` ends, where it can (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before the kernel was asked


def leave_signals_to_the_supervisor() -> None:
    """Do nothing on SIGINT and SIGTERM: the supervisor says what is to happen.

    A handler, not SIG_IGN, which the programs that tasks start would inherit.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def set_up_django() -> None:
    """Load the project and everything that declares tasks."""
    django.setup()
    for database in connections.settings.values():
        # A connection for each slot that uses one: a pool would only make them wait.
        database["OPTIONS"].pop("pool", None)
    from orchestrator import registry

    registry.autodiscover()


def exit_text(code: int | None) -> str:
    """An exit status in words, such as `signal SIGSEGV` or `exit code 3`."""
    if code is None:
        return "no exit code"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
