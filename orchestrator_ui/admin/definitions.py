"""Workflows, their versions and their tasks: what the code declared, to look up."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from orchestrator.engine.shapes import Shape
from orchestrator.policies import Retry
from orchestrator_ui import graph
from orchestrator_ui.admin.base import ReadOnlyAdmin
from orchestrator_ui.admin.keyset import PlainChangeList
from orchestrator_ui.views import definitions, words
from orchestrator_ui.views.coverage import Coverage

VERSIONS = 20  # listed on a workflow's page


class DefinitionAdmin(ReadOnlyAdmin):
    """A small table that registration writes."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return PlainChangeList


class WorkflowAdmin(DefinitionAdmin):
    """The screens of workflows."""

    list_display: Any = (
        "name",
        "queue_name",
        "version_cell",
        "description_cell",
        "runs",
    )
    list_select_related = ("current_version",)
    search_fields = ("name",)
    fields: ClassVar[Any] = (
        "name",
        "description",
        "queue_name",
        "version_cell",
        "graph_cell",
        "tasks_cell",
        "versions_cell",
        "runs",
        "created_at",
    )

    @admin.display(description=_("Current version"))
    def version_cell(self, workflow: Any) -> str:
        version = workflow.current_version
        if version is None:
            return "–"
        return format_html(
            '<a href="{}">{}</a>',
            reverse("admin:orchestrator_workflowversion_change", args=(version.pk,)),
            version,
        )

    @admin.display(description=_("Description"))
    def description_cell(self, workflow: Any) -> str:
        lines = workflow.description.strip().splitlines()
        return lines[0] if lines else ""

    @admin.display(description=_("Runs"))
    def runs(self, workflow: Any) -> str:
        return format_html(
            '<a href="{}?{}">{}</a>',
            reverse("admin:orchestrator_run_changelist"),
            urlencode({"workflow": workflow.name}),
            _("Show"),
        )

    @admin.display(description=_("Graph"))
    def graph_cell(self, workflow: Any) -> str:
        return drawing(_shape(workflow.current_version_id))

    @admin.display(description=_("Tasks"))
    def tasks_cell(self, workflow: Any) -> str:
        return task_table(_shape(workflow.current_version_id))

    @admin.display(description=_("Versions"))
    def versions_cell(self, workflow: Any) -> str:
        rows = workflow.versions.order_by("-number").defer("shape")[:VERSIONS]
        lines = format_html_join(
            "",
            '<li><a href="{}">{}</a> {} <code>{}</code></li>',
            (
                (
                    reverse(
                        "admin:orchestrator_workflowversion_change", args=(version.pk,)
                    ),
                    version,
                    words.moment(version.created_at),
                    version.digest[:8],
                )
                for version in rows
            ),
        )
        return format_html('<ul class="orch-plain">{}</ul>', lines)


class WorkflowVersionAdmin(DefinitionAdmin):
    """The screens of versions."""

    list_display: Any = (
        "name_cell",
        "workflow",
        "digest_cell",
        "created_cell",
    )
    list_select_related = ("workflow",)
    ordering = ("-created_at",)
    search_fields = ("workflow__name", "digest")
    fields: ClassVar[Any] = (
        "workflow",
        "number",
        "digest",
        "graph_cell",
        "tasks_cell",
        "created_at",
        "shape_cell",
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("shape")

    @admin.display(description=_("Version"))
    def name_cell(self, version: Any) -> str:
        return str(version)

    @admin.display(description=_("Digest"))
    def digest_cell(self, version: Any) -> str:
        return format_html("<code>{}</code>", version.digest[:12])

    @admin.display(description=_("Created"))
    def created_cell(self, version: Any) -> str:
        return words.moment(version.created_at)

    @admin.display(description=_("Graph"))
    def graph_cell(self, version: Any) -> str:
        return drawing(_shape(version.pk))

    @admin.display(description=_("Tasks"))
    def tasks_cell(self, version: Any) -> str:
        return task_table(_shape(version.pk))

    @admin.display(description=_("Shape"))
    def shape_cell(self, version: Any) -> str:
        return render_to_string("orchestrator_ui/json.html", {"value": version.shape})


class TaskAdmin(DefinitionAdmin):
    """The screens of tasks."""

    list_display: Any = ("name", "workflow", "known_cell", "created_cell")
    list_select_related = ("workflow",)
    search_fields = ("name", "workflow__name")
    fields: ClassVar[Any] = (
        "name",
        "workflow",
        "known_cell",
        "id",
        "lane",
        "created_at",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return TaskChangeList

    @admin.display(description=_("Known to a live worker"), boolean=True)
    def known_cell(self, task: Any) -> bool:
        if not hasattr(task, "is_known"):
            task.is_known = not Coverage.read().unknown([task.pk])
        return bool(task.is_known)

    @admin.display(description=_("Created"))
    def created_cell(self, task: Any) -> str:
        return words.moment(task.created_at)


class TaskChangeList(PlainChangeList):
    """A page of tasks; one query tells which of them live workers know."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        unknown = Coverage.read().unknown([task.pk for task in self.result_list])
        for task in self.result_list:
            task.is_known = task.pk not in unknown


def drawing(shape: Shape | None) -> str:
    """The graph of a version as it is declared, without states."""
    if shape is None or not 1 < len(shape.tasks) <= graph.MAX_TASKS:
        return "–"
    layout = graph.of_tasks(shape.tasks)
    nodes = [(node, shape.tasks[node.key]) for node in layout.nodes]
    return render_to_string(
        "orchestrator_ui/shape.html", {"layout": layout, "nodes": nodes}
    )


def task_table(shape: Shape | None) -> str:
    """The tasks of a version with their options."""
    if shape is None:
        return "–"
    rows = [
        {
            "task": task,
            "parents": [shape.tasks[parent].name for parent in task.parents],
            "retries": _retries(task.retries),
        }
        for task in shape.tasks
    ]
    return render_to_string("orchestrator_ui/tasks.html", {"rows": rows})


def _retries(retry: Retry) -> str:
    return str(retry.attempts) if retry.attempts else ""


def _shape(version_id: int | None) -> Shape | None:
    if version_id is None:
        return None
    return definitions.shapes([version_id]).get(version_id)
