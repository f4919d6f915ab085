"""The workflow on the real engine, over made and really installed distributions."""

from __future__ import annotations

from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RunFailed, RunHandle
from orchestrator.states import RunStatus
from orchestrator.testing import drain, travel
from sample_project.library import counting, indexing, installed
from sample_project.library.installed import METADATA, Installed
from sample_project.library.models import Distribution, Document
from sample_project.library.searching import search
from sample_project.library.workflows import BRANCHES, index_distribution
from tests.library.oracle import expected
from tests.library.trees import NASTY, NASTY_BROKEN, make_distribution

pytestmark = pytest.mark.django_db

INSTALLED = ("Django", "psycopg", "pytest")


def indexed(*chosen: Installed) -> list[RunHandle[Any]]:
    handles = index_distribution.enqueue_many(list(chosen))
    drain()
    return handles


def status(handle: RunHandle[Any]) -> str:
    handle.refresh()
    return handle.status


def documents() -> list[Any]:
    fields = ("pk", "file__path", "kind", "name", "line", "text", "vector")
    return list(Document.objects.order_by("pk").values_list(*fields))


@pytest.fixture
def nasty(tmp_path: Path) -> Installed:
    return make_distribution(
        tmp_path,
        "nasty",
        NASTY,
        readme="# Nasty\n\nA numbat of a package.\n",
        listed=("pkg/shapes.py", "../../../bin/nasty.py"),
    )


def test_a_run_reports_what_it_indexed(nasty: Installed) -> None:
    (handle,) = indexed(nasty)
    outputs = handle.result(timeout=0)
    report = outputs["report"]
    assert report.distribution == "nasty 1.0"
    assert report.documents == {
        "readme": 1,
        "module": 7,
        "class": 2,
        "function": 5,
    }
    assert report.files == len(NASTY) + 1
    assert {file.path for file in report.broken} == NASTY_BROKEN
    assert report.broken_files == len(NASTY_BROKEN)
    parsed = [outputs[f"parse_sources_{branch}"] for branch in range(BRANCHES)]
    assert sum(one.files for one in parsed) == len(NASTY)
    assert outputs["index"] == 15


def test_broken_files_are_named_with_the_reason(nasty: Installed) -> None:
    indexed(nasty)
    assert counting.broken_files() == [
        ("nasty", "pkg/empty.py", "empty"),
        ("nasty", "pkg/not_utf8.py", "not UTF-8: in the first two lines"),
        ("nasty", "pkg/nul.py", "syntax error: " + _nul()),
        ("nasty", "pkg/wrong.py", "syntax error: line 1: invalid syntax"),
    ]


def _nul() -> str:
    """How this Python puts it."""
    try:
        compile("\0", "", "exec")
    except ValueError as error:
        return str(error)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        return f"{where}{error.msg}"
    raise AssertionError


def test_every_document_can_be_searched(nasty: Installed) -> None:
    indexed(nasty)
    assert not Document.objects.filter(vector=None).exists()
    assert [document.kind for document in search("numbat")] == ["readme"]
    assert [document.name for document in search("asynchronously")] == [
        "pkg.shapes.Shape.measure"
    ]
    assert Distribution.objects.get().indexed_at is not None


def test_a_second_run_leaves_the_same_rows(nasty: Installed) -> None:
    indexed(nasty)
    before = documents()
    (handle,) = indexed(nasty)
    assert handle.result(timeout=0)["index"] == 0
    assert documents() == before


def test_two_runs_at_once_leave_each_document_once(nasty: Installed) -> None:
    for handle in indexed(nasty, nasty):
        assert status(handle) == RunStatus.COMPLETED
    assert len(documents()) == 15


def test_a_run_follows_what_changed_on_disk(nasty: Installed, tmp_path: Path) -> None:
    indexed(nasty)
    (tmp_path / "pkg" / "shapes.py").write_text('"""Nothing but a quokka."""\n')
    (tmp_path / "pkg" / "wrong.py").write_text('"""Right."""\n')
    (tmp_path / "pkg" / "bom.py").unlink()
    indexed(nasty)
    assert [document.name for document in search("quokka")] == ["pkg.shapes"]
    assert not Document.objects.filter(name__startswith="pkg.shapes.").exists()
    problems = dict(row[1:] for row in counting.broken_files())
    assert "pkg/wrong.py" not in problems


def test_a_task_that_fails_after_its_write_is_done_again_to_no_effect(
    nasty: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a worker dies between a task's commit and the settling of its result."""
    crashes = {"record_files": 2, "write_documents": 3, "index_documents": 2}

    def crashing(name: str) -> Any:
        write = getattr(indexing, name)

        def wrapped(*arguments: Any) -> Any:
            result = write(*arguments)
            if crashes[name]:
                crashes[name] -= 1
                raise ConnectionError("The worker's connection was lost.")
            return result

        return wrapped

    for name in crashes:
        monkeypatch.setattr(indexing, name, crashing(name))
    (handle,) = index_distribution.enqueue_many([nasty])
    drain()
    for hour in range(1, 8):  # beyond every backoff
        with travel(timedelta(hours=hour)):
            drain()
    assert set(crashes.values()) == {0}
    assert status(handle) == RunStatus.COMPLETED
    assert len(documents()) == 15
    assert not Document.objects.filter(vector=None).exists()


def test_a_distribution_removed_meanwhile_fails_its_run_alone(
    nasty: Installed, tmp_path: Path
) -> None:
    gone = Installed("gone", "1.0", str(tmp_path))
    failed, completed = indexed(gone, nasty)
    with pytest.raises(RunFailed) as caught:
        failed.result(timeout=0)
    (error,) = caught.value.exceptions
    assert "gone is not installed" in str(error)
    assert "index_library" in str(error)
    assert status(completed) == RunStatus.COMPLETED


def test_distributions_that_share_a_file_have_it_each(tmp_path: Path) -> None:
    shared = {"space/__init__.py": '"""Shared."""\n'}
    indexed(
        make_distribution(tmp_path, "one", shared),
        make_distribution(tmp_path, "two", shared),
    )
    assert [counts.total for counts in counting.count().values()] == [1, 1]


def test_a_distribution_without_anything_completes(tmp_path: Path) -> None:
    (handle,) = indexed(make_distribution(tmp_path, "bare", {}))
    assert handle.result(timeout=0)["report"].files == 1


def test_broken_metadata_is_reported_and_its_sources_are_indexed(
    tmp_path: Path,
) -> None:
    make_distribution(
        tmp_path, "cafe", {"cafe.py": '"""Doc."""'}, metadata=b"Name: cafe\n\n\xe9"
    )
    indexed(*installed.installed([str(tmp_path)]))
    ((_, path, problem),) = counting.broken_files()
    assert (path, problem.partition(":")[0]) == (METADATA, "not UTF-8")
    assert counting.count()["cafe"].total == 1


@pytest.mark.parametrize("name", INSTALLED)
def test_counts_are_those_of_a_plain_loop_over_the_files(name: str) -> None:
    distribution = metadata.distribution(name)
    one = Installed(
        distribution.metadata["Name"],
        distribution.version,
        str(distribution.locate_file("")),
    )
    indexed(one)
    wanted, broken = expected(distribution)
    counts = counting.count()[one.name]
    assert counts.documents == wanted
    assert {path for _, path, _ in counting.broken_files()} == broken
    assert counts.unindexed == 0
