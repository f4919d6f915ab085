"""`manage.py runworker`: what it takes, and what it says of what cannot work."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError

from orchestrator import registry, task
from orchestrator.engine import links, sessions
from orchestrator.exceptions import DatabaseTooOld
from orchestrator.worker.process import WorkerOptions
from orchestrator.worker.supervisor import Supervisor


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[WorkerOptions]:
    """What the supervisor is started with, instead of a supervisor."""
    seen: list[WorkerOptions] = []

    def run(self: Supervisor) -> int:
        seen.append(self.options)
        self.selector.close()
        return 0

    monkeypatch.setattr(Supervisor, "run", run)
    return seen


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with registry.isolated():
        registry._workflows.clear()
        registry.changed()
        monkeypatch.setattr(registry, "autodiscover", lambda: None)
        yield


def declare() -> None:
    @task(queue_name="emails")
    def sends() -> None: ...


def test_the_defaults_serve_all_queues_with_ten_slots(
    served: list[WorkerOptions],
) -> None:
    declare()
    call_command("runworker")
    (options,) = served
    assert (options.queues, options.slots, options.async_slots) == ((), 10, 100)
    assert (options.processes, options.labels, options.grace) == (1, (), 25.0)
    assert options.name


def test_everything_can_be_chosen(served: list[WorkerOptions]) -> None:
    declare()
    call_command(
        "runworker",
        "--queues=emails,emails",
        "--slots=3",
        "--async-slots=7",
        "--durable-slots=4",
        "--processes=2",
        "--label=region=eu",
        "--label=gpu=",
        "--grace=0",
        "--name=the worker",
    )
    assert served == [
        WorkerOptions(
            name="the worker",
            queues=("emails",),
            slots=3,
            async_slots=7,
            durable_slots=4,
            durable_async_slots=4,
            processes=2,
            labels=(("region", "eu"), ("gpu", "")),
            grace=0.0,
        )
    ]


def test_a_queue_that_nothing_uses_is_named_with_those_that_are(
    served: list[WorkerOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    declare()
    call_command("runworker", "--queues=email")
    warning = capsys.readouterr().err
    assert "'email'" in warning
    assert "emails" in warning
    assert "Did you mean 'emails'?" in warning
    assert served[0].queues == ("email",)


def test_a_task_that_takes_more_slots_than_there_are_is_named(
    served: list[WorkerOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    @task(slot_cost=5)
    def costly() -> None: ...

    @task(slot_cost=50)
    async def acostly() -> None: ...

    call_command("runworker", "--slots=4")
    warnings = capsys.readouterr().err
    assert 'Task "costly"' in warnings
    assert "--slots" in warnings
    assert 'Task "acostly"' in warnings
    assert "--async-slots" in warnings
    call_command("runworker", "--slots=5")
    assert capsys.readouterr().err == ""
    assert len(served) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slots=0"], "--slots"),
        (["--processes=many"], "--processes"),
        (["--label=novalue"], "KEY=VALUE"),
        (["--grace=-1"], "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str) -> None:
    declare()
    with pytest.raises(CommandError, match=words):
        call_command("runworker", *arguments)


def test_a_worker_without_workflows_says_where_to_write_one() -> None:
    with pytest.raises(CommandError, match=r"No workflow is declared.*workflows\.py"):
        call_command("runworker")


def test_positional_arguments_go_to_the_command_of_channels(
    served: list[WorkerOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    theirs = SimpleNamespace(handle=lambda **options: asked.append(options))
    monkeypatch.setattr(
        "orchestrator.management.commands.runworker.load_command_class",
        lambda app, name: theirs if (app, name) == ("channels", "runworker") else None,
    )
    call_command("runworker", "thumbnails", "--layer=other")
    assert asked[0]["channels"] == ["thumbnails"]
    assert asked[0]["layer"] == "other"
    assert served == []
    call_command("runworker", "thumbnails")
    assert "layer" not in asked[1]
    with pytest.raises(CommandError, match="Name the channels"):
        call_command("runworker", "--layer=other")


def test_positional_arguments_without_channels_are_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(app: str, name: str) -> None:
        raise ImportError(app)

    monkeypatch.setattr(
        "orchestrator.management.commands.runworker.load_command_class", absent
    )
    with pytest.raises(CommandError, match="--queues"):
        call_command("runworker", "emails")


def test_both_commands_have_names_that_no_other_app_takes() -> None:
    commands = get_commands()
    for name in ("orchestrator_worker", "orchestrator_scheduler"):
        assert commands[name] == "orchestrator"


def test_an_old_server_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []
    old = SimpleNamespace(
        info=SimpleNamespace(server_version=140_011), close=lambda: closed.append(1)
    )
    monkeypatch.setattr(sessions, "connect", lambda **_: old)
    with pytest.raises(DatabaseTooOld, match=r"PostgreSQL 14 .* 15 or newer"):
        links.Link("Worker").restore()
    assert closed


@pytest.mark.parametrize("command", ["runworker", "runscheduler"])
def test_a_command_on_an_old_server_ends_with_a_message(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def refuse(self: links.Link) -> bool:
        raise DatabaseTooOld("PostgreSQL 14 is too old")

    monkeypatch.setattr(links.Link, "restore", refuse)
    declare()
    with pytest.raises(CommandError, match="PostgreSQL 14 is too old"):
        call_command(command)


def test_a_server_that_cannot_be_reached_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refuse(**_: Any) -> None:
        tries.append(1)
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(sessions, "connect", refuse)
    link = links.Link("Worker")
    assert link.restore() is False
    assert link.restore() is False  # not before its time
    assert len(tries) == 1
    assert 0 < link.retry_in <= 0.1
    with pytest.raises(psycopg.OperationalError):
        _ = link.session
