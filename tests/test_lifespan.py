"""The lifespan: its value reaches tasks, and it is set up and torn down around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from orchestrator import Context, lifespans, task, workflow
from orchestrator.exceptions import SettingsError
from orchestrator.testing import adrain, drain, make_context
from tests.app.lifespans import Lifespan

pytestmark = [pytest.mark.usefixtures("own_definitions"), pytest.mark.django_db]


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "told"
    path.touch()
    monkeypatch.setenv("TESTS_LIFESPAN", str(path))
    return path


def words(path: Path) -> list[str]:
    return [line.rpartition(" ")[0] for line in path.read_text().splitlines()]


def using(name: str) -> Any:
    return override_settings(
        ORCHESTRATOR={"PARTITION_BY": "none", "LIFESPAN": f"tests.app.lifespans.{name}"}
    )


def finder() -> Any:
    @task(takes_context=True)
    def find(ctx: Context[Any]) -> list[Any]:
        assert isinstance(ctx.lifespan, Lifespan)
        return [ctx.lifespan.foo, ctx.lifespan.pi]

    return find


@pytest.mark.parametrize("name", ["plain", "on_loop"])
def test_drain_sets_it_up_and_tears_it_down(told: Path, name: str) -> None:
    """Scenario A7."""
    find = finder()
    with using(name):
        handle = find.enqueue()
        drain()
        assert handle.result() == ["bar", 3.14]
    assert words(told) == ["up", "down"]


def test_a_test_gives_its_own(told: Path) -> None:
    find = finder()
    with using("plain"):
        handle = find.enqueue()
        drain(lifespan=Lifespan("mock", 1.0))
        assert handle.result() == ["mock", 1.0]
        again = find.enqueue()
        async_to_sync(adrain)(lifespan=Lifespan("async", 2.0))
        assert again.result() == ["async", 2.0]
    assert words(told) == []


def test_make_context_has_one() -> None:
    """Scenario A9."""
    wf = workflow("wf", input=dict)

    @wf.task
    def start(ctx: Context[dict[str, Any]]) -> dict[str, Any]:
        return {"a": 1}

    @wf.task(parents=[start])
    def report(ctx: Context[dict[str, Any]]) -> list[Any]:
        return [
            ctx.input["key"],
            ctx.metadata["meta_key"],
            ctx.lifespan.foo,
            ctx.attempt,
            ctx.output(start),
            ctx.worker_labels,
        ]

    ctx = make_context(
        report,
        {"key": "test_key"},
        metadata={"meta_key": "meta_value"},
        lifespan=Lifespan("sqlite:///:memory:", 0.0),
        attempt=2,
        outputs={start: {"a": 1}},
        worker_labels={"region": "eu"},
    )
    assert report.call(ctx) == [
        "test_key",
        "meta_value",
        "sqlite:///:memory:",
        2,
        {"a": 1},
        {"region": "eu"},
    ]


def test_without_one_it_is_none() -> None:
    @task(takes_context=True)
    def find(ctx: Context[Any]) -> bool:
        return ctx.lifespan is None

    handle = find.enqueue()
    drain()
    assert handle.result()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "cannot be imported"),
        ("no_manager", "not a context manager"),
        ("broken", "no model to load"),
    ],
)
def test_one_that_cannot_be_set_up_executes_nothing(name: str, message: str) -> None:
    find = finder()
    with using(name):
        handle = find.enqueue()
        with pytest.raises((SettingsError, RuntimeError), match=message):
            drain()
    assert handle.refresh().status == "QUEUED"


def test_what_fails_at_the_end_is_raised() -> None:
    class Bad:
        async def __aenter__(self) -> int:
            return 7

        async def __aexit__(self, *_: Any) -> None:
            raise RuntimeError("not closed")

    background = lifespans.Background()
    lifespan = lifespans._Held(Bad()).enter(background.submit)
    assert lifespan.value == 7
    with pytest.raises(RuntimeError, match="not closed"):
        lifespan.close()
    background.close()
