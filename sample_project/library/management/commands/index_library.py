"""The sample's main job, from a terminal."""

from __future__ import annotations

import time
from argparse import ArgumentParser, BooleanOptionalAction
from collections import defaultdict
from difflib import get_close_matches
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from orchestrator import RunHandle
from orchestrator.models import Run
from orchestrator.states import RunStatus
from sample_project.library import counting, indexing
from sample_project.library.installed import Installed, installed, normalise
from sample_project.library.models import Document
from sample_project.library.workflows import index_distribution

POLL_SECONDS = 0.5
PRINT_SECONDS = 2.0
"""Between two lines of progress where the output is no terminal."""

START_SECONDS, STALL_SECONDS = 5.0, 60.0
"""How long nothing may happen, before the first start and later, until it is said."""

MAX_NAMED = 20
"""How many broken files of a kind are named; `library_counts --broken` names all."""


class Command(BaseCommand):
    help = (
        "Index the README and the docstrings of every installed Python distribution: "
        "one run of the workflow index-distribution for each. Needs a running worker. "
        "Exits with 1 unless every run completed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--only",
            metavar="NAME",
            action="append",
            help="Index this distribution alone; may be given several times.",
        )
        parser.add_argument(
            "--limit", metavar="N", type=int, help="Index the first N, by name."
        )
        parser.add_argument(
            "--wait",
            action=BooleanOptionalAction,
            default=True,
            help="Wait until every run has ended, and report (default).",
        )

    def handle(
        self, *, only: list[str] | None, limit: int | None, wait: bool, **options: Any
    ) -> None:
        started = time.monotonic()
        everything = installed()
        chosen = _choose(everything, only, limit)
        # One transaction: what is forgotten and what is enqueued are seen together.
        with transaction.atomic():
            if len(chosen) == len(everything):
                indexing.forget_others(chosen)
            # The metadata is what the list of runs shows, and finds.
            handles = index_distribution.enqueue_many(
                index_distribution.using(metadata={"distribution": one.name}).bind(one)
                for one in chosen
            )
        self.stdout.write(f"Enqueued {_number(len(handles), 'run')}.")
        if not wait:
            self.stdout.write("Watch them in admin, or see manage.py library_counts.")
            return
        names = [one.name for one in chosen]
        try:
            self._watch(handles, names)
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped waiting. The runs go on: watch them in admin.", returncode=130
            ) from None
        self._report(handles, names, time.monotonic() - started)

    def _watch(self, handles: list[RunHandle[Any]], names: list[str]) -> None:
        """Print progress until every run has ended."""
        runs = Run.objects.filter(pk__in=[handle.id for handle in handles])
        documents = Document.objects.filter(distribution__name__in=names)
        terminal = self.stdout.isatty()
        before: tuple[int, int, int] | None = None
        changed = printed = time.monotonic()
        told = False
        while True:
            unfinished = runs.unfinished().count()
            running = runs.with_status(RunStatus.RUNNING).count()
            now = len(handles) - unfinished, running, documents.count()
            moment = time.monotonic()
            if now != before:
                before, changed, told = now, moment, False
            if terminal or not unfinished or moment - printed >= PRINT_SECONDS:
                printed = moment
                self._progress(len(handles), *now, last=not unfinished)
            if not unfinished:
                return
            begun = now[0] + running
            if not told and moment - changed > (
                STALL_SECONDS if begun else START_SECONDS
            ):
                told = True
                self._tell_to_start_a_worker(begun=bool(begun))
            time.sleep(POLL_SECONDS)

    def _progress(
        self, total: int, done: int, running: int, documents: int, *, last: bool
    ) -> None:
        line = (
            f"{done:,} of {total:,} done, {running:,} running, {documents:,} documents"
        )
        if self.stdout.isatty():
            line, ending = f"\r{line:<70}", "\n" if last else ""
        else:
            ending = "\n"
        self.stdout.write(line, ending=ending)
        self.stdout.flush()

    def _tell_to_start_a_worker(self, *, begun: bool) -> None:
        seen = (
            f"Nothing has happened for {STALL_SECONDS:.0f} seconds."
            if begun
            else "Nothing has started yet."
        )
        self.stderr.write(
            f"\n{seen} Is a worker running? In another terminal:\n"
            "    python manage.py runworker\n"
            "Still waiting; Ctrl-C ends the waiting, not the runs."
        )

    def _report(
        self, handles: list[RunHandle[Any]], names: list[str], seconds: float
    ) -> None:
        total = counting.Counts()
        for counts in counting.count(names).values():
            total.add(counts)
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in total.documents.items())
        self.stdout.write(
            f"{_number(total.total, 'document')} ({kinds}) from "
            f"{_number(total.files, 'file')} in {seconds:.1f} s."
        )
        self._report_broken(names)
        failed = [
            run
            for run in Run.objects.filter(pk__in=[handle.id for handle in handles])
            if run.outcome_status != RunStatus.COMPLETED
        ]
        for run in failed:
            self.stderr.write(f"{run.input['name']}: {run.status} {_why(run)}")
        if failed:
            raise CommandError(
                f"{len(failed)} of {_number(len(handles), 'run')} did not complete. "
                "Look at them in admin, and retry them there."
            )
        self.stdout.write(
            self.style.SUCCESS(f"{_number(len(handles), 'run')} completed.")
        )

    def _report_broken(self, names: list[str]) -> None:
        groups: dict[str, list[str]] = defaultdict(list)
        for distribution, path, problem in counting.broken_files(names):
            kind, _, detail = problem.partition(": ")
            where = f"{distribution} {path}"
            groups[kind].append(f"{where}: {detail}" if detail else where)
        for kind, files in groups.items():
            self.stdout.write(f"Not indexed, {kind}: {_number(len(files), 'file')}")
            for file in files[:MAX_NAMED]:
                self.stdout.write(f"    {file}")
            if len(files) > MAX_NAMED:
                self.stdout.write(
                    f"    and {len(files) - MAX_NAMED:,} more, which "
                    "manage.py library_counts --broken names"
                )


def _choose(
    everything: list[Installed], only: list[str] | None, limit: int | None
) -> list[Installed]:
    if limit is not None and limit < 1:
        raise CommandError(f"--limit must be at least 1, not {limit}.")
    if only is not None:
        by_name = {normalise(one.name): one for one in everything}
        for name in only:
            if normalise(name) not in by_name:
                close = get_close_matches(normalise(name), by_name, n=1)
                hint = f" Did you mean {by_name[close[0]].name}?" if close else ""
                raise CommandError(f"No distribution {name!r} is installed.{hint}")
        wanted = {normalise(name) for name in only}
        everything = [one for name, one in by_name.items() if name in wanted]
    if not everything:
        raise CommandError(
            "No installed Python distribution was found in sys.path. Run this with the "
            "Python of a virtual environment that has some."
        )
    return everything[:limit]


def _why(run: Run) -> str:
    """Its reason, and the error of each task that failed, in a line."""
    reasons = [run.status_reason] if run.status_reason else []
    for task_run in run.task_runs():
        if task_run.outcome_status == RunStatus.FAILED and (error := task_run.error):
            reasons.append(f"{task_run.name}: {error['type']}: {error['message']}")
    return "; ".join(reasons)


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
