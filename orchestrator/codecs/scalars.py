"""Scalars: those that JSON has, and those that it carries as strings."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, get_args
from uuid import UUID

from django.utils.dateparse import parse_duration
from django.utils.duration import duration_iso_string

from orchestrator.codecs.base import Codec, kind_of, refuse, wrong


def _exact(name: str, kind: str, fits: Callable[[Any], bool]) -> Codec:
    def convert(value: Any) -> Any:
        if not fits(value):
            raise wrong(name, value)
        return value

    return Codec(name, frozenset({kind}), convert, convert)


def _as_string(
    name: str,
    fits: Callable[[Any], bool],
    write: Callable[[Any], str],
    read: Callable[[str], Any],
) -> Codec:
    def encode(value: Any) -> str:
        if not fits(value):
            raise wrong(name, value)
        return write(value)

    def decode(value: Any) -> Any:
        try:
            found = read(value) if isinstance(value, str) else None
        except (ValueError, InvalidOperation, OverflowError):
            found = None
        if found is None:
            raise wrong(f"{name} as a string", value)
        return found

    return Codec(name, frozenset({"string"}), encode, decode)


def _a(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: Any) -> float:
    if not _is_number(value):
        raise wrong("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise wrong("a number that fits a float", value) from None


def _is_date(value: Any) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


SCALARS: dict[Any, Codec] = {
    str: _exact("a string", "string", _a(str)),
    int: _exact("a whole number", "integer", _is_int),
    bool: _exact("true or false", "boolean", _a(bool)),
    type(None): _exact("None", "null", lambda value: value is None),
    None: _exact("None", "null", lambda value: value is None),
    float: Codec("a number", frozenset({"number"}), _float, _float),
    datetime: _as_string(
        "a datetime", _a(datetime), datetime.isoformat, datetime.fromisoformat
    ),
    date: _as_string("a date", _is_date, date.isoformat, date.fromisoformat),
    time: _as_string("a time", _a(time), time.isoformat, time.fromisoformat),
    timedelta: _as_string(
        "a timedelta", _a(timedelta), duration_iso_string, parse_duration
    ),
    Decimal: _as_string("a Decimal", _a(Decimal), str, Decimal),
    UUID: _as_string("a UUID", _a(UUID), str, UUID),
}


def literal_codec(kind: Any) -> Codec:
    """One of the values of a Literal."""
    choices = get_args(kind)
    if not all(isinstance(choice, str | int | None) for choice in choices):
        refuse(kind)
    name = "one of " + ", ".join(map(repr, choices))

    def convert(value: Any) -> Any:
        for choice in choices:
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
        raise wrong(name, value)

    return Codec(name, frozenset(map(kind_of, choices)), convert, convert)


def enum_codec(kind: type[enum.Enum]) -> Codec:
    """A member of an enum, stored as its value."""
    values = [member.value for member in kind]
    if not all(isinstance(value, str | int) for value in values):
        refuse(kind)
    name = "one of " + ", ".join(map(repr, values))

    def encode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise wrong(f"a {kind.__name__}", value)
        return value.value

    def decode(value: Any) -> Any:
        for member in kind:
            same = isinstance(value, bool) == isinstance(member.value, bool)
            if value == member.value and same:
                return member
        raise wrong(name, value)

    return Codec(name, frozenset(map(kind_of, values)), encode, decode)
