"""`manage.py orchestrator`: the engine from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orchestrator.durable.replay import replay
from orchestrator.engine import inspect
from orchestrator.engine.sessions import django_session
from orchestrator.exceptions import OrchestratorError
from orchestrator.runs import RunHandle

SHOWN = 50


class Command(BaseCommand):
    """Subcommands; exit status 0 when all is well, 1 otherwise."""

    help = "Look after the orchestrator: check its invariants, replay journals."

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

        replay = commands.add_parser(
            "replay",
            help="execute durable tasks over their journals, without effects",
            description=(
                "Executes the durable tasks of a run with today's code: steps, times, "
                "waits and children are what the journal has on record. Says where the "
                "code does something else, or where it would go on. The database is "
                "read-only meanwhile. Exit status 1 where a task diverges."
            ),
        )
        replay.add_argument("run_id", help="the id of the run")
        replay.add_argument("task", nargs="?", help="one of its durable tasks")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["command"] == "replay":
            self.replay(options["run_id"], options["task"])
        else:
            self.look(at_rest=options["at_rest"])

    def replay(self, run_id: str, task: str | None) -> None:
        """Replay the journals of a run and tell what came of it."""
        try:
            done = replay(RunHandle.get(run_id).id, task)
        except OrchestratorError as error:
            raise CommandError(str(error)) from error
        for one in done:
            calls = f"{one.task}: {one.calls} of {one.recorded} calls as on record."
            self.stdout.write(f"{calls} {one.diverged or one.ended}")
        diverged = [one.task for one in done if one.diverged]
        if diverged:
            raise CommandError(
                f"{', '.join(diverged)} would fail with NonDeterminism. Nothing was "
                "changed. Keep the old order of calls, or branch off after the deploy."
            )

    def look(self, *, at_rest: bool) -> None:
        """Look for violations of invariants."""
        found = inspect.violations(django_session(), at_rest=at_rest)
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
        if at_rest:
            rules.append("no work is left")
        self.stdout.write(self.style.SUCCESS(", ".join(rules).capitalize() + "."))
