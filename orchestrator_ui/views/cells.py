"""The cells of a run's row that change while one looks, as fragments by target id."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from orchestrator.models import Run
from orchestrator.states import RunStatus
from orchestrator_ui.views import words
from orchestrator_ui.views.rows import RunRow

LIVE = ("status", "started", "took", "attempts", "line")


def target(run: Run, cell: str) -> str:
    """The element id of one cell."""
    return f"run-{run.pk.hex}-{cell}"


def cells(row: RunRow) -> dict[str, SafeString]:
    """The live cells of a row by name, each an element with its target id."""
    run = row.run
    content = {
        "status": words.badge(run.status, note=_progress(row)),
        "started": words.moment(row.started_at),
        "took": words.took(row.started_at, run.finished_at),
        "attempts": "" if row.attempts is None else str(row.attempts),
        "line": _line(row),
    }
    return {
        name: format_html(
            '<span id="{}" class="orch-cell-{}" hx-swap-oob="true">{}</span>',
            target(run, name),
            name,
            content[name],
        )
        for name in LIVE
    }


def fragments(row: RunRow) -> dict[str, str]:
    """The same by target id, as the feed sends them."""
    return {target(row.run, name): html for name, html in cells(row).items()}


def _progress(row: RunRow) -> str:
    if row.run.status != RunStatus.RUNNING or row.tasks < 2:
        return ""
    return gettext("%(ended)d of %(tasks)d") % {"ended": row.ended, "tasks": row.tasks}


def _line(row: RunRow) -> str:
    due = ""
    if row.due_at is not None:
        due = format_html(
            '<span class="orch-note">{} {}</span> ',
            gettext("due") if not row.attempts else gettext("next try"),
            words.moment(row.due_at),
        )
    said = format_html('<span title="{}">{}</span>', row.line, row.line)
    return format_html("{}{}", due, said if row.line else "")
