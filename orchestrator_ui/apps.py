from __future__ import annotations

from django.apps import AppConfig


class OrchestratorUIConfig(AppConfig):
    name = "orchestrator_ui"
    label = "orchestrator_ui"
    verbose_name = "Orchestrator"
