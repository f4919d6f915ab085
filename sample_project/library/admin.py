"""The index in admin, to look at only: the workflow writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from .models import Distribution, Document, SourceFile

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:  # generic in the stubs alone
    ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class BrokenFilter(admin.SimpleListFilter):
    title = "broken"
    parameter_name = "broken"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[SourceFile]
    ) -> QuerySet[SourceFile]:
        match self.value():
            case "yes":
                return queryset.exclude(problem="")
            case "no":
                return queryset.filter(problem="")
        return queryset


@admin.register(Distribution)
class DistributionAdmin(ReadOnlyAdmin):
    list_display = ("name", "version", "location", "indexed_at")
    search_fields = ("name",)


@admin.register(SourceFile)
class SourceFileAdmin(ReadOnlyAdmin):
    list_display = ("path", "distribution", "problem")
    list_filter = (BrokenFilter,)
    list_select_related = ("distribution",)
    search_fields = ("path", "distribution__name")


@admin.register(Document)
class DocumentAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "distribution", "file", "line")
    list_filter = ("kind",)
    list_select_related = ("distribution", "file")
    search_fields = ("name",)
    exclude = ("vector",)
