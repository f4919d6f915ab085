"""Voices: what attempts say while they are executed, on its way to the database.

An attempt speaks in any thread; the engine thread of its process writes what was said,
in batches.
"""

from __future__ import annotations

from orchestrator.voices.capture import captured, install, speaker
from orchestrator.voices.outbox import Outbox, Outlet
from orchestrator.voices.voice import Voice

__all__ = ["Outbox", "Outlet", "Voice", "captured", "install", "speaker"]
