"""Codecs: Python types as JSON and back.

A type that a workflow declares for its input, or a task for its output, becomes a
codec, once. `encode` makes JSON's own types of a value that has the type, `decode`
makes the value again; both raise `Misfit` with the path of what does not fit.

Dataclasses, TypedDicts, the usual collections, enums, dates, decimals and UUIDs work
out of the box, pydantic models where pydantic is installed.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import abc
from functools import cache
from typing import Any, get_args, get_origin

from orchestrator.codecs.base import ANYTHING, Codec, refuse
from orchestrator.codecs.classes import (
    dataclass_codec,
    is_pydantic,
    pydantic_codec,
    typed_dict_codec,
)
from orchestrator.codecs.containers import list_codec, mapping_codec, tuple_codec
from orchestrator.codecs.scalars import SCALARS, enum_codec, literal_codec
from orchestrator.codecs.unions import union_codec

__all__ = ["ANYTHING", "Codec", "codec_for", "verify"]

_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def codec_for(kind: Any) -> Codec:
    """The codec of a type; members of classes are looked at when first needed.

    Raises InvalidDefinition where its values have no place in JSON.
    """
    try:
        return _codec(kind)
    except TypeError as error:
        if "unhashable" in str(error):
            refuse(kind)
        raise


def verify(codec: Codec) -> None:
    """Look at all that a codec is made of, members of classes too.

    Raises InvalidDefinition as `codec_for` does.
    """
    seen: set[int] = set()
    stack = [codec]
    while stack:
        part = stack.pop()
        if id(part) not in seen:
            seen.add(id(part))
            stack.extend(part.parts())


@cache
def _codec(kind: Any) -> Codec:
    if kind is Any or kind is object or isinstance(kind, typing.TypeVar):
        return ANYTHING
    if kind in SCALARS:
        return SCALARS[kind]
    if isinstance(kind, typing.NewType):
        return codec_for(kind.__supertype__)
    origin = get_origin(kind)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return codec_for(get_args(kind)[0])
    if origin is typing.Literal:
        return literal_codec(kind)
    if origin in (typing.Union, types.UnionType):
        return union_codec(kind, codec_for)
    if kind in _MAPPINGS or origin in _MAPPINGS:
        return mapping_codec(kind, codec_for)
    if kind is tuple or origin is tuple:
        return tuple_codec(kind, codec_for)
    if kind in _LISTS or origin in _LISTS:
        return list_codec(kind, codec_for)
    return _class_codec(kind, origin or kind)


def _class_codec(kind: Any, model: Any) -> Codec:
    if not isinstance(model, type):
        refuse(kind)
    if issubclass(model, enum.Enum):
        return enum_codec(model)
    if typing.is_typeddict(model):
        return typed_dict_codec(model, codec_for)
    if dataclasses.is_dataclass(model):
        return dataclass_codec(model, codec_for)
    if is_pydantic(model):
        return pydantic_codec(kind)
    refuse(kind)
