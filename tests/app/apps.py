from __future__ import annotations

from django.apps import AppConfig


class TestsAppConfig(AppConfig):
    """Workflows and models that only the tests use."""

    name = "tests.app"
    label = "tests_app"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Declare what the acceptance tests execute, besides `tasks`."""
        from tests.app import (  # noqa: F401 - declare
            conditions,
            says,
            scenarios,
            scenarios_of_conditions,
        )
