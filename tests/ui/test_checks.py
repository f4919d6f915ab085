"""What the pages need is named before one of them fails."""

from __future__ import annotations

from typing import Any

from orchestrator_ui import checks


def test_django_htmx_is_missed_by_name(settings: Any) -> None:
    assert checks.check_htmx(app_configs=None) == []
    names = [app for app in settings.INSTALLED_APPS if app != "django_htmx"]
    settings.INSTALLED_APPS = names
    (message,) = checks.check_htmx(app_configs=None)
    assert message.id == "orchestrator_ui.E001"
    assert "Add 'django_htmx'" in str(message.hint)
