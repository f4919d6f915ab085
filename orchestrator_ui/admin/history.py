"""Task runs and attempts: history by id, each linked to its run."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from orchestrator.models import Run, TaskRun
from orchestrator_ui.admin import filters
from orchestrator_ui.admin.keyset import KeysetAdmin
from orchestrator_ui.admin.logs import LogMixin
from orchestrator_ui.admin.runs import download
from orchestrator_ui.views import definitions, page, payloads, places, search, words
from orchestrator_ui.views.places import executions, with_places


class TaskRunAdmin(LogMixin, KeysetAdmin):
    """The screens of task runs."""

    list_display: Any = (
        "status_cell",
        "task_cell",
        "reason_cell",
        "run_cell",
        "attempts_cell",
        "started_cell",
        "took_cell",
    )
    list_display_links = ("task_cell",)
    list_filter: ClassVar[Any] = (filters.TaskRunStatusFilter, filters.TimeFilter)
    search_fields = ("id",)
    search_help_text = _("The id of a task run or of its run.")
    fields: ClassVar[Any] = (
        "id",
        "status_cell",
        "status_reason",
        "task_cell",
        "run_cell",
        "ordinal",
        "queue_cell",
        "generation",
        "attempts_cell",
        "started_cell",
        "finished_cell",
        "took_cell",
        "output_cell",
        "history_cell",
        "log_cell",
    )
    payload_fields = ("output_cell",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("output")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        wanted = search.parse(search_term)
        if len(wanted.ids) == 1 and not (wanted.pairs or wanted.unreadable):
            run = Run.objects.filter(pk=wanted.ids[0]).first()
            if run is not None:
                shape = definitions.shapes([run.version_id]).get(run.version_id)
                keys = page.task_run_keys(run.pk, shape) if shape else []
                return queryset.filter(pk__in=keys), False
        return super().get_search_results(request, queryset, search_term)

    def prepare_rows(self, request: HttpRequest, rows_: list[Any]) -> None:
        keys = [row.pk for row in rows_]
        read = with_places(TaskRun.objects.filter(pk__in=keys).order_by())
        placed = {row.pk: row for row in read.defer("output")}
        names = definitions.task_names({row.task_id for row in rows_})
        for row in rows_:
            row.placed = placed.get(row.pk, row)
            row.task_name = words.task(names.get(row.task_id))

    def get_urls(self) -> list[Any]:
        return [
            path(
                "<uuid:task_run_id>/output/",
                self.admin_site.admin_view(self.output_view),
                name="orchestrator_taskrun_output",
            ),
            path(
                "<uuid:task_run_id>/log/",
                self.admin_site.admin_view(self.log_view),
                name="orchestrator_taskrun_log",
            ),
            *super().get_urls(),
        ]

    def output_view(self, request: HttpRequest, task_run_id: UUID) -> HttpResponse:
        """The output as a file."""
        if not (
            self.has_view_permission(request) and self.has_payload_permission(request)
        ):
            raise PermissionDenied
        found = self.get_queryset(request).filter(pk=task_run_id, output__isnull=False)
        return download(found, "output", f"{task_run_id}-output")

    @admin.display(description=_("Status"))
    def status_cell(self, task_run: Any) -> str:
        return words.badge(self._placed(task_run).status)

    @admin.display(description=_("Task"))
    def task_cell(self, task_run: Any) -> str:
        self._placed(task_run)
        return str(task_run.task_name)

    @admin.display(description=_("Run"))
    def run_cell(self, task_run: Any) -> str:
        return run_link(task_run.run_id)

    @admin.display(description=_("Queue"))
    def queue_cell(self, task_run: Any) -> str:
        names = definitions.queue_names([task_run.queue_id])
        return names.get(task_run.queue_id, gettext("unregistered queue"))

    @admin.display(description=_("Attempts"))
    def attempts_cell(self, task_run: Any) -> str:
        return str(executions(self._placed(task_run)))

    @admin.display(description=_("Started"))
    def started_cell(self, task_run: Any) -> str:
        placed = self._placed(task_run)
        return words.moment(places.started_at(placed))

    @admin.display(description=_("Finished"))
    def finished_cell(self, row: Any) -> str:
        return words.moment(row.finished_at)

    @admin.display(description=_("Took"))
    def took_cell(self, task_run: Any) -> str:
        placed = self._placed(task_run)
        started = places.started_at(placed)
        return words.took(started, placed.finished_at, counting=False)

    @admin.display(description=_("Reason"))
    def reason_cell(self, task_run: Any) -> str:
        return clamped(task_run.status_reason)

    @admin.display(description=_("Output"))
    def output_cell(self, task_run: Any) -> str:
        text = next(
            iter(payloads.whole(TaskRun.objects.filter(pk=task_run.pk), "output")), None
        )
        return render_to_string(
            "orchestrator_ui/run/payload.html",
            {
                "payload": payloads.Payload.of(text),
                "url": reverse(
                    "admin:orchestrator_taskrun_output", args=(task_run.pk,)
                ),
            },
        )

    @admin.display(description=_("Attempts so far"))
    def history_cell(self, task_run: Any) -> str:
        rows = list(
            task_run.attempt_rows()
            .defer("error")
            .annotate(
                error_type=KeyTextTransform("type", "error"),
                message=Left(KeyTextTransform("message", "error"), page.MAX_MESSAGE),
            )
        )
        workers = definitions.worker_names(row.worker_id for row in rows)
        return render_to_string(
            "orchestrator_ui/attempts.html",
            {"rows": [(row, workers.get(row.worker_id, "")) for row in rows]},
        )

    @admin.display(description=_("Log"))
    def log_cell(self, task_run: Any) -> str:
        return format_html(
            '<a href="{}">{}</a>',
            reverse("admin:orchestrator_taskrun_log", args=(task_run.pk,)),
            gettext("All that it logged"),
        )

    def _placed(self, task_run: Any) -> Any:
        if not hasattr(task_run, "placed"):
            self.prepare_rows(None, [task_run])  # type: ignore[arg-type]
        return task_run.placed


class AttemptAdmin(KeysetAdmin):
    """The screens of attempts."""

    list_display: Any = (
        "outcome_cell",
        "number_cell",
        "task_run_cell",
        "worker_cell",
        "started_cell",
        "took_cell",
        "error_cell",
    )
    list_display_links = ("number_cell",)
    list_filter: ClassVar[Any] = (filters.TimeFilter,)
    search_fields = ("id",)
    search_help_text = _("The id of an attempt.")
    fields: ClassVar[Any] = (
        "id",
        "outcome_cell",
        "number",
        "task_run_cell",
        "worker_cell",
        "started_cell",
        "finished_cell",
        "took_cell",
        "error_cell",
        "traceback_cell",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .defer("error")
            .annotate(
                error_type=KeyTextTransform("type", "error"),
                message=Left(KeyTextTransform("message", "error"), page.MAX_MESSAGE),
            )
        )

    def prepare_rows(self, request: HttpRequest, rows_: list[Any]) -> None:
        names = definitions.worker_names(row.worker_id for row in rows_)
        for row in rows_:
            row.worker_name = names.get(row.worker_id, "")

    @admin.display(description=_("Outcome"))
    def outcome_cell(self, attempt: Any) -> str:
        return words.badge(attempt.outcome)

    @admin.display(description=_("Attempt"))
    def number_cell(self, attempt: Any) -> str:
        return f"#{attempt.number}"

    @admin.display(description=_("Task run"))
    def task_run_cell(self, attempt: Any) -> str:
        return format_html(
            '<a href="{}"><code>…{}</code></a>',
            reverse("admin:orchestrator_taskrun_change", args=(attempt.task_run_id,)),
            str(attempt.task_run_id)[-8:],
        )

    @admin.display(description=_("Worker"))
    def worker_cell(self, attempt: Any) -> str:
        if not hasattr(attempt, "worker_name"):
            self.prepare_rows(None, [attempt])  # type: ignore[arg-type]
        if not attempt.worker_name:
            return str(attempt.worker_id)
        return format_html(
            '<a href="{}">{}</a>',
            reverse("admin:orchestrator_worker_change", args=(attempt.worker_id,)),
            attempt.worker_name,
        )

    @admin.display(description=_("Started"))
    def started_cell(self, attempt: Any) -> str:
        return words.moment(attempt.started_at)

    @admin.display(description=_("Finished"))
    def finished_cell(self, row: Any) -> str:
        return words.moment(row.finished_at)

    @admin.display(description=_("Took"))
    def took_cell(self, attempt: Any) -> str:
        return words.took(attempt.started_at, attempt.finished_at)

    @admin.display(description=_("Error"))
    def error_cell(self, attempt: Any) -> str:
        if not attempt.error_type:
            return ""
        return clamped(f"{attempt.error_type}: {attempt.message}")

    @admin.display(description=_("Traceback"))
    def traceback_cell(self, attempt: Any) -> str:
        error = attempt.error or {}
        if not error.get("traceback"):
            return ""
        return format_html('<pre class="orch-pre">{}</pre>', error["traceback"])


def clamped(text: str) -> str:
    """Text of which a list shows two lines; the title has it all."""
    return format_html('<span class="orch-clamp" title="{}">{}</span>', text, text)


def run_link(run_id: UUID) -> str:
    """A link to a run by the end of its id."""
    return format_html(
        '<a href="{}" title="{}"><code>…{}</code></a>',
        reverse("admin:orchestrator_run_change", args=(run_id,)),
        run_id,
        str(run_id)[-8:],
    )
