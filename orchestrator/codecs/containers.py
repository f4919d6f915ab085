"""Lists, tuples and mappings of other types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from orchestrator.codecs.base import (
    ANYTHING,
    Codec,
    Convert,
    Lookup,
    each,
    unchanged,
    wrong,
)
from orchestrator.exceptions import InvalidDefinition
from orchestrator.serialization import Misfit

_ARRAY = frozenset({"array"})
_OBJECT = frozenset({"object"})


def list_codec(kind: Any, codec_for: Lookup) -> Codec:
    """A list of one type."""
    item = codec_for((get_args(kind) or (Any,))[0])
    encode, decode = _many(item.encode), _many(item.decode)
    return Codec("a list", _ARRAY, encode, decode, lambda: (item,))


def _many(convert: Convert) -> Convert:
    def inner(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise wrong("a list", value)
        if convert is unchanged:
            return list(value)
        return each(enumerate(value), convert)

    return inner


def tuple_codec(kind: Any, codec_for: Lookup) -> Codec:
    """A tuple: of so many types in order, or `tuple[T, ...]`."""
    types = get_args(kind)
    if not types or types[-1] is Ellipsis:
        item = codec_for(types[0] if types else Any)
        read = _many(item.decode)
        return Codec(
            "a list",
            _ARRAY,
            _many(item.encode),
            lambda value: tuple(read(value)),
            lambda: (item,),
        )
    items = [codec_for(part) for part in types]
    encode = _some([item.encode for item in items])
    read = _some([item.decode for item in items])
    name = f"{len(items)} items"
    return Codec(name, _ARRAY, encode, lambda value: tuple(read(value)), lambda: items)


def _some(converts: list[Convert]) -> Convert:
    def inner(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise wrong("a list", value)
        if len(value) != len(converts):
            raise Misfit(f"has {len(value)} items; it should have {len(converts)}")
        pairs = zip(converts, value, strict=True)
        return each(enumerate(pairs), lambda pair: pair[0](pair[1]))

    return inner


def mapping_codec(kind: Any, codec_for: Lookup) -> Codec:
    """A dict whose keys are strings, with values of one type."""
    key, value = get_args(kind) or (str, Any)
    if codec_for(key).kinds not in (frozenset({"string"}), ANYTHING.kinds):
        raise InvalidDefinition(
            f"{kind} has keys that are not strings, and JSON has no others. Declare "
            "dict[str, …]."
        )
    keys, item = codec_for(key), codec_for(value)
    return Codec(
        "an object",
        _OBJECT,
        _pairs(keys.encode, item.encode),
        _pairs(keys.decode, item.decode),
        lambda: (keys, item),
    )


def _pairs(convert_key: Convert, convert: Convert) -> Convert:
    def inner(value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise wrong("an object", value)
        if convert is unchanged:
            items = list(value.values())
        else:
            items = each(((str(key), item) for key, item in value.items()), convert)
        return dict(zip(map(convert_key, value), items, strict=True))

    return inner
