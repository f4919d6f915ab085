"""Cancel, retry and rerun: a confirmation, then one call of `orchestrator.operations`.

Both the list and the run's page lead to the same confirmation page. What it confirms
is signed: which runs, for which user, and how many times that user has done it to them
so far. So a form that is sent twice is carried out once, and an old tab changes nothing
that it did not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
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
from django.utils.translation import gettext, gettext_lazy, ngettext

from orchestrator import operations
from orchestrator.engine import notify, sessions
from orchestrator.exceptions import OrchestratorError
from orchestrator.models import AuditEntry, Run
from orchestrator.operations import RunFilter
from orchestrator.states import TERMINAL_RUN, RunStatus
from orchestrator_ui.admin.base import BaseModelAdmin, may
from orchestrator_ui.views import rows

SHOWN = 10  # runs named on the confirmation page
MAX_REASON = 500
_SALT = "orchestrator_ui.confirmation"
_MAX_AGE = 3600  # seconds


@dataclass(frozen=True)
class Operation:
    """One thing that an operator does to runs."""

    name: str
    permission: str
    label: Any
    perform: Callable[..., list[UUID]]
    affects: frozenset[RunStatus]  # those it changes; the others stay as they are

    def question(self, count: int) -> str:
        return {
            "cancel": ngettext(
                "Cancel this run? What is being executed ends now.",
                "Cancel these %d runs? What is being executed ends now.",
                count,
            ),
            "retry": ngettext(
                "Retry this run? Its failed and cancelled tasks are executed again.",
                "Retry these %d runs? Their failed and cancelled tasks are executed "
                "again.",
                count,
            ),
            "rerun": ngettext(
                "Rerun this run? A new run is made from its input.",
                "Rerun these %d runs? A new run is made from the input of each.",
                count,
            ),
        }[self.name] % ((count,) if count != 1 else ())

    def unaffected(self, count: int) -> str:
        return {
            "cancel": ngettext(
                "%d of them has ended and stays as it is.",
                "%d of them have ended and stay as they are.",
                count,
            ),
            "retry": ngettext(
                "%d of them has not failed and stays as it is.",
                "%d of them have not failed and stay as they are.",
                count,
            ),
            "rerun": "%d",
        }[self.name] % count

    def button(self, count: int) -> str:
        return {
            "cancel": ngettext("Cancel the run", "Cancel %d runs", count),
            "retry": ngettext("Retry the run", "Retry %d runs", count),
            "rerun": ngettext("Rerun the run", "Rerun %d runs", count),
        }[self.name] % ((count,) if count != 1 else ())

    def done(self, count: int) -> str:
        return {
            "cancel": ngettext(
                "%d run was cancelled.", "%d runs were cancelled.", count
            ),
            "retry": ngettext(
                "%d run is executed again.", "%d runs are executed again.", count
            ),
            "rerun": ngettext("%d new run was made.", "%d new runs were made.", count),
        }[self.name] % count


OPERATIONS = {
    each.name: each
    for each in (
        Operation(
            "cancel",
            "orchestrator.cancel_run",
            gettext_lazy("Cancel"),
            operations.cancel_runs,
            frozenset(RunStatus) - TERMINAL_RUN,
        ),
        Operation(
            "retry",
            "orchestrator.retry_run",
            gettext_lazy("Retry"),
            operations.retry_runs,
            frozenset({RunStatus.FAILED, RunStatus.CANCELLED}),
        ),
        Operation(
            "rerun",
            "orchestrator.rerun_run",
            gettext_lazy("Rerun"),
            operations.rerun_runs,
            frozenset(RunStatus),
        ),
    )
}


class OperateMixin(BaseModelAdmin):
    """The actions of runs, on the list and on the page of one."""

    actions: Any = ("cancel", "retry", "rerun")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "cancel")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "retry")

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "rerun")

    @admin.action(description=gettext_lazy("Cancel…"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: Any) -> Any:
        return self._ask(request, "cancel", _ids(request, ACTION_CHECKBOX_NAME))

    @admin.action(description=gettext_lazy("Retry…"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: Any) -> Any:
        return self._ask(request, "retry", _ids(request, ACTION_CHECKBOX_NAME))

    @admin.action(description=gettext_lazy("Rerun…"), permissions=["rerun"])
    def rerun(self, request: HttpRequest, queryset: Any) -> Any:
        return self._ask(request, "rerun", _ids(request, ACTION_CHECKBOX_NAME))

    def get_urls(self) -> list[Any]:
        operate = self.admin_site.admin_view(self.operate_view)
        return [
            path("operate/<str:name>/", operate, name="orchestrator_run_operate"),
            *super().get_urls(),
        ]

    def response_action(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            _ids(request, ACTION_CHECKBOX_NAME)
        except ValueError:
            messages.warning(request, gettext("A selected run has no valid id."))
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset, *args, **kwargs)

    def operate_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask for a confirmation, or carry out what was confirmed. POST alone."""
        if name not in OPERATIONS:
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self._may(request, name):
            raise PermissionDenied
        if "confirmation" in request.POST:
            return self._carry_out(request, OPERATIONS[name])
        try:
            chosen = _ids(request, "id")
        except ValueError:
            raise Http404 from None
        return self._ask(request, name, chosen)

    def offered(self, request: HttpRequest) -> list[dict[str, Any]]:
        """The operations that a user may do, as buttons."""
        return [
            {
                "name": each.name,
                "label": each.label,
                "url": reverse("admin:orchestrator_run_operate", args=(each.name,)),
            }
            for each in OPERATIONS.values()
            if self._may(request, each.name)
        ]

    def _may(self, request: HttpRequest, name: str) -> bool:
        return self.has_view_permission(request) and may(
            request, OPERATIONS[name].permission
        )

    def _ask(
        self, request: HttpRequest, name: str, chosen: Sequence[UUID]
    ) -> HttpResponse:
        operation = OPERATIONS[name]
        visible: Any = self.get_queryset(request).filter(pk__in=chosen)
        runs = list(rows.for_list(visible.order_by("-pk")))
        if not runs:
            messages.warning(request, gettext("None of these runs is there any more."))
            return HttpResponseRedirect(reverse("admin:orchestrator_run_changelist"))
        unaffected = sum(run.status not in operation.affects for run in runs)
        keys = [run.pk for run in runs]
        url = reverse("admin:orchestrator_run_operate", args=(name,))
        back = request.get_full_path()
        if request.path == url:  # asked on the page of a run
            back = reverse("admin:orchestrator_run_change", args=(keys[0],))
        confirmation = {
            "name": name,
            "user": str(request.user.pk),
            "runs": [key.hex for key in keys],
            "before": _times_done(request, operation, keys),
            "back": back,
        }
        context = {
            **self.admin_site.each_context(request),
            "title": operation.button(len(runs)),
            "opts": self.opts,
            "media": self.media,
            "question": operation.question(len(runs)),
            "rows": rows.read(runs[:SHOWN]),
            "others": max(0, len(runs) - SHOWN),
            "unaffected": unaffected,
            "unaffected_text": operation.unaffected(unaffected),
            "button": operation.button(len(runs)),
            "url": url,
            "back": back,
            "confirmation": signing.dumps(confirmation, salt=_SALT, compress=True),
        }
        return TemplateResponse(request, "orchestrator_ui/confirm.html", context)

    def _carry_out(self, request: HttpRequest, operation: Operation) -> HttpResponse:
        listing = reverse("admin:orchestrator_run_changelist")
        try:
            confirmed = signing.loads(
                request.POST["confirmation"], salt=_SALT, max_age=_MAX_AGE
            )
        except signing.BadSignature:
            confirmed = {}
        if (confirmed.get("name"), confirmed.get("user")) != (
            operation.name,
            str(request.user.pk),
        ):
            messages.warning(
                request, gettext("This confirmation is not valid any more; ask again.")
            )
            return HttpResponseRedirect(listing)
        keys = [UUID(key) for key in confirmed["runs"]]
        reason = request.POST.get("reason", "").replace("\x00", "").strip()
        try:
            changed = _once(
                request, operation, keys, confirmed["before"], reason[:MAX_REASON]
            )
        except OrchestratorError as error:
            messages.error(request, str(error))
        else:
            _tell(request, operation, keys, changed)
        return HttpResponseRedirect(confirmed["back"])


def _once(
    request: HttpRequest,
    operation: Operation,
    keys: list[UUID],
    before: int,
    reason: str,
) -> list[UUID] | None:
    """Carry it out, unless this confirmation has been; then None.

    Locks the runs in the order of their ids, as every verb does; so of two equal
    requests the second one counts the audit entries of the first.
    """
    alias = router.db_for_write(Run)
    with transaction.atomic(using=alias):
        locked = Run.objects.using(alias).filter(pk__in=keys).order_by("pk")
        list(locked.select_for_update().values_list("pk", flat=True))
        if _times_done(request, operation, keys) != before:
            return None
        changed = operation.perform(
            RunFilter(ids=keys), reason=reason, actor=request.user
        )
        # Others who look at these runs, once it is committed.
        transaction.on_commit(
            lambda: notify.feed(sessions.django_session(), keys), using=alias
        )
    return changed


def _times_done(
    request: HttpRequest, operation: Operation, keys: Sequence[UUID]
) -> int:
    return AuditEntry.objects.filter(
        target_type="run",
        target_id__in=[str(key) for key in keys],
        action=operation.name,
        actor_id=request.user.pk,
    ).count()


def _tell(
    request: HttpRequest,
    operation: Operation,
    keys: Sequence[UUID],
    changed: list[UUID] | None,
) -> None:
    if changed is None:
        messages.info(request, gettext("This was done already; nothing more happened."))
        return
    if changed:
        text: str = operation.done(len(changed))
        if operation.name == "rerun" and len(changed) == 1:
            text = format_html(
                '{} <a href="{}">{}</a>',
                text,
                reverse("admin:orchestrator_run_change", args=(changed[0],)),
                changed[0],
            )
        messages.success(request, text)
    if len(changed) < len(keys):
        messages.warning(request, operation.unaffected(len(keys) - len(changed)))


def _ids(request: HttpRequest, name: str) -> list[UUID]:
    """The ids that a form has sent. Raises ValueError for what is none."""
    return [UUID(text) for text in request.POST.getlist(name)]
