"""What should be indexed, found by a plain loop that knows nothing of the sample."""

from __future__ import annotations

import ast
import email
import warnings
from collections import Counter
from importlib import metadata
from pathlib import Path

KINDS = ("readme", "module", "class", "function")


def expected(distribution: metadata.Distribution) -> tuple[dict[str, int], set[str]]:
    """(number of documents by kind, broken paths) of an installed distribution."""
    documents: Counter[str] = Counter()
    broken: set[str] = set()
    headers, body = _readme(distribution)
    text = (headers or body).strip()
    documents["readme"] += bool(text) and text != "UNKNOWN"
    site = Path(str(distribution.locate_file("")))
    for path in {str(path) for path in distribution.files or []}:
        if path.startswith("/") or ".." in path or not path.endswith(".py"):
            continue
        try:
            documents += docstrings((site / path).read_bytes())
        except (SyntaxError, ValueError, OSError):
            broken.add(path)
    return {kind: documents[kind] for kind in KINDS}, broken


def docstrings(source: bytes) -> Counter[str]:
    """Their number, by kind. Raises SyntaxError, or ValueError if there is nothing."""
    if not source.strip():
        raise ValueError("empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        match node:
            case ast.Module():
                kind = "module"
            case ast.ClassDef():
                kind = "class"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                kind = "function"
            case _:
                continue
        if (ast.get_docstring(node) or "").strip():
            found[kind] += 1
    return found


def _readme(distribution: metadata.Distribution) -> tuple[str, str]:
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    message = email.message_from_string(text or "")
    return message["Description"] or "", str(message.get_payload())
