"""Topics: the parts of a page that change, and their fragments by target id.

A fragment is the same for every viewer, so it is rendered once and sent to all: it
holds no payload and nothing that depends on a permission. Language and time zone are
part of the topic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils import timezone, translation

from orchestrator.models import Run
from orchestrator_ui.views import bulk, cells, newer, page, rows
from orchestrator_ui.views.criteria import Criteria

Fragments = dict[str, str]


class Locale(NamedTuple):
    """How words and times are said."""

    language: str
    zone: str

    @classmethod
    def current(cls) -> Locale:
        """The one that the current request is answered in."""
        return cls(
            translation.get_language() or "en", timezone.get_current_timezone_name()
        )


@dataclass(frozen=True)
class RowTopic:
    """The live cells of one run in a list."""

    locale: Locale
    run_id: UUID

    def dump(self) -> list[Any]:
        return ["row", self.run_id.hex]


@dataclass(frozen=True)
class PageTopic:
    """The page of one run."""

    locale: Locale
    run_id: UUID

    def dump(self) -> list[Any]:
        return ["page", self.run_id.hex]


@dataclass(frozen=True)
class NewerTopic:
    """How many runs a list would show that it does not show yet."""

    locale: Locale
    criteria: Criteria
    shown: newer.Shown

    run_id = None

    def dump(self) -> list[Any]:
        return ["newer", self.criteria.pairs, self.shown.dump()]


@dataclass(frozen=True)
class BulkTopic:
    """How far an operation over many runs is."""

    locale: Locale
    operation_id: UUID

    run_id = None  # it changes with any of its runs

    def dump(self) -> list[Any]:
        return ["bulk", self.operation_id.hex]


Topic = RowTopic | PageTopic | NewerTopic | BulkTopic


def load(locale: Locale, dumped: list[Any]) -> Topic:
    """The topic that `dump` wrote. Raises ValueError for anything else."""
    match dumped:
        case ["row", str(run_id)]:
            return RowTopic(locale, UUID(run_id))
        case ["page", str(run_id)]:
            return PageTopic(locale, UUID(run_id))
        case ["newer", list(pairs), list(shown)]:
            criteria = Criteria(tuple((name, value) for name, value in pairs))
            return NewerTopic(locale, criteria, newer.Shown.load(shown))
        case ["bulk", str(operation_id)]:
            return BulkTopic(locale, UUID(operation_id))
        case _:
            raise ValueError("Unknown topic.")


def render(topics: Iterable[Topic]) -> dict[Topic, Fragments]:
    """The fragments of topics as they are now.

    All rows are read together, and the newest runs of a list once for all of it.
    """
    by_locale: dict[Locale, list[Topic]] = defaultdict(list)
    for topic in topics:
        by_locale[topic.locale].append(topic)
    rendered: dict[Topic, Fragments] = {}
    for locale, group in by_locale.items():
        with translation.override(locale.language), timezone.override(_zone(locale)):
            rendered.update(_rows([t for t in group if isinstance(t, RowTopic)]))
            rendered.update(_newer([t for t in group if isinstance(t, NewerTopic)]))
            for topic in group:
                if isinstance(topic, PageTopic):
                    rendered[topic] = page.fragments(topic.run_id)
                elif isinstance(topic, BulkTopic):
                    rendered[topic] = bulk.fragments(topic.operation_id)
    return rendered


def _rows(topics: Collection[RowTopic]) -> dict[Topic, Fragments]:
    if not topics:
        return {}
    wanted = {topic.run_id: topic for topic in topics}
    runs = rows.for_list(Run.objects.filter(pk__in=wanted).order_by())
    return {wanted[row.run.pk]: cells.fragments(row) for row in rows.read(list(runs))}


def _newer(topics: Collection[NewerTopic]) -> dict[Topic, Fragments]:
    newest = {each: newer.newest(each) for each in {t.criteria for t in topics}}
    return {
        topic: newer.fragments(topic.criteria, newest[topic.criteria], topic.shown)
        for topic in topics
    }


def _zone(locale: Locale) -> Any:
    try:
        return ZoneInfo(locale.zone)
    except (ZoneInfoNotFoundError, ValueError):  # a fixed offset has no name here
        return timezone.get_default_timezone()
