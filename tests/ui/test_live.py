"""How a page keeps itself up to date: by a socket, or by asking every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client, override_settings
from django.urls import reverse

from orchestrator.models import Run
from orchestrator.testing import drain
from orchestrator_ui.feed import tokens, topics
from orchestrator_ui.feed.topics import Locale, NewerTopic, PageTopic, RowTopic, Topic
from orchestrator_ui.views import cells, newer
from orchestrator_ui.views.criteria import Criteria
from tests.ui.app import workflows
from tests.ui.pages import Parsed

pytestmark = pytest.mark.django_db

LIST = "/admin/orchestrator/run/"
LIVE = "/admin/orchestrator/run/live/"
EN = Locale("en-us", "UTC")


def feed_of(html: str) -> dict[str, str | None]:
    (found,) = [a for _, a in Parsed(html).elements if a.get("id") == "orch-feed"]
    return found


def page_through_asgi(user: Any, path: str) -> str:
    async def ask() -> str:
        client = AsyncClient()
        await client.aforce_login(user)
        return (await client.get(path)).content.decode()

    return async_to_sync(ask)()


def test_a_page_through_asgi_opens_a_socket(make_user: Callable[..., Any]) -> None:
    feed = feed_of(page_through_asgi(make_user("view_run"), LIST))
    assert (feed["ws-connect"] or "").startswith("/ws/orchestrator/?t=")
    assert "hx-trigger" not in feed


def test_a_page_through_wsgi_asks_every_five_seconds(admin: Client) -> None:
    run = workflows.echo.enqueue()
    for path in (LIST, reverse("admin:orchestrator_run_change", args=(run.id,))):
        feed = feed_of(admin.get(path).content.decode())
        assert feed["hx-trigger"] == "every 5s"
        assert "ws-connect" not in feed
        drawn = admin.get(feed["hx-get"] or "").content.decode()
        assert run.id.hex in drawn or "run-header" in drawn


@override_settings(ORCHESTRATOR={"PARTITION_BY": "none", "LISTEN": False})
def test_without_listen_no_socket_is_opened(make_user: Callable[..., Any]) -> None:
    feed = feed_of(page_through_asgi(make_user("view_run"), LIST))
    assert feed["hx-trigger"] == "every 5s"
    assert "ws-connect" not in feed


def test_asking_gives_the_fragments_of_the_page(
    make_user: Callable[..., Any],
) -> None:
    user = make_user("view_run")
    client = Client()
    client.force_login(user)
    run = workflows.echo.enqueue()
    wanted: list[Topic] = [RowTopic(EN, run.id), PageTopic(EN, run.id)]
    drain()
    html = client.get(LIVE, {"t": tokens.dumps(user.pk, wanted)}).content.decode()
    for target in (f"run-{run.id.hex}-status", "run-header", "task-0"):
        assert f'id="{target}"' in html
    assert "Completed" in html
    elements = Parsed(html).elements
    assert all("hx-swap-oob" in attrs for _, attrs in elements if attrs.get("id"))


def test_asking_with_anothers_or_a_forged_token_finds_nothing(
    admin: Client, make_user: Callable[..., Any]
) -> None:
    other = tokens.dumps(make_user("view_run").pk, [])
    for token in (other, "x", ""):
        assert admin.get(LIVE, {"t": token}).status_code == 404


def test_a_token_names_what_the_page_shows_and_no_more(
    make_user: Callable[..., Any],
) -> None:
    user = make_user("view_run")
    client = Client()
    client.force_login(user)
    run = workflows.echo.using(metadata={"key": "a-secret"}).enqueue()
    html = client.get(f"{LIST}?workflow=ui-echo").content.decode()
    token = (feed_of(html)["data-poll"] or "").partition("?t=")[2]
    shown = tokens.loads(unquote(token), user.pk)
    assert [type(topic) for topic in shown] == [RowTopic, NewerTopic]
    assert shown[0].run_id == run.id
    assert isinstance(shown[1], NewerTopic)
    assert shown[1].criteria.pairs == (("workflow", "ui-echo"),)


def test_words_are_those_of_the_topics_language_and_zone() -> None:
    run = workflows.echo.enqueue()
    drain()
    places = [RowTopic(EN, run.id), RowTopic(Locale("de", "Asia/Tokyo"), run.id)]
    here, there = (topics.render([place])[place] for place in places)
    target = cells.target(Run(pk=run.id), "started")
    assert "UTC" in here[target]
    assert "JST" in there[target]


@pytest.mark.parametrize(
    ("newest", "shown", "has_older", "expected"),
    [
        ([], [], False, 0),
        ([3, 2, 1], [], False, 3),
        ([3, 2, 1], [2, 1], False, 1),
        ([5, 4, 3, 2, 1], [4, 2], True, 2),  # 3 came to match; 1 is on the next page
        (range(200, 50, -1), range(100, 50, -1), True, 100),
    ],
)
def test_what_a_page_does_not_show_is_counted(
    newest: Any, shown: Any, has_older: bool, expected: int
) -> None:
    page = newer.Shown(tuple(UUID(int=n) for n in shown), has_older)
    assert newer.count([UUID(int=n) for n in newest], page) == expected


def test_the_newest_are_read_once_for_all_who_look_at_a_list(
    django_assert_num_queries: Any,
) -> None:
    keys = [workflows.echo.enqueue().id for _ in range(3)]
    lists: list[Topic] = [
        NewerTopic(EN, Criteria(), newer.Shown((key,), has_older=True)) for key in keys
    ]
    with django_assert_num_queries(1):
        rendered = topics.render(lists)
    assert "2 new runs<" in rendered[lists[0]][newer.TARGET]
    assert "new run" not in rendered[lists[2]][newer.TARGET]
