from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import OperationalError, connection, connections
from django.test import override_settings

from orchestrator import Context, checks, workflow

pytestmark = pytest.mark.usefixtures("own_definitions")


def found(check: checks.Check, **options: Any) -> dict[str | None, str]:
    messages = check(app_configs=None, **options)
    return {message.id: f"{message.msg} {message.hint or ''}" for message in messages}


@pytest.mark.django_db
def test_the_sample_project_passes() -> None:
    ours = [
        message
        for message in run_checks(databases=["default"])
        if (message.id or "").startswith("orchestrator.")
    ]
    assert ours == []


@override_settings(ORCHESTRATOR={"HEART_BEAT": 1})
def test_e001_a_wrong_setting_is_found_and_stops_no_other_check() -> None:
    messages = {m.id: m.msg for m in run_checks() if "orchestrator" in (m.id or "")}
    assert list(messages) == ["orchestrator.E001"]
    assert "did you mean 'HEARTBEAT'?" in messages["orchestrator.E001"]


@override_settings(ORCHESTRATOR={"DATABASE": "jobs"})
def test_e002_a_database_that_is_not_there_is_named() -> None:
    message = found(checks.check_settings)["orchestrator.E002"]
    assert "'jobs', which DATABASES does not have" in message
    assert "'default'" in message
    for check in (checks.check_driver, checks.check_routers, checks.check_definitions):
        assert found(check) == {}


def test_e003_another_database_is_refused(monkeypatch: Any) -> None:
    wrapper = connections["default"]
    monkeypatch.setattr(wrapper, "vendor", "sqlite")
    monkeypatch.setattr(wrapper, "display_name", "SQLite")
    message = found(checks.check_driver)["orchestrator.E003"]
    assert "'default' is SQLite" in message
    assert "django.db.backends.postgresql" in message


def test_e004_psycopg2_is_refused(monkeypatch: Any) -> None:
    from django.db.backends.postgresql import psycopg_any

    monkeypatch.setattr(psycopg_any, "is_psycopg3", False)
    assert "pip install" in found(checks.check_driver)["orchestrator.E004"]


@pytest.mark.django_db
def test_e005_an_old_server_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(checks, "OLDEST", 1_000_000)
    message = found(checks.check_server, databases=["default"])["orchestrator.E005"]
    assert "needs 15 or newer" in message
    assert "Upgrade" in message


def test_the_server_is_asked_only_where_databases_are_checked() -> None:
    # No database access is allowed in this test.
    assert found(checks.check_server) == {}
    assert found(checks.check_server, databases=["other"]) == {}


def test_a_server_that_is_down_is_no_finding(monkeypatch: Any) -> None:
    def down(*args: object) -> None:
        raise OperationalError("down")

    monkeypatch.setattr(connection, "cursor", down)
    assert found(checks.check_server, databases=["default"]) == {}


@pytest.mark.django_db
@override_settings(ORCHESTRATOR={"PARTITION_BY": "month"})
def test_w002_a_role_that_cannot_make_partitions_is_warned_of() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE poor")
        cursor.execute("SET ROLE poor")
        try:
            messages = found(checks.check_server, databases=["default"])
        finally:
            cursor.execute("RESET ROLE")
    assert "'poor' may not create tables" in messages["orchestrator.W002"]


@pytest.mark.django_db
@override_settings(ORCHESTRATOR={"PARTITION_BY": "month"})
def test_w002_a_role_that_does_not_own_the_tables_is_warned_of() -> None:
    assert found(checks.check_server, databases=["default"]) == {}
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE poor; GRANT CREATE ON SCHEMA public TO poor")
        cursor.execute("SET ROLE poor")
        try:
            messages = found(checks.check_server, databases=["default"])
        finally:
            cursor.execute("RESET ROLE")
    assert "'poor' does not own the tables" in messages["orchestrator.W002"]


@dataclass
class Odd:
    things: set[int]


def test_e006_definitions_that_cannot_work_are_named() -> None:
    workflow("empty")
    odd = workflow("odd", input=Odd)
    odd.task(name="a")(lambda ctx: None)
    late = workflow("late")

    @late.task
    def a(ctx: Context[None]) -> NoSuchType: ...  # type: ignore[name-defined] # noqa: F821

    messages = checks.check_definitions(app_configs=None)
    texts = [message.msg for message in messages]
    assert [message.id for message in messages] == ["orchestrator.E006"] * 3
    assert f"'empty' in {__name__} cannot work" in texts[0]
    assert "no tasks" in texts[0]
    assert "set[int] has no place in JSON" in texts[1]
    assert "NoSuchType" in texts[2]


class Split:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model.__name__ == "AuditEntry" else None


@override_settings(DATABASE_ROUTERS=[Split()])
def test_e007_a_router_that_splits_the_tables_is_refused() -> None:
    message = found(checks.check_routers)["orchestrator.E007"]
    assert "AuditEntry is routed to the database 'replica'" in message


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (["channels", "orchestrator"], True),
        (["orchestrator", "channels"], False),
        (["orchestrator"], False),
    ],
)
def test_w001_channels_before_us_is_warned_of(
    monkeypatch: Any, names: Any, warned: Any
) -> None:
    class Config:
        def __init__(self, name: str) -> None:
            self.name = name

    monkeypatch.setattr(
        apps, "get_app_configs", lambda: [Config(name) for name in names]
    )
    messages = found(checks.check_app_order)
    assert bool(messages) is warned
    if warned:
        assert "orchestrator_worker" in messages["orchestrator.W001"]
