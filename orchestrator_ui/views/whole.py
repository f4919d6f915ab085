"""The whole of a filtered list: the filter of `operations` that means the same runs.

Only where it provably does. It is counted beside the list as its user sees it, at one
bound: a screen that shows a user less than all runs offers no filter that means more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any
from uuid import UUID

from django.utils import timezone

from orchestrator.models.runs import RunQuerySet
from orchestrator.operations import RunFilter
from orchestrator_ui.views import criteria as criteria_
from orchestrator_ui.views import search
from orchestrator_ui.views.criteria import WINDOWS, Criteria

MOST_IDS = 10_000  # that a filter names one by one
MOST_CHOICES = 8  # readings of metadata that are tried


@dataclass(frozen=True)
class Whole:
    """All runs that a list has now, and how many they are."""

    filter: RunFilter
    count: int


def of_list(runs: RunQuerySet, criteria: Criteria) -> Whole | None:
    """The whole of a list, `runs` being all that its user may see, without filters.

    None where no filter is known to mean the same. The runs are those of now.
    """
    now = timezone.now()
    shown = criteria.apply(runs).filter(pk__lt=criteria_.first_id(now))
    wanted = shown.order_by().count()
    if any(name == "parent" for name, _ in criteria.pairs):
        # No filter says whose children they are; a list of them does.
        if wanted > MOST_IDS:
            return None
        keys = shown.order_by("pk").values_list("pk", flat=True)
        return Whole(RunFilter(ids=list(keys)), wanted)
    for found in _filters(criteria, now):
        if found.runs().order_by().count() == wanted:
            return Whole(found, wanted)
    return None


def _filters(criteria: Criteria, now: datetime) -> Iterator[RunFilter]:
    """What the criteria may mean: metadata that reads as a number is one or a text."""
    given: dict[str, Any] = {"until": now}
    ids: set[UUID] | None = None
    readings: list[tuple[str, list[Any]]] = []
    for name, value in criteria.pairs:
        match name:
            case "status":
                given["statuses"] = value.split(",")
            case "workflow":
                given["workflows"] = [value]
            case "queue":
                given["queues"] = [value]
            case "window":
                given["since"] = _latest(given, now - WINDOWS[value])
            case "since":
                given["since"] = _latest(given, criteria_.moment(value))
            case "until":
                given["until"] = min(now, criteria_.moment(value))
            case "metadata" | "q":
                wanted = search.parse(value)
                for identifier in wanted.ids:
                    found = set(search.run_ids(identifier))
                    ids = found if ids is None else ids & found
                readings += [(k, search.readings(v)) for k, v in wanted.pairs]
            case _:
                return
    if ids is not None:
        given["ids"] = sorted(ids)
    if len({key for key, _ in readings}) < len(readings):
        return  # one key with two values: nothing, or more than a filter can say
    for values in list(product(*(values for _, values in readings)))[:MOST_CHOICES]:
        metadata = dict(zip((key for key, _ in readings), values, strict=True))
        yield RunFilter(**given, metadata=metadata or None)


def _latest(given: dict[str, Any], moment: datetime) -> datetime:
    since: datetime = given.get("since", moment)
    return max(moment, since)
