"""Shapes by version id. A version never changes, so a process reads each one once."""

from __future__ import annotations

import json

from orchestrator.engine.sessions import Session, statements
from orchestrator.engine.shapes import Shape

_known: dict[int, Shape] = {}


def remember(shape: Shape) -> None:
    """Keep a shape that this process has from its own definitions."""
    _known[shape.version_id] = shape


def shape(session: Session, version_id: int) -> Shape | None:
    """The shape of a version; None where it is not registered in this database yet."""
    found = _known.get(version_id)
    if found is None:
        rows = session.fetch(
            statements("versions")["versions"], {"version_id": version_id}
        )
        if not rows:
            return None
        workflow, text = rows[0]
        found = Shape.build(workflow, json.loads(text))
        _known[version_id] = found
    return found
