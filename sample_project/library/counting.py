"""Counts of what is indexed, read from the database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from django.db.models import Count, Q

from .models import Document, SourceFile


@dataclass
class Counts:
    """Of one distribution, or of several together. `documents` is by kind and has
    every kind; `unindexed` of them are not searchable yet."""

    files: int = 0
    broken: int = 0
    documents: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(Document.Kind.values, 0)
    )
    unindexed: int = 0

    @property
    def total(self) -> int:
        return sum(self.documents.values())

    def add(self, other: Counts) -> None:
        self.files += other.files
        self.broken += other.broken
        self.unindexed += other.unindexed
        for kind, number in other.documents.items():
            self.documents[kind] += number


def count(names: Collection[str] | None = None) -> dict[str, Counts]:
    """Counts by distribution name, ordered by name; of all, or of those in `names`."""
    files = SourceFile.objects.order_by("distribution__name")
    documents = Document.objects.order_by()
    if names is not None:
        files = files.filter(distribution__name__in=names)
        documents = documents.filter(distribution__name__in=names)
    counts = {
        name: Counts(files=total, broken=broken)
        for name, total, broken in files.values_list("distribution__name").annotate(
            total=Count("pk"), bad=Count("pk", filter=~Q(problem=""))
        )
    }
    for name, kind, number, unindexed in documents.values_list(
        "distribution__name", "kind"
    ).annotate(total=Count("pk"), waiting=Count("pk", filter=Q(vector=None))):
        one = counts.setdefault(name, Counts())
        one.documents[kind] = number
        one.unindexed += unindexed
    return counts


def broken_files(names: Collection[str] | None = None) -> list[tuple[str, str, str]]:
    """(distribution, path, problem) of each broken file, ordered by these."""
    files = SourceFile.objects.exclude(problem="")
    if names is not None:
        files = files.filter(distribution__name__in=names)
    return list(
        files.order_by("distribution__name", "path").values_list(
            "distribution__name", "path", "problem"
        )
    )
