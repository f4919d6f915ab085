"""What all durable calls have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.durable.branches import Branches
from orchestrator.durable.calls import INSIDE_STEP, Ask, Keeper, Positions
from orchestrator.engine.journal import Entry
from orchestrator.exceptions import OrchestratorError, Suspend, TaskCancelled
from orchestrator.states import EntryKind


class Calls:
    """How durable calls are made, looked up and waited for."""

    positions: Positions
    keeper: Keeper
    branches: Branches | None  # of an async function
    suspended: list[Ask] | None  # what it waits for without its slot
    _cancelled: bool

    def suspend(self, asks: Sequence[Ask]) -> Suspend:
        """Note what is waited for; the exception that ends the attempt."""
        if self.suspended is None:
            self.suspended = list(asks)
        return Suspend()

    def _ask(self, kind: EntryKind, name: str, text: str, **what: Any) -> Ask:
        self._check()
        return self.positions.ask(kind, name, text, **what)

    def _check(self) -> None:
        if self.suspended is not None:
            raise Suspend
        if self._cancelled:
            raise TaskCancelled
        if INSIDE_STEP.get() is not None:
            raise OrchestratorError(
                "A durable call was made inside a step. A step is done once or not at "
                "all; make the call beside it."
            )

    def _wait(self, asks: Sequence[Ask]) -> list[Entry]:
        self._refuse_async("wait")
        entries = self.positions.entries(asks)
        if entries is None:
            entries = self.keeper.wait(asks)
            if entries is None:
                raise self.suspend(asks)
            self.positions.learn(entries)
        return entries

    async def _await(self, asks: Sequence[Ask]) -> list[Entry]:
        return await self._branches().wait(asks)

    def _branches(self) -> Branches:
        if self.branches is None:
            raise OrchestratorError(
                "This function is not async: call the method without the `a`."
            )
        return self.branches

    def _refuse_async(self, what: str) -> None:
        if self.branches is not None:
            raise OrchestratorError(
                f"This function is async: `await` the method with an `a`, such as "
                f"await ctx.a{what}(…)."
            )
