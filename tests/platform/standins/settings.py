"""The sample project with a database of the test's own and commands that stand in."""

from __future__ import annotations

import os
from pathlib import Path

from sample_project import embedded
from sample_project.settings import *  # noqa: F403

SECRET_KEY = "tests-only"
ROOT_URLCONF = "tests.platform.standins.urls"
INSTALLED_APPS = [
    "tests.platform.standins",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
if directory := os.environ.get("STANDIN_DIRECTORY"):
    DATABASES = {"default": embedded.database(Path(directory), fast=True)}
