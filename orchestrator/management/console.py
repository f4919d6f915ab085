"""What the commands show on the terminal."""

from __future__ import annotations

import logging


def show_log() -> None:
    """Show the log of the engine where the project's LOGGING says nothing of it.

    Else a worker that works would be as silent as one that hangs.
    """
    logger = logging.getLogger("orchestrator")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
