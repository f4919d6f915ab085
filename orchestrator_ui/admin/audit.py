"""The audit log: who did what to which runs, and why."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from orchestrator_ui.admin import filters
from orchestrator_ui.admin.keyset import KeysetAdmin
from orchestrator_ui.views import words


class AuditEntryAdmin(KeysetAdmin):
    """The screens of the audit log."""

    list_display: Any = (
        "created_cell",
        "actor_cell",
        "action",
        "target_cell",
        "reason",
    )
    list_display_links = ("created_cell",)
    list_select_related = ("actor",)
    list_filter: ClassVar[Any] = (filters.TimeFilter,)
    fields: ClassVar[Any] = (
        "created_at",
        "actor_cell",
        "action",
        "target_cell",
        "reason",
        "data_cell",
    )

    @admin.display(description=_("When"))
    def created_cell(self, entry: Any) -> str:
        return words.moment(entry.created_at)

    @admin.display(description=_("Who"))
    def actor_cell(self, entry: Any) -> str:
        return str(entry.actor) if entry.actor_id else gettext("code")

    @admin.display(description=_("What"))
    def target_cell(self, entry: Any) -> str:
        screen = {"run": "run", "bulk operation": "bulkoperation"}.get(
            entry.target_type
        )
        if screen is None:
            return str(entry.target_repr)
        return format_html(
            '<a href="{}">{}</a>',
            reverse(f"admin:orchestrator_{screen}_change", args=(entry.target_id,)),
            entry.target_repr,
        )

    payload_fields = ("data_cell",)  # a filter may name metadata

    @admin.display(description=_("Data"))
    def data_cell(self, entry: Any) -> str:
        return render_to_string("orchestrator_ui/json.html", {"value": entry.data})
