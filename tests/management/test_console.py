"""A worker that works says so."""

from __future__ import annotations

import logging

import pytest

from orchestrator.management.console import show_log


def unconfigured(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The engine's logger in a project that configures none, nor pytest."""
    logger = logging.getLogger("orchestrator")
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    return logger


def test_the_log_is_shown_where_nobody_has_configured_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = unconfigured(monkeypatch)
    show_log()
    show_log()
    logger.info("Worker %s.", "here")
    assert capsys.readouterr().err == "Worker here.\n"


def test_the_projects_own_logging_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = unconfigured(monkeypatch)
    logger.addHandler(logging.NullHandler())
    show_log()
    assert len(logger.handlers) == 1
    assert logger.level == logging.NOTSET
