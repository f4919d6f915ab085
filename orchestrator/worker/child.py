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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from uuid import UUID

from orchestrator import lifespans, voices
from orchestrator.conf import settings
from orchestrator.engine.claim import WorkerKey
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape, TaskShape, queue_id
from orchestrator.hosts import Host
from orchestrator.lifespans import Lifespan
from orchestrator.worker import boot, execute, hygiene
from orchestrator.worker.appetite import Appetite, Pool, Source
from orchestrator.worker.batches import Gatherer
from orchestrator.worker.board import Board
from orchestrator.worker.engine import Engine
from orchestrator.worker.execute import Work
from orchestrator.worker.hands import Hands
from orchestrator.worker.isolated import IsolatedPool
from orchestrator.worker.mailbox import Mailbox
from orchestrator.worker.orders import Orders, listen
from orchestrator.worker.residents import Residents, StepThreads
from orchestrator.worker.slots import Loop, Threads

logger = logging.getLogger("orchestrator")

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
    durable_slots: int
    durable_async_slots: int
    queues: tuple[str, ...]
    longest_pause: float  # seconds between two looks at queues that are empty
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def all_slots(self) -> int:
        """The slots of all kinds, which have cells on the board in this order."""
        durable = self.durable_slots + self.durable_async_slots
        return self.slots + self.async_slots + durable

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
    board = Board(config.board, config.all_slots)
    mailbox, orders = Mailbox(), Orders()
    threading.Thread(
        target=listen, args=(config.orders, orders, mailbox), name="orders", daemon=True
    ).start()
    boot.set_up_django()
    hygiene.install()
    voices.install()
    sys.setswitchinterval(SWITCH_INTERVAL)
    isolated = IsolatedPool(board)
    loop = loop_of(config, board, mailbox)
    engine = build(config, board, mailbox, orders, isolated, loop)
    code = 1
    try:
        lifespan = set_up(config, loop)
        engine.host.lifespan = lifespan.value
        os.write(config.answers, READY)
        code = engine.run()
        if engine.drained:
            isolated.close()
            tear_down(config, lifespan)
    except LifespanFailed:
        pass  # reported, and nothing was claimed
    except Exception:
        logger.exception("Child %d ends: its engine thread failed.", config.child_id)
    finally:
        end(code)


class LifespanFailed(Exception):
    """The project's lifespan could not be set up."""


def set_up(config: Config, loop: Loop) -> Lifespan:
    """Enter the lifespan before anything is claimed; raises LifespanFailed."""
    try:
        return lifespans.enter(loop.call)
    except Exception as error:
        logger.exception(
            "Child %d ends: the lifespan %s could not be set up.",
            config.child_id,
            settings.lifespan,
        )
        raise LifespanFailed from error


def tear_down(config: Config, lifespan: Lifespan) -> None:
    """Leave the lifespan, once nothing runs any more."""
    try:
        lifespan.close()
    except Exception:
        logger.exception(
            "Child %d: the lifespan %s could not be torn down.",
            config.child_id,
            settings.lifespan,
        )


def build(
    config: Config,
    board: Board,
    mailbox: Mailbox,
    orders: Orders,
    isolated: IsolatedPool | None = None,
    on_loop: Loop | None = None,
) -> Engine:
    """The engine with its pools, for the tasks that this project declares."""
    from orchestrator import registry

    isolated = isolated or IsolatedPool(board)
    on_loop = on_loop or loop_of(config, board, mailbox)
    host = Host(worker_id=UUID(config.worker_id), labels=config.labels)

    def run(work: Work) -> Result:
        return isolated.run(work) if work.isolated else execute.run_sync(work)

    shapes = registry.shapes()
    threads = Pool(Threads(config.slots, board, 0, mailbox, run))
    loop = Pool(on_loop)
    durable_threads, durable_loop = _durable_pools(config, board, mailbox, run, shapes)
    residents = Residents(mailbox, durable_threads, durable_loop)
    host.residents = residents
    host.threads = StepThreads(config.slots)
    pool_of: dict[int, Pool] = {}
    gathered: list[tuple[TaskShape, Pool]] = []
    lanes: dict[tuple[int, int], dict[int, int | None]] = {}
    for shape in shapes:
        for node in shape.tasks:
            definition = registry.task(node.id)
            is_async = definition and definition.is_async and not node.isolated
            if definition and definition.durable:
                pool = durable_loop if is_async else durable_threads
            else:
                pool = loop if is_async else threads
            pool_of[node.id] = pool
            if node.batch is not None:
                gathered.append((node, pool))
                continue
            timeout = node.execution_timeout
            lanes.setdefault((id(pool), node.slot_cost), {})[node.lane] = (
                None if timeout is None else max(1, round(timeout * 1000))
            )
    pools = (threads, loop, durable_threads, durable_loop)
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
        residents=residents,
        gatherer=Gatherer(gathered, config.longest_pause) if gathered else None,
    )


def _durable_pools(
    config: Config,
    board: Board,
    mailbox: Mailbox,
    run: Callable[[Work], Result],
    shapes: Iterable[Shape],
) -> tuple[Pool, Pool]:
    """Slots of their own for durable tasks, without threads where there are none."""
    from orchestrator import registry

    tasks = [registry.task(node.id) for shape in shapes for node in shape.tasks]
    durable = [task for task in tasks if task is not None and task.durable]
    first = config.slots + config.async_slots
    threads = config.durable_slots if durable else 0
    on_loop = config.durable_async_slots if any(t.is_async for t in durable) else 0
    return (
        Pool(Threads(threads, board, first, mailbox, run)),
        Pool(Loop(on_loop, board, first + config.durable_slots, mailbox)),
    )


def loop_of(config: Config, board: Board, mailbox: Mailbox) -> Loop:
    """The slots for async functions; the lifespan lives there, too."""
    return Loop(config.async_slots, board, config.slots, mailbox)


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
