"""What the documentation says is what the code does: its snippets are executed, its
tables compared with the code, its links followed."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import importlib.util
import inspect
import re
import sys
import unittest
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_type_hints

import pytest
from django.core.management import get_commands
from django.db import connection

import orchestrator
from orchestrator import conf, operations, registry, testing
from orchestrator.definitions import TaskDefinition
from orchestrator.targets import WorkflowTarget
from orchestrator.tasks import StandaloneTask, TaskOptions
from orchestrator.testing import drain, travel
from orchestrator.workflows import WorkflowDefinition

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(name: str, language: str = "python") -> list[str]:
    """The code blocks of a page, in their order."""
    text = (ROOT / name).read_text()
    return [code for kind, code in BLOCK.findall(text) if kind == language]


@pytest.fixture
def declare() -> Iterator[Callable[[str, str], ModuleType]]:
    """Makes a module of source code; forgotten after the test, as what it declares."""
    made: list[str] = []

    def make(name: str, source: str) -> ModuleType:
        module = ModuleType(name)
        made.append(name)
        sys.modules[name] = module
        exec(compile(source, name, "exec"), vars(module))
        return module

    with registry.isolated():
        yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def quickstart(declare: Callable[[str, str], ModuleType]) -> ModuleType:
    """`orders/workflows.py` of the quickstart."""
    declare("orders", "")
    return declare("orders.workflows", blocks("docs/quickstart.md")[2])


def execute_with_worker(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """Execute statement by statement, and after each what a worker would do."""
    namespace = dict(names)
    for statement in ast.parse(source).body:
        exec(compile(ast.Module([statement], []), "snippet", "exec"), namespace)
        drain()
        with travel(timedelta(seconds=5)):
            drain()
    return namespace


# Snippets.


@pytest.mark.parametrize("name", NAMES)
def test_every_snippet_is_python(name: str) -> None:
    for code in blocks(name):
        compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.django_db
def test_readme_does_what_it_says(declare: Callable[[str, str], ModuleType]) -> None:
    workflows, caller = blocks("README.md")[:2]
    assert len(workflows.splitlines()) < 40
    module = declare("orders.workflows", workflows)
    done = execute_with_worker(caller, vars(module))
    ship = done["handle"].result()["ship"]
    assert f'"ship"]  # "{ship}"' in caller


@pytest.mark.django_db
def test_quickstart_prints_what_it_shows(quickstart: ModuleType) -> None:
    shell = blocks("docs/quickstart.md")[3]
    done = execute_with_worker(shell, {})
    assert f"# {done['handle'].result()}" in shell
    assert f"# {done['receipt'].result()}" in shell


@pytest.mark.django_db
def test_tests_of_the_quickstart_pass(
    declare: Callable[[str, str], ModuleType], quickstart: ModuleType
) -> None:
    module = declare("orders.tests", blocks("docs/quickstart.md")[5])
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun == 2
    assert result.wasSuccessful(), result.errors + result.failures


def test_quickstart_settings_name_both_apps() -> None:
    settings: dict[str, Any] = {}
    for code in blocks("docs/quickstart.md")[:2]:
        exec(code, settings)
    assert settings["INSTALLED_APPS"][:2] == ["orchestrator", "orchestrator_ui"]
    assert settings["DATABASES"]["default"]["ENGINE"].endswith("postgresql")


@pytest.mark.django_db
def test_howto_testing_holds(quickstart: ModuleType) -> None:
    def post(*_: Any) -> None:
        quickstart.send_receipt.enqueue("ada@example.com", "Thank you")
        quickstart.fulfil_order.enqueue(quickstart.Order(7, {"tea": 2}))

    namespace = dict(vars(quickstart))
    executed = 0
    for code in blocks("docs/howto/testing.md"):
        exec(code, namespace)
        for name in [name for name in namespace if name.startswith("test_")]:
            test = namespace.pop(name)
            given = {"db": None, "client": SimpleNamespace(post=post)}
            before = connection.savepoint() or ""
            test(**{key: given[key] for key in inspect.signature(test).parameters})
            connection.savepoint_rollback(before)
            executed += 1
    assert executed == 5


@pytest.mark.django_db
@pytest.mark.parametrize(("page", "tests"), [("durable", 3), ("children", 1)])
def test_pages_on_durable_tasks_and_children_hold(
    declare: Callable[[str, str], ModuleType], page: str, tests: int
) -> None:
    module = declare(page, "\n".join(blocks(f"docs/howto/{page}.md")))
    found = {name: f for name, f in vars(module).items() if name.startswith("test_")}
    assert len(found) == tests
    for test in found.values():
        test(*[None for _ in inspect.signature(test).parameters])


@pytest.mark.django_db
def test_howto_operate_works(quickstart: ModuleType) -> None:
    drain()
    namespace: dict[str, Any] = {}
    for code in blocks("docs/howto/operate.md"):
        exec(code, namespace)


def test_an_input_is_refused_in_the_words_of_the_page(quickstart: ModuleType) -> None:
    code, comment, *_ = blocks("docs/howto/errors.md")[0].splitlines()
    with pytest.raises(orchestrator.InvalidInput) as caught:
        exec(code, vars(quickstart))
    assert comment == f"# InvalidInput: {caught.value}"


@pytest.mark.django_db
def test_queries_of_the_tables_page_run() -> None:
    (queries,) = blocks("docs/reference/sql-tables.md", "sql")
    with connection.cursor() as cursor:
        for query in queries.split(";"):
            if query.strip():
                cursor.execute(query)


def test_the_fence_is_quoted_from_the_engine() -> None:
    (fence,) = blocks("docs/life-of-a-run.md", "sql")
    settle = (ROOT / "orchestrator/engine/settle.sql").read_text()
    assert " ".join(fence.split()) in " ".join(settle.split())


# Tables and lists that follow from the code.


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date() -> None:
    generator = load_generator()
    pages = generator.pages()
    assert {page.name for page in pages} >= {"concepts.md", "commands.md"}
    for page in pages:
        text = page.read_text()
        assert generator.renewed(text) == text, "Run: python docs/generate.py"


def test_settings_table_equals_the_settings() -> None:
    text = (DOCS / "reference/settings.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| `(.*?)` \|", text, re.MULTILINE)
    assert dict(rows) == {
        field.name.upper(): shown(field.default)
        for field in dataclasses.fields(conf.Settings)
    }


def shown(value: object) -> str:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        unit, amount = (
            ("minutes", seconds / 60) if seconds >= 60 else ("seconds", seconds)
        )
        return f"{amount:g} {unit}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return repr(value)


def test_api_page_has_every_public_name() -> None:
    text = (DOCS / "reference/api.md").read_text()
    listed = set(re.findall(r"^#+ `(\w+)`$|^\| `(\w+)` \|", text, re.MULTILINE))
    names = {name for pair in listed for name in pair if name}
    assert names == set(orchestrator.__all__)


SIGNATURES: dict[str, Callable[..., Any]] = {
    "workflow": orchestrator.workflow,
    "WorkflowDefinition.task": WorkflowDefinition.task,
    "Retry": orchestrator.Retry,
    "Idempotency": orchestrator.Idempotency,
    "using": WorkflowTarget.using,
    **{
        name: getattr(operations, name)
        for name in (
            *("cancel_runs", "retry_runs", "retry_run", "rerun_runs"),
            *("reprioritise_runs", "RunFilter"),
            *("cancel_run", "rerun_run", "branch_run", "stop_bulk"),
        )
    },
    **{
        name: getattr(testing, name)
        for name in (
            *("drain", "adrain", "travel", "assert_enqueued", "make_context"),
            "said",
        )
    },
}


def documented() -> dict[str, Callable[..., Any]]:
    """The functions of the API page; a heading with a dot says whose it is."""
    found: dict[str, Callable[..., Any]] = {}
    text = (DOCS / "reference/api.md").read_text()
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE):
        owner = re.match(r"`(\w+\.)\w+`", part)
        namespace: dict[str, Any] = {}
        for kind, code in BLOCK.findall(part):
            if kind == "python":
                names = {"timedelta": timedelta, "ANY": testing._ANY}
                names["UNCHANGED"] = orchestrator.UNCHANGED
                exec(code, names, namespace)
        for name, function in namespace.items():
            found[(owner[1] if owner else "") + name] = function
    return found


def signature(function: Callable[..., Any]) -> dict[str, tuple[str, object]]:
    return {
        name: (parameter.kind.name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }


def test_signatures_of_the_api_page_are_those_of_the_code() -> None:
    written = documented()
    assert written.keys() == {*SIGNATURES, "task"}
    for name, function in SIGNATURES.items():
        assert signature(written[name]) == signature(function), name


def test_the_api_page_has_every_option_of_a_task() -> None:
    written = signature(documented()["task"])
    written.pop("function")
    assert written.keys() == {"takes_context", *get_type_hints(TaskOptions)}
    code = signature(TaskDefinition.__init__) | signature(StandaloneTask.__init__)
    assert written == {name: code[name] for name in written}


def test_every_check_has_its_row() -> None:
    sources = [ROOT / app / "checks.py" for app in ("orchestrator", "orchestrator_ui")]
    code = "".join(source.read_text() for source in sources)
    ids = set(re.findall(r'id="(orchestrator\w*\.\w+)"', code))
    page = (DOCS / "howto/errors.md").read_text()
    listed = set(re.findall(r"^\| `(orchestrator\w*\.\w+)` \|", page, re.MULTILINE))
    assert listed == ids


# What the prose refers to.


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: {target}"
        assert not anchor or anchor in anchors(file), f"{name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_targets_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    theirs = {"shell", "test", "runserver", "startapp", "changepassword"}
    for command in set(re.findall(r"manage\.py (\w+)", text)):
        assert command in get_commands() or command in theirs, command
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|\$ )make ([a-z]\w*)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_changelog_has_the_version_of_the_package() -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "setup.cfg")
    version = metadata["metadata"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_a_decision_is_one_page() -> None:
    records = sorted((DOCS / "decisions").glob("0*.md"))
    for number, record in enumerate(records, 1):
        text = record.read_text()
        assert text.startswith(f"# {number}. ")
        assert len(text.splitlines()) <= 60
        headings = ["Context", "Decision", "What follows", "What it costs"]
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == headings
