"""The writes of the tasks: whoever writes last, or twice, leaves the same rows."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from sample_project.library import counting, indexing
from sample_project.library.installed import Installed
from sample_project.library.models import Distribution, Document, SourceFile
from sample_project.library.parsing import ParsedDocument
from sample_project.library.searching import search

pytestmark = pytest.mark.django_db

TOOL = Installed("tool", "1.0", "/site")


def parsed(*texts: str) -> list[ParsedDocument]:
    return [
        ParsedDocument("function", f"m.f{number}", number, text)
        for number, text in enumerate(texts, start=1)
    ]


def recorded(*paths: str) -> dict[str, int]:
    indexing.record_files(TOOL, dict.fromkeys(paths, ""))
    files = SourceFile.objects.filter(distribution__name="tool")
    return dict(files.values_list("path", "pk"))


def make_document(file: int, name: str) -> None:
    tool = Distribution.objects.get()
    Document.objects.create(
        distribution=tool, file_id=file, kind="class", name=name, line=1
    )


def rows(fields: Iterable[str] = ("pk", "name", "text", "vector")) -> list[Any]:
    return list(Document.objects.order_by("name").values_list(*fields))


def found(words: str) -> list[str]:
    return [document.name for document in search(words)]


def test_a_document_is_found_once_it_is_indexed() -> None:
    files = recorded("m.py")
    indexing.write_documents("tool", {files["m.py"]: parsed("A wombat digs.")}, {})
    assert found("wombats") == []
    assert counting.count()["tool"].unindexed == 1
    assert indexing.index_documents("tool") == 1
    assert found("wombats") == ["m.f1"]
    assert counting.count()["tool"].unindexed == 0


def test_every_write_done_again_changes_no_row() -> None:
    files = recorded("m.py", "bad.py")
    documents = {files["m.py"]: parsed("One.", "Two.")}
    problems = {files["bad.py"]: "empty"}
    for _ in range(2):
        indexing.write_documents("tool", documents, problems)
    indexing.index_documents("tool")
    before = rows()

    assert recorded("m.py", "bad.py") == files
    indexing.write_documents("tool", documents, problems)
    assert indexing.index_documents("tool") == 0
    assert rows() == before
    assert counting.broken_files() == [("tool", "bad.py", "empty")]


def test_a_late_write_does_not_take_documents_out_of_the_index() -> None:
    files = recorded("m.py")
    documents = {files["m.py"]: parsed("A wombat.")}
    indexing.write_documents("tool", documents, {})
    indexing.index_documents("tool")
    indexing.write_documents("tool", documents, {})  # a forgotten attempt wakes up
    assert found("wombat") == ["m.f1"]


def test_only_what_changed_is_written_and_indexed_again() -> None:
    files = recorded("m.py")
    indexing.write_documents("tool", {files["m.py"]: parsed("One.", "Two.", "3.")}, {})
    indexing.index_documents("tool")
    (first, *_), _, _ = before = rows()

    indexing.write_documents("tool", {files["m.py"]: parsed("One.", "Deux.")}, {})
    assert indexing.index_documents("tool") == 1
    after = rows()
    assert after[0] == before[0]
    assert [text for _, _, text, _ in after] == ["One.", "Deux."]
    assert first == after[0][0]


def test_files_listed_no_longer_go_with_their_documents() -> None:
    files = recorded("m.py", "gone.py")
    indexing.write_documents(
        "tool", {files["m.py"]: parsed("One."), files["gone.py"]: parsed("Two.")}, {}
    )
    recorded("m.py", "new.py")
    assert [text for (text,) in rows(["text"])] == ["One."]
    paths = SourceFile.objects.values_list("path", flat=True)
    assert set(paths) == {"m.py", "new.py"}


def test_a_file_that_another_run_removed_is_passed_over() -> None:
    files = recorded("m.py", "gone.py")
    recorded("m.py")
    indexing.write_documents(
        "tool",
        {files["m.py"]: parsed("One."), files["gone.py"]: parsed("Two.")},
        {files["gone.py"]: "empty"},
    )
    assert [text for (text,) in rows(["text"])] == ["One."]


def test_a_file_becomes_broken_and_whole_again() -> None:
    files = recorded("m.py")
    file = files["m.py"]
    indexing.write_documents("tool", {file: parsed("One.")}, {})
    indexing.write_documents("tool", {}, {file: "empty"})
    assert (rows(), counting.count()["tool"].broken) == ([], 1)
    indexing.write_documents("tool", {file: parsed("One.")}, {})
    assert (len(rows()), counting.count()["tool"].broken) == (1, 0)


def test_the_branches_of_a_distribution_leave_each_other_alone() -> None:
    files = recorded("a.py", "b.py", "c.py")
    indexing.write_documents(
        "tool", {files["a.py"]: parsed("A.")}, {files["c.py"]: "x"}
    )
    indexing.write_documents("tool", {files["b.py"]: parsed("B.")}, {})
    assert counting.count()["tool"].total == 2
    assert counting.count()["tool"].broken == 1


def test_two_documents_of_one_name_and_kind_are_refused_by_the_table() -> None:
    files = recorded("m.py")
    make_document(files["m.py"], "m.A")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_document(files["m.py"], "m.A")


def test_a_text_of_many_words_does_not_exceed_a_vector() -> None:
    """PostgreSQL refuses a vector above 1 MiB."""
    files = recorded("m.py")
    plain = " ".join(f"{number:x}" for number in range(400_000))
    hyphens = "-".join(chr(0x10400 + number % 40) * 3 for number in range(400_000))
    mixed = " ".join(f"ż{number:x}-ź{number:x}" for number in range(200_000))
    addresses = " ".join(f"a{number:x}.eu/{number:x}" for number in range(200_000))
    texts = parsed(plain, hyphens, mixed, addresses, "x" * 1_000_000)
    indexing.write_documents("tool", {files["m.py"]: texts}, {})
    assert indexing.index_documents("tool") == 5


def test_the_longest_names_and_paths_fit_their_indexes() -> None:
    path = "\U00010400" * 500
    files = recorded(path)
    name = "\U00010400" * 502
    make_document(files[path], name)


def test_forgetting_keeps_what_is_installed() -> None:
    files = recorded("m.py")
    indexing.write_documents("tool", {files["m.py"]: parsed("One.")}, {})
    indexing.forget_others([TOOL])
    assert len(rows()) == 1
    indexing.forget_others([])
    assert (rows(), Distribution.objects.count()) == ([], 0)


def test_a_search_reads_the_index_of_words() -> None:
    files = recorded("m.py")
    texts = parsed(*(f"Text {number}." for number in range(3_000)), "A wombat.")
    indexing.write_documents("tool", {files["m.py"]: texts}, {})
    indexing.index_documents("tool")
    with connection.cursor() as cursor:
        # As a vacuum does: what the index has not sorted in yet costs every search.
        cursor.execute("SELECT gin_clean_pending_list('library_document_vector')")
        cursor.execute("ANALYZE library_document")
        query, parameters = search("wombat").query.sql_with_params()
        cursor.execute(f"EXPLAIN {query}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "library_document_vector" in plan, plan


def test_indexing_takes_a_moment_though_the_tables_are_thought_empty() -> None:
    """As after an ANALYZE between a deletion and the next insertions: the planner takes
    any join of these tables for a join of two rows."""
    files = recorded("m.py")
    texts = parsed(*(f"Text {number}." for number in range(500)))
    indexing.write_documents("tool", {files["m.py"]: texts}, {})
    indexing.forget_others([])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE library_document, library_sourcefile")
        cursor.execute("SET LOCAL statement_timeout = '10s'")
    files = recorded(*(f"{number}.py" for number in range(1_000)))
    documents = {file: parsed(*(5 * ["A wombat."])) for file in files.values()}
    indexing.write_documents("tool", documents, {})
    assert indexing.index_documents("tool") == 5_000
    assert counting.count()["tool"].total == 5_000
    assert len(search("wombat")) == 5_000


@pytest.mark.django_db(transaction=True)
def test_two_attempts_side_by_side_leave_the_documents_once() -> None:
    files = recorded("m.py", "n.py")
    documents = {
        files["m.py"]: parsed(*(f"Text {n}." for n in range(200))),
        files["n.py"]: parsed(*(f"Text {n}." for n in range(200))),
    }
    barrier = threading.Barrier(4)
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            barrier.wait(timeout=30)
            indexing.write_documents("tool", documents, {})
            indexing.index_documents("tool")
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    counts = counting.count()["tool"]
    assert (counts.total, counts.unindexed) == (400, 0)
