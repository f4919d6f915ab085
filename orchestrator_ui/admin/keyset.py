"""Lists of history: newest first, paged by key, never counted.

A page costs the same wherever it is, since it begins at a key instead of an offset. A
list that takes too long says so and offers a narrower one, instead of holding a
database connection for minutes.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db import OperationalError, connections, router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext

from orchestrator_ui.admin.base import ReadOnlyAdmin
from orchestrator_ui.views.cursor import Cursor

CURSOR_VAR = "c"
TIMEOUT_SECONDS = 5


class PlainChangeList(ChangeList):
    """A change list whose title is what it lists, and which counts nothing."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        if not self.is_popup:
            self.title = capfirst(str(self.opts.verbose_name_plural))

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class KeysetChangeList(PlainChangeList):
    """One page of rows with greater or lesser keys than the cursor's."""

    older: str = ""
    newer: str = ""
    is_first_page = True
    show_all = False

    def get_filters_params(self, params: Any = None) -> Any:
        found = super().get_filters_params(params)
        found.pop(CURSOR_VAR, None)
        return found

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        # A filter that is changed begins at its own first page.
        kept = {CURSOR_VAR: None, **(new_params or {})}
        return super().get_query_string(kept, remove)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        cursor = self._cursor(request)
        size = self.list_per_page
        rows = self.queryset
        if cursor is not None and cursor.direction == "older":
            rows = rows.filter(pk__lt=cursor.key)
        elif cursor is not None:
            rows = rows.filter(pk__gt=cursor.key).order_by("pk")
        page = list(rows[: size + 1])
        more = len(page) > size
        page = page[:size]
        backwards = cursor is not None and cursor.direction == "newer"
        if backwards:
            page.reverse()
        self.is_first_page = cursor is None or (backwards and not more)
        self.has_older = more or backwards
        if page and self.has_older:
            self.older = self._link("older", page[-1])
        if page and not self.is_first_page:
            self.newer = self._link("newer", page[0])
        keyset_admin: Any = self.model_admin
        keyset_admin.prepare_rows(request, page)
        self.result_list = page
        self.result_count = self.full_result_count = len(page)
        self.show_full_result_count = False
        self.show_admin_actions = bool(page)
        self.can_show_all = self.multi_page = False
        self.first_page = self.get_query_string()

    def _cursor(self, request: HttpRequest) -> Cursor | None:
        text = request.GET.get(CURSOR_VAR)
        if not text:
            return None
        try:
            return Cursor.loads(text)
        except ValueError as error:
            raise IncorrectLookupParameters from error

    def _link(self, direction: Any, row: Any) -> str:
        cursor = Cursor(direction, row.pk).dumps()
        return self.get_query_string({CURSOR_VAR: cursor})


class KeysetAdmin(ReadOnlyAdmin):
    """A read-only screen over history, whose keys are UUIDs that begin with a time."""

    # Where to look instead when the list takes too long.
    narrower = "?window=24h"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return KeysetChangeList

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        """Read what the rows of a page need besides, in a constant number of queries;
        called once a page."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By id and nothing else: everything else would scan."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            key = self.model._meta.pk.to_python(term)
        except ValidationError:
            messages.info(request, gettext("Search by the whole id."))
            return queryset.none(), False
        return queryset.filter(pk=key), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method != "GET":
            return super().changelist_view(request, extra_context)
        alias = router.db_for_read(self.model)
        try:
            with transaction.atomic(using=alias):
                limit_statements(alias)
                return super().changelist_view(request, extra_context)
        except OperationalError as error:
            if not is_timeout(error):
                raise
            return TemplateResponse(
                request,
                "orchestrator_ui/lists/too_slow.html",
                {
                    **self.admin_site.each_context(request),
                    "title": capfirst(str(self.opts.verbose_name_plural)),
                    "opts": self.opts,
                    "seconds": TIMEOUT_SECONDS,
                    "narrower": self.narrower,
                },
                status=503,
            )


def limit_statements(alias: str) -> None:
    """Let statements of the transaction at hand end after five seconds."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_SECONDS}s'")


def is_timeout(error: OperationalError) -> bool:
    """Whether the server ended a statement that took too long."""
    return getattr(error.__cause__, "sqlstate", None) == "57014"
