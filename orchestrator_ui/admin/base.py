"""What every screen shares: history cannot be edited, and payloads need a permission.

Each screen is a stock `ModelAdmin`, so a project may unregister one of ours and
register a subclass of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers, patch_cache_control

if TYPE_CHECKING:
    BaseModelAdmin = admin.ModelAdmin[Any]
else:
    BaseModelAdmin = admin.ModelAdmin

PAYLOAD_PERMISSION = "orchestrator.view_payload"


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the user of a request has a permission, `orchestrator.cancel_run`."""
    user: Any = request.user
    return bool(user.is_active and user.has_perm(permission))


class ReadOnlyAdmin(BaseModelAdmin):
    """A screen without add, change and delete. The view permission decides."""

    change_list_template = "orchestrator_ui/lists/list.html"
    change_form_template = "orchestrator_ui/object.html"
    # Fields that hold inputs, outputs and metadata: left out without `view_payload`.
    payload_fields: tuple[str, ...] = ()
    # What may be filtered by in the address, besides the screen's own filters. Any
    # column could be guessed at otherwise: `?output__contains=secret`.
    allowed_lookups: tuple[str, ...] = ()
    actions: Any = None
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()
    empty_value_display = ""
    list_per_page = 50

    class Media:
        css = {"all": ["orchestrator_ui/orchestrator.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        return False

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whether inputs, outputs and metadata may be shown."""
        return may(request, PAYLOAD_PERMISSION)

    def lookup_allowed(
        self, lookup: str, value: Any, request: HttpRequest | None = None
    ) -> bool:
        filters = self.get_list_filter(request) if request else self.list_filter or ()
        own = {
            name
            for each in filters
            for name in getattr(each, "parameter_names", None)
            or [getattr(each, "parameter_name", None)]
        }
        return lookup in own or lookup in self.allowed_lookups

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_fields(request, obj)
        if self.has_payload_permission(request):
            return fields
        return [name for name in fields if name not in self.payload_fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.get_fields(request, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        response = super().changeform_view(request, object_id, form_url, extra_context)
        return never_cached(response)


def never_cached(response: HttpResponse) -> HttpResponse:
    """Keep pages with payloads out of every cache, the browser's own included."""
    add_never_cache_headers(response)
    patch_cache_control(response, no_store=True)
    return response
