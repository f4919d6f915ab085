"""`manage.py runscheduler`: do what time and dead workers make due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orchestrator import registry
from orchestrator.exceptions import OrchestratorError
from orchestrator.management.console import show_log
from orchestrator.scheduler.loop import Scheduler


class Command(BaseCommand):
    """Run a scheduler until SIGTERM or Ctrl-C. Any number of them may run."""

    help = (
        "Queue what is due, enforce timeouts and rescue the tasks of dead workers. "
        "Any number of schedulers may run; all are equal."
    )
    leave_locale_alone = True

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal ends it."""
        show_log()
        try:
            registry.autodiscover()
            Scheduler(registry.shapes()).run()
        except OrchestratorError as error:
            raise CommandError(str(error)) from error
