"""What users and their code write is shown as text, wherever it is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse

import orchestrator_ui
from orchestrator import ids, operations
from orchestrator.engine import enqueue, register, sessions, workers
from orchestrator.engine.shapes import Shape
from orchestrator.models import Attempt, AuditEntry, Run, TaskRun, Worker
from orchestrator.operations import RunFilter
from orchestrator.testing import drain
from orchestrator_ui.feed import topics
from orchestrator_ui.feed.topics import (
    Locale,
    NewerTopic,
    PageTopic,
    RowTopic,
    Topic,
)
from orchestrator_ui.views import newer
from orchestrator_ui.views.criteria import Criteria
from tests.ui.app import workflows
from tests.ui.pages import Parsed, all_urls

CORPUS = [
    "<orch-evil>",
    '"><orch-evil>',
    "'><orch-evil>",
    '" onorchevil="x',
    "' onorchevil='x",
    "` onorchevil=x ",
    " onorchevil=x ",
    "<orch-evil onorchevil=x",
    "<orch-evil/onorchevil=x>",
    "</pre><orch-evil>",
    "</script><orch-evil>",
    "</title><orch-evil>",
    "</textarea><orch-evil>",
    "</style><orch-evil>",
    "</svg><orch-evil>",
    "--><orch-evil>",
    "]]><orch-evil>",
    "<svg><orch-evil onorchevil=x></svg>",
    "<math><orch-evil></math>",
    "<template><orch-evil></template>",
    "<div hx-get='/orch-evil' hx-trigger='load'>",
    "<div hx-on:click='orchevil'>",
    "&lt;orch-evil&gt;",
    "&#60;orch-evil&#62;",
    "%3Corch-evil%3E",
    "\\u003corch-evil\\u003e",
    "{{ 'orch'|add:'-evil' }}",
    "{% include 'orch-evil' %}",
    "javascript:orchevil()",
    "\u202e<orch-evil>",
    "\x1b[31m<orch-evil>",
    "<<orch-evil>>",
    "<\u00adorch-evil>",
    "é<orch-evil>ü",
]
EVIL = " ".join(CORPUS)
SHORT = '"><orch-evil onorchevil=x>'

pytestmark = pytest.mark.django_db


@pytest.fixture
def evil_history(make_user: Any) -> None:
    """Every text column of every model holds the corpus, or what fits of it."""
    session = sessions.django_session()
    name = f"w{SHORT}"
    shape = Shape.build(
        name,
        {
            "workflow": name,
            "standalone": False,
            "description": EVIL,
            "queue_name": f"q{SHORT}",
            "tasks": [
                {"name": f"a{SHORT}", "parents": []},
                {"name": f"b{SHORT}", "parents": [f"a{SHORT}"]},
            ],
        },
    )
    register.register(session, [shape])
    for _ in range(2):
        enqueue.enqueue(
            session,
            shape,
            [json.dumps({EVIL: EVIL})],
            metadata=json.dumps({EVIL: EVIL, "key": [EVIL]}),
            tenant=SHORT,
        )
    failed = workflows.fail.using(metadata={EVIL: EVIL}).enqueue(EVIL)
    echo = workflows.echo.using(tenant=SHORT).enqueue({EVIL: [EVIL]})
    drain()
    user = make_user(name='"><orch-evil>', is_superuser=True)
    operations.retry_runs(RunFilter(ids=[failed.id]), reason=EVIL, actor=user)
    drain()
    operations.rerun_runs(RunFilter(ids=[echo.id]), reason=EVIL, actor=user)
    cancelled = workflows.echo.enqueue()
    operations.cancel_runs(RunFilter(ids=[cancelled.id]), reason=EVIL, actor=user)
    workers.register_worker(
        session,
        ids.uuid7(),
        name=SHORT,
        hostname=SHORT,
        pid=1,
        queues=[EVIL],
        labels={EVIL: EVIL},
        tasks=[task.id for task in shape.tasks],
        slots=1,
        processes=1,
    )
    Attempt.objects.update(
        error={"type": f"evil.{EVIL}", "message": EVIL, "traceback": EVIL},
        worker_id=Worker.objects.get().pk,
    )
    AuditEntry.objects.update(target_repr=SHORT, data={EVIL: EVIL, "new_run": SHORT})
    TaskRun.objects.filter(outcome_status__isnull=False).update(output={EVIL: EVIL})
    TaskRun.objects.update(status_reason=EVIL)
    Run.objects.update(status_reason=EVIL)


def assert_harmless(html: str, where: str) -> None:
    parsed = Parsed(html)
    assert not [tag for tag in parsed.tags if "orch-evil" in tag], where
    assert "onorchevil" not in parsed.attribute_names, where
    assert "/orch-evil" not in parsed.attributes("hx-get"), where
    assert not [n for n in parsed.attribute_names if n.startswith("hx-on")], where
    for link in parsed.attributes("href"):
        assert not (link or "").startswith("javascript:"), where
    assert "orchevil" not in "".join(parsed.inline_scripts), where


def test_every_page_shows_the_corpus_as_text(evil_history: None, admin: Client) -> None:
    seen = ""
    for url in all_urls():
        response = admin.get(url)
        assert response.status_code == 200, url
        html = response.content.decode()
        assert_harmless(html, url)
        seen += html
    assert seen.count("&lt;orch-evil&gt;") > 50


def test_confirmations_show_it_as_text(evil_history: None, admin: Client) -> None:
    keys = [str(key) for key in Run.objects.values_list("pk", flat=True)]
    for name in ("cancel", "retry", "rerun"):
        url = reverse("admin:orchestrator_run_operate", args=(name,))
        html = admin.post(url, {"id": keys}).content.decode()
        assert "&lt;orch-evil" in html
        assert_harmless(html, name)


def test_fragments_of_the_feed_show_it_as_text(evil_history: None) -> None:
    locale = Locale.current()
    runs = list(Run.objects.all())
    shown = newer.Shown((), has_older=False)
    criteria = Criteria((("workflow", f"w{SHORT}"), ("q", EVIL)))
    wanted: list[Topic] = [
        *(RowTopic(locale, run.pk) for run in runs),
        *(PageTopic(locale, run.pk) for run in runs),
        NewerTopic(locale, Criteria(criteria.pairs[:1]), shown),
    ]
    rendered = topics.render(wanted)
    assert set(rendered) == set(wanted)
    html = "".join(text for parts in rendered.values() for text in parts.values())
    assert "&lt;orch-evil" in html
    assert_harmless(html, "feed")


@pytest.mark.parametrize(
    "name", ["q", "workflow", "queue", "metadata", "since", "status", "window", "c"]
)
def test_what_is_asked_for_is_repeated_as_text(admin: Client, name: str) -> None:
    workflows.echo.enqueue()
    base = reverse("admin:orchestrator_run_changelist")
    for text in (EVIL, SHORT):
        response = admin.get(f"{base}?{name}={quote(text)}", follow=True)
        assert response.status_code == 200
        assert_harmless(response.content.decode(), name)


def test_no_source_marks_text_as_safe() -> None:
    root = Path(orchestrator_ui.__file__).parent
    forbidden = re.compile(
        r"mark_safe|SafeString\(|\|\s*safe\b|autoescape off|\bjs:|hx-on|innerHTML\s*="
    )
    for path in root.rglob("*"):
        if path.suffix in {".py", ".html", ".js"}:
            assert not forbidden.search(path.read_text()), path


def test_pages_have_no_inline_script_style_or_handler(
    evil_history: None, admin: Client
) -> None:
    for url in all_urls():
        parsed = Parsed(admin.get(url).content.decode())
        assert not parsed.inline_scripts, url
        assert not parsed.attributes("style"), url
        assert "style" not in parsed.tags, url
        handlers = {n for n in parsed.attribute_names if n.startswith("on")}
        assert not handlers, url
        for source in parsed.attributes("src"):
            assert (source or "").startswith("/"), url
