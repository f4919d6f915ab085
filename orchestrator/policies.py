"""Policies that a definition carries, as data."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any, Literal

from orchestrator.exceptions import InvalidDefinition

MAX_ATTEMPTS = 10_000
MAX_DELAY = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed task is attempted again, and after which delay.

    `attempts` are extra ones: `Retry(3)` executes up to four times. The n-th retry
    comes after `initial * factor ** (n - 1)`, at most `max`; with `jitter` after a
    random part of that, so that what failed together does not come back together.
    """

    attempts: int
    _: KW_ONLY
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2
    max: timedelta = timedelta(minutes=10)
    jitter: bool = True

    def __post_init__(self) -> None:
        _check_attempts(self.attempts)
        _check_factor(self.factor)
        _check_delay("initial", self.initial)
        _check_delay("max", self.max)
        if self.initial > self.max:
            raise InvalidDefinition(
                f"Retry(initial={self.initial!r}) is more than max={self.max!r}, which "
                "would cut it; give a larger max=."
            )

    @classmethod
    def of(cls, retries: int | Retry) -> Retry:
        """A policy from what `retries=` takes: a number retries without a delay."""
        if isinstance(retries, Retry):
            return retries
        return cls(retries, initial=timedelta(0))

    def delay(
        self,
        failure_number: int,
        *,
        random: Callable[[], float] = random.random,
    ) -> timedelta:
        """The delay after the `failure_number`-th failure, counted from 1.

        `random` gives a number in [0, 1). Never more than `max`, however many
        failures; zero only where `initial` or `max` is.
        """
        initial = self.initial.total_seconds()
        ceiling = self.max.total_seconds()
        if initial <= 0 or ceiling <= 0:
            return timedelta(0)
        seconds = ceiling
        # Compared as logarithms, for the power overflows after some 300 failures.
        steps = max(failure_number - 1, 0)
        if math.log(initial) + steps * math.log(self.factor) < math.log(ceiling):
            seconds = initial * self.factor**steps
        if self.jitter:
            seconds *= 1 - random()
        return max(timedelta(seconds=seconds), timedelta(microseconds=1))

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON; delays in seconds."""
        return {
            "attempts": self.attempts,
            "initial": self.initial.total_seconds(),
            "factor": float(self.factor),
            "max": self.max.total_seconds(),
            "jitter": self.jitter,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Retry:
        """The policy that `to_dict` described; what is absent has its default."""
        options = {key: data[key] for key in ("factor", "jitter") if key in data}
        for key in ("initial", "max"):
            if key in data:
                options[key] = timedelta(seconds=data[key])
        return cls(data["attempts"], **options)


@dataclass(frozen=True, slots=True)
class Eviction:
    """When a durable task that waits gives its slot back; by default at once.

    It keeps the slot for `ttl`, for ever with None. With `capacity` it makes room for
    others before that: those of a lower `priority` first, then those that have waited
    longest. A worker that is stopped has them all give their slots back.
    """

    ttl: timedelta | None = timedelta(0)
    _: KW_ONLY
    capacity: bool = True
    priority: int = 0

    def __post_init__(self) -> None:
        if self.ttl is not None:
            _check_delay("ttl", self.ttl, "Eviction")
        if not isinstance(self.capacity, bool):
            raise InvalidDefinition(
                f"Eviction(capacity={self.capacity!r}) should be True or False."
            )
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise InvalidDefinition(
                f"Eviction(priority={self.priority!r}) is not a whole number."
            )

    @property
    def keeps(self) -> bool:
        """Whether the slot is kept at all."""
        return self.ttl is None or self.ttl > timedelta(0)

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON; `ttl` in seconds."""
        return {
            "ttl": None if self.ttl is None else self.ttl.total_seconds(),
            "capacity": self.capacity,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Let one run hold a key at a time; another one of that key is not made.

    `expression` is CEL over `input`, `metadata`, `tenant` and `workflow` that gives a
    string. The run holds the key for `ttl`; with `until="finished"` until it has ended,
    and for `ttl` at most. Keys are the workflow's own, or shared by all that name the
    same `scope`.
    """

    expression: str
    _: KW_ONLY
    ttl: timedelta
    until: Literal["expired", "finished"] = "expired"
    scope: str | None = None

    def __post_init__(self) -> None:
        _check_ttl(self.ttl)
        _check_scope(self.scope)
        if self.until not in ("expired", "finished"):
            raise InvalidDefinition(
                f'Idempotency(until={self.until!r}) is unknown; use "expired" or '
                '"finished".'
            )

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON; `ttl` in seconds."""
        return {
            "expression": self.expression,
            "ttl": self.ttl.total_seconds(),
            "until": self.until,
            "scope": self.scope,
        }


def _check_attempts(attempts: object) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise InvalidDefinition(
            f"retries={attempts!r} is not a number of retries; "
            "give an int, or a Retry such as Retry(3)."
        )
    if not 0 <= attempts <= MAX_ATTEMPTS:
        raise InvalidDefinition(
            f"retries={attempts!r} is out of range; give 0 to {MAX_ATTEMPTS:,}."
        )


def _check_factor(factor: object) -> None:
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not 1 <= factor <= 1000:  # type: ignore[operator]
        raise InvalidDefinition(
            f"Retry(factor={factor!r}) cannot be used; give a number from 1 to 1000."
        )


def _check_delay(name: str, value: object, of: str = "Retry") -> None:
    if not isinstance(value, timedelta):
        raise InvalidDefinition(
            f"{of}({name}={value!r}) is not a timedelta; "
            f"write {name}=timedelta(seconds=…)."
        )
    if not timedelta(0) <= value <= MAX_DELAY:
        raise InvalidDefinition(
            f"{of}({name}={value!r}) is out of range; give 0 to {MAX_DELAY.days} days."
        )


def _check_ttl(ttl: object) -> None:
    if not isinstance(ttl, timedelta) or not timedelta(0) < ttl <= MAX_DELAY:
        raise InvalidDefinition(
            f"Idempotency(ttl={ttl!r}) cannot be used; give a timedelta of more than "
            f"0 and at most {MAX_DELAY.days} days."
        )


def _check_scope(scope: object) -> None:
    if scope is not None and (not isinstance(scope, str) or not 0 < len(scope) <= 200):
        raise InvalidDefinition(
            f"Idempotency(scope={scope!r}) should be text of 1 to 200 characters, or "
            "None for the workflow's own."
        )
