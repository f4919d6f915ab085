"""System checks: what the pages need is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, register


def install() -> None:
    """Have Django run the checks; called once, when the app is ready."""
    register(check_htmx)


def check_htmx(
    *, app_configs: Sequence[AppConfig] | None, **_: Any
) -> list[CheckMessage]:
    """E001: the templates find `django_htmx`, whose scripts keep the pages alive."""
    if apps.is_installed("django_htmx"):
        return []
    return [
        Error(
            "'orchestrator_ui' is in INSTALLED_APPS and 'django_htmx' is not; its "
            "pages load their scripts from there.",
            hint="Add 'django_htmx' to INSTALLED_APPS; it is installed already.",
            id="orchestrator_ui.E001",
        )
    ]
