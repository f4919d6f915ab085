"""Docstrings of a Python source file, read without importing it.

Everything here is a pure function of the file's bytes, so a task that runs twice
parses the same documents. A file that cannot be parsed raises `Broken`, whose text
is the reason a person reads; no other exception leaves this module for bad input.
"""

from __future__ import annotations

import ast
import codecs
import hashlib
import io
import re
import stat
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAX_FILE_BYTES = 4 * 1024 * 1024
"""A larger file is reported, not parsed: its syntax tree takes some 50 times its size
in memory, and nobody wrote its docstrings by hand."""

MAX_NAME_CHARACTERS = 500
"""Names are part of a unique index, whose entries PostgreSQL limits to 2,704 bytes."""

README, MODULE, CLASS, FUNCTION = "readme", "module", "class", "function"

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
_FILENAME = "<indexed source>"


class Broken(Exception):
    """A file that cannot be indexed. Its text is `<kind>` or `<kind>: <detail>`, with
    the kind one of empty, not UTF-8, syntax error, too large, unreadable."""


class ParsedDocument(NamedTuple):
    """One document of a file. `name` is unique among the documents of its kind there;
    `line` counts from 1."""

    kind: str
    name: str
    line: int
    text: str


def clean(text: str) -> str:
    """`text` with U+FFFD where PostgreSQL's text has no room: NUL and lone surrogates,
    both of which a string literal may contain."""
    return _UNSTORABLE.sub("\ufffd", text)


def read_source(path: Path) -> bytes:
    """The bytes of a regular file of at most `MAX_FILE_BYTES`.

    Raises `Broken` for any other: a pipe, for one, would be read forever.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Broken("unreadable: not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise Broken(
                f"too large: {status.st_size:,} bytes, the limit is {MAX_FILE_BYTES:,}"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise Broken(f"unreadable: {detail}") from error


def parse_source(data: bytes, path: str) -> list[ParsedDocument]:
    """The docstrings of the module, classes and functions in `data`, in source order.

    `path` is relative to the directory that modules are imported from, with slashes;
    names begin with the module it stands for. Blank docstrings are no documents.

    Raises `Broken`.
    """
    tree = _tree(_decode(data))
    documents: list[ParsedDocument] = []
    seen: Counter[tuple[str, str]] = Counter()
    for kind, name, node in _definitions(tree, module_name(path)):
        text = ast.get_docstring(node)
        if text is None or not text.strip():
            continue
        name = shorten(name)
        # A name may be defined twice: overloads, a property and its setter, the two
        # branches of an `if`. Each docstring is a document, so the later ones are
        # numbered; `#` cannot occur in a Python name.
        seen[kind, name] += 1
        if seen[kind, name] > 1:
            name = f"{name}#{seen[kind, name]}"
        line = getattr(node, "lineno", 1)
        documents.append(ParsedDocument(kind, name, line, clean(text)))
    return documents


def module_name(path: str) -> str:
    """`a/b/__init__.py` → `a.b`, `a/c.py` → `a.c`."""
    parts = PurePosixPath(path).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return clean(".".join(parts))


def shorten(name: str) -> str:
    """`name`, or its head and a digest where it is longer than the index can hold."""
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{name[: MAX_NAME_CHARACTERS - 17]}~{digest}"


def not_decoded(error: UnicodeDecodeError) -> str:
    """The reason that `error` is."""
    codec = "UTF-8" if error.encoding.startswith("utf") else error.encoding
    byte = error.object[error.start]
    return f"not {codec}: byte 0x{byte:02x} at offset {error.start}"


def quiet_parser() -> None:
    """Ignore the warnings that the parser gives about other people's source, such as
    invalid escapes. Call it before a batch of `parse_source`.

    `warnings.catch_warnings` is not an option: it swaps the filters of the whole
    process, and tasks run side by side in threads. Adding a filter that is already
    there is harmless.
    """
    module = re.escape(_FILENAME)
    for category in (SyntaxWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=module)


def _decode(data: bytes) -> str:
    """`data` as Python would decode it: by its BOM or coding line, else as UTF-8."""
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        raise Broken("empty")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Broken(not_decoded(error)) from error
    except (SyntaxError, LookupError, ValueError) as error:
        # Only the first two lines are decoded to look for a coding line, and a fault
        # there is a SyntaxError that does not say where it is.
        if "invalid or missing encoding" in str(error):
            raise Broken("not UTF-8: in the first two lines") from error
        raise Broken(f"syntax error: {error}") from error


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source, _FILENAME)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise Broken(clean(f"syntax error: {where}{error.msg}")) from error
    except (ValueError, RecursionError, MemoryError) as error:
        # NUL in the source; nesting that is too deep for the parser.
        detail = str(error) or "nested too deeply"
        raise Broken(clean(f"syntax error: {detail}")) from error


def _definitions(
    tree: ast.Module, module: str
) -> Iterator[
    tuple[str, str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]
]:
    """(kind, qualified name, node) of the module and all that it defines, however
    deeply nested, in source order. Names are Python's: `m.outer.<locals>.Inner.f`.

    Only statements are visited, since expressions define nothing that has a
    docstring; and without recursion, since nesting is the input's to choose.
    """
    yield MODULE, module, tree
    stack: list[tuple[ast.AST, str]] = [(tree, module)]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, _DEFINITIONS):
            name = f"{scope}.{node.name}"
            kind = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
            yield kind, name, node
            scope = name if kind == CLASS else f"{name}.<locals>"
        children = [
            (child, scope)
            for block in _BLOCKS
            for child in getattr(node, block, ())
            if isinstance(child, ast.AST)
        ]
        stack.extend(reversed(children))
