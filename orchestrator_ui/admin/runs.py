"""Runs: the list that keeps itself up to date, and the page of one run."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from orchestrator.models import Run
from orchestrator_ui.admin import filters
from orchestrator_ui.admin.base import never_cached
from orchestrator_ui.admin.keyset import KeysetAdmin, KeysetChangeList
from orchestrator_ui.admin.live import LiveMixin
from orchestrator_ui.admin.operate import OperateMixin
from orchestrator_ui.feed.topics import Locale, NewerTopic, PageTopic, RowTopic, Topic
from orchestrator_ui.views import (
    cells,
    newer,
    page,
    payloads,
    records,
    rows,
    search,
    words,
)
from orchestrator_ui.views.criteria import Criteria

PAIRS = 3  # of metadata shown in a row


class RunAdmin(OperateMixin, LiveMixin, KeysetAdmin):
    """The screens of runs."""

    list_display: Any = (
        "status_cell",
        "run_cell",
        "workflow_cell",
        "line_cell",
        "created_cell",
        "started_cell",
        "took_cell",
        "attempts_cell",
        "queue_cell",
        "metadata_cell",
    )
    list_display_links = None
    list_filter: ClassVar[Any] = (
        filters.StatusFilter,
        filters.WorkflowFilter,
        filters.QueueFilter,
        filters.TimeFilter,
        filters.MetadataFilter,
        filters.ParentFilter,
    )
    search_fields = ("id",)
    narrower = "?window=1h"

    # What each user sees of the list.

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("input", "metadata")

    def get_list_display(self, request: HttpRequest) -> Any:
        if self.has_payload_permission(request):
            return self.list_display
        return [name for name in self.list_display if name != "metadata_cell"]

    def get_list_filter(self, request: HttpRequest) -> Any:
        if self.has_payload_permission(request):
            return self.list_filter
        return [f for f in self.list_filter if f is not filters.MetadataFilter]

    def get_search_help(self, request: HttpRequest) -> str:
        """What may be searched for."""
        if self.has_payload_permission(request):
            return gettext("A run's id, or metadata as key:value.")
        return gettext("A run's id.")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        wanted = search.parse(search_term)
        hidden = wanted.pairs and not self.has_payload_permission(request)
        if wanted.unreadable or hidden:
            messages.info(
                request, gettext("Search for: ") + self.get_search_help(request)
            )
            return queryset.none(), False
        return wanted.apply(queryset), False

    def prepare_rows(self, request: HttpRequest, rows_: list[Any]) -> None:
        metadata = self.has_payload_permission(request)
        keys = [run.pk for run in rows_]
        read = rows.for_list(Run.objects.filter(pk__in=keys), metadata=metadata)
        found = {row.run.pk: row for row in rows.read(list(read.order_by()))}
        for run in rows_:
            # A run that was dropped with its partition meanwhile keeps empty cells.
            run.row = found.get(run.pk)
            run.cells = cells.cells(run.row) if run.row else {}

    # The cells.

    @admin.display(description=_("Status"))
    def status_cell(self, run: Any) -> str:
        return run.cells.get("status", "")  # type: ignore[no-any-return]

    @admin.display(description=_("Run"))
    def run_cell(self, run: Any) -> str:
        return format_html(
            '<a href="{}" title="{}"><code>{}</code></a>',
            reverse("admin:orchestrator_run_change", args=(run.pk,)),
            run.pk,
            words.short_id(run),
        )

    @admin.display(description=_("Workflow"))
    def workflow_cell(self, run: Any) -> str:
        name = run.row.workflow if run.row else ""
        return format_html(
            '<a href="{}">{}</a>',
            reverse("admin:orchestrator_run_change", args=(run.pk,)),
            name or gettext("unregistered"),
        )

    @admin.display(description=_("Queue"))
    def queue_cell(self, run: Any) -> str:
        return run.row.queue if run.row else ""

    @admin.display(description=_("Created"))
    def created_cell(self, run: Any) -> str:
        return words.moment(run.created_at)

    @admin.display(description=_("Started"))
    def started_cell(self, run: Any) -> str:
        return run.cells.get("started", "")  # type: ignore[no-any-return]

    @admin.display(description=_("Took"))
    def took_cell(self, run: Any) -> str:
        return run.cells.get("took", "")  # type: ignore[no-any-return]

    @admin.display(description=_("Tries"))
    def attempts_cell(self, run: Any) -> str:
        return run.cells.get("attempts", "")  # type: ignore[no-any-return]

    @admin.display(description=_("Detail"))
    def line_cell(self, run: Any) -> str:
        return run.cells.get("line", "")  # type: ignore[no-any-return]

    @admin.display(description=_("Metadata"))
    def metadata_cell(self, run: Any) -> str:
        pairs = list(run.row.run.metadata.items()) if run.row else []
        shown = format_html_join(
            " ",
            '<span class="orch-pair">{}: {}</span>',
            ((key, _brief(value)) for key, value in pairs[:PAIRS]),
        )
        if len(pairs) <= PAIRS:
            return shown
        return format_html(
            '{} <span class="orch-note">+{}</span>', shown, len(pairs) - PAIRS
        )

    # The pages.

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path(
                "<uuid:run_id>/outputs/",
                wrap(self.outputs_view),
                name="orchestrator_run_outputs",
            ),
            path(
                "<uuid:run_id>/payload/<str:column>/",
                wrap(self.payload_view),
                name="orchestrator_run_payload",
            ),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and isinstance(context.get("cl"), KeysetChangeList):
            context["cl"].search_help_text = self.get_search_help(request)
            context["feed"] = self.feed(
                request, self._list_topics(request, context["cl"])
            )
            context["empty_text"] = gettext(
                "No run yet. Enqueue one in code, and it appears here."
            )
        return never_cached(response)

    def _list_topics(self, request: HttpRequest, cl: Any) -> list[Topic]:
        locale = Locale.current()
        topics: list[Topic] = [RowTopic(locale, run.pk) for run in cl.result_list]
        if cl.is_first_page:
            params = {**request.GET.dict(), "q": cl.query}
            criteria = Criteria.read(
                params, payloads=self.has_payload_permission(request)
            )
            shown = newer.Shown(tuple(run.pk for run in cl.result_list), cl.has_older)
            topics.append(NewerTopic(locale, criteria, shown))
        return topics

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of one run, in place of a form."""
        run_id = self._visible(request, unquote(object_id))
        shown = page.read(run_id) if run_id else None
        if shown is None or run_id is None:
            return self._get_obj_does_not_exist_redirect(  # type: ignore[attr-defined,no-any-return]
                request, self.opts, object_id
            )
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Run"),
            "opts": self.opts,
            "media": self.media,
            "page": shown,
            "run": shown.run,
            "operations": self.offered(request),
            "feed": self.feed(request, [PageTopic(Locale.current(), run_id)]),
            "may_see_payloads": self.has_payload_permission(request),
            **(extra_context or {}),
        }
        context |= self._details(request, shown)
        return never_cached(
            TemplateResponse(request, "orchestrator_ui/run/page.html", context)
        )

    def outputs_view(self, request: HttpRequest, run_id: UUID) -> HttpResponse:
        """Journal, log and outputs, asked for when the feed says there are others."""
        shown = self._visible(request, str(run_id)) and page.read(run_id)
        if not shown:
            raise Http404
        context = self._details(request, shown)
        response = TemplateResponse(
            request, "orchestrator_ui/run/outputs.html", context
        )
        return never_cached(response)

    def payload_view(
        self, request: HttpRequest, run_id: UUID, column: str
    ) -> HttpResponse:
        """Input or metadata as a file."""
        if not self.has_payload_permission(request):
            raise PermissionDenied
        if column not in ("input", "metadata") or not self._visible(
            request, str(run_id)
        ):
            raise Http404
        return download(Run.objects.filter(pk=run_id), column, f"{run_id}-{column}")

    def _visible(self, request: HttpRequest, object_id: str) -> UUID | None:
        """The id of a run that the user may see. Raises PermissionDenied."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        found = self.get_object(request, object_id)
        return found.pk if found else None

    def _details(self, request: HttpRequest, shown: page.RunPage) -> dict[str, Any]:
        """Journal, log and stream, and the payloads where the user may see them."""
        may_see = self.has_payload_permission(request)
        details: dict[str, Any] = {"may_see_payloads": may_see}
        if shown.shape is not None:
            task_runs = page.names(shown.run.pk, shown.shape)
            details["records"] = records.read(task_runs, payloads=may_see)
        return details | (self._payloads(shown) if may_see else {})

    def _payloads(self, shown: page.RunPage) -> dict[str, Any]:
        run = shown.run
        return {
            **payloads.of_run(run.pk),
            "outputs": payloads.outputs(run.pk, shown.shape) if shown.shape else [],
            "input_url": reverse(
                "admin:orchestrator_run_payload", args=(run.pk, "input")
            ),
            "metadata_url": reverse(
                "admin:orchestrator_run_payload", args=(run.pk, "metadata")
            ),
        }


def download(rows_: Any, column: str, name: str) -> HttpResponse:
    """A JSON column as a file, never rendered by the browser."""
    text = next(iter(payloads.whole(rows_, column)), None)
    if text is None:
        raise Http404
    response = HttpResponse(text, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{name}.json"'
    response["X-Content-Type-Options"] = "nosniff"
    return never_cached(response)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else search.as_text(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
