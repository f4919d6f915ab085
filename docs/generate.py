"""Write the parts of the documentation that follow from the code.

    python docs/generate.py

Each part stands in its page between `<!-- generated: NAME -->` and `<!-- end -->`.
`tests/test_docs.py` fails where the committed text is not what the code gives now.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import django

DOCS = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- generated: ([\w:.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# What the enum values are, for the tables beneath the diagrams.
MEANING = {
    "run": {
        "QUEUED": "enqueued, no task has started",
        "RUNNING": "a task has started, not all have ended",
        "COMPLETED": "every task completed or was skipped",
        "FAILED": "at least one task failed",
        "CANCELLED": "no task failed, at least one was cancelled",
    },
    "task-run": {
        "PENDING": "waits for its parents, then for its conditions (`Wait`)",
        "SCHEDULED": "its caller asked for a later time (`DelayedItem`)",
        "QUEUED": "ready to be claimed (`QueueItem`)",
        "RUNNING": "held by a worker (`Lease`)",
        "BACKOFF": "an attempt failed, another is due later (`DelayedItem`)",
        "WAITING": "a durable task waits, without a slot (`Wait`)",
        "COMPLETED": "the function returned",
        "FAILED": "the last attempt failed, or its workers died too often",
        "CANCELLED": "by an operator, a condition, a timeout, a parent or itself",
        "SKIPPED": "all its parents were skipped, or a condition left it out",
    },
    "worker": {
        "ACTIVE": "claims and executes",
        "PAUSED": "executes what it has; nothing sets it yet",
        "DRAINING": "was told to stop: finishes what it runs, claims nothing",
        "STOPPED": "ended in good order",
        "LOST": "its heartbeat stopped; what it held was given to others",
    },
}


def states(which: str) -> str:
    """The diagram of one state machine, and its table."""
    from orchestrator import states

    transitions: Any = {
        "run": states.RUN_TRANSITIONS,
        "task-run": states.TASK_RUN_TRANSITIONS,
        "worker": states.WORKER_TRANSITIONS,
    }[which]
    lines = ["```mermaid", states.mermaid(transitions), "```", ""]
    lines += ["| Status | Means | Followed by |", "| --- | --- | --- |"]
    for status, following in transitions.items():
        order: list[Any] = list(type(status))  # type: ignore[call-overload]
        after = ", ".join(s.value for s in sorted(following, key=order.index))
        meaning = MEANING[which][status.value]
        lines.append(f"| `{status.value}` | {meaning} | {after or 'the end'} |")
    return "\n".join(lines)


def tables(family: str) -> str:
    """The tables of one family, with their columns and indexes."""
    from django.db import connection

    from orchestrator import models

    lines = []
    for name in FAMILIES[family]:
        model = getattr(models, name)
        meta = model._meta
        summary = (inspect.getdoc(model) or "").partition("\n\n")[0].replace("\n", " ")
        lines += [f"### `{meta.db_table}`", "", f"`{name}`. {summary}", ""]
        lines += ["| Column | Type | |", "| --- | --- | --- |"]
        for field in meta.local_concrete_fields:
            kind = re.sub(
                r"varchar\((\d+)\)", r"varchar(\1)", field.db_type(connection)
            )
            notes = []
            if field.primary_key:
                notes.append("primary key")
            if field.null:
                notes.append("may be null")
            lines.append(f"| `{field.column}` | {kind} | {', '.join(notes)} |")
        if meta.pk.name == "pk":
            columns = ", ".join(field.column for field in meta.pk.fields)
            lines += ["", f"Primary key: `({columns})`."]
        if meta.indexes:
            names = ", ".join(f"`{index.name}`" for index in meta.indexes)
            lines += ["", f"Indexes: {names}."]
        lines.append("")
    return "\n".join(lines).rstrip()


FAMILIES = {
    "definitions": ("Queue", "Workflow", "WorkflowVersion", "Task"),
    "live": (
        *("QueueItem", "DelayedItem", "Lease", "Wait", "WaitCondition", "OpenRun"),
        *("Deadline", "EventItem", "Progress", "IdempotencyKey"),
    ),
    "history": (
        *("Run", "TaskRun", "Attempt", "Event", "JournalEntry", "LogLine"),
        "StreamChunk",
    ),
    "operation": ("Worker", "Duty", "BulkOperation", "AuditEntry"),
}


def command(name: str) -> str:
    """The options of one of our management commands."""
    from django.core.management import load_command_class
    from django.core.management.base import BaseCommand

    theirs = {
        action.dest
        for action in BaseCommand().create_parser("manage.py", name)._actions
    }
    parser = load_command_class("orchestrator", name).create_parser("manage.py", name)
    return _options(parser, theirs)


def _options(parser: argparse.ArgumentParser, theirs: set[str]) -> str:
    lines = ["| Option | |", "| --- | --- |"]
    subcommands = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            subcommands += list(action.choices.items())
        elif action.dest not in theirs:
            name = ", ".join(action.option_strings) or action.dest
            if action.nargs != 0 and action.option_strings:
                name += f" {action.metavar or action.dest.upper()}"
            help_text = (action.help or "").replace("|", "\\|")
            lines.append(f"| `{name}` | {help_text} |")
    if len(lines) == 2:
        lines = ["It takes no options of its own."] if not subcommands else []
    for name, sub in subcommands:
        lines += [f"**`{name}`**: {sub.description or ''}", ""]
        lines += [_options(sub, theirs), ""]
    return "\n".join(lines).rstrip()


MAKERS: Mapping[str, Callable[[str], str]] = {
    "states": states,
    "tables": tables,
    "command": command,
}


def renewed(text: str) -> str:
    """A page with its generated parts as the code gives them now."""

    def part(match: re.Match[str]) -> str:
        maker, _, argument = match[2].partition(":")
        return f"{match[1]}{MAKERS[maker](argument)}\n{match[3]}"

    return PART.sub(part, text)


def pages() -> list[Path]:
    """The pages that have generated parts."""
    return [
        page
        for page in sorted(DOCS.rglob("*.md"))
        if "_build" not in page.parts and PART.search(page.read_text())
    ]


def main() -> None:
    """Renew every page."""
    sys.path.insert(0, str(DOCS.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_project.settings")
    django.setup()
    for page in pages():
        page.write_text(renewed(page.read_text()))


if __name__ == "__main__":
    main()
