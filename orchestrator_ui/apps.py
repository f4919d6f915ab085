from __future__ import annotations

from django.apps import AppConfig

from orchestrator_ui import checks


class OrchestratorUIConfig(AppConfig):
    name = "orchestrator_ui"
    label = "orchestrator_ui"
    verbose_name = "Orchestrator"

    def ready(self) -> None:
        """Say what is missing before a page does."""
        checks.install()
