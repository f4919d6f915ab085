"""References that the database does not enforce."""

from __future__ import annotations

from typing import Any

from django.db import models


def reference(to: str, **options: Any) -> models.ForeignKey[Any, Any]:
    """A foreign key for joins alone: no constraint, no index, no reverse manager.

    The hot tables pay for neither, and a partition can be dropped while a definition
    or a late report still names a row of it.
    """
    return models.ForeignKey(
        to,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
        **options,
    )


def key(to: str) -> models.OneToOneField[Any, Any]:
    """A primary key that is another row's, unenforced like `reference`."""
    return models.OneToOneField(
        to,
        primary_key=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )


class NotEmpty(models.Func):
    """`metadata <> '{}'`, word for word the predicate of the metadata index."""

    template = "%(expressions)s <> '{}'::jsonb"
    arity = 1
    output_field = models.BooleanField()
