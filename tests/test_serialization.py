from __future__ import annotations

import json
import math
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import serialization
from orchestrator.exceptions import InvalidInput, InvalidOutput
from orchestrator.serialization import dumps, error_dict, error_json, loads, shortened

LIMIT = 1024 * 1024
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=1 - 10**40, max_value=10**40 - 1)
    | st.floats(min_value=-9e39, max_value=9e39)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
# What user code may return: anything of this, storable or not.
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("\0\ud800\udfff"))
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.sampled_from(["\0", "\ud800"]), inner)
        | st.dictionaries(st.integers() | st.booleans() | st.none(), inner)
    ),
    max_leaves=20,
)


def write(value: object) -> str:
    return dumps(value, limit=LIMIT, what="Input")


@given(JSON)
def test_json_survives_unchanged(value: Any) -> None:
    assert loads(write(value)) == value


@pytest.mark.django_db
@settings(deadline=None, max_examples=200)
@given(ANYTHING)
def test_what_is_written_can_be_stored_and_read(value: Any) -> None:
    try:
        text = dumps(value, limit=LIMIT, what="Output", sanitise=True)
    except InvalidOutput:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [text])
        stored = cursor.fetchone()[0]
    # A float without a fraction may come back as an int of the same value.
    assert json.loads(stored, parse_int=float) == json.loads(text, parse_int=float)
    assert dumps(loads(stored), limit=10 * LIMIT, what="Output", sanitise=True)


@pytest.mark.parametrize(
    ("value", "path", "word"),
    [
        ({"a": [1, {"b": math.nan}]}, "$.a[1].b", "nan"),
        ([math.inf], "$[0]", "inf"),
        ({"a": "x\0y"}, "$.a", "NUL"),
        ({"x\0": 1}, '$["x\\u0000"]', "NUL"),
        (["\ud800"], "$[0]", "surrogate"),
        ({"a b": {1: 2}}, '$["a b"]', "the key 1 of type int"),
        ({True: 1}, "$", "the key True"),
        ([10**40], "$[0]", "40 digits"),
        ([-(10**40)], "$[0]", "40 digits"),
        ([1e41], "$[0]", "40 digits"),
        ({"when": object()}, "$.when", "object, which is not JSON"),
        ({"ids": {1, 2}}, "$.ids", "set"),
        ([b"bytes"], "$[0]", "bytes"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_path(
    value: Any, path: Any, word: Any
) -> None:
    with pytest.raises(InvalidInput) as raised:
        write(value)
    assert raised.value.path == path
    assert str(raised.value).startswith(f"Input: {path} ")
    assert word in str(raised.value)


def test_a_literal_backslash_u_is_text_like_any_other() -> None:
    assert loads(write("\\u0000 \\ud800")) == "\\u0000 \\ud800"


def test_subclasses_of_json_types_are_what_they_extend() -> None:
    class Loud(str):
        __slots__ = ()

    assert loads(write({Loud("a"): Loud("b"), "t": (1, 2)})) == {"a": "b", "t": [1, 2]}


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(InvalidInput, match="contains itself"):
        write(value)


def test_nesting_is_allowed_up_to_its_limit() -> Any:
    def nested(levels: int) -> object:
        return [nested(levels - 1)] if levels else 0

    assert write(nested(64))
    with pytest.raises(InvalidInput, match="deeper than 64"):
        write(nested(65))
    with override_settings(ORCHESTRATOR={"MAX_NESTING": 2}):
        assert write({"a": [1]})
        with pytest.raises(InvalidInput):
            write({"a": [[]]})


def test_size_is_what_is_stored_as_utf8() -> None:
    assert dumps("é" * 10, limit=22, what="Input")
    with pytest.raises(InvalidInput, match="22 bytes as JSON, more than the 21"):
        dumps("é" * 10, limit=21, what="Input")


def test_an_output_is_made_safe_where_it_can_be() -> None:
    value = {"a\0b": ["x\0", "\ud800é", {"n": 1.5}]}
    text = dumps(value, limit=LIMIT, what="Output", sanitise=True)
    assert loads(text) == {"a\ufffdb": ["x\ufffd", "\ufffdé", {"n": 1.5}]}


def test_an_output_whose_keys_would_collide_is_refused() -> None:
    with pytest.raises(InvalidOutput, match="two keys"):
        dumps({"a\0": 1, "a\ufffd": 2}, limit=LIMIT, what="Output", sanitise=True)


@given(st.text(), st.integers(min_value=0, max_value=300))
def test_shortened_text_keeps_to_its_limit(text: Any, limit: Any) -> None:
    data = shortened(text, limit).encode("utf-8", "replace")
    assert len(data) <= max(limit, 3)


def test_shortened_text_keeps_head_and_tail() -> None:
    text = shortened("head" + "x" * 1000 + "tail", 300)
    assert text.startswith("head")
    assert text.endswith("tail")
    assert "1,008 bytes" in text


# Errors: a zoo of exceptions, none of which may harm the one who stores them.


class StrRaises(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class ReprRaises(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class StrReturnsInt(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]


class NeedsTwo(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__("two")


def caused_by_itself() -> Exception:
    error = ValueError("loop")
    error.__cause__ = error
    return error


def deeply_chained() -> BaseException:
    error: BaseException = ValueError("first")
    for number in range(3000):
        later = ValueError(number)
        later.__cause__ = error
        error = later
    return error


ZOO = [
    ValueError(),
    ValueError("plain"),
    ValueError("nul\0 and \ud800"),
    ValueError("x" * 3_000_000),
    ValueError(*range(100_000)),
    StrRaises(),
    ReprRaises("a"),
    StrReturnsInt(),
    NeedsTwo(1, 2),
    caused_by_itself(),
    deeply_chained(),
    ExceptionGroup("many", [ValueError(n) for n in range(5000)]),
    BaseExceptionGroup("mixed", [KeyboardInterrupt(), ValueError("\0")]),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(7),
    MemoryError(),
    RecursionError("deep"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    OSError(2, "no such file", "\udcff"),
    SyntaxError("bad", ("\0.py", 1, 1, "x\0", 1, 2)),
    KeyError("\0"),
    type("Ä" * 500, (Exception,), {})("odd name"),
]


@pytest.mark.django_db
@pytest.mark.parametrize("error", ZOO, ids=range(len(ZOO)))
def test_every_exception_can_be_stored(error: Any) -> None:
    text = error_json(error)
    assert len(text.encode()) <= 64 * 1024
    found = json.loads(text)
    assert set(found) == {"type", "message", "traceback"}
    assert all(isinstance(part, str) for part in found.values())
    assert found["type"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb", [text])


def test_an_error_says_its_type_message_and_where() -> None:
    def broken() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError) as raised:
        broken()
    found = error_dict(raised.value)
    assert (found["type"], found["message"]) == ("LookupError", "gone")
    assert "in broken" in found["traceback"]
    assert error_dict(NeedsTwo(1, 2))["type"] == f"{__name__}.NeedsTwo"


def test_a_long_error_keeps_its_head_and_its_tail() -> None:
    error = ValueError("head" + "x" * 1_000_000 + "tail")
    message = error_dict(error)["message"]
    assert message.startswith("head")
    assert message.endswith("tail")


def test_frames_of_the_engine_above_the_task_are_left_out() -> None:
    namespace = {"__name__": "orchestrator.worker.execute"}
    exec("def run(task): task()", namespace)

    def task() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as raised:
        namespace["run"](task)  # type: ignore[operator]
    error = raised.value
    assert error.__traceback__ is not None
    # As the worker catches it: the first frame is the engine's, not this test's.
    trace = error_dict(error.with_traceback(error.__traceback__.tb_next))["traceback"]
    assert "in task" in trace
    assert "in run" not in trace


def test_safe_repr_survives_what_it_shows() -> None:
    assert serialization.safe_repr(ReprRaises()) == "<ReprRaises whose repr() failed>"
