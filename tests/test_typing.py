"""What type checkers tell users: a right program, and one that is wrong on purpose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mypy import api

PROGRAMS = Path(__file__).parent / "typing" / "programs"
ROOT = Path(__file__).parent.parent

FOUND = re.compile(r"^.*?(\w+)\.py:(\d+): error: .* \[([\w-]+)\]$", re.MULTILINE)
MARKED = re.compile(r"# E: ([\w-]+)$")


@pytest.fixture(scope="module")
def findings() -> dict[str, dict[int, set[str]]]:
    """By program, the codes of the errors on each line that has any."""
    out, err, _ = api.run(
        [
            "--strict",
            "--show-error-codes",
            "--no-error-summary",
            "--no-pretty",
            f"--config-file={ROOT / 'setup.cfg'}",
            f"--cache-dir={ROOT / '.mypy_cache' / 'programs'}",
            *map(str, sorted(PROGRAMS.glob("*.py"))),
        ]
    )
    assert not err, err
    found: dict[str, dict[int, set[str]]] = {"right": {}, "wrong": {}}
    for program, line, code in FOUND.findall(out):
        assert program in found, out
        found[program].setdefault(int(line), set()).add(code)
    return found


def test_a_right_program_has_no_finding(findings: Any) -> None:
    assert findings["right"] == {}


def test_a_wrong_program_fails_at_the_marked_lines_alone(findings: Any) -> None:
    lines = (PROGRAMS / "wrong.py").read_text().splitlines()
    marked = {
        number: mark[1]
        for number, line in enumerate(lines, start=1)
        if (mark := MARKED.search(line))
    }
    assert len(marked) > 25
    assert findings["wrong"].keys() == marked.keys()
    for number, code in marked.items():
        assert code in findings["wrong"][number], lines[number - 1]
