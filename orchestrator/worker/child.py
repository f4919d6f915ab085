"""A child process: one engine thread, its slots, and an ear for the supervisor.

    python -m orchestrator.worker.child CONFIG

The supervisor speaks through a pipe, one byte a word. When the pipe closes, the
supervisor is gone, and this process ends at once: what it held is rescued.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
from dataclasses import asdict, dataclass, field
from uuid import UUID

from orchestrator import voices
from orchestrator.conf import settings
from orchestrator.engine.claim import WorkerKey
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape, queue_id
from orchestrator.hosts import Host
from orchestrator.worker import boot, execute, hygiene
from orchestrator.worker.appetite import Appetite, Pool, Source
from orchestrator.worker.board import Board
from orchestrator.worker.engine import Engine, Orders
from orchestrator.worker.execute import Work
from orchestrator.worker.hands import Hands
from orchestrator.worker.isolated import IsolatedPool
from orchestrator.worker.mailbox import Mailbox
from orchestrator.worker.slots import Loop, Threads

logger = logging.getLogger("orchestrator")

# What the supervisor says.
WAKE = b"w"  # look at the queues
DRAIN = b"d"  # claim nothing more, return what has not started, end when idle
TEND = b"t"  # route events and judge what waits
STOP_NOW = b"s"  # settle what has finished, and end
RECONCILE = b"c"  # look for leases that are gone, and for new queues
# What the child says.
READY = b"R"  # the project is loaded

SWITCH_INTERVAL = 0.001  # seconds; the engine thread must not wait 5 ms for its turn


@dataclass(frozen=True)
class Config:
    """What a child is started with. Descriptors are of files that it inherits.

    `queues` are names in strict order; empty for all that the project declares.
    """

    worker_id: str
    child_id: int
    parent: int
    orders: int
    answers: int
    board: int
    slots: int
    async_slots: int
    queues: tuple[str, ...]
    longest_pause: float  # seconds between two looks at queues that are empty
    labels: dict[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """As an argument of the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Config:
        """What `dump` made."""
        data = json.loads(text)
        return cls(**{**data, "queues": tuple(data["queues"])})


def main(text: str) -> None:
    """Load the project, serve until told otherwise, and end."""
    config = Config.load(text)
    boot.die_with(config.parent)
    boot.leave_signals_to_the_supervisor()
    for descriptor in (config.orders, config.answers, config.board):
        os.set_inheritable(descriptor, False)
    board = Board(config.board, config.slots + config.async_slots)
    mailbox, orders = Mailbox(), Orders()
    threading.Thread(
        target=listen, args=(config.orders, orders, mailbox), name="orders", daemon=True
    ).start()
    boot.set_up_django()
    hygiene.install()
    voices.install()
    sys.setswitchinterval(SWITCH_INTERVAL)
    engine = build(config, board, mailbox, orders)
    os.write(config.answers, READY)
    code = 1
    try:
        code = engine.run()
    except Exception:
        logger.exception("Child %d ends: its engine thread failed.", config.child_id)
    finally:
        end(code)


def listen(descriptor: int, orders: Orders, mailbox: Mailbox) -> None:
    """Do what the supervisor says; end with it."""
    while True:
        words = os.read(descriptor, 64)
        if not words:
            os._exit(0)
        if WAKE in words:
            orders.woken = True
        if RECONCILE in words:
            orders.reconcile = True
        if TEND in words:
            orders.tend = True
        if DRAIN in words:
            orders.draining = True
        if STOP_NOW in words:
            orders.draining = orders.stop_now = True
        mailbox.ring()


def build(config: Config, board: Board, mailbox: Mailbox, orders: Orders) -> Engine:
    """The engine with its pools, for the tasks that this project declares."""
    from orchestrator import registry

    host = Host(worker_id=UUID(config.worker_id), labels=config.labels)
    isolated = IsolatedPool(board)

    def run(work: Work) -> Result:
        return isolated.run(work) if work.isolated else execute.run_sync(work)

    shapes = registry.shapes()
    threads = Pool(Threads(config.slots, board, 0, mailbox, run))
    loop = Pool(Loop(config.async_slots, board, config.slots, mailbox))
    pool_of: dict[int, Pool] = {}
    lanes: dict[tuple[int, int], dict[int, int | None]] = {}
    for shape in shapes:
        for node in shape.tasks:
            definition = registry.task(node.id)
            on_loop = definition and definition.is_async and not node.isolated
            pool = loop if on_loop else threads
            pool_of[node.id] = pool
            timeout = node.execution_timeout
            lanes.setdefault((id(pool), node.slot_cost), {})[node.lane] = (
                None if timeout is None else max(1, round(timeout * 1000))
            )
    pools = (threads, loop)
    sources = [
        Source(next(pool for pool in pools if id(pool) == which), cost, served)
        for (which, cost), served in lanes.items()
    ]
    return Engine(
        WorkerKey(UUID(config.worker_id), config.child_id),
        Hands(mailbox, pools, pool_of, suspects=threads),
        Appetite(
            sources,
            queues_of(config.queues, shapes),
            strict=bool(config.queues),
            longest=config.longest_pause,
        ),
        board,
        orders,
        housekeeping=settings.heartbeat.total_seconds(),
        host=host,
    )


def queues_of(names: tuple[str, ...], shapes: list[Shape]) -> list[int]:
    """The ids of the queues that are served."""
    if names:
        return [queue_id(name) for name in names]
    declared = {shape.queue_id for shape in shapes}
    return sorted(declared | {n.queue_id for shape in shapes for n in shape.tasks})


def end(code: int) -> None:
    """End the process although threads may still run functions."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
