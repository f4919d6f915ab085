"""CEL: what is refused where it is declared, and what an expression comes to."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator import InvalidDefinition, cel
from orchestrator.exceptions import ExpressionFailed, InvalidExpression

NAMES = frozenset({"payload", "input", "key"})


def check(source: Any) -> None:
    cel.check(source, NAMES, what="It")


# What can be written.


@pytest.mark.parametrize(
    "source",
    [
        "true",
        "payload.path == input.path",
        "has(payload.a) && payload.a.b['c'] > 1.5",
        "payload.lines.exists(line, line.sku == input.sku)",
        "payload.lines.all(payload, payload > 1)",
        "payload.lines.map(x, x * 2).exists(y, y == 4)",
        "payload.l.map(x, x * 2).filter(x, x > 1).map(x, x).exists(y, y == 4)",
        "size(key) > 3 && key.startsWith('a') && key.matches('^a+$')",
        "type(payload) == map && int(payload.n) == 1",
        "payload.x in ['a', 'b'] ? input.y : !input.z",
        "timestamp(payload.at) < timestamp('2026-01-01T00:00:00Z')",
        " && ".join(["payload.a == 1"] * 50),
        "(" * 12 + "true" + ")" * 12,
    ],
)
def test_a_sound_expression_is_taken_as_it_is(source: str) -> None:
    assert cel.check(source, NAMES, what="It") == source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "line 1, column 1"),
        ("payload.a ==", "line 1, column 11"),
        ("payload.a &&\n payload.b ==", "line 2, column 12"),
        (
            "foo == 1",
            "line 1, column 1: the name 'foo' is unknown here; use input, key",
        ),
        ("payload.a ==\n  output", "line 2, column 3: the name 'output'"),
        ("payload.l.exists(v, v == w)", "the name 'w'"),
        ("v == 1 && payload.l.exists(v, v == 1)", "the name 'v'"),
        ("os.system('rm')", "there is no function 'system'"),
        ("foo(payload)", "there is no function 'foo'"),
        ("x" * 1_025, "1,025 characters"),
        ("(" * 100 + "1" + ")" * 100, "nested too deeply"),
        ("(" * 500 + "1" + ")" * 500, "nested too deeply"),
        ("[" + "1," * 70 + "1]", "more than 64 items"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "more than 2 deep"),
        (3, "is no CEL expression; give a str"),
        (None, "is no CEL expression; give a str"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(source: Any, message: str) -> None:
    with pytest.raises(InvalidExpression) as refusal:
        check(source)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("It: ")
    assert isinstance(refusal.value, InvalidDefinition)


# What it comes to.

DATA: dict[str, Any] = {
    "payload": {
        "n": 3,
        "f": 2.5,
        "s": "x",
        "none": None,
        "yes": True,
        "l": [1, 2.0, "c"],
        "m": {"a": {"b": [1]}},
        "huge": 10**30,
        "at": "2025-06-01T00:00:00Z",
    },
    "input": {"n": 3},
    "key": "a:b",
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        # Numbers compare by value, whatever their types.
        ("payload.n > 2.5", True),
        ("payload.n == 3.0", True),
        ("3.0 == payload.n", True),
        ("2 < 2.5", True),
        ("payload.n in [3.0]", True),
        ("[1, 2.0] == [1.0, 2]", True),
        ("{'a': 1} == {'a': 1.0}", True),
        ("payload.n != 3.5", True),
        ("payload.huge > 1", True),
        # What is of different kinds is not equal.
        ("payload.s == 1", False),
        ("payload.s != 1", True),
        ("payload.none == null", True),
        ("payload.s == null", False),
        ("payload.none == 'x'", False),
        ("payload.yes == 1", False),
        ("'c' in payload.l", True),
        ("'d' in payload.l", False),
        ("'n' in payload", True),
        # The rest.
        ("payload.n == input.n", True),
        ("has(payload.nothing) && payload.nothing == 1", False),
        ("payload.nothing == 1 || true", True),
        ("payload.m.a.b[0]", 1),
        ("payload.m", {"a": {"b": [1]}}),
        ("payload.l.map(x, x)", [1, 2.0, "c"]),
        ("key + '!'", "a:b!"),
        ("payload.f", 2.5),
        ("timestamp(payload.at) < timestamp('2026-01-01T00:00:00Z')", True),
        ("payload.n % 2 == 1 ? 'odd' : 'even'", "odd"),
        ("payload.none", None),
        # What functions give is as good as what is written.
        ("payload.s + 'y' == 'xy'", True),
        ("'xy' in [payload.s + 'y']", True),
        ("payload.l + [4] == [1, 2, 'c', 4]", True),
        ("payload.l + [4]", [1, 2.0, "c", 4]),
        ("4 in payload.l + [4]", True),
        ("payload.l.contains(2)", True),
        ("b'a' + b'b' == b'ab'", True),
        ("payload.s.matches('(?i)X')", True),
        ("payload.nothing.matches('x') || true", True),
    ],
)
def test_an_expression_has_a_value(source: str, value: Any) -> None:
    result = cel.evaluate(source, DATA)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "source",
    [
        "payload.nothing",
        "payload.nothing == 1",
        "payload.none.x",
        "payload.s > 1",
        "1 / 0",
        "payload.l[9]",
        "1 in payload.n",
        "int('x')",
        "9223372036854775807 + 1",
        "'a'.matches('(')",
        "b'bytes'",
    ],
)
def test_what_cannot_be_evaluated_says_so_and_is_false(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ExpressionFailed) as failure:
        cel.evaluate(source, DATA)
    assert repr(source) in str(failure.value)
    assert cel.holds(source, DATA) is False
    assert "counts as false" in caplog.text


def test_what_is_neither_true_nor_false_is_false(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert cel.holds("payload.n", DATA) is False
    assert "gave int and not true or false" in caplog.text
    assert cel.holds("payload.yes", DATA) is True


def test_a_stored_expression_with_a_mistake_is_false_and_reads_nothing() -> None:
    assert cel.holds("payload ==", DATA) is False
    assert cel.names("payload ==") == frozenset()


@pytest.mark.parametrize(
    "source",
    [
        "payload.all(a, payload.all(b, a + b >= 0))",
        "payload.map(a, payload.map(b, a)).all(c, size(c) > 0)",
    ],
)
def test_what_takes_too_long_is_stopped(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(ExpressionFailed, match="more than 20,000 steps"):
        cel.evaluate(source, {"payload": list(range(500))})
    assert time.monotonic() - began < 20


ITEMS = ",".join(map(str, range(60)))


@pytest.mark.parametrize(
    "source",
    [
        "payload.all(x, !(-1 in payload))",
        "payload.all(x, !payload.contains(-1))",
        "payload.map(x, payload)",
        "payload.map(x, payload) == payload.map(x, payload)",
        f"[{ITEMS}].reduce(r, i, 'x', r + r)",
        f"[{ITEMS}].reduce(r, i, [1], r + r)",
        f"[{ITEMS}].reduce(r, i, [1], [r, r])",
        "[1].map(x, input.text).all(t, payload.all(x, t.matches('b$') == false))",
    ],
)
def test_a_single_step_cannot_do_without_end(source: str) -> None:
    values = {"payload": list(range(1_000)), "input": {"text": "a" * 1_000_000}}
    began = time.monotonic()
    with pytest.raises(ExpressionFailed, match="more than 300,000 values"):
        cel.evaluate(source, values)
    assert time.monotonic() - began < 20


def test_a_pattern_cannot_run_away() -> None:
    began = time.monotonic()
    source = "payload.matches('(a+)+$')"
    assert cel.evaluate(source, {"payload": "a" * 50_000 + "b"}) is False
    assert time.monotonic() - began < 5


def test_deep_data_is_no_reason_to_fail_others() -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    assert cel.holds("size(payload) == 1", {"payload": deep}) is False


def test_only_the_names_that_are_read_are_needed() -> None:
    assert cel.names("payload.a == 1 && size(key) > 0") == {"payload", "key"}
    assert cel.names("payload.l.exists(x, x == key)") == {"payload", "key"}
    assert cel.evaluate("1 + 1", {}) == 2


def test_an_expression_is_compiled_once() -> None:
    assert cel.compile("payload.n == 77") is cel.compile("payload.n == 77")


def test_threads_may_evaluate_at_once() -> None:
    def one(number: int) -> bool:
        source = f"payload.l.exists(x, x == input.n) && {number} == {number}"
        return cel.holds(source, {"payload": {"l": [number]}, "input": {"n": number}})

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(60)))
