"""Operations over many runs: which there are, how far they are, and a stop."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from orchestrator import operations
from orchestrator.models import BulkOperation
from orchestrator.states import BulkStatus
from orchestrator_ui.admin.base import may, never_cached
from orchestrator_ui.admin.confirm import MAX_REASON
from orchestrator_ui.admin.keyset import KeysetAdmin
from orchestrator_ui.admin.live import LiveMixin
from orchestrator_ui.feed.topics import BulkTopic, Locale
from orchestrator_ui.views import bulk, verbs, words


class BulkOperationAdmin(LiveMixin, KeysetAdmin):
    """The screens of bulk operations."""

    list_display: Any = (
        "status_cell",
        "title_cell",
        "progress_cell",
        "actor_cell",
        "reason",
        "created_cell",
        "took_cell",
    )
    list_display_links = ("title_cell",)
    list_select_related = ("actor",)
    search_fields = ("id",)

    def has_view_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        """Whoever may do any of it may see what is being done."""
        return super().has_view_permission(request, obj) or any(
            may(request, verb.permission) for verb in verbs.VERBS.values()
        )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[Any]:
        return [
            path(
                "<uuid:operation_id>/stop/",
                self.admin_site.admin_view(self.stop_view),
                name="orchestrator_bulkoperation_stop",
            ),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of one operation, in place of a form."""
        if not self.has_view_permission(request) or request.method not in (
            "GET",
            "HEAD",
        ):
            raise PermissionDenied
        operation = self._find(request, unquote(object_id))
        if operation is None:
            return self._get_obj_does_not_exist_redirect(  # type: ignore[attr-defined,no-any-return]
                request, self.opts, object_id
            )
        may_stop = may(request, f"orchestrator.{_permission(operation)}")
        context = {
            **self.admin_site.each_context(request),
            "title": bulk.title(operation),
            "opts": self.opts,
            "media": self.media,
            "operation": operation,
            "pairs": bulk.pairs(
                operation, payloads=self.has_payload_permission(request)
            ),
            "progress": bulk.progress(operation),
            "feed": self.feed(request, [BulkTopic(Locale.current(), operation.pk)]),
            "stop_url": may_stop
            and reverse("admin:orchestrator_bulkoperation_stop", args=(operation.pk,)),
            "max_reason": MAX_REASON,
            **(extra_context or {}),
        }
        return never_cached(
            TemplateResponse(request, "orchestrator_ui/bulk/page.html", context)
        )

    def stop_view(self, request: HttpRequest, operation_id: UUID) -> HttpResponse:
        """Stop an operation. POST alone."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        operation = self._find(request, str(operation_id))
        if operation is None or not self.has_view_permission(request):
            raise Http404
        had_ended = operation.is_finished
        reason = request.POST.get("reason", "").replace("\x00", "").strip()
        operations.stop_bulk(
            operation,
            request.user,
            reason=reason[:MAX_REASON],
        )
        if not had_ended and operation.status == BulkStatus.STOPPED:
            messages.success(
                request, gettext("It is stopped. What was done stays done.")
            )
        else:
            messages.info(request, gettext("It had ended already."))
        return HttpResponseRedirect(
            reverse("admin:orchestrator_bulkoperation_change", args=(operation.pk,))
        )

    def _find(self, request: HttpRequest, key: str) -> BulkOperation | None:
        try:
            found = self.get_queryset(request).filter(pk=key)
            return found.select_related("actor").first()
        except ValidationError:
            return None

    @admin.display(description=_("Status"))
    def status_cell(self, operation: BulkOperation) -> str:
        return words.badge(operation.status)

    @admin.display(description=_("What"))
    def title_cell(self, operation: BulkOperation) -> str:
        return bulk.title(operation)

    @admin.display(description=_("Progress"))
    def progress_cell(self, operation: BulkOperation) -> str:
        text = gettext("%(done)s done") % {"done": words.grouped(operation.done)}
        if operation.failed:
            text += gettext(", %(n)s not") % {"n": words.grouped(operation.failed)}
        return format_html(
            '<progress class="orch-meter" max="100" value="{}"></progress> {}',
            bulk.share(operation),
            text,
        )

    @admin.display(description=_("Who"))
    def actor_cell(self, operation: BulkOperation) -> str:
        return str(operation.actor) if operation.actor_id else gettext("code")

    @admin.display(description=_("Asked"))
    def created_cell(self, operation: BulkOperation) -> str:
        return words.moment(operation.created_at)

    @admin.display(description=_("Took"))
    def took_cell(self, operation: BulkOperation) -> str:
        return words.took(operation.started_at, operation.finished_at, counting=False)


def _permission(operation: BulkOperation) -> str:
    return {
        "cancel": "cancel_run",
        "retry": "retry_run",
        "rerun": "rerun_run",
    }.get(operation.verb, "change_run")
