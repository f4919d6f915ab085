"""The log of one task run, a page at a time."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext

from orchestrator_ui.admin.base import ReadOnlyAdmin, never_cached
from orchestrator_ui.views import records


class LogMixin(ReadOnlyAdmin):
    """A screen of task runs whose logs are pages of their own."""

    def log_view(self, request: HttpRequest, task_run_id: UUID) -> HttpResponse:
        """The latest lines of a log, or those before `?before=attempt.number`."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        task_run: Any = self.get_queryset(request).filter(pk=task_run_id).first()
        if task_run is None:
            raise Http404
        before = _before(request.GET.get("before", ""))
        name = task_run.name
        lines, more = records.log(
            {task_run_id: name},
            payloads=self.has_payload_permission(request),
            before=before,
        )
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Log of %(task)s") % {"task": name},
            "opts": self.opts,
            "media": self.media,
            "task_run": task_run,
            "lines": lines,
            "earlier": f"{lines[0].attempt}.{lines[0].number}" if more else "",
            "is_latest": before is None,
        }
        return never_cached(
            TemplateResponse(request, "orchestrator_ui/log.html", context)
        )


def _before(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    try:
        attempt, number = map(int, text.split("."))
    except ValueError:
        raise Http404 from None
    if max(attempt, number) >= 1 << 31:
        raise Http404
    return attempt, number
