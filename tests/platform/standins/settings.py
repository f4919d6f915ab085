"""The sample project with a database of the test's own and commands that stand in."""

from __future__ import annotations

import os
from pathlib import Path

from sample_project import embedded
from sample_project.settings import *  # noqa: F403
from sample_project.settings import INSTALLED_APPS

SECRET_KEY = "tests-only"
# The first app that has a command of a name provides it.
INSTALLED_APPS = ["tests.platform.standins", *INSTALLED_APPS]
if directory := os.environ.get("STANDIN_DIRECTORY"):
    DATABASES = {"default": embedded.database(Path(directory), fast=True)}
