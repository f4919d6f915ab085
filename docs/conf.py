"""Sphinx: Markdown by MyST, dressed in furo. `make docs` builds it with warnings as
errors."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

_metadata = configparser.ConfigParser(interpolation=None)
_metadata.read(Path(__file__).resolve().parent.parent / "setup.cfg")

project = _metadata["metadata"]["name"]
author = _metadata["metadata"]["author"]
release = version = _metadata["metadata"]["version"]
copyright = author

extensions = ["myst_parser", "diagrams"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"{project} {release}"
