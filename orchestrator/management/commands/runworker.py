"""`manage.py runworker`: execute tasks until a signal ends it."""

from __future__ import annotations

import difflib
import socket
from collections.abc import Iterable
from typing import Any

from django.core.management import load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser

from orchestrator import registry
from orchestrator.conf import settings
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import OrchestratorError
from orchestrator.management.console import show_log
from orchestrator.worker.process import WorkerOptions
from orchestrator.worker.supervisor import Supervisor


class Command(BaseCommand):
    """Execute tasks. SIGTERM or Ctrl-C: finish what runs; again: end at once."""

    help = (
        "Execute tasks of this project. SIGTERM or Ctrl-C lets running tasks finish "
        "within the grace time; a second one ends it at once."
    )
    leave_locale_alone = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Our options, and those by which Channels' command of this name is known."""
        parser.add_argument(
            "--queues",
            default="",
            metavar="A,B",
            help="Only these queues, in strict order. Default: all, taking turns.",
        )
        parser.add_argument(
            "--slots",
            type=positive,
            default=10,
            metavar="N",
            help="Sync tasks at once, for each process. Default: 10.",
        )
        parser.add_argument(
            "--async-slots",
            type=positive,
            default=None,
            metavar="N",
            help="Async tasks at once, for each process. Default: 10 × --slots.",
        )
        parser.add_argument(
            "--durable-slots",
            type=positive,
            default=None,
            metavar="N",
            help="Durable sync tasks at once, and as many async ones, for each "
            "process. Default: as --slots, and as --async-slots.",
        )
        parser.add_argument(
            "--processes",
            type=positive,
            default=1,
            metavar="N",
            help="Child processes; as many as there are cores for CPU-bound tasks.",
        )
        parser.add_argument(
            "--label",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="A label of this worker; may be given several times.",
        )
        parser.add_argument(
            "--grace",
            type=float,
            default=None,
            metavar="SECONDS",
            help="Time for running tasks after SIGTERM. Default: GRACE in settings.",
        )
        parser.add_argument(
            "--name", default=None, help="How it is shown. Default: the host's name."
        )
        parser.add_argument(
            "--layer", default=None, help="Channels' runworker instead."
        )
        parser.add_argument(
            "channels", nargs="*", help="Channels' runworker instead, with these."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check what was asked for, and serve."""
        if options["channels"] or options["layer"]:
            self.run_channels(options)
            return
        show_log()
        try:
            registry.autodiscover()
            shapes = registry.shapes()
            chosen = worker_options(options)
            self.check_workflows(shapes)
            self.check_queues(shapes, chosen.queues)
            self.check_costs(shapes, chosen)
            code = Supervisor(chosen, shapes).run()
        except OrchestratorError as error:
            raise CommandError(str(error)) from error
        if code:
            raise SystemExit(code)

    def check_workflows(self, shapes: list[Shape]) -> None:
        """Refuse to serve nothing."""
        if not shapes:
            raise CommandError(
                "No workflow is declared. Write one in workflows.py or tasks.py of an "
                "installed app, or check INSTALLED_APPS."
            )

    def check_queues(self, shapes: list[Shape], queues: Iterable[str]) -> None:
        """Warn of queues that nothing is declared for; runs may be sent there still."""
        known = {shape.queue_name for shape in shapes}
        known |= {task.queue_name for shape in shapes for task in shape.tasks}
        for name in queues:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                self.stderr.write(
                    self.style.WARNING(
                        f"No workflow uses the queue {name!r}; declared queues are "
                        f"{', '.join(sorted(known))}.{hint}"
                    )
                )

    def check_costs(self, shapes: list[Shape], chosen: WorkerOptions) -> None:
        """Warn of tasks that take more slots than there are: they are never claimed."""
        for shape in shapes:
            for node in shape.tasks:
                task = registry.task(node.id)
                on_loop = task is not None and task.is_async and not node.isolated
                if task is not None and task.durable:
                    there = (
                        chosen.durable_async_slots if on_loop else chosen.durable_slots
                    )
                    option = "--durable-slots"
                elif on_loop:
                    there, option = chosen.async_slots, "--async-slots"
                else:
                    there, option = chosen.slots, "--slots"
                if node.slot_cost > there:
                    self.stderr.write(
                        self.style.WARNING(
                            f'Task "{node.name}" of workflow "{shape.workflow}" takes '
                            f"{node.slot_cost} slots and this worker has {there}: it "
                            f"leaves it to others. Give it more with {option}."
                        )
                    )

    def run_channels(self, options: dict[str, Any]) -> None:
        """Hand over to the command of Channels, which has the same name."""
        try:
            command = load_command_class("channels", "runworker")
        except ImportError:
            raise CommandError(
                "Positional arguments and --layer belong to Channels' runworker, and "
                "channels is not installed. For tasks use --queues."
            ) from None
        if not options["channels"]:
            raise CommandError("Name the channels that --layer is to be used for.")
        if options["layer"] is None:
            options.pop("layer")
        command.handle(**options)


def worker_options(options: dict[str, Any]) -> WorkerOptions:
    """The command line as the supervisor takes it; raises CommandError."""
    queues = tuple(dict.fromkeys(filter(None, options["queues"].split(","))))
    labels = []
    for text in options["label"]:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise CommandError(f"--label {text} is not KEY=VALUE.")
        labels.append((key, value))
    grace = options["grace"]
    if grace is not None and grace < 0:
        raise CommandError(f"--grace {grace:g} is negative.")
    slots = options["slots"]
    async_slots = options["async_slots"] or 10 * slots
    return WorkerOptions(
        name=options["name"] or socket.gethostname(),
        queues=tuple(name.strip() for name in queues),
        slots=slots,
        async_slots=async_slots,
        durable_slots=options["durable_slots"] or slots,
        durable_async_slots=options["durable_slots"] or async_slots,
        processes=options["processes"],
        labels=tuple(labels),
        grace=settings.grace.total_seconds() if grace is None else grace,
    )


def positive(text: str) -> int:
    """A number of at least one, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
