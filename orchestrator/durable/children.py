"""Running children: durable calls that wait for the end of other runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from orchestrator import ids
from orchestrator.calls import Call
from orchestrator.children import Spawning, as_call, check_key, child, keyed
from orchestrator.durable import asked, outcomes
from orchestrator.durable.base import Calls
from orchestrator.durable.calls import Ask
from orchestrator.states import EntryKind
from orchestrator.targets import MISSING

if TYPE_CHECKING:
    from orchestrator.durable.tasks import DurableTarget
    from orchestrator.targets import WorkflowTarget
    from orchestrator.tasks import TaskTarget
    from orchestrator.workflows import WorkflowDefinition

Input = TypeVar("Input")
Output = TypeVar("Output")


class Running(Calls, Spawning):
    """The part of a durable context that runs children and waits for them."""

    @overload
    def run(self, target: Call[Output], *, key: str | None = None) -> Output: ...

    @overload
    def run(
        self, target: WorkflowTarget[None], *, key: str | None = None
    ) -> dict[str, Any]: ...

    @overload
    def run(
        self, target: WorkflowTarget[Input], input: Input, *, key: str | None = None
    ) -> dict[str, Any]: ...

    @overload
    def run(
        self, target: TaskTarget[[], Output], *, key: str | None = None
    ) -> Output: ...

    @overload
    def run(
        self,
        target: TaskTarget[[Input], Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> Output: ...

    @overload
    def run(
        self, target: DurableTarget[None, Output], *, key: str | None = None
    ) -> Output: ...

    @overload
    def run(
        self,
        target: DurableTarget[Input, Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> Output: ...

    def run(self, target: Any, input: Any = MISSING, *, key: str | None = None) -> Any:
        """Run a child and wait for its end, without holding a slot; its output.

        `target` and `key` are as in `spawn`; a child without a key belongs to its
        place in the journal. Raises RunFailed or RunCancelled where the child failed
        or was cancelled: the same at each replay, and it may be caught.
        """
        asks, [definition] = self._run(target, input, key)
        [entry] = self._wait(asks)
        return outcomes.child_output(definition, entry)

    @overload
    async def arun(self, target: Call[Output], *, key: str | None = None) -> Output: ...

    @overload
    async def arun(
        self, target: WorkflowTarget[None], *, key: str | None = None
    ) -> dict[str, Any]: ...

    @overload
    async def arun(
        self, target: WorkflowTarget[Input], input: Input, *, key: str | None = None
    ) -> dict[str, Any]: ...

    @overload
    async def arun(
        self, target: TaskTarget[[], Output], *, key: str | None = None
    ) -> Output: ...

    @overload
    async def arun(
        self,
        target: TaskTarget[[Input], Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> Output: ...

    @overload
    async def arun(
        self, target: DurableTarget[None, Output], *, key: str | None = None
    ) -> Output: ...

    @overload
    async def arun(
        self,
        target: DurableTarget[Input, Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> Output: ...

    async def arun(
        self, target: Any, input: Any = MISSING, *, key: str | None = None
    ) -> Any:
        """`run` for async functions."""
        asks, [definition] = self._run(target, input, key)
        [entry] = await self._await(asks)
        return outcomes.child_output(definition, entry)

    def _children(
        self, calls: Iterable[Any], keys: Iterable[str] | None
    ) -> tuple[list[Ask], list[WorkflowDefinition[Any]]]:
        """The next calls, as children that are waited for together."""
        return self._asked(list(keyed(calls, keys)))

    def _asked(
        self, calls: Sequence[tuple[Call[Any], str | None]]
    ) -> tuple[list[Ask], list[WorkflowDefinition[Any]]]:
        self._check()
        branch = self.positions.journal.branch
        first = self.positions.reached + 1
        wanted = []
        for position, (call, key) in enumerate(calls, first):
            # Without a key a child belongs to its place in the journal.
            name = branch << 32 | position if key is None else key
            entry = self.positions.journal.entries.get(position)
            # One on record may be of the branch that this one has begun with.
            run_id = entry.child_run_id if entry is not None else None
            run_id = run_id or ids.child_run_id(self.task_run_id, name)
            what = {"child": child(self, call, run_id)}
            wanted.append((call.definition.name, asked.run(call, key), what))
        asks = self.positions.ask_many(EntryKind.CHILD, wanted) if wanted else []
        return asks, [call.definition for call, _ in calls]

    def _run(
        self, target: Any, input: Any, key: str | None
    ) -> tuple[list[Ask], list[WorkflowDefinition[Any]]]:
        call = as_call(target, input)
        return self._asked([(call, None if key is None else check_key(key))])
