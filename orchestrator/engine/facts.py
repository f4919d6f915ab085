"""Facts: the values of the names that an expression reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from orchestrator import cel
from orchestrator.engine import versions
from orchestrator.engine.sessions import Session, statements, uuids
from orchestrator.serialization import loads

OF_A_RUN = frozenset({"input", "metadata", "tenant", "workflow"})

MOST = 100  # runs to have the facts of at once: an input may be as large as 1 MiB

Facts = dict[str, Any]


def wants(expressions: Iterable[str]) -> bool:
    """Whether one of these expressions reads anything of the run that waits."""
    return any(
        expression != "true" and not OF_A_RUN.isdisjoint(cel.names(expression))
        for expression in expressions
    )


def of_runs(session: Session, run_ids: Collection[UUID]) -> dict[UUID, Facts]:
    """By run id: `input`, `metadata`, `tenant`, `workflow`, `run_id`.

    The input of a function with plain arguments has them by name.
    """
    wanted = set(run_ids)
    if not wanted:
        return {}
    rows = session.fetch(
        statements("facts")["runs"],
        {"run_ids": uuids(wanted), "low": min(wanted), "high": max(wanted)},
    )
    return {
        run_id: {
            "input": _named(session, version_id, loads(input)),
            "metadata": loads(metadata),
            "tenant": tenant,
            "workflow": workflow,
            "run_id": str(run_id),
        }
        for run_id, version_id, input, metadata, tenant, workflow in rows
    }


def _named(session: Session, version_id: int, value: Any) -> Any:
    shape = versions.shape(session, version_id)
    names = None if shape is None else shape.tasks[0].arguments
    if names is None or not isinstance(value, dict):
        return value
    positional = zip(names, value.get("args", ()), strict=False)
    return {**dict(positional), **value.get("kwargs", {})}


def of_event(session: Session, event_id: UUID) -> Facts:
    """`key` and `payload` of an event, prepared; none where it has been dropped."""
    rows = session.fetch(statements("facts")["event"], {"event_id": event_id})
    return {name: value for row in rows for name, value in _event(*row)}


def _event(key: str, payload: str | None) -> list[tuple[str, Any]]:
    value = None if payload is None else loads(payload)
    return [("key", key), ("payload", cel.Prepared(value))]
