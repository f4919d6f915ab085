"""What operators may do to runs, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext, gettext_lazy, ngettext

from orchestrator import operations
from orchestrator.states import TERMINAL_RUN, RunStatus


@dataclass(frozen=True)
class Verb:
    """One thing that an operator does to runs."""

    name: str
    permission: str
    label: Any
    perform: Callable[..., Any]
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
            "rerun": ngettext(
                "%d of them stays as it is.", "%d of them stay as they are.", count
            ),
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


VERBS = {
    each.name: each
    for each in (
        Verb(
            "cancel",
            "orchestrator.cancel_run",
            gettext_lazy("Cancel"),
            operations.cancel_runs,
            frozenset(RunStatus) - TERMINAL_RUN,
        ),
        Verb(
            "retry",
            "orchestrator.retry_run",
            gettext_lazy("Retry"),
            operations.retry_runs,
            frozenset({RunStatus.FAILED, RunStatus.CANCELLED}),
        ),
        Verb(
            "rerun",
            "orchestrator.rerun_run",
            gettext_lazy("Rerun"),
            operations.rerun_runs,
            frozenset(RunStatus),
        ),
    )
}


def word(name: str) -> str:
    """A verb of a bulk operation, as its name says it."""
    if name == "reprioritise":
        return gettext("Reprioritise")
    return str(VERBS[name].label) if name in VERBS else name
