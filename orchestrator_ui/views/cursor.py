"""Keyset cursors: where a page begins, signed, so that none can be made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from django.core import signing

_SALT = "orchestrator_ui.cursor"

Direction = Literal["older", "newer"]


@dataclass(frozen=True)
class Cursor:
    """The rows older or newer than `key`, which itself is on the page before."""

    direction: Direction
    key: UUID

    def dumps(self) -> str:
        return signing.dumps([self.direction, self.key.hex], salt=_SALT)

    @classmethod
    def loads(cls, text: str) -> Cursor:
        """Raises ValueError for anything that `dumps` did not write."""
        try:
            direction, key = signing.loads(text, salt=_SALT)
        except signing.BadSignature as error:
            raise ValueError("The page's address has been changed.") from error
        return cls(direction, UUID(key))
