"""Filters: which runs an operator means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.apps import apps
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from orchestrator import ids
from orchestrator.conf import settings
from orchestrator.exceptions import InvalidFilter
from orchestrator.states import RunStatus

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from orchestrator.models.runs import RunQuerySet


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs: those that match everything that is given.

    `workflows` and `queues` are names; `metadata` are pairs that a run has all of;
    `since` (inclusive) and `until` (exclusive) are when it was enqueued, as aware
    datetimes. Raises InvalidFilter, also where nothing is given at all.
    """

    ids: Collection[UUID] | None = None
    workflows: Collection[str] | None = None
    statuses: Collection[str] | None = None
    queues: Collection[str] | None = None
    metadata: Mapping[str, Any] | None = None
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        if all(value is None for value in given.values()):
            raise InvalidFilter("The filter is empty and means every run; narrow it.")
        for name in ("ids", "workflows", "statuses", "queues"):
            if isinstance(given[name], str):
                raise InvalidFilter(f"{name}={given[name]!r} is one; give a list.")
        known = [status.value for status in RunStatus]
        for status in self.statuses or ():
            if status not in known:
                raise InvalidFilter(
                    f"{status!r} is no status of a run; use one of {', '.join(known)}."
                )
        for name in ("since", "until"):
            moment = given[name]
            if moment is not None and timezone.is_naive(moment):
                raise InvalidFilter(
                    f"{name}={moment} is naive; give an aware datetime."
                )

    def runs(self) -> RunQuerySet:
        """The matching runs, oldest first."""
        runs = cast("RunQuerySet", rows("Run")).order_by("id")
        if self.ids is not None:
            runs = runs.filter(id__in=list(self.ids))
        if self.workflows is not None:
            runs = runs.filter(workflow__name__in=list(self.workflows))
        if self.queues is not None:
            runs = runs.filter(queue__name__in=list(self.queues))
        if self.statuses is not None:
            runs = runs.with_status(*self.statuses)
        if self.metadata:
            runs = runs.metadata_contains(dict(self.metadata))
        if self.tenant is not None:
            runs = runs.filter(tenant=self.tenant)
        # The id begins with the time, so this reads one range of the partitions.
        if self.since is not None:
            runs = runs.filter(id__gte=_first_id(self.since))
        if self.until is not None:
            runs = runs.filter(id__lt=_first_id(self.until))
        return runs

    def dump(self) -> dict[str, Any]:
        """What is given, as JSON's own types; `load` reads it."""
        dumped: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, datetime):
                dumped[field.name] = value.isoformat()
            elif field.name == "metadata" and value is not None:
                dumped[field.name] = dict(value)
            elif isinstance(value, str):
                dumped[field.name] = value
            elif value is not None:
                dumped[field.name] = [str(each) for each in value]
        return dumped

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> RunFilter:
        """The filter that `dump` wrote."""
        given = dict(dumped)
        if "ids" in given:
            given["ids"] = [UUID(each) for each in given["ids"]]
        for name in ("since", "until"):
            if name in given:
                given[name] = parse_datetime(given[name])
        return cls(**given)


def rows(model: str) -> QuerySet[Any]:
    """All rows of one of our models, which may not be loaded yet at import."""
    return cast(
        "QuerySet[Any]",
        apps.get_model("orchestrator", model)._default_manager.using(settings.database),
    )


def _first_id(moment: datetime) -> UUID:
    return ids.floor_uuid(int(moment.timestamp() * 1000))
