"""Who may see and do what: every address of the control plane, for every kind of user.

The addresses are read from the admin, so a new one fails until it is in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.test import Client
from django.urls import reverse

from orchestrator import ids, operations
from orchestrator.engine import sessions, workers
from orchestrator.models import (
    Attempt,
    AuditEntry,
    Queue,
    Run,
    Task,
    TaskRun,
    Worker,
    Workflow,
    WorkflowVersion,
)
from orchestrator.operations import RunFilter
from orchestrator.testing import drain
from orchestrator_ui.admin import RunAdmin
from orchestrator_ui.feed import tokens
from tests.ui.app import workflows

pytestmark = pytest.mark.django_db

MODELS = (
    Attempt,
    AuditEntry,
    Queue,
    Run,
    Task,
    TaskRun,
    Worker,
    Workflow,
    WorkflowVersion,
)
VIEWS = [f"view_{model._meta.model_name}" for model in MODELS]
OPERATIONS = ("cancel", "retry", "rerun")
NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Address:
    """One request, and the permissions that all have to be there for it."""

    name: str
    needs: frozenset[str] | None  # None: not even a superuser
    args: tuple[Any, ...] = ()
    method: str = "get"
    data: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        return reverse(f"admin:{self.name}", args=self.args)


@pytest.fixture
def history() -> dict[str, Any]:
    """One row of each model."""
    run = workflows.fail.enqueue("It broke.")
    echo = workflows.echo.enqueue("a secret")
    drain()
    workers.register_worker(
        sessions.django_session(),
        ids.uuid7(),
        name="w",
        hostname="h",
        pid=1,
        queues=[],
        labels={},
        tasks=[],
        slots=1,
        processes=1,
    )
    operations.rerun_runs(RunFilter(ids=[run.id]), reason="once more")
    return {
        **{m._meta.model_name or "": m._default_manager.first() for m in MODELS},
        "run": Run.objects.get(pk=run.id),
        "taskrun": TaskRun.objects.get(run_id=echo.id),
    }


def addresses(rows: dict[str, Any]) -> Iterator[Address]:
    for model in MODELS:
        name = str(model._meta.model_name)
        base = f"orchestrator_{name}"
        view = frozenset({f"view_{name}"})
        key = (rows[name].pk,)
        yield Address(f"{base}_changelist", view)
        yield Address(f"{base}_change", view, key)
        yield Address(f"{base}_history", view, key)
        yield Address(f"{base}_add", None)
        yield Address(f"{base}_add", None, method="post")
        yield Address(f"{base}_change", None, key, "post")
        yield Address(f"{base}_delete", None, key)
        yield Address(f"{base}_delete", None, key, "post", (("post", "yes"),))
    run, view = rows["run"], frozenset({"view_run"})
    payload = frozenset({"view_run", "view_payload"})
    yield Address("orchestrator_run_live", view)
    yield Address("orchestrator_run_outputs", view, (run.pk,))
    yield Address(
        "orchestrator_taskrun_log", frozenset({"view_taskrun"}), (rows["taskrun"].pk,)
    )
    yield Address("orchestrator_run_payload", payload, (run.pk, "input"))
    yield Address(
        "orchestrator_taskrun_output",
        frozenset({"view_taskrun", "view_payload"}),
        (rows["taskrun"].pk,),
    )
    for operation in OPERATIONS:
        yield Address(
            "orchestrator_run_operate",
            frozenset({"view_run", f"{operation}_run"}),
            (operation,),
            "post",
            (("id", str(run.pk)),),
        )
        yield Address(
            "orchestrator_run_changelist",
            frozenset({"view_run", f"{operation}_run"}),
            method="post",
            data=(("action", operation), ("_selected_action", str(run.pk))),
        )


def ask(client: Client, address: Address, user: Any) -> int:
    if address.name.endswith("_live"):
        url = f"{address.url}?t={tokens.dumps(user.pk, [])}"
        return client.get(url).status_code
    response = getattr(client, address.method)(address.url, dict(address.data))
    if address.method == "post" and response.status_code in (200, 302):
        # Without the permission the list knows no such action and is shown as it is.
        return 200 if b'name="confirmation"' in response.content else 403
    return int(response.status_code)


def test_every_address_of_the_admin_is_in_the_table(history: dict[str, Any]) -> None:
    known = {address.name for address in addresses(history)}
    named = set()
    for model in MODELS:
        for pattern in django_admin.site.get_model_admin(model).get_urls():
            if getattr(pattern, "name", None):
                named.add(pattern.name)
    assert named == known


def test_strangers_are_sent_to_the_sign_in(history: dict[str, Any]) -> None:
    for address in addresses(history):
        response = getattr(Client(), address.method)(address.url, dict(address.data))
        assert response.status_code == 302, address
        assert "/login/" in response["Location"], address


@pytest.mark.parametrize(
    "permissions",
    [
        (),
        *((view,) for view in VIEWS),
        ("view_payload",),
        *((f"{operation}_run",) for operation in OPERATIONS),
        *(("view_run", f"{operation}_run") for operation in OPERATIONS),
        ("view_run", "view_payload"),
        ("view_taskrun", "view_payload"),
        ("change_run",),
        ("delete_run",),
        ("add_run",),
    ],
    ids=lambda permissions: "+".join(permissions) or "none",
)
def test_staff_may_what_their_permissions_say(
    history: dict[str, Any], make_user: Callable[..., Any], permissions: tuple[str, ...]
) -> None:
    user = make_user(*permissions)
    client = Client()
    client.force_login(user)
    # As in all of the admin, who may change something may see it.
    has = {p.replace("change_run", "view_run") for p in permissions}
    for address in addresses(history):
        allowed = address.needs is not None and address.needs <= has
        assert ask(client, address, user) == (200 if allowed else 403), address


def test_superusers_may_all_but_edit_history(
    history: dict[str, Any], make_user: Callable[..., Any]
) -> None:
    user = make_user(is_superuser=True)
    client = Client()
    client.force_login(user)
    for address in addresses(history):
        expected = 403 if address.needs is None else 200
        assert ask(client, address, user) == expected, address


@pytest.mark.parametrize("fields", [{"is_staff": False}, {"is_active": False}])
def test_all_permissions_are_not_enough_without_staff_or_when_inactive(
    history: dict[str, Any], make_user: Callable[..., Any], fields: dict[str, bool]
) -> None:
    client = Client()
    client.force_login(make_user(is_superuser=True, **fields))
    for address in addresses(history):
        response = getattr(client, address.method)(address.url, dict(address.data))
        assert response.status_code == 302, address


@pytest.mark.parametrize("codename", ["view_run", "view_taskrun"])
def test_payloads_are_hidden_without_their_permission(
    sign_in: Callable[..., Client], codename: str
) -> None:
    secret = "a-secret-value"
    run = workflows.echo.using(metadata={"key": secret}).enqueue(secret)
    drain()
    task_run = TaskRun.objects.get(run_id=run.id)
    urls = [
        reverse("admin:orchestrator_run_changelist"),
        reverse("admin:orchestrator_run_change", args=(run.id,)),
        reverse("admin:orchestrator_taskrun_changelist"),
        reverse("admin:orchestrator_taskrun_change", args=(task_run.pk,)),
    ]
    hidden = sign_in(codename)
    shown = sign_in(codename, "view_payload")
    pages = [url for url in urls if hidden.get(url).status_code == 200]
    assert len(pages) == 2
    for url in pages:
        assert secret not in hidden.get(url).content.decode()
    assert any(secret in shown.get(url).content.decode() for url in pages)


@pytest.mark.parametrize(
    "query", ["metadata=key:a-secret-value", "q=key:a-secret-value"]
)
def test_metadata_cannot_be_asked_about_without_the_permission(
    sign_in: Callable[..., Client], query: str
) -> None:
    workflows.echo.using(metadata={"key": "a-secret-value"}).enqueue()
    url = f"{reverse('admin:orchestrator_run_changelist')}?{query}"
    response = sign_in("view_run").get(url)
    assert response.status_code == 400 or not response.context["cl"].result_list
    assert len(sign_in("view_run", "view_payload").get(url).context["cl"].result_list)


@pytest.mark.parametrize(
    "name",
    [
        "run_changelist?input__contains=secret",
        "run_changelist?metadata__contains=secret",
        "taskrun_changelist?output__contains=secret",
        "attempt_changelist?error__contains=secret",
        "workflowversion_changelist?shape__contains=secret",
        "auditentry_changelist?actor__password__startswith=md5",
    ],
)
def test_columns_cannot_be_guessed_at_in_the_address(admin: Client, name: str) -> None:
    route, _, query = name.partition("?")
    url = f"{reverse(f'admin:orchestrator_{route}')}?{query}"
    assert admin.get(url).status_code == 400


def test_pages_with_payloads_are_never_stored(admin: Client) -> None:
    run = workflows.echo.enqueue("a")
    drain()
    task_run = TaskRun.objects.get(run_id=run.id)
    for url in (
        reverse("admin:orchestrator_run_changelist"),
        reverse("admin:orchestrator_run_change", args=(run.id,)),
        reverse("admin:orchestrator_run_outputs", args=(run.id,)),
        reverse("admin:orchestrator_run_payload", args=(run.id, "input")),
        reverse("admin:orchestrator_taskrun_change", args=(task_run.pk,)),
        reverse("admin:orchestrator_taskrun_output", args=(task_run.pk,)),
    ):
        response = admin.get(url)
        assert response.status_code == 200
        assert "no-store" in response["Cache-Control"], url
        assert response["X-Frame-Options"] == "DENY"


def test_files_are_attachments_that_no_browser_renders(admin: Client) -> None:
    run = workflows.echo.enqueue("<script>")
    url = reverse("admin:orchestrator_run_payload", args=(run.id, "input"))
    response = admin.get(url)
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_a_narrower_queryset_narrows_everything(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = workflows.echo.using(tenant="mine").enqueue("a").id
    other = workflows.echo.using(tenant="other").enqueue("b").id
    everything = RunAdmin.get_queryset
    monkeypatch.setattr(
        RunAdmin,
        "get_queryset",
        lambda self, request: everything(self, request).filter(tenant="mine"),
    )
    listing = admin.get(reverse("admin:orchestrator_run_changelist"))
    assert [run.pk for run in listing.context["cl"].result_list] == [mine]
    for key, status in ((mine, 200), (other, 404)):
        page = admin.get(reverse("admin:orchestrator_run_change", args=(key,)))
        assert page.status_code == (200 if status == 200 else 302)
        for name, args in (
            ("orchestrator_run_outputs", (key,)),
            ("orchestrator_run_payload", (key, "input")),
        ):
            url = reverse(f"admin:{name}", args=args)
            assert admin.get(url).status_code == status
    url = reverse("admin:orchestrator_run_operate", args=("cancel",))
    asked = admin.post(url, {"id": [str(mine), str(other)]})
    assert [row.run.pk for row in asked.context["rows"]] == [mine]
    assert admin.post(url, {"id": str(other)}).status_code == 302
