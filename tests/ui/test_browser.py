"""Journeys in a real browser, on a live site under a strict content security policy."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.urls import reverse

from orchestrator.models import AuditEntry, Run
from tests.acceptance.harness import Harness, wait_until
from tests.ui.app import workflows
from tests.ui.browser import Visitor, launched, stayed, stays
from tests.ui.test_escaping import EVIL

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LIST = "/admin/orchestrator/run/"
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
THEMES = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}


class Site:
    """A web server, a worker and a scheduler on the database of this test."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        self.start("runserver", "--noreload", f"127.0.0.1:{self.port}")
        wait_until(self.answers, "the web server answers", detail=self.harness.logs)

    def work(self) -> None:
        worker = self.start("runworker", "--slots", "4")
        self.start("runscheduler")
        self.harness.ready(worker)

    def start(self, *arguments: str) -> Any:
        environment = {"DJANGO_SETTINGS_MODULE": "tests.ui.settings"}
        return self.harness.manage(*arguments, environment=environment)

    def answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright's own loop runs in this thread; the tests use the ORM beside it.
    with pytest.MonkeyPatch.context() as patch, launched() as started:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield started


@pytest.fixture
def site(browser: Browser, transactional_db: None, tmp_path: Path) -> Iterator[Site]:
    harness = Harness(tmp_path)
    yield Site(harness)
    harness.close()


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(site: Site, browser: Browser, make_user: Any) -> Iterator[Visit]:
    """Makes visitors; at the end none of them may have had anything to complain of."""
    visitors: list[Visitor] = []

    def enter(username: str = "root", **options: Any) -> Visitor:
        visitor = Visitor(browser, site.base, username, **options)
        visitors.append(visitor)
        return visitor

    make_user(name="root", is_superuser=True)
    site.serve()
    yield enter
    complaints = [text for visitor in visitors for text in visitor.complaints]
    for visitor in visitors:
        visitor.context.close()
    assert not complaints


def page_of(run_id: Any) -> str:
    return reverse("admin:orchestrator_run_change", args=(run_id,))


def badge(run_id: Any, tone: str) -> str:
    return f"#run-{run_id.hex}-status .orch-{tone}"


def test_a_run_is_watched_to_its_end_without_a_reload(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.work()
    parse, report = tmp_path / "parse", tmp_path / "report"
    run = workflows.pipeline.enqueue({"parse": str(parse), "report": str(report)})
    person = visit()
    listing, page = person.look(LIST), person.look(page_of(run.id))
    stays(listing)
    stays(page)
    page.wait_for_selector("#task-1 .orch-busy")
    listing.wait_for_selector(badge(run.id, "busy"))
    assert "2 of 5 tasks ended" in page.inner_text("#run-header")
    assert not page.locator("text='4 documents'").count()
    parse.touch()
    page.wait_for_selector("#task-4 .orch-busy")
    assert page.locator('#run-graph a[href="#task-3"].orch-good').count() == 1
    report.touch()
    page.wait_for_selector("#run-header.orch-is-completed")
    listing.wait_for_selector(badge(run.id, "good"))
    page.wait_for_selector("#run-outputs >> text=4 documents")
    assert page.locator(".orch-task .orch-attempts").count() == 5
    assert stayed(listing)
    assert stayed(page)


def test_new_runs_wait_behind_a_link_and_nothing_jumps(
    site: Site, visit: Visit
) -> None:
    site.work()
    first = workflows.echo.enqueue()
    listing = visit().look(LIST)
    listing.wait_for_selector(badge(first.id, "good"))
    stays(listing)
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(3))
    listing.wait_for_selector("#runs-newer >> text=3 new runs")
    assert listing.locator("#result_list tbody tr").count() == 1
    assert stayed(listing)
    listing.click("#runs-newer a")
    listing.wait_for_selector(".orch-live-on")
    assert listing.locator("#result_list tbody tr").count() == 4


def test_a_failed_run_is_found_and_retried(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.work()
    gate = tmp_path / "gate"
    run = workflows.fail.enqueue("It broke.", str(gate))
    workflows.echo.enqueue()
    person = visit()
    listing = person.look(LIST)
    listing.wait_for_selector(badge(run.id, "bad"))
    listing.click("#changelist-filter >> text=Failed")
    listing.wait_for_url("**status=FAILED")
    listing.wait_for_selector(badge(run.id, "bad"))
    assert listing.locator("#result_list tbody tr").count() == 1
    assert "It broke." in listing.inner_text("#result_list")
    listing.click(f"#result_list a[title='{run.id}']")
    listing.click("summary:has-text('Traceback')")
    assert "RuntimeError: It broke." in listing.inner_text("details[open] pre")
    gate.touch()
    listing.click(".orch-actions button:text('Retry')")
    listing.fill("#orch-reason", "the disk is mended")
    assert "Retry this run?" in listing.inner_text("#content-main")
    listing.click(".orch-confirm button")
    listing.wait_for_selector(".messagelist >> text=1 run is executed again.")
    listing.wait_for_selector("#run-header.orch-is-completed")
    assert "the disk is mended" in listing.inner_text("#run-audit")
    assert AuditEntry.objects.get().action == "retry"


def test_a_running_run_is_cancelled(site: Site, visit: Visit, tmp_path: Path) -> None:
    site.work()
    run = workflows.wait.enqueue(str(tmp_path / "gate"))
    person = visit()
    page, other = person.look(page_of(run.id)), person.look(page_of(run.id))
    page.wait_for_selector("#run-header.orch-is-running")
    page.click(".orch-actions button:text('Cancel')")
    page.fill("#orch-reason", "started by mistake")
    page.click(".orch-confirm button")
    page.wait_for_selector(".messagelist >> text=1 run was cancelled.")
    # Whoever else looks sees it, too, and what cannot be done any more is gone.
    other.wait_for_selector("#run-header.orch-is-cancelled")
    assert "started by mistake" in other.inner_text("#run-header")
    assert not other.locator(".orch-action-cancel").is_visible()
    assert other.locator(".orch-action-retry").is_visible()
    assert Run.objects.get(pk=run.id).status == "CANCELLED"


def test_what_is_open_stays_open_while_the_page_changes(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.work()
    gate = tmp_path / "gate"
    run = workflows.pipeline.enqueue({"fail": "It broke.", "parse": str(gate)})
    page = visit().look(page_of(run.id))
    page.click("summary:has-text('Traceback')")
    page.focus("#task-2 h3 a")
    gate.touch()
    page.wait_for_selector("#task-1 .orch-attempts .orch-good")
    assert page.locator("details[open] >> text=ValueError: It broke.").is_visible()
    assert page.evaluate("document.activeElement.closest('section').id") == "task-2"


def test_seconds_are_counted(site: Site, visit: Visit, tmp_path: Path) -> None:
    site.work()
    run = workflows.wait.enqueue(str(tmp_path / "gate"))
    page = visit().look(page_of(run.id))
    page.wait_for_selector("#run-header .orch-elapsed:has-text('2 s')")
    page.wait_for_selector("#run-header .orch-elapsed:has-text('3 s')")


def test_without_a_socket_the_page_asks_every_few_seconds(
    site: Site, visit: Visit
) -> None:
    run = workflows.echo.enqueue()
    page = visit().page()
    page.route_web_socket("**/ws/**", lambda ws: ws.close(code=1011))
    page.goto(f"{site.base}{page_of(run.id)}")
    page.wait_for_selector(".orch-live-poll >> text=Every 5 seconds")
    run.cancel("not needed")
    page.wait_for_selector("#run-header.orch-is-cancelled")


@pytest.fixture
def deaf(site: Site) -> None:
    """The site's processes have LISTEN turned off."""
    site.harness.options["LISTEN"] = False


def test_without_listen_no_socket_is_asked_for(
    deaf: None, site: Site, visit: Visit
) -> None:
    run = workflows.echo.enqueue()
    page = visit().look(page_of(run.id), live=False)
    page.wait_for_selector(".orch-live-poll >> text=Every 5 seconds")
    assert page.locator("[ws-connect]").count() == 0
    run.cancel("not needed")
    page.wait_for_selector("#run-header.orch-is-cancelled")


def test_a_lost_connection_to_the_database_is_found_again(
    site: Site, visit: Visit
) -> None:
    site.work()
    listing = visit().look(LIST)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'orchestrator feed' "
            "AND datname = current_database()"
        )
        assert cursor.fetchall() == [(True,)]
    workflows.echo.enqueue()
    listing.wait_for_selector("#runs-newer >> text=1 new run")


def test_signing_out_stops_the_feed(site: Site, visit: Visit) -> None:
    person = visit()
    listing, other = person.look(LIST), person.look(LIST)
    other.click("#logout-form button")
    listing.wait_for_selector(".orch-live-off")


def test_evil_text_does_nothing_on_any_page(site: Site, visit: Visit) -> None:
    site.work()
    run = workflows.fail.using(
        metadata={EVIL: EVIL}, tenant="<img src=x onerror=alert(1)>"
    ).enqueue(f"<img src=x onerror=alert(1)><script>alert(2)</script>{EVIL}")
    person = visit()
    page, listing = person.look(page_of(run.id)), person.look(LIST)
    page.wait_for_selector("#run-header.orch-is-failed")
    listing.wait_for_selector(badge(run.id, "bad"))
    for tab in (page, listing):
        assert "<img src=x onerror=alert(1)>" in tab.inner_text("#content-main")
        assert tab.locator("orch-evil, img[src='x']").count() == 0


def test_pages_fit_and_are_drawn_in_both_themes(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    """Screenshots go to $SCREENSHOTS, to be looked at by a person."""
    site.work()
    gate = tmp_path / "gate"
    run = workflows.pipeline.using(metadata={"user": "7"}).enqueue(
        {"parse": str(gate), "fail": "could not parse the module"}
    )
    failed = workflows.fail.enqueue("Connection refused by mail.example.com:25")
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(12))
    wait_until(lambda: Run.objects.get(pk=failed.id).status == "FAILED", "it fails")
    target = Path(os.environ.get("SCREENSHOTS", tmp_path))
    target.mkdir(parents=True, exist_ok=True)
    for theme, (size, (width, height)) in product(THEMES, SIZES.items()):
        viewport = {"width": width, "height": height}
        person = visit(viewport=viewport, color_scheme=theme)
        for name, path in {
            "list": LIST,
            "run": page_of(run.id),
            "workers": reverse("admin:orchestrator_worker_changelist"),
            "queues": reverse("admin:orchestrator_queue_changelist"),
        }.items():
            page = person.look(path, live=name in ("list", "run"))
            overflow = page.evaluate(
                "document.documentElement.scrollWidth - window.innerWidth"
            )
            assert overflow <= 0, f"{name} is {overflow} pixels too wide"
            shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert shown == THEMES[theme]
            shot = target / f"{name}-{theme}-{size}.png"
            page.screenshot(path=shot, full_page=True)
            assert shot.stat().st_size > 10_000
            page.close()


def test_a_whole_list_is_cancelled_in_the_background_and_watched(
    site: Site, visit: Visit
) -> None:
    calls = [workflows.echo.bind(n) for n in range(600)]
    workflows.echo.enqueue_many(calls)
    page = visit().look(LIST)
    page.check("#result_list tbody tr:first-child input[type=checkbox]")
    page.select_option("select[name=action]", "cancel")
    page.click("button[name=index]")
    page.check("input[name=scope][value=whole]")
    page.fill("#orch-reason", "A mistake")
    page.click(".orch-confirm button[type=submit]")
    page.wait_for_selector(".orch-live-on")
    assert "0 of 600" in page.inner_text("#bulk-progress")
    stays(page)
    site.start("runscheduler")
    page.wait_for_selector("#bulk-progress.orch-is-over")
    assert "600 of 600" in page.inner_text("#bulk-progress")
    assert not page.locator("text='Stop it'").is_visible()
    assert stayed(page)
    assert Run.objects.with_status("CANCELLED").count() == 600
