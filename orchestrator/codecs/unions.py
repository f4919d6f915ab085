"""Unions, whose members are told apart by the kind of JSON that they become."""

from __future__ import annotations

from typing import Any, get_args

from orchestrator.codecs.base import ANYTHING, Codec, Convert, Lookup, named, wrong
from orchestrator.exceptions import InvalidDefinition
from orchestrator.serialization import Misfit


def union_codec(kind: Any, codec_for: Lookup) -> Codec:
    """One of several types.

    Raises InvalidDefinition where two of them are stored alike: what was encoded as
    one might be decoded as the other.
    """
    members = [codec_for(part) for part in get_args(kind)]
    if ANYTHING in members:
        return ANYTHING
    seen: set[str] = set()
    for member in members:
        if seen & member.kinds or not member.kinds:
            raise InvalidDefinition(
                f"{named(kind)} has two types that are stored alike, so that JSON "
                "cannot tell them apart. Use one of them, or a pydantic model with a "
                "discriminator."
            )
        seen |= member.kinds
    # An int is a number as well, so whole numbers are asked first.
    members.sort(key=lambda member: "number" in member.kinds)
    name = " or ".join(member.name for member in members)
    return Codec(
        name,
        frozenset(seen),
        _first(name, [member.encode for member in members]),
        _first(name, [member.decode for member in members]),
        lambda: members,
    )


def _first(name: str, converts: list[Convert]) -> Convert:
    def inner(value: Any) -> Any:
        nearest: Misfit | None = None
        for convert in converts:
            try:
                return convert(value)
            except Misfit as misfit:
                # One that fitted at the top and failed inside is the one meant.
                if misfit.steps or misfit.inside:
                    nearest = misfit
        raise nearest or wrong(name, value)

    return inner
