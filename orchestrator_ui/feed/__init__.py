"""The live feed: one LISTEN connection a process, fragments rendered once a topic.

`topics` are what a page shows, `tokens` carry them in the page, `listening` hears that
something has changed, `hub` renders it and gives it to whoever looks.
"""

from __future__ import annotations

FEED_PATH = "ws/orchestrator/"  # below the root of the site
