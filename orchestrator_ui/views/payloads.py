"""Inputs, outputs and metadata as text, for those who may see payloads.

Printed by PostgreSQL, which keeps every digit of a number, and cut there, so that a
page never loads a megabyte to show its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F, Func, TextField
from django.db.models.functions import Left

from orchestrator import ids
from orchestrator.engine.shapes import Shape
from orchestrator.models import Run, TaskRun

SHOWN = 64 * 1024  # characters on the page; the whole is a download
MAX_OUTPUTS = 50


class Pretty(Func):
    """JSON over several lines."""

    function = "jsonb_pretty"
    output_field = TextField()


@dataclass(frozen=True)
class Payload:
    """The beginning of a JSON text, and whether it goes on."""

    text: str
    is_cut: bool

    @classmethod
    def of(cls, text: str | None) -> Payload | None:
        """None for what is not there."""
        return None if text is None else cls(text[:SHOWN], len(text) > SHOWN)


@dataclass(frozen=True)
class TaskOutput:
    """What one task returned."""

    task: str
    task_run_id: UUID
    payload: Payload


def of_run(run_id: UUID) -> dict[str, Payload | None]:
    """Input and metadata of a run; one query."""
    texts = (
        Run.objects.filter(pk=run_id)
        .values_list(_start("input"), _start("metadata"))
        .first()
    )
    given, metadata = texts or (None, None)
    return {
        "input": Payload.of(given),
        "metadata": Payload.of(metadata) if metadata != "{}" else None,
    }


def outputs(run_id: UUID, shape: Shape) -> list[TaskOutput]:
    """What the tasks of a run returned so far, in its order; one query."""
    keys = {ids.task_run_id(run_id, task.ordinal): task.name for task in shape.tasks}
    rows = (
        TaskRun.objects.filter(pk__in=keys, output__isnull=False)
        .order_by("ordinal")
        .values_list("pk", _start("output"))[:MAX_OUTPUTS]
    )
    return [
        TaskOutput(keys[pk], pk, payload)
        for pk, text in rows
        if (payload := Payload.of(text)) is not None
    ]


def whole(rows: Any, column: str) -> Iterable[str]:
    """The whole text of one column of the rows of a query."""
    return rows.values_list(Pretty(F(column)), flat=True)  # type: ignore[no-any-return]


def _start(column: str) -> Left:
    return Left(Pretty(F(column)), SHOWN + 1)
