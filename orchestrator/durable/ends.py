"""Ends: the futures that branches of a durable function await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class End(asyncio.Future[Any]):
    """The end of a call; `moves` hears of it before whoever awaits it goes on.

    So it is known which branches are still without looking at all of them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        moves: Callable[[asyncio.Future[Any]], None],
    ) -> None:
        super().__init__(loop=loop)
        self._moves = moves

    def set_result(self, result: Any) -> None:
        self._moves(self)
        super().set_result(result)

    def set_exception(self, exception: Any) -> None:
        self._moves(self)
        super().set_exception(exception)

    def cancel(self, msg: Any = None) -> bool:
        self._moves(self)
        return super().cancel(msg)
