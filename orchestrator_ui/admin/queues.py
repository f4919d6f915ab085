"""Queues: how full they are, and what waits in them for ever."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from orchestrator_ui.admin.base import ReadOnlyAdmin
from orchestrator_ui.admin.keyset import PlainChangeList
from orchestrator_ui.views import queues, words


class QueueChangeList(PlainChangeList):
    """A page of queues with their depths."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        depths = queues.depths(self.result_list)
        for queue in self.result_list:
            queue.depth = depths.get(queue.pk, queues.Depth())


class QueueAdmin(ReadOnlyAdmin):
    """The screens of queues."""

    list_display: Any = (
        "name",
        "ready",
        "delayed",
        "running",
        "oldest",
        "runs",
    )
    search_fields = ("name",)
    fields: ClassVar[Any] = (
        "name",
        "ready",
        "delayed",
        "running",
        "oldest",
        "runs",
        "created_at",
    )
    change_form_template = "orchestrator_ui/queue.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return QueueChangeList

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        queue = self.get_object(request, object_id)
        context = {"gaps": queues.uncovered(queue) if queue else []}
        return super().change_view(
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    @admin.display(description=_("Ready"))
    def ready(self, queue: Any) -> str:
        return queues.capped(_depth(queue).ready)

    @admin.display(description=_("Delayed"))
    def delayed(self, queue: Any) -> str:
        return queues.capped(_depth(queue).delayed)

    @admin.display(description=_("Running"))
    def running(self, queue: Any) -> str:
        return f"{_depth(queue).running:,}"

    @admin.display(description=_("Oldest ready run"))
    def oldest(self, queue: Any) -> str:
        made = _depth(queue).oldest
        if made is None:
            return ""
        age = words.span(timezone.now() - made)
        return format_html("{} ({})", words.moment(made), gettext("%s ago") % age)

    @admin.display(description=_("Runs"))
    def runs(self, queue: Any) -> str:
        return format_html(
            '<a href="{}?{}">{}</a>',
            reverse("admin:orchestrator_run_changelist"),
            urlencode({"queue": queue.name}),
            _("Show"),
        )


def _depth(queue: Model) -> queues.Depth:
    depth: queues.Depth | None = getattr(queue, "depth", None)
    if depth is None:
        depth = queues.depths([queue])[queue.pk]  # type: ignore[list-item]
        queue.depth = depth  # type: ignore[attr-defined]
    return depth
