"""Celery on Redis: prefork, default prefetch, results kept, AOF every second."""

from __future__ import annotations

import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import redis

from benchmarks.peers.base import Kind, Peer
from benchmarks.processes import Processes, script


class Celery(Peer):
    """A plain task and a chain of three; there are no coroutines and no bulk call.

    Redis promises less than PostgreSQL: a task can be lost for up to a second after
    ``delay`` returned.
    """

    name: ClassVar[str] = "celery"
    kinds = frozenset({"sync", "chain"})
    on_postgres = False
    bulk = False
    pace = "slow"

    def __init__(self, directory: Path, stamps: Path, url: str) -> None:
        self._socket = directory / "redis.sock"
        self._server = Processes(directory, {})
        self._app: Any = None
        super().__init__(directory, stamps, url)

    def own_environment(self) -> dict[str, str]:
        return {
            "BENCH_BROKER": f"redis+socket://{self._socket}?virtual_host=0",
            "BENCH_RESULTS": f"redis+socket://{self._socket}?virtual_host=1",
        }

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("redis-server") else "redis-server is not installed"

    def version(self) -> str:
        with self._redis(0) as client:
            server = client.info("server")["redis_version"]
        return (
            f"celery {version('celery')}, redis {version('redis')}, Redis {server} "
            "(AOF everysec): --pool prefork -c 1, results kept"
        )

    def prepare(self) -> None:
        self._server.start(
            "redis-server",
            "--port", "0",
            "--unixsocket", str(self._socket),
            "--dir", str(self.directory),
            "--appendonly", "yes",
            "--appendfsync", "everysec",
            "--save", "",
        )  # fmt: skip
        for _ in range(100):
            try:
                with self._redis(0) as client:
                    client.ping()
                return
            except redis.exceptions.ConnectionError:
                self._server.check()
                time.sleep(0.05)
        raise TimeoutError("redis-server did not answer within 5 seconds")

    def _redis(self, database: int) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._socket), db=database)

    def connect(self) -> None:
        os.environ.update(self.environment)
        from benchmarks.apps import celery_app

        self._app = celery_app
        self._results = self._redis(1)
        self._results.flushall()
        self._expected = 0

    def enqueue_one(self, kind: Kind, number: int) -> None:
        if kind == "chain":
            step = self._app.step
            (self._app.noop.si(number) | step.si(number) | step.si(number)).delay()
            self._expected += 3
        else:
            self._app.noop.delay(number)
            self._expected += 1

    def enqueue_many(self, kind: Kind, numbers: range) -> None:
        for number in numbers:
            self.enqueue_one(kind, number)

    def start_workers(self, kind: Kind, processes: int) -> None:
        for number in range(processes):
            self.processes.start(
                script("celery"),
                "-A", "benchmarks.apps.celery_app",
                "worker",
                "--pool", "prefork",
                "--concurrency", "1",
                "--hostname", f"bench{number}@localhost",
                "--loglevel", "WARNING",
            )  # fmt: skip

    def wait_done(self, deadline: float) -> bool:
        # A result is a key; its database holds nothing else.
        while self._results.dbsize() < self._expected:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def burst(self, kind: Kind, numbers: range) -> None:
        # There is no commit of many: workers stop consuming in the meantime.
        control = self._app.app.control
        control.cancel_consumer("bench", reply=True)
        self.enqueue_many(kind, numbers)
        control.add_consumer("bench")

    def stop(self) -> None:
        super().stop()
        if self._app is not None:
            self._results.close()
            self._app.app.close()

    def close(self) -> None:
        self.stop()
        self._server.stop()
