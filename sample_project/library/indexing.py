"""The writes of the indexing tasks: one function and one transaction for each.

A task may run again after a crash, at the same time as a forgotten attempt of itself,
or beside another run of the same distribution. So each write brings the tables to what
the files say, and touches nothing that says it already: whoever writes last, or twice,
leaves the same rows. In particular a document that has not changed keeps its row and
its vector, so a late writer cannot take it out of the index again, and the search
finds the old documents until the new ones are complete.

Each locks the row of the distribution first, so two of them never meet inside. Nothing
is parsed while it is held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from django.contrib.postgres.search import SearchVector
from django.db import transaction
from django.db.models import CharField, F, Func, Value
from django.db.models.functions import Left, Now

from .installed import Installed
from .models import Distribution, Document, SourceFile
from .parsing import ParsedDocument

SEARCH_CONFIG = "english"

MAX_INDEXED_CHARACTERS = 65_536
"""PostgreSQL refuses a vector above 1 MiB; this much text cannot reach it, however
many different words it has. The document itself is stored whole."""

_BATCH = 1_000


def record_files(one: Installed, files: Mapping[str, str]) -> None:
    """Write the distribution and its files, given as `{path: problem}`; delete those
    that it lists no longer, with their documents."""
    Distribution.objects.get_or_create(
        name=one.name, defaults={"version": one.version, "location": one.location}
    )
    with _locked(one.name) as distribution:
        distribution.version, distribution.location = one.version, one.location
        distribution.save(update_fields=["version", "location"])
        stored = dict(distribution.files.values_list("path", "pk"))
        gone = [pk for path, pk in stored.items() if path not in files]
        Document.objects.filter(file__in=gone).delete()
        SourceFile.objects.filter(pk__in=gone).delete()
        SourceFile.objects.bulk_create(
            [
                SourceFile(distribution=distribution, path=path, problem=problem)
                for path, problem in files.items()
                if path not in stored
            ],
            batch_size=_BATCH,
        )


def write_documents(
    name: str,
    parsed: Mapping[int, Collection[ParsedDocument]],
    problems: Mapping[int, str],
) -> None:
    """Make `parsed`, by file id, the documents of these files of the distribution;
    `problems` has the reason for each file that could not be parsed. Files in neither
    are left alone, and those that another run has removed meanwhile are passed over."""
    with _locked(name) as distribution:
        known = distribution.files
        files = set(
            known.filter(pk__in=[*parsed, *problems]).values_list("pk", flat=True)
        )
        wanted = {
            (file, *document)
            for file, documents in parsed.items()
            if file in files
            for document in documents
        }
        rows = Document.objects.filter(file__in=files)
        stored = {
            tuple(row): pk
            for pk, *row in rows.values_list(
                "pk", "file", "kind", "name", "line", "text"
            ).iterator()
        }
        Document.objects.filter(
            pk__in=[pk for row, pk in stored.items() if row not in wanted]
        ).delete()
        Document.objects.bulk_create(
            [
                Document(
                    distribution=distribution,
                    file_id=file,
                    kind=kind,
                    name=name,
                    line=line,
                    text=text,
                )
                for file, kind, name, line, text in sorted(wanted - stored.keys())
            ],
            batch_size=_BATCH,
        )
        known.filter(pk__in=files - problems.keys()).exclude(problem="").update(
            problem=""
        )
        for file, problem in sorted(problems.items()):
            known.filter(pk=file).update(problem=problem)


def index_documents(name: str) -> int:
    """Compute the vector of each document of the distribution that has none, which
    makes it searchable. Returns how many had none: 0 where this was done already."""
    words = Func(
        F("name"),
        Value("._<>#"),
        Value("     "),
        function="translate",
        output_field=CharField(),
    )
    vector = SearchVector(words, weight="A", config=SEARCH_CONFIG) + SearchVector(
        Left("text", MAX_INDEXED_CHARACTERS), weight="B", config=SEARCH_CONFIG
    )
    with _locked(name) as distribution:
        indexed = distribution.documents.filter(vector=None).update(vector=vector)
        Distribution.objects.filter(pk=distribution.pk).update(indexed_at=Now())
    return indexed


def forget_others(installed: Collection[Installed]) -> int:
    """Delete the distributions that are not among `installed`, with all that is indexed
    of them. Returns how many rows went. Locks them, in no particular order."""
    names = [one.name for one in installed]
    deleted, _ = Distribution.objects.exclude(name__in=names).delete()
    return deleted


@contextmanager
def _locked(name: str) -> Iterator[Distribution]:
    """A transaction that holds the row of the distribution of that name.

    `no_key`, since inserting a file takes a share lock on that row's key.
    """
    with transaction.atomic():
        yield Distribution.objects.select_for_update(no_key=True).get(name=name)
