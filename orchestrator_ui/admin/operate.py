"""Cancel, retry and rerun: a confirmation, then one call of `orchestrator.operations`.

Both the list and the run's page lead to the same confirmation page. From the list it
offers besides to mean the whole of it, as it is filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, router, transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy

from orchestrator import operations
from orchestrator.exceptions import OrchestratorError
from orchestrator.models import BulkOperation, Run
from orchestrator.states import RunStatus
from orchestrator_ui.admin.base import BaseModelAdmin, may
from orchestrator_ui.admin.confirm import (
    MAX_REASON,
    TYPED_FROM,
    Confirmation,
    Refused,
    carry_out,
    tell,
)
from orchestrator_ui.admin.keyset import is_timeout, limit_statements
from orchestrator_ui.views import definitions, payloads, rows
from orchestrator_ui.views.criteria import Criteria
from orchestrator_ui.views.verbs import VERBS, Verb
from orchestrator_ui.views.whole import Whole, of_list

SHOWN = 10  # runs named on the confirmation page


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
        if name not in VERBS:
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self._may(request, name):
            raise PermissionDenied
        if "confirmation" in request.POST:
            return self._carry_out(request, VERBS[name])
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
            for each in VERBS.values()
            if self._may(request, each.name)
        ]

    def _may(self, request: HttpRequest, name: str) -> bool:
        return self.has_view_permission(request) and may(
            request, VERBS[name].permission
        )

    def _ask(
        self, request: HttpRequest, name: str, chosen: Sequence[UUID]
    ) -> HttpResponse:
        verb = VERBS[name]
        visible: Any = self.get_queryset(request).filter(pk__in=chosen)
        runs = list(rows.for_list(visible.order_by("-pk")))
        if not runs:
            messages.warning(request, gettext("None of these runs is there any more."))
            return HttpResponseRedirect(reverse("admin:orchestrator_run_changelist"))
        url = reverse("admin:orchestrator_run_operate", args=(name,))
        back, whole = request.get_full_path(), None
        if request.path == url:  # asked on the page of a run
            back = reverse("admin:orchestrator_run_change", args=(runs[0].pk,))
        else:
            whole = self._whole(request)
        keys = [run.pk for run in runs]
        if whole is not None and whole.count <= len(keys):
            whole = None  # they have all been chosen
        confirmation = Confirmation.ask(request, name, keys, whole, back)
        unaffected = sum(run.status not in verb.affects for run in runs)
        shape = _common_shape(runs)
        context = {
            **self.admin_site.each_context(request),
            "title": verb.button(len(runs)),
            "opts": self.opts,
            "media": self.media,
            "verb": name,
            "verb_label": verb.label,
            "question": verb.question(len(runs)),
            "rows": rows.read(runs[:SHOWN]),
            "others": max(0, len(runs) - SHOWN),
            "unaffected": unaffected,
            "unaffected_text": verb.unaffected(unaffected),
            "count": len(runs),
            "whole": whole,
            "criteria": _criteria(request).pairs if whole else (),
            "limit": operations.LIMIT,
            "has_to_type": whole is not None and whole.count > TYPED_FROM,
            "has_all_completed": all(run.status == RunStatus.COMPLETED for run in runs),
            "tasks": [task.name for task in shape.tasks] if shape else [],
            "is_durable": shape is None or any(task.durable for task in shape.tasks),
            "input": self._input(request, runs) if name == "rerun" else None,
            "max_reason": MAX_REASON,
            "button": verb.button(len(runs)),
            "url": url,
            "back": back,
            "confirmation": confirmation.dumps(),
        }
        return TemplateResponse(request, "orchestrator_ui/confirm.html", context)

    def _whole(self, request: HttpRequest) -> Whole | None:
        """All that the list at hand has, where a filter means just that."""
        alias = router.db_for_read(Run)
        try:
            with transaction.atomic(using=alias):
                limit_statements(alias)
                runs: Any = self.get_queryset(request)
                criteria = _criteria(request)
                if {name for name, _ in criteria.pairs} != _given(request):
                    return None  # the list shows less than is known here
                return of_list(runs, criteria)
        except OperationalError as error:
            if not is_timeout(error):
                raise
            return None  # too many to be counted: a narrower list offers it
        except ValueError:
            return None

    def _input(self, request: HttpRequest, runs: Sequence[Run]) -> str | None:
        """The input of the only run as text to edit, for those who may see it."""
        if len(runs) != 1 or not may(request, "orchestrator.view_payload"):
            return None
        found = payloads.of_run(runs[0].pk)["input"]
        return None if found is None or found.is_cut else found.text

    def _carry_out(self, request: HttpRequest, verb: Verb) -> HttpResponse:
        text = request.POST["confirmation"]
        try:
            confirmation = Confirmation.loads(text, request, verb.name)
        except Refused as error:
            messages.warning(request, str(error))
            return HttpResponseRedirect(reverse("admin:orchestrator_run_changelist"))
        back = confirmation.back
        try:
            done = carry_out(request, verb, confirmation)
        except operations.AlreadyDone:
            messages.info(
                request, gettext("This was done already; nothing more happened.")
            )
        except OrchestratorError as error:
            messages.error(request, str(error))
        else:
            tell(request, verb, done, len(confirmation.runs))
            if isinstance(done, BulkOperation):
                back = reverse(
                    "admin:orchestrator_bulkoperation_change", args=(done.pk,)
                )
        return HttpResponseRedirect(back)


def _criteria(request: HttpRequest) -> Criteria:
    """What the list is filtered by; raises ValueError where it cannot be read."""
    params = request.GET.dict()
    return Criteria.read(params, payloads=may(request, "orchestrator.view_payload"))


def _given(request: HttpRequest) -> set[str]:
    """The filters that the list's address names, whatever they are."""
    ignored = {"c", "e", "p", "all", "o"}
    return {name for name, value in request.GET.items() if value} - ignored


def _common_shape(runs: Sequence[Run]) -> Any:
    """The version of all these runs; None where they have several."""
    versions = {run.version_id for run in runs}
    found = definitions.shapes(versions)
    return next(iter(found.values())) if len(versions) == 1 == len(found) else None


def _ids(request: HttpRequest, name: str) -> list[UUID]:
    """The ids that a form has sent. Raises ValueError for what is none."""
    return [UUID(text) for text in request.POST.getlist(name)]
