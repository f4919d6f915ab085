"""A browser that looks at the site, and remembers what it complained about.

Playwright is imported when a browser is asked for: collecting tests needs none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.ui.conftest import PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE = 20_000  # milliseconds that a person would wait on a busy machine


def executable() -> str:
    """Where the browser is. Fails with what to do where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert found, "No chromium: apt-get install chromium, or set CHROMIUM to a browser."
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless browser, for as long as the block lasts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(),
            args=["--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A person in front of a browser window, signed in to the admin."""

    def __init__(
        self, browser: Browser, base: str, username: str, **options: Any
    ) -> None:
        self.base = base
        self.complaints: list[str] = []
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        # Chromium asks for one by itself; the site has none.
        self.context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page = self.page()
        page.goto(f"{base}/admin/login/")
        page.fill("#id_username", username)
        page.fill("#id_password", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_selector("#user-tools")
        page.close()

    def page(self) -> Page:
        """An empty tab, whose errors, warnings and dialogs are remembered."""
        page = self.context.new_page()
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        return page

    def look(self, path: str, *, live: bool = True) -> Page:
        """A tab with a page, which is live."""
        page = self.page()
        page.goto(f"{self.base}{path}")
        if live:
            page.wait_for_selector(".orch-live-on")
        return page

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def stays(page: Page) -> None:
    """Mark a tab, so that `stayed` can tell whether it was loaded again."""
    page.evaluate("window.theSame = true")


def stayed(page: Page) -> bool:
    """Whether the tab is the same document as at `stays`."""
    return bool(page.evaluate("window.theSame === true"))
