"""The Python distributions of this machine, as `importlib.metadata` sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .parsing import MAX_FILE_BYTES, Broken, clean, not_decoded

METADATA, RECORD = "METADATA", "RECORD"
SOURCE_SUFFIX = ".py"

MAX_PATH_BYTES = 2_000
"""Paths are part of a unique index, whose entries PostgreSQL limits to 2,704 bytes."""


@dataclass(frozen=True)
class Installed:
    """One distribution installed in the directory `location` (its `site-packages`)."""

    name: str
    version: str
    location: str


def installed(search: Sequence[str] | None = None) -> list[Installed]:
    """Every distribution found in the directories of `search` (default `sys.path`),
    ordered by name.

    Where one name is found twice, the first is taken, as `import` would.
    """
    everywhere = (
        metadata.distributions()
        if search is None
        else metadata.distributions(path=list(search))
    )
    found: dict[str, Installed] = {}
    for distribution in everywhere:
        name, version = _identity(distribution)
        if name:
            location = str(distribution.locate_file(""))
            found.setdefault(normalise(name), Installed(name, version, location))
    return [found[name] for name in sorted(found)]


def find(one: Installed) -> metadata.Distribution | None:
    """The distribution that `one` names, or None where it is installed no longer."""
    matches = metadata.distributions(name=one.name, path=[one.location])
    return next(iter(matches), None)


def normalise(name: str) -> str:
    """The form in which two spellings of a distribution's name are equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def source_files(distribution: metadata.Distribution) -> dict[str, str]:
    """`{path: problem}` of the distribution's Python source files, ordered by path,
    relative to its location. `problem` is empty unless the path alone shows that the
    file cannot be indexed.

    A file listed twice is one file. Files outside the location (scripts in `bin`,
    data) are left out: they belong to no module. Compiled files are not sources.
    """
    try:
        listed = list(distribution.files or ())
        installed_list = distribution.read_text(RECORD) is not None
    except Exception as error:  # a broken list breaks this distribution's alone
        return {RECORD: f"unreadable: {clean(str(error))[:500]}"}
    paths = {
        path.as_posix()
        for path in listed
        if path.suffix == SOURCE_SUFFIX
        and not path.is_absolute()
        and ".." not in path.parts
        # Without a RECORD the list is that of the source archive, not of what was
        # installed from it.
        and (installed_list or Path(str(distribution.locate_file(path))).exists())
    }
    return dict(_checked(sorted(paths)))


def readme(distribution: metadata.Distribution) -> str:
    """The long description in the metadata; empty where there is none.

    Raises `Broken`.
    """
    try:
        about = distribution.metadata
        named, described = "Name" in about, "Description" in about
        text = about["Description"] if described else ""
    except UnicodeDecodeError as error:
        raise Broken(not_decoded(error)) from error
    except Exception as error:  # missing or malformed, differently in each Python
        raise Broken(f"unreadable: {clean(str(error))[:500]}") from error
    if not named:
        raise Broken("unreadable: missing, or it names no distribution")
    if len(text) > MAX_FILE_BYTES:
        raise Broken(
            f"too large: {len(text):,} characters, the limit is {MAX_FILE_BYTES:,}"
        )
    text = clean(text).strip()
    return "" if text == "UNKNOWN" else text  # what old setuptools wrote for none


def _checked(paths: Iterable[str]) -> Iterable[tuple[str, str]]:
    """A path that the table cannot hold is shown cut; its end shows that it is no
    path of a source file."""
    for path in paths:
        storable = clean(path)
        if storable != path:
            problem = "unreadable: a NUL or a lone surrogate in its path"
        elif len(path.encode()) > MAX_PATH_BYTES:
            problem = f"unreadable: its path is longer than {MAX_PATH_BYTES:,} bytes"
        else:
            yield path, ""
            continue
        yield f"{storable[: MAX_PATH_BYTES // 4 - 1]}…", problem


def _identity(distribution: metadata.Distribution) -> tuple[str, str]:
    """(name, version), both empty where neither metadata nor file list tells them."""
    for source in (_told_by_metadata, _told_by_files):
        # Not UTF-8, missing, malformed: what is raised differs in each Python.
        with suppress(Exception):
            name, version = source(distribution)
            return clean(name)[:200], clean(version)[:100]
    return "", ""


def _told_by_metadata(distribution: metadata.Distribution) -> tuple[str, str]:
    return distribution.metadata["Name"], distribution.metadata["Version"] or ""


def _told_by_files(distribution: metadata.Distribution) -> tuple[str, str]:
    """From the name of the metadata's directory, such as `idna-3.20.dist-info`."""
    directory = next(
        path.parent.name
        for path in distribution.files or ()
        if path.name == METADATA and path.parent.suffix == ".dist-info"
    )
    name, _, version = directory.removesuffix(".dist-info").partition("-")
    return name, version
