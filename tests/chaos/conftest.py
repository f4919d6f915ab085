"""A server, a healthy worker and a scheduler that the tests of a module share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from sample_project import embedded
from sample_project.embedded.base import server as handle_of
from tests.acceptance.harness import Harness
from tests.chaos.rig import url


@pytest.fixture(scope="module")
def ground(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[Harness]:
    """Processes on a server of the module's own, which is this process's, too."""
    directory = tmp_path_factory.mktemp("ground")
    before = connections["default"]
    handler = connections.__class__({"default": embedded.database(directory / "pg")})
    connections["default"] = handler["default"]
    server = embedded.EmbeddedServer(directory / "pg")
    harness = Harness(directory)
    harness.options |= {"LOST_AFTER": 2.0, "HEARTBEAT": 0.4}
    try:
        with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
            patch.setenv("DATABASE_URL", url(server))
            call_command("migrate", verbosity=0)
            yield harness
            handler["default"].close()
    finally:
        harness.close()
        connections["default"] = before
        handle_of(directory / "pg", fast=False).release()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The file in which tasks tell what they do."""
    path = tmp_path / "trace"
    path.touch()
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes printed where a test fails."""
    report = yield
    harness = getattr(item, "funcargs", {}).get("ground")
    if report.failed and isinstance(harness, Harness):
        report.sections.append(("processes", harness.logs()))
    return report
