"""How states and times are said: the same words on pages and in the feed.

What comes from here depends on the language and the time zone that are active, and
on the day, but not on the second of rendering, or an unchanged page would differ each
time that it is read.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy, pgettext_lazy

from orchestrator.models import Run, TaskRun

# A state's word, the tone of its colour, and its icon: strokes on a 16 × 16 grid, so
# that colour never says it alone. Names that states.py gives to several things are
# the same state here.
_CIRCLE = "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11z"
STATES = {
    "PENDING": (gettext_lazy("Pending"), "quiet", "M2.5 8h1M7.5 8h1M12.5 8h1"),
    "SCHEDULED": (gettext_lazy("Scheduled"), "wait", f"{_CIRCLE}M8 5v3l2 1.5"),
    "QUEUED": (gettext_lazy("Queued"), "quiet", "M3 4.5h10M3 8h10M3 11.5h6"),
    "RUNNING": (gettext_lazy("Running"), "busy", "M5.5 3.5v9l7-4.5z"),
    "BACKOFF": (
        gettext_lazy("Backing off"),
        "wait",
        "M12.5 8a4.5 4.5 0 1 1-1.4-3.2M11.5 2v3h-3",
    ),
    "WAITING": (gettext_lazy("Waiting"), "wait", "M6 4v8M10 4v8"),
    "SUSPENDED": (gettext_lazy("Suspended"), "wait", "M6 4v8M10 4v8"),
    "COMPLETED": (gettext_lazy("Completed"), "good", "M3.5 8.5l3 3l6-7"),
    "FAILED": (gettext_lazy("Failed"), "bad", "M4.5 4.5l7 7m0-7l-7 7"),
    "TIMED_OUT": (gettext_lazy("Timed out"), "bad", f"{_CIRCLE}M8 5v3.5"),
    "CANCELLED": (gettext_lazy("Cancelled"), "off", f"{_CIRCLE}M4.2 4.2l7.6 7.6"),
    "SKIPPED": (gettext_lazy("Skipped"), "quiet", "M4 4l4 4l-4 4M9 4l4 4l-4 4"),
    "ACTIVE": (pgettext_lazy("worker", "Active"), "good", "M3.5 8.5l3 3l6-7"),
    "PAUSED": (pgettext_lazy("worker", "Paused"), "wait", "M6 4v8M10 4v8"),
    "DRAINING": (
        pgettext_lazy("worker", "Draining"),
        "wait",
        "M8 3v9M4.5 8.5L8 12l3.5-3.5",
    ),
    "STOPPED": (pgettext_lazy("worker", "Stopped"), "quiet", "M4.5 4.5h7v7h-7z"),
    "LOST": (gettext_lazy("Lost"), "bad", "M4.5 4.5l7 7m0-7l-7 7"),
    "OPEN": (gettext_lazy("Not ended"), "busy", "M5.5 3.5v9l7-4.5z"),
    "SILENT": (pgettext_lazy("worker", "Silent"), "bad", f"{_CIRCLE}M8 5v3.5"),
}
_UNKNOWN = ("", "quiet", _CIRCLE)


def tone(status: str) -> str:
    """The tone of a status: good, bad, busy, wait, off or quiet."""
    return STATES.get(status, _UNKNOWN)[1]


def word(status: str) -> str:
    """The word for a status in the active language."""
    return str(STATES.get(status, (status,))[0])


def icon_path(status: str) -> str:
    """The strokes of a status's icon on a 16 × 16 grid."""
    return STATES.get(status, _UNKNOWN)[2]


def badge(status: str, *, note: str = "") -> SafeString:
    """A status as an icon and a word, in its tone; `note` follows it quietly."""
    quiet = format_html(' <span class="orch-note">{}</span>', note) if note else ""
    return format_html(
        '<span class="orch-badge orch-{}"><svg class="orch-icon" viewBox="0 0 16 16" '
        'aria-hidden="true"><path d="{}"/></svg>{}</span>{}',
        tone(status),
        icon_path(status),
        word(status),
        quiet,
    )


def grouped(number: int) -> str:
    """A number with its thousands apart, as people read it: 12,345."""
    return f"{number:,}"


def level_tone(level: str) -> str:
    """The tone of a log level."""
    return {"ERROR": "bad", "CRITICAL": "bad", "WARNING": "wait"}.get(level, "quiet")


def moment(value: datetime | None) -> str:
    """A time of day, with its date unless that is today's; the title is exact."""
    if value is None:
        return ""
    local = timezone.localtime(value)
    today = timezone.localtime().date()
    if local.date() == today:
        date = ""
    elif local.year == today.year:
        date = date_format(local, "j M ")
    else:
        date = date_format(local, "j M Y ")
    return format_html(
        '<time class="orch-time" datetime="{}" title="{}">{}<b>{}</b></time>',
        local.isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S.%f} {local.tzname()}",
        date,
        f"{local:%H:%M:%S}",
    )


def span(length: timedelta) -> str:
    """A length of time in its largest units: `34 ms`, `1.2 s`, `3 min 4 s`."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 1:
        return gettext("%d ms") % round(seconds * 1000)
    if seconds < 10:
        return gettext("%s s") % f"{seconds:.1f}"
    whole = round(seconds)
    if whole < 60:
        return gettext("%d s") % whole
    if whole < 3600:
        return gettext("%(minutes)d min %(seconds)d s") % {
            "minutes": whole // 60,
            "seconds": whole % 60,
        }
    if whole < 86_400:
        return gettext("%(hours)d h %(minutes)d min") % {
            "hours": whole // 3600,
            "minutes": whole % 3600 // 60,
        }
    return gettext("%(days)d d %(hours)d h") % {
        "days": whole // 86_400,
        "hours": whole % 86_400 // 3600,
    }


def took(start: datetime | None, end: datetime | None, *, counting: bool = True) -> str:
    """How long it took. What goes on is counted in the browser, second by second,
    or with `counting=False` said once, as it is now."""
    if start is None:
        return ""
    if end is None and not counting:
        return span(timezone.now() - start)
    if end is None:
        return format_html(
            '<span class="orch-elapsed" data-since="{}">…</span>',
            int(start.timestamp() * 1000),
        )
    return span(end - start)


def task(names: tuple[str, str] | None) -> str:
    """A task by its workflow's name and its own; once where they are the same."""
    if names is None:
        return gettext("unregistered task")
    workflow, name = names
    return name if workflow == name else f"{workflow} / {name}"


def short_id(row: Run | TaskRun) -> str:
    """The part of an id that differs between neighbours; the whole is its title."""
    return f"…{str(row.pk)[-8:]}"
