"""One embedded server: started by its first user, stopped by its last."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from sample_project.embedded import binaries, elsewhere
from sample_project.embedded.account import Account
from sample_project.embedded.locks import UserLock, starting, starting_if_free

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # only the name of the socket; PGPORT must not change it
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# A crash may lose or corrupt everything: for tests, never for a benchmark.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

START_SECONDS = 120  # crash recovery may take long
START_ATTEMPTS = 20


class EmbeddedServerError(RuntimeError):
    """The embedded PostgreSQL could not be started."""


def socket_directory(directory: Path) -> Path:
    """Where the server of ``directory`` has its socket.

    Short, because a socket's path is limited to 108 bytes, and the same for every
    process of one user, whatever its TMPDIR says.
    """
    digest = elsewhere.digest(directory)
    parent = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    return parent / f"orchestrator-pg-{os.geteuid()}-{digest}"


class EmbeddedServer:
    """The server of one data directory, as seen by one process.

    `ensure` is cheap and may be called before every connection. It starts the
    server where there is none, and revives one that was killed. `release` (also
    run at exit) stops the server if no other process uses it. A user that is
    killed is uncounted by the kernel; a server that lost all its users that way
    is stopped by the next one.
    """

    def __init__(self, directory: Path, *, fast: bool = False) -> None:
        self.sockets = socket_directory(directory)
        self.account = Account.current()
        self.asked = directory.absolute()
        self.root = self._reachable(self.asked)
        self.data = self.root / "data"
        self.log = self.data / "server.log"
        self.fast = fast
        self._user: UserLock | None = None
        os.register_at_fork(after_in_child=self._forget)

    # -- for users

    def ensure(self) -> None:
        """Return when the server answers.

        Raises EmbeddedServerError, with the end of the server's log, where it does
        not start. A process that already uses the server does not wait while
        another one starts or stops it: its connection fails as it would with any
        other server that is down.
        """
        if self._user is None:
            with starting(self.root):
                self._user = UserLock(self.root)
                if not self._answers():
                    self._start()
            atexit.register(self.release)
        elif not self._accepts():
            with starting_if_free(self.root) as free:
                if free and not self._answers():
                    self._start()

    def release(self) -> None:
        """Stop using the server, and stop it if nobody else does."""
        if self._user is None:
            return
        atexit.unregister(self.release)
        with starting(self.root):
            if self._user.is_last():
                self._stop("fast")
            self._user.close()
            self._user = None

    @contextlib.contextmanager
    def outage(self, mode: str = "immediate") -> Iterator[None]:
        """Stop the server for all its users while the block runs (tests only).

        ``mode`` is pg_ctl's: "immediate" is a crash, "fast" an orderly stop.
        """
        with starting(self.root):
            self._stop(mode)
            try:
                yield
            finally:
                self._start()

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server, whoever uses it. Returns whether there was one."""
        with starting(self.root):
            was_up = self._answers()
            if was_up:
                self._stop(mode)
        return was_up

    def remove(self) -> None:
        """Stop the server, whoever uses it, and delete its data."""
        self.stop("immediate")
        for directory in (self.sockets, self.root, self.asked):
            shutil.rmtree(directory, ignore_errors=True)

    def is_up(self) -> bool:
        """Whether the server answers at the moment, to whomever."""
        return self._answers()

    # -- internals

    def _forget(self) -> None:
        # A forked child uses the server in its own name, or not at all: the lock
        # that it inherited is its parent's, and so is the duty to stop the server.
        if self._user is not None:
            self._user.close()
            self._user = None
            atexit.unregister(self.release)

    def _reachable(self, root: Path) -> Path:
        """``root``, or a place of its own for data that the account could not reach."""
        root.mkdir(parents=True, exist_ok=True)
        if not self.account.switch:
            return root
        root.chmod(root.stat().st_mode | 0o011)
        if self.account.can_execute(root):
            return root
        return elsewhere.place(root)

    def _refuse_strangers(self, path: Path) -> None:
        owner = path.lstat().st_uid
        if path.is_symlink() or owner not in {os.geteuid(), self.account.uid}:
            raise EmbeddedServerError(
                f"{path} belongs to somebody else (user id {owner}): remove it."
            )

    @cached_property
    def _programs(self) -> Path:
        return binaries.readable(binaries.find(), self.account)

    def _accepts(self) -> bool:
        """Whether something listens on the socket: microseconds, no process."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self.sockets / ".s.PGSQL.5432"))
            except OSError:
                return False
        return True

    def _answers(self) -> bool:
        """Whether the server accepts or is still recovering.

        A process id in postmaster.pid proves nothing: it may be another's by now.
        """
        if not self._accepts():
            return False
        ready = self._run("pg_isready", "-q", "-h", str(self.sockets), "-p", "5432")
        return ready.returncode in (0, 1)

    def _start(self) -> None:
        self._prepare()
        chosen = {**SETTINGS, "unix_socket_directories": str(self.sockets)}
        if self.fast:
            chosen |= FAST
        options = " ".join(f"-c {name}='{value}'" for name, value in chosen.items())
        for _ in range(START_ATTEMPTS):
            started = self._pg_ctl(
                "-w", "-t", str(START_SECONDS), "-l", str(self.log), "-o", options,
                "start",
            )  # fmt: skip
            if started.returncode == 0:
                return
            # A killed postmaster that its parent has not reaped yet, or whose
            # orphans are still leaving, counts as running for a moment.
            self._drop_stale_pid_file()
            time.sleep(0.5)
        raise EmbeddedServerError(
            f"The embedded PostgreSQL did not start. The end of {self.log}:\n"
            f"{self._log_tail()}\n"
            f"`make clean` removes its data; DATABASE_URL uses another server."
        )

    def _prepare(self) -> None:
        for directory in (self.data, self.sockets):
            directory.mkdir(mode=0o700, exist_ok=True)
            self._refuse_strangers(directory)
            self.account.own(directory)
        version = self.data / "PG_VERSION"
        if not version.exists():
            self._initialise()
        found, wanted = version.read_text().strip(), self._major_version()
        if found != wanted:
            raise EmbeddedServerError(
                f"{self.data} was made by PostgreSQL {found}, but the programs in "
                f"{self._programs} are {wanted}. Remove the data (`make clean`), or "
                f"point ORCHESTRATOR_PG_BIN at PostgreSQL {found}."
            )

    def _initialise(self) -> None:
        arguments = ["-D", str(self.data), "-U", "postgres", "--auth=trust"]
        arguments += ["-E", "UTF8", "--locale=C.UTF-8"]
        if self.fast:
            arguments.append("--no-sync")
        made = self._run("initdb", *arguments)
        if made.returncode:
            raise EmbeddedServerError(f"initdb failed:\n{made.stderr.strip()}")

    def _major_version(self) -> str:
        answer = self._run("postgres", "--version").stdout  # postgres (PostgreSQL) 18.4
        return answer.split()[2].split(".")[0]

    def _stop(self, mode: str) -> None:
        self._pg_ctl("-m", mode, "-w", "-t", str(START_SECONDS), "stop")
        with contextlib.suppress(OSError):  # absent, or not empty
            self.sockets.rmdir()

    def _drop_stale_pid_file(self) -> None:
        """Remove a postmaster.pid whose process is alive but no PostgreSQL."""
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
            command = subprocess.run(
                ["ps", "-o", "comm=", "-p", str(pid)],
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        except (OSError, ValueError, IndexError):
            return
        if command.strip() and "postgres" not in command:
            pid_file.unlink(missing_ok=True)

    def _log_tail(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-2000:].strip()
        except OSError:
            return "(there is no log)"

    def _pg_ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # No pipes: the server would inherit them, and reading would never end.
        return subprocess.run(
            [str(self._programs / "pg_ctl"), "-D", str(self.data), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=self._environment(),
            start_new_session=True,  # Ctrl-C in the terminal is not for the server
            text=True,
            check=False,
            **self.account.popen_options(),
        )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env=self._environment(),
            text=True,
            check=False,
            **self.account.popen_options(),
        )

    @staticmethod
    def _environment() -> dict[str, str]:
        """Ours, less the PG… variables, which would redirect every program."""
        return {k: v for k, v in os.environ.items() if not k.startswith("PG")}
