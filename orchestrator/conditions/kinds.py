"""The kinds of conditions, and how they compose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from orchestrator import cel
from orchestrator.exceptions import InvalidDefinition

MAX_LEAVES = 100
MAX_SLEEP = timedelta(days=3_660)
TEXT_LENGTH = 200  # of an event's key, a scope and a name


class Condition:
    """What may come to hold. `a | b` holds with one of them, `a & b` with both."""

    def __or__(self, other: object) -> AnyOf:
        return AnyOf(_parts(AnyOf, self, other))

    def __and__(self, other: object) -> AllOf:
        return AllOf(_parts(AllOf, self, other))

    def __bool__(self) -> bool:
        raise InvalidDefinition(
            "A condition is neither true nor false here. Compose conditions with | and "
            "&, not with `or` and `and`."
        )

    def leaves(self) -> Iterator[Leaf]:
        """Its single conditions, from left to right; their numbers count from 0."""
        raise TypeError(f"{type(self).__name__} has no leaves.")

    def to_dict(self) -> dict[str, Any]:
        """The condition as JSON; times in seconds."""
        raise TypeError(f"{type(self).__name__} cannot be stored.")


class Leaf(Condition):
    """A condition of its own. `name` tells it from its neighbours."""

    name: str | None

    @property
    def label(self) -> str:
        """Its name, given or by default."""
        raise TypeError(f"{type(self).__name__} has no label.")

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def describe(self) -> str:
        """What it is, for a sentence that says why."""
        raise TypeError(f"{type(self).__name__} has no description.")


@dataclass(frozen=True, slots=True)
class SleepCondition(Leaf):
    """Holds `duration` after the wait began."""

    duration: timedelta
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.duration, timedelta):
            raise InvalidDefinition(
                f"SleepCondition({self.duration!r}) takes a timedelta; write "
                "SleepCondition(timedelta(hours=…))."
            )
        if not timedelta(0) <= self.duration <= MAX_SLEEP:
            raise InvalidDefinition(
                f"SleepCondition({self.duration!r}) is out of range; give zero to "
                f"{MAX_SLEEP.days:,} days."
            )
        _check_name(self.name)

    @property
    def label(self) -> str:
        return f"sleep:{brief(self.duration)}" if self.name is None else self.name

    def describe(self) -> str:
        return f"a sleep of {brief(self.duration)}" + _called(self.name)

    def to_dict(self) -> dict[str, Any]:
        seconds = self.duration.total_seconds()
        return {"kind": "sleep", "seconds": seconds, **_named(self.name)}


@dataclass(frozen=True, slots=True)
class EventCondition(Leaf):
    """Holds once an event of that key is pushed for which `expression` is true.

    With `scope` only an event of that scope counts, without it one of any. Events
    count from when the wait began; with `lookback` those of that time before, too, the
    latest of them first. CEL names: payload, key, input, metadata, tenant, workflow,
    run_id.
    """

    key: str
    expression: str = "true"
    _: KW_ONLY
    scope: str | None = None
    lookback: timedelta | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.key, "The key of an EventCondition")
        if self.scope is not None:
            _check_text(self.scope, "The scope of an EventCondition")
        lookback: object = self.lookback
        if lookback is not None and not (
            isinstance(lookback, timedelta) and timedelta(0) < lookback <= MAX_SLEEP
        ):
            raise InvalidDefinition(
                f"lookback={self.lookback!r} of an EventCondition should be a positive "
                f"timedelta of at most {MAX_SLEEP.days:,} days."
            )
        _check_name(self.name)
        cel.check(
            self.expression, cel.EVENT_NAMES, what=f"EventCondition({self.key!r})"
        )

    @property
    def label(self) -> str:
        return self.key if self.name is None else self.name

    def describe(self) -> str:
        scope = "" if self.scope is None else f' of scope "{self.scope}"'
        return f'the event "{self.key}"{scope}' + _called(self.name)

    def to_dict(self) -> dict[str, Any]:
        data = {"kind": "event", "key": self.key, "expression": self.expression}
        if self.scope is not None:
            data["scope"] = self.scope
        if self.lookback is not None:
            return {
                **data,
                "lookback": self.lookback.total_seconds(),
                **_named(self.name),
            }
        return {**data, **_named(self.name)}


@dataclass(frozen=True, slots=True)
class ParentCondition(Leaf):
    """Holds where `expression` is true of a parent's output, once that has ended.

    `parent` is a task among the `parents=` of the task at hand. CEL names: output (null
    where the parent was skipped), input, metadata, tenant, workflow, run_id.
    """

    parent: Any
    expression: str = "true"
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.parent_name, str):
            raise InvalidDefinition(
                f"ParentCondition({self.parent!r}) takes the parent task itself, the "
                "decorated function."
            )
        _check_name(self.name)
        cel.check(
            self.expression,
            cel.PARENT_NAMES,
            what=f"ParentCondition({self.parent_name!r})",
        )

    @property
    def parent_name(self) -> str:
        """The name of the parent."""
        if isinstance(self.parent, str):
            return self.parent
        return getattr(self.parent, "name", None)  # type: ignore[return-value]

    @property
    def label(self) -> str:
        return f"parent:{self.parent_name}" if self.name is None else self.name

    def describe(self) -> str:
        return f'{self.expression} of parent "{self.parent_name}"' + _called(self.name)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "parent",
            "parent": self.parent_name,
            "expression": self.expression,
            **_named(self.name),
        }


@dataclass(frozen=True)
class Composed(Condition):
    """Conditions that decide together. Raises InvalidDefinition for equal names."""

    parts: tuple[Condition, ...]

    def __post_init__(self) -> None:
        labels: set[str] = set()
        leaves = tuple(self.leaves())
        for leaf in leaves:
            if isinstance(leaf, ParentCondition) and leaf.name is None:
                continue
            if leaf.label in labels:
                raise InvalidDefinition(
                    f"Two conditions are named {leaf.label!r}; give one of them "
                    "another name=."
                )
            labels.add(leaf.label)
        if len(leaves) > MAX_LEAVES:
            raise InvalidDefinition(
                f"There are {len(leaves)} conditions; use at most {MAX_LEAVES}."
            )

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()


class AnyOf(Composed):
    """Holds once one of its parts does."""

    def to_dict(self) -> dict[str, Any]:
        return {"any": [part.to_dict() for part in self.parts]}


class AllOf(Composed):
    """Holds once all of its parts do."""

    def to_dict(self) -> dict[str, Any]:
        return {"all": [part.to_dict() for part in self.parts]}


def from_dict(data: Mapping[str, Any]) -> Condition:
    """The condition that `to_dict` described; the parent of one is its name."""
    if "any" in data:
        return AnyOf(tuple(from_dict(part) for part in data["any"]))
    if "all" in data:
        return AllOf(tuple(from_dict(part) for part in data["all"]))
    name = data.get("name")
    if data["kind"] == "sleep":
        return SleepCondition(timedelta(seconds=data["seconds"]), name=name)
    if data["kind"] == "parent":
        return ParentCondition(data["parent"], data["expression"], name=name)
    lookback = data.get("lookback")
    return EventCondition(
        data["key"],
        data["expression"],
        scope=data.get("scope"),
        lookback=None if lookback is None else timedelta(seconds=lookback),
        name=name,
    )


def check_condition(condition: object, option: str) -> Condition | None:
    """What `wait_for=`, `skip_if=` and `cancel_if=` take; raises InvalidDefinition."""
    if condition is None or isinstance(condition, Condition):
        return condition
    hint = " Compose several with | and &." if isinstance(condition, list) else ""
    raise InvalidDefinition(
        f"{option}={condition!r} is no condition; give a SleepCondition, an "
        f"EventCondition or a ParentCondition.{hint}"
    )


def brief(duration: timedelta) -> str:
    """A duration in few characters: `2d`, `1h30m`, `1.5s`."""
    seconds = duration.total_seconds()
    text = ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, seconds = divmod(seconds, length)
        text += f"{count:.0f}{unit}" if count else ""
    return text + f"{round(seconds, 6):g}s" if seconds or not text else text


def _parts(
    kind: type[Composed], left: Condition, right: object
) -> tuple[Condition, ...]:
    if not isinstance(right, Condition):
        raise InvalidDefinition(
            f"{right!r} is no condition; compose conditions with | and &."
        )
    parts: list[Condition] = []
    for part in (left, right):
        parts += part.parts if isinstance(part, kind) else (part,)
    return tuple(parts)


def _named(name: str | None) -> dict[str, str]:
    return {} if name is None else {"name": name}


def _called(name: str | None) -> str:
    return "" if name is None else f' ("{name}")'


def _check_name(name: object) -> None:
    if name is not None:
        _check_text(name, "The name of a condition")


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str) or not text or not text.isprintable():
        raise InvalidDefinition(f"{what} is {text!r}; give printable text.")
    if text != text.strip():  # no event has such a key or scope
        raise InvalidDefinition(f"{what} is {text!r}; take the blanks off its ends.")
    if len(text) > TEXT_LENGTH:
        raise InvalidDefinition(
            f"{what} has {len(text)} characters; give at most {TEXT_LENGTH}."
        )
