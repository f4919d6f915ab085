"""The main job of the sample: one run per installed distribution.

    discover ─┬─ parse_readme ────┬─ index ── report
              ├─ parse_sources_0 ─┤
              ├─ …                │
              └─ parse_sources_3 ─┘

The names of the files travel through a table and not through the outputs of the tasks,
because a distribution may list more of them than an output may be long. Each parse task
writes straight to the documents, in one transaction of its own, and `index` computes
the vectors of those that are new. A staging table would hold every text a second time,
and a retry of `index` alone would have to know whether it was emptied already.

Any task may be executed again at any time (a worker is killed, an operator retries):
`indexing` says why the tables end the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from orchestrator import Context, NonRetryable, Retry, workflow

from . import counting, indexing, installed, parsing
from .installed import METADATA, SOURCE_SUFFIX, Installed
from .models import SourceFile

BRANCHES = 4
"""How many tasks share the source files of a distribution."""

MAX_REPORTED = 200
"""How many broken files a report names; the table has them all."""


@dataclass(frozen=True)
class Found:
    """How many files `discover` found."""

    files: int


@dataclass(frozen=True)
class Parsed:
    """What one parse task read."""

    files: int
    documents: int
    broken: int


@dataclass(frozen=True)
class BrokenFile:
    path: str
    problem: str


@dataclass(frozen=True)
class Report:
    """What the index holds of a distribution once its run has ended. `broken` names
    the first `MAX_REPORTED` of `broken_files`."""

    distribution: str
    files: int
    documents: dict[str, int]
    broken_files: int
    broken: list[BrokenFile]


index_distribution = workflow(
    "index-distribution",
    input=Installed,
    description="Index the README and the docstrings of an installed distribution.",
)

# What can go wrong for a moment here is the database.
again = Retry(3, initial=timedelta(seconds=1))


@index_distribution.task(retries=again)
def discover(ctx: Context[Installed]) -> Found:
    """List the distribution's files, in the table."""
    distribution = installed.find(ctx.input)
    if distribution is None:
        raise NonRetryable(
            f"{ctx.input.name} is not installed in {ctx.input.location} any more. "
            "Run `manage.py index_library` again to index what is."
        )
    files = {METADATA: "", **installed.source_files(distribution)}
    indexing.record_files(ctx.input, files)
    return Found(files=len(files))


@index_distribution.task(parents=[discover], retries=again)
def parse_readme(ctx: Context[Installed]) -> Parsed:
    """Write the README, where the distribution has one."""
    distribution = installed.find(ctx.input)

    def parse(path: str) -> list[parsing.ParsedDocument]:
        text = installed.readme(distribution) if distribution else ""
        name = ctx.input.name
        return [parsing.ParsedDocument(parsing.README, name, 1, text)] if text else []

    return _parse(ctx, lambda path: path == METADATA, parse)


def _parse_sources(branch: int) -> Callable[[Context[Installed]], Parsed]:
    """The task that parses one share of the source files. The share follows from the
    path alone, so it is the same in every attempt and on every machine."""

    def parse_sources(ctx: Context[Installed]) -> Parsed:
        location = Path(ctx.input.location)

        def mine(path: str) -> bool:
            share = zlib.crc32(path.encode()) % BRANCHES
            return path.endswith(SOURCE_SUFFIX) and share == branch

        def parse(path: str) -> list[parsing.ParsedDocument]:
            return parsing.parse_source(parsing.read_source(location / path), path)

        parsing.quiet_parser()
        return _parse(ctx, mine, parse)

    return parse_sources


parse_sources = [
    index_distribution.task(
        name=f"parse_sources_{branch}", parents=[discover], retries=again
    )(_parse_sources(branch))
    for branch in range(BRANCHES)
]


@index_distribution.task(parents=[parse_readme, *parse_sources], retries=again)
def index(ctx: Context[Installed]) -> int:
    """Make the new documents searchable. The output is how many they are."""
    return indexing.index_documents(ctx.input.name)


@index_distribution.task(parents=[index], retries=again)
def report(ctx: Context[Installed]) -> Report:
    """Read back what the index holds now."""
    name = ctx.input.name
    counts = counting.count([name]).get(name, counting.Counts())
    broken = counting.broken_files([name])
    return Report(
        distribution=f"{name} {ctx.input.version}",
        files=counts.files,
        documents=counts.documents,
        broken_files=counts.broken,
        broken=[
            BrokenFile(path, problem) for _, path, problem in broken[:MAX_REPORTED]
        ],
    )


def _parse(
    ctx: Context[Installed],
    mine: Callable[[str], bool],
    parse: Callable[[str], Collection[parsing.ParsedDocument]],
) -> Parsed:
    """Parse the files of this run's distribution whose path is `mine`, and write
    their documents. A broken file is noted and stops nothing."""
    name = ctx.input.name
    files = SourceFile.objects.filter(distribution__name=name).order_by("path")
    parsed: dict[int, Collection[parsing.ParsedDocument]] = {}
    problems: dict[int, str] = {}
    for file in files.iterator():
        if mine(file.path):
            ctx.check_cancelled()
            try:
                parsed[file.pk] = parse(file.path)
            except parsing.Broken as broken:
                problems[file.pk] = str(broken)
    indexing.write_documents(name, parsed, problems)
    return Parsed(
        files=len(parsed) + len(problems),
        documents=sum(map(len, parsed.values())),
        broken=len(problems),
    )
