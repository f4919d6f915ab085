from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

import pytest

from sample_project.library import parsing
from sample_project.library.parsing import Broken, parse_source, read_source
from tests.library.oracle import docstrings
from tests.library.trees import NASTY, NASTY_BROKEN


def names(source: str | bytes, path: str = "m.py") -> list[tuple[str, str]]:
    data = source if isinstance(source, bytes) else source.encode()
    return [(one.kind, one.name) for one in parse_source(data, path)]


def text(source: str | bytes) -> str:
    data = source if isinstance(source, bytes) else source.encode()
    return parse_source(data, "m.py")[0].text


def reason(data: bytes) -> str:
    with pytest.raises(Broken) as caught:
        parse_source(data, "m.py")
    return str(caught.value)


def test_definitions_have_pythons_qualified_names_in_source_order() -> None:
    assert names(NASTY["pkg/shapes.py"], "pkg/shapes.py") == [
        ("module", "pkg.shapes"),
        ("class", "pkg.shapes.Shape"),
        ("function", "pkg.shapes.Shape.area"),
        ("class", "pkg.shapes.Shape.area.<locals>.Inner"),
        ("function", "pkg.shapes.Shape.measure"),
        ("function", "pkg.shapes.twice"),
        ("function", "pkg.shapes.twice#2"),
    ]


@pytest.mark.parametrize(
    "block",
    [
        "if x: {0}",
        "if x: pass\nelse: {0}",
        "for x in y: {0}",
        "while x:\n pass\nelse: {0}",
        "with x: {0}",
        "try: {0}\nfinally: pass",
        "try: pass\nexcept X: {0}",
        "try: pass\nexcept* X: {0}",
        "try: pass\nexcept X: pass\nelse: {0}",
        "try: pass\nfinally: {0}",
        "match x:\n case 1: {0}",
        "async def g():\n async with x: {0}\n",
    ],
)
def test_definitions_are_found_in_every_kind_of_block(block: str) -> None:
    source = block.format('\n  class A:\n   """Doc."""')
    assert [kind for kind, _ in names(source)] == ["class"]


def test_overloads_and_accessors_of_one_name_are_documents_each() -> None:
    source = '''
class A:
    @property
    def size(self):
        """Get."""
    @size.setter
    def size(self, value):
        """Set."""
    @size.deleter
    def size(self): pass
    class size:
        """Of another kind."""
'''
    assert names(source) == [
        ("function", "m.A.size"),
        ("function", "m.A.size#2"),
        ("class", "m.A.size"),
    ]


def test_a_coding_line_is_obeyed() -> None:
    assert text(NASTY["pkg/latin.py"]) == "Café."


def test_a_byte_order_mark_is_no_part_of_the_source() -> None:
    assert text(NASTY["pkg/bom.py"]) == "With a mark."


def test_form_feeds_and_old_line_ends_are_white_space() -> None:
    assert text(NASTY["pkg/feed.py"]) == "After a form feed."
    assert names(b'"""M."""\rdef f():\r  """F."""\r') == [
        ("module", "m"),
        ("function", "m.f"),
    ]


def test_what_postgres_cannot_store_is_replaced() -> None:
    assert text(NASTY["pkg/strange.py"]) == (
        "NUL \ufffd and surrogate \ufffd in a docstring."
    )


@pytest.mark.parametrize("data", [b"", b"\n \t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing_is_empty(data: bytes) -> None:
    assert reason(data) == "empty"


def test_a_comment_is_something() -> None:
    assert names("# only this\n") == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'"""Caf\xe9."""\n', "not UTF-8: in the first two lines"),
        (b'\n\n\n"""Caf\xe9."""\n', "not UTF-8: byte 0xe9 at offset 9"),
        (b'# coding: ascii\n\n\n"\xe9"\n', "not ascii: byte 0xe9 at offset 19"),
        (b"def f(:\n", "syntax error: line 1: invalid syntax"),
        (b"x = 1\n\tif y\n", "syntax error: line 2: unexpected indent"),
        (b"# coding: klingon\n", "syntax error: unknown encoding: klingon"),
        (b"\xef\xbb\xbf# coding: latin-1\n", "syntax error: encoding problem: utf-8"),
    ],
)
def test_a_broken_file_gives_its_reason(data: bytes, said: str) -> None:
    assert reason(data) == said


@pytest.mark.parametrize(
    "data",
    [
        b'"""Doc."""\0\n',
        b"# coding: rot13\nx\n",
        b"# coding: undefined\nx\n",
        b"# coding: idna\n\xe9\n",
        b"(" * 100_000,
        b"-" * 1_000_000 + b"1",
        b"x = " + b"1+" * 100_000 + b"1",
        b'f"{' * 200,
        b"9" * 5_000,
    ],
    ids=["nul", "rot13", "undefined", "idna", "open", "minus", "sum", "f", "digits"],
)
def test_hostile_source_is_broken_or_parsed_and_nothing_else(data: bytes) -> None:
    """In a thread, since a worker's tasks have a thread's smaller stack."""
    outcome: list[object] = []

    def parse() -> None:
        try:
            outcome.append(parse_source(data, "m.py"))
        except Broken as broken:
            outcome.append(broken)

    thread = threading.Thread(target=parse)
    thread.start()
    thread.join()
    assert len(outcome) == 1


def test_deep_nesting_is_walked_without_recursion() -> None:
    depth = 90  # Python's own limit of indentation is 100
    source = "".join(f"{' ' * level}class A:\n" for level in range(depth))
    source += f'{" " * depth}"""Deep."""\n'
    ((_, name),) = names(source)
    assert name == "m" + ".A" * depth


def test_a_name_too_long_for_the_unique_index_is_cut_and_stays_unique() -> None:
    source = "".join(
        f'def {"x" * 5_000}{end}():\n    """Doc."""\n' for end in ("a", "b", "b")
    )
    found = [name for _, name in names(source)]
    assert len(set(found)) == 3
    assert max(map(len, found)) <= parsing.MAX_NAME_CHARACTERS + 2


def test_warnings_about_the_source_are_not_given() -> None:
    source = b'"""Doc \\d."""\nx = "\\d" if 1 is 1 else 2\n'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parsing.quiet_parser()
        parsing.quiet_parser()
        assert text(source) == "Doc \\d."


@pytest.mark.parametrize("path", NASTY)
def test_documents_are_those_of_a_plain_walk(path: str) -> None:
    content = NASTY[path]
    data = content.encode() if isinstance(content, str) else content
    try:
        found = [one.kind for one in parse_source(data, path)]
    except Broken:
        assert path in NASTY_BROKEN
        with pytest.raises((SyntaxError, ValueError)):
            docstrings(data)
    else:
        assert path not in NASTY_BROKEN
        assert sorted(found) == sorted(docstrings(data).elements())


def test_module_names_follow_the_path() -> None:
    assert parsing.module_name("a/b/__init__.py") == "a.b"
    assert parsing.module_name("a/c.py") == "a.c"
    assert parsing.module_name("__init__.py") == "__init__"


def test_only_a_regular_file_of_some_size_is_read(tmp_path: Path) -> None:
    fifo, huge = tmp_path / "fifo.py", tmp_path / "huge.py"
    os.mkfifo(fifo)
    with huge.open("wb") as file:
        file.truncate(parsing.MAX_FILE_BYTES + 1)
    said = {
        fifo: "unreadable: not a regular file",
        tmp_path: "unreadable: not a regular file",
        huge: "too large: 4,194,305 bytes, the limit is 4,194,304",
        tmp_path / "gone.py": "unreadable: No such file or directory",
        tmp_path / "nul\0.py": "unreadable: ",  # Pythons put it differently
    }
    for path, expected in said.items():
        with pytest.raises(Broken) as caught:
            read_source(path)
        assert str(caught.value).startswith(expected)
