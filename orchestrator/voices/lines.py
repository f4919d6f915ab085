"""Lines of a log as JSON that can be stored, whatever was said."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator import serialization

MAX_BYTES = 8 * 1024
MAX_FIELDS_BYTES = 4 * 1024
MAX_FIELDS = 50  # of those that are no JSON, or too large


def line(
    message: object, level: str | int, fields: Mapping[str, Any], logger: str
) -> str:
    """One line as JSON text of at most 8 KiB: what is longer keeps head and tail.

    Fields that are no JSON are shown as their repr. Raises nothing.
    """
    name = logging.getLevelName(level) if isinstance(level, int) else str(level).upper()
    text = _plain(message)
    parts: dict[str, Any] = {
        "level": serialization.clean(name)[:8],
        "logger": serialization.clean(logger)[:200],
        "message": _short(text, MAX_BYTES),
        "fields": _fields(fields) if fields else None,
    }
    encoded = _encoded(parts)
    room = MAX_BYTES
    while len(encoded.encode()) > MAX_BYTES:
        room = room * 3 // 4
        parts["message"] = _short(text, room)
        encoded = _encoded(parts)
    return encoded


def _plain(message: object) -> str:
    if not isinstance(message, str):
        try:
            message = json.dumps(message, default=str, ensure_ascii=False)
        except Exception:
            return serialization.safe_repr(message)
    return message


def _fields(fields: Mapping[str, Any]) -> Any:
    try:
        text = serialization.dumps(
            dict(fields), limit=MAX_FIELDS_BYTES, what="Fields", sanitise=True
        )
        return json.loads(text)
    except Exception:  # whatever a value's methods may raise
        some = list(fields.items())[:MAX_FIELDS]
        room = MAX_FIELDS_BYTES // 2 // len(some)
        shown = _shown_fields(some, room)
        while room and len(_encoded(shown).encode()) > MAX_FIELDS_BYTES:
            room //= 2  # a control character takes six bytes as JSON
            shown = _shown_fields(some, room)
        return shown


def _shown_fields(fields: Iterable[tuple[str, Any]], room: int) -> dict[str, str]:
    return {_short(str(k), min(50, room)): _shown(v, room) for k, v in fields}


def _shown(value: object, room: int) -> str:
    shown = value if isinstance(value, str) else serialization.safe_repr(value)
    return _short(shown, room)


def _short(text: str, room: int) -> str:
    return serialization.clean(serialization.shortened(text, room))


def _encoded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
