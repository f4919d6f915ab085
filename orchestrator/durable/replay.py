"""Replaying a journal against today's code, without effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from orchestrator import ids, registry
from orchestrator.calls import Call
from orchestrator.conf import settings
from orchestrator.context import describe
from orchestrator.durable.branches import Branches
from orchestrator.durable.calls import Ask, Step, Told
from orchestrator.durable.context import DurableContext
from orchestrator.durable.declare import DurableTask
from orchestrator.engine import journal, outputs, sessions, versions
from orchestrator.engine.claim import Claim
from orchestrator.engine.journal import Entry, Journal
from orchestrator.engine.sessions import Session
from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.exceptions import IllegalTransition, RunNotFound
from orchestrator.hosts import Host
from orchestrator.runs import RunHandle
from orchestrator.serialization import error_dict

Value = TypeVar("Value")

READ_ONLY = b"SET LOCAL transaction_read_only = on"


@dataclass(frozen=True)
class Replayed:
    """What came of one task: `calls` were as on record, of `recorded` entries.

    `diverged` says where today's code does something else; else `ended` says how the
    function ended, or where it would go on.
    """

    task: str
    calls: int
    recorded: int
    diverged: str
    ended: str


class Stop(BaseException):
    """The function has come to the end of its journal."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        super().__init__()
        self.ask = asks[0]


class ReplayKeeper:
    """A keeper that records nothing and stops at what is not on record."""

    keeps = True

    def step(self, ask: Ask, call: Step, told: Told) -> Entry:
        """Stop: the step would be executed now."""
        raise Stop([ask])

    def now(self, ask: Ask, told: Told) -> Entry:
        """Stop: the time would be recorded now."""
        raise Stop([ask])

    def wait(self, asks: Sequence[Ask]) -> list[Entry] | None:
        """Stop: it would wait here."""
        raise Stop(asks)

    async def keep(self, asks: Sequence[Ask], branches: Branches) -> bool:
        """Stop: it would wait here."""
        raise Stop(asks)

    async def begin(self, asks: Sequence[Ask], branches: Branches) -> None:
        """Stop: it would wait here."""
        raise Stop(asks)

    async def in_thread(self, function: Callable[[], Value]) -> Value:
        """Call `function` on the connection of the caller."""
        return await sync_to_async(function)()

    def stop(self) -> None:
        """Nobody waits here."""

    def snapshot(self) -> str | None:
        """No event comes."""
        return None

    def end(self) -> None:
        """Nothing is kept."""


class ReplayContext(DurableContext[Any]):
    """A context that spawns nothing."""

    def _spawn(
        self, calls: Iterable[tuple[Call[Any], str | int | None]]
    ) -> list[RunHandle[Any]]:
        names = [self._next_number() if key is None else key for _, key in calls]
        return [RunHandle(ids.child_run_id(self.task_run_id, name)) for name in names]


def replay(run_id: UUID, task: str | None = None) -> list[Replayed]:
    """Execute the durable tasks of a run over their journals, or one of them.

    Steps, times, waits and children are what is on record. The database is read-only
    meanwhile, and nothing is kept; what the function does beside its durable calls to
    others than this database, it does.

    Raises RunNotFound; IllegalTransition where there is no such durable task.
    """
    session = sessions.django_session()
    described = journal.described(session, run_id)
    if described is None:
        raise RunNotFound(f"There is no run {run_id}. It may have been dropped.")
    version_id, priority, tenant, metadata, input, event_id = described
    shape = versions.shape(session, version_id)
    nodes = [
        node
        for node in (shape.tasks if shape else ())
        if node.durable and task in (None, node.name)
    ]
    if shape is None or not nodes:
        what = "durable task" if task is None else f'durable task "{task}"'
        raise IllegalTransition(f"Run {run_id} has no {what} to replay.")
    done = []
    for node in nodes:
        claim = Claim(
            task_run_id=ids.task_run_id(run_id, node.ordinal),
            run_id=run_id,
            task_id=node.id,
            queue_id=node.queue_id,
            attempt=1,
            failures=0,
            losses=0,
            version_id=version_id,
            priority=priority,
            tenant=tenant,
            metadata=metadata,
            input=input,
            event_id=event_id,
        )
        done.append(_replay(session, claim, shape, node))
    return done


def _replay(session: Session, claim: Claim, shape: Shape, node: TaskShape) -> Replayed:
    definition = registry.task(node.id)
    if not isinstance(definition, DurableTask):
        return Replayed(node.name, 0, 0, "The code has no such durable task now.", "")
    key = claim.task_run_id
    known = _numbered(journal.read(session, [key]).get(key, Journal()))
    attempt = max(1 + known.suspensions, journal.attempts(session, key))
    parents = outputs.parent_outputs(session, [claim]).get(key, {})
    about = describe(
        definition, claim._replace(attempt=attempt), shape, parents, Host()
    )
    ctx = ReplayContext(journal=known, keeper=ReplayKeeper(), **about)
    ended = ""
    with _without_effects(session):
        try:
            if definition.is_async:
                async_to_sync(definition.ainvoke)(ctx)
            else:
                definition.invoke(ctx)
            ended = "It ends."
        except Stop as stop:
            ended = f"It would go on at position {stop.ask.position}: {stop.ask.asked}"
        except Exception as error:
            told = error_dict(error)
            ended = f"It raises {told['type']}: {told['message']}"
    reached, recorded = ctx.positions.reached, max(known.entries, default=0)
    diverged = ctx.positions.diverged
    if diverged is not None:
        text = (
            f"At position {diverged.position} it asks for {diverged.asked!r}; on "
            f"record is {diverged.recorded!r}."
        )
        return Replayed(node.name, diverged.position - 1, recorded, text, ended)
    if ended == "It ends." and reached < recorded:
        text = f"It ends after {reached} calls; {recorded} are on record."
        return Replayed(node.name, reached, recorded, text, ended)
    return Replayed(node.name, min(reached, recorded), recorded, "", ended)


def _numbered(known: Journal) -> Journal:
    """The journal as the next attempt would find it: what is over is delivered."""
    last = max((e.order or 0 for e in known.entries.values()), default=0)
    for position, entry in sorted(known.entries.items()):
        if entry.order is None and entry.over:
            last += 1
            known.entries[position] = entry._replace(order=last)
    return known


@contextmanager
def _without_effects(session: Session) -> Iterator[None]:
    with transaction.atomic(using=settings.database):
        session.send(READ_ONLY, {})
        try:
            yield
        finally:
            transaction.set_rollback(True, using=settings.database)
