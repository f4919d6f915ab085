"""How many runs a list would show that it does not show yet: the "n new" link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string

from orchestrator.models import Run
from orchestrator_ui.views.criteria import Criteria

TARGET = "runs-newer"
CAP = 99


@dataclass(frozen=True)
class Shown:
    """The rows of a page: their ids, and whether older ones follow it."""

    ids: tuple[UUID, ...]
    has_older: bool

    def dump(self) -> list[Any]:
        return [[key.hex for key in self.ids], self.has_older]

    @classmethod
    def load(cls, dumped: list[Any]) -> Shown:
        keys, has_older = dumped
        return cls(tuple(UUID(key) for key in keys), bool(has_older))


def count(criteria: Criteria, shown: Shown) -> int:
    """How many there are, at most CAP + 1. Runs that came to match count as well."""
    runs = criteria.apply(Run.objects.exclude(pk__in=shown.ids))
    if shown.has_older:
        runs = runs.filter(pk__gt=shown.ids[-1])
    return len(runs.order_by("-pk").values_list("pk", flat=True)[: CAP + 1])


def fragments(criteria: Criteria, shown: Shown) -> dict[str, str]:
    """The link that loads the list again, empty where nothing is new."""
    found = count(criteria, shown)
    html = render_to_string(
        "orchestrator_ui/lists/newer.html",
        {
            "target": TARGET,
            "count": min(found, CAP),
            "more": found > CAP,
            "query": criteria.query_string(),
        },
    )
    return {TARGET: html}
