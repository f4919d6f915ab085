"""Pages as a browser reads them, and the addresses of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from django.urls import reverse

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


class Parsed(HTMLParser):
    """The elements of a page: what a browser would make of its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._in_script = False
        self.inline_scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._in_script and data.strip():
            self.inline_scripts.append(data)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def attributes(self, name: str) -> list[str | None]:
        """The values of one attribute, wherever it is."""
        return [attrs[name] for _, attrs in self.elements if name in attrs]

    @property
    def attribute_names(self) -> set[str]:
        return {name for _, attrs in self.elements for name in attrs}


def all_urls() -> Iterator[str]:
    """Every list, and the page of every row, that there is to see."""
    for model in MODELS:
        name = model._meta.model_name
        yield reverse(f"admin:orchestrator_{name}_changelist")
        for pk in model._default_manager.values_list("pk", flat=True):
            yield reverse(f"admin:orchestrator_{name}_change", args=(pk,))
