"""Operations over many runs: their list, their page, their progress, and a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from orchestrator import operations
from orchestrator.models import AuditEntry, BulkOperation, Run
from orchestrator.operations import RunFilter, bulk, verbs
from orchestrator.testing import drain
from orchestrator_ui.feed import topics
from orchestrator_ui.feed.topics import BulkTopic, Locale
from tests.ui.app import workflows
from tests.ui.test_escaping import EVIL

pytestmark = pytest.mark.django_db

LIST = "/admin/orchestrator/bulkoperation/"


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "LIMIT", 3)
    monkeypatch.setattr(bulk, "CHUNK", 4)


def asked(**options: Any) -> BulkOperation:
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(6))
    found = operations.cancel_runs(
        RunFilter(statuses=["QUEUED"]), **{"reason": "stop", **options}
    )
    assert isinstance(found, BulkOperation)
    return found


def page_of(operation: BulkOperation) -> str:
    return reverse("admin:orchestrator_bulkoperation_change", args=(operation.pk,))


def stop_of(operation: BulkOperation) -> str:
    return reverse("admin:orchestrator_bulkoperation_stop", args=(operation.pk,))


def fragment(operation: BulkOperation) -> str:
    topic = BulkTopic(Locale.current(), operation.pk)
    assert topics.load(topic.locale, topic.dump()) == topic
    return topics.render([topic])[topic]["bulk-progress"]


def test_its_page_keeps_its_progress_up_to_date(admin: Client) -> None:
    operation = asked()
    html = admin.get(page_of(operation)).content.decode()
    assert "Cancel 6 runs" in html
    assert "waits for a scheduler" in html
    assert 'value="0"' in fragment(operation)
    operations.work_off()
    assert 'value="66"' in fragment(operation)
    drain()
    done = fragment(operation)
    assert 'value="100"' in done
    assert "orch-is-over" in done
    assert "Completed" in done


def test_the_list_says_what_how_far_who_and_why(admin: Client) -> None:
    operation = asked(reason="a mistake")
    html = admin.get(LIST).content.decode()
    for words in ("Cancel 6 runs", "0 done", "a mistake", "code", page_of(operation)):
        assert words in html


def test_it_is_stopped_by_those_who_may_do_it(
    sign_in: Callable[..., Client],
) -> None:
    operation = asked()
    operations.work_off()
    watcher = sign_in("view_bulkoperation")
    assert "Stop it" not in watcher.get(page_of(operation)).content.decode()
    assert watcher.post(stop_of(operation)).status_code == 403
    assert Client().post(stop_of(operation)).status_code == 302
    client = sign_in("cancel_run", name="ada")
    assert client.get(stop_of(operation)).status_code == 405
    assert "Stop it" in client.get(page_of(operation)).content.decode()
    response = client.post(stop_of(operation), {"reason": "enough"}, follow=True)
    assert "It is stopped" in response.content.decode()
    operation.refresh_from_db()
    assert operation.status == "STOPPED"
    assert operations.work_off() == 0
    assert Run.objects.unfinished().count() == 2
    entry = AuditEntry.objects.get(action="stop")
    assert (str(entry.actor), entry.reason) == ("ada", "enough")
    response = client.post(stop_of(operation), follow=True)
    assert "It had ended already" in response.content.decode()


def test_a_stop_needs_the_token(make_user: Callable[..., Any]) -> None:
    operation = asked()
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(is_superuser=True))
    assert client.post(stop_of(operation)).status_code == 403
    assert not BulkOperation.objects.get().is_finished


def test_others_do_not_see_it(sign_in: Callable[..., Client]) -> None:
    operation = asked()
    client = sign_in("view_run")
    assert client.get(LIST).status_code == 403
    assert client.get(page_of(operation)).status_code == 403


def test_problems_are_named_with_links_and_escaped(admin: Client) -> None:
    operation = asked(reason=EVIL)
    run_id = str(Run.objects.all()[0].pk)
    BulkOperation.objects.update(
        failed=1, problems=[{"run": run_id, "message": EVIL}], options={"tasks": [EVIL]}
    )
    html = admin.get(page_of(operation)).content.decode() + fragment(operation)
    assert EVIL not in html
    assert reverse("admin:orchestrator_run_change", args=(run_id,)) in html
    assert EVIL not in admin.get(LIST).content.decode()


def test_metadata_of_its_filter_needs_the_permission(
    admin: Client, sign_in: Callable[..., Client]
) -> None:
    target = workflows.echo.using(metadata={"customer": "ada-7"})
    target.enqueue_many(target.bind(n) for n in range(6))
    drain()
    which = RunFilter(metadata={"customer": "ada-7"})
    operation = operations.rerun_runs(which, input=workflows.echo.bind("secret-input"))
    assert isinstance(operation, BulkOperation)
    assert "ada-7" in admin.get(page_of(operation)).content.decode()
    other = sign_in("view_bulkoperation", "view_auditentry")
    entry = AuditEntry.objects.get()
    address = reverse("admin:orchestrator_auditentry_change", args=(entry.pk,))
    for client in (admin, other):
        for url in (page_of(operation), address, LIST):
            html = client.get(url).content.decode()
            assert "secret-input" not in html
            assert client is admin or "ada-7" not in html


def test_an_operation_that_is_not_there_leads_back(admin: Client) -> None:
    for key in ("00000000-0000-0000-0000-000000000000", "x"):
        response = admin.get(f"{LIST}{key}/change/")
        assert response.status_code == 302
