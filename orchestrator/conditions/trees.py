"""What follows from conditions that came true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.conditions.kinds import AnyOf, Composed, Condition, Leaf


def evaluate(tree: Condition, values: Mapping[int, bool | None]) -> bool | None:
    """Whether a condition holds; None while that is open.

    `values` are those of its leaves by number, counted as `leaves()` gives them: True,
    False for what cannot come true any more; absent or None is open.
    """
    value, _ = _evaluate(tree, values, 0)
    return value


def _evaluate(
    tree: Condition, values: Mapping[int, bool | None], number: int
) -> tuple[bool | None, int]:
    if not isinstance(tree, Composed):
        return values.get(number), number + 1
    deciding = isinstance(tree, AnyOf)  # the value of one part that decides for all
    result: bool | None = not deciding
    for part in tree.parts:
        value, number = _evaluate(part, values, number)
        if value is deciding:
            result = deciding
        elif value is None and result is not deciding:
            result = None
    return result, number


def held(tree: Condition, values: Mapping[int, bool | None]) -> dict[int, Leaf]:
    """The leaves that hold, by number, from left to right."""
    return {n: leaf for n, leaf in enumerate(tree.leaves()) if values.get(n)}


class WaitResult(Mapping[str, Any]):
    """What ended a wait: the names of the conditions that held, to their payloads.

    In the order in which they came true; the payload of an event is what was pushed,
    that of a sleep None. `first` is the name of the first.
    """

    def __init__(self, payloads: Mapping[str, Any]) -> None:
        self._payloads = dict(payloads)

    def __getitem__(self, name: str) -> Any:
        return self._payloads[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._payloads)

    def __len__(self) -> int:
        return len(self._payloads)

    def __repr__(self) -> str:
        return f"WaitResult({self._payloads!r})"

    @property
    def first(self) -> str:
        """The name of the condition that came true first."""
        return next(iter(self._payloads))
