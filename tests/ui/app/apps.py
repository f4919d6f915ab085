from __future__ import annotations

from django.apps import AppConfig


class UITestsConfig(AppConfig):
    """Workflows that a person watches in tests of the control plane."""

    name = "tests.ui.app"
    label = "ui_tests"
