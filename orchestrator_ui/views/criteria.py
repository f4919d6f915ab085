"""What a list of runs is filtered by: the query string as data, without a request.

The page and the feed apply the same criteria, so "n new" counts what a reload shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from orchestrator import ids
from orchestrator.engine import shapes
from orchestrator.models.runs import RunQuerySet
from orchestrator.states import RunStatus
from orchestrator_ui.views import search, tree

WINDOWS: Mapping[str, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}

Runs = RunQuerySet


def _by_status(runs: Runs, value: str) -> Runs:
    return runs.with_status(*value.split(","))


def _by_workflow(runs: Runs, value: str) -> Runs:
    return runs.filter(workflow_id=ids.definition_id("workflow", value))


def _by_queue(runs: Runs, value: str) -> Runs:
    return runs.filter(queue_id=shapes.queue_id(value))


def _by_window(runs: Runs, value: str) -> Runs:
    return runs.filter(pk__gte=first_id(timezone.now() - WINDOWS[value]))


def _since(runs: Runs, value: str) -> Runs:
    return runs.filter(pk__gte=first_id(moment(value)))


def _until(runs: Runs, value: str) -> Runs:
    return runs.filter(pk__lt=first_id(moment(value)))


def _by_search(runs: Runs, value: str) -> Runs:
    return search.parse(value).apply(runs)


def _by_parent(runs: Runs, value: str) -> Runs:
    parent = UUID(value)
    low, high = ids.family_bounds(parent)
    spawners = tree.task_run_ids(parent)
    return runs.filter(parent_task_run_id__in=spawners, pk__gte=low, pk__lte=high)


CONDITIONS: Mapping[str, Callable[[Runs, str], Runs]] = {
    "status": _by_status,
    "workflow": _by_workflow,
    "queue": _by_queue,
    "window": _by_window,
    "since": _since,
    "until": _until,
    "parent": _by_parent,
    "metadata": _by_search,
    "q": _by_search,
}


@dataclass(frozen=True)
class Criteria:
    """The filters that are set: pairs of a parameter's name and its text, in order."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, params: Mapping[str, Any], *, payloads: bool) -> Criteria:
        """What is set in a query string.

        Without `payloads` metadata cannot be asked about, or its values could be
        guessed. Raises ValueError where a value cannot be read.
        """
        pairs = []
        for name in CONDITIONS:
            value = str(params.get(name) or "").strip()
            if not value:
                continue
            check(name, value)
            if name == "metadata" and not payloads:
                continue
            if name == "q" and not payloads and search.parse(value).pairs:
                continue
            pairs.append((name, value))
        return cls(tuple(pairs))

    def apply(self, runs: Runs) -> Runs:
        """Those of `runs` that meet them all."""
        for name, value in self.pairs:
            runs = CONDITIONS[name](runs, value)
        return runs

    def query_string(self) -> str:
        """The query string that sets them; "?" where none is set."""
        return "?" + urlencode(self.pairs)

    def without(self, name: str) -> Criteria:
        """The same, less one filter."""
        return replace(self, pairs=tuple(p for p in self.pairs if p[0] != name))


def condition(name: str, rows: Any, value: str) -> Any:
    """Filter rows by one parameter; times fit every model with ids of the family."""
    return CONDITIONS[name](rows, value)


def check(name: str, value: str) -> None:
    """Raises ValueError where the value of a filter cannot be read."""
    if "\x00" in value:
        raise ValueError(f"{name}: a NUL character matches nothing.")
    if name == "window" and value not in WINDOWS:
        raise ValueError(f"window: use one of {', '.join(WINDOWS)}.")
    if name in ("since", "until"):
        first_id(moment(value))
    if name == "parent":
        UUID(value)
    if name == "status" and not set(value.split(",")) <= set(RunStatus.values):
        raise ValueError(f"status: use one of {', '.join(RunStatus.values)}.")


def moment(value: str) -> datetime:
    """The time that a filter names; raises ValueError where it cannot be read."""
    found = parse_datetime(value)
    if found is None:
        raise ValueError(f"{value!r} is not a time; write 2026-03-01T14:00.")
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def first_id(moment: datetime) -> Any:
    """The least id at a time; raises ValueError where it is out of range."""
    milliseconds = int(moment.timestamp() * 1000)
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError(f"{moment} is out of range.")
    return ids.floor_uuid(milliseconds)
