"""Classes with named members: dataclasses, TypedDicts and pydantic models."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, get_origin

from orchestrator.codecs.base import Codec, Convert, Lookup, hints, named, wrong
from orchestrator.serialization import Misfit

_OBJECT = frozenset({"object"})
_MISSING = object()


class _Members:
    """The members of a class; read at first use, so that it may contain itself."""

    def __init__(self, kind: type, codec_for: Lookup) -> None:
        self.kind = kind
        self.codec_for = codec_for

    @cached_property
    def required(self) -> frozenset[str]:
        """The names without which there is no value."""
        return frozenset(
            field.name
            for field in dataclasses.fields(self.kind)
            if field.default is field.default_factory is dataclasses.MISSING
        )

    @cached_property
    def codecs(self) -> dict[str, Codec]:
        """The codec of each member that JSON carries, in order."""
        types = hints(self.kind)
        return {
            field.name: self.codec_for(types[field.name])
            for field in dataclasses.fields(self.kind)
            if field.init
        }

    @cached_property
    def encoders(self) -> list[tuple[str, Convert]]:
        return [(name, codec.encode) for name, codec in self.codecs.items()]

    def parts(self) -> Iterable[Codec]:
        return self.codecs.values()

    def encode(self, value: Any) -> dict[str, Any]:
        # A subclass has members of its own, which would be lost without a word.
        if type(value) is not self.kind:
            raise wrong(f"a {named(self.kind)}", value)
        encoded = {}
        name = ""
        try:
            for name, convert in self.encoders:
                encoded[name] = convert(getattr(value, name))
        except Misfit as misfit:
            raise misfit.under(name) from None
        return encoded

    def decoded(self, value: Any) -> dict[str, Any]:
        """The members in a JSON object; those that the class has not are left out."""
        if not isinstance(value, Mapping):
            raise wrong(f"an object ({named(self.kind)})", value)
        found = {}
        for name, codec in self.codecs.items():
            item = value.get(name, _MISSING)
            if item is not _MISSING:
                try:
                    found[name] = codec.decode(item)
                except Misfit as misfit:
                    raise misfit.under(name) from None
            elif name in self.required:
                raise Misfit(f"lacks {name!r}", inside=True)
        return found

    def decode(self, value: Any) -> Any:
        members = self.decoded(value)
        try:
            return self.kind(**members)
        except (ValueError, TypeError) as error:  # its own __post_init__
            raise Misfit(f"is no {named(self.kind)}: {error}", inside=True) from error


class _Keys(_Members):
    """The members of a TypedDict, whose values are plain dictionaries."""

    @cached_property
    def types(self) -> dict[str, Any]:
        return hints(self.kind)

    @cached_property
    def required(self) -> frozenset[str]:
        # Read from the resolved annotations: `__required_keys__` is computed from
        # strings where the module has `from __future__ import annotations`.
        total: frozenset[str] = getattr(self.kind, "__required_keys__", frozenset())
        return frozenset(
            name
            for name, kind in self.types.items()
            if get_origin(kind) is typing.Required
            or (name in total and get_origin(kind) is not typing.NotRequired)
        )

    @cached_property
    def codecs(self) -> dict[str, Codec]:
        return {name: self.codec_for(kind) for name, kind in self.types.items()}

    def encode(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise wrong(f"a {named(self.kind)}", value)
        encoded = {}
        for name, item in value.items():
            codec = self.codecs.get(name)
            if codec is None:
                raise Misfit(
                    f"has the key {name!r}, which {named(self.kind)} has not",
                    inside=True,
                )
            try:
                encoded[name] = codec.encode(item)
            except Misfit as misfit:
                raise misfit.under(name) from None
        for name in self.required:
            if name not in encoded:
                raise Misfit(f"lacks {name!r}", inside=True)
        return encoded

    def decode(self, value: Any) -> Any:
        return self.decoded(value)


def dataclass_codec(kind: type, codec_for: Lookup) -> Codec:
    """A dataclass, as an object of the fields that its constructor takes."""
    members = _Members(kind, codec_for)
    return Codec(
        f"a {named(kind)}", _OBJECT, members.encode, members.decode, members.parts
    )


def typed_dict_codec(kind: type, codec_for: Lookup) -> Codec:
    """A TypedDict, as an object of its keys."""
    members = _Keys(kind, codec_for)
    return Codec(
        f"a {named(kind)}", _OBJECT, members.encode, members.decode, members.parts
    )


def is_pydantic(kind: type) -> bool:
    """Whether a class is a pydantic model, without importing pydantic for it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def pydantic_codec(kind: Any) -> Codec:
    """A pydantic model, as it describes itself in JSON mode."""
    pydantic = sys.modules["pydantic"]
    adapter = pydantic.TypeAdapter(kind)
    name = named(kind)

    def encode(value: Any) -> Any:
        if type(value) is not kind:
            raise wrong(f"a {name}", value)
        try:
            return adapter.dump_python(
                value, mode="json", by_alias=True, round_trip=True
            )
        except ValueError as error:  # PydanticSerializationError is one
            raise Misfit(f"cannot be stored: {error}", inside=True) from error

    def decode(value: Any) -> Any:
        try:
            return adapter.validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
            misfit = Misfit(f"does not fit {name}: {detail['msg']}", inside=True)
            misfit.steps.extend(reversed(detail["loc"]))
            raise misfit from None

    root = issubclass(kind, pydantic.RootModel)
    return Codec(f"a {name}", frozenset() if root else _OBJECT, encode, decode)
