"""Operations over many runs: how far they are, and what they are about."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.template.loader import render_to_string
from django.utils.translation import gettext

from orchestrator.models import BulkOperation
from orchestrator.states import BulkStatus
from orchestrator_ui.views import verbs, words

TARGET = "bulk-progress"
MAX_IDS = 3  # that a filter's line names


def fragments(operation_id: UUID) -> dict[str, str]:
    """The part of the page that changes; none where the operation is gone."""
    operation = BulkOperation.objects.filter(pk=operation_id).first()
    if operation is None:
        return {}
    return {TARGET: progress(operation)}


def progress(operation: BulkOperation) -> str:
    """State, bar, counts and problems, as one element. No payload is in it."""
    return render_to_string(
        "orchestrator_ui/bulk/progress.html",
        {
            "operation": operation,
            "seen": seen(operation),
            "share": share(operation),
            "is_finished": operation.is_finished,
        },
    )


def seen(operation: BulkOperation) -> int:
    """How many runs it was tried with."""
    return operation.done + operation.failed


def share(operation: BulkOperation) -> int:
    """How much of it is done, in per cent."""
    if operation.is_finished and operation.status == BulkStatus.COMPLETED:
        return 100
    if not operation.total:
        return 0
    return min(100, 100 * seen(operation) // operation.total)


def title(operation: BulkOperation) -> str:
    """What it does, in a line: `Cancel 12,345 runs`."""
    return gettext("%(verb)s %(count)s runs") % {
        "verb": verbs.word(operation.verb),
        "count": words.grouped(operation.total or 0),
    }


def pairs(operation: BulkOperation, *, payloads: bool) -> list[tuple[str, str]]:
    """What its runs were filtered by, and how it acts, as words.

    Without `payloads` no metadata is named.
    """
    found: list[tuple[str, str]] = []
    for name, value in operation.filter.items():
        if name == "metadata":
            shown = value if payloads else {}
            found += [(f"metadata {key}", str(v)) for key, v in shown.items()]
        elif name == "ids":
            some = ", ".join(value[:MAX_IDS])
            more = f" +{len(value) - MAX_IDS}" if len(value) > MAX_IDS else ""
            found.append((name, some + more))
        else:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            found.append((name, text))
    return found + _options(operation.options)


def _options(options: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    if "tasks" in options:
        tasks = options["tasks"]
        found.append(("tasks", tasks if isinstance(tasks, str) else ", ".join(tasks)))
    if options.get("children") is False:
        found.append(("children", gettext("go on")))
    if options.get("keep_journal") is False:
        found.append(("journals", gettext("discarded")))
    if options.get("inputs") is not None:
        found.append(("input", gettext("another one")))
    if "priority" in options:
        found.append(("priority", str(options["priority"])))
    return found
