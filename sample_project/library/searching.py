"""Full-text search of the documents."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.search import SearchHeadline, SearchQuery, SearchRank
from django.db.models import F, QuerySet
from django.db.models.functions import Left

from .indexing import SEARCH_CONFIG
from .models import Document

# Control characters, since what they enclose is escaped by the template like any text.
_START, _STOP = "\x02", "\x03"

_HEADLINE_CHARACTERS = 20_000
"""How much of a document is looked at for its snippet: a headline parses its text."""


def search(words: str, *, kind: str = "") -> QuerySet[Any]:
    """The indexed documents that match `words`, the best first, each with a `headline`
    for `snippet`.

    `words` is read as search engines do: all of them, "a phrase", `or`, `-without`.
    """
    query = SearchQuery(words, config=SEARCH_CONFIG, search_type="websearch")
    documents = Document.objects.filter(vector=query)
    if kind:
        documents = documents.filter(kind=kind)
    return (
        documents.annotate(
            rank=SearchRank(F("vector"), query),
            headline=SearchHeadline(
                Left("text", _HEADLINE_CHARACTERS),
                query,
                config=SEARCH_CONFIG,
                start_sel=_START,
                stop_sel=_STOP,
                max_fragments=2,
                max_words=30,
                min_words=12,
                fragment_delimiter=" … ",
            ),
        )
        .select_related("distribution", "file")
        .defer("text", "vector")
        .order_by("-rank", "pk")
    )


def snippet(headline: str) -> list[tuple[str, bool]]:
    """The parts of a headline, each with whether it matched the query."""
    parts: list[tuple[str, bool]] = []
    for number, piece in enumerate(headline.split(_START)):
        hit, stop, rest = piece.partition(_STOP) if number else ("", "", piece)
        if number and not stop:
            hit, rest = "", piece
        parts += [(hit, True), (rest, False)]
    return [(text, matched) for text, matched in parts if text]
