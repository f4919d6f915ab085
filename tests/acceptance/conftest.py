"""What acceptance tests have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Harness


@pytest.fixture
def harness(transactional_db: None, tmp_path: Path) -> Iterator[Harness]:
    """Processes on this test's database; fails the test if one is left at its end."""
    harness = Harness(tmp_path)
    yield harness
    left = harness.close()
    assert not left, f"Processes were left behind: {left}\n{harness.logs()}"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The file in which tasks tell what they do."""
    path = tmp_path / "trace"
    path.touch()
    return path
