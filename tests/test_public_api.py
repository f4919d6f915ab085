from __future__ import annotations

import subprocess
import sys

import orchestrator


def test_at_most_thirty_names_are_public_and_each_is_there() -> None:
    assert len(orchestrator.__all__) <= 30
    assert len(set(orchestrator.__all__)) == len(orchestrator.__all__)
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name) is not None


def test_every_public_name_says_what_it_is() -> None:
    for name in orchestrator.__all__:
        if name != "UNCHANGED":
            assert getattr(orchestrator, name).__doc__, name


def test_importing_the_package_loads_no_model_and_needs_no_app() -> None:
    program = """
import sys
from django.conf import settings
settings.configure()
import orchestrator
from orchestrator import operations
@orchestrator.task
def f(x: int) -> int: return x
f.bind(1)
assert not [name for name in sys.modules if name.startswith("orchestrator.models")]
assert "channels" not in sys.modules and "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
