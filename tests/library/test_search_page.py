from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse

from sample_project.library import indexing
from sample_project.library.installed import Installed
from sample_project.library.models import Document, SourceFile
from sample_project.library.parsing import ParsedDocument
from sample_project.library.searching import snippet

pytestmark = pytest.mark.django_db

TEXTS = {
    "zoo.Wombat": ("class", "A wombat digs tunnels."),
    "zoo.feed": ("function", "Feed the wombats and the quokka."),
    "zoo": ("module", "Beware of <script>alert('wombat')</script> & <b>tags</b>."),
    "zoo.quiet": ("function", "Nothing of note."),
}


@pytest.fixture
def zoo() -> None:
    indexing.record_files(
        Installed("zoo", "2.0", "/site"), {"zoo.py": "", "bad.py": ""}
    )
    files = dict(SourceFile.objects.values_list("path", "pk"))
    documents = [
        ParsedDocument(kind, name, number, text)
        for number, (name, (kind, text)) in enumerate(TEXTS.items(), start=7)
    ]
    indexing.write_documents(
        "zoo", {files["zoo.py"]: documents}, {files["bad.py"]: "syntax error: line 1"}
    )
    indexing.index_documents("zoo")


def page(client: Client, **query: str) -> Any:
    return client.get(reverse("library:search"), query)


def hits(client: Client, **query: str) -> set[str]:
    return {document.name for document, _ in page(client, **query).context["hits"]}


def test_an_empty_index_says_what_to_run(client: Client) -> None:
    assert "manage.py index_library" in page(client).content.decode()


def test_the_page_counts_what_is_indexed(client: Client, zoo: None) -> None:
    shown = " ".join(page(client).content.decode().split())
    assert "4 documents of 1 distributions, read from 2 files" in shown
    assert "1 of them broken" in shown


def test_words_phrases_alternatives_and_exclusions_are_understood(
    client: Client, zoo: None
) -> None:
    assert hits(client, q="wombat") == {"zoo.Wombat", "zoo.feed"}
    assert hits(client, q="wombat -quokka") == {"zoo.Wombat"}
    assert hits(client, q='"digs tunnels"') == {"zoo.Wombat"}
    assert hits(client, q="tunnel or note") == {"zoo.Wombat", "zoo.quiet"}
    assert hits(client, q="feed") == {"zoo.feed"}  # a word of its name
    assert hits(client, q="wombat", kind="function") == {"zoo.feed"}
    assert hits(client, q="the") == set()


def test_what_matched_is_marked_and_everything_is_escaped(
    client: Client, zoo: None
) -> None:
    shown = page(client, q="tags").content.decode()
    assert "<mark>tags</mark>" in shown
    assert "<script" not in shown
    document = Document.objects.get(name="zoo")
    shown = client.get(document.get_absolute_url()).content.decode()
    assert "&lt;script&gt;alert(&#x27;wombat&#x27;)&lt;/script&gt; &amp;" in shown


def test_a_hit_says_where_it_is(client: Client, zoo: None) -> None:
    shown = page(client, q="tunnels").content.decode()
    assert "zoo 2.0 · zoo.py:7" in shown


@pytest.mark.parametrize(
    "q",
    ["\0", "x" * 201, "'\" & | ! ( ) :* <->", "\ud800".encode("utf-8", "replace"), "%"],
)
def test_any_query_gets_an_answer(client: Client, zoo: None, q: Any) -> None:
    assert page(client, q=q).status_code == 200


def test_a_refused_query_says_why(client: Client, zoo: None) -> None:
    assert "Null characters are not allowed" in page(client, q="a\0").content.decode()
    assert "Select a valid choice" in page(client, q="a", kind="b").content.decode()


def test_pages_keep_the_query_and_accept_any_number(client: Client, zoo: None) -> None:
    file = SourceFile.objects.get(path="zoo.py")
    many = [
        Document(
            distribution=file.distribution,
            file=file,
            kind="class",
            name=f"zoo.W{n}",
            line=n,
            text="Numbat.",
        )
        for n in range(45)
    ]
    Document.objects.bulk_create(many)
    indexing.index_documents("zoo")
    first = page(client, q="numbat").content.decode()
    assert "45 documents match" in first
    assert 'href="?q=numbat&amp;page=2"' in first
    assert len(hits(client, q="numbat", page="3")) == 5
    assert len(hits(client, q="numbat", page="x")) == 20


def test_a_page_of_hits_takes_few_queries(
    client: Client, zoo: None, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(7):
        page(client, q="wombat")


def test_broken_files_are_listed_with_the_reason(client: Client, zoo: None) -> None:
    shown = client.get(reverse("library:broken_files")).content.decode()
    assert "bad.py" in shown
    assert "syntax error: line 1" in shown


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(
    client: Client, zoo: None
) -> None:
    document = Document.objects.get(name="zoo.feed").get_absolute_url()
    for address in (
        reverse("library:search") + "?q=wombat",
        reverse("library:broken_files"),
        document,
    ):
        shown = client.get(address).content.decode()
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://", shown)


def test_the_page_has_both_colour_schemes() -> None:
    found = finders.find("library/library.css")
    assert isinstance(found, str)
    style = Path(found).read_text()
    assert "color-scheme: light dark" in style
    assert "prefers-color-scheme: dark" in style


def test_pages_only_answer_safe_methods(client: Client) -> None:
    assert client.post(reverse("library:search")).status_code == 405


def test_admin_shows_the_index_and_changes_nothing(
    admin_client: Client, zoo: None, django_user_model: type[User]
) -> None:
    for model in ("distribution", "sourcefile", "document"):
        assert (
            admin_client.get(reverse(f"admin:library_{model}_changelist")).status_code
            == 200
        )
        add = reverse(f"admin:library_{model}_add")
        assert admin_client.get(add).status_code == 403
    broken = reverse("admin:library_sourcefile_changelist") + "?broken=yes"
    assert "1 source file" in admin_client.get(broken).content.decode()
    one = Document.objects.get(name="zoo.feed")
    change = reverse("admin:library_document_change", args=[one.pk])
    assert "Feed the wombats" in admin_client.get(change).content.decode()


@pytest.mark.parametrize(
    ("headline", "parts"),
    [
        ("", []),
        ("plain", [("plain", False)]),
        ("a \x02b\x03 c", [("a ", False), ("b", True), (" c", False)]),
        ("\x02b\x03\x02c\x03", [("b", True), ("c", True)]),
        ("a \x02never ends", [("a ", False), ("never ends", False)]),
        ("ends\x03 alone", [("ends\x03 alone", False)]),
    ],
)
def test_a_snippet_survives_marks_in_the_text(
    headline: str, parts: list[tuple[str, bool]]
) -> None:
    assert snippet(headline) == parts
