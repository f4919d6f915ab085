"""Cancel, retry and rerun: asked for, confirmed, carried out once, and audited."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client
from django.urls import reverse

from orchestrator import ids
from orchestrator.engine import enqueue, sessions
from orchestrator.models import AuditEntry, Run
from orchestrator.testing import drain
from tests.ui.app import workflows

LIST = "/admin/orchestrator/run/"


def address(name: str) -> str:
    return reverse("admin:orchestrator_run_operate", args=(name,))


def confirmation(response: Any) -> dict[str, str]:
    """What the form of a confirmation page sends."""
    html = response.content.decode()
    found = re.search(r'name="confirmation" value="([^"]+)"', html)
    assert found, html
    return {"confirmation": found[1]}


def ask(client: Client, name: str, *keys: UUID) -> dict[str, str]:
    return confirmation(client.post(address(name), {"id": [str(k) for k in keys]}))


def confirm(
    client: Client, name: str, form: dict[str, str], reason: str = ""
) -> tuple[str, list[str]]:
    """Send it; where it leads to, and what the user is told there."""
    response = client.post(address(name), {**form, "reason": reason}, follow=True)
    told = [str(message) for message in response.context["messages"]]
    return response.redirect_chain[0][0], told


def failed(count: int = 1) -> list[UUID]:
    made = workflows.fail.enqueue_many(workflows.fail.bind() for _ in range(count))
    drain()
    return [handle.id for handle in made]


pytestmark = pytest.mark.django_db


def test_cancel_ends_a_run_and_says_who_and_why(
    sign_in: Callable[..., Client],
) -> None:
    client = sign_in("view_run", "cancel_run", name="ada")
    run = workflows.echo.enqueue()
    back, told = confirm(client, "cancel", ask(client, "cancel", run.id), "not needed")
    assert told == ["1 run was cancelled."]
    assert back == reverse("admin:orchestrator_run_change", args=(run.id,))
    row = Run.objects.get(pk=run.id)
    assert row.status == "CANCELLED"
    assert "ada" in row.status_reason
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target_id) == ("cancel", str(run.id))
    assert entry.actor
    assert (entry.actor.username, entry.reason) == ("ada", "not needed")


def test_retry_executes_a_failed_run_again(admin: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = workflows.fail.enqueue("It broke.", str(gate))
    drain()
    gate.touch()
    _, told = confirm(admin, "retry", ask(admin, "retry", run.id))
    assert told == ["1 run is executed again."]
    drain()
    assert Run.objects.get(pk=run.id).status == "COMPLETED"
    assert AuditEntry.objects.get().action == "retry"


def test_rerun_makes_a_new_run_and_links_to_it(admin: Client) -> None:
    run = workflows.echo.enqueue("again")
    drain()
    _, told = confirm(admin, "rerun", ask(admin, "rerun", run.id))
    new = Run.objects.exclude(pk=run.id).get()
    assert new.input == Run.objects.get(pk=run.id).input
    assert f'href="/admin/orchestrator/run/{new.pk}/change/"' in told[0]
    assert AuditEntry.objects.get().data["new_run"] == str(new.pk)


def test_the_list_asks_before_it_does_anything(admin: Client) -> None:
    keys = failed(12)
    done = workflows.echo.enqueue()
    drain()
    response = admin.post(
        f"{LIST}?status=FAILED",
        {"action": "retry", "_selected_action": [*map(str, keys), str(done.id)]},
    )
    html = response.content.decode()
    assert "Retry these 13 runs?" in html
    assert "and 3 more" in html
    assert "1 of them has not failed and stays as it is." in html
    assert not AuditEntry.objects.exists()
    back, told = confirm(admin, "retry", confirmation(response))
    assert back == f"{LIST}?status=FAILED"
    assert told == [
        "12 runs are executed again.",
        "1 of them has not failed and stays as it is.",
    ]
    assert AuditEntry.objects.get().data["changed"] == 12


def test_only_what_was_selected_is_changed(admin: Client) -> None:
    chosen, *others = failed(3)
    response = admin.post(
        LIST,
        {"action": "retry", "_selected_action": [str(chosen)], "select_across": "1"},
    )
    confirm(admin, "retry", confirmation(response))
    assert Run.objects.get(pk=chosen).outcome_status is None
    assert Run.objects.with_status("FAILED").count() == len(others)


def test_what_the_state_does_not_allow_changes_nothing(admin: Client) -> None:
    run = workflows.echo.enqueue()
    drain()
    for name, said in (
        ("cancel", "1 of them has ended and stays as it is."),
        ("retry", "1 of them has not failed and stays as it is."),
    ):
        _, told = confirm(admin, name, ask(admin, name, run.id))
        assert told == [said]
    assert Run.objects.get(pk=run.id).status == "COMPLETED"
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("name", ["cancel", "retry", "rerun"])
def test_a_form_that_is_sent_twice_is_carried_out_once(
    admin: Client, name: str
) -> None:
    run_id = workflows.echo.enqueue().id if name == "cancel" else failed()[0]
    form = ask(admin, name, run_id)
    confirm(admin, name, form)
    before = Run.objects.count(), AuditEntry.objects.count()
    _, told = confirm(admin, name, form)
    assert told == ["This was done already; nothing more happened."]
    assert (Run.objects.count(), AuditEntry.objects.count()) == before


def test_it_can_be_done_again_after_asking_again(admin: Client) -> None:
    (run_id,) = failed()
    for _ in range(2):
        confirm(admin, "rerun", ask(admin, "rerun", run_id))
    assert Run.objects.count() == 3


def test_a_confirmation_is_of_one_user_and_one_operation(
    admin: Client, sign_in: Callable[..., Client]
) -> None:
    (run_id,) = failed()
    form = ask(admin, "rerun", run_id)
    other = sign_in("view_run", "rerun_run", "retry_run", "cancel_run")
    for client, name in ((other, "rerun"), (admin, "retry"), (admin, "cancel")):
        _, told = confirm(client, name, form)
        assert told == ["This confirmation is not valid any more; ask again."]
    _, told = confirm(admin, "rerun", {"confirmation": "made-up"})
    assert told == ["This confirmation is not valid any more; ask again."]
    assert Run.objects.count() == 1


def test_a_permission_that_was_taken_away_meanwhile_counts(
    sign_in: Callable[..., Client],
) -> None:
    client = sign_in("view_run", "cancel_run", name="ada")
    run = workflows.echo.enqueue()
    form = ask(client, "cancel", run.id)
    ada = get_user_model().objects.get(username="ada")
    ada.user_permissions.clear()
    response = client.post(address("cancel"), form)
    assert response.status_code == 403
    assert Run.objects.get(pk=run.id).status == "QUEUED"


def test_reading_changes_nothing_and_writing_needs_the_token(
    make_user: Callable[..., Any],
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(is_superuser=True))
    run = workflows.echo.enqueue()
    for name in ("cancel", "retry", "rerun"):
        assert client.get(address(name)).status_code == 405
        refused = client.post(address(name), {"id": str(run.id)})
        assert refused.status_code == 403
    assert client.post(address("delete")).status_code == 403
    assert not AuditEntry.objects.exists()


def test_ids_that_are_none_are_refused(admin: Client) -> None:
    assert admin.post(address("cancel"), {"id": "x"}).status_code == 404
    assert admin.post(address("destroy"), {"id": "x"}).status_code == 404
    response = admin.post(LIST, {"action": "cancel", "_selected_action": "x"})
    assert response.status_code == 302


def test_an_operation_that_the_engine_refuses_says_why(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workflows.echo.enqueue()
    drain()
    Run.objects.update(workflow_id=1, version_id=2)
    response = admin.post(address("rerun"), {"id": str(run.id)})
    _, told = confirm(admin, "rerun", confirmation(response))
    assert len(told) == 1
    assert told[0]
    assert Run.objects.count() == 1


def test_buttons_are_those_of_the_users_permissions(
    sign_in: Callable[..., Client],
) -> None:
    run = workflows.echo.enqueue()
    page = reverse("admin:orchestrator_run_change", args=(run.id,))
    html = sign_in("view_run", "retry_run").get(page).content.decode()
    assert address("retry") in html
    assert address("cancel") not in html
    assert address("rerun") not in html


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_make_one_new_run(make_user: Callable[..., Any]) -> None:
    run = workflows.echo.enqueue()
    drain()
    user = make_user(is_superuser=True)
    first = Client()
    first.force_login(user)
    form = ask(first, "rerun", run.id)
    barrier = threading.Barrier(2)
    answers = []

    def click() -> None:
        client = Client()
        client.cookies.update(first.cookies)
        barrier.wait(10)
        answers.append(client.post(address("rerun"), form).status_code)
        connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [302, 302]
    assert Run.objects.count() == 2
    assert AuditEntry.objects.count() == 1


# What the form says besides.


def child_of(run_id: UUID) -> UUID:
    parent = ids.task_run_id(run_id, 0)
    child = ids.child_run_id(parent, "child")
    enqueue.enqueue(
        sessions.django_session(),
        workflows.echo.definition.shape,
        ['{"value": 1}'],
        run_ids=[child],
        parents=[parent],
    )
    return child


@pytest.mark.parametrize(
    ("form", "status"), [({"children": "on"}, "CANCELLED"), ({}, "QUEUED")]
)
def test_children_are_cancelled_along_or_not(
    admin: Client, form: dict[str, str], status: str
) -> None:
    run = workflows.echo.enqueue()
    child = child_of(run.id)
    response = admin.post(address("cancel"), {"id": str(run.id)})
    assert 'name="children" checked' in response.content.decode()
    confirm(admin, "cancel", {**confirmation(response), **form})
    assert Run.objects.get(pk=run.id).status == "CANCELLED"
    assert Run.objects.get(pk=child).status == status


def test_retry_executes_the_tasks_that_were_chosen(admin: Client) -> None:
    run = workflows.pipeline.enqueue({})
    drain()
    response = admin.post(address("retry"), {"id": str(run.id)})
    html = response.content.decode()
    assert 'value="parse_readme"' in html
    form = confirmation(response)
    _, told = confirm(admin, "retry", {**form, "tasks": "named"})
    assert told == ["Nothing was done: choose a task to retry."]
    confirm(admin, "retry", {**form, "tasks": "named", "task": "index"})
    drain()
    row = Run.objects.get(pk=run.id)
    assert (row.status, row.generation) == ("COMPLETED", 2)
    attempts = {t.name: t.attempts for t in row.task_runs()}
    assert attempts["index"] == attempts["report"] == 2
    assert attempts["parse_readme"] == attempts["discover"] == 1


def test_a_completed_run_is_executed_again_as_a_whole(admin: Client) -> None:
    run = workflows.echo.enqueue()
    drain()
    form = ask(admin, "retry", run.id)
    _, told = confirm(admin, "retry", {**form, "tasks": "all"})
    assert told == ["1 run is executed again."]
    form = ask(admin, "retry", run.id)
    _, told = confirm(admin, "retry", {**form, "tasks": "some"})
    assert told == ["This is not a choice of tasks; ask again."]


def test_rerun_takes_another_input_that_fits(admin: Client) -> None:
    run = workflows.echo.enqueue("before")
    drain()
    response = admin.post(address("rerun"), {"id": str(run.id)})
    assert "&quot;before&quot;" in response.content.decode()
    form = confirmation(response)
    for text, said in (
        ("{", "The input is no JSON"),
        ('{"args": [], "kwargs": {"valu": 1}}', "valu"),
        ("[]", "The input"),
    ):
        _, told = confirm(admin, "rerun", {**form, "edited": "on", "input": text})
        assert said in told[0]
    assert Run.objects.count() == 1
    text = '{"args": ["after"], "kwargs": {}}'
    confirm(admin, "rerun", {**form, "edited": "on", "input": text})
    assert Run.objects.exclude(pk=run.id).get().input["args"] == ["after"]


def test_the_input_is_shown_to_those_who_may_see_payloads(
    sign_in: Callable[..., Client],
) -> None:
    run = workflows.echo.enqueue("secret")
    client = sign_in("view_run", "rerun_run")
    response = client.post(address("rerun"), {"id": str(run.id)})
    assert "secret" not in response.content.decode()
