"""Child processes in one group: started, watched, restarted and ended together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PRINTING = threading.Lock()

COLOURS = {"web": 36, "worker": 32, "scheduler": 35, "library": 33}


@dataclass
class Child:
    """One program of the group, and the process that runs it at the moment."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)

    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def fate(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"stopped with exit code {code}"


class Group:
    """Programs in one process group of their own.

    Ctrl-C in the terminal therefore reaches the launcher alone, which passes it on
    once: a worker that saw both would take the second for "at once".
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._children: dict[str, Child] = {}
        self._id: int | None = None
        self._printers: list[threading.Thread] = []

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Run ``command``; each line that it prints appears behind ``name``."""
        process = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=self._id or 0,
            preexec_fn=_end_with_parent,
        )
        self._id = self._id or process.pid
        printer = threading.Thread(target=_print, args=(name, process), daemon=True)
        printer.start()
        self._printers.append(printer)
        child = Child(name, command, process)
        self._children[name] = child
        return child

    def restart(self, child: Child) -> Child:
        """Run the program of a child that has ended once more."""
        return self.start(child.name, child.command)

    def ended(self) -> list[Child]:
        """The children that are no longer running."""
        return [child for child in self._children.values() if child.fate()]

    def forget(self, child: Child) -> None:
        """Stop watching a child that was meant to end."""
        del self._children[child.name]

    def stop(self, *, grace: float) -> None:
        """End everything: SIGTERM, and SIGKILL for what is left after ``grace`` s.

        A KeyboardInterrupt meanwhile sends the second SIGTERM, which ends a worker
        at once.
        """
        deadline = time.monotonic() + grace
        self._terminate()
        while self._running() and time.monotonic() < deadline:
            try:
                time.sleep(0.05)
            except KeyboardInterrupt:
                self._terminate()
                deadline = min(deadline, time.monotonic() + 5)
        if self._id is not None:
            # Also what the programs themselves have started and left behind.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._id, signal.SIGKILL)
        for child in self._children.values():
            child.process.wait()
        for printer in self._printers:
            printer.join(timeout=2)

    def _running(self) -> bool:
        return any(child.fate() is None for child in self._children.values())

    def _terminate(self) -> None:
        for child in self._children.values():
            if child.fate() is None:
                child.process.terminate()


def say(text: str = "") -> None:
    """Print a line of the launcher's own, never in the middle of a child's."""
    with _PRINTING:
        print(text, flush=True)


def _print(name: str, process: subprocess.Popen[str]) -> None:
    label = f"{name:>9} │ "
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{COLOURS.get(name, 37)}m{label}\033[0m"
    for line in process.stdout or ():
        # Where nobody reads us, the child must not block on a full pipe all the same.
        with suppress(OSError):
            say(label + line.rstrip("\n"))


def _end_with_parent() -> None:
    """Runs in the child before its program: a killed launcher leaves nobody behind."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
