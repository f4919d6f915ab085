"""``python -m benchmarks.verbs``: claim and settle alone, beside pgqueuer's drain.

What the SQL of the engine can carry without a framework around it: one process claims
batches of 100 tasks, decodes and stamps each, and settles them, with all indexes and
the whole history. Once on one connection, in exchanges as a worker's child makes them;
once with claim and settle overlapping on two. pgqueuer runs in full, one process.
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.peers import Kind, Peer
from benchmarks.peers.ours import Ours
from benchmarks.profiles import PROFILES
from benchmarks.server import server
from benchmarks.stamps import Stamps, stamp

BATCH = 100
FLOORS = {"serial": 1.0, "overlapped": 1.15}


class Verbs(Ours):
    """The verbs in a loop: `serial` on one connection, `overlapped` on two."""

    name: ClassVar[str] = "verbs"
    mode = "serial"

    def start_workers(self, kind: Kind, processes: int) -> None:
        for _ in range(processes):
            self.processes.start(
                sys.executable, "-m", "benchmarks.verbs", "--worker", self.mode
            )


def main() -> int:
    """Measure and print; 1 if a floor is missed and --gate was given."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verbs", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", choices=PROFILES, default="short")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--worker", choices=FLOORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(overlapped=options.worker == "overlapped")
        return 0
    rates = _measure(options.profile, options.rounds)
    good = True
    for name, floor in FLOORS.items():
        ratios = [a / b for a, b in zip(rates[name], rates["pgqueuer"], strict=True)]
        ratio = statistics.median(ratios)
        good &= ratio >= floor
        print(
            f"{name}: {statistics.median(rates[name]):,.0f} tasks/s, {ratio:.2f} × "
            f"pgqueuer ({statistics.median(rates['pgqueuer']):,.0f}); floor {floor}: "
            f"{'reached' if ratio >= floor else 'MISSED'}; rounds "
            f"{', '.join(f'{r:.2f}' for r in ratios)}"
        )
    return int(options.gate and not good)


def _measure(profile: str, rounds: int) -> dict[str, list[float]]:
    from benchmarks.peers.pgqueuer import PgQueuer

    rates: dict[str, list[float]] = {"pgqueuer": [], "serial": [], "overlapped": []}
    with tempfile.TemporaryDirectory(prefix="verbs-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with server(directory / "postgres") as postgres:
            stamps = Stamps(directory / "stamps")
            for cls in (PgQueuer, Verbs):
                (directory / cls.name).mkdir()
            theirs = PgQueuer(
                directory / "pgqueuer", stamps.path, postgres.url("pgqueuer")
            )
            ours = Verbs(directory / "verbs", stamps.path, postgres.url("verbs"))
            bench = Bench(postgres, stamps, PROFILES[profile], [theirs, ours])
            with closing(bench):
                for _ in range(rounds):
                    rates["pgqueuer"].append(_drain(bench, theirs))
                    for mode in FLOORS:
                        ours.mode = mode
                        rates[mode].append(_drain(bench, ours))
    return rates


def _drain(bench: Bench, peer: Peer) -> float:
    with bench.session(peer):
        return bench.drain(peer, "async", 1, bench.profile.drain).rate


def work(*, overlapped: bool) -> None:
    """Claim and settle for ever, as fast as the verbs go."""
    import django

    django.setup()

    from benchmarks.ours.workflows import noop
    from orchestrator.engine import sessions, settle
    from orchestrator.engine.claim import Claim, Demand, WorkerKey
    from orchestrator.engine.exchange import exchange
    from orchestrator.states import AttemptOutcome

    worker = WorkerKey(uuid.uuid4(), 1)
    node = noop.definition.shape.tasks[0]
    demand = Demand((node.queue_id,), {node.lane: None}, BATCH)
    session = sessions.WorkerSession(sessions.connect())

    def execute(claims: Sequence[Claim]) -> list[settle.Result]:
        results = []
        for claim in claims:
            started = time.monotonic()
            stamp(json.loads(claim.input)["args"][0])
            finished = time.monotonic()
            results.append(
                settle.Result(
                    claim, AttemptOutcome.COMPLETED, started, finished, output="null"
                )
            )
        return results

    if not overlapped:
        results: list[settle.Result] = []
        while True:
            claims = exchange(session, worker, results, demand).claims
            results = execute(claims)
            if not claims:
                time.sleep(0.002)

    settling = sessions.WorkerSession(sessions.connect())
    batches: queue.Queue[list[settle.Result]] = queue.Queue(2)

    def settle_all() -> None:
        while True:
            exchange(settling, worker, batches.get(), None)

    threading.Thread(target=settle_all, daemon=True).start()
    while True:
        claims = exchange(session, worker, [], demand).claims
        if claims:
            batches.put(execute(claims))
        else:
            time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
