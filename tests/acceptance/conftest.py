"""What acceptance tests have in common."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Harness


@pytest.fixture
def harness(transactional_db: None, tmp_path: Path) -> Iterator[Harness]:
    """Processes on this test's database; fails the test if one is left at its end."""
    harness = Harness(tmp_path)
    yield harness
    harness.close()


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
    harness = getattr(item, "funcargs", {}).get("harness")
    if report.failed and isinstance(harness, Harness):
        report.sections.append(("processes", harness.logs()))
    return report
