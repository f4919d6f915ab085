"""Stands in for the engine and the sample's job, so that the launcher is tested alone.

``settings`` is a small project; its commands do what STANDIN_… variables say.
"""

from __future__ import annotations
