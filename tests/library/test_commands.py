from __future__ import annotations

import json
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from orchestrator.models import Run
from orchestrator.testing import drain
from sample_project.library import counting
from sample_project.library.installed import Installed, installed
from sample_project.library.management.commands import index_library
from sample_project.library.models import Distribution
from tests.library.trees import NASTY, make_distribution

pytestmark = pytest.mark.django_db


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that holds all that is installed."""
    make_distribution(tmp_path, "nasty", NASTY, readme="Read me.")
    make_distribution(tmp_path, "My.Tool", {"tool.py": '"""Tool."""\n'})
    monkeypatch.setattr(index_library, "installed", lambda: installed([str(tmp_path)]))
    return tmp_path


@pytest.fixture
def _worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is done whenever the command sleeps."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: drain())
    monkeypatch.setattr(index_library, "time", clock)


def called(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.mark.usefixtures("site", "_worker")
def test_everything_installed_is_indexed_and_reported() -> None:
    out, err = called("index_library")
    assert "Enqueued 2 runs." in out
    assert "2 of 2 done, 0 running, 16 documents" in out
    assert "16 documents (readme 1, module 8, class 2, function 5) from" in out
    assert "Not indexed, empty: 1 file\n    nasty pkg/empty.py\n" in out
    assert "nasty pkg/wrong.py: line 1: invalid syntax" in out
    assert "2 runs completed." in out
    assert err == ""


@pytest.mark.usefixtures("site")
def test_without_waiting_runs_are_enqueued_only() -> None:
    out, _ = called("index_library", "--no-wait")
    assert "Enqueued 2 runs." in out
    assert Run.objects.unfinished().count() == 2
    assert counting.count() == {}


@pytest.mark.usefixtures("site")
def test_some_can_be_chosen_by_name_or_number() -> None:
    for arguments, names in {
        ("--limit", "1"): ["My.Tool"],
        ("--only", "my_tool"): ["My.Tool"],
        ("--only", "NASTY", "--only", "my-tool"): ["My.Tool", "nasty"],
    }.items():
        before = set(Run.objects.values_list("pk", flat=True))
        called("index_library", "--no-wait", *arguments)
        runs = Run.objects.exclude(pk__in=before)
        assert sorted(run.input["name"] for run in runs) == names


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nastie"], "No distribution 'nastie' is installed. Did you mean"),
        (["--only", "zzz"], "No distribution 'zzz' is installed."),
        (["--limit", "0"], "--limit must be at least 1, not 0."),
    ],
)
def test_a_wrong_choice_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        called("index_library", "--no-wait", *arguments)
    assert not Run.objects.exists()


def test_an_environment_with_nothing_installed_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_library, "installed", list)
    with pytest.raises(CommandError, match="No installed Python distribution"):
        called("index_library")


@pytest.mark.usefixtures("_worker")
def test_a_failed_run_fails_the_command_and_says_why(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Installed("gone", "1.0", str(site))
    everything = installed([str(site)])
    monkeypatch.setattr(index_library, "installed", lambda: [gone, *everything])
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match=r"1 of 3 runs did not complete") as caught:
        call_command("index_library", stdout=out, stderr=err)
    assert caught.value.returncode == 1
    assert "gone: FAILED" in err.getvalue()
    assert "gone is not installed" in err.getvalue()
    assert "16 documents" in out.getvalue()


@pytest.mark.usefixtures("site", "_worker")
def test_what_is_no_longer_installed_is_forgotten_by_a_full_run_only() -> None:
    Distribution.objects.create(name="old", version="1", location="/")
    called("index_library", "--only", "nasty")
    assert Distribution.objects.filter(name="old").exists()
    called("index_library")
    assert not Distribution.objects.filter(name="old").exists()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets every sleep take `seconds`, and ends the waiting after `sleeps` of them,
    as Ctrl-C does; `then(n)` is called in the n-th."""

    def install(seconds: float, sleeps: int, then: Any = lambda n: None) -> None:
        now, slept = [0.0], [0]

        def sleep(_: float) -> None:
            now[0] += seconds
            slept[0] += 1
            then(slept[0])
            if slept[0] >= sleeps:
                raise KeyboardInterrupt

        fake = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
        monkeypatch.setattr(index_library, "time", fake)

    return install


@pytest.mark.usefixtures("site")
def test_without_a_worker_it_says_what_to_start_once(
    clock: Callable[..., None],
) -> None:
    clock(seconds=2, sleeps=30)
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="The runs go on") as caught:
        call_command("index_library", stdout=out, stderr=err)
    assert caught.value.returncode == 130
    assert err.getvalue().count("Nothing has started yet") == 1
    assert "python manage.py runworker" in err.getvalue()
    assert Run.objects.unfinished().count() == 2


def test_counts_are_printed_as_a_table_or_as_json(
    site: Path, monkeypatch: pytest.MonkeyPatch, _worker: None
) -> None:
    assert "run manage.py index_library" in called("library_counts")[0]
    called("index_library")
    table, _ = called("library_counts")
    rows = [line.split() for line in table.splitlines()]
    head = "distribution files broken readme module class function"
    assert rows == [
        head.split(),
        ["My.Tool", "2", "0", "0", "1", "0", "0"],
        ["nasty", "12", "4", "1", "7", "2", "5"],
        ["total", "14", "4", "1", "8", "2", "5"],
    ]
    counts = json.loads(called("library_counts", "--json")[0])
    assert counts["nasty"] == {
        "files": 12,
        "broken": 4,
        "unindexed": 0,
        "documents": {"readme": 1, "module": 7, "class": 2, "function": 5},
    }
    broken, _ = called("library_counts", "--broken")
    assert "nasty pkg/empty.py: empty\n" in broken
