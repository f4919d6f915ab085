"""The statements as files: they prepare, they say what they do, and their words are
those of `states.py`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.resources import files

import pytest
from psycopg import pq

from orchestrator.engine.sessions import statements
from orchestrator.states import (
    TERMINAL_RUN,
    TERMINAL_TASK_RUN,
    AttemptOutcome,
    BulkStatus,
    ConditionKind,
    EntryKind,
    RunStatus,
    TaskRunStatus,
    WorkerStatus,
)
from tests.engine.lab import Lab

ENGINE = files("orchestrator.engine")
SQL = {
    path.name.removesuffix(".sql"): path.read_text()
    for path in ENGINE.iterdir()
    if path.name.endswith(".sql")
}
PYTHON = {
    path.name.removesuffix(".py"): path.read_text()
    for path in ENGINE.iterdir()
    if path.name.endswith(".py")
}
STEPS = [(verb, step) for verb in sorted(SQL) for step in statements(verb)]

PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def body(verb: str, step: str) -> str:
    return statements(verb)[step].decode()


def comments(text: str) -> str:
    return "\n".join(
        line.removeprefix("--").strip()
        for line in text.splitlines()
        if line.startswith("--")
    )


def code(text: str) -> str:
    return re.sub(r"--.*", "", text)


def header(verb: str) -> str:
    """The comment on top of the file, before its first step."""
    return comments(re.split(r"(?m)^-- step: ", SQL[verb])[0])


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_every_statement_prepares_against_the_schema(
    lab: Lab, verb: str, step: str
) -> None:
    text = body(verb, step)
    names = list(dict.fromkeys(PLACEHOLDER.findall(text)))
    numbered = PLACEHOLDER.sub(lambda m: f"${names.index(m[1]) + 1}", text)
    statement = numbered.replace("%%", "%").encode()
    result = lab.main.connection.pgconn.prepare(b"", statement)
    assert result.status == pq.ExecStatus.COMMAND_OK, result.error_message.decode()


@pytest.mark.parametrize("verb", sorted(SQL))
def test_every_file_says_what_it_does(verb: str) -> None:
    first = header(verb).split(".")[0]
    assert first
    assert first[0].isupper()
    assert len(first.split()) >= 2


@pytest.mark.parametrize("word", ["Params:", "Locks:", "Rows:"])
@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_every_statement_says_what_it_takes_locks_and_returns(
    verb: str, step: str, word: str
) -> None:
    said = header(verb) + "\n" + comments(body(verb, step))
    assert re.search(rf"(?m)^{word}", said)


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_every_parameter_is_described_and_has_a_type(verb: str, step: str) -> None:
    text = code(body(verb, step))
    said = header(verb) + "\n" + comments(body(verb, step))
    for name in set(PLACEHOLDER.findall(text)):
        assert re.search(rf"\b{name}\b", said), f"{name} is not described"
    untyped = re.findall(r"%\(\w+\)s(?!::)", text)
    assert untyped == []


def modules_of(verb: str) -> list[str]:
    """The modules that give a file's parameters: its own, and those that load it."""
    loads = f'statements("{verb}")'
    return [text for name, text in PYTHON.items() if name == verb or loads in text]


@pytest.mark.parametrize("verb", sorted(SQL))
def test_every_parameter_is_given_by_the_module_of_its_file(verb: str) -> None:
    given: set[str] = set()
    for text in modules_of(verb):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                given.add(node.value)
    assert set(PLACEHOLDER.findall(code(SQL[verb]))) <= given


@pytest.mark.parametrize("verb", sorted(SQL))
def test_every_file_is_loaded_by_the_engine(verb: str) -> None:
    assert any(f'statements("{verb}")' in text for text in PYTHON.values())


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_columns_are_named(verb: str, step: str) -> None:
    """A column that a later release adds must not change what a statement returns."""
    text = code(body(verb, step))
    assert not re.search(r"(?i)SELECT \*\s+FROM orchestrator_", text)
    assert "now()" not in text.replace("orchestrator_now()", "")


# Status literals.

LIVE = {
    "run": {status.value for status in RunStatus},
    "task_run": {status.value for status in TaskRunStatus},
    "delayed_item": {TaskRunStatus.SCHEDULED.value, TaskRunStatus.BACKOFF.value},
    "attempt": {outcome.value for outcome in AttemptOutcome},
    "worker": {status.value for status in WorkerStatus},
    "journal_entry": {kind.value for kind in EntryKind},
    "wait_condition": {kind.value for kind in ConditionKind},
    "bulk_operation": {status.value for status in BulkStatus},
}
STORED = LIVE | {
    "run": {status.value for status in TERMINAL_RUN},
    "task_run": {status.value for status in TERMINAL_TASK_RUN},
}
# Of a common table expression without a table: what reports carry.
REPORTED = STORED["task_run"] | STORED["attempt"]
# Said where no index is to match: never in a column.
SENTINEL = re.compile(r"coalesce\(run\.status, 'OPEN'\) = 'OPEN'")
LITERAL = re.compile(r"'([A-Z_]{3,})'")


def parts(text: str) -> list[str]:
    """A statement's common table expressions, and the rest of it."""
    return re.split(r"(?m)^(?:WITH |\), )\w+ AS (?:MATERIALIZED )?\($", code(text))


def domain(part: str) -> set[str]:
    """The words that a part may write, or compare with what it reads."""
    written = re.findall(r"(?:UPDATE|INSERT INTO) orchestrator_(\w+)", part)
    read = re.findall(r"(?:FROM|JOIN) orchestrator_(\w+)", part)
    if written:
        return set().union(*(STORED.get(table, set()) for table in written))
    if read:
        return set().union(*(LIVE.get(table, set()) for table in read))
    return REPORTED


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_every_status_is_one_of_its_column(verb: str, step: str) -> None:
    for part in parts(SENTINEL.sub("", body(verb, step))):
        words = set(LITERAL.findall(part)) - {"MAXVALUE", "MINVALUE"}
        assert words <= domain(part), part


def test_the_check_above_knows_its_columns() -> None:
    wrong = [
        "UPDATE orchestrator_run SET status = 'RUNNING'",
        "UPDATE orchestrator_task_run SET status = 'QUEUED'",
        "INSERT INTO orchestrator_delayed_item SELECT 'WAITING'",
        "INSERT INTO orchestrator_attempt SELECT 'SKIPPED'",
        "UPDATE orchestrator_worker SET status = 'COMPLETED'",
        "SELECT status = 'DONE' FROM accepted",
    ]
    for statement in wrong:
        [word] = LITERAL.findall(statement)
        assert word not in domain(statement)


def test_no_status_is_written_out_in_the_engines_python() -> None:
    words = set().union(LIVE["run"], LIVE["task_run"], LIVE["attempt"], LIVE["worker"])
    for name, text in PYTHON.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant):
                assert node.value not in words, f"{name}: {node.value}"


# What the engine may import.


def test_the_engine_imports_no_model() -> None:
    for name, text in PYTHON.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("orchestrator.models"), name
                assert (node.module or "") != "django.db.models", name


def test_the_engine_can_be_imported_while_apps_are_loading() -> None:
    """So that `from orchestrator import workflow` is safe everywhere."""
    names = ", ".join(f"orchestrator.engine.{n}" for n in PYTHON if n != "__init__")
    program = (
        f"import sys, {names}\n"
        "print([m for m in sys.modules if m.startswith('orchestrator.models')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
