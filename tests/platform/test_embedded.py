from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from sample_project import embedded
from sample_project.embedded import EmbeddedServer, binaries, elsewhere
from sample_project.embedded.account import Account
from sample_project.embedded.base import DatabaseWrapper
from sample_project.embedded.locks import UserLock
from sample_project.embedded.server import EmbeddedServerError, socket_directory

ROOT = Path(__file__).resolve().parents[2]

SWEEP = """
import sys
from pathlib import Path
from sample_project.embedded import elsewhere
elsewhere.PARENT = Path(sys.argv[1])
elsewhere.sweep()
"""


class User:
    """A process of tests.platform.user."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.platform.user", str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def postmaster(self) -> int:
        """The process id of the server that it has connected to."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def connect_again(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.leave()


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("embedded") / "postgres"
    yield path
    EmbeddedServer(path).remove()


@pytest.fixture
def user(directory: Path) -> Iterator[Callable[[], User]]:
    users: list[User] = []

    def start() -> User:
        users.append(User(directory))
        return users[-1]

    yield start
    for one in users:
        with suppress(ValueError):  # already left
            one.kill()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be there to reap it


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def test_users_that_start_at_once_share_one_server_and_the_last_stops_it(
    directory: Path, user: Callable[[], User]
) -> None:
    users = [user() for _ in range(3)]
    postmasters = {one.postmaster() for one in users}
    assert len(postmasters) == 1
    [postmaster] = postmasters

    users[0].leave()
    users[1].leave()
    assert is_running(postmaster)

    users[2].leave()
    wait_for_end(postmaster)
    assert not socket_directory(directory).exists()


def test_a_killed_user_is_not_counted(user: Callable[[], User]) -> None:
    killed, last = user(), user()
    postmaster = killed.postmaster()
    assert last.postmaster() == postmaster

    killed.kill()
    last.connect_again()
    assert last.postmaster() == postmaster

    last.leave()
    wait_for_end(postmaster)


def test_a_server_whose_users_were_all_killed_is_stopped_by_the_next(
    user: Callable[[], User],
) -> None:
    killed = user()
    postmaster = killed.postmaster()
    killed.kill()
    assert is_running(postmaster)

    following = user()
    assert following.postmaster() == postmaster
    following.leave()
    wait_for_end(postmaster)


def test_a_killed_server_is_revived_for_those_who_use_it(
    user: Callable[[], User],
) -> None:
    one = user()
    postmaster = one.postmaster()
    os.kill(postmaster, signal.SIGKILL)
    wait_for_end(postmaster)

    one.connect_again()
    successor = one.postmaster()
    assert successor != postmaster
    one.leave()
    wait_for_end(successor)


def test_a_process_id_of_somebody_else_in_the_pid_file_stops_nothing(
    directory: Path, user: Callable[[], User]
) -> None:
    first = user()
    first.postmaster()
    first.leave()
    pid_file = EmbeddedServer(directory).data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{directory}\n0\n5432\n\n\n0 0\n")

    second = user()
    assert second.postmaster() != os.getpid()


def test_connections_fail_during_an_outage_and_succeed_after_it(
    directory: Path,
) -> None:
    server = EmbeddedServer(directory, fast=True)
    server.ensure()
    address = f"host={server.sockets} user=postgres dbname=postgres"
    with server.outage():
        server.ensure()  # returns at once: another one is at work
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address)
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()
    server.release()


def test_the_server_keeps_its_promises_unless_asked_to_be_fast(
    directory: Path,
) -> None:
    server = EmbeddedServer(directory)
    server.ensure()
    address = f"host={server.sockets} user=postgres dbname=postgres"
    with psycopg.connect(address) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN "
            "('fsync', 'synchronous_commit', 'full_page_writes', "
            "'max_connections', 'listen_addresses', 'TimeZone')"
        ).fetchall()
    connection.close()
    server.release()
    assert dict(rows) == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_connections": "200",
        "listen_addresses": "",
        "TimeZone": "UTC",
    }


def test_data_of_another_postgresql_is_refused_by_name(directory: Path) -> None:
    server = EmbeddedServer(directory, fast=True)
    server.ensure()
    server.release()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 9.*make clean"):
        server.ensure()


def test_nothing_is_started_before_the_first_connection(directory: Path) -> None:
    entry = embedded.database(directory)
    wrapper = DatabaseWrapper({**entry, "TIME_ZONE": None, "OPTIONS": {}})
    assert wrapper.vendor == "postgresql"
    assert not directory.exists()


def test_a_missing_postgresql_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PG_BIN", str(tmp_path))
    with pytest.raises(LookupError, match="holds no pg_ctl"):
        binaries.find()


def test_data_below_a_private_home_are_kept_where_the_account_reaches_them(
    tmp_path: Path,
) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    server = EmbeddedServer(private / "postgres", fast=True)
    try:
        server.ensure()
        # Only root runs the server as somebody else, who cannot look in here.
        assert server.root.is_relative_to(private) == (os.geteuid() != 0)
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        server.release()
        server.remove()
    assert not server.root.exists()


def test_data_kept_for_a_temporary_directory_go_when_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "PARENT", tmp_path)
    gone, there, used = (tmp_path / name for name in ("gone", "there", "used"))
    there.mkdir()
    kept = {asked: elsewhere.place(asked) for asked in (gone, there, used)}
    with closing(UserLock(kept[used])):
        subprocess.run(
            [sys.executable, "-c", SWEEP, str(tmp_path)], cwd=ROOT, check=True
        )
    assert not kept[gone].exists()
    assert kept[there].exists()
    assert kept[used].exists()


def test_programs_that_the_account_cannot_run_are_copied(tmp_path: Path) -> None:
    package = tmp_path / "home" / "package"
    programs = package / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").touch(mode=0o755)
    package.with_name("package.libs").mkdir()
    package.parent.chmod(0o700)
    nobody = Account(65534, 65534, switch=os.geteuid() == 0)

    chosen = binaries.readable(programs, nobody)
    try:
        assert nobody.can_execute(chosen / "postgres")
        assert (chosen.parents[2] / "package.libs").is_dir()
        assert binaries.readable(programs, nobody) == chosen
    finally:
        if chosen != programs:
            shutil.rmtree(chosen.parents[2])


def test_the_account_is_never_root() -> None:
    assert Account.current().uid != 0
