"""Cancel, retry and rerun over the whole of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse

from orchestrator.models import AuditEntry, BulkOperation, Run
from orchestrator.testing import drain
from orchestrator_ui.admin import RunAdmin
from tests.ui.app import workflows
from tests.ui.test_operate import LIST, confirm, confirmation, failed

pytestmark = pytest.mark.django_db


def ask_for_list(client: Client, name: str, query: str, key: UUID) -> Any:
    return client.post(
        f"{LIST}{query}", {"action": name, "_selected_action": [str(key)]}
    )


def test_the_whole_list_can_be_meant_as_it_is_filtered(admin: Client) -> None:
    keys = failed(12)
    workflows.echo.enqueue()
    response = ask_for_list(admin, "retry", "?status=FAILED&workflow=ui-fail", keys[0])
    html = response.content.decode()
    assert "all 12 that the list has now" in html
    assert "workflow: ui-fail" in html
    form = {**confirmation(response), "scope": "whole"}
    _, told = confirm(admin, "retry", form, "again")
    assert told == ["12 runs are executed again."]
    data = AuditEntry.objects.get().data
    assert data["filter"]["statuses"] == ["FAILED"]
    assert data["changed"] == 12


def test_many_runs_are_left_to_schedulers_and_watched(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.operations.verbs.LIMIT", 3)
    keys = failed(5)
    response = ask_for_list(admin, "retry", "?status=FAILED", keys[0])
    form = {**confirmation(response), "scope": "whole"}
    where, told = confirm(admin, "retry", form, "again")
    operation = BulkOperation.objects.get()
    assert where == reverse(
        "admin:orchestrator_bulkoperation_change", args=(operation.pk,)
    )
    assert "5 runs" in told[0]
    assert Run.objects.with_status("FAILED").count() == 5
    _, told = confirm(admin, "retry", form, "again")
    assert told == ["This was done already; nothing more happened."]
    assert BulkOperation.objects.count() == 1


def test_a_number_that_is_large_has_to_be_typed(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_ui.admin.confirm.TYPED_FROM", 2)
    monkeypatch.setattr("orchestrator_ui.admin.operate.TYPED_FROM", 2)
    keys = failed(4)
    response = ask_for_list(admin, "rerun", "?status=FAILED", keys[0])
    assert "type 4" in response.content.decode()
    form = {**confirmation(response), "scope": "whole"}
    for typed in ("", "5"):
        _, told = confirm(admin, "rerun", {**form, "typed": typed})
        assert told == ["Nothing was done: the number of runs was not typed."]
    confirm(admin, "rerun", {**form, "typed": "4"})
    assert Run.objects.count() == 8


@pytest.mark.parametrize("query", ["?metadata=user:7", "?q=user:7", "?window=1h"])
def test_filters_by_metadata_and_time_mean_the_same_runs(
    admin: Client, query: str
) -> None:
    for user in (7, "7", 8):
        if query == "?window=1h" or user != "7":
            workflows.fail.using(metadata={"user": user}).enqueue()
            workflows.fail.using(metadata={"user": user}).enqueue()
    drain()
    key = Run.objects.filter(metadata={"user": 7})[0].pk
    response = ask_for_list(admin, "retry", query, key)
    count = 6 if query == "?window=1h" else 2
    assert f"all {count} that the list has now" in response.content.decode()
    confirm(admin, "retry", {**confirmation(response), "scope": "whole"})
    assert Run.objects.unfinished().count() == count


def test_a_list_that_shows_less_never_offers_more(
    sign_in: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = failed(3)
    # Without the permission a list that asks for metadata shows nothing.
    client = sign_in("view_run", "rerun_run", "retry_run")
    response = ask_for_list(client, "retry", "?q=a:b", keys[0])
    assert "that the list has now" not in response.content.decode()
    # A project's own screen that shows a part of all runs.
    monkeypatch.setattr(
        RunAdmin,
        "get_queryset",
        lambda self, request: Run.objects.filter(pk__in=keys[:2]),
    )
    response = ask_for_list(client, "retry", "?status=FAILED", keys[0])
    assert "that the list has now" not in response.content.decode()
    form = {**confirmation(response), "scope": "whole"}
    _, told = confirm(client, "retry", form)
    assert told == ["The whole list was not offered; ask again."]
