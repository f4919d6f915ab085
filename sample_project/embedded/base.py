"""Django's PostgreSQL backend, with a server of its own behind it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base

from sample_project.embedded.server import EmbeddedServer


@cache
def server(directory: Path, *, fast: bool) -> EmbeddedServer:
    """The one handle of this process on the server of ``directory``."""
    return EmbeddedServer(directory, fast=fast)


class DatabaseWrapper(base.DatabaseWrapper):
    """Starts (or revives) the embedded server before each new connection."""

    def get_connection_params(self) -> dict[str, Any]:
        chosen = self.settings_dict["EMBEDDED"]
        server(Path(chosen["directory"]), fast=chosen["fast"]).ensure()
        return super().get_connection_params()
