"""Filters of the lists: links where the choices are few, a box where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from orchestrator.models import Queue, Workflow
from orchestrator.states import RunStatus, TaskRunStatus, WorkerStatus
from orchestrator_ui.views import words
from orchestrator_ui.views.criteria import check, condition

# So many names are links; more of them are offered while one types.
MAX_LINKS = 15
MAX_NAMES = 500


class CriteriaFilter(admin.ListFilter):
    """A filter whose parameters are those of `Criteria`."""

    parameter_names: tuple[str, ...] = ()

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: Any,
        model_admin: Any,
    ) -> None:
        super().__init__(request, params, model, model_admin)
        self.values: dict[str, str] = {}
        for name in self.parameter_names:
            value = params.pop(name, [""])[-1].strip()
            if value:
                self.values[name] = value

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.parameter_names)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for name, value in self.values.items():
            try:
                check(name, value)
            except ValueError as error:
                raise IncorrectLookupParameters from error
            queryset = condition(name, queryset, value)
        return queryset

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        # What the form of a box has to carry along.
        self.others = [
            (name, value)
            for name, value in changelist.params.items()
            if name not in (*self.parameter_names, "c", "e")
        ]
        yield self._link(changelist, None, _("All"))
        for value, label in self.links():
            yield self._link(changelist, value, label)

    def links(self) -> list[tuple[str, Any]]:
        """Values of the first parameter that are links, with what they are called."""
        return []

    def _link(
        self, changelist: ChangeList, value: str | None, label: Any
    ) -> dict[str, Any]:
        first, *others = self.parameter_names
        selected = self.values.get(first) == value and not (
            value is None and any(name in self.values for name in others)
        )
        changed = {first: value, **dict.fromkeys(others)}
        return {
            "selected": selected,
            "query_string": changelist.get_query_string(changed),
            "display": label,
        }


class StatusFilter(CriteriaFilter):
    """Runs by what they are now, live statuses included."""

    title = _("status")
    parameter_names = ("status",)

    def links(self) -> list[tuple[str, Any]]:
        return [(status.value, words.word(status.value)) for status in RunStatus]


class TimeFilter(CriteriaFilter):
    """By the time of creation, which is what ids begin with."""

    title = _("time")
    parameter_names = ("window", "since", "until")
    template = "orchestrator_ui/filters/time.html"

    def links(self) -> list[tuple[str, Any]]:
        return [
            ("1h", _("Past hour")),
            ("24h", _("Past 24 hours")),
            ("7d", _("Past 7 days")),
            ("30d", _("Past 30 days")),
        ]


class NameFilter(CriteriaFilter):
    """By the name of a definition: links, or a box where the names are many."""

    template = "orchestrator_ui/filters/name.html"
    definition: type[Model]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        rows = self.definition._default_manager.order_by("name")
        self.names = list(rows.values_list("name", flat=True)[:MAX_NAMES])

    @property
    def is_box(self) -> bool:
        """Whether there are too many names for links."""
        return len(self.names) > MAX_LINKS

    @property
    def value(self) -> str:
        """The name that is asked for."""
        return self.values.get(self.parameter_names[0], "")

    def links(self) -> list[tuple[str, Any]]:
        return [] if self.is_box else [(name, name) for name in self.names]


class WorkflowFilter(NameFilter):
    """Runs of one workflow."""

    title = _("workflow")
    parameter_names = ("workflow",)
    definition = Workflow


class QueueFilter(NameFilter):
    """Runs of one queue."""

    title = _("queue")
    parameter_names = ("queue",)
    definition = Queue


class MetadataFilter(CriteriaFilter):
    """Runs whose metadata has a value: `key:value`."""

    title = _("metadata")
    parameter_names = ("metadata",)
    template = "orchestrator_ui/filters/metadata.html"

    @property
    def value(self) -> str:
        """What is asked for, as it was written."""
        return self.values.get("metadata", "")


class ParentFilter(CriteriaFilter):
    """Runs that a run or a task run has spawned; a link on its page sets it."""

    title = _("spawned by")
    parameter_names = ("parent",)

    def has_output(self) -> bool:
        return bool(self.values)

    def links(self) -> list[tuple[str, Any]]:
        return [(value, f"…{value[-8:]}") for value in self.values.values()]


class TaskRunStatusFilter(admin.SimpleListFilter):
    """Task runs by what they are now."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, words.word(status.value)) for status in TaskRunStatus]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        return queryset.with_status(value) if value else queryset


class WorkerFilter(admin.SimpleListFilter):
    """Workers that should be alive, unless others are asked for."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        ended = (WorkerStatus.STOPPED, WorkerStatus.LOST)
        return [
            *((status.value, words.word(status.value)) for status in ended),
            ("all", str(_("All"))),
        ]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        everything = super().choices(changelist)
        first = next(everything)
        yield {**first, "display": _("Alive")}
        yield from everything

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value == "all":
            return queryset
        if value:
            return queryset.filter(status=value)
        return queryset.filter(stopped_at__isnull=True)
