"""What every codec is made of."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from orchestrator.exceptions import InvalidDefinition
from orchestrator.serialization import Misfit, safe_repr, shortened

Convert = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Codec:
    """How values of one type become JSON and back.

    `kinds` are the kinds of JSON that its values become, by which a union tells its
    members apart; empty where that may be any. `parts` gives the codecs inside it.
    `shortcut` gives the JSON text of a value that is surely fine, and None where one
    has to look closer.
    """

    name: str
    kinds: frozenset[str]
    encode: Convert
    decode: Convert
    parts: Callable[[], Iterable[Codec]] = tuple
    shortcut: Callable[[Any], str | None] = lambda value: None


Lookup = Callable[[Any], Codec]


def unchanged(value: Any) -> Any:
    """What needs no conversion."""
    return value


ANYTHING = Codec("any JSON", frozenset(), unchanged, unchanged)


def kind_of(value: object) -> str:
    """The kind of JSON that a scalar is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "integer"


def wrong(wanted: str, value: object) -> Misfit:
    """A misfit: this `value` where `wanted` should be."""
    if value is None:
        return Misfit(f"should be {wanted}, not None")
    shown = shortened(safe_repr(value), 60)
    return Misfit(f"should be {wanted}, not {type(value).__name__} {shown}")


def each(items: Iterable[tuple[str | int, Any]], convert: Convert) -> list[Any]:
    """Convert values under their keys or indexes, which name what does not fit."""
    step: str | int = 0
    converted = []
    try:
        for step, item in items:  # noqa: B007 - read when it failed
            converted.append(convert(item))
    except Misfit as misfit:
        raise misfit.under(step) from None
    return converted


def refuse(kind: object) -> NoReturn:
    """Raise the error for a type that has no place in JSON."""
    raise InvalidDefinition(
        f"The type {named(kind)} has no place in JSON. Use a dataclass, a TypedDict, "
        "a pydantic model, or list, dict, str, int, float and bool."
    )


def named(kind: object) -> str:
    """A type as a reader of an error knows it."""
    return kind.__qualname__ if isinstance(kind, type) else safe_repr(kind)


def hints(owner: Any) -> dict[str, Any]:
    """The resolved annotations of a class or function.

    Raises InvalidDefinition where a name in them cannot be found at run time.
    """
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise InvalidDefinition(
            f"The annotations of {getattr(owner, '__qualname__', owner)} cannot be "
            f"read: {error}. Import what they name at the top of its module, outside "
            "`if TYPE_CHECKING`."
        ) from error
