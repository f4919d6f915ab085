"""What has been indexed: distributions, their files, and the documents of the files.

The unique constraints are what "exactly once" means here, whatever a task that runs
twice does: one row per distribution, per path in it, and per kind and name in a file.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.urls import reverse

from . import parsing


class Distribution(models.Model):
    """An installed Python distribution. `location` is the directory that its paths
    are relative to; `indexed_at` is when its index was last completed."""

    name = models.CharField(max_length=200, unique=True)
    version = models.CharField(max_length=100)
    location = models.TextField()
    indexed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class SourceFile(models.Model):
    """A file that a distribution lists: its Python sources, and its METADATA for the
    README. `problem` is empty, or the reason why the file has no documents."""

    # The constraint below begins with this column, so it needs no index of its own.
    distribution = models.ForeignKey(
        Distribution, models.CASCADE, related_name="files", db_index=False
    )
    path = models.TextField()
    problem = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["distribution", "path"]
        constraints = [
            models.UniqueConstraint(
                fields=["distribution", "path"], name="library_file_once"
            )
        ]

    def __str__(self) -> str:
        return self.path


class Document(models.Model):
    """The README of a distribution, or the docstring of a module, class or function.

    `vector` is null between the parsing of a document and its indexing: such a
    document is not found by the search yet.
    """

    class Kind(models.TextChoices):
        README = parsing.README, "README"
        MODULE = parsing.MODULE, "module"
        CLASS = parsing.CLASS, "class"
        FUNCTION = parsing.FUNCTION, "function"

    # The same as `file.distribution`, so that no write joins two large tables: such a
    # join takes hours where the planner was last told that they are empty.
    distribution = models.ForeignKey(
        Distribution, models.CASCADE, related_name="documents"
    )
    file = models.ForeignKey(
        SourceFile, models.CASCADE, related_name="documents", db_index=False
    )
    kind = models.CharField(max_length=8, choices=Kind)
    name = models.TextField()
    line = models.PositiveIntegerField()
    text = models.TextField()
    vector = SearchVectorField(null=True, editable=False)

    class Meta:
        ordering = ["file", "line"]
        constraints = [
            models.UniqueConstraint(
                fields=["file", "kind", "name"], name="library_document_once"
            )
        ]
        indexes = [
            # Partial, so that the inserts of the parse tasks leave it alone.
            GinIndex(
                fields=["vector"],
                name="library_document_vector",
                condition=models.Q(vector__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("library:document", args=[self.pk])
