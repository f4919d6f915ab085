"""Who may open a socket, and that it closes when they may not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.routing import URLRouter
from django.test import Client, override_settings

from orchestrator.engine import notify, sessions
from orchestrator.testing import drain
from orchestrator_ui import consumers
from orchestrator_ui.feed import admission, tokens
from orchestrator_ui.feed.topics import Locale, PageTopic
from orchestrator_ui.routing import websocket_urlpatterns
from tests.ui.app import workflows
from tests.ui.sockets import ORIGIN, Page, in_database, opened

pytestmark = pytest.mark.django_db(transaction=True)

# Without the sample's own validator around it: ours has to be enough.
BARE: Any = URLRouter(websocket_urlpatterns)
EN = Locale("en-us", "UTC")


@pytest.fixture
def user(make_user: Callable[..., Any]) -> Any:
    return make_user("view_run")


@pytest.fixture
def client(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def accepted(client: Client, user: Any, **options: Any) -> bool:
    async def knock() -> bool:
        page = Page(client, tokens.dumps(user.pk, []), app=BARE, **options)
        try:
            return await page.open()
        finally:
            await page.socket.disconnect()

    return async_to_sync(knock)()


def closed_with(client: Client | None, token: str) -> int:
    async def knock() -> int:
        page = Page(client, token)
        assert await page.open()
        try:
            return await page.closing_code()
        finally:
            await page.socket.disconnect()

    return async_to_sync(knock)()


# Origins.


@pytest.mark.parametrize(
    ("origins", "host", "fine"),
    [
        ((ORIGIN,), "localhost", True),
        ((), "localhost", False),
        (("null",), "localhost", False),
        (("",), "localhost", False),
        (("https://localhost",), "localhost", False),
        (("http://localhost:8000",), "localhost", False),
        (("http://localhost:8000",), "localhost:8000", True),
        (("http://evil.example",), "localhost", False),
        (("http://localhost.evil.example",), "localhost", False),
        (("http://evillocalhost",), "localhost", False),
        (("http://localhost@evil.example",), "localhost", False),
        (("http://localhost/",), "localhost", False),
        ((ORIGIN, "http://evil.example"), "localhost", False),
        (("http://evil.example",), "evil.example", False),  # not in ALLOWED_HOSTS
    ],
)
def test_a_socket_is_opened_by_pages_of_the_same_origin_alone(
    client: Client, user: Any, origins: tuple[str, ...], host: str, fine: bool
) -> None:
    assert accepted(client, user, origins=origins, host=host) is fine


@pytest.mark.parametrize(
    ("trusted", "origin", "fine"),
    [
        ("https://admin.example", "https://admin.example", True),
        ("https://admin.example", "https://admin.example:8443", False),
        ("https://admin.example", "http://admin.example", False),
        ("https://*.example", "https://admin.example", True),
        ("https://*.example", "http://admin.example", False),
        ("https://*.example", "https://admin.example.evil", False),
    ],
)
def test_trusted_origins_are_those_of_djangos_own_protection(
    client: Client, user: Any, trusted: str, origin: str, fine: bool
) -> None:
    with override_settings(CSRF_TRUSTED_ORIGINS=[trusted]):
        assert accepted(client, user, origins=(origin,)) is fine


def test_the_origin_of_a_page_behind_a_proxy_is_that_of_the_page(
    client: Client, user: Any
) -> None:
    page = Page(client, tokens.dumps(user.pk, []), ("https://localhost",), app=BARE)
    headers = [*(page.socket.scope["headers"] or ())]
    page.socket.scope["headers"] = [*headers, (b"x-forwarded-proto", b"https")]

    async def knock() -> bool:
        try:
            return await page.open()
        finally:
            await page.socket.disconnect()

    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        assert async_to_sync(knock)()


# Users.


def test_strangers_are_closed_out() -> None:
    assert closed_with(None, tokens.dumps(1, [])) == consumers.SIGNED_OUT
    assert closed_with(Client(), tokens.dumps(1, [])) == consumers.SIGNED_OUT


@pytest.mark.parametrize(
    ("permissions", "fields"),
    [
        ((), {}),
        (("view_workflow", "cancel_run"), {}),
        (("view_run",), {"is_staff": False}),
        (("view_run",), {"is_active": False}),
    ],
)
def test_those_who_may_not_see_runs_are_closed_out(
    make_user: Callable[..., Any], permissions: tuple[str, ...], fields: dict[str, bool]
) -> None:
    user = make_user(*permissions, **fields)
    client = Client()
    client.force_login(user)
    assert closed_with(client, tokens.dumps(user.pk, [])) == consumers.SIGNED_OUT


def test_a_forged_an_old_and_anothers_token_are_refused(
    client: Client, user: Any, make_user: Callable[..., Any], monkeypatch: Any
) -> None:
    other = tokens.dumps(make_user("view_run").pk, [])
    mine = tokens.dumps(user.pk, [])
    for token in ("", "x", mine[:-1], other):
        assert closed_with(client, token) == consumers.NOT_ALLOWED
    monkeypatch.setattr(tokens, "MAX_AGE", -1)
    assert closed_with(client, mine) == consumers.NOT_ALLOWED


@pytest.mark.parametrize("message", ["{}", '{"topics": "all"}', "x" * 100_000])
def test_any_message_of_a_client_closes_the_socket(
    client: Client, user: Any, message: str
) -> None:
    async def talk() -> int:
        page = Page(client, tokens.dumps(user.pk, []))
        assert await page.open()
        await page.socket.send_to(text_data=message)
        code = await page.closing_code()
        await page.socket.disconnect()
        return code

    assert async_to_sync(talk)() == consumers.POLICY


def test_a_user_has_so_many_sockets_and_no_more(
    client: Client, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MAX_SOCKETS", 2)

    async def flood() -> int:
        pages = [Page(client, tokens.dumps(user.pk, [])) for _ in range(3)]
        for page in pages:
            assert await page.open()
        code = await pages[-1].closing_code()
        for page in (pages[0], pages[-1]):
            await page.socket.disconnect()
        again = Page(client, tokens.dumps(user.pk, []))
        assert await again.open()
        assert await again.is_silent(0.2)
        for page in (pages[1], again):
            await page.socket.disconnect()
        return code

    assert async_to_sync(flood)() == consumers.TOO_MANY
    assert not consumers._sockets


# Those who may not look any more.


def sign_out(client: Client, user: Any) -> None:
    client.logout()


def deactivate(client: Client, user: Any) -> None:
    user.is_active = False
    user.save()


def take_permission(client: Client, user: Any) -> None:
    user.user_permissions.clear()


def change_password(client: Client, user: Any) -> None:
    user.set_password("another")
    user.save()


def delete(client: Client, user: Any) -> None:
    user.delete()


def drop_session(client: Client, user: Any) -> None:
    client.session.flush()


@pytest.mark.parametrize(
    "change", [deactivate, take_permission, change_password, delete, drop_session]
)
def test_the_socket_closes_and_nothing_more_is_sent(
    client: Client,
    user: Any,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Client, Any], None],
) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.3)
    run = workflows.echo.enqueue()

    def execute() -> None:
        drain()
        notify.feed(sessions.django_session(), [run.id])

    async def watch() -> int:
        page = Page(client, tokens.dumps(user.pk, [PageTopic(EN, run.id)]))
        assert await page.open()
        await page.message()
        await in_database(change, client, user)
        code = await page.closing_code()
        await in_database(execute)
        assert await page.is_silent(0.5)
        await page.socket.disconnect()
        return code

    assert async_to_sync(watch)() == consumers.SIGNED_OUT


def test_signing_out_closes_the_sockets_of_the_session_at_once(
    client: Client, user: Any
) -> None:
    other = Client()
    other.force_login(user)

    async def watch() -> int:
        async with opened(other, user, []) as still_open:
            page = Page(client, tokens.dumps(user.pk, []))
            assert await page.open()
            await asyncio.sleep(0.1)  # for both to be admitted
            await in_database(sign_out, client, user)
            code = await page.closing_code()
            assert await still_open.is_silent(0.2)
            await page.socket.disconnect()
            return code

    assert async_to_sync(watch)() == consumers.SIGNED_OUT


def test_looking_again_is_soon_enough() -> None:
    assert consumers.RECHECK * 1.2 <= 30


def test_a_socket_lives_for_an_hour_and_the_page_connects_again(
    client: Client, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "RECHECK", 0.05)
    monkeypatch.setattr(consumers, "LIFETIME", 0.2)

    async def watch() -> int:
        page = Page(client, tokens.dumps(user.pk, []))
        assert await page.open()
        return await page.closing_code()

    # One of the codes after which the page connects again by itself.
    assert async_to_sync(watch)() == consumers.TRY_AGAIN == 1012


def test_looking_at_a_session_never_changes_it(client: Client, user: Any) -> None:
    key = client.cookies["sessionid"].value
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests-only"]):
        assert admission.watcher(key) == user
        assert admission.watcher(key) == user
