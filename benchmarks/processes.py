"""Processes that never outlive the benchmark.

Each runs in a session of its own, so that a Ctrl-C reaches the harness alone, which
then stops them in order; its output goes to a file, whose end is shown if it fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent


class ProcessFailed(RuntimeError):
    """A process of a peer ended although nobody stopped it; its output follows."""


def script(name: str) -> str:
    """Path of a console script of the running interpreter's environment."""
    return str(Path(sys.executable).with_name(name))


class Processes:
    """What one peer has started. Leaving the context stops it."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **env,
        }
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._started = 0

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Start a command of the peer in the background."""
        self._started += 1
        log = self._directory / f"{Path(command[0]).name}-{self._started}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**self._env, **(env or {})},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((process, log))

    def run(self, *command: str | Path) -> None:
        """Run a command to its end. Raises ProcessFailed with what it printed."""
        result = subprocess.run(
            command,
            env=self._env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if result.returncode:
            raise ProcessFailed(_describe(command, result.returncode, result.stdout))

    def check(self) -> None:
        """Raise ProcessFailed if one of them has ended."""
        for process, log in self._running:
            if process.poll() is not None:
                raise ProcessFailed(
                    _describe(_command(process), process.returncode, log.read_bytes())
                )

    def pids(self) -> set[int]:
        """Of what was started and runs, without its children."""
        return {process.pid for process, _ in self._running}

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM to each group, SIGKILL to what is left after ``grace`` seconds."""
        running, self._running = self._running, []
        for process, _ in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        try:
            for process, _ in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process, _ in running:
                # Also when the leader has ended: its children share its group.
                _signal(process, signal.SIGKILL)
                process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _command(process: subprocess.Popen[bytes]) -> Sequence[str | Path]:
    return process.args if isinstance(process.args, (list, tuple)) else ["?"]


def _describe(command: Sequence[str | Path], status: int, output: bytes) -> str:
    tail = "\n".join(output.decode(errors="replace").splitlines()[-30:])
    return f"{' '.join(map(str, command))} ended with status {status}:\n{tail}"
