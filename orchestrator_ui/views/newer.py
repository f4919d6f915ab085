"""How many runs a list would show that it does not show yet: the "n new" link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string

from orchestrator.models import Run
from orchestrator_ui.views.criteria import Criteria

TARGET = "runs-newer"
CAP = 99
PAGE = 100  # rows that a page has at most


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


def newest(criteria: Criteria) -> list[UUID]:
    """The ids of the newest runs of a list, enough for every first page of it.

    One query for all who look at the list, whenever they have loaded it.
    """
    runs = criteria.apply(Run.objects.order_by("-pk"))
    return list(runs.values_list("pk", flat=True)[: PAGE + CAP + 1])


def count(newest_ids: Sequence[UUID], shown: Shown) -> int:
    """How many of the newest a page does not show, at most about CAP.

    Runs that came to match the filters count as well as new ones.
    """
    known = set(shown.ids)
    least = shown.ids[-1] if shown.has_older else None
    return sum(
        key not in known and (least is None or key > least) for key in newest_ids
    )


def fragments(
    criteria: Criteria, newest_ids: Sequence[UUID], shown: Shown
) -> dict[str, str]:
    """The link that loads the list again, empty where nothing is new."""
    found = count(newest_ids, shown)
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
