"""Workers: which are alive, what they hold and what they know."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from orchestrator_ui.admin import filters
from orchestrator_ui.admin.base import ReadOnlyAdmin
from orchestrator_ui.admin.keyset import PlainChangeList
from orchestrator_ui.views import definitions, words, workers


class WorkerChangeList(PlainChangeList):
    """A page of workers with their states."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        states = workers.states(self.result_list)
        for worker in self.result_list:
            worker.state = states[worker.pk]


class WorkerAdmin(ReadOnlyAdmin):
    """The screens of workers."""

    list_display: Any = (
        "name",
        "state_cell",
        "heartbeat_cell",
        "slots_cell",
        "queues_cell",
        "labels_cell",
        "process_cell",
        "started_cell",
    )
    list_filter: ClassVar[Any] = (filters.WorkerFilter,)
    fields: ClassVar[Any] = (
        "name",
        "state_cell",
        "heartbeat_cell",
        "slots_cell",
        "executing_cell",
        "queues_cell",
        "labels_cell",
        "process_cell",
        "processes",
        "tasks_cell",
        "started_cell",
        "stopped_cell",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        # The list of tasks may be long, and no row of the list shows it.
        return super().get_queryset(request).defer("tasks")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return WorkerChangeList

    @admin.display(description=_("Status"))
    def state_cell(self, worker: Any) -> str:
        return words.badge(_state(worker).status)

    @admin.display(description=_("Last heartbeat"))
    def heartbeat_cell(self, worker: Any) -> str:
        silent_for = _state(worker).silent_for
        if silent_for is None:
            return words.moment(worker.heartbeat_at)
        return gettext("%s ago") % words.span(silent_for)

    @admin.display(description=_("Slots in use"))
    def slots_cell(self, worker: Any) -> str:
        busy = _state(worker).busy
        if worker.stopped_at is not None:
            return str(gettext("%d slots") % worker.slots)
        return format_html(
            '<meter class="orch-meter" min="0" max="{}" value="{}"></meter> {}',
            max(1, worker.slots),
            min(busy, worker.slots),
            gettext("%(busy)d of %(slots)d") % {"busy": busy, "slots": worker.slots},
        )

    @admin.display(description=_("Queues"))
    def queues_cell(self, worker: Any) -> str:
        return ", ".join(map(str, worker.queues)) or gettext("all")

    @admin.display(description=_("Labels"))
    def labels_cell(self, worker: Any) -> str:
        return format_html_join(
            " ",
            '<span class="orch-pair">{}: {}</span>',
            sorted(worker.labels.items()),
        )

    @admin.display(description=_("Process"))
    def process_cell(self, worker: Any) -> str:
        return f"{worker.hostname}:{worker.pid}"

    @admin.display(description=_("Started"))
    def started_cell(self, worker: Any) -> str:
        return words.moment(worker.started_at)

    @admin.display(description=_("Stopped"))
    def stopped_cell(self, worker: Any) -> str:
        return words.moment(worker.stopped_at)

    @admin.display(description=_("Executing"))
    def executing_cell(self, worker: Any) -> str:
        held = workers.leases(worker)
        names = definitions.task_names(lease.task_id for lease in held)
        lines = format_html_join(
            "",
            '<li><a href="{}">{}</a> {}</li>',
            (
                (
                    reverse("admin:orchestrator_run_change", args=(lease.run_id,)),
                    words.task(names.get(lease.task_id)),
                    words.took(lease.claimed_at, None, counting=False),
                )
                for lease in held
            ),
        )
        return format_html('<ul class="orch-plain">{}</ul>', lines) if held else "–"

    @admin.display(description=_("Tasks that it knows"))
    def tasks_cell(self, worker: Any) -> str:
        names = definitions.task_names(int(task_id) for task_id in worker.tasks)
        lines = format_html_join(
            "",
            "<li>{}</li>",
            sorted((words.task(each),) for each in names.values()),
        )
        return format_html('<ul class="orch-plain">{}</ul>', lines) if names else "–"


def _state(worker: Model) -> workers.WorkerState:
    state: workers.WorkerState | None = getattr(worker, "state", None)
    if state is None:
        state = workers.states([worker])[worker.pk]  # type: ignore[list-item]
        worker.state = state  # type: ignore[attr-defined]
    return state
