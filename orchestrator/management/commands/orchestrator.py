"""`manage.py orchestrator`: the engine from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orchestrator.engine import inspect
from orchestrator.engine.sessions import django_session

SHOWN = 50


class Command(BaseCommand):
    """Subcommands; exit status 0 when all is well, 1 otherwise."""

    help = "Look after the orchestrator: check its invariants."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        check = commands.add_parser(
            "check",
            help="look in the database for what must never be",
            description=(
                "Checks that every unfinished task run is in exactly one place, that "
                "no row is left over of an ended one, that runs and counters agree "
                "with their tasks, and that no result was accepted twice. Reads whole "
                "tables in one read-only snapshot; safe beside running workers."
            ),
        )
        check.add_argument(
            "--at-rest",
            action="store_true",
            help="also expect that no work is left, after the workers have drained it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        found = inspect.violations(django_session(), at_rest=options["at_rest"])
        for violation in found[:SHOWN]:
            self.stderr.write(f"{violation.rule}: {violation.text}")
        if len(found) > SHOWN:
            self.stderr.write(f"… and {len(found) - SHOWN} more.")
        if found:
            raise CommandError(
                f"{len(found)} violations. Nothing was changed. Please report them "
                f"with the version of PostgreSQL and what the workers did before."
            )
        rules = ["every invariant holds"]
        if options["at_rest"]:
            rules.append("no work is left")
        self.stdout.write(self.style.SUCCESS(", ".join(rules).capitalize() + "."))
