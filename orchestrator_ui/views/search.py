"""The search box of runs: ids, or metadata as `key:value`. Nothing is matched by LIKE.

Several tokens, separated by spaces, must all hold. A value with spaces is quoted:
`customer:"Ada Lovelace"`. A value that reads as a number, true, false or null also
matches as such.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any
from uuid import UUID

from django.db.models import Q

from orchestrator.models import Attempt, TaskRun
from orchestrator.models.fields import NotEmpty
from orchestrator.models.runs import RunQuerySet


@dataclass(frozen=True)
class Search:
    """A parsed search; `unreadable` are tokens that are neither id nor metadata."""

    ids: tuple[UUID, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[str, ...] = ()

    def apply(self, runs: RunQuerySet) -> RunQuerySet:
        """Those that match every token; none where one is unreadable."""
        if self.unreadable:
            return runs.none()
        for identifier in self.ids:
            runs = runs.filter(pk__in=run_ids(identifier))
        for key, value in self.pairs:
            runs = runs.filter(NotEmpty("metadata"), _contains(key, value))
        return runs


@lru_cache(maxsize=256)
def parse(text: str) -> Search:
    """Read the text of the search box; never raises."""
    try:
        tokens = shlex.split(text)
    except ValueError:  # an open quote
        tokens = text.split()
    ids: list[UUID] = []
    pairs: list[tuple[str, str]] = []
    unreadable: list[str] = []
    for token in tokens:
        identifier = _uuid(token)
        key, colon, value = token.partition(":")
        if identifier is not None:
            ids.append(identifier)
        elif colon and key:
            pairs.append((key, value))
        else:
            unreadable.append(token)
    return Search(tuple(ids), tuple(pairs), tuple(unreadable))


def _uuid(token: str) -> UUID | None:
    try:
        return UUID(token)
    except ValueError:
        return None


def run_ids(identifier: UUID) -> list[UUID]:
    """A run's own id, and that of the run whose task run or attempt has this id.

    Read at once: as a subquery beside an OR it would cost a scan of all runs.
    """
    task_runs = TaskRun.objects.order_by().filter(pk=identifier)
    attempts = Attempt.objects.order_by().filter(pk=identifier)
    owners = (
        task_runs.values_list("run_id")
        .union(attempts.values_list("task_run__run_id"), all=True)
        .order_by()
    )
    return [identifier, *(run_id for (run_id,) in owners)]


def readings(value: str) -> list[Any]:
    """What a value may be in metadata: the text, or the number or null that it is."""
    try:
        literal: Any = json.loads(value)
    except (ValueError, RecursionError):
        return [value]
    if literal is None or (isinstance(literal, int | float) and isfinite(literal)):
        return [value, literal]
    return [value]


def _contains(key: str, value: str) -> Q:
    wanted = Q()
    for reading in readings(value):
        wanted |= Q(metadata__contains={key: reading})
    return wanted


def as_text(value: Any) -> str:
    """A metadata value as one would write it in the search box."""
    return json.dumps(value, ensure_ascii=False)
