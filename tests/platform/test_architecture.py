"""Rules of the repository that no linter knows."""

from __future__ import annotations

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES = 400  # "about 350", says CONTRIBUTING.md


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def configuration() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_module_of_the_engine_has_its_layer() -> None:
    layers = configuration()["importlinter:contract:layers"]["layers"]
    placed = set(re.findall(r"orchestrator\.(\w+)", layers))
    package = ROOT / "orchestrator"
    there = {path.relative_to(package).parts[0] for path in package.rglob("*.py")}
    modules = {name.removesuffix(".py") for name in there}
    assert modules - placed <= {"__init__", "migrations"}


def test_no_file_holds_two_ideas() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("*.py", "*.sql")
        if path.exists()
        and "migrations" not in path.parts
        and (count := len(path.read_text().splitlines())) > LINES
    }
    assert not long


def test_requirements_name_what_the_package_installs() -> None:
    required = configuration()["options"]["install_requires"].split()
    listed = (ROOT / "requirements" / "base.txt").read_text().split("\n")
    assert required == [line for line in listed if line and not line.startswith("#")]


def test_a_silenced_rule_is_named() -> None:
    silenced = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py")
        if path.exists()
        and re.search(r"#\s*(type: ignore|noqa)\s*$", path.read_text(), re.MULTILINE)
    ]
    assert not silenced
