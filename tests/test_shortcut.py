"""The short way from a call to its JSON text ends where the long way does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import codecs, registry, serialization
from orchestrator.codecs.arguments import Arguments, arguments_codec
from orchestrator.exceptions import InvalidInput
from orchestrator.workflows import WorkflowDefinition


def place(shelf: int, title: str, loud: bool) -> None:
    """What is called."""


def sort(title: str, after: str | None = None) -> None:
    """It has an argument that is not only a string."""


CODEC = arguments_codec(place, takes_context=False, codec_for=codecs.codec_for)
OTHER = arguments_codec(sort, takes_context=False, codec_for=codecs.codec_for)

VALUES = st.one_of(
    st.integers(),
    st.integers(min_value=10**39 - 1, max_value=10**40 + 1),
    st.text(),
    st.text(st.characters()),
    st.booleans(),
    st.none(),
    st.floats(),
)


def long_way(call: Arguments) -> str | None:
    try:
        return serialization.dumps(CODEC.encode(call), limit=1 << 20, what="It")
    except (serialization.Misfit, InvalidInput):
        return None


@given(st.lists(VALUES, max_size=4), st.sampled_from([{}, {"loud": True}]))
def test_the_short_way_gives_what_the_long_way_gives(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    call = Arguments(tuple(args), kwargs)
    text = CODEC.shortcut(call)
    assert text is None or text == long_way(call)


def test_the_short_way_is_taken_by_calls_as_declared() -> None:
    text = CODEC.shortcut(Arguments((7, 'a "b" \n', True), {}))
    assert text == '{"args":[7,"a \\"b\\" \\n",true],"kwargs":{}}'


@pytest.mark.parametrize(
    "args", [(10**40, "a", True), (1, "nul\0", True), (1, "é", True), (1, "a"), (True,)]
)
def test_what_needs_a_closer_look_takes_the_long_way(args: tuple[Any, ...]) -> None:
    assert CODEC.shortcut(Arguments(args, {})) is None


def test_other_types_take_the_long_way() -> None:
    assert OTHER.shortcut(Arguments(("a", "b"), {})) is None
    assert CODEC.shortcut({"args": [], "kwargs": {}}) is None


def test_the_limit_of_the_size_holds_for_the_short_way(
    settings: Any,
) -> None:
    settings.ORCHESTRATOR = {**settings.ORCHESTRATOR, "MAX_INPUT_BYTES": 30}
    with registry.isolated():
        definition = WorkflowDefinition[Any](
            "shortcut", module=__name__, input_codec=CODEC, standalone=True
        )
    with pytest.raises(InvalidInput, match="more than the 30 allowed"):
        definition.encode_input(Arguments((10**35, "a", True), {}))
