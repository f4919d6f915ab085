"""What is indexed, counted in the database."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from sample_project.library import counting
from sample_project.library.models import Document


class Command(BaseCommand):
    help = (
        "Print how many documents are indexed, by distribution and kind, and how many "
        "files they come from."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--json",
            action="store_true",
            dest="as_json",
            help="Print one JSON object: {distribution: {files, broken, unindexed, "
            "documents: {kind: number}}}.",
        )
        how.add_argument(
            "--broken",
            action="store_true",
            help="Print every broken file with the reason instead.",
        )

    def handle(self, *, as_json: bool, broken: bool, **options: Any) -> None:
        if broken:
            for distribution, path, problem in counting.broken_files():
                self.stdout.write(f"{distribution} {path}: {problem}")
            return
        counts = counting.count()
        if as_json:
            self.stdout.write(
                json.dumps(
                    {
                        name: {
                            "files": one.files,
                            "broken": one.broken,
                            "unindexed": one.unindexed,
                            "documents": one.documents,
                        }
                        for name, one in counts.items()
                    },
                    indent=2,
                )
            )
            return
        if not counts:
            self.stdout.write("Nothing is indexed yet: run manage.py index_library.")
            return
        total = counting.Counts()
        for one in counts.values():
            total.add(one)
        widest = max(len("distribution"), *map(len, counts))
        heads = ["files", "broken", *Document.Kind.values]
        self.stdout.write(_row(widest, "distribution", heads))
        for name, one in [*counts.items(), ("total", total)]:
            cells = [one.files, one.broken, *one.documents.values()]
            self.stdout.write(_row(widest, name, [f"{cell:,}" for cell in cells]))


def _row(widest: int, name: str, cells: list[str]) -> str:
    return f"{name:<{widest}}" + "".join(f"{cell:>10}" for cell in cells)
