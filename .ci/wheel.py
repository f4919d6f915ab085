"""Checks that the wheel in a directory holds what an application needs, no more."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGES = ("orchestrator", "orchestrator_ui")
SUFFIXES = {".py", ".sql", ".html", ".txt", ".css", ".js", ".svg", ".png", ".typed"}


def wanted() -> set[str]:
    """What git tracks of the two packages."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES], capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split("\0") if name}


def main(directory: str) -> int:
    [wheel] = Path(directory).glob("django_orchestrator-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}
    problems = [f"missing: {name}" for name in sorted(wanted() - held)]
    problems += [
        f"not ours: {name}"
        for name in sorted(held)
        if name.split("/")[0] not in PACKAGES or Path(name).suffix not in SUFFIXES
    ]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        problems.append("missing: LICENSE")
    print("\n".join(problems) or f"{wheel.name}: {len(held)} files, all that git has")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
